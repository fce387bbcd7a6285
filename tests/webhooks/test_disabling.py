"""A disabled endpoint collects nothing: what waited is kept, what happens meanwhile is for a replay, nothing lies between."""

import asyncio
from collections import Counter
from datetime import datetime, timedelta
from ipaddress import ip_network
from uuid import UUID

import httpx
import pytest
from sqlalchemy import select

from app import clock
from app.cli import sync as cli
from app.clients.outbound import Outbound
from app.db import Database
from app.handlers import HANDLERS
from app.models.events import Event
from app.models.staff import Role
from app.models.webhooks import DeliveryStatus, WebhookEndpoint
from app.outside import outside
from app.sequencer import sequence
from app.services import webhook_deliveries
from app.settings import settings
from app.webhook_sender import PER_ENDPOINT
from tests.factories import Person, Places, make_staff
from tests.stories import problem
from tests.webhooks.receiver import Receiver
from tests.webhooks.test_delivering import PATH, deliveries, happen, sending, settled, subscribe, until
from tests.worker import chronicle

ROUNDS = 6


@pytest.fixture(autouse=True)
def _loopback_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outside, "outbound", Outbound([ip_network("127.0.0.0/8")]))
    monkeypatch.setattr(settings, "webhook_retry_seconds", "0.05")


@pytest.fixture
async def admin(places: Places) -> Person:
    return await make_staff(Role.DISTRICT_ADMIN, places.district)


async def _switch(client: httpx.AsyncClient, admin: Person, endpoint_id: str, how: str) -> datetime:
    """Enable or disable it; when it was last disabled."""
    answer = await client.post(f"{PATH}/{endpoint_id}/{how}", headers=admin.headers)
    assert answer.status_code == 200, answer.text
    return datetime.fromisoformat(answer.json()["disabled_at"])


async def _replay(client: httpx.AsyncClient, admin: Person, endpoint_id: str, since: datetime) -> int:
    window = {"since": since.isoformat(), "until": clock.now().isoformat()}
    answer = await client.post(f"{PATH}/{endpoint_id}/replay", headers=admin.headers, json=window)
    assert answer.status_code == 202, answer.text
    queued: int = answer.json()["queued"]
    return queued


async def test_what_waits_is_kept_and_what_happens_meanwhile_is_not_queued(
    client: httpx.AsyncClient, admin: Person, places: Places, db: Database
) -> None:
    async with Receiver() as receiver:
        endpoint_id = await subscribe(client, admin, places.district, receiver)
        await happen(places.grid, 2)
        disabled_at = await _switch(client, admin, endpoint_id, "disable")
        await happen(places.grid, 3)
        assert len(await deliveries(db, endpoint_id)) == 2
        assert await _switch(client, admin, endpoint_id, "enable") == disabled_at
        await happen(places.grid)
        async with sending():
            await settled(db, endpoint_id, DeliveryStatus.DELIVERED, 3)
            assert [each.data["seq"] for each in receiver.received] == [1, 2, 6]
            assert await _replay(client, admin, endpoint_id, disabled_at) == 4
            await until(lambda: len(receiver.received) == 7)
        assert [each.data["seq"] for each in receiver.received[3:]] == [3, 4, 5, 6]
        assert receiver.received[2].message_id == receiver.received[6].message_id


async def test_a_replay_before_it_is_enabled_waits_and_keeps_the_order(
    client: httpx.AsyncClient, admin: Person, places: Places, db: Database
) -> None:
    async with Receiver() as receiver:
        endpoint_id = await subscribe(client, admin, places.district, receiver)
        disabled_at = await _switch(client, admin, endpoint_id, "disable")
        await happen(places.grid, 3)
        async with sending():
            assert await _replay(client, admin, endpoint_id, disabled_at) == 3
            await asyncio.sleep(0.3)
            assert receiver.received == []
            await _switch(client, admin, endpoint_id, "enable")
            await happen(places.grid)
            await settled(db, endpoint_id, DeliveryStatus.DELIVERED, 4)
        assert [each.data["seq"] for each in receiver.received] == [1, 2, 3, 4]


async def test_one_that_answered_410_collects_nothing_either(
    client: httpx.AsyncClient, admin: Person, places: Places, db: Database
) -> None:
    async with Receiver(answers=[(410, {}, b"")]) as receiver:
        endpoint_id = await subscribe(client, admin, places.district, receiver)
        await happen(places.grid)
        async with sending():
            await until(lambda: len(receiver.received) == 1)
        read = (await client.get(f"{PATH}/{endpoint_id}", headers=admin.headers)).json()
        assert clock.now() - datetime.fromisoformat(read["disabled_at"]) < timedelta(minutes=1)
        await happen(places.grid, 20)
        assert len(await deliveries(db, endpoint_id)) == 1


async def test_what_happened_before_and_is_placed_after_is_queued(
    client: httpx.AsyncClient, admin: Person, places: Places, db: Database
) -> None:
    async with Receiver() as receiver:
        endpoint_id = await subscribe(client, admin, places.district, receiver)
        subject = await chronicle.new_subject(places.grid)
        before = await chronicle.happen(subject, "region.updated")
        await _switch(client, admin, endpoint_id, "disable")
        await chronicle.happen(subject, "region.updated")
        await chronicle.place_all()
        assert [row.event_id for row in await deliveries(db, endpoint_id)] == [before]


