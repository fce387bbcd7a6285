"""Subscriptions on the wire."""

from typing import Annotated, Literal
from uuid import UUID

from pydantic import AwareDatetime, Field

from app.models.subscriptions import SubscriptionKind
from app.schemas.base import Coordinates, CoordinatesRead, Read, Strict

Id = Annotated[UUID, Field(strict=False)]
MIN_RADIUS_M, MAX_RADIUS_M = 50, 3_000


class HazardSubscription(Strict):
    """One hazard."""

    kind: Literal["hazard"]
    hazard_id: Id


class CategorySubscription(Strict):
    """Everything of a category, everywhere or in one region."""

    kind: Literal["category"]
    category: Annotated[str, Field(min_length=1, max_length=40)]
    region_id: Id | None = None


class RegionSubscription(Strict):
    """Everything in a region and below it."""

    kind: Literal["region"]
    region_id: Id


class PointSubscription(Strict):
    """Everything within so many metres of a point in the district."""

    kind: Literal["point"]
    location: Coordinates
    radius_m: Annotated[int, Field(ge=MIN_RADIUS_M, le=MAX_RADIUS_M)]


SubscriptionCreate = Annotated[
    HazardSubscription | CategorySubscription | RegionSubscription | PointSubscription,
    Field(discriminator="kind"),
]


class SubscriptionRead(Read):
    """What you follow; the fields that its kind does not need are null."""

    id: UUID
    kind: SubscriptionKind
    hazard_id: UUID | None
    category: str | None
    region_id: UUID | None
    location: CoordinatesRead | None
    radius_m: int | None
    created_at: AwareDatetime
    quiet_until: Annotated[
        AwareDatetime | None, Field(description="No WeChat message on account of this one before then.")
    ]

    model_config = {
        "json_schema_extra": {
            "examples": [
                {
                    "id": "01938b5e-7c1a-7d2e-9f00-3a51f0c2b040",
                    "kind": "point",
                    "hazard_id": None,
                    "category": None,
                    "region_id": None,
                    "location": {"lng": 104.1281, "lat": 30.6062, "datum": "gcj02"},
                    "radius_m": 300,
                    "created_at": "2026-11-23T01:30:00Z",
                    "quiet_until": None,
                }
            ]
        }
    }
