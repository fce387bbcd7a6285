"""Household claims, for the community that confirms them."""

from uuid import UUID

from fastapi import APIRouter

from app.deps import CurrentCaller, ReadSession, Session
from app.models.households import HouseholdStatus
from app.operation import Operation
from app.pagination import CursorParameter, Limit
from app.schemas.base import Page
from app.schemas.households import HouseholdClaimRead
from app.services import households

router = APIRouter(prefix="/v1/households", tags=["residents"], route_class=Operation)


@router.get("")
async def list_households(
    caller: CurrentCaller,
    session: ReadSession,
    status: HouseholdStatus | None = None,
    limit: Limit = 20,
    cursor: CursorParameter = None,
) -> Page[HouseholdClaimRead]:
    """Claims and households where you work, masked, the oldest first."""
    return await households.page_claims(session, caller, status, limit, cursor)


@router.post("/{household_id}/confirm")
async def confirm_household(
    household_id: UUID, caller: CurrentCaller, session: Session
) -> HouseholdClaimRead:
    """The claim is true. A resident without a community joins this one."""
    return await households.decide(session, caller, household_id, "confirm_household", confirmed=True)


@router.post("/{household_id}/reject")
async def reject_household(household_id: UUID, caller: CurrentCaller, session: Session) -> HouseholdClaimRead:
    """The claim is not true."""
    return await households.decide(session, caller, household_id, "reject_household", confirmed=False)
