"""Regions on the wire."""

from typing import Annotated
from uuid import UUID

from pydantic import Field, JsonValue

from app.models.regions import RegionLevel
from app.schemas.base import CoordinatesRead, Read, ShortText, Strict

Id = Annotated[UUID, Field(strict=False)]


class RegionName(Read):
    """A region by name, in both languages."""

    id: UUID
    code: str
    level: RegionLevel
    name: str
    name_en: str


class RegionSummary(RegionName):
    """A region in a list. `demo` marks an invented name."""

    parent_id: UUID | None
    centre: CoordinatesRead
    demo: bool
    version: int


class RegionRead(RegionSummary):
    """A region with its outline: a GeoJSON geometry in GCJ-02; buildings have none."""

    polygon: dict[str, JsonValue] | None


class RegionUpdate(Strict):
    """What a district may change; the outline and the code stay."""

    name: ShortText
    name_en: ShortText
    parent_id: Annotated[Id | None, Field(description="Null for the district only.")]
    version: Annotated[int | None, Field(ge=1, description="Instead of `If-Match`.")] = None

    model_config = {
        "json_schema_extra": {
            "examples": [
                {
                    "name": "枫树社区第3网格",
                    "name_en": "Maple Community Grid 3",
                    "parent_id": "01938b5e-7c1a-7d2e-9f00-3a51f0c2b001",
                }
            ]
        }
    }


class RegionLocation(Read):
    """Where a point lies, from the district down. A community without grids has no `grid`."""

    location: CoordinatesRead
    district: RegionName
    street: RegionName
    community: RegionName
    compound: RegionName | None
    grid: RegionName | None
