"""What the district may do to a case: hand it to a community, report, reply, return and close it."""

from contextlib import suppress
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock, events
from app.auth import SYSTEM
from app.errors import Conflict, NotFound, Problem
from app.events import Place
from app.geo import Point
from app.models.base import JsonObject
from app.models.events import Audience
from app.models.hazard_comments import CommentVisibility
from app.models.hazards import Hazard, HazardSource
from app.models.regions import Region
from app.models.sync import MappingKind, SyncCase
from app.schemas.sync import CaseClosed, CaseCreated, CaseReplied, CaseReturned, CaseStatusChanged
from app.services import (
    code_mappings,
    hazard_access,
    hazard_assignments,
    hazard_categories,
    hazard_comments,
    hazard_deadlines,
    hazards,
    places,
)
from app.services.hazards import Report


class CaseExists(Conflict):
    """The case was handed over before."""

    code = "case_exists"
    title_en, title_zh = "This case is here already", "该案件已存在"


async def open_case(session: AsyncSession, case: SyncCase, body: CaseCreated) -> None:
    """A new hazard in the named community, with its own clock, like one that a resident filed."""
    if case.hazard_id is not None:
        raise CaseExists
    category = await code_mappings.ours(session, MappingKind.CATEGORY, body.category_code)
    region_code = await code_mappings.ours(session, MappingKind.REGION, body.region_code)
    region = (await session.scalars(select(Region).where(Region.code == region_code))).one()
    place, point = await _place(session, region, body)
    report = Report(
        category=await hazard_categories.find(session, category or ""),
        description=body.description,
        address=body.address,
        place=place,
        point=point,
        source=HazardSource.DISTRICT,
    )
    hazard = await hazards.register(session, SYSTEM, report)
    case.bind(hazard.id)


async def _place(session: AsyncSession, region: Region, body: CaseCreated) -> tuple[Place, Point]:
    """Where the district says it is, as far as that lies in the community that it names; else its middle."""
    if body.location is not None:
        point = body.location.gcj02()
        with suppress(Problem):
            place = await places.hold(session, await places.locate(session, point, ("data", "location")))
            if place.community_id == region.id:
                return place, point
    return Place(region.id, region.id), Point(region.lng, region.lat)


async def note_status(session: AsyncSession, case: SyncCase, body: CaseStatusChanged) -> None:
    """How far the district is: an entry in the history, not a step of our chain."""
    hazard = await _lock(session, case)
    event_id = _record(session, hazard, "hazard.district_status", {"district_status": body.status})
    await hazard_comments.attach_note(session, SYSTEM, hazard, body.note, CommentVisibility.PUBLIC, event_id)


async def reply(session: AsyncSession, case: SyncCase, body: CaseReplied) -> None:
    """A public word of the district."""
    hazard = await _lock(session, case)
    event_id = _record(session, hazard, "hazard.commented", {"by": "district"})
    await hazard_comments.attach_note(session, SYSTEM, hazard, body.text, CommentVisibility.PUBLIC, event_id)


async def give_back(session: AsyncSession, case: SyncCase, body: CaseReturned) -> None:
    """The result is not accepted: back to whoever resolved it, with a fresh clock."""
    hazard, now = await _lock(session, case), clock.now()
    hazard.give_back()
    await hazard_assignments.reopen_lead(session, hazard)
    if hazard.level is not None:
        await hazard_deadlines.start(session, hazard, hazard.level, now)
    event_id = _record(session, hazard, "hazard.returned", {"by": "district"})
    await hazard_comments.attach_note(
        session, SYSTEM, hazard, body.reason, CommentVisibility.PUBLIC, event_id
    )


async def close(session: AsyncSession, case: SyncCase, body: CaseClosed) -> None:
    """The district closes the case, wherever it is."""
    hazard, now = await _lock(session, case), clock.now()
    hazard.close_by_district(body.outcome, now)
    await hazard_assignments.release_all(session, hazard, now)
    await hazard_deadlines.stop(session, hazard, now)
    event_id = _record(session, hazard, "hazard.closed", {"outcome": body.outcome, "by": "district"})
    await hazard_comments.attach_note(
        session, SYSTEM, hazard, body.reason, CommentVisibility.PUBLIC, event_id
    )


async def _lock(session: AsyncSession, case: SyncCase) -> Hazard:
    hazard = await session.scalar(select(Hazard).where(Hazard.id == case.hazard_id).with_for_update())
    if hazard is None:
        raise NotFound
    return hazard


def _record(session: AsyncSession, hazard: Hazard, type_: str, facts: JsonObject) -> UUID:
    payload: JsonObject = {"status": hazard.status, "version": hazard.version, **facts}
    place = hazard_access.place_of(hazard)
    return events.record(
        session, SYSTEM, hazard, type_, audience=Audience.PARTIES, place=place, payload=payload
    )
