"""From one database into others and out again: the same documents, the same statistics, nothing amiss, whatever the engine."""

import json
import zipfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import get_args
from uuid import UUID

import pytest
from sqlalchemy import URL, insert, select, update
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from starlette.types import ASGIApp

from app import sequencer
from app.auth import Caller, Granted
from app.db import database
from app.handlers import HANDLERS
from app.ids import new_id
from app.models.events import Event
from app.models.hazards import Hazard, HazardStatus
from app.models.media import Media
from app.models.notifications import Notification
from app.models.organisations import Organisation
from app.models.regions import Region, RegionAncestor
from app.models.sessions import PrincipalKind
from app.models.staff import Role
from app.models.tasks import Task
from app.outside import outside
from app.services import hazard_statistics, seeding
from app.settings import settings
from tests.cases.papers import BASIS, Json, lasting, long_case, paper
from tests.cli.operator import run_each
from tests.conftest import new_client
from tests.engines import alembic, new_database
from tests.stories import Story, begin

Columns = dict[str, object]


@dataclass(frozen=True)
class Elsewhere:
    """Another service: its settings, its database and where its commands run."""

    folder: Path
    settings: dict[str, str]

    @property
    def url(self) -> URL:
        url = make_url(self.settings["JINCAI_DATABASE_URL"])
        driver = "sqlite+aiosqlite" if url.drivername == "sqlite" else "postgresql+asyncpg"
        return url.set(drivername=driver)


@dataclass(frozen=True)
class World:
    """What was exported, and a folder with the pictures."""

    story: Story
    documents: dict[str, Json]
    pictures: Path
    statistics: list[object]


