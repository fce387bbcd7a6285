"""Branches of the tree that are moved at the same time: no ancestor is lost, none left over, nothing left behind."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from uuid import UUID

import httpx
import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.db import Database
from app.geo import Point, wgs84_from_gcj02
from app.ids import new_id
from app.models.hazards import Hazard, HazardStatus
from app.models.households import Household, HouseholdRelation, HouseholdStatus
from app.models.regions import Region, RegionAncestor, RegionLevel
from app.models.staff import Role
from app.models.sync import SyncCase
from app.schemas.base import Coordinates
from app.schemas.hazards import HazardCreate
from app.schemas.households import HouseholdCreate
from app.schemas.regions import RegionUpdate
from app.schemas.sync import CaseCreated
from app.services import district_cases, hazards, households, regions
from tests.cases.papers import elsewhere, paper
from tests.factories import Person, Places, make_resident, make_staff
from tests.stories import Story, begin, complaints, pictures, problem

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
    await story.file()
    report = await story.report()
    async with _moving_away(db, story):
        filing = asyncio.create_task(story.post(story.reporter, "/v1/hazards", report))
    assert (await filing).json()["community_id"] == str(story.places.neighbour)
    await _require_at_home(db, story)


async def test_a_grid_moves_away_while_a_hazard_is_filed(client: httpx.AsyncClient, db: Database) -> None:
    """The report is not committed yet when the grid is moved: it is taken along."""
    story = await begin(client)
    [picture] = await pictures(story.reporter)
    body = HazardCreate.model_validate(await story.report(media_ids=[picture]))
    caller = await story.reporter.caller()
    async with _moved_meanwhile(db, story) as session:
        filed = await hazards.file(session, caller, body)
    async with db.reading() as session:
        assert (await session.get_one(Hazard, filed.hazard.id)).community_id == story.places.neighbour
    await _require_at_home(db, story)


async def test_a_home_is_claimed_while_its_grid_moves_away(client: httpx.AsyncClient, db: Database) -> None:
    story = await begin(client)
    home = {"region_id": str(story.places.building), "address": "301室", "relation": "tenant"}
    async with _moving_away(db, story):
        claiming = asyncio.create_task(story.post(story.reporter, "/v1/me/households", home))
    assert (await claiming).json()["community_id"] == str(story.places.neighbour)


async def test_a_grid_moves_away_while_a_home_is_claimed(client: httpx.AsyncClient, db: Database) -> None:
    story = await begin(client)
    caller = await story.reporter.caller()
    order = HouseholdCreate(
        region_id=story.places.building, address="301室", relation=HouseholdRelation.OWNER
    )
    async with _moved_meanwhile(db, story) as session:
        home = await households.claim(session, caller, order)
    async with db.reading() as session:
        assert (await session.get_one(Household, home.id)).community_id == story.places.neighbour


@pytest.mark.parametrize("action", ["confirm", "reject"])
async def test_a_claim_is_decided_while_its_grid_moves_away(
    client: httpx.AsyncClient, db: Database, action: str
) -> None:
    """Whose community it is no more has nothing to decide there."""
    story = await begin(client)
    home = {"region_id": str(story.places.building), "address": "301室", "relation": "tenant"}
    household_id = (await story.post(story.reporter, "/v1/me/households", home)).json()["id"]
    async with _moving_away(db, story):
        path = f"/v1/households/{household_id}/{action}"
        deciding = asyncio.create_task(story.post(story.manager, path))
    problem(await deciding, 404, "not_found")
    async with db.reading() as session:
        household = await session.get_one(Household, UUID(household_id))
    assert (household.status, household.community_id) == (HouseholdStatus.CLAIMED, story.places.neighbour)


async def test_an_open311_request_comes_while_its_grid_moves_away(
    client: httpx.AsyncClient, db: Database
) -> None:
    story = await begin(client)
    admin = await make_staff(Role.DISTRICT_ADMIN, story.places.district)
    wanted = {"name": "311", "scopes": ["reports:write"], "region_id": str(story.places.district)}
    key = (await story.post(admin, "/v1/api-keys", wanted)).json()["key"]
    point = wgs84_from_gcj02(Point(*story.places.centres[story.places.grid]))
    form = {"api_key": key, "service_code": "garbage", "description": "x"}
    form |= {"lat": str(point.lat), "long": str(point.lng)}
    async with _moving_away(db, story):
        filing = asyncio.create_task(client.post("/open311/v2/requests.json", data=form))
    assert (await filing).status_code == 201
    await _require_at_home(db, story)


async def test_the_district_opens_a_case_while_its_grid_moves_away(
    client: httpx.AsyncClient, db: Database
) -> None:
    """The point lies in another community than the one that the district named: its middle will do."""
    story = await begin(client)
    await story.file()
    async with _moving_away(db, story):
        opening = asyncio.create_task(_open_case(db, story))
    async with db.reading() as session:
        hazard = await session.get_one(Hazard, await opening)
    assert (hazard.community_id, hazard.region_id) == (story.places.community, story.places.community)


async def test_a_case_is_imported_while_its_grid_moves_away(client: httpx.AsyncClient, db: Database) -> None:
    story = await begin(client)
    admin = await make_staff(Role.DISTRICT_ADMIN, story.places.district)
    document = elsewhere(await paper(story, await story.hazard(HazardStatus.ACCEPTED)))
    async with _moving_away(db, story):
        importing = asyncio.create_task(story.post(admin, "/v1/cases", document))
    refusal = problem(await importing, 422, "invalid_case")
    assert complaints(refusal) == [("body.case.region_code", "case_misplaced")]


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


async def test_residents_report_claim_and_leave_while_nested_regions_are_moved(
    client: httpx.AsyncClient, db: Database
) -> None:
    """Homes and hazards of many regions are held from two sides; nobody waits in a circle."""
    story = await begin(client)
    places, admin = story.places, await make_staff(Role.DISTRICT_ADMIN, story.places.district)
    for number in range(ROUNDS):
        even = number % 2 == 0
        moves = {
            places.grid: places.neighbour if even else places.community,
            places.building: places.other_grid if even else places.grid,
        }
        stayers, leavers = [[await _settled(story) for _ in range(4)] for _ in range(2)]
        asked = [
            *(client.delete("/v1/me", headers=leaver.headers) for leaver in leavers),
            *(_move(client, admin, *move) for move in moves.items()),
            *[await _filing(story, stayer) for stayer in stayers],
            *(_claiming(story, stayer, f"{room}室") for stayer in stayers for room in (8, 9)),
            *(_move(client, admin, *move) for move in moves.items()),
        ]
        answers = await asyncio.gather(*asked)
        assert {answer.status_code for answer in answers} == {200, 201, 204}, answers
        await _require_consistent(db, places)
        await _require_at_home(db, story)


async def test_a_grid_moves_away_while_a_resident_leaves(client: httpx.AsyncClient, db: Database) -> None:
    """Both hold the homes first: a move that held the hazards would wait for homes, and who leaves for hazards."""
    story = await begin(client)
    admin = await make_staff(Role.DISTRICT_ADMIN, story.places.district)
    leaver = await _settled(story)
    caller = await leaver.caller()
    async with db.transaction() as session:
        await households.end_all(session, caller, leaver.id, clock.now())
        await session.flush()
        moving = asyncio.create_task(_move(client, admin, story.places.grid, story.places.neighbour))
        await asyncio.sleep(0.3)
        reports = select(Hazard.id).where(Hazard.reporter_id == leaver.id).order_by(Hazard.id)
        assert len(list(await session.scalars(reports.with_for_update()))) == 3
    assert (await moving).status_code == 200
    await _require_at_home(db, story)


async def _settled(story: Story) -> Person:
    """A resident with homes and reports where the tree is about to change."""
    resident = await make_resident(story.places.community)
    for room in range(3):
        assert (await _claiming(story, resident, f"{room}室")).status_code == 201
        await story.file(resident)
    return resident


def _claiming(story: Story, who: Person, address: str) -> Awaitable[httpx.Response]:
    home = {"region_id": str(story.places.building), "address": address, "relation": "tenant"}
    return story.post(who, "/v1/me/households", home)


async def _filing(story: Story, who: Person) -> Awaitable[httpx.Response]:
    return story.post(who, "/v1/hazards", await story.report(media_ids=await pictures(who)))


@asynccontextmanager
async def _moving_away(db: Database, story: Story) -> AsyncIterator[None]:
    """The grid goes to the neighbouring community; what the block starts meets the move before its commit."""
    admin = await (await make_staff(Role.DISTRICT_ADMIN, story.places.district)).caller()
    order = RegionUpdate(name="甲", name_en="A", parent_id=story.places.neighbour)
    async with db.transaction() as session:
        await regions.update_region(session, admin, story.places.grid, order, None)
        await session.flush()
        yield
        await asyncio.sleep(0.3)


@asynccontextmanager
async def _moved_meanwhile(db: Database, story: Story) -> AsyncIterator[AsyncSession]:
    """A transaction in which the block writes; the grid is moved away before its commit."""
    admin = await make_staff(Role.DISTRICT_ADMIN, story.places.district)
    async with db.transaction() as session:
        yield session
        moving = asyncio.create_task(_move(story.client, admin, story.places.grid, story.places.neighbour))
        await asyncio.sleep(0.3)
    assert (await moving).status_code == 200


async def _open_case(db: Database, story: Story) -> UUID:
    async with db.transaction() as session:
        community = await session.get_one(Region, story.places.community)
        case = SyncCase(id=new_id(), case_key=f"JJ-{new_id()}", event_seq=0)
        session.add(case)
        named = CaseCreated(
            category_code="garbage",
            region_code=community.code,
            description="垃圾堆积",
            location=Coordinates.model_validate(story.spot),
        )
        await district_cases.open_case(session, case, named)
        assert case.hazard_id is not None
        return case.hazard_id


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
