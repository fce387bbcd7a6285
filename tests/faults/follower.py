"""A client of the live stream that comes back whenever it was cut off, as the mini-program does."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import httpx

from tests.factories import Person
from tests.faults.deployment import Deployment

_PAUSE_SECONDS = 0.3
_SILENT_SECONDS = 40
_WAIT_SECONDS = 30


class Follower:
    """Follows one person's stream; `positions` are those of all events that came, in their order."""

    def __init__(self, deployment: Deployment, who: Person) -> None:
        self.positions: list[int] = []
        self.connections = 0
        self._news = asyncio.Event()
        self._deployment = deployment
        self._who = who

    @contextlib.asynccontextmanager
    async def following(self) -> AsyncIterator[None]:
        """For as long as the block lasts."""
        task = asyncio.create_task(self._follow())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def connected(self) -> None:
        """Wait for the stream to be open."""
        await self._until(lambda: self.connections > 0)

    async def has(self, position: int) -> None:
        """Wait for an event."""
        await self._until(lambda: position in self.positions)

    async def _until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(_WAIT_SECONDS):
            while not condition():
                self._news.clear()
                await self._news.wait()

    async def _follow(self) -> None:
        while True:
            with contextlib.suppress(httpx.TransportError):
                await self._read()
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _read(self) -> None:
        headers = dict(self._who.headers)
        if self.positions:
            headers["Last-Event-ID"] = str(self.positions[-1])
        async with self._deployment.client.stream(
            "GET", "/v1/stream", headers=headers, timeout=_SILENT_SECONDS
        ) as answer:
            self.connections += answer.status_code == 200
            async for line in answer.aiter_lines():
                name, _, value = line.partition(": ")
                if name == "id":
                    self.positions.append(int(value))
                self._news.set()
