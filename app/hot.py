"""The few hot statements: Core objects compiled once, at import, and run by the driver itself.

Building and compiling a statement and wrapping its rows costs more than the query (docs/decisions/011-hot-path.md).
Values and columns are converted by their SQLAlchemy types, as everywhere; Python-side column defaults are not filled in.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from enum import StrEnum
from typing import Generic, TypeVar, cast
from uuid import UUID

import orjson
from sqlalchemy import (
    JSON,
    BindParameter,
    ColumnElement,
    Dialect,
    Enum,
    Float,
    LargeBinary,
    ScalarSelect,
    Select,
    Text,
    any_,
    bindparam,
    func,
    literal,
    literal_column,
    select,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.dialects.postgresql.asyncpg import dialect as postgres_dialect
from sqlalchemy.dialects.sqlite.aiosqlite import dialect as sqlite_dialect
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import InstrumentedAttribute
from sqlalchemy.sql import visitors
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.dml import UpdateBase
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.visitors import ExternallyTraversible
from sqlalchemy.types import TypeDecorator, TypeEngine

from app.lanes import Driver
from app.models.base import UtcDateTime
from app.settings import settings

Row = Mapping[str, object]
Values = Mapping[str, object]
R = TypeVar("R", bound=Mapping[str, object])
V = TypeVar("V")
Statement = Select[*tuple[object, ...]] | UpdateBase
_Convert = Callable[[object], object] | None

_DIALECT: Dialect = sqlite_dialect() if settings.is_sqlite else postgres_dialect()  # type: ignore[no-untyped-call]


class Hot(Generic[R]):
    """One statement with named parameters; `R` are its rows, by the names of their columns.

    One that finds its rows in the same way whatever the values are can be `planned_once`: planning a page of the hazards
    that somebody handles takes PostgreSQL as long as finding them.
    """

    def __init__(self, statement: Statement, *, planned_once: bool = False) -> None:
        self.statement, self.planned_once = statement, planned_once
        if isinstance(statement, Select):
            # PostgreSQL plans a query anew each time while it cannot tell constants, such as a LIMIT, from parameters.
            statement = cast(Statement, visitors.replacement_traverse(statement, {}, _written_out))
        compiled = statement.compile(dialect=_DIALECT, compile_kwargs={"render_postcompile": True})
        if compiled.insert_prefetch or compiled.update_prefetch:
            raise TypeError("a hot statement sets every column that has a default")
        self._sql = str(compiled)
        binds = [(name, compiled.binds[name]) for name in compiled.positiontup or ()]
        writers = [_writer(bind.type) for _, bind in binds]
        self.constants = [
            bind.effective_value if write is None or bind.required else write(bind.effective_value)
            for (_, bind), write in zip(binds, writers, strict=True)
        ]
        self.parameters = [
            (position, name, write)
            for position, ((name, bind), write) in enumerate(zip(binds, writers, strict=True))
            if bind.required
        ]
        columns = list(statement.exported_columns)
        self._names = [str(column.key) for column in columns]
        self._readers = [_reader(column.type) for column in columns]
        self._as_they_come = not settings.is_sqlite and not any(self._readers)

    async def run(self, driver: Driver, values: Values) -> Sequence[R]:
        """All rows."""
        arguments = self.constants.copy()
        for position, name, write in self.parameters:
            value = values[name]
            arguments[position] = value if write is None else write(value)
        return await self.fetch(driver, arguments)

    async def fetch(self, driver: Driver, arguments: Sequence[object]) -> Sequence[R]:
        """The same with arguments in their places: `constants`, and `parameters` as they are to be written."""
        rows = await driver.fetch(self._sql, arguments)
        if self._as_they_come:
            return cast(Sequence[R], rows)
        return cast(
            Sequence[R],
            [
                {
                    name: value if read is None or value is None else read(value)
                    for name, read, value in zip(self._names, self._readers, row, strict=True)
                }
                for row in rows
            ],
        )


def _written_out(element: ExternallyTraversible, **_: object) -> ColumnElement[object] | None:
    """A constant as it stands in SQL; None for whatever stays as it is."""
    if not isinstance(element, BindParameter) or element.required:
        return None
    constant: BindParameter[object] = element
    text = constant.compile(dialect=_DIALECT, compile_kwargs={"literal_binds": True})
    return literal_column(str(text), constant.type)


def _writer(type_: TypeEngine[object]) -> _Convert:
    # A StrEnum is the text that is stored; asyncpg takes times of every zone, and refuses naive ones itself.
    if isinstance(type_, Enum) and issubclass(type_.enum_class or object, StrEnum):
        return None
    if isinstance(type_, UtcDateTime) and not settings.is_sqlite:
        return None
    return type_.dialect_impl(_DIALECT).bind_processor(_DIALECT)


def _reader(type_: TypeEngine[object]) -> _Convert:
    # Floats and bytes are that everywhere, and asyncpg gives aware times in UTC whatever the session's zone is.
    if isinstance(type_, Float | LargeBinary) or (isinstance(type_, UtcDateTime) and not settings.is_sqlite):
        return None
    return type_.dialect_impl(_DIALECT).result_processor(_DIALECT, None)


class _Several(TypeDecorator[Collection[object]]):
    """Any number of values as one parameter: an array, or JSON on SQLite."""

    impl = Text
    cache_ok = True

    def __init__(self, of: TypeEngine[object]) -> None:
        super().__init__()
        self.of = of

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[object]:
        """What the driver understands."""
        return cast("TypeEngine[object]", Text() if dialect.name == "sqlite" else ARRAY(self.of))

    def process_bind_param(self, value: Collection[object] | None, dialect: Dialect) -> object:
        """The list itself, or JSON of it as SQLite stores ids."""
        if dialect.name != "sqlite":
            return list(value or ())
        each = [one.hex if isinstance(one, UUID) else one for one in value or ()]
        return orjson.dumps(each).decode()


def one_of(
    column: InstrumentedAttribute[V], name: str, among: Collection[object] | None = None
) -> ColumnElement[bool]:
    """Whether a column is `among` some values, or those of the parameter `name`: one statement for any number."""
    plain: ColumnElement[V] = column.expression
    several = _Several(cast("TypeEngine[object]", Text() if isinstance(plain.type, Enum) else plain.type))
    values = bindparam(name, type_=several) if among is None else literal(among, several)
    if settings.is_sqlite:
        return plain.in_(select(func.json_each(values).table_valued("value").c.value))
    return plain == any_(values)


class JsonArray(FunctionElement[object]):
    """Some columns as one JSON array."""

    type = JSON()
    inherit_cache = True


@compiles(JsonArray)
def _json_array(element: JsonArray, compiler: SQLCompiler, **options: object) -> str:
    return f"json_build_array({compiler.process(element.clauses, **options)})"


@compiles(JsonArray, "sqlite")
def _json_array_on_sqlite(element: JsonArray, compiler: SQLCompiler, **options: object) -> str:
    return f"json_array({compiler.process(element.clauses, **options)})"


class _JsonGroup(FunctionElement[object]):
    type = JSON()
    inherit_cache = True


@compiles(_JsonGroup)
def _json_agg(element: _JsonGroup, compiler: SQLCompiler, **options: object) -> str:
    return f"json_agg({compiler.process(element.clauses, **options)})"


@compiles(_JsonGroup, "sqlite")
def _group_on_sqlite(element: _JsonGroup, compiler: SQLCompiler, **options: object) -> str:
    return f"json_group_array(json({compiler.process(element.clauses, **options)}))"


def json_list(rows: Select[object]) -> ScalarSelect[object]:
    """Rows of one `JsonArray` each, in their order, as one list; None or empty when there are none."""
    listed = rows.subquery()
    return select(_JsonGroup(*listed.c)).select_from(listed).scalar_subquery()


def to_json(value: object) -> bytes:
    """JSON as our schemas write it: times as RFC 3339 in UTC with a Z, ids as text."""
    return orjson.dumps(value, default=_as_text, option=orjson.OPT_UTC_Z)


def _as_text(value: object) -> str:
    # asyncpg's ids are a kind of their own.
    if isinstance(value, UUID):
        return str(value)
    raise TypeError(f"{type(value).__name__} is not for JSON")
