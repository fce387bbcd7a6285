"""What the district sends is kept once, applied in order, and converges whatever the order of arrival."""

import itertools
import json
from collections.abc import Sequence
from datetime import timedelta
from uuid import uuid4

import httpx
import pytest
import standardwebhooks
from sqlalchemy import func, select

from app import clock, standard_webhooks
from app.db import Database
from app.models.hazard_comments import HazardComment
from app.models.hazards import Hazard, HazardSource
from app.models.regions import Region
from app.models.sync import InboundEvent, InboundStatus, SyncCase
from app.sandbox.credentials import DEV_WEBHOOK_SECRET
from app.services import sync
from app.settings import settings
from tests.factories import Places

PATH = "/v1/sync/district/events"
Body = dict[str, object]


async def send(
    client: httpx.AsyncClient, body: Body | bytes, message_id: str | None = None, shift: float = 0
) -> httpx.Response:
    raw = body if isinstance(body, bytes) else json.dumps(body, ensure_ascii=False).encode()
    at = clock.now() + timedelta(seconds=shift)
    signed = standardwebhooks.Webhook(DEV_WEBHOOK_SECRET).sign(
        message_id := message_id or f"msg_{uuid4().hex}", at, raw.decode("utf-8", "surrogateescape")
    )
    headers = {
        "webhook-id": message_id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": signed,
        "content-type": "application/json",
    }
    return await client.post(PATH, content=raw, headers=headers)


def story(case: str, region_code: str) -> list[Body]:
    def event(seq: int, kind: str, data: Body) -> Body:
        at = f"2026-11-20T08:0{seq}:00+08:00"
        return {"type": kind, "case": case, "seq": seq, "occurred_at": at, "data": data}

    created: Body = {
        "category_code": "street_lighting",
        "region_code": region_code,
        "description": "市民热线：路灯不亮",
    }
    return [
        event(1, "case.created", created),
        event(2, "case.status_changed", {"status": "in_progress", "note": "已派发"}),
        event(3, "case.replied", {"text": "请三日内办结"}),
        event(4, "case.closed", {"outcome": "fixed", "reason": "现场复核已修复"}),
        event(5, "case.returned", {"reason": "次日复查又熄灭"}),
    ]


async def region_code(db: Database, places: Places) -> str:
    async with db.reading() as session:
        return (await session.scalars(select(Region.code).where(Region.id == places.community))).one()


async def apply(db: Database, case: str) -> None:
    async with db.transaction() as session:
        held = (await session.scalars(select(SyncCase.id).where(SyncCase.case_key == case))).one()
        await sync.apply_parked(session, held)


async def state_of(db: Database, case: str) -> tuple[object, ...]:
    async with db.reading() as session:
        held = (await session.scalars(select(SyncCase).where(SyncCase.case_key == case))).one()
        hazard = (await session.scalars(select(Hazard).where(Hazard.id == held.hazard_id))).one()
        words = await session.scalar(
            select(func.count()).select_from(HazardComment).where(HazardComment.hazard_id == hazard.id)
        )
        statuses = await session.scalars(
            select(InboundEvent.status).where(InboundEvent.case_id == held.id).order_by(InboundEvent.seq)
        )
        return (held.applied_seq, hazard.status, hazard.outcome, hazard.event_seq, words, *statuses)


async def test_every_order_of_five_events_ends_in_the_same_state(
    client: httpx.AsyncClient, db: Database, places: Places
) -> None:
    code = await region_code(db, places)
    ends = set()
    for order in itertools.permutations(range(5)):
        case = f"D-{uuid4().hex[:12]}"
        events = story(case, code)
        for index in order:
            assert (await send(client, events[index])).status_code == 202
            await apply(db, case)
        ends.add(await state_of(db, case))
    assert len(ends) == 1
    (end,) = ends
    assert end[:2] == (5, "filed")
    assert set(end[5:]) == {InboundStatus.APPLIED}


async def test_a_case_of_the_district_is_a_hazard_of_the_community(
    client: httpx.AsyncClient, db: Database, places: Places
) -> None:
    case = f"D-{uuid4().hex[:12]}"
    assert (await send(client, story(case, await region_code(db, places))[0])).status_code == 202
    await apply(db, case)
    async with db.reading() as session:
        hazard_id = await session.scalar(select(SyncCase.hazard_id).where(SyncCase.case_key == case))
        hazard = await session.get_one(Hazard, hazard_id)
    assert (hazard.source, hazard.community_id, hazard.reporter_id) == (
        HazardSource.DISTRICT,
        places.community,
        None,
    )
    assert hazard.due_at is not None


async def test_repeats_change_nothing_and_contradictions_are_alarmed(
    client: httpx.AsyncClient, db: Database, places: Places
) -> None:
    case = f"D-{uuid4().hex[:12]}"
    first, second = story(case, await region_code(db, places))[:2]
    assert (await send(client, first, "msg_same")).status_code == 202
    again = await send(client, first, "msg_same")
    assert (again.status_code, again.json()["message_id"]) == (202, "msg_same")
    other_id = await send(client, first)
    assert other_id.status_code == 202
    liar = await send(client, {**second, "seq": 1})
    assert (liar.status_code, liar.json()["code"]) == (409, "sync_conflict")
    async with db.reading() as session:
        rows = await session.scalar(
            select(func.count())
            .select_from(InboundEvent)
            .join(SyncCase, SyncCase.id == InboundEvent.case_id)
            .where(SyncCase.case_key == case)
        )
    assert rows == 1


