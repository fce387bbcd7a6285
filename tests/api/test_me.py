"""A resident's own account: what it says, and what it takes to say more."""

import httpx
import pytest

from app.db import database
from app.ids import new_id
from app.keys import unseal
from app.models.residents import Resident
from app.models.staff import Role
from tests.factories import Person, Places, make_resident, make_staff
from tests.residents import agree
from tests.stories import complaints, problem


async def read(client: httpx.AsyncClient, person: Person) -> dict[str, object]:
    response = await client.get("/v1/me", headers=person.headers)
    assert response.status_code == 200, response.text
    answer: dict[str, object] = response.json()
    return answer


# --- Profile ----------------------------------------------------------------------------------------------------


async def test_change_what_you_say_of_yourself(client: httpx.AsyncClient, places: Places) -> None:
    person = await make_resident()
    before = await read(client, person)
    assert (before["kind"], before["nickname"], before["language"]) == ("resident", None, "zh-CN")
    body = {"nickname": "老李 🐼", "language": "en", "community_id": str(places.community)}
    changed = await client.put(
        "/v1/me", json=body, headers=person.headers | {"If-Match": f'"{before["version"]}"'}
    )
    assert changed.status_code == 200
    assert changed.json() == await read(client, person)
    assert {name: changed.json()[name] for name in body} == body
    assert (await person.caller()).community_id == places.community


async def test_what_is_left_out_stays_and_null_clears(client: httpx.AsyncClient, places: Places) -> None:
    person = await make_resident(places.community)
    await client.put("/v1/me", json={"nickname": "老李", "language": "en"}, headers=person.headers)
    await client.put("/v1/me", json={"nickname": None}, headers=person.headers)
    answer = await read(client, person)
    assert (answer["nickname"], answer["language"]) == (None, "en")
    assert answer["community_id"] == str(places.community)


async def test_a_stale_version_is_refused_from_header_and_body(client: httpx.AsyncClient) -> None:
    person = await make_resident()
    await client.put("/v1/me", json={"nickname": "老李"}, headers=person.headers)
    header = await client.put("/v1/me", json={"nickname": "x"}, headers=person.headers | {"If-Match": '"1"'})
    problem(header, 412, "version_conflict")
    body = await client.put("/v1/me", json={"nickname": "x", "version": 1}, headers=person.headers)
    problem(body, 412, "version_conflict")
    assert (await read(client, person))["nickname"] == "老李"


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ({"nickname": ""}, ("body.nickname", "string_too_short")),
        ({"nickname": "x" * 31}, ("body.nickname", "string_too_long")),
        ({"nickname": "a\u0007b"}, ("body.nickname", "control_character")),
        ({"language": "fr"}, ("body.language", "literal_error")),
        ({"community_id": str(new_id())}, ("body.community_id", "unknown_community")),
        ({"phone": "13800138000"}, ("body.phone", "extra_forbidden")),
        ({"version": "1"}, ("body.version", "int_type")),
    ],
)
async def test_what_a_profile_cannot_say(
    client: httpx.AsyncClient, body: dict[str, object], complaint: tuple[str, str]
) -> None:
    person = await make_resident()
    response = await client.put("/v1/me", json=body, headers=person.headers)
    assert complaints(problem(response, 422, response.json()["code"])) == [complaint]
    assert (await read(client, person))["version"] == 1


async def test_a_grid_is_no_community(client: httpx.AsyncClient, places: Places) -> None:
    person = await make_resident()
    response = await client.put("/v1/me", json={"community_id": str(places.grid)}, headers=person.headers)
    problem(response, 422, "invalid_input")


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PUT", "", {"nickname": "x"}),
        ("DELETE", "", None),
        ("GET", "/export", None),
        ("POST", "/phone", {"code": "demo:1"}),
        ("PUT", "/identity", {"real_name": "x", "id_number": "x"}),
        ("GET", "/households", None),
        ("GET", "/access-log", None),
        ("GET", "/consents", None),
    ],
)
async def test_only_residents_have_a_personal_account(
    client: httpx.AsyncClient, places: Places, method: str, path: str, body: object
) -> None:
    manager = await make_staff(Role.COMMUNITY_MANAGER, places.community)
    staff = await client.request(method, f"/v1/me{path}", json=body, headers=manager.headers)
    problem(staff, 403, "forbidden")
    problem(await client.request(method, f"/v1/me{path}", json=body), 401, "unauthenticated")


