"""Wake-ups between tasks and processes: an asyncio event here, NOTIFY on PostgreSQL. Losing one only costs a poll."""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from typing import cast

import asyncpg

_CHANNEL = "jincai"
_ALIVE_SECONDS = 10
Listener = Callable[[str], None]


class Signals:
    """Topics such as `jobs`, `events` or `caller:<id>`; every process hears every topic within milliseconds."""

    def __init__(self) -> None:
        self._waiting: dict[str, set[asyncio.Event]] = defaultdict(set)
        self._listeners: list[Listener] = []
        self._dsn: str | None = None
        self._pending: set[str] = set()
        self._has_pending = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def listen(self, listener: Listener) -> None:
        """Call `listener(topic)` for each signal, from this process or another."""
        self._listeners.append(listener)

    def send(self, topic: str) -> None:
        """Tell this process now, and the others in a moment. Call it after the commit."""
        self._deliver(topic)
        if self._dsn:
            self._pending.add(topic)
            self._has_pending.set()

    async def wait(self, topic: str, seconds: float) -> bool:
        """Sleep until `topic` is signalled, at most `seconds`; whether it was."""
        event = asyncio.Event()
        self._waiting[topic].add(event)
        try:
            await asyncio.wait_for(event.wait(), seconds)
        except TimeoutError:
            return False
        finally:
            self._waiting[topic].discard(event)
        return True

    async def open(self, dsn: str | None) -> None:
        """Join the other processes over PostgreSQL when there is one."""
        self._dsn = dsn
        if dsn:
            self._tasks = [asyncio.create_task(self._publish(dsn)), asyncio.create_task(self._hear(dsn))]

    async def close(self) -> None:
        """Leave; waiting tasks time out by themselves."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks, self._dsn = [], None

    def _deliver(self, topic: str) -> None:
        for event in self._waiting.get(topic, ()):
            event.set()
        for listener in self._listeners:
            listener(topic)

    async def _publish(self, dsn: str) -> None:
        async for connection in _connections(dsn):
            while not connection.is_closed():
                await self._has_pending.wait()
                topics, self._pending = self._pending, set()
                self._has_pending.clear()
                for topic in topics:
                    await connection.execute("SELECT pg_notify($1, $2)", _CHANNEL, topic)

    async def _hear(self, dsn: str) -> None:
        async for connection in _connections(dsn):
            await connection.add_listener(_CHANNEL, lambda *heard: self._deliver(cast(str, heard[3])))
            while not connection.is_closed():
                await asyncio.sleep(_ALIVE_SECONDS)
                await connection.execute("SELECT 1")


async def _connections(dsn: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """One connection after another, for as long as somebody asks: a database that went away may come back."""
    while True:
        try:
            connection = await asyncpg.connect(dsn, timeout=5)
        except (OSError, asyncpg.PostgresError, TimeoutError):
            await asyncio.sleep(1)
            continue
        with contextlib.suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            yield connection
        connection.terminate()


signals = Signals()
