"""Claims to live somewhere: made by residents, decided by the community, ended by residents."""

import unicodedata
from datetime import datetime
from uuid import UUID

from sqlalchemy import func, select, true
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from app import clock, events, idempotency, pagination
from app.auth import Caller
from app.errors import Conflict, InvalidInput, NotFound
from app.events import Place
from app.ids import new_id
from app.keys import seal, unseal, vault
from app.masking import mask_name, mask_phone
from app.models.events import Audience
from app.models.households import OPEN_STATUSES, Household, HouseholdStatus
from app.models.regions import Region, RegionAncestor, RegionLevel
from app.models.residents import Resident
from app.schemas.base import Page
from app.schemas.households import HouseholdClaimRead, HouseholdCreate, HouseholdRead
from app.services import places, residents, scopes

MAX_OPEN = 5
_CLAIMS = "list_households"
_MINE = "list_my_households"
_LIVABLE = (RegionLevel.COMMUNITY, RegionLevel.COMPOUND, RegionLevel.GRID, RegionLevel.BUILDING)
_MASKED = ("address_masked", "nickname_masked", "phone_masked", "real_name_masked")


class HouseholdAlreadyClaimed(Conflict):
    """The caller has an open household at this address."""

    code = "household_already_claimed"
    title_en, title_zh = "You have claimed this household already", "您已认领该住户"


class TooManyHouseholds(Conflict):
    """Nobody lives in so many places."""

    code = "too_many_households"
    title_en, title_zh = f"At most {MAX_OPEN} households may be open", f"最多可认领 {MAX_OPEN} 个住户"


async def claim(session: AsyncSession, caller: Caller, body: HouseholdCreate) -> HouseholdRead:
    """Say where one lives; staff of the community confirm it."""
    region, community_id = await _home_region(session, body.region_id)
    resident = await residents.lock_self(session, caller)
    await _require_new(session, resident.id, address_key(region.id, body.address))
    household = Household(
        id=new_id(),
        created_at=clock.now(),
        resident_id=resident.id,
        community_id=community_id,
        region_id=region.id,
        address_index=vault.blind_index("address", address_key(region.id, body.address)),
        relation=body.relation,
        status=HouseholdStatus.CLAIMED,
        event_seq=0,
        version=1,
    )
    seal(household, "address", body.address)
    session.add(household)
    _record(session, caller, household, "household.claimed")
    return _read(household, region)


async def decide(
    session: AsyncSession, caller: Caller, household_id: UUID, operation: str, *, confirmed: bool
) -> HouseholdClaimRead:
    """Confirm or reject a claim, once. The first confirmed home settles which community the resident belongs to."""
    # The place first, then the resident, as in everything that locks them.
    resident = await residents.lock(session, await _hold_home(session, caller, household_id, operation))
    household = await session.get_one(Household, household_id, with_for_update=True)
    household.decide(confirmed, caller.id, clock.now())
    if confirmed and resident.community_id is None:
        residents.join_community(session, resident, household.community_id)
    _record(session, caller, household, "household.confirmed" if confirmed else "household.rejected")
    return _claim(household, resident, await session.get_one(Region, household.region_id))


async def end(session: AsyncSession, caller: Caller, household_id: UUID) -> None:
    """Move out, or take the claim back; the address is erased."""
    resident = await residents.lock_self(session, caller)
    household: Household | None = await session.scalar(
        select(Household)
        .where(Household.id == household_id, Household.resident_id == resident.id)
        .with_for_update()
    )
    if household is None:
        raise NotFound
    household.end(clock.now())
    await _forget_answers(session, household)
    _record(session, caller, household, "household.ended")


async def end_all(session: AsyncSession, caller: Caller, resident_id: UUID, at: datetime) -> None:
    """The resident left: no home stays open and no address stays behind, a rejected one neither."""
    rows = await session.scalars(
        select(Household)
        .where(Household.resident_id == resident_id, Household.address_sealed.is_not(None))
        .order_by(Household.id)
        .with_for_update()
    )
    for household in rows:
        if household.status in OPEN_STATUSES:
            household.end(at)
            _record(session, caller, household, "household.ended")
        else:
            household.forget_address()
        await _forget_answers(session, household)


async def page_mine(
    session: AsyncSession, caller: Caller, limit: int, cursor: str | None
) -> Page[HouseholdRead]:
    """The caller's households, the latest first, ended ones included."""
    before = pagination.decode_id(_MINE, cursor)
    rows = await session.execute(
        select(Household, Region)
        .join(Region, Region.id == Household.region_id)
        .where(Household.resident_id == caller.id, Household.id < before if before else true())
        .order_by(Household.id.desc())
        .limit(limit + 1)
    )
    items = [_read(household, region) for household, region in rows]
    more = pagination.encode(_MINE, str(items[limit - 1].id)) if len(items) > limit else None
    return Page(items=items[:limit], next_cursor=more)


