"""Measures the service beside the bare limit on one machine: `make bench`, or `python -m benchmarks --quick`.

Both are asked the same questions in turn, round after round, and what counts is the ratio. A round in which the bare
handler itself was disturbed is measured again. Speed is a finding, not a test: the exit code is 0 unless something broke.
"""

import argparse
import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.box import SIMPLE
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks.load import Result
from tests.postgres import postgres

ROOT = Path(__file__).parent.parent
# Ratio below which it fails, which it aims at, and which would be bold.
TARGETS = {"detail": (0.35, 0.45, 0.55), "list": (0.45, 0.60, 0.70), "create": (0.50, 0.80, 1.00)}
P99_TARGETS_MS = {"detail": 12, "list": 12, "nearby": 12, "create": 15, "accept": 15}
OPERATIONS = ("detail", "list", "nearby", "create", "accept")
_SPREAD = 0.10
_COLUMNS = ("operation", "per s", "p50", "p99", "target", "bare", "p99", "ratio", "target", "verdict")

Row = tuple[str, list[Result], list[Result]]
"""An operation, what was measured of ours, and of the bare limit where there is one."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is loaded, and how long rounds are: `seconds` of reads, `writes` by each client."""

    history: int
    rounds: int
    repeats: int
    seconds: float
    writes: int

    @property
    def most_writes(self) -> int:
        """What each client can use up: one round to warm up both servers, one of the limit before all pairs."""
        return (3 + 2 * (self.rounds + self.repeats)) * self.writes


QUICK = Plan(history=10_000, rounds=2, repeats=2, seconds=1.0, writes=30)
FULL = Plan(history=100_000, rounds=5, repeats=3, seconds=2.0, writes=60)


def main() -> None:
    """Measure on PostgreSQL beside the bare handler, then on SQLite alone."""
    arguments = argparse.ArgumentParser(prog="python -m benchmarks")
    arguments.add_argument("--quick", action="store_true", help="under a minute, on fewer rows")
    plan = QUICK if arguments.parse_args().quick else FULL
    console = Console()
    with tempfile.TemporaryDirectory() as folder, Progress(console=console) as progress:
        base = Path(folder)
        with postgres(fsync=True) as server:
            server.create_database("bench")
            console.print(_on_postgres(base, server.url("bench"), plan, progress))
        console.print(_on_sqlite(base, plan, progress))


def _on_postgres(base: Path, url: str, plan: Plan, progress: Progress) -> Table:
    environment, facts = _prepared(base / "postgres", url, plan)
    with _served(environment, base / "ours.log") as ours, _bare(environment, facts, url) as bare:
        asked = _Asked(facts, plan)
        rows = [
            (operation, *asked.in_turn(operation, ours, bare))
            for operation in progress.track(OPERATIONS, description="PostgreSQL")
        ]
    return _table("PostgreSQL, 16 clients, times in ms", rows)


def _on_sqlite(base: Path, plan: Plan, progress: Progress) -> Table:
    environment, facts = _prepared(base / "sqlite", f"sqlite:///{base}/bench.db", plan)
    with _served(environment, base / "sqlite.log") as ours:
        asked = _Asked(facts, plan)
        rows: list[Row] = [
            (operation, asked.alone(operation, ours), [])
            for operation in progress.track(OPERATIONS, description="SQLite")
        ]
    return _table("SQLite, 16 clients, times in ms", rows)


class _Asked:
    """Starts the load and remembers how many of the prepared writes are used up."""

    def __init__(self, facts: Path, plan: Plan) -> None:
        self._facts, self._plan = facts, plan
        self._used = dict.fromkeys(OPERATIONS, 0)

    def in_turn(self, operation: str, ours: int, bare: int) -> tuple[list[Result], list[Result]]:
        """The limit, the service, the limit, the service, ...; again while the limit itself was disturbed."""
        self._ask(operation, ours)
        self._ask(operation, bare)
        mine: list[Result] = []
        limits: list[Result] = []
        before, repeats = self._ask(operation, bare), self._plan.repeats
        while len(mine) < self._plan.rounds:
            result, after = self._ask(operation, ours), self._ask(operation, bare)
            fast = max(before, after, key=lambda limit: limit.rate)
            disturbed = abs(before.rate - after.rate) > _SPREAD * fast.rate
            before = after
            if disturbed and repeats:
                repeats -= 1
                continue
            mine.append(result)
            limits.append(fast)
        return mine, limits

    def alone(self, operation: str, ours: int) -> list[Result]:
        """The service, after a round to warm up."""
        self._ask(operation, ours)
        return [self._ask(operation, ours) for _ in range(self._plan.rounds)]

    def _ask(self, operation: str, port: int) -> Result:
        first = self._used[operation]
        words = [str(self._facts), operation, str(port), str(self._plan.seconds)]
        words += [str(first), str(self._plan.writes)]
        answer = subprocess.run(
            [sys.executable, "-m", "benchmarks.load", *words],
            cwd=ROOT,
            env=_environment("sqlite:///unused.db"),
            check=True,
            capture_output=True,
            preexec_fn=_on_core(-1),
        )
        result = Result(**json.loads(answer.stdout))
        self._used[operation] += self._plan.writes
        if result.failed:
            raise SystemExit(f"{operation}: {result.failed} answers were no success:\n{result.first_failure}")
        if not result.rate:
            raise SystemExit(f"{operation}: no answer at all, after {first} requests of each client")
        return result


