"""The people of a story as one file: `python -m tests.faults.cast` makes them, `Cast` plays with them from outside."""

import asyncio
import json
import sys
from dataclasses import fields
from typing import get_type_hints

import httpx
from pydantic import TypeAdapter

from app.db import database
from app.services import seeding
from tests.stories import Story, begin

_CLIENT = "client"


def read(text: str, client: httpx.AsyncClient) -> Story:
    """The story that was written, played by this client."""
    known = json.loads(text)
    types = get_type_hints(Story)
    return Story(
        client=client,
        **{name: TypeAdapter(types[name]).validate_python(value) for name, value in known.items()},
    )


async def _written() -> bytes:
    async with httpx.AsyncClient() as client:
        story = await begin(client)
    known = {field.name: getattr(story, field.name) for field in fields(story) if field.name != _CLIENT}
    return TypeAdapter(dict[str, object]).dump_json(known)


async def _main() -> None:
    await database.open()
    async with database.transaction() as session:
        await seeding.import_reference(session)
    sys.stdout.buffer.write(await _written())
    await database.close()


if __name__ == "__main__":
    asyncio.run(_main())
