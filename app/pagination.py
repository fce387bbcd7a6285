"""Keyset pages: an opaque signed cursor that holds the last key, never a row number or a total."""

from typing import Annotated
from uuid import UUID

import orjson
from fastapi import Query

from app.errors import InvalidInput
from app.keys import keyring

Limit = Annotated[int, Query(ge=1, le=100, description="Rows per page.")]
CursorParameter = Annotated[
    str | None, Query(max_length=500, description="`next_cursor` of the page before.")
]


def encode(operation: str, *key: str | int | None) -> str:
    """The cursor behind the row with this key."""
    return keyring.sign(f"cursor:{operation}", orjson.dumps(key))


def decode(operation: str, cursor: str) -> list[str | int | None]:
    """The key in a cursor that we made for the same list; 422 for anything else."""
    raw = keyring.unsign(f"cursor:{operation}", cursor)
    if raw is None:
        raise InvalidInput.of(
            ("query", "cursor"), "invalid_cursor", "is not a cursor of this list", "分页游标无效"
        )
    key: list[str | int | None] = orjson.loads(raw)
    return key


def decode_id(operation: str, cursor: str | None) -> UUID | None:
    """The id in a cursor of a list that is sorted by id."""
    return None if cursor is None else UUID(str(decode(operation, cursor)[0]))
