"""Wake-ups between tasks and processes: an asyncio event here, NOTIFY on PostgreSQL. Losing one only costs a poll."""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import TypeAlias, cast

import asyncpg

_CHANNEL = "jincai"
_NOTIFY = "SELECT pg_notify($1, topic) FROM unnest($2::text[]) AS topic"
_ALIVE_SECONDS = 10
_GATHER_SECONDS = 0.01
Listener = Callable[[str], None]
Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


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
            async with asyncio.timeout(seconds):
                await event.wait()
        except TimeoutError:
            return False
        finally:
            self._waiting[topic].discard(event)
        return True

    async def open(self, dsn: str | None) -> None:
        """Join the other processes over PostgreSQL when there is one."""
        self._dsn = dsn
        if dsn:
            self._tasks = [asyncio.create_task(_keep(dsn, use)) for use in (self._publish, self._hear)]

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

    async def _publish(self, connection: Connection) -> None:
        while True:
            await self._has_pending.wait()
            self._has_pending.clear()
            topics, self._pending = list(self._pending), set()
            await connection.execute(_NOTIFY, _CHANNEL, topics)
            # Under load every commit has the same two topics: whoever is awake already need not be woken for each.
            await asyncio.sleep(_GATHER_SECONDS)

    async def _hear(self, connection: Connection) -> None:
        closed = asyncio.Event()
        connection.add_termination_listener(lambda _: closed.set())
        await connection.add_listener(_CHANNEL, lambda *heard: self._deliver(cast(str, heard[3])))
        while not closed.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_ALIVE_SECONDS):
                    await closed.wait()
            # A connection whose other end has vanished is never told so: it has to ask.
            await connection.execute("SELECT 1")


async def _keep(dsn: str, use: Callable[[Connection], Awaitable[None]]) -> None:
    """Give `use` one connection after another: a database that went away may come back."""
    while True:
        with contextlib.suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError):
            connection = await asyncpg.connect(dsn, timeout=5)
            try:
                await use(connection)
            finally:
                connection.terminate()
        await asyncio.sleep(1)


signals = Signals()
