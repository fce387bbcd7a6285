"""Taking people on, granting and revoking: only downwards, only inside one's own region, with effect at once."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from uuid import UUID

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import insert, select
from starlette.types import ASGIApp

from app import auth, clock
from app.auth import Scope
from app.db import Database, database
from app.ids import new_id
from app.models.events import Audience
from app.models.regions import Region, RegionAncestor, RegionLevel
from app.models.staff import Role
from app.passwords import hashing
from app.schemas.staff import GrantCreate
from app.services import credentials, grants, staff
from app.services.scopes import covers, within
from tests.factories import Person, Places, give_role, make_organisation, make_regions, make_staff
from tests.signing_in import code_of, events_about, problem, sign_in

Advance = Callable[[float], None]

GRID, MANAGER, DISPATCHER = Role.GRID_WORKER, Role.COMMUNITY_MANAGER, Role.STREET_DISPATCHER
OFFICER, ADMIN, AUDITOR, SYSTEM = (
    Role.DEPARTMENT_OFFICER,
    Role.DISTRICT_ADMIN,
    Role.AUDITOR,
    Role.SYSTEM_ADMIN,
)


# --- Who may grant what -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("granter", "at", "role", "to", "status"),
    [
        (MANAGER, "community", GRID, "grid", 201),
        (MANAGER, "community", GRID, "community", 201),
        (MANAGER, "community", GRID, "street", 403),
        (MANAGER, "community", GRID, "neighbour_grid", 403),
        (MANAGER, "community", GRID, "far_grid", 403),
        (MANAGER, "community", MANAGER, "community", 403),
        (MANAGER, "community", DISPATCHER, "street", 403),
        (MANAGER, "community", AUDITOR, "community", 403),
        (MANAGER, "community", SYSTEM, "district", 403),
        (DISPATCHER, "street", GRID, "neighbour_grid", 201),
        (DISPATCHER, "street", MANAGER, "neighbour", 201),
        (DISPATCHER, "street", MANAGER, "far_community", 403),
        (DISPATCHER, "street", MANAGER, "district", 403),
        (DISPATCHER, "street", DISPATCHER, "street", 403),
        (DISPATCHER, "street", ADMIN, "district", 403),
        (ADMIN, "district", GRID, "far_grid", 201),
        (ADMIN, "district", DISPATCHER, "far_street", 201),
        (ADMIN, "district", AUDITOR, "district", 201),
        (ADMIN, "district", ADMIN, "district", 403),
        (ADMIN, "district", SYSTEM, "district", 403),
        (SYSTEM, "district", ADMIN, "district", 201),
        (SYSTEM, "district", GRID, "grid", 201),
        (SYSTEM, "district", SYSTEM, "district", 403),
    ],
)
async def test_roles_are_granted_downwards_inside_ones_own_region(
    client: httpx.AsyncClient, places: Places, granter: Role, at: str, role: Role, to: str, status: int
) -> None:
    boss = await make_staff(granter, getattr(places, at))
    person = await make_staff(home_id=places.grid)
    answer = await _grant(client, boss, person, role, getattr(places, to))
    assert answer.status_code == status, answer.text
    held = (await client.get("/v1/me", headers=person.headers)).json()["grants"]
    if status == 201:
        assert [(each["role"], each["region"]["id"]) for each in held] == [(role, str(getattr(places, to)))]
        assert held == [answer.json()]
    else:
        assert problem(answer) == (403, "role_not_yours_to_give")
        assert held == []


@pytest.mark.parametrize("role", [GRID, OFFICER, AUDITOR])
async def test_who_grants_nothing_cannot_grant(client: httpx.AsyncClient, places: Places, role: Role) -> None:
    organisation_id = await make_organisation(places.district) if role is OFFICER else None
    boss = await make_staff(role, places.district, organisation_id=organisation_id)
    person = await make_staff(home_id=places.grid)
    assert problem(await _grant(client, boss, person, GRID, places.grid)) == (403, "forbidden")


async def test_two_roles_do_not_add_up(client: httpx.AsyncClient, places: Places) -> None:
    """Dispatcher in one street and manager in another: no manager can be made there."""
    boss = await make_staff(DISPATCHER, places.far_street)
    await give_role(boss, MANAGER, places.community)
    person = await make_staff(home_id=places.grid)
    refused = await _grant(client, boss, person, MANAGER, places.community)
    assert problem(refused) == (403, "role_not_yours_to_give")


async def test_an_officer_is_granted_in_an_organisation_of_ones_region(
    client: httpx.AsyncClient, places: Places
) -> None:
    boss = await make_staff(ADMIN, places.district)
    person = await make_staff(home_id=places.grid)
    organisation_id = await make_organisation(places.far_street)
    path, body = f"/v1/staff/{person.id}/grants", {"role": "department_officer"}
    granted = await client.post(
        path, json=body | {"organisation_id": str(organisation_id)}, headers=boss.headers
    )
    assert granted.status_code == 201
    assert (granted.json()["region"], granted.json()["organisation"]["id"]) == (None, str(organisation_id))
    foreign = await make_organisation((await make_regions()).far_street)
    refused = await client.post(path, json=body | {"organisation_id": str(foreign)}, headers=boss.headers)
    assert problem(refused) == (403, "role_not_yours_to_give")


@pytest.mark.parametrize(
    ("order", "field", "code"),
    [
        ({"role": "grid_worker"}, "region_id", "missing"),
        ({"role": "grid_worker", "organisation_id": "here"}, "organisation_id", "wrong_scope"),
        ({"role": "department_officer", "region_id": "here"}, "region_id", "wrong_scope"),
        ({"role": "grid_worker", "region_id": "nowhere"}, "region_id", "unknown_scope"),
        ({"role": "department_officer", "organisation_id": "nowhere"}, "organisation_id", "unknown_scope"),
        ({"role": "emperor", "region_id": "here"}, "role", "enum"),
        ({"role": "grid_worker", "region_id": "x"}, "region_id", "uuid_parsing"),
        ({"role": "grid_worker", "region_id": "here", "expires_at": "2020-01-01T00:00:00Z"}, "expires_at", "not_in_future"),
        ({"role": "grid_worker", "region_id": "here", "expires_at": 4102444800}, "expires_at", "datetime_type"),
        ({"role": "grid_worker", "region_id": "here", "expires_at": "2050-01-01T00:00:00"}, "expires_at", "timezone_aware"),
        ({"role": "grid_worker", "region_id": "here", "granted_by": "me"}, "granted_by", "extra_forbidden"),
    ],
)  # fmt: skip
async def test_rubbish_is_not_granted(
    client: httpx.AsyncClient, places: Places, order: dict[str, object], field: str, code: str
) -> None:
    boss = await make_staff(ADMIN, places.district)
    person = await make_staff(home_id=places.grid)
    known = {"here": str(places.grid), "nowhere": str(new_id())}
    body = {name: known.get(str(value), value) for name, value in order.items()}
    refused = await client.post(f"/v1/staff/{person.id}/grants", json=body, headers=boss.headers)
    assert refused.status_code == 422
    assert [(error["loc"], error["code"]) for error in refused.json()["errors"]] == [(["body", field], code)]


async def test_nobody_grants_themselves_anything(client: httpx.AsyncClient, places: Places) -> None:
    boss = await make_staff(ADMIN, places.district)
    await give_role(boss, GRID, places.grid)
    assert problem(await _grant(client, boss, boss, GRID, places.far_grid)) == (403, "own_account")
    held = (await client.get("/v1/me", headers=boss.headers)).json()["grants"]
    for each in held:
        path = f"/v1/staff/{boss.id}/grants/{each['id']}"
        assert problem(await client.delete(path, headers=boss.headers)) == (403, "own_account")
    for action in ("disable", "reset-password"):
        refused = await client.post(f"/v1/staff/{boss.id}/{action}", headers=boss.headers)
        assert problem(refused) == (403, "own_account")


async def test_granting_needs_a_fresh_proof(client: httpx.AsyncClient, places: Places) -> None:
    boss = await make_staff(ADMIN, places.district, stepped_up=False)
    person = await make_staff(home_id=places.grid)
    assert problem(await _grant(client, boss, person, GRID, places.grid)) == (403, "step_up_required")


async def test_the_same_grant_twice_is_a_conflict_until_it_expires(
    client: httpx.AsyncClient, places: Places, advance: Advance
) -> None:
    boss = await make_staff(ADMIN, places.district)
    person = await make_staff(home_id=places.grid)
    until = (clock.now() + timedelta(seconds=60)).isoformat()
    first = await _grant(client, boss, person, GRID, places.grid, expires_at=until)
    assert first.status_code == 201
    assert problem(await _grant(client, boss, person, GRID, places.grid)) == (409, "already_granted")
    advance(61)
    assert (await _grant(client, boss, person, GRID, places.grid)).status_code == 201
    held = (await client.get("/v1/me", headers=person.headers)).json()["grants"]
    assert [each["expires_at"] for each in held] == [None]


# --- With effect at once ----------------------------------------------------------------------------------------


async def test_a_role_counts_from_the_next_call_and_is_gone_at_the_next(
    client: httpx.AsyncClient, places: Places
) -> None:
    boss = await make_staff(MANAGER, places.community)
    person = await make_staff(home_id=places.grid)
    grant_ids = []
    for _ in range(3):
        assert (await client.get("/v1/organisations", headers=person.headers)).status_code == 403
        granted = await _grant(client, boss, person, GRID, places.grid)
        assert (await client.get("/v1/organisations", headers=person.headers)).status_code == 200
        grant_ids.append(granted.json()["id"])
        path = f"/v1/staff/{person.id}/grants/{grant_ids[-1]}"
        assert (await client.delete(path, headers=boss.headers)).status_code == 204
        assert (await client.delete(path, headers=boss.headers)).status_code == 404
    done = await events_about(person.id, "staff.role_granted", "staff.role_revoked")
    assert [event.type for event in done] == ["staff.role_granted", "staff.role_revoked"] * 3
    assert {event.actor_id for event in done} == {boss.id}
    assert {event.audience for event in done} == {Audience.AUDIT}
    assert done[0].region_id == places.grid
    assert done[-1].payload == {"grant_id": grant_ids[-1], "role": "grid_worker"}


async def test_an_expired_grant_gives_nothing(
    client: httpx.AsyncClient, places: Places, advance: Advance
) -> None:
    boss = await make_staff(ADMIN, places.district)
    person = await make_staff(home_id=places.grid)
    until = (clock.now() + timedelta(seconds=60)).isoformat()
    await _grant(client, boss, person, GRID, places.grid, expires_at=until)
    assert (await client.get("/v1/organisations", headers=person.headers)).status_code == 200
    advance(61)
    await give_role(person, OFFICER, organisation_id=await make_organisation(places.far_street))
    scope = (await person.caller()).scope_of([GRID])
    assert scope == Scope(frozenset(), frozenset())


async def test_who_is_disabled_is_out_at_once_and_stays_in_the_history(
    client: httpx.AsyncClient, places: Places
) -> None:
    boss = await make_staff(MANAGER, places.community)
    person = await make_staff(GRID, places.grid)
    assert (await client.get("/v1/me", headers=person.headers)).status_code == 200
    gone = await client.post(f"/v1/staff/{person.id}/disable", headers=boss.headers)
    assert (gone.status_code, gone.json()["status"]) == (200, "disabled")
    assert (await client.get("/v1/me", headers=person.headers)).status_code == 401
    assert (await _refresh(client, person)).status_code == 401
    assert problem(await sign_in(client, person)) == (401, "invalid_credentials")
    for action in ("disable", "reset-password"):
        refused = await client.post(f"/v1/staff/{person.id}/{action}", headers=boss.headers)
        assert problem(refused) == (409, "staff_disabled")
    assert problem(await _grant(client, boss, person, GRID, places.other_grid)) == (409, "staff_disabled")
    listed = await client.get("/v1/staff", params={"status": "disabled"}, headers=boss.headers)
    assert [each["id"] for each in listed.json()["items"]] == [str(person.id)]


async def test_who_is_enabled_again_signs_in_anew(client: httpx.AsyncClient, places: Places) -> None:
    """With the roles that were left to them; what ended stays ended."""
    boss = await make_staff(MANAGER, places.community)
    person = await make_staff(GRID, places.grid)
    path = f"/v1/staff/{person.id}"
    assert problem(await client.post(f"{path}/enable", headers=boss.headers)) == (409, "staff_active")
    await client.post(f"{path}/disable", headers=boss.headers)
    back = (await client.post(f"{path}/enable", headers=boss.headers)).json()
    assert (back["status"], [held["role"] for held in back["grants"]]) == ("active", ["grid_worker"])
    assert (await client.get("/v1/me", headers=person.headers)).status_code == 401
    assert (await _refresh(client, person)).status_code == 401
    token = (await sign_in(client, person)).json()["access_token"]
    headers = {"Authorization": f"Bearer {token}"}
    assert (await client.get("/v1/hazards", headers=headers)).status_code == 200
    [event] = await events_about(person.id, "staff.enabled")
    assert (event.actor_id, event.audience, event.payload) == (boss.id, Audience.AUDIT, {})


async def test_a_reset_password_ends_every_session_and_has_to_be_changed(
    client: httpx.AsyncClient, places: Places
) -> None:
    boss = await make_staff(MANAGER, places.community)
    person = await make_staff(GRID, places.grid, with_totp=True)
    reset = await client.post(f"/v1/staff/{person.id}/reset-password", headers=boss.headers)
    assert reset.status_code == 200
    assert (await client.get("/v1/me", headers=person.headers)).status_code == 401
    assert (await _refresh(client, person)).status_code == 401
    assert problem(await sign_in(client, person)) == (401, "invalid_credentials")
    password = reset.json()["temporary_password"]
    assert problem(await sign_in(client, person, password=password)) == (401, "totp_required")
    signed_in = await sign_in(client, person, password=password, totp=code_of(person))
    assert signed_in.json()["principal"]["must_change_password"] is True


async def test_a_lost_phone_is_forgotten(client: httpx.AsyncClient, places: Places) -> None:
    boss = await make_staff(DISPATCHER, places.street)
    person = await make_staff(MANAGER, places.community)
    path = f"/v1/staff/{person.id}/reset-password"
    reset = await client.post(path, json={"drop_totp": True}, headers=boss.headers)
    signed_in = await sign_in(client, person, password=reset.json()["temporary_password"])
    assert signed_in.json()["principal"] == {
        "kind": "staff",
        "id": str(person.id),
        "must_change_password": True,
        "must_enrol_totp": True,
    }
    [event] = await events_about(person.id, "staff.password_reset")
    assert event.payload == {"totp_dropped": True}


# --- Who sees and manages whom ----------------------------------------------------------------------------------


async def test_staff_of_another_scope_do_not_exist(client: httpx.AsyncClient, places: Places) -> None:
    boss = await make_staff(MANAGER, places.community)
    for stranger in (
        await make_staff(GRID, places.neighbour_grid),
        await make_staff(GRID, places.far_grid),
        await make_staff(DISPATCHER, places.street),
        await make_staff(ADMIN, places.district),
        await make_staff(OFFICER, organisation_id=await make_organisation(places.street)),
        Person(new_id(), "", ""),
    ):
        path = f"/v1/staff/{stranger.id}"
        assert problem(await client.get(path, headers=boss.headers)) == (404, "not_found")
        for action in ("disable", "enable", "reset-password"):
            refused = await client.post(f"{path}/{action}", headers=boss.headers)
            assert problem(refused) == (404, "not_found")
        assert problem(await _grant(client, boss, stranger, GRID, places.grid)) == (404, "not_found")
        refused = await client.delete(f"{path}/grants/{new_id()}", headers=boss.headers)
        assert problem(refused) == (404, "not_found")
    listed = (await client.get("/v1/staff", headers=boss.headers)).json()["items"]
    assert [each["id"] for each in listed] == [str(boss.id)]


@pytest.mark.parametrize(("role", "at"), [(MANAGER, "community"), (ADMIN, "district"), (GRID, "far_grid")])
async def test_who_holds_more_than_one_could_give_is_not_managed(
    client: httpx.AsyncClient, places: Places, role: Role, at: str
) -> None:
    """Otherwise a manager would take over the account of a district admin who helps out in a grid."""
    boss = await make_staff(MANAGER, places.community)
    person = await make_staff(GRID, places.grid, with_totp=True)
    await give_role(person, role, getattr(places, at))
    for action in ("disable", "enable", "reset-password"):
        refused = await client.post(f"/v1/staff/{person.id}/{action}", headers=boss.headers)
        assert problem(refused) == (403, "role_not_yours_to_give")
    shown = (await client.get(f"/v1/staff/{person.id}", headers=boss.headers)).json()
    above = next(each for each in shown["grants"] if each["region"]["id"] == str(getattr(places, at)))
    refused = await client.delete(f"/v1/staff/{person.id}/grants/{above['id']}", headers=boss.headers)
    assert problem(refused) == (403, "role_not_yours_to_give")


async def test_who_lost_every_role_is_still_seen_at_home(client: httpx.AsyncClient, places: Places) -> None:
    boss = await make_staff(MANAGER, places.community)
    body = {"username": _username(), "display_name": "周海涛", "role": "grid_worker"}
    made = await client.post("/v1/staff", json=body | {"region_id": str(places.grid)}, headers=boss.headers)
    path = f"/v1/staff/{made.json()['id']}"
    [held] = made.json()["grants"]
    assert (await client.delete(f"{path}/grants/{held['id']}", headers=boss.headers)).status_code == 204
    assert (await client.get(path, headers=boss.headers)).json()["grants"] == []
    assert (await client.post(f"{path}/disable", headers=boss.headers)).status_code == 200


async def test_an_auditor_sees_masked_names_and_changes_nothing(
    client: httpx.AsyncClient, places: Places
) -> None:
    auditor = await make_staff(AUDITOR, places.district)
    manager = await make_staff(MANAGER, places.community)
    person = await make_staff(GRID, places.grid)
    path = f"/v1/staff/{person.id}"
    assert (await client.get(path, headers=auditor.headers)).json()["display_name"] == "测**"
    assert (await client.get(path, headers=manager.headers)).json()["display_name"] == "测试员"
    assert problem(await client.post(f"{path}/disable", headers=auditor.headers)) == (403, "forbidden")


async def test_the_list_goes_page_by_page_and_by_role(client: httpx.AsyncClient, places: Places) -> None:
    boss = await make_staff(DISPATCHER, places.street)
    workers = [await make_staff(GRID, region) for region in (places.grid, places.other_grid) * 2]
    query: dict[str, str | int] = {"role": "grid_worker", "limit": 3}
    first = (await client.get("/v1/staff", params=query, headers=boss.headers)).json()
    query["cursor"] = first["next_cursor"]
    last = (await client.get("/v1/staff", params=query, headers=boss.headers)).json()
    assert (len(first["items"]), len(last["items"]), last["next_cursor"]) == (3, 1, None)
    found = [each["id"] for each in first["items"] + last["items"]]
    assert found == [str(worker.id) for worker in workers]
    refused = await client.get("/v1/staff", params={"cursor": "x"}, headers=boss.headers)
    assert refused.json()["errors"][0]["code"] == "invalid_cursor"


# --- Taking somebody on -----------------------------------------------------------------------------------------


async def test_somebody_new_signs_in_with_the_password_shown_once(
    client: httpx.AsyncClient, places: Places
) -> None:
    boss = await make_staff(MANAGER, places.community)
    body = {
        "username": _username(),
        "display_name": "周海涛",
        "role": "grid_worker",
        "region_id": str(places.grid),
    }
    headers = boss.headers | {"Idempotency-Key": "take-on"}
    made = await client.post("/v1/staff", json=body, headers=headers)
    assert made.status_code == 201
    assert (made.json()["display_name"], made.json()["region_id"]) == ("周海涛", str(places.grid))
    assert (made.json()["must_change_password"], made.json()["totp_enrolled"]) == (True, False)
    again = await client.post("/v1/staff", json=body, headers=headers)
    assert again.json() == made.json() | {"temporary_password": None}
    person = Person(UUID(made.json()["id"]), "", "", body["username"])
    password = made.json()["temporary_password"]
    assert len(password) >= 20
    assert (await sign_in(client, person, password=password)).status_code == 201
    created = await events_about(person.id, "staff.created", "staff.role_granted")
    assert [event.type for event in created] == ["staff.created", "staff.role_granted"]
    assert "周海涛" not in str([event.payload for event in created])


async def test_a_user_name_is_taken_once_and_for_ever(client: httpx.AsyncClient, places: Places) -> None:
    boss = await make_staff(MANAGER, places.community)
    gone = await make_staff(GRID, places.grid)
    await client.post(f"/v1/staff/{gone.id}/disable", headers=boss.headers)
    body = {"display_name": "周海涛", "role": "grid_worker", "region_id": str(places.grid)}
    refused = await client.post("/v1/staff", json=body | {"username": gone.username}, headers=boss.headers)
    assert problem(refused) == (409, "username_taken")
    listed = (await client.get("/v1/staff", headers=boss.headers)).json()["items"]
    assert {each["id"] for each in listed} == {str(boss.id), str(gone.id)}


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"region_id": "neighbour_grid"}, 403),
        ({"role": "community_manager"}, 403),
        ({"username": "A Name"}, 422),
        ({"username": "1ab"}, 422),
        ({"username": "x" * 33}, 422),
        ({"display_name": "  "}, 422),
        ({"display_name": "名\u200b"}, 422),
        ({"password": "chosen by the boss"}, 422),
        ({"status": "active"}, 422),
        ({"version": 7}, 422),
    ],
)
async def test_nobody_is_taken_on_outside_or_with_rubbish(
    client: httpx.AsyncClient, places: Places, change: dict[str, object], status: int
) -> None:
    boss = await make_staff(MANAGER, places.community)
    body: dict[str, object] = {
        "username": _username(),
        "display_name": "周海涛",
        "role": "grid_worker",
        "region_id": "grid",
    } | change
    body["region_id"] = str(getattr(places, str(body["region_id"])))
    refused = await client.post("/v1/staff", json=body, headers=boss.headers)
    assert refused.status_code == status
    assert len((await client.get("/v1/staff", headers=boss.headers)).json()["items"]) == 1


@pytest.mark.parametrize("action", ["create", "reset"])
async def test_nobody_waits_for_the_hash_of_a_password(
    client: httpx.AsyncClient, places: Places, action: str
) -> None:
    """Of all writers on SQLite; many sign-ins stand in line for the threads that hash."""
    boss = await make_staff(Role.COMMUNITY_MANAGER, places.community)
    person = await make_staff(Role.GRID_WORKER, places.grid)
    body = {
        "username": _username(),
        "display_name": "江帆",
        "role": "grid_worker",
        "region_id": str(places.grid),
    }
    path = "/v1/staff" if action == "create" else f"/v1/staff/{person.id}/reset-password"
    others = [asyncio.create_task(hashing.hash("other")) for _ in range(30)]
    making = asyncio.create_task(
        client.post(path, json=body if action == "create" else {}, headers=boss.headers)
    )
    await asyncio.sleep(0.03)
    async with database.transaction():
        assert not all(other.done() for other in others)
    assert (await making).is_success
    await asyncio.gather(*others)


async def test_the_operator_adds_and_grants_from_the_command_line(
    db: Database, client: httpx.AsyncClient, places: Places
) -> None:
    password = await credentials.new_password()
    async with db.transaction() as session:
        added = await staff.add(session, auth.SYSTEM, _username(), "江帆", password)
        order = GrantCreate(role=SYSTEM, region_id=places.district)
        granted = await grants.grant(session, auth.SYSTEM, added.id, order)
    person = Person(added.id, "", "", added.username)
    signed_in = (await sign_in(client, person, password=password.text)).json()
    assert signed_in["principal"]["must_enrol_totp"] is True
    async with db.transaction() as session:
        await grants.revoke(session, auth.SYSTEM, added.id, granted.id)
    headers = {"Authorization": f"Bearer {signed_in['access_token']}"}
    assert (await client.get("/v1/me", headers=headers)).json()["grants"] == []


# --- The tree ---------------------------------------------------------------------------------------------------


class _Undo(Exception):
    """Takes an example back."""


@settings(max_examples=25, deadline=None)
@given(
    parents=st.lists(st.integers(0, 11), min_size=1, max_size=11),
    held=st.sets(st.integers(0, 11), min_size=1, max_size=3),
)
async def test_a_scope_is_a_subtree_and_nothing_else(
    application: ASGIApp, parents: list[int], held: set[int]
) -> None:
    """Codes are prefixes of each other on purpose: 1, 10, 101. Only the tree counts."""
    above: list[set[int]] = [{0}]
    for number, parent in enumerate(parents, start=1):
        above.append({number} | above[parent % number])
    wanted = {number for number, line in enumerate(above) if line & held}
    ids = [new_id() for _ in above]
    scope = Scope(frozenset(ids[number] for number in held if number < len(ids)), frozenset())
    try:
        async with database.transaction() as session:
            for number, region_id in enumerate(ids):
                session.add(
                    _region(
                        region_id, "1" + "0" * number, ids[parents[number - 1] % number] if number else None
                    )
                )
                await session.flush()
            closure = [
                {"region_id": ids[number], "ancestor_id": ids[other]}
                for number, line in enumerate(above)
                for other in line
            ]
            await session.execute(insert(RegionAncestor), closure)
            query = select(Region.id).where(Region.id.in_(ids), within(Region.id, scope))
            assert set(await session.scalars(query)) == {ids[number] for number in wanted}
            assert {number for number, each in enumerate(ids) if await covers(session, scope, each)} == wanted
            raise _Undo
    except _Undo:
        pass


def _region(region_id: UUID, code: str, parent_id: UUID | None) -> Region:
    return Region(
        id=region_id,
        code=f"prefix-{code}",
        parent_id=parent_id,
        level=RegionLevel.GRID,
        name=code,
        name_en=code,
        lng=0,
        lat=0,
    )


def _username() -> str:
    return f"new{new_id().hex[-20:]}"


async def _grant(
    client: httpx.AsyncClient, boss: Person, person: Person, role: Role, region_id: UUID, **more: str
) -> httpx.Response:
    body = {"role": role.value, "region_id": str(region_id)} | more
    return await client.post(f"/v1/staff/{person.id}/grants", json=body, headers=boss.headers)


async def _refresh(client: httpx.AsyncClient, person: Person) -> httpx.Response:
    return await client.post("/v1/sessions/refresh", json={"refresh_token": person.refresh_token})
