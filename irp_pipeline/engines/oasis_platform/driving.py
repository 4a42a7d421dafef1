"""Driving a job forward at an Oasis Platform, step by step.

Before each step, the analysis is looked for: its status says which step is next. So every step is found again after an
interruption, wherever that was, and two processes that drive the same job do no harm to each other.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from irp_pipeline.engines.folders import ended, write_end
from irp_pipeline.engines.oasis.analysis import Settings, analysis_settings
from irp_pipeline.engines.oasis.inputs import check_locations, check_segments, check_tables
from irp_pipeline.engines.oasis.model import Model
from irp_pipeline.engines.oasis.portfolio import check_identifiers, read_locations
from irp_pipeline.engines.oasis_platform import job_folder, progress
from irp_pipeline.engines.oasis_platform.errors import AwayError, PlatformError
from irp_pipeline.engines.oasis_platform.platform import PlatformModel, find_analysis, find_model, have_portfolio
from irp_pipeline.engines.oasis_platform.results import check_years, fetch_result
from irp_pipeline.engines.protocol import JobPhase, JobState
from irp_pipeline.errors import IrpError
from irp_pipeline.files import write_atomically

if TYPE_CHECKING:
    from irp_pipeline.engines.oasis_platform.connection import Connection

_MOST_STEPS: Final = 10
"""The steps of a job in one call; more would mean that the Platform takes a step and does not go on."""
_EXCEPTION: Final = re.compile(r"^(?:[A-Za-z_]\w*\.)*(?P<said>[A-Za-z_]\w*(?:Error|Exception)\w*: .+)$", re.MULTILINE)


def analysis_name(key: str) -> str:
    """Return the name of a job's analysis at the Platform."""
    return f"irp-{key}"


def drive(connection: Connection, folder: Path, key: str, until: float) -> JobState:
    """Take the next steps of a job, until the Platform is at work on it, or it has ended; return its state.

    Args:
        connection: the Platform.
        folder: the job's folder, with its request, which the caller has locked.
        key: the job's key.
        until: begin no further step after this time (``time.monotonic``).

    Raises:
        AwayError: the Platform is away; what was done is found again.
    """
    try:
        return _Job(connection, folder, key).drive(until)
    except AwayError:
        raise
    except OSError as error:
        return JobState(job_folder.last_seen(folder).phase, f"{folder} cannot be read or written: {error}")
    except IrpError as error:
        return _end(folder, JobPhase.FAILED, str(error))
    except Exception as error:  # what the Platform sends is untrusted, and must not keep other jobs from being tracked
        said = f"{type(error).__name__}: {error}"
        return _end(folder, JobPhase.FAILED, f"What the Oasis Platform sent cannot be used: {said}")


