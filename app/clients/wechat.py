"""The mini-program APIs of api.weixin.qq.com that we use, as typed calls with typed errors.

Every call has one total deadline. A call is repeated only when that cannot do its work twice. Nothing is logged:
WeChat wants its secrets in the query string, so errors carry numbers only.
"""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, TypeVar

from app.clients import http
from app.clients.wechat_errors import (
    CodeInvalid,
    CodeUsed,
    MessageInvalid,
    MessageSensitive,
    MinuteLimited,
    Misconfigured,
    QuotaExceeded,
    RecipientBusy,
    RequestRejected,
    SubscriptionRefused,
    SystemBusy,
    TokenRejected,
    UserBlocked,
    UserInactive,
    UserUnknown,
    WeChatError,
    WeChatUnavailable,
)
from app.clients.wechat_templates import fit
from app.clients.wechat_token import Token, TokenCache

Json = dict[str, object]
T = TypeVar("T")


class Suggestion(StrEnum):
    """What WeChat's content check advises to do."""

    PASS = "pass"
    REVIEW = "review"
    RISKY = "risky"


@dataclass(frozen=True, slots=True)
class Login:
    """Who logged in. The session key is dropped on arrival: nothing of ours decrypts client data."""

    openid: str
    unionid: str | None


@dataclass(frozen=True, slots=True)
class PhoneNumber:
    """A number that WeChat has verified; `number` without the country code."""

    country_code: str = field(repr=False)
    number: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class TextVerdict:
    """The verdict on a text; `label` is WeChat's kind of risk, 100 is none."""

    suggestion: Suggestion
    label: int
    trace_id: str


@dataclass(frozen=True, slots=True)
class QrCode:
    """A rendered mini-program code. It never expires: store it."""

    content: bytes = field(repr=False)
    media_type: str


@dataclass(frozen=True, slots=True)
class _Api:
    """`repeatable`: doing it twice is the same as once, so a lost answer may be asked for again."""

    name: str
    method: str
    path: str
    repeatable: bool
    errors: Mapping[int, type[WeChatError]] = field(default_factory=dict)


_LOGIN: Final = _Api("code2session", "GET", "/sns/jscode2session", repeatable=False)
_TOKEN: Final = _Api(
    "stable_token", "POST", "/cgi-bin/stable_token", repeatable=True, errors={40001: Misconfigured}
)
_PHONE: Final = _Api("phone_number", "POST", "/wxa/business/getuserphonenumber", repeatable=False)
_TEXT: Final = _Api("msg_sec_check", "POST", "/wxa/msg_sec_check", repeatable=True)
_MEDIA: Final = _Api("media_check_async", "POST", "/wxa/media_check_async", repeatable=False)
_SEND: Final = _Api("send_subscribe_message", "POST", "/cgi-bin/message/subscribe/send", repeatable=False)
_QR_CODE: Final = _Api("getwxacodeunlimit", "POST", "/wxa/getwxacodeunlimit", repeatable=True)

_ERRORS: Final[Mapping[int, type[WeChatError]]] = {
    -1: SystemBusy,
    40001: TokenRejected,
    40014: TokenRejected,
    42001: TokenRejected,
    40013: Misconfigured,
    40125: Misconfigured,
    40164: Misconfigured,
    48001: Misconfigured,
    40037: Misconfigured,
    41030: Misconfigured,
    43107: Misconfigured,
    45009: QuotaExceeded,
    45011: MinuteLimited,
    40029: CodeInvalid,
    40163: CodeUsed,
    40226: UserBlocked,
    40003: UserUnknown,
    43104: UserUnknown,
    61010: UserInactive,
    43101: SubscriptionRefused,
    43108: RecipientBusy,
    45168: MessageSensitive,
    47003: MessageInvalid,
}

_RID = re.compile(r"rid: ?([0-9A-Za-z-]{1,64})")
_ARGUMENT = re.compile(r"data\.([a-z_]{1,32}[0-9]{1,4})\b")
_CONTENT_LIMIT = 2500


