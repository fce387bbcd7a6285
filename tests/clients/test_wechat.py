"""The WeChat client against the sandbox: results, errors, the access token, and what happens when things break."""

import ast
import asyncio
import json
import logging
import time
import traceback
from pathlib import Path

import pytest
from starlette.types import Receive, Scope, Send

from app.clients import http
from app.clients import wechat_errors as errors
from app.clients.wechat import Login, PhoneNumber, Suggestion, WeChatClient
from app.clients.wechat_token import Token, TokenCache
from app.sandbox.credentials import SANDBOX_APPID, SANDBOX_SECRET
from tests.wechat_rig import TEMPLATE, Rig, open_rig

APP = Path(__file__).parents[2] / "app"

LOGIN = "/sns/jscode2session"
TOKEN = "/cgi-bin/stable_token"
PHONE = "/wxa/business/getuserphonenumber"
SEND = "/cgi-bin/message/subscribe/send"
TEXT = "/wxa/msg_sec_check"
MEDIA = "/wxa/media_check_async"
QR_CODE = "/wxa/getwxacodeunlimit"


async def test_login_gives_the_same_openid_to_the_same_person(rig: Rig) -> None:
    first = await rig.wechat.code2session("demo:li")
    assert first == await rig.wechat.code2session("demo:li")
    assert first != await rig.wechat.code2session("demo:wang")
    assert first == Login(openid=first.openid, unionid=None)


async def test_login_codes_are_refused_for_what_is_wrong_with_them(rig: Rig) -> None:
    with pytest.raises(errors.CodeInvalid) as unknown:
        await rig.wechat.code2session("nobody-made-this")
    assert not isinstance(unknown.value, errors.CodeUsed)
    code = str((await rig.order("/login-codes", name="li"))["code"])
    await rig.wechat.code2session(code)
    with pytest.raises(errors.CodeUsed):
        await rig.wechat.code2session(code)
    blocked = str((await rig.order("/login-codes", name="li", blocked=True))["code"])
    with pytest.raises(errors.UserBlocked):
        await rig.wechat.code2session(blocked)


async def test_a_wrong_secret_is_a_configuration_error() -> None:
    async with open_rig() as rig:
        stranger = WeChatClient(
            base_url="http://wechat",
            appid=SANDBOX_APPID,
            secret="f" * 32,
            monotonic=rig.clock.monotonic,
            transport=rig.recorder,
        )
        with pytest.raises(errors.Misconfigured):
            await stranger.code2session("demo:li")
        with pytest.raises(errors.Misconfigured):
            await stranger.stable_token()


@pytest.mark.parametrize("country_code", ["86", 86])
async def test_phone_number_with_either_form_of_country_code(rig: Rig, country_code: str | int) -> None:
    openid = await rig.openid()
    order = {"number": "19000001234", "openid": openid, "country_code": country_code}
    code = str((await rig.order("/phone-codes", **order))["code"])
    assert await rig.wechat.phone_number(code, openid) == PhoneNumber("86", "19000001234")


async def test_a_foreign_phone_number_comes_without_its_country_code(rig: Rig) -> None:
    openid = await rig.openid()
    code = str((await rig.order("/phone-codes", number="5550100", country_code="1"))["code"])
    assert await rig.wechat.phone_number(code, openid) == PhoneNumber("1", "5550100")


async def test_phone_code_of_somebody_else_used_up_or_of_another_app(rig: Rig) -> None:
    openid = await rig.openid()
    code = str((await rig.order("/phone-codes", number="19000001234", openid=openid))["code"])
    with pytest.raises(errors.CodeInvalid):
        await rig.wechat.phone_number(code, await rig.openid("wang"))
    await rig.wechat.phone_number(code, openid)
    with pytest.raises(errors.CodeInvalid):
        await rig.wechat.phone_number(code, openid)
    foreign = str((await rig.order("/phone-codes", number="19000001234", appid="wx0000000000000000"))["code"])
    with pytest.raises(errors.CodeInvalid):
        await rig.wechat.phone_number(foreign, openid)


async def test_text_verdicts_and_that_chinese_travels_as_utf8(rig: Rig) -> None:
    openid = await rig.openid()
    good = await rig.wechat.msg_sec_check("楼道里有电动车在充电 🔥", openid)
    assert (good.suggestion, good.label) == (Suggestion.PASS, 100)
    assert good.trace_id
    assert "楼道里有电动车在充电 🔥".encode() in rig.recorder.requests[-1].content
    bad = await rig.wechat.msg_sec_check("这里有沙盒违规内容", openid)
    assert (bad.suggestion, bad.label) == (Suggestion.RISKY, 20006)
    assert (await rig.wechat.msg_sec_check("沙盒复核", openid)).suggestion is Suggestion.REVIEW


