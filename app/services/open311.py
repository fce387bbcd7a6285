"""GeoReport v2 on top of hazards: services are categories, requests are public hazards."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from pydantic_core import PydanticCustomError
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from app import clock
from app.auth import Caller
from app.errors import BadRequest, Forbidden, Language, NotFound
from app.events import Place
from app.geo import Point, degrees, gcj02_from_wgs84, wgs84_from_gcj02
from app.keys import unseal
from app.models.events import Event
from app.models.hazards import OPEN_STATUSES, Hazard, HazardSource, PublicState
from app.models.media import Media, MediaPurpose
from app.models.organisations import Organisation
from app.models.regions import Region, RegionAncestor, RegionLevel
from app.open311_format import Record, Value
from app.reference import Open311Attribute, load_open311_attributes
from app.schemas.base import printable
from app.services import (
    hazard_access,
    hazard_categories,
    hazards,
    media,
    places,
    scopes,
)
from app.services.hazard_categories import Category
from app.services.hazards import Report

MAX_DAYS = timedelta(days=90)
MAX_REQUESTS = 1_000
MAX_DESCRIPTION = 4_000
_TYPE = "realtime"


class ServiceNotFound(NotFound):
    """No such service."""

    code = "service_code_not_found"
    title_en, title_zh = "This service_code does not exist", "service_code 不存在"


class RequestNotFound(NotFound):
    """No such request, or it is not public."""

    code = "service_request_id_not_found"
    title_en, title_zh = "This service_request_id does not exist", "service_request_id 不存在"


class BadReport(BadRequest):
    """Something in the report is missing or not acceptable; the description says what."""

    code = "bad_report"
    title_en, title_zh = "The report is not acceptable", "上报内容不符合要求"


@dataclass(frozen=True, slots=True)
class Report311:
    """A POST request as it was sent: text values by name, several for a multi-value attribute."""

    service_code: str | None
    lat: str | None
    long: str | None
    address_string: str | None
    address_id: str | None
    description: str
    media_url: str | None
    contact: Mapping[str, str]
    attributes: Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which requests. Ids override everything else."""

    ids: Sequence[str] = ()
    service_codes: Sequence[str] = ()
    start: datetime | None = None
    end: datetime | None = None
    statuses: Sequence[str] = ()
    page: int = 1
    page_size: int = MAX_REQUESTS


async def services(session: AsyncSession, language: Language) -> list[Record]:
    """All services, in the order of the categories."""
    return [_service(category, language) for category in await hazard_categories.every(session)]


async def definition(session: AsyncSession, service_code: str, language: Language) -> Record:
    """The extra questions of a service. One without any has no definition."""
    await _category(session, service_code)
    questions = load_open311_attributes().get(service_code)
    if not questions:
        raise ServiceNotFound
    rows = [_attribute(question, order, language) for order, question in enumerate(questions, start=1)]
    return {"service_code": service_code, "attributes": rows}


async def create(session: AsyncSession, caller: Caller, report: Report311) -> Record:
    """File a report through the same chain as everybody else's."""
    if not report.service_code:
        raise BadReport("service_code was not given", "未提供 service_code")
    category = await _category(session, report.service_code)
    found, point = await _place(session, report)
    place = await places.hold(session, found)
    scope = caller.scope("create_open311_request")
    if place.region_id is None or not await scopes.covers(session, scope, place.region_id):
        raise Forbidden("this key is for another region", "该密钥不适用于此区域")
    hazard = await hazards.register(
        session,
        caller,
        Report(
            category=category,
            description=_description(report, category.code),
            address=report.address_string,
            place=place,
            point=point,
            source=HazardSource.OPEN311,
            note=_note(report),
        ),
    )
    return {"service_request_id": str(hazard.id), "service_notice": None, "account_id": None}


async def token(session: AsyncSession, token_text: str) -> Record:
    """Requests get their id at once, so a token is the id."""
    await _public_hazard(session, token_text)
    return {"service_request_id": token_text, "token": token_text}


async def request(session: AsyncSession, request_id: str, language: Language) -> Record:
    """One public request."""
    return (await _describe(session, [await _public_hazard(session, request_id)], language))[0]


async def requests(session: AsyncSession, wanted: Wanted, language: Language) -> list[Record]:
    """Public requests, newest first: those named, or of at most 90 days and 1,000 rows."""
    query = select(Hazard).where(hazard_access.public())
    if wanted.ids:
        query = query.where(Hazard.id.in_([each for each in map(_uuid, wanted.ids) if each is not None]))
    else:
        start, end = _period(wanted)
        query = query.where(Hazard.created_at >= start, Hazard.created_at <= end)
        if wanted.service_codes:
            codes = [(await _category(session, code)).code for code in wanted.service_codes]
            query = query.where(Hazard.category.in_(codes))
        if len(set(wanted.statuses)) == 1:
            is_open = Hazard.status.in_(OPEN_STATUSES)
            query = query.where(is_open if wanted.statuses[0] == "open" else ~is_open)
    query = (
        query.order_by(Hazard.id.desc()).limit(wanted.page_size).offset((wanted.page - 1) * wanted.page_size)
    )
    return await _describe(session, list(await session.scalars(query)), language)


