"""How values are shown, and which of them come first: the same on the page and in the summary."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from irp_pipeline.durations import duration_in_words
from irp_pipeline.losses import DECLARED_METRICS, Figure
from irp_pipeline.report.records import Change, Report, Subject
from irp_pipeline.vocabulary import Metric, Perspective

NOTHING = "\N{EN DASH}"
_MINUS = "\N{MINUS SIGN}"
_HEADLINE_RETURN_PERIODS = (100, 250)
_HASH_CHARACTERS = 12


@dataclass(frozen=True)
class Headline:
    """One of the few figures that stand for a cycle.

    Attributes:
        words: what it is.
        subject: the analysis or group it is of.
        figure: the figure.
        currency: of it.
        change: against the previous cycle.
    """

    words: str
    subject: str
    figure: Figure
    currency: str
    change: Change | None


def headline_figures(report: Report) -> list[Headline]:
    """Return the figures that stand for a cycle: of its widest group, in the perspective closest to the insurer."""
    subject = report.headline_subject
    if subject is None:
        return []
    wanted: list[tuple[str, Metric, float | None]] = [("Average annual loss", Metric.AAL, None)]
    for years in _HEADLINE_RETURN_PERIODS:
        wanted.append((f"1-in-{years} OEP (largest event)", Metric.OEP, years))
        wanted.append((f"1-in-{years} AEP (whole year)", Metric.AEP, years))
    perspective = subject.perspectives[-1]
    found = [(words, subject.figure(perspective, metric, years)) for words, metric, years in wanted]
    return [
        Headline(words, subject.name, figure, subject.currency, subject.changes.get(figure))
        for words, figure in found
        if figure is not None
    ]


def perspectives_of(subjects: Iterable[Subject]) -> list[Perspective]:
    """Return the perspectives that any of these has figures of."""
    return Perspective.among(perspective for subject in subjects for perspective in subject.perspectives)


def metric_title(name: str) -> str:
    """Return what tables call a metric that a distribution declares; its name if that is not installed here."""
    declaration = DECLARED_METRICS.declared().get(name)
    return name if declaration is None else declaration.title


def amount(value: float | None) -> str:
    """Show an amount of money: with thousands separators, and cents only if it is small."""
    if value is None:
        return NOTHING
    return f"{value:,.0f}" if abs(value) >= 100 or value == 0 else f"{value:,.2f}"


def change(value: Change | None) -> str:
    """Show a change against the previous cycle as a percentage."""
    if value is None:
        return ""
    if value.share is None:
        return "was 0"
    shown = f"{value.share:+.1%}"
    return "0.0%" if shown in {"+0.0%", "-0.0%"} else shown.replace("-", _MINUS)


def number(value: object) -> str:
    """Show a count with thousands separators; anything else as it is."""
    return f"{value:,}" if isinstance(value, int) else "" if value is None else str(value)


def years(value: float) -> str:
    """Show a return period."""
    return f"{value:,.10g}"


def moment(value: datetime | None) -> str:
    """Show a moment in UTC: readers of a page sit in many zones."""
    return "" if value is None else f"{value.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def duration(seconds: float | None) -> str:
    """Show a length of time in the units that matter."""
    return duration_in_words(seconds) if isinstance(seconds, int | float) else ""


def short(value: object) -> str:
    """Shorten a hash; anything else stays as it is."""
    text = "" if value is None else str(value)
    return text[:_HASH_CHARACTERS] + "…" if re.fullmatch(r"[0-9a-f]{32,}", text) else text
