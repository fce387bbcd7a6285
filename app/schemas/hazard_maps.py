"""The public map on the wire (RFC 7946)."""

from typing import Literal
from uuid import UUID

from pydantic import AwareDatetime

from app.models.hazards import HazardStatus
from app.schemas.base import Read


class PointGeometry(Read):
    """Longitude, latitude in WGS-84."""

    type: Literal["Point"] = "Point"
    coordinates: tuple[float, float]


class FeatureProperties(Read):
    """What everybody may know."""

    category: str
    category_name: str
    category_name_en: str
    status: HazardStatus
    supporters: int
    filed_at: AwareDatetime


class Feature(Read):
    """One hazard."""

    type: Literal["Feature"] = "Feature"
    id: UUID
    geometry: PointGeometry
    properties: FeatureProperties


class FeatureCollection(Read):
    """All of them in the box, or the newest 1,000."""

    type: Literal["FeatureCollection"] = "FeatureCollection"
    features: list[Feature]
    truncated: bool
