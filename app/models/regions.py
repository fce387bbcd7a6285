"""The tree of places: district, street, community, compound, grid, building."""

from enum import StrEnum
from uuid import UUID

from sqlalchemy import ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base, Entity, JsonObject, Subject, Versioned


class RegionLevel(StrEnum):
    """Levels from the top down. A building belongs to a grid; a compound and a grid belong to a community."""

    DISTRICT = "district"
    STREET = "street"
    COMMUNITY = "community"
    COMPOUND = "compound"
    GRID = "grid"
    BUILDING = "building"


class Region(Entity, Subject, Versioned):
    """One place. `polygon` is a GeoJSON geometry in GCJ-02; communities and grids always have one."""

    __tablename__ = "regions"

    code: Mapped[str] = mapped_column(unique=True)
    parent_id: Mapped[UUID | None] = mapped_column(ForeignKey("regions.id"), index=True)
    level: Mapped[RegionLevel] = mapped_column(index=True)
    name: Mapped[str]
    name_en: Mapped[str]
    lng: Mapped[float]
    lat: Mapped[float]
    polygon: Mapped[JsonObject | None]
    demo: Mapped[bool] = mapped_column(default=False)


class RegionAncestor(Base):
    """The closure of the tree: every region with each of its ancestors and itself, so that scope is one lookup."""

    __tablename__ = "region_ancestors"

    region_id: Mapped[UUID] = mapped_column(ForeignKey("regions.id", ondelete="CASCADE"), primary_key=True)
    ancestor_id: Mapped[UUID] = mapped_column(ForeignKey("regions.id", ondelete="CASCADE"), primary_key=True)

    __table_args__ = (Index(None, "ancestor_id", "region_id"),)
