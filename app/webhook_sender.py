"""Sends webhooks: so many at once per endpoint, so that a slow one delays nobody, and no transaction while sending."""

import asyncio
import contextlib
import itertools
from collections import Counter, defaultdict
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
from app.models.webhooks import PayloadKind
from app.outside import outside
from app.services import webhook_deliveries, webhook_endpoints
from app.services.webhook_deliveries import Claimed, Receiver
from app.services.webhook_endpoints import TOPIC
from app.settings import settings
from app.signals import signals

PER_ENDPOINT = 8
_MOST = 2 * PER_ENDPOINT
_IDLE_SECONDS = 1.0
_LISTEN_SECONDS = 60.0
_BATCH_SECONDS = 0.02

_log = structlog.get_logger("worker")

Taken = tuple[Receiver, Claimed]
Result = tuple[Receiver, Claimed, Outcome]


class Sender:
    """What this process has in its hands, and what it has not written down yet.

    It takes twice as many of each endpoint as it sends at once, so that sending goes on while results are written down.
    They wait no longer than one deadline for the others, and a lease is longer than two. When their endpoint is disabled
    meanwhile they are given back.
    """

    def __init__(self) -> None:
        self._held: Counter[UUID] = Counter()
        self._slots: dict[UUID, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(PER_ENDPOINT))
        self._tasks: set[asyncio.Task[None]] = set()
        self._results: list[Result] = []
        self._unsent: list[Claimed] = []
        self._disabled: set[UUID] = set()
        self._wake = asyncio.Event()
        self._stops = False

    async def run(self, stop: asyncio.Event) -> None:
        """Send until `stop` is set; then let what is under way end, and give back what is not."""
        waking = [asyncio.create_task(self._listen()), asyncio.create_task(self._hear_of(stop))]
        while not stop.is_set():
            self._wake.clear()
            try:
                await self._turn()
            except Exception as failure:
                # What was not written down is tried again when its lease is over.
                _log.error("worker_failed", part="webhooks", error=describe(failure))
                await asyncio.sleep(_IDLE_SECONDS)
            await self._rest()
        self._stops = True
        for task in waking:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        if self._results:
            async with database.transaction() as session:
                await _write_down(session, self._results)
        await self._give_back()

    async def _listen(self) -> None:
        """A signal while we work is not lost: it cuts the next rest short."""
        while True:
            if await signals.wait(TOPIC, _LISTEN_SECONDS):
                self._wake.set()

    async def _hear_of(self, stop: asyncio.Event) -> None:
        """Nobody who is told to stop rests first."""
        await stop.wait()
        self._wake.set()

    async def _turn(self) -> None:
        """Write down what came back and take what is due, as much as each endpoint has room for."""
        held = list(+self._held)
        async with database.reading() as session:
            self._disabled = await webhook_endpoints.disabled_among(session, held) if held else set()
            freed = {receiver.id for receiver, _, _ in self._results}
            waiting = await webhook_deliveries.receivers(session, self._full(), freed)
        await self._give_back()
        if waiting or self._results:
            for receiver, claimed in await self._write_down_and_take(waiting):
                self._begin(receiver, claimed)

    async def _write_down_and_take(self, waiting: Sequence[Receiver]) -> list[Taken]:
        """All results so far, and what they free, in one transaction: commits would be the slowest part."""
        results, self._results = self._results, []
        try:
            async with database.transaction() as session:
                await _write_down(session, results)
                return await self._take(session, waiting)
        except Unavailable:
            self._results = results + self._results
            raise

    async def _give_back(self) -> None:
        unsent = self._unsent.copy()
        if unsent:
            async with database.transaction() as session:
                await webhook_deliveries.give_back(session, unsent)
            del self._unsent[: len(unsent)]

    async def _take(self, session: AsyncSession, waiting: Sequence[Receiver]) -> list[Taken]:
        """What is due. What cannot be read at one endpoint stands in nobody else's way."""
        wanted = [(receiver, _MOST - self._held[receiver.id]) for receiver in waiting]
        legible = [each for each in wanted if each[0].payload is PayloadKind.THIN]
        apart = [await _claim(session, each) for each in wanted if each not in legible]
        return [*await webhook_deliveries.claim(session, legible), *itertools.chain(*apart)]

    def _full(self) -> list[UUID]:
        return [endpoint_id for endpoint_id, count in self._held.items() if count >= _MOST]

    def _begin(self, receiver: Receiver, claimed: Claimed) -> None:
        self._held[receiver.id] += 1
        task = asyncio.create_task(self._send(receiver, claimed))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _send(self, receiver: Receiver, claimed: Claimed) -> None:
        try:
            async with self._slots[receiver.id]:
                if self._stops or receiver.id in self._disabled:
                    self._unsent.append(claimed)
                else:
                    await self._send_now(receiver, claimed)
        finally:
            self._held[receiver.id] -= 1
        self._wake.set()

    async def _send_now(self, receiver: Receiver, claimed: Claimed) -> None:
        """Not when the lease is over, as for a process that was paused: somebody else has sent it by now."""
        if clock.now() >= claimed.lease_ends:
            return
        message_id = f"msg_{claimed.event_id}"
        headers = standard_webhooks.headers(message_id, clock.now(), claimed.body, receiver.keys)
        outcome = await outside.outbound.post(receiver.url, headers, claimed.body)
        self._results.append((receiver, claimed, outcome))

    async def _rest(self) -> None:
        """Until something was queued or sent, but no longer than until a failed one may be due again."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(_IDLE_SECONDS, settings.webhook_waits[0])):
                await self._wake.wait()
        await asyncio.sleep(_BATCH_SECONDS)


async def _claim(session: AsyncSession, wanted: tuple[Receiver, int]) -> list[Taken]:
    """Deliveries of one endpoint that is told cases; none of them when one cannot be read."""
    try:
        async with session.begin_nested():
            return await webhook_deliveries.claim(session, [wanted])
    except SealBroken as failure:
        endpoint_id = str(wanted[0].id)
        _log.error("worker_failed", part="webhooks", error=describe(failure), subject_id=endpoint_id)
        return []


async def _write_down(session: AsyncSession, results: Sequence[Result]) -> None:
    if results:
        await webhook_deliveries.finish(session, [(claimed, outcome) for _, claimed, outcome in results])
    for receiver, tries in _by_receiver(results):
        await webhook_deliveries.note_outcomes(session, receiver, tries)


def _by_receiver(results: Sequence[Result]) -> list[tuple[Receiver, list[tuple[Claimed, Outcome]]]]:
    found: dict[UUID, tuple[Receiver, list[tuple[Claimed, Outcome]]]] = {}
    for receiver, claimed, outcome in results:
        found.setdefault(receiver.id, (receiver, []))[1].append((claimed, outcome))
    return [found[key] for key in sorted(found)]
