"""Signing in, staying signed in and signing out, over HTTP."""

import asyncio
import statistics
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from time import perf_counter

import httpx
import pytest
from sqlalchemy import select
from sqlalchemy.engine import make_url
from starlette.types import ASGIApp

from app import auth, clock
from app.auth import SYSTEM
from app.db import Database, database
from app.models.events import Audience, Event
from app.models.sessions import LoginSession
from app.models.staff import Role, Staff
from app.passwords import hashing
from app.services import credentials, login_throttle, sessions, staff
from app.settings import settings
from app.signals import signals
from tests.conftest import new_client
from tests.factories import PASSWORD, Person, Places, make_resident, make_staff
from tests.signing_in import (
    WECHAT,
    code_of,
    events_about,
    events_of,
    everything_stored,
    mint_code,
    problem,
    sign_in,
)

Advance = Callable[[float], None]


# --- Residents --------------------------------------------------------------------------------------------------


async def test_a_first_visit_makes_a_resident_and_the_next_one_finds_them(client: httpx.AsyncClient) -> None:
    first = await client.post("/v1/sessions/wechat", json={"code": "demo:first-visit"})
    again = await client.post("/v1/sessions/wechat", json={"code": "demo:first-visit"})
    assert first.status_code == again.status_code == 201
    assert first.json().keys() == {
        "access_token",
        "refresh_token",
        "token_type",
        "expires_in",
        "principal",
    }
    assert first.json()["principal"] == again.json()["principal"]
    assert first.json()["principal"]["kind"] == "resident"
    assert first.json()["token_type"] == "Bearer"
    assert first.json()["expires_in"] == 1800
    tokens = {answer.json()[name] for answer in (first, again) for name in ("access_token", "refresh_token")}
    assert len(tokens) == 4
    assert first.headers["cache-control"] == "no-store"


async def test_the_token_opens_what_is_ones_own(client: httpx.AsyncClient) -> None:
    session = (await client.post("/v1/sessions/wechat", json={"code": "demo:own"})).json()
    me = await client.get("/v1/me", headers={"Authorization": f"Bearer {session['access_token']}"})
    assert me.status_code == 200
    assert me.json()["kind"] == "resident"
    assert me.json()["id"] == session["principal"]["id"]


async def test_a_code_is_good_once(client: httpx.AsyncClient) -> None:
    code = await mint_code(client, "once")
    assert (await client.post("/v1/sessions/wechat", json={"code": code})).status_code == 201
    again = await client.post("/v1/sessions/wechat", json={"code": code})
    assert problem(again) == (401, "wechat_code_invalid")
    unknown = await client.post("/v1/sessions/wechat", json={"code": "nobody-minted-this"})
    assert problem(unknown) == (401, "wechat_code_invalid")


async def test_an_old_code_is_refused(client: httpx.AsyncClient) -> None:
    code = await mint_code(client, "old")
    await client.post(f"{WECHAT}/clock", json={"seconds": 301})
    assert problem(await client.post("/v1/sessions/wechat", json={"code": code})) == (
        401,
        "wechat_code_invalid",
    )


async def test_whom_wechat_blocks_stays_out(client: httpx.AsyncClient) -> None:
    code = await mint_code(client, "blocked", blocked=True)
    assert problem(await client.post("/v1/sessions/wechat", json={"code": code})) == (
        403,
        "wechat_user_blocked",
    )


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        ({"errcode": 45011}, 429, "wechat_busy"),
        ({"errcode": 45009}, 503, "wechat_unavailable"),
        ({"errcode": 40013}, 503, "wechat_unavailable"),
        ({"errcode": 40125}, 503, "wechat_unavailable"),
        ({"errcode": 99999}, 503, "wechat_unavailable"),
        ({"status": 502}, 503, "wechat_unavailable"),
        ({"body": "<html>"}, 503, "wechat_unavailable"),
    ],
)
async def test_trouble_at_wechat_is_said_with_a_time_to_come_back(
    client: httpx.AsyncClient, fault: dict[str, object], status: int, code: str
) -> None:
    await client.post(f"{WECHAT}/faults", json={"path": "/sns/jscode2session"} | fault)
    refused = await client.post("/v1/sessions/wechat", json={"code": "demo:trouble"})
    assert problem(refused) == (status, code)
    assert int(refused.headers["retry-after"]) > 0
    assert (await client.post("/v1/sessions/wechat", json={"code": "demo:trouble"})).status_code == 201


async def test_the_community_is_kept_at_the_first_visit_only(
    client: httpx.AsyncClient, places: Places
) -> None:
    async def visit(community_id: object) -> httpx.Response:
        body = {"code": f"demo:{places.district}", "community_id": str(community_id)}
        return await client.post("/v1/sessions/wechat", json=body)

    assert (await visit(places.community)).json()["principal"]["community_id"] == str(places.community)
    assert (await visit(places.neighbour)).json()["principal"]["community_id"] == str(places.community)


