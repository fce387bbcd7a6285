"""A document goes in whole or not at all, once, and without a word to anybody."""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from uuid import UUID

import httpx
import pytest
from pydantic import ValidationError
from sqlalchemy import func, select

from app.db import database
from app.models.cases import CaseImport
from app.models.events import Event
from app.models.hazard_deadlines import HazardDeadline
from app.models.hazards import Hazard, HazardStatus
from app.models.notifications import Notification
from app.models.staff import Role
from app.models.tasks import Task
from app.models.webhooks import WebhookDelivery
from app.schemas.cases import MOST, CaseDocument
from app.services.verification_hazards import breaches_of
from tests.cases.papers import Json, elsewhere, lasting, long_case, paper, sealed, spoiled
from tests.factories import Person, make_staff
from tests.stories import Story, complaints, events_of, problem
from tests.worker.chronicle import place_all

PATH = "/v1/cases"


@pytest.fixture(scope="module")
async def admin(story: Story) -> Person:
    return await make_staff(Role.DISTRICT_ADMIN, story.places.district)


@pytest.fixture(scope="module")
async def original(story: Story) -> Json:
    """The document of a case that went the longest way."""
    return await paper(story, await long_case(story))


async def send(story: Story, who: Person, document: Json, key: str | None = None) -> httpx.Response:
    return await story.post(who, PATH, document, key=key)


async def is_here(document: Json) -> bool:
    async with database.reading() as session:
        return await session.get(Hazard, UUID(document["case"]["id"])) is not None


async def test_it_comes_in_as_it_went_out(story: Story, admin: Person, original: Json) -> None:
    document = elsewhere(original)
    answer = await send(story, admin, document)
    assert answer.status_code == 201, answer.text
    hazard_id = document["case"]["id"]
    assert answer.json() == {
        "hazard_id": hazard_id,
        "result": "imported",
        "events": len(document["events"]),
        "comments": len(document["comments"]),
        "pictures": 0,
    }
    assert lasting(await paper(story, hazard_id)) == lasting(document)
    async with database.reading() as session:
        assert await breaches_of(session, UUID(hazard_id)) == []
    seen = await story.get(story.manager, f"/v1/hazards/{hazard_id}")
    assert (seen["status"], seen["description"], seen["rating"]) == (
        "closed",
        original["case"]["description"],
        4,
    )
    there = await story.get(story.manager, f"/v1/hazards/{original['case']['id']}/timeline")
    here = await story.get(story.manager, f"/v1/hazards/{hazard_id}/timeline")
    facts = ("seq", "type", "occurred_at", "actor", "text")
    assert [[each[name] for name in facts] for each in here["items"]] == [
        [each[name] for name in facts] for each in there["items"]
    ]


@pytest.mark.parametrize("status", [status for status in HazardStatus if status is not HazardStatus.MERGED])
async def test_a_case_of_every_status_goes_round(story: Story, admin: Person, status: HazardStatus) -> None:
    document = elsewhere(await paper(story, await story.hazard(status)))
    assert (await send(story, admin, document)).status_code == 201
    assert lasting(await paper(story, document["case"]["id"])) == lasting(document)


async def test_a_merged_case_needs_the_other_one_first(story: Story, admin: Person) -> None:
    merged = await paper(story, await story.hazard(HazardStatus.MERGED))
    primary = merged["case"]["merged_into"]
    missing = problem(await send(story, admin, elsewhere(merged)), 422, "invalid_case")
    assert complaints(missing) == [("body.case.merged_into", "case_missing")]
    document = elsewhere(merged, primary)
    assert (await send(story, admin, document)).status_code == 201
    assert lasting(await paper(story, document["case"]["id"])) == lasting(document)


