"""One row per level that had to act: when its clock started, warned, ran out and stopped."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import ForeignKey, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Entity
from app.models.hazards import HazardLevel

_RUNNING = text("ended_at IS NULL")
_TO_WARN = text("ended_at IS NULL AND warned_at IS NULL")
_TO_ESCALATE = text("ended_at IS NULL AND escalated_at IS NULL")


class HazardDeadline(Entity):
    """The clock of one level. It is overdue from `due_at` on, that instant included."""

    __tablename__ = "hazard_deadlines"

    hazard_id: Mapped[UUID] = mapped_column(ForeignKey("hazards.id"))
    n: Mapped[int]
    level: Mapped[HazardLevel]
    started_at: Mapped[datetime]
    warn_at: Mapped[datetime]
    due_at: Mapped[datetime]
    warned_at: Mapped[datetime | None]
    escalated_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]

    __table_args__ = (
        UniqueConstraint("hazard_id", "n"),
        Index(
            "uq_hazard_deadlines_running",
            "hazard_id",
            unique=True,
            sqlite_where=_RUNNING,
            postgresql_where=_RUNNING,
        ),
        Index("ix_hazard_deadlines_warn", "warn_at", sqlite_where=_TO_WARN, postgresql_where=_TO_WARN),
        Index("ix_hazard_deadlines_due", "due_at", sqlite_where=_TO_ESCALATE, postgresql_where=_TO_ESCALATE),
    )
