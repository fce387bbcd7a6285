"""What can go wrong with WeChat, by what a caller can do about it."""

from typing import ClassVar


class WeChatError(Exception):
    """WeChat refused, or could not be asked.

    Carries numbers only: WeChat's own wording may quote what was sent. `rid` is the request id its support asks
    for; `retry_after` is in seconds, None when trying again does not help.
    """

    summary: ClassVar[str] = "refused the call"
    retry_after: int | None = None

    def __init__(self, api: str, errcode: int | None = None, rid: str | None = None) -> None:
        self.api = api
        self.errcode = errcode
        self.rid = rid
        super().__init__(api, errcode, rid)

    def __str__(self) -> str:
        parts = [f"{self.api}: {self.summary}"]
        if self.errcode is not None:
            parts.append(f"errcode {self.errcode}")
        if self.rid is not None:
            parts.append(f"rid {self.rid}")
        return ", ".join(parts)


class WeChatUnavailable(WeChatError):
    """No answer, or none that can be read. `repeatable` says that a repetition cannot do the work twice."""

    summary = "no usable answer"
    retry_after = 5

    def __init__(
        self,
        api: str,
        errcode: int | None = None,
        rid: str | None = None,
        *,
        reason: str = "",
        repeatable: bool = False,
    ) -> None:
        super().__init__(api, errcode, rid)
        self.reason = reason
        self.repeatable = repeatable

    def __str__(self) -> str:
        return f"{super().__str__()} ({self.reason})" if self.reason else super().__str__()


class SystemBusy(WeChatUnavailable):
    """Errcode -1: nothing was done, ask again."""

    summary = "system busy"

    def __init__(self, api: str, errcode: int | None = None, rid: str | None = None) -> None:
        super().__init__(api, errcode, rid, repeatable=True)


class TokenRejected(WeChatUnavailable):
    """The access token is no longer accepted; the client itself renews it once."""

    summary = "access token rejected"


class Misconfigured(WeChatError):
    """The account, its secret, its address list, a template or a page is set up wrongly: tell the operator."""

    summary = "misconfigured"


class QuotaExceeded(WeChatError):
    """The quota of this API is used up until WeChat's next window, which may be a minute or a day away."""

    summary = "quota used up"
    retry_after = 600


class MinuteLimited(QuotaExceeded):
    """Too many calls in this minute."""

    summary = "minute limit reached"
    retry_after = 60


class CodeInvalid(WeChatError):
    """The login or phone code is unknown, expired, of another app, or of another person."""

    summary = "code invalid"


class CodeUsed(CodeInvalid):
    """The code has been used before."""

    summary = "code used before"


class UserBlocked(WeChatError):
    """WeChat calls this user a high risk: deny the login."""

    summary = "user blocked"


class UserUnknown(WeChatError):
    """The openid is not one of our mini-program."""

    summary = "openid unknown"


class UserInactive(WeChatError):
    """The text check needs a user who was active in the last two hours."""

    summary = "user not active recently"


class SubscriptionRefused(WeChatError):
    """The user refused, unsubscribed, or has no one-time quota left: set the ledger to 0, do not retry."""

    summary = "no subscription"


class RecipientBusy(WeChatError):
    """Another message to the same user is being sent."""

    summary = "concurrent sends to one user"
    retry_after = 5


class MessageSensitive(WeChatError):
    """The message hits a sensitive word: drop it."""

    summary = "message hits a sensitive word"


class MessageInvalid(WeChatError):
    """A value breaks the rule of its template field; `field` names it (`thing1`) when known."""

    summary = "template value invalid"

    def __init__(
        self, api: str, errcode: int | None = None, rid: str | None = None, *, field: str | None = None
    ) -> None:
        super().__init__(api, errcode, rid)
        self.field = field

    def __str__(self) -> str:
        return f"{super().__str__()} ({self.field})" if self.field else super().__str__()


class RequestRejected(WeChatError):
    """WeChat does not accept the request as built, or answers a code that is not known here: a bug."""
