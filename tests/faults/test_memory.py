"""Bodies that are made to fill the memory or to keep the server busy: it stays as large as it was, and at work."""

import asyncio
import json
from collections.abc import Coroutine

import httpx
import pytest

from app.edge import BODY_BYTES
from tests.faults.conftest import Deploy
from tests.faults.deployment import Deployment
from tests.faults.journal import BEFORE
from tests.faults.programs import Program
from tests.media.pictures import PNG_SIGNATURE, animated_png, grey_rows, png
from tests.stories import upload

pytestmark = pytest.mark.slow

_MOST_MORE_BYTES = 50 * 2**20
_MOST_CPU_SECONDS = 1.0
_AT_ONCE = 8
_LARGEST_PICTURE = 10 * 2**20


def _bodies() -> dict[str, bytes]:
    """Each as large as a body may be, and in its own way larger to whoever parses it."""
    room = BODY_BYTES - 1000
    return {
        "arrays in arrays": b"[" * room,
        "objects in objects": b'{"a":' * (room // 5),
        "a number of a million digits": b'{"category":' + b"7" * (room - 100) + b"}",
        "many unknown fields": b"{" + b",".join(b'"k%d":0' % n for n in range(room // 12)) + b"}",
        "the same field": b"{" + b",".join([b'"category":"x"'] * (room // 16)) + b"}",
        "a list of wrong ids": b'{"media_ids":[' + b",".join([b'"x"'] * (room // 5)) + b"]}",
        "a list of numbers": b'{"media_ids":[' + b",".join([b"0"] * (room // 3)) + b"]}",
        "one long text": json.dumps({"description": "很" * (room // 8)}).encode(),
    }


def _pictures() -> dict[str, bytes]:
    return {
        "of 50,000 × 50,000": png(50_000, 50_000, [(b"IDAT", grey_rows(50_000, 100))]),
        "of 5,000 frames": animated_png(5_000),
        "of too many bytes": PNG_SIGNATURE + bytes(_LARGEST_PICTURE),
        "of nothing": PNG_SIGNATURE + bytes(_LARGEST_PICTURE - len(PNG_SIGNATURE)),
    }


async def test_the_server_stays_as_large_as_it_was(deploy: Deploy) -> None:
    async with deploy() as deployment:
        await deployment.start()
        assert (await _upload(deployment, BEFORE.read_bytes())).status_code == 201
        assert (await _file(deployment, b"{}")).status_code == 422
        before = deployment.server.resident_bytes()
        deployment.server.forget_peak()
        for body in _bodies().values():
            assert await _cpu_seconds(deployment.server, _file(deployment, body)) < _MOST_CPU_SECONDS
            await asyncio.gather(*(_file(deployment, body) for _ in range(_AT_ONCE)))
        for picture in _pictures().values():
            await asyncio.gather(*(_upload(deployment, picture) for _ in range(_AT_ONCE)))
        assert deployment.server.peak_bytes() - before < _MOST_MORE_BYTES
        deployment.require_no_crash()


async def _cpu_seconds(program: Program, request: Coroutine[None, None, httpx.Response]) -> float:
    """What one request makes the server compute."""
    began = program.cpu_seconds()
    answer = await request
    assert answer.status_code in (400, 422), answer.text
    return program.cpu_seconds() - began


async def _file(deployment: Deployment, body: bytes) -> httpx.Response:
    headers = deployment.story.reporter.headers | {"Content-Type": "application/json"}
    return await deployment.client.post("/v1/hazards", content=body, headers=headers)


async def _upload(deployment: Deployment, data: bytes) -> httpx.Response:
    answer = await upload(deployment.client, deployment.story.reporter, data)
    assert answer.status_code in (201, 413, 415, 422, 503), answer.text
    return answer
