"""Many at once on one token, one code, one account: real commits on several connections, and a second process."""

import asyncio
import os
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import httpx
import pytest
from sqlalchemy import func, select, update
from starlette.types import ASGIApp

from app import auth, clock
from app.db import Database
from app.errors import Unauthenticated
from app.models.residents import Resident
from app.models.sessions import LoginSession, PrincipalKind
from app.models.staff import Role
from app.services import residents, sessions
from app.settings import settings
from app.signals import signals
from tests.conftest import new_client
from tests.factories import PASSWORD, Person, Places, give_role, make_resident, make_staff
from tests.signing_in import code_of, mint_code, sign_in

_ROOT = Path(__file__).parents[2]
_OTHER_PROCESS = """
import asyncio, sys
from app import auth
from app.db import database
from app.errors import Unauthenticated

async def main(token):
    await database.open()
    loop = asyncio.get_running_loop()
    while True:
        try:
            caller = await auth.identify(f"Bearer {token}")
            print(len(caller.grants), flush=True)
        except Unauthenticated:
            print("refused", flush=True)
        await loop.run_in_executor(None, sys.stdin.readline)

asyncio.run(main(sys.argv[1]))
"""


async def test_fifty_refreshes_at_once_have_one_successor(db: Database, client: httpx.AsyncClient) -> None:
    resident = await make_resident()
    body = {"refresh_token": resident.refresh_token}
    answers = await asyncio.gather(*(client.post("/v1/sessions/refresh", json=body) for _ in range(50)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({(answer.json()["access_token"], answer.json()["refresh_token"]) for answer in answers}) == 1
    assert await _generations(db, resident) == 2


async def test_a_code_of_the_app_lets_one_of_ten_in(
    application: ASGIApp, db: Database, places: Places
) -> None:
    person = await make_staff(Role.COMMUNITY_MANAGER, places.community)
    code = code_of(person)

    async def attempt() -> int:
        async with new_client(application) as client:
            return (await sign_in(client, person, totp=code)).status_code

    outcomes = Counter(await asyncio.gather(*(attempt() for _ in range(10))))
    assert outcomes[201] == 1
    assert outcomes.keys() <= {201, 401, 429}
    assert await _generations(db, person) == 2


async def test_a_recovery_code_lets_one_of_ten_in(
    application: ASGIApp, client: httpx.AsyncClient, db: Database, places: Places
) -> None:
    person = await make_staff(Role.GRID_WORKER, places.grid)
    offered = (await client.post("/v1/me/totp", headers=person.headers)).json()
    person = Person(person.id, person.token, "", person.username, offered["secret"])
    body = {"totp": code_of(person)}
    confirmed = await client.post("/v1/me/totp/confirm", json=body, headers=person.headers)

    async def attempt() -> int:
        async with new_client(application) as elsewhere:
            answer = await sign_in(elsewhere, person, totp=confirmed.json()["recovery_codes"][0])
            return answer.status_code

    outcomes = Counter(await asyncio.gather(*(attempt() for _ in range(10))))
    assert outcomes[201] == 1
    assert await _generations(db, person) == 2


async def test_a_hundred_guesses_at_once_are_not_a_way_around(
    client: httpx.AsyncClient, places: Places
) -> None:
    person = await make_staff(Role.GRID_WORKER, places.grid)
    answers = await asyncio.gather(*(sign_in(client, person, password="wrong") for _ in range(30)))
    outcomes = Counter(answer.status_code for answer in answers)
    assert outcomes == {401: 6, 429: 24}


async def test_two_first_visits_at_once_are_one_resident(db: Database, client: httpx.AsyncClient) -> None:
    codes = [await mint_code(client, "two-phones") for _ in range(10)]
    answers = await asyncio.gather(
        *(client.post("/v1/sessions/wechat", json={"code": code}) for code in codes)
    )
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["principal"]["id"] for answer in answers}) == 1


async def test_two_transactions_create_one_resident(db: Database) -> None:
    async def visit() -> object:
        async with db.transaction() as session:
            return await residents.find_or_create(session, "o-two-transactions", None)

    before = await _count_residents(db)
    assert len(set(await asyncio.gather(*(visit() for _ in range(10))))) == 1
    assert await _count_residents(db) == before + 1


