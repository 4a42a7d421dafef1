"""Results: the figures of a batch's analyses and groups, and the files that go with them.

The figures of an analysis are those of its job; the figures of a group are computed here, from the period losses of
its analyses (:mod:`irp_pipeline.losses`). Works in the schema of :mod:`irp_pipeline.helpers.db_context`.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from irp_pipeline.errors import IrpError
from irp_pipeline.files import appearing_when_whole, write_atomically
from irp_pipeline.helpers.constants import JobStatus
from irp_pipeline.helpers.database import (
    bulk_insert,
    execute_command,
    execute_query,
    execute_scalar,
    fetch_all,
    fetch_one,
    transaction,
)
from irp_pipeline.helpers.db_context import get_current_schema
from irp_pipeline.helpers.job import ResultFile, result_files
from irp_pipeline.losses import PERSPECTIVES, Figure, LossError, Member, group
from irp_pipeline.settings import cycle_dir

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from irp_pipeline.helpers.workbook import Grouping, Workbook

_FIGURE_COLUMNS = """
    r.analysis_name, r.is_group, r.perspective, r.metric, r.return_period, r.loss_factor, r.loss, r.currency, r.job_ids
"""
_FIGURE_ORDER = """
    r.is_group, r.analysis_name, array_position(ARRAY['GUL', 'IL', 'RI'], r.perspective),
    array_position(ARRAY['AAL', 'STD_DEV', 'OEP', 'AEP', 'LOSS'], r.metric), r.return_period, r.loss_factor
"""
# Numbers of the Open Results Data standard. By samples: full uncertainty, and the average of samples. By means: both 1.
_EP_CALC = {"samples": 2, "means": 1}
_SAMPLE_TYPE = {"samples": 2, "means": 1}
_EP_TYPES = {"OEP": 1, "AEP": 3}
_SUMMARY = 1
_CIRCUMSTANCES = frozenset({"host", "seconds", "model_folder", "notes"})
"""What of a job's provenance may differ between two runs of the same request."""


class ResultError(IrpError):
    """The results of a batch cannot be saved or exported as asked."""


@dataclass(frozen=True)
class JobResult:
    """The finished job of an analysis, with what it left.

    Attributes:
        job_id: the job.
        job_key: the key by which the risk engine knows the job that did the work.
        folder: the job's folder.
        analysis: the parameters that it was made with; ``name`` among them.
        figures: the figures.
        currency: of the figures.
        files: the result files by name.
        provenance: where the figures come from.
    """

    job_id: int
    job_key: str
    folder: Path
    analysis: Mapping[str, Any] = field(repr=False)
    figures: tuple[Figure, ...] = field(repr=False)
    currency: str
    files: Mapping[str, ResultFile] = field(repr=False)
    provenance: Mapping[str, Any] = field(repr=False)

    @property
    def name(self) -> str:
        """The name of the analysis."""
        return str(self.analysis["name"])


@dataclass(frozen=True)
class SavedResults:
    """What :func:`save_results` saved.

    Attributes:
        analyses: how many analyses have figures now.
        groups: how many groups have.
        figures: how many figures there are.
        left_out: groups without figures because an analysis of theirs was skipped or is not finished, with the reason.
    """

    analyses: int
    groups: int
    figures: int
    left_out: Mapping[str, str]


@dataclass(frozen=True)
class ComputedResults:
    """The figures of a batch, computed and not saved yet.

    Attributes:
        batch_id: the batch.
        job_ids: the jobs that they come from.
        rows: the figures, as rows of ``irp_analysis_result``.
        summary: what is told of them.
        refused: why groups have none, if their analyses do not go together.
    """

    batch_id: int
    job_ids: tuple[int, ...]
    rows: tuple[tuple[object, ...], ...] = field(repr=False)
    summary: SavedResults
    refused: tuple[str, ...]

    def save(self) -> None:
        """Put the figures in place of the saved ones, in one transaction: a reader sees the old ones or the new.

        Raises:
            ResultError: jobs changed meanwhile. Nothing is saved.
            DatabaseError: the database refuses or is away.
        """
        _replace(self.batch_id, self.rows, list(self.job_ids))


