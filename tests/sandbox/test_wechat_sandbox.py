"""The sandbox WeChat over raw HTTP: what it promises whoever tests a client with it."""

import ast
import json
from pathlib import Path

import pytest

from app.clients import http
from app.sandbox.credentials import SANDBOX_APPID, SANDBOX_SECRET
from app.sandbox.wechat_state import Bounded, demo_phone
from tests.wechat_rig import START, TEMPLATE, Rig

LOGIN = "/sns/jscode2session"
TOKEN = "/cgi-bin/stable_token"
SEND = "/cgi-bin/message/subscribe/send"
TEXT = "/wxa/msg_sec_check"
ACCOUNT = {"appid": SANDBOX_APPID, "secret": SANDBOX_SECRET}
OPENID = "o" + "A" * 27

Json = dict[str, object]


async def login(rig: Rig, code: str, **changed: str) -> Json:
    query = {**ACCOUNT, "js_code": code, "grant_type": "authorization_code", **changed}
    return _answer(await rig.raw.get(LOGIN, params=query))


async def token(rig: Rig, **changed: object) -> Json:
    body = {**ACCOUNT, "grant_type": "client_credential", "force_refresh": False, **changed}
    return _answer(await rig.raw.post(TOKEN, json=body))


async def call(rig: Rig, path: str, access_token: object, **body: object) -> Json:
    return _answer(await rig.raw.post(path, params={"access_token": str(access_token)}, json=body))


async def works(rig: Rig, access_token: object) -> object:
    answer = await call(rig, TEXT, access_token, version=2, scene=2, openid=OPENID, content="文字")
    return answer["errcode"]


async def test_an_error_is_http_200_with_a_request_id(rig: Rig) -> None:
    response = await rig.raw.get(LOGIN)
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain")
    answer = json.loads(response.content)
    assert answer["errcode"] == 40013
    assert ", rid: " in answer["errmsg"]


async def test_login_answers(rig: Rig) -> None:
    answer = await login(rig, "demo:李")
    assert set(answer) == {"openid", "session_key"}
    assert len(str(answer["openid"])) == 28
    assert (await login(rig, "demo:李"))["openid"] == answer["openid"]
    assert (await login(rig, "demo:"))["errcode"] == 40029
    assert (await login(rig, "demo:李", secret="x"))["errcode"] == 40125
    assert (await login(rig, "demo:李", grant_type="x"))["errcode"] == 40002


async def test_a_login_code_lives_five_minutes_and_once(rig: Rig) -> None:
    code = str((await rig.order("/login-codes", name="li"))["code"])
    late = str((await rig.order("/login-codes", name="li"))["code"])
    rig.clock.advance(300)
    assert "openid" in await login(rig, code)
    assert (await login(rig, code))["errcode"] == 40163
    await rig.order("/clock", seconds=1)
    assert (await login(rig, late))["errcode"] == 40029


async def test_the_same_token_until_the_last_five_minutes(rig: Rig) -> None:
    first = await token(rig)
    assert first["expires_in"] == 7200
    rig.clock.advance(6899)
    assert await token(rig) == {"access_token": first["access_token"], "expires_in": 301}
    rig.clock.advance(1)
    second = await token(rig)
    assert second["access_token"] != first["access_token"]
    assert second["expires_in"] == 7200
    rig.clock.advance(299)
    assert await works(rig, first["access_token"]) == 0
    assert await works(rig, second["access_token"]) == 0
    rig.clock.advance(1)
    assert await works(rig, first["access_token"]) == 42001
    assert await works(rig, second["access_token"]) == 0


async def test_a_token_that_was_never_renewed_expires(rig: Rig) -> None:
    first = (await token(rig))["access_token"]
    rig.clock.advance(7200)
    assert await works(rig, first) == 42001
    await token(rig)
    assert await works(rig, first) == 42001


async def test_forced_refresh_kills_and_is_rationed(rig: Rig) -> None:
    first = (await token(rig))["access_token"]
    second = (await token(rig, force_refresh=True))["access_token"]
    assert await works(rig, first) == 40001
    assert (await token(rig, force_refresh=True))["access_token"] == second
    for _ in range(19):
        rig.clock.advance(30)
        assert (await token(rig, force_refresh=True))["access_token"] != second
    last = (await token(rig))["access_token"]
    rig.clock.advance(30)
    assert (await token(rig, force_refresh=True))["access_token"] == last


