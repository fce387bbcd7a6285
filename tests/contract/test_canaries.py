"""What somebody types, sends or photographs is found where it belongs, and nowhere else."""

import asyncio
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from sqlalchemy import select, update
from starlette.types import ASGIApp

from app import clock, logs
from app.db import database
from app.handlers import HANDLERS
from app.leases import ended
from app.models.events import Event
from app.models.hazards import Hazard
from app.models.tasks import Task, TaskStatus
from app.sequencer import BATCH, sequence
from app.settings import settings
from app.tasks import KINDS
from app.worker import Worker
from tests.canaries import lying_open
from tests.conftest import new_client
from tests.contract.asking import Answer, send
from tests.contract.cases import CASES
from tests.contract.garden import MASKED_FOR_ALL, WORDS_FOR_ALL, Garden, overheard, phone, plant
from tests.contract.routes import OPERATIONS
from tests.contract.world import NAMED, Principal, make_world
from tests.signing_in import WECHAT, everything_stored

_OUTSIDERS = (
    "nobody",
    "a resident of elsewhere",
    "a neighbour",
    "grid_worker of the far_street",
    "community_manager of the far_street",
    "street_dispatcher of the far_street",
    "auditor of the far_street",
    "officer of the other department",
)
_INSIDERS = (
    "community_manager of the community",
    "street_dispatcher of the street",
    "officer of the department",
)


@pytest.fixture(scope="module")
async def garden(application: ASGIApp, plenty: None) -> Garden:
    """Planted once for each format of the log; then the worker does what follows from it."""
    await _set_aside()
    garden = Garden(await make_world())
    async with new_client(application) as client:
        for format_ in ("json", "text"):
            with overheard(format_) as written:
                await plant(garden, application, client, spoiled=format_ == "json")
                await _work()
            garden.logs[format_] = written()
        garden.metrics = (await client.get("/metrics")).text
        garden.messages = (await client.get(f"{WECHAT}/messages")).text
    return garden


def test_every_operation_that_takes_words_has_taken_them(garden: Garden) -> None:
    assert len(garden.planted) > 2_000
    assert garden.taken == {
        "add_hazard_comment", "call_street", "change_my_password", "check_in_hazard", "claim_household",
        "create_hazard_export", "create_open311_request", "create_staff", "dispatch_hazard", "dispute_hazard",
        "file_hazard", "rate_hazard", "receive_district_event", "refuse_hazard", "reject_hazard", "resolve_hazard",
        "reveal_hazard_reporter", "reveal_resident", "review_hazard",
        "set_my_identity", "update_me",
    }  # fmt: skip


async def test_nothing_lies_open_in_the_database(garden: Garden) -> None:
    """Plain columns, events, tasks: whatever is not sealed."""
    found = garden.found_in(await everything_stored())
    assert {(garden.planted[canary], place) for canary, place in await lying_open(*found)} == set()


@pytest.mark.parametrize("format_", ["json", "text"])
def test_nothing_is_in_the_log(garden: Garden, format_: logs.Format) -> None:
    written = garden.logs[format_]
    assert written.count("\n") > 500
    assert garden.found_in(written) == set()
    assert "\x1b" not in written


@pytest.mark.parametrize("format_", ["json", "text"])
def test_a_leak_would_be_seen(garden: Garden, format_: logs.Format) -> None:
    """Of a name: what looks like a phone number is scrubbed even when somebody logs it by mistake."""
    name, number = (
        garden.canary("leak", "real_name", "a leak"),
        garden.canary("leak", "any", "a leak", phone()),
    )
    with overheard(format_) as written:
        logs.emit("info", "test", f"{name} {number}", {"reason": f"{name} {number}"})
    assert garden.found_in(written()) == {name}


def test_every_line_of_the_log_is_one_event(garden: Garden) -> None:
    lines = garden.logs["json"].splitlines()
    assert all(line.startswith('{"time":') and line.endswith("}") for line in lines)


def test_nothing_is_in_the_metrics(garden: Garden) -> None:
    assert "jincai_" in garden.metrics
    assert garden.found_in(garden.metrics) == set()


def test_no_refusal_repeats_what_was_sent(garden: Garden) -> None:
    refusals = [(name, answer) for name, answer in garden.answers if answer.status >= 400]
    assert len(refusals) > 1_500
    assert {answer.status for _, answer in refusals} <= {400, 401, 403, 404, 409, 412, 415, 422, 429}
    assert [name for name, answer in refusals if garden.found_in(answer.text)] == []