async def test_half_a_surrogate_does_not_break_the_text_check(rig: Rig) -> None:
    verdict = await rig.wechat.msg_sec_check("坏字符 \ud83d", await rig.openid())
    assert verdict.suggestion is Suggestion.PASS


@pytest.mark.parametrize("length", [0, 2501])
async def test_text_out_of_bounds_is_a_mistake_of_the_caller(rig: Rig, length: int) -> None:
    with pytest.raises(ValueError, match="2500"):
        await rig.wechat.msg_sec_check("字" * length, "o" * 28)


async def test_media_check_returns_the_trace_id_of_the_later_push(rig: Rig) -> None:
    trace_id = await rig.wechat.media_check_async("https://example.com/a.jpg", await rig.openid())
    (check,) = (await rig.control.get("/media-checks")).json()
    assert check["trace_id"] == trace_id


async def test_message_needs_a_subscription_and_uses_it_up(rig: Rig) -> None:
    openid = await rig.openid()
    values = {"thing1": "三号楼二单元门口的路灯坏了三天晚上很黑老人走路危险", "time2": "2026年1月1日 15:01"}
    with pytest.raises(errors.SubscriptionRefused):
        await rig.wechat.send_subscribe_message(openid, TEMPLATE, values)
    await rig.order("/subscriptions", openid=openid, template_id=TEMPLATE)
    await rig.wechat.send_subscribe_message(openid, TEMPLATE, values, page="pages/hazard/detail?id=1")
    with pytest.raises(errors.SubscriptionRefused):
        await rig.wechat.send_subscribe_message(openid, TEMPLATE, values)
    (message,) = await rig.messages()
    assert message["values"] == {
        "thing1": "三号楼二单元门口的路灯坏了三天晚上很黑…",
        "time2": "2026年1月1日 15:01",
    }
    assert message["page"] == "pages/hazard/detail?id=1"


async def test_a_value_that_cannot_fit_is_refused_before_anything_is_sent(rig: Rig) -> None:
    with pytest.raises(errors.MessageInvalid) as refused:
        await rig.wechat.send_subscribe_message("o" * 28, TEMPLATE, {"time2": "2026-01-01T15:01:00Z"})
    assert refused.value.field == "time2"
    assert rig.recorder.requests == []


async def test_qr_code_is_a_picture_and_its_errors_are_errors(rig: Rig) -> None:
    code = await rig.wechat.getwxacodeunlimit("m=maple,b=12", page="pages/index/index")
    assert code.media_type == "image/jpeg"
    assert code.content.startswith(b"\xff\xd8\xff")
    with pytest.raises(errors.RequestRejected) as refused:
        await rig.wechat.getwxacodeunlimit("中文")
    assert refused.value.errcode == 40129
    with pytest.raises(errors.Misconfigured):
        await rig.wechat.getwxacodeunlimit("a=1", page="/pages/index")


MAPPING = [
    (40013, errors.Misconfigured, None),
    (40125, errors.Misconfigured, None),
    (40164, errors.Misconfigured, None),
    (48001, errors.Misconfigured, None),
    (40037, errors.Misconfigured, None),
    (41030, errors.Misconfigured, None),
    (43107, errors.Misconfigured, None),
    (45009, errors.QuotaExceeded, 600),
    (45011, errors.MinuteLimited, 60),
    (40029, errors.CodeInvalid, None),
    (40163, errors.CodeUsed, None),
    (40226, errors.UserBlocked, None),
    (40003, errors.UserUnknown, None),
    (43104, errors.UserUnknown, None),
    (61010, errors.UserInactive, None),
    (43101, errors.SubscriptionRefused, None),
    (43108, errors.RecipientBusy, 5),
    (45168, errors.MessageSensitive, None),
    (47003, errors.MessageInvalid, None),
    (47001, errors.RequestRejected, None),
    (44002, errors.RequestRejected, None),
    (99999, errors.RequestRejected, None),
]


