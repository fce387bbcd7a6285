"""街道处置 and 部门报到: refused once, then decided; one department leads, others join."""

from uuid import UUID

import pytest

from app.db import database
from app.ids import new_id
from app.models.hazards import HazardStatus
from app.models.media import MediaPurpose
from app.models.organisations import Organisation
from app.models.staff import Role
from tests.factories import make_organisation, make_staff
from tests.stories import (
    Story,
    assert_clocks,
    complaints,
    events_of,
    parts_of,
    pictures,
    problem,
    row_of,
)

S = HazardStatus
AFTER = MediaPurpose.HAZARD_AFTER


async def test_the_second_refusal_makes_the_street_decide(story: Story) -> None:
    hazard_id = await story.hazard(S.DISPATCHED)
    refused = await story.refuse(hazard_id)
    assert (refused["status"], refused["level"], refused["refusals"]) == ("called", "street", 1)
    assert refused["decision_forced"] is False

    await story.dispatch(hazard_id)
    again = await story.step(story.officer, hazard_id, "refuse", {"reason": "还是不属于"})
    problem(again, 409, "refusal_not_allowed")

    other = await story.hazard(S.DISPATCHED)
    await story.refuse(other)
    await story.dispatch(other, story.second_department)
    forced = await story.refuse(other, story.second_officer)
    assert (forced["status"], forced["refusals"], forced["decision_forced"]) == ("called", 2, True)

    bound = await story.dispatch(other, await make_organisation(story.places.district))
    assert (bound["departments"][-1]["binding"], bound["hops"]) == (True, 5)
    third = await make_staff(
        Role.DEPARTMENT_OFFICER, organisation_id=UUID(bound["departments"][-1]["organisation_id"])
    )
    problem(await story.step(third, other, "refuse", {"reason": "不"}), 409, "refusal_not_allowed")
    assert (await story.check_in(other, third))["status"] == "checked_in"
    assert (await story.resolve(other, third))["departments"][-1]["status"] == "done"
    await assert_clocks(
        other,
        ["grid", "street", "department", "street", "department", "street", "department"],
        running=False,
    )


async def test_the_street_may_settle_it_itself(story: Story) -> None:
    hazard_id = await story.hazard(S.DISPATCHED)
    await story.refuse(hazard_id)
    settled = await story.resolve(hazard_id, story.dispatcher)
    assert (settled["status"], settled["outcome"]) == ("resolved", "fixed")
    told = await story.get(story.reporter, f"/v1/hazards/{hazard_id}/timeline")
    assert told["items"][-1]["actor"] == "street"


async def test_a_joint_department_does_its_part(story: Story) -> None:
    hazard_id = await story.hazard(S.CALLED)
    idle = await make_organisation(story.places.district)
    idle_officer = await make_staff(Role.DEPARTMENT_OFFICER, organisation_id=idle)
    await story.dispatch(hazard_id, story.department, story.second_department, idle)

    joined = await story.check_in(hazard_id, story.second_officer)
    assert joined["status"] == "dispatched"
    problem(
        await story.step(story.second_officer, hazard_id, "check-in", {"location": story.spot}),
        409,
        "wrong_assignment_status",
    )
    await story.check_in(hazard_id)
    photos = await pictures(story.second_officer, AFTER)
    part = await story.resolve(hazard_id, story.second_officer, media_ids=photos, note="电线已拆除")
    assert (part["status"], part["outcome"]) == ("checked_in", None)
    assert [photo["id"] for photo in part["after_photos"]] == photos
    states = {each["organisation_id"]: each["status"] for each in part["departments"]}
    assert states[str(story.second_department)] == "done"

    settled = await story.resolve(hazard_id, story.officer)
    assert [each["status"] for each in settled["departments"]] == ["done", "done", "released"]
    problem(await story.step(idle_officer, hazard_id, "check-in", {"location": story.spot}), 404, "not_found")
    types = await events_of(hazard_id)
    assert types[-4:] == ["hazard.checked_in", "hazard.checked_in", "hazard.part_done", "hazard.resolved"]


async def test_a_joint_refusal_does_not_send_it_back(story: Story) -> None:
    hazard_id = await story.hazard(S.CALLED)
    await story.dispatch(hazard_id, story.department, story.second_department)
    refused = await story.refuse(hazard_id, story.second_officer)
    assert (refused["status"], refused["refusals"]) == ("dispatched", 0)
    assert (await story.check_in(hazard_id))["status"] == "checked_in"


async def test_the_leads_refusal_releases_the_others(story: Story) -> None:
    hazard_id = await story.hazard(S.CALLED)
    await story.dispatch(hazard_id, story.department, story.second_department)
    await story.refuse(hazard_id)
    states = [part.status for part in await parts_of(hazard_id)]
    assert states == ["refused", "released"]
    problem(await story.step(story.second_officer, hazard_id, "refuse", {"reason": "不"}), 404, "not_found")


async def test_who_can_be_dispatched(story: Story) -> None:
    hazard_id = await story.hazard(S.CALLED)
    closed_down = await make_organisation(story.places.district)
    async with database.transaction() as session:
        (await session.get_one(Organisation, closed_down)).active = False
    lead, other = str(story.department), str(story.second_department)
    wrong = [
        (str(new_id()), [], ["body.lead_organisation_id"]),
        (str(closed_down), [], ["body.lead_organisation_id"]),
        (lead, [lead], ["body.joint_organisation_ids.0"]),
        (lead, [other, other, str(new_id())], ["body.joint_organisation_ids.1", "body.joint_organisation_ids.2"]),
    ]  # fmt: skip
    for first, joint, locs in wrong:
        body = {"lead_organisation_id": first, "joint_organisation_ids": joint}
        answer = problem(
            await story.step(story.dispatcher, hazard_id, "dispatch", body), 422, "unknown_organisation"
        )
        assert complaints(answer) == [(loc, "unknown_organisation") for loc in locs]
    assert await parts_of(hazard_id) == []
    assert (await row_of(hazard_id)).hops == 0


async def test_check_in_tells_how_far_away(story: Story) -> None:
    hazard_id = await story.hazard(S.DISPATCHED)
    lng, lat = story.places.centres[story.places.grid]
    body = {"location": {"lng": lng, "lat": lat + 0.01}, "note": "在路口"}
    on_site = await story.take(story.officer, hazard_id, "check-in", body)
    assert on_site["departments"][0]["distance_m"] == pytest.approx(1112, abs=3)
    told = await story.get(story.reporter, f"/v1/hazards/{hazard_id}/timeline")
    assert told["items"][-1]["data"]["distance_m"] == on_site["departments"][0]["distance_m"]
    assert told["items"][-1]["text"] == "在路口"
