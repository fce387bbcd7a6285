"""A day of which the district sent no numbers is told once, on the morning after, and never before it was owed."""

from collections.abc import AsyncIterator, Callable
from datetime import UTC, date, datetime, time, timedelta
from uuid import UUID

import httpx
import pytest
from sqlalchemy import delete, select

from app import clock
from app.cli import sync as cli
from app.clock import SHANGHAI
from app.db import Database
from app.models.events import Event
from app.models.notifications import Notification
from app.models.staff import Role
from app.models.sync import WatermarkGap, WatermarkReport
from app.sandbox.credentials import DEV_WEBHOOK_SECRET
from app.services import watermark_gaps
from app.settings import settings
from app.tasks import KINDS, SCHEDULES
from tests.contract.asking import signature
from tests.factories import Person, Places, make_staff
from tests.worker.chronicle import place_all
from tests.worker.workshop import tasks_of, until, working

MONDAY = date(2031, 3, 3)


@pytest.fixture
async def admin(places: Places) -> Person:
    return await make_staff(Role.DISTRICT_ADMIN, places.district)


@pytest.fixture(autouse=True)
async def _nothing_came(db: Database) -> AsyncIterator[None]:
    await _forget(db)
    yield
    await _forget(db)
    # Nobody of the next test is to hear of it.
    await place_all()


async def _forget(db: Database) -> None:
    async with db.transaction() as session:
        await session.execute(delete(WatermarkReport))
        await session.execute(delete(WatermarkGap))


@pytest.fixture
def at(advance: Callable[[float], None]) -> Callable[[date, int], None]:
    """Make it so many hours of a day in Shanghai."""

    def move(day: date, hour: int) -> None:
        wanted = datetime.combine(day, time(hour), SHANGHAI).astimezone(UTC)
        advance((wanted - clock.now()).total_seconds())

    return move


async def _send(client: httpx.AsyncClient, day: date) -> None:
    raw = httpx.Request("POST", "http://x", json={"day": str(day), "communities": []}).content
    headers = {**signature(raw), "content-type": "application/json"}
    answer = await client.post("/v1/sync/district/watermarks", content=raw, headers=headers)
    assert answer.status_code == 200, answer.text


async def _report(db: Database) -> int:
    async with db.transaction() as session:
        return await watermark_gaps.report(session)


async def _told(db: Database, admin: Person) -> list[str]:
    """The days that an administrator has notices of."""
    await place_all()
    async with db.reading() as session:
        payloads = await session.scalars(
            select(Event.payload)
            .join(Notification, Notification.event_id == Event.id)
            .where(
                Notification.recipient_id == UUID(str(admin.id)), Notification.type == "sync.numbers_missing"
            )
            .order_by(Event.no)
        )
        return [str(payload["day"]) for payload in payloads]


async def test_each_missing_day_is_told_once_on_the_morning_after(
    client: httpx.AsyncClient, db: Database, admin: Person, at: Callable[[date, int], None]
) -> None:
    tuesday, wednesday, thursday = (MONDAY + timedelta(days=days) for days in (1, 2, 3))
    at(tuesday, 8)
    await _send(client, MONDAY)
    at(wednesday, 8)
    assert await _report(db) == 0
    at(wednesday, 9)
    assert [await _report(db), await _report(db)] == [1, 0]
    at(thursday, 8)
    assert await _report(db) == 0
    at(thursday, 10)
    assert [await _report(db), await _report(db)] == [1, 0]
    assert await _told(db, admin) == [str(tuesday), str(wednesday)]


async def test_what_came_in_time_or_before_the_first_day_is_no_gap(
    client: httpx.AsyncClient, db: Database, at: Callable[[date, int], None]
) -> None:
    at(MONDAY, 12)
    assert await _report(db) == 0
    for days in range(3):
        at(MONDAY + timedelta(days=days + 1), 3)
        await _send(client, MONDAY + timedelta(days=days))
    at(MONDAY + timedelta(days=3), 23)
    assert await _report(db) == 0


async def test_a_secret_is_enough_to_owe_us_numbers(
    db: Database, at: Callable[[date, int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "district_webhook_secret", DEV_WEBHOOK_SECRET)
    at(MONDAY, 9)
    assert await _report(db) == 1
    at(MONDAY + timedelta(days=1), 9)
    assert await _report(db) == 1


async def test_who_is_no_longer_connected_owes_nothing(
    client: httpx.AsyncClient, db: Database, at: Callable[[date, int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    at(MONDAY, 12)
    await _send(client, MONDAY - timedelta(days=1))
    at(MONDAY + timedelta(days=3), 12)
    monkeypatch.setattr(settings, "env", "prod")
    assert await _report(db) == 0


async def test_after_a_long_silence_the_last_week_is_told(
    client: httpx.AsyncClient, db: Database, admin: Person, at: Callable[[date, int], None]
) -> None:
    at(MONDAY, 12)
    await _send(client, MONDAY - timedelta(days=1))
    at(MONDAY + timedelta(days=30), 12)
    assert await _report(db) == 7
    assert await _told(db, admin) == [str(MONDAY + timedelta(days=days)) for days in range(23, 30)]


async def test_the_status_names_what_is_missing_until_it_comes(
    client: httpx.AsyncClient,
    db: Database,
    at: Callable[[date, int], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    at(MONDAY, 12)
    await _send(client, MONDAY - timedelta(days=1))
    at(MONDAY + timedelta(days=1), 12)
    await _report(db)
    _, _, numbers, _ = await cli._status()
    cli._show_numbers(numbers)
    said = "".join(capsys.readouterr())
    assert f"Its last numbers are of {MONDAY - timedelta(days=1)}, received at 2031-03-03 04:00:0" in said
    assert f"The district has sent no numbers of {MONDAY}" in said
    await _send(client, MONDAY)
    _, _, numbers, _ = await cli._status()
    assert (numbers.day, numbers.missing) == (MONDAY, [])


async def test_the_worker_looks_by_itself(client: httpx.AsyncClient, at: Callable[[date, int], None]) -> None:
    at(MONDAY, 12)
    await _send(client, MONDAY - timedelta(days=1))
    at(MONDAY + timedelta(days=1), 12)
    (schedule,) = [each for each in SCHEDULES if each.name == "sync.numbers"]

    async def is_done() -> bool:
        return any(task.finished_at is not None for task in await tasks_of(schedule.name))

    async with working({schedule.name: KINDS[schedule.name]}, [schedule]):
        await until(is_done)