async def test_nobody_is_told_and_no_clock_starts(story: Story, admin: Person) -> None:
    hazard_id = await story.hazard(HazardStatus.CALLED)
    await story.take(story.neighbour, hazard_id, "support")
    document = elsewhere(await paper(story, hazard_id))
    await place_all()
    async with database.reading() as session:
        tasks = await session.scalar(select(func.count()).select_from(Task))
    assert (await send(story, admin, document)).status_code == 201
    await place_all()
    imported = UUID(document["case"]["id"])
    async with database.reading() as session:
        assert await session.scalar(select(func.count()).select_from(Task)) == tasks
        for table in (Notification, WebhookDelivery):
            assert await session.scalar(select(func.count()).where(table.subject_id == imported)) == 0
        rows = list(await session.scalars(select(Event).where(Event.subject_id == imported)))
        assert all(row.position and row.digest and row.imported_at for row in rows)
        clocks = list(
            await session.scalars(
                select(HazardDeadline).where(HazardDeadline.hazard_id == imported).order_by(HazardDeadline.n)
            )
        )
    assert [row.started_at for row in clocks] == [
        datetime.fromisoformat(each["started_at"]) for each in document["deadlines"]
    ]


async def test_what_happens_later_is_told_to_nobody_of_the_past(story: Story, admin: Person) -> None:
    """Whoever handled and reported the case elsewhere has a row here, and nobody who could read a notification."""
    document = elsewhere(await paper(story, await story.hazard(HazardStatus.ACCEPTED)))
    assert (await send(story, admin, document)).status_code == 201
    imported = UUID(document["case"]["id"])
    await story.take(story.manager, str(imported), "comments", {"text": "已安排复查"})
    await place_all()
    async with database.reading() as session:
        told = set(
            await session.scalars(
                select(Notification.recipient_id).where(Notification.subject_id == imported)
            )
        )
        hazard = await session.get_one(Hazard, imported)
    assert hazard.handler_id is not None
    assert {hazard.handler_id, hazard.reporter_id}.isdisjoint(told)
    # And whoever follows what lies around the place, for some other test.
    assert {story.worker.id, story.colleague.id} <= told


async def test_the_same_document_changes_nothing_and_another_one_is_refused(
    story: Story, admin: Person, original: Json
) -> None:
    document = elsewhere(original)
    first = await send(story, admin, document, key="import-1")
    assert first.status_code == 201
    again = await send(story, admin, document)
    assert (again.status_code, again.json()["result"]) == (200, "unchanged")
    replayed = await send(story, admin, document, key="import-1")
    assert (replayed.status_code, replayed.json()) == (201, first.json())
    assert replayed.headers["Idempotent-Replayed"] == "true"
    other = spoiled(document, lambda it: it["case"].update(description="换了说法"))
    problem(await send(story, admin, other), 409, "case_exists")
    problem(await send(story, admin, original), 409, "case_exists")
    assert len(await events_of(document["case"]["id"])) == len(document["events"])


async def test_a_race_imports_it_once(story: Story, admin: Person, original: Json) -> None:
    document = elsewhere(original)
    answers = await asyncio.gather(*(send(story, admin, document) for _ in range(5)))
    assert sorted(answer.status_code for answer in answers) == [200, 200, 200, 200, 201]
    async with database.reading() as session:
        kept = await session.get(CaseImport, UUID(document["case"]["id"]))
    assert kept is not None
    assert (kept.digest, kept.events) == (document["digest"], len(document["events"]))


async def test_a_document_without_a_basis_comes_in_without_words(
    story: Story, admin: Person, original: Json
) -> None:
    document = elsewhere(await paper(story, original["case"]["id"], None))
    assert document["case"]["description"] is None
    assert (await send(story, admin, document)).status_code == 201
    assert lasting(await paper(story, document["case"]["id"], None)) == lasting(document)


def _earlier(document: Json, index: int) -> None:
    at = datetime.fromisoformat(document["events"][index]["occurred_at"])
    document["events"][index]["occurred_at"] = (at - timedelta(days=1)).isoformat()


