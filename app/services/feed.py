"""The feed of events: what happened, in the order of commits, for systems that keep a copy."""

from sqlalchemy import or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from app import pagination
from app.auth import Caller
from app.models.events import Audience, Event
from app.schemas.sync import Feed, FeedEvent
from app.services import filters, scopes

_LIST = "list_events"
_SHOWN = (Audience.PUBLIC, Audience.PARTIES, Audience.STAFF)


async def page(
    session: AsyncSession, caller: Caller, limit: int, cursor: str | None, types: list[str] | None
) -> Feed:
    """Events behind a cursor. Positions are given after the commit, so nothing appears behind a cursor later."""
    after = 0 if cursor is None else int(pagination.decode(_LIST, cursor)[0] or 0)
    query = select(Event).where(
        Event.position > after,
        Event.audience.in_(_SHOWN),
        scopes.within(Event.region_id, caller.scope(_LIST)),
    )
    if types:
        query = query.where(or_(*(filters.is_of(Event.type, kind) for kind in types)))
    rows = list(await session.scalars(query.order_by(Event.position).limit(limit + 1)))
    shown = rows[:limit]
    last = shown[-1].position if shown else after
    return Feed(
        items=[describe(row) for row in shown],
        next_cursor=pagination.encode(_LIST, last),
        has_more=len(rows) > limit,
    )


def describe(event: Event) -> FeedEvent:
    """One event as outside systems see it."""
    return FeedEvent(
        id=event.id,
        position=event.position or 0,
        type=event.type,
        subject_kind=event.subject_kind,
        subject_id=event.subject_id,
        seq=event.seq,
        community_id=event.community_id,
        region_id=event.region_id,
        occurred_at=event.occurred_at,
        data=event.payload,
    )
