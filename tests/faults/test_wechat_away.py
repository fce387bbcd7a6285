"""WeChat is dead, slow or busy: only what needs it waits, and what waited is done when it is back."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from uuid import UUID

import httpx
import pytest
from sqlalchemy import select

from app import clock
from app.ids import new_id
from app.models.hazards import Hazard, PublicState
from app.models.media import Media, MediaReview
from app.models.tasks import Task
from app.sandbox.credentials import (
    SANDBOX_APPID,
    SANDBOX_PUSH_AES_KEY,
    SANDBOX_PUSH_TOKEN,
    SANDBOX_SECRET,
)
from tests.faults.conftest import Deploy
from tests.faults.deployment import Deployment
from tests.faults.journal import BEFORE
from tests.faults.programs import COMMAND, Program, free_port, wait_for_port
from tests.stories import Json, problem, upload
from tests.worker.workshop import until

pytestmark = pytest.mark.slow

_QUICK_SECONDS, _DEADLINE_SECONDS = 3.0, 10.0
_P95_SECONDS = 1.0
_LOGINS = 20
_ROUNDS = 15
_AN_HOUR = "3600"
_MINUTE_LIMIT = timedelta(seconds=60)
_SILENT: Json = {"delay_seconds": 60}
_BROKEN: Json = {"status": 500}
_BUSY: Json = {"errcode": -1}
_LIMITED: Json = {"errcode": 45011}


@pytest.mark.drill
async def test_whoever_signs_in_is_told_to_come_back(deploy: Deploy) -> None:
    async with _deployed(deploy) as (deployment, wechat):
        assert (await _sign_in(deployment)).status_code == 201
        for fault, seconds in (
            (_BROKEN, _QUICK_SECONDS),
            (_BUSY, _QUICK_SECONDS),
            (_SILENT, _DEADLINE_SECONDS),
        ):
            await wechat.disturb(fault)
            began = time.monotonic()
            refused = await _sign_in(deployment)
            problem(refused, 503, "wechat_unavailable")
            assert int(refused.headers["Retry-After"]) > 0
            assert time.monotonic() - began < seconds
        await wechat.disturb(_LIMITED)
        limited = await _sign_in(deployment)
        problem(limited, 429, "wechat_busy")
        assert int(limited.headers["Retry-After"]) == _MINUTE_LIMIT.total_seconds()
        wechat.program.kill()
        problem(await _sign_in(deployment), 503, "wechat_unavailable")
        wechat.start()
        assert (await _sign_in(deployment)).status_code == 201
        deployment.require_no_crash()


async def test_nobody_else_waits_and_nothing_is_forgotten(deploy: Deploy, drill: bool) -> None:
    async with _deployed(deploy) as (deployment, wechat):
        await wechat.disturb(_SILENT)
        logins = [asyncio.create_task(_sign_in(deployment)) for _ in range(_LOGINS)]
        await asyncio.sleep(0.5)
        filed = [await _file(deployment)]
        assert await _p95(deployment, filed[0]) < _P95_SECONDS
        assert not any(login.done() for login in logins)
        assert {answer.status_code for answer in await asyncio.gather(*logins)} == {503}
        await wechat.disturb(_BROKEN)
        filed.append(await _file(deployment))
        await until(lambda: _has_failed(deployment, filed[1]))
        await wechat.heal()
        await until(lambda: _is_reviewed(deployment, *filed))
        if drill:
            await _require_patience(deployment, wechat)
        deployment.require_no_crash()


async def _require_patience(deployment: Deployment, wechat: "WeChat") -> None:
    """Where WeChat says that this minute is used up, it is not asked again within it."""
    await wechat.disturb(_LIMITED)
    hazard_id = await _file(deployment)
    await until(lambda: _has_failed(deployment, hazard_id))
    [task] = await _reviews(deployment, hazard_id)
    assert task.run_at > clock.now() + _MINUTE_LIMIT - timedelta(seconds=5)
    await wechat.heal()
    deployment.add_worker(JINCAI_CLOCK_OFFSET_SECONDS=_AN_HOUR)
    await until(lambda: _is_reviewed(deployment, hazard_id))


async def _p95(deployment: Deployment, hazard_id: str) -> float:
    """How long everybody else waits for lists, details and comments."""
    story, took = deployment.story, []
    for number in range(_ROUNDS):
        for request in (
            story.get(story.worker, "/v1/hazards"),
            story.get(story.worker, f"/v1/hazards/{hazard_id}"),
            story.take(
                story.worker, hazard_id, "comments", {"text": f"第{number}次", "visibility": "internal"}
            ),
        ):
            began = time.monotonic()
            await request
            took.append(time.monotonic() - began)
    return sorted(took)[len(took) * 95 // 100]


async def _sign_in(deployment: Deployment) -> httpx.Response:
    return await deployment.client.post("/v1/sessions/wechat", json={"code": f"demo:{new_id().hex}"})


async def _file(deployment: Deployment) -> str:
    story = deployment.story
    picture = await upload(deployment.client, story.reporter, BEFORE.read_bytes())
    return str((await story.file(media_ids=[picture.json()["id"]]))["id"])


async def _reviews(deployment: Deployment, hazard_id: str) -> list[Task]:
    async with deployment.session() as session:
        tasks = await session.scalars(select(Task).where(Task.kind == "review.text"))
        return [task for task in tasks if task.payload.get("hazard_id") == hazard_id]


async def _has_failed(deployment: Deployment, hazard_id: str) -> bool:
    [task] = await _reviews(deployment, hazard_id)
    return task.last_error is not None and task.lease_token is None


async def _is_reviewed(deployment: Deployment, *hazard_ids: str) -> bool:
    """Words and picture passed, the picture by a push from WeChat."""
    ids = [UUID(each) for each in hazard_ids]
    async with deployment.session() as session:
        words = list(await session.scalars(select(Hazard.public_state).where(Hazard.id.in_(ids))))
        pictures = list(await session.scalars(select(Media.review).where(Media.subject_id.in_(ids))))
    return set(words) == {PublicState.VISIBLE} and set(pictures) == {MediaReview.PASSED}


class WeChat:
    """A sandbox of its own, and what is ordered of it."""

    def __init__(self, program: Program, port: int) -> None:
        self.program = program
        self._port = port
        self._control = httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}/_sandbox")

    def start(self) -> None:
        """Run it, until it listens."""
        self.program.start()
        wait_for_port(self._port)

    async def disturb(self, fault: Json) -> None:
        """This is wrong from now on, and nothing else."""
        await self.heal()
        answer = await self._control.post("/faults", json={"times": 10_000} | fault)
        assert answer.status_code == 204, answer.text

    async def heal(self) -> None:
        """Nothing is wrong any more."""
        assert (await self._control.delete("/faults")).status_code == 204

    async def close(self) -> None:
        """End it."""
        self.program.kill()
        await self._control.aclose()


@asynccontextmanager
async def _deployed(deploy: Deploy) -> AsyncIterator[tuple[Deployment, WeChat]]:
    """A running service with its worker, and a WeChat apart from both."""
    port = free_port()
    chosen = {
        "JINCAI_WORKER": "embedded",
        "JINCAI_WECHAT_API_BASE": f"http://127.0.0.1:{port}",
        "JINCAI_WECHAT_APPID": SANDBOX_APPID,
        "JINCAI_WECHAT_SECRET": SANDBOX_SECRET,
        "JINCAI_WECHAT_PUSH_TOKEN": SANDBOX_PUSH_TOKEN,
        "JINCAI_WECHAT_PUSH_AES_KEY": SANDBOX_PUSH_AES_KEY,
    }
    async with deploy(**chosen) as deployment:
        command = (*COMMAND, "sandbox", "wechat", "--port", str(port))
        wechat = WeChat(Program(command, deployment.settings, deployment.folder / "wechat.log"), port)
        wechat.start()
        try:
            await deployment.start()
            yield deployment, wechat
        finally:
            await wechat.close()
