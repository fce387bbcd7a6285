"""The chain over HTTP: the whole story, every step by everybody in every state, refusals, disputes and endings."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import httpx
import pytest
from sqlalchemy import func, select

from app.db import database
from app.ids import new_id
from app.models.events import Audience, Event
from app.models.hazards import HazardStatus
from app.models.media import MediaPurpose
from app.models.staff import Role
from app.policy import POLICY
from app.services import hazards
from tests.factories import Person, give_role, make_staff
from tests.stories import (
    Json,
    Story,
    assert_clocks,
    begin,
    complaints,
    events_of,
    everything_about,
    parts_of,
    pictures,
    problem,
    row_of,
    show_to_public,
)

S = HazardStatus
AFTER = MediaPurpose.HAZARD_AFTER


async def test_the_whole_story(story: Story) -> None:
    """The grid calls, the street dispatches, the department checks in and resolves, the reporter confirms and rates."""
    hazard = await story.file(anonymous=False)
    hazard_id = hazard["id"]

    taken = await story.accept(hazard_id)
    assert (taken["status"], taken["level"], taken["handler"]["id"]) == (
        "accepted",
        "grid",
        str(story.worker.id),
    )
    assert taken["due_at"] == hazard["due_at"]

    called = await story.call(hazard_id, "需要消防部门执法")
    assert (called["status"], called["level"]) == ("called", "street")

    dispatched = await story.dispatch(hazard_id)
    assert (dispatched["status"], dispatched["level"], dispatched["hops"]) == ("dispatched", "department", 1)
    (part,) = dispatched["departments"]
    assert (part["organisation_id"], part["role"], part["status"]) == (
        str(story.department),
        "lead",
        "assigned",
    )
    assert (part["name"], part["name_en"], part["binding"]) == ("测试单位", "Test Department", False)

    on_site = await story.check_in(hazard_id)
    (part,) = on_site["departments"]
    assert (on_site["status"], part["status"]) == ("checked_in", "checked_in")
    assert part["checked_in_at"] is not None
    assert part["distance_m"] == 0
    (assignment,) = await parts_of(hazard_id)
    assert assignment.officer_id == story.officer.id
    spot = story.places.centres[story.places.grid]
    assert (assignment.checked_in_lng, assignment.checked_in_lat) == spot

    after = await pictures(story.officer, AFTER, 2)
    settled = await story.resolve(hazard_id, story.officer, media_ids=after, note="已清理并张贴封条")
    assert (settled["status"], settled["level"], settled["outcome"]) == ("resolved", None, "fixed")
    assert [photo["id"] for photo in settled["after_photos"]] == after
    assert (settled["due_at"], settled["departments"][0]["status"]) == (None, "done")
    assert settled["dispute_until"] is not None

    closed = await story.confirm(hazard_id)
    assert (closed["status"], closed["outcome"]) == ("closed", "fixed")
    rated = await story.take(story.reporter, hazard_id, "rate", {"score": 5, "comment": "很快"})
    assert rated["rating"] == 5
    problem(await story.step(story.reporter, hazard_id, "rate", {"score": 1}), 409, "already_rated")

    steps = [
        ("hazard.filed", "reporter", None),
        ("hazard.accepted", "grid", None),
        ("hazard.called", "grid", "需要消防部门执法"),
        ("hazard.dispatched", "street", None),
        ("hazard.checked_in", "department", None),
        ("hazard.resolved", "department", "已清理并张贴封条"),
        ("hazard.confirmed", "reporter", None),
        ("hazard.rated", "reporter", None),
    ]
    for reader in (story.reporter, story.worker, story.officer):
        told = await story.get(reader, f"/v1/hazards/{hazard_id}/timeline")
        assert [(each["type"], each["actor"], each["text"]) for each in told["items"]] == steps
        assert [each["seq"] for each in told["items"]] == list(range(1, 9))
    assert await events_of(hazard_id) == [type_ for type_, _, _ in steps]
    await assert_clocks(hazard_id, ["grid", "street", "department"], running=False)


@dataclass(frozen=True)
class Turn:
    """One step: in which status it is tried, who may take it, and what has to be sent."""

    action: str
    operation: str
    status: HazardStatus
    who: tuple[str, ...]
    body: Callable[[Story], Awaitable[Json]] | Json = field(default_factory=dict)

    async def send(self, story: Story, who: Person, hazard_id: str) -> httpx.Response:
        body = self.body if isinstance(self.body, dict) else await self.body(story)
        return await story.step(who, hazard_id, self.action, body or None)


async def _worker(story: Story) -> Json:
    return {"staff_id": str(story.worker.id)}


async def _lead(story: Story) -> Json:
    return {"lead_organisation_id": str(story.department)}


async def _spot(story: Story) -> Json:
    return {"location": story.places.point(story.places.grid)}


async def _primary(story: Story) -> Json:
    return {"into_id": (await story.file(story.neighbour))["id"]}


UNFIXED: Json = {"outcome": "unfixed", "unfixed_reason": "needs_capital_works"}
COMMUNITY = ("worker", "colleague", "manager")
TURNS = [
    Turn("support", "support_hazard", S.FILED, ("neighbour",)),
    Turn("accept", "accept_hazard", S.FILED, ("worker", "colleague")),
    Turn("assign", "assign_hazard", S.FILED, ("manager",), _worker),
    Turn("call", "call_street", S.ACCEPTED, ("worker",)),
    Turn("dispatch", "dispatch_hazard", S.CALLED, ("dispatcher",), _lead),
    Turn("refuse", "refuse_hazard", S.DISPATCHED, ("officer",), {"reason": "不属于我单位职责"}),
    Turn("check-in", "check_in_hazard", S.DISPATCHED, ("officer",), _spot),
    Turn("resolve", "resolve_hazard", S.ACCEPTED, ("worker",), UNFIXED),
    Turn("resolve", "resolve_hazard", S.CALLED, ("dispatcher",), UNFIXED),
    Turn("resolve", "resolve_hazard", S.CHECKED_IN, ("officer",), UNFIXED),
    Turn("confirm", "confirm_hazard", S.RESOLVED, ("reporter",)),
    Turn("dispute", "dispute_hazard", S.RESOLVED, ("reporter",), {"reason": "没有解决"}),
    Turn("rate", "rate_hazard", S.RESOLVED, ("reporter",), {"score": 3}),
    Turn("merge", "merge_hazard", S.FILED, (*COMMUNITY, "dispatcher"), _primary),
    Turn("reject", "reject_hazard", S.FILED, (*COMMUNITY, "dispatcher"), {"reason": "abuse"}),
    Turn("reject", "reject_hazard", S.ACCEPTED, ("worker", "manager", "dispatcher"), {"reason": "abuse"}),
    Turn("reject", "reject_hazard", S.CALLED, ("worker", "manager", "dispatcher"), {"reason": "abuse"}),
    Turn("redactions", "redact_hazard", S.FILED, ("manager", "dispatcher"), {"hide": True, "reason": "abuse"}),
]  # fmt: skip
EVERYBODY = (
    "reporter",
    "neighbour",
    "worker",
    "colleague",
    "manager",
    "dispatcher",
    "officer",
    "second_officer",
)
ALSO_ALLOWED = {
    "confirm": (S.RESOLVED,),
    "rate": (S.RESOLVED, S.CLOSED),
    "resolve": (S.ACCEPTED, S.CALLED, S.CHECKED_IN),
    "assign": (S.FILED, S.ACCEPTED),
    "support": (S.FILED, S.ACCEPTED, S.CALLED, S.DISPATCHED, S.CHECKED_IN),
    "merge": (S.FILED, S.ACCEPTED, S.CALLED, S.DISPATCHED, S.CHECKED_IN),
    "reject": (S.FILED, S.ACCEPTED, S.CALLED),
    "redactions": tuple(S),
}


@pytest.mark.parametrize("turn", TURNS, ids=lambda turn: f"{turn.action} when {turn.status}")
async def test_a_step_belongs_to_somebody(story: Story, turn: Turn) -> None:
    """Everybody else is refused, which leaves nothing but an audit entry; then the right person takes it."""
    hazard_id = await story.hazard(turn.status)
    before = await everything_about(hazard_id)
    for name in EVERYBODY:
        if name in turn.who:
            continue
        who: Person = getattr(story, name)
        denied = await _denials(who)
        response = await turn.send(story, who, hazard_id)
        unseen = name == "second_officer" or (
            name == "officer" and turn.status in (S.FILED, S.ACCEPTED, S.CALLED)
        )
        if unseen and Role.DEPARTMENT_OFFICER in POLICY[turn.operation].roles:
            problem(response, 404, "not_found")
            assert await _denials(who) == denied
        else:
            assert response.json()["code"] in _NOT_THEIRS, name
            assert response.status_code == (409 if response.json()["code"] == "own_hazard" else 403)
            assert await _denials(who) == denied + 1
    assert await everything_about(hazard_id) == before
    response = await turn.send(story, getattr(story, turn.who[-1]), hazard_id)
    assert response.status_code == 200, response.text


_NOT_THEIRS = ("forbidden", "not_the_handler", "not_the_reporter", "own_hazard")


@pytest.mark.parametrize("status", S)
async def test_a_step_out_of_turn_leaves_nothing(story: Story, status: HazardStatus) -> None:
    """Whoever may take a step in another state gets 409, or 404 where the hazard is not theirs to see any more."""
    hazard_id = await story.hazard(status)
    await show_to_public(hazard_id)
    before = await everything_about(hazard_id)
    merged_into = (await row_of(hazard_id)).duplicate_of_id
    tried = 0
    for turn in TURNS:
        if status in ALSO_ALLOWED.get(turn.action, (turn.status,)):
            continue
        tried += 1
        response = await turn.send(story, getattr(story, turn.who[-1]), hazard_id)
        called_off = turn.who == ("officer",) and not await parts_of(hazard_id)
        hidden = turn.who[-1] == "neighbour" and status is S.REJECTED
        if called_off or hidden:
            problem(response, 404, "not_found")
        elif turn.action == "resolve" and status is S.DISPATCHED and turn.who != ("officer",):
            problem(response, 403, "forbidden")
        elif merged_into is not None:
            answer = problem(response, 409, "hazard_merged")
            assert answer["merged_into"] == str(merged_into)
        else:
            problem(response, 409, _why(turn, status))
    assert tried >= 7
    assert await everything_about(hazard_id) == before


def _why(turn: Turn, status: HazardStatus) -> str:
    if turn.action == "accept" and status is not S.REJECTED:
        return "hazard_already_taken"
    if turn.action == "dispute" and status is S.CLOSED:
        return "dispute_too_late"
    if turn.action in ("check-in", "refuse"):
        return "wrong_assignment_status"
    return "wrong_hazard_status"


async def test_a_role_held_elsewhere_does_not_reach_here(story: Story) -> None:
    """An auditor sees everything in the district; being an officer of some department adds nothing to it."""
    hazard_id = await story.hazard(S.CALLED)
    both = await make_staff(Role.AUDITOR, story.places.district)
    await give_role(both, Role.DEPARTMENT_OFFICER, organisation_id=story.second_department)
    await give_role(both, Role.STREET_DISPATCHER, story.places.far_street)
    assert (await story.get(both, f"/v1/hazards/{hazard_id}"))["id"] == hazard_id
    before = await everything_about(hazard_id)
    for action, body in (
        ("resolve", UNFIXED),
        ("dispatch", await _lead(story)),
        ("check-in", await _spot(story)),
        ("comments", {"text": "路过"}),
        ("reject", {"reason": "abuse"}),
    ):
        problem(await story.step(both, hazard_id, action, body), 403, "forbidden")
    assert await everything_about(hazard_id) == before


async def test_a_lost_grant_bites_on_the_next_call(story: Story) -> None:
    hazard_id = await story.hazard(S.FILED)
    worker = await make_staff()
    problem(await story.step(worker, hazard_id, "accept"), 403, "forbidden")
    await give_role(worker, Role.GRID_WORKER, story.places.grid)
    assert (await story.accept(hazard_id, worker))["handler"]["id"] == str(worker.id)


class TestManagement:
    """Assigned, handed over, rejected."""

    async def test_a_manager_assigns_and_assigns_again(self, story: Story) -> None:
        hazard_id = await story.hazard(S.FILED)
        first = await story.take(story.manager, hazard_id, "assign", {"staff_id": str(story.worker.id)})
        assert (first["status"], first["handler"]["id"]) == ("accepted", str(story.worker.id))
        problem(await story.step(story.colleague, hazard_id, "accept"), 409, "hazard_already_taken")
        second = await story.take(story.manager, hazard_id, "assign", {"staff_id": str(story.colleague.id)})
        assert (second["handler"]["id"], second["accepted_at"]) == (
            str(story.colleague.id),
            first["accepted_at"],
        )
        problem(await story.step(story.worker, hazard_id, "call"), 403, "not_the_handler")
        assert await events_of(hazard_id) == ["hazard.filed", "hazard.assigned", "hazard.assigned"]

    async def test_only_to_a_grid_worker_of_the_place(self, story: Story) -> None:
        hazard_id = await story.hazard(S.FILED)
        elsewhere = await make_staff(Role.GRID_WORKER, story.places.other_grid)
        for staff_id in (elsewhere.id, story.manager.id, story.officer.id, new_id()):
            answer = problem(
                await story.step(story.manager, hazard_id, "assign", {"staff_id": str(staff_id)}),
                422,
                "invalid_input",
            )
            assert complaints(answer) == [("body.staff_id", "not_a_grid_worker_here")]
        assert (await row_of(hazard_id)).handler_id is None

    async def test_a_colleague_takes_over_what_is_open(self, client: httpx.AsyncClient) -> None:
        story = await begin(client)
        statuses = (S.ACCEPTED, S.CALLED, S.CHECKED_IN, S.RESOLVED, S.CLOSED)
        ids = [await story.hazard(status) for status in statuses]
        untouched = (await story.file())["id"]
        await story.accept(untouched, story.colleague)
        async with database.transaction() as session:
            moved = await hazards.hand_over(
                session, await story.manager.caller(), story.worker.id, story.colleague.id
            )
        assert moved == 4
        handlers = [(await row_of(each)).handler_id for each in ids]
        assert handlers == [story.colleague.id] * 4 + [story.worker.id]
        assert (await events_of(ids[0], Audience.STAFF)) == ["hazard.handed_over"]
        assert "hazard.handed_over" not in await events_of(untouched)
        await story.take(story.colleague, ids[0], "call")
        back = await story.dispute(ids[3])
        assert back["handler"]["id"] == str(story.colleague.id)

    async def test_nobody_takes_over_where_they_do_not_work(self, client: httpx.AsyncClient) -> None:
        story = await begin(client)
        hazard_id = await story.hazard(S.ACCEPTED)
        elsewhere = await make_staff(Role.GRID_WORKER, story.places.other_grid)
        outsider = await make_staff(Role.COMMUNITY_MANAGER, story.places.neighbour)
        manager, other = await story.manager.caller(), await outsider.caller()
        async with database.transaction() as session:
            assert await hazards.hand_over(session, other, story.worker.id, story.colleague.id) == 0
        with pytest.raises(Exception, match="not a grid worker"):
            async with database.transaction() as session:
                await hazards.hand_over(session, manager, story.worker.id, elsewhere.id)
        assert (await row_of(hazard_id)).handler_id == story.worker.id

    async def test_a_rejected_report_tells_why_and_is_not_shown(self, story: Story) -> None:
        hazard_id = await story.hazard(S.ACCEPTED)
        await show_to_public(hazard_id)
        body = {"reason": "not_a_hazard", "note": "这是施工围挡，已与施工方核实"}
        rejected = await story.take(story.manager, hazard_id, "reject", body)
        assert (rejected["status"], rejected["reject_reason"], rejected["due_at"]) == (
            "rejected",
            "not_a_hazard",
            None,
        )
        told = await story.get(story.reporter, f"/v1/hazards/{hazard_id}/timeline")
        last = told["items"][-1]
        assert (last["data"]["reason"], last["text"]) == ("not_a_hazard", "这是施工围挡，已与施工方核实")
        response = await story.client.get(f"/v1/hazards/{hazard_id}", headers=story.neighbour.headers)
        problem(response, 404, "not_found")
        await assert_clocks(hazard_id, ["grid"], running=False)


async def _denials(who: Person) -> int:
    """How many audit entries there are about refusals of somebody."""
    async with database.reading() as session:
        query = select(func.count()).where(
            Event.actor_id == who.id, Event.type == "access.denied", Event.audience == Audience.AUDIT
        )
        return await session.scalar(query) or 0
