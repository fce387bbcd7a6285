"""A document has the whole case for those who may have it, words only on a basis, and leaves a trace."""

import hashlib
import json
from datetime import datetime, timedelta
from uuid import UUID

import jsonschema_rs
import pytest
from sqlalchemy import select

from app import clock
from app.db import database
from app.keys import unseal
from app.models.cases import CaseReveal
from app.models.events import Audience, Event
from app.models.hazards import HazardStatus
from app.models.organisations import Organisation
from app.models.regions import Region
from app.models.staff import Role
from app.schemas.case_examples import CASE_EXAMPLE
from app.schemas.cases import CaseDocument
from app.services import case_history
from tests.cases.papers import BASIS, Json, long_case, paper
from tests.factories import make_staff
from tests.stories import DESCRIPTION, Story, events_of, problem


@pytest.fixture(scope="module")
async def hazard_id(story: Story) -> str:
    return await long_case(story)


@pytest.fixture(scope="module")
async def document(story: Story, hazard_id: str) -> Json:
    return await paper(story, hazard_id)


async def with_key(
    story: Story, hazard_id: str, *scopes: str, region: UUID | None = None
) -> tuple[int, Json]:
    admin = await make_staff(Role.DISTRICT_ADMIN, story.places.district)
    body = {"name": "平台", "scopes": list(scopes), "region_id": str(region or story.places.district)}
    key = (await story.post(admin, "/v1/api-keys", body)).json()["key"]
    answer = await story.client.get(
        f"/v1/hazards/{hazard_id}/case", headers={"X-API-Key": key}, params={"consent_basis": BASIS}
    )
    return answer.status_code, answer.json()


async def test_everything_is_in_it(story: Story, hazard_id: str, document: Json) -> None:
    assert document["format"] == "jincai-case/1"
    case = document["case"]
    assert (case["id"], case["description"], case["address"]) == (hazard_id, DESCRIPTION, "3栋1单元")
    assert (case["rating"], case["rating_comment"], case["supporters"]) == (4, "第二次处理好了", 1)
    assert [each["type"] for each in document["events"]] == await events_of(hazard_id)
    assert [each["seq"] for each in document["events"]] == list(range(1, len(document["events"]) + 1))
    texts = {each["text"]: each["visibility"] for each in document["comments"]}
    assert (texts["内部备注"], texts["我家也走不通"]) == ("internal", "public")
    assert [each["status"] for each in document["assignments"]] == ["refused", "done", "released"]
    assert [each["level"] for each in document["deadlines"]] == [
        *("grid", "street", "department", "street", "department", "department")
    ]
    assert all(each["ended_at"] for each in document["deadlines"])


async def test_places_categories_and_organisations_are_codes_and_people_are_numbers(
    story: Story, document: Json
) -> None:
    async with database.reading() as session:
        codes = set(await session.scalars(select(Region.code)))
        organisations = {row.id: row.code for row in await session.scalars(select(Organisation))}
    assert {document["case"]["community_code"], document["case"]["region_code"]} <= codes
    assert document["case"]["lead_organisation_code"] == organisations[story.second_department]
    text = json.dumps(document)
    people = (story.reporter, story.neighbour, story.worker, story.dispatcher, story.officer)
    for local in (*(who.id for who in people), *story.places.centres, *organisations):
        assert str(local) not in text
    first, confirmed = document["events"][0], document["events"][-2]
    assert first["actor"] == {"kind": "resident", "role": "reporter", "person": document["case"]["reporter"]}
    assert confirmed["actor"] == first["actor"]
    supported = next(each for each in document["events"] if each["type"] == "hazard.supported")
    assert supported["actor"]["role"] == "resident"
    assert supported["actor"]["person"] != document["case"]["reporter"]


async def test_pictures_come_as_links_that_expire(story: Story, document: Json) -> None:
    assert [each["purpose"] for each in document["media"]] == ["hazard", "hazard_after", "hazard_after"]
    for each in document["media"]:
        got = await story.client.get(each["url"])
        assert (got.status_code, len(got.content)) == (200, each["bytes"])
        assert hashlib.sha256(got.content).hexdigest() == each["sha256"]
        assert f"expires={int(datetime.fromisoformat(each['url_expires_at']).timestamp())}&" in each["url"]
        assert clock.now() < datetime.fromisoformat(each["url_expires_at"]) < clock.now() + timedelta(hours=2)


