"""What staff see of residents: masked; in clear only for a reason, seldom, and on record for the resident."""

import asyncio
from collections.abc import Callable
from datetime import timedelta

import httpx
import pytest
from sqlalchemy import func, select

from app.db import database
from app.ids import new_id
from app.models.events import Audience, Event
from app.models.reveals import Reveal
from app.models.staff import Role
from app.services.reveals import PER_HOUR
from tests import canaries
from tests.factories import Person, Places, give_role, make_resident, make_staff
from tests.residents import Told, tell_everything
from tests.stories import Json, Story, begin, complaints, problem

REASON = "核实住户认领，需电话联系"


async def reveal(
    client: httpx.AsyncClient, who: Person, told: Told, *fields: str, reason: str = REASON
) -> httpx.Response:
    body = {"fields": list(fields), "reason": reason}
    return await client.post(f"/v1/residents/{told.person.id}/reveal", json=body, headers=who.headers)


async def read(client: httpx.AsyncClient, who: Person, person: Person) -> httpx.Response:
    return await client.get(f"/v1/residents/{person.id}", headers=who.headers)


async def access_log(client: httpx.AsyncClient, person: Person) -> list[Json]:
    response = await client.get("/v1/me/access-log", headers=person.headers)
    assert response.status_code == 200
    items: list[Json] = response.json()["items"]
    return items


async def looks(who: Person) -> int:
    async with database.reading() as session:
        return await session.scalar(select(func.count()).where(Reveal.staff_id == who.id)) or 0


@pytest.fixture
async def told(client: httpx.AsyncClient, places: Places) -> Told:
    return await tell_everything(client, await make_resident(), places.building)


@pytest.fixture
async def manager(places: Places) -> Person:
    return await make_staff(Role.COMMUNITY_MANAGER, places.community)


# --- Masked -----------------------------------------------------------------------------------------------------


async def test_staff_see_a_resident_masked(client: httpx.AsyncClient, manager: Person, told: Told) -> None:
    response = await read(client, manager, told.person)
    assert response.status_code == 200
    assert [each for each in told.secrets if each in response.text] == []
    answer = response.json()
    assert answer["phone_masked"] == f"190****{told.phone[-4:]}"
    assert (answer["nickname_masked"], answer["real_name_masked"]) == ("昵***", "金***")
    assert answer["id_number_masked"][-4:] == told.id_number[-4:]
    assert [each["id"] for each in answer["households"]] == [told.household_id]


async def test_only_those_whose_work_it_is_see_a_resident(
    client: httpx.AsyncClient, places: Places, told: Told
) -> None:
    for role, region in (
        (Role.GRID_WORKER, places.grid),
        (Role.STREET_DISPATCHER, places.street),
        (Role.AUDITOR, places.district),
    ):
        assert (await read(client, await make_staff(role, region), told.person)).status_code == 200
    for role, region in (
        (Role.GRID_WORKER, places.other_grid),
        (Role.COMMUNITY_MANAGER, places.neighbour),
        (Role.STREET_DISPATCHER, places.far_street),
    ):
        stranger = await make_staff(role, region)
        problem(await read(client, stranger, told.person), 404, "not_found")
        problem(await reveal(client, stranger, told, "phone"), 404, "not_found")
        assert await looks(stranger) == 0
    problem(await read(client, told.person, told.person), 403, "forbidden")
    problem(
        await read(client, await make_staff(Role.SYSTEM_ADMIN, places.district), told.person),
        403,
        "forbidden",
    )


async def test_without_a_tie_there_is_nobody(
    client: httpx.AsyncClient, places: Places, manager: Person
) -> None:
    person = await make_resident(places.community)
    problem(await read(client, manager, person), 404, "not_found")
    problem(await client.get(f"/v1/residents/{new_id()}", headers=manager.headers), 404, "not_found")
    problem(await client.get("/v1/residents/1", headers=manager.headers), 422, "invalid_input")


async def test_an_ended_household_ties_nobody(client: httpx.AsyncClient, manager: Person, told: Told) -> None:
    await client.delete(f"/v1/me/households/{told.household_id}", headers=told.person.headers)
    problem(await read(client, manager, told.person), 404, "not_found")


