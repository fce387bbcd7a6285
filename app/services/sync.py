"""What the district sends: stored before it is acknowledged, applied in order per case, parked when it must wait."""

import hashlib
from datetime import timedelta
from uuid import UUID

import orjson
from pydantic import TypeAdapter
from sqlalchemy import ColumnElement, and_, select
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock, events, outbox
from app.auth import SYSTEM
from app.db import insert
from app.errors import Conflict, Problem, Unavailable
from app.events import Place
from app.ids import new_id
from app.keys import seal, unseal
from app.leases import Lease
from app.models.base import JsonObject
from app.models.events import Audience
from app.models.hazards import Hazard
from app.models.sync import InboundEvent, InboundStatus, SyncCase
from app.schemas.sync import (
    Accepted,
    CaseClosedEvent,
    CaseCreatedEvent,
    CaseRepliedEvent,
    CaseReturnedEvent,
    CaseStatusChangedEvent,
    DistrictEvent,
)
from app.services import code_mappings, district_cases, hazard_access

TASK = "sync.apply"
_GAP = "earlier numbers are missing"
_FORGOTTEN = "this number was applied long ago"
_PATIENCE = timedelta(minutes=10)
_ADAPTER: TypeAdapter[DistrictEvent] = TypeAdapter(DistrictEvent)


class DistrictNotConnected(Unavailable):
    """The operator has set no secret of the district."""

    code = "district_not_connected"
    title_en, title_zh = "The district platform is not connected here", "此处未对接区平台"


class SyncConflict(Conflict):
    """The same number of the same case came before, and said something else."""

    code = "sync_conflict"
    title_en, title_zh = "Another event with this number was received before", "该序号已接收过不同内容的事件"


async def receive(session: AsyncSession, message_id: str, event: DistrictEvent) -> Accepted | None:
    """Keep an event. A repeat is acknowledged and changes nothing.

    None when it contradicts what came before under its number: the alarm is recorded, so nothing may be rolled back.
    """
    case = await _lock_case(session, event.case)
    digest = _digest(event)
    before = await session.scalar(
        select(InboundEvent).where(
            (InboundEvent.message_id == message_id)
            | ((InboundEvent.case_id == case.id) & (InboundEvent.seq == event.seq))
        )
    )
    if before is not None:
        if before.digest != digest:
            place = await _place_of(session, case)
            _tell(session, case, place, "sync.conflict", {"number": event.seq})
            return None
        return Accepted(message_id=message_id, status=before.status, reason=before.reason)
    if event.seq <= case.forgotten_seq:
        return Accepted(message_id=message_id, status=InboundStatus.SUPERSEDED, reason=_FORGOTTEN)
    row = InboundEvent(
        id=new_id(),
        created_at=clock.now(),
        message_id=message_id,
        case_id=case.id,
        seq=event.seq,
        type=event.type,
        digest=digest,
        status=InboundStatus.PARKED,
        reason=None if event.seq == case.applied_seq + 1 else _GAP,
    )
    seal(row, "body", event.model_dump_json())
    session.add(row)
    await outbox.enqueue(session, TASK, {"case_id": str(case.id)}, key=f"{TASK}:{row.id}")
    return Accepted(message_id=message_id, status=row.status, reason=row.reason)


async def apply_case(lease: Lease) -> None:
    """Apply what is next, and then what that was in the way of."""
    async with lease.last_transaction() as session:
        await apply_parked(session, UUID(str(lease.payload["case_id"])))


async def apply_parked(session: AsyncSession, case_id: UUID) -> int:
    """Apply the parked events of a case as far as their numbers go on; how many were applied."""
    case = await session.scalar(select(SyncCase).where(SyncCase.id == case_id).with_for_update())
    applied = 0
    while case is not None:
        row = await session.scalar(
            select(InboundEvent).where(
                InboundEvent.case_id == case.id,
                InboundEvent.seq == case.applied_seq + 1,
                InboundEvent.status == InboundStatus.PARKED,
            )
        )
        if row is None or not await _apply(session, case, row):
            return applied
        applied += 1
        await session.flush()
    return applied


async def replay(session: AsyncSession) -> int:
    """Look again at everything parked, for instance after codes were mapped; how many events were applied."""
    case_ids = await session.scalars(
        select(InboundEvent.case_id).where(InboundEvent.status == InboundStatus.PARKED).distinct()
    )
    return sum([await apply_parked(session, case_id) for case_id in sorted(case_ids)])


def _overdue() -> ColumnElement[bool]:
    return and_(
        InboundEvent.status == InboundStatus.PARKED,
        InboundEvent.created_at < clock.now() - _PATIENCE,
        InboundEvent.told_at.is_(None),
    )


async def is_any_overdue(session: AsyncSession) -> bool:
    """Whether something has waited for long, and nobody was told."""
    return await session.scalar(select(InboundEvent.id).where(_overdue()).limit(1)) is not None


