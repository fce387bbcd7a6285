"""How failed sign-ins slow down the next ones: per account, per address, per both, and per second factor.

A try is counted before it is looked at, so that a thousand at once are no way around, and taken back when it was right.
One source can only slow itself down. Many sources slow down an account, except for a try with a right second factor,
so that its owner is never kept out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import delete, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from app import events
from app.auth import SYSTEM
from app.db import insert
from app.errors import TooManyRequests
from app.keys import vault
from app.limits import network
from app.models.base import JsonObject
from app.models.staff import LoginThrottle

_KEPT = timedelta(days=1)


class TooManyAttempts(TooManyRequests):
    """Wrong credentials came too often; `retry_after` says when the next ones are looked at."""

    code = "too_many_attempts"
    title_en, title_zh = "Too many failed attempts, wait a little", "尝试次数过多，请稍后再试"


@dataclass(frozen=True, slots=True)
class Meter:
    """What is counted: `free` failures cost nothing, and one is forgiven in each `forgive_one_in`."""

    kind: str
    key: str
    free: int
    forgive_one_in: timedelta


def by_account(username: str) -> Meter:
    """All failures of one user name, known or not."""
    return _meter("account", username, 30, timedelta(hours=1))


def by_address(address: str) -> Meter:
    """All failures from one address; an office shares one."""
    return _meter("address", network(address), 30, timedelta(minutes=1))


def by_both(username: str, address: str) -> Meter:
    """The failures of one user name from one address."""
    return _meter("both", f"{username}|{network(address)}", 5, timedelta(hours=1))


def by_second_factor(username: str) -> Meter:
    """Wrong codes, or wrong passwords inside a session, of somebody whose first proof was right."""
    return _meter("second", username, 5, timedelta(hours=1))


async def waits(session: AsyncSession, meters: Sequence[Meter], now: datetime) -> list[int]:
    """Seconds until each of them lets the next try pass; 0 for now. Locks the meters."""
    return [row.wait(now, meter.free) for meter, row in await _lock(session, meters, now)]


async def count(session: AsyncSession, meters: Sequence[Meter], now: datetime) -> None:
    """Take the next try for a failure."""
    for meter, row in await _lock(session, meters, now):
        row.count(now, meter.free, meter.forgive_one_in)


async def take_back(session: AsyncSession, meters: Sequence[Meter], now: datetime) -> None:
    """It was none."""
    for meter, row in await _lock(session, meters, now):
        row.take_back(meter.free)


async def record_refusal(
    session: AsyncSession, meters: Sequence[Meter], now: datetime, staff_id: UUID | None
) -> None:
    """Put on record the first try that each wait turns away: what is being guessed at, not by whom."""
    refused = [meter.kind for meter, row in await _lock(session, meters, now) if row.turn_away(now)]
    if refused:
        payload: JsonObject = {"by": ",".join(refused)}
        if staff_id is not None:
            payload["staff_id"] = str(staff_id)
        events.record_access(session, SYSTEM, "session.throttled", payload=payload)


async def purge(session: AsyncSession, now: datetime) -> None:
    """Drop what has no more effect."""
    idle = or_(LoginThrottle.blocked_until.is_(None), LoginThrottle.blocked_until < now)
    await session.execute(delete(LoginThrottle).where(LoginThrottle.forgiven_until < now - _KEPT, idle))


def _meter(kind: str, what: str, free: int, forgive_one_in: timedelta) -> Meter:
    return Meter(kind, vault.blind_index("login_throttle", f"{kind}|{what}"), free, forgive_one_in)


async def _lock(
    session: AsyncSession, meters: Sequence[Meter], now: datetime
) -> list[tuple[Meter, LoginThrottle]]:
    """The rows of the meters, made if need be, locked in the order of their keys."""
    new = [{"key": key, "failures": 0, "forgiven_until": now} for key in sorted(each.key for each in meters)]
    await session.execute(insert(LoginThrottle).values(new).on_conflict_do_nothing())
    rows = await session.scalars(
        select(LoginThrottle)
        .where(LoginThrottle.key.in_([meter.key for meter in meters]))
        .order_by(LoginThrottle.key)
        .with_for_update()
    )
    by_key = {row.key: row for row in rows}
    return [(meter, by_key[meter.key]) for meter in meters]
