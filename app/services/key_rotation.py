"""Bringing everything sealed under the current key: in batches, beside a running service, as often as one likes.

A value is replaced only if it is still the one that was read, so that whoever writes at the same time wins. Batches
leave nothing half done: a rotation that was stopped goes on where it ended. Look-ups ask for the indexes under every
key of the ring and find rows before, while and after they are touched.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from sqlalchemy import (
    Column,
    ColumnElement,
    LargeBinary,
    RowMapping,
    Select,
    Table,
    func,
    or_,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from app.crypto import HEAD_BYTES, Keyring, SealBroken, Vault, sealed_head
from app.db import database
from app.models.base import Base
from app.services import households

BATCH = 200
_SEALED, _INDEX = "_sealed", "_index"

Advance = Callable[[int], None]
"""Called with the number of rows looked at since the last call."""

NormalForm = Callable[[RowMapping, str], str]
_NORMAL_FORMS: Mapping[str, NormalForm] = {
    "households.address": lambda row, text: households.address_key(row["region_id"], text),
}


@dataclass(frozen=True, slots=True)
class SealedTable:
    """A table with sealed columns: their names without the ending, and which of them can be looked up by an index."""

    table: Table
    names: tuple[str, ...]
    indexed: frozenset[str]

    @property
    def key(self) -> Column[UUID | str]:
        """The primary key."""
        return next(iter(self.table.primary_key))

    def column(self, name: str) -> Column[bytes | None]:
        """The sealed column of a name."""
        return self.table.c[name + _SEALED]


@dataclass(slots=True)
class Outcome:
    """How a rotation went: `broken` names the rows that cannot be brought under the current key, and why."""

    resealed: int = 0
    broken: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Pass:
    resealed: int = 0
    overtaken: int = 0
    broken: list[str] = field(default_factory=list)


def sealed_tables() -> list[SealedTable]:
    """Every table that has sealed columns."""
    found = []
    for table in Base.metadata.sorted_tables:
        names = tuple(
            column.name.removesuffix(_SEALED) for column in table.c if column.name.endswith(_SEALED)
        )
        if names:
            indexed = frozenset(name for name in names if name + _INDEX in table.c)
            found.append(SealedTable(table, names, indexed))
    return found


async def count_by_kid(session: AsyncSession, sealed: SealedTable, keyring: Keyring) -> Counter[str]:
    """How many values are sealed under which key of the ring; those under no key of it count as `?`."""
    counted: Counter[str] = Counter()
    for name in sealed.names:
        column = sealed.column(name)
        columns = [func.count().filter(_under(column, kid)).label(kid) for kid in keyring.kids]
        row = (await session.execute(select(func.count(column), *columns))).one()
        total, *known = (int(value) for value in row)
        counted.update(dict(zip(keyring.kids, known, strict=True)))
        counted["?"] += total - sum(known)
    return +counted


async def is_used(session: AsyncSession, kid: str) -> bool:
    """Whether any value is sealed under this key, of the ring or not."""
    for sealed in sealed_tables():
        used = or_(*(_under(sealed.column(name), kid) for name in sealed.names))
        if await session.scalar(select(sealed.key).where(used).limit(1)) is not None:
            return True
    return False


async def count_stale(session: AsyncSession, sealed: SealedTable, keyring: Keyring) -> int:
    """How many rows a rotation would touch."""
    query = select(func.count()).select_from(sealed.table).where(_stale(sealed, keyring))
    return await session.scalar(query) or 0


async def rotate(sealed: SealedTable, keyring: Keyring, advance: Advance) -> Outcome:
    """Seal every value of a table under the current key, and index it under that key."""
    vault, outcome = Vault(keyring), Outcome()
    while True:
        done = await _pass(sealed, keyring, vault, advance)
        outcome.resealed += done.resealed
        outcome.broken = done.broken
        if not done.overtaken:
            return outcome


def open_row(sealed: SealedTable, vault: Vault, row: RowMapping) -> None:
    """Open every sealed value of a row and compare its indexes; raises SealBroken."""
    for name in sealed.names:
        if row[name + _SEALED] is not None:
            _opened(sealed, vault, row, name)


async def _pass(sealed: SealedTable, keyring: Keyring, vault: Vault, advance: Advance) -> _Pass:
    """Once over all rows that are not current, in the order of their keys."""
    done = _Pass()
    query = select(sealed.table).where(_stale(sealed, keyring)).order_by(sealed.key).limit(BATCH)
    rows = await _read(query)
    while rows:
        async with database.transaction() as session:
            for row in rows:
                await _reseal(session, sealed, vault, row, done)
        advance(len(rows))
        rows = await _read(query.where(sealed.key > rows[-1][sealed.key.name]))
    return done


async def _read(query: Select[*tuple[object, ...]]) -> Sequence[RowMapping]:
    async with database.reading() as session:
        return (await session.execute(query)).mappings().all()


async def _reseal(
    session: AsyncSession, sealed: SealedTable, vault: Vault, row: RowMapping, done: _Pass
) -> None:
    try:
        values = _resealed(sealed, vault, row)
    except SealBroken as broken:
        done.broken.append(str(broken))
        return
    unchanged = [sealed.table.c[name] == row[name] for name in values if name.endswith(_SEALED)]
    order = update(sealed.table).where(sealed.key == row[sealed.key.name], *unchanged).values(values)
    try:
        async with session.begin_nested():
            changed = (await session.execute(order.returning(sealed.key))).first()
    except IntegrityError:
        done.broken.append(f"{_where(sealed, row)}: another row has the same value under the current key")
        return
    done.resealed += changed is not None
    done.overtaken += changed is None


def _resealed(sealed: SealedTable, vault: Vault, row: RowMapping) -> dict[str, str | bytes]:
    """The columns of a row that change, with their new values."""
    values: dict[str, str | bytes] = {}
    for name in sealed.names:
        stored = row[name + _SEALED]
        if stored is None or vault.is_current(stored):
            continue
        text = _opened(sealed, vault, row, name)
        values[name + _SEALED] = vault.seal(
            text, table=sealed.table.name, column=name + _SEALED, row_id=_bound_to(row[sealed.key.name])
        )
        if name in sealed.indexed and row[name + _INDEX] is not None:
            values[name + _INDEX] = vault.blind_index(name, _normal_form(sealed, row, name, text))
    return values


def _opened(sealed: SealedTable, vault: Vault, row: RowMapping, name: str) -> str:
    """The clear value, after a look at whether its index is one that look-ups would ask for."""
    text = vault.open(
        row[name + _SEALED],
        table=sealed.table.name,
        column=name + _SEALED,
        row_id=_bound_to(row[sealed.key.name]),
    )
    if name in sealed.indexed and row[name + _INDEX] is not None:
        wanted = vault.blind_indexes(name, _normal_form(sealed, row, name, text))
        if row[name + _INDEX] not in wanted:
            raise SealBroken(f"{_where(sealed, row)}: {name}{_INDEX} does not belong to {name}{_SEALED}")
    return text


def _normal_form(sealed: SealedTable, row: RowMapping, name: str, text: str) -> str:
    """What is indexed of a value: most values are stored in their normal form."""
    normalise = _NORMAL_FORMS.get(f"{sealed.table.name}.{name}")
    return normalise(row, text) if normalise else text


def _bound_to(key: UUID | str) -> UUID:
    """What the values of a row are sealed to: its id; idempotency keys, which have none, the head of their scope."""
    return key if isinstance(key, UUID) else UUID(key[:32])


def _where(sealed: SealedTable, row: RowMapping) -> str:
    return f"{sealed.table.name} {row[sealed.key.name]}"


def _stale(sealed: SealedTable, keyring: Keyring) -> ColumnElement[bool]:
    columns = [sealed.column(name) for name in sealed.names]
    current = sealed_head(keyring.current)
    # Of no bytes at all SQLite makes NULL, which is not unequal to anything.
    return or_(*(column.is_not(None) & _head(column).is_distinct_from(current) for column in columns))


def _under(column: ColumnElement[bytes | None], kid: str) -> ColumnElement[bool]:
    return _head(column) == sealed_head(kid)


def _head(column: ColumnElement[bytes | None]) -> ColumnElement[bytes | None]:
    return func.substr(column, 1, HEAD_BYTES, type_=LargeBinary())
