"""``irp ui``: the Dagster webserver and daemon, on this machine only."""

import contextlib
import errno
import fcntl
import http.client
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from irp_pipeline.cli import output
from irp_pipeline.cli.failures import CommandError
from irp_pipeline.cli.options import DbSchema, working_in

if TYPE_CHECKING:
    import psutil

app = typer.Typer()

_HOST = "127.0.0.1"
_MODULE = "irp_pipeline.orchestration.services"
_MARK = "IRP_UI"
"""Set in the environment of every process of a UI, so that all of them can be found."""
_SECONDS_TO_END = 15
_LONGEST_PAUSE_SECONDS = 60.0
_STABLE_SECONDS = 60.0
_MOST_TRIES = 3
_POLL_SECONDS = 0.1
_ANSWER_SECONDS = 1.0


@app.command(epilog="Example: irp ui --port 3333")
def ui(
    port: Annotated[int, typer.Option("--port", metavar="N", min=1, max=65535, help="Where it listens.")] = 3000,
    db_schema: DbSchema = None,
) -> None:
    """Start the Dagster UI with everything set: webserver and daemon, on 127.0.0.1. Pages to read are under /irp.

    The schema, which is made if it is missing, is the default for runs launched there. The command says when the UI is
    ready, and restarts processes that die. Ctrl-C ends everything.
    """
    if importlib.util.find_spec("dagster_webserver") is None:
        raise CommandError("The Dagster UI is not installed. Run: pip install 'irp-pipeline[ui]'")
    from irp_pipeline import settings
    from irp_pipeline.helpers.database import init_database
    from irp_pipeline.orchestration.instance import use_dagster_home
    from irp_pipeline.orchestration.services import workspace_in, workspace_text
    from irp_pipeline.orchestration.webserver import own_hosts

    with contextlib.ExitStack() as stack:
        schema = stack.enter_context(working_in(db_schema))
        home = use_dagster_home()
        lock = _sole_lock(home / "ui.lock")
        listening = stack.enter_context(_listen(port))
        hosts = own_hosts(port, settings.ui_hosts())
        init_database()
        ending = _told_to_end()
        place = stack.enter_context(_private_folder())
        workspace_in(place).write_text(workspace_text(place), encoding="utf-8")
        watching, watched = os.pipe()
        stack.callback(os.close, watched)
        mark = uuid.uuid4().hex
        # The processes inherit the lock: it is free when the last of them has ended, however this one ends.
        services = _Services(
            _environment(schema, mark), home, place, ["--watched-by", str(watching)], (watching, lock), ending
        )
        output.print_note("Starting the UI …")
        try:
            services.run(port, listening, hosts, schema)
        finally:
            output.print_note("Ending the UI …")
            _end_all(mark, ending)


@dataclass
class _Ending:
    """How often we were asked to end."""

    times: int = 0


@dataclass
class _Service:
    """One of the processes, which is restarted when it dies."""

    name: str
    command: list[str]
    descriptors: tuple[int, ...]
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    not_before: float = 0.0
    failures: int = 0


@dataclass
class _Services:
    environment: dict[str, str]
    home: Path
    place: Path
    options: list[str]
    descriptors: tuple[int, ...]
    ending: _Ending
    is_ready: bool = False
    _next_question: float = field(default=0.0)

    def run(self, port: int, listening: socket.socket, hosts: Sequence[str] | frozenset[str], schema: str) -> None:
        """Keep the processes running until we are asked to end.

        Raises:
            CommandError: one of them does not stay alive from the beginning.
        """
        answered = [word for host in sorted(hosts) for word in ("--host", host)]
        door = listening.fileno()
        code = self._service("code server", "code-server")
        others = [
            self._service("daemon", "daemon"),
            self._service("webserver", "webserver", ["--listening", str(door), *answered], (door,)),
        ]
        is_code_there = False
        while not self.ending.times:
            self._keep(code)
            if not is_code_there:
                is_code_there = _is_listening(self.place)
            if is_code_there:
                for service in others:
                    self._keep(service)
                if not self.is_ready and self._answers(port):
                    self.is_ready = True
                    output.print_note(
                        f"The UI is ready: http://{_HOST}:{port} for the cycles of schema {schema!r}; pages to read: "
                        f"http://{_HOST}:{port}/irp. Ctrl-C to end."
                    )
            time.sleep(_POLL_SECONDS)

    def _service(self, name: str, role: str, more: Sequence[str] = (), descriptors: tuple[int, ...] = ()) -> _Service:
        command = [sys.executable, "-m", _MODULE, role, "--place", str(self.place), *self.options, *more]
        return _Service(name, command, (*self.descriptors, *descriptors))

    def _keep(self, service: _Service) -> None:
        """Start a process that is not running, after a pause that doubles each time it dies early."""
        now = time.monotonic()
        if service.process is not None and service.process.poll() is not None:
            status = service.process.returncode
            service.process = None
            if self.ending.times:
                return
            service.failures = 1 if now - service.started > _STABLE_SECONDS else service.failures + 1
            if not self.is_ready and service.failures >= _MOST_TRIES:
                raise CommandError(
                    f"The {service.name} of the UI ended {service.failures} times before it was ready, most recently "
                    f"{_status(status)}; its output is above"
                )
            pause = min(2.0 ** (service.failures - 1), _LONGEST_PAUSE_SECONDS)
            service.not_before = now + pause
            output.print_note(f"The {service.name} ended {_status(status)}; it is started again in {pause:g} s.")
        if service.process is None and now >= service.not_before:
            service.started = now
            service.process = subprocess.Popen(  # noqa: S603 - the command is this project's own
                service.command,
                cwd=self.home,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                pass_fds=service.descriptors,
                start_new_session=True,
                umask=0o077,
            )

    def _answers(self, port: int) -> bool:
        if time.monotonic() < self._next_question:
            return False
        self._next_question = time.monotonic() + _ANSWER_SECONDS
        connection = http.client.HTTPConnection(_HOST, port, timeout=_ANSWER_SECONDS)
        try:
            connection.request("GET", "/server_info")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()