async def test_signing_out_beats_a_refresh_under_way(db: Database, client: httpx.AsyncClient) -> None:
    """Whichever comes first: afterwards nothing of the session is alive."""
    for _ in range(15):
        resident = await make_resident()
        body = {"refresh_token": resident.refresh_token}
        renewed, ended = await asyncio.gather(
            client.post("/v1/sessions/refresh", json=body),
            client.delete("/v1/sessions/current", headers=resident.headers),
        )
        assert renewed.status_code in (200, 401)
        assert ended.status_code == 204
        assert await _alive(db, resident) == 0
        if renewed.status_code == 200:
            headers = {"Authorization": f"Bearer {renewed.json()['access_token']}"}
            assert (await client.get("/v1/me", headers=headers)).status_code == 401


async def test_a_reset_password_beats_a_sign_in_and_a_refresh_under_way(
    application: ASGIApp, client: httpx.AsyncClient, db: Database, places: Places
) -> None:
    boss = await make_staff(Role.COMMUNITY_MANAGER, places.community)
    for _ in range(8):
        person = await make_staff(Role.GRID_WORKER, places.grid)
        body = {"refresh_token": person.refresh_token}
        signed_in, _, reset = await asyncio.gather(
            sign_in(client, person),
            client.post("/v1/sessions/refresh", json=body),
            client.post(f"/v1/staff/{person.id}/reset-password", headers=boss.headers),
        )
        assert reset.status_code == 200
        assert signed_in.status_code in (201, 401)
        assert await _alive(db, person) == 0


async def test_who_is_let_go_beats_refreshes_and_a_sign_in_under_way(
    client: httpx.AsyncClient, db: Database, places: Places
) -> None:
    boss = await make_staff(Role.COMMUNITY_MANAGER, places.community)
    for number in range(8):
        person = await make_staff(Role.GRID_WORKER, places.grid)
        others = [await _another_session(client, person) for _ in range(3)]
        renewing = [_renew(client, token) for token in (person.refresh_token, *others, others[0])]
        disabling = asyncio.create_task(
            _after(0.002 * number, client, boss, f"/v1/staff/{person.id}/disable")
        )
        *renewed, signed_in = await asyncio.gather(*renewing, sign_in(client, person))
        assert (await disabling).status_code == 200
        assert {answer.status_code for answer in (*renewed, signed_in)} <= {200, 201, 401}
        assert await _alive(db, person) == 0
        assert await _let_in(client, [*renewed, signed_in]) == 0


async def test_another_password_beats_refreshes_under_way_but_ones_own(
    client: httpx.AsyncClient, db: Database, places: Places
) -> None:
    for number in range(5):
        person = await make_staff(Role.GRID_WORKER, places.grid)
        others = [await _another_session(client, person) for _ in range(3)]
        renewing = [_renew(client, token) for token in (*others, others[0], person.refresh_token)]
        body = {"current_password": PASSWORD, "new_password": f"quiet orchard {number} ladders"}
        changing = asyncio.create_task(client.put("/v1/me/password", json=body, headers=person.headers))
        # It takes a while to look at both passwords; the end of the sessions comes last.
        await asyncio.sleep(0.02 * number)
        *renewed, own = await asyncio.gather(*renewing)
        assert (await changing).status_code == 204
        assert own.status_code == 200
        assert await _let_in(client, renewed) == 0
        assert await _let_in(client, [own]) == 1


async def test_a_role_that_is_taken_is_in_no_refreshed_token(
    client: httpx.AsyncClient, places: Places
) -> None:
    boss = await make_staff(Role.COMMUNITY_MANAGER, places.community)
    for _ in range(5):
        person = await make_staff(Role.GRID_WORKER, places.grid)
        grant = (await client.get("/v1/me", headers=person.headers)).json()["grants"][0]
        path = f"/v1/staff/{person.id}/grants/{grant['id']}"
        renewed, taken = await asyncio.gather(
            _renew(client, person.refresh_token), client.delete(path, headers=boss.headers)
        )
        assert (renewed.status_code, taken.status_code) == (200, 204)
        headers = {"Authorization": f"Bearer {renewed.json()['access_token']}"}
        assert (await client.get("/v1/hazards", headers=headers)).status_code == 403


async def test_two_grants_at_once_are_one(client: httpx.AsyncClient, places: Places) -> None:
    boss = await make_staff(Role.COMMUNITY_MANAGER, places.community)
    person = await make_staff(home_id=places.grid)
    body = {"role": "grid_worker", "region_id": str(places.grid)}
    answers = await asyncio.gather(
        *(client.post(f"/v1/staff/{person.id}/grants", json=body, headers=boss.headers) for _ in range(10))
    )
    assert Counter(answer.status_code for answer in answers) == {201: 1, 409: 9}


