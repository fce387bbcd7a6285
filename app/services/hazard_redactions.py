"""Moderation that really erases: the words, the picture files, and every kept answer and export that repeats them."""

from collections.abc import KeysView
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock, events, idempotency
from app.auth import Caller
from app.errors import FieldError, InvalidInput
from app.keys import seal
from app.models.base import JsonObject
from app.models.events import Audience
from app.models.hazard_comments import HazardComment
from app.models.hazards import Hazard
from app.models.media import Media
from app.schemas.hazard_redactions import HazardRedact
from app.services import hazard_access, hazard_exports, hazard_reviews, media, webhook_payloads

_WORDS = ("description", "address", "rating_comment")


class NothingToRedact(InvalidInput):
    """Something named does not belong to this hazard, is erased already, or nothing was named."""

    code = "nothing_to_redact"
    title_en, title_zh = "There is nothing to erase here", "没有可清除的内容"


async def redact(session: AsyncSession, caller: Caller, hazard_id: UUID, body: HazardRedact) -> Hazard:
    """Erase words and pictures for good; the event keeps what kind of thing went, never what it said."""
    hazard = await hazard_access.lock(session, caller, hazard_id, "redact_hazard")
    words = [name for name in _WORDS if getattr(body, name) and getattr(hazard, f"{name}_sealed") is not None]
    hides = body.hide and not await hazard_reviews.was_moderated(session, hazard)
    if not (words or body.comment_ids or body.media_ids or hides):
        raise NothingToRedact
    for name in words:
        seal(hazard, name, None)
    await idempotency.redact(session, hazard.id, words)
    await webhook_payloads.forget(session, hazard.id)
    if "description" in words:
        await hazard_exports.withdraw(session, hazard.created_at)
    await _erase_comments(session, hazard, body.comment_ids)
    await _erase_media(session, hazard, body.media_ids)
    if body.hide:
        hazard.hide()
    facts: JsonObject = {
        "fields": ",".join(words),
        "comments": len(body.comment_ids),
        "pictures": len(body.media_ids),
        "hidden": body.hide,
        "reason": body.reason,
    }
    place = hazard_access.place_of(hazard)
    events.record(
        session, caller, hazard, "hazard.redacted", audience=Audience.PARTIES, place=place, payload=facts
    )
    return hazard


async def _erase_comments(session: AsyncSession, hazard: Hazard, comment_ids: list[UUID]) -> None:
    rows = await session.scalars(
        select(HazardComment)
        .where(
            HazardComment.id.in_(comment_ids),
            HazardComment.hazard_id == hazard.id,
            HazardComment.hidden_at.is_(None),
        )
        .order_by(HazardComment.id)
        .with_for_update()
    )
    found = {row.id: row for row in rows}
    _require_all("comment_ids", comment_ids, found.keys())
    for comment in found.values():
        comment.hide(clock.now())
        await idempotency.redact(session, comment.id, ["text"])


async def _erase_media(session: AsyncSession, hazard: Hazard, media_ids: list[UUID]) -> None:
    rows = await session.scalars(
        select(Media)
        .where(Media.id.in_(media_ids), Media.subject_id == hazard.id, Media.erased_at.is_(None))
        .order_by(Media.id)
        .with_for_update()
    )
    found = {row.id: row for row in rows}
    _require_all("media_ids", media_ids, found.keys())
    for picture in found.values():
        await media.erase(session, picture)


def _require_all(name: str, wanted: list[UUID], found: KeysView[UUID]) -> None:
    errors = [
        FieldError(
            ("body", name, index),
            NothingToRedact.code,
            "does not belong to this hazard, or is erased",
            "不属于该隐患或已清除",
        )
        for index, each in enumerate(wanted)
        if each not in found
    ]
    if errors:
        raise NothingToRedact(fields=errors)
