"""Who reacts to which events: all of it, in one place.

A handler runs while events are placed. It only leaves rows behind: notifications, tasks, signals.
"""

from uuid import UUID

from sqlalchemy import select

from app.leases import GiveUp, Lease
from app.models.events import Event
from app.sequencer import Handler, Handlers, name_of
from app.services import notices, notifications, stream, webhook_queues

HANDLERS: Handlers = {
    "": (stream.announce, webhook_queues.fan_out),
    "hazard.": (notifications.tell,),
    "sync.": (notices.tell,),
    "webhook_endpoint.": (notices.tell,),
}

_BY_NAME: dict[str, Handler] = {name_of(handler): handler for wired in HANDLERS.values() for handler in wired}


async def handle_again(lease: Lease) -> None:
    """What a handler failed on, once more; a handler leaves nothing twice."""
    handler = _BY_NAME.get(str(lease.payload["handler"]))
    if handler is None:
        raise GiveUp("the handler is no longer wired")
    async with lease.last_transaction() as session:
        event = await session.scalar(select(Event).where(Event.id == UUID(str(lease.payload["event_id"]))))
        if event is not None:
            await handler(session, [event])
