"""The database goes away for a while: refusals that say when to come back, and nobody has to be restarted."""

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial

import pytest
from sqlalchemy import select
from sqlalchemy.engine import make_url

from app.models.events import Audience, Event
from app.settings import settings
from tests.engines import alembic
from tests.faults.conftest import Deploy, Populated, populate
from tests.faults.deployment import Deployment
from tests.faults.follower import Follower
from tests.faults.journal import Journal
from tests.postgres import Cluster, postgres
from tests.stories import problem

pytestmark = pytest.mark.slow

_POLL_SECONDS = 20.0
_ANSWER_SECONDS = 8.0
_CLIENTS = 2

Away = Callable[[], AbstractContextManager[None]]


async def test_it_comes_back(deploy: Deploy, drill: bool, populated: Populated) -> None:
    async with _breakable(deploy, populated) as (deployment, away):
        journal, stop = Journal(deployment), asyncio.Event()
        follower = Follower(deployment, deployment.story.manager)
        async with follower.following():
            await follower.connected()
            async with asyncio.TaskGroup() as group:
                group.create_task(journal.load(_CLIENTS, stop))
                await asyncio.sleep(2)
                with away():
                    began = time.monotonic()
                    await _require_refusals(deployment)
                    await asyncio.sleep(began + (10 if drill else 6) - time.monotonic())
                await deployment.ready()
                stop.set()
            assert journal.unknown > 0
            await deployment.caught_up()
            await _require_signals(deployment, journal, follower)
            assert follower.positions == await _visible(deployment)
        await journal.require_all_once()
        await journal.require_replays()
        await deployment.verify()
        deployment.require_no_crash()


async def _require_refusals(deployment: Deployment) -> None:
    """Quick and clear; whatever can still be answered is."""
    story, began = deployment.story, time.monotonic()
    order = {"template_id": "sandbox-progress", "count": 1}
    refused = await story.post(story.neighbour, "/v1/me/message-quotas", order)
    problem(refused, 503, "unavailable")
    assert int(refused.headers["Retry-After"]) > 0
    read = await deployment.client.get("/v1/hazards", headers=story.neighbour.headers)
    if settings.is_sqlite:
        # Only writing is impossible there.
        assert read.status_code == 200
        assert await deployment.broken_parts() == []
    else:
        problem(read, 503, "unavailable")
        assert int(read.headers["Retry-After"]) > 0
        assert await deployment.broken_parts() == ["database"]
    assert (await deployment.client.get("/healthz")).status_code == 200
    assert time.monotonic() - began < _ANSWER_SECONDS


async def _require_signals(deployment: Deployment, journal: Journal, follower: Follower) -> None:
    """The worker hears at once of what the server does, and the server of what the worker does."""
    await journal.tell()
    began = time.monotonic()
    await deployment.caught_up()
    await follower.has((await _visible(deployment))[-1])
    assert time.monotonic() - began < _POLL_SECONDS / 2


async def _visible(deployment: Deployment) -> list[int]:
    """The positions of all events that the manager of the community may see."""
    theirs = Event.community_id == deployment.story.places.community
    query = select(Event.position).where(theirs, Event.audience != Audience.AUDIT).order_by(Event.position)
    async with deployment.session() as session:
        return [position for position in await session.scalars(query) if position is not None]


@contextlib.asynccontextmanager
async def _breakable(deploy: Deploy, populated: Populated) -> AsyncIterator[tuple[Deployment, Away]]:
    """A running service, and a way to take its database from it."""
    chosen = {"JINCAI_JOB_LEASE_SECONDS": "3", "JINCAI_WORKER_POLL_SECONDS": str(_POLL_SECONDS)}
    if settings.is_sqlite:
        async with deploy(JINCAI_WORKER="embedded", **chosen) as deployment:
            await deployment.start()
            yield deployment, partial(_held, deployment.settings["JINCAI_DATABASE_URL"])
        return
    with postgres(fsync=True) as cluster:
        cluster.create_database("jincai")
        url = cluster.url("jincai")
        alembic(url, "upgrade", "head")
        async with deploy(url, populate(url, populated.programs), **chosen) as deployment:
            await deployment.start()
            deployment.add_worker()
            yield deployment, partial(_crashed, cluster)


@contextlib.contextmanager
def _held(url: str) -> Iterator[None]:
    """Another program has SQLite's only writing turn."""
    path = make_url(url).database
    assert path is not None
    with contextlib.closing(sqlite3.connect(path, timeout=30, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


@contextlib.contextmanager
def _crashed(cluster: Cluster) -> Iterator[None]:
    """PostgreSQL drops everybody, comes back, and has to recover."""
    cluster.crash()
    yield
    cluster.start()