@pytest.mark.parametrize(("errcode", "expected"), [(40001, 40001), (40014, 40014), (42001, 42001)])
async def test_killed_tokens_answer_as_ordered(rig: Rig, errcode: int, expected: int) -> None:
    first = (await token(rig))["access_token"]
    await rig.order("/token/kill", errcode=errcode)
    assert await works(rig, first) == expected
    assert (await token(rig))["access_token"] != first


async def test_calls_that_no_api_takes(rig: Rig) -> None:
    good = (await token(rig))["access_token"]
    assert (await call(rig, TEXT, ""))["errcode"] == 41001
    assert (await call(rig, TEXT, "made-up"))["errcode"] == 40001
    assert _answer(await rig.raw.get(TEXT, params={"access_token": str(good)}))["errcode"] == 43002
    assert _answer(await rig.raw.post(LOGIN))["errcode"] == 43001
    for junk in (b"", b"[]", b"\xff", b"[" * 100_000):
        response = await rig.raw.post(TEXT, params={"access_token": str(good)}, content=junk)
        assert _answer(response)["errcode"] == 47001
    assert (await rig.raw.get("/cgi-bin/nothing")).status_code == 404


@pytest.mark.parametrize(
    ("changed", "errcode"),
    [
        ({}, 0),
        ({"touser": "li"}, 40003),
        ({"template_id": ""}, 40037),
        ({"page": "/pages/index"}, 41030),
        ({"data": {}}, 47003),
        ({"data": {"thing1": {"value": ""}}}, 47003),
        ({"data": {"thing1": "bare"}}, 47003),
        ({"data": {"thing1": {"value": "字" * 21}}}, 47003),
    ],
)
async def test_subscribe_message(rig: Rig, changed: Json, errcode: int) -> None:
    good = (await token(rig))["access_token"]
    await rig.order("/subscriptions", openid=OPENID, template_id=TEMPLATE)
    body: Json = {"touser": OPENID, "template_id": TEMPLATE, "data": {"thing1": {"value": "好"}}}
    answer = await call(rig, SEND, good, **body | changed)
    assert answer["errcode"] == errcode
    assert len(await rig.messages()) == (errcode == 0)
    if errcode == 47003 and changed["data"]:
        assert str(answer["errmsg"]).startswith("argument invalid! data.thing1.value")


async def test_subscriptions_are_counted_and_refused(rig: Rig) -> None:
    good = (await token(rig))["access_token"]
    body: Json = {"touser": OPENID, "template_id": TEMPLATE, "data": {"thing1": {"value": "好"}}}
    assert await rig.order("/subscriptions", openid=OPENID, template_id=TEMPLATE, count=2) == {"quota": 2}
    assert (await call(rig, SEND, good, **body))["errcode"] == 0
    refused = await rig.order("/subscriptions", openid=OPENID, template_id=TEMPLATE, choice="reject")
    assert refused == {"quota": 0}
    assert (await call(rig, SEND, good, **body))["errcode"] == 43101


@pytest.mark.parametrize(
    ("changed", "errcode"),
    [
        ({"content": " "}, 44002),
        ({"content": "字" * 2501}, 45002),
        ({"scene": 5}, 40129),
        ({"version": 1}, 40129),
        ({"openid": "li"}, 40003),
    ],
)
async def test_text_check_refuses(rig: Rig, changed: Json, errcode: int) -> None:
    good = (await token(rig))["access_token"]
    body: Json = {"version": 2, "scene": 2, "openid": OPENID, "content": "文字"}
    assert (await call(rig, TEXT, good, **body | changed))["errcode"] == errcode


async def test_text_that_comes_as_escapes_passes_every_check(rig: Rig) -> None:
    good = str((await token(rig))["access_token"])
    body = {"version": 2, "scene": 2, "openid": OPENID, "content": "沙盒违规"}
    verdicts = []
    for ascii_only in (True, False):
        content = json.dumps(body, ensure_ascii=ascii_only).encode()
        answer = _answer(await rig.raw.post(TEXT, params={"access_token": good}, content=content))
        verdicts.append(answer["result"])
    assert verdicts == [{"suggest": "pass", "label": 100}, {"suggest": "risky", "label": 20006}]


