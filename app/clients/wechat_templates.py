"""The value rules of subscribe-message templates: prose is cut to fit, a fact that does not fit is refused."""

import re
from collections.abc import Callable

from app.clients.wechat_errors import MessageInvalid

_FIELD = re.compile(r"([a-z]+(?:_[a-z]+)?)[0-9]+")
_CHINESE = r"\u3400-\u4dbf\u4e00-\u9fff"
_CLOCK = r"([01]?[0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9])?"
_DAY = r"[0-9]{4}年[0-9]{1,2}月[0-9]{1,2}日"
_TIME = rf"({_DAY} )?{_CLOCK}"
_DATE = rf"{_DAY}( {_CLOCK})?"
_DIGITS_AT_MOST = r"(?=([^0-9]*[0-9]){{1,{0}}}[^0-9]*$)".format

_EXACT = {
    kind: re.compile(rule)
    for kind, rule in {
        "number": _DIGITS_AT_MOST(32) + r"-?[0-9]+(\.[0-9]+)?",
        "letter": r"[A-Za-z]{1,32}",
        "symbol": r"[^\w\s]{1,5}",
        "character_string": r"[!-~]{1,32}",
        "time": rf"{_TIME}(~{_TIME})?",
        "date": rf"{_DATE}(~{_DATE})?",
        "amount": _DIGITS_AT_MOST(10) + r"[¥￥$€£]?[0-9]+(\.[0-9]+)?元?",
        "phone_number": r"(?=.*[0-9])[0-9+()# *-]{1,17}",
        "car_number": rf"[{_CHINESE}A-Za-z0-9][A-Za-z0-9]{{0,6}}[{_CHINESE}A-Za-z0-9]?",
        "phrase": rf"[{_CHINESE}]{{1,5}}",
        "enum": r".+",
    }.items()
}


def fit(field: str, value: str) -> str:
    """The value as `field` (type and number, like `thing1`) takes it. Raises `MessageInvalid` naming the field."""
    match = _FIELD.fullmatch(field)
    kind = match.group(1) if match else ""
    text = " ".join(value.split())
    if kind in _CUT:
        text = _CUT[kind](text)
    elif kind not in _EXACT or not _EXACT[kind].fullmatch(text):
        text = ""
    if not text:
        raise MessageInvalid("template", field=field)
    return text


def _cut_thing(text: str) -> str:
    return _shorten(text, 20)


def _cut_name(text: str) -> str:
    """10 characters, or 20 when all of them are letters and signs."""
    return _shorten(text, 20 if text.isascii() else 10)


def _shorten(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


_CUT: dict[str, Callable[[str], str]] = {"thing": _cut_thing, "name": _cut_name}
