"""Consent is asked for by purpose and version, and taken back as easily as it was given."""

import asyncio
import hashlib

import httpx
import pytest
from sqlalchemy import func, select, update

from app.db import database
from app.keys import unseal
from app.models.residents import Consent, Resident
from app.models.staff import Role
from tests.factories import Person, Places, make_resident, make_staff
from tests.residents import agree, tell_everything
from tests.stories import complaints, problem

PHONE = {"purpose": "contact_phone", "version": "1"}


async def mine(client: httpx.AsyncClient, person: Person) -> list[dict[str, object]]:
    response = await client.get("/v1/me/consents", headers=person.headers)
    assert response.status_code == 200
    items: list[dict[str, object]] = response.json()["items"]
    return items


async def test_anybody_may_read_what_data_is_used_for(client: httpx.AsyncClient) -> None:
    response = await client.get("/v1/consent-purposes")
    assert response.status_code == 200
    purposes = {each["code"]: each for each in response.json()["items"]}
    assert {code for code, each in purposes.items() if each["legal_basis"] == "consent"} == {
        "contact_phone",
        "identity",
    }
    assert [code for code, each in purposes.items() if each["sensitive"]] == ["identity"]
    for each in purposes.values():
        texts = f"{each['text']}\n{each['text_en']}"
        assert each["text_sha256"] == hashlib.sha256(texts.encode()).hexdigest()


async def test_a_consent_says_who_agreed_to_which_text_when_and_where(client: httpx.AsyncClient) -> None:
    person = await make_resident()
    granted = await client.post("/v1/me/consents", json=PHONE, headers=person.headers)
    assert granted.status_code == 201
    [listed] = await mine(client, person)
    assert listed == granted.json()
    purposes = (await client.get("/v1/consent-purposes")).json()["items"]
    [text] = [each["text_sha256"] for each in purposes if each["code"] == "contact_phone"]
    assert (listed["text_sha256"], listed["channel"]) == (text, "mini_program")
    assert (listed["in_force"], listed["withdrawn_at"]) == (True, None)


async def test_agreeing_twice_at_once_is_agreeing_once(client: httpx.AsyncClient) -> None:
    person = await make_resident()
    answers = await asyncio.gather(
        *(client.post("/v1/me/consents", json=PHONE, headers=person.headers) for _ in range(10))
    )
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["id"] for answer in answers}) == len(await mine(client, person)) == 1


async def test_withdrawing_erases_what_was_collected_and_nothing_else(
    client: httpx.AsyncClient, places: Places
) -> None:
    person = await make_resident()
    told = await tell_everything(client, person, places.building)
    gone = await client.delete("/v1/me/consents/identity", headers=person.headers)
    assert (gone.status_code, gone.content) == (204, b"")
    async with database.reading() as session:
        row = await session.get_one(Resident, person.id)
    assert (row.real_name_sealed, row.id_number_sealed, row.id_number_index) == (None, None, None)
    assert unseal(row, "phone") == told.phone
    gone = await client.delete("/v1/me/consents/contact_phone", headers=person.headers)
    async with database.reading() as session:
        row = await session.get_one(Resident, person.id)
    assert (row.phone_sealed, row.phone_index) == (None, None)
    assert unseal(row, "nickname") == told.nickname
    listed = await mine(client, person)
    assert [(each["purpose"], each["in_force"]) for each in listed] == [
        ("identity", False),
        ("contact_phone", False),
    ]
    again = await client.delete("/v1/me/consents/identity", headers=person.headers)
    assert again.status_code == 204
    refused = await client.post("/v1/me/phone", json={"code": "demo:1"}, headers=person.headers)
    problem(refused, 403, "consent_required")


async def test_consent_may_be_given_again_and_keeps_its_history(client: httpx.AsyncClient) -> None:
    person = await make_resident()
    await agree(client, person, "contact_phone")
    await client.delete("/v1/me/consents/contact_phone", headers=person.headers)
    await agree(client, person, "contact_phone")
    assert [each["in_force"] for each in await mine(client, person)] == [True, False]


