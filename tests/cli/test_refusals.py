"""What commands say when something is wrong: once, in the terms of the command line, with advice."""

from pathlib import Path

from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from tests.cli.operator import run, run_each
from tests.engines import new_database


def test_a_scope_that_is_none_is_said_once(tmp_path: Path) -> None:
    chosen = {"JINCAI_DATABASE_URL": new_database("refusals")}
    _, _, refused = run_each(
        tmp_path,
        chosen,
        "migrate",
        "seed",
        "staff add some.body --name 张伟 --role system_admin --organisation fire_rescue",
    )
    said = [line for line in refused.err.splitlines() if line.startswith("✘")]
    assert (refused.code, said) == (1, ["✘ organisation_id: is no scope of this role"])


def test_settings_are_refused_like_everything_else(tmp_path: Path) -> None:
    ran = run(tmp_path, {"JINCAI_PORT": "abc", "JINCAI_SECRET_KEYS": "k1:c2hvcnQ"}, "serve")
    lines = ran.err.splitlines()
    assert ran.code == 1
    assert lines[0].startswith("✘ JINCAI_PORT: Input should be a valid integer")
    assert lines[1] == "✘ JINCAI_SECRET_KEYS: key 1 of the key ring has 5 bytes instead of 32"


def test_a_story_without_a_server_says_how_to_name_its_port(tmp_path: Path) -> None:
    ran = run(tmp_path, {"JINCAI_PORT": "1"}, "demo")
    assert ran.code == 1
    assert "No server answers at http://127.0.0.1:1" in ran.err
    assert "JINCAI_PORT" in ran.err


def test_a_database_that_is_away_comes_with_advice(tmp_path: Path) -> None:
    nobody = {"JINCAI_DATABASE_URL": "postgresql://jincai@127.0.0.1:1/jincai"}
    (examined,) = run_each(tmp_path, nobody, "doctor")
    assert examined.code == 1
    assert "✘ postgresql://jincai@127.0.0.1:1/jincai does not answer" in examined.out
    assert "JINCAI_DATABASE_URL right?" in examined.out
    assert "Mend what is wrong above first." in examined.out


async def test_a_database_of_another_version_is_left_alone(tmp_path: Path) -> None:
    url = new_database("foreign")
    engine = create_async_engine(
        url.replace("sqlite:", "sqlite+aiosqlite:").replace("postgresql:", "postgresql+asyncpg:")
    )
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE alembic_version SET version_num = '0123456789ab'"))
    await engine.dispose()
    for command in ("migrate", "serve"):
        ran = run(tmp_path, {"JINCAI_DATABASE_URL": url}, command)
        assert (ran.code, ran.out) == (1, "")
        assert "✘ The database is at 0123456789ab, which this version does not know." in ran.err
        assert "begin with an empty database" in ran.err
