"""What every schema shares: strict input, plain output, pages, coordinates."""

import re
import unicodedata
from datetime import datetime
from operator import attrgetter
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    StringConstraints,
)
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from app.geo import Point, gcj02_from_wgs84

T = TypeVar("T")
Time = AwareDatetime


class Strict(BaseModel):
    """Input: unknown fields are refused and nothing is coerced."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Read(BaseModel):
    """Output: read from rows."""

    model_config = ConfigDict(from_attributes=True)


class Page(Read, Generic[T]):
    """One page of a list; `next_cursor` is null on the last one."""

    items: list[T]
    next_cursor: str | None


def _pasted(text: object) -> object:
    return as_meant(text) if isinstance(text, str) else text


def as_meant(text: str) -> str:
    """Without the marks of direction that phones paste along with a number or a name; lines end in one character."""
    return _DIRECTION.sub("", text).replace("\r\n", "\n").replace("\r", "\n")


def printable(text: str) -> str:
    """The text itself; PydanticCustomError when it is blank or has characters that nobody can see."""
    if _UNSEEN.search(text):
        raise PydanticCustomError("control_character", "must not contain control characters")
    if all(char in _LOOKS_EMPTY or unicodedata.category(char)[0] in "CZ" for char in text):
        raise PydanticCustomError("blank", "must not be blank")
    return text


_DIRECTION = re.compile("[\u200e\u200f\u061c\u202a-\u202e\u2066-\u2069]")
_UNSEEN = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u200b\ufeff\ufffe\uffff]")
_LOOKS_EMPTY = "\u115f\u1160\u2800\u3164\uffa0"
Pasted = BeforeValidator(_pasted)
Printable = AfterValidator(printable)

ShortText = Annotated[
    str, StringConstraints(min_length=1, max_length=100, strip_whitespace=True), Pasted, Printable
]
LongText = Annotated[
    str, StringConstraints(min_length=1, max_length=500, strip_whitespace=True), Pasted, Printable
]


def _instant(value: object) -> object:
    """Pydantic would take numbers, and texts of digits, for seconds since 1970."""
    if isinstance(value, datetime) or (isinstance(value, str) and _RFC_3339.fullmatch(value)):
        return value
    raise PydanticCustomError("datetime_type", "must be a time with an offset")


def _in_our_times(moment: datetime) -> datetime:
    """The ends of the calendar have no equivalent in other time zones."""
    if not 1970 <= moment.year < 3000:
        raise PydanticCustomError("datetime_object_invalid", "is not a valid time")
    return moment


_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(:\d\d([.]\d{1,9})?)?([Zz]|[+-]\d\d:?\d\d)?", re.ASCII)
Moment = Annotated[
    AwareDatetime, Field(strict=False), BeforeValidator(_instant), AfterValidator(_in_our_times)
]


class Distinct:
    """Marks a list that names nothing twice; `by`: fields that no two of its items share. It stands behind the length."""

    def __init__(self, *by: str) -> None:
        self._key = attrgetter(*by) if by else None

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        """The check, after that of the list itself."""
        return core_schema.no_info_after_validator_function(self._checked, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """What JSON Schema can say of it."""
        return handler(schema) | {"uniqueItems": True}

    def _checked(self, items: list[T]) -> list[T]:
        seen = set()
        for key in map(self._key, items) if self._key else items:
            if key in seen:
                english, chinese = "names {name} twice", f"重复列出 {key}"
                raise PydanticCustomError("named_twice", english, {"name": str(key), "zh": chinese})
            seen.add(key)
        return items


Longitude = Annotated[float, Field(ge=-180, le=180, allow_inf_nan=False)]
Latitude = Annotated[float, Field(ge=-90, le=90, allow_inf_nan=False)]


Datum = Literal["gcj02", "wgs84"]


class Coordinates(Strict):
    """A point. GCJ-02 when `datum` is absent, as WeChat's maps give it."""

    lng: Longitude
    lat: Latitude
    datum: Datum = "gcj02"

    def gcj02(self) -> Point:
        """The point as it is stored."""
        point = Point(self.lng, self.lat)
        return gcj02_from_wgs84(point) if self.datum == "wgs84" else point


class CoordinatesRead(Read):
    """A point of an answer, always GCJ-02."""

    lng: float
    lat: float
    datum: Literal["gcj02"]
