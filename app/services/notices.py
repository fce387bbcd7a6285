"""What the administrators of a region are told about the exchange with the outside: it stopped, or it does not add up."""

from collections.abc import Collection, Sequence
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.db import insert
from app.models.events import Event
from app.models.notifications import Notification
from app.models.regions import RegionAncestor
from app.models.sessions import PrincipalKind
from app.models.staff import Grant, Staff
from app.policy import KEY_ADMINS
from app.services import notifications

TOLD = frozenset(
    {
        "webhook_endpoint.disabled",
        "webhook_endpoint.gave_up",
        "sync.conflict",
        "sync.waiting",
        "sync.not_applied",
        "sync.drift_found",
        "sync.numbers_missing",
    }
)


async def tell(session: AsyncSession, batch: Sequence[Event]) -> None:
    """A row for everybody who administers the place of an event; for one without a place, everybody who administers any."""
    told = [event for event in batch if event.type in TOLD and event.actor_kind is PrincipalKind.SYSTEM]
    if not told:
        return
    by_region = await _administrators(session, {event.region_id for event in told if event.region_id})
    everybody = await _administrators_of_any(session) if any(not event.region_id for event in told) else set()
    rows = [
        notifications.row(event, (PrincipalKind.STAFF, staff_id), is_reachable=False)
        for event in told
        for staff_id in (by_region.get(event.region_id, set()) if event.region_id else everybody)
    ]
    if rows:
        await session.execute(insert(Notification).on_conflict_do_nothing(), rows)


async def _administrators(session: AsyncSession, region_ids: Collection[UUID]) -> dict[UUID, set[UUID]]:
    pairs = await session.execute(
        select(RegionAncestor.region_id, Grant.staff_id)
        .join(Grant, Grant.region_id == RegionAncestor.ancestor_id)
        .join(Staff, Staff.id == Grant.staff_id)
        .where(
            RegionAncestor.region_id.in_(region_ids),
            Grant.role.in_(KEY_ADMINS),
            *notifications.in_force(),
        )
    )
    found: dict[UUID, set[UUID]] = {}
    for region_id, staff_id in pairs:
        found.setdefault(region_id, set()).add(staff_id)
    return found


async def _administrators_of_any(session: AsyncSession) -> set[UUID]:
    return set(
        await session.scalars(
            select(Grant.staff_id)
            .join(Staff, Staff.id == Grant.staff_id)
            .where(Grant.role.in_(KEY_ADMINS), *notifications.in_force())
        )
    )
