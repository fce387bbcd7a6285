"""Those who work for the community, and what they may do."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Body, Depends, Query

from app.deps import CurrentCaller, ReadSession, Session
from app.models.staff import Role, StaffStatus
from app.operation import Operation
from app.pagination import CursorParameter, Limit
from app.schemas.base import Page
from app.schemas.staff import (
    GrantCreate,
    GrantRead,
    HandedOver,
    HandOver,
    PasswordReset,
    StaffCreate,
    StaffCreated,
    StaffRead,
    TemporaryPassword,
)
from app.services import credentials, grants, staff

router = APIRouter(prefix="/v1/staff", tags=["staff"], route_class=Operation)

# Asked for before the session: a hash takes its time.
FreshPassword = Annotated[credentials.NewPassword, Depends(credentials.new_password)]


@router.get("")
async def list_staff(
    caller: CurrentCaller,
    session: ReadSession,
    role: Annotated[Role | None, Query(description="Only those who hold this role now.")] = None,
    status: StaffStatus | None = None,
    limit: Limit = 20,
    cursor: CursorParameter = None,
) -> Page[StaffRead]:
    """Staff who belong, or hold a role, in your regions."""
    return await staff.list_page(session, caller, role, status, limit, cursor)


@router.post("", status_code=201)
async def create_staff(
    body: StaffCreate, password: FreshPassword, caller: CurrentCaller, session: Session
) -> StaffCreated:
    """Take somebody on with a first role below yours, inside your region. The temporary password is shown once."""
    return await staff.create(session, caller, body, password)


@router.get("/{staff_id}")
async def read_staff(staff_id: UUID, caller: CurrentCaller, session: ReadSession) -> StaffRead:
    """One member of staff in your regions."""
    return await staff.read(session, caller, staff_id)


@router.post("/{staff_id}/disable")
async def disable_staff(staff_id: UUID, caller: CurrentCaller, session: Session) -> StaffRead:
    """Let somebody go. Their sessions end at once, their name stays in the history."""
    return await staff.disable(session, caller, staff_id)


@router.post("/{staff_id}/enable")
async def enable_staff(staff_id: UUID, caller: CurrentCaller, session: Session) -> StaffRead:
    """Take somebody back who was let go. They sign in anew, with the password and the roles that they had."""
    return await staff.enable(session, caller, staff_id)


@router.post("/{staff_id}/reset-password")
async def reset_staff_password(
    staff_id: UUID,
    password: FreshPassword,
    caller: CurrentCaller,
    session: Session,
    body: Annotated[PasswordReset, Body()] = PasswordReset(),  # noqa: B008 - read only
) -> TemporaryPassword:
    """A temporary password for somebody who forgot theirs, shown once. Their sessions end at once."""
    return await staff.reset_password(session, caller, staff_id, body, password)


@router.post("/{staff_id}/hand-over")
async def hand_over_staff_hazards(
    staff_id: UUID, body: HandOver, caller: CurrentCaller, session: Session
) -> HandedOver:
    """Give everything open that somebody handles to a grid worker of the same places, before they leave."""
    return await staff.hand_over(session, caller, staff_id, body)


@router.post("/{staff_id}/grants", status_code=201)
async def grant_role(staff_id: UUID, body: GrantCreate, caller: CurrentCaller, session: Session) -> GrantRead:
    """Give somebody a role below yours, inside your region. It counts from their next call on."""
    return await grants.grant(session, caller, staff_id, body)


@router.delete("/{staff_id}/grants/{grant_id}", status_code=204)
async def revoke_grant(staff_id: UUID, grant_id: UUID, caller: CurrentCaller, session: Session) -> None:
    """Take a role from somebody. It is gone at their next call."""
    await grants.revoke(session, caller, staff_id, grant_id)
