"""The storage is dead or takes nothing: uploads are refused at once, everything else goes on, and it heals by itself."""

import http.client
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from app.ids import new_id
from tests.faults.conftest import Deploy
from tests.faults.deployment import Deployment
from tests.faults.disks import disk
from tests.faults.journal import BEFORE
from tests.faults.programs import Program, free_port, wait_for_port
from tests.stories import problem, upload

pytestmark = pytest.mark.slow

_ANSWER_SECONDS = 6.0
_BUCKET = "photos"


async def test_the_bucket_does_not_answer(deploy: Deploy, tmp_path: Path) -> None:
    with _moto(tmp_path / "s3.log") as (s3, port):
        url = f"s3://{_BUCKET}?endpoint=http://127.0.0.1:{port}&access_key_id=test&secret_access_key=test"
        async with deploy(JINCAI_MEDIA_URL=url) as deployment:
            await deployment.start()
            first, second = [await _upload(deployment, new_id().hex) for _ in range(2)]
            s3.kill()
            key = new_id().hex
            await _require_refusal(deployment, key)
            await _require_the_rest(deployment, first)
            gone = await deployment.client.get(second.json()["url"])
            problem(gone, 503, "storage_unavailable")
            s3.start()
            _make_bucket(port)
            await deployment.ready()
            assert (await _upload(deployment, key)).status_code == 201
            deployment.require_no_crash()


@pytest.mark.drill
async def test_the_folder_takes_nothing(deploy: Deploy, tmp_path: Path) -> None:
    with disk(tmp_path / "pictures", "2m") as pictures:
        async with deploy(JINCAI_MEDIA_URL=pictures.path.as_uri()) as deployment:
            await deployment.start()
            first, key = await _upload(deployment, new_id().hex), new_id().hex
            with pictures.read_only():
                await _require_refusal(deployment, key)
                await _require_the_rest(deployment, first)
            await deployment.ready()
            assert (await _upload(deployment, key)).status_code == 201
            await deployment.verify()
            deployment.require_no_crash()


async def _require_refusal(deployment: Deployment, key: str) -> None:
    began = time.monotonic()
    refused = await _upload(deployment, key)
    problem(refused, 503, "storage_unavailable")
    assert int(refused.headers["Retry-After"]) > 0
    assert time.monotonic() - began < _ANSWER_SECONDS


async def _require_the_rest(deployment: Deployment, uploaded: httpx.Response) -> None:
    """What was uploaded before can be reported and worked on; readiness names the part that does not work."""
    story = deployment.story
    assert await deployment.broken_parts() == ["storage"]
    assert uploaded.status_code == 201, uploaded.text
    filed = await story.file(media_ids=[uploaded.json()["id"]])
    await story.accept(filed["id"])
    await story.take(story.worker, filed["id"], "comments", {"text": "马上到", "visibility": "public"})
    await story.call(filed["id"])


async def _upload(deployment: Deployment, key: str) -> httpx.Response:
    return await upload(deployment.client, deployment.story.reporter, BEFORE.read_bytes(), key=key)


@contextmanager
def _moto(log: Path) -> Iterator[tuple[Program, int]]:
    """A server that speaks S3, with an empty bucket."""
    port = free_port()
    server = Program(("-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)), {}, log)
    server.start()
    try:
        _make_bucket(port)
        yield server, port
    finally:
        server.kill()


def _make_bucket(port: int) -> None:
    wait_for_port(port)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("PUT", f"/{_BUCKET}")
    assert connection.getresponse().status == 200
    connection.close()
