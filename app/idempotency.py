"""Repeated requests get the first answer: the key is claimed, and the answer kept, in the transaction of the work."""

import contextlib
import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import cast
from uuid import UUID

import orjson
from sqlalchemy import BindParameter, Table, bindparam, delete, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock, writes
from app.auth import Caller
from app.db import database, insert
from app.errors import BadRequest, InvalidInput, Unavailable
from app.hot import Hot
from app.keys import vault
from app.models.idempotency import IdempotencyKey

KEPT = timedelta(days=7)
_CLAIM = "idempotency_claim"
_PROMISE = "idempotency_promise"
_MASKED = "idempotency_masked"
_VISIBLE = re.compile(r"[\x21-\x7e]{1,255}")
_TABLE, _COLUMN = "idempotency_keys", "answer_sealed"


_ROWS = cast(Table, IdempotencyKey.__table__)


def _parameters(*names: str) -> dict[str, BindParameter[object]]:
    return {name: bindparam(name, type_=_ROWS.c[name].type) for name in names}


_KEEP_BOTH: Hot[dict[str, str]] = Hot(
    insert(IdempotencyKey)
    .values(_parameters(*(column.key for column in _ROWS.c)))
    .on_conflict_do_nothing()
    .returning(_ROWS.c.scope)
)
_CLAIM_KEY: Hot[dict[str, str]] = Hot(
    insert(IdempotencyKey)
    .values(_parameters("scope", "fingerprint", "caller_id", "created_at"))
    .on_conflict_do_nothing()
    .returning(_ROWS.c.scope)
)
_KEEP_ANSWER: Hot[dict[str, str]] = Hot(
    update(_ROWS)
    .where(_ROWS.c.scope == bindparam("key"))
    .values(_parameters("status", "headers", "answer_sealed", "subject_id"))
)


class BadIdempotencyKey(BadRequest):
    """Empty, longer than 255, or not visible ASCII."""

    code = "bad_idempotency_key"
    title_en, title_zh = (
        "Idempotency-Key must be 1 to 255 visible ASCII characters",
        "Idempotency-Key 必须为 1 至 255 个可见 ASCII 字符",
    )


class IdempotencyKeyReused(InvalidInput):
    """The same key came with another body."""

    code = "idempotency_key_reused"
    title_en, title_zh = (
        "This Idempotency-Key was used with another body",
        "该 Idempotency-Key 已用于其他请求内容",
    )


class KeyTaken(Unavailable):
    """Another request with this key was first. Its answer is given instead, so nobody sees this unless it is gone."""


class Replay(Exception):
    """Not an error: the answer was given before, and is given again."""

    def __init__(self, status: int, body: bytes, content_type: str) -> None:
        super().__init__(status)
        self.status, self.body, self.content_type = status, body, content_type


@dataclass(frozen=True, slots=True)
class Request:
    """What makes two requests the same."""

    caller: Caller
    method: str
    path: str
    key: str
    fingerprint: str

    @property
    def scope(self) -> str:
        """Caller, method, path and key, as one opaque value."""
        parts = "\n".join((self.caller.kind, str(self.caller.id), self.method, self.path, self.key))
        return hashlib.sha256(parts.encode()).hexdigest()


def checked_key(key: str) -> str:
    """The key itself, or 400. A quoted key (RFC 8941 string) is the same key."""
    bare = key[1:-1] if len(key) > 2 and key[0] == key[-1] == '"' else key
    if not _VISIBLE.fullmatch(bare):
        raise BadIdempotencyKey
    return bare


