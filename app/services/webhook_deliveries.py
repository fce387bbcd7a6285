"""Deliveries: taken in order per subject, tried again later and later, dead in the end; and who may read them."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from uuid import UUID

from sqlalchemy import ColumnElement, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from app import clock, pagination
from app.auth import Caller
from app.clients.outbound import Outcome
from app.db import insert
from app.errors import NotFound
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
from app.services import scopes, webhook_endpoints, webhook_payloads
from app.settings import settings

_LIST = "list_webhook_deliveries"
_JITTER = 0.2
_LONGEST_WAIT = 86_400.0
_SLOW_DOWN = (429, 503)


@dataclass(frozen=True, slots=True)
class Claimed:
    """One delivery in the hands of this process until its lease ends."""

    id: UUID
    token: UUID
    endpoint_id: UUID
    subject_id: UUID
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


async def receivers(session: AsyncSession, full: Sequence[UUID]) -> list[Receiver]:
    """The active endpoints that have something due, without those that have no room for more."""
    due = select(WebhookDelivery.endpoint_id).where(
        WebhookDelivery.status == DeliveryStatus.QUEUED,
        WebhookDelivery.ready,
        WebhookDelivery.next_at <= clock.now(),
        WebhookDelivery.endpoint_id == WebhookEndpoint.id,
    )
    rows = await session.scalars(
        select(WebhookEndpoint).where(
            WebhookEndpoint.status == EndpointStatus.ACTIVE, WebhookEndpoint.id.not_in(full), due.exists()
        )
    )
    return [
        Receiver(
            row.id,
            row.url,
            row.payload,
            await webhook_endpoints.signing_keys(session, row.id),
            row.failing_since is not None,
        )
        for row in rows
    ]


async def claim(session: AsyncSession, receiver: Receiver, limit: int) -> list[Claimed]:
    """Take due deliveries of one endpoint, each the earliest of its subject, under a lease."""
    now, token = clock.now(), new_id()
    lease_ends = now + timedelta(seconds=settings.job_lease_seconds)
    due = (
        select(WebhookDelivery.id, WebhookDelivery.lease_token, WebhookDelivery.attempts)
        .where(
            WebhookDelivery.endpoint_id == receiver.id,
            WebhookDelivery.status == DeliveryStatus.QUEUED,
            WebhookDelivery.ready,
            WebhookDelivery.next_at <= now,
        )
        .order_by(WebhookDelivery.next_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    found = list(await session.execute(due))
    if not found:
        return []
    await _write_tries(
        session,
        [_lost(row.id, row.lease_token, row.attempts, now) for row in found if row.lease_token is not None],
    )
    rows = (
        await session.execute(
            update(WebhookDelivery)
            .where(WebhookDelivery.id.in_([row.id for row in found]))
            .values(attempts=WebhookDelivery.attempts + 1, next_at=lease_ends, lease_token=token)
            .returning(WebhookDelivery)
            .execution_options(synchronize_session=False)
        )
    ).scalars()
    taken = list(rows)
    events = await _events(session, [row.event_id for row in taken])
    return [
        Claimed(
            row.id,
            token,
            row.endpoint_id,
            row.subject_id,
            row.event_id,
            row.attempts,
            await webhook_payloads.body_of(session, events[row.event_id], row, receiver.payload),
        )
        for row in taken
    ]


async def finish(session: AsyncSession, results: Sequence[tuple[Claimed, Outcome]]) -> None:
    """Write down how tries ended. For whoever lost the lease in the meantime the delivery does not change."""
    now = clock.now()
    by_end: dict[DeliveryStatus, list[tuple[UUID, UUID]]] = {}
    for claimed, outcome in results:
        by_end.setdefault(_end(claimed, outcome), []).append((claimed.id, claimed.token))
    held: set[UUID] = set()
    for status, leases in by_end.items():
        if status is not DeliveryStatus.QUEUED:
            held |= await _settle(
                session, leases, status=status, finished_at=now, next_at=now, body_sealed=None
            )
    over = list(held)
    for claimed, outcome in results:
        if _end(claimed, outcome) is DeliveryStatus.QUEUED:
            next_at = now + timedelta(seconds=_wait(claimed.attempt, outcome, now))
            await _settle(session, [(claimed.id, claimed.token)], next_at=next_at)
    tries = [_try(each.id, each.token, each.attempt, outcome, now) for each, outcome in results]
    await _write_tries(session, tries)
    if over:
        await _promote(session, over)


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
        query = query.where(WebhookDelivery.type == type_)
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


def visible_to(caller: Caller, operation: str) -> ColumnElement[bool]:
    """The condition on deliveries to the endpoints of the caller's regions."""
    mine = select(WebhookEndpoint.id).where(scopes.within(WebhookEndpoint.region_id, caller.scope(operation)))
    return WebhookDelivery.endpoint_id.in_(mine)


def _end(claimed: Claimed, outcome: Outcome) -> DeliveryStatus:
    if outcome.succeeded:
        return DeliveryStatus.DELIVERED
    is_last = claimed.attempt > len(settings.webhook_waits)
    return DeliveryStatus.DEAD if is_last else DeliveryStatus.QUEUED


async def _settle(session: AsyncSession, leases: Sequence[tuple[UUID, UUID]], **columns: object) -> set[UUID]:
    """Change what is still held under these leases, and give it back; its ids."""
    held = await session.scalars(
        update(WebhookDelivery)
        .where(tuple_(WebhookDelivery.id, WebhookDelivery.lease_token).in_(leases))
        .values(lease_token=None, **columns)
        .returning(WebhookDelivery.id)
        .execution_options(synchronize_session=False)
    )
    return set(held)


async def _promote(session: AsyncSession, delivery_ids: Sequence[UUID]) -> None:
    """The earliest that waits is ready, for each subject and endpoint of these deliveries."""
    waiting = aliased(WebhookDelivery)
    first = (
        select(waiting.id)
        .where(
            waiting.endpoint_id == WebhookDelivery.endpoint_id,
            waiting.subject_id == WebhookDelivery.subject_id,
            waiting.status == DeliveryStatus.QUEUED,
        )
        .order_by(waiting.position)
        .limit(1)
        .correlate(WebhookDelivery)
        .scalar_subquery()
    )
    firsts = list(await session.scalars(select(first).where(WebhookDelivery.id.in_(delivery_ids))))
    await session.execute(
        update(WebhookDelivery)
        .where(WebhookDelivery.id.in_(firsts))
        .values(ready=True)
        .execution_options(synchronize_session=False)
    )


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
        row = insert(WebhookAttempt)
        told = {name: row.excluded[name] for name in ("duration_ms", "status_code", "error", "excerpt")}
        await session.execute(
            row.values(list(tries)).on_conflict_do_update(
                index_elements=["delivery_id", "lease_token"], set_=told
            )
        )


async def _events(session: AsyncSession, ids: Sequence[UUID]) -> dict[UUID, Event]:
    rows = await session.scalars(select(Event).where(Event.id.in_(ids)))
    return {row.id: row for row in rows}
