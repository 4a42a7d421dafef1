"""The engine of an Oasis Platform: what it does with jobs.

Handing a job over writes its request to this machine and asks the Platform nothing, since that happens within a
transaction. From then on, whoever asks for its state drives the job forward: each call makes the requests that need no
waiting, up to a time limit, and leaves the rest to the next call. Where a job stands is known at the Platform alone.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from irp_pipeline import settings
from irp_pipeline.engines.folders import folder_of_job, log_text
from irp_pipeline.engines.oasis_platform import job_folder, progress
from irp_pipeline.engines.oasis_platform.driving import analysis_name, cancel_analysis, drive, printed
from irp_pipeline.engines.oasis_platform.errors import AwayError
from irp_pipeline.engines.oasis_platform.platform import MODEL_COLUMNS, find_analysis, find_model
from irp_pipeline.engines.oasis_platform.results import fetch_files
from irp_pipeline.engines.protocol import EngineError, JobPhase, JobState
from irp_pipeline.errors import IrpError
from irp_pipeline.files import make_folder
from irp_pipeline.settings import PlatformAccess, SettingsError
from irp_pipeline.storable import storable_text

if TYPE_CHECKING:
    from irp_pipeline.engines.oasis_platform.connection import Connection

_CALL_SECONDS: Final = 20.0
"""After that, a call begins nothing new."""
_NOT_SET: Final = (
    "The address of the Oasis Platform is not set: set IRP_OASIS_PLATFORM_URL, and IRP_OASIS_PLATFORM_USER with "
    "IRP_OASIS_PLATFORM_PASSWORD"
)
_NOT_INSTALLED: Final = "The client of Oasis Platforms is not installed: pip install 'irp-pipeline[oasis]'"
_of_thread = threading.local()


class PlatformEngine:
    """A risk engine that is an Oasis Platform; see :class:`irp_pipeline.engines.protocol.RiskEngine`.

    Args:
        jobs_folder: has a folder for each job, named by its key.
    """

    def __init__(self, jobs_folder: Path) -> None:
        self._jobs = jobs_folder
        self._problems: dict[tuple[str, ...], tuple[str, ...]] = {}

    def check(self, request: Mapping[str, Any]) -> tuple[str, ...]:
        """Say what keeps a job from running now: the Platform does not answer, or has no such model.

        The Platform is asked once for each model; if it does not answer, once in all.
        """
        if () in self._problems:
            return self._problems[()]
        analysis = request["analysis"]
        model = tuple(str(analysis.get(column)) for column in MODEL_COLUMNS)
        if model not in self._problems:
            try:
                find_model(_connection(), analysis)
                self._problems[model] = ()
            except AwayError as error:
                _disconnect()
                self._problems[()] = (str(error),)
                return self._problems[()]
            except EngineError as error:
                self._problems[model] = (str(error),)
        return self._problems[model]

    def submit(self, requests: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
        """Take over jobs; nothing goes to the Platform before :meth:`wake` or :meth:`states`.

        Args:
            requests: by the key of the job: ``analysis``, a row of the sheet Analyses with the ``currency`` of its
                losses; ``inputs``, the OED files by name with ``key`` and ``sha256``; ``exposure_hash`` of these; and
                ``settings_hash`` and ``data_folder``, if there is a settings file.

        Returns:
            Why jobs are refused, by key: there is no address of a Platform or no client for it, or a job's folder
            cannot be written.
        """
        try:
            _access()
        except AwayError as error:
            return dict.fromkeys(requests, str(error))
        refused = {}
        for key, request in requests.items():
            try:
                job_folder.write_request(self._folder(key), request)
            except EngineError as error:
                refused[key] = str(error)
        return refused

    def wake(self) -> None:
        """Bring jobs to the Platform that nobody has brought there yet; if it is away, tracking does that later."""
        requests = sorted(self._jobs.glob(f"*/{job_folder.REQUEST}"))
        if waiting := [path.parent.name for path in requests if job_folder.is_new(path.parent)]:
            self.states(waiting)

    def states(self, keys: Collection[str]) -> dict[str, JobState]:
        """Return the states of jobs, and drive them forward.

        While the Platform is away, jobs count as RUNNING, with the reason as the message.
        """
        states: dict[str, JobState] = {}
        until = time.monotonic() + _CALL_SECONDS
        away: str | None = None
        # Those that were not looked at for the longest time come first, so that all have their turn.
        for key in sorted(keys, key=lambda key: job_folder.seen_at(self._folder(key))):
            folder = self._folder(key)
            state = job_folder.ended(folder)
            if state is None and away is None and time.monotonic() < until:
                try:
                    state = self._state(folder, key, until)
                except AwayError as error:
                    away = str(error)
                    _disconnect()  # the next call connects and logs in anew
            if state is None:
                state = job_folder.last_seen(folder) if away is None else JobState(JobPhase.RUNNING, away)
            states[key] = state
        return states

    def _state(self, folder: Path, key: str, until: float) -> JobState:
        connection = _connection()
        if not (folder / job_folder.REQUEST).exists():
            # Handed over on another machine. What needs the request is done once it is handed over here, too.
            analysis = find_analysis(connection, analysis_name(key))
            is_at_work = analysis is not None and analysis.get("status") in progress.ACTIVE
            return progress.state_of(analysis) if analysis and is_at_work else JobState(JobPhase.UNKNOWN)
        with job_folder.sole_driver(folder) as mine:
            if mine:
                return job_folder.ended(folder) or drive(connection, folder, key, until)
        return job_folder.last_seen(folder)

    def cancel(self, keys: Collection[str]) -> None:
        """Ask the Platform to end jobs; one that it is not at work on ends at once.

        Raises:
            EngineError: the Platform is away.
        """
        folders = {key: self._folder(key) for key in keys if job_folder.ended(self._folder(key)) is None}
        for folder in folders.values():
            if (folder / job_folder.REQUEST).exists():
                (folder / job_folder.CANCEL).touch()  # whoever drives the job now takes no further step
        for key, folder in folders.items():
            cancel_analysis(_connection(), analysis_name(key))
            self._state(folder, key, time.monotonic())

    def folder(self, key: str) -> Path:
        """Return the folder where the files of a job are.

        If there is none on this machine, and the Platform has the files of the finished job, they are fetched.
        """
        folder = self._folder(key)
        if not folder.exists():
            with suppress(IrpError, OSError):
                self._fetch_again(folder, key)
        return folder

    def _fetch_again(self, folder: Path, key: str) -> None:
        connection = _connection()
        analysis = find_analysis(connection, analysis_name(key))
        if analysis is None or analysis.get("status") != progress.COMPLETED:
            return
        make_folder(folder)
        try:
            with job_folder.sole_driver(folder) as mine:
                if mine:
                    fetch_files(connection, folder, analysis)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)  # so that the next call tries again
            raise

    def log(self, key: str) -> str:
        """Return what Oasis LMF printed at the Platform so far; only the end of a long log.

        Raises:
            EngineError: the Platform is away.
        """
        path = self._folder(key) / job_folder.LOG
        if not path.exists():
            connection = _connection()
            analysis = find_analysis(connection, analysis_name(key))
            return "" if analysis is None else storable_text(printed(connection, analysis).replace("\0", ""))
        return log_text(path)

    def _folder(self, key: str) -> Path:
        return folder_of_job(self._jobs, key)


def _access() -> PlatformAccess:
    """Say how to reach the Platform; an AwayError says what this machine lacks for that."""
    if find_spec("oasislmf") is None:
        raise AwayError(_NOT_INSTALLED)
    try:
        access = settings.oasis_platform()
    except SettingsError as error:
        raise AwayError(str(error)) from error
    if access is None:
        raise AwayError(_NOT_SET)
    return access


def _connection() -> Connection:
    """Return this thread's connection; its login is used again.

    Raises:
        AwayError: the Platform cannot be reached, or the settings do not say how.
    """
    access = _access()
    process, known, connection = getattr(_of_thread, "connection", (None, None, None))
    if connection is None or (process, known) != (os.getpid(), access):
        from irp_pipeline.engines.oasis_platform.connection import Connection

        if process == os.getpid():  # the sockets of a parent process stay its own
            _disconnect()
        connection = Connection(access)
        _of_thread.connection = (os.getpid(), access, connection)
    return connection


def _disconnect() -> None:
    """Forget this thread's connection."""
    *_, connection = _of_thread.__dict__.pop("connection", (None,))
    if connection is not None:
        connection.close()


def platform_version(name: str) -> str | None:
    """Say which Platform the settings name, for ``irp doctor``; None if they name none.

    Raises:
        EngineError: it cannot be reached, or does not let us in.
    """
    if settings.oasis_platform() is None:
        return None
    connection = _connection()
    return f"{connection.version() or 'unknown version'} at {connection.url}"
