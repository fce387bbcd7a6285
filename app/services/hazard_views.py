"""What a caller sees of a hazard: the whole to those who handle it, less to the public."""

from collections import defaultdict
from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.auth import Caller
from app.errors import NotFound
from app.keys import unseal
from app.masking import mask_name, mask_phone
from app.models.events import Audience, Event
from app.models.hazard_assignments import HazardAssignment
from app.models.hazard_comments import HazardComment, HazardSupport
from app.models.hazards import Hazard, HazardLevel, PublicState
from app.models.media import Media, MediaPurpose
from app.models.organisations import Organisation
from app.models.residents import Resident
from app.models.sessions import PrincipalKind
from app.models.staff import Staff
from app.schemas.base import CoordinatesRead
from app.schemas.hazards import (
    Actor,
    AssignmentRead,
    HandlerRead,
    HazardRead,
    HazardSummary,
    ReporterRead,
    Timeline,
    TimelineEntry,
)
from app.services import hazard_access, hazard_comments, media

_STEP_OF: dict[str, Actor] = {
    "hazard.accepted": "grid",
    "hazard.assigned": "grid",
    "hazard.called": "grid",
    "hazard.dispatched": "street",
    "hazard.refused": "department",
    "hazard.checked_in": "department",
    "hazard.part_done": "department",
}


async def find(session: AsyncSession, caller: Caller, hazard_id: UUID) -> Hazard:
    """The row, when it exists for the caller."""
    hazard = await session.scalar(
        select(Hazard).where(Hazard.id == hazard_id, hazard_access.visible_to(caller))
    )
    if hazard is None:
        raise NotFound
    return hazard


async def read(session: AsyncSession, caller: Caller, hazard_id: UUID) -> HazardRead:
    """One hazard as the caller may see it."""
    return await describe(session, caller, await find(session, caller, hazard_id))


async def describe(session: AsyncSession, caller: Caller, hazard: Hazard) -> HazardRead:
    """The same for a row at hand."""
    inside = _is_inside(caller, hazard)
    pictures = [
        each
        for each in await media.of_subjects(session, [hazard.id])
        if inside or media.shown_to_public(each)
    ]
    return HazardRead(
        id=hazard.id,
        version=hazard.version,
        community_id=hazard.community_id,
        region_id=hazard.region_id,
        category=hazard.category,
        source=hazard.source,
        status=hazard.status,
        level=hazard.level,
        description=_description(hazard, inside),
        location=_location(hazard),
        address=unseal(hazard, "address") if inside else None,
        anonymous=hazard.anonymous,
        reporter_name=await _public_name(session, hazard),
        reporter=await _reporter(session, caller, hazard),
        mine=_is_mine(caller, hazard),
        supported=await _supports(session, caller, hazard),
        supporters=hazard.supporters,
        photos=[media.describe(each) for each in pictures if each.purpose is MediaPurpose.HAZARD],
        after_photos=[media.describe(each) for each in pictures if each.purpose is MediaPurpose.HAZARD_AFTER],
        handler=await _handler(session, caller, hazard, inside),
        departments=await _departments(session, hazard) if inside else [],
        refusals=hazard.refusals,
        hops=hazard.hops,
        decision_forced=hazard.decision_forced,
        due_at=hazard.due_at if inside else None,
        overdue=hazard.overdue_at is not None,
        outcome=hazard.outcome,
        unfixed_reason=hazard.unfixed_reason,
        exemption=hazard.exemption,
        dispute_until=hazard.dispute_until,
        disputes=hazard.disputes,
        reject_reason=hazard.reject_reason,
        duplicate_of_id=hazard.duplicate_of_id,
        rating=hazard.rating,
        created_at=hazard.created_at,
        accepted_at=hazard.accepted_at,
        resolved_at=hazard.resolved_at,
        closed_at=hazard.closed_at,
    )


async def summarise(
    session: AsyncSession,
    caller: Caller,
    rows: Sequence[Hazard],
    distances: dict[UUID, int] | None = None,
    *,
    public: bool = False,
) -> list[HazardSummary]:
    """Rows of a list, with one query for all their first pictures; `public` ones as everybody may see them."""
    pictures: dict[UUID, list[Media]] = defaultdict(list)
    if rows:
        for each in await media.of_subjects(session, [row.id for row in rows], MediaPurpose.HAZARD):
            if each.subject_id is not None:
                pictures[each.subject_id].append(each)
    return [_summary(caller, row, pictures[row.id], (distances or {}).get(row.id), public) for row in rows]


async def timeline(session: AsyncSession, caller: Caller, hazard_id: UUID) -> Timeline:
    """Every step, oldest first. Residents get no internal notes and nothing that only staff may know."""
    hazard = await find(session, caller, hazard_id)
    audiences = [Audience.PUBLIC, Audience.PARTIES]
    if not caller.is_resident:
        audiences.append(Audience.STAFF)
    rows = await session.scalars(
        select(Event)
        .where(
            Event.subject_kind == Hazard.__tablename__,
            Event.subject_id == hazard_id,
            Event.audience.in_(audiences),
        )
        .order_by(Event.seq)
    )
    found = list(rows)
    words = await _words(session, caller, [event.id for event in found])
    return Timeline(items=[_entry(hazard, event, words.get(event.id)) for event in found])


