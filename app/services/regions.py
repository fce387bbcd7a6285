"""The tree of places: looking around in it, finding a point in it, and moving a branch of it."""

from uuid import UUID

from sqlalchemy import ColumnElement, Select, and_, delete, insert, select, true, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased, defer

from app import events, pagination
from app.auth import Caller
from app.db import among, signal_after_commit
from app.errors import Forbidden, NotFound, VersionConflict
from app.events import Place
from app.geo import Point
from app.models.events import Audience
from app.models.hazards import Hazard
from app.models.households import Household
from app.models.media import Media
from app.models.regions import InvalidParent, Region, RegionAncestor, RegionLevel
from app.schemas.base import CoordinatesRead, Page
from app.schemas.regions import RegionLocation, RegionName, RegionRead, RegionSummary, RegionUpdate
from app.services import filters, places, scopes

_LIST = "list_regions"
_UPDATE = "update_region"


async def page(
    session: AsyncSession, level: RegionLevel | None, parent_id: UUID | None, limit: int, cursor: str | None
) -> Page[RegionSummary]:
    """Regions by level and parent, in the order of their codes."""
    await filters.require_region(session, parent_id, ("query", "parent_id"))
    query = select(Region).options(defer(Region.polygon, raiseload=True)).order_by(Region.code)
    if level is not None:
        query = query.where(Region.level == level)
    if parent_id is not None:
        query = query.where(Region.parent_id == parent_id)
    if cursor is not None:
        query = query.where(Region.code > str(pagination.decode(_LIST, cursor)[0]))
    rows = list(await session.scalars(query.limit(limit + 1)))
    behind = pagination.encode(_LIST, rows[limit - 1].code) if len(rows) > limit else None
    return Page(items=[_summary(row) for row in rows[:limit]], next_cursor=behind)


async def read(session: AsyncSession, region_id: UUID) -> RegionRead:
    """One region with its outline."""
    region = await session.get(Region, region_id)
    if region is None:
        raise NotFound
    return describe(region)


async def locate(session: AsyncSession, point: Point) -> RegionLocation:
    """Every region that a GCJ-02 point lies in; 422 outside the district, naming the nearest community."""
    place = await places.locate(session, point, ("query", "lng"))
    above = await session.scalars(
        select(Region)
        .join(RegionAncestor, RegionAncestor.ancestor_id == Region.id)
        .where(RegionAncestor.region_id == place.region_id)
        .options(defer(Region.polygon, raiseload=True))
    )
    names = {region.level: RegionName.model_validate(region) for region in above}
    return RegionLocation(
        location=_coordinates(point.lng, point.lat),
        district=names[RegionLevel.DISTRICT],
        street=names[RegionLevel.STREET],
        community=names[RegionLevel.COMMUNITY],
        compound=names.get(RegionLevel.COMPOUND),
        grid=names.get(RegionLevel.GRID),
    )


async def update_region(
    session: AsyncSession, caller: Caller, region_id: UUID, body: RegionUpdate, if_match: int | None
) -> Region:
    """Rename a region or hang it elsewhere, with everything below it and all that happened there."""
    region = await _lock(session, caller, region_id)
    if any(version not in (None, region.version) for version in (if_match, body.version)):
        raise VersionConflict
    if body.parent_id != region.parent_id:
        await _move(session, caller, region, body.parent_id)
    region.rename(body.name, body.name_en)
    community_id = await _community_of(session, region.id)
    events.record(
        session,
        caller,
        region,
        "region.updated",
        audience=Audience.STAFF,
        place=Place(community_id, region.id),
        payload={
            "name": region.name,
            "name_en": region.name_en,
            "parent_id": str(region.parent_id) if region.parent_id else None,
            "version": region.version,
        },
    )
    signal_after_commit(session, places.TOPIC)
    return region


def describe(region: Region) -> RegionRead:
    """A region as clients see it."""
    return RegionRead(**_summary(region).model_dump(), polygon=region.polygon)


