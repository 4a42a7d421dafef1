"""Following a batch until its jobs have ended, with what there is to say meanwhile."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from irp_pipeline.helpers.batch import jobs_of_batch, track_batch
from irp_pipeline.helpers.constants import BatchStatus, JobStatus
from irp_pipeline.helpers.handover import jobs_doing

_FIRST_POLL_SECONDS: Final = 0.5
_LAST_POLL_SECONDS: Final = 10.0
_SLOWER: Final = 1.2
_FAILURES_SHOWN: Final = 20


@dataclass(frozen=True)
class Look:
    """One look at the jobs of batches.

    Attributes:
        progress: of the batches under way, in words; empty if all have ended.
        is_new: whether it is another than before.
        ended: the ids of the batches whose jobs have all ended, since this look.
    """

    progress: str
    is_new: bool
    ended: tuple[int, ...]


def follow_batch(batch_id: int) -> Iterator[tuple[str, bool]]:
    """Track a batch until all of its jobs have ended. It asks the engines less and less often if nothing changes.

    Args:
        batch_id: the batch.

    Yields:
        After each look, the progress in words, and whether it is another than before.

    Raises:
        As :func:`~irp_pipeline.helpers.batch.track_batch`.
    """
    for look in follow_batches([batch_id]):
        if look.progress:
            yield look.progress, look.is_new


def follow_batches(batch_ids: list[int]) -> Iterator[Look]:
    """Track batches until all of their jobs have ended, as :func:`follow_batch` does.

    Args:
        batch_ids: the batches. Each is taken out when its jobs have ended; the caller may add others meanwhile.

    Yields:
        Each look.

    Raises:
        As :func:`~irp_pipeline.helpers.batch.track_batch`.
    """
    pause, said = _FIRST_POLL_SECONDS, ""
    while batch_ids:
        counts = {batch_id: track_batch(batch_id) for batch_id in batch_ids}
        ended = tuple(batch_id for batch_id, of in counts.items() if all(status.is_terminal for status in of))
        for batch_id in ended:
            batch_ids.remove(batch_id)
            del counts[batch_id]
        shown = [_progress(batch_id, of) for batch_id, of in counts.items()]
        if len(shown) > 1:
            shown = [f"batch {batch_id}: {text}" for batch_id, text in zip(counts, shown, strict=True)]
        progress = "; ".join(shown)
        is_new = progress != said
        yield Look(progress, is_new, ended)
        said = progress
        if is_new or ended:
            pause = _FIRST_POLL_SECONDS
        if not ended:
            time.sleep(pause)
            pause = min(pause * _SLOWER, _LAST_POLL_SECONDS)


def what_failed(batch_id: int, status: BatchStatus) -> str:
    """Say which jobs of a batch have no result, and why.

    Args:
        batch_id: a batch that has ended.
        status: its status.
    """
    failed = [
        job
        for job in jobs_of_batch(batch_id)
        if not job.skipped and job.status not in {JobStatus.FINISHED, JobStatus.INITIATED}
    ]
    lines = [
        f"{job.analysis or 'job'} (job {job.id}, {job.status}): {job.error_message or 'no reason was given'}"
        for job in failed[:_FAILURES_SHOWN]
    ]
    more = (
        f"\n… and {len(failed) - _FAILURES_SHOWN} more: irp batch show {batch_id}" if len(failed) > len(lines) else ""
    )
    return f"The batch {batch_id} ended {status}. Without losses are:\n" + "\n".join(lines) + more


def _progress(batch_id: int, counts: Mapping[JobStatus, int]) -> str:
    total = sum(counts.values())
    ended = sum(number for status, number in counts.items() if status.is_terminal)
    parts = [f"{ended} of {total} jobs have ended"]
    if failed := total and sum(counts.get(status, 0) for status in (JobStatus.FAILED, JobStatus.ERROR)):
        parts.append(f"{failed} of them failed")
    parts += [f"{name} {doing}" for name, doing in jobs_doing(batch_id).items()]
    return "; ".join(parts)
