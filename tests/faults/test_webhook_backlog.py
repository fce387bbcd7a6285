"""A hundred thousand webhooks that wait cost the callers of the API nothing, and taking the next ones hardly anything."""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from statistics import median, quantiles
from uuid import UUID

import httpx
import pytest
from sqlalchemy import delete, func, select

from app import edge, operation
from app.db import Database
from app.limits import Limiter
from app.models.hazards import HazardStatus
from app.models.staff import Role
from app.models.webhooks import DeliveryStatus, WebhookAttempt, WebhookDelivery
from app.services import webhook_deliveries
from app.settings import Settings, settings
from tests.factories import Places, make_staff
from tests.stories import begin
from tests.webhooks.drill import start_worker
from tests.webhooks.receiver import Receiver
from tests.worker.chronicle import new_subject, place_all, record

pytestmark = pytest.mark.drill

ENDPOINTS, SUBJECTS, EVENTS = 5, 200, 20_000
_BURST = 500
_START_SECONDS = 60
_ASKED, _ROUNDS = 300, 3


@pytest.fixture(autouse=True)
def _no_quota(monkeypatch: pytest.MonkeyPatch) -> None:
    """One caller asks more in a minute than anybody may."""
    plenty = "900000000/day"
    generous = Limiter(Settings(rate_limit_caller=plenty, rate_limit_address=plenty))
    for module in (edge, operation):
        monkeypatch.setattr(module, "limiter", generous)


async def test_a_backlog_costs_nothing(
    client: httpx.AsyncClient, db: Database, places: Places, tmp_path: Path
) -> None:
    story = await begin(client, places)
    hazard_id = await story.hazard(HazardStatus.FILED)
    admin = await make_staff(Role.DISTRICT_ADMIN, places.district)
    async with Receiver(hang_seconds=0.2) as receiver:
        for _ in range(ENDPOINTS):
            await _subscribe(client, admin.headers, places.district, receiver.url)
        quiet = await _p95(client, story.reporter.headers, hazard_id)
        await _pile_up(db, places.grid)
        waiting = await _waiting(db)
        standing = await _p95(client, story.reporter.headers, hazard_id)
        claim = await _claim_ms(db)
        async with _working(tmp_path, receiver):
            sending = await _p95(client, story.reporter.headers, hazard_id)
        left = await _waiting(db)
        await _clear(db)
        quiet = max(quiet, await _p95(client, story.reporter.headers, hazard_id))
    print(
        f"\n{waiting} wait: API p95 {quiet:.1f} ms without them, {standing:.1f} ms beside them, {sending:.1f} ms while"
        f" {waiting - left} are sent; a claim of 8 takes {claim:.1f} ms"
    )
    assert waiting == ENDPOINTS * EVENTS
    assert left < waiting
    assert claim <= 10
    # Others use the machine more or less from minute to minute: what is quiet was measured before and after, and a tenth
    # and two milliseconds are within what the clock says twice of the same.
    assert standing <= quiet * 1.1 + 2
    assert sending <= quiet * 2 + 5


async def _subscribe(client: httpx.AsyncClient, headers: dict[str, str], region_id: UUID, url: str) -> None:
    body = {"name": "backlog", "url": url, "event_types": ["region."], "region_id": str(region_id)}
    answer = await client.post("/v1/webhook-endpoints", headers=headers, json=body)
    assert answer.status_code == 201, answer.text


async def _pile_up(db: Database, region_id: UUID) -> None:
    subjects = [await new_subject(region_id) for _ in range(SUBJECTS)]
    for start in range(0, EVENTS, _BURST):
        async with db.transaction() as session:
            for number in range(start, start + _BURST):
                await record(session, subjects[number % SUBJECTS], "region.updated")
        await place_all()


async def _waiting(db: Database) -> int:
    async with db.reading() as session:
        queued = WebhookDelivery.status == DeliveryStatus.QUEUED
        return (await session.scalar(select(func.count()).select_from(WebhookDelivery).where(queued))) or 0


async def _clear(db: Database) -> None:
    async with db.transaction() as session:
        await session.execute(delete(WebhookAttempt))
        await session.execute(delete(WebhookDelivery))


async def _p95(client: httpx.AsyncClient, headers: dict[str, str], hazard_id: str) -> float:
    """Milliseconds in which 95 of 100 reads and writes are answered, when nobody else disturbs: the best of some rounds."""
    return min([await _round(client, headers, hazard_id) for _ in range(_ROUNDS)])


async def _round(client: httpx.AsyncClient, headers: dict[str, str], hazard_id: str) -> float:
    took = []
    for number in range(_ASKED):
        began = time.perf_counter()
        if number % 4:
            answer = await client.get(f"/v1/hazards/{hazard_id}", headers=headers)
        else:
            answer = await client.post(
                f"/v1/hazards/{hazard_id}/comments", headers=headers, json={"text": "请尽快处理"}
            )
        took.append((time.perf_counter() - began) * 1000)
        assert answer.status_code < 300, answer.text
    return quantiles(took, n=20)[18]


async def _claim_ms(db: Database) -> float:
    """The median of fifty claims, one after the other, of what the first endpoint has due."""
    took = []
    async with db.reading() as session:
        taker = (await webhook_deliveries.receivers(session, []))[0]
    for _ in range(50):
        with suppress(_Undone):
            async with db.transaction() as session:
                began = time.perf_counter()
                assert len(await webhook_deliveries.claim(session, [(taker, 8)])) == 8
                took.append((time.perf_counter() - began) * 1000)
                raise _Undone
    return median(took)


class _Undone(Exception):
    """The same shall be due again."""


@asynccontextmanager
async def _working(folder: Path, receiver: Receiver) -> AsyncIterator[None]:
    """A worker beside us, from its first delivery on."""
    env = os.environ | {
        "JINCAI_DATABASE_URL": settings.database_url,
        "JINCAI_MEDIA_URL": folder.as_uri(),
        "JINCAI_WEBHOOK_ALLOW_CIDRS": "127.0.0.0/8",
    }
    worker = await start_worker(env)
    try:
        async with asyncio.timeout(_START_SECONDS):
            while not receiver.connections:  # noqa: ASYNC110 - it looks at another process's work
                await asyncio.sleep(0.05)
        yield
    finally:
        worker.kill()
        await worker.wait()
