"""The limit: one ASGI function with asyncpg and orjson that does the same reads and writes by hand, and nothing else.

No token is looked up, nobody's scope is asked, nothing is sealed, validated, counted, logged or made repeatable. What the
service has sealed is text here.
`python -m benchmarks.bare FACTS DATABASE_URL PORT`.
"""

import base64
import json
import math
import sys
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypedDict
from urllib.parse import parse_qsl
from uuid import UUID

import asyncpg
import orjson
import uvicorn
from starlette.types import Receive, Scope, Send

from app.geo import Point, cell_of, cells_around, distance_m
from app.ids import new_id
from benchmarks.questions import Facts

CONNECTIONS = 16
_LISTED = """
    SELECT h.id, h.community_id, h.region_id, h.category, h.status, h.outcome,
        encode(h.description_sealed, 'base64') AS description, h.lng, h.lat, h.supporters, h.due_at, h.overdue_at,
        h.created_at, h.version,
        (SELECT m.id FROM media m WHERE m.subject_kind = 'hazards' AND m.subject_id = h.id AND m.erased_at IS NULL
         AND m.purpose = 'hazard' ORDER BY m.created_at, m.position LIMIT 1) AS picture_id
    FROM hazards h"""
DETAIL = """
    SELECT h.id, h.version, h.community_id, h.region_id, h.category, h.source, h.status,
        encode(h.description_sealed, 'base64') AS description, h.lng, h.lat,
        encode(h.address_sealed, 'base64') AS address, h.anonymous, h.reporter_id, h.supporters, h.handler_id, h.refusals, h.hops, h.due_at,
        h.overdue_at, h.outcome, h.unfixed_reason, h.exemption, h.dispute_until, h.disputes, h.reject_reason,
        h.duplicate_of_id, h.rating, h.created_at, h.accepted_at, h.resolved_at, h.closed_at,
        encode(r.nickname_sealed, 'base64') AS nickname, encode(r.phone_sealed, 'base64') AS phone,
        encode(s.display_name_sealed, 'base64') AS name, s.username,
        (SELECT json_agg(p) FROM (
            SELECT m.id, m.content_type, m.bytes, m.width, m.height, m.purpose, m.review FROM media m
            WHERE m.subject_kind = 'hazards' AND m.subject_id = h.id AND m.erased_at IS NULL
            ORDER BY m.created_at, m.position) p) AS pictures
    FROM hazards h LEFT JOIN residents r ON r.id = h.reporter_id LEFT JOIN staff s ON s.id = h.handler_id
    WHERE h.id = $1"""
PUBLIC_PAGE = _LISTED + " WHERE h.id < $1 AND h.public_state <> 'hidden' ORDER BY h.id DESC LIMIT 21"
HANDLED_PAGE = _LISTED + " WHERE h.community_id = $2 AND h.id < $1 ORDER BY h.id DESC LIMIT 21"
NEARBY = (
    _LISTED
    + """ WHERE h.category = $1 AND h.cell = ANY ($2)
        AND h.status IN ('filed', 'accepted', 'called', 'dispatched', 'checked_in')
    ORDER BY (h.lng - $3) * (h.lng - $3) * $5 + (h.lat - $4) * (h.lat - $4) LIMIT 20"""
)
REPORTER = "SELECT encode(nickname_sealed, 'base64') FROM residents WHERE id = $1 AND deleted_at IS NULL"
FILE = """
    INSERT INTO hazards (id, created_at, community_id, region_id, category, description_sealed, address_sealed, lng, lat,
        cell, source, reporter_id, anonymous, public_state, supporters, status, refusals, hops, due_at, disputes, event_seq,
        version)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 'mini_program', $11, $12, 'pending', 0, 'filed', 0, 0, $13, 0, 1, 1)"""
TAKE_PICTURES = """
    UPDATE media SET subject_kind = 'hazards', subject_id = $2, community_id = $3
    WHERE id = ANY ($1) AND owner_kind = 'resident' AND owner_id = $4 AND purpose = 'hazard' AND subject_id IS NULL
        AND erased_at IS NULL RETURNING id, content_type, bytes, width, height"""
