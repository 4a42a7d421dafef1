"""Whole curves in the report: what is drawn of them, and how sure the figures are.

Here: reading both from the files of the cycle, and choosing the points that are drawn. Not here: the chart
(:mod:`irp_pipeline.report.charts`), and computing anything (:mod:`irp_pipeline.helpers.result.curves`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from irp_pipeline.cycle_files import CURVES, curve_key
from irp_pipeline.helpers.artefact import ArtefactError, list_artefacts, read_artefacts
from irp_pipeline.helpers.result import RecordedFigure, SureOf, Uncertainty, recorded_uncertainty
from irp_pipeline.vocabulary import Metric

if TYPE_CHECKING:
    import numpy as np

_MOST_POINTS: Final = 120
"""Of a curve: about one for each eight pixels of a wide screen."""
_FEWEST_POINTS: Final = 12
_MOST_POINTS_IN_ALL: Final = 12_000
"""Of all curves of a report: about 400 kilobytes."""
_SIGNIFICANT_DIGITS: Final = 4


@dataclass(frozen=True)
class DrawnCurve:
    """A curve as it is drawn.

    Attributes:
        name: the analysis or group.
        perspective: whose loss.
        metric: OEP or AEP.
        return_periods: in years, ascending.
        losses: at each of them.
        low: lower end of the 90 % interval of the error of the years.
        high: its upper end.
    """

    name: str
    perspective: str
    metric: Metric
    return_periods: tuple[float, ...]
    losses: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


@dataclass(frozen=True)
class WholeCurves:
    """The whole curves of a cycle, and how sure its figures are.

    Attributes:
        drawn: the curves; none for analyses and groups whose curves are not kept.
        sure: how sure each figure is, if that is recorded.
        missing: why recorded curves cannot be read here.
        hashes: of the content of the curves, by name and perspective.
    """

    drawn: tuple[DrawnCurve, ...] = field(default=(), repr=False)
    sure: Mapping[SureOf, Uncertainty] = field(default_factory=dict, repr=False)
    missing: str | None = None
    hashes: Mapping[str, str] = field(default_factory=dict, repr=False)

    def content(self) -> dict[str, Any]:
        """Return it as plain data, in which two reports can be compared."""
        sure = [[*key, asdict(uncertainty)] for key, uncertainty in sorted(self.sure.items(), key=repr)]
        return {"curves": dict(self.hashes), "sure": sure, "missing": self.missing is not None}

    def of(self, name: str, perspective: str, metric: str, return_period: float | None = None) -> Uncertainty | None:
        """Return how sure a figure of a whole portfolio is; None if that is not recorded."""
        return self.sure.get(SureOf(name, perspective, metric, return_period))

    @property
    def sampling_runs(self) -> int:
        """The largest number of runs with other draws that a figure has; 0 without repeated runs."""
        return max((of.sampling_runs or 0 for of in self.sure.values()), default=0)

    def has_intervals(self, name: str) -> bool:
        """Tell whether the curves of an analysis or a group are kept."""
        return any(curve.name == name for curve in self.drawn)


def whole_curves(cycle_id: int, cycle_name: str, figures: Sequence[RecordedFigure]) -> WholeCurves:
    """Read the curves of a cycle that belong to its figures as they are now.

    Args:
        cycle_id: the cycle.
        cycle_name: its name.
        figures: its saved figures.

    Raises:
        StoreError: the store cannot be reached.
        DatabaseError: the database refuses or is away.
    """
    try:
        sure = recorded_uncertainty(cycle_name, figures)
        # The curves are of the same sampled years as the AAL.
        current = {
            (key.analysis_name, key.perspective) for key in sure if (key.metric, key.segment) == (Metric.AAL, ())
        }
        recorded = list_artefacts(cycle_id, CURVES)
        wanted = {place: recorded[key] for place in sorted(current) if (key := curve_key(*place)) in recorded}
        paths = dict(zip(wanted, read_artefacts(cycle_name, wanted.values()), strict=True))
    except ArtefactError as error:
        return WholeCurves(missing=str(error))
    points = points_of_each(2 * len(paths))
    drawn = [curve for place, path in paths.items() for curve in _drawn(*place, path, points)]
    hashes = {artefact.key: artefact.content_hash for artefact in wanted.values()}
    return WholeCurves(tuple(drawn), sure, hashes=hashes)


def points_of_each(curves: int) -> int:
    """Return how many points of each curve are drawn, so that a page with many stays small."""
    return max(_FEWEST_POINTS, min(_MOST_POINTS, _MOST_POINTS_IN_ALL // max(1, curves)))


def _drawn(name: str, perspective: str, path: Path, points: int) -> Iterable[DrawnCurve]:
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    for metric in (Metric.OEP, Metric.AEP):
        curve = table.filter(pc.equal(table["Metric"], metric.value)).sort_by("ReturnPeriod")
        if curve.num_rows:
            chosen = curve.take(_spread(curve["ReturnPeriod"].to_numpy(), points))
            columns = ("ReturnPeriod", "Loss", "YearsErrorLow", "YearsErrorHigh")
            values = (
                tuple(shortened(value, _SIGNIFICANT_DIGITS) for value in chosen[column].to_pylist())
                for column in columns
            )
            yield DrawnCurve(name, perspective, metric, *values)


def _spread(ascending: np.ndarray[Any, Any], points: int) -> np.ndarray[Any, Any]:
    """Return the positions of points that are spread evenly on a logarithmic axis, with both ends."""
    import numpy as np

    places = np.geomspace(ascending[0], ascending[-1], points)
    last = len(ascending) - 1
    return np.unique(np.append(np.minimum(np.searchsorted(ascending, places[:-1]), last), last))


def shortened(value: float, digits: int) -> float:
    """Round to so many significant digits, and to an integer if that is one: it is shorter in a page."""
    rounded = float(f"{value:.{digits}g}")
    return int(rounded) if rounded.is_integer() else rounded
