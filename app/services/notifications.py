"""Who is told of what: one row for each person and event, read in the app; residents may get a message besides."""

from collections import defaultdict
from collections.abc import Collection, Sequence
from enum import StrEnum
from uuid import UUID

from sqlalchemy import ColumnElement, or_, select, true
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock, outbox, pagination
from app.auth import Caller
from app.db import insert
from app.errors import NotFound
from app.ids import new_id
from app.models.events import Audience, Event
from app.models.hazard_assignments import AssignmentStatus, HazardAssignment
from app.models.hazard_comments import HazardSupport
from app.models.hazards import Hazard, HazardLevel
from app.models.notifications import Notification, NotificationStatus
from app.models.regions import RegionAncestor
from app.models.residents import Resident
from app.models.sessions import PrincipalKind
from app.models.staff import Grant, Role, Staff, StaffStatus
from app.schemas.base import Page
from app.schemas.notifications import NotificationRead, SubjectRead
from app.services import messages, subscriptions
from app.services.subscriptions import Followers, Recipient

_LIST = "list_my_notifications"


class _Circle(StrEnum):
    """Members of staff by what they have to do with a hazard."""

    HANDLER = "handler"
    GRID = "grid"
    MANAGERS = "managers"
    STREET = "street"
    OFFICERS = "officers"
    LEVEL = "level"


_STAFF_TOLD: dict[str, tuple[_Circle, ...]] = {
    "hazard.filed": (_Circle.GRID, _Circle.MANAGERS),
    "hazard.assigned": (_Circle.HANDLER,),
    "hazard.handed_over": (_Circle.HANDLER,),
    "hazard.called": (_Circle.STREET,),
    "hazard.dispatched": (_Circle.OFFICERS,),
    "hazard.refused": (_Circle.STREET,),
    "hazard.part_done": (_Circle.OFFICERS,),
    "hazard.resolved": (_Circle.HANDLER,),
    "hazard.disputed": (_Circle.HANDLER, _Circle.LEVEL),
    "hazard.commented": (_Circle.HANDLER, _Circle.LEVEL),
    "hazard.deadline_warned": (_Circle.HANDLER, _Circle.MANAGERS, _Circle.LEVEL),
    "hazard.escalated": (_Circle.HANDLER, _Circle.MANAGERS, _Circle.STREET, _Circle.LEVEL),
    "hazard.review_flagged": (_Circle.MANAGERS,),
}
_LEVEL_CIRCLE = {
    HazardLevel.GRID: _Circle.GRID,
    HazardLevel.STREET: _Circle.STREET,
    HazardLevel.DEPARTMENT: _Circle.OFFICERS,
}
_ROLE = {
    _Circle.GRID: Role.GRID_WORKER,
    _Circle.MANAGERS: Role.COMMUNITY_MANAGER,
    _Circle.STREET: Role.STREET_DISPATCHER,
}
_ASSIGNED = (AssignmentStatus.ASSIGNED, AssignmentStatus.CHECKED_IN)


async def tell(session: AsyncSession, batch: Sequence[Event]) -> None:
    """A row for everybody whom these events about hazards concern, but for whoever did it."""
    told = [event for event in batch if event.type in messages.PHRASES or event.type in _STAFF_TOLD]
    if not told:
        return
    people = await _people(session, told)
    followed = await _followed(session, told)
    everybody = {who for each in (*people.values(), *followed.values()) for who in each}
    reachable = await messages.reachable(
        session, {who for kind, who in everybody if kind is PrincipalKind.RESIDENT}
    )
    voice, rows, sent = subscriptions.Voice(), [], set[UUID]()
    for event in told:
        for recipient in people[event.id] | followed[event.id].keys():
            aloud = recipient[1] in reachable and (
                recipient in people[event.id] or voice.speaks(followed[event.id][recipient])
            )
            rows.append(row(event, recipient, is_reachable=aloud))
            if aloud:
                sent.add(event.id)
    if rows:
        await session.execute(insert(Notification).on_conflict_do_nothing(), rows)
        await voice.keep(session)
    for event_id in sent:
        await outbox.enqueue(
            session, messages.SEND, {"event_id": str(event_id)}, key=f"{messages.SEND}:{event_id}"
        )


