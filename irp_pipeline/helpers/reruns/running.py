"""Running the batch of a kind of reruns: made once, and followed to its end.

Everything may be repeated: reruns that were interrupted go on where they were.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from irp_pipeline.helpers.batch import ensure_batch_of, find_batch, recon_batch, renew_batch, submit_batch
from irp_pipeline.helpers.batch_progress import follow_batch, what_failed
from irp_pipeline.helpers.constants import BatchStatus, BatchType
from irp_pipeline.helpers.reruns.errors import RerunError


def run_beside(
    batch_id: int,
    batch_type: BatchType,
    jobs: Collection[Mapping[str, Any]],
    *,
    recompute: bool,
    anew: bool,
    tell: Callable[[str], None],
) -> int:
    """Run jobs beside those of a batch of analyses, as a batch of the same cycle, and wait for their end.

    Args:
        batch_id: the batch of analyses.
        batch_type: the kind of reruns.
        jobs: the parameters of each job.
        recompute: let the engine compute all jobs, even if a finished one had the same request.
        anew: make a new batch even if the newest one of the kind has these jobs.
        tell: called with the progress, in words.

    Returns:
        The id of the batch, which is COMPLETED.

    Raises:
        RerunError: a job failed, or the batch of analyses was removed meanwhile.
        BatchError: another batch of the kind is under way.
        EngineError: an engine cannot be reached.
        StoreError: the store of files cannot be reached.
        DatabaseError: the database refuses or is away.
    """
    beside = find_batch(batch_id)
    if beside is None:
        raise RerunError(f"The batch {batch_id} was removed meanwhile")
    made = ensure_batch_of(batch_type, beside.configuration_id, beside.step_id, jobs, recompute=recompute, anew=anew)
    _finish(made, tell)
    return made


def _finish(batch_id: int, tell: Callable[[str], None]) -> None:
    """Run what the batch still has to run."""
    batch = find_batch(batch_id)
    if batch is not None and batch.status is BatchStatus.COMPLETED:
        return
    if batch is not None and batch.status not in {BatchStatus.INITIATED, BatchStatus.ACTIVE}:
        renew_batch(batch_id)
    submit_batch(batch_id)
    for progress, is_new in follow_batch(batch_id):
        if is_new:
            tell(progress)
    status = recon_batch(batch_id)
    if status is not BatchStatus.COMPLETED:
        raise RerunError(
            f"{what_failed(batch_id, status)}\nThe same command submits them again. irp job log ID shows what the "
            "engine printed"
        )
