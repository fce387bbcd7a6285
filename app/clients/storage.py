"""Where pictures and exports are kept: a directory or an S3 bucket, behind one small asynchronous class."""

import asyncio
import errno
import os
import re
import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import LocalStore, S3Store

from app.errors import Conflict, NotFound, Unavailable

if TYPE_CHECKING:
    from obstore.store import S3Config

T = TypeVar("T")

_THREADS = 8
_DEADLINE_SECONDS = 10.0
_CHECK_SECONDS = 4.0
_RETRY_AFTER_SECONDS = 10
_CHUNK_BYTES = 256 * 1024
_S3_PARAMETERS = {
    "endpoint",
    "region",
    "addressing",
    "conditional_put",
    "access_key_id",
    "secret_access_key",
    "session_token",
}
# No part starts with a dot, so no key leads out of the storage.
_KEY = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)*", re.ASCII)
_CHECKED = "readiness"
# What the store calls a file that it has not finished yet: it neither lists nor deletes one.
_STAGED = re.compile(r".+#[0-9]+")
_OS_ERROR = re.compile(r"\(os error (\d+)\)")
_FULL_ERRNOS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_S3_FULL = re.compile(r"507 Insufficient Storage|XMinioStorageFull|QuotaExceeded")


class StorageUnavailable(Unavailable):
    """The directory or bucket cannot be used now; the cause is chained."""

    code = "storage_unavailable"
    title_en, title_zh = "File storage is temporarily unavailable", "文件存储暂时不可用"


class StorageFull(StorageUnavailable):
    """No room is left for another object; reading still works."""

    code = "storage_full"
    title_en, title_zh = "File storage is full", "文件存储空间已满"


class ObjectNotFound(NotFound):
    """Nothing is stored under this key."""


class ObjectExists(Conflict):
    """Something is stored under this key already; objects are never overwritten."""

    code = "object_exists"
    title_en, title_zh = "The object already exists", "对象已存在"


