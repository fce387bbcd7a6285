"""What comes out for an honest photo: upright, small, in sRGB, and bare."""

import asyncio
import io
import math
from datetime import UTC, datetime
from pathlib import Path

import pytest
from PIL import Image

from app.geo import Point
from app.imaging import Imaging, Processed, Rendition
from tests.media import pictures
from tests.media.jpeg import assert_bare

_UNTURN = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def pixels(rendition: Rendition) -> Image.Image:
    image = Image.open(io.BytesIO(rendition.data))
    assert image.size == (rendition.width, rendition.height)
    return image.convert("RGB")


def is_close(found: object, wanted: tuple[int, int, int]) -> bool:
    assert isinstance(found, tuple)
    return all(abs(a - b) <= 16 for a, b in zip(found, wanted, strict=True))


def is_at(found: Point | None, wanted: Point) -> bool:
    return found is not None and math.dist((found.lng, found.lat), (wanted.lng, wanted.lat)) < 1e-6


def assert_quadrants(rendition: Rendition) -> None:
    image = pixels(rendition)
    for (x, y), colour in (
        ((0.25, 0.25), pictures.RED),
        ((0.75, 0.25), pictures.GREEN),
        ((0.25, 0.75), pictures.BLUE),
        ((0.75, 0.75), pictures.WHITE),
    ):
        found = image.getpixel((round(image.width * x), round(image.height * y)))
        assert is_close(found, colour), (x, y, found)


def assert_photo(result: Processed) -> None:
    for rendition in (result.main, result.thumbnail):
        assert_bare(rendition.data)
        assert_quadrants(rendition)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
async def test_every_format_becomes_two_bare_jpegs(kind: str) -> None:
    result = await Imaging().process(pictures.encoded(pictures.quadrants(1000, 600), kind))
    assert_photo(result)
    assert (result.main.width, result.main.height) == (1000, 600)
    assert (result.thumbnail.width, result.thumbnail.height) == (320, 192)
    assert result.gps_wgs84 is None
    assert result.taken_at is None


@pytest.mark.parametrize(
    ("size", "least", "most"),
    [
        ((4000, 3000), 1843, 2048),
        ((3000, 4000), 1843, 2048),
        ((2500, 1000), 2048, 2048),
        ((900, 9000), 2048, 2048),
    ],
)
async def test_large_photos_are_brought_down_in_proportion(
    size: tuple[int, int], least: int, most: int
) -> None:
    result = await Imaging().process(pictures.encoded(pictures.quadrants(*size)))
    assert_photo(result)
    assert least <= max(result.main.width, result.main.height) <= most
    assert result.main.width / result.main.height == pytest.approx(size[0] / size[1], rel=0.02)
    assert max(result.thumbnail.width, result.thumbnail.height) == 320


async def test_small_photos_are_not_blown_up() -> None:
    result = await Imaging().process(pictures.encoded(Image.new("RGB", (1, 1), pictures.RED)))
    assert (result.main.width, result.main.height) == (1, 1)
    assert (result.thumbnail.width, result.thumbnail.height) == (1, 1)


async def test_photos_come_out_upright_whatever_the_tag_says() -> None:
    imaging = Imaging()
    results = await asyncio.gather(
        *(
            imaging.process(
                pictures.encoded(
                    pictures.quadrants(640, 480).transpose(stored), exif=pictures.exif(orientation=tag)
                )
            )
            for tag, stored in _UNTURN.items()
        )
    )
    for result in results:
        assert_photo(result)
        assert (result.main.width, result.main.height) == (640, 480)


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
async def test_the_tag_counts_in_other_formats_too(kind: str) -> None:
    stored = pictures.quadrants(640, 480).transpose(_UNTURN[6])
    assert_photo(await Imaging().process(pictures.encoded(stored, kind, exif=pictures.exif(orientation=6))))


@pytest.mark.parametrize("orientation", [0, 9, 65535])
async def test_a_tag_without_meaning_turns_nothing(orientation: int) -> None:
    data = pictures.encoded(pictures.quadrants(), exif=pictures.exif(orientation=orientation))
    assert_photo(await Imaging().process(data))


async def test_no_metadata_survives() -> None:
    data = pictures.jpeg_with_everything()
    assert data.count(pictures.CANARY) >= 11
    result = await Imaging().process(data)
    for rendition in (result.main, result.thumbnail):
        assert_bare(rendition.data)
        assert pictures.CANARY not in rendition.data
    assert is_at(result.gps_wgs84, Point(104.125, 30.608333))
    assert result.taken_at == datetime(2026, 3, 2, 0, 14, 20, tzinfo=UTC)


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
async def test_no_metadata_of_other_formats_survives(kind: str) -> None:
    canary = pictures.CANARY
    image = pictures.quadrants()
    if kind == "PNG":
        data = pictures.png(
            160,
            120,
            [
                (b"tEXt", b"Comment\0" + canary),
                (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + canary),
                (b"eXIf", pictures.exif().tobytes()[6:]),
                (b"IDAT", pictures.grey_rows(160, 120)),
                (b"tEXt", b"After\0" + canary),
            ],
        )
    else:
        data = pictures.encoded(image, kind, exif=pictures.exif(), xmp=b"<x>" + canary + b"</x>")
    assert canary in data
    result = await Imaging().process(data + canary)
    for rendition in (result.main, result.thumbnail):
        assert_bare(rendition.data)
        assert canary not in rendition.data