START_CLOCK = """
    INSERT INTO hazard_deadlines (id, created_at, hazard_id, n, level, started_at, warn_at, due_at)
    VALUES ($1, $2, $3, 1, 'grid', $2, $4, $5)"""
RECORD = """
    INSERT INTO events (id, type, audience, community_id, region_id, subject_kind, subject_id, seq, actor_kind, actor_id,
        occurred_at, payload)
    VALUES ($1, $2, 'parties', $3, $4, 'hazards', $5, $6, $7, $8, $9, $10)"""
ENQUEUE = """
    INSERT INTO tasks (id, created_at, kind, key, payload, status, run_at, attempts)
    VALUES ($1, $2, 'review.text', NULL, $3, 'queued', $2, 0), ($4, $2, 'review.media', NULL, $5, 'queued', $2, 0)
    ON CONFLICT (key) DO NOTHING"""
LOCK = "SELECT status, version, event_seq, community_id, region_id FROM hazards WHERE id = $1 FOR UPDATE"
TAKE = """
    UPDATE hazards SET status = 'accepted', handler_id = $2, accepted_at = $3, version = $4, event_seq = $5
    WHERE id = $1"""


class Report(TypedDict):
    """What the load generator files."""

    category: str
    description: str
    media_ids: list[str]
    location: dict[str, float]
    address: str
    anonymous: bool


