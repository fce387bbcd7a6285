"""WeChat's message push: who sent it, how old it is, and what it says. JSON only: XML is refused unread.

Configure the push as "secure mode, JSON". Answer `success` within 5 seconds, and expect every event more than once.
"""

import base64
import binascii
import hashlib
import hmac
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC

from app.clients.wechat import Suggestion

Json = dict[str, object]

_BODY_LIMIT = 64 * 1024
_MAX_AGE = timedelta(minutes=5)
_PADDING_BLOCK = 32


class Refusal(StrEnum):
    """Why a push was not taken."""

    SIGNATURE = "signature"
    STALE = "stale"
    TOO_LARGE = "too_large"
    XML = "xml"
    MALFORMED = "malformed"
    UNDECIPHERABLE = "undecipherable"
    FOREIGN_APP = "foreign_app"


class PushRejected(Exception):
    """A push that is not WeChat's, not fresh, not for us, or not readable: answer 4xx, take nothing from it."""

    def __init__(self, reason: Refusal) -> None:
        super().__init__(reason.value)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class PushEvent:
    """Any event. `identity` is the same for every repetition of the same event."""

    name: str
    openid: str
    created_at: datetime
    identity: str


@dataclass(frozen=True, slots=True)
class MediaChecked(PushEvent):
    """The verdict on a picture. `suggestion` is None when WeChat could not check it: keep it hidden."""

    trace_id: str
    suggestion: Suggestion | None
    label: int | None


@dataclass(frozen=True, slots=True)
class SubscriptionChoice:
    """What the user chose for one template: only `accept` is a yes, `reject`, `ban` and the rest are not."""

    template_id: str
    accepted: bool


@dataclass(frozen=True, slots=True)
class SubscriptionsChosen(PushEvent):
    """The user answered the subscription popup (`from_popup`: each accept is one send) or changed the settings."""

    choices: tuple[SubscriptionChoice, ...]
    from_popup: bool


@dataclass(frozen=True, slots=True)
class MessageOutcome:
    """Whether one subscribe message reached the user; `errcode` 0 is yes, None unknown."""

    template_id: str
    message_id: str
    errcode: int | None


@dataclass(frozen=True, slots=True)
class MessagesSent(PushEvent):
    """What became of subscribe messages after WeChat had taken them."""

    outcomes: tuple[MessageOutcome, ...]


class MessagePush:
    """Opens pushes to one mini-program. With an AES key only secure mode is taken: plain mode signs no body."""

    def __init__(
        self,
        *,
        token: str,
        aes_key: str,
        appid: str,
        now: Callable[[], datetime],
    ) -> None:
        self._token = token
        self._key = _decode_aes_key(aes_key) if aes_key else None
        self._appid = appid
        self._now = now

    def answer_url_check(self, query: Mapping[str, str]) -> str:
        """The text to echo when WeChat verifies our address. Raises `PushRejected`."""
        self._verify(query, "signature")
        return query.get("echostr", "")

    def open(self, query: Mapping[str, str], body: bytes) -> PushEvent:
        """The event in a push: a bare `PushEvent` when it is of a kind we do not use. Raises `PushRejected`."""
        if len(body) > _BODY_LIMIT:
            raise PushRejected(Refusal.TOO_LARGE)
        if body.lstrip().startswith(b"<"):
            raise PushRejected(Refusal.XML)
        message = _parse(body)
        if self._key is None:
            self._verify(query, "signature")
            return _event(message)
        encrypted = message.get("Encrypt")
        if not isinstance(encrypted, str):
            raise PushRejected(Refusal.MALFORMED)
        self._verify(query, "msg_signature", encrypted)
        return _event(_parse(self._decrypt(self._key, encrypted)))

    def _verify(self, query: Mapping[str, str], name: str, *signed: str) -> None:
        timestamp = query.get("timestamp", "")
        parts = sorted((self._token, timestamp, query.get("nonce", ""), *signed))
        expected = hashlib.sha1(_bytes("".join(parts)), usedforsecurity=False).hexdigest()
        if not hmac.compare_digest(_bytes(expected), _bytes(query.get(name, ""))):
            raise PushRejected(Refusal.SIGNATURE)
        if abs(self._now() - _moment(timestamp)) > _MAX_AGE:
            raise PushRejected(Refusal.STALE)

    def _decrypt(self, key: bytes, encrypted: str) -> bytes:
        """random(16) + length(4, big-endian) + message + appid, padded by PKCS#7 to 32 where AES itself has 16."""
        padded = _decipher(key, encrypted)
        padding = padded[-1]
        if not 1 <= padding <= _PADDING_BLOCK or padded[-padding:] != bytes([padding]) * padding:
            raise PushRejected(Refusal.UNDECIPHERABLE)
        plain = padded[:-padding]
        length = int.from_bytes(plain[16:20], "big")
        message, appid = plain[20 : 20 + length], plain[20 + length :]
        if len(message) != length:
            raise PushRejected(Refusal.UNDECIPHERABLE)
        if not hmac.compare_digest(appid, self._appid.encode()):
            raise PushRejected(Refusal.FOREIGN_APP)
        return message


