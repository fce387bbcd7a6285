"""How commands speak: results to stdout, what is wrong to stderr, and an exit code that scripts can trust."""

import asyncio
import sqlite3
from collections.abc import Coroutine
from typing import NoReturn, TypeVar

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from app.db import database, sqlite_has_wal_bug
from app.errors import FieldError, Problem
from app.settings import settings

T = TypeVar("T")

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


def say(markup: str = "") -> None:
    """One line of a result, never broken."""
    out.print(markup, soft_wrap=True)


def warn(text: str) -> None:
    """One line about something that deserves a look."""
    err.print(f"[yellow]![/] {escape(text)}", soft_wrap=True)


def stop(*lines: str) -> NoReturn:
    """End the command with what is wrong, one line each."""
    for line in lines:
        err.print(f"[red]✘[/] {escape(line)}", soft_wrap=True)
    raise typer.Exit(1)


def warn_of_second_writer() -> None:
    """Before a command writes to an SQLite file that a server may have open."""
    if settings.is_sqlite and sqlite_has_wal_bug():
        warn(
            f"SQLite {sqlite3.sqlite_version} may corrupt a file that two processes write at once (fixed in "
            "3.51.3): let only one of them run, or use PostgreSQL."
        )


def require_settings() -> None:
    """End the command when production lacks a setting or has one that is for development."""
    found = settings.problems()
    if found:
        stop(*found)


def run(work: Coroutine[None, None, T]) -> T:
    """Do something with the database open. What it refuses ends the command with its sentence."""
    try:
        return asyncio.run(_with_database(work))
    except Problem as problem:
        # The parts of a request mean nothing here; and what was wrong with one field is said once, with its name.
        fields = [_said_of(error) for error in problem.fields]
        lines = (
            fields
            if [error.message_en for error in problem.fields] == [problem.detail("en")]
            else [problem.detail("en"), *fields]
        )
        stop(*lines)


def _said_of(error: FieldError) -> str:
    place = error.loc[1:] if error.loc[0] in ("body", "query", "path") else error.loc
    return f"{'.'.join(map(str, place))}: {error.message_en}"


def progress() -> Progress:
    """Bars on a terminal, nothing in a log."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=err,
        transient=True,
        disable=not err.is_terminal,
    )


async def _with_database(work: Coroutine[None, None, T]) -> T:
    await database.open()
    try:
        return await work
    finally:
        await database.close()