class Storage:
    """Objects by key, written once and whole.

    `url` is `file:///directory` or
    `s3://bucket[/prefix]?endpoint=&region=&addressing=path|virtual&conditional_put=true|false`, with
    `access_key_id`, `secret_access_key` and `session_token` there or, better, in the usual `AWS_…` variables.
    `conditional_put=false` is for services that refuse `If-None-Match` (Alibaba OSS does, with 501).
    A wrong URL raises ValueError, as does a key that is not letters, digits and `-_.` in parts between slashes; a
    directory that cannot be made raises StorageUnavailable.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._directory: Path | None = None
        self._conditional_put = True
        self._store: LocalStore | S3Store
        if parts.scheme == "file":
            self._directory = _directory(parts)
            self._store = LocalStore(self._directory)
        elif parts.scheme == "s3":
            query = _s3_query(parts)
            self._conditional_put = query.get("conditional_put", "true") == "true"
            self._store = _bucket(parts, query)
        else:
            raise ValueError("MEDIA_URL must start with file:/// or s3://")
        # Threads and the library's blocking calls, not its asyncio ones: those abort the interpreter when it
        # exits soon after a call that failed or was cancelled.
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="storage")

    async def put(self, key: str, data: bytes) -> None:
        """Store a new object; when this returns it is on the disk, or acknowledged by the bucket.

        Raises ObjectExists, StorageFull, StorageUnavailable.
        """
        await self._on(key, lambda: self._put(key, data))

    async def get(self, key: str) -> bytes:
        """The whole object. Raises ObjectNotFound, StorageUnavailable."""
        return await self._on(key, lambda: self._get(key))

    async def stream(self, key: str) -> AsyncIterator[bytes]:
        """The object in chunks, found before this returns. Raises ObjectNotFound, StorageUnavailable."""
        chunks = await self._on(key, lambda: self._open(key))
        return self._chunks(chunks)

    async def exists(self, key: str) -> bool:
        """Whether something is stored under the key. Raises StorageUnavailable."""
        return await self._on(key, lambda: self._exists(key))

    async def delete(self, key: str) -> None:
        """Remove the object; one that is gone already is fine. Raises StorageUnavailable."""
        await self._on(key, lambda: self._delete(key))

    async def keys(self) -> AsyncIterator[tuple[str, datetime]]:
        """Every key with the time its object was stored, in no order. Raises StorageUnavailable."""
        pages = await self._run(self._list)
        while page := await self._run(lambda: _next_page(pages)):
            for key in page:
                yield key

    async def leftovers(self) -> AsyncIterator[tuple[str, datetime]]:
        """What a process that was killed left half way, with its time, in no order; a bucket keeps nothing such.

        What is being written now is among it: look at the time. Raises StorageUnavailable.
        """
        folders = self._walk()
        while (found := await self._run(lambda: _next_folder(folders))) is not None:
            for leftover in found:
                yield leftover

    async def clear(self, before: datetime) -> int:
        """Remove leftovers that are older; how many. Raises StorageUnavailable."""
        old = [path async for path, written_at in self.leftovers() if written_at < before]
        for path in old:
            await self._run(partial(self._remove, path))
        return len(old)

    async def check(self) -> None:
        """For readiness: write and remove a small file, or list the bucket.

        Raises StorageFull or StorageUnavailable.
        """
        await self._run(self._check, _CHECK_SECONDS)

    def close(self) -> None:
        """Let the threads go; calls that wait in line are dropped."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _on(self, key: str, call: Callable[[], T]) -> T:
        if not _KEY.fullmatch(key):
            raise ValueError(f"not a key of the storage: {key!r}")
        return await self._run(call)

    async def _run(self, call: Callable[[], T], deadline: float = _DEADLINE_SECONDS) -> T:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(deadline):
                return await loop.run_in_executor(self._threads, call)
        except TimeoutError as late:
            raise StorageUnavailable(retry_after=_RETRY_AFTER_SECONDS) from late

    async def _chunks(self, chunks: Iterator[bytes]) -> AsyncIterator[bytes]:
        while chunk := await self._run(lambda: _next(chunks)):
            yield chunk

    def _put(self, key: str, data: bytes) -> None:
        with _typed_errors():
            if self._conditional_put:
                self._store.put(key, data, mode="create", use_multipart=False)
            elif self._exists(key):
                raise ObjectExists
            else:
                self._store.put(key, data, use_multipart=False)
            if self._directory is not None:
                _flush(self._directory, key)

    def _get(self, key: str) -> bytes:
        with _typed_errors():
            return bytes(self._store.get(key).bytes())

    def _open(self, key: str) -> Iterator[bytes]:
        with _typed_errors():
            return iter(self._store.get(key).stream(min_chunk_size=_CHUNK_BYTES))

    def _exists(self, key: str) -> bool:
        try:
            with _typed_errors():
                self._store.head(key)
        except ObjectNotFound:
            return False
        return True

    def _delete(self, key: str) -> None:
        try:
            with _typed_errors():
                if self._directory is not None:
                    # What a put that was killed half way had written: the store neither lists nor deletes it.
                    (self._directory / f"{key}#1").unlink(missing_ok=True)
                self._store.delete(key)
        except ObjectNotFound:
            return

    def _list(self) -> Iterator[list[tuple[str, datetime]]]:
        for page in self._store.list():
            yield [(meta["path"], meta["last_modified"]) for meta in page]

    def _walk(self) -> Iterator[list[tuple[str, datetime]]]:
        if self._directory is None:
            return
        for folder, _, names in os.walk(self._directory, onerror=_raise):
            checked = Path(folder) == self._directory / _CHECKED
            paths = [Path(folder, name) for name in names if checked or _STAGED.fullmatch(name)]
            yield [
                (path.relative_to(self._directory).as_posix(), written_at)
                for path in paths
                if (written_at := _written_at(path)) is not None
            ]

    def _remove(self, path: str) -> None:
        if self._directory is not None:
            with _typed_errors():
                (self._directory / path).unlink(missing_ok=True)

    def _check(self) -> None:
        key = f"{_CHECKED}/{secrets.token_hex(8)}"
        with _typed_errors():
            if self._directory is None:
                self._store.list_with_delimiter(key)
            else:
                self._store.put(key, b"ready", mode="create")
                self._store.delete(key)


