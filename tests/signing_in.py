"""Ways to sign in over HTTP, and to look at what is stored about it."""

from uuid import UUID

import httpx
import pyotp
from sqlalchemy import select

from app import clock
from app.db import database
from app.models.base import Base
from app.models.events import Event
from tests.factories import PASSWORD, Person

WECHAT = "/_wechat/_sandbox"


async def sign_in(client: httpx.AsyncClient, person: Person, **changed: str) -> httpx.Response:
    """Sign in as a member of staff, with the right password unless another is given."""
    body = {"username": person.username, "password": PASSWORD} | changed
    return await client.post("/v1/sessions/staff", json=body)


def code_of(person: Person, steps: int = 0) -> str:
    """What the authenticator app shows now, or so many steps from now."""
    assert person.totp_secret is not None
    return pyotp.TOTP(person.totp_secret).at(clock.now(), counter_offset=steps)


async def mint_code(client: httpx.AsyncClient, name: str, **order: object) -> str:
    """A one-time WeChat code from the sandbox."""
    answer = await client.post(f"{WECHAT}/login-codes", json={"name": name} | order)
    return str(answer.json()["code"])


async def events_of(actor_id: UUID, *types: str) -> list[Event]:
    """What somebody did, oldest first."""
    async with database.reading() as session:
        query = select(Event).where(Event.actor_id == actor_id, Event.type.in_(types)).order_by(Event.no)
        return list(await session.scalars(query))


async def events_about(subject_id: UUID, *types: str) -> list[Event]:
    """What happened to somebody, oldest first."""
    async with database.reading() as session:
        query = select(Event).where(Event.subject_id == subject_id, Event.type.in_(types)).order_by(Event.no)
        return list(await session.scalars(query))


async def everything_stored() -> str:
    """All columns of all rows as one text."""
    async with database.reading() as session:
        rows = [await session.execute(select(table)) for table in Base.metadata.sorted_tables]
        return "\n".join(str(tuple(row)) for result in rows for row in result)


def problem(response: httpx.Response) -> tuple[int, str]:
    """Status and code of a refusal."""
    return response.status_code, str(response.json()["code"])
