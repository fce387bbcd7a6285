"""Metrics for Prometheus: names of operations and statuses only, so that nothing in them is about anybody."""

from bisect import bisect_left
from collections import Counter as Tally
from collections import defaultdict
from collections.abc import Iterator
from itertools import accumulate

from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, Counter, Gauge, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

CONTENT_TYPE = CONTENT_TYPE_LATEST

DENIED = Counter("jincai_denied_total", "Refused requests of known callers", ["operation", "code"])
TASKS_DUE = Gauge("jincai_tasks_due", "Tasks that wait for a worker although their time has come")
TASKS_OLDEST_SECONDS = Gauge("jincai_tasks_oldest_due_seconds", "How long the oldest due task has waited")
EVENTS_UNSEQUENCED = Gauge("jincai_events_unsequenced", "Events that have no position in the feed yet")
DATABASE_UP = Gauge("jincai_database_up", "Whether the database answered while these metrics were read")
GATE_FREE = Gauge("jincai_database_turns_free", "Database turns that nobody uses", ["gate"])
GATE_WAITING = Gauge("jincai_database_turns_waiting", "Requests that wait for a database turn", ["gate"])

_LIMITS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_BUCKETS = (*map(str, _LIMITS), "+Inf")


class Requests(Collector):
    """All HTTP requests of this process. Counted by hand: the library's counters cost every request a dozen calls."""

    def __init__(self) -> None:
        self.in_progress = 0
        self._answers: Tally[tuple[str, int]] = Tally()
        self._times: defaultdict[str, list[int]] = defaultdict(lambda: [0] * len(_BUCKETS))
        self._seconds: defaultdict[str, float] = defaultdict(float)

    def observe(self, operation: str, status: int, seconds: float) -> None:
        """Count one answer that began after so many seconds."""
        self._answers[operation, status] += 1
        self._times[operation][bisect_left(_LIMITS, seconds)] += 1
        self._seconds[operation] += seconds

    def collect(self) -> Iterator[Metric]:
        """What Prometheus reads."""
        yield GaugeMetricFamily(
            "jincai_http_requests_in_progress",
            "Requests being answered now, open streams included",
            self.in_progress,
        )
        answers = CounterMetricFamily(
            "jincai_http_requests_total", "Answered requests", labels=["operation", "status"]
        )
        for (operation, status), count in self._answers.items():
            answers.add_metric([operation, str(status)], count)
        yield answers
        times = HistogramMetricFamily(
            "jincai_http_request_seconds", "Time until an answer began", labels=["operation"]
        )
        for operation, counts in self._times.items():
            buckets = list(zip(_BUCKETS, accumulate(counts), strict=True))
            times.add_metric([operation], buckets, self._seconds[operation])
        yield times


requests = Requests()
REGISTRY.register(requests)


def exposition() -> bytes:
    """Everything, in the text format."""
    return generate_latest()