@pytest.fixture(scope="module")
async def world(application: ASGIApp, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    folder = tmp_path_factory.mktemp("pictures")
    async with new_client(application) as client:
        story = await begin(client)
        hazards = [await long_case(story)]
        for status in HazardStatus:
            hazards.append(await story.hazard(status))
            await _without_pictures(hazards[-1])
        merged = await paper(story, hazards[-1])
        hazards.append(merged["case"]["merged_into"])
        await _without_pictures(hazards[-1])
        documents = {each: await paper(story, each) for each in hazards}
        for document in documents.values():
            for each in document["media"]:
                async with database.reading() as session:
                    row = await session.get_one(Media, UUID(each["id"]))
                (folder / f"{row.id}.jpg").write_bytes(await outside.storage.get(row.storage_key))
        async with database.reading() as session:
            statistics = await _statistics(session, await _root_code(story))
        yield World(story, documents, folder, statistics)


async def _without_pictures(hazard_id: str) -> None:
    """Those that stories attach have no bytes."""
    async with database.transaction() as session:
        await session.execute(
            update(Media)
            .where(Media.subject_id == UUID(hazard_id))
            .values(subject_id=None, subject_kind=None)
        )


@pytest.mark.slow
async def test_a_district_goes_into_an_empty_one_and_comes_out_the_same(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On to a third one besides: from PostgreSQL into SQLite and back when this runs on PostgreSQL."""
    second = await _empty(world, tmp_path / "second", _sqlite(tmp_path))
    third = await _empty(world, tmp_path / "third", new_database("third"))
    for name, document in world.documents.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(document), "utf-8")
    files = " ".join(f"{tmp_path}/{name}.json" for name in world.documents)
    here, again, clean, *exports = run_each(
        second.folder,
        second.settings,
        f"case import {files} --media {world.pictures}",
        f"case import {files}",
        "verify",
        *(f"case export {name} --consent-basis {BASIS} --media {tmp_path}/out" for name in world.documents),
    )
    assert here.code == again.code == 0, here.text + again.text
    assert here.out.count(": imported,") == again.out.count(": unchanged,") == len(world.documents)
    assert (clean.code, clean.out.splitlines()[-1][:3]) == (0, "All"), clean.text
    await _work(second)

    onward = tmp_path / "onward"
    onward.mkdir()
    for (name, document), exported in zip(world.documents.items(), exports, strict=True):
        assert lasting(json.loads(exported.out)) == lasting(document)
        (onward / f"{name}.json").write_text(exported.out, "utf-8")
    archive = tmp_path / "pictures.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        for file in (tmp_path / "out").iterdir():
            packed.write(file, f"pictures/{file.name}")
    files = " ".join(str(file) for file in onward.iterdir())
    there, clean, *exports = run_each(
        third.folder,
        third.settings,
        f"case import {files} --media {archive}",
        "verify",
        *(f"case export {name} --consent-basis {BASIS}" for name in world.documents),
    )
    assert (there.code, clean.code) == (0, 0), there.text + clean.text
    for document, exported in zip(world.documents.values(), exports, strict=True):
        assert lasting(json.loads(exported.out)) == lasting(document)
    root_code = await _root_code(world.story)
    for place in (second, third):
        # Statements are written in the dialect of the settings, and here these are another service's.
        monkeypatch.setattr(settings, "database_url", place.settings["JINCAI_DATABASE_URL"])
        async with _session(place) as session:
            assert await _statistics(session, root_code) == world.statistics


async def test_a_refused_file_ends_the_command_and_says_why(world: World, tmp_path: Path) -> None:
    place = await _empty(world, tmp_path / "place", new_database("refusing"))
    document = next(iter(world.documents.values()))
    damaged, alien = tmp_path / "damaged.json", tmp_path / "alien.json"
    damaged.write_text(json.dumps(document | {"consent_basis": "另一个依据"}), "utf-8")
    alien.write_text('{"format": "jincai-case/2"}', "utf-8")
    touched, other, lost, none = run_each(
        place.folder,
        place.settings,
        f"case import {damaged}",
        f"case import {alien}",
        f"case export {new_id()}",
        f"case import {tmp_path}/nothing.json",
    )
    assert (touched.code, "digest: does not belong" in touched.err) == (1, True)
    assert (other.code, "format:" in other.err) == (1, True)
    assert lost.code == 1
    assert none.code == 2
    async with _session(place) as session:
        assert await session.scalar(select(Hazard.id).limit(1)) is None


async def _work(place: Elsewhere) -> None:
    """What the worker does with the events that came: it places them, and that is all."""
    async with _session(place) as session:
        while await sequencer.sequence(session, HANDLERS):
            pass
        assert await session.scalar(select(Event.id).where(Event.position.is_(None)).limit(1)) is None
        assert await session.scalar(select(Notification.id).limit(1)) is None
        kinds = set(await session.scalars(select(Task.kind)))
        assert kinds <= {"media.discard"}
        await session.commit()


async def _empty(world: World, folder: Path, url: str) -> Elsewhere:
    """A migrated database with the categories, and with our places and organisations under ids of its own."""
    place = _place(folder, url)
    regions, closure, organisations = await _ground(world)
    async with _session(place) as session:
        await seeding.import_reference(session)
        for row in regions:
            await session.execute(insert(Region).values(row))
        await session.execute(insert(RegionAncestor), closure)
        await session.execute(insert(Organisation), organisations)
        await session.commit()
    return place


def _sqlite(folder: Path) -> str:
    """An SQLite database, whatever the engine of this run."""
    if settings.is_sqlite:
        return new_database("second")
    url = f"sqlite:///{folder}/second.db"
    alembic(url, "upgrade", "head")
    return url


def _place(folder: Path, url: str) -> Elsewhere:
    folder.mkdir()
    media = (folder / "media").as_uri()
    return Elsewhere(folder, {"JINCAI_DATABASE_URL": url, "JINCAI_MEDIA_URL": media})


async def _ground(world: World) -> tuple[list[Columns], list[Columns], list[Columns]]:
    """Rows of the places and organisations of the world, under other ids."""
    async with database.reading() as session:
        below = select(RegionAncestor.region_id).where(
            RegionAncestor.ancestor_id == world.story.places.district
        )
        regions = [_row(row) for row in await session.scalars(select(Region).where(Region.id.in_(below)))]
        pairs = list(await session.scalars(select(RegionAncestor).where(RegionAncestor.region_id.in_(below))))
        organisations = [
            _row(row)
            for row in await session.scalars(
                select(Organisation).where(Organisation.region_id == world.story.places.district)
            )
        ]
    ids = {row["id"]: new_id() for row in regions}
    for row in regions:
        row |= {"id": ids[row["id"]], "parent_id": ids.get(row["parent_id"])}
    for row in organisations:
        row |= {"id": new_id(), "region_id": ids[row["region_id"]]}
    closure: list[Columns] = [
        {"region_id": ids[pair.region_id], "ancestor_id": ids[pair.ancestor_id]} for pair in pairs
    ]
    # Parents first; events about places stay where they are.
    ordered = sorted(regions, key=lambda row: str(row["code"]))
    return [row | {"event_seq": 0} for row in ordered], closure, organisations


def _row(row: Region | Organisation) -> Columns:
    return {column.key: getattr(row, column.key) for column in row.__table__.columns}


@asynccontextmanager
async def _session(place: Elsewhere) -> AsyncIterator[AsyncSession]:
    engine = create_async_engine(place.url)
    async with AsyncSession(engine, expire_on_commit=False) as session:
        yield session
    await engine.dispose()


async def _root_code(story: Story) -> str:
    async with database.reading() as session:
        return (await session.scalars(select(Region.code).where(Region.id == story.places.district))).one()


async def _statistics(session: AsyncSession, root_code: str) -> list[object]:
    """What those who handle the cases of this world see, without the ids of places."""
    root = (await session.scalars(select(Region.id).where(Region.code == root_code))).one()
    caller = Caller(PrincipalKind.STAFF, new_id(), grants=(Granted(Role.DISTRICT_ADMIN, root, None),))
    found: list[object] = []
    for group_by in get_args(hazard_statistics.GroupBy):
        shown = await hazard_statistics.compute(session, caller, group_by, None, None, None, public=False)
        found += [row.model_dump(exclude={"region_id"}) for row in shown.items]
        found += [row.model_dump() for row in shown.levels]
    return found
