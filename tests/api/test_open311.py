"""GeoReport v2 by its own rules: roots, content types, arrays, errors, ids as strings, WGS-84, 90 days."""

import json
from collections.abc import Callable
from datetime import timedelta
from xml.etree.ElementTree import Element, fromstring

import httpx
import pytest

from app import clock
from app.geo import Point, distance_m, wgs84_from_gcj02
from app.models.staff import Role
from tests.factories import Places, make_staff

V2 = "/open311/v2"
FIELDS = {
    "service_request_id",
    "status",
    "status_notes",
    "service_name",
    "service_code",
    "description",
    "agency_responsible",
    "service_notice",
    "requested_datetime",
    "updated_datetime",
    "expected_datetime",
    "address",
    "address_id",
    "zipcode",
    "lat",
    "long",
    "media_url",
}


@pytest.fixture
async def key(client: httpx.AsyncClient, places: Places) -> str:
    admin = await make_staff(Role.DISTRICT_ADMIN, places.district)
    body = {"name": "open311", "scopes": ["reports:write"], "region_id": str(places.district)}
    answer = await client.post("/v1/api-keys", headers=admin.headers, json=body)
    made: str = answer.json()["key"]
    return made


def here(places: Places) -> dict[str, str]:
    point = wgs84_from_gcj02(Point(*places.centres[places.grid]))
    return {"lat": f"{point.lat:.6f}", "long": f"{point.lng:.6f}"}


async def post(
    client: httpx.AsyncClient, fields: dict[str, str | list[str]], suffix: str = "json"
) -> httpx.Response:
    return await client.post(f"{V2}/requests.{suffix}", data=fields)


async def filed(client: httpx.AsyncClient, key: str, places: Places, **fields: str | list[str]) -> str:
    given = {"api_key": key, "service_code": "garbage", "description": "垃圾 <b>& co</b> 🗑"} | here(places)
    answer = await post(client, {**given, **fields})
    assert answer.status_code == 201, answer.text
    request_id: str = answer.json()[0]["service_request_id"]
    return request_id


def xml(answer: httpx.Response) -> Element:
    assert answer.headers["content-type"] == "text/xml; charset=utf-8"
    assert answer.content.startswith(b"<?xml version='1.0' encoding='utf-8'?>")
    return fromstring(answer.content)  # noqa: S314 - our own answer


def same(element: Element, value: object) -> None:
    """The Spark rule: the JSON says what the XML says."""
    if isinstance(value, dict):
        assert [child.tag for child in element] == list(value)
        for child in element:
            same(child, value[child.tag])
    elif isinstance(value, list):
        assert len(element) == len(value)
        for child, member in zip(element, value, strict=True):
            same(child, member)
    elif isinstance(value, bool):
        assert element.text == ("true" if value else "false")
    else:
        assert element.text == (None if value is None else str(value))


@pytest.mark.parametrize(
    ("path", "root", "item"),
    [
        ("/open311/discovery", "discovery", None),
        (f"{V2}/services", "services", "service"),
        (f"{V2}/services/street_lighting", "service_definition", None),
        (f"{V2}/services/elevator_fault", "service_definition", None),
        (f"{V2}/requests", "service_requests", "request"),
    ],
)
async def test_json_and_xml_say_the_same(
    client: httpx.AsyncClient, key: str, places: Places, path: str, root: str, item: str | None
) -> None:
    await filed(client, key, places)
    element = xml(await client.get(f"{path}.xml"))
    answer = await client.get(f"{path}.json")
    assert answer.headers["content-type"] == "application/json; charset=utf-8"
    assert element.tag == root
    if item is not None:
        assert {child.tag for child in element} == {item}
        assert isinstance(answer.json(), list)
    same(element, answer.json())


async def test_services_have_what_the_standard_names(client: httpx.AsyncClient) -> None:
    services = (await client.get(f"{V2}/services.json")).json()
    assert len(services) > 20
    for service in services:
        assert set(service) == {
            "service_code",
            "service_name",
            "description",
            "metadata",
            "type",
            "keywords",
            "group",
        }
        assert isinstance(service["service_code"], str)
        assert service["metadata"] in (True, False)
        definition = await client.get(f"{V2}/services/{service['service_code']}.json")
        assert definition.status_code == (200 if service["metadata"] else 404)


async def test_names_follow_the_language(client: httpx.AsyncClient) -> None:
    chinese = (await client.get(f"{V2}/services.json")).json()[0]["service_name"]
    english = (await client.get(f"{V2}/services.json", headers={"Accept-Language": "en"})).json()[0][
        "service_name"
    ]
    assert not chinese.isascii()
    assert english.isascii()


