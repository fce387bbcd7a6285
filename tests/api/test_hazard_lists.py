"""Lists: pages that stay stable, filters that are exact, and nothing that the caller may not see."""

import random
from datetime import UTC, datetime, timedelta
from uuid import UUID

import httpx
import pytest

from app import clock
from app.models.hazards import HazardStatus
from app.models.staff import Role
from tests.factories import Person, give_role, make_resident, make_staff
from tests.stories import Json, Story, begin, change, complaints, problem, show_to_public

S = HazardStatus
CATEGORIES = ("gas_leak", "fire_passage_blocked", "garbage", "gas_leak", "street_lighting", "elevator_fault")


async def _ids(story: Story, who: Person, **query: object) -> list[str]:
    page = await story.get(who, "/v1/hazards", limit=100, **query)
    assert page["next_cursor"] is None
    return [str(each["id"]) for each in page["items"]]


@pytest.mark.parametrize("who", ["reporter", "worker"])
async def test_newest_first_in_pages_that_stay_stable(client: httpx.AsyncClient, who: str) -> None:
    """What is filed meanwhile is on no later page, and nothing is skipped or shown twice."""
    story = await begin(client)
    filed = [str((await story.file())["id"]) for _ in range(7)]
    seen: list[str] = []
    cursor = None
    for size in (3, 3, 1):
        page = await story.get(getattr(story, who), "/v1/hazards", limit=3, cursor=cursor)
        assert len(page["items"]) == size
        seen += [each["id"] for each in page["items"]]
        cursor = page["next_cursor"]
        await story.file()
    assert cursor is None
    assert seen == [*reversed(filed)]


async def test_a_full_last_page_has_no_cursor(client: httpx.AsyncClient) -> None:
    story = await begin(client)
    for _ in range(2):
        await story.file()
    assert (await story.get(story.reporter, "/v1/hazards", limit=2))["next_cursor"] is None
    assert (await story.get(story.reporter, "/v1/hazards", limit=1))["next_cursor"] is not None