def save_results(batch_id: int) -> SavedResults:
    """Save the figures of a batch's finished analyses and of the workbook's groups, in place of earlier ones.

    They are replaced in one transaction: a reader sees the old ones or the new. A group with an analysis that was
    skipped or is not finished has no figures, and is named in what is returned.

    Args:
        batch_id: a batch of analyses.

    Raises:
        ResultError: there is no such batch, the result of a job cannot be read, or jobs changed meanwhile. Nothing is
            saved.
        LossError: the analyses of a group do not go together. The figures of everything else are saved before.
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
        ResultError: there is no such batch, or the result of a job cannot be read or is not as the job left it.
        DatabaseError: the database refuses or is away.
    """
    batch = _require_batch(batch_id)
    jobs = finished_jobs(batch_id)
    workbook = _workbook(batch)
    by_name = {job.name: job for job in jobs}
    rows = [
        _row(batch_id, job.name, False, figure, job.currency, [job.job_id]) for job in jobs for figure in job.figures
    ]
    left_out = {name: reason for name, reason in missing_of_groups(workbook, by_name).items() if reason}
    refused: list[str] = []
    groups = 0
    for grouping in workbook.groupings_in_order():
        if grouping.name in left_out:
            continue
        members = [by_name[analysis.name] for analysis in workbook.analyses_in(grouping.name)]
        try:
            figures = _group_figures(grouping, members)
        except LossError as error:
            refused.append(str(error))
            continue
        groups += 1
        job_ids = [job.job_id for job in members]
        rows += [_row(batch_id, grouping.name, True, figure, members[0].currency, job_ids) for figure in figures]
    return ComputedResults(
        batch_id,
        tuple(job.job_id for job in jobs),
        tuple(rows),
        SavedResults(len(jobs), groups, len(rows), left_out),
        tuple(refused),
    )


def saved_content(batch_id: int) -> list[list[object]]:
    """Return the saved figures of a batch as plain data without ids: what they say, in a fixed order."""
    rows = fetch_all(
        """
        SELECT analysis_name, is_group, perspective, metric, return_period, loss_factor, loss, currency
          FROM irp_analysis_result WHERE batch_id = %s
         ORDER BY analysis_name, perspective, metric, return_period, loss_factor
        """,
        (batch_id,),
    )
    return [list(row.values()) for row in rows]


def get_results(batch_id: int) -> pd.DataFrame:
    """Return the saved figures of a batch.

    Returns:
        One row a figure: analysis_name, is_group, perspective, metric, return_period (years; of OEP and AEP),
        loss_factor (of LOSS), loss, currency, job_ids. Analyses first, then groups.

    Raises:
        DatabaseError: the database refuses or is away.
    """
    return execute_query(
        f"SELECT {_FIGURE_COLUMNS} FROM irp_analysis_result r WHERE r.batch_id = %s ORDER BY {_FIGURE_ORDER}",  # noqa: S608
        (batch_id,),
    )


def analyses_by_means(batch_id: int) -> set[str]:
    """Return the analyses of a batch whose saved figures are made without samples, of mean losses.

    Args:
        batch_id: the batch.

    Raises:
        DatabaseError: the database refuses or is away.
    """
    rows = fetch_all(
        """
        SELECT DISTINCT r.analysis_name
          FROM irp_analysis_result r
          JOIN irp_job j ON j.id = ANY (r.job_ids)
         WHERE r.batch_id = %s AND NOT r.is_group AND j.result_data #>> '{provenance,losses_by}' = 'means'
        """,
        (batch_id,),
    )
    return {row["analysis_name"] for row in rows}


def previous_cycle_results(cycle_id: int) -> pd.DataFrame:
    """Return the figures of the latest earlier cycle of the schema that has some.

    Args:
        cycle_id: the cycle to compare with what was before it.

    Returns:
        The columns of :func:`get_results`, and cycle_name before them; no rows if there is no such cycle.

    Raises:
        DatabaseError: the database refuses or is away.
    """
    return execute_query(
        f"""
        SELECT c.cycle_name, {_FIGURE_COLUMNS}
          FROM (SELECT newest.id, c.cycle_name
                  FROM irp_cycle c,
                       LATERAL (SELECT b.id
                                  FROM irp_configuration f JOIN irp_batch b ON b.configuration_id = f.id
                                 WHERE f.cycle_id = c.id
                                   AND EXISTS (SELECT FROM irp_analysis_result r WHERE r.batch_id = b.id)
                                 ORDER BY f.status = 'ACTIVE' DESC, b.id DESC LIMIT 1) newest
                 WHERE (c.created_ts, c.id) < (SELECT created_ts, id FROM irp_cycle WHERE id = %s)
                 ORDER BY c.created_ts DESC, c.id DESC
                 LIMIT 1) c
          JOIN irp_analysis_result r ON r.batch_id = c.id
         ORDER BY {_FIGURE_ORDER}
        """,  # noqa: S608
        (cycle_id,),
    )


