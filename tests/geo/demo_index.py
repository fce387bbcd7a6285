"""The demo district as a `RegionIndex`, with ids that tell the code."""

from functools import cache
from uuid import NAMESPACE_OID, UUID, uuid5

from app.geo import RegionIndex, RegionShape, parse_polygon
from app.models.regions import RegionLevel
from app.reference import RegionRow, load_regions

MAPLE = "510104909901"


def id_of(code: str) -> UUID:
    return uuid5(NAMESPACE_OID, code)


def regions_of(level: RegionLevel) -> list[RegionRow]:
    return [region for region in load_regions() if region.level is level]


@cache
def demo_index() -> RegionIndex:
    return RegionIndex([*_communities(), *_grids()])


def _communities() -> list[RegionShape]:
    return [
        RegionShape(id_of(row.code), row.code, "community", id_of(row.code), parse_polygon(row.polygon or {}))
        for row in regions_of(RegionLevel.COMMUNITY)
    ]


def _grids() -> list[RegionShape]:
    return [
        RegionShape(id_of(row.code), row.code, "grid", id_of(MAPLE), parse_polygon(row.polygon or {}))
        for row in regions_of(RegionLevel.GRID)
    ]