@pytest.mark.parametrize(("errcode", "kind", "retry_after"), MAPPING)
async def test_each_errcode_has_its_error_and_is_not_tried_again(
    rig: Rig, errcode: int, kind: type[errors.WeChatError], retry_after: int | None
) -> None:
    await rig.order("/faults", path=TEXT, errcode=errcode)
    with pytest.raises(errors.WeChatError) as raised:
        await rig.wechat.msg_sec_check("文字", "o" * 28)
    assert type(raised.value) is kind
    assert raised.value.errcode == errcode
    assert raised.value.retry_after == retry_after
    assert raised.value.rid is not None
    assert await rig.calls(TEXT) == 1


async def test_the_field_that_wechat_refuses_is_named(rig: Rig) -> None:
    await rig.order(
        "/faults", path=SEND, errcode=47003, errmsg="argument invalid! data.thing1.value is emtpy"
    )
    with pytest.raises(errors.MessageInvalid, match="thing1") as raised:
        await rig.wechat.send_subscribe_message("o" * 28, TEMPLATE, {"thing1": "好"})
    assert raised.value.field == "thing1"


@pytest.mark.parametrize("path", [LOGIN, TOKEN, PHONE, TEXT, MEDIA, SEND, QR_CODE])
async def test_system_busy_is_tried_three_times(rig: Rig, path: str) -> None:
    openid = await rig.openid()
    await rig.order("/subscriptions", openid=openid, template_id=TEMPLATE)
    before = await rig.calls(path)
    await rig.order("/faults", path=path, errcode=-1, times=2)
    await _use(rig, path, openid)
    assert await rig.calls(path) == before + 3


async def test_a_system_that_stays_busy_is_unavailable(rig: Rig) -> None:
    await rig.order("/faults", path=LOGIN, errcode=-1, times=9)
    with pytest.raises(errors.SystemBusy) as raised:
        await rig.wechat.code2session("demo:li")
    assert isinstance(raised.value, errors.WeChatUnavailable)
    assert await rig.calls(LOGIN) == 3


@pytest.mark.parametrize("path", [TOKEN, TEXT, QR_CODE])
async def test_a_lost_answer_is_asked_for_again_where_that_is_harmless(rig: Rig, path: str) -> None:
    openid = await rig.openid()
    await rig.order("/faults", path=path, status=502, times=2, after=True)
    await _use(rig, path, openid)
    assert await rig.calls(path) == 3


@pytest.mark.parametrize("path", [LOGIN, PHONE, MEDIA, SEND])
async def test_a_lost_answer_is_not_asked_for_again_where_work_would_be_done_twice(
    rig: Rig, path: str
) -> None:
    openid = await rig.openid()
    await rig.order("/subscriptions", openid=openid, template_id=TEMPLATE, count=2)
    before = await rig.calls(path)
    await rig.order("/faults", path=path, status=502, after=True)
    with pytest.raises(errors.WeChatUnavailable, match="HTTP 502"):
        await _use(rig, path, openid)
    assert await rig.calls(path) == before + 1
    assert len(await rig.messages()) == (path == SEND)


@pytest.mark.parametrize("status", [301, 400, 404])
async def test_other_http_statuses_are_no_answer(rig: Rig, status: int) -> None:
    await rig.order("/faults", path=LOGIN, status=status)
    with pytest.raises(errors.WeChatUnavailable, match=f"HTTP {status}"):
        await rig.wechat.code2session("demo:li")
    assert await rig.calls(LOGIN) == 1


@pytest.mark.parametrize(
    "body",
    ["", "<html>", "[]", "null", "{}", '{"errcode":"ok"}', '{"openid":""}', '{"openid":7}', "[" * 100_000],
)
async def test_rubbish_is_no_answer(rig: Rig, body: str) -> None:
    await rig.order("/faults", path=LOGIN, body=body)
    with pytest.raises(errors.WeChatUnavailable):
        await rig.wechat.code2session("demo:li")


@pytest.mark.parametrize("path", [TOKEN, PHONE, TEXT, MEDIA, QR_CODE])
async def test_an_empty_success_is_no_answer(rig: Rig, path: str) -> None:
    openid = await rig.openid()
    await rig.order("/faults", path=path, body='{"errcode":0,"errmsg":"ok"}')
    with pytest.raises(errors.WeChatUnavailable):
        await _use(rig, path, openid)


async def test_a_silent_service_costs_no_more_than_the_deadline() -> None:
    async with open_rig(deadline_seconds=0.1) as rig:
        await rig.order("/faults", delay_seconds=30, times=9)
        started = time.monotonic()
        with pytest.raises(errors.WeChatUnavailable, match="deadline"):
            await rig.wechat.code2session("demo:li")
        with pytest.raises(errors.WeChatUnavailable, match="deadline"):
            await rig.wechat.msg_sec_check("文字", "o" * 28)
        assert time.monotonic() - started < 2


