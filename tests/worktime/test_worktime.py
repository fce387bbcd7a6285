"""Working time: sessions, days off, and the two directions agreeing with each other."""

import logging
from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app import worktime
from app.clock import SHANGHAI
from app.worktime import ClockKind, due_at, is_workday, working_minutes_between

CLOCK, WORKING = ClockKind.CLOCK, ClockKind.WORKING

moments = st.datetimes(
    min_value=datetime.fromisoformat("2024-01-01"),
    max_value=datetime.fromisoformat("2027-12-01"),
    timezones=st.just(SHANGHAI),
)
minutes = st.integers(min_value=0, max_value=9000)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=SHANGHAI)


@pytest.mark.parametrize(
    ("start", "wanted", "due"),
    [
        ("2026-11-23 09:00", 60, "2026-11-23 10:00"),
        ("2026-11-23 11:30", 30, "2026-11-23 12:00"),
        ("2026-11-23 11:30", 31, "2026-11-23 13:01"),
        ("2026-11-23 12:20", 10, "2026-11-23 13:10"),
        ("2026-11-23 16:30", 30, "2026-11-23 17:00"),
        ("2026-11-23 16:30", 31, "2026-11-24 09:01"),
        ("2026-11-23 03:00", 420, "2026-11-23 17:00"),
        ("2026-11-23 09:00", 840, "2026-11-24 17:00"),
        ("2026-11-27 16:00", 120, "2026-11-30 10:00"),
        ("2026-11-28 10:00", 60, "2026-11-30 10:00"),
        ("2026-09-30 16:00", 61, "2026-10-08 09:01"),
        ("2026-10-09 16:30", 60, "2026-10-10 09:30"),
    ],
    ids=[
        "in a session",
        "to the end of the morning",
        "over lunch",
        "from lunch",
        "to the end of the day",
        "over night",
        "from the night",
        "two whole days",
        "over a weekend",
        "from a Saturday",
        "over the National Day holiday",
        "into a make-up Saturday",
    ],
)
def test_due_in_working_time(start: str, wanted: int, due: str) -> None:
    assert due_at(at(start), wanted, WORKING) == at(due)


def test_the_clock_does_not_rest() -> None:
    assert due_at(at("2026-10-01 23:50"), 30, CLOCK) == at("2026-10-02 00:20")


def test_no_time_means_now_even_at_night() -> None:
    assert due_at(at("2026-10-01 23:50"), 0, WORKING) == at("2026-10-01 23:50")


def test_answers_are_utc_whatever_the_zone_of_the_question() -> None:
    start = datetime(2026, 11, 23, 16, 0, tzinfo=timezone(timedelta(hours=15)))
    for kind in ClockKind:
        due = due_at(start, 30, kind)
        assert due == at("2026-11-23 09:30")
        assert due.tzinfo is UTC


def test_seconds_are_kept() -> None:
    start = at("2026-11-23 16:59") + timedelta(seconds=30, microseconds=7)
    assert due_at(start, 1, WORKING) == at("2026-11-24 09:00") + timedelta(seconds=30, microseconds=7)


@given(moments, minutes)
def test_the_working_minutes_until_the_due_time_are_those_given(start: datetime, wanted: int) -> None:
    assert working_minutes_between(start, due_at(start, wanted, WORKING)) == wanted


@given(moments, st.integers(min_value=1, max_value=9000))
def test_a_moment_before_the_due_time_is_not_enough(start: datetime, wanted: int) -> None:
    due = due_at(start, wanted, WORKING)
    assert working_minutes_between(start, due - timedelta(microseconds=1)) == wanted - 1


@given(moments, minutes, minutes)
def test_more_time_is_never_due_earlier(start: datetime, one: int, other: int) -> None:
    dues = [due_at(start, wanted, WORKING) for wanted in sorted((one, other))]
    assert start <= dues[0] <= dues[1]


@given(moments, moments, minutes, st.sampled_from(ClockKind))
def test_a_later_start_is_never_due_earlier(
    one: datetime, other: datetime, wanted: int, kind: ClockKind
) -> None:
    first, second = sorted((one, other))
    assert due_at(first, wanted, kind) <= due_at(second, wanted, kind)


@given(moments, minutes, minutes)
def test_two_stretches_add_up(start: datetime, one: int, other: int) -> None:
    assert due_at(due_at(start, one, WORKING), other, WORKING) == due_at(start, one + other, WORKING)


def test_nothing_is_worked_backwards_or_on_days_off() -> None:
    assert working_minutes_between(at("2026-11-24 10:00"), at("2026-11-23 10:00")) == 0
    assert working_minutes_between(at("2026-10-01 00:00"), at("2026-10-07 23:59")) == 0
    assert working_minutes_between(at("2026-11-23 00:00"), at("2026-11-24 00:00")) == 420


@pytest.mark.parametrize(
    ("day", "works"),
    [
        (date(2026, 10, 1), False),
        (date(2026, 10, 10), True),
        (date(2026, 11, 23), True),
        (date(2026, 11, 22), False),
        (date(2026, 2, 17), False),
    ],
)
def test_a_year_of_the_public_calendar(day: date, works: bool) -> None:
    assert is_workday(day) is works


@pytest.fixture
def _forgetful() -> None:
    worktime._warn_unannounced.cache_clear()
    is_workday.cache_clear()


@pytest.mark.usefixtures("_forgetful")
@pytest.mark.parametrize(
    ("day", "works"),
    [
        (date(2027, 2, 5), False),
        (date(2027, 4, 5), False),
        (date(2027, 3, 1), True),
        (date(2027, 3, 6), False),
        (date(2031, 10, 1), True),
        (date(2031, 10, 4), False),
    ],
)
def test_a_year_without_an_announcement_counts_weekdays_except_the_days_in_the_table(
    day: date, works: bool
) -> None:
    assert is_workday(day) is works


@pytest.mark.usefixtures("_forgetful")
def test_a_year_without_an_announcement_is_warned_about_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="app.worktime"):
        due_at(at("2030-03-04 09:00"), 4200, WORKING)
        due_at(at("2030-06-03 09:00"), 4200, WORKING)
    assert [record.getMessage() for record in caplog.records if "2030" in record.getMessage()] == [
        "no holiday calendar for 2030: counting Monday to Friday; see app/data/workdays.json"
    ]


@pytest.mark.parametrize("kind", ClockKind)
def test_a_time_without_a_zone_is_refused(kind: ClockKind) -> None:
    naive = datetime(2026, 11, 23, 9, 0)  # noqa: DTZ001
    with pytest.raises(ValueError, match="without a zone"):
        due_at(naive, 1, kind)
    with pytest.raises(ValueError, match="without a zone"):
        working_minutes_between(at("2026-11-23 09:00"), naive)


def test_a_deadline_before_its_start_is_refused() -> None:
    with pytest.raises(ValueError, match="before its start"):
        due_at(at("2026-11-23 09:00"), -1, WORKING)
