"""Metrics for Prometheus: names of operations and statuses only, so that nothing in them is about anybody."""

from prometheus_client import CONTENT_TYPE_LATEST, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE = CONTENT_TYPE_LATEST

IN_PROGRESS = Gauge("jincai_http_requests_in_progress", "Requests being answered now, open streams included")
DENIED = Counter("jincai_denied_total", "Refused requests of known callers", ["operation", "code"])
TASKS_DUE = Gauge("jincai_tasks_due", "Tasks that wait for a worker although their time has come")
TASKS_OLDEST_SECONDS = Gauge("jincai_tasks_oldest_due_seconds", "How long the oldest due task has waited")
EVENTS_UNSEQUENCED = Gauge("jincai_events_unsequenced", "Events that have no position in the feed yet")
DATABASE_UP = Gauge("jincai_database_up", "Whether the database answered while these metrics were read")
GATE_FREE = Gauge("jincai_database_turns_free", "Database turns that nobody uses", ["gate"])
GATE_WAITING = Gauge("jincai_database_turns_waiting", "Requests that wait for a database turn", ["gate"])

_REQUESTS = Counter("jincai_http_requests_total", "Answered requests", ["operation", "status"])
_SECONDS = Histogram(
    "jincai_http_request_seconds",
    "Time until an answer began",
    ["operation"],
    buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
_requests: dict[tuple[str, int], Counter] = {}
_seconds: dict[str, Histogram] = {}


def observe(operation: str, status: int, seconds: float) -> None:
    """Count one answer. Looking a label up costs more than counting, so each is looked up once."""
    counter = _requests.get((operation, status))
    if counter is None:
        counter = _requests[operation, status] = _REQUESTS.labels(operation, str(status))
        _seconds[operation] = _SECONDS.labels(operation)
    counter.inc()
    _seconds[operation].observe(seconds)


def exposition() -> bytes:
    """Everything, in the text format."""
    return generate_latest()
