"""Looking around in the tree of places, finding a point in it, and moving a branch of it."""

import asyncio
from collections.abc import Iterable
from typing import Any
from uuid import UUID

import httpx
import pytest
from sqlalchemy import select

from app import clock
from app.db import Database
from app.geo import Point, RegionIndex, RegionShape, cell_of, distance_m, wgs84_from_gcj02
from app.ids import new_id
from app.models.events import Event
from app.models.hazards import Hazard
from app.models.regions import RegionAncestor
from app.models.staff import Role
from app.services import places as place_index
from tests.factories import Person, Places, give_role, make_organisation, make_resident, make_staff
from tests.stories import complaints, problem

MAPLE_CENTRE = {"lng": 104.128, "lat": 30.606}
EN = {"Accept-Language": "en"}
Query = dict[str, str | int | float]
Json = dict[str, Any]


async def test_the_tree_is_walked_page_by_page(client: httpx.AsyncClient) -> None:
    codes: list[str] = []
    cursor: str | None = None
    while cursor is not None or not codes:
        query: Query = {"level": "community", "limit": 30}
        if cursor is not None:
            query["cursor"] = cursor
        page = (await client.get("/v1/regions", params=query)).json()
        codes += [item["code"] for item in page["items"]]
        cursor = page["next_cursor"]
    assert codes == sorted(set(codes))
    assert len([code for code in codes if code.startswith("510104")]) == 76


async def test_children_are_listed_with_names_in_both_languages(client: httpx.AsyncClient) -> None:
    maple = await _find(client, "community", "510104909901")
    query: Query = {"parent_id": maple["id"], "limit": 100}
    children = (await client.get("/v1/regions", params=query)).json()
    assert children["next_cursor"] is None
    assert [(each["level"], each["name"], each["name_en"], each["demo"]) for each in children["items"]][
        :2
    ] == [
        ("compound", "四海逸家", "Sihaiyijia", False),
        ("compound", "馨苑民佳", "Xinyuanminjia", True),
    ]
    assert "polygon" not in children["items"][0]


async def test_one_region_comes_with_its_outline(client: httpx.AsyncClient, places: Places) -> None:
    region = (await client.get(f"/v1/regions/{places.grid}")).json()
    assert region["polygon"]["type"] == "Polygon"
    assert region["centre"] == {**places.point(places.grid), "datum": "gcj02"}
    assert region["parent_id"] == str(places.community)
    assert region["version"] == 1


async def test_a_kept_copy_is_not_sent_again(client: httpx.AsyncClient, places: Places) -> None:
    path = f"/v1/regions?parent_id={places.street}"
    first = await client.get(path)
    assert "no-cache" in first.headers["cache-control"]
    for header in (first.headers["etag"], f'"other", W/{first.headers["etag"]}'):
        again = await client.get(path, headers={"If-None-Match": header})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == first.headers["etag"]
    stale = await client.get(path, headers={"If-None-Match": '"other"'})
    assert stale.json() == first.json()


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/v1/regions?level=planet", "enum"),
        ("/v1/regions?limit=101", "less_than_equal"),
        ("/v1/regions?cursor=edited", "invalid_cursor"),
        ("/v1/regions?colour=red", "unknown_parameter"),
        ("/v1/regions/locate?lng=104.1", "missing"),
        ("/v1/regions/locate?lng=NaN&lat=30", "finite_number"),
        ("/v1/regions/locate?lng=104&lat=91", "less_than_equal"),
        ("/v1/regions/locate?lng=104&lat=30&datum=bd09", "literal_error"),
        ("/v1/regions/locate?lng=1&lng=2&lat=30", "repeated_parameter"),
    ],
)
async def test_bad_questions_name_the_field(client: httpx.AsyncClient, path: str, code: str) -> None:
    answer = await client.get(path)
    assert answer.status_code == 422
    assert code in [error["code"] for error in answer.json()["errors"]]


async def test_an_unknown_region_is_404(client: httpx.AsyncClient) -> None:
    assert (await client.get(f"/v1/regions/{new_id()}")).status_code == 404


