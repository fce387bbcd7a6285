"""`jincai demo-accounts`: who can sign in to the demo."""

import pyotp
from rich.table import Table
from sqlalchemy import select

from app import clock
from app.cli.console import out, run, say, stop
from app.cli.schema import require_head
from app.db import database
from app.models.organisations import Organisation
from app.models.regions import Region
from app.services.demo_accounts import ACCOUNTS, PASSWORD, TOTP_SECRET, Account, DemoRefused
from app.settings import settings


def list_accounts() -> None:
    """List who can sign in to the demo, with the TOTP code of this moment."""
    if settings.env != "dev":
        stop(DemoRefused.title_en)
    require_head()
    show_accounts(ACCOUNTS)


def show_accounts(accounts: tuple[Account, ...]) -> None:
    """Some of the demo's staff as a table, and what they sign in with."""
    names = run(_places())
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("User name", "Role", "Where", "TOTP"):
        table.add_column(title)
    for account in accounts:
        totp = "yes" if account.needs_totp else ""
        table.add_row(account.username, account.role.value, names.get(account.code, account.code), totp)
    out.print(table)
    code = pyotp.TOTP(TOTP_SECRET).at(clock.now())
    say(f"\nPassword of everybody: [bold]{PASSWORD}[/]")
    say(f"TOTP secret: [bold]{TOTP_SECRET}[/], code now: [bold]{code}[/] (each code works once per person)")


async def _places() -> dict[str, str]:
    """The names of regions and organisations by code."""
    async with database.reading() as session:
        names = {row.code: row.name_en for row in await session.execute(select(Region.code, Region.name_en))}
        rows = await session.execute(select(Organisation.code, Organisation.name_en))
        return names | {row.code: row.name_en for row in rows}