async def test_homes_elsewhere_stay_elsewhere(
    client: httpx.AsyncClient, places: Places, manager: Person, told: Told
) -> None:
    home = {"region_id": str(places.far_grid), "address": "远处1栋101室", "relation": "owner"}
    await client.post("/v1/me/households", json=home, headers=told.person.headers)
    answer = (await read(client, manager, told.person)).json()
    assert [each["id"] for each in answer["households"]] == [told.household_id]
    shown = (await reveal(client, manager, told, "address")).json()
    assert [each["address"] for each in shown["addresses"]] == [told.address]


# --- Revealed ---------------------------------------------------------------------------------------------------


async def test_a_reveal_shows_what_was_asked_for_and_nothing_else(
    client: httpx.AsyncClient, manager: Person, told: Told
) -> None:
    answer = (await reveal(client, manager, told, "phone")).json()
    assert answer == {
        "resident_id": str(told.person.id),
        "phone": told.phone,
        "real_name": None,
        "id_number": None,
        "addresses": None,
    }
    answer = (await reveal(client, manager, told, "real_name", "id_number", "address")).json()
    assert (answer["phone"], answer["real_name"], answer["id_number"]) == (
        None,
        told.real_name,
        told.id_number,
    )
    assert [each["address"] for each in answer["addresses"]] == [told.address]


async def test_the_resident_reads_who_looked_at_what_and_why(
    client: httpx.AsyncClient, places: Places, manager: Person, told: Told
) -> None:
    await reveal(client, manager, told, "phone")
    dispatcher = await make_staff(Role.STREET_DISPATCHER, places.street)
    await reveal(client, dispatcher, told, "address", reason="街道复核住址信息")
    log = await access_log(client, told.person)
    assert [(each["role"], each["office_en"], each["fields"], each["reason"]) for each in log] == [
        ("street_dispatcher", "Test street", ["address"], "街道复核住址信息"),
        ("community_manager", "Test community", ["phone"], REASON),
    ]
    text = str(log)
    assert [each for each in (str(manager.id), manager.username) if each in text] == []
    assert await access_log(client, await make_resident()) == []
    problem(await client.get("/v1/me/access-log", headers=manager.headers), 403, "forbidden")
    page = (await client.get("/v1/me/access-log?limit=1", headers=told.person.headers)).json()
    rest = await client.get(
        "/v1/me/access-log", params={"cursor": page["next_cursor"]}, headers=told.person.headers
    )
    assert [*page["items"], *rest.json()["items"]] == log


async def test_a_reveal_is_audited_by_field_names_only(
    client: httpx.AsyncClient, places: Places, manager: Person, told: Told
) -> None:
    reason = f"原因{told.nickname}"
    await reveal(client, manager, told, "phone", "id_number", reason=reason)
    async with database.reading() as session:
        events = list(
            await session.scalars(
                select(Event).where(Event.actor_id == manager.id, Event.type == "resident.revealed")
            )
        )
    [event] = events
    assert event.audience is Audience.AUDIT
    assert (event.payload["fields"], event.payload["resident_id"]) == (
        "id_number,phone",
        str(told.person.id),
    )
    assert await canaries.lying_open(reason, *told.secrets) == set()


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ({"fields": ["phone"]}, ("body.reason", "missing")),
        ({"fields": ["phone"], "reason": "查看一下"}, ("body.reason", "string_too_short")),
        ({"fields": ["phone"], "reason": "      "}, ("body.reason", "string_too_short")),
        ({"fields": ["phone"], "reason": "理" * 501}, ("body.reason", "string_too_long")),
        ({"fields": ["phone"], "reason": "a\u200bbcdefg"}, ("body.reason", "control_character")),
        ({"fields": [], "reason": REASON}, ("body.fields", "too_short")),
        ({"fields": ["openid"], "reason": REASON}, ("body.fields.0", "enum")),
        ({"fields": "phone", "reason": REASON}, ("body.fields", "list_type")),
        ({"fields": ["phone"] * 5, "reason": REASON}, ("body.fields", "too_long")),
        ({"fields": ["phone", "address", "phone"], "reason": REASON}, ("body.fields", "named_twice")),
        ({"fields": ["phone"], "reason": REASON, "all": True}, ("body.all", "extra_forbidden")),
    ],
)
async def test_what_reveals_nothing(
    client: httpx.AsyncClient, manager: Person, told: Told, body: Json, complaint: tuple[str, str]
) -> None:
    path = f"/v1/residents/{told.person.id}/reveal"
    response = await client.post(path, json=body, headers=manager.headers)
    assert complaints(problem(response, 422, "invalid_input")) == [complaint]
    assert await looks(manager) == 0


