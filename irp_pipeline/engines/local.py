"""A risk engine that is a program on this machine.

A job is a program that runs in its own folder and its own session, and writes ``outcome.json`` at the end. This module
does not know what it computes. :mod:`irp_pipeline.engines.folders` describes the folder, the queue and the slots;
:mod:`irp_pipeline.engines.supervisor` runs jobs.
"""

import json
import re
import subprocess
import sys
import time
from collections import defaultdict, deque
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from irp_pipeline import settings
from irp_pipeline.engines.environment import job_environment, supervisor_environment
from irp_pipeline.engines.folders import (
    UnreadableError,
    end,
    end_of_text,
    engine_folder,
    keep_environment,
    kill_what_is_left,
    locked,
    queue_entry,
    read_json,
    read_result,
    slot,
    text,
)
from irp_pipeline.engines.protocol import EngineError, JobPhase, JobState
from irp_pipeline.files import link_or_copy, make_folder, write_atomically
from irp_pipeline.worker import Worker

_KEY: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
_FILE_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_LOST_AFTER_SECONDS: Final = 60.0
_STARTING_SECONDS: Final = 3.0
_LOG_BYTES: Final = 16 * 2**20
_SUPERVISOR: Final = "irp_pipeline.engines.supervisor"

_starts: dict[Path, deque[float]] = defaultdict(deque)
"""When this process recently started supervisors, by the folder of the slots."""


@dataclass(frozen=True)
class Limits:
    """What a job may use.

    Attributes:
        seconds: how long it may run.
        disk_bytes: how large its folder may become.
        memory_bytes: how much memory its processes may use together; None means no limit.
    """

    seconds: float
    disk_bytes: float
    memory_bytes: float | None = None


