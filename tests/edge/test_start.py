"""Starting and stopping the server as an operator does, in a process of its own."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from starlette.types import ASGIApp

from app import edge
from app.limits import Limiter
from app.main import create_app
from app.settings import Settings, settings
from tests.conftest import new_client
from tests.engines import environment, new_database
from tests.factories import Places, make_resident

SERVE = "from app.server import serve; serve()"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("clock_offset_seconds", 60.0),
        ("wechat_api_base", "https://wechat.example.com"),
        ("public_url", "http://a.cn"),
    ],
)
def test_production_does_not_start_unsafe(monkeypatch: pytest.MonkeyPatch, name: str, value: object) -> None:
    monkeypatch.setattr(settings, "env", "prod")
    monkeypatch.setattr(settings, name, value)
    with pytest.raises(SystemExit) as refusal:
        create_app()
    first, *lines = str(refusal.value).splitlines()
    assert first == "jincai refuses to start:"
    assert any(line.startswith(f"JINCAI_{name.upper()} must ") for line in lines)
    assert "JINCAI_WECHAT_SECRET is not set" in lines
    assert "JINCAI_SECRET_KEYS is the published development key" in lines


async def test_the_server_says_what_is_odd_and_stops_when_told(tmp_path: Path) -> None:
    async with _server(tmp_path, new_database("start")) as (client, process):
        assert (await client.get("/readyz")).status_code == 200
        assert (await client.get("/_wechat/_sandbox/calls")).status_code == 200
        process.send_signal(signal.SIGTERM)
        await asyncio.wait_for(asyncio.to_thread(process.wait), 10)
    records = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    events = {record["event"]: record for record in records}
    assert events["sandbox_wechat"]["url"].endswith("/_wechat")
    assert all({"time", "level", "logger", "event"} <= record.keys() for record in records)
    assert "request" in events
    assert process.returncode == -signal.SIGTERM


async def test_a_database_that_is_away_is_no_reason_not_to_start(tmp_path: Path) -> None:
    nobody_there = f"postgresql://jincai@127.0.0.1:{_free_port()}/jincai"
    async with _server(tmp_path, nobody_there) as (client, _):
        assert (await client.get("/readyz")).json()["failed"] == ["database"]
        answer = await client.get("/v1/regions")
        assert answer.status_code == 503
        assert "Retry-After" in answer.headers
        assert (await client.get("/healthz")).status_code == 200
        assert "jincai_database_up 0.0" in (await client.get("/metrics")).text


async def test_quotas_are_kept_at_the_edge(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = Settings(rate_limit_address="3/minute", trusted_proxies=1)
    monkeypatch.setattr(edge, "limiter", Limiter(chosen))
    statuses = [(await client.get("/nothing")).status_code for _ in range(5)]
    assert statuses == [404, 404, 404, 429, 429]
    refused = await client.get("/nothing")
    assert refused.json()["code"] == "too_many_requests"
    assert 1 <= int(refused.headers["Retry-After"]) <= 60
    assert '"address";r=0;' in refused.headers["RateLimit"]
    assert (await client.get("/nothing", headers={"X-Forwarded-For": "203.0.113.5"})).status_code == 404
    assert (await client.get("/healthz")).status_code == 200


async def test_browsers_are_let_in_when_configured(
    application: ASGIApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    origin = "https://admin.example.com"
    monkeypatch.setattr(settings, "cors_origins", f"https://other.example.com, {origin}")
    async with new_client(create_app()) as client:
        ask = {"Origin": origin, "Access-Control-Request-Method": "PUT"}
        allowed = await client.options("/v1/me", headers=ask)
        assert allowed.headers["Access-Control-Allow-Origin"] == origin
        assert "X-Request-Id" in allowed.headers
        refused = await client.options("/v1/me", headers=ask | {"Origin": "https://evil.example.com"})
        assert "Access-Control-Allow-Origin" not in refused.headers
        plain = await client.get("/v1/me", headers={"Origin": origin})
        assert plain.headers["Access-Control-Allow-Origin"] == origin
        assert "RateLimit" in plain.headers["Access-Control-Expose-Headers"]


async def test_browsers_are_kept_out_otherwise(client: httpx.AsyncClient, places: Places) -> None:
    resident = await make_resident(places.community)
    answer = await client.get("/v1/me", headers={**resident.headers, "Origin": "https://admin.example.com"})
    assert answer.status_code == 200
    assert "Access-Control-Allow-Origin" not in answer.headers


@asynccontextmanager
async def _server(
    folder: Path, database_url: str
) -> AsyncIterator[tuple[httpx.AsyncClient, subprocess.Popen[bytes]]]:
    """A server process with this database; its log is in `folder/log`."""
    port = _free_port()
    chosen = environment(database_url, folder / "media") | {"JINCAI_PORT": str(port)}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(  # noqa: ASYNC220
            [sys.executable, "-c", SERVE], env=os.environ | chosen, stderr=log
        )
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=15) as client:
            await _answering(client, process)
            yield client, process
    finally:
        process.kill()
        process.wait()


async def _answering(client: httpx.AsyncClient, process: subprocess.Popen[bytes]) -> None:
    async with asyncio.timeout(30):
        while process.poll() is None:
            try:
                await client.get("/healthz")
            except httpx.TransportError:
                await asyncio.sleep(0.1)
            else:
                return
    pytest.fail("the server did not start")


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port
