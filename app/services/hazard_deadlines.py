"""The clock of the level that has to act: started, warned about, escalated once (督办), stopped.

A level is overdue from its due time on, that instant included. Sweeps lock hazards first, as every step does.
"""

from datetime import datetime
from uuid import UUID

from sqlalchemy import ColumnElement, and_, func, literal, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from app import clock, events, writes
from app.auth import SYSTEM
from app.ids import new_id
from app.models.base import JsonObject, UtcDateTime
from app.models.events import Audience
from app.models.hazard_deadlines import HazardDeadline
from app.models.hazards import Hazard, HazardLevel
from app.schemas.hazard_categories import Deadline
from app.services import hazard_access, hazard_categories
from app.services.hazard_categories import Category
from app.worktime import ClockKind, due_at

_SWEPT = 100


def start_first(session: AsyncSession, hazard: Hazard, category: Category) -> None:
    """Start the clock of the grid for a new hazard."""
    _start(session, hazard, category, HazardLevel.GRID, hazard.created_at, 1)


async def start(session: AsyncSession, hazard: Hazard, level: HazardLevel, at: datetime) -> None:
    """Start the clock of `level` for a locked hazard, by its category's table as it is now."""
    category = await hazard_categories.find(session, hazard.category)
    before = await session.scalar(
        select(func.max(HazardDeadline.n)).where(HazardDeadline.hazard_id == hazard.id)
    )
    _start(session, hazard, category, level, at, (before or 0) + 1)


def _start(
    session: AsyncSession, hazard: Hazard, category: Category, level: HazardLevel, at: datetime, n: int
) -> None:
    rule = Deadline.model_validate(category.deadlines[level])
    kind = ClockKind(rule.clock)
    due = due_at(at, rule.minutes, kind)
    values = {
        "id": new_id(),
        "created_at": at,
        "hazard_id": hazard.id,
        "n": n,
        "level": level,
        "started_at": at,
        "warn_at": due_at(at, rule.minutes - rule.warn_minutes, kind),
        "due_at": due,
    }
    writes.add(session, HazardDeadline, values)
    hazard.start_clock(due)


async def stop(session: AsyncSession, hazard: Hazard, at: datetime) -> None:
    """The level acted, or nobody has to any more. One that acted too late is escalated all the same, before."""
    await session.flush()
    running = (HazardDeadline.hazard_id == hazard.id) & HazardDeadline.ended_at.is_(None)
    await _escalate(session, {hazard.id: hazard}, running & _to_escalate(at), at)
    await session.execute(update(HazardDeadline).where(running).values(ended_at=at))
    hazard.start_clock(None)


async def is_any_due(session: AsyncSession) -> bool:
    """Whether a sweep would find something."""
    now = clock.now()
    found = await session.scalar(
        select(HazardDeadline.id).where(or_(_to_warn(now), _to_escalate(now))).limit(1)
    )
    return found is not None


async def sweep_warnings(session: AsyncSession) -> int:
    """Warn once of what is close to its due time; how many were warned of. At most 100: call again when it was that."""
    now = clock.now()
    hazards = await _locked(session, _to_warn(now), HazardDeadline.warn_at)
    warned = await _mark(session, hazards, _to_warn(now), warned_at=now)
    for deadline in warned:
        _record(session, hazards[deadline.hazard_id], "hazard.deadline_warned", deadline)
    return len(warned)


async def sweep_escalations(session: AsyncSession) -> int:
    """Escalate once what has reached its due time; how many were. At most 100: call again when it was that."""
    now = clock.now()
    hazards = await _locked(session, _to_escalate(now), HazardDeadline.due_at)
    return await _escalate(session, hazards, _to_escalate(now), now)


def _to_warn(now: datetime) -> ColumnElement[bool]:
    return and_(
        HazardDeadline.ended_at.is_(None),
        HazardDeadline.warned_at.is_(None),
        HazardDeadline.warn_at <= now,
        HazardDeadline.due_at > now,
    )


def _to_escalate(now: datetime) -> ColumnElement[bool]:
    return and_(
        HazardDeadline.ended_at.is_(None),
        HazardDeadline.escalated_at.is_(None),
        HazardDeadline.due_at <= now,
    )


async def _locked(
    session: AsyncSession, condition: ColumnElement[bool], order: InstrumentedAttribute[datetime]
) -> dict[UUID, Hazard]:
    """The hazards to look at; one that somebody is changing right now has its turn in the next sweep."""
    rows = await session.scalars(
        select(Hazard)
        .join(HazardDeadline, HazardDeadline.hazard_id == Hazard.id)
        .where(condition)
        .order_by(order)
        .limit(_SWEPT)
        .with_for_update(of=Hazard, skip_locked=True)
    )
    return {hazard.id: hazard for hazard in rows}


async def _mark(
    session: AsyncSession,
    hazards: dict[UUID, Hazard],
    condition: ColumnElement[bool],
    **values: object,
) -> list[HazardDeadline]:
    """Set the columns where the condition still holds: what was read before the lock may be old."""
    rows = await session.scalars(
        update(HazardDeadline)
        .where(HazardDeadline.hazard_id.in_(hazards), condition)
        .values(**values)
        .returning(HazardDeadline)
        .execution_options(synchronize_session=False, populate_existing=True)
    )
    return sorted(rows, key=lambda deadline: deadline.due_at)


async def _escalate(
    session: AsyncSession, hazards: dict[UUID, Hazard], condition: ColumnElement[bool], at: datetime
) -> int:
    warned_at = func.coalesce(HazardDeadline.warned_at, literal(at, UtcDateTime()))
    escalated = await _mark(session, hazards, condition, escalated_at=at, warned_at=warned_at)
    for deadline in escalated:
        hazard = hazards[deadline.hazard_id]
        hazard.mark_overdue(at)
        _record(session, hazard, "hazard.escalated", deadline)
    return len(escalated)


def _record(session: AsyncSession, hazard: Hazard, type_: str, deadline: HazardDeadline) -> None:
    facts: JsonObject = {
        "status": hazard.status,
        "level": deadline.level,
        "n": deadline.n,
        "due_at": deadline.due_at.isoformat(),
    }
    events.record(
        session,
        SYSTEM,
        hazard,
        type_,
        audience=Audience.STAFF,
        place=hazard_access.place_of(hazard),
        payload=facts,
    )
