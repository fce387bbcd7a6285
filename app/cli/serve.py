"""`jincai serve` and `jincai worker`: the service, ready to be opened."""

import socket

from app import __version__, server
from app import worker as engine
from app.cli import schema
from app.cli.accounts import show_accounts
from app.cli.console import out, require_settings, run, say, stop, warn_of_second_writer
from app.clients.storage import Storage, StorageUnavailable
from app.models.staff import Role
from app.sandbox import district
from app.services.demo_accounts import ACCOUNTS, Account
from app.settings import settings


def serve() -> None:
    """Serve the API. In development it also makes the tables, fills in the demo community and says who can sign in."""
    require_settings()
    _require_storage()
    _require_free_port()
    _prepare()
    _announce()
    server.serve()


def worker() -> None:
    """Work in the background until stopped: events, deadlines, messages, exports. Any number may run."""
    require_settings()
    schema.require_head(or_away=True)
    schema.require_keys(or_away=True)
    warn_of_second_writer()
    say(f"Jincai Life {__version__}: working. Ctrl-C ends it after what is running.")
    engine.main()


def _require_storage() -> None:
    """The address must make sense; whether the place answers is what `/readyz` says."""
    try:
        Storage(settings.media_location).close()
    except ValueError as error:
        stop(f"JINCAI_MEDIA_URL: {error}")
    except StorageUnavailable as error:
        stop(f"JINCAI_MEDIA_URL: {error.detail('en')}")


def _require_free_port() -> None:
    """Now, before anything is prepared: what the server would say later is lost between its own lines."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        where = f"{settings.host}:{settings.port}"
        stop(f"Cannot listen on {where}: {error.strerror}. Choose others: JINCAI_HOST, JINCAI_PORT.")


def _prepare() -> None:
    if settings.is_sqlite or settings.env == "dev":
        schema.upgrade()
    else:
        schema.require_head(or_away=True)
    schema.require_keys(or_away=True)
    if settings.seed_demo and settings.env == "dev":
        with out.status("Filling in the demo community ..."):
            run(schema.fill(with_demo=True))


def _announce() -> None:
    say(f"[bold]Jincai Life {__version__}[/] at [bold]{settings.base_url}[/]\n")
    say(f"API documentation   {settings.base_url}/docs  and  {settings.base_url}/redoc")
    say(f"Health              {settings.base_url}/healthz  /readyz  /metrics")
    say(f"Database            {'SQLite' if settings.is_sqlite else 'PostgreSQL'}")
    say(f"Worker              {_WORKERS[settings.worker]}")
    say(f"WeChat              {'sandbox in this process' if settings.sandbox_wechat else 'as configured'}")
    if settings.env == "dev" and _is_listening(district.PORT):
        say(f"District platform   sandbox at http://127.0.0.1:{district.PORT}")
    warn_of_second_writer()
    if settings.seed_demo and settings.env == "dev":
        _announce_demo()
    say("\nCtrl-C stops the server.")


def _is_listening(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), _PROBE_SECONDS).close()
    except OSError:
        return False
    return True


_PROBE_SECONDS = 0.2
_WORKERS = {"embedded": "in this process", "external": "on its own: run `jincai worker`"}


def _announce_demo() -> None:
    say("\n[bold]Who can sign in[/]")
    if settings.sandbox_wechat:
        say("Residents: any WeChat code of the form demo:<name> makes a resident, for example")
        say(f"  curl -s {settings.base_url}/v1/sessions/wechat \\")
        say("    -H 'Content-Type: application/json' -d '{\"code\": \"demo:lin\"}'")
    say("Staff, for example (all of them: `.venv/bin/jincai demo-accounts`):\n")
    show_accounts(tuple(_examples()))


def _examples() -> list[Account]:
    """The first account of each role."""
    return [next(account for account in ACCOUNTS if account.role is role) for role in Role]
