"""Taking a whole case in: checked, its pictures fetched, written in one transaction, and compared with the document.

What happened elsewhere happened there: nobody is told of it again, and the clocks go on as they ran.
"""

import hashlib
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from uuid import UUID, uuid5

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock, events, idempotency
from app.auth import Caller
from app.clients.outbound import MAX_ANSWER_BYTES
from app.db import database, signal_after_commit
from app.errors import FieldError, Forbidden
from app.geo import cell_of
from app.imaging import CorruptImage, ImageTooLarge, UnsupportedImage
from app.keys import seal
from app.models.base import Entity
from app.models.cases import CaseImport
from app.models.events import Event
from app.models.hazard_assignments import HazardAssignment
from app.models.hazard_categories import HazardCategory
from app.models.hazard_comments import HazardComment, HazardSupport
from app.models.hazard_deadlines import HazardDeadline
from app.models.hazards import Hazard
from app.models.media import Media
from app.models.organisations import Organisation
from app.models.regions import Region, RegionAncestor, RegionLevel
from app.models.residents import Resident
from app.models.sessions import PrincipalKind
from app.models.staff import Staff, StaffStatus
from app.outside import outside
from app.schemas.cases import CaseDocument, CaseImported, CaseMedia
from app.services import case_documents, case_history, media, places, scopes, verification_hazards
from app.services.case_history import InvalidCase, fault
from app.services.district_cases import CaseExists

OPERATION = "import_case"
Pictures = Callable[[CaseMedia], Awaitable[bytes | None]]
"""Where the bytes of a picture are; None when they are nowhere."""

_PART_TABLES: Mapping[str, type[Entity] | type[Event]] = {
    "assignments": HazardAssignment,
    "deadlines": HazardDeadline,
    "comments": HazardComment,
    "events": Event,
    "media": Media,
}
_NAMELESS = "原办理人员"


async def run(
    caller: Caller, document: CaseDocument, pictures: Pictures, request: idempotency.Request | None = None
) -> CaseImported:
    """Take a case in, or say that it is here. A document that cannot be true is refused whole."""
    async with database.reading() as session:
        if request is not None:
            await idempotency.replay_if_done(session, request)
        case_history.require_plausible(document)
        known = await _known(session, document)
        if not known:
            await _require_fitting(session, caller, document)
    stored = [] if known else await _store(document, pictures)
    async with database.transaction() as session:
        if request is not None:
            await idempotency.claim(session, request)
        answer = await _take_in(session, caller, document, stored)
        status = 200 if answer.result == "unchanged" else 201
        await idempotency.keep(session, status, answer.model_dump_json().encode(), "application/json")
    return answer


async def fetched(picture: CaseMedia) -> bytes | None:
    """The bytes behind the link in the document, over the guarded way to the outside."""
    if picture.url is None:
        return None
    return await outside.outbound.get(picture.url, picture.bytes + MAX_ANSWER_BYTES)


# --- Before anything is written --------------------------------------------------------------------------------


async def _known(session: AsyncSession, document: CaseDocument) -> bool:
    """Whether this very document is here; 409 when the case is, in whatever way."""
    hazard_id = document.case.id
    digest = await session.scalar(select(CaseImport.digest).where(CaseImport.hazard_id == hazard_id))
    if digest == document.digest:
        return True
    if digest is not None or await session.scalar(select(Hazard.id).where(Hazard.id == hazard_id)):
        raise CaseExists
    return False


async def _require_fitting(session: AsyncSession, caller: Caller, document: CaseDocument) -> None:
    """422 for codes that we do not have and ids that are taken; 403 where the caller may not import."""
    codes = await _codes(session, document)
    faults = [
        *_unknown_codes(document, codes),
        *await _taken_ids(session, document),
        *await _misplaced(session, document, codes),
    ]
    if faults:
        raise InvalidCase(fields=faults)
    await _require_scope(session, caller, codes.places[document.case.region_code])


