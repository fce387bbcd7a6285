"""One installation of the service for one test: a database with the people of a story, a server, and workers."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import httpx
from sqlalchemy import select
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from app import clock
from app.models.events import Event
from app.models.tasks import Task, TaskStatus
from tests.engines import environment
from tests.faults import cast
from tests.faults.programs import COMMAND, SERVER, Program, bytecode, free_port, run
from tests.stories import problem

# How fast it starts is judged by what it computes. Once, on a busy machine, it was not ready in a minute; why is not known.
_START_SECONDS = 180.0
_READINESS_SECONDS = 1.1
# Longer than anything that counts as waiting is put off; a machine that is shared does little in a minute.
_PATIENCE_SECONDS = 90.0
_PLENTY = "900000000/day"
_DRIVERS = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg"}


class Deployment:
    """A service whose processes a test starts, kills and starves; its settings are environment variables."""

    def __init__(self, folder: Path, database_url: str, people: str, **settings: str) -> None:
        port = free_port()
        self.folder = folder
        self.settings = {
            **environment(database_url, folder / "media"),
            "JINCAI_PORT": str(port),
            "JINCAI_RATE_LIMIT_ADDRESS": _PLENTY,
            "JINCAI_RATE_LIMIT_CALLER": _PLENTY,
            "JINCAI_MEDIA_DAILY_LIMIT": "100000",
            **bytecode(folder),
            **settings,
        }
        self.server = Program(SERVER, self.settings, folder / "server.log")
        self.workers: list[Program] = []
        self.client = httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30)
        self.story = cast.read(people, self.client)

    async def start(self) -> None:
        """Run the server, and wait until it is ready."""
        self.server.start()
        await self.ready()

    async def ready(self) -> float:
        """Wait for `/readyz` of a server that was just started; the seconds it computed until then."""
        async with asyncio.timeout(_START_SECONDS):
            while not await self._is_ready():
                assert self.server.is_running, self.server.said()
                await asyncio.sleep(0.05)
        return self.server.cpu_seconds()

    async def broken_parts(self) -> list[str]:
        """What `/readyz` says does not work. It looks once a second."""
        await asyncio.sleep(_READINESS_SECONDS)
        answer = await self.client.get("/readyz")
        return [] if answer.status_code == 200 else list(problem(answer, 503, "not_ready")["failed"])

    def add_worker(self, **settings: str) -> Program:
        """Run one more `jincai worker`."""
        log = self.folder / f"worker-{len(self.workers)}.log"
        worker = Program((*COMMAND, "worker"), self.settings | settings, log)
        self.workers.append(worker)
        worker.start()
        return worker

    async def caught_up(self) -> None:
        """Wait until every event has its place and no task is due or waits for another try, for as long as something changes."""
        before: list[str] = []
        deadline = 0.0
        while waiting := await self._waiting():
            if waiting != before:
                before, deadline = waiting, clock.monotonic() + _PATIENCE_SECONDS
            assert clock.monotonic() < deadline, waiting
            assert all(worker.is_running for worker in self.workers)
            await asyncio.sleep(0.3)

    async def verify(self, **settings: str) -> None:
        """`jincai verify` finds nothing."""
        code, said = await asyncio.to_thread(run, (*COMMAND, "verify"), self.settings | settings)
        assert code == 0, said

    def require_no_crash(self) -> None:
        """The server never met anything that it did not expect."""
        assert "unhandled_error" not in self.server.said(), self.server.said()

    @contextlib.asynccontextmanager
    async def session(self) -> AsyncIterator[AsyncSession]:
        """A look into the database, past the service; what it changes is committed."""
        url = make_url(self.settings["JINCAI_DATABASE_URL"])
        engine = create_async_engine(url.set(drivername=_DRIVERS[url.drivername]))
        try:
            async with AsyncSession(engine, expire_on_commit=False) as session:
                yield session
                await session.commit()
        finally:
            await engine.dispose()

    async def close(self) -> None:
        """End every process."""
        for program in (self.server, *self.workers):
            program.kill()
        await self.client.aclose()

    async def _waiting(self) -> list[str]:
        """What the workers still have to do."""
        soon = clock.now() + timedelta(minutes=1)
        async with self.session() as session:
            unplaced = await session.scalars(select(Event.type).where(Event.position.is_(None)))
            due = select(Task).where(Task.status == TaskStatus.QUEUED, Task.run_at < soon)
            return [*unplaced, *(_told(task) for task in await session.scalars(due))]

    async def _is_ready(self) -> bool:
        with contextlib.suppress(httpx.TransportError):
            return (await self.client.get("/readyz", timeout=5)).status_code == 200
        return False


def _told(task: Task) -> str:
    return f"{task.kind} due {task.run_at} after {task.attempts} attempts, held until {task.lease_until}: {task.last_error}"
