"""Steps and jobs at work: finding them, and ending them before a cycle or a schema is changed or removed.

Here: finding the steps and jobs at work, refusing what must not happen while they work, and ending them by force. It
imports cycles, steps and jobs, so that these need not import each other. Callers use ``force=True`` of the functions
that archive, delete, drop and upgrade.

A step is at work while it is tracked, ACTIVE, and its worker is not known to be dead. A job is at work until it has
ended or is skipped. Runs that are only recorded (``create_step_run``) do not count as work here.

Works in the schema of :mod:`irp_pipeline.helpers.db_context`, even if an earlier version made it.
"""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from irp_pipeline import settings
from irp_pipeline.cycle_files import jobs_of
from irp_pipeline.engines import EngineError, JobPhase, RiskEngine, engine
from irp_pipeline.engines.local import LocalEngine
from irp_pipeline.errors import IrpError
from irp_pipeline.helpers.batch import cancel_batch, recon_batch, track_batch
from irp_pipeline.helpers.batch_of_jobs import BatchError
from irp_pipeline.helpers.constants import BatchStatus, JobStatus
from irp_pipeline.helpers.cycle_lookup import CycleError
from irp_pipeline.helpers.db_context import get_current_schema, schema_context
from irp_pipeline.helpers.handover import track_jobs
from irp_pipeline.helpers.heartbeat import HEARTBEAT_SECONDS
from irp_pipeline.helpers.lost_runs import LEASE_COLUMNS, LEASE_SECONDS, HeldLease, lease_of
from irp_pipeline.helpers.record import record_of
from irp_pipeline.postgres.errors import DatabaseError
from irp_pipeline.postgres.running import execute_command, fetch_all, transaction
from irp_pipeline.postgres.transactions import in_transaction
from irp_pipeline.process import HostProcess

if TYPE_CHECKING:
    import sqlalchemy as sa

_NOTICE_SECONDS: Final = HEARTBEAT_SECONDS + 5
_ENGINE_SECONDS: Final = 120
_POLL_SECONDS: Final = 0.2
_PATIENCE_SECONDS: Final = 60.0
_TRIES: Final = 5
_NAMED: Final = 5

_STEPS_SINCE: Final = "0002"
_LEASES_SINCE: Final = "0009"
_JOBS_SINCE: Final = "0005"

_STEPS: Final = f"""
    SELECT {LEASE_COLUMNS}, st.step_name, c.cycle_name
      FROM irp_cycle c
      JOIN irp_stage sg ON sg.cycle_id = c.id
      JOIN irp_step st ON st.stage_id = sg.id
      JOIN irp_step_run r ON r.step_id = st.id AND r.status = 'ACTIVE' AND r.tracked
     WHERE %s::bigint[] IS NULL OR c.id = ANY(%s)
     ORDER BY r.id
"""  # noqa: S608
_JOBS: Final = """
    SELECT j.id, j.batch_id, j.status, j.job_key, cy.cycle_name, jc.job_configuration_data ->> 'name' AS analysis,
           jc.job_configuration_data ->> 'engine' AS engine
      FROM irp_cycle cy
      JOIN irp_configuration cf ON cf.cycle_id = cy.id
      JOIN irp_batch b ON b.configuration_id = cf.id
      JOIN irp_job j ON j.batch_id = b.id AND NOT j.skipped AND j.status <> ALL(%s)
      JOIN irp_job_configuration jc ON jc.id = j.job_configuration_id
     WHERE %s::bigint[] IS NULL OR cy.id = ANY(%s)
     ORDER BY j.id
"""
_ENDED: Final = ["FINISHED", "FAILED", "CANCELLED", "ERROR"]
# Such a job may have reached its engine, although the answer was lost.
_PERHAPS_AT_ENGINE: Final = "ERROR"

# In the same order as all other code locks them. With these locks, nothing can be added, and no step or job can begin.
_LOCKS: Final = (
    "LOCK TABLE irp_cycle IN ROW EXCLUSIVE MODE",
    "SELECT id FROM irp_cycle WHERE id = ANY(%s) ORDER BY id FOR UPDATE",
    "SELECT id FROM irp_configuration WHERE cycle_id = ANY(%s) ORDER BY id FOR UPDATE",
    "SELECT id FROM irp_stage WHERE cycle_id = ANY(%s) ORDER BY id FOR UPDATE",
    """
    SELECT st.id FROM irp_stage sg JOIN irp_step st ON st.stage_id = sg.id
     WHERE sg.cycle_id = ANY(%s) ORDER BY st.id FOR UPDATE OF st
    """,
    """
    SELECT b.id FROM irp_configuration cf JOIN irp_batch b ON b.configuration_id = cf.id
     WHERE cf.cycle_id = ANY(%s) ORDER BY b.id FOR UPDATE OF b
    """,
)

