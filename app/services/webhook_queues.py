"""What waits for each endpoint: queued while events are placed, once more on request, always in order per subject."""

from collections.abc import Iterable, Sequence
from typing import TypedDict, cast
from uuid import UUID

from sqlalchemy import Table, func, literal_column, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from app import clock, writes
from app.auth import Caller
from app.db import insert, signal_after_commit
from app.errors import Conflict, InvalidInput, NotFound
from app.hot import Hot, one_of
from app.ids import new_id
from app.models.events import Audience, Event
from app.models.regions import RegionAncestor
from app.models.webhooks import DeliveryStatus, WebhookDelivery, WebhookEndpoint
from app.schemas.webhooks import WebhookDeliveryRead, WebhookReplay, WebhookReplayed
from app.services import webhook_delivery_lists, webhook_endpoints
from app.services.webhook_endpoints import TOPIC

_ROWS = 500
_DELIVERIES = cast(Table, WebhookDelivery.__table__)
_Waiting = aliased(WebhookDelivery)


class DeliveryNotOver(Conflict):
    """It is queued, and will be tried by itself."""

    code = "webhook_delivery_not_over"
    title_en, title_zh = "The delivery is still queued", "该推送仍在队列中"


class _Stream(TypedDict):
    endpoint_id: UUID
    subject_id: UUID


# The newest that waits in each stream of some events and endpoints.
_NEWEST: Hot[_Stream] = Hot(
    select(WebhookDelivery.endpoint_id, WebhookDelivery.subject_id)
    .where(
        # Asked again of a row that was waited for: it may be over by now.
        WebhookDelivery.status == literal_column("'queued'"),
        WebhookDelivery.id.in_(
            select(
                select(_Waiting.id)
                .where(
                    _Waiting.endpoint_id == WebhookEndpoint.id,
                    _Waiting.subject_id == Event.subject_id,
                    _Waiting.status == literal_column("'queued'"),
                )
                .order_by(_Waiting.position.desc())
                .limit(1)
                .correlate(WebhookEndpoint, Event)
                .scalar_subquery()
            ).where(one_of(WebhookEndpoint.id, "endpoints"), one_of(Event.id, "events"))
        ),
    )
    .order_by(WebhookDelivery.id)
    .with_for_update(read=True)
)


async def fan_out(session: AsyncSession, batch: Sequence[Event]) -> None:
    """Queue what happened for every endpoint that wants it and is not disabled. Runs while events are placed: only inserts."""
    told = [event for event in batch if event.audience is not Audience.AUDIT and event.region_id is not None]
    there = select(WebhookEndpoint).where(WebhookEndpoint.deleted_at.is_(None))
    endpoints = list(await session.scalars(there))
    if told and endpoints:
        above = await _ancestors(session, {event.region_id for event in told if event.region_id})
        pairs = [
            (endpoint, event)
            for event in told
            for endpoint in endpoints
            if _wants(endpoint, event.type)
            and endpoint.hears_of(event.occurred_at)
            and endpoint.region_id in above.get(event.region_id, ())
        ]
        await _queue(session, pairs)


async def retry(session: AsyncSession, caller: Caller, delivery_id: UUID) -> WebhookDeliveryRead:
    """Send a finished delivery once more, with its original id."""
    row = await session.scalar(
        select(WebhookDelivery)
        .where(
            WebhookDelivery.id == delivery_id,
            webhook_delivery_lists.visible_to(caller, "retry_webhook_delivery"),
        )
        .with_for_update(of=WebhookDelivery)
    )
    if row is None:
        raise NotFound
    if row.status is DeliveryStatus.QUEUED:
        raise DeliveryNotOver
    await _requeue(session, [row.id])
    await _put_in_order(session, row.endpoint_id, [row.subject_id])
    await session.refresh(row)
    return WebhookDeliveryRead.model_validate(row)


async def replay(
    session: AsyncSession, caller: Caller, endpoint_id: UUID, body: WebhookReplay
) -> WebhookReplayed:
    """Send a window of time again to one endpoint: original ids, in order, also what it was never sent."""
    endpoint = await webhook_endpoints.find(session, caller, endpoint_id, "replay_webhook_endpoint")
    if body.since > body.until:
        raise InvalidInput.of(("body", "since"), "invalid_period", "is later than until", "不能晚于 until")
    queued, subjects, position = 0, set[UUID](), 0
    while events := await _window(session, endpoint, body, position):
        wanted = [event for event in events if _wants(endpoint, event.type)]
        await _requeue(session, await _finished(session, endpoint, wanted))
        await _queue(session, [(endpoint, event) for event in wanted])
        queued += len(wanted)
        subjects |= {event.subject_id for event in wanted}
        position = events[-1].position or 0
    await _put_in_order(session, endpoint.id, subjects)
    return WebhookReplayed(queued=queued)


