"""Fills an empty, migrated database with two years of a district's hazards and with everybody who calls in a benchmark.

Run in a process of its own, whose settings name the database: `python -m benchmarks.data FACTS HAZARDS WRITES`.
"""

import asyncio
import json
import random
import sqlite3
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from uuid import UUID

import asyncpg
from sqlalchemy import Table, make_url, select
from sqlalchemy.dialects.postgresql.asyncpg import dialect as asyncpg_dialect
from sqlalchemy.dialects.sqlite.aiosqlite import dialect as aiosqlite_dialect
from sqlalchemy.sql.schema import ScalarElementColumnDefault

from app import clock
from app.auth import ACCESS_PREFIX
from app.crypto import new_token
from app.db import database
from app.geo import Point, RegionIndex, RegionShape, cell_of, parse_polygon
from app.keys import keyring, vault
from app.models import hazards, media, residents, sessions, staff
from app.models.base import Base
from app.models.hazard_categories import HazardCategory
from app.models.hazards import OPEN_STATUSES, HazardStatus
from app.models.regions import Region, RegionAncestor, RegionLevel
from app.pagination import encode
from app.services.seeding import import_reference
from app.settings import settings

CLIENTS = 16
_TABLES = Base.metadata.tables
_SPAN = timedelta(days=730)
_REPORTERS = 2_000
_CHUNK = 2_000
_WORDS = [
    "消防通道",
    "纸箱",
    "电动车",
    "楼道",
    "充电",
    "路灯",
    "不亮",
    "井盖",
    "松动",
    "三单元",
    "积水",
    "墙皮",
    "脱落",
    "老人",
    "摔倒",
    "请尽快",
    "处理",
    "北门",
]
# What two years of a district look like: nearly everything is settled.
_SHARES = {"closed": 900, "rejected": 20, "resolved": 20, "filed": 15, "accepted": 25, "called": 20}

Row = dict[str, object]


