"""Disks that fill up or take nothing: real small file systems where the machine lets us mount one, else limits."""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from tests.faults.programs import Program

_PAGE = 4096
_BALLAST = "ballast"


class Disk:
    """A folder with little room, to be filled and emptied."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextmanager
    def full(self, program: Program) -> Iterator[None]:
        """No room for `program` inside the block; on a machine without small disks, no room for it anywhere."""
        if not can_mount():
            program.limit_files(0)
            yield
            program.limit_files(None)
            return
        self._fill()
        yield
        (self.path / _BALLAST).unlink()

    @contextmanager
    def read_only(self) -> Iterator[None]:
        """It takes nothing inside the block; on a machine without small disks, it is not even a folder."""
        if can_mount():
            _mount("-o", "remount,ro", str(self.path))
            yield
            _mount("-o", "remount,rw", str(self.path))
            return
        aside = self.path.rename(self.path.with_suffix(".aside"))
        self.path.touch()
        yield
        self.path.unlink()
        aside.rename(self.path)

    def names(self) -> set[str]:
        """Every file in it, but for what fills it."""
        files = {str(path.relative_to(self.path)) for path in self.path.rglob("*") if path.is_file()}
        return files - {_BALLAST}

    def _fill(self) -> None:
        with (self.path / _BALLAST).open("wb", buffering=0) as ballast:
            try:
                while ballast.write(bytes(_PAGE)):
                    continue
            except OSError:
                return


@contextmanager
def disk(path: Path, size: str) -> Iterator[Disk]:
    """A file system in memory of `size`, such as `4m`, or just a folder where it cannot be had."""
    path.mkdir()
    if not can_mount():
        yield Disk(path)
        return
    with _mounted(path, size):
        yield Disk(path)


@cache
def can_mount() -> bool:
    """Whether this process may mount file systems: root on a machine of its own."""
    if os.geteuid() != 0:
        return False
    with tempfile.TemporaryDirectory() as folder:
        try:
            with _mounted(Path(folder), "64k"):
                return True
        except (OSError, subprocess.CalledProcessError):
            return False


@contextmanager
def _mounted(path: Path, size: str) -> Iterator[None]:
    _mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path))
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True, capture_output=True)
