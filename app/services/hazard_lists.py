"""Lists of hazards: one's own, the public's, a worker's, and those near a place."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

from sqlalchemy import ColumnElement, Select, and_, or_, select, true
from sqlalchemy.ext.asyncio import AsyncSession

from app import pagination
from app.auth import Caller
from app.errors import Forbidden, InvalidInput
from app.geo import Box, Point, cells_around, distance_m
from app.models.hazards import OPEN_STATUSES, Hazard, HazardLevel, HazardStatus
from app.models.regions import RegionAncestor
from app.schemas.base import Page
from app.schemas.hazards import HazardSummary
from app.services import filters, hazard_access, hazard_categories, hazard_views

Whose = Literal["mine", "public", "handled"]
Order = Literal["newest", "due"]
NEARBY_LIMIT = 20
MAX_RADIUS_M = 2_000
_LIST = "list_hazards"
_STATUSES_OF_LEVEL: dict[HazardLevel | None, tuple[HazardStatus, ...]] = {
    HazardLevel.GRID: (HazardStatus.FILED, HazardStatus.ACCEPTED),
    HazardLevel.STREET: (HazardStatus.CALLED,),
    HazardLevel.DEPARTMENT: (HazardStatus.DISPATCHED, HazardStatus.CHECKED_IN),
}


@dataclass(frozen=True, slots=True)
class Filter:
    """Which hazards, as the query says it."""

    scope: Whose | None = None
    statuses: tuple[HazardStatus, ...] = ()
    category: str | None = None
    level: HazardLevel | None = None
    region_id: UUID | None = None
    handler_id: UUID | None = None
    overdue: bool | None = None
    due_before: datetime | None = None
    box: Box | None = None
    order: Order = "newest"


async def page(
    session: AsyncSession, caller: Caller, wanted: Filter, limit: int, cursor: str | None
) -> Page[HazardSummary]:
    """One page, newest first or most urgent first. Pages stay stable while rows are added."""
    await filters.require_category(session, wanted.category, ("query", "category"))
    await filters.require_region(session, wanted.region_id)
    query = select(Hazard).where(_whose(caller, wanted), *conditions(wanted))
    query = _due_first(query, cursor) if wanted.order == "due" else _newest_first(query, cursor)
    rows = list(await session.scalars(query.limit(limit + 1)))
    more = _cursor_behind(rows[limit - 1], wanted) if len(rows) > limit else None
    items = await hazard_views.summarise(session, caller, rows[:limit], public=wanted.scope == "public")
    return Page(items=items, next_cursor=more)


async def nearby(
    session: AsyncSession, caller: Caller, point: Point, category_code: str, radius_m: int | None
) -> Page[HazardSummary]:
    """Open hazards of one category around a GCJ-02 point, nearest first: what may be the same danger."""
    category = await hazard_categories.usable(session, category_code, ("query", "category"))
    radius = category.nearby_radius_m if radius_m is None else radius_m
    if radius == 0:
        return Page(items=[], next_cursor=None)
    rows = await session.scalars(
        select(Hazard).where(
            Hazard.category == category.code,
            Hazard.status.in_(OPEN_STATUSES),
            Hazard.cell.in_(cells_around(point.lng, point.lat, radius)),
            hazard_access.visible_to(caller),
        )
    )
    distances = {row: distance_m(point, Point(row.lng, row.lat)) for row in rows}
    inside = sorted((metres, row.id, row) for row, metres in distances.items() if metres <= radius)
    nearest = [row for _, _, row in inside[:NEARBY_LIMIT]]
    metres = {row.id: round(distance) for distance, _, row in inside[:NEARBY_LIMIT]}
    return Page(items=await hazard_views.summarise(session, caller, nearest, metres), next_cursor=None)


def conditions(wanted: Filter) -> list[ColumnElement[bool]]:
    """The filter as SQL, without the question whose rows they are."""
    box = wanted.box
    below = select(RegionAncestor.region_id).where(RegionAncestor.ancestor_id == wanted.region_id)
    late = Hazard.overdue_at.is_not(None) if wanted.overdue else Hazard.overdue_at.is_(None)
    soon = Hazard.due_at < wanted.due_before if wanted.due_before else true()
    possible = [
        (wanted.statuses, Hazard.status.in_(wanted.statuses)),
        (wanted.category, Hazard.category == wanted.category),
        (wanted.level, Hazard.status.in_(_STATUSES_OF_LEVEL.get(wanted.level, ()))),
        (wanted.region_id, Hazard.region_id.in_(below)),
        (wanted.handler_id, Hazard.handler_id == wanted.handler_id),
        (wanted.overdue is not None, late),
        (wanted.due_before, soon),
        (box, box_holds(box) if box else true()),
    ]
    return [condition for asked, condition in possible if asked]


def box_holds(box: Box) -> ColumnElement[bool]:
    """Whether a hazard lies in a GCJ-02 box."""
    return and_(Hazard.lng.between(box.min_lng, box.max_lng), Hazard.lat.between(box.min_lat, box.max_lat))


def parse_bbox(text: str) -> Box:
    """`min_lng,min_lat,max_lng,max_lat`; 422 for anything else."""
    try:
        min_lng, min_lat, max_lng, max_lat = (float(part) for part in text.split(","))
    except ValueError:
        raise _bad_box() from None
    if not (-180 <= min_lng < max_lng <= 180 and -90 <= min_lat < max_lat <= 90):
        raise _bad_box()
    return Box(min_lng, min_lat, max_lng, max_lat)


def _whose(caller: Caller, wanted: Filter) -> ColumnElement[bool]:
    if caller.is_resident and (wanted.handler_id or wanted.due_before or wanted.order == "due"):
        raise Forbidden
    scope = wanted.scope or ("mine" if caller.is_resident else "handled")
    if scope == "public":
        return hazard_access.public()
    if caller.is_resident != (scope == "mine"):
        raise Forbidden
    return Hazard.reporter_id == caller.id if scope == "mine" else hazard_access.handled_by(caller, _LIST)


def _newest_first(query: Select[Hazard], cursor: str | None) -> Select[Hazard]:
    last = pagination.decode_id(_LIST, cursor)
    if last is not None:
        query = query.where(Hazard.id < last)
    return query.order_by(Hazard.id.desc())


def _due_first(query: Select[Hazard], cursor: str | None) -> Select[Hazard]:
    query = query.where(Hazard.due_at.is_not(None))
    if cursor is not None:
        due, last = pagination.decode(f"{_LIST}:due", cursor)
        due_at, last_id = datetime.fromisoformat(str(due)), UUID(str(last))
        query = query.where(or_(Hazard.due_at > due_at, and_(Hazard.due_at == due_at, Hazard.id > last_id)))
    return query.order_by(Hazard.due_at, Hazard.id)


def _cursor_behind(row: Hazard, wanted: Filter) -> str:
    if wanted.order == "due" and row.due_at is not None:
        return pagination.encode(f"{_LIST}:due", row.due_at.isoformat(), str(row.id))
    return pagination.encode(_LIST, str(row.id))


def _bad_box() -> InvalidInput:
    return InvalidInput.of(
        ("query", "bbox"), "invalid_bbox", "must be min_lng,min_lat,max_lng,max_lat", "地图范围格式不正确"
    )
