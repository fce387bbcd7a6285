"""Deadlines on the clock or in working time: Asia/Shanghai, Chinese public holidays and make-up workdays."""

import logging
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from functools import cache, lru_cache
from importlib.resources import files

import chinese_calendar
from pydantic import BaseModel, ConfigDict

from app.clock import SHANGHAI

# The hours of the district's offices: 420 minutes a day. Deadlines are always counted with these.
WORK_SESSIONS = ((time(9, 0), time(12, 0)), (time(13, 0), time(17, 0)))

_log = logging.getLogger(__name__)


class ClockKind(StrEnum):
    """Whether a deadline also runs at night and on days off."""

    CLOCK = "clock"
    WORKING = "working"


class _Year(BaseModel):
    """A year in `data/workdays.json`; single days there win over every other source."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    announced: bool = False
    days_off: frozenset[date] = frozenset()
    make_up_days: frozenset[date] = frozenset()


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    about: str
    years: dict[int, _Year]


_UNKNOWN_YEAR = _Year()


def due_at(start: datetime, minutes: int, kind: ClockKind) -> datetime:
    """The first moment at which that many minutes have passed since `start`, in UTC.

    Working time that is used up at the end of a session is due then, not when the next session opens.
    Raises ValueError for a naive start or negative minutes.
    """
    _refuse_naive(start)
    if minutes < 0:
        raise ValueError("a deadline cannot lie before its start")
    left = timedelta(minutes=minutes)
    if kind is ClockKind.CLOCK or not left:
        return start.astimezone(UTC) + left
    sessions = _sessions_from(start)
    while True:
        opens, closes = next(sessions)
        begin = max(opens, start)
        if closes - begin >= left:
            return (begin + left).astimezone(UTC)
        left -= closes - begin


def working_minutes_between(start: datetime, end: datetime) -> int:
    """Whole working minutes from `start` to `end`, 0 when `end` is not later; ValueError for naive times."""
    _refuse_naive(start)
    _refuse_naive(end)
    total = timedelta()
    for opens, closes in _sessions_from(start):
        if opens >= end:
            break
        total += min(closes, end) - max(opens, start)
    return total // timedelta(minutes=1)


@lru_cache(maxsize=4096)
def is_workday(day: date) -> bool:
    """Whether offices are open: `data/workdays.json`, else the installed calendar, else Monday to Friday."""
    year = _years().get(day.year, _UNKNOWN_YEAR)
    if day in year.days_off:
        return False
    if day in year.make_up_days:
        return True
    try:
        return bool(chinese_calendar.is_workday(day))
    except NotImplementedError:
        if not year.announced:
            _warn_unannounced(day.year)
        return day.weekday() < 5


def _sessions_from(start: datetime) -> Iterator[tuple[datetime, datetime]]:
    """The working sessions that end after `start`, in order, without end."""
    day = start.astimezone(SHANGHAI).date()
    while True:
        if is_workday(day):
            for opens, closes in WORK_SESSIONS:
                if (end := datetime.combine(day, closes, SHANGHAI)) > start:
                    yield datetime.combine(day, opens, SHANGHAI), end
        day += timedelta(days=1)


def _refuse_naive(moment: datetime) -> None:
    if moment.utcoffset() is None:
        raise ValueError("a time without a zone has no deadline")


@cache
def _years() -> dict[int, _Year]:
    table = files("app").joinpath("data", "workdays.json").read_bytes()
    return _Table.model_validate_json(table).years


@cache
def _warn_unannounced(year: int) -> None:
    _log.warning("no holiday calendar for %d: counting Monday to Friday; see app/data/workdays.json", year)
