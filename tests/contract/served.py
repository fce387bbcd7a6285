"""A server of its own, with a world in it: `python -m tests.contract.served`, which prints what a client needs to know."""

import asyncio
import json
import socket
import sys
from uuid import UUID

import uvicorn

from app import server
from app.db import database
from app.models.hazards import HazardStatus
from app.services import seeding
from tests.contract.world import World, make_world
from tests.factories import make_resident


async def main() -> None:
    """Serve until the standard input ends."""
    listening = socket.create_server(("127.0.0.1", 0))
    serving = uvicorn.Server(server.configuration())
    running = asyncio.create_task(serving.serve(sockets=[listening]))
    async with asyncio.timeout(30):
        while not serving.started:  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.02)
    async with database.transaction() as session:
        await seeding.import_reference(session)
    known = await _known(await make_world())
    print(json.dumps({"port": listening.getsockname()[1], **known}), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    serving.should_exit = True
    await running


async def _known(world: World) -> dict[str, object]:
    """Tokens, and ids of things in every state."""
    hazards = [await world.hazard(status) for status in HazardStatus if status not in _NO_WAY_THERE]
    colleague, grant = await world.colleague()
    ids: dict[str, list[UUID]] = {
        "hazard_id": hazards * 2 + [await world.hazard(at="far_grid")],
        "household_id": [await world.household(), await world.household(resident=world.reporter)],
        "staff_id": [colleague.id, world.worker.id],
        "grant_id": [grant],
        "media_id": [world.photo],
        "region_id": [world.places.grid, world.places.building, world.places.far_grid],
        "resident_id": [world.known_resident],
        "notification_id": [await world.notification(world.reporter)],
        "key_id": [await world.api_key() for _ in range(3)],
        "endpoint_id": [await world.endpoint(disabled=disabled) for disabled in (True, False)],
        "delivery_id": [await world.delivery()],
        "service_request_id": hazards[:3],
        "export_id": [await world.export(world.people["district_admin of the street"])],
    }
    return {
        "tokens": {name: person.token for name, person in world.people.items()},
        "keys": dict(world.keys),
        "spare_tokens": [(await make_resident(world.places.community)).token for _ in range(_SPARE)],
        "ids": {name: [str(each) for each in found] for name, found in ids.items()},
    }


_SPARE = 200
_NO_WAY_THERE = (HazardStatus.REJECTED, HazardStatus.MERGED)

if __name__ == "__main__":
    asyncio.run(main())
