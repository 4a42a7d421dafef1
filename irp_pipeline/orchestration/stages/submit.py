"""Submit: hand the jobs of the analysis batch to their risk engines, and resubmit those that need it.

Batches that come after another one are handed over here if that one is complete; else by Monitor.
"""

from collections.abc import Iterator
from typing import Any

from dagster import DynamicOut, DynamicOutput, In, Nothing, OpExecutionContext, Out, graph, op

from irp_pipeline.helpers.batch import find_batch, find_current_batch, jobs_of_batch, submit_batch
from irp_pipeline.helpers.batch_content import job_contents, jobs_handed_over_since, wanted_jobs
from irp_pipeline.helpers.batch_lookup import chain_of_cycle, may_begin
from irp_pipeline.helpers.chain import batches_to_begin
from irp_pipeline.helpers.constants import JobStatus
from irp_pipeline.helpers.job_record import Job
from irp_pipeline.helpers.job_request import JobError
from irp_pipeline.helpers.renewal import outdated_jobs, renew_batch
from irp_pipeline.helpers.world_check import check_batches
from irp_pipeline.orchestration.resources import DatabaseResource
from irp_pipeline.orchestration.stages.setup import analysis_batch
from irp_pipeline.orchestration.tracking import CycleOfRun, StageSpec, part_of_step, step

STAGE = StageSpec(4, "Submit")

_STEP = "submit.submit_jobs"
_CHUNKS = 20
"""The largest number of ops that share the jobs of a batch: an op takes a second, a handover some milliseconds."""


@op(ins={"start": In(Nothing)}, out=DynamicOut(Nothing))
def share_out_jobs(context: OpExecutionContext, database: DatabaseResource) -> Iterator[DynamicOutput[None]]:
    """Resubmit jobs that failed or whose inputs changed, and share out all jobs that wait to be handed over.

    Before that, the engines check all of these jobs: if one could not run now, none is handed over.

    A portion is known by the ids of its first and last job, which are its mapping key. So nothing is handed on in a
    file, and an op on another host finds its jobs in the database.
    """
    with part_of_step(_STEP, context, database) as cycle:
        renewed = renew_batch(analysis_batch(cycle).id, everything=database.rerun_completed)
        for link in chain_of_cycle(cycle.id):
            # The one before may have been renewed just now.
            if not link.is_first and may_begin(cycle.id, link.batch.batch_type):
                renewed += renew_batch(link.batch.id)
        if renewed:
            context.log.info(f"{len(renewed)} jobs are submitted again; irp job show ID says why")
        batch_ids = [batch.id for batch in batches_to_begin(cycle.id)]
        check_batches(batch_ids)
        waiting = sorted(job.id for batch_id in batch_ids for job in _waiting(batch_id))
    size = -(-len(waiting) // _CHUNKS) or 1
    for first in range(0, len(waiting), size):
        portion = waiting[first : first + size]
        yield DynamicOutput(None, mapping_key=f"{portion[0]}_{portion[-1]}")


@op(ins={"start": In(Nothing)}, out=Out(Nothing))
def hand_over_jobs(context: OpExecutionContext, database: DatabaseResource) -> None:
    """Hand a portion of the jobs to their engines: those between the ids of its mapping key that still wait."""
    with part_of_step(_STEP, context, database) as cycle:
        first, _, last = (context.get_mapping_key() or "").partition("_")
        for batch in batches_to_begin(cycle.id):
            submit_batch(batch.id, [job.id for job in _waiting(batch.id) if int(first) <= job.id <= int(last)])


def _waiting(batch_id: int) -> list[Job]:
    return [job for job in jobs_of_batch(batch_id) if job.status is JobStatus.INITIATED and not job.skipped]


def _jobs(cycle: CycleOfRun, _: Any) -> dict[str, Any]:
    """What the jobs compute, including the changes of a person."""
    jobs: dict[str, Any] = {"jobs": None}
    for link in chain_of_cycle(cycle.id):
        jobs["jobs" if link.is_first else f"jobs of {link.batch.batch_type}"] = wanted_jobs(link.batch.id)
    return jobs


def _requests(cycle: CycleOfRun) -> dict[str, Any]:
    """What the engines were given for the jobs."""
    batch = find_current_batch(cycle.id)
    return {"requests": None if batch is None else [content["request"] for content in job_contents(batch.id)]}


def _handed_over_or_waiting(cycle: CycleOfRun) -> str | None:
    batch = find_current_batch(cycle.id)
    if batch is None:
        return None
    if waiting := sum(len(_waiting(one.id)) for one in batches_to_begin(cycle.id)):
        return f"{waiting} jobs wait to be handed over"
    # Jobs of later batches are handed over by Monitor.
    handed_over = jobs_handed_over_since(batch.id, _STEP)
    return f"{handed_over} jobs were handed over since" if handed_over else None


def _to_resubmit(cycle: CycleOfRun) -> str | None:
    """The jobs that ``share_out_jobs`` would resubmit, in words."""
    outdated: dict[int, str] = {}
    try:
        for batch in batches_to_begin(cycle.id):
            outdated |= outdated_jobs(batch.id)
    except JobError as error:
        return str(error)
    if not outdated:
        return None
    job_id, reason = next(iter(outdated.items()))
    return f"{len(outdated)} jobs are to be submitted again; the first is job {job_id}: {reason}"


@step(
    stage=STAGE,
    number=1,
    after=("setup.create_batches", "process.build_portfolios"),
    inputs=_jobs,
    records=_requests,
    pending=_handed_over_or_waiting,
    foreseen=_to_resubmit,
)
def submit_jobs(cycle: CycleOfRun) -> dict[str, Any]:
    """Make sure that every job of the batches that can begin is with its engine."""
    batch_id = analysis_batch(cycle).id
    for batch in batches_to_begin(cycle.id):
        submit_batch(batch.id)
    found = find_batch(batch_id)
    return {"analysis batch": batch_id, "jobs": found.jobs if found else 0}


@graph
def submit(start: Any) -> Any:
    """The jobs of the analysis batch, handed to their risk engines."""
    return submit_jobs(share_out_jobs(start).map(hand_over_jobs).collect())
