"""`jincai verify`: what must be true of everything stored, looked up check by check beside a running service."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.clients.storage import Storage
from app.db import database
from app.services import (
    verification_events,
    verification_files,
    verification_hazards,
    verification_outside,
    verification_people,
    verification_regions,
)
from app.services.verification_checks import Advance, Check, Probe
from app.settings import settings

CHECKS: tuple[Check, ...] = (
    *verification_events.CHECKS,
    *verification_regions.CHECKS,
    *verification_hazards.CHECKS,
    *verification_people.CHECKS,
    *verification_files.CHECKS,
    *verification_outside.CHECKS,
)
_SECOND_LOOK_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Result:
    """What one check found: a line for each breach."""

    check: Check
    breaches: list[str]


async def run(
    checks: Sequence[Check], storage: Storage, progress: Callable[[Check], Advance]
) -> AsyncIterator[Result]:
    """Look at everything. A breach counts when a second look finds it too: the first may have seen a change half way."""
    for check in checks:
        advance = progress(check)
        found = await look(check, storage, advance)
        if found:
            await asyncio.sleep(_SECOND_LOOK_SECONDS)
            again = set(await look(check, storage, advance))
            found = [breach for breach in found if breach in again]
        yield Result(check, found)


async def look(check: Check, storage: Storage, advance: Advance) -> list[str]:
    """All breaches that one look finds."""
    async with database.reading() as session, _patience(session):
        return [breach async for breach in check.find(Probe(session, storage, advance))]


@asynccontextmanager
async def _patience(session: AsyncSession) -> AsyncIterator[None]:
    """Requests are cut off after a while; a look at a whole table is not."""
    if settings.is_sqlite:
        yield
        return
    await session.execute(text("SET statement_timeout = 0"))
    try:
        yield
    finally:
        await session.execute(text("RESET statement_timeout"))
