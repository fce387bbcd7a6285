"""The access token of api.weixin.qq.com: one per process, fetched once however many callers wait."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

_RENEW_BEFORE_SECONDS = 300


@dataclass(frozen=True, slots=True)
class Token:
    """A token and the seconds it is good for from now on."""

    value: str = field(repr=False)
    expires_in: int


class TokenCache:
    """Keeps the token until 5 minutes before its end, when WeChat hands out the next one and takes both.

    Other processes may keep their own: `stable_token` gives all of them the same one.
    """

    def __init__(self, fetch: Callable[[], Awaitable[Token]], monotonic: Callable[[], float]) -> None:
        self._fetch = fetch
        self._monotonic = monotonic
        self._value = ""
        self._renew_at = self._dead_at = float("-inf")
        self._renewal: asyncio.Task[str] | None = None

    async def get(self) -> str:
        """The token in use. One that is about to end is handed out while its successor is being fetched."""
        now = self._monotonic()
        if now >= self._renew_at:
            renewal = self._start_renewal()
            if now >= self._dead_at:
                return await asyncio.shield(renewal)
        return self._value

    def drop(self, rejected: str) -> None:
        """Forget the token that WeChat rejected, unless somebody has replaced it already."""
        if self._value == rejected:
            self._value = ""
            self._renew_at = self._dead_at = float("-inf")

    async def aclose(self) -> None:
        """End the renewal that may be under way: nobody waits for it any more."""
        if self._renewal is not None:
            self._renewal.cancel()
            await asyncio.gather(self._renewal, return_exceptions=True)

    def _start_renewal(self) -> asyncio.Task[str]:
        # A shared task, not a lock: a failure reaches all who wait, and one caller's cancellation none of them.
        if self._renewal is None or self._renewal.done():
            self._renewal = asyncio.create_task(self._renew())
            self._renewal.add_done_callback(_retrieve)
        return self._renewal

    async def _renew(self) -> str:
        asked_at = self._monotonic()
        token = await self._fetch()
        self._value = token.value
        self._dead_at = asked_at + token.expires_in
        self._renew_at = self._dead_at - _RENEW_BEFORE_SECONDS
        return token.value


def _retrieve(task: asyncio.Task[str]) -> None:
    """Mark a failure as seen, for the case that every caller has gone."""
    if not task.cancelled():
        task.exception()