async def test_a_point_is_located_down_to_its_grid(client: httpx.AsyncClient) -> None:
    found = (await client.get("/v1/regions/locate", params=MAPLE_CENTRE)).json()
    assert found["district"]["name"] == "锦江区"
    assert found["street"]["name_en"] == "Chenglong Road Street"
    assert found["community"]["name_en"] == "Maple Community"
    assert found["grid"]["code"].startswith(found["compound"]["code"])
    assert found["location"] == MAPLE_CENTRE | {"datum": "gcj02"}


async def test_a_satellite_position_is_shifted_first(client: httpx.AsyncClient) -> None:
    here = Point(MAPLE_CENTRE["lng"], MAPLE_CENTRE["lat"])
    wgs84 = wgs84_from_gcj02(here)
    query: Query = {"lng": wgs84.lng, "lat": wgs84.lat, "datum": "wgs84"}
    found = (await client.get("/v1/regions/locate", params=query)).json()
    answered = Point(found["location"]["lng"], found["location"]["lat"])
    assert distance_m(here, answered) < 1
    assert found["community"]["name_en"] == "Maple Community"


async def test_a_community_without_grids_has_none_to_name(client: httpx.AsyncClient) -> None:
    other = await _find(client, "community", "510104910901")
    query: Query = {name: other["centre"][name] for name in ("lng", "lat")}
    found = (await client.get("/v1/regions/locate", params=query)).json()
    assert found["community"]["id"] == other["id"]
    assert found["grid"] is None
    assert found["compound"] is None


async def test_outside_the_nearest_community_is_named_in_both_languages(client: httpx.AsyncClient) -> None:
    null_island = {"lng": 0, "lat": 0}
    for headers, word, named in (
        (EN, "nearest", "nearest_community_en"),
        ({}, "最近", "nearest_community"),
    ):
        answer = await client.get("/v1/regions/locate", params=null_island, headers=headers)
        problem = answer.json()
        assert (answer.status_code, problem["code"]) == (422, "outside_district")
        assert problem["errors"][0]["loc"] == ["query", "lng"]
        assert word in problem["detail"]
        assert problem[named] in problem["detail"]
        assert problem[named] in problem["errors"][0]["message"]
        assert problem["nearest_community"] != problem["nearest_community_en"]
        assert problem["distance_m"] > 1_000_000
        UUID(problem["nearest_community_id"])


async def test_organisations_are_for_staff_and_by_place(client: httpx.AsyncClient, places: Places) -> None:
    here = await make_organisation(places.street)
    there = await make_organisation(places.far_street)
    officer = await make_staff(Role.DEPARTMENT_OFFICER, organisation_id=here)
    path = "/v1/organisations"
    listed = await client.get(path, params={"region_id": str(places.grid)}, headers=officer.headers)
    ids = [item["id"] for item in listed.json()["items"]]
    assert str(here) in ids
    assert str(there) not in ids
    nowhere = await client.get(path, params={"region_id": str(new_id())}, headers=officer.headers)
    assert complaints(problem(nowhere, 422, "invalid_input")) == [("query.region_id", "unknown_region")]
    assert (await client.get(path)).status_code == 401
    resident = await make_resident()
    assert (await client.get(path, headers=resident.headers)).status_code == 403


async def test_organisations_come_in_pages(client: httpx.AsyncClient, places: Places) -> None:
    made = {str(await make_organisation(places.street)) for _ in range(3)}
    worker = await make_staff(Role.GRID_WORKER, places.grid)
    query: dict[str, str | int] = {"region_id": str(places.street), "limit": 2}
    first = (await client.get("/v1/organisations", params=query, headers=worker.headers)).json()
    query["cursor"] = first["next_cursor"]
    second = (await client.get("/v1/organisations", params=query, headers=worker.headers)).json()
    assert second["next_cursor"] is None
    assert {item["id"] for item in first["items"] + second["items"]} == made


