"""Who lives where: claimed by residents, confirmed by the community, ended by residents."""

import asyncio
from uuid import UUID

import httpx
import pytest
from sqlalchemy import select

from app.db import database
from app.ids import new_id
from app.keys import unseal
from app.models.events import Event
from app.models.households import Household, HouseholdStatus
from app.models.staff import Role
from app.services.households import MAX_OPEN
from tests.factories import Person, Places, make_regions, make_resident, make_staff
from tests.stories import Json, complaints, problem

ADDRESS = "2单元301室"


async def claim(
    client: httpx.AsyncClient, person: Person, region_id: UUID, address: str = ADDRESS
) -> httpx.Response:
    body = {"region_id": str(region_id), "address": address, "relation": "tenant"}
    return await client.post("/v1/me/households", json=body, headers=person.headers)


async def claimed(client: httpx.AsyncClient, person: Person, region_id: UUID, address: str = ADDRESS) -> str:
    response = await claim(client, person, region_id, address)
    assert response.status_code == 201, response.text
    return str(response.json()["id"])


async def decide(
    client: httpx.AsyncClient, person: Person, household_id: str, action: str = "confirm"
) -> httpx.Response:
    return await client.post(f"/v1/households/{household_id}/{action}", headers=person.headers)


async def mine(client: httpx.AsyncClient, person: Person) -> list[Json]:
    response = await client.get("/v1/me/households", headers=person.headers)
    assert response.status_code == 200
    items: list[Json] = response.json()["items"]
    return items


async def row_of(household_id: str) -> Household:
    async with database.reading() as session:
        return await session.get_one(Household, UUID(household_id))


async def events_of(household_id: str) -> list[str]:
    async with database.reading() as session:
        rows = await session.scalars(
            select(Event.type)
            .where(Event.subject_kind == "households", Event.subject_id == UUID(household_id))
            .order_by(Event.seq)
        )
        return list(rows)


async def test_a_claim_knows_its_community_and_hides_its_address(
    client: httpx.AsyncClient, places: Places
) -> None:
    person = await make_resident()
    response = await claim(client, person, places.building, "枫林苑小区3栋2单元301室")
    assert response.status_code == 201
    [listed] = await mine(client, person)
    assert listed == response.json()
    assert (listed["community_id"], listed["region_id"]) == (str(places.community), str(places.building))
    assert (listed["status"], listed["address_masked"]) == ("claimed", "枫林苑小区***")
    row = await row_of(listed["id"])
    assert unseal(row, "address") == "枫林苑小区3栋2单元301室"
    assert await events_of(listed["id"]) == ["household.claimed"]


@pytest.mark.parametrize("level", ["community", "grid", "building"])
async def test_any_livable_region_will_do(client: httpx.AsyncClient, places: Places, level: str) -> None:
    person = await make_resident()
    await claimed(client, person, getattr(places, level))


@pytest.mark.parametrize("level", ["street", "district", None])
async def test_nobody_lives_in_a_whole_street(
    client: httpx.AsyncClient, places: Places, level: str | None
) -> None:
    person = await make_resident()
    response = await claim(client, person, getattr(places, level) if level else new_id())
    assert complaints(problem(response, 422, "invalid_input")) == [("body.region_id", "unknown_region")]
    assert await mine(client, person) == []


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"address": ""}, ("body.address", "string_too_short")),
        ({"address": "x" * 101}, ("body.address", "string_too_long")),
        ({"address": "a\u200bb"}, ("body.address", "control_character")),
        ({"address": None}, ("body.address", "string_type")),
        ({"relation": "king"}, ("body.relation", "enum")),
        ({"region_id": "1"}, ("body.region_id", "uuid_parsing")),
        ({"status": "confirmed"}, ("body.status", "extra_forbidden")),
        ({"resident_id": str(new_id())}, ("body.resident_id", "extra_forbidden")),
    ],
)
async def test_what_a_claim_cannot_say(
    client: httpx.AsyncClient, places: Places, change: Json, complaint: tuple[str, str]
) -> None:
    person = await make_resident()
    body = {"region_id": str(places.building), "address": ADDRESS, "relation": "owner"} | change
    response = await client.post("/v1/me/households", json=body, headers=person.headers)
    assert complaints(problem(response, 422, response.json()["code"])) == [complaint]
    assert await mine(client, person) == []


