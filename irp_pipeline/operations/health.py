"""Whether an installation works, in a few quick statements: for probes, monitoring and people.

It asks the database, and the store of files if that is elsewhere. It does not need Dagster's processes, and changes
nothing. ``irp doctor`` checks what is installed, and the settings.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Final

from irp_pipeline import settings, store
from irp_pipeline.engines.leases import LEASE_SECONDS as JOB_LEASE_SECONDS
from irp_pipeline.helpers.lost_runs import LEASE_SECONDS
from irp_pipeline.operations.swap import is_swapping
from irp_pipeline.postgres.context import get_current_schema
from irp_pipeline.postgres.errors import DatabaseError
from irp_pipeline.postgres.running import execute_command, execute_scalar, fetch_all, transaction
from irp_pipeline.postgres.schemas import VERSION_TABLE, latest_version, version_problem
from irp_pipeline.queue.tasks import queue_prefix

# A probe must not wait: tables are locked while a schema is upgraded or restored.
_LIMITS: Final = ("SET LOCAL lock_timeout TO '2s'", "SET LOCAL statement_timeout TO '10s'")

_STORE_SECONDS: Final = 10.0

_STEPS: Final = """
    SELECT c.cycle_name, st.step_name, r.run_num, r.host, r.pid,
           extract(epoch FROM clock_timestamp() - r.started_ts)::float8 AS seconds,
           extract(epoch FROM clock_timestamp() - r.heartbeat_ts)::float8 AS heartbeat_seconds
      FROM irp_step_run r
      JOIN irp_step st ON st.id = r.step_id
      JOIN irp_stage sg ON sg.id = st.stage_id
      JOIN irp_cycle c ON c.id = sg.cycle_id
     WHERE r.status = 'ACTIVE' AND r.tracked
     ORDER BY r.id
"""
_BATCHES: Final = """
    SELECT b.status, count(*) AS number
      FROM irp_cycle c
      JOIN irp_configuration f ON f.cycle_id = c.id
      JOIN irp_batch b ON b.configuration_id = f.id
     WHERE c.status = 'ACTIVE' AND b.status IN ('INITIATED', 'ACTIVE')
     GROUP BY b.status
     ORDER BY b.status
"""
_JOBS: Final = """
    SELECT j.status, count(*) AS number,
           extract(epoch FROM clock_timestamp() - min(coalesce(j.submitted_ts, j.created_ts)))::float8 AS seconds
      FROM irp_cycle c
      JOIN irp_configuration f ON f.cycle_id = c.id
      JOIN irp_batch b ON b.configuration_id = f.id
      JOIN irp_job j ON j.batch_id = b.id AND NOT j.skipped
     WHERE c.status = 'ACTIVE'
     GROUP BY j.status
     ORDER BY j.status
"""
_WORKERS: Final = """
    SELECT count(*) AS number, coalesce(sum(slots), 0)::integer AS slots
      FROM irp_queue.irp_worker
     WHERE heartbeat_ts > clock_timestamp() - make_interval(secs => %s) AND NOT is_ending
       AND EXISTS (SELECT FROM unnest(queues) AS q (name) WHERE starts_with(q.name, %s))
"""
_LOST_JOBS: Final = """
    SELECT j.id, j.host, j.pid, extract(epoch FROM clock_timestamp() - j.heartbeat_ts)::float8 AS seconds
      FROM irp_job j
     WHERE j.begun_ts IS NOT NULL AND j.engine_end IS NULL AND NOT j.skipped
       AND j.status NOT IN ('FINISHED', 'FAILED', 'CANCELLED', 'ERROR')
       AND j.heartbeat_ts < clock_timestamp() - make_interval(secs => %s)
     ORDER BY j.id
