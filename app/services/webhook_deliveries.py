"""Deliveries: one per event and endpoint, in order per subject, tried again later and later, dead in the end."""

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TypedDict, cast
from uuid import UUID

from sqlalchemy import (
    Boolean,
    ColumnElement,
    Integer,
    ScalarSelect,
    Table,
    bindparam,
    case,
    literal_column,
    or_,
    select,
    union_all,
    update,
)
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from app import clock, pagination, writes
from app.auth import Caller
from app.clients.outbound import Outcome
from app.db import insert
from app.errors import NotFound
from app.hot import Hot, one_of
from app.ids import new_id
from app.models.events import Event
from app.models.webhooks import (
    DeliveryStatus,
    EndpointStatus,
    PayloadKind,
    WebhookAttempt,
    WebhookDelivery,
    WebhookEndpoint,
)
from app.schemas.base import Page
from app.schemas.webhooks import (
    WebhookAttemptRead,
    WebhookDeliveryDetail,
    WebhookDeliveryRead,
)
from app.services import filters, scopes, webhook_endpoints, webhook_payloads
from app.settings import settings

_LIST = "list_webhook_deliveries"
_ROWS = 500
_JITTER = 0.2
_LONGEST_WAIT = 86_400.0
_SLOW_DOWN = (429, 503)
_DELIVERIES = cast(Table, WebhookDelivery.__table__)
_ATTEMPTS = cast(Table, WebhookAttempt.__table__)
_Waiting = aliased(WebhookDelivery)
# As the indexes say it: on SQLite no other way to say the same finds them, and a plan scans all that waits.
_IS_READY: tuple[ColumnElement[bool], ...] = (
    WebhookDelivery.status == literal_column("'queued'"),
    literal_column("webhook_deliveries.ready"),
)


@dataclass(frozen=True, slots=True)
class Claimed:
    """One delivery in the hands of this process until its lease ends."""

    id: UUID
    token: UUID
    lease_ends: datetime
    event_id: UUID
    attempt: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Receiver:
    """An active endpoint as the sender needs it."""

    id: UUID
    url: str
    payload: PayloadKind
    keys: list[bytes]
    failing: bool


class _Id(TypedDict):
    id: UUID | None


class _Due(TypedDict):
    id: UUID
    event_id: UUID
    lease_token: UUID | None
    attempts: int


_TOLD = (
    Event.type,
    Event.position,
    Event.subject_kind,
    Event.subject_id,
    Event.seq,
    Event.community_id,
    Event.region_id,
    Event.occurred_at,
    Event.payload,
)


async def receivers(
    session: AsyncSession, full: Sequence[UUID], freed: Collection[UUID] = ()
) -> list[Receiver]:
    """The active endpoints that have something due, or will as they were `freed`, without those that are `full`."""
    due = select(WebhookDelivery.endpoint_id).where(
        *_IS_READY,
        WebhookDelivery.next_at <= clock.now(),
        WebhookDelivery.endpoint_id == WebhookEndpoint.id,
    )
    rows = await session.scalars(
        select(WebhookEndpoint).where(
            WebhookEndpoint.status == EndpointStatus.ACTIVE,
            WebhookEndpoint.id.not_in(full),
            or_(WebhookEndpoint.id.in_(freed), due.exists()),
        )
    )
    found = {row.id: row for row in rows}
    keys = await webhook_endpoints.all_signing_keys(session, list(found)) if found else {}
    return [
        Receiver(row.id, row.url, row.payload, keys[row.id], row.failing_since is not None)
        for row in found.values()
        if row.id in keys
    ]


