"""The database: one write transaction per write request, reads without a transaction, on SQLite or PostgreSQL."""

import contextlib
import sqlite3
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import asyncpg
import orjson
from sqlalchemy import ColumnElement, Table, event, select
from sqlalchemy.dialects.postgresql import Insert as PostgresInsert
from sqlalchemy.dialects.postgresql import insert as postgres_insert
from sqlalchemy.dialects.sqlite import Insert as SqliteInsert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.engine import URL, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase
from sqlalchemy.pool import ConnectionPoolEntry, NullPool

from app import writes
from app.errors import Unavailable
from app.hot import Hot, R, Values
from app.lanes import LANE, Gate, Lane, Lanes, Postgres, Sqlite
from app.models.base import Entity
from app.settings import Settings, settings
from app.signals import signals

_SQLITE_READERS = 8
_CONNECT_SECONDS = 5
_AFTER_COMMIT = "after_commit"


class Database:
    """The connections of one process. `open()` before use, `close()` at the end."""

    def __init__(self) -> None:
        self._writers: Lanes | None = None
        self._readers: Lanes | None = None
        self._planned_once: Lanes | None = None

    @property
    def write_gate(self) -> Gate:
        """Who waits to write."""
        return self._opened(self._writers).gate

    @property
    def read_gate(self) -> Gate:
        """Who waits to read."""
        return self._opened(self._readers).gate

    async def open(self, chosen: Settings = settings) -> None:
        """Get ready; connections are made when they are first needed."""
        if chosen.is_sqlite:
            path = Path(make_url(chosen.database_url).database or "")
            path.parent.mkdir(parents=True, exist_ok=True)
            # One writer, so that nobody else writes or checkpoints the WAL beside it.
            self._writers = Lanes(_sqlite(path, _WRITER), 1, Sqlite)
            self._readers = self._planned_once = Lanes(_sqlite(path, _READER), _SQLITE_READERS, Sqlite)
        else:
            size, read_url = chosen.database_pool_size, chosen.read_database_url or chosen.database_url
            self._writers = Lanes(_postgres(chosen.database_url), size, Postgres)
            self._readers = Lanes(_postgres(read_url), size, Postgres)
            self._planned_once = Lanes(_postgres(read_url, **_PLANNED_ONCE), size, Postgres)
        await signals.open(None if chosen.is_sqlite else chosen.database_url)

    async def close(self) -> None:
        """Give every connection back."""
        await signals.close()
        for lanes in (self._writers, self._readers, self._planned_once):
            if lanes is not None:
                await lanes.close()
        self._writers = self._readers = self._planned_once = None

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncSession]:
        """One write transaction: committed at the end of the block, rolled back when it raises."""
        lanes = self._opened(self._writers)
        try:
            lane = await lanes.take()
            try:
                async with lane.transaction(), _session(lane) as session:
                    yield session
                    await writes.flush(session)
                    if session.in_transaction():
                        await session.commit()
            finally:
                await lanes.give_back(lane)
        except Exception as failure:
            raise _told(failure)  # noqa: B904 - which has its cause
        for topic in session.info.pop(_AFTER_COMMIT, ()):
            signals.send(topic)

    @contextlib.asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncSession]:
        """A session for reads only; each statement sees the latest commit."""
        async with _translated(), self._opened(self._readers).turn() as lane:
            async with _session(lane, autoflush=False) as session:
                yield session

    async def rows(self, hot: Hot[R], values: Values) -> Sequence[R]:
        """One hot read. A connection that died unnoticed is replaced, once."""
        lanes = self._opened(self._planned_once if hot.planned_once else self._readers)
        try:
            return await _rows(lanes, hot, values)
        except Exception as failure:
            raise _told(failure)  # noqa: B904 - which has its cause

    def _opened(self, lanes: Lanes | None) -> Lanes:
        if lanes is None:
            raise RuntimeError("the database is not open")
        return lanes


database = Database()


def signal_after_commit(session: AsyncSession, topic: str) -> None:
    """Wake whoever waits for `topic` once this transaction is durable."""
    session.info.setdefault(_AFTER_COMMIT, {})[topic] = None


def insert(table: type[DeclarativeBase] | Table) -> SqliteInsert | PostgresInsert:
    """An INSERT that knows ON CONFLICT, in the dialect of the database in use."""
    return sqlite_insert(table) if settings.is_sqlite else postgres_insert(table)


def among(model: type[Entity], *conditions: ColumnElement[bool]) -> ColumnElement[bool]:
    """Of an UPDATE: the rows that fit, locked in id order, so that two that meet wait for each other in one direction."""
    fitting = select(model.id).where(*conditions).order_by(model.id).with_for_update(key_share=True)
    return model.id.in_(select(fitting.cte("fitting").c.id))


