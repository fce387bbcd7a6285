"""`jincai policy` and `jincai openapi`: what the code says about itself, for people and for clients."""

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from uvicorn.importer import import_from_string

from app.cli.console import out, say, stop
from app.policy import POLICY, Rule

_OPENAPI = Path(__file__).parents[2] / "docs" / "openapi.json"


class Format(StrEnum):
    """How to print the table."""

    TABLE = "table"
    JSON = "json"
    MARKDOWN = "markdown"


def policy(
    format_: Annotated[
        Format, typer.Option("--format", help="For people, programs or documents.")
    ] = Format.TABLE,
) -> None:
    """Print who may call which operation."""
    if format_ is Format.JSON:
        typer.echo(json.dumps({name: _facts(rule) for name, rule in POLICY.items()}, indent=2))
    elif format_ is Format.MARKDOWN:
        typer.echo("| operation | who may call it |\n|---|---|")
        for name, rule in POLICY.items():
            typer.echo(f"| `{name}` | {rule.callers} |")
    else:
        table = Table("Operation", "Who may call it", box=None, pad_edge=False)
        for name, rule in POLICY.items():
            table.add_row(name, rule.callers)
        out.print(table)


def openapi(
    check: Annotated[
        bool, typer.Option("--check", help="Only compare; exit with 1 when docs/openapi.json is old.")
    ] = False,
) -> None:
    """Write the contract with clients to docs/openapi.json."""
    text = _contract()
    if not check:
        _OPENAPI.write_text(text, "utf-8")
        say(f"Wrote {_OPENAPI}.")
    elif not _OPENAPI.exists() or _OPENAPI.read_text("utf-8") != text:
        stop(
            "docs/openapi.json is not what the service says: run `jincai openapi` and look at the difference."
        )
    else:
        say("docs/openapi.json is what the service says.")


def _contract() -> str:
    """The document as it is kept. Only here is the application needed: importing it takes a while."""
    application = import_from_string("app.main:app")
    return json.dumps(application.openapi(), ensure_ascii=False, indent=2) + "\n"


def _facts(rule: Rule) -> dict[str, bool | list[str]]:
    return {
        "anonymous": rule.anonymous,
        "resident": rule.resident,
        "any_staff": rule.ungranted,
        "roles": sorted(role.value for role in rule.roles),
        "step_up": rule.step_up,
    }
