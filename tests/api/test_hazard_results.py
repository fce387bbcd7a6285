"""What a result needs, and how the reporter answers it: confirmed, disputed, rated, or not at all."""

from datetime import timedelta

import httpx
import pytest

from app import clock
from app.db import database
from app.ids import new_id
from app.models.hazards import HazardStatus
from app.models.media import MediaPurpose
from app.services import hazards
from tests.stories import (
    Json,
    Story,
    assert_clocks,
    begin,
    change,
    clocks_of,
    complaints,
    events_of,
    everything_about,
    pictures,
    problem,
    row_of,
    show_to_public,
)

S = HazardStatus
AFTER = MediaPurpose.HAZARD_AFTER
UNFIXED: Json = {"outcome": "unfixed", "unfixed_reason": "needs_capital_works"}


@pytest.mark.parametrize(
    ("category", "body", "where", "code", "kind"),
    [
        ("other", {}, "body.media_ids", "photo_needed", "photo_needed"),
        ("other", {"media_ids": []}, "body.media_ids", "photo_needed", "photo_needed"),
        ("fire_passage_blocked", {"exemption": "privacy"}, "body.exemption", "exemption_not_allowed", None),
        ("other", {"exemption": "too_lazy"}, "body.exemption", "enum", None),
        ("other", {"outcome": "unfixed"}, "body.unfixed_reason", "unfixed_reason_mismatch", None),
        ("other", {"exemption": "unsafe", "unfixed_reason": "owner_refuses"}, "body.unfixed_reason", "unfixed_reason_mismatch", None),
        ("other", {"outcome": "unfixed", "unfixed_reason": "no_money"}, "body.unfixed_reason", "enum", None),
        ("other", {"outcome": "done"}, "body.outcome", "enum", None),
        ("other", {"media_ids": [str(new_id())]}, "body.media_ids.0", "media_not_usable", "media_not_usable"),
        ("other", {"exemption": "unsafe", "media_ids": [str(new_id())] * 10}, "body.media_ids", "too_long", None),
    ],
)  # fmt: skip
async def test_what_is_no_result(
    story: Story, category: str, body: Json, where: str, code: str, kind: str | None
) -> None:
    hazard_id = await story.hazard(S.ACCEPTED, category=category)
    before = await everything_about(hazard_id)
    answer = problem(await story.step(story.worker, hazard_id, "resolve", body), 422, kind or "invalid_input")
    assert complaints(answer) == [(where, code)]
    assert await everything_about(hazard_id) == before


@pytest.mark.parametrize(
    "body",
    [
        {"exemption": "taken_over"},
        {"outcome": "unfixed", "unfixed_reason": "owner_refuses"},
        {"outcome": "unfixed", "unfixed_reason": "not_found_on_site", "exemption": "not_visible"},
    ],
)
async def test_a_result_without_a_photo(story: Story, body: Json) -> None:
    hazard_id = await story.hazard(S.ACCEPTED, category="other")
    settled = await story.resolve(hazard_id, **body)
    wanted = {"outcome": "fixed", "unfixed_reason": None, "exemption": None} | body
    assert {name: settled[name] for name in wanted} == wanted
    assert settled["after_photos"] == []


async def test_a_residents_picture_proves_no_result(story: Story) -> None:
    hazard_id = await story.hazard(S.ACCEPTED)
    for media_ids in (await pictures(story.reporter, AFTER), await pictures(story.worker)):
        response = await story.step(story.worker, hazard_id, "resolve", {"media_ids": media_ids})
        problem(response, 422, "media_not_usable")


