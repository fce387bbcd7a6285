"""Watermarks name every case that differs, mappings every code that leads nowhere, and `jincai sync` shows both."""

import hashlib
from collections.abc import Mapping
from uuid import uuid4

import httpx
import pytest
from sqlalchemy import select, update

from app import clock
from app.cli import sync as cli
from app.db import Database
from app.models.hazards import Hazard, HazardStatus
from app.models.notifications import Notification
from app.models.staff import Role
from app.models.sync import InboundEvent, SyncCase
from app.services import sync
from tests.contract.asking import signature
from tests.factories import Person, Places, make_staff
from tests.stories import begin, complaints, problem
from tests.sync.test_district_events import apply, region_code, send, story
from tests.worker.chronicle import place_all

WATERMARKS = "/v1/sync/district/watermarks"
MAPPINGS = "/v1/sync/district/mappings"


@pytest.fixture
async def admin(places: Places) -> Person:
    return await make_staff(Role.DISTRICT_ADMIN, places.district)


def _sum(cases: dict[str, str]) -> str:
    return hashlib.sha256(
        "\n".join(sorted(f"{case} {status}" for case, status in cases.items())).encode()
    ).hexdigest()


async def _compare(client: httpx.AsyncClient, code: str, cases: dict[str, str]) -> dict[str, object]:
    body = {
        "day": str(clock.today()),
        "communities": [
            {
                "region_code": code,
                "count": len(cases),
                "checksum": _sum(cases),
                "cases": [{"case": case, "status": status} for case, status in cases.items()],
            }
        ],
    }
    answer = await _post_numbers(client, body)
    assert answer.status_code == 200, answer.text
    (found,) = [each for each in answer.json()["communities"] if each["region_code"] == code]
    drift: dict[str, object] = found
    return drift


async def _post_numbers(client: httpx.AsyncClient, body: Mapping[str, object]) -> httpx.Response:
    raw = httpx.Request("POST", "http://x", json=body).content
    headers = {**signature(raw), "content-type": "application/json"}
    return await client.post(WATERMARKS, content=raw, headers=headers)


async def test_drift_is_named_case_by_case(
    client: httpx.AsyncClient, db: Database, places: Places, admin: Person
) -> None:
    told = await begin(client, places)
    ours = [await told.hazard(HazardStatus.FILED) for _ in range(3)]
    theirs = f"D-{uuid4().hex[:12]}"
    code = await region_code(db, places)
    await send(client, story(theirs, code)[0])
    await apply(db, theirs)
    all_ = {**dict.fromkeys(ours, "filed"), theirs: "filed"}

    same = await _compare(client, code, all_)
    assert (same["same"], same["ours"], same["theirs"]) == (True, 4, 4)
    assert same["missing_here"] == same["missing_there"] == same["differing"] == []

    unlike = {ours[0]: "filed", ours[1]: "closed", theirs: "filed", "D-unknown": "filed"}
    drift = await _compare(client, code, unlike)
    assert drift["same"] is False
    assert (drift["missing_here"], drift["missing_there"]) == (["D-unknown"], [ours[2]])
    assert drift["differing"] == [ours[1]]

    answer = await client.get(WATERMARKS, headers=admin.headers, params={"day": str(clock.today())})
    (mine,) = [each for each in answer.json()["communities"] if each["region_code"] == code]
    assert mine == {"region_code": code, "count": 4, "checksum": _sum(all_)}


async def test_numbers_that_contradict_themselves_are_not_compared(client: httpx.AsyncClient) -> None:
    """The last of two would count, and nobody would hear of the other."""
    case = {"case": "D-1", "status": "filed"}
    named: dict[str, object] = {"region_code": "R1", "count": 1, "checksum": _sum({"D-1": "filed"})}
    for communities, where in (
        ([named, named | {"count": 2}], "body.communities"),
        ([named | {"cases": [case, case | {"status": "closed"}]}], "body.communities.0.cases"),
    ):
        answer = await _post_numbers(client, {"day": str(clock.today()), "communities": communities})
        assert complaints(problem(answer, 422, "invalid_input")) == [(where, "named_twice")]


@pytest.mark.parametrize("day", ["0001-01-01", "1764000000", "2026-13-01", "yesterday", ""])
async def test_what_is_no_day_is_refused(client: httpx.AsyncClient, admin: Person, day: str) -> None:
    answer = await client.get(WATERMARKS, headers=admin.headers, params={"day": day})
    assert answer.status_code == 422


@pytest.mark.parametrize(
    ("day", "said"),
    [
        ("2019-12-31", "必须在 2020 年至 2099 年之间"),
        ("2020-01-01", None),
        ("2099-12-31", None),
        ("2100-01-01", "必须在 2020 年至 2099 年之间"),
    ],
)
async def test_the_bounds_of_a_day_are_told(
    client: httpx.AsyncClient, admin: Person, day: str, said: str | None
) -> None:
    answer = await client.get(WATERMARKS, headers=admin.headers, params={"day": day})
    assert [error["message"] for error in answer.json().get("errors", ())] == ([said] if said else [])