class _Codes:
    """What the codes in a document stand for here."""

    def __init__(self, categories: set[str], places: dict[str, UUID], organisations: dict[str, UUID]) -> None:
        self.categories, self.places, self.organisations = categories, places, organisations


async def _codes(session: AsyncSession, document: CaseDocument) -> _Codes:
    case = document.case
    categories = select(HazardCategory.code).where(HazardCategory.code == case.category_code)
    regions = select(Region.code, Region.id).where(Region.code.in_([case.community_code, case.region_code]))
    wanted = {code for _, code in _organisation_codes(document)}
    organisations = select(Organisation.code, Organisation.id).where(Organisation.code.in_(wanted))
    return _Codes(
        set(await session.scalars(categories)),
        {row.code: row.id for row in await session.execute(regions)},
        {row.code: row.id for row in await session.execute(organisations)},
    )


def _organisation_codes(document: CaseDocument) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Every code of an organisation, and where it stands."""
    if document.case.lead_organisation_code is not None:
        yield ("case", "lead_organisation_code"), document.case.lead_organisation_code
    for index, part in enumerate(document.assignments):
        yield ("assignments", index, "organisation_code"), part.organisation_code
    for index, event in enumerate(document.events):
        for name in case_documents.ID_OF.keys() & event.data.keys():
            yield ("events", index, "data", name), str(event.data[name])


def _unknown_codes(document: CaseDocument, codes: _Codes) -> Iterator[FieldError]:
    case = document.case
    if case.category_code not in codes.categories:
        yield _unknown(("case", "category_code"))
    for name in ("community_code", "region_code"):
        if getattr(case, name) not in codes.places:
            yield _unknown(("case", name))
    for loc, code in _organisation_codes(document):
        if code not in codes.organisations:
            yield _unknown(loc)


def _unknown(loc: tuple[str | int, ...]) -> FieldError:
    return fault(loc, "case_unknown_code", "is not a code of this service", "本系统无此编码")


async def _taken_ids(session: AsyncSession, document: CaseDocument) -> list[FieldError]:
    faults = []
    for name, table in _PART_TABLES.items():
        ids = [part.id for part in getattr(document, name)]
        taken = set(await session.scalars(select(table.id).where(table.id.in_(ids))))
        faults += [
            fault([name, index, "id"], "case_taken", "belongs to another case here", "已属于其他案件")
            for index, each in enumerate(ids)
            if each in taken
        ]
    return faults


async def _misplaced(session: AsyncSession, document: CaseDocument, codes: _Codes) -> list[FieldError]:
    """The region lies in the community, and the case that this one was merged into is here."""
    case, faults = document.case, []
    community_id, region_id = codes.places.get(case.community_code), codes.places.get(case.region_code)
    if community_id is not None and region_id is not None:
        inside = await session.scalar(
            select(Region.id)
            .join(RegionAncestor, RegionAncestor.ancestor_id == Region.id)
            .where(
                Region.id == community_id,
                Region.level == RegionLevel.COMMUNITY,
                RegionAncestor.region_id == region_id,
            )
        )
        if inside is None:
            faults.append(
                fault(["case", "region_code"], "case_misplaced", "is not in that community", "不属于该社区")
            )
    if case.merged_into is not None and not await session.scalar(
        select(Hazard.id).where(Hazard.id == case.merged_into)
    ):
        faults.append(
            fault(
                ["case", "merged_into"],
                "case_missing",
                "is not here; import that case first",
                "目标案件不存在，请先导入",
            )
        )
    return faults


async def _require_scope(session: AsyncSession, caller: Caller, region_id: UUID) -> None:
    if caller.kind is PrincipalKind.SYSTEM:
        return
    if not await scopes.covers(session, caller.scope(OPERATION), region_id):
        raise Forbidden


async def _store(document: CaseDocument, pictures: Pictures) -> list[Media]:
    """Put the pictures into the storage; their rows come with the case. One that is not what it should be ends it all."""
    rows = []
    for index, picture in enumerate(document.media):
        content = await pictures(picture)
        if content is None:
            missing = fault(["media", index, "url"], "case_picture_missing", "cannot be had", "图片无法获取")
            raise InvalidCase(fields=[missing])
        rows.append(_picture(document, picture))
        if not await _is_stored(picture, rows[-1], content):
            other = fault(["media", index, "sha256"], "case_picture", "is another picture", "图片内容不符")
            raise InvalidCase(fields=[other])
    return rows


async def _is_stored(picture: CaseMedia, row: Media, content: bytes) -> bool:
    """Whether it is the picture of the document, and a clean one."""
    if len(content) != picture.bytes or hashlib.sha256(content).hexdigest() != picture.sha256:
        return False
    try:
        await media.take_over(row, content)
    except (CorruptImage, ImageTooLarge, UnsupportedImage):
        return False
    return True


# --- Writing ---------------------------------------------------------------------------------------------------


async def _take_in(
    session: AsyncSession, caller: Caller, document: CaseDocument, pictures: list[Media]
) -> CaseImported:
    """Write the case; whoever came second finds it here."""
    await session.execute(
        select(Region.id).where(Region.code == document.case.community_code).with_for_update(key_share=True)
    )
    if await _known(session, document):
        return _answer(document, "unchanged")
    codes, people = await _codes(session, document), _people(document)
    await _hold_place(session, document, codes)
    await _require_fitting(session, caller, document)
    await _add_strangers(session, document, people)
    hazard = _hazard(document, codes, people)
    session.add(hazard)
    await session.flush()
    session.add_all(_supports(document))
    session.add_all(_assignments(document, codes, people))
    session.add_all(_deadlines(document))
    session.add_all(_comments(document, people))
    for picture in pictures:
        picture.community_id = hazard.community_id
    session.add_all(pictures)
    await session.flush()
    for row in _events(document, hazard, codes, people):
        session.add(row)
        # One by one: the order of insertion is the order of the feed.
        await session.flush()
    session.add(_import(document))
    events.record_access(
        session,
        caller,
        "case.imported",
        place=events.Place(hazard.community_id, hazard.region_id),
        payload={"hazard_id": str(hazard.id), "digest": document.digest, "events": len(document.events)},
    )
    await session.flush()
    await _require_same(session, document, hazard)
    signal_after_commit(session, events.TOPIC)
    return _answer(document, "imported")


async def _hold_place(session: AsyncSession, document: CaseDocument, codes: _Codes) -> None:
    """Whether the grid lies in the community is asked next, and stays true until the commit."""
    community, region = document.case.community_code, document.case.region_code
    await places.hold(session, events.Place(codes.places.get(community), codes.places.get(region)))


async def _require_same(session: AsyncSession, document: CaseDocument, hazard: Hazard) -> None:
    """What is stored gives the same document again, and breaks none of the rules that stored cases keep."""
    again = await case_documents.describe(session, hazard, document.consent_basis, document.internal_comments)
    faults = [
        fault(loc, "case_contradiction", "contradicts the rest of the document", "与文档其他内容矛盾")
        for loc in _differences(document.model_dump(mode="json"), again.model_dump(mode="json"))
    ]
    faults += [
        fault([name], "case_contradiction", breach, "违反案件数据规则")
        for name, breach in await verification_hazards.breaches_of(session, hazard.id)
    ]
    if faults:
        raise InvalidCase(fields=faults)


_NOT_COMPARED = frozenset({"digest", "exported_at", "url", "url_expires_at"})


def _differences(
    one: object, other: object, loc: tuple[str | int, ...] = ()
) -> Iterator[tuple[str | int, ...]]:
    """Where two documents differ."""
    if isinstance(one, dict) and isinstance(other, dict):
        for name in one.keys() - _NOT_COMPARED:
            yield from _differences(one[name], other.get(name), (*loc, name))
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for index, (mine, theirs) in enumerate(zip(one, other, strict=True)):
            yield from _differences(mine, theirs, (*loc, index))
    elif one != other:
        yield loc


def _answer(document: CaseDocument, result: str) -> CaseImported:
    return CaseImported.model_validate(
        {
            "hazard_id": document.case.id,
            "result": result,
            "events": len(document.events),
            "comments": len(document.comments),
            "pictures": len(document.media),
        }
    )


def _people(document: CaseDocument) -> dict[str, UUID]:
    """An id for each person of the case: the same with every import, and nobody's who is here."""
    case = document.case
    named: list[str | None] = [case.reporter, case.handler]
    named += [event.actor.person for event in document.events]
    named += [part.officer for part in document.assignments]
    named += [comment.author for comment in document.comments]
    named += [picture.owner for picture in document.media]
    return {person: uuid5(case.id, person) for person in named if person is not None}


