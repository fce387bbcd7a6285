"""One-time codes: the vectors of RFC 6238, the window, no second use; and recovery codes."""

import base64
import re
from datetime import UTC, datetime, timedelta, timezone

import pyotp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.totp import match_step, new_recovery_codes, new_secret, normalise_recovery_code, provisioning_uri

RFC_SECRET = base64.b32encode(b"12345678901234567890").decode()
RFC_VECTORS = [
    (59, "94287082"),
    (1111111109, "07081804"),
    (1111111111, "14050471"),
    (1234567890, "89005924"),
    (2000000000, "69279037"),
    (20000000000, "65353130"),
]
NOW = datetime(2025, 11, 23, 8, 0, 10, tzinfo=UTC)
STEP = int(NOW.timestamp()) // 30


def code_of(secret: str, step: int) -> str:
    return pyotp.TOTP(secret).at(step * 30)


@pytest.mark.parametrize(("seconds", "code"), RFC_VECTORS)
def test_the_vectors_of_rfc_6238(seconds: int, code: str) -> None:
    """Appendix B has eight digits; six-digit codes are their tails."""
    at = datetime.fromtimestamp(seconds, UTC)
    assert match_step(RFC_SECRET, code[-6:], at, None) == seconds // 30


@pytest.mark.parametrize(("offset", "accepted"), [(-2, False), (-1, True), (0, True), (1, True), (2, False)])
def test_one_step_either_way_is_accepted(offset: int, accepted: bool) -> None:
    expected = STEP + offset if accepted else None
    assert match_step(RFC_SECRET, code_of(RFC_SECRET, STEP + offset), NOW, None) == expected


def test_the_window_moves_exactly_at_the_step() -> None:
    start = datetime.fromtimestamp(STEP * 30, UTC)
    old = code_of(RFC_SECRET, STEP - 2)
    assert match_step(RFC_SECRET, old, start - timedelta(microseconds=1), None) == STEP - 2
    assert match_step(RFC_SECRET, old, start, None) is None


def test_a_used_step_and_those_before_it_are_spent() -> None:
    for offset in (-1, 0, 1):
        code = code_of(RFC_SECRET, STEP + offset)
        assert match_step(RFC_SECRET, code, NOW, STEP + offset - 1) == STEP + offset
        assert match_step(RFC_SECRET, code, NOW, STEP + offset) is None
        assert match_step(RFC_SECRET, code, NOW, STEP + 5) is None


def test_the_zone_of_the_time_does_not_matter() -> None:
    at = NOW.astimezone(timezone(timedelta(hours=8)))
    assert match_step(RFC_SECRET, code_of(RFC_SECRET, STEP), at, None) == STEP


@pytest.mark.parametrize(
    "edit", ["{0} ", " {0}", "{0}0", "+{0}", "{0}\n", "", "abcdef", "１２３４５６", "\ud800" * 6]
)
def test_only_six_plain_digits_are_a_code(edit: str) -> None:
    assert match_step(RFC_SECRET, edit.format(code_of(RFC_SECRET, STEP)), NOW, None) is None


@given(st.from_regex(r"[0-9]{6}", fullmatch=True))
def test_other_codes_do_not_match(code: str) -> None:
    right = {code_of(RFC_SECRET, STEP + offset) for offset in (-1, 0, 1)}
    assert (match_step(RFC_SECRET, code, NOW, None) is not None) == (code in right)


def test_secrets_differ_and_have_160_bits() -> None:
    secrets = {new_secret() for _ in range(50)}
    assert len(secrets) == 50
    assert {len(base64.b32decode(secret)) for secret in secrets} == {20}


def test_an_authenticator_app_reads_the_provisioning_uri() -> None:
    secret = new_secret()
    uri = provisioning_uri(secret, "grid worker 李")
    read = pyotp.parse_uri(uri)
    assert isinstance(read, pyotp.TOTP)
    assert (read.secret, read.name, read.issuer) == (secret, "grid worker 李", "Jincai Life")
    assert match_step(secret, read.at(NOW), NOW, None) == STEP


def test_recovery_codes_are_ten_of_120_bits() -> None:
    codes = [code for _ in range(20) for code in new_recovery_codes()]
    assert len(codes) == len(set(codes)) == 200
    assert all(re.fullmatch(r"([0-9a-hjkmnp-tv-z]{4}-){5}[0-9a-hjkmnp-tv-z]{4}", code) for code in codes)
    assert set("".join(codes)) == set("-0123456789abcdefghjkmnpqrstvwxyz")


def test_a_recovery_code_is_known_however_it_is_typed() -> None:
    code = "01ab-cdef-ghjk-mnpq-rstv-wxyz"
    normal = code.replace("-", "")
    for typed in (
        code,
        code.upper(),
        f" {normal}\n",
        code.replace("-", " "),
        "oI" + code[2:],
        "Ol" + code[2:],
    ):
        assert normalise_recovery_code(typed) == normal


@pytest.mark.parametrize("text", ["", "0000", "u" * 24, "0" * 23, "0" * 25, "é" * 24, "\ud800" * 24])
def test_what_cannot_be_a_recovery_code(text: str) -> None:
    assert normalise_recovery_code(text) is None
