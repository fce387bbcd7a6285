"""Invariants of the events: gapless per subject, dense as a feed, chained, and about something that exists."""

from collections.abc import AsyncIterator
from typing import cast

from sqlalchemy import exists, func, or_, select
from sqlalchemy.orm import aliased

from app import sequencer
from app.models.base import Base, Entity, Subject
from app.models.events import Event, EventHead
from app.models.hazards import Hazard
from app.services.verification_checks import MOST, Check, Probe, rows

_ACCESS = "access"


class _Counted(Entity, Subject):
    """What every table that events can be about has."""

    __abstract__ = True


def _gaps() -> Check:
    count, first, last = func.count(), func.min(Event.seq), func.max(Event.seq)
    query = (
        select(
            Event.subject_id, Event.subject_kind, count.label("events"), first.label("from"), last.label("to")
        )
        .group_by(Event.subject_kind, Event.subject_id)
        .having(or_(first != 1, last != count))
    )
    return Check(
        "events.seq",
        "the events of every subject are numbered 1, 2, 3 … without a gap",
        rows("events of", query),
    )


async def _counters(probe: Probe) -> AsyncIterator[str]:
    for table in _subjects():
        last = func.coalesce(func.max(Event.seq), 0)
        query = (
            select(table.id, table.event_seq, last.label("last"))
            .outerjoin(Event, (Event.subject_kind == table.__tablename__) & (Event.subject_id == table.id))
            .group_by(table.id, table.event_seq)
            .having(table.event_seq != last)
        )
        for row in await probe.session.execute(query.limit(MOST)):
            yield f"{table.__tablename__} {row.id}: counts {row.event_seq} events, the last one is {row.last}"


async def _strangers(probe: Probe) -> AsyncIterator[str]:
    kinds = {table.__tablename__: table for table in _subjects()}
    unknown = select(Event.id, Event.subject_kind).where(Event.subject_kind.not_in([*kinds, _ACCESS]))
    for event_id, kind in await probe.session.execute(unknown.limit(MOST)):
        yield f"events {event_id}: is about {kind}, which does not exist"
    for kind, table in kinds.items():
        gone = select(Event.id, Event.subject_id).where(
            Event.subject_kind == kind, ~exists().where(table.id == Event.subject_id)
        )
        for event_id, subject_id in await probe.session.execute(gone.limit(MOST)):
            yield f"events {event_id}: is about {kind} {subject_id}, which does not exist"


def _positions() -> Check:
    before = func.coalesce(func.lag(Event.position).over(order_by=Event.position), 0)
    placed = select(Event.id, Event.position, before.label("before")).where(Event.position.is_not(None))
    listed = placed.subquery()
    query = select(listed.c.id, listed.c.position, listed.c.before).where(
        listed.c.position != listed.c.before + 1
    )
    return Check("events.position", "positions are 1, 2, 3 … without a gap", rows("events", query))


def _head() -> Check:
    last = select(func.coalesce(func.max(Event.position), 0)).scalar_subquery()
    query = select(EventHead.id, EventHead.position, last.label("last")).where(EventHead.position != last)
    return Check("events.head", "the head is the last position given", rows("event_head", query))


async def _chain(probe: Probe) -> AsyncIterator[str]:
    for broken in await sequencer.verify_chain(probe.session):
        yield f"events {broken}"


def _status() -> Check:
    """The newest event that names a status names the one that the hazard has."""
    other = aliased(Event)
    newest = (
        select(func.max(other.seq))
        .where(
            other.subject_kind == Hazard.__tablename__,
            other.subject_id == Hazard.id,
            other.payload["status"].as_string().is_not(None),
        )
        .scalar_subquery()
    )
    told = Event.payload["status"].as_string()
    query = (
        select(Hazard.id, Hazard.status, told.label("told"))
        .join(Event, (Event.subject_kind == Hazard.__tablename__) & (Event.subject_id == Hazard.id))
        .where(Event.seq == newest, told != Hazard.status)
    )
    return Check(
        "hazards.timeline", "the timeline of every hazard ends in its status", rows("hazards", query)
    )


def _subjects() -> list[type[_Counted]]:
    """Every table that events can be about."""
    tables = [mapper.class_ for mapper in Base.registry.mappers if issubclass(mapper.class_, Subject)]
    return sorted(cast(list[type[_Counted]], tables), key=lambda table: table.__tablename__)


CHECKS = (
    _gaps(),
    Check("events.counters", "every subject counts the events that it has", _counters),
    Check("events.subjects", "every event is about something that exists", _strangers),
    _positions(),
    _head(),
    Check("events.chain", "no placed event was changed, added or taken away", _chain),
    _status(),
)
