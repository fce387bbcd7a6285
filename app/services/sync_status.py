"""How the exchange with the outside stands, in numbers: for operators."""

from dataclasses import dataclass
from datetime import date, datetime

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.models.sync import InboundEvent, WatermarkReport
from app.models.webhooks import DeliveryStatus, WebhookDelivery, WebhookEndpoint
from app.services import watermark_gaps


@dataclass(frozen=True, slots=True)
class EndpointState:
    """One receiver of ours. `disabled_at` is None while it is active, `oldest` when the oldest that still waits was queued."""

    name: str
    status: str
    disabled_at: datetime | None
    failing_since: datetime | None
    counts: dict[str, int]
    oldest: datetime | None


@dataclass(frozen=True, slots=True)
class NumbersState:
    """The latest day of which the district sent numbers, when they came, and which days are missing since."""

    day: date | None
    received_at: datetime | None
    missing: list[date]


async def inbound(session: AsyncSession) -> dict[str, int]:
    """Events of the district by status."""
    rows = await session.execute(
        select(InboundEvent.status, func.count().label("number")).group_by(InboundEvent.status)
    )
    return {row.status.value: row.number for row in rows}


async def numbers(session: AsyncSession) -> NumbersState:
    """The daily numbers of the district."""
    latest = select(WatermarkReport.day, WatermarkReport.created_at).order_by(
        WatermarkReport.day.desc(), WatermarkReport.created_at.desc()
    )
    row = (await session.execute(latest.limit(1))).first()
    missing = await watermark_gaps.missing(session)
    return NumbersState(row.day if row else None, row.created_at if row else None, missing)


async def outbound(session: AsyncSession) -> list[EndpointState]:
    """Every receiver with its deliveries by status."""
    states = []
    there = select(WebhookEndpoint).where(WebhookEndpoint.deleted_at.is_(None)).order_by(WebhookEndpoint.id)
    for endpoint in await session.scalars(there):
        rows = await session.execute(
            select(
                WebhookDelivery.status,
                func.count().label("number"),
                func.min(WebhookDelivery.created_at).label("oldest"),
            )
            .where(WebhookDelivery.endpoint_id == endpoint.id)
            .group_by(WebhookDelivery.status)
        )
        found = {row.status: (row.number, row.oldest) for row in rows}
        waiting = found.get(DeliveryStatus.QUEUED)
        states.append(
            EndpointState(
                endpoint.name,
                endpoint.status.value,
                None if endpoint.is_active else endpoint.disabled_at,
                endpoint.failing_since,
                {status.value: found[status][0] for status in DeliveryStatus if status in found},
                waiting[1] if waiting else None,
            )
        )
    return states