async def test_a_region_is_renamed_once_per_version(
    client: httpx.AsyncClient, places: Places, db: Database
) -> None:
    admin = await make_staff(Role.DISTRICT_ADMIN, places.district)
    path, order = f"/v1/regions/{places.grid}", _order("桂花网格", "Osmanthus Grid", places.community)
    answer = await client.put(path, json=order, headers=admin.headers | {"If-Match": '"1"'})
    assert answer.status_code == 200
    assert (answer.json()["name"], answer.json()["version"]) == ("桂花网格", 2)
    stale: list[tuple[dict[str, str], dict[str, int]]] = [({"If-Match": '"1"'}, {}), ({}, {"version": 1})]
    for headers, version in stale:
        again = await client.put(path, json=order | version, headers=admin.headers | headers)
        assert (again.status_code, again.json()["code"]) == (412, "version_conflict")
    async with db.reading() as session:
        told = (await session.scalars(select(Event).where(Event.subject_id == places.grid))).one()
    assert (told.type, told.seq, told.actor_id) == ("region.updated", 1, admin.id)
    assert (told.community_id, told.region_id) == (places.community, places.grid)
    assert told.payload["name_en"] == "Osmanthus Grid"


async def test_a_moved_grid_changes_hands_on_the_next_call(
    client: httpx.AsyncClient, places: Places, db: Database
) -> None:
    admin = await make_staff(Role.DISTRICT_ADMIN, places.district)
    before = await make_staff(Role.COMMUNITY_MANAGER, places.community)
    after = await make_staff(Role.COMMUNITY_MANAGER, places.far_community)
    hazard_id = await _store_hazard(db, places)
    path = f"/v1/hazards/{hazard_id}"
    assert await _statuses(client, path, before, after) == [200, 404]
    moved = await client.put(
        f"/v1/regions/{places.grid}",
        json=_order("一网格", "Grid 1", places.far_community),
        headers=admin.headers,
    )
    assert moved.status_code == 200, moved.text
    assert await _statuses(client, path, before, after) == [404, 200]
    async with db.reading() as session:
        for region_id in (places.grid, places.building):
            above = set(
                await session.scalars(
                    select(RegionAncestor.ancestor_id).where(RegionAncestor.region_id == region_id)
                )
            )
            assert above == {
                region_id,
                places.grid,
                places.far_community,
                places.far_street,
                places.district,
            }
        assert await session.scalar(select(Hazard.community_id).where(Hazard.id == hazard_id)) == (
            places.far_community
        )


@pytest.mark.parametrize(
    ("moved", "parent"),
    [
        ("grid", "street"),  # two levels up
        ("grid", "grid"),  # itself
        ("community", "grid"),  # below itself
        ("street", "community"),  # below itself
        ("building", "other_grid_of_nobody"),  # unknown
        ("grid", "none"),
        ("district", "street"),
    ],
)
async def test_a_region_lies_in_one_of_the_level_above(
    client: httpx.AsyncClient, places: Places, moved: str, parent: str
) -> None:
    admin = await make_staff(Role.DISTRICT_ADMIN, places.district)
    parent_id = None if parent == "none" else getattr(places, parent, new_id())
    answer = await client.put(
        f"/v1/regions/{getattr(places, moved)}",
        json=_order("甲", "A", parent_id),
        headers=admin.headers | EN,
    )
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_parent")
    assert answer.json()["errors"][0]["loc"] == ["body", "parent_id"]


async def test_only_a_district_with_a_fresh_code_changes_its_own_tree(
    client: httpx.AsyncClient, places: Places
) -> None:
    other = await make_staff(Role.DISTRICT_ADMIN, places.far_street)
    stale = await make_staff(Role.DISTRICT_ADMIN, places.district, stepped_up=False)
    manager = await make_staff(Role.COMMUNITY_MANAGER, places.community)
    resident = await make_resident()
    path, order = f"/v1/regions/{places.grid}", _order("甲", "A", places.community)
    codes = []
    for person in (other, stale, manager, resident):
        answer = await client.put(path, json=order, headers=person.headers)
        assert answer.status_code == 403
        codes.append(answer.json()["code"])
    assert codes == ["forbidden", "step_up_required", "forbidden", "forbidden"]
    assert (await client.put(path, json=order)).status_code == 401


