"""Spreadsheets: the rows of one's own regions, harmless in every cell, with progress, for a day."""

import csv
import io
import threading
import zipfile
from datetime import datetime, timedelta
from pathlib import Path
from uuid import UUID

import httpx
import pytest
from python_calamine import CalamineWorkbook
from sqlalchemy import delete, update

from app import auth, clock, leases
from app.clients.storage import Storage
from app.clock import SHANGHAI
from app.db import database, signal_after_commit
from app.errors import Unavailable
from app.ids import new_id
from app.keys import unseal
from app.leases import LeaseLost
from app.models.hazard_exports import HazardExport
from app.models.hazards import HazardStatus
from app.models.staff import Grant, Role
from app.models.tasks import TaskStatus
from app.outside import outside
from app.services import hazard_exports
from tests.factories import Person, make_staff
from tests.residents import tell_everything
from tests.stalled import keeps_no_connection
from tests.stories import Json, Story, begin, change, complaints, problem, work_off

S = HazardStatus
EXPORTS = "/v1/hazard-exports"
FORMULAS = (
    "=1+1",
    "+86 13800000000",
    "-1",
    "@SUM(1)",
    '{=HYPERLINK("http://evil.example","x")}',
    '=cmd|" /C calc"!A0',
    "＝1+1",
    "http://evil.example",
)


async def _asked(story: Story, who: Person, **body: object) -> Json:
    response = await story.post(who, EXPORTS, {"format": "csv", "reason": "月度通报"} | body)
    assert response.status_code == 202, response.text
    answer: Json = response.json()
    return answer


async def _rows(story: Story, who: Person, **body: object) -> list[list[str]]:
    """Ask for a file, let the worker write it, and read it as a spreadsheet program does."""
    asked = await _asked(story, who, **body)
    assert (asked["status"], asked["rows_done"], asked["expires_at"]) == ("queued", 0, None)
    early = await story.client.get(f"{EXPORTS}/{asked['id']}/file", headers=who.headers)
    problem(early, 409, "export_not_ready")
    await work_off(hazard_exports.TASK)
    done = await story.get(who, f"{EXPORTS}/{asked['id']}")
    file = await story.client.get(f"{EXPORTS}/{asked['id']}/file", headers=who.headers)
    assert file.status_code == 200
    assert file.headers["cache-control"] == "no-store"
    assert f'filename="hazards-{clock.now():%Y%m%d}.{asked["format"]}"' in file.headers["content-disposition"]
    rows = _csv(file) if asked["format"] == "csv" else _xlsx(file)
    assert rows[0] == list(hazard_exports.HEADER)
    assert (done["status"], done["rows_total"], done["rows_done"]) == ("done", len(rows) - 1, len(rows) - 1)
    return rows[1:]


def _csv(file: httpx.Response) -> list[list[str]]:
    assert file.headers["content-type"] == "text/csv; charset=utf-8"
    assert file.content.startswith(b"\xef\xbb\xbf")
    return list(csv.reader(io.StringIO(file.content.decode("utf-8-sig"))))


def _xlsx(file: httpx.Response) -> list[list[str]]:
    assert file.headers["content-type"] == "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
    sheet = CalamineWorkbook.from_filelike(io.BytesIO(file.content)).get_sheet_by_name("hazards")
    return [[_text(cell) for cell in row] for row in sheet.to_python()]


def _text(cell: object) -> str:
    return str(int(cell)) if isinstance(cell, float) else str(cell)


@pytest.mark.parametrize("format_", ["csv", "xlsx"])
async def test_what_is_in_the_file(client: httpx.AsyncClient, format_: str) -> None:
    story = await begin(client)
    filed = await story.file(description='第一行\n第二行, "引号" 👩‍👩‍👧‍👦', address="3栋")
    closed = await story.hazard(S.CLOSED, category="garbage")
    await story.take(story.reporter, closed, "rate", {"score": 4})
    resolved_at = datetime(2026, 11, 20, 10, 30, 5, tzinfo=SHANGHAI)
    await change(closed, resolved_at=resolved_at, overdue_at=resolved_at - timedelta(hours=1))
    rows = await _rows(story, story.manager, format=format_)
    due = datetime.fromisoformat(filed["due_at"]).astimezone(SHANGHAI)
    created = datetime.fromisoformat(filed["created_at"]).astimezone(SHANGHAI)
    assert rows[0] == [
        filed["id"],
        f"{created:%Y-%m-%d %H:%M:%S}",
        "测试community",
        "测试grid",
        "fire_passage_blocked",
        "filed",
        "",
        '第一行\n第二行, "引号" 👩‍👩‍👧‍👦',
        "0",
        f"{due:%Y-%m-%d %H:%M:%S}",
        "",
        "",
        "0",
        "0",
        "",
    ]
    assert rows[1][0] == closed
    assert rows[1][4:7] == ["garbage", "closed", "fixed"]
    assert rows[1][10:] == ["2026-11-20 09:30:05", "2026-11-20 10:30:05", "0", "0", "4"]


