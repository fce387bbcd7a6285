"""Uploads made to hurt: refused with a typed answer in time, and nothing of the server grows or breaks."""

import asyncio
import io
import json
import os
import random
import resource
import runpy
import struct
import subprocess
import sys
import tempfile
import textwrap
import time
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest
from PIL import Image

from app import imaging
from app.errors import Problem
from app.imaging import (
    CorruptImage,
    ImageTooLarge,
    Imaging,
    ImagingBusy,
    ImagingUnavailable,
    Limits,
    Processed,
    UnsupportedImage,
)
from tests.media import pictures
from tests.media.jpeg import assert_bare

_PHOTO = pictures.encoded(pictures.quadrants(64, 48))
_MEBIBYTE = 1024 * 1024


def zeros(size: int) -> bytes:
    return zlib.compress(bytes(size), 9)


def nested_text_bomb() -> bytes:
    """Text packed twice: short for whoever unpacks it once, 64 MiB for whoever goes on."""
    layers = zlib.compress(zeros(64 * _MEBIBYTE), 9)
    return pictures.png(8, 8, [(b"zTXt", b"Comment\0\0" + layers), (b"IDAT", pictures.grey_rows(8, 8))])


def text_bomb() -> bytes:
    body = b"Comment\0\0" + zeros(64 * _MEBIBYTE)
    return pictures.png(8, 8, [(b"zTXt", body)] * 8 + [(b"IDAT", pictures.grey_rows(8, 8))])


def profile_bomb() -> bytes:
    return pictures.png(
        8, 8, [(b"iCCP", b"x\0\0" + zeros(64 * _MEBIBYTE)), (b"IDAT", pictures.grey_rows(8, 8))]
    )


def excess_pixels() -> bytes:
    """Room for 64 pixels in the header, data for 64 million behind it."""
    return pictures.png(8, 8, [(b"IDAT", zeros(64 * _MEBIBYTE))])


def webp(width: int, height: int) -> bytes:
    """A WebP of a few bytes that claims a canvas."""
    size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    body = b"WEBPVP8X" + struct.pack("<I", 10) + bytes(4) + size
    return b"RIFF" + struct.pack("<I", len(body)) + body


def animated_webp() -> bytes:
    frames = [Image.new("RGB", (8, 8), (step * 20, 0, 0)) for step in range(8)]
    return pictures.encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:])


BOMBS: dict[str, tuple[Callable[[], bytes], type[Problem]]] = {
    "50,000 x 50,000 in a few kilobytes": (
        lambda: pictures.png(50_000, 50_000, [(b"IDAT", zeros(2 * _MEBIBYTE))], depth=1),
        ImageTooLarge,
    ),
    "one pixel too many": (lambda: pictures.png(8000, 5001, [(b"IDAT", zeros(100))]), ImageTooLarge),
    "one side too long": (
        lambda: pictures.png(12_001, 2, [(b"IDAT", pictures.grey_rows(12_001, 2))]),
        ImageTooLarge,
    ),
    "the largest PNG": (lambda: pictures.png(2**31 - 1, 2**31 - 1, [(b"IDAT", zeros(9))]), ImageTooLarge),
    "a WebP canvas of 2^28 pixels": (lambda: webp(16_384, 16_384), ImageTooLarge),
    "a JPEG of 65,500 x 65,500": (lambda: pictures.with_dimensions(_PHOTO, 65_500, 65_500), ImageTooLarge),
    "a JPEG with more size than data": (lambda: pictures.with_dimensions(_PHOTO, 8000, 5000), CorruptImage),
    "a JPEG of no size": (lambda: pictures.with_dimensions(_PHOTO, 0, 0), CorruptImage),
    "a PNG of no size": (lambda: pictures.png(0, 0, [(b"IDAT", zeros(9))]), CorruptImage),
    "a PNG with more size than data": (
        lambda: pictures.png(4000, 4000, [(b"IDAT", zeros(100))]),
        CorruptImage,
    ),
    "10,000 frames": (lambda: pictures.animated_png(10_000), UnsupportedImage),
    "two frames": (lambda: pictures.animated_png(2), UnsupportedImage),
    "an animated WebP": (animated_webp, UnsupportedImage),
    "eight packed texts of 64 MiB": (text_bomb, CorruptImage),
    "a packed colour profile": (profile_bomb, CorruptImage),
}


