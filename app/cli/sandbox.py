"""`jincai sandbox`: outside systems of their own, for development: WeChat, and the district platform."""

from typing import Annotated

import typer
import uvicorn

from app import clock
from app.cli.console import say, stop
from app.sandbox.credentials import (
    DEV_WEBHOOK_SECRET,
    SANDBOX_APPID,
    SANDBOX_PUSH_AES_KEY,
    SANDBOX_PUSH_TOKEN,
    SANDBOX_SECRET,
)
from app.sandbox.district import PORT, create_district
from app.sandbox.wechat import create_sandbox
from app.settings import settings

commands = typer.Typer(no_args_is_help=True)


@commands.command()
def wechat(
    port: Annotated[int, typer.Option(help="Port to listen on, at 127.0.0.1.")] = 8100,
    push_url: Annotated[
        str, typer.Option(help="Where to push verdicts to; empty pushes nothing.")
    ] = f"{settings.base_url}/v1/wechat/push",
) -> None:
    """Run the sandbox WeChat as a server of its own, so that several processes can share it."""
    _only_in_development()
    say("Start the service with:")
    say(f"  JINCAI_WECHAT_API_BASE=http://127.0.0.1:{port}")
    say(f"  JINCAI_WECHAT_APPID={SANDBOX_APPID}")
    say(f"  JINCAI_WECHAT_SECRET={SANDBOX_SECRET}")
    say(f"  JINCAI_WECHAT_PUSH_TOKEN={SANDBOX_PUSH_TOKEN}")
    say(f"  JINCAI_WECHAT_PUSH_AES_KEY={SANDBOX_PUSH_AES_KEY}")
    application = create_sandbox(push_url=push_url or None, clock=clock.now)
    uvicorn.run(application, host="127.0.0.1", port=port, log_level="warning", server_header=False)


@commands.command()
def district(
    port: Annotated[int, typer.Option(help="Port to listen on, at 127.0.0.1.")] = PORT,
    url: Annotated[str, typer.Option(help="The service that events are sent to.")] = settings.base_url,
) -> None:
    """Run the sandbox district platform: it receives webhooks at /hook, shows them at /, and sends events from /send."""
    _only_in_development()
    here = f"http://127.0.0.1:{port}"
    say(f"Look at {here}, and tell the story with: jincai demo")
    application = create_district(f"{url}/v1/sync/district/events", DEV_WEBHOOK_SECRET)
    uvicorn.run(application, host="127.0.0.1", port=port, log_level="warning", server_header=False)


def _only_in_development() -> None:
    if settings.env != "dev":
        stop("The sandbox is for development only (JINCAI_ENV=dev).")
