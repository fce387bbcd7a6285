"""What is asked in a benchmark, as bytes on the wire: one endless series of requests for each client.

Even clients are residents, odd ones staff, where both may ask. Writes use what was prepared for them, once.
"""

import json
import random
import uuid
from collections.abc import Callable, Iterator
from typing import TypedDict


class Facts(TypedDict):
    """What `benchmarks.data` prepared; client `i` is resident, manager and worker `i`."""

    residents: list[str]
    managers: list[str]
    workers: list[str]
    public_ids: list[str]
    handled_ids: list[list[str]]
    public_cursors: list[str]
    handled_cursors: list[list[str]]
    open_places: list[tuple[float, float, str]]
    places: list[tuple[float, float, str, str]]
    people: dict[str, str]
    communities: dict[str, str]
    categories: list[str]
    pictures: list[list[str]]
    filed: list[list[str]]


Questions = list[Iterator[bytes]]


def detail(facts: Facts, _: int) -> Questions:
    """One hazard: any public one, or any of the manager's community."""

    def asked(client: int) -> Iterator[bytes]:
        as_staff = client % 2
        ids = facts["handled_ids"][client] if as_staff else facts["public_ids"]
        token = facts["managers" if as_staff else "residents"][client]
        while True:
            yield _get(f"/v1/hazards/{random.choice(ids)}", token)

    return _all(asked)


def page(facts: Facts, _: int) -> Questions:
    """Twenty hazards from somewhere in a list: the public's, or what the manager handles."""

    def asked(client: int) -> Iterator[bytes]:
        as_staff = client % 2
        cursors = facts["handled_cursors"][client] if as_staff else facts["public_cursors"]
        token = facts["managers" if as_staff else "residents"][client]
        scope = "" if as_staff else "scope=public&"
        while True:
            yield _get(f"/v1/hazards?{scope}limit=20&cursor={random.choice(cursors)}", token)

    return _all(asked)


def nearby(facts: Facts, _: int) -> Questions:
    """Open hazards around a place where there is one."""

    def asked(client: int) -> Iterator[bytes]:
        while True:
            lng, lat, category = random.choice(facts["open_places"])
            path = f"/v1/hazards/nearby?lng={lng}&lat={lat}&category={category}"
            yield _get(path, facts["residents"][client])

    return _all(asked)


def create(facts: Facts, first: int) -> Questions:
    """A report with one picture."""

    def asked(client: int) -> Iterator[bytes]:
        for picture in facts["pictures"][client][first:]:
            lng, lat, _, _ = random.choice(facts["places"])
            body = {
                "category": random.choice(facts["categories"]),
                "description": "3栋1单元消防通道堆满纸箱，电动车也停在里面，请尽快处理",
                "media_ids": [picture],
                "location": {"lng": lng, "lat": lat},
                "address": "枫林苑3栋1单元门口",
                "anonymous": True,
            }
            yield _post(
                "/v1/hazards", facts["residents"][client], json.dumps(body, ensure_ascii=False).encode()
            )

    return _all(asked)


def accept(facts: Facts, first: int) -> Questions:
    """A grid worker takes a filed hazard."""

    def asked(client: int) -> Iterator[bytes]:
        for hazard_id in facts["filed"][client][first:]:
            yield _post(f"/v1/hazards/{hazard_id}/accept", facts["workers"][client], b"")

    return _all(asked)


QUESTIONS: dict[str, Callable[[Facts, int], Questions]] = {
    "detail": detail,
    "list": page,
    "nearby": nearby,
    "create": create,
    "accept": accept,
}


def _all(asked: Callable[[int], Iterator[bytes]]) -> Questions:
    return [asked(client) for client in range(16)]


def _get(path: str, token: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {token}\r\n\r\n".encode()


def _post(path: str, token: str, body: bytes) -> bytes:
    head = (
        f"POST {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {token}\r\nIdempotency-Key: {uuid.uuid4()}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body
