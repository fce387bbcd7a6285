"""Taking a whole case in: checked, its pictures fetched, written in one transaction, and compared with the document.

What happened elsewhere happened there: nobody is told of it again, and the clocks go on as they ran.
"""

import hashlib
from collections.abc import Awaitable, Callable, Iterator
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app import events, idempotency
from app.auth import Caller
from app.clients.outbound import MAX_ANSWER_BYTES
from app.db import database, insert, signal_after_commit
from app.errors import Forbidden
from app.imaging import CorruptImage, ImageTooLarge, UnsupportedImage
from app.models.cases import CaseImport
from app.models.events import Event
from app.models.hazards import Hazard
from app.models.media import Media
from app.models.regions import Region
from app.models.sessions import PrincipalKind
from app.outside import outside
from app.schemas.cases import CaseDocument, CaseImported, CaseMedia
from app.services import (
    case_codes,
    case_documents,
    case_history,
    case_rows,
    media,
    places,
    scopes,
    verification_hazards,
)
from app.services.case_codes import Codes
from app.services.case_history import InvalidCase, fault
from app.services.district_cases import CaseExists

OPERATION = "import_case"
Pictures = Callable[[CaseMedia], Awaitable[bytes | None]]
"""Where the bytes of a picture are; None when they are nowhere."""


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


async def _known(session: AsyncSession, document: CaseDocument) -> bool:
    """Whether this very document is here; 409 when the case is, in whatever way."""
    hazard_id = document.case.id
    digest = await session.scalar(select(CaseImport.digest).where(CaseImport.hazard_id == hazard_id))
    if digest == document.digest:
        return True
    if digest is not None or await session.scalar(select(Hazard.id).where(Hazard.id == hazard_id)):
        raise CaseExists
    return False


async def _require_fitting(session: AsyncSession, caller: Caller, document: CaseDocument) -> Codes:
    """422 for what we do not have or have already; 403 where the caller may not import."""
    codes = await case_codes.require_known(session, document)
    await _require_scope(session, caller, codes.places[document.case.region_code])
    return codes


async def _require_scope(session: AsyncSession, caller: Caller, region_id: UUID) -> None:
    if caller.kind is PrincipalKind.SYSTEM:
        return
    if not await scopes.covers(session, caller.scope(OPERATION), region_id):
        raise Forbidden


async def _store(document: CaseDocument, pictures: Pictures) -> list[Media]:
    """Put the pictures into the storage; their rows come with the case. One that is not what it should be ends it all."""
    rows, people = [], case_rows.people(document)
    for index, picture in enumerate(document.media):
        content = await pictures(picture)
        if content is None:
            missing = fault(["media", index, "url"], "case_picture_missing", "cannot be had", "图片无法获取")
            raise InvalidCase(fields=[missing])
        rows.append(case_rows.picture(document, picture, people))
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


async def _take_in(
    session: AsyncSession, caller: Caller, document: CaseDocument, pictures: list[Media]
) -> CaseImported:
    """Write the case; whoever came second finds it here."""
    await session.execute(
        select(Region.id).where(Region.code == document.case.community_code).with_for_update(key_share=True)
    )
    if await _known(session, document):
        return _answer(document, "unchanged")
    await _hold_place(session, document)
    codes, people = await _require_fitting(session, caller, document), case_rows.people(document)
    await case_rows.add_strangers(session, document, people)
    hazard = case_rows.hazard(document, codes, people)
    session.add(hazard)
    await session.flush()
    session.add_all(case_rows.supports(document))
    session.add_all(case_rows.assignments(document, codes, people))
    session.add_all(case_rows.deadlines(document))
    session.add_all(case_rows.comments(document, people))
    for picture in pictures:
        picture.community_id = hazard.community_id
    session.add_all(pictures)
    await session.flush()
    # One after the other, though in one go: the order of insertion is the order of the feed.
    await session.execute(insert(Event), case_rows.events(document, hazard, codes, people))
    session.add(case_rows.imported(document))
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


async def _hold_place(session: AsyncSession, document: CaseDocument) -> None:
    """Whether the grid lies in the community is asked next, and stays true until the commit."""
    codes = await case_codes.read(session, document)
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