async def test_a_wrong_community_does_not_cost_the_code(client: httpx.AsyncClient, places: Places) -> None:
    code = await mint_code(client, "community")
    for wrong in (places.grid, places.street, "01938b5e-7c1a-7d2e-9f00-3a51f0c2b001"):
        body = {"code": code, "community_id": str(wrong)}
        refused = await client.post("/v1/sessions/wechat", json=body)
        assert problem(refused) == (422, "invalid_input")
        assert refused.json()["errors"][0]["code"] == "unknown_community"
    assert (await client.post("/v1/sessions/wechat", json={"code": code})).status_code == 201


# --- Staff ------------------------------------------------------------------------------------------------------


async def test_staff_sign_in_with_a_password(client: httpx.AsyncClient, places: Places) -> None:
    person = await make_staff(Role.GRID_WORKER, places.grid)
    answer = await sign_in(client, person)
    assert answer.status_code == 201
    assert answer.json()["principal"] == {
        "kind": "staff",
        "id": str(person.id),
        "must_change_password": False,
        "must_enrol_totp": False,
    }
    token = answer.json()["access_token"]
    me = (await client.get("/v1/me", headers={"Authorization": f"Bearer {token}"})).json()
    assert (me["kind"], me["username"], me["display_name"]) == ("staff", person.username, "测试员")
    assert [(held["role"], held["region"]["id"]) for held in me["grants"]] == [
        ("grid_worker", str(places.grid))
    ]


async def test_a_hash_of_other_times_is_renewed(client: httpx.AsyncClient, places: Places) -> None:
    person = await make_staff(Role.GRID_WORKER, places.grid)
    assert (await sign_in(client, person)).status_code == 201
    async with database.reading() as session:
        stored = (await session.get_one(Staff, person.id)).password_hash
    assert not hashing.needs_rehash(stored)
    assert (await sign_in(client, person)).status_code == 201


async def test_upper_case_user_names_are_the_same(client: httpx.AsyncClient, places: Places) -> None:
    person = await make_staff(Role.GRID_WORKER, places.grid)
    assert (await sign_in(client, person, username=person.username.upper())).status_code == 201


async def test_nobody_learns_which_user_names_exist(client: httpx.AsyncClient, places: Places) -> None:
    known = await make_staff(Role.COMMUNITY_MANAGER, places.community)
    gone = await make_staff(Role.GRID_WORKER, places.grid)
    admin = await make_staff(Role.DISTRICT_ADMIN, places.district)
    assert (await client.post(f"/v1/staff/{gone.id}/disable", headers=admin.headers)).status_code == 200
    answers = [
        await sign_in(client, known, password="wrong"),
        await sign_in(client, known, password="wrong", totp="123456"),
        await sign_in(client, known, username="nobody.here"),
        await sign_in(client, known, username="nobody.here", totp="123456"),
        await sign_in(client, gone),
    ]
    seen = [answer.json() | {"request_id": None} for answer in answers]
    assert seen[0]["code"] == "invalid_credentials"
    assert all(body == seen[0] for body in seen)
    assert {answer.status_code for answer in answers} == {401}


async def test_an_unknown_user_takes_as_long_as_a_known_one(application: ASGIApp) -> None:
    """Medians of a few tries: without a hash to compare with, the answer would come ten times faster."""
    password = await credentials.new_password()
    async with database.transaction() as session:
        known = await staff.add(session, auth.SYSTEM, "timed.user", "计时", password)
    times: dict[str, list[float]] = {known.username: [], "timed.nobody": []}
    async with new_client(application) as client:
        for _ in range(5):
            for username, taken in times.items():
                began = perf_counter()
                await client.post("/v1/sessions/staff", json={"username": username, "password": "wrong"})
                taken.append(perf_counter() - began)
    slow, quick = sorted(statistics.median(taken) for taken in times.values())[::-1]
    assert slow < 2.5 * quick


async def test_a_second_factor_is_asked_for_after_the_password(
    client: httpx.AsyncClient, places: Places
) -> None:
    person = await make_staff(Role.COMMUNITY_MANAGER, places.community)
    assert problem(await sign_in(client, person)) == (401, "totp_required")
    assert problem(await sign_in(client, person, password="wrong")) == (401, "invalid_credentials")
    wrong = f"{(int(code_of(person)) + 1) % 1_000_000:06}"
    assert problem(await sign_in(client, person, totp=wrong)) == (401, "totp_invalid")
    assert (await sign_in(client, person, totp=code_of(person))).status_code == 201


async def test_a_code_of_the_app_works_once(
    client: httpx.AsyncClient, places: Places, advance: Advance
) -> None:
    person = await make_staff(Role.COMMUNITY_MANAGER, places.community)
    code = code_of(person)
    assert (await sign_in(client, person, totp=code)).status_code == 201
    assert problem(await sign_in(client, person, totp=code)) == (401, "totp_invalid")
    advance(30)
    assert problem(await sign_in(client, person, totp=code)) == (401, "totp_invalid")
    assert (await sign_in(client, person, totp=code_of(person))).status_code == 201


