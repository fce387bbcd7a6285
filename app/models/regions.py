"""The tree of places: district, street, community, compound, grid, building."""

from enum import StrEnum
from uuid import UUID

from sqlalchemy import ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from app.errors import InvalidInput
from app.models.base import Base, Entity, JsonObject, Subject, Versioned


class RegionLevel(StrEnum):
    """Levels from the top down; a grid may also belong to a community directly, where there are no compounds."""

    DISTRICT = "district"
    STREET = "street"
    COMMUNITY = "community"
    COMPOUND = "compound"
    GRID = "grid"
    BUILDING = "building"


_PARENTS = {
    RegionLevel.DISTRICT: (),
    RegionLevel.STREET: (RegionLevel.DISTRICT,),
    RegionLevel.COMMUNITY: (RegionLevel.STREET,),
    RegionLevel.COMPOUND: (RegionLevel.COMMUNITY,),
    RegionLevel.GRID: (RegionLevel.COMPOUND, RegionLevel.COMMUNITY),
    RegionLevel.BUILDING: (RegionLevel.GRID,),
}


class InvalidParent(InvalidInput):
    """A region lies in one of the level above, so never in itself or below itself."""

    code = "invalid_parent"
    title_en, title_zh = "A region of this level cannot lie there", "该级别的区域不能隶属于此上级"


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

    def rename(self, name: str, name_en: str) -> None:
        """Call it something else."""
        self.name, self.name_en = name, name_en
        self.version += 1

    def move_under(self, parent: "Region | None") -> None:
        """Hang it and everything below it under another region; None only for the district."""
        self.require_parent(parent)
        self.parent_id = parent.id if parent else None

    def require_parent(self, parent: "Region | None") -> None:
        """422 unless a region of this level may lie there."""
        levels = _PARENTS[self.level]
        if parent.level not in levels if parent else levels:
            raise InvalidParent.of(
                ("body", "parent_id"),
                InvalidParent.code,
                "is not a region that this one can lie in",
                "不是该区域可隶属的上级",
            )


class RegionAncestor(Base):
    """The closure of the tree: every region with each of its ancestors and itself, so that scope is one lookup."""

    __tablename__ = "region_ancestors"

    region_id: Mapped[UUID] = mapped_column(ForeignKey("regions.id", ondelete="CASCADE"), primary_key=True)
    ancestor_id: Mapped[UUID] = mapped_column(ForeignKey("regions.id", ondelete="CASCADE"), primary_key=True)

    __table_args__ = (Index(None, "ancestor_id", "region_id"),)
