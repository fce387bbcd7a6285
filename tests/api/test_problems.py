"""Failures: one form for all, in two languages, telling nothing that is not the caller's, on record when refused."""

import httpx
import pytest
from fastapi import APIRouter
from sqlalchemy import select
from starlette.types import ASGIApp

from app import logs
from app.db import Database, database
from app.ids import new_id
from app.main import create_app
from app.models.events import Audience, Event
from app.models.staff import Role
from app.problems import language_of
from tests.conftest import new_client
from tests.factories import Person, Places, make_resident, make_staff

CANARY = "canary-of-the-input"


@pytest.mark.parametrize(
    ("accept_language", "language"),
    [
        ("", "zh-CN"),
        ("zh-CN", "zh-CN"),
        ("en", "en"),
        ("en-GB,en;q=0.9,zh;q=0.8", "en"),
        ("zh-CN,zh;q=0.9,en;q=0.8", "zh-CN"),
        ("fr-FR, en;q=0.7", "en"),
        ("en;q=0.3, zh;q=0.4", "zh-CN"),
        ("fr, *;q=0.5", "zh-CN"),
        ("en;q=0", "zh-CN"),
        ("en;q=x", "zh-CN"),
        (",;;=,q", "zh-CN"),
    ],
)
def test_the_better_liked_language_is_chosen(accept_language: str, language: str) -> None:
    assert language_of(accept_language) == language


async def test_a_problem_has_all_members(client: httpx.AsyncClient) -> None:
    answer = await client.get(
        "/v1/hazards", headers={"Accept-Language": "en", "X-Request-Id": "problem-1234"}
    )
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.headers["Content-Language"] == "en"
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert answer.json() == {
        "type": "/problems/unauthenticated",
        "title": "Sign in first",
        "status": 401,
        "detail": "Sign in first",
        "code": "unauthenticated",
        "instance": "/v1/hazards",
        "request_id": "problem-1234",
    }
    assert (await client.get("/v1/hazards")).json()["title"] == "请先登录"


async def test_the_instance_is_a_uri_whatever_was_asked_for(client: httpx.AsyncClient) -> None:
    answer = await client.get("/v1/%E4%B8%AD%20%22%0D%0A<b>")
    assert answer.json()["instance"] == "/v1/%E4%B8%AD%20%22%0D%0A%3Cb%3E"


async def test_field_errors_name_the_field_and_not_its_value(client: httpx.AsyncClient) -> None:
    body = {"code": 7, "community_id": CANARY, CANARY: 1}
    english = await client.post("/v1/sessions/wechat", json=body, headers={"Accept-Language": "en"})
    assert english.status_code == 422
    assert english.json()["code"] == "invalid_input"
    assert {(tuple(error["loc"]), error["code"], error["message"]) for error in english.json()["errors"]} == {
        (("body", "code"), "string_type", "must be text"),
        (("body", "community_id"), "uuid_parsing", "must be an id (UUID)"),
        (("body", CANARY), "extra_forbidden", "is not a known field"),
    }
    chinese = await client.post("/v1/sessions/wechat", json=body)
    assert {error["message"] for error in chinese.json()["errors"]} == {
        "必须是文本",
        "必须是编号（UUID）",
        "未知字段",
    }


async def test_a_thousand_errors_are_told_in_part(client: httpx.AsyncClient) -> None:
    body = {f"{'x' * 200}{number}": 1 for number in range(1000)}
    answer = await client.post("/v1/sessions/wechat", json=body)
    assert answer.status_code == 422
    assert len(answer.json()["errors"]) == 50
    assert max(len(error["loc"][1]) for error in answer.json()["errors"]) == 100


async def test_a_missing_body_is_named(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/sessions/wechat")
    assert answer.status_code == 422
    assert answer.json()["errors"] == [{"loc": ["body"], "code": "missing", "message": "必填"}]


async def test_a_refused_caller_is_on_record(client: httpx.AsyncClient, places: Places) -> None:
    resident = await make_resident(places.community)
    hazard_id = new_id()
    answer = await client.post(
        f"/v1/hazards/{hazard_id}/accept", headers={**resident.headers, "X-Request-Id": f"denied-{hazard_id}"}
    )
    assert answer.status_code == 403
    (entry,) = await _denials(resident)
    assert entry.audience is Audience.AUDIT
    assert entry.request_id == f"denied-{hazard_id}"
    assert entry.payload == {
        "operation": "accept_hazard",
        "method": "POST",
        "path": "/v1/hazards/{hazard_id}/accept",
        "ids": {"hazard_id": str(hazard_id)},
        "status": 403,
        "code": "forbidden",
    }


async def test_a_conflict_is_on_record(client: httpx.AsyncClient, places: Places) -> None:
    admin = await make_staff(Role.SYSTEM_ADMIN, places.district)
    person = await make_staff(home_id=places.community)
    disable = f"/v1/staff/{person.id}/disable"
    for expected in (200, 409):
        answer = await client.post(disable, headers=admin.headers)
        assert answer.status_code == expected, answer.text
    (entry,) = await _denials(admin)
    assert entry.payload["status"] == 409
    assert entry.payload["code"] == "staff_disabled"


async def test_refused_reads_and_strangers_leave_nothing(client: httpx.AsyncClient, places: Places) -> None:
    resident = await make_resident(places.community)
    assert (await client.get("/v1/staff", headers=resident.headers)).status_code == 403
    assert await _denials(resident) == []
    assert (await client.post(f"/v1/hazards/{new_id()}/accept")).status_code == 401


async def test_a_refusal_that_cannot_be_recorded_is_no_answer(
    client: httpx.AsyncClient, db: Database, places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.lanes._GATE_SECONDS", 0.1)
    resident = await make_resident(places.community)
    assert (await client.get("/v1/me", headers=resident.headers)).status_code == 200
    turns = db.write_gate.free
    for _ in range(turns):
        await db.write_gate.acquire()
    try:
        answer = await client.post(f"/v1/hazards/{new_id()}/accept", headers=resident.headers)
    finally:
        for _ in range(turns):
            db.write_gate.release()
    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "5"
    assert answer.json()["retry_after"] == 5
    assert await _denials(resident) == []


@pytest.mark.parametrize("failure", [ValueError(CANARY), RecursionError(CANARY), OSError(5, CANARY)])
async def test_a_crash_tells_nothing(
    application: ASGIApp, failure: Exception, capfd: pytest.CaptureFixture[str]
) -> None:
    router = APIRouter()

    @router.get("/crash")
    async def crash() -> None:
        raise failure

    async with new_client(create_app([router])) as client:
        answer = await client.get("/crash", headers={"Accept-Language": "en", "X-Request-Id": "crash-123456"})
    assert answer.status_code == 500
    assert answer.json() == {
        "type": "/problems/internal_error",
        "title": "Internal error",
        "status": 500,
        "detail": "Internal error",
        "code": "internal_error",
        "instance": "/crash",
        "request_id": "crash-123456",
    }
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    logs.flush()
    written = capfd.readouterr().err
    assert '"event":"unhandled_error","request_id":"crash-123456"' in written
    assert type(failure).__name__ in written
    assert CANARY not in written


async def _denials(person: Person) -> list[Event]:
    async with database.reading() as session:
        rows = await session.scalars(
            select(Event).where(Event.actor_id == person.id, Event.type == "access.denied")
        )
        return list(rows)
