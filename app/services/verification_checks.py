"""What a check of stored data is, and how most of them are said in one query."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Select, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.clients.storage import Storage
from app.models.base import Entity

MOST = 1000
"""No check lists more rows than this: the first ones tell the story."""

Advance = Callable[[int, int], None]
"""Called with how many rows are done, and of how many."""


@dataclass(frozen=True, slots=True)
class Probe:
    """What a check may look at, and whom it tells how far it is."""

    session: AsyncSession
    storage: Storage
    advance: Advance


Find = Callable[[Probe], AsyncIterator[str]]


@dataclass(frozen=True, slots=True)
class Check:
    """One invariant: `promise` holds for everything stored, and `find` yields a line for each breach of it."""

    name: str
    promise: str
    find: Find


def rows(kind: str, query: Select[*tuple[object, ...]]) -> Find:
    """Breaches are the rows of `query`; the first column names the thing, the others what is wrong with it."""

    async def find(probe: Probe) -> AsyncIterator[str]:
        result = await probe.session.execute(query.limit(MOST))
        for row in result:
            facts = dict(row._mapping)
            name = facts.pop(next(iter(facts)))
            yield f"{kind} {name}: " + ", ".join(f"{key} {value}" for key, value in facts.items())

    return find


def each(table: type[Entity], breaches: dict[str, ColumnElement[bool]]) -> Find:
    """Breaches are the rows of `table` for which a condition holds; its name says what is wrong."""

    async def find(probe: Probe) -> AsyncIterator[str]:
        for done, (what, condition) in enumerate(breaches.items()):
            probe.advance(done, len(breaches))
            for row_id in await probe.session.scalars(select(table.id).where(condition).limit(MOST)):
                yield f"{table.__tablename__} {row_id}: {what}"

    return find
