"""What the sandbox WeChat remembers: in memory, bounded, gone with the process."""

import base64
import hashlib
import secrets
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Generic, TypeVar

T = TypeVar("T")

_REMEMBERED = 10_000
_CODE_LIFE = timedelta(minutes=5)
_TOKEN_LIFE = timedelta(seconds=7200)
_TOKEN_OVERLAP = timedelta(seconds=300)
_FORCED_REFRESHES_A_DAY = 20
_FORCED_REFRESH_PAUSE = timedelta(seconds=30)
_DEMO = "demo:"


class Refused(Exception):
    """An answer with an errcode."""

    def __init__(self, errcode: int, errmsg: str) -> None:
        super().__init__(errcode, errmsg)
        self.errcode = errcode
        self.errmsg = errmsg


class Bounded(OrderedDict[str, T], Generic[T]):
    """A dictionary that forgets its oldest entry when it has too many."""

    def __setitem__(self, key: str, value: T) -> None:
        super().__setitem__(key, value)
        if len(self) > _REMEMBERED:
            self.popitem(last=False)


@dataclass(slots=True)
class Fault:
    """A disturbance of the next `times` calls to `path` (`*` for any); `after` lets the work be done first."""

    path: str
    times: int
    errcode: int | None = None
    errmsg: str = "injected"
    status: int = 200
    body: str | None = None
    delay_seconds: float = 0
    after: bool = False

    @property
    def replaces_answer(self) -> bool:
        """Whether the caller gets something else than the true answer."""
        return self.errcode is not None or self.status != 200 or self.body is not None


@dataclass(slots=True)
class LoginCode:
    """A code of `wx.login`."""

    openid: str
    minted_at: datetime
    blocked: bool = False
    used: bool = False


@dataclass(slots=True)
class PhoneCode:
    """A code of the phone button, and what it stands for."""

    number: str
    minted_at: datetime
    openid: str | None
    country_code: str | int
    appid: str
    used: bool = False


@dataclass(frozen=True, slots=True)
class SentMessage:
    """A subscribe message that arrived at the user."""

    openid: str
    template_id: str
    page: str
    values: dict[str, str]
    sent_at: datetime


@dataclass(frozen=True, slots=True)
class MediaCheck:
    """A picture handed in for a check."""

    trace_id: str
    openid: str
    media_url: str


@dataclass(slots=True)
class Tokens:
    """The access tokens of section 2.5: one current, one that still works, and those that are dead."""

    current: str = ""
    expires_at: datetime | None = None
    previous: str = ""
    previous_until: datetime | None = None
    dead: Bounded[int] = field(default_factory=Bounded)
    forced: deque[datetime] = field(default_factory=deque)

    def issue(self, now: datetime, *, force: bool) -> tuple[str, int]:
        """The token to hand out and the whole seconds it has left."""
        if force and self.current and self._may_force(now):
            self.kill_current(40001)
        left = self.expires_at - now if self.expires_at is not None else timedelta()
        if left > _TOKEN_OVERLAP:
            return self.current, int(left.total_seconds())
        self._kill(self.previous, 42001)
        self.previous = self.current
        self.previous_until = now + _TOKEN_OVERLAP if left > timedelta() else now
        self.current, self.expires_at = secrets.token_urlsafe(102), now + _TOKEN_LIFE
        return self.current, int(_TOKEN_LIFE.total_seconds())

    def check(self, token: str, now: datetime) -> None:
        """Raise `Refused` unless the token works."""
        if not token:
            raise Refused(41001, "access_token missing")
        for known, until in ((self.current, self.expires_at), (self.previous, self.previous_until)):
            if token == known and until is not None:
                if now < until:
                    return
                raise Refused(42001, "access_token expired")
        if self.dead.get(token) == 42001:
            raise Refused(42001, "access_token expired")
        if self.dead.get(token) == 40014:
            raise Refused(40014, "invalid access_token")
        raise Refused(40001, "invalid credential, access_token is invalid or not latest")

    def kill_current(self, errcode: int) -> None:
        """Let the current token and the one before it answer with this errcode from now on."""
        self._kill(self.current, errcode)
        self._kill(self.previous, errcode)
        self.current, self.expires_at = "", None
        self.previous, self.previous_until = "", None

    def _kill(self, token: str, errcode: int) -> None:
        if token:
            self.dead[token] = errcode

    def _may_force(self, now: datetime) -> bool:
        while self.forced and now - self.forced[0] > timedelta(days=1):
            self.forced.popleft()
        too_soon = bool(self.forced) and now - self.forced[-1] < _FORCED_REFRESH_PAUSE
        if too_soon or len(self.forced) >= _FORCED_REFRESHES_A_DAY:
            return False
        self.forced.append(now)
        return True


