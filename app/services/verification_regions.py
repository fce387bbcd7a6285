"""Invariants of the tree of regions, and of everything that lies in it."""

from collections.abc import AsyncIterator
from uuid import UUID

from sqlalchemy import and_, exists, or_, select

from app.geo import InvalidPolygon, parse_polygon
from app.models.hazards import Hazard
from app.models.households import Household
from app.models.regions import InvalidParent, Region, RegionAncestor, RegionLevel
from app.models.staff import Grant, Role, Staff
from app.services.verification_checks import Check, Probe, each

_OUTLINED = (RegionLevel.COMMUNITY, RegionLevel.GRID)


async def _closure(probe: Probe) -> AsyncIterator[str]:
    """What the parents say beside what the closure table says."""
    parents = {
        row.id: row.parent_id for row in await probe.session.execute(select(Region.id, Region.parent_id))
    }
    pairs = await probe.session.execute(select(RegionAncestor.region_id, RegionAncestor.ancestor_id))
    stored = {(row.region_id, row.ancestor_id) for row in pairs}
    wanted = {(region_id, above) for region_id in parents for above in _upwards(region_id, parents)}
    for region_id, ancestor_id in sorted(wanted - stored):
        yield f"regions {region_id}: the closure lacks its ancestor {ancestor_id}"
    for region_id, ancestor_id in sorted(stored - wanted):
        yield f"regions {region_id}: the closure has {ancestor_id}, which is no ancestor"


def _upwards(region_id: UUID | None, parents: dict[UUID, UUID | None]) -> list[UUID]:
    """A region and those above it; a circle ends where it began."""
    path: list[UUID] = []
    while region_id is not None and region_id not in path:
        path.append(region_id)
        region_id = parents.get(region_id)
    return path


async def _levels(probe: Probe) -> AsyncIterator[str]:
    regions = {region.id: region for region in await probe.session.scalars(select(Region))}
    for done, region in enumerate(regions.values()):
        probe.advance(done, len(regions))
        try:
            region.require_parent(regions[region.parent_id] if region.parent_id else None)
        except InvalidParent:
            yield f"regions {region.id}: a {region.level} cannot lie in {region.parent_id}"
        if region.polygon is None:
            if region.level in _OUTLINED:
                yield f"regions {region.id}: a {region.level} without an outline"
            continue
        try:
            parse_polygon(region.polygon)
        except InvalidPolygon as broken:
            yield f"regions {region.id}: {broken}"


async def _communities(probe: Probe) -> AsyncIterator[str]:
    """Whoever is responsible for a community must see what happened in its grids, and nobody else."""
    for table in (Hazard, Household):
        above = exists().where(
            RegionAncestor.region_id == table.region_id,
            RegionAncestor.ancestor_id == table.community_id,
            Region.id == RegionAncestor.ancestor_id,
            Region.level == RegionLevel.COMMUNITY,
        )
        rows = await probe.session.execute(
            select(table.id, table.community_id, table.region_id).where(~above)
        )
        for row in rows:
            yield (
                f"{table.__tablename__} {row.id}: lies in region {row.region_id}, "
                f"which is not in community {row.community_id}"
            )


_GRANTS = each(
    Grant,
    {
        "nobody holds it": ~exists().where(Staff.id == Grant.staff_id),
        "a department officer without an organisation": and_(
            Grant.role == Role.DEPARTMENT_OFFICER, Grant.organisation_id.is_(None)
        ),
        "not a department officer, but in an organisation": and_(
            Grant.role != Role.DEPARTMENT_OFFICER, Grant.organisation_id.is_not(None)
        ),
        "neither in a region nor in an organisation, or in both": or_(
            and_(Grant.region_id.is_(None), Grant.organisation_id.is_(None)),
            and_(Grant.region_id.is_not(None), Grant.organisation_id.is_not(None)),
        ),
    },
)

CHECKS = (
    Check("regions.closure", "the closure table says the same as the tree", _closure),
    Check("regions.levels", "every region lies in one of the level above; outlines are polygons", _levels),
    Check("regions.communities", "what lies in a region belongs to the community above it", _communities),
    Check("grants.scopes", "every grant belongs to somebody, at one place that fits its role", _GRANTS),
)
