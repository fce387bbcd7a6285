"""What GeoReport v2 and its service discovery demand of every document, as tables; nothing here knows our code.

http://wiki.open311.org/GeoReport_v2, Service_Discovery, and JSON_and_XML_Conversion, by which XML and JSON say the same.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from xml.etree.ElementTree import Element, fromstring

import httpx

Check = Callable[[Any], bool]
Row = dict[str, Any]

LISTS = {
    "services": "service",
    "service_requests": "request",
    "errors": "error",
    "attributes": "attribute",
    "values": "value",
    "endpoints": "endpoint",
    "formats": "format",
}
"""The elements that are arrays in JSON, and what their members are called."""

SPECIFICATION = "http://wiki.open311.org/GeoReport_v2"
_LISTED = ("singlevaluelist", "multivaluelist")
_W3C = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")
_MIME = re.compile(r"[a-z]+/[a-z.+-]+")


@dataclass(frozen=True)
class Field:
    """What the standard says of one field. `may_miss`: it may be left out or be empty."""

    check: Check
    may_miss: bool = False


def text(value: object) -> bool:
    return isinstance(value, str) and value.strip() != ""


def moment(value: object) -> bool:
    """W3C's subset of ISO 8601, never without its zone."""
    return isinstance(value, str) and _W3C.fullmatch(value) is not None


def one_of(*known: str) -> Check:
    return lambda value: value in known


def flag(value: object) -> bool:
    """A boolean of JSON, or a word of XML."""
    return isinstance(value, bool) or value in ("true", "false")


def number(least: float, most: float) -> Check:
    return lambda value: not isinstance(value, bool) and least <= float(value) <= most


def keywords(value: object) -> bool:
    return value is None or all(text(word) for word in str(value).split(","))


def rows(fields: Mapping[str, Field]) -> Check:
    return lambda value: isinstance(value, list) and all(breaches(fields, row) == [] for row in value)


VALUE = {"key": Field(text), "name": Field(text)}
ATTRIBUTE = {
    "variable": Field(flag),
    "code": Field(text),
    "datatype": Field(one_of("string", "number", "datetime", "text", *_LISTED)),
    "required": Field(flag),
    "datatype_description": Field(text, may_miss=True),
    "order": Field(number(1, 10_000)),
    "description": Field(text),
    "values": Field(rows(VALUE), may_miss=True),
}
ENDPOINT = {
    "specification": Field(text),
    "url": Field(text),
    "changeset": Field(moment),
    "type": Field(one_of("production", "test")),
    "formats": Field(lambda value: bool(value) and all(_MIME.fullmatch(each) for each in value)),
}
DISCOVERY = {
    "changeset": Field(moment),
    "contact": Field(text),
    "key_service": Field(text),
    "endpoints": Field(rows(ENDPOINT)),
}
SERVICE = {
    "service_code": Field(text),
    "service_name": Field(text),
    "description": Field(text),
    "metadata": Field(flag),
    "type": Field(one_of("realtime", "batch", "blackbox")),
    "keywords": Field(keywords, may_miss=True),
    "group": Field(text, may_miss=True),
}
DEFINITION = {"service_code": Field(text), "attributes": Field(rows(ATTRIBUTE))}
REQUEST = {
    "service_request_id": Field(text),
    "status": Field(one_of("open", "closed")),
    "status_notes": Field(text, may_miss=True),
    "service_name": Field(text),
    "service_code": Field(text),
    "description": Field(text, may_miss=True),
    "agency_responsible": Field(text, may_miss=True),
    "service_notice": Field(text, may_miss=True),
    "requested_datetime": Field(moment),
    "updated_datetime": Field(moment),
    "expected_datetime": Field(moment, may_miss=True),
    "address": Field(text),
    "address_id": Field(text, may_miss=True),
    "zipcode": Field(text, may_miss=True),
    "lat": Field(number(-90, 90)),
    "long": Field(number(-180, 180)),
    "media_url": Field(text, may_miss=True),
}
POSTED = {
    "service_request_id": Field(text, may_miss=True),
    "token": Field(text, may_miss=True),
    "service_notice": Field(text, may_miss=True),
    "account_id": Field(text, may_miss=True),
}
TOKEN = {"service_request_id": Field(text), "token": Field(text)}
ERROR = {"code": Field(text), "description": Field(text)}


def breaches(fields: Mapping[str, Field], row: Row) -> list[str]:
    """The fields of a row that are not as the standard wants them, and those that it does not know."""
    wrong = [
        name
        for name, field in fields.items()
        if not (field.may_miss if row.get(name) is None else field.check(row[name]))
    ]
    return wrong + sorted(row.keys() - fields.keys())


def breaches_of_definition(definition: Row) -> list[str]:
    """What a table cannot say: codes and orders are unique, and lists alone have values."""
    attributes: list[Row] = definition["attributes"]
    wrong = breaches(DEFINITION, definition)
    for name in ("code", "order"):
        if len({str(each[name]) for each in attributes}) < len(attributes):
            wrong.append(f"{name} twice")
    for each in attributes:
        keys = [value["key"] for value in each["values"] or ()]
        if bool(keys) is not (each["datatype"] in _LISTED) or len(set(keys)) < len(keys):
            wrong.append(f"values of {each['code']}")
    return wrong


def breaches_of_request(request: Row) -> list[str]:
    """Nothing was updated before it was requested."""
    wrong = breaches(REQUEST, request)
    times = ("requested_datetime", "updated_datetime")
    if wrong:
        return wrong
    asked, updated = (datetime.fromisoformat(request[name]) for name in times)
    return ["updated before it was requested"] if updated < asked else []


def read_many(answer: httpx.Response, root: str) -> list[Row]:
    """The rows of a document that is a list, in the format that it says it has."""
    found = _read(answer, root)
    assert isinstance(found, list)
    return found


def read_one(answer: httpx.Response, root: str) -> Row:
    """The fields of a document that is none."""
    found = _read(answer, root)
    assert isinstance(found, dict)
    return found


def _read(answer: httpx.Response, root: str) -> object:
    kind = answer.headers["content-type"]
    if answer.url.path.endswith(".json"):
        assert kind == "application/json; charset=utf-8"
        return json.loads(answer.content.decode("utf-8"))
    assert kind == "text/xml; charset=utf-8"
    assert re.match(rb"""<\?xml version=['"]1\.0['"] encoding=['"]utf-8['"]""", answer.content, re.IGNORECASE)
    element = fromstring(answer.content)  # noqa: S314 - our own answer
    assert element.tag == root
    return _plain(element)


def _plain(element: Element) -> object:
    assert not element.attrib
    if element.tag in LISTS:
        assert {child.tag for child in element} <= {LISTS[element.tag]}
        return [_plain(child) for child in element]
    if len(element) == 0:
        return element.text
    names = [child.tag for child in element]
    assert len(set(names)) == len(names)
    return {child.tag: _plain(child) for child in element}
