"""Pictures made for one purpose each: honest ones, and ones that only pretend."""

import io
import struct
import zlib
from collections.abc import Iterable, Mapping

from PIL import ExifTags, Image, ImageCms

from tests.media import jpeg

CANARY = b"CANARY-7f3a91"
RED, GREEN, BLUE, WHITE = (230, 20, 20), (20, 200, 40), (30, 40, 220), (255, 255, 255)
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def quadrants(width: int = 160, height: int = 120) -> Image.Image:
    """Red and green above, blue and white below: whoever turns it is found out."""
    image = Image.new("RGB", (width, height), WHITE)
    image.paste(RED, (0, 0, width // 2, height // 2))
    image.paste(GREEN, (width // 2, 0, width, height // 2))
    image.paste(BLUE, (0, height // 2, width // 2, height))
    return image


def encoded(image: Image.Image, kind: str = "JPEG", **options: object) -> bytes:
    output = io.BytesIO()
    image.save(output, kind, **options)
    return output.getvalue()


def exif(
    gps: Mapping[int, object] | None = None,
    taken: str | None = None,
    offset: str | None = None,
    orientation: int = 1,
) -> Image.Exif:
    """What a phone writes, and a canary in every tag that holds text."""
    tags = Image.Exif()
    tags[ExifTags.Base.Orientation] = orientation
    for tag in (
        ExifTags.Base.Make,
        ExifTags.Base.Model,
        ExifTags.Base.Artist,
        ExifTags.Base.ImageDescription,
    ):
        tags[tag] = CANARY.decode()
    details = tags.get_ifd(ExifTags.IFD.Exif)
    details[ExifTags.Base.MakerNote] = b"MAKER" + CANARY
    details[ExifTags.Base.UserComment] = b"ASCII\0\0\0" + CANARY
    if taken:
        details[ExifTags.Base.DateTimeOriginal] = taken
    if offset:
        details[ExifTags.Base.OffsetTimeOriginal] = offset
    if gps is not None:
        tags.get_ifd(ExifTags.IFD.GPSInfo).update(gps)
    return tags


def colour_profile() -> bytes:
    """A profile like sRGB with the names of its red and green changed over: (255, 0, 0) in it is green."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return profile.replace(b"rXYZ", b"tmp0", 1).replace(b"gXYZ", b"rXYZ", 1).replace(b"tmp0", b"gXYZ", 1)


def jpeg_with_everything() -> bytes:
    """EXIF with GPS, maker note and a thumbnail, XMP, IPTC, ICC, a comment, an unknown segment and a tail."""
    gps = {1: "N", 2: (30.0, 36.0, 30.0), 3: "E", 4: (104.0, 7.0, 30.0), 29: "2026:03:02"}
    thumbnail = encoded(Image.new("RGB", (40, 30), BLUE), comment=CANARY)
    tiff = exif(gps, "2026:03:02 08:14:20", "+08:00").tobytes() + thumbnail
    plain = encoded(quadrants(), icc_profile=colour_profile() + CANARY)
    extra: list[jpeg.Segment | bytes] = [
        b"\xff\xd8",
        jpeg.Segment(0xE1, tiff),
        jpeg.Segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta>" + CANARY + b"</x:xmpmeta>"),
        jpeg.Segment(0xED, b"Photoshop 3.0\x008BIM\x04\x04\0\0" + struct.pack(">I", len(CANARY)) + CANARY),
        jpeg.Segment(0xFE, CANARY),
        jpeg.Segment(0xE7, CANARY),
    ]
    return jpeg.assemble([*extra, plain[2:], CANARY])


def png(
    width: int, height: int, chunks: Iterable[tuple[bytes, bytes]], depth: int = 8, colour: int = 0
) -> bytes:
    """A PNG written by hand, header first, end last, whatever stands between."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IEND", b"")]
    return PNG_SIGNATURE + b"".join(_chunk(name, body) for name, body in parts)


def grey_rows(width: int, height: int) -> bytes:
    """The compressed pixels of an 8-bit grey PNG, all black."""
    return zlib.compress(bytes((width + 1) * height), 9)


def animated_png(frames: int) -> bytes:
    """An APNG of tiny frames."""
    pixels = grey_rows(8, 8)
    chunks = [(b"acTL", struct.pack(">II", frames, 0)), (b"fcTL", _frame(0)), (b"IDAT", pixels)]
    for number in range(1, frames):
        chunks.append((b"fcTL", _frame(2 * number - 1)))
        chunks.append((b"fdAT", struct.pack(">I", 2 * number) + pixels))
    return png(8, 8, chunks)


def scan_bomb(width: int = 4000, height: int = 3000, repeats: int = 400) -> bytes:
    """A small progressive JPEG whose last refinements are sent again and again, each a pass over all pixels."""
    data = encoded(Image.new("RGB", (width, height), BLUE), progressive=True, quality=50)
    head, found = jpeg.scans(data)
    return head + b"".join(found) + found[-1] * repeats + b"\xff\xd9"


def with_dimensions(data: bytes, width: int, height: int) -> bytes:
    """The same JPEG with another size in its frame header."""
    at = data.index(b"\xff\xc0")
    return data[: at + 5] + struct.pack(">HH", height, width) + data[at + 9 :]


def _frame(sequence: int) -> bytes:
    return struct.pack(">IIIIIHHBB", sequence, 8, 8, 0, 0, 1, 10, 0, 0)


def _chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
