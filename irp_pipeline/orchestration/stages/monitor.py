"""Monitor: follow jobs until they end, reconcile the batch, and group the losses of analyses."""

import time
from typing import Any

from dagster import Config, OpExecutionContext, graph
from pydantic import Field

from irp_pipeline.cycle_files import CURVES
from irp_pipeline.helpers.artefact import list_artefacts
from irp_pipeline.helpers.batch import find_batch, find_current_batch, recon_batch
from irp_pipeline.helpers.batch_content import job_contents
from irp_pipeline.helpers.batch_of_jobs import BatchError
from irp_pipeline.helpers.batch_progress import follow_batch, what_failed
from irp_pipeline.helpers.constants import BatchStatus, JobStatus
from irp_pipeline.helpers.result import CurveFiles, compute_results, saved_content
from irp_pipeline.helpers.step import TrackedRun
from irp_pipeline.losses import DECLARED_METRICS, LossError
from irp_pipeline.orchestration.stages.setup import analysis_batch
from irp_pipeline.orchestration.tracking import CycleOfRun, StageSpec, step

STAGE = StageSpec(5, "Monitor")


class TrackingConfig(Config):
    """How long a run waits for its jobs."""

    patience_minutes: float | None = Field(
        default=None,
        ge=0,
        description="How long to wait for jobs under way. Empty: as long as they take. Jobs continue if the run ends "
        "before them; when they have succeeded, the sensor follow_batches continues the cycle.",
    )


def _results(cycle: CycleOfRun) -> dict[str, Any]:
    """The results of the jobs."""
    batch = find_current_batch(cycle.id)
    return {"results": None if batch is None else job_contents(batch.id)}


def _under_way(cycle: CycleOfRun) -> str | None:
    batch = find_current_batch(cycle.id)
    counts = {} if batch is None else batch.job_counts
    under_way = sum(number for status, number in counts.items() if not status.is_terminal)
    return f"{under_way} jobs have not ended" if under_way else None


@step(
    stage=STAGE,
    number=1,
    after=("submit.submit_jobs",),
    records=_results,
    pending=_under_way,
    without_config=("patience_minutes",),
)
def track_jobs(cycle: CycleOfRun, context: OpExecutionContext, config: TrackingConfig) -> dict[str, Any]:
    """Follow the jobs until they have ended, and reconcile the batch; jobs without losses fail the step."""
    batch_id = analysis_batch(cycle).id
    began = time.monotonic()
    for progress, is_new in follow_batch(batch_id):
        if is_new:
            context.log.info(progress)
        if config.patience_minutes is not None and time.monotonic() - began > config.patience_minutes * 60:
            raise BatchError(
                f"The jobs of batch {batch_id} are still under way: {progress}. They go on, and the cycle continues by "
                "itself when they have ended well, if the Dagster daemon runs; else launch it again"
            )
    status = recon_batch(batch_id)
    if status is not BatchStatus.COMPLETED:
        raise BatchError(
            f"{what_failed(batch_id, status)}\nLaunching the cycle again submits them again. irp job log ID shows what "
            "the engine printed, and irp job skip ID skips a job"
        )
    batch = find_batch(batch_id)
    counts = {} if batch is None else batch.job_counts
    return {"analysis batch": batch_id} | {
        f"jobs {status.lower()}": counts[status] for status in JobStatus if status in counts
    }


def _figures(cycle: CycleOfRun) -> dict[str, Any]:
    """The saved figures."""
    batch = find_current_batch(cycle.id)
    return {"figures": None if batch is None else saved_content(batch.id)}


def _declared_metrics(cycle: CycleOfRun, _: Any) -> dict[str, Any]:
    """The metrics that distributions declare, with the version of each distribution; nothing if there are none."""
    metrics = {name: DECLARED_METRICS.version_of(name) for name in DECLARED_METRICS.declared()}
    faults = [fault.message for fault in DECLARED_METRICS.faults()]
    return {"metrics": [metrics, faults]} if metrics or faults else {}


@step(
    stage=STAGE,
    number=2,
    version=2,
    workbook=("analyses", "groupings"),
    after=("monitor.track_jobs",),
    inputs=_declared_metrics,
    records=_figures,
)
def group_results(cycle: CycleOfRun, run: TrackedRun) -> dict[str, Any]:
    """Record the figures of each analysis, and of each group of the workbook by adding up the losses of its members.

    Their whole curves, and how sure the figures are, become files.
    """
    curves = CurveFiles(run.scratch)
    computed = compute_results(analysis_batch(cycle).id, curves)
    if computed.refused:
        computed.save()  # the figures of everything else
        raise LossError("\n".join(computed.refused))
    run.when_complete(computed.save)
    for path in curves.written.values():
        run.add_file(path)
    for key in set(list_artefacts(cycle.id, CURVES)) - curves.written.keys():
        run.remove_file(key)
    return {
        "analyses": computed.summary.analyses,
        "groups": computed.summary.groups,
        "figures": computed.summary.figures,
        "groups left out": dict(computed.summary.left_out),
        "return periods left out": dict(computed.beyond),
        "curves left out": {f"{name}, {of}": reason for (name, of), reason in curves.left_out.items()},
    }


@graph
def monitor(start: Any) -> Any:
    """The jobs followed to their end, their batch reconciled, their losses grouped."""
    return group_results(track_jobs(start))