async def test_a_slow_service_is_still_a_service(rig: Rig) -> None:
    await rig.order("/faults", path=LOGIN, delay_seconds=0.05)
    assert (await rig.wechat.code2session("demo:li")).openid


async def test_fifty_callers_share_one_token_request(rig: Rig) -> None:
    openid = await rig.openid()
    await rig.order("/faults", path=TOKEN, delay_seconds=0.02)
    numbers = await asyncio.gather(*(rig.wechat.phone_number(f"demo:{n}", openid) for n in range(50)))
    assert len(set(numbers)) == 50
    assert await rig.calls(TOKEN) == 1


async def test_fifty_callers_share_one_recovery_and_nobody_forces_it(rig: Rig) -> None:
    openid = await rig.openid()
    await rig.wechat.stable_token()
    await rig.order("/token/kill")
    await asyncio.gather(*(rig.wechat.phone_number(f"demo:{n}", openid) for n in range(50)))
    assert await rig.calls(TOKEN) == 2
    asked = [json.loads(request.content) for request in rig.recorder.requests if request.url.path == TOKEN]
    assert [body["force_refresh"] for body in asked] == [False, False]


async def test_fifty_callers_share_one_failure(rig: Rig) -> None:
    await rig.order("/faults", path=TOKEN, status=502, delay_seconds=0.01, times=99)
    outcomes = await asyncio.gather(
        *(rig.wechat.phone_number(f"demo:{n}", "o" * 28) for n in range(50)), return_exceptions=True
    )
    assert {type(outcome) for outcome in outcomes} == {errors.WeChatUnavailable}
    assert await rig.calls(TOKEN) == 3


async def test_a_caller_who_gives_up_takes_nobody_along(rig: Rig) -> None:
    await rig.order("/faults", path=TOKEN, delay_seconds=0.05)
    hasty = asyncio.create_task(rig.wechat.stable_token())
    patient = asyncio.create_task(rig.wechat.stable_token())
    await asyncio.sleep(0.01)
    hasty.cancel()
    assert await patient
    assert hasty.cancelled()
    assert await rig.calls(TOKEN) == 1


@pytest.mark.parametrize("errcode", [40001, 40014, 42001])
async def test_a_token_that_died_early_is_replaced_once(rig: Rig, errcode: int) -> None:
    openid = await rig.openid()
    old = await rig.wechat.stable_token()
    await rig.order("/token/kill", errcode=errcode)
    assert await rig.wechat.phone_number("demo:1234", openid) == PhoneNumber("86", "19000001234")
    assert await rig.wechat.stable_token() != old
    assert (await rig.calls(TOKEN), await rig.calls(PHONE)) == (2, 2)


async def test_a_token_that_is_never_accepted_is_not_chased(rig: Rig) -> None:
    await rig.order("/faults", path=PHONE, errcode=40001, times=9)
    with pytest.raises(errors.TokenRejected) as raised:
        await rig.wechat.phone_number("demo:1", "o" * 28)
    assert isinstance(raised.value, errors.WeChatUnavailable)
    assert (await rig.calls(TOKEN), await rig.calls(PHONE)) == (2, 2)


async def test_a_rejection_that_comes_late_does_not_cost_the_next_token(rig: Rig) -> None:
    openid = await rig.openid()
    await rig.wechat.stable_token()
    await rig.order("/faults", path=PHONE, delay_seconds=0.1)
    late = asyncio.create_task(rig.wechat.phone_number("demo:1", openid))
    await asyncio.sleep(0.02)
    await rig.order("/token/kill")
    await rig.wechat.phone_number("demo:2", openid)
    await late
    assert await rig.calls(TOKEN) == 2


async def test_a_token_service_that_rejects_us_is_a_configuration_error(rig: Rig) -> None:
    await rig.order("/faults", path=TOKEN, errcode=40001)
    with pytest.raises(errors.Misconfigured):
        await rig.wechat.msg_sec_check("文字", "o" * 28)
    assert await rig.calls(TOKEN) == 1


