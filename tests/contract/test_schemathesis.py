"""Whatever fits the document is answered as it says, whatever does not is refused: generated, and over real HTTP."""

import json
import os
import subprocess
import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlsplit
from uuid import UUID
from xml.etree.ElementTree import fromstring

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis import Case
from schemathesis.checks import CheckContext, CheckFunction
from schemathesis.core.transport import Response
from schemathesis.hooks import HookContext
from schemathesis.specs.openapi.checks import (
    allow_header_conformance,
    negative_data_rejection,
    positive_data_acceptance,
    unsupported_method,
)

from app.models.api_keys import ApiScope
from app.models.staff import Role
from app.policy import POLICY
from tests import engines
from tests.contract.routes import DOCUMENT, OPERATIONS

Example = Case[Any]
EXAMPLES = int(os.environ.get("CONTRACT_EXAMPLES", "15"))
"""Random examples for each operation, beside those that probe every limit; `make drill` asks for more."""

CALLERS = {
    "nobody": None,
    "resident": "the reporter",
    "grid worker": "grid_worker of the grid",
    "dispatcher": "street_dispatcher of the street",
    "officer": "officer of the department",
    "district admin": "district_admin of the street",
    "platform": "key for events:read of the street",
    "reporting system": "key for reports:write of the street",
}
ROLES = {
    "grid worker": Role.GRID_WORKER,
    "dispatcher": Role.STREET_DISPATCHER,
    "officer": Role.DEPARTMENT_OFFICER,
    "district admin": Role.DISTRICT_ADMIN,
}
SCOPES = {"platform": ApiScope.EVENTS_READ, "reporting system": ApiScope.REPORTS_WRITE}
ENDS_THE_SESSION = {"delete_me", "delete_current_session"}
NEVER_ENDS = "stream_events"

schema = schemathesis.openapi.from_dict(DOCUMENT)
# Tests of their own send NUL characters; here they would hide what else is wrong with a text.
schema.config.generation.update(allow_x00=False)
# More rows than a schema allows may be more than a body may have, which is told first.
_rejected = schema.config.checks.negative_data_rejection
_rejected.expected_statuses = [*_rejected.expected_statuses, "413"]


@dataclass(frozen=True)
class Served:
    """A running server and what is known of its world."""

    url: str
    tokens: dict[str, str]
    keys: dict[str, str]
    spare_tokens: list[str]
    ids: dict[str, list[str]]

    def headers(self, operation: str, caller: str) -> dict[str, str]:
        """What the caller sends; a token of its own for a request that makes it worthless."""
        name = CALLERS[caller]
        if name is None:
            return {}
        if name in self.keys:
            return {"X-API-Key": self.keys[name]}
        token = self.spare_tokens.pop() if operation in ENDS_THE_SESSION else self.tokens[name]
        return {"Authorization": f"Bearer {token}"}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server on a database of its own, told to count no quotas."""
    folder = tmp_path_factory.mktemp("contract")
    chosen = engines.environment(engines.new_database(f"contract{os.getpid()}"), folder / "media")
    quotas = {f"JINCAI_RATE_LIMIT_{name}": "900000000/day" for name in ("CALLER", "ADDRESS")}
    command = [sys.executable, "-m", "tests.contract.served"]
    pipe, environment = subprocess.PIPE, os.environ | chosen | quotas
    with (folder / "log").open("wb") as log:
        with subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, stderr=log) as process:
            assert process.stdout is not None
            known = json.loads(process.stdout.readline())
            yield Served(
                f"http://127.0.0.1:{known['port']}",
                known["tokens"],
                known["keys"],
                known["spare_tokens"],
                known["ids"],
            )
            process.communicate(timeout=20)
            assert process.returncode == 0


@schemathesis.check
def every_refusal_is_a_problem(_: CheckContext, response: Response, case: Example) -> None:
    """RFC 9457 for whatever is not a success, the framework's own refusals included; Open311 has `errors`."""
    if response.status_code < 400:
        return
    if case.operation.path.startswith("/open311/"):
        _expect_errors(response)
        return
    assert response.headers["content-type"] == ["application/problem+json"]
    problem = response.json()
    assert problem["status"] == response.status_code
    assert problem["request_id"] == response.headers["x-request-id"][0]
    assert problem["instance"].startswith("/")
    if response.status_code == 422:
        assert all(error["message"] for error in problem["errors"])


def _expect_errors(response: Response) -> None:
    if response.headers["content-type"] == ["application/json; charset=utf-8"]:
        assert all(set(error) == {"code", "description"} for error in response.json())
    else:
        assert response.headers["content-type"] == ["text/xml; charset=utf-8"]
        assert fromstring(response.content).tag == "errors"  # noqa: S314 - our own answer


