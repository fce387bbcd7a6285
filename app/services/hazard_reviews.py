"""The last word on what the content check hid: staff of the place publish it, or confirm that it stays hidden."""

from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app import events
from app.auth import Caller
from app.errors import InvalidInput
from app.models.base import JsonObject
from app.models.events import Audience, Event
from app.models.hazard_comments import CommentVisibility, HazardComment
from app.models.hazards import Hazard, NotFlagged
from app.models.media import Media
from app.schemas.hazard_reviews import HazardReview, ReviewDecision
from app.services import hazard_access, hazard_comments

_OPERATION = "review_hazard"


async def review(session: AsyncSession, caller: Caller, hazard_id: UUID, body: HazardReview) -> Hazard:
    """Decide on one flagged part. A later decision to publish overrules an earlier one to hide."""
    hazard = await hazard_access.lock(session, caller, hazard_id, _OPERATION)
    part, flagged = await _part(session, hazard, body.part_id)
    flagged.require_flagged()
    if body.decision is ReviewDecision.PUBLISH:
        flagged.publish()
    facts: JsonObject = {"part": part, "id": str(body.part_id), "decision": body.decision}
    event_id = events.record(
        session,
        caller,
        hazard,
        "hazard.reviewed",
        audience=Audience.STAFF,
        place=hazard_access.place_of(hazard),
        payload=facts,
    )
    await hazard_comments.attach_note(
        session, caller, hazard, body.reason, CommentVisibility.INTERNAL, event_id
    )
    return hazard


async def _part(
    session: AsyncSession, hazard: Hazard, part_id: UUID
) -> tuple[str, Hazard | HazardComment | Media]:
    if part_id == hazard.id:
        if await was_moderated(session, hazard):
            raise NotFlagged
        return "description", hazard
    comment = await session.scalar(
        select(HazardComment)
        .where(HazardComment.id == part_id, HazardComment.hazard_id == hazard.id)
        .with_for_update()
    )
    if comment is not None:
        return "comment", comment
    picture = await session.scalar(
        select(Media).where(Media.id == part_id, Media.subject_id == hazard.id).with_for_update()
    )
    if picture is not None:
        return "photo", picture
    raise InvalidInput.of(
        ("body", "part_id"), "unknown_part", "does not belong to this hazard", "不属于该隐患"
    )


async def was_moderated(session: AsyncSession, hazard: Hazard) -> bool:
    """Whether a person hid the whole hazard: that is for good."""
    hidden = select(Event.id).where(
        Event.subject_kind == Hazard.__tablename__,
        Event.subject_id == hazard.id,
        Event.type == "hazard.redacted",
        Event.payload["hidden"].as_boolean(),
    )
    return await session.scalar(hidden.limit(1)) is not None
