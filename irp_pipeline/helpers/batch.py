"""Batches: all the jobs of one type that one configuration asks for.

A transformer turns a configuration into job configurations; there is one for each batch type. Works in the schema of
:mod:`irp_pipeline.helpers.db_context`.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from irp_pipeline.errors import IrpError
from irp_pipeline.helpers.constants import BatchType
from irp_pipeline.helpers.database import bulk_insert, execute_insert, execute_scalar, fetch_all, fetch_one, transaction

Transformer = Callable[[Mapping[str, Any]], Iterable[dict[str, Any]]]

_transformers: dict[str, Transformer] = {}


class BatchError(IrpError):
    """A batch cannot be made or changed as asked."""


def transformer(batch_type: str) -> Callable[[Transformer], Transformer]:
    """Register a function as the transformer of a batch type.

    Args:
        batch_type: the type; a later registration replaces an earlier one.

    Returns:
        A decorator for a function that takes the data of a configuration and gives the parameters of each job.
    """

    def register(function: Transformer) -> Transformer:
        _transformers[batch_type] = function
        return function

    return register


@transformer(BatchType.ANALYSIS)
def one_job_for_each_analysis(configuration: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    """Give the analyses of a workbook, each with the currency that its results are in."""
    currency = configuration["metadata"].get("currency")
    for analysis in configuration["analyses"]:
        yield {"currency": currency, **analysis}


def create_batch(batch_type: str, configuration_id: int, step_id: int) -> int:
    """Make a batch with all its job configurations and jobs, in one transaction.

    Args:
        batch_type: which jobs; a transformer must be registered for it.
        configuration_id: the configuration that asks for them.
        step_id: the step that makes the batch.

    Returns:
        The id of the batch; of the existing one if a batch of that type is INITIATED or ACTIVE for the configuration.

    Raises:
        BatchError: no transformer for the type, or no such configuration with valid data.
        DatabaseError: the database refuses or is away.
    """
    transform = _transformers.get(batch_type)
    if transform is None:
        known = ", ".join(sorted(_transformers))
        raise BatchError(f"Unknown batch type {batch_type!r}. The types are: {known}")
    with transaction():
        # One batch at a time for each configuration: whoever comes second finds the first one's.
        configuration = fetch_one(
            "SELECT configuration_data FROM irp_configuration WHERE id = %s FOR NO KEY UPDATE", (configuration_id,)
        )
        if configuration is None or configuration["configuration_data"] is None:
            raise BatchError(f"There is no valid configuration with the id {configuration_id}")
        under_way: int | None = execute_scalar(
            """
            SELECT id FROM irp_batch
             WHERE configuration_id = %s AND batch_type = %s AND status IN ('INITIATED', 'ACTIVE')
            """,
            (configuration_id, batch_type),
        )
        if under_way is not None:
            return under_way
        batch_id: int = execute_insert(
            "INSERT INTO irp_batch (configuration_id, step_id, batch_type) VALUES (%s, %s, %s) RETURNING id",
            (configuration_id, step_id, batch_type),
        )
        job_configuration_ids = bulk_insert(
            "INSERT INTO irp_job_configuration (batch_id, job_configuration_data) VALUES (%s, %s)",
            ((batch_id, parameters) for parameters in transform(configuration["configuration_data"])),
        )
        bulk_insert(
            "INSERT INTO irp_job (batch_id, job_configuration_id) VALUES (%s, %s)",
            ((batch_id, job_configuration_id) for job_configuration_id in job_configuration_ids),
        )
    return batch_id


def read_batch(batch_id: int) -> dict[str, Any] | None:
    """Return a batch, or None.

    Returns:
        id, configuration_id, step_id, batch_type, status, created_ts, submitted_ts, completed_ts, jobs (how many it
        has, skipped ones not counted).
    """
    return fetch_one(
        """
        SELECT b.id, b.configuration_id, b.step_id, b.batch_type, b.status, b.created_ts, b.submitted_ts,
               b.completed_ts, (SELECT count(*) FROM irp_job j WHERE j.batch_id = b.id AND NOT j.skipped) AS jobs
          FROM irp_batch b WHERE b.id = %s
        """,
        (batch_id,),
    )


def get_batch_jobs(batch_id: int) -> list[dict[str, Any]]:
    """Return the jobs of a batch in the order they were made, skipped ones too.

    Returns:
        id, batch_id, job_configuration_id, parent_job_id, status, skipped, created_ts, submitted_ts, completed_ts,
        error_message, job_configuration_data.
    """
    return fetch_all(
        """
        SELECT j.id, j.batch_id, j.job_configuration_id, j.parent_job_id, j.status, j.skipped, j.created_ts,
               j.submitted_ts, j.completed_ts, j.error_message, c.job_configuration_data
          FROM irp_job j JOIN irp_job_configuration c ON c.id = j.job_configuration_id
         WHERE j.batch_id = %s
         ORDER BY j.id
        """,
        (batch_id,),
    )
