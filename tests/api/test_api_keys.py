"""API keys: shown once, scoped, bound to addresses, rotated with an overlap, dead at once."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from uuid import UUID

import httpx
import pytest
from sqlalchemy import select, text
from starlette.types import ASGIApp

from app import api_key_auth, api_key_format, clock
from app.crypto import new_token
from app.db import Database
from app.ids import new_id
from app.models.api_keys import ApiKey
from app.models.staff import Role
from tests.conftest import new_client
from tests.factories import Person, Places, make_staff
from tests.stories import complaints, problem

FEED = "/v1/events"


@pytest.fixture
async def admin(places: Places) -> Person:
    return await make_staff(Role.DISTRICT_ADMIN, places.district)


async def make_key(
    client: httpx.AsyncClient, admin: Person, places: Places, **body: object
) -> dict[str, str]:
    wanted = {"name": "平台", "scopes": ["events:read"], "region_id": str(places.district)} | body
    answer = await client.post("/v1/api-keys", headers=admin.headers, json=wanted)
    assert answer.status_code == 201, answer.text
    made: dict[str, str] = answer.json()
    return made


def using(key: str) -> dict[str, str]:
    return {"X-API-Key": key}


async def test_a_key_opens_what_its_scope_says(
    client: httpx.AsyncClient, admin: Person, places: Places
) -> None:
    made = await make_key(client, admin, places)
    assert made["key"].startswith(f"{made['prefix']}")
    assert made["key"].endswith(made["last4"])
    assert (await client.get(FEED, headers=using(made["key"]))).status_code == 200
    assert (await client.get("/v1/api-keys", headers=using(made["key"]))).status_code == 403
    assert (await client.get("/v1/hazards", headers=using(made["key"]))).status_code == 403


async def test_a_key_is_shown_once_and_stored_as_a_digest(
    client: httpx.AsyncClient, admin: Person, places: Places, db: Database
) -> None:
    headers = admin.headers | {"Idempotency-Key": "make-it"}
    body = {"name": "once", "scopes": ["events:read"], "region_id": str(places.district)}
    first = await client.post("/v1/api-keys", headers=headers, json=body)
    again = await client.post("/v1/api-keys", headers=headers, json=body)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert (again.json()["id"], again.json()["key"]) == (first.json()["id"], None)
    read = await client.get(f"/v1/api-keys/{first.json()['id']}", headers=admin.headers)
    assert "key" not in read.json()
    async with db.reading() as session:
        rows = [tuple(row) for row in await session.execute(text("SELECT * FROM api_keys"))]
        kept = [tuple(row) for row in await session.execute(text("SELECT * FROM idempotency_keys"))]
    secret = first.json()["key"].rsplit("_", 1)[1][:-6]
    assert secret not in str(rows)
    assert secret not in str(kept)


@pytest.mark.parametrize(
    "key",
    [
        "",
        "jck_test_",
        "jck_test_abcdefghij_short",
        new_token("jck_live_abcdefghij_"),
        new_token("jck_test_abcdefghij_"),
        new_token("jcs_"),
        "ключ",
        "x" * 10_000,
    ],
    ids=["empty", "prefix", "short", "live", "unknown", "token", "cyrillic", "endless"],
)
async def test_what_is_no_key_is_401(client: httpx.AsyncClient, key: str) -> None:
    answer = await client.get(FEED, headers=[(b"x-api-key", key.encode())])
    assert answer.status_code in (401, 431)


async def test_a_wrong_checksum_is_refused_before_any_look_up(
    client: httpx.AsyncClient, admin: Person, places: Places
) -> None:
    key = (await make_key(client, admin, places))["key"]
    bent = key[:-1] + ("a" if key[-1] != "a" else "b")
    assert api_key_format.name_part_of(bent) is None
    assert (await client.get(FEED, headers=using(bent))).status_code == 401
    assert (await client.get(f"{FEED}?api_key={key}")).status_code == 401


async def test_a_key_and_a_token_together_are_refused(
    client: httpx.AsyncClient, admin: Person, places: Places
) -> None:
    key = (await make_key(client, admin, places))["key"]
    assert (await client.get(FEED, headers=admin.headers | using(key))).status_code == 401


async def test_a_revoked_key_is_dead_on_the_next_call(
    client: httpx.AsyncClient, admin: Person, places: Places
) -> None:
    made = await make_key(client, admin, places)
    assert (await client.get(FEED, headers=using(made["key"]))).status_code == 200
    path = f"/v1/api-keys/{made['id']}/revoke"
    assert (await client.post(path, headers=admin.headers)).json()["revoked_at"] is not None
    assert (await client.get(FEED, headers=using(made["key"]))).status_code == 401
    assert (await client.post(path, headers=admin.headers)).status_code == 409


async def test_rotation_overlaps_and_ends(
    client: httpx.AsyncClient, admin: Person, places: Places, advance: Callable[[float], None]
) -> None:
    old = await make_key(client, admin, places)
    path = f"/v1/api-keys/{old['id']}/rotate"
    answer = await client.post(path, headers=admin.headers, json={"overlap_hours": 2})
    new = answer.json()
    assert new["replaces_id"] == old["id"]
    assert (await client.get(FEED, headers=using(old["key"]))).status_code == 200
    assert (await client.get(FEED, headers=using(new["key"]))).status_code == 200
    advance(2 * 3600 + 1)
    assert (await client.get(FEED, headers=using(old["key"]))).status_code == 401
    assert (await client.get(FEED, headers=using(new["key"]))).status_code == 200


async def test_a_key_expires(
    client: httpx.AsyncClient, admin: Person, places: Places, advance: Callable[[float], None]
) -> None:
    at = (clock.now() + timedelta(hours=1)).isoformat()
    key = (await make_key(client, admin, places, expires_at=at))["key"]
    assert (await client.get(FEED, headers=using(key))).status_code == 200
    advance(3601)
    assert (await client.get(FEED, headers=using(key))).status_code == 401


async def test_a_key_is_bound_to_its_addresses(
    application: ASGIApp, client: httpx.AsyncClient, admin: Person, places: Places
) -> None:
    key = (await make_key(client, admin, places, addresses=["203.0.113.0/28"]))["key"]
    inside, outside = new_client(application, "203.0.113.7"), new_client(application, "203.0.113.77")
    async with inside, outside:
        assert (await inside.get(FEED, headers=using(key))).status_code == 200
        refused = await outside.get(FEED, headers=using(key))
    assert (refused.status_code, refused.json()["code"]) == (403, "address_not_allowed")


async def test_a_key_has_a_limit_of_its_own(client: httpx.AsyncClient, admin: Person, places: Places) -> None:
    key = (await make_key(client, admin, places, rate_limit="3/minute"))["key"]
    statuses = [(await client.get(FEED, headers=using(key))).status_code for _ in range(4)]
    assert statuses == [200, 200, 200, 429]


async def test_uses_are_counted_by_whoever_comes_after_a_hitch(
    client: httpx.AsyncClient, admin: Person, places: Places, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped while it waits, and asked to count a key that is not there: neither loses the uses of others for good."""
    key = await make_key(client, admin, places)
    monkeypatch.setattr(api_key_auth, "_FLUSH_SECONDS", 0.01)

    async def use_and_read() -> int:
        assert (await client.get(FEED, headers=using(key["key"]))).status_code == 200
        await asyncio.sleep(0.2)
        read = (await client.get(f"/v1/api-keys/{key['id']}", headers=admin.headers)).json()
        return sum(day["requests"] for day in read["uses"])

    async with db.transaction() as session:
        await session.execute(select(ApiKey).where(ApiKey.id == UUID(key["id"])).with_for_update())
        assert (await client.get(FEED, headers=using(key["key"]))).status_code == 200
        flushing = asyncio.create_task(api_key_auth.uses.flush())
        await asyncio.sleep(0.1)
        flushing.cancel()
        await asyncio.wait([flushing])
    async with api_key_auth.counting():
        assert await use_and_read() == 2
        api_key_auth.uses.count(new_id())
        await asyncio.sleep(0.2)
        assert await use_and_read() == 3


