"""Planning: the jobs that run the analyses of a batch again, with other draws."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from irp_pipeline import engines, settings
from irp_pipeline.columns import Folders
from irp_pipeline.cycle_files import REPEATS, SCRATCH
from irp_pipeline.exposure import ExposureError
from irp_pipeline.exposure.other_draws import LOCATION_NUMBER, with_other_draws
from irp_pipeline.exposure.segment_fields import fields_of
from irp_pipeline.files import make_folder
from irp_pipeline.helpers.job_request import REPEAT
from irp_pipeline.helpers.repeats.errors import RepeatError
from irp_pipeline.helpers.reruns import (
    Place,
    RecordedRun,
    RerunError,
    job_name,
    kept_portfolio,
    named_files_of,
    recorded_runs,
)
from irp_pipeline.helpers.result.finished import require_batch
from irp_pipeline.helpers.result.uncertainty import NO_SAMPLES


@dataclass(frozen=True, kw_only=True)
class RepeatedAnalysis:
    """An analysis that is run again.

    Attributes:
        recorded: as the cycle recorded it.
        jobs: the names of the jobs with other draws.
    """

    recorded: RecordedRun
    jobs: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is run.

    Attributes:
        batch_id: the batch of analyses.
        analyses: the analyses by name.
        jobs: the parameters of all jobs.
        refused: why other analyses are not run again, by name.
    """

    batch_id: int
    analyses: Mapping[str, RepeatedAnalysis]
    jobs: tuple[Mapping[str, Any], ...] = field(repr=False)
    refused: Mapping[str, str]


def plan(batch_id: int, runs: int, only: Sequence[str] | None = None) -> Plan:
    """Plan the runs of a batch's analyses with other draws, and keep their files with the cycle.

    Args:
        batch_id: a batch of analyses.
        runs: how often each analysis is run again.
        only: only these analyses; None means all.

    Raises:
        RepeatError: the batch has no finished job of an analysis in ``only``.
        ResultError: the result of a job cannot be read.
        StoreError: the store of files cannot be reached.
        DatabaseError: the database refuses or is away.
    """
    batch = require_batch(batch_id)
    recorded = recorded_runs(batch)
    if unknown := [name for name in only or () if name not in recorded]:
        raise RepeatError(f"{batch.cycle_name} has no finished job of: {', '.join(unknown)}")
    portfolios = _Portfolios()
    analyses: dict[str, RepeatedAnalysis] = {}
    jobs: list[Mapping[str, Any]] = []
    refused: dict[str, str] = {}
    for name, run in recorded.items():
        if only is not None and name not in only:
            continue
        try:
            of_analysis = _jobs(run, runs, portfolios)
        except (RerunError, ExposureError) as error:
            refused[name] = str(error)
        else:
            analyses[name] = RepeatedAnalysis(recorded=run, jobs=tuple(str(job["name"]) for job in of_analysis))
            jobs += of_analysis
    return Plan(batch_id=batch_id, analyses=analyses, jobs=tuple(jobs), refused=refused)


def _jobs(run: RecordedRun, runs: int, portfolios: _Portfolios) -> list[Mapping[str, Any]]:
    if not run.job.provenance.get("samples") or run.job.provenance.get("losses_by") == "means":
        raise RepeatError(NO_SAMPLES)
    declaration = engines.declared(run.job.analysis)
    if declaration is None:
        raise RepeatError(f"there is no engine {run.job.analysis.get('engine')!r} on this machine")
    if declaration.drawn_by_location is None:
        raise RepeatError(f"the engine {declaration.name} does not say that it draws by the numbers of locations")
    place = Place(run.cycle_folder, REPEATS)
    parameters = named_files_of(run, declaration, place) | {"segments": _without_locations(run.job.analysis)}
    if reasons := list(declaration.drawn_by_location(parameters, Folders(place.named_files, settings.models_folder()))):
        raise RepeatError("; ".join(reasons))
    return [
        parameters
        | place.parameter(inputs)
        | {
            "name": job_name(run.job.name, f"draws {number}"),
            REPEAT: {"analysis": run.job.name, "job": run.job.job_id, "draws": number},
        }
        for number, inputs in enumerate(portfolios.with_other_draws(run, place, runs), start=1)
    ]


class _Portfolios:
    """The portfolios with other draws: each is put together and kept once, however many analyses have it."""

    def __init__(self) -> None:
        self._kept: dict[frozenset[tuple[str, str]], list[dict[str, dict[str, str]]]] = {}

    def with_other_draws(self, run: RecordedRun, place: Place, runs: int) -> list[dict[str, dict[str, str]]]:
        """Return the inputs of each run of an analysis with other draws."""
        content = frozenset((name, file["sha256"]) for name, file in run.request.get("inputs", {}).items())
        if content not in self._kept:
            tables = run.tables()
            make_folder(run.cycle_folder / SCRATCH)
            with tempfile.TemporaryDirectory(dir=run.cycle_folder / SCRATCH, prefix="repeat-") as scratch:
                self._kept[content] = [
                    kept_portfolio(with_other_draws(tables, number, Path(scratch) / str(number)), place)
                    for number in range(1, runs + 1)
                ]
        return self._kept[content]


def _without_locations(analysis: Mapping[str, Any]) -> list[str]:
    """Return the segments of an analysis, without those by the number of the location, which is another one."""
    return [by for by in analysis.get("segments") or () if LOCATION_NUMBER not in fields_of(by)]
