"""Who is signed in. Tokens are opaque and only their keyed digests are stored."""

from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from sqlalchemy import Index
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Entity


class PrincipalKind(StrEnum):
    """Kinds of callers."""

    RESIDENT = "resident"
    STAFF = "staff"
    API_KEY = "api_key"
    SYSTEM = "system"


class LoginSession(Entity):
    """One generation of one login. Refreshing spends it and makes exactly one successor in the same family.

    A family is named after its first row, which is locked by whoever changes any of it.
    """

    __tablename__ = "sessions"

    family_id: Mapped[UUID] = mapped_column(index=True)
    principal_kind: Mapped[PrincipalKind]
    principal_id: Mapped[UUID]
    access_digest: Mapped[str] = mapped_column(unique=True)
    access_expires_at: Mapped[datetime]
    refresh_digest: Mapped[str] = mapped_column(unique=True)
    expires_at: Mapped[datetime]
    spent_at: Mapped[datetime | None]
    successor_sealed: Mapped[bytes | None]
    revoked_at: Mapped[datetime | None]
    stepped_up_at: Mapped[datetime | None]

    __table_args__ = (Index(None, "principal_kind", "principal_id"),)

    def spend(self, now: datetime, grace: timedelta) -> None:
        """The successor is there: requests that are still on their way may use this one for `grace`."""
        self.spent_at = now
        self.access_expires_at = min(self.access_expires_at, now + grace)
