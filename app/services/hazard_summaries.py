"""Hazards as the rows of a list: one statement to select from, and one rendering for all rows of a page.

Answers are ready JSON, byte for byte what `HazardSummary` would make of the same values.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from operator import methodcaller
from typing import cast
from uuid import UUID

from sqlalchemy import ColumnElement, Select, or_, select, true

from app.auth import Caller
from app.models.hazards import LEVEL_OF, Hazard, PublicState
from app.models.media import Media, MediaPurpose
from app.services import media
from app.services.hazard_views import COLUMNS, ME, HazardRow, Json, open_description


class ListedRow(HazardRow):
    """A row of a list, with the first picture that the caller may see."""

    picture_id: UUID | None


_Listed = tuple[
    UUID,
    int,
    UUID,
    UUID,
    str,
    str,
    str | None,
    str,
    bytes | None,
    float,
    float,
    UUID | None,
    int,
    datetime | None,
    datetime | None,
    datetime,
    UUID | None,
]
"""The values of a `ListedRow`."""
_VALUES = methodcaller("values")


def _listed(seen: ColumnElement[bool]) -> Select[*tuple[object, ...]]:
    picture = (
        select(Media.id)
        .where(media.belongs_to(Hazard.id), Media.purpose == MediaPurpose.HAZARD, seen)
        .order_by(Media.created_at, Media.position)
        .limit(1)
        .correlate(Hazard)
    )
    return select(*COLUMNS, picture.scalar_subquery().label("picture_id"))


LISTED_FOR_PUBLIC = _listed(or_(media.SHOWN_TO_PUBLIC, Hazard.reporter_id == ME))
LISTED_FOR_HANDLERS = _listed(true())
"""What a list asks of each hazard: a `ListedRow`."""


def summarise(caller: Caller, rows: Sequence[ListedRow], *, public: bool = False) -> list[Json]:
    """The hazards of a list, each a `HazardSummary`; `public` ones as everybody may see them.

    How far away they are is for whoever knows from where.
    """
    link, items = media.links("thumbnail"), list[Json]()
    is_resident, me = caller.is_resident, caller.id
    handles = not (public or is_resident)
    # By their places: to look each value up by its name takes a fifth of a page's time.
    for (
        id_,
        version,
        community_id,
        region_id,
        category,
        status,
        outcome,
        public_state,
        description,
        lng,
        lat,
        reporter_id,
        supporters,
        due_at,
        overdue_at,
        created_at,
        picture_id,
    ) in cast(Iterable[_Listed], map(_VALUES, rows)):
        mine = is_resident and reporter_id == me
        inside = mine or handles
        readable = inside or public_state == PublicState.VISIBLE
        item: Json = {
            "id": str(id_),
            "community_id": str(community_id),
            "region_id": str(region_id),
            "category": category,
            "status": status,
            "level": LEVEL_OF.get(status),
            "outcome": outcome,
            "description": open_description(description, id_) if readable else None,
            "location": {"lng": lng, "lat": lat, "datum": "gcj02"},
            "supporters": supporters,
            "mine": mine,
            "thumbnail_url": link(picture_id) if picture_id else None,
            "distance_m": None,
            "due_at": due_at if inside else None,
            "overdue": overdue_at is not None,
            "created_at": created_at,
            "version": version,
        }
        items.append(item)
    return items