@pytest.mark.parametrize(("steps", "status"), [(-2, 401), (-1, 201), (0, 201), (1, 201), (2, 401)])
async def test_a_clock_may_be_half_a_minute_off(
    client: httpx.AsyncClient, places: Places, steps: int, status: int
) -> None:
    person = await make_staff(Role.COMMUNITY_MANAGER, places.community)
    assert (await sign_in(client, person, totp=code_of(person, steps))).status_code == status


async def test_a_temporary_password_opens_nothing_but_its_own_change(
    client: httpx.AsyncClient, places: Places
) -> None:
    person = await make_staff(Role.GRID_WORKER, places.grid, must_change_password=True)
    signed_in = (await sign_in(client, person)).json()
    assert signed_in["principal"]["must_change_password"] is True
    headers = {"Authorization": f"Bearer {signed_in['access_token']}"}
    refused = await client.get("/v1/organisations", headers=headers)
    assert problem(refused) == (403, "password_change_required")
    refused = await client.post("/v1/me/totp", headers=headers)
    assert problem(refused) == (403, "password_change_required")
    assert (await client.get("/v1/me", headers=headers)).json()["must_change_password"] is True
    body = {"current_password": PASSWORD, "new_password": "eine lange neue Passphrase"}
    assert (await client.put("/v1/me/password", json=body, headers=headers)).status_code == 204
    assert (await client.get("/v1/organisations", headers=headers)).status_code == 200
    assert problem(await sign_in(client, person)) == (401, "invalid_credentials")
    assert (await sign_in(client, person, password=body["new_password"])).status_code == 201


@pytest.mark.parametrize(
    ("change", "field", "code"),
    [
        ({"current_password": "wrong"}, "current_password", "wrong_password"),
        ({"new_password": "short"}, "new_password", "password_too_short"),
        ({"new_password": "x" * 129}, "new_password", "password_too_long"),
        ({"new_password": PASSWORD}, "new_password", "password_unchanged"),
        ({"new_password": "1234567890"}, "new_password", "password_too_common"),
    ],
)
async def test_a_new_password_must_be_good(
    client: httpx.AsyncClient, places: Places, change: dict[str, str], field: str, code: str
) -> None:
    person = await make_staff(Role.GRID_WORKER, places.grid)
    body = {"current_password": PASSWORD, "new_password": "eine lange neue Passphrase"} | change
    refused = await client.put("/v1/me/password", json=body, headers=person.headers)
    assert refused.status_code == 422
    assert (refused.json()["errors"][0]["loc"], refused.json()["errors"][0]["code"]) == (
        ["body", field],
        code,
    )
    assert (await sign_in(client, person)).status_code == 201


async def test_a_changed_password_ends_the_other_sessions(client: httpx.AsyncClient, places: Places) -> None:
    person = await make_staff(Role.GRID_WORKER, places.grid)
    other = (await sign_in(client, person)).json()
    elsewhere = {"Authorization": f"Bearer {other['access_token']}"}
    assert (await client.get("/v1/me", headers=elsewhere)).status_code == 200
    body = {"current_password": PASSWORD, "new_password": "eine lange neue Passphrase"}
    assert (await client.put("/v1/me/password", json=body, headers=person.headers)).status_code == 204
    assert (await client.get("/v1/me", headers=elsewhere)).status_code == 401
    assert (await client.get("/v1/me", headers=person.headers)).status_code == 200
    assert (await _refresh(client, other["refresh_token"])).status_code == 401


async def test_guessing_the_password_inside_a_session_is_slowed_down(
    client: httpx.AsyncClient, places: Places
) -> None:
    person = await make_staff(Role.GRID_WORKER, places.grid)
    body = {"current_password": "wrong", "new_password": "eine lange neue Passphrase"}
    answers = [await client.put("/v1/me/password", json=body, headers=person.headers) for _ in range(7)]
    assert [answer.status_code for answer in answers] == [422] * 6 + [429]
    assert int(answers[-1].headers["retry-after"]) in (1, 2)


