"""The people the service is for, and what they agreed to."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Entity, Subject, Versioned


class Resident(Entity, Subject, Versioned):
    """One WeChat identity. Everything that names the person is sealed; indexes are keyed hashes."""

    __tablename__ = "residents"

    openid_index: Mapped[str | None] = mapped_column(unique=True)
    openid_sealed: Mapped[str | None]
    nickname_sealed: Mapped[str | None]
    phone_index: Mapped[str | None] = mapped_column(index=True)
    phone_sealed: Mapped[str | None]
    real_name_sealed: Mapped[str | None]
    id_number_index: Mapped[str | None] = mapped_column(index=True)
    id_number_sealed: Mapped[str | None]
    community_id: Mapped[UUID | None] = mapped_column(ForeignKey("regions.id"), index=True)
    language: Mapped[str] = mapped_column(default="zh-CN")
    deleted_at: Mapped[datetime | None]

    def erase(self, at: datetime) -> None:
        """Forget the person and keep the row, so that what they reported still counts."""
        self.openid_index = self.openid_sealed = self.nickname_sealed = None
        self.phone_index = self.phone_sealed = self.real_name_sealed = None
        self.id_number_index = self.id_number_sealed = None
        self.deleted_at = at
        self.version += 1


class Consent(Entity):
    """One answer of one person to one version of one purpose. Withdrawing closes the row; nothing is rewritten."""

    __tablename__ = "consents"

    resident_id: Mapped[UUID] = mapped_column(ForeignKey("residents.id"))
    purpose: Mapped[str]
    policy_version: Mapped[str]
    text_sha256: Mapped[str]
    channel: Mapped[str]
    granted_at: Mapped[datetime]
    withdrawn_at: Mapped[datetime | None]

    __table_args__ = (Index(None, "resident_id", "purpose"),)
