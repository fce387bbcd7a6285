"""The reference data of the district, brought into the database: what is missing is added, what is there stays."""

from dataclasses import asdict, dataclass
from uuid import UUID

from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.db import signal_after_commit
from app.ids import new_id
from app.models.base import JsonObject, JsonValue
from app.models.hazard_categories import HazardCategory, Urgency
from app.models.organisations import Organisation
from app.models.regions import Region, RegionAncestor, RegionLevel
from app.reference import (
    HazardCategoryRow,
    OrganisationRow,
    RegionRow,
    load_categories,
    load_organisations,
    load_regions,
)
from app.services import hazard_categories, places


@dataclass(frozen=True, slots=True)
class Added:
    """How many rows were missing."""

    regions: int
    organisations: int
    categories: int


async def import_reference(session: AsyncSession) -> Added:
    """Add regions, organisations and hazard categories that are not there yet. Staff may have changed the others."""
    regions = await _add_regions(session)
    organisations = await _add_organisations(session)
    categories = await _add_categories(session)
    signal_after_commit(session, places.TOPIC)
    signal_after_commit(session, hazard_categories.TOPIC)
    return Added(regions, organisations, categories)


async def _add_regions(session: AsyncSession) -> int:
    known = await _ids(session, Region)
    missing = [row for row in load_regions() if row.code not in known]
    above = await _ancestors(session)
    closure = []
    for row in missing:
        region = _region(row, known)
        session.add(region)
        known[row.code] = region.id
        above[region.id] = [region.id, *(above[region.parent_id] if region.parent_id else ())]
        closure += [{"region_id": region.id, "ancestor_id": each} for each in above[region.id]]
    await session.flush()
    if closure:
        await session.execute(insert(RegionAncestor), closure)
    return len(missing)


async def _add_organisations(session: AsyncSession) -> int:
    known, regions = await _ids(session, Organisation), await _ids(session, Region)
    missing = [row for row in load_organisations() if row.code not in known]
    session.add_all(_organisation(row, regions) for row in missing)
    await session.flush()
    return len(missing)


async def _add_categories(session: AsyncSession) -> int:
    known = set(await session.scalars(select(HazardCategory.code)))
    rows = [(row, sort) for sort, row in enumerate(load_categories()) if row.code not in known]
    session.add_all(_category(row, sort) for row, sort in rows)
    await session.flush()
    return len(rows)


async def _ids(session: AsyncSession, table: type[Region] | type[Organisation]) -> dict[str, UUID]:
    return {row.code: row.id for row in await session.execute(select(table.code, table.id))}


async def _ancestors(session: AsyncSession) -> dict[UUID, list[UUID]]:
    """The ancestors of every region there is, itself included."""
    above: dict[UUID, list[UUID]] = {}
    for row in await session.execute(select(RegionAncestor.region_id, RegionAncestor.ancestor_id)):
        above.setdefault(row.region_id, []).append(row.ancestor_id)
    return above


def _region(row: RegionRow, known: dict[str, UUID]) -> Region:
    return Region(
        id=new_id(),
        code=row.code,
        parent_id=known[row.parent_code] if row.parent_code else None,
        level=RegionLevel(row.level),
        name=row.name,
        name_en=row.name_en,
        lng=row.centre[0],
        lat=row.centre[1],
        polygon=row.polygon,
        demo=row.demo,
    )


def _organisation(row: OrganisationRow, regions: dict[str, UUID]) -> Organisation:
    return Organisation(
        code=row.code,
        name=row.name,
        name_en=row.name_en,
        kind=row.kind,
        region_id=regions[row.region_codes[0]],
        demo=row.name_en.endswith("(demo)"),
    )


def _category(row: HazardCategoryRow, sort: int) -> HazardCategory:
    return HazardCategory(
        code=row.code,
        name=row.name,
        name_en=row.name_en,
        description=row.description,
        description_en=row.description_en,
        hint=row.hint,
        hint_en=row.hint_en,
        urgency=Urgency(row.urgency),
        public=row.public,
        nearby_radius_m=row.nearby_radius_m,
        deadlines=_deadlines(row),
        exemptions=[exemption.value for exemption in row.photo_exemptions],
        keywords=list(row.keywords),
        event_class=_event_class(row),
        lead_organisation_code=row.lead_organisation,
        sort=sort,
    )


def _deadlines(row: HazardCategoryRow) -> JsonObject:
    return {
        level.value: {
            "minutes": deadline.minutes,
            "warn_minutes": deadline.warn_minutes,
            "clock": deadline.clock.value,
        }
        for level, deadline in row.deadlines.items()
    }


def _event_class(row: HazardCategoryRow) -> JsonObject | None:
    if row.event_class is None:
        return None
    facts: dict[str, JsonValue] = asdict(row.event_class)
    return facts
