"""Residents who have told the service everything about themselves, in words that nothing else contains."""

import secrets
from collections.abc import Awaitable
from dataclasses import dataclass
from uuid import UUID

import httpx

from app.crypto import normalise_id_number
from app.db import database
from app.keys import unseal
from app.models.residents import Resident
from tests.factories import Person


@dataclass(frozen=True)
class Told:
    """What one resident has told."""

    person: Person
    nickname: str
    phone: str
    real_name: str
    id_number: str
    address: str
    household_id: str
    openid: str

    @property
    def secrets(self) -> tuple[str, ...]:
        """Every word of it as it must not be found."""
        return self.nickname, self.phone[3:], self.real_name, self.id_number, self.address, self.openid


async def tell_everything(client: httpx.AsyncClient, person: Person, region_id: UUID) -> Told:
    """Nickname, consents, phone, identity and home, over HTTP."""
    mark = secrets.token_hex(6)
    digits = f"{secrets.randbelow(10**6):06}"
    told = {
        "nickname": f"昵称{mark}",
        "real_name": f"金丝雀{mark}",
        "id_number": id_number(),
        "address": f"秘密{mark}花园3栋2单元301室",
    }
    headers = person.headers
    await _take(client.put("/v1/me", json={"nickname": told["nickname"]}, headers=headers))
    for purpose in ("contact_phone", "identity"):
        await agree(client, person, purpose)
    await _take(client.post("/v1/me/phone", json={"code": f"demo:{digits}"}, headers=headers))
    identity = {name: told[name] for name in ("real_name", "id_number")}
    await _take(client.put("/v1/me/identity", json=identity, headers=headers))
    home = {"region_id": str(region_id), "address": told["address"], "relation": "owner"}
    claimed = await _take(client.post("/v1/me/households", json=home, headers=headers))
    async with database.reading() as session:
        openid = unseal(await session.get_one(Resident, person.id), "openid")
    assert openid is not None
    household_id = claimed.json()["id"]
    return Told(person, phone=f"+8619000{digits}", household_id=household_id, openid=openid, **told)


async def agree(client: httpx.AsyncClient, person: Person, purpose: str) -> None:
    """Consent to a purpose as it is published."""
    purposes = (await client.get("/v1/consent-purposes")).json()["items"]
    version = next(each["version"] for each in purposes if each["code"] == purpose)
    body = {"purpose": purpose, "version": version}
    await _take(client.post("/v1/me/consents", json=body, headers=person.headers))


def id_number() -> str:
    """A well-formed number that nobody else here has."""
    front = f"110105{1930 + secrets.randbelow(70)}{1 + secrets.randbelow(12):02}{1 + secrets.randbelow(28):02}{secrets.randbelow(1000):03}"
    for check in "0123456789X":
        try:
            return normalise_id_number(front + check)
        except ValueError:
            continue
    raise AssertionError("one check digit fits")


async def _take(request: Awaitable[httpx.Response]) -> httpx.Response:
    response = await request
    assert response.is_success, response.text
    return response
