"""Masks show what they promise and no more; the scrubber lets no number or credential through, in linear time."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.crypto import new_token
from app.masking import mask_address, mask_id_number, mask_name, mask_phone, scrub

mobiles = st.from_regex(r"1[3-9][0-9]{9}", fullmatch=True)
id_numbers = st.from_regex(
    r"[1-9][0-9]{5}(19|20)[0-9]{2}(0[1-9]|1[0-2])[0-3][0-9][0-9]{3}[0-9Xx]", fullmatch=True
)
surroundings = st.text(st.characters(exclude_categories=["Nd", "Cs"]), max_size=15)
PHONE_FORMS = [
    "{0}",
    "+86{0}",
    "+86 {0}",
    "0086{0}",
    "86-{0}",
    "%2B86{0}",
    "%20{0}",
    "\\u00a0{0}",
    "{0[0]}{0[1]}{0[2]} {0[3]}{0[4]}{0[5]}{0[6]} {0[7]}{0[8]}{0[9]}{0[10]}",
    "{0[0]}{0[1]}{0[2]}-{0[3]}{0[4]}{0[5]}{0[6]}-{0[7]}{0[8]}{0[9]}{0[10]}",
]
BEARER_FORMS = ["Bearer ", "bearer ", "BEARER  ", "Bearer%20", "bearer: ", "Authorization: Bearer\t"]
FULL_WIDTH = {ord(str(digit)): 0xFF10 + digit for digit in range(10)}


@pytest.mark.parametrize(
    ("phone", "mask"),
    [
        ("+8613812345678", "138****5678"),
        ("13812345678", "138****5678"),
        ("+8657188886666", "****6666"),
        ("+85291234567", "****4567"),
        ("12345678", "****"),
        ("", "****"),
    ],
)
def test_masked_phones(phone: str, mask: str) -> None:
    assert mask_phone(phone) == mask


@given(st.one_of(mobiles, st.text(max_size=20)))
def test_a_masked_phone_misses_at_least_four_characters(phone: str) -> None:
    shown = mask_phone(phone).replace("*", "")
    assert len(shown) <= max(0, len(phone) - 4)


@pytest.mark.parametrize(
    ("name", "mask"),
    [
        ("张小明", "张**"),
        ("张三", "张*"),
        ("张", "*"),
        ("", ""),
        ("欧阳娜娜", "欧***"),
        ("买买提·艾则孜", "买***"),
        ("John Smith", "J***"),
    ],
)
def test_masked_names(name: str, mask: str) -> None:
    assert mask_name(name) == mask


@given(st.text(st.characters(exclude_characters="*"), max_size=20))
def test_a_masked_name_shows_one_character(name: str) -> None:
    assert mask_name(name).rstrip("*") == (name[0] if len(name) > 1 else "")


def test_masked_identity_numbers() -> None:
    assert mask_id_number("11010519491231002X") == "110***********002X"
    assert mask_id_number("1101051949") == "*" * 18


@given(st.one_of(id_numbers, st.text(max_size=25)))
def test_a_masked_identity_number_hides_the_birth_date(number: str) -> None:
    mask = mask_id_number(number)
    assert len(mask) == 18
    assert set(mask[3:14]) == {"*"}


@pytest.mark.parametrize(
    ("address", "mask"),
    [
        ("金彩街道枫叶社区3幢2单元502室", "金彩街道枫叶社区***"),
        ("枫叶小区三幢二单元", "枫叶小区***"),
        ("五常街道枫叶小区东门旁老槐树后面", "五常街道枫叶小区***"),
        ("枫叶小区东门", "枫叶小***"),
        ("１２号", "***"),
        ("502", "***"),
        ("", "***"),
        ("a very long address in another language", "a very lon***"),
    ],
)
def test_masked_addresses(address: str, mask: str) -> None:
    assert mask_address(address) == mask


@given(st.text(max_size=60))
def test_a_masked_address_has_no_number_and_at_most_half_the_text(address: str) -> None:
    shown = mask_address(address).removesuffix("***")
    assert not any(character.isdecimal() for character in shown)
    assert address.startswith(shown)
    assert len(shown) <= min(10, len(address) // 2)


@settings(max_examples=300)
@given(form=st.sampled_from(PHONE_FORMS), mobile=mobiles, before=surroundings, after=surroundings)
def test_no_phone_gets_through(form: str, mobile: str, before: str, after: str) -> None:
    clean = scrub(before + form.format(mobile) + after)
    assert mobile not in clean
    assert mobile[-4:] not in clean


@given(st.one_of(mobiles, id_numbers), surroundings)
def test_no_full_width_number_gets_through(number: str, around: str) -> None:
    wide = number.translate(FULL_WIDTH)
    assert wide[-8:-1] not in scrub(around + wide + around)


@given(id_numbers, surroundings, surroundings)
def test_no_identity_number_gets_through(number: str, before: str, after: str) -> None:
    clean = scrub(f"{before}{number}{after}")
    assert number[:17] not in clean
    assert number[6:14] not in clean


@given(st.sampled_from(["jcs_", "jcr_", "jck_live_0123456789_"]), surroundings, surroundings)
def test_no_token_gets_through(prefix: str, before: str, after: str) -> None:
    token = new_token(prefix)
    clean = scrub(before + token + after)
    assert token[len(prefix) :] not in clean
    assert token[-10:] not in clean


@settings(max_examples=200)
@given(
    st.sampled_from(BEARER_FORMS),
    st.from_regex(r"[A-Za-z0-9._~+/-]{8,60}={0,2}", fullmatch=True),
    surroundings,
)
def test_no_bearer_credential_gets_through(word: str, credential: str, before: str) -> None:
    assert credential not in scrub(f"{before}{word}{credential}")


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("call 13812345678, or 0571-88886666", "call [phone], or [phone]"),
        ("from Hong Kong +85291234567.", "from Hong Kong [phone]."),
        ("张三 11010519491231002X 13812345678", "张三 [identity] [phone]"),
        ("11010519491231002X13812345678", "[identity][phone]"),
        ("secret whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD=", "secret [token]"),
        ("Authorization: Bearer abcdefgh.ijkl", "Authorization: [bearer]"),
    ],
)
def test_what_stood_there_is_named(text: str, clean: str) -> None:
    assert scrub(text) == clean
    assert scrub(clean) == clean


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hazard_accepted",
        "019ab3f2-7c1d-7aaa-8bbb-a13812345678",
        "2025-11-23T17:19:00.163456+08:00",
        "at 120.151234, 30.274567 in 12.5 ms",
        "1763912345678",
        "12812345678",
        "4,200,000 rows",
        'WWW-Authenticate: Bearer realm="api"',
        "枫叶社区3幢2单元502室",
    ],
)
def test_what_a_log_needs_is_left_alone(text: str) -> None:
    assert scrub(text) == text


@pytest.mark.parametrize(
    "unit",
    [
        "1",
        "0",
        "138",
        "13812345",
        "138 1234 ",
        "+1234567",
        "86-",
        "%20",
        "\\u00",
        "bearer ",
        "bearer",
        "jcs_",
        "abcdef01-",
        " ",
    ],
)
@pytest.mark.parametrize("tail", ["", "x", "12345678", "!"])
def test_scrubbing_takes_time_in_proportion_to_the_text(unit: str, tail: str) -> None:
    """Quadratic work on this much text would take minutes."""
    text = "bearer" + unit * (200_000 // len(unit)) + tail
    begin = time.perf_counter()
    scrub(text)
    assert time.perf_counter() - begin < 3