class Bare:
    """The ASGI function, with its connections and what it knows of the callers."""

    def __init__(self, facts: Facts, database_url: str) -> None:
        self._url = database_url
        self._people = {token: UUID(each) for token, each in facts["people"].items()}
        self._communities = {token: UUID(each) for token, each in facts["communities"].items()}
        self._places = {
            (lng, lat): (UUID(community), UUID(region)) for lng, lat, community, region in facts["places"]
        }
        self._free: list[asyncpg.Connection[asyncpg.Record]] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        connection = self._free.pop()
        try:
            status, body = await self._answer(connection, scope, receive)
        finally:
            self._free.append(connection)
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        for _ in range(CONNECTIONS):
            self._free.append(await asyncpg.connect(self._url, server_settings={"jit": "off"}))
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})

    async def _answer(
        self, connection: "asyncpg.Connection[asyncpg.Record]", scope: Scope, receive: Receive
    ) -> tuple[int, bytes]:
        path, token = scope["path"], dict(scope["headers"])[b"authorization"].decode()[7:]
        if scope["method"] == "POST":
            body = (await receive())["body"]
            if path == "/v1/hazards":
                return 201, await self._create(connection, token, orjson.loads(body))
            return 200, await self._accept(connection, token, UUID(path.split("/")[3]))
        query = dict(parse_qsl(scope["query_string"].decode()))
        if path == "/v1/hazards":
            return 200, await self._page(connection, token, query)
        if path == "/v1/hazards/nearby":
            return 200, await self._nearby(connection, query)
        return 200, _whole(await connection.fetchrow(DETAIL, UUID(path[12:])))

    async def _page(
        self, connection: "asyncpg.Connection[asyncpg.Record]", token: str, query: Mapping[str, str]
    ) -> bytes:
        cursor = query["cursor"].partition(".")[0]
        last = UUID(json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))[0])
        if "scope" in query:
            rows = await connection.fetch(PUBLIC_PAGE, last)
        else:
            rows = await connection.fetch(HANDLED_PAGE, last, self._communities[token])
        following = str(rows[19]["id"]) if len(rows) > 20 else None
        return _dumps({"items": [dict(row) for row in rows[:20]], "next_cursor": following})

    async def _nearby(
        self, connection: "asyncpg.Connection[asyncpg.Record]", query: Mapping[str, str]
    ) -> bytes:
        here = Point(float(query["lng"]), float(query["lat"]))
        squeeze = math.cos(math.radians(here.lat)) ** 2
        cells = cells_around(here.lng, here.lat, 250)
        rows = await connection.fetch(NEARBY, query["category"], cells, here.lng, here.lat, squeeze)
        near = [(distance_m(here, Point(row["lng"], row["lat"])), row) for row in rows]
        items = [dict(row) | {"distance_m": round(metres)} for metres, row in near if metres <= 250]
        return _dumps({"items": items, "next_cursor": None})

    async def _create(
        self, connection: "asyncpg.Connection[asyncpg.Record]", token: str, body: Report
    ) -> bytes:
        reporter, now, hazard_id = self._people[token], datetime.now(UTC), new_id()
        lng, lat = body["location"]["lng"], body["location"]["lat"]
        community, region = self._places[lng, lat]
        due, pictures = now + timedelta(hours=8), [UUID(each) for each in body["media_ids"]]
        text, address, anonymous = body["description"], body["address"], body["anonymous"]
        place = (community, region)
        payload = orjson.dumps({"status": "filed", "version": 1, "category": body["category"]}).decode()
        await connection.execute("BEGIN")
        person = await connection.fetchrow(REPORTER, reporter)
        hazard = (
            hazard_id,
            now,
            *place,
            body["category"],
            text.encode(),
            address.encode(),
            lng,
            lat,
            cell_of(lng, lat),
        )
        await connection.execute(FILE, *hazard, reporter, anonymous, due)
        taken = await connection.fetch(TAKE_PICTURES, pictures, hazard_id, community, reporter)
        await connection.execute(START_CLOCK, new_id(), now, hazard_id, now + timedelta(hours=7), due)
        await connection.execute(
            RECORD, new_id(), "hazard.filed", *place, hazard_id, 1, "resident", reporter, now, payload
        )
        for_text = orjson.dumps({"hazard_id": str(hazard_id)}).decode()
        for_picture = orjson.dumps({"media_id": str(pictures[0])}).decode()
        await connection.execute(ENQUEUE, new_id(), now, for_text, new_id(), for_picture)
        await connection.execute("COMMIT")
        answer = {
            "id": hazard_id,
            "version": 1,
            "community_id": community,
            "region_id": region,
            "category": body["category"],
            "status": "filed",
            "description": text,
            "location": {"lng": lng, "lat": lat},
            "address": address,
            "anonymous": anonymous,
            "reporter_name": person[0] if person else None,
            "photos": [dict(each) for each in taken],
            "due_at": due,
            "created_at": now,
        }
        return _dumps(answer)

    async def _accept(
        self, connection: "asyncpg.Connection[asyncpg.Record]", token: str, hazard_id: UUID
    ) -> bytes:
        worker, now = self._people[token], datetime.now(UTC)
        await connection.execute("BEGIN")
        row = await connection.fetchrow(LOCK, hazard_id)
        if row is None or row["status"] != "filed":
            await connection.execute("ROLLBACK")
            return b"{}"
        await connection.execute(TAKE, hazard_id, worker, now, row["version"] + 1, row["event_seq"] + 1)
        payload = orjson.dumps({"status": "accepted", "version": row["version"] + 1}).decode()
        place = (row["community_id"], row["region_id"])
        event = (
            new_id(),
            "hazard.accepted",
            *place,
            hazard_id,
            row["event_seq"] + 1,
            "staff",
            worker,
            now,
            payload,
        )
        await connection.execute(RECORD, *event)
        answer = await connection.fetchrow(DETAIL, hazard_id)
        await connection.execute("COMMIT")
        return _whole(answer)


def _whole(row: "asyncpg.Record | None") -> bytes:
    """All columns; the pictures are JSON already."""
    values = dict(row or ())
    values["pictures"] = orjson.Fragment(values["pictures"] or b"[]")
    return _dumps(values)


def _dumps(value: object) -> bytes:
    return orjson.dumps(value, default=str)


def main() -> None:
    facts, database_url, port = sys.argv[1:]
    app = Bare(json.loads(Path(facts).read_text()), database_url)
    uvicorn.run(app, port=int(port), log_level="warning", access_log=False)


if __name__ == "__main__":
    main()
