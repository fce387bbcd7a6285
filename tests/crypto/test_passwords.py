"""Passwords: argon2id at the promised cost, a bounded number at once, and which ones are refused."""

import asyncio
import math
import threading
import time
from importlib.resources import files

import argon2
import pytest
from argon2.exceptions import InvalidHashError

from app.errors import InvalidInput
from app.passwords import MAX_LENGTH, Argon2Threads, Busy, require_strong

GOOD = "maple-Leaf-über-42"


@pytest.fixture(scope="module")
def pool() -> Argon2Threads:
    return Argon2Threads()


async def test_a_hash_is_argon2id_at_least_as_costly_as_promised(pool: Argon2Threads) -> None:
    stored = await pool.hash(GOOD)
    parameters = argon2.extract_parameters(stored)
    assert parameters.type is argon2.Type.ID
    assert parameters.memory_cost >= 19 * 1024
    assert parameters.time_cost >= 2
    assert (parameters.salt_len, parameters.hash_len) == (16, 32)
    assert not pool.needs_rehash(stored)
    assert await pool.hash(GOOD) != stored


async def test_only_the_right_password_fits(pool: Argon2Threads) -> None:
    stored = await pool.hash(GOOD)
    assert await pool.verify(stored, GOOD)
    assert await pool.verify(stored, "maple-Leaf-u\u0308ber-42"), "the same letters typed on another keyboard"
    assert not await pool.verify(stored, GOOD + " ")
    assert not await pool.verify(stored, GOOD.lower())
    assert not await pool.verify(stored, "\ud800")
    assert not await pool.verify(stored, "")


async def test_weaker_parameters_ask_for_a_rehash(pool: Argon2Threads) -> None:
    weak = argon2.PasswordHasher(time_cost=1, memory_cost=8192, parallelism=1).hash(GOOD)
    assert pool.needs_rehash(weak)
    assert await pool.verify(weak, GOOD)


async def test_a_damaged_hash_is_an_error_and_not_a_wrong_password(pool: Argon2Threads) -> None:
    with pytest.raises(InvalidHashError):
        await pool.verify("plain text", GOOD)


async def test_an_unknown_user_costs_as_much_as_a_known_one(pool: Argon2Threads) -> None:
    stored = await pool.hash(GOOD)
    assert argon2.extract_parameters(pool._unknown) == argon2.extract_parameters(stored)
    cheapest: dict[str | None, float] = {None: math.inf, stored: math.inf}
    for candidate in [None, stored] * 6:
        begin = time.process_time()
        assert await pool.verify(candidate, "wrong-password") is False
        cheapest[candidate] = min(cheapest[candidate], time.process_time() - begin)
    assert 0.4 < cheapest[None] / cheapest[stored] < 2.5


async def test_more_than_the_waiting_line_holds_is_refused_at_once() -> None:
    small = Argon2Threads(threads=1, waiting=2)
    stored = await small.hash(GOOD)
    answers = await asyncio.gather(*(small.verify(stored, GOOD) for _ in range(8)), return_exceptions=True)
    assert answers[:3] == [True, True, True]
    assert all(isinstance(answer, Busy) and answer.retry_after for answer in answers[3:])
    assert await small.verify(stored, GOOD), "the places are free again"


async def test_no_more_threads_than_allowed_work_at_once() -> None:
    wide = Argon2Threads(threads=2, waiting=20)
    working, most, lock = 0, 0, threading.Lock()

    def work() -> None:
        nonlocal working, most
        with lock:
            working += 1
            most = max(most, working)
        time.sleep(0.005)
        with lock:
            working -= 1

    await asyncio.gather(*(wide._run(work) for _ in range(12)))
    assert most == 2


