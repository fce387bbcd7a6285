"""Daily comparison with the district: counts and checksums per community, and every case that differs by its id."""

import hashlib
from collections import defaultdict
from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta

from sqlalchemy import ColumnElement, select, true
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock, events
from app.auth import SYSTEM, Caller
from app.clock import SHANGHAI
from app.db import insert
from app.ids import new_id
from app.models.hazards import Hazard
from app.models.regions import Region
from app.models.sync import SyncCase, WatermarkReport
from app.schemas.sync import (
    CommunityDrift,
    DriftReport,
    OurWatermark,
    OurWatermarks,
    WatermarkCommunity,
    Watermarks,
)
from app.services import code_mappings, scopes

Cases = Mapping[str, str]


async def ours(session: AsyncSession, caller: Caller, day: date) -> OurWatermarks:
    """Our counts and checksums of one business day, by the district's region codes."""
    return await _summed(session, day, scopes.within(Hazard.region_id, caller.scope("read_watermarks")))


async def everywhere(session: AsyncSession, day: date) -> OurWatermarks:
    """The same for all communities."""
    return await _summed(session, day, true())


async def _summed(session: AsyncSession, day: date, chosen: ColumnElement[bool]) -> OurWatermarks:
    cases = await _cases(session, day, chosen)
    return OurWatermarks(
        day=day,
        communities=[
            OurWatermark(region_code=code, count=len(held), checksum=checksum(held))
            for code, held in sorted(cases.items())
        ],
    )


async def compare(session: AsyncSession, message_id: str, body: Watermarks) -> DriftReport:
    """Theirs against ours; kept, and alarmed when they differ. The same message compares once."""
    held = await _cases(session, body.day, true())
    theirs = {community.region_code: community for community in body.communities}
    communities = [
        _drift(code, held.get(code, {}), theirs.get(code)) for code in sorted(held.keys() | theirs.keys())
    ]
    report = DriftReport(day=body.day, same=all(each.same for each in communities), communities=communities)
    await _keep(session, message_id, report)
    return report


async def latest(session: AsyncSession, day: date | None) -> DriftReport | None:
    """The last comparison, of one day or of all."""
    query = select(WatermarkReport).order_by(WatermarkReport.created_at.desc()).limit(1)
    row = await session.scalar(query if day is None else query.where(WatermarkReport.day == day))
    return None if row is None else DriftReport.model_validate(row.report)


def checksum(cases: Cases) -> str:
    """SHA-256 over the sorted lines `case status`, joined with newlines."""
    lines = sorted(f"{case} {status}" for case, status in cases.items())
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _drift(code: str, held: Cases, theirs: WatermarkCommunity | None) -> CommunityDrift:
    named = {case.case: case.status for case in theirs.cases} if theirs else {}
    same = (theirs is not None and theirs.count == len(held) and theirs.checksum == checksum(held)) or not (
        held or theirs
    )
    names_all = theirs is None or len(named) == theirs.count
    return CommunityDrift(
        region_code=code,
        ours=len(held),
        theirs=theirs.count if theirs else 0,
        same=same,
        missing_here=sorted(named.keys() - held.keys()),
        missing_there=sorted(held.keys() - named.keys()) if names_all and not same else [],
        differing=sorted(case for case in held.keys() & named.keys() if held[case] != named[case]),
    )


async def _cases(session: AsyncSession, day: date, chosen: ColumnElement[bool]) -> dict[str, dict[str, str]]:
    """Status by case, by community, of hazards filed that day in Shanghai. Cases of theirs go by their id."""
    start = datetime.combine(day, time(), SHANGHAI).astimezone(UTC)
    rows = await session.execute(
        select(Hazard.id, Hazard.status, Region.code, SyncCase.case_key)
        .join(Region, Region.id == Hazard.community_id)
        .join(SyncCase, SyncCase.hazard_id == Hazard.id, isouter=True)
        .where(chosen, Hazard.created_at >= start, Hazard.created_at < start + timedelta(days=1))
    )
    codes = await code_mappings.theirs(session)
    cases: dict[str, dict[str, str]] = defaultdict(dict)
    for row in rows:
        cases[codes.get(row.code, row.code)][row.case_key or str(row.id)] = row.status.value
    return cases


async def _keep(session: AsyncSession, message_id: str, report: DriftReport) -> None:
    differing = [each.region_code for each in report.communities if not each.same]
    values = {
        "id": new_id(),
        "created_at": clock.now(),
        "day": report.day,
        "message_id": message_id,
        "communities": len(report.communities),
        "differing": len(differing),
        "report": report.model_dump(mode="json"),
    }
    added = await session.scalar(
        insert(WatermarkReport).values(values).on_conflict_do_nothing().returning(WatermarkReport.id)
    )
    if added is not None and differing:
        events.record_access(
            session,
            SYSTEM,
            "sync.drift_found",
            payload={"day": str(report.day), "communities": len(differing)},
        )
