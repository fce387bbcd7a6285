"""What operators type between starting and stopping: migrate, seed, staff, keys, doctor, verify, policy.

A process takes its time to start, so the commands of one day run in a few, and each test looks at some of them.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path

import pytest
from sqlalchemy import update
from sqlalchemy.ext.asyncio import create_async_engine
from typer.testing import CliRunner

from app.cli.commands import commands
from app.crypto import DEV_SECRET_KEYS, sealed_head
from app.models.regions import Region
from app.models.staff import Staff
from app.policy import POLICY
from app.services.verification import CHECKS
from tests.cli.operator import KEY, PRODUCTION, Ran, run_each
from tests.engines import new_database

Day = Mapping[str, Ran]
_ADD = "staff add {} --name 张伟 --role system_admin --region {}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("operator")


@pytest.fixture(scope="module")
def place(folder: Path) -> dict[str, str]:
    """A migrated, empty database and an empty folder for pictures."""
    return {
        "JINCAI_DATABASE_URL": new_database(f"operator{os.getpid()}"),
        "JINCAI_MEDIA_URL": (folder / "media").as_uri(),
    }


@pytest.fixture(scope="module")
def first_day(folder: Path, place: dict[str, str]) -> Day:
    """In development, on an empty database."""
    return _day(
        folder,
        place,
        already="migrate",
        unknown="migrate --to nonsense",
        down="migrate --to base --yes",
        verify_empty="verify",
        doctor_empty="doctor",
        up="migrate",
        doctor_unseeded="doctor",
        seeded="seed --demo",
        seeded_again="seed --demo",
        doctor="doctor",
        accounts="demo-accounts",
        added=_ADD.format("root.admin", "510104"),
        added_twice=_ADD.format("root.admin", "510104"),
        added_badly=_ADD.format("X", "510104"),
        added_nowhere=_ADD.format("other.admin", "999999"),
        granted="staff grant root.admin --role department_officer --organisation fire_rescue",
        revoked_wrongly="staff revoke root.admin --role auditor --region 510104",
        revoked="staff revoke root.admin --role system_admin --region 510104",
        revoked_nobody="staff revoke nobody --role auditor --region 510104",
        verify="verify",
        verify_some="verify --only events --only sessions",
        verify_none="verify --only dragons",
        verify_head="verify --head",
        verify_since="verify --since 1:00:k1.forged",
    )


@pytest.fixture(scope="module")
def second_day(folder: Path, place: dict[str, str], first_day: Day) -> Day:
    """With a new key in front, and a WeChat that is away."""
    assert first_day
    settings = {
        "JINCAI_SECRET_KEYS": f"{KEY},{DEV_SECRET_KEYS}",
        "JINCAI_WECHAT_API_BASE": "http://127.0.0.1:1",
        "JINCAI_WECHAT_APPID": "wx0123456789abcdef",
        "JINCAI_WECHAT_SECRET": "canary-wechat-secret",
    }
    return _day(
        folder,
        place | settings,
        before="keys status",
        rotated="keys rotate",
        after="keys status",
        again="keys rotate",
        verify="verify --only sealed",
        doctor="doctor",
    )


@pytest.fixture(scope="module")
def third_day(folder: Path, place: dict[str, str], second_day: Day) -> Day:
    """In production, which is not for what development left behind."""
    assert second_day
    (folder / "file").write_text("no folder")
    settings = {
        "JINCAI_WECHAT_SECRET": "",
        "JINCAI_DATABSE_URL": "hunter2",
        "JINCAI_MEDIA_URL": (folder / "file").as_uri(),
        "JINCAI_REDIS_URL": "redis://:hunter2@127.0.0.1:1/0",
    }
    return _day(
        folder,
        PRODUCTION | place | settings,
        seed_demo="seed --demo",
        accounts="demo-accounts",
        seed="seed",
        doctor="doctor",
    )


def test_tables_go_up_and_down(first_day: Day) -> None:
    _said(first_day["already"], 0, "Nothing to do")
    _said(first_day["unknown"], 1, "nonsense")
    _said(first_day["down"], 0, "to an empty database.")
    _said(first_day["verify_empty"], 1, "run `jincai migrate`")
    _said(first_day["doctor_empty"], 1, "✘ The tables are at no revision")
    _said(first_day["up"], 0, "Migrated from an empty database to ")


def test_reference_data_is_added_once(first_day: Day) -> None:
    _said(first_day["doctor_unseeded"], 1, "Run `jincai seed`.")
    _said(first_day["seeded"], 0, "Added 156 regions, 31 organisations, 31 categories.")
    _said(first_day["seeded"], 0, "Added 36 demo accounts")
    _said(first_day["seeded_again"], 0, "Added 0 regions, 0 organisations, 0 categories.")
    _said(first_day["seeded_again"], 0, "Added 0 demo accounts")
    assert all(f"grid{number:02} " in first_day["accounts"].out for number in range(1, 14))


def test_staff_are_taken_on_from_the_command_line(first_day: Day) -> None:
    _said(first_day["added"], 0, "root.admin is system_admin of Jinjiang District (510104).")
    assert len(first_day["added"].out.split()[-1].replace("-", "")) == 20
    _said(first_day["added_twice"], 1, "✘ This user name is taken")
    _said(first_day["added_badly"], 1, "✘ username: ")
    _said(first_day["added_nowhere"], 1, "✘ There is no region with the code 999999.")


def test_roles_are_given_and_taken_from_the_command_line(first_day: Day) -> None:
    fire = "department_officer of Jinjiang Fire and Rescue Brigade (fire_rescue)"
    _said(first_day["granted"], 0, f"root.admin is {fire}.")
    _said(first_day["revoked_wrongly"], 1, "is not auditor there, but: system_admin of Jinjiang District")
    _said(first_day["revoked"], 0, f"Still: {fire}.")
    _said(first_day["revoked_nobody"], 1, "✘ Nobody has the user name nobody.")


def test_verify_prints_a_head_and_knows_a_forged_one(first_day: Day) -> None:
    _said(first_day["verify_head"], 0, ":")
    position, digest, _ = first_day["verify_head"].out.strip().split(":")
    assert (position.isdecimal(), len(digest)) == (True, 64)
    _said(first_day["verify_since"], 1, "was not signed with a key of this deployment")


def test_verify_lists_what_holds(first_day: Day) -> None:
    _said(first_day["verify"], 0, f"All {len(CHECKS)} invariants hold.")
    assert all(f"✔ {check.name}: {check.promise}" in first_day["verify"].out for check in CHECKS)
    some = [check for check in CHECKS if check.name.startswith(("events", "sessions"))]
    _said(first_day["verify_some"], 0, f"All {len(some)} invariants hold.")
    _said(first_day["verify_none"], 1, "There are: events.seq")


def test_a_healthy_deployment_is_called_so(first_day: Day, pytestconfig: pytest.Config) -> None:
    if pytestconfig.getoption("--engine") == "postgres":
        # The tests' own server forgets what it promised when the power fails; nothing else is wrong with it.
        _said(first_day["doctor"], 1, "✘ A power cut may lose what was acknowledged: fsync=off")
        assert first_day["doctor"].err.startswith("✘ 1 of ")
    else:
        _said(first_day["doctor"], 0, "Nothing is wrong.")
    for title in ("Settings", "Database", "Content", "Worker", "Storage", "WeChat", "Redis", "Disk"):
        assert f"{title}\n  ✔" in first_day["doctor"].out or title == "Content"


def test_keys_are_rotated_until_the_old_one_can_go(second_day: Day) -> None:
    assert _column(second_day["before"].out, "staff") == ["0", "44"]
    _said(second_day["rotated"], 0, "Brought 37 rows under the key k2.")
    _said(second_day["rotated"], 0, "No stored value needs dev any more.")
    assert _column(second_day["after"].out, "staff") == ["44", "0"]
    _said(second_day["again"], 0, "Brought 0 rows under the key k2.")
    _said(second_day["verify"], 0, "All 1 invariants hold.")
    _said(second_day["doctor"], 1, "! Old keys are in JINCAI_SECRET_KEYS")
    _said(second_day["doctor"], 1, "✘ WeChat gives no token")


def test_production_knows_no_demo(third_day: Day) -> None:
    for name in ("seed_demo", "accounts"):
        assert third_day[name].err == "✘ Demo accounts are for development only (JINCAI_ENV=dev)\n"
        assert third_day[name].code == 1
    assert third_day["seed"].err == "✘ JINCAI_WECHAT_SECRET is not set\n"


def test_the_doctor_finds_what_is_wrong_and_advises(third_day: Day) -> None:
    for line in (
        "! JINCAI_DATABSE_URL is no setting",
        "Do you mean JINCAI_DATABASE_URL?",
        "✘ 36 demo accounts are active, among them ",
        "/file cannot be created",
        "! Redis does not answer",
        "✘ WeChat was not asked",
    ):
        _said(third_day["doctor"], 1, line)


async def test_what_is_wrong_is_named_and_scripts_are_told(
    folder: Path, place: dict[str, str], third_day: Day
) -> None:
    assert third_day
    grid_id, staff_id = await _spoil(place["JINCAI_DATABASE_URL"])
    day = _day(
        folder,
        place | {"JINCAI_SECRET_KEYS": KEY},
        verify="verify",
        status="keys status",
        rotate="keys rotate",
    )
    _said(day["verify"], 1, f"regions {grid_id}: a grid without an outline")
    _said(day["verify"], 1, f"staff.display_name_sealed of {staff_id}: no key gone in the key ring")
    _said(day["verify"], 1, "✔ events.seq: ")
    _said(day["verify"], 1, f"✘ 2 of {len(CHECKS)} invariants do not hold.")
    assert _column(day["status"].out, "staff") == ["43", "1"]
    _said(day["status"], 0, "! Values under `?` cannot be opened")
    _said(day["rotate"], 1, f"✘ staff.display_name_sealed of {staff_id}: no key gone in the key ring")


def test_every_command_looks_at_the_settings_and_the_doctor_survives(tmp_path: Path) -> None:
    """Production without its secrets, and with a database that is away."""
    day = _day(
        tmp_path,
        {
            "JINCAI_ENV": "prod",
            "JINCAI_DATABASE_URL": "postgresql://jincai:hunter2@127.0.0.1:1/jincai",
        },
        worker="worker",
        migrate="migrate",
        seed="seed",
        verify="verify",
        keys="keys rotate",
        staff=_ADD.format("root.admin", "510104"),
        doctor="doctor",
    )
    for ran in day.values():
        _said(ran, 1, "✘ JINCAI_SECRET_KEYS is the published development key")
    _said(day["doctor"], 1, "postgresql://jincai:***@127.0.0.1:1/jincai does not answer")
    _said(day["doctor"], 1, "Cause: ConnectionRefusedError")
    _said(day["doctor"], 1, "Disk")


def test_the_policy_is_printed_for_people_programs_and_documents() -> None:
    runner = CliRunner(env={"COLUMNS": "200"})
    table, facts, markdown = (
        runner.invoke(commands, ["policy", "--format", kind]).stdout for kind in ("table", "json", "markdown")
    )
    parsed = json.loads(facts)
    assert list(parsed) == list(POLICY)
    assert parsed["update_region"] == {
        "anonymous": False,
        "resident": False,
        "any_staff": False,
        "roles": ["district_admin"],
        "step_up": True,
    }
    for name in POLICY:
        assert f"| `{name}` | " in markdown
        assert name in table


def _day(folder: Path, settings: dict[str, str], **typed: str) -> Day:
    """Commands in one process, by name."""
    return dict(zip(typed, run_each(folder, settings, *typed.values()), strict=True))


def _said(ran: Ran, code: int, words: str) -> None:
    assert (ran.code, words in ran.text) == (code, True), f"{ran.code}: {ran.text}"


async def _spoil(url: str) -> tuple[str, str]:
    """A grid loses its outline, and a name lies under a key that is gone; their ids."""
    driver = url.replace("sqlite:", "sqlite+aiosqlite:").replace("postgresql:", "postgresql+asyncpg:")
    engine = create_async_engine(driver)
    async with engine.begin() as connection:
        grid = update(Region).where(Region.code == "5101049099010101").values(polygon=None)
        grid_id = (await connection.execute(grid.returning(Region.id))).scalar_one()
        sealed = sealed_head("gone") + bytes(40)
        staff = update(Staff).where(Staff.username == "grid01").values(display_name_sealed=sealed)
        staff_id = (await connection.execute(staff.returning(Staff.id))).scalar_one()
    await engine.dispose()
    return str(grid_id), str(staff_id)


def _column(table: str, name: str) -> list[str]:
    """The numbers in the row of a table."""
    return next(line.split()[1:] for line in table.splitlines() if line.split()[:1] == [name])
