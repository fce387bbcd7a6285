"""How the sandbox judges the values of a subscribe message, read off the published table a second time."""

from collections.abc import Mapping

_DIGITS = frozenset("0123456789")
_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")


def first_fault(data: Mapping[str, object]) -> str | None:
    """The wording WeChat uses for the first value that breaks its rule, None when all are fine."""
    for key, entry in data.items():
        value = entry.get("value") if isinstance(entry, dict) else None
        if not isinstance(value, str) or not value:
            return f"argument invalid! data.{key}.value is emtpy"
        if not _allowed(key.rstrip("0123456789"), key, value):
            return f"argument invalid! data.{key}.value invalid"
    return None


def _allowed(kind: str, key: str, value: str) -> bool:
    if kind == key:
        return False
    judge = _JUDGES.get(kind)
    return judge is not None and judge(value)


def _is_han(character: str) -> bool:
    return "\u4e00" <= character <= "\u9fff" or "\u3400" <= character <= "\u4dbf"


def _count(value: str, wanted: frozenset[str]) -> int:
    return sum(character in wanted for character in value)


def _thing(value: str) -> bool:
    return len(value) <= 20


def _number(value: str) -> bool:
    whole, _, fraction = value.removeprefix("-").partition(".")
    digits = whole + fraction
    return bool(whole) and set(digits) <= _DIGITS and len(digits) <= 32


def _letter(value: str) -> bool:
    return set(value) <= _LETTERS and len(value) <= 32


def _symbol(value: str) -> bool:
    return len(value) <= 5 and not any(character.isalnum() or character.isspace() for character in value)


def _character_string(value: str) -> bool:
    return len(value) <= 32 and all("!" <= character <= "~" for character in value)


def _day(value: str) -> bool:
    year, _, rest = value.partition("年")
    month, _, rest = rest.partition("月")
    day, suffix, end = rest.partition("日")
    sizes = len(year) == 4 and 1 <= len(month) <= 2 and 1 <= len(day) <= 2
    return sizes and set(year + month + day) <= _DIGITS and suffix == "日" and not end


def _clock(value: str) -> bool:
    parts = value.split(":")
    if len(parts) not in (2, 3) or any(not part or set(part) - _DIGITS for part in parts):
        return False
    return int(parts[0]) < 24 and all(len(part) == 2 and int(part) < 60 for part in parts[1:])


def _moment(value: str, *, needs_clock: bool) -> bool:
    day, separator, clock = value.partition(" ")
    if separator:
        return _day(day) and _clock(clock)
    return _clock(value) if needs_clock else _day(value)


def _time(value: str) -> bool:
    ends = value.split("~")
    return len(ends) <= 2 and all(_moment(end, needs_clock=True) for end in ends)


def _date(value: str) -> bool:
    ends = value.split("~")
    return len(ends) <= 2 and all(_moment(end, needs_clock=False) for end in ends)


def _amount(value: str) -> bool:
    bare = value[1:] if value[0] in "¥￥$€£" else value
    bare = bare.removesuffix("元")
    return _number(bare) and not bare.startswith("-") and _count(bare, _DIGITS) <= 10


def _phone_number(value: str) -> bool:
    return len(value) <= 17 and set(value) <= _DIGITS | set("+-()# *") and _count(value, _DIGITS) > 0


def _car_number(value: str) -> bool:
    middle = set(value[1:-1]) <= _LETTERS | _DIGITS
    ends = all(_is_han(end) or end in _LETTERS | _DIGITS for end in (value[0], value[-1]))
    return len(value) <= 8 and middle and ends


def _name(value: str) -> bool:
    return len(value) <= (10 if any(ord(character) > 127 for character in value) else 20)


def _phrase(value: str) -> bool:
    return len(value) <= 5 and all(_is_han(character) for character in value)


def _enum(value: str) -> bool:
    return bool(value.strip())


_JUDGES = {
    "thing": _thing,
    "number": _number,
    "letter": _letter,
    "symbol": _symbol,
    "character_string": _character_string,
    "time": _time,
    "date": _date,
    "amount": _amount,
    "phone_number": _phone_number,
    "car_number": _car_number,
    "name": _name,
    "phrase": _phrase,
    "enum": _enum,
}