@pytest.mark.parametrize("format_", ["csv", "xlsx"])
async def test_nothing_typed_becomes_a_formula(client: httpx.AsyncClient, format_: str) -> None:
    story = await begin(client)
    for text in FORMULAS:
        await story.file(description=text)
    cells = [row[7] for row in await _rows(story, story.manager, format=format_)]
    if format_ == "xlsx":
        assert cells == list(FORMULAS)
    else:
        assert [cell.removeprefix("'") for cell in cells] == list(FORMULAS)
        assert not [cell for cell in cells if cell[0] in "=+-@＝"]


async def test_a_workbook_has_neither_formulas_nor_links(client: httpx.AsyncClient) -> None:
    story = await begin(client)
    for text in FORMULAS:
        await story.file(description=text)
    asked = await _asked(story, story.manager, format="xlsx")
    await work_off(hazard_exports.TASK)
    file = await client.get(f"{EXPORTS}/{asked['id']}/file", headers=story.manager.headers)
    with zipfile.ZipFile(io.BytesIO(file.content)) as parts:
        sheet = parts.read("xl/worksheets/sheet1.xml")
    assert sheet.count(b"<row ") == len(FORMULAS) + 1
    assert b"<f>" not in sheet
    assert b"<hyperlink" not in sheet


async def test_the_own_regions_and_the_filter(client: httpx.AsyncClient) -> None:
    story = await begin(client)
    here = await story.hazard(S.ACCEPTED)
    garbage = await story.hazard(S.FILED, category="garbage")
    beside = str((await story.file(location=story.places.point(story.places.other_grid)))["id"])
    street = str((await story.file(location=story.places.point(story.places.neighbour_grid)))["id"])
    old = await story.hazard(S.FILED)
    await change(old, created_at=clock.now() - timedelta(days=40))
    month = (clock.now() - timedelta(days=30)).isoformat()

    async def ids(who: Person, **body: object) -> set[str]:
        return {row[0] for row in await _rows(story, who, **body)}

    assert await ids(story.manager) == {here, garbage, beside, old}
    assert await ids(story.dispatcher) == {here, garbage, beside, street, old}
    assert await ids(story.manager, statuses=["accepted", "closed"]) == {here}
    assert await ids(story.manager, category="garbage") == {garbage}
    assert await ids(story.manager, region_id=str(story.places.other_grid)) == {beside}
    assert await ids(story.manager, region_id=str(story.places.far_street)) == set()
    assert await ids(story.manager, filed_from=month) == {here, garbage, beside}
    assert await ids(story.manager, filed_until=month) == {old}


async def test_more_rows_than_a_page(client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hazard_exports, "_PAGE", 2)
    story = await begin(client)
    filed = [str((await story.file())["id"]) for _ in range(5)]
    assert [row[0] for row in await _rows(story, story.manager)] == filed


@pytest.mark.parametrize("format_", ["csv", "xlsx"])
async def test_nobody_waits_while_it_is_written(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, format_: str
) -> None:
    """A page of a workbook takes long enough to be noticed by everybody whom this process serves."""
    kind: type[hazard_exports._Csv] | type[hazard_exports._Xlsx]
    kind = hazard_exports._Csv if format_ == "csv" else hazard_exports._Xlsx
    threads: list[tuple[str, int]] = []

    def watched(name: str) -> None:
        real = getattr(kind, name)

        def work(*arguments: object) -> object:
            threads.append((name, threading.get_ident()))
            return real(*arguments)

        monkeypatch.setattr(kind, name, work)

    watched("write")
    watched("finish")
    story = await begin(client)
    filed = [str((await story.file())["id"]) for _ in range(2)]
    assert [row[0] for row in await _rows(story, story.manager, format=format_)] == filed
    elsewhere = [name for name, thread in threads if thread != threading.get_ident()]
    assert elsewhere == ["write", "finish"]


async def test_nobody_is_named(client: httpx.AsyncClient) -> None:
    story = await begin(client)
    told = await tell_everything(client, story.reporter, story.places.building)
    await story.hazard(S.CLOSED, anonymous=False, address="秘密花园3栋")
    text = str(await _rows(story, story.manager))
    secret = (*told.secrets, str(story.reporter.id), str(story.worker.id), "秘密花园")
    assert not [word for word in secret if word in text]


async def test_a_file_belongs_to_whoever_asked(client: httpx.AsyncClient) -> None:
    story = await begin(client)
    asked = await _asked(story, story.manager)
    await work_off(hazard_exports.TASK)
    admin = await make_staff(Role.DISTRICT_ADMIN, story.places.district)
    for who in (story.dispatcher, admin):
        for path in ("", "/file"):
            response = await client.get(f"{EXPORTS}/{asked['id']}{path}", headers=who.headers)
            problem(response, 404, "not_found")


@pytest.mark.parametrize("who", ["reporter", "worker", "officer"])
async def test_who_may_not_ask(story: Story, who: str) -> None:
    body = {"format": "csv", "reason": "月度通报"}
    problem(await story.post(getattr(story, who), EXPORTS, body), 403, "forbidden")


