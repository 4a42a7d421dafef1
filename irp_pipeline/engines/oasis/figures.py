"""From the output files of Oasis LMF to figures, which keep every digit.

The tables and their codes are those of the Open Results Data standard:
https://github.com/OasisLMF/ODS_OpenResultsData
"""

import hashlib
import math
import struct
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from irp_pipeline.engines.oasis.checks import FigureError
from irp_pipeline.engines.oasis.failures import OasisError
from irp_pipeline.vocabulary import Metric

if TYPE_CHECKING:
    from irp_pipeline.engines.oasis.deterministic import DeterministicLosses

# SampleType and EPCalc: of the sampled losses. Without samples there are only means, and terms applied to means are not
# exact.
_SAMPLED: Final = (2, 2)
_BY_MEANS: Final = (1, 1)
_CURVES: Final = {1: Metric.OEP, 3: Metric.AEP}  # EPType; 2 and 4 are the tail conditional expectations


@dataclass(frozen=True)
class StochasticFigures:
    """The figures of an analysis with a model.

    Attributes:
        figures: the figures.
        not_defined: what has no figure, each with the reason.
        beyond: the return periods that the simulated years do not support.
    """

    figures: list[dict[str, Any]]
    not_defined: list[str]
    beyond: list[int]


def stochastic_figures(
    output: Path, perspectives: Sequence[str], return_periods: Sequence[int], *, periods: int, samples: int
) -> StochasticFigures:
    """Read AAL, standard deviation, OEP and AEP.

    Args:
        output: the folder of the ORD files.
        perspectives: ``GUL``, ``IL``, ``RI``.
        return_periods: those wanted, in years; empty means all that are in the files.
        periods: number of simulated years.
        samples: number of samples of each year; with 0 the figures are those of mean losses.

    Raises:
        OasisError: a file or a figure is missing.
        FigureError: a figure is not a number, or is below zero.
    """
    figures: list[dict[str, Any]] = []
    not_defined: list[str] = []
    years = periods * max(samples, 1)
    wanted = [period for period in return_periods if period <= years]
    for perspective in perspectives:
        figures += _of_perspective(output, perspective, wanted, periods, samples, not_defined)
    return StochasticFigures(figures, not_defined, [period for period in return_periods if period > years])


def _of_perspective(
    output: Path, perspective: str, wanted: Sequence[int], periods: int, samples: int, not_defined: list[str]
) -> Iterator[dict[str, Any]]:
    averages = _averages(output, perspective, 1, samples).get(1, [])
    if len(averages) != 1:
        raise OasisError(f"Oasis LMF gave {len(averages)} average annual losses for {perspective} instead of one")
    mean, deviation = averages[0]
    yield loss_figure(perspective, Metric.AAL, mean)
    if periods == 1 and (deviation is None or math.isnan(deviation)):
        not_defined.append(f"STD_DEV of {perspective}: one simulated year has no standard deviation")
    else:
        yield loss_figure(perspective, Metric.STD_DEV, deviation)
    found = _curves(output, perspective, 1, samples)[1]
    for curve in _CURVES.values():
        for period in sorted(wanted or {period for of, period in found if of == curve}):
            if (curve, period) in found:
                yield loss_figure(perspective, curve, found[curve, period], return_period=period)
            else:
                not_defined.append(f"{curve} of {perspective} at {period:,} years: Oasis LMF gives none")


