"""The public map: GeoJSON in WGS-84, of what is public, without anything personal."""

import httpx
import pytest
from shapely.geometry import Point, shape

from app.geo import Point as Place
from app.geo import distance_m, wgs84_from_gcj02
from app.models.hazards import OPEN_STATUSES, HazardStatus
from app.services import hazard_maps
from tests.residents import tell_everything
from tests.stories import Json, Story, begin, complaints, problem, show_to_public

S = HazardStatus
MAP = "/v1/hazards/map.geojson"


async def _features(story: Story, margin: float = 0.004, **query: object) -> dict[str, Json]:
    """What lies around the centre of the grid, by id."""
    centre = wgs84_from_gcj02(Place(**story.spot))
    box = f"{centre.lng - margin},{centre.lat - margin},{centre.lng + margin},{centre.lat + margin}"
    response = await story.client.get(
        MAP, params={"bbox": box, **{name: str(value) for name, value in query.items()}}
    )
    assert response.status_code == 200, response.text
    return {feature["id"]: feature for feature in response.json()["features"]}


async def test_points_are_wgs84(client: httpx.AsyncClient) -> None:
    story = await begin(client)
    place = {"lng": 104.1281, "lat": 30.6062}
    hazard = await story.file(location=place | {"datum": "wgs84"})
    response = await client.get(MAP, params={"bbox": "104.128,30.606,104.1283,30.6064"})
    assert response.headers["content-type"] == "application/geo+json"
    collection = response.json()
    assert (collection["type"], collection["truncated"]) == ("FeatureCollection", False)
    (feature,) = [each for each in collection["features"] if each["id"] == hazard["id"]]
    point = shape(feature["geometry"])
    assert isinstance(point, Point)
    assert distance_m(Place(**place), Place(point.x, point.y)) < 1


async def test_nobody_is_on_the_map(client: httpx.AsyncClient) -> None:
    story = await begin(client)
    told = await tell_everything(client, story.reporter, story.places.building)
    hazard_id = await story.hazard(
        S.CALLED, anonymous=False, description="门牌下面有人晕倒", address="秘密地址3栋"
    )
    await story.take(story.neighbour, hazard_id, "support")
    await show_to_public(hazard_id)
    (feature,) = (await _features(story)).values()
    assert feature["properties"] == {
        "category": "fire_passage_blocked",
        "category_name": "消防通道堵塞",
        "category_name_en": feature["properties"]["category_name_en"],
        "status": "called",
        "supporters": 1,
        "filed_at": feature["properties"]["filed_at"],
    }
    assert feature.keys() == {"type", "id", "geometry", "properties"}
    text = str(feature)
    secret = [*told.secrets, str(story.reporter.id), str(story.worker.id), "晕倒", "秘密地址"]
    assert not [word for word in secret if word in text]


async def test_what_is_on_the_map(client: httpx.AsyncClient) -> None:
    story = await begin(client)
    ids: dict[HazardStatus, str] = {}
    for status in (*OPEN_STATUSES, S.RESOLVED, S.CLOSED, S.REJECTED):
        ids[status] = await story.hazard(status)
    private = await story.hazard(S.FILED, category="noise_neighbours")
    hidden = await story.hazard(S.FILED)
    await story.take(story.manager, hidden, "redactions", {"hide": True, "reason": "illegal"})
    still_open = {ids[status] for status in OPEN_STATUSES}
    assert (await _features(story)).keys() == still_open
    assert (await _features(story, include_closed=True)).keys() == still_open | {
        ids[S.RESOLVED],
        ids[S.CLOSED],
    }
    assert private not in await _features(story, include_closed=True)
    assert await _features(story, margin=0.00001) != {}


async def test_only_what_lies_in_the_box(client: httpx.AsyncClient) -> None:
    story = await begin(client)
    inside = await story.hazard(S.FILED)
    await story.file(location=story.spot | {"lat": story.spot["lat"] + 0.005})
    assert (await _features(story)).keys() == {inside}
    assert len(await _features(story, margin=0.006)) == 2


async def test_the_newest_when_there_are_too_many(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hazard_maps, "MAX_FEATURES", 2)
    story = await begin(client)
    ids = [await story.hazard(S.FILED) for _ in range(3)]
    centre = wgs84_from_gcj02(Place(**story.spot))
    box = f"{centre.lng - 0.001},{centre.lat - 0.001},{centre.lng + 0.001},{centre.lat + 0.001}"
    answer = (await client.get(MAP, params={"bbox": box})).json()
    assert answer["truncated"] is True
    assert [each["id"] for each in answer["features"]] == [ids[2], ids[1]]


@pytest.mark.parametrize(
    ("query", "where", "code"),
    [
        ("", "query.bbox", "missing"),
        ("bbox=1", "query.bbox", "invalid_bbox"),
        ("bbox=104,30,104,31", "query.bbox", "invalid_bbox"),
        ("bbox=-181,30,104,31", "query.bbox", "invalid_bbox"),
        ("bbox=inf,30,104,31", "query.bbox", "invalid_bbox"),
        ("bbox=103,30,104,31&bbox=1,1,2,2", "query.bbox", "repeated_parameter"),
        ("bbox=103,30,104,31&scope=all", "query.scope", "unknown_parameter"),
        ("bbox=103,30,104,31&include_closed=2", "query.include_closed", "bool_parsing"),
    ],
)
async def test_what_is_no_box(client: httpx.AsyncClient, query: str, where: str, code: str) -> None:
    answer = problem(await client.get(f"{MAP}?{query}"), 422, "invalid_input")
    assert complaints(answer) == [(where, code)]
