"""An emulated api.weixin.qq.com for development and tests: HTTP 200 with an errcode, one-time codes, dying tokens.

`demo:<name>` is a login code for a user whose openid follows from the name, and a phone code for a number at 190 00.
Texts and picture addresses that contain one of `MARKED_WORDS` get a bad verdict. `/_sandbox` controls the rest.
"""

import asyncio
import base64
import contextlib
import hashlib
import json
import re
import secrets
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import datetime
from io import BytesIO

from PIL import Image
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Mount, Route

from app.sandbox.credentials import SANDBOX_APPID, SANDBOX_PUSH_AES_KEY, SANDBOX_PUSH_TOKEN, SANDBOX_SECRET
from app.sandbox.wechat_control import create_control, media_verdict
from app.sandbox.wechat_push import Deliver, Pusher, post
from app.sandbox.wechat_state import MediaCheck, Refused, SentMessage, State
from app.sandbox.wechat_values import first_fault

Json = dict[str, object]

MARKED_WORDS = {
    "沙盒违规": ("risky", 20006),
    "沙盒广告": ("risky", 10001),
    "沙盒复核": ("review", 21000),
    "sandbox-risky": ("risky", 20002),
    "sandbox-review": ("review", 21000),
}

_OPENID = re.compile(r"o[A-Za-z0-9_-]{27}")
_TEMPLATE_ID = re.compile(r"[A-Za-z0-9_-]{8,64}")
_PAGE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_/-]*")
_SCENE = re.compile(r"[0-9A-Za-z!#$&'()*+,/:;=?@._~-]+")


def create_sandbox(
    appid: str = SANDBOX_APPID,
    secret: str = SANDBOX_SECRET,
    push_url: str | None = None,
    push_token: str = SANDBOX_PUSH_TOKEN,
    push_aes_key: str = SANDBOX_PUSH_AES_KEY,
    *,
    clock: Callable[[], datetime],
    deliver: Deliver = post,
    verdict_delay_seconds: float = 1.0,
) -> Starlette:
    """An ASGI app to mount or to run alone. It pushes in plain mode without an AES key, and never without a URL."""
    state = State(appid, secret, clock)
    pusher = Pusher(
        appid=appid, url=push_url, token=push_token, aes_key=push_aes_key, now=state.now, deliver=deliver
    )
    api = _Api(state, pusher, verdict_delay_seconds)
    return Starlette(
        routes=[*api.routes(), Mount("/_sandbox", create_control(state, pusher))],
        exception_handlers={ClientDisconnect: _on_disconnect},
        lifespan=lambda _: _ending(pusher),
    )


async def _on_disconnect(_: Request, __: Exception) -> Response:
    """Nobody reads this answer: whoever asked was killed, which is no error of the server that we are part of."""
    return Response(status_code=400)


@contextlib.asynccontextmanager
async def _ending(pusher: Pusher) -> AsyncIterator[None]:
    async with contextlib.aclosing(pusher):
        yield


@dataclass(frozen=True, slots=True)
class _Call:
    query: dict[str, str]
    raw: bytes
    body: Json

    def text(self, name: str) -> str:
        value = self.body.get(name)
        return value if isinstance(value, str) else ""


_Handler = Callable[[_Call], Json | Response]


