"""A key that ends in one server process ends in every other within a second."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import httpx
import pytest
from sqlalchemy import update
from starlette.types import ASGIApp

from app import clock
from app.db import Database
from app.models.api_keys import ApiKey
from app.models.staff import Role
from app.settings import settings
from tests.engines import environment
from tests.factories import Person, Places, make_staff
from tests.faults.programs import SERVER, Program, free_port

FEED = "/v1/events"
_START_SECONDS = 60.0
_PAUSE_SECONDS = 0.02


@pytest.fixture(scope="module")
async def servers(
    application: ASGIApp, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[list[httpx.AsyncClient]]:
    """Two servers on the database of this run."""
    folder = tmp_path_factory.mktemp("servers")
    ports = [free_port(), free_port()]
    programs = [_program(folder, port) for port in ports]
    async with contextlib.AsyncExitStack() as stack:
        for program in programs:
            stack.callback(program.kill)
            program.start()
        clients = [
            await stack.enter_async_context(
                httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30)
            )
            for port in ports
        ]
        for client, program in zip(clients, programs, strict=True):
            await _ready(client, program)
        yield clients


def _program(folder: Path, port: int) -> Program:
    chosen = environment(settings.database_url, folder / "media")
    return Program(SERVER, chosen | {"JINCAI_PORT": str(port)}, folder / f"{port}.log")


async def _ready(client: httpx.AsyncClient, program: Program) -> None:
    async with asyncio.timeout(_START_SECONDS):
        while True:
            assert program.is_running, program.said()
            with contextlib.suppress(httpx.TransportError):
                if (await client.get("/readyz")).status_code == 200:
                    return
            await asyncio.sleep(_PAUSE_SECONDS)


@pytest.fixture
async def admin(places: Places) -> Person:
    return await make_staff(Role.DISTRICT_ADMIN, places.district)


@pytest.fixture
async def make(
    servers: list[httpx.AsyncClient], admin: Person, places: Places
) -> Callable[..., Awaitable[dict[str, str]]]:
    """Make a key through the first server, and let both know it well."""

    async def made(**body: str) -> dict[str, str]:
        wanted = {"name": "x", "scopes": ["events:read"], "region_id": str(places.district)} | body
        answer = await servers[0].post("/v1/api-keys", headers=admin.headers, json=wanted)
        assert answer.status_code == 201, answer.text
        key: dict[str, str] = answer.json()
        for server in servers:
            assert await _status(server, key) == 200
        return key

    return made


async def _status(server: httpx.AsyncClient, key: dict[str, str]) -> int:
    return (await server.get(FEED, headers={"X-API-Key": key["key"]})).status_code


async def _ends(server: httpx.AsyncClient, key: dict[str, str], status: int = 401) -> float:
    """Seconds until the key is answered with `status`, asked again and again."""
    began = clock.monotonic()
    while await _status(server, key) != status:
        assert clock.monotonic() < began + 10
        await asyncio.sleep(_PAUSE_SECONDS)
    return clock.monotonic() - began


Made = Callable[..., Awaitable[dict[str, str]]]


async def test_a_revoked_key_is_dead_in_every_process(
    servers: list[httpx.AsyncClient], admin: Person, make: Made
) -> None:
    one, other = servers
    key = await make()
    answer = await one.post(f"/v1/api-keys/{key['id']}/revoke", headers=admin.headers)
    assert answer.status_code == 200
    assert await _ends(other, key) < 1
    assert await _status(one, key) == 401


async def test_a_rotation_without_overlap_ends_the_old_key_in_every_process(
    servers: list[httpx.AsyncClient], admin: Person, make: Made
) -> None:
    one, other = servers
    old = await make()
    path = f"/v1/api-keys/{old['id']}/rotate"
    new = (await one.post(path, headers=admin.headers, json={"overlap_hours": 0})).json()
    assert await _ends(other, old) < 1
    assert [await _status(server, new) for server in servers] == [200, 200]
    assert await _status(one, old) == 401


async def test_an_overlap_ends_everywhere_at_its_time(servers: list[httpx.AsyncClient], make: Made) -> None:
    at = clock.now() + timedelta(seconds=1)
    key = await make(expires_at=at.isoformat())
    await asyncio.gather(*(_ends(server, key) for server in servers))
    assert at <= clock.now() < at + timedelta(seconds=1)


@pytest.mark.parametrize("narrowed", [{"scopes": []}, {"addresses": ["203.0.113.0/28"]}])
async def test_what_a_key_may_is_no_older_than_a_second(
    servers: list[httpx.AsyncClient], db: Database, make: Made, narrowed: dict[str, list[str]]
) -> None:
    key = await make()
    async with db.transaction() as session:
        await session.execute(update(ApiKey).where(ApiKey.id == UUID(key["id"])).values(narrowed))
    assert await _ends(servers[1], key, 403) < 1
