"""What every answer has, and what no request gets past."""

import json
from collections.abc import AsyncIterator

import httpx
import pytest
from starlette.types import ASGIApp

from app import edge
from app.settings import settings
from tests.factories import Places, make_resident, make_staff

LOGIN = "/v1/sessions/wechat"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/healthz", 200),
        ("GET", "/v1/regions", 200),
        ("GET", "/nothing/here", 404),
        ("DELETE", "/v1/regions", 405),
        ("GET", "/v1/hazards", 401),
        ("GET", "/v1/regions?colour=red", 422),
        ("GET", "/docs", 200),
        ("GET", "/openapi.json", 200),
    ],
)
async def test_every_answer_has_id_and_security_headers(
    client: httpx.AsyncClient, method: str, path: str, status: int
) -> None:
    answer = await client.request(method, path, headers={"X-Request-Id": "my-own-id-1"})
    assert answer.status_code == status
    assert answer.headers["X-Request-Id"] == "my-own-id-1"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["X-Frame-Options"] == "DENY"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
    assert "Strict-Transport-Security" not in answer.headers
    assert answer.headers.get_list("X-Request-Id") == ["my-own-id-1"]
    assert "Server" not in answer.headers


async def test_production_asks_for_https(application: ASGIApp) -> None:
    strict = edge.Edge(application, hsts=True)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(strict), base_url="http://test") as client:
        assert "max-age=" in (await client.get("/healthz")).headers["Strict-Transport-Security"]


@pytest.mark.parametrize(
    "given", ["", "short", "x" * 65, "with space in it", "a\x1b[31mred", "../../etc/passwd", "13812345678"]
)
async def test_an_unusable_request_id_is_replaced(client: httpx.AsyncClient, given: str) -> None:
    answer = await client.get("/nothing", headers=[(b"X-Request-Id", given.encode())])
    assert answer.headers["X-Request-Id"] != given
    assert len(answer.headers["X-Request-Id"]) == 32
    assert answer.json()["request_id"] == answer.headers["X-Request-Id"]


async def test_nothing_is_cached_unless_a_handler_says_so(client: httpx.AsyncClient, places: Places) -> None:
    resident = await make_resident(places.community)
    assert (await client.get("/v1/me", headers=resident.headers)).headers["Cache-Control"] == "no-store"
    assert (await client.get("/nothing")).headers["Cache-Control"] == "no-store"
    asset = await client.get("/docs/assets/swagger/swagger-ui.css")
    assert asset.headers["Cache-Control"] == "public, max-age=86400"


@pytest.mark.parametrize("path", ["/v1/regions/", "/v1//regions", "/V1/regions"])
async def test_other_spellings_of_a_path_are_not_there(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.get(path)
    assert answer.status_code == 404
    assert answer.headers["Content-Type"] == "application/problem+json"


async def test_an_escaped_spelling_is_decided_as_the_plain_one(client: httpx.AsyncClient) -> None:
    assert (await client.get("/v1/%72egions")).status_code == 200
    assert (await client.get("/v1/%68azards")).status_code == 401


async def test_head_is_get_without_the_body(client: httpx.AsyncClient) -> None:
    whole, head = await client.get("/v1/regions"), await client.head("/v1/regions")
    assert head.status_code == 200
    assert head.content == b""
    assert head.headers["Content-Length"] == whole.headers["Content-Length"]
    assert (await client.head("/v1/hazards")).status_code == 401
    assert (await client.head("/v1/sessions/wechat")).status_code == 405


async def test_head_of_a_stream_ends(client: httpx.AsyncClient, places: Places) -> None:
    resident = await make_resident(places.community)
    answer = await client.head("/v1/stream", headers=resident.headers)
    assert answer.status_code == 200
    assert answer.content == b""


@pytest.mark.parametrize("method", ["TRACE", "OPTIONS", "PATCH", "PROPFIND"])
async def test_unused_methods_are_refused_with_what_is_allowed(
    client: httpx.AsyncClient, method: str
) -> None:
    answer = await client.request(method, "/v1/hazards")
    assert answer.status_code == 405
    assert answer.headers["Allow"] == "GET, POST, HEAD"
    assert answer.json()["code"] == "method_not_allowed"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"code": NaN}', 422),
        (b'{"code": -Infinity}', 422),
        (b'{"code": 1e999}', 422),
        (b'{"code": "a", "code": "b"}', 422),
        (b'{"code": ' + b"9" * 1_000_000 + b"}", 422),
        (b'{"code": 9007199254740993}', 422),
        (b"[" * 10_000 + b"]" * 10_000, 422),
        (b'{"code":' * 900 + b"1" + b"}" * 900, 422),
        (b'{"code": "\\ud800"}', 422),
        (b'{"code": "a\\u0000b"}', 422),
        (b'{"code": "\xff"}', 422),
        ('{"code": "a"}'.encode("utf-16"), 422),
        (b"\xef\xbb\xbf{}", 422),
        (b'{"code": "a"', 422),
        (b"'code'", 422),
        (b"null", 422),
        (b"[]", 422),
        (b"x" * (edge.BODY_BYTES + 1), 413),
    ],
    ids=range(18),
)
async def test_a_body_that_parsers_would_argue_about_is_refused(
    client: httpx.AsyncClient, body: bytes, status: int
) -> None:
    answer = await client.post(LOGIN, content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == status
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json()["status"] == status
    if status == 422:
        assert answer.json()["errors"][0]["loc"][0] == "body"


async def test_an_escaped_backslash_is_no_nul_character(client: httpx.AsyncClient) -> None:
    answer = await client.post(
        LOGIN, content=b'{"code": "demo:a\\\\u0000"}', headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 201


async def test_a_body_without_a_length_is_counted(client: httpx.AsyncClient) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 65_536
            yield b" " * 65_536

    answer = await client.post(LOGIN, content=endless(), headers={"Content-Type": "application/json"})
    assert answer.status_code == 413
    assert sent <= edge.BODY_BYTES + 2 * 65_536


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/xml"},
        {"Content-Type": "multipart/form-data; boundary=x"},
        {"Content-Type": "application/json; charset=gbk"},
        {"Content-Type": ""},
        {"Content-Type": "application/json", "Content-Encoding": "gzip"},
    ],
)
async def test_another_content_type_is_refused(client: httpx.AsyncClient, headers: dict[str, str]) -> None:
    answer = await client.post(LOGIN, content=json.dumps({"code": "demo:li"}), headers=headers)
    assert answer.status_code == 415
    assert answer.json()["code"] == "unsupported_media_type"


