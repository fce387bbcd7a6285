"""What the caller was told, and how many messages they agreed to."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query

from app.deps import CurrentCaller, ReadSession, Session
from app.operation import Operation
from app.pagination import CursorParameter, Limit
from app.schemas.base import Page
from app.schemas.notifications import MessageQuotaAdd, MessageQuotaRead, NotificationRead
from app.services import messages, notifications

router = APIRouter(prefix="/v1/me", tags=["notifications"], route_class=Operation)


@router.get("/notifications")
async def list_my_notifications(
    caller: CurrentCaller,
    session: ReadSession,
    unread: Annotated[bool, Query(description="Only those that were not read yet.")] = False,
    limit: Limit = 20,
    cursor: CursorParameter = None,
) -> Page[NotificationRead]:
    """What you were told, newest first."""
    return await notifications.page(session, caller, unread, limit, cursor)


@router.post("/notifications/{notification_id}/read")
async def read_my_notification(
    notification_id: UUID, caller: CurrentCaller, session: Session
) -> NotificationRead:
    """You have seen it. Saying so again changes nothing."""
    return await notifications.mark_read(session, caller, notification_id)


@router.post("/message-quotas")
async def add_message_quota(
    body: MessageQuotaAdd, caller: CurrentCaller, session: Session
) -> MessageQuotaRead:
    """You agreed to that many more WeChat messages; each is used up by one."""
    return await messages.add_quota(session, caller, body)