async def test_the_token_is_renewed_five_minutes_before_its_end(rig: Rig) -> None:
    first = await rig.wechat.stable_token()
    rig.clock.advance(6899)
    assert await rig.wechat.stable_token() == first
    assert await rig.calls(TOKEN) == 1
    rig.clock.advance(2)
    assert await rig.wechat.stable_token() == first
    for _ in range(200):
        if await rig.wechat.stable_token() != first:
            break
        await asyncio.sleep(0.01)
    assert await rig.wechat.stable_token() != first
    assert await rig.calls(TOKEN) == 2


async def test_a_token_that_still_works_bridges_a_dead_token_service(rig: Rig) -> None:
    openid = await rig.openid()
    await rig.wechat.stable_token()
    rig.clock.advance(7000)
    await rig.order("/faults", path=TOKEN, status=502, times=99)
    await rig.wechat.phone_number("demo:1", openid)
    rig.clock.advance(300)
    with pytest.raises(errors.WeChatUnavailable):
        await rig.wechat.phone_number("demo:1", openid)
    await rig.control.delete("/faults")
    await rig.wechat.phone_number("demo:1", openid)


async def test_secrets_are_in_no_error_repr_or_log(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    client = rig.wechat
    token = await client.stable_token()
    phone = await client.phone_number("demo:1234", "o" * 28)
    seen = [repr(client), repr(phone), repr(await client.code2session("demo:li"))]
    for fault in ({"status": 502}, {"errcode": 40013, "errmsg": f"bad {SANDBOX_SECRET} {token}"}):
        await rig.order("/faults", times=2, **fault)
        for call in (client.code2session("demo:li"), client.media_check_async("https://x.cn/1", "o" * 28)):
            with pytest.raises(errors.WeChatError) as raised:
                await call
            seen += [repr(raised.value), *traceback.format_exception(raised.value)]
            assert raised.value.__context__ is None
    text = "\n".join([*seen, caplog.text])
    for secret in (SANDBOX_SECRET, token, "19000001234", "session_key"):
        assert secret not in text


async def test_no_connection_leaves_no_request_behind_in_the_error(
    unused_tcp_port: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    client = WeChatClient(
        base_url=f"http://127.0.0.1:{unused_tcp_port}",
        appid=SANDBOX_APPID,
        secret=SANDBOX_SECRET,
        monotonic=time.monotonic,
        backoff_seconds=(0.0,),
    )
    with pytest.raises(errors.WeChatUnavailable, match="ConnectError") as raised:
        await client.code2session("demo:li")
    assert raised.value.__context__ is None
    assert SANDBOX_SECRET not in caplog.text
    await client.aclose()


async def test_a_crash_in_process_is_an_http_500() -> None:
    async def crash(scope: Scope, receive: Receive, send: Send) -> None:
        raise RuntimeError

    async with http.open_client("http://crash", transport=http.in_process(crash)) as client:
        assert (await client.get("/")).status_code == 500


def test_proxies_and_redirects_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    client = http.open_client("https://example.com")
    assert not client.trust_env
    assert not client.follow_redirects


def test_only_one_module_knows_the_http_library() -> None:
    knowing = [str(path.relative_to(APP)) for path in sorted(APP.rglob("*.py")) if "httpx" in _imports(path)]
    assert knowing == ["clients/http.py"]


def _imports(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").partition(".")[0])
    return names


async def _use(rig: Rig, path: str, openid: str) -> None:
    client = rig.wechat
    match path:
        case "/sns/jscode2session":
            await client.code2session("demo:li")
        case "/cgi-bin/stable_token":
            await client.stable_token()
        case "/wxa/business/getuserphonenumber":
            await client.phone_number("demo:1", openid)
        case "/wxa/msg_sec_check":
            await client.msg_sec_check("文字", openid)
        case "/wxa/media_check_async":
            await client.media_check_async("https://example.com/a.jpg", openid)
        case "/cgi-bin/message/subscribe/send":
            await client.send_subscribe_message(openid, TEMPLATE, {"thing1": "好"})
        case _:
            await client.getwxacodeunlimit("a=1")


async def test_a_renewal_under_way_ends_with_the_client() -> None:
    """Nobody would await it: the loop would find it pending when it is closed."""
    begun, cancelled = asyncio.Event(), asyncio.Event()

    async def fetch() -> Token:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        raise AssertionError

    cache = TokenCache(fetch, lambda: 0.0)
    waiting = asyncio.ensure_future(cache.get())
    await begun.wait()
    await cache.aclose()
    assert cancelled.is_set()
    with pytest.raises(asyncio.CancelledError):
        await waiting
