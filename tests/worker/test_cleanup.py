"""What is thrown away when its time has come, and what is kept until then; and that all work has somebody to do it."""

import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from app import clock, idempotency
from app.db import Database
from app.ids import new_id
from app.models.base import Base
from app.models.idempotency import IdempotencyKey
from app.models.notifications import Notification
from app.models.sessions import PrincipalKind
from app.models.sync import WatermarkGap, WatermarkReport
from app.models.tasks import ScheduleRun, Task, TaskStatus
from app.services import cleanup
from app.tasks import KINDS, SCHEDULES
from tests.worker.workshop import tasks_of, until, working

_APP = Path(__file__).parents[2] / "app"


def _key(age: timedelta) -> IdempotencyKey:
    then = clock.now() - age
    return IdempotencyKey(scope=str(new_id()), fingerprint="", caller_id=new_id(), created_at=then)


def _task(status: TaskStatus, age: timedelta) -> Task:
    then = clock.now() - age
    ended = None if status is TaskStatus.QUEUED else then
    return Task(id=new_id(), kind="test.old", payload={}, status=status, run_at=then, finished_at=ended)


def _run(age: timedelta) -> ScheduleRun:
    then = clock.now() - age
    return ScheduleRun(name=f"test.{new_id()}", due_at=then, created_at=then)


def _notification(age: timedelta) -> Notification:
    return Notification(
        id=new_id(),
        created_at=clock.now() - age,
        recipient_kind=PrincipalKind.STAFF,
        recipient_id=new_id(),
        event_id=new_id(),
        type="test.happened",
        subject_kind="hazards",
        subject_id=new_id(),
    )


def _comparison(age: timedelta) -> WatermarkReport:
    then = clock.now() - age
    message_id = f"msg_{new_id().hex}"
    return WatermarkReport(
        id=new_id(),
        created_at=then,
        day=then.date(),
        message_id=message_id,
        communities=0,
        differing=0,
        report={},
    )


def _gap(age: timedelta) -> WatermarkGap:
    then = clock.now() - age
    # The two of one test are minutes apart, and a day has one row.
    return WatermarkGap(day=then.date() - timedelta(days=age.days), told_at=then)


@pytest.mark.parametrize(
    ("make", "kept_days"),
    [
        (_key, 7),
        (_run, 7),
        (_notification, 365),
        (_comparison, 365),
        (_gap, 365),
        (lambda age: _task(TaskStatus.DONE, age), 7),
        (lambda age: _task(TaskStatus.DEAD, age), 90),
    ],
)
async def test_rows_go_when_they_are_old_enough(
    db: Database, make: Callable[[timedelta], Base], kept_days: int
) -> None:
    old, young = make(timedelta(days=kept_days, minutes=1)), make(timedelta(days=kept_days, minutes=-1))
    async with db.transaction() as session:
        session.add_all([old, young])
    async with db.transaction() as session:
        assert await cleanup.sweep(session) >= 1
    assert not await _exists(db, old)
    assert await _exists(db, young)


async def test_work_that_waits_is_never_thrown_away(db: Database) -> None:
    waiting = _task(TaskStatus.QUEUED, timedelta(days=1000))
    async with db.transaction() as session:
        session.add(waiting)
    async with db.transaction() as session:
        await cleanup.sweep(session)
    assert await _exists(db, waiting)


async def _exists(db: Database, row: Base) -> bool:
    table = type(row)
    key = [getattr(row, column.key) for column in table.__table__.primary_key]
    async with db.reading() as session:
        return await session.get(table, key[0] if len(key) == 1 else tuple(key)) is not None


async def test_the_schedules_of_the_service_run(db: Database) -> None:
    always = tuple(schedule for schedule in SCHEDULES if schedule.wanted is None)
    assert always
    async with db.transaction() as session:
        session.add(_key(idempotency.KEPT + timedelta(hours=1)))

    async def all_ran() -> bool:
        return all([await _has_succeeded(schedule.name) for schedule in always])

    async with working({schedule.name: KINDS[schedule.name] for schedule in SCHEDULES}, SCHEDULES):
        await until(all_ran)


async def _has_succeeded(kind: str) -> bool:
    return any(task.status is TaskStatus.DONE for task in await tasks_of(kind))


def test_every_task_that_anybody_leaves_has_somebody_to_do_it() -> None:
    left = {
        kind
        for path in _APP.rglob("*.py")
        for kind in re.findall(r'enqueue\(\s*session,\s*"([^"]+)"', path.read_text("utf-8"))
    }
    assert left
    assert left <= KINDS.keys()
    assert {schedule.name for schedule in SCHEDULES} <= KINDS.keys()
