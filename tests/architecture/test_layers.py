"""The rules of ARCHITECTURE.md that a reader of the syntax tree can check, each shown to bite on a planted breach."""

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]
_LAYERS = ("models", "schemas", "services", "routers")


@dataclass(frozen=True)
class Module:
    """One file of the application: its dotted name and its syntax tree."""

    name: str
    tree: ast.Module

    @property
    def area(self) -> str:
        """The folder below `app`, or the name of a single file there."""
        return self.name.split(".")[1]


Rule = Callable[[Module], Iterator[ast.AST]]


def imports_point_down(module: Module) -> Iterator[ast.AST]:
    above = _LAYERS[_LAYERS.index(module.area) + 1 :]
    forbidden = [f"app.{layer}" for layer in above] + ["app.main", "app.cli"]
    return _imports(module, *forbidden)


def no_sandbox(module: Module) -> Iterator[ast.AST]:
    return _imports(module, "app.sandbox")


def no_clients(module: Module) -> Iterator[ast.AST]:
    return _imports(module, "app.clients")


def no_database(module: Module) -> Iterator[ast.AST]:
    return _imports(module, "sqlalchemy", "asyncpg", "aiosqlite", "sqlite3")


def no_web_framework(module: Module) -> Iterator[ast.AST]:
    return _imports(module, "fastapi", "starlette")


def no_commit(module: Module) -> Iterator[ast.AST]:
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Attribute) and node.attr == "commit":
            yield node


def no_own_clock(module: Module) -> Iterator[ast.AST]:
    readings = {
        "datetime.now",
        "datetime.utcnow",
        "datetime.today",
        "date.today",
        "time.time",
        "time.time_ns",
    }
    yield from _imports(module, "time.time", "time.time_ns")
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Attribute) and ".".join(ast.unparse(node).split(".")[-2:]) in readings:
            yield node


def no_float_money(module: Module) -> Iterator[ast.AST]:
    for node in ast.walk(module.tree):
        if isinstance(node, ast.AnnAssign):
            name, annotation = ast.unparse(node.target), node.annotation
        elif isinstance(node, ast.arg) and node.annotation:
            name, annotation = node.arg, node.annotation
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.returns:
            name, annotation = node.name, node.returns
        else:
            continue
        about_money = name.endswith("_fen") or module.area == "money"
        if about_money and any(
            isinstance(part, ast.Name) and part.id == "float" for part in ast.walk(annotation)
        ):
            yield node


def no_hidden_imports(module: Module) -> Iterator[ast.AST]:
    for function in ast.walk(module.tree):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from (node for node in ast.walk(function) if isinstance(node, ast.Import | ast.ImportFrom))


def no_status_set_from_outside(module: Module) -> Iterator[ast.AST]:
    for node in ast.walk(module.tree):
        targets = node.targets if isinstance(node, ast.Assign) else ()
        yield from (
            target for target in targets if isinstance(target, ast.Attribute) and target.attr == "status"
        )


def no_base_http_middleware(module: Module) -> Iterator[ast.AST]:
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Name | ast.alias) and "BaseHTTPMiddleware" in ast.unparse(node):
            yield node


@dataclass(frozen=True)
class Case:
    """A rule, the areas of `app` that it holds in (all when empty) or not, and a breach that it must see."""

    rule: Rule
    breach: str
    areas: tuple[str, ...] = ()
    exempt: tuple[str, ...] = ()

    def covers(self, module: Module) -> bool:
        """Whether the rule holds in that module."""
        return (not self.areas or module.area in self.areas) and module.area not in self.exempt


_CASES = [
    Case(imports_point_down, "from app.routers import hazards", _LAYERS[:-1]),
    Case(imports_point_down, "from app import main", _LAYERS),
    Case(no_sandbox, "import app.sandbox.wechat", ("clients",)),
    Case(no_clients, "from app.clients.wechat import WeChat", ("sandbox",)),
    Case(no_database, "from sqlalchemy.ext.asyncio import AsyncSession", ("routers",)),
    Case(no_web_framework, "from fastapi import HTTPException", _LAYERS[:-1]),
    Case(no_commit, "async def f(session): await session.commit()", exempt=("db", "lanes", "worker")),
    Case(no_own_clock, "at = datetime.datetime.now(UTC)", exempt=("clock", "sandbox")),
    Case(no_own_clock, "from time import time", exempt=("clock", "sandbox")),
    Case(no_float_money, "class Bill:\n    due_fen: Mapped[float | None]"),
    Case(no_float_money, "def f(price_fen: float) -> int: ..."),
    Case(no_hidden_imports, "async def f():\n    import json"),
    Case(no_status_set_from_outside, "hazard.status = 'closed'", ("services", "routers")),
    Case(no_base_http_middleware, "from starlette.middleware.base import BaseHTTPMiddleware"),
]
_NAMES = [f"{case.rule.__name__}-{number}" for number, case in enumerate(_CASES)]


@pytest.fixture(scope="module")
def modules() -> list[Module]:
    """Every file of the application."""
    found = [
        Module(".".join(path.relative_to(_ROOT).with_suffix("").parts), ast.parse(path.read_text("utf-8")))
        for path in sorted((_ROOT / "app").rglob("*.py"))
        if path != _ROOT / "app/__init__.py"
    ]
    assert {"models", "schemas", "services", "routers", "clients", "sandbox"} <= {
        module.area for module in found
    }
    return found


@pytest.mark.parametrize("case", _CASES, ids=_NAMES)
def test_the_rule_holds(case: Case, modules: list[Module]) -> None:
    looked_at = [module for module in modules if case.covers(module)]
    assert looked_at
    assert [f"{module.name}: {ast.unparse(node)}" for module in looked_at for node in case.rule(module)] == []


@pytest.mark.parametrize("case", _CASES, ids=_NAMES)
def test_the_rule_bites(case: Case) -> None:
    area = case.areas[0] if case.areas else "services"
    assert list(case.rule(Module(f"app.{area}.planted", ast.parse(case.breach))))


def test_services_form_no_cycle(modules: list[Module]) -> None:
    names = {module.name for module in modules if module.area == "services"}
    assert names
    graph = {module.name: _imported(module) & names for module in modules if module.name in names}
    assert _leftover(graph) == {}


def test_a_cycle_is_seen() -> None:
    assert set(_leftover({"a": {"b"}, "b": {"c"}, "c": {"b"}})) == {"a", "b", "c"}


def test_no_file_is_named_after_nothing(modules: list[Module]) -> None:
    vague = {"utils", "helpers", "common", "misc", "base_service", "repository", "repositories"}
    assert [module.name for module in modules if module.name.rsplit(".", 1)[1] in vague] == []


def _imports(module: Module, *forbidden: str) -> Iterator[ast.AST]:
    for node in ast.walk(module.tree):
        names = _names(node)
        if any(name == each or name.startswith(f"{each}.") for name in names for each in forbidden):
            yield node


def _imported(module: Module) -> set[str]:
    return {name for node in ast.walk(module.tree) for name in _names(node)}


def _names(node: ast.AST) -> list[str]:
    """Everything that an import statement may bind, as dotted names; relative imports are the linter's to refuse."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module:
        return [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return []


def _leftover(graph: dict[str, set[str]]) -> dict[str, set[str]]:
    """Take away whatever imports nothing that is left, again and again: what remains leans on a cycle."""
    while free := {name for name, imported in graph.items() if not imported & graph.keys()}:
        graph = {name: imported for name, imported in graph.items() if name not in free}
    return graph
