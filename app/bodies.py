"""What a request body may be: JSON that every parser reads alike, within a size and a time."""

import json
import re
from functools import cached_property
from urllib.parse import parse_qsl

import orjson
from fastapi import Request
from starlette.types import Message

from app.errors import InvalidInput, Problem

_PARSED = "jincai.parsed_body"
_MAX_INTEGER = 2**53
_MOST_MEMBERS = 1000
_MOST_VALUES = 150_000
_DEEPEST = 254
"""What `orjson` writes again, as a digest of the body needs it."""
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")


class BodyTimeout(Problem):
    """The body came so slowly that the client has gone, or pretends to be slow."""

    status, code = 408, "body_timeout"
    title_en, title_zh = "The request body did not arrive in time", "请求内容未能及时送达"


class MalformedBody(InvalidInput):
    """Not JSON, or JSON that two parsers would read differently."""

    code = "malformed_body"
    title_en, title_zh = "The request body cannot be read", "无法解析请求内容"


class JsonRequest(Request):
    """A request whose JSON is read by `parse_json`, and its query once."""

    @cached_property
    def pairs(self) -> list[tuple[str, str]]:
        """The names and values of the query in their order, as Starlette reads them."""
        query = self.scope["query_string"].decode("latin-1")
        if "%" in query or "+" in query:
            return parse_qsl(query, keep_blank_values=True)
        # Nothing is escaped, as in most queries: the same at a quarter of the cost.
        parts = [part.partition("=") for part in query.split("&") if part]
        return [(name, value) for name, _, value in parts]

    async def json(self) -> object:
        """The parsed body. Whoever looks at the same request again need not parse it again."""
        if _PARSED not in self.scope:
            raw = await self.body()
            _require_few_values(raw)
            self.scope[_PARSED] = parse_json(raw)
        value: object = self.scope[_PARSED]
        return value

    async def from_the_start(self) -> Message:
        """What this request was received from, as if nobody had read its body yet."""
        if self._is_heard or not hasattr(self, "_body"):
            return await self._receive()
        self._is_heard = True
        return {"type": "http.request", "body": self._body, "more_body": False}

    _is_heard = False


def parse_json(raw: bytes) -> object:
    """The value of strict JSON in UTF-8 (RFC 8259 within the limits of RFC 7493); MalformedBody for all else."""
    try:
        # Refuses NaN, infinities, lone surrogates, other encodings and more than 1,024 levels.
        checked = orjson.loads(raw)
        if raw.count(b"[") + raw.count(b"{") > _DEEPEST:
            orjson.dumps(checked)
        value: object = _DECODER.decode(raw.decode())
    except json.JSONDecodeError as error:
        raise _malformed("is not valid JSON", "不是有效的 JSON", error.pos) from None
    except (RecursionError, TypeError):
        raise _malformed("is nested too deeply", "嵌套过深") from None
    if _NUL.search(raw):
        raise _malformed("contains a NUL character", "包含空字符")
    return value


def _require_few_values(raw: bytes) -> None:
    """Half a million lists in a megabyte would take a second, in which nobody else is served."""
    if raw.count(b"[") + raw.count(b"{") + raw.count(b",") > _MOST_VALUES:
        raise _malformed("has too many values", "包含的值过多")


def _distinct(pairs: list[tuple[str, object]]) -> dict[str, object]:
    if len(pairs) > _MOST_MEMBERS:
        raise _malformed("has too many members in one object", "对象的成员过多")
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _malformed("has the same key twice", "包含重复的键")
    return found


def _exact(digits: str) -> int:
    if len(digits) > 17 or abs(int(digits)) > _MAX_INTEGER:
        raise _malformed("has an integer beyond 2^53", "整数超出 2^53")
    return int(digits)


_DECODER = json.JSONDecoder(object_pairs_hook=_distinct, parse_int=_exact)


def _malformed(message_en: str, message_zh: str, position: int | None = None) -> InvalidInput:
    loc = ("body",) if position is None else ("body", position)
    return MalformedBody.of(loc, "malformed_json", message_en, message_zh)
