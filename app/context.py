"""What everything in one request shares without passing it on."""

from contextvars import ContextVar

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)

CALLER = "jincai.caller"
SESSION = "jincai.session"
HEADERS = "jincai.headers"
"""Where a request's scope keeps who is calling, the transaction that has claimed its idempotency key, and its headers."""
