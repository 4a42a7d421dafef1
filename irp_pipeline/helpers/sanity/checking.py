"""All checks of losses together, over the saved figures of a batch.

Works in the schema of :mod:`irp_pipeline.helpers.db_context`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from irp_pipeline.hashes import value_hash
from irp_pipeline.helpers.batch_content import job_contents
from irp_pipeline.helpers.comparison.choosing import choose, cycle_before
from irp_pipeline.helpers.comparison.comparing import compare_with_cycle_before
from irp_pipeline.helpers.comparison.reading import read_side
from irp_pipeline.helpers.comparison.sides import Side
from irp_pipeline.helpers.cycle_lookup import Cycle
from irp_pipeline.helpers.result import RecordedFigure, get_results, recorded_figures, saved_content
from irp_pipeline.helpers.sanity.changes import check_changes
from irp_pipeline.helpers.sanity.coverage import check_covered
from irp_pipeline.helpers.sanity.dates import check_exposure_dates
from irp_pipeline.helpers.sanity.figures import check_figures
from irp_pipeline.helpers.sanity.findings import LossFinding, Severity, in_order
from irp_pipeline.helpers.sanity.policies import PolicyDates
from irp_pipeline.helpers.sanity.subjects import Subject, facts_of_job


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckedLosses:
    """The findings about the saved figures of a batch.

    Attributes:
        findings: the worst first.
        compared_with: the cycle before; None if no earlier cycle has figures.
        figures: how many figures were checked.
        content: a hash of those of whole portfolios, which tells whether they are still the saved ones.
    """

    findings: tuple[LossFinding, ...]
    compared_with: str | None
    figures: int
    content: str

    def count(self, severity: Severity) -> int:
        """Return how many findings of a severity there are."""
        return sum(finding.severity is severity for finding in self.findings)


def check_losses(
    cycle: Cycle,
    batch_id: int,
    *,
    largest_change: float,
    least_covered: float,
    dates: Mapping[str, PolicyDates | None],
) -> CheckedLosses:
    """Check the saved figures of a batch. Nothing is changed.

    Args:
        cycle: its cycle.
        batch_id: the batch.
        largest_change: the largest relative change since the cycle before that needs no warning, such as 0.25.
        least_covered: the least share of insured value that a model must cover without a warning, such as 0.9.
        dates: the dates of the policies of each portfolio; None, or no entry, if they are not stated.

    Raises:
        DatabaseError: the database refuses or is away.
    """
    figures = recorded_figures(get_results(batch_id, segments=True))
    if not figures:  # every job was skipped
        return CheckedLosses(findings=(), compared_with=None, figures=0, content=content_of_figures(figures))
    side = read_side(choose(cycle, batch_id), cycle.cycle_name)
    subjects = list(_subjects(side, figures))
    findings = [finding for subject in subjects for finding in check_figures(subject)]
    findings += check_covered(subjects, least_covered)
    findings += check_exposure_dates(subjects, side.exposure_date, dates)
    compared = compare_with_cycle_before(cycle.cycle_name, batch_id)
    if compared is not None:
        findings += check_changes(compared.figures, compared.before.label, largest_change)
    return CheckedLosses(
        findings=in_order(findings),
        compared_with=None if compared is None else compared.before.label,
        figures=len(figures),
        content=content_of_figures(figures),
    )


def checked_content(cycle: Cycle, batch_id: int) -> dict[str, Any]:
    """Return the content that the findings about a batch depend on, by name.

    That is its saved figures, and what its jobs say about them; which cycle is the one before, the figures of whole
    portfolios of that, and its jobs. Thresholds and exposure are not in it.

    Args:
        cycle: the cycle of the batch.
        batch_id: the batch.

    Raises:
        DatabaseError: the database refuses or is away.
    """
    figures = saved_content(batch_id)
    if not figures:
        return {}
    side = read_side(choose(cycle, batch_id), cycle.cycle_name)
    facts = {
        name: [asdict(facts_of_job(source)) for source in subject.sources] for name, subject in side.subjects.items()
    }
    before = cycle_before(cycle, side.exposure_date)
    found: dict[str, Any] = {"figures": value_hash(figures), "facts of the jobs": value_hash(facts)}
    if before is None:
        return found | {"cycle before": "none"}
    earlier = before.chosen
    return found | {
        "cycle before": earlier.cycle_name,
        "figures of the cycle before": content_of_figures(recorded_figures(get_results(earlier.batch_id))),
        "jobs of the cycle before": value_hash(job_contents(earlier.batch_id)),
    }


def content_of_figures(figures: Iterable[RecordedFigure]) -> str:
    """Return a hash of figures of whole portfolios that does not depend on their order; segments are left out."""
    return value_hash(
        sorted(
            repr((item.analysis_name, item.currency, asdict(item.figure))) for item in figures if item.figure.is_whole
        )
    )


def _subjects(side: Side, figures: Iterable[RecordedFigure]) -> Iterator[Subject]:
    """Yield the analyses and groups that have figures, in the order of their names, analyses first."""
    of: dict[str, list[RecordedFigure]] = {}
    for item in figures:
        of.setdefault(item.analysis_name, []).append(item)
    for name, found in sorted(of.items(), key=lambda item: (item[1][0].is_group, item[0])):
        compared = side.subjects.get(name)
        yield Subject(
            name=name,
            is_group=found[0].is_group,
            currency=found[0].currency,
            figures=[item.figure for item in found],
            jobs=tuple(facts_of_job(source) for source in compared.sources) if compared is not None else (),
        )