async def test_one_home_is_claimed_once_however_it_is_written(
    client: httpx.AsyncClient, places: Places
) -> None:
    person, flatmate = await make_resident(), await make_resident()
    answers = await asyncio.gather(
        *(claim(client, person, places.building, text) for text in (ADDRESS, "２单元 301室", " 2单元301室"))
    )
    assert sorted(answer.status_code for answer in answers) == [201, 409, 409]
    refused = next(answer for answer in answers if answer.status_code == 409)
    problem(refused, 409, "household_already_claimed")
    await claimed(client, person, places.grid)
    await claimed(client, flatmate, places.building)


async def test_nobody_has_many_homes_but_an_ended_one_makes_room(
    client: httpx.AsyncClient, places: Places
) -> None:
    person = await make_resident()
    ids = [await claimed(client, person, places.building, f"{n}室") for n in range(MAX_OPEN)]
    problem(await claim(client, person, places.building, "9室"), 409, "too_many_households")
    ended = await client.delete(f"/v1/me/households/{ids[0]}", headers=person.headers)
    assert (ended.status_code, ended.content) == (204, b"")
    await claimed(client, person, places.building, "9室")


async def test_ending_erases_the_address(client: httpx.AsyncClient, places: Places) -> None:
    person = await make_resident()
    household_id = await claimed(client, person, places.building)
    path = f"/v1/me/households/{household_id}"
    assert (await client.delete(path, headers=person.headers)).status_code == 204
    row = await row_of(household_id)
    assert (row.address_sealed, row.address_index) == (None, None)
    assert [each["status"] for each in await mine(client, person)] == ["ended"]
    assert await events_of(household_id) == ["household.claimed", "household.ended"]
    problem(await client.delete(path, headers=person.headers), 409, "household_already_ended")


async def test_somebody_elses_home_does_not_exist(client: httpx.AsyncClient, places: Places) -> None:
    person, other = await make_resident(), await make_resident()
    household_id = await claimed(client, person, places.building)
    response = await client.delete(f"/v1/me/households/{household_id}", headers=other.headers)
    problem(response, 404, "not_found")
    assert await mine(client, other) == []
    assert (await row_of(household_id)).status is HouseholdStatus.CLAIMED


async def test_the_community_confirms_and_the_resident_belongs_to_it(
    client: httpx.AsyncClient, places: Places
) -> None:
    person = await make_resident()
    worker = await make_staff(Role.GRID_WORKER, places.grid)
    household_id = await claimed(client, person, places.building)
    confirmed = await decide(client, worker, household_id)
    assert confirmed.status_code == 200
    assert (confirmed.json()["status"], confirmed.json()["resident_id"]) == ("confirmed", str(person.id))
    assert ADDRESS not in confirmed.text
    assert (await person.caller()).community_id == places.community
    assert await events_of(household_id) == ["household.claimed", "household.confirmed"]
    problem(await decide(client, worker, household_id, "reject"), 409, "household_already_decided")


async def test_a_chosen_community_is_kept(client: httpx.AsyncClient, places: Places) -> None:
    person = await make_resident(places.neighbour)
    manager = await make_staff(Role.COMMUNITY_MANAGER, places.community)
    assert (await decide(client, manager, await claimed(client, person, places.building))).status_code == 200
    assert (await person.caller()).community_id == places.neighbour


async def test_a_rejected_claim_settles_nothing_and_may_be_made_again(
    client: httpx.AsyncClient, places: Places
) -> None:
    person = await make_resident()
    manager = await make_staff(Role.COMMUNITY_MANAGER, places.community)
    household_id = await claimed(client, person, places.building)
    rejected = await decide(client, manager, household_id, "reject")
    assert rejected.json()["status"] == "rejected"
    assert (await person.caller()).community_id is None
    path = f"/v1/me/households/{household_id}"
    problem(await client.delete(path, headers=person.headers), 409, "household_already_ended")
    await claimed(client, person, places.building)


async def test_one_of_two_decisions_counts(client: httpx.AsyncClient, places: Places) -> None:
    person = await make_resident()
    manager = await make_staff(Role.COMMUNITY_MANAGER, places.community)
    household_id = await claimed(client, person, places.building)
    answers = await asyncio.gather(
        *(decide(client, manager, household_id, action) for action in ("confirm", "reject") * 5)
    )
    assert sorted(answer.status_code for answer in answers) == [200] + [409] * 9
    assert len(await events_of(household_id)) == 2


