"""Processes: identifying one so that others can see later whether it still runs.

A PID is not enough: the system reuses it, and it means nothing on another host, in another container or after a
reboot. Nothing here uses the database.
"""

import functools
import getpass
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Final

MARK_OF_NOTEBOOK: Final = "IRP_NOTEBOOK_FOLDER"
"""Set in the environment of every process of a notebook that is executed as a step, so that all of them can be found.
What is to outlive the notebook is started without it."""

_PROC = Path("/proc")


@dataclass(frozen=True)
class HostProcess:
    """A process.

    Attributes:
        host: the host's name.
        pid: the process id on that host.
        started: ``<boot>/<pid namespace>/<start>``: the boot of the host, the container, and the start time within it.
    """

    host: str
    pid: int
    started: str

    def is_here(self) -> bool:
        """Return whether the process belongs to this host, its current boot and this container."""
        return (self.host, self.started.rpartition("/")[0]) == (socket.gethostname(), _place())

    def is_gone(self) -> bool:
        """Return whether the process is known to have ended.

        Returns:
            True if it ran on this host, in this boot and this container, and has ended or is only a zombie. False if
            it runs, and also if that cannot be known: it ran elsewhere, or the system hides other users' processes.
        """
        if not self.is_here():
            return False
        try:
            return _start_of(self.pid) != self.started.rpartition("/")[2]
        except PermissionError:
            return False


def this_process() -> HostProcess:
    """Return the calling process."""
    pid = os.getpid()
    return HostProcess(socket.gethostname(), pid, f"{_place()}/{_start_of(pid)}")


def user_name() -> str:
    """Return the user of the operating system."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # an account without a name, as in many containers
        return f"uid {os.getuid()}"


def stated_person() -> tuple[str, str]:
    """Return the user of the operating system and the host: what a client says of itself, which proves nothing."""
    return user_name(), socket.gethostname()


@functools.lru_cache(maxsize=1)
def _place() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        namespace = str(Path("/proc/self/ns/pid").readlink())
    except OSError:  # not Linux: there are no containers to distinguish
        import psutil

        boot, namespace = str(int(psutil.boot_time())), "host"
    return f"{boot}/{namespace}"


def _start_of(pid: int) -> str | None:
    """Return when a process started, in a form that changes of the clock do not affect; None if it does not exist.

    Raises:
        PermissionError: it exists, but this user may not see it.
    """
    if (_PROC / "self" / "stat").exists():
        try:
            # https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html: state is field 3, starttime field 22. The
            # name in field 2 may contain anything, so count from its closing parenthesis.
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
        raise PermissionError(f"This user cannot see the process {pid}") from error


def _refuse_if_hidden(pid: int) -> None:
    """Raise PermissionError if the process exists but /proc hides it, as hidepid does with other users' processes."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return
    raise PermissionError(f"This user cannot see the process {pid}")
