"""Subscribe messages: one for each time a resident agreed, counted in a ledger that WeChat's answers correct.

A message that may have been sent is sent again rather than lost: a repeat that WeChat has no quota for is refused.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import ColumnElement, case, exists, literal, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.auth import Caller
from app.clients.wechat_errors import (
    MessageInvalid,
    MessageSensitive,
    RecipientBusy,
    SubscriptionRefused,
    UserUnknown,
)
from app.clock import SHANGHAI
from app.db import database, insert
from app.errors import InvalidInput
from app.keys import unseal
from app.leases import Lease, Retry
from app.models.events import Event
from app.models.hazard_categories import HazardCategory
from app.models.hazard_comments import HazardSupport
from app.models.hazards import Hazard
from app.models.notifications import MessageQuota, Notification, NotificationStatus
from app.models.residents import Resident
from app.models.sessions import PrincipalKind
from app.outside import outside
from app.schemas.notifications import MessageQuotaAdd, MessageQuotaRead
from app.services import hazard_access, presence
from app.services.wechat_tasks import retried
from app.settings import settings

SEND = "notify.wechat"
PHRASES = {
    "hazard.filed": "新上报",
    "hazard.accepted": "已受理",
    "hazard.assigned": "已派员",
    "hazard.called": "已报街道",
    "hazard.dispatched": "已派单",
    "hazard.refused": "部门退回",
    "hazard.checked_in": "已到现场",
    "hazard.part_done": "部分完成",
    "hazard.resolved": "已处置",
    "hazard.confirmed": "已确认",
    "hazard.disputed": "有异议",
    "hazard.closed": "已结案",
    "hazard.rejected": "不予受理",
    "hazard.merged": "已合并",
    "hazard.commented": "有新回复",
}
"""The events that residents are told of, as the status in the message: at most five Chinese characters."""

_SANDBOX_TEMPLATE = "sandbox-progress"
_LEDGER_LIMIT = 100


class UnknownTemplate(InvalidInput):
    """Not a template that this service sends."""

    code = "unknown_template"
    title_en, title_zh = "This message template is not in use", "该订阅消息模板未启用"


@dataclass(frozen=True, slots=True)
class Message:
    """One message of the template, to one resident."""

    notification_id: UUID
    resident_id: UUID
    openid: str


def template_id() -> str:
    """The template of progress messages, with the fields `thing1` (what), `phrase2` (status) and `time3` (when).

    Empty when the operator has set none: then nothing is sent.
    """
    return settings.wechat_template_progress or (_SANDBOX_TEMPLATE if settings.sandbox_wechat else "")


async def add_quota(session: AsyncSession, caller: Caller, body: MessageQuotaAdd) -> MessageQuotaRead:
    """The resident agreed `count` more times."""
    if body.template_id != template_id():
        raise UnknownTemplate.of(
            ("body", "template_id"), UnknownTemplate.code, "is not a template in use", "模板未启用"
        )
    await presence.require(session, caller)
    row = {"resident_id": caller.id, "template_id": body.template_id, "remaining": body.count}
    remaining = await session.scalar(
        insert(MessageQuota)
        .values(row)
        .on_conflict_do_update(
            index_elements=["resident_id", "template_id"],
            set_={"remaining": _at_most(MessageQuota.remaining + body.count)},
        )
        .returning(MessageQuota.remaining)
    )
    return MessageQuotaRead(template_id=body.template_id, remaining=remaining or 0)


async def reachable(session: AsyncSession, resident_ids: Collection[UUID]) -> set[UUID]:
    """Those of the residents whom a message may be sent to now."""
    rows = await session.scalars(
        select(MessageQuota.resident_id)
        .join(Resident, Resident.id == MessageQuota.resident_id)
        .where(
            MessageQuota.resident_id.in_(resident_ids),
            MessageQuota.template_id == template_id(),
            MessageQuota.remaining > 0,
            Resident.openid_sealed.is_not(None),
        )
    )
    return set(rows)


async def send(lease: Lease) -> None:
    """Send the messages of one event that are not sent yet; those that WeChat cannot take now are tried again."""
    event_id = UUID(str(lease.payload["event_id"]))
    async with database.reading() as session:
        messages = await unsent(session, event_id)
        values = await _values(session, event_id)
        page = f"pages/hazards/detail?id={values.pop('id')}"
    later: Retry | None = None
    for message in messages:
        try:
            await _send(lease, message, values, page)
        except Retry as failure:
            later = failure
    if later is not None:
        raise later


async def _send(lease: Lease, message: Message, values: dict[str, str], page: str) -> None:
    """Take one from the ledger, send outside any transaction, write down what became of it."""
    async with lease.transaction() as session:
        if not await _reserve(session, message):
            return
    status, returned = NotificationStatus.SKIPPED, 1
    with retried():
        try:
            await outside.wechat.send_subscribe_message(message.openid, template_id(), values, page=page)
            status, returned = NotificationStatus.SENT, 0
        except RecipientBusy as busy:
            raise Retry(str(busy), busy.retry_after or 0) from None
        except SubscriptionRefused:
            returned = -_LEDGER_LIMIT
        except (UserUnknown, MessageSensitive, MessageInvalid):
            pass
    async with lease.transaction() as session:
        await _set_status(session, message, status)
        await _correct(session, message, returned)


async def unsent(session: AsyncSession, event_id: UUID) -> list[Message]:
    """The messages of an event that are still to go, to those who may know of it now."""
    rows = await session.execute(
        select(Notification.id, Resident)
        .join(Resident, Resident.id == Notification.recipient_id)
        .join(Hazard, Hazard.id == Notification.subject_id)
        .where(
            _may_still_know(),
            Notification.event_id == event_id,
            Notification.recipient_kind == PrincipalKind.RESIDENT,
            Notification.status.in_([NotificationStatus.QUEUED, NotificationStatus.SENDING]),
        )
        .order_by(Notification.id)
    )
    return [
        Message(notification_id, resident.id, unseal(resident, "openid") or "")
        for notification_id, resident in rows
    ]


def _may_still_know() -> ColumnElement[bool]:
    """Those who only follow it hear no more of what was hidden after they were to be told."""
    supports = exists().where(
        HazardSupport.hazard_id == Hazard.id, HazardSupport.resident_id == Notification.recipient_id
    )
    return or_(Hazard.reporter_id == Notification.recipient_id, supports, hazard_access.public())


async def _values(session: AsyncSession, event_id: UUID) -> dict[str, str]:
    """What the message says: the kind of hazard, its new status, and when; nothing that somebody typed."""
    row = (
        await session.execute(
            select(Event.type, Event.occurred_at, Hazard.id, HazardCategory.name)
            .join(Hazard, Hazard.id == Event.subject_id)
            .join(HazardCategory, HazardCategory.code == Hazard.category)
            .where(Event.id == event_id)
        )
    ).one()
    return {
        "id": str(row.id),
        "thing1": row.name,
        "phrase2": PHRASES[row.type],
        "time3": _chinese(row.occurred_at),
    }


def _chinese(moment: datetime) -> str:
    local = moment.astimezone(SHANGHAI)
    return f"{local.year}年{local.month}月{local.day}日 {local:%H:%M}"


async def _reserve(session: AsyncSession, message: Message) -> bool:
    """Whether one of the quota is held for this message; one whose worker died holds its own already."""
    sending = await session.scalar(
        select(Notification.id).where(
            Notification.id == message.notification_id, Notification.status == NotificationStatus.SENDING
        )
    )
    if sending is not None:
        return True
    taken = await session.scalar(
        update(MessageQuota)
        .where(*_ledger(message), MessageQuota.remaining > 0)
        .values(remaining=MessageQuota.remaining - 1)
        .returning(MessageQuota.remaining)
    )
    granted = taken is not None and message.openid != ""
    await _set_status(session, message, NotificationStatus.SENDING if granted else NotificationStatus.SKIPPED)
    return granted


async def _set_status(session: AsyncSession, message: Message, status: NotificationStatus) -> None:
    await session.execute(
        update(Notification).where(Notification.id == message.notification_id).values(status=status)
    )


async def _correct(session: AsyncSession, message: Message, returned: int) -> None:
    """Give back what was not used; WeChat's refusal empties the ledger."""
    await session.execute(
        update(MessageQuota)
        .where(*_ledger(message))
        .values(remaining=_at_most(MessageQuota.remaining + returned))
    )


def _ledger(message: Message) -> Iterable[ColumnElement[bool]]:
    return MessageQuota.resident_id == message.resident_id, MessageQuota.template_id == template_id()


def _at_most(count: ColumnElement[int]) -> ColumnElement[int]:
    """Within the ledger's limits: a hundred is more than anybody taps."""
    return case((count > _LEDGER_LIMIT, literal(_LEDGER_LIMIT)), (count < 0, literal(0)), else_=count)
