"""What tests of faults start from: a database with people in it, and one copy of it for each deployment."""

import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from app.ids import new_id
from tests.engines import environment, new_database
from tests.faults.deployment import Deployment
from tests.faults.programs import bytecode, run

Deploy = Callable[..., AbstractAsyncContextManager[Deployment]]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Without `--drill` the long ones are left out."""
    if config.getoption("--drill"):
        return
    long = [item for item in items if item.get_closest_marker("drill")]
    config.hook.pytest_deselected(items=long)
    items[:] = [item for item in items if item not in long]


@dataclass(frozen=True)
class Populated:
    """A database to copy, and who is in it."""

    name: str
    people: str
    programs: dict[str, str]


@pytest.fixture(scope="session")
def populated(tmp_path_factory: pytest.TempPathFactory) -> Populated:
    """Made once: the processes that it needs cost seconds."""
    folder = tmp_path_factory.mktemp("faults")
    name, programs = f"faults-{os.environ.get('PYTEST_XDIST_WORKER', 'main')}", bytecode(folder)
    return Populated(name, populate(new_database(name), programs), programs)


def populate(database_url: str, programs: dict[str, str]) -> str:
    """Put the people of a story into a migrated database; who they are."""
    chosen = environment(database_url, Path("/nowhere")) | programs
    code, people = run(("-m", "tests.faults.cast"), chosen)
    assert code == 0, people
    return people


@pytest.fixture
def drill(request: pytest.FixtureRequest) -> bool:
    """Whether there is time to break things again and again: `make drill`."""
    return bool(request.config.getoption("--drill"))


@pytest.fixture
def deploy(populated: Populated, tmp_path: Path) -> Deploy:
    """A service of its own that is gone at the end of the block: `async with deploy(**settings) as deployment`."""

    @asynccontextmanager
    async def deployed(
        database_url: str | None = None, people: str = populated.people, **settings: str
    ) -> AsyncIterator[Deployment]:
        url = database_url or new_database(f"faults-{new_id().hex}", populated.name)
        deployment = Deployment(tmp_path, url, people, **(populated.programs | settings))
        try:
            yield deployment
        finally:
            await deployment.close()

    return deployed
