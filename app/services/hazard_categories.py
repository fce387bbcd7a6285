"""The maintained table of hazard categories, held in memory for a while: a change is heard of, or found out."""

from dataclasses import dataclass, field

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock, events
from app.auth import Caller
from app.db import signal_after_commit
from app.errors import InvalidInput, NotFound, VersionConflict
from app.models.base import JsonObject
from app.models.hazard_categories import HazardCategory, Urgency
from app.models.organisations import Organisation
from app.schemas.hazard_categories import HazardCategoryUpdate
from app.signals import signals

TOPIC = "hazard_categories"
_KEPT_SECONDS = 30.0


class UnknownCategory(InvalidInput):
    """Not in the table, or no longer in use."""

    code = "unknown_category"
    title_en, title_zh = "This category does not exist", "隐患类别不存在"


@dataclass(frozen=True, slots=True)
class Category:
    """One row of the table as it is held in memory."""

    code: str
    name: str
    name_en: str
    description: str
    description_en: str
    hint: str
    hint_en: str
    urgency: Urgency
    public: bool
    nearby_radius_m: int
    deadlines: JsonObject
    exemptions: list[str]
    keywords: list[str]
    event_class: JsonObject | None
    lead_organisation_code: str | None
    active: bool
    sort: int
    version: int


@dataclass(slots=True)
class _Held:
    categories: dict[str, Category] = field(default_factory=dict)
    until: float = 0.0
    changes: int = 0


_held = _Held()


def _forget(heard: str) -> None:
    if heard == TOPIC:
        _held.until = 0.0
        _held.changes += 1


signals.listen(_forget)


async def every(session: AsyncSession) -> list[Category]:
    """All categories in use, in the order in which they are shown."""
    rows = (await _all(session)).values()
    return sorted((row for row in rows if row.active), key=lambda row: (row.sort, row.code))


async def find(session: AsyncSession, code: str) -> Category:
    """One category, also one that is no longer in use."""
    found = (await _all(session)).get(code)
    if found is None:
        raise NotFound
    return found


async def usable(session: AsyncSession, code: str, loc: tuple[str, ...]) -> Category:
    """A category that somebody wants to file under; 422 at `loc` when there is none."""
    found = (await _all(session)).get(code)
    if found is None or not found.active:
        raise UnknownCategory.of(loc, UnknownCategory.code, "is not a known category", "不是有效的隐患类别")
    return found


async def require(session: AsyncSession, code: str, loc: tuple[str, ...]) -> None:
    """422 at `loc` unless it is a category, be it no longer in use."""
    if code not in await _all(session):
        raise UnknownCategory.of(loc, UnknownCategory.code, "is not a known category", "不是有效的隐患类别")


async def private_codes(session: AsyncSession) -> list[str]:
    """Categories that never appear on the public map."""
    return [row.code for row in (await _all(session)).values() if not row.public]


async def update(
    session: AsyncSession, caller: Caller, code: str, body: HazardCategoryUpdate, version: int | None
) -> HazardCategory:
    """Change a category; hazards that run keep the due time they have."""
    row = await session.scalar(select(HazardCategory).where(HazardCategory.code == code).with_for_update())
    if row is None:
        raise NotFound
    if version is not None and version != row.version:
        raise VersionConflict
    await _require_organisation(session, body.lead_organisation_code)
    row.revise(
        urgency=body.urgency,
        public=body.public,
        nearby_radius_m=body.nearby_radius_m,
        deadlines={level: deadline.model_dump(mode="json") for level, deadline in body.deadlines.items()},
        lead_organisation_code=body.lead_organisation_code,
        active=body.active,
    )
    facts: JsonObject = {"category": code, "version": row.version}
    events.record_access(session, caller, "hazard_category.updated", payload=facts)
    signal_after_commit(session, TOPIC)
    return row


async def _require_organisation(session: AsyncSession, code: str | None) -> None:
    if code is None:
        return
    if await session.scalar(select(Organisation.id).where(Organisation.code == code)) is None:
        raise InvalidInput.of(
            ("body", "lead_organisation_code"), "unknown_organisation", "is not an organisation", "部门不存在"
        )


async def _all(session: AsyncSession) -> dict[str, Category]:
    if clock.monotonic() < _held.until:
        return _held.categories
    names, changes = Category.__slots__, _held.changes
    rows = await session.execute(select(*(getattr(HazardCategory, name) for name in names)))
    _held.categories = {row.code: Category(**row._mapping) for row in rows}
    # What was read before a change was heard must not be kept after it.
    if changes == _held.changes:
        _held.until = clock.monotonic() + _KEPT_SECONDS
    return _held.categories
