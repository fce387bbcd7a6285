"""What an API key looks like: `jck_live_<10 to find it>_<43 of secret><6 of checksum>`.

The prefix is for scanners of leaked secrets, the checksum (CRC-32) lets them and us judge a string without a look-up.
"""

import re
import secrets
import string
from dataclasses import dataclass

from app.crypto import new_token, token_well_formed
from app.settings import settings

_ALPHABET = string.ascii_letters + string.digits
_NAME_LENGTH = 10
_KEY = re.compile(r"(jck_(?:live|test)_([A-Za-z0-9]{10})_)[A-Za-z0-9]{49}")


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that nobody has seen yet."""

    text: str
    name_part: str


def new_key() -> NewKey:
    """A fresh key of this deployment: `live` in production, `test` elsewhere."""
    name_part = "".join(secrets.choice(_ALPHABET) for _ in range(_NAME_LENGTH))
    return NewKey(new_token(visible(name_part)), name_part)


def visible(name_part: str) -> str:
    """The beginning of a key, which is no secret."""
    return f"jck_{'live' if settings.env == 'prod' else 'test'}_{name_part}_"


def name_part_of(text: str) -> str | None:
    """The part that finds a key of this deployment; None for anything else."""
    match = _KEY.fullmatch(text)
    if match is None or match[1] != visible(match[2]) or not token_well_formed(match[1], text):
        return None
    return match[2]
