"""The backbone: what happened, append-only, in the transaction in which it happened."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import ForeignKey, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from app.ids import new_id
from app.models.base import BIG, Base, JsonObject
from app.models.sessions import PrincipalKind


class Audience(StrEnum):
    """Who may read an event: everybody, those concerned and staff in scope, staff only, or auditors only."""

    PUBLIC = "public"
    PARTIES = "parties"
    STAFF = "staff"
    AUDIT = "audit"


class Event(Base):
    """One fact.

    `no` is the order of insertion, `seq` the gapless order per subject. `position` and `digest` are given by the
    sequencer after the commit: positions are dense in commit order, so a reader that follows them misses nothing,
    and each digest covers the one before, so that no row can be changed unseen. One that came with a case from another
    service has `imported_at`: it is history, nobody is told of it, and its times are that service's word.
    """

    __tablename__ = "events"

    no: Mapped[int] = mapped_column(BIG, primary_key=True, autoincrement=True)
    id: Mapped[UUID] = mapped_column(unique=True, default=new_id)
    position: Mapped[int | None] = mapped_column(BIG, unique=True)
    digest: Mapped[str | None]
    type: Mapped[str]
    audience: Mapped[Audience]
    community_id: Mapped[UUID | None] = mapped_column(ForeignKey("regions.id"))
    region_id: Mapped[UUID | None] = mapped_column(ForeignKey("regions.id"))
    subject_kind: Mapped[str]
    subject_id: Mapped[UUID]
    seq: Mapped[int]
    actor_kind: Mapped[PrincipalKind]
    actor_id: Mapped[UUID | None]
    occurred_at: Mapped[datetime]
    request_id: Mapped[str | None]
    imported_at: Mapped[datetime | None]
    payload: Mapped[JsonObject]

    __table_args__ = (
        UniqueConstraint("subject_kind", "subject_id", "seq"),
        Index(
            "ix_events_unsequenced",
            "no",
            sqlite_where=text("position IS NULL"),
            postgresql_where=text("position IS NULL"),
        ),
        Index(None, "community_id", "position"),
        {"sqlite_autoincrement": True},
    )


class EventHead(Base):
    """The last position given and its digest: one row, locked by whoever sequences."""

    __tablename__ = "event_head"

    id: Mapped[int] = mapped_column(primary_key=True)
    position: Mapped[int] = mapped_column(BIG)
    digest: Mapped[str]
