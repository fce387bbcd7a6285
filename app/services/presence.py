"""Who writes must still be there at the commit: a deletion waits for what a resident writes, or comes before it.

The resident's row is held first, before hazards and pictures, which is the order of the deletion too.
"""

from collections.abc import Mapping
from uuid import UUID

from sqlalchemy import Uuid, bindparam, exists, select
from sqlalchemy.ext.asyncio import AsyncSession

from app import writes
from app.auth import Caller
from app.errors import Unauthenticated
from app.hot import Hot
from app.models.residents import Resident

_PRESENT = (
    select(Resident.id)
    .where(Resident.id == bindparam("present", type_=Uuid()), Resident.deleted_at.is_(None))
    .with_for_update(read=True)
)
_HOLD: Hot[Mapping[str, UUID]] = Hot(_PRESENT)

HELD = exists(select(_PRESENT.cte("present").c.id))
"""Holds the resident `:present` as a condition of another statement, before it looks at any row."""


async def require(session: AsyncSession, caller: Caller) -> None:
    """Hold the caller's row, when it is a resident; 401 when it was deleted a moment ago."""
    if caller.is_resident and not await writes.run(session, _HOLD, {"present": caller.id}):
        raise Unauthenticated
