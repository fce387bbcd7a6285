"""A storage that does not answer for a while, and what others notice of it."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager

import httpx

from app.clients import storage
from app.db import database
from app.outside import outside


@contextmanager
def stalled() -> Iterator[None]:
    """Every thread of the storage is busy for as long as the block lasts."""
    done = threading.Event()
    for _ in range(storage._THREADS):
        outside.storage._threads.submit(done.wait)
    try:
        yield
    finally:
        done.set()


async def keeps_no_connection(ask: Callable[[], Coroutine[None, None, httpx.Response]]) -> bool:
    """Whether as many requests as there are connections to read with wait for the storage without them."""
    connections = database.read_gate.free
    with stalled():
        asking = [asyncio.create_task(ask()) for _ in range(connections)]
        await asyncio.sleep(0.3)
        free = database.read_gate.free
    answers = await asyncio.gather(*asking)
    assert {answer.status_code for answer in answers} == {200}
    return free == connections
