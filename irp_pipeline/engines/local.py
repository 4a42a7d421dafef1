"""A risk engine that is a program: workers run it, on this machine or on others.

A job is a program that runs in its own folder and its own session, and writes ``outcome.json`` at the end. This module
does not know what it computes. :mod:`irp_pipeline.engines.folders` describes the folder,
:mod:`irp_pipeline.engines.running` runs the program, :mod:`irp_pipeline.engines.leases` says which worker has a job.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

from irp_pipeline import settings, store
from irp_pipeline.engines import leases
from irp_pipeline.engines.declaration import ENGINES
from irp_pipeline.engines.folders import ended, folder_of_job, kill_what_is_left, log_text, read_end
from irp_pipeline.engines.inputs import DATA_FOLDER, hash_entry, named_files
from irp_pipeline.engines.leases import JobLease, LeasedJob
from irp_pipeline.engines.limits import Limits
from irp_pipeline.engines.protocol import JobPhase, JobState
from irp_pipeline.engines.waking import wake_worker
from irp_pipeline.errors import IrpError
from irp_pipeline.hashes import value_hash
from irp_pipeline.postgres.parameters import json_value
from irp_pipeline.queue.names import QueueError
from irp_pipeline.queue.tasks import enqueue, queue_name, withdraw

Usable = Callable[[Mapping[str, Any], Mapping[str, str]], Iterable[str]]

_NEEDED_BYTES: Final = 100_000_000
"""With less free space than this, no job is submitted."""


class LocalEngine:
    """A risk engine that is a program; see :class:`irp_pipeline.engines.protocol.RiskEngine`.

    Args:
        jobs_folder: has a folder for each job, named by its key.
        program: the command; the job's folder is its last argument and its working folder.
        limits: what each job may use; default: the settings of the machine that runs it.
        environment: names of variables that the program reads, as for
            :func:`irp_pipeline.engines.environment.job_environment`.
        usable: what else :meth:`check` says: given the columns of an analysis that name files and models, and the paths
            of these files, by column, it returns the problems. Called once for equal columns.

    Attributes:
        program, limits, environment: as given; workers read them.
    """

    def __init__(
        self,
        jobs_folder: Path,
        program: Sequence[str],
        limits: Limits | None = None,
        environment: Collection[str] = (),
        usable: Usable | None = None,
    ) -> None:
        self._jobs = jobs_folder
        self._usable = usable
        self._known: dict[str, tuple[str, ...]] = {}
        self.program = tuple(program)
        self.limits = limits or Limits(settings.job_seconds(), settings.job_disk_bytes(), settings.job_memory_bytes())
        self.environment = environment

    def folder(self, key: str) -> Path:
        """Return the folder where the files of a job are."""
        return folder_of_job(self._jobs, key)

    def check(self, request: Mapping[str, Any]) -> Iterator[str]:
        """Say what keeps a job from running now, as :class:`irp_pipeline.engines.protocol.CheckingEngine` describes.

        The files of the request are there and have the hashes of the request; and if this machine runs jobs, the
        program is there, and so is space for files. Each file is looked at once, however many jobs have it.
        """
        if settings.job_slots():
            yield from self._once("program", self._problems_of_machine)
        inputs = request.get("inputs", {})
        for name, file in inputs.items():
            yield from self._once(["input", file], partial(self._problems_of_input, name, file))
        analysis = request["analysis"]
        declared = ENGINES.declared().get(str(analysis.get("engine")))
        if declared is not None:
            depends_on = (column for file in declared.files.values() for column in file.depends_on)
            columns = {*declared.files, *depends_on, *declared.model_columns}
            named = {column: analysis.get(column) for column in sorted(columns)}
            hashes = {column: request.get(hash_entry(column)) for column in declared.files}
            yield from self._once(
                [analysis["engine"], named, hashes, request.get(DATA_FOLDER)],
                partial(self._problems_of_named, request, named),
            )

    def _once(self, what: object, look: Callable[[], Iterable[str]]) -> tuple[str, ...]:
        key = value_hash(json_value(what))
        if key not in self._known:
            self._known[key] = tuple(look())
        return self._known[key]

    def _problems_of_machine(self) -> Iterator[str]:
        if shutil.which(self.program[0]) is None:
            yield f"its program {self.program[0]} is not on this machine, or cannot be executed"
        folder = next((place for place in (self._jobs, *self._jobs.parents) if place.is_dir()), None)
        if folder is not None and (free := shutil.disk_usage(folder).free) < _NEEDED_BYTES:
            yield f"only {free / 1e6:,.0f} MB are free for the files of jobs in {folder}: make room"

    def _problems_of_input(self, name: str, file: Mapping[str, str]) -> Iterator[str]:
        key = store.key_of(self._jobs.parent / file["key"])
        try:
            is_there = store.exists(key, file["sha256"])
        except (IrpError, OSError) as error:
            yield f"the file {name} of the job cannot be used: {error}"
            return
        if not is_there:
            yield f"the file {name} of the job, {key}, is missing or has other content than recorded"

    def _problems_of_named(self, request: Mapping[str, Any], named: Mapping[str, Any]) -> Iterator[str]:
        try:
            paths = named_files(request, self._jobs.parent)
        except (IrpError, OSError) as error:
            yield str(error)
            return
        if self._usable is not None:
            yield from self._usable(named, paths)

    def submit(self, requests: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
        """Queue jobs, in the caller's transaction.

        Args:
            requests: the request of each job by its key; ``queue`` names the queue, if it is not the usual one.

        Returns:
            Why jobs are refused, by key: ``queue`` cannot be the name of a queue.

        Raises:
            EngineError: a key cannot be the name of a folder.
        """
        queues, refused = {}, {}
        for key, request in requests.items():
            self.folder(key)
            try:
                queues[key] = queue_name(request.get("queue"))
            except QueueError as error:
                refused[key] = str(error)
        if queues:
            enqueue(queues)
        return refused

    def wake(self) -> None:
        """Start a worker on this machine, unless there is one."""
        wake_worker()

    def states(self, keys: Collection[str]) -> dict[str, JobState]:
        """Return the states of jobs, by one statement; end jobs whose worker is gone as FAILED."""
        jobs = leases.leased_jobs(keys)
        late = [job.job_key for job in jobs.values() if job.engine_end is None and job.lease and job.lease.is_expired]
        if late:
            leases.suspect(late)
        states = {key: self._state(jobs.get(key)) for key in keys}
        if any(state.phase is JobPhase.QUEUED for state in states.values()):
            wake_worker()
        return states

    def cancel(self, keys: Collection[str]) -> None:
        """Ask jobs to end: a job at work ends within seconds, a waiting job at once."""
        leases.ask_to_end(keys)
        withdraw(keys)

    def log(self, key: str) -> str:
        """Return what the job's program has printed so far, without control characters; only the end of a long log."""
        return log_text(self.folder(key) / "log.txt")

    def _state(self, job: LeasedJob | None) -> JobState:
        if job is None:
            return JobState(JobPhase.UNKNOWN)
        if job.engine_end is not None:
            return _state_of_end(job.engine_end)
        if job.lease is not None:
            return self._close(job, job.lease) if job.lease.is_lost() else JobState(JobPhase.RUNNING, job.doing)
        if job.is_cancelled:
            return JobState(JobPhase.CANCELLED, "It was cancelled before it began")
        return JobState(JobPhase.QUEUED if job.is_queued else JobPhase.UNKNOWN)

    def _close(self, job: LeasedJob, lease: JobLease) -> JobState:
        """End a job whose worker is lost: as its files say it ended, or as FAILED."""
        folder = self.folder(job.job_key)
        if lease.worker.is_here():
            kill_what_is_left(folder)
        end = _end_in_files(folder) or ended(
            JobPhase.FAILED,
            f"Its worker was lost: process {lease.worker.pid} on host {lease.worker.host} ended without a report, or "
            "its machine was restarted or is cut off",
        )
        if leases.report(job.job_key, lease.token, end):
            return _state_of_end(end)
        # Somebody else was faster.
        now = leases.leased_jobs([job.job_key]).get(job.job_key)
        if now is not None and now.engine_end is not None:
            return _state_of_end(now.engine_end)
        return JobState(JobPhase.RUNNING, job.doing)


def _end_in_files(folder: Path) -> dict[str, Any] | None:
    """Return how a job ended according to its files, here or in the store; None if they do not say so."""
    if (end := read_end(folder)) is None and store.is_elsewhere():
        with suppress(store.MissingFileError):
            store.fetch_job_file(folder, store.END)
        end = read_end(folder)
    return end


def _state_of_end(end: Mapping[str, Any]) -> JobState:
    return JobState(JobPhase(end["phase"]), end.get("message"), end.get("result"))
