"""Deliveries as the administrators of their endpoints see them: listed, and one by one with every try."""

from uuid import UUID

from sqlalchemy import ColumnElement, select
from sqlalchemy.ext.asyncio import AsyncSession

from app import pagination
from app.auth import Caller
from app.errors import NotFound
from app.models.webhooks import DeliveryStatus, WebhookAttempt, WebhookDelivery, WebhookEndpoint
from app.schemas.base import Page
from app.schemas.webhooks import WebhookAttemptRead, WebhookDeliveryDetail, WebhookDeliveryRead
from app.services import filters, webhook_endpoints

_LIST = "list_webhook_deliveries"


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


def visible_to(caller: Caller, operation: str) -> ColumnElement[bool]:
    """Deliveries to the endpoints of the regions in which the caller may do this."""
    mine = select(WebhookEndpoint.id).where(webhook_endpoints.visible_to(caller, operation))
    return WebhookDelivery.endpoint_id.in_(mine)
