"""Who is at work: naming a process so that others can tell later whether it still runs.

A PID is not enough: it is given out again, and it means nothing on another host, in another container or after a
reboot. No database here.
"""

import functools
import os
import socket
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")


@dataclass(frozen=True)
class Worker:
    """A process.

    Attributes:
        host: name of the host, as people know it.
        pid: number of the process on that host.
        started: ``<boot>/<pid namespace>/<start>``: which boot of the host, in which container, and when within it.
    """

    host: str
    pid: int
    started: str

    def is_here(self) -> bool:
        """Tell whether the process is one of this host, this boot of it and this container."""
        return (self.host, self.started.rpartition("/")[0]) == (socket.gethostname(), _place())

    def is_gone(self) -> bool:
        """Tell whether the process is known to have ended.

        Returns:
            True if it ran here, under this boot and in this container, and is no more, or is only a zombie. False if
            it runs, and also if nothing can be known from here: it ran elsewhere, or the system hides other users'
            processes.
        """
        if not self.is_here():
            return False
        try:
            return _start_of(self.pid) != self.started.rpartition("/")[2]
        except PermissionError:
            return False


def this_worker() -> Worker:
    """Return the process that calls."""
    pid = os.getpid()
    return Worker(socket.gethostname(), pid, f"{_place()}/{_start_of(pid)}")


@functools.lru_cache(maxsize=1)
def _place() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        namespace = str(Path("/proc/self/ns/pid").readlink())
    except OSError:  # not Linux: no containers to tell apart
        import psutil

        boot, namespace = str(int(psutil.boot_time())), "host"
    return f"{boot}/{namespace}"


def _start_of(pid: int) -> str | None:
    """Return when a process started, in a form that a change of the clock leaves alone; None if there is none.

    Raises:
        PermissionError: there is one, and this user may not see it.
    """
    if (_PROC / "self" / "stat").exists():
        try:
            # https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html: state is field 3, starttime field 22; the
            # name in field 2 may hold anything, so count from its closing parenthesis.
            fields = (_PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            _refuse_if_hidden(pid)
            return None
        return None if fields[0] in {"Z", "X"} else fields[19]
    import psutil

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else str(process.create_time())
    except psutil.NoSuchProcess:
        return None
    except psutil.AccessDenied as error:
        raise PermissionError(f"The process {pid} cannot be seen by this user") from error


def _refuse_if_hidden(pid: int) -> None:
    """Raise PermissionError if there is a process that /proc does not show: with hidepid it hides those of others."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return
    raise PermissionError(f"The process {pid} cannot be seen by this user")
