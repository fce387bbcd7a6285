"""What an operator is given says what the code reads."""

import re
from pathlib import Path

import yaml

from app.settings import Settings

_ROOT = Path(__file__).parents[2]


def test_the_example_explains_every_setting_and_no_other() -> None:
    lines = (_ROOT / ".env.example").read_text("utf-8").splitlines()
    listed = [match[1] for line in lines if (match := re.match(r"#?JINCAI_([A-Z0-9_]+)=", line))]
    assert sorted(listed) == sorted(name.upper() for name in Settings.model_fields)


def test_the_example_shows_the_real_defaults() -> None:
    for line in (_ROOT / ".env.example").read_text("utf-8").splitlines():
        if (match := re.match(r"#JINCAI_([A-Z0-9_]+)=(.+)", line)) and match[1] not in (
            "SEED",
            "WECHAT_API_BASE",
        ):
            field = Settings.model_fields[match[1].lower()]
            assert type(field.default)(match[2]) == field.default, line


def test_compose_starts_everything_from_one_image() -> None:
    services = yaml.safe_load((_ROOT / "compose.yaml").read_text("utf-8"))["services"]
    assert set(services) == {"postgres", "redis", "migrate", "server", "worker"}
    assert {services[name]["image"] for name in ("migrate", "server", "worker")} == {"jincai-life"}


def test_no_lock_names_a_host() -> None:
    for name in ("requirements.lock", "requirements-dev.lock"):
        text = (_ROOT / name).read_text("utf-8")
        assert "://" not in text
        assert "--index-url" not in text
        assert text.count("==") > 50


def test_the_locks_hold_exactly_what_is_asked_for() -> None:
    """Somebody who edits a .in file and forgets `make lock` is told here."""
    pin = re.compile(r"^([a-z0-9-]+)(?:\[[a-z0-9]+\])?==([^\s;]+)", re.MULTILINE)
    for name in ("requirements", "requirements-dev"):
        wanted = pin.findall((_ROOT / f"{name}.in").read_text("utf-8"))
        assert wanted
        assert set(wanted) <= set(pin.findall((_ROOT / f"{name}.lock").read_text("utf-8")))