async def test_a_sensitive_role_opens_nothing_before_totp_is_enrolled(
    client: httpx.AsyncClient, places: Places
) -> None:
    person = await make_staff(Role.COMMUNITY_MANAGER, places.community, with_totp=False)
    elsewhere = (await sign_in(client, person)).json()
    signed_in = (await sign_in(client, person)).json()
    assert signed_in["principal"]["must_enrol_totp"] is True
    headers = {"Authorization": f"Bearer {signed_in['access_token']}"}
    for path in ("/v1/organisations", "/v1/staff"):
        assert problem(await client.get(path, headers=headers)) == (403, "totp_enrolment_required")
    offered = await client.post("/v1/me/totp", headers=headers)
    assert offered.status_code == 201
    assert offered.json()["provisioning_uri"].startswith("otpauth://totp/")
    enrolled = Person(person.id, "", "", person.username, offered.json()["secret"])
    assert problem(await client.get("/v1/staff", headers=headers)) == (403, "totp_enrolment_required")
    wrong = await client.post("/v1/me/totp/confirm", json={"totp": "000000"}, headers=headers)
    assert wrong.json()["errors"][0]["code"] == "wrong_code"
    body = {"totp": code_of(enrolled)}
    confirmed = await client.post("/v1/me/totp/confirm", json=body, headers=headers)
    assert confirmed.status_code == 200
    assert len(set(confirmed.json()["recovery_codes"])) == 10
    assert (await client.get("/v1/staff", headers=headers)).status_code == 200
    # Whoever knew only the password is out.
    token = elsewhere["access_token"]
    assert (await client.get("/v1/me", headers={"Authorization": f"Bearer {token}"})).status_code == 401
    assert problem(await sign_in(client, person)) == (401, "totp_required")
    assert problem(await sign_in(client, person, totp=body["totp"])) == (401, "totp_invalid")
    [recovery, *_] = confirmed.json()["recovery_codes"]
    assert (await sign_in(client, person, totp=recovery.upper().replace("-", " "))).status_code == 201
    assert problem(await sign_in(client, person, totp=recovery)) == (401, "totp_invalid")
    used = await events_about(person.id, "staff.totp_enrolled", "staff.recovery_code_used")
    assert [event.type for event in used] == ["staff.totp_enrolled", "staff.recovery_code_used"]


async def test_nothing_to_confirm(client: httpx.AsyncClient, places: Places) -> None:
    person = await make_staff(Role.GRID_WORKER, places.grid)
    refused = await client.post("/v1/me/totp/confirm", json={"totp": "000000"}, headers=person.headers)
    assert problem(refused) == (409, "no_totp_pending")


# --- Proving it again -------------------------------------------------------------------------------------------


async def test_sensitive_operations_want_a_fresh_proof(
    client: httpx.AsyncClient, places: Places, advance: Advance
) -> None:
    person = await make_staff(Role.COMMUNITY_MANAGER, places.community)
    other = await make_staff(Role.GRID_WORKER, places.grid)
    path = f"/v1/staff/{other.id}/reset-password"
    assert (await client.post(path, headers=person.headers)).status_code == 200
    advance(301)
    assert problem(await client.post(path, headers=person.headers)) == (403, "step_up_required")
    wrong = await _step_up(client, person, totp="000000")
    assert (wrong.status_code, wrong.json()["errors"][0]["code"]) == (422, "wrong_code")
    missing = await _step_up(client, person, password=PASSWORD)
    assert (missing.status_code, missing.json()["errors"][0]["loc"]) == (422, ["body", "totp"])
    assert problem(await client.post(path, headers=person.headers)) == (403, "step_up_required")
    assert (await _step_up(client, person, totp=code_of(person))).status_code == 204
    assert (await client.post(path, headers=person.headers)).status_code == 200


async def test_a_repeated_step_up_is_answered_as_before(client: httpx.AsyncClient, places: Places) -> None:
    person = await make_staff(Role.COMMUNITY_MANAGER, places.community, stepped_up=False)
    body, headers = {"totp": code_of(person)}, person.headers | {"Idempotency-Key": "step-up-1"}
    first = await client.post("/v1/sessions/current/step-up", json=body, headers=headers)
    again = await client.post("/v1/sessions/current/step-up", json=body, headers=headers)
    assert (first.status_code, again.status_code) == (204, 204)
    assert again.headers["idempotent-replayed"] == "true"
    assert (await _step_up(client, person, **body)).status_code == 422


async def test_without_totp_the_password_is_the_proof(client: httpx.AsyncClient, places: Places) -> None:
    person = await make_staff(Role.GRID_WORKER, places.grid, stepped_up=False)
    assert problem(await client.post("/v1/me/totp", headers=person.headers)) == (403, "step_up_required")
    assert (await _step_up(client, person, totp="000000")).status_code == 422
    assert (await _step_up(client, person, password="wrong")).status_code == 422
    assert (await _step_up(client, person, password=PASSWORD)).status_code == 204
    assert (await client.post("/v1/me/totp", headers=person.headers)).status_code == 201


async def test_guessing_codes_is_slowed_down_and_the_owner_waits_a_little(
    client: httpx.AsyncClient, places: Places, advance: Advance
) -> None:
    person = await make_staff(Role.COMMUNITY_MANAGER, places.community, stepped_up=False)
    answers = [await _step_up(client, person, totp="000000") for _ in range(8)]
    assert [answer.status_code for answer in answers] == [422] * 6 + [429] * 2
    assert problem(answers[-1]) == (429, "too_many_attempts")
    assert (await sign_in(client, person, totp=code_of(person))).status_code == 429
    advance(3)
    assert (await _step_up(client, person, totp=code_of(person))).status_code == 204


