"""A GeoReport client that somebody else wrote, against the real server. It reads; posting is for the checker of the standard."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar

import pytest
from georeport import GeoReport

from app import clock
from tests.open311.conftest import Served
from tests.stories import Json

T = TypeVar("T")


class Client:
    """The client, told where the server is. It blocks, so it works beside the loop that serves it."""

    def __init__(self, url: str, format_: str) -> None:
        self._georeport = GeoReport(url, jurisdiction="jinjiang", output_format=format_)

    async def ask(self, question: Callable[[GeoReport], T]) -> T:
        return await asyncio.to_thread(question, self._georeport)

    async def definition(self, code: str) -> Json:
        found: Json = await self.ask(lambda georeport: georeport.get_service_definition(code))
        return found

    async def ids(self, **query: str) -> list[str]:
        rows: list[Json] = await self.ask(lambda georeport: georeport.get_service_requests(**query))
        return [row["service_request_id"] for row in rows]


@pytest.fixture(params=["json", "xml"])
def client(request: pytest.FixtureRequest, served: Served) -> Client:
    return Client(f"{served.url}/open311/v2", request.param)


async def test_services_and_their_questions(client: Client) -> None:
    services: list[Json] = await client.ask(GeoReport.get_service_list)
    assert len(services) > 20
    asked = [each["service_code"] for each in services if str(each["metadata"]).lower() == "true"]
    assert len(asked) > 2
    for code in asked:
        definition = await client.definition(code)
        assert definition["service_code"] == code
        assert definition["attributes"]


async def test_requests_and_their_filters(client: Client) -> None:
    newest, other = (await client.ids())[:2]
    assert await client.ids(service_request_id=f"{newest},{other}", status="closed") == [newest, other]
    assert (await client.ids(status="open,closed"))[:2] == [newest, other]
    both = "garbage,elevator_fault"
    assert (await client.ids(service_code=both, status="open"))[:2] == [newest, other]
    now = clock.now()
    since, until = [(now + timedelta(days=days)).strftime("%Y-%m-%dT%H:%M:%SZ") for days in (-80, 1)]
    assert (await client.ids(start_date=since, end_date=until))[:2] == [newest, other]
    offset = (now - timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%S+08:00")
    assert (await client.ids(start_date=offset))[:2] == [newest, other]


async def test_one_request(client: Client, served: Served) -> None:
    [listed] = [
        each for each in await client.ask(GeoReport.get_service_requests) if each["service_code"] == "garbage"
    ][:1]
    found: Json = await client.ask(
        lambda georeport: georeport.get_service_request(listed["service_request_id"])
    )
    assert found == listed
    assert found["description"] == served.form["description"]
    assert abs(float(found["lat"]) - float(served.form["lat"])) < 0.00001
    assert abs(float(found["long"]) - float(served.form["long"])) < 0.00001


async def test_what_is_not_there_is_an_error_to_the_client(client: Client) -> None:
    questions: list[Callable[[GeoReport], object]] = [
        lambda georeport: georeport.get_service_request("nothing"),
        lambda georeport: georeport.get_service_definition("nothing"),
        lambda georeport: georeport.get_service_requests(service_code="nothing"),
    ]
    for question in questions:
        with pytest.raises(OSError, match="404 Client Error"):
            await client.ask(question)
