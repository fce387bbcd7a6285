"""Moderation erases for good: what was redacted is in no table, behind no seal, in no file and no kept answer."""

import asyncio
from uuid import UUID

import httpx
import pytest

from app import leases
from app.clients.storage import Storage
from app.db import database
from app.errors import NotFound
from app.ids import new_id
from app.leases import Retry
from app.models.hazards import HazardStatus
from app.models.media import Media, MediaPurpose
from app.outside import outside
from app.sequencer import verify_chain
from app.services import hazard_exports
from app.settings import settings
from tests import canaries
from tests.factories import Person
from tests.stories import (
    SAMPLES,
    Json,
    Story,
    begin,
    complaints,
    events_of,
    pictures,
    problem,
    row_of,
    show_to_public,
    upload,
    work_off,
)

S = HazardStatus
PHONE = "13912345670"
ERASE = "media.erase"


async def test_a_phone_number_is_really_gone(client: httpx.AsyncClient) -> None:
    """Written wherever people write, repeated in every kept answer, and then asked to be forgotten."""
    story = await begin(client)
    photo = (await upload(client, story.reporter, (SAMPLES / "garbage-before.jpg").read_bytes())).json()
    report = await story.report(
        description=f"找我 {PHONE}", address=f"3栋，电话{PHONE}", media_ids=[photo["id"]]
    )
    filed = await story.post(story.reporter, "/v1/hazards", report, key="file")
    hazard_id = filed.json()["id"]
    path = f"/v1/hazards/{hazard_id}"
    kept: list[tuple[Person, str, object, str]] = [(story.reporter, "/v1/hazards", report, "file")]
    for who, action, body in (
        (story.worker, "accept", None),
        (story.reporter, "comments", {"text": f"打{PHONE}"}),
        (story.worker, "comments", {"text": f"已致电{PHONE}", "visibility": "internal"}),
        (story.worker, "call", {"reason": f"业主{PHONE}不配合"}),
        (story.dispatcher, "resolve", {"outcome": "unfixed", "unfixed_reason": "owner_refuses", "note": f"{PHONE}"}),
        (story.reporter, "rate", {"score": 1, "comment": f"请回电{PHONE}"}),
    ):  # fmt: skip
        response = await story.post(who, f"{path}/{action}", body, key=action)
        assert response.is_success, response.text
        kept.append((who, f"{path}/{action}", body, action))
    export = (
        await story.post(story.manager, "/v1/hazard-exports", {"format": "csv", "reason": "核对"})
    ).json()
    await work_off(hazard_exports.TASK)
    file = f"/v1/hazard-exports/{export['id']}/file"
    assert PHONE in (await client.get(file, headers=story.manager.headers)).text
    assert len({column for _, column in await canaries.anywhere(PHONE)}) == 5

    comments = (await story.get(story.manager, f"{path}/comments"))["items"]
    redacted = await story.take(
        story.manager,
        hazard_id,
        "redactions",
        {
            "description": True,
            "address": True,
            "rating_comment": True,
            "comment_ids": [each["id"] for each in comments],
            "media_ids": [photo["id"]],
            "reason": "subject_request",
        },
    )

    assert (redacted["description"], redacted["address"], redacted["photos"]) == (None, None, [])
    assert await canaries.anywhere(PHONE) == set()
    for who, where, sent, key in kept:
        again = await story.post(who, where, sent, key=key)
        assert (again.is_success, again.headers["idempotent-replayed"]) == (True, "true")
        assert PHONE not in again.text
    for who in (story.reporter, story.worker, story.manager):
        for rest in ("", "/timeline", "/comments"):
            assert PHONE not in (await client.get(path + rest, headers=who.headers)).text
    assert PHONE not in (await client.get("/v1/me/export", headers=story.reporter.headers)).text
    problem(await client.get(file, headers=story.manager.headers), 409, "export_not_ready")
    link = photo["url"].removeprefix(settings.base_url)
    problem(await client.get(link), 404, "not_found")
    await _assert_no_bytes(photo["id"])
    assert (await events_of(hazard_id))[-1] == "hazard.redacted"
    async with database.reading() as session:
        assert await verify_chain(session) == []


async def _assert_no_bytes(media_id: str) -> None:
    """After the worker's next turn the files are gone as well."""
    async with database.reading() as session:
        media = await session.get_one(Media, UUID(media_id))
    assert await work_off(ERASE) >= 1
    for key in (media.storage_key, media.thumbnail_key):
        with pytest.raises(NotFound):
            await outside.storage.get(key)


async def test_only_what_is_named_goes(story: Story) -> None:
    photos = await pictures(story.reporter, count=2)
    hazard_id = str((await story.file(address="3栋", media_ids=photos))["id"])
    for text in ("甲", "乙"):
        await story.take(story.worker, hazard_id, "comments", {"text": text})
    first, _ = (await story.get(story.worker, f"/v1/hazards/{hazard_id}/comments"))["items"]
    body = {"comment_ids": [first["id"]], "media_ids": [photos[0]], "reason": "abuse"}
    left = await story.take(story.manager, hazard_id, "redactions", body)
    assert left["description"]
    assert (left["address"], [photo["id"] for photo in left["photos"]]) == ("3栋", photos[1:])
    comments = (await story.get(story.reporter, f"/v1/hazards/{hazard_id}/comments"))["items"]
    assert [each["text"] for each in comments] == [None, "乙"]
    told = await story.get(story.reporter, f"/v1/hazards/{hazard_id}/timeline")
    assert told["items"][-1]["data"] == {
        "fields": "",
        "comments": 1,
        "pictures": 1,
        "hidden": False,
        "reason": "abuse",
    }


