"""Filing: what a good report becomes, how each bad one is refused without a trace, and what a repeated one answers."""

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy import func, select

from app import clock
from app.db import database
from app.geo import Point, distance_m
from app.ids import new_id
from app.keys import unseal
from app.models.events import Event
from app.models.hazard_deadlines import HazardDeadline
from app.models.hazards import Hazard
from app.models.idempotency import IdempotencyKey
from app.models.media import Media, MediaPurpose
from app.models.regions import Region
from app.models.tasks import Task
from app.settings import settings
from tests.factories import Person
from tests.stories import (
    DESCRIPTION,
    SAMPLES,
    Json,
    Story,
    complaints,
    events_of,
    pictures,
    problem,
    row_of,
    upload,
)

MARKUP = '<script>alert(1)</script> & "引号" 👩‍👩‍👧‍👦🔥\n第二行\t{{7*7}} \' OR 1=1 --'
NULL_ISLAND = {"lng": 0, "lat": 0}


async def test_a_photo_travels_from_the_phone_to_a_filed_hazard(story: Story) -> None:
    """With real pictures, at the place that the first one suggests: Maple Community of the demo district."""
    uploaded = []
    for name in ("fire-passage-before.jpg", "garbage-before.jpg"):
        answer = await upload(story.client, story.reporter, (SAMPLES / name).read_bytes())
        assert answer.status_code == 201, answer.text
        uploaded.append(answer.json())
    ids = [each["id"] for each in uploaded]
    before = clock.now()

    hazard = await story.file(
        location=uploaded[0]["location_hint"], media_ids=ids, address="枫林苑3栋1单元门口", anonymous=False
    )

    assert [photo["id"] for photo in hazard["photos"]] == ids
    assert (hazard["status"], hazard["level"], hazard["source"]) == ("filed", "grid", "mini_program")
    assert (hazard["mine"], hazard["supporters"], hazard["overdue"]) == (True, 0, False)
    assert (hazard["description"], hazard["address"]) == (DESCRIPTION, "枫林苑3栋1单元门口")
    for url in (hazard["photos"][0]["url"], hazard["photos"][1]["thumbnail_url"]):
        picture = await story.client.get(url.removeprefix(settings.base_url))
        assert (picture.status_code, picture.headers["content-type"]) == (200, "image/jpeg")
        assert b"Exif" not in picture.content
    async with database.reading() as session:
        region, community = await session.get_one(Region, UUID(hazard["region_id"])), hazard["community_id"]
        assert (region.level, (await session.get_one(Region, UUID(community))).name[:2]) == ("grid", "枫树")
        (deadline,) = await session.scalars(
            select(HazardDeadline).where(HazardDeadline.hazard_id == UUID(hazard["id"]))
        )
    assert (deadline.level, deadline.n, deadline.ended_at) == ("grid", 1, None)
    assert before <= deadline.started_at <= clock.now()
    assert deadline.due_at - deadline.started_at == timedelta(minutes=60)
    assert deadline.due_at - deadline.warn_at == timedelta(minutes=15)
    assert hazard["due_at"] == deadline.due_at.isoformat().replace("+00:00", "Z")
    assert await events_of(hazard["id"]) == ["hazard.filed"]
    assert await _reviews(hazard["id"], ids) == 3


async def test_words_are_kept_as_they_were_written(story: Story) -> None:
    hazard = await story.file(description=MARKUP, address="<b>3栋</b>")
    read = await story.client.get(f"/v1/hazards/{hazard['id']}", headers=story.reporter.headers)
    assert read.headers["content-type"] == "application/json"
    assert read.headers["x-content-type-options"] == "nosniff"
    assert read.json()["description"] == hazard["description"] == MARKUP
    assert read.json()["address"] == "<b>3栋</b>"
    row = await row_of(hazard["id"])
    assert unseal(row, "description") == MARKUP
    assert b"script" not in (row.description_sealed or b"")


async def test_an_address_alone_is_enough(story: Story) -> None:
    hazard = await story.file(location=None, address="3栋2单元", community_id=str(story.places.community))
    assert hazard["community_id"] == hazard["region_id"] == str(story.places.community)
    lng, lat = story.places.centres[story.places.community]
    assert (hazard["location"]["lng"], hazard["location"]["lat"]) == (lng, lat)
    assert hazard["address"] == "3栋2单元"