async def test_a_fresh_second_factor_is_needed(story: Story) -> None:
    manager = await make_staff(Role.COMMUNITY_MANAGER, story.places.community, stepped_up=False)
    body = {"format": "csv", "reason": "月度通报"}
    problem(await story.post(manager, EXPORTS, body), 403, "step_up_required")


@pytest.mark.parametrize(
    ("body", "where", "code"),
    [
        ({"format": "pdf"}, "body.format", "enum"),
        ({"reason": ""}, "body.reason", "string_too_short"),
        ({"statuses": ["open"]}, "body.statuses.0", "enum"),
        ({"region_id": "1"}, "body.region_id", "uuid_parsing"),
        ({"region_id": str(new_id())}, "body.region_id", "unknown_region"),
        ({"category": "no_such_category"}, "body.category", "unknown_category"),
        ({"statuses": ["filed", "called", "filed"]}, "body.statuses", "named_twice"),
        ({"filed_from": "2026-11-01T00:00:00"}, "body.filed_from", "timezone_aware"),
        (
            {"filed_from": "2026-11-02T00:00:00Z", "filed_until": "2026-11-01T00:00:00Z"},
            "body.filed_from",
            "invalid_period",
        ),
        ({"columns": ["phone"]}, "body.columns", "extra_forbidden"),
    ],
)
async def test_what_is_no_export(story: Story, body: Json, where: str, code: str) -> None:
    response = await story.post(story.manager, EXPORTS, {"format": "csv", "reason": "月度通报"} | body)
    named = "unknown_category" if code == "unknown_category" else "invalid_input"
    assert complaints(problem(response, 422, named)) == [(where, code)]


async def test_whoever_lost_the_role_meanwhile_gets_an_empty_file(client: httpx.AsyncClient) -> None:
    story = await begin(client)
    await story.file()
    asked = await _asked(story, story.manager)
    async with database.transaction() as session:
        await session.execute(delete(Grant).where(Grant.staff_id == story.manager.id))
        signal_after_commit(session, auth.topic(story.manager.id))
    await work_off(hazard_exports.TASK)
    async with database.reading() as session:
        export = await session.get_one(HazardExport, UUID(asked["id"]))
    assert (export.status, export.rows_total) == ("done", 0)


async def test_a_slow_storage_stops_nobody_else_who_reads(client: httpx.AsyncClient) -> None:
    story = await begin(client)
    path = f"{EXPORTS}/{(await _asked(story, story.manager))['id']}/file"
    await work_off(hazard_exports.TASK)
    assert await keeps_no_connection(lambda: client.get(path, headers=story.manager.headers))


async def test_a_file_is_gone_after_a_day(client: httpx.AsyncClient) -> None:
    story = await begin(client)
    asked = await _asked(story, story.manager)
    export_id = UUID(asked["id"])
    await work_off(hazard_exports.TASK)
    async with database.transaction() as session:
        export = await session.get_one(HazardExport, export_id)
        assert export.expires_at is not None
        assert timedelta(hours=23) < export.expires_at - clock.now() <= timedelta(days=1)
        assert unseal(export, "reason") == "月度通报"
        gone = update(HazardExport).where(HazardExport.id == export_id)
        await session.execute(gone.values(expires_at=clock.now() - timedelta(seconds=1)))
    path = f"{EXPORTS}/{asked['id']}/file"
    problem(await client.get(path, headers=story.manager.headers), 409, "export_not_ready")
    async with database.transaction() as session:
        assert await hazard_exports.erase_expired(session) >= 1
    async with database.reading() as session:
        assert (await session.get_one(HazardExport, export_id)).storage_key is None


async def test_a_file_that_cannot_be_made_is_said_to_have_failed(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """After the last attempt; until then it is still being made."""
    story = await begin(client)
    await story.file()
    asked = await _asked(story, story.manager)
    (tmp_path / "exports").write_text("not a directory")
    broken = Storage(tmp_path.as_uri())
    monkeypatch.setattr(outside, "storage", broken)
    for attempt in range(1, hazard_exports.ATTEMPTS + 1):
        (lease,) = await leases.claim([hazard_exports.TASK], 1)
        assert lease.attempt == attempt
        with pytest.raises(Unavailable):
            await hazard_exports.run(lease)
        told = await story.get(story.manager, f"{EXPORTS}/{asked['id']}")
        last = attempt == hazard_exports.ATTEMPTS
        assert (told["status"], told["rows_done"]) == ("failed" if last else "running", 1)
        await lease.end(leases.ended(TaskStatus.DEAD) if last else {"lease_token": None, "lease_until": None})
    broken.close()


async def test_who_was_too_slow_leaves_no_file(client: httpx.AsyncClient) -> None:
    story = await begin(client)
    asked = await _asked(story, story.manager)
    (slow,) = await leases.claim([hazard_exports.TASK], 1)
    await slow.end({"lease_token": None, "lease_until": None})
    await work_off(hazard_exports.TASK)
    before = await story.get(story.manager, f"{EXPORTS}/{asked['id']}")
    with pytest.raises(LeaseLost):
        await hazard_exports.run(slow)
    assert await story.get(story.manager, f"{EXPORTS}/{asked['id']}") == before
