"""The key ring: what it reads, what it refuses without ever showing a key, and the keys it derives."""

import base64
import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.crypto import DEV_SECRET_KEYS, Keyring

KEY_A = base64.urlsafe_b64encode(bytes(range(32))).decode()
KEY_B = base64.urlsafe_b64encode(bytes(range(32, 64))).decode().rstrip("=")


def rfc5869(ikm: bytes, salt: bytes, info: bytes, length: int) -> bytes:
    """HKDF-SHA256 as RFC 5869 section 2 words it, to compare with."""
    prk = hmac.digest(salt or bytes(32), ikm, "sha256")
    okm, block, counter = b"", b"", 0
    while len(okm) < length:
        counter += 1
        block = hmac.digest(prk, block + info + bytes([counter]), "sha256")
        okm += block
    return okm[:length]


def refusal(spec: str) -> str:
    """What the key ring says against a spec, or nothing."""
    try:
        Keyring(spec)
    except ValueError as error:
        return str(error)
    return ""


def test_the_first_key_is_current_and_all_are_known() -> None:
    ring = Keyring(f"new:{KEY_A}, old1:{KEY_B}")
    assert (ring.current, ring.kids) == ("new", ("new", "old1"))


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("", "key 1 of the key ring must look like kid:key"),
        (KEY_A, "key 1 of the key ring must look like kid:key"),
        (f"{KEY_A}:a", "key 1 of the key ring must look like kid:key"),
        (f":{KEY_A}", "key 1 of the key ring must look like kid:key"),
        (f"Upper:{KEY_A}", "key 1 of the key ring must look like kid:key"),
        (f"ninechars:{KEY_A}", "key 1 of the key ring must look like kid:key"),
        (f"a:{KEY_A},", "key 2 of the key ring must look like kid:key"),
        (f"a:{KEY_A},b", "key 2 of the key ring must look like kid:key"),
        ("a:", "key 1 of the key ring is not base64url"),
        ("a:" + KEY_A.replace("A", "+"), "key 1 of the key ring is not base64url"),
        ("a:" + "A" * 41, "key 1 of the key ring is not base64url"),
        ("a:" + "A" * 42, "key 1 of the key ring has 31 bytes instead of 32"),
        ("a:" + "A" * 44, "key 1 of the key ring has 33 bytes instead of 32"),
        (f"a:{KEY_A},a:{KEY_B}", "key 2 of the key ring has the kid of an earlier one"),
        (f"a:{KEY_A},b:{KEY_A}", "key 2 of the key ring is the same key as an earlier one"),
    ],
)
def test_a_bad_spec_is_refused_by_position(spec: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Keyring(spec)


@given(st.text(alphabet="abzAZ09-_+/=:, \n", min_size=9, max_size=60))
def test_a_refusal_never_contains_what_was_given(text: str) -> None:
    for spec in (text, f"k:{text}", f"k:{KEY_A},{text}:{KEY_B}"):
        said = refusal(spec)
        assert text not in said
        assert KEY_A not in said


def test_the_development_key_is_recognised_under_any_kid() -> None:
    renamed = DEV_SECRET_KEYS.replace("dev:", "prod1:")
    assert Keyring(DEV_SECRET_KEYS).has_dev_key
    assert Keyring(f"k1:{KEY_A},{renamed}").has_dev_key
    assert not Keyring(f"k1:{KEY_A}").has_dev_key


@pytest.mark.parametrize(
    ("ikm", "salt", "info", "length", "okm"),
    [
        (
            "0b" * 22,
            "000102030405060708090a0b0c",
            "f0f1f2f3f4f5f6f7f8f9",
            42,
            "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
        ),
        (
            "0b" * 22,
            "",
            "",
            42,
            "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8",
        ),
    ],
    ids=["RFC 5869 A.1", "RFC 5869 A.3"],
)
def test_the_reference_derivation_meets_the_vectors_of_the_rfc(
    ikm: str, salt: str, info: str, length: int, okm: str
) -> None:
    assert rfc5869(bytes.fromhex(ikm), bytes.fromhex(salt), bytes.fromhex(info), length).hex() == okm


@given(label=st.text(max_size=30))
def test_keys_are_derived_as_the_rfc_says(label: str) -> None:
    expected = rfc5869(bytes(range(32)), b"", f"jincai/{label}".encode(), 32)
    ring = Keyring(f"k1:{KEY_A}")
    assert ring.derive(label, "k1") == expected
    assert ring.derive(label, "k1") == expected


def test_every_label_and_key_gives_another_key() -> None:
    ring = Keyring(f"a:{KEY_A},b:{KEY_B}")
    derived = {ring.derive(label, kid) for label in ("seal", "token", "x") for kid in ring.kids}
    assert len(derived) == 6
    assert not derived & {hashlib.sha256(bytes(range(32))).digest(), bytes(range(32))}


def test_an_unknown_kid_has_no_keys() -> None:
    with pytest.raises(KeyError):
        Keyring(f"a:{KEY_A}").derive("seal", "b")