def _prepared(folder: Path, url: str, plan: Plan) -> tuple[dict[str, str], Path]:
    """A migrated database full of hazards, and the settings that name it."""
    folder.mkdir()
    environment = _environment(url) | {"JINCAI_MEDIA_URL": (folder / "media").as_uri()}
    facts = folder / "facts.json"
    for command in (
        ["-m", "alembic", "upgrade", "head"],
        ["-m", "benchmarks.data", str(facts), str(plan.history), str(plan.most_writes)],
    ):
        subprocess.run(
            [sys.executable, *command], cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL
        )
    return environment, facts


def _environment(url: str) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("JINCAI_")}
    return inherited | {
        "JINCAI_DATABASE_URL": url,
        "JINCAI_SEED": "none",
        "JINCAI_WORKER": "external",
        "JINCAI_RATE_LIMIT_CALLER": "999999999/minute",
        "JINCAI_RATE_LIMIT_ADDRESS": "999999999/minute",
    }


@contextlib.contextmanager
def _served(environment: Mapping[str, str], log: Path) -> Iterator[int]:
    port = _free_port()
    command = [sys.executable, "-c", "from app.server import serve; serve()"]
    with log.open("wb") as lines:
        yield from _running(command, {**environment, "JINCAI_PORT": str(port)}, port, lines.fileno())


@contextlib.contextmanager
def _bare(environment: Mapping[str, str], facts: Path, url: str) -> Iterator[int]:
    port = _free_port()
    command = [sys.executable, "-m", "benchmarks.bare", str(facts), url, str(port)]
    yield from _running(command, environment, port, subprocess.DEVNULL)


def _running(command: list[str], environment: Mapping[str, str], port: int, output: int) -> Iterator[int]:
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdout=output,
        stderr=output,
        preexec_fn=_on_core(0),  # noqa: PLW1509 - nothing else runs here
    )
    try:
        _wait_for(port, process)
        yield port
    finally:
        process.terminate()
        process.wait(20)


def _wait_for(port: int, process: "subprocess.Popen[bytes]") -> None:
    for _ in range(600):
        if process.poll() is not None:
            raise SystemExit("a server ended before it answered")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.1)
    raise SystemExit("a server did not start within a minute")


def _on_core(number: int) -> Callable[[], None]:
    """The servers share the first core, who asks has the last: they must not take it from each other."""
    cores = sorted(os.sched_getaffinity(0))
    return lambda: os.sched_setaffinity(0, {cores[number]})


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _table(title: str, rows: list[Row]) -> Table:
    table = Table(title=title, box=SIMPLE, pad_edge=False, padding=(0, 1, 0, 0))
    for name in _COLUMNS:
        table.add_column(name, justify="left" if name in ("operation", "verdict") else "right", no_wrap=True)
    for operation, mine, limits in rows:
        rate = statistics.median(result.rate for result in mine)
        cells = [operation, f"{rate:,.0f}", _middle(mine, "p50_ms"), _middle(mine, "p99_ms")]
        cells.append(f"< {P99_TARGETS_MS[operation]}")
        if limits:
            ratio = statistics.median(m.rate / b.rate for m, b in zip(mine, limits, strict=True))
            bare = statistics.median(result.rate for result in limits)
            cells += [f"{bare:,.0f}", _middle(limits, "p99_ms"), f"{ratio:.2f}", *_judged(operation, ratio)]
        table.add_row(*cells)
    return table


def _middle(results: list[Result], name: str) -> str:
    return f"{statistics.median(getattr(result, name) for result in results):.1f}"


def _judged(operation: str, ratio: float) -> tuple[str, str]:
    if operation not in TARGETS:
        return "", ""
    least, target, bold = TARGETS[operation]
    words = ["too slow", "acceptable", "on target", "bold"]
    return f"{target:.2f}", words[sum(ratio >= bar for bar in (least, target, bold))]


if __name__ == "__main__":
    main()