async def page_claims(
    session: AsyncSession, caller: Caller, status: HouseholdStatus | None, limit: int, cursor: str | None
) -> Page[HouseholdClaimRead]:
    """Households where the caller works, the oldest first, so that nobody waits for ever."""
    after = pagination.decode_id(_CLAIMS, cursor)
    rows = await session.execute(
        select(Household, Resident, Region)
        .join(Resident, Resident.id == Household.resident_id)
        .join(Region, Region.id == Household.region_id)
        .where(
            scopes.within(Household.region_id, caller.scope(_CLAIMS)),
            Household.status == status if status else true(),
            Household.id > after if after else true(),
        )
        .order_by(Household.id)
        .limit(limit + 1)
    )
    items = [_claim(*row) for row in rows]
    more = pagination.encode(_CLAIMS, str(items[limit - 1].id)) if len(items) > limit else None
    return Page(items=items[:limit], next_cursor=more)


def address_key(region_id: UUID, address: str) -> str:
    """What is indexed of an address: its region and its words, however they are spaced and cased."""
    words = "".join(unicodedata.normalize("NFKC", address).split()).casefold()
    return f"{region_id}|{words}"


async def _home_region(session: AsyncSession, region_id: UUID) -> tuple[Region, UUID]:
    """Where somebody can live, and the community that it belongs to until the commit."""
    above = aliased(Region)
    row = (
        await session.execute(
            select(Region, above.id)
            .join(RegionAncestor, RegionAncestor.region_id == Region.id)
            .join(above, above.id == RegionAncestor.ancestor_id)
            .where(Region.id == region_id, Region.level.in_(_LIVABLE), above.level == RegionLevel.COMMUNITY)
        )
    ).one_or_none()
    if row is None:
        raise InvalidInput.of(
            ("body", "region_id"),
            "unknown_region",
            "is not a building, grid, compound or community",
            "不是楼栋、网格、小区或社区",
        )
    region, community_id = row
    place = await places.hold(session, Place(community_id, region.id))
    return region, place.community_id or community_id


async def _hold_home(session: AsyncSession, caller: Caller, household_id: UUID, operation: str) -> UUID:
    """The resident of a claim where the caller works, and goes on working until the commit; else 404."""
    query = select(Household.resident_id, Household.community_id, Household.region_id)
    home = (await session.execute(query.where(Household.id == household_id))).one_or_none()
    if home is None:
        raise NotFound
    await places.hold(session, Place(home.community_id, home.region_id))
    if not await scopes.covers(session, caller.scope(operation), home.region_id):
        raise NotFound
    resident_id: UUID = home.resident_id
    return resident_id


async def _require_new(session: AsyncSession, resident_id: UUID, key: str) -> None:
    opened = [Household.resident_id == resident_id, Household.status.in_(OPEN_STATUSES)]
    same = Household.address_index.in_(vault.blind_indexes("address", key))
    if await session.scalar(select(Household.id).where(*opened, same)):
        raise HouseholdAlreadyClaimed
    if (await session.scalar(select(func.count()).select_from(Household).where(*opened)) or 0) >= MAX_OPEN:
        raise TooManyHouseholds


async def _forget_answers(session: AsyncSession, household: Household) -> None:
    await idempotency.redact(session, household.id, _MASKED)


def _record(session: AsyncSession, caller: Caller, household: Household, type_: str) -> None:
    place = Place(household.community_id, household.region_id)
    events.record(session, caller, household, type_, audience=Audience.PARTIES, place=place)


def _read(household: Household, region: Region) -> HouseholdRead:
    return HouseholdRead(
        **residents.describe_home(household).model_dump(),
        region_name=region.name,
        region_name_en=region.name_en,
        created_at=household.created_at,
        decided_at=household.decided_at,
        ended_at=household.ended_at,
        version=household.version,
    )


def _claim(household: Household, resident: Resident, region: Region) -> HouseholdClaimRead:
    nickname, phone = unseal(resident, "nickname"), unseal(resident, "phone")
    name = unseal(resident, "real_name")
    return HouseholdClaimRead(
        **_read(household, region).model_dump(),
        resident_id=resident.id,
        nickname_masked=nickname and mask_name(nickname),
        phone_masked=phone and mask_phone(phone),
        real_name_masked=name and mask_name(name),
    )