class _Api:
    def __init__(self, state: State, pusher: Pusher, verdict_delay_seconds: float) -> None:
        self._state = state
        self._pusher = pusher
        self._verdict_delay_seconds = verdict_delay_seconds

    def routes(self) -> list[Route]:
        return [
            self._route("GET", "/sns/jscode2session", self._login, needs_token=False),
            self._route("POST", "/cgi-bin/stable_token", self._token, needs_token=False),
            self._route("POST", "/wxa/business/getuserphonenumber", self._phone),
            self._route("POST", "/cgi-bin/message/subscribe/send", self._send),
            self._route("POST", "/wxa/msg_sec_check", self._check_text),
            self._route("POST", "/wxa/media_check_async", self._check_media),
            self._route("POST", "/wxa/getwxacodeunlimit", self._qr_code),
        ]

    def _route(self, method: str, path: str, handler: _Handler, *, needs_token: bool = True) -> Route:
        async def endpoint(request: Request) -> Response:
            query, raw = dict(request.query_params), await request.body()
            self._state.calls[path] += 1

            def answer() -> Response:
                return self._answer(request.method, method, query, raw, handler, needs_token)

            return await self._disturbed(path, answer)

        return Route(path, endpoint, methods=["GET", "POST"])

    async def _disturbed(self, path: str, answer: Callable[[], Response]) -> Response:
        fault = self._state.take_fault(path)
        if fault is None:
            return answer()
        response = answer() if fault.after else None
        await asyncio.sleep(fault.delay_seconds)
        if not fault.replaces_answer:
            return response or answer()
        if fault.body is not None or fault.errcode is None:
            return Response(fault.body, fault.status, media_type="text/html")
        return _json({"errcode": fault.errcode, "errmsg": self._worded(fault.errmsg)}, fault.status)

    def _answer(
        self,
        method: str,
        expected: str,
        query: dict[str, str],
        raw: bytes,
        handler: _Handler,
        needs_token: bool,
    ) -> Response:
        try:
            if method != expected:
                raise Refused(43001 if expected == "GET" else 43002, f"require {expected} method")
            if needs_token:
                self._state.tokens.check(query.get("access_token", ""), self._state.now())
            outcome = handler(_Call(query, raw, _body(raw) if expected == "POST" else {}))
        except Refused as refused:
            outcome = {"errcode": refused.errcode, "errmsg": self._worded(refused.errmsg)}
        return outcome if isinstance(outcome, Response) else _json(outcome)

    def _worded(self, errmsg: str) -> str:
        rid = f"{int(self._state.now().timestamp()):08x}-{secrets.token_hex(4)}-{secrets.token_hex(4)}"
        return f"{errmsg}, rid: {rid}"

    def _login(self, call: _Call) -> Json:
        self._check_account(call.query.get("appid"), call.query.get("secret"))
        if call.query.get("grant_type") != "authorization_code":
            raise Refused(40002, "invalid grant_type")
        openid = self._state.redeem_login(call.query.get("js_code", ""))
        return {"openid": openid, "session_key": base64.b64encode(secrets.token_bytes(16)).decode()}

    def _token(self, call: _Call) -> Json:
        self._check_account(call.text("appid"), call.text("secret"))
        if call.text("grant_type") != "client_credential":
            raise Refused(40002, "invalid grant_type")
        force = call.body.get("force_refresh") is True
        token, seconds = self._state.tokens.issue(self._state.now(), force=force)
        return {"access_token": token, "expires_in": seconds}

    def _check_account(self, appid: str | None, secret: str | None) -> None:
        if appid != self._state.appid:
            raise Refused(40013, "invalid appid")
        if secret != self._state.secret:
            raise Refused(40125, "invalid appsecret")

    def _phone(self, call: _Call) -> Json:
        code = self._state.redeem_phone(call.text("code"), call.text("openid") or None)
        abroad = "" if str(code.country_code) == "86" else str(code.country_code)
        watermark = {"timestamp": int(self._state.now().timestamp()), "appid": code.appid}
        info = {
            "phoneNumber": abroad + code.number,
            "purePhoneNumber": code.number,
            "countryCode": code.country_code,
            "watermark": watermark,
        }
        return {"errcode": 0, "errmsg": "ok", "phone_info": info}

    def _send(self, call: _Call) -> Json:
        openid, template_id, page = call.text("touser"), call.text("template_id"), call.text("page")
        data = call.body.get("data")
        if not _OPENID.fullmatch(openid):
            raise Refused(40003, "invalid openid")
        if not _TEMPLATE_ID.fullmatch(template_id):
            raise Refused(40037, "invalid template_id")
        if page and not _PAGE.fullmatch(page.partition("?")[0]):
            raise Refused(41030, "invalid page")
        if not isinstance(data, dict) or not data:
            raise Refused(47003, "argument invalid! data is emtpy")
        fault = first_fault(data)
        if fault is not None:
            raise Refused(47003, fault)
        quota = self._state.quota(openid, template_id)
        if quota < 1:
            raise Refused(43101, "user refuse to accept the msg")
        self._state.set_quota(openid, template_id, quota - 1)
        values = {name: entry["value"] for name, entry in data.items()}
        self._state.messages.append(SentMessage(openid, template_id, page, values, self._state.now()))
        return {"errcode": 0, "errmsg": "ok"}

    def _check_text(self, call: _Call) -> Json:
        self._check_content_call(call)
        content = call.text("content")
        if not content.strip():
            raise Refused(44002, "empty content")
        if len(content) > 2500:
            raise Refused(45002, "content size out of limit")
        # Reported of the real service: text that arrives as \u escapes passes every check.
        suggest, label = ("pass", 100) if b"\\u" in call.raw else _judge(content)
        return {
            "errcode": 0,
            "errmsg": "ok",
            "trace_id": self._trace_id(),
            "result": {"suggest": suggest, "label": label},
            "detail": [
                {"strategy": "content_model", "errcode": 0, "suggest": suggest, "label": label, "prob": 90}
            ],
        }

    def _check_media(self, call: _Call) -> Json:
        self._check_content_call(call)
        if call.body.get("media_type") not in (1, 2):
            raise Refused(40004, "invalid media_type")
        if not call.text("media_url").startswith(("http://", "https://")):
            raise Refused(40007, "invalid media_url")
        check = MediaCheck(self._trace_id(), call.text("openid"), call.text("media_url"))
        self._state.media_checks[check.trace_id] = check
        verdict = media_verdict(self._state, check, *_judge(check.media_url))
        self._pusher.push_later(verdict, self._verdict_delay_seconds)
        return {"errcode": 0, "errmsg": "ok", "trace_id": check.trace_id}

    def _check_content_call(self, call: _Call) -> None:
        if not _OPENID.fullmatch(call.text("openid")):
            raise Refused(40003, "invalid openid")
        if call.body.get("version") != 2 or call.body.get("scene") not in (1, 2, 3, 4):
            raise Refused(40129, "invalid scene")

    def _trace_id(self) -> str:
        return f"{int(self._state.now().timestamp()):08x}-{secrets.token_hex(4)}-{secrets.token_hex(4)}"

    def _qr_code(self, call: _Call) -> Json | Response:
        scene, page, width = call.text("scene"), call.text("page"), call.body.get("width", 430)
        if len(scene) > 32:
            raise Refused(40169, "invalid length for scene")
        if not _SCENE.fullmatch(scene):
            raise Refused(40129, "invalid scene")
        if page and not _PAGE.fullmatch(page):
            raise Refused(41030, "invalid page")
        if not isinstance(width, int) or not 280 <= width <= 1280:
            raise Refused(40097, "invalid width")
        return Response(_pattern(f"{page}?{scene}", width), media_type="image/jpeg")


def _body(raw: bytes) -> Json:
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise Refused(47001, "data format error")
    return body


def _json(answer: Json, status: int = 200) -> Response:
    return Response(json.dumps(answer, ensure_ascii=False), status, media_type="text/plain")


def _judge(text: str) -> tuple[str, int]:
    return next((verdict for word, verdict in MARKED_WORDS.items() if word in text), ("pass", 100))


def _pattern(text: str, width: int) -> bytes:
    """A JPEG of 16 by 16 squares that follow from the text: a stand-in, not a readable code."""
    squares = hashlib.sha256(text.encode()).digest()
    picture = (
        Image.frombytes("1", (16, 16), squares).convert("L").resize((width, width), Image.Resampling.NEAREST)
    )
    file = BytesIO()
    picture.save(file, "JPEG")
    return file.getvalue()
