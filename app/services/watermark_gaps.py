"""Days of which the district sent no numbers: administrators are told of each, once, on the morning after it."""

from collections.abc import Sequence
from datetime import date, timedelta
from typing import Final

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock, events
from app.auth import SYSTEM
from app.clock import SHANGHAI
from app.db import insert
from app.models.sync import WatermarkGap, WatermarkReport
from app.settings import settings

_WATCHED_DAYS: Final = 7


async def missing(session: AsyncSession) -> list[date]:
    """Of the last seven days whose numbers are due, those that the district owes us, oldest first."""
    last = _last_due()
    since = await _owed_since(session, last)
    if since is None:
        return []
    watched = [last - timedelta(days=ago) for ago in reversed(range(_WATCHED_DAYS))]
    sent = set(await session.scalars(select(WatermarkReport.day).where(WatermarkReport.day >= watched[0])))
    return [day for day in watched if day >= since and day not in sent]


async def is_any_untold(session: AsyncSession) -> bool:
    """Whether a day is missing that nobody was told of."""
    return bool(await _untold(session))


async def report(session: AsyncSession) -> int:
    """Tell of every day that is missing and that nobody was told of; of how many."""
    return sum([await _tell(session, day) for day in await _untold(session)])


def _last_due() -> date:
    """The last business day whose numbers should be here."""
    now = clock.now().astimezone(SHANGHAI)
    return now.date() - timedelta(days=1 if now.hour >= settings.district_numbers_hour else 2)


async def _owed_since(session: AsyncSession, last: date) -> date | None:
    """The first day that came or was missed; before that the last due one, once the operator has set a secret.

    None when nothing is owed: a district that is not connected, or no longer, could not send anything.
    """
    if not settings.district_keys:
        return None
    firsts = [await session.scalar(select(func.min(table.day))) for table in (WatermarkReport, WatermarkGap)]
    known = [day for day in firsts if day is not None]
    return min(known) if known else last if settings.district_webhook_secret else None


async def _untold(session: AsyncSession) -> Sequence[date]:
    days = await missing(session)
    told = set(await session.scalars(select(WatermarkGap.day).where(WatermarkGap.day.in_(days))))
    return [day for day in days if day not in told]


async def _tell(session: AsyncSession, day: date) -> int:
    row = insert(WatermarkGap).values(day=day, told_at=clock.now())
    added = await session.scalar(row.on_conflict_do_nothing().returning(WatermarkGap.day))
    if added is None:
        return 0
    events.record_access(session, SYSTEM, "sync.numbers_missing", payload={"day": str(day)})
    return 1
