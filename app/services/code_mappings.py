"""How the district's codes translate into ours, and what is wrong with the table."""

from collections.abc import Iterable, Iterator

from sqlalchemy import delete, insert, select
from sqlalchemy.ext.asyncio import AsyncSession

from app import events
from app.auth import Caller
from app.errors import FieldError, InvalidInput
from app.models.hazard_categories import HazardCategory
from app.models.regions import Region, RegionLevel
from app.models.sync import CodeMapping, InboundEvent, InboundStatus, MappingKind
from app.schemas.sync import MappingDrift, MappingRead, Mappings, MappingsWrite, MappingWrite

UNMAPPED = "unmapped "


class RepeatedCode(InvalidInput):
    """One code of theirs means one thing."""

    code = "repeated_code"
    title_en, title_zh = "A code is mapped twice", "编码重复映射"


async def ours(session: AsyncSession, kind: MappingKind, theirs: str) -> str | None:
    """Our code for theirs. A code that is not in the table stands for itself when we have it; else None."""
    mapped = await session.scalar(
        select(CodeMapping.ours).where(CodeMapping.kind == kind, CodeMapping.theirs == theirs)
    )
    code = mapped or theirs
    return code if code in await _known(session, kind, [code]) else None


async def missing(session: AsyncSession, category_code: str, region_code: str) -> str | None:
    """Which of two codes of theirs we have nothing for, as a reason to wait; None when both are known."""
    for kind, code in ((MappingKind.CATEGORY, category_code), (MappingKind.REGION, region_code)):
        if await ours(session, kind, code) is None:
            return f"{UNMAPPED}{kind} {code}"
    return None


async def theirs(session: AsyncSession) -> dict[str, str]:
    """Their region code for each of ours that is mapped."""
    rows = await session.execute(
        select(CodeMapping.ours, CodeMapping.theirs).where(CodeMapping.kind == MappingKind.REGION)
    )
    return {row.ours: row.theirs for row in rows}


async def read(session: AsyncSession) -> Mappings:
    """The table and its drift."""
    rows = list(await session.scalars(select(CodeMapping).order_by(CodeMapping.kind, CodeMapping.theirs)))
    items = [MappingRead.model_validate(row) for row in rows]
    return Mappings(items=items, drift=await _drift(session, items))


async def replace(session: AsyncSession, caller: Caller, body: MappingsWrite) -> Mappings:
    """A whole new table. What was parked for want of a code is looked at again."""
    repeated = list(_repeated(body.mappings))
    if repeated:
        raise RepeatedCode(fields=repeated)
    await session.execute(delete(CodeMapping))
    if body.mappings:
        await session.execute(insert(CodeMapping), [mapping.model_dump() for mapping in body.mappings])
    events.record_access(session, caller, "code_mappings.replaced", payload={"mappings": len(body.mappings)})
    return await read(session)


def _repeated(mappings: Iterable[MappingWrite]) -> Iterator[FieldError]:
    seen = set()
    for index, mapping in enumerate(mappings):
        key = (mapping.kind, mapping.theirs)
        if key in seen:
            loc = ("body", "mappings", index, "theirs")
            yield FieldError(loc, RepeatedCode.code, "is mapped before", "已在前面映射")
        seen.add(key)


async def _drift(session: AsyncSession, items: list[MappingRead]) -> MappingDrift:
    regions = set(await session.scalars(select(Region.code).where(Region.level == RegionLevel.COMMUNITY)))
    categories = set(await session.scalars(select(HazardCategory.code).where(HazardCategory.active)))
    valid = {MappingKind.REGION: regions, MappingKind.CATEGORY: categories}
    mapped = {kind: {item.ours for item in items if item.kind is kind} for kind in MappingKind}
    reasons = await session.scalars(
        select(InboundEvent.reason)
        .where(InboundEvent.status == InboundStatus.PARKED, InboundEvent.reason.startswith(UNMAPPED))
        .distinct()
    )
    return MappingDrift(
        dangling=[item for item in items if item.ours not in valid[item.kind]],
        unmapped_regions=sorted(regions - mapped[MappingKind.REGION]) if mapped[MappingKind.REGION] else [],
        unmapped_categories=sorted(categories - mapped[MappingKind.CATEGORY])
        if mapped[MappingKind.CATEGORY]
        else [],
        unknown_received=sorted(str(reason).removeprefix(UNMAPPED) for reason in reasons),
    )


async def _known(session: AsyncSession, kind: MappingKind, codes: Iterable[str]) -> set[str]:
    if kind is MappingKind.REGION:
        return set(
            await session.scalars(
                select(Region.code).where(Region.code.in_(codes), Region.level == RegionLevel.COMMUNITY)
            )
        )
    return set(
        await session.scalars(
            select(HazardCategory.code).where(HazardCategory.code.in_(codes), HazardCategory.active)
        )
    )
