"""Every time that a caller may send is a `Moment`: with an offset, written out, and not at an end of the calendar."""

from collections.abc import Iterator
from typing import Annotated

import pytest
from fastapi.dependencies.models import Dependant
from pydantic import AwareDatetime, BaseModel, Field, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from app.schemas.base import Moment, Strict
from tests.contract.routes import routes

_NO_TIMES = [
    "0001-01-01T00:00:00+14:00",
    "0001-01-01T00:00:00Z",
    "9999-12-31T23:59:59-14:00",
    "99999999999",
    "-1",
    "2026-01-01T00:00:00",
]


class _Planted(BaseModel):
    bound: Moment | None = None
    loose: Annotated[AwareDatetime, Field(strict=False)] | None = None


def _subclasses(kind: type[BaseModel]) -> Iterator[type[BaseModel]]:
    for below in kind.__subclasses__():
        yield below
        yield from _subclasses(below)


def _dependants(dependant: Dependant) -> Iterator[Dependant]:
    yield dependant
    for below in dependant.dependencies:
        yield from _dependants(below)


def _adapter(field: FieldInfo) -> TypeAdapter[object]:
    return TypeAdapter(Annotated[field.annotation, *field.metadata, field.is_required()])  # type: ignore[arg-type]


def _of(kind: type[BaseModel]) -> dict[str, FieldInfo]:
    return {f"{kind.__name__}.{name}": field for name, field in kind.model_fields.items()}


def _sent() -> Iterator[tuple[str, FieldInfo]]:
    """The fields of every body, and every parameter of every operation."""
    for kind in _subclasses(Strict):
        yield from _of(kind).items()
    for route in routes():
        for each in _dependants(route.dependant):
            for field in (*each.query_params, *each.header_params, *each.path_params, *each.body_params):
                yield f"{route.name}({field.name})", field.field_info


def _times(fields: dict[str, FieldInfo]) -> dict[str, TypeAdapter[object]]:
    """Those of the fields that are a time, perhaps among others."""
    adapters = {
        name: _adapter(field)
        for name, field in fields.items()
        if "datetime" in repr(field.annotation).lower()
    }
    return {
        name: adapter for name, adapter in adapters.items() if "'date-time'" in str(adapter.json_schema())
    }


def _takes(adapter: TypeAdapter[object], value: str) -> bool:
    try:
        adapter.validate_python(value)
    except ValidationError:
        return False
    return True


_SENT = _times(dict(_sent()))


def test_times_are_found() -> None:
    assert {
        "WebhookReplay.since",
        "ApiKeyCreate.expires_at",
        "CaseRepliedEvent.occurred_at",
        "list_open311_requests(start_date)",
        "list_hazards(due_before)",
    } <= _SENT.keys()


@pytest.mark.parametrize("name", sorted(_SENT))
def test_a_time_is_bounded(name: str) -> None:
    assert _takes(_SENT[name], "2026-01-31T08:30:00+08:00")
    assert [value for value in _NO_TIMES if _takes(_SENT[name], value)] == []


def test_a_loose_one_is_seen() -> None:
    planted = _times(_of(_Planted))
    assert {name for name, adapter in planted.items() if _takes(adapter, _NO_TIMES[0])} == {"_Planted.loose"}