async def test_a_place_in_wgs84_is_stored_in_gcj02(story: Story) -> None:
    maple = {"lng": 104.1281, "lat": 30.6062}
    plain = await story.file(location=maple)
    shifted = await story.file(location=maple | {"datum": "wgs84"})
    moved = distance_m(Point(**maple), Point(shifted["location"]["lng"], shifted["location"]["lat"]))
    assert plain["location"] == maple | {"datum": "gcj02"}
    assert 300 < moved < 800


async def test_staff_file_for_somebody_without_a_phone(story: Story) -> None:
    hazard = await story.file(story.worker)
    row = await row_of(hazard["id"])
    assert (hazard["source"], hazard["mine"], row.reporter_id) == ("staff", False, None)
    assert (await story.accept(hazard["id"]))["status"] == "accepted"


@pytest.mark.parametrize("region", ["other_grid", "neighbour_grid", "far_grid"])
async def test_staff_file_only_where_they_work(story: Story, region: str) -> None:
    place = story.places.point(getattr(story.places, region))
    body = await story.report(location=place, media_ids=await pictures(story.worker))
    problem(await story.post(story.worker, "/v1/hazards", body), 403, "forbidden")


Change = Callable[[Story], Awaitable[Json]]


@dataclass(frozen=True)
class Bad:
    """What is wrong with a report, and what is said about it."""

    name: str
    changes: Json | Change
    where: str
    code: str
    problem: str = "invalid_input"


async def _foreign(story: Story) -> Json:
    return {"media_ids": await pictures(story.neighbour)}


async def _of_staff(story: Story) -> Json:
    return {"media_ids": await pictures(story.worker)}


async def _for_something_else(story: Story) -> Json:
    return {"media_ids": await pictures(story.reporter, MediaPurpose.HAZARD_AFTER)}


async def _erased(story: Story) -> Json:
    return {"media_ids": await pictures(story.reporter, erased_at=clock.now())}


async def _used_before(story: Story) -> Json:
    hazard = await story.file(media_ids=await pictures(story.reporter))
    return {"media_ids": [hazard["photos"][0]["id"]]}


async def _one_good_one_unknown(story: Story) -> Json:
    return {"media_ids": [*await pictures(story.reporter), str(new_id())]}


async def _the_same_twice(story: Story) -> Json:
    return {"media_ids": await pictures(story.reporter) * 2}


async def _ten(story: Story) -> Json:
    return {"media_ids": await pictures(story.reporter, count=10)}


async def _address_of_a_grid(story: Story) -> Json:
    return {"location": None, "address": "3栋", "community_id": str(story.places.grid)}


