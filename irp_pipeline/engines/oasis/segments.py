"""Segments of a run of Oasis LMF: which part of the portfolio each is, and its losses.

The values of fields are those of the run's own tables of locations and accounts, in which an empty code has the default
of OED: there, the segments are as Oasis LMF formed them. Insured values are those of the portfolio.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from irp_pipeline.engines.oasis.analysis import segment_summary
from irp_pipeline.engines.oasis.checks import check_curves, check_segments_add_up
from irp_pipeline.engines.oasis.failures import OasisError
from irp_pipeline.engines.oasis.figures import loss_figure, segment_figures
from irp_pipeline.engines.oasis.portfolio import Locations
from irp_pipeline.engines.oasis.run_facts import columns_of, table_used
from irp_pipeline.exposure.oed import OedTable
from irp_pipeline.exposure.segment_fields import fields_of
from irp_pipeline.losses.segments import Segment, Segmentation
from irp_pipeline.vocabulary import Metric, Perspective

if TYPE_CHECKING:
    from irp_pipeline.engines.oasis.deterministic import DeterministicLosses

_ACCOUNT: Final = ("PortNumber", "AccNumber")
_LOCATION_ROW, _ACCOUNT_ROW = "loc_idx", "acc_idx"
_EMPTY: Final = "0"
"""What Oasis LMF takes a missing value for."""

Values = tuple[str, ...]


@dataclass(frozen=True)
class SegmentLosses:
    """The segments of an analysis.

    Attributes:
        figures: their figures.
        segmentations: which segments there are, by combination of fields.
        checked: what was checked, in words.
    """

    figures: list[dict[str, Any]]
    segmentations: list[Segmentation]
    checked: list[str]


class SegmentKeys:
    """The values of the fields of a combination, by rows of the location and the account table.

    Args:
        run_input: the folder of the run's inputs.
        by: the OED fields.

    Raises:
        OasisError: the run's tables do not have a field.
    """

    def __init__(self, run_input: Path, by: Values) -> None:
        locations = columns_of(table_used(run_input, OedTable.LOCATION), (*_ACCOUNT, _LOCATION_ROW, *by))
        accounts = columns_of(table_used(run_input, OedTable.ACCOUNT), (*_ACCOUNT, _ACCOUNT_ROW, *by))
        if lacking := [name for name in by if name not in locations and name not in accounts]:
            raise OasisError(f"The tables of the run have no {', '.join(lacking)}, by which segments were asked for")
        here = [name for name in by if name in locations]
        others = [name for name in by if name not in locations]
        self._order = [(name in locations, (here if name in locations else others).index(name)) for name in by]
        self._of_location = dict(zip(locations[_LOCATION_ROW], _rows(locations, here), strict=True))
        self._account_of = dict(zip(locations[_LOCATION_ROW], _rows(locations, _ACCOUNT), strict=True))
        self._of_policy: dict[int, Values] = {}
        self._of_account: defaultdict[Values, dict[Values, None]] = defaultdict(dict)
        self.is_by_policy = bool(others)
        if others:
            self._of_policy = dict(zip(accounts[_ACCOUNT_ROW], _rows(accounts, others), strict=True))
            for account, values in zip(_rows(accounts, _ACCOUNT), _rows(accounts, others), strict=True):
                self._of_account[account][values] = None

    def of_location(self, row: int) -> list[Values]:
        """Return the segments that a location belongs to: one, unless its policies differ."""
        if row not in self._of_location:
            return []
        here = self._of_location[row]
        of_policies = self._of_account[self._account_of[row]] if self.is_by_policy else {(): None}
        return [self._ordered(here, there) for there in of_policies]

    def of_policy(self, row: int, policy: int) -> Values:
        """Return the segment of the losses that a policy pays for a location."""
        return self._ordered(self._of_location[row], self._of_policy.get(policy, ()))

    def _ordered(self, here: Values, there: Values) -> Values:
        return tuple((here if is_here else there)[place] for is_here, place in self._order)


def stochastic_segments(
    run: Path,
    analysis: Mapping[str, Any],
    used: Mapping[str, Any],
    whole: Sequence[Mapping[str, Any]],
    *,
    locations: Locations | None,
    rates: Mapping[int, float],
    samples: int,
    is_weighted: bool,
) -> SegmentLosses:
    """Read and check the segments of a run with a model.

    Args:
        run: its folder.
        analysis: a row of the sheet Analyses.
        used: the settings of the run.
        whole: the figures of the whole portfolio.
        locations: the portfolio; None: the run does not have the locations of the portfolio.
        rates: exchange rates by row of the location table; 1 if one is missing.
        samples: number of samples of each year; with 0 the figures are those of mean losses.
        is_weighted: whether years have different weights.

    Raises:
        OasisError: a file or a figure is missing.
        FigureError: a figure is not a number or below zero, or the segments do not add up to the whole.
    """
    found = SegmentLosses([], [], [])
    for by in map(fields_of, analysis.get("segments") or ()):
        keys = SegmentKeys(run / "input", by)
        tivs = _insured(keys, locations, rates) if locations is not None else {}
        summaries: defaultdict[Values, dict[Perspective, int]] = defaultdict(dict)
        kept: dict[Perspective, str] = {}
        for perspective in Perspective.among(analysis["perspectives"]):
            number = segment_summary(used, perspective, by)
            values = _values_of_summaries(run / "output", perspective, number, by)
            points = [
                (figure["metric"], figure["return_period"]) for figure in whole if figure["perspective"] == perspective
            ]
            found.figures.extend(
                figure | {"segment_by": list(by), "segment": list(values[summary])}
                for summary, figure in segment_figures(
                    run / "output", perspective, number, values, points=points, samples=samples
                )
            )
            for summary, of in values.items():
                summaries[of][perspective] = summary
            if (run / "output" / f"{perspective.lower()}_S{number}_splt.parquet").is_file():
                kept[perspective] = f"{perspective.lower()}_S{number}_plt_sample"  # as the results call it
        segments = []
        for of in sorted({*tivs, *summaries}):
            tiv, number_of = tivs.get(of, (None, None))
            segments.append(Segment(of, tiv, number_of, summaries.get(of, {})))
        found.segmentations.append(Segmentation(by, tuple(segments), kept))
    if found.segmentations:
        found.checked.extend(check_segments_add_up(whole, found.figures))
        for figures in _by_segment(found.figures).values():
            check_curves(figures, is_weighted=is_weighted)
        found.checked.append("losses of each segment do not fall with the return period")
    return found


def deterministic_segments(
    run: Path,
    analysis: Mapping[str, Any],
    losses: DeterministicLosses,
    locations: Locations,
    whole: Sequence[Mapping[str, Any]],
) -> SegmentLosses:
    """Add up the losses of a run with given loss factors by segment, and check them.

    Args:
        run: its folder.
        analysis: a row of the sheet Analyses.
        losses: its losses.
        locations: what is insured and covered.
        whole: the figures of the whole portfolio.

    Raises:
        OasisError: the run's tables do not have a field.
        FigureError: the segments do not add up to the whole.
    """
    import numpy as np

    found = SegmentLosses([], [], [])
    for by in map(fields_of, analysis.get("segments") or ()):
        keys = SegmentKeys(run, by)
        tivs = _insured(keys, locations, {})
        for perspective in Perspective.among(analysis["perspectives"]):
            amounts = {values: np.zeros(len(losses.factors)) for values in tivs}
            rows, policies, of_pairs = losses.by_policy[perspective]
            for row, policy, loss in zip(rows.tolist(), policies.tolist(), of_pairs, strict=True):
                of = keys.of_location(row)[0] if policy < 0 else keys.of_policy(row, policy)
                amounts[of] += loss
            for values, by_factor in amounts.items():
                for factor, loss in zip(losses.factors, by_factor.tolist(), strict=True):
                    figure = loss_figure(perspective, Metric.LOSS, loss, loss_factor=factor)
                    found.figures.append(figure | {"segment_by": list(by), "segment": list(values)})
        segments = tuple(Segment(values, *insured) for values, insured in sorted(tivs.items()))
        found.segmentations.append(Segmentation(by, segments))
    if found.segmentations:
        found.checked.extend(check_segments_add_up(whole, found.figures))
    return found


def _insured(keys: SegmentKeys, locations: Locations, rates: Mapping[int, float]) -> dict[Values, tuple[float, int]]:
    """The insured value and the number of locations of each segment."""
    values: defaultdict[Values, list[float]] = defaultdict(list)
    for row in locations.distinct():
        for of in keys.of_location(row):
            values[of].append(locations.value(row) * rates.get(row, 1.0))
    return {of: (math.fsum(amounts), len(amounts)) for of, amounts in values.items()}


def _values_of_summaries(output: Path, perspective: str, number: int, by: Values) -> dict[int, Values]:
    """The values of the segments by ``SummaryId``."""
    path = output / f"{perspective.lower()}_S{number}_summary-info.parquet"
    columns = columns_of(path, ("summary_id", *by))
    if not {"summary_id", *by} <= columns.keys():
        raise OasisError(f"Oasis LMF wrote no {path.name} with the columns {', '.join(by)}")
    return dict(zip(map(int, columns["summary_id"]), _rows(columns, by), strict=True))


def _rows(columns: Mapping[str, Sequence[Any]], names: Sequence[str]) -> Iterator[Values]:
    number = len(next(iter(columns.values()), ()))
    if not names:
        return iter([()] * number)
    return zip(*([_text(value) for value in columns[name]] for name in names), strict=True)


def _text(value: object) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return _EMPTY
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _by_segment(figures: Iterable[Mapping[str, Any]]) -> dict[tuple[Values, Values], list[Mapping[str, Any]]]:
    found: defaultdict[tuple[Values, Values], list[Mapping[str, Any]]] = defaultdict(list)
    for figure in figures:
        found[tuple(figure["segment_by"]), tuple(figure["segment"])].append(figure)
    return found


def allocation_rules(options: Mapping[str, Any]) -> dict[str, int]:
    """Return the rules by which Oasis LMF allocates insured and net losses back to locations.

    Args:
        options: the configuration of the run.

    Raises:
        OasisError: a rule leaves the losses with layers, which belong to no segment.
    """
    from oasislmf.utils.defaults import KERNEL_ALLOC_IL_DEFAULT, KERNEL_ALLOC_RI_DEFAULT

    rules = {
        "IL": int(options.get("kernel_alloc_rule_il", KERNEL_ALLOC_IL_DEFAULT)),
        "RI": int(options.get("kernel_alloc_rule_ri", KERNEL_ALLOC_RI_DEFAULT)),
    }
    if without := [f"kernel_alloc_rule_{name.lower()}" for name, rule in rules.items() if rule == 0]:
        raise OasisError(
            f"{' and '.join(without)} is 0, which leaves losses with the layers of policies: segments need the rule 1, "
            "2 or 3"
        )
    return rules
