"""Opaque tokens, their checksums and digests; signed texts and detached MACs."""

import base64
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.crypto import Keyring, new_token, token_well_formed

KEY_1 = "k1:" + base64.urlsafe_b64encode(bytes(range(32))).decode()
KEY_2 = "k2:" + base64.urlsafe_b64encode(bytes(range(32, 64))).decode()
OLD, ROTATED, NEW = Keyring(KEY_1), Keyring(f"{KEY_2},{KEY_1}"), Keyring(KEY_2)

printable = st.characters(min_codepoint=33, max_codepoint=126)
positions = st.integers(min_value=0)


def replaced(text: str, position: int, character: str) -> str:
    position %= len(text)
    return text[:position] + character + text[position + 1 :]


@pytest.mark.parametrize("prefix", ["jcs_", "jcr_", "jck_live_0123456789_", ""])
def test_a_token_is_prefix_secret_and_checksum(prefix: str) -> None:
    token = new_token(prefix)
    assert re.fullmatch(re.escape(prefix) + "[0-9A-Za-z]{49}", token)
    assert token_well_formed(prefix, token)


def test_tokens_do_not_repeat_and_use_all_their_room() -> None:
    tokens = [new_token("jcs_") for _ in range(300)]
    assert len(set(tokens)) == 300
    for place in range(5, 47):
        assert len({token[place] for token in tokens}) > 40


@given(positions, printable)
def test_one_wrong_character_is_noticed(position: int, character: str) -> None:
    token = new_token("jcs_")
    edited = replaced(token, position, character)
    assert token_well_formed("jcs_", edited) == (edited == token)


@given(st.text(max_size=70))
def test_foreign_text_is_no_token(text: str) -> None:
    assert not token_well_formed("jcs_", text)
    assert not token_well_formed("jcs_", "jcs_" + text)


def test_a_token_of_one_kind_is_none_of_another() -> None:
    token = new_token("jcs_")
    assert not token_well_formed("jcr_", token)
    assert not token_well_formed("jcr_", "jcr_" + token.removeprefix("jcs_"))
    assert not token_well_formed("jcs_", token + "\n")
    assert not token_well_formed("jcs_", token[:-1])


def test_a_digest_says_nothing_and_depends_on_the_key() -> None:
    token = new_token("jcs_")
    assert len(bytes.fromhex(OLD.token_digest(token))) == 32
    assert OLD.token_digest(token) == OLD.token_digest(token)
    assert OLD.token_digest(token) != NEW.token_digest(token)
    assert ROTATED.token_digests(token) == [NEW.token_digest(token), OLD.token_digest(token)]


def test_what_earlier_versions_issued_is_still_known() -> None:
    """A change of labels or formats would sign everybody out; these were made by the first version."""
    assert token_well_formed("jcs_", "jcs_003aUlTJC7tjlCTQj2uNU3MFagCXG9LRKRcwGkBIDlf2GKFip")
    assert (
        OLD.token_digest("jcs_example") == "4a6b2bcef67216861699bdbc5e84ffc415ce8c1d46ce357842f506ad17dc52b8"
    )
    assert OLD.unsign("cursor", "cGFnZSAy.k1.f5ba7cc366e959f7fd932bd7281a8579") == b"page 2"
    assert OLD.mac_ok("media", b"photo", "k1.22787c4dd5a2b573b7b695f7834d7a44")


@given(st.text(max_size=20), st.binary(max_size=200))
def test_what_was_signed_is_read_back(label: str, payload: bytes) -> None:
    signed = OLD.sign(label, payload)
    assert re.fullmatch(r"[A-Za-z0-9_.-]+", signed)
    assert OLD.unsign(label, signed) == payload
    assert ROTATED.unsign(label, signed) == payload
    assert NEW.unsign(label, signed) is None
    assert OLD.unsign(label + "x", signed) is None


@given(st.binary(max_size=40), positions, printable)
def test_one_changed_character_spoils_a_signed_text(payload: bytes, position: int, character: str) -> None:
    signed = OLD.sign("cursor", payload)
    edited = replaced(signed, position, character)
    assert OLD.unsign("cursor", edited) == (payload if edited == signed else None)


@given(st.text(max_size=80))
def test_rubbish_is_not_signed_and_raises_nothing(text: str) -> None:
    for candidate in (text, f"{text}.k1.{text}", f".k1.{text}", f"{text}.k1."):
        assert OLD.unsign("cursor", candidate) is None
        assert not OLD.mac_ok("media", b"photo", candidate)


@pytest.mark.parametrize("tail", ["", ".", "=", "\n", ".k1", "é", "\ud800"])
def test_a_signed_text_with_more_or_less_is_refused(tail: str) -> None:
    signed = OLD.sign("cursor", b"page 2")
    assert OLD.unsign("cursor", (signed + tail) if tail else signed[:-1]) is None


def test_a_new_key_signs_and_the_old_one_still_counts() -> None:
    assert ROTATED.sign("cursor", b"x").split(".")[1] == "k2"
    assert ROTATED.unsign("cursor", OLD.sign("cursor", b"x")) == b"x"
    assert ROTATED.mac_ok("media", b"x", OLD.mac("media", b"x"))


@given(st.binary(max_size=60), st.binary(max_size=60))
def test_a_mac_fits_its_own_label_and_payload_only(payload: bytes, other: bytes) -> None:
    mac = OLD.mac("media", payload)
    assert len(mac) <= 41
    assert OLD.macs("media")(payload) == mac
    assert OLD.mac_ok("media", payload, mac)
    assert OLD.mac_ok("media", other, mac) == (other == payload)
    assert not OLD.mac_ok("export", payload, mac)
    assert not NEW.mac_ok("media", payload, mac)


@given(positions, printable)
def test_one_changed_character_spoils_a_mac(position: int, character: str) -> None:
    mac = OLD.mac("media", b"photo")
    edited = replaced(mac, position, character)
    assert OLD.mac_ok("media", b"photo", edited) == (edited == mac)


def test_a_mac_is_no_signature_of_the_same_label() -> None:
    body = OLD.sign("x", b"payload").partition(".")[0]
    assert OLD.unsign("x", f"{body}.{OLD.mac('x', body.encode())}") is None