async def test_whoever_may_look_may_not_reveal_with_another_role(
    client: httpx.AsyncClient, places: Places, told: Told
) -> None:
    auditor = await make_staff(Role.AUDITOR, places.district)
    problem(await reveal(client, auditor, told, "phone"), 403, "forbidden")
    await give_role(auditor, Role.COMMUNITY_MANAGER, places.far_community)
    problem(await reveal(client, auditor, told, "phone"), 403, "forbidden")
    problem(await reveal(client, told.person, told, "phone"), 403, "forbidden")
    assert await access_log(client, told.person) == []


async def test_a_replay_shows_nothing_and_counts_nothing(
    client: httpx.AsyncClient, manager: Person, told: Told
) -> None:
    body = {"fields": ["phone", "real_name", "id_number", "address"], "reason": REASON}
    path, headers = f"/v1/residents/{told.person.id}/reveal", manager.headers | {"Idempotency-Key": "look-1"}
    assert (await client.post(path, json=body, headers=headers)).json()["phone"] == told.phone
    again = await client.post(path, json=body, headers=headers)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert [each for each in told.secrets if each in again.text] == []
    assert await looks(manager) == 1


async def test_forty_reveals_at_once_are_thirty(
    client: httpx.AsyncClient, manager: Person, told: Told, advance: Callable[[float], None]
) -> None:
    answers = await asyncio.gather(*(reveal(client, manager, told, "phone") for _ in range(40)))
    shown = [answer for answer in answers if answer.status_code == 200]
    refused = [answer for answer in answers if answer.status_code == 429]
    assert (len(shown), len(refused)) == (PER_HOUR, 10)
    problem(refused[0], 429, "reveal_limit_reached")
    assert 3500 < int(refused[0].headers["Retry-After"]) <= 3601
    assert await looks(manager) == PER_HOUR
    other = await make_staff(Role.COMMUNITY_MANAGER, (await manager.caller()).grants[0].region_id)
    assert (await reveal(client, other, told, "phone")).status_code == 200
    # No more than the access token lives: the limit is a sliding hour, so nothing is forgiven halfway.
    advance(1700)
    problem(await reveal(client, manager, told, "phone"), 429, "reveal_limit_reached")


async def test_the_limit_ends_after_an_hour(
    client: httpx.AsyncClient, places: Places, manager: Person, told: Told, advance: Callable[[float], None]
) -> None:
    await asyncio.gather(*(reveal(client, manager, told, "phone") for _ in range(PER_HOUR)))
    refused = await reveal(client, manager, told, "phone")
    async with database.transaction() as session:
        oldest = await session.scalar(
            select(Reveal).where(Reveal.staff_id == manager.id).order_by(Reveal.created_at).limit(1)
        )
        assert oldest is not None
        oldest.created_at -= timedelta(seconds=int(refused.headers["Retry-After"]))
    assert (await reveal(client, manager, told, "phone")).status_code == 200
    problem(await reveal(client, manager, told, "phone"), 429, "reveal_limit_reached")


# --- Reporters --------------------------------------------------------------------------------------------------


@pytest.fixture
async def story(client: httpx.AsyncClient, places: Places) -> Story:
    return await begin(client, places)


