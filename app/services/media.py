"""Pictures: taken in clean, used once, shown through links that expire, erased for good."""

import hashlib
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from operator import itemgetter
from typing import TypedDict, cast
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    SQLColumnExpression,
    Table,
    Text,
    Uuid,
    and_,
    bindparam,
    case,
    func,
    select,
    true,
    type_coerce,
    update,
)
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock, idempotency, outbox, writes
from app.auth import Caller
from app.clients.storage import Storage
from app.db import database
from app.errors import FieldError, InvalidInput, NotFound, TooManyRequests
from app.geo import gcj02_from_wgs84
from app.hot import Hot
from app.ids import new_id
from app.imaging import CorruptImage, Processed, Source, is_bare
from app.keys import keyring
from app.leases import Lease
from app.models.base import JsonObject
from app.models.media import Media, MediaPurpose, MediaReview
from app.outside import outside
from app.schemas.base import CoordinatesRead
from app.schemas.media import MediaRead, MediaUploaded
from app.services import presence
from app.settings import settings

CONTENT_TYPE = "image/jpeg"
LINK_SECONDS = 600
RENDITIONS = ("main", "thumbnail")
DISCARD = "media.discard"
_LABEL = "media-link"
_UNUSED_FOR = timedelta(days=1)
_HALF_WRITTEN_FOR = timedelta(hours=1)
_REGISTERED_WITHIN = timedelta(minutes=30)
SHOWN_TO_PUBLIC = Media.review == MediaReview.PASSED
"""Only what the content check let pass."""


class MediaNotUsable(InvalidInput):
    """An id that is not an unused picture of the caller for this purpose."""

    code = "media_not_usable"
    title_en, title_zh = "A picture cannot be used here", "图片不可用"


class MediaQuotaUsed(TooManyRequests):
    """So many pictures in one day are no report."""

    code = "media_quota_used"
    title_en, title_zh = "You have uploaded too many pictures today", "今日上传图片数量已达上限"


async def upload(
    caller: Caller, picture: Source, purpose: MediaPurpose, request: idempotency.Request | None
) -> MediaUploaded:
    """Develop, store and register one picture. A repeat with the same key answers as before."""
    if caller.is_resident and purpose is MediaPurpose.HAZARD_AFTER:
        raise InvalidInput.of(
            ("body", "purpose"),
            "purpose_not_yours",
            "is for staff who report a result",
            "仅供工作人员反馈处置结果",
        )
    if request is not None:
        async with database.reading() as session:
            await idempotency.replay_if_done(session, request)
    processed = await outside.imaging.process(picture)
    media = _describe(caller, purpose, processed)
    await _remember(media)
    await outside.storage.put(media.storage_key, processed.main.data)
    try:
        await outside.storage.put(media.thumbnail_key, processed.thumbnail.data)
        return await _register(caller, media, processed, request)
    except BaseException:
        await _discard(outside.storage, media)
        raise


async def take_over(picture: Media, content: bytes) -> None:
    """Store a picture that another service developed, byte by byte, and a thumbnail of it; its row comes later.

    Raises CorruptImage when it is not as bare as ours are, or of another size than its row says.
    """
    processed = await outside.imaging.process(content)
    size = (processed.main.width, processed.main.height)
    if not is_bare(content) or size != (picture.width, picture.height):
        raise CorruptImage
    await _remember(picture)
    for key, data in ((picture.storage_key, content), (picture.thumbnail_key, processed.thumbnail.data)):
        # An import that failed half way may have left it.
        await outside.storage.delete(key)
        await outside.storage.put(key, data)


async def read(session: AsyncSession, caller: Caller, media_id: UUID) -> MediaRead:
    """A picture of one's own, with fresh links."""
    media = await session.get(Media, media_id)
    if media is None or media.erased_at or (media.owner_kind, media.owner_id) != (caller.kind, caller.id):
        raise NotFound
    return describe(media)


async def download(media_id: UUID, rendition: str, expires: int, signature: str) -> bytes:
    """The bytes behind a signed link; 404 when it is edited, expired, or the picture is gone.

    No connection waits for the storage, or a slow one would stop everybody who reads.
    """
    payload = (str(media_id) + _meant(rendition, expires)).encode()
    if not keyring.mac_ok(_LABEL, payload, signature) or expires < clock.timestamp():
        raise NotFound
    async with database.reading() as session:
        media = await session.get(Media, media_id)
    if media is None or media.erased_at is not None:
        raise NotFound
    return await outside.storage.get(media.storage_key if rendition == "main" else media.thumbnail_key)


