"""The states on the page are those of the code: every change of a status is tried, and those that happen are drawn."""

from collections.abc import Iterator
from enum import StrEnum
from itertools import product
from pathlib import Path

import pytest

from irp_pipeline.engines import JobPhase
from irp_pipeline.helpers.batch import recon_batch, submit_batch, track_batch
from irp_pipeline.helpers.constants import BatchStatus, JobStatus, StepStatus
from irp_pipeline.helpers.cycle import create_cycle
from irp_pipeline.helpers.database import execute_command, execute_scalar
from irp_pipeline.helpers.job import cancel_jobs, resubmit_job, skip_job, submit_jobs
from irp_pipeline.helpers.stage import get_or_create_stage
from irp_pipeline.helpers.step import StepError, create_step_run, get_or_create_step, update_step_run
from irp_pipeline_docs.states import BATCH, JOB, STEP_RUN, Diagram
from irp_pipeline_tests.support.recording_engine import analyses, engine_of, jobs_of, make_batch, recording_engine

Pairs = set[tuple[StrEnum, StrEnum]]
ENDED_JOBS = [status for status in JobStatus if status.is_terminal]


@pytest.fixture(autouse=True)
def engine(test_schema: str, tmp_path: Path) -> Iterator[None]:
    with recording_engine(tmp_path):
        yield
        execute_command("DELETE FROM irp_cycle")


@pytest.mark.parametrize(
    ("diagram", "statuses"),
    [(STEP_RUN, StepStatus), (BATCH, BatchStatus), (JOB, JobStatus)],
    ids=["step run", "batch", "job"],
)
def test_every_status_is_drawn_and_nothing_else(diagram: Diagram, statuses: type[StrEnum]) -> None:
    drawn = [box.name for box in diagram.boxes if box.kind not in {"group", "start"}]
    assert sorted(drawn) == sorted(statuses)


def test_a_step_run_changes_as_drawn() -> None:
    step_id = get_or_create_step(get_or_create_stage(create_cycle("Q1"), 1, "Setup"), 1, "Load")
    happened: Pairs = set()
    for before, after in product(StepStatus, StepStatus):
        run_id, _ = create_step_run(step_id, "ada")
        update_step_run(run_id, before)
        try:
            update_step_run(run_id, after)
        except StepError:
            continue
        if before is not after:
            happened.add((before, after))
    assert happened == STEP_RUN.pairs()


def test_a_batch_changes_as_drawn() -> None:
    """Reconciling looks at the jobs alone, so the jobs are put as they can be and each status is tried before."""
    outcomes = {
        BatchStatus.ACTIVE: ["RUNNING", "FINISHED"],
        BatchStatus.COMPLETED: ["FINISHED", "FINISHED"],
        BatchStatus.FAILED: ["FAILED", "FINISHED"],
        BatchStatus.CANCELLED: ["CANCELLED", "CANCELLED"],
        BatchStatus.ERROR: ["ERROR", "FAILED"],
    }
    batch_id = make_batch(analyses(2))
    happened: Pairs = set()
    for before, (after, jobs) in product(BatchStatus, outcomes.items()):
        for job, status in zip(jobs_of(batch_id), jobs, strict=True):
            execute_command("UPDATE irp_job SET status = %s WHERE id = %s", (status, job["id"]))
        execute_command("UPDATE irp_batch SET status = %s WHERE id = %s", (before, batch_id))
        assert recon_batch(batch_id) is after
        if before is not after:
            happened.add((before, after))
    assert happened == BATCH.pairs()


def test_a_job_changes_as_drawn() -> None:
    happened = _changes_by_tracking() | _changes_by_submitting() | _changes_by_cancelling() | _changes_by_skipping()
    assert happened == JOB.pairs()


def test_an_ended_job_stays_as_it_is_when_another_takes_its_place() -> None:
    for number, status in enumerate(ENDED_JOBS):
        batch_id = _submitted(f"end-{number}")
        job = jobs_of(batch_id)[0]
        execute_command("UPDATE irp_job SET status = %s WHERE id = %s", (status, job["id"]))
        resubmit_job(job["id"])
        assert _status(job["id"]) is status


def _changes_by_tracking() -> Pairs:
    under_way = [status for status in JobStatus if not status.is_terminal and status is not JobStatus.INITIATED]
    happened: Pairs = set()
    for number, (before, phase) in enumerate(product(under_way, [*JobPhase, "refused"])):
        cycle = f"track-{number}"
        batch_id = _submitted(cycle)
        job = jobs_of(batch_id)[0]
        execute_command("UPDATE irp_job SET status = %s WHERE id = %s", (before, job["id"]))
        if phase == "refused":
            execute_command(
                """
                UPDATE irp_job SET request_data = jsonb_set(request_data, '{analysis,refused}', '"no"') WHERE id = %s
                """,
                (job["id"],),
            )
        if phase in {"refused", JobPhase.UNKNOWN}:
            engine_of(cycle).lose(job["job_key"])
        else:
            engine_of(cycle).let(job["job_key"], JobPhase(phase))
        track_batch(batch_id)
        happened |= _change(before, job["id"])
    return happened


def _changes_by_submitting() -> Pairs:
    refused = make_batch(analyses(1, refused="no"), "refused")
    submit_batch(refused)
    done = _submitted("done")
    first = jobs_of(done)[0]
    engine_of("done").let(first["job_key"], JobPhase.FINISHED)
    track_batch(done)
    again = resubmit_job(first["id"])
    execute_command("UPDATE irp_job SET recompute = false, status = 'INITIATED' WHERE id = %s", (again,))
    submit_jobs(done)
    happened: Pairs = set()
    for job_id in (jobs_of(refused)[0]["id"], first["id"], again):
        happened |= _change(JobStatus.INITIATED, job_id)
    return happened | _change(JobStatus.INITIATED, jobs_of(_submitted("submitted"))[0]["id"])


def _changes_by_cancelling() -> Pairs:
    happened: Pairs = set()
    for number, before in enumerate(status for status in JobStatus if not status.is_terminal):
        batch_id = _submitted(f"cancel-{number}")
        job_id = jobs_of(batch_id)[0]["id"]
        execute_command("UPDATE irp_job SET status = %s WHERE id = %s", (before, job_id))
        cancel_jobs(batch_id)
        happened |= _change(before, job_id)
    return happened


def _changes_by_skipping() -> Pairs:
    happened: Pairs = set()
    for number, before in enumerate(JobStatus):
        job_id = jobs_of(_submitted(f"skip-{number}"))[0]["id"]
        execute_command("UPDATE irp_job SET status = %s WHERE id = %s", (before, job_id))
        skip_job(job_id)
        happened |= _change(before, job_id)
    return happened


def _submitted(cycle: str) -> int:
    batch_id = make_batch(analyses(1), cycle)
    submit_batch(batch_id)
    return batch_id


def _status(job_id: int) -> JobStatus:
    return JobStatus(execute_scalar("SELECT status FROM irp_job WHERE id = %s", (job_id,)))


def _change(before: JobStatus, job_id: int) -> Pairs:
    after = _status(job_id)
    return set() if before is after else {(before, after)}