def sqlite_has_wal_bug() -> bool:
    """SQLite 3.7.0 to 3.51.2 may corrupt a WAL that several connections write (fixed in 3.51.3, 3.50.7, 3.44.6)."""
    version = sqlite3.sqlite_version_info
    fixed = version >= (3, 51, 3) or (3, 50, 7) <= version < (3, 51) or (3, 44, 6) <= version < (3, 45)
    return not fixed


@contextlib.asynccontextmanager
async def _session(lane: Lane, *, autoflush: bool = True) -> AsyncIterator[AsyncSession]:
    """A session on a lane. One that was never asked anything need not be closed."""
    session = AsyncSession(
        lane.connection,
        sync_session_class=writes.QueueingSession,
        autoflush=autoflush,
        expire_on_commit=False,
        info={LANE: lane},
    )
    try:
        yield session
    finally:
        if session.in_transaction() or session.identity_map:
            await session.close()


async def _rows(lanes: Lanes, hot: Hot[R], values: Values) -> Sequence[R]:
    lane, found = await lanes.take(), None
    try:
        found = await hot.run(lane.driver, values)
        return found
    except Exception:
        if lane.is_usable:
            raise
    finally:
        if found is None:
            await lanes.give_back(lane)
        else:
            lanes.keep(lane)
    async with lanes.turn() as lane:
        return await hot.run(lane.driver, values)


@contextlib.asynccontextmanager
async def _translated() -> AsyncIterator[None]:
    try:
        yield
    except Exception as failure:
        raise _told(failure)  # noqa: B904 - which has its cause


def _told(failure: Exception) -> Exception:
    """The failure itself, or that the database is unavailable because of it."""
    told = _unavailable(failure)
    if told is None:
        return failure
    told.__cause__ = failure
    return told


def _unavailable(failure: Exception) -> Unavailable | None:
    """A database that is away, full, locked or read-only is 503; a broken statement stays an error."""
    if isinstance(failure, _AWAY):
        return Unavailable(retry_after=5)
    if isinstance(failure, DBAPIError):
        passes = failure.connection_invalidated or _is_passing(failure.orig)
    else:
        # A migration has changed what a prepared statement returns; it is prepared anew next time.
        passes = isinstance(failure, asyncpg.InvalidCachedStatementError) or (
            isinstance(failure, asyncpg.PostgresError) and _is_passing(failure)
        )
    return Unavailable(retry_after=1) if passes else None


_AWAY = (OSError, InterfaceError, OperationalError, asyncpg.InterfaceError, sqlite3.OperationalError)


def _is_passing(failure: BaseException | None) -> bool:
    """Deadlock, serialisation, lock timeout, out of resources, shutdown, read-only (PostgreSQL appendix A)."""
    state = str(getattr(failure, "sqlstate", "") or "")
    return state in ("40001", "40P01", "55P03", "57014", "25006") or state[:2] in ("08", "53", "57", "58")


def _postgres(url: str, **more: str) -> AsyncEngine:
    return _engine(
        make_url(url).set(drivername="postgresql+asyncpg"),
        {"timeout": _CONNECT_SECONDS, "server_settings": {**_SERVER_SETTINGS, **more}},
    )


_SERVER_SETTINGS = {
    "application_name": "jincai",
    "timezone": "UTC",
    "lock_timeout": "4000",
    "statement_timeout": "30000",
    "idle_in_transaction_session_timeout": "30000",
    "jit": "off",
}
_PLANNED_ONCE = {"plan_cache_mode": "force_generic_plan"}
"""For connections of their own: what is good for a few statements that are always alike may be bad for any other."""
_PRAGMAS = ("busy_timeout=5000", "foreign_keys=ON")
_WRITER = (*_PRAGMAS, "journal_mode=WAL", "synchronous=FULL")
_READER = (*_PRAGMAS, "query_only=ON", "wal_autocheckpoint=0")


def _sqlite(path: Path, pragmas: Sequence[str]) -> AsyncEngine:
    engine = _engine(URL.create("sqlite+aiosqlite", database=str(path)), {})

    def on_connect(connection: DBAPIConnection, _record: ConnectionPoolEntry) -> None:
        cursor = connection.cursor()
        for pragma in pragmas:
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    event.listen(engine.sync_engine, "connect", on_connect)
    return engine


def _engine(url: URL, connect_args: dict[str, object]) -> AsyncEngine:
    """An engine that neither pools nor begins: both is for the lanes."""
    return create_async_engine(
        url,
        poolclass=NullPool,
        hide_parameters=True,
        isolation_level="AUTOCOMMIT",
        skip_autocommit_rollback=True,
        json_deserializer=orjson.loads,
        connect_args=connect_args,
    )
