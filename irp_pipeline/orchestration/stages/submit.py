"""Submit: the jobs of the analysis batch go to their risk engines, and those that need it go again."""

from collections.abc import Iterator
from typing import Any

from dagster import DynamicOut, DynamicOutput, In, Nothing, OpExecutionContext, Out, graph, op

from irp_pipeline.helpers.batch import get_batch_jobs, read_batch, renew_batch, submit_batch
from irp_pipeline.helpers.constants import JobStatus
from irp_pipeline.orchestration.resources import DatabaseResource
from irp_pipeline.orchestration.stages.setup import analysis_batch
from irp_pipeline.orchestration.tracking import Cycle, Stage, cycle_of_run, step

STAGE = Stage(4, "Submit")

_CHUNKS = 20
"""At most so many ops share the jobs of a batch: an op costs a second, handing over a job some milliseconds."""


@op(ins={"start": In(Nothing)}, out=DynamicOut(list))
def share_out_jobs(context: OpExecutionContext, database: DatabaseResource) -> Iterator[DynamicOutput[list[int]]]:
    """Resubmit what failed or has other inputs now, and share out all jobs that wait to be handed over."""
    with cycle_of_run(context, database) as cycle:
        batch_id = analysis_batch(cycle)["id"]
        renewed = renew_batch(batch_id)
        if renewed:
            context.log.info(f"{len(renewed)} jobs are submitted again: they failed, or their inputs have changed")
        waiting = [
            job["id"] for job in get_batch_jobs(batch_id) if job["status"] == JobStatus.INITIATED and not job["skipped"]
        ]
    size = -(-len(waiting) // _CHUNKS) or 1
    for first in range(0, len(waiting), size):
        yield DynamicOutput(waiting[first : first + size], mapping_key=str(first))


@op(out=Out(Nothing))
def hand_over_jobs(context: OpExecutionContext, database: DatabaseResource, job_ids: list[int]) -> None:
    """Hand some of the jobs to their engines."""
    with cycle_of_run(context, database) as cycle:
        submit_batch(analysis_batch(cycle)["id"], job_ids)


def _replaced_jobs(cycle: Cycle, _: Any) -> dict[str, Any]:
    """Which jobs had to be replaced: a batch with another one to replace has something to submit."""
    batch_id = analysis_batch(cycle)["id"]
    ended_badly = {JobStatus.FAILED, JobStatus.ERROR, JobStatus.CANCELLED}
    return {
        "batch": batch_id,
        "replaced": [
            job["id"] for job in get_batch_jobs(batch_id) if job["skipped"] or JobStatus(job["status"]) in ended_badly
        ],
    }


@step(stage=STAGE, number=1, inputs=_replaced_jobs)
def submit_jobs(cycle: Cycle) -> dict[str, Any]:
    """See that every job of the batch is with its engine."""
    batch_id = analysis_batch(cycle)["id"]
    submit_batch(batch_id)
    batch = read_batch(batch_id)
    return {"analysis batch": batch_id, "jobs": batch["jobs"] if batch else 0}


@graph
def submit(start: Any) -> Any:
    """The jobs of the analysis batch, handed to their risk engines."""
    return submit_jobs(share_out_jobs(start).map(hand_over_jobs).collect())
