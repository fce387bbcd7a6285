"""What a handler can ask for."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, Header, Request, Response
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.responses import StreamingResponse

from app import idempotency
from app.auth import Caller
from app.context import CALLER, SESSION
from app.db import database
from app.errors import InvalidInput, Problem, Unauthenticated


async def caller(request: Request) -> Caller:
    """Whoever has signed in. Not awaiting anything, it is asynchronous all the same: FastAPI would take a thread."""
    found: Caller | None = request.scope[CALLER]
    if found is None:
        raise Unauthenticated
    return found


async def _caller_or_none(request: Request) -> Caller | None:
    found: Caller | None = request.scope[CALLER]
    return found


CurrentCaller = Annotated[Caller, Depends(caller)]
MaybeCaller = Annotated[Caller | None, Depends(_caller_or_none)]


IdempotencyKey = Annotated[str | None, Header(description="Repeat a POST safely with the same key.")]


async def session(request: Request, idempotency_key: IdempotencyKey = None) -> AsyncIterator[AsyncSession]:
    """The write transaction of this request, committed before the answer leaves; a repeat ends here."""
    who: Caller | None = request.scope[CALLER]
    async with database.transaction() as opened:
        if request.method == "POST" and who is not None and idempotency_key is not None:
            await idempotency.claim(opened, await _repeatable(request, who, idempotency_key))
            request.scope[SESSION] = opened
        yield opened


@asynccontextmanager
async def writing(request: Request, idempotency_key: str | None) -> AsyncIterator[AsyncSession]:
    """The same for hot operations: a repeat is noticed where it collides with the first, or is refused."""
    who: Caller | None = request.scope[CALLER]
    if who is None or idempotency_key is None:
        async with database.transaction() as opened:
            yield opened
        return
    repeat = await _repeatable(request, who, idempotency_key)
    try:
        async with database.transaction() as opened:
            idempotency.promise(opened, repeat)
            request.scope[SESSION] = opened
            yield opened
    except Problem:
        await idempotency.replay(repeat)
        raise


async def keep(request: Request, response: Response) -> None:
    """Keep the answer beside the work, for a repeat."""
    opened: AsyncSession | None = request.scope.get(SESSION)
    if opened is not None and response.status_code < 300 and not isinstance(response, StreamingResponse):
        content_type = response.headers.get("content-type", "")
        await idempotency.keep(opened, response.status_code, bytes(response.body), content_type)


async def _repeatable(request: Request, who: Caller, key: str) -> idempotency.Request:
    content_type = request.headers.get("content-type", "")
    return idempotency.Request(
        caller=who,
        method=request.method,
        path=request.scope["path"],
        key=idempotency.checked_key(key),
        fingerprint=idempotency.fingerprint(await request.body(), content_type),
    )


async def _repeat(
    request: Request, who: CurrentCaller, idempotency_key: IdempotencyKey = None
) -> idempotency.Request | None:
    return None if idempotency_key is None else await _repeatable(request, who, idempotency_key)


Repeat = Annotated[idempotency.Request | None, Depends(_repeat)]
"""For services that open their own transactions, because something slow comes before: they claim it themselves."""


async def _reading() -> AsyncIterator[AsyncSession]:
    async with database.reading() as opened:
        yield opened


Session = Annotated[AsyncSession, Depends(session, scope="function")]
ReadSession = Annotated[AsyncSession, Depends(_reading, scope="function")]


async def _if_match(
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