async def _add_strangers(session: AsyncSession, document: CaseDocument, people: dict[str, UUID]) -> None:
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


def _supporter_ids(document: CaseDocument) -> list[UUID]:
    return [uuid5(document.case.id, f"supporter {n}") for n in range(document.case.supporters)]


def _of(people: dict[str, UUID], person: str | None) -> UUID | None:
    return None if person is None else people[person]


def _hazard(document: CaseDocument, codes: _Codes, people: dict[str, UUID]) -> Hazard:
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


def _supports(document: CaseDocument) -> Iterable[HazardSupport]:
    case = document.case
    return [
        HazardSupport(hazard_id=case.id, resident_id=each, created_at=case.created_at)
        for each in _supporter_ids(document)
    ]


def _assignments(
    document: CaseDocument, codes: _Codes, people: dict[str, UUID]
) -> Iterable[HazardAssignment]:
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


def _deadlines(document: CaseDocument) -> Iterable[HazardDeadline]:
    return [
        HazardDeadline(**deadline.model_dump(), hazard_id=document.case.id) for deadline in document.deadlines
    ]


def _comments(document: CaseDocument, people: dict[str, UUID]) -> Iterable[HazardComment]:
    for comment in document.comments:
        row = HazardComment(
            **comment.model_dump(exclude={"author", "text"}),
            hazard_id=document.case.id,
            author_id=_of(people, comment.author),
        )
        seal(row, "text", comment.text)
        yield row


