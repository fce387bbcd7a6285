"""One storage, twice: everything that holds on a disk holds on S3, and each fails in its own ways."""

import asyncio
import http.client
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from app.clients.storage import ObjectExists, ObjectNotFound, Storage, StorageFull, StorageUnavailable

_ROOT = Path(__file__).parents[2]
_SMALL_FILES = "os.chmod(directory, 0o755); resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))"
_KEYS = "access_key_id=test&secret_access_key=test"


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """A server that speaks S3 on the loopback address, with the bucket `photos`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _create_bucket(port)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.kill()
        server.wait()


def _create_bucket(port: int) -> None:
    for _ in range(300):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("PUT", "/photos")
            assert connection.getresponse().status == 200
        except OSError:
            time.sleep(0.1)
        else:
            return
        finally:
            connection.close()
    raise AssertionError("the S3 server did not start")


@pytest.fixture(params=["disk", "s3", "s3 without conditional put"])
async def storage(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Storage]:
    if request.param == "disk":
        url = (tmp_path / "media").as_uri()
    else:
        endpoint = request.getfixturevalue("s3_endpoint")
        conditional = "false" if "without" in request.param else "true"
        url = f"s3://photos/{secrets.token_hex(4)}?endpoint={endpoint}&{_KEYS}&conditional_put={conditional}"
    opened = Storage(url)
    yield opened
    opened.close()


async def test_what_is_put_is_got(storage: Storage) -> None:
    data = secrets.token_bytes(1_500_000)
    await storage.put("ab/cd/picture.jpg", data)
    assert await storage.get("ab/cd/picture.jpg") == data
    chunks = [chunk async for chunk in await storage.stream("ab/cd/picture.jpg")]
    assert b"".join(chunks) == data
    assert max(map(len, chunks)) < len(data)
    assert await storage.exists("ab/cd/picture.jpg")
    await storage.check()


async def test_an_empty_object(storage: Storage) -> None:
    await storage.put("empty", b"")
    assert await storage.get("empty") == b""
    assert [chunk async for chunk in await storage.stream("empty")] == []


async def test_nothing_is_overwritten(storage: Storage) -> None:
    await storage.put("picture", b"first")
    with pytest.raises(ObjectExists):
        await storage.put("picture", b"second")
    assert await storage.get("picture") == b"first"


async def test_what_is_not_there(storage: Storage) -> None:
    assert not await storage.exists("nothing")
    with pytest.raises(ObjectNotFound):
        await storage.get("nothing")
    with pytest.raises(ObjectNotFound):
        await storage.stream("nothing")
    await storage.delete("nothing")


async def test_every_key_is_listed_with_its_age(storage: Storage) -> None:
    """More than one page of them."""
    assert await _listed(storage) == {}
    before = datetime.now(UTC) - timedelta(seconds=2)
    wanted = {f"media/{number % 7}/{number}.jpg" for number in range(60)}
    await asyncio.gather(*(storage.put(key, b"x") for key in wanted))
    listed = await _listed(storage)
    assert set(listed) == wanted
    assert all(before < stored_at < datetime.now(UTC) + timedelta(seconds=2) for stored_at in listed.values())


async def _listed(storage: Storage) -> dict[str, datetime]:
    everything = storage.keys()
    return {key: stored_at async for key, stored_at in everything}


async def test_deleted_is_gone(storage: Storage) -> None:
    await storage.put("a/picture", b"pixels")
    await storage.delete("a/picture")
    assert not await storage.exists("a/picture")
    await storage.put("a/picture", b"again")
    assert await storage.get("a/picture") == b"again"


@pytest.mark.parametrize(
    "key", ["", "../outside", "a/../../outside", "a/./b", "/a", "a//b", "a/", "nul\0byte", "图"]
)
async def test_a_key_cannot_leave_the_storage(storage: Storage, key: str) -> None:
    uses: list[Callable[[], Awaitable[object]]] = [
        lambda: storage.put(key, b"x"),
        lambda: storage.get(key),
        lambda: storage.stream(key),
        lambda: storage.exists(key),
        lambda: storage.delete(key),
    ]
    for use in uses:
        with pytest.raises(ValueError, match="not a key"):
            await use()


@pytest.mark.parametrize("kind", ["disk", "s3"])
async def test_of_twenty_writers_one_wins(kind: str, tmp_path: Path, s3_endpoint: str) -> None:
    url = tmp_path.as_uri() if kind == "disk" else f"s3://photos/race?endpoint={s3_endpoint}&{_KEYS}"
    storage = Storage(url)
    outcomes = await asyncio.gather(
        *(storage.put("one", bytes([number]) * 50_000) for number in range(20)), return_exceptions=True
    )
    winners = [number for number, outcome in enumerate(outcomes) if outcome is None]
    assert len(winners) == 1
    assert sum(isinstance(outcome, ObjectExists) for outcome in outcomes) == 19
    assert await storage.get("one") == bytes(winners) * 50_000
    storage.close()


async def test_a_reader_never_sees_half_a_file(tmp_path: Path) -> None:
    storage, data = Storage(tmp_path.as_uri()), secrets.token_bytes(8_000_000)
    for key in ("one", "two", "three"):
        writing = asyncio.create_task(storage.put(key, data))
        while not writing.done():
            await asyncio.sleep(0)
            if (tmp_path / key).exists():
                assert (tmp_path / key).stat().st_size == len(data)
    assert names_in(tmp_path) == ["one", "three", "two"]
    storage.close()


def test_a_new_directory_is_private(tmp_path: Path) -> None:
    Storage((tmp_path / "a" / "media").as_uri()).close()
    assert (tmp_path / "a" / "media").stat().st_mode & 0o077 == 0


def names_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


async def fill(storage: Storage) -> None:
    for number in range(100):
        try:
            await storage.put(f"crumb-{number}", b"c" * 4096)
        except StorageFull:
            return
    raise AssertionError("a hundred crumbs fitted")


@contextmanager
def small_disk(path: Path) -> Iterator[bool]:
    """A file system of 256 KiB where the machine lets us mount one."""
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(path)]
    mounted = os.geteuid() == 0 and subprocess.run(command, capture_output=True).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", str(path)], check=True)


async def test_a_full_disk_is_said_and_heals(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as mounted:
        if not mounted:
            assert limited_to(_SMALL_FILES).split() == ["StorageFull", "done", "False"]
            return
        storage = Storage((tmp_path / "disk").as_uri())
        await storage.put("first", b"a" * 200_000)
        with pytest.raises(StorageFull) as full:
            await storage.put("second", b"b" * 100_000)
        assert full.value.status == 503
        assert full.value.code == "storage_full"
        assert full.value.retry_after
        assert names_in(tmp_path / "disk") == ["first"]
        assert await storage.get("first") == b"a" * 200_000
        await storage.delete("first")
        await storage.put("second", b"b" * 100_000)
        await fill(storage)
        with pytest.raises(StorageFull):
            await storage.check()
        storage.close()


def limited_to(limit: str) -> str:
    """What becomes of one put of 300,000 bytes, of a check, and of the directory, in a process with a limit."""
    program = f"""
        import asyncio, os, resource
        from app.clients.storage import Storage

        async def attempt(call):
            try:
                await call
            except Exception as error:
                return type(error).__name__
            return "done"

        async def main():
            directory = os.environ["DIRECTORY"]
            storage = Storage("file://" + directory)
            {limit}
            print(await attempt(storage.put("a/picture", bytes(300_000))), await attempt(storage.check()))
            print(os.path.exists(directory + "/a/picture"))

        asyncio.run(main())
    """
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o555)
        ran = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(program)],
            capture_output=True,
            text=True,
            cwd=_ROOT,
            env={**os.environ, "DIRECTORY": directory},
        )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_a_file_size_limit_is_a_full_disk() -> None:
    assert limited_to(_SMALL_FILES).split() == ["StorageFull", "done", "False"]


def test_a_read_only_directory_is_unavailable() -> None:
    """As nobody where we are root, whom permissions do not stop."""
    limit = "os.geteuid() == 0 and os.setuid(65534)"
    assert limited_to(limit).split() == ["StorageUnavailable", "StorageUnavailable", "False"]


async def test_a_file_in_the_place_of_a_directory_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(StorageUnavailable):
        Storage((tmp_path / "file" / "media").as_uri())
    storage = Storage(tmp_path.as_uri())
    with pytest.raises(StorageUnavailable) as failed:
        await storage.put("file/picture", b"x")
    assert failed.value.status == 503
    storage.close()


async def test_a_directory_taken_away_fails_and_heals(tmp_path: Path) -> None:
    media = tmp_path / "media"
    storage = Storage(media.as_uri())
    await storage.put("a", b"x")
    shutil.rmtree(media)
    with pytest.raises(ObjectNotFound):
        await storage.get("a")
    media.write_bytes(b"in the way")
    with pytest.raises(StorageUnavailable):
        await storage.check()
    media.unlink()
    media.mkdir()
    await storage.check()
    storage.close()


async def test_a_missing_bucket_is_unavailable(s3_endpoint: str) -> None:
    storage = Storage(f"s3://nowhere?endpoint={s3_endpoint}&{_KEYS}")
    with pytest.raises(StorageUnavailable):
        await storage.check()
    with pytest.raises(StorageUnavailable):
        await storage.put("a", b"x")
    with pytest.raises(StorageUnavailable):
        await storage.get("a")
    storage.close()


async def test_a_dead_endpoint_is_unavailable_at_once() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        storage = Storage(f"s3://photos?endpoint=http://127.0.0.1:{closed.getsockname()[1]}&{_KEYS}")
        started = time.monotonic()
        for call in (storage.put("a", b"x"), storage.get("a"), storage.exists("a"), storage.delete("a")):
            with pytest.raises(StorageUnavailable) as dead:
                await call
            assert dead.value.code == "storage_unavailable"
            assert dead.value.retry_after
        assert time.monotonic() - started < 4
    storage.close()


@pytest.mark.slow
async def test_a_silent_endpoint_is_given_up_and_nothing_else_waits() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        storage = Storage(f"s3://photos?endpoint=http://127.0.0.1:{silent.getsockname()[1]}&{_KEYS}")
        started = time.monotonic()
        calls = asyncio.gather(
            storage.put("a", b"x"),
            storage.get("a"),
            storage.exists("a"),
            storage.check(),
            return_exceptions=True,
        )
        longest, last = 0.0, time.monotonic()
        while not calls.done():
            await asyncio.sleep(0.01)
            longest, last = max(longest, time.monotonic() - last), time.monotonic()
        assert all(isinstance(outcome, StorageUnavailable) for outcome in calls.result())
        assert time.monotonic() - started < 8
        assert longest < 0.5
    storage.close()


def answer_once(server: socket.socket, requests: list[str]) -> None:
    connection, _ = server.accept()
    with connection:
        requests.append(connection.recv(65536).decode())
        connection.sendall(b'HTTP/1.1 200 OK\r\nETag: "1"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n')


@pytest.mark.parametrize("addressing", ["path", "virtual"])
async def test_how_the_bucket_is_addressed(addressing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through a proxy, which sees the whole address without the name having to exist; keys from the environment."""
    requests: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{server.getsockname()[1]}")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "from-environment")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        proxy = threading.Thread(target=answer_once, args=(server, requests))
        proxy.start()
        storage = Storage(
            f"s3://photos?endpoint=http://oss-cn-chengdu.invalid&region=oss-cn-chengdu&addressing={addressing}"
        )
        await storage.put("ab/picture", b"pixels")
        proxy.join()
        storage.close()
    (request,) = requests
    host = "photos.oss-cn-chengdu.invalid/" if addressing == "virtual" else "oss-cn-chengdu.invalid/photos/"
    assert request.startswith(f"PUT http://{host}ab/picture HTTP/1.1\r\n")
    assert re.search(r"(?im)^if-none-match: \*\r$", request)
    assert "Credential=from-environment/" in request
    assert "/oss-cn-chengdu/s3/" in request


