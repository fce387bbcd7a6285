"""`jincai keys`: under which keys personal data lies, and bringing all of it under the current one."""

from collections import Counter
from functools import partial

import typer
from rich.table import Table

from app.cli.console import (
    out,
    progress,
    require_settings,
    run,
    say,
    stop,
    warn,
    warn_of_second_writer,
)
from app.cli.schema import require_head
from app.db import database
from app.keys import keyring
from app.services import key_checks, key_rotation
from app.services.key_rotation import Outcome

commands = typer.Typer(no_args_is_help=True)
_SHOWN = 20


@commands.command()
def status() -> None:
    """Count the sealed values under each key of JINCAI_SECRET_KEYS."""
    require_settings()
    require_head()
    _show(run(_count()))


@commands.command()
def rotate() -> None:
    """Seal everything under the first key of JINCAI_SECRET_KEYS. Safe beside a running service; may be repeated."""
    require_settings()
    require_head()
    warn_of_second_writer()
    run(key_checks.require(may_lack=True))
    outcome = run(_rotate())
    run(key_checks.forget_unused())
    counted = run(_count())
    _show(counted)
    say(f"\nBrought {outcome.resealed} rows under the key {keyring.current}.")
    if outcome.broken:
        stop(*outcome.broken[:_SHOWN], f"{len(outcome.broken)} rows cannot be brought under it.")
    _advise(sum(counted.values(), Counter()))


async def _rotate() -> Outcome:
    total = Outcome()
    with progress() as bars:
        for sealed in key_rotation.sealed_tables():
            async with database.reading() as session:
                stale = await key_rotation.count_stale(session, sealed, keyring)
            bar = bars.add_task(sealed.table.name, total=stale)
            done = await key_rotation.rotate(sealed, keyring, partial(bars.advance, bar))
            total.resealed += done.resealed
            total.broken += done.broken
    return total


async def _count() -> dict[str, Counter[str]]:
    async with database.reading() as session:
        return {
            sealed.table.name: await key_rotation.count_by_kid(session, sealed, keyring)
            for sealed in key_rotation.sealed_tables()
        }


def _show(counted: dict[str, Counter[str]]) -> None:
    unknown = ["?"] if any(counter["?"] for counter in counted.values()) else []
    table = Table("Sealed values in", box=None, pad_edge=False)
    for kid in (*keyring.kids, *unknown):
        table.add_column(f"{kid} (current)" if kid == keyring.current else kid, justify="right")
    for name, counter in counted.items():
        table.add_row(name, *(str(counter[kid]) for kid in (*keyring.kids, *unknown)))
    out.print(table)
    if unknown:
        warn("Values under `?` cannot be opened: their key is not in JINCAI_SECRET_KEYS.")


def _advise(total: Counter[str]) -> None:
    unused = [kid for kid in keyring.kids[1:] if not total[kid]]
    if unused:
        say(f"No stored value needs {', '.join(unused)} any more. Before you take old keys out:")
        say(
            "- every process must run with the new key in front, and this command must have been run after that;"
        )
        say("- sign-ins made under an old key end with it: they last up to 30 days;")
        say("- recovery codes made under an old key no longer work: their holders make new ones.")