class LocalEngine:
    """A risk engine that is a program on this machine; see :class:`irp_pipeline.engines.protocol.RiskEngine`.

    Args:
        jobs_folder: has a folder for each job, named by its key.
        program: the command; the job's folder is its last argument and its working folder.
        limits: what each job may use; default: the settings.
        environment: names of variables that the program reads, as for
            :func:`irp_pipeline.engines.environment.job_environment`.
    """

    def __init__(
        self,
        jobs_folder: Path,
        program: Sequence[str],
        limits: Limits | None = None,
        environment: Collection[str] = (),
    ) -> None:
        self._jobs = jobs_folder
        self._program = list(program)
        self._environment = environment
        self._limits = limits or Limits(settings.job_seconds(), settings.job_disk_bytes(), settings.job_memory_bytes())

    def folder(self, key: str) -> Path:
        """Return the folder where the files of a job are."""
        if not _KEY.fullmatch(key):
            raise EngineError(f"{key!r} cannot be the key of a job: 1 to 100 letters, digits, '_' and '-'")
        return self._jobs / key

    def submit(self, requests: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
        """Queue jobs. If an earlier call for the same keys was interrupted, complete it.

        Whoever starts the program, it gets the environment of the process that submits, as far as
        :mod:`irp_pipeline.engines.environment` allows.

        Args:
            requests: the request to the program by the key of the job; its ``inputs`` are files by their name in the
                job's folder.

        Returns:
            Why jobs are refused, by key: a file of ``inputs`` does not exist, or the job's folder cannot be written.
        """
        refused = {}
        for key, request in requests.items():
            try:
                self._submit(key, request)
            except EngineError as error:
                refused[key] = str(error)
        return refused

    def wake(self) -> None:
        """Start work on queued jobs."""
        ensure_supervisor()

    def _submit(self, key: str, request: Mapping[str, Any]) -> None:
        folder = self.folder(key)
        try:
            if not (folder / "request.json").exists():
                make_folder(folder.parent)
                folder.mkdir(exist_ok=True, mode=0o700)
                folder.chmod(0o700)  # even if it existed before: the environment may contain secrets
                keep_environment(folder, job_environment(self._environment))
                _link_inputs(folder / "inputs", request.get("inputs", {}))
                content = {"program": self._program, "limits": asdict(self._limits), "request": dict(request)}
                write_atomically(folder / "request.json", json.dumps(content, indent=1))
            if not (folder / "started.json").exists() and not (folder / "result.json").exists():
                with suppress(FileExistsError):
                    queue_entry(folder).symlink_to(folder.absolute())
        except OSError as error:
            raise EngineError(f"The job cannot be written to {folder}: {error.strerror or error}") from error

    def states(self, keys: Collection[str]) -> dict[str, JobState]:
        """Return the states of jobs; end jobs whose supervisor is gone as FAILED, and kill their processes.

        A job whose folder cannot be read or written counts as RUNNING, with a message; the others are still reported.
        """
        states = {key: self._state(key) for key in keys}
        if any(state.phase is JobPhase.QUEUED for state in states.values()):
            ensure_supervisor()
        return states

    def _state(self, key: str) -> JobState:
        folder = self.folder(key)
        try:
            return _state(folder)
        except OSError as error:
            return JobState(JobPhase.RUNNING, f"Its state cannot be read from {folder}: {error.strerror or error}")

    def cancel(self, keys: Collection[str]) -> None:
        """Ask jobs to end: a job at work ends within a second, a waiting job at once."""
        for key in keys:
            folder = self.folder(key)
            if (folder / "request.json").exists() and not (folder / "result.json").exists():
                (folder / "cancel").touch()
                with locked(folder, patience=0) as mine:
                    if mine and not (folder / "started.json").exists():
                        end(folder, JobPhase.CANCELLED, "It was cancelled before it began")
                        queue_entry(folder).unlink(missing_ok=True)

    def log(self, key: str) -> str:
        """Return what the job's program has printed so far, without control characters; only the end of a long log."""
        path = self.folder(key) / "log.txt"
        said, before = end_of_text(path, _LOG_BYTES)
        return f"[{before:,} bytes before this are in {path}]\n{said}" if before else said


def ensure_supervisor() -> None:
    """Start a supervisor if a slot is free. A superfluous one ends by itself."""
    with slot() as free:
        if not free:
            return
    slots = engine_folder("slots")
    now, starts = time.monotonic(), _starts[slots]
    while starts and now - starts[0] > _STARTING_SECONDS:
        starts.popleft()
    if len(starts) >= settings.job_slots():  # the recently started ones are about to take their slots
        return
    starts.append(now)
    log = slots.parent / "supervisors.log"
    # The shell ends at once, so the supervisor is not our child: it outlives us, and leaves no zombie.
    subprocess.run(  # noqa: S603 - the command is this project's own
        ["/bin/sh", "-c", '"$@" </dev/null >>"$0" 2>&1 &', str(log), sys.executable, "-m", _SUPERVISOR],
        cwd="/",
        check=True,
        start_new_session=True,
        umask=0o077,
        env=supervisor_environment(),
    )


def _state(folder: Path) -> JobState:
    for _ in range(2):  # a job that is just beginning may have left the queue but not yet appear as begun
        queued = queue_entry(folder).is_symlink()
        if ended := _end_of(folder):
            return ended
        if (folder / "started.json").exists():
            return _state_of_begun(folder)
        if queued:
            return JobState(JobPhase.QUEUED, text(folder / "doing.txt"))
    return JobState(JobPhase.UNKNOWN)


def _end_of(folder: Path) -> JobState | None:
    """Return how a job has ended; None if it has not, or if the file that says so is not ours."""
    try:
        ended = read_result(folder / "result.json")
    except UnreadableError:
        return None
    if ended is None:
        return None
    phase, message, result = ended.get("phase"), ended.get("message"), ended.get("result")
    if phase not in {JobPhase.FINISHED, JobPhase.FAILED, JobPhase.CANCELLED}:
        return None
    if not isinstance(message, str | None) or not isinstance(result, dict | None):
        return None
    return JobState(JobPhase(phase), message, result)


def _state_of_begun(folder: Path) -> JobState:
    supervisor = _supervisor_of(folder)
    if supervisor is not None and not supervisor.is_here():
        # A lock of another host may not be visible here, but its heartbeat is.
        with suppress(FileNotFoundError):
            if time.time() - (folder / "started.json").stat().st_mtime < _LOST_AFTER_SECONDS:
                return JobState(JobPhase.RUNNING, text(folder / "doing.txt"))
    with locked(folder, patience=0) as mine:
        if mine:  # it has no supervisor; unless it has just ended, it never will have one again
            if _end_of(folder) is None:
                kill_what_is_left(folder)
                machine = "its machine" if supervisor is None else f"the machine {supervisor.host}"
                end(
                    folder,
                    JobPhase.FAILED,
                    f"The process that ran it ended without a result: it was killed, or {machine} was restarted",
                )
            return _end_of(folder) or JobState(JobPhase.FAILED, "How it ended cannot be read")
    return JobState(JobPhase.RUNNING, text(folder / "doing.txt"))


def _supervisor_of(folder: Path) -> Worker | None:
    started = (read_json(folder / "started.json") or {}).get("supervisor")
    if not isinstance(started, dict):
        return None
    host, pid, began = started.get("host"), started.get("pid"), started.get("started")
    if isinstance(host, str) and isinstance(pid, int) and isinstance(began, str):
        return Worker(host, pid, began)
    return None


def _link_inputs(folder: Path, inputs: Mapping[str, str]) -> None:
    make_folder(folder)
    for name, source in inputs.items():
        if not _FILE_NAME.fullmatch(name):
            raise EngineError(f"{name!r} cannot be the name of an input file")
        target = folder / name
        target.unlink(missing_ok=True)
        try:
            link_or_copy(source, target)
        except FileNotFoundError:
            raise EngineError(f"There is no file {source}, which the job needs") from None
