"""From an `X-API-Key` header to a caller, cached for half a second and forgotten when the key is revoked."""

import asyncio
import contextlib
import hmac
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from ipaddress import ip_address, ip_network
from uuid import UUID

import structlog
from sqlalchemy import select, update

from app import api_key_format, clock
from app.auth import Caller
from app.db import database, insert
from app.errors import Forbidden, Unauthenticated, Unavailable
from app.keys import keyring
from app.leases import describe
from app.models.api_keys import ApiKey, ApiKeyUse
from app.models.sessions import PrincipalKind
from app.signals import signals

_CACHE_SECONDS = 0.5
_CACHE_SIZE = 1_000
_FLUSH_SECONDS = 5.0
_log = structlog.get_logger("keys")


class AddressNotAllowed(Forbidden):
    """The key is bound to networks, and this is none of them."""

    code = "address_not_allowed"
    title_en, title_zh = "This key may not be used from this address", "该密钥不允许从此地址使用"


class Uses:
    """Counts uses in memory and writes them together: a hot row per request would be the slowest part of it.

    What was counted in the last seconds before a kill -9 is lost; limits and revocation do not depend on it.
    """

    def __init__(self) -> None:
        self._counts: dict[UUID, int] = defaultdict(int)

    def count(self, key_id: UUID) -> None:
        """One request."""
        self._counts[key_id] += 1

    async def flush(self) -> None:
        """Add what was counted to the day's rows; what a database that is away does not take is kept for the next time."""
        counts, self._counts = self._counts, defaultdict(int)
        if not counts:
            return
        try:
            await self._add(counts)
        except (Unavailable, asyncio.CancelledError):
            for key_id, requests in counts.items():
                self._counts[key_id] += requests
            raise

    async def _add(self, counts: Mapping[UUID, int]) -> None:
        now, day = clock.now(), clock.today()
        async with database.transaction() as session:
            for key_id, requests in sorted(counts.items()):
                row = insert(ApiKeyUse).values(key_id=key_id, day=day, requests=requests)
                added = ApiKeyUse.requests + requests
                await session.execute(
                    row.on_conflict_do_update(index_elements=["key_id", "day"], set_={"requests": added})
                )
                await session.execute(update(ApiKey).where(ApiKey.id == key_id).values(last_used_at=now))


uses = Uses()


@contextlib.asynccontextmanager
async def counting() -> AsyncIterator[None]:
    """Write the uses down every few seconds, and once more at the end."""
    writing = asyncio.create_task(_write_down())
    try:
        yield
    finally:
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
        await uses.flush()


async def _write_down() -> None:
    while True:
        await asyncio.sleep(_FLUSH_SECONDS)
        try:
            await uses.flush()
        except Unavailable:
            continue
        except Exception as failure:
            _log.error("key_uses_lost", error=describe(failure))


@dataclass(frozen=True, slots=True)
class _Known:
    caller: Caller
    digest: str
    addresses: tuple[str, ...]
    expires_at: datetime | None


async def identify(text: str, address: str) -> Caller:
    """The caller behind a key, from an address that it allows; 401 for anything that is not a live key."""
    name_part = api_key_format.name_part_of(text)
    if name_part is None:
        raise Unauthenticated
    known = _cached(name_part) or await _look_up(name_part)
    if known is None or not any(
        hmac.compare_digest(known.digest, each) for each in keyring.token_digests(text)
    ):
        raise Unauthenticated
    if known.expires_at is not None and known.expires_at <= clock.now():
        raise Unauthenticated
    if known.addresses and not _is_within(address, known.addresses):
        raise AddressNotAllowed
    uses.count(known.caller.id)
    return known.caller


_cache: dict[str, tuple[float, _Known]] = {}


def _cached(name_part: str) -> _Known | None:
    found = _cache.get(name_part)
    return found[1] if found is not None and found[0] > clock.monotonic() else None


async def _look_up(name_part: str) -> _Known | None:
    # From here on and not from the answer: a key may be revoked between the two, and nobody tells us again.
    known_until = clock.monotonic() + _CACHE_SECONDS
    async with database.reading() as session:
        key = await session.scalar(
            select(ApiKey).where(ApiKey.name_part == name_part, ApiKey.revoked_at.is_(None))
        )
    if key is None:
        return None
    caller = Caller(
        PrincipalKind.API_KEY,
        key.id,
        api_scopes=frozenset(key.scopes),
        api_region_id=key.region_id,
        rate_limit=key.rate_limit,
    )
    known = _Known(caller, key.digest, tuple(key.addresses), key.expires_at)
    if len(_cache) >= _CACHE_SIZE:
        _cache.clear()
    _cache[name_part] = (known_until, known)
    return known


def _forget(heard: str) -> None:
    name, _, principal_id = heard.partition(":")
    if name == "caller":
        changed = UUID(principal_id)
        for part in [part for part, (_, known) in _cache.items() if known.caller.id == changed]:
            _cache.pop(part, None)


signals.listen(_forget)


def _is_within(address: str, networks: Sequence[str]) -> bool:
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    parsed = getattr(parsed, "ipv4_mapped", None) or parsed
    return any(parsed in network for network in map(_parsed, networks) if network.version == parsed.version)


_parsed = lru_cache(maxsize=1_000)(ip_network)
