"""Workers to watch: in this process, or as processes that a test stops and kills."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path

from sqlalchemy import select

from app import clock, outbox
from app.db import database
from app.leases import Kind
from app.models.base import JsonObject
from app.models.events import Event
from app.models.tasks import Task, TaskStatus
from app.schedules import Schedule
from app.worker import Worker
from tests.worker.programs import EFFECT

_ROOT = Path(__file__).parents[2]


async def enqueue(kind: str, payloads: Sequence[JsonObject]) -> None:
    """Leave tasks for the worker."""
    async with database.transaction() as session:
        for payload in payloads:
            await outbox.enqueue(session, kind, payload)


async def tasks_of(kind: str) -> list[Task]:
    """All tasks of a kind, oldest first."""
    async with database.reading() as session:
        return list(await session.scalars(select(Task).where(Task.kind == kind).order_by(Task.id)))


async def is_done(kind: str) -> bool:
    """Whether nobody has to do any task of this kind any more."""
    return all(task.status is not TaskStatus.QUEUED for task in await tasks_of(kind))


async def leased(kind: str) -> int:
    """How many tasks of a kind somebody holds."""
    return sum(task.lease_token is not None for task in await tasks_of(kind))


async def effects(run: str) -> Counter[int]:
    """How often each task of a run had its effect."""
    async with database.reading() as session:
        rows = await session.scalars(select(Event.payload).where(Event.type == EFFECT))
        return Counter(int(str(row["n"])) for row in rows if row["run"] == run)


async def until(
    condition: Callable[[], Awaitable[bool]], seconds: float = 60, *, pause: float = 0.05
) -> None:
    """Wait for a condition; fail when it does not come."""
    deadline = clock.monotonic() + seconds
    while not await condition():
        assert clock.monotonic() < deadline, "waited in vain"
        await asyncio.sleep(pause)


@contextlib.asynccontextmanager
async def working(
    kinds: Mapping[str, Kind], schedules: Sequence[Schedule] = (), workers: int = 1
) -> AsyncIterator[None]:
    """Workers in this process for as long as the block lasts."""
    stop = asyncio.Event()
    running = [asyncio.create_task(Worker(kinds, {}, schedules).run(stop)) for _ in range(workers)]
    try:
        yield
    finally:
        stop.set()
        await asyncio.gather(*running)


class Nursery:
    """Workers in processes of their own; those that still run are killed in the end."""

    def __init__(self, lease: float) -> None:
        timing = {"JINCAI_JOB_LEASE_SECONDS": str(lease), "JINCAI_WORKER_POLL_SECONDS": "0.2"}
        self._pids: list[int] = []
        self._forker = subprocess.Popen(
            [sys.executable, "-m", "tests.worker.programs"],
            cwd=_ROOT,
            env=os.environ | timing,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(self, pause: float, log: Path) -> int:
        """One more worker, whose tasks take `pause` seconds; its process id."""
        assert self._forker.stdin is not None
        assert self._forker.stdout is not None
        self._forker.stdin.write(f"{pause} {log}\n")
        self._forker.stdin.flush()
        self._pids.append(int(self._forker.stdout.readline()))
        return self._pids[-1]

    def close(self) -> None:
        """Nobody is left behind."""
        for pid in self._pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._forker.communicate()


async def has_ended(pid: int) -> bool:
    """Whether a process is gone."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False