async def page(
    session: AsyncSession, caller: Caller, unread: bool, limit: int, cursor: str | None
) -> Page[NotificationRead]:
    """The caller's own, newest first."""
    before = pagination.decode_id(_LIST, cursor)
    rows = await session.scalars(
        select(Notification)
        .where(
            Notification.recipient_kind == caller.kind,
            Notification.recipient_id == caller.id,
            Notification.id < before if before else true(),
            Notification.read_at.is_(None) if unread else true(),
        )
        .order_by(Notification.id.desc())
        .limit(limit + 1)
    )
    found = list(rows)
    more = pagination.encode(_LIST, str(found[limit - 1].id)) if len(found) > limit else None
    return Page(items=[_read(row) for row in found[:limit]], next_cursor=more)


async def mark_read(session: AsyncSession, caller: Caller, notification_id: UUID) -> NotificationRead:
    """The caller has seen it; the first time counts."""
    row = await session.scalar(
        select(Notification)
        .where(
            Notification.id == notification_id,
            Notification.recipient_kind == caller.kind,
            Notification.recipient_id == caller.id,
        )
        .with_for_update()
    )
    if row is None:
        raise NotFound
    row.read(clock.now())
    return _read(row)


def _read(row: Notification) -> NotificationRead:
    return NotificationRead(
        id=row.id,
        type=row.type,
        subject=SubjectRead(kind=row.subject_kind, id=row.subject_id),
        created_at=row.created_at,
        read_at=row.read_at,
    )


def row(event: Event, recipient: Recipient, *, is_reachable: bool) -> dict[str, object]:
    """A notification to insert. Staff read theirs in the app, so theirs has arrived."""
    kind, who = recipient
    status = NotificationStatus.QUEUED if is_reachable else NotificationStatus.SKIPPED
    return {
        "id": new_id(),
        "created_at": clock.now(),
        "recipient_kind": kind,
        "recipient_id": who,
        "event_id": event.id,
        "type": event.type,
        "subject_kind": event.subject_kind,
        "subject_id": event.subject_id,
        "status": NotificationStatus.SENT if kind is PrincipalKind.STAFF else status,
    }


async def _people(session: AsyncSession, told: Sequence[Event]) -> dict[UUID, set[Recipient]]:
    """Whom to tell of each event."""
    rows = await session.scalars(select(Hazard).where(Hazard.id.in_({event.subject_id for event in told})))
    hazards = {hazard.id: hazard for hazard in rows}
    residents = await _residents(session, hazards)
    circles = await _circles(session, list(hazards.values()))
    people: dict[UUID, set[Recipient]] = defaultdict(set)
    for event in told:
        # Who supports it came after it was filed, even when the worker hears of both at once.
        if event.type != "hazard.filed" and _concerns(event, PrincipalKind.RESIDENT):
            people[event.id] |= {(PrincipalKind.RESIDENT, who) for who in residents[event.subject_id]}
        for circle in _STAFF_TOLD.get(event.type, ()):
            members = circles[event.subject_id, _resolved(circle, event)]
            people[event.id] |= {(PrincipalKind.STAFF, who) for who in members}
        people[event.id].discard((event.actor_kind, event.actor_id or UUID(int=0)))
    return people


async def _followed(session: AsyncSession, told: Sequence[Event]) -> dict[UUID, Followers]:
    """Who follows what each event is about, but for whoever did it."""
    followers = await subscriptions.followers(session, {event.subject_id for event in told})
    found: dict[UUID, Followers] = {}
    for event in told:
        found[event.id] = {
            who: rows
            for who, rows in followers.get(event.subject_id, {}).items()
            if _concerns(event, who[0]) and who != (event.actor_kind, event.actor_id)
        }
    return found


def _concerns(event: Event, kind: PrincipalKind) -> bool:
    """Residents are told of what has a phrase and is for them, staff of everything that anybody is told of."""
    if kind is PrincipalKind.STAFF:
        return event.audience is not Audience.AUDIT
    return event.type in messages.PHRASES and event.audience in (Audience.PUBLIC, Audience.PARTIES)


