"""What a case document names, and whether this service has it: codes, ids, places."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.errors import FieldError
from app.models.base import Entity
from app.models.events import Event
from app.models.hazard_assignments import HazardAssignment
from app.models.hazard_categories import HazardCategory
from app.models.hazard_comments import HazardComment
from app.models.hazard_deadlines import HazardDeadline
from app.models.hazards import Hazard
from app.models.media import Media
from app.models.organisations import Organisation
from app.models.regions import Region, RegionAncestor, RegionLevel
from app.schemas.cases import CaseDocument
from app.services import case_documents
from app.services.case_history import InvalidCase, fault

_PART_TABLES: Mapping[str, type[Entity] | type[Event]] = {
    "assignments": HazardAssignment,
    "deadlines": HazardDeadline,
    "comments": HazardComment,
    "events": Event,
    "media": Media,
}
_IDS: Final = 1_000


class Codes:
    """What the codes in a document stand for here."""

    def __init__(self, categories: set[str], places: dict[str, UUID], organisations: dict[str, UUID]) -> None:
        self.categories, self.places, self.organisations = categories, places, organisations


async def require_known(session: AsyncSession, document: CaseDocument) -> Codes:
    """What its codes stand for; 422 for those that we do not have, for ids that are taken, and for places that do not fit."""
    codes = await read(session, document)
    faults = [
        *_unknown_codes(document, codes),
        *await _taken_ids(session, document),
        *await _misplaced(session, document, codes),
    ]
    if faults:
        raise InvalidCase(fields=faults)
    return codes


async def read(session: AsyncSession, document: CaseDocument) -> Codes:
    """What the codes of a document stand for, as far as they are known."""
    case = document.case
    categories = select(HazardCategory.code).where(HazardCategory.code == case.category_code)
    places = select(Region.code, Region.id).where(Region.code.in_([case.community_code, case.region_code]))
    wanted = {code for _, code in _organisation_codes(document)}
    organisations = select(Organisation.code, Organisation.id).where(Organisation.code.in_(wanted))
    return Codes(
        set(await session.scalars(categories)),
        {row.code: row.id for row in await session.execute(places)},
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


def _unknown_codes(document: CaseDocument, codes: Codes) -> Iterator[FieldError]:
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
        taken = await _taken(session, table, ids)
        faults += [
            fault([name, index, "id"], "case_taken", "belongs to another case here", "已属于其他案件")
            for index, each in enumerate(ids)
            if each in taken
        ]
    return faults


async def _taken(session: AsyncSession, table: type[Entity] | type[Event], ids: Sequence[UUID]) -> set[UUID]:
    taken: set[UUID] = set()
    for start in range(0, len(ids), _IDS):
        some = table.id.in_(ids[start : start + _IDS])
        taken.update(await session.scalars(select(table.id).where(some)))
    return taken


async def _misplaced(session: AsyncSession, document: CaseDocument, codes: Codes) -> list[FieldError]:
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
