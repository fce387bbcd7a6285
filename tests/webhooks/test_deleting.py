"""A deleted endpoint is sent nothing ever again, whoever is about to; nothing of it is left but its number."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterator
from ipaddress import ip_network
from uuid import UUID

import httpx
import pytest
from sqlalchemy import Select, func, select

from app import outbox
from app.clients.outbound import Outbound, Outcome
from app.clients.storage import Storage
from app.db import Database
from app.models.events import Event
from app.models.hazards import HazardStatus
from app.models.staff import Role
from app.models.webhooks import (
    DeliveryStatus,
    WebhookAttempt,
    WebhookEndpoint,
    WebhookSecret,
)
from app.outside import outside
from app.services import retention, webhook_deliveries, webhook_endpoints
from app.services.verification import CHECKS
from app.services.verification_checks import Probe
from app.services.webhook_deliveries import Claimed
from app.settings import settings
from app.tasks import KINDS
from app.webhook_sender import PER_ENDPOINT
from tests.factories import Person, Places, make_resident, make_staff
from tests.stories import begin, complaints, problem
from tests.webhooks.receiver import Receiver
from tests.webhooks.test_delivering import (
    PATH,
    deliveries,
    happen,
    sending,
    settled,
    subscribe,
    subscribe_fully,
    until,
)
from tests.worker import chronicle, workshop
from tests.worker.workshop import working

ROUNDS = 4
WINDOW = {"since": "2026-01-01T00:00:00Z", "until": "2099-01-01T00:00:00Z"}
Breaches = Callable[[str], Awaitable[list[str]]]


@pytest.fixture(autouse=True)
def _loopback_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outside, "outbound", Outbound([ip_network("127.0.0.0/8")]))
    monkeypatch.setattr(settings, "webhook_retry_seconds", "0.05,0.05")


@pytest.fixture
async def admin(places: Places) -> Person:
    return await make_staff(Role.DISTRICT_ADMIN, places.district)


@pytest.fixture
def storage() -> Iterator[Storage]:
    storage = Storage(settings.media_location)
    yield storage
    storage.close()


@pytest.fixture
def breaches(db: Database, storage: Storage) -> Breaches:
    """What the verification says about one endpoint and its deliveries."""

    async def look(endpoint_id: str) -> list[str]:
        names = {endpoint_id} | {str(row.id) for row in await deliveries(db, endpoint_id)}
        chosen = [check for check in CHECKS if check.name.startswith(("webhooks.", "events."))]
        async with db.reading() as session:
            probe = Probe(session, storage, lambda done, total: None)
            lines = [line for check in chosen async for line in check.find(probe)]
        return [line for line in lines if any(name in line for name in names)]

    return look


async def _delete(client: httpx.AsyncClient, person: Person, endpoint_id: str) -> httpx.Response:
    return await client.delete(f"{PATH}/{endpoint_id}", headers=person.headers)


async def _gone(client: httpx.AsyncClient, admin: Person, endpoint_id: str) -> None:
    answer = await _delete(client, admin, endpoint_id)
    assert (answer.status_code, answer.content) == (204, b"")


async def _sweep(db: Database) -> None:
    found = 1
    while found:
        async with db.transaction() as session:
            found = await retention.sweep_deleted_endpoints(session)


async def _claimed(db: Database, endpoint_id: str) -> list[Claimed]:
    async with db.transaction() as session:
        takers = await webhook_deliveries.receivers(session, [])
        mine = [(each, PER_ENDPOINT) for each in takers if each.id == UUID(endpoint_id)]
        return [claimed for _, claimed in await webhook_deliveries.claim(session, mine)]


async def _count(db: Database, query: Select[int]) -> int:
    async with db.reading() as session:
        return (await session.scalars(query)).one()


async def _told(db: Database, endpoint_id: str) -> list[tuple[str, UUID | None]]:
    """The events about an endpoint, and who they are of."""
    mine = select(Event).where(Event.subject_id == UUID(endpoint_id)).order_by(Event.seq)
    async with db.reading() as session:
        return [(event.type, event.actor_id) for event in await session.scalars(mine)]


async def test_nothing_of_it_is_left_but_its_number(
    client: httpx.AsyncClient, admin: Person, places: Places, db: Database, breaches: Breaches
) -> None:
    async with Receiver() as receiver, Receiver() as other:
        endpoint_id = await subscribe(client, admin, places.district, receiver)
        kept_id = await subscribe(client, admin, places.district, other)
        await happen(places.grid)
        async with sending():
            (sent,) = await settled(db, endpoint_id, DeliveryStatus.DELIVERED, 1)
            await settled(db, kept_id, DeliveryStatus.DELIVERED, 1)
        await happen(places.grid, 2)
        await chronicle.happen(await chronicle.new_subject(places.grid), "region.updated")
        await _gone(client, admin, endpoint_id)
        assert await breaches(endpoint_id) == []
        await happen(places.grid)
        assert len(await deliveries(db, endpoint_id)) == 3
        async with sending():
            await settled(db, kept_id, DeliveryStatus.DELIVERED, 5)
        assert len(receiver.received) == 1
    await _sweep(db)
    assert await deliveries(db, endpoint_id) == []
    assert len(await deliveries(db, kept_id)) == 5
    assert await breaches(endpoint_id) == []
    tries = select(func.count()).where(WebhookAttempt.delivery_id == sent.id)
    secrets = select(func.count()).where(WebhookSecret.endpoint_id == UUID(endpoint_id))
    assert (await _count(db, tries), await _count(db, secrets)) == (0, 0)
    async with db.reading() as session:
        row = await session.get_one(WebhookEndpoint, UUID(endpoint_id))
    assert (row.url, row.name, row.is_active) == ("", "test", False)
    query = {"endpoint_id": endpoint_id}
    answer = await client.get("/v1/webhook-deliveries", headers=admin.headers, params=query)
    complaint = ("query.endpoint_id", "unknown_webhook_endpoint")
    assert complaints(problem(answer, 422, "invalid_input")) == [complaint]
    assert (await _told(db, endpoint_id))[-1] == ("webhook_endpoint.deleted", admin.id)


async def test_nobody_is_shown_it_or_gets_anything_done_with_it(
    client: httpx.AsyncClient, admin: Person, places: Places, db: Database
) -> None:
    async with Receiver(answers=[(500, {}, b"")] * 3) as receiver:
        endpoint_id = await subscribe(client, admin, places.district, receiver)
        await happen(places.grid)
        async with sending():
            (dead,) = await settled(db, endpoint_id, DeliveryStatus.DEAD, 1)
        change = {"name": "other", "url": receiver.url, "event_types": ["region."]}
    await _gone(client, admin, endpoint_id)
    path = f"{PATH}/{endpoint_id}"
    asked: list[tuple[str, str, object]] = [
        ("GET", path, None),
        ("PUT", path, change),
        ("POST", f"{path}/rotate-secret", {"overlap_hours": 0}),
        ("POST", f"{path}/enable", None),
        ("POST", f"{path}/disable", None),
        ("POST", f"{path}/ping", None),
        ("POST", f"{path}/replay", WINDOW),
        ("GET", f"/v1/webhook-deliveries/{dead.id}", None),
        ("POST", f"/v1/webhook-deliveries/{dead.id}/retry", None),
    ]
    for method, where, body in asked:
        answer = await client.request(method, where, headers=admin.headers, json=body)
        problem(answer, 404, "not_found")
    for where in (PATH, "/v1/webhook-deliveries"):
        listed = (await client.get(where, headers=admin.headers)).json()["items"]
        assert [each for each in listed if endpoint_id in (each["id"], each.get("endpoint_id"))] == []


async def test_only_who_may_change_it_deletes_it_and_only_what_they_read(
    client: httpx.AsyncClient, admin: Person, places: Places
) -> None:
    stranger = await make_staff(Role.DISTRICT_ADMIN, places.far_street)
    long_ago = await make_staff(Role.DISTRICT_ADMIN, places.district, stepped_up=False)
    async with Receiver() as receiver:
        endpoint_id = await subscribe(client, admin, places.street, receiver)
    problem(await _delete(client, stranger, endpoint_id), 404, "not_found")
    problem(await _delete(client, long_ago, endpoint_id), 403, "step_up_required")
    for person in (
        await make_staff(Role.COMMUNITY_MANAGER, places.community),
        await make_staff(Role.AUDITOR, places.district),
        await make_resident(places.community),
    ):
        problem(await _delete(client, person, endpoint_id), 403, "forbidden")
    for version, status in ((2, 412), (1, 204), (1, 404)):
        headers = admin.headers | {"If-Match": f'"{version}"'}
        answer = await client.delete(f"{PATH}/{endpoint_id}", headers=headers)
        assert answer.status_code == status, answer.text


async def test_it_is_deleted_once(
    client: httpx.AsyncClient, admin: Person, places: Places, db: Database
) -> None:
    async with Receiver() as receiver:
        endpoint_id = await subscribe(client, admin, places.district, receiver)
    answers = await asyncio.gather(*(_delete(client, admin, endpoint_id) for _ in range(5)))
    assert sorted(answer.status_code for answer in answers) == [204, 404, 404, 404, 404]
    assert [type_ for type_, _ in await _told(db, endpoint_id)] == [
        "webhook_endpoint.created",
        "webhook_endpoint.deleted",
    ]


async def test_what_a_worker_has_in_hand_is_not_sent(
    client: httpx.AsyncClient, admin: Person, places: Places, db: Database, breaches: Breaches
) -> None:
    async with Receiver(hang_seconds=0.5) as receiver:
        endpoint_id = await subscribe(client, admin, places.district, receiver)
        for _ in range(2 * PER_ENDPOINT):
            await chronicle.happen(await chronicle.new_subject(places.grid), "region.updated")
        await chronicle.place_all()
        async with sending():
            await until(lambda: receiver.connections == PER_ENDPOINT)
            await _gone(client, admin, endpoint_id)
            await settled(db, endpoint_id, DeliveryStatus.DELIVERED, PER_ENDPOINT)
            await asyncio.sleep(0.3)
        assert receiver.connections == PER_ENDPOINT
    assert await breaches(endpoint_id) == []
    await _sweep(db)
    assert await deliveries(db, endpoint_id) == []


async def test_a_try_that_ends_after_its_delivery_was_swept_spoils_no_other(
    client: httpx.AsyncClient, admin: Person, places: Places, db: Database
) -> None:
    async with Receiver() as receiver:
        gone_id = await subscribe(client, admin, places.district, receiver)
        kept_id = await subscribe(client, admin, places.district, receiver)
        await happen(places.grid)
        [gone], [kept] = await _claimed(db, gone_id), await _claimed(db, kept_id)
    await _gone(client, admin, gone_id)
    await _sweep(db)
    async with db.transaction() as session:
        answered = Outcome(410, None, 1), Outcome(204, None, 1)
        await webhook_deliveries.finish(session, list(zip((gone, kept), answered, strict=True)))
        await webhook_endpoints.note(session, UUID(gone_id), gone=True, succeeded=False, died=True)
    assert await deliveries(db, gone_id) == []
    assert [row.status for row in await deliveries(db, kept_id)] == [DeliveryStatus.DELIVERED]
    assert (await _told(db, gone_id))[-1][0] == "webhook_endpoint.deleted"


async def test_deleting_races_tries_retries_replays_and_new_events(
    client: httpx.AsyncClient, admin: Person, places: Places, db: Database, breaches: Breaches
) -> None:
    """Whatever was under way at that moment: soon nothing arrives any more, and nothing is left to be sent."""
    for _ in range(ROUNDS):
        async with Receiver() as receiver:
            receiver.answers = list(itertools.repeat((500, {}, b""), 10_000))
            endpoint_id = await subscribe(client, admin, places.district, receiver)
            subjects = [await chronicle.new_subject(places.grid) for _ in range(PER_ENDPOINT)]
            for subject in subjects:
                await chronicle.happen(subject, "region.updated")
            await chronicle.place_all()
            async with sending(senders=2):
                rows = await settled(db, endpoint_id, DeliveryStatus.DEAD, len(subjects))
                await asyncio.gather(
                    _delete(client, admin, endpoint_id),
                    *(_again(client, admin, f"/v1/webhook-deliveries/{row.id}/retry") for row in rows),
                    _again(client, admin, f"{PATH}/{endpoint_id}/replay", WINDOW),
                    happen(places.grid, 5),
                )
                await asyncio.sleep(0.3)
                arrived = receiver.connections
                await asyncio.sleep(0.5)
                assert receiver.connections == arrived
                assert await breaches(endpoint_id) == []
                await _sweep(db)
            assert await deliveries(db, endpoint_id) == []
            assert await breaches(endpoint_id) == []


async def _again(client: httpx.AsyncClient, admin: Person, path: str, body: object = None) -> None:
    """It comes before the deletion, or after it; a replay may have queued it already."""
    answer = await client.post(path, headers=admin.headers, json=body)
    assert answer.status_code in (202, 404, 409), answer.text


async def test_kept_words_go_with_the_sweep_that_the_worker_makes(
    client: httpx.AsyncClient, admin: Person, places: Places, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "_AT_ONCE", 2)
    monkeypatch.setattr(settings, "webhook_retry_seconds", "3600")
    story = await begin(client, places)
    async with Receiver(answers=[(500, {}, b"")] * 5) as receiver:
        endpoint_id = await subscribe_fully(client, admin, places, receiver)
        for _ in range(5):
            await story.hazard(HazardStatus.FILED)
        await chronicle.place_all()
        async with sending():
            await until(lambda: len(receiver.received) == 5)
    assert all(row.body_sealed for row in await deliveries(db, endpoint_id))
    await _gone(client, admin, endpoint_id)
    async with db.transaction() as session:
        await outbox.enqueue(session, "sweep.rows", {})

    async def is_swept() -> bool:
        return not await deliveries(db, endpoint_id)

    async with working({"sweep.rows": KINDS["sweep.rows"]}):
        await workshop.until(is_swept)
