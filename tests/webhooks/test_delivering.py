"""Events reach every endpoint that wants them: signed, in order, retried, and never twice without need."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from ipaddress import ip_network
from uuid import UUID

import httpx
import pytest
from sqlalchemy import select, update

from app import clock, events, webhook_sender
from app.auth import SYSTEM
from app.clients.outbound import Outbound, Outcome
from app.db import Database, database
from app.events import Place
from app.handlers import HANDLERS
from app.ids import new_id
from app.keys import seal
from app.models.events import Audience
from app.models.hazards import Hazard, HazardStatus
from app.models.regions import Region
from app.models.staff import Role
from app.models.webhooks import DeliveryStatus, WebhookDelivery, WebhookSecret
from app.outside import outside
from app.sequencer import sequence
from app.services import webhook_deliveries
from app.services.webhook_deliveries import Claimed
from app.settings import settings
from app.webhook_sender import PER_ENDPOINT, Sender
from tests.factories import Person, Places, make_staff
from tests.stories import CATEGORY, DESCRIPTION, begin, change, complaints, problem
from tests.webhooks.receiver import Answer, Receiver
from tests.worker.chronicle import new_subject, place_all, record

PATH = "/v1/webhook-endpoints"


@pytest.fixture(autouse=True)
def _loopback_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outside, "outbound", Outbound([ip_network("127.0.0.0/8")]))
    monkeypatch.setattr(settings, "webhook_retry_seconds", "0.05,0.05,0.05,0.05")


@pytest.fixture
async def admin(places: Places) -> Person:
    return await make_staff(Role.DISTRICT_ADMIN, places.district)


async def subscribe(
    client: httpx.AsyncClient, admin: Person, region_id: UUID, receiver: Receiver, *types: str
) -> str:
    body = {
        "name": "test",
        "url": receiver.url,
        "event_types": list(types) or ["region."],
        "region_id": str(region_id),
    }
    answer = await client.post(PATH, headers=admin.headers, json=body)
    assert answer.status_code == 201, answer.text
    receiver.secrets.append(answer.json()["secret"])
    endpoint_id: str = answer.json()["id"]
    return endpoint_id


async def happen(region_id: UUID, times: int = 1) -> None:
    """So many events about one region."""
    async with database.transaction() as session:
        region = (await session.scalars(select(Region).where(Region.id == region_id).with_for_update())).one()
        for _ in range(times):
            events.record(
                session,
                SYSTEM,
                region,
                "region.updated",
                audience=Audience.STAFF,
                place=Place(None, region_id),
            )
            await session.flush()
    await _place_events()


async def _place_events() -> None:
    placed = 1
    while placed:
        async with database.transaction() as session:
            placed = await sequence(session, HANDLERS)


@asynccontextmanager
async def sending(senders: int = 1) -> AsyncIterator[None]:
    stop = asyncio.Event()
    running = [asyncio.create_task(Sender().run(stop)) for _ in range(senders)]
    try:
        yield
    finally:
        stop.set()
        await asyncio.gather(*running)


async def until(is_so: Callable[[], bool], seconds: float = 10) -> None:
    async with asyncio.timeout(seconds):
        while not is_so():  # noqa: ASYNC110 - it looks at another process's state
            await asyncio.sleep(0.02)


async def deliveries(db: Database, endpoint_id: str) -> list[WebhookDelivery]:
    async with db.reading() as session:
        rows = await session.scalars(
            select(WebhookDelivery)
            .where(WebhookDelivery.endpoint_id == UUID(endpoint_id))
            .order_by(WebhookDelivery.position)
        )
        return list(rows)


async def settled(
    db: Database, endpoint_id: str, status: DeliveryStatus, count: int
) -> list[WebhookDelivery]:
    async with asyncio.timeout(15):
        while True:
            rows = await deliveries(db, endpoint_id)
            if sum(row.status is status for row in rows) == count:
                return rows
            await asyncio.sleep(0.05)


async def test_a_sender_at_rest_stops_when_told(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook_sender, "_IDLE_SECONDS", 60)
    monkeypatch.setattr(settings, "webhook_retry_seconds", "60")
    async with asyncio.timeout(10):
        async with sending():
            await asyncio.sleep(0.2)


async def test_everything_arrives_signed_and_in_order(
    client: httpx.AsyncClient, admin: Person, places: Places, db: Database
) -> None:
    async with Receiver() as receiver:
        endpoint_id = await subscribe(client, admin, places.district, receiver)
        async with sending(senders=2):
            await happen(places.grid, 15)
            await happen(places.community, 10)
            await settled(db, endpoint_id, DeliveryStatus.DELIVERED, 25)
        assert receiver.unverified == 0
        assert len(receiver.received) == 25
        assert all(numbers == sorted(numbers) for numbers in receiver.by_subject().values())
        assert all("x-api" not in each.headers and b"sealed" not in each.body for each in receiver.received)


async def test_only_what_was_asked_for_and_only_from_the_region(
    client: httpx.AsyncClient, admin: Person, places: Places, db: Database
) -> None:
    async with Receiver() as receiver:
        near = await subscribe(client, admin, places.street, receiver)
        other = await subscribe(client, admin, places.district, receiver, "hazard.")
        await happen(places.grid)
        await happen(places.far_grid)
        assert len(await deliveries(db, near)) == 1
        assert await deliveries(db, other) == []


@pytest.mark.parametrize(
    ("status", "headers", "succeeds"),
    [
        (200, {}, True),
        (204, {}, True),
        (299, {}, True),
        (301, {"Location": "/x"}, False),
        (404, {}, False),
        (500, {}, False),
    ],
)
async def test_2xx_only_is_success_and_redirects_are_not_followed(
    client: httpx.AsyncClient,
    admin: Person,
    places: Places,
    db: Database,
    status: int,
    headers: dict[str, str],
    succeeds: bool,
) -> None:
    async with Receiver(answers=[(status, headers, b"")]) as receiver:
        endpoint_id = await subscribe(client, admin, places.district, receiver)
        await happen(places.grid)
        async with sending():
            await settled(db, endpoint_id, DeliveryStatus.DELIVERED, 1)
        assert len(receiver.received) == (1 if succeeds else 2)
        ids = {each.message_id for each in receiver.received}
        bodies = {each.body for each in receiver.received}
        assert len(ids) == len(bodies) == 1


async def test_a_failing_one_is_dead_in_the_end_and_lets_the_next_go(
    client: httpx.AsyncClient, admin: Person, places: Places, db: Database
) -> None:
    failures: list[Answer] = [(500, {}, b"broken \x1b[31m" + b"x" * 3000)] * 5
    async with Receiver(answers=failures) as receiver:
        endpoint_id = await subscribe(client, admin, places.district, receiver)
        await happen(places.grid, 2)
        async with sending():
            await settled(db, endpoint_id, DeliveryStatus.DELIVERED, 1)
        first, second = await deliveries(db, endpoint_id)
        assert (first.status, first.attempts) == (DeliveryStatus.DEAD, 5)
        assert (second.status, second.attempts) == (DeliveryStatus.DELIVERED, 1)
        detail = (await client.get(f"/v1/webhook-deliveries/{first.id}", headers=admin.headers)).json()
        assert [each["n"] for each in detail["tries"]] == [1, 2, 3, 4, 5]
        assert len(detail["tries"][0]["excerpt"]) <= 1024
        assert "\x1b" not in detail["tries"][0]["excerpt"]
        again = await client.post(f"/v1/webhook-deliveries/{first.id}/retry", headers=admin.headers)
        assert again.status_code == 202
        async with sending():
            await settled(db, endpoint_id, DeliveryStatus.DELIVERED, 2)
        assert receiver.received[-1].message_id == receiver.received[0].message_id


async def test_410_disables_and_nothing_more_is_sent(
    client: httpx.AsyncClient, admin: Person, places: Places, db: Database
) -> None:
    async with Receiver(answers=[(410, {}, b"")]) as receiver:
        endpoint_id = await subscribe(client, admin, places.district, receiver)
        await happen(places.grid)
        async with sending():
            await until(lambda: len(receiver.received) == 1)
            await asyncio.sleep(0.5)
        read = (await client.get(f"{PATH}/{endpoint_id}", headers=admin.headers)).json()
        assert (read["status"], read["disabled_reason"]) == ("disabled", "gone")
        assert len(receiver.received) == 1
        assert (await client.post(f"{PATH}/{endpoint_id}/enable", headers=admin.headers)).status_code == 200
        async with sending():
            await settled(db, endpoint_id, DeliveryStatus.DELIVERED, 1)


async def test_nothing_but_failures_for_five_days_disables(
    client: httpx.AsyncClient,
    admin: Person,
    places: Places,
    db: Database,
    advance: Callable[[float], None],
) -> None:
    async with Receiver(answers=[(500, {}, b"")] * 2) as receiver:
        endpoint_id = await subscribe(client, admin, places.district, receiver)
        await happen(places.grid)
        async with sending():
            await until(lambda: len(receiver.received) == 1)
        advance(121 * 3600)
        async with sending():
            await until(lambda: len(receiver.received) == 2)
        later = await make_staff(Role.DISTRICT_ADMIN, places.district)
        read = (await client.get(f"{PATH}/{endpoint_id}", headers=later.headers)).json()
        assert (read["status"], read["disabled_reason"]) == ("disabled", "failing")


async def test_retry_after_is_waited_for(
    client: httpx.AsyncClient, admin: Person, places: Places, db: Database
) -> None:
    async with Receiver(answers=[(429, {"Retry-After": "3600"}, b"")]) as receiver:
        endpoint_id = await subscribe(client, admin, places.district, receiver)
        await happen(places.grid)
        async with sending():
            await until(lambda: len(receiver.received) == 1)
            await asyncio.sleep(0.3)
        (row,) = await deliveries(db, endpoint_id)
        assert row.next_at > clock.now() + timedelta(minutes=55)


async def test_a_rotation_is_signed_with_both_and_then_with_one(
    client: httpx.AsyncClient,
    admin: Person,
    places: Places,
    db: Database,
    advance: Callable[[float], None],
) -> None:
    async with Receiver() as receiver:
        endpoint_id = await subscribe(client, admin, places.district, receiver)
        answer = await client.post(
            f"{PATH}/{endpoint_id}/rotate-secret", headers=admin.headers, json={"overlap_hours": 1}
        )
        receiver.secrets.append(answer.json()["secret"])
        await happen(places.grid)
        async with sending():
            await settled(db, endpoint_id, DeliveryStatus.DELIVERED, 1)
        assert receiver.unverified == 0
        assert len(receiver.received[0].headers["webhook-signature"].split(" ")) == 2
        advance(3601)
        await happen(places.grid)
        async with sending():
            await settled(db, endpoint_id, DeliveryStatus.DELIVERED, 2)
        assert len(receiver.received[1].headers["webhook-signature"].split(" ")) == 1


async def test_a_worker_that_was_too_slow_changes_nothing(
    client: httpx.AsyncClient, admin: Person, places: Places, db: Database
) -> None:
    async with Receiver(hang_seconds=0.5) as receiver:
        endpoint_id = await subscribe(client, admin, places.district, receiver)
        await happen(places.grid)
        async with sending():
            await until(lambda: len(receiver.received) == 1)
            async with db.transaction() as session:
                await session.execute(
                    update(WebhookDelivery)
                    .where(WebhookDelivery.endpoint_id == UUID(endpoint_id))
                    .values(lease_token=new_id())
                )
        (row,) = await deliveries(db, endpoint_id)
        assert row.status is DeliveryStatus.QUEUED


async def test_a_window_of_time_is_sent_again_with_its_ids(
    client: httpx.AsyncClient, admin: Person, places: Places, db: Database
) -> None:
    began = clock.now()
    async with Receiver() as receiver:
        endpoint_id = await subscribe(client, admin, places.district, receiver)
        await happen(places.grid, 5)
        async with sending():
            await settled(db, endpoint_id, DeliveryStatus.DELIVERED, 5)
        window = {"since": began.isoformat(), "until": clock.now().isoformat()}
        answer = await client.post(f"{PATH}/{endpoint_id}/replay", headers=admin.headers, json=window)
        assert (answer.status_code, answer.json()) == (202, {"queued": 5})
        async with sending():
            await until(lambda: len(receiver.received) == 10)
        ids = [each.message_id for each in receiver.received]
        assert ids[5:] == ids[:5]


async def test_what_is_retried_goes_before_what_waits(
    client: httpx.AsyncClient,
    admin: Person,
    places: Places,
    db: Database,
) -> None:
    async with Receiver(answers=[(500, {}, b"")] * 5) as receiver:
        endpoint_id = await subscribe(client, admin, places.district, receiver)
        await happen(places.grid)
        async with sending():
            (first,) = await settled(db, endpoint_id, DeliveryStatus.DEAD, 1)
        receiver.received.clear()
        await happen(places.grid, 2)
        again = await client.post(f"/v1/webhook-deliveries/{first.id}/retry", headers=admin.headers)
        assert (again.status_code, again.json()["status"]) == (202, "queued")
        twice = await client.post(f"/v1/webhook-deliveries/{first.id}/retry", headers=admin.headers)
        problem(twice, 409, "webhook_delivery_not_over")
        assert [row.ready for row in await deliveries(db, endpoint_id)] == [True, False, False]
        async with sending():
            await settled(db, endpoint_id, DeliveryStatus.DELIVERED, 3)
        assert [each.data["seq"] for each in receiver.received] == [1, 2, 3]


async def test_a_slow_endpoint_delays_no_other(
    client: httpx.AsyncClient, admin: Person, places: Places, db: Database
) -> None:
    async with Receiver(hang_seconds=3) as slow, Receiver() as quick:
        await subscribe(client, admin, places.district, slow)
        endpoint_id = await subscribe(client, admin, places.district, quick)
        for _ in range(10):
            await happen(places.grid)
            await happen(places.community)
        began = clock.monotonic()
        async with sending():
            await settled(db, endpoint_id, DeliveryStatus.DELIVERED, 20)
            assert clock.monotonic() - began < 2.5


async def test_a_huge_answer_is_cut(
    client: httpx.AsyncClient, admin: Person, places: Places, db: Database
) -> None:
    async with Receiver(huge=True) as receiver:
        endpoint_id = await subscribe(client, admin, places.district, receiver)
        await happen(places.grid)
        async with sending():
            await settled(db, endpoint_id, DeliveryStatus.DELIVERED, 1)


async def test_a_ping_tells_what_came_back(client: httpx.AsyncClient, admin: Person, places: Places) -> None:
    async with Receiver(answers=[(202, {}, b"thanks")]) as receiver:
        endpoint_id = await subscribe(client, admin, places.district, receiver)
        answer = (await client.post(f"{PATH}/{endpoint_id}/ping", headers=admin.headers)).json()
        assert (answer["status_code"], answer["excerpt"]) == (202, "thanks")
        assert receiver.unverified == 0


async def test_endpoints_and_deliveries_of_elsewhere_are_not_there(
    client: httpx.AsyncClient, admin: Person, places: Places, db: Database
) -> None:
    stranger = await make_staff(Role.DISTRICT_ADMIN, places.far_street)
    async with Receiver() as receiver:
        endpoint_id = await subscribe(client, admin, places.street, receiver)
        await happen(places.grid)
        (row,) = await deliveries(db, endpoint_id)
        assert (await client.get(f"{PATH}/{endpoint_id}", headers=stranger.headers)).status_code == 404
        assert (await client.post(f"{PATH}/{endpoint_id}/ping", headers=stranger.headers)).status_code == 404
        assert (
            await client.get(f"/v1/webhook-deliveries/{row.id}", headers=stranger.headers)
        ).status_code == 404
        listed = await client.get("/v1/webhook-deliveries", headers=stranger.headers)
        assert listed.json()["items"] == []
        assert receiver.connections == 0


async def test_a_full_payload_has_the_case_and_stays_the_same_with_every_try(
    client: httpx.AsyncClient, admin: Person, places: Places, db: Database
) -> None:
    story = await begin(client, places)
    async with Receiver(answers=[(500, {}, b"")]) as receiver:
        endpoint_id = await subscribe_fully(client, admin, places, receiver)
        hazard_id = await story.hazard(HazardStatus.FILED, address="3栋1单元门口")
        await _place_events()
        async with sending():
            await until(lambda: len(receiver.received) == 1)
            await change(hazard_id, category="other")
            (row,) = await settled(db, endpoint_id, DeliveryStatus.DELIVERED, 1)
    first, second = receiver.received
    assert first.body == second.body
    assert receiver.unverified == 0
    case = first.data["case"]
    assert isinstance(case, dict)
    assert (case["id"], case["description"], case["category"]) == (hazard_id, DESCRIPTION, CATEGORY)
    assert not {"reporter", "reporter_id", "address", "phone"} & case.keys()
    assert "3栋1单元门口".encode() not in first.body
    assert row.body_sealed is None


async def test_what_was_redacted_is_in_no_later_try(
    client: httpx.AsyncClient,
    admin: Person,
    places: Places,
    db: Database,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(settings, "webhook_retry_seconds", "3600")
    story = await begin(client, places)
    async with Receiver(answers=[(500, {}, b"")]) as receiver:
        endpoint_id = await subscribe_fully(client, admin, places, receiver)
        hazard_id = await story.hazard(HazardStatus.FILED)
        await _place_events()
        async with sending():
            await until(lambda: len(receiver.received) == 1)
        assert (await deliveries(db, endpoint_id))[0].body_sealed is not None
        await story.take(
            story.manager, hazard_id, "redactions", {"description": True, "reason": "subject_request"}
        )
        assert (await deliveries(db, endpoint_id))[0].body_sealed is None


async def test_words_that_do_not_fit_are_cut_and_stand_in_nobodys_way(
    client: httpx.AsyncClient, admin: Person, places: Places, db: Database
) -> None:
    """Four bytes a character make more of 4,000 characters than a payload may have."""
    story = await begin(client, places)
    async with Receiver() as receiver:
        endpoint_id = await subscribe_fully(client, admin, places, receiver)
        hazard_id = await story.hazard(HazardStatus.FILED)
        async with db.transaction() as session:
            hazard = await session.get_one(Hazard, UUID(hazard_id))
            seal(hazard, "description", "🗑" * 4_000)
        await _place_events()
        async with sending():
            await settled(db, endpoint_id, DeliveryStatus.DELIVERED, 1)
    case = receiver.received[0].data["case"]
    assert isinstance(case, dict)
    assert len(receiver.received[0].body) <= 16 * 1024
    assert (case["description"][:2], case["description_cut"]) == ("🗑🗑", True)


async def test_a_case_that_cannot_be_read_stands_in_nobodys_way(
    client: httpx.AsyncClient, admin: Person, places: Places, db: Database
) -> None:
    story = await begin(client, places)
    async with Receiver() as broken, Receiver() as other:
        await subscribe_fully(client, admin, places, broken)
        endpoint_id = await subscribe(client, admin, places.district, other, "hazard.filed")
        hazard_id = await story.hazard(HazardStatus.FILED)
        await change(hazard_id, description_sealed=b"broken")
        await _place_events()
        async with sending():
            await settled(db, endpoint_id, DeliveryStatus.DELIVERED, 1)
        assert broken.received == []
        await change(hazard_id, description_sealed=None)


async def test_what_waited_until_its_lease_was_over_is_left_to_whoever_takes_it_next(
    client: httpx.AsyncClient, admin: Person, places: Places, db: Database, advance: Callable[[float], None]
) -> None:
    async with Receiver(hang_seconds=0.5) as receiver:
        endpoint_id = await subscribe(client, admin, places.district, receiver)
        subjects = [await new_subject(places.grid) for _ in range(2 * PER_ENDPOINT)]
        await _record_all(db, subjects)
        await place_all()
        async with sending():
            await until(lambda: receiver.connections == PER_ENDPOINT)
            await asyncio.sleep(0.2)
            assert receiver.connections == PER_ENDPOINT
            advance(settings.job_lease_seconds + 1)
            rows = await settled(db, endpoint_id, DeliveryStatus.DELIVERED, len(subjects))
        # Those that were under way arrived, and nobody else had them.
        assert Counter(row.attempts for row in rows) == {1: PER_ENDPOINT, 2: PER_ENDPOINT}
        assert receiver.connections == len(subjects)


async def test_who_stops_gives_back_what_was_not_begun(
    client: httpx.AsyncClient, admin: Person, places: Places, db: Database
) -> None:
    async with Receiver(hang_seconds=0.5) as receiver:
        endpoint_id = await subscribe(client, admin, places.district, receiver)
        subjects = [await new_subject(places.grid) for _ in range(2 * PER_ENDPOINT)]
        await _record_all(db, subjects)
        await place_all()
        async with sending():
            await until(lambda: receiver.connections == PER_ENDPOINT)
        assert receiver.connections == PER_ENDPOINT
        rows = await deliveries(db, endpoint_id)
        assert Counter((row.status, row.attempts, row.lease_token) for row in rows) == {
            (DeliveryStatus.DELIVERED, 1, None): PER_ENDPOINT,
            (DeliveryStatus.QUEUED, 0, None): PER_ENDPOINT,
        }
        async with sending():
            rows = await settled(db, endpoint_id, DeliveryStatus.DELIVERED, len(subjects))
        assert {row.attempts for row in rows} == {1}


async def test_a_secret_that_cannot_be_read_stands_in_nobodys_way(
    client: httpx.AsyncClient, admin: Person, places: Places, db: Database
) -> None:
    async with Receiver() as broken, Receiver() as other:
        broken_id = UUID(await subscribe(client, admin, places.district, broken))
        endpoint_id = await subscribe(client, admin, places.district, other)
        async with db.transaction() as session:
            secret = update(WebhookSecret).where(WebhookSecret.endpoint_id == broken_id)
            await session.execute(secret.values(secret_sealed=b"broken"))
        await happen(places.grid)
        async with sending():
            await settled(db, endpoint_id, DeliveryStatus.DELIVERED, 1)
        assert broken.received == []


async def test_placing_and_finishing_never_wait_for_each_other_for_ever(
    client: httpx.AsyncClient, admin: Person, places: Places, db: Database
) -> None:
    """Of half of the subjects the delivery that ends is the newest one, of the others another waits behind it."""
    async with Receiver() as receiver:
        endpoint_id = await subscribe(client, admin, places.district, receiver)
        subjects = [await new_subject(places.grid) for _ in range(40)]
        for _ in range(6):
            await _record_all(db, subjects)
            await place_all()
            await _record_all(db, subjects[::2])
            await place_all()
            claimed = await _claim_all(db, UUID(endpoint_id))
            assert len(claimed) == len(subjects)
            await _record_all(db, subjects)
            await asyncio.gather(place_all(), _finish_all(db, claimed))
            async with db.transaction() as session:
                await session.execute(
                    update(WebhookDelivery)
                    .where(WebhookDelivery.endpoint_id == UUID(endpoint_id))
                    .values(status=DeliveryStatus.DELIVERED)
                )


async def test_what_is_placed_while_the_last_before_it_ends_is_ready(
    client: httpx.AsyncClient, admin: Person, places: Places, db: Database
) -> None:
    async with Receiver() as receiver:
        endpoint_id = UUID(await subscribe(client, admin, places.district, receiver))
        subjects = [await new_subject(places.grid)]
        await _record_all(db, subjects)
        await place_all()
        claimed = await _claim_all(db, endpoint_id)
        await _record_all(db, subjects)
        async with db.transaction() as session:
            await webhook_deliveries.finish(session, [(each, Outcome(204, None, 1)) for each in claimed])
            placing = asyncio.create_task(place_all())
            await asyncio.sleep(0.5)
        await placing
        rows = await deliveries(db, str(endpoint_id))
        assert [(row.status, row.ready) for row in rows[1:]] == [(DeliveryStatus.QUEUED, True)]


async def _record_all(db: Database, subjects: list[UUID]) -> None:
    async with db.transaction() as session:
        for subject_id in subjects:
            await record(session, subject_id, "region.updated")


async def _claim_all(db: Database, endpoint_id: UUID) -> list[Claimed]:
    async with db.transaction() as session:
        takers = [each for each in await webhook_deliveries.receivers(session, []) if each.id == endpoint_id]
        taken = await webhook_deliveries.claim(session, [(each, 100) for each in takers])
        return [claimed for _, claimed in taken]


async def _finish_all(db: Database, claimed: list[Claimed]) -> None:
    async with db.transaction() as session:
        await webhook_deliveries.finish(session, [(each, Outcome(204, None, 1)) for each in claimed])


async def test_a_try_that_died_with_its_worker_has_its_row(
    client: httpx.AsyncClient, admin: Person, places: Places, db: Database, advance: Callable[[float], None]
) -> None:
    async with Receiver() as receiver:
        endpoint_id = await subscribe(client, admin, places.district, receiver)
        await happen(places.grid)
        async with db.transaction() as session:
            for taker in await webhook_deliveries.receivers(session, []):
                if taker.id == UUID(endpoint_id):
                    assert len(await webhook_deliveries.claim(session, [(taker, 1)])) == 1
        advance(settings.job_lease_seconds + 1)
        async with sending():
            (row,) = await settled(db, endpoint_id, DeliveryStatus.DELIVERED, 1)
        detail = (await client.get(f"/v1/webhook-deliveries/{row.id}", headers=admin.headers)).json()
        tries = [(each["n"], each["status_code"], each["error"]) for each in detail["tries"]]
        assert tries == [(1, None, "worker_lost"), (2, 204, None)]


async def test_administrators_are_told_of_dead_letters_and_of_the_end(
    client: httpx.AsyncClient, admin: Person, places: Places, db: Database
) -> None:
    stranger = await make_staff(Role.DISTRICT_ADMIN, places.far_street)
    failures: list[Answer] = [*[(500, {}, b"")] * 10, (410, {}, b"")]
    async with Receiver(answers=failures) as receiver:
        endpoint_id = await subscribe(client, admin, places.street, receiver)
        await happen(places.grid, 3)
        async with sending():
            await settled(db, endpoint_id, DeliveryStatus.DEAD, 2)
            await until(lambda: len(receiver.received) == 11)
    await _place_events()
    expected: list[tuple[Person, list[str]]] = [
        (admin, ["webhook_endpoint.disabled", "webhook_endpoint.gave_up"]),
        (stranger, []),
    ]
    for person, told in expected:
        answer = await client.get("/v1/me/notifications", headers=person.headers)
        mine = [each for each in answer.json()["items"] if each["subject"]["id"] == endpoint_id]
        assert sorted(each["type"] for each in mine) == told


async def test_deliveries_are_found_by_what_they_are_about(
    client: httpx.AsyncClient, admin: Person, places: Places, db: Database
) -> None:
    async with Receiver() as receiver:
        endpoint_id = await subscribe(client, admin, places.district, receiver)
        await happen(places.grid, 2)
        await happen(places.community)
        first = (await deliveries(db, endpoint_id))[0]
        for query, count in (
            ({"subject_id": str(places.grid)}, 2),
            ({"event_id": str(first.event_id)}, 1),
            ({"type": "region.updated"}, 3),
            ({"type": "region."}, 3),
            ({"type": "hazard.filed"}, 0),
            ({"subject_id": str(places.community), "type": "hazard."}, 0),
            ({"status": "queued"}, 3),
            ({"status": "dead"}, 0),
        ):
            answer = await client.get(
                "/v1/webhook-deliveries", headers=admin.headers, params={"endpoint_id": endpoint_id, **query}
            )
            assert len(answer.json()["items"]) == count, query


async def test_what_deliveries_cannot_be_about_is_no_question(
    client: httpx.AsyncClient, admin: Person, places: Places, db: Database
) -> None:
    """Somebody else's looks like nobody's, and an empty list would look like an answer."""
    stranger = await make_staff(Role.DISTRICT_ADMIN, places.far_street)
    async with Receiver() as receiver:
        endpoint_id = await subscribe(client, admin, places.district, receiver)
        await happen(places.grid)
    (delivery,) = await deliveries(db, endpoint_id)
    real = {"endpoint_id": endpoint_id, "event_id": str(delivery.event_id), "subject_id": str(places.grid)}
    codes = {"endpoint_id": "unknown_webhook_endpoint", "event_id": "unknown_event"}
    codes |= {"subject_id": "unknown_subject", "type": "unknown_event_type"}
    for name, code in codes.items():
        for who, value in (
            (admin, "hazard.field" if name == "type" else str(new_id())),
            (stranger, real.get(name)),
        ):
            if value is not None:
                query = {name: value}
                answer = await client.get("/v1/webhook-deliveries", headers=who.headers, params=query)
                assert complaints(problem(answer, 422, "invalid_input")) == [(f"query.{name}", code)]


async def subscribe_fully(
    client: httpx.AsyncClient, admin: Person, places: Places, receiver: Receiver
) -> str:
    body = {
        "name": "district",
        "url": receiver.url,
        "event_types": ["hazard.filed"],
        "region_id": str(places.street),
        "payload": "full",
        "consent_basis": "handled by the district on its own legal basis",
    }
    answer = await client.post(PATH, headers=admin.headers, json=body)
    assert answer.status_code == 201, answer.text
    receiver.secrets.append(answer.json()["secret"])
    endpoint_id: str = answer.json()["id"]
    return endpoint_id
