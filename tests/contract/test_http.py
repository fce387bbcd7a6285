"""Odd methods, odd paths, odd bodies, odd pages, borrowed ids and repeated requests: on every operation that there is."""

import gzip
import json
import re
import resource
import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from urllib.parse import urlencode

import httpx
import pytest
from starlette.types import ASGIApp

from app import clock, pagination
from app.models.hazards import HazardStatus
from app.models.media import MediaPurpose
from app.models.staff import Role
from app.policy import POLICY
from app.services import media
from app.settings import settings
from tests.contract.asking import STREAM, Answer, address, exchange, send, signature
from tests.contract.cases import Ask
from tests.contract.routes import DOCUMENT, OPERATIONS, Json
from tests.contract.rules import callers_of, first_cases
from tests.contract.world import PRIVATE, World
from tests.factories import make_resident, make_staff
from tests.stories import complaints, pictures, problem

_METHODS = ("GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "PROPFIND", "get", "X")
_CASES = first_cases()
_WITH_JSON = [
    name
    for name, each in OPERATIONS.items()
    # What WeChat sends is opened by rules of its own.
    if "application/json" in (each.body or {}) and name != "receive_wechat_push"
]
_LISTS = [
    name
    for name, each in OPERATIONS.items()
    if "cursor" in {parameter["name"] for parameter in each.parameters}
]
_REPEATABLE = [
    name for name, each in OPERATIONS.items() if each.method == "POST" and not POLICY[name].anonymous
]
_SHOWN_ONCE = {"temporary_password", "secret", "key", "provisioning_uri", "recovery_codes"}
_SHOWN_ONCE |= {"phone", "real_name", "id_number", "addresses"}
_TELLTALES = ("Traceback", "SELECT ", "INSERT ", "sqlite", "asyncpg", ".py", "0x", "/usr/", "/app/")


class Asker:
    """Asks one operation as somebody who may."""

    def __init__(self, application: ASGIApp, client: httpx.AsyncClient, world: World, operation: str) -> None:
        self.application, self.client, self.world = application, client, world
        self.operation, self.case = operation, _CASES[operation]
        self.who = callers_of(self.case)[0]
        self._prepared: tuple[Ask, dict[str, str]] | None = None

    async def prepare(self) -> tuple[Ask, dict[str, str]]:
        """A good request and the headers of its caller."""
        ask = await self.case.prepare(self.world, self.who)
        return ask, ask.caller.headers if ask.caller else self.world.headers(self.who)

    async def send(self, ask: Ask, headers: dict[str, str]) -> Answer:
        return await send(self.application, self.client, self.operation, ask, headers)

    async def raw(self, content: bytes, kind: str = "application/json", **headers: str) -> httpx.Response:
        """The good request with another body, which nobody is to take."""
        self._prepared = self._prepared or await self.prepare()
        ask, caller = self._prepared
        if ask.signed:
            caller = caller | signature(content)
        return await self.client.request(
            OPERATIONS[self.operation].method,
            address(self.operation, ask),
            params={name: str(value) for name, value in ask.query.items()},
            content=content,
            headers={**caller, "Content-Type": kind, **headers},
        )


AskOf = Callable[[str], Asker]


@pytest.fixture
def ask_of(application: ASGIApp, wire: httpx.AsyncClient, world: World) -> AskOf:
    """A way to ask an operation."""
    return lambda operation: Asker(application, wire, world, operation)


def refused(response: httpx.Response, *statuses: int) -> Json:
    """The problem, in full and telling nothing of the inside."""
    assert response.status_code in statuses, response.text[:500]
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["x-request-id"] == response.json()["request_id"]
    assert [each for each in _TELLTALES if each in response.text] == []
    body: Json = response.json()
    return body


# --- Methods ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", DOCUMENT["paths"])
async def test_a_path_knows_its_methods_and_says_so(path: str, application: ASGIApp, world: World) -> None:
    """For nobody and for somebody; a method in lower case, or of WebDAV, is none."""
    known = {each.method for each in OPERATIONS.values() if each.path == path}
    # As paths, `locate` could be an id.
    known |= {"PUT"} if path == "/v1/regions/locate" else set()
    filled = path.format(**{name: str(world.photo) for name in _names_in(path)} | {"suffix": "json"})
    allowed = ", ".join([*(method for method in _METHODS if method in known), *["HEAD"] * ("GET" in known)])
    for method in set(_METHODS) - known:
        for headers in ({}, world.reporter.headers):
            answer = await exchange(application, method, filled, headers)
            assert (answer.status, answer.code) == (405, "method_not_allowed"), method
            assert answer.headers["allow"] == allowed, method


@pytest.mark.parametrize("operation", [name for name, each in OPERATIONS.items() if each.method == "GET"])
async def test_head_is_get_without_a_body(operation: str, ask_of: AskOf, wire: httpx.AsyncClient) -> None:
    asker = ask_of(operation)
    ask, headers = await asker.prepare()
    if operation == STREAM:
        headers = {}
    path, query = address(operation, ask), {name: str(value) for name, value in ask.query.items()}
    got = await wire.get(path, params=query, headers=headers)
    head = await wire.head(path, params=query, headers=headers)
    assert (head.status_code, head.content) == (got.status_code, b"")
    assert head.headers["content-type"] == got.headers["content-type"]
    if not POLICY[operation].anonymous:
        assert (await wire.head(path, params=query)).status_code == 401


@pytest.mark.parametrize("name", ["X-HTTP-Method-Override", "X-Method-Override", "X-HTTP-Method"])
async def test_nobody_overrides_a_method(name: str, wire: httpx.AsyncClient, world: World) -> None:
    hazard_id = await world.hazard()
    response = await wire.get(f"/v1/hazards/{hazard_id}", headers={**world.reporter.headers, name: "DELETE"})
    assert response.json()["id"] == str(hazard_id)
    refused(await wire.get("/v1/me?_method=DELETE", headers=world.reporter.headers), 422)
    assert (await wire.get("/v1/me", headers=world.reporter.headers)).status_code == 200


# --- Paths ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", _CASES)
async def test_another_spelling_of_a_path_is_another_path(
    operation: str, ask_of: AskOf, application: ASGIApp
) -> None:
    """Nothing is normalised, so nothing in front of the service can read a path in another way than the service."""
    asker = ask_of(operation)
    ask, headers = await asker.prepare()
    path = address(operation, ask)
    body = json.dumps(ask.body).encode()
    typed = headers | {"content-type": "application/json", "content-length": str(len(body))}
    for spelling in _spellings(path):
        answer = await exchange(application, OPERATIONS[operation].method, spelling, typed, body)
        assert answer.code in _ELSEWHERE, (spelling, answer)


_NOT_THERE = ("not_found", "service_code_not_found", "service_request_id_not_found", "method_not_allowed")
_ELSEWHERE = (*_NOT_THERE, "invalid_input", "unauthenticated")
"""Nothing, or something else: `/v1/hazards/map.geojson%20` would be a hazard."""


def _spellings(path: str) -> list[str]:
    head, _, tail = path.rpartition("/")
    return [
        f"{path}/",
        f"/{path}",
        f"{head}//{tail}",
        f"{head}/./{tail}",
        f"{head}/%2e/{tail}",
        f"{head}/x/../{tail}",
        f"{head}/x/%2e%2e/{tail}",
        f"{head}/{tail}%2f",
        f"{head}/{tail}%20",
        f"{head}/{tail}%00",
        f"{head}/{tail};a=b",
        f"{head}%5c{tail}",
        path.upper(),
        f"{head}/{tail.upper() if tail.islower() and '-' not in tail else tail + '.json'}",
    ]


async def test_an_encoded_letter_is_that_letter(application: ASGIApp, world: World) -> None:
    for headers, status in ((world.reporter.headers, 200), ({}, 401)):
        assert (await exchange(application, "GET", "/v1/%68azards", headers)).status == status


_NO_IDS = ("1", "null", "..", "*", "%27", "0" * 36, "%7Bid%7D", "x" * 300, "%F0%9F%94%A5", "%FF")


@pytest.mark.parametrize("operation", [name for name, each in OPERATIONS.items() if each.ids])
async def test_what_is_no_id_is_refused(operation: str, ask_of: AskOf, application: ASGIApp) -> None:
    ask, headers = await ask_of(operation).prepare()
    described, query = OPERATIONS[operation], urlencode(ask.query)
    body = json.dumps(ask.body).encode() if ask.body is not None else b""
    typed = headers | {"content-type": "application/json", "content-length": str(len(body))}
    for bad in _NO_IDS:
        path = described.path.format(**{**ask.ids, described.ids[0]: bad})
        answer = await exchange(application, described.method, f"{path}?{query}", typed, body)
        assert answer.code in (*_NOT_THERE, "invalid_input"), (bad, answer)


# --- Bodies -----------------------------------------------------------------------------------------------------

_DEEP = b"[" * 10_000 + b"]" * 10_000
_BODIES = {
    "nothing at all": (b"", 422, "invalid_input"),
    "blanks": (b"   ", 422, "malformed_body"),
    "half": (b'{"a": ', 422, "malformed_body"),
    "two values": (b"{} {}", 422, "malformed_body"),
    "deep": (_DEEP, 422, "malformed_body"),
    "a little too deep": (b'{"a": ' + b"[" * 300 + b"]" * 300 + b"}", 422, "malformed_body"),
    "half a million values": (b"[" + b"[]," * 349_000 + b"1]", 422, "malformed_body"),
    "deep objects": (b'{"a":' * 5_000 + b"1" + b"}" * 5_000, 422, "malformed_body"),
    "a million digits": (b'{"a": ' + b"1" * 900_000 + b"}", 422, "malformed_body"),
    "a huge integer": (b'{"a": 9007199254740994}', 422, "malformed_body"),
    "a huge exponent": (b'{"a": 1e400}', 422, "malformed_body"),
    "one key twice": (b'{"a": 1, "a": 2}', 422, "malformed_body"),
    "one key twice, escaped": (b'{"a": 1, "\\u0061": 2}', 422, "malformed_body"),
    "not a number": (b'{"a": NaN}', 422, "malformed_body"),
    "infinity": (b'{"a": -Infinity}', 422, "malformed_body"),
    "a NUL": (b'{"a": "\\u0000"}', 422, "malformed_body"),
    "a raw NUL": (b'{"a": "\0"}', 422, "malformed_body"),
    "half a pair": (b'{"a": "\\ud800"}', 422, "malformed_body"),
    "a pair upside down": (b'{"a": "\\udc00\\ud800"}', 422, "malformed_body"),
    "no UTF-8": (b'{"a": "\xff"}', 422, "malformed_body"),
    "an overlong dot": (b'{"a": "\xc0\xae"}', 422, "malformed_body"),
    "UTF-16": ('{"a": 1}'.encode("utf-16"), 422, "malformed_body"),
    "a byte order mark": (b"\xef\xbb\xbf{}", 422, "malformed_body"),
    "a comment": (b"{} // really", 422, "malformed_body"),
    "single quotes": (b"{'a': 1}", 422, "malformed_body"),
    "a number": (b"1", 422, "invalid_input"),
    "a list": (b"[]", 422, "invalid_input"),
    "null": (b"null", 422, "invalid_input"),
    "too much": (b'{"a": "' + b"x" * 1024 * 1024 + b'"}', 413, "body_too_large"),
}


@pytest.mark.parametrize("operation", _WITH_JSON)
async def test_an_odd_body_is_refused_at_once(operation: str, ask_of: AskOf) -> None:
    asker = ask_of(operation)
    for name, (content, status, code) in _BODIES.items():
        if name in _HARMLESS.get(operation, ()):
            continue
        began = clock.monotonic()
        response = await asker.raw(content)
        assert refused(response, status)["code"] == code, (name, response.text)
        assert clock.monotonic() - began < 2, name


_HARMLESS = {
    # A body that may be left out.
    "call_street": ("nothing at all", "null"),
    "reset_staff_password": ("nothing at all", "null"),
}


async def test_odd_bodies_need_no_memory_to_speak_of(ask_of: AskOf) -> None:
    """The largest that was ever in use, in KiB."""
    asker = ask_of("add_hazard_comment")
    await asker.raw(b"{}")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for content, _, _ in _BODIES.values():
        await asker.raw(content)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50 * 1024


@pytest.mark.parametrize("operation", _WITH_JSON)
async def test_a_body_of_another_kind_is_refused(operation: str, ask_of: AskOf) -> None:
    asker = ask_of(operation)
    ask, _ = await asker.prepare()
    good = json.dumps(ask.body).encode()
    kinds = ("text/plain", "application/xml", "application/x-www-form-urlencoded", "multipart/form-data", "")
    for kind in (*kinds, "application/json; charset=gbk", "application/merge-patch+json", "json"):
        assert refused(await asker.raw(good, kind), 415)["code"] == "unsupported_media_type", kind
    for coding in ("gzip", "br", "identity, gzip", "x"):
        packed = gzip.compress(good)
        response = await asker.raw(packed, **{"Content-Encoding": coding})
        assert refused(response, 415)["code"] == "unsupported_media_type", coding


async def test_a_bomb_is_not_unpacked(ask_of: AskOf) -> None:
    bomb = gzip.compress(b" " * 100_000_000)
    response = await ask_of("file_hazard").raw(bomb, **{"Content-Encoding": "gzip"})
    refused(response, 415)


async def test_a_body_without_an_end_is_cut(application: ASGIApp, world: World) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 1
            yield b" " * 65_536

    transport = httpx.ASGITransport(application)
    async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
        headers = world.reporter.headers | {"Content-Type": "application/json"}
        response = await client.post("/v1/hazards", content=endless(), headers=headers)
    refused(response, 413)
    assert sent < 40


@pytest.mark.parametrize("operation", _WITH_JSON)
async def test_nobody_sets_what_is_not_theirs_to_set(operation: str, ask_of: AskOf) -> None:
    """Mass assignment: fields that rows have and this body has not."""
    asker = ask_of(operation)
    ask, headers = await asker.prepare()
    fields: Json = {
        "id": str(asker.world.photo),
        "status": "closed",
        "reporter_id": str(asker.world.reporter.id),
        "handler_id": str(asker.world.worker.id),
        "owner_id": str(asker.world.worker.id),
        "created_at": "2020-01-01T00:00:00Z",
        "verified": True,
        "is_admin": True,
        "roles": ["system_admin"],
        "__proto__": {"admin": True},
    }
    body = ask.body if isinstance(ask.body, dict) else {}
    for name, value in fields.items():
        spoiled = replace(ask, body={**body, name: value})
        answer = await asker.send(spoiled, headers)
        assert answer.status == 422, (name, answer.text)
        assert '"extra_forbidden"' in answer.text, (name, answer.text)


# --- Queries and pages ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", [name for name in OPERATIONS if name in _CASES])
async def test_an_unknown_parameter_is_refused(operation: str, ask_of: AskOf) -> None:
    """Also the ones that would sort or look by what is hidden."""
    asker = ask_of(operation)
    ask, headers = await asker.prepare()
    if operation == STREAM:
        answer = await exchange(asker.application, "GET", f"{address(operation, ask)}?sort=id", headers)
        assert (answer.status, answer.code) == (422, "invalid_input")
        return
    for name in ("sort", "order_by", "phone", "id_number", "fields", "include", "offset"):
        answer = await asker.send(replace(ask, query={**ask.query, name: "id_number"}), headers)
        if OPERATIONS[operation].is_open311:
            # Clients of the standard send what some other server knows.
            assert answer.status == OPERATIONS[operation].success
            continue
        assert (answer.status, answer.code) == (422, "invalid_input"), name
        assert '"unknown_parameter"' in answer.text


@pytest.mark.parametrize("operation", _LISTS)
async def test_a_page_has_its_limits(operation: str, ask_of: AskOf) -> None:
    asker = ask_of(operation)
    ask, headers = await asker.prepare()
    for limit in ("1000000000", "101", "0", "-1", "1.5", "1e2", "", "x", "١", "9" * 400):
        answer = await asker.send(Ask(ask.ids, query={**ask.query, "limit": limit}), headers)
        assert (answer.status, answer.code) == (422, "invalid_input"), limit
    for size in (1, 100):
        answer = await asker.send(Ask(ask.ids, query={**ask.query, "limit": size}), headers)
        assert answer.status == 200


@pytest.mark.parametrize("operation", _LISTS)
async def test_a_cursor_is_ours_and_of_this_list(operation: str, ask_of: AskOf) -> None:
    """Made up, of another list, or changed in any one character: refused."""
    asker = ask_of(operation)
    ask, headers = await asker.prepare()
    good = pagination.encode(operation, str(asker.world.photo))
    cursors = [
        "x",
        "eyJpZCI6MX0",
        "' OR 1=1 --",
        pagination.encode("list_of_nothing", str(asker.world.photo)),
    ]
    cursors += [good[:at] + ("A" if good[at] != "A" else "B") + good[at + 1 :] for at in range(len(good))]
    cursors += [good + "A", good[:-1], good.upper(), "x" * 501]
    for cursor in cursors:
        answer = await asker.send(Ask(ask.ids, query={**ask.query, "cursor": cursor}), headers)
        assert (answer.status, answer.code) == (422, "invalid_input"), cursor


# --- Repeated requests ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", _REPEATABLE)
async def test_a_repeat_gets_the_first_answer_and_nobody_else_does(operation: str, ask_of: AskOf) -> None:
    asker = ask_of(operation)
    ask, headers = await asker.prepare()
    key = secrets.token_urlsafe(20)
    keyed = {**headers, "Idempotency-Key": key}

    spoiled = await asker.send(Ask(ask.ids, ask.body, {"unknown": "1"}, ask.form, ask.file), keyed)
    first = await asker.send(ask, keyed)
    again = await asker.send(ask, keyed)
    assert spoiled.status == 422
    assert (first.status, first.headers.get("idempotent-replayed")) == (OPERATIONS[operation].success, None)
    assert (again.status, again.headers.get("idempotent-replayed")) == (first.status, "true"), again.text
    assert _without_secrets(again.text) == _without_secrets(first.text)
    assert not (set(_filled(again.text)) & _SHOWN_ONCE)

    if ask.file or isinstance(ask.body, dict):
        other = Ask(ask.ids, _changed(ask.body), ask.query, ask.form, ask.file and ask.file + b" ")
        answer = await asker.send(other, keyed)
        assert (answer.status, answer.code) == (422, "idempotency_key_reused"), answer.text


@pytest.mark.parametrize("operation", _REPEATABLE)
async def test_a_key_is_nothing_to_another_caller_or_another_thing(operation: str, ask_of: AskOf) -> None:
    asker = ask_of(operation)
    key = {"Idempotency-Key": secrets.token_urlsafe(20)}
    asked = set()
    for who in 2 * callers_of(asker.case)[:2]:
        ask = await asker.case.prepare(asker.world, who)
        headers = ask.caller.headers if ask.caller else asker.world.headers(who)
        this = (headers["Authorization"], address(operation, ask))
        if this not in asked:
            asked.add(this)
            answer = await asker.send(ask, headers | key)
            assert answer.headers.get("idempotent-replayed") is None
            assert answer.status == OPERATIONS[operation].success, answer.text
    assert len(asked) >= 2


@pytest.mark.parametrize("key", ["", "x" * 256, "x" * 1_001, "a b", "ä", "键", "a\tb", "a\x7fb"])
async def test_a_key_that_is_none_is_refused(key: str, wire: httpx.AsyncClient, world: World) -> None:
    hazard_id = await world.hazard()
    headers = {name.encode(): value.encode() for name, value in world.reporter.headers.items()}
    headers[b"Idempotency-Key"] = key.encode()
    response = await wire.post(f"/v1/hazards/{hazard_id}/support", headers=headers)
    assert refused(response, 400)["code"] == "bad_idempotency_key"


# --- Borrowed ids -----------------------------------------------------------------------------------------------


async def test_a_picture_is_used_by_its_owner_for_its_purpose_only(
    wire: httpx.AsyncClient, world: World
) -> None:
    neighbour = world.people["a neighbour"]
    [foreign], [after] = await pictures(neighbour), await pictures(world.reporter, MediaPurpose.HAZARD_AFTER)
    [used] = await pictures(world.reporter, subject_kind="hazards", subject_id=await world.hazard())
    for borrowed in (foreign, after, used, str(world.known_resident)):
        body = {
            "category": "garbage",
            "description": "垃圾堆放",
            "media_ids": [borrowed],
            "location": world.places.point(world.places.grid),
        }
        answer = await wire.post("/v1/hazards", json=body, headers=world.reporter.headers)
        assert complaints(problem(answer, 422, "media_not_usable")) == [
            ("body.media_ids.0", "media_not_usable")
        ]


async def test_a_signed_link_is_for_one_picture_and_not_for_ever(
    wire: httpx.AsyncClient, world: World, advance: Callable[[float], None]
) -> None:
    link = media.signed_url(world.photo, "thumbnail").removeprefix(settings.base_url)
    signature = link.rpartition("=")[2]
    assert (await wire.get(link)).status_code == 200
    [other] = await pictures(world.reporter)
    for edited in (
        link.replace(str(world.photo), other),
        link.replace("thumbnail", "main"),
        link.replace("expires=1", "expires=2"),
        link[:-1] + ("A" if link[-1] != "A" else "B"),
        link.replace(signature, signature.swapcase()),
        link.replace(signature, ""),
    ):
        refused(await wire.get(edited), 404)
    advance(3600)
    refused(await wire.get(link), 404)


async def test_a_filter_is_no_way_into_another_street(wire: httpx.AsyncClient, world: World) -> None:
    hazard_id = await world.hazard(HazardStatus.ACCEPTED)
    stranger = world.people["street_dispatcher of the far_street"].headers
    for query in (
        {"region_id": world.places.grid},
        {"handler_id": world.worker.id},
        {"bbox": "70,15,130,55"},
    ):
        filters = {name: str(value) for name, value in query.items()}
        seen = await wire.get(
            "/v1/hazards", params=filters, headers=world.people["auditor of the grid"].headers
        )
        assert str(hazard_id) in {each["id"] for each in seen.json()["items"]}
        hidden = await wire.get("/v1/hazards", params=filters, headers=stranger)
        assert hidden.json().get("items", []) == []
        assert hidden.status_code == (422 if "handler_id" in query else 200)
        for scope in ("mine", "handled"):
            answer = await wire.get(
                "/v1/hazards", params={**filters, "scope": scope}, headers=world.people["a neighbour"].headers
            )
            assert str(hazard_id) not in answer.text
    counted = {"scope": "handled", "region_id": str(world.places.grid)}
    assert (await wire.get("/v1/hazards/statistics", params=counted, headers=stranger)).json()["items"] == []


async def test_a_body_names_only_what_its_sender_may_touch(wire: httpx.AsyncClient, world: World) -> None:
    """Workers, regions, comments and pictures of elsewhere."""
    manager = world.people["community_manager of the community"].headers
    stranger = await make_staff(Role.GRID_WORKER, world.places.far_grid)
    mine, other = await world.hazard(), await world.hazard()
    said = await wire.post(
        f"/v1/hazards/{other}/comments", json={"text": "别处"}, headers=world.reporter.headers
    )
    new = {"username": f"w{secrets.token_hex(6)}", "display_name": "张伟"}
    role = {"role": "grid_worker", "region_id": str(world.places.far_grid)}
    colleague, _ = await world.colleague()
    asked: list[tuple[str, Json, int, str]] = [
        (f"/v1/hazards/{mine}/assign", {"staff_id": str(stranger.id)}, 422, "invalid_input"),
        (f"/v1/staff/{colleague.id}/grants", role, 403, "role_not_yours_to_give"),
        ("/v1/staff", {**new, **role}, 403, "role_not_yours_to_give"),
        (
            f"/v1/hazards/{mine}/redactions",
            {"comment_ids": [said.json()["id"]], "reason": "abuse"},
            422,
            "nothing_to_redact",
        ),
        (
            f"/v1/hazards/{mine}/redactions",
            {"media_ids": [str(world.photo)], "reason": "abuse"},
            422,
            "nothing_to_redact",
        ),
    ]
    for path, body, status, code in asked:
        problem(await wire.post(path, json=body, headers=manager), status, code)


async def test_a_grant_is_found_under_its_holder_only(wire: httpx.AsyncClient, world: World) -> None:
    manager = world.people["community_manager of the community"].headers
    (one, grant), (other, _) = await world.colleague(), await world.colleague()
    problem(await wire.delete(f"/v1/staff/{other.id}/grants/{grant}", headers=manager), 404, "not_found")
    assert (await wire.delete(f"/v1/staff/{one.id}/grants/{grant}", headers=manager)).status_code == 204


async def test_a_borrowed_cursor_shows_its_reader_nothing_new(wire: httpx.AsyncClient, world: World) -> None:
    """A cursor is a place in a list, not a right to read it."""
    one, other = [await make_resident(world.places.community) for _ in range(2)]
    theirs = [str(await world.hazard(reporter=one, category=PRIVATE)) for _ in range(3)]
    first = (await wire.get("/v1/hazards?limit=1", headers=one.headers)).json()
    for scope in ("mine", "public"):
        borrowed = {"cursor": first["next_cursor"], "limit": "100", "scope": scope}
        answer = await wire.get("/v1/hazards", params=borrowed, headers=other.headers)
        assert answer.status_code == 200
        assert [each for each in theirs if each in answer.text] == []


def _without_secrets(text: str) -> Json:
    return {name: value for name, value in json.loads(text or "{}").items() if name not in _SHOWN_ONCE}


def _filled(text: str) -> Iterator[str]:
    return (name for name, value in json.loads(text or "{}").items() if value not in (None, []))


_PRESCRIBED = {"format", "exported_at"}
"""Words of the document of a case that are refused before anybody asks whether they came before."""


def _changed(body: object) -> object:
    """The same with one other word."""
    if not isinstance(body, dict):
        return body
    words = [
        (name, value) for name, value in body.items() if isinstance(value, str) and name not in _PRESCRIBED
    ]
    name, word = words[0] if words else ("other", "0")
    return {**body, name: word[:-1] + ("1" if word.endswith("0") else "0")}


def _names_in(path: str) -> list[str]:
    return re.findall(r"{(\w+)}", path)