def fingerprint(body: bytes, content_type: str) -> str:
    """A digest that ignores key order and white space of JSON."""
    if "json" in content_type:
        with contextlib.suppress(ValueError, RecursionError):
            body = orjson.dumps(orjson.loads(body), option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(body).hexdigest()


async def claim(session: AsyncSession, request: Request) -> None:
    """Take the key or raise the answer that it led to. A second request waits here for the first one's commit."""
    if not await writes.run(session, _CLAIM_KEY, _claim(request)):
        await _replay(session, request)
    session.info[_CLAIM] = request.scope


def _claim(request: Request) -> dict[str, object]:
    return {
        "scope": request.scope,
        "fingerprint": request.fingerprint,
        "caller_id": request.caller.id,
        "created_at": clock.now(),
    }


def promise(session: AsyncSession, request: Request) -> None:
    """`keep` will take the key, together with the answer: for work that nobody can do twice without a collision."""
    session.info[_PROMISE] = request


async def replay(request: Request) -> None:
    """Raise the answer that the key led to, if any, after the work was undone."""
    async with database.transaction() as session:
        await replay_if_done(session, request)


async def replay_if_done(session: AsyncSession, request: Request) -> None:
    """Raise the answer that the key led to, if any: asked before work outside the transaction that works only once."""
    if await session.get(IdempotencyKey, request.scope) is not None:
        await _replay(session, request)


def mask_when_replayed(session: AsyncSession, *fields: str) -> None:
    """These fields of the answer are secrets that are shown once: a replay has them as null."""
    session.info[_MASKED] = fields


async def keep(session: AsyncSession, status: int, body: bytes, content_type: str) -> None:
    """Store the answer beside the work, when this request claimed a key or promised to take it."""
    promised: Request | None = session.info.pop(_PROMISE, None)
    scope = promised.scope if promised else session.info.pop(_CLAIM, None)
    if scope is None:
        return
    masked = session.info.pop(_MASKED, ())
    if masked:
        body = json.dumps(json.loads(body) | dict.fromkeys(masked), ensure_ascii=False).encode()
    values = {
        "status": status,
        "headers": content_type,
        "answer_sealed": _sealed(scope, body),
        "subject_id": _subject(body),
    }
    if promised is None:
        await writes.run_along(session, _KEEP_ANSWER, values | {"key": scope})
    elif not await writes.run_along(session, _KEEP_BOTH, values | _claim(promised)):
        raise KeyTaken(retry_after=1)


async def redact(session: AsyncSession, subject_id: UUID, fields: Iterable[str]) -> None:
    """Erase fields of a subject from the answers kept about it; the keys stay claimed."""
    rows = await session.scalars(
        select(IdempotencyKey).where(IdempotencyKey.subject_id == subject_id).with_for_update()
    )
    for row in rows:
        answer = json.loads(_opened(row))
        answer |= {name: None for name in fields if name in answer}
        row.answer_sealed = _sealed(row.scope, json.dumps(answer, ensure_ascii=False).encode())


async def forget(session: AsyncSession, caller_id: UUID) -> None:
    """Drop every answer kept for somebody who has left and cannot ask again."""
    await session.execute(delete(IdempotencyKey).where(IdempotencyKey.caller_id == caller_id))


async def _replay(session: AsyncSession, request: Request) -> None:
    row = await session.scalar(select(IdempotencyKey).where(IdempotencyKey.scope == request.scope))
    if row is None or row.status is None or row.answer_sealed is None:
        raise RuntimeError("an idempotency key without its answer was committed")
    if row.fingerprint != request.fingerprint:
        raise IdempotencyKeyReused
    raise Replay(row.status, _opened(row).encode(), row.headers or "application/json")


def _sealed(scope: str, body: bytes) -> bytes:
    return vault.seal(body.decode(), table=_TABLE, column=_COLUMN, row_id=_row_id(scope))


def _opened(row: IdempotencyKey) -> str:
    return vault.open(row.answer_sealed or b"", table=_TABLE, column=_COLUMN, row_id=_row_id(row.scope))


def _subject(body: bytes) -> UUID | None:
    """The id of the resource in the answer, so that what is erased there is erased here."""
    with contextlib.suppress(ValueError, TypeError, AttributeError):
        return UUID(orjson.loads(body).get("id"))
    return None


def _row_id(scope: str) -> UUID:
    return UUID(scope[:32])
