"""What WeChat pushes to us: taken in at once, applied by the worker, and only once however often it comes."""

import hashlib
from collections.abc import Mapping

import structlog

from app import clock
from app.clients.wechat_push import MediaChecked, MessagePush, PushRejected, Refusal
from app.db import database
from app.errors import BadRequest, Forbidden
from app.sandbox.credentials import SANDBOX_APPID, SANDBOX_PUSH_AES_KEY, SANDBOX_PUSH_TOKEN
from app.services import reviews
from app.settings import settings

_FORGED = (Refusal.SIGNATURE, Refusal.STALE, Refusal.FOREIGN_APP)
_log = structlog.get_logger("wechat")


class PushForged(Forbidden):
    """Not signed by WeChat, not fresh, or for another mini-program."""

    code = "push_forged"
    title_en, title_zh = "This push is not from WeChat", "推送来源校验失败"


class PushUnreadable(BadRequest):
    """Nothing that can be read as a push in JSON."""

    code = "push_unreadable"
    title_en, title_zh = "This push cannot be read", "推送内容无法解析"


def answer_check(query: Mapping[str, str]) -> str:
    """The text that proves to WeChat that this address is ours."""
    try:
        return _opener().answer_url_check(query)
    except PushRejected as rejected:
        refusal = rejected.reason
    raise _refused(refusal)


async def receive(query: Mapping[str, str], body: bytes) -> None:
    """Take one push in. Kinds that we do not use are accepted and dropped, or WeChat would repeat them."""
    try:
        event = _opener().open(query, body)
    except PushRejected as rejected:
        refusal = rejected.reason
    else:
        if isinstance(event, MediaChecked):
            # The identity holds an openid, which no plain column may show.
            key = f"wechat.push:{hashlib.sha256(event.identity.encode()).hexdigest()}"
            async with database.transaction() as session:
                await reviews.receive_verdict(session, event, key)
        return
    raise _refused(refusal)


def _opener() -> MessagePush:
    """What opens pushes. Without a token anybody could sign, so then nothing is taken."""
    if settings.sandbox_wechat:
        token, aes_key, appid = SANDBOX_PUSH_TOKEN, SANDBOX_PUSH_AES_KEY, SANDBOX_APPID
    else:
        token, aes_key = settings.wechat_push_token, settings.wechat_push_aes_key
        appid = settings.wechat_appid
    if not token:
        raise PushRejected(Refusal.SIGNATURE)
    return MessagePush(token=token, aes_key=aes_key, appid=appid, now=clock.now)


def _refused(refusal: Refusal) -> PushForged | PushUnreadable:
    _log.warning("push_refused", reason=refusal.value)
    return PushForged() if refusal in _FORGED else PushUnreadable()
