"""Personal data shown in clear: for a reason, at most so often, and on record for the person it is about."""

from collections.abc import Collection
from datetime import timedelta
from uuid import UUID

from sqlalchemy import Row, Select, func, select, true, union_all, update
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock, events, idempotency, pagination
from app.auth import Caller, Granted
from app.errors import Conflict, Forbidden, TooManyRequests
from app.events import NOWHERE, Place
from app.ids import new_id
from app.keys import seal, unseal
from app.models.hazard_assignments import AssignmentStatus, HazardAssignment
from app.models.hazards import Hazard
from app.models.households import OPEN_STATUSES, Household
from app.models.organisations import Organisation
from app.models.regions import Region, RegionAncestor
from app.models.residents import Resident
from app.models.reveals import Reveal
from app.models.staff import Staff
from app.policy import POLICY
from app.schemas.base import Page
from app.schemas.reveals import (
    AccessLogEntry,
    AddressRevealed,
    ReporterReveal,
    ResidentReveal,
    Revealed,
    RevealField,
)
from app.services import hazard_access, residents

PER_HOUR = 30
_HOUR = timedelta(hours=1)
_LIST = "list_my_access_log"
_RESIDENT = "reveal_resident"
_REPORTER = "reveal_hazard_reporter"
_WORKING = (AssignmentStatus.ASSIGNED, AssignmentStatus.CHECKED_IN, AssignmentStatus.DONE)
_SECRET = ("phone", "real_name", "id_number", "addresses")


class RevealLimitReached(TooManyRequests):
    """Nobody's work needs the data of so many people in an hour."""

    code = "reveal_limit_reached"
    title_en, title_zh = (
        f"At most {PER_HOUR} reveals an hour are possible",
        f"每小时最多查看 {PER_HOUR} 次个人信息",
    )


class NoReporter(Conflict):
    """Filed by staff, or the reporter has left."""

    code = "no_reporter"
    title_en, title_zh = "This hazard has no reporter", "该隐患没有上报人"


async def of_resident(
    session: AsyncSession, caller: Caller, resident_id: UUID, body: ResidentReveal
) -> Revealed:
    """Some fields of a resident who lives, or reported something, where the caller works."""
    resident = await residents.find(session, caller, resident_id)
    granted = await _grant_over(session, caller, _RESIDENT, _regions_of(resident_id))
    if granted is None:
        raise Forbidden
    fields = frozenset(body.fields)
    await _record(session, caller, granted, resident, None, fields, body.reason)
    answer = _clear(resident, fields)
    if RevealField.ADDRESS in fields:
        answer.addresses = await _addresses(session, caller, resident_id)
    return answer


async def of_reporter(
    session: AsyncSession, caller: Caller, hazard_id: UUID, body: ReporterReveal
) -> Revealed:
    """How to reach whoever reported a hazard that the caller works on."""
    hazard = await hazard_access.lock(session, caller, hazard_id, _REPORTER)
    here = select(Hazard.region_id).where(Hazard.id == hazard.id)
    granted = await _grant_over(session, caller, _REPORTER, here)
    granted = granted or await _dispatched_to(session, caller, hazard)
    if granted is None:
        raise Forbidden
    if hazard.reporter_id is None:
        raise NoReporter
    resident = await session.get_one(Resident, hazard.reporter_id)
    fields = frozenset(RevealField(field) for field in body.fields)
    await _record(session, caller, granted, resident, hazard, fields, body.reason)
    return _clear(resident, fields)


async def page(session: AsyncSession, caller: Caller, limit: int, cursor: str | None) -> Page[AccessLogEntry]:
    """Who saw the caller's data in clear, the latest first."""
    before = pagination.decode_id(_LIST, cursor)
    rows = await session.execute(
        _looks_at(caller.id)
        .where(Reveal.id < before if before else true())
        .order_by(Reveal.id.desc())
        .limit(limit + 1)
    )
    items = [_entry(row) for row in rows]
    more = pagination.encode(_LIST, str(items[limit - 1].id)) if len(items) > limit else None
    return Page(items=items[:limit], next_cursor=more)


async def every(session: AsyncSession, resident_id: UUID) -> list[AccessLogEntry]:
    """Every look at one resident, oldest first."""
    return [_entry(row) for row in await session.execute(_looks_at(resident_id).order_by(Reveal.id))]


async def forget_reasons(session: AsyncSession, resident_id: UUID) -> None:
    """The resident left: who looked and when stays on record, what was written about the person does not."""
    await session.execute(update(Reveal).where(Reveal.resident_id == resident_id).values(reason_sealed=None))


def _regions_of(resident_id: UUID) -> Select[UUID]:
    homes = select(Household.region_id).where(
        Household.resident_id == resident_id, Household.status.in_(OPEN_STATUSES)
    )
    reports = select(Hazard.region_id).where(Hazard.reporter_id == resident_id)
    return select(union_all(homes, reports).subquery().c.region_id)


