"""Plants a unique word in every field, header and file of every operation that writes, and keeps what grew out of it."""

import contextlib
import itertools
import json
import os
import re
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from uuid import UUID

import httpx
from starlette.types import ASGIApp

from app import logs
from app.crypto import new_token
from app.db import database
from app.keys import unseal
from app.models.residents import Resident
from tests.contract.asking import Answer, address, send
from tests.contract.cases import CASES, TEMPLATE, Ask, Case
from tests.contract.routes import OPERATIONS, Described, Json, resolved
from tests.contract.rules import callers_of
from tests.contract.world import PRINCIPALS, Principal, World
from tests.media.pictures import encoded, exif, quadrants
from tests.signing_in import WECHAT

_numbers = itertools.count(10_000_019, 7)
_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)

WORDS_FOR_ALL = {
    ("file_hazard", "description"),
    ("add_hazard_comment", "text"),
    ("call_street", "reason"),
    ("resolve_hazard in the grid", "note"),
    ("resolve_hazard at the street", "note"),
    ("resolve_hazard by the department", "note"),
    ("check_in_hazard", "note"),
    ("dispute_hazard", "reason"),
    ("reject_hazard", "note"),
    ("create_open311_request", "description"),
    ("receive_district_event a case", "description"),
    ("receive_district_event a reply", "text"),
    ("receive_district_event a status", "note"),
}
"""What residents may read of each other's hazards once it passed the content check."""

MASKED_FOR_ALL = {
    ("update_me", "nickname"),
    ("bind_my_phone", "phone"),
    ("set_my_identity", "real_name"),
    ("set_my_identity", "id_number"),
    ("claim_household", "address"),
}
"""What nobody reads in full but the person it belongs to, without a reason on record."""


# --- Words that look like what they stand for -------------------------------------------------------------------


def phone() -> str:
    """A mobile number that nobody else has."""
    return f"138{next(_numbers):08}"


def id_number() -> str:
    """An identity number with a right check digit."""
    number = next(_numbers)
    born = date(1950, 1, 1) + timedelta(days=number % 18_000)
    body = f"510104{born:%Y%m%d}{number % 1000:03}"
    total = sum(weight * int(digit) for weight, digit in zip(_WEIGHTS, body, strict=True))
    return body + "10X98765432"[total % 11]