async def test_residents_have_nothing_to_step_up(client: httpx.AsyncClient) -> None:
    resident = await make_resident()
    assert problem(await _step_up(client, resident, totp="000000")) == (403, "forbidden")


# --- Throttling -------------------------------------------------------------------------------------------------


async def test_one_source_slows_down_itself_and_not_the_owner(
    application: ASGIApp, client: httpx.AsyncClient, places: Places
) -> None:
    person = await make_staff(Role.GRID_WORKER, places.grid)
    answers = [await sign_in(client, person, password="wrong") for _ in range(8)]
    assert [answer.status_code for answer in answers] == [401] * 6 + [429] * 2
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 2
    assert problem(await sign_in(client, person)) == (429, "too_many_attempts")
    async with new_client(application) as elsewhere:
        assert (await sign_in(elsewhere, person)).status_code == 201


async def test_delays_grow_to_a_quarter_of_an_hour_and_no_further(
    client: httpx.AsyncClient, places: Places, advance: Advance
) -> None:
    person = await make_staff(Role.GRID_WORKER, places.grid)
    delays = []
    for _ in range(18):
        answer = await sign_in(client, person, password="wrong")
        assert answer.status_code == 401
        held_up = await sign_in(client, person)
        delays.append(int(held_up.headers.get("retry-after", 0)))
        if held_up.status_code == 201:
            continue
        advance(delays[-1])
    assert delays[5:13] == [2, 4, 8, 16, 32, 64, 128, 256]
    assert max(delays) == 900
    assert (await sign_in(client, person)).status_code == 201


@pytest.mark.parametrize("jump", [-3600, -86_400, 3600])
async def test_a_clock_that_jumps_keeps_nobody_out_for_long(
    client: httpx.AsyncClient, places: Places, advance: Advance, jump: float
) -> None:
    person = await make_staff(Role.GRID_WORKER, places.grid)
    answers = [await sign_in(client, person, password="wrong") for _ in range(8)]
    assert answers[-1].status_code == 429
    advance(jump)
    held_up = await sign_in(client, person)
    assert int(held_up.headers.get("retry-after", 0)) <= 900
    advance(int(held_up.headers.get("retry-after", 0)))
    assert (await sign_in(client, person)).status_code == 201


async def test_spraying_many_accounts_from_one_address_is_slowed_down(
    client: httpx.AsyncClient, places: Places, advance: Advance
) -> None:
    victims = [await make_staff(Role.GRID_WORKER, places.grid) for _ in range(7)]
    answers = [await sign_in(client, victim, password="wrong") for victim in victims for _ in range(5)]
    codes = [answer.status_code for answer in answers]
    assert codes == [401] * 31 + [429] * 4
    assert (await sign_in(client, victims[-1])).status_code == 429
    advance(901)
    assert (await sign_in(client, victims[-1])).status_code == 201


async def test_many_sources_cannot_keep_the_owner_of_a_second_factor_out(
    application: ASGIApp, client: httpx.AsyncClient, places: Places, advance: Advance
) -> None:
    person = await make_staff(Role.COMMUNITY_MANAGER, places.community)
    await _hold(application, person, advance)
    assert problem(await sign_in(client, person)) == (429, "too_many_attempts")
    assert problem(await sign_in(client, person, totp="000000")) == (429, "too_many_attempts")
    assert (await sign_in(client, person, totp=code_of(person))).status_code == 201


async def test_many_sources_delay_the_owner_of_a_password_by_a_quarter_of_an_hour_at_most(
    application: ASGIApp, client: httpx.AsyncClient, places: Places, advance: Advance
) -> None:
    person = await make_staff(Role.GRID_WORKER, places.grid)
    await _hold(application, person, advance)
    assert problem(await sign_in(client, person)) == (429, "too_many_attempts")
    # A made-up code is no way around.
    assert problem(await sign_in(client, person, totp="123456")) == (429, "too_many_attempts")
    advance(900)
    assert (await sign_in(client, person)).status_code == 201


async def test_a_held_account_says_nothing_about_its_password(
    application: ASGIApp, places: Places, advance: Advance
) -> None:
    """Neither by the answer nor by how soon the next ones are slowed down."""
    person = await make_staff(Role.COMMUNITY_MANAGER, places.community)
    await _hold(application, person, advance)
    for password in (PASSWORD, "wrong"):
        async with new_client(application) as source:
            answers = [await sign_in(source, person, password=password, totp="000000") for _ in range(7)]
        assert {problem(answer) for answer in answers} == {(429, "too_many_attempts")}
        waits = [int(answer.headers["retry-after"]) for answer in answers]
        assert min(waits[:6]) > 2 >= waits[6]


async def test_idle_counts_are_dropped(db: Database, client: httpx.AsyncClient, places: Places) -> None:
    person = await make_staff(Role.GRID_WORKER, places.grid)
    await sign_in(client, person, password="wrong")
    key = login_throttle.by_account(person.username).key
    async with db.transaction() as session:
        await login_throttle.purge(session, clock.now())
    assert key in await everything_stored()
    async with db.transaction() as session:
        await login_throttle.purge(session, clock.now() + 2 * sessions.STAFF_LIFE + sessions.ACCESS_LIFE)
    assert key not in await everything_stored()