async def _grant_over(
    session: AsyncSession, caller: Caller, operation: str, places: Select[UUID]
) -> Granted | None:
    """The grant for an operation that covers one of these places: what the resident is told about the caller."""
    found = await session.scalars(
        select(RegionAncestor.ancestor_id).where(
            RegionAncestor.region_id.in_(places),
            RegionAncestor.ancestor_id.in_(caller.scope(operation).region_ids),
        )
    )
    covering = set(found)
    roles = POLICY[operation].roles
    held = (granted for granted in caller.grants if granted.role in roles)
    return next((granted for granted in held if granted.region_id in covering), None)


async def _dispatched_to(session: AsyncSession, caller: Caller, hazard: Hazard) -> Granted | None:
    """The grant in an organisation that works on this hazard."""
    found = await session.scalars(
        select(HazardAssignment.organisation_id).where(
            HazardAssignment.hazard_id == hazard.id, HazardAssignment.status.in_(_WORKING)
        )
    )
    working = set(found)
    return next((granted for granted in caller.grants if granted.organisation_id in working), None)


async def _record(
    session: AsyncSession,
    caller: Caller,
    granted: Granted,
    resident: Resident,
    hazard: Hazard | None,
    fields: Collection[RevealField],
    reason: str,
) -> None:
    await _require_quota(session, caller)
    reveal = Reveal(
        id=new_id(),
        created_at=clock.now(),
        staff_id=caller.id,
        resident_id=resident.id,
        hazard_id=hazard.id if hazard else None,
        role=granted.role,
        region_id=granted.region_id,
        organisation_id=granted.organisation_id,
        fields=sorted(fields),
    )
    seal(reveal, "reason", reason)
    session.add(reveal)
    events.record_access(
        session,
        caller,
        "resident.revealed",
        place=hazard_access.place_of(hazard) if hazard else _place_of(resident),
        payload={
            "resident_id": str(resident.id),
            "hazard_id": str(hazard.id) if hazard else None,
            "reveal_id": str(reveal.id),
            "fields": ",".join(sorted(fields)),
        },
    )
    idempotency.mask_when_replayed(session, *_SECRET)


async def _require_quota(session: AsyncSession, caller: Caller) -> None:
    """So many within any hour. Reveals of one person queue up at their row, so that none is overlooked."""
    await session.execute(select(Staff.id).where(Staff.id == caller.id).with_for_update(key_share=True))
    now = clock.now()
    seen, oldest = (
        await session.execute(
            select(func.count(), func.min(Reveal.created_at)).where(
                Reveal.staff_id == caller.id, Reveal.created_at > now - _HOUR
            )
        )
    ).one()
    if seen >= PER_HOUR:
        raise RevealLimitReached(retry_after=int((oldest + _HOUR - now).total_seconds()) + 1)


def _place_of(resident: Resident) -> Place:
    return Place(resident.community_id, resident.community_id) if resident.community_id else NOWHERE


def _clear(resident: Resident, fields: Collection[RevealField]) -> Revealed:
    return Revealed(
        resident_id=resident.id,
        phone=unseal(resident, "phone") if RevealField.PHONE in fields else None,
        real_name=unseal(resident, "real_name") if RevealField.REAL_NAME in fields else None,
        id_number=unseal(resident, "id_number") if RevealField.ID_NUMBER in fields else None,
    )


async def _addresses(session: AsyncSession, caller: Caller, resident_id: UUID) -> list[AddressRevealed]:
    """Only of homes where the caller works."""
    rows = await session.scalars(
        select(Household)
        .where(Household.resident_id == resident_id, *residents.open_homes(caller, _RESIDENT))
        .order_by(Household.id)
    )
    return [
        AddressRevealed(household_id=row.id, region_id=row.region_id, address=address)
        for row in rows
        if (address := unseal(row, "address"))
    ]


def _looks_at(resident_id: UUID) -> Select[Reveal, str, str]:
    return (
        select(
            Reveal,
            func.coalesce(Region.name, Organisation.name),
            func.coalesce(Region.name_en, Organisation.name_en),
        )
        .outerjoin(Region, Region.id == Reveal.region_id)
        .outerjoin(Organisation, Organisation.id == Reveal.organisation_id)
        .where(Reveal.resident_id == resident_id)
    )


def _entry(row: Row[Reveal, str, str]) -> AccessLogEntry:
    reveal, office, office_en = row
    return AccessLogEntry(
        id=reveal.id,
        occurred_at=reveal.created_at,
        role=reveal.role,
        office=office,
        office_en=office_en,
        fields=[RevealField(field) for field in reveal.fields],
        reason=unseal(reveal, "reason"),
        hazard_id=reveal.hazard_id,
    )
