"""Statistics that equal a recount of the rows; small cells are suppressed for the public.

The public gets one fixed table for each calendar month and breakdown. Free filters would let anybody subtract one
answer from another and find the cells that are suppressed.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from statistics import median
from typing import Literal
from uuid import UUID

from sqlalchemy import ColumnElement, case, exists, null, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from app import clock
from app.auth import Caller
from app.errors import Forbidden, InvalidInput
from app.models.cases import CaseImport
from app.models.hazard_categories import HazardCategory
from app.models.hazard_deadlines import HazardDeadline
from app.models.hazard_results import HazardOutcome
from app.models.hazards import OPEN_STATUSES, Hazard, HazardStatus
from app.models.regions import Region, RegionAncestor, RegionLevel
from app.schemas.hazard_statistics import HazardStatistics, HazardStatisticsRow, LevelStatisticsRow
from app.services import filters, hazard_access
from app.services.hazard_suppression import MIN_PEOPLE, Path, People, hidden

GroupBy = Literal["category", "street", "community", "grid"]
_OPERATION = "read_hazard_statistics"
_REGION_LEVELS = {
    "street": RegionLevel.STREET,
    "community": RegionLevel.COMMUNITY,
    "grid": RegionLevel.GRID,
}


@dataclass(slots=True)
class _Cell:
    people: set[UUID | None] = field(default_factory=set)
    counts: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    seconds: list[float] = field(default_factory=list)
    scores: list[int] = field(default_factory=list)


async def compute(
    session: AsyncSession,
    caller: Caller,
    group_by: GroupBy,
    filed_from: datetime | None,
    filed_until: datetime | None,
    region_id: UUID | None,
    public: bool,
) -> HazardStatistics:
    """Count hazards filed in [from, until). Residents get the public's view, staff their own scope."""
    await filters.require_region(session, region_id)
    if filed_from is not None and filed_until is not None and filed_from > filed_until:
        raise InvalidInput.of(
            ("query", "filed_from"), "invalid_period", "is later than filed_until", "不能晚于 filed_until"
        )
    if public:
        return await _public(session, group_by, filed_from, filed_until, region_id)
    if caller.is_resident:
        raise Forbidden
    chosen = [hazard_access.handled_by(caller, _OPERATION), *_period(filed_from, filed_until, region_id)]
    names = await _names(session, group_by)
    cells = await _cells(session, group_by, chosen)
    return HazardStatistics(
        group_by=group_by,
        filed_from=filed_from,
        filed_until=filed_until,
        items=[_row(key, names.get(key), cell) for key, cell in sorted(cells.items())],
        levels=await _levels(session, chosen),
    )


async def _public(
    session: AsyncSession,
    group_by: GroupBy,
    filed_from: datetime | None,
    filed_until: datetime | None,
    region_id: UUID | None,
) -> HazardStatistics:
    """One month of the whole district, suppressed as a whole; a region only chooses among its rows."""
    if group_by == "grid":
        raise _not_public("group_by", "grids are not for the public", "公众视图不提供网格统计")
    if group_by == "category" and region_id:
        raise _not_public("region_id", "needs a breakdown by street or community", "仅可用于按街道或社区统计")
    since, until = _month(filed_from, filed_until)
    names = await _names(session, group_by)
    cells = await _cells(session, group_by, [hazard_access.public(), *_period(since, until, None)])
    gone = await _suppressed(session, group_by, cells)
    shown = cells.keys() if region_id is None else cells.keys() & await _codes_below(session, region_id)
    rows = [
        _nothing(key, names.get(key)) if key in gone else _row(key, names.get(key), cells[key], MIN_PEOPLE)
        for key in sorted(shown)
    ]
    return HazardStatistics(group_by=group_by, filed_from=since, filed_until=until, items=rows, levels=[])


