"""What a handler can ask for."""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends, Header, Request
from sqlalchemy.ext.asyncio import AsyncSession

from app import idempotency
from app.auth import Caller
from app.db import database
from app.errors import InvalidInput, Unauthenticated
from app.operation import CALLER, SESSION


def _caller(request: Request) -> Caller:
    caller: Caller | None = request.scope[CALLER]
    if caller is None:
        raise Unauthenticated
    return caller


def _caller_or_none(request: Request) -> Caller | None:
    caller: Caller | None = request.scope[CALLER]
    return caller


CurrentCaller = Annotated[Caller, Depends(_caller)]
MaybeCaller = Annotated[Caller | None, Depends(_caller_or_none)]


IdempotencyKey = Annotated[
    str | None, Header(max_length=1000, description="Repeat a POST safely with the same key.")
]


async def _session(request: Request, idempotency_key: IdempotencyKey = None) -> AsyncIterator[AsyncSession]:
    caller: Caller | None = request.scope[CALLER]
    async with database.transaction() as session:
        if request.method == "POST" and caller is not None and idempotency_key is not None:
            await idempotency.claim(session, await _repeatable(request, caller, idempotency_key))
            request.scope[SESSION] = session
        yield session


async def _repeatable(request: Request, caller: Caller, key: str) -> idempotency.Request:
    content_type = request.headers.get("content-type", "")
    return idempotency.Request(
        caller=caller,
        method=request.method,
        path=request.url.path,
        key=idempotency.checked_key(key),
        fingerprint=idempotency.fingerprint(await request.body(), content_type),
    )


async def _repeat(
    request: Request, caller: CurrentCaller, idempotency_key: IdempotencyKey = None
) -> idempotency.Request | None:
    return None if idempotency_key is None else await _repeatable(request, caller, idempotency_key)


Repeat = Annotated[idempotency.Request | None, Depends(_repeat)]
"""For services that open their own transactions, because something slow comes before: they claim it themselves."""


async def _reading() -> AsyncIterator[AsyncSession]:
    async with database.reading() as session:
        yield session


Session = Annotated[AsyncSession, Depends(_session, scope="function")]
ReadSession = Annotated[AsyncSession, Depends(_reading, scope="function")]


def _if_match(
    if_match: Annotated[
        str | None, Header(max_length=40, description='The `version` you read, as `"3"`. Stale gives 412.')
    ] = None,
) -> int | None:
    if if_match is None:
        return None
    bare = if_match.removeprefix("W/").strip('"')
    if not bare.isdecimal() or len(bare) > 12:
        raise InvalidInput.of(("header", "if-match"), "invalid_version", 'must be like "3"', "版本号无效")
    return int(bare)


IfMatch = Annotated[int | None, Depends(_if_match)]
