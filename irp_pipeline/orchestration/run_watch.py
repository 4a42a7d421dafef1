"""Whether a step's run still wants it: asked by the lease of a step that works on another host than its run.

A signal does not reach such a step. So its lease asks Dagster's records at each heartbeat, and interrupts the step if
its run is being cancelled, has ended or was deleted (:mod:`irp_pipeline.helpers.heartbeat`).
"""

from dagster import DagsterInstance, DagsterRunStatus

from irp_pipeline import settings
from irp_pipeline.helpers.heartbeat import Unwanted

_ELSEWHERE = frozenset({"celery", "k8s"})


def unwanted(instance: DagsterInstance, run_id: str) -> Unwanted | None:
    """Return the question for the lease of a step; None if steps work on the host of their run, which signals them.

    Args:
        instance: where the run is recorded.
        run_id: the Dagster run.
    """
    if settings.executor() not in _ELSEWHERE:
        return None
    return lambda: why_unwanted(instance, run_id)


def why_unwanted(instance: DagsterInstance, run_id: str) -> str | None:
    """Say why a run no longer wants its steps; None if it does."""
    run = instance.get_run_by_id(run_id)
    if run is None:
        return f"the run {run_id} was deleted"
    if run.status is DagsterRunStatus.CANCELING:
        return "its run is being cancelled"
    if run.is_finished:
        return f"its run has ended: {run.status.value}"
    return None
