"""How sure figures are, in two parts that are never mixed.

The error of the years: how much a figure would differ if other years had been simulated
(:mod:`irp_pipeline.losses.years_error`). The error of sampling: how much it would differ with other draws of damage in
the same years. For the ground-up AAL it is seen by comparison with the AAL of mean losses, which has no draws. For
every figure it is seen in repeated runs with other draws.

Here: the record of both for each figure, and reading it back. Not here: computing the first part
(:mod:`irp_pipeline.helpers.result.curves`), and repeated runs (:mod:`irp_pipeline.helpers.repeats`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from irp_pipeline.cycle_files import CURVES, UNCERTAINTY
from irp_pipeline.helpers.artefact import list_artefacts, read_artefact
from irp_pipeline.helpers.cycle_lookup import find_cycle
from irp_pipeline.helpers.result.finished import JobResult
from irp_pipeline.helpers.result.repeated import SureOf, repeated_figures
from irp_pipeline.vocabulary import Metric, Perspective

if TYPE_CHECKING:
    import pyarrow as pa

    from irp_pipeline.helpers.result.recorded import RecordedFigure

ONLY_BY_REPEATED_RUNS: Final = "not known without repeated runs"
NO_SAMPLES: Final = "there are no samples"
NOT_RECORDED: Final = "the job did not record the AAL of mean losses; a new run of the analysis does"


@dataclass(frozen=True, kw_only=True, slots=True)
class Uncertainty:
    """How sure a figure is.

    Attributes:
        years_error_low: lower end of the 90 % interval of the error of the years, an amount.
        years_error_high: its upper end.
        years_error_unknown: why there is no such interval.
        replications: how many times the years were resampled for it.
        sampling_error: the figure minus the one without draws, an amount.
        sampling_error_unknown: why nothing is known of the error of sampling.
        sampling_deviation: the standard deviation of the figure over runs with other draws, an amount.
        sampling_runs: how many runs, with the recorded one.
    """

    years_error_low: float | None = None
    years_error_high: float | None = None
    years_error_unknown: str | None = None
    replications: int | None = None
    sampling_error: float | None = None
    sampling_error_unknown: str | None = None
    sampling_deviation: float | None = None
    sampling_runs: int | None = None


NAMES: Final = tuple(field.name for field in fields(Uncertainty))
"""The columns that say how sure a figure is, wherever figures are in tables."""
_BY_REPEATED_RUNS: Final = ("sampling_deviation", "sampling_runs")
_BY_ONE_RUN: Final = tuple(name for name in NAMES if name not in _BY_REPEATED_RUNS)
"""The columns of the file that is written with the figures."""


def figure_key(found: RecordedFigure) -> SureOf:
    """Return the key of a figure within a batch."""
    figure = found.figure
    of_whole = found.analysis_name, figure.perspective, figure.metric, figure.return_period
    return SureOf(*of_whole, figure.segment_by, figure.segment)


def sampling_error(found: RecordedFigure, jobs: Sequence[JobResult]) -> tuple[float | None, str | None]:
    """Return the error of sampling, or why it is not known.

    Means of several analyses add up, so that a group has it if all its analyses do. The insured and net AAL of mean
    losses are no comparison: terms were applied to means.

    Args:
        found: the figure.
        jobs: the jobs that it comes from.
    """
    if any(job.provenance.get("losses_by") == "means" for job in jobs):
        return None, NO_SAMPLES
    key = figure_key(found)
    if (key.perspective, key.metric, key.segment) != (Perspective.GUL, Metric.AAL, ()):
        return None, ONLY_BY_REPEATED_RUNS
    means = [mean_of(job) for job in jobs]
    known = [mean for mean in means if mean is not None]
    if len(known) < len(means):
        return None, NOT_RECORDED
    return found.figure.loss - math.fsum(known), None


def mean_of(job: JobResult) -> float | None:
    """Return the ground-up AAL of mean losses of a job, which has no draws; None if the job did not record it."""
    stated = job.provenance.get("aal_by_means")
    mean = stated.get(Perspective.GUL) if isinstance(stated, Mapping) else None
    return float(mean) if isinstance(mean, int | float) and math.isfinite(mean) else None


def uncertainty_table(rows: Sequence[tuple[RecordedFigure, Uncertainty]]) -> pa.Table:
    """Return figures and how sure they are as a table; the parts of a segment are JSON arrays."""
    import pyarrow as pa

    columns: dict[str, pa.Array] = {}
    for place, name in enumerate(SureOf._fields):
        values = [figure_key(found)[place] for found, _ in rows]
        plain = [json.dumps(value) if isinstance(value, tuple) else value for value in values]
        columns[name] = pa.array(plain, pa.float64() if name == "return_period" else pa.string())
    columns["loss"] = pa.array([found.figure.loss for found, _ in rows], pa.float64())
    columns["currency"] = pa.array([found.currency for found, _ in rows], pa.string())
    return pa.table(columns | uncertainty_columns([uncertainty for _, uncertainty in rows], _BY_ONE_RUN))


def uncertainty_columns(rows: Iterable[Uncertainty], names: Sequence[str] = NAMES) -> dict[str, pa.Array]:
    """Return the columns that say how sure figures are, in the order of the figures."""
    import pyarrow as pa

    plain = [asdict(uncertainty) for uncertainty in rows]
    types = dict.fromkeys(("years_error_unknown", "sampling_error_unknown"), pa.string())
    types |= dict.fromkeys(("replications", "sampling_runs"), pa.int32())
    return {name: pa.array([row[name] for row in plain], types.get(name, pa.float64())) for name in names}


def recorded_uncertainty(cycle_name: str, figures: Iterable[RecordedFigure]) -> dict[SureOf, Uncertainty]:
    """Return how sure the saved figures of a cycle are.

    Args:
        cycle_name: the cycle.
        figures: its figures as they are now. What is recorded of one that has changed since, is left out.

    Raises:
        ArtefactError: the file is missing on this machine, or is not the recorded one.
        StoreError: the store cannot be reached.
        DatabaseError: the database refuses or is away.
    """
    cycle = find_cycle(cycle_name)
    if cycle is None:
        return {}
    now = {figure_key(found): (found.figure.loss, found.currency) for found in figures}
    artefact = list_artefacts(cycle.id, CURVES).get(UNCERTAINTY)
    known = {} if artefact is None else _in_file(read_artefact(cycle_name, artefact), now)
    for repeated in repeated_figures(cycle.id):
        if now.get(repeated.key) == (repeated.loss, repeated.currency):
            known[repeated.key] = replace(
                known.get(repeated.key, Uncertainty()),
                sampling_error_unknown=None,
                sampling_deviation=repeated.deviation,
                sampling_runs=repeated.runs,
            )
    return known


def _in_file(path: Path, now: Mapping[SureOf, tuple[float, str]]) -> dict[SureOf, Uncertainty]:
    import pyarrow.parquet as pq

    known: dict[SureOf, Uncertainty] = {}
    for row in pq.read_table(path).to_pylist():
        segment = (tuple(json.loads(row[name])) for name in ("segment_by", "segment"))
        key = SureOf(row["analysis_name"], row["perspective"], row["metric"], row["return_period"], *segment)
        if now.get(key) == (row["loss"], row["currency"]):
            known[key] = Uncertainty(**{name: row[name] for name in _BY_ONE_RUN})
    return known
