"""The second factor of staff: time-based codes (RFC 6238: SHA-1, 30 seconds, 6 digits) and recovery codes. No I/O."""

import hmac
import re
import secrets
from datetime import datetime

import pyotp

ISSUER = "Jincai Life"
STEP_SECONDS = 30
RECOVERY_CODES = 10

_CODE = re.compile(r"[0-9]{6}")
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_GROUPS, _GROUP = 6, 4
_LOOKALIKES = str.maketrans("oil", "011", " -")


def new_secret() -> str:
    """160 random bits in base32, to be kept sealed."""
    return pyotp.random_base32()


def provisioning_uri(secret: str, username: str) -> str:
    """The `otpauth://` address that an authenticator app reads from a QR code."""
    return pyotp.TOTP(secret, interval=STEP_SECONDS).provisioning_uri(name=username, issuer_name=ISSUER)


def match_step(secret: str, code: str, at: datetime, last_step: int | None) -> int | None:
    """The time step of a code that is right at an aware time, one step either way; None for wrong or spent ones.

    The caller stores the answer as `last_step` in the same transaction, so that a code works once.
    """
    if not _CODE.fullmatch(code):
        return None
    now = int(at.timestamp()) // STEP_SECONDS
    generator = pyotp.HOTP(secret)
    matched = None
    for step in (now - 1, now, now + 1):
        right = hmac.compare_digest(generator.at(step), code)
        if right and (last_step is None or step > last_step):
            matched = step
    return matched


def new_recovery_codes() -> list[str]:
    """Ten one-time codes to print. 120 bits each, so a keyed digest of the normal form is enough to store."""
    return [_recovery_code() for _ in range(RECOVERY_CODES)]


def _recovery_code() -> str:
    return "-".join("".join(secrets.choice(_ALPHABET) for _ in range(_GROUP)) for _ in range(_GROUPS))


def normalise_recovery_code(text: str) -> str | None:
    """What to digest, whatever way the code was typed (case, spaces, o for 0, i or l for 1); None if it is no code."""
    code = text.strip().lower().translate(_LOOKALIKES)
    if len(code) != _GROUPS * _GROUP or not set(code) <= set(_ALPHABET):
        return None
    return code
