"""A short version of the report as Markdown: for the metadata of an op, a mail or a ticket."""

import re
from collections.abc import Iterable, Iterator, Sequence

from irp_pipeline.helpers.sanity import LossFinding
from irp_pipeline.report.comparison import ComparedFigure
from irp_pipeline.report.display import (
    amount,
    change,
    headline_figures,
    metric_title,
    moment,
    perspectives_of,
    short,
    years,
)
from irp_pipeline.report.records import Report, Subject, first_line
from irp_pipeline.report.what_if import what_if_rows
from irp_pipeline.vocabulary import Metric, Perspective

_MOST_FINDINGS = 20


def render_summary(report: Report) -> str:
    """Return the report as Markdown: its state, the main figures, and what failed."""
    return "\n".join(_lines(report)) + "\n"


def escaped(value: object) -> str:
    """Escape text for one line of Markdown, so that it is shown literally."""
    line = " ".join(str("" if value is None else value).split())
    return re.sub(r"([\\`*_{}\[\]()#+!|~>])", r"\\\1", line.replace("&", "&amp;").replace("<", "&lt;"))


def findings_table(findings: Iterable[LossFinding]) -> Iterator[str]:
    """Yield the lines of a table of findings about losses in Markdown."""
    yield from _table(
        ["Severity", "Analysis or group", "Finding", "How large", "What to do"],
        (
            [*map(escaped, (finding.severity, finding.subject, finding.what, finding.size, finding.remedy))]
            for finding in findings
        ),
        words=5,
    )


def _lines(report: Report) -> Iterator[str]:
    yield f"## {escaped(report.cycle)}: {report.state}"
    yield ""
    yield from (f"- {escaped(item)}" for item in report.missing)
    yield from (f"- Note: {escaped(item)}" for item in report.notes)
    if report.sign_off is not None and report.sign_off.figures:
        yield f"- Sign-off: {escaped(report.sign_off)}"
    stochastic = [subject for subject in report.subjects if subject.is_stochastic]
    deterministic = [subject for subject in report.subjects if not subject.is_stochastic]
    if headline := headline_figures(report):
        compared = [f"since {escaped(report.comparison.before)}"] if report.comparison else []
        first = headline[0]
        yield from _table(
            [f"{escaped(first.subject)}, {first.figure.perspective}", escaped(first.currency), *compared],
            ([item.words, amount(item.figure.loss), *([_since(item.change)] if compared else [])] for item in headline),
            words=1,
        )
    if stochastic:
        perspectives = perspectives_of(stochastic)
        yield from _heading("Average annual loss")
        yield from _table(
            ["Analysis or group", "Currency", *perspectives],
            ([_name(item), escaped(item.currency), *_amounts(item, perspectives, Metric.AAL)] for item in stochastic),
            words=2,
        )
    if deterministic:
        perspectives = perspectives_of(deterministic)
        yield from _heading("Deterministic losses")
        yield from _table(
            ["Analysis", "Currency", "Loss factor", *perspectives],
            (
                [
                    _name(item),
                    escaped(item.currency),
                    f"{factor:.4g}",
                    *_amounts(item, perspectives, Metric.LOSS, factor),
                ]
                for item in deterministic
                for factor in item.loss_factors
            ),
            words=2,
        )
    if measured := [subject for subject in report.subjects if subject.declared_metrics]:
        perspectives = perspectives_of(measured)
        yield from _heading("Other metrics")
        yield from _table(
            ["Analysis or group", "Currency", "Metric", "Return period", *perspectives],
            (
                [
                    _name(item),
                    escaped(item.currency),
                    escaped(metric_title(metric)),
                    "" if period is None else years(period),
                    *_amounts(item, perspectives, metric, period=period),
                ]
                for item in measured
                for metric, period in item.declared_metrics
            ),
            words=3,
        )
    if report.what_ifs:
        yield from _heading("What if")
        yield from _table(
            ["What-if", "Base", "Figure", "Losses", "Currency", "Loss", "Difference", "Relative"],
            (
                [
                    *map(escaped, (item.name, item.base, row.words, row.perspective, item.currency)),
                    amount(row.loss),
                    row.difference,
                    row.relative,
                ]
                for item in report.what_ifs
                for row in what_if_rows(item).main
            ),
            words=5,
        )
        for item in report.what_ifs:
            if item.missing:
                yield f"- {escaped(item.name)}: no difference, since {escaped(item.missing)}"
    if report.losses is not None and report.losses.findings:
        yield from _heading("Findings about the losses")
        yield from findings_table(report.losses.findings[:_MOST_FINDINGS])
        if (more := report.losses.total - _MOST_FINDINGS) > 0:
            yield ""
            yield f"{more} more findings are in losses/findings.txt."
    if report.failures:
        yield from _heading("Jobs that failed")
        for failure in report.failures:
            error = escaped(first_line(failure.error))
            yield f"- {escaped(failure.analysis)} (job {failure.job_id}, {failure.status}): {error}"
    workbook = report.workbook
    source = f", workbook {escaped(workbook['file'])} ({short(workbook['SHA-256'])})" if workbook else ""
    yield ""
    yield f"As of {moment(report.written)}, schema {escaped(report.schema)}{source}."


def _since(compared: ComparedFigure | None) -> str:
    """Return a change with what besides the exposure differs, or why there is none."""
    note = escaped(compared.note) if compared is not None and compared.note else ""
    return f"{change(compared)} ({note})".lstrip() if note else change(compared)


def _heading(words: str) -> Iterator[str]:
    yield ""
    yield f"### {words}"


def _table(headers: Sequence[str], rows: Iterable[Sequence[str]], *, words: int) -> Iterator[str]:
    """Yield the lines of a table whose first ``words`` columns are words, and the others numbers."""
    yield ""
    yield f"| {' | '.join(headers)} |"
    yield f"| {' | '.join('---' if number < words else '---:' for number in range(len(headers)))} |"
    yield from (f"| {' | '.join(row)} |" for row in rows)


def _name(subject: Subject) -> str:
    return escaped(subject.name) + (" (group)" if subject.is_group else "")


def _amounts(
    subject: Subject,
    perspectives: Iterable[Perspective],
    metric: str,
    factor: float | None = None,
    period: float | None = None,
) -> Iterator[str]:
    for perspective in perspectives:
        figure = subject.figure(perspective, metric, period, factor)
        yield amount(figure.loss if figure else None)
