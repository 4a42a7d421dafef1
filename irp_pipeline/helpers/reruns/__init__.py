"""Running again what a cycle ran, with something changed: for attributions, and for other draws.

``errors``
    the exception.
``files``
    what a cycle's jobs were given, and keeping files for other jobs by their hashes.
``running``
    the batch of such jobs, made once and followed to its end.
"""

from irp_pipeline.helpers.reruns.errors import RerunError
from irp_pipeline.helpers.reruns.files import (
    Place,
    RecordedRun,
    job_name,
    kept_portfolio,
    named_files_of,
    recorded_runs,
    runs_of,
)
from irp_pipeline.helpers.reruns.running import run_beside

__all__ = [
    "Place",
    "RecordedRun",
    "RerunError",
    "job_name",
    "kept_portfolio",
    "named_files_of",
    "recorded_runs",
    "run_beside",
    "runs_of",
]
