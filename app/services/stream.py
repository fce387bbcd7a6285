"""Live updates: the events a caller may see, in the order of their positions, for as long as the caller may.

The query decides what is seen; signals only say when to ask. A stream holds no connection while it waits.
"""

import asyncio
import contextlib
from collections import Counter, defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import TypeVar
from uuid import UUID

from sqlalchemy import ColumnElement, and_, or_, select, union
from sqlalchemy.ext.asyncio import AsyncSession

from app import auth, clock
from app.auth import Caller
from app.db import database, signal_after_commit
from app.errors import Problem, TooManyRequests, Unavailable
from app.models.events import Audience, Event, EventHead
from app.models.hazard_assignments import AssignmentStatus, HazardAssignment
from app.models.hazard_comments import HazardSupport
from app.models.hazards import Hazard
from app.models.households import Household
from app.models.regions import RegionAncestor
from app.policy import POLICY
from app.schemas.notifications import SubjectRead
from app.schemas.stream import StreamEvent
from app.services import event_facts, scopes, subscriptions
from app.signals import signals

T = TypeVar("T")

OPERATION = "stream_events"
PER_CALLER = 5
_PER_PROCESS = 500
_BATCH = 100
_AT_ONCE = 4
_RECHECK_SECONDS = 1.0
_UNHEARD_SECONDS = 10.0
_PAUSE_SECONDS = 0.1

_HAZARDS, _HOUSEHOLDS = Hazard.__tablename__, Household.__tablename__
_NOT_THEIRS = (AssignmentStatus.RELEASED, AssignmentStatus.REFUSED)


class TooManyStreams(TooManyRequests):
    """A few streams are enough for anybody; close one first."""

    code = "too_many_streams"
    title_en, title_zh = "Too many live streams are open", "实时连接数过多"


@dataclass(eq=False, slots=True)
class Subscription:
    """One open stream: whose token it came with, how far it has read, and what wakes it."""

    authorization: str
    caller: Caller
    position: int
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    topics: set[str] = field(default_factory=set)


_open: Counter[UUID] = Counter()
_waiting: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
_queries = asyncio.Semaphore(_AT_ONCE)
_asking: set[asyncio.Task[object]] = set()


def _heard(topic: str) -> None:
    for wake in _waiting.get(topic, ()):
        wake.set()


signals.listen(_heard)


@contextlib.asynccontextmanager
async def subscribe(caller: Caller, authorization: str, after: int | None) -> AsyncIterator[Subscription]:
    """Open a stream behind the position `after`, or behind everything that has happened so far."""
    if _open[caller.id] >= PER_CALLER:
        raise TooManyStreams(retry_after=10)
    if _open.total() >= _PER_PROCESS:
        raise Unavailable(retry_after=10)
    _open[caller.id] += 1
    subscription = Subscription(authorization, caller, 0)
    try:
        async with database.reading() as session:
            await _listen(session, subscription)
            head = await _head(session)
        subscription.position = head if after is None else min(after, head)
        yield subscription
    finally:
        _stop_listening(subscription)
        _open[caller.id] -= 1
        if not _open[caller.id]:
            del _open[caller.id]


async def follow(subscription: Subscription) -> AsyncGenerator[tuple[int, StreamEvent]]:
    """Positions and events as they come; ends when the caller may no longer listen."""
    wake, asked_at = subscription.wake, clock.monotonic() - _UNHEARD_SECONDS
    while await _undisturbed(_may_listen(subscription)):
        if wake.is_set() or clock.monotonic() - asked_at >= _UNHEARD_SECONDS:
            wake.clear()
            asked_at = clock.monotonic()
            for event in await _undisturbed(_next(subscription)):
                yield event
            # A burst of events costs a few queries, not one each.
            await asyncio.sleep(_PAUSE_SECONDS)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_RECHECK_SECONDS):
                await wake.wait()


async def announce(session: AsyncSession, batch: Sequence[Event]) -> None:
    """Wake the streams that these events may concern, once they are placed."""
    hazard_ids = {event.subject_id for event in batch if event.subject_kind == _HAZARDS}
    household_ids = {event.subject_id for event in batch if event.subject_kind == _HOUSEHOLDS}
    concerned = [
        select(Hazard.reporter_id).where(Hazard.id.in_(hazard_ids)),
        select(HazardSupport.resident_id).where(HazardSupport.hazard_id.in_(hazard_ids)),
        select(HazardAssignment.organisation_id).where(HazardAssignment.hazard_id.in_(hazard_ids)),
        select(Household.resident_id).where(Household.id.in_(household_ids)),
    ]
    ids = {event.region_id for event in batch} | set(await session.scalars(union(*concerned)))
    ids |= await subscriptions.residents_following(session, hazard_ids)
    for each in filter(None, ids):
        signal_after_commit(session, _topic(each))


