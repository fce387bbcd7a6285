"""Asks one server one kind of question over a few kept connections, as fast as it answers, and times every answer.

A process of its own on a core of its own: `python -m benchmarks.load FACTS OPERATION PORT SECONDS FIRST`. Sockets and epoll
without an event loop: the asking must cost little beside the answering.
"""

import json
import select
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.questions import QUESTIONS


@dataclass(frozen=True, slots=True)
class Result:
    """What one round measured; `asked` counts what was used up of the prepared writes, per client."""

    rate: float
    p50_ms: float
    p99_ms: float
    asked: int
    failed: int
    first_failure: str


class _Connection:
    def __init__(self, port: int, questions: Iterator[bytes]) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._questions = questions
        self._buffer = b""
        self._missing = 0
        self._sent_at = 0.0
        self.asked = self.failed = 0
        self.seconds: list[float] = []
        self.first_failure = ""

    def fileno(self) -> int:
        return self._socket.fileno()

    def ask(self) -> bool:
        """Send the next question; False when there is none left."""
        question = next(self._questions, None)
        if question is None:
            return False
        self._sent_at = time.perf_counter()
        self._socket.sendall(question)
        self.asked += 1
        return True

    def hear(self) -> bool:
        """Read what has arrived; whether that was the end of an answer."""
        part = self._socket.recv(65536)
        if not part:
            raise ConnectionError("the server hung up")
        self._buffer += part
        if not self._missing:
            head, end, _ = self._buffer.partition(b"\r\n\r\n")
            if not end:
                return False
            self._missing = len(head) + 4 + _length(head)
        if len(self._buffer) < self._missing:
            return False
        self.seconds.append(time.perf_counter() - self._sent_at)
        if self._buffer[9:10] != b"2":
            self.failed += 1
            self.first_failure = self.first_failure or self._buffer[:2000].decode(errors="replace")
        self._buffer, self._missing = b"", 0
        return True


def _length(head: bytes) -> int:
    lower = head.lower()
    start = lower.index(b"content-length: ") + 16
    return int(lower[start : lower.find(b"\r", start) if b"\r" in lower[start:] else None])


def run(port: int, seconds: float, questions: list[Iterator[bytes]]) -> Result:
    """Keep every connection busy for so long."""
    connections = [_Connection(port, each) for each in questions]
    poll = select.epoll()
    by_number = {each.fileno(): each for each in connections}
    for number, each in by_number.items():
        poll.register(number, select.EPOLLIN)
        each.ask()
    began = time.perf_counter()
    ends = began + seconds
    while (now := time.perf_counter()) < ends:
        for number, _ in poll.poll(ends - now):
            if by_number[number].hear() and not by_number[number].ask():
                ends = time.perf_counter()
    took = time.perf_counter() - began
    times = sorted(second for each in connections for second in each.seconds)
    return Result(
        rate=len(times) / took,
        p50_ms=_percentile(times, 0.50),
        p99_ms=_percentile(times, 0.99),
        asked=max(each.asked for each in connections),
        failed=sum(each.failed for each in connections),
        first_failure=next((each.first_failure for each in connections if each.first_failure), ""),
    )


def _percentile(times: list[float], part: float) -> float:
    return times[min(int(len(times) * part), len(times) - 1)] * 1000 if times else 0.0


def main() -> None:
    facts, operation, port, seconds, first = sys.argv[1:]
    questions = QUESTIONS[operation](json.loads(Path(facts).read_text()), int(first))
    print(json.dumps(asdict(run(int(port), float(seconds), questions))))


if __name__ == "__main__":
    main()
