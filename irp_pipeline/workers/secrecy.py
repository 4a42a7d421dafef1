"""Keeping a worker's environment, which has the address and password of the database, from the programs it runs."""

import ctypes
import sys
from typing import Final

_PR_SET_DUMPABLE: Final = 4  # https://man7.org/linux/man-pages/man2/PR_SET_DUMPABLE.2const.html


def hide_environment() -> None:
    """Keep other processes of this user from reading this process's environment and memory, on Linux.

    A program that this process starts has an environment of its own, which :mod:`irp_pipeline.engines.environment`
    chooses, but runs as the same user, and could otherwise read ours in ``/proc``. Only root still can.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
