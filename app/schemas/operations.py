"""Answers to an operator."""

from typing import Literal

from app.schemas.base import Read


class Health(Read):
    """All is well."""

    status: Literal["ok"]
    version: str
