"""The base of every table: names, types and columns that all of them share."""

import enum
from datetime import UTC, datetime
from uuid import UUID

from pydantic import JsonValue as JsonValue
from sqlalchemy import BigInteger, DateTime, Dialect, Enum, Integer, MetaData, Text, Uuid
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import JSON, TypeDecorator

from app import clock
from app.ids import new_id

JsonObject = dict[str, JsonValue]


class UtcDateTime(TypeDecorator[datetime]):
    """An aware UTC time. Naive values are refused; SQLite, which drops the zone, gets it back."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Store UTC, naive on SQLite so that the text sorts."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a stored time must be aware")
        utc = value.astimezone(UTC)
        return utc.replace(tzinfo=None) if dialect.name == "sqlite" else utc

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Always aware UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


BIG = BigInteger().with_variant(Integer, "sqlite")


def enum_column(kind: type[enum.Enum], name: str | None = None) -> Enum:
    """An enum as its values with a CHECK; `name` is needed for the second column of one enum in a table."""
    return Enum(
        kind,
        name=name,
        native_enum=False,
        create_constraint=True,
        length=32,
        values_callable=lambda members: [member.value for member in members],
    )


class Base(DeclarativeBase):
    """Declarative base with one naming convention, so that migrations can name every constraint."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {
        str: Text(),
        UUID: Uuid(),
        datetime: UtcDateTime(),
        JsonObject: JSON(none_as_null=True),
        list[str]: JSON(none_as_null=True),
        enum.Enum: enum_column(enum.Enum),
    }


class Entity(Base):
    """A thing with an identity."""

    __abstract__ = True

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    created_at: Mapped[datetime] = mapped_column(default=clock.now)


class Subject:
    """Something that events are about: it counts them, so that each has a gapless `seq`."""

    event_seq: Mapped[int] = mapped_column(default=0)


class Versioned:
    """Something that staff edit: `version` grows with every change and stale edits get 412."""

    version: Mapped[int] = mapped_column(default=1)
