"""Disks that fill up while the service runs: clear refusals, nothing half done, and all well once there is room again."""

import shutil
from pathlib import Path

import httpx
import pytest
from PIL import Image
from sqlalchemy import func, select
from sqlalchemy.engine import make_url

from app.ids import new_id
from app.models.media import Media
from app.settings import settings
from tests.engines import new_database
from tests.faults.conftest import Deploy, Populated
from tests.faults.deployment import Deployment
from tests.faults.disks import Disk, can_mount, disk
from tests.faults.journal import BEFORE
from tests.media.pictures import encoded
from tests.stories import upload

pytestmark = pytest.mark.slow

_ROOM_FOR_THE_DATABASE = "4m"
_MOST_WRITES = 200
# Where no small disk can be had, the whole server is without room, and says first what it needs first.
_STORAGE_FULL = {"storage_full"} if can_mount() else {"storage_full", "imaging_unavailable", "unavailable"}


async def test_pictures_find_no_room(deploy: Deploy, tmp_path: Path) -> None:
    with disk(tmp_path / "pictures", "1m") as pictures:
        async with deploy(JINCAI_MEDIA_URL=pictures.path.as_uri(), JINCAI_WORKER="embedded") as deployment:
            await deployment.start()
            key = new_id().hex
            first = await _upload(deployment, new_id().hex)
            assert first.status_code == 201, first.text
            stored = pictures.names()
            with pictures.full(deployment.server):
                refused = await _upload(deployment, key)
                assert _code(refused) in _STORAGE_FULL
                assert await _pictures(deployment) == 1
                assert pictures.names() == stored
                if can_mount():
                    await _require_all_but_storage(deployment, first.json()["id"])
            again = await _upload(deployment, key)
            assert again.status_code == 201, again.text
            assert await _pictures(deployment) == 2
            assert len(pictures.names()) == 4
            await deployment.ready()
            deployment.require_no_crash()


@pytest.mark.drill
async def test_uploads_find_no_room_on_their_way(deploy: Deploy, tmp_path: Path) -> None:
    """Large bodies wait in temporary files."""
    large = encoded(Image.effect_noise((1800, 1400), 80), quality=95)
    assert 2**20 < len(large) < 10 * 2**20
    with disk(tmp_path / "temporary", "24m") as temporary:
        async with deploy(TMPDIR=str(temporary.path)) as deployment:
            await deployment.start()
            key, small = new_id().hex, await _upload(deployment, new_id().hex)
            with temporary.full(deployment.server):
                assert _code(await _upload(deployment, key, large)) == "unavailable"
                assert _code(await _upload(deployment, key)) == "imaging_unavailable"
                assert await _pictures(deployment) == 1
                if can_mount():
                    assert (await _file(deployment, small.json()["id"])).status_code == 201
            again = await _upload(deployment, key, large)
            assert again.status_code == 201, again.text
            deployment.require_no_crash()


async def test_the_database_finds_no_room(deploy: Deploy, tmp_path: Path, populated: Populated) -> None:
    if not settings.is_sqlite:
        return
    template = make_url(new_database(f"faults-{new_id().hex}", populated.name)).database
    assert template is not None
    with disk(tmp_path / "database", _ROOM_FOR_THE_DATABASE) as small:
        url = f"sqlite:///{shutil.copy(template, small.path)}"
        async with deploy(url, JINCAI_WORKER="embedded", JINCAI_JOB_LEASE_SECONDS="3") as deployment:
            await deployment.start()
            await _fill_up(deployment, small)


async def _fill_up(deployment: Deployment, small: Disk) -> None:
    """Write until there is no room; what was acknowledged stays, what was refused is done later."""
    picture = await _upload(deployment, new_id().hex)
    filed = await _file(deployment, picture.json()["id"])
    path = f"/v1/hazards/{filed.json()['id']}/comments"
    said = [await _say(deployment, path, 0)]
    with small.full(deployment.server):
        while said[-1].status_code == 201:
            assert len(said) < _MOST_WRITES
            said.append(await _say(deployment, path, len(said)))
        refused = said.pop()
        assert _code(refused) == "unavailable"
        assert await _said(deployment, path) == [answer.json()["id"] for answer in said]
    again = await _say(deployment, path, len(said))
    assert again.status_code == 201, again.text
    assert len(await _said(deployment, path)) == len(said) + 1
    await deployment.caught_up()
    await deployment.verify()
    deployment.require_no_crash()


async def _require_all_but_storage(deployment: Deployment, picture: str) -> None:
    """Only storage is out of order, and it says so."""
    assert await deployment.broken_parts() == ["storage"]
    filed = await _file(deployment, picture)
    assert filed.status_code == 201, filed.text
    shown = await deployment.client.get(filed.json()["photos"][0]["url"])
    assert shown.status_code == 200


async def _upload(deployment: Deployment, key: str, data: bytes | None = None) -> httpx.Response:
    story = deployment.story
    return await upload(deployment.client, story.reporter, data or BEFORE.read_bytes(), key=key)


async def _file(deployment: Deployment, picture: str) -> httpx.Response:
    story = deployment.story
    return await story.post(story.reporter, "/v1/hazards", await story.report(media_ids=[picture]))


async def _say(deployment: Deployment, path: str, number: int) -> httpx.Response:
    """A long comment; the same number is the same comment."""
    body = {"text": f"{number} " + "很长" * 240}
    return await deployment.story.post(deployment.story.reporter, path, body, key=f"comment-{number}")


async def _said(deployment: Deployment, path: str) -> list[str]:
    page = await deployment.story.get(deployment.story.reporter, path, limit=100)
    return [item["id"] for item in page["items"]]


async def _pictures(deployment: Deployment) -> int:
    async with deployment.session() as session:
        return await session.scalar(select(func.count()).select_from(Media)) or 0


def _code(answer: httpx.Response) -> str:
    """What was refused for now, and when to try again."""
    assert answer.status_code == 503, answer.text
    assert int(answer.headers["Retry-After"]) > 0
    return str(answer.json()["code"])
