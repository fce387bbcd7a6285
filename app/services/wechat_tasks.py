"""What WeChat's refusals mean to a task: later, or never."""

import contextlib
from collections.abc import Iterator

from app.clients.wechat_errors import Misconfigured, WeChatError
from app.leases import GiveUp, Retry

_MENDED_SECONDS = 600


@contextlib.contextmanager
def retried() -> Iterator[None]:
    """Turn an error inside the block into `Retry`, or `GiveUp` when asking again cannot help."""
    try:
        yield
    except WeChatError as error:
        failure = _failure(error)
    else:
        return
    # Outside the handler: a chained exception would carry what was sent.
    raise failure


def _failure(error: WeChatError) -> Retry | GiveUp:
    """A wrong setting is mended by somebody sooner or later; then what waited is done."""
    if isinstance(error, Misconfigured):
        return Retry(str(error), _MENDED_SECONDS)
    if error.retry_after is None:
        return GiveUp(str(error))
    return Retry(str(error), error.retry_after)