async def test_nothing_lies_between_the_last_delivery_and_a_replay(
    client: httpx.AsyncClient, admin: Person, places: Places, db: Database
) -> None:
    """Events come without a pause while it is disabled and enabled again."""
    async with Receiver() as receiver:
        endpoint_id = await subscribe(client, admin, places.district, receiver)
        subject, over = await chronicle.new_subject(places.grid), asyncio.Event()

        async def go_on() -> None:
            while not over.is_set():
                await chronicle.happen(subject, "region.updated")
                await chronicle.place_all()

        happening = asyncio.create_task(go_on())
        for _ in range(ROUNDS):
            await asyncio.sleep(0.05)
            disabled_at = await _switch(client, admin, endpoint_id, "disable")
            await asyncio.sleep(0.05)
            await _switch(client, admin, endpoint_id, "enable")
            await _replay(client, admin, endpoint_id, disabled_at)
        over.set()
        await happening
        async with db.reading() as session:
            mine = select(Event.id).where(Event.subject_id == subject).order_by(Event.seq)
            happened = list(await session.scalars(mine))
        assert len(happened) > ROUNDS
        assert [row.event_id for row in await deliveries(db, endpoint_id)] == happened


async def test_it_is_enabled_between_two_batches_of_events(
    client: httpx.AsyncClient, admin: Person, places: Places, db: Database
) -> None:
    """What was placed while it was disabled is there for a replay as soon as it is enabled."""
    async with Receiver() as receiver:
        endpoint_id = await subscribe(client, admin, places.district, receiver)
        disabled_at = await _switch(client, admin, endpoint_id, "disable")
        await chronicle.place_all()
        event_id = await chronicle.happen(await chronicle.new_subject(places.grid), "region.updated")
        async with db.transaction() as session:
            assert await sequence(session, HANDLERS) == 1
            enabling = asyncio.create_task(_switch(client, admin, endpoint_id, "enable"))
            await asyncio.sleep(0.3)
            assert not enabling.done()
        await enabling
        assert await _replay(client, admin, endpoint_id, disabled_at) == 1
        assert [row.event_id for row in await deliveries(db, endpoint_id)] == [event_id]


async def test_what_a_worker_has_in_hand_is_given_back(
    client: httpx.AsyncClient, admin: Person, places: Places, db: Database
) -> None:
    async with Receiver(hang_seconds=0.5) as receiver:
        endpoint_id = await subscribe(client, admin, places.district, receiver)
        subjects = [await chronicle.new_subject(places.grid) for _ in range(2 * PER_ENDPOINT)]
        for subject in subjects:
            await chronicle.happen(subject, "region.updated")
        await chronicle.place_all()
        async with sending():
            await until(lambda: receiver.connections == PER_ENDPOINT)
            await _switch(client, admin, endpoint_id, "disable")
            await settled(db, endpoint_id, DeliveryStatus.DELIVERED, PER_ENDPOINT)
            await asyncio.sleep(0.3)
            rows = await deliveries(db, endpoint_id)
            assert receiver.connections == PER_ENDPOINT
            assert Counter((row.status, row.attempts, row.lease_token) for row in rows) == {
                (DeliveryStatus.DELIVERED, 1, None): PER_ENDPOINT,
                (DeliveryStatus.QUEUED, 0, None): PER_ENDPOINT,
            }
            await _switch(client, admin, endpoint_id, "enable")
            rows = await settled(db, endpoint_id, DeliveryStatus.DELIVERED, len(subjects))
        assert {row.attempts for row in rows} == {1}


async def test_nothing_is_taken_for_a_receiver_that_was_looked_up_before(
    client: httpx.AsyncClient, admin: Person, places: Places, db: Database
) -> None:
    async with Receiver() as receiver:
        endpoint_id = await subscribe(client, admin, places.district, receiver)
        await happen(places.grid)
        async with db.reading() as session:
            takers = await webhook_deliveries.receivers(session, [])
        taker = next(each for each in takers if each.id == UUID(endpoint_id))
        await _switch(client, admin, endpoint_id, "disable")
        async with db.transaction() as session:
            assert await webhook_deliveries.claim(session, [(taker, PER_ENDPOINT)]) == []


async def test_it_is_disabled_once(client: httpx.AsyncClient, admin: Person, places: Places) -> None:
    async with Receiver() as receiver:
        endpoint_id = await subscribe(client, admin, places.district, receiver)
        asked = (client.post(f"{PATH}/{endpoint_id}/disable", headers=admin.headers) for _ in range(5))
        answers = sorted(await asyncio.gather(*asked), key=lambda answer: answer.status_code)
        assert answers[0].status_code == 200
        for answer in answers[1:]:
            problem(answer, 409, "wrong_webhook_endpoint_status")


async def test_the_status_says_since_when_nothing_is_queued(
    client: httpx.AsyncClient, admin: Person, places: Places, db: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    async with Receiver() as receiver:
        endpoint_id = await subscribe(client, admin, places.district, receiver)
    async with db.transaction() as session:
        (await session.get_one(WebhookEndpoint, UUID(endpoint_id))).name = endpoint_id
    disabled_at = await _switch(client, admin, endpoint_id, "disable")
    cli._show_receivers((await cli._status())[3])
    said = "".join(capsys.readouterr())
    assert (
        f"{endpoint_id} is disabled: nothing is queued for it since {disabled_at:%Y-%m-%d %H:%M:%S} UTC"
        in said
    )
    await _switch(client, admin, endpoint_id, "enable")
    cli._show_receivers((await cli._status())[3])
    assert f"{endpoint_id} is disabled" not in "".join(capsys.readouterr())
