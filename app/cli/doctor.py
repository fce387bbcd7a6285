"""`jincai doctor`: is this deployment set up as it should be, and if not, what to do about it."""

import asyncio
import difflib
import os
import platform
import shutil
import sqlite3
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from enum import Enum
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from redis.asyncio import Redis
from redis.exceptions import RedisError
from rich.markup import escape
from sqlalchemy import func, select, text
from sqlalchemy.engine import make_url

from app import clock
from app.cli import schema
from app.cli.console import say, stop
from app.clients.storage import Storage
from app.clients.wechat import WeChatClient
from app.clients.wechat_errors import Misconfigured, WeChatError
from app.db import database, sqlite_has_wal_bug
from app.errors import Problem, Unavailable
from app.keys import keyring
from app.models.events import Event
from app.models.regions import Region
from app.models.staff import Staff, StaffStatus
from app.models.tasks import Task, TaskStatus
from app.services import demo_accounts, key_checks
from app.services.operations import weak_durability
from app.settings import WECHAT_API, Settings, settings

_SECONDS = 10.0
_LATE = timedelta(minutes=5)
_SKEW_SECONDS = 2.0
_GIB = 2**30
_PREFIX = "JINCAI_"


class Verdict(Enum):
    """How a finding is marked."""

    FINE = "[green]✔[/]"
    ODD = "[yellow]![/]"
    WRONG = "[red]✘[/]"


class Finding(NamedTuple):
    """What was found, and what to do about it."""

    verdict: Verdict
    what: str
    advice: str = ""


Examination = Callable[[], AsyncIterator[Finding]]


def doctor() -> None:
    """Check settings, database, storage, WeChat, clock and disk. Exit code 1 when something is wrong."""
    findings = asyncio.run(_examine())
    wrong = sum(finding.verdict is Verdict.WRONG for finding in findings)
    if wrong:
        stop(f"{wrong} of {len(findings)} things are wrong.")
    say("\nNothing is wrong.")


async def _examine() -> list[Finding]:
    findings = []
    await database.open()
    try:
        for title, examination in _EXAMINATIONS.items():
            say(f"[bold]{title}[/]")
            async for finding in _within_time(examination):
                findings.append(finding)
                say(f"  {finding.verdict.value} {escape(finding.what)}")
                if finding.advice:
                    say(f"    [dim]{escape(finding.advice)}[/]")
    finally:
        await database.close()
    return findings


async def _within_time(examination: Examination) -> AsyncIterator[Finding]:
    """What was found before the time was over or the thing broke."""
    try:
        async with asyncio.timeout(_SECONDS):
            async for finding in examination():
                yield finding
    except TimeoutError:
        yield Finding(Verdict.WRONG, f"No answer within {_SECONDS:.0f} seconds")
    except Problem as problem:
        advice = "Mend what is wrong above first." if isinstance(problem, Unavailable) else ""
        yield Finding(Verdict.WRONG, problem.detail("en"), f"{advice} {_cause(problem)}".strip())


def _cause(error: Exception) -> str:
    """The kind of the failure beneath, without its text, which may hold an address with a password."""
    return f"Cause: {type(error.__cause__).__name__}" if error.__cause__ else ""


async def _settings() -> AsyncIterator[Finding]:
    yield Finding(Verdict.FINE, f"JINCAI_ENV={settings.env}, Python {platform.python_version()}")
    for problem in settings.problems():
        yield Finding(Verdict.WRONG, problem, "See .env.example.")
    known = {_PREFIX + name.upper() for name in Settings.model_fields}
    for name in sorted(name for name in os.environ if name.startswith(_PREFIX) and name not in known):
        close = difflib.get_close_matches(name, known, n=1)
        yield Finding(Verdict.ODD, f"{name} is no setting", f"Do you mean {close[0]}?" if close else "")
    yield Finding(Verdict.FINE, f"{len(keyring.kids)} keys, {keyring.current} is the current one")
    if len(keyring.kids) > 1:
        yield Finding(
            Verdict.ODD,
            "Old keys are in JINCAI_SECRET_KEYS",
            "`jincai keys rotate` brings everything under the current one.",
        )
    if settings.clock_offset_seconds and settings.env == "dev":
        yield Finding(Verdict.ODD, f"The clock is put forward by {settings.clock_offset_seconds} seconds")


