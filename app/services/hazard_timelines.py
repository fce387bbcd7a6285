"""What happened to a hazard, step by step, as the caller may know it."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.auth import Caller
from app.keys import unseal
from app.models.events import Audience, Event
from app.models.hazard_comments import HazardComment
from app.models.hazards import Hazard, HazardLevel
from app.models.sessions import PrincipalKind
from app.schemas.hazards import Actor, Timeline, TimelineEntry
from app.services import event_facts, hazard_comments
from app.services.hazard_views import find

_STEP_OF: dict[str, Actor] = {
    "hazard.accepted": "grid",
    "hazard.assigned": "grid",
    "hazard.called": "grid",
    "hazard.dispatched": "street",
    "hazard.refused": "department",
    "hazard.checked_in": "department",
    "hazard.part_done": "department",
}


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
    return Timeline(items=[_entry(caller, hazard, event, words.get(event.id)) for event in found])


async def _words(session: AsyncSession, caller: Caller, event_ids: Sequence[UUID]) -> dict[UUID, str]:
    rows = await session.scalars(
        select(HazardComment).where(
            HazardComment.event_id.in_(event_ids), hazard_comments.readable_by(caller)
        )
    )
    return {row.event_id: text for row in rows if row.event_id and (text := unseal(row, "text"))}


def _entry(caller: Caller, hazard: Hazard, event: Event, text: str | None) -> TimelineEntry:
    if not caller.is_resident:
        facts = event_facts.for_staff(event)
    else:
        facts = (
            event_facts.for_party(event) if hazard.reporter_id == caller.id else event_facts.for_public(event)
        )
    return TimelineEntry(
        seq=event.seq,
        type=event.type,
        occurred_at=event.occurred_at,
        actor=actor_of(hazard, event),
        data={name: value for name, value in facts.items() if isinstance(value, _PLAIN)},
        text=text,
    )


_PLAIN = (str, int, bool, type(None))


def actor_of(hazard: Hazard, event: Event) -> Actor:
    """In which role somebody did something; nobody's name."""
    if event.actor_kind is PrincipalKind.SYSTEM:
        return "system"
    if event.actor_kind is PrincipalKind.RESIDENT:
        return "reporter" if event.actor_id == hazard.reporter_id else "resident"
    by = event.payload.get("by")
    return HazardLevel(by).value if isinstance(by, str) else _STEP_OF.get(event.type, "staff")
