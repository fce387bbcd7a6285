"""A task in the hands of one worker, and transactions that commit only while it still is.

Leases run on the database's clock, so that workers on machines whose clocks differ agree on who holds one. When a task
is due is the application's own time, as for everything else that the product promises.
"""

import contextlib
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from uuid import UUID

from sqlalchemy import ColumnElement, func, literal, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.db import database
from app.ids import new_id
from app.models.base import JsonObject, UtcDateTime
from app.models.tasks import Task, TaskStatus
from app.settings import settings

_HERE = Path(__file__).parent


class LeaseLost(Exception):
    """Another worker holds the task by now: nothing of this attempt may be kept."""


class Retry(Exception):
    """Not now. `reason` is stored, so it holds no personal data; `after` is the least to wait, in seconds."""

    def __init__(self, reason: str, after: float = 0) -> None:
        super().__init__(reason)
        self.after = after


class GiveUp(Exception):
    """Never. `reason` is stored with the dead task, so it holds no personal data."""


@dataclass(frozen=True, slots=True)
class Lease:
    """One attempt at one task. `token` fences off whoever held the task before."""

    task_id: UUID
    token: UUID
    kind: str
    payload: JsonObject
    attempt: int

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncSession]:
        """A write transaction in which the lease is held and prolonged; raises `LeaseLost`."""
        async with database.transaction() as session:
            await self._hold(session, lease_until=lease_end())
            yield session

    @contextlib.asynccontextmanager
    async def last_transaction(self) -> AsyncIterator[AsyncSession]:
        """The same, and the task is done with its commit: the effect and its end cannot be separated."""
        async with database.transaction() as session:
            await self._hold(session, **ended(TaskStatus.DONE))
            yield session

    async def end(self, values: dict[str, object]) -> None:
        """Write down how the attempt ended, unless somebody else holds the task or it has ended."""
        async with database.transaction() as session:
            with contextlib.suppress(LeaseLost):
                await self._hold(session, **values)

    async def _hold(self, session: AsyncSession, **values: object) -> None:
        held = await session.scalar(
            update(Task)
            .where(Task.id == self.task_id, Task.lease_token == self.token)
            .values(**values)
            .returning(Task.id)
            .execution_options(synchronize_session=False)
        )
        if held is None:
            raise LeaseLost


@dataclass(frozen=True, slots=True)
class Kind:
    """How one kind of task is done, and how often it is tried before it is dead."""

    run: Callable[[Lease], Awaitable[None]]
    attempts: int = 12


async def claim(kinds: Sequence[str], limit: int, held: Sequence[UUID] = ()) -> list[Lease]:
    """Take up to `limit` tasks that are due, of kinds that this worker knows, and that nobody holds.

    `held` are those that the worker itself is at: a clock that jumps must not make it start them twice.
    """
    due = (
        select(Task.id)
        .where(
            Task.status == TaskStatus.QUEUED,
            Task.kind.in_(kinds),
            Task.id.not_in(held),
            Task.run_at <= clock.now(),
            or_(Task.lease_until.is_(None), Task.lease_until < lease_now()),
        )
        .order_by(Task.run_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
        .cte("due")
    )
    token = new_id()
    taken = (
        update(Task)
        .where(Task.id.in_(select(due.c.id)))
        .values(lease_token=token, lease_until=lease_end(), attempts=Task.attempts + 1)
        .returning(Task.id, Task.kind, Task.payload, Task.attempts)
        .execution_options(synchronize_session=False)
    )
    async with database.transaction() as session:
        rows = (await session.execute(taken)).all()
    return [Lease(row.id, token, row.kind, row.payload, row.attempts) for row in rows]


async def renew(leases: Sequence[Lease]) -> list[Lease]:
    """Prolong leases; those that somebody else holds by now are returned.

    A row that a transaction of ours holds is skipped. One that nobody holds has just ended, in our own hands.
    """
    if not leases:
        return []
    ids = [lease.task_id for lease in leases]
    tokens = {lease.token for lease in leases}
    free = select(Task.id).where(Task.id.in_(ids), Task.lease_token.in_(tokens))
    async with database.transaction() as session:
        rows = await session.execute(select(Task.id, Task.lease_token).where(Task.id.in_(ids)))
        held = {row.id: row.lease_token for row in rows}
        await session.execute(
            update(Task)
            .where(Task.id.in_(select(free.with_for_update(skip_locked=True).cte("free").c.id)))
            .values(lease_until=lease_end())
            .execution_options(synchronize_session=False)
        )
    return [lease for lease in leases if held.get(lease.task_id) not in (None, lease.token)]


def ended(status: TaskStatus) -> dict[str, object]:
    """The columns of a task that nobody has to touch again."""
    return {"status": status, "finished_at": clock.now(), "lease_token": None, "lease_until": None}


def describe(error: BaseException) -> str:
    """An error without its words, which may quote what somebody typed: its kind, and where in our code it arose."""
    if isinstance(error, Retry | GiveUp):
        return str(error)
    ours = [
        frame for frame in traceback.extract_tb(error.__traceback__) if _HERE in Path(frame.filename).parents
    ]
    where = f" at {Path(ours[-1].filename).relative_to(_HERE)}:{ours[-1].lineno}" if ours else ""
    return f"{type(error).__name__}{where}"


def lease_now() -> ColumnElement[datetime]:
    """The time that leases run on: the database's; on SQLite that is this machine's."""
    return literal(clock.now(), UtcDateTime()) if settings.is_sqlite else func.clock_timestamp()


def lease_end() -> ColumnElement[datetime]:
    """When a lease taken now ends."""
    seconds = timedelta(seconds=settings.job_lease_seconds)
    if settings.is_sqlite:
        return literal(clock.now() + seconds, UtcDateTime())
    return func.clock_timestamp() + literal(seconds)