TOMORROW = (clock.now() + timedelta(days=1)).isoformat()
UNUSABLE = ("body.media_ids.0", "media_not_usable", "media_not_usable")
BAD = [
    Bad("unknown category", {"category": "dragons"}, "body.category", "unknown_category", "unknown_category"),
    Bad("empty category", {"category": ""}, "body.category", "string_too_short"),
    Bad("category of another type", {"category": 7}, "body.category", "string_type"),
    Bad("no category", {"category": None}, "body.category", "missing"),
    Bad("outside the district", {"location": {"lng": 116.4, "lat": 39.9}}, *("body.location", *["outside_district"] * 2)),
    Bad("null island", {"location": NULL_ISLAND}, "body.location", "outside_district", "outside_district"),
    Bad("beyond the world", {"location": {"lng": 181, "lat": 30}}, "body.location.lng", "less_than_equal"),
    Bad("no longitude", {"location": {"lat": 30}}, "body.location.lng", "missing"),
    Bad("longitude null", {"location": {"lng": None, "lat": 30}}, "body.location.lng", "float_type"),
    Bad("longitude as text", {"location": {"lng": "104", "lat": 30}}, "body.location.lng", "float_type"),
    Bad("longitude as flag", {"location": {"lng": True, "lat": 30}}, "body.location.lng", "float_type"),
    Bad("unknown datum", {"location": {"lng": 1, "lat": 1, "datum": "bd09"}}, "body.location.datum", "literal_error"),
    Bad("height", {"location": {"lng": 1, "lat": 1, "alt": 1}}, "body.location.alt", "extra_forbidden"),
    Bad("no place at all", {"location": None}, "body.location", "location_needed"),
    Bad("address without community", {"location": None, "address": "3栋"}, "body.location", "location_needed"),
    Bad("community without address", {"location": None, "community_id": str(new_id())}, "body.location", "location_needed"),
    Bad("address in a grid", _address_of_a_grid, "body.community_id", "unknown_community"),
    Bad("address in nowhere", {"location": None, "address": "3栋", "community_id": str(new_id())}, "body.community_id", "unknown_community"),
    Bad("long address", {"address": "长" * 101}, "body.address", "string_too_long"),
    Bad("no pictures", {"media_ids": None}, "body.media_ids", "missing"),
    Bad("empty list of pictures", {"media_ids": []}, "body.media_ids", "too_short"),
    Bad("ten pictures", _ten, "body.media_ids", "too_long"),
    Bad("picture without id", {"media_ids": ["photo.jpg"]}, "body.media_ids.0", "uuid_parsing"),
    Bad("unknown picture", {"media_ids": [str(new_id())]}, *UNUSABLE),
    Bad("picture of somebody else", _foreign, *UNUSABLE),
    Bad("picture of staff", _of_staff, *UNUSABLE),
    Bad("picture for another purpose", _for_something_else, *UNUSABLE),
    Bad("erased picture", _erased, *UNUSABLE),
    Bad("picture used before", _used_before, *UNUSABLE),
    Bad("one good picture, one unknown", _one_good_one_unknown, "body.media_ids.1", *UNUSABLE[1:]),
    Bad("the same picture twice", _the_same_twice, "body.media_ids.1", *UNUSABLE[1:]),
    Bad("no description", {"description": None}, "body.description", "missing"),
    Bad("empty description", {"description": ""}, "body.description", "string_too_short"),
    Bad("blank description", {"description": " \n\t　"}, "body.description", "string_too_short"),
    Bad("501 characters", {"description": "险" * 501}, "body.description", "string_too_long"),
    Bad("10,000 characters", {"description": "险" * 10_000}, "body.description", "string_too_long"),
    Bad("escape sequence", {"description": "楼道\x1b[31m着火"}, "body.description", "control_character"),
    Bad("DEL", {"description": "楼道\x7f着火"}, "body.description", "control_character"),
    Bad("a space without width", {"description": "楼道\u200b着火"}, "body.description", "control_character"),
    Bad("description of another type", {"description": ["着火"]}, "body.description", "string_type"),
    Bad("anonymous as text", {"anonymous": "yes"}, "body.anonymous", "bool_type"),
    Bad("a status of one's own", {"status": "closed"}, "body.status", "extra_forbidden"),
    Bad("a time of one's own", {"created_at": TOMORROW}, "body.created_at", "extra_forbidden"),
    Bad("a due time", {"due_at": TOMORROW}, "body.due_at", "extra_forbidden"),
    Bad("somebody else's name", {"reporter_id": str(new_id())}, "body.reporter_id", "extra_forbidden"),
    Bad("a region of one's own", {"region_id": str(new_id())}, "body.region_id", "extra_forbidden"),
]  # fmt: skip


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.name)
async def test_a_bad_report_is_refused_without_a_trace(story: Story, bad: Bad) -> None:
    changes = bad.changes if isinstance(bad.changes, dict) else await bad.changes(story)
    body = await story.report(**changes)
    before = await _traces(story.reporter)
    answer = problem(
        await story.post(story.reporter, "/v1/hazards", body, key=f"bad-{new_id()}"), 422, bad.problem
    )
    assert complaints(answer) == [(bad.where, bad.code)]
    assert await _traces(story.reporter) == before


async def test_outside_the_nearest_community_is_named(story: Story) -> None:
    body = await story.report(location={"lng": 104.2, "lat": 30.75})
    answer = problem(await story.post(story.reporter, "/v1/hazards", body), 422, "outside_district")
    async with database.reading() as session:
        nearest = await session.get_one(Region, UUID(answer["nearest_community_id"]))
    assert (nearest.level, nearest.name) == ("community", answer["nearest_community"])
    assert 0 < answer["distance_m"] < 20_000