# --- Staying signed in ------------------------------------------------------------------------------------------


async def test_a_refresh_token_has_one_successor(client: httpx.AsyncClient, advance: Advance) -> None:
    resident = await make_resident()
    first = await _refresh(client, resident.refresh_token)
    assert first.status_code == 200
    assert first.headers["cache-control"] == "no-store"
    assert first.json()["access_token"] != resident.token
    advance(29)
    again = await _refresh(client, resident.refresh_token)
    assert again.json() == first.json() | {"expires_in": again.json()["expires_in"]}
    assert 1770 <= again.json()["expires_in"] <= 1771
    assert (await _refresh(client, first.json()["refresh_token"])).status_code == 200


async def test_a_spent_refresh_token_ends_the_whole_session(
    client: httpx.AsyncClient, advance: Advance
) -> None:
    resident = await make_resident()
    successor = (await _refresh(client, resident.refresh_token)).json()
    headers = {"Authorization": f"Bearer {successor['access_token']}"}
    advance(31)
    assert (await client.get("/v1/me", headers=headers)).status_code == 200
    assert problem(await _refresh(client, resident.refresh_token)) == (401, "session_ended")
    assert (await client.get("/v1/me", headers=headers)).status_code == 401
    assert problem(await _refresh(client, successor["refresh_token"])) == (401, "session_ended")
    assert problem(await _refresh(client, resident.refresh_token)) == (401, "session_ended")
    [noticed] = await events_of(resident.id, "session.refresh_reused")
    assert noticed.audience is Audience.AUDIT


async def test_the_access_token_before_dies_soon_after_a_refresh(
    client: httpx.AsyncClient, advance: Advance
) -> None:
    resident = await make_resident()
    await _refresh(client, resident.refresh_token)
    assert (await client.get("/v1/me", headers=resident.headers)).status_code == 200
    advance(31)
    _forget_cached(resident)
    assert (await client.get("/v1/me", headers=resident.headers)).status_code == 401


async def test_an_access_token_lives_half_an_hour(client: httpx.AsyncClient, advance: Advance) -> None:
    resident = await make_resident()
    advance(1799)
    assert (await client.get("/v1/me", headers=resident.headers)).status_code == 200
    advance(2)
    _forget_cached(resident)
    refused = await client.get("/v1/me", headers=resident.headers)
    assert problem(refused) == (401, "unauthenticated")
    assert refused.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(("kind", "hours"), [("staff", 12), ("resident", 30 * 24)])
async def test_a_session_has_an_end_however_often_it_is_renewed(
    client: httpx.AsyncClient, places: Places, advance: Advance, kind: str, hours: int
) -> None:
    person = await (make_staff(Role.GRID_WORKER, places.grid) if kind == "staff" else make_resident())
    advance(hours * 3600 - 60)
    last = await _refresh(client, person.refresh_token)
    assert last.status_code == 200
    assert 50 <= last.json()["expires_in"] <= 60
    advance(61)
    assert problem(await _refresh(client, last.json()["refresh_token"])) == (401, "session_ended")
    headers = {"Authorization": f"Bearer {last.json()['access_token']}"}
    assert (await client.get("/v1/me", headers=headers)).status_code == 401


async def test_signing_out_ends_all_tokens_of_the_session_and_only_those(client: httpx.AsyncClient) -> None:
    body = {"code": "demo:sign-out"}
    here, there = [(await client.post("/v1/sessions/wechat", json=body)).json() for _ in range(2)]
    successor = (await _refresh(client, here["refresh_token"])).json()
    headers = {"Authorization": f"Bearer {successor['access_token']}"}
    assert (await client.get("/v1/me", headers=headers)).status_code == 200
    assert (await client.delete("/v1/sessions/current", headers=headers)).status_code == 204
    for token in (here["access_token"], successor["access_token"]):
        assert (await client.get("/v1/me", headers={"Authorization": f"Bearer {token}"})).status_code == 401
    for token in (here["refresh_token"], successor["refresh_token"]):
        assert (await _refresh(client, token)).status_code == 401
    headers = {"Authorization": f"Bearer {there['access_token']}"}
    assert (await client.get("/v1/me", headers=headers)).status_code == 200