class Taken(TypedDict):
    """A picture that was just used, as far as it is shown."""

    id: UUID
    content_type: str
    bytes: int
    width: int
    height: int
    purpose: str
    review: str
    created_at: datetime
    position: int


async def attach(
    session: AsyncSession,
    caller: Caller,
    media_ids: Sequence[UUID],
    purpose: MediaPurpose,
    subject_id: UUID,
    community_id: UUID,
) -> Sequence[Taken]:
    """Use pictures, once: each must be the caller's own, of this purpose and not used before. In the order shown."""
    if not media_ids:
        return []
    for media_id in media_ids:
        # Without a key: one that another request uses would be waited for at its task, with the picture in our hands.
        await outbox.enqueue(session, "review.media", {"media_id": str(media_id)})
    values = {f"media_{n}": media_id for n, media_id in enumerate(media_ids)} | {
        "owner_kind": caller.kind,
        "owner_id": caller.id,
        "purpose": purpose,
        "subject_id": subject_id,
        "community_id": community_id,
        "present": caller.id,
    }
    taken = await writes.run_along(session, _taking(len(media_ids), caller.is_resident), values)
    if not taken:
        await presence.require(session, caller)
    usable = {row["id"] for row in taken}
    seen: set[UUID] = set()
    errors = []
    for index, media_id in enumerate(media_ids):
        if media_id not in usable or media_id in seen:
            errors.append(_not_usable(index))
        seen.add(media_id)
    if errors:
        raise MediaNotUsable(fields=errors)
    return sorted(taken, key=itemgetter("created_at", "position"))


@lru_cache
def _taking(count: int, by_resident: bool) -> Hot[Taken]:
    """Take so many pictures, as far as they may be taken. Their rows are locked in id order, the resident's before."""
    wanted = [bindparam(f"media_{n}", type_=Uuid()) for n in range(count)]
    usable = (
        select(Media.id)
        .where(
            Media.id.in_(wanted),
            Media.owner_kind == bindparam("owner_kind", type_=Media.owner_kind.type),
            Media.owner_id == bindparam("owner_id", type_=Uuid()),
            Media.purpose == bindparam("purpose", type_=Media.purpose.type),
            Media.subject_id.is_(None),
            Media.erased_at.is_(None),
            presence.HELD if by_resident else true(),
        )
        .order_by(Media.id)
        .with_for_update()
        .cte("usable")
    )
    return Hot(
        update(cast(Table, Media.__table__))
        .where(Media.id.in_(select(usable.c.id)))
        .values(
            subject_kind="hazards",
            subject_id=bindparam("subject_id", type_=Uuid()),
            community_id=bindparam("community_id", type_=Uuid()),
            position=case(*((Media.id == media_id, n) for n, media_id in enumerate(wanted)), else_=count),
        )
        .returning(
            Media.id,
            Media.content_type,
            Media.bytes,
            Media.width,
            Media.height,
            type_coerce(Media.purpose, Text).label("purpose"),
            type_coerce(Media.review, Text).label("review"),
            Media.created_at,
            Media.position,
        )
    )


def belongs_to(hazard_id: SQLColumnExpression[UUID]) -> ColumnElement[bool]:
    """The pictures of a hazard that still exist."""
    return and_(Media.subject_kind == "hazards", Media.subject_id == hazard_id, Media.erased_at.is_(None))


async def erase(session: AsyncSession, media: Media) -> None:
    """Gone from every answer now, from the disk within seconds."""
    media.erased_at = clock.now()
    keys = [media.storage_key, media.thumbnail_key]
    await outbox.enqueue(session, "media.erase", {"keys": list(keys)}, key=f"media.erase:{media.id}")


async def erase_objects(keys: Sequence[str]) -> None:
    """The worker's part: take the bytes away."""
    for key in keys:
        await outside.storage.delete(key)


async def discard_unregistered(lease: Lease) -> None:
    """Take away what an upload stored that was never registered: its process was killed, or its row refused."""
    async with lease.transaction() as session:
        if await session.get(Media, UUID(str(lease.payload["media_id"]))) is not None:
            return
    keys = lease.payload["keys"]
    if isinstance(keys, list):
        await erase_objects([str(key) for key in keys])


async def clear_leftovers() -> int:
    """Take away what killed processes left in the storage half written; how many files went."""
    return await outside.storage.clear(clock.now() - _HALF_WRITTEN_FOR)


async def erase_unused(session: AsyncSession) -> int:
    """Pictures that were uploaded and never used; how many went."""
    rows = list(
        await session.scalars(
            select(Media)
            .where(
                Media.subject_id.is_(None),
                Media.erased_at.is_(None),
                Media.created_at < clock.now() - _UNUSED_FOR,
            )
            .limit(200)
            .with_for_update(skip_locked=True)
        )
    )
    for media in rows:
        await erase(session, media)
    return len(rows)


