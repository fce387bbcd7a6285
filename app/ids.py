"""Identifiers: UUIDv7, sorted by time of creation. They name things; they are never secrets."""

from uuid import UUID

import uuid_utils
from uuid_utils.compat import uuid7


def new_id() -> UUID:
    """A fresh UUIDv7."""
    return uuid7()


def new_hex() -> str:
    """The 32 digits of one, for what is only ever text."""
    return uuid_utils.uuid7().hex
