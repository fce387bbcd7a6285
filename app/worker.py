"""The engine behind the requests: places events, does tasks under leases, and keeps the schedules.

Any number of workers may run, in the server or as processes of their own. One that dies leaves leases that run out;
one that was too slow cannot commit over its successor. No transaction is open while a task talks to the network:
a task opens its transactions itself, and each of them checks the lease.
"""

import asyncio
import contextlib
import random
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from datetime import timedelta

import structlog

from app import clock, leases, logs, outbox
from app.db import database
from app.events import TOPIC as EVENTS
from app.handlers import HANDLERS
from app.leases import GiveUp, Kind, Lease, LeaseLost, Retry, describe, ended
from app.models.tasks import TaskStatus
from app.outside import outside
from app.schedules import Schedule, Timetable
from app.sequencer import BATCH, Handlers, sequence
from app.settings import settings
from app.signals import signals
from app.tasks import KINDS, SCHEDULES
from app.webhook_sender import Sender

CONCURRENCY = 8
_DRAIN_SECONDS = 20.0
_TICK_SECONDS = 1.0
_FIRST_RETRY_SECONDS = 5.0
_LAST_RETRY_SECONDS = 3600.0
_EARLIEST = 0.8

_log = structlog.get_logger("worker")


async def run(stop: asyncio.Event) -> None:
    """Work until `stop` is set, then let what is running end. The database must be open."""
    await Worker(KINDS, HANDLERS, SCHEDULES).run(stop)


@contextlib.asynccontextmanager
async def embedded() -> AsyncIterator[None]:
    """Work beside the server, in the same process, for as long as the block lasts."""
    stop = asyncio.Event()
    working = asyncio.create_task(run(stop))
    try:
        yield
    finally:
        stop.set()
        await working


def main() -> None:
    """`jincai worker`: work until SIGTERM or SIGINT."""
    asyncio.run(_main())


async def _main() -> None:
    logs.configure(settings.log_format)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await database.open()
    try:
        async with outside.opened():
            await run(stop)
    finally:
        await database.close()
        logs.flush()