async def test_without_a_basis_there_are_no_words_and_no_pictures(story: Story, hazard_id: str) -> None:
    thin = await paper(story, hazard_id, None)
    assert thin["consent_basis"] is None
    assert [thin["case"][name] for name in ("description", "address", "rating_comment")] == [None] * 3
    assert {each["text"] for each in thin["comments"]} == {None}
    assert thin["media"] == []
    assert len(thin["events"]) == len(await events_of(hazard_id))


async def test_every_export_is_on_record(story: Story, hazard_id: str) -> None:
    async def trail() -> list[Event]:
        async with database.reading() as session:
            rows = await session.scalars(
                select(Event).where(Event.type.startswith("case.")).order_by(Event.no)
            )
            return [row for row in rows if row.payload["hazard_id"] == hazard_id]

    before = len(await trail())
    await paper(story, hazard_id, None)
    await paper(story, hazard_id)
    thin, full = (await trail())[before:]
    assert (thin.type, full.type) == ("case.exported", "case.revealed")
    assert thin.audience is full.audience is Audience.AUDIT
    assert thin.actor_id == full.actor_id == story.manager.id
    async with database.reading() as session:
        reveal = await session.get_one(CaseReveal, UUID(str(full.payload["reveal_id"])))
        assert (unseal(reveal, "basis"), reveal.caller_id) == (BASIS, story.manager.id)
    assert BASIS not in json.dumps(full.payload)


async def test_a_key_with_the_scope_has_it_without_notes_among_staff(story: Story, hazard_id: str) -> None:
    status, document = await with_key(story, hazard_id, "cases:read")
    assert status == 200
    assert document["internal_comments"] is False
    assert {each["visibility"] for each in document["comments"]} == {"public"}
    assert len(document["events"]) == len(await events_of(hazard_id))
    assert (await with_key(story, hazard_id, "events:read"))[0] == 403
    assert (await with_key(story, hazard_id, "cases:read", region=story.places.far_street))[0] == 404


async def test_others_have_nothing(story: Story, hazard_id: str) -> None:
    path = f"/v1/hazards/{hazard_id}/case"
    far = await make_staff(Role.COMMUNITY_MANAGER, story.places.far_community)
    problem(await story.client.get(path, headers=far.headers), 404, "not_found")
    for who in (story.reporter, story.worker):
        problem(await story.client.get(path, headers=who.headers), 403, "forbidden")
    problem(await story.client.get(path), 401, "unauthenticated")
    blank = await story.client.get(path, headers=story.manager.headers, params={"consent_basis": " "})
    assert blank.status_code == 422


async def test_it_fits_its_published_schema(story: Story, document: Json) -> None:
    served = (await story.client.get("/openapi.json")).json()
    operation = served["paths"]["/v1/hazards/{hazard_id}/case"]["get"]
    schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
    assert schema == {"$ref": "#/components/schemas/CaseDocument"}
    validator = jsonschema_rs.validator_for({**schema, "components": served["components"]})
    validator.validate(document)
    assert not validator.is_valid(document | {"format": "jincai-case/2"})
    assert not validator.is_valid(document | {"more": 1})


async def test_the_digest_can_be_computed_from_what_the_page_says(document: Json) -> None:
    facts = {name: value for name, value in document.items() if name not in ("digest", "exported_at")}
    facts["media"] = [
        {name: value for name, value in each.items() if name not in ("url", "url_expires_at")}
        for each in document["media"]
    ]
    canonical = json.dumps(facts, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert hashlib.sha256(canonical.encode()).hexdigest() == document["digest"]
    assert CaseDocument.model_validate(document).computed_digest() == document["digest"]


async def test_an_export_says_the_same_until_something_happens(story: Story) -> None:
    hazard_id = await story.hazard(HazardStatus.ACCEPTED)
    first, second = await paper(story, hazard_id), await paper(story, hazard_id)
    assert first["digest"] == second["digest"]
    await story.call(hazard_id)
    assert (await paper(story, hazard_id))["digest"] != first["digest"]


def test_the_published_example_is_one_that_could_be_true() -> None:
    case_history.require_plausible(CaseDocument.model_validate(CASE_EXAMPLE))
