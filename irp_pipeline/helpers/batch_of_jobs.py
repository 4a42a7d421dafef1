"""The batch that jobs belong to, and its lock, which every change to one of its jobs holds.

Here: what the handover, single jobs and batches have in common. :mod:`irp_pipeline.helpers.handover` changes jobs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from irp_pipeline import settings
from irp_pipeline.cycle_files import jobs_of
from irp_pipeline.engines import RiskEngine, UnknownEngineError, engine
from irp_pipeline.errors import IrpError
from irp_pipeline.helpers.configuration import data_folder
from irp_pipeline.helpers.constants import BatchStatus, CycleStatus
from irp_pipeline.helpers.cycle_lookup import require_open_cycle
from irp_pipeline.helpers.db_context import get_current_schema
from irp_pipeline.helpers.job_record import Job
from irp_pipeline.helpers.job_request import JobError
from irp_pipeline.postgres.errors import UNIQUE_VIOLATION, DatabaseError
from irp_pipeline.postgres.running import execute_scalar, fetch_one, transaction

_BATCH = """
    SELECT b.id, b.configuration_id, b.batch_type, b.status, cy.id AS cycle_id, cy.cycle_name,
           cy.status AS cycle_status, cf.data_folder,
           jsonb_path_query_array(cf.configuration_data, '$.portfolios[*].name') AS portfolios
      FROM irp_batch b
      JOIN irp_configuration cf ON cf.id = b.configuration_id
      JOIN irp_cycle cy ON cy.id = cf.cycle_id
     WHERE b.id = %s
"""


NO_CLIENT: Final = (
    "A client of a vendor's API is not part of this package: leave it out. The parameters of a job name its risk "
    "engine, and irp doctor lists the engines"
)


class BatchError(IrpError):
    """A batch cannot be made or changed as asked."""


@dataclass(frozen=True)
class BatchOfJobs:
    """What the jobs of a batch have in common.

    Attributes:
        id: the batch's id.
        configuration_id: the configuration that asks for the batch.
        batch_type: what its jobs do.
        status: its status.
        cycle_id: the cycle.
        cycle_name: its name.
        data_folder: the folder to which the file names of the configuration are relative, on this machine.
        portfolios: names of the configuration's portfolios.
    """

    id: int
    configuration_id: int
    batch_type: str
    status: BatchStatus
    cycle_id: int
    cycle_name: str
    data_folder: Path
    portfolios: tuple[str, ...]

    def engine_of(self, job: Job) -> RiskEngine:
        """Return the engine that a job is for.

        Raises:
            UnknownEngineError: there is no such engine.
        """
        return engine_of(self.cycle_name, job.job_configuration_data)


def open_batch(batch_id: int) -> BatchOfJobs | None:
    """Return a batch of a cycle that takes work, or None if there is no such batch.

    Raises:
        CycleError: its cycle is archived.
    """
    return _batch(fetch_one(_BATCH, (batch_id,)))


def require_open_batch(batch_id: int) -> BatchOfJobs:
    batch = open_batch(batch_id)
    if batch is None:
        raise BatchError(f"There is no batch with the id {batch_id} in schema {get_current_schema()!r}")
    return batch


@contextmanager
def lock_batch(batch_id: int) -> Iterator[BatchOfJobs]:
    """Open a transaction in which nobody else can change a batch or its jobs.

    Yields:
        The batch in its present state.

    Raises:
        JobError: there is no such batch; or the block made it ACTIVE while another of the same kind is under way.
        CycleError: its cycle is archived.
    """
    batch = None
    try:
        with transaction():
            batch = _batch(fetch_one(f"{_BATCH} FOR NO KEY UPDATE OF b", (batch_id,)))
            if batch is None:
                raise JobError(f"There is no batch with the id {batch_id}")
            yield batch
    except DatabaseError as error:
        if error.sqlstate != UNIQUE_VIOLATION or batch is None:
            raise
        other = execute_scalar(
            """
            SELECT id FROM irp_batch
             WHERE configuration_id = %s AND batch_type = %s AND status IN ('INITIATED', 'ACTIVE') AND id <> %s
            """,
            (batch.configuration_id, batch.batch_type, batch.id),
        )
        raise JobError(
            f"The batch {batch.id} cannot become ACTIVE again: the batch {other} of the same configuration and type is "
            "under way. Wait for it, or cancel it"
        ) from error


def engine_of(cycle_name: str, job_configuration_data: Mapping[str, Any]) -> RiskEngine:
    name = job_configuration_data.get("engine")
    if not isinstance(name, str):
        raise UnknownEngineError(f"The job's parameter 'engine' is {name!r}, but must name a risk engine")
    return engine(name, jobs_of(settings.cycle_dir(get_current_schema(), cycle_name)))


def _batch(row: dict[str, Any] | None) -> BatchOfJobs | None:
    if row is None:
        return None
    if row.pop("cycle_status") != CycleStatus.ACTIVE:
        require_open_cycle(row["cycle_name"])
    return BatchOfJobs(
        **{
            **row,
            "status": BatchStatus(row["status"]),
            "data_folder": data_folder(row["cycle_name"], row["data_folder"]),
            "portfolios": tuple(row["portfolios"] or ()),
        },
    )