def finished_jobs(batch_id: int) -> list[JobResult]:
    """Return the finished jobs of a batch with what they left, skipped ones not; the newest of each analysis.

    Raises:
        ResultError: there is no such batch, or what a job reported is not a result.
        DatabaseError: the database refuses or is away.
    """
    batch = _require_batch(batch_id)
    jobs_folder = cycle_dir(get_current_schema(), batch["cycle_name"]) / "jobs"
    rows = fetch_all(
        """
        SELECT j.id, coalesce(w.job_key, j.job_key) AS job_key, j.result_data, c.job_configuration_data
          FROM irp_job j
          JOIN irp_job_configuration c ON c.id = j.job_configuration_id
          LEFT JOIN irp_job w ON w.id = j.work_job_id
         WHERE j.batch_id = %s AND j.status = %s AND NOT j.skipped AND NOT c.skipped
         ORDER BY j.id
        """,
        (batch_id, JobStatus.FINISHED),
    )
    newest = {job.name: job for job in (_job_result(row, jobs_folder) for row in rows)}
    return list(newest.values())


def missing_of_groups(workbook: Workbook, analyses: Iterable[str]) -> dict[str, str | None]:
    """Say of each group of a workbook why it cannot have figures.

    Args:
        workbook: the workbook.
        analyses: names of the analyses that have a finished job.

    Returns:
        The reason by group, in the order of the groups; None where there is none.
    """
    there = set(analyses)
    reasons: dict[str, str | None] = {}
    for grouping in workbook.groupings_in_order():
        names = [analysis.name for analysis in workbook.analyses_in(grouping.name)]
        lacking = [name for name in names if name not in there]
        reasons[grouping.name] = f"no finished job of {', '.join(lacking)}" if lacking else None
    return reasons


def export_results(batch_id: int, folder: Path) -> list[Path]:
    """Write the saved figures of a batch, and the loss tables of its jobs, into a folder.

    Parquet and CSV: ``results`` (all figures), ``ept`` and ``palt`` (exceedance curves and averages, with the columns
    of the Open Results Data standard), ``location_losses`` (deterministic losses by location and loss factor). JSON:
    ``provenance``. In ``analyses/<name>``: the period and event losses of each job, as links to the job's files where
    the file system can, else as copies. Every file appears whole.

    Args:
        batch_id: a batch whose results are saved.
        folder: where to; made if it is missing, files of the same names are replaced.

    Returns:
        The files.

    Raises:
        ResultError: no results are saved for the batch, or not those of its present jobs; a file of a job is missing or
            is not as the job left it.
        DatabaseError: the database refuses or is away.
    """
    return [file.path for file in exported_files(batch_id, folder)]


@dataclass(frozen=True)
class ExportedFile:
    """A file that :func:`exported_files` wrote.

    Attributes:
        path: the file.
        content: plain data that stands for what matters in it; None for the cells of a table.
        sha256: of its bytes, where that is known.
    """

    path: Path
    content: Any = field(default=None, repr=False)
    sha256: str | None = None


def exported_files(batch_id: int, folder: Path) -> list[ExportedFile]:
    """Write the files of :func:`export_results`, and say of each what matters in it."""
    results = get_results(batch_id)
    jobs = finished_jobs(batch_id)
    if results.empty:
        raise ResultError(f"No results of the batch {batch_id} are saved: save_results first")
    if not {job_id for ids in results["job_ids"] for job_id in ids} <= {job.job_id for job in jobs}:
        raise ResultError(f"Jobs of the batch {batch_id} changed after its results were saved: save_results again")
    written: list[ExportedFile] = []
    for name, table in _exported_tables(results, jobs):
        # The numbers of the jobs stand beside the figures, and are none.
        content = saved_content(batch_id) if name == "results" else None
        parquet, as_text = _write_parquet(table, folder / f"{name}.parquet"), _write_csv(table, folder / f"{name}.csv")
        written += [ExportedFile(parquet, content), ExportedFile(as_text, content)]
    provenance = folder / "provenance.json"
    write_atomically(provenance, json.dumps({job.name: _provenance(job) for job in jobs}, indent=2) + "\n")
    written.append(ExportedFile(provenance, {job.name: provenance_content(job.provenance) for job in jobs}))
    for job in jobs:
        for name, file in job.files.items():
            if "plt" in name.split("_") or "elt" in name.split("_"):
                target = folder / "analyses" / job.name / file.path.name
                written.append(ExportedFile(_link_or_copy(_existing(job, name), target), file.sha256, file.sha256))
    return written