async def test_colours_of_another_profile_are_converted() -> None:
    red = Image.new("RGB", (64, 64), (255, 0, 0))
    result = await Imaging().process(pictures.encoded(red, icc_profile=pictures.colour_profile(), quality=95))
    assert is_close(pixels(result.main).getpixel((32, 32)), (0, 255, 0))


@pytest.mark.parametrize("profile", [b"junk", b"\0" * 200, pictures.colour_profile()[:300]])
async def test_a_broken_profile_is_ignored(profile: bytes) -> None:
    result = await Imaging().process(pictures.encoded(pictures.quadrants(), icc_profile=profile))
    assert_photo(result)


@pytest.mark.parametrize(
    ("mode", "colour", "seen"),
    [
        ("RGBA", (200, 0, 0, 0), (255, 255, 255)),
        ("RGBA", (200, 0, 0, 255), (200, 0, 0)),
        ("LA", (0, 128), (127, 127, 127)),
        ("P", 7, (7, 7, 7)),
        ("1", 1, (255, 255, 255)),
        ("L", 90, (90, 90, 90)),
        ("I;16", 0x8080, (128, 128, 128)),
    ],
)
async def test_every_kind_of_png_pixel(
    mode: str, colour: int | tuple[int, ...], seen: tuple[int, int, int]
) -> None:
    image = Image.new(mode, (64, 48), colour)
    if mode == "P":
        image.putpalette([value for grey in range(256) for value in (grey, grey, grey)])
    result = await Imaging().process(pictures.encoded(image, "PNG"))
    assert is_close(pixels(result.main).getpixel((30, 20)), seen)


async def test_print_colours_and_progressive_scans() -> None:
    cmyk = Image.new("CMYK", (64, 48), (0, 255, 255, 0))
    result = await Imaging().process(pictures.encoded(cmyk, progressive=True))
    assert is_close(pixels(result.main).getpixel((30, 20)), (255, 0, 0))


async def test_a_phones_jpeg_with_a_second_picture_behind_is_its_first() -> None:
    second = Image.new("RGB", (160, 120), pictures.BLUE)
    data = pictures.encoded(pictures.quadrants(), "MPO", save_all=True, append_images=[second])
    assert b"MPF\0" in data
    assert_photo(await Imaging().process(data))


@pytest.mark.parametrize(
    ("gps", "expected"),
    [
        ({1: "S", 2: (33.0, 51.0, 0.0), 3: "W", 4: (70.0, 30.0, 36.0)}, Point(-70.51, -33.85)),
        ({1: "N", 2: (0.0, 0.0, 0.0), 3: "E", 4: (0.0, 0.0, 0.0)}, None),
        ({1: "N", 2: (91.0, 0.0, 0.0), 3: "E", 4: (104.0, 0.0, 0.0)}, None),
        ({1: "N", 2: (30.0, 0.0, 0.0), 3: "E", 4: (181.0, 0.0, 0.0)}, None),
        ({2: (30.0, 0.0, 0.0), 4: (104.0, 0.0, 0.0)}, None),
        ({1: "N", 2: (30.0, 0.0), 3: "E", 4: (104.0, 0.0)}, None),
        ({}, None),
    ],
)
async def test_positions(gps: dict[int, object], expected: Point | None) -> None:
    found = (
        await Imaging().process(pictures.encoded(pictures.quadrants(), exif=pictures.exif(gps)))
    ).gps_wgs84
    assert is_at(found, expected) if expected else found is None


async def test_a_position_with_a_zero_denominator_is_none() -> None:
    gps: dict[int, object] = {1: "N", 2: (30.0, 36.0, 30.0), 3: "E", 4: (104.0, 7.0, 30.0)}
    data = pictures.encoded(pictures.quadrants(), exif=pictures.exif(gps))
    thirty_six_degrees_over_one = (36).to_bytes(4, "big") + (1).to_bytes(4, "big")
    assert thirty_six_degrees_over_one in data
    broken = data.replace(thirty_six_degrees_over_one, (36).to_bytes(4, "big") + bytes(4))
    result = await Imaging().process(broken)
    assert result.gps_wgs84 is None
    assert_photo(result)


@pytest.mark.parametrize(
    ("taken", "offset", "expected"),
    [
        ("2026:03:02 08:14:20", "+08:00", datetime(2026, 3, 2, 0, 14, 20, tzinfo=UTC)),
        ("2026:03:02 08:14:20", "-03:30", datetime(2026, 3, 2, 11, 44, 20, tzinfo=UTC)),
        ("2026:03:02 08:14:20", None, datetime(2026, 3, 2, 0, 14, 20, tzinfo=UTC)),
        ("2026:03:02 08:14:20", "noon", datetime(2026, 3, 2, 0, 14, 20, tzinfo=UTC)),
        ("0000:00:00 00:00:00", None, None),
        ("2026:02:30 08:14:20", "+08:00", None),
        ("yesterday", "+08:00", None),
        (None, None, None),
    ],
)
async def test_times(taken: str | None, offset: str | None, expected: datetime | None) -> None:
    tags = pictures.exif(taken=taken, offset=offset)
    assert (await Imaging().process(pictures.encoded(pictures.quadrants(), exif=tags))).taken_at == expected


async def test_a_file_is_read_from_its_start_and_left_as_it_was(tmp_path: Path) -> None:
    path, data = tmp_path / "upload", pictures.encoded(pictures.quadrants())
    path.write_bytes(data)
    assert_photo(await Imaging().process(path))
    assert path.read_bytes() == data
