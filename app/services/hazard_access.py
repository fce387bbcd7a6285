"""Which hazards a caller may see, and the lock that every change takes first.

What a caller may see is said once, as conditions with parameters, so that hot statements can be compiled at import;
`parameters` gives the values for one caller.
"""

from collections.abc import Mapping, Sequence
from uuid import UUID

from sqlalchemy import ColumnElement, Uuid, and_, bindparam, exists, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock, writes
from app.auth import Caller, Scope
from app.errors import Forbidden, NotFound
from app.events import Place
from app.hot import Hot, Values, one_of
from app.models.hazard_assignments import AssignmentStatus, HazardAssignment
from app.models.hazard_categories import HazardCategory
from app.models.hazards import Hazard, HazardStatus, PublicState
from app.models.regions import RegionAncestor
from app.models.staff import Grant, Role, Staff, StaffStatus
from app.services import presence

READ = "read_hazard"

PUBLIC = and_(
    Hazard.status != HazardStatus.REJECTED,
    Hazard.public_state != PublicState.HIDDEN,
    exists().where(HazardCategory.code == Hazard.category, HazardCategory.public).correlate(Hazard),
)
"""What every resident may know of: no private category, nothing rejected or hidden."""

VISIBLE_TO_RESIDENTS = or_(Hazard.reporter_id == bindparam("me", type_=Uuid()), PUBLIC)
"""All rows that exist for the resident `:me`; everything else is 404."""


def dispatched(organisations: str = "organisations", scope: Scope | None = None) -> ColumnElement[bool]:
    """What was sent to one of the organisations of a scope, or of a parameter."""
    among = scope.organisation_ids if scope else None
    theirs = exists().where(
        HazardAssignment.hazard_id == Hazard.id,
        one_of(HazardAssignment.organisation_id, organisations, among),
        HazardAssignment.status != AssignmentStatus.RELEASED,
    )
    return theirs.correlate(Hazard)


def _handled(
    regions: str = "regions", organisations: str = "organisations", scope: Scope | None = None
) -> ColumnElement[bool]:
    among = scope.region_ids if scope else None
    covered = exists().where(
        RegionAncestor.region_id == Hazard.region_id, one_of(RegionAncestor.ancestor_id, regions, among)
    )
    return or_(covered.correlate(Hazard), dispatched(organisations, scope))


HANDLED = _handled()
"""What staff work on and may see: in their `:regions`, or dispatched to their `:organisations`."""

_LOCKED = (
    select(*Hazard.__table__.columns)
    .where(Hazard.id == bindparam("id", type_=Uuid()))
    .with_for_update(of=Hazard.__table__)
)
_LOCK_FOR_RESIDENTS: Hot[Mapping[str, object]] = Hot(_LOCKED.where(presence.HELD, VISIBLE_TO_RESIDENTS))
_LOCK_FOR_STAFF: Hot[Mapping[str, object]] = Hot(
    _LOCKED.add_columns(_handled("acting_regions", "acting_organisations").label("may")).where(HANDLED)
)


def parameters(caller: Caller, operation: str = READ) -> dict[str, object]:
    """The values of `:me`, `:regions` and `:organisations` for one caller and one operation."""
    scope = caller.scope(operation)
    return {"me": caller.id, "regions": scope.region_ids, "organisations": scope.organisation_ids}


def public() -> ColumnElement[bool]:
    """What every resident may know of."""
    return PUBLIC


def handled_by(caller: Caller, operation: str = READ) -> ColumnElement[bool]:
    """What a member of staff works on: in their regions, or dispatched to their organisation."""
    return _handled(scope=caller.scope(operation))


def visible_to(caller: Caller) -> ColumnElement[bool]:
    """All rows that exist for this caller; everything else is 404."""
    return or_(Hazard.reporter_id == caller.id, PUBLIC) if caller.is_resident else handled_by(caller)


async def lock(session: AsyncSession, caller: Caller, hazard_id: UUID, operation: str) -> Hazard:
    """The row to change, locked: 404 when the caller may not see it, 403 when the role is held elsewhere only."""
    values = parameters(caller) | {"id": hazard_id}
    if caller.is_resident:
        return await _lock_for_resident(session, caller, values)
    acting = caller.scope(operation)
    values |= {"acting_regions": acting.region_ids, "acting_organisations": acting.organisation_ids}
    found = dict(_only(await writes.run(session, _LOCK_FOR_STAFF, values)))
    if not found.pop("may"):
        raise Forbidden
    return writes.watch(session, Hazard, found)


async def _lock_for_resident(session: AsyncSession, caller: Caller, values: Values) -> Hazard:
    """The row and, before it, the resident's own; 401 when that was deleted a moment ago."""
    rows = await writes.run(session, _LOCK_FOR_RESIDENTS, {**values, "present": caller.id})
    if not rows:
        await presence.require(session, caller)
    return writes.watch(session, Hazard, _only(rows))


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


def _only(rows: Sequence[Mapping[str, object]]) -> Mapping[str, object]:
    if not rows:
        raise NotFound
    return rows[0]
