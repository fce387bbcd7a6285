"""Workers as processes that are killed, stopped and told to go: every effect happens once."""

import asyncio
import signal
from collections import Counter
from pathlib import Path

import pytest

from app.db import Database
from app.ids import new_id
from tests.worker.programs import EFFECT
from tests.worker.workshop import effects, enqueue, is_done, leased, until, worker_process

pytestmark = pytest.mark.slow

_LEASE = 1.5
_FOREVER = 3600


async def _enqueue(count: int) -> str:
    run = str(new_id())
    await enqueue(EFFECT, [{"run": run, "n": n} for n in range(count)])
    return run


async def test_three_workers_one_killed_with_leases_in_its_hands(db: Database) -> None:
    run = await _enqueue(200)
    with worker_process(_FOREVER, lease=_LEASE) as doomed:
        await until(lambda: _holds(8))
        with worker_process(0.01, lease=_LEASE), worker_process(0.01, lease=_LEASE):
            await until(lambda: _has_effects(run, 20))
            doomed.kill()
            await until(lambda: is_done(EFFECT))
    assert await effects(run) == Counter(range(200))


async def test_a_worker_that_slept_through_its_lease_has_no_effect(db: Database, tmp_path: Path) -> None:
    run, log = await _enqueue(1), tmp_path / "log"
    with worker_process(1.0, lease=_LEASE, log=log) as sleeper:
        await until(lambda: _holds(1))
        sleeper.send_signal(signal.SIGSTOP)
        await asyncio.sleep(2 * _LEASE)
        with worker_process(0, lease=_LEASE):
            await until(lambda: is_done(EFFECT))
        sleeper.send_signal(signal.SIGCONT)
        await until(lambda: _says(log, "lease_lost"))
        assert await effects(run) == Counter({0: 1})
        await enqueue(EFFECT, [{"run": run, "n": 1}])
        await until(lambda: is_done(EFFECT))
    assert await effects(run) == Counter({0: 1, 1: 1})


async def test_a_worker_that_is_told_to_go_ends_what_it_began(db: Database) -> None:
    run = await _enqueue(3)
    with worker_process(0.7, lease=_LEASE) as leaver:
        await until(lambda: _holds(3))
        leaver.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(leaver.wait, 60) == 0
    assert await effects(run) == Counter(range(3))
    assert await leased(EFFECT) == 0


async def _holds(count: int) -> bool:
    return await leased(EFFECT) == count


async def _has_effects(run: str, count: int) -> bool:
    return (await effects(run)).total() >= count


async def _says(log: Path, word: str) -> bool:
    return word in await asyncio.to_thread(log.read_text)