class WeChatClient:
    """One mini-program at api.weixin.qq.com, or at a sandbox that speaks the same."""

    def __init__(
        self,
        *,
        base_url: str,
        appid: str,
        secret: str,
        monotonic: Callable[[], float],
        transport: http.Transport | None = None,
        deadline_seconds: float = 8.0,
        backoff_seconds: tuple[float, ...] = (0.2, 0.8),
    ) -> None:
        self._http = http.open_client(base_url, transport=transport)
        self._appid = appid
        self._secret = secret
        self._deadline_seconds = deadline_seconds
        self._backoff_seconds = backoff_seconds
        self._tokens = TokenCache(self._fetch_token, monotonic)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._tokens.aclose()
        await self._http.aclose()

    async def code2session(self, code: str) -> Login:
        """Exchange the code of `wx.login`. Raises `CodeInvalid`, `CodeUsed` or `UserBlocked`."""
        query = {
            "appid": self._appid,
            "secret": self._secret,
            "js_code": code,
            "grant_type": "authorization_code",
        }
        answer = _parse(_LOGIN, await self._in_time(_LOGIN, self._exchange(_LOGIN, query)))
        return Login(openid=_text(_LOGIN, answer, "openid"), unionid=_optional_text(answer, "unionid"))

    async def stable_token(self) -> str:
        """The access token in use, fetched when there is none. Raises `Misconfigured` for a wrong secret."""
        return await self._in_time(_TOKEN, self._tokens.get())

    async def phone_number(self, code: str, openid: str) -> PhoneNumber:
        """Exchange the code of the phone button for the number of this user. Raises `CodeInvalid`."""
        answer = await self._ask(_PHONE, {"code": code, "openid": openid})
        info = _section(_PHONE, answer, "phone_info")
        if _section(_PHONE, info, "watermark").get("appid") != self._appid:
            raise CodeInvalid(_PHONE.name)
        country = info.get("countryCode")
        return PhoneNumber(
            country_code=str(country) if isinstance(country, int) else _text(_PHONE, info, "countryCode"),
            number=_text(_PHONE, info, "purePhoneNumber"),
        )

    async def msg_sec_check(self, content: str, openid: str, *, scene: int = 2) -> TextVerdict:
        """Check a text of 1 to 2500 characters. `scene`: 1 profile, 2 comment, 3 forum, 4 social log."""
        if not 1 <= len(content) <= _CONTENT_LIMIT:
            raise ValueError(f"the text check takes 1 to {_CONTENT_LIMIT} characters")
        answer = await self._ask(_TEXT, {"version": 2, "openid": openid, "scene": scene, "content": content})
        result = _section(_TEXT, answer, "result")
        return TextVerdict(
            suggestion=_suggestion(_TEXT, result),
            label=_whole(_TEXT, result, "label"),
            trace_id=_text(_TEXT, answer, "trace_id"),
        )

    async def media_check_async(self, media_url: str, openid: str, *, scene: int = 1) -> str:
        """Ask for a check of a picture that the internet can fetch; the verdict is pushed under this trace id.

        The push may come before the caller has stored the id, or never: after 30 minutes submit again.
        """
        body: Json = {"media_url": media_url, "media_type": 2, "version": 2, "scene": scene, "openid": openid}
        return _text(_MEDIA, await self._ask(_MEDIA, body), "trace_id")

    async def send_subscribe_message(
        self, openid: str, template_id: str, values: Mapping[str, str], *, page: str | None = None
    ) -> None:
        """Send one message, using up one accepted subscription. Values are fitted by `wechat_templates.fit`.

        Raises `SubscriptionRefused`, `RecipientBusy`, `MessageInvalid`, `MessageSensitive` or `UserUnknown`. After
        `WeChatUnavailable` the message may have been sent all the same.
        """
        data = {name: {"value": fit(name, value)} for name, value in values.items()}
        body: Json = {"touser": openid, "template_id": template_id, "data": data, "lang": "zh_CN"}
        if page is not None:
            body["page"] = page
        await self._ask(_SEND, body)

    async def getwxacodeunlimit(self, scene: str, *, page: str | None = None, width: int = 430) -> QrCode:
        """Render a code that opens `page` with `scene` (1 to 32 characters); `width` is 280 to 1280 pixels."""
        body: Json = {"scene": scene, "check_path": page is not None, "width": width}
        if page is not None:
            body["page"] = page
        response = await self._in_time(_QR_CODE, self._exchange_with_token(_QR_CODE, body))
        if _is_picture(response):
            return QrCode(response.content, response.headers["content-type"].partition(";")[0])
        raise WeChatUnavailable(_QR_CODE.name, reason="the answer is not a picture")

    async def _ask(self, api: _Api, body: Json) -> Json:
        return _parse(api, await self._in_time(api, self._exchange_with_token(api, body)))

    async def _fetch_token(self) -> Token:
        body: Json = {
            "grant_type": "client_credential",
            "appid": self._appid,
            "secret": self._secret,
            "force_refresh": False,
        }
        answer = _parse(_TOKEN, await self._in_time(_TOKEN, self._exchange(_TOKEN, {}, body)))
        return Token(_text(_TOKEN, answer, "access_token"), _whole(_TOKEN, answer, "expires_in"))

    async def _in_time(self, api: _Api, work: Awaitable[T]) -> T:
        try:
            async with asyncio.timeout(self._deadline_seconds):
                return await work
        except TimeoutError:
            pass
        # Raised outside the handler, here and below: a chained exception would carry the request's secrets.
        raise WeChatUnavailable(api.name, reason="no answer before the deadline")

    async def _exchange_with_token(self, api: _Api, body: Json) -> http.Response:
        token = await self._tokens.get()
        try:
            return await self._exchange(api, {"access_token": token}, body)
        except TokenRejected:
            self._tokens.drop(token)
        return await self._exchange(api, {"access_token": await self._tokens.get()}, body)

    async def _exchange(self, api: _Api, query: Mapping[str, str], body: Json | None = None) -> http.Response:
        for pause in self._backoff_seconds:
            try:
                return await self._attempt(api, query, body)
            except WeChatUnavailable as failure:
                if not failure.repeatable:
                    raise
            await asyncio.sleep(pause)
        return await self._attempt(api, query, body)

    async def _attempt(self, api: _Api, query: Mapping[str, str], body: Json | None) -> http.Response:
        try:
            response = await self._http.request(api.method, api.path, params=query, content=_encode(body))
        except http.RequestFailed as failure:
            reason = type(failure).__name__
            repeatable = api.repeatable or isinstance(failure, http.NeverSent)
        else:
            _refuse_errors(api, response)
            return response
        raise WeChatUnavailable(api.name, reason=reason, repeatable=repeatable)