async def test_a_claim_and_its_end_at_once_leave_no_address(
    client: httpx.AsyncClient, places: Places
) -> None:
    person = await make_resident()
    manager = await make_staff(Role.COMMUNITY_MANAGER, places.community)
    household_id = await claimed(client, person, places.building)
    ended, decided = await asyncio.gather(
        client.delete(f"/v1/me/households/{household_id}", headers=person.headers),
        decide(client, manager, household_id),
    )
    assert (ended.status_code, decided.status_code) in ((204, 200), (204, 409))
    row = await row_of(household_id)
    assert (row.status, row.address_sealed) == (HouseholdStatus.ENDED, None)


async def test_staff_see_claims_of_their_regions_masked_and_oldest_first(
    client: httpx.AsyncClient, places: Places
) -> None:
    people = [await make_resident() for _ in range(3)]
    await client.put("/v1/me", json={"nickname": "王小明"}, headers=people[0].headers)
    ids = [await claimed(client, person, places.building, "枫林苑3栋2单元301室") for person in people]
    elsewhere = await claimed(client, people[0], places.neighbour_grid)
    worker = await make_staff(Role.GRID_WORKER, places.grid)
    await decide(client, worker, ids[1])
    path = "/v1/households?status=claimed"
    response = await client.get(path, headers=worker.headers)
    assert [each["id"] for each in response.json()["items"]] == [ids[0], ids[2]]
    first = response.json()["items"][0]
    assert (first["address_masked"], first["nickname_masked"]) == ("枫林苑***", "王**")
    assert "301室" not in response.text
    assert "王小明" not in response.text
    everything = await client.get("/v1/households", headers=worker.headers)
    assert [each["id"] for each in everything.json()["items"]] == ids
    neighbour = await make_staff(Role.COMMUNITY_MANAGER, places.neighbour)
    theirs = await client.get("/v1/households", headers=neighbour.headers)
    assert [each["id"] for each in theirs.json()["items"]] == [elsewhere]
    page = (await client.get("/v1/households?limit=2", headers=worker.headers)).json()
    rest = await client.get(
        "/v1/households", params={"limit": 2, "cursor": page["next_cursor"]}, headers=worker.headers
    )
    assert [each["id"] for each in (*page["items"], *rest.json()["items"])] == ids


@pytest.mark.parametrize("action", ["confirm", "reject"])
async def test_other_regions_get_404_and_other_roles_403(
    client: httpx.AsyncClient, places: Places, action: str
) -> None:
    person = await make_resident()
    household_id = await claimed(client, person, places.building)
    far = await make_regions()
    for stranger in (
        await make_staff(Role.COMMUNITY_MANAGER, places.neighbour),
        await make_staff(Role.GRID_WORKER, places.other_grid),
        await make_staff(Role.COMMUNITY_MANAGER, far.community),
    ):
        problem(await decide(client, stranger, household_id, action), 404, "not_found")
    for other in (
        await make_staff(Role.STREET_DISPATCHER, places.street),
        await make_staff(Role.AUDITOR, places.district),
        person,
    ):
        problem(await decide(client, other, household_id, action), 403, "forbidden")
    manager = await make_staff(Role.COMMUNITY_MANAGER, places.community)
    problem(await decide(client, manager, str(new_id()), action), 404, "not_found")
    problem(await decide(client, manager, "1", action), 422, "invalid_input")
    assert (await row_of(household_id)).status is HouseholdStatus.CLAIMED


async def test_staff_claim_nothing(client: httpx.AsyncClient, places: Places) -> None:
    worker = await make_staff(Role.GRID_WORKER, places.grid)
    problem(await claim(client, worker, places.building), 403, "forbidden")
    problem(await client.get("/v1/households", headers=(await make_resident()).headers), 403, "forbidden")
    unknown = await client.get("/v1/households?status=gone", headers=worker.headers)
    assert complaints(problem(unknown, 422, "invalid_input")) == [("query.status", "enum")]


async def test_a_repeated_key_claims_once(client: httpx.AsyncClient, places: Places) -> None:
    person = await make_resident()
    body = {"region_id": str(places.building), "address": ADDRESS, "relation": "owner"}
    headers = person.headers | {"Idempotency-Key": "home-1"}
    answers = await asyncio.gather(
        *(client.post("/v1/me/households", json=body, headers=headers) for _ in range(10))
    )
    assert {(answer.status_code, answer.json()["id"]) for answer in answers} == {
        (201, (await mine(client, person))[0]["id"])
    }
