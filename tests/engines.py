"""Gives a test run its database engine: settings, schema and sockets are ready before the application is imported.

The process that starts the run migrates one template; every worker process works on its own copy of it.
"""

import atexit
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.network import stay_on_this_machine
from tests.postgres import Server, postgres

_ROOT = Path(__file__).parents[1]
_STATE = "TESTS_ENGINE"
_TEMPLATE = "template_jincai"
_ROOM_BYTES = 2 << 30


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--engine` chooses the database; `make test` runs the whole suite on both."""
    parser.addoption(
        "--engine", choices=("sqlite", "postgres"), default="sqlite", help="the database to test on"
    )
    parser.addoption("--drill", action="store_true", help="break things ten times instead of once")


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Runs before any conftest, hence before anything imports `app.settings`."""
    stay_on_this_machine()
    if _STATE not in os.environ:
        try:
            _prepare_run(early_config.known_args_namespace.engine)
        except RuntimeError as failure:
            raise pytest.UsageError(f"cannot prepare the database: {failure}") from None
    worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
    os.environ |= environment(new_database(worker), Path(_state()["folder"], f"media-{worker}"))


def environment(database_url: str, media: Path) -> dict[str, str]:
    """What a process of the application under test is told: this run's database and nothing from the developer's shell."""
    return {
        "JINCAI_DATABASE_URL": database_url,
        "JINCAI_ENV": "dev",
        "JINCAI_MEDIA_URL": media.as_uri(),
        # Nobody listens there: what the sandbox pushes must not reach a server that a developer runs.
        "JINCAI_PORT": "1",
        "JINCAI_SEED": "none",
        "JINCAI_WORKER": "external",
    }


def new_database(name: str, template: str = _TEMPLATE) -> str:
    """Make a migrated, empty database and return its URL; it vanishes with the run.

    `template` is the name of another one to copy, which nobody may have open.
    """
    state = _state()
    if state["port"]:
        server = Server(state["binaries"], int(state["port"]))
        server.create_database(name, template)
        return server.url(name)
    shutil.copyfile(Path(state["folder"], f"{template}.db"), Path(state["folder"], f"{name}.db"))
    return f"sqlite:///{state['folder']}/{name}.db"


def _prepare_run(engine: str) -> None:
    for name in [name for name in os.environ if name.startswith("JINCAI_")]:
        del os.environ[name]
    # Worker processes load their plugins too late otherwise: after the conftest has imported the application.
    os.environ["PYTEST_PLUGINS"] = __name__
    stack = contextlib.ExitStack()
    atexit.register(stack.close)
    folder = stack.enter_context(
        tempfile.TemporaryDirectory(prefix="jincai-tests-", dir=_in_memory(), ignore_cleanup_errors=True)
    )
    state = {"folder": folder, "binaries": "", "port": ""}
    url = f"sqlite:///{folder}/{_TEMPLATE}.db"
    if engine == "postgres":
        server = stack.enter_context(postgres())
        server.create_database(_TEMPLATE)
        state |= {"binaries": server.binaries, "port": str(server.port)}
        url = server.url(_TEMPLATE)
    alembic(url, "upgrade", "head")
    os.environ[_STATE] = json.dumps(state)


def _in_memory() -> str | None:
    """Where files lie in memory, if there is room: a disk takes 2 ms to say that a commit is safe, which no test asks."""
    shared = "/dev/shm"
    roomy = os.access(shared, os.W_OK) and shutil.disk_usage(shared).free > _ROOM_BYTES
    return shared if roomy else None


def alembic(database_url: str, *command: str) -> None:
    """Run one Alembic command on a database in a process of its own; raises with what it said when it fails."""
    done = subprocess.run(
        [sys.executable, "-m", "alembic", *command],
        cwd=_ROOT,
        env=os.environ | {"JINCAI_DATABASE_URL": database_url},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"alembic {' '.join(command)} failed:\n{done.stdout}{done.stderr}")


def _state() -> dict[str, str]:
    state: dict[str, str] = json.loads(os.environ[_STATE])
    return state
