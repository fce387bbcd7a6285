"""Which members of staff a caller may see and manage, and the lock that every change takes first."""

from uuid import UUID

from sqlalchemy import ColumnElement, or_, select, true
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.auth import Caller
from app.errors import Forbidden, NotFound
from app.models.organisations import Organisation
from app.models.sessions import PrincipalKind
from app.models.staff import Grant, Role, Staff
from app.policy import GRANTABLE
from app.services.scopes import covers, within


class OwnAccount(Forbidden):
    """Nobody gives or takes their own rights."""

    code = "own_account"
    title_en, title_zh = "Somebody else has to do this for you", "不能对自己的账号执行此操作"


class RoleNotYours(Forbidden):
    """The role is not below the caller's own, or lies outside of where the caller holds it."""

    code = "role_not_yours_to_give"
    title_en, title_zh = "You may not give or take this role there", "您无权在该范围内授予或撤销此角色"


def visible_to(caller: Caller, operation: str) -> ColumnElement[bool]:
    """Staff who belong, or hold a role, somewhere in the caller's scope."""
    if caller.kind is PrincipalKind.SYSTEM:
        return true()
    scope = caller.scope(operation)
    place = select(Grant.staff_id).outerjoin(Organisation, Organisation.id == Grant.organisation_id)
    here = place.where(or_(within(Grant.region_id, scope), within(Organisation.region_id, scope)))
    return or_(within(Staff.region_id, scope), Staff.id.in_(here))


async def lock(session: AsyncSession, caller: Caller, staff_id: UUID, operation: str) -> Staff:
    """Somebody else's row, to be changed: 404 when the caller may not see it, 403 when it is their own."""
    staff: Staff | None = await session.scalar(
        select(Staff).where(Staff.id == staff_id, visible_to(caller, operation)).with_for_update()
    )
    if staff is None:
        raise NotFound
    if staff.id == caller.id:
        raise OwnAccount
    return staff


async def require_manageable(session: AsyncSession, caller: Caller, staff: Staff) -> None:
    """403 unless the caller could have given every role that this person holds."""
    held = await session.scalars(select(Grant).where(Grant.staff_id == staff.id, Grant.in_force(clock.now())))
    for grant in held:
        await require_grantable(session, caller, grant.role, await place_of(session, grant))


async def require_grantable(session: AsyncSession, caller: Caller, role: Role, region_id: UUID) -> None:
    """403 unless one grant of the caller is above this role and covers this region."""
    if caller.kind is PrincipalKind.SYSTEM:
        return
    above = {granter for granter, below in GRANTABLE.items() if role in below}
    if not await covers(session, caller.scope_of(above), region_id):
        raise RoleNotYours


async def place_of(session: AsyncSession, grant: Grant) -> UUID:
    """The region of a grant: its own, or that of its organisation."""
    if grant.region_id is not None:
        return grant.region_id
    organisation = await session.get_one(Organisation, grant.organisation_id)
    return organisation.region_id
