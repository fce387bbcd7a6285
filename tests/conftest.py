"""What every test can ask for: the application as it runs, its database, and a client."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import httpx
import pytest
from starlette.types import ASGIApp, Message

from app.db import Database, database
from app.main import app
from app.services import seeding
from app.settings import settings
from tests.factories import Places, make_regions

_addresses = itertools.count(1)


@pytest.fixture(scope="session")
async def application() -> AsyncIterator[ASGIApp]:
    """The application, started, with regions, organisations and categories of the demo district in its database."""
    async with _lifespan(app):
        async with database.transaction() as session:
            await seeding.import_reference(session)
        yield app


@pytest.fixture
def db(application: ASGIApp) -> Database:
    """The open database. Rows of other tests may be in it: look at your own."""
    return database


@pytest.fixture
async def client(application: ASGIApp) -> AsyncIterator[httpx.AsyncClient]:
    """A client at an address of its own, so that no test spends the quota of another."""
    async with new_client(application) as made:
        yield made


@pytest.fixture
async def places(application: ASGIApp) -> Places:
    """A small tree of regions for this test alone."""
    return await make_regions()


@pytest.fixture
def advance(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Move the clock of the application by so many seconds, back if negative."""

    def move(seconds: float) -> None:
        monkeypatch.setattr(settings, "clock_offset_seconds", settings.clock_offset_seconds + seconds)

    return move


def new_client(application: ASGIApp, address: str | None = None) -> httpx.AsyncClient:
    """A client at this address, or at one that nobody else has."""
    number = next(_addresses)
    source = address or f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
    transport = httpx.ASGITransport(application, client=(source, 40_000))
    return httpx.AsyncClient(transport=transport, base_url="http://testserver")


@asynccontextmanager
async def _lifespan(application: ASGIApp) -> AsyncIterator[None]:
    """Start the application as a server would, and stop it in the end."""
    orders: asyncio.Queue[Message] = asyncio.Queue()
    answers: asyncio.Queue[Message] = asyncio.Queue()
    running = asyncio.ensure_future(application({"type": "lifespan"}, orders.get, answers.put))

    async def order(phase: str) -> None:
        await orders.put({"type": f"lifespan.{phase}"})
        answer = await answers.get()
        assert answer["type"] == f"lifespan.{phase}.complete", answer

    await order("startup")
    yield
    await order("shutdown")
    await running
