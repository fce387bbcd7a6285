"""Connections that stay open, each with two faces: SQLAlchemy's for sessions, the driver's own for what is hot.

Both faces see one transaction, because neither SQLAlchemy nor the driver begins it: the lane does. To check a
connection out of SQLAlchemy's pool and let it begin and commit costs several times what our queries cost.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Protocol, cast

import aiosqlite
import asyncpg
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession
from sqlalchemy.orm import Session

from app.errors import Unavailable

_GATE_SECONDS = 5.0
LANE = "lane"
"""Where a session keeps its lane."""


class Gate(asyncio.Semaphore):
    """Turns at the database, first come, first served: otherwise newcomers overtake those who wait for a connection."""

    @property
    def free(self) -> int:
        """Turns that nobody has."""
        return self._value

    @property
    def waiting(self) -> int:
        """How many stand in line."""
        return len(self._waiters or ())

    async def enter(self) -> None:
        """Take a turn; Unavailable for whoever waits too long."""
        if self._value > 0 and not self._waiters:
            self._value -= 1
            return
        try:
            async with asyncio.timeout(_GATE_SECONDS):
                await self.acquire()
        except TimeoutError:
            raise Unavailable(retry_after=2) from None


class Driver(Protocol):
    """What we ask of a driver behind SQLAlchemy's back."""

    async def fetch(self, sql: str, arguments: Sequence[object]) -> Sequence[Sequence[object]]:
        """All rows of one statement with positional arguments."""

    async def begin(self) -> None:
        """Begin a transaction that may write."""

    async def commit(self) -> None:
        """Make it durable."""

    async def rollback(self) -> None:
        """Undo it."""

    @property
    def is_open(self) -> bool:
        """Whether the other end is there, as far as the driver has noticed."""


class Postgres:
    """asyncpg, which keeps the statements it has seen prepared."""

    def __init__(self, connection: object) -> None:
        self._connection = cast("asyncpg.Connection[asyncpg.Record]", connection)

    async def fetch(self, sql: str, arguments: Sequence[object]) -> Sequence[Sequence[object]]:
        """All rows; they also answer to the names of their columns."""
        return cast(Sequence[Sequence[object]], await self._connection.fetch(sql, *arguments))

    async def begin(self) -> None:
        """Begin; locks are taken row by row."""
        await self._connection.execute("BEGIN")

    async def commit(self) -> None:
        """Make it durable."""
        await self._connection.execute("COMMIT")

    async def rollback(self) -> None:
        """Undo it."""
        await self._connection.execute("ROLLBACK")

    @property
    def is_open(self) -> bool:
        """False as soon as the server has hung up."""
        return not self._connection.is_closed()


class Sqlite:
    """aiosqlite."""

    is_open = True

    def __init__(self, connection: object) -> None:
        self._connection = cast(aiosqlite.Connection, connection)

    async def fetch(self, sql: str, arguments: Sequence[object]) -> Sequence[Sequence[object]]:
        """All rows."""
        return list(await self._connection.execute_fetchall(sql, arguments))

    async def begin(self) -> None:
        """Take the lock of the one writer now: a deferred one fails when somebody else committed since."""
        await self._connection.execute_fetchall("BEGIN IMMEDIATE")

    async def commit(self) -> None:
        """Make it durable."""
        await self._connection.commit()

    async def rollback(self) -> None:
        """Undo it."""
        await self._connection.rollback()


class Lane:
    """One connection. It is `spoiled` while a transaction is open, and for good when one did not end well."""

    def __init__(self, connection: AsyncConnection, driver: Driver) -> None:
        self.connection, self.driver = connection, driver
        self._spoiled = False

    @property
    def is_usable(self) -> bool:
        """Whether the next caller may have it."""
        left_open = self._spoiled or self.connection.get_transaction() is not None
        return not left_open and self.driver.is_open and not self.connection.invalidated

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        """Committed at the end of the block, rolled back when it raises."""
        self._spoiled = True
        await self.driver.begin()
        try:
            yield
            await self.driver.commit()
        except BaseException:
            # Whatever became of it: what went wrong before is what the caller has to know.
            with contextlib.suppress(Exception):
                await self.driver.rollback()
                self._spoiled = False
            raise
        self._spoiled = False

    async def close(self) -> None:
        """Hang up, at once when nobody knows what state the connection is in."""
        with contextlib.suppress(Exception):
            if self._spoiled:
                await self.connection.invalidate()
            await self.connection.close()


class Lanes:
    """All lanes of one engine. A caller waits for a turn; lanes are opened when they are needed, and kept."""

    def __init__(self, engine: AsyncEngine, size: int, driver: type[Postgres] | type[Sqlite]) -> None:
        self.gate = Gate(size)
        self._engine, self._driver = engine, driver
        self._free: list[Lane] = []

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncIterator[Lane]:
        """One lane for the length of the block."""
        lane = await self.take()
        try:
            yield lane
        finally:
            await self.give_back(lane)

    async def take(self) -> Lane:
        """The same without a block; `give_back` it whatever happens."""
        await self.gate.enter()
        try:
            while self._free:
                lane = self._free.pop()
                if lane.driver.is_open:
                    return lane
                await lane.close()
            return await self._open()
        except BaseException:
            self.gate.release()
            raise

    def keep(self, lane: Lane) -> None:
        """End a turn in which the driver alone was used, and nothing went wrong."""
        self._free.append(lane)
        self.gate.release()

    async def give_back(self, lane: Lane) -> None:
        """End the turn, however it went."""
        try:
            if lane.is_usable:
                self._free.append(lane)
            else:
                await lane.close()
        finally:
            self.gate.release()

    async def close(self) -> None:
        """Hang up everywhere."""
        while self._free:
            await self._free.pop().close()
        await self._engine.dispose()

    async def _open(self) -> Lane:
        connection = await self._engine.connect()
        raw = await connection.get_raw_connection()
        return Lane(connection, self._driver(raw.driver_connection))


def driver_of(session: AsyncSession | Session) -> Driver:
    """The driver's face of the connection that a session is on, in the same transaction."""
    lane: Lane = session.info[LANE]
    return lane.driver
