"""Types commands as an operator does: in a process of its own, which knows nothing of this one's settings."""

import base64
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from app.crypto import DEV_SECRET_KEYS

ENTRY = "from app.cli import main; main()"
_SEVERAL = """
import json, sys, traceback
from typer.testing import CliRunner
from app.cli.commands import commands
answers = []
for arguments in json.loads(sys.argv[1]):
    result = CliRunner().invoke(commands, arguments)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        traceback.print_exception(result.exception)
    answers.append([result.exit_code, result.stdout, result.stderr])
print(json.dumps(answers))
"""
_SECONDS = 60

KEY = "k2:" + base64.urlsafe_b64encode(b"k" * 32).decode().rstrip("=")
PRODUCTION = {
    "JINCAI_ENV": "prod",
    "JINCAI_PUBLIC_URL": "https://jincai.example.cn",
    "JINCAI_SECRET_KEYS": KEY,
    "JINCAI_WECHAT_APPID": "wx0123456789abcdef",
    "JINCAI_WECHAT_SECRET": "canary-wechat-secret",
    "JINCAI_WECHAT_PUSH_TOKEN": "canary-push-token",
    "JINCAI_WECHAT_PUSH_AES_KEY": "a" * 43,
}
"""Settings that production starts with."""

SECRETS = (
    "canary-wechat-secret",
    "canary-push-token",
    KEY,
    KEY.partition(":")[2],
    DEV_SECRET_KEYS,
    "hunter2",
)
"""What no command ever prints."""


@dataclass(frozen=True)
class Ran:
    """How a command went."""

    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        """Everything that it said."""
        return self.out + self.err


def run(folder: Path, settings: dict[str, str], *arguments: str) -> Ran:
    """One command, through its entry point."""
    done = subprocess.run(
        [sys.executable, "-c", ENTRY, *arguments],
        cwd=folder,
        env=environment(settings),
        capture_output=True,
        text=True,
        timeout=_SECONDS,
    )
    ran = Ran(done.returncode, done.stdout, done.stderr)
    _require_discretion(ran)
    return ran


def run_each(folder: Path, settings: dict[str, str], *commands: str) -> list[Ran]:
    """Several commands, one after the other in one process, to be quick."""
    done = subprocess.run(
        [sys.executable, "-c", _SEVERAL, json.dumps([command.split(" ") for command in commands])],
        cwd=folder,
        env=environment(settings),
        capture_output=True,
        text=True,
        timeout=_SECONDS,
    )
    assert done.returncode == 0, done.stderr
    ran = [Ran(*answer) for answer in json.loads(done.stdout.splitlines()[-1])]
    for each in ran:
        assert "Traceback" not in done.stderr, done.stderr
        _require_discretion(each)
    return ran


def environment(settings: dict[str, str]) -> dict[str, str]:
    """The shell's environment with these settings and no others."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("JINCAI_")}
    return inherited | {"COLUMNS": "200"} | settings


def _require_discretion(ran: Ran) -> None:
    assert "Traceback" not in ran.text, ran.text
    for secret in SECRETS:
        assert secret not in ran.text
