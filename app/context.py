"""What everything in one request shares without passing it on."""

from contextvars import ContextVar

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)

CALLER = "jincai.caller"
SESSION = "jincai.session"
"""Where a request's scope keeps who is calling, and the transaction that has claimed its idempotency key."""