async def _database() -> AsyncIterator[Finding]:
    address = make_url(settings.database_url).render_as_string(hide_password=True)
    try:
        async with database.reading() as session:
            await session.execute(text("SELECT 1"))
    except Unavailable as away:
        advice = "Does it run, and are host, port, name and password in JINCAI_DATABASE_URL right?"
        yield Finding(Verdict.WRONG, f"{address} does not answer", f"{advice} {_cause(away)}".strip())
        return
    yield Finding(Verdict.FINE, f"{address} answers")
    async for finding in _sqlite() if settings.is_sqlite else _postgres():
        yield finding
    weak = await weak_durability()
    if weak:
        yield Finding(Verdict.WRONG, f"A power cut may lose what was acknowledged: {weak}", "Switch it on.")
    else:
        yield Finding(Verdict.FINE, "What is acknowledged is on the disk")


async def _sqlite() -> AsyncIterator[Finding]:
    async with database.transaction() as session:
        journal = await session.scalar(text("PRAGMA journal_mode"))
    if journal != "wal":
        yield Finding(
            Verdict.WRONG,
            f"SQLite keeps a {journal} journal instead of a WAL",
            "The folder may be on a network drive; SQLite needs a local disk.",
        )
    if sqlite_has_wal_bug():
        yield Finding(
            Verdict.ODD,
            f"SQLite {sqlite3.sqlite_version} may corrupt a file that two processes write at once",
            "Run one process only (embedded worker), a Python with SQLite 3.51.3 or newer, or PostgreSQL.",
        )
    if settings.env == "prod":
        yield Finding(
            Verdict.ODD, "SQLite in production: one server, one process", "PostgreSQL has neither limit."
        )


async def _postgres() -> AsyncIterator[Finding]:
    async with database.reading() as session:
        version = await session.scalar(text("SHOW server_version"))
        allowed = int(await session.scalar(text("SHOW max_connections")) or 0)
        before = clock.now()
        there = (await session.scalars(select(func.clock_timestamp()))).one()
        after = clock.now()
    yield Finding(Verdict.FINE, f"PostgreSQL {version}")
    wanted = 3 * settings.database_pool_size + 2
    if wanted > allowed / 2:
        yield Finding(
            Verdict.ODD,
            f"One process takes up to {wanted} of {allowed} connections",
            "Raise max_connections or lower JINCAI_DATABASE_POOL_SIZE.",
        )
    skew = (there - (before + (after - before) / 2)).total_seconds() + settings.clock_offset_seconds
    if abs(skew) > _SKEW_SECONDS:
        yield Finding(
            Verdict.WRONG,
            f"The clock of the database is {skew:+.1f} seconds from ours",
            "Let both machines keep time with NTP: codes and deadlines depend on it.",
        )
    else:
        yield Finding(Verdict.FINE, "The database's clock agrees with ours")


async def _content() -> AsyncIterator[Finding]:
    now, needed = await schema.revision(), schema.head()
    if now != needed:
        yield Finding(
            Verdict.WRONG,
            f"The tables are at {now or 'no revision'}, this version needs {needed}",
            "Run `jincai migrate`.",
        )
        return
    yield Finding(Verdict.FINE, f"The tables are those of this version ({needed})")
    async with database.reading() as session:
        regions = await session.scalar(select(func.count()).select_from(Region)) or 0
        names = [account.username for account in demo_accounts.ACCOUNTS]
        demo = list(
            await session.scalars(
                select(Staff.username).where(Staff.username.in_(names), Staff.status == StaffStatus.ACTIVE)
            )
        )
        people = await session.scalar(select(func.count()).select_from(Staff)) or 0
        wrong_keys = await key_checks.problems(session)
    for problem in wrong_keys:
        yield Finding(
            Verdict.WRONG,
            problem,
            "Put the key back that was there before. Do not go on without it: what it sealed cannot be opened.",
        )
    if not regions:
        yield Finding(Verdict.WRONG, "There are no regions, so nothing can be reported", "Run `jincai seed`.")
    if not people:
        yield Finding(Verdict.ODD, "There is no staff", "`jincai staff add` takes the first one on.")
    if demo and settings.env == "prod":
        yield Finding(
            Verdict.WRONG,
            f"{len(demo)} demo accounts are active, among them {demo[0]}",
            "Their password is published: disable them.",
        )


