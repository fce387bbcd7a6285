"""The rows that a case document becomes, and the people that they point to."""

from collections.abc import Iterable, Iterator
from uuid import UUID, uuid5

from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.geo import cell_of
from app.keys import seal
from app.models.cases import CaseImport
from app.models.hazard_assignments import HazardAssignment
from app.models.hazard_comments import HazardComment, HazardSupport
from app.models.hazard_deadlines import HazardDeadline
from app.models.hazards import Hazard
from app.models.media import Media
from app.models.residents import Resident
from app.models.sessions import PrincipalKind
from app.models.staff import Staff, StaffStatus
from app.schemas.cases import CaseDocument, CaseEvent, CaseMedia
from app.services import case_documents, media
from app.services.case_codes import Codes

_NAMELESS = "原办理人员"


def people(document: CaseDocument) -> dict[str, UUID]:
    """An id for each person of the case: the same with every import, and nobody's who is here."""
    case = document.case
    named: list[str | None] = [case.reporter, case.handler]
    named += [event.actor.person for event in document.events]
    named += [part.officer for part in document.assignments]
    named += [comment.author for comment in document.comments]
    named += [picture.owner for picture in document.media]
    return {person: uuid5(case.id, person) for person in named if person is not None}


async def add_strangers(session: AsyncSession, document: CaseDocument, people: dict[str, UUID]) -> None:
    """Rows that a case has to point to, of people who are not here and cannot sign in."""
    now, case = clock.now(), document.case
    residents = {people[case.reporter]} if case.reporter else set()
    residents |= set(_supporter_ids(document))
    session.add_all(Resident(id=each, created_at=now, deleted_at=now) for each in sorted(residents, key=str))
    staff = {case.handler, *(part.officer for part in document.assignments)} - {None}
    for each in sorted({people[person] for person in staff if person}, key=str):
        row = Staff(
            id=each,
            created_at=now,
            username=f"imported-{each}",
            password_hash="!",
            status=StaffStatus.DISABLED,
        )
        seal(row, "display_name", _NAMELESS)
        session.add(row)
    await session.flush()


def hazard(document: CaseDocument, codes: Codes, people: dict[str, UUID]) -> Hazard:
    """The hazard itself, as it is now."""
    case = document.case
    facts = case.model_dump(
        exclude={
            "category_code",
            "community_code",
            "region_code",
            "location",
            "description",
            "address",
            "reporter",
            "handler",
            "lead_organisation_code",
            "merged_into",
            "rating_comment",
        }
    )
    lead = case.lead_organisation_code
    hazard = Hazard(
        **facts,
        category=case.category_code,
        community_id=codes.places[case.community_code],
        region_id=codes.places[case.region_code],
        lng=case.location.lng,
        lat=case.location.lat,
        cell=cell_of(case.location.lng, case.location.lat),
        reporter_id=_of(people, case.reporter),
        handler_id=_of(people, case.handler),
        lead_organisation_id=None if lead is None else codes.organisations[lead],
        duplicate_of_id=case.merged_into,
        event_seq=len(document.events),
    )
    for name in ("description", "address", "rating_comment"):
        seal(hazard, name, getattr(case, name))
    return hazard


def supports(document: CaseDocument) -> Iterable[HazardSupport]:
    """One row for each supporter: the document says how many there were, not who."""
    case = document.case
    return [
        HazardSupport(hazard_id=case.id, resident_id=each, created_at=case.created_at)
        for each in _supporter_ids(document)
    ]


def assignments(document: CaseDocument, codes: Codes, people: dict[str, UUID]) -> Iterable[HazardAssignment]:
    """The departments' parts."""
    for part in document.assignments:
        place = part.checked_in_location
        facts = part.model_dump(exclude={"organisation_code", "officer", "checked_in_location"})
        yield HazardAssignment(
            **facts,
            hazard_id=document.case.id,
            organisation_id=codes.organisations[part.organisation_code],
            officer_id=_of(people, part.officer),
            checked_in_lng=place.lng if place else None,
            checked_in_lat=place.lat if place else None,
        )


def deadlines(document: CaseDocument) -> Iterable[HazardDeadline]:
    """The clocks, as they ran."""
    return [
        HazardDeadline(**deadline.model_dump(), hazard_id=document.case.id) for deadline in document.deadlines
    ]


def comments(document: CaseDocument, people: dict[str, UUID]) -> Iterable[HazardComment]:
    """What was said, sealed."""
    for comment in document.comments:
        row = HazardComment(
            **comment.model_dump(exclude={"author", "text"}),
            hazard_id=document.case.id,
            author_id=_of(people, comment.author),
        )
        seal(row, "text", comment.text)
        yield row


def picture(document: CaseDocument, picture: CaseMedia, people: dict[str, UUID]) -> Media:
    """The row of a picture that is about to be stored."""
    main, thumbnail = media.storage_keys(picture.id)
    facts = picture.model_dump(exclude={"owner", "url", "url_expires_at"})
    return Media(
        **facts,
        owner_id=people[picture.owner] if picture.owner else UUID(int=0),
        storage_key=main,
        thumbnail_key=thumbnail,
        subject_kind=Hazard.__tablename__,
        subject_id=document.case.id,
    )


def events(
    document: CaseDocument, hazard: Hazard, codes: Codes, people: dict[str, UUID]
) -> list[dict[str, object]]:
    """The history in its order, to insert, marked as told already."""
    now = clock.now()
    return [
        {
            "id": event.id,
            "type": event.type,
            "audience": event.audience,
            "community_id": hazard.community_id,
            "region_id": hazard.region_id,
            "subject_kind": Hazard.__tablename__,
            "subject_id": hazard.id,
            "seq": event.seq,
            "actor_kind": event.actor.kind,
            "actor_id": _actor_id(event, people),
            "occurred_at": event.occurred_at,
            "imported_at": now,
            "payload": dict(_facts(event, codes)),
        }
        for event in document.events
    ]


def imported(document: CaseDocument) -> CaseImport:
    """What remembers that this very document was taken in."""
    return CaseImport(
        hazard_id=document.case.id,
        digest=document.digest,
        events=len(document.events),
        imported_at=clock.now(),
    )


def _supporter_ids(document: CaseDocument) -> list[UUID]:
    return [uuid5(document.case.id, f"supporter {n}") for n in range(document.case.supporters)]


def _of(people: dict[str, UUID], person: str | None) -> UUID | None:
    return None if person is None else people[person]


def _actor_id(event: CaseEvent, people: dict[str, UUID]) -> UUID | None:
    nobody = UUID(int=0) if event.actor.kind is PrincipalKind.SYSTEM else None
    return _of(people, event.actor.person) or nobody


def _facts(event: CaseEvent, codes: Codes) -> Iterator[tuple[str, object]]:
    """With the ids of organisations again where the document has their codes."""
    for name, value in event.data.items():
        if name in case_documents.ID_OF:
            yield case_documents.ID_OF[name], str(codes.organisations[str(value)])
        else:
            yield name, value
