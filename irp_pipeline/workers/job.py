"""One job at a worker: begun by one worker only, run, and reported as long as its lease holds."""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain, repeat
from pathlib import Path
from typing import Any, Final, TypeVar

from irp_pipeline.cycle_files import jobs_of
from irp_pipeline.engines import EngineError, JobPhase, engine, leases
from irp_pipeline.engines.environment import job_environment
from irp_pipeline.engines.folders import ended, text, write_end
from irp_pipeline.engines.inputs import link_inputs, named_files
from irp_pipeline.engines.leases import BegunJob
from irp_pipeline.engines.local import LocalEngine
from irp_pipeline.engines.running import Ending, run_program
from irp_pipeline.errors import IrpError
from irp_pipeline.files import make_folder
from irp_pipeline.helpers.db_context import schema_context
from irp_pipeline.postgres.errors import DatabaseError
from irp_pipeline.process import this_process
from irp_pipeline.settings import cycle_dir, job_processes
from irp_pipeline.store import LOG, StoreError, is_elsewhere, publish_job_files, publish_job_log

_log = logging.getLogger(__name__)
_R = TypeVar("_R")

_PAUSES: Final = (0.2, 1.0, 2.0, 5.0)
"""How long to wait for a database that is away, in seconds, before each next try; the last one repeats."""

_LOG_SECONDS: Final = 5.0
"""How old the published log of a job at work may be."""


class JobRun:
    """A job that this worker runs, or tries to begin.

    Args:
        schema: the job's schema.
        key: its key.
        give_up: set when the worker ends and waits no longer for a database that is away.
        free_processes: says how many processes a job may use that begins now.

    Attributes:
        schema, key: as given.
        token: that of its lease.
        processes: how many processes its program may use; 0 until it begins.
    """

    def __init__(
        self, schema: str, key: str, give_up: threading.Event, free_processes: Callable[[], int] = lambda: 1
    ) -> None:
        self.schema = schema
        self.key = key
        self.token = str(uuid.uuid4())
        self.processes = 0
        self.is_begun = False
        self._free_processes = free_processes
        self._give_up = give_up
        self._ending: Ending | None = None
        self._is_lost = False
        self._folder: Path | None = None

    def run(self) -> None:
        """Begin the job if nobody has, run it, and report how it ended. Never raises what the job is to blame for."""
        with schema_context(self.schema):
            job = self._persist(lambda: leases.begin(self.key, self.token, this_process()))
            if job is None:
                return
            self.is_begun = True
            end = self._publish(self._run(job))
            if self._is_lost:
                _log.warning("The job %s was ended by somebody else; its result is not recorded", self.key)
                return
            if self._persist(lambda: leases.report(self.key, self.token, end)) is False:
                _log.warning("The job %s was ended by somebody else before its end was reported", self.key)

    @property
    def doing(self) -> str | None:
        """What the program says it is doing."""
        return None if self._folder is None else text(self._folder / "doing.txt")

    def end(self, phase: JobPhase, reason: str) -> None:
        """Let the job end as soon as possible, unless it is about to end for another reason."""
        if self._ending is None:
            self._ending = phase, reason

    def lose(self) -> None:
        """End the job without a report: its lease is lost."""
        self._is_lost = True
        self.end(JobPhase.FAILED, "Its lease was lost")

    def _run(self, job: BegunJob) -> dict[str, Any]:
        folder: Path | None = None
        try:
            name = str(job.parameters.get("engine"))
            cycle_folder = cycle_dir(self.schema, job.cycle_name)
            local = engine(name, jobs_of(cycle_folder))
            if not isinstance(local, LocalEngine):
                raise EngineError(f"The engine {name!r} runs no programs here")
            folder = local.folder(self.key)
            make_folder(folder.parent)
            folder.mkdir(exist_ok=True, mode=0o700)
            folder.chmod(0o700)  # even if it existed before: what the program writes is nobody else's business
            self.processes = job_processes() or self._free_processes()
            link_inputs(job.request, cycle_folder, folder / "inputs")
            request = {**job.request, **named_files(job.request, cycle_folder), "processes": self.processes}
            self._folder = folder
            with _publishing_log(folder):
                return run_program(
                    folder,
                    local.program,
                    local.limits,
                    job_environment(local.environment),
                    request,
                    lambda: self._ending,
                )
        except OSError as error:
            reason = f"The files of the job cannot be read or written: {error}"
        except IrpError as error:
            reason = str(error)
        except Exception as error:
            _log.exception("The job %s cannot be run", self.key)
            reason = f"The worker could not run it: {type(error).__name__}: {error}"
        return _failed(folder, reason)

    def _publish(self, end: dict[str, Any]) -> dict[str, Any]:
        """Publish the files of the job; if their store is away, when it is back.

        Returns:
            How the job ended: as before, or FAILED if a file that it left cannot be read any more.
        """
        while self._folder is not None and not self._is_lost:
            try:
                publish_job_files(self._folder, end["result"])
            except StoreError as error:
                _log.warning("The files of the job %s cannot be published, trying again: %s", self.key, error)
                if self._give_up.wait(_PAUSES[-1]):
                    break
            except OSError as error:
                _log.warning("The job %s left files that cannot be read: %s", self.key, error)
                if end["result"] is None:
                    break
                end = _failed(self._folder, f"Its result files could not be published: {error}")
            else:
                break
        return end

    def _persist(self, statement: Callable[[], _R]) -> _R | None:
        """Run a statement that may be repeated; if the database is away, until it is back.

        Returns:
            Its answer; None if the worker ends before that, or if the database refuses.
        """
        for pause in chain(_PAUSES, repeat(_PAUSES[-1])):
            try:
                return statement()
            except DatabaseError as error:
                if not error.disconnected:
                    _log.warning("The database refuses the job %s of schema %s: %s", self.key, self.schema, error)
                    return None
                _log.warning("The database is away; the job %s waits for it: %s", self.key, error.args[0])
                if self._give_up.wait(pause):
                    return None
        return None


def _failed(folder: Path | None, reason: str) -> dict[str, Any]:
    """Return the end of a job that failed for a reason, and keep it in the job's folder, if there is one."""
    end = ended(JobPhase.FAILED, reason)
    if folder is not None and folder.is_dir():
        try:
            write_end(folder, end)
        except OSError:
            _log.exception("The end of a job cannot be kept in %s", folder)
    return end


@contextmanager
def _publishing_log(folder: Path) -> Iterator[None]:
    """Within the block, publish the log of a job as it grows, so that it can be read on other machines."""
    if not is_elsewhere():
        yield
        return
    over = threading.Event()

    def publish() -> None:
        published = 0
        while not over.wait(_LOG_SECONDS):
            size = (folder / LOG).stat().st_size if (folder / LOG).exists() else 0
            if size == published:
                continue
            try:
                publish_job_log(folder)
            except StoreError as error:
                _log.warning("The log in %s cannot be published, trying again: %s", folder, error)
            else:
                published = size

    thread = threading.Thread(target=publish, name="irp-job-log", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
