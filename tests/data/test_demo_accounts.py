"""The demo's staff: somebody for every part of the story, nobody outside of development."""

import re

import httpx
import pyotp
import pytest
from sqlalchemy import func, select

from app import clock
from app.db import Database
from app.models.hazard_categories import HazardCategory
from app.models.organisations import Organisation
from app.models.regions import Region, RegionAncestor, RegionLevel
from app.models.staff import Grant, Role, Staff
from app.passwords import require_strong
from app.reference import load_categories, load_regions
from app.services import demo_accounts, seeding
from app.services.demo_accounts import ACCOUNTS, PASSWORD, TOTP_SECRET, DemoRefused
from app.settings import settings


def test_somebody_is_there_for_every_part_of_the_story() -> None:
    assert {account.role for account in ACCOUNTS} == set(Role)
    grids = {row.code for row in load_regions() if row.level == "grid"}
    assert grids <= {account.code for account in ACCOUNTS if account.role is Role.GRID_WORKER}
    officers = {account.code for account in ACCOUNTS if account.is_officer}
    assert {category.lead_organisation for category in load_categories()} <= officers


def test_what_they_sign_in_with_would_pass_as_their_own() -> None:
    assert len({account.username for account in ACCOUNTS}) == len(ACCOUNTS)
    for account in ACCOUNTS:
        assert re.fullmatch(r"[a-z][a-z0-9._-]{2,31}", account.username)
        require_strong(PASSWORD, account.username)
    assert len(TOTP_SECRET) == 32
    assert len(pyotp.TOTP(TOTP_SECRET).byte_secret()) == 20


async def test_accounts_are_added_once_and_can_sign_in(client: httpx.AsyncClient, db: Database) -> None:
    password_hash = await demo_accounts.hash_password()
    for expected in (len(ACCOUNTS), 0):
        async with db.transaction() as session:
            assert await demo_accounts.add(session, password_hash) == expected
    code = pyotp.TOTP(TOTP_SECRET).at(clock.now())
    for username, totp in (("officer.fire", {}), ("manager.maple", {"totp": code})):
        order = {"username": username, "password": PASSWORD} | totp
        answer = await client.post("/v1/sessions/staff", json=order)
        assert answer.status_code == 201, answer.text
        principal = answer.json()["principal"]
        assert (principal["must_change_password"], principal["must_enrol_totp"]) == (False, False)
    async with db.reading() as session:
        names = {account.username for account in ACCOUNTS}
        held = await session.execute(
            select(Staff.username, Grant.role, Region.code, Organisation.code.label("organisation"))
            .join(Grant, Grant.staff_id == Staff.id)
            .outerjoin(Region, Region.id == Grant.region_id)
            .outerjoin(Organisation, Organisation.id == Grant.organisation_id)
            .where(Staff.username.in_(names))
        )
        assert {(row.username, row.role, row.code or row.organisation) for row in held} == {
            (account.username, account.role, account.code) for account in ACCOUNTS
        }


async def test_production_gets_none(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "env", "prod")
    with pytest.raises(DemoRefused):
        async with db.transaction() as session:
            await demo_accounts.add(session, "irrelevant")


async def test_reference_data_is_whole_and_added_once(db: Database) -> None:
    async with db.transaction() as session:
        assert await seeding.import_reference(session) == seeding.Added(0, 0, 0)
    async with db.reading() as session:
        maple = (await session.scalars(select(Region).where(Region.code == "510104909901"))).one()
        below = await session.execute(
            select(Region.level, func.count().label("number"))
            .join(RegionAncestor, RegionAncestor.region_id == Region.id)
            .where(RegionAncestor.ancestor_id == maple.id)
            .group_by(Region.level)
        )
        assert {row.level: row.number for row in below} == {
            RegionLevel.COMMUNITY: 1,
            RegionLevel.COMPOUND: 7,
            RegionLevel.GRID: 13,
            RegionLevel.BUILDING: 48,
        }
        building = select(Region).where(Region.level == RegionLevel.BUILDING, Region.polygon.is_(None))
        assert len(list(await session.scalars(building))) >= 48
        company = select(Region.code).join(Organisation, Organisation.region_id == Region.id)
        sihai = await session.scalar(company.where(Organisation.code == "sihai_property"))
        assert sihai == "51010490990101"


async def test_categories_keep_their_order_and_their_rules(db: Database) -> None:
    async with db.reading() as session:
        rows = {row.code: row for row in await session.scalars(select(HazardCategory))}
    for number, row in enumerate(load_categories()):
        stored = rows[row.code]
        assert stored.sort == number
        assert stored.exemptions == [str(each) for each in row.photo_exemptions]
        assert stored.deadlines == {
            level: {"minutes": each.minutes, "warn_minutes": each.warn_minutes, "clock": each.clock}
            for level, each in row.deadlines.items()
        }
        assert (stored.event_class is None) == (row.event_class is None)
