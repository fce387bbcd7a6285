"""Is it there already? Open hazards of one category around a place, asked before filing."""

import httpx
import pytest

from app.models.hazards import HazardStatus
from app.models.staff import Role
from tests.factories import Person, make_staff
from tests.stories import Json, Story, begin, complaints, pictures, problem

S = HazardStatus


async def test_the_nearest_of_this_category(client: httpx.AsyncClient) -> None:
    story = await begin(client)
    steps = (0.0002, 0.0001, 0.0015, 0.0023, 0.0)
    ids = []
    for north in steps:
        place = story.spot | {"lat": story.spot["lat"] + north}
        ids.append(str((await story.file(location=place))["id"]))
    await story.file(category="garbage")
    resolved = await story.hazard(S.RESOLVED)

    found = await _near(story)
    assert [each["id"] for each in found] == [ids[4], ids[1], ids[0], ids[2]]
    assert [each["distance_m"] for each in found] == [0, 11, 22, 167]
    assert resolved not in [each["id"] for each in found]
    assert [each["id"] for each in await _near(story, radius_m=100)] == [ids[4], ids[1], ids[0]]
    assert len(await _near(story, radius_m=2000)) == 5
    assert await _near(story, who=story.worker) != []
    assert await _near(story, category="gas_leak") == []


@pytest.mark.parametrize(("north", "inside"), [(0.00224, True), (0.00226, False)])
async def test_the_edge_of_the_radius(client: httpx.AsyncClient, north: float, inside: bool) -> None:
    """250 m is 0.002248 degrees of latitude."""
    story = await begin(client)
    await story.file(location=story.spot | {"lat": story.spot["lat"] + north})
    assert bool(await _near(story)) is inside


async def test_a_category_without_a_radius(client: httpx.AsyncClient) -> None:
    story = await begin(client)
    await story.file(category="other")
    assert await _near(story, category="other") == []
    assert len(await _near(story, category="other", radius_m=50)) == 1


async def test_across_the_cells_in_every_direction(client: httpx.AsyncClient) -> None:
    story = await begin(client)
    lng, lat = story.spot["lng"], story.spot["lat"]
    for east, north in [(x, y) for x in (-1, 0, 1) for y in (-1, 0, 1) if (x, y) != (0, 0)]:
        await story.file(location={"lng": lng + east * 0.004, "lat": lat + north * 0.0075})
    found = await _near(story, radius_m=1000)
    assert len(found) == 8
    assert [each["distance_m"] for each in found] == sorted(each["distance_m"] for each in found)


async def test_no_more_than_20(client: httpx.AsyncClient) -> None:
    story = await begin(client)
    for _ in range(22):
        await story.file()
    found = await _near(story)
    assert len(found) == 20
    assert [each["id"] for each in found] == sorted(each["id"] for each in found)


async def test_only_what_the_caller_may_see(client: httpx.AsyncClient) -> None:
    story = await begin(client)
    private = await story.hazard(S.FILED, category="elderly_in_danger")
    elsewhere = await make_staff(Role.GRID_WORKER, story.places.far_grid)
    shown = {}
    for who in (story.reporter, story.neighbour, story.worker, elsewhere):
        found = await _near(story, who=who, category="elderly_in_danger", radius_m=100)
        shown[who.id] = [each["id"] for each in found]
    assert list(shown.values()) == [[private], [], [private], []]


async def test_a_place_in_wgs84(client: httpx.AsyncClient) -> None:
    story = await begin(client)
    place = {"lng": 104.1281, "lat": 30.6062, "datum": "wgs84"}
    hazard = await story.file(
        location=place, category="water_outage", media_ids=await pictures(story.reporter)
    )
    query = {"category": "water_outage", "radius_m": 5}
    found = (await story.get(story.reporter, "/v1/hazards/nearby", **place, **query))["items"]
    assert [(each["id"], each["distance_m"]) for each in found] == [(hazard["id"], 0)]
    assert (await story.get(story.reporter, "/v1/hazards/nearby", **(place | {"datum": "gcj02"}), **query))["items"] == []  # fmt: skip


@pytest.mark.parametrize(
    ("query", "where", "code"),
    [
        ("lat=30.6&category=garbage", "query.lng", "missing"),
        ("lng=104&lat=91&category=garbage", "query.lat", "less_than_equal"),
        ("lng=nan&lat=30&category=garbage", "query.lng", "finite_number"),
        ("lng=104&lat=30", "query.category", "missing"),
        ("lng=104&lat=30&category=dragons", "query.category", "unknown_category"),
        ("lng=104&lat=30&category=garbage&radius_m=0", "query.radius_m", "greater_than_equal"),
        ("lng=104&lat=30&category=garbage&radius_m=2001", "query.radius_m", "less_than_equal"),
        ("lng=104&lat=30&category=garbage&datum=bd09", "query.datum", "literal_error"),
        ("lng=104&lat=30&category=garbage&limit=5", "query.limit", "unknown_parameter"),
    ],
)
async def test_what_is_no_question(story: Story, query: str, where: str, code: str) -> None:
    response = await story.client.get(f"/v1/hazards/nearby?{query}", headers=story.reporter.headers)
    kind = "unknown_category" if code == "unknown_category" else "invalid_input"
    assert complaints(problem(response, 422, kind)) == [(where, code)]


async def _near(
    story: Story, who: Person | None = None, category: str = "fire_passage_blocked", **query: object
) -> list[Json]:
    asked = story.spot | {"category": category} | query
    page = await story.get(who or story.reporter, "/v1/hazards/nearby", **asked)
    found: list[Json] = page["items"]
    return found