async def claim(
    session: AsyncSession, wanted: Sequence[tuple[Receiver, int]]
) -> list[tuple[Receiver, Claimed]]:
    """Take due deliveries, so many of each endpoint, each the earliest of its subject, under one lease."""
    now, token = clock.now(), new_id()
    found: list[tuple[Receiver, _Due]] = []
    for receiver, room in wanted:
        values = {"endpoint": receiver.id, "now": now, "room": room}
        found += [(receiver, row) for row in await writes.run(session, _DUE, values)]
    if not found:
        return []
    rows = [row for _, row in found]
    await _write_tries(
        session,
        [_lost(row["id"], row["lease_token"], row["attempts"], now) for row in rows if row["lease_token"]],
    )
    lease_ends = now + timedelta(seconds=settings.job_lease_seconds)
    taken = {"ids": [row["id"] for row in rows], "lease": token, "lease_ends": lease_ends}
    await writes.run(session, _TAKE, taken)
    return [
        (
            receiver,
            Claimed(
                row["id"],
                token,
                lease_ends,
                row["event_id"],
                row["attempts"] + 1,
                await webhook_payloads.body_of(session, _event(row), row["id"], receiver.payload),
            ),
        )
        for receiver, row in found
    ]


def _event(row: _Due) -> Event:
    """As much of it as its deliveries say."""
    told = {column.key: row[column.key] for column in _TOLD}  # type: ignore[literal-required]
    return Event(id=row["event_id"], **told)


async def finish(session: AsyncSession, results: Sequence[tuple[Claimed, Outcome]]) -> None:
    """Write down how tries ended. For whoever lost the lease in the meantime the delivery does not change."""
    now = clock.now()
    ids = [claimed.id for claimed, _ in results]
    if not settings.is_sqlite:
        await writes.run(session, _LOCK, {"ids": ids})
    await session.execute(_SETTLE, [_settled(*result, now) for result in results])
    await _write_tries(
        session, [_try(each.id, each.token, each.attempt, outcome, now) for each, outcome in results]
    )
    over = [claimed.id for claimed, outcome in results if _end(claimed, outcome) is not DeliveryStatus.QUEUED]
    if over:
        await writes.run(session, _PROMOTE, {"ids": over})


async def give_back(session: AsyncSession, unsent: Sequence[Claimed]) -> None:
    """These were taken and not tried: whoever comes next may have them."""
    for claimed in unsent:
        await session.execute(
            update(WebhookDelivery)
            .where(WebhookDelivery.id == claimed.id, WebhookDelivery.lease_token == claimed.token)
            .values(lease_token=None, attempts=claimed.attempt - 1, next_at=clock.now())
            .execution_options(synchronize_session=False)
        )


async def note_outcomes(
    session: AsyncSession, receiver: Receiver, results: Sequence[tuple[Claimed, Outcome]]
) -> None:
    """Tell the endpoint how it does, when that is news."""
    gone = any(outcome.status == 410 for _, outcome in results)
    succeeded = any(outcome.succeeded for _, outcome in results)
    died = any(_end(claimed, outcome) is DeliveryStatus.DEAD for claimed, outcome in results)
    if gone or died or not succeeded or receiver.failing:
        await webhook_endpoints.note(session, receiver.id, gone=gone, succeeded=succeeded, died=died)


async def page(
    session: AsyncSession,
    caller: Caller,
    endpoint_id: UUID | None,
    status: DeliveryStatus | None,
    event_id: UUID | None,
    subject_id: UUID | None,
    type_: str | None,
    limit: int,
    cursor: str | None,
) -> Page[WebhookDeliveryRead]:
    """Deliveries to the endpoints of the caller's regions, newest first."""
    await filters.require_endpoint(session, caller, endpoint_id, _LIST)
    await filters.require_sent(session, caller, event_id, subject_id, _LIST)
    last = pagination.decode_id(_LIST, cursor)
    query = select(WebhookDelivery).where(visible_to(caller, _LIST))
    if endpoint_id is not None:
        query = query.where(WebhookDelivery.endpoint_id == endpoint_id)
    if status is not None:
        query = query.where(WebhookDelivery.status == status)
    if event_id is not None:
        query = query.where(WebhookDelivery.event_id == event_id)
    if subject_id is not None:
        query = query.where(WebhookDelivery.subject_id == subject_id)
    if type_ is not None:
        query = query.where(filters.is_of(WebhookDelivery.type, type_))
    if last is not None:
        query = query.where(WebhookDelivery.id < last)
    rows = list(await session.scalars(query.order_by(WebhookDelivery.id.desc()).limit(limit + 1)))
    more = pagination.encode(_LIST, str(rows[limit - 1].id)) if len(rows) > limit else None
    items = [WebhookDeliveryRead.model_validate(row) for row in rows[:limit]]
    return Page(items=items, next_cursor=more)


