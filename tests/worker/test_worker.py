"""How tasks end, what is tried again and when, and that a schedule runs once however many workers there are."""

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock, events, leases
from app.auth import SYSTEM
from app.db import Database, database
from app.ids import new_id
from app.leases import GiveUp, Kind, Lease, LeaseLost, Retry
from app.models.events import Event
from app.models.tasks import ScheduleRun, Task, TaskStatus
from app.schedules import Schedule, Timetable
from app.signals import signals
from app.worker import Worker
from tests.worker.workshop import enqueue, is_done, tasks_of, until, working

_CANARY = "13800138000"


def _kind() -> str:
    return f"test.{new_id()}"


async def _fails(_: Lease) -> None:
    raise ValueError(_CANARY)


async def _gives_up(_: Lease) -> None:
    raise GiveUp("nobody wants it")


async def _waits(_: Lease) -> None:
    raise Retry("not now", after=600)


async def _succeeds(_: Lease) -> None:
    pass


async def _once(name: str, kind: Kind) -> Task:
    """The task after its first attempt."""
    await enqueue(name, [{}])
    async with working({name: kind}):
        await until(lambda: _was_tried(name))
    return (await tasks_of(name))[0]


async def _was_tried(name: str) -> bool:
    task = (await tasks_of(name))[0]
    return task.attempts > 0 and task.lease_token is None


async def test_what_succeeds_is_done(db: Database) -> None:
    task = await _once(_kind(), Kind(_succeeds))
    assert task.status is TaskStatus.DONE
    assert task.finished_at is not None


async def test_what_fails_is_due_again_later_and_says_nothing_personal(db: Database) -> None:
    task = await _once(_kind(), Kind(_fails, attempts=2))
    assert task.status is TaskStatus.QUEUED
    assert timedelta(seconds=3) < task.run_at - clock.now() < timedelta(seconds=7)
    assert (task.last_error or "").startswith("ValueError")
    assert _CANARY not in (task.last_error or "")


async def test_the_last_failure_is_the_end(db: Database) -> None:
    task = await _once(_kind(), Kind(_fails, attempts=1))
    assert task.status is TaskStatus.DEAD


async def test_what_cannot_succeed_is_not_tried_again(db: Database) -> None:
    task = await _once(_kind(), Kind(_gives_up))
    assert (task.status, task.last_error) == (TaskStatus.DEAD, "nobody wants it")


async def test_a_retry_waits_as_long_as_it_asks_for(db: Database) -> None:
    task = await _once(_kind(), Kind(_waits))
    assert task.run_at - clock.now() > timedelta(seconds=450)


async def test_a_worker_stops_while_events_pour_in(db: Database) -> None:
    stop = asyncio.Event()
    running = asyncio.create_task(Worker({}, {}, []).run(stop))
    await asyncio.sleep(0.1)
    stop.set()
    async with asyncio.timeout(5):
        while not running.done():
            signals.send(events.TOPIC)
            await asyncio.sleep(0)
    await running


async def test_waits_grow_and_end_at_an_hour(db: Database) -> None:
    name = _kind()
    await enqueue(name, [{}])
    async with db.transaction() as session:
        await session.execute(update(Task).where(Task.kind == name).values(attempts=10))
    async with working({name: Kind(_fails)}):
        await until(lambda: _has_error(name))
    wait = (await tasks_of(name))[0].run_at - clock.now()
    assert timedelta(minutes=40) < wait < timedelta(minutes=80)


async def _has_error(name: str) -> bool:
    return (await tasks_of(name))[0].last_error is not None


async def test_a_task_that_kills_every_worker_is_dead_in_the_end(db: Database) -> None:
    name = _kind()
    await enqueue(name, [{}])
    async with db.transaction() as session:
        await session.execute(update(Task).where(Task.kind == name).values(attempts=3))
    async with working({name: Kind(_succeeds, attempts=3)}):
        await until(lambda: is_done(name))
    assert (await tasks_of(name))[0].status is TaskStatus.DEAD


async def test_tasks_of_an_unknown_kind_wait_for_a_worker_that_knows_it(db: Database) -> None:
    known, unknown = _kind(), _kind()
    await enqueue(unknown, [{}])
    await enqueue(known, [{}])
    async with working({known: Kind(_succeeds)}):
        await until(lambda: is_done(known))
    assert (await tasks_of(unknown))[0].attempts == 0


async def test_more_tasks_than_hands_are_all_done_once(db: Database) -> None:
    name, done = _kind(), Counter[int]()

    async def count(lease: Lease) -> None:
        done[int(str(lease.payload["n"]))] += 1

    await enqueue(name, [{"n": n} for n in range(50)])
    async with working({name: Kind(count)}, workers=3):
        await until(lambda: is_done(name))
    assert done == Counter(range(50))


