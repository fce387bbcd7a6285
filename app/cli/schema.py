"""`jincai migrate` and `jincai seed`: the tables, and what must be in them."""

import contextlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Annotated

import typer
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, inspect, text
from sqlalchemy.exc import SQLAlchemyError

from app.cli.console import out, require_settings, run, say, stop, warn
from app.db import database
from app.errors import Unavailable
from app.services import demo_accounts, key_checks, seeding
from app.services.key_checks import WrongKeys
from app.services.seeding import Added
from app.settings import settings

_ROOT = Path(__file__).parents[2]
_TABLE = "alembic_version"


def migrate(
    to: Annotated[str, typer.Option(help="The revision to go to; `-1` takes one step back.")] = "head",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before taking steps back.")] = False,
) -> None:
    """Bring the tables to the state that this version needs, or back to an earlier one."""
    require_settings()
    before = run(revision())
    _require_known(before)
    back = to == "base" or to.startswith("-") or _is_behind(to, before)
    if back and not yes:
        typer.confirm("Steps back delete tables and columns with everything in them. Go on?", abort=True)
    with _alembic_errors():
        (command.downgrade if back else command.upgrade)(_config(), to)
    after = run(revision())
    if after == head():
        require_keys()
    if before == after:
        say(f"Nothing to do: the database is at {after}.")
    else:
        say(f"Migrated from {before or 'an empty database'} to {after or 'an empty database'}.")


def seed(
    demo: Annotated[
        bool | None,
        typer.Option(help="Also the staff of the demo community; by default in development only."),
    ] = None,
) -> None:
    """Add regions, organisations and hazard categories that are missing. May be run as often as one likes."""
    wanted = settings.seed_demo if demo is None else demo
    if wanted and settings.env != "dev":
        stop(demo_accounts.DemoRefused.title_en)
    require_settings()
    require_head()
    require_keys()
    added, accounts = run(fill(with_demo=wanted))
    say(f"Added {added.regions} regions, {added.organisations} organisations, {added.categories} categories.")
    if wanted:
        say(f"Added {accounts} demo accounts; `jincai demo-accounts` lists them.")


async def fill(*, with_demo: bool) -> tuple[Added, int]:
    """Add what is missing; how much of it was."""
    async with database.transaction() as session:
        added = await seeding.import_reference(session)
    if not with_demo:
        return added, 0
    async with database.reading() as session:
        missing = await demo_accounts.missing(session)
    if not missing:
        return added, 0
    password_hash = await demo_accounts.hash_password()
    async with database.transaction() as session:
        return added, await demo_accounts.add(session, password_hash)


def upgrade() -> None:
    """Bring the tables to the state that this version needs, silently."""
    now = run(revision())
    if now != head():
        _require_known(now)
        with _alembic_errors(), out.status("Migrating the database ..."):
            command.upgrade(_config(), "head")


def require_head(*, or_away: bool = False) -> None:
    """End the command unless the tables are those of this version. With `or_away` a silent database will do."""
    now = run(_revision_or_head() if or_away else revision())
    if now != head():
        stop(f"The database is at {now or 'no revision'}, this version needs {head()}: run `jincai migrate`.")


def require_keys(*, or_away: bool = False) -> None:
    """End the command unless the keys are those that the database was written with; a new current one is noted."""
    run(_require_keys(or_away))


async def revision() -> str | None:
    """The revision that the database is at; None when it is empty."""
    async with database.reading() as session:
        connection = await session.connection()
        if not await connection.run_sync(_has_versions):
            return None
        found: str | None = await session.scalar(text(f"SELECT version_num FROM {_TABLE}"))  # noqa: S608
        return found


async def _revision_or_head() -> str | None:
    """A server may start before its database: it answers 503 until that comes back."""
    try:
        return await revision()
    except Unavailable:
        warn("The database does not answer; requests are refused until it does.")
        return head()


async def _require_keys(or_away: bool) -> None:
    try:
        await key_checks.require()
    except WrongKeys as wrong:
        stop(f"{wrong.detail('en')} Put the right keys into JINCAI_SECRET_KEYS.")
    except Unavailable:
        if not or_away:
            raise


@cache
def head() -> str:
    """The revision that this version needs."""
    return str(ScriptDirectory.from_config(_config()).get_current_head())


def _has_versions(connection: Connection) -> bool:
    return inspect(connection).has_table(_TABLE)


def _is_behind(to: str, now: str | None) -> bool:
    """Whether a named revision is one of those that led to where the database is."""
    if now is None or to in ("head", "heads", now):
        return False
    with _alembic_errors():
        steps = list(ScriptDirectory.from_config(_config()).walk_revisions("base", now))
    return any(step.revision.startswith(to) for step in steps)


def _require_known(now: str | None) -> None:
    """End the command when the database is at a revision from which this version knows no way on."""
    try:
        if now is not None:
            ScriptDirectory.from_config(_config()).get_revision(now)
    except CommandError:
        stop(
            f"The database is at {now}, which this version does not know.",
            "A later version made it, or one from before the first release: use that one, or begin with an empty database.",
        )


@contextlib.contextmanager
def _alembic_errors() -> Iterator[None]:
    try:
        yield
    except CommandError as error:
        stop(str(error))
    except (OSError, SQLAlchemyError) as error:
        stop(f"The migration failed: {type(error).__name__}: {getattr(error, 'orig', error)}")


def _config() -> Config:
    config = Config(str(_ROOT / "alembic.ini"))
    config.set_main_option("script_location", str(_ROOT / "migrations").replace("%", "%%"))
    return config
