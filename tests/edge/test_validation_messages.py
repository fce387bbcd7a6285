"""Sentences about fields: complete, in both languages, and never with what the client sent."""

from datetime import date, datetime
from typing import Annotated, Literal, get_args
from uuid import UUID

import pytest
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, HttpUrl, TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError, core_schema
from typing_extensions import TypeForm

from app.models.hazards import HazardStatus
from app.schemas.base import Coordinates, ShortText
from app.schemas.hazard_categories import Deadline, HazardCategoryUpdate
from app.schemas.residents import ResidentMeUpdate
from app.validation_messages import message_en, message_zh

CANARY = "x9canary"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    name: ShortText


@pytest.mark.parametrize(
    ("kind", "value", "english", "chinese"),
    [
        (_Strict, {"name": 1}, "must be text", "必须是文本"),
        (_Strict, {}, "is required", "必填"),
        (_Strict, {"name": "a", CANARY: 1}, "is not a known field", "未知字段"),
        (_Strict, CANARY, "must be an object", "必须是对象"),
        (_Strict, {"name": "a" * 101}, "must have at most 100 characters", "最多 100 个字符"),
        (_Strict, {"name": "a\x1b"}, "must not contain control characters", "不能包含控制字符"),
        (Annotated[int, Field(ge=1)], 0, "must be at least 1", "不能小于 1"),
        (Annotated[int, Field(lt=5)], 9, "must be less than 5", "必须小于 5"),
        (int, CANARY, "must be a whole number", "必须是整数"),
        (float, "nan?", "must be a number", "必须是数字"),
        (bool, CANARY, "must be true or false", "必须是 true 或 false"),
        (UUID, CANARY, "must be an id (UUID)", "必须是编号（UUID）"),
        (date, CANARY, "must be a date like 2026-01-31", "必须是日期，例如 2026-01-31"),
        (AwareDatetime, "2026-01-31T00:00:00", "must have an offset, like +08:00", "必须带时区，例如 +08:00"),
        (Literal["a", "b"], CANARY, "must be 'a' or 'b'", "必须是以下之一：'a' 或 'b'"),
        (Annotated[list[int], Field(max_length=1)], [1, 2], "must have at most 1 item", "最多 1 项"),
        (HttpUrl, CANARY, "must be a URL", "必须是网址"),
        (
            datetime,
            CANARY,
            "must be a time with an offset, like 2026-01-31T08:30:00+08:00",
            "必须是带时区的时间，例如 2026-01-31T08:30:00+08:00",
        ),
    ],
)
def test_what_is_said(kind: TypeForm[object], value: object, english: str, chinese: str) -> None:
    assert _said(kind, value) == (english, chinese)


@pytest.mark.parametrize("kind", [HazardStatus, Coordinates, HttpUrl, UUID, AwareDatetime, bool, date])
@pytest.mark.parametrize("value", [CANARY, {CANARY: CANARY}, [CANARY], "9" * 50, None])
def test_nothing_of_the_input_is_repeated(kind: TypeForm[object], value: object) -> None:
    english, chinese = _said(kind, value)
    assert CANARY not in english + chinese
    assert "9" * 9 not in english + chinese


def test_errors_of_our_own_bring_their_sentences() -> None:
    error = PydanticCustomError("odd_thing", "is odd", {"zh": "不对"})
    assert message_en(error.type, error.context or {}, error.message()) == "is odd"
    assert message_zh(error.type, error.context or {}) == "不对"


def test_what_pydantic_may_add_is_told_without_detail() -> None:
    for type_ in get_args(core_schema.ErrorType):
        assert CANARY not in message_en(type_, {}, CANARY)
        assert message_zh(type_, {})


def _said(kind: TypeForm[object], value: object) -> tuple[str, str]:
    with pytest.raises(ValidationError) as raised:
        TypeAdapter(kind).validate_python(value)
    row = raised.value.errors()[0]
    ctx = row.get("ctx", {})
    return message_en(row["type"], ctx, row["msg"]), message_zh(row["type"], ctx)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("\u202a138\u202c", "138"),
        ("\u061c138", "138"),
        ("photo\u202egpj.exe\u202c", "photogpj.exe"),
        ("\u2068李明\u2069\u200e", "李明"),
        ("一\r\n二\r三", "一\n二\n三"),
    ],
)
def test_what_phones_paste_along_is_dropped(given: str, kept: str) -> None:
    assert _Strict(name=given).name == kept


@pytest.mark.parametrize("name", ["\u3164", "\u115f\u1160", "\u2800", "\u2060\u00ad", "\u200e", " \u3000 "])
def test_what_looks_empty_is_empty(name: str) -> None:
    with pytest.raises(ValidationError):
        _Strict(name=name)


@pytest.mark.parametrize(
    "name", ["官方", "锦江 客服", "社区书记", "网格员小王", "ｏｆｆｉｃｉａｌ", "系统-通知"]
)
def test_nobody_is_called_like_an_official(name: str) -> None:
    with pytest.raises(ValidationError) as refused:
        ResidentMeUpdate(nickname=name)
    assert [error["type"] for error in refused.value.errors()] == ["nickname_reserved"]


@pytest.mark.parametrize("name", ["老李 🐼", "枫叶", "小书记员", "Offside"])
def test_other_names_are_free(name: str) -> None:
    assert ResidentMeUpdate(nickname=name).nickname == name


def test_what_a_whole_object_lacks_has_a_code_of_its_own() -> None:
    late = {"minutes": 10, "warn_minutes": 10, "clock": "clock"}
    category = {"urgency": "high", "public": True, "nearby_radius_m": 1, "deadlines": {}}
    for kind, value, code in (
        (Deadline, late, "warns_too_late"),
        (HazardCategoryUpdate, category, "deadline_missing"),
    ):
        with pytest.raises(ValidationError) as refused:
            TypeAdapter(kind).validate_python(value)
        assert [error["type"] for error in refused.value.errors()] == [code]
