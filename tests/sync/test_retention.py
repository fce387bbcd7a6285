"""What the district sent goes in time, once it is applied; a late repeat still changes nothing."""

from datetime import timedelta
from uuid import UUID, uuid4

import httpx
import pytest
from sqlalchemy import select, update

from app import clock
from app.clients.storage import Storage
from app.db import Database
from app.models.sync import InboundEvent, SyncCase
from app.services import retention, verification
from app.settings import settings
from tests.factories import Places
from tests.sync.test_district_events import apply, region_code, send, story

_KEPT = timedelta(days=90)
_MINUTE = timedelta(minutes=1)


@pytest.fixture
async def case(client: httpx.AsyncClient, db: Database, places: Places) -> str:
    """A case with three numbers applied, and a fifth that waits for the fourth."""
    key = f"D-{uuid4().hex[:12]}"
    told = story(key, await region_code(db, places))
    for number in (1, 2, 3, 5):
        assert (await send(client, told[number - 1])).status_code == 202
    await apply(db, key)
    return key


async def _applied(db: Database, case: str, number: int, ago: timedelta) -> None:
    async with db.transaction() as session:
        await session.execute(
            update(InboundEvent)
            .where(InboundEvent.case_id == (await _of(db, case)).id, InboundEvent.seq == number)
            .values(applied_at=clock.now() - ago)
        )


async def _of(db: Database, case: str) -> SyncCase:
    async with db.reading() as session:
        return (await session.scalars(select(SyncCase).where(SyncCase.case_key == case))).one()


async def _kept(db: Database, case: str) -> list[int]:
    found = 1
    while found:
        async with db.transaction() as session:
            found = await retention.sweep_inbound(session)
    mine = select(InboundEvent.seq).where(InboundEvent.case_id == (await _of(db, case)).id)
    async with db.reading() as session:
        return list(await session.scalars(mine.order_by(InboundEvent.seq)))


async def _breaches(case_id: UUID) -> list[str]:
    (check,) = [each for each in verification.CHECKS if each.name == "sync.applied"]
    storage = Storage(settings.media_location)
    found = await verification.look(check, storage, lambda _done, _of: None)
    storage.close()
    return [line for line in found if str(case_id) in line]


async def test_what_was_applied_90_days_ago_goes_and_what_waits_stays(db: Database, case: str) -> None:
    assert await _kept(db, case) == [1, 2, 3, 5]
    await _applied(db, case, 1, _KEPT + _MINUTE)
    await _applied(db, case, 2, _KEPT + _MINUTE)
    await _applied(db, case, 3, _KEPT - _MINUTE)
    assert await _kept(db, case) == [3, 5]
    held = await _of(db, case)
    assert (held.applied_seq, held.forgotten_seq) == (3, 2)
    assert await _breaches(held.id) == []
    await _applied(db, case, 3, _KEPT + _MINUTE)
    assert await _kept(db, case) == [5]
    assert await _breaches(held.id) == []


async def test_a_late_repeat_neither_waits_nor_is_applied_again(
    client: httpx.AsyncClient, db: Database, places: Places, case: str
) -> None:
    for number in (1, 2):
        await _applied(db, case, number, _KEPT + _MINUTE)
    await _kept(db, case)
    told = story(case, await region_code(db, places))
    answer = await send(client, told[1])
    assert (answer.status_code, answer.json()["status"], answer.json()["reason"]) == (
        202,
        "superseded",
        "this number was applied long ago",
    )
    assert await _kept(db, case) == [3, 5]
    liar = await send(client, {**told[3], "seq": 3})
    assert (liar.status_code, liar.json()["code"]) == (409, "sync_conflict")
    assert (await send(client, told[3])).status_code == 202
    await apply(db, case)
    held = await _of(db, case)
    assert held.applied_seq == 5
    assert await _breaches(held.id) == []


async def test_a_gap_that_was_not_forgotten_is_found(db: Database, case: str) -> None:
    async with db.transaction() as session:
        await session.execute(
            update(SyncCase).where(SyncCase.case_key == case).values(forgotten_seq=1, applied_seq=4)
        )
    held = await _of(db, case)
    assert len(await _breaches(held.id)) == 1
    async with db.transaction() as session:
        await session.execute(
            update(SyncCase).where(SyncCase.id == held.id).values(forgotten_seq=0, applied_seq=3)
        )
    assert await _breaches(held.id) == []
