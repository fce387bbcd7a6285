"""Roles given and taken, with effect on the next call of whoever holds them."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app import auth, clock, events
from app.auth import Caller
from app.db import signal_after_commit
from app.errors import Conflict, InvalidInput, NotFound
from app.events import Place
from app.ids import new_id
from app.models.base import JsonObject
from app.models.events import Audience
from app.models.organisations import Organisation
from app.models.regions import Region
from app.models.sessions import PrincipalKind
from app.models.staff import Grant, Role, Staff
from app.schemas.staff import GrantCreate, GrantRead, OrganisationBrief, RegionBrief
from app.services import staff_access

_OF_ORGANISATIONS = frozenset({Role.DEPARTMENT_OFFICER})


class AlreadyGranted(Conflict):
    """The person holds this role there."""

    code = "already_granted"
    title_en, title_zh = "This role is granted there already", "该角色已授予"


@dataclass(frozen=True, slots=True)
class Target:
    """Where a role is held: in a region, or in an organisation."""

    region: Region | None
    organisation: Organisation | None

    @property
    def place(self) -> UUID:
        """The region that decides who may give the role there."""
        if self.region is not None:
            return self.region.id
        if self.organisation is not None:
            return self.organisation.region_id
        raise RuntimeError("a grant without a scope")

    def describe(self, grant: Grant) -> GrantRead:
        """A grant that is held here."""
        return GrantRead(
            id=grant.id,
            role=grant.role,
            region=None if self.region is None else RegionBrief.model_validate(self.region),
            organisation=None
            if self.organisation is None
            else OrganisationBrief.model_validate(self.organisation),
            expires_at=grant.expires_at,
        )


async def grant(session: AsyncSession, caller: Caller, staff_id: UUID, order: GrantCreate) -> GrantRead:
    """Give somebody else a role below one's own, inside one's own region."""
    staff = await staff_access.lock(session, caller, staff_id, "grant_role")
    staff.require_active()
    return await give(session, caller, staff, order)


async def give(session: AsyncSession, caller: Caller, staff: Staff, order: GrantCreate) -> GrantRead:
    """Give a role to somebody whose row is new or locked."""
    target = await target_of(session, order)
    await staff_access.require_grantable(session, caller, order.role, target.place)
    row = Grant(
        id=new_id(),
        staff_id=staff.id,
        role=order.role,
        region_id=order.region_id,
        organisation_id=order.organisation_id,
        granted_by=None if caller.kind is PrincipalKind.SYSTEM else caller.id,
        expires_at=order.expires_at,
    )
    await _make_room(session, row)
    session.add(row)
    await session.flush()
    _record(session, caller, staff, row, target.place, "staff.role_granted")
    return target.describe(row)


async def revoke(session: AsyncSession, caller: Caller, staff_id: UUID, grant_id: UUID) -> None:
    """Take a role from somebody else that one could have given."""
    staff = await staff_access.lock(session, caller, staff_id, "revoke_grant")
    row = await session.scalar(select(Grant).where(Grant.id == grant_id, Grant.staff_id == staff.id))
    if row is None:
        raise NotFound
    place = await staff_access.place_of(session, row)
    await staff_access.require_grantable(session, caller, row.role, place)
    await session.delete(row)
    _record(session, caller, staff, row, place, "staff.role_revoked")


async def target_of(session: AsyncSession, order: GrantCreate) -> Target:
    """Where an ordered role would be held. 422 for a scope that is missing, unknown, or not one for this role."""
    wanted = "organisation_id" if order.role in _OF_ORGANISATIONS else "region_id"
    unwanted = "region_id" if wanted == "organisation_id" else "organisation_id"
    if getattr(order, unwanted) is not None:
        raise _refused(unwanted, "wrong_scope", "is no scope of this role", "该角色不能在此范围内授予")
    if getattr(order, wanted) is None:
        raise _refused(wanted, "missing", "is required", "必填")
    if order.expires_at is not None and order.expires_at <= clock.now():
        raise _refused("expires_at", "not_in_future", "must be in the future", "必须是将来的时间")
    region = await session.get(Region, order.region_id) if order.region_id else None
    organisation = await session.get(Organisation, order.organisation_id) if order.organisation_id else None
    if region is None and organisation is None:
        raise _refused(wanted, "unknown_scope", "does not exist", "不存在")
    return Target(region, organisation)


async def held_by(session: AsyncSession, staff_ids: Sequence[UUID]) -> dict[UUID, list[GrantRead]]:
    """The grants in force of several people, oldest first."""
    rows = await session.execute(
        select(Grant, Region, Organisation)
        .outerjoin(Region, Region.id == Grant.region_id)
        .outerjoin(Organisation, Organisation.id == Grant.organisation_id)
        .where(Grant.staff_id.in_(staff_ids), Grant.in_force(clock.now()))
        .order_by(Grant.id)
    )
    found: dict[UUID, list[GrantRead]] = {staff_id: [] for staff_id in staff_ids}
    for row, region, organisation in rows:
        found[row.staff_id].append(Target(region, organisation).describe(row))
    return found


async def _make_room(session: AsyncSession, wanted: Grant) -> None:
    """409 when the same grant is in force; one that has expired gives way."""
    same = await session.scalar(
        select(Grant).where(
            Grant.staff_id == wanted.staff_id,
            Grant.role == wanted.role,
            Grant.region_id.is_not_distinct_from(wanted.region_id),
            Grant.organisation_id.is_not_distinct_from(wanted.organisation_id),
        )
    )
    if same is None:
        return
    if same.expires_at is None or same.expires_at > clock.now():
        raise AlreadyGranted
    await session.delete(same)
    await session.flush()


def _record(session: AsyncSession, caller: Caller, staff: Staff, row: Grant, place: UUID, type_: str) -> None:
    payload: JsonObject = {"grant_id": str(row.id), "role": row.role.value}
    if row.organisation_id is not None:
        payload["organisation_id"] = str(row.organisation_id)
    if row.expires_at is not None:
        payload["expires_at"] = row.expires_at.isoformat()
    staff.version += 1
    events.record(
        session, caller, staff, type_, audience=Audience.AUDIT, place=Place(None, place), payload=payload
    )
    signal_after_commit(session, auth.topic(staff.id))


def _refused(field: str, code: str, message_en: str, message_zh: str) -> InvalidInput:
    return InvalidInput.of(("body", field), code, message_en, message_zh)
