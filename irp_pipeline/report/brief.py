"""The head of the report: how much, of what, how sure, what changed and why, of its main analysis or group.

Here: choosing these values from what was collected, and the sentences. Not here: collecting them
(:mod:`irp_pipeline.report.collecting`), and how they are laid out (``brief.html.jinja``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from irp_pipeline.helpers.comparison import ExposureLine, Quantity
from irp_pipeline.helpers.result.uncertainty import ONLY_BY_REPEATED_RUNS
from irp_pipeline.losses import Figure
from irp_pipeline.report.attribution import Bar, waterfall
from irp_pipeline.report.comparison import ComparedFigure, ComparedSource
from irp_pipeline.report.display import (
    NOTHING,
    amount,
    change,
    change_amount,
    deviation,
    number,
    percentage,
    signed_amount,
    years,
)
from irp_pipeline.report.exposure import compact, percent
from irp_pipeline.report.records import Report, Subject
from irp_pipeline.vocabulary import CURVES, USUAL_RETURN_PERIODS, Metric, Perspective

_MOST_PARTS: Final = 4
_MOST_SETTINGS: Final = 2
_SETTING: Final = "setting "
_MODEL_FILES: Final = "content of the model"
_OF_MODEL: Final = ("model", "model version")


@dataclass(frozen=True)
class HowMuch:
    """A row of figures.

    Attributes:
        words: what they are.
        figures: by perspective.
    """

    words: str
    figures: Mapping[Perspective, Figure]


@dataclass(frozen=True)
class Insured:
    """A part of what is insured.

    Attributes:
        name: the portfolio, or the value of the OED field.
        values: insured value by currency, where it is known.
        locations: how many locations, if that is known.
        accounts: how many accounts, if that is known.
        share: its share of the average annual loss, or of the loss at the largest loss factor.
    """

    name: str
    values: Mapping[str, float]
    locations: int | None
    accounts: int | None
    share: float | None


@dataclass(frozen=True)
class OfWhat:
    """What is insured.

    Attributes:
        values: insured value by currency.
        locations: how many locations, if that is known.
        accounts: how many accounts, if that is known.
        rate: the loss in the shown perspective as a share of the insured value; None if they have other currencies.
        title: what the parts are.
        parts: those with the largest loss.
        others: how many more there are.
    """

    values: Mapping[str, float]
    locations: int | None
    accounts: int | None
    rate: float | None
    title: str
    parts: tuple[Insured, ...]
    others: int


@dataclass(frozen=True)
class Changed:
    """What was, and what is.

    Attributes:
        words: what it is.
        before: in the cycle before.
        after: now.
        change: the difference, and its share of what was.
    """

    words: str
    before: str
    after: str
    change: tuple[str, str]


@dataclass(frozen=True)
class Changes:
    """Rows that have the same note.

    Attributes:
        rows: the rows.
        note: what besides the exposure differs, or why there is no change.
    """

    rows: tuple[Changed, ...]
    note: str


@dataclass(frozen=True)
class Why:
    """Why the figures changed.

    Attributes:
        reasons: what differs, with what was and what is.
        parts: what each contributes to the change, if that has been computed.
    """

    reasons: tuple[tuple[str, str], ...]
    parts: tuple[Bar, ...]


@dataclass(frozen=True)
class Brief:
    """The answers.

    Attributes:
        subject: the analysis or group that they are about.
        chosen: why it is this one; empty if it is a group that has the most, or the only analysis.
        perspective: the one closest to the insurer.
        how_much: its main figures.
        of_what: what is insured.
        how_sure: what is known about the errors, each with its name, and what is said of both.
        changes: what changed since the cycle before.
        why: and why; None if there is no cycle to compare with.
    """

    subject: Subject
    chosen: str
    perspective: Perspective
    how_much: tuple[HowMuch, ...]
    of_what: OfWhat
    how_sure: tuple[tuple[str, str], ...]
    changes: tuple[Changes, ...]
    why: Why | None


def brief_of(report: Report) -> Brief | None:
    """Return the answers of a report; None if it has no figures."""
    subject, chosen = _subject(report)
    if subject is None:
        return None
    perspective = subject.perspectives[-1]
    wanted = _wanted(subject)
    return Brief(
        subject=subject,
        chosen=chosen,
        perspective=perspective,
        how_much=tuple(_how_much(subject, wanted)),
        of_what=_of_what(report, subject, perspective),
        how_sure=tuple(_how_sure(report, subject, perspective, wanted)),
        changes=tuple(_changes(report, subject, perspective, wanted)),
        why=_why(report, subject, perspective, wanted[0]),
    )


@dataclass(frozen=True)
class _Wanted:
    """A figure to show: its words, and its key without the perspective."""

    words: str
    metric: Metric
    point: float | None = None

    @property
    def as_part(self) -> str:
        """Its words within a sentence."""
        return "the average" if self.metric is Metric.AAL else f"the {self.words}"

    def of(self, subject: Subject, perspective: Perspective) -> Figure | None:
        factor = self.point if self.metric is Metric.LOSS else None
        return subject.figure(perspective, self.metric, None if self.metric is Metric.LOSS else self.point, factor)


def _subject(report: Report) -> tuple[Subject | None, str]:
    """Return the main group, the only analysis, or the analysis with the largest loss, and why it is that one."""
    headline = report.headline_subject
    if headline is not None:
        return headline, ""
    shown = [subject for subject in report.subjects if subject.is_stochastic]
    shown = shown or [subject for subject in report.subjects if subject.loss_factors]
    if not shown:
        return None, ""
    largest = max(shown, key=lambda subject: _main_loss(subject, subject.perspectives[-1]) or 0.0)
    return largest, f"the largest of {len(shown)} analyses, since no group adds them up" if len(shown) > 1 else ""


def _main(subject: Subject) -> _Wanted:
    if subject.is_stochastic:
        return _Wanted("Average annual loss", Metric.AAL)
    factor = subject.loss_factors[-1]
    return _Wanted(f"Loss at {factor * 100:g} % damage", Metric.LOSS, factor)


def _main_loss(subject: Subject, perspective: Perspective) -> float | None:
    figure = _main(subject).of(subject, perspective)
    return None if figure is None else figure.loss


def _wanted(subject: Subject) -> list[_Wanted]:
    main = _main(subject)
    others = [factor for factor in subject.loss_factors if factor != main.point]
    losses = [_Wanted(f"Loss at {factor * 100:g} % damage", Metric.LOSS, factor) for factor in others]
    usual = [period for period in subject.return_periods if period in USUAL_RETURN_PERIODS]
    periods = usual or subject.return_periods[-len(USUAL_RETURN_PERIODS) :]
    curves = [_Wanted(f"1-in-{years(period)} {metric}", metric, period) for period in periods for metric in CURVES]
    return [main, *(losses if main.metric is Metric.LOSS else curves)]


def _main_and_rare(wanted: Sequence[_Wanted]) -> list[_Wanted]:
    """Return the main figure, and the largest event at the longest of the return periods."""
    return [wanted[0], *[item for item in wanted if item.metric is Metric.OEP][-1:]]


def _how_much(subject: Subject, wanted: Iterable[_Wanted]) -> Iterator[HowMuch]:
    for item in wanted:
        found = {perspective: item.of(subject, perspective) for perspective in subject.perspectives}
        figures = {perspective: figure for perspective, figure in found.items() if figure is not None}
        if figures:
            yield HowMuch(item.words, figures)


# What is insured


def _of_what(report: Report, subject: Subject, perspective: Perspective) -> OfWhat:
    whole = _main_loss(subject, perspective)
    names = subject.members or (subject.name,)
    loss_of: dict[str, float] = {}
    portfolios: dict[str, None] = {}
    analyses = {item.name: item for item in report.subjects}
    for source in report.sources:
        if source.analysis in names:
            portfolios[source.portfolio] = None
            loss = _main_loss(analyses[source.analysis], perspective) if source.analysis in analyses else None
            loss_of[source.portfolio] = loss_of.get(source.portfolio, 0.0) + (loss or 0.0)
    shares = {name: loss / whole if whole else None for name, loss in loss_of.items()}
    parts = [_insured(report, name, shares.get(name)) for name in portfolios]
    values: dict[str, float] = {}
    for part in parts:
        for currency, value in part.values.items():
            values[currency] = values.get(currency, 0.0) + value
    comparable = len(values) == 1 and subject.currency in values and values[subject.currency] and whole is not None
    title = "Portfolio"
    locations, accounts = _sum(part.locations for part in parts), _sum(part.accounts for part in parts)
    if len(parts) == 1:
        title, parts = _segments(report, subject, perspective)
    parts.sort(key=lambda part: -(part.share or 0.0))
    return OfWhat(
        values=values,
        locations=locations,
        accounts=accounts,
        rate=whole / values[subject.currency] if comparable and whole is not None else None,
        title=title,
        parts=tuple(parts[:_MOST_PARTS]),
        others=len(parts[_MOST_PARTS:]),
    )


def _insured(report: Report, name: str, share: float | None) -> Insured:
    """Return a portfolio as the profile of the exposure has it; before its step has run, as it was extracted."""
    profile = report.exposure.profile if report.exposure is not None else None
    profiled = profile.portfolio(name) if profile is not None else None
    if profiled is not None and profiled.has_locations:
        values = {part.currency: part.amount.tiv for part in profiled.currencies}
        return Insured(name, values, profiled.locations, profiled.accounts, share)
    extracted = next((portfolio for portfolio in report.portfolios if portfolio.name == name), None)
    values = {}
    for value in extracted.insured_values if extracted is not None else ():
        values[value.currency] = values.get(value.currency, 0.0) + value.amount
    return Insured(name, values, extracted.locations if extracted is not None else None, None, share)


def _segments(report: Report, subject: Subject, perspective: Perspective) -> tuple[str, list[Insured]]:
    """Return the segments of a single portfolio by the first fields that the workbook names."""
    table = next((table for table in report.segments.tables if table.subject == subject.name), None)
    if table is None:
        return "", []
    parts = []
    for row in table.rows:
        loss = row.losses.get(perspective)
        values = {} if row.tiv is None else {table.currency: row.tiv}
        parts.append(Insured(row.name, values, row.locations, None, None if loss is None else loss.share))
    return table.by, parts


def _sum(counts: Iterable[int | None]) -> int | None:
    listed = list(counts)
    known = [count for count in listed if count is not None]
    return sum(known) if known and len(known) == len(listed) else None


# How sure


def _how_sure(
    report: Report, subject: Subject, perspective: Perspective, wanted: Sequence[_Wanted]
) -> Iterator[tuple[str, str]]:
    """Yield what is known of the error of the years and of that of sampling, which are never mixed."""
    if not subject.is_stochastic:
        yield "No error", "The damage is given, so nothing is simulated and nothing is drawn."
        return
    curves = report.curves
    average = curves.of(subject.name, perspective, Metric.AAL)
    if average is None:
        yield (
            "Not recorded",
            f"{curves.missing or 'The step Group results has not recorded how sure these figures are'}.",
        )
        return
    yield "Error of the years", _years_error(report, subject, perspective, wanted)
    yield "Error of sampling", _sampling_error(report, subject, perspective, wanted)
    yield "", "The two do not add up, and neither has the error of the model."


def _sampling_error(report: Report, subject: Subject, perspective: Perspective, wanted: Sequence[_Wanted]) -> str:
    """Say what is known: the spread over runs with other draws, or the difference from mean losses."""
    spread = []
    runs = 0
    for item in _main_and_rare(wanted):
        of = report.curves.of(subject.name, perspective, item.metric, item.point)
        figure = item.of(subject, perspective)
        if of is not None and figure is not None and of.sampling_deviation is not None and of.sampling_runs:
            share = f" ({percent(100 * of.sampling_deviation / figure.loss)})" if figure.loss else ""
            spread.append(f"{item.as_part} ± {amount(of.sampling_deviation)}{share}")
            runs = of.sampling_runs
    if spread:
        return f"One standard deviation over {runs} runs with other draws: {'; '.join(spread)}."
    ground_up = report.curves.of(subject.name, Perspective.GUL, Metric.AAL)
    loss = _main_loss(subject, Perspective.GUL)
    if ground_up is not None and ground_up.sampling_error is not None and loss is not None:
        error = ground_up.sampling_error
        share = deviation((loss, loss - error))
        differs = f"differs by {signed_amount(error)}{f' ({share})' if share else ''}"
        words = f"The ground-up average {differs} from that of mean losses, which has no draws. Of other figures it is "
        return f"{words}{ONLY_BY_REPEATED_RUNS}."
    average = report.curves.of(subject.name, perspective, Metric.AAL)
    known = ground_up or average
    return f"Not known: {(known.sampling_error_unknown if known else None) or 'it is not recorded'}."


def _years_error(report: Report, subject: Subject, perspective: Perspective, wanted: Sequence[_Wanted]) -> str:
    simulated = f"the {number(subject.simulated_years)} simulated years" if subject.simulated_years else "the years"
    told = []
    why_not = None
    for item in _main_and_rare(wanted):
        of = report.curves.of(subject.name, perspective, item.metric, item.point)
        figure = item.of(subject, perspective)
        if of is None or figure is None:
            continue
        if of.years_error_low is None or of.years_error_high is None:
            why_not = why_not or of.years_error_unknown
            continue
        ends = (of.years_error_low, of.years_error_high)
        shares = " to ".join(deviation((end, figure.loss)) for end in ends) if figure.loss else ""
        told.append(f"{item.as_part} is {amount(ends[0])} to {amount(ends[1])}{f' ({shares})' if shares else ''}")
    if not told:
        return f"Not known: {why_not or 'it is not recorded'}."
    return f"In 90 % of resamplings of {simulated}, {', and '.join(told)}."


# What changed, and why


def _changes(
    report: Report, subject: Subject, perspective: Perspective, wanted: Sequence[_Wanted]
) -> Iterator[Changes]:
    section = report.comparison
    if section is None:
        return
    lines = [line for line in section.exposure if line.what is not Quantity.ACCOUNTS]
    first = lines[0].portfolio if lines else ""
    rows = [_exposure_row(line) for line in lines if line.portfolio == first]
    part = section.part(subject.name)
    for item in _main_and_rare(wanted) if part is not None else ():
        figure = part.figure(perspective, item.metric, item.point) if part is not None else None
        if figure is not None:
            words = "AAL" if item.metric is Metric.AAL else item.words
            rows.append((_figure_row(f"{words}, {perspective}", figure), figure.note))
    for note, group in groupby(rows, key=lambda row: row[1]):
        yield Changes(tuple(row for row, _ in group), note)


def _exposure_row(line: ExposureLine) -> tuple[Changed, str]:
    def shown(value: float | None) -> str:
        if value is None:
            return NOTHING
        return compact(value) if is_amount else number(int(value))

    is_amount = line.what is Quantity.INSURED_VALUE
    words = f"Insured value, {line.currency}" if is_amount else line.what.value.capitalize()
    difference = line.change
    sign = "" if not difference else signed_amount(difference)[0]
    signed = f"{sign}{shown(None if difference is None else abs(difference))}"
    return Changed(words, shown(line.before), shown(line.after), (signed, change(line))), line.not_compared or ""


def _figure_row(words: str, figure: ComparedFigure) -> Changed:
    return Changed(words, amount(figure.before), amount(figure.after), (change_amount(figure), change(figure)))


def _why(report: Report, subject: Subject, perspective: Perspective, main: _Wanted) -> Why | None:
    if report.comparison is None:
        return None
    sources = [(source, of) for source in report.comparison.sources if (of := _of(source, subject.name)) is not None]
    reasons = [("Exposure", _exposure_words(report.comparison.exposure)), *_reasons(sources)]
    section = report.attribution
    path = section.path(subject.name, perspective, main.metric, main.point) if section is not None else ()
    parts = waterfall(path, report.comparison.before, report.cycle).bars[1:-1] if path else ()
    return Why(tuple(reasons), parts)


def _of(source: ComparedSource, name: str) -> str | None:
    """Return which members of a group differ, in parentheses; None if the fact does not differ in it."""
    for listed in source.names:
        if listed == name or listed.startswith(f"{name} ("):
            return listed.removeprefix(name)
    return None


def _exposure_words(lines: Sequence[ExposureLine]) -> str:
    first = lines[0].portfolio if lines else ""
    moved = [
        f"{line.what.value} {percentage(line.relative_change)}"
        for line in lines
        if line.portfolio == first and line.relative_change
    ]
    return ", ".join(moved) if moved else "the totals are the same"


def _reasons(sources: Sequence[tuple[ComparedSource, str]]) -> Iterator[tuple[str, str]]:
    """Yield what besides the exposure differs: the model before its settings, and not its files beside its version."""
    versions = {of for source, of in sources if source.what in _OF_MODEL}
    settings: dict[str, list[str]] = {}
    for source, of in sources:
        fact = f"{source.before} → {source.after}"
        if source.what.startswith(_SETTING):
            settings.setdefault(of, []).append(f"{source.what.removeprefix(_SETTING)} {fact}")
        elif source.what != _MODEL_FILES or of not in versions:
            yield source.what.capitalize(), f"{fact}{of}"
    for of, facts in settings.items():
        more = len(facts) - _MOST_SETTINGS
        others = f" and {more} more" if more > 0 else ""
        yield "Settings", f"{', '.join(facts[:_MOST_SETTINGS])}{others}{of}"
