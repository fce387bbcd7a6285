"""Alembic on both engines: the URL comes from the settings, SQLite changes tables in batches."""

import asyncio
from typing import Literal

from alembic import context
from sqlalchemy import Connection, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from app import models
from app.models.base import Base, UtcDateTime
from app.settings import settings

assert models.__all__


def database_url() -> URL:
    """The configured database with its asynchronous driver."""
    url = make_url(settings.database_url)
    return url.set(drivername="sqlite+aiosqlite" if settings.is_sqlite else "postgresql+asyncpg")


def render_item(kind: str, item: object, _: object) -> str | Literal[False]:
    """Migrations stand alone: a type of ours is written as the type it stores."""
    if kind == "type" and isinstance(item, UtcDateTime):
        return "sa.DateTime(timezone=True)"
    return False


def run(connection: Connection) -> None:
    """Run the migrations in one transaction; give up quickly when the live service holds a lock."""
    if not settings.is_sqlite:
        connection.execute(text("SET lock_timeout = '5s'"))
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        render_as_batch=settings.is_sqlite,
        compare_type=True,
        render_item=render_item,
    )
    with context.begin_transaction():
        context.run_migrations()
    connection.commit()


async def online() -> None:
    """Connect and migrate."""
    engine = create_async_engine(database_url(), poolclass=NullPool)
    async with engine.connect() as connection:
        await connection.run_sync(run)
    await engine.dispose()


asyncio.run(online())