def _month(filed_from: datetime | None, filed_until: datetime | None) -> tuple[datetime, datetime]:
    """A calendar month in Asia/Shanghai, the current one when none is named."""
    asked = (filed_from or filed_until or clock.now()).astimezone(clock.SHANGHAI)
    if filed_from is None and filed_until is not None:
        asked -= timedelta(microseconds=1)
    since = asked.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    until = (since + timedelta(days=32)).replace(day=1)
    for name, given, bound in (("filed_from", filed_from, since), ("filed_until", filed_until, until)):
        if given not in (None, bound):
            raise _not_public(
                name, "the public may ask for one calendar month in Asia/Shanghai", "公众视图按自然月统计"
            )
    return since, until


async def _suppressed(session: AsyncSession, group_by: GroupBy, cells: dict[str, _Cell]) -> set[str]:
    """The keys to suppress. Each district is a table of its own; categories are of all."""
    parents = {} if group_by == "category" else await _parents(session)
    tables: dict[str, dict[Path, People]] = defaultdict(dict)
    for key, cell in cells.items():
        path: Path = (key,)
        while path[0] in parents:
            path = (parents[path[0]], *path)
        district, below = (path[0], path[1:]) if len(path) > 1 else ("", path)
        tables[district][below] = cell.people
    return {path[-1] for table in tables.values() for path in hidden(table)}


async def _parents(session: AsyncSession) -> dict[str, str]:
    """The code of the region above, of every street and community."""
    above = aliased(Region)
    rows = await session.execute(
        select(Region.code, above.code.label("above"))
        .join(above, above.id == Region.parent_id)
        .where(Region.level.in_([RegionLevel.STREET, RegionLevel.COMMUNITY]))
    )
    return {row.code: row.above for row in rows}


async def _codes_below(session: AsyncSession, region_id: UUID) -> set[str]:
    codes = await session.scalars(
        select(Region.code)
        .join(RegionAncestor, RegionAncestor.region_id == Region.id)
        .where(RegionAncestor.ancestor_id == region_id)
    )
    return set(codes)


def _not_public(name: str, message_en: str, message_zh: str) -> InvalidInput:
    return InvalidInput.of(("query", name), "not_public", message_en, message_zh)


def _period(
    filed_from: datetime | None, filed_until: datetime | None, region_id: UUID | None
) -> list[ColumnElement[bool]]:
    chosen: list[ColumnElement[bool]] = []
    if filed_from:
        chosen.append(Hazard.created_at >= filed_from)
    if filed_until:
        chosen.append(Hazard.created_at < filed_until)
    if region_id:
        below = select(RegionAncestor.region_id).where(RegionAncestor.ancestor_id == region_id)
        chosen.append(Hazard.region_id.in_(below))
    return chosen


async def _cells(
    session: AsyncSession, group_by: GroupBy, chosen: Iterable[ColumnElement[bool]]
) -> dict[str, _Cell]:
    columns = (
        _person().label("reporter_id"),
        Hazard.status,
        Hazard.outcome,
        _was_overdue().label("was_overdue"),
        Hazard.disputes,
        Hazard.created_at,
        Hazard.resolved_at,
        Hazard.rating,
    )
    if group_by == "category":
        query = select(Hazard.category.label("key"), *columns)
    else:
        query = (
            select(Region.code.label("key"), *columns)
            .join(RegionAncestor, RegionAncestor.region_id == Hazard.region_id)
            .join(Region, Region.id == RegionAncestor.ancestor_id)
            .where(Region.level == _REGION_LEVELS[group_by])
        )
    cells: dict[str, _Cell] = defaultdict(_Cell)
    for row in await session.execute(query.where(*chosen)):
        cell = cells[row.key]
        _count(cell, row.reporter_id, row.status, row.outcome, row.resolved_at is not None)
        cell.counts["overdue"] += row.was_overdue
        cell.counts["disputed"] += row.disputes > 0
        if row.resolved_at is not None:
            cell.seconds.append((row.resolved_at - row.created_at).total_seconds())
        if row.rating is not None:
            cell.scores.append(row.rating)
    return cells


def _person() -> ColumnElement[UUID | None]:
    """Who reported it. Those of imported cases are unknown and may all be one: they make no crowd to hide in."""
    imported = exists().where(CaseImport.hazard_id == Hazard.id)
    return case((imported, null()), else_=Hazard.reporter_id)


