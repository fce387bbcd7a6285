"""Lists of hazards: one's own, the public's, a worker's, and those near a place.

A list is one statement, built and compiled once for each combination of filters that is asked for.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import lru_cache
from operator import itemgetter
from typing import Literal, NamedTuple
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Float,
    Select,
    Subquery,
    Text,
    UnaryExpression,
    Uuid,
    and_,
    bindparam,
    exists,
    or_,
    select,
    true,
    union,
)
from sqlalchemy.orm import aliased

from app import pagination
from app.auth import Caller
from app.db import database
from app.errors import Forbidden, InvalidInput
from app.geo import Box, Point, cells_around, degrees, distance_m
from app.hot import Hot, one_of, to_json
from app.models.base import UtcDateTime
from app.models.hazards import OPEN, Hazard, HazardLevel, HazardStatus
from app.models.regions import RegionAncestor
from app.services import filters, hazard_access, hazard_categories
from app.services.hazard_summaries import LISTED_FOR_HANDLERS, LISTED_FOR_PUBLIC, ListedRow, summarise
from app.settings import settings

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


class _Shape(NamedTuple):
    """What decides how the statement of a page looks."""

    whose: Whose
    by_region: bool
    by_organisation: bool
    order: Order
    continues: bool
    limit: int
    filters: tuple[str, ...]


def _id(name: str) -> ColumnElement[UUID]:
    return bindparam(name, type_=Uuid())


def _time(name: str) -> ColumnElement[datetime]:
    return bindparam(name, type_=UtcDateTime())


def _number(name: str) -> ColumnElement[float]:
    return bindparam(name, type_=Float())


_FILTERS: dict[str, ColumnElement[bool]] = {
    "statuses": one_of(Hazard.status, "statuses"),
    "category": Hazard.category == bindparam("category", type_=Text()),
    "level": one_of(Hazard.status, "statuses_of_level"),
    "region_id": exists()
    .where(RegionAncestor.region_id == Hazard.region_id, RegionAncestor.ancestor_id == _id("region_id"))
    .correlate(Hazard),
    "handler_id": Hazard.handler_id == _id("handler_id"),
    "overdue": Hazard.overdue_at.is_not(None),
    "in_time": Hazard.overdue_at.is_(None),
    "due_before": Hazard.due_at < _time("due_before"),
    "box": and_(
        Hazard.lng.between(_number("min_lng"), _number("max_lng")),
        Hazard.lat.between(_number("min_lat"), _number("max_lat")),
    ),
}
_BEHIND: dict[Order, ColumnElement[bool]] = {
    "newest": Hazard.id < _id("last_id"),
    "due": or_(
        Hazard.due_at > _time("last_due_at"),
        and_(Hazard.due_at == _time("last_due_at"), Hazard.id > _id("last_id")),
    ),
}
_SQUARED_DISTANCE = (Hazard.lng - _number("lng")) * (Hazard.lng - _number("lng")) * _number("squeeze") + (
    Hazard.lat - _number("lat")
) * (Hazard.lat - _number("lat"))


def _nearest(listed: Select[*tuple[object, ...]], visible: ColumnElement[bool]) -> Hot[ListedRow]:
    return Hot(
        listed.where(_FILTERS["category"], OPEN, one_of(Hazard.cell, "cells"), visible)
        .order_by(_SQUARED_DISTANCE)
        .limit(NEARBY_LIMIT),
        planned_once=True,
    )


_NEARBY_FOR_RESIDENTS = _nearest(LISTED_FOR_PUBLIC, hazard_access.VISIBLE_TO_RESIDENTS)
_NEARBY_FOR_STAFF = _nearest(LISTED_FOR_HANDLERS, hazard_access.HANDLED)


async def page(caller: Caller, wanted: Filter, limit: int, cursor: str | None) -> bytes:
    """One page, newest first or most urgent first: a `Page[HazardSummary]`, stable while rows are added."""
    whose = _whose(caller, wanted)
    await _require_known(caller, wanted)
    values = hazard_access.parameters(caller, _LIST) | _values(wanted) | _position(wanted, cursor)
    shape = _Shape(
        whose=whose,
        by_region=bool(values["regions"]),
        by_organisation=bool(values["organisations"]),
        order=wanted.order,
        continues=cursor is not None,
        # As a number, not a parameter: PostgreSQL plans a statement anew each time when it cannot tell how much is wanted.
        limit=limit + 1,
        filters=tuple(name for name in _FILTERS if values.get(name)),
    )
    rows = await database.rows(_statement(shape), values)
    more = _cursor_behind(rows[limit - 1], wanted) if len(rows) > limit else None
    items = summarise(caller, rows[:limit], public=whose == "public")
    return to_json({"items": items, "next_cursor": more})


async def nearby(caller: Caller, point: Point, category_code: str, radius_m: int | None) -> bytes:
    """Open hazards of one category around a GCJ-02 point, nearest first: a `Page[HazardSummary]`."""
    category = await hazard_categories.usable(None, category_code, ("query", "category"))
    radius = category.nearby_radius_m if radius_m is None else radius_m
    if radius == 0:
        return to_json({"items": [], "next_cursor": None})
    values = hazard_access.parameters(caller) | {
        "category": category.code,
        "cells": cells_around(point.lng, point.lat, radius),
        "lng": point.lng,
        "lat": point.lat,
        "squeeze": math.cos(math.radians(point.lat)) ** 2,
    }
    rows = await database.rows(_NEARBY_FOR_RESIDENTS if caller.is_resident else _NEARBY_FOR_STAFF, values)
    away = [(distance_m(point, Point(row["lng"], row["lat"])), row) for row in rows]
    near = sorted((each for each in away if each[0] <= radius), key=itemgetter(0))
    items = summarise(caller, [row for _, row in near])
    for item, (metres, _) in zip(items, near, strict=True):
        item["distance_m"] = round(metres)
    return to_json({"items": items, "next_cursor": None})


async def _require_known(caller: Caller, wanted: Filter) -> None:
    """422 for a category, a region or a handler that there is not: an empty list would look like an answer."""
    if wanted.category is None and wanted.region_id is None and wanted.handler_id in (None, caller.id):
        return
    async with database.reading() as session:
        await filters.require_category(session, wanted.category, ("query", "category"))
        await filters.require_region(session, wanted.region_id)
        await filters.require_handler(session, caller, wanted.handler_id, _LIST)


def box_holds(box: Box) -> ColumnElement[bool]:
    """Whether a hazard lies in a GCJ-02 box."""
    return and_(Hazard.lng.between(box.min_lng, box.max_lng), Hazard.lat.between(box.min_lat, box.max_lat))


def parse_bbox(text: str) -> Box:
    """`min_lng,min_lat,max_lng,max_lat`; 422 for anything else."""
    try:
        min_lng, min_lat, max_lng, max_lat = (degrees(part) for part in text.split(","))
    except ValueError:
        raise _bad_box() from None
    if not (-180 <= min_lng < max_lng <= 180 and -90 <= min_lat < max_lat <= 90):
        raise _bad_box()
    return Box(min_lng, min_lat, max_lng, max_lat)


@lru_cache(maxsize=1024)
def _statement(shape: _Shape) -> Hot[ListedRow]:
    chosen = [_FILTERS[name] for name in shape.filters]
    if shape.order == "due":
        chosen.append(Hazard.due_at.is_not(None))
    if shape.continues:
        chosen.append(_BEHIND[shape.order])
    if shape.whose == "mine":
        query = LISTED_FOR_PUBLIC.where(Hazard.reporter_id == _id("me"), *chosen)
    elif shape.whose == "public":
        query = LISTED_FOR_PUBLIC.where(hazard_access.PUBLIC, *chosen)
    else:
        query = LISTED_FOR_HANDLERS.where(Hazard.id.in_(_handled(shape, chosen)))
    # With a filter it depends on its value which index is the best one to walk.
    return Hot(query.order_by(*_order(shape.order)).limit(shape.limit), planned_once=not shape.filters)


def _handled(shape: _Shape, chosen: Sequence[ColumnElement[bool]]) -> Select[UUID]:
    """The ids of one page of what a member of staff works on.

    The first of each region, and of those the first: indexes give them, however many rows there are. Walking all rows
    from the newest on takes the longer, the smaller the part is that somebody handles.
    """
    first = select(Hazard.id, Hazard.due_at).where(*chosen).order_by(*_order(shape.order)).limit(shape.limit)
    sources = []
    if shape.by_region:
        below = select(RegionAncestor.region_id).where(one_of(RegionAncestor.ancestor_id, "regions"))
        sources.append(_of_each(below.distinct().subquery(), first))
    if shape.by_organisation or not sources:
        dispatched = first.where(hazard_access.dispatched()).correlate(None).subquery()
        sources.append(select(dispatched.c.id, dispatched.c.due_at))
    found = union(*sources).subquery()
    order = (found.c.due_at, found.c.id) if shape.order == "due" else (found.c.id.desc(),)
    return select(found.c.id).order_by(*order).limit(shape.limit)


def _of_each(regions: Subquery, first: Select[UUID, datetime | None]) -> Select[UUID, datetime | None]:
    """The first of each region. SQLite knows no LATERAL, but does the same for an IN that depends on the region."""
    its = first.where(Hazard.region_id == regions.c.region_id).correlate(regions)
    if settings.is_sqlite:
        each = aliased(Hazard)
        chosen = each.id.in_(its.with_only_columns(Hazard.id))
        return select(each.id, each.due_at).select_from(regions).join(each, chosen)
    of_each = its.lateral()
    return select(of_each.c.id, of_each.c.due_at).select_from(regions).join(of_each, true())


def _order(order: Order) -> Sequence[UnaryExpression[datetime | None] | UnaryExpression[UUID]]:
    return (Hazard.due_at.asc(), Hazard.id.asc()) if order == "due" else (Hazard.id.desc(),)


def _whose(caller: Caller, wanted: Filter) -> Whose:
    if caller.is_resident and (wanted.handler_id or wanted.due_before or wanted.order == "due"):
        raise Forbidden
    whose: Whose = wanted.scope or ("mine" if caller.is_resident else "handled")
    if whose != "public" and caller.is_resident != (whose == "mine"):
        raise Forbidden
    return whose


def _values(wanted: Filter) -> dict[str, object]:
    """The parameters of the filters that are given; the names of `_FILTERS` tell which those are."""
    found: dict[str, object] = {
        "statuses": wanted.statuses,
        "category": wanted.category,
        "level": wanted.level,
        "statuses_of_level": _STATUSES_OF_LEVEL.get(wanted.level, ()),
        "region_id": wanted.region_id,
        "handler_id": wanted.handler_id,
        "overdue": wanted.overdue is True,
        "in_time": wanted.overdue is False,
        "due_before": wanted.due_before,
        "box": wanted.box,
    }
    if wanted.box is not None:
        found |= asdict(wanted.box)
    return found


def _position(wanted: Filter, cursor: str | None) -> dict[str, object]:
    if cursor is None:
        return {}
    if wanted.order == "newest":
        return {"last_id": pagination.decode_id(_LIST, cursor)}
    due, last = pagination.decode(f"{_LIST}:due", cursor)
    return {"last_due_at": datetime.fromisoformat(str(due)), "last_id": UUID(str(last))}


def _cursor_behind(row: ListedRow, wanted: Filter) -> str:
    if wanted.order == "due" and row["due_at"] is not None:
        return pagination.encode(f"{_LIST}:due", row["due_at"].isoformat(), str(row["id"]))
    return pagination.encode(_LIST, str(row["id"]))


def _bad_box() -> InvalidInput:
    return InvalidInput.of(
        ("query", "bbox"), "invalid_bbox", "must be min_lng,min_lat,max_lng,max_lat", "地图范围格式不正确"
    )