async def test_a_form_is_wanted_where_files_go(client: httpx.AsyncClient, places: Places) -> None:
    resident = await make_resident(places.community)
    answer = await client.post("/v1/media", json={"purpose": "hazard"}, headers=resident.headers)
    assert answer.status_code == 415
    broken = await client.post(
        "/v1/media",
        content=b"nonsense",
        headers={**resident.headers, "Content-Type": "multipart/form-data; boundary=x"},
    )
    assert broken.status_code == 422


@pytest.mark.parametrize("path", ["/v1/regions?level=%00", "/v1/regions?level=community%00"])
async def test_nul_characters_in_the_query_are_refused(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.get(path)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["code"] == "control_character"


async def test_nul_characters_in_the_path_are_not_there(client: httpx.AsyncClient) -> None:
    assert (await client.get("/v1/regions/%00")).status_code == 404


@pytest.mark.parametrize(
    ("query", "code"), [("colour=red", "unknown_parameter"), ("limit=1&limit=2", "repeated_parameter")]
)
async def test_odd_parameters_are_named(client: httpx.AsyncClient, query: str, code: str) -> None:
    answer = await client.get(f"/v1/regions?{query}")
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["loc"] == ["query", query.partition("=")[0]]
    assert answer.json()["errors"][0]["code"] == code


async def test_what_is_left_of_the_quotas_is_told(client: httpx.AsyncClient, places: Places) -> None:
    staff = await make_staff()
    first = await client.get("/v1/me", headers=staff.headers)
    second = await client.get("/v1/me", headers=staff.headers)
    limit = int(settings.rate_limit_caller.partition("/")[0])
    assert f'"caller";q={limit};w=60' in first.headers["RateLimit-Policy"]
    assert f'"caller";r={limit - 2};t=60' in second.headers["RateLimit"]
    assert '"address";r=' in second.headers["RateLimit"]
    missing = await client.get("/nothing")
    assert '"address";r=' in missing.headers["RateLimit"]


async def test_docs_work_without_the_internet(client: httpx.AsyncClient) -> None:
    for page in ("/docs", "/redoc"):
        answer = await client.get(page)
        assert answer.headers["Content-Type"].startswith("text/html")
        assert "http://" not in answer.text
        assert "https://" not in answer.text
        assert "<script>" not in answer.text
        assert "script-src 'self';" in answer.headers["Content-Security-Policy"]
        for part in answer.text.split('"'):
            if part.startswith("/"):
                assert (await client.get(part)).status_code == 200, part
    assert (await client.get("/redoc/logo-mini.svg")).status_code == 200
