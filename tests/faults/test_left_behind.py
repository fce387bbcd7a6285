"""What a kill leaves in the storage: nothing shows it, and after a while it is gone."""

import asyncio
from datetime import timedelta
from functools import partial
from pathlib import Path
from uuid import UUID

import httpx
import pytest
from sqlalchemy import func, select, update

from app import clock
from app.clients.storage import Storage
from app.db import Database
from app.ids import new_id
from app.models.hazard_exports import HazardExport
from app.models.media import Media
from app.models.staff import Role
from app.models.tasks import Task
from app.outside import outside
from app.services import hazard_exports, media
from app.tasks import KINDS
from tests.factories import Places, make_resident, make_staff
from tests.faults.conftest import Deploy
from tests.faults.deployment import Deployment
from tests.faults.journal import BEFORE
from tests.stories import upload
from tests.worker.workshop import enqueue, is_done, until, working

_IN_AN_HOUR, _LATER = "3600", "7200"
_TRIES = 30


@pytest.mark.drill
async def test_an_upload_that_was_killed_half_way(deploy: Deploy, tmp_path: Path) -> None:
    folder = tmp_path / "media"
    async with deploy() as deployment:
        await deployment.start()
        key = await _kill_while_storing(deployment, folder)
        lost = _files(folder)
        assert lost
        deployment.server.start()
        await deployment.ready()
        again = await upload(deployment.client, deployment.story.reporter, BEFORE.read_bytes(), key=key)
        assert again.status_code == 201, again.text
        deployment.add_worker(JINCAI_CLOCK_OFFSET_SECONDS=_IN_AN_HOUR)
        await until(lambda: _lacks(folder, lost))
        await deployment.verify(JINCAI_CLOCK_OFFSET_SECONDS=_LATER)


async def test_a_picture_that_was_registered_stays(
    client: httpx.AsyncClient, db: Database, places: Places
) -> None:
    who = await make_resident(places.community)
    answer = await upload(client, who, BEFORE.read_bytes())
    async with db.reading() as session:
        row = await session.get_one(Media, UUID(answer.json()["id"]))
    await _work_off(db, media.DISCARD)
    assert await outside.storage.exists(row.storage_key)
    assert await outside.storage.exists(row.thumbnail_key)


async def test_an_export_that_was_finished_stays_and_no_other(
    client: httpx.AsyncClient, db: Database, places: Places
) -> None:
    who = await make_staff(Role.COMMUNITY_MANAGER, places.community)
    order = {"format": "csv", "reason": "月度例会"}
    answer = await client.post("/v1/hazard-exports", json=order, headers=who.headers)
    assert answer.is_success, answer.text
    await _work_off(db, hazard_exports.TASK)
    async with db.reading() as session:
        export = await session.get_one(HazardExport, UUID(answer.json()["id"]))
    assert export.storage_key is not None
    lost = f"exports/{export.id}-{new_id()}.csv"
    await outside.storage.put(lost, b"x")
    await enqueue(hazard_exports.DISCARD, [{"export_id": str(export.id), "key": lost}])
    await _work_off(db, hazard_exports.DISCARD)
    assert await outside.storage.exists(export.storage_key)
    assert not await outside.storage.exists(lost)


async def test_a_copy_that_was_being_written_goes_with_its_object(tmp_path: Path) -> None:
    storage = Storage(tmp_path.as_uri())
    await storage.put("ab/picture.jpg", b"pixels")
    (tmp_path / "ab/picture.jpg#1").write_bytes(b"half of the pixels")
    await storage.delete("ab/picture.jpg")
    assert not _files(tmp_path)
    storage.close()


async def _kill_while_storing(deployment: Deployment, folder: Path) -> str:
    """Kill the server when it has stored something of an upload and not yet registered it; the key of the upload."""
    for _ in range(_TRIES):
        key, known = new_id().hex, _files(folder)
        uploading = asyncio.create_task(
            upload(deployment.client, deployment.story.reporter, BEFORE.read_bytes(), key=key)
        )
        await until(partial(_differs, folder, known), pause=0)
        deployment.server.pause()
        registered = 2 * await _registered(deployment)
        if len(_files(folder)) > registered:
            deployment.server.kill()
            assert isinstance(
                (await asyncio.gather(uploading, return_exceptions=True))[0], httpx.TransportError
            )
            return key
        deployment.server.resume()
        await uploading
    raise AssertionError("the server was always quicker")


async def _lacks(folder: Path, lost: set[Path]) -> bool:
    return not lost & _files(folder)


async def _differs(folder: Path, known: set[Path]) -> bool:
    return _files(folder) != known


async def _registered(deployment: Deployment) -> int:
    async with deployment.session() as session:
        return await session.scalar(select(func.count()).select_from(Media)) or 0


async def _work_off(db: Database, kind: str) -> None:
    """Do every task of a kind, also those that are not due yet."""
    async with db.transaction() as session:
        past = clock.now() - timedelta(seconds=1)
        await session.execute(update(Task).where(Task.kind == kind).values(run_at=past))
    async with working({kind: KINDS[kind]}):
        await until(lambda: is_done(kind))


def _files(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}