def _resolved(circle: _Circle, event: Event) -> _Circle:
    """`LEVEL` is whoever has to act by the event's own word."""
    level = event.payload.get("level")
    if circle is not _Circle.LEVEL or not isinstance(level, str):
        return circle
    return _LEVEL_CIRCLE[HazardLevel(level)]


async def _residents(session: AsyncSession, hazards: dict[UUID, Hazard]) -> dict[UUID, set[UUID]]:
    """The reporter and the supporters of each hazard who are still with us."""
    supporting = select(HazardSupport.hazard_id, HazardSupport.resident_id).where(
        HazardSupport.hazard_id.in_(hazards)
    )
    reporting = select(Hazard.id, Hazard.reporter_id).where(Hazard.id.in_(hazards))
    concerned = supporting.union_all(reporting).subquery()
    pairs = await session.execute(
        select(concerned)
        .join(Resident, Resident.id == concerned.c.resident_id)
        .where(Resident.deleted_at.is_(None))
    )
    found: dict[UUID, set[UUID]] = defaultdict(set)
    for hazard_id, resident_id in pairs:
        found[hazard_id].add(resident_id)
    return found


async def _circles(session: AsyncSession, hazards: Sequence[Hazard]) -> dict[tuple[UUID, _Circle], set[UUID]]:
    """Who belongs to which circle of which hazard now; `LEVEL` is the circle of the level that has to act."""
    by_place = await _by_place(session, {hazard.region_id for hazard in hazards})
    officers = await _officers(session, [hazard.id for hazard in hazards])
    handlers = await _at_work(session, {hazard.handler_id for hazard in hazards if hazard.handler_id})
    circles: dict[tuple[UUID, _Circle], set[UUID]] = defaultdict(set)
    for hazard in hazards:
        for circle, role in _ROLE.items():
            circles[hazard.id, circle] = by_place[hazard.region_id, role]
        circles[hazard.id, _Circle.OFFICERS] = officers[hazard.id]
        circles[hazard.id, _Circle.HANDLER] = handlers & {hazard.handler_id}
        if hazard.level is not None:
            circles[hazard.id, _Circle.LEVEL] = circles[hazard.id, _LEVEL_CIRCLE[hazard.level]]
    return circles


async def _at_work(session: AsyncSession, staff_ids: Collection[UUID]) -> set[UUID]:
    """Those who can sign in: not who was let go, nor whoever stands for the handler of an imported case."""
    active = select(Staff.id).where(Staff.id.in_(staff_ids), Staff.status == StaffStatus.ACTIVE)
    return set(await session.scalars(active))


async def _by_place(
    session: AsyncSession, region_ids: Collection[UUID]
) -> dict[tuple[UUID, Role], set[UUID]]:
    rows = await session.execute(
        select(RegionAncestor.region_id, Grant.role, Grant.staff_id)
        .join(Grant, Grant.region_id == RegionAncestor.ancestor_id)
        .join(Staff, Staff.id == Grant.staff_id)
        .where(RegionAncestor.region_id.in_(region_ids), Grant.role.in_(_ROLE.values()), *in_force())
    )
    found: dict[tuple[UUID, Role], set[UUID]] = defaultdict(set)
    for region_id, role, staff_id in rows:
        found[region_id, role].add(staff_id)
    return found


async def _officers(session: AsyncSession, hazard_ids: Collection[UUID]) -> dict[UUID, set[UUID]]:
    """Those of the departments that are dispatched to each hazard now."""
    rows = await session.execute(
        select(HazardAssignment.hazard_id, Grant.staff_id)
        .join(Grant, Grant.organisation_id == HazardAssignment.organisation_id)
        .join(Staff, Staff.id == Grant.staff_id)
        .where(
            HazardAssignment.hazard_id.in_(hazard_ids),
            HazardAssignment.status.in_(_ASSIGNED),
            Grant.role == Role.DEPARTMENT_OFFICER,
            *in_force(),
        )
    )
    found: dict[UUID, set[UUID]] = defaultdict(set)
    for hazard_id, staff_id in rows:
        found[hazard_id].add(staff_id)
    return found


def in_force() -> tuple[ColumnElement[bool], ...]:
    """Conditions on staff and grants: both count now."""
    return (
        Staff.status == StaffStatus.ACTIVE,
        or_(Grant.expires_at.is_(None), Grant.expires_at > clock.now()),
    )
