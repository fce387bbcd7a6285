"""Pictures over HTTP: uploaded once, used once, seen through links that end, and by nobody else."""

import asyncio
import re
from collections.abc import Callable
from datetime import timedelta
from uuid import UUID

import httpx
import pytest
from sqlalchemy import func, select

from app import clock
from app.db import database
from app.ids import new_id
from app.models.hazards import HazardStatus
from app.models.idempotency import IdempotencyKey
from app.models.media import Media
from app.models.staff import Role
from app.outside import outside
from app.services import media
from app.settings import settings
from tests.factories import Person, make_resident, make_staff
from tests.media.jpeg import assert_bare
from tests.media.pictures import (
    CANARY,
    animated_png,
    encoded,
    grey_rows,
    jpeg_with_everything,
    png,
    quadrants,
    with_dimensions,
)
from tests.stalled import keeps_no_connection
from tests.stories import SAMPLES, Json, Story, complaints, pictures, problem, upload, work_off

PHOTO = (SAMPLES / "fire-passage-before.jpg").read_bytes()
SMALL = encoded(quadrants())
REFUSED: dict[str, tuple[Callable[[], bytes], int, str]] = {
    "nothing": (lambda: b"", 415, "unsupported_image"),
    "text": (lambda: b"just words", 415, "unsupported_image"),
    "html": (lambda: b"<html><script>alert(1)</script></html>", 415, "unsupported_image"),
    "svg": (lambda: b'<svg xmlns="http://www.w3.org/2000/svg"/>', 415, "unsupported_image"),
    "gif": (lambda: encoded(quadrants(), "GIF"), 415, "unsupported_image"),
    "tiff": (lambda: encoded(quadrants(), "TIFF"), 415, "unsupported_image"),
    "animation": (lambda: animated_png(10), 415, "unsupported_image"),
    "cut off": (lambda: SMALL[: len(SMALL) // 2], 422, "corrupt_image"),
    "bomb": (lambda: png(50_000, 50_000, [(b"IDAT", grey_rows(100, 100))]), 413, "image_too_large"),
    "lying header": (lambda: with_dimensions(SMALL, 20_000, 20_000), 413, "image_too_large"),
    "too many bytes": (lambda: SMALL + b"\0" * (10 * 1024 * 1024), 413, "image_too_large"),
}


@pytest.fixture(scope="module")
async def stored(story: Story) -> Json:
    """A picture of the reporter's, for tests that only look."""
    answer: Json = (await upload(story.client, story.reporter, SMALL)).json()
    return answer


async def test_one_picture(story: Story) -> None:
    answer = await upload(story.client, story.reporter, PHOTO)
    assert answer.status_code == 201
    stored = answer.json()
    assert stored.keys() == {
        "id", "content_type", "bytes", "width", "height", "url", "thumbnail_url", "location_hint"
    }  # fmt: skip
    assert (stored["content_type"], stored["width"], stored["height"]) == ("image/jpeg", 1024, 768)
    assert stored["location_hint"] == {"lng": pytest.approx(104.13, abs=0.01), "lat": pytest.approx(30.6, abs=0.02), "datum": "gcj02"}  # fmt: skip
    main, thumbnail = await _fetch(story, stored["url"]), await _fetch(story, stored["thumbnail_url"])
    assert len(main.content) == stored["bytes"] > len(thumbnail.content)
    for file in (main, thumbnail):
        assert_bare(file.content)
        assert file.headers["content-type"] == "image/jpeg"
        assert file.headers["x-content-type-options"] == "nosniff"
        assert file.headers["content-security-policy"] == "default-src 'none'; sandbox"
        assert file.headers["content-disposition"] == "inline"
        assert file.headers["cache-control"].startswith("private")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
async def test_every_kind_becomes_a_bare_jpeg(story: Story, kind: str) -> None:
    """Whatever the name and the declared type say."""
    data = jpeg_with_everything() if kind == "JPEG" else encoded(quadrants(), kind) + CANARY
    for name, declared in (("x.jpg", "image/jpeg"), ("../../etc/passwd\u202egpj.exe", "text/html")):
        response = await story.client.post(
            "/v1/media",
            files={"file": (name, data, declared)},
            data={"purpose": "hazard"},
            headers=story.reporter.headers,
        )
        assert response.status_code == 201, response.text
        file = await _fetch(story, response.json()["url"])
        assert_bare(file.content)
        assert CANARY not in file.content
        assert (await _row(response.json()["id"])).storage_key.startswith("media/")


@pytest.mark.parametrize("name", REFUSED)
async def test_what_is_no_picture_leaves_nothing(story: Story, name: str) -> None:
    build, status, code = REFUSED[name]
    who = await make_resident()
    before = await _objects()
    problem(await upload(story.client, who, build(), key="k"), status, code)
    assert await _owned(who) == 0
    assert await _objects() == before
    assert (await upload(story.client, who, SMALL, key="k")).status_code == 201


@pytest.mark.parametrize(
    ("form", "where", "code"),
    [
        ({"files": {"file": ("x.jpg", SMALL)}}, "body.purpose", "missing"),
        ({"files": {"file": ("x.jpg", SMALL)}, "data": {"purpose": "avatar"}}, "body.purpose", "enum"),
        ({"files": {"photo": ("x.jpg", SMALL)}, "data": {"purpose": "hazard"}}, "body.file", "missing"),
    ],
)
async def test_what_is_no_upload(story: Story, form: Json, where: str, code: str) -> None:
    response = await story.client.post("/v1/media", headers=story.reporter.headers, **form)
    assert (where, code) in complaints(problem(response, 422, "invalid_input"))


async def test_json_is_no_upload(story: Story) -> None:
    problem(
        await story.post(story.reporter, "/v1/media", {"purpose": "hazard"}), 415, "unsupported_media_type"
    )
    problem(await story.post(None, "/v1/media", {}), 401, "unauthenticated")


async def test_a_repeated_upload_is_one_picture(story: Story) -> None:
    who = await make_staff(Role.GRID_WORKER, story.places.grid)
    first = await upload(story.client, who, PHOTO, key="u1")
    objects = await _objects()
    again = await upload(story.client, who, PHOTO, key="u1")
    assert (again.status_code, again.json()) == (201, first.json())
    assert again.headers["idempotent-replayed"] == "true"
    problem(await upload(story.client, who, SMALL, key="u1"), 422, "idempotency_key_reused")
    problem(await upload(story.client, who, PHOTO, "hazard_after", key="u1"), 422, "idempotency_key_reused")
    for length in (256, 1_001):
        problem(await upload(story.client, who, PHOTO, key="k" * length), 400, "bad_idempotency_key")
    assert await _owned(who) == 1
    assert await _objects() == objects


async def test_the_same_upload_ten_times_at_once_is_one_picture(story: Story) -> None:
    who = await make_resident()
    objects = len(await _objects())
    answers = await asyncio.gather(*[upload(story.client, who, SMALL, key="u1") for _ in range(10)])
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert await _owned(who) == 1
    assert len(await _objects()) == objects + 2


async def test_a_day_has_its_limit(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "media_daily_limit", 3)
    who = await make_resident()
    await pictures(who, count=3)
    response = await upload(story.client, who, SMALL)
    problem(response, 429, "media_quota_used")
    assert int(response.headers["retry-after"]) > 0
    assert await _owned(who) == 3
    assert (await upload(story.client, await make_resident(), SMALL)).status_code == 201


async def test_a_place_is_told_to_the_uploader_once(story: Story) -> None:
    """It is in the answer to the upload and, without a key to repeat that, nowhere else."""
    who = await make_resident()
    stored = (await upload(story.client, who, PHOTO)).json()
    again = await story.get(who, f"/v1/media/{stored['id']}")
    assert again.keys() == stored.keys() - {"location_hint"}
    row = await _row(stored["id"])
    lng = f"{stored['location_hint']['lng']:.4f}"
    assert lng not in str({column.key: getattr(row, column.key) for column in row.__table__.columns})


async def test_only_ones_own_pictures(story: Story) -> None:
    (media_id,) = await pictures(story.reporter)
    assert (await story.get(story.reporter, f"/v1/media/{media_id}"))["id"] == media_id
    for who in (story.neighbour, story.worker, story.manager):
        response = await story.client.get(f"/v1/media/{media_id}", headers=who.headers)
        problem(response, 404, "not_found")
    missing = await story.client.get(f"/v1/media/{new_id()}", headers=story.reporter.headers)
    problem(missing, 404, "not_found")


async def test_a_picture_is_used_once(story: Story) -> None:
    """By its owner, for its purpose, for one thing."""
    (media_id,) = await pictures(story.reporter)
    hazard = await story.file(media_ids=[media_id])
    assert (await _row(media_id)).subject_id == UUID(hazard["id"])
    again = await story.post(story.reporter, "/v1/hazards", await story.report(media_ids=[media_id]))
    problem(again, 422, "media_not_usable")
    other = await story.hazard(HazardStatus.RESOLVED)
    dispute = await story.step(
        story.reporter, other, "dispute", {"reason": "没修好", "media_ids": [media_id]}
    )
    problem(dispute, 422, "media_not_usable")
    assert (await _row(media_id)).subject_id == UUID(hazard["id"])


class TestLinks:
    """The link is the permission."""

    async def test_no_sign_in_is_needed(self, story: Story, stored: Json) -> None:
        response = await story.client.get(_path(stored["url"]))
        assert response.status_code == 200

    @pytest.mark.parametrize(
        ("pattern", "replacement"),
        [
            (r"/main", "/thumbnail"),
            (r"expires=(\d)", r"expires=9\1"),
            (r"signature=(.*)", r"signature=x\1"),
            (r"signature=.*", "signature="),
            (r"signature=[^&]*", "signature=AAAA"),
            (r"[0-9a-f]{8}-", "00000000-"),
        ],
    )
    async def test_an_edited_link(self, story: Story, stored: Json, pattern: str, replacement: str) -> None:
        edited = re.sub(pattern, replacement, _path(stored["url"]), count=1)
        assert edited != _path(stored["url"])
        problem(await story.client.get(edited), 404, "not_found")

    @pytest.mark.parametrize("drop", ["expires", "signature"])
    async def test_an_incomplete_link(self, story: Story, stored: Json, drop: str) -> None:
        cut = re.sub(rf"{drop}=[^&]*&?", "", _path(stored["url"]))
        answer = problem(await story.client.get(cut), 422, "invalid_input")
        assert complaints(answer) == [(f"query.{drop}", "missing")]

    async def test_a_link_of_another_picture(self, story: Story, stored: Json) -> None:
        (other,) = await pictures(story.neighbour)
        swapped = _path(stored["url"]).replace(stored["id"], other)
        problem(await story.client.get(swapped), 404, "not_found")

    async def test_a_link_ends(self, story: Story, stored: Json, advance: Callable[[float], None]) -> None:
        advance(media.LINK_SECONDS - 1)
        assert (await story.client.get(_path(stored["url"]))).status_code == 200
        advance(media.LINK_SECONDS / 2 + 2)
        problem(await story.client.get(_path(stored["url"])), 404, "not_found")
        fresh = await story.get(story.reporter, f"/v1/media/{stored['id']}")
        assert (await story.client.get(_path(fresh["url"]))).status_code == 200

    async def test_an_erased_picture(self, story: Story) -> None:
        stored = (await upload(story.client, story.reporter, SMALL)).json()
        async with database.transaction() as session:
            await media.erase(session, await session.get_one(Media, UUID(stored["id"])))
        problem(await story.client.get(_path(stored["url"])), 404, "not_found")
        own = await story.client.get(f"/v1/media/{stored['id']}", headers=story.reporter.headers)
        problem(own, 404, "not_found")
        body = await story.report(media_ids=[stored["id"]])
        problem(await story.post(story.reporter, "/v1/hazards", body), 422, "media_not_usable")
        assert await work_off("media.erase") >= 1
        assert stored["id"] not in "".join(await _objects())


async def test_what_is_never_used_goes_after_a_day(story: Story) -> None:
    used, unused, fresh = [(await upload(story.client, story.reporter, SMALL)).json()["id"] for _ in range(3)]
    await story.file(media_ids=[used])
    for each in (used, unused):
        async with database.transaction() as session:
            (await session.get_one(Media, UUID(each))).created_at = clock.now() - timedelta(days=1)
    async with database.transaction() as session:
        assert await media.erase_unused(session) >= 1
    await work_off("media.erase")
    left = "".join(await _objects())
    assert [each in left for each in (used, unused, fresh)] == [True, False, True]
    assert (await _row(unused)).erased_at is not None


async def test_kept_answers_are_sealed(story: Story) -> None:
    who = await make_resident()
    stored = (await upload(story.client, who, PHOTO, key="u1")).json()
    async with database.reading() as session:
        kept = await session.scalar(select(IdempotencyKey).where(IdempotencyKey.caller_id == who.id))
    assert kept is not None
    assert (kept.subject_id, kept.status) == (UUID(stored["id"]), 201)
    assert b"location_hint" not in (kept.answer_sealed or b"location_hint")


def _path(url: str) -> str:
    assert url.startswith(settings.base_url)
    return url.removeprefix(settings.base_url)


async def test_a_slow_storage_stops_nobody_else_who_reads(story: Story, stored: Json) -> None:
    assert await keeps_no_connection(lambda: _fetch(story, stored["url"]))


async def _fetch(story: Story, url: str) -> httpx.Response:
    response = await story.client.get(_path(url))
    assert response.status_code == 200, response.text
    return response


async def _row(media_id: str) -> Media:
    async with database.reading() as session:
        return await session.get_one(Media, UUID(media_id))


async def _owned(who: Person) -> int:
    async with database.reading() as session:
        return await session.scalar(select(func.count()).where(Media.owner_id == who.id)) or 0


async def _objects() -> list[str]:
    """Every picture in the storage."""
    listed = outside.storage.keys()
    return sorted([key async for key, _ in listed if key.startswith("media/")])