def test_no_header_of_an_answer_repeats_what_was_sent(garden: Garden) -> None:
    """Not even the id of a request, when it looks like a phone number."""
    assert [name for name, answer in garden.answers if garden.found_in(str(dict(answer.headers)))] == []


def test_messages_on_the_phone_say_nothing_that_was_typed(garden: Garden) -> None:
    assert "thing1" in garden.messages
    assert garden.found_in(garden.messages) == set()


def test_no_picture_keeps_what_was_around_it(garden: Garden) -> None:
    root = Path(unquote(urlsplit(settings.media_location).path))
    pictures = [path for path in root.rglob("*.jpg") if path.is_file()]
    assert pictures
    assert [path.name for path in pictures if garden.found_in(path.read_bytes().decode("latin-1"))] == []


@pytest.mark.parametrize("name", _OUTSIDERS)
async def test_others_read_nothing_of_it(name: str, garden: Garden, application: ASGIApp) -> None:
    """But for the words that are meant for the public, once they passed the content check."""
    for operation, answer in await _everything_that(NAMED[name], garden, application):
        found = garden.found_in(answer.text)
        secret = [canary for canary in found if garden.fields[canary] not in WORDS_FOR_ALL]
        assert garden.places_of(secret) == set(), operation


@pytest.mark.parametrize("name", _INSIDERS)
async def test_those_who_handle_it_see_people_masked(name: str, garden: Garden, application: ASGIApp) -> None:
    for operation, answer in await _everything_that(NAMED[name], garden, application):
        found = garden.found_in(answer.text)
        clear = [canary for canary in found if garden.fields[canary] in MASKED_FOR_ALL]
        assert garden.places_of(clear) == set(), operation


async def test_a_crash_tells_nothing(garden: Garden, application: ASGIApp, plenty: None) -> None:
    """A seal that does not open, on a hazard whose every word is a secret."""
    hazard_id = await garden.world.hazard()
    broken = garden.canary("crash", "any", "a broken seal")
    async with database.transaction() as session:
        sealed = await session.scalar(select(Hazard.description_sealed).where(Hazard.id == hazard_id))
        await session.execute(
            update(Hazard).where(Hazard.id == hazard_id).values(description_sealed=broken.encode())
        )
    try:
        for format_ in ("json", "text"):
            async with new_client(application) as client:
                with overheard(format_) as written:
                    answer = await client.get(
                        f"/v1/hazards/{hazard_id}", headers=garden.world.reporter.headers
                    )
            assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
            assert "SealBroken" in written()
            assert garden.found_in(answer.text + written()) == set()
    finally:
        async with database.transaction() as session:
            await session.execute(
                update(Hazard).where(Hazard.id == hazard_id).values(description_sealed=sealed)
            )


async def _everything_that(who: Principal, garden: Garden, application: ASGIApp) -> list[tuple[str, Answer]]:
    """What somebody gets from every read: lists as they are, and everything that was planted by its id."""
    answers = []
    async with new_client(application) as client:
        for case in CASES:
            if OPERATIONS[case.operation].method != "GET" or case.operation in (
                "stream_events",
                "read_metrics",
            ):
                continue
            for ask in await garden.readings(case):
                answer = await send(application, client, case.operation, ask, garden.world.headers(who))
                assert answer.status < 500
                answers.append((case.operation, answer))
    assert len(answers) > 50
    return answers


async def _set_aside() -> None:
    """What the tests before left to the worker: nobody looks at it any more, and it is a lot."""
    placed = BATCH
    while placed == BATCH:
        async with database.transaction() as session:
            placed = await sequence(session, {})
    async with database.transaction() as session:
        await session.execute(
            update(Task).where(Task.status == TaskStatus.QUEUED).values(ended(TaskStatus.DONE))
        )


async def _work() -> None:
    """What a worker does until there is nothing left that is due."""
    stop = asyncio.Event()
    working = asyncio.create_task(Worker(KINDS, HANDLERS, ()).run(stop))
    try:
        async with asyncio.timeout(180):
            while not await _is_idle():  # noqa: ASYNC110 - the database is asked, not told
                await asyncio.sleep(0.1)
    finally:
        stop.set()
        await working


async def _is_idle() -> bool:
    async with database.reading() as session:
        event = await session.scalar(select(Event.no).where(Event.position.is_(None)).limit(1))
        due = select(Task.id).where(Task.status == TaskStatus.QUEUED, Task.run_at <= clock.now()).limit(1)
        return event is None and await session.scalar(due) is None
