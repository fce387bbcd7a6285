"""What WeChat's refusals mean to the person who waits for an answer."""

import contextlib
from collections.abc import Iterator

import structlog

from app.clients.wechat_errors import (
    CodeInvalid,
    MinuteLimited,
    QuotaExceeded,
    UserBlocked,
    WeChatError,
    WeChatUnavailable,
)
from app.errors import Forbidden, Problem, TooManyRequests, Unauthenticated, Unavailable

_FALLBACK_SECONDS = 60
_log = structlog.get_logger("wechat")


class WeChatCodeInvalid(Unauthenticated):
    """The code is unknown, used, older than five minutes, or of another mini-program."""

    code = "wechat_code_invalid"
    title_en, title_zh = "The WeChat code is invalid or was used before", "微信凭证无效或已使用"


class WeChatUserBlocked(Forbidden):
    """WeChat calls this user a high risk."""

    code = "wechat_user_blocked"
    title_en, title_zh = "WeChat does not let this account in", "该微信账号存在风险，无法登录"


class WeChatBusy(TooManyRequests):
    """Too many codes of one user within a minute."""

    code = "wechat_busy"
    title_en, title_zh = "Too many attempts with WeChat, wait a minute", "微信请求过于频繁，请稍后再试"


class WeChatAway(Unavailable):
    """WeChat does not answer, or not us; nothing was done here."""

    code = "wechat_unavailable"
    title_en, title_zh = "WeChat is not available, nothing was changed", "微信服务暂时不可用，未做任何更改"


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """Turn what WeChat refuses inside the block into a problem; what only an operator can mend is logged too."""
    try:
        yield
    except WeChatError as error:
        problem = _problem(error)
        if not isinstance(error, WeChatUnavailable | CodeInvalid | UserBlocked):
            _log.error("wechat_refused", api=error.api, errcode=error.errcode, rid=error.rid)
    else:
        return
    # Outside the handler: a chained exception would carry what was sent.
    raise problem


def _problem(error: WeChatError) -> Problem:
    match error:
        case CodeInvalid():
            return WeChatCodeInvalid()
        case UserBlocked():
            return WeChatUserBlocked()
        case MinuteLimited():
            return WeChatBusy(retry_after=error.retry_after)
        case QuotaExceeded() | WeChatUnavailable():
            return WeChatAway(retry_after=error.retry_after)
        case _:
            return WeChatAway(retry_after=_FALLBACK_SECONDS)
