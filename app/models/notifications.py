"""What residents are told through WeChat, and how often they agreed to it."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base, Entity


class MessageQuota(Base):
    """One accepted subscription is one message (WeChat subscribe messages, one-time templates)."""

    __tablename__ = "message_quotas"

    resident_id: Mapped[UUID] = mapped_column(ForeignKey("residents.id"), primary_key=True)
    template_id: Mapped[str] = mapped_column(primary_key=True)
    remaining: Mapped[int]

    __table_args__ = (CheckConstraint("remaining >= 0", name="not_negative"),)


class NotificationStatus(StrEnum):
    """`sending` holds one message of the quota; `skipped`: no quota left, or WeChat refused for good."""

    QUEUED = "queued"
    SENDING = "sending"
    SENT = "sent"
    SKIPPED = "skipped"


class Notification(Entity):
    """One event told to one person, once. Staff read theirs in the app, residents also get the message."""

    __tablename__ = "notifications"

    recipient_kind: Mapped[str]
    recipient_id: Mapped[UUID]
    event_id: Mapped[UUID]
    type: Mapped[str]
    subject_kind: Mapped[str]
    subject_id: Mapped[UUID]
    status: Mapped[NotificationStatus] = mapped_column(default=NotificationStatus.QUEUED)
    read_at: Mapped[datetime | None]

    __table_args__ = (
        UniqueConstraint("recipient_kind", "recipient_id", "event_id"),
        Index(None, "recipient_kind", "recipient_id", "id"),
        Index(None, "event_id"),
    )

    def read(self, at: datetime) -> None:
        """Its recipient saw it; only the first time counts."""
        self.read_at = self.read_at or at
