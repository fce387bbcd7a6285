"""Standard Webhooks 1.0.0: signing what we send, verifying what we get, on raw bytes.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

import base64
import binascii
import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from app.errors import Unauthenticated

SECRET_PREFIX = "whsec_"
TOLERANCE = timedelta(seconds=300)
_SECRET_BYTES = 32
_MIN_BYTES, _MAX_BYTES = 24, 64
_MAX_SIGNATURES = 20
_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
_TIMESTAMP = re.compile(r"[0-9]{1,12}")
_SIGNATURE = re.compile(r"v1,([A-Za-z0-9+/]{43}=)")


class SignatureRejected(Unauthenticated):
    """Not signed by anybody we know, not now, or not readable. The answer never says which."""

    code = "signature_rejected"
    title_en, title_zh = "The webhook signature was not accepted", "签名验证失败"


def new_secret() -> str:
    """A fresh secret of 32 random bytes, as `whsec_` and base64."""
    return SECRET_PREFIX + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()


def key_of(secret: str) -> bytes:
    """The bytes of a secret; ValueError, without the secret, when it has not 24 to 64 of them."""
    try:
        key = base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not _MIN_BYTES <= len(key) <= _MAX_BYTES:
        raise ValueError("a webhook secret is whsec_ and base64 of 24 to 64 bytes")
    return key


def headers(message_id: str, at: datetime, body: bytes, keys: Sequence[bytes]) -> dict[str, str]:
    """What to send along: one signature per key, so that a rotation loses nothing."""
    timestamp = str(int(at.timestamp()))
    signatures = [f"v1,{_sign(key, message_id, timestamp, body)}" for key in keys]
    return {
        "webhook-id": message_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": " ".join(signatures),
    }


def verify(received: Mapping[str, str], body: bytes, keys: Sequence[bytes], now: datetime) -> str:
    """The id of a message that one of `keys` signed within 300 s; SignatureRejected for anything else."""
    message_id = received.get("webhook-id", "")
    timestamp = received.get("webhook-timestamp", "")
    if not _ID.fullmatch(message_id) or not _TIMESTAMP.fullmatch(timestamp):
        raise SignatureRejected
    if abs(now.timestamp() - int(timestamp)) > TOLERANCE.total_seconds():
        raise SignatureRejected
    offered = received.get("webhook-signature", "").split(" ")
    if len(offered) > _MAX_SIGNATURES:
        raise SignatureRejected
    expected = [_sign(key, message_id, timestamp, body).encode() for key in keys]
    matches = [
        hmac.compare_digest(match[1].encode(), each)
        for match in map(_SIGNATURE.fullmatch, offered)
        if match
        for each in expected
    ]
    if not any(matches):
        raise SignatureRejected
    return message_id


def _sign(key: bytes, message_id: str, timestamp: str, body: bytes) -> str:
    content = f"{message_id}.{timestamp}.".encode() + body
    return base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()
