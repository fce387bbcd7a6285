"""Keys of other people's systems: shown once, stored as a keyed digest, limited to scopes, a region and addresses."""

from datetime import date, datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from app.errors import Conflict
from app.models.base import BIG, Base, Entity, Subject


class ApiScope(StrEnum):
    """What a key may be used for."""

    EVENTS_READ = "events:read"
    CASES_READ = "cases:read"
    CASES_WRITE = "cases:write"
    REPORTS_WRITE = "reports:write"


class ApiKeyRevoked(Conflict):
    """A revoked key stays revoked."""

    code = "api_key_revoked"
    title_en, title_zh = "This key has been revoked", "该密钥已吊销"


class ApiKey(Entity, Subject):
    """One key. `name_part` finds it, `digest` proves it; nothing stored can be turned back into it."""

    __tablename__ = "api_keys"

    name: Mapped[str]
    name_part: Mapped[str] = mapped_column(unique=True)
    digest: Mapped[str] = mapped_column(unique=True)
    last4: Mapped[str]
    scopes: Mapped[list[str]]
    region_id: Mapped[UUID] = mapped_column(ForeignKey("regions.id"), index=True)
    addresses: Mapped[list[str]]
    rate_limit: Mapped[str | None]
    created_by: Mapped[UUID | None] = mapped_column(ForeignKey("staff.id"))
    replaces_id: Mapped[UUID | None] = mapped_column(ForeignKey("api_keys.id"))
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]

    def revoke(self, at: datetime) -> None:
        """It ends now, everywhere."""
        if self.revoked_at is not None:
            raise ApiKeyRevoked
        self.revoked_at = at

    def retire(self, at: datetime) -> None:
        """A successor exists: this one ends at `at`, or earlier if it would have anyway."""
        if self.revoked_at is not None:
            raise ApiKeyRevoked
        self.expires_at = min(self.expires_at or at, at)


class ApiKeyUse(Base):
    """How often a key was used on one business day."""

    __tablename__ = "api_key_uses"

    key_id: Mapped[UUID] = mapped_column(ForeignKey("api_keys.id", ondelete="CASCADE"), primary_key=True)
    day: Mapped[date] = mapped_column(primary_key=True)
    requests: Mapped[int] = mapped_column(BIG)