async def test_an_unknown_code_waits_for_its_mapping(client: httpx.AsyncClient, db: Database) -> None:
    case = f"D-{uuid4().hex[:12]}"
    assert (await send(client, story(case, "no-such-region")[0])).json()["status"] == "parked"
    await apply(db, case)
    async with db.reading() as session:
        waiting = await sync.parked(session, 1000)
    assert (case, 1, "case.created", "unmapped region no-such-region") in waiting


@pytest.mark.parametrize("shift", [-360, 360])
async def test_stale_and_future_messages_are_refused(client: httpx.AsyncClient, shift: float) -> None:
    answer = await send(client, story("D-1", "x")[0], shift=shift)
    assert (answer.status_code, answer.json()["code"]) == (401, "signature_rejected")


@pytest.mark.parametrize("at", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "1763596800"])
async def test_a_time_that_is_none_is_refused(
    client: httpx.AsyncClient, db: Database, places: Places, at: str
) -> None:
    event = story("C-1", await region_code(db, places))[0] | {"occurred_at": at}
    assert (await send(client, event)).status_code == 422


def _good(body: bytes, message_id: str = "msg_1") -> str:
    keys = [standard_webhooks.key_of(DEV_WEBHOOK_SECRET)]
    return standard_webhooks.headers(message_id, clock.now(), body, keys)["webhook-signature"]


MALFORMED: Sequence[str] = (
    "",
    "v1,",
    "v1,AAAA",
    "v1",
    "AAAA",
    "v1,AAAA,BBBB",
    "v1,!!!!",
    "v1,====",
    "v2,AAAA",
    "v1a,AAAA",
    " ".join(["v1,AAAA"] * 1000),
)


@pytest.mark.parametrize("body", [b"{}", b"", b"{", b'\xff\xfe{"type"', b"[" * 5_000], ids=range(5))
@pytest.mark.parametrize("signature", MALFORMED, ids=range(len(MALFORMED)))
async def test_malformed_signatures_are_401(client: httpx.AsyncClient, signature: str, body: bytes) -> None:
    """Whatever else is wrong: nothing is parsed before it is known to be genuine."""
    headers = {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(int(clock.now().timestamp())),
        "webhook-signature": signature,
        "content-type": "application/json",
    }
    answer = await client.post(PATH, content=body, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (401, "signature_rejected")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("webhook-timestamp", "1.5"),
        ("webhook-timestamp", "٣"),
        ("webhook-timestamp", "-1"),
        ("webhook-timestamp", "9" * 30),
        ("webhook-id", "a.b"),
        ("webhook-id", ""),
        ("webhook-id", "x" * 200),
        ("webhook-id", "msg_other"),
    ],
)
async def test_malformed_headers_are_401(client: httpx.AsyncClient, name: str, value: str) -> None:
    body = b"{}"
    headers = {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(int(clock.now().timestamp())),
        "webhook-signature": _good(body),
        "content-type": "application/json",
        name: value,
    }
    raw = [(key.encode(), text.encode()) for key, text in headers.items()]
    answer = await client.post(PATH, content=body, headers=raw)
    assert answer.status_code == 401


async def test_junk_before_a_good_signature_is_passed_over(client: httpx.AsyncClient) -> None:
    body = b"{}"
    headers = {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(int(clock.now().timestamp())),
        "webhook-signature": f"junk v1,AAAA v1,!! {_good(body)}",
        "content-type": "application/json",
    }
    assert (await client.post(PATH, content=body, headers=headers)).status_code == 422


async def test_a_signed_body_that_is_no_text_is_a_clear_error(client: httpx.AsyncClient) -> None:
    body = b'\xff\xfe{"type"'
    headers = {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(int(clock.now().timestamp())),
        "webhook-signature": _good(body),
        "content-type": "application/json",
    }
    assert (await client.post(PATH, content=body, headers=headers)).status_code in (400, 422)


async def test_without_a_secret_the_district_is_not_connected(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "env", "prod")
    answer = await send(client, story("D-1", "x")[0])
    assert (answer.status_code, answer.json()["code"]) == (503, "district_not_connected")


async def test_a_case_goes_by_our_id_as_well(client: httpx.AsyncClient, db: Database, places: Places) -> None:
    case = f"D-{uuid4().hex[:12]}"
    first, _, third, *_ = story(case, await region_code(db, places))
    await send(client, first)
    await apply(db, case)
    async with db.reading() as session:
        hazard_id = await session.scalar(select(SyncCase.hazard_id).where(SyncCase.case_key == case))
    assert (await send(client, {**third, "case": str(hazard_id), "seq": 2})).status_code == 202
    await apply(db, case)
    assert (await state_of(db, case))[0] == 2
