"""`jincai staff`: the first accounts of a new deployment, and the way back in when nobody can sign in any more."""

from typing import Annotated
from uuid import UUID

import typer
from pydantic import ValidationError
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.auth import SYSTEM
from app.cli.console import require_settings, run, say, stop, warn_of_second_writer
from app.cli.schema import require_head, require_keys
from app.db import database
from app.models.organisations import Organisation
from app.models.regions import Region
from app.models.staff import Grant, Role, Staff
from app.schemas.staff import GrantCreate, GrantRead, StaffCreate, StaffCreated
from app.services import credentials, grants, staff

commands = typer.Typer(no_args_is_help=True)

Username = Annotated[str, typer.Argument(help="The user name.")]
RoleOption = Annotated[Role, typer.Option(help="What they are.")]
RegionCode = Annotated[str | None, typer.Option("--region", help="Code of the region that it holds in.")]
OrganisationCode = Annotated[
    str | None, typer.Option("--organisation", help="Code of the organisation, for department officers.")
]


@commands.command()
def add(
    username: Username,
    name: Annotated[str, typer.Option(help="The person's name.")],
    role: RoleOption,
    region: RegionCode = None,
    organisation: OrganisationCode = None,
) -> None:
    """Take somebody on. Prints the password that they must change when they first sign in."""
    _prepare()
    created = run(_add(username, name, role, region, organisation))
    say(f"{created.username} is {_shown(created.grants[0])}.")
    say(f"Temporary password, shown once: [bold]{created.temporary_password}[/]")


@commands.command()
def grant(
    username: Username, role: RoleOption, region: RegionCode = None, organisation: OrganisationCode = None
) -> None:
    """Give somebody a role, with effect on their next request."""
    _prepare()
    say(f"{username} is {_shown(run(_grant(username, role, region, organisation)))}.")


@commands.command()
def revoke(
    username: Username, role: RoleOption, region: RegionCode = None, organisation: OrganisationCode = None
) -> None:
    """Take a role from somebody, with effect on their next request."""
    _prepare()
    left = run(_revoke(username, role, region, organisation))
    say(f"{username} is no longer {role.value} there.")
    say(f"Still: {', '.join(map(_shown, left)) or 'nothing'}.")


def _prepare() -> None:
    require_settings()
    require_head()
    require_keys()
    warn_of_second_writer()


async def _add(
    username: str, name: str, role: Role, region: str | None, organisation: str | None
) -> StaffCreated:
    password = await credentials.new_password()
    async with database.transaction() as session:
        region_id, organisation_id = await _scope(session, region, organisation)
        try:
            order = StaffCreate(
                username=username,
                display_name=name,
                role=role,
                region_id=region_id,
                organisation_id=organisation_id,
            )
        except ValidationError as refused:
            stop(*(f"{error['loc'][0]}: {error['msg']}" for error in refused.errors(include_input=False)))
        return await staff.create(session, SYSTEM, order, password)


async def _grant(username: str, role: Role, region: str | None, organisation: str | None) -> GrantRead:
    async with database.transaction() as session:
        region_id, organisation_id = await _scope(session, region, organisation)
        order = GrantCreate(role=role, region_id=region_id, organisation_id=organisation_id)
        return await grants.grant(session, SYSTEM, await _staff_id(session, username), order)


async def _revoke(username: str, role: Role, region: str | None, organisation: str | None) -> list[GrantRead]:
    async with database.transaction() as session:
        region_id, organisation_id = await _scope(session, region, organisation)
        staff_id = await _staff_id(session, username)
        held = await session.scalar(
            select(Grant.id).where(
                Grant.staff_id == staff_id,
                Grant.role == role,
                Grant.region_id.is_not_distinct_from(region_id),
                Grant.organisation_id.is_not_distinct_from(organisation_id),
            )
        )
        if held is None:
            now = (await grants.held_by(session, [staff_id]))[staff_id]
            stop(f"{username} is not {role.value} there, but: {', '.join(map(_shown, now)) or 'nothing'}.")
        await grants.revoke(session, SYSTEM, staff_id, held)
        await session.flush()
        return (await grants.held_by(session, [staff_id]))[staff_id]


async def _staff_id(session: AsyncSession, username: str) -> UUID:
    staff_id = await session.scalar(select(Staff.id).where(Staff.username == username))
    if staff_id is None:
        stop(f"Nobody has the user name {username}.")
    return staff_id


async def _scope(
    session: AsyncSession, region: str | None, organisation: str | None
) -> tuple[UUID | None, UUID | None]:
    """The ids behind the codes."""
    if (region is None) == (organisation is None):
        stop("Give --region or --organisation, one of them.")
    found: list[UUID | None] = []
    for table, code in ((Region, region), (Organisation, organisation)):
        row_id = await session.scalar(select(table.id).where(table.code == code)) if code else None
        if code and row_id is None:
            stop(f"There is no {table.__name__.lower()} with the code {code}.")
        found.append(row_id)
    return found[0], found[1]


def _shown(held: GrantRead) -> str:
    place = held.region or held.organisation
    return f"{held.role.value} of {place.name_en} ({place.code})" if place else held.role.value
