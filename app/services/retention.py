"""What was exchanged with the outside and is over is thrown away in time; a little at a time, so that nobody waits."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import delete, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.models.sync import InboundEvent, SyncCase
from app.models.webhooks import DeliveryStatus, WebhookAttempt, WebhookDelivery, WebhookEndpoint
from app.settings import settings

_AT_ONCE: Final = 500
_CASES_AT_ONCE: Final = 100


async def sweep_deliveries(session: AsyncSession) -> int:
    """Delete up to 500 deliveries that ended long ago, with their tries; how many. Call it again until that is 0."""
    ended_before = clock.now() - timedelta(days=settings.webhook_kept_days)
    # Locked: a replay may want one of them again, and then it waits for us and queues it anew.
    over = await session.scalars(
        select(WebhookDelivery.id)
        .where(WebhookDelivery.status != DeliveryStatus.QUEUED, WebhookDelivery.finished_at < ended_before)
        .limit(_AT_ONCE)
        .with_for_update(skip_locked=True)
    )
    return await _delete(session, over.all())


async def sweep_deleted_endpoints(session: AsyncSession) -> int:
    """Delete up to 500 deliveries to endpoints that are deleted, with their tries; how many. Call it until that is 0."""
    deleted = select(WebhookEndpoint.id).where(WebhookEndpoint.deleted_at.is_not(None))
    # Whoever has one in hand writes down first how its try ended; the next sweep finds it.
    left = await session.scalars(
        select(WebhookDelivery.id)
        .where(WebhookDelivery.endpoint_id.in_(deleted))
        .limit(_AT_ONCE)
        .with_for_update(skip_locked=True)
    )
    return await _delete(session, left.all())


async def sweep_inbound(session: AsyncSession) -> int:
    """Delete what the district sent and was applied long ago, of up to 100 cases; how many. Call it until that is 0."""
    applied_before = clock.now() - timedelta(days=settings.district_kept_days)
    old = select(InboundEvent.case_id).where(InboundEvent.applied_at < applied_before)
    cases = await session.scalars(
        select(SyncCase)
        .where(SyncCase.id.in_(old.distinct().limit(_CASES_AT_ONCE)))
        .order_by(SyncCase.id)
        .with_for_update()
    )
    return sum([await _forget(session, case, applied_before) for case in cases])


async def _delete(session: AsyncSession, delivery_ids: Sequence[UUID]) -> int:
    if delivery_ids:
        for table, key in (
            (WebhookAttempt, WebhookAttempt.delivery_id),
            (WebhookDelivery, WebhookDelivery.id),
        ):
            await session.execute(
                delete(table).where(key.in_(delivery_ids)).execution_options(synchronize_session=False)
            )
    return len(delivery_ids)


async def _forget(session: AsyncSession, case: SyncCase, applied_before: datetime) -> int:
    """A case remembers up to which number it forgot, so that a late repeat neither waits nor is applied again."""
    first_kept = await session.scalar(
        select(func.min(InboundEvent.seq)).where(
            InboundEvent.case_id == case.id,
            or_(InboundEvent.applied_at.is_(None), InboundEvent.applied_at >= applied_before),
        )
    )
    case.forget(min(case.applied_seq, case.applied_seq if first_kept is None else first_kept - 1))
    gone = await session.scalars(
        delete(InboundEvent)
        .where(InboundEvent.case_id == case.id, InboundEvent.seq <= case.forgotten_seq)
        .returning(InboundEvent.id)
        .execution_options(synchronize_session=False)
    )
    return len(list(gone))
