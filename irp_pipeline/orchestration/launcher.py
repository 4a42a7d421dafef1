"""The run launcher that ``dagster.yaml`` names: Dagster's own, able to tell whether a run's process still lives.

Without that, a run whose process was killed together with its code server stays STARTED for ever.

https://docs.dagster.io/deployment/execution/run-monitoring
"""

import re

import psutil
from dagster import DagsterEventType, DagsterRun, DefaultRunLauncher
from dagster._core.launcher import CheckRunHealthResult, WorkerStatus

_PROCESS_STARTED = re.compile(r"Started process for run \(pid: (\d+)\)")
_CLOCK_TOLERANCE_SECONDS = 2.0


class RunLauncher(DefaultRunLauncher):
    """Dagster's launcher with a health check: is there such a process, and is it that one?"""

    @property
    def supports_check_run_worker_health(self) -> bool:
        """True."""
        return True

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        """Return RUNNING, also while no process is known yet, or FAILED once the run's process is gone."""
        worker = self._worker_of(run.run_id)
        if worker is None:
            return CheckRunHealthResult(WorkerStatus.RUNNING, "No process of the run is known yet")
        pid, said_at = worker
        try:
            process = psutil.Process(pid)
            is_worker = process.status() != psutil.STATUS_ZOMBIE and self._can_be(run, process, said_at)
        except psutil.NoSuchProcess:
            is_worker = False
        if is_worker:
            return CheckRunHealthResult(WorkerStatus.RUNNING, run_worker_id=str(pid))
        return CheckRunHealthResult(
            WorkerStatus.FAILED, f"The process {pid} of the run is gone", run_worker_id=str(pid)
        )

    def _can_be(self, run: DagsterRun, process: psutil.Process, said_at: float) -> bool:
        """Tell whether a process began after the launch of a run and before it said so, or only has the number."""
        began = process.create_time()
        launched = self._instance.get_run_stats(run.run_id).launch_time
        is_older = launched is not None and began < launched - _CLOCK_TOLERANCE_SECONDS
        return not is_older and began <= said_at + _CLOCK_TOLERANCE_SECONDS

    def _worker_of(self, run_id: str) -> tuple[int, float] | None:
        """Return the pid of the newest process of a run, and when it said so (seconds since the epoch)."""
        logs = self._instance.all_logs(run_id, of_type=DagsterEventType.ENGINE_EVENT)
        for entry in reversed(logs):
            match = _PROCESS_STARTED.search(entry.user_message or entry.message or "")
            if match:
                return int(match[1]), entry.timestamp
        return None
