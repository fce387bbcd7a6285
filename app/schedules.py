"""What happens again and again: rows that any worker may insert, so that there is no leader and no run happens twice."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncSession

from app import clock, outbox
from app.db import database, insert
from app.models.tasks import ScheduleRun

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Schedule:
    """A task of the kind `name` every `every`, `offset` after midnight UTC for daily ones.

    `wanted` looks whether there is anything to do, so that an idle service writes nothing. A run that was missed is
    not made up for: the next one does its work.
    """

    name: str
    every: timedelta
    offset: timedelta = timedelta()
    wanted: Callable[[AsyncSession], Awaitable[bool]] | None = None

    def due_at(self, now: datetime) -> datetime:
        """The latest time, not after `now`, at which a run was due."""
        return now - (now - _EPOCH - self.offset) % self.every


class Timetable:
    """The schedules as one worker sees them."""

    def __init__(self, schedules: Sequence[Schedule]) -> None:
        self._schedules = schedules
        self._seen: dict[str, datetime] = {}

    async def enqueue_due(self) -> None:
        """Leave a task for every run that is due and that no worker has taken."""
        now = clock.now()
        for schedule in self._schedules:
            due_at = schedule.due_at(now)
            if self._seen.get(schedule.name) != due_at:
                if await _is_wanted(schedule):
                    await _take(schedule, due_at)
                self._seen[schedule.name] = due_at


async def _is_wanted(schedule: Schedule) -> bool:
    if schedule.wanted is None:
        return True
    async with database.reading() as session:
        return await schedule.wanted(session)


async def _take(schedule: Schedule, due_at: datetime) -> None:
    """Whoever inserts the row enqueues the task, in one transaction."""
    values = {"name": schedule.name, "due_at": due_at, "created_at": clock.now()}
    async with database.transaction() as session:
        taken = await session.scalar(
            insert(ScheduleRun).values(values).on_conflict_do_nothing().returning(ScheduleRun.name)
        )
        if taken is not None:
            await outbox.enqueue(session, schedule.name, {})
