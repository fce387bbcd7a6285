"""The feed of events for systems that keep a copy."""

from typing import Annotated

from fastapi import APIRouter, Query

from app.deps import CurrentCaller, ReadSession
from app.operation import Operation
from app.pagination import CursorParameter, Limit
from app.schemas.sync import Feed
from app.schemas.webhooks import EventType
from app.services import feed

router = APIRouter(prefix="/v1/events", tags=["district"], route_class=Operation)


@router.get("")
async def list_events(
    caller: CurrentCaller,
    session: ReadSession,
    types: Annotated[
        list[EventType] | None,
        Query(alias="type", max_length=20, description="`hazard.filed`, or `hazard.` for all of a kind."),
    ] = None,
    limit: Limit = 20,
    cursor: CursorParameter = None,
) -> Feed:
    """Events of your region in the order of their commit. Keep `next_cursor`: nothing will appear behind it."""
    return await feed.page(session, caller, limit, cursor, types)
