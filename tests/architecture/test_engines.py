"""What runs on one engine only: the folders that the Makefile leaves out on PostgreSQL open no database."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]
_FIXTURES = {"application", "client", "db", "places", "story"}
_MODULES = ("app.db", "tests.engines", "tests.factories", "tests.stories")


def _left_out() -> list[str]:
    [line] = [line for line in (_ROOT / "Makefile").read_text().splitlines() if line.startswith("ENGINELESS")]
    return line.partition(":=")[2].split()


def _openings(tree: ast.AST) -> Iterator[str]:
    """The fixtures that open a database, and the modules that are of no use without one."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and _is_given(node):
            yield from {argument.arg for argument in node.args.args} & _FIXTURES
        if isinstance(node, ast.ImportFrom) and node.module:
            imported = (f"{node.module}.{alias.name}" for alias in node.names)
            yield from (name for name in imported if name.startswith(_MODULES))


def _is_given(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Whether pytest looks at its arguments: a test, or a fixture."""
    return function.name.startswith("test_") or any(
        "fixture" in ast.unparse(each) for each in function.decorator_list
    )


@pytest.mark.parametrize("folder", _left_out())
def test_what_runs_once_opens_no_database(folder: str) -> None:
    files = sorted((_ROOT / "tests" / folder).rglob("*.py"))
    assert files
    found = {str(path): list(_openings(ast.parse(path.read_text()))) for path in files}
    assert {path: names for path, names in found.items() if names} == {}


@pytest.mark.parametrize(
    "breach",
    [
        "async def test_it(client: object) -> None: ...",
        "@pytest.fixture\ndef made(db: object) -> None: ...",
        "from app.db import database",
        "from tests import stories",
    ],
)
def test_an_opened_database_is_seen(breach: str) -> None:
    assert list(_openings(ast.parse(breach)))
