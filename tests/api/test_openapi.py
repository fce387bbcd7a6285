"""The OpenAPI document says what is true of every operation."""

from collections.abc import Iterator
from typing import cast

import pytest

from app.main import ROUTERS, create_app
from app.models.base import JsonObject
from app.operation import Operation
from app.policy import POLICY


@pytest.fixture(scope="module")
def document() -> JsonObject:
    """The whole document."""
    return cast(JsonObject, create_app().openapi())


def _operations(document: JsonObject) -> Iterator[tuple[str, str, JsonObject]]:
    for path, item in cast(dict[str, JsonObject], document["paths"]).items():
        for method, operation in item.items():
            yield path, method, cast(JsonObject, operation)


def _parameters(operation: JsonObject) -> set[str]:
    listed = cast(list[dict[str, str]], operation["parameters"])
    return {each.get("name") or each["$ref"].rpartition("/")[2] for each in listed}


def test_every_route_is_an_operation_with_a_policy_row(document: JsonObject) -> None:
    routes = [route for router in ROUTERS for route in router.routes]
    assert len(routes) > 20
    assert all(isinstance(route, Operation) for route in routes)
    documented = {str(operation["operationId"]) for _, _, operation in _operations(document)}
    assert documented == {route.operation_id for route in routes if isinstance(route, Operation)}
    assert documented <= POLICY.keys()


def test_every_operation_lists_the_problems_it_can_answer_with(document: JsonObject) -> None:
    for path, method, operation in _operations(document):
        listed = set(cast(JsonObject, operation["responses"]))
        where = f"{method} {path}"
        if path.startswith("/open311/"):
            assert {"400", "403", "429", "503"} <= listed, where
            continue
        assert {"401", "422", "429", "503"} <= listed, where
        assert "403" in listed or operation["x-callers"] == "anyone", where
        assert ("security" in operation) == (operation["x-callers"] != "anyone"), where
        if "{" in path:
            assert "404" in listed, where
        if "requestBody" in operation:
            assert {"408", "413", "415"} <= listed, where
        if "If-Match" in _parameters(operation):
            assert "412" in listed, where


def test_problems_are_described_once_and_well(document: JsonObject) -> None:
    components = cast(dict[str, dict[str, JsonObject]], document["components"])
    assert "HTTPValidationError" not in str(document)
    for name, response in components["responses"].items():
        if name == "Open311Refusal":
            continue
        content = cast(dict[str, JsonObject], response["content"])["application/problem+json"]
        assert content["schema"] == {"$ref": "#/components/schemas/Problem"}, name
        example = cast(JsonObject, content["example"])
        required = cast(list[str], components["schemas"]["Problem"]["required"])
        assert set(required) <= set(example), name
    assert components["securitySchemes"]["bearer"]["scheme"] == "bearer"


def test_shared_headers_are_documented(document: JsonObject) -> None:
    for path, method, operation in _operations(document):
        names = _parameters(operation)
        assert "AcceptLanguage" in names, path
        if "Idempotency-Key" in names:
            assert method == "post", path
    accept = cast(
        JsonObject,
        cast(JsonObject, cast(JsonObject, document["paths"])["/v1/hazards/{hazard_id}/accept"])["post"],
    )
    assert "Idempotency-Key" in _parameters(accept)


def test_every_tag_is_explained_in_both_languages(document: JsonObject) -> None:
    explained = {
        str(tag["name"]): str(tag["description"]) for tag in cast(list[JsonObject], document["tags"])
    }
    for path, _, operation in _operations(document):
        for tag in cast(list[str], operation["tags"]):
            assert tag in explained, path
    for description in explained.values():
        assert any("\u4e00" <= char <= "\u9fff" for char in description)
        assert any(char.isascii() and char.isalpha() for char in description)
