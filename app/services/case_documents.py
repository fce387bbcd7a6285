"""A case as one document: codes instead of local ids, people by their part in it, words only on a legal basis."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TypeVar
from uuid import UUID

from sqlalchemy import Select, select
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock, events
from app.auth import Caller
from app.errors import Conflict, NotFound
from app.ids import new_id
from app.keys import seal, unseal
from app.models.base import JsonObject
from app.models.cases import CaseReveal
from app.models.events import Event
from app.models.hazard_assignments import HazardAssignment
from app.models.hazard_comments import CommentVisibility, HazardComment
from app.models.hazard_deadlines import HazardDeadline
from app.models.hazards import Hazard
from app.models.media import Media
from app.models.organisations import Organisation
from app.models.regions import Region
from app.models.sessions import PrincipalKind
from app.schemas.cases import (
    MOST,
    CaseAssignment,
    CaseComment,
    CaseDeadline,
    CaseDocument,
    CaseEvent,
    CaseFacts,
    CaseLocation,
    CaseMedia,
    CasePerson,
    Fact,
)
from app.services import hazard_access, hazard_timelines, media

T = TypeVar("T")

LINK_SECONDS = 3600
_PAGE = 500
OPERATION = "read_hazard_case"
_CODE_OF = {"organisation_id": "organisation_code", "lead_organisation_id": "lead_organisation_code"}
ID_OF = {code: id_ for id_, code in _CODE_OF.items()}


class CaseTooLong(Conflict):
    """More happened to it than one document may hold."""

    code = "case_too_long"
    title_en, title_zh = (
        "The history of this case is too long for one document",
        "该案件历史过长，无法写入一份文档",
    )


async def export(session: AsyncSession, caller: Caller, hazard_id: UUID, basis: str | None) -> CaseDocument:
    """One case as the caller may have it; every export leaves a trace, one in clear also says on which basis."""
    visible = hazard_access.handled_by(caller, OPERATION)
    if caller.kind is PrincipalKind.SYSTEM:
        visible = Hazard.id.is_not(None)
    # Locked, so that all parts are of one moment: every step takes this lock first.
    hazard = await session.scalar(
        select(Hazard).where(Hazard.id == hazard_id, visible).with_for_update(of=Hazard, read=True)
    )
    if hazard is None:
        raise NotFound
    document = await describe(session, hazard, basis, caller.kind is not PrincipalKind.API_KEY)
    await _leave_trace(session, caller, hazard, basis)
    return document


async def describe(
    session: AsyncSession, hazard: Hazard, basis: str | None, internal_comments: bool
) -> CaseDocument:
    """The document of a row at hand. Without a basis it has no words and no pictures."""
    parts = await _parts(session, hazard, internal_comments)
    # A history of years takes about a second: beside the event loop, which has others to serve.
    return await asyncio.to_thread(_written, hazard, parts, basis, internal_comments)


def _written(hazard: Hazard, parts: "_Parts", basis: str | None, internal_comments: bool) -> CaseDocument:
    clear, people = basis is not None, _People(hazard, parts)
    document = CaseDocument(
        format="jincai-case/1",
        exported_at=clock.now(),
        consent_basis=basis,
        internal_comments=internal_comments,
        case=_facts(hazard, parts, people, clear),
        assignments=[_assignment(row, parts, people) for row in parts.assignments],
        deadlines=[CaseDeadline.model_validate(row, from_attributes=True) for row in parts.deadlines],
        comments=[_comment(row, parts, people, clear) for row in parts.comments],
        events=[_event(row, hazard, parts, people) for row in parts.events],
        media=[_picture(row, people) for row in parts.media] if clear else [],
        digest="0" * 64,
    )
    document.digest = document.computed_digest()
    return document


class _Parts:
    """The rows of a case, and the codes of the places and organisations that they name."""

    def __init__(
        self,
        assignments: Sequence[HazardAssignment],
        deadlines: Sequence[HazardDeadline],
        comments: Sequence[HazardComment],
        history: Sequence[Event],
        pictures: Sequence[Media],
        codes: dict[UUID, str],
    ) -> None:
        self.assignments, self.deadlines, self.comments = assignments, deadlines, comments
        self.events, self.media, self.codes = history, pictures, codes
        self.event_ids = {event.id for event in history}


async def _parts(session: AsyncSession, hazard: Hazard, internal_comments: bool) -> _Parts:
    assignments = select(HazardAssignment).where(HazardAssignment.hazard_id == hazard.id)
    deadlines = select(HazardDeadline).where(HazardDeadline.hazard_id == hazard.id)
    said = select(HazardComment).where(HazardComment.hazard_id == hazard.id)
    if not internal_comments:
        said = said.where(HazardComment.visibility == CommentVisibility.PUBLIC)
    history = select(Event).where(Event.subject_kind == Hazard.__tablename__, Event.subject_id == hazard.id)
    pictures = select(Media).join(Hazard, media.belongs_to(Hazard.id)).where(Hazard.id == hazard.id)
    return _Parts(
        await _all(session, "assignments", assignments.order_by(HazardAssignment.hop, HazardAssignment.id)),
        await _all(session, "deadlines", deadlines.order_by(HazardDeadline.n)),
        await _all(session, "comments", said.order_by(HazardComment.id)),
        await _all(session, "events", history.order_by(Event.seq)),
        await _all(session, "media", pictures.order_by(Media.id)),
        await _codes(session, hazard),
    )


async def _all(session: AsyncSession, name: str, query: Select[T]) -> list[T]:
    """No more than one document may hold, a page at a time: between two pages others are served."""
    pages = await session.stream_scalars(query.limit(MOST[name] + 1).execution_options(yield_per=_PAGE))
    found = [row async for row in pages]
    if len(found) > MOST[name]:
        raise CaseTooLong
    return found


async def _codes(session: AsyncSession, hazard: Hazard) -> dict[UUID, str]:
    places = select(Region.id, Region.code).where(Region.id.in_([hazard.community_id, hazard.region_id]))
    codes = {row.id: row.code for row in await session.execute(places)}
    codes |= {row.id: row.code for row in await session.execute(select(Organisation.id, Organisation.code))}
    return codes


class _People:
    """Everybody in a case, numbered in the order in which they come up: no id leaves, and the numbers come out alike."""

    def __init__(self, hazard: Hazard, parts: _Parts) -> None:
        self._numbers: dict[tuple[PrincipalKind, UUID], str] = {}
        self.named(PrincipalKind.RESIDENT, hazard.reporter_id)
        self.named(PrincipalKind.STAFF, hazard.handler_id)
        for event in parts.events:
            self.named(event.actor_kind, event.actor_id)
        for assignment in parts.assignments:
            self.named(PrincipalKind.STAFF, assignment.officer_id)

    def named(self, kind: PrincipalKind, person_id: UUID | None) -> str | None:
        """`p1`, `p2` …; nobody for the system."""
        if person_id is None or kind is PrincipalKind.SYSTEM:
            return None
        return self._numbers.setdefault((kind, person_id), f"p{len(self._numbers) + 1}")


def _facts(hazard: Hazard, parts: _Parts, people: _People, clear: bool) -> CaseFacts:
    return CaseFacts(
        id=hazard.id,
        category_code=hazard.category,
        community_code=parts.codes[hazard.community_id],
        region_code=parts.codes[hazard.region_id],
        location=CaseLocation(lng=hazard.lng, lat=hazard.lat, datum="gcj02"),
        source=hazard.source,
        anonymous=hazard.anonymous,
        public_state=hazard.public_state,
        description=unseal(hazard, "description") if clear else None,
        address=unseal(hazard, "address") if clear else None,
        reporter=people.named(PrincipalKind.RESIDENT, hazard.reporter_id),
        supporters=hazard.supporters,
        status=hazard.status,
        handler=people.named(PrincipalKind.STAFF, hazard.handler_id),
        lead_organisation_code=_code(parts, hazard.lead_organisation_id),
        refusals=hazard.refusals,
        hops=hazard.hops,
        due_at=hazard.due_at,
        overdue_at=hazard.overdue_at,
        accepted_at=hazard.accepted_at,
        resolved_at=hazard.resolved_at,
        resolved_from=hazard.resolved_from,
        outcome=hazard.outcome,
        unfixed_reason=hazard.unfixed_reason,
        exemption=hazard.exemption,
        dispute_until=hazard.dispute_until,
        disputes=hazard.disputes,
        closed_at=hazard.closed_at,
        reject_reason=hazard.reject_reason,
        merged_into=hazard.duplicate_of_id,
        rating=hazard.rating,
        rating_comment=unseal(hazard, "rating_comment") if clear else None,
        created_at=hazard.created_at,
        version=hazard.version,
    )


def _assignment(row: HazardAssignment, parts: _Parts, people: _People) -> CaseAssignment:
    place = None
    if row.checked_in_lng is not None and row.checked_in_lat is not None:
        place = CaseLocation(lng=row.checked_in_lng, lat=row.checked_in_lat, datum="gcj02")
    return CaseAssignment(
        id=row.id,
        organisation_code=parts.codes[row.organisation_id],
        hop=row.hop,
        role=row.role,
        binding=row.binding,
        status=row.status,
        officer=people.named(PrincipalKind.STAFF, row.officer_id),
        checked_in_at=row.checked_in_at,
        checked_in_location=place,
        distance_m=row.distance_m,
        finished_at=row.finished_at,
        created_at=row.created_at,
    )


def _comment(row: HazardComment, parts: _Parts, people: _People, clear: bool) -> CaseComment:
    return CaseComment(
        id=row.id,
        author_kind=row.author_kind,
        author=people.named(row.author_kind, row.author_id),
        visibility=row.visibility,
        public_state=row.public_state,
        text=unseal(row, "text") if clear else None,
        event_id=row.event_id if row.event_id in parts.event_ids else None,
        hidden_at=row.hidden_at,
        created_at=row.created_at,
    )


def _event(row: Event, hazard: Hazard, parts: _Parts, people: _People) -> CaseEvent:
    return CaseEvent(
        id=row.id,
        seq=row.seq,
        type=row.type,
        audience=row.audience,
        actor=CasePerson(
            kind=row.actor_kind,
            role=hazard_timelines.actor_of(hazard, row),
            person=people.named(row.actor_kind, row.actor_id),
        ),
        occurred_at=row.occurred_at,
        data=dict(_fact(name, value, parts.codes) for name, value in row.payload.items()),
    )


def _fact(name: str, value: object, codes: dict[UUID, str]) -> tuple[str, Fact]:
    if name in _CODE_OF and isinstance(value, str):
        return _CODE_OF[name], codes[UUID(value)]
    if value is None or isinstance(value, str | int | float | bool):
        return name, value
    raise ValueError(f"{name} of an event about a hazard is not a plain value")


def _picture(row: Media, people: _People) -> CaseMedia:
    return CaseMedia(
        id=row.id,
        purpose=row.purpose,
        content_type="image/jpeg",
        bytes=row.bytes,
        width=row.width,
        height=row.height,
        sha256=row.sha256,
        position=row.position,
        review=row.review,
        owner_kind=row.owner_kind,
        owner=people.named(row.owner_kind, row.owner_id),
        created_at=row.created_at,
        url=media.signed_url(row.id, "main", LINK_SECONDS),
        url_expires_at=datetime.fromtimestamp(media.link_end(LINK_SECONDS), UTC),
    )


def _code(parts: _Parts, organisation_id: UUID | None) -> str | None:
    return None if organisation_id is None else parts.codes[organisation_id]


async def _leave_trace(session: AsyncSession, caller: Caller, hazard: Hazard, basis: str | None) -> None:
    facts: JsonObject = {"hazard_id": str(hazard.id), "reveal_id": None}
    if basis is not None:
        reveal = CaseReveal(
            id=new_id(),
            created_at=clock.now(),
            hazard_id=hazard.id,
            caller_kind=caller.kind,
            caller_id=caller.id,
        )
        seal(reveal, "basis", basis)
        session.add(reveal)
        facts["reveal_id"] = str(reveal.id)
    type_ = "case.exported" if basis is None else "case.revealed"
    events.record_access(session, caller, type_, place=hazard_access.place_of(hazard), payload=facts)
