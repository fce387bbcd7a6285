"""What the content check hid, a person may publish or confirm; what moderation hid stays hidden."""

from uuid import UUID

import pytest
from sqlalchemy import select

from app import clock
from app.clients.wechat import Suggestion
from app.clients.wechat_push import MediaChecked
from app.db import database
from app.ids import new_id
from app.models.events import Audience, Event
from app.models.hazards import HazardStatus, PublicState
from app.models.media import Media
from app.services import reviews
from tests.stories import Json, Story, complaints, events_of, pictures, problem, row_of, work_off

RISKY = "这里有沙盒违规内容"
REASON = "是燃气表，没有问题"


async def _flagged_words(story: Story) -> str:
    """A hazard whose description the check did not like."""
    hazard_id = str((await story.file(description=RISKY))["id"])
    await work_off(reviews.TEXT)
    assert (await row_of(hazard_id)).public_state is PublicState.HIDDEN
    return hazard_id


async def _flag(hazard_id: str) -> Json:
    """What staff are told of it."""
    async with database.reading() as session:
        payload = await session.scalar(
            select(Event.payload).where(
                Event.subject_id == UUID(hazard_id), Event.type == "hazard.review_flagged"
            )
        )
    assert payload is not None
    return dict(payload)


def _decide(part_id: object, decision: str = "publish") -> Json:
    return {"part_id": str(part_id), "decision": decision, "reason": REASON}


async def test_words_are_published_after_all(story: Story) -> None:
    hazard_id = await _flagged_words(story)
    path = f"/v1/hazards/{hazard_id}"
    problem(await story.client.get(path, headers=story.neighbour.headers), 404, "not_found")
    flag = await _flag(hazard_id)
    answer = await story.take(story.manager, hazard_id, "reviews", _decide(flag["id"]))
    assert answer["version"] == 2
    assert (await story.get(story.neighbour, path))["description"] == RISKY
    again = await story.step(story.manager, hazard_id, "reviews", _decide(flag["id"]))
    problem(again, 409, "not_flagged")


async def test_the_decision_and_its_reason_are_on_record(story: Story) -> None:
    """For staff: residents hear neither of the flag nor of what became of it."""
    hazard_id = await _flagged_words(story)
    await story.take(story.dispatcher, hazard_id, "reviews", _decide(hazard_id, "hide"))
    assert (await events_of(hazard_id, Audience.STAFF))[-1] == "hazard.reviewed"
    last = (await story.get(story.manager, f"/v1/hazards/{hazard_id}/timeline"))["items"][-1]
    assert last["data"] == {"part": "description", "id": hazard_id, "decision": "hide"}
    assert (last["actor"], last["text"]) == ("staff", REASON)
    told = await story.get(story.reporter, f"/v1/hazards/{hazard_id}/timeline")
    assert [entry["type"] for entry in told["items"]] == ["hazard.filed"]
    assert (await story.get(story.reporter, f"/v1/hazards/{hazard_id}/comments"))["items"] == []


async def test_what_is_confirmed_stays_hidden_until_somebody_thinks_again(story: Story) -> None:
    hazard_id = await _flagged_words(story)
    await story.take(story.manager, hazard_id, "reviews", _decide(hazard_id, "hide"))
    assert (await row_of(hazard_id)).public_state is PublicState.HIDDEN
    await story.take(story.manager, hazard_id, "reviews", _decide(hazard_id))
    assert (await row_of(hazard_id)).public_state is PublicState.VISIBLE


async def test_a_comment_is_published(story: Story) -> None:
    hazard_id = await story.hazard(HazardStatus.ACCEPTED)
    said = await story.take(story.reporter, hazard_id, "comments", {"text": RISKY})
    await work_off(reviews.TEXT)
    path = f"/v1/hazards/{hazard_id}/comments"
    assert (await story.get(story.neighbour, path))["items"] == []
    await story.take(story.manager, hazard_id, "reviews", _decide(said["id"]))
    assert [each["text"] for each in (await story.get(story.neighbour, path))["items"]] == [RISKY]


