"""The webhook drill: receivers that fail in every way, workers that are killed and paused; what must be true after."""

import asyncio
import json
import os
import random
import signal
import sys
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import standardwebhooks

from tests.engines import environment, new_database

_DOWN_SECONDS, _PERIOD_SECONDS = 2.0, 5.0
_SERVER_ERRORS, _RESETS = 0.2, 0.05


@dataclass(frozen=True, slots=True)
class Size:
    """How much of everything. `seconds` is the time until all must have arrived."""

    events: int
    subjects: int
    endpoints: int
    kills: int
    pauses: int
    lease_seconds: float
    seconds: float


@dataclass(slots=True)
class Unreliable:
    """A receiver: what it accepted, in order; how often it cut the line after that; which signatures were wrong."""

    sometimes_down: bool
    secret: str = ""
    accepted: list[tuple[str, str, int]] = field(default_factory=list)
    resets: int = 0
    unverified: int = 0
    port: int = 0

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        async with server:
            yield

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._answer(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.sometimes_down and time.monotonic() % _PERIOD_SECONDS < _DOWN_SECONDS:
            writer.transport.abort()
            return
        lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = await reader.readexactly(int(headers["content-length"]))
        if random.random() < _SERVER_ERRORS:
            writer.write(b"HTTP/1.1 503 X\r\nContent-Length: 0\r\n\r\n")
            return
        self._accept(headers, body)
        if random.random() < _RESETS:
            self.resets += 1
            writer.transport.abort()
            return
        writer.write(b"HTTP/1.1 204 X\r\n\r\n")

    def _accept(self, headers: dict[str, str], body: bytes) -> None:
        try:
            data = standardwebhooks.Webhook(self.secret).verify(body, headers)["data"]
        except standardwebhooks.WebhookVerificationError:
            self.unverified += 1
            return
        self.accepted.append((headers["webhook-id"], data["subject"]["id"], data["seq"]))

    @property
    def repeats(self) -> int:
        """How often something came that had come before."""
        return len(self.accepted) - len(set(self.accepted))

    def out_of_order(self) -> list[str]:
        """Subjects whose numbers did not first arrive as 1, 2, 3 and so on."""
        seen: dict[str, list[int]] = defaultdict(list)
        for _, subject, seq in self.accepted:
            if seq not in seen[subject]:
                seen[subject].append(seq)
        return [subject for subject, found in seen.items() if found != list(range(1, len(found) + 1))]


@dataclass(slots=True)
class Report:
    """What came of it."""

    receivers: list[Unreliable]
    counts: dict[str, int]
    seconds: float


async def hold(size: Size, folder: Path) -> Report:
    """Run the drill on a database of its own, with two workers; one after the other is killed and paused."""
    began = time.monotonic()
    receivers = [Unreliable(sometimes_down=number == 0) for number in range(size.endpoints)]
    async with AsyncExitStack() as stack:
        for receiver in receivers:
            await stack.enter_async_context(receiver.listening())
        told = environment(new_database(f"drill{os.getpid()}{random.randrange(10**6)}"), folder)
        env = os.environ | told | _SETTINGS | {"JINCAI_JOB_LEASE_SECONDS": str(size.lease_seconds)}
        driver = await _start(env, "-m", "tests.webhooks.drill_driver", piped=True)
        stack.push_async_callback(_end, driver)
        assert driver.stdin is not None
        assert driver.stdout is not None
        urls = [f"http://127.0.0.1:{receiver.port}/hook" for receiver in receivers]
        order = {
            "events": size.events,
            "subjects": size.subjects,
            "urls": urls,
            "seconds": size.seconds,
        }
        driver.stdin.write(json.dumps(order).encode())
        driver.stdin.close()
        secrets = json.loads(await driver.stdout.readline())
        for receiver, secret in zip(receivers, secrets, strict=True):
            receiver.secret = secret
        workers = [await _worker(env, stack) for _ in range(2)]
        faults = asyncio.create_task(_disturb(size, workers, env, stack))
        counts = json.loads(await driver.stdout.readline())
        await faults
    return Report(receivers, counts, time.monotonic() - began)


def assess(report: Report, size: Size) -> None:
    """Everything arrived, signed and in order, and hardly anything twice."""
    wanted = size.events * size.endpoints
    assert Counter(report.counts) == Counter({"delivered": wanted}), report.counts
    # What is under way when a worker is killed or overtaken may come twice: nobody can know that it arrived.
    lost_answers = (size.kills + size.pauses) * 8 * size.endpoints
    for receiver in report.receivers:
        assert len(set(receiver.accepted)) == size.events
        assert len({message_id for message_id, _, _ in receiver.accepted}) == size.events
        assert receiver.unverified == 0
        assert receiver.out_of_order() == []
    repeats = sum(receiver.repeats for receiver in report.receivers)
    resets = sum(receiver.resets for receiver in report.receivers)
    print(
        f"\n{wanted} deliveries in {report.seconds:.0f} s: {sum(len(each.accepted) for each in report.receivers)}"
        f" arrivals, {repeats} repeats of which {resets} after injected resets, {size.kills} kills, {size.pauses} pauses"
    )
    assert repeats - resets <= max(wanted * 0.01, lost_answers if wanted < 10_000 else 0)


_SETTINGS = {
    "JINCAI_WEBHOOK_ALLOW_CIDRS": "127.0.0.0/8",
    "JINCAI_WEBHOOK_RETRY_SECONDS": ",".join(["0.2", "0.4", *["1"] * 60]),
    "JINCAI_WORKER_POLL_SECONDS": "0.5",
}


async def _disturb(
    size: Size, workers: list[asyncio.subprocess.Process], env: dict[str, str], stack: AsyncExitStack
) -> None:
    for number in range(max(size.kills, size.pauses)):
        await asyncio.sleep(1.5)
        if number < size.kills:
            victim = workers.pop(0)
            victim.kill()
            await victim.wait()
            workers.append(await _worker(env, stack))
        if number < size.pauses:
            workers[0].send_signal(signal.SIGSTOP)
            await asyncio.sleep(2 * size.lease_seconds)
            workers[0].send_signal(signal.SIGCONT)


async def _worker(env: dict[str, str], stack: AsyncExitStack) -> asyncio.subprocess.Process:
    worker = await start_worker(env)
    stack.push_async_callback(_end, worker)
    return worker


async def start_worker(env: dict[str, str]) -> asyncio.subprocess.Process:
    """A worker of its own."""
    return await _start(env, "-c", "from app.worker import main; main()")


async def _start(env: dict[str, str], *arguments: str, piped: bool = False) -> asyncio.subprocess.Process:
    pipe = asyncio.subprocess.PIPE if piped else asyncio.subprocess.DEVNULL
    return await asyncio.create_subprocess_exec(
        sys.executable, *arguments, env=env, stdin=pipe, stdout=pipe, stderr=None
    )


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.kill()
    await process.wait()
