"""街道处置 and 部门报到: the street dispatches, departments check in, refuse once, or finish their part."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock, events
from app.auth import Caller
from app.errors import FieldError, Forbidden, InvalidInput
from app.geo import Point, distance_m
from app.ids import new_id
from app.models.base import JsonObject
from app.models.events import Audience
from app.models.hazard_assignments import AssignmentRole, AssignmentStatus, HazardAssignment
from app.models.hazard_comments import CommentVisibility
from app.models.hazards import Hazard, HazardLevel
from app.models.media import MediaPurpose
from app.models.organisations import Organisation
from app.schemas.hazards import HazardCheckIn, HazardDispatch, HazardRefuse, HazardResolve
from app.services import hazard_access, hazard_comments, hazard_deadlines, media
from app.settings import settings

_ACTIVE = (AssignmentStatus.ASSIGNED, AssignmentStatus.CHECKED_IN)


class UnknownOrganisation(InvalidInput):
    """Not an active organisation, or named twice."""

    code = "unknown_organisation"
    title_en, title_zh = "An organisation cannot be dispatched", "所选部门不可派单"


async def dispatch(session: AsyncSession, caller: Caller, hazard_id: UUID, body: HazardDispatch) -> Hazard:
    """街道处置: one lead, any number of joint departments. After two refusals the dispatch is binding."""
    hazard = await hazard_access.lock(session, caller, hazard_id, "dispatch_hazard")
    await _require_organisations(session, body)
    now = clock.now()
    hazard.dispatch(body.lead_organisation_id)
    lead = _assignment(hazard, body.lead_organisation_id, AssignmentRole.LEAD)
    joint = [_assignment(hazard, each, AssignmentRole.JOINT) for each in body.joint_organisation_ids]
    session.add_all([lead, *joint])
    await hazard_deadlines.stop(session, hazard, now)
    await hazard_deadlines.start(session, hazard, HazardLevel.DEPARTMENT, now)
    facts: JsonObject = {
        "lead_organisation_id": str(body.lead_organisation_id),
        "joint_organisations": len(joint),
        "binding": hazard.decision_forced,
        "hops": hazard.hops,
    }
    event_id = _record(session, caller, hazard, "hazard.dispatched", facts)
    await hazard_comments.attach_note(
        session, caller, hazard, body.note, CommentVisibility.INTERNAL, event_id
    )
    return hazard


async def refuse(session: AsyncSession, caller: Caller, hazard_id: UUID, body: HazardRefuse) -> Hazard:
    """A department hands its part back, once, with a reason. The lead's refusal returns the case to the street."""
    hazard = await hazard_access.lock(session, caller, hazard_id, "refuse_hazard")
    assignment = await _own(session, caller, hazard, "refuse_hazard")
    now = clock.now()
    assignment.refuse(caller.id, await _refused_before(session, assignment), now)
    if assignment.role is AssignmentRole.LEAD:
        hazard.refuse()
        await release_all(session, hazard, now)
        await hazard_deadlines.stop(session, hazard, now)
        await hazard_deadlines.start(session, hazard, HazardLevel.STREET, now)
    facts: JsonObject = {
        "organisation_id": str(assignment.organisation_id),
        "role": assignment.role,
        "refusals": hazard.refusals,
        "decision_forced": hazard.decision_forced,
    }
    event_id = _record(session, caller, hazard, "hazard.refused", facts)
    await hazard_comments.attach_note(
        session, caller, hazard, body.reason, CommentVisibility.INTERNAL, event_id
    )
    return hazard


async def check_in(session: AsyncSession, caller: Caller, hazard_id: UUID, body: HazardCheckIn) -> Hazard:
    """部门报到: an officer is on site; who, when and where are kept, and how far from the reported place."""
    hazard = await hazard_access.lock(session, caller, hazard_id, "check_in_hazard")
    assignment = await _own(session, caller, hazard, "check_in_hazard")
    point = body.location.gcj02()
    metres = round(distance_m(point, Point(hazard.lng, hazard.lat)))
    _require_near(metres)
    assignment.check_in(caller.id, clock.now(), point.lng, point.lat, metres)
    if assignment.role is AssignmentRole.LEAD:
        hazard.check_in()
    facts: JsonObject = {
        "organisation_id": str(assignment.organisation_id),
        "role": assignment.role,
        "distance_m": metres,
    }
    event_id = _record(session, caller, hazard, "hazard.checked_in", facts)
    await hazard_comments.attach_note(session, caller, hazard, body.note, CommentVisibility.PUBLIC, event_id)
    return hazard


def _require_near(metres: int) -> None:
    """So far away nobody is on site; nearer, the distance is on record and people judge."""
    limit = settings.check_in_max_km
    if metres > limit * 1000:
        raise InvalidInput.of(
            ("body", "location"),
            "too_far",
            f"is more than {limit} km from the hazard",
            f"距离隐患地点超过 {limit} 公里",
        )