@pytest.mark.parametrize(
    "url",
    [
        "",
        "media",
        "/var/media",
        "file:media",
        "file://host/media",
        "http://host/bucket",
        "s3://",
        "s3:///prefix",
        "s3://photos?endpint=http://127.0.0.1",
        "s3://photos?addressing=magic",
        "s3://photos?conditional_put=perhaps",
        "s3://photos?endpoint",
    ],
)
def test_a_wrong_url_is_refused_at_the_start(url: str) -> None:
    with pytest.raises(ValueError, match=r"MEDIA_URL|bad query"):
        Storage(url)


async def test_what_was_left_half_way_is_found_and_taken_away(tmp_path: Path) -> None:
    """Files that the store neither lists nor deletes; not what is being written, nor anything that is whole."""
    storage = Storage(tmp_path.as_uri())
    await storage.put("ab/whole.jpg", b"pixels")
    await storage.check()
    old, young = {"ab/half.jpg#1", "ab/half.jpg#12", "readiness/0a1b"}, {"ab/now.jpg#1"}
    for path in old | young:
        (tmp_path / path).write_bytes(b"half of the pixels")
    for path in old | {"ab/whole.jpg"}:
        os.utime(tmp_path / path, (1_000, 1_000))
    assert {path async for path, _ in storage.leftovers()} == old | young
    before = datetime.now(UTC) - timedelta(minutes=1)
    assert {path async for path, written_at in storage.leftovers() if written_at < before} == old
    assert [await storage.clear(before), await storage.clear(before)] == [3, 0]
    assert {path async for path, _ in storage.leftovers()} == young
    assert await storage.get("ab/whole.jpg") == b"pixels"
    storage.close()
