"""Old names of ``helpers.batch``."""

from __future__ import annotations

from typing import Any

from irp_pipeline.helpers.batch import BatchError, read_batch
from irp_pipeline.helpers.batch_of_jobs import lock_batch
from irp_pipeline.helpers.constants import BatchStatus, JobStatus
from irp_pipeline.helpers.database import execute_command, execute_scalar, fetch_all
from irp_pipeline.old_framework import gone, replaced_by

_ENDED = [status for status in JobStatus if status.is_terminal]


@replaced_by("recon_batch, which works out the status from the jobs")
def update_batch_status(batch_id: int, status: str) -> bool:
    """Record the status of a batch, until recon_batch works it out; return whether there is such a batch.

    Raises:
        BatchError: no status of a batch.
    """
    if status not in set(BatchStatus):
        raise BatchError(f"Unknown status {status!r} for a batch. The statuses are: {', '.join(BatchStatus)}")
    return execute_command("UPDATE irp_batch SET status = %s WHERE id = %s", (status, batch_id)) > 0


@replaced_by("get_batch_jobs, which has the parameters of each job")
def get_batch_job_configurations(batch_id: int) -> list[dict[str, Any]]:
    """Return the job configurations of a batch, the oldest first."""
    return fetch_all(
        """
        SELECT id, batch_id, job_configuration_data, skipped, overridden, override_reason, skipped_reason, created_ts
          FROM irp_job_configuration WHERE batch_id = %s ORDER BY id
        """,
        (batch_id,),
    )


@replaced_by("list_batches, which lists those of a cycle")
def get_batches_for_configuration(configuration_id: int, batch_type: str | None = None) -> list[dict[str, Any]]:
    """Return the batches of a configuration, the oldest first."""
    rows = fetch_all(
        """
        SELECT id FROM irp_batch
         WHERE configuration_id = %s AND (%s::text IS NULL OR batch_type = %s) ORDER BY id
        """,
        (configuration_id, batch_type, batch_type),
    )
    return [batch for row in rows if (batch := read_batch(row["id"])) is not None]


@replaced_by("skip_job and cancel_batch, which keep the records")
def delete_batch(batch_id: int) -> bool:
    """Delete a batch with its jobs; return whether there was one.

    Raises:
        BatchError: jobs of it are under way.
        CycleError: its cycle is archived.
    """
    if read_batch(batch_id) is None:
        return False
    with lock_batch(batch_id):
        at_work = execute_scalar(
            """
            SELECT count(*) FROM irp_job
             WHERE batch_id = %s AND NOT skipped AND status <> ALL(%s) AND status <> 'INITIATED'
            """,
            (batch_id, _ENDED),
        )
        if at_work:
            raise BatchError(
                f"The batch {batch_id} cannot be deleted: {at_work} of its jobs are under way. End them first: "
                f"irp batch cancel {batch_id}"
            )
        return execute_command("DELETE FROM irp_batch WHERE id = %s", (batch_id,)) > 0


validate_batch = gone(
    "validate_batch", "a workbook is checked when it is read (irp config check), and a request when it is submitted"
)