async def test_the_most_urgent_first(client: httpx.AsyncClient) -> None:
    """By due time, ties by age, in pages; what waits for nobody is not in it."""
    story = await begin(client)
    ids = [str((await story.file(category=category))["id"]) for category in CATEGORIES]
    base = clock.now().replace(microsecond=0)
    minutes = (30, 10, 20, 20, 40, 20)
    for hazard_id, minute in zip(ids, minutes, strict=True):
        await change(hazard_id, due_at=base + timedelta(minutes=minute))
    resolved = await story.hazard(S.RESOLVED)
    expected = [ids[1], ids[2], ids[3], ids[5], ids[0], ids[4]]
    assert await _ids(story, story.worker, order="due") == expected

    seen: list[str] = []
    cursor = None
    while True:
        page = await story.get(story.worker, "/v1/hazards", order="due", limit=2, cursor=cursor)
        assert [each["due_at"] for each in page["items"]] == sorted(each["due_at"] for each in page["items"])
        seen += [each["id"] for each in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
        urgent = str((await story.file(category="gas_leak"))["id"])
        await change(urgent, due_at=base + timedelta(minutes=1))
    assert seen == expected
    assert resolved not in seen


async def test_filters(client: httpx.AsyncClient) -> None:
    story = await begin(client)
    filed = await story.hazard(S.FILED, category="garbage")
    taken = await story.hazard(S.ACCEPTED)
    called = await story.hazard(S.CALLED, category="garbage")
    sent = await story.hazard(S.DISPATCHED)
    on_site = await story.hazard(S.CHECKED_IN)
    done = await story.hazard(S.RESOLVED, category="garbage")
    beside = str((await story.file(location=story.places.point(story.places.other_grid)))["id"])
    soon = clock.now() + timedelta(minutes=5)
    await change(taken, overdue_at=clock.now(), due_at=soon - timedelta(minutes=6))
    lng, lat = story.spot["lng"], story.spot["lat"]
    manager = story.manager

    async def listed(**query: object) -> set[str]:
        return set(await _ids(story, manager, **query))

    everything = {filed, taken, called, sent, on_site, done, beside}
    assert await listed() == everything
    assert await listed(status="filed") == {filed, beside}
    assert await listed(status=["filed", "resolved"], category="garbage") == {filed, done}
    assert await listed(category="gas_leak") == set()
    assert await listed(level="grid") == {filed, taken, beside}
    assert await listed(level="street") == {called}
    assert await listed(level="department") == {sent, on_site}
    assert await listed(region_id=story.places.other_grid) == {beside}
    assert await listed(region_id=story.places.street) == everything
    assert await listed(region_id=story.places.far_street) == set()
    assert await listed(handler_id=story.worker.id) == {taken, called, sent, on_site, done}
    assert await listed(handler_id=story.colleague.id) == set()
    assert await listed(overdue=True) == {taken}
    assert await listed(overdue=False) == everything - {taken}
    assert await listed(due_before=soon.isoformat()) == {taken}
    assert await listed(bbox=f"{lng - 0.001},{lat - 0.001},{lng + 0.001},{lat + 0.001}") == everything - {
        beside
    }
    assert await listed(bbox=f"{lng + 0.001},{lat - 0.001},{lng + 0.02},{lat + 0.001}") == {beside}
    assert await listed(status="resolved", level="street") == set()


@pytest.mark.parametrize(
    ("query", "where", "code"),
    [
        ("sort=id_number", "query.sort", "unknown_parameter"),
        ("reporter_id=1", "query.reporter_id", "unknown_parameter"),
        ("Status=filed", "query.Status", "unknown_parameter"),
        ("category=a&category=b", "query.category", "repeated_parameter"),
        ("limit=5&limit=6", "query.limit", "repeated_parameter"),
        ("limit=0", "query.limit", "greater_than_equal"),
        ("limit=101", "query.limit", "less_than_equal"),
        ("limit=1000000000", "query.limit", "less_than_equal"),
        ("limit=many", "query.limit", "int_parsing"),
        ("status=open", "query.status.0", "enum"),
        ("level=district", "query.level", "enum"),
        ("scope=all", "query.scope", "literal_error"),
        ("order=oldest", "query.order", "literal_error"),
        ("region_id=1", "query.region_id", "uuid_parsing"),
        ("overdue=perhaps", "query.overdue", "bool_parsing"),
        ("due_before=2026-11-23T08:00:00", "query.due_before", "timezone_aware"),
        ("due_before=tomorrow", "query.due_before", "datetime_type"),
        ("bbox=1,2,3", "query.bbox", "invalid_bbox"),
        ("bbox=104,30,103,31", "query.bbox", "invalid_bbox"),
        ("bbox=104,30,105,95", "query.bbox", "invalid_bbox"),
        ("bbox=nan,30,105,31", "query.bbox", "invalid_bbox"),
        ("bbox=a,b,c,d", "query.bbox", "invalid_bbox"),
        ("bbox=1_0,1,20,2", "query.bbox", "invalid_bbox"),
        ("bbox=１０,1,20,2", "query.bbox", "invalid_bbox"),
        ("bbox=%D9%A1,1,20,2", "query.bbox", "invalid_bbox"),
        ("bbox=", "query.bbox", "invalid_bbox"),
        ("cursor=" + "A" * 501, "query.cursor", "string_too_long"),
    ],
)
async def test_what_is_no_question(story: Story, query: str, where: str, code: str) -> None:
    response = await story.client.get(f"/v1/hazards?{query}", headers=story.worker.headers)
    assert complaints(problem(response, 422, "invalid_input")) == [(where, code)]


async def test_a_cursor_is_ours_and_of_this_list(client: httpx.AsyncClient) -> None:
    story = await begin(client)
    ids = [str((await story.file())["id"]) for _ in range(2)]
    for number in range(2):
        await story.take(story.worker, ids[0], "comments", {"text": f"第{number}条"})
    good = str((await story.get(story.worker, "/v1/hazards", limit=1))["next_cursor"])
    due = str((await story.get(story.worker, "/v1/hazards", limit=1, order="due"))["next_cursor"])
    comments = str((await story.get(story.worker, f"/v1/hazards/{ids[0]}/comments", limit=1))["next_cursor"])
    chance = random.Random(7)
    spoilt = [due, comments, good[:-1], good + "A", good.swapcase(), "null", "..", "a.b.c", ids[0], ""]
    for at in chance.sample(range(len(good)), 20):
        other = chance.choice([letter for letter in "ABab01" if letter != good[at]])
        spoilt.append(good[:at] + other + good[at + 1 :])
    for cursor in spoilt:
        response = await story.client.get(
            "/v1/hazards", params={"cursor": cursor}, headers=story.worker.headers
        )
        assert complaints(problem(response, 422, "invalid_input")) == [("query.cursor", "invalid_cursor")]
    wrong_order = {"cursor": good, "order": "due"}
    response = await story.client.get("/v1/hazards", params=wrong_order, headers=story.worker.headers)
    problem(response, 422, "invalid_input")
    assert len((await story.get(story.worker, "/v1/hazards", cursor=good))["items"]) == 1


@pytest.mark.parametrize(
    ("who", "query"),
    [
        ("reporter", {"scope": "handled"}),
        ("reporter", {"order": "due"}),
        ("reporter", {"due_before": datetime.now(UTC).isoformat()}),
        ("reporter", {"handler_id": "01938b5e-7c1a-7d2e-9f00-3a51f0c2b001"}),
        ("worker", {"scope": "mine"}),
    ],
)
async def test_what_is_not_for_them_to_ask(story: Story, who: str, query: dict[str, str]) -> None:
    person: Person = getattr(story, who)
    response = await story.client.get("/v1/hazards", params=query, headers=person.headers)
    problem(response, 403, "forbidden")


async def test_a_handler_is_one_of_the_callers_part_of_the_world(client: httpx.AsyncClient) -> None:
    """Nobody, and somebody elsewhere, look the same; whoever handles a hazard that one sees is known."""
    story = await begin(client)
    places = story.places
    sent = await story.hazard(S.DISPATCHED)
    beside = await make_staff(Role.GRID_WORKER, places.neighbour_grid)
    gone = await make_staff(None, home_id=places.grid)
    knows: dict[Person, set[Person]] = {
        story.manager: {story.manager, story.worker, story.colleague, gone},
        story.dispatcher: {story.worker, beside, gone, story.dispatcher, story.manager, story.colleague},
        story.officer: {story.officer, story.worker},
    }
    asked = {person for known in knows.values() for person in known} | {story.second_officer}
    for caller, known in knows.items():
        strangers = [UUID(int=7), *(person.id for person in asked - known)]
        refusals = [await _refused_handler(story, caller, each) for each in strangers]
        assert all(refusal == refusals[0] for refusal in refusals)
        for handler in known:
            listed = await _ids(story, caller, handler_id=handler.id)
            assert listed == ([sent] if handler == story.worker else [])


async def _refused_handler(story: Story, caller: Person, handler_id: UUID) -> Json:
    response = await story.client.get(
        "/v1/hazards", params={"handler_id": str(handler_id)}, headers=caller.headers
    )
    refusal: Json = problem(response, 422, "invalid_input")
    assert complaints(refusal) == [("query.handler_id", "unknown_staff")]
    return {name: value for name, value in refusal.items() if name != "request_id"}


async def test_each_member_of_staff_sees_their_part(client: httpx.AsyncClient) -> None:
    """The tree decides: the own region and what lies below; a department what it was sent."""
    story = await begin(client)
    places = story.places
    here = await story.hazard(S.DISPATCHED)
    beside, street, far = [
        str((await story.file(location=places.point(region)))["id"])
        for region in (places.other_grid, places.neighbour_grid, places.far_grid)
    ]
    admin = await make_staff(Role.DISTRICT_ADMIN, places.district)
    auditor = await make_staff(Role.AUDITOR, places.street)
    two = await make_staff(Role.GRID_WORKER, places.far_grid)
    await give_role(two, Role.DEPARTMENT_OFFICER, organisation_id=story.department)
    elsewhere = await make_staff(Role.STREET_DISPATCHER, places.far_street)
    for who, expected in (
        (story.worker, {here}),
        (story.colleague, {here, beside}),
        (story.manager, {here, beside}),
        (story.dispatcher, {here, beside, street}),
        (auditor, {here, beside, street}),
        (admin, {here, beside, street, far}),
        (story.officer, {here}),
        (story.second_officer, set()),
        (two, {here, far}),
        (elsewhere, {far}),
    ):
        assert set(await _ids(story, who)) == expected


async def test_the_public_list(client: httpx.AsyncClient) -> None:
    story = await begin(client)
    shown = await story.hazard(S.ACCEPTED)
    unchecked = await story.hazard(S.FILED)
    private = await story.hazard(S.FILED, category="elderly_in_danger")
    hidden, rejected = await story.hazard(S.FILED), await story.hazard(S.REJECTED)
    await show_to_public(shown, private, hidden, rejected)
    await story.take(story.manager, hidden, "redactions", {"hide": True, "reason": "abuse"})
    here = {"scope": "public", "region_id": story.places.community}
    stranger = await make_resident()

    listed = (await story.get(stranger, "/v1/hazards", **here))["items"]
    assert [each["id"] for each in listed] == [unchecked, shown]
    assert [each["description"] is None for each in listed] == [True, False]
    assert [each["thumbnail_url"] is None for each in listed] == [True, False]
    assert [each["due_at"] for each in listed] == [None, None]
    assert set(await _ids(story, story.reporter)) == {shown, unchecked, private, hidden, rejected}
    own = (await story.get(story.reporter, "/v1/hazards"))["items"]
    assert all(each["description"] and each["thumbnail_url"] and each["mine"] for each in own)


async def test_staff_elsewhere_see_no_more_than_the_public(client: httpx.AsyncClient) -> None:
    story = await begin(client)
    await story.hazard(S.ACCEPTED)
    elsewhere = await make_staff(Role.GRID_WORKER, story.places.far_grid)
    here = {"scope": "public", "region_id": story.places.community}
    public = await story.get(await make_resident(), "/v1/hazards", **here)
    assert await story.get(elsewhere, "/v1/hazards", **here) == public
    assert public["items"][0]["description"] is None