def _was_overdue() -> ColumnElement[bool]:
    """At any level, not only at the one that has to act now."""
    return exists().where(HazardDeadline.hazard_id == Hazard.id, HazardDeadline.escalated_at.is_not(None))


def _count(
    cell: _Cell, person: UUID | None, status: HazardStatus, outcome: HazardOutcome | None, resolved: bool
) -> None:
    cell.people.add(person)
    cell.counts["filed"] += 1
    cell.counts["open"] += status in OPEN_STATUSES
    cell.counts["resolved"] += resolved
    cell.counts["rejected"] += status is HazardStatus.REJECTED
    cell.counts["merged"] += status is HazardStatus.MERGED
    if status is HazardStatus.CLOSED:
        cell.counts["closed_fixed" if outcome is HazardOutcome.FIXED else "closed_unfixed"] += 1


def _nothing(key: str, named: tuple[UUID | None, str] | None) -> HazardStatisticsRow:
    """A suppressed cell."""
    region_id, name = named or (None, None)
    known = {"key": key, "name": name, "region_id": region_id, "suppressed": True}
    return HazardStatisticsRow.model_validate(dict.fromkeys(HazardStatisticsRow.model_fields) | known)


def _row(
    key: str, named: tuple[UUID | None, str] | None, cell: _Cell, raters: int = 1
) -> HazardStatisticsRow:
    """A cell; its satisfaction only when so many have rated."""
    region_id, name = named or (None, None)
    counts = cell.counts
    return HazardStatisticsRow(
        key=key,
        name=name,
        region_id=region_id,
        suppressed=False,
        filed=counts["filed"],
        open=counts["open"],
        resolved=counts["resolved"],
        closed_fixed=counts["closed_fixed"],
        closed_unfixed=counts["closed_unfixed"],
        rejected=counts["rejected"],
        merged=counts["merged"],
        overdue=counts["overdue"],
        disputed=counts["disputed"],
        median_seconds_to_resolve=round(median(cell.seconds)) if cell.seconds else None,
        satisfaction=_mean(cell.scores, at_least=raters),
        ratings=len(cell.scores),
    )


def _mean(scores: Sequence[int], at_least: int) -> float | None:
    """The mean to two decimals; nothing when so few rated that it would be the opinion of somebody."""
    return round(sum(scores) / len(scores), 2) if len(scores) >= at_least else None


async def _names(session: AsyncSession, group_by: GroupBy) -> dict[str, tuple[UUID | None, str]]:
    if group_by == "category":
        every = await session.execute(select(HazardCategory.code, HazardCategory.name))
        return {row.code: (None, row.name) for row in every}
    rows = await session.execute(
        select(Region.code, Region.id, Region.name).where(Region.level == _REGION_LEVELS[group_by])
    )
    return {row.code: (row.id, row.name) for row in rows}


async def _levels(session: AsyncSession, chosen: Iterable[ColumnElement[bool]]) -> list[LevelStatisticsRow]:
    rows = await session.execute(
        select(
            HazardDeadline.level,
            HazardDeadline.started_at,
            HazardDeadline.ended_at,
            HazardDeadline.warned_at,
            HazardDeadline.escalated_at,
        )
        .join(Hazard, Hazard.id == HazardDeadline.hazard_id)
        .where(*chosen)
    )
    spells: dict[str, list[tuple[float | None, bool, bool]]] = defaultdict(list)
    for row in rows:
        seconds = (row.ended_at - row.started_at).total_seconds() if row.ended_at else None
        spells[row.level].append((seconds, row.warned_at is not None, row.escalated_at is not None))
    return [_level_row(level, each) for level, each in sorted(spells.items())]


def _level_row(level: str, spells: list[tuple[float | None, bool, bool]]) -> LevelStatisticsRow:
    finished = [seconds for seconds, _, _ in spells if seconds is not None]
    return LevelStatisticsRow(
        level=level,
        started=len(spells),
        ended=len(finished),
        warned=sum(warned for _, warned, _ in spells),
        overdue=sum(late for _, _, late in spells),
        median_seconds=round(median(finished)) if finished else None,
    )