def _summary(region: Region) -> RegionSummary:
    return RegionSummary(
        id=region.id,
        code=region.code,
        level=region.level,
        name=region.name,
        name_en=region.name_en,
        parent_id=region.parent_id,
        centre=_coordinates(region.lng, region.lat),
        demo=region.demo,
        version=region.version,
    )


def _coordinates(lng: float, lat: float) -> CoordinatesRead:
    """To a centimetre, as the location of a hazard is kept: the same point has the same digits everywhere."""
    return CoordinatesRead(lng=round(lng, 7), lat=round(lat, 7), datum="gcj02")


async def _lock(session: AsyncSession, caller: Caller, region_id: UUID) -> Region:
    """The region to change. One change of the tree at a time: a move reads rows that another one writes."""
    roots = select(Region.id).where(Region.parent_id.is_(None)).order_by(Region.id)
    await session.execute(roots.with_for_update(key_share=True))
    region = await session.scalar(
        select(Region).where(Region.id == region_id).with_for_update(key_share=True)
    )
    if region is None:
        raise NotFound
    await _require_scope(session, caller, region.id)
    return region


async def _require_scope(session: AsyncSession, caller: Caller, region_id: UUID) -> None:
    if not await scopes.covers(session, caller.scope(_UPDATE), region_id):
        raise Forbidden


async def _move(session: AsyncSession, caller: Caller, region: Region, parent_id: UUID | None) -> None:
    parent = await session.get(Region, parent_id) if parent_id else None
    if parent_id and parent is None:
        raise InvalidParent.of(
            ("body", "parent_id"), InvalidParent.code, "is not a known region", "上级区域不存在"
        )
    region.move_under(parent)
    if parent is not None:
        await _require_scope(session, caller, parent.id)
        await _rehang(session, region.id, parent.id)
        await _take_along(session, region.id)


async def _rehang(session: AsyncSession, region_id: UUID, parent_id: UUID) -> None:
    """Everything from the region down loses the ancestors above it and gains the parent and those above that."""
    below = _below(region_id)
    await session.execute(
        delete(RegionAncestor)
        .where(RegionAncestor.region_id.in_(below), RegionAncestor.ancestor_id.not_in(below))
        .execution_options(synchronize_session=False)
    )
    branch, above = aliased(RegionAncestor), aliased(RegionAncestor)
    pairs = (
        select(branch.region_id, above.ancestor_id)
        .join(above, true())
        .where(branch.ancestor_id == region_id, above.region_id == parent_id)
    )
    await session.execute(insert(RegionAncestor).from_select(["region_id", "ancestor_id"], pairs))


async def _take_along(session: AsyncSession, region_id: UUID) -> None:
    """Rows of a branch that changed its community follow it. Events stay: they say where something happened.

    Homes before hazards, like a resident who leaves.
    """
    community_id = await _community_of(session, region_id)
    if community_id is None:
        return
    below = _below(region_id)
    hazards = select(Hazard.id).where(Hazard.region_id.in_(below))
    of_hazards = and_(Media.subject_kind == Hazard.__tablename__, Media.subject_id.in_(hazards))
    branch: tuple[tuple[type[Household | Hazard | Media], ColumnElement[bool]], ...] = (
        (Household, Household.region_id.in_(below)),
        (Hazard, Hazard.region_id.in_(below)),
        (Media, of_hazards),
    )
    for table, there in branch:
        await session.execute(
            update(table)
            .where(among(table, there, table.community_id.is_distinct_from(community_id)))
            .values(community_id=community_id)
            .execution_options(synchronize_session=False)
        )


def _below(region_id: UUID) -> Select[UUID]:
    return select(RegionAncestor.region_id).where(RegionAncestor.ancestor_id == region_id)


async def _community_of(session: AsyncSession, region_id: UUID) -> UUID | None:
    """The community that a region is or lies in; None for streets and the district."""
    community_id: UUID | None = await session.scalar(
        select(Region.id)
        .join(RegionAncestor, RegionAncestor.ancestor_id == Region.id)
        .where(RegionAncestor.region_id == region_id, Region.level == RegionLevel.COMMUNITY)
    )
    return community_id
