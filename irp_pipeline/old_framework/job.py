"""Old names of ``helpers.job``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from irp_pipeline.helpers.job import JobError, read_job, resubmit_job
from irp_pipeline.old_framework import gone, replaced_by


@replaced_by("read_job, which has job_configuration_data")
def get_job_config(job_id: int) -> dict[str, Any]:
    """Return the parameters of a job.

    Raises:
        JobError: there is no such job.
    """
    job = read_job(job_id)
    if job is None:
        raise JobError(f"There is no job with the id {job_id}")
    return dict(job["job_configuration_data"])


@replaced_by("renew_batch, or resubmit_job for each")
def resubmit_jobs(job_ids: Iterable[int]) -> list[int]:
    """Resubmit jobs; return the ids of the new ones, in the same order. Errors as for resubmit_job."""
    return [resubmit_job(job_id) for job_id in job_ids]


create_job = gone(
    "create_job", "create_batch makes a batch with all its jobs, and resubmit_job a job of other parameters"
)
create_job_with_config = gone(
    "create_job_with_config", "resubmit_job(job_id, job_configuration_data, override_reason) makes such a job"
)
update_job_status = gone(
    "update_job_status", "track_job_status asks the risk engine; cancel_job and skip_job end a job"
)
