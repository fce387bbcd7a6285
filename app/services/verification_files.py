"""Invariants of pictures and files: every row has its objects, every object has its row."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

from sqlalchemy import and_, exists, func, or_, select

from app import clock
from app.models.hazard_exports import ExportStatus, HazardExport
from app.models.hazards import Hazard
from app.models.media import Media
from app.services.verification_checks import Check, Probe, each

_PAGE = 200
_AT_ONCE = 8
_IN_FLIGHT = timedelta(hours=1)
"""Objects this young may belong to an upload that is not over; rows this young to an erasure that is not."""
_SWEPT_WITHIN = timedelta(hours=3)
"""The worker takes leftovers away every hour once they are an hour old."""


async def _objects(probe: Probe) -> AsyncIterator[str]:
    """Pictures in use have both renditions; erased ones have none, an hour later."""
    total = await probe.session.scalar(select(func.count()).select_from(Media)) or 0
    query = select(Media).order_by(Media.id).limit(_PAGE)
    page, done = list(await probe.session.scalars(query)), 0
    while page:
        for media, stored in zip(page, await _stored(probe, page), strict=True):
            if media.erased_at is None:
                for key in sorted({media.storage_key, media.thumbnail_key} - stored):
                    yield f"media {media.id}: {key} is not in the storage"
            elif media.erased_at < clock.now() - _IN_FLIGHT:
                for key in sorted(stored):
                    yield f"media {media.id}: erased, but {key} is still in the storage"
        done += len(page)
        probe.advance(done, total)
        page = list(await probe.session.scalars(query.where(Media.id > page[-1].id)))


async def _stored(probe: Probe, page: list[Media]) -> list[set[str]]:
    """Which of the two objects of each picture are there."""
    keys = [key for media in page for key in (media.storage_key, media.thumbnail_key)]
    there: set[str] = set()
    for start in range(0, len(keys), _AT_ONCE):
        some = keys[start : start + _AT_ONCE]
        found = await asyncio.gather(*(probe.storage.exists(key) for key in some))
        there.update(key for key, is_there in zip(some, found, strict=True) if is_there)
    return [{media.storage_key, media.thumbnail_key} & there for media in page]


async def _exports(probe: Probe) -> AsyncIterator[str]:
    query = select(HazardExport.id, HazardExport.storage_key).where(HazardExport.storage_key.is_not(None))
    for row in await probe.session.execute(query):
        if not await probe.storage.exists(row.storage_key):
            yield f"hazard_exports {row.id}: {row.storage_key} is not in the storage"


async def _orphans(probe: Probe) -> AsyncIterator[str]:
    """Left behind by uploads that failed at the worst moment: nothing shows them, nothing erases them."""
    leftovers = {path async for path, _ in probe.storage.leftovers()}
    done, batch = 0, []
    async for key, stored_at in probe.storage.keys():
        done += 1
        if stored_at < clock.now() - _IN_FLIGHT and key not in leftovers:
            batch.append(key)
        if len(batch) == _PAGE:
            probe.advance(done, 0)
            for lost in await _unknown(probe, batch):
                yield f"storage {lost}: no row refers to it"
            batch = []
    for lost in await _unknown(probe, batch):
        yield f"storage {lost}: no row refers to it"


async def _leftovers(probe: Probe) -> AsyncIterator[str]:
    """Half written by a process that was killed."""
    async for path, written_at in probe.storage.leftovers():
        if written_at < clock.now() - _SWEPT_WITHIN:
            yield f"storage {path}: left half way at {written_at:%Y-%m-%dT%H:%M:%SZ}"


async def _unknown(probe: Probe, keys: list[str]) -> list[str]:
    known: set[str] = set()
    for column in (Media.storage_key, Media.thumbnail_key, HazardExport.storage_key):
        known.update(
            key for key in await probe.session.scalars(select(column).where(column.in_(keys))) if key
        )
    return [key for key in keys if key not in known]


_USES = each(
    Media,
    {
        "used, but not for what": Media.subject_kind.is_(None) != Media.subject_id.is_(None),
        "used for something that does not exist": and_(
            Media.subject_id.is_not(None),
            or_(Media.subject_kind != Hazard.__tablename__, ~exists().where(Hazard.id == Media.subject_id)),
        ),
        "in another community than what it is used for": exists().where(
            Hazard.id == Media.subject_id, Hazard.community_id.is_distinct_from(Media.community_id)
        ),
    },
)
_FINISHED = each(
    HazardExport,
    {
        "done, but it neither has a file nor had one": and_(
            HazardExport.status == ExportStatus.DONE, HazardExport.expires_at.is_(None)
        ),
        "not done, but it has a file": and_(
            HazardExport.status != ExportStatus.DONE, HazardExport.storage_key.is_not(None)
        ),
    },
)

CHECKS = (
    Check("media.objects", "every picture is in the storage, every erased one is gone", _objects),
    Check("media.uses", "every picture in use belongs to something that exists, once", _USES),
    Check("exports.objects", "every finished export is in the storage", _exports),
    Check("exports.columns", "an export has a file when it is done", _FINISHED),
    Check("storage.orphans", "every object in the storage belongs to a row", _orphans),
    Check("storage.leftovers", "nothing that was left half way stays for three hours", _leftovers),
)
