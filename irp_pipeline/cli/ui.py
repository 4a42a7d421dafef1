"""``irp ui``: the Dagster webserver and daemon, on this machine only."""

import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from irp_pipeline.cli import output
from irp_pipeline.cli.failures import CommandError
from irp_pipeline.cli.options import DbSchema, working_in

app = typer.Typer()

_SECONDS_TO_END = 15


@app.command(epilog="Example: irp ui --port 3333")
def ui(
    port: Annotated[int, typer.Option("--port", metavar="N", min=1, max=65535, help="Where it listens.")] = 3000,
    db_schema: DbSchema = None,
) -> None:
    """Start the Dagster UI with everything set: webserver and daemon, on 127.0.0.1.

    The schema, which is made if it is missing, is the default one of the runs launched there. Ctrl-C ends all of it.
    """
    from irp_pipeline.helpers.database import init_database
    from irp_pipeline.orchestration.instance import use_dagster_home

    with working_in(db_schema) as schema:
        home = use_dagster_home()
        lock = _sole_lock(home / "ui.lock")
        init_database()
        os.environ["DB_SCHEMA"] = schema
        output.print_note(f"http://127.0.0.1:{port} for the cycles of schema {schema!r}. Ctrl-C to end.")
        command = [sys.executable, "-m", "dagster", "dev", "--module-name", "irp_pipeline.definitions"]
        command += ["--host", "127.0.0.1", "--port", str(port)]
        # The processes get the lock too: it is free when the last of them has ended, however this one ends.
        with subprocess.Popen(command, start_new_session=True, pass_fds=(lock,)) as processes:  # noqa: S603
            os.pwrite(lock, f"{processes.pid}\n".encode(), 0)
            _wait(processes)
    if processes.returncode not in {0, -signal.SIGINT, -signal.SIGTERM}:
        raise CommandError(f"The Dagster UI ended with status {processes.returncode}; what it said is above")


def _sole_lock(path: Path) -> int:
    """Take the lock of an instance's UI.

    Raises:
        CommandError: a UI of the same instance runs: two daemons would take each other's runs.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        group = os.read(descriptor, 32).decode().strip()
        os.close(descriptor)
        raise CommandError(
            f"A UI of this Dagster instance is running already ({path.parent}). Use that one, or end it with: "
            f"kill -- -{group}"
        ) from None
    return descriptor


def _wait(processes: subprocess.Popen[bytes]) -> None:
    """Wait for the UI to end; end all of its processes when we are told to end."""

    def end(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGHUP, end)
    signal.signal(signal.SIGINT, end)  # started with "&", a shell leaves it ignored
    try:
        processes.wait()
    except KeyboardInterrupt:
        output.print_note("Ending the UI …")
        os.killpg(processes.pid, signal.SIGINT)
        try:
            processes.wait(_SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            os.killpg(processes.pid, signal.SIGKILL)
            processes.wait()
