"""The `jincai` command."""

import importlib
import sys

from pydantic import ValidationError


def main() -> None:
    """Run the command line. Settings that cannot be read end it with one line each instead of a traceback."""
    try:
        # Reading the settings is the first thing that the import does.
        commands = importlib.import_module("app.cli.commands")
    except ValidationError as refused:
        for error in refused.errors(include_url=False, include_input=False):
            name = "_".join(str(part) for part in error["loc"]).upper()
            sys.stderr.write(f"✘ JINCAI_{name}: {error['msg'].removeprefix('Value error, ')}\n")
        sys.exit(1)
    commands.commands()
