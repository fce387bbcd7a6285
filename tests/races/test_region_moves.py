"""Branches of the tree that are moved at the same time: no ancestor is lost, none is left over."""

import asyncio
from uuid import UUID

import httpx
from sqlalchemy import select

from app.db import Database
from app.models.regions import Region, RegionAncestor
from app.models.staff import Role
from tests.factories import Person, Places, make_staff

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
