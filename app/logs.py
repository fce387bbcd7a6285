"""Logs: one line per event, fields from a list, values scrubbed, and nothing that a client could forge or fill.

Bodies, query strings and texts of foreign exceptions are never logged: personal data travels in all of them.
"""

import asyncio
import atexit
import contextlib
import logging
import sys
import threading
from collections.abc import Iterable, Mapping
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Literal
from uuid import UUID

import orjson
import structlog

from app import clock
from app.context import request_id
from app.masking import scrub

Format = Literal["json", "text"]
Level = Literal["debug", "info", "warning", "error", "critical"]

_NAMES = """
    address api bytes_in bytes_out caller caller_kind code count errcode error kind method milliseconds operation part
    path reason rid route seconds status subject_id task url
"""
FIELDS = frozenset(_NAMES.split())
"""What may be logged beside the event itself; anything else is dropped. None of these ever names a person."""

_LONGEST = 300
_FRAMES = 12
_LINES_AT_ONCE = 256
_GATHER_SECONDS = 0.2
_OWN_WORDS = ("app", "uvicorn", "alembic")
_PACKAGE = Path(__file__).parent


class Writer:
    """Lines for a file descriptor, gathered for a moment while an event loop runs: a write costs more than a line."""

    def __init__(self, descriptor: int) -> None:
        self._file = open(descriptor, "wb", buffering=0, closefd=False)  # noqa: SIM115
        self._lines: list[bytes] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock = threading.Lock()

    def write(self, line: bytes, *, now: bool) -> None:
        """Add one line; `now` when it must not be lost."""
        self._lines.append(line)
        if now or len(self._lines) >= _LINES_AT_ONCE:
            self.flush()
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self.flush()
            return
        if loop is not self._loop:
            self._loop = loop
            loop.call_later(_GATHER_SECONDS, self._gathered)

    def flush(self) -> None:
        """Write what was gathered. A full disk or a closed pipe must not stop the service."""
        with self._lock:
            lines, self._lines = self._lines, []
        if lines:
            with contextlib.suppress(OSError):
                self._file.write(b"".join(lines))

    def _gathered(self) -> None:
        self._loop = None
        self.flush()


_writer = Writer(2)
_format: Format = "json"
atexit.register(_writer.flush)


def configure(chosen: Format) -> None:
    """Send structlog's and the standard library's lines through here. May be called again."""
    global _format
    _format = chosen
    structlog.configure(
        processors=[_to_line],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=_Sink,
        cache_logger_on_first_use=True,
    )
    logging.root.handlers = [_Handler()]
    logging.root.setLevel(logging.INFO)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "uvicorn.asgi"):
        foreign = logging.getLogger(name)
        foreign.handlers, foreign.propagate = [], name != "uvicorn.access"
    for name in ("sqlalchemy", "asyncpg", "aiosqlite"):
        logging.getLogger(name).setLevel(logging.WARNING)


def access(level: Level, fields: Mapping[str, object]) -> None:
    """One line about one request; the fields are ours and clean, so that this is the fast way."""
    if _format == "text":
        emit(level, "http", "request", fields)
        return
    record = {"time": clock.now(), "level": level, "logger": "http", "event": "request", **fields}
    _writer.write(orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z), now=False)


def emit(
    level: str, logger: str, event: str, fields: Mapping[str, object], failure: BaseException | None = None
) -> None:
    """One line about anything."""
    _writer.write(line(level, logger, event, fields, failure), now=level not in ("debug", "info"))


def flush() -> None:
    """Write what is still gathered."""
    _writer.flush()


def line(
    level: str, logger: str, event: str, fields: Mapping[str, object], failure: BaseException | None
) -> bytes:
    """The line itself, in the format of this deployment."""
    record: dict[str, object] = {
        "time": clock.now(),
        "level": level,
        "logger": logger,
        "event": _clean(event),
    }
    if request_id.get() is not None:
        record["request_id"] = request_id.get()
    record |= {name: _plain(value) for name, value in fields.items() if name in FIELDS}
    if failure is not None:
        record |= _described(failure)
    if _format == "text":
        return _as_text(record)
    return orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z)