async def _work() -> AsyncIterator[Finding]:
    """Whether somebody does what the server leaves to the worker."""
    now = clock.now()
    if await schema.revision() != schema.head():
        return
    async with database.reading() as session:
        late = await session.scalar(
            select(func.count()).where(Task.status == TaskStatus.QUEUED, Task.run_at < now - _LATE)
        )
        dead = await session.scalar(select(func.count()).where(Task.status == TaskStatus.DEAD))
        unplaced = await session.scalar(
            select(func.count()).where(Event.position.is_(None), Event.occurred_at < now - _LATE)
        )
    if late or unplaced:
        yield Finding(
            Verdict.WRONG,
            f"{late} tasks and {unplaced} events have been waiting for more than 5 minutes",
            "No worker runs: start `jincai worker`, or the server with JINCAI_WORKER=embedded.",
        )
    if dead:
        yield Finding(
            Verdict.ODD, f"{dead} tasks failed for good", "The log says why: look for `task_failed`."
        )
    if not (late or unplaced or dead):
        yield Finding(Verdict.FINE, "No work is waiting")


async def _storage() -> AsyncIterator[Finding]:
    place = urlsplit(settings.media_location)
    where = f"{place.scheme}://{place.netloc}{place.path}"
    try:
        storage = Storage(settings.media_location)
    except ValueError as error:
        yield Finding(Verdict.WRONG, str(error))
        return
    try:
        await storage.check()
    finally:
        storage.close()
    yield Finding(Verdict.FINE, f"{where} takes and gives")
    if place.scheme == "file" and settings.env == "prod":
        yield Finding(
            Verdict.ODD, "Pictures lie on this machine's disk", "Fine for one server; back them up."
        )


async def _wechat() -> AsyncIterator[Finding]:
    if settings.sandbox_wechat:
        yield Finding(Verdict.FINE, "The sandbox inside the server: no WeChat settings")
        return
    if not settings.wechat_appid or not settings.wechat_secret:
        yield Finding(Verdict.WRONG, "WeChat was not asked: there is no appid or no secret to ask with")
        return
    client = WeChatClient(
        base_url=settings.wechat_api_base or WECHAT_API,
        appid=settings.wechat_appid,
        secret=settings.wechat_secret,
        monotonic=clock.monotonic,
    )
    try:
        await client.stable_token()
    except WeChatError as error:
        yield Finding(Verdict.WRONG, f"WeChat gives no token: {error}", _wechat_advice(error))
        return
    finally:
        await client.aclose()
    yield Finding(Verdict.FINE, "WeChat gives a token")
    if not settings.wechat_template_progress:
        yield Finding(
            Verdict.ODD,
            "JINCAI_WECHAT_TEMPLATE_PROGRESS is empty",
            "Residents are not told of progress by message.",
        )


def _wechat_advice(error: WeChatError) -> str:
    if isinstance(error, Misconfigured):
        return "Compare appid and secret with the console; is this machine's address on the list of allowed ones?"
    return "Is the way out to the internet open?"


async def _redis() -> AsyncIterator[Finding]:
    if not settings.redis_url:
        yield Finding(Verdict.FINE, "None: each process counts requests for itself")
        return
    client = Redis.from_url(settings.redis_url, socket_timeout=3, socket_connect_timeout=3)
    try:
        await client.ping()
    except (RedisError, OSError) as error:
        yield Finding(
            Verdict.ODD,
            f"Redis does not answer ({type(error).__name__})",
            "Rate limits are counted by each process for itself until it does.",
        )
    else:
        yield Finding(Verdict.FINE, "Redis answers")
    finally:
        await client.aclose()


async def _disk() -> AsyncIterator[Finding]:
    for title, folder in _folders().items():
        usage = shutil.disk_usage(folder)
        line = f"{title}: {usage.free / _GIB:.1f} GiB free in {folder}"
        if usage.free < _GIB / 4:
            yield Finding(Verdict.WRONG, line, "Make room now: a full disk refuses everything.")
        elif usage.free < 2 * _GIB or usage.free < usage.total / 20:
            yield Finding(Verdict.ODD, line, "Make room soon.")
        else:
            yield Finding(Verdict.FINE, line)


def _folders() -> dict[str, Path]:
    """The local folders that fill up, or the nearest one that exists."""
    folders = {}
    if settings.is_sqlite:
        folders["Database"] = Path(make_url(settings.database_url).database or ".").absolute().parent
    media = urlsplit(settings.media_location)
    if media.scheme == "file":
        folders["Pictures"] = Path(unquote(media.path))
    return {title: _existing(folder) for title, folder in folders.items()}


def _existing(folder: Path) -> Path:
    return next(path for path in (folder, *folder.parents) if path.is_dir())


_EXAMINATIONS: dict[str, Examination] = {
    "Settings": _settings,
    "Database": _database,
    "Content": _content,
    "Worker": _work,
    "Storage": _storage,
    "WeChat": _wechat,
    "Redis": _redis,
    "Disk": _disk,
}
