"""What residents and staff follow: one hazard, a category, a region, or what lies around a point."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Entity
from app.models.sessions import PrincipalKind


class SubscriptionKind(StrEnum):
    """What is followed."""

    HAZARD = "hazard"
    CATEGORY = "category"
    REGION = "region"
    POINT = "point"


class Subscription(Entity):
    """One caller follows one target, once: `target` is the target in one canonical form.

    Of a point, `south` and `north` are the latitudes that its circle lies between, and `metres_per_lng` is the length of
    a degree of longitude there. No message goes out on account of it before `quiet_until`.
    """

    __tablename__ = "subscriptions"

    subscriber_kind: Mapped[PrincipalKind]
    subscriber_id: Mapped[UUID]
    kind: Mapped[SubscriptionKind]
    target: Mapped[str]
    hazard_id: Mapped[UUID | None] = mapped_column(ForeignKey("hazards.id"), index=True)
    category: Mapped[str | None] = mapped_column(ForeignKey("hazard_categories.code"), index=True)
    region_id: Mapped[UUID | None] = mapped_column(ForeignKey("regions.id"), index=True)
    lng: Mapped[float | None]
    lat: Mapped[float | None]
    radius_m: Mapped[int | None]
    metres_per_lng: Mapped[float | None]
    south: Mapped[float | None]
    north: Mapped[float | None]
    quiet_until: Mapped[datetime | None]

    __table_args__ = (
        UniqueConstraint("subscriber_kind", "subscriber_id", "target"),
        CheckConstraint("(kind = 'hazard') = (hazard_id IS NOT NULL)", name="hazard"),
        CheckConstraint("(kind = 'category') = (category IS NOT NULL)", name="category"),
        CheckConstraint("(kind = 'point') = (radius_m IS NOT NULL)", name="point"),
        Index(None, "south", "north"),
    )
