"""Pictures: re-encoded, without metadata, used once."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Entity
from app.models.hazards import NotFlagged
from app.models.sessions import PrincipalKind


class MediaPurpose(StrEnum):
    """What a picture is for."""

    HAZARD = "hazard"
    HAZARD_AFTER = "hazard_after"


class MediaReview(StrEnum):
    """What the content check said so far; a person who publishes a risky one makes it passed."""

    PENDING = "pending"
    PASSED = "passed"
    RISKY = "risky"


class Media(Entity):
    """One picture in two renditions. `subject_id` is set once, when the picture is used."""

    __tablename__ = "media"

    owner_kind: Mapped[PrincipalKind]
    owner_id: Mapped[UUID]
    purpose: Mapped[MediaPurpose]
    content_type: Mapped[str]
    bytes: Mapped[int]
    width: Mapped[int]
    height: Mapped[int]
    sha256: Mapped[str]
    storage_key: Mapped[str] = mapped_column(unique=True)
    thumbnail_key: Mapped[str] = mapped_column(unique=True)
    community_id: Mapped[UUID | None] = mapped_column(ForeignKey("regions.id"))
    subject_kind: Mapped[str | None]
    subject_id: Mapped[UUID | None]
    position: Mapped[int] = mapped_column(default=0)
    review: Mapped[MediaReview] = mapped_column(default=MediaReview.PENDING)
    review_trace: Mapped[str | None] = mapped_column(index=True)
    review_submitted_at: Mapped[datetime | None]
    erased_at: Mapped[datetime | None]

    __table_args__ = (
        Index(None, "subject_kind", "subject_id"),
        Index(None, "owner_kind", "owner_id", "created_at"),
        Index(
            "ix_media_unanswered",
            "review_submitted_at",
            sqlite_where=text("review = 'pending'"),
            postgresql_where=text("review = 'pending'"),
        ),
    )

    def require_flagged(self) -> None:
        """Hidden by the content check, and the picture is still there."""
        if self.review is not MediaReview.RISKY or self.erased_at is not None:
            raise NotFlagged

    def publish(self) -> None:
        """A person found nothing wrong with it."""
        self.review = MediaReview.PASSED
