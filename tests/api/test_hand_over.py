"""A worker leaves: what they had open passes to a colleague, over HTTP."""

from app.models.hazards import HazardStatus
from app.models.staff import Role
from tests.factories import make_staff
from tests.stories import Story, complaints, problem, row_of


async def test_what_is_open_changes_hands_and_what_is_closed_does_not(story: Story) -> None:
    leaving = await make_staff(Role.GRID_WORKER, story.places.grid)
    mine = [str((await story.file())["id"]) for _ in range(2)]
    for hazard_id in mine:
        await story.accept(hazard_id, leaving)
    await story.take(leaving, mine[1], "reject", {"reason": "not_a_hazard"})

    path, body = f"/v1/staff/{leaving.id}/hand-over", {"to_staff_id": str(story.colleague.id)}
    answer = await story.post(story.manager, path, body)

    assert (answer.status_code, answer.json()) == (200, {"hazards": 1})
    assert (await row_of(mine[0])).handler_id == story.colleague.id
    assert (await row_of(mine[1])).handler_id == leaving.id
    assert (await story.post(story.manager, path, body)).json() == {"hazards": 0}


async def test_only_to_another_worker_who_covers_the_place(story: Story) -> None:
    hazard_id = await story.hazard(HazardStatus.ACCEPTED)
    elsewhere = await make_staff(Role.GRID_WORKER, story.places.other_grid)
    path = f"/v1/staff/{story.worker.id}/hand-over"

    for to, code in ((story.worker, "same_person"), (elsewhere, "not_a_grid_worker_here")):
        refused = await story.post(story.manager, path, {"to_staff_id": str(to.id)})
        assert complaints(problem(refused, 422, "invalid_input")) == [("body.to_staff_id", code)]
    assert (await row_of(hazard_id)).handler_id == story.worker.id


async def test_staff_of_elsewhere_do_not_exist(story: Story) -> None:
    stranger = await make_staff(Role.GRID_WORKER, story.places.far_grid)
    body = {"to_staff_id": str(story.colleague.id)}
    problem(await story.post(story.manager, f"/v1/staff/{stranger.id}/hand-over", body), 404, "not_found")
