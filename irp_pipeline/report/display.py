"""How values are formatted, and which come first: the same for the page and the summary."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from irp_pipeline.durations import duration_in_words
from irp_pipeline.helpers.comparison import ExposureLine
from irp_pipeline.losses import DECLARED_METRICS, Figure
from irp_pipeline.report.comparison import ComparedFigure
from irp_pipeline.report.records import Report, Subject
from irp_pipeline.vocabulary import Metric, Perspective

NOTHING = "\N{EN DASH}"
_MINUS = "\N{MINUS SIGN}"
_HEADLINE_RETURN_PERIODS = (100, 250)
_HASH_CHARACTERS = 12


@dataclass(frozen=True)
class Headline:
    """One of the main figures of a cycle.

    Attributes:
        words: its name in words.
        subject: its analysis or group.
        figure: the figure.
        currency: its currency.
        change: what it was in the cycle before.
    """

    words: str
    subject: str
    figure: Figure
    currency: str
    change: ComparedFigure | None


def headline_figures(report: Report) -> list[Headline]:
    """Return the main figures of a cycle: those of its largest group, in the perspective closest to the insurer."""
    subject = report.headline_subject
    if subject is None:
        return []
    wanted: list[tuple[str, Metric, float | None]] = [("Average annual loss", Metric.AAL, None)]
    for years in _HEADLINE_RETURN_PERIODS:
        wanted.append((f"1-in-{years} OEP (largest event)", Metric.OEP, years))
        wanted.append((f"1-in-{years} AEP (whole year)", Metric.AEP, years))
    perspective = subject.perspectives[-1]
    found = [(words, subject.figure(perspective, metric, years)) for words, metric, years in wanted]
    compared = report.comparison.part(subject.name) if report.comparison is not None else None
    return [
        Headline(
            words,
            subject.name,
            figure,
            subject.currency,
            compared.figure(perspective, figure.metric, figure.return_period) if compared is not None else None,
        )
        for words, figure in found
        if figure is not None
    ]


def perspectives_of(subjects: Iterable[Subject]) -> list[Perspective]:
    """Return the perspectives for which any of these has figures."""
    return Perspective.among(perspective for subject in subjects for perspective in subject.perspectives)


def metric_title(name: str) -> str:
    """Return the title in tables of a metric that a distribution declares; its name if that is not installed here."""
    declaration = DECLARED_METRICS.declared().get(name)
    return name if declaration is None else declaration.title


def amount(value: float | None) -> str:
    """Format an amount of money with thousands separators, and with cents only if it is small; or a count."""
    if value is None:
        return NOTHING
    if isinstance(value, int):  # a count
        return f"{value:,}"
    return f"{value:,.0f}" if abs(value) >= 100 or value == 0 else f"{value:,.2f}"


def change(value: ComparedFigure | ExposureLine | None) -> str:
    """Format a change from the cycle before as a percentage; nothing if the two cannot be compared."""
    if value is None or value.change is None:
        return ""
    share = value.share if isinstance(value, ComparedFigure) else value.relative_change
    if share is None:
        return "was 0" if value.change else ""
    return percentage(share)


def deviation(of: tuple[float, float]) -> str:
    """Format how much the first amount is above the second, as a percentage of the second."""
    value, other = of
    return percentage(value / other - 1) if other else "was 0" if value else ""


def percentage(share: float) -> str:
    """Format a relative change with its sign."""
    shown = f"{share:+.1%}"
    return "0.0%" if shown in {"+0.0%", "-0.0%"} else shown.replace("-", _MINUS)


def change_amount(value: ComparedFigure | ExposureLine) -> str:
    """Format a change from the cycle before as an amount with its sign."""
    return NOTHING if value.change is None else signed_amount(value.change)


def signed_amount(value: float) -> str:
    """Format a difference of amounts with its sign."""
    sign = "+" if value > 0 else _MINUS if value < 0 else ""
    return f"{sign}{amount(abs(value))}"


def number(value: object) -> str:
    """Format a count with thousands separators; anything else unchanged."""
    return f"{value:,}" if isinstance(value, int) else "" if value is None else str(value)


def years(value: float) -> str:
    """Format a return period."""
    return f"{value:,.10g}"


def moment(value: datetime | None) -> str:
    """Format a time in UTC, since readers of a page are in many time zones."""
    return "" if value is None else f"{value.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def duration(seconds: float | None) -> str:
    """Format a length of time in suitable units."""
    return duration_in_words(seconds) if isinstance(seconds, int | float) else ""


def short(value: object) -> str:
    """Shorten a hash; anything else stays as it is."""
    text = "" if value is None else str(value)
    return text[:_HASH_CHARACTERS] + "…" if re.fullmatch(r"[0-9a-f]{32,}", text) else text