def _environment(schema: str, mark: str) -> dict[str, str]:
    """Return the environment of the processes, which start nothing from the current folder."""
    from irp_pipeline import settings

    more = {"DB_SCHEMA": schema, "IRP_HOME": str(settings.irp_home()), "PYTHONSAFEPATH": "1", _MARK: mark}
    environment = os.environ | more
    if folders := environment.pop("PYTHONPATH", None):
        # The others are relative to the current folder.
        absolute = [folder for folder in folders.split(os.pathsep) if os.path.isabs(folder)]  # noqa: PTH117
        if absolute:
            environment["PYTHONPATH"] = os.pathsep.join(absolute)
    return environment


def _sole_lock(path: Path) -> int:
    """Take the lock of an instance's UI.

    Raises:
        CommandError: a UI of the same instance is running: two daemons would take each other's runs.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        said = os.read(descriptor, 32).decode(errors="replace").strip()
        os.close(descriptor)
        if not said.isdecimal() or not _is_alive(int(said)):
            raise CommandError(
                f"The last UI of this Dagster instance is still ending ({path.parent}). Try again in a few seconds"
            ) from None
        raise CommandError(
            f"A UI of this Dagster instance is running already ({path.parent}). Use that one, or end it with: "
            f"kill {said}"
        ) from None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _listen(port: int) -> socket.socket:
    """Listen before anything starts: this detects a port in use, and keeps the port through restarts."""
    try:
        return socket.create_server((_HOST, port), backlog=128)
    except OSError as error:
        is_taken = error.errno == errno.EADDRINUSE
        reason = "another program listens there" if is_taken else error.strerror
        raise CommandError(
            f"The UI cannot listen on port {port} of {_HOST}: {reason}. Choose another one with --port"
        ) from None


@contextmanager
def _private_folder() -> Iterator[Path]:
    """Yield a private folder with a path that is short enough for a socket, and remove it."""
    folder = Path(tempfile.mkdtemp(prefix="irp-ui-", dir="/tmp"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _is_listening(place: Path) -> bool:
    from irp_pipeline.orchestration.services import socket_in

    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        try:
            client.connect(str(socket_in(place)))
        except OSError:
            return False
    return True


def _told_to_end() -> _Ending:
    """Return a counter of requests to end: by Ctrl-C, by a signal, by a terminal that closes."""
    ending = _Ending()

    def end(*_: object) -> None:
        ending.times += 1

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)  # a shell that starts us with "&" may leave it ignored
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # ignored by nohup
        signal.signal(signal.SIGHUP, end)
    return ending


def _end_all(mark: str, ending: _Ending) -> None:
    """End the processes of a UI, including runs; kill them if they take too long or the user insists."""
    import psutil

    told, deadline = ending.times, time.monotonic() + _SECONDS_TO_END
    signalled: set[int] = set()
    while processes := list(_marked(mark)):
        in_a_hurry = ending.times > max(told, 1) or time.monotonic() > deadline
        for process in processes:
            if in_a_hurry or process.pid not in signalled:
                signalled.add(process.pid)
                with suppress(psutil.Error):
                    process.send_signal(signal.SIGKILL if in_a_hurry else signal.SIGINT)
        time.sleep(_POLL_SECONDS)


def _marked(mark: str) -> "Iterator[psutil.Process]":
    import psutil

    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.environ().get(_MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                yield process


def _status(status: int) -> str:
    return f"with status {status}" if status >= 0 else f"by {signal.Signals(-status).name}"
