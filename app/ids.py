"""Identifiers: UUIDv7, sorted by time of creation. They name things; they are never secrets."""

from uuid import UUID

from uuid_utils.compat import uuid7


def new_id() -> UUID:
    """A fresh UUIDv7."""
    return uuid7()
