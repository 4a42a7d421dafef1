"""Checks of the figures of one analysis or group among themselves.

Numbers; IL at most GUL and RI at most IL; curves; losses of zero. Pure: they work on records.

An occurrence cannot cost the insurer more than the damage, unless the terms say so; nor more after reinsurance than
before. What holds for each sample of each occurrence holds for the mean, and for the i-th largest loss, hence at each
return period. It need not hold for a standard deviation, nor for a segment, whose IL and RI are a share of the whole's
that a rule allocates.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Final

from irp_pipeline.helpers.sanity.findings import Check, LossFinding, Severity
from irp_pipeline.helpers.sanity.subjects import Subject
from irp_pipeline.losses import Figure
from irp_pipeline.losses.segments import joined
from irp_pipeline.vocabulary import CURVES, Metric, Perspective

_CENT: Final = 0.01
_SUMS_OF_SINGLE_PRECISION: Final = 1e-5
"""As for jobs: sums over years and samples, which Oasis LMF computes in single precision."""
_ORDER: Final = ((Perspective.IL, Perspective.GUL), (Perspective.RI, Perspective.IL))
_ORDERED: Final = (Metric.AAL, Metric.LOSS, *CURVES)
_LOOK: Final = "Look at its job (irp job list, irp job log) and run it again (irp job resubmit)"
_LOOK_AT_MEMBERS: Final = "Look at its members, and run the cycle again"


def check_figures(subject: Subject) -> Iterator[LossFinding]:
    """Yield what is wrong with the figures of an analysis or a group."""
    yield from check_numbers(subject)
    yield from check_order(subject)
    yield from check_curves(subject)
    yield from check_losses_of_zero(subject)


def check_numbers(subject: Subject) -> Iterator[LossFinding]:
    """Yield a finding if figures are not a number, infinite or below zero."""
    wrong = [figure for figure in subject.figures if not (math.isfinite(figure.loss) and figure.loss >= 0)]
    if wrong:
        yield LossFinding(
            severity=Severity.ERROR,
            check=Check.NO_NUMBER,
            subject=subject.name,
            what=f"figures are not a number, infinite or below zero; first {_named(wrong[0])}: {wrong[0].loss:,.2f}",
            size=f"{len(wrong):,} of {len(subject.figures):,} figures",
            remedy=_remedy(subject),
        )


def check_order(subject: Subject) -> Iterator[LossFinding]:
    """Yield a finding for each perspective whose losses are above those of the perspective before it.

    IL above GUL is an error where the job says that the terms do not allow it, a note where it says that they do, and
    a warning where it says nothing. RI is never above IL. What would be an error is a warning for figures of mean
    losses, to which no samples belong.
    """
    losses: defaultdict[Perspective, dict[tuple[str, float | None, float | None], Figure]] = defaultdict(dict)
    for figure in subject.figures:
        if figure.is_whole and figure.metric in _ORDERED and math.isfinite(figure.loss):
            losses[figure.perspective][figure.metric, figure.return_period, figure.loss_factor] = figure
    for lower, upper in _ORDER:
        both = [(losses[lower][key], losses[upper][key]) for key in losses[lower] if key in losses[upper]]
        above = [(low, high) for low, high in both if _is_above(low.loss, high.loss)]
        if not above:
            continue
        low, high = max(above, key=lambda pair: pair[0].loss - pair[1].loss)
        severity, remedy = _allowed(subject, lower)
        yield LossFinding(
            severity=severity,
            check=Check.ORDER,
            subject=subject.name,
            what=f"{len(above):,} of {len(both):,} figures of {lower} are above those of {upper}; most the "
            f"{_named(low)}: {low.loss:,.2f}, and {high.loss:,.2f} in {upper}",
            size=f"{low.loss - high.loss:,.2f} {subject.currency}",
            remedy=remedy,
        )


def check_curves(subject: Subject) -> Iterator[LossFinding]:
    """Yield a finding if losses fall with the return period, and one if an OEP is above the AEP of the same period.

    If years have different weights, the two curves are interpolated between different points and may cross.
    """
    curves: defaultdict[tuple[Perspective, tuple[str, ...], tuple[str, ...]], dict[str, dict[float, Figure]]]
    curves = defaultdict(lambda: defaultdict(dict))
    for figure in subject.figures:
        if figure.metric in CURVES and figure.return_period is not None and math.isfinite(figure.loss):
            key = figure.perspective, figure.segment_by, figure.segment
            curves[key][figure.metric][figure.return_period] = figure
    falling = [pair for of in curves.values() for points in of.values() for pair in _falling(points)]
    if falling:
        shorter, longer = max(falling, key=lambda pair: pair[0].loss - pair[1].loss)
        yield LossFinding(
            severity=Severity.ERROR,
            check=Check.CURVE,
            subject=subject.name,
            what=f"losses fall with the return period; most from the {_named(shorter)}, {shorter.loss:,.2f}, to "
            f"{longer.loss:,.2f} at {longer.return_period:,g} years",
            size=f"{shorter.loss - longer.loss:,.2f} {subject.currency}",
            remedy=_remedy(subject),
        )
    if any(job.is_weighted for job in subject.jobs):
        return
    above = [
        (event, of[Metric.AEP][years])
        for of in curves.values()
        for years, event in of[Metric.OEP].items()
        if years in of[Metric.AEP] and _is_above(event.loss, of[Metric.AEP][years].loss)
    ]
    if above:
        event, year = max(above, key=lambda pair: pair[0].loss - pair[1].loss)
        yield LossFinding(
            severity=Severity.ERROR,
            check=Check.CURVE,
            subject=subject.name,
            what=f"the largest event of a year costs more than the year; most in the {_named(event)}: "
            f"{event.loss:,.2f}, and {year.loss:,.2f} by AEP",
            size=f"{event.loss - year.loss:,.2f} {subject.currency}",
            remedy=_remedy(subject),
        )


def check_losses_of_zero(subject: Subject) -> Iterator[LossFinding]:
    """Yield a finding if an analysis has no losses at all, or none in a perspective.

    Losses at a loss factor are that share of the insured value, so zero is an error if the model covers any of it. A
    model can cover a location that no event of its years hits, so zero is a warning for it. A group has no losses only
    if its members have none, and is not named again.
    """
    if subject.is_group:
        return
    whole = [figure for figure in subject.figures if figure.is_whole and figure.metric in _ORDERED]
    there = Perspective.among(figure.perspective for figure in whole)
    zero = [of for of in there if not any(figure.loss for figure in whole if figure.perspective is of)]
    if not zero:
        return
    portfolio = subject.jobs[0].portfolio if subject.jobs else ""
    covered = subject.jobs[0].covered if subject.jobs else None
    if zero != there:
        yield LossFinding(
            severity=Severity.WARNING,
            check=Check.NO_LOSS,
            subject=subject.name,
            what=f"there are no losses of {' and '.join(zero)}: the terms take all of them away",
            remedy=f"Look at the deductibles, limits and treaties of the portfolio {portfolio}",
        )
        return
    at_factors = any(figure.metric == Metric.LOSS and figure.loss_factor for figure in whole)
    is_certain = at_factors and Perspective.GUL in zero and bool(covered)
    value = "" if covered is None else f", of which the model covers {covered:,.2f} {subject.currency}"
    yield LossFinding(
        severity=Severity.ERROR if is_certain else Severity.WARNING,
        check=Check.NO_LOSS,
        subject=subject.name,
        what=f"all losses of the portfolio {portfolio} are zero{value}",
        size=f"{len(whole):,} figures",
        remedy="Look at the perils, the coverages and the insured values of the portfolio, and at the model",
    )


def _falling(points: dict[float, Figure]) -> Iterable[tuple[Figure, Figure]]:
    in_order = [points[years] for years in sorted(points)]
    return ((shorter, longer) for shorter, longer in pairwise(in_order) if _is_above(shorter.loss, longer.loss))


def _allowed(subject: Subject, lower: Perspective) -> tuple[Severity, str]:
    """Return how bad it is that losses of a perspective are above those before it, and what to do."""
    stated = {job.il_may_exceed_gul for job in subject.jobs} or {None}
    if lower is Perspective.IL and True in stated:
        return Severity.NOTE, "Layers of an account pay together, or terms are stepped or changed: this can be right"
    if lower is Perspective.IL and None in stated:
        return Severity.WARNING, "Its engine does not say whether the terms allow this: look at the terms"
    if any(job.is_by_means for job in subject.jobs):
        return Severity.WARNING, "These are terms applied to mean losses: look at the figures with samples"
    return Severity.ERROR, f"The terms do not allow this. {_remedy(subject)}"


def _remedy(subject: Subject) -> str:
    return _LOOK_AT_MEMBERS if subject.is_group else _LOOK


def _is_above(loss: float, other: float) -> bool:
    return loss - other > max(_CENT, _SUMS_OF_SINGLE_PRECISION * abs(other))


def _named(figure: Figure) -> str:
    """Name a figure, such as ``OEP IL at 100 years of CountryCode GB``."""
    words = f"{figure.metric} {figure.perspective}"
    if figure.return_period is not None:
        words += f" at {figure.return_period:,g} years"
    if figure.loss_factor is not None:
        words += f" at the loss factor {figure.loss_factor:g}"
    return words if figure.is_whole else f"{words} of {joined(figure.segment_by)} {joined(figure.segment)}"
