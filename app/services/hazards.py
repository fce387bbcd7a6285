"""What is done with a hazard: filed, supported, accepted, called, resolved, answered and closed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock, events, outbox, writes
from app.auth import SYSTEM, Caller
from app.db import insert
from app.errors import Conflict, Forbidden, InvalidInput
from app.events import Place
from app.geo import Point, cell_of
from app.ids import new_id
from app.keys import seal
from app.models.base import JsonObject
from app.models.events import Audience
from app.models.hazard_comments import CommentVisibility, HazardSupport
from app.models.hazard_results import HazardOutcome
from app.models.hazards import Hazard, HazardLevel, HazardSource, HazardStatus
from app.models.media import MediaPurpose
from app.models.regions import Region, RegionLevel
from app.models.staff import Role
from app.schemas.hazards import (
    HazardCreate,
    HazardDispute,
    HazardRate,
    HazardReject,
    HazardResolve,
)
from app.services import (
    hazard_access,
    hazard_assignments,
    hazard_categories,
    hazard_comments,
    hazard_deadlines,
    media,
    places,
    scopes,
)
from app.services.hazard_categories import Category
from app.settings import settings


class OwnHazard(Conflict):
    """The reporter counts already."""

    code = "own_hazard"
    title_en, title_zh = "You reported this hazard yourself", "这是您自己上报的隐患，无需再次支持"


class PhotoNeeded(InvalidInput):
    """A fixed hazard is shown fixed."""

    code = "photo_needed"
    title_en, title_zh = "An after-photo or an exemption is needed", "需要处置后照片或豁免原因"


@dataclass(frozen=True, slots=True)
class Report:
    """What somebody says about a danger, whichever way it came; `point` is GCJ-02, `note` is for staff."""

    category: Category
    description: str
    address: str | None
    place: Place
    point: Point
    source: HazardSource
    reporter_id: UUID | None = None
    anonymous: bool = True
    note: str | None = None


class Filed(NamedTuple):
    """A new hazard with its pictures."""

    hazard: Hazard
    pictures: Sequence[media.Taken]


async def file(session: AsyncSession, caller: Caller, body: HazardCreate) -> Filed:
    """A resident (or a grid worker for somebody without a phone) reports a danger."""
    category = await hazard_categories.usable(session, body.category, ("body", "category"))
    place, point = await _place(session, body)
    await _require_at_work(session, caller, place)
    report = Report(
        category=category,
        description=body.description,
        address=body.address,
        place=place,
        point=point,
        source=HazardSource.MINI_PROGRAM if caller.is_resident else HazardSource.STAFF,
        reporter_id=caller.id if caller.is_resident else None,
        anonymous=body.anonymous,
    )
    hazard = await register(session, caller, report)
    used = (body.media_ids, MediaPurpose.HAZARD, hazard.id, hazard.community_id)
    return Filed(hazard, await media.attach(session, caller, *used))


async def register(session: AsyncSession, caller: Caller, report: Report) -> Hazard:
    """A new hazard: the grid's clock starts, the duty worker will be told, the words go to the content check."""
    lng, lat = round(report.point.lng, 7), round(report.point.lat, 7)
    values = {
        "id": new_id(),
        "created_at": clock.now(),
        "community_id": report.place.community_id,
        "region_id": report.place.region_id,
        "category": report.category.code,
        "lng": lng,
        "lat": lat,
        "cell": cell_of(lng, lat),
        "source": report.source,
        "reporter_id": report.reporter_id,
        "anonymous": report.anonymous,
        "event_seq": 0,
        "version": 1,
    }
    hazard = writes.add_entity(session, Hazard, values)
    seal(hazard, "description", report.description)
    seal(hazard, "address", report.address)
    hazard_deadlines.start_first(session, hazard, report.category)
    event_id = _record(session, caller, hazard, "hazard.filed", {"category": hazard.category})
    await hazard_comments.attach_note(
        session, caller, hazard, report.note, CommentVisibility.INTERNAL, event_id
    )
    await outbox.enqueue(session, "review.text", {"hazard_id": str(hazard.id)})
    return hazard