@schemathesis.check
def what_fits_is_only_refused_for_a_reason_of_its_own(
    _: CheckContext, response: Response, case: Example
) -> None:
    """Data that fits the document may be refused by a rule that no schema can state, never as data of a wrong shape."""
    assert case.meta is not None
    if case.meta.generation.mode.is_negative or response.status_code not in (400, 413, 415, 422):
        return
    operation = case.operation.definition.raw["operationId"]
    if operation in _ONE_OF_TWO or OPERATIONS[operation].is_open311:
        return
    problem = response.json()
    codes = {problem["code"]} | {error["code"] for error in problem.get("errors", ())}
    assert not codes & _OF_SHAPE, problem


_ONE_OF_TWO = {"step_up_session", "create_staff", "grant_role"}
"""They need the one or the other field, by the state of the caller or by the role."""

# Not `int_type`: to JSON Schema 5.0 is an integer.
_OF_SHAPE = {
    "malformed_body",
    "unsupported_media_type",
    "unknown_parameter",
    "repeated_parameter",
    "bad_idempotency_key",
    "missing",
    "extra_forbidden",
    "enum",
    "literal_error",
    "string_type",
    "string_too_long",
    "string_pattern_mismatch",
    "int_parsing",
    "float_type",
    "float_parsing",
    "bool_type",
    "bool_parsing",
    "uuid_type",
    "uuid_parsing",
    "datetime_type",
    "datetime_parsing",
    "timezone_aware",
    "list_type",
    "model_type",
    "model_attributes_type",
    "too_long",
    "too_short",
    "greater_than_equal",
    "less_than_equal",
}


@pytest.fixture
def with_known_ids(served: Served) -> Iterator[None]:
    """Three of four ids that fit the document are ids of something."""

    def map_path_parameters(
        context: HookContext, path_parameters: dict[str, object] | None
    ) -> dict[str, object]:
        return {name: _known_id(served, name, value) for name, value in (path_parameters or {}).items()}

    schema.hooks.register_hook_with_name(map_path_parameters, "map_path_parameters")
    yield
    schema.hooks.unregister(map_path_parameters)


@pytest.mark.parametrize("examples", [EXAMPLES])
@schema.parametrize()
@settings(
    max_examples=EXAMPLES,
    derandomize=True,
    deadline=None,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_the_service_keeps_to_its_document(
    case: Example, examples: int, served: Served, with_known_ids: None
) -> None:
    """Each example as one caller, mostly as one who may."""
    operation = case.operation.definition.raw["operationId"]
    headers = served.headers(operation, _caller_of(operation, case))
    response = case.call(base_url=served.url, headers=headers, timeout=10)
    excluded = _excluded(operation)
    if _is_lost(case, response):
        excluded.append(negative_data_rejection)
    case.validate_response(response, headers=headers, excluded_checks=excluded)


def _is_lost(case: Example, response: Response) -> bool:
    """A parameter that is an empty list is none on the wire, where nobody can refuse it."""
    query = urlsplit(str(response.request.url)).query
    return not set(case.query or ()) <= {name for name, _ in parse_qsl(query, keep_blank_values=True)}


def _caller_of(operation: str, case: Example) -> str:
    """The same for the same example, so that a failure can be looked at again."""
    rule = POLICY[operation]
    # A key where only tokens are described is a request without its header: the matrix asks that.
    callers = [name for name in CALLERS if name not in SCOPES or SCOPES[name] in rule.scopes]
    if operation == NEVER_ENDS:
        callers = ["nobody"]
    elif operation in ENDS_THE_SESSION:
        callers = ["nobody", "resident", "resident"]
    elif not rule.anonymous:
        may = [name for name, role in ROLES.items() if role in rule.roles or rule.ungranted]
        may += [name for name, scope in SCOPES.items() if scope in rule.scopes]
        callers += 3 * (may + ["resident"] * rule.resident)
    return callers[_number(repr((case.path_parameters, case.query, case.headers, case.body))) % len(callers)]


def _known_id(served: Served, name: str, value: object) -> object:
    number, known = _number(str(value)), served.ids.get(name)
    return value if known is None or not _is_uuid(value) or number % 4 == 0 else known[number % len(known)]


def _is_uuid(value: object) -> bool:
    try:
        return str(UUID(str(value))) == value
    except ValueError:
        return False


def _number(text: str) -> int:
    return zlib.crc32(text.encode("utf-8", "replace"))


def _excluded(operation: str) -> list[CheckFunction]:
    """Checks that know too little: what a rule may refuse is checked above; `PUT /v1/regions/locate` is a region's.

    Open311 ignores what it does not know and what is empty.
    """
    excluded: list[CheckFunction] = [positive_data_acceptance]
    if OPERATIONS[operation].is_open311:
        excluded.append(negative_data_rejection)
    if operation == "locate_region":
        excluded += [unsupported_method, allow_header_conformance]
    return excluded