def _next(chunks: Iterator[bytes]) -> bytes:
    with _typed_errors():
        return next(chunks, b"")


def _next_page(pages: Iterator[list[tuple[str, datetime]]]) -> list[tuple[str, datetime]]:
    with _typed_errors():
        return next(pages, [])


def _next_folder(folders: Iterator[list[tuple[str, datetime]]]) -> list[tuple[str, datetime]] | None:
    with _typed_errors():
        return next(folders, None)


def _written_at(path: Path) -> datetime | None:
    """None when it was finished or removed meanwhile."""
    try:
        return datetime.fromtimestamp(path.stat().st_mtime, UTC)
    except FileNotFoundError:
        return None


def _raise(failure: OSError) -> None:
    raise failure


@contextmanager
def _typed_errors() -> Iterator[None]:
    try:
        yield
    except AlreadyExistsError as error:
        raise ObjectExists from error
    except (BaseError, OSError) as error:
        raise _typed(error) from error


def _typed(error: Exception) -> ObjectNotFound | StorageUnavailable:
    text = str(error)
    if isinstance(error, FileNotFoundError) and "NoSuchBucket" not in text:
        return ObjectNotFound()
    numbers = {int(number) for number in _OS_ERROR.findall(text)} | {getattr(error, "errno", None)}
    if numbers & _FULL_ERRNOS or _S3_FULL.search(text):
        return StorageFull(retry_after=_RETRY_AFTER_SECONDS)
    return StorageUnavailable(retry_after=_RETRY_AFTER_SECONDS)


def _flush(directory: Path, key: str) -> None:
    """Make a new file and its name survive a power cut: the store leaves both in the cache."""
    path = Path(key)
    for target in (path, *path.parents):
        descriptor = os.open(directory / target, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _directory(parts: SplitResult) -> Path:
    path = Path(unquote(parts.path))
    if parts.netloc not in ("", "localhost") or not path.is_absolute() or parts.query:
        raise ValueError("MEDIA_URL for a directory is file:///absolute/path")
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StorageUnavailable(f"{path} cannot be created", f"无法创建目录 {path}") from error
    return path


def _s3_query(parts: SplitResult) -> dict[str, str]:
    query = dict(parse_qsl(parts.query, strict_parsing=True)) if parts.query else {}
    if unknown := sorted(set(query) - _S3_PARAMETERS):
        raise ValueError(f"MEDIA_URL has unknown parameters: {', '.join(unknown)}")
    if not parts.netloc:
        raise ValueError("MEDIA_URL for S3 is s3://bucket")
    if query.get("addressing", "path") not in ("path", "virtual"):
        raise ValueError("MEDIA_URL: addressing is path or virtual")
    if query.get("conditional_put", "true") not in ("true", "false"):
        raise ValueError("MEDIA_URL: conditional_put is true or false")
    return query


def _bucket(parts: SplitResult, query: dict[str, str]) -> S3Store:
    bucket, virtual = parts.netloc, query.get("addressing") == "virtual"
    endpoint = query.get("endpoint", "")
    config: S3Config = {"virtual_hosted_style_request": virtual, "disable_bulk_delete": True}
    for name in ("region", "access_key_id", "secret_access_key", "session_token"):
        if name in query:
            config[name] = query[name]
    if endpoint:
        config["endpoint"] = _with_bucket(endpoint, bucket) if virtual else endpoint
    return S3Store(
        bucket,
        prefix=parts.path.strip("/") or None,
        config=config,
        client_options={
            "allow_http": endpoint.startswith("http://"),
            "connect_timeout": timedelta(seconds=1.5),
            "read_timeout": timedelta(seconds=4),
            "timeout": timedelta(seconds=30),
        },
        retry_config={"max_retries": 1, "retry_timeout": timedelta(seconds=3)},
    )


def _with_bucket(endpoint: str, bucket: str) -> str:
    parts = urlsplit(endpoint)
    host = parts.netloc if parts.netloc.startswith(f"{bucket}.") else f"{bucket}.{parts.netloc}"
    return parts._replace(netloc=host).geturl()
