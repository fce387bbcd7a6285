"""Workers as processes that are killed, stopped and told to go: every effect happens once."""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from starlette.types import ASGIApp

from app.ids import new_id
from tests.worker.programs import EFFECT
from tests.worker.workshop import Nursery, effects, enqueue, has_ended, is_done, leased, until

pytestmark = pytest.mark.slow

_LEASE = 1.5
_FOREVER = 3600


@pytest.fixture(scope="module")
def nursery(application: ASGIApp) -> Iterator[Nursery]:
    """What forks workers."""
    made = Nursery(_LEASE)
    yield made
    made.close()


async def _enqueue(count: int) -> str:
    run = str(new_id())
    await enqueue(EFFECT, [{"run": run, "n": n} for n in range(count)])
    return run


async def test_three_workers_one_killed_with_leases_in_its_hands(nursery: Nursery, tmp_path: Path) -> None:
    run = await _enqueue(200)
    doomed = nursery.start(_FOREVER, tmp_path / "doomed")
    await until(lambda: _holds(8))
    others = [nursery.start(0.01, tmp_path / name) for name in ("second", "third")]
    await until(lambda: _has_effects(run, 20))
    os.kill(doomed, signal.SIGKILL)
    await until(lambda: is_done(EFFECT))
    await _send_home(*others)
    assert await effects(run) == Counter(range(200))


async def test_a_worker_that_slept_through_its_lease_has_no_effect(nursery: Nursery, tmp_path: Path) -> None:
    run, log = await _enqueue(1), tmp_path / "sleeper"
    sleeper = nursery.start(1.0, log)
    await until(lambda: _holds(1))
    os.kill(sleeper, signal.SIGSTOP)
    await asyncio.sleep(2 * _LEASE)
    quick = nursery.start(0, tmp_path / "quick")
    await until(lambda: is_done(EFFECT))
    await _send_home(quick)
    os.kill(sleeper, signal.SIGCONT)
    await until(lambda: _says(log, "lease_lost"))
    assert await effects(run) == Counter({0: 1})
    await enqueue(EFFECT, [{"run": run, "n": 1}])
    await until(lambda: is_done(EFFECT))
    await _send_home(sleeper)
    assert await effects(run) == Counter({0: 1, 1: 1})


async def test_a_worker_that_is_told_to_go_ends_what_it_began(nursery: Nursery, tmp_path: Path) -> None:
    run = await _enqueue(3)
    leaver = nursery.start(0.7, tmp_path / "leaver")
    await until(lambda: _holds(3))
    await _send_home(leaver)
    assert await effects(run) == Counter(range(3))
    assert await leased(EFFECT) == 0


async def _send_home(*workers: int) -> None:
    for pid in workers:
        os.kill(pid, signal.SIGTERM)
    for pid in workers:
        await until(partial(has_ended, pid))


async def _holds(count: int) -> bool:
    return await leased(EFFECT) == count


async def _has_effects(run: str, count: int) -> bool:
    return (await effects(run)).total() >= count


async def _says(log: Path, word: str) -> bool:
    return word in await asyncio.to_thread(log.read_text)