async def report_waiting(session: AsyncSession) -> int:
    """Tell of one case whose events have waited for long; how many of them."""
    case_id = await session.scalar(select(InboundEvent.case_id).where(_overdue()).limit(1))
    if case_id is None:
        return 0
    case = (await session.scalars(select(SyncCase).where(SyncCase.id == case_id).with_for_update())).one()
    rows = list(
        await session.scalars(select(InboundEvent).where(_overdue(), InboundEvent.case_id == case_id))
    )
    for row in rows:
        row.told_at = clock.now()
    facts: JsonObject = {"number": case.applied_seq + 1, "waiting": len(rows)}
    _tell(session, case, await _place_of(session, case), "sync.waiting", facts)
    return len(rows)


async def parked(session: AsyncSession, limit: int) -> list[tuple[str, int, str, str]]:
    """Case, number, type and reason of what waits, oldest first."""
    rows = await session.execute(
        select(SyncCase.case_key, InboundEvent.seq, InboundEvent.type, InboundEvent.reason)
        .join(SyncCase, SyncCase.id == InboundEvent.case_id)
        .where(InboundEvent.status == InboundStatus.PARKED)
        .order_by(InboundEvent.created_at)
        .limit(limit)
    )
    return [(row.case_key, row.seq, row.type, row.reason or "") for row in rows]


async def _lock_case(session: AsyncSession, case_key: str) -> SyncCase:
    """The case, made when it is new. The id of a hazard of ours is the key of a case that we sent."""
    hazard_id = await _own_hazard(session, case_key)
    if hazard_id is not None:
        known = await session.scalar(
            select(SyncCase).where(SyncCase.hazard_id == hazard_id).with_for_update()
        )
        if known is not None:
            return known
    values = {
        "id": new_id(),
        "created_at": clock.now(),
        "case_key": case_key,
        "hazard_id": hazard_id,
        "applied_seq": 0,
        "forgotten_seq": 0,
        "event_seq": 0,
    }
    await session.execute(insert(SyncCase).values(values).on_conflict_do_nothing(index_elements=["case_key"]))
    return (
        await session.scalars(select(SyncCase).where(SyncCase.case_key == case_key).with_for_update())
    ).one()


async def _own_hazard(session: AsyncSession, case_key: str) -> UUID | None:
    try:
        hazard_id = UUID(case_key)
    except ValueError:
        return None
    return await session.scalar(select(Hazard.id).where(Hazard.id == hazard_id))


async def _apply(session: AsyncSession, case: SyncCase, row: InboundEvent) -> bool:
    """Apply one event; whether the next one may follow. A step that our chain no longer allows is superseded."""
    event = _ADAPTER.validate_json(unseal(row, "body") or "", strict=False)
    now = clock.now()
    if isinstance(event, CaseCreatedEvent):
        missing = await code_mappings.missing(session, event.data.category_code, event.data.region_code)
        if missing is not None:
            row.park(missing)
            return False
    try:
        async with session.begin_nested():
            await _dispatch(session, case, event)
        row.apply(now)
    except Problem as refused:
        row.supersede(refused.code, now)
    case.advance(row.seq)
    facts: JsonObject = {"type": row.type, "number": row.seq, "result": row.status}
    place = await _place_of(session, case)
    if row.status is InboundStatus.SUPERSEDED:
        _tell(session, case, place, "sync.not_applied", facts)
    events.record(session, SYSTEM, case, "sync.applied", audience=Audience.AUDIT, place=place, payload=facts)
    return True


async def _place_of(session: AsyncSession, case: SyncCase) -> Place:
    if case.hazard_id is None:
        return events.NOWHERE
    return hazard_access.place_of(await session.get_one(Hazard, case.hazard_id))


def _tell(session: AsyncSession, case: SyncCase, place: Place, type_: str, facts: JsonObject) -> None:
    """An alarm: administrators get a notice of it."""
    events.record(session, SYSTEM, case, type_, audience=Audience.STAFF, place=place, payload=facts)


async def _dispatch(session: AsyncSession, case: SyncCase, event: DistrictEvent) -> None:
    match event:
        case CaseCreatedEvent():
            await district_cases.open_case(session, case, event.data)
        case CaseStatusChangedEvent():
            await district_cases.note_status(session, case, event.data)
        case CaseRepliedEvent():
            await district_cases.reply(session, case, event.data)
        case CaseReturnedEvent():
            await district_cases.give_back(session, case, event.data)
        case CaseClosedEvent():
            await district_cases.close(session, case, event.data)


def _digest(event: DistrictEvent) -> str:
    return hashlib.sha256(
        orjson.dumps(event.model_dump(mode="json"), option=orjson.OPT_SORT_KEYS)
    ).hexdigest()
