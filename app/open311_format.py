"""GeoReport v2 documents: schemaless XML and its 'Spark' JSON, for answers and for errors.

http://wiki.open311.org/GeoReport_v2 and JSON_and_XML_Conversion: a list element becomes an array, an empty element null.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from xml.etree.ElementTree import Element, SubElement, tostring

import orjson
from fastapi import Response

from app.errors import Language, Problem
from app.models.base import JsonObject

Value = str | int | float | bool | None | datetime | Sequence["Record | str"]
Record = Mapping[str, Value]

XML, JSON = "text/xml; charset=utf-8", "application/json; charset=utf-8"
PREFIX = "/open311/"
_STATUS = {401: 403, 405: 405, 409: 400, 412: 400, 415: 400, 422: 400}
_JSON_SUFFIX = ".json"
ERRORS_SCHEMA: JsonObject = {
    "type": "array",
    "description": "Errors of GeoReport v2. 上报接口错误",
    "minItems": 1,
    "items": {
        "type": "object",
        "required": ["code", "description"],
        "properties": {"code": {"type": "string"}, "description": {"type": "string"}},
    },
}


def many(root: str, item: str, records: Sequence[Record], *, as_json: bool, status: int = 200) -> Response:
    """A list: `<services><service>…` or an array."""
    if as_json:
        return _response(orjson.dumps([_plain(record) for record in records]), JSON, status)
    element = Element(root)
    for record in records:
        _fill(SubElement(element, item), record)
    return _response(_document(element), XML, status)


def one(root: str, record: Record, *, as_json: bool) -> Response:
    """A single document, such as a service definition."""
    if as_json:
        return _response(orjson.dumps(_plain(record)), JSON, 200)
    element = Element(root)
    _fill(element, record)
    return _response(_document(element), XML, 200)


def error(problem: Problem, path: str, language: Language) -> Response:
    """A refusal as `errors`. A missing or wrong key is 403, whatever else is wrong with a request 400."""
    details = [error.message_zh if language == "zh-CN" else error.message_en for error in problem.fields]
    names = [str(error.loc[-1]) for error in problem.fields]
    sentences = [f"{name}: {text}" for name, text in zip(names, details, strict=True)]
    rows: list[Record] = [
        {"code": problem.code, "description": text} for text in sentences or [problem.detail(language)]
    ]
    as_json = path.endswith(_JSON_SUFFIX)
    answer = many("errors", "error", rows, as_json=as_json, status=status_of(problem.status))
    if problem.retry_after is not None:
        answer.headers["Retry-After"] = str(problem.retry_after)
    return answer


def status_of(status: int) -> int:
    """What the standard has for a status of ours."""
    return _STATUS.get(status, status)


# The parent of each list inside a document, and what its members are called.
_MEMBERS = {"attributes": "attribute", "values": "value", "endpoints": "endpoint", "formats": "format"}


def _fill(element: Element, record: Record) -> None:
    for name, value in record.items():
        child = SubElement(element, name)
        if isinstance(value, Sequence) and not isinstance(value, str):
            for member in value:
                grandchild = SubElement(child, _MEMBERS[name])
                if isinstance(member, str):
                    grandchild.text = member
                else:
                    _fill(grandchild, member)
        else:
            child.text = _text(value)


def _text(value: str | float | bool | datetime | None) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return _moment(value)
    return None if value is None else str(value)


def _plain(record: Record) -> dict[str, object]:
    """Empty text is an empty element, and that is null."""
    return {name: _plain_value(value) for name, value in record.items()}


def _plain_value(value: Value) -> object:
    if isinstance(value, datetime):
        return _moment(value)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [member if isinstance(member, str) else _plain(member) for member in value]
    return None if value == "" else value


def _moment(value: datetime) -> str:
    return value.replace(microsecond=0).isoformat().replace("+00:00", "Z")


def _document(element: Element) -> bytes:
    document: bytes = tostring(element, encoding="utf-8", xml_declaration=True)
    return document


def _response(body: bytes, content_type: str, status: int) -> Response:
    return Response(body, status, {"Content-Type": content_type})
