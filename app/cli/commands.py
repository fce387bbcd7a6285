"""Every command, wired one by one."""

from typing import Annotated

import typer

from app import __version__
from app.cli import (
    accounts,
    cases,
    demo,
    doctor,
    documents,
    keys,
    sandbox,
    schema,
    serve,
    staff,
    sync,
    verify,
)

commands = typer.Typer(
    name="jincai",
    help="Jincai Life: the service of a smart community. Settings are environment variables, see .env.example.",
    no_args_is_help=True,
    add_completion=False,
    # A traceback with local variables would print secrets.
    pretty_exceptions_enable=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@commands.callback()
def _options(
    _: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Every command reads its settings from the environment."""


commands.command()(serve.serve)
commands.command()(serve.worker)
commands.command()(schema.migrate)
commands.command()(schema.seed)
commands.command("demo-accounts")(accounts.list_accounts)
commands.command()(demo.demo)
commands.command()(doctor.doctor)
commands.command()(verify.verify)
commands.command()(documents.policy)
commands.command()(documents.openapi)
commands.add_typer(staff.commands, name="staff", help="Take staff on, give and take roles.")
commands.add_typer(keys.commands, name="keys", help="The keys that personal data is sealed under.")
commands.add_typer(sync.commands, name="sync", help="The exchange with the district platform.")
commands.add_typer(cases.commands, name="case", help="Whole cases, from one service to another.")
commands.add_typer(sandbox.commands, name="sandbox", help="Outside systems, emulated for development.")
