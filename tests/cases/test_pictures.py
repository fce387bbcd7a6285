"""Pictures of a case come over the guarded way, are what the document says, and nothing but pictures."""

import asyncio
import hashlib
import struct
from collections.abc import AsyncIterator, Mapping
from uuid import UUID

import httpx
import pytest
from sqlalchemy import select

from app.clients.outbound import Outbound
from app.db import database
from app.ids import new_id
from app.imaging import is_bare
from app.models.hazards import Hazard
from app.models.media import Media
from app.models.staff import Role
from app.outside import outside
from tests.cases.papers import Json, elsewhere, lasting, long_case, paper, sealed
from tests.factories import Person, make_staff
from tests.media.pictures import encoded, quadrants
from tests.stories import Story, complaints, problem

Files = dict[str, bytes]


class Server:
    """A plain HTTP server on loopback that gives files, or redirects."""

    def __init__(self) -> None:
        self.files: Files = {}
        self.asked: list[str] = []
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path = (await reader.readuntil(b"\r\n\r\n")).split(b" ")[1].decode()
        self.asked.append(path)
        content = self.files.get(path)
        head = "200 OK" if content is not None else "302 Found\r\nLocation: /elsewhere"
        body = content or b""
        writer.write(f"HTTP/1.1 {head}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        await writer.drain()
        writer.close()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    made = Server()
    listening = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.port = listening.sockets[0].getsockname()[1]
    yield made
    listening.close()


@pytest.fixture(scope="module")
async def admin(story: Story) -> Person:
    return await make_staff(Role.DISTRICT_ADMIN, story.places.district)


@pytest.fixture(scope="module")
async def original(story: Story) -> Json:
    return await paper(story, await long_case(story))


async def contents(document: Json) -> list[bytes]:
    async with database.reading() as session:
        keys = [(await session.get_one(Media, UUID(each["id"]))).storage_key for each in document["media"]]
    return [await outside.storage.get(key) for key in keys]


async def offered(original: Json, server: Server, changed: Mapping[int, bytes] | None = None) -> Json:
    """The case under other ids, with its pictures on the server; some of them others than they were."""
    document = elsewhere(original)
    document["media"] = [dict(each, id=str(new_id())) for each in original["media"]]
    for index, content in enumerate(await contents(original)):
        each = document["media"][index]
        data = (changed or {}).get(index, content)
        each["url"] = f"http://127.0.0.1:{server.port}/{each['id']}.jpg"
        each |= {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        server.files[f"/{each['id']}.jpg"] = data
    return sealed(document)


async def send(story: Story, admin: Person, document: Json) -> httpx.Response:
    return await story.post(admin, "/v1/cases", document)


async def is_here(document: Json) -> bool:
    async with database.reading() as session:
        return await session.get(Hazard, UUID(document["case"]["id"])) is not None


async def test_they_are_fetched_and_stay_what_they_are(
    story: Story, admin: Person, original: Json, server: Server
) -> None:
    document = await offered(original, server)
    answer = await send(story, admin, document)
    assert (answer.status_code, answer.json()["pictures"]) == (201, 3)
    again = await paper(story, document["case"]["id"])
    assert lasting(again) == lasting(document)
    assert await contents(document) == await contents(original)
    for each in again["media"]:
        got = await story.client.get(each["url"])
        assert hashlib.sha256(got.content).hexdigest() == each["sha256"]
    seen = await story.get(story.manager, f"/v1/hazards/{document['case']['id']}")
    thumbnail = await story.client.get(seen["photos"][0]["thumbnail_url"])
    assert thumbnail.status_code == 200


async def test_another_picture_than_the_document_says_is_refused(
    story: Story, admin: Person, original: Json, server: Server
) -> None:
    document = await offered(original, server)
    path = f"/{document['media'][1]['id']}.jpg"
    server.files[path] = server.files[path][:-3] + b"x\xff\xd9"
    refused = problem(await send(story, admin, document), 422, "invalid_case")
    assert complaints(refused) == [("body.media.1.sha256", "case_picture")]
    assert not await is_here(document)


def _with_note(jpeg: bytes) -> bytes:
    note = b"GPS 30.6,104.1"
    return jpeg[:2] + b"\xff\xfe" + struct.pack(">H", len(note) + 2) + note + jpeg[2:]


@pytest.mark.parametrize("kind", ["note", "tail", "no picture"])
async def test_what_carries_more_than_a_picture_is_refused(
    story: Story, admin: Person, original: Json, server: Server, kind: str
) -> None:
    [first, *_] = await contents(original)
    data = {"note": _with_note(first), "tail": first + b"<script>", "no picture": b"<html>"}[kind]
    document = await offered(original, server, {0: data})
    refused = problem(await send(story, admin, document), 422, "invalid_case")
    assert complaints(refused) == [("body.media.0.sha256", "case_picture")]
    assert not await is_here(document)


async def test_redirects_are_not_followed_and_missing_ones_are_named(
    story: Story, admin: Person, original: Json, server: Server
) -> None:
    document = await offered(original, server)
    del server.files[f"/{document['media'][0]['id']}.jpg"]
    refused = problem(await send(story, admin, document), 422, "invalid_case")
    assert complaints(refused) == [("body.media.0.url", "case_picture_missing")]
    assert "/elsewhere" not in server.asked


@pytest.mark.parametrize(
    "url",
    [
        "http://[::1]/a.jpg",
        "file:///etc/passwd",
        "https://user@example.org/a.jpg",
    ],
)
async def test_addresses_that_are_not_public_are_never_dialled(
    story: Story, admin: Person, original: Json, server: Server, url: str
) -> None:
    document = await offered(original, server)
    document["media"][0]["url"] = url
    refused = problem(await send(story, admin, document), 422, "invalid_case")
    assert complaints(refused) == [("body.media.0.url", "case_picture_missing")]
    assert server.asked == []


async def test_in_production_not_even_this_machine_is_asked(server: Server) -> None:
    server.files["/a.jpg"] = b"x"
    assert await Outbound().get(f"http://127.0.0.1:{server.port}/a.jpg", 100_000) is None
    assert server.asked == []


async def test_no_more_is_read_than_the_picture_may_have(
    story: Story, admin: Person, original: Json, server: Server
) -> None:
    document = await offered(original, server)
    server.files[f"/{document['media'][0]['id']}.jpg"] = b"\xff\xd8" + bytes(20_000_000)
    answer = await send(story, admin, document)
    assert answer.status_code == 422
    assert not await is_here(document)


async def test_what_we_make_is_bare(original: Json) -> None:
    assert all(is_bare(content) for content in await contents(original))
    photo = encoded(quadrants())
    assert not is_bare(photo + b"x")
    assert not is_bare(photo[:-2])
    assert not is_bare(_with_note(photo))
    assert not is_bare(b"")


async def test_nothing_is_left_of_a_refused_case(
    story: Story, admin: Person, original: Json, server: Server
) -> None:
    document = await offered(original, server)
    del server.files[f"/{document['media'][2]['id']}.jpg"]
    assert (await send(story, admin, document)).status_code == 422
    async with database.reading() as session:
        ids = [UUID(each["id"]) for each in document["media"]]
        assert list(await session.scalars(select(Media.id).where(Media.id.in_(ids)))) == []
