"""What the status of an analysis at an Oasis Platform means for its job."""

from collections.abc import Mapping
from typing import Any, Final

from irp_pipeline.engines.protocol import JobPhase, JobState

NEW: Final = "NEW"
READY: Final = "READY"
COMPLETED: Final = "RUN_COMPLETED"
ACTIVE: Final = frozenset({"INPUTS_GENERATION_QUEUED", "INPUTS_GENERATION_STARTED", "RUN_QUEUED", "RUN_STARTED"})
"""The Platform is at work on it, and only then it can be cancelled there."""
CANCELLED: Final = frozenset({"INPUTS_GENERATION_CANCELLED", "RUN_CANCELLED"})
FAILED: Final = frozenset({"INPUTS_GENERATION_ERROR", "INPUTS_GENERATION_NO_KEYS", "RUN_ERROR"})
ENDED: Final = frozenset({COMPLETED, *CANCELLED, *FAILED})

_DOING: Final[Mapping[str, str]] = {
    NEW: "waits for the generation of its inputs",
    "INPUTS_GENERATION_QUEUED": "waits for a worker to generate its inputs",
    "INPUTS_GENERATION_STARTED": "its inputs are generated",
    READY: "waits for its run",
    "RUN_QUEUED": "waits for a worker to compute its losses",
    "RUN_STARTED": "its losses are computed",
    COMPLETED: "its results are fetched",
}


def state_of(analysis: Mapping[str, Any]) -> JobState:
    """Return the state of a job whose analysis has not ended."""
    status = str(analysis.get("status"))
    phase = JobPhase.QUEUED if status in {NEW, "INPUTS_GENERATION_QUEUED"} else JobPhase.RUNNING
    return JobState(phase, f"at the Oasis Platform: {_DOING.get(status, status)}{_share(analysis)}")


def _share(analysis: Mapping[str, Any]) -> str:
    """How much of the present work is done, if the Platform says so."""
    count = analysis.get("status_count")
    done, total = analysis.get("num_events_complete"), analysis.get("num_events_total")
    what = "event sets" if total else "tasks"
    if not total and isinstance(count, Mapping):
        done, total = count.get("COMPLETED"), count.get("TOTAL")
    if analysis.get("status") not in {"INPUTS_GENERATION_STARTED", "RUN_STARTED"}:
        return ""
    return f", {done} of {total} {what} done" if isinstance(total, int) and total and isinstance(done, int) else ""
