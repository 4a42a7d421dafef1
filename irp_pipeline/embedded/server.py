"""The embedded server: starting it, checking it and stopping it.

Here: the functions that callers use for the server of one ``IRP_HOME``, and the order of their steps. Not here: the
steps themselves, each in its own module.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from irp_pipeline.embedded.account import Account, account_for, name_from_within, run
from irp_pipeline.embedded.cluster import is_made, make_cluster, make_database
from irp_pipeline.embedded.errors import REMEDY, EmbeddedServerError
from irp_pipeline.embedded.lock import sole_access
from irp_pipeline.embedded.place import Place, end_of_log, keep_private, open_private, os_errors_explained, place_of
from irp_pipeline.embedded.processes import (
    is_alive,
    is_ready,
    postmaster_among,
    postmaster_lines,
    server_processes,
    signal_all,
    wait_for,
)
from irp_pipeline.embedded.programs import find_programs, reachable_programs
from irp_pipeline.embedded.sockets import PORT, SOCKET_NAME, listens, remove_link, server_url

if TYPE_CHECKING:
    import psutil
    from sqlalchemy import URL

_LOG_BYTES = 10 * 1024**2
_START_SECONDS = 120.0
_STOP_SECONDS = 60.0
_QUIT_SECONDS = 10.0
_ORPHAN_SECONDS = 1.0


def ensure_running(home: Path) -> URL:
    """Start the embedded server of this IRP_HOME unless it runs, and return its URL.

    Safe to call from any number of processes and threads at once. The first call makes the folder, the cluster
    and the database and takes about a second; if the server runs, a call takes well below a millisecond.

    Args:
        home: the IRP_HOME folder; made if it does not exist.

    Returns:
        The URL of the database ``irp``, as :func:`server_url` returns it.

    Raises:
        EmbeddedServerError: the extra is not installed, the folder belongs to another user, or the server does
            not start; the message then includes the end of the server's log.
    """
    place = place_of(home)
    with os_errors_explained(place, "start"):
        keep_private(place)
        if not _is_usable(place):
            with sole_access(place):
                if not is_ready(place):
                    _start(place)
                make_database(place)
        return server_url(place.home)


def is_running(home: Path) -> bool:
    """Return whether the embedded server of this IRP_HOME takes connections. Does not start it.

    Raises:
        EmbeddedServerError: the folder belongs to another user.
    """
    place = place_of(home)
    with os_errors_explained(place, "ask"):
        return is_ready(place)


def stop(home: Path) -> bool:
    """Stop the embedded server of this IRP_HOME. Open transactions are rolled back, and connections are closed.

    Returns:
        True if it ran, False if there was nothing to stop.

    Raises:
        EmbeddedServerError: the server belongs to another user, or does not stop.
    """
    place = place_of(home)
    with os_errors_explained(place, "stop"):
        if not place.folder.is_dir():
            return False
        with sole_access(place):
            running = server_processes(place)
            if not running and listens(place):
                raise EmbeddedServerError(
                    f"The embedded PostgreSQL in {place.data} runs on another machine or in another container. "
                    "Stop it there."
                )
            if running:
                _stop(place, running)
            remove_link(place)
            return bool(running)


def _is_usable(place: Place) -> bool:
    return place.has_database.exists() and is_ready(place)


def _start(place: Place) -> None:
    """Start the server; the caller holds the lock."""
    if _leftovers_settle(place):
        return
    has_cluster = is_made(place)
    programs = find_programs()
    account = account_for(place)
    if account is not None:
        programs = reachable_programs(programs, account)
    if not place.folder.is_dir():
        place.folder.mkdir(mode=0o700)
        if account is not None:
            owner = place.home.stat()
            os.chown(place.folder, owner.st_uid, owner.st_gid, follow_symlinks=False)
    if not has_cluster:
        make_cluster(place, programs, account)
    _launch(place, programs, account)


def _leftovers_settle(place: Place) -> bool:
    """Wait until the remains of an earlier server are either ready or gone.

    A server whose starter was killed may still be starting, and a stopped one may still be stopping. If the first
    process was killed, the others end by themselves unless they are busy. The result of a query without a server is
    lost anyway, so busy processes are ended.

    Returns:
        True if a server is ready after all, False if none of its processes is left, nor a file that names one.
    """
    if not place.data.is_dir():
        return False
    begin = time.monotonic()
    orphaned_since: float | None = None
    while True:
        lines = postmaster_lines(place)
        if is_ready(place):
            return True
        processes = server_processes(place)
        if not processes and not listens(place):
            # PostgreSQL would trust a stale file if another process of its user, or a zombie, has that process id.
            if lines == postmaster_lines(place):
                (place.data / f"{SOCKET_NAME}.lock").unlink(missing_ok=True)
                place.postmaster_file.unlink(missing_ok=True)
            return False
        now = time.monotonic()
        if not processes or postmaster_among(processes) is not None:
            orphaned_since = None
        else:
            orphaned_since = orphaned_since or now
            if now - orphaned_since > _ORPHAN_SECONDS:
                killed = now - orphaned_since > 5 * _ORPHAN_SECONDS
                signal_all(processes, signal.SIGKILL if killed else signal.SIGTERM)
        if now - begin > _START_SECONDS:
            raise EmbeddedServerError(
                f"The embedded PostgreSQL in {place.data} is neither ready nor stopped after {_START_SECONDS:.0f} s "
                f"(processes: {', '.join(str(process.pid) for process in processes) or 'none on this machine'}).\n"
                f"{end_of_log(place, 0)}\nIf it is recovering from a crash, wait and try again. Otherwise end these "
                "processes."
            )
        time.sleep(0.02)


def _launch(place: Place, programs: Path, account: Account | None) -> None:
    """Start the server in its own session and wait until it takes connections."""
    if place.log.exists() and place.log.stat().st_size > _LOG_BYTES:
        place.log.replace(place.log.with_name(f"{place.log.name}.1"))
    log = open_private(place, place.log, os.O_WRONLY | os.O_APPEND)
    try:
        log_begin = os.fstat(log).st_size
        server = [str(programs / "postgres"), "-D", name_from_within(place.data, account), "-p", str(PORT)]
        # These options keep others out; on the command line, an edited postgresql.conf cannot change them.
        server += ["-c", "listen_addresses=", "-c", "unix_socket_directories=.", "-c", "unix_socket_permissions=0700"]
        # The shell ends at once, so the server is not this process's child and cannot become its zombie.
        started = run(["/bin/sh", "-c", '"$@" >&2 & echo $!', "sh", *server], account, place.data, log=log)
    finally:
        os.close(log)
    _await_ready(place, int(started.stdout), log_begin)


def _await_ready(place: Place, process_id: int, log_begin: int) -> None:
    import psutil

    decided = True
    with suppress(psutil.NoSuchProcess):
        server = psutil.Process(process_id)
        decided = wait_for(lambda: is_ready(place) or not is_alive(server), _START_SECONDS)
    if is_ready(place):
        return
    # A server gives up at once if another one is already starting, whose starter was killed.
    if decided and _leftovers_settle(place):
        return
    what = "did not start" if decided else f"is not ready after {_START_SECONDS:.0f} s"
    raise EmbeddedServerError(
        f"The embedded PostgreSQL in {place.data} {what}.\n{end_of_log(place, log_begin)}\n"
        f"Fix the problem that the log names and try again. {REMEDY}"
    )


def _stop(place: Place, running: list[psutil.Process]) -> None:
    """Stop the server: first in an orderly way; if that takes too long, at once, which loses nothing committed."""
    import psutil

    postmaster = postmaster_among(running)
    targets = running if postmaster is None else [postmaster]
    try:
        for number, seconds in (
            (signal.SIGTERM if postmaster is None else signal.SIGINT, _STOP_SECONDS),
            (signal.SIGQUIT, _QUIT_SECONDS),
            (signal.SIGKILL, _QUIT_SECONDS),
        ):
            signal_all(targets, number)
            if wait_for(lambda: not any(map(is_alive, running)), seconds):
                return
            targets = server_processes(place)
    except psutil.AccessDenied:
        raise EmbeddedServerError(
            f"The embedded PostgreSQL in {place.data} belongs to another user. Only that user can stop it."
        ) from None
    raise EmbeddedServerError(f"The embedded PostgreSQL in {place.data} does not stop.\n{end_of_log(place, 0)}")