def describe(media: Media) -> MediaRead:
    """The picture with links that work for a few minutes."""
    return MediaRead.model_validate(
        shown(media.id, media.content_type, media.bytes, media.width, media.height)
    )


def shown(media_id: UUID | str, content_type: str, size: int, width: int, height: int) -> dict[str, object]:
    """The same as plain values."""
    return {
        "id": media_id,
        "content_type": content_type,
        "bytes": size,
        "width": width,
        "height": height,
        "url": signed_url(media_id, "main"),
        "thumbnail_url": signed_url(media_id, "thumbnail"),
    }


def signed_url(media_id: UUID | str, rendition: str, seconds: int = LINK_SECONDS) -> str:
    """A link that works for `seconds`, up to half of that longer so that neighbours in time share one."""
    return links(rendition, seconds)(media_id)


def links(rendition: str, seconds: int = LINK_SECONDS) -> Callable[[UUID | str], str]:
    """`signed_url` for many pictures."""
    expires, mac = link_end(seconds), keyring.macs(_LABEL)
    base, behind = f"{settings.base_url}/v1/media/", f"/{rendition}?expires={expires}&signature="
    meant = _meant(rendition, expires)

    def link(media_id: UUID | str) -> str:
        text = str(media_id)
        return base + text + behind + mac((text + meant).encode())

    return link


def link_end(seconds: int) -> int:
    """When a link that is made now stops working, in seconds since 1970."""
    step = seconds // 2
    return (int(clock.timestamp()) // step + 3) * step


def _meant(rendition: str, expires: int) -> str:
    """What is signed besides the id."""
    return f"/{rendition}/{expires}"


def _describe(caller: Caller, purpose: MediaPurpose, processed: Processed) -> Media:
    media_id = new_id()
    main_key, thumbnail_key = storage_keys(media_id)
    return Media(
        id=media_id,
        owner_kind=caller.kind,
        owner_id=caller.id,
        purpose=purpose,
        content_type=CONTENT_TYPE,
        bytes=len(processed.main.data),
        width=processed.main.width,
        height=processed.main.height,
        sha256=hashlib.sha256(processed.main.data).hexdigest(),
        storage_key=main_key,
        thumbnail_key=thumbnail_key,
    )


def storage_keys(media_id: UUID) -> tuple[str, str]:
    """Where the picture and its thumbnail lie."""
    folder = f"media/{media_id.hex[-2:]}/{media_id}"
    return f"{folder}-main.jpg", f"{folder}-thumbnail.jpg"


async def _remember(media: Media) -> None:
    """Before anything is stored: once this process is killed, nobody else knows these objects."""
    facts: JsonObject = {"media_id": str(media.id), "keys": [media.storage_key, media.thumbnail_key]}
    async with database.transaction() as session:
        await outbox.enqueue(session, DISCARD, facts, run_at=clock.now() + _REGISTERED_WITHIN)


async def _register(
    caller: Caller, media: Media, processed: Processed, request: idempotency.Request | None
) -> MediaUploaded:
    answer = MediaUploaded(**describe(media).model_dump(), location_hint=_hint(processed))
    async with database.transaction() as session:
        if request is not None:
            await idempotency.claim(session, request)
        await presence.require(session, caller)
        await _require_quota(session, caller)
        session.add(media)
        await session.flush()
        await idempotency.keep(session, 201, answer.model_dump_json().encode(), "application/json")
    return answer


async def _require_quota(session: AsyncSession, caller: Caller) -> None:
    today = await session.scalar(
        select(func.count())
        .select_from(Media)
        .where(
            Media.owner_kind == caller.kind,
            Media.owner_id == caller.id,
            Media.created_at > clock.now() - timedelta(days=1),
        )
    )
    if (today or 0) >= settings.media_daily_limit:
        raise MediaQuotaUsed(retry_after=3600)


async def _discard(storage: Storage, media: Media) -> None:
    """At once if the storage lets us; later otherwise."""
    for key in (media.storage_key, media.thumbnail_key):
        await storage.delete(key)


def _hint(processed: Processed) -> CoordinatesRead | None:
    if processed.gps_wgs84 is None:
        return None
    point = gcj02_from_wgs84(processed.gps_wgs84)
    return CoordinatesRead(lng=round(point.lng, 6), lat=round(point.lat, 6), datum="gcj02")


def _not_usable(index: int) -> FieldError:
    return FieldError(
        ("body", "media_ids", index),
        MediaNotUsable.code,
        "is not an unused picture of yours for this purpose",
        "不是您上传的、用途相符且未使用过的图片",
    )
