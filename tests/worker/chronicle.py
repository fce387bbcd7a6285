"""Events about rows that nobody else writes about, and what their followers see."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app import events
from app.auth import SYSTEM
from app.db import database
from app.events import Place
from app.handlers import HANDLERS
from app.ids import new_id
from app.models.events import Audience, Event
from app.models.regions import Region, RegionLevel
from app.sequencer import Handlers, sequence


async def new_subject(region_id: UUID) -> UUID:
    """Something to record events about."""
    region = Region(
        id=new_id(),
        code=str(new_id()),
        level=RegionLevel.BUILDING,
        parent_id=region_id,
        name="楼",
        name_en="b",
        lng=0,
        lat=0,
    )
    async with database.transaction() as session:
        session.add(region)
    return region.id


async def record(session: AsyncSession, subject_id: UUID, type_: str = "test.happened") -> Event:
    """One event about a subject, which is locked as the services do it."""
    query = select(Region).where(Region.id == subject_id).with_for_update()
    subject = (await session.scalars(query)).one()
    place = Place(subject.parent_id, subject.parent_id)
    event = events.record(
        session, SYSTEM, subject, type_, audience=Audience.STAFF, place=place, payload={"x": 0.1}
    )
    await session.flush()
    return event


async def happen(subject_id: UUID, type_: str = "test.happened") -> UUID:
    """One event in a transaction of its own."""
    async with database.transaction() as session:
        return (await record(session, subject_id, type_)).id


async def place_all(handlers: Handlers | None = None) -> None:
    """Give everything that is committed its position."""
    placed = 1
    while placed:
        async with database.transaction() as session:
            placed = await sequence(session, HANDLERS if handlers is None else handlers)


async def positions_of(subject_ids: Sequence[UUID]) -> list[tuple[UUID, int, int | None]]:
    """Subject, seq and position of every event, in the order in which it was inserted."""
    async with database.reading() as session:
        rows = await session.execute(
            select(Event.subject_id, Event.seq, Event.position)
            .where(Event.subject_id.in_(subject_ids))
            .order_by(Event.no)
        )
        return [(row.subject_id, row.seq, row.position) for row in rows]