def visible_to(caller: Caller) -> ColumnElement[bool]:
    """The events that exist for this caller; what only auditors may read is for no stream."""
    if caller.is_resident:
        theirs = or_(_own(caller), subscriptions.about_followed(caller))
        return and_(Event.audience.in_([Audience.PUBLIC, Audience.PARTIES]), theirs)
    scope = caller.scope(OPERATION)
    dispatched = select(HazardAssignment.hazard_id).where(
        HazardAssignment.organisation_id.in_(scope.organisation_ids),
        HazardAssignment.status.not_in(_NOT_THEIRS),
    )
    return and_(
        Event.audience != Audience.AUDIT,
        or_(
            scopes.within(Event.region_id, scope),
            and_(Event.subject_kind == _HAZARDS, Event.subject_id.in_(dispatched)),
        ),
    )


def _own(caller: Caller) -> ColumnElement[bool]:
    reported = select(Hazard.id).where(Hazard.reporter_id == caller.id)
    supported = select(HazardSupport.hazard_id).where(HazardSupport.resident_id == caller.id)
    homes = select(Household.id).where(Household.resident_id == caller.id)
    return or_(
        and_(
            Event.subject_kind == _HAZARDS,
            or_(Event.subject_id.in_(reported), Event.subject_id.in_(supported)),
        ),
        and_(Event.subject_kind == _HOUSEHOLDS, Event.subject_id.in_(homes)),
    )


async def _undisturbed(query: Coroutine[None, None, T]) -> T:
    """Ask to the end, also when the client hangs up meanwhile: the framework would cut the query off, and with it the connection."""
    asking = asyncio.create_task(query)
    _asking.add(asking)
    asking.add_done_callback(_asked)
    return await asyncio.shield(asking)


def _asked(asking: asyncio.Task[object]) -> None:
    _asking.discard(asking)
    if not asking.cancelled():
        # Whoever asked may have gone: then nobody else looks at it.
        asking.exception()


async def _may_listen(subscription: Subscription) -> bool:
    """Ask again: signing out, a disabled account or a changed grant bites on open streams too."""
    try:
        caller = await auth.identify(subscription.authorization)
        auth.authorise(caller, POLICY[OPERATION])
    except Problem:
        return False
    if caller is not None and caller != subscription.caller:
        subscription.caller = caller
        async with database.reading() as session:
            await _listen(session, subscription)
    return True


async def _next(subscription: Subscription) -> list[tuple[int, StreamEvent]]:
    """What came after the last position read; the head is read first, so nothing slips in between."""
    async with _queries, database.reading() as session:
        head = await _head(session)
        rows = await session.scalars(
            select(Event)
            .where(
                Event.position > subscription.position,
                Event.position <= head,
                Event.imported_at.is_(None),
                visible_to(subscription.caller),
            )
            .order_by(Event.position)
            .limit(_BATCH)
        )
        found = list(rows)
        mine = await _reported(session, subscription.caller, found)
        events = [(event.position or 0, _describe(subscription.caller, event, mine)) for event in found]
    subscription.position = head
    if len(events) == _BATCH:
        subscription.position = events[-1][0]
        subscription.wake.set()
    return events


async def _head(session: AsyncSession) -> int:
    return await session.scalar(select(EventHead.position)) or 0


async def _reported(session: AsyncSession, caller: Caller, found: Sequence[Event]) -> set[UUID]:
    """The hazards among the subjects that the caller, a resident, has reported rather than supported."""
    if not caller.is_resident or not found:
        return set()
    subjects = {event.subject_id for event in found if event.subject_kind == _HAZARDS}
    query = select(Hazard.id).where(Hazard.id.in_(subjects), Hazard.reporter_id == caller.id)
    return set(await session.scalars(query))


def _describe(caller: Caller, event: Event, mine: set[UUID]) -> StreamEvent:
    if not caller.is_resident:
        data = event_facts.for_staff(event)
    else:
        data = event_facts.for_party(event) if event.subject_id in mine else event_facts.for_public(event)
    return StreamEvent(
        id=event.id,
        type=event.type,
        subject=SubjectRead(kind=event.subject_kind, id=event.subject_id),
        seq=event.seq,
        occurred_at=event.occurred_at,
        community_id=event.community_id,
        data=data,
    )


async def _listen(session: AsyncSession, subscription: Subscription) -> None:
    """Hear of the caller's account, of their own things, and of every region and organisation in scope."""
    _stop_listening(subscription)
    caller, scope = subscription.caller, subscription.caller.scope(OPERATION)
    regions = await session.scalars(
        select(RegionAncestor.region_id).where(RegionAncestor.ancestor_id.in_(scope.region_ids))
    )
    concerned = {caller.id, *regions, *scope.organisation_ids}
    subscription.topics = {auth.topic(caller.id), *map(_topic, concerned)}
    for topic in subscription.topics:
        _waiting[topic].add(subscription.wake)
    subscription.wake.set()


def _stop_listening(subscription: Subscription) -> None:
    for topic in subscription.topics:
        _waiting[topic].discard(subscription.wake)
        if not _waiting[topic]:
            del _waiting[topic]
    subscription.topics = set()


def _topic(concerned: UUID) -> str:
    """The signal that something happened in a region, to an organisation, or to a resident."""
    return f"stream:{concerned}"
