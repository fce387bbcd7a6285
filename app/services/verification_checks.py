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


@dataclass(frozen=True, slots=True)
class Each:
    """Breaches are the rows of `table` for which a condition holds; its name says what is wrong."""

    table: type[Entity]
    breaches: dict[str, ColumnElement[bool]]

    async def __call__(self, probe: Probe) -> AsyncIterator[str]:
        """All of them, as a check finds them."""
        for done, (what, condition) in enumerate(self.breaches.items()):
            probe.advance(done, len(self.breaches))
            for row_id in await probe.session.scalars(select(self.table.id).where(condition).limit(MOST)):
                yield f"{self.table.__tablename__} {row_id}: {what}"

    async def among(self, session: AsyncSession, chosen: ColumnElement[bool]) -> list[str]:
        """What is wrong with any of the chosen rows."""
        conditions = [condition.label(f"breach_{n}") for n, condition in enumerate(self.breaches.values())]
        result = await session.execute(select(*conditions).select_from(self.table).where(chosen))
        return [what for row in result for what, is_wrong in zip(self.breaches, row, strict=True) if is_wrong]


def each(table: type[Entity], breaches: dict[str, ColumnElement[bool]]) -> Each:
    """A check of the rows of one table, each by itself."""
    return Each(table, breaches)
