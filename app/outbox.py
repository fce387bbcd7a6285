"""Work that must happen after a commit: enqueued in the same transaction, done by the worker."""

from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncSession

from app import clock, writes
from app.db import signal_after_commit
from app.ids import new_id
from app.models.base import JsonObject
from app.models.tasks import Task, TaskStatus

TOPIC = "tasks"


async def enqueue(
    session: AsyncSession,
    kind: str,
    payload: JsonObject,
    *,
    key: str | None = None,
    run_at: datetime | None = None,
) -> None:
    """Leave a task for the worker. With a `key`, a second one of the same key is silently the same task."""
    now = clock.now()
    values = {
        "id": new_id(),
        "created_at": now,
        "kind": kind,
        "key": key,
        "payload": payload,
        "status": TaskStatus.QUEUED,
        "run_at": run_at or now,
        "attempts": 0,
    }
    writes.add(session, Task, values, unless="key")
    signal_after_commit(session, TOPIC)
