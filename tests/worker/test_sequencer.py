"""One order of all events: nothing is missed by who follows it, nothing in it can be changed unseen."""

import asyncio
import contextlib
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app import handlers, leases, outbox
from app.db import Database, database
from app.ids import new_id
from app.models.events import Event, EventHead
from app.models.tasks import Task, TaskStatus
from app.sequencer import FAILED, Walk, name_of, sequence, verify_chain
from app.services import event_heads
from app.settings import settings
from tests.factories import Places
from tests.worker.chronicle import happen, new_subject, place_all, positions_of, record
from tests.worker.tampering import LENGTH, TAMPERINGS, Chain, Tamper
from tests.worker.workshop import tasks_of, until

_TAMPERS = 1000


class Follower:
    """Reads what has a position behind the last one it saw, again and again."""

    def __init__(self, after: int) -> None:
        self.seen: list[UUID] = []
        self._after = after

    async def read(self) -> None:
        async with database.reading() as session:
            rows = await session.execute(
                select(Event.position, Event.id).where(Event.position > self._after).order_by(Event.position)
            )
            for position, event_id in rows:
                assert position == self._after + 1
                self._after = position
                self.seen.append(event_id)

    async def read_until(self, done: asyncio.Event) -> None:
        while not done.is_set():
            await place_all({})
            await self.read()
        await place_all({})
        await self.read()


async def _follower() -> Follower:
    await place_all({})
    async with database.reading() as session:
        return Follower(await session.scalar(select(func.max(Event.position))) or 0)


async def test_who_follows_positions_does_not_miss_a_late_commit(db: Database, places: Places) -> None:
    """The first insert commits last; SQLite has one writer, so there the second one waits."""
    follower, done = await _follower(), asyncio.Event()
    inserted, release = asyncio.Event(), asyncio.Event()
    early, late = await new_subject(places.grid), await new_subject(places.grid)

    async def hold_back() -> UUID:
        async with db.transaction() as session:
            event_id = await record(session, early)
            inserted.set()
            await release.wait()
        return event_id

    holding = asyncio.create_task(hold_back())
    await inserted.wait()
    overtaking = asyncio.create_task(happen(late))
    following = asyncio.create_task(follower.read_until(done))

    async def has_seen_the_late_one() -> bool:
        return len(follower.seen) == 1

    if not settings.is_sqlite:
        await until(has_seen_the_late_one)
    release.set()
    first, second = await holding, await overtaking
    done.set()
    await following
    assert follower.seen == ([first, second] if settings.is_sqlite else [second, first])


async def test_nothing_is_missed_or_out_of_order_under_overlapping_writers(
    db: Database, places: Places
) -> None:
    subjects = [await new_subject(places.grid) for _ in range(5)]
    follower, done = await _follower(), asyncio.Event()
    dice = random.Random(7)
    recorded: list[UUID] = []

    async def write(subject_id: UUID, count: int, pause: float) -> None:
        async with db.transaction() as session:
            mine = [await record(session, subject_id) for _ in range(count)]
            await asyncio.sleep(pause)
        recorded.extend(mine)

    following = asyncio.create_task(follower.read_until(done))
    plans = [(dice.choice(subjects), dice.randint(1, 3), dice.random() / 100) for _ in range(60)]
    for start in range(0, len(plans), 6):
        await asyncio.gather(*(write(*plan) for plan in plans[start : start + 6]))
    done.set()
    await following
    assert sorted(follower.seen) == sorted(recorded)
    by_subject: dict[UUID, list[tuple[int, int]]] = defaultdict(list)
    for subject_id, seq, position in await positions_of(subjects):
        by_subject[subject_id].append((position or 0, seq))
    for each in by_subject.values():
        assert [seq for _, seq in sorted(each)] == list(range(1, len(each) + 1))


async def test_two_sequencers_at_once_give_each_event_one_position(db: Database, places: Places) -> None:
    subject = await new_subject(places.grid)
    follower = await _follower()
    made = [await happen(subject) for _ in range(30)]

    async def place_some() -> int:
        async with db.transaction() as session:
            return await sequence(session, {}, limit=4)

    placed = await asyncio.gather(*(place_some() for _ in range(10)))
    await follower.read()
    assert sum(placed) == 30
    assert follower.seen == made


