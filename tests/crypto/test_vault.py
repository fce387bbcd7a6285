"""Sealed columns and blind indexes: they open at their own place only, survive rotation, and keep their format."""

import base64
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.crypto import Keyring, SealBroken, Vault

KEY_1 = "k1:" + base64.urlsafe_b64encode(bytes(range(32))).decode()
KEY_2 = "k2:" + base64.urlsafe_b64encode(bytes(range(32, 64))).decode()
OLD = Vault(Keyring(KEY_1))
ROTATED = Vault(Keyring(f"{KEY_2},{KEY_1}"))
NEW = Vault(Keyring(KEY_2))
ROW = UUID(int=7)
HEAD_1 = b"\x01k1" + bytes(6)
KEPT = "016b31000000000000000102030405060708090a0ba0cc857a6e0ad79f5a08a43f33af8a85b0a2269737b2fc38ea"
PHONE = "+8613812345678"

names = st.from_regex(r"[a-z_]{1,12}", fullmatch=True)


def opened(vault: Vault, sealed: bytes) -> str:
    return vault.open(sealed, table="residents", column="phone_sealed", row_id=ROW)


def sealed_phone(vault: Vault = OLD) -> bytes:
    return vault.seal(PHONE, table="residents", column="phone_sealed", row_id=ROW)


@given(value=st.text(), table=names, column=names, row_id=st.uuids())
def test_what_was_sealed_opens_at_its_place(value: str, table: str, column: str, row_id: UUID) -> None:
    sealed = OLD.seal(value, table=table, column=column, row_id=row_id)
    assert OLD.open(sealed, table=table, column=column, row_id=row_id) == value


def test_every_flipped_bit_breaks_the_seal() -> None:
    sealed = sealed_phone()
    for bit in range(len(sealed) * 8):
        edited = bytearray(sealed)
        edited[bit // 8] ^= 1 << bit % 8
        with pytest.raises(SealBroken):
            opened(OLD, bytes(edited))


def test_a_longer_or_shorter_value_is_refused() -> None:
    sealed = sealed_phone()
    for edited in (sealed + b"\0", sealed[:-1], sealed[1:], b"\0" + sealed):
        with pytest.raises(SealBroken):
            opened(OLD, edited)


@given(names, names, st.uuids())
def test_a_value_moved_to_another_place_does_not_open(table: str, column: str, row_id: UUID) -> None:
    sealed = sealed_phone()
    for place in (
        {"table": table, "column": "phone_sealed", "row_id": ROW},
        {"table": "residents", "column": column, "row_id": ROW},
        {"table": "residents", "column": "phone_sealed", "row_id": row_id},
    ):
        with pytest.raises(SealBroken):
            OLD.open(sealed, **place)  # type: ignore[arg-type]


@given(st.binary(max_size=80))
def test_rubbish_is_a_broken_seal(rubbish: bytes) -> None:
    for sealed in (rubbish, HEAD_1 + rubbish, HEAD_1 + bytes(12) + rubbish):
        with pytest.raises(SealBroken):
            opened(OLD, sealed)


@pytest.mark.parametrize(
    "rubbish",
    [b"", b"\x01", b"\x02" + HEAD_1[1:], b"\x01" + bytes(8), b"\x01k1\0x\0\0\0\0", b"\x01K1" + bytes(6)],
)
def test_what_was_never_sealed_is_told_as_such(rubbish: bytes) -> None:
    with pytest.raises(SealBroken, match="not a sealed value"):
        opened(OLD, rubbish + bytes(40) if rubbish else rubbish)
    assert not OLD.is_current(rubbish)


def test_text_in_a_column_of_bytes_is_told_as_such() -> None:
    """SQLite stores whatever somebody gives it."""
    with pytest.raises(SealBroken, match="not a sealed value"):
        opened(OLD, "text")  # type: ignore[arg-type]
    assert not OLD.is_current("text")  # type: ignore[arg-type]


def test_a_broken_seal_names_the_place_and_not_the_value() -> None:
    for sealed in (PHONE.encode(), sealed_phone(NEW), sealed_phone()[:-1]):
        with pytest.raises(SealBroken) as caught:
            opened(OLD, sealed)
        assert f"residents.phone_sealed of {ROW}" in str(caught.value)
        assert PHONE not in str(caught.value)
        assert sealed.hex() not in str(caught.value)


def test_the_same_value_never_looks_the_same_and_never_shows() -> None:
    seals = {sealed_phone() for _ in range(50)}
    assert len(seals) == 50
    assert len({sealed[9:21] for sealed in seals}) == 50
    assert not any(PHONE[3:].encode() in sealed for sealed in seals)


def test_rotation_reads_old_values_and_writes_new_ones() -> None:
    old = sealed_phone(OLD)
    assert opened(ROTATED, old) == PHONE
    assert (ROTATED.is_current(old), OLD.is_current(old)) == (False, True)
    new = sealed_phone(ROTATED)
    assert NEW.is_current(new)
    assert opened(NEW, new) == PHONE


def test_a_removed_key_is_named() -> None:
    with pytest.raises(SealBroken, match="no key k1 in the key ring"):
        opened(NEW, sealed_phone(OLD))


def test_a_blind_index_is_stable_and_belongs_to_its_field() -> None:
    index = OLD.blind_index("phone", PHONE)
    assert index == OLD.blind_index("phone", PHONE)
    assert len(bytes.fromhex(index)) == 32
    assert index not in {
        OLD.blind_index("id_number", PHONE),
        OLD.blind_index("phone", PHONE[:-1]),
        NEW.blind_index("phone", PHONE),
    }


def test_lookups_find_rows_of_every_key_while_rotating() -> None:
    assert ROTATED.blind_indexes("phone", PHONE) == [
        NEW.blind_index("phone", PHONE),
        OLD.blind_index("phone", PHONE),
    ]


def test_the_format_is_kept() -> None:
    """A change of labels or formats would orphan every stored value; this one was made by an earlier version."""
    sealed = bytes.fromhex(KEPT)
    assert OLD.open(sealed, table="residents", column="name_sealed", row_id=ROW) == "张小明"
    assert (
        OLD.blind_index("phone", PHONE) == "c25a1dc48536a13b2be08fb9d63d6cbcbb2a95647122230e5ca142867f25abf2"
    )


def test_a_seal_of_one_row_does_not_open_in_a_copy() -> None:
    row, copy = uuid4(), uuid4()
    sealed = OLD.seal("张小明", table="residents", column="name_sealed", row_id=row)
    with pytest.raises(SealBroken, match="does not authenticate"):
        OLD.open(sealed, table="residents", column="name_sealed", row_id=copy)