async def _window(
    session: AsyncSession, endpoint: WebhookEndpoint, body: WebhookReplay, position: int
) -> Sequence[Event]:
    """Up to 500 events of a window, those behind a position; a window may hold more than fits into memory."""
    below = select(RegionAncestor.region_id).where(RegionAncestor.ancestor_id == endpoint.region_id)
    events = await session.scalars(
        select(Event)
        .where(
            Event.position > position,
            Event.imported_at.is_(None),
            Event.occurred_at >= body.since,
            Event.occurred_at < body.until,
            Event.audience != Audience.AUDIT,
            Event.region_id.in_(below),
        )
        .order_by(Event.position)
        .limit(_ROWS)
    )
    return events.all()


async def _finished(
    session: AsyncSession, endpoint: WebhookEndpoint, events: Iterable[Event]
) -> Sequence[UUID]:
    """The deliveries of these events that are over."""
    found = await session.scalars(
        select(WebhookDelivery.id).where(
            WebhookDelivery.endpoint_id == endpoint.id,
            WebhookDelivery.event_id.in_([event.id for event in events]),
            WebhookDelivery.status != DeliveryStatus.QUEUED,
        )
    )
    return found.all()


def _wants(endpoint: WebhookEndpoint, type_: str) -> bool:
    return any(
        type_.startswith(kind) if kind.endswith(".") else type_ == kind for kind in endpoint.event_types
    )


async def _queue(session: AsyncSession, pairs: Sequence[tuple[WebhookEndpoint, Event]]) -> None:
    """Insert deliveries. The first of a subject is ready unless an earlier one of it still waits.

    The newest waiting row of each subject is locked: a worker that finishes it waits for this commit, and then finds
    and readies what was queued behind it.
    """
    asked = {"endpoints": {endpoint.id for endpoint, _ in pairs}, "events": {event.id for _, event in pairs}}
    newest = await writes.run(session, _NEWEST, asked)
    waiting = {(row["endpoint_id"], row["subject_id"]) for row in newest}
    now = clock.now()
    rows = []
    for endpoint, event in pairs:
        stream = (endpoint.id, event.subject_id)
        rows.append(
            {
                "id": new_id(),
                "created_at": now,
                "endpoint_id": endpoint.id,
                "event_id": event.id,
                "type": event.type,
                "subject_id": event.subject_id,
                "position": event.position,
                "status": DeliveryStatus.QUEUED,
                "ready": stream not in waiting,
                "attempts": 0,
                "next_at": now,
            }
        )
        waiting.add(stream)
    if rows:
        await session.execute(insert(_DELIVERIES).on_conflict_do_nothing(), rows)
    signal_after_commit(session, TOPIC)


async def _requeue(session: AsyncSession, delivery_ids: Sequence[UUID]) -> None:
    """Finished ones wait again, as if they had never been tried."""
    for start in range(0, len(delivery_ids), _ROWS):
        await session.execute(
            update(WebhookDelivery)
            .where(WebhookDelivery.id.in_(delivery_ids[start : start + _ROWS]))
            .values(
                status=DeliveryStatus.QUEUED,
                ready=False,
                attempts=0,
                next_at=clock.now(),
                finished_at=None,
                lease_token=None,
            )
            .execution_options(synchronize_session=False)
        )


async def _put_in_order(session: AsyncSession, endpoint_id: UUID, subjects: Iterable[UUID]) -> None:
    """What was queued late may belong before what waits: of each subject the earliest is ready, and no other."""
    chosen = list(subjects)
    for start in range(0, len(chosen), _ROWS):
        waits = (
            WebhookDelivery.endpoint_id == endpoint_id,
            WebhookDelivery.subject_id.in_(chosen[start : start + _ROWS]),
            # Written out, or no plan could use the index.
            WebhookDelivery.status == literal_column("'queued'"),
        )
        # Asked first and by itself: together PostgreSQL compares each that waits with each before it, for minutes.
        earliest = list(
            await session.scalars(
                select(func.min(WebhookDelivery.position)).where(*waits).group_by(WebhookDelivery.subject_id)
            )
        )
        for wrong, ready in (
            (WebhookDelivery.ready & WebhookDelivery.position.not_in(earliest), False),
            (~WebhookDelivery.ready & WebhookDelivery.position.in_(earliest), True),
        ):
            await session.execute(
                update(WebhookDelivery)
                .where(*waits, wrong)
                .values(ready=ready)
                .execution_options(synchronize_session=False)
            )
    signal_after_commit(session, TOPIC)


async def _ancestors(session: AsyncSession, region_ids: Iterable[UUID]) -> dict[UUID | None, set[UUID]]:
    rows = await session.execute(
        select(RegionAncestor.region_id, RegionAncestor.ancestor_id).where(
            RegionAncestor.region_id.in_(list(region_ids))
        )
    )
    above: dict[UUID | None, set[UUID]] = {}
    for row in rows:
        above.setdefault(row.region_id, set()).add(row.ancestor_id)
    return above
