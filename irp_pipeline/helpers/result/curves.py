"""Whole curves of a batch: a Parquet file for each analysis or group and perspective, and how sure its figures are.

Here: writing them while the figures are computed, from sampled years that are in memory then anyway. Not here: the
mathematics (:mod:`irp_pipeline.losses.curves`), and what is recorded about each figure
(:mod:`irp_pipeline.helpers.result.uncertainty`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from irp_pipeline import hashes
from irp_pipeline.cycle_files import CURVES, UNCERTAINTY, curve_key
from irp_pipeline.files import appearing_when_whole
from irp_pipeline.helpers.result.finished import JobResult
from irp_pipeline.helpers.result.repeated import SureOf
from irp_pipeline.helpers.result.uncertainty import (
    NO_SAMPLES,
    Uncertainty,
    figure_key,
    sampling_error,
    uncertainty_table,
)
from irp_pipeline.losses import SampledYears, WholeCurves, whole_curves
from irp_pipeline.vocabulary import CURVES as CURVE_METRICS
from irp_pipeline.vocabulary import Metric, Perspective

if TYPE_CHECKING:
    import pyarrow as pa

    from irp_pipeline.helpers.result.recorded import RecordedFigure

NO_PERIOD_LOSSES: Final = "the analysis keeps no period losses"


class CurveFiles:
    """The files of a batch's curves, written one by one.

    Attributes:
        written: the files so far, by key.
        left_out: why perspectives of an analysis or group have no curve, by both names.
    """

    def __init__(self, folder: Path) -> None:
        """Begin without files.

        Args:
            folder: what their keys are relative to, such as the scratch space of a step.
        """
        self.written: dict[str, Path] = {}
        self.left_out: dict[tuple[str, Perspective], str] = {}
        self._folder = folder
        self._curves: dict[tuple[str, Perspective], WholeCurves] = {}

    def keep(
        self, name: str, jobs: Sequence[JobResult], return_periods: Iterable[float]
    ) -> Callable[[Perspective, SampledYears], None]:
        """Return a function that keeps the curves of one analysis or group, called with each perspective.

        Args:
            name: the analysis or group.
            jobs: of the analysis or the analyses in the group.
            return_periods: to be shown, in years.
        """
        periods, seed = list(return_periods), _seed(jobs)

        def keep(perspective: Perspective, years: SampledYears) -> None:
            found = whole_curves(years, periods, seed)
            key = curve_key(name, perspective)
            self.written[key] = self._write(key, found.points)
            self._curves[name, perspective] = found

        return keep

    def leave_out(self, name: str, perspective: Perspective, reason: str) -> None:
        """Say why there is no curve."""
        self.left_out[name, perspective] = reason

    def write_uncertainty(self, figures: Iterable[RecordedFigure], jobs: Mapping[int, JobResult]) -> None:
        """Write how sure the figures are; those of sampled years only.

        Args:
            figures: the figures of the batch.
            jobs: the jobs that they come from, by id.
        """
        measured = [found for found in figures if found.figure.metric in {Metric.AAL, *CURVE_METRICS}]
        rows = [(found, self._of(found, [jobs[job_id] for job_id in found.job_ids])) for found in measured]
        self.written[UNCERTAINTY] = self._write(UNCERTAINTY, uncertainty_table(rows))

    def _of(self, found: RecordedFigure, jobs: Sequence[JobResult]) -> Uncertainty:
        figure = found.figure
        place = found.analysis_name, figure.perspective
        curves = self._curves.get(place)
        interval = None
        if curves is not None and figure_key(found) == SureOf(*place, figure.metric, figure.return_period):
            interval = curves.intervals.get((Metric(figure.metric), figure.return_period))
        error, unknown = sampling_error(found, jobs)
        return Uncertainty(
            years_error_low=interval.low if interval else None,
            years_error_high=interval.high if interval else None,
            years_error_unknown=None
            if interval
            else self.left_out.get(place, NO_SAMPLES if unknown == NO_SAMPLES else NO_PERIOD_LOSSES),
            replications=curves.replications if curves and interval else None,
            sampling_error=error,
            sampling_error_unknown=unknown,
        )

    def _write(self, key: str, table: pa.Table) -> Path:
        import pyarrow.parquet as pq

        path = self._folder / key
        with appearing_when_whole(path) as partial:
            pq.write_table(table, partial)
        return path


def _seed(jobs: Sequence[JobResult]) -> int:
    """Return the seed of a resampling of years: by the years, whatever the losses."""
    sets = sorted({str(job.provenance.get("occurrence_hash")) for job in jobs})
    return int(hashes.value_hash([CURVES, jobs[0].periods, sets])[:16], 16)
