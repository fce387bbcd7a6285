"""What the documents name exists, and what they list is complete."""

import ast
import importlib
import json
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
import typer
from pydantic import BaseModel

import app.schemas
from app.cli.commands import commands
from app.errors import Problem
from app.main import create_app
from app.models.base import JsonObject
from app.settings import Settings

_ROOT = Path(__file__).parents[2]
_PAGES = sorted(
    path.relative_to(_ROOT).as_posix() for path in (*_ROOT.glob("*.md"), *(_ROOT / "docs").rglob("*.md"))
)
_FRONTEND = ("docs/frontend.md", "docs/frontend.zh-CN.md")
_SOURCE = "\n".join(path.read_text("utf-8") for path in sorted((_ROOT / "app").rglob("*.py")))
_NEVER_ANSWERED = {"demo_refused", "object_exists", "wrong_keys"}
_METHODS = ("GET", "POST", "PUT", "DELETE")


def _text(page: str) -> str:
    return (_ROOT / page).read_text("utf-8")


def _code(page: str) -> list[str]:
    """What stands in backticks, in fences or indented: lines of code."""
    text = _text(page)
    blocks = re.findall(r"^```.*?\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    prose = re.sub(r"^```.*?\n.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    indented = re.findall(r"^    (.+)$", prose, re.MULTILINE)
    return (
        [line for block in blocks for line in block.splitlines()]
        + indented
        + re.findall(r"`([^`\n]+)`", prose)
    )


def _table(page: str, heading: str) -> list[list[str]]:
    """The rows of the tables in a section, header and rule left out."""
    section = re.split(rf"^#+ {re.escape(heading)}$", _text(page), flags=re.MULTILINE)[1]
    section = re.split(r"^#", section, maxsplit=1, flags=re.MULTILINE)[0]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in section.splitlines()
        if line.startswith("|")
    ]
    rules = [index for index, row in enumerate(rows) if set("".join(row)) <= set("-:")]
    return [row for index, row in enumerate(rows) if index not in rules and index + 1 not in rules]


def _spans(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def test_every_command_exists() -> None:
    root = typer.main.get_command(commands)
    found = 0
    for page in (*_PAGES, ".env.example", "compose.yaml", "Dockerfile"):
        lines = _code(page) if page.endswith(".md") else _spans(_text(page))
        for words in re.findall(r"(?<![\w=:@.-])jincai((?: +(?:[a-z]|--)[^\s`;&|>,)]*)+)", "\n".join(lines)):
            _require_command(root, words.split(), f"{page}: jincai{words}")
            found += 1
    assert found > 30


def _require_command(command: object, words: list[str], where: str) -> None:
    known: dict[str, object] = getattr(command, "commands", {})
    if known:
        assert words[0] in known, where
        _require_command(known[words[0]], words[1:], where)
        return
    options = {
        option for each in getattr(command, "params", []) for option in each.opts + each.secondary_opts
    }
    assert {word for word in words if word.startswith("--")} <= options, where


def test_every_make_target_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):.*## ", _text("Makefile"), re.MULTILINE))
    for page in _PAGES:
        for line in _code(page):
            for words in re.findall(r"(?:^|[ ])make((?: [a-z-]+)+)", line.partition("#")[0]):
                assert set(words.split()) <= targets, f"{page}: {line}"


def test_every_path_exists() -> None:
    paths = cast(dict[str, JsonObject], create_app().openapi()["paths"])
    known = {
        path: re.compile(re.sub(r"\{[^}]+\}", "[^/]+", path) + "/?")
        for path in paths
        if path.startswith("/v1/")
    }
    found = 0
    for page in _PAGES:
        for methods, path in re.findall(
            r"((?:(?:GET|POST|PUT|DELETE)[|]?)*) ?[^\s`\"']*?(/v1/[^\s`\"'?(,]+)", "\n".join(_code(page))
        ):
            fitting = [template for template, pattern in known.items() if pattern.fullmatch(path)]
            assert fitting, f"{page}: {path}"
            offered = {method.upper() for template in fitting for method in paths[template]}
            assert {each for each in methods.split("|") if each in _METHODS} <= offered, f"{page}: {path}"
            found += 1
    assert found > 60


@pytest.mark.parametrize("page", _FRONTEND)
def test_every_error_is_listed_with_its_title(page: str) -> None:
    heading, title = ("Error codes", "title_en") if page == _FRONTEND[0] else ("错误代码", "title_zh")
    listed = {(status, _spans(code)[0], words) for status, code, words in _table(page, heading)}
    assert listed == {(str(kind.status), kind.code, getattr(kind, title)) for kind in _problems()}


def _problems() -> Iterator[type[Problem]]:
    """Every kind of problem that a client can meet, each code once: a subclass may share its parent's."""
    kinds, seen = [Problem], set()
    while kinds:
        kind = kinds.pop(0)
        kinds += kind.__subclasses__()
        ours = kind.__module__.startswith("app.") and kind.code not in _NEVER_ANSWERED
        if ours and (kind.status, kind.code) not in seen:
            seen.add((kind.status, kind.code))
            yield kind


@pytest.mark.parametrize("page", _FRONTEND)
def test_every_code_of_a_field_is_in_the_source(page: str) -> None:
    last = _text(page).rpartition("`errors[].code`")[2]
    codes = _spans(last.replace("`message`", ""))
    assert len(codes) > 30
    assert [code for code in codes if f'"{code}"' not in _SOURCE] == []


@pytest.mark.parametrize("page", _FRONTEND)
def test_every_code_of_a_field_is_listed(page: str) -> None:
    missing = {code for code in _field_codes() if f"`{code}`" not in _text(page)}
    assert missing == set()


def _field_codes() -> Iterator[str]:
    """The codes that our code gives to fields, as they stand in it."""
    position = {"of": 1, "FieldError": 1, "_refused": 1, "PydanticCustomError": 0}
    for path in (_ROOT / "app").rglob("*.py"):
        for call in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(call, ast.Call):
                continue
            name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
            code = call.args[position[name]] if len(call.args) > position.get(name, 99) else None
            if isinstance(code, ast.Constant) and re.fullmatch("[a-z_]+", str(code.value)):
                yield str(code.value)


@pytest.mark.parametrize("page", _FRONTEND)
def test_every_variable_is_assigned_before_it_is_used(page: str) -> None:
    text = _text(page)
    used = {name: text.index(f"${name}") for name in re.findall(r"[$]([A-Z]+)\b", text)}
    assert {"TOKEN", "PHOTO", "ID", "FIRE", "AFTER"} <= used.keys()
    for name, first in used.items():
        assert f"{name}=" in text[:first], name


@pytest.mark.parametrize("page", _FRONTEND)
def test_every_category_is_listed(page: str) -> None:
    heading = "Categories" if page == _FRONTEND[0] else "类别"
    stored = json.loads(_text("app/data/hazard_categories.json"))["categories"]
    name = "name_en" if page == _FRONTEND[0] else "name"
    listed = [(_spans(row[0])[0], row[1], _spans(row[2])[0]) for row in _table(page, heading)]
    assert listed == [(each["code"], each[name], each["urgency"]) for each in stored]


@pytest.mark.parametrize("page", _FRONTEND)
def test_every_event_of_a_hazard_is_listed(page: str) -> None:
    heading = "Event types" if page == _FRONTEND[0] else "事件类型"
    listed = {span for row in _table(page, heading) for span in _spans(row[0])}
    services = "\n".join(path.read_text("utf-8") for path in (_ROOT / "app/services").glob("*.py"))
    recorded = set(re.findall(r'"((?:hazard|household|region)\.[a-z_]+)"', services))
    assert listed == recorded


def test_both_languages_name_the_same_things() -> None:
    english, chinese = (set(_code(page)) for page in _FRONTEND)
    translated = {
        line for line in english ^ chinese if "//" in line or line.endswith((": closed", "：closed"))
    }
    assert (english ^ chinese) - translated == set()


def test_the_table_of_settings_is_that_of_the_code() -> None:
    listed = {_spans(name)[0]: default for name, default, _ in _table("docs/operator.md", "Settings")}
    fields = {f"JINCAI_{name.upper()}": field for name, field in Settings.model_fields.items()}
    assert listed.keys() == fields.keys()
    for name, default in listed.items():
        if name != "JINCAI_SECRET_KEYS":
            assert default.strip("`") == str(fields[name].default), name


@pytest.mark.parametrize("page", _PAGES)
def test_every_setting_that_is_named_exists(page: str) -> None:
    known = {f"JINCAI_{name.upper()}" for name in Settings.model_fields}
    assert set(re.findall(r"\bJINCAI_[A-Z_]*[A-Z]\b", _text(page))) <= known


def test_every_metric_and_log_event_exists() -> None:
    page = "docs/operator.md"
    metrics = {name for span in _code(page) for name in re.findall(r"^jincai_[a-z_]+", span)}
    assert len(metrics) > 8
    assert [metric for metric in metrics if f'"{metric}"' not in _SOURCE] == []
    events = [span for row in _table(page, "Logs") for span in _spans(row[0])]
    assert [event for event in events if f'"{event}"' not in _SOURCE] == []


@pytest.mark.parametrize("page", _PAGES)
def test_every_link_leads_somewhere(page: str) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", _text(page)):
        name, _, anchor = target.partition("#")
        path = (_ROOT / page).parent / name if name else _ROOT / page
        assert path.exists(), target
        if anchor:
            assert anchor in _anchors(path), target


def _anchors(path: Path) -> set[str]:
    """The names that hosts of repositories give to headings."""
    headings = re.findall(r"^#+ (.+)$", path.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_example_of_a_schema_is_valid() -> None:
    found = 0
    for module in pkgutil.iter_modules(app.schemas.__path__, "app.schemas."):
        for kind in vars(importlib.import_module(module.name)).values():
            if isinstance(kind, type) and issubclass(kind, BaseModel) and kind.__module__ == module.name:
                extra = kind.model_config.get("json_schema_extra")
                for example in cast(list[JsonObject], extra["examples"]) if isinstance(extra, dict) else []:
                    kind.model_validate_json(json.dumps(example))
                    found += 1
    assert found > 20