def _plain(value: object) -> object:
    if value is None or isinstance(value, bool | int | float | UUID | datetime):
        return value
    if isinstance(value, Enum):
        return _plain(value.value)
    if isinstance(value, str):
        return _clean(value)
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(part) for part in list(value)[:20]]
    return type(value).__name__


def _clean(text: str) -> str:
    """Scrubbed, bounded, and without any character that moves a cursor, ends a line or turns the reading order."""
    text = scrub(text[:_LONGEST])
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else f"\\u{ord(char):04x}" for char in text)


def _described(error: BaseException) -> dict[str, object]:
    """The kinds of an exception and of its causes, and where it happened: neither its text nor any variable."""
    chain = list(_causes(error))
    described: dict[str, object] = {"error": _kind(error), "at": _frames(error)}
    if len(chain) > 1:
        described["cause"] = [_kind(each) for each in chain[1:]]
    for each in chain:
        for name in ("errno", "sqlstate"):
            number = getattr(each, name, None)
            if isinstance(number, int | str):
                described[name] = number
    if _format == "text":
        described["message"] = _clean(str(error))
    return described


def _causes(error: BaseException | None) -> Iterable[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _kind(error: BaseException) -> str:
    return f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins.")


def _frames(error: BaseException) -> list[str]:
    frames = []
    step = error.__traceback__
    while step is not None:
        code = step.tb_frame.f_code
        frames.append(f"{_short(code.co_filename)}:{step.tb_lineno} {code.co_name}")
        step = step.tb_next
    return frames[-_FRAMES:]


def _short(filename: str) -> str:
    path = Path(filename)
    if path.is_relative_to(_PACKAGE):
        return str(path.relative_to(_PACKAGE.parent))
    return "/".join(path.parts[-2:])


def _as_text(record: dict[str, object]) -> bytes:
    del record["time"]
    head = [f"{clock.now().astimezone(clock.SHANGHAI):%H:%M:%S}", f"{record.pop('level')!s:7}"]
    head += [f"{record.pop('logger')}:", str(record.pop("event"))]
    return " ".join([*head, *(f"{name}={value}" for name, value in record.items())]).encode() + b"\n"


class _Sink:
    """What structlog calls at the end: the line is written already by the processor."""

    def __init__(self, *name: str) -> None:
        self.name = ".".join(name)

    def _write(
        self, *, level: str, event: str, fields: Mapping[str, object], failure: BaseException | None
    ) -> None:
        emit(level, self.name, event, fields, failure)

    debug = info = warning = error = critical = exception = msg = _write


def _to_line(_: object, method: str, fields: structlog.typing.EventDict) -> structlog.typing.EventDict:
    event, failure = str(fields.pop("event")), fields.pop("exc_info", None)
    level = "error" if method == "exception" else method
    return {"level": level, "event": event, "fields": fields, "failure": _current(failure)}


def _current(exc_info: object) -> BaseException | None:
    """The exception that `exc_info` means in logging: itself, a triple, or True for the one being handled."""
    if isinstance(exc_info, BaseException):
        return exc_info
    error = exc_info[1] if isinstance(exc_info, tuple) else sys.exc_info()[1] if exc_info else None
    return error if isinstance(error, BaseException) else None


class _Handler(logging.Handler):
    """Lines of libraries. Only ours and uvicorn's are filled in: others put whole values into their texts."""

    def emit(self, record: logging.LogRecord) -> None:
        known = record.name.partition(".")[0] in _OWN_WORDS
        text = record.getMessage() if known else str(record.msg)
        event = (text.strip().splitlines() or [""])[0]
        emit(record.levelname.lower(), record.name, event, {}, _current(record.exc_info))
