"""Draw app/data/samples/*.jpg: hazards before and after, as a phone would send them, the same from every run.

Everything is drawn here; no photo and no person is real. Each picture carries EXIF like a phone's: camera, time,
a WGS-84 position inside Maple Community, and for two of them an orientation other than upright, so that the way of a
real photo is walked by the demo and the tests.

Run `PYTHONPATH=. python scripts/make_samples.py` after a change, look at the pictures and commit them.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import ExifTags, Image, ImageDraw, ImageFilter
from PIL.TiffImagePlugin import IFDRational

from app.geo import Point, wgs84_from_gcj02

OUTPUT = Path(__file__).parent.parent / "app" / "data" / "samples"
LANDSCAPE, PORTRAIT = (1024, 768), (768, 1024)
QUALITY = 70
# Everything is drawn this many times larger and scaled down, which smooths the edges.
OVERSIZE = 2

Colour = tuple[int, int, int]
Spot = tuple[float, float]

SKY_TOP, SKY_LOW = (132, 176, 214), (226, 234, 232)
CONCRETE, CONCRETE_DARK = (176, 172, 164), (120, 117, 112)
ASPHALT, ASPHALT_FAR = (74, 76, 80), (112, 114, 116)
PLASTER, PLASTER_SHADE = (222, 210, 188), (188, 174, 150)
BRICK, BRICK_SHADE = (182, 118, 92), (150, 94, 72)
YELLOW, RED, BLUE, GREEN = (242, 190, 30), (200, 40, 36), (44, 92, 150), (62, 130, 70)
STEEL, STEEL_LIGHT, INK = (138, 146, 154), (196, 204, 210), (34, 34, 38)
WATER, LAMP = (150, 196, 222), (255, 226, 150)


class Canvas:
    """A picture with coordinates in pixels of the finished photo."""

    def __init__(self, size: tuple[int, int]) -> None:
        self.size = size
        self.image = Image.new("RGB", (size[0] * OVERSIZE, size[1] * OVERSIZE))
        self.draw = ImageDraw.Draw(self.image)

    def fill(self, top: Colour, bottom: Colour, first: float = 0, last: float | None = None) -> None:
        """A vertical gradient between two heights."""
        start, end = round(first * OVERSIZE), round((last or self.size[1]) * OVERSIZE)
        for row in range(start, end):
            self.draw.line(
                [(0, row), (self.image.width, row)], blend(top, bottom, (row - start) / (end - start))
            )

    def area(self, spots: Sequence[Spot], colour: Colour) -> None:
        """A filled polygon."""
        self.draw.polygon(scaled(spots), colour)

    def box(
        self, left: float, top: float, right: float, bottom: float, colour: Colour, radius: float = 0
    ) -> None:
        """A filled rectangle, with round corners if wanted."""
        self.draw.rounded_rectangle(scaled([(left, top), (right, bottom)]), radius * OVERSIZE, colour)

    def oval(self, x: float, y: float, width: float, height: float, colour: Colour) -> None:
        """A filled ellipse about its centre; `width` and `height` are half-axes."""
        self.draw.ellipse(scaled([(x - width, y - height), (x + width, y + height)]), colour)

    def ring(self, x: float, y: float, width: float, height: float, colour: Colour, stroke: float) -> None:
        """The outline of an ellipse about its centre."""
        spots = scaled([(x - width, y - height), (x + width, y + height)])
        self.draw.ellipse(spots, outline=colour, width=round(stroke * OVERSIZE))

    def line(self, spots: Sequence[Spot], colour: Colour, width: float) -> None:
        """A stroke with round joints and ends."""
        self.draw.line(scaled(spots), colour, round(width * OVERSIZE), joint="curve")
        for x, y in (spots[0], spots[-1]):
            self.oval(x, y, width / 2, width / 2, colour)

    def shade(self, spots: Sequence[Spot], strength: int, blur: float, colour: Colour = (0, 0, 0)) -> None:
        """A soft polygon over what is there: a shadow, or light when the colour is bright."""
        mask = Image.new("L", self.image.size)
        ImageDraw.Draw(mask).polygon(scaled(spots), strength)
        mask = mask.filter(ImageFilter.GaussianBlur(blur * OVERSIZE))
        self.image.paste(colour, mask=mask)

    def glow(self, x: float, y: float, radius: float, strength: int, colour: Colour) -> None:
        """A soft round light, or darkness."""
        steps = [index * math.tau / 24 for index in range(24)]
        self.shade(
            [(x + radius * math.cos(a), y + radius * math.sin(a)) for a in steps],
            strength,
            radius / 2.5,
            colour,
        )

    def finished(self) -> Image.Image:
        """The picture at its real size, with dark corners like a small lens."""
        width, height = self.size
        corners = Image.new("L", (64, 48))
        for x in range(64):
            for y in range(48):
                away = math.hypot(x / 31.5 - 1, y / 23.5 - 1)
                corners.putpixel((x, y), round(70 * max(0.0, away - 0.6)))
        photo = self.image.resize((width, height), Image.Resampling.LANCZOS)
        photo.paste((0, 0, 0), mask=corners.resize((width, height), Image.Resampling.BICUBIC))
        return photo


def scaled(spots: Sequence[Spot]) -> list[Spot]:
    """Photo coordinates as canvas coordinates."""
    return [(x * OVERSIZE, y * OVERSIZE) for x, y in spots]


def blend(a: Colour, b: Colour, share: float) -> Colour:
    """A colour between two."""
    return (
        round(a[0] + (b[0] - a[0]) * share),
        round(a[1] + (b[1] - a[1]) * share),
        round(a[2] + (b[2] - a[2]) * share),
    )


def fire_passage(canvas: Canvas, fixed: bool) -> None:
    """A passage between two buildings, marked in yellow; before, a car and furniture stand in it."""
    canvas.fill(SKY_TOP, SKY_LOW, 0, 330)
    canvas.fill(ASPHALT_FAR, ASPHALT, 330)
    canvas.area([(0, 0), (400, 250), (400, 360), (0, 690)], PLASTER)
    canvas.area([(1024, 0), (640, 250), (640, 360), (1024, 690)], BRICK)
    canvas.shade([(400, 250), (330, 210), (330, 420), (400, 360)], 70, 20)
    for column in range(3):
        for row in range(3):
            window(canvas, 0, 400, column, row, BLUE)
            window(canvas, 1024, 640, column, row, (70, 80, 96))
    canvas.area([(400, 262), (640, 262), (640, 352), (400, 352)], (150, 160, 150))
    canvas.box(470, 290, 570, 352, (96, 120, 96))
    canvas.area([(430, 352), (610, 352), (930, 768), (94, 768)], blend(ASPHALT, (0, 0, 0), 0.12))
    for inner, outer, far_inner, far_outer in ((124, 84, 434, 428), (900, 940, 606, 612)):
        canvas.area([(far_inner, 354), (far_outer, 354), (outer, 768), (inner, 768)], YELLOW)
    for step in range(6):
        near, far = 768 - step * 70, 768 - step * 70 - 40
        if far > 380:
            stripe(canvas, near, far)
    hydrant(canvas)
    if not fixed:
        parked_car(canvas)
        furniture(canvas)


def window(canvas: Canvas, near: float, far: float, column: int, row: int, glass: Colour) -> None:
    """One window on a wall that runs away from the viewer, from x = near to x = far."""

    def place(along: float, height: float) -> Spot:
        share = 1 - (1 - along) ** 1.6
        top, bottom = 0 + 250 * share, 690 - 330 * share
        return near + (far - near) * share, top + (bottom - top) * height

    left, right = 0.06 + column * 0.32, 0.26 + column * 0.32
    upper, lower = 0.08 + row * 0.27, 0.25 + row * 0.27
    canvas.area(
        [place(left, upper), place(right, upper), place(right, lower), place(left, lower)], (240, 238, 230)
    )
    left, right, upper, lower = left + 0.015, right - 0.015, upper + 0.015, lower - 0.015
    canvas.area([place(left, upper), place(right, upper), place(right, lower), place(left, lower)], glass)
    canvas.area(
        [place(left, upper), place(left + 0.07, upper), place(left, lower)],
        blend(glass, (255, 255, 255), 0.35),
    )


def stripe(canvas: Canvas, near: float, far: float) -> None:
    """A slanting yellow stripe of the keep-clear marking."""

    def edge(y: float, share: float) -> Spot:
        depth = (y - 354) / 414
        return 434 - 310 * depth + (172 + 604 * depth) * share, y

    canvas.area([edge(near, 0.2), edge(far, 0.68), edge(far, 0.8), edge(near, 0.32)], YELLOW)


def hydrant(canvas: Canvas) -> None:
    """The red box on the wall that the passage is kept free for."""
    canvas.area([(810, 300), (880, 318), (880, 470), (810, 430)], RED)
    canvas.area([(820, 318), (870, 332), (870, 400), (820, 376)], (238, 226, 220))
    canvas.line([(832, 372), (858, 342)], RED, 5)


def parked_car(canvas: Canvas) -> None:
    """A white van across the passage."""
    canvas.shade([(210, 640), (800, 640), (830, 700), (190, 700)], 170, 14)
    body = (232, 236, 238)
    canvas.area(
        [(230, 640), (226, 520), (250, 430), (330, 390), (690, 390), (760, 470), (800, 520), (806, 640)], body
    )
    canvas.area([(226, 560), (804, 560), (806, 640), (230, 640)], blend(body, INK, 0.14))
    glass = (66, 84, 100)
    canvas.area([(262, 500), (276, 436), (336, 408), (426, 408), (426, 500)], glass)
    canvas.area([(442, 500), (442, 408), (570, 408), (570, 500)], glass)
    canvas.area([(586, 500), (586, 408), (676, 408), (742, 478), (748, 500)], glass)
    canvas.area([(290, 436), (330, 416), (300, 500), (276, 500)], blend(glass, (255, 255, 255), 0.3))
    for x in (434, 578):
        canvas.line([(x, 506), (x, 632)], blend(body, INK, 0.35), 2)
    for x in (470, 610):
        canvas.line([(x, 536), (x + 30, 536)], blend(body, INK, 0.5), 5)
    for x in (330, 690):
        canvas.oval(x, 640, 58, 58, (28, 28, 30))
        canvas.oval(x, 640, 32, 32, STEEL_LIGHT)
        canvas.oval(x, 640, 10, 10, CONCRETE_DARK)
    canvas.box(778, 536, 804, 560, (250, 232, 170), 6)
    canvas.box(226, 536, 242, 572, RED, 4)


def furniture(canvas: Canvas) -> None:
    """A mattress and cartons put out against the wall."""
    canvas.shade([(40, 726), (270, 726), (290, 760), (30, 760)], 150, 10)
    canvas.area([(40, 560), (96, 520), (130, 540), (130, 730), (60, 746)], (206, 214, 226))
    canvas.line([(66, 570), (74, 730)], (150, 164, 190), 3)
    for left, top, size in ((140, 640, 100), (170, 566, 76)):
        carton(canvas, left, top, size)


def carton(canvas: Canvas, left: float, top: float, size: float) -> None:
    """A brown box with a strip of tape."""
    canvas.box(left, top, left + size, top + size, (190, 148, 100))
    canvas.area(
        [(left, top), (left + 16, top - 16), (left + size + 16, top - 16), (left + size, top)],
        (212, 172, 122),
    )
    canvas.area(
        [
            (left + size, top),
            (left + size + 16, top - 16),
            (left + size + 16, top + size - 16),
            (left + size, top + size),
        ],
        (160, 120, 78),
    )
    canvas.box(left + size * 0.44, top, left + size * 0.56, top + size, (224, 206, 168))


def corridor(canvas: Canvas, fixed: bool) -> None:
    """The corridor of a stairwell; before, an electric bicycle charges from a socket by a cable."""
    canvas.fill((236, 232, 220), (214, 208, 194))
    canvas.area([(0, 0), (1024, 0), (660, 190), (364, 190)], (246, 244, 238))
    canvas.area([(0, 768), (1024, 768), (660, 500), (364, 500)], (158, 150, 138))
    canvas.area([(0, 0), (364, 190), (364, 500), (0, 768)], (226, 220, 204))
    canvas.area([(1024, 0), (660, 190), (660, 500), (1024, 768)], (206, 199, 182))
    for spots in (
        [(0, 520), (364, 382), (364, 500), (0, 768)],
        [(1024, 520), (660, 382), (660, 500), (1024, 768)],
    ):
        canvas.area(spots, (132, 168, 150))
    for near in range(5):
        y = 500 + 268 * (near / 5) ** 1.5
        spread = (y - 500) * 364 / 268
        canvas.line([(364 - spread, y), (660 + spread, y)], (140, 132, 120), 2)
    for offset in (-0.6, -0.2, 0.2, 0.6):
        canvas.line([(512 + offset * 148, 500), (512 + offset * 512, 768)], (140, 132, 120), 2)
    canvas.area([(364, 190), (660, 190), (660, 500), (364, 500)], (232, 228, 216))
    canvas.box(440, 256, 584, 500, (126, 92, 66))
    canvas.box(452, 268, 506, 488, (146, 108, 78))
    canvas.box(518, 268, 572, 488, (146, 108, 78))
    canvas.box(462, 214, 562, 244, GREEN, 4)
    canvas.line([(480, 229), (538, 229)], (240, 250, 240), 5)
    canvas.area([(534, 219), (552, 229), (534, 239)], (240, 250, 240))
    canvas.area([(850, 180), (960, 124), (960, 660), (850, 590)], (110, 66, 52))
    canvas.area([(864, 206), (946, 164), (946, 636), (864, 578)], (134, 82, 62))
    canvas.oval(872, 400, 7, 9, YELLOW)
    canvas.glow(512, 90, 110, 150, (255, 250, 226))
    canvas.oval(512, 84, 54, 18, (255, 252, 238))
    canvas.area([(176, 340), (214, 330), (214, 384), (176, 396)], (250, 250, 248))
    canvas.oval(190, 362, 4, 6, INK)
    canvas.oval(202, 359, 4, 6, INK)
    if fixed:
        no_charging_sign(canvas)
    else:
        electric_bicycle(canvas)


def no_charging_sign(canvas: Canvas) -> None:
    """A notice on the wall: a crossed-out bicycle."""
    canvas.area([(60, 180), (150, 200), (150, 320), (60, 316)], (252, 252, 250))
    canvas.oval(88, 268, 13, 16, INK)
    canvas.oval(88, 268, 8, 11, (252, 252, 250))
    canvas.oval(124, 270, 12, 15, INK)
    canvas.oval(124, 270, 7, 10, (252, 252, 250))
    canvas.line([(88, 266), (100, 240), (118, 242), (124, 268)], INK, 4)
    canvas.ring(105, 254, 40, 48, RED, 7)
    canvas.line([(80, 218), (132, 292)], RED, 7)


def electric_bicycle(canvas: Canvas) -> None:
    """A red scooter by the wall, its charger glowing on the floor."""
    canvas.shade([(220, 690), (690, 690), (720, 730), (200, 730)], 130, 12)
    for x in (290, 620):
        canvas.oval(x, 640, 74, 78, (32, 32, 34))
        canvas.oval(x, 640, 52, 56, (168, 172, 176))
        canvas.oval(x, 640, 42, 46, (60, 60, 64))
        canvas.oval(x, 640, 12, 13, STEEL_LIGHT)
    canvas.area(
        [(344, 640), (360, 600), (520, 600), (560, 470), (596, 452), (604, 480), (556, 650), (380, 662)], RED
    )
    canvas.area([(250, 560), (300, 500), (430, 500), (452, 600), (350, 620), (232, 592)], RED)
    canvas.area([(300, 500), (330, 470), (440, 474), (450, 504)], (40, 38, 40))
    canvas.line([(578, 470), (560, 392)], STEEL, 12)
    canvas.line([(560, 392), (520, 376)], INK, 12)
    canvas.line([(560, 392), (604, 384)], INK, 12)
    canvas.area([(566, 420), (606, 414), (614, 462), (580, 474)], blend(RED, INK, 0.2))
    canvas.oval(612, 438, 14, 18, (255, 246, 210))
    canvas.line([(596, 460), (620, 640)], STEEL, 12)
    canvas.box(236, 566, 262, 580, (255, 120, 60), 4)
    canvas.line([(208, 362), (214, 430), (150, 560), (130, 680), (220, 722), (316, 706), (372, 640)], INK, 6)
    canvas.box(166, 692, 262, 736, (52, 52, 58), 8)
    canvas.glow(182, 712, 34, 230, (255, 60, 40))
    canvas.oval(182, 712, 7, 7, (255, 190, 170))
    canvas.glow(196, 360, 36, 120, (255, 150, 60))


def manhole(canvas: Canvas, fixed: bool) -> None:
    """A manhole in a pavement; before, half its cover is gone."""
    canvas.fill((128, 126, 122), (158, 155, 148))
    for row in range(7):
        y = 40 + row * 118
        canvas.line([(0, y), (1024, y)], (112, 110, 106), 4)
        for column in range(6):
            x = column * 230 + (row % 2) * 115 - 60
            canvas.line([(x, y), (x, y + 118)], (112, 110, 106), 4)
    canvas.area([(0, 0), (1024, 0), (1024, 70), (0, 120)], (196, 194, 188))
    canvas.area([(0, 120), (1024, 70), (1024, 92), (0, 146)], (104, 102, 98))
    canvas.shade([(200, 300), (820, 300), (860, 660), (180, 660)], 60, 40)
    canvas.oval(512, 450, 286, 214, (96, 94, 90))
    canvas.oval(512, 446, 268, 198, (64, 64, 66))
    if fixed:
        cover(canvas)
    else:
        open_shaft(canvas)


def cover(canvas: Canvas) -> None:
    """A whole iron cover with its pattern."""
    canvas.oval(512, 442, 254, 186, (92, 96, 102))
    canvas.ring(512, 442, 236, 172, (122, 128, 134), 6)
    canvas.ring(512, 442, 92, 66, (122, 128, 134), 6)
    for index in range(24):
        angle = index * math.tau / 24
        for near, far in ((0.46, 0.62), (0.68, 0.86)):
            inner = (512 + 236 * near * math.cos(angle), 442 + 172 * near * math.sin(angle))
            outer = (512 + 236 * far * math.cos(angle), 442 + 172 * far * math.sin(angle))
            canvas.line([inner, outer], (126, 132, 138), 10)
    for x in (-40, 0, 40):
        canvas.line([(512 + x, 420), (512 + x, 464)], (126, 132, 138), 10)
    canvas.oval(330, 442, 13, 9, (40, 42, 44))
    canvas.oval(694, 442, 13, 9, (40, 42, 44))


def open_shaft(canvas: Canvas) -> None:
    """A black hole with the rest of a broken cover and cracks around it."""
    canvas.oval(512, 446, 250, 182, (10, 10, 12))
    canvas.area(
        [
            (300, 340),
            (360, 296),
            (460, 268),
            (560, 264),
            (540, 330),
            (480, 360),
            (440, 440),
            (360, 470),
            (300, 540),
            (268, 470),
            (270, 400),
        ],
        (88, 92, 98),
    )
    canvas.area(
        [
            (300, 540),
            (360, 470),
            (440, 440),
            (480, 360),
            (540, 330),
            (548, 346),
            (492, 376),
            (452, 456),
            (370, 486),
            (308, 556),
        ],
        (46, 48, 52),
    )
    for start, end in (((330, 350), (420, 310)), ((310, 390), (440, 340)), ((300, 430), (400, 396))):
        canvas.line([start, end], (122, 128, 134), 8)
    canvas.glow(600, 520, 90, 60, (60, 84, 96))
    canvas.area([(830, 560), (900, 540), (930, 580), (880, 620), (826, 606)], (88, 92, 98))
    canvas.area([(826, 606), (880, 620), (930, 580), (930, 590), (880, 632), (826, 618)], (46, 48, 52))
    for crack in (
        [(770, 380), (840, 340), (880, 352), (960, 300)],
        [(700, 600), (760, 660), (750, 700), (810, 740)],
        [(300, 610), (250, 660), (262, 690), (200, 730)],
        [(260, 350), (190, 300), (170, 316), (110, 270)],
    ):
        canvas.line(crack, (60, 58, 56), 5)
        canvas.line([crack[1], (crack[1][0] + 34, crack[1][1] - 26)], (60, 58, 56), 3)


def pipe(canvas: Canvas, fixed: bool) -> None:
    """A water pipe on a basement wall; before, it sprays from a burst joint."""
    canvas.fill((150, 152, 148), (180, 180, 172), 0, 560)
    canvas.fill((96, 98, 98), (128, 128, 124), 560)
    for row in range(7):
        canvas.line([(0, row * 80), (1024, row * 80)], (140, 141, 136), 2)
        for column in range(7):
            x = column * 170 + (row % 2) * 85
            canvas.line([(x, row * 80), (x, row * 80 + 80)], (140, 141, 136), 2)
    if not fixed:
        canvas.shade([(430, 330), (620, 330), (690, 560), (390, 560)], 90, 26, (60, 66, 62))
        canvas.oval(560, 660, 400, 76, (104, 124, 134))
        canvas.oval(540, 654, 330, 54, (126, 152, 166))
        canvas.oval(500, 646, 190, 26, (168, 194, 206))
    run(canvas, [(-20, 300), (1044, 300)], 64)
    run(canvas, [(780, 300), (780, 568)], 52)
    for x in (180, 520, 900):
        canvas.box(x - 20, 254, x + 20, 346, (92, 112, 128), 6)
        canvas.box(x - 14, 254, x - 6, 346, (140, 160, 174))
    canvas.box(744, 420, 816, 480, (92, 112, 128), 8)
    canvas.line([(780, 450), (700, 450)], STEEL, 12)
    canvas.ring(690, 450, 34, 44, RED, 12)
    canvas.line([(690, 410), (690, 490)], RED, 8)
    if fixed:
        canvas.box(470, 244, 570, 356, (196, 204, 210), 10)
        for x in (490, 520, 550):
            canvas.line([(x, 246), (x, 354)], (120, 128, 136), 4)
        canvas.box(504, 228, 536, 252, (160, 168, 176), 5)
    else:
        spray(canvas)


def run(canvas: Canvas, spots: Sequence[Spot], width: float) -> None:
    """A length of round pipe: dark below, bright above."""
    (x1, y1), (x2, y2) = spots
    canvas.shade([(x1 - 30, y1 + 40), (x2 - 30, y2 + 40), (x2 + 20, y2 + 56), (x1 + 20, y1 + 56)], 70, 12)
    for share, colour in (
        (1.0, (66, 92, 112)),
        (0.8, (92, 122, 146)),
        (0.5, (124, 154, 178)),
        (0.18, (178, 204, 220)),
    ):
        shift = -width * (1 - share) * 0.3
        across = (0.0, shift) if y1 == y2 else (shift, 0.0)
        moved = [(x1 + across[0], y1 + across[1]), (x2 + across[0], y2 + across[1])]
        canvas.draw.line(scaled(moved), colour, round(width * share * OVERSIZE))


def spray(canvas: Canvas) -> None:
    """Jets of water from the joint, and drops."""
    for index in range(11):
        lean = (index - 5) * 34
        jet = [
            (520 + lean * t * 1.7, 322 + (30 * t + 260 * t * t) - abs(lean) * 0.5 * t * (1 - t) * 3)
            for t in (step / 12 for step in range(13))
        ]
        canvas.line(jet, blend(WATER, (255, 255, 255), 0.2 + 0.06 * (index % 5)), 4 + index % 3 * 2)
    canvas.glow(520, 330, 60, 150, (236, 246, 250))
    for index in range(46):
        x, y = 330 + (index * 137) % 400, 380 + (index * 89) % 250
        canvas.oval(x, y, 3 + index % 3, 5 + index % 4, (214, 234, 244))
    canvas.ring(470, 648, 90, 14, (220, 236, 242), 3)
    canvas.ring(620, 664, 60, 9, (220, 236, 242), 3)
    canvas.line([(506, 306), (514, 322), (522, 312), (534, 330)], INK, 5)


def street_lamp(canvas: Canvas, fixed: bool) -> None:
    """A path between houses at night, upright; before, its lamp is dark."""
    canvas.fill((14, 20, 38), (38, 46, 66), 0, 620)
    canvas.fill((30, 34, 38), (44, 46, 48), 620)
    for index in range(26):
        canvas.oval((index * 211) % 768, (index * 97) % 300, 1.6, 1.6, (180, 190, 210))
    for left, right, top in ((0, 190, 260), (560, 768, 200), (200, 330, 400)):
        canvas.box(left, top, right, 640, (24, 28, 40))
        for column in range((right - left) // 60):
            for row in range((620 - top) // 80):
                lit = (column * 3 + row * 5 + left) % 7 == 0
                colour = (196, 168, 104) if lit else (34, 40, 56)
                canvas.box(
                    left + 18 + column * 60,
                    top + 24 + row * 80,
                    left + 46 + column * 60,
                    top + 62 + row * 80,
                    colour,
                )
    canvas.area([(330, 640), (430, 640), (700, 1024), (80, 1024)], (58, 58, 62))
    canvas.box(0, 610, 330, 646, (18, 30, 24), 14)
    canvas.box(430, 610, 768, 646, (18, 30, 24), 14)
    if fixed:
        canvas.shade([(392, 262), (468, 262), (690, 900), (170, 900)], 120, 46, LAMP)
        canvas.glow(430, 880, 210, 110, LAMP)
    pole = (92, 98, 106) if fixed else (56, 62, 72)
    canvas.line([(560, 900), (560, 250)], pole, 16)
    canvas.line([(560, 256), (534, 224), (440, 216)], pole, 12)
    canvas.box(536, 880, 584, 916, pole, 6)
    canvas.area([(380, 214), (482, 206), (490, 236), (372, 246)], blend(pole, INK, 0.3))
    canvas.oval(430, 246, 52, 13, (255, 250, 226) if fixed else (40, 42, 48))
    if fixed:
        canvas.glow(430, 252, 70, 220, LAMP)
        canvas.oval(430, 248, 46, 11, (255, 252, 236))
        canvas.box(610, 800, 720, 816, (120, 84, 56), 4)
        canvas.line([(630, 816), (630, 850)], (90, 62, 42), 8)
        canvas.line([(700, 816), (700, 850)], (90, 62, 42), 8)
    else:
        canvas.line([(404, 246), (424, 252), (418, 262)], (110, 116, 124), 3)
        canvas.shade([(80, 1024), (300, 660), (460, 660), (700, 1024)], 120, 60)


def garbage(canvas: Canvas, fixed: bool) -> None:
    """The bins of a compound; before, they overflow and bags lie around."""
    canvas.fill((172, 198, 214), (214, 222, 220), 0, 250)
    canvas.area([(0, 120), (1024, 120), (1024, 520), (0, 520)], (214, 202, 182))
    for row in range(10):
        canvas.line([(0, 120 + row * 40), (1024, 120 + row * 40)], (198, 185, 164), 3)
    canvas.area([(0, 90), (1024, 90), (1024, 128), (0, 128)], (126, 96, 78))
    canvas.fill((146, 144, 138), (172, 169, 160), 520)
    for colour, x in (((58, 122, 74), 170), ((52, 96, 150), 400), ((96, 98, 102), 630)):
        bin_with_wheels(canvas, x, colour, closed=fixed)
    if fixed:
        canvas.box(880, 300, 980, 420, (250, 250, 246), 6)
        canvas.ring(930, 352, 30, 30, GREEN, 8)
        canvas.area([(918, 314), (942, 322), (920, 338)], GREEN)
        canvas.line([(896, 404), (964, 404)], STEEL, 6)
        canvas.shade([(100, 640), (860, 640), (900, 680), (90, 680)], 50, 16, (235, 232, 222))
    else:
        rubbish(canvas)


def bin_with_wheels(canvas: Canvas, x: float, colour: Colour, *, closed: bool) -> None:
    """A wheeled bin of a given colour."""
    canvas.shade([(x - 10, 610), (x + 210, 610), (x + 230, 650), (x - 20, 650)], 120, 10)
    canvas.area([(x, 330), (x + 190, 330), (x + 170, 620), (x + 20, 620)], colour)
    canvas.area([(x, 330), (x + 40, 330), (x + 52, 620), (x + 20, 620)], blend(colour, (255, 255, 255), 0.14))
    canvas.area([(x + 150, 330), (x + 190, 330), (x + 170, 620), (x + 136, 620)], blend(colour, INK, 0.25))
    canvas.oval(x + 42, 622, 20, 20, INK)
    canvas.oval(x + 148, 622, 20, 20, INK)
    canvas.ring(x + 95, 460, 34, 34, (240, 244, 240), 7)
    canvas.area([(x + 82, 418), (x + 108, 427), (x + 84, 444)], (240, 244, 240))
    if closed:
        canvas.area([(x - 12, 336), (x + 6, 296), (x + 184, 296), (x + 202, 336)], blend(colour, INK, 0.15))
        canvas.box(x + 60, 300, x + 130, 312, blend(colour, (255, 255, 255), 0.2), 5)
    else:
        canvas.area([(x - 4, 330), (x + 8, 200), (x + 182, 200), (x + 194, 330)], blend(colour, INK, 0.45))


def rubbish(canvas: Canvas) -> None:
    """Bags on top of the bins and on the ground, cartons, peel and bottles."""
    bags = [
        (220, 300, 62, (44, 44, 50)),
        (310, 312, 56, (190, 60, 56)),
        (450, 296, 64, (50, 52, 58)),
        (546, 308, 56, (222, 222, 218)),
        (690, 300, 66, (44, 46, 52)),
        (786, 314, 52, (70, 120, 160)),
        (110, 640, 84, (46, 46, 52)),
        (300, 690, 76, (206, 206, 202)),
        (480, 664, 88, (40, 42, 48)),
        (690, 690, 80, (186, 64, 58)),
        (880, 640, 92, (46, 48, 54)),
        (930, 716, 58, (216, 216, 210)),
    ]
    for x, y, size, colour in bags:
        canvas.shade([(x - size, y + size * 0.6), (x + size, y + size * 0.6), (x, y + size)], 90, 10)
        canvas.oval(x, y, size, size * 0.74, colour)
        canvas.area(
            [(x - 16, y - size * 0.62), (x + 16, y - size * 0.62), (x + 26, y - size), (x - 22, y - size)],
            colour,
        )
        canvas.line(
            [(x - size * 0.4, y - size * 0.3), (x - size * 0.1, y + size * 0.3)],
            blend(colour, (255, 255, 255), 0.3),
            5,
        )
        canvas.line(
            [(x + size * 0.2, y - size * 0.4), (x + size * 0.4, y + size * 0.2)], blend(colour, INK, 0.4), 4
        )
    carton(canvas, 370, 640, 70)
    for x, y in ((200, 740), (590, 736), (800, 742)):
        canvas.box(x, y, x + 54, y + 16, (120, 180, 140), 7)
        canvas.box(x + 54, y + 4, x + 68, y + 12, (230, 230, 226))


@dataclass(frozen=True)
class Sample:
    """One scene, where and when it was taken; the position is GCJ-02."""

    name: str
    draw: Callable[[Canvas, bool], None]
    spot: Point
    before: str
    after: str
    size: tuple[int, int] = LANDSCAPE
    orientation_before: int = 1
    orientation_after: int = 1


SAMPLES = [
    Sample(
        "fire-passage", fire_passage, Point(104.12716, 30.60655), "2026:03:02 08:14:20", "2026:03:02 15:40:05"
    ),
    Sample(
        "corridor-charging",
        corridor,
        Point(104.12893, 30.60542),
        "2026:03:03 19:22:41",
        "2026:03:04 10:05:17",
    ),
    Sample("manhole", manhole, Point(104.12786, 30.60617), "2026:03:05 07:48:09", "2026:03:05 17:31:50"),
    Sample(
        "pipe-leak",
        pipe,
        Point(104.12842, 30.60681),
        "2026:03:06 12:10:33",
        "2026:03:06 18:02:12",
        orientation_after=3,
    ),
    Sample(
        "street-lamp",
        street_lamp,
        Point(104.12765, 30.60521),
        "2026:03:07 20:36:58",
        "2026:03:09 19:58:26",
        size=PORTRAIT,
        orientation_before=6,
        orientation_after=6,
    ),
    Sample("garbage", garbage, Point(104.12824, 30.60588), "2026:03:10 09:27:15", "2026:03:10 14:12:44"),
]

# What a phone stores for a scene that is upright when its tag is obeyed.
AS_STORED = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90}


def sexagesimal(degrees: float) -> tuple[IFDRational, IFDRational, IFDRational]:
    """Degrees, minutes and hundredths of a thousandth of seconds, as EXIF writes them."""
    hundred_thousandths = round(degrees * 3600 * 100_000)
    minutes, seconds = divmod(hundred_thousandths, 60 * 100_000)
    return IFDRational(minutes // 60), IFDRational(minutes % 60), IFDRational(seconds, 100_000)


def exif(orientation: int, taken: str, wgs84: Point) -> Image.Exif:
    """The tags a phone writes."""
    tags = Image.Exif()
    tags[ExifTags.Base.Make] = "Jincai"
    tags[ExifTags.Base.Model] = "Drawn sample"
    tags[ExifTags.Base.Orientation] = orientation
    tags[ExifTags.Base.DateTime] = taken
    tags.get_ifd(ExifTags.IFD.Exif).update(
        {ExifTags.Base.DateTimeOriginal: taken, ExifTags.Base.OffsetTimeOriginal: "+08:00"}
    )
    tags.get_ifd(ExifTags.IFD.GPSInfo).update(
        {
            ExifTags.GPS.GPSLatitudeRef: "N",
            ExifTags.GPS.GPSLatitude: sexagesimal(wgs84.lat),
            ExifTags.GPS.GPSLongitudeRef: "E",
            ExifTags.GPS.GPSLongitude: sexagesimal(wgs84.lng),
            ExifTags.GPS.GPSMapDatum: "WGS-84",
        }
    )
    return tags


def main() -> None:
    """Draw and write every sample, before and after."""
    OUTPUT.mkdir(exist_ok=True)
    for sample in SAMPLES:
        for state, taken, orientation in (
            ("before", sample.before, sample.orientation_before),
            ("after", sample.after, sample.orientation_after),
        ):
            canvas = Canvas(sample.size)
            sample.draw(canvas, state == "after")
            photo = canvas.finished()
            if orientation in AS_STORED:
                photo = photo.transpose(AS_STORED[orientation])
            tags = exif(orientation, taken, wgs84_from_gcj02(sample.spot))
            photo.save(OUTPUT / f"{sample.name}-{state}.jpg", quality=QUALITY, optimize=True, exif=tags)


if __name__ == "__main__":
    main()