async def test_what_is_over_is_purged(db: Database, client: httpx.AsyncClient, advance: Advance) -> None:
    resident = await make_resident()
    await _refresh(client, resident.refresh_token)
    async with db.transaction() as session:
        await sessions.purge(session, clock.now() + sessions.GRACE + sessions.GRACE)
    # The successor can no longer be repeated, so the old token counts as reused.
    assert (await _refresh(client, resident.refresh_token)).status_code == 401
    generations = select(LoginSession.id).where(LoginSession.principal_id == resident.id)
    async with db.transaction() as session:
        assert len(list(await session.scalars(generations))) == 2
        await sessions.purge(session, clock.now() + 2 * sessions.RESIDENT_LIFE)
        assert list(await session.scalars(generations)) == []


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Bearer",
        "Bearer ",
        "Bearer x",
        "Basic dXNlcjpwYXNz",
        "Bearer jcs_" + "A" * 49,
        "Bearer jcs_" + "é" * 49,
        "Bearer null",
    ],
)
async def test_what_is_no_token_is_refused(client: httpx.AsyncClient, authorization: str) -> None:
    refused = await client.get("/v1/me", headers={b"Authorization": authorization.encode()})
    assert problem(refused) == (401, "unauthenticated")
    assert problem(await client.get("/v1/me")) == (401, "unauthenticated")


async def test_one_kind_of_token_is_not_another(client: httpx.AsyncClient) -> None:
    resident = await make_resident()
    headers = {"Authorization": f"Bearer {resident.refresh_token}"}
    assert (await client.get("/v1/me", headers=headers)).status_code == 401
    assert problem(await _refresh(client, resident.token)) == (401, "session_ended")
    assert (await client.get("/v1/me", params={"access_token": resident.token})).status_code == 401


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("wechat", {}),
        ("wechat", {"code": ""}),
        ("wechat", {"code": 1}),
        ("wechat", {"code": "x" * 101}),
        ("wechat", {"code": "a\x07b"}),
        ("wechat", {"code": "demo:x", "community_id": "x"}),
        ("wechat", {"code": "demo:x", "openid": "o"}),
        ("staff", {"username": "x"}),
        ("staff", {"username": "x", "password": "y", "role": "system_admin"}),
        ("staff", {"username": "a\x07b", "password": "y"}),
        ("staff", {"username": "x", "password": "y" * 129}),
        ("staff", {"username": "x", "password": "y", "totp": 123456}),
        ("staff", {"username": ["x"], "password": "y"}),
        ("refresh", {}),
        ("refresh", {"refresh_token": None}),
        ("refresh", {"refresh_token": "x" * 101}),
    ],
)
async def test_rubbish_is_refused(client: httpx.AsyncClient, path: str, body: dict[str, object]) -> None:
    refused = await client.post(f"/v1/sessions/{path}", json=body)
    assert problem(refused) == (422, "invalid_input")
    assert refused.json()["errors"]


@pytest.mark.parametrize("escape", [r"\u0000", r"\ud800"])
async def test_what_no_database_can_hold_is_refused(client: httpx.AsyncClient, escape: str) -> None:
    body = f'{{"username": "x{escape}", "password": "y{escape}"}}'
    headers = {"Content-Type": "application/json"}
    refused = await client.post("/v1/sessions/staff", content=body, headers=headers)
    assert refused.status_code == 422


# --- What is kept -----------------------------------------------------------------------------------------------


async def test_no_secret_is_stored_in_clear(client: httpx.AsyncClient, places: Places) -> None:
    person = await make_staff(Role.GRID_WORKER, places.grid)
    manager = await make_staff(Role.COMMUNITY_MANAGER, places.community)
    keyed = manager.headers | {"Idempotency-Key": "temporary"}
    reset = await client.post(f"/v1/staff/{person.id}/reset-password", headers=keyed)
    offered = await client.post("/v1/me/totp", headers=manager.headers | {"Idempotency-Key": "enrol"})
    enrolled = Person(manager.id, "", "", manager.username, offered.json()["secret"])
    confirmed = await client.post(
        "/v1/me/totp/confirm", json={"totp": code_of(enrolled)}, headers=manager.headers
    )
    minted = (await client.post(f"{WECHAT}/login-codes", json={"name": "canary"})).json()
    resident = (await client.post("/v1/sessions/wechat", json={"code": minted["code"]})).json()
    renewed = (await _refresh(client, resident["refresh_token"])).json()
    await sign_in(client, person, password="a wrong canary password")
    secrets = [
        *(each[name] for each in (resident, renewed) for name in ("access_token", "refresh_token")),
        manager.token,
        manager.totp_secret or "",
        PASSWORD,
        "a wrong canary password",
        "测试员",
        reset.json()["temporary_password"],
        offered.json()["secret"],
        *confirmed.json()["recovery_codes"],
        *(code.replace("-", "") for code in confirmed.json()["recovery_codes"]),
        minted["code"],
        minted["openid"],
    ]
    assert all(len(secret) >= 3 for secret in secrets)
    stored = await everything_stored() + _files()
    assert str(person.id) in stored
    assert [secret for secret in secrets if secret in stored] == []
    replayed = await client.post(f"/v1/staff/{person.id}/reset-password", headers=keyed)
    assert replayed.headers["idempotent-replayed"] == "true"
    assert replayed.json() == {"temporary_password": None}