@dataclass(frozen=True, slots=True)
class Facts:
    """What the load generator needs to ask sensible questions. Client `i` is resident, manager and worker `i`."""

    residents: list[str] = field(default_factory=list)
    managers: list[str] = field(default_factory=list)
    workers: list[str] = field(default_factory=list)
    public_ids: list[str] = field(default_factory=list)
    handled_ids: list[list[str]] = field(default_factory=list)
    public_cursors: list[str] = field(default_factory=list)
    handled_cursors: list[list[str]] = field(default_factory=list)
    open_places: list[tuple[float, float, str]] = field(default_factory=list)
    places: list[tuple[float, float, str, str]] = field(default_factory=list)
    people: dict[str, str] = field(default_factory=dict)
    communities: dict[str, str] = field(default_factory=dict)
    categories: list[str] = field(default_factory=list)
    pictures: list[list[str]] = field(default_factory=list)
    filed: list[list[str]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Place:
    community_id: UUID
    region_id: UUID
    lng: float
    lat: float


async def main(path: Path, history: int, writes: int) -> None:
    """Load `history` hazards, and for each client `writes` pictures and as many filed hazards to be used up, once each."""
    random.seed(20261123)
    await database.open()
    async with database.transaction() as session:
        await import_reference(session)
    district = await _read_district()
    await database.close()
    district.people()
    district.history(history)
    district.reserve(writes)
    for name in (
        "residents",
        "staff",
        "grants",
        "sessions",
        "hazards",
        "hazard_deadlines",
        "events",
        "media",
    ):
        await _fill(_TABLES[name], district.rows[name])
    await _settle()
    await asyncio.to_thread(path.write_text, json.dumps(asdict(district.facts)))


async def _read_district() -> "_District":
    async with database.reading() as session:
        codes = await session.scalars(select(HazardCategory.code).where(HazardCategory.public))
        rows = await session.execute(
            select(Region.id, Region.code, Region.level, Region.polygon, RegionAncestor.ancestor_id)
            .join(RegionAncestor, RegionAncestor.region_id == Region.id)
            .where(
                Region.level.in_([RegionLevel.COMMUNITY, RegionLevel.GRID]),
                RegionAncestor.ancestor_id.in_(
                    select(Region.id).where(Region.level == RegionLevel.COMMUNITY)
                ),
            )
        )
        shapes = [
            RegionShape(row.id, row.code, row.level.value, row.ancestor_id, parse_polygon(row.polygon))
            for row in rows
        ]
        return _District(shapes, list(codes))


class _District:
    """Makes the rows of every table, in memory."""

    def __init__(self, shapes: Sequence[RegionShape], codes: list[str]) -> None:
        self.facts = Facts(categories=codes)
        self.rows: dict[str, list[Row]] = {name: [] for name in _TABLES}
        self._codes = codes
        index = RegionIndex(shapes)
        self._places = {
            shape.region_id: list(_points(shape, index)) for shape in shapes if shape.level == "community"
        }
        self._communities = list(self._places)
        self._reporters: list[UUID] = []
        self._callers: list[UUID] = []

    def people(self) -> None:
        """Residents who reported, and the callers: a resident, a manager and a grid worker for each client."""
        for number in range(_REPORTERS):
            self._reporters.append(self._resident(number))
        for client in range(CLIENTS):
            resident = self._resident(_REPORTERS + client)
            self._callers.append(resident)
            self.facts.residents.append(self._session("resident", resident))
            community = self._communities[client]
            self.facts.managers.append(self._session("staff", self._staff(f"manager{client}", community)))
            self.facts.workers.append(self._session("staff", self._staff(f"worker{client}", community)))
            self.facts.communities[self.facts.managers[client]] = str(community)

    def history(self, count: int) -> None:
        """Hazards of two years, spread over all communities."""
        began, step = clock.now() - _SPAN, _SPAN / count
        statuses = random.choices(list(_SHARES), weights=list(_SHARES.values()), k=count)
        made = [
            self._hazard(began + number * step, random.choice(self._communities), HazardStatus(status))
            for number, status in enumerate(statuses)
        ]
        sample = random.sample(made, min(len(made), 20_000))
        self.facts.public_ids.extend(str(row["id"]) for row in sample if row["status"] != "rejected")
        self.facts.public_cursors.extend(encode("list_hazards", str(row["id"])) for row in sample[:2_000])
        for community in self._communities[:CLIENTS]:
            ids = [str(row["id"]) for row in made if row["community_id"] == community]
            self.facts.handled_ids.append(ids)
            self.facts.handled_cursors.append([encode("list_hazards", each) for each in ids[len(ids) // 4 :]])
        self.facts.open_places.extend(
            (float(str(row["lng"])), float(str(row["lat"])), str(row["category"]))
            for row in made
            if row["status"] in OPEN_STATUSES
        )

    def reserve(self, count: int) -> None:
        """What creating and accepting use up: `count` of each for each client."""
        self.facts.places.extend(
            (place.lng, place.lat, str(place.community_id), str(place.region_id))
            for each in self._places.values()
            for place in each
        )
        now = clock.now()
        for client, community in enumerate(self._communities[:CLIENTS]):
            pictures = [self._picture(now, self._callers[client], None) for _ in range(count)]
            self.facts.pictures.append([str(row["id"]) for row in pictures])
            filed = [self._hazard(now, community, HazardStatus.FILED) for _ in range(count)]
            self.facts.filed.append([str(row["id"]) for row in filed])

    def _resident(self, number: int) -> UUID:
        at = clock.now() - _SPAN
        resident_id = _id(at)
        self._add(
            residents.Resident,
            id=resident_id,
            created_at=at,
            openid_index=f"benchmark-{number}",
            nickname_sealed=_sealed("residents", "nickname", resident_id, random.choice(_WORDS)),
            phone_sealed=_sealed("residents", "phone", resident_id, f"+86139{number:08d}"),
        )
        return resident_id

    def _staff(self, username: str, community: UUID) -> UUID:
        at = clock.now() - _SPAN
        staff_id = _id(at)
        self._add(
            staff.Staff,
            id=staff_id,
            created_at=at,
            username=username,
            display_name_sealed=_sealed("staff", "display_name", staff_id, "王小明"),
            totp_secret_sealed=_sealed("staff", "totp_secret", staff_id, "-"),
            password_hash="-",
        )
        role = "community_manager" if username.startswith("manager") else "grid_worker"
        self._add(staff.Grant, id=_id(at), created_at=at, staff_id=staff_id, role=role, region_id=community)
        return staff_id

    def _session(self, kind: str, principal_id: UUID) -> str:
        now, token = clock.now(), new_token(ACCESS_PREFIX)
        session_id = _id(now)
        self._add(
            sessions.LoginSession,
            id=session_id,
            created_at=now,
            family_id=session_id,
            principal_kind=kind,
            principal_id=principal_id,
            access_digest=keyring.token_digest(token),
            access_expires_at=now + timedelta(days=1),
            refresh_digest=str(session_id),
            expires_at=now + timedelta(days=1),
        )
        self.facts.people[token] = str(principal_id)
        return token

    def _hazard(self, at: datetime, community: UUID, status: HazardStatus) -> Row:
        place = random.choice(self._places[community])
        hazard_id, reporter = _id(at), random.choice(self._reporters)
        text = "，".join(random.choices(_WORDS, k=8))
        is_open, is_solved = status in OPEN_STATUSES, status in (HazardStatus.RESOLVED, HazardStatus.CLOSED)
        solved_at = at + timedelta(hours=5) if is_solved else None
        row = self._add(
            hazards.Hazard,
            id=hazard_id,
            created_at=at,
            event_seq=1,
            community_id=place.community_id,
            region_id=place.region_id,
            category=random.choice(self._codes),
            description_sealed=_sealed("hazards", "description", hazard_id, text),
            address_sealed=_sealed("hazards", "address", hazard_id, "枫林苑3栋1单元门口"),
            lng=place.lng,
            lat=place.lat,
            cell=cell_of(place.lng, place.lat),
            reporter_id=reporter,
            anonymous=random.random() < 0.7,
            public_state="visible",
            status=status.value,
            due_at=at + timedelta(hours=8) if is_open else None,
            resolved_at=solved_at,
            outcome="fixed" if is_solved else None,
            closed_at=solved_at if status is HazardStatus.CLOSED else None,
            reject_reason="not_a_hazard" if status is HazardStatus.REJECTED else None,
        )
        self._add(
            _TABLES["hazard_deadlines"],
            id=_id(at),
            created_at=at,
            hazard_id=hazard_id,
            n=1,
            level="grid",
            started_at=at,
            warn_at=at + timedelta(hours=7),
            due_at=at + timedelta(hours=8),
            ended_at=None if is_open else at + timedelta(hours=5),
        )
        self._event(at, row)
        self._picture(at, reporter, row)
        return row

    def _event(self, at: datetime, hazard: Row) -> None:
        self._add(
            _TABLES["events"],
            id=_id(at),
            type="hazard.filed",
            audience="parties",
            community_id=hazard["community_id"],
            region_id=hazard["region_id"],
            subject_kind="hazards",
            subject_id=hazard["id"],
            seq=1,
            actor_kind="resident",
            actor_id=hazard["reporter_id"],
            occurred_at=at,
            payload={"status": "filed"},
        )

    def _picture(self, at: datetime, owner: UUID, hazard: Row | None) -> Row:
        picture_id = _id(at)
        return self._add(
            media.Media,
            id=picture_id,
            created_at=at,
            owner_kind="resident",
            owner_id=owner,
            purpose="hazard",
            content_type="image/jpeg",
            bytes=183_042,
            width=1440,
            height=1080,
            sha256=picture_id.hex,
            storage_key=f"{picture_id}-main",
            thumbnail_key=f"{picture_id}-thumbnail",
            community_id=hazard["community_id"] if hazard else None,
            subject_kind="hazards" if hazard else None,
            subject_id=hazard["id"] if hazard else None,
            review="passed" if hazard else "pending",
        )

    def _add(self, table: "type[Base] | Table", **row: object) -> Row:
        if not isinstance(table, Table):
            table = _TABLES[table.__tablename__]
        for column in table.columns:
            default = column.default
            if column.key not in row and isinstance(default, ScalarElementColumnDefault):
                row[column.key] = default.arg
        self.rows[table.name].append(row)
        return row


def _points(shape: RegionShape, index: RegionIndex) -> Iterator[_Place]:
    """Some fifty places inside a community."""
    min_lng, min_lat, max_lng, max_lat = shape.outline.bounds
    for _ in range(100):
        point = Point(round(random.uniform(min_lng, max_lng), 7), round(random.uniform(min_lat, max_lat), 7))
        found = index.locate(point.lng, point.lat)
        if found is not None and found.community_id == shape.region_id:
            yield _Place(found.community_id, found.grid_id or found.community_id, point.lng, point.lat)


def _id(at: datetime) -> UUID:
    """A UUIDv7 of that time."""
    milliseconds = int(at.timestamp() * 1000)
    return UUID(
        int=milliseconds << 80 | 7 << 76 | random.getrandbits(12) << 64 | 2 << 62 | random.getrandbits(62)
    )


def _sealed(table: str, column: str, row_id: UUID, text: str) -> bytes:
    return vault.seal(text, table=table, column=f"{column}_sealed", row_id=row_id)


async def _fill(table: Table, rows: Sequence[Row]) -> None:
    """Add the rows by the fastest way that the database has."""
    names = list({name: None for row in rows for name in row})
    dialect = aiosqlite_dialect() if settings.is_sqlite else asyncpg_dialect()  # type: ignore[no-untyped-call]
    processors = [table.c[name].type.dialect_impl(dialect).bind_processor(dialect) for name in names]
    records = [
        tuple(
            process(row.get(name)) if process else row.get(name)
            for name, process in zip(names, processors, strict=True)
        )
        for row in rows
    ]
    if settings.is_sqlite:
        with sqlite3.connect(str(make_url(settings.database_url).database)) as file:
            marks = ", ".join("?" * len(names))
            file.executemany(f"INSERT INTO {table.name} ({', '.join(names)}) VALUES ({marks})", records)
        return
    connection = await asyncpg.connect(settings.database_url)
    await connection.copy_records_to_table(table.name, records=records, columns=names)
    await connection.close()


async def _settle() -> None:
    """Statistics for the planner, and no vacuum that starts in the middle."""
    if settings.is_sqlite:
        with sqlite3.connect(str(make_url(settings.database_url).database)) as file:
            file.execute("ANALYZE")
        return
    connection = await asyncpg.connect(settings.database_url)
    await connection.execute("VACUUM ANALYZE")
    await connection.execute("CHECKPOINT")
    await connection.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
