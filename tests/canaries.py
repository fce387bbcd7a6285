"""Looks for planted words in everything that is stored: as it lies there, and behind every seal."""

import contextlib
import json
from uuid import UUID

from sqlalchemy import Table, select

from app.crypto import SealBroken
from app.db import database
from app.keys import vault
from app.models.base import Base

Found = set[tuple[str, str]]
"""A canary, and the `table.column` it sits in."""


async def lying_open(*canaries: str) -> Found:
    """Where a canary can be read by anybody who has a copy of the database."""
    return await _search(canaries, unsealed=False)


async def anywhere(*canaries: str) -> Found:
    """Where a canary is, sealed or not."""
    return await _search(canaries, unsealed=True)


async def _search(canaries: tuple[str, ...], *, unsealed: bool) -> Found:
    found: Found = set()
    async with database.reading() as session:
        for table in Base.metadata.sorted_tables:
            for row in (await session.execute(select(table))).mappings():
                for column, text in _texts(table, dict(row), unsealed=unsealed):
                    found |= {(canary, f"{table.name}.{column}") for canary in canaries if canary in text}
    return found


def _texts(table: Table, row: dict[str, object], *, unsealed: bool) -> list[tuple[str, str]]:
    texts = []
    for column, value in row.items():
        texts.append((column, _as_text(value)))
        if unsealed and column.endswith("_sealed") and isinstance(value, bytes):
            # A test may have planted a broken seal.
            with contextlib.suppress(SealBroken):
                row_id = row["id"] if "id" in row else UUID(str(row["scope"])[:32])
                assert isinstance(row_id, UUID)
                texts.append((column, vault.open(value, table=table.name, column=column, row_id=row_id)))
    return texts


def _as_text(value: object) -> str:
    """What stands in a column; of bytes, whatever in them is text."""
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