# --- Phone and identity -----------------------------------------------------------------------------------------


async def test_the_phone_is_bound_with_consent_and_shown_masked(client: httpx.AsyncClient) -> None:
    person = await make_resident()
    refused = await client.post("/v1/me/phone", json={"code": "demo:123456"}, headers=person.headers)
    assert problem(refused, 403, "consent_required")["purpose"] == "contact_phone"
    await agree(client, person, "contact_phone")
    bound = await client.post("/v1/me/phone", json={"code": "demo:123456"}, headers=person.headers)
    assert bound.status_code == 200
    assert bound.json()["phone_masked"] == "190****3456"
    endless = person.headers | {"Idempotency-Key": "k" * 1_001}
    refused = await client.post("/v1/me/phone", json={"code": "demo:123456"}, headers=endless)
    problem(refused, 400, "bad_idempotency_key")
    async with database.reading() as session:
        row = await session.get_one(Resident, person.id)
    assert unseal(row, "phone") == "+8619000123456"
    assert row.phone_index


async def test_a_repeat_with_the_same_key_spends_no_second_code(client: httpx.AsyncClient) -> None:
    person = await make_resident()
    await agree(client, person, "contact_phone")
    minted = await client.post("/_wechat/_sandbox/phone-codes", json={"number": "13900001111"})
    body, headers = minted.json(), person.headers | {"Idempotency-Key": "bind-1"}
    first = await client.post("/v1/me/phone", json=body, headers=headers)
    assert first.json()["phone_masked"] == "139****1111"
    again = await client.post("/v1/me/phone", json=body, headers=headers)
    assert (again.status_code, again.json()) == (200, first.json())
    assert again.headers["Idempotent-Replayed"] == "true"
    used = await client.post("/v1/me/phone", json=body, headers=person.headers)
    assert complaints(problem(used, 422, "invalid_input")) == [("body.code", "wechat_code_invalid")]


async def test_a_silent_wechat_binds_nothing(client: httpx.AsyncClient) -> None:
    person = await make_resident()
    await agree(client, person, "contact_phone")
    fault = {"path": "/wxa/business/getuserphonenumber", "status": 500, "times": 3}
    await client.post("/_wechat/_sandbox/faults", json=fault)
    try:
        response = await client.post("/v1/me/phone", json={"code": "demo:1"}, headers=person.headers)
    finally:
        await client.delete("/_wechat/_sandbox/faults")
    assert problem(response, 503, "wechat_unavailable")
    assert response.headers["Retry-After"]
    assert (await read(client, person))["phone_masked"] is None


@pytest.mark.parametrize("body", [{}, {"code": ""}, {"code": "x" * 101}, {"code": 1}, {"phone": "1"}])
async def test_a_phone_needs_a_code(client: httpx.AsyncClient, body: dict[str, object]) -> None:
    person = await make_resident()
    response = await client.post("/v1/me/phone", json=body, headers=person.headers)
    assert response.status_code == 422, response.text


async def test_the_identity_is_kept_with_consent_and_shown_masked(client: httpx.AsyncClient) -> None:
    person = await make_resident()
    body = {"real_name": " 李  明 ", "id_number": "11010519491231002x"}
    refused = await client.put("/v1/me/identity", json=body, headers=person.headers)
    assert problem(refused, 403, "consent_required")["purpose"] == "identity"
    await agree(client, person, "identity")
    kept = await client.put("/v1/me/identity", json=body, headers=person.headers)
    assert kept.status_code == 200
    assert (kept.json()["real_name_masked"], kept.json()["id_number_masked"]) == (
        "李**",
        "110***********002X",
    )
    async with database.reading() as session:
        row = await session.get_one(Resident, person.id)
    assert (unseal(row, "real_name"), unseal(row, "id_number")) == ("李 明", "11010519491231002X")


@pytest.mark.parametrize(
    "number", ["110105194912310021", "11010519491331002X", "1101051949123100", "abc", "１１０"]
)
async def test_a_wrong_number_is_told_without_repeating_it(client: httpx.AsyncClient, number: str) -> None:
    person = await make_resident()
    await agree(client, person, "identity")
    body = {"real_name": "李明", "id_number": number}
    response = await client.put("/v1/me/identity", json=body, headers=person.headers)
    assert complaints(problem(response, 422, "invalid_input")) == [("body.id_number", "invalid_id_number")]
    assert number not in response.text
    assert (await read(client, person))["real_name_masked"] is None
