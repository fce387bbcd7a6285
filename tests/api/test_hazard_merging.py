"""Duplicates: supporters and updates follow into the hazard that goes on, and the other one says where it went."""

from uuid import UUID

import httpx
import pytest
from sqlalchemy import select

from app.db import database
from app.models.hazard_comments import HazardSupport
from app.models.hazards import HazardStatus
from app.models.staff import Role
from tests.factories import Person, make_resident, make_staff
from tests.stories import Json, Story, begin, events_of, pictures, problem, row_of, show_to_public

S = HazardStatus


async def test_me_too_counts_each_resident_once(story: Story) -> None:
    hazard_id = await story.hazard(S.CALLED)
    first = await story.take(story.neighbour, hazard_id, "support")
    again = await story.take(story.neighbour, hazard_id, "support")
    problem(await story.step(story.reporter, hazard_id, "support"), 409, "own_hazard")
    assert (first["supporters"], first["supported"]) == (1, True)
    assert (again["supporters"], again["supported"]) == (1, True)
    assert (await events_of(hazard_id)).count("hazard.supported") == 1
    assert await _supporters(hazard_id) == {story.neighbour.id}


async def test_everybody_who_saw_it_counts_once_on_the_other(client: httpx.AsyncClient) -> None:
    """Both were seen by one neighbour; the reporter of each supports the other, if at all."""
    story = await begin(client)
    other, third = await make_resident(), await make_resident()
    primary, duplicate = (await story.file())["id"], (await story.file(other))["id"]
    for who, hazard_id in (
        (story.neighbour, primary),
        (story.neighbour, duplicate),
        (third, duplicate),
        (story.reporter, duplicate),
    ):
        await story.take(who, hazard_id, "support")

    merged = await story.take(story.worker, duplicate, "merge", {"into_id": primary})

    assert (merged["status"], merged["duplicate_of_id"]) == ("merged", primary)
    assert (merged["level"], merged["due_at"]) == (None, None)
    assert merged["closed_at"] is not None
    assert await _supporters(primary) == {story.neighbour.id, third.id, other.id}
    assert (await row_of(primary)).supporters == 3
    assert (await events_of(primary))[-1] == "hazard.supported"
    assert (await events_of(duplicate))[-1] == "hazard.merged"


async def test_updates_follow_and_new_ones_are_sent_on(story: Story) -> None:
    primary, duplicate = (await story.file())["id"], (await story.file(story.neighbour))["id"]
    for who, visibility in (
        (story.neighbour, "public"),
        (story.worker, "public"),
        (story.worker, "internal"),
    ):
        said = {"text": f"{visibility} of {who.id}", "visibility": visibility}
        await story.take(who, duplicate, "comments", said)
    await story.take(story.worker, duplicate, "merge", {"into_id": primary})

    kept = await story.get(story.worker, f"/v1/hazards/{primary}/comments")
    assert [each["text"] for each in kept["items"]] == [
        f"public of {story.neighbour.id}",
        f"public of {story.worker.id}",
        f"internal of {story.worker.id}",
    ]
    assert (await story.get(story.worker, f"/v1/hazards/{duplicate}/comments"))["items"] == []
    late: list[tuple[Person, str, Json | None]] = [
        (story.neighbour, "comments", {"text": "还有人管吗"}),
        (story.worker, "comments", {"text": "补充", "visibility": "internal"}),
        (story.reporter, "support", None),
        (story.worker, "accept", None),
    ]
    for who, action, body in late:
        answer = problem(await story.step(who, duplicate, action, body), 409, "hazard_merged")
        assert answer["merged_into"] == primary
    told = await story.get(story.neighbour, f"/v1/hazards/{duplicate}/timeline")
    assert told["items"][-1]["data"]["merged_into"] == primary


async def test_a_department_is_called_off(story: Story) -> None:
    primary, duplicate = (await story.file())["id"], await story.hazard(S.CHECKED_IN)
    await story.take(story.dispatcher, duplicate, "merge", {"into_id": primary})
    body = {"media_ids": await pictures(story.officer)}
    problem(await story.step(story.officer, duplicate, "resolve", body), 404, "not_found")


@pytest.mark.parametrize("status", [S.RESOLVED, S.CLOSED, S.REJECTED, S.MERGED])
async def test_only_into_one_that_goes_on(story: Story, status: HazardStatus) -> None:
    over, hazard_id = await story.hazard(status), await story.hazard(S.FILED)
    problem(await story.step(story.worker, hazard_id, "merge", {"into_id": over}), 409, "cannot_merge")
    assert (await row_of(hazard_id)).status is S.FILED


async def test_not_into_itself_nor_into_another_community(story: Story) -> None:
    hazard_id = await story.hazard(S.FILED)
    beside = (await story.file(location=story.places.point(story.places.neighbour_grid)))["id"]
    far = (await story.file(location=story.places.point(story.places.far_grid)))["id"]
    for into, status, code in (
        (hazard_id, 409, "cannot_merge"),
        (beside, 409, "cannot_merge"),
        (far, 404, "not_found"),
    ):
        problem(await story.step(story.dispatcher, hazard_id, "merge", {"into_id": into}), status, code)
    assert await events_of(hazard_id) == ["hazard.filed"]


async def test_two_grids_of_one_community(story: Story) -> None:
    """Whoever works in one of them only cannot merge into the other, the community's manager can."""
    here = await story.hazard(S.FILED)
    there = (await story.file(location=story.places.point(story.places.other_grid)))["id"]
    problem(await story.step(story.worker, here, "merge", {"into_id": there}), 404, "not_found")
    assert (await story.take(story.manager, here, "merge", {"into_id": there}))["status"] == "merged"


async def test_what_is_merged_stays_on_the_public_record(story: Story) -> None:
    primary, duplicate = (await story.file())["id"], (await story.file(story.neighbour))["id"]
    await show_to_public(primary, duplicate)
    await story.take(story.worker, duplicate, "merge", {"into_id": primary})
    stranger = await make_resident()
    seen = await story.get(stranger, f"/v1/hazards/{duplicate}")
    assert (seen["status"], seen["duplicate_of_id"]) == ("merged", primary)


async def test_a_chain_of_merges_ends_in_one(story: Story) -> None:
    first, second, third = [(await story.file(who))["id"] for who in await _three(story)]
    await story.take(story.worker, first, "merge", {"into_id": second})
    await story.take(story.worker, second, "merge", {"into_id": third})
    assert (await row_of(third)).supporters == 2
    problem(await story.step(story.worker, third, "merge", {"into_id": first}), 409, "cannot_merge")


async def _three(story: Story) -> list[Person]:
    return [story.reporter, story.neighbour, await make_resident()]


async def test_an_auditor_only_looks(story: Story) -> None:
    auditor = await make_staff(Role.AUDITOR, story.places.district)
    hazard_id, into = await story.hazard(S.FILED), await story.hazard(S.FILED)
    problem(await story.step(auditor, hazard_id, "merge", {"into_id": into}), 403, "forbidden")


async def _supporters(hazard_id: str) -> set[UUID]:
    async with database.reading() as session:
        rows = await session.scalars(
            select(HazardSupport.resident_id).where(HazardSupport.hazard_id == UUID(hazard_id))
        )
        return set(rows)
