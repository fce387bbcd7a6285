"""`jincai serve` and `jincai worker`: refusing to start with one clear line each, and starting from nothing."""

import asyncio
import base64
import json
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pyotp
import pytest
from typer.testing import CliRunner

from app import clock
from app.cli.commands import commands
from app.services.demo_accounts import PASSWORD, TOTP_SECRET
from app.settings import settings
from tests.cli.operator import ENTRY, KEY, PRODUCTION, environment, run, run_each
from tests.engines import new_database


def test_production_refuses_with_one_line_for_each_reason(tmp_path: Path) -> None:
    unsafe = PRODUCTION | {
        "JINCAI_PUBLIC_URL": "http://jincai.example.cn",
        "JINCAI_WECHAT_SECRET": "",
        "JINCAI_WECHAT_API_BASE": "https://wechat.example.com",
        "JINCAI_CLOCK_OFFSET_SECONDS": "60",
        "JINCAI_SEED": "demo",
    }
    del unsafe["JINCAI_SECRET_KEYS"]
    reasons = [
        "JINCAI_WECHAT_SECRET is not set",
        "JINCAI_SECRET_KEYS is the published development key",
        "JINCAI_WECHAT_API_BASE must be https://api.weixin.qq.com",
        "JINCAI_SEED must not be demo",
        "JINCAI_CLOCK_OFFSET_SECONDS must be 0",
        "JINCAI_PUBLIC_URL must start with https://",
    ]
    served = run(tmp_path, unsafe, "serve")
    assert (served.code, served.out) == (1, "")
    assert served.err.splitlines() == [f"✘ {reason}" for reason in reasons]


def test_settings_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    ran = run(
        tmp_path,
        {
            "JINCAI_PORT": "hunter2",
            "JINCAI_DATABASE_URL": "mysql://root:hunter2@localhost/x",
            "JINCAI_SECRET_KEYS": f"{KEY},{KEY}",
            "JINCAI_RATE_LIMIT_CALLER": "many",
        },
        "serve",
    )
    assert ran.code == 1
    assert [line.partition(":")[0].removeprefix("✘ ") for line in ran.err.splitlines()] == [
        "JINCAI_PORT",
        "JINCAI_DATABASE_URL",
        "JINCAI_SECRET_KEYS",
        "JINCAI_RATE_LIMIT_CALLER",
    ]


def test_a_port_that_is_taken_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setattr(settings, "port", port)
        ran = CliRunner().invoke(commands, ["serve"])
    assert ran.exit_code == 1
    assert ran.stderr.startswith(f"✘ Cannot listen on 127.0.0.1:{port}: Address already in use.")


def test_a_strange_address_of_the_pictures_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "media_url", "ftp://elsewhere")
    ran = CliRunner().invoke(commands, ["serve"])
    wanted = "✘ JINCAI_MEDIA_URL: MEDIA_URL must start with file:/// or s3://\n"
    assert (ran.exit_code, ran.stderr) == (1, wanted)


