"""Server and workers are killed under load, again and again: nothing that was acknowledged is lost or there twice."""

import asyncio
import os
import random
import time

import pytest
from sqlalchemy import select

from app.models.tasks import Task, TaskStatus
from app.services import media
from app.settings import settings
from tests.faults.conftest import Deploy
from tests.faults.deployment import Deployment
from tests.faults.journal import Journal
from tests.worker.workshop import until

pytestmark = pytest.mark.slow

_READY_CPU_SECONDS = 5.0
_CLIENTS = 4
_LONGEST_WAIT = 3.0
_PAUSED_SECONDS = 5.0
_APART = pytest.param("external", marks=pytest.mark.drill)
_WORKERS = ["embedded", _APART] if settings.is_sqlite else ["external"]


@pytest.mark.parametrize("worker", _WORKERS)
async def test_what_was_acknowledged_survives(deploy: Deploy, drill: bool, worker: str) -> None:
    seed = int(os.environ.get("DRILL_SEED", random.randrange(2**32)))
    print(f"DRILL_SEED={seed}")
    async with deploy(JINCAI_WORKER=worker, JINCAI_JOB_LEASE_SECONDS="3") as deployment:
        await deployment.start()
        for _ in range(2 if worker == "external" else 0):
            deployment.add_worker()
        journal, stop = Journal(deployment), asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(journal.load(_CLIENTS, stop))
            await _break(deployment, random.Random(seed), 10 if drill else 1)
            stop.set()
        print(f"{len(journal.writes)} writes, {journal.unknown} unknown outcomes")
        assert journal.unknown > 0
        await deployment.caught_up()
        await journal.require_all_once()
        await journal.require_replays()
        await deployment.verify()
        if drill:
            await _require_nothing_left_behind(deployment)
        deployment.require_no_crash()


async def _break(deployment: Deployment, chance: random.Random, rounds: int) -> None:
    """Kill the server, a worker, and in later rounds all at once; stop one of them for a while, too."""
    for number in range(rounds):
        blows = [_kill_server, _kill_worker, _pause_one if number == 0 else _kill_all]
        chance.shuffle(blows)
        for blow in blows:
            await asyncio.sleep(chance.uniform(0.2, _LONGEST_WAIT))
            await blow(deployment, chance)


async def _kill_server(deployment: Deployment, _: random.Random) -> None:
    deployment.server.kill()
    began = time.monotonic()
    deployment.server.start()
    computed = await deployment.ready()
    print(f"ready after {time.monotonic() - began:.1f} s, {computed:.1f} s of computing")
    assert computed <= _READY_CPU_SECONDS


async def _kill_worker(deployment: Deployment, chance: random.Random) -> None:
    if deployment.workers:
        worker = chance.choice(deployment.workers)
        worker.kill()
        worker.start()


async def _kill_all(deployment: Deployment, chance: random.Random) -> None:
    for worker in deployment.workers:
        worker.kill()
    await _kill_server(deployment, chance)
    for worker in deployment.workers:
        worker.start()


async def _pause_one(deployment: Deployment, chance: random.Random) -> None:
    """Longer than a lease, and than a client waits."""
    program = chance.choice([deployment.server, *deployment.workers])
    program.pause()
    await asyncio.sleep(_PAUSED_SECONDS)
    program.resume()


async def _require_nothing_left_behind(deployment: Deployment) -> None:
    """What was stored by uploads that were killed is gone an hour later."""
    deployment.add_worker(JINCAI_CLOCK_OFFSET_SECONDS="3600")

    async def has_discarded() -> bool:
        async with deployment.session() as session:
            waiting = select(Task.id).where(Task.kind == media.DISCARD, Task.status == TaskStatus.QUEUED)
            return await session.scalar(waiting.limit(1)) is None

    await until(has_discarded)
    await deployment.verify(JINCAI_CLOCK_OFFSET_SECONDS="7200")
