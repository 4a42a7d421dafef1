"""The section on why losses changed: the parts of each figure as a waterfall, from the recorded attribution.

Here: which figures a reader is shown, and where their bars are. Not here: computing the parts
(:mod:`irp_pipeline.helpers.attribution`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from irp_pipeline.helpers.attribution import Factor, Part, find_attribution
from irp_pipeline.helpers.attribution.paths import paths_of
from irp_pipeline.helpers.cycle_lookup import Cycle
from irp_pipeline.report.attribution_section import AttributionSection
from irp_pipeline.report.display import amount, signed_amount
from irp_pipeline.report.what_if import words_of
from irp_pipeline.vocabulary import USUAL_RETURN_PERIODS, Metric, Perspective

_MOST_SUBJECTS: Final = 20
_WORDS: Final = {
    Factor.ENGINE: "Engine",
    Factor.EXPOSURE: "Exposure",
    Factor.TERMS: "Financial terms",
    Factor.MODEL: "Model",
    Factor.SETTINGS: "Settings",
    Factor.ENGINE_OF_LATER: "Engine, since the later cycle",
}
_FROM_ZERO: Final = 0.5
"""If the bars take more than this share of the way from zero to the largest, the scale begins at zero."""
_MARGIN: Final = 0.06


@dataclass(frozen=True)
class Bar:
    """A row of a waterfall.

    Attributes:
        words: the factor, or the cycle for the figures at both ends.
        amount: what the factor adds, or the figure of the cycle, formatted.
        error: one standard error of sampling, formatted; empty if there is none.
        error_unknown: why it is not known; empty if it is known.
        remark: what changed, in words.
        kind: ``total``, ``more``, ``less`` or ``none``.
        left: where its bar begins, in hundredths of the width.
        width: how wide it is, likewise.
        whisker: where the error begins and how wide it is, likewise; None if there is none.
    """

    words: str
    amount: str
    error: str
    error_unknown: str
    remark: str
    kind: str
    left: float
    width: float
    whisker: tuple[float, float] | None


@dataclass(frozen=True)
class Waterfall:
    """The parts of one figure.

    Attributes:
        words: which figure.
        perspective: its perspective.
        currency: of the amounts.
        bars: its rows.
        from_zero: whether the scale begins at zero.
    """

    words: str
    perspective: Perspective
    currency: str
    bars: tuple[Bar, ...]
    from_zero: bool


@dataclass(frozen=True)
class AttributedSubject:
    """An analysis or group with the waterfalls of its figures, its averages first."""

    name: str
    is_group: bool
    waterfalls: tuple[Waterfall, ...]


def attributed_subjects(section: AttributionSection, first: str) -> tuple[list[AttributedSubject], int]:
    """Return the analyses and groups that are shown, and how many are left out.

    Args:
        section: the parts.
        first: the analysis or group that comes first.
    """
    found: dict[str, list[tuple[Part, ...]]] = {}
    for path in paths_of(section.parts):
        found.setdefault(path[0].analysis_name, []).append(path)
    names = sorted(found, key=lambda name: (name != first, not found[name][0][0].is_group))
    shown = [
        AttributedSubject(name, found[name][0][0].is_group, tuple(_waterfalls(section, found[name])))
        for name in names[:_MOST_SUBJECTS]
    ]
    return shown, len(names) - len(shown)


def _waterfalls(section: AttributionSection, paths: Sequence[tuple[Part, ...]]) -> Iterator[Waterfall]:
    """Yield the waterfalls of an analysis or group, averages in the perspective closest to the insurer first."""

    def order(path: tuple[Part, ...]) -> tuple[bool, int, str, float]:
        point = path[0].point
        place = list(Perspective).index(point.perspective)
        return point.metric not in {Metric.AAL, Metric.LOSS}, -place, point.metric, point.return_period or 0

    for path in sorted(paths, key=order):
        if path[0].point.return_period in (None, *USUAL_RETURN_PERIODS):
            yield waterfall(path, section.earlier, section.later)


def collect_attribution(cycle: Cycle, earlier_cycle: str | None) -> AttributionSection | None:
    """Return the newest attribution of a cycle whose figures are still those of both cycles; None if there is none.

    Args:
        cycle: the later cycle.
        earlier_cycle: the cycle that it is compared with; None means any.
    """
    found = find_attribution(cycle, earlier_cycle)
    if found is None or not found.parts:
        return None
    return AttributionSection(
        earlier=found.earlier_cycle, later=cycle.cycle_name, batch_id=found.batch_id, parts=found.parts
    )


def shown_parts(path: Sequence[Part]) -> list[Part]:
    """Return the parts that are shown: not the second one of the engine, if nothing changed in it."""
    return [part for part in path if part.factor is not Factor.ENGINE_OF_LATER or part.change]


def waterfall(path: Sequence[Part], earlier: str, later: str) -> Waterfall:
    """Return the rows of a figure, from that of the earlier cycle to that of the later one.

    Args:
        path: its parts, in their order.
        earlier: the earlier cycle.
        later: the later one.
    """
    parts = shown_parts(path)
    reach = [value for part in parts for value in (part.before, part.after)]
    reach += [part.after + sign * (part.sampling_error or 0) for part in parts for sign in (-1, 1)]
    low, high = min(reach), max(reach)
    from_zero = high <= 0 or (high - low) > _FROM_ZERO * high
    low = min(0.0, low) if from_zero else low
    margin = _MARGIN * ((high - low) or 1.0)
    begin, span = (low if from_zero else low - margin), (high - low) + (1 if from_zero else 2) * margin

    def place(value: float) -> float:
        return 100 * (value - begin) / span

    def total(words: str, value: float) -> Bar:
        left = place(0.0) if from_zero else 0.0
        return Bar(words, amount(value), "", "", "", "total", left, place(value) - left, None)

    bars = [total(earlier, path[0].before)]
    for part in parts:
        low_end, high_end = sorted((place(part.before), place(part.after)))
        error = part.sampling_error
        ends = None if not error else (place(part.after - error), place(part.after + error))
        bars.append(
            Bar(
                _WORDS[part.factor],
                signed_amount(part.change),
                "" if error is None or not part.remark else f"± {amount(error)}",
                "" if error is not None or not part.remark else part.sampling_error_unknown or "",
                part.remark,
                "none" if part.change == 0 else "more" if part.change > 0 else "less",
                low_end,
                high_end - low_end,
                None if ends is None else (ends[0], ends[1] - ends[0]),
            )
        )
    bars.append(total(later, path[-1].after))
    point = path[0].point
    return Waterfall(words_of(point), point.perspective, path[0].currency, tuple(bars), from_zero)
