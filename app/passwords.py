"""Staff passwords: argon2id on a bounded number of threads, and what a password must not be (ASVS 5.0, 6.2)."""

import asyncio
import threading
import unicodedata
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from importlib.resources import files
from typing import TypeVar

from argon2 import PasswordHasher, Type
from argon2.exceptions import VerifyMismatchError
from zxcvbn import zxcvbn

from app.errors import InvalidInput, Unavailable

MIN_LENGTH, MAX_LENGTH = 10, 128
_MIN_USERNAME = 3
_GOOD_SCORE = 3
# The time that an estimate takes grows with the square of the length, and a good beginning is good enough.
_ESTIMATED = 32
_MEMORY_KIB, _PASSES, _LANES = 19_456, 2, 1
_THREADS, _WAITING = 4, 32

Result = TypeVar("Result")


class Busy(Unavailable):
    """Too many passwords are being checked at once."""

    code = "busy"
    title_en, title_zh = "Too many sign-ins at this moment, try again", "当前登录人数过多，请稍后再试"


class Argon2Threads:
    """Hashes and verifies off the event loop: at most `threads` at once (19 MiB each), `waiting` more in line."""

    def __init__(self, threads: int = _THREADS, waiting: int = _WAITING) -> None:
        self._hasher = PasswordHasher(_PASSES, _MEMORY_KIB, _LANES, type=Type.ID)
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="argon2")
        self._places = threading.BoundedSemaphore(threads + waiting)
        self._unknown = f"$argon2id$v=19$m={_MEMORY_KIB},t={_PASSES},p={_LANES}${'A' * 22}${'A' * 43}"

    async def hash(self, password: str) -> str:
        """The argon2id string to store. Raises Busy."""
        return await self._run(lambda: self._hasher.hash(_bytes(password)))

    async def verify(self, stored: str | None, password: str) -> bool:
        """Whether the password fits; None for an unknown user takes as long and is always false. Raises Busy."""
        fits = await self._run(lambda: self._fits(self._unknown if stored is None else stored, password))
        return fits and stored is not None

    def needs_rehash(self, stored: str) -> bool:
        """Whether a stored hash was made with other parameters than today's."""
        return self._hasher.check_needs_rehash(stored)

    def _fits(self, stored: str, password: str) -> bool:
        try:
            return self._hasher.verify(stored, _bytes(password))
        except VerifyMismatchError:
            return False

    async def _run(self, work: Callable[[], Result]) -> Result:
        if not self._places.acquire(blocking=False):
            raise Busy(retry_after=1)
        job = self._threads.submit(work)
        job.add_done_callback(self._leave)
        return await asyncio.wrap_future(job)

    def _leave(self, _job: Future[Result]) -> None:
        # Not in a finally of _run: a client that hangs up must not free the place of a thread still at work.
        self._places.release()


hashing = Argon2Threads()
"""The one pool of this process."""


def require_strong(
    password: str, username: str, loc: Sequence[str | int] = ("body", "password"), display_name: str = ""
) -> None:
    """Refuse a new password by length, for containing the user name, or as guessable. Raises InvalidInput.

    Takes up to 50 ms: call it on a thread.
    """
    plain = unicodedata.normalize("NFC", password)
    if len(plain) < MIN_LENGTH:
        raise InvalidInput.of(
            loc,
            "password_too_short",
            f"Use at least {MIN_LENGTH} characters",
            f"密码至少需要 {MIN_LENGTH} 个字符",
        )
    if len(plain) > MAX_LENGTH:
        raise InvalidInput.of(
            loc, "password_too_long", f"Use at most {MAX_LENGTH} characters", f"密码最多 {MAX_LENGTH} 个字符"
        )
    if len(username) >= _MIN_USERNAME and _folded(username) in _folded(password):
        raise InvalidInput.of(
            loc, "password_contains_username", "The password contains the user name", "密码中不能包含用户名"
        )
    if _folded(password) in _common_passwords() or _is_guessable(plain, username, display_name):
        raise InvalidInput.of(
            loc,
            "password_too_common",
            "This password is easy to guess; choose another one",
            "该密码过于常见或容易被猜到，请换一个",
        )


def _is_guessable(password: str, username: str, display_name: str) -> bool:
    """Repeats, sequences, keyboard rows, dates, words and names with the usual replacements, and mixtures of them."""
    begin = _folded(password)[:_ESTIMATED]
    return bool(zxcvbn(begin, [username, display_name])["score"] < _GOOD_SCORE)


def _bytes(password: str) -> bytes:
    return unicodedata.normalize("NFC", password).encode("utf-8", "surrogatepass")


def _folded(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()


@cache
def _common_passwords() -> frozenset[str]:
    lines = files("app").joinpath("data", "common_passwords.txt").read_text(encoding="utf-8").splitlines()
    return frozenset(line for line in lines if line and not line.startswith("#"))