async def test_nobody_pushes_a_region_into_the_district_of_others(
    client: httpx.AsyncClient, places: Places
) -> None:
    admin = await make_staff(Role.DISTRICT_ADMIN, places.street)
    path = f"/v1/regions/{places.grid}"
    answer = await client.put(path, json=_order("甲", "A", places.far_community), headers=admin.headers)
    assert answer.status_code == 403
    await give_role(admin, Role.DISTRICT_ADMIN, places.far_street)
    answer = await client.put(path, json=_order("甲", "A", places.far_community), headers=admin.headers)
    assert answer.status_code == 200


@pytest.mark.parametrize(
    "change",
    [
        {"name": ""},
        {"name": " "},
        {"name": "x" * 101},
        {"name": "a\x07b"},
        {"parent_id": "nowhere"},
        {"level": "grid"},
        {"name": None},
        {"version": 0},
    ],
)
async def test_bad_changes_are_refused(
    client: httpx.AsyncClient, places: Places, change: dict[str, object]
) -> None:
    admin = await make_staff(Role.DISTRICT_ADMIN, places.district)
    order = _order("甲", "A", places.community) | change
    answer = await client.put(f"/v1/regions/{places.grid}", json=order, headers=admin.headers)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["loc"] == ["body", next(iter(change))]


async def test_a_renamed_community_is_found_under_its_new_name(
    client: httpx.AsyncClient, places: Places
) -> None:
    admin = await make_staff(Role.DISTRICT_ADMIN, places.district)
    lng, lat = places.centres[places.grid]
    point: Query = {"lng": lng, "lat": lat}
    assert (await client.get("/v1/regions/locate", params=point)).json()["grid"]["id"] == str(places.grid)
    order = _order("新社区", "New Community", places.street)
    await client.put(f"/v1/regions/{places.community}", json=order, headers=admin.headers)
    found = (await client.get("/v1/regions/locate", params=point)).json()
    assert found["community"]["name_en"] == "New Community"


async def test_one_request_renews_the_index_for_all(
    client: httpx.AsyncClient, places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes a server longer to make than anything else that a request asks of it."""
    made = []

    class Counted(RegionIndex):
        def __init__(self, shapes: Iterable[RegionShape]) -> None:
            super().__init__(shapes)
            made.append(self)

    lng, lat = places.centres[places.grid]
    point: Query = {"lng": lng, "lat": lat}

    async def ask_at_once() -> None:
        answers = await asyncio.gather(*(client.get("/v1/regions/locate", params=point) for _ in range(8)))
        assert {answer.status_code for answer in answers} == {200}

    # With a connection for each.
    await ask_at_once()
    monkeypatch.setattr(place_index, "RegionIndex", Counted)
    monkeypatch.setattr(place_index._held, "until", clock.monotonic())
    await ask_at_once()
    assert len(made) == 1


async def _find(client: httpx.AsyncClient, level: str, code: str) -> Json:
    """A region of the demo district by its code."""
    cursor = None
    while True:
        query: Query = {"level": level, "limit": 100}
        if cursor is not None:
            query["cursor"] = cursor
        page = (await client.get("/v1/regions", params=query)).json()
        for item in page["items"]:
            if item["code"] == code:
                found: Json = item
                return found
        cursor = page["next_cursor"]
        assert cursor is not None


def _order(name: str, name_en: str, parent_id: UUID | None) -> dict[str, object]:
    return {"name": name, "name_en": name_en, "parent_id": str(parent_id) if parent_id else None}


async def _statuses(client: httpx.AsyncClient, path: str, *people: Person) -> list[int]:
    return [(await client.get(path, headers=person.headers)).status_code for person in people]


async def _store_hazard(db: Database, places: Places) -> UUID:
    lng, lat = places.centres[places.grid]
    hazard = Hazard(
        id=new_id(),
        community_id=places.community,
        region_id=places.grid,
        category="street_lighting",
        lng=lng,
        lat=lat,
        cell=cell_of(lng, lat),
        anonymous=True,
    )
    async with db.transaction() as session:
        session.add(hazard)
    return hazard.id