"""
_WAITING: Final = frozenset({"SUBMITTED", "QUEUED", "PENDING"})


@dataclass(frozen=True)
class StepAtWork:
    """A step that holds a lease.

    Attributes:
        cycle, step, run_num: the step and the number of its run.
        host, pid: the process that works.
        seconds: how long it has worked.
        heartbeat_seconds: the age of its last heartbeat.
        is_lost: whether its lease has expired: its worker is dead or cut off.
    """

    cycle: str
    step: str
    run_num: int
    host: str
    pid: int
    seconds: float
    heartbeat_seconds: float
    is_lost: bool


@dataclass(frozen=True)
class LostJob:
    """A job whose worker is not heard of.

    Attributes:
        job: the id of the job.
        host, pid: its worker.
        seconds: the age of its last heartbeat.
    """

    job: int
    host: str
    pid: int
    seconds: float


@dataclass(frozen=True)
class Health:
    """The health of an installation.

    Attributes:
        problems: what is wrong, each in a sentence; empty if all is well.
        schema: the schema that was checked.
        database: where it is, without a password.
        is_reachable: whether the database answered.
        seconds: how long that took.
        version: the revision of the schema; None if there is none.
        wanted_version: the one that this package works with.
        open_cycles: the names of the ACTIVE cycles, the newest first.
        steps: the steps at work.
        batches: how many batches of open cycles are under way, by status.
        jobs: how many jobs of open cycles there are, by status, without skipped ones.
        workers: how many workers take jobs of this installation. One that starts by itself counts while it runs.
        slots: how many jobs they run at once.
        lost_jobs: jobs whose worker was not heard of for a minute.
        oldest_waiting_seconds: the longest time that a job has been waiting for its engine; None if none is waiting.
        is_restoring: whether a restore is changing the files of the schema, or was interrupted while it did.
        files: where the files of cycles are, without credentials.
    """

    problems: tuple[str, ...]
    schema: str
    database: str
    is_reachable: bool
    seconds: float
    version: str | None = None
    wanted_version: str = ""
    open_cycles: tuple[str, ...] = ()
    steps: tuple[StepAtWork, ...] = ()
    batches: dict[str, int] | None = None
    jobs: dict[str, int] | None = None
    workers: int | None = None
    slots: int | None = None
    lost_jobs: tuple[LostJob, ...] = ()
    oldest_waiting_seconds: float | None = None
    is_restoring: bool = False
    files: str = ""

    @property
    def is_well(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


def check_health(max_wait_seconds: float | None = None) -> Health:
    """Check the current schema.

    Args:
        max_wait_seconds: a job that waits longer for its engine is a problem; None: no limit.

    Raises:
        SettingsError: the environment names no usable database.
        EmbeddedServerError: the embedded server does not start.
    """
    begun = time.monotonic()
    known: dict[str, Any] = {"schema": get_current_schema(), "wanted_version": latest_version()}
    problems: list[str] = []
    is_reachable = True
    try:
        known["database"] = str(settings.describe_database())
        known["is_restoring"] = is_swapping(known["schema"])
        with transaction():
            for limit in _LIMITS:
                execute_command(limit)
            known |= _look(known["wanted_version"])
    except DatabaseError as error:
        is_reachable = not error.disconnected
        problems.append(str(error.args[0]))
    seconds = round(time.monotonic() - begun, 3)
    files = store.reach(_STORE_SECONDS) if store.is_elsewhere() else store.Reach(str(settings.cycles_root()), None)
    if files.problem is not None:
        problems.append(files.problem)
    return Health(
        problems=(*problems, *_problems(known, max_wait_seconds)),
        is_reachable=is_reachable,
        seconds=seconds,
        files=files.address,
        **known,
    )


def _look(wanted: str) -> dict[str, Any]:
    version = str(execute_scalar(f"SELECT version_num FROM {VERSION_TABLE}"))  # noqa: S608 - a name of ours
    if version != wanted:
        return {"version": version}
    cycles = fetch_all("SELECT cycle_name FROM irp_cycle WHERE status = 'ACTIVE' ORDER BY created_ts DESC, id DESC")
    jobs = fetch_all(_JOBS)
    waiting = [row["seconds"] for row in jobs if row["status"] in _WAITING]
    try:
        (workers,) = fetch_all(_WORKERS, (JOB_LEASE_SECONDS, queue_prefix()))
    except store.StoreError:  # a problem of its own; without the store nobody knows whose workers these are
        workers = {"number": None, "slots": None}
    lost = fetch_all(_LOST_JOBS, (JOB_LEASE_SECONDS,))
    return {
        "version": version,
        "open_cycles": tuple(row["cycle_name"] for row in cycles),
        "steps": tuple(_step(row) for row in fetch_all(_STEPS)),
        "batches": {row["status"]: row["number"] for row in fetch_all(_BATCHES)},
        "jobs": {row["status"]: row["number"] for row in jobs},
        "workers": workers["number"],
        "slots": workers["slots"],
        "lost_jobs": tuple(LostJob(row["id"], row["host"], row["pid"], round(row["seconds"], 1)) for row in lost),
        "oldest_waiting_seconds": round(max(waiting), 1) if waiting else None,
    }


def _step(row: dict[str, Any]) -> StepAtWork:
    return StepAtWork(
        row["cycle_name"],
        row["step_name"],
        row["run_num"],
        row["host"],
        row["pid"],
        round(row["seconds"], 1),
        round(row["heartbeat_seconds"], 1),
        row["heartbeat_seconds"] > LEASE_SECONDS,
    )


def _problems(known: dict[str, Any], max_wait_seconds: float | None) -> list[str]:
    problems = []
    schema = known["schema"]
    if problem := version_problem(schema, known.get("version")):
        problems.append(problem)
    problems += [
        f"The step {step.step!r} of cycle {step.cycle} was last heard of {step.heartbeat_seconds:.0f} s ago: its "
        f"process {step.pid} on host {step.host} is lost. The next run of the cycle does it again"
        for step in known.get("steps", ())
        if step.is_lost
    ]
    problems += [
        f"The job {job.job} was last heard of {job.seconds:.0f} s ago: its worker, process {job.pid} on host "
        f"{job.host}, is lost or cut off. If it stays away, the next look at the job makes it FAILED"
        for job in known.get("lost_jobs", ())
    ]
    waited = known.get("oldest_waiting_seconds")
    if max_wait_seconds is not None and waited is not None and waited > max_wait_seconds:
        problems.append(
            f"A job has waited for its engine for {waited:.0f} s, longer than {max_wait_seconds:.0f} s: see "
            f"irp job list CYCLE and irp worker list; there are {known.get('workers', 0)} workers"
        )
    if known["is_restoring"]:
        problems.append(
            f"A restore of the schema {schema!r} is under way or was interrupted. If nobody runs it: irp restore "
            f"--finish --db-schema {schema}"
        )
    return problems
