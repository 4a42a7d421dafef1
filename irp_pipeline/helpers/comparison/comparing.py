"""Comparing two cycles, batches, analyses or groups: for reports as records, for notebooks as plain values."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from irp_pipeline.helpers.comparison.choosing import Chosen, choose, choose_before, cycle_named
from irp_pipeline.helpers.comparison.differences import Difference, differences, facts_of, in_words
from irp_pipeline.helpers.comparison.errors import ComparisonError
from irp_pipeline.helpers.comparison.exposure import ExposureLine, compare_exposure
from irp_pipeline.helpers.comparison.figures import compare_figures
from irp_pipeline.helpers.comparison.reading import read_figures, read_side
from irp_pipeline.helpers.comparison.sides import Compared, Side

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two sides, and what is different.

    Attributes:
        before: the earlier side.
        after: the later side.
        chosen: why the earlier cycle is the one compared with.
        exposure: the portfolios side by side.
        differences: in what the analyses and groups that are on both sides differ, by name, in the later side's order.
        figures: as :func:`~irp_pipeline.helpers.comparison.figures.compare_figures` returns them.
    """

    before: Side
    after: Side
    chosen: str
    exposure: tuple[ExposureLine, ...] = field(repr=False)
    differences: Mapping[str, tuple[Difference, ...]] = field(repr=False)
    figures: pd.DataFrame = field(repr=False)


def compare_cycles(
    cycle_name: str,
    before: str | None = None,
    *,
    analysis: str | None = None,
    analysis_before: str | None = None,
    batch_id: int | None = None,
    batch_id_before: int | None = None,
) -> dict[str, Any]:
    """Compare a cycle with an earlier one: exposure, what the figures come from, and figures.

    Two cycles of the schema of :mod:`irp_pipeline.helpers.db_context`, or two batches or analyses of one cycle.

    Args:
        cycle_name: the later cycle.
        before: the earlier cycle; None means the one with the latest earlier exposure date. If a workbook does not say
            its exposure date, the age of the cycle counts instead, and ``chosen`` says so.
        analysis: only this analysis or group.
        analysis_before: what it is compared with, if that has another name.
        batch_id: a batch of the later cycle; None means that of its active configuration.
        batch_id_before: likewise for the earlier cycle.

    Returns:
        ``before`` and ``after``: cycle_name, label, batch_id and exposure_date of the two sides; ``chosen``: why the
        earlier cycle was chosen; ``exposure``, a DataFrame: portfolio (empty for all together), what, currency, before,
        after, change, relative_change, not_compared; ``sources``, a DataFrame: analysis_name, what, before, after,
        differs: engine, model, its version, samples, settings and so on of each analysis or group on both sides;
        ``figures``, a DataFrame: analysis_name, is_group, segment_by, segment, perspective, metric, return_period,
        loss_factor, currency_before, currency_after, before, after, change, relative_change, not_compared (why there
        is no change) and differences (what besides the exposure differs), sorted by what moves the total.

    Raises:
        ComparisonError: there is no such cycle, batch or analysis, no figures are saved, or something would be compared
            with itself.
        DatabaseError: the database refuses or is away.
    """
    import pandas as pd

    found = compare(
        cycle_name,
        before,
        analysis=analysis,
        analysis_before=analysis_before,
        batch_id=batch_id,
        batch_id_before=batch_id_before,
    )
    return {
        "before": _described(found.before),
        "after": _described(found.after),
        "chosen": found.chosen,
        "exposure": pd.DataFrame([exposure_row(line) for line in found.exposure]),
        "sources": pd.DataFrame(source_rows(found)),
        "figures": found.figures,
    }


def compare(
    cycle_name: str,
    before: str | None = None,
    *,
    analysis: str | None = None,
    analysis_before: str | None = None,
    batch_id: int | None = None,
    batch_id_before: int | None = None,
    only_leading_of_segments: bool = False,
) -> Comparison:
    """Compare as :func:`compare_cycles` does, and return records.

    Args:
        only_leading_of_segments: of segments only the average annual loss and losses at loss factors. For the others,
            see :func:`compare_cycles`.
    """
    cycle = cycle_named(cycle_name)
    later = choose(cycle, batch_id)
    if before is None and (batch_id_before is not None or analysis_before not in {None, analysis}):
        before = cycle_name
    earlier, chosen = choose_before(later, cycle, before, batch_id_before)
    if analysis is None and analysis_before is not None:
        raise ComparisonError(f"Which analysis is to be compared with {analysis_before}? Name both")
    if earlier.batch_id == later.batch_id and (analysis_before or analysis) == analysis:
        raise ComparisonError(
            f"The cycle {cycle_name} would be compared with itself: name another cycle, batch or analysis"
        )
    sides = _sides(earlier, later)
    names = (analysis if analysis_before is None else analysis_before, analysis)
    if analysis is not None:
        sides = _narrowed(sides, names, cycle_name)
    return _compared(*sides, chosen, names, only_leading_of_segments=only_leading_of_segments)


