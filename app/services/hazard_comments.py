"""Public replies and internal notes on hazards."""

from uuid import UUID

from sqlalchemy import ColumnElement, or_, select, true, update
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock, events, outbox, pagination
from app.auth import Caller
from app.db import among
from app.errors import Forbidden, NotFound
from app.ids import new_id
from app.keys import seal, unseal
from app.models.events import Audience
from app.models.hazard_comments import CommentVisibility, HazardComment
from app.models.hazards import Hazard, PublicState
from app.models.sessions import PrincipalKind
from app.schemas.base import Page
from app.schemas.hazards import HazardCommentCreate, HazardCommentRead
from app.services import hazard_access

_LIST = "list_hazard_comments"
_AUTHORS = {
    PrincipalKind.RESIDENT: "居民",
    PrincipalKind.STAFF: "工作人员",
    PrincipalKind.API_KEY: "上级平台",
    PrincipalKind.SYSTEM: "系统",
}


async def add(
    session: AsyncSession, caller: Caller, hazard_id: UUID, body: HazardCommentCreate
) -> HazardCommentRead:
    """Say something about a hazard. Residents speak in public, and only on what is not merged away."""
    hazard = await hazard_access.lock(session, caller, hazard_id, "add_hazard_comment")
    hazard.require_open_for_comments()
    if caller.is_resident and body.visibility is CommentVisibility.INTERNAL:
        raise Forbidden
    comment = _comment(caller, hazard, body.text, body.visibility, None)
    session.add(comment)
    internal = body.visibility is CommentVisibility.INTERNAL
    event_id = events.record(
        session,
        caller,
        hazard,
        "hazard.noted" if internal else "hazard.commented",
        audience=Audience.STAFF if internal else Audience.PARTIES,
        place=hazard_access.place_of(hazard),
        payload={"comment_id": str(comment.id)},
    )
    comment.event_id = event_id
    await _review(session, caller, comment)
    return _read(comment, caller)


async def attach_note(
    session: AsyncSession,
    caller: Caller,
    hazard: Hazard,
    text: str | None,
    visibility: CommentVisibility,
    event_id: UUID,
) -> None:
    """The words that came with a step, kept beside its event, never in it."""
    if text is None:
        return
    comment = _comment(caller, hazard, text, visibility, event_id)
    session.add(comment)
    await _review(session, caller, comment)


async def page(
    session: AsyncSession, caller: Caller, hazard_id: UUID, limit: int, cursor: str | None
) -> Page[HazardCommentRead]:
    """What the caller may read, oldest first."""
    await _require_visible(session, caller, hazard_id)
    after = pagination.decode_id(_LIST, cursor)
    rows = await session.scalars(
        select(HazardComment)
        .where(
            HazardComment.hazard_id == hazard_id,
            readable_by(caller),
            HazardComment.id > after if after else true(),
        )
        .order_by(HazardComment.id)
        .limit(limit + 1)
    )
    found = list(rows)
    more = pagination.encode(_LIST, str(found[limit - 1].id)) if len(found) > limit else None
    return Page(items=[_read(row, caller) for row in found[:limit]], next_cursor=more)


def readable_by(caller: Caller) -> ColumnElement[bool]:
    """Staff read everything; residents their own words, and public ones that passed the check or come from staff."""
    if not caller.is_resident:
        return true()
    own = (HazardComment.author_kind == caller.kind) & (HazardComment.author_id == caller.id)
    checked = or_(
        HazardComment.public_state == PublicState.VISIBLE, HazardComment.author_kind == PrincipalKind.STAFF
    )
    return (HazardComment.visibility == CommentVisibility.PUBLIC) & (own | checked)


async def move(session: AsyncSession, hazard: Hazard, primary: Hazard) -> None:
    """Updates of a duplicate follow it into the other hazard."""
    await session.execute(
        update(HazardComment)
        .where(among(HazardComment, HazardComment.hazard_id == hazard.id))
        .values(hazard_id=primary.id)
        .execution_options(synchronize_session=False)
    )


def _comment(
    caller: Caller, hazard: Hazard, text: str, visibility: CommentVisibility, event_id: UUID | None
) -> HazardComment:
    comment = HazardComment(
        id=new_id(),
        created_at=clock.now(),
        hazard_id=hazard.id,
        author_kind=caller.kind,
        author_id=caller.id,
        visibility=visibility,
        public_state=PublicState.PENDING if caller.is_resident else PublicState.VISIBLE,
        event_id=event_id,
    )
    seal(comment, "text", text)
    return comment


async def _review(session: AsyncSession, caller: Caller, comment: HazardComment) -> None:
    if caller.is_resident:
        await outbox.enqueue(session, "review.text", {"comment_id": str(comment.id)})


async def _require_visible(session: AsyncSession, caller: Caller, hazard_id: UUID) -> None:
    found = await session.scalar(
        select(Hazard.id).where(Hazard.id == hazard_id, hazard_access.visible_to(caller))
    )
    if found is None:
        raise NotFound


def _read(comment: HazardComment, caller: Caller) -> HazardCommentRead:
    mine = (comment.author_kind, comment.author_id) == (caller.kind, caller.id)
    return HazardCommentRead(
        id=comment.id,
        created_at=comment.created_at,
        visibility=comment.visibility,
        author_kind=comment.author_kind,
        author=_AUTHORS[comment.author_kind],
        text=unseal(comment, "text"),
        mine=mine,
    )