class _Job:
    """A job that is being driven."""

    def __init__(self, connection: Connection, folder: Path, key: str) -> None:
        self._platform = connection
        self._folder = folder
        self._name = analysis_name(key)
        self._request, self._base_settings = job_folder.read_request(folder)

    def drive(self, until: float) -> JobState:
        taken: tuple[object, ...] = ()
        refusal: PlatformError | None = None
        for _ in range(_MOST_STEPS):
            analysis = find_analysis(self._platform, self._name)
            status = None if analysis is None else str(analysis.get("status"))
            if analysis is not None and status in progress.ENDED:
                return self._ended(analysis, status)
            if (self._folder / job_folder.CANCEL).exists():
                if analysis is None or status not in progress.ACTIVE:
                    return _end(self._folder, JobPhase.CANCELLED, "It was cancelled before the Platform began it")
                cancel_analysis(self._platform, self._name)
                continue
            if analysis is not None and status in progress.ACTIVE:
                return job_folder.see(self._folder, progress.state_of(analysis))
            step = (status,) if analysis is None else (analysis["id"], status, bool(analysis.get("settings_file")))
            if refusal is not None and taken == step:
                raise refusal
            if time.monotonic() > until:
                return job_folder.last_seen(self._folder)
            taken, refusal = step, None
            try:
                self._step(analysis)
            except AwayError:
                raise
            except PlatformError as error:  # somebody else may have taken the step meanwhile
                refusal = error
        raise PlatformError(
            f"The Oasis Platform at {self._platform.url} takes the steps of the analysis {self._name}, but does not go "
            f"on: its status is {status}"
        )

    def _step(self, analysis: Mapping[str, Any] | None) -> None:
        analyses = self._platform.analyses
        if analysis is None:
            self._check_inputs()
            model = find_model(self._platform, self._request["analysis"])
            portfolio = have_portfolio(self._platform, self._request["exposure_hash"], self._folder / "inputs")
            if find_analysis(self._platform, self._name) is None:
                analyses.create(self._name, portfolio, model.id)
        elif analysis.get("status") == progress.NEW and not analysis.get("settings_file"):
            analyses.settings.post(analysis["id"], self._settings())
        elif analysis.get("status") == progress.NEW:
            analyses.generate(analysis["id"])
        elif analysis.get("status") == progress.READY:
            analyses.run(analysis["id"])

    def _check_inputs(self) -> None:
        """Refuse what Oasis LMF would stop at, or take in another way than it is meant, before it is sent."""
        inputs, perspectives = self._folder / "inputs", self._request["analysis"]["perspectives"]
        if any(inputs.iterdir()):
            check_tables(inputs, perspectives)
            check_segments(inputs, self._request["analysis"])
            check_identifiers(inputs, perspectives)
            check_locations(read_locations(inputs))

    def _settings(self) -> dict[str, Any]:
        if self._base_settings is None:
            raise PlatformError(
                f"The settings file {self._request.get('settings')} is not on this machine: run the cycle again"
            )
        model = find_model(self._platform, self._request["analysis"])
        given = self._given(model, self._base_settings)
        check_years(model, given.chosen)
        return given.chosen

    def _given(self, model: PlatformModel, base: Mapping[str, Any]) -> Settings:
        return analysis_settings(self._request["analysis"], Model(Path(model.name), {}, model.settings), base)

    def _ended(self, analysis: Mapping[str, Any], status: str) -> JobState:
        if status in progress.CANCELLED:
            return _end(self._folder, JobPhase.CANCELLED, "It was cancelled at the Platform")
        said = printed(self._platform, analysis)
        write_atomically(self._folder / job_folder.LOG, said)
        if status in progress.FAILED:
            return _end(self._folder, JobPhase.FAILED, _why(said, status))
        job_folder.see(self._folder, progress.state_of(analysis))
        model = find_model(self._platform, self._request["analysis"])
        result = fetch_result(self._platform, self._folder, self._request, analysis, model)
        if self._base_settings is not None:
            result["provenance"]["ignored"] = list(self._given(model, self._base_settings).ignored)
        return _end(self._folder, JobPhase.FINISHED, None, result)


def cancel_analysis(connection: Connection, name: str) -> None:
    """Cancel an analysis if the Platform is at work on it."""
    analysis = find_analysis(connection, name)
    if analysis is not None and analysis.get("status") in progress.ACTIVE:
        try:
            connection.analyses.cancel(analysis["id"])
        except AwayError:
            raise
        except PlatformError:  # it has just ended, or gone on to another status
            still = find_analysis(connection, name)
            if still is not None and still.get("status") == analysis["status"]:
                raise


def printed(connection: Connection, analysis: Mapping[str, Any]) -> str:
    """Return what Oasis LMF printed for an analysis: for its inputs, and for its losses."""
    parts = {
        "generation of the inputs": "input_generation_traceback_file",
        "computation of the losses": "run_traceback_file",
    }
    said = ""
    for title, file in parts.items():
        if analysis.get(file):
            said += f"===== {title} =====\n{connection.text(getattr(connection.analyses, file), int(analysis['id']))}\n"
    return said


def _why(said: str, status: str) -> str:
    """Say in one line why an analysis failed: the last exception in its log."""
    exceptions = [match["said"] for match in _EXCEPTION.finditer(said)]
    what = {
        "INPUTS_GENERATION_NO_KEYS": "The model covers no location of the portfolio",
        "INPUTS_GENERATION_ERROR": "The generation of the inputs failed at the Oasis Platform",
    }.get(status, "The computation of the losses failed at the Oasis Platform")
    return f"{what}: {exceptions[-1]}" if exceptions else f"{what}; the job's log may say why"


def _end(folder: Path, phase: JobPhase, message: str | None, result: dict[str, Any] | None = None) -> JobState:
    end = ended(phase, message, result)
    write_end(folder, end)
    return JobState(phase, end["message"], result)
