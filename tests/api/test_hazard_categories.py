"""The maintained table: what residents choose from, and what a district may change about it."""

from collections.abc import AsyncIterator

import httpx
import pytest
from sqlalchemy import func, select, update

from app.db import database, signal_after_commit
from app.models.events import Event
from app.models.hazard_categories import HazardCategory
from app.models.staff import Role
from app.services import hazard_categories
from tests.factories import Person, make_staff
from tests.stories import Json, Story, complaints, problem

PATH = "/v1/hazard-categories"
CODE = "stray_dogs"
CHANGES = ("urgency", "public", "nearby_radius_m", "deadlines", "lead_organisation_code", "active")


@pytest.fixture
async def category(story: Story) -> AsyncIterator[Json]:
    """One row of the table, put back as it was afterwards."""
    rows = (await story.client.get(PATH)).json()["items"]
    row: Json = next(each for each in rows if each["code"] == CODE)
    yield {name: row[name] for name in (*CHANGES, "version")}
    async with database.transaction() as session:
        kept = {name: row[name] for name in (*CHANGES, "version")}
        await session.execute(update(HazardCategory).where(HazardCategory.code == CODE).values(kept))
        signal_after_commit(session, hazard_categories.TOPIC)


@pytest.fixture
async def admin(story: Story) -> Person:
    return await make_staff(Role.DISTRICT_ADMIN, story.places.district)


async def _put(story: Story, who: Person, body: Json, version: int | None = None) -> httpx.Response:
    headers = who.headers | ({"If-Match": f'"{version}"'} if version else {})
    return await story.client.put(f"{PATH}/{CODE}", json=body, headers=headers)


def _body(category: Json, **changes: object) -> Json:
    return {name: category[name] for name in CHANGES} | changes


async def test_everybody_may_read_them(story: Story) -> None:
    answer = (await story.client.get(PATH)).json()
    assert answer["next_cursor"] is None
    assert len(answer["items"]) >= 30
    for each in answer["items"]:
        assert each["name"]
        assert each["name_en"]
        assert each["deadlines"].keys() == {"grid", "street", "department"}
        assert each["urgency"] in ("critical", "high", "normal", "low")
    classes = [each["event_class"] for each in answer["items"] if each["event_class"]]
    assert len(classes) >= 15


async def test_a_change_holds_for_what_is_filed_next(story: Story, category: Json, admin: Person) -> None:
    before = await story.file(category=CODE)
    soon = {"minutes": 30, "warn_minutes": 10, "clock": "clock"}
    deadlines = category["deadlines"] | {"grid": soon}
    changed = await _put(
        story, admin, _body(category, deadlines=deadlines, urgency="high", nearby_radius_m=80)
    )
    assert changed.status_code == 200
    assert (changed.json()["version"], changed.json()["urgency"]) == (category["version"] + 1, "high")
    after = await story.file(category=CODE)
    assert after["due_at"] < before["due_at"]
    kept = await story.get(story.reporter, f"/v1/hazards/{before['id']}")
    assert kept["due_at"] == before["due_at"]
    async with database.reading() as session:
        query = select(func.count()).where(
            Event.actor_id == admin.id, Event.type == "hazard_category.updated", Event.audience == "audit"
        )
        assert await session.scalar(query) == 1


async def test_one_that_is_out_of_use(story: Story, category: Json, admin: Person) -> None:
    hazard = await story.file(category=CODE)
    assert (await _put(story, admin, _body(category, active=False))).status_code == 200
    response = await story.post(story.reporter, "/v1/hazards", await story.report(category=CODE))
    assert complaints(problem(response, 422, "unknown_category")) == [("body.category", "unknown_category")]
    listed = [each["code"] for each in (await story.client.get(PATH)).json()["items"]]
    assert CODE not in listed
    assert (await story.accept(hazard["id"]))["status"] == "accepted"
    assert (await story.call(hazard["id"]))["status"] == "called"


async def test_one_that_becomes_private(story: Story, category: Json, admin: Person) -> None:
    hazard = await story.file(category=CODE)
    assert (await _put(story, admin, _body(category, public=False))).status_code == 200
    response = await story.client.get(f"/v1/hazards/{hazard['id']}", headers=story.neighbour.headers)
    problem(response, 404, "not_found")


async def test_of_two_editors_one_is_told(story: Story, category: Json, admin: Person) -> None:
    body, version = _body(category), category["version"]
    assert (await _put(story, admin, body, version)).status_code == 200
    problem(await _put(story, admin, body, version), 412, "version_conflict")
    assert (await _put(story, admin, body, version + 1)).json()["version"] == version + 2


async def test_who_may_not_change_them(story: Story, category: Json) -> None:
    body = _body(category)
    for who in (story.reporter, story.manager, story.dispatcher):
        problem(await _put(story, who, body), 403, "forbidden")
    stale = await make_staff(Role.DISTRICT_ADMIN, story.places.district, stepped_up=False)
    problem(await _put(story, stale, body), 403, "step_up_required")


LATE = {"minutes": 60, "warn_minutes": 60, "clock": "clock"}


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"urgency": "extreme"}, "body.urgency"),
        ({"nearby_radius_m": 2001}, "body.nearby_radius_m"),
        ({"nearby_radius_m": -1}, "body.nearby_radius_m"),
        ({"deadlines": {}}, "body"),
        ({"deadlines": {"grid": LATE, "street": LATE, "department": LATE}}, "body.deadlines.grid"),
        ({"deadlines": {"district": LATE}}, "body.deadlines.district.[key]"),
        ({"public": 1}, "body.public"),
        ({"code": "cats"}, "body.code"),
        ({"name": "流浪猫"}, "body.name"),
    ],
)
async def test_what_is_no_change(
    story: Story, category: Json, admin: Person, changes: Json, where: str
) -> None:
    answer = problem(await _put(story, admin, _body(category, **changes)), 422, "invalid_input")
    assert where in [loc for loc, _ in complaints(answer)]


async def test_one_that_does_not_exist(story: Story, category: Json, admin: Person) -> None:
    response = await story.client.put(f"{PATH}/dragons", json=_body(category), headers=admin.headers)
    problem(response, 404, "not_found")