async def read(session: AsyncSession, caller: Caller, delivery_id: UUID) -> WebhookDeliveryDetail:
    """One delivery with every try."""
    row = await session.scalar(
        select(WebhookDelivery).where(
            WebhookDelivery.id == delivery_id, visible_to(caller, "read_webhook_delivery")
        )
    )
    if row is None:
        raise NotFound
    tries = await session.scalars(
        select(WebhookAttempt).where(WebhookAttempt.delivery_id == row.id).order_by(WebhookAttempt.id)
    )
    return WebhookDeliveryDetail(
        **WebhookDeliveryRead.model_validate(row).model_dump(),
        tries=[WebhookAttemptRead.model_validate(each) for each in tries],
    )


def _end(claimed: Claimed, outcome: Outcome) -> DeliveryStatus:
    if outcome.succeeded:
        return DeliveryStatus.DELIVERED
    is_last = claimed.attempt > len(settings.webhook_waits)
    return DeliveryStatus.DEAD if is_last else DeliveryStatus.QUEUED


def _settled(claimed: Claimed, outcome: Outcome, now: datetime) -> dict[str, object]:
    """The parameters of `_SETTLE`."""
    status, next_at = _end(claimed, outcome), now
    finished_at: datetime | None = now
    if status is DeliveryStatus.QUEUED:
        next_at, finished_at = now + timedelta(seconds=_wait(claimed.attempt, outcome, now)), None
    return {
        "row": claimed.id,
        "lease": claimed.token,
        "status": status,
        "next_at": next_at,
        "finished_at": finished_at,
        "over": finished_at is not None,
    }


def _wait(attempt: int, outcome: Outcome, now: datetime) -> float:
    """Seconds until the next try: by the schedule, give or take a fifth, and not before the receiver wants it."""
    waits = settings.webhook_waits
    spread = random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311 - no secret
    scheduled = waits[min(attempt, len(waits)) - 1] * spread
    asked = _asked(outcome.retry_after, now) if outcome.status in _SLOW_DOWN else 0.0
    return max(scheduled, min(asked, _LONGEST_WAIT))


def _asked(retry_after: str | None, now: datetime) -> float:
    if retry_after is None:
        return 0.0
    if retry_after.isascii() and retry_after.isdecimal():
        return float(retry_after[:9])
    try:
        return max((parsedate_to_datetime(retry_after) - now).total_seconds(), 0.0)
    except (TypeError, ValueError):
        return 0.0


def _try(
    delivery_id: UUID, lease_token: UUID, attempt: int, outcome: Outcome, now: datetime
) -> dict[str, object]:
    return {
        "id": new_id(),
        "created_at": now - timedelta(milliseconds=outcome.duration_ms),
        "delivery_id": delivery_id,
        "lease_token": lease_token,
        "n": attempt,
        "duration_ms": outcome.duration_ms,
        "status_code": outcome.status,
        "error": outcome.error,
        "excerpt": outcome.excerpt,
    }


def _lost(delivery_id: UUID, lease_token: UUID, attempt: int, now: datetime) -> dict[str, object]:
    """The try of a process that died with it: nobody knows what came back."""
    outcome = Outcome(None, "worker_lost", round(settings.job_lease_seconds * 1000))
    return _try(delivery_id, lease_token, attempt, outcome, now)


