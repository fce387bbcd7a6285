"""The count behind slow sign-ins, on whatever the clock does."""

from datetime import UTC, datetime, timedelta

import pytest

from app.models.staff import LoginThrottle

_START = datetime(2026, 1, 1, tzinfo=UTC)
_FREE, _HOUR = 5, timedelta(hours=1)


def _failed(times: int) -> LoginThrottle:
    row = LoginThrottle(key="x", failures=0, forgiven_until=_START)
    for _ in range(times):
        row.count(_START, _FREE, _HOUR)
    return row


@pytest.mark.parametrize(
    ("failures", "seconds"), [(0, 0), (5, 0), (6, 2), (7, 4), (10, 32), (14, 512), (15, 900), (500, 900)]
)
def test_delays_double_up_to_a_quarter_of_an_hour(failures: int, seconds: int) -> None:
    row = _failed(failures)
    assert row.wait(_START, _FREE) == seconds
    assert row.wait(_START + timedelta(seconds=seconds), _FREE) == 0
    if seconds:
        assert row.wait(_START + timedelta(seconds=seconds, microseconds=-1), _FREE) == 1


@pytest.mark.parametrize(("hours", "left"), [(0, 6), (0.99, 6), (1, 5), (2.5, 4), (5, 1), (100, 1)])
def test_one_failure_is_forgiven_an_hour(hours: float, left: int) -> None:
    row = _failed(5)
    row.count(_START + hours * _HOUR, _FREE, _HOUR)
    assert row.failures == left


def test_part_of_an_hour_is_not_lost() -> None:
    row = _failed(5)
    for half_hours in range(1, 9):
        row.count(_START + half_hours * _HOUR / 2, _FREE, _HOUR)
    assert row.failures == 5 + 8 - 4


@pytest.mark.parametrize("back", [timedelta(hours=1), timedelta(days=365)])
def test_a_clock_put_back_neither_adds_failures_nor_prolongs_a_delay(back: timedelta) -> None:
    row = _failed(6)
    earlier = _START - back
    assert row.wait(earlier, _FREE) == 2
    assert row.wait(earlier + timedelta(seconds=2), _FREE) == 0
    row.count(earlier + timedelta(seconds=2), _FREE, _HOUR)
    assert row.failures == 7


def test_what_was_right_is_taken_back() -> None:
    row = _failed(6)
    row.take_back(_FREE)
    assert (row.failures, row.wait(_START, _FREE)) == (5, 0)
    row = _failed(8)
    row.take_back(_FREE)
    assert (row.failures, row.wait(_START, _FREE)) == (7, 4)
    row = _failed(0)
    row.take_back(_FREE)
    assert row.failures == 0
