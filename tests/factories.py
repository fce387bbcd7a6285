"""What tests start from: places, people who are signed in, organisations. Each call makes new ones, so tests do not meet."""

import itertools
import secrets
from dataclasses import dataclass
from uuid import UUID

from argon2 import PasswordHasher
from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncSession

from app import auth, totp
from app.auth import Caller
from app.db import database, signal_after_commit
from app.ids import new_id
from app.keys import seal
from app.models.base import JsonObject
from app.models.organisations import Organisation
from app.models.regions import Region, RegionAncestor, RegionLevel
from app.models.sessions import PrincipalKind
from app.models.staff import Grant, Role, Staff
from app.policy import ROLES_WITH_TOTP
from app.services import places, residents, sessions

PASSWORD = "violet harbour 27 lanterns"
"""Of everybody whom `make_staff` made. Their hashes are cheap ones, to be quick."""

_CHEAP_HASH = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(PASSWORD)
_SIDE = 0.02
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Person:
    """Somebody who is signed in."""

    id: UUID
    token: str
    refresh_token: str
    username: str = ""
    totp_secret: str | None = None

    @property
    def headers(self) -> dict[str, str]:
        """What every request of theirs carries."""
        return {"Authorization": f"Bearer {self.token}"}

    async def caller(self) -> Caller:
        """Who they are to a service."""
        caller = await auth.identify(self.headers["Authorization"])
        assert caller is not None
        return caller


@dataclass(frozen=True)
class Places:
    """A district of its own, far from all others.

    district ┬ street ┬ community ┬ grid ─ building
             │        │           └ other_grid
             │        └ neighbour ─ neighbour_grid
             └ far_street ─ far_community ─ far_grid
    """

    district: UUID
    street: UUID
    community: UUID
    grid: UUID
    building: UUID
    other_grid: UUID
    neighbour: UUID
    neighbour_grid: UUID
    far_street: UUID
    far_community: UUID
    far_grid: UUID
    centres: dict[UUID, tuple[float, float]]

    def point(self, region_id: UUID) -> JsonObject:
        """Coordinates well inside a region, as a client sends them."""
        lng, lat = self.centres[region_id]
        return {"lng": lng, "lat": lat}


