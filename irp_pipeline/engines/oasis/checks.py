"""Checks of figures against what is known without the engine.

A failed check raises a :class:`FigureError`, whose one line has the numbers. Checks that are not possible are listed
with the reason, for the provenance. ``docs/figures.md`` says the same for users.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from irp_pipeline.engines.oasis.failures import OasisError
from irp_pipeline.engines.oasis.portfolio import Locations
from irp_pipeline.vocabulary import Perspective

if TYPE_CHECKING:
    from irp_pipeline.engines.oasis.deterministic import DeterministicLosses

_CENT: Final = 0.01
_SINGLE_PRECISION: Final = 1e-6
_SUMS_OF_SINGLE_PRECISION: Final = 1e-5
"""For sums over years and samples that Oasis LMF computes in single precision."""
_ORDER: Final = ((Perspective.IL, Perspective.GUL), (Perspective.RI, Perspective.IL))
_WORDS: Final[Mapping[str, str]] = {
    Perspective.GUL: "ground-up loss",
    Perspective.IL: "insured loss",
    Perspective.RI: "net loss",
}


class FigureError(OasisError):
    """A figure of the engine cannot be right."""


def tolerance(figure: float, items: int = 1) -> float:
    """The allowed difference of a figure that the kernel computed in single precision: a cent per item, or 1e-6."""
    return max(_CENT * max(items, 1), _SINGLE_PRECISION * abs(figure))


def check_deterministic(
    losses: DeterministicLosses, locations: Locations, above: Collection[tuple[str, str]]
) -> list[str]:
    """Check the losses of each location and account, and their sums.

    Args:
        losses: the losses.
        locations: what is insured and covered.
        above: accounts whose insured loss may be above the ground-up loss.

    Returns:
        What was checked, in words.

    Raises:
        FigureError: a loss is not a number or below zero; the ground-up loss of a location is not the factor times its
            insured value; locations do not add up to the total; an insured loss is above the ground-up loss, or a net
            loss above the insured loss.
    """
    _check_numbers(losses, locations)
    for row in locations.distinct():
        value = locations.value(row)
        items = int(losses.items[row])
        for place, factor in enumerate(losses.factors):
            loss = float(losses.by_row["GUL"][row, place])
            if abs(loss - factor * value) > tolerance(factor * value, items):
                raise FigureError(
                    f"The ground-up loss of {locations.name(row)} is {loss:,.2f}, but the loss factor {factor:g} times "
                    f"its insured value of {value:,.2f} is {factor * value:,.2f}"
                )
    for perspective, by_row in losses.by_row.items():
        for place, factor in enumerate(losses.factors):
            added, total = math.fsum(by_row[:, place]), float(losses.totals[perspective][place])
            if abs(added - total) > tolerance(total):
                raise FigureError(
                    f"The {_WORDS[perspective]}es of the locations add up to {added:,.2f} at the loss factor "
                    f"{factor:g}, but the total is {total:,.2f}"
                )
    _check_order_by_account(losses, locations, above)
    checked = [
        "GUL of each location is the loss factor times its insured value",
        "the locations add up to the total",
    ]
    return checked + [
        f"{lower} of each account is at most its {upper}"
        for lower, upper in _ORDER
        if lower in losses.by_row and upper in losses.by_row
    ]


def _check_numbers(losses: DeterministicLosses, locations: Locations) -> None:
    import numpy as np

    for perspective, by_row in losses.by_row.items():
        wrong = ~np.isfinite(by_row) | (by_row < -_CENT)
        if wrong.any():
            row, place = (int(number) for number in np.argwhere(wrong)[0])
            raise FigureError(
                f"The {_WORDS[perspective]} of {locations.name(row)} is {by_row[row, place]:,.2f} at the loss factor "
                f"{losses.factors[place]:g}"
            )


def _check_order_by_account(
    losses: DeterministicLosses, locations: Locations, above: Collection[tuple[str, str]]
) -> None:
    rows: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    for row in locations.distinct():
        rows[locations.ids[row][:2]].append(row)
    for lower, upper in _ORDER:
        if lower not in losses.by_row or upper not in losses.by_row:
            continue
        for account, of in rows.items():
            if lower == "IL" and account in above:
                continue
            items = int(losses.items[of].sum())
            for place, factor in enumerate(losses.factors):
                low = float(losses.by_row[lower][of, place].sum())
                high = float(losses.by_row[upper][of, place].sum())
                if low - high > tolerance(high, items):
                    raise FigureError(
                        f"The {_WORDS[lower]} of account {account[1]} in portfolio {account[0]} is {low:,.2f} at the "
                        f"loss factor {factor:g}, above its {_WORDS[upper]} of {high:,.2f}"
                    )


def check_order(figures: Iterable[Mapping[str, Any]], is_above: bool) -> list[str]:
    """Check that insured losses are at most ground-up ones, and net losses at most insured ones.

    Standard deviations are left out, since this need not hold for them.

    Args:
        figures: those of one analysis.
        is_above: whether some account's insured loss may be above its ground-up loss.

    Returns:
        What was checked, in words.

    Raises:
        FigureError: one is above.
    """
    by_key: defaultdict[tuple[Any, ...], dict[str, float]] = defaultdict(dict)
    for figure in figures:
        if figure["metric"] != "STD_DEV":
            key = (figure["metric"], figure["return_period"], figure["loss_factor"])
            by_key[key][figure["perspective"]] = figure["loss"]
    checked = []
    for lower, upper in _ORDER:
        pairs = {key: of for key, of in by_key.items() if lower in of and upper in of}
        if not pairs or (lower == "IL" and is_above):
            continue
        for (metric, period, _), of in pairs.items():
            if of[lower] - of[upper] > max(_CENT, _SUMS_OF_SINGLE_PRECISION * abs(of[upper])):
                at = f" at {period:,} years" if period else ""
                raise FigureError(
                    f"The {metric} {lower}{at} is {of[lower]:,.2f}, above that of {upper}, which is {of[upper]:,.2f}"
                )
        checked.append(f"every {lower} figure is at most that of {upper}")
    return checked


def check_segments_add_up(whole: Iterable[Mapping[str, Any]], of_segments: Iterable[Mapping[str, Any]]) -> list[str]:
    """Check that the means of segments, and their losses at given loss factors, add up to those of the whole.

    Args:
        whole: the figures of the whole portfolio.
        of_segments: those of segments, with ``segment_by``.

    Returns:
        What was checked, in words.

    Raises:
        FigureError: they do not add up.
    """
    added: defaultdict[tuple[Any, ...], list[float]] = defaultdict(list)
    for figure in of_segments:
        if figure["metric"] in {"AAL", "LOSS"}:
            key = figure["perspective"], figure["metric"], figure["loss_factor"]
            added[key, tuple(figure["segment_by"])].append(figure["loss"])
    totals = {(of["perspective"], of["metric"], of["loss_factor"]): of["loss"] for of in whole}
    for (key, by), losses in added.items():
        total, parts = totals[key], math.fsum(losses)
        if abs(parts - total) > max(_CENT, _SUMS_OF_SINGLE_PRECISION * abs(total)):
            raise FigureError(
                f"The {key[1]} {key[0]} of the segments by {', '.join(by)} add up to {parts:,.2f}, but that of the "
                f"whole portfolio is {total:,.2f}"
            )
    return ["the means of segments add up to that of the whole" if any(key[1] == "AAL" for key, _ in added) else
            "the losses of segments add up to those of the whole"]  # fmt: skip


def check_curves(figures: Iterable[Mapping[str, Any]], *, is_weighted: bool) -> list[str]:
    """Check that losses do not fall with the return period, and that a year costs at least its largest occurrence.

    Args:
        figures: those of one analysis.
        is_weighted: whether years have different weights. Then the two curves are interpolated between different
            points, and may cross slightly.

    Returns:
        What was checked, in words.

    Raises:
        FigureError: a loss is below that of a shorter return period, or an AEP is below the OEP.
    """
    curves: defaultdict[tuple[str, str], dict[float, float]] = defaultdict(dict)
    for figure in figures:
        if figure["return_period"] is not None:
            curves[figure["perspective"], figure["metric"]][figure["return_period"]] = figure["loss"]
    for (perspective, metric), losses in curves.items():
        for shorter, longer in pairwise(sorted(losses)):
            if _is_above(losses[shorter], losses[longer]):
                raise FigureError(
                    f"The {metric} {perspective} at {longer:,g} years is {losses[longer]:,.2f}, below the "
                    f"{losses[shorter]:,.2f} at {shorter:,g} years"
                )
        of_years = curves.get((perspective, "AEP"), {})
        for period, loss in losses.items() if metric == "OEP" and not is_weighted else ():
            if period in of_years and _is_above(loss, of_years[period]):
                raise FigureError(
                    f"The OEP {perspective} at {period:,g} years is {loss:,.2f}, above the AEP of "
                    f"{of_years[period]:,.2f}"
                )
    if not curves:
        return []
    return ["losses do not fall with the return period", *([] if is_weighted else ["every OEP is at most the AEP"])]


def _is_above(loss: float, other: float) -> bool:
    return loss - other > max(_CENT, _SUMS_OF_SINGLE_PRECISION * abs(other))


def check_values(tiv: Mapping[int, float], locations: Locations, rates: Mapping[int, float]) -> None:
    """Check that a model does not insure any location for more than the portfolio says.

    Args:
        tiv: by row of the location table, the insured value that went into the model.
        locations: what is insured.
        rates: by row, the exchange rate with which the run converted amounts; 1 if it is missing.

    Raises:
        FigureError: it insures a location for more.
    """
    for row, modelled in tiv.items():
        value = locations.value(row) * rates.get(row, 1.0)
        if modelled - value > max(_CENT, _SUMS_OF_SINGLE_PRECISION * value):
            raise FigureError(
                f"The model insures {locations.name(row)} for {modelled:,.2f}, but the portfolio for {value:,.2f}"
            )


def check_period_losses(
    path: Path,
    figures: Iterable[Mapping[str, Any]],
    *,
    perspective: str,
    periods: int,
    samples: int,
    most: float | None,
) -> list[str]:
    """Check the figures of one perspective against its period losses, and these against what is insured.

    Args:
        path: the table of period losses (``plt_sample``).
        figures: the figures of the analysis.
        perspective: the perspective of the losses.
        periods: number of simulated years.
        samples: number of samples of each year.
        most: the largest possible loss of one occurrence; None if unknown.

    Returns:
        What was checked, in words.

    Raises:
        FigureError: a figure does not agree with the period losses; or a loss is above what is insured.
        LossError: the file is not a table of period losses.
    """
    from irp_pipeline.losses import figures as figures_of
    from irp_pipeline.losses import period_losses

    years = period_losses(path, periods=periods)
    _check_occurrences(path, perspective, samples)
    mine = {_key(figure): figure["loss"] for figure in figures if figure["perspective"] == perspective}
    asked = {period for _, period in mine if period is not None}
    computed = figures_of(
        years, perspective=Perspective(perspective), periods=periods, samples=samples, return_periods=asked
    )
    for figure in computed:
        reported = mine.get((figure.metric, figure.return_period))
        if reported is None:
            continue
        if not abs(reported - figure.loss) <= max(_CENT, _SUMS_OF_SINGLE_PRECISION * abs(figure.loss)):
            at = f" at {figure.return_period:,} years" if figure.return_period else ""
            raise FigureError(
                f"The {figure.metric} of {perspective}{at} is {reported:,.2f} in the report of Oasis LMF, but "
                f"{figure.loss:,.2f} by its period losses"
            )
    largest = max(years["LargestLoss"].to_pylist(), default=0.0) if years.num_rows else 0.0
    checked = [f"{perspective}: AAL, standard deviation, OEP and AEP are those of the period losses"]
    if most is not None:
        if largest - most > max(_CENT, _SUMS_OF_SINGLE_PRECISION * most):
            raise FigureError(
                f"The largest {_WORDS[perspective]} of an occurrence is {largest:,.2f}, above the insured value of all "
                f"modelled locations, {most:,.2f}"
            )
        checked.append(f"{perspective}: no occurrence costs more than is insured")
    return checked


def _check_occurrences(path: Path, perspective: str, samples: int) -> None:
    """Check that each loss of an occurrence is a valid number, and belongs to a requested sample."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(columns=["Period", "SampleId", "Loss"]):
            most = pc.max(batch["SampleId"]).as_py()
            if most is not None and most > samples:
                raise FigureError(
                    f"There are {perspective} losses of the sample {most}, but {samples} samples were asked for"
                )
            is_loss = pc.and_(pc.is_finite(batch["Loss"]), pc.greater_equal(batch["Loss"], -_CENT))
            if (place := pc.index(pc.fill_null(is_loss, False), False).as_py()) >= 0:
                period, loss = batch["Period"][place].as_py(), batch["Loss"][place].as_py()
                raise FigureError(f"There is a {_WORDS[perspective]} of {loss} in the simulated year {period}")


def _key(figure: Mapping[str, Any]) -> tuple[str, Any]:
    return figure["metric"], figure["return_period"]


def check_currency(used: Mapping[str, Collection[str]], wanted: str, how: str, *, can_convert: bool = True) -> None:
    """Refuse figures in a currency other than that of the workbook.

    Args:
        used: the currencies of amounts by OED column, in the run or in the portfolio.
        wanted: the currency of the workbook.
        how: where the currencies come from, such as ``The run of Oasis LMF``.
        can_convert: whether the engine can convert them.

    Raises:
        FigureError: there is another currency; the message names both.
    """
    others: Sequence[str] = sorted({code for codes in used.values() for code in codes} - {wanted})
    if others:
        columns = ", ".join(sorted(column for column, codes in used.items() if set(codes) - {wanted}))
        remedy = (
            f"Give the analysis a table of exchange rates: reporting_currency {wanted} and currency_conversion_json "
            "in model_options"
            if can_convert
            else "Convert the portfolio"
        )
        raise FigureError(
            f"{how} has amounts in {', '.join(others)} ({columns}), but the workbook wants losses in {wanted}. "
            f"{remedy}, or write the currency of the amounts into the workbook"
        )
