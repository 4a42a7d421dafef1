"""Trying a request to an object store again, for a bounded time, while the store is throttling, failing or away."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Final, TypeVar

SECONDS: Final = 120.0
"""How long a request is tried again after its first failure."""

_FIRST_PAUSE_SECONDS: Final = 0.2
_LONGEST_PAUSE_SECONDS: Final = 5.0
_DEFINITE: Final = (
    FileNotFoundError,
    FileExistsError,
    PermissionError,
    IsADirectoryError,
    NotADirectoryError,
)
# Of botocore, aiohttp, azure-core and gcsfs, which need not be installed.
_PASSING: Final = frozenset(
    {
        "ClientError",
        "ConnectionError",
        "HTTPClientError",
        "HttpError",
        "HttpResponseError",
        "ResponseParserError",
        "ServiceRequestError",
        "ServiceResponseError",
    }
)
_Result = TypeVar("_Result")


def patiently(action: Callable[[], _Result]) -> _Result:
    """Do what is safe to repeat, again and again while it fails in a way that may pass.

    The last error goes on when the time is over. An error that another try would not change goes on at once.
    """
    deadline: float | None = None
    pause = _FIRST_PAUSE_SECONDS
    while True:
        try:
            return action()
        except Exception as error:
            now = time.monotonic()
            deadline = now + SECONDS if deadline is None else deadline
            if not is_worth_another_try(error) or now + pause > deadline:
                raise
        time.sleep(pause * random.uniform(0.5, 1))  # noqa: S311 - so that many do not come back at once
        pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)


def is_worth_another_try(error: BaseException) -> bool:
    """Return whether a request that failed like this may succeed later."""
    if isinstance(error, OSError):
        return not isinstance(error, _DEFINITE)
    status = getattr(error, "code", None) or getattr(error, "status_code", None)
    if isinstance(status, int) and 400 <= status < 500 and status not in {408, 429}:
        return False
    return any(kind.__name__ in _PASSING for kind in type(error).__mro__)
