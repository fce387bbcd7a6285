"""Invariants of hazards: the status agrees with the columns, the clock, the departments and the supporters."""

from collections.abc import AsyncIterator
from typing import Literal
from uuid import UUID

from sqlalchemy import and_, exists, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from app.auth import Caller, Granted
from app.geo import cell_of
from app.models.events import Event
from app.models.hazard_assignments import AssignmentRole, AssignmentStatus, HazardAssignment
from app.models.hazard_comments import HazardSupport
from app.models.hazard_deadlines import HazardDeadline
from app.models.hazard_results import HazardOutcome
from app.models.hazards import FINAL_STATUSES, OPEN_STATUSES, Hazard, HazardLevel, HazardStatus
from app.models.regions import Region, RegionLevel
from app.models.sessions import PrincipalKind
from app.models.staff import Role
from app.services import hazard_statistics
from app.services.verification_checks import Check, Probe, each, rows

_PAGE = 1000
_GROUPS: tuple[Literal["category", "street", "community"], ...] = ("category", "street", "community")
_AT_DEPARTMENT = (HazardStatus.DISPATCHED, HazardStatus.CHECKED_IN)
_SETTLED = (HazardStatus.RESOLVED, HazardStatus.CLOSED)
_ACTIVE = (AssignmentStatus.ASSIGNED, AssignmentStatus.CHECKED_IN)
# The district may close what nobody has taken.
_CLOSED_AS_FILED = and_(
    Hazard.status == HazardStatus.CLOSED, Hazard.resolved_from.is_not_distinct_from(HazardStatus.FILED)
)
_TAKEN = and_(
    Hazard.status.in_((HazardStatus.ACCEPTED, HazardStatus.CALLED, *_AT_DEPARTMENT, *_SETTLED)),
    ~_CLOSED_AS_FILED,
)
_UNFIXED_BY_DISTRICT = exists().where(
    Event.subject_kind == Hazard.__tablename__,
    Event.subject_id == Hazard.id,
    Event.type == "hazard.closed",
    Event.payload["by"].as_string() == "district",
    Event.payload["outcome"].as_string() == HazardOutcome.UNFIXED,
)

_COLUMNS = each(
    Hazard,
    {
        "filed, or closed as it was filed, but somebody has taken it": and_(
            or_(Hazard.status == HazardStatus.FILED, _CLOSED_AS_FILED),
            or_(Hazard.handler_id.is_not(None), Hazard.accepted_at.is_not(None)),
        ),
        "taken, but nobody knows by whom or when": and_(
            _TAKEN, or_(Hazard.handler_id.is_(None), Hazard.accepted_at.is_(None))
        ),
        "at a department, but no department leads": and_(
            Hazard.status.in_(_AT_DEPARTMENT), Hazard.lead_organisation_id.is_(None)
        ),
        "not yet at a department, but one leads": and_(
            Hazard.status.in_((HazardStatus.FILED, HazardStatus.ACCEPTED, HazardStatus.CALLED)),
            Hazard.lead_organisation_id.is_not(None),
        ),
        "settled, but not when, from where, or until when it may be disputed": and_(
            Hazard.status.in_(_SETTLED),
            or_(Hazard.resolved_at.is_(None), Hazard.resolved_from.is_(None), Hazard.dispute_until.is_(None)),
        ),
        "not settled, but it has a result": and_(
            Hazard.status.not_in(_SETTLED),
            or_(
                Hazard.resolved_at.is_not(None),
                Hazard.resolved_from.is_not(None),
                Hazard.dispute_until.is_not(None),
                Hazard.unfixed_reason.is_not(None),
                Hazard.exemption.is_not(None),
            ),
        ),
        "final, but it never ended": and_(Hazard.status.in_(FINAL_STATUSES), Hazard.closed_at.is_(None)),
        "not final, but it ended": and_(Hazard.status.not_in(FINAL_STATUSES), Hazard.closed_at.is_not(None)),
        "unfixed without a reason": and_(
            Hazard.outcome == HazardOutcome.UNFIXED,
            Hazard.unfixed_reason.is_(None),
            or_(Hazard.status != HazardStatus.CLOSED, ~_UNFIXED_BY_DISTRICT),
        ),
        "fixed, with a reason why not": and_(
            Hazard.outcome == HazardOutcome.FIXED, Hazard.unfixed_reason.is_not(None)
        ),
        "refused more often than it was handed on": Hazard.refusals > Hazard.hops,
    },
)


def _supporters() -> Check:
    counted = (
        select(func.count()).where(HazardSupport.hazard_id == Hazard.id).correlate(Hazard).scalar_subquery()
    )
    query = select(Hazard.id, Hazard.supporters.label("counter"), counted.label("rows")).where(
        Hazard.supporters != counted
    )
    return Check(
        "hazards.supporters", "the counter of supporters is the number of supporters", rows("hazards", query)
    )


