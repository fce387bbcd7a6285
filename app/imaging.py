"""Turns an uploaded picture into two clean JPEGs, in a child process that is allowed next to nothing."""

import asyncio
import json
import os
import signal
import sys
import tempfile
from asyncio import StreamReader
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from io import BytesIO, FileIO
from pathlib import Path
from typing import Annotated, BinaryIO, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from app.clock import SHANGHAI
from app.errors import BodyTooLarge, InvalidInput, Unavailable, UnsupportedMediaType
from app.geo import Point

Source: TypeAlias = Path | BinaryIO | bytes
"""A picture as it came; a stream is read from where it stands."""

_CHILD = Path(__file__).with_name("imaging_child.py")
_MAX_ANSWER_BYTES = 16 * 1024 * 1024
_CHUNK_BYTES = 256 * 1024
_MAX_WAIT_SECONDS = 15.0
_RETRY_AFTER_SECONDS = 5
_HEAD_BYTES = 16
_START, _SCAN, _END = b"\xff\xd8", b"\xff\xda", b"\xff\xd9"
# JFIF header, quantisation and Huffman tables, frame, restart interval (ITU-T T.81, table B.1).
_PICTURE_MARKERS = frozenset(bytes((0xFF, code)) for code in (0xE0, 0xDB, 0xC4, 0xC0, 0xC1, 0xC2, 0xDD))


class UnsupportedImage(UnsupportedMediaType):
    """By its content this is no still JPEG, PNG or WebP picture."""

    code = "unsupported_image"
    title_en = "Only still JPEG, PNG and WebP pictures are taken (not HEIC or GIF)"
    title_zh = "仅支持静态的 JPEG、PNG、WebP 图片（不支持 HEIC、GIF）"


class ImageTooLarge(BodyTooLarge):
    """Too many bytes or pixels, or decoding needs more memory or time than a picture is given."""

    code = "image_too_large"
    title_en, title_zh = "The picture is too large", "图片过大"


class CorruptImage(InvalidInput):
    """It starts like a picture, but cannot be decoded to its end."""

    code = "corrupt_image"
    title_en, title_zh = "The picture is damaged and cannot be read", "图片已损坏，无法读取"


class ImagingBusy(Unavailable):
    """Too many pictures wait, or this one was not finished in time."""

    code = "imaging_busy"
    title_en, title_zh = "Too many pictures are being processed, try again soon", "图片处理繁忙，请稍后重试"


class ImagingUnavailable(Unavailable):
    """The child process cannot be started or does not work: a fault of ours, not of the picture."""

    code = "imaging_unavailable"
    title_en, title_zh = "Pictures cannot be processed now", "暂时无法处理图片"


@dataclass(frozen=True, slots=True)
class Limits:
    """What an upload may cost: bytes, pixels, seconds."""

    max_bytes: int = 10 * 1024 * 1024
    max_pixels: int = 40_000_000
    max_side: int = 12_000
    memory_bytes: int = 512 * 1024 * 1024
    cpu_seconds: int = 5
    wall_seconds: float = 10.0
    main_side: int = 2048
    thumbnail_side: int = 320


@dataclass(frozen=True, slots=True)
class Rendition:
    """A JPEG without any metadata, upright, in sRGB."""

    data: bytes
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Processed:
    """The two renditions, and what the photo said about itself: claims, not facts.

    `gps_wgs84` is for the uploader alone, as a suggestion; a time without an offset is taken as China's.
    """

    main: Rendition
    thumbnail: Rendition
    gps_wgs84: Point | None
    taken_at: datetime | None


def is_bare(jpeg: bytes) -> bool:
    """Whether a JPEG has nothing in it or behind it but the picture: what we make, and what needs no developing."""
    at, left = 2, jpeg[:2] == _START and jpeg[-2:] == _END
    while left:
        marker, length = jpeg[at : at + 2], int.from_bytes(jpeg[at + 2 : at + 4])
        if marker == _SCAN:
            return jpeg.find(_END, at) == len(jpeg) - len(_END)
        left = length >= 2 and marker in _PICTURE_MARKERS
        at += 2 + length
    return False


class Imaging:
    """A bounded number of children at once, a bounded number of uploads waiting for one; `in_line` counts both."""

    def __init__(self, limits: Limits = Limits(), *, at_once: int = 2, waiting: int = 16) -> None:
        self.limits = limits
        self._slots = asyncio.Semaphore(at_once)
        self._room = at_once + waiting
        self.in_line = 0

    async def process(self, source: Source) -> Processed:
        """Develop a picture; the source is left as it is.

        Raises UnsupportedImage (415), ImageTooLarge (413), CorruptImage (422), ImagingBusy and
        ImagingUnavailable (503).
        """
        with await asyncio.to_thread(_opened, source) as file:
            self._check_from_outside(file)
            async with self._slot():
                output = await self._develop(file)
        return _processed(output)

    def _check_from_outside(self, file: FileIO) -> None:
        if os.fstat(file.fileno()).st_size > self.limits.max_bytes:
            raise ImageTooLarge
        if not _is_known(os.pread(file.fileno(), _HEAD_BYTES, 0)):
            raise UnsupportedImage

    @asynccontextmanager
    async def _slot(self) -> AsyncIterator[None]:
        if self.in_line >= self._room:
            raise ImagingBusy(retry_after=_RETRY_AFTER_SECONDS)
        self.in_line += 1
        try:
            try:
                async with asyncio.timeout(_MAX_WAIT_SECONDS):
                    await self._slots.acquire()
            except TimeoutError as late:
                raise ImagingBusy(retry_after=_RETRY_AFTER_SECONDS) from late
            try:
                yield
            finally:
                self._slots.release()
        finally:
            self.in_line -= 1

    async def _develop(self, file: FileIO) -> bytes:
        child, pipe = await _started(file, self.limits)
        try:
            async with asyncio.timeout(self.limits.wall_seconds):
                output = await _all_of(pipe)
                status = await child.wait()
        except TimeoutError as late:
            raise ImagingBusy(retry_after=_RETRY_AFTER_SECONDS) from late
        finally:
            await _ended(child)
        _check_status(status)
        return output