def _picture(document: CaseDocument, picture: CaseMedia) -> Media:
    main, thumbnail = media.storage_keys(picture.id)
    facts = picture.model_dump(exclude={"owner", "url", "url_expires_at"})
    return Media(
        **facts,
        owner_id=_people(document)[picture.owner] if picture.owner else UUID(int=0),
        storage_key=main,
        thumbnail_key=thumbnail,
        subject_kind=Hazard.__tablename__,
        subject_id=document.case.id,
    )


def _events(
    document: CaseDocument, hazard: Hazard, codes: _Codes, people: dict[str, UUID]
) -> Iterable[Event]:
    now = clock.now()
    for event in document.events:
        yield Event(
            id=event.id,
            type=event.type,
            audience=event.audience,
            community_id=hazard.community_id,
            region_id=hazard.region_id,
            subject_kind=Hazard.__tablename__,
            subject_id=hazard.id,
            seq=event.seq,
            actor_kind=event.actor.kind,
            actor_id=_of(people, event.actor.person)
            or (UUID(int=0) if event.actor.kind is PrincipalKind.SYSTEM else None),
            occurred_at=event.occurred_at,
            imported_at=now,
            payload={
                case_documents.ID_OF.get(name, name): str(codes.organisations[str(value)])
                if name in case_documents.ID_OF
                else value
                for name, value in event.data.items()
            },
        )


def _import(document: CaseDocument) -> CaseImport:
    return CaseImport(
        hazard_id=document.case.id,
        digest=document.digest,
        events=len(document.events),
        imported_at=clock.now(),
    )
