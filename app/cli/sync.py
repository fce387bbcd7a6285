"""`jincai sync`: how the exchange with the district platform stands, where the two sides differ, and another try."""

from datetime import date, datetime
from typing import Annotated

import typer
from rich.markup import escape

from app.cli.console import require_settings, run, say, stop, warn
from app.cli.schema import require_head
from app.db import database
from app.schemas.sync import DriftReport, OurWatermarks
from app.services import sync, sync_status, watermarks
from app.services.sync_status import EndpointState, NumbersState

commands = typer.Typer(no_args_is_help=True)

_SHOWN = 20


@commands.command()
def status() -> None:
    """What came in, what waits and why, and how each receiver of ours does."""
    _prepare()
    received, waiting, numbers, receivers = run(_status())
    say("Received from the district: " + _counts(received))
    for case, number, kind, reason in waiting:
        say(f"    waits: case {escape(case)} number {number} {kind}: {escape(reason) or 'being applied'}")
    _show_numbers(numbers)
    _show_receivers(receivers)


@commands.command()
def reconcile(
    day: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="A business day; the latest if left out.")
    ] = None,
) -> None:
    """Show the comparison of a day with the district's numbers, case by case. Exit code 1 when they differ."""
    _prepare()
    report, ours = run(_reconcile(None if day is None else day.date()))
    if ours is not None:
        for mine in ours.communities:
            say(f"{mine.region_code}: {mine.count} cases, {mine.checksum}")
    if report is None:
        stop("The district has sent no numbers for this day.")
    _show(report)
    if not report.same:
        stop(f"{sum(not each.same for each in report.communities)} communities differ on {report.day}.")
    say(f"Both sides have the same on {report.day}.")


@commands.command()
def replay() -> None:
    """Apply what waited and can be applied by now."""
    _prepare()
    say(f"Applied {run(_replay())} events of the district.")


def _prepare() -> None:
    require_settings()
    require_head()


async def _status() -> tuple[
    dict[str, int], list[tuple[str, int, str, str]], NumbersState, list[EndpointState]
]:
    async with database.reading() as session:
        return (
            await sync_status.inbound(session),
            await sync.parked(session, _SHOWN),
            await sync_status.numbers(session),
            await sync_status.outbound(session),
        )


async def _reconcile(day: date | None) -> tuple[DriftReport | None, OurWatermarks | None]:
    async with database.reading() as session:
        report = await watermarks.latest(session, day)
        wanted = day or (report.day if report else None)
        return report, await watermarks.everywhere(session, wanted) if wanted else None


async def _replay() -> int:
    async with database.transaction() as session:
        return await sync.replay(session)


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{number} {status}" for status, number in sorted(counts.items())) or "nothing"


def _show_numbers(numbers: NumbersState) -> None:
    if numbers.day is not None:
        say(f"Its last numbers are of {numbers.day}, received at {numbers.received_at:%Y-%m-%d %H:%M:%S} UTC")
    for day in numbers.missing:
        warn(f"The district has sent no numbers of {day}")


def _show_receivers(receivers: list[EndpointState]) -> None:
    for receiver in receivers:
        say(f"Sent to {escape(receiver.name)} ({receiver.status}): {_counts(receiver.counts)}")
        if receiver.oldest is not None:
            say(f"    the oldest that waits was queued at {receiver.oldest:%Y-%m-%d %H:%M:%S} UTC")
        if receiver.disabled_at is not None:
            since = f"{receiver.disabled_at:%Y-%m-%d %H:%M:%S} UTC"
            warn(f"{receiver.name} is disabled: nothing is queued for it since {since}")
        if receiver.failing_since is not None:
            warn(f"{receiver.name} has failed since {receiver.failing_since:%Y-%m-%d %H:%M:%S} UTC")


def _show(report: DriftReport) -> None:
    for each in report.communities:
        if each.same:
            continue
        say(f"{escape(each.region_code)}: ours {each.ours}, theirs {each.theirs}")
        for what, cases in (
            ("only there", each.missing_here),
            ("only here", each.missing_there),
            ("another status", each.differing),
        ):
            for case in cases:
                say(f"    {what}: {escape(case)}")