async def support(session: AsyncSession, caller: Caller, hazard_id: UUID) -> Hazard:
    """Me too: each resident counts once, the reporter not at all."""
    hazard = await hazard_access.lock(session, caller, hazard_id, "support_hazard")
    hazard.require_open()
    if hazard.reporter_id == caller.id:
        raise OwnHazard
    values = {"hazard_id": hazard.id, "resident_id": caller.id, "created_at": clock.now()}
    added = await session.scalar(
        insert(HazardSupport).values(values).on_conflict_do_nothing().returning(HazardSupport.hazard_id)
    )
    if added is not None:
        hazard.support(1)
        _record(session, caller, hazard, "hazard.supported", {"supporters": hazard.supporters})
    return hazard


async def accept(session: AsyncSession, caller: Caller, hazard_id: UUID) -> Hazard:
    """The first grid worker takes it; for them, taking it again changes nothing."""
    hazard = await hazard_access.lock(session, caller, hazard_id, "accept_hazard")
    if hazard.is_open and hazard.handler_id == caller.id:
        return hazard
    hazard.accept(caller.id, clock.now())
    _record(session, caller, hazard, "hazard.accepted")
    return hazard


async def assign(session: AsyncSession, caller: Caller, hazard_id: UUID, worker_id: UUID) -> Hazard:
    """A community manager gives it to a grid worker who covers the place."""
    hazard = await hazard_access.lock(session, caller, hazard_id, "assign_hazard")
    await _require_worker(session, worker_id, hazard, ("body", "staff_id"))
    hazard.assign(worker_id, clock.now())
    _record(session, caller, hazard, "hazard.assigned")
    return hazard


async def call_street(session: AsyncSession, caller: Caller, hazard_id: UUID, reason: str | None) -> Hazard:
    """网格吹哨: the grid cannot settle it, the street's clock starts."""
    hazard = await hazard_access.lock(session, caller, hazard_id, "call_street")
    now = clock.now()
    hazard.call(caller.id)
    await hazard_deadlines.stop(session, hazard, now)
    await hazard_deadlines.start(session, hazard, HazardLevel.STREET, now)
    event_id = _record(session, caller, hazard, "hazard.called")
    await hazard_comments.attach_note(session, caller, hazard, reason, CommentVisibility.PUBLIC, event_id)
    return hazard


async def resolve(session: AsyncSession, caller: Caller, hazard_id: UUID, body: HazardResolve) -> Hazard:
    """Whoever has to act reports the result, with an after-photo or a typed exemption."""
    hazard = await hazard_access.lock(session, caller, hazard_id, "resolve_hazard")
    if hazard.level is HazardLevel.DEPARTMENT and not hazard_assignments.leads(caller, hazard):
        return await hazard_assignments.finish_part(session, caller, hazard, body)
    hazard.require_resolvable()
    await _require_turn(session, caller, hazard)
    await _require_proof(session, hazard, body)
    now, level = clock.now(), hazard.level
    hazard.resolve(body.outcome, body.unfixed_reason, body.exemption, now, settings.hazard_dispute_days)
    await media.attach(
        session, caller, body.media_ids, MediaPurpose.HAZARD_AFTER, hazard.id, hazard.community_id
    )
    await hazard_assignments.finish_all(session, caller, hazard, now)
    await hazard_deadlines.stop(session, hazard, now)
    event_id = _record(session, caller, hazard, "hazard.resolved", {"outcome": body.outcome, "by": level})
    await hazard_comments.attach_note(session, caller, hazard, body.note, CommentVisibility.PUBLIC, event_id)
    return hazard


async def confirm(session: AsyncSession, caller: Caller, hazard_id: UUID) -> Hazard:
    """The reporter agrees with the result."""
    hazard = await hazard_access.lock(session, caller, hazard_id, "confirm_hazard")
    hazard.confirm(caller.id, clock.now())
    _record(session, caller, hazard, "hazard.confirmed", {"outcome": _text(hazard.outcome)})
    return hazard