async def test_an_after_photo_goes_too(story: Story) -> None:
    hazard_id = await story.hazard(S.ACCEPTED)
    (photo,) = await pictures(story.worker, MediaPurpose.HAZARD_AFTER)
    await story.resolve(hazard_id, media_ids=[photo])
    body = {"media_ids": [photo], "reason": "personal_data"}
    assert (await story.take(story.manager, hazard_id, "redactions", body))["after_photos"] == []
    problem(await story.step(story.manager, hazard_id, "redactions", body), 422, "nothing_to_redact")


async def test_hidden_means_off_the_map_and_still_worked_on(story: Story) -> None:
    hazard_id = await story.hazard(S.ACCEPTED)
    await show_to_public(hazard_id)
    hidden = await story.take(story.manager, hazard_id, "redactions", {"hide": True, "reason": "illegal"})
    assert hidden["description"]
    response = await story.client.get(f"/v1/hazards/{hazard_id}", headers=story.neighbour.headers)
    problem(response, 404, "not_found")
    assert (await story.resolve(hazard_id))["status"] == "resolved"


@pytest.mark.parametrize(
    ("body", "code", "where"),
    [
        ({"reason": "abuse"}, "nothing_to_redact", None),
        ({"hide": True}, "invalid_input", ("body.reason", "missing")),
        ({"hide": True, "reason": "because"}, "invalid_input", ("body.reason", "enum")),
        ({"hide": "yes", "reason": "abuse"}, "invalid_input", ("body.hide", "bool_type")),
        ({"status": True, "reason": "abuse"}, "invalid_input", ("body.status", "extra_forbidden")),
        ({"comment_ids": [str(new_id())], "reason": "abuse"}, "nothing_to_redact", ("body.comment_ids.0", "nothing_to_redact")),
        ({"media_ids": [str(new_id())], "reason": "abuse"}, "nothing_to_redact", ("body.media_ids.0", "nothing_to_redact")),
        ({"comment_ids": [str(UUID(int=1))] * 2, "reason": "abuse"}, "invalid_input", ("body.comment_ids", "named_twice")),
        ({"media_ids": [str(UUID(int=1))] * 2, "reason": "abuse"}, "invalid_input", ("body.media_ids", "named_twice")),
        ({"media_ids": [str(new_id())] * 51, "reason": "abuse"}, "invalid_input", ("body.media_ids", "too_long")),
    ],
)  # fmt: skip
async def test_what_is_no_redaction(
    story: Story, body: Json, code: str, where: tuple[str, str] | None
) -> None:
    hazard_id = await story.hazard(S.FILED)
    answer = problem(await story.step(story.manager, hazard_id, "redactions", body), 422, code)
    assert complaints(answer) == ([where] if where else [])
    assert await events_of(hazard_id) == ["hazard.filed"]


async def test_nothing_of_another_hazard(story: Story) -> None:
    mine, other = await story.hazard(S.FILED), await story.file(story.neighbour)
    said = await story.take(story.worker, other["id"], "comments", {"text": "别的"})
    body = {
        "description": True,
        "comment_ids": [said["id"]],
        "media_ids": [other["photos"][0]["id"]],
        "reason": "abuse",
    }
    problem(await story.step(story.manager, mine, "redactions", body), 422, "nothing_to_redact")
    assert (await row_of(mine)).description_sealed is not None
    comments = (await story.get(story.worker, f"/v1/hazards/{other['id']}/comments"))["items"]
    assert [each["text"] for each in comments] == ["别的"]


class _SlowStorage(Storage):
    """Storage that takes its time: whatever is put waits until it may."""

    def __init__(self, location: str) -> None:
        super().__init__(location)
        self.reached, self.may_go_on = asyncio.Event(), asyncio.Event()

    async def put(self, key: str, data: bytes) -> None:
        self.reached.set()
        await self.may_go_on.wait()
        await super().put(key, data)


async def test_a_file_being_written_is_written_anew(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was read before the redaction must not come out after it."""
    story = await begin(client)
    hazard_id = await story.hazard(S.FILED, description=f"找我 {PHONE}")
    body = {"format": "csv", "reason": "核对"}
    asked = (await story.post(story.manager, "/v1/hazard-exports", body)).json()
    slow = _SlowStorage(settings.media_location)
    monkeypatch.setattr(outside, "storage", slow)
    (lease,) = await leases.claim([hazard_exports.TASK], 1)
    writing = asyncio.create_task(hazard_exports.run(lease))
    await slow.reached.wait()
    erase = {"description": True, "reason": "personal_data"}
    await story.take(story.manager, hazard_id, "redactions", erase)
    slow.may_go_on.set()
    with pytest.raises(Retry):
        await writing
    await lease.end({"lease_token": None, "lease_until": None})
    await work_off(hazard_exports.TASK)
    file = await client.get(f"/v1/hazard-exports/{asked['id']}/file", headers=story.manager.headers)
    assert file.status_code == 200
    assert hazard_id in file.text
    assert PHONE not in file.text
    slow.close()