def compare_with_cycle_before(cycle_name: str, batch_id: int | None = None) -> Comparison | None:
    """Compare a cycle with the one before it; None if it has no figures, or there is no earlier cycle with figures.

    Of segments only the average annual loss and losses at loss factors are compared.

    Args:
        cycle_name: the cycle.
        batch_id: a batch of it; None means that of its active configuration.
    """
    try:
        return compare(cycle_name, batch_id=batch_id, only_leading_of_segments=True)
    except ComparisonError:
        return None


def source_rows(found: Comparison) -> list[dict[str, Any]]:
    """Return what the figures of each analysis or group come from, on both sides.

    Returns:
        analysis_name, what, before, after (None if it is not on that side), differs.
    """
    rows: list[dict[str, Any]] = []
    for name in dict.fromkeys((*found.after.subjects, *found.before.subjects)):
        then, now = (_facts(side.subjects.get(name)) for side in (found.before, found.after))
        differing = {item.what for item in found.differences.get(name, ())}
        rows += [
            {
                "analysis_name": name,
                "what": what,
                "before": then.get(what),
                "after": now.get(what),
                "differs": what in differing,
            }
            for what in dict.fromkeys((*now, *then, *sorted(differing)))
        ]
    return rows


def exposure_row(line: ExposureLine) -> dict[str, Any]:
    """Return a line of exposure as plain values."""
    return {
        "portfolio": line.portfolio,
        "what": line.what.value,
        "currency": line.currency,
        "before": line.before,
        "after": line.after,
        "change": line.change,
        "relative_change": line.relative_change,
        "not_compared": line.not_compared,
    }


def _sides(earlier: Chosen, later: Chosen) -> tuple[Side, Side]:
    of_one_cycle = earlier.cycle_id == later.cycle_id and earlier.batch_id != later.batch_id
    before, after = (
        read_side(one, f"batch {one.batch_id} of {one.cycle_name}" if of_one_cycle else one.cycle_name)
        for one in (earlier, later)
    )
    return before, after


def _narrowed(sides: tuple[Side, Side], names: tuple[str | None, str | None], cycle_name: str) -> tuple[Side, Side]:
    """Return the sides with one analysis or group each, under the name of the later one."""
    narrowed = []
    for side, name in zip(sides, names, strict=True):
        subject = side.subjects.get(name or "")
        if subject is None:
            there = ", ".join(sorted(side.subjects)) or "none"
            raise ComparisonError(f"{side.label} has no figures of {name!r}. It has those of: {there}")
        label = side.label if names[0] == names[1] else f"{name} in {side.label}"
        narrowed.append(dataclasses.replace(side, label=label, subjects={str(names[1]): subject}))
    return narrowed[0], narrowed[1]


def _compared(
    before: Side, after: Side, chosen: str, names: tuple[str | None, str | None], *, only_leading_of_segments: bool
) -> Comparison:
    figures = []
    for side, name in zip((before, after), names, strict=True):
        read = read_figures(side.batch_id, name, only_leading_of_segments=only_leading_of_segments)
        figures.append(read if name is None else read.assign(analysis_name=names[1]))
    differing = {
        name: differences(before.subjects[name], subject)
        for name, subject in after.subjects.items()
        if name in before.subjects
    }
    said = {name: in_words(found) for name, found in differing.items()}
    return Comparison(
        before=before,
        after=after,
        chosen=chosen,
        exposure=tuple(compare_exposure(before, after)),
        differences=differing,
        figures=compare_figures(figures[0], figures[1], (before.label, after.label), said),
    )


def _facts(subject: Compared | None) -> dict[str, str]:
    """Return the facts of an analysis or group; those of a group are the different ones of its members."""
    found: dict[str, list[str]] = {}
    for source in subject.sources if subject is not None else ():
        for what, value in facts_of(source).items():
            if value not in found.setdefault(what, []):
                found[what].append(value)
    return {what: ", ".join(values) for what, values in found.items()}


def _described(side: Side) -> dict[str, Any]:
    return {
        "cycle_name": side.cycle_name,
        "label": side.label,
        "batch_id": side.batch_id,
        "exposure_date": side.exposure_date,
    }
