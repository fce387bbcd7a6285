"""A client of the live stream that reads frame by frame and hangs up when told."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from starlette.types import ASGIApp, Message

from tests.factories import Person


@dataclass(frozen=True)
class Frame:
    """One frame of the stream: comments and the rest apart."""

    id: str | None
    data: dict[str, Any] | None
    comment: str | None
    retry: str | None


@dataclass
class Listener:
    """An open stream."""

    status: int = 0
    frames: asyncio.Queue[Frame] = field(default_factory=asyncio.Queue)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    refusal: bytes = b""

    async def events(self, count: int, seconds: float = 10) -> list[Frame]:
        """The next so many events."""
        found: list[Frame] = []
        async with asyncio.timeout(seconds):
            while len(found) < count:
                frame = await self.frames.get()
                if frame.data is not None:
                    found.append(frame)
        return found

    async def silence(self, seconds: float = 0.5) -> None:
        """Fail when an event comes."""
        with contextlib.suppress(TimeoutError):
            raise AssertionError(await self.events(1, seconds))


@contextlib.asynccontextmanager
async def listening(
    application: ASGIApp,
    who: Person | None,
    *,
    headers: Mapping[str, str] | None = None,
    **query: str,
) -> AsyncIterator[Listener]:
    """Open the stream as somebody; hang up at the end of the block."""
    listener, hung_up, begun = Listener(), asyncio.Event(), asyncio.Event()
    requests: list[Message] = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> Message:
        if requests:
            return requests.pop()
        await hung_up.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            listener.status = message["status"]
            return
        body = message.get("body", b"")
        if listener.status == 200 and body:
            listener.frames.put_nowait(_frame(body.decode()))
        listener.refusal += b"" if listener.status == 200 else body
        begun.set()

    given = ({} if who is None else who.headers) | dict(headers or {})
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/v1/stream",
        "raw_path": b"/v1/stream",
        "query_string": urlencode(query).encode(),
        "root_path": "",
        "headers": [(name.lower().encode(), value.encode()) for name, value in given.items()],
        "server": ("testserver", 80),
        "client": ("10.8.8.8", 40_000),
    }
    running = asyncio.ensure_future(application(scope, receive, send))
    running.add_done_callback(lambda _: listener.ended.set())
    try:
        await asyncio.wait_for(begun.wait(), 10)
        yield listener
    finally:
        hung_up.set()
        await asyncio.wait_for(running, 10)


def _frame(text: str) -> Frame:
    lines = [line.partition(": ") for line in text.strip().split("\n")]
    found = {name: value for name, _, value in lines}
    data = found.get("data")
    return Frame(found.get("id"), json.loads(data) if data else None, found.get(""), found.get("retry"))
