"""Normal forms of phone numbers, identity numbers and names: what two spellings of the same fact share."""

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.crypto import normalise_id_number, normalise_name, normalise_phone

mobiles = st.from_regex(r"1[3-9][0-9]{9}", fullmatch=True)
births = st.dates(datetime.date(1880, 1, 1), datetime.date(2030, 12, 31))


def iso7064_mod11_2(digits: str) -> str:
    """The check character by the recursive method of ISO 7064, which shares nothing with a table of weights."""
    product = 0
    for digit in digits:
        product = (product + int(digit)) * 2 % 11
    check = (12 - product) % 11
    return "X" if check == 10 else str(check)


@st.composite
def id_numbers(draw: st.DrawFn) -> str:
    region = draw(st.from_regex(r"[1-9][0-9]{5}", fullmatch=True))
    body = f"{region}{draw(births):%Y%m%d}{draw(st.integers(0, 999)):03}"
    return body + iso7064_mod11_2(body)


@given(mobiles)
def test_every_way_to_write_a_mobile_is_one_number(mobile: str) -> None:
    first, middle, last = mobile[:3], mobile[3:7], mobile[7:]
    wide = mobile.translate({ord(str(digit)): 0xFF10 + digit for digit in range(10)})
    for text in (
        mobile,
        wide,
        f"+86{mobile}",
        f"86{mobile}",
        f"0086{mobile}",
        f" {first} {middle} {last}\n",
        f"(+86) {first}-{middle}-{last}",
        f"+86 {first}.{middle}.{last}",
        f"+86{first}\u2011{middle}\u2013{last}",
    ):
        assert normalise_phone(text) == f"+86{mobile}"


@pytest.mark.parametrize(
    ("text", "phone"),
    [
        ("0571-88886666", "+8657188886666"),
        ("+86 571 88886666", "+8657188886666"),
        ("+86 (0571) 8888-6666", "+8657188886666"),
        ("010-12345678", "+861012345678"),
        ("021 5555 5555", "+862155555555"),
        ("0435-7654321", "+864357654321"),
        ("+852 9123 4567", "+85291234567"),
        ("00852 9123 4567", "+85291234567"),
        ("+1 (650) 253-0000", "+16502530000"),
    ],
)
def test_landlines_and_foreign_numbers(text: str, phone: str) -> None:
    assert normalise_phone(text) == phone
    assert normalise_phone(phone) == phone


@pytest.mark.parametrize(
    "text",
    [
        "",
        "110",
        "12812345678",
        "1381234567",
        "138123456789",
        "+861381234567",
        "+8612345678901",
        "+86",
        "+0123456789",
        "+1234567890123456",
        "88886666",
        "13812345678x",
        "1३812345678",
        "phone",
        "+86 138 1234 5678 / 139 1234 5678",
    ],
)
def test_what_is_no_phone_number(text: str) -> None:
    with pytest.raises(ValueError, match="not a phone number") as caught:
        normalise_phone(text)
    assert text not in str(caught.value) or text in ("", "phone")


@pytest.mark.parametrize("number", ["11010519491231002X", "440524188001010014"])
def test_the_examples_of_the_standard(number: str) -> None:
    assert normalise_id_number(number) == number
    assert number[17] == iso7064_mod11_2(number[:17])


@given(id_numbers())
def test_a_real_identity_number_is_kept_however_it_is_typed(number: str) -> None:
    wide = number.translate({ord(str(digit)): 0xFF10 + digit for digit in range(10)})
    for text in (number, number.lower(), f" {number}\n", wide):
        assert normalise_id_number(text) == number


@given(id_numbers(), st.integers(0, 17), st.sampled_from("0123456789X"))
def test_one_wrong_character_is_noticed(number: str, position: int, character: str) -> None:
    edited = number[:position] + character + number[position + 1 :]
    if edited != number:
        with pytest.raises(ValueError, match="not an identity number"):
            normalise_id_number(edited)


@given(id_numbers(), st.integers(0, 16))
def test_two_swapped_neighbours_are_noticed(number: str, left: int) -> None:
    edited = number[:left] + number[left + 1] + number[left] + number[left + 2 :]
    if edited != number:
        with pytest.raises(ValueError, match="not an identity number"):
            normalise_id_number(edited)


@pytest.mark.parametrize("birth", ["19490229", "19491301", "19490100", "20230431", "00000101"])
def test_a_birth_date_must_exist(birth: str) -> None:
    body = f"110105{birth}002"
    with pytest.raises(ValueError, match="no such birth date") as caught:
        normalise_id_number(body + iso7064_mod11_2(body))
    assert birth not in str(caught.value)


@pytest.mark.parametrize("text", ["", "1101051949123100", "110105491231002", "11010519491231002XX", "X" * 18])
def test_what_is_no_identity_number(text: str) -> None:
    with pytest.raises(ValueError, match="not an identity number"):
        normalise_id_number(text)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("张小明", "张小明"),
        ("\u3000张小明 \n", "张小明"),
        ("Rene\u0301  Dupont", "Ren\u00e9 Dupont"),
        ("买买提·艾则孜", "买买提·艾则孜"),
        ("买买提•艾则孜", "买买提·艾则孜"),
        ("买买提・艾则孜", "买买提·艾则孜"),
        ("买买提．艾则孜", "买买提·艾则孜"),
    ],
)
def test_spellings_of_a_name(text: str, name: str) -> None:
    assert normalise_name(text) == name


@given(st.text(min_size=1))
def test_a_normal_name_stays_as_it_is(text: str) -> None:
    if text.strip():
        assert normalise_name(normalise_name(text)) == normalise_name(text)


@pytest.mark.parametrize("text", ["", "   ", "\u3000\n"])
def test_an_empty_name_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must not be empty"):
        normalise_name(text)
