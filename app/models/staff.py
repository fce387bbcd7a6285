"""Those who work for the community, and what they were granted."""

from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from sqlalchemy import CheckConstraint, ColumnElement, ForeignKey, Index, or_, text
from sqlalchemy.orm import Mapped, mapped_column

from app.errors import Conflict
from app.models.base import Base, Entity, Subject, Versioned


class Role(StrEnum):
    """What a member of staff is. A role is held in a region or in an organisation, never by itself."""

    GRID_WORKER = "grid_worker"
    COMMUNITY_MANAGER = "community_manager"
    STREET_DISPATCHER = "street_dispatcher"
    DEPARTMENT_OFFICER = "department_officer"
    DISTRICT_ADMIN = "district_admin"
    AUDITOR = "auditor"
    SYSTEM_ADMIN = "system_admin"


class StaffStatus(StrEnum):
    """Somebody who left is disabled, never deleted: their name stays in the history, and they may come back."""

    ACTIVE = "active"
    DISABLED = "disabled"


class StaffDisabled(Conflict):
    """The person has left."""

    code = "staff_disabled"
    title_en, title_zh = "This member of staff is disabled", "该工作人员已停用"


class StaffActive(Conflict):
    """The person is here."""

    code = "staff_active"
    title_en, title_zh = "This member of staff is not disabled", "该工作人员未停用"


class Staff(Entity, Subject, Versioned):
    """One person with a user name. The password is argon2id, TOTP secrets are sealed.

    `region_id` is where the person belongs, so that whoever manages that region still sees them without any grant.
    """

    __tablename__ = "staff"

    username: Mapped[str] = mapped_column(unique=True)
    display_name_sealed: Mapped[bytes]
    region_id: Mapped[UUID | None] = mapped_column(ForeignKey("regions.id"), index=True)
    password_hash: Mapped[str]
    totp_secret_sealed: Mapped[bytes | None]
    totp_pending_sealed: Mapped[bytes | None]
    totp_last_step: Mapped[int | None]
    must_change_password: Mapped[bool] = mapped_column(default=False)
    status: Mapped[StaffStatus] = mapped_column(default=StaffStatus.ACTIVE)

    def require_active(self) -> None:
        """409 when the person has left."""
        if self.status is not StaffStatus.ACTIVE:
            raise StaffDisabled

    def disable(self) -> None:
        """The person leaves, once."""
        self.require_active()
        self.status = StaffStatus.DISABLED
        self.version += 1

    def enable(self) -> None:
        """The person comes back."""
        if self.status is StaffStatus.ACTIVE:
            raise StaffActive
        self.status = StaffStatus.ACTIVE
        self.version += 1

    def set_password(self, password_hash: str, *, temporary: bool) -> None:
        """A new password; a temporary one has to be changed before anything else."""
        self.password_hash, self.must_change_password = password_hash, temporary
        self.version += 1

    def drop_totp(self) -> None:
        """Forget the second factor: the device was lost."""
        self.totp_secret_sealed = self.totp_pending_sealed = None


class Grant(Entity):
    """(staff, role, region or organisation); a region covers all its descendants."""

    __tablename__ = "grants"

    staff_id: Mapped[UUID] = mapped_column(ForeignKey("staff.id", ondelete="CASCADE"), index=True)
    role: Mapped[Role]
    region_id: Mapped[UUID | None] = mapped_column(ForeignKey("regions.id"), index=True)
    organisation_id: Mapped[UUID | None] = mapped_column(ForeignKey("organisations.id"), index=True)
    granted_by: Mapped[UUID | None] = mapped_column(ForeignKey("staff.id"))
    expires_at: Mapped[datetime | None]

    __table_args__ = (
        CheckConstraint("(region_id IS NULL) <> (organisation_id IS NULL)", name="one_scope"),
        Index(
            "uq_grants_region",
            "staff_id",
            "role",
            "region_id",
            unique=True,
            sqlite_where=text("region_id IS NOT NULL"),
            postgresql_where=text("region_id IS NOT NULL"),
        ),
        Index(
            "uq_grants_organisation",
            "staff_id",
            "role",
            "organisation_id",
            unique=True,
            sqlite_where=text("organisation_id IS NOT NULL"),
            postgresql_where=text("organisation_id IS NOT NULL"),
        ),
    )

    @classmethod
    def in_force(cls, now: datetime | ColumnElement[datetime]) -> ColumnElement[bool]:
        """Whether a grant still counts."""
        return or_(cls.expires_at.is_(None), cls.expires_at > now)


class RecoveryCode(Entity):
    """A code that replaces one TOTP, once."""

    __tablename__ = "recovery_codes"

    staff_id: Mapped[UUID] = mapped_column(ForeignKey("staff.id", ondelete="CASCADE"), index=True)
    digest: Mapped[str] = mapped_column(unique=True)
    used_at: Mapped[datetime | None]


class LoginThrottle(Base):
    """A leaking count of failures: delays double from 2 seconds to 15 minutes, and nobody is locked for good."""

    __tablename__ = "login_throttles"

    key: Mapped[str] = mapped_column(primary_key=True)
    failures: Mapped[int] = mapped_column(default=0)
    forgiven_until: Mapped[datetime]
    blocked_until: Mapped[datetime | None]
    reported_until: Mapped[datetime | None]

    def wait(self, now: datetime, free: int) -> int:
        """Whole seconds until the next try is looked at; 0 for now. A clock that was put back cannot prolong it."""
        if self.blocked_until is None or self.blocked_until <= now:
            return 0
        self.blocked_until = min(self.blocked_until, now + self._delay(free))
        return -(-(self.blocked_until - now) // timedelta(seconds=1))

    def turn_away(self, now: datetime) -> bool:
        """A try came while the next one has to wait; whether it is the first in this wait."""
        first = self.blocked_until is not None and now < self.blocked_until != self.reported_until
        if first:
            self.reported_until = self.blocked_until
        return first

    def count(self, now: datetime, free: int, forgive_one_in: timedelta) -> None:
        """One more failure. `free` of them cost nothing, and one is forgiven in each `forgive_one_in`."""
        self.forgiven_until = min(self.forgiven_until, now)
        forgiven = min(self.failures, (now - self.forgiven_until) // forgive_one_in)
        self.failures -= forgiven
        self.forgiven_until = self.forgiven_until + forgiven * forgive_one_in if self.failures else now
        self.failures = min(self.failures + 1, free + _DOUBLINGS)
        self.blocked_until = now + self._delay(free) if self._delay(free) else None

    def take_back(self, free: int) -> None:
        """The try that was counted before it was looked at did not fail."""
        self.failures = max(self.failures - 1, 0)
        if not self._delay(free):
            self.blocked_until = None

    def _delay(self, free: int) -> timedelta:
        over = self.failures - free
        return min(timedelta(seconds=2**over), _LONGEST_DELAY) if over > 0 else timedelta()


_LONGEST_DELAY = timedelta(minutes=15)
_DOUBLINGS = 10