async def make_regions() -> Places:
    """A small tree with outlines: communities are squares of 2 km side by side, grids their halves."""
    number = next(_numbers)
    tree = _Tree(f"t{number:05}", 75 + number % 500 * 0.1, 20 + number // 500 * 0.1)
    district = tree.add(None, RegionLevel.DISTRICT, 0, 0, 3)
    street = tree.add(district, RegionLevel.STREET, 0, 0, 2)
    community = tree.add(street, RegionLevel.COMMUNITY, 0, 0, 1)
    grid = tree.add(community, RegionLevel.GRID, 0, 0, 0.5)
    building = tree.add(grid, RegionLevel.BUILDING, 0.1, 0, 0.1)
    other_grid = tree.add(community, RegionLevel.GRID, 0.5, 0, 0.5)
    neighbour = tree.add(street, RegionLevel.COMMUNITY, 1, 0, 1)
    neighbour_grid = tree.add(neighbour, RegionLevel.GRID, 1, 0, 1)
    far_street = tree.add(district, RegionLevel.STREET, 2, 0, 1)
    far_community = tree.add(far_street, RegionLevel.COMMUNITY, 2, 0, 1)
    far_grid = tree.add(far_community, RegionLevel.GRID, 2, 0, 1)
    async with database.transaction() as session:
        await tree.store(session)
    return Places(
        district=district.id,
        street=street.id,
        community=community.id,
        grid=grid.id,
        building=building.id,
        other_grid=other_grid.id,
        neighbour=neighbour.id,
        neighbour_grid=neighbour_grid.id,
        far_street=far_street.id,
        far_community=far_community.id,
        far_grid=far_grid.id,
        centres={region.id: (region.lng, region.lat) for region in tree.regions},
    )


async def make_organisation(region_id: UUID, kind: str = "department") -> UUID:
    """A department, company or the like that covers a region."""
    organisation = Organisation(
        id=new_id(),
        code=f"org{next(_numbers):05}",
        name="测试单位",
        name_en="Test Department",
        kind=kind,
        region_id=region_id,
    )
    async with database.transaction() as session:
        session.add(organisation)
    return organisation.id


async def make_staff(
    role: Role | None = None,
    region_id: UUID | None = None,
    *,
    organisation_id: UUID | None = None,
    home_id: UUID | None = None,
    stepped_up: bool = True,
    with_totp: bool | None = None,
    must_change_password: bool = False,
) -> Person:
    """Somebody who holds a role in a region or an organisation, signed in; more roles with `give_role`.

    `with_totp`: whether they have a second factor; as the role needs it when None.
    """
    username = f"staff{next(_numbers):05}"
    staff = Staff(
        id=new_id(),
        username=username,
        region_id=home_id or region_id,
        password_hash=_CHEAP_HASH,
        must_change_password=must_change_password,
    )
    seal(staff, "display_name", "测试员")
    secret = totp.new_secret() if (role in ROLES_WITH_TOTP if with_totp is None else with_totp) else None
    seal(staff, "totp_secret", secret)
    async with database.transaction() as session:
        session.add(staff)
        await session.flush()
        if role is not None:
            await _give(session, staff.id, role, region_id, organisation_id)
        signed_in = await sessions.start(
            session, PrincipalKind.STAFF, staff.id, "test", stepped_up=stepped_up
        )
    return Person(staff.id, signed_in.access_token, signed_in.refresh_token, username, secret)


async def give_role(
    person: Person, role: Role, region_id: UUID | None = None, *, organisation_id: UUID | None = None
) -> None:
    """One more role for somebody, with effect on their next call."""
    async with database.transaction() as session:
        await _give(session, person.id, role, region_id, organisation_id)
        signal_after_commit(session, auth.topic(person.id))


async def make_resident(community_id: UUID | None = None) -> Person:
    """A resident, signed in."""
    async with database.transaction() as session:
        resident_id = await residents.find_or_create(
            session, f"o{secrets.token_urlsafe(21)[:27]}", community_id
        )
        signed_in = await sessions.start(session, PrincipalKind.RESIDENT, resident_id, "test")
    return Person(resident_id, signed_in.access_token, signed_in.refresh_token)


async def _give(
    session: AsyncSession, staff_id: UUID, role: Role, region_id: UUID | None, organisation_id: UUID | None
) -> None:
    grant = Grant(
        id=new_id(),
        staff_id=staff_id,
        role=role,
        region_id=None if organisation_id else region_id,
        organisation_id=organisation_id,
    )
    session.add(grant)
    await session.flush()


class _Tree:
    """Collects regions in units of `_SIDE` from a south-western corner, with the closure of the tree."""

    def __init__(self, prefix: str, lng: float, lat: float) -> None:
        self.regions: list[Region] = []
        self._prefix, self._lng, self._lat = prefix, lng, lat
        self._above: dict[UUID | None, list[UUID]] = {None: []}

    def add(self, parent: Region | None, level: RegionLevel, x: float, y: float, width: float) -> Region:
        west, south = self._lng + x * _SIDE, self._lat + y * _SIDE
        east, north = west + width * _SIDE, south + _SIDE
        ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
        parent_id = parent.id if parent else None
        region = Region(
            id=new_id(),
            code=f"{self._prefix}{len(self.regions):02}",
            parent_id=parent_id,
            level=level,
            name=f"测试{level.value}",
            name_en=f"Test {level.value}",
            lng=round((west + east) / 2, 7),
            lat=round((south + north) / 2, 7),
            polygon={"type": "Polygon", "coordinates": [ring]},
        )
        self._above[region.id] = [region.id, *self._above[parent_id]]
        self.regions.append(region)
        return region

    async def store(self, session: AsyncSession) -> None:
        for region in self.regions:
            session.add(region)
            await session.flush()
        closure = [
            {"region_id": region.id, "ancestor_id": above}
            for region in self.regions
            for above in self._above[region.id]
        ]
        await session.execute(insert(RegionAncestor), closure)
        signal_after_commit(session, places.TOPIC)
