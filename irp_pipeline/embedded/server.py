"""The embedded server: starting it, asking for it and stopping it.

Here: what callers ask of the server of one ``IRP_HOME``, and in which order it is done. Not here: the parts that this
is made of, each in a module of its own.
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
    """Start the embedded server of this IRP_HOME unless it runs, and say how to reach it.

    Safe to call from any number of processes and threads at once. The first call makes the folder, the cluster
    and the database and takes about a second; when the server runs, a call takes well below a millisecond.

    Args:
        home: the IRP_HOME folder; made if it does not exist.

    Returns:
        The URL of the database ``irp``, as :func:`server_url` gives it.

    Raises:
        EmbeddedServerError: the extra is not installed, the folder belongs to another user, or the server does
            not start; the message then ends with the server's own words.
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
    """Say whether the embedded server of this IRP_HOME takes connections. Starts nothing.

    Raises:
        EmbeddedServerError: the folder belongs to another user.
    """
    place = place_of(home)
    with os_errors_explained(place, "ask"):
        return is_ready(place)


def stop(home: Path) -> bool:
    """Stop the embedded server of this IRP_HOME; open transactions are rolled back, connections closed.

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
                    f"The embedded PostgreSQL in {place.data} runs on another machine or in another container: "
                    "stop it there."
                )
            if running:
                _stop(place, running)
            remove_link(place)
            return bool(running)


def _is_usable(place: Place) -> bool:
    return place.has_database.exists() and is_ready(place)


def _start(place: Place) -> None:
    """Bring the server up; the lock is held."""
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
    """Wait until what remains of an earlier server is either ready or gone.

    A server whose starter was killed may still be coming up, a stopped one going down. After the first process
    was killed, the others leave by themselves, unless they are busy: what a query without a server computes is
    lost anyway, so these are ended.

    Returns:
        True if a server is ready after all, False if no process of it is left, nor a file that names one.
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
            # PostgreSQL would believe a stale file if some other process of its user, or a zombie, has that number.
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
                f"The embedded PostgreSQL in {place.data} is neither ready nor gone after {_START_SECONDS:.0f} s "
                f"(processes: {', '.join(str(process.pid) for process in processes) or 'none on this machine'}).\n"
                f"{end_of_log(place, 0)}\nIf it recovers after a crash, wait and try again; else end these processes."
            )
        time.sleep(0.02)


def _launch(place: Place, programs: Path, account: Account | None) -> None:
    """Start the server in a session of its own and wait until it takes connections."""
    if place.log.exists() and place.log.stat().st_size > _LOG_BYTES:
        place.log.replace(place.log.with_name(f"{place.log.name}.1"))
    log = open_private(place, place.log, os.O_WRONLY | os.O_APPEND)
    try:
        log_begin = os.fstat(log).st_size
        server = [str(programs / "postgres"), "-D", name_from_within(place.data, account), "-p", str(PORT)]
        # What keeps others out is said here, where no edited postgresql.conf changes it.
        server += ["-c", "listen_addresses=", "-c", "unix_socket_directories=.", "-c", "unix_socket_permissions=0700"]
        # The shell leaves the server behind as nobody's child: no zombie of it stays with a caller that lives on.
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
    # It gives up at once if another one is on its way, whose starter was killed before it could wait for it.
    if decided and _leftovers_settle(place):
        return
    what = "did not start" if decided else f"is not ready after {_START_SECONDS:.0f} s"
    raise EmbeddedServerError(
        f"The embedded PostgreSQL in {place.data} {what}.\n{end_of_log(place, log_begin)}\n"
        f"Mend what the log names and try again. {REMEDY}"
    )


def _stop(place: Place, running: list[psutil.Process]) -> None:
    """End the server: in an orderly way if that comes to an end, else at once, which loses nothing committed."""
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
            f"The embedded PostgreSQL in {place.data} belongs to another user, who alone can stop it."
        ) from None
    raise EmbeddedServerError(f"The embedded PostgreSQL in {place.data} does not stop.\n{end_of_log(place, 0)}")
