"""Every endpoint has a row in the policy, every row an endpoint, and the document tells clients all of it."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import pytest
from fastapi import APIRouter

from app.operation import Operation
from app.policy import POLICY, Rule
from tests.contract.routes import DOCUMENT, OPERATIONS, Described, Json, resolved, routes

_METHODS = {"GET", "POST", "PUT", "DELETE"}
_OF_ALL = {"401", "422", "429", "503"}
_NO_ANSWER_OF_OURS = {"304"}
_each = pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)


def test_every_endpoint_has_a_policy_row_and_every_row_an_endpoint() -> None:
    names = [route.operation_id for route in routes()]
    assert len(names) > 40
    assert Counter(names).most_common(1)[0][1] == 1
    assert set(names) == set(POLICY)


def test_every_endpoint_is_in_the_document_and_nothing_else() -> None:
    served = {(route.path, method) for route in routes() for method in route.methods or ()}
    assert {(each.path, each.method) for each in OPERATIONS.values()} == served
    assert set(OPERATIONS) == set(POLICY)


def test_an_endpoint_without_a_policy_row_does_not_come_into_being() -> None:
    router = APIRouter(route_class=Operation)

    async def forgotten() -> None:
        """Never served."""

    with pytest.raises(KeyError, match="forgotten"):
        router.add_api_route("/v1/forgotten", forgotten)


def test_no_row_lets_anybody_in_beside_others() -> None:
    """A row that names roles and is open to all the same would be read wrongly."""
    for name, rule in POLICY.items():
        if rule.anonymous:
            # Open311 has its key in the form: the service looks at it.
            assert rule in (Rule(anonymous=True), Rule(anonymous=True, scopes=rule.scopes)), name
        else:
            assert rule.resident or rule.roles, name


def test_only_the_standard_takes_its_key_in_the_form() -> None:
    assert [name for name, rule in POLICY.items() if rule.anonymous and rule.scopes] == [
        "create_open311_request"
    ]


def test_the_document_is_valid_openapi() -> None:
    version = DOCUMENT["openapi"]
    assert version.startswith("3.1")
    assert all(
        jsonschema_rs.meta.is_valid(schema | {"$schema": "https://json-schema.org/draft/2020-12/schema"})
        for schema in DOCUMENT["components"]["schemas"].values()
    )


def test_every_reference_of_the_document_leads_somewhere() -> None:
    found = list(_references(DOCUMENT))
    assert len(found) > 500
    for node in found:
        assert isinstance(resolved(node), dict)


def test_every_name_in_the_document_is_snake_case() -> None:
    names = {
        name for schema in DOCUMENT["components"]["schemas"].values() for name in schema.get("properties", {})
    }
    assert {name for name in names if name != name.lower() or "-" in name} == set()


@_each
def test_the_document_says_who_may_call(operation: Described) -> None:
    rule = POLICY[operation.name]
    assert operation.details["x-callers"] == rule.callers
    assert bool(operation.details.get("security")) is not rule.anonymous


@_each
def test_the_document_says_what_it_is_for(operation: Described) -> None:
    assert operation.details["summary"]
    assert len(operation.details["description"]) > 10
    assert operation.details["tags"]
    assert operation.method in _METHODS
    described_tags = {tag["name"] for tag in DOCUMENT["tags"]}
    assert set(operation.details["tags"]) <= described_tags


@_each
def test_a_body_has_an_example_that_fits_its_schema(operation: Described) -> None:
    for content_type, content in (operation.body or {}).items():
        examples = list(_examples(content))
        assert examples, content_type
        checked = {**resolved(content["schema"]), "components": DOCUMENT["components"]}
        for example in examples:
            jsonschema_rs.validate(checked, example)


@_each
def test_the_errors_are_described(operation: Described) -> None:
    rule, answers = POLICY[operation.name], operation.details["responses"]
    if operation.is_open311:
        _expect_refusals_of_the_standard(answers)
        return
    expected = set(_OF_ALL)
    if not rule.anonymous:
        expected.add("403")
    if operation.ids:
        expected.add("404")
    if operation.method in ("POST", "PUT"):
        expected.add("413")
    if operation.body:
        expected.add("415")
    assert expected <= set(answers)
    for status, referred in answers.items():
        answer = resolved(referred)
        assert answer["description"]
        if int(status) >= 400:
            problem = answer["content"]["application/problem+json"]
            assert resolved(problem["schema"]) == DOCUMENT["components"]["schemas"]["Problem"]
            jsonschema_rs.validate(
                {**resolved(problem["schema"]), "components": DOCUMENT["components"]}, problem["example"]
            )


def _expect_refusals_of_the_standard(answers: Json) -> None:
    """400 and 403 stand for every refusal of 4xx that the standard has no status for."""
    refusals = {status: resolved(answer) for status, answer in answers.items() if status >= "400"}
    assert {"400", "403", "429", "503"} <= set(refusals)
    assert not {"401", "409", "415", "422"} & set(refusals)
    for answer in refusals.values():
        content = answer["content"]["application/json"]
        schema = {**resolved(content["schema"]), "components": DOCUMENT["components"]}
        jsonschema_rs.validate(schema, content["example"])
        assert "text/xml" in answer["content"]


@_each
def test_a_good_answer_has_a_schema(operation: Described) -> None:
    """Anything without one is a file, a text, or nothing at all."""
    answers = operation.details["responses"]
    good = {status: resolved(answer) for status, answer in answers.items() if status < "400"}
    for status, answer in good.items():
        if status in ("204", *_NO_ANSWER_OF_OURS):
            assert "content" not in answer
            continue
        for content_type, content in answer["content"].items():
            assert content_type != "application/json" or content["schema"], status


@_each
def test_posts_may_be_repeated_with_a_key(operation: Described) -> None:
    """Every POST of a known caller takes an `Idempotency-Key`; nothing else does."""
    takes = "Idempotency-Key" in {each["name"] for each in operation.parameters}
    assert takes is (operation.method == "POST" and not POLICY[operation.name].anonymous)


@_each
def test_ids_are_uuids_and_lists_have_limits(operation: Described) -> None:
    for parameter in operation.parameters:
        if parameter["name"] in operation.ids and not operation.is_open311:
            assert parameter["schema"]["format"] == "uuid"
        if parameter["name"] == "limit":
            assert (parameter["schema"]["maximum"], parameter["schema"]["default"]) == (100, 20)
            assert "cursor" in {each["name"] for each in operation.parameters}


def _examples(content: Json) -> Iterator[Any]:
    if "example" in content:
        yield content["example"]
    yield from (each["value"] for each in content.get("examples", {}).values())
    yield from _of_schema(content["schema"])


def _of_schema(schema: Json) -> Iterator[Any]:
    found = resolved(schema)
    yield from found.get("examples", [])
    for choice in found.get("anyOf", []) + found.get("oneOf", []):
        yield from _of_schema(choice)


def _references(node: object) -> Iterator[Json]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node
        for child in node.values():
            yield from _references(child)
    elif isinstance(node, list):
        for child in node:
            yield from _references(child)
