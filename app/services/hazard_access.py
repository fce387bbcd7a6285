"""Which hazards a caller may see, and the lock that every change takes first."""

from uuid import UUID

from sqlalchemy import ColumnElement, and_, or_, select, true
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.auth import Caller
from app.errors import Forbidden, NotFound
from app.events import Place
from app.models.hazard_assignments import AssignmentStatus, HazardAssignment
from app.models.hazard_categories import HazardCategory
from app.models.hazards import Hazard, HazardStatus, PublicState
from app.models.regions import RegionAncestor
from app.models.staff import Grant, Role, Staff, StaffStatus
from app.services import scopes

READ = "read_hazard"


def public() -> ColumnElement[bool]:
    """What every resident may know of: no private category, nothing rejected or hidden."""
    open_categories = select(HazardCategory.code).where(HazardCategory.public)
    return and_(
        Hazard.status != HazardStatus.REJECTED,
        Hazard.public_state != PublicState.HIDDEN,
        Hazard.category.in_(open_categories),
    )


def handled_by(caller: Caller, operation: str = READ) -> ColumnElement[bool]:
    """What a member of staff works on: in their regions, or dispatched to their organisation."""
    scope = caller.scope(operation)
    conditions = [scopes.within(Hazard.region_id, scope)]
    if scope.organisation_ids:
        dispatched = select(HazardAssignment.hazard_id).where(
            HazardAssignment.organisation_id.in_(scope.organisation_ids),
            HazardAssignment.status != AssignmentStatus.RELEASED,
        )
        conditions.append(Hazard.id.in_(dispatched))
    return or_(*conditions)


def visible_to(caller: Caller) -> ColumnElement[bool]:
    """All rows that exist for this caller; everything else is 404."""
    if caller.is_resident:
        return or_(Hazard.reporter_id == caller.id, public())
    return handled_by(caller)


async def lock(session: AsyncSession, caller: Caller, hazard_id: UUID, operation: str) -> Hazard:
    """The row to change, locked: 404 when the caller may not see it, 403 when the role is held elsewhere only."""
    found = (
        await session.execute(
            select(Hazard, _may(caller, operation))
            .where(Hazard.id == hazard_id, visible_to(caller))
            .with_for_update(of=Hazard)
        )
    ).one_or_none()
    if found is None:
        raise NotFound
    hazard, may = found
    if not may:
        raise Forbidden
    return hazard


async def lock_two(
    session: AsyncSession, caller: Caller, first: UUID, second: UUID, operation: str
) -> tuple[Hazard, Hazard]:
    """Two rows locked in id order, so that two merges cannot wait for each other."""
    locked = {
        hazard_id: await lock(session, caller, hazard_id, operation) for hazard_id in sorted({first, second})
    }
    return locked[first], locked[second]


async def staff_cover(session: AsyncSession, staff_id: UUID, role: Role, region_id: UUID) -> bool:
    """Whether an active member of staff holds a role at a place."""
    found = await session.scalar(
        select(Grant.id)
        .join(Staff, Staff.id == Grant.staff_id)
        .join(RegionAncestor, RegionAncestor.ancestor_id == Grant.region_id)
        .where(
            Grant.staff_id == staff_id,
            Grant.role == role,
            RegionAncestor.region_id == region_id,
            Staff.status == StaffStatus.ACTIVE,
            or_(Grant.expires_at.is_(None), Grant.expires_at > clock.now()),
        )
        .limit(1)
    )
    return found is not None


def place_of(hazard: Hazard) -> Place:
    """Where events about this hazard belong."""
    return Place(hazard.community_id, hazard.region_id)


def _may(caller: Caller, operation: str) -> ColumnElement[bool]:
    """Whether the role that shows a hazard to the caller is also one that `operation` needs."""
    if caller.is_resident or caller.scope(operation) == caller.scope(READ):
        return true()
    return handled_by(caller, operation)
