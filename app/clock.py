"""The one clock: aware UTC for what is stored, monotonic seconds for what is measured."""

import time
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from app.settings import settings

SHANGHAI = ZoneInfo("Asia/Shanghai")


def now() -> datetime:
    """The time in UTC with microseconds, shifted by `JINCAI_CLOCK_OFFSET_SECONDS` (development only)."""
    offset = settings.clock_offset_seconds
    return datetime.now(UTC) + timedelta(seconds=offset) if offset else datetime.now(UTC)


def timestamp() -> float:
    """The same in seconds since 1970."""
    return time.time() + settings.clock_offset_seconds


def today() -> date:
    """The business day in Asia/Shanghai."""
    return now().astimezone(SHANGHAI).date()


def monotonic() -> float:
    """Seconds that never go backwards, for timeouts and measurements."""
    return time.monotonic()
