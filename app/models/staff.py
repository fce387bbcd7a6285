"""Those who work for the community, and what they were granted."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

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
    """Somebody who left is disabled, never deleted: their name stays in the history."""

    ACTIVE = "active"
    DISABLED = "disabled"


class Staff(Entity, Subject, Versioned):
    """One person with a user name. The password is argon2id, the TOTP secret is sealed."""

    __tablename__ = "staff"

    username: Mapped[str] = mapped_column(unique=True)
    display_name_sealed: Mapped[str]
    password_hash: Mapped[str]
    totp_secret_sealed: Mapped[str | None]
    totp_last_step: Mapped[int | None]
    must_change_password: Mapped[bool] = mapped_column(default=False)
    status: Mapped[StaffStatus] = mapped_column(default=StaffStatus.ACTIVE)


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


class RecoveryCode(Entity):
    """A code that replaces one TOTP, once."""

    __tablename__ = "recovery_codes"

    staff_id: Mapped[UUID] = mapped_column(ForeignKey("staff.id", ondelete="CASCADE"), index=True)
    digest: Mapped[str] = mapped_column(unique=True)
    used_at: Mapped[datetime | None]


class LoginThrottle(Base):
    """How often logins of one account or from one address failed lately; delays grow, nobody is locked for good."""

    __tablename__ = "login_throttles"

    key: Mapped[str] = mapped_column(primary_key=True)
    failures: Mapped[int]
    last_failure_at: Mapped[datetime]
    blocked_until: Mapped[datetime | None]