async def dispute(session: AsyncSession, caller: Caller, hazard_id: UUID, body: HazardDispute) -> Hazard:
    """The reporter disagrees: back to the same handler, with its history and a fresh clock."""
    hazard = await hazard_access.lock(session, caller, hazard_id, "dispute_hazard")
    now = clock.now()
    hazard.dispute(caller.id, now, settings.hazard_dispute_limit)
    await media.attach(session, caller, body.media_ids, MediaPurpose.HAZARD, hazard.id, hazard.community_id)
    await hazard_assignments.reopen_lead(session, hazard)
    if hazard.level is not None:
        await hazard_deadlines.start(session, hazard, hazard.level, now)
    event_id = _record(session, caller, hazard, "hazard.disputed", {"disputes": hazard.disputes})
    await hazard_comments.attach_note(
        session, caller, hazard, body.reason, CommentVisibility.PUBLIC, event_id
    )
    return hazard


async def rate(session: AsyncSession, caller: Caller, hazard_id: UUID, body: HazardRate) -> Hazard:
    """One to five stars by the reporter, once."""
    hazard = await hazard_access.lock(session, caller, hazard_id, "rate_hazard")
    hazard.rate(caller.id, body.score)
    seal(hazard, "rating_comment", body.comment)
    _record(session, caller, hazard, "hazard.rated", {"score": body.score})
    return hazard


async def merge(session: AsyncSession, caller: Caller, hazard_id: UUID, into_id: UUID) -> Hazard:
    """The same danger twice: supporters and updates follow, and the reporter of this one supports the other."""
    hazard, primary = await hazard_access.lock_two(session, caller, hazard_id, into_id, "merge_hazard")
    now = clock.now()
    hazard.merge_into(primary, now)
    await hazard_assignments.release_all(session, hazard, now)
    await hazard_deadlines.stop(session, hazard, now)
    primary.support(await _move_supporters(session, hazard, primary))
    await hazard_comments.move(session, hazard, primary)
    _record(session, caller, hazard, "hazard.merged", {"merged_into": str(primary.id)})
    _record(session, caller, primary, "hazard.supported", {"supporters": primary.supporters})
    return hazard


async def reject(session: AsyncSession, caller: Caller, hazard_id: UUID, body: HazardReject) -> Hazard:
    """Not a hazard; the reporter is told why."""
    hazard = await hazard_access.lock(session, caller, hazard_id, "reject_hazard")
    now, manager = clock.now(), caller.scope_of([Role.COMMUNITY_MANAGER, Role.STREET_DISPATCHER])
    manages = await scopes.covers(session, manager, hazard.region_id)
    hazard.reject(body.reason, now, None if manages else caller.id)
    await hazard_deadlines.stop(session, hazard, now)
    event_id = _record(session, caller, hazard, "hazard.rejected", {"reason": body.reason})
    await hazard_comments.attach_note(session, caller, hazard, body.note, CommentVisibility.PUBLIC, event_id)
    return hazard


async def hand_over(session: AsyncSession, caller: Caller, from_id: UUID, to_id: UUID) -> int:
    """A worker leaves: everything open passes to a colleague who covers the same places; how many did."""
    rows = await session.scalars(
        select(Hazard)
        .where(
            Hazard.handler_id == from_id,
            Hazard.closed_at.is_(None),
            hazard_access.handled_by(caller, "hand_over_staff_hazards"),
        )
        .order_by(Hazard.id)
        .with_for_update(of=Hazard)
    )
    hazards = list(rows)
    for hazard in hazards:
        await _require_worker(session, to_id, hazard, ("body", "to_staff_id"))
        hazard.hand_over(to_id)
        _record(session, caller, hazard, "hazard.handed_over", audience=Audience.STAFF)
    return len(hazards)


async def close_unanswered(session: AsyncSession) -> int:
    """The reporter's days are over: closed as resolved. Returns how many were closed."""
    now = clock.now()
    rows = await session.scalars(
        select(Hazard)
        .where(Hazard.status == HazardStatus.RESOLVED, Hazard.dispute_until <= now)
        .order_by(Hazard.id)
        .limit(200)
        .with_for_update(skip_locked=True)
    )
    hazards = list(rows)
    for hazard in hazards:
        hazard.close_unanswered(now)
        _record(session, SYSTEM, hazard, "hazard.closed", {"outcome": _text(hazard.outcome)})
    return len(hazards)