async def test_every_sign_in_and_its_failure_is_on_record_without_personal_data(
    client: httpx.AsyncClient, places: Places
) -> None:
    person = await make_staff(Role.COMMUNITY_MANAGER, places.community)
    await sign_in(client, person, password="wrong")
    await sign_in(client, person, totp="000000")
    signed_in = (await sign_in(client, person, totp=code_of(person))).json()
    headers = {"Authorization": f"Bearer {signed_in['access_token']}"}
    await client.delete("/v1/sessions/current", headers=headers)
    await client.post("/v1/sessions/wechat", json={"code": "no-such-code"})
    async with database.reading() as session:
        failed = await session.scalars(select(Event).where(Event.type == "session.failed").order_by(Event.no))
        payloads = [event.payload for event in failed]
    about = [payload for payload in payloads if payload.get("staff_id") == str(person.id)]
    assert [payload["reason"] for payload in about] == ["invalid_credentials", "totp_invalid"]
    assert {"method": "wechat", "reason": "wechat_code_invalid"} in payloads
    done = await events_of(person.id, "session.created", "session.ended")
    assert [event.type for event in done] == ["session.created", "session.created", "session.ended"]
    assert done[1].payload.keys() == {"session_id", "method"}
    assert all(event.audience is Audience.AUDIT for event in done)


async def test_tries_that_are_turned_away_are_on_record_once_a_wait(
    application: ASGIApp, client: httpx.AsyncClient, places: Places, advance: Advance
) -> None:
    """What is being guessed at, and never a name or an address."""
    person = await make_staff(Role.GRID_WORKER, places.grid)
    for _ in range(6):
        await sign_in(client, person, password="wrong")
    assert await _throttled(person) == []
    answers = await asyncio.gather(*(sign_in(client, person, password="wrong") for _ in range(5)))
    assert {answer.status_code for answer in answers} == {429}
    assert await _throttled(person) == [{"by": "both", "staff_id": str(person.id)}]
    advance(3)
    assert [(await sign_in(client, person, password="wrong")).status_code for _ in range(4)] == [401] + [
        429
    ] * 3
    assert len(await _throttled(person)) == 2
    # Somebody else is still told apart, and somebody who does not exist is nobody.
    async with new_client(application) as source:
        for _ in range(9):
            await sign_in(source, replace(person, username="nobody-is-called-so"), password="wrong")
    assert len(await _throttled(person)) == 2
    async with database.reading() as session:
        last = await session.scalar(
            select(Event).where(Event.type == "session.throttled").order_by(Event.no.desc()).limit(1)
        )
    assert last is not None
    assert (last.payload, last.audience, last.actor_id) == ({"by": "both"}, Audience.AUDIT, SYSTEM.id)


async def test_guessed_codes_are_on_record_too(client: httpx.AsyncClient, places: Places) -> None:
    person = await make_staff(Role.COMMUNITY_MANAGER, places.community, stepped_up=False)
    for _ in range(9):
        await _step_up(client, person, totp="000000")
    assert await _throttled(person) == [{"by": "second", "staff_id": str(person.id)}]


async def test_a_held_account_is_on_record(application: ASGIApp, places: Places, advance: Advance) -> None:
    person = await make_staff(Role.COMMUNITY_MANAGER, places.community)
    await _hold(application, person, advance)
    seen = []
    for _ in range(3):
        async with new_client(application) as source:
            await sign_in(source, person, totp="000000")
            await sign_in(source, person)
        seen.append((await _throttled(person)).count({"by": "account", "staff_id": str(person.id)}))
    assert seen[0] >= 1
    assert seen == seen[:1] * 3


async def _throttled(person: Person) -> list[dict[str, object]]:
    """The audit entries about tries at somebody's account that had to wait."""
    async with database.reading() as session:
        rows = await session.scalars(
            select(Event.payload).where(Event.type == "session.throttled").order_by(Event.no)
        )
        return [dict(row) for row in rows if row.get("staff_id") == str(person.id)]


async def _hold(application: ASGIApp, person: Person, advance: Advance) -> None:
    """Fail from so many addresses that the account itself has to wait for about a minute."""
    wait = 0
    while wait < 50:
        advance(wait)
        async with new_client(application) as source:
            answers = [await sign_in(source, person, password="wrong") for _ in range(5)]
        wait = int(answers[-1].headers.get("retry-after", 0))


async def _refresh(client: httpx.AsyncClient, token: str) -> httpx.Response:
    return await client.post("/v1/sessions/refresh", json={"refresh_token": token})


async def _step_up(client: httpx.AsyncClient, person: Person, **proof: str) -> httpx.Response:
    return await client.post("/v1/sessions/current/step-up", json=proof, headers=person.headers)


def _files() -> str:
    if not settings.is_sqlite:
        return ""
    path = Path(make_url(settings.database_url).database or "")
    return "".join(each.read_bytes().decode("latin-1") for each in path.parent.glob(f"{path.name}*"))


def _forget_cached(person: Person) -> None:
    """A caller is cached for a second; these tests move hours in less."""
    signals.send(auth.topic(person.id))