@pytest.mark.parametrize("name", BOMBS)
async def test_bombs_are_refused_in_two_seconds_and_no_memory(name: str) -> None:
    build, problem = BOMBS[name]
    data = build()
    assert len(data) <= Limits().max_bytes
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    with pytest.raises(problem):
        await Imaging().process(data)
    assert time.monotonic() - started < 2
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 16 * 1024
    assert await asyncio.to_thread(peak_of_child, data) < 64 * _MEBIBYTE


def peak_of_child(data: bytes) -> int:
    """Bytes of memory that the child takes at most.

    The kernel counts what a process was before it became another program, so the tests must not start it themselves.
    """
    starter = """
        import resource, subprocess, sys
        subprocess.run([sys.executable, "-I", *sys.argv[1:]], stdout=subprocess.DEVNULL, check=True)
        print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
    """
    program = imaging.__file__.replace("imaging.py", "imaging_child.py")
    command = [sys.executable, "-I", "-c", textwrap.dedent(starter), program, json.dumps(asdict(Limits()))]
    with tempfile.TemporaryFile(buffering=0) as file:
        file.write(data)
        file.seek(0)
        ran = subprocess.run(command, stdin=file, stdout=subprocess.PIPE, check=True)
    return int(ran.stdout) * 1024


@pytest.mark.parametrize("build", [excess_pixels, nested_text_bomb])
async def test_what_no_pixel_needs_is_not_unpacked(build: Callable[[], bytes]) -> None:
    data, started = build(), time.monotonic()
    result = await Imaging().process(data)
    assert time.monotonic() - started < 2
    assert (result.main.width, result.main.height) == (8, 8)


@pytest.mark.slow
async def test_the_largest_allowed_pictures_fit_in_the_child() -> None:
    screenshot = pictures.encoded(
        Image.new("RGBA", (8000, 5000), (200, 10, 10, 128)), "PNG", compress_level=1
    )
    photo = pictures.encoded(Image.new("RGB", (8000, 5000), pictures.RED), progressive=True, subsampling=0)
    imaging = Imaging()
    for data in (screenshot, photo):
        assert_bare((await imaging.process(data)).main.data)


_OTHERS = {
    "nothing": b"",
    "one byte": b"\xff",
    "text": b"hello",
    "HTML named .jpg": b"<!doctype html><script>alert(1)</script>",
    "SVG with script": b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"><script>x()</script></svg>',
    "GIF of 10,000 frames": b"GIF89a"
    + b"\x08\0\x08\0\0\0\0"
    + b",\0\0\0\0\x08\0\x08\0\0\x02\x02D\x01\0" * 10_000
    + b";",
    "GIF that is script": b"GIF89a/*" + b"*/=1;alert(1)",
    "FITS": b"SIMPLE  =                    T" + b" " * 2850,
    "EPS": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
    "TIFF": pictures.encoded(pictures.quadrants(), "TIFF"),
    "BMP": pictures.encoded(pictures.quadrants(), "BMP"),
    "ICO": pictures.encoded(pictures.quadrants(), "ICO"),
    "JPEG 2000": pictures.encoded(pictures.quadrants(), "JPEG2000"),
    "AVIF": pictures.encoded(pictures.quadrants(), "AVIF"),
    "HEIC": b"\0\0\0\x24ftypheic\0\0\0\0mif1heic" + bytes(64),
    "PDF": b"%PDF-1.7\n",
    "ZIP": b"PK\x03\x04" + bytes(26),
    "WAVE": b"RIFF\x24\0\0\0WAVEfmt ",
    "ELF": b"\x7fELF" + bytes(60),
}


@pytest.mark.parametrize("name", _OTHERS)
async def test_other_kinds_are_refused_without_a_child(name: str) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    with pytest.raises(UnsupportedImage) as refused:
        await Imaging().process(_OTHERS[name])
    assert refused.value.status == 415
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime == before


def archive() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as inside:
        inside.writestr("evil.html", "<script>alert('polyglot')</script>")
    return file.getvalue()


_TAILS = {
    "HTML": b"<html><script>alert('polyglot')</script></html>",
    "JavaScript": b"*/=1;alert('polyglot')//",
    "PHP": b"<?php system('polyglot'); ?>",
    "ZIP": archive(),
    "another JPEG": pictures.encoded(Image.new("RGB", (8, 8)), comment=b"polyglot"),
}


