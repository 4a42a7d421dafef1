"""The processes of the embedded server: which of them are alive, and whether the server is ready.

Here: finding, checking and signalling existing processes. Not here: starting and stopping the server
(:mod:`irp_pipeline.embedded.server`).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from irp_pipeline.embedded.place import Place
from irp_pipeline.embedded.sockets import listens

if TYPE_CHECKING:
    import psutil


def is_ready(place: Place) -> bool:
    """Return whether the server takes connections: its file says "ready", and a process listens."""
    return postmaster_lines(place)[-1:] == ["ready"] and listens(place)


def postmaster_lines(place: Place) -> list[str]:
    """Read postmaster.pid: process id, folder, start time, port, socket's folder, address, memory, status."""
    try:
        text = place.postmaster_file.read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [line.strip() for line in text.splitlines()]


def server_processes(place: Place) -> list[psutil.Process]:
    """Find the living processes of this cluster: those called postgres whose working folder is the data folder.

    A process id is not enough: after a crash it may belong to any process. Zombies are not alive; they stay if the
    first process of a container does not collect them.
    """
    import psutil

    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            # Not with Path: the working folder of a process that has ended is "", and pathlib reads that as the
            # current folder.
            if process.name() == "postgres" and os.path.samefile(process.cwd(), place.data):  # noqa: PTH121
                found.append(process)
    return found


def postmaster_among(processes: list[psutil.Process]) -> psutil.Process | None:
    """Pick the server's first process, the parent of all others, which call themselves ``postgres: what they do``.

    Its own file is not enough: a server that has just started has not written it yet.
    """
    import psutil

    for process in processes:
        with suppress(psutil.Error):
            if not "".join(process.cmdline()[:1]).startswith("postgres:"):
                return process
    return None


def is_alive(process: psutil.Process) -> bool:
    import psutil

    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def signal_all(processes: list[psutil.Process], number: int) -> None:
    import psutil

    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(number)


def wait_for(condition: Callable[[], bool], seconds: float) -> bool:
    """Wait for a condition; return whether it became true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True
