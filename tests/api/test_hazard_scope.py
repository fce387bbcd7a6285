"""Places are walls: staff of one street do not learn that a hazard of another one exists, whatever they ask."""

import httpx
import pytest

from app.ids import new_id
from app.models.hazards import HazardStatus
from app.models.staff import Role
from app.operation import Operation
from app.policy import POLICY
from app.routers import hazards, residents
from tests.factories import Person, make_organisation, make_staff
from tests.stories import Json, Story, problem, row_of

ROUTES = {
    route.operation_id: route
    for router in (hazards.router, residents.router)
    for route in router.routes
    if isinstance(route, Operation) and "{hazard_id}" in route.path_format
}
FOR_STAFF = sorted(name for name in map(str, ROUTES) if POLICY[name].roles)


def _bodies(story: Story, staff: Person, elsewhere: str) -> dict[str, Json]:
    """A good body for each operation that needs one."""
    return {
        "assign_hazard": {"staff_id": str(staff.id)},
        "dispatch_hazard": {"lead_organisation_id": str(story.department)},
        "refuse_hazard": {"reason": "不属于我单位职责"},
        "check_in_hazard": {"location": story.spot},
        "resolve_hazard": {"outcome": "unfixed", "unfixed_reason": "owner_refuses"},
        "merge_hazard": {"into_id": elsewhere},
        "reject_hazard": {"reason": "abuse"},
        "redact_hazard": {"hide": True, "reason": "abuse"},
        "review_hazard": {"part_id": elsewhere, "decision": "hide", "reason": "复核"},
        "add_hazard_comment": {"text": "路过", "visibility": "internal"},
        "reveal_hazard_reporter": {"fields": ["phone"], "reason": "现场核实，需要联系"},
    }


def test_every_operation_on_a_hazard_is_asked() -> None:
    assert len(ROUTES) >= 19
    assert len(FOR_STAFF) >= 15


@pytest.mark.parametrize("operation", FOR_STAFF)
async def test_another_streets_hazard_does_not_exist(story: Story, operation: str) -> None:
    """The answer is the one that an id gets which nothing has."""
    status = HazardStatus.CHECKED_IN if operation == "resolve_hazard" else HazardStatus.FILED
    hazard_id = await story.hazard(status)
    before = (await row_of(hazard_id)).version
    for role in POLICY[operation].roles:
        if role is Role.DEPARTMENT_OFFICER:
            elsewhere = await make_organisation(story.places.far_street)
            who = await make_staff(role, organisation_id=elsewhere)
        else:
            who = await make_staff(role, story.places.far_street)
        theirs = (await story.file(location=story.places.point(story.places.far_grid)))["id"]
        answers = []
        for each in (hazard_id, str(new_id())):
            response = await _ask(story, who, operation, each, theirs)
            answer = problem(response, 404, "not_found")
            answers.append({name: answer[name] for name in ("type", "title", "status", "detail", "code")})
        assert answers[0] == answers[1]
    assert (await row_of(hazard_id)).version == before


async def test_the_same_staff_are_served_at_home(story: Story) -> None:
    """The walls are not there because everything is refused."""
    at_home = (await story.file(location=story.places.point(story.places.far_grid)))["id"]
    who = await make_staff(Role.STREET_DISPATCHER, story.places.far_street)
    for operation in ("read_hazard", "read_hazard_timeline", "list_hazard_comments", "add_hazard_comment"):
        response = await _ask(story, who, operation, at_home, at_home)
        assert response.is_success, response.text


async def _ask(story: Story, who: Person, operation: str, hazard_id: str, elsewhere: str) -> httpx.Response:
    route = ROUTES[operation]
    path = route.path_format.replace("{hazard_id}", hazard_id)
    assert route.methods is not None
    (method,) = route.methods
    body = _bodies(story, who, elsewhere).get(operation)
    return await story.client.request(method, path, json=body, headers=who.headers)