async def test_a_poisoned_event_stops_neither_the_order_nor_its_neighbours(
    db: Database, places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject, trace = await new_subject(places.grid), f"test.{new_id()}"
    await place_all({})
    made = [await happen(subject, type_) for type_ in ("test.good", "test.poison", "test.good")]
    cured = False

    async def handle(session: AsyncSession, batch: Sequence[Event]) -> None:
        for event in batch:
            await outbox.enqueue(session, trace, {"event_id": str(event.id)})
            if event.type == "test.poison" and not cured:
                raise ZeroDivisionError("13800138000")

    async def handled() -> list[str]:
        return sorted(str(task.payload["event_id"]) for task in await tasks_of(trace))

    await place_all({"test.": (handle,)})
    assert await handled() == sorted([str(made[0]), str(made[2])])
    assert [position is not None for _, _, position in await positions_of([subject])] == [True] * 3
    dead = await _dead_task_of(made[1])
    assert dead.status is TaskStatus.DEAD
    assert (dead.last_error or "").startswith("ZeroDivisionError at ")
    assert "13800138000" not in (dead.last_error or "")

    cured = True
    monkeypatch.setitem(handlers._BY_NAME, name_of(handle), handle)
    async with db.transaction() as session:
        again = {"status": TaskStatus.QUEUED, "lease_token": dead.id}
        await session.execute(update(Task).where(Task.id == dead.id).values(again))
    await handlers.handle_again(leases.Lease(dead.id, dead.id, FAILED, dead.payload, 1))
    assert await handled() == sorted(map(str, made))
    assert (await _dead_task_of(made[1])).status is TaskStatus.DONE


async def _dead_task_of(event_id: UUID) -> Task:
    async with database.reading() as session:
        tasks = await session.scalars(select(Task).where(Task.kind == FAILED))
        return next(task for task in tasks if task.payload["event_id"] == str(event_id))


async def test_an_intact_chain_is_intact(db: Database, places: Places) -> None:
    async with _chain(places) as session:
        assert await verify_chain(session, page=7) == []
        await session.execute(delete(Event))
        await session.execute(update(EventHead).values(position=0))
        assert await verify_chain(session) == []


async def test_what_is_not_placed_yet_is_no_fault(db: Database, places: Places) -> None:
    later = await new_subject(places.grid)
    async with _chain(places) as session:
        await record(session, later)
        assert await verify_chain(session) == []


async def test_every_one_of_1000_random_tampers_is_found_and_located(db: Database, places: Places) -> None:
    dice = random.Random(20261123)
    async with _chain(places) as session:
        rows, head = await _rows(session)
    for number in range(_TAMPERS):
        tamper = dice.choice(TAMPERINGS)
        found = _verify(tampered := Chain(rows, head.position, head.digest), tamper(tampered, dice))
        assert found, (number, tamper.__name__)


@pytest.mark.parametrize("tamper", TAMPERINGS)
async def test_each_kind_of_tampering_is_found_in_the_database(
    db: Database, places: Places, tamper: Tamper
) -> None:
    dice = random.Random(20261123)
    async with _chain(places) as session:
        rows, head = await _rows(session)
        chain = Chain(rows, head.position, head.digest)
        where = tamper(chain, dice)
        await session.execute(delete(Event))
        await session.execute(insert(Event), chain.rows)
        await session.execute(update(EventHead).values(position=chain.position, digest=chain.digest))
        found = await verify_chain(session, page=7)
        assert [fault.split(":")[0] for fault in found] == [f"position {where}"]


def _verify(chain: Chain, where: int) -> bool:
    """Whether the first fault of the chain in memory is found where it is."""
    walk = Walk(EventHead(id=1, position=chain.position, digest=chain.digest))
    placed = sorted(
        (row for row in chain.rows if row["position"] is not None), key=lambda row: row["position"]
    )
    faults = [fault for row in placed if (fault := walk.step(Event(**row)))]
    faults = faults or [fault for fault in [walk.end(chain.position)] if fault]
    return faults[:1] != [] and faults[0].startswith(f"position {where}:")


async def test_a_head_that_was_kept_is_in_history_until_it_is_rewritten(places: Places) -> None:
    subject = await new_subject(places.grid)
    async with _chain(places) as session:
        kept = await event_heads.current(session)
        assert kept.startswith(f"{LENGTH}:")
        await record(session, subject)
        await sequence(session, {})
        assert await event_heads.missing(session, kept) is None
        assert await event_heads.missing(session, f" {await event_heads.current(session)}\n") is None
        for forged in ("", "20", kept[:-1], kept.replace("20:", "19:", 1), f"0:{kept[3:]}"):
            assert "was not signed" in str(await event_heads.missing(session, forged))
        last = Event.position == LENGTH
        await session.execute(update(Event).where(last).values(digest="0" * 64))
        assert "was rewritten" in str(await event_heads.missing(session, kept))
        await session.execute(delete(Event).where(last))
        assert "is missing" in str(await event_heads.missing(session, kept))


class _RollBack(Exception):
    pass


@contextlib.asynccontextmanager
async def _chain(places: Places) -> AsyncIterator[AsyncSession]:
    """A chain of 20 events alone in the database, gone again afterwards."""
    subjects = [await new_subject(places.grid) for _ in range(3)]
    with contextlib.suppress(_RollBack):
        async with database.transaction() as session:
            await session.execute(delete(Event))
            await session.execute(delete(EventHead))
            for number in range(LENGTH):
                await record(session, subjects[number % 3])
            await sequence(session, {})
            session.expunge_all()
            yield session
            raise _RollBack


async def _rows(session: AsyncSession) -> tuple[list[dict[str, Any]], EventHead]:
    found = await session.execute(select(Event.__table__).order_by(Event.position))
    return [dict(row) for row in found.mappings()], (await session.scalars(select(EventHead))).one()