async def test_hanging_up_does_not_free_a_place_that_is_still_in_use() -> None:
    single = Argon2Threads(threads=1, waiting=0)
    started, release = threading.Event(), threading.Event()

    def work() -> bool:
        started.set()
        return release.wait(10)

    caller = asyncio.ensure_future(single._run(work))
    await asyncio.to_thread(started.wait, 10)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    with pytest.raises(Busy):
        await single.verify(None, GOOD)
    release.set()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            assert await single.verify(None, GOOD) is False
            return
        except Busy:
            await asyncio.sleep(0.01)
    pytest.fail("the place was never freed")


async def test_a_full_line_does_not_hold_up_the_event_loop(pool: Argon2Threads) -> None:
    verifying = asyncio.gather(*(pool.verify(None, GOOD) for _ in range(4)))
    turns = 0
    while not verifying.done():
        await asyncio.sleep(0.001)
        turns += 1
    assert turns > 5


_LONG = "quiet teapots on a violet harbour wall, 27 of them and one lantern" + "-Q7x" * 15 + "-b"
assert len(_LONG) == MAX_LENGTH


def test_ones_own_name_is_guessable() -> None:
    with pytest.raises(InvalidInput) as refused:
        require_strong("zhangwei0516", "grid.li", display_name="Zhangwei")
    assert refused.value.fields[0].code == "password_too_common"


def refusal(password: str, username: str = "grid.li") -> str | None:
    """The code that a new password is refused with, or None."""
    try:
        require_strong(password, username)
    except InvalidInput as error:
        return error.fields[0].code
    return None


@pytest.mark.parametrize(
    ("password", "code"),
    [
        (GOOD, None),
        ("枫叶社区的老槐树开花了", None),
        ("x" * 3 + "9-Quiet", None),
        ("tiny-9-Qx", "password_too_short"),
        ("", "password_too_short"),
        ("u\u0308" * 5 + "-9Qx", "password_too_short"),
        (_LONG, None),
        (_LONG[:-1], None),
        (_LONG + "c", "password_too_long"),
        ("woaini1314", "password_too_common"),
        ("WoAiNi1314", "password_too_common"),
        ("Password123!", "password_too_common"),
        ("ｐａｓｓｗｏｒｄ123", "password_too_common"),
        ("1qaz2wsx3edc", "password_too_common"),
        ("a123456789", "password_too_common"),
        ("5201314520", "password_too_common"),
        ("Zhang123456", "password_too_common"),
        ("Jincai@2025", "password_too_common"),
        ("12345678901234", "password_too_common"),
        ("aaaaaaaaaaaaaaaa", "password_too_common"),
        ("abcdefghijklmnop", "password_too_common"),
        ("qwertyuiopasdf", "password_too_common"),
        ("q7-" * 40, "password_too_common"),
        ("my-Grid.Li-2031", "password_contains_username"),
    ],
)
def test_what_a_password_must_not_be(password: str, code: str | None) -> None:
    assert refusal(password) == code


def test_a_refusal_points_at_its_field_and_does_not_repeat_the_password() -> None:
    with pytest.raises(InvalidInput) as caught:
        require_strong("woaini1314", "li", loc=("body", "new_password"))
    assert [field.loc for field in caught.value.fields] == [("body", "new_password")]
    assert "woaini1314" not in repr((caught.value, caught.value.fields))


def test_a_very_short_user_name_may_occur_in_a_password() -> None:
    assert refusal("olive-tree-77", username="li") is None
    assert refusal("olive-tree-77", username="oli") == "password_contains_username"


def test_every_packaged_password_is_refused_and_could_have_been_chosen() -> None:
    lines = files("app").joinpath("data", "common_passwords.txt").read_text(encoding="utf-8").splitlines()
    listed = [line for line in lines if not line.startswith("#")]
    assert len(listed) == len(set(listed)) >= 3000
    assert listed == sorted(listed)
    assert all(10 <= len(password) <= MAX_LENGTH for password in listed)
    assert {refusal(password, username="") for password in listed} == {"password_too_common"}
    assert {refusal(password.upper(), username="") for password in listed} == {"password_too_common"}
