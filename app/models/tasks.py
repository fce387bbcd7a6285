"""Work to be done after a commit: rows with leases, and the schedules that make such rows."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import Index, text
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base, Entity, JsonObject


class TaskStatus(StrEnum):
    """Queued until a worker leases it; done, or dead when every attempt failed."""

    QUEUED = "queued"
    DONE = "done"
    DEAD = "dead"


class Task(Entity):
    """One piece of work. `key` makes enqueueing idempotent; `lease_token` fences off a worker that was too slow."""

    __tablename__ = "tasks"

    kind: Mapped[str]
    key: Mapped[str | None] = mapped_column(unique=True)
    payload: Mapped[JsonObject]
    status: Mapped[TaskStatus] = mapped_column(default=TaskStatus.QUEUED)
    run_at: Mapped[datetime]
    attempts: Mapped[int] = mapped_column(default=0)
    lease_token: Mapped[UUID | None]
    lease_until: Mapped[datetime | None]
    last_error: Mapped[str | None]
    finished_at: Mapped[datetime | None]

    __table_args__ = (
        Index(
            "ix_tasks_due",
            "run_at",
            sqlite_where=text("status = 'queued'"),
            postgresql_where=text("status = 'queued'"),
        ),
    )


class ScheduleRun(Base):
    """One run of one schedule: whoever inserts the row runs it, so there is no leader."""

    __tablename__ = "schedule_runs"

    name: Mapped[str] = mapped_column(primary_key=True)
    due_at: Mapped[datetime] = mapped_column(primary_key=True)
    created_at: Mapped[datetime]
