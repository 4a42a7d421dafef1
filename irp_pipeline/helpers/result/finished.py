"""The finished jobs of a batch, with their figures and files.

Here: reading what jobs reported, and checking that it is a result and that its files have not changed. Not here:
figures of several jobs (:mod:`irp_pipeline.helpers.result.groups`), and jobs that are at work
(:mod:`irp_pipeline.helpers.job_result`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from irp_pipeline.cycle_files import jobs_of
from irp_pipeline.helpers.constants import JobStatus
from irp_pipeline.helpers.db_context import get_current_schema
from irp_pipeline.helpers.job_record import FinishedJob
from irp_pipeline.helpers.job_result import ResultFile, ResultFileError, result_files
from irp_pipeline.helpers.result.errors import ResultError
from irp_pipeline.losses import Figure, Segmentation
from irp_pipeline.postgres.running import fetch_all, fetch_one
from irp_pipeline.settings import cycle_dir

_CIRCUMSTANCES = frozenset({"host", "seconds", "model_folder", "notes"})
"""The parts of a job's provenance that may differ between two runs of the same request."""


@dataclass(frozen=True)
class JobResult:
    """The finished job of an analysis, with its figures and files.

    Attributes:
        job_id: the job.
        job_key: the risk engine's key of the job that did the work.
        folder: the job's folder.
        analysis: its parameters, including ``name``.
        figures: the figures.
        currency: of the figures.
        files: the result files by name.
        provenance: where the figures come from.
        segmentations: the segments that it has, by combination of OED fields.
    """

    job_id: int
    job_key: str
    folder: Path
    analysis: Mapping[str, Any] = field(repr=False)
    figures: tuple[Figure, ...] = field(repr=False)
    currency: str
    files: Mapping[str, ResultFile] = field(repr=False)
    provenance: Mapping[str, Any] = field(repr=False)
    segmentations: tuple[Segmentation, ...] = field(default=(), repr=False)

    @property
    def name(self) -> str:
        """The name of the analysis."""
        return str(self.analysis["name"])


@dataclass(frozen=True, kw_only=True, slots=True)
class ResultBatch:
    """A batch whose results are wanted.

    Attributes:
        id: the batch's id.
        cycle_name: its cycle.
        configuration_data: the workbook as plain data.
    """

    id: int
    cycle_name: str
    configuration_data: Mapping[str, Any]


def finished_jobs(batch_id: int) -> list[JobResult]:
    """Return the newest finished job of each analysis of a batch, with its result; without skipped jobs.

    Raises:
        ResultError: there is no such batch, or what a job reported is not a result.
        DatabaseError: the database refuses or is away.
    """
    batch = require_batch(batch_id)
    jobs_folder = jobs_of(cycle_dir(get_current_schema(), batch.cycle_name))
    rows = fetch_all(
        """
        SELECT j.id, coalesce(w.job_key, j.job_key) AS work_key, j.result_data, c.job_configuration_data
          FROM irp_job j
          JOIN irp_job_configuration c ON c.id = j.job_configuration_id
          LEFT JOIN irp_job w ON w.id = j.work_job_id
         WHERE j.batch_id = %s AND j.status = %s AND NOT j.skipped AND NOT c.skipped
         ORDER BY j.id
        """,
        (batch_id, JobStatus.FINISHED),
    )
    newest = {job.name: job for job in (_job_result(FinishedJob(**row), jobs_folder) for row in rows)}
    return list(newest.values())


def existing_file(job: JobResult, name: str) -> Path:
    """Check a file of a job against what the job recorded, and return its path on this machine."""
    file = job.files[name]
    try:
        return file.fetch()
    except ResultFileError as error:
        raise ResultError(
            f"The file {file.path}, the {name} of job {job.job_id} of {job.name}, {error}. It is not used. Run the "
            "cycle again: the job is then submitted anew"
        ) from error


def provenance_content(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Return the provenance of figures, without the machine and the running time."""
    return {name: value for name, value in provenance.items() if name not in _CIRCUMSTANCES}


def require_batch(batch_id: int) -> ResultBatch:
    """Return a batch with its cycle's name and its workbook's content."""
    batch = fetch_one(
        """
        SELECT b.id, c.cycle_name,
               -- The workbook may have changed since then, except for its analyses.
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
    return ResultBatch(**batch)


def _job_result(job: FinishedJob, jobs_folder: Path) -> JobResult:
    analysis, result = job.job_configuration_data, job.result_data or {}
    if not isinstance(analysis.get("name"), str):
        raise ResultError(f"The parameters of job {job.id} do not name its analysis: resubmit it with a 'name'")
    folder = jobs_folder / job.work_key
    try:
        # An undefined standard deviation has no loss, and is not a figure.
        figures = tuple(Figure.from_json(figure) for figure in result["figures"] if figure["loss"] is not None)
        files = result_files(result, folder)
        found = JobResult(
            job.id,
            job.work_key,
            folder,
            analysis,
            figures,
            str(result["currency"]),
            files,
            result.get("provenance", {}),
            tuple(map(Segmentation.from_json, result.get("segments") or ())),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ResultError(
            f"What job {job.id} of the analysis {analysis['name']} reported is not a result: {error!r}"
        ) from error
    if not figures or not all(math.isfinite(figure.loss) for figure in figures):
        raise ResultError(f"Job {job.id} of the analysis {analysis['name']} reported no figures, or not a number")
    return found
