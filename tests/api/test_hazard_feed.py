"""The Atom feed, read by a checker of its own that knows RFC 4287 and RFC 5005 and nothing of the service."""

import re
from collections.abc import AsyncIterator
from datetime import datetime
from urllib.parse import parse_qsl, urlsplit
from uuid import UUID
from xml.etree.ElementTree import Element, fromstring

import httpx
import pytest
from starlette.types import ASGIApp

from app.geo import Point, distance_m, gcj02_from_wgs84
from app.ids import new_id
from app.models.hazards import HazardStatus, PublicState
from tests.conftest import new_client
from tests.stories import CATEGORY, Story, begin, change, problem, show_to_public

PATH = "/v1/hazards/feed.atom"
ATOM = "{http://www.w3.org/2005/Atom}"
POINT = "{http://www.georss.org/georss}point"
_DATE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")
_IRI = re.compile(r"[a-z][a-z0-9+.-]*:\S+")
HOSTILE = "<script>alert(1)</script> & ]]> \"'<!DOCTYPE x [<!ENTITY e SYSTEM 'file:///etc/passwd'>]>&e;"


@pytest.fixture
async def story(application: ASGIApp) -> AsyncIterator[Story]:
    """A place of its own, so that a region's feed holds what the test put there."""
    async with new_client(application) as client:
        yield await begin(client)


def checked(answer: httpx.Response) -> Element:
    """The feed, when it is one by the RFCs."""
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/atom+xml; charset=utf-8"
    feed = fromstring(answer.content)  # noqa: S314 - our own answer
    assert feed.tag == f"{ATOM}feed"
    _check_common(feed)
    assert len(feed.findall(f"{ATOM}author")) == 1
    assert feed.findtext(f"{ATOM}author/{ATOM}name")
    relations = [link.get("rel") for link in feed.findall(f"{ATOM}link")]
    assert len(relations) == len(set(relations))
    assert {"self", "first"} <= set(relations) <= {"self", "first", "next", "previous", "last"}
    ids = [entry.findtext(f"{ATOM}id") for entry in entries(feed)]
    assert len(ids) == len(set(ids))
    for entry in entries(feed):
        _check_common(entry)
        assert len(entry.findall(f"{ATOM}summary")) == 1
        # RFC 4287, 4.1.2: without content there is an alternate link.
        assert [link.get("rel") for link in entry.findall(f"{ATOM}link")] == ["alternate"]
        assert _time(entry, "published") <= _time(entry, "updated") <= _time(feed, "updated")
        for category in entry.findall(f"{ATOM}category"):
            assert category.get("term")
        lat, lng = map(float, (entry.findtext(POINT) or "").split(" "))
        assert -90 <= lat <= 90
        assert -180 <= lng <= 180
    return feed


def _check_common(element: Element) -> None:
    """What RFC 4287 asks of feeds and entries alike: one id, title and updated, absolute links, plain text."""
    for name in ("id", "title", "updated"):
        assert len(element.findall(ATOM + name)) == 1, name
    assert _IRI.fullmatch(element.findtext(f"{ATOM}id") or "")
    assert element.findtext(f"{ATOM}title")
    for name in ("updated", "published"):
        for found in element.findall(ATOM + name):
            assert _DATE.fullmatch(found.text or "")
    for link in element.findall(f"{ATOM}link"):
        assert _IRI.fullmatch(link.get("href") or "")
        assert re.fullmatch(r"[a-z]+/[a-z+]+", link.get("type") or "")
    for text in ("title", "summary"):
        for found in element.findall(ATOM + text):
            assert found.get("type", "text") == "text"
            assert len(found) == 0


def _time(element: Element, name: str) -> datetime:
    return datetime.fromisoformat(element.findtext(ATOM + name) or "")


def entries(feed: Element) -> list[Element]:
    return feed.findall(f"{ATOM}entry")


def ids(feed: Element) -> list[str]:
    return [(entry.findtext(f"{ATOM}id") or "").removeprefix("urn:uuid:") for entry in entries(feed)]


def link(feed: Element, relation: str) -> str | None:
    found = [each.get("href") for each in feed.findall(f"{ATOM}link") if each.get("rel") == relation]
    return found[0] if found else None


async def read(story: Story, headers: dict[str, str] | None = None, **query: object) -> httpx.Response:
    chosen: dict[str, str] = {"region_id": str(story.places.district)}
    chosen |= {name: str(value) for name, value in query.items()}
    return await story.client.get(PATH, params=chosen, headers=headers or {})


async def test_an_entry_says_what_where_and_how_far(story: Story) -> None:
    hazard_id = await story.hazard(HazardStatus.ACCEPTED)
    await show_to_public(hazard_id)
    feed = checked(await read(story))
    [entry] = entries(feed)
    assert UUID((entry.findtext(f"{ATOM}id") or "").removeprefix("urn:uuid:")) == UUID(hazard_id)
    assert (entry.findtext(f"{ATOM}title") or "").endswith("已受理")
    category = entry.find(f"{ATOM}category")
    assert category is not None
    assert category.get("term") == CATEGORY
    lat, lng = map(float, (entry.findtext(POINT) or "").split(" "))
    there = gcj02_from_wgs84(Point(lng, lat))
    assert distance_m(there, Point(story.spot["lng"], story.spot["lat"])) < 1
    alternate = urlsplit(entry.findall(f"{ATOM}link")[0].get("href") or "")
    found = await story.client.get(alternate.path)
    assert found.status_code == 200
    assert found.json()[0]["service_request_id"] == hazard_id
    english = checked(await read(story, {"Accept-Language": "en"}))
    assert (entries(english)[0].findtext(f"{ATOM}title") or "").endswith("accepted")


