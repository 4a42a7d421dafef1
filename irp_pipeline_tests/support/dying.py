"""A driver that counts the statements of a process and kills it, by SIGKILL, before or after the n-th."""

import os
import signal
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from irp_pipeline.postgres import cursors, transactions


def dies(work: Callable[[], object], point: int, also: Sequence[tuple[Any, str]] = ()) -> bool:
    """Do work in a child of this process that kills itself at a point.

    Args:
        work: what the child does.
        point: from 1. The points are before and after each message to the server.
        also: functions before and after whose calls there are points too, each as its owner and its name.

    Returns:
        Whether the child died; it did not if it was done before it came to that point.
    """
    child = os.fork()
    if child == 0:
        status = 1
        try:
            _die_at(point, also)
            work()
            status = 0
        finally:
            os._exit(status)
    ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert ended in {0, -signal.SIGKILL}, "the work failed in another way"
    return ended != 0


def _die_at(point: int, also: Sequence[tuple[Any, str]]) -> None:
    passed = 0

    def pass_point() -> None:
        nonlocal passed
        passed += 1
        if passed == point:
            os.kill(os.getpid(), signal.SIGKILL)

    def between_points(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            pass_point()
            result = function(*args, **kwargs)
            pass_point()
            return result

        return call

    patch = pytest.MonkeyPatch()  # never undone: the process ends
    # Every message to the server goes through one of the two: a statement, or BEGIN and COMMIT.
    for owner, name in ((cursors.SchemaCursor, "send"), (transactions, "_say"), *also):
        patch.setattr(owner, name, between_points(getattr(owner, name)))
