"""The database: one write transaction per write request, reads without a transaction, on SQLite or PostgreSQL."""

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

from sqlalchemy import event
from sqlalchemy.dialects.postgresql import Insert as PostgresInsert
from sqlalchemy.dialects.postgresql import insert as postgres_insert
from sqlalchemy.dialects.sqlite import Insert as SqliteInsert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.engine import URL, Connection, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase
from sqlalchemy.pool import ConnectionPoolEntry

from app.errors import Unavailable
from app.settings import Settings, settings
from app.signals import signals

_GATE_SECONDS = 5.0
_AFTER_COMMIT = "after_commit"


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


class Database:
    """The engines of one process. `open()` before use, `close()` at the end."""

    def __init__(self) -> None:
        self._write: AsyncEngine | None = None
        self._read: AsyncEngine | None = None
        self.write_gate, self.read_gate = Gate(1), Gate(1)

    @property
    def writer(self) -> AsyncEngine:
        """The engine that may change data."""
        if self._write is None:
            raise RuntimeError("the database is not open")
        return self._write

    @property
    def reader(self) -> AsyncEngine:
        """The engine for reads: AUTOCOMMIT, possibly a replica."""
        if self._read is None:
            raise RuntimeError("the database is not open")
        return self._read

    async def open(self, chosen: Settings = settings) -> None:
        """Create the engines; connections are made when they are first needed."""
        if chosen.is_sqlite:
            path = Path(make_url(chosen.database_url).database or "")
            path.parent.mkdir(parents=True, exist_ok=True)
            self._write, self._read = _sqlite_writer(path), _sqlite_reader(path)
            self.write_gate, self.read_gate = Gate(1), Gate(8)
        else:
            size = chosen.database_pool_size
            read_url = chosen.read_database_url or chosen.database_url
            self._write, self._read = _postgres(chosen.database_url, size), _postgres_reader(read_url, size)
            self.write_gate, self.read_gate = Gate(size), Gate(size)
        await signals.open(None if chosen.is_sqlite else chosen.database_url)

    async def close(self) -> None:
        """Give every connection back."""
        await signals.close()
        for engine in (self._write, self._read):
            if engine is not None:
                await engine.dispose()
        self._write = self._read = None

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncSession]:
        """One write transaction: committed at the end of the block, rolled back when it raises."""
        async with _turn(self.write_gate), _translated():
            async with AsyncSession(self.writer, expire_on_commit=False) as session:
                yield session
                await session.commit()
        for topic in session.info.pop(_AFTER_COMMIT, ()):
            signals.send(topic)

    @contextlib.asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncSession]:
        """A session for reads only; each statement sees the latest commit."""
        async with _turn(self.read_gate), _translated():
            async with AsyncSession(self.reader, expire_on_commit=False, autoflush=False) as session:
                yield session


database = Database()


def signal_after_commit(session: AsyncSession, topic: str) -> None:
    """Wake whoever waits for `topic` once this transaction is durable."""
    session.info.setdefault(_AFTER_COMMIT, {})[topic] = None


def insert(table: type[DeclarativeBase]) -> SqliteInsert | PostgresInsert:
    """An INSERT that knows ON CONFLICT, in the dialect of the database in use."""
    return sqlite_insert(table) if settings.is_sqlite else postgres_insert(table)


def sqlite_has_wal_bug() -> bool:
    """SQLite 3.7.0 to 3.51.2 may corrupt a WAL that several connections write (fixed in 3.51.3, 3.50.7, 3.44.6)."""
    version = sqlite3.sqlite_version_info
    fixed = version >= (3, 51, 3) or (3, 50, 7) <= version < (3, 51) or (3, 44, 6) <= version < (3, 45)
    return not fixed


@contextlib.asynccontextmanager
async def _turn(gate: Gate) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(_GATE_SECONDS):
            await gate.acquire()
    except TimeoutError:
        raise Unavailable(retry_after=2) from None
    try:
        yield
    finally:
        gate.release()


@contextlib.asynccontextmanager
async def _translated() -> AsyncIterator[None]:
    """A database that is away, full, locked or read-only is 503; a broken statement stays an error."""
    try:
        yield
    except (OSError, PoolTimeoutError, InterfaceError, OperationalError) as failure:
        raise Unavailable(retry_after=5) from failure
    except DBAPIError as failure:
        if failure.connection_invalidated or _is_passing(failure):
            raise Unavailable(retry_after=1) from failure
        raise


def _is_passing(failure: SQLAlchemyError) -> bool:
    """Deadlock, serialisation, lock timeout, out of resources, shutdown, read-only (PostgreSQL appendix A)."""
    state = str(getattr(getattr(failure, "orig", None), "sqlstate", "") or "")
    return state in ("40001", "40P01", "55P03", "57014", "25006") or state[:2] in ("08", "53", "57", "58")


def _postgres(url: str, size: int) -> AsyncEngine:
    return create_async_engine(
        _asyncpg(url),
        hide_parameters=True,
        pool_size=size,
        max_overflow=0,
        pool_timeout=_GATE_SECONDS,
        connect_args={"timeout": 5, "server_settings": _SERVER_SETTINGS},
    )


def _postgres_reader(url: str, size: int) -> AsyncEngine:
    return create_async_engine(
        _asyncpg(url),
        hide_parameters=True,
        pool_size=size,
        max_overflow=0,
        pool_timeout=_GATE_SECONDS,
        pool_reset_on_return=None,
        isolation_level="AUTOCOMMIT",
        connect_args={"timeout": 5, "server_settings": _SERVER_SETTINGS},
    )


_SERVER_SETTINGS = {
    "application_name": "jincai",
    "timezone": "UTC",
    "lock_timeout": "4000",
    "statement_timeout": "30000",
    "idle_in_transaction_session_timeout": "30000",
    "jit": "off",
}


def _asyncpg(url: str) -> URL:
    return make_url(url).set(drivername="postgresql+asyncpg")


def _sqlite_writer(path: Path) -> AsyncEngine:
    """One connection for the whole process, so that nobody else writes or checkpoints the WAL beside it."""
    engine = create_async_engine(
        _aiosqlite(path), hide_parameters=True, pool_size=1, max_overflow=0, pool_timeout=_GATE_SECONDS
    )
    _prepare_sqlite(engine, ["PRAGMA journal_mode=WAL", "PRAGMA synchronous=FULL"], begin="BEGIN IMMEDIATE")
    return engine


def _sqlite_reader(path: Path) -> AsyncEngine:
    engine = create_async_engine(
        _aiosqlite(path),
        hide_parameters=True,
        pool_size=8,
        max_overflow=0,
        pool_timeout=_GATE_SECONDS,
        pool_reset_on_return=None,
    )
    _prepare_sqlite(engine, ["PRAGMA query_only=ON", "PRAGMA wal_autocheckpoint=0"], begin=None)
    return engine


def _aiosqlite(path: Path) -> URL:
    return URL.create("sqlite+aiosqlite", database=str(path))


def _prepare_sqlite(engine: AsyncEngine, pragmas: list[str], begin: str | None) -> None:
    """Take BEGIN away from the driver: a deferred one fails at once when another transaction committed since."""

    def on_connect(connection: DBAPIConnection, _record: ConnectionPoolEntry) -> None:
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in ["PRAGMA busy_timeout=5000", "PRAGMA foreign_keys=ON", *pragmas]:
            cursor.execute(pragma)
        cursor.close()

    def on_begin(connection: Connection) -> None:
        if begin:
            connection.exec_driver_sql(begin)

    event.listen(engine.sync_engine, "connect", on_connect)
    event.listen(engine.sync_engine, "begin", on_begin)
