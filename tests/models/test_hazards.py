"""Which step may follow which: every status × every step, the parts of departments, and random walks of the chain."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from inspect import isfunction
from uuid import UUID

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from app.errors import InvalidInput, Problem
from app.ids import new_id
from app.models.hazard_assignments import (
    AssignmentRole,
    AssignmentStatus,
    HazardAssignment,
    RefusalNotAllowed,
    WrongAssignmentStatus,
)
from app.models.hazard_results import (
    AlreadyRated,
    DisputeTooLate,
    HazardOutcome,
    PhotoExemption,
    RejectReason,
    UnfixedReason,
)
from app.models.hazards import (
    FINAL_STATUSES,
    OPEN_STATUSES,
    CannotMerge,
    Hazard,
    HazardAlreadyTaken,
    HazardLevel,
    HazardMerged,
    HazardStatus,
    NotTheHandler,
    NotTheReporter,
    PublicState,
    WrongHazardStatus,
)

S = HazardStatus
NOW = datetime(2026, 11, 23, 8, tzinfo=UTC)
DISPUTE_DAYS = 7
REPORTER, WORKER, OTHER, DEPARTMENT, COMMUNITY, PRIMARY = (new_id() for _ in range(6))

Take = Callable[[Hazard], object]


def hazard_in(status: HazardStatus) -> Hazard:
    """A hazard with everything that belongs to this status."""
    taken = status not in (S.FILED, S.REJECTED, S.MERGED)
    settled = status in (S.RESOLVED, S.CLOSED)
    dispatched = status in (S.DISPATCHED, S.CHECKED_IN)
    return Hazard(
        id=new_id(),
        created_at=NOW,
        community_id=COMMUNITY,
        region_id=COMMUNITY,
        category="garbage",
        lng=104.1,
        lat=30.6,
        cell=1,
        reporter_id=REPORTER,
        anonymous=False,
        public_state=PublicState.VISIBLE,
        supporters=0,
        status=status,
        handler_id=WORKER if taken else None,
        accepted_at=NOW if taken else None,
        lead_organisation_id=DEPARTMENT if dispatched else None,
        refusals=0,
        hops=1 if dispatched else 0,
        due_at=NOW + timedelta(hours=1) if status in OPEN_STATUSES else None,
        overdue_at=None,
        resolved_at=NOW if settled else None,
        resolved_from=S.ACCEPTED if settled else None,
        outcome=HazardOutcome.FIXED if settled else None,
        dispute_until=NOW + timedelta(days=DISPUTE_DAYS) if settled else None,
        disputes=0,
        reject_reason=RejectReason.ABUSE if status is S.REJECTED else None,
        duplicate_of_id=PRIMARY if status is S.MERGED else None,
        rating=None,
        event_seq=1,
        version=1,
    )


def columns(row: Hazard | HazardAssignment) -> dict[str, object]:
    """Everything that would be stored."""
    return {column.key: getattr(row, column.key) for column in row.__table__.columns}


@dataclass(frozen=True)
class Step:
    """One step: how it is taken, where it leads from each status that allows it, and how the others refuse."""

    take: Take
    leads: Mapping[HazardStatus, HazardStatus]
    refusals: Mapping[HazardStatus, type[Problem]]

    def expected(self, status: HazardStatus) -> type[Problem]:
        """The error in a status that does not allow it."""
        if status in self.refusals:
            return self.refusals[status]
        return HazardMerged if status is S.MERGED else WrongHazardStatus


def step(
    take: Take,
    leads: Mapping[HazardStatus, HazardStatus],
    refusals: Mapping[HazardStatus, type[Problem]] | None = None,
) -> Step:
    return Step(take, leads, refusals or {})


def resolve(hazard: Hazard) -> None:
    hazard.resolve(HazardOutcome.FIXED, None, None, NOW, DISPUTE_DAYS)


def merge(hazard: Hazard) -> None:
    hazard.merge_into(hazard_in(S.FILED), NOW)


TAKEN = (S.ACCEPTED, S.CALLED, S.DISPATCHED, S.CHECKED_IN, S.RESOLVED, S.CLOSED)
SAME = {status: status for status in S}
STEPS: dict[str, Step] = {
    "accept": step(
        lambda hazard: hazard.accept(WORKER, NOW),
        {S.FILED: S.ACCEPTED},
        dict.fromkeys(TAKEN, HazardAlreadyTaken),
    ),
    "assign": step(lambda hazard: hazard.assign(OTHER, NOW), {S.FILED: S.ACCEPTED, S.ACCEPTED: S.ACCEPTED}),
    "hand_over": step(
        lambda hazard: hazard.hand_over(OTHER),
        {status: status for status in S if status not in FINAL_STATUSES},
    ),
    "call": step(lambda hazard: hazard.call(WORKER), {S.ACCEPTED: S.CALLED}),
    "dispatch": step(lambda hazard: hazard.dispatch(DEPARTMENT), {S.CALLED: S.DISPATCHED}),
    "refuse": step(lambda hazard: hazard.refuse(), {S.DISPATCHED: S.CALLED}),
    "check_in": step(lambda hazard: hazard.check_in(), {S.DISPATCHED: S.CHECKED_IN}),
    "resolve": step(resolve, dict.fromkeys((S.ACCEPTED, S.CALLED, S.CHECKED_IN), S.RESOLVED)),
    "confirm": step(lambda hazard: hazard.confirm(REPORTER, NOW), {S.RESOLVED: S.CLOSED}),
    "close_unanswered": step(
        lambda hazard: hazard.close_unanswered(NOW + timedelta(days=DISPUTE_DAYS)), {S.RESOLVED: S.CLOSED}
    ),
    "dispute": step(
        lambda hazard: hazard.dispute(REPORTER, NOW, 3), {S.RESOLVED: S.ACCEPTED}, {S.CLOSED: DisputeTooLate}
    ),
    "rate": step(lambda hazard: hazard.rate(REPORTER, 5), {S.RESOLVED: S.RESOLVED, S.CLOSED: S.CLOSED}),
    "reject": step(
        lambda hazard: hazard.reject(RejectReason.NOT_A_HAZARD, NOW),
        dict.fromkeys((S.FILED, S.ACCEPTED, S.CALLED), S.REJECTED),
    ),
    "merge_into": step(merge, dict.fromkeys(OPEN_STATUSES, S.MERGED)),
    "require_open": step(lambda hazard: hazard.require_open(), {status: status for status in OPEN_STATUSES}),
    "require_resolvable": step(
        lambda hazard: hazard.require_resolvable(),
        {status: status for status in (S.ACCEPTED, S.CALLED, S.CHECKED_IN)},
    ),
    "require_open_for_comments": step(
        lambda hazard: hazard.require_open_for_comments(),
        {status: status for status in S if status is not S.MERGED},
    ),
    "give_back": step(lambda hazard: hazard.give_back(), {S.RESOLVED: S.ACCEPTED, S.CLOSED: S.ACCEPTED}),
    "close_by_district": step(
        lambda hazard: hazard.close_by_district(HazardOutcome.FIXED, NOW),
        dict.fromkeys((*OPEN_STATUSES, S.RESOLVED), S.CLOSED),
    ),
    "hide": step(lambda hazard: hazard.hide(), SAME),
    "publish": step(lambda hazard: hazard.publish(), SAME),
    "forget_reporter": step(lambda hazard: hazard.forget_reporter(), SAME),
    "support": step(lambda hazard: hazard.support(1), SAME),
    "start_clock": step(lambda hazard: hazard.start_clock(NOW), SAME),
    "mark_overdue": step(lambda hazard: hazard.mark_overdue(NOW), SAME),
}
LOOKS = ("require_open", "require_resolvable", "require_open_for_comments")
UNCOUNTED = (*LOOKS, "support", "start_clock", "mark_overdue")


def test_every_step_of_the_model_is_in_the_table() -> None:
    public = {
        name for name, member in vars(Hazard).items() if isfunction(member) and not name.startswith("_")
    }
    assert public - {"require_handler", "require_flagged"} == STEPS.keys()


@pytest.mark.parametrize("status", S)
@pytest.mark.parametrize("name", STEPS)
def test_each_step_in_each_status(name: str, status: HazardStatus) -> None:
    tried, hazard = STEPS[name], hazard_in(status)
    before = columns(hazard)
    if status in tried.leads:
        tried.take(hazard)
        assert hazard.status is tried.leads[status]
        assert hazard.version == (1 if name in UNCOUNTED else 2)
        return
    with pytest.raises(tried.expected(status)) as refused:
        tried.take(hazard)
    assert columns(hazard) == before
    told = refused.value.extensions
    assert told.get("merged_into") == (str(PRIMARY) if isinstance(refused.value, HazardMerged) else None)
    assert told.get("status_now") == (status if isinstance(refused.value, WrongHazardStatus) else None)


@pytest.mark.parametrize(
    ("status", "level"),
    [
        (S.FILED, HazardLevel.GRID),
        (S.ACCEPTED, HazardLevel.GRID),
        (S.CALLED, HazardLevel.STREET),
        (S.DISPATCHED, HazardLevel.DEPARTMENT),
        (S.CHECKED_IN, HazardLevel.DEPARTMENT),
        (S.RESOLVED, None),
        (S.CLOSED, None),
        (S.REJECTED, None),
        (S.MERGED, None),
    ],
)
def test_who_has_to_act(status: HazardStatus, level: HazardLevel | None) -> None:
    hazard = hazard_in(status)
    assert hazard.level is level
    assert hazard.is_open is (level is not None)


@pytest.mark.parametrize("take", [STEPS["confirm"].take, STEPS["dispute"].take, STEPS["rate"].take])
@pytest.mark.parametrize("reporter", [OTHER, None])
def test_only_the_reporter_answers(take: Take, reporter: UUID | None) -> None:
    hazard = hazard_in(S.RESOLVED)
    hazard.reporter_id = reporter
    before = columns(hazard)
    with pytest.raises(NotTheReporter):
        take(hazard)
    assert columns(hazard) == before


def test_only_the_handler_calls_the_street() -> None:
    hazard = hazard_in(S.ACCEPTED)
    with pytest.raises(NotTheHandler):
        hazard.call(OTHER)
    assert hazard.status is S.ACCEPTED
    hazard.hand_over(OTHER)
    hazard.call(OTHER)
    assert (hazard.status, hazard.handler_id) == (S.CALLED, OTHER)


def test_assigning_again_keeps_when_it_was_first_taken() -> None:
    hazard = hazard_in(S.FILED)
    hazard.accept(WORKER, NOW)
    hazard.assign(OTHER, NOW + timedelta(hours=1))
    assert (hazard.handler_id, hazard.accepted_at) == (OTHER, NOW)


@pytest.mark.parametrize(
    ("outcome", "reason"),
    [(HazardOutcome.UNFIXED, None), (HazardOutcome.FIXED, UnfixedReason.OWNER_REFUSES)],
)
def test_a_reason_belongs_to_what_is_not_fixed(outcome: HazardOutcome, reason: UnfixedReason | None) -> None:
    hazard = hazard_in(S.ACCEPTED)
    before = columns(hazard)
    with pytest.raises(InvalidInput) as refused:
        hazard.resolve(outcome, reason, None, NOW, DISPUTE_DAYS)
    assert [(error.loc, error.code) for error in refused.value.fields] == [
        (("body", "unfixed_reason"), "unfixed_reason_mismatch")
    ]
    assert columns(hazard) == before


def test_a_result_says_what_why_and_until_when() -> None:
    hazard = hazard_in(S.CALLED)
    hazard.resolve(
        HazardOutcome.UNFIXED, UnfixedReason.NEEDS_CAPITAL_WORKS, PhotoExemption.UNSAFE, NOW, DISPUTE_DAYS
    )
    assert hazard.outcome is HazardOutcome.UNFIXED
    assert hazard.unfixed_reason is UnfixedReason.NEEDS_CAPITAL_WORKS
    assert hazard.exemption is PhotoExemption.UNSAFE
    assert hazard.resolved_from is S.CALLED
    assert (hazard.resolved_at, hazard.dispute_until) == (NOW, NOW + timedelta(days=7))


@pytest.mark.parametrize(
    ("outcome", "reason"),
    [(HazardOutcome.FIXED, None), (HazardOutcome.UNFIXED, UnfixedReason.OWNER_REFUSES)],
)
def test_our_reason_stays_if_the_district_did_not_fix_it_either(
    outcome: HazardOutcome, reason: UnfixedReason | None
) -> None:
    hazard = hazard_in(S.ACCEPTED)
    hazard.resolve(HazardOutcome.UNFIXED, UnfixedReason.OWNER_REFUSES, None, NOW, DISPUTE_DAYS)
    hazard.close_by_district(outcome, NOW)
    assert (hazard.status, hazard.outcome, hazard.unfixed_reason) == (S.CLOSED, outcome, reason)


@pytest.mark.parametrize("source", [S.ACCEPTED, S.CALLED, S.CHECKED_IN])
def test_a_dispute_returns_to_where_it_was_resolved(source: HazardStatus) -> None:
    hazard = hazard_in(source)
    hazard.rating = None
    resolve(hazard)
    hazard.dispute(REPORTER, NOW + timedelta(days=1), 3)
    assert (hazard.status, hazard.disputes, hazard.handler_id) == (source, 1, WORKER)
    cleared = (hazard.outcome, hazard.resolved_at, hazard.resolved_from, hazard.dispute_until)
    assert cleared == (None, None, None, None)


@pytest.mark.parametrize(("seconds", "disputable"), [(-1, True), (0, False), (1, False)])
def test_the_last_second_of_the_reporter(seconds: int, disputable: bool) -> None:
    """At every instant exactly one of the two is possible: to dispute, or to close for want of an answer."""
    at = NOW + timedelta(days=DISPUTE_DAYS, seconds=seconds)
    disputed, closed = hazard_in(S.RESOLVED), hazard_in(S.RESOLVED)
    if disputable:
        disputed.dispute(REPORTER, at, 3)
        with pytest.raises(WrongHazardStatus):
            closed.close_unanswered(at)
        assert (disputed.status, closed.status) == (S.ACCEPTED, S.RESOLVED)
    else:
        with pytest.raises(DisputeTooLate):
            disputed.dispute(REPORTER, at, 3)
        closed.close_unanswered(at)
        assert (disputed.status, closed.status, closed.closed_at) == (S.RESOLVED, S.CLOSED, at)


def test_one_rating() -> None:
    hazard = hazard_in(S.CLOSED)
    hazard.rate(REPORTER, 2)
    with pytest.raises(AlreadyRated):
        hazard.rate(REPORTER, 5)
    assert hazard.rating == 2


def test_a_merged_hazard_names_the_one_that_goes_on() -> None:
    hazard, primary = hazard_in(S.ACCEPTED), hazard_in(S.CALLED)
    hazard.merge_into(primary, NOW)
    assert (hazard.duplicate_of_id, hazard.closed_at, primary.status) == (primary.id, NOW, S.CALLED)


def test_what_a_hazard_cannot_merge_into() -> None:
    hazard, elsewhere = hazard_in(S.FILED), hazard_in(S.FILED)
    elsewhere.community_id = new_id()
    for primary in (hazard, elsewhere, *(hazard_in(status) for status in S if status not in OPEN_STATUSES)):
        with pytest.raises(CannotMerge):
            hazard.merge_into(primary, NOW)
    assert (hazard.status, hazard.version) == (S.FILED, 1)


def test_a_new_clock_is_not_overdue() -> None:
    hazard = hazard_in(S.FILED)
    hazard.mark_overdue(NOW)
    hazard.start_clock(NOW + timedelta(hours=2))
    assert (hazard.due_at, hazard.overdue_at) == (NOW + timedelta(hours=2), None)


def test_nothing_points_to_a_reporter_who_left() -> None:
    hazard = hazard_in(S.FILED)
    hazard.forget_reporter()
    assert (hazard.reporter_id, hazard.anonymous) == (None, True)


def part(status: AssignmentStatus, binding: bool = False) -> HazardAssignment:
    return HazardAssignment(
        id=new_id(),
        hazard_id=PRIMARY,
        organisation_id=DEPARTMENT,
        hop=1,
        role=AssignmentRole.LEAD,
        binding=binding,
        status=status,
    )


A = AssignmentStatus
PART_STEPS: dict[str, tuple[Callable[[HazardAssignment], object], AssignmentStatus, AssignmentStatus]] = {
    "check_in": (lambda row: row.check_in(OTHER, NOW, 104.1, 30.6, 40), A.ASSIGNED, A.CHECKED_IN),
    "refuse": (lambda row: row.refuse(OTHER, False, NOW), A.ASSIGNED, A.REFUSED),
    "finish": (lambda row: row.finish(OTHER, NOW), A.CHECKED_IN, A.DONE),
}


@pytest.mark.parametrize("status", A)
@pytest.mark.parametrize("name", PART_STEPS)
def test_each_step_of_a_department(name: str, status: AssignmentStatus) -> None:
    take, source, target = PART_STEPS[name]
    row = part(status)
    before = columns(row)
    if status is source:
        take(row)
        assert (row.status, row.officer_id) == (target, OTHER)
        assert row.is_active is (target is A.CHECKED_IN)
        return
    with pytest.raises(WrongAssignmentStatus):
        take(row)
    assert columns(row) == before


@pytest.mark.parametrize(("binding", "refused_before"), [(True, False), (False, True)])
def test_a_department_refuses_once_and_never_what_is_binding(binding: bool, refused_before: bool) -> None:
    row = part(A.ASSIGNED, binding)
    with pytest.raises(RefusalNotAllowed):
        row.refuse(OTHER, refused_before, NOW)
    assert row.status is A.ASSIGNED


def test_who_checked_in_when_and_where() -> None:
    row = part(A.ASSIGNED)
    row.check_in(OTHER, NOW, 104.1, 30.6, 40)
    seen = (row.officer_id, row.checked_in_at, row.checked_in_lng, row.checked_in_lat, row.distance_m)
    assert seen == (OTHER, NOW, 104.1, 30.6, 40)


def test_a_released_part_is_over_until_it_is_reopened() -> None:
    row = part(A.CHECKED_IN)
    row.release(NOW)
    assert (row.is_active, row.finished_at) == (False, NOW)
    row.reopen()
    assert (row.status, row.finished_at) == (A.CHECKED_IN, None)


class AnyStep(RuleBasedStateMachine):
    """Any step at any time: it is taken or refused without a trace, and what is stored is never contradictory."""

    def __init__(self) -> None:
        super().__init__()
        self.hazard = hazard_in(S.FILED)
        self.now = NOW

    @rule(name=st.sampled_from([name for name in STEPS if name not in ("merge_into", *LOOKS)]))
    def step(self, name: str) -> None:
        self.attempt(STEPS[name].take, returns=name == "give_back")

    @rule()
    def merge(self) -> None:
        self.attempt(merge)

    @rule(outcome=st.sampled_from(HazardOutcome), reason=st.none() | st.sampled_from(UnfixedReason))
    def resolve(self, outcome: HazardOutcome, reason: UnfixedReason | None) -> None:
        self.attempt(lambda hazard: hazard.resolve(outcome, reason, None, self.now, DISPUTE_DAYS))

    @rule(hours=st.integers(1, 24 * DISPUTE_DAYS))
    def wait(self, hours: int) -> None:
        self.now += timedelta(hours=hours)

    @rule()
    def answer_late_or_not(self) -> None:
        self.attempt(lambda hazard: hazard.dispute(REPORTER, self.now, 3))

    @rule()
    def close(self) -> None:
        self.attempt(lambda hazard: hazard.close_unanswered(self.now))

    @rule(outcome=st.sampled_from(HazardOutcome))
    def end_by_district(self, outcome: HazardOutcome) -> None:
        self.attempt(lambda hazard: hazard.close_by_district(outcome, self.now))

    def attempt(self, take: Take, *, returns: bool = False) -> None:
        """Nothing comes back from its end, but for a closed case that the district returns."""
        before = columns(self.hazard)
        try:
            take(self.hazard)
        except Problem:
            assert columns(self.hazard) == before
        else:
            was = HazardStatus(str(before["status"]))
            assert self.hazard.status is was or was not in FINAL_STATUSES or (returns and was is S.CLOSED)

    @invariant()
    def a_result_belongs_to_what_is_settled(self) -> None:
        settled = self.hazard.status in (S.RESOLVED, S.CLOSED)
        assert (self.hazard.outcome is not None) is settled
        assert (self.hazard.dispute_until is not None) is settled
        unfixed = self.hazard.outcome is HazardOutcome.UNFIXED
        assert unfixed or self.hazard.unfixed_reason is None
        if self.hazard.status is S.RESOLVED:
            # Only the district may end what is unfixed without a reason.
            assert (self.hazard.unfixed_reason is not None) is unfixed

    @invariant()
    def an_end_says_how_and_when(self) -> None:
        hazard = self.hazard
        assert (hazard.duplicate_of_id is not None) is (hazard.status is S.MERGED)
        assert (hazard.reject_reason is not None) is (hazard.status is S.REJECTED)
        assert (hazard.closed_at is not None) is (hazard.status in FINAL_STATUSES)

    @invariant()
    def somebody_leads_while_a_department_has_to_act(self) -> None:
        if self.hazard.level is HazardLevel.DEPARTMENT:
            assert self.hazard.lead_organisation_id is not None
        if self.hazard.status is not S.FILED and self.hazard.is_open:
            assert self.hazard.handler_id is not None

    @invariant()
    def every_hop_is_a_dispatch_or_a_refusal(self) -> None:
        assert self.hazard.hops >= 2 * self.hazard.refusals
        assert self.hazard.decision_forced is (self.hazard.refusals >= 2)


AnyStep.TestCase.settings = hypothesis_settings(max_examples=40, stateful_step_count=30, deadline=None)
TestAnyStep = AnyStep.TestCase
