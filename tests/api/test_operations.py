"""Alive, ready, measured."""

import re
import shutil
from pathlib import Path

import httpx
import pytest
from sqlalchemy import delete, text, update

from app import __version__
from app.clients.storage import Storage
from app.db import Database
from app.models.key_checks import KeyCheck
from app.outside import outside
from app.services.operations import NotReady, Readiness, weak_durability
from app.settings import settings
from tests.factories import Places, make_resident


async def test_alive_and_ready(client: httpx.AsyncClient) -> None:
    for path in ("/healthz", "/readyz"):
        answer = await client.get(path)
        assert answer.status_code == 200
        assert answer.json() == {"status": "ok", "version": __version__}


async def test_a_storage_that_is_away_is_named(
    db: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outside, "storage", Storage((tmp_path / "media").as_uri()))
    await Readiness().require()
    shutil.rmtree(tmp_path / "media")
    (tmp_path / "media").write_text("in the way")
    await _expect_failed(["storage"])


async def test_a_database_that_is_not_migrated_is_named(db: Database) -> None:
    async with db.transaction() as session:
        revision = await session.scalar(text("SELECT version_num FROM alembic_version"))
        await session.execute(text("UPDATE alembic_version SET version_num = 'older'"))
    try:
        await _expect_failed(["migrations"])
    finally:
        async with db.transaction() as session:
            await session.execute(text("UPDATE alembic_version SET version_num = :at"), {"at": revision})
    await Readiness().require()


async def test_keys_that_the_database_does_not_know_are_named(db: Database) -> None:
    await Readiness().require()
    async with db.transaction() as session:
        await session.execute(update(KeyCheck).values(fingerprint="of another key"))
    try:
        await _expect_failed(["keys"])
    finally:
        async with db.transaction() as session:
            await session.execute(delete(KeyCheck))
    await Readiness().require()


async def test_a_database_that_gives_no_turn_is_named(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.lanes._GATE_SECONDS", 0.1)
    turns = db.read_gate.free
    for _ in range(turns):
        await db.read_gate.acquire()
    try:
        await _expect_failed(["database"])
    finally:
        for _ in range(turns):
            db.read_gate.release()


async def test_the_answer_is_kept_for_a_second_however_many_ask(
    db: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    readiness = Readiness()
    await readiness.require()
    broken = Storage((tmp_path / "other").as_uri())
    shutil.rmtree(tmp_path / "other")
    (tmp_path / "other").write_text("in the way")
    monkeypatch.setattr(outside, "storage", broken)
    await readiness.require()
    await _expect_failed(["storage"])


async def test_weak_durability_is_seen(db: Database) -> None:
    """The throwaway PostgreSQL of the tests is quick and forgetful; SQLite is never."""
    assert await weak_durability() == (None if settings.is_sqlite else "fsync=off")


async def test_metrics_count_by_operation_and_status_only(client: httpx.AsyncClient, places: Places) -> None:
    resident = await make_resident(places.community)
    await client.get("/v1/me", headers=resident.headers)
    await client.get("/v1/unknown-13812345678")
    answer = await client.get("/metrics")
    assert answer.status_code == 200
    assert re.search(r'jincai_http_requests_total\{operation="read_me",status="200"\} [1-9]', answer.text)
    assert re.search(r'jincai_http_requests_total\{operation="other",status="404"\} [1-9]', answer.text)
    assert 'jincai_http_request_seconds_bucket{le="0.01",operation="read_me"}' in answer.text
    assert "jincai_database_up 1.0" in answer.text
    assert re.search(r'jincai_database_turns_free\{gate="write"\} [0-9]', answer.text)
    assert str(resident.id) not in answer.text
    assert "13812345678" not in answer.text


async def _expect_failed(parts: list[str]) -> None:
    with pytest.raises(NotReady) as raised:
        await Readiness().require()
    assert raised.value.extensions == {"failed": parts}
    assert raised.value.retry_after == 5