async def test_all_complaints_come_at_once(story: Story) -> None:
    body = {"description": "", "media_ids": [], "location": {"lng": 200, "lat": "x"}, "extra": 1}
    answer = problem(await story.post(story.reporter, "/v1/hazards", body), 422, "invalid_input")
    assert sorted(complaints(answer)) == [
        ("body.category", "missing"),
        ("body.description", "string_too_short"),
        ("body.extra", "extra_forbidden"),
        ("body.location.lat", "float_type"),
        ("body.location.lng", "less_than_equal"),
        ("body.media_ids", "too_short"),
    ]


@pytest.mark.parametrize(
    ("content_type", "content", "status", "code"),
    [
        ("text/plain", b"{}", 415, "unsupported_media_type"),
        ("application/x-www-form-urlencoded", b"category=garbage", 415, "unsupported_media_type"),
        ("application/json; charset=gbk", b"{}", 415, "unsupported_media_type"),
        ("application/json", b"{", 422, "malformed_body"),
        ("application/json", b'{"description": NaN}', 422, "malformed_body"),
        ("application/json", b'{"description": "a", "description": "b"}', 422, "malformed_body"),
        ("application/json", b'{"description": "\\u0000"}', 422, "malformed_body"),
        ("application/json", b'{"description": "\\ud800"}', 422, "malformed_body"),
        ("application/json", b"\xff\xfe{}", 422, "malformed_body"),
        ("application/json", b"[" * 20_000, 422, "malformed_body"),
        ("application/json", b"[]", 422, "invalid_input"),
        ("application/json", b"null", 422, "invalid_input"),
        ("application/json", b"", 422, "invalid_input"),
    ],
)
async def test_what_is_not_a_report(
    story: Story, content_type: str, content: bytes, status: int, code: str
) -> None:
    headers = story.reporter.headers | {"Content-Type": content_type, "Idempotency-Key": f"not-{new_id()}"}
    before = await _traces(story.reporter)
    problem(await story.client.post("/v1/hazards", content=content, headers=headers), status, code)
    assert await _traces(story.reporter) == before


@pytest.mark.parametrize("query", ["?source=staff", "?source=a&source=b", "?_method=DELETE"])
async def test_filing_takes_no_query(story: Story, query: str) -> None:
    response = await story.post(story.reporter, f"/v1/hazards{query}", await story.report())
    answer = problem(response, 422, "invalid_input")
    assert {code for _, code in complaints(answer)} == {"unknown_parameter"}


async def test_nobody_files_without_a_name(story: Story) -> None:
    problem(await story.post(None, "/v1/hazards", await story.report()), 401, "unauthenticated")


