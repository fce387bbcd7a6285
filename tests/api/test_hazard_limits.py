"""Where a step ends: one's own report, a result disputed too often, an officer who is elsewhere, what is gone already."""

import pytest

from app.models.hazards import HazardStatus
from app.settings import settings
from tests.stories import Story, complaints, events_of, problem, row_of, show_to_public

S = HazardStatus


async def test_a_reporter_does_not_support_their_own(story: Story) -> None:
    hazard_id = await story.hazard(S.FILED)
    await show_to_public(hazard_id)
    problem(await story.step(story.reporter, hazard_id, "support"), 409, "own_hazard")
    assert (await row_of(hazard_id)).supporters == 0


async def test_taking_it_again_changes_nothing(story: Story) -> None:
    hazard_id = await story.hazard(S.ACCEPTED)
    before, version = await events_of(hazard_id), (await row_of(hazard_id)).version
    again = await story.accept(hazard_id)
    assert (again["status"], again["version"]) == ("accepted", version)
    problem(await story.step(story.colleague, hazard_id, "accept"), 409, "hazard_already_taken")
    assert await events_of(hazard_id) == before


async def test_disputes_come_to_an_end(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "hazard_dispute_limit", 1)
    hazard_id = await story.hazard(S.ACCEPTED)
    unfixed = {"outcome": "unfixed", "unfixed_reason": "owner_refuses"}
    await story.take(story.worker, hazard_id, "resolve", unfixed)
    await story.dispute(hazard_id)
    await story.take(story.worker, hazard_id, "resolve", unfixed)
    refused = await story.step(story.reporter, hazard_id, "dispute", {"reason": "还在"})
    assert "12345" in problem(refused, 409, "too_many_disputes")["detail"]
    assert (await row_of(hazard_id)).status is S.RESOLVED


async def test_who_is_far_away_is_not_on_site(story: Story) -> None:
    hazard_id = await story.hazard(S.DISPATCHED)
    row = await row_of(hazard_id)
    far = {"location": {"lng": row.lng, "lat": row.lat + 0.5}}
    refused = problem(await story.step(story.officer, hazard_id, "check-in", far), 422, "invalid_input")
    assert complaints(refused) == [("body.location", "too_far")]
    near = {"location": {"lng": row.lng, "lat": row.lat + 0.3}}
    shown = await story.take(story.officer, hazard_id, "check-in", near)
    assert 30_000 < shown["departments"][0]["distance_m"] < 35_000


async def test_what_is_erased_is_not_erased_again(story: Story) -> None:
    hazard_id = await story.hazard(S.FILED)
    said = await story.take(story.worker, hazard_id, "comments", {"text": "请看"})
    for order in ({"description": True}, {"hide": True}, {"comment_ids": [said["id"]]}):
        body = order | {"reason": "personal_data"}
        await story.take(story.manager, hazard_id, "redactions", body)
        before = await events_of(hazard_id)
        problem(await story.step(story.manager, hazard_id, "redactions", body), 422, "nothing_to_redact")
        assert await events_of(hazard_id) == before


@pytest.mark.parametrize("purpose", ["account", "hazard_reports"])
async def test_what_nobody_was_asked_cannot_be_withdrawn(story: Story, purpose: str) -> None:
    path = f"/v1/me/consents/{purpose}"
    refused = await story.client.delete(path, headers=story.reporter.headers)
    assert "DELETE /v1/me" in problem(refused, 409, "consent_not_withdrawable")["detail"]
