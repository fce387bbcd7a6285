"""Bringing stored values under a new key: beside writers, after an interruption, and around rows that cannot be helped."""

import asyncio
import base64
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

import pytest
from sqlalchemy import insert, select, update

from app import clock
from app.crypto import Keyring, Vault
from app.db import Database
from app.ids import new_id
from app.models.households import Household, HouseholdRelation, HouseholdStatus
from app.models.idempotency import IdempotencyKey
from app.models.residents import Resident
from app.services import households, key_rotation
from app.services.key_rotation import SealedTable, sealed_tables
from app.settings import settings
from tests.factories import Places

NEW = "new:" + base64.urlsafe_b64encode(b"n" * 32).decode().rstrip("=")
BEFORE = Keyring(f"{settings.secret_keys},{NEW}")
"""The new key is known everywhere before anybody seals under it."""
AFTER = Keyring(f"{NEW},{settings.secret_keys}")
ALONE = Keyring(NEW)
OLD = BEFORE.current
PEOPLE = 60
TABLES = {sealed.table.name: sealed for sealed in sealed_tables()}


@pytest.fixture(autouse=True)
async def back_again(db: Database, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """Small batches, and afterwards everything under the key that the other tests know."""
    monkeypatch.setattr(key_rotation, "BATCH", 10)
    yield
    for sealed in TABLES.values():
        await key_rotation.rotate(sealed, BEFORE, lambda _: None)


def test_every_table_with_sealed_columns_is_known() -> None:
    assert {name: sealed.names for name, sealed in TABLES.items()}.items() >= {
        "residents": ("openid", "nickname", "phone", "real_name", "id_number"),
        "idempotency_keys": ("answer",),
        "sessions": ("successor",),
    }.items()
    assert TABLES["residents"].indexed == {"openid", "phone", "id_number"}
    assert TABLES["households"].indexed == {"address"}


async def test_nothing_is_lost_while_others_write_and_look_up(db: Database) -> None:
    people = [await _make_resident(db, number) for number in range(PEOPLE)]
    phones: dict[UUID, str] = {}
    stop = asyncio.Event()
    writers = [_write(db, people, phones, keyring, stop) for keyring in (BEFORE, AFTER, AFTER)]
    running = asyncio.gather(*writers, _look_up(db, people, stop))
    async with asyncio.timeout(30):
        while len(phones) < PEOPLE * 2 / 3:
            await _rotate("residents")
    stop.set()
    await running
    outcome = await _rotate("residents")
    assert outcome.broken == []
    assert await _mine_by_kid(db, people) == {"new": 2 * PEOPLE}
    vault = Vault(ALONE)
    async with db.reading() as session:
        for number, resident_id in enumerate(people):
            row = (await session.scalars(select(Resident).where(Resident.id == resident_id))).one()
            assert _open(vault, row, "openid") == _openid(number)
            assert row.openid_index == vault.blind_index("openid", _openid(number))
            phone = phones.get(resident_id, _phone(number))
            assert _open(vault, row, "phone") == phone
            assert row.phone_index == vault.blind_index("phone", phone)


async def test_an_interrupted_rotation_goes_on_where_it_ended(db: Database) -> None:
    people = [await _make_resident(db, number) for number in range(25)]

    def break_off(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await key_rotation.rotate(TABLES["residents"], AFTER, break_off)
    under = await _counted(db, "residents")
    assert under["new"] > 0
    assert under[OLD] > 0
    await _rotate("residents")
    assert await _mine_by_kid(db, people) == {"new": 50}
    async with db.reading() as session:
        assert await key_rotation.count_stale(session, TABLES["residents"], AFTER) == 0


async def test_progress_counts_what_is_stale(db: Database) -> None:
    for number in range(12):
        await _make_resident(db, number)
    async with db.reading() as session:
        stale = await key_rotation.count_stale(session, TABLES["residents"], AFTER)
    done: list[int] = []
    outcome = await key_rotation.rotate(TABLES["residents"], AFTER, done.append)
    assert sum(done) == stale == outcome.resealed
    assert max(done) == key_rotation.BATCH
    assert (await _rotate("residents")).resealed == 0


async def test_an_address_is_found_by_its_normal_form_afterwards(db: Database, places: Places) -> None:
    resident_id = await _make_resident(db, 1)
    household_id, address = new_id(), "3栋 1单元 ２０３"
    async with db.transaction() as session:
        await session.execute(
            insert(Household).values(
                id=household_id,
                created_at=clock.now(),
                resident_id=resident_id,
                community_id=places.community,
                region_id=places.building,
                address_sealed=_seal(Vault(BEFORE), "households", "address", household_id, address),
                address_index=Vault(BEFORE).blind_index(
                    "address", households.address_key(places.building, address)
                ),
                relation=HouseholdRelation.OWNER,
                status=HouseholdStatus.CLAIMED,
                event_seq=0,
                version=1,
            )
        )
    await _rotate("households")
    wanted = Vault(ALONE).blind_index("address", households.address_key(places.building, "3栋1单元203"))
    async with db.reading() as session:
        row = (await session.scalars(select(Household).where(Household.address_index == wanted))).one()
    assert row.id == household_id
    assert Vault(ALONE).open(
        row.address_sealed or b"", table="households", column="address_sealed", row_id=row.id
    ) == (address)


async def test_kept_answers_are_sealed_to_their_scope(db: Database) -> None:
    scope = f"{new_id().hex}{new_id().hex}"
    sealed = _seal(Vault(BEFORE), "idempotency_keys", "answer", UUID(scope[:32]), "{}")
    async with db.transaction() as session:
        await session.execute(
            insert(IdempotencyKey).values(
                scope=scope,
                fingerprint="x",
                caller_id=new_id(),
                status=200,
                answer_sealed=sealed,
                created_at=clock.now(),
            )
        )
    await _rotate("idempotency_keys")
    async with db.reading() as session:
        row = await session.get_one(IdempotencyKey, scope)
    answer = Vault(ALONE).open(
        row.answer_sealed or b"", table="idempotency_keys", column="answer_sealed", row_id=UUID(scope[:32])
    )
    assert answer == "{}"


async def test_rows_that_cannot_be_opened_are_named_and_left(db: Database) -> None:
    good, bad, foreign = [await _make_resident(db, number) for number in range(3)]
    stranger = Vault(Keyring("gone:" + base64.urlsafe_b64encode(b"g" * 32).decode()))
    damaged = _seal(Vault(BEFORE), "residents", "phone", new_id(), "+8619900000000")
    async with _changed(db, bad, phone_sealed=damaged):
        async with _changed(db, foreign, phone_sealed=_seal(stranger, "residents", "phone", foreign, "1")):
            outcome = await _rotate("residents")
            assert sorted(outcome.broken) == sorted(
                [
                    f"residents.phone_sealed of {bad}: does not authenticate",
                    f"residents.phone_sealed of {foreign}: no key gone in the key ring",
                ]
            )
            counted = await _counted(db, "residents")
            assert counted["?"] == 1
            assert counted[OLD] >= 2
    assert await _mine_by_kid(db, [good]) == {"new": 2}


@pytest.mark.parametrize("spoiled", [b"", b"\0", b"\x01K\xff\xff"])
async def test_what_is_no_seal_is_named_with_its_place(db: Database, spoiled: bytes) -> None:
    bad = await _make_resident(db, 4)
    async with _changed(db, bad, phone_sealed=spoiled):
        outcome = await _rotate("residents")
        assert outcome.broken == [f"residents.phone_sealed of {bad}: not a sealed value"]


async def test_an_index_that_belongs_to_another_value_is_not_sealed_in(db: Database) -> None:
    resident_id = await _make_resident(db, 7)
    async with _changed(db, resident_id, phone_index="0" * 64):
        outcome = await _rotate("residents")
        assert outcome.broken == [f"residents {resident_id}: phone_index does not belong to phone_sealed"]


async def test_two_rows_that_become_the_same_are_named(db: Database) -> None:
    """One person under two keys: whoever looked up with the old ring alone made a second row."""
    first = await _make_resident(db, 9)
    second = await _make_resident(db, 10)
    new = Vault(AFTER)
    same: dict[str, object] = {
        "openid_sealed": _seal(new, "residents", "openid", second, _openid(9)),
        "openid_index": new.blind_index("openid", _openid(9)),
    }
    async with _changed(db, second, **same):
        outcome = await _rotate("residents")
        assert outcome.broken == [f"residents {first}: another row has the same value under the current key"]


def _openid(number: int) -> str:
    return f"o{number:027}"


def _phone(number: int) -> str:
    return f"+86190000{number:05}"


def _seal(vault: Vault, table: str, name: str, row_id: UUID, text: str) -> bytes:
    return vault.seal(text, table=table, column=f"{name}_sealed", row_id=row_id)


def _open(vault: Vault, row: Resident, name: str) -> str:
    sealed = getattr(row, f"{name}_sealed")
    return vault.open(sealed, table="residents", column=f"{name}_sealed", row_id=row.id)


async def _make_resident(db: Database, number: int) -> UUID:
    """A resident under the old key."""
    vault, resident_id = Vault(BEFORE), new_id()
    async with db.transaction() as session:
        await session.execute(
            update(Resident)
            .where(Resident.openid_index.in_(vault.blind_indexes("openid", _openid(number))))
            .values(openid_index=None, openid_sealed=None)
        )
        await session.execute(
            insert(Resident).values(
                id=resident_id,
                created_at=clock.now(),
                openid_sealed=_seal(vault, "residents", "openid", resident_id, _openid(number)),
                openid_index=vault.blind_index("openid", _openid(number)),
                phone_sealed=_seal(vault, "residents", "phone", resident_id, _phone(number)),
                phone_index=vault.blind_index("phone", _phone(number)),
                language="zh-CN",
                event_seq=0,
                version=1,
            )
        )
    return resident_id


async def _write(
    db: Database, people: list[UUID], phones: dict[UUID, str], keyring: Keyring, stop: asyncio.Event
) -> None:
    """A server that binds phone numbers while keys rotate."""
    vault, dice = Vault(keyring), random.Random(keyring.current)
    while not stop.is_set():
        resident_id, phone = dice.choice(people), _phone(dice.randrange(10**5))
        async with db.transaction() as session:
            await session.execute(select(Resident.id).where(Resident.id == resident_id).with_for_update())
            await session.execute(
                update(Resident)
                .where(Resident.id == resident_id)
                .values(
                    phone_sealed=_seal(vault, "residents", "phone", resident_id, phone),
                    phone_index=vault.blind_index("phone", phone),
                )
                .execution_options(synchronize_session=False)
            )
            phones[resident_id] = phone
        await asyncio.sleep(0.001)


async def _look_up(db: Database, people: list[UUID], stop: asyncio.Event) -> None:
    """Somebody signs in again and again, with either ring: found every time, as the same person."""
    dice, vaults = random.Random(1), (Vault(BEFORE), Vault(AFTER))
    while not stop.is_set():
        number = dice.randrange(len(people))
        indexes = dice.choice(vaults).blind_indexes("openid", _openid(number))
        async with db.reading() as session:
            found = list(await session.scalars(select(Resident.id).where(Resident.openid_index.in_(indexes))))
        assert found == [people[number]]
        await asyncio.sleep(0.001)


async def _rotate(table: str) -> key_rotation.Outcome:
    return await key_rotation.rotate(TABLES[table], AFTER, lambda _: None)


async def _counted(db: Database, table: str) -> Counter[str]:
    async with db.reading() as session:
        return await key_rotation.count_by_kid(session, TABLES[table], AFTER)


async def _mine_by_kid(db: Database, people: list[UUID]) -> Counter[str]:
    sealed: SealedTable = TABLES["residents"]
    counted: Counter[str] = Counter()
    async with db.reading() as session:
        rows = await session.execute(select(sealed.table).where(sealed.table.c.id.in_(people)))
        for row in rows.mappings():
            values = [row[f"{name}_sealed"] for name in sealed.names]
            counted.update(value[1:9].rstrip(b"\0").decode() for value in values if value)
    return counted


@asynccontextmanager
async def _changed(db: Database, resident_id: UUID, **columns: object) -> AsyncIterator[None]:
    """A resident with other columns inside the block, and with none of those after it."""
    order = update(Resident).where(Resident.id == resident_id)
    async with db.transaction() as session:
        await session.execute(order.values(columns))
    try:
        yield
    finally:
        async with db.transaction() as session:
            await session.execute(order.values(dict.fromkeys(columns)))
