"""The sandbox's control API under `/_sandbox`: what the user, the WeChat client and bad luck do in real life."""

import secrets
from typing import Literal

from fastapi import FastAPI, HTTPException
from pydantic import BaseModel, ConfigDict, Field

from app.sandbox.wechat_push import Delivery, Pusher
from app.sandbox.wechat_state import Fault, LoginCode, MediaCheck, PhoneCode, SentMessage, State

Json = dict[str, object]


class _Order(BaseModel):
    model_config = ConfigDict(extra="forbid")


class LoginCodeOrder(_Order):
    """A login code for the user of this name."""

    name: str = Field(min_length=1)
    blocked: bool = False


class PhoneCodeOrder(_Order):
    """A phone code for this number; the rest is for odd answers."""

    number: str = Field(min_length=1)
    openid: str | None = None
    country_code: str | int = "86"
    appid: str | None = None


class SubscriptionOrder(_Order):
    """The user taps `accept` in the popup `count` times, or refuses the template in the settings."""

    openid: str
    template_id: str
    choice: Literal["accept", "reject"] = "accept"
    count: int = Field(default=1, ge=1, le=100)


class VerdictOrder(_Order):
    """The verdict on a picture; `errcode` other than 0: could not be checked."""

    suggest: Literal["pass", "review", "risky"] = "pass"
    label: int = 100
    errcode: int = 0


class FaultOrder(_Order):
    """A disturbance of the next calls: an errcode, an HTTP status, a body, a delay; `after` the work was done."""

    path: str = "*"
    times: int = Field(default=1, ge=1, le=10_000)
    errcode: int | None = None
    errmsg: str = "injected"
    status: int = Field(default=200, ge=200, le=599)
    body: str | None = None
    delay_seconds: float = Field(default=0, ge=0, le=3600)
    after: bool = False


class TokenOrder(_Order):
    """Kill the access token; later uses answer with this errcode."""

    errcode: Literal[40001, 40014, 42001] = 42001


class ClockOrder(_Order):
    """Push the clock forward."""

    seconds: float = Field(gt=0)


def create_control(state: State, pusher: Pusher) -> FastAPI:
    """The control API over one sandbox. Never to be routed in production."""
    app, control = FastAPI(openapi_url=None), _Control(state, pusher)
    app.post("/login-codes")(control.mint_login_code)
    app.post("/phone-codes")(control.mint_phone_code)
    app.post("/subscriptions")(control.choose_subscription)
    app.get("/messages")(control.list_messages)
    app.get("/media-checks")(control.list_media_checks)
    app.post("/media-checks/{trace_id}/verdict")(control.push_verdict)
    app.post("/pushes")(control.push_event)
    app.get("/pushes")(control.list_pushes)
    app.post("/faults", status_code=204)(control.inject_fault)
    app.delete("/faults", status_code=204)(control.clear_faults)
    app.post("/token/kill", status_code=204)(control.kill_token)
    app.post("/clock")(control.advance_clock)
    app.get("/calls")(control.count_calls)
    return app


class _Control:
    def __init__(self, state: State, pusher: Pusher) -> None:
        self._state = state
        self._pusher = pusher

    async def mint_login_code(self, order: LoginCodeOrder) -> dict[str, str]:
        """A code that works once, for 5 minutes."""
        code, openid = secrets.token_urlsafe(24), self._state.openid_of(order.name)
        self._state.login_codes[code] = LoginCode(openid, self._state.now(), order.blocked)
        return {"code": code, "openid": openid}

    async def mint_phone_code(self, order: PhoneCodeOrder) -> dict[str, str]:
        """A code that works once, for 5 minutes."""
        code, appid = secrets.token_urlsafe(24), order.appid or self._state.appid
        self._state.phone_codes[code] = PhoneCode(
            order.number, self._state.now(), order.openid, order.country_code, appid
        )
        return {"code": code}

    async def choose_subscription(self, order: SubscriptionOrder) -> dict[str, int]:
        """Change what the user will still take, and push the event that says so."""
        accepted = order.choice == "accept"
        quota = self._state.quota(order.openid, order.template_id) + order.count if accepted else 0
        self._state.set_quota(order.openid, order.template_id, quota)
        for _ in range(order.count if accepted else 1):
            self._pusher.push_later(_subscription_event(order), 0)
        return {"quota": quota}

    async def list_messages(self, openid: str | None = None) -> list[SentMessage]:
        """The subscribe messages that arrived, oldest first."""
        return [message for message in self._state.messages if openid in (None, message.openid)]

    async def list_media_checks(self) -> list[MediaCheck]:
        """The pictures that were handed in, oldest first."""
        return list(self._state.media_checks.values())

    async def push_verdict(self, trace_id: str, order: VerdictOrder) -> dict[str, bool]:
        """Push a verdict now, on top of the automatic one."""
        check = self._state.media_checks.get(trace_id)
        if check is None:
            raise HTTPException(404, "no such trace_id")
        verdict = media_verdict(self._state, check, order.suggest, order.label, order.errcode)
        return {"accepted": await self._pusher.push(verdict)}

    async def push_event(self, event: Json) -> dict[str, bool]:
        """Push any event now."""
        return {"accepted": await self._pusher.push(event)}

    async def list_pushes(self) -> list[Delivery]:
        """The latest attempts to push, oldest first."""
        return list(self._pusher.deliveries)

    async def inject_fault(self, order: FaultOrder) -> None:
        """Disturb the calls to come."""
        self._state.faults.append(Fault(**order.model_dump()))

    async def clear_faults(self) -> None:
        """Stop disturbing."""
        self._state.faults.clear()

    async def kill_token(self, order: TokenOrder) -> None:
        """Let the access token die before its time."""
        self._state.tokens.kill_current(order.errcode)

    async def advance_clock(self, order: ClockOrder) -> dict[str, str]:
        """Move the sandbox's time, which codes and tokens live by."""
        self._state.advance(order.seconds)
        return {"now": self._state.now().isoformat()}

    async def count_calls(self) -> dict[str, int]:
        """How often each API was called."""
        return dict(self._state.calls)


def media_verdict(state: State, check: MediaCheck, suggest: str, label: int, errcode: int = 0) -> Json:
    """The event `wxa_media_check` for one picture."""
    event: Json = {
        "FromUserName": check.openid,
        "Event": "wxa_media_check",
        "appid": state.appid,
        "trace_id": check.trace_id,
        "version": 2,
        "errcode": errcode,
        "errmsg": "ok" if errcode == 0 else "cannot fetch",
    }
    if errcode == 0:
        event["detail"] = [
            {"strategy": "content_model", "errcode": 0, "suggest": suggest, "label": label, "prob": 90}
        ]
        event["result"] = {"suggest": suggest, "label": label}
    return event


def _subscription_event(order: SubscriptionOrder) -> Json:
    accepted = order.choice == "accept"
    row = {"TemplateId": order.template_id, "SubscribeStatusString": order.choice}
    return {
        "FromUserName": order.openid,
        "Event": "subscribe_msg_popup_event" if accepted else "subscribe_msg_change_event",
        "List": row | ({"PopupScene": "0"} if accepted else {}),
    }
