"""Develops one picture in a process of its own, with no descriptors, processes or memory to spare.

Run by path (`python -I imaging_child.py '{limits}'`), never imported. The picture is standard input; standard output
is one line of JSON, then the two JPEGs it gives the lengths of. It ends with status 0 whatever the picture was.
"""

import io
import json
import math
import os
import resource
import sys
import warnings
from collections.abc import Mapping
from typing import TypedDict

from PIL import Image, ImageCms, ImageFile, JpegImagePlugin, PngImagePlugin, TiffImagePlugin, WebPImagePlugin
from PIL.ExifTags import GPS, IFD, Base

JPEG_QUALITY = 82
DRAFT_SLACK = 0.9
# Each block of 8 x 8 takes a bit at least; less means that the header lies, which the decoder would paint grey.
JPEG_PIXELS_PER_BYTE = 64 * 8
WHITE = (255, 255, 255)
STANDARD_STREAMS = 3
SRGB = ImageCms.createProfile("sRGB")
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Pillow would import these inside a function, when no file can be opened any more.
PRELOADED = (TiffImagePlugin,)


class Limits(TypedDict):
    """The argument: pixels and sides of the upload, bytes and seconds of this process, sides of the results."""

    max_pixels: int
    max_side: int
    memory_bytes: int
    cpu_seconds: int
    main_side: int
    thumbnail_side: int


class RefusedError(Exception):
    """The picture is not taken; the argument is the reason the parent knows."""


def main() -> None:
    """Read the picture, answer, end."""
    limits: Limits = json.loads(sys.argv[1])
    warnings.simplefilter("ignore")
    Image.preinit()
    # Pillow refuses at twice this, before it makes room for the pixels.
    Image.MAX_IMAGE_PIXELS = limits["max_pixels"] // 2
    confine(limits)
    answer: dict[str, object]
    pictures: list[bytes] = []
    try:
        answer, pictures = develop(limits)
    except RefusedError as refused:
        answer = {"refused": str(refused)}
    except (MemoryError, Image.DecompressionBombError):
        answer = {"refused": "too_large"}
    except Exception:  # decoders raise anything; to the uploader it is all one
        answer = {"refused": "corrupt"}
    sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n" + b"".join(pictures))
    sys.stdout.buffer.flush()


def confine(limits: Limits) -> None:
    """Give up everything that decoding does not need: with no free descriptor there is no file and no network."""
    bounds = {
        resource.RLIMIT_AS: limits["memory_bytes"],
        resource.RLIMIT_CPU: limits["cpu_seconds"],
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_NPROC: 0,
        resource.RLIMIT_NOFILE: STANDARD_STREAMS,
    }
    for name, bound in bounds.items():
        resource.setrlimit(name, (bound, bound))


def develop(limits: Limits) -> tuple[dict[str, object], list[bytes]]:
    """The description of the picture, and the picture and its thumbnail as bare JPEGs."""
    source = opened(io.BufferedReader(io.FileIO(0)))
    inspect(source, limits)
    large = shrunk(source, limits["main_side"])
    metadata = read_metadata(source)
    large = in_srgb(large, source.info.get("icc_profile"))
    if (turn := UPRIGHT.get(metadata.orientation)) is not None:
        large = large.transpose(turn)
    small = large.copy()
    small.thumbnail((limits["thumbnail_side"],) * 2)
    pictures = [encoded(large), encoded(small)]
    answer: dict[str, object] = {
        "main": {"width": large.width, "height": large.height, "bytes": len(pictures[0])},
        "thumbnail": {"width": small.width, "height": small.height, "bytes": len(pictures[1])},
        "gps": metadata.gps,
        "taken": metadata.taken,
        "offset": metadata.offset,
    }
    return answer, pictures


def opened(file: io.BufferedReader) -> ImageFile.ImageFile:
    """The picture by its first bytes. A phone's JPEG with more pictures behind the first is that first one."""
    start = file.peek(4)[:4]
    if start.startswith(b"\xff\xd8"):
        return JpegImagePlugin.JpegImageFile(file)
    if start.startswith(b"\x89PNG"):
        return PngImagePlugin.PngImageFile(file)
    return WebPImagePlugin.WebPImageFile(file)


