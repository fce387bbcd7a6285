"""The real server by the tables of the standard, from nothing but the address of its discovery document."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

import httpx
import pytest

from tests.open311 import standard
from tests.open311.conftest import Served
from tests.open311.standard import (
    Row,
    breaches,
    breaches_of_definition,
    breaches_of_request,
    read_many,
    read_one,
)


@dataclass(frozen=True)
class Wire:
    """One format of one endpoint, found as the standard says."""

    http: httpx.AsyncClient
    url: str
    suffix: str
    served: Served

    async def get(self, path: str, **query: str | int) -> httpx.Response:
        answer = await self.http.get(f"{self.url}/{path}.{self.suffix}", params=query)
        assert answer.status_code == 200, answer.text
        return answer

    async def services(self) -> list[Row]:
        return read_many(await self.get("services"), "services")

    async def definitions(self) -> list[Row]:
        codes = [each["service_code"] for each in await self.services() if each["metadata"] in (True, "true")]
        return [read_one(await self.get(f"services/{code}"), "service_definition") for code in codes]

    async def post(self, **changes: str | list[str]) -> httpx.Response:
        form: dict[str, str | list[str]] = {**self.served.form, **changes}
        given = {name: value for name, value in form.items() if value}
        return await self.http.post(f"{self.url}/requests.{self.suffix}", data=given)

    async def requests(self, **query: str | int) -> list[Row]:
        found = read_many(await self.get("requests", **query), "service_requests")
        for request in found:
            assert breaches_of_request(request) == []
        return found


@pytest.fixture(params=["xml", "json"])
async def wire(request: pytest.FixtureRequest, served: Served) -> AsyncIterator[Wire]:
    async with httpx.AsyncClient(trust_env=False) as http:
        found = read_one(await http.get(f"{served.discovery}.{request.param}"), "discovery")
        assert breaches(standard.DISCOVERY, found) == []
        [endpoint] = [each for each in found["endpoints"] if each["specification"] == standard.SPECIFICATION]
        assert "text/xml" in endpoint["formats"]
        yield Wire(http, endpoint["url"], request.param, served)


async def test_services_and_definitions(wire: Wire) -> None:
    services = await wire.services()
    assert [breaches(standard.SERVICE, each) for each in services] == [[]] * len(services)
    codes = [each["service_code"] for each in services]
    assert len(set(codes)) == len(codes) > 20
    definitions = await wire.definitions()
    assert len(definitions) > 2
    for definition in definitions:
        assert definition["service_code"] in codes
        assert breaches_of_definition(definition) == []


async def test_a_request_from_its_form_to_its_answer(wire: Wire) -> None:
    posted = await wire.post(description="一\n<i>二</i> & 三")
    [made] = read_many(posted, "service_requests")
    assert breaches(standard.POSTED, made) == []
    assert bool(made.get("service_request_id")) is not bool(made.get("token"))
    request_id = made["service_request_id"]
    [found] = read_many(await wire.get(f"requests/{request_id}"), "service_requests")
    assert breaches_of_request(found) == []
    assert (found["service_request_id"], found["status"]) == (request_id, "open")
    [token] = read_many(await wire.get(f"tokens/{request_id}"), "service_requests")
    assert breaches(standard.TOKEN, token) == []


@pytest.mark.parametrize(
    "location",
    [
        {"address_string": "测试grid 1 号", "lat": "", "long": ""},
        {"jurisdiction_id": "jinjiang", "media_url": "https://photos.example.cn/1.jpg"},
    ],
)
async def test_other_ways_to_say_where(wire: Wire, location: dict[str, str | list[str]]) -> None:
    posted = await wire.post(**location)
    assert posted.status_code in (200, 201), posted.text
    assert breaches(standard.POSTED, read_many(posted, "service_requests")[0]) == []


async def test_a_definition_is_what_a_report_is_held_to(wire: Wire) -> None:
    """For every service: what it requires is asked for, and answers that it offers are taken."""
    for definition in await wire.definitions():
        code, attributes = definition["service_code"], definition["attributes"]
        bare = await wire.post(service_code=code)
        is_asked = any(each["required"] in (True, "true") for each in attributes)
        assert bare.status_code == (400 if is_asked else 201), bare.text
        answers = {_name(each): _answer(each) for each in attributes}
        assert (await wire.post(service_code=code, **answers)).status_code == 201


def _name(attribute: Row) -> str:
    several = "[]" if attribute["datatype"] == "multivaluelist" else ""
    return f"attribute[{attribute['code']}]{several}"


def _answer(attribute: Row) -> str | list[str]:
    keys: list[str] = [value["key"] for value in attribute["values"] or ()]
    if attribute["datatype"] == "multivaluelist":
        return keys
    plain = {"number": "2", "datetime": "2026-11-20T08:00:00+08:00"}
    return keys[0] if keys else plain.get(attribute["datatype"], "B1")


async def test_requests_are_those_that_were_asked_for(wire: Wire) -> None:
    every = await wire.requests()
    ids = [each["service_request_id"] for each in every]
    assert len(set(ids)) == len(ids) > 1
    some = ids[:2]
    named = await wire.requests(service_request_id=",".join(some), status="closed", service_code="garbage")
    assert {each["service_request_id"] for each in named} == set(some)
    of_service = await wire.requests(service_code="elevator_fault")
    assert {each["service_code"] for each in of_service} == {"elevator_fault"}
    assert {each["status"] for each in await wire.requests(status="open")} <= {"open"}
    assert {each["status"] for each in await wire.requests(status="closed")} <= {"closed"}


async def test_a_period_is_one_of_the_time_of_request(wire: Wire) -> None:
    times = sorted(datetime.fromisoformat(each["requested_datetime"]) for each in await wire.requests())
    middle = times[len(times) // 2]
    for since, until in ((middle, None), (None, middle), (times[0], middle)):
        query = {"start_date": since, "end_date": until}
        found = await wire.requests(**{name: at.isoformat() for name, at in query.items() if at})
        asked = [datetime.fromisoformat(each["requested_datetime"]) for each in found]
        assert all((since is None or at >= since) and (until is None or at <= until) for at in asked)
    span = {"start_date": middle.isoformat(), "end_date": (middle + timedelta(days=91)).isoformat()}
    refused = await wire.http.get(f"{wire.url}/requests.{wire.suffix}", params=span)
    assert _refused(refused, 400)


@pytest.mark.parametrize("path", ["services/nothing", "requests/nothing", "tokens/nothing"])
async def test_what_is_not_there_is_404(wire: Wire, path: str) -> None:
    assert _refused(await wire.http.get(f"{wire.url}/{path}.{wire.suffix}"), 404)


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"service_code": ""}, 400),
        ({"service_code": "nothing"}, 404),
        ({"lat": "", "long": ""}, 400),
        ({"long": ""}, 400),
        ({"api_key": ""}, 403),
        ({"api_key": "wrong"}, 403),
    ],
)
async def test_a_report_is_refused_with_the_status_of_the_standard(
    wire: Wire, change: dict[str, str | list[str]], status: int
) -> None:
    assert _refused(await wire.post(**change), status)


async def test_who_has_no_good_key_is_told_about_the_key(wire: Wire) -> None:
    for key in ("", "wrong"):
        [error] = read_many(await wire.post(api_key=key), "errors")
        assert "api_key" in error["description"]


async def test_who_sends_a_picture_is_told_about_its_url(wire: Wire) -> None:
    """Some clients attach it as Bloomington takes it; the standard has `media_url`."""
    answer = await wire.http.post(
        f"{wire.url}/requests.{wire.suffix}",
        data=wire.served.form,
        files={"media": ("photo.jpg", b"x", "image/jpeg")},
    )
    [error] = read_many(answer, "errors")
    assert (answer.status_code, "media_url" in error["description"]) == (400, True)


Spoil = Callable[[Row], object]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda row: row.pop("lat"),
        lambda row: row.update(status="accepted"),
        lambda row: row.update(requested_datetime="2026-11-20T08:00:00"),
        lambda row: row.update(updated_datetime="2020-01-01T00:00:00Z"),
        lambda row: row.update(service_request_id=7),
        lambda row: row.update(lng=104),
    ],
)
async def test_the_tables_bite(wire: Wire, spoil: Spoil) -> None:
    request = (await wire.requests())[0]
    spoil(request)
    assert breaches_of_request(request) != []


def _refused(answer: httpx.Response, status: int) -> bool:
    errors = read_many(answer, "errors")
    assert errors
    assert [breaches(standard.ERROR, each) for each in errors] == [[]] * len(errors)
    return answer.status_code == status
