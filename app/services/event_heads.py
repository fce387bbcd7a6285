"""The signed head of the chain of events, to be kept elsewhere: who rewrites history cannot rewrite that copy."""

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.keys import keyring
from app.models.events import Event, EventHead
from app.sequencer import GENESIS

_LABEL = "event-head"


async def current(session: AsyncSession) -> str:
    """`position:digest:mac` of the last event that was placed."""
    head = await session.scalar(select(EventHead))
    position, digest = (head.position, head.digest) if head else (0, GENESIS)
    payload = f"{position}:{digest}"
    return f"{payload}:{keyring.mac(_LABEL, payload.encode())}"


async def missing(session: AsyncSession, kept: str) -> str | None:
    """What is wrong when history does not contain a head that was kept. The chain itself is another check."""
    payload, _, mac = kept.strip().rpartition(":")
    position, _, digest = payload.partition(":")
    if not keyring.mac_ok(_LABEL, payload.encode(), mac) or not position.isdecimal():
        return "this head was not signed with a key of this deployment"
    if position == "0":
        return None
    found = await session.scalar(select(Event.digest).where(Event.position == int(position)))
    if found is None:
        return f"position {position}: the event is missing"
    return None if found == digest else f"position {position}: history was rewritten since this head was kept"