async def test_a_mapped_code_lets_go_what_waited_for_it(
    client: httpx.AsyncClient, db: Database, places: Places, admin: Person
) -> None:
    case, theirs = f"D-{uuid4().hex[:12]}", f"R{uuid4().hex[:8]}"
    code = await region_code(db, places)
    await send(client, story(case, theirs)[0])
    await apply(db, case)
    drift = (await client.get(MAPPINGS, headers=admin.headers)).json()["drift"]
    assert f"region {theirs}" in drift["unknown_received"]

    rows = [
        {"kind": "region", "theirs": theirs, "ours": code},
        {"kind": "category", "theirs": "A99", "ours": "no_such_category"},
    ]
    answer = await client.put(MAPPINGS, headers=admin.headers, json={"mappings": rows})
    assert answer.status_code == 200, answer.text
    try:
        drift = answer.json()["drift"]
        assert drift["dangling"] == [rows[1]]
        assert code not in drift["unmapped_regions"]
        assert "garbage" in drift["unmapped_categories"]
        async with db.reading() as session:
            held = (await session.scalars(select(SyncCase).where(SyncCase.case_key == case))).one()
        assert (held.applied_seq, held.hazard_id is not None) == (1, True)
        twice = await client.put(MAPPINGS, headers=admin.headers, json={"mappings": [rows[0], rows[0]]})
        wanted = [("body.mappings.1.theirs", "repeated_code")]
        assert complaints(problem(twice, 422, "repeated_code")) == wanted
    finally:
        await client.put(MAPPINGS, headers=admin.headers, json={"mappings": []})


async def test_a_code_of_a_street_is_no_community(
    client: httpx.AsyncClient, db: Database, places: Places
) -> None:
    region = (await client.get(f"/v1/regions/{places.street}")).json()
    case = f"D-{uuid4().hex[:12]}"
    await send(client, story(case, region["code"])[0])
    await apply(db, case)
    async with db.reading() as session:
        assert (case, 1, "case.created", f"unmapped region {region['code']}") in await sync.parked(
            session, 1000
        )


@pytest.mark.parametrize("place", ["far_grid", "nowhere"])
async def test_a_case_lies_in_the_community_that_the_district_names(
    client: httpx.AsyncClient, db: Database, places: Places, place: str
) -> None:
    lng, lat = (10.0, 10.0) if place == "nowhere" else places.centres[places.far_grid]
    case = f"D-{uuid4().hex[:12]}"
    first = story(case, await region_code(db, places))[0]
    data = first["data"]
    assert isinstance(data, dict)
    await send(client, {**first, "data": {**data, "location": {"lng": lng, "lat": lat}}})
    await apply(db, case)
    async with db.reading() as session:
        hazard_id = await session.scalar(select(SyncCase.hazard_id).where(SyncCase.case_key == case))
        hazard = await session.get_one(Hazard, hazard_id)
    assert (hazard.community_id, hazard.region_id) == (places.community, places.community)


async def test_a_gap_is_told_once_and_a_contradiction_at_once(
    client: httpx.AsyncClient, db: Database, places: Places, admin: Person
) -> None:
    case = f"D-{uuid4().hex[:12]}"
    code = await region_code(db, places)
    first, second, third = story(case, code)[:3]
    parked = (await send(client, third)).json()
    assert (parked["status"], parked["reason"]) == ("parked", "earlier numbers are missing")
    async with db.transaction() as session:
        held = (await session.scalars(select(SyncCase.id).where(SyncCase.case_key == case))).one()
        await session.execute(
            update(InboundEvent)
            .where(InboundEvent.case_id == held)
            .values(created_at=clock.now().replace(year=2025))
        )
    for _ in range(2):
        while await _report(db):
            pass
    assert (await send(client, {**second, "seq": 3})).status_code == 409
    await place_all()
    async with db.reading() as session:
        types = await session.scalars(
            select(Notification.type).where(
                Notification.recipient_id == admin.id, Notification.subject_id == held
            )
        )
        assert sorted(types) == ["sync.conflict", "sync.waiting"]
    for event in (first, second):
        await send(client, event)
    await apply(db, case)
    async with db.reading() as session:
        assert not [each for each in await sync.parked(session, 1000) if each[0] == case]


async def _report(db: Database) -> int:
    async with db.transaction() as session:
        return await sync.report_waiting(session)


async def test_the_commands_show_it(
    client: httpx.AsyncClient, db: Database, places: Places, capsys: pytest.CaptureFixture[str]
) -> None:
    case = f"D-{uuid4().hex[:12]}"
    code = await region_code(db, places)
    await send(client, story(case, code)[1])
    await _compare(client, code, {"D-missing": "filed"})
    async with db.reading() as session:
        assert (case, 2, "case.status_changed", "earlier numbers are missing") in await sync.parked(
            session, 1000
        )
    received, _, _, _ = await cli._status()
    assert received["parked"] >= 1
    report, _ = await cli._reconcile(clock.today())
    assert report is not None
    cli._show(report)
    shown = capsys.readouterr().out
    assert f"{code}: ours 0, theirs 1" in shown
    assert "only there: D-missing" in shown
    await send(client, story(case, code)[0])
    assert await cli._replay() >= 2
