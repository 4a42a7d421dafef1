"""The page: rendering of a :class:`~irp_pipeline.report.records.Report`, and writing it.

The page is one file that loads nothing: its content security policy forbids network access and all scripts except its
own. Every value is escaped, since names and messages are untrusted.
"""

import secrets
from pathlib import Path

from irp_pipeline.cycle_files import REPORT, REPORT_PAGE, REPORT_PICTURE, REPORT_SUMMARY, report_of
from irp_pipeline.files import appearing_when_whole, write_atomically
from irp_pipeline.hashes import value_hash
from irp_pipeline.helpers.artefact import first_difference, list_artefacts, read_artefacts
from irp_pipeline.helpers.result.uncertainty import ONLY_BY_REPEATED_RUNS
from irp_pipeline.report import display
from irp_pipeline.report.attribution import attributed_subjects
from irp_pipeline.report.brief import brief_of
from irp_pipeline.report.collecting import collect
from irp_pipeline.report.comparison import ComparisonSection, by_portfolio
from irp_pipeline.report.exposure import prepare_exposure
from irp_pipeline.report.records import Report, Subject, curve_figures, first_line
from irp_pipeline.report.summary import render_summary
from irp_pipeline.report.templates import template_environment
from irp_pipeline.report.what_if import what_if_rows

_MANY_SUBJECTS = 8
"""With more subjects than this, the tables of analyses are collapsed."""
_MOST_DETAILED = 40
"""With more subjects than this, intervals at return periods are in the files alone."""


def write_report(cycle_name: str, folder: Path) -> Path:
    """Write the report of a cycle from its present records.

    Args:
        cycle_name: the cycle, in the schema of :mod:`irp_pipeline.helpers.db_context`.
        folder: the target of ``report.html``, ``report.md`` and, if there are curves, ``ep_curves.png``. Each file
            replaces an earlier one, and is never seen incomplete.

    Returns:
        The path of the page.

    Raises:
        ReportError: there is no such cycle.
        DatabaseError: the database refuses or is away.
        OSError: the folder cannot be written to.
    """
    return write(collect(cycle_name), folder)


def update(report: Report, cycle_id: int, cycle_folder: Path) -> Path:
    """Write a report among the files of its cycle, unless the report of the cycle's step has the same content.

    That one is fetched if it is not on this machine. If a file of a step is replaced, the step runs again.

    Args:
        report: the report.
        cycle_id: its cycle.
        cycle_folder: the files of the cycle.

    Returns:
        The path of the page.

    Raises:
        DatabaseError: the database refuses or is away.
        OSError: the folder cannot be written to.
    """
    recorded = list_artefacts(cycle_id, REPORT)
    content = value_hash(report.content())
    says_the_same = bool(recorded) and all(artefact.content_hash == content for artefact in recorded.values())
    if says_the_same and first_difference(cycle_folder, recorded.values()) is None:
        read_artefacts(report.cycle, recorded.values())
        return report_of(cycle_folder)
    return write(report, cycle_folder / REPORT)


def write(report: Report, folder: Path) -> Path:
    """Write a collected report; otherwise as :func:`write_report`."""
    from irp_pipeline.report.charts import picture

    page, summary = render_page(report), render_summary(report)
    if subjects := _with_curves(report):
        image = picture(subjects, f"{report.cycle}: losses by return period", report.curves.drawn)
        with appearing_when_whole(folder / REPORT_PICTURE) as partial:
            partial.write_bytes(image)
    else:
        (folder / REPORT_PICTURE).unlink(missing_ok=True)
    write_atomically(folder / REPORT_SUMMARY, summary)
    write_atomically(folder / REPORT_PAGE, page)
    return folder / REPORT_PAGE


def render_page(report: Report) -> str:
    """Return the report as an HTML page."""
    from irp_pipeline.report.charts import CURVE_LABELS, LABELS, interactive_chart, javascript
    from irp_pipeline.report.comparison_chart import comparison_chart, curve_choices

    environment = template_environment(
        "irp_pipeline.report",
        display.amount,
        display.change,
        display.change_amount,
        display.deviation,
        display.duration,
        display.moment,
        display.number,
        display.short,
        display.signed_amount,
        display.years,
        first_line,
    )
    prepare_exposure(environment)
    subjects = _with_curves(report)
    shown_first = _shown_first(report, subjects) if subjects else ""
    chart = interactive_chart(subjects, shown_first, report.curves.drawn) if subjects else None
    brief = brief_of(report)
    attributed, attributed_more = (
        ([], 0)
        if report.attribution is None
        else attributed_subjects(report.attribution, brief.subject.name if brief is not None else shown_first)
    )
    section = report.comparison
    compared_first = _compared_first(section, shown_first) if section is not None else ""
    return environment.get_template("page.html.jinja").render(
        report=report,
        chart=chart,
        chart_subjects=[subject.name for subject in subjects],
        chart_first=shown_first,
        program=javascript() if chart else "",
        nonce=secrets.token_urlsafe(16),
        brief=brief,
        attributed=attributed,
        attributed_more=attributed_more,
        perspectives_of=display.perspectives_of,
        metric_title=display.metric_title,
        folded=len(report.subjects) > _MANY_SUBJECTS,
        labels=LABELS,
        curve_labels=CURVE_LABELS,
        not_known=ONLY_BY_REPEATED_RUNS,
        most_detailed=_MOST_DETAILED,
        comparison_chart=comparison_chart(section, compared_first) if section is not None and chart else None,
        comparison_first=compared_first,
        comparison_curves=curve_choices(section) if section is not None else {},
        by_portfolio=by_portfolio,
        what_if_rows=what_if_rows,
    )


def _with_curves(report: Report) -> list[Subject]:
    return [subject for subject in report.subjects if any(curve_figures(subject))]


def _compared_first(section: ComparisonSection, shown_first: str) -> str:
    names = [part.name for part in section.with_curves]
    return shown_first if shown_first in names or not names else names[0]


def _shown_first(report: Report, subjects: list[Subject]) -> str:
    headline = report.headline_subject
    return headline.name if headline is not None and headline in subjects else subjects[-1].name
