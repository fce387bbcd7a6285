"""Gives every committed event its place in one unbroken, tamper-evident order, and hands it to those who react to it.

Positions are given after the commit, under the lock of one row, to whatever is committed by then. So they are dense
and in the order in which commits were seen: whoever follows positions misses nothing that commits late. Each digest
covers the one before. Somebody who owns the database can still rewrite the chain to its very end: compare the head
with a copy that is kept elsewhere.
"""

import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from uuid import UUID

import structlog
from sqlalchemy import Row, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.db import insert
from app.ids import new_id
from app.leases import describe, ended
from app.models.events import Event, EventHead
from app.models.tasks import Task, TaskStatus

BATCH = 200
GENESIS = "0" * 64
FAILED = "events.handle"

Handler = Callable[[AsyncSession, Sequence[Event]], Awaitable[None]]
Handlers = Mapping[str, Sequence[Handler]]
"""By the beginning of the event's type: `hazard.` is all about hazards."""

_HEAD = 1
_COLUMNS = Event.__table__.columns
_log = structlog.get_logger("sequencer")


async def sequence(session: AsyncSession, handlers: Handlers, limit: int = BATCH) -> int:
    """Place up to `limit` events, oldest first, and hand them on; how many there were."""
    head = await _locked_head(session)
    unplaced = select(Event).where(Event.position.is_(None)).order_by(Event.no).limit(limit)
    batch = list(await session.scalars(unplaced))
    for event in batch:
        head.position += 1
        event.position = head.position
        event.digest = head.digest = digest(head.digest, event)
    await session.flush()
    for prefix, wired in handlers.items():
        matching = [event for event in batch if event.type.startswith(prefix) and event.imported_at is None]
        for handler in wired if matching else ():
            await _hand(session, handler, matching)
    return len(batch)


async def pause(session: AsyncSession) -> None:
    """Wait until what is being placed is committed; nothing is placed before this transaction ends."""
    await session.execute(select(EventHead.id).with_for_update(read=True))


def digest(before: str, event: Event | Row[tuple[object, ...]]) -> str:
    """SHA-256 in hex over the digest before and every column of the event in one canonical form."""
    facts = {column.key: getattr(event, column.key) for column in _COLUMNS if column.key != "digest"}
    canonical = json.dumps(facts, default=_text, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(f"{before}\n{canonical}".encode()).hexdigest()


class Walk:
    """Recomputes a chain from its first event on, row by row, up to where its head says that it ends."""

    def __init__(self, head: EventHead) -> None:
        self._head_position, self._head_digest = head.position, head.digest
        self._position, self._digest = 0, GENESIS

    def step(self, row: Row[tuple[object, ...]] | Event) -> str | None:
        """What is wrong with the next row, if anything."""
        self._position += 1
        found = row.position or 0
        if found > self._position:
            return f"position {self._position}: the event is missing"
        if found < self._position:
            return f"position {found}: no event has such a position"
        self._digest = digest(self._digest, row)
        if row.digest != self._digest:
            return f"position {self._position}: the event does not match its digest"
        if self._position == self._head_position and self._digest != self._head_digest:
            return f"position {self._position}: the event does not match the head of the chain"
        return None

    def end(self, head_now: int) -> str | None:
        """What is wrong with the end, if anything; the head may have moved on meanwhile."""
        if self._position < self._head_position:
            return f"position {self._position + 1}: the event is missing"
        if self._position > head_now:
            return f"position {head_now + 1}: the event lies beyond the head of the chain"
        return None


async def verify_chain(session: AsyncSession, page: int = 1000) -> list[str]:
    """Recompute the whole chain; empty when it is intact, else one line that names the first bad position.

    It may run beside a sequencer: what is placed meanwhile is checked as far as it is seen.
    """
    walk, last = Walk(await _head(session)), -(2**62)
    while True:
        query = select(*_COLUMNS).where(Event.position > last).order_by(Event.position).limit(page)
        rows = (await session.execute(query)).all()
        faults = [fault for row in rows if (fault := walk.step(row)) is not None]
        if faults:
            return faults[:1]
        if len(rows) < page:
            break
        last = rows[-1].position
    fault = walk.end((await _head(session)).position)
    return [] if fault is None else [fault]


def failed_handling(event: Event, handler: str, error: str) -> Task:
    """A dead task that says which handler failed on which event; queued again, it tries again."""
    return Task(
        id=new_id(),
        kind=FAILED,
        payload={"event_id": str(event.id), "handler": handler},
        run_at=clock.now(),
        last_error=error,
        **ended(TaskStatus.DEAD),
    )


def name_of(handler: Handler) -> str:
    """The name by which a stored task remembers a handler."""
    return f"{handler.__module__}.{handler.__qualname__}"


async def _locked_head(session: AsyncSession) -> EventHead:
    query = select(EventHead).where(EventHead.id == _HEAD).with_for_update()
    head = await session.scalar(query)
    if head is None:
        first = {"id": _HEAD, "position": 0, "digest": GENESIS}
        await session.execute(insert(EventHead).values(first).on_conflict_do_nothing())
        head = (await session.scalars(query)).one()
    return head


async def _hand(session: AsyncSession, handler: Handler, batch: Sequence[Event]) -> None:
    """All at once; when that fails one by one, so that a poisoned event stops neither the order nor its neighbours."""
    error = await _try(session, handler, batch)
    if error is None:
        return
    for event in batch:
        error = await _try(session, handler, [event])
        if error is not None:
            _log.error("event_handler_failed", part=name_of(handler), subject_id=str(event.id), error=error)
            session.add(failed_handling(event, name_of(handler), error))
    await session.flush()


async def _try(session: AsyncSession, handler: Handler, batch: Sequence[Event]) -> str | None:
    """Run in a savepoint; what failed, if anything. A database that went away is not the event's fault."""
    try:
        async with session.begin_nested():
            await handler(session, batch)
    except DBAPIError as failure:
        if failure.connection_invalidated:
            raise
        return describe(failure)
    except Exception as failure:
        return describe(failure)
    return None


async def _head(session: AsyncSession) -> EventHead:
    """The head as it is now; before the first event there is none."""
    query = select(EventHead).where(EventHead.id == _HEAD).execution_options(populate_existing=True)
    return await session.scalar(query) or EventHead(id=_HEAD, position=0, digest=GENESIS)


def _text(value: object) -> str:
    return value.hex if isinstance(value, UUID) else str(value)
