"""The public feed: hazards that everybody may know of, as Atom, without anything personal."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urlencode
from uuid import UUID

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app import atom, pagination
from app.errors import Language
from app.geo import Box, Point, gcj02_from_wgs84, wgs84_from_gcj02
from app.keys import unseal
from app.masking import scrub
from app.models.events import Audience, Event
from app.models.hazards import Hazard, HazardStatus, PublicState
from app.models.regions import RegionAncestor
from app.services import filters, hazard_access, hazard_categories
from app.services.hazard_lists import box_holds
from app.settings import settings

PATH = "/v1/hazards/feed.atom"
_LIST = "read_hazard_feed"
_ID = "tag:jincai.life,2026:hazards"
_TITLE = {"zh-CN": "锦彩生活 · 社区隐患", "en": "Jincai Life: hazards"}
_AUTHOR = {"zh-CN": "锦彩生活", "en": "Jincai Life"}
_STATUS: dict[HazardStatus, tuple[str, str]] = {
    HazardStatus.FILED: ("已上报", "filed"),
    HazardStatus.ACCEPTED: ("已受理", "accepted"),
    HazardStatus.CALLED: ("已报街道", "called up to the street"),
    HazardStatus.DISPATCHED: ("已派单", "dispatched"),
    HazardStatus.CHECKED_IN: ("部门已到现场", "department on site"),
    HazardStatus.RESOLVED: ("已处置", "resolved"),
    HazardStatus.CLOSED: ("已结案", "closed"),
    HazardStatus.REJECTED: ("不予受理", "rejected"),
    HazardStatus.MERGED: ("已合并", "merged into another report"),
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which part of the feed; `bbox` as it was given, in WGS-84."""

    category: str | None
    region_id: UUID | None
    bbox: str | None
    box: Box | None
    limit: int
    cursor: str | None


async def render(session: AsyncSession, wanted: Wanted, language: Language) -> bytes:
    """One page, the newest reports first."""
    await filters.require_category(session, wanted.category, ("query", "category"))
    await filters.require_region(session, wanted.region_id)
    query = select(Hazard).where(hazard_access.public(), *_conditions(wanted))
    last = pagination.decode_id(_LIST, wanted.cursor)
    if last is not None:
        query = query.where(Hazard.id < last)
    rows = list(await session.scalars(query.order_by(Hazard.id.desc()).limit(wanted.limit + 1)))
    shown = rows[: wanted.limit]
    more = pagination.encode(_LIST, str(shown[-1].id)) if len(rows) > wanted.limit else None
    feed = atom.Feed(
        id=_feed_id(wanted),
        title=_TITLE[language],
        author=_AUTHOR[language],
        language=language,
        link=_address(wanted, wanted.cursor),
        first=_address(wanted, None),
        next=_address(wanted, more) if more else None,
        entries=await _entries(session, shown, language),
    )
    return atom.render(feed)


async def _entries(session: AsyncSession, rows: Sequence[Hazard], language: Language) -> list[atom.Entry]:
    categories = {row.code: row for row in await hazard_categories.every(session)}
    changed = await _changed(session, [row.id for row in rows])
    return [
        _entry(row, categories.get(row.category), changed.get(row.id, row.created_at), language)
        for row in rows
    ]


def _entry(
    row: Hazard, category: hazard_categories.Category | None, updated: datetime, language: Language
) -> atom.Entry:
    chinese = language == "zh-CN"
    name = (category.name if chinese else category.name_en) if category else row.category
    status = _STATUS[row.status][0 if chinese else 1]
    words = unseal(row, "description") if row.public_state is PublicState.VISIBLE else None
    return atom.Entry(
        id=f"urn:uuid:{row.id}",
        title=f"{name} · {status}",
        category=row.category,
        category_label=name,
        published=row.created_at,
        updated=updated,
        # Checked for content before it was shown, but a number that somebody left in it is not for crawlers.
        summary=scrub(words) if words else f"{name} · {status}",
        link=f"{settings.base_url}/open311/v2/requests/{row.id}.json",
        place=wgs84_from_gcj02(Point(row.lng, row.lat)),
    )


async def _changed(session: AsyncSession, hazard_ids: Sequence[UUID]) -> dict[UUID, datetime]:
    """When the last thing happened that the public may know of."""
    rows = await session.execute(
        select(Event.subject_id, func.max(Event.occurred_at).label("at"))
        .where(
            Event.subject_kind == Hazard.__tablename__,
            Event.subject_id.in_(hazard_ids),
            Event.audience.in_([Audience.PUBLIC, Audience.PARTIES]),
        )
        .group_by(Event.subject_id)
    )
    return {row.subject_id: row.at for row in rows}


def _conditions(wanted: Wanted) -> list[ColumnElement[bool]]:
    chosen: list[ColumnElement[bool]] = []
    if wanted.category is not None:
        chosen.append(Hazard.category == wanted.category)
    if wanted.region_id is not None:
        below = select(RegionAncestor.region_id).where(RegionAncestor.ancestor_id == wanted.region_id)
        chosen.append(Hazard.region_id.in_(below))
    if wanted.box is not None:
        low = gcj02_from_wgs84(Point(wanted.box.min_lng, wanted.box.min_lat))
        high = gcj02_from_wgs84(Point(wanted.box.max_lng, wanted.box.max_lat))
        chosen.append(box_holds(Box(low.lng, low.lat, high.lng, high.lat)))
    return chosen


def _chosen(wanted: Wanted) -> dict[str, str]:
    given = {"category": wanted.category, "region_id": wanted.region_id, "bbox": wanted.bbox}
    return {name: str(value) for name, value in given.items() if value is not None}


def _feed_id(wanted: Wanted) -> str:
    """The same for all pages of one selection, whichever address serves it."""
    chosen = urlencode(_chosen(wanted))
    return f"{_ID}?{chosen}" if chosen else _ID


def _address(wanted: Wanted, cursor: str | None) -> str:
    query = _chosen(wanted) | {"limit": str(wanted.limit)} | ({"cursor": cursor} if cursor else {})
    return f"{settings.base_url}{PATH}?{urlencode(query)}"