_RUNNING = and_(HazardDeadline.hazard_id == Hazard.id, HazardDeadline.ended_at.is_(None))
_LEVELS = {
    HazardLevel.GRID: (HazardStatus.FILED, HazardStatus.ACCEPTED),
    HazardLevel.STREET: (HazardStatus.CALLED,),
    HazardLevel.DEPARTMENT: _AT_DEPARTMENT,
}
_CLOCKS = each(
    Hazard,
    {
        "open, but no clock runs": and_(Hazard.status.in_(OPEN_STATUSES), ~exists().where(_RUNNING)),
        "not open, but a clock runs": and_(Hazard.status.not_in(OPEN_STATUSES), exists().where(_RUNNING)),
        "due, but no clock says so": and_(
            Hazard.due_at.is_not(None), ~exists().where(_RUNNING, HazardDeadline.due_at == Hazard.due_at)
        ),
        "a clock runs, but it is not due": and_(Hazard.due_at.is_(None), exists().where(_RUNNING)),
        "overdue, but never escalated": and_(
            Hazard.overdue_at.is_not(None),
            ~exists().where(_RUNNING, HazardDeadline.escalated_at == Hazard.overdue_at),
        ),
        "escalated, but not overdue": and_(
            Hazard.overdue_at.is_(None), exists().where(_RUNNING, HazardDeadline.escalated_at.is_not(None))
        ),
        "the clock of another level runs": exists().where(
            _RUNNING,
            or_(
                *(
                    and_(HazardDeadline.level == level, Hazard.status.not_in(statuses))
                    for level, statuses in _LEVELS.items()
                )
            ),
        ),
    },
)
_DEADLINES = each(
    HazardDeadline,
    {
        "ends before it starts": HazardDeadline.ended_at < HazardDeadline.started_at,
        "is due before it starts": HazardDeadline.due_at <= HazardDeadline.started_at,
        "warns after it is due": HazardDeadline.warn_at > HazardDeadline.due_at,
        "escalated without a warning": and_(
            HazardDeadline.escalated_at.is_not(None), HazardDeadline.warned_at.is_(None)
        ),
        "escalated before it was due": HazardDeadline.escalated_at < HazardDeadline.due_at,
    },
)


def _deadline_numbers() -> Check:
    count, last = func.count(), func.max(HazardDeadline.n)
    query = (
        select(HazardDeadline.hazard_id, count.label("rows"), last.label("last"))
        .group_by(HazardDeadline.hazard_id)
        .having(count != last)
    )
    return Check(
        "deadlines.numbers", "the deadlines of a hazard are numbered without a gap", rows("hazards", query)
    )


_PART = HazardAssignment.hazard_id == Hazard.id
_LEAD = and_(_PART, HazardAssignment.role == AssignmentRole.LEAD)
_ASSIGNMENTS = each(
    Hazard,
    {
        "at a department, but none has the lead to act": and_(
            Hazard.status.in_(_AT_DEPARTMENT),
            ~exists().where(
                _LEAD,
                HazardAssignment.status.in_(_ACTIVE),
                HazardAssignment.organisation_id == Hazard.lead_organisation_id,
                HazardAssignment.hop == Hazard.hops,
            ),
        ),
        "dispatched, but the lead has checked in": and_(
            Hazard.status == HazardStatus.DISPATCHED,
            exists().where(_LEAD, HazardAssignment.status == AssignmentStatus.CHECKED_IN),
        ),
        "checked in, but the lead has not": and_(
            Hazard.status == HazardStatus.CHECKED_IN,
            exists().where(_LEAD, HazardAssignment.status == AssignmentStatus.ASSIGNED),
        ),
        "not at a department, but one still has to act": and_(
            Hazard.status.not_in(_AT_DEPARTMENT),
            exists().where(_PART, HazardAssignment.status.in_(_ACTIVE)),
        ),
        "the lead did not refuse as often as is counted": Hazard.refusals
        != select(func.count())
        .where(_LEAD, HazardAssignment.status == AssignmentStatus.REFUSED)
        .correlate(Hazard)
        .scalar_subquery(),
    },
)


def _refusals() -> Check:
    query = (
        select(
            HazardAssignment.hazard_id,
            HazardAssignment.organisation_id.label("organisation"),
            func.count().label("refusals"),
        )
        .where(HazardAssignment.status == AssignmentStatus.REFUSED)
        .group_by(HazardAssignment.hazard_id, HazardAssignment.organisation_id)
        .having(func.count() > 1)
    )
    return Check("assignments.refusals", "a department refuses a hazard once", rows("hazards", query))


_THERE = HazardAssignment.checked_in_at.is_not(None)
_CHECK_INS = each(
    HazardAssignment,
    {
        "checked in or done, but nobody was there": and_(
            HazardAssignment.status.in_((AssignmentStatus.CHECKED_IN, AssignmentStatus.DONE)), ~_THERE
        ),
        "somebody was there, but not who or where": and_(
            _THERE,
            or_(
                HazardAssignment.officer_id.is_(None),
                HazardAssignment.checked_in_lng.is_(None),
                HazardAssignment.checked_in_lat.is_(None),
                HazardAssignment.distance_m.is_(None),
            ),
        ),
        "over, but not since when": and_(
            HazardAssignment.status.not_in(_ACTIVE), HazardAssignment.finished_at.is_(None)
        ),
    },
)