async def test_a_newcomer_is_told_what_to_open_and_can_sign_in(
    tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    """From an empty folder to people who are signed in; then once more with what is there."""
    chosen = {"JINCAI_PORT": str(_free_port())}
    if pytestconfig.getoption("--engine") == "postgres":
        chosen["JINCAI_DATABASE_URL"] = new_database("newcomer")
    async with _serving(tmp_path, chosen) as (client, process):
        said = (tmp_path / "out").read_text()
        assert str(client.base_url) in said
        assert "sandbox in this process" in said
        for username, role in (("grid01", "grid_worker"), ("admin.jinjiang", "district_admin")):
            assert any(line.split()[:2] == [username, role] for line in said.splitlines())
        assert await _signs_in(client, "/v1/sessions/wechat", code="demo:lin")
        assert await _signs_in(client, "/v1/sessions/staff", username="grid01", password=PASSWORD)
        printed = _after(said, "code now: ")
        assert pyotp.TOTP(TOTP_SECRET).verify(printed, for_time=clock.now(), valid_window=4)
        code = pyotp.TOTP(TOTP_SECRET).at(clock.now())
        path = "/v1/sessions/staff"
        assert await _signs_in(client, path, username="system.admin", password=PASSWORD, totp=code)
        told = await asyncio.to_thread(run, tmp_path, chosen, "demo")
        assert told.code == 0, told.text
        assert "hazard.accepted, hazard.called\n" in told.out
        assert told.out.splitlines()[-1].endswith(" is closed.")
        await _end(process)
    async with _serving(tmp_path, chosen) as (client, process):
        regions = await client.get("/v1/regions", params={"level": "grid"})
        assert len(regions.json()["items"]) == 13
        # Killed, it would take the lines along that it was still gathering.
        await _end(process)
    events = [json.loads(line)["event"] for line in _records(tmp_path / "err")]
    assert "Application startup complete." in events


def test_nobody_starts_with_keys_that_the_database_does_not_know(tmp_path: Path) -> None:
    chosen = {
        "JINCAI_PORT": str(_free_port()),
        "JINCAI_DATABASE_URL": new_database("keys"),
        "JINCAI_SECRET_KEYS": KEY,
    }
    migrated, healthy = run_each(tmp_path, chosen, "migrate", "doctor")
    assert migrated.code == 0
    assert "written with" not in healthy.text
    other = "k2:" + base64.urlsafe_b64encode(b"o" * 32).decode().rstrip("=")
    for keys, reason in ((other, "The key k2 in JINCAI_SECRET_KEYS is not"), (f"a:{other[3:]}", "lacks.")):
        for ran in run_each(tmp_path, chosen | {"JINCAI_SECRET_KEYS": keys}, "serve", "worker", "seed"):
            assert ran.code == 1
            assert len(ran.err.splitlines()) == 1
            assert ran.err.startswith("✘ ")
            assert reason in ran.err
        (examined,) = run_each(tmp_path, chosen | {"JINCAI_SECRET_KEYS": keys}, "doctor")
        assert examined.code == 1
        assert reason in examined.out
        assert "Put the key back" in examined.out


async def test_the_sandbox_runs_on_its_own(tmp_path: Path) -> None:
    """And says what the service must be told to use it."""
    port = _free_port()
    said = tmp_path / "out"
    with said.open("wb") as out:
        process = subprocess.Popen(  # noqa: ASYNC220
            [sys.executable, "-c", ENTRY, "sandbox", "wechat", "--port", str(port), "--push-url", ""],
            cwd=tmp_path,
            env=environment({"PYTHONUNBUFFERED": "1"}),
            stdout=out,
        )
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
            await _until(client, "/_sandbox/calls", process, said)
            told = dict(line.strip().split("=", 1) for line in said.read_text().splitlines() if "=" in line)
            assert told["JINCAI_WECHAT_API_BASE"] == str(client.base_url).rstrip("/")
            query = {
                "appid": told["JINCAI_WECHAT_APPID"],
                "secret": told["JINCAI_WECHAT_SECRET"],
                "js_code": "demo:lin",
                "grant_type": "authorization_code",
            }
            answer = await client.get("/sns/jscode2session", params=query)
            assert "openid" in answer.json()
    finally:
        process.kill()
        process.wait()


async def _signs_in(client: httpx.AsyncClient, path: str, **order: str) -> bool:
    answer = await client.post(path, json=order)
    assert answer.status_code == 201, answer.text
    return True


async def _end(process: "subprocess.Popen[bytes]") -> None:
    process.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(process.wait, 20) == -signal.SIGTERM


@asynccontextmanager
async def _serving(
    folder: Path, chosen: dict[str, str]
) -> AsyncIterator[tuple[httpx.AsyncClient, "subprocess.Popen[bytes]"]]:
    """A server as `make serve` starts it, from when it answers until the block ends."""
    url = f"http://127.0.0.1:{chosen['JINCAI_PORT']}"
    with (folder / "out").open("wb") as out, (folder / "err").open("wb") as err:
        process = subprocess.Popen(  # noqa: ASYNC220
            [sys.executable, "-c", ENTRY, "serve"],
            cwd=folder,
            env=environment(chosen),
            stdout=out,
            stderr=err,
        )
    try:
        async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
            await _until(client, "/readyz", process, folder / "err")
            yield client, process
    finally:
        process.kill()
        process.wait()


async def _until(client: httpx.AsyncClient, path: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    """Wait until a path is answered well."""
    async with asyncio.timeout(60):
        while True:
            assert process.poll() is None, _text(log)
            try:
                if (await client.get(path)).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.1)


def _text(log: Path) -> str:
    return log.read_text("utf-8")


def _records(log: Path) -> list[str]:
    return [line for line in log.read_text().splitlines() if line.startswith("{")]


def _after(text: str, words: str) -> str:
    return text.partition(words)[2].split()[0]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