def _summary(
    caller: Caller, hazard: Hazard, pictures: Sequence[Media], distance_m: int | None, public: bool
) -> HazardSummary:
    inside = _is_mine(caller, hazard) if public else _is_inside(caller, hazard)
    shown = next((each for each in pictures if inside or media.shown_to_public(each)), None)
    return HazardSummary(
        id=hazard.id,
        community_id=hazard.community_id,
        region_id=hazard.region_id,
        category=hazard.category,
        status=hazard.status,
        level=hazard.level,
        outcome=hazard.outcome,
        description=_description(hazard, inside),
        location=_location(hazard),
        supporters=hazard.supporters,
        mine=_is_mine(caller, hazard),
        thumbnail_url=media.signed_url(shown.id, "thumbnail") if shown else None,
        distance_m=distance_m,
        due_at=hazard.due_at if inside else None,
        overdue=hazard.overdue_at is not None,
        created_at=hazard.created_at,
        version=hazard.version,
    )


def _is_mine(caller: Caller, hazard: Hazard) -> bool:
    return caller.is_resident and hazard.reporter_id == caller.id


def _is_inside(caller: Caller, hazard: Hazard) -> bool:
    """Whether the caller handles or reported it; everybody else is the public."""
    return not caller.is_resident or _is_mine(caller, hazard)


def _description(hazard: Hazard, inside: bool) -> str | None:
    if inside or hazard.public_state is PublicState.VISIBLE:
        return unseal(hazard, "description")
    return None


def _location(hazard: Hazard) -> CoordinatesRead:
    return CoordinatesRead(lng=hazard.lng, lat=hazard.lat, datum="gcj02")


async def _public_name(session: AsyncSession, hazard: Hazard) -> str | None:
    if hazard.anonymous or hazard.reporter_id is None:
        return None
    reporter = await session.get(Resident, hazard.reporter_id)
    checked = reporter is not None and reporter.nickname_state is PublicState.VISIBLE
    return unseal(reporter, "nickname") if reporter and checked else None


async def _reporter(session: AsyncSession, caller: Caller, hazard: Hazard) -> ReporterRead | None:
    """Those who handle the case know whom to call, masked until they give a reason."""
    if caller.is_resident or hazard.reporter_id is None:
        return None
    reporter = await session.get(Resident, hazard.reporter_id)
    if reporter is None:
        return None
    phone, nickname = unseal(reporter, "phone"), unseal(reporter, "nickname")
    return ReporterRead(
        id=reporter.id,
        nickname=mask_name(nickname) if nickname else None,
        phone_masked=mask_phone(phone) if phone else None,
    )


async def _supports(session: AsyncSession, caller: Caller, hazard: Hazard) -> bool:
    if not caller.is_resident or hazard.supporters == 0:
        return False
    return await session.get(HazardSupport, (hazard.id, caller.id)) is not None


async def _handler(session: AsyncSession, caller: Caller, hazard: Hazard, inside: bool) -> HandlerRead | None:
    if not inside or hazard.handler_id is None:
        return None
    staff = await session.get(Staff, hazard.handler_id)
    if staff is None:
        return None
    name = unseal(staff, "display_name") or staff.username
    return HandlerRead(id=staff.id, name=mask_name(name) if caller.is_resident else name)


async def _departments(session: AsyncSession, hazard: Hazard) -> list[AssignmentRead]:
    if hazard.hops == 0:
        return []
    rows = await session.execute(
        select(HazardAssignment, Organisation.name, Organisation.name_en)
        .join(Organisation, Organisation.id == HazardAssignment.organisation_id)
        .where(HazardAssignment.hazard_id == hazard.id)
        .order_by(HazardAssignment.hop, HazardAssignment.id)
    )
    return [
        AssignmentRead(
            organisation_id=assignment.organisation_id,
            name=name,
            name_en=name_en,
            role=assignment.role,
            status=assignment.status,
            hop=assignment.hop,
            binding=assignment.binding,
            checked_in_at=assignment.checked_in_at,
            distance_m=assignment.distance_m,
        )
        for assignment, name, name_en in rows
    ]


async def _words(session: AsyncSession, caller: Caller, event_ids: Sequence[UUID]) -> dict[UUID, str]:
    rows = await session.scalars(
        select(HazardComment).where(
            HazardComment.event_id.in_(event_ids), hazard_comments.readable_by(caller)
        )
    )
    return {row.event_id: text for row in rows if row.event_id and (text := unseal(row, "text"))}


def _entry(hazard: Hazard, event: Event, text: str | None) -> TimelineEntry:
    return TimelineEntry(
        seq=event.seq,
        type=event.type,
        occurred_at=event.occurred_at,
        actor=_actor(hazard, event),
        data={key: value for key, value in event.payload.items() if isinstance(value, _PLAIN)},
        text=text,
    )


_PLAIN = (str, int, bool, type(None))


def _actor(hazard: Hazard, event: Event) -> Actor:
    if event.actor_kind is PrincipalKind.SYSTEM:
        return "system"
    if event.actor_kind is PrincipalKind.RESIDENT:
        return "reporter" if event.actor_id == hazard.reporter_id else "resident"
    by = event.payload.get("by")
    return HazardLevel(by).value if isinstance(by, str) else _STEP_OF.get(event.type, "staff")