def _record(
    session: AsyncSession,
    caller: Caller,
    hazard: Hazard,
    type_: str,
    payload: JsonObject | None = None,
    audience: Audience = Audience.PARTIES,
) -> UUID:
    facts: JsonObject = {"status": hazard.status, "version": hazard.version}
    place = hazard_access.place_of(hazard)
    return events.record(
        session, caller, hazard, type_, audience=audience, place=place, payload=facts | (payload or {})
    )


async def _place(session: AsyncSession, body: HazardCreate) -> tuple[Place, Point]:
    """The grid of the point; without one, the centre of the community that the address is in."""
    if body.location is not None:
        point = body.location.gcj02()
        place = await places.hold(session, await places.locate(session, point, ("body", "location")))
        if body.community_id not in (None, place.community_id):
            raise InvalidInput.of(
                ("body", "community_id"),
                "community_mismatch",
                "is not the community that the point lies in",
                "定位不在所选社区内",
            )
        return place, point
    if body.address is None or body.community_id is None:
        raise InvalidInput.of(
            ("body", "location"),
            "location_needed",
            "give a point, or an address with its community_id",
            "请提供定位，或填写地址并选择社区",
        )
    community = await session.scalar(
        select(Region).where(Region.id == body.community_id, Region.level == RegionLevel.COMMUNITY)
    )
    if community is None:
        raise InvalidInput.of(
            ("body", "community_id"), "unknown_community", "is not a community", "社区不存在"
        )
    return Place(community.id, community.id), Point(community.lng, community.lat)


async def _require_at_work(session: AsyncSession, caller: Caller, place: Place) -> None:
    """Staff file where they work, residents anywhere in the district."""
    if caller.is_resident or place.region_id is None:
        return
    if not await scopes.covers(session, caller.scope("file_hazard"), place.region_id):
        raise Forbidden


async def _require_turn(session: AsyncSession, caller: Caller, hazard: Hazard) -> None:
    """Only the level that has to act may resolve: its handler, the street, or the lead department."""
    if hazard.level is HazardLevel.GRID:
        hazard.require_handler(caller.id)
        return
    if hazard.level is HazardLevel.STREET:
        scope = caller.scope_of([Role.STREET_DISPATCHER])
        if not await scopes.covers(session, scope, hazard.region_id):
            raise Forbidden


async def _require_proof(session: AsyncSession, hazard: Hazard, body: HazardResolve) -> None:
    if body.exemption is not None:
        category = await hazard_categories.find(session, hazard.category)
        if body.exemption not in category.exemptions:
            raise InvalidInput.of(
                ("body", "exemption"),
                "exemption_not_allowed",
                "is not allowed for this category",
                "该类别不允许此豁免",
            )
    elif body.outcome is HazardOutcome.FIXED and not body.media_ids:
        raise PhotoNeeded.of(
            ("body", "media_ids"),
            PhotoNeeded.code,
            "an after-photo or an exemption is needed",
            "需要处置后照片或豁免原因",
        )


async def _require_worker(session: AsyncSession, worker_id: UUID, hazard: Hazard, loc: Sequence[str]) -> None:
    if not await hazard_access.staff_cover(session, worker_id, Role.GRID_WORKER, hazard.region_id):
        raise InvalidInput.of(
            loc, "not_a_grid_worker_here", "is not a grid worker of this place", "不是该区域的网格员"
        )


async def _move_supporters(session: AsyncSession, hazard: Hazard, primary: Hazard) -> int:
    """Everybody who saw the duplicate, its reporter included, counts once on the other; how many are new."""
    rows = await session.scalars(
        select(HazardSupport.resident_id).where(HazardSupport.hazard_id == hazard.id)
    )
    people = set(rows) | ({hazard.reporter_id} if hazard.reporter_id else set())
    people.discard(primary.reporter_id)
    if not people:
        return 0
    now = clock.now()
    values = [
        {"hazard_id": primary.id, "resident_id": person, "created_at": now}
        for person in sorted(people, key=str)
    ]
    added = await session.scalars(
        insert(HazardSupport).values(values).on_conflict_do_nothing().returning(HazardSupport.resident_id)
    )
    return len(list(added))


def _text(outcome: HazardOutcome | None) -> str | None:
    return outcome.value if outcome else None