def segment_figures(
    output: Path,
    perspective: str,
    summary: int,
    segments: Mapping[int, tuple[str, ...]],
    *,
    points: Collection[tuple[str, Any]],
    samples: int,
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the figures of segments, each with the ``SummaryId`` of its segment; of zero if it has no loss.

    Args:
        output: the folder of the ORD files.
        perspective: ``GUL``, ``IL``, ``RI``.
        summary: the number of the summary whose parts are the segments.
        segments: the values of each segment by its ``SummaryId``.
        points: metric and return period of the figures that the whole portfolio has.
        samples: as for :func:`stochastic_figures`.

    Raises:
        OasisError: a file or a figure is missing.
        FigureError: a figure is not a number, or is below zero.
    """
    averages = _averages(output, perspective, summary, samples)
    curves = _curves(output, perspective, summary, samples)
    for number in sorted(segments):
        of_segment = averages.get(number, [])
        if len(of_segment) > 1 or (number in curves and not of_segment):
            raise OasisError(
                f"Oasis LMF gave {len(of_segment)} average annual losses for {perspective} of the segment "
                f"{', '.join(segments[number])} instead of one"
            )
        mean, deviation = of_segment[0] if of_segment else (0.0, 0.0)
        known = {(Metric.AAL, None): mean, (Metric.STD_DEV, None): deviation}
        for metric, period in points:
            if period is None:
                yield number, loss_figure(perspective, metric, known[Metric(metric), None])
            elif number not in curves:
                yield number, loss_figure(perspective, metric, 0.0, return_period=period)
            elif (loss := curves[number].get((metric, period))) is not None:
                yield number, loss_figure(perspective, metric, loss, return_period=period)


def _averages(output: Path, perspective: str, summary: int, samples: int) -> dict[int, list[tuple[Any, Any]]]:
    """The mean and standard deviation of the parts of a summary, by ``SummaryId``."""
    sample_type, _ = _SAMPLED if samples else _BY_MEANS
    found: defaultdict[int, list[tuple[Any, Any]]] = defaultdict(list)
    for row in _read(output, f"{perspective.lower()}_S{summary}_palt", ("SampleType", "==", sample_type)):
        found[row["SummaryId"]].append((row["MeanLoss"], row["SDLoss"]))
    return found


def _curves(output: Path, perspective: str, summary: int, samples: int) -> dict[int, dict[tuple[str, Any], Any]]:
    """The losses of the parts of a summary by curve and return period, by ``SummaryId``."""
    _, calculation = _SAMPLED if samples else _BY_MEANS
    found: defaultdict[int, dict[tuple[str, Any], Any]] = defaultdict(dict)
    chosen = ("EPCalc", "==", calculation), ("EPType", "in", list(_CURVES))
    for row in _read(output, f"{perspective.lower()}_S{summary}_ept", *chosen):
        curve, period, loss = _CURVES[row["EPType"]], row["ReturnPeriod"], row["Loss"]
        of_part = found[row["SummaryId"]]
        if (curve, period) in of_part:
            raise FigureError(
                f"Oasis LMF gave two losses as {curve} of {perspective} at {period:,g} years: "
                f"{of_part[curve, period]:,.2f} and {loss:,.2f}"
            )
        of_part[curve, period] = loss
    return found


def deterministic_figures(losses: "DeterministicLosses", perspectives: Sequence[str]) -> list[dict[str, Any]]:
    """Return the losses of all locations together for each loss factor.

    Args:
        losses: the losses.
        perspectives: ``GUL``, ``IL``, ``RI``.

    Raises:
        OasisError: there are no losses of a perspective.
        FigureError: a loss is not a number.
    """
    figures = []
    for perspective in perspectives:
        if perspective not in losses.totals:
            raise OasisError(f"Oasis LMF gave no {perspective} losses: does the portfolio have the terms for them?")
        for factor, total in zip(losses.factors, losses.totals[perspective].tolist(), strict=True):
            figures.append(loss_figure(perspective, Metric.LOSS, total, loss_factor=factor))
    return figures


def occurrence(file: Path) -> tuple[str, int]:
    """Return the hash of an occurrence set and its number of periods.

    Args:
        file: ``occurrence.bin`` as the kernel read it: two 4-byte integers (options and the number of periods), then
            the occurrences.
    """
    content = file.read_bytes()
    _, periods = struct.unpack_from("<ii", content)
    return hashlib.sha256(content).hexdigest(), periods


def loss_figure(perspective: str, metric: str, loss: float | None, **of: float) -> dict[str, Any]:
    """Return a figure as an engine reports it; a FigureError says that it is not a number, or is below zero."""
    at = "".join(f" at {value:,g} ({name.replace('_', ' ')})" for name, value in of.items())
    if loss is None or not math.isfinite(loss):
        raise FigureError(f"Oasis LMF gave {'nothing' if loss is None else loss} as {metric} of {perspective}{at}")
    if loss < 0:
        raise FigureError(f"Oasis LMF gave {loss:,.2f} as {metric} of {perspective}{at}, which is below zero")
    return {
        "perspective": perspective,
        "metric": metric,
        "return_period": None,
        "loss_factor": None,
        **of,
        "loss": loss,
    }


def _read(output: Path, name: str, *filters: tuple[str, str, Any]) -> list[Mapping[str, Any]]:
    """The rows of a table that meet all filters, each a column, an operator and a value."""
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(output / f"{name}.parquet", filters=list(filters) or None)
        rows: list[Mapping[str, Any]] = table.to_pylist()
    except FileNotFoundError:
        raise OasisError(f"Oasis LMF wrote no {name}.parquet: it computed no losses") from None
    return rows
