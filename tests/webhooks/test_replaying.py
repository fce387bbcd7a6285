"""Windows of any length are sent again: page by page, and of each subject the earliest first."""

from datetime import datetime
from uuid import UUID

import httpx
import pytest
from sqlalchemy import select, update

from app import clock
from app.db import Database
from app.models.staff import Role
from app.models.webhooks import DeliveryStatus, WebhookDelivery
from app.services import webhook_queues
from tests.factories import Person, Places, make_staff
from tests.webhooks.test_delivering import PATH, deliveries
from tests.worker import chronicle

_MANY, _SUBJECTS, _BURST = 20_000, 100, 500
_LONG = 10


@pytest.fixture
async def admin(places: Places) -> Person:
    return await make_staff(Role.DISTRICT_ADMIN, places.district)


async def _subscribe(client: httpx.AsyncClient, admin: Person, places: Places) -> str:
    body = {
        "name": "x",
        "url": "https://1.1.1.1/",
        "event_types": ["region."],
        "region_id": str(places.district),
    }
    answer = await client.post(PATH, headers=admin.headers, json=body)
    endpoint_id: str = answer.json()["id"]
    return endpoint_id


async def _disable(client: httpx.AsyncClient, admin: Person, endpoint_id: str) -> None:
    """So that the workers of other tests leave alone what is queued for it."""
    answer = await client.post(f"{PATH}/{endpoint_id}/disable", headers=admin.headers)
    assert answer.status_code == 200, answer.text


async def _replay(client: httpx.AsyncClient, admin: Person, endpoint_id: str, since: datetime) -> int:
    window = {"since": since.isoformat(), "until": clock.now().isoformat()}
    answer = await client.post(f"{PATH}/{endpoint_id}/replay", headers=admin.headers, json=window)
    assert answer.status_code == 202, answer.text
    queued: int = answer.json()["queued"]
    return queued


async def _happen(db: Database, subjects: list[UUID], times: int) -> None:
    async with db.transaction() as session:
        for number in range(times):
            await chronicle.record(session, subjects[number % len(subjects)], "region.updated")
    await chronicle.place_all()


async def test_a_window_of_many_pages_is_queued_whole_and_in_order(
    client: httpx.AsyncClient, admin: Person, places: Places, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some of it was sent before, some waits, some was never queued."""
    monkeypatch.setattr(webhook_queues, "_ROWS", 3)
    subjects = [await chronicle.new_subject(places.grid) for _ in range(4)]
    began = clock.now()
    await _happen(db, subjects, 8)
    endpoint_id = await _subscribe(client, admin, places)
    await _happen(db, subjects, 12)
    await _disable(client, admin, endpoint_id)
    known = await deliveries(db, endpoint_id)
    async with db.transaction() as session:
        sent = update(WebhookDelivery).where(WebhookDelivery.id.in_([row.id for row in known[:6]]))
        await session.execute(
            sent.values(status=DeliveryStatus.DEAD, ready=False, attempts=12, finished_at=clock.now())
        )
    assert await _replay(client, admin, endpoint_id, began) == 20
    rows = await deliveries(db, endpoint_id)
    assert len(rows) == 20
    assert {(row.status, row.attempts, row.finished_at) for row in rows} == {(DeliveryStatus.QUEUED, 0, None)}
    assert {row.id for row in known} < {row.id for row in rows}
    assert [row.subject_id for row in rows if row.ready] == subjects


@pytest.mark.slow
async def test_a_long_window_takes_no_longer_for_each_event(
    client: httpx.AsyncClient, admin: Person, places: Places, db: Database
) -> None:
    subjects = [await chronicle.new_subject(places.grid) for _ in range(_SUBJECTS)]
    began = clock.now()
    for _ in range(0, _MANY, _BURST):
        await _happen(db, subjects, _BURST)
    endpoint_id = await _subscribe(client, admin, places)
    await _disable(client, admin, endpoint_id)
    started = clock.monotonic()
    assert await _replay(client, admin, endpoint_id, began) == _MANY
    assert clock.monotonic() - started < _LONG
    async with db.reading() as session:
        mine = select(WebhookDelivery.subject_id).where(
            WebhookDelivery.endpoint_id == UUID(endpoint_id), WebhookDelivery.ready
        )
        assert set(await session.scalars(mine)) == set(subjects)