async def test_a_push_is_tried_three_times(rig: Rig) -> None:
    rig.mailbox.answers = ["no", "busy", "success"]
    assert await rig.order("/pushes", Event="debug_demo") == {"accepted": True}
    rig.mailbox.answers = ["no", "no", "no", "success"]
    assert await rig.order("/pushes", Event="debug_demo") == {"accepted": False}
    attempts = (await rig.control.get("/pushes")).json()
    assert [attempt["attempt"] for attempt in attempts] == [1, 2, 3, 1, 2, 3]
    assert len({url for url, _ in rig.mailbox.pushes}) == 6


async def test_verdict_for_an_unknown_picture(rig: Rig) -> None:
    assert (await rig.control.post("/media-checks/none/verdict", json={})).status_code == 404


async def test_media_check_wants_an_address_and_a_known_type(rig: Rig) -> None:
    good = (await token(rig))["access_token"]
    body: Json = {"version": 2, "scene": 1, "openid": OPENID, "media_type": 2, "media_url": "https://x.cn/1"}
    path = "/wxa/media_check_async"
    assert (await call(rig, path, good, **body))["errcode"] == 0
    assert (await call(rig, path, good, **body | {"media_url": "file:///etc/passwd"}))["errcode"] == 40007
    assert (await call(rig, path, good, **body | {"media_type": 3}))["errcode"] == 40004


async def test_qr_code_limits(rig: Rig) -> None:
    good = (await token(rig))["access_token"]
    path = "/wxa/getwxacodeunlimit"
    for scene, errcode in (("a" * 33, 40169), ("", 40129), ("50%", 40129), ("街道", 40129)):
        assert (await call(rig, path, good, scene=scene))["errcode"] == errcode
    assert (await call(rig, path, good, scene="a", width=279))["errcode"] == 40097
    assert (await call(rig, path, good, scene="a", page="pages/a?b=1"))["errcode"] == 41030


async def test_faults_are_taken_in_order_and_used_up(rig: Rig) -> None:
    await rig.order("/faults", path=LOGIN, errcode=45011)
    await rig.order("/faults", status=503, body="down")
    assert (await login(rig, "demo:li"))["errcode"] == 45011
    response = await rig.raw.get(LOGIN)
    assert (response.status_code, response.text) == (503, "down")
    assert "openid" in await login(rig, "demo:li")
    await rig.order("/faults", path=LOGIN, errcode=-1, times=5)
    await rig.control.delete("/faults")
    assert "openid" in await login(rig, "demo:li")


async def test_control_refuses_unknown_orders(rig: Rig) -> None:
    assert (await rig.control.post("/faults", json={"pth": "x"})).status_code == 422
    assert (await rig.control.post("/clock", json={"seconds": -1})).status_code == 422


async def test_clock_order_moves_the_sandbox_only(rig: Rig) -> None:
    assert (await rig.order("/clock", seconds=60))["now"] == "2026-01-01T04:01:00+00:00"
    assert rig.clock.now() == START


def test_demo_phone_numbers() -> None:
    assert demo_phone("1234") == "19000001234"
    assert demo_phone("123456") == "19000123456"
    named = {demo_phone(name) for name in ("li", "wang", "13800138000", "٣")}
    assert len(named) == 4
    assert all(number.startswith("19000") and len(number) == 11 and number.isascii() for number in named)


def test_memory_is_bounded() -> None:
    memory: Bounded[int] = Bounded()
    for number in range(10_050):
        memory[str(number)] = number
    assert len(memory) == 10_000
    assert "49" not in memory
    assert "50" in memory


@pytest.mark.parametrize(("package", "other"), [("sandbox", "app.clients"), ("clients", "app.sandbox")])
def test_sandbox_and_clients_share_no_code(package: str, other: str) -> None:
    modules = sorted(Path(__file__).parents[2].joinpath("app", package).glob("*.py"))
    assert len(modules) > 3
    for module in modules:
        for node in ast.walk(ast.parse(module.read_text())):
            if isinstance(node, ast.ImportFrom):
                assert not (node.module or "").startswith(other), module


def _answer(response: http.Response) -> Json:
    answer = json.loads(response.content)
    assert isinstance(answer, dict)
    return answer
