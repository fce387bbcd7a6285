"""Workers as processes of their own, whose tasks take their time and leave one event each.

Reads lines `PAUSE_SECONDS LOG` and forks a worker for each, so that the application is imported once; answers with its id.
"""

import asyncio
import os
import signal
import sys

from app import events
from app.auth import SYSTEM
from app.db import database
from app.leases import Kind, Lease
from app.worker import Worker

EFFECT = "test.effect"


async def work(pause: float) -> None:
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


def main() -> None:
    """Fork what is asked for until the input ends."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for line in sys.stdin:
        pause, log = line.split()
        pid = os.fork()
        if pid == 0:
            written = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(written, sys.stdout.fileno())
            os.dup2(written, sys.stderr.fileno())
            asyncio.run(work(float(pause)))
            os._exit(0)
        print(pid, flush=True)


if __name__ == "__main__":
    main()
