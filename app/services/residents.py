"""The people the service is for."""

from uuid import UUID

from sqlalchemy import ColumnElement, exists, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from app import auth, events, outbox
from app.auth import Caller
from app.db import insert, signal_after_commit
from app.errors import InvalidInput, NotFound, Unauthenticated, VersionConflict
from app.events import Place
from app.ids import new_id
from app.keys import seal, unseal, vault
from app.masking import mask_address, mask_id_number, mask_name, mask_phone
from app.models.base import JsonObject
from app.models.events import Audience
from app.models.hazards import Hazard, PublicState
from app.models.households import OPEN_STATUSES, Household
from app.models.regions import Region, RegionLevel
from app.models.residents import Resident
from app.schemas.households import HouseholdBrief
from app.schemas.residents import ResidentMe, ResidentMeUpdate, ResidentRead
from app.services import hazard_access, scopes

READ = "read_resident"


async def read_me(session: AsyncSession, caller: Caller) -> ResidentMe:
    """The caller's own profile."""
    resident = await session.get(Resident, caller.id)
    if resident is None:
        raise NotFound
    return describe_me(resident)


async def update_me(
    session: AsyncSession, caller: Caller, body: ResidentMeUpdate, version: int | None
) -> ResidentMe:
    """Change what the caller says of themselves; only what was given."""
    resident = await lock_self(session, caller)
    known = body.version if version is None else version
    if known is not None and known != resident.version:
        raise VersionConflict
    given = sorted(body.model_fields_set - {"version"})
    if "community_id" in given:
        if body.community_id is not None:
            await require_community(session, body.community_id)
        join_community(session, resident, body.community_id)
    if "nickname" in given and body.nickname != unseal(resident, "nickname"):
        seal(resident, "nickname", body.nickname)
        resident.nickname_state = PublicState.PENDING
        await outbox.enqueue(session, "review.nickname", {"resident_id": str(resident.id)})
    if "language" in given:
        resident.language = body.language
    resident.version += 1
    record(session, caller, resident, "resident.updated", {"fields": ",".join(given)})
    return describe_me(resident)


async def lock_self(session: AsyncSession, caller: Caller) -> Resident:
    """The caller's own row, locked; 401 when it was deleted a moment ago."""
    resident = await lock(session, caller.id)
    if resident.deleted_at is not None:
        raise Unauthenticated
    return resident


async def lock(session: AsyncSession, resident_id: UUID) -> Resident:
    """A row to change, also a tombstone. It does not hold up those who only refer to it."""
    rows = await session.scalars(
        select(Resident).where(Resident.id == resident_id).with_for_update(key_share=True)
    )
    return rows.one()


async def read(session: AsyncSession, caller: Caller, resident_id: UUID) -> ResidentRead:
    """A resident whom the caller's work is about, masked; 404 for everybody else."""
    resident = await find(session, caller, resident_id)
    phone, name = unseal(resident, "phone"), unseal(resident, "real_name")
    nickname, number = unseal(resident, "nickname"), unseal(resident, "id_number")
    homes = await session.scalars(
        select(Household).where(Household.resident_id == resident_id, *open_homes(caller, READ))
    )
    return ResidentRead(
        id=resident.id,
        nickname_masked=nickname and mask_name(nickname),
        phone_masked=phone and mask_phone(phone),
        real_name_masked=name and mask_name(name),
        id_number_masked=number and mask_id_number(number),
        households=[describe_home(home) for home in homes],
        created_at=resident.created_at,
    )


async def find(session: AsyncSession, caller: Caller, resident_id: UUID) -> Resident:
    """A resident who lives, or reported something, where the member of staff works."""
    resident: Resident | None = await session.scalar(
        select(Resident).where(Resident.id == resident_id, Resident.deleted_at.is_(None), _known_to(caller))
    )
    if resident is None:
        raise NotFound
    return resident


def open_homes(caller: Caller, operation: str) -> list[ColumnElement[bool]]:
    """Households that are claimed or confirmed, in the part of the world that the caller has for `operation`."""
    here = scopes.within(Household.region_id, caller.scope(operation))
    return [Household.status.in_(OPEN_STATUSES), here]


async def find_or_create(session: AsyncSession, openid: str, community_id: UUID | None) -> UUID:
    """The resident behind an openid. Two first visits at once find the same one."""
    known = Resident.openid_index.in_(vault.blind_indexes("openid", openid))
    resident = await session.scalar(select(Resident).where(known).with_for_update())
    if resident is None:
        await _create(session, openid)
        resident = (await session.scalars(select(Resident).where(known).with_for_update())).one()
    if resident.community_id is None:
        resident.community_id = community_id
    return resident.id


async def require_community(session: AsyncSession, community_id: UUID) -> None:
    """422 unless it is a community."""
    level = await session.scalar(select(Region.level).where(Region.id == community_id))
    if level is not RegionLevel.COMMUNITY:
        raise InvalidInput.of(
            ("body", "community_id"), "unknown_community", "is not a community of this district", "社区不存在"
        )


def join_community(session: AsyncSession, resident: Resident, community_id: UUID | None) -> None:
    """Belong to another community; requests that are next know it."""
    resident.community_id = community_id
    signal_after_commit(session, auth.topic(resident.id))


def record(
    session: AsyncSession, caller: Caller, resident: Resident, type_: str, payload: JsonObject | None = None
) -> None:
    """What happened to a resident is for auditors only."""
    place = Place(resident.community_id, resident.community_id)
    events.record(session, caller, resident, type_, audience=Audience.AUDIT, place=place, payload=payload)


def describe_me(resident: Resident) -> ResidentMe:
    """The profile as its owner sees it."""
    phone, name = unseal(resident, "phone"), unseal(resident, "real_name")
    number = unseal(resident, "id_number")
    return ResidentMe(
        kind="resident",
        id=resident.id,
        nickname=unseal(resident, "nickname"),
        phone_masked=phone and mask_phone(phone),
        real_name_masked=name and mask_name(name),
        id_number_masked=number and mask_id_number(number),
        community_id=resident.community_id,
        language=resident.language,
        created_at=resident.created_at,
        version=resident.version,
    )


def describe_home(home: Household) -> HouseholdBrief:
    """One home with its address masked."""
    address = unseal(home, "address")
    return HouseholdBrief(
        id=home.id,
        community_id=home.community_id,
        region_id=home.region_id,
        address_masked=address and mask_address(address),
        relation=home.relation,
        status=home.status,
    )


def _known_to(caller: Caller) -> ColumnElement[bool]:
    lives_there = exists().where(Household.resident_id == Resident.id, *open_homes(caller, READ))
    reported_there = exists().where(Hazard.reporter_id == Resident.id, hazard_access.handled_by(caller, READ))
    return or_(lives_there, reported_there)


async def _create(session: AsyncSession, openid: str) -> None:
    resident = Resident(id=new_id(), openid_index=vault.blind_index("openid", openid))
    seal(resident, "openid", openid)
    values = {name: getattr(resident, name) for name in ("id", "openid_index", "openid_sealed")}
    await session.execute(
        insert(Resident).values(values).on_conflict_do_nothing(index_elements=["openid_index"])
    )
