"""Which community and grid a point lies in, from an index of the outlines that is held in memory for a while."""

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from app import clock
from app.errors import FieldError, InvalidInput
from app.events import Place
from app.geo import Point, RegionIndex, RegionShape, parse_polygon
from app.models.regions import Region, RegionAncestor, RegionLevel
from app.signals import signals

TOPIC = "regions"
_KEPT_SECONDS = 30.0
_RENEWAL_SECONDS = 2.0


class OutsideDistrict(InvalidInput):
    """The point lies in no community; `nearest_community` (in English `nearest_community_en`) is the closest one."""

    code = "outside_district"
    title_en, title_zh = (
        "This place is outside all communities of the district",
        "该位置不在本区任何社区范围内",
    )


@dataclass(slots=True)
class _Held:
    index: RegionIndex | None = None
    names: dict[UUID, tuple[str, str]] | None = None
    until: float = 0.0
    changes: int = 0


_held = _Held()


def _forget(heard: str) -> None:
    if heard == TOPIC:
        _held.until = 0.0
        _held.changes += 1


signals.listen(_forget)


async def locate(session: AsyncSession, point: Point, loc: tuple[str, ...]) -> Place:
    """The community of a GCJ-02 point and its grid (else the community again); 422 outside, naming the nearest."""
    index = _held.index
    if index is None or clock.monotonic() >= _held.until:
        if _held.until:
            # Nobody has told of a change: until this one is back with a new index, the others go by the old one.
            _held.until = clock.monotonic() + _RENEWAL_SECONDS
        index = await _load(session)
    found = index.locate(point.lng, point.lat)
    if found is not None:
        return Place(found.community_id, found.grid_id or found.community_id)
    raise _outside(index, point, loc)


async def hold(session: AsyncSession, place: Place) -> Place:
    """The place as the tree has it now, which the index may not know yet; its branch stays there until the commit."""
    at = place.region_id
    while at != place.community_id:
        above = await session.scalar(
            select(Region.parent_id)
            .where(Region.id == at, Region.level != RegionLevel.COMMUNITY)
            .with_for_update(read=True)
        )
        if above is None:
            break
        at = above
    return Place(at, place.region_id)


async def _load(session: AsyncSession) -> RegionIndex:
    changes = _held.changes
    above = aliased(Region)
    rows = (
        await session.execute(
            select(
                Region.id,
                Region.code,
                Region.level,
                Region.polygon,
                Region.name,
                Region.name_en,
                above.id.label("community_id"),
            )
            .join(RegionAncestor, RegionAncestor.region_id == Region.id)
            .join(above, above.id == RegionAncestor.ancestor_id)
            .where(
                Region.level.in_([RegionLevel.COMMUNITY, RegionLevel.GRID]),
                above.level == RegionLevel.COMMUNITY,
                Region.polygon.is_not(None),
            )
        )
    ).all()
    shapes = [
        RegionShape(
            row.id,
            row.code,
            "grid" if row.level is RegionLevel.GRID else "community",
            row.community_id,
            parse_polygon(row.polygon),
        )
        for row in rows
    ]
    _held.names = {row.id: (row.name, row.name_en) for row in rows}
    _held.index = index = RegionIndex(shapes)
    # What was read before a change was heard must not be kept after it.
    if changes == _held.changes:
        _held.until = clock.monotonic() + _KEPT_SECONDS
    return index


def _outside(index: RegionIndex, point: Point, loc: tuple[str, ...]) -> OutsideDistrict:
    nearest = index.nearest_community(point.lng, point.lat)
    if nearest is None:
        return OutsideDistrict()
    name, name_en = (_held.names or {}).get(nearest.community_id, ("", ""))
    metres = round(nearest.distance_m)
    message_en = f"outside the district; the nearest community is {name_en}, {metres} m away"
    message_zh = f"不在本区范围内，最近的社区为{name}，距离 {metres} 米"
    field = FieldError(loc, OutsideDistrict.code, message_en, message_zh)
    return OutsideDistrict(
        message_en,
        message_zh,
        fields=[field],
        nearest_community_id=str(nearest.community_id),
        nearest_community=name,
        nearest_community_en=name_en,
        distance_m=metres,
    )