@pytest.mark.parametrize(
    ("status", "handler", "clocks"),
    [
        (S.ACCEPTED, "worker", ["grid", "grid"]),
        (S.CALLED, "dispatcher", ["grid", "street", "street"]),
        (S.CHECKED_IN, "officer", ["grid", "street", "department", "department"]),
    ],
)
async def test_a_dispute_returns_it_with_a_fresh_clock(
    story: Story, status: HazardStatus, handler: str, clocks: list[str]
) -> None:
    hazard_id, who = await story.hazard(status), getattr(story, handler)
    await story.resolve(hazard_id, who)
    disputed_at = clock.now()
    evidence = await pictures(story.reporter)
    back = await story.take(
        story.reporter, hazard_id, "dispute", {"reason": "第二天又堆满了", "media_ids": evidence}
    )
    assert (back["status"], back["disputes"], back["outcome"]) == (status, 1, None)
    assert (back["resolved_at"], back["dispute_until"]) == (None, None)
    assert back["handler"]["id"] == str(story.worker.id)
    assert [photo["id"] for photo in back["photos"]][-1:] == evidence
    assert len(back["after_photos"]) == 1
    await assert_clocks(hazard_id, clocks, running=True)
    assert (await clocks_of(hazard_id))[-1].started_at >= disputed_at
    told = await story.get(who, f"/v1/hazards/{hazard_id}/timeline")
    assert (told["items"][-1]["type"], told["items"][-1]["text"]) == ("hazard.disputed", "第二天又堆满了")
    assert (await story.resolve(hazard_id, who))["status"] == "resolved"
    assert (await story.confirm(hazard_id))["disputes"] == 1


async def test_a_dispute_returns_it_to_the_department_that_led_last(story: Story) -> None:
    hazard_id = await story.hazard(S.DISPATCHED)
    await story.refuse(hazard_id)
    await story.dispatch(hazard_id, story.second_department)
    await story.check_in(hazard_id, story.second_officer)
    await story.resolve(hazard_id, story.second_officer)
    back = await story.dispute(hazard_id)
    states = {each["organisation_id"]: each["status"] for each in back["departments"]}
    assert states == {str(story.department): "refused", str(story.second_department): "checked_in"}
    problem(await story.step(story.officer, hazard_id, "resolve", UNFIXED), 409, "wrong_assignment_status")
    assert (await story.resolve(hazard_id, story.second_officer))["status"] == "resolved"


async def test_a_dispute_comes_too_late(story: Story) -> None:
    hazard_id = await story.hazard(S.RESOLVED)
    await change(hazard_id, dispute_until=clock.now())
    response = await story.step(story.reporter, hazard_id, "dispute", {"reason": "没有解决"})
    problem(response, 409, "dispute_too_late")
    assert (await row_of(hazard_id)).status is S.RESOLVED


async def test_silence_closes_it_as_it_was_resolved(client: httpx.AsyncClient) -> None:
    story = await begin(client)
    ids = [await story.hazard(S.ACCEPTED) for _ in range(3)]
    fixed, unfixed, waiting = ids
    await story.resolve(fixed)
    await story.resolve(unfixed, **UNFIXED)
    await story.resolve(waiting)
    await change(fixed, dispute_until=clock.now())
    await change(unfixed, dispute_until=clock.now() - timedelta(days=1))
    async with database.transaction() as session:
        assert await hazards.close_unanswered(session) >= 2
    rows = [await row_of(each) for each in ids]
    assert [(row.status, row.outcome) for row in rows] == [
        (S.CLOSED, "fixed"),
        (S.CLOSED, "unfixed"),
        (S.RESOLVED, "fixed"),
    ]
    assert (await events_of(fixed))[-1] == "hazard.closed"
    told = await story.get(story.reporter, f"/v1/hazards/{unfixed}/timeline")
    assert (told["items"][-1]["actor"], told["items"][-1]["data"]["outcome"]) == ("system", "unfixed")
    assert (await story.take(story.reporter, fixed, "rate", {"score": 4}))["rating"] == 4


async def test_whoever_has_no_reporter_waits_for_nobody(story: Story) -> None:
    hazard_id = await story.hazard(S.ACCEPTED, story.worker)
    await story.resolve(hazard_id)
    await show_to_public(hazard_id)
    problem(await story.step(story.reporter, hazard_id, "confirm"), 403, "not_the_reporter")


async def test_a_rating_is_one_to_five(story: Story) -> None:
    hazard_id = await story.hazard(S.RESOLVED)
    for score in (0, 6, -1, 3.5, "5", True, None):
        response = await story.step(story.reporter, hazard_id, "rate", {"score": score})
        assert complaints(problem(response, 422, "invalid_input"))[0][0] == "body.score"
    assert (await row_of(hazard_id)).rating is None