async def test_a_request_is_a_hazard_of_the_place(
    client: httpx.AsyncClient, key: str, places: Places
) -> None:
    request_id = await filed(client, key, places, phone="19000001234", first_name="小 李")
    (found,) = (await client.get(f"{V2}/requests/{request_id}.json")).json()
    assert set(found) == FIELDS
    assert (found["service_request_id"], found["status"], found["service_code"]) == (
        request_id,
        "open",
        "garbage",
    )
    given = here(places)
    there = Point(found["long"], found["lat"])
    assert distance_m(there, Point(float(given["long"]), float(given["lat"]))) < 1
    assert "19000001234" not in json.dumps(found)
    worker = await make_staff(Role.GRID_WORKER, places.grid)
    hazard = (await client.get(f"/v1/hazards/{request_id}", headers=worker.headers)).json()
    assert (hazard["source"], hazard["region_id"]) == ("open311", str(places.grid))
    notes = (await client.get(f"/v1/hazards/{request_id}/comments", headers=worker.headers)).json()["items"]
    assert "19000001234" in notes[0]["text"]
    assert notes[0]["visibility"] == "internal"
    accepted = await client.post(f"/v1/hazards/{request_id}/accept", headers=worker.headers)
    assert accepted.status_code == 200


async def test_answers_to_extra_questions_are_kept(
    client: httpx.AsyncClient, key: str, places: Places
) -> None:
    request_id = await filed(
        client,
        key,
        places,
        service_code="elevator_fault",
        **{"attribute[SIGNS][]": ["door", "noise"]},
    )
    worker = await make_staff(Role.GRID_WORKER, places.grid)
    hazard = (await client.get(f"/v1/hazards/{request_id}", headers=worker.headers)).json()
    assert "故障现象：门不关、异响" in hazard["description"]


async def test_what_turns_the_direction_of_words_is_dropped(
    client: httpx.AsyncClient, key: str, places: Places
) -> None:
    request_id = await filed(
        client, key, places, description="photo\u202egpj.exe", address_string="\u2067枫林苑"
    )
    worker = await make_staff(Role.GRID_WORKER, places.grid)
    hazard = (await client.get(f"/v1/hazards/{request_id}", headers=worker.headers)).json()
    assert (hazard["description"], hazard["address"]) == ("photogpj.exe", "枫林苑")


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"service_code": ""}, 400),
        ({"service_code": "no_such"}, 404),
        ({"lat": ""}, 400),
        ({"lat": "", "long": ""}, 400),
        ({"lat": "95"}, 400),
        ({"lat": "nan"}, 400),
        ({"lat": "3_0.6"}, 400),
        ({"lat": "３０.6"}, 400),
        ({"lat": "0", "long": "0"}, 400),
        ({"api_key": ""}, 403),
        ({"api_key": "jck_test_wrong"}, 403),
        ({"description": "x" * 4001}, 400),
        ({"description": "bell \x07"}, 400),
        ({"service_code": "ebike_charging_indoors"}, 400),
        ({"service_code": "ebike_charging_indoors", "attribute[PLACE]": "roof"}, 400),
        ({"service_code": "street_lighting", "attribute[LAMPS_OUT]": "many"}, 400),
        ({"attribute[UNKNOWN]": "1"}, 400),
        ({"description": ["one", "two"]}, 400),
    ],
)
@pytest.mark.parametrize("suffix", ["json", "xml"])
async def test_bad_reports_are_errors_of_the_standard(
    client: httpx.AsyncClient,
    key: str,
    places: Places,
    change: dict[str, str | list[str]],
    status: int,
    suffix: str,
) -> None:
    given: dict[str, str | list[str]] = {
        "api_key": key,
        "service_code": "garbage",
        "description": "x",
        **here(places),
        **change,
    }
    answer = await post(client, given, suffix)
    assert answer.status_code == status, answer.text
    if suffix == "json":
        assert all(set(error) == {"code", "description"} for error in answer.json())
        assert answer.json()
    else:
        element = xml(answer)
        assert (element.tag, element[0].tag) == ("errors", "error")
        assert [child.tag for child in element[0]] == ["code", "description"]


async def test_an_address_that_names_a_region_is_a_place(
    client: httpx.AsyncClient, key: str, places: Places
) -> None:
    admin_key = key
    answer = await post(
        client,
        {
            "api_key": admin_key,
            "service_code": "garbage",
            "description": "x",
            "address_string": "火星路 1 号",
        },
    )
    assert answer.status_code == 400
    region = await client.get(f"/v1/regions/{places.grid}")
    by_code = await post(
        client,
        {
            "api_key": admin_key,
            "service_code": "garbage",
            "description": "x",
            "address_id": region.json()["code"],
        },
    )
    assert by_code.status_code == 201


