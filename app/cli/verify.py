"""`jincai verify`: the invariants of everything stored."""

from typing import Annotated

import typer
from rich.markup import escape
from rich.progress import Progress, TaskID

from app.cli.console import progress, require_settings, run, say, stop
from app.cli.schema import require_head
from app.clients.storage import Storage
from app.db import database
from app.services import event_heads, verification
from app.services.verification import Result
from app.services.verification_checks import Advance, Check
from app.settings import settings

_SHOWN = 20


def verify(
    only: Annotated[
        list[str] | None, typer.Option(help="Only checks whose name begins so; may be repeated.")
    ] = None,
    head: Annotated[
        bool, typer.Option("--head", help="Only print the signed head of the events, to be kept elsewhere.")
    ] = False,
    since: Annotated[
        str | None, typer.Option(metavar="HEAD", help="A head that was kept: history must still contain it.")
    ] = None,
) -> None:
    """Look whether everything stored is as it must be, beside a running service. Exit code 1 when something is not."""
    require_settings()
    require_head()
    if head:
        say(run(_head()))
        return
    lost = run(_missing(since)) if since is not None else None
    if lost is not None:
        stop(lost)
    checks = [check for check in verification.CHECKS if not only or any(map(check.name.startswith, only))]
    if not checks:
        stop(f"No check is called so. There are: {', '.join(check.name for check in verification.CHECKS)}")
    results = run(_verify(checks))
    broken = [result for result in results if result.breaches]
    if broken:
        stop(f"{len(broken)} of {len(results)} invariants do not hold.")
    say(f"All {len(results)} invariants hold.")


async def _head() -> str:
    async with database.reading() as session:
        return await event_heads.current(session)


async def _missing(kept: str) -> str | None:
    async with database.reading() as session:
        return await event_heads.missing(session, kept)


async def _verify(checks: list[Check]) -> list[Result]:
    storage, results = Storage(settings.media_location), []
    try:
        with progress() as bars:
            async for result in verification.run(checks, storage, lambda check: _bar(bars, check)):
                _show(result)
                results.append(result)
    finally:
        storage.close()
    return results


def _bar(bars: Progress, check: Check) -> Advance:
    for task in bars.task_ids:
        bars.remove_task(task)
    bar: TaskID = bars.add_task(check.name, total=None)
    return lambda done, total: bars.update(bar, completed=done, total=total or None)


def _show(result: Result) -> None:
    mark = "[red]✘[/]" if result.breaches else "[green]✔[/]"
    say(f"{mark} {result.check.name}: {escape(result.check.promise)}")
    for breach in result.breaches[:_SHOWN]:
        say(f"    {escape(breach)}")
    if len(result.breaches) > _SHOWN:
        say(f"    … and {len(result.breaches) - _SHOWN} more")