async def test_one_user_name_is_given_once(client: httpx.AsyncClient, places: Places) -> None:
    boss = await make_staff(Role.COMMUNITY_MANAGER, places.community)
    body = {"display_name": "周海涛", "role": "grid_worker", "region_id": str(places.grid)}
    body |= {"username": f"twin-{boss.username}"}
    answers = await asyncio.gather(
        *(client.post("/v1/staff", json=body, headers=boss.headers) for _ in range(8))
    )
    assert Counter(answer.status_code for answer in answers) == {201: 1, 409: 7}


async def test_the_end_of_all_sessions_waits_for_a_successor_in_the_making(db: Database) -> None:
    resident = await make_resident()

    async def end_all() -> None:
        async with db.transaction() as session:
            await sessions.end_all(session, PrincipalKind.RESIDENT, resident.id)

    async with db.transaction() as session:
        await sessions._refresh(session, resident.refresh_token, clock.now())
        ending = asyncio.create_task(end_all())
        # Long enough to reach the lock; were there none, the successor would be missed.
        await asyncio.sleep(0.2)
        assert not ending.done()
    await ending
    assert (await _generations(db, resident), await _alive(db, resident)) == (2, 0)


async def test_a_caller_read_before_a_change_is_not_kept_after_it(db: Database) -> None:
    """A look-up that was under way when a change was heard must not bring the old caller back for a second."""
    resident = await make_resident()
    looking_up = asyncio.create_task(auth.identify(resident.headers["Authorization"]))
    await asyncio.sleep(0)
    assert not looking_up.done()
    signals.send(auth.topic(resident.id))
    assert await looking_up is not None
    async with db.transaction() as session:
        ended = update(LoginSession).where(LoginSession.principal_id == resident.id)
        await session.execute(ended.values(revoked_at=clock.now()))
    with pytest.raises(Unauthenticated):
        await auth.identify(resident.headers["Authorization"])


async def test_another_process_notices_within_a_second(db: Database, places: Places) -> None:
    person = await make_staff(Role.GRID_WORKER, places.grid)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        _OTHER_PROCESS,
        person.token,
        cwd=_ROOT,
        env=os.environ | {"JINCAI_DATABASE_URL": settings.database_url},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert await _ask(process) == "1"
        await give_role(person, Role.GRID_WORKER, places.other_grid)
        assert await _until_answer(process, "2") < 1.2
        async with db.transaction() as session:
            await sessions.end_all(session, PrincipalKind.STAFF, person.id)
        assert await _until_answer(process, "refused") < 1.2
    finally:
        process.kill()
        await process.wait()


async def _another_session(client: httpx.AsyncClient, person: Person) -> str:
    answer = await sign_in(client, person)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["refresh_token"])


async def _renew(client: httpx.AsyncClient, token: str) -> httpx.Response:
    return await client.post("/v1/sessions/refresh", json={"refresh_token": token})


async def _after(seconds: float, client: httpx.AsyncClient, who: Person, path: str) -> httpx.Response:
    await asyncio.sleep(seconds)
    return await client.post(path, headers=who.headers)


async def _let_in(client: httpx.AsyncClient, answers: Sequence[httpx.Response]) -> int:
    """How many of the tokens in these answers still open anything."""
    tokens = [answer.json()["access_token"] for answer in answers if answer.is_success]
    found = [await client.get("/v1/me", headers={"Authorization": f"Bearer {token}"}) for token in tokens]
    return sum(answer.status_code == 200 for answer in found)


async def _until_answer(process: asyncio.subprocess.Process, wanted: str) -> float:
    """Seconds until the other process sees it that way."""
    assert process.stdin is not None
    began = clock.monotonic()
    while clock.monotonic() - began < 5:
        process.stdin.write(b"\n")
        if await _ask(process) == wanted:
            break
        await asyncio.sleep(0.02)
    return clock.monotonic() - began


async def _ask(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    return (await process.stdout.readline()).decode().strip()


async def _generations(db: Database, person: Person) -> int:
    query = select(func.count()).select_from(LoginSession).where(LoginSession.principal_id == person.id)
    async with db.reading() as session:
        return int(await session.scalar(query) or 0)


async def _alive(db: Database, person: Person) -> int:
    query = (
        select(func.count())
        .select_from(LoginSession)
        .where(LoginSession.principal_id == person.id, LoginSession.revoked_at.is_(None))
    )
    async with db.reading() as session:
        return int(await session.scalar(query) or 0)


async def _count_residents(db: Database) -> int:
    async with db.reading() as session:
        return int(await session.scalar(select(func.count()).select_from(Resident)) or 0)