async def test_uses_are_counted(client: httpx.AsyncClient, admin: Person, places: Places) -> None:
    made = await make_key(client, admin, places)
    for _ in range(3):
        await client.get(FEED, headers=using(made["key"]))
    await api_key_auth.uses.flush()
    read = (await client.get(f"/v1/api-keys/{made['id']}", headers=admin.headers)).json()
    assert [day["requests"] for day in read["uses"]] == [3]
    assert read["last_used_at"] is not None


async def test_keys_of_another_district_are_not_there(
    client: httpx.AsyncClient, admin: Person, places: Places
) -> None:
    made = await make_key(client, admin, places)
    stranger = await make_staff(Role.DISTRICT_ADMIN, places.far_street)
    for method, path in (("GET", ""), ("POST", "/revoke"), ("POST", "/rotate")):
        answer = await client.request(
            method,
            f"/v1/api-keys/{made['id']}{path}",
            headers=stranger.headers,
            json={} if path == "/rotate" else None,
        )
        assert answer.status_code == 404
    foreign = {"name": "x", "scopes": ["events:read"], "region_id": str(places.district)}
    answer = await client.post("/v1/api-keys", headers=stranger.headers, json=foreign)
    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (422, "unknown_region")


@pytest.mark.parametrize(
    ("wrong", "wanted"),
    [
        ({"scopes": ["events:read", "events:read"]}, ("body.scopes", "named_twice")),
        ({"addresses": ["203.0.113.0/28", "203.0.113.0/28"]}, ("body.addresses", "named_twice")),
        # Two ways to write one.
        ({"addresses": ["2001:db8::1", "2001:DB8:0::1/128"]}, ("body.addresses", "named_twice")),
        ({"addresses": [f"10.{n >> 8}.{n & 255}.0" for n in range(51)]}, ("body.addresses", "too_long")),
        ({"expires_at": "9999-12-31T23:59:59-14:00"}, ("body.expires_at", "datetime_object_invalid")),
        ({"expires_at": "0001-01-01T00:00:00+14:00"}, ("body.expires_at", "datetime_object_invalid")),
    ],
)
async def test_a_key_that_is_not_made(
    client: httpx.AsyncClient,
    admin: Person,
    places: Places,
    wrong: dict[str, object],
    wanted: tuple[str, str],
) -> None:
    body = {"name": "平台", "scopes": ["events:read"], "region_id": str(places.district)} | wrong
    answer = await client.post("/v1/api-keys", headers=admin.headers, json=body)
    assert complaints(problem(answer, 422, "invalid_input")) == [wanted]