class TestRepeats:
    """The same key: the same answer, or a clear refusal."""

    async def test_the_first_answer_comes_again(self, story: Story) -> None:
        body, key = await story.report(), f"key-{new_id()}"
        first = await story.post(story.reporter, "/v1/hazards", body, key=key)
        before = await _traces(story.reporter)
        again = await story.post(story.reporter, "/v1/hazards", body, key=key)
        assert (again.status_code, again.content) == (201, first.content)
        assert again.headers["content-type"] == first.headers["content-type"]
        assert again.headers["idempotent-replayed"] == "true"
        assert "idempotent-replayed" not in first.headers
        assert await _traces(story.reporter) == before

    async def test_order_and_white_space_do_not_matter(self, story: Story) -> None:
        body, key = await story.report(anonymous=False), f"key-{new_id()}"
        first = await story.post(story.reporter, "/v1/hazards", body, key=key)
        reordered = json.dumps(dict(reversed(body.items())), indent=3, ensure_ascii=True)
        headers = story.reporter.headers | {"Idempotency-Key": f'"{key}"', "Content-Type": "application/json"}
        again = await story.client.post("/v1/hazards", content=reordered, headers=headers)
        assert again.json() == first.json()
        assert again.headers["idempotent-replayed"] == "true"

    async def test_another_body_is_refused(self, story: Story) -> None:
        body, key = await story.report(), f"key-{new_id()}"
        first = await story.post(story.reporter, "/v1/hazards", body, key=key)
        before = await _traces(story.reporter)
        changed = body | {"description": "另一个隐患"}
        response = await story.post(story.reporter, "/v1/hazards", changed, key=key)
        problem(response, 422, "idempotency_key_reused")
        again = await story.post(story.reporter, "/v1/hazards", body, key=key)
        assert again.json() == first.json()
        assert await _traces(story.reporter) == before

    async def test_a_key_belongs_to_one_caller_and_one_path(self, story: Story) -> None:
        key = f"key-{new_id()}"
        first = (await story.post(story.reporter, "/v1/hazards", await story.report(), key=key)).json()
        theirs = await story.report(media_ids=await pictures(story.neighbour))
        second = await story.post(story.neighbour, "/v1/hazards", theirs, key=key)
        assert second.json()["id"] != first["id"]
        elsewhere = await story.post(story.neighbour, f"/v1/hazards/{first['id']}/support", key=key)
        assert (elsewhere.status_code, elsewhere.json()["supporters"]) == (200, 1)
        assert "idempotent-replayed" not in elsewhere.headers

    async def test_what_was_refused_is_not_remembered(self, story: Story) -> None:
        body, key = await story.report(description=""), f"key-{new_id()}"
        problem(await story.post(story.reporter, "/v1/hazards", body, key=key), 422, "invalid_input")
        body["category"], body["description"] = "dragons", DESCRIPTION
        problem(await story.post(story.reporter, "/v1/hazards", body, key=key), 422, "unknown_category")
        body["category"] = "garbage"
        fixed = await story.post(story.reporter, "/v1/hazards", body, key=key)
        assert (fixed.status_code, fixed.json()["category"]) == (201, "garbage")

    @pytest.mark.parametrize("key", ["", " ", "a b", "k" * 256, "k" * 1_001, "ключ".encode(), b"a\tb"])
    async def test_a_key_is_up_to_255_visible_characters(self, story: Story, key: str | bytes) -> None:
        body = await story.report()
        before = await _traces(story.reporter)
        headers: dict[str, str | bytes] = {**story.reporter.headers, "Idempotency-Key": key}
        response = await story.client.post("/v1/hazards", json=body, headers=headers)  # type: ignore[arg-type]
        problem(response, 400, "bad_idempotency_key")
        assert await _traces(story.reporter) == before

    async def test_the_longest_key(self, story: Story) -> None:
        key = f"{new_id()}".ljust(255, "~")
        response = await story.post(story.reporter, "/v1/hazards", await story.report(), key=key)
        assert response.status_code == 201

    async def test_a_step_is_repeated_too(self, story: Story) -> None:
        hazard = await story.file()
        path, key = f"/v1/hazards/{hazard['id']}/accept", f"key-{new_id()}"
        first = await story.post(story.worker, path, key=key)
        again = await story.post(story.worker, path, key=key)
        assert (again.status_code, again.content) == (200, first.content)
        assert await events_of(hazard["id"]) == ["hazard.filed", "hazard.accepted"]
        taken = await story.post(story.worker, path, key=f"{key}-2")
        assert (taken.status_code, taken.json()["status"]) == (200, "accepted")
        assert await events_of(hazard["id"]) == ["hazard.filed", "hazard.accepted"]

    async def test_the_kept_answer_is_sealed(self, story: Story) -> None:
        key = f"key-{new_id()}"
        await story.post(story.reporter, "/v1/hazards", await story.report(), key=key)
        async with database.reading() as session:
            rows = await session.scalars(
                select(IdempotencyKey).where(IdempotencyKey.caller_id == story.reporter.id)
            )
            kept = [row.answer_sealed or b"" for row in rows]
        assert all(kept)
        assert not [answer for answer in kept if "消防".encode() in answer or b'"lng"' in answer]


async def _traces(person: Person) -> dict[str, int]:
    """How many rows of each kind somebody has left, besides pictures that are still unused."""
    counted = {
        "hazards": select(func.count()).where(Hazard.reporter_id == person.id),
        "pictures": select(func.count()).where(Media.owner_id == person.id, Media.subject_id.is_not(None)),
        "events": select(func.count()).where(Event.actor_id == person.id),
        "keys": select(func.count()).where(IdempotencyKey.caller_id == person.id),
        "tasks": select(func.count()).select_from(Task),
        "deadlines": select(func.count()).select_from(HazardDeadline),
    }
    async with database.reading() as session:
        return {name: await session.scalar(query) or 0 for name, query in counted.items()}


async def _reviews(hazard_id: str, media_ids: list[str]) -> int:
    """How many content checks wait for this report."""
    async with database.reading() as session:
        rows = await session.scalars(select(Task.payload).where(Task.kind.startswith("review.")))
        wanted = {hazard_id, *media_ids}
        return len([payload for payload in rows if wanted & set(map(str, payload.values()))])
