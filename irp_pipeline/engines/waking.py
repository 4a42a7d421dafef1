"""Starting a worker on this machine when there is work: it ends by itself when nothing waits."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

from irp_pipeline import settings
from irp_pipeline.files import lock_file, make_folder
from irp_pipeline.process import MARK_OF_NOTEBOOK

_WORKER: Final = "irp_pipeline.workers"


def worker_lock() -> Path:
    """Return the file that the worker of this machine locks as long as it runs: one for each database."""
    folder = make_folder(settings.make_irp_home() / "engine")
    database = hashlib.sha256(str(settings.describe_database()).encode()).hexdigest()[:12]
    return folder / f"worker-{database}.lock"


def wake_worker() -> None:
    """Start the worker of this machine, unless it runs or ``IRP_JOB_SLOTS`` is 0.

    A worker that runs hears of new jobs from the database; one that is about to end looks once more. The new process
    inherits the locked file, so that there is never a moment in which a second one could start.

    Raises:
        SettingsError: ``IRP_HOME`` cannot be used.
    """
    if settings.job_slots() == 0:
        return
    path = worker_lock()
    lock = lock_file(path)
    if lock is None:
        return
    command = [sys.executable, "-m", _WORKER, str(lock)]
    try:
        # The shell ends at once, so the worker is not our child: it outlives us, and leaves no zombie.
        subprocess.run(  # noqa: S603 - the command is this project's own
            ["/bin/sh", "-c", '"$@" </dev/null >>"$0" 2>&1 &', str(path.with_name("worker.log")), *command],
            cwd="/",
            check=True,
            start_new_session=True,
            umask=0o077,
            pass_fds=(lock,),
            env=_environment(),
        )
    finally:
        os.close(lock)


def _environment() -> dict[str, str]:
    """Return the environment of a worker, which outlives a notebook that submits jobs."""
    kept = {name: value for name, value in os.environ.items() if name != MARK_OF_NOTEBOOK}
    return {**kept, "IRP_HOME": str(settings.irp_home())}  # which may follow from the working folder