async def test_a_key_of_another_region_may_not_report_here(client: httpx.AsyncClient, places: Places) -> None:
    admin = await make_staff(Role.DISTRICT_ADMIN, places.far_street)
    body = {"name": "far", "scopes": ["reports:write"], "region_id": str(places.far_street)}
    far = (await client.post("/v1/api-keys", headers=admin.headers, json=body)).json()["key"]
    answer = await post(
        client, {"api_key": far, "service_code": "garbage", "description": "x", **here(places)}
    )
    assert answer.status_code == 403


async def test_lists_filter_and_ids_override(
    client: httpx.AsyncClient, key: str, places: Places, advance: Callable[[float], None]
) -> None:
    first = await filed(client, key, places)
    second = await filed(client, key, places, service_code="road_damage")

    async def ids(**query: str | int) -> list[str]:
        answer = await client.get(f"{V2}/requests.json", params=query)
        assert answer.status_code == 200, answer.text
        return [row["service_request_id"] for row in answer.json()]

    assert await ids(service_request_id=f"{first},{second}", status="closed") == [second, first]
    assert first in await ids(service_code="garbage,road_damage", status="open")
    assert first not in await ids(service_code="road_damage")
    assert first not in await ids(status="closed")
    assert await ids(page_size=1) == [second]
    assert await ids(page_size=1, page=2) == [first]
    tomorrow = (clock.now() + timedelta(days=1)).isoformat().replace("+00:00", "Z")
    assert await ids(start_date=tomorrow) == []
    advance(91 * 86400)
    assert first not in await ids()


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("service_code=no_such", 404),
        ("status=broken", 400),
        ("start_date=yesterday", 400),
        ("start_date=0001-01-01T00:00:00%2B14:00", 400),
        ("end_date=0001-01-01T00:00:00Z", 400),
        ("start_date=9999-12-31T23:59:59Z", 400),
        ("start_date=2999-12-31T23:59:59Z", 200),
        ("end_date=1970-01-01T00:00:00Z", 200),
        ("start_date=99999999999", 400),
        ("end_date=-1", 400),
        ("start_date=2026-01-01T00:00:00Z&end_date=2026-06-01T00:00:00Z", 400),
        ("page_size=1001", 400),
        ("jurisdiction_id=jinjiang&unknown=1", 200),
    ],
)
async def test_bad_queries(client: httpx.AsyncClient, query: str, status: int) -> None:
    assert (await client.get(f"{V2}/requests.json?{query}")).status_code == status


@pytest.mark.parametrize(
    "path",
    [
        f"{V2}/requests/unknown",
        f"{V2}/requests/01938b5e-7c1a-7d2e-9f00-3a51f0c2b001",
        f"{V2}/tokens/unknown",
        f"{V2}/services/unknown",
        f"{V2}/nothing",
    ],
)
async def test_what_is_not_there_is_404_in_the_format_asked_for(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.get(f"{path}.json")
    assert (answer.status_code, set(answer.json()[0])) == (404, {"code", "description"})
    assert xml(await client.get(f"{path}.xml")).tag == "errors"


async def test_a_parameter_without_a_value_is_none(client: httpx.AsyncClient) -> None:
    query = (
        "start_date=&end_date=&status=&service_code=&page=&page_size=&service_request_id=&jurisdiction_id="
    )
    assert (await client.get(f"{V2}/requests.json?{query}")).status_code == 200


async def test_a_key_in_the_form_counts_against_its_limit(client: httpx.AsyncClient, places: Places) -> None:
    admin = await make_staff(Role.DISTRICT_ADMIN, places.district)
    body = {
        "name": "slow",
        "scopes": ["reports:write"],
        "region_id": str(places.district),
        "rate_limit": "2/minute",
    }
    key = (await client.post("/v1/api-keys", headers=admin.headers, json=body)).json()["key"]
    answers = [await post(client, {"api_key": key, "service_code": "no_such"}) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [404, 404, 429]
    assert answers[2].headers["retry-after"]


async def test_private_categories_stay_private(client: httpx.AsyncClient, key: str, places: Places) -> None:
    request_id = await filed(client, key, places, service_code="elderly_in_danger")
    assert (await client.get(f"{V2}/requests/{request_id}.json")).status_code == 404
