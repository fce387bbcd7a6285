"""What is said about a hazard: public replies, and notes among staff."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base, Entity
from app.models.hazards import NotFlagged, PublicState
from app.models.sessions import PrincipalKind


class CommentVisibility(StrEnum):
    """Internal notes are never shown outside the staff that handle the case."""

    PUBLIC = "public"
    INTERNAL = "internal"


class HazardComment(Entity):
    """One text, sealed. A hidden one keeps its place and loses its words."""

    __tablename__ = "hazard_comments"

    hazard_id: Mapped[UUID] = mapped_column(ForeignKey("hazards.id"))
    author_kind: Mapped[PrincipalKind]
    author_id: Mapped[UUID | None]
    visibility: Mapped[CommentVisibility]
    public_state: Mapped[PublicState] = mapped_column(default=PublicState.PENDING)
    text_sealed: Mapped[bytes | None]
    event_id: Mapped[UUID | None]
    hidden_at: Mapped[datetime | None]

    __table_args__ = (Index(None, "hazard_id", "id"), Index(None, "author_kind", "author_id"))

    def hide(self, at: datetime) -> None:
        """The words are gone for good."""
        self.text_sealed, self.hidden_at, self.public_state = None, at, PublicState.HIDDEN

    def require_flagged(self) -> None:
        """Hidden by the content check, and the words are still there."""
        if self.public_state is not PublicState.HIDDEN or self.hidden_at is not None:
            raise NotFlagged

    def publish(self) -> None:
        """A person found nothing wrong with it."""
        self.public_state = PublicState.VISIBLE


class HazardSupport(Base):
    """One resident saw it too; the key makes it count once."""

    __tablename__ = "hazard_supports"

    hazard_id: Mapped[UUID] = mapped_column(ForeignKey("hazards.id"), primary_key=True)
    resident_id: Mapped[UUID] = mapped_column(ForeignKey("residents.id"), primary_key=True, index=True)
    created_at: Mapped[datetime]