async def _write_tries(session: AsyncSession, tries: Sequence[dict[str, object]]) -> None:
    """One row per try. A process that was only paused knows better than whoever took it for dead."""
    if tries:
        row = insert(_ATTEMPTS)
        told = {name: row.excluded[name] for name in ("duration_ms", "status_code", "error", "excerpt")}
        known = row.on_conflict_do_update(index_elements=["delivery_id", "lease_token"], set_=told)
        await session.execute(known, list(tries))


def visible_to(caller: Caller, operation: str) -> ColumnElement[bool]:
    """Deliveries to the endpoints of the regions in which the caller may do this."""
    mine = select(WebhookEndpoint.id).where(scopes.within(WebhookEndpoint.region_id, caller.scope(operation)))
    return WebhookDelivery.endpoint_id.in_(mine)


def _next_waiting(*conditions: ColumnElement[bool]) -> ScalarSelect[UUID]:
    """The earliest that waits in the stream of a delivery: of the same subject, for the same endpoint."""
    return (
        select(_Waiting.id)
        .where(
            _Waiting.endpoint_id == WebhookDelivery.endpoint_id,
            _Waiting.subject_id == WebhookDelivery.subject_id,
            # Written out, or no plan could use the index.
            _Waiting.status == literal_column("'queued'"),
            *conditions,
        )
        .order_by(_Waiting.position)
        .limit(1)
        .correlate(WebhookDelivery)
        .scalar_subquery()
    )


# What is still held under a lease is given back; the other columns that change are parameters. Once it is over nobody
# needs the body that was kept for later tries.
_SETTLE = (
    update(_DELIVERIES)
    .where(_DELIVERIES.c.id == bindparam("row"), _DELIVERIES.c.lease_token == bindparam("lease"))
    .values(
        lease_token=None,
        body_sealed=case((bindparam("over", type_=Boolean), None), else_=_DELIVERIES.c.body_sealed),
    )
)
# Compiled once: these run for every handful of deliveries, all day.
_DUE: Hot[_Due] = Hot(
    select(
        WebhookDelivery.id,
        WebhookDelivery.event_id,
        WebhookDelivery.lease_token,
        WebhookDelivery.attempts,
        *_TOLD,
    )
    .join(Event, Event.id == WebhookDelivery.event_id)
    .where(
        WebhookDelivery.endpoint_id == bindparam("endpoint"),
        *_IS_READY,
        WebhookDelivery.next_at <= bindparam("now"),
    )
    .order_by(WebhookDelivery.next_at)
    .limit(bindparam("room", type_=Integer))
    .with_for_update(skip_locked=True, of=WebhookDelivery)
)
_TAKE: Hot[_Id] = Hot(
    update(_DELIVERIES)
    .where(one_of(WebhookDelivery.id, "ids"))
    .values(
        attempts=_DELIVERIES.c.attempts + 1,
        next_at=bindparam("lease_ends", type_=_DELIVERIES.c.next_at.type),
        lease_token=bindparam("lease", type_=_DELIVERIES.c.lease_token.type),
    )
)
# The earliest that waits is ready, for each subject and endpoint of these deliveries.
_PROMOTE: Hot[_Id] = Hot(
    update(_DELIVERIES)
    .where(
        _DELIVERIES.c.id.in_(select(_next_waiting()).where(one_of(WebhookDelivery.id, "ids"))),
        ~_DELIVERIES.c.ready,
    )
    .values(ready=True)
)


# All that `finish` changes, in the order in which `_NEWEST` locks: neither may hold what the other has yet to lock.
_LOCK: Hot[_Id] = Hot(
    select(_Waiting.id)
    .where(
        _Waiting.id.in_(
            union_all(
                select(WebhookDelivery.id).where(one_of(WebhookDelivery.id, "ids")),
                select(_next_waiting(_Waiting.position > WebhookDelivery.position)).where(
                    one_of(WebhookDelivery.id, "ids")
                ),
            )
        )
    )
    .order_by(_Waiting.id)
    .with_for_update(key_share=True)
)
