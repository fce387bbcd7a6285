"""The page for integrators: its snippets run as printed, and its tables say what the code does."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import standardwebhooks
from starlette.types import ASGIApp

from app import clock
from app.main import app
from app.models.hazards import HazardStatus
from app.models.webhooks import EVENT_TYPES
from app.policy import POLICY
from app.settings import Settings
from app.standard_webhooks import new_secret

_ROOT = Path(__file__).parents[2]
_PAGE = (_ROOT / "docs/integrators.md").read_text("utf-8")
_DISTRICT = (_ROOT / "docs/district.md").read_text("utf-8")
_BODY = '{"type":"hazard.filed","text":"消防通道"}'

_JAVA_MAIN = """
class Main {
    public static void main(String[] given) throws Exception {
        java.util.Map<String, String> headers = java.util.Map.of(
            "webhook-id", given[1], "webhook-timestamp", given[2], "webhook-signature", given[3]);
        byte[] body = given[4].getBytes(java.nio.charset.StandardCharsets.UTF_8);
        System.out.println(Webhooks.isGenuine(given[0], headers, body));
    }
}
"""
_NODE_MAIN = """
const [secret, id, timestamp, signature, body] = process.argv.slice(2);
const headers = {"webhook-id": id, "webhook-timestamp": timestamp, "webhook-signature": signature};
console.log(isGenuine(secret, headers, Buffer.from(body)));
"""
_PYTHON_MAIN = """
import sys
secret, id_, timestamp, signature, body = sys.argv[1:]
headers = {"webhook-id": id_, "webhook-timestamp": timestamp, "webhook-signature": signature}
print(str(is_genuine(secret, headers, body.encode())).lower())
"""


def _snippet(language: str) -> str:
    match = re.search(rf"```{language}\n(.*?)```", _PAGE, re.DOTALL)
    assert match, language
    return match[1]


def _python(folder: Path) -> list[str]:
    (folder / "main.py").write_text(_snippet("python") + _PYTHON_MAIN, "utf-8")
    return [sys.executable, str(folder / "main.py")]


def _node(folder: Path) -> list[str]:
    (folder / "main.js").write_text(_snippet("js") + _NODE_MAIN, "utf-8")
    return ["node", str(folder / "main.js")]


def _java(folder: Path) -> list[str]:
    imports, rest = _snippet("java").split("\n\n", 1)
    (folder / "Main.java").write_text(f"{imports}\n{_JAVA_MAIN}\n{rest}", "utf-8")
    return ["java", "-Dfile.encoding=UTF-8", "-Dsun.jnu.encoding=UTF-8", str(folder / "Main.java")]


_LANGUAGES = [_python, *([_node] if shutil.which("node") else []), *([_java] if shutil.which("java") else [])]


@pytest.mark.parametrize("language", _LANGUAGES)
def test_the_snippet_accepts_what_is_signed_and_nothing_else(
    language: Callable[[Path], list[str]], tmp_path: Path
) -> None:
    command, secret, body = language(tmp_path), new_secret(), json.dumps(json.loads(_BODY))
    now = clock.now()
    good = standardwebhooks.Webhook(secret).sign("msg_1", now, body)
    stamp = str(int(now.timestamp()))

    def says(*arguments: str) -> str:
        done = subprocess.run([*command, secret, *arguments], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    assert says("msg_1", stamp, f"v1,AAAA {good}", body) == "true"
    assert says("msg_1", stamp, good, body + " ") == "false"
    assert says("msg_1", str(int(stamp) - 301), good, body) == "false"
    assert says("msg_1", stamp, "v1, v1,AAAA", body) == "false"


def test_the_tables_are_complete() -> None:
    recorded = {
        match
        for file in (_ROOT / "app").rglob("*.py")
        for match in re.findall(r'"(hazard\.[a-z_]+)"', file.read_text("utf-8"))
    }
    assert {f"`{kind}`" for kind in recorded} - set(re.findall(r"`hazard\.[a-z_]+`", _PAGE)) == set()
    assert all(f"`{status.value}`" in _PAGE for status in HazardStatus)
    scopes = {scope for rule in POLICY.values() for scope in rule.scopes}
    assert set(re.findall(r"^\| `([a-z]+:[a-z]+)` \|", _PAGE, re.MULTILINE)) == scopes


def test_every_type_that_is_told_can_be_asked_for() -> None:
    kinds = "|".join({kind.partition(".")[0] for kind in EVENT_TYPES})
    recorded = {
        match
        for file in (_ROOT / "app/services").rglob("*.py")
        for match in re.findall(rf'"((?:{kinds})\.[a-z_]+)"', file.read_text("utf-8"))
    }
    assert recorded - set(EVENT_TYPES) == _NOT_TOLD
    assert set(EVENT_TYPES) <= recorded
    assert {f"`{kind}`" for kind in EVENT_TYPES} - set(re.findall(r"`[a-z_.]+`", _PAGE)) == set()


_NOT_TOLD = {
    *("sync.applied", "sync.apply", "sync.drift_found", "sync.numbers_missing"),
    *(
        f"webhook_endpoint.{change}"
        for change in ("created", "updated", "secret_rotated", "enabled", "pinged", "deleted")
    ),
}
"""For audit alone, or names of tasks."""


def test_the_schedule_is_the_default_one() -> None:
    waits = [float(part) for part in str(Settings.model_fields["webhook_retry_seconds"].default).split(",")]
    units = {"s": 1, "min": 60, "h": 3600}
    written = re.search(r"again after (.*?), each", _PAGE)
    assert written
    assert [
        float(number) * units[unit] for number, unit in (each.split(" ") for each in written[1].split(", "))
    ] == waits
    assert f"{len(waits) + 1} tries in {sum(waits) / 3600:.1f} h" in _PAGE


@pytest.mark.parametrize("page", [_PAGE, _DISTRICT])
def test_every_path_exists(page: str, application: ASGIApp) -> None:
    known = {re.sub(r"\{[a-z_0-9]+\}", "{}", path) for path in app.openapi()["paths"]}
    named = {path.split("?")[0] for path in re.findall(r"(/(?:v1|open311)/[a-z0-9/{}.?=&_-]*[a-z}])", page)}
    assert named
    for path in named:
        plain = re.sub(r"\{[a-z_0-9]+\}", "{}", path)
        either = {plain, re.sub(r"\.(json|xml)$", ".{}", plain)}
        assert either & known, path
