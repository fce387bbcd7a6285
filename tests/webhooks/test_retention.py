"""Deliveries that are over go in time, with their tries; what waits stays, and everything can be sent again."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from ipaddress import ip_network
from uuid import UUID

import httpx
import pytest
from sqlalchemy import func, select, update

from app import clock
from app.clients.outbound import Outbound
from app.db import Database
from app.models.staff import Role
from app.models.webhooks import DeliveryStatus, WebhookAttempt, WebhookDelivery
from app.outside import outside
from app.services import retention
from app.settings import settings
from tests.factories import Person, Places, make_staff
from tests.webhooks.receiver import Receiver
from tests.webhooks.test_delivering import PATH, deliveries, happen, sending, settled, subscribe, until

_KEPT = timedelta(days=90)
_MINUTE = timedelta(minutes=1)


@pytest.fixture(autouse=True)
def _loopback_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outside, "outbound", Outbound([ip_network("127.0.0.0/8")]))
    monkeypatch.setattr(settings, "webhook_retry_seconds", "0.05")


@pytest.fixture
async def admin(places: Places) -> Person:
    return await make_staff(Role.DISTRICT_ADMIN, places.district)


async def _sweep(db: Database) -> None:
    found = 1
    while found:
        async with db.transaction() as session:
            found = await retention.sweep_deliveries(session)


async def _ended(db: Database, delivery_id: UUID, ago: timedelta) -> None:
    ended = update(WebhookDelivery).where(WebhookDelivery.id == delivery_id)
    async with db.transaction() as session:
        await session.execute(ended.values(finished_at=clock.now() - ago))


async def _tries(db: Database, rows: Sequence[WebhookDelivery]) -> int:
    mine = select(func.count()).where(WebhookAttempt.delivery_id.in_([row.id for row in rows]))
    async with db.reading() as session:
        return (await session.scalars(mine)).one()


async def test_deliveries_go_90_days_after_their_end_with_their_tries(
    client: httpx.AsyncClient, admin: Person, places: Places, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "_AT_ONCE", 1)
    async with Receiver(answers=[(500, {}, b"")] * 2) as receiver:
        endpoint_id = await subscribe(client, admin, places.district, receiver)
        await happen(places.grid, 3)
        async with sending():
            rows = await settled(db, endpoint_id, DeliveryStatus.DELIVERED, 2)
    dead, delivered, young = rows
    assert dead.status is DeliveryStatus.DEAD
    for row in (dead, delivered):
        await _ended(db, row.id, _KEPT + _MINUTE)
    await _ended(db, young.id, _KEPT - _MINUTE)
    await _sweep(db)
    assert [row.id for row in await deliveries(db, endpoint_id)] == [young.id]
    assert (await _tries(db, [dead, delivered]), await _tries(db, [young])) == (0, 1)


async def test_what_waits_is_kept_however_old(
    client: httpx.AsyncClient, admin: Person, places: Places, db: Database
) -> None:
    async with Receiver() as receiver:
        endpoint_id = await subscribe(client, admin, places.district, receiver)
        await happen(places.grid)
    (waiting,) = await deliveries(db, endpoint_id)
    async with db.transaction() as session:
        long_ago = clock.now() - timedelta(days=1000)
        await session.execute(
            update(WebhookDelivery)
            .where(WebhookDelivery.id == waiting.id)
            .values(created_at=long_ago, next_at=long_ago)
        )
    await _sweep(db)
    assert [row.id for row in await deliveries(db, endpoint_id)] == [waiting.id]


async def test_what_went_can_be_sent_again_with_its_id(
    client: httpx.AsyncClient, admin: Person, places: Places, db: Database
) -> None:
    began = clock.now()
    async with Receiver() as receiver:
        endpoint_id = await subscribe(client, admin, places.district, receiver)
        await happen(places.grid, 2)
        async with sending():
            first, _ = await settled(db, endpoint_id, DeliveryStatus.DELIVERED, 2)
        await _ended(db, first.id, _KEPT + _MINUTE)
        await _sweep(db)
        gone = await client.get(f"/v1/webhook-deliveries/{first.id}", headers=admin.headers)
        assert gone.status_code == 404
        window = {"since": began.isoformat(), "until": clock.now().isoformat()}
        answer = await client.post(f"{PATH}/{endpoint_id}/replay", headers=admin.headers, json=window)
        assert answer.json() == {"queued": 2}
        async with sending():
            await until(lambda: len(receiver.received) == 4)
    ids = [each.message_id for each in receiver.received]
    assert ids[2:] == ids[:2]


async def test_a_replay_and_a_sweep_at_once_leave_it_queued(
    client: httpx.AsyncClient, admin: Person, places: Places, db: Database
) -> None:
    began = clock.now()
    async with Receiver() as receiver:
        endpoint_id = await subscribe(client, admin, places.district, receiver)
        await happen(places.grid)
        async with sending():
            (row,) = await settled(db, endpoint_id, DeliveryStatus.DELIVERED, 1)
    await _ended(db, row.id, _KEPT + _MINUTE)
    window = {"since": began.isoformat(), "until": clock.now().isoformat()}
    async with db.transaction() as session:
        assert await retention.sweep_deliveries(session) >= 1
        asking = client.post(f"{PATH}/{endpoint_id}/replay", headers=admin.headers, json=window)
        replay = asyncio.create_task(asking)
        await asyncio.sleep(0.2)
        assert not replay.done()
    assert (await replay).json() == {"queued": 1}
    (again,) = await deliveries(db, endpoint_id)
    assert (again.event_id, again.status, again.ready) == (row.event_id, DeliveryStatus.QUEUED, True)
    assert again.id != row.id