async def test_a_new_version_needs_a_new_consent(client: httpx.AsyncClient) -> None:
    person = await make_resident()
    await agree(client, person, "contact_phone")
    # As if the text had been another one when this resident agreed.
    async with database.transaction() as session:
        await session.execute(
            update(Consent).where(Consent.resident_id == person.id).values(policy_version="0")
        )
    refused = await client.post("/v1/me/phone", json={"code": "demo:1"}, headers=person.headers)
    answer = problem(refused, 403, "consent_required")
    assert (answer["purpose"], answer["version"]) == ("contact_phone", "1")
    unrelated = await client.put("/v1/me", json={"nickname": "老李"}, headers=person.headers)
    assert unrelated.status_code == 200
    await agree(client, person, "contact_phone")
    bound = await client.post("/v1/me/phone", json={"code": "demo:1"}, headers=person.headers)
    assert bound.status_code == 200
    assert [each["in_force"] for each in await mine(client, person)] == [True, False]
    await client.delete("/v1/me/consents/contact_phone", headers=person.headers)
    async with database.reading() as session:
        still_open = select(func.count()).where(
            Consent.resident_id == person.id, Consent.withdrawn_at.is_(None)
        )
        assert await session.scalar(still_open) == 0


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ({"purpose": "spam", "version": "1"}, ("body.purpose", "unknown_purpose")),
        ({"purpose": "account", "version": "1"}, ("body.purpose", "unknown_purpose")),
        ({"purpose": "identity", "version": "0"}, ("body.version", "outdated_version")),
        ({"purpose": "identity"}, ("body.version", "missing")),
        ({"purpose": "identity", "version": 1}, ("body.version", "string_type")),
        (PHONE | {"granted_at": "2020-01-01T00:00:00Z"}, ("body.granted_at", "extra_forbidden")),
    ],
)
async def test_what_cannot_be_agreed_to(
    client: httpx.AsyncClient, body: dict[str, object], complaint: tuple[str, str]
) -> None:
    person = await make_resident()
    response = await client.post("/v1/me/consents", json=body, headers=person.headers)
    assert complaints(problem(response, 422, "invalid_input")) == [complaint]
    assert await mine(client, person) == []


async def test_an_unknown_purpose_cannot_be_withdrawn(client: httpx.AsyncClient) -> None:
    person = await make_resident()
    problem(await client.delete("/v1/me/consents/spam", headers=person.headers), 404, "not_found")


async def test_everybody_answers_for_themselves(client: httpx.AsyncClient, places: Places) -> None:
    person, other = await make_resident(), await make_resident()
    await agree(client, person, "contact_phone")
    await client.delete("/v1/me/consents/contact_phone", headers=other.headers)
    assert [each["in_force"] for each in await mine(client, person)] == [True]
    assert await mine(client, other) == []
    manager = await make_staff(Role.COMMUNITY_MANAGER, places.community)
    for method in ("GET", "POST"):
        body = PHONE if method == "POST" else None
        response = await client.request(method, "/v1/me/consents", json=body, headers=manager.headers)
        problem(response, 403, "forbidden")
    response = await client.delete("/v1/me/consents/identity", headers=manager.headers)
    problem(response, 403, "forbidden")


async def test_pages(client: httpx.AsyncClient) -> None:
    person = await make_resident()
    for _ in range(3):
        await agree(client, person, "contact_phone")
        await client.delete("/v1/me/consents/contact_phone", headers=person.headers)
    first = (await client.get("/v1/me/consents?limit=2", headers=person.headers)).json()
    rest = await client.get(
        "/v1/me/consents", params={"limit": 2, "cursor": first["next_cursor"]}, headers=person.headers
    )
    assert [*first["items"], *rest.json()["items"]] == await mine(client, person)
    assert rest.json()["next_cursor"] is None
