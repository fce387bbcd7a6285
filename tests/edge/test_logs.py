"""Log lines: one per event, nothing personal, nothing forged."""

import json
import logging
import os
import subprocess
import sys

import httpx
import pytest
import structlog

from app import logs
from app.logs import line
from tests.factories import Places, make_resident

PHONE = "13812345678"
TOKEN = "jcs_" + "a" * 43


def _record(event: str, failure: BaseException | None = None, **fields: object) -> dict[str, object]:
    raw = line("info", "test", event, fields, failure)
    assert raw.endswith(b"\n")
    assert raw.count(b"\n") == 1
    record: dict[str, object] = json.loads(raw)
    return record


def test_only_listed_fields_are_logged() -> None:
    record = _record("done", status=200, phone=PHONE, body={"a": 1}, query="x=1")
    assert set(record) == {"time", "level", "logger", "event", "status"}


def test_values_are_scrubbed() -> None:
    record = _record(f"call {PHONE}", reason=f"Bearer {TOKEN}", error=["110101199003072316"])
    assert PHONE not in str(record)
    assert TOKEN not in str(record)
    assert "110101199003072316" not in str(record)


@pytest.mark.parametrize(
    "text", ["a\r\nb", "\x1b[31mred", "a\u2028b", "\x9b2J", "\u202eabc", "a\x00b", "\ud800"]
)
@pytest.mark.parametrize("chosen", ["text", "json"])
def test_a_line_cannot_be_broken_or_coloured(text: str, chosen: logs.Format) -> None:
    logs.configure(chosen)
    raw = line("info", "test", text, {"reason": text}, None)
    logs.configure("json")
    assert raw.count(b"\n") == 1
    assert raw.decode().removesuffix("\n").isprintable()


def test_values_are_bounded() -> None:
    assert len(str(_record("x" * 5000, reason="y" * 5000))) < 1000


def test_an_exception_is_described_without_its_text_and_variables() -> None:
    def fail(secret: str) -> None:
        try:
            raise OSError(28, secret)
        except OSError as cause:
            raise RuntimeError(secret) from cause

    with pytest.raises(RuntimeError) as raised:
        fail(PHONE)
    record = _record("failed", raised.value)
    assert record["error"] == "RuntimeError"
    assert record["cause"] == ["OSError"]
    assert record["errno"] == 28
    assert "fail" in str(record["at"])
    assert PHONE not in str(record)
    assert "secret" not in str(record)


def test_libraries_may_not_fill_in_values(capfd: pytest.CaptureFixture[str]) -> None:
    _begin(capfd)
    logging.getLogger("some.library").warning("took %s\nand more", PHONE)
    logging.getLogger("some.library").debug("never")
    logging.getLogger("uvicorn.error").info("Started server process [%d]", 7)
    logging.getLogger("uvicorn.access").info("GET /?phone=%s", PHONE)
    logging.getLogger("sqlalchemy.engine").info("SELECT %s", PHONE)
    lines = [json.loads(each) for each in capfd.readouterr().err.splitlines()]
    assert [each["event"] for each in lines] == ["took %s", "Started server process [7]"]


def test_structlog_goes_the_same_way(capfd: pytest.CaptureFixture[str]) -> None:
    _begin(capfd)
    try:
        raise ValueError(PHONE)
    except ValueError:
        structlog.get_logger("part").exception("went_wrong", code="x", name_of_somebody="Li")
    (record,) = [json.loads(each) for each in capfd.readouterr().err.splitlines()]
    assert (record["level"], record["logger"], record["event"], record["code"]) == (
        "error",
        "part",
        "went_wrong",
        "x",
    )
    assert record["error"] == "ValueError"
    assert "Li" not in str(record)
    assert PHONE not in str(record)


def test_people_read_text() -> None:
    code = (
        "import structlog; from app import logs; logs.configure('text');"
        "structlog.get_logger('part').warning('odd', reason='why', phone='13812345678')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ, capture_output=True, text=True, check=True
    )
    assert done.stderr.endswith("warning part: odd reason=why\n")


async def test_a_request_leaves_one_line_without_its_secrets(
    client: httpx.AsyncClient, places: Places, capfd: pytest.CaptureFixture[str]
) -> None:
    resident = await make_resident(places.community)
    canary = "canary5e1f"
    await client.put(
        f"/v1/me?{canary}=1",
        json={canary: canary, "phone": PHONE},
        headers={
            **resident.headers,
            "X-Request-Id": "line-of-this-test",
            "User-Agent": canary,
            "Cookie": canary,
            "Idempotency-Key": canary,
            "X-Forwarded-For": canary,
        },
    )
    await client.get(f"/v1/{canary}/{PHONE}")
    logs.flush()
    written = capfd.readouterr().err
    assert canary not in written
    assert PHONE not in written
    assert resident.token not in written
    (record,) = [json.loads(each) for each in written.splitlines() if "line-of-this-test" in each]
    assert record["operation"] == "update_me"
    assert record["route"] == "/v1/me"
    assert record["method"] == "PUT"
    assert record["status"] == 422
    assert record["caller"] == str(resident.id)
    assert record["caller_kind"] == "resident"
    assert record["milliseconds"] >= 0


def _begin(capfd: pytest.CaptureFixture[str]) -> None:
    """What other tests have left to be written is not ours."""
    logs.configure("json")
    logs.flush()
    capfd.readouterr()
