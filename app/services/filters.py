"""What a query may name: things that exist. An empty list would look like an answer."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import ColumnElement, SQLColumnExpression, and_, exists, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.auth import Caller
from app.errors import InvalidInput
from app.models.events import Audience, Event
from app.models.hazards import Hazard
from app.models.households import Household
from app.models.regions import Region
from app.models.staff import Staff
from app.models.sync import SyncCase
from app.models.webhooks import WebhookEndpoint
from app.services import hazard_access, hazard_categories, scopes, staff_access

_SUBJECTS = [each.__tablename__ for each in (Hazard, Household, Region, SyncCase, WebhookEndpoint)]
"""What events that are sent are about; named with an id, so that their index finds it."""


async def require_region(
    session: AsyncSession, region_id: UUID | None, loc: Sequence[str] = ("query", "region_id")
) -> None:
    """422 at `loc` unless it is absent or a region; everybody may see all of them."""
    known = region_id is None or await session.scalar(select(Region.id).where(Region.id == region_id))
    if not known:
        raise InvalidInput.of(loc, "unknown_region", "is not a region", "区域不存在")


async def require_category(session: AsyncSession, code: str | None, loc: Sequence[str]) -> None:
    """422 at `loc` unless it is absent or a category, be it no longer in use."""
    if code is not None:
        await hazard_categories.require(session, code, tuple(loc))


async def require_handler(
    session: AsyncSession, caller: Caller, staff_id: UUID | None, operation: str
) -> None:
    """422 unless it is absent, the caller, or staff who belong, work or handle a hazard where the caller works.

    Somebody elsewhere looks like nobody, so that ids of colleagues cannot be guessed.
    """
    if staff_id in (None, caller.id):
        return
    handles = exists().where(Hazard.handler_id == Staff.id, hazard_access.handled_by(caller, operation))
    known = or_(staff_access.visible_to(caller, operation), handles)
    if not await session.scalar(select(Staff.id).where(Staff.id == staff_id, known)):
        raise InvalidInput.of(
            ("query", "handler_id"),
            "unknown_staff",
            "is nobody of your regions",
            "不是您管辖范围内的工作人员",
        )


async def require_endpoint(
    session: AsyncSession, caller: Caller, endpoint_id: UUID | None, operation: str
) -> None:
    """422 unless it is absent, or a webhook endpoint of the regions in which the caller may do this."""
    mine = scopes.within(WebhookEndpoint.region_id, caller.scope(operation))
    known = select(WebhookEndpoint.id).where(
        WebhookEndpoint.id == endpoint_id, WebhookEndpoint.deleted_at.is_(None), mine
    )
    if endpoint_id is not None and not await session.scalar(known):
        raise InvalidInput.of(
            ("query", "endpoint_id"),
            "unknown_webhook_endpoint",
            "is no endpoint of your regions",
            "不是您管辖范围内的推送端点",
        )


async def require_sent(
    session: AsyncSession, caller: Caller, event_id: UUID | None, subject_id: UUID | None, operation: str
) -> None:
    """422 unless each is absent, or is, or had, an event that is sent, where the caller may do this."""
    here = scopes.within(Event.region_id, caller.scope(operation))
    told = select(Event.id).where(Event.audience != Audience.AUDIT, here).limit(1)
    if event_id is not None and not await session.scalar(told.where(Event.id == event_id)):
        raise InvalidInput.of(
            ("query", "event_id"), "unknown_event", "is no event of your regions", "不是您管辖范围内的事件"
        )
    about = and_(Event.subject_kind.in_(_SUBJECTS), Event.subject_id == subject_id)
    if subject_id is not None and not await session.scalar(told.where(about)):
        raise InvalidInput.of(
            ("query", "subject_id"),
            "unknown_subject",
            "is nothing that anything happened to in your regions",
            "您管辖范围内没有关于它的事件",
        )


def is_of(column: SQLColumnExpression[str], kind: str) -> ColumnElement[bool]:
    """Whether a type of event is of a kind: `hazard.filed` is itself, `hazard.` everything that begins with it."""
    if not kind.endswith("."):
        return column == kind
    # LIKE takes no notice of case on SQLite.
    return func.substr(column, 1, len(kind)) == kind