async def test_ids_stay_and_updated_moves(story: Story) -> None:
    hazard_id = await story.hazard(HazardStatus.FILED)
    [before] = entries(checked(await read(story)))
    note = {"text": "内部备注", "visibility": "internal"}
    await story.take(story.worker, hazard_id, "comments", note)
    [noted] = entries(checked(await read(story)))
    assert noted.findtext(f"{ATOM}updated") == before.findtext(f"{ATOM}updated")
    await story.accept(hazard_id)
    [after] = entries(checked(await read(story)))
    assert after.findtext(f"{ATOM}id") == before.findtext(f"{ATOM}id")
    assert _time(after, "updated") >= _time(before, "updated")


async def test_pages_are_walked_once_and_whole(story: Story) -> None:
    wanted = [await story.hazard(HazardStatus.FILED) for _ in range(5)]
    seen: list[str] = []
    answer = await read(story, limit=2)
    while True:
        feed = checked(answer)
        seen += ids(feed)
        following = link(feed, "next")
        if following is None:
            break
        parts = urlsplit(following)
        answer = await story.client.get(parts.path, params=dict(parse_qsl(parts.query)))
        if len(seen) == 2:
            # A report that comes meanwhile moves no page.
            await story.hazard(HazardStatus.FILED)
    assert seen == wanted[::-1]
    first = urlsplit(link(feed, "first") or "")
    again = checked(await story.client.get(first.path, params=dict(parse_qsl(first.query))))
    assert feed.findtext(f"{ATOM}id") == again.findtext(f"{ATOM}id")
    assert len(ids(again)) == 2


async def test_filters_choose(story: Story) -> None:
    here = await story.hazard(HazardStatus.FILED)
    light = await story.hazard(HazardStatus.FILED, category="street_lighting")
    assert ids(checked(await read(story, category="street_lighting"))) == [light]
    assert set(ids(checked(await read(story, region_id=story.places.grid)))) == {here, light}
    assert ids(checked(await read(story, region_id=story.places.far_street))) == []
    [entry] = entries(checked(await read(story, category=CATEGORY)))
    lat, lng = map(float, (entry.findtext(POINT) or "").split(" "))
    around = f"{lng - 0.001},{lat - 0.001},{lng + 0.001},{lat + 0.001}"
    beside = f"{lng + 0.001},{lat - 0.001},{lng + 0.002},{lat + 0.001}"
    assert set(ids(checked(await read(story, bbox=around)))) == {here, light}
    assert ids(checked(await read(story, bbox=beside))) == []


async def test_only_what_everybody_may_know(story: Story) -> None:
    await story.hazard(HazardStatus.FILED, category="elderly_in_danger")
    await story.hazard(HazardStatus.REJECTED)
    hidden = await story.hazard(HazardStatus.FILED)
    await change(hidden, public_state=PublicState.HIDDEN)
    assert ids(checked(await read(story))) == []
    unchecked = await story.hazard(HazardStatus.FILED, description="尚未审核的话", address="3栋1单元门口")
    answer = await read(story)
    assert ids(checked(answer)) == [unchecked]
    assert "尚未审核的话" not in answer.text
    await show_to_public(unchecked)
    answer = await read(story)
    assert "尚未审核的话" in answer.text
    for personal in ("3栋1单元", str(story.reporter.id), "测试员"):
        assert personal not in answer.text


async def test_hostile_words_stay_words(story: Story) -> None:
    words = f"{HOSTILE} 电话13812345678"
    hazard_id = await story.hazard(HazardStatus.FILED, description=words)
    await show_to_public(hazard_id)
    answer = await read(story)
    [entry] = entries(checked(answer))
    summary = entry.findtext(f"{ATOM}summary") or ""
    assert summary.startswith(HOSTILE)
    assert "13812345678" not in summary
    assert "<script" not in answer.text
    assert b"<!DOCTYPE" not in answer.content


async def test_a_kept_copy_is_current_until_something_happens(story: Story) -> None:
    hazard_id = await story.hazard(HazardStatus.FILED)
    first = await read(story)
    kept = {"If-None-Match": first.headers["etag"]}
    same = await read(story, kept)
    assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", first.headers["etag"])
    assert first.headers["vary"] == "Accept-Language"
    await story.accept(hazard_id)
    assert checked(await read(story, kept)) is not None


async def test_an_empty_feed_is_a_feed(story: Story) -> None:
    assert entries(checked(await read(story, region_id=story.places.far_grid))) == []


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ({"category": "no_such_category"}, "unknown_category"),
        ({"region_id": str(new_id())}, "unknown_region"),
    ],
)
async def test_what_there_is_not_has_no_feed(story: Story, query: dict[str, object], code: str) -> None:
    """A reader would follow an empty feed for ever."""
    answer = await read(story, None, **query)
    assert [error["code"] for error in answer.json()["errors"]] == [code]


@pytest.mark.parametrize(
    "query", [{"bbox": "1,2,3"}, {"limit": 0}, {"cursor": "x"}, {"region_id": "x"}, {"page": 1}]
)
async def test_malformed_questions_are_refused(story: Story, query: dict[str, object]) -> None:
    answer = await read(story, None, **query)
    assert answer.status_code == 422
    assert problem(answer, 422, answer.json()["code"])