def inspect(source: ImageFile.ImageFile, limits: Limits) -> None:
    """Refuse by the header, before any pixel is decoded."""
    pixels = source.width * source.height
    if max(source.size) > limits["max_side"] or pixels > limits["max_pixels"]:
        raise RefusedError("too_large")
    if getattr(source, "n_frames", 1) != 1:
        raise RefusedError("animated")
    if source.format == "JPEG" and pixels > JPEG_PIXELS_PER_BYTE * os.fstat(0).st_size:
        raise RefusedError("corrupt")


def shrunk(source: ImageFile.ImageFile, side: int) -> Image.Image:
    """All pixels decoded, then as few kept as `side` needs; a JPEG may come out a tenth smaller, at half the cost."""
    scale = DRAFT_SLACK * side / max(source.size)
    source.draft(None, (math.ceil(source.width * scale), math.ceil(source.height * scale)))
    source.load()
    image = opaque(source)
    image.thumbnail((side, side))
    return image


def opaque(image: Image.Image) -> Image.Image:
    """Grey, RGB or CMYK, with white behind what was transparent."""
    if image.mode.startswith("I;16"):
        return image.point(lambda value: value * (1 / 256)).convert("L")
    if image.has_transparency_data:
        layer = image if image.mode == "RGBA" else image.convert("RGBA")
        page = Image.new("RGB", image.size, WHITE)
        page.paste(layer, mask=layer)
        return page
    return image if image.mode in ("L", "RGB", "CMYK") else image.convert("RGB")


def in_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """The same colours in the space every screen assumes, since the profile is about to be dropped."""
    if profile:
        try:
            converted = ImageCms.profileToProfile(image, io.BytesIO(profile), SRGB, outputMode="RGB")
        except ImageCms.PyCMSError:
            converted = None  # a broken profile, or one for another kind of pixel, says nothing
        if converted is not None:
            return converted
    return image.convert("RGB")


def encoded(image: Image.Image) -> bytes:
    """A JPEG of the pixels alone."""
    image.info.clear()
    output = io.BytesIO()
    image.save(output, "JPEG", quality=JPEG_QUALITY, optimize=True)
    return output.getvalue()


class Metadata:
    """What is read before all of it is dropped; what cannot be read is not there."""

    orientation: int = 1
    gps: tuple[float, float] | None = None
    taken: str | None = None
    offset: str | None = None


def read_metadata(source: Image.Image) -> Metadata:
    """Orientation, WGS-84 (longitude, latitude) and time of the photo, from tags anybody may have written."""
    found = Metadata()
    try:
        exif = source.getexif()
        found.orientation = int(exif.get(Base.Orientation, 1))
        details = exif.get_ifd(IFD.Exif)
        found.taken = text(details.get(Base.DateTimeOriginal))
        found.offset = text(details.get(Base.OffsetTimeOriginal))
        found.gps = position(exif.get_ifd(IFD.GPSInfo))
    except Exception:  # noqa: S110 - hostile tags fail in any way, and no tag is worth a photo
        pass
    return found


def text(value: object) -> str | None:
    """A short text tag; anything else is no text."""
    return value[:32] if isinstance(value, str) else None


def position(tags: Mapping[int, object]) -> tuple[float, float] | None:
    """(longitude, latitude) in degrees when it is on the earth and not the 0, 0 of a phone without a fix."""
    lng = degrees(tags[GPS.GPSLongitude], negative=tags[GPS.GPSLongitudeRef] == "W")
    lat = degrees(tags[GPS.GPSLatitude], negative=tags[GPS.GPSLatitudeRef] == "S")
    nowhere = lng == lat == 0
    return (lng, lat) if abs(lng) <= 180 and abs(lat) <= 90 and not nowhere else None


def degrees(parts: object, *, negative: bool) -> float:
    """Degrees, minutes and seconds as one number."""
    if not isinstance(parts, tuple):
        raise TypeError
    whole, minutes, seconds = (float(part) for part in parts)
    value = whole + minutes / 60 + seconds / 3600
    return -value if negative else value


if __name__ == "__main__":
    main()
