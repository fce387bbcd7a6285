"""Live updates as server-sent events; the mini-program reads them with `enableChunked`."""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query
from fastapi.sse import EventSourceResponse, ServerSentEvent

from app.deps import CurrentCaller
from app.errors import InvalidInput
from app.operation import Operation
from app.services import stream

router = APIRouter(prefix="/v1/stream", tags=["live"], route_class=Operation)

_RECONNECT_MS = 3000
_Position = Annotated[
    str | None, Query(max_length=40, description="The same, for clients that set no header.")
]


async def _subscription(
    caller: CurrentCaller,
    authorization: Annotated[str, Header(include_in_schema=False)],
    last_event_header: Annotated[
        str | None,
        Header(
            alias="last-event-id",
            max_length=40,
            description="The last id you received; all later ones follow.",
        ),
    ] = None,
    last_event_id: _Position = None,
) -> AsyncIterator[stream.Subscription]:
    given = last_event_header or last_event_id
    if given and not (given.isascii() and given.isdecimal() and len(given) < 19):
        loc = ("header", "last-event-id") if last_event_header else ("query", "last_event_id")
        raise InvalidInput.of(loc, "invalid_event_id", "is not the id of an event", "事件编号无效")
    async with stream.subscribe(caller, authorization, int(given) if given else None) as subscription:
        yield subscription


@router.get("", response_class=EventSourceResponse)
async def stream_events(
    subscription: Annotated[stream.Subscription, Depends(_subscription)],
) -> AsyncIterator[ServerSentEvent]:
    """What happens to what you may see, from now on or behind `Last-Event-ID`, until you hang up or sign out.

    Each `data` is a `StreamEvent`, each `id` its place in the one order of all events. Comments keep the line alive.
    """
    yield ServerSentEvent(comment="open", retry=_RECONNECT_MS)
    async for position, event in stream.follow(subscription):
        yield ServerSentEvent(id=str(position), data=event)
