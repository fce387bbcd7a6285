"""A process of its own that makes events happen and says how deliveries stand: `python -m tests.webhooks.drill_driver`.

Reads one JSON order from stdin, answers with JSON lines: the secrets of the endpoints, then the final counts.
"""

import asyncio
import json
import random
import sys
from collections import Counter
from uuid import UUID

from sqlalchemy import func, select

from app import clock, events, standard_webhooks
from app.auth import SYSTEM
from app.db import database
from app.errors import Unavailable
from app.events import TOPIC, Place
from app.ids import new_id
from app.keys import seal
from app.models.events import Audience, Event
from app.models.regions import Region, RegionAncestor, RegionLevel
from app.models.webhooks import DeliveryStatus, WebhookDelivery, WebhookEndpoint, WebhookSecret
from app.signals import signals

_BURST = 20


async def main() -> None:
    """Set the stage, make events happen, wait until every delivery is over."""
    order = json.load(sys.stdin)
    await database.open()
    try:
        subjects = await _regions(order["subjects"])
        _say(await _endpoints(subjects[0], order["urls"]))
        await _happen(subjects, order["events"])
        _say(await _settled(order["events"] * len(order["urls"]), order["seconds"]))
    finally:
        await database.close()


def _say(answer: object) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


async def _regions(count: int) -> list[UUID]:
    ids = [new_id() for _ in range(count)]
    async with database.transaction() as session:
        for number, region_id in enumerate(ids):
            session.add(
                Region(
                    id=region_id,
                    code=f"drill{number:04}",
                    parent_id=ids[0] if number else None,
                    level=RegionLevel.GRID if number else RegionLevel.DISTRICT,
                    name="演练",
                    name_en="Drill",
                    lng=104.0,
                    lat=30.0,
                    polygon=None,
                )
            )
            await session.flush()
            for above in {region_id, ids[0]}:
                session.add(RegionAncestor(region_id=region_id, ancestor_id=above))
    return ids


async def _endpoints(region_id: UUID, urls: list[str]) -> list[str]:
    secrets = [standard_webhooks.new_secret() for _ in urls]
    async with database.transaction() as session:
        for url, secret in zip(urls, secrets, strict=True):
            endpoint = WebhookEndpoint(
                id=new_id(),
                name="drill",
                url=url,
                event_types=["region."],
                region_id=region_id,
                event_seq=0,
            )
            session.add(endpoint)
            await session.flush()
            row = WebhookSecret(id=new_id(), created_at=clock.now(), endpoint_id=endpoint.id)
            seal(row, "secret", secret)
            session.add(row)
    return secrets


async def _happen(subjects: list[UUID], count: int) -> None:
    """So many events of random subjects, some in one transaction; every tenth transaction is rolled back."""
    while count:
        number = min(count, random.randint(1, _BURST))
        try:
            async with database.transaction() as session:
                for subject_id in sorted(random.sample(subjects, min(number, len(subjects)))):
                    region = (
                        await session.scalars(select(Region).where(Region.id == subject_id).with_for_update())
                    ).one()
                    place = Place(None, region.id)
                    events.record(
                        session, SYSTEM, region, "region.touched", audience=Audience.STAFF, place=place
                    )
                if random.random() < 0.1:
                    raise _ChangedMind
        except (_ChangedMind, Unavailable):
            # A worker that is paused in a transaction keeps SQLite to itself: nothing was changed, try again.
            continue
        signals.send(TOPIC)
        count -= min(number, len(subjects))


class _ChangedMind(Exception):
    """This transaction shall not have happened."""


async def _settled(wanted: int, seconds: float) -> dict[str, int]:
    """Counts of deliveries by status, and of events that were never placed, once all is over or time is up."""
    deadline = clock.monotonic() + seconds
    while True:
        async with database.reading() as session:
            rows = await session.execute(
                select(WebhookDelivery.status, func.count()).group_by(WebhookDelivery.status)
            )
            counted = Counter({status.value: count for status, count in rows})
            unplaced = await session.scalar(
                select(func.count()).select_from(Event).where(Event.position.is_(None))
            )
        if counted[DeliveryStatus.DELIVERED.value] >= wanted or clock.monotonic() > deadline:
            return dict(counted) | {"unplaced": unplaced or 0}
        await asyncio.sleep(0.5)


if __name__ == "__main__":
    asyncio.run(main())
