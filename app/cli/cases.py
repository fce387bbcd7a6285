"""`jincai case`: a whole case into a file, and files with cases into this service."""

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer
from pydantic import ValidationError

from app.auth import SYSTEM
from app.bodies import parse_json
from app.cli.console import require_settings, run, say, stop, warn_of_second_writer
from app.cli.schema import require_head
from app.db import database
from app.errors import Problem
from app.outside import outside
from app.schemas.cases import CaseDocument, CaseImported, CaseMedia
from app.services import case_documents, case_imports, media

commands = typer.Typer(no_args_is_help=True)

_LARGEST_PICTURE = 10 * 1024 * 1024
Find = Callable[[str], bytes | None]
"""The content of a file by its name; None when there is none."""


@commands.command("export")
def export_case(
    hazard_id: Annotated[UUID, typer.Argument(help="The id of the hazard.")],
    consent_basis: Annotated[
        str | None,
        typer.Option(help="On which legal basis words and pictures are handed over; else they are left out."),
    ] = None,
    media_folder: Annotated[
        Path | None, typer.Option("--media", help="A folder to write the pictures to.")
    ] = None,
) -> None:
    """Print one case as a document, with everything that happened to it."""
    _prepare()
    document, pictures = run(_export(hazard_id, consent_basis, media_folder is not None))
    if media_folder is not None:
        media_folder.mkdir(parents=True, exist_ok=True)
        for name, content in pictures.items():
            (media_folder / name).write_bytes(content)
    typer.echo(document.model_dump_json(indent=2))


@commands.command("import")
def import_cases(
    files: Annotated[list[Path], typer.Argument(exists=True, dir_okay=False, help="Documents.")],
    media_from: Annotated[
        Path | None,
        typer.Option(
            "--media",
            exists=True,
            help="A folder or zip file with the pictures, named by their ids; else they are fetched.",
        ),
    ] = None,
) -> None:
    """Take cases in, each whole or not at all. Exit code 1 at the first one that is refused."""
    _prepare()
    warn_of_second_writer()
    for document in _in_order([_read(file) for file in files]):
        answer = run(_import(document, _finder(media_from)))
        say(
            f"{answer.hazard_id}: {answer.result}, {answer.events} events, {answer.comments} comments, "
            f"{answer.pictures} pictures"
        )


def _prepare() -> None:
    require_settings()
    require_head()


def _read(file: Path) -> CaseDocument:
    try:
        return CaseDocument.model_validate(parse_json(file.read_bytes()))
    except Problem:
        stop(f"{file} is not readable JSON.")
    except ValidationError as refused:
        faults = [f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in refused.errors()[:20]]
        stop(f"{file} is not a case document.", *faults)


def _in_order(documents: list[CaseDocument]) -> list[CaseDocument]:
    """A case that was merged into another one comes behind it."""
    waiting, ordered = documents, []
    while waiting:
        ids = {document.case.id for document in waiting}
        ready = [document for document in waiting if document.case.merged_into not in ids]
        # Only documents that contradict each other wait for each other; they are refused in their turn.
        ordered += ready or waiting
        waiting = [document for document in waiting if ready and document not in ready]
    return ordered


async def _export(
    hazard_id: UUID, basis: str | None, with_pictures: bool
) -> tuple[CaseDocument, dict[str, bytes]]:
    async with database.transaction() as session:
        document = await case_documents.export(session, SYSTEM, hazard_id, basis)
    pictures = {}
    if with_pictures:
        async with outside.opened():
            for picture in document.media:
                main, _ = media.storage_keys(picture.id)
                pictures[_name_of(picture)] = await outside.storage.get(main)
    return document, pictures


async def _import(document: CaseDocument, find: Find) -> CaseImported:
    async def picture(wanted: CaseMedia) -> bytes | None:
        return find(_name_of(wanted)) or await case_imports.fetched(wanted)

    async with outside.opened():
        return await case_imports.run(SYSTEM, document, picture)


def _name_of(picture: CaseMedia) -> str:
    return f"{picture.id}.jpg"


def _finder(place: Path | None) -> Find:
    def in_folder(name: str) -> bytes | None:
        file = Path(place or "", name)
        return file.read_bytes() if place is not None and file.is_file() else None

    def in_archive(name: str) -> bytes | None:
        with zipfile.ZipFile(str(place)) as archive:
            inside = next((each for each in archive.infolist() if Path(each.filename).name == name), None)
            if inside is None or inside.file_size > _LARGEST_PICTURE:
                return None
            return archive.read(inside)

    return in_archive if place is not None and place.is_file() else in_folder