def _merges() -> Check:
    primary = aliased(Hazard)
    query = (
        select(Hazard.id, primary.id.label("merged_into"))
        .join(primary, primary.id == Hazard.duplicate_of_id)
        .where(or_(primary.id == Hazard.id, primary.duplicate_of_id == Hazard.id))
    )
    return Check(
        "hazards.merges", "no hazard is merged into itself, directly or back again", rows("hazards", query)
    )


async def _cells(probe: Probe) -> AsyncIterator[str]:
    """A hazard in the wrong cell is not found nearby."""
    total = await probe.session.scalar(select(func.count()).select_from(Hazard)) or 0
    query = select(Hazard.id, Hazard.lng, Hazard.lat, Hazard.cell).order_by(Hazard.id).limit(_PAGE)
    page, done = (await probe.session.execute(query)).all(), 0
    while page:
        for row in page:
            if row.cell != cell_of(row.lng, row.lat):
                yield f"hazards {row.id}: lies in cell {cell_of(row.lng, row.lat)}, not in {row.cell}"
        done += len(page)
        probe.advance(done, total)
        page = (await probe.session.execute(query.where(Hazard.id > page[-1].id))).all()


async def _statistics(probe: Probe) -> AsyncIterator[str]:
    """What the statistics add up to beside a plain count of the rows, through the tree of regions too."""
    caller = await _overseer(probe)
    counted = await _recount(probe)
    for group_by in _GROUPS:
        shown = await hazard_statistics.compute(
            probe.session, caller, group_by, None, None, None, public=False
        )
        for name, rows_counted in counted.items():
            added = sum(getattr(row, name) or 0 for row in shown.items)
            if added != rows_counted:
                yield f"statistics by {group_by}: {name} add up to {added}, the rows to {rows_counted}"


async def _overseer(probe: Probe) -> Caller:
    """Somebody who sees every district."""
    roots = await probe.session.scalars(select(Region.id).where(Region.level == RegionLevel.DISTRICT))
    return Caller(
        PrincipalKind.SYSTEM,
        UUID(int=0),
        grants=tuple(Granted(Role.DISTRICT_ADMIN, root, None) for root in roots),
    )


async def _recount(probe: Probe) -> dict[str, int]:
    closed = Hazard.status == HazardStatus.CLOSED
    conditions = {
        "filed": Hazard.id.is_not(None),
        "open": Hazard.status.in_(OPEN_STATUSES),
        "resolved": Hazard.resolved_at.is_not(None),
        "closed_fixed": and_(closed, Hazard.outcome == HazardOutcome.FIXED),
        "closed_unfixed": and_(closed, Hazard.outcome == HazardOutcome.UNFIXED),
        "rejected": Hazard.status == HazardStatus.REJECTED,
        "merged": Hazard.status == HazardStatus.MERGED,
        "overdue": exists().where(
            HazardDeadline.hazard_id == Hazard.id, HazardDeadline.escalated_at.is_not(None)
        ),
        "disputed": Hazard.disputes > 0,
    }
    columns = [func.count().filter(condition).label(name) for name, condition in conditions.items()]
    row = (await probe.session.execute(select(*columns).select_from(Hazard))).one()
    return {name: int(value) for name, value in row._mapping.items()}


async def breaches_of(session: AsyncSession, hazard_id: UUID) -> list[tuple[str, str]]:
    """What is wrong with one hazard by itself: with the case, its assignments or its deadlines."""
    mine, parts = Hazard.id == hazard_id, HazardAssignment.hazard_id == hazard_id
    clocks = HazardDeadline.hazard_id == hazard_id
    found = [
        ("case", await _COLUMNS.among(session, mine)),
        ("deadlines", await _CLOCKS.among(session, mine)),
        ("deadlines", await _DEADLINES.among(session, clocks)),
        ("assignments", await _ASSIGNMENTS.among(session, mine)),
        ("assignments", await _CHECK_INS.among(session, parts)),
    ]
    return [(where, breach) for where, breaches in found for breach in breaches]


CHECKS = (
    Check("hazards.columns", "every hazard has the columns that its status asks for", _COLUMNS),
    _supporters(),
    Check("hazards.clocks", "exactly one clock runs for an open hazard, of its level, none else", _CLOCKS),
    Check("deadlines.times", "deadlines start, warn, run out and stop in this order", _DEADLINES),
    _deadline_numbers(),
    Check("hazards.assignments", "the departments' parts agree with the hazard's status", _ASSIGNMENTS),
    _refusals(),
    Check("assignments.columns", "a department that checked in says who, when and where", _CHECK_INS),
    _merges(),
    Check("hazards.cells", "every hazard is found in the cell that it lies in", _cells),
    Check("statistics.recount", "the statistics equal a recount of the rows", _statistics),
)
