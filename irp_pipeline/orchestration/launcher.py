"""The run launcher that ``dagster.yaml`` names: Dagster's own, with a check whether a run's process is alive.

Without the check, a run whose process was killed together with its code server stays STARTED for ever. A process can
only be found on its own host and in its own container. So a run's process says in a tag where it is; until then, a tag
says where the run was launched, and a code server that is reached by a port counts as another host. For a process
elsewhere, the check returns RUNNING, since Dagster fails a run for UNKNOWN. The sensor ``lost_workers`` judges it: it
works in the code server, where the process was started, and it knows the leases of the steps.

https://docs.dagster.io/deployment/execution/run-monitoring
"""

import json
import re

import psutil
from dagster import DagsterEventType, DagsterInstance, DagsterRun, DefaultRunLauncher

from irp_pipeline.orchestration.coordinator import schema_of_run
from irp_pipeline.orchestration.internals import (
    GRPC_INFO_TAG,
    PARTITION_NAME_TAG,
    CheckRunHealthResult,
    LaunchRunContext,
    WorkerStatus,
)
from irp_pipeline.orchestration.occupancy import IN_PROGRESS, busy, process_of, run_in_the_way
from irp_pipeline.orchestration.run_worker import ask_to_cancel, worker_of_run
from irp_pipeline.orchestration.storage import sole_decision
from irp_pipeline.process import HostProcess, this_process

LAUNCHED_ON_TAG = "irp/launched_on"
"""Where a run was launched: host, boot and container."""

_PROCESS_STARTED = re.compile(r"Started process for run \(pid: (\d+)\)")
_CLOCK_TOLERANCE_SECONDS = 2.0


class RunLauncher(DefaultRunLauncher):
    """Dagster's launcher with a health check: does the process exist, and is it the process of the run?"""

    def launch_run(self, context: LaunchRunContext) -> None:
        """Launch a run from the queue, with a tag that says where.

        Raises:
            BusyError: an ``irp run`` took the cycle while the queue released the run.
        """
        run = context.dagster_run
        cycle = run.tags.get(PARTITION_NAME_TAG)
        if cycle is not None:
            with sole_decision(self._instance):
                _refuse_beside_command_line(self._instance, schema_of_run(run.run_config), cycle)
        self._instance.add_run_tags(run.run_id, {LAUNCHED_ON_TAG: _here()})
        super().launch_run(context)

    def terminate(self, run_id: str) -> bool:
        """Cancel a run: through the code server that started it, if that can be reached from here; else by a tag."""
        run = self._instance.get_run_by_id(run_id)
        if run is None or run.is_finished or _has_code_server_within_reach(run):
            return bool(super().terminate(run_id))  # type: ignore[no-untyped-call]
        ask_to_cancel(self._instance, run)
        return True

    @property
    def supports_check_run_worker_health(self) -> bool:
        """True."""
        return True

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        """Return FAILED once the run's process is gone; else RUNNING, even if its process is unknown or elsewhere."""
        announced = worker_of_run(run)
        if announced is not None:
            return _health_of(announced)
        if run.tags.get(LAUNCHED_ON_TAG, _here()) != _here() or _is_behind_port(run):
            return CheckRunHealthResult(
                WorkerStatus.RUNNING, "The run was launched elsewhere: its process cannot be seen from here"
            )
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
        """Tell whether a process can be that of a run: it began after the launch and before it reported its number."""
        began = process.create_time()
        launched = self._instance.get_run_stats(run.run_id).launch_time
        is_older = launched is not None and began < launched - _CLOCK_TOLERANCE_SECONDS
        return not is_older and began <= said_at + _CLOCK_TOLERANCE_SECONDS

    def _worker_of(self, run_id: str) -> tuple[int, float] | None:
        """Return the pid of the newest process of a run, and when it was reported (seconds since the epoch)."""
        logs = self._instance.all_logs(run_id, of_type=DagsterEventType.ENGINE_EVENT)
        for entry in reversed(logs):
            match = _PROCESS_STARTED.search(entry.user_message or entry.message or "")
            if match:
                return int(match[1]), entry.timestamp
        return None


def _health_of(worker: HostProcess) -> CheckRunHealthResult:
    """Judge a process that said where it is; one of another host or container cannot be seen, and counts as alive."""
    name = f"{worker.pid} on host {worker.host}"
    if not worker.is_here():
        return CheckRunHealthResult(WorkerStatus.RUNNING, f"The process {name} cannot be seen from here")
    if worker.is_gone():
        return CheckRunHealthResult(
            WorkerStatus.FAILED, f"The process {name} of the run is gone", run_worker_id=str(worker.pid)
        )
    return CheckRunHealthResult(WorkerStatus.RUNNING, run_worker_id=str(worker.pid))


def _is_behind_port(run: DagsterRun) -> bool:
    """Tell whether the code server that started a run is reached by a port, and may be in another container."""
    return "port" in json.loads(run.tags.get(GRPC_INFO_TAG, "{}"))


def _has_code_server_within_reach(run: DagsterRun) -> bool:
    """Tell whether a code server started a run, and either listens at a port or is on this host, in this container."""
    is_here = run.tags.get(LAUNCHED_ON_TAG) == _here()
    return process_of(run) is None and GRPC_INFO_TAG in run.tags and (is_here or _is_behind_port(run))


def _here() -> str:
    worker = this_process()
    return f"{worker.host}/{worker.started.rpartition('/')[0]}"


def _refuse_beside_command_line(instance: DagsterInstance, schema: str, cycle: str) -> None:
    """Raise if a run of the command line has a cycle: it may have begun after the queue checked."""
    record = run_in_the_way(instance, schema, cycle, IN_PROGRESS, only_command_line=True)
    if record is not None:
        raise busy(record, schema, cycle)