class State:
    """One mini-program and its users, on a clock that can be pushed forward."""

    def __init__(self, appid: str, secret: str, clock: Callable[[], datetime]) -> None:
        self.appid = appid
        self.secret = secret
        self.tokens = Tokens()
        self.login_codes: Bounded[LoginCode] = Bounded()
        self.phone_codes: Bounded[PhoneCode] = Bounded()
        self.subscriptions: Bounded[int] = Bounded()
        self.media_checks: Bounded[MediaCheck] = Bounded()
        self.messages: deque[SentMessage] = deque(maxlen=_REMEMBERED)
        self.faults: deque[Fault] = deque(maxlen=100)
        self.calls: Counter[str] = Counter()
        self._clock = clock
        self._ahead = timedelta()

    def now(self) -> datetime:
        """The sandbox's time."""
        return self._clock() + self._ahead

    def advance(self, seconds: float) -> None:
        """Push the sandbox's clock forward."""
        self._ahead += timedelta(seconds=seconds)

    def openid_of(self, name: str) -> str:
        """The openid of a demo user: the same for the same name, in every process."""
        digest = hashlib.sha256(f"{self.appid}/{name}".encode()).digest()
        return "o" + base64.urlsafe_b64encode(digest)[:27].decode()

    def redeem_login(self, code: str) -> str:
        """The openid behind a login code: `demo:<name>` any number of times, a minted code once in 5 minutes."""
        if code.startswith(_DEMO) and len(code) > len(_DEMO):
            return self.openid_of(code.removeprefix(_DEMO))
        minted = self.login_codes.get(code)
        if minted is None or self.now() - minted.minted_at > _CODE_LIFE:
            raise Refused(40029, "invalid code")
        if minted.used:
            raise Refused(40163, "code been used")
        minted.used = True
        if minted.blocked:
            raise Refused(40226, "code blocked")
        return minted.openid

    def redeem_phone(self, code: str, openid: str | None) -> PhoneCode:
        """The number behind a phone code, `demo:<name>` or minted and used once; `openid` must be its owner when given."""
        if code.startswith(_DEMO) and len(code) > len(_DEMO):
            return PhoneCode(demo_phone(code.removeprefix(_DEMO)), self.now(), None, "86", self.appid)
        minted = self.phone_codes.get(code)
        if minted is None or minted.used or self.now() - minted.minted_at > _CODE_LIFE:
            raise Refused(40029, "invalid code")
        if openid is not None and minted.openid not in (None, openid):
            raise Refused(40029, "invalid code")
        minted.used = True
        return minted

    def quota(self, openid: str, template_id: str) -> int:
        """How many messages of this template the user will still take."""
        return self.subscriptions.get(f"{openid} {template_id}", 0)

    def set_quota(self, openid: str, template_id: str, quota: int) -> None:
        """Replace that number."""
        self.subscriptions[f"{openid} {template_id}"] = quota

    def take_fault(self, path: str) -> Fault | None:
        """The oldest disturbance that applies to this call, used up by one."""
        for fault in self.faults:
            if fault.path in ("*", path):
                fault.times -= 1
                if fault.times <= 0:
                    self.faults.remove(fault)
                return fault
        return None


def demo_phone(name: str) -> str:
    """A number at 190 00: the digits themselves if there are up to 6, else 6 that follow from the name."""
    if name.isascii() and name.isdigit() and len(name) <= 6:
        return f"19000{name:0>6}"
    return f"19000{int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], 'big') % 1_000_000:06d}"