def leads(caller: Caller, hazard: Hazard) -> bool:
    """Whether the caller is an officer of the department that leads now."""
    return hazard.lead_organisation_id in caller.scope("check_in_hazard").organisation_ids


async def finish_part(session: AsyncSession, caller: Caller, hazard: Hazard, body: HazardResolve) -> Hazard:
    """A joint department is done with its part; the case goes on until the lead resolves it."""
    assignment = await _own(session, caller, hazard, "check_in_hazard")
    assignment.finish(caller.id, clock.now())
    await media.attach(
        session, caller, body.media_ids, MediaPurpose.HAZARD_AFTER, hazard.id, hazard.community_id
    )
    facts: JsonObject = {"organisation_id": str(assignment.organisation_id)}
    event_id = _record(session, caller, hazard, "hazard.part_done", facts)
    await hazard_comments.attach_note(session, caller, hazard, body.note, CommentVisibility.PUBLIC, event_id)
    return hazard


async def finish_all(session: AsyncSession, caller: Caller, hazard: Hazard, at: datetime) -> None:
    """The lead resolved: its part is done, joint parts that are still open are released."""
    for assignment in await _active(session, hazard):
        if assignment.role is AssignmentRole.LEAD:
            assignment.finish(caller.id, at)
        else:
            assignment.release(at)


async def release_all(session: AsyncSession, hazard: Hazard, at: datetime) -> None:
    """Nobody has a part any more."""
    for assignment in await _active(session, hazard):
        assignment.release(at)


async def reopen_lead(session: AsyncSession, hazard: Hazard) -> None:
    """After a dispute the department that led is on it again."""
    if hazard.level is not HazardLevel.DEPARTMENT:
        return
    lead = await session.scalar(
        select(HazardAssignment).where(
            HazardAssignment.hazard_id == hazard.id,
            HazardAssignment.hop == hazard.hops,
            HazardAssignment.role == AssignmentRole.LEAD,
        )
    )
    if lead is not None:
        lead.reopen()


def _assignment(hazard: Hazard, organisation_id: UUID, role: AssignmentRole) -> HazardAssignment:
    return HazardAssignment(
        id=new_id(),
        hazard_id=hazard.id,
        organisation_id=organisation_id,
        hop=hazard.hops,
        role=role,
        binding=hazard.decision_forced,
        status=AssignmentStatus.ASSIGNED,
    )


async def _own(session: AsyncSession, caller: Caller, hazard: Hazard, operation: str) -> HazardAssignment:
    """The latest part of the caller's department; 403 when it was never asked."""
    organisations = caller.scope(operation).organisation_ids
    assignment = await session.scalar(
        select(HazardAssignment)
        .where(HazardAssignment.hazard_id == hazard.id, HazardAssignment.organisation_id.in_(organisations))
        .order_by(HazardAssignment.status.in_(_ACTIVE).desc(), HazardAssignment.hop.desc())
        .limit(1)
    )
    if assignment is None:
        raise Forbidden
    return assignment


async def _refused_before(session: AsyncSession, assignment: HazardAssignment) -> bool:
    times = await session.scalar(
        select(func.count())
        .select_from(HazardAssignment)
        .where(
            HazardAssignment.hazard_id == assignment.hazard_id,
            HazardAssignment.organisation_id == assignment.organisation_id,
            HazardAssignment.status == AssignmentStatus.REFUSED,
        )
    )
    return bool(times)


async def _active(session: AsyncSession, hazard: Hazard) -> Sequence[HazardAssignment]:
    rows = await session.scalars(
        select(HazardAssignment)
        .where(HazardAssignment.hazard_id == hazard.id, HazardAssignment.status.in_(_ACTIVE))
        .order_by(HazardAssignment.id)
    )
    return rows.all()


async def _require_organisations(session: AsyncSession, body: HazardDispatch) -> None:
    wanted = [body.lead_organisation_id, *body.joint_organisation_ids]
    known = set(
        await session.scalars(select(Organisation.id).where(Organisation.id.in_(wanted), Organisation.active))
    )
    errors = [
        _unknown(index) for index, each in enumerate(wanted) if each not in known or each in wanted[:index]
    ]
    if errors:
        raise UnknownOrganisation(fields=errors)


def _unknown(index: int) -> FieldError:
    loc = ("body", "lead_organisation_id") if index == 0 else ("body", "joint_organisation_ids", index - 1)
    return FieldError(
        loc,
        UnknownOrganisation.code,
        "is not an active organisation, or named twice",
        "部门不存在、已停用或重复",
    )


def _record(session: AsyncSession, caller: Caller, hazard: Hazard, type_: str, facts: JsonObject) -> UUID:
    place = hazard_access.place_of(hazard)
    payload: JsonObject = {"status": hazard.status, "version": hazard.version, **facts}
    return events.record(
        session, caller, hazard, type_, audience=Audience.PARTIES, place=place, payload=payload
    )