async def test_a_picture_is_published(story: Story) -> None:
    hazard_id, photo = await _flagged_photo(story)
    path = f"/v1/hazards/{hazard_id}"
    assert (await story.get(story.neighbour, path))["photos"] == []
    assert (await _flag(hazard_id))["id"] == photo
    await story.take(story.manager, hazard_id, "reviews", _decide(photo))
    assert [each["id"] for each in (await story.get(story.neighbour, path))["photos"]] == [photo]


async def _flagged_photo(story: Story) -> tuple[str, str]:
    """A hazard with a picture that WeChat found risky."""
    [photo] = await pictures(story.reporter)
    hazard_id = str((await story.file(media_ids=[photo]))["id"])
    await work_off(reviews.MEDIA)
    async with database.transaction() as session:
        trace = (await session.get_one(Media, UUID(photo))).review_trace
        assert trace is not None
        pushed = MediaChecked("wxa_media_check", "", clock.now(), trace, trace, Suggestion.RISKY, 20002)
        await reviews.receive_verdict(session, pushed, trace)
    await work_off(reviews.VERDICT)
    return hazard_id, photo


async def test_what_was_erased_cannot_be_published(story: Story) -> None:
    hazard_id, photo = await _flagged_photo(story)
    said = await story.take(story.reporter, hazard_id, "comments", {"text": RISKY})
    await work_off(reviews.TEXT)
    erase = {"media_ids": [photo], "comment_ids": [said["id"]], "reason": "illegal"}
    await story.take(story.manager, hazard_id, "redactions", erase)
    for part_id in (photo, said["id"]):
        problem(await story.step(story.manager, hazard_id, "reviews", _decide(part_id)), 409, "not_flagged")


async def test_what_moderation_hid_cannot_be_published(story: Story) -> None:
    """Whether the check had flagged it before or not."""
    hide = {"hide": True, "reason": "illegal"}
    flagged = await _flagged_words(story)
    plain = str((await story.file())["id"])
    for hazard_id in (flagged, plain):
        await story.take(story.manager, hazard_id, "redactions", hide)
        refused = await story.step(story.manager, hazard_id, "reviews", _decide(hazard_id))
        problem(refused, 409, "not_flagged")
        assert (await row_of(hazard_id)).public_state is PublicState.HIDDEN


@pytest.mark.parametrize("decision", ["publish", "hide"])
async def test_what_nobody_flagged_needs_no_decision(story: Story, decision: str) -> None:
    hazard_id = await story.hazard(HazardStatus.FILED)
    [photo] = (await story.get(story.reporter, f"/v1/hazards/{hazard_id}"))["photos"]
    for part_id in (hazard_id, photo["id"]):
        refused = await story.step(story.manager, hazard_id, "reviews", _decide(part_id, decision))
        problem(refused, 409, "not_flagged")
    assert await events_of(hazard_id) == ["hazard.filed"]


async def test_nothing_of_another_hazard(story: Story) -> None:
    mine = await story.hazard(HazardStatus.FILED)
    other, photo = await _flagged_photo(story)
    for part_id in (other, photo, new_id()):
        answer = problem(
            await story.step(story.manager, mine, "reviews", _decide(part_id)), 422, "invalid_input"
        )
        assert complaints(answer) == [("body.part_id", "unknown_part")]


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"reason": None}, ("body.reason", "string_type")),
        ({"reason": " "}, ("body.reason", "string_too_short")),
        ({"decision": "maybe"}, ("body.decision", "enum")),
        ({"part": "photo"}, ("body.part", "extra_forbidden")),
    ],
)
async def test_what_is_no_decision(story: Story, changes: Json, where: tuple[str, str]) -> None:
    body = _decide(new_id()) | changes
    answer = problem(await story.step(story.manager, str(new_id()), "reviews", body), 422, "invalid_input")
    assert complaints(answer) == [where]


async def test_grid_workers_leave_it_to_their_managers(story: Story) -> None:
    hazard_id = await _flagged_words(story)
    for who in (story.worker, story.reporter):
        problem(await story.step(who, hazard_id, "reviews", _decide(hazard_id)), 403, "forbidden")
