"""Spreadsheets of hazards, written by the worker page by page; never with personal data of residents."""

import asyncio
import csv
import io
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from uuid import UUID

import xlsxwriter
from sqlalchemy import ColumnElement, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock, events, outbox
from app.auth import Caller, Granted
from app.clock import SHANGHAI
from app.db import database
from app.errors import Conflict, InvalidInput, NotFound
from app.ids import new_id
from app.keys import seal, unseal
from app.leases import Lease, LeaseLost, Retry
from app.models.base import JsonObject
from app.models.hazard_exports import ExportFormat, ExportStatus, HazardExport
from app.models.hazards import Hazard, HazardStatus
from app.models.regions import Region, RegionAncestor
from app.models.sessions import PrincipalKind
from app.models.staff import Grant
from app.outside import outside
from app.schemas.hazard_exports import HazardExportCreate
from app.services import filters, hazard_access

TASK = "hazards.export"
DISCARD = "hazards.discard_export"
ATTEMPTS = 5
_REGISTERED_WITHIN = timedelta(minutes=30)
KEPT = timedelta(days=1)
_PAGE = 500
_OPERATION = "create_hazard_export"
_DANGEROUS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
CONTENT_TYPES = {
    ExportFormat.CSV: "text/csv; charset=utf-8",
    ExportFormat.XLSX: "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}
HEADER = (
    "编号 id",
    "上报时间 filed_at",
    "社区 community",
    "网格 region",
    "类别 category",
    "状态 status",
    "结果 outcome",
    "描述 description",
    "附议 supporters",
    "期限 due_at",
    "督办 overdue_at",
    "解决时间 resolved_at",
    "异议次数 disputes",
    "退回次数 refusals",
    "评分 rating",
)
Cell = str | int


class ExportNotReady(Conflict):
    """Still being written, failed, or gone after a day."""

    code = "export_not_ready"
    title_en, title_zh = "The file is not ready or has expired", "导出文件尚未生成或已过期"


async def create(session: AsyncSession, caller: Caller, body: HazardExportCreate) -> HazardExport:
    """Ask for a file. Who asked, and for what, is an audit entry."""
    await filters.require_category(session, body.category, ("body", "category"))
    await filters.require_region(session, body.region_id, ("body", "region_id"))
    if body.filed_from is not None and body.filed_until is not None and body.filed_from > body.filed_until:
        raise InvalidInput.of(
            ("body", "filed_from"), "invalid_period", "is later than filed_until", "不能晚于 filed_until"
        )
    export = HazardExport(
        id=new_id(),
        created_at=clock.now(),
        staff_id=caller.id,
        format=body.format,
        filters=body.model_dump(mode="json", exclude={"format", "reason"}),
        status=ExportStatus.QUEUED,
        rows_total=0,
        rows_done=0,
    )
    seal(export, "reason", body.reason)
    session.add(export)
    events.record_access(session, caller, "hazards.exported", payload={"export_id": str(export.id)})
    await outbox.enqueue(session, TASK, {"export_id": str(export.id)}, key=f"{TASK}:{export.id}")
    return export


async def read(session: AsyncSession, caller: Caller, export_id: UUID) -> HazardExport:
    """One's own export only."""
    export = await session.get(HazardExport, export_id)
    if export is None or export.staff_id != caller.id:
        raise NotFound
    return export


async def download(caller: Caller, export_id: UUID) -> tuple[HazardExport, bytes]:
    """The finished file. No connection waits for the storage."""
    async with database.reading() as session:
        export = await read(session, caller, export_id)
    if export.storage_key is None or export.expires_at is None or export.expires_at < clock.now():
        raise ExportNotReady
    return export, await outside.storage.get(export.storage_key)


async def run(lease: Lease) -> None:
    """The worker's part. Rights are looked up now: who lost the role since gets an empty file."""
    export_id = UUID(str(lease.payload["export_id"]))
    try:
        await _make(lease, export_id)
    except LeaseLost:
        raise
    except Exception:
        if lease.attempt == ATTEMPTS:
            async with lease.transaction() as session:
                (await session.get_one(HazardExport, export_id)).fail()
        raise


async def discard_unregistered(lease: Lease) -> None:
    """Take away a file that no export refers to: the worker that wrote it was killed, or was too slow."""
    async with lease.transaction() as session:
        export = await session.get(HazardExport, UUID(str(lease.payload["export_id"])))
    key = str(lease.payload["key"])
    if export is None or export.storage_key != key:
        await outside.storage.delete(key)


async def erase_expired(session: AsyncSession) -> int:
    """Files that were kept long enough; how many went."""
    rows = await session.scalars(
        select(HazardExport)
        .where(HazardExport.expires_at < clock.now(), HazardExport.storage_key.is_not(None))
        .limit(100)
        .with_for_update(skip_locked=True)
    )
    return await _withdraw(session, rows)


async def withdraw(session: AsyncSession, since: datetime) -> None:
    """Something that was filed at `since` is erased: it may be in every file made from then on."""
    rows = await session.scalars(
        select(HazardExport)
        .where(
            HazardExport.created_at >= since,
            or_(HazardExport.storage_key.is_not(None), HazardExport.status == ExportStatus.RUNNING),
        )
        .with_for_update()
    )
    await _withdraw(session, rows)


async def _withdraw(session: AsyncSession, rows: Iterable[HazardExport]) -> int:
    exports = list(rows)
    for export in exports:
        if export.storage_key is not None:
            await outbox.enqueue(
                session, "media.erase", {"keys": [export.storage_key]}, key=f"export:{export.id}"
            )
        export.withdraw()
    return len(exports)


async def _make(lease: Lease, export_id: UUID) -> None:
    async with lease.transaction() as session:
        export = await session.get_one(HazardExport, export_id)
        chosen = _conditions(await _caller(session, export.staff_id), export)
        total = await session.scalar(select(func.count()).select_from(Hazard).where(*chosen))
        export.start(total or 0)
    data = await _write(lease, export, chosen)
    key = f"exports/{export.id}-{new_id()}.{export.format}"
    await _remember(lease, export_id, key)
    await outside.storage.put(key, data)
    try:
        async with lease.last_transaction() as session:
            export = await session.get_one(HazardExport, export_id, with_for_update=True)
            if export.status is not ExportStatus.RUNNING:
                raise Retry("something in the file was erased meanwhile")
            export.finish(key, clock.now() + KEPT)
    except BaseException:
        await outside.storage.delete(key)
        raise


async def _remember(lease: Lease, export_id: UUID, key: str) -> None:
    """Before it is stored: once this worker is killed, nobody else knows the file."""
    async with lease.transaction() as session:
        facts: JsonObject = {"export_id": str(export_id), "key": key}
        await outbox.enqueue(session, DISCARD, facts, run_at=clock.now() + _REGISTERED_WITHIN)


async def _write(lease: Lease, export: HazardExport, chosen: Sequence[ColumnElement[bool]]) -> bytes:
    sheet = _Csv() if export.format is ExportFormat.CSV else _Xlsx()
    sheet.write([HEADER])
    async with database.reading() as session:
        names = {row.id: row.name for row in await session.execute(select(Region.id, Region.name))}
    last: UUID | None = None
    done = 0
    while True:
        async with database.reading() as session:
            query = select(Hazard).where(*chosen).order_by(Hazard.id).limit(_PAGE)
            rows = list(await session.scalars(query if last is None else query.where(Hazard.id > last)))
        # On threads: a page of a workbook takes a tenth of a second, in which a server with its worker would serve nobody.
        if not rows:
            return await asyncio.to_thread(sheet.finish)
        await asyncio.to_thread(sheet.write, (_cells(row, names) for row in rows))
        last, done = rows[-1].id, done + len(rows)
        async with lease.transaction() as session:
            await session.execute(
                update(HazardExport).where(HazardExport.id == export.id).values(rows_done=done)
            )


class _Csv:
    """UTF-8 with a byte order mark, which Excel needs for Chinese."""

    def __init__(self) -> None:
        self._text = io.StringIO()
        self._writer = csv.writer(self._text)

    def write(self, rows: Iterable[Sequence[Cell]]) -> None:
        self._writer.writerows([_harmless(cell) for cell in row] for row in rows)

    def finish(self) -> bytes:
        return b"\xef\xbb\xbf" + self._text.getvalue().encode()


class _Xlsx:
    """Text is text: nothing becomes a formula or a link."""

    def __init__(self) -> None:
        self._file = io.BytesIO()
        options = {"constant_memory": True, "strings_to_formulas": False, "strings_to_urls": False}
        self._book = xlsxwriter.Workbook(self._file, options)
        self._sheet = self._book.add_worksheet("hazards")
        self._row = 0

    def write(self, rows: Iterable[Sequence[Cell]]) -> None:
        for row in rows:
            self._sheet.write_row(self._row, 0, row)
            self._row += 1

    def finish(self) -> bytes:
        self._book.close()
        return self._file.getvalue()


def _harmless(cell: Cell) -> Cell:
    """A spreadsheet must not run what a resident typed (CSV injection)."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(_DANGEROUS) else cell


def _cells(row: Hazard, names: dict[UUID, str]) -> list[Cell]:
    return [
        str(row.id),
        _local(row.created_at),
        names.get(row.community_id, ""),
        names.get(row.region_id, ""),
        row.category,
        row.status,
        row.outcome or "",
        unseal(row, "description") or "",
        row.supporters,
        _local(row.due_at),
        _local(row.overdue_at),
        _local(row.resolved_at),
        row.disputes,
        row.refusals,
        row.rating or "",
    ]


def _local(at: datetime | None) -> str:
    return at.astimezone(SHANGHAI).strftime("%Y-%m-%d %H:%M:%S") if at else ""


async def _caller(session: AsyncSession, staff_id: UUID) -> Caller:
    rows = await session.execute(
        select(Grant.role, Grant.region_id, Grant.organisation_id).where(
            Grant.staff_id == staff_id, (Grant.expires_at.is_(None)) | (Grant.expires_at > clock.now())
        )
    )
    return Caller(PrincipalKind.STAFF, staff_id, grants=tuple(Granted(*row) for row in rows))


def _conditions(caller: Caller, export: HazardExport) -> list[ColumnElement[bool]]:
    wanted = HazardExportCreate.model_validate(
        {**export.filters, "format": export.format, "reason": "-"}, strict=False
    )
    found = [hazard_access.handled_by(caller, _OPERATION)]
    if wanted.statuses:
        found.append(Hazard.status.in_([HazardStatus(each) for each in wanted.statuses]))
    if wanted.category:
        found.append(Hazard.category == wanted.category)
    if wanted.region_id:
        below = select(RegionAncestor.region_id).where(RegionAncestor.ancestor_id == wanted.region_id)
        found.append(Hazard.region_id.in_(below))
    if wanted.filed_from:
        found.append(Hazard.created_at >= wanted.filed_from)
    if wanted.filed_until:
        found.append(Hazard.created_at < wanted.filed_until)
    return found
