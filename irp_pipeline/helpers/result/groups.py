"""Groups: the figures of several analyses together, computed from their period losses.

Here: which groups of a workbook can have figures, and handing their members to :mod:`irp_pipeline.losses`. Not here:
the mathematics, and saving the figures (:mod:`irp_pipeline.helpers.result.recording`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from irp_pipeline.helpers.result.finished import JobResult, existing_file
from irp_pipeline.losses import Figure, LossError, Member, group
from irp_pipeline.vocabulary import Perspective

if TYPE_CHECKING:
    from irp_pipeline.workbook import Grouping, Workbook


def missing_of_groups(workbook: Workbook, analyses: Iterable[str]) -> dict[str, str | None]:
    """Say why groups of a workbook cannot have figures.

    Args:
        workbook: the workbook.
        analyses: names of the analyses that have a finished job.

    Returns:
        The reason by group, in the order of the groups; None for a group that can have figures.
    """
    there = set(analyses)
    reasons: dict[str, str | None] = {}
    for grouping in workbook.groupings_in_order():
        names = [analysis.name for analysis in workbook.analyses_in(grouping.name)]
        lacking = [name for name in names if name not in there]
        reasons[grouping.name] = f"no finished job of {', '.join(lacking)}" if lacking else None
    return reasons


def group_figures(grouping: Grouping, members: Sequence[JobResult]) -> list[Figure]:
    """Compute the figures of a group; a LossError says why its analyses cannot be combined."""
    from irp_pipeline.workbook import PeriodPairing

    return_periods = {years for job in members for years in job.analysis.get("return_periods") or ()}
    return group(
        grouping.name,
        [_member(grouping, job) for job in members],
        return_periods=sorted(return_periods),
        pair_by_number=grouping.period_pairing is PeriodPairing.BY_NUMBER,
    )


def _member(grouping: Grouping, job: JobResult) -> Member:
    names = {perspective: f"{perspective.lower()}_plt_sample" for perspective in Perspective}
    try:
        return Member(
            job.name,
            {perspective: existing_file(job, name) for perspective, name in names.items() if name in job.files},
            int(job.provenance["periods"]),
            int(job.provenance["samples"]),
            job.currency,
            str(job.provenance["occurrence_hash"]),
            {
                of.by: {
                    perspective: (existing_file(job, name), of.by_summary(perspective))
                    for perspective, name in of.period_losses.items()
                    if name in job.files
                }
                for of in job.segmentations
            },
        )
    except (KeyError, TypeError, ValueError) as error:
        raise LossError(
            f"The losses of the group {grouping.name} cannot be added up: job {job.job_id} of {job.name} does not say "
            f"over which years its losses are ({error})"
        ) from error
