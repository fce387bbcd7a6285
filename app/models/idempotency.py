"""Answers kept for clients that repeat a request."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import Index
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base


class IdempotencyKey(Base):
    """The first answer to (caller, method, path, key), written in the transaction that did the work."""

    __tablename__ = "idempotency_keys"

    scope: Mapped[str] = mapped_column(primary_key=True)
    fingerprint: Mapped[str]
    caller_id: Mapped[UUID] = mapped_column(index=True)
    subject_id: Mapped[UUID | None] = mapped_column(index=True)
    status: Mapped[int | None]
    headers: Mapped[str | None]
    answer_sealed: Mapped[bytes | None]
    created_at: Mapped[datetime]

    __table_args__ = (Index(None, "created_at"),)