def _encode(body: Json | None) -> bytes | None:
    """Real UTF-8: a text check has been seen to pass everything that came as \\u escapes."""
    return None if body is None else json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")


def _refuse_errors(api: _Api, response: http.Response) -> None:
    """Raise what the answer says went wrong: HTTP 200 means nothing, `errcode` decides."""
    if response.status_code != 200:
        raise WeChatUnavailable(
            api.name,
            reason=f"HTTP {response.status_code}",
            repeatable=api.repeatable and response.status_code >= 500,
        )
    if _is_picture(response):
        return
    answer = _parse(api, response)
    errcode = _whole(api, answer, "errcode") if "errcode" in answer else 0
    if errcode == 0:
        return
    wording = str(answer.get("errmsg", ""))
    found = _RID.search(wording)
    rid = found.group(1) if found else None
    kind = api.errors.get(errcode) or _ERRORS.get(errcode, RequestRejected)
    if kind is MessageInvalid:
        argument = _ARGUMENT.search(wording)
        raise MessageInvalid(api.name, errcode, rid, field=argument.group(1) if argument else None)
    raise kind(api.name, errcode, rid)


def _is_picture(response: http.Response) -> bool:
    is_image = response.headers.get("content-type", "").startswith("image/")
    return is_image and not response.content.startswith(b"{")


def _parse(api: _Api, response: http.Response) -> Json:
    """The answer as an object, whatever its content type says."""
    try:
        answer = json.loads(response.content)
    except (ValueError, RecursionError):
        answer = None
    if isinstance(answer, dict):
        return answer
    raise WeChatUnavailable(api.name, reason="the answer is not a JSON object", repeatable=api.repeatable)


def _section(api: _Api, answer: Json, name: str) -> Json:
    value = answer.get(name)
    if isinstance(value, dict):
        return value
    raise WeChatUnavailable(api.name, reason=f"the answer lacks {name}")


def _text(api: _Api, answer: Json, name: str) -> str:
    value = answer.get(name)
    if isinstance(value, str) and value:
        return value
    raise WeChatUnavailable(api.name, reason=f"the answer lacks {name}")


def _optional_text(answer: Json, name: str) -> str | None:
    value = answer.get(name)
    return value if isinstance(value, str) and value else None


def _whole(api: _Api, answer: Json, name: str) -> int:
    value = answer.get(name)
    if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,10}", value):
        return int(value)
    if isinstance(value, int):
        return value
    raise WeChatUnavailable(api.name, reason=f"the answer lacks {name}")


def _suggestion(api: _Api, result: Json) -> Suggestion:
    value = result.get("suggest")
    if isinstance(value, str) and value in set(Suggestion):
        return Suggestion(value)
    raise WeChatUnavailable(api.name, reason="the answer lacks suggest")
