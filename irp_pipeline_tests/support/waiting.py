"""Waiting until something is true, with an end."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from irp_pipeline_tests.support.processes import Process

SECONDS = 300.0
"""How long a test waits for what another process or thread does: much more than it takes, since machines are shared."""


def wait_until(
    condition: Callable[[], object],
    what: str = "it comes true",
    process: "Process | None" = None,
    seconds: float = SECONDS,
) -> None:
    """Wait until a condition is true.

    Args:
        condition: asked again and again.
        what: what must become true, for the message.
        process: the process that makes it true; the test fails at once if it ends before.
        seconds: after this long the test fails.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        said = f" It said: {process.output}" if process is not None else ""
        assert process is None or process.is_running(), f"It ended before {what}.{said}"
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s in vain until {what}.{said}"
        time.sleep(0.02)
