"""Workers to watch: in this process, or as processes that a test stops and kills."""

import asyncio
import contextlib
import os
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
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


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = 60) -> None:
    """Wait for a condition; fail when it does not come."""
    deadline = clock.monotonic() + seconds
    while not await condition():
        assert clock.monotonic() < deadline, "waited in vain"
        await asyncio.sleep(0.05)


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


@contextlib.contextmanager
def worker_process(
    pause: float, *, lease: float, log: Path | None = None
) -> Iterator["subprocess.Popen[bytes]"]:
    """A worker in a process of its own; killed at the end if it still runs."""
    environment = os.environ | {"JINCAI_JOB_LEASE_SECONDS": str(lease), "JINCAI_WORKER_POLL_SECONDS": "0.2"}
    with (log or Path(os.devnull)).open("ab") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.worker.programs", str(pause)],
            cwd=_ROOT,
            env=environment,
            stdout=stream,
            stderr=stream,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
