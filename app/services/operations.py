"""What an operator asks: are we ready, and how are we doing."""

import asyncio
from collections.abc import Awaitable
from functools import cache
from pathlib import Path

from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import func, select, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock, metrics
from app.db import database
from app.errors import Problem, Unavailable
from app.models.events import Event
from app.models.tasks import Task, TaskStatus
from app.outside import outside
from app.services import key_checks
from app.settings import settings

_PART_SECONDS = 3.0
_KEPT_SECONDS = 1.0
_METRICS_SECONDS = 2.0
_MIGRATIONS = Path(__file__).parents[2] / "migrations"


class NotReady(Unavailable):
    """`failed` names what does not work: database, migrations, keys, storage."""

    code = "not_ready"
    title_en, title_zh = "The service is not ready", "服务尚未就绪"


class Readiness:
    """The answer to `/readyz`, looked up at most once a second however many ask."""

    def __init__(self) -> None:
        self._failed: list[str] = []
        self._until = 0.0
        self._lock = asyncio.Lock()

    async def require(self) -> None:
        """NotReady unless the database answers, is migrated, was written with our keys, and files can be stored."""
        async with self._lock:
            if self._until <= clock.monotonic():
                self._failed = await _failed_parts()
                self._until = clock.monotonic() + _KEPT_SECONDS
        if self._failed:
            named = ", ".join(self._failed)
            raise NotReady(f"Not ready: {named}", f"未就绪：{named}", retry_after=5, failed=self._failed)


readiness = Readiness()


async def weak_durability() -> str | None:
    """The database setting that lets a power cut take back what was acknowledged; None when there is none."""
    if settings.is_sqlite:
        async with database.transaction() as session:
            level = await session.scalar(text("PRAGMA synchronous"))
        return None if level in (2, 3) else f"synchronous={level}"
    async with database.transaction() as session:
        names = ("fsync", "full_page_writes", "synchronous_commit")
        values = [await session.scalar(select(func.current_setting(name))) for name in names]
    return next((f"{name}=off" for name, value in zip(names, values, strict=True) if value == "off"), None)


async def refresh_metrics() -> None:
    """Read from the database what is measured there. Metrics are answered without it, too."""
    for name, gate in (("write", database.write_gate), ("read", database.read_gate)):
        metrics.GATE_FREE.labels(name).set(gate.free)
        metrics.GATE_WAITING.labels(name).set(gate.waiting)
    try:
        async with asyncio.timeout(_METRICS_SECONDS), database.reading() as session:
            await _measure(session)
        metrics.DATABASE_UP.set(1)
    except (Problem, SQLAlchemyError, TimeoutError):
        metrics.DATABASE_UP.set(0)


async def _measure(session: AsyncSession) -> None:
    now = clock.now()
    due = select(func.count(), func.min(Task.run_at)).where(
        Task.status == TaskStatus.QUEUED, Task.run_at <= now
    )
    count, oldest = (await session.execute(due)).one()
    metrics.TASKS_DUE.set(count)
    metrics.TASKS_OLDEST_SECONDS.set((now - oldest).total_seconds() if count else 0)
    waiting = select(func.count()).where(Event.position.is_(None))
    metrics.EVENTS_UNSEQUENCED.set(await session.scalar(waiting) or 0)


async def _failed_parts() -> list[str]:
    parts = {
        "database": _database(),
        "migrations": _migrations(),
        "keys": key_checks.require(),
        "storage": outside.storage.check(),
    }
    works = await asyncio.gather(*(_works(part) for part in parts.values()))
    failed = [name for name, ok in zip(parts, works, strict=True) if not ok]
    # What stands on something that failed says nothing of its own.
    for below, above in (("database", "migrations"), ("database", "keys"), ("migrations", "keys")):
        if below in failed and above in failed:
            failed.remove(above)
    return failed


async def _works(part: Awaitable[None]) -> bool:
    try:
        async with asyncio.timeout(_PART_SECONDS):
            await part
    except (Problem, SQLAlchemyError, TimeoutError):
        return False
    return True


async def _database() -> None:
    async with database.reading() as session:
        await session.execute(text("SELECT 1"))


async def _migrations() -> None:
    async with database.reading() as session:
        revision = await session.scalar(text("SELECT version_num FROM alembic_version"))
    if revision != _head():
        raise NotReady


@cache
def _head() -> str:
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    return str(ScriptDirectory.from_config(config).get_current_head())