@pytest.mark.parametrize(
    ("kind", "tail"), [*(("JPEG", tail) for tail in _TAILS), ("PNG", "PHP"), ("WEBP", "JavaScript")]
)
async def test_only_pixels_of_a_polyglot_are_kept(kind: str, tail: str) -> None:
    data = pictures.encoded(pictures.quadrants(), kind) + _TAILS[tail]
    assert b"polyglot" in data
    result = await Imaging().process(data)
    for rendition in (result.main, result.thumbnail):
        assert_bare(rendition.data)
        for trace in (b"polyglot", b"<script", b"<?php", b"PK\x03\x04"):
            assert trace not in rendition.data


async def test_script_in_a_comment_is_gone() -> None:
    data = pictures.encoded(pictures.quadrants(), comment=b"<script>polyglot</script>" * 2000)
    result = await Imaging().process(data)
    assert_bare(result.main.data)
    assert b"polyglot" not in result.main.data


async def test_too_many_bytes(tmp_path: Path) -> None:
    exactly, over = tmp_path / "exactly", tmp_path / "over"
    for path, size in ((exactly, Limits().max_bytes), (over, Limits().max_bytes + 1)):
        path.write_bytes(_PHOTO)
        os.truncate(path, size)
    assert (await Imaging().process(exactly)).main.width == 64
    with pytest.raises(ImageTooLarge) as refused:
        await Imaging().process(over)
    assert refused.value.status == 413


async def outcomes_of(variants: list[bytes]) -> list[Processed | BaseException]:
    imaging = Imaging(waiting=len(variants))
    return await asyncio.gather(*map(imaging.process, variants), return_exceptions=True)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
async def test_a_picture_cut_anywhere_is_corrupt(kind: str) -> None:
    photo, chance = pictures.encoded(pictures.quadrants(), kind), random.Random(kind)
    # What ends a PNG after its pixels may be missing.
    cuts = chance.sample(range(16, len(photo) - 24), 24)
    for cut, outcome in zip(cuts, await outcomes_of([photo[:cut] for cut in cuts]), strict=True):
        assert isinstance(outcome, CorruptImage), (cut, outcome)
        assert outcome.status == 422


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
async def test_a_picture_changed_anywhere_is_taken_or_refused(kind: str) -> None:
    photo, chance = pictures.encoded(pictures.quadrants(), kind), random.Random(kind)
    variants = []
    for _ in range(24):
        changed = bytearray(photo)
        for _ in range(chance.randint(1, 4)):
            changed[chance.randrange(12, len(photo))] = chance.randrange(256)
        variants.append(bytes(changed))
    for data, outcome in zip(variants, await outcomes_of(variants), strict=True):
        if isinstance(outcome, Processed):
            assert_bare(outcome.main.data)
        else:
            assert isinstance(outcome, CorruptImage | UnsupportedImage | ImageTooLarge), (data, outcome)


async def test_broken_tags_cost_the_tags_and_not_the_photo() -> None:
    tags = pictures.exif(taken="2026:03:02 08:14:20").tobytes()
    chance, imaging = random.Random(7), Imaging()
    for _ in range(8):
        broken = bytearray(tags)
        for _ in range(12):
            broken[chance.randrange(6, len(broken))] = chance.randrange(256)
        assert_bare(
            (await imaging.process(pictures.encoded(pictures.quadrants(), exif=bytes(broken)))).main.data
        )


async def test_too_much_memory_is_refused_by_the_limit() -> None:
    data = pictures.encoded(Image.new("RGB", (4000, 3000), pictures.RED), "PNG", compress_level=1)
    with pytest.raises(ImageTooLarge):
        await Imaging(Limits(memory_bytes=64 * _MEBIBYTE)).process(data)


async def test_too_much_processor_time_is_refused_by_the_limit() -> None:
    started = time.monotonic()
    with pytest.raises(ImageTooLarge):
        await Imaging(Limits(cpu_seconds=1)).process(pictures.scan_bomb())
    assert time.monotonic() - started < 8
    assert not children()


