"""What a transaction has still to write: queued row by row, and sent in one round trip before anybody could miss it.

For hot rows this is what the session's unit of work is for others, and as invisible: the queue is written before a
query, a savepoint and the commit, and forgotten with what is rolled back. On PostgreSQL it is one statement (a WITH of
INSERTs and UPDATEs), on SQLite one statement for each kind of row.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from types import MappingProxyType
from typing import TypeVar, cast

from sqlalchemy import BindParameter, Column, ColumnDefault, Table, bindparam, event, update
from sqlalchemy.dialects.postgresql import insert as postgres_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import ORMExecuteState, Session, SessionTransaction
from sqlalchemy.sql.dml import UpdateBase
from sqlalchemy.util import await_

from app.hot import Hot, R, Row, Values
from app.lanes import Driver, driver_of
from app.models.base import Base, Entity
from app.settings import settings

E = TypeVar("E", bound=Entity)
_QUEUE = "writes"
_MOST_ROWS = 16
_MOST_PARTS = 8
_insert = sqlite_insert if settings.is_sqlite else postgres_insert


@dataclass(frozen=True, slots=True, eq=False)
class _Kind:
    """What rows must have in common to be written by one statement. There is one of each: `_kind` gives it."""

    table: Table
    columns: tuple[str, ...]
    is_update: bool
    unless: str | None

    def statement(self, count: int, prefix: str) -> UpdateBase:
        """The statement for so many rows; the parameters of row `n` are called `prefix_n_column`."""
        rows = [{name: self._parameter(prefix, n, name) for name in self.columns} for n in range(count)]
        if self.is_update:
            return update(self.table).where(self.table.c.id == rows[0].pop("id")).values(rows[0])
        order = _insert(self.table).values(rows)
        return order.on_conflict_do_nothing(index_elements=[self.unless]) if self.unless else order

    def _parameter(self, prefix: str, n: int, name: str) -> BindParameter[object]:
        return bindparam(f"{prefix}_{n}_{name}", type_=self.table.c[name].type)


@lru_cache(maxsize=4096)
def _kind(
    table: Table, columns: tuple[str, ...], *, is_update: bool = False, unless: str | None = None
) -> _Kind:
    return _Kind(table, columns, is_update, unless)


@dataclass(slots=True)
class _Queue:
    rows: list[tuple[_Kind, Values]] = field(default_factory=list)
    entities: list[tuple[Entity, Values]] = field(default_factory=list)

    def drain(self) -> list[tuple[_Kind, Values]]:
        """All that is to be written now. Entities stay watched."""
        changes = [_change(entity, before) for entity, before in self.entities]
        self.entities = [(entity, vars(entity).copy()) for entity, _ in self.entities]
        rows, self.rows = self.rows, []
        return [change for change in changes if change is not None] + rows


def add(session: AsyncSession, model: type[Base], values: Values, *, unless: str | None = None) -> None:
    """Insert a row with the next write, `unless` there is one with the same value in that column."""
    kind = _kind(cast(Table, model.__table__), tuple(values), unless=unless)
    _queue(session).rows.append((kind, values))


def add_entity(session: AsyncSession, model: type[E], values: Values) -> E:
    """A new entity, inserted as it is at the next write, and updated when it changes later."""
    entity = model()
    vars(entity).update({**_defaults(cast(Table, model.__table__)), **values})
    _queue(session).entities.append((entity, {}))
    return entity


def watch(session: AsyncSession, model: type[E], row: Row) -> E:
    """The entity of a row that was read with all its columns; what changes is updated with the next write."""
    queue = _queue(session)
    for known, _ in queue.entities:
        if isinstance(known, model) and known.id == row["id"]:
            return known
    entity = model()
    # As it was loaded, and without the bookkeeping of a unit of work that it is no part of.
    vars(entity).update(row)
    queue.entities.append((entity, row))
    return entity


async def run(session: AsyncSession, hot: Hot[R], values: Values) -> Sequence[R]:
    """Run a hot statement in the transaction, after everything that is still to be written."""
    await flush(session)
    if session.in_nested_transaction():
        # The session sets a savepoint with its own first query in it, which this one is not.
        await session.connection()
    return await hot.run(driver_of(session), values)


async def run_along(session: AsyncSession, hot: Hot[R], values: Values) -> Sequence[R]:
    """Run a hot statement in one round trip with everything that is still to be written, which it does not see."""
    return cast(Sequence[R], await _send(session.sync_session, cast(Hot[Row], hot), values))


async def flush(session: AsyncSession) -> None:
    """Write what is queued, before what the session itself has still to write."""
    if session.new or session.dirty or session.deleted:
        await session.flush()
    await _send(session.sync_session)


class QueueingSession(Session):
    """A session that keeps the queue in step with its own queries and savepoints."""


@event.listens_for(QueueingSession, "do_orm_execute")
def _before_query(state: ORMExecuteState) -> None:
    await_(_send(state.session))


@event.listens_for(QueueingSession, "before_flush")
def _before_the_others(session: Session, *_: object) -> None:
    # A comment names the hazard and the event that it belongs to; no queued row names one of the session's new ones.
    await_(_send(session))


@event.listens_for(QueueingSession, "after_transaction_create")
def _before_savepoint(session: Session, transaction: SessionTransaction) -> None:
    if transaction.nested:
        await_(_send(session))


@event.listens_for(QueueingSession, "after_soft_rollback")
def _after_rollback(session: Session, _: SessionTransaction) -> None:
    # What was queued before the savepoint was written before it.
    session.info.pop(_QUEUE, None)


def _queue(session: AsyncSession) -> _Queue:
    found: _Queue | None = session.info.get(_QUEUE)
    if found is None:
        found = session.info[_QUEUE] = _Queue()
    return found


async def _send(
    session: Session, along: Hot[Row] | None = None, values: Values = MappingProxyType({})
) -> Sequence[Row]:
    queue: _Queue | None = session.info.get(_QUEUE)
    driver = driver_of(session)
    parts = list(_parts(queue.drain())) if queue else []
    if settings.is_sqlite:
        for part in parts:
            await _together(_shape([part]), None).run(driver, [part], values)
        return await along.run(driver, values) if along else []
    while len(parts) > _MOST_PARTS or (parts and along is None):
        some, parts = parts[:_MOST_PARTS], parts[_MOST_PARTS:]
        await _together(_shape(some), None).run(driver, some, values)
    if along is None:
        return []
    return await _together(_shape(parts), along).run(driver, parts, values)


_Part = tuple[_Kind, list[Values]]


class _Together:
    """One statement for some parts; they see the database as it was before, their constraints as it is after."""

    def __init__(self, shape: tuple[tuple[_Kind, int], ...], along: Hot[Row] | None) -> None:
        statements = [kind.statement(count, f"w{part}") for part, (kind, count) in enumerate(shape)]
        last = along.statement if along else statements.pop()
        ctes = [each.cte(f"w{part}") for part, each in enumerate(statements)]
        self._hot: Hot[Row] = Hot(last.add_cte(*ctes)) if ctes else along or Hot(last)
        places = {
            f"w{part}_{n}_{name}": (part, n, name)
            for part, (kind, count) in enumerate(shape)
            for n in range(count)
            for name in kind.columns
        }
        parameters = self._hot.parameters
        self._of_rows = [
            (position, *places[name], write) for position, name, write in parameters if name in places
        ]
        self._others = [each for each in parameters if each[1] not in places]

    async def run(self, driver: Driver, parts: Sequence[_Part], values: Values) -> Sequence[Row]:
        """Write the rows of the parts, and give what was asked along."""
        arguments = self._hot.constants.copy()
        rows = [rows for _, rows in parts]
        for position, part, n, name, write in self._of_rows:
            value = rows[part][n][name]
            arguments[position] = value if write is None else write(value)
        for position, name, write in self._others:
            arguments[position] = values[name] if write is None else write(values[name])
        return await self._hot.fetch(driver, arguments)


_together = lru_cache(maxsize=1024)(_Together)


def _parts(rows: Sequence[tuple[_Kind, Values]]) -> Iterator[_Part]:
    """Neighbours of one kind go into one statement."""
    kind: _Kind | None = None
    some: list[Values] = []
    for each, values in rows:
        if some and (each is not kind or each.is_update or len(some) == _MOST_ROWS):
            yield cast(_Kind, kind), some
            some = []
        kind = each
        some.append(values)
    if some:
        yield cast(_Kind, kind), some


def _shape(parts: Sequence[_Part]) -> tuple[tuple[_Kind, int], ...]:
    return tuple((kind, len(rows)) for kind, rows in parts)


def _change(entity: Entity, before: Values) -> tuple[_Kind, Values] | None:
    table, now = cast(Table, entity.__table__), vars(entity)
    names = _defaults(table).keys()
    if not before:
        return _kind(table, tuple(names)), {name: now[name] for name in names}
    changed = {name: now[name] for name in names if now[name] != before[name]}
    if not changed:
        return None
    return _kind(table, ("id", *changed), is_update=True), {"id": entity.id, **changed}


@cache
def _defaults(table: Table) -> Mapping[str, object]:
    """All columns, with what a new row has in them unless it says otherwise."""
    return {column.key: _default(column) for column in table.columns}


def _default(column: Column[object]) -> object:
    return (
        column.default.arg if isinstance(column.default, ColumnDefault) and column.default.is_scalar else None
    )