async def test_what_is_not_due_yet_waits(db: Database) -> None:
    name = _kind()
    await enqueue(name, [{}])
    async with db.transaction() as session:
        later = clock.now() + timedelta(hours=1)
        await session.execute(update(Task).where(Task.kind == name).values(run_at=later))
    assert await leases.claim([name], 10) == []


async def test_a_lease_is_not_taken_twice_until_it_ends(db: Database) -> None:
    name = _kind()
    await enqueue(name, [{}])
    assert len(await leases.claim([name], 10)) == 1
    assert await leases.claim([name], 10) == []
    await _end_lease(name)
    assert await leases.claim([name], 10, [(await tasks_of(name))[0].id]) == []
    assert [lease.attempt for lease in await leases.claim([name], 10)] == [2]


async def test_a_task_that_has_just_ended_is_not_lost(db: Database) -> None:
    name = _kind()
    await enqueue(name, [{}, {}])
    ended, going = await leases.claim([name], 2)
    await ended.end(leases.ended(TaskStatus.DONE))
    assert await leases.renew([ended, going]) == []


async def test_who_lost_the_lease_cannot_commit_nor_end_the_task(db: Database) -> None:
    name = _kind()
    await enqueue(name, [{}])
    [slow] = await leases.claim([name], 1)
    await _end_lease(name)
    [quick] = await leases.claim([name], 1)
    for attempt in (slow.transaction, slow.last_transaction):
        with pytest.raises(LeaseLost):
            async with attempt() as session:
                _leave_trace(session, name)
    await slow.end(leases.ended(TaskStatus.DEAD))
    assert await leases.renew([slow, quick]) == [slow]
    async with quick.last_transaction() as session:
        _leave_trace(session, name)
    assert (await tasks_of(name))[0].status is TaskStatus.DONE
    async with db.reading() as session:
        assert len(list(await session.scalars(select(Event.id).where(Event.type == name)))) == 1


def _leave_trace(session: AsyncSession, name: str) -> None:
    events.record_access(session, SYSTEM, name)


async def _end_lease(name: str) -> None:
    async with database.transaction() as session:
        past = clock.now() - timedelta(hours=1)
        await session.execute(update(Task).where(Task.kind == name).values(lease_until=past))


async def test_an_effect_that_fails_leaves_the_task_undone(db: Database) -> None:
    name = _kind()
    await enqueue(name, [{}])
    [lease] = await leases.claim([name], 1)
    with pytest.raises(ZeroDivisionError):
        async with lease.last_transaction():
            raise ZeroDivisionError
    assert (await tasks_of(name))[0].status is TaskStatus.QUEUED


async def test_a_schedule_runs_once_for_all_workers(db: Database) -> None:
    name, ran = _kind(), Counter[str]()

    async def count(lease: Lease) -> None:
        ran[str(lease.task_id)] += 1

    async with working({name: Kind(count)}, [Schedule(name, timedelta(seconds=1))], workers=3):
        await until(lambda: _ran(ran, 3))
    async with db.reading() as session:
        runs = list(await session.scalars(select(ScheduleRun.due_at).where(ScheduleRun.name == name)))
    assert len(await tasks_of(name)) == len(runs) == len(ran)
    assert set(ran.values()) == {1}
    assert len(set(runs)) == len(runs)


async def _ran(ran: Counter[str], times: int) -> bool:
    return len(ran) >= times


async def test_a_schedule_with_nothing_to_do_writes_nothing(db: Database) -> None:
    name, wanted = _kind(), False

    async def is_wanted(_: AsyncSession) -> bool:
        return wanted

    schedule = Schedule(name, timedelta(hours=1), wanted=is_wanted)
    await Timetable([schedule]).enqueue_due()
    assert await tasks_of(name) == []
    wanted = True
    await Timetable([schedule]).enqueue_due()
    await Timetable([schedule]).enqueue_due()
    assert len(await tasks_of(name)) == 1


@pytest.mark.parametrize(
    ("schedule", "now", "due"),
    [
        (Schedule("x", timedelta(seconds=5)), "12:00:07.5", "12:00:05"),
        (Schedule("x", timedelta(seconds=5)), "12:00:05", "12:00:05"),
        (Schedule("x", timedelta(hours=1)), "12:59:59", "12:00:00"),
        (Schedule("x", timedelta(days=1), offset=timedelta(hours=2)), "12:00:00", "02:00:00"),
    ],
)
def test_when_a_run_is_due(schedule: Schedule, now: str, due: str) -> None:
    assert schedule.due_at(_at(now)) == _at(due)


def _at(time: str) -> datetime:
    return datetime.fromisoformat(f"2026-11-23T{time}").replace(tzinfo=UTC)