def _period(wanted: Wanted) -> tuple[datetime, datetime]:
    """90 days back from the end, or on from the start, when one of them is not given."""
    end = wanted.end or (wanted.start + MAX_DAYS if wanted.start else clock.now())
    start = wanted.start or end - MAX_DAYS
    if not timedelta() <= end - start <= MAX_DAYS:
        raise BadReport(
            "start_date and end_date may not be more than 90 days apart", "起止时间跨度不能超过 90 天"
        )
    return start, end


async def _category(session: AsyncSession, service_code: str) -> Category:
    for category in await hazard_categories.every(session):
        if category.code == service_code:
            return category
    raise ServiceNotFound


async def _public_hazard(session: AsyncSession, request_id: str) -> Hazard:
    hazard = await session.scalar(
        select(Hazard).where(Hazard.id == _uuid(request_id), hazard_access.public())
    )
    if hazard is None:
        raise RequestNotFound
    return hazard


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


async def _place(session: AsyncSession, report: Report311) -> tuple[Place, Point]:
    """From WGS-84 coordinates, from the code of a region, or from a region's name in the address."""
    if (report.lat is None) != (report.long is None):
        raise BadReport("lat and long must be given together", "lat 与 long 必须同时提供")
    if report.lat is not None and report.long is not None:
        point = gcj02_from_wgs84(_point(report.lat, report.long))
        return await places.locate(session, point, ("lat",)), point
    if report.address_id:
        return _named(await _regions(session), lambda region: region.code == report.address_id)
    address = report.address_string
    if address:
        return _named(await _regions(session), lambda region: region.name in address)
    raise BadReport("a location was not given", "未提供位置")


def _point(lat: str, long: str) -> Point:
    try:
        point = Point(degrees(long), degrees(lat))
    except ValueError:
        point = Point(999, 999)
    if not (-180 <= point.lng <= 180 and -90 <= point.lat <= 90):
        raise BadReport("lat and long are not WGS-84 degrees", "lat、long 不是有效的 WGS-84 坐标")
    return point


def _service(category: Category, language: Language) -> Record:
    chinese = language == "zh-CN"
    return {
        "service_code": category.code,
        "service_name": category.name if chinese else category.name_en,
        "description": category.description if chinese else category.description_en,
        "metadata": bool(load_open311_attributes().get(category.code)),
        "type": _TYPE,
        "keywords": ",".join(category.keywords),
        "group": category.urgency.value,
    }


def _attribute(question: Open311Attribute, order: int, language: Language) -> Record:
    chinese = language == "zh-CN"
    values: list[Record] = [
        {"key": value.key, "name": value.name if chinese else value.name_en} for value in question.values
    ]
    return {
        "variable": True,
        "code": question.code,
        "datatype": question.datatype,
        "required": question.required,
        "datatype_description": question.datatype_description
        if chinese
        else question.datatype_description_en,
        "order": order,
        "description": question.description if chinese else question.description_en,
        "values": values,
    }


@dataclass(frozen=True, slots=True)
class _Region:
    id: UUID
    code: str
    name: str
    point: Point
    community_id: UUID


async def _regions(session: AsyncSession) -> list[_Region]:
    """Communities and everything below them."""
    community = aliased(Region)
    rows = await session.execute(
        select(
            Region.id, Region.code, Region.name, Region.lng, Region.lat, community.id.label("community_id")
        )
        .join(RegionAncestor, RegionAncestor.region_id == Region.id)
        .join(community, community.id == RegionAncestor.ancestor_id)
        .where(community.level == RegionLevel.COMMUNITY)
    )
    return [_Region(row.id, row.code, row.name, Point(row.lng, row.lat), row.community_id) for row in rows]


def _named(regions: Sequence[_Region], is_meant: Callable[[_Region], bool]) -> tuple[Place, Point]:
    """The region that is meant; of several the one with the longest name, which says most."""
    meant = [region for region in regions if is_meant(region)]
    if not meant:
        raise BadReport(
            "the address names no region of ours; give lat and long",
            "地址中未找到所属区域，请提供 lat 与 long",
        )
    best = max(meant, key=lambda region: (len(region.name), region.code))
    return Place(best.community_id, best.id), best.point


def _note(report: Report311) -> str | None:
    """How to reach whoever reports, and where their picture is: for those who handle it."""
    given = {**report.contact, "media_url": report.media_url}
    return "\n".join(f"{name}: {value}" for name, value in given.items() if value) or None


def _description(report: Report311, category_code: str) -> str:
    """The words, and the answers to the extra questions below them."""
    text = report.description.strip()
    if len(text) > MAX_DESCRIPTION:
        raise BadReport("description is longer than 4,000 characters", "description 超过 4000 字")
    lines = _answers(report.attributes, load_open311_attributes().get(category_code, ()))
    words = "\n".join([text, *lines]).strip()
    if not words:
        raise BadReport("description was not given", "未提供 description")
    try:
        return printable(words)
    except PydanticCustomError:
        raise BadReport("description has control characters", "description 含有控制字符") from None


