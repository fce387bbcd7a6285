"""Recording what happened, in the transaction in which it happens."""

from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from app import clock, writes
from app.auth import Caller
from app.context import request_id
from app.db import signal_after_commit
from app.ids import new_id
from app.models.base import JsonObject
from app.models.events import Audience, Event

TOPIC = "events"


class Counted(Protocol):
    """A subject that counts its events under its own row lock."""

    id: UUID
    event_seq: int
    __tablename__: str


@dataclass(frozen=True, slots=True)
class Place:
    """Where an event belongs, for scoping: a community and the finest region known."""

    community_id: UUID | None
    region_id: UUID | None


NOWHERE = Place(None, None)


def record(
    session: AsyncSession,
    caller: Caller,
    subject: Counted,
    type_: str,
    *,
    audience: Audience,
    place: Place = NOWHERE,
    payload: JsonObject | None = None,
) -> UUID:
    """Append one event about `subject`, which must be locked or new; its id. The payload never holds personal data."""
    subject.event_seq += 1
    return _append(
        session, caller, subject.__tablename__, subject.id, subject.event_seq, type_, audience, place, payload
    )


def record_access(
    session: AsyncSession,
    caller: Caller,
    type_: str,
    *,
    place: Place = NOWHERE,
    payload: JsonObject | None = None,
) -> UUID:
    """Append an audit entry about a request that changed nothing: a denial, a reveal, a failed login."""
    return _append(session, caller, "access", new_id(), 1, type_, Audience.AUDIT, place, payload)


def _append(
    session: AsyncSession,
    caller: Caller,
    subject_kind: str,
    subject_id: UUID,
    seq: int,
    type_: str,
    audience: Audience,
    place: Place,
    payload: JsonObject | None,
) -> UUID:
    event_id = new_id()
    values = {
        "id": event_id,
        "type": type_,
        "audience": audience,
        "community_id": place.community_id,
        "region_id": place.region_id,
        "subject_kind": subject_kind,
        "subject_id": subject_id,
        "seq": seq,
        "actor_kind": caller.kind,
        "actor_id": caller.id,
        "occurred_at": clock.now(),
        "request_id": request_id.get(),
        "payload": payload or {},
    }
    writes.add(session, Event, values)
    signal_after_commit(session, TOPIC)
    return event_id