async def test_too_much_time_ends_the_child() -> None:
    with pytest.raises(ImagingBusy) as late:
        await Imaging(Limits(wall_seconds=0.5)).process(pictures.scan_bomb())
    assert late.value.status == 503
    assert late.value.retry_after
    assert not children()


async def test_cancelling_ends_the_child(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JINCAI_SECRET_KEYS", "of-no-business-to-the-child")
    task = asyncio.create_task(Imaging().process(pictures.scan_bomb()))
    child = await running_child()
    assert b"business" not in environment_of(child)
    assert os.getpgid(child) == child
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not children()


async def test_a_child_that_crashes_is_a_typed_refusal() -> None:
    task = asyncio.create_task(Imaging().process(pictures.scan_bomb()))
    os.kill(await running_child(), 11)
    with pytest.raises(CorruptImage):
        await task


async def test_the_line_is_bounded_and_moves_on() -> None:
    imaging = Imaging(at_once=1, waiting=1)
    slow = asyncio.create_task(imaging.process(pictures.scan_bomb()))
    await running_child()
    waits = asyncio.create_task(imaging.process(_PHOTO))
    await until(lambda: imaging.in_line == 2)
    with pytest.raises(ImagingBusy) as busy:
        await imaging.process(_PHOTO)
    assert busy.value.retry_after
    slow.cancel()
    assert (await waits).main.width == 64
    assert (await imaging.process(_PHOTO)).main.width == 64
    assert imaging.in_line == 0


async def test_never_more_children_than_allowed() -> None:
    imaging, seen = Imaging(at_once=2), set[int]()
    tasks = [asyncio.create_task(imaging.process(_PHOTO)) for _ in range(8)]

    def all_done() -> bool:
        seen.add(len(children()))
        return all(task.done() for task in tasks)

    await until(all_done)
    assert max(seen) == 2
    assert all(task.result().main.width == 64 for task in tasks)


async def test_a_source_that_is_gone_is_our_fault(tmp_path: Path) -> None:
    with pytest.raises(ImagingUnavailable) as failed:
        await Imaging().process(tmp_path / "gone")
    assert failed.value.status == 503


@pytest.mark.parametrize(
    "attempt",
    [
        "open('/etc/passwd')",
        "open('/tmp/written', 'w')",
        "socket.socket()",
        "socket.create_connection(('127.0.0.1', 9))",
        "os.pipe()",
        "bytearray(600 << 20)",
    ],
)
def test_a_confined_process_has_no_files_no_network_and_no_memory(attempt: str) -> None:
    program = f"""
        import json, os, runpy, socket
        confine = runpy.run_path({imaging.__file__.replace("imaging.py", "imaging_child.py")!r})["confine"]
        confine({{"memory_bytes": 512 << 20, "cpu_seconds": 5}})
        try:
            {attempt}
        except (OSError, MemoryError) as refused:
            os.write(1, type(refused).__name__.encode())
        else:
            os.write(1, b"allowed")
    """
    ran = subprocess.run([sys.executable, "-I", "-c", textwrap.dedent(program)], capture_output=True)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.decode() in ("OSError", "MemoryError")


def test_the_child_imports_nothing_of_the_application() -> None:
    path = imaging.__file__.replace("imaging.py", "imaging_child.py")
    before = set(sys.modules)
    runpy.run_path(path)
    assert not {name for name in set(sys.modules) - before if name.startswith("app")}
    assert "app." not in Path(path).read_text().replace("imaging_child.py", "")


def started() -> set[int]:
    """Processes that this one has started and not yet collected."""
    listings = Path("/proc/self/task").glob("*/children")
    return {int(number) for listing in listings for number in listing.read_text().split()}


# The database server of a run in one process is older than its tests.
_OLDER = started()


def children() -> set[int]:
    """Those of them that these tests have started."""
    return started() - _OLDER


def environment_of(process: int) -> bytes:
    return Path(f"/proc/{process}/environ").read_bytes()


def has_worked(process: int) -> bool:
    """Whether it has used a quarter of a second of processor time, so that it is decoding by now."""
    fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
    return int(fields[11]) >= 25


async def running_child() -> int:
    """The one child, once it is in the middle of its work."""
    await until(lambda: bool(children()))
    (child,) = children()
    await until(lambda: has_worked(child))
    return child


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(2000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it did not come to that in ten seconds")
