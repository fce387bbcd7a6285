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
PHONE = "+8613812345678"

names = st.from_regex(r"[a-z_]{1,12}", fullmatch=True)


def opened(vault: Vault, sealed: str) -> str:
    return vault.open(sealed, table="residents", column="phone_sealed", row_id=ROW)


def sealed_phone(vault: Vault = OLD) -> str:
    return vault.seal(PHONE, table="residents", column="phone_sealed", row_id=ROW)


@given(value=st.text(), table=names, column=names, row_id=st.uuids())
def test_what_was_sealed_opens_at_its_place(value: str, table: str, column: str, row_id: UUID) -> None:
    sealed = OLD.seal(value, table=table, column=column, row_id=row_id)
    assert OLD.open(sealed, table=table, column=column, row_id=row_id) == value


@given(st.data())
def test_every_flipped_bit_breaks_the_seal(data: st.DataObject) -> None:
    raw = bytearray(sealed_phone().encode())
    bit = data.draw(st.integers(0, len(raw) * 8 - 1))
    raw[bit // 8] ^= 1 << bit % 8
    with pytest.raises(SealBroken):
        opened(OLD, raw.decode("latin-1"))


def test_every_single_bit_of_nonce_and_ciphertext_counts() -> None:
    version, kid, text = sealed_phone().split(".")
    raw = base64.b64decode(text)
    for bit in range(len(raw) * 8):
        edited = bytearray(raw)
        edited[bit // 8] ^= 1 << bit % 8
        with pytest.raises(SealBroken):
            opened(OLD, ".".join((version, kid, base64.b64encode(edited).decode())))


@pytest.mark.parametrize("value", ["abc", "abcd"], ids=["4 spare bits", "2 spare bits"])
def test_another_spelling_of_the_same_bytes_is_refused(value: str) -> None:
    sealed = OLD.seal(value, table="residents", column="phone_sealed", row_id=ROW)
    digits = sealed.rstrip("=")
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_"
    for last in alphabet.replace(digits[-1], ""):
        with pytest.raises(SealBroken):
            opened(OLD, digits[:-1] + last + sealed[len(digits) :])
    for tail in ("=", "==", "\n", " "):
        with pytest.raises(SealBroken):
            opened(OLD, sealed + tail)


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


@given(st.text(max_size=80))
def test_rubbish_is_a_broken_seal(text: str) -> None:
    for sealed in (text, f"v1.k1.{text}", f"v1.k1.AAECAwQFBgcICQoL.{text}", f"v2.k1.{text}"):
        with pytest.raises(SealBroken):
            opened(OLD, sealed)
    with pytest.raises(SealBroken):
        OLD.kid_of(text)


def test_a_broken_seal_names_the_place_and_not_the_value() -> None:
    for sealed in (PHONE, sealed_phone(NEW), sealed_phone()[:-1]):
        with pytest.raises(SealBroken) as caught:
            opened(OLD, sealed)
        assert f"residents.phone_sealed of {ROW}" in str(caught.value)
        assert PHONE not in str(caught.value)
        assert sealed not in str(caught.value)


def test_the_same_value_never_looks_the_same_and_never_shows() -> None:
    seals = {sealed_phone() for _ in range(50)}
    assert len(seals) == 50
    assert len({base64.b64decode(sealed.split(".")[2])[:12] for sealed in seals}) == 50
    assert not any("138" in base64.b64decode(s.split(".")[2]).decode("latin-1") for s in seals)


def test_rotation_reads_old_values_and_writes_new_ones() -> None:
    old = sealed_phone(OLD)
    assert opened(ROTATED, old) == PHONE
    assert (ROTATED.kid_of(old), ROTATED.is_current(old), OLD.is_current(old)) == ("k1", False, True)
    new = sealed_phone(ROTATED)
    assert (NEW.kid_of(new), NEW.is_current(new)) == ("k2", True)
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


def test_what_earlier_versions_stored_still_opens() -> None:
    """A change of labels or formats would orphan every stored value; these were made by earlier versions."""
    sealed = "v1.k1.AAECAwQFBgcICQoL.oMyFem4K159aV2soel-L5fNhV3IOkyC0Nw"
    assert OLD.open(sealed, table="residents", column="name_sealed", row_id=ROW) == "张小明"
    for other in (
        sealed[:-1] + "x",
        sealed + "=",
        sealed.replace("-", "+"),
        sealed + "A",
        sealed.replace("-", "="),
    ):
        with pytest.raises(SealBroken):
            OLD.open(other, table="residents", column="name_sealed", row_id=ROW)
    second = "v2.k1.AAECAwQFBgcICQoLoMyFem4K159aV2soel+L5fNhV3IOkyC0Nw=="
    assert OLD.open(second, table="residents", column="name_sealed", row_id=ROW) == "张小明"
    assert (
        OLD.blind_index("phone", PHONE) == "c25a1dc48536a13b2be08fb9d63d6cbcbb2a95647122230e5ca142867f25abf2"
    )


def test_a_seal_of_one_row_does_not_open_in_a_copy() -> None:
    row, copy = uuid4(), uuid4()
    sealed = OLD.seal("张小明", table="residents", column="name_sealed", row_id=row)
    with pytest.raises(SealBroken, match="does not authenticate"):
        OLD.open(sealed, table="residents", column="name_sealed", row_id=copy)