def chinese() -> str:
    """Three rare characters."""
    number = next(_numbers)
    return "".join(chr(0x9000 + number // 700**power % 700) for power in range(3))


def words() -> str:
    """What people type into a text field: with everything in it that they should not type."""
    return f"canary{next(_numbers)} {chinese()} {phone()} {id_number()}"


def _parts_of(text: str) -> set[str]:
    """Everything in a text that could be a canary, wherever it begins."""
    return {part for pattern in _PATTERNS for part in pattern.findall(text)}


_PATTERNS = [
    re.compile(pattern)
    for pattern in (
        r"canary\d+",
        r"jcs_\w+",
        r"(?=(1[3-9]\d{9}))",
        r"(?=(510104\d{11}[\dX]))",
        r"(?=([\u9000-\u92bb]{3}))",
        r"29\.2864|103\.6898",
    )
]

_OF_FIELD: dict[str, Callable[[], str]] = {
    "real_name": chinese,
    "display_name": chinese,
    "nickname": chinese,
    "id_number": id_number,
    "address": lambda: f"翠柏路18号canary{next(_numbers)}",
    "code": lambda: f"demo:canary{next(_numbers)}",
    "new_password": lambda: f"canary{next(_numbers)} quiet teapots",
    "username": lambda: f"canary{next(_numbers)}",
}
_KEPT_OPEN = {"username", "name", "name_en", "purpose", "version", "case"}
"""Names of accounts and places are no secret, the code of a consent is one of ours, and the id of a case one of theirs."""


@dataclass
class Garden:
    """Every canary with where it was planted and in which field; every answer; what was written down meanwhile."""

    world: World
    planted: dict[str, str] = field(default_factory=dict)
    fields: dict[str, tuple[str, str]] = field(default_factory=dict)
    taken: set[str] = field(default_factory=set)
    ids: dict[str, list[object]] = field(default_factory=lambda: defaultdict(list))
    answers: list[tuple[str, Answer]] = field(default_factory=list)
    logs: dict[str, str] = field(default_factory=dict)
    metrics: str = ""
    messages: str = ""

    def canary(self, case: str, name: str, where: str, text: str = "") -> str:
        """A new one that fits the field; its parts count one by one."""
        text = text or _OF_FIELD.get(name, words)()
        if name not in _KEPT_OPEN:
            self.note(text, f"{case} {where}", (case, name))
        return text

    def secret(self, where: str) -> str:
        """A token that nobody was given."""
        return self.note(new_token("jcs_"), where)

    def note(self, text: str, where: str, field_: tuple[str, str] = ("", "")) -> str:
        """These words are planted."""
        for part in _parts_of(text):
            self.planted[part], self.fields[part] = where, field_
        return text

    def found_in(self, text: str) -> set[str]:
        """The canaries in a text."""
        return _parts_of(text) & self.planted.keys()

    def places_of(self, canaries: Iterable[str]) -> set[str]:
        """Where canaries were planted."""
        return {self.planted[canary] for canary in canaries}

    def remember(self, ask: Ask, answer: Answer) -> None:
        """What the canaries hang on, to look for them there."""
        for name, value in ask.ids.items():
            self.ids[name].append(value)
        made: Json = json.loads(answer.text) if answer.text.startswith("{") else {}
        for name, field_ in (("hazard_id", "supporters"), ("staff_id", "username")):
            if field_ in made:
                self.ids[name].append(made["id"])

    async def readings(self, case: Case) -> list[Ask]:
        """A read of everything that canaries may hang on."""
        operation = OPERATIONS[case.operation]
        for name in ("hazard_id", "staff_id"):
            if name in operation.ids:
                return [Ask({name: each}) for each in dict.fromkeys(map(str, self.ids[name]))]
        if "resident_id" in operation.ids:
            return [Ask({"resident_id": self.world.reporter.id})]
        if case.operation == "list_hazards":
            return [Ask(query={"scope": scope, "limit": 100}) for scope in ("mine", "public", "handled")]
        if case.operation == "read_hazard_map":
            lng, lat = self.world.places.centres[self.world.places.grid]
            return [Ask(query={"bbox": f"{lng - 0.1},{lat - 0.1},{lng + 0.1},{lat + 0.1}"})]
        ask = await case.prepare(self.world, PRINCIPALS[0])
        return [_with(ask, query={**ask.query, "limit": 100} if _is_a_list(operation) else ask.query)]


# --- Planting ---------------------------------------------------------------------------------------------------


async def plant(
    garden: Garden, application: ASGIApp, client: httpx.AsyncClient, *, spoiled: bool = True
) -> None:
    """Fill the garden: good requests first, then some that cannot be read, then each way to spoil a field."""
    await _introduce_the_reporter(garden, client)
    for case in CASES:
        callers = callers_of(case)
        if callers and OPERATIONS[case.operation].method != "GET":
            await _Bed(garden, application, client, case, callers[0]).plant(spoiled=spoiled)
    await _upload(garden, client)


async def _introduce_the_reporter(garden: Garden, client: httpx.AsyncClient) -> None:
    """Everything that is known about a person belongs to whoever reports the hazards that others look at."""
    world = garden.world
    for purpose in ("contact_phone", "identity"):
        await world.consent(world.reporter, purpose)
    async with database.reading() as session:
        openid = unseal(await session.get_one(Resident, world.reporter.id), "openid")
    order = {"openid": openid, "template_id": TEMPLATE, "count": 10}
    (await client.post(f"{WECHAT}/subscriptions", json=order)).raise_for_status()
    digits = f"{next(_numbers):08}"
    garden.note(f"190{digits}", "bind_my_phone code", ("bind_my_phone", "phone"))
    told: list[tuple[str, str, Json]] = [
        ("PUT", "/v1/me", {"nickname": garden.canary("update_me", "nickname", "nickname")}),
        ("POST", "/v1/me/phone", {"code": f"demo:{digits}"}),
        (
            "PUT",
            "/v1/me/identity",
            {name: garden.canary("set_my_identity", name, name) for name in ("real_name", "id_number")},
        ),
        (
            "POST",
            "/v1/me/households",
            {
                "region_id": str(world.places.grid),
                "address": garden.canary("claim_household", "address", "address"),
                "relation": "owner",
            },
        ),
        ("POST", "/v1/me/message-quotas", {"template_id": TEMPLATE, "count": 10}),
    ]
    for method, path, body in told:
        response = await client.request(method, path, json=body, headers=world.reporter.headers)
        assert response.status_code < 300, response.text


@dataclass
class _Bed:
    """One case, and the ways to ask it wrongly."""

    garden: Garden
    application: ASGIApp
    client: httpx.AsyncClient
    case: Case
    who: Principal

    @property
    def operation(self) -> Described:
        return OPERATIONS[self.case.operation]

    async def plant(self, *, spoiled: bool) -> None:
        await self._plant_well()
        ask, headers = await self._ask()
        await self._plant_in_headers(ask, headers)
        for bad in self._spoiled(ask) if spoiled else ():
            await self._send(bad, headers)
        for content, kind in self._unreadable():
            response = await self.client.request(
                self.operation.method,
                address(self.case.operation, ask),
                content=content,
                headers={**headers, "Content-Type": kind},
            )
            self._keep(response)

    async def _ask(self) -> tuple[Ask, dict[str, str]]:
        ask = await self.case.prepare(self.garden.world, self.who)
        return ask, ask.caller.headers if ask.caller else self.garden.world.headers(self.who)

    async def _plant_well(self) -> None:
        """A request that is taken, with a canary in every field for words."""
        ask, headers = await self._ask()
        if self.operation.body is None or ask.file:
            return
        if ask.form or ask.signed:
            await self._plant_for_systems(ask, headers)
            return
        body = dict(ask.body) if isinstance(ask.body, dict) else {}
        for name in _words_of(self.operation):
            body[name] = self.garden.canary(self.case.name, name, f"body.{name}")
        planted = _with(ask, body=body)
        answer = await self._send(planted, headers)
        assert answer.status < 300, (self.case.name, body, answer.text)
        self.garden.remember(planted, answer)
        if body != (ask.body or {}):
            self.garden.taken.add(self.case.operation)

    async def _plant_for_systems(self, ask: Ask, headers: Mapping[str, str]) -> None:
        """The words of a form of Open311, or of what the district says about a case."""
        body = dict(ask.body) if isinstance(ask.body, dict) else {}
        data = body.get("data", {})
        said = {
            name: self.garden.canary(self.case.name, name, f"data.{name}") for name in data if name in _FREE
        }
        form = {
            name: self.garden.canary(self.case.name, name, f"form.{name}") for name in _FORM_WORDS if ask.form
        }
        planted = _with(ask, body=body | {"data": data | said} if said else ask.body, form=ask.form | form)
        answer = await self._send(planted, headers)
        assert answer.status < 300, (self.case.name, answer.text)
        if said or form:
            self.garden.taken.add(self.case.operation)
        made = json.loads(answer.text)
        hazard_id = made[0]["service_request_id"] if form else body.get("case", "")
        if is_uuid(hazard_id):
            self.garden.ids["hazard_id"].append(hazard_id)

    async def _plant_in_headers(self, ask: Ask, headers: Mapping[str, str]) -> None:
        planted = {
            name: make(self.garden, f"{self.case.operation} {name}") for name, make in _HEADERS.items()
        }
        good = {name: value for name, value in planted.items() if name not in _READ}
        await self._send(ask, {**good, **headers})
        await self._send(ask, {**planted, **headers})
        secret = self.garden.secret(f"{self.case.operation} Authorization")
        for scheme in ("Bearer", "Basic", "bearer  ", ""):
            await self._send(ask, {"Authorization": f"{scheme} {secret}".strip()})

    def _spoiled(self, ask: Ask) -> Iterator[Ask]:
        """The same request with one thing wrong, which is where the canary is."""
        new = self.garden.canary
        operation = self.case.operation
        yield _with(ask, query={**ask.query, "q": new(operation, "q", "unknown query")})
        for name in ask.query:
            yield _with(ask, query={**ask.query, name: new(operation, "query", f"query.{name}")})
        body = ask.body if isinstance(ask.body, dict) else {}
        if self.operation.body is None or ask.file:
            return
        for name in {**body, **_properties(self.operation)}:
            where = f"body.{name} of a wrong kind"
            if name not in _KEPT_OPEN:
                yield _with(ask, body={**body, name: new(self.case.name, name, where)})
                yield _with(ask, body={**body, name: new(self.case.name, name, where, phone())})
            bad = words_once(self.garden, operation, where)
            for value in ({"a": bad}, [bad], bad + "啊" * 2000, bad + "\x1b[31m"):
                yield _with(ask, body={**body, name: value})
        yield _with(ask, body={**body, "extra": words_once(self.garden, operation, "unknown field")})
        yield _with(ask, body=[words_once(self.garden, operation, "body as a list")])
        yield _with(ask, body=words_once(self.garden, operation, "body as a text"))

    def _unreadable(self) -> Iterator[tuple[bytes, str]]:
        operation, new = self.case.operation, words_once
        yield f'{{"a": "{new(self.garden, operation, "broken JSON")}'.encode(), "application/json"
        yield new(self.garden, operation, "no JSON").encode(), "application/json"
        yield (
            json.dumps({"a": new(self.garden, operation, "latin-1")}, ensure_ascii=False).encode("utf-16"),
            ("application/json"),
        )
        yield new(self.garden, operation, "wrong kind").encode(), "text/plain"
        secret = self.garden.secret(f"{operation} content type")
        yield b"{}", f"application/{secret}"

    async def _send(self, ask: Ask, headers: Mapping[str, str]) -> Answer:
        answer = await send(self.application, self.client, self.case.operation, ask, headers)
        self.garden.answers.append((self.case.name, answer))
        return answer

    def _keep(self, response: httpx.Response) -> None:
        answer = Answer(response.status_code, response.headers, response.text)
        self.garden.answers.append((self.case.name, answer))


async def _upload(garden: Garden, client: httpx.AsyncClient) -> None:
    """A picture with canaries around it and in it, good and bad."""
    world = garden.world
    tags = exif({1: "N", 2: (29.0, 17.0, 11.11), 3: "E", 4: (103.0, 41.0, 23.45)})
    secret = garden.secret("upload_media EXIF")
    tags[0x010E] = secret
    garden.note("29.2864 103.6898", "upload_media GPS")
    picture = encoded(quadrants(), exif=tags, comment=secret.encode())
    new = garden.canary
    for data in (picture, picture[:300], secret.encode()):
        name, kind = new("upload_media", "file", "file name"), new("upload_media", "kind", "content type")
        response = await client.post(
            "/v1/media",
            files={"file": (name, data, "image/" + kind.split()[0])},
            data={"purpose": "hazard"},
            headers=world.reporter.headers,
        )
        hint = response.json().pop("location_hint", None)
        assert (hint is not None) == (data is picture)
        garden.answers.append(
            (
                "upload_media",
                Answer(response.status_code, response.headers, response.text if hint is None else ""),
            )
        )
    fields = {
        "purpose": new("upload_media", "purpose", "form.purpose"),
        "extra": new("upload_media", "x", "form.extra"),
    }
    files = {"file": ("a.jpg", picture, "image/jpeg")}
    response = await client.post("/v1/media", files=files, data=fields, headers=world.reporter.headers)
    garden.answers.append(("upload_media", Answer(response.status_code, response.headers, response.text)))


def _is_a_list(operation: Described) -> bool:
    return "limit" in {each["name"] for each in operation.parameters}


def words_once(garden: Garden, operation: str, where: str) -> str:
    """Words that no field was made for."""
    return garden.canary(operation, "any", where)


def _properties(operation: Described) -> Json:
    content = (operation.body or {}).get("application/json", {})
    schema = resolved(content.get("schema", {}))
    for choice in schema.get("anyOf", ()):
        schema = resolved(choice) if "properties" in resolved(choice) else schema
    properties: Json = schema.get("properties", {})
    return properties


def _words_of(operation: Described) -> Iterator[str]:
    """The fields that take whatever somebody types."""
    for name, described in _properties(operation).items():
        choices = [resolved(each) for each in described.get("anyOf", [described])]
        free = [each for each in choices if each.get("type") == "string" and not _CLOSED & each.keys()]
        if free and name in _FREE:
            yield name


_CLOSED = {"enum", "format", "const", "pattern"}
_FREE = {"description", "address", "note", "reason", "comment", "text", "nickname", "display_name"} | {
    "real_name",
    "id_number",
    "new_password",
}


_FORM_WORDS = ("description", "address_string", "first_name", "last_name", "email", "phone", "device_id")


def is_uuid(text: str) -> bool:
    """Whether a text is the id of something of ours."""
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False


def _with(ask: Ask, **changes: object) -> Ask:
    kept = {
        "ids": ask.ids,
        "body": ask.body,
        "query": ask.query,
        "form": ask.form,
        "file": ask.file,
        "signed": ask.signed,
    }
    return Ask(**(kept | changes))  # type: ignore[arg-type]


def _header_words(garden: Garden, where: str) -> str:
    """Headers hold ASCII."""
    return garden.note(f"canary{next(_numbers)} {phone()} {id_number()}", where)


def _header_word(garden: Garden, where: str) -> str:
    return garden.note(phone(), where)


_HEADERS = {
    "User-Agent": _header_words,
    "Referer": _header_words,
    "Origin": _header_words,
    "Cookie": _header_words,
    "X-Forwarded-For": _header_words,
    "X-Real-IP": _header_words,
    "X-Request-Id": _header_word,
    "X-Anything": _header_words,
    "Accept-Language": _header_words,
    "If-Match": _header_words,
    "If-None-Match": _header_words,
    "Last-Event-ID": _header_words,
    "Idempotency-Key": Garden.secret,
}
_READ = {"If-Match", "Last-Event-ID"}
"""They are looked at: with anything but what is expected, the request is refused."""


# --- What was written down meanwhile ----------------------------------------------------------------------------


@contextlib.contextmanager
def overheard(format_: logs.Format) -> Iterator[Callable[[], str]]:
    """Everything that the process writes to its standard error meanwhile, in one of the two formats."""
    with tempfile.TemporaryFile() as file:
        logs.flush()
        kept = os.dup(2)
        os.dup2(file.fileno(), 2)
        logs.configure(format_)
        written: list[str] = []
        try:
            yield lambda: "".join(written)
        finally:
            logs.flush()
            logs.configure("json")
            os.dup2(kept, 2)
            os.close(kept)
            file.seek(0)
            written.append(file.read().decode())
