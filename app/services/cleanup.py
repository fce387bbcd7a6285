"""What the engine itself throws away when nobody can need it any more; a little at a time, so that nobody waits."""

from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import ColumnElement, and_, delete, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock, idempotency
from app.models.base import Base
from app.models.idempotency import IdempotencyKey
from app.models.notifications import Notification
from app.models.sync import WatermarkGap, WatermarkReport
from app.models.tasks import ScheduleRun, Task, TaskStatus

_AT_ONCE: Final = 500
_DONE_FOR = timedelta(days=7)
_DEAD_FOR = timedelta(days=90)
_TOLD_FOR = timedelta(days=365)
_COMPARED_FOR = timedelta(days=365)


async def sweep(session: AsyncSession) -> int:
    """Delete up to 500 rows of each kind; how many went. Call it again until that is 0."""
    return sum([await _delete(session, table, old) for table, old in _old(clock.now()).items()])


def _old(now: datetime) -> dict[type[Base], ColumnElement[bool]]:
    """A task that is done keeps its key for a week: until then a second one of the same key is the same task."""
    done = and_(Task.status == TaskStatus.DONE, Task.finished_at < now - _DONE_FOR)
    dead = and_(Task.status == TaskStatus.DEAD, Task.finished_at < now - _DEAD_FOR)
    return {
        IdempotencyKey: IdempotencyKey.created_at < now - idempotency.KEPT,
        Task: done | dead,
        ScheduleRun: ScheduleRun.due_at < now - _DONE_FOR,
        Notification: Notification.created_at < now - _TOLD_FOR,
        WatermarkReport: WatermarkReport.created_at < now - _COMPARED_FOR,
        WatermarkGap: WatermarkGap.told_at < now - _COMPARED_FOR,
    }


async def _delete(session: AsyncSession, table: type[Base], old: ColumnElement[bool]) -> int:
    key = list(table.__table__.primary_key)
    found = (await session.execute(select(*key).where(old).limit(_AT_ONCE))).all()
    if found:
        await session.execute(
            delete(table)
            .where(tuple_(*key).in_([tuple(row) for row in found]))
            .execution_options(synchronize_session=False)
        )
    return len(found)