_Fetch = Callable[[str, tuple[Any, ...]], Iterable[Mapping[str, Any]]]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class StepAtWork:
    """A step run at work: its step, its cycle and its lease."""

    step_name: str
    cycle_name: str
    lease: HeldLease

    def __str__(self) -> str:
        """Describe it, with the process that works on it."""
        worker = self.lease.worker
        return (
            f"run {self.lease.run_num} of step {self.step_name!r} on host {worker.host}, process {worker.pid}, last "
            f"heard of at {self.lease.heartbeat_ts:%Y-%m-%d %H:%M:%S} UTC"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class JobAtWork:
    """A job that has not ended: its cycle, and its key at the engine."""

    id: int
    batch_id: int
    status: JobStatus
    job_key: str
    cycle_name: str
    analysis: str | None
    engine: str | None

    def __str__(self) -> str:
        """Describe it, with its status."""
        return f"job {self.id} ({self.analysis or 'without a name'}), {self.status}"


@dataclass(frozen=True)
class Work:
    """The step runs and jobs at work. As text, it lists them."""

    steps: tuple[StepAtWork, ...] = ()
    jobs: tuple[JobAtWork, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.steps or self.jobs)

    def __str__(self) -> str:
        return "; ".join(_first(self.steps, "steps") + _first(self.jobs, "jobs"))

    @property
    def cycle_names(self) -> list[str]:
        """The cycles of this work, in order."""
        return sorted({*(step.cycle_name for step in self.steps), *(job.cycle_name for job in self.jobs)})


def work_at(cycle_ids: Collection[int] | None = None) -> Work:
    """Return what is at work in the current schema.

    Args:
        cycle_ids: only for these cycles.
    """
    return _work(fetch_all, cycle_ids)


def has_live_step(dagster_run_id: str) -> bool:
    """Tell whether a step of a Dagster run is at work in the current schema."""
    active = fetch_all(
        f"""
        SELECT {LEASE_COLUMNS} FROM irp_step_run r
         WHERE r.dagster_run_id = %s AND r.tracked AND r.status = 'ACTIVE'
        """,  # noqa: S608
        (LEASE_SECONDS, dagster_run_id),
    )
    return any(not lease_of(row).is_lost() for row in active)


def workers_of(dagster_run_id: str) -> list[HostProcess]:
    """Return the processes that worked on the steps of a Dagster run in the current schema."""
    rows = fetch_all(
        """
        SELECT DISTINCT host, pid, pid_started FROM irp_step_run
         WHERE dagster_run_id = %s AND host IS NOT NULL AND pid_started IS NOT NULL
        """,
        (dagster_run_id,),
    )
    return [HostProcess(row["host"], row["pid"], row["pid_started"]) for row in rows]


@contextmanager
def nothing_at_work(cycle_ids: Collection[int], doing: str, *, force: bool) -> Iterator[None]:
    """Open a transaction in which nothing is at work for some cycles, and nothing can begin.

    Args:
        cycle_ids: the cycles; unknown ones are ignored.
        doing: what will be done with them, such as ``deleted``.
        force: first end what is at work, and wait until it has ended.

    Raises:
        CycleError: something is at work, or does not end; or ``force`` is used inside a transaction, whose own locks
            would make it wait for ever.
        EngineError: an engine cannot be reached to end its jobs.
    """
    if force and in_transaction():
        raise CycleError(
            f"A cycle cannot be {doing} by force inside a transaction(): what is at work is ended and waited for first"
        )
    work = Work()
    for _ in range(_TRIES if force else 1):
        if force:
            end_work(f"its cycle is to be {doing}", cycle_ids)
        with transaction():
            ids = list(cycle_ids)
            for lock in _LOCKS:
                fetch_all(lock, (ids,) if "%s" in lock else ())
            work = work_at(ids)
            if not work:
                yield
                return
    names = " and ".join(map(repr, work.cycle_names))
    subject, verb = (
        (f"The cycle {names}", "it is") if len(work.cycle_names) == 1 else (f"The cycles {names}", "they are")
    )
    raise CycleError(f"{subject} cannot be {doing} while {verb} at work: {work}. {_way_out(force)}")


def refuse_in_schema(connection: sa.Connection, schema: str, version: str, doing: str) -> None:
    """Refuse to change a schema while anything is at work in it; nothing can begin in it until the transaction ends.

    Args:
        connection: with the open transaction that makes the change.
        schema: the schema.
        version: its present revision.
        doing: what will be done with it, such as ``dropped``.

    Raises:
        DatabaseError: something is at work.
    """
    from irp_pipeline.postgres.statements import quote_identifier

    if version < _STEPS_SINCE:
        return
    path = quote_identifier(schema)
    connection.exec_driver_sql("SELECT set_config('search_path', %s, true)", (path,))
    tables = ["irp_step_run"] + (["irp_job"] if version >= _JOBS_SINCE else [])
    connection.exec_driver_sql(f"LOCK TABLE {', '.join(tables)} IN ACCESS EXCLUSIVE MODE")

    def fetch(query: str, values: tuple[Any, ...]) -> Iterable[Mapping[str, Any]]:
        return [dict(row) for row in connection.exec_driver_sql(query, values).mappings()]

    if work := _work(fetch, None, version):
        raise DatabaseError(
            f"The schema {schema!r} cannot be {doing} while its cycles are at work ({', '.join(work.cycle_names)}): "
            f"{work}. {_way_out(False)}"
        )


def end_schema(schema: str, why: str) -> None:
    """End everything at work in a schema, whichever version made it, and wait until it has ended.

    Args:
        schema: the schema; one without our tables has nothing at work.
        why: the reason, for the records.

    Raises:
        CycleError, EngineError, DatabaseError: as :func:`end_work`.
    """
    from irp_pipeline.postgres.schemas import current_version

    version = current_version(schema)
    if version is not None and version >= _STEPS_SINCE:
        with schema_context(schema):
            end_work(why, version=version)


def end_work(why: str, cycle_ids: Collection[int] | None = None, version: str | None = None) -> None:
    """End the steps and jobs at work in the current schema, and wait until they have ended.

    Taking its lease ends a step: its run becomes FAILED, nothing it still does is recorded, and its worker notices at
    the next heartbeat. This function waits for that, or for the end of the worker if it is on this host. It cancels
    jobs at their engines, and waits until these report that they no longer work on them.

    Args:
        why: the reason, for the records.
        cycle_ids: only for these cycles.
        version: the present revision of the schema; None means that of this package.

    Raises:
        CycleError: an engine still works on a job minutes after it was asked to end it.
        EngineError: an engine cannot be reached.
    """
    if version is None or version >= _STEPS_SINCE:
        _end_steps(why, cycle_ids)
    if version is None or version >= _JOBS_SINCE:
        _end_jobs(why, cycle_ids, version)


def _end_steps(why: str, cycle_ids: Collection[int] | None) -> None:
    ended = [
        step.lease
        for step in _fetch_steps(fetch_all, cycle_ids)
        if execute_command(
            """
            UPDATE irp_step_run
               SET status = 'FAILED', completed_ts = clock_timestamp(), lease_token = NULL, error_message = %s
             WHERE id = %s AND status = 'ACTIVE' AND lease_token = %s
            """,
            (f"ended by {settings.user_of_system()}: {why}", step.lease.run_id, step.lease.token),
        )
    ]
    alive = [lease.worker for lease in ended if not lease.is_lost()]
    deadline = time.monotonic() + _NOTICE_SECONDS
    while time.monotonic() < deadline and any(not worker.is_gone() for worker in alive):
        time.sleep(_POLL_SECONDS)


def _end_jobs(why: str, cycle_ids: Collection[int] | None, version: str | None) -> None:
    jobs = _fetch_jobs(fetch_all, cycle_ids, [status for status in _ENDED if status != _PERHAPS_AT_ENGINE])
    by_engine: dict[tuple[str, str], list[JobAtWork]] = defaultdict(list)
    for job in jobs:
        by_engine[job.cycle_name, str(job.engine)].append(job)
    for (cycle_name, name), engine_jobs in by_engine.items():
        try:
            risk_engine = engine(name, jobs_of(settings.cycle_dir(get_current_schema(), cycle_name)))
        except EngineError:  # an engine that does not exist cannot be at work
            phases = {job.job_key: JobPhase.UNKNOWN for job in engine_jobs}
        else:
            phases = _cancelled(risk_engine, engine_jobs, version)
        _record_ends(why, engine_jobs, phases)


def _cancelled(risk_engine: RiskEngine, jobs: list[JobAtWork], version: str | None) -> dict[str, JobPhase]:
    """Make an engine end jobs, and return the phase in which each has ended, by its key."""
    if version is not None and version < _LEASES_SINCE and isinstance(risk_engine, LocalEngine):
        raise CycleError(
            f"Version {version} of the schema has no leases of jobs, so the workers of this package cannot end "
            f"{Work(jobs=tuple(jobs))}. Wait until they have ended, or end them with the irp-pipeline that began them"
        )
    keys = [job.job_key for job in jobs]
    deadline = time.monotonic() + _ENGINE_SECONDS
    while True:
        phases = {key: state.phase for key, state in risk_engine.states(keys).items()}
        at_work = [key for key in keys if phases[key] in {JobPhase.QUEUED, JobPhase.RUNNING}]
        if not at_work:
            return phases
        if time.monotonic() > deadline:
            stubborn = [job for job in jobs if job.job_key in at_work]
            raise CycleError(
                f"{_ENGINE_SECONDS} seconds ago the risk engine was asked to end jobs, but it still runs them: "
                f"{Work(jobs=tuple(stubborn))}. Look at the engine, and try again"
            )
        risk_engine.cancel(at_work)
        time.sleep(_POLL_SECONDS)


def _record_ends(why: str, jobs: list[JobAtWork], phases: Mapping[str, JobPhase]) -> None:
    by_batch: dict[int, list[int]] = defaultdict(list)
    for job in jobs:
        by_batch[job.batch_id].append(job.id)
    for batch_id, job_ids in by_batch.items():
        # A job that ended by itself keeps its result, if that can still be recorded.
        with suppress(IrpError):
            track_jobs(batch_id, [job.id for job in jobs if phases[job.job_key] is not JobPhase.UNKNOWN])
        with transaction():
            fetch_all("SELECT id FROM irp_batch WHERE id = %s FOR NO KEY UPDATE", (batch_id,))
            execute_command(
                """
                WITH ended AS (
                    UPDATE irp_job SET status = 'CANCELLED', completed_ts = clock_timestamp()
                     WHERE id = ANY(%s) AND NOT skipped AND status <> ALL(%s)
                    RETURNING id, status
                )
                INSERT INTO irp_job_tracking_log (job_id, status, message) SELECT id, status, %s FROM ended ORDER BY id
                """,
                (job_ids, _ENDED, f"ended by {settings.user_of_system()}: {why}"),
            )
        with suppress(IrpError):  # an archived cycle's batches stay as they are
            recon_batch(batch_id)


def _work(fetch: _Fetch, cycle_ids: Collection[int] | None, version: str | None = None) -> Work:
    steps = [step for step in _fetch_steps(fetch, cycle_ids) if not step.lease.is_lost()]
    has_jobs = version is None or version >= _JOBS_SINCE
    return Work(tuple(steps), tuple(_fetch_jobs(fetch, cycle_ids, _ENDED) if has_jobs else ()))


def _fetch_steps(fetch: _Fetch, cycle_ids: Collection[int] | None) -> list[StepAtWork]:
    ids = None if cycle_ids is None else list(cycle_ids)
    rows = fetch(_STEPS, (LEASE_SECONDS, ids, ids))
    return [StepAtWork(step_name=row["step_name"], cycle_name=row["cycle_name"], lease=lease_of(row)) for row in rows]


def _fetch_jobs(fetch: _Fetch, cycle_ids: Collection[int] | None, ended: list[str]) -> list[JobAtWork]:
    ids = None if cycle_ids is None else list(cycle_ids)
    return [record_of(JobAtWork, row) for row in fetch(_JOBS, (ended, ids, ids))]


def _first(found: Sequence[object], what: str) -> list[str]:
    more = len(found) - _NAMED
    names = [str(item) for item in found[:_NAMED]]
    return names if more <= 0 else [*names, f"and {more} more {what}"]


def _way_out(forced: bool) -> str:
    if forced:
        return "New work began while the old was being ended: stop what starts it, and try again"
    return "Wait until they have ended, or end them first with --force (in Python: force=True)"


def end_batches(cycle_id: int, batch_type: str, patience: float = _PATIENCE_SECONDS) -> list[int]:
    """End the jobs of all batches under way of a cycle, and wait until they have ended.

    Args:
        cycle_id: the cycle.
        batch_type: which batches.
        patience: how many seconds to wait for the engines.

    Returns:
        The ids of the batches that were under way.

    Raises:
        BatchError: jobs have not ended in time.
        CycleError: the cycle is archived.
        EngineError: an engine cannot be reached.
        DatabaseError: the database refuses or is away.
    """
    rows = fetch_all(
        """
        SELECT b.id FROM irp_batch b JOIN irp_configuration f ON f.id = b.configuration_id
         WHERE f.cycle_id = %s AND b.batch_type = %s AND b.status IN ('INITIATED', 'ACTIVE') ORDER BY b.id
        """,
        (cycle_id, batch_type),
    )
    deadline = time.monotonic() + patience
    for row in rows:
        status = cancel_batch(row["id"])
        while status in {BatchStatus.INITIATED, BatchStatus.ACTIVE}:
            if time.monotonic() > deadline:
                raise BatchError(
                    f"The jobs of batch {row['id']} have not ended within {patience:g} s. Look at them with: "
                    f"irp batch show {row['id']}"
                )
            time.sleep(_POLL_SECONDS)
            track_batch(row["id"])
            status = recon_batch(row["id"])
    return [row["id"] for row in rows]
