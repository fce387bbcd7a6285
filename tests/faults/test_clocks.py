"""Workers whose clocks are minutes apart: nothing happens twice, and nobody takes what another one holds."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select, update

from app import clock
from app.db import Database
from app.ids import new_id
from app.models.events import Event
from app.models.hazard_deadlines import HazardDeadline
from app.models.hazards import Hazard
from app.models.tasks import ScheduleRun, Task, TaskStatus
from app.settings import settings
from app.tasks import SCHEDULES
from tests.faults.conftest import Deploy
from tests.faults.deployment import Deployment
from tests.faults.journal import BEFORE
from tests.faults.programs import Program
from tests.stories import upload
from tests.worker.programs import EFFECT
from tests.worker.workshop import effects, enqueue, is_done, tasks_of, until

pytestmark = pytest.mark.drill

_OFFSETS = ("120", "-120", "0")
_HAZARDS = 5
_TASKS = 60
_WATCHED_SECONDS = 7.0
_WORK = "import asyncio; from tests.worker.programs import work; asyncio.run(work(0.2))"


async def test_deadlines_and_schedules_run_once(deploy: Deploy) -> None:
    async with deploy() as deployment:
        await deployment.start()
        for _ in range(_HAZARDS):
            await _file(deployment)
        await _make_due_soon(deployment)
        for offset in _OFFSETS:
            deployment.add_worker(JINCAI_CLOCK_OFFSET_SECONDS=offset)
        await until(lambda: _are_escalated(deployment))
        await asyncio.sleep(_WATCHED_SECONDS)
        await deployment.caught_up()
        assert await _events(deployment) == {"hazard.filed": _HAZARDS, "hazard.escalated": _HAZARDS}
        await _require_single_runs(deployment)
        await deployment.verify()
        assert all(worker.is_running for worker in deployment.workers)


async def test_a_lease_is_held_whatever_the_clocks_say(db: Database, tmp_path: Path) -> None:
    run = str(new_id())
    await enqueue(EFFECT, [{"run": run, "n": n} for n in range(_TASKS)])
    with ExitStack() as stack:
        for offset in _OFFSETS:
            environment = {"JINCAI_JOB_LEASE_SECONDS": "6", "JINCAI_CLOCK_OFFSET_SECONDS": offset}
            worker = Program(("-c", _WORK), environment, tmp_path / f"{offset}.log")
            stack.callback(worker.kill)
            worker.start()
        await until(lambda: is_done(EFFECT))
    assert await effects(run) == Counter(range(_TASKS))
    _require_one_attempt([task for task in await tasks_of(EFFECT) if task.payload["run"] == run])


async def _file(deployment: Deployment) -> None:
    picture = await upload(deployment.client, deployment.story.reporter, BEFORE.read_bytes())
    await deployment.story.file(media_ids=[picture.json()["id"]])


async def _make_due_soon(deployment: Deployment) -> None:
    """Over for the clock that is fast, in time for the others."""
    due_at = clock.now() + timedelta(seconds=60)
    async with deployment.session() as session:
        await session.execute(update(HazardDeadline).values(warn_at=due_at, due_at=due_at))
        await session.execute(update(Hazard).values(due_at=due_at))


async def _are_escalated(deployment: Deployment) -> bool:
    return (await _events(deployment))["hazard.escalated"] == _HAZARDS


async def _events(deployment: Deployment) -> Counter[str]:
    async with deployment.session() as session:
        return Counter(await session.scalars(select(Event.type).where(Event.subject_kind == "hazards")))


async def _require_single_runs(deployment: Deployment) -> None:
    """One task for each run of each schedule."""
    names = [schedule.name for schedule in SCHEDULES]
    async with deployment.session() as session:
        runs = Counter(await session.scalars(select(ScheduleRun.name)))
        tasks = list(await session.scalars(select(Task).where(Task.kind.in_(names))))
    assert Counter(task.kind for task in tasks) == runs
    assert runs["hazards.deadlines"] > 0
    assert {task.status for task in tasks} == {TaskStatus.DONE}
    _require_one_attempt(tasks)


def _require_one_attempt(tasks: Sequence[Task]) -> None:
    """Leases run on the database's clock. On SQLite that is the machine's, which here each worker sees differently."""
    if not settings.is_sqlite:
        assert {task.attempts for task in tasks} == {1}
