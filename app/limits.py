"""How often one address and one caller may ask: fixed windows, in Redis when there are several servers.

Every answer says what is left in the `RateLimit` fields of draft-ietf-httpapi-ratelimit-headers.
"""

import ipaddress
import re
from collections.abc import MutableMapping
from dataclasses import dataclass
from functools import lru_cache
from math import ceil
from typing import Any, cast

import structlog
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from app import clock
from app.auth import Caller
from app.errors import TooManyRequests
from app.settings import Settings, settings

Scope = MutableMapping[str, Any]

_STANDING = "jincai.limits"
_SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}
_QUOTA = re.compile(r"([1-9][0-9]{0,8})/(second|minute|hour|day)")
_SWEEP_ABOVE = 10_000
_AWAY_SECONDS = 5.0
_REDIS_SECONDS = 1.0
_REDIS_CONNECTIONS = 16
_TURN_SECONDS = 5.0
_REDIS_SCRIPT = """
local used = redis.call('INCR', KEYS[1])
if used == 1 then redis.call('PEXPIRE', KEYS[1], ARGV[1]) end
return {used, redis.call('PTTL', KEYS[1])}
"""
_log = structlog.get_logger("limits")


@dataclass(frozen=True, slots=True)
class Quota:
    """So many requests in so many seconds; the window opens with the first request."""

    name: str
    requests: int
    seconds: int
    policy: str

    @classmethod
    def parse(cls, name: str, text: str) -> "Quota":
        """`1200/minute`; ValueError for anything else."""
        match = _QUOTA.fullmatch(text)
        if match is None:
            raise ValueError(f"a rate limit is like 1200/minute, not {text}")
        requests, seconds = int(match[1]), _SECONDS[match[2]]
        return cls(name, requests, seconds, f'"{name}";q={requests};w={seconds}')


class Limiter:
    """The quotas of this deployment. Without Redis, or while it is away, each process counts for itself."""

    def __init__(self, chosen: Settings) -> None:
        self._address = Quota.parse("address", chosen.rate_limit_address)
        self._caller = Quota.parse("caller", chosen.rate_limit_caller)
        self._trusted_proxies = chosen.trusted_proxies
        self._memory = _Memory()
        self._redis = _Shared(chosen.redis_url) if chosen.redis_url else None
        self._redis_away_until = 0.0
        self._redis_is_away = False

    async def count_address(self, scope: Scope) -> None:
        """Count one request of an address. 429 when it had enough."""
        address = network(client_address(scope, self._trusted_proxies))
        await self._count(scope, self._address, address)

    async def count_caller(self, scope: Scope, caller: Caller | None) -> None:
        """Count one request of a caller, if anybody is signed in. 429 when they had enough."""
        if caller is not None:
            quota = _own_quota(caller.rate_limit) if caller.rate_limit else self._caller
            await self._count(scope, quota, str(caller.id))

    async def close(self) -> None:
        """Give the connections to Redis back."""
        if self._redis is not None:
            await self._redis.close()

    async def _count(self, scope: Scope, quota: Quota, who: str) -> None:
        if self._redis is None:
            used, seconds_left = self._memory.hit(quota, who)
        else:
            used, seconds_left = await self._hit(self._redis, quota, who)
        reset = max(ceil(seconds_left), 1)
        standing = f'"{quota.name}";r={max(quota.requests - used, 0)};t={reset}'
        scope.setdefault(_STANDING, []).append((quota.policy, standing))
        if used > quota.requests:
            raise TooManyRequests(retry_after=reset, violated_policies=[quota.name])

    async def _hit(self, redis: "_Shared", quota: Quota, who: str) -> tuple[int, float]:
        if clock.monotonic() >= self._redis_away_until:
            try:
                hit = await redis.hit(quota, who)
            except (RedisError, OSError, TimeoutError) as failure:
                self._redis_went_away(failure)
            else:
                self._redis_answered()
                return hit
        return self._memory.hit(quota, who)

    def _redis_went_away(self, failure: Exception) -> None:
        self._redis_away_until = clock.monotonic() + _AWAY_SECONDS
        if not self._redis_is_away:
            self._redis_is_away = True
            _log.warning("rate_limits_local", error=type(failure).__name__)

    def _redis_answered(self) -> None:
        if self._redis_is_away:
            self._redis_is_away = False
            _log.info("rate_limits_shared")


@lru_cache(maxsize=1_000)
def _own_quota(text: str) -> Quota:
    return Quota.parse("key", text)


class _Memory:
    def __init__(self) -> None:
        self._windows: dict[tuple[str, str], tuple[int, float]] = {}
        self._sweep_above = _SWEEP_ABOVE

    def hit(self, quota: Quota, who: str) -> tuple[int, float]:
        now, key = clock.monotonic(), (quota.name, who)
        used, closes = self._windows.get(key, (0, 0.0))
        if closes <= now:
            used, closes = 0, now + quota.seconds
            self._make_room(now)
        self._windows[key] = (used + 1, closes)
        return used + 1, closes - now

    def _make_room(self, now: float) -> None:
        if len(self._windows) > self._sweep_above:
            self._windows = {key: window for key, window in self._windows.items() if window[1] > now}
            self._sweep_above = max(_SWEEP_ABOVE, 2 * len(self._windows))


class _Shared:
    def __init__(self, url: str) -> None:
        pool = BlockingConnectionPool.from_url(
            url,
            timeout=_TURN_SECONDS,
            socket_timeout=_REDIS_SECONDS,
            socket_connect_timeout=_REDIS_SECONDS,
            max_connections=_REDIS_CONNECTIONS,
            # Its own retries sleep for seconds; whoever asks would rather be counted here.
            retry=Retry(NoBackoff(), 1),
        )
        self._client = Redis.from_pool(pool)
        self._script = self._client.register_script(_REDIS_SCRIPT)

    async def hit(self, quota: Quota, who: str) -> tuple[int, float]:
        answer = await self._script([f"jincai:limit:{quota.name}:{who}"], [quota.seconds * 1000])
        used, milliseconds = cast(list[int], answer)
        return used, milliseconds / 1000

    async def close(self) -> None:
        await self._client.aclose()


def headers(scope: Scope) -> list[tuple[bytes, bytes]]:
    """What was counted in this request, for the answer."""
    counted: list[tuple[str, str]] = scope.get(_STANDING, [])
    if not counted:
        return []
    policies, standings = zip(*counted, strict=True)
    return [
        (b"ratelimit-policy", ", ".join(policies).encode()),
        (b"ratelimit", ", ".join(standings).encode()),
    ]


def client_address(scope: Scope, trusted_proxies: int) -> str:
    """Who is asking. `X-Forwarded-For` is believed only as far as our own proxies have written it."""
    client = scope.get("client")
    peer = str(client[0]) if client else "unknown"
    if not trusted_proxies:
        return peer
    forwarded = [
        entry.strip()
        for name, value in scope["headers"]
        if name == b"x-forwarded-for"
        for entry in value.decode("latin-1").split(",")
    ]
    if len(forwarded) < trusted_proxies or not _is_address(forwarded[-trusted_proxies]):
        return peer
    return str(forwarded[-trusted_proxies])


def _is_address(text: str) -> bool:
    return network(text) != ""


@lru_cache(maxsize=10_000)
def network(address: str) -> str:
    """What counts as one address: all of IPv4, of IPv6 the /64 that one subscriber has; empty for neither."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return ""
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    if parsed.ipv4_mapped:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((int(parsed) >> 64 << 64, 64)))


limiter = Limiter(settings)
