"""The people the service is for, and what they agreed to."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Entity, Subject, Versioned
from app.models.hazards import PublicState


class Resident(Entity, Subject, Versioned):
    """One WeChat identity. Everything that names the person is sealed; indexes are keyed hashes."""

    __tablename__ = "residents"

    openid_index: Mapped[str | None] = mapped_column(unique=True)
    openid_sealed: Mapped[bytes | None]
    nickname_sealed: Mapped[bytes | None]
    nickname_state: Mapped[PublicState] = mapped_column(default=PublicState.PENDING)
    phone_index: Mapped[str | None] = mapped_column(index=True)
    phone_sealed: Mapped[bytes | None]
    real_name_sealed: Mapped[bytes | None]
    id_number_index: Mapped[str | None] = mapped_column(index=True)
    id_number_sealed: Mapped[bytes | None]
    community_id: Mapped[UUID | None] = mapped_column(ForeignKey("regions.id"), index=True)
    language: Mapped[str] = mapped_column(default="zh-CN")
    deleted_at: Mapped[datetime | None]

    def forget_phone(self) -> None:
        """The consent to keep it was withdrawn."""
        self.phone_index = self.phone_sealed = None
        self.version += 1

    def forget_identity(self) -> None:
        """The consent to keep it was withdrawn."""
        self.real_name_sealed = self.id_number_index = self.id_number_sealed = None
        self.version += 1

    def erase(self, at: datetime) -> None:
        """Forget the person and keep the row as a tombstone, so that what they supported still counts."""
        self.openid_index = self.openid_sealed = self.nickname_sealed = self.community_id = None
        self.forget_phone()
        self.forget_identity()
        self.deleted_at = at


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

    __table_args__ = (
        Index(None, "resident_id", "id"),
        Index(
            "uq_consents_open",
            "resident_id",
            "purpose",
            "policy_version",
            unique=True,
            sqlite_where=text("withdrawn_at IS NULL"),
            postgresql_where=text("withdrawn_at IS NULL"),
        ),
    )