SPOILS: list[tuple[str, str, Callable[[Json], object]]] = [
    ("events.3.seq", "case_gap", lambda it: it["events"].pop(3)),
    ("events.4.occurred_at", "case_backwards", lambda it: _earlier(it, 4)),
    ("events.0.type", "case_beginning", lambda it: it["events"][0].update(type="hazard.accepted")),
    ("events.3.data.status", "case_step", lambda it: it["events"][3].update(type="hazard.resolved")),
    ("case.status", "case_status", lambda it: it["case"].update(status="resolved")),
    ("case.disputes", "case_count", lambda it: it["case"].update(disputes=0)),
    ("case.supporters", "case_count", lambda it: it["case"].update(supporters=9)),
    ("case.accepted_at", "case_taken", lambda it: it["case"].update(accepted_at=None)),
    ("case.category_code", "case_unknown_code", lambda it: it["case"].update(category_code="dragons")),
    ("case.region_code", "case_unknown_code", lambda it: it["case"].update(region_code="nowhere")),
    (
        "assignments.0.organisation_code",
        "case_unknown_code",
        lambda it: it["assignments"][0].update(organisation_code="nobody"),
    ),
    ("deadlines.1.n", "case_gap", lambda it: it["deadlines"].pop(1)),
    (
        "comments.0.event_id",
        "case_unknown_event",
        lambda it: it["comments"][0].update(event_id=str(UUID(int=7))),
    ),
    ("comments.1.id", "case_repeated", lambda it: it["comments"][1].update(id=it["comments"][0]["id"])),
    ("deadlines", "case_contradiction", lambda it: it["deadlines"][-1].update(ended_at=None)),
    ("case", "case_contradiction", lambda it: it["case"].update(handler=None)),
    ("case.refusals", "case_contradiction", lambda it: it["case"].update(refusals=0)),
    ("events.1.actor.role", "case_contradiction", lambda it: it["events"][1]["actor"].update(role="grid")),
    ("case.reporter", "case_contradiction", lambda it: it["case"].update(reporter="p40")),
]


@pytest.mark.parametrize(("loc", "code", "spoil"), SPOILS, ids=[f"{loc} {code}" for loc, code, _ in SPOILS])
async def test_what_contradicts_is_refused_whole(
    story: Story, admin: Person, original: Json, loc: str, code: str, spoil: Callable[[Json], object]
) -> None:
    document = spoiled(elsewhere(original), spoil)
    found = complaints(problem(await send(story, admin, document), 422, "invalid_case"))
    assert (f"body.{loc}", code) in found or code == "case_contradiction", found
    assert code in {each for _, each in found}
    assert not await is_here(document)


async def test_a_touched_document_is_found_out(story: Story, admin: Person, original: Json) -> None:
    document = elsewhere(original)
    document["comments"][0]["text"] = "改过的话"
    refused = problem(await send(story, admin, document), 422, "invalid_case")
    assert complaints(refused) == [("body.digest", "case_digest")]


async def test_another_version_is_refused(story: Story, admin: Person, original: Json) -> None:
    refused = problem(await send(story, admin, original | {"format": "jincai-case/2"}), 422, "invalid_input")
    assert [loc for loc, _ in complaints(refused)] == ["body.format"]
    assert (await send(story, admin, original | {"more": 1})).status_code == 422


def test_thousands_of_malformed_parts_are_not_all_listed() -> None:
    """To name each field of each of them would take a second, and nobody is shown more than fifty."""
    document: Json = {name: [{}] * most for name, most in MOST.items()}
    with pytest.raises(ValidationError) as refused:
        CaseDocument.model_validate(document)
    assert refused.value.error_count() < 100


async def test_ids_of_another_case_are_refused(story: Story, admin: Person, original: Json) -> None:
    document = elsewhere(original, original["events"][2]["id"])
    refused = problem(await send(story, admin, document), 422, "invalid_case")
    assert complaints(refused) == [("body.events.2.id", "case_taken")]


async def test_only_administrators_of_the_place_import(story: Story, original: Json) -> None:
    document = elsewhere(original)
    problem(await send(story, story.manager, document), 403, "forbidden")
    far = await make_staff(Role.DISTRICT_ADMIN, story.places.far_street)
    problem(await send(story, far, document), 403, "forbidden")
    tired = await make_staff(Role.DISTRICT_ADMIN, story.places.district, stepped_up=False)
    problem(await send(story, tired, document), 403, "step_up_required")
    assert not await is_here(document)


async def test_times_may_be_written_in_another_zone(story: Story, admin: Person, original: Json) -> None:
    document = elsewhere(original)
    at = datetime.fromisoformat(document["case"]["created_at"])
    document["case"]["created_at"] = at.astimezone(tz=None).isoformat()
    assert sealed(document)["digest"] == document["digest"]
    assert (await send(story, admin, document)).status_code == 201