def _answers(given: Mapping[str, Sequence[str]], questions: Sequence[Open311Attribute]) -> list[str]:
    known = {question.code: question for question in questions}
    for code in given:
        if code not in known:
            raise BadReport(f"attribute[{code[:40]}] does not exist", f"attribute[{code[:40]}] 不存在")
    return [line for question in questions if (line := _answer(question, given.get(question.code, ())))]


def _answer(question: Open311Attribute, given: Sequence[str]) -> str | None:
    answers = [answer.strip() for answer in given if answer.strip()]
    if not answers:
        if question.required:
            raise BadReport(f"attribute[{question.code}] was not given", f"未提供 attribute[{question.code}]")
        return None
    if (len(answers) > 1 and question.datatype != "multivaluelist") or not all(map(question.takes, answers)):
        raise BadReport(
            f"attribute[{question.code}] has a wrong value", f"attribute[{question.code}] 的值不正确"
        )
    names = {value.key: value.name for value in question.values}
    return f"{question.description}：{'、'.join(names.get(answer, answer) for answer in answers)}"


async def _describe(session: AsyncSession, rows: Sequence[Hazard], language: Language) -> list[Record]:
    ids = [row.id for row in rows]
    categories = {row.code: row for row in await hazard_categories.every(session)}
    updated = await _updated(session, ids)
    pictures = await _pictures(session, ids)
    leads = await _names(session, [row.lead_organisation_id for row in rows], language)
    addresses = await _addresses(session, [row.region_id for row in rows], language)
    return [
        _record(row, language, categories.get(row.category), updated, pictures, leads, addresses)
        for row in rows
    ]


def _record(
    row: Hazard,
    language: Language,
    category: Category | None,
    updated: Mapping[UUID, datetime],
    pictures: Mapping[UUID, str],
    leads: Mapping[UUID, str],
    addresses: Mapping[UUID, tuple[str, str]],
) -> Record:
    point = wgs84_from_gcj02(Point(row.lng, row.lat))
    address, address_id = addresses.get(row.region_id, ("", ""))
    name = row.category if category is None else category.name if language == "zh-CN" else category.name_en
    shown: dict[str, Value] = {
        "service_request_id": str(row.id),
        "status": "open" if row.status in OPEN_STATUSES else "closed",
        "status_notes": row.status.value if row.outcome is None else f"{row.status}: {row.outcome}",
        "service_name": name,
        "service_code": row.category,
        "description": unseal(row, "description") if row.public_state is PublicState.VISIBLE else None,
        "agency_responsible": leads.get(row.lead_organisation_id) if row.lead_organisation_id else None,
        "service_notice": None,
        "requested_datetime": row.created_at,
        "updated_datetime": row.closed_at or updated.get(row.id, row.created_at),
        "expected_datetime": row.due_at,
        "address": address,
        "address_id": address_id,
        "zipcode": None,
        "lat": round(point.lat, 6),
        "long": round(point.lng, 6),
        "media_url": pictures.get(row.id),
    }
    return shown


async def _updated(session: AsyncSession, ids: Sequence[UUID]) -> dict[UUID, datetime]:
    rows = await session.execute(
        select(Event.subject_id, func.max(Event.occurred_at).label("at"))
        .where(Event.subject_kind == Hazard.__tablename__, Event.subject_id.in_(ids))
        .group_by(Event.subject_id)
    )
    return {row.subject_id: row.at for row in rows}


async def _pictures(session: AsyncSession, ids: Sequence[UUID]) -> dict[UUID, str]:
    """A link to the first public picture of each."""
    rows = await session.execute(
        select(Media.subject_id, Media.id)
        .where(
            Media.subject_kind == Hazard.__tablename__,
            Media.subject_id.in_(ids),
            Media.purpose == MediaPurpose.HAZARD,
            Media.erased_at.is_(None),
            media.SHOWN_TO_PUBLIC,
        )
        .order_by(Media.created_at, Media.position)
    )
    found: dict[UUID, str] = {}
    for subject_id, media_id in rows:
        if subject_id is not None:
            found.setdefault(subject_id, media.signed_url(media_id, "main"))
    return found


async def _names(session: AsyncSession, ids: Sequence[UUID | None], language: Language) -> dict[UUID, str]:
    name = Organisation.name if language == "zh-CN" else Organisation.name_en
    rows = await session.execute(
        select(Organisation.id, name.label("name")).where(Organisation.id.in_({each for each in ids if each}))
    )
    return {row.id: row.name for row in rows}


async def _addresses(
    session: AsyncSession, ids: Sequence[UUID], language: Language
) -> dict[UUID, tuple[str, str]]:
    """The region's name: the exact address is for those who handle the case."""
    name = Region.name if language == "zh-CN" else Region.name_en
    rows = await session.execute(
        select(Region.id, Region.code, name.label("name")).where(Region.id.in_(set(ids)))
    )
    return {row.id: (row.name, row.code) for row in rows}
