"""Branches of the tree that are moved at the same time: no ancestor is lost, none is left over, no hazard left behind."""

import asyncio
from uuid import UUID

import httpx
from sqlalchemy import select

from app.db import Database
from app.models.hazards import Hazard
from app.models.regions import Region, RegionAncestor, RegionLevel
from app.models.staff import Role
from app.schemas.hazards import HazardCreate
from app.schemas.regions import RegionUpdate
from app.services import hazards, regions
from tests.factories import Person, Places, make_staff
from tests.stories import Story, begin, pictures

ROUNDS = 4


async def test_a_building_moves_into_a_grid_that_moves_away(
    client: httpx.AsyncClient, places: Places, db: Database
) -> None:
    admin = await make_staff(Role.DISTRICT_ADMIN, places.district)
    for number in range(ROUNDS):
        even = number % 2 == 0
        moves = {
            places.building: places.other_grid if even else places.grid,
            places.other_grid: places.neighbour if even else places.community,
            places.grid: places.far_community if even else places.community,
            places.neighbour: places.far_street if even else places.street,
        }
        answers = await asyncio.gather(*(_move(client, admin, *move) for move in moves.items()))
        assert [answer.status_code for answer in answers] == [200] * len(moves), answers
        await _require_consistent(db, places)


async def test_a_hazard_is_filed_while_its_grid_moves_away(client: httpx.AsyncClient, db: Database) -> None:
    """The move is not committed yet when the report comes in: it belongs to the new community."""
    story = await begin(client)
    admin = await (await make_staff(Role.DISTRICT_ADMIN, story.places.district)).caller()
    await story.file()
    report = await story.report()
    order = RegionUpdate(name="甲", name_en="A", parent_id=story.places.neighbour)
    async with db.transaction() as session:
        await regions.update_region(session, admin, story.places.grid, order, None)
        await session.flush()
        filing = asyncio.create_task(story.post(story.reporter, "/v1/hazards", report))
        await asyncio.sleep(0.3)
    assert (await filing).json()["community_id"] == str(story.places.neighbour)
    await _require_at_home(db, story)


async def test_a_grid_moves_away_while_a_hazard_is_filed(client: httpx.AsyncClient, db: Database) -> None:
    """The report is not committed yet when the grid is moved: it is taken along."""
    story = await begin(client)
    admin = await make_staff(Role.DISTRICT_ADMIN, story.places.district)
    [picture] = await pictures(story.reporter)
    body = HazardCreate.model_validate(await story.report(media_ids=[picture]))
    caller = await story.reporter.caller()
    async with db.transaction() as session:
        filed = await hazards.file(session, caller, body)
        moving = asyncio.create_task(_move(client, admin, story.places.grid, story.places.neighbour))
        await asyncio.sleep(0.3)
    assert (await moving).status_code == 200
    async with db.reading() as session:
        assert (await session.get_one(Hazard, filed.hazard.id)).community_id == story.places.neighbour
    await _require_at_home(db, story)


async def test_hazards_are_filed_while_a_grid_moves_to_and_fro(
    client: httpx.AsyncClient, db: Database
) -> None:
    story = await begin(client)
    admin = await make_staff(Role.DISTRICT_ADMIN, story.places.district)
    for number in range(ROUNDS):
        target = story.places.community if number % 2 else story.places.neighbour
        reports = [await story.report() for _ in range(3)]
        answers = await asyncio.gather(
            _move(client, admin, story.places.grid, target),
            *(story.post(story.reporter, "/v1/hazards", report) for report in reports),
        )
        assert [answer.status_code for answer in answers] == [200, 201, 201, 201]
        await _require_at_home(db, story)


async def _require_at_home(db: Database, story: Story) -> None:
    """Every hazard of the grid belongs to the community that the grid belongs to."""
    async with db.reading() as session:
        home = await session.scalar(
            select(Region.id)
            .join(RegionAncestor, RegionAncestor.ancestor_id == Region.id)
            .where(RegionAncestor.region_id == story.places.grid, Region.level == RegionLevel.COMMUNITY)
        )
        rows = await session.scalars(select(Hazard.community_id).where(Hazard.region_id == story.places.grid))
        assert set(rows) == {home}


async def _move(client: httpx.AsyncClient, admin: Person, region_id: UUID, parent_id: UUID) -> httpx.Response:
    order = {"name": "甲", "name_en": "A", "parent_id": str(parent_id)}
    return await client.put(f"/v1/regions/{region_id}", json=order, headers=admin.headers)


async def _require_consistent(db: Database, places: Places) -> None:
    async with db.reading() as session:
        parents = {
            row.id: row.parent_id for row in await session.execute(select(Region.id, Region.parent_id))
        }
        for region_id in places.centres:
            rows = await session.scalars(
                select(RegionAncestor.ancestor_id).where(RegionAncestor.region_id == region_id)
            )
            path, above = {region_id}, parents[region_id]
            while above is not None:
                path.add(above)
                above = parents[above]
            assert set(rows) == path