def _opened(source: Source) -> FileIO:
    """An unbuffered file to hand to the child, which reads it from the start."""
    try:
        if isinstance(source, Path):
            return FileIO(source)
        file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - the caller closes it
        _copy(BytesIO(source) if isinstance(source, bytes) else source, file)
        file.seek(0)
    except OSError as error:
        raise ImagingUnavailable(retry_after=_RETRY_AFTER_SECONDS) from error
    return file


def _copy(source: BinaryIO, file: FileIO) -> None:
    """Piece by piece: many large pictures at once must not lie in memory. A disk that fills up takes half a piece."""
    while piece := memoryview(source.read(_CHUNK_BYTES)):
        while piece:
            piece = piece[file.write(piece) :]


def _is_known(head: bytes) -> bool:
    webp = head.startswith(b"RIFF") and head[8:15] == b"WEBPVP8"
    return webp or head.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"))


async def _started(file: FileIO, limits: Limits) -> tuple[Process, StreamReader]:
    try:
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-I",
            str(_CHILD),
            json.dumps(asdict(limits)),
            stdin=file,
            stdout=PIPE,
            stderr=DEVNULL,
            env={},  # our secrets are in ours
            cwd="/",
            start_new_session=True,
        )
    except OSError as error:
        raise ImagingUnavailable(retry_after=_RETRY_AFTER_SECONDS) from error
    if child.stdout is None:
        raise TypeError("a child started with PIPE has a stdout")
    return child, child.stdout


async def _all_of(pipe: StreamReader) -> bytes:
    output = bytearray()
    while chunk := await pipe.read(_CHUNK_BYTES):
        output += chunk
        if len(output) > _MAX_ANSWER_BYTES:
            raise ImagingUnavailable(retry_after=_RETRY_AFTER_SECONDS)
    return bytes(output)


async def _ended(child: Process) -> None:
    if child.returncode is None:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        await child.wait()


def _check_status(status: int) -> None:
    if status in (-signal.SIGXCPU, -signal.SIGKILL):
        raise ImageTooLarge
    if status < 0:
        raise CorruptImage
    if status > 0:
        raise ImagingUnavailable(retry_after=_RETRY_AFTER_SECONDS)


class _Sized(BaseModel):
    model_config = ConfigDict(extra="forbid")

    width: Annotated[int, Field(ge=1, le=65535)]
    height: Annotated[int, Field(ge=1, le=65535)]
    bytes: Annotated[int, Field(ge=1, le=_MAX_ANSWER_BYTES)]


class _Answer(BaseModel):
    """The child's line. It has handled hostile input, so it is believed no more than a client."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    main: _Sized
    thumbnail: _Sized
    gps: tuple[Annotated[float, Field(ge=-180, le=180)], Annotated[float, Field(ge=-90, le=90)]] | None
    taken: str | None
    offset: str | None


class _Refusal(BaseModel):
    model_config = ConfigDict(extra="forbid")

    refused: Literal["too_large", "animated", "corrupt"]


_REFUSALS = {"too_large": ImageTooLarge, "animated": UnsupportedImage, "corrupt": CorruptImage}


def _processed(output: bytes) -> Processed:
    line, _, pictures = output.partition(b"\n")
    answer = _understood(line)
    if isinstance(answer, _Refusal):
        raise _REFUSALS[answer.refused]
    end = answer.main.bytes
    main, thumbnail = pictures[:end], pictures[end:]
    if len(thumbnail) != answer.thumbnail.bytes or not (_is_jpeg(main) and _is_jpeg(thumbnail)):
        raise ImagingUnavailable(retry_after=_RETRY_AFTER_SECONDS)
    return Processed(
        main=Rendition(main, answer.main.width, answer.main.height),
        thumbnail=Rendition(thumbnail, answer.thumbnail.width, answer.thumbnail.height),
        gps_wgs84=Point(*answer.gps) if answer.gps else None,
        taken_at=_taken_at(answer.taken, answer.offset),
    )


def _understood(line: bytes) -> _Answer | _Refusal:
    model = _Refusal if line.startswith(b'{"refused"') else _Answer
    try:
        return model.model_validate_json(line)
    except ValidationError as error:
        raise ImagingUnavailable(retry_after=_RETRY_AFTER_SECONDS) from error


def _is_jpeg(data: bytes) -> bool:
    return data.startswith(b"\xff\xd8\xff") and data.endswith(b"\xff\xd9")


def _taken_at(taken: str | None, offset: str | None) -> datetime | None:
    """EXIF's DateTimeOriginal and OffsetTimeOriginal; many phones write local time without the offset."""
    try:
        local = datetime.strptime(taken or "", "%Y:%m:%d %H:%M:%S").replace(tzinfo=SHANGHAI)
    except ValueError:
        return None
    try:
        return datetime.strptime(f"{taken}{offset}", "%Y:%m:%d %H:%M:%S%z")
    except ValueError:
        return local
