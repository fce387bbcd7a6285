"""Errors as RFC 9457 problems: a class is a status and a stable `code`, raised next to the rule it states."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Self

Language = Literal["zh-CN", "en"]
Extension = str | int | float | bool | None | Sequence[str]


@dataclass(frozen=True, slots=True)
class FieldError:
    """What is wrong with one field: where it is, a stable code, and a sentence in each language."""

    loc: tuple[str | int, ...]
    code: str
    message_en: str
    message_zh: str


class Problem(Exception):
    """Base of every error that reaches a client."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"
    title_en: ClassVar[str] = "Internal error"
    title_zh: ClassVar[str] = "服务内部错误"

    def __init__(
        self,
        detail_en: str | None = None,
        detail_zh: str | None = None,
        *,
        fields: Sequence[FieldError] = (),
        retry_after: int | None = None,
        **extensions: Extension,
    ) -> None:
        super().__init__(detail_en or self.title_en)
        self.detail_en = detail_en
        self.detail_zh = detail_zh
        self.fields = fields
        self.retry_after = retry_after
        self.extensions: Mapping[str, Extension] = extensions

    def title(self, language: Language) -> str:
        """The name of this kind of problem."""
        return self.title_zh if language == "zh-CN" else self.title_en

    def detail(self, language: Language) -> str:
        """What happened this time, or the title when there is nothing to add."""
        chosen = self.detail_zh if language == "zh-CN" else self.detail_en
        return chosen or self.title(language)


class InvalidInput(Problem):
    """A field that is well-formed JSON but not acceptable."""

    status, code = 422, "invalid_input"
    title_en, title_zh = "The input is not valid", "输入内容不符合要求"

    @classmethod
    def of(cls, loc: Sequence[str | int], code: str, message_en: str, message_zh: str) -> Self:
        """The problem with exactly one field."""
        return cls(message_en, message_zh, fields=[FieldError(tuple(loc), code, message_en, message_zh)])


class Unauthenticated(Problem):
    """Nobody we know is calling."""

    status, code = 401, "unauthenticated"
    title_en, title_zh = "Sign in first", "请先登录"


class Forbidden(Problem):
    """The caller may see the thing, but not do this."""

    status, code = 403, "forbidden"
    title_en, title_zh = "You may not do this", "没有权限执行此操作"


class NotFound(Problem):
    """Not there, or not for the caller to see."""

    status, code = 404, "not_found"
    title_en, title_zh = "Not found", "没有找到"


class MethodNotAllowed(Problem):
    """The path exists, the method does not."""

    status, code = 405, "method_not_allowed"
    title_en, title_zh = "Method not allowed", "不支持该请求方法"


class Conflict(Problem):
    """The state of the thing does not allow this now."""

    status, code = 409, "conflict"
    title_en, title_zh = "This is not possible in the current state", "当前状态不允许此操作"


class VersionConflict(Problem):
    """Somebody else changed the thing since the caller read it."""

    status, code = 412, "version_conflict"
    title_en, title_zh = (
        "The resource was changed by somebody else; read it again",
        "内容已被他人修改，请刷新后重试",
    )


class BodyTooLarge(Problem):
    """More bytes than this endpoint takes."""

    status, code = 413, "body_too_large"
    title_en, title_zh = "The request body is too large", "请求内容过大"


class UnsupportedMediaType(Problem):
    """A content type that this endpoint does not read."""

    status, code = 415, "unsupported_media_type"
    title_en, title_zh = "This content type is not supported", "不支持的内容类型"


class TooManyRequests(Problem):
    """A quota is used up; `retry_after` says for how long."""

    status, code = 429, "too_many_requests"
    title_en, title_zh = "Too many requests, slow down", "请求过于频繁，请稍后再试"


class Unavailable(Problem):
    """Something we depend on does not answer; nothing was done."""

    status, code = 503, "unavailable"
    title_en, title_zh = (
        "The service is temporarily unavailable, nothing was changed",
        "服务暂时不可用，未做任何更改",
    )


class BadRequest(Problem):
    """A request that cannot be read at all."""

    status, code = 400, "bad_request"
    title_en, title_zh = "The request cannot be read", "无法解析请求"