def provenance_content(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Return where figures come from, without on which machine and how long it took."""
    return {name: value for name, value in provenance.items() if name not in _CIRCUMSTANCES}


def _provenance(job: JobResult) -> dict[str, Any]:
    return {"job_id": job.job_id, "job_key": job.job_key, "currency": job.currency, **job.provenance}


def _require_batch(batch_id: int) -> dict[str, Any]:
    batch = fetch_one(
        """
        SELECT b.id, b.status, c.cycle_name,
               -- The workbook may have changed since, in other things than its analyses.
               coalesce(active.configuration_data, f.configuration_data) AS configuration_data
          FROM irp_batch b
          JOIN irp_configuration f ON f.id = b.configuration_id
          JOIN irp_cycle c ON c.id = f.cycle_id
          LEFT JOIN irp_configuration active
                 ON active.cycle_id = c.id AND active.status = 'ACTIVE'
                AND active.configuration_data -> 'analyses' = f.configuration_data -> 'analyses'
         WHERE b.id = %s
        """,
        (batch_id,),
    )
    if batch is None:
        raise ResultError(f"There is no batch with the id {batch_id}")
    return batch


def _workbook(batch: Mapping[str, Any]) -> Workbook:
    from irp_pipeline.helpers.workbook import Workbook

    return Workbook.model_validate(batch["configuration_data"])


def _job_result(row: Mapping[str, Any], jobs_folder: Path) -> JobResult:
    analysis, result = row["job_configuration_data"], row["result_data"] or {}
    if not isinstance(analysis.get("name"), str):
        raise ResultError(f"The parameters of job {row['id']} do not name its analysis: resubmit it with a 'name'")
    folder = jobs_folder / row["job_key"]
    try:
        # A standard deviation that is not defined has no loss, and is no figure.
        figures = tuple(Figure.from_json(figure) for figure in result["figures"] if figure["loss"] is not None)
        files = result_files(result, folder)
        found = JobResult(
            row["id"],
            row["job_key"],
            folder,
            analysis,
            figures,
            str(result["currency"]),
            files,
            result.get("provenance", {}),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ResultError(
            f"What job {row['id']} of the analysis {analysis['name']} reported is not a result: {error!r}"
        ) from error
    if not figures or not all(math.isfinite(figure.loss) for figure in figures):
        raise ResultError(f"Job {row['id']} of the analysis {analysis['name']} reported no figures, or not a number")
    return found


def _group_figures(grouping: Grouping, members: Sequence[JobResult]) -> list[Figure]:
    from irp_pipeline.helpers.workbook import PeriodPairing

    return_periods = {years for job in members for years in job.analysis.get("return_periods") or ()}
    return group(
        grouping.name,
        [_member(grouping, job) for job in members],
        return_periods=sorted(return_periods),
        pair_by_number=grouping.period_pairing is PeriodPairing.BY_NUMBER,
    )


def _member(grouping: Grouping, job: JobResult) -> Member:
    names = {perspective: f"{perspective.lower()}_plt_sample" for perspective in PERSPECTIVES}
    try:
        return Member(
            job.name,
            {perspective: _existing(job, name) for perspective, name in names.items() if name in job.files},
            int(job.provenance["periods"]),
            int(job.provenance["samples"]),
            job.currency,
            str(job.provenance["occurrence_hash"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise LossError(
            f"The losses of the group {grouping.name} cannot be added up: job {job.job_id} of {job.name} does not say "
            f"over which years its losses are ({error})"
        ) from error


def _row(
    batch_id: int, name: str, is_group: bool, figure: Figure, currency: str, job_ids: list[int]
) -> tuple[object, ...]:
    return (
        batch_id,
        name,
        is_group,
        figure.perspective,
        figure.metric,
        figure.return_period,
        figure.loss_factor,
        figure.loss,
        currency,
        job_ids,
    )


def _replace(batch_id: int, rows: Iterable[tuple[object, ...]], job_ids: list[int]) -> None:
    with transaction():
        execute_scalar("SELECT id FROM irp_batch WHERE id = %s FOR NO KEY UPDATE", (batch_id,))  # one saving at a time
        if [job.job_id for job in finished_jobs(batch_id)] != job_ids:
            raise ResultError(f"Jobs of the batch {batch_id} changed while its results were saved: do it again")
        execute_command("DELETE FROM irp_analysis_result WHERE batch_id = %s", (batch_id,))
        bulk_insert(
            """
            INSERT INTO irp_analysis_result (batch_id, analysis_name, is_group, perspective, metric, return_period,
                                             loss_factor, loss, currency, job_ids)
            VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
            """,
            rows,
        )


def _exported_tables(results: pd.DataFrame, jobs: Sequence[JobResult]) -> Iterator[tuple[str, pa.Table]]:
    import pyarrow as pa

    flat = results.assign(job_ids=[" ".join(map(str, ids)) for ids in results["job_ids"]])
    yield "results", pa.Table.from_pandas(flat, preserve_index=False)
    stated = {"analysis_name": "Analysis", "is_group": "IsGroup", "perspective": "Perspective", "currency": "Currency"}
    curves = flat[flat["metric"].isin(list(_EP_TYPES))].rename(
        columns={**stated, "return_period": "ReturnPeriod", "loss": "Loss"}
    )
    by = {job.name: str(job.provenance.get("losses_by", "samples")) for job in jobs}

    def losses_by(names: pd.Series[Any]) -> pd.Series[Any]:
        return names.map(by).fillna("samples")  # a group is made of sampled losses

    curves = curves.assign(
        SummaryId=_SUMMARY,
        EPCalc=losses_by(curves["Analysis"]).map(_EP_CALC).astype("int64"),
        EPType=curves["metric"].map(_EP_TYPES),
    )
    columns = [*stated.values(), "SummaryId", "EPCalc", "EPType", "ReturnPeriod", "Loss"]
    yield "ept", pa.Table.from_pandas(curves[columns], preserve_index=False)
    averages = flat[flat["metric"].isin(["AAL", "STD_DEV"])].rename(columns=stated)
    wide = averages.pivot(index=list(stated.values()), columns="metric", values="loss")
    wide = wide.reindex(columns=["AAL", "STD_DEV"]).set_axis(["MeanLoss", "SDLoss"], axis=1).reset_index()
    wide = wide.assign(SummaryId=_SUMMARY, SampleType=losses_by(wide["Analysis"]).map(_SAMPLE_TYPE).astype("int64"))
    columns = [*stated.values(), "SummaryId", "SampleType", "MeanLoss", "SDLoss"]
    yield "palt", pa.Table.from_pandas(wide[columns], preserve_index=False)
    if by_location := [_location_losses(job) for job in jobs if "losses" in job.files]:
        yield "location_losses", pa.concat_tables(by_location, promote_options="permissive")


def _location_losses(job: JobResult) -> pa.Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        losses = pq.read_table(_existing(job, "losses"))
    except pa.ArrowInvalid as error:
        raise ResultError(f"The losses of job {job.job_id} of {job.name} cannot be read: {error}") from error
    for position, name, value in ((0, "Analysis", job.name), (1, "Currency", job.currency)):
        if name not in losses.column_names:
            losses = losses.add_column(position, name, pa.array([value] * losses.num_rows, pa.string()))
    return losses


def _existing(job: JobResult, name: str) -> Path:
    """Return where a file of a job is, checked against what the job left."""
    file = job.files[name]
    if (differs := file.difference()) is not None:
        raise ResultError(
            f"The file {file.path}, the {name} of job {job.job_id} of {job.name}, {differs}. It is not used. Run the "
            "cycle again: the job is then submitted anew"
        )
    return file.path


def _write_parquet(table: pa.Table, path: Path) -> Path:
    import pyarrow.parquet as pq

    with appearing_when_whole(path) as partial:
        pq.write_table(table, partial)
    return path


def _write_csv(table: pa.Table, path: Path) -> Path:
    import pyarrow.csv as pc

    with appearing_when_whole(path) as partial:
        pc.write_csv(table, partial)
    return path


def _link_or_copy(source: Path, target: Path) -> Path:
    if target.exists() and target.samefile(source):
        return target
    with appearing_when_whole(target) as partial:
        partial.unlink()
        try:
            os.link(source, partial)
        except OSError:  # another file system, or one without links
            shutil.copyfile(source, partial)
    return target
