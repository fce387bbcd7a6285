"""`jincai sandbox wechat`: an emulated api.weixin.qq.com of its own, for development."""

from typing import Annotated

import typer
import uvicorn

from app import clock
from app.cli.console import say, stop
from app.sandbox.credentials import (
    SANDBOX_APPID,
    SANDBOX_PUSH_AES_KEY,
    SANDBOX_PUSH_TOKEN,
    SANDBOX_SECRET,
)
from app.sandbox.wechat import create_sandbox
from app.settings import settings

commands = typer.Typer(no_args_is_help=True)


@commands.callback()
def _only_a_group() -> None:
    """Keeps `wechat` a command of its own while it is the only one."""


@commands.command()
def wechat(
    port: Annotated[int, typer.Option(help="Port to listen on, at 127.0.0.1.")] = 8100,
    push_url: Annotated[
        str, typer.Option(help="Where to push verdicts to; empty pushes nothing.")
    ] = f"{settings.base_url}/v1/wechat/push",
) -> None:
    """Run the sandbox WeChat as a server of its own, so that several processes can share it."""
    if settings.env != "dev":
        stop("The sandbox is for development only (JINCAI_ENV=dev).")
    say("Start the service with:")
    say(f"  JINCAI_WECHAT_API_BASE=http://127.0.0.1:{port}")
    say(f"  JINCAI_WECHAT_APPID={SANDBOX_APPID}")
    say(f"  JINCAI_WECHAT_SECRET={SANDBOX_SECRET}")
    say(f"  JINCAI_WECHAT_PUSH_TOKEN={SANDBOX_PUSH_TOKEN}")
    say(f"  JINCAI_WECHAT_PUSH_AES_KEY={SANDBOX_PUSH_AES_KEY}")
    application = create_sandbox(push_url=push_url or None, clock=clock.now)
    uvicorn.run(application, host="127.0.0.1", port=port, log_level="warning", server_header=False)
