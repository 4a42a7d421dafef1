"""Recording figures: computing those of a batch, and replacing earlier ones.

Here: the figures of finished analyses and of the workbook's groups, and the transaction that replaces them. Not here:
reading saved figures (:mod:`irp_pipeline.helpers.result.recorded`), and writing them into files
(:mod:`irp_pipeline.helpers.result.exporting`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from irp_pipeline.helpers.result.declared import declared_figures_of, faulty_metrics
from irp_pipeline.helpers.result.errors import ResultError
from irp_pipeline.helpers.result.finished import JobResult, ResultBatch, finished_jobs, require_batch
from irp_pipeline.helpers.result.groups import group_figures, missing_of_groups
from irp_pipeline.helpers.result.recorded import RecordedFigure
from irp_pipeline.losses import Figure, LossError
from irp_pipeline.postgres.running import bulk_insert, execute_command, execute_scalar, transaction

if TYPE_CHECKING:
    from irp_pipeline.workbook import Workbook


@dataclass(frozen=True)
class SavedResults:
    """What :func:`save_results` saved.

    Attributes:
        analyses: how many analyses have figures now.
        groups: how many groups have figures now.
        figures: how many figures there are.
        left_out: groups without figures because one of their analyses was skipped or is not finished, with the reason.
    """

    analyses: int
    groups: int
    figures: int
    left_out: Mapping[str, str]


@dataclass(frozen=True)
class ComputedResults:
    """The figures of a batch, computed but not yet saved.

    Attributes:
        batch_id: the batch.
        job_ids: the jobs that they come from.
        figures: the figures.
        summary: their number, and what was left out.
        refused: groups whose analyses cannot be combined, and missing declared metrics, with the reasons.
    """

    batch_id: int
    job_ids: tuple[int, ...]
    figures: tuple[RecordedFigure, ...] = field(repr=False)
    summary: SavedResults
    refused: tuple[str, ...]

    def save(self) -> None:
        """Replace the saved figures in one transaction: a reader sees either the old ones or the new ones.

        Raises:
            ResultError: jobs have changed since the computation. Nothing is saved.
            DatabaseError: the database refuses or is away.
        """
        _replace(self.batch_id, self.figures, list(self.job_ids))


def save_results(batch_id: int) -> SavedResults:
    """Save the figures of a batch's finished analyses and of the workbook's groups, and replace earlier ones.

    One transaction replaces them: a reader sees either the old ones or the new ones. A group with an analysis that was
    skipped or is not finished has no figures; the return value names it.

    Args:
        batch_id: a batch of analyses.

    Raises:
        ResultError: there is no such batch, the result of a job cannot be read, or jobs changed during the call.
            Nothing is saved.
        LossError: the analyses of a group cannot be combined, or a declared metric cannot be computed. All other
            figures are saved first.
        DatabaseError: the database refuses or is away.
    """
    computed = compute_results(batch_id)
    computed.save()
    if computed.refused:
        raise LossError("\n".join(computed.refused))
    return computed.summary


def compute_results(batch_id: int) -> ComputedResults:
    """Compute the figures of a batch's finished analyses and of the workbook's groups, without saving them.

    Args:
        batch_id: a batch of analyses.

    Raises:
        ResultError: there is no such batch, or the result of a job cannot be read or has changed.
        DatabaseError: the database refuses or is away.
    """
    batch = require_batch(batch_id)
    jobs = finished_jobs(batch_id)
    workbook = _workbook(batch)
    by_name = {job.name: job for job in jobs}
    recorded = [_of_job(job, figure) for job in jobs for figure in job.figures]
    refused = faulty_metrics()
    for job in jobs:
        try:
            figures = declared_figures_of(job)
        except LossError as error:
            refused.append(str(error))
        else:
            recorded += [_of_job(job, figure) for figure in figures]
    left_out = {name: reason for name, reason in missing_of_groups(workbook, by_name).items() if reason}
    groups = 0
    for grouping in workbook.groupings_in_order():
        if grouping.name in left_out:
            continue
        members = [by_name[analysis.name] for analysis in workbook.analyses_in(grouping.name)]
        try:
            figures = group_figures(grouping, members)
        except LossError as error:
            refused.append(str(error))
            continue
        groups += 1
        recorded += [
            RecordedFigure(
                analysis_name=grouping.name,
                is_group=True,
                figure=figure,
                currency=members[0].currency,
                job_ids=tuple(job.job_id for job in members),
            )
            for figure in figures
        ]
    return ComputedResults(
        batch_id,
        tuple(job.job_id for job in jobs),
        tuple(recorded),
        SavedResults(len(jobs), groups, len(recorded), left_out),
        tuple(refused),
    )


def _of_job(job: JobResult, figure: Figure) -> RecordedFigure:
    return RecordedFigure(
        analysis_name=job.name, is_group=False, figure=figure, currency=job.currency, job_ids=(job.job_id,)
    )


def _workbook(batch: ResultBatch) -> Workbook:
    from irp_pipeline.workbook import Workbook

    return Workbook.from_json(batch.configuration_data)


def _row(batch_id: int, recorded: RecordedFigure) -> tuple[object, ...]:
    figure = recorded.figure
    return (
        batch_id,
        recorded.analysis_name,
        recorded.is_group,
        figure.perspective,
        figure.metric,
        figure.return_period,
        figure.loss_factor,
        figure.loss,
        recorded.currency,
        list(recorded.job_ids),
        list(figure.segment_by),
        list(figure.segment),
    )


def _replace(batch_id: int, figures: Iterable[RecordedFigure], job_ids: list[int]) -> None:
    with transaction():
        execute_scalar("SELECT id FROM irp_batch WHERE id = %s FOR NO KEY UPDATE", (batch_id,))  # one save at a time
        if [job.job_id for job in finished_jobs(batch_id)] != job_ids:
            raise ResultError(f"Jobs of the batch {batch_id} changed while its results were saved: do it again")
        execute_command("DELETE FROM irp_analysis_result WHERE batch_id = %s", (batch_id,))
        bulk_insert(
            """
            INSERT INTO irp_analysis_result (batch_id, analysis_name, is_group, perspective, metric, return_period,
                                             loss_factor, loss, currency, job_ids, segment_by, segment)
            VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s::text[], %s::text[])
            """,
            (_row(batch_id, recorded) for recorded in figures),
        )
