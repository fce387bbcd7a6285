"""What Pydantic found wrong with a field, in both languages and without repeating what the client sent."""

import re
from collections.abc import Mapping
from typing import get_args

from pydantic_core.core_schema import ErrorType

_TEXTS: Mapping[str, tuple[str, str]] = {
    "missing": ("is required", "必填"),
    "extra_forbidden": ("is not a known field", "未知字段"),
    "invalid_key": ("has a key that is not text", "键名必须是文本"),
    "model_type": ("must be an object", "必须是对象"),
    "model_attributes_type": ("must be an object", "必须是对象"),
    "dataclass_type": ("must be an object", "必须是对象"),
    "dict_type": ("must be an object", "必须是对象"),
    "mapping_type": ("must be an object", "必须是对象"),
    "list_type": ("must be a list", "必须是列表"),
    "tuple_type": ("must be a list", "必须是列表"),
    "set_type": ("must be a list", "必须是列表"),
    "frozen_set_type": ("must be a list", "必须是列表"),
    "iterable_type": ("must be a list", "必须是列表"),
    "too_short": ("must have at least {min_length} items", "至少需要 {min_length} 项"),
    "too_long": ("must have at most {max_length} items", "最多 {max_length} 项"),
    "none_required": ("must be null", "必须为 null"),
    "string_type": ("must be text", "必须是文本"),
    "string_unicode": ("must be valid Unicode text", "必须是有效的 Unicode 文本"),
    "string_not_ascii": ("must be ASCII text", "只能包含 ASCII 字符"),
    "string_too_short": ("must have at least {min_length} characters", "至少 {min_length} 个字符"),
    "string_too_long": ("must have at most {max_length} characters", "最多 {max_length} 个字符"),
    "string_pattern_mismatch": ("does not have the expected form", "格式不正确"),
    "bytes_type": ("must be bytes", "必须是字节数据"),
    "bytes_too_short": ("must have at least {min_length} bytes", "至少 {min_length} 字节"),
    "bytes_too_long": ("must have at most {max_length} bytes", "最多 {max_length} 字节"),
    "bytes_invalid_encoding": ("is not validly encoded", "编码无效"),
    "enum": ("must be {expected}", "必须是以下之一：{expected}"),
    "literal_error": ("must be {expected}", "必须是以下之一：{expected}"),
    "bool_type": ("must be true or false", "必须是 true 或 false"),
    "bool_parsing": ("must be true or false", "必须是 true 或 false"),
    "int_type": ("must be a whole number", "必须是整数"),
    "int_parsing": ("must be a whole number", "必须是整数"),
    "int_parsing_size": ("is too large", "数值过大"),
    "int_from_float": ("must be a whole number", "必须是整数"),
    "float_type": ("must be a number", "必须是数字"),
    "float_parsing": ("must be a number", "必须是数字"),
    "finite_number": ("must be a finite number", "必须是有限的数字"),
    "decimal_type": ("must be a decimal number", "必须是十进制数"),
    "decimal_parsing": ("must be a decimal number", "必须是十进制数"),
    "decimal_max_digits": ("must have at most {max_digits} digits", "最多 {max_digits} 位数字"),
    "decimal_max_places": (
        "must have at most {decimal_places} decimal places",
        "最多 {decimal_places} 位小数",
    ),
    "decimal_whole_digits": (
        "must have at most {whole_digits} digits before the point",
        "整数部分最多 {whole_digits} 位",
    ),
    "greater_than": ("must be greater than {gt}", "必须大于 {gt}"),
    "greater_than_equal": ("must be at least {ge}", "不能小于 {ge}"),
    "less_than": ("must be less than {lt}", "必须小于 {lt}"),
    "less_than_equal": ("must be at most {le}", "不能大于 {le}"),
    "multiple_of": ("must be a multiple of {multiple_of}", "必须是 {multiple_of} 的倍数"),
    "date_type": ("must be a date like 2026-01-31", "必须是日期，例如 2026-01-31"),
    "date_parsing": ("must be a date like 2026-01-31", "必须是日期，例如 2026-01-31"),
    "date_from_datetime_parsing": ("must be a date like 2026-01-31", "必须是日期，例如 2026-01-31"),
    "date_from_datetime_inexact": ("must be a date without a time", "必须是不含时间的日期"),
    "date_past": ("must be in the past", "必须早于今天"),
    "date_future": ("must be in the future", "必须晚于今天"),
    "time_type": ("must be a time like 08:30:00", "必须是时间，例如 08:30:00"),
    "time_parsing": ("must be a time like 08:30:00", "必须是时间，例如 08:30:00"),
    "datetime_type": (
        "must be a time with an offset, like 2026-01-31T08:30:00+08:00",
        "必须是带时区的时间，例如 2026-01-31T08:30:00+08:00",
    ),
    "datetime_parsing": (
        "must be a time with an offset, like 2026-01-31T08:30:00+08:00",
        "必须是带时区的时间，例如 2026-01-31T08:30:00+08:00",
    ),
    "datetime_from_date_parsing": (
        "must be a time with an offset, like 2026-01-31T08:30:00+08:00",
        "必须是带时区的时间，例如 2026-01-31T08:30:00+08:00",
    ),
    "datetime_object_invalid": ("is not a valid time", "时间无效"),
    "datetime_past": ("must be in the past", "必须早于现在"),
    "datetime_future": ("must be in the future", "必须晚于现在"),
    "timezone_naive": ("must not have an offset", "不能带时区"),
    "timezone_aware": ("must have an offset, like +08:00", "必须带时区，例如 +08:00"),
    "timezone_offset": ("has the wrong offset", "时区偏移不正确"),
    "time_delta_type": ("must be a duration like PT30M", "必须是时长，例如 PT30M"),
    "time_delta_parsing": ("must be a duration like PT30M", "必须是时长，例如 PT30M"),
    "uuid_type": ("must be an id (UUID)", "必须是编号（UUID）"),
    "uuid_parsing": ("must be an id (UUID)", "必须是编号（UUID）"),
    "uuid_version": (
        "must be an id (UUID version {expected_version})",
        "必须是 UUID 版本 {expected_version}",
    ),
    "url_type": ("must be a URL", "必须是网址"),
    "url_parsing": ("must be a URL", "必须是网址"),
    "url_syntax_violation": ("must be a URL", "必须是网址"),
    "url_too_long": ("must have at most {max_length} characters", "最多 {max_length} 个字符"),
    "url_scheme": ("must start with {expected_schemes}", "协议必须是 {expected_schemes}"),
    "union_tag_invalid": (
        "{discriminator} must be {expected_tags}",
        "{discriminator} 必须是 {expected_tags}",
    ),
    "union_tag_not_found": ("{discriminator} is required", "缺少 {discriminator}"),
    "recursion_loop": ("is nested in itself", "嵌套无效"),
    "recursion_depth_exceeded": ("is nested too deeply", "嵌套过深"),
    "json_invalid": ("is not valid JSON", "不是有效的 JSON"),
    "json_type": ("must be JSON text", "必须是 JSON 文本"),
    "control_character": ("must not contain control characters", "不能包含控制字符"),
    "file_expected": ("must be a file, not text", "必须是文件，不能是文本"),
    "blank": ("must not be blank", "不能为空白"),
}
_OTHER = ("is not acceptable", "内容不符合要求")
_PYDANTIC_TYPES = frozenset(get_args(ErrorType))


def message_en(type_: str, ctx: Mapping[str, object], given: str) -> str:
    """The sentence for one error. `given` is what the validator said: used for our own errors only."""
    if type_ in _TEXTS:
        return _filled(_TEXTS[type_][0], ctx) or _OTHER[0]
    return _OTHER[0] if type_ in _PYDANTIC_TYPES else given


def message_zh(type_: str, ctx: Mapping[str, object]) -> str:
    """The same in Chinese. Our own errors bring their sentence: `PydanticCustomError(code, english, {"zh": …})`."""
    if type_ in _TEXTS:
        chinese = {
            name: str(value).replace(", ", "、").replace(" or ", " 或 ") for name, value in ctx.items()
        }
        return _filled(_TEXTS[type_][1], chinese) or _OTHER[1]
    return str(ctx.get("zh", _OTHER[1]))


def _filled(text: str, ctx: Mapping[str, object]) -> str | None:
    try:
        return _SINGULAR.sub(r"1 \1", text.format_map(ctx))
    except KeyError:
        return None


_SINGULAR = re.compile(r"\b1 (character|item|byte|digit|decimal place)s\b")
