"""Check of changes since the cycle before. Pure: it works on compared figures
(:func:`irp_pipeline.helpers.comparison.figures.compare_figures`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from irp_pipeline.helpers.sanity.findings import Check, LossFinding, Severity
from irp_pipeline.vocabulary import CURVES, Metric

if TYPE_CHECKING:
    import pandas as pd

_SHORTEST, _LONGEST = 10, 500
"""Years: return periods between these are looked at. Shorter ones have little loss, longer ones few years."""
_LEADING: Final = (Metric.AAL, Metric.LOSS)
_MOST_FIGURES: Final = 4


def check_changes(figures: pd.DataFrame, before: str, largest_change: float) -> Iterator[LossFinding]:
    """Yield a warning for each analysis or group with a figure that changed by more than a share.

    The figures are averages, losses at loss factors, and those at return periods of 10 to 500 years. An analysis or
    group whose averages cannot be compared is a note.

    Args:
        figures: compared figures.
        before: what the earlier side is called.
        largest_change: the largest relative change that needs no warning; any change from zero is larger.
    """
    curve = figures["metric"].isin(CURVES) & figures["return_period"].between(_SHORTEST, _LONGEST)
    looked_at = figures[(figures["segment_by"] == "") & (figures["metric"].isin(_LEADING) | curve)]
    plain = looked_at.astype(object).where(looked_at.notna(), None)
    changed: defaultdict[str, list[Mapping[Any, Any]]] = defaultdict(list)
    not_compared: dict[str, str] = {}
    for row in plain.to_dict("records"):
        if row["not_compared"]:
            if row["metric"] in _LEADING:
                not_compared.setdefault(row["analysis_name"], row["not_compared"])
        elif _size(row) > largest_change:
            changed[row["analysis_name"]].append(row)
    for name, rows in changed.items():
        yield _changed(name, rows, before, largest_change)
    for name, reason in not_compared.items():
        yield LossFinding(
            severity=Severity.NOTE,
            check=Check.CHANGE,
            subject=name,
            what=f"its change since {before} is not known: {reason}",
            remedy="If it has another name there: irp compare --analysis-before",
        )


def _changed(name: str, rows: Sequence[Mapping[Any, Any]], before: str, largest_change: float) -> LossFinding:
    """Return the finding about the changed figures of a subject: averages first, then the largest changes."""
    largest = max(rows, key=_size)
    first = sorted(
        rows, key=lambda row: (row["metric"] not in _LEADING, 0.0 if row["metric"] in _LEADING else -_size(row))
    )
    listed = "; ".join(_in_words(row) for row in first[:_MOST_FIGURES])
    left_out = len(rows) - _MOST_FIGURES
    more = f"; {left_out} more {'figure' if left_out == 1 else 'figures'}" if left_out > 0 else ""
    differences = largest["differences"]
    besides = (
        f"Besides the exposure, these differ: {differences}" if differences else "Nothing but the exposure differs"
    )
    return LossFinding(
        severity=Severity.WARNING,
        check=Check.CHANGE,
        subject=name,
        what=f"figures changed since {before} by more than {100 * largest_change:.4g} %: {listed}{more}. {besides}",
        size=_share(largest),
        remedy="Find out why before the figures are used: irp compare, irp attribute",
    )


def _size(row: Mapping[Any, Any]) -> float:
    """Return the relative change without its sign; that of a figure that was zero is infinite."""
    if row["relative_change"] is not None:
        return abs(float(row["relative_change"]))
    return float("inf") if row["change"] else 0.0


def _share(row: Mapping[Any, Any]) -> str:
    return "was zero" if row["relative_change"] is None else f"{100 * row['relative_change']:+.1f} %"


def _in_words(row: Mapping[Any, Any]) -> str:
    words = f"{row['metric']} {row['perspective']}"
    if row["return_period"] is not None:
        words += f" at {row['return_period']:,g} years"
    if row["loss_factor"] is not None:
        words += f" at the loss factor {row['loss_factor']:g}"
    return f"{words} {row['before']:,.2f} → {row['after']:,.2f} ({_share(row)})"