async def reveal_reporter(story: Story, who: Person, hazard_id: str, *fields: str) -> httpx.Response:
    body = {"fields": list(fields), "reason": "现场找不到位置，需联系上报人"}
    return await story.step(who, hazard_id, "reveal-reporter", body)


async def test_whoever_handles_a_hazard_can_reach_its_reporter(story: Story, places: Places) -> None:
    told = await tell_everything(story.client, story.reporter, places.far_grid)
    hazard_id = (await story.file())["id"]
    await story.accept(hazard_id)
    await story.call(hazard_id)
    await story.dispatch(hazard_id)
    for who in (story.worker, story.dispatcher, story.officer):
        answer = await reveal_reporter(story, who, hazard_id, "phone", "real_name")
        assert answer.status_code == 200, answer.text
        assert (answer.json()["phone"], answer.json()["real_name"]) == (told.phone, told.real_name)
    log = await access_log(story.client, story.reporter)
    assert [(each["role"], each["office_en"], each["hazard_id"]) for each in log] == [
        ("department_officer", "Test Department", hazard_id),
        ("street_dispatcher", "Test street", hazard_id),
        ("grid_worker", "Test grid", hazard_id),
    ]


async def test_a_report_ties_its_reporter_to_the_place(story: Story, manager: Person) -> None:
    problem(await read(story.client, manager, story.reporter), 404, "not_found")
    await story.file()
    assert (await read(story.client, manager, story.reporter)).status_code == 200
    assert (await read(story.client, story.worker, story.reporter)).status_code == 200
    problem(await read(story.client, story.officer, story.reporter), 404, "not_found")


async def test_handlers_need_no_number_and_no_home(story: Story) -> None:
    hazard_id = (await story.file())["id"]
    for field in ("id_number", "address"):
        answer = problem(await reveal_reporter(story, story.worker, hazard_id, field), 422, "invalid_input")
        assert complaints(answer) == [("body.fields.0", "enum")]
    body = {"fields": ["phone"], "reason": "看看"}
    short = await story.step(story.worker, hazard_id, "reveal-reporter", body)
    assert complaints(problem(short, 422, "invalid_input")) == [("body.reason", "string_too_short")]
    body = {"fields": ["phone", "phone"], "reason": REASON}
    twice = await story.step(story.worker, hazard_id, "reveal-reporter", body)
    assert complaints(problem(twice, 422, "invalid_input")) == [("body.fields", "named_twice")]


async def test_strangers_reach_no_reporter(story: Story, places: Places) -> None:
    hazard_id = (await story.file())["id"]
    for who in (story.officer, await make_staff(Role.GRID_WORKER, places.other_grid)):
        problem(await reveal_reporter(story, who, hazard_id, "phone"), 404, "not_found")
    for who in (story.neighbour, story.reporter, await make_staff(Role.AUDITOR, places.district)):
        problem(await reveal_reporter(story, who, hazard_id, "phone"), 403, "forbidden")
    await story.accept(hazard_id)
    await story.call(hazard_id)
    await story.dispatch(hazard_id)
    await story.refuse(hazard_id)
    await story.dispatch(hazard_id, story.second_department)
    assert (await reveal_reporter(story, story.second_officer, hazard_id, "phone")).status_code == 200
    problem(await reveal_reporter(story, story.officer, hazard_id, "phone"), 403, "forbidden")
    assert await access_log(story.client, story.neighbour) == []


async def test_a_report_by_staff_has_no_reporter(story: Story) -> None:
    hazard_id = (await story.file(story.worker))["id"]
    problem(await reveal_reporter(story, story.worker, hazard_id, "phone"), 409, "no_reporter")


async def test_both_kinds_of_reveal_share_one_limit(story: Story, manager: Person) -> None:
    told = await tell_everything(story.client, story.reporter, story.places.building)
    hazard_id = (await story.file())["id"]
    answers = await asyncio.gather(
        *(reveal(story.client, manager, told, "phone") for _ in range(20)),
        *(reveal_reporter(story, manager, hazard_id, "phone") for _ in range(20)),
    )
    assert sorted(answer.status_code for answer in answers) == [200] * PER_HOUR + [429] * 10