def _decode_aes_key(aes_key: str) -> bytes:
    """The 32 bytes of an EncodingAESKey. Its last character carries two spare bits, so a strict decoder fails."""
    try:
        key = base64.b64decode(aes_key + "=")
    except (binascii.Error, ValueError):
        key = b""
    if len(aes_key) != 43 or len(key) != 32:
        raise ValueError("an EncodingAESKey has 43 letters and digits")
    return key


def _decipher(key: bytes, encrypted: str) -> bytes:
    try:
        blocks = base64.b64decode(encrypted)
    except (binascii.Error, ValueError):
        blocks = b""
    if not blocks or len(blocks) % 16:
        raise PushRejected(Refusal.UNDECIPHERABLE)
    decryptor = Cipher(AES(key), CBC(key[:16])).decryptor()
    return decryptor.update(blocks) + decryptor.finalize()


def _bytes(text: str) -> bytes:
    """UTF-8 of whatever a stranger sent, half surrogates included."""
    return text.encode("utf-8", "surrogatepass")


def _parse(text: bytes) -> Json:
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        message = None
    if isinstance(message, dict):
        return message
    raise PushRejected(Refusal.MALFORMED)


def _event(message: Json) -> PushEvent:
    name = _text(message, "Event")
    openid = _text(message, "FromUserName")
    created = _text(message, "CreateTime")
    trace_id = _text(message, "trace_id")
    identity = "|".join((openid, created, name, trace_id))
    created_at = _moment(created)
    rows = _rows(message.get("List"))
    match name:
        case "":
            raise PushRejected(Refusal.MALFORMED)
        case "wxa_media_check":
            return MediaChecked(name, openid, created_at, identity, trace_id, *_verdict(message))
        case "subscribe_msg_popup_event" | "subscribe_msg_change_event":
            choices = tuple(_choice(row) for row in rows)
            from_popup = name == "subscribe_msg_popup_event"
            return SubscriptionsChosen(name, openid, created_at, identity, choices, from_popup)
        case "subscribe_msg_sent_event":
            outcomes = tuple(_outcome(row) for row in rows)
            return MessagesSent(name, openid, created_at, identity, outcomes)
    return PushEvent(name, openid, created_at, identity)


def _verdict(message: Json) -> tuple[Suggestion | None, int | None]:
    """Suggestion and label. A missing errcode has been seen on good verdicts; one that is not 0 means not checked."""
    result = message.get("result")
    if _whole(message, "errcode", 0) != 0 or not isinstance(result, dict):
        return None, None
    advice = _text(result, "suggest")
    suggestion = Suggestion(advice) if advice in set(Suggestion) else None
    return suggestion, _whole(result, "label", None)


def _choice(row: Json) -> SubscriptionChoice:
    return SubscriptionChoice(_text(row, "TemplateId"), _text(row, "SubscribeStatusString") == "accept")


def _outcome(row: Json) -> MessageOutcome:
    return MessageOutcome(_text(row, "TemplateId"), _text(row, "MsgID"), _whole(row, "ErrorCode", None))


def _rows(value: object) -> list[Json]:
    """WeChat sends an object for one row and an array for several."""
    rows = value if isinstance(value, list) else [value]
    return [row for row in rows if isinstance(row, dict)]


def _text(row: Json, name: str) -> str:
    """The value as text: WeChat sends numbers bare or quoted."""
    value = row.get(name)
    return str(value) if isinstance(value, str | int) else ""


def _whole(row: Json, name: str, missing: int | None) -> int | None:
    """The value as a number, `missing` when there is none; None when it is neither."""
    if name not in row:
        return missing
    text = _text(row, name)
    return int(text) if re.fullmatch(r"-?[0-9]{1,10}", text) else None


def _moment(timestamp: str) -> datetime:
    """A time in seconds, quoted or not. Raises `PushRejected`."""
    if not re.fullmatch(r"[0-9]{1,11}", timestamp):
        raise PushRejected(Refusal.MALFORMED)
    return datetime.fromtimestamp(int(timestamp), UTC)
