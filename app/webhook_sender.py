"""Sends webhooks: so many at once per endpoint, so that a slow one delays nobody, and no transaction while sending."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Sequence
from uuid import UUID

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock, standard_webhooks
from app.clients.outbound import Outcome
from app.crypto import SealBroken
from app.db import database
from app.errors import Unavailable
from app.leases import describe
from app.outside import outside
from app.services import webhook_deliveries
from app.services.webhook_deliveries import Claimed, Receiver
from app.services.webhook_endpoints import TOPIC
from app.settings import settings
from app.signals import signals

PER_ENDPOINT = 8
_IDLE_SECONDS = 1.0
_LISTEN_SECONDS = 60.0
_BATCH_SECONDS = 0.02

_log = structlog.get_logger("worker")

Result = tuple[Receiver, Claimed, Outcome]


class Sender:
    """What this process is sending right now, and what it has not written down yet."""

    def __init__(self) -> None:
        self._sending: Counter[UUID] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()
        self._results: list[Result] = []
        self._wake = asyncio.Event()

    async def run(self, stop: asyncio.Event) -> None:
        """Send until `stop` is set, then let what is under way end."""
        waking = [asyncio.create_task(self._listen()), asyncio.create_task(self._hear_of(stop))]
        while not stop.is_set():
            self._wake.clear()
            try:
                # What is written down frees the next of its subject, which can then be taken at once.
                await self._write_down()
                await self._start_due()
            except Exception as failure:
                # What was not written down is tried again when its lease is over.
                _log.error("worker_failed", part="webhooks", error=describe(failure))
                await asyncio.sleep(_IDLE_SECONDS)
            await self._rest()
        for task in waking:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self._write_down()

    async def _listen(self) -> None:
        """A signal while we work is not lost: it cuts the next rest short."""
        while True:
            if await signals.wait(TOPIC, _LISTEN_SECONDS):
                self._wake.set()

    async def _hear_of(self, stop: asyncio.Event) -> None:
        """Nobody who is told to stop rests first."""
        await stop.wait()
        self._wake.set()

    async def _start_due(self) -> None:
        """Take what is due, as much as each endpoint has room for."""
        full = [endpoint_id for endpoint_id, count in self._sending.items() if count >= PER_ENDPOINT]
        async with database.reading() as session:
            waiting = await webhook_deliveries.receivers(session, full)
        if not waiting:
            return
        async with database.transaction() as session:
            taken = [(receiver, await self._take(session, receiver)) for receiver in waiting]
        for receiver, claimed in taken:
            for each in claimed:
                self._begin(receiver, each)

    async def _take(self, session: AsyncSession, receiver: Receiver) -> list[Claimed]:
        """Deliveries of one endpoint. What cannot be read there stands in nobody else's way."""
        try:
            async with session.begin_nested():
                return await webhook_deliveries.claim(session, receiver, self._room(receiver))
        except SealBroken as failure:
            _log.error("worker_failed", part="webhooks", error=describe(failure), endpoint=str(receiver.id))
            return []

    def _room(self, receiver: Receiver) -> int:
        return PER_ENDPOINT - self._sending[receiver.id]

    def _begin(self, receiver: Receiver, claimed: Claimed) -> None:
        self._sending[receiver.id] += 1
        task = asyncio.create_task(self._send(receiver, claimed))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _send(self, receiver: Receiver, claimed: Claimed) -> None:
        message_id = f"msg_{claimed.event_id}"
        headers = standard_webhooks.headers(message_id, clock.now(), claimed.body, receiver.keys)
        try:
            outcome = await outside.outbound.post(receiver.url, headers, claimed.body)
        finally:
            self._sending[receiver.id] -= 1
        self._results.append((receiver, claimed, outcome))
        self._wake.set()

    async def _write_down(self) -> None:
        """All results so far in one transaction: a commit per try would be the slowest part."""
        results, self._results = self._results, []
        if not results:
            return
        try:
            async with database.transaction() as session:
                await webhook_deliveries.finish(
                    session, [(claimed, outcome) for _, claimed, outcome in results]
                )
                for receiver, tries in _by_receiver(results):
                    await webhook_deliveries.note_outcomes(session, receiver, tries)
        except Unavailable:
            self._results = results + self._results
            raise

    async def _rest(self) -> None:
        """Until something was queued or sent, but no longer than until a failed one may be due again."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), min(_IDLE_SECONDS, settings.webhook_waits[0]))
        await asyncio.sleep(_BATCH_SECONDS)


def _by_receiver(results: Sequence[Result]) -> list[tuple[Receiver, list[tuple[Claimed, Outcome]]]]:
    found: dict[UUID, tuple[Receiver, list[tuple[Claimed, Outcome]]]] = {}
    for receiver, claimed, outcome in results:
        found.setdefault(receiver.id, (receiver, []))[1].append((claimed, outcome))
    return [found[key] for key in sorted(found)]
