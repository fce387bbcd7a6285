"""What the district platform sent, how far each of its cases is applied, and how its codes translate."""

from datetime import date, datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import ForeignKey, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base, Entity, JsonObject, Subject


class InboundStatus(StrEnum):
    """`parked` waits for an earlier number or for a code that nobody has mapped yet."""

    PARKED = "parked"
    APPLIED = "applied"
    SUPERSEDED = "superseded"
    CONFLICT = "conflict"


class SyncCase(Entity, Subject):
    """A case that both sides know.

    `applied_seq` is the last number of theirs that was applied; what came up to `forgotten_seq` was thrown away since.
    """

    __tablename__ = "sync_cases"

    case_key: Mapped[str] = mapped_column(unique=True)
    hazard_id: Mapped[UUID | None] = mapped_column(ForeignKey("hazards.id"), unique=True)
    applied_seq: Mapped[int] = mapped_column(default=0)
    forgotten_seq: Mapped[int] = mapped_column(default=0)

    def bind(self, hazard_id: UUID) -> None:
        """The hazard that this case is here."""
        self.hazard_id = hazard_id

    def advance(self, seq: int) -> None:
        """The next number is applied."""
        if seq != self.applied_seq + 1:
            raise ValueError("numbers are applied one after the other")
        self.applied_seq = seq

    def forget(self, seq: int) -> None:
        """What came up to this number is no longer here."""
        if not self.forgotten_seq <= seq <= self.applied_seq:
            raise ValueError("only what was applied is forgotten, and for good")
        self.forgotten_seq = seq


class InboundEvent(Entity):
    """One message, kept before it is acknowledged. The words in it are sealed. `told_at`: somebody was told that it waits."""

    __tablename__ = "inbound_events"

    message_id: Mapped[str] = mapped_column(unique=True)
    case_id: Mapped[UUID] = mapped_column(ForeignKey("sync_cases.id"))
    seq: Mapped[int]
    type: Mapped[str]
    digest: Mapped[str]
    body_sealed: Mapped[bytes | None]
    status: Mapped[InboundStatus] = mapped_column(default=InboundStatus.PARKED)
    reason: Mapped[str | None]
    applied_at: Mapped[datetime | None]
    told_at: Mapped[datetime | None]

    __table_args__ = (
        UniqueConstraint("case_id", "seq"),
        Index(
            "ix_inbound_events_parked",
            "created_at",
            sqlite_where=text("status = 'parked'"),
            postgresql_where=text("status = 'parked'"),
        ),
        Index(None, "applied_at"),
    )

    def apply(self, at: datetime) -> None:
        """It changed the case."""
        self.status, self.reason, self.applied_at = InboundStatus.APPLIED, None, at

    def supersede(self, reason: str, at: datetime) -> None:
        """The case is already beyond it; nothing was changed."""
        self.status, self.reason, self.applied_at = InboundStatus.SUPERSEDED, reason, at

    def park(self, reason: str) -> None:
        """It has to wait."""
        self.status, self.reason = InboundStatus.PARKED, reason


class MappingKind(StrEnum):
    """What a code stands for."""

    REGION = "region"
    CATEGORY = "category"


class CodeMapping(Base):
    """One code of theirs and ours."""

    __tablename__ = "code_mappings"

    kind: Mapped[MappingKind] = mapped_column(primary_key=True)
    theirs: Mapped[str] = mapped_column(primary_key=True)
    ours: Mapped[str]

    __table_args__ = (Index(None, "kind", "ours"),)


class WatermarkReport(Entity):
    """One comparison of one day: their numbers against ours, and every case that differs."""

    __tablename__ = "watermark_reports"

    day: Mapped[date] = mapped_column(index=True)
    message_id: Mapped[str] = mapped_column(unique=True)
    communities: Mapped[int]
    differing: Mapped[int]
    report: Mapped[JsonObject]


class WatermarkGap(Base):
    """A day of which no numbers had come in time. Whoever inserts the row tells of it, so nobody is told twice."""

    __tablename__ = "watermark_gaps"

    day: Mapped[date] = mapped_column(primary_key=True)
    told_at: Mapped[datetime]