class Worker:
    """One worker: its wiring, and the tasks it holds right now."""

    def __init__(self, kinds: Mapping[str, Kind], handlers: Handlers, schedules: Sequence[Schedule]) -> None:
        self._kinds = kinds
        self._handlers = handlers
        self._timetable = Timetable(schedules)
        self._running: dict[asyncio.Task[None], Lease] = {}
        self._more_tasks = asyncio.Event()
        self._more_events = asyncio.Event()
        self._tick = asyncio.Event()

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set, then let what is running end."""
        async with asyncio.TaskGroup() as group:
            background = [
                group.create_task(_ring(EVENTS, settings.worker_poll_seconds, self._more_events)),
                group.create_task(_ring(outbox.TOPIC, settings.worker_poll_seconds, self._more_tasks)),
                group.create_task(_ring("schedules", _TICK_SECONDS, self._tick)),
                group.create_task(self._renew_for_ever()),
            ]
            loops = [
                group.create_task(_repeat(self._sequence, self._more_events, stop)),
                group.create_task(_repeat(self._start_due, self._more_tasks, stop)),
                group.create_task(_repeat(self._timetable.enqueue_due, self._tick, stop)),
                group.create_task(Sender().run(stop)),
            ]
            await stop.wait()
            for wake in (self._more_events, self._more_tasks, self._tick):
                wake.set()
            await asyncio.gather(*loops)
            await self._drain()
            for task in background:
                task.cancel()

    async def _sequence(self) -> None:
        placed = BATCH
        while placed == BATCH:
            async with database.transaction() as session:
                placed = await sequence(session, self._handlers)

    async def _start_due(self) -> None:
        held = [lease.task_id for lease in self._running.values()]
        free = CONCURRENCY - len(held)
        for lease in await leases.claim(list(self._kinds), free, held) if free else ():
            running = asyncio.create_task(self._perform(lease))
            self._running[running] = lease
            running.add_done_callback(self._make_room)

    def _make_room(self, running: asyncio.Task[None]) -> None:
        del self._running[running]
        self._more_tasks.set()

    async def _perform(self, lease: Lease) -> None:
        """Do one task and write down how it ended. When even that fails the lease runs out and it is tried again."""
        try:
            await lease.end(await self._attempt(lease))
        except asyncio.CancelledError:
            await lease.end(_due_in(0))
            raise
        except Exception as failure:
            _log.error("task_outcome_lost", kind=lease.kind, task=str(lease.task_id), error=describe(failure))

    async def _attempt(self, lease: Lease) -> dict[str, object]:
        """Run the task; the columns that say how it ended."""
        kind = self._kinds[lease.kind]
        try:
            if lease.attempt > kind.attempts:
                raise GiveUp("the worker died in every attempt")
            await kind.run(lease)
        except LeaseLost:
            _log.warning("lease_lost", kind=lease.kind, task=str(lease.task_id))
        except Exception as failure:
            return _failed(lease, kind, failure)
        return ended(TaskStatus.DONE)

    async def _renew_for_ever(self) -> None:
        while True:
            await asyncio.sleep(settings.job_lease_seconds / 3)
            await _safely(self._renew)

    async def _renew(self) -> None:
        """Prolong what is running; stop what another worker holds by now."""
        lost = await leases.renew(list(self._running.values()))
        for running, lease in list(self._running.items()):
            if lease in lost:
                _log.warning("lease_lost", kind=lease.kind, task=str(lease.task_id))
                running.cancel()

    async def _drain(self) -> None:
        if not self._running:
            return
        _, late = await asyncio.wait(list(self._running), timeout=_DRAIN_SECONDS)
        for running in late:
            running.cancel()
        await asyncio.gather(*late, return_exceptions=True)


def _failed(lease: Lease, kind: Kind, failure: Exception) -> dict[str, object]:
    """Dead, or due again later and later: 5 s, 10 s, 20 s … an hour, a fifth more or less, so that a herd disperses."""
    error = describe(failure)
    dead = isinstance(failure, GiveUp) or lease.attempt >= kind.attempts
    _log.warning(
        "task_failed",
        kind=lease.kind,
        task=str(lease.task_id),
        error=error,
        status="dead" if dead else "queued",
    )
    if dead:
        return ended(TaskStatus.DEAD) | {"last_error": error}
    seconds = min(_FIRST_RETRY_SECONDS * 2 ** (lease.attempt - 1), _LAST_RETRY_SECONDS)
    if isinstance(failure, Retry):
        # The least that was asked for stays the least.
        seconds = max(seconds, failure.after / _EARLIEST)
    jitter = random.uniform(_EARLIEST, 2 - _EARLIEST)  # noqa: S311 - no secret
    return _due_in(seconds * jitter) | {"last_error": error}


def _due_in(seconds: float) -> dict[str, object]:
    return {"run_at": clock.now() + timedelta(seconds=seconds), "lease_token": None, "lease_until": None}


async def _ring(topic: str, seconds: float, wake: asyncio.Event) -> None:
    """Wake on every signal, and without one every `seconds`."""
    while True:
        await signals.wait(topic, seconds)
        wake.set()


async def _repeat(work: Callable[[], Awaitable[None]], wake: asyncio.Event, stop: asyncio.Event) -> None:
    """Work at once and after each wake-up. What rings while we work is heard: the bell is cleared before."""
    while not stop.is_set():
        wake.clear()
        await _safely(work)
        await wake.wait()


async def _safely(work: Callable[[], Awaitable[None]]) -> None:
    """A database that is away comes back: say so, breathe, and let the caller try again."""
    try:
        await work()
    except Exception as failure:
        _log.error("worker_failed", part=work.__qualname__, error=describe(failure))
        await asyncio.sleep(1)
