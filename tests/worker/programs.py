"""A worker as a process of its own whose tasks take their time and leave one event each: `programs PAUSE_SECONDS`."""

import asyncio
import signal
import sys

from app import events
from app.auth import SYSTEM
from app.db import database
from app.leases import Kind, Lease
from app.worker import Worker

EFFECT = "test.effect"


async def main(pause: float) -> None:
    """Work until SIGTERM."""

    async def effect(lease: Lease) -> None:
        await asyncio.sleep(pause)
        async with lease.last_transaction() as session:
            events.record_access(session, SYSTEM, EFFECT, payload=lease.payload)

    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await database.open()
    await Worker({EFFECT: Kind(effect)}, {}, ()).run(stop)
    await database.close()


if __name__ == "__main__":
    asyncio.run(main(float(sys.argv[1])))
