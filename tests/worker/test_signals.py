"""Wake-ups within this process and, on PostgreSQL, between processes, also after the database was away."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import asyncpg
import pytest
from sqlalchemy import text

from app.db import Database
from app.settings import settings
from app.signals import signals
from tests.worker.workshop import until

_CUT = text(
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE :query AND datname = :name"
)


async def test_who_waits_in_this_process_wakes_up(db: Database) -> None:
    waiting = asyncio.create_task(signals.wait("test.here", 10))
    await asyncio.sleep(0)
    signals.send("test.here")
    assert await waiting
    assert not await signals.wait("test.elsewhere", 0.01)


@pytest.mark.parametrize("passes", range(4))
async def test_who_waits_can_be_stopped_in_the_moment_of_a_signal(db: Database, passes: int) -> None:
    """A cancellation that comes together with what is waited for is no signal: whoever waits for ever would go on."""

    async def wait_for_ever() -> None:
        while True:
            await signals.wait("test.stop", 60)

    waiting = asyncio.create_task(wait_for_ever())
    await asyncio.sleep(0.01)
    signals.send("test.stop")
    for _ in range(passes):
        await asyncio.sleep(0)
    waiting.cancel()
    done, _ = await asyncio.wait([waiting], timeout=0.5)
    waiting.cancel()
    assert done == {waiting}


async def test_processes_hear_each_other_again_after_their_connections_were_cut(db: Database) -> None:
    """The other process is a bare connection; SQLite has no other processes to hear."""
    if settings.is_sqlite:
        assert signals._tasks == []
        return
    async with _other_process() as (other, heard):

        async def hears_us() -> bool:
            signals.send("test.there")
            await asyncio.sleep(0.1)
            return "test.there" in heard

        async def is_heard() -> bool:
            waiting = asyncio.create_task(signals.wait("test.back", 0.2))
            await asyncio.sleep(0)
            await other.execute("SELECT pg_notify('jincai', 'test.back')")
            return await waiting

        await until(hears_us)
        await until(is_heard)
        await _cut(db, "%pg_notify($1%")
        await _cut(db, "SELECT 1")
        await _cut(db, "LISTEN%")
        heard.clear()
        await until(hears_us)
        await until(is_heard)


async def _cut(db: Database, query: str) -> None:
    name = settings.database_url.rpartition("/")[2]
    async with db.transaction() as session:
        await session.execute(_CUT, {"query": query, "name": name})


@contextlib.asynccontextmanager
async def _other_process() -> AsyncIterator[tuple["asyncpg.Connection[asyncpg.Record]", list[str]]]:
    heard: list[str] = []
    listener = await asyncpg.connect(settings.database_url)
    sender = await asyncpg.connect(settings.database_url)
    await listener.add_listener("jincai", lambda *told: heard.append(str(told[3])))
    await listener.execute("SELECT 'stays'")
    try:
        yield sender, heard
    finally:
        await listener.close()
        await sender.close()
