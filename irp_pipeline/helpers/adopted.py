"""What adopted rows had besides: columns of the old framework that have no place here, and values that were repaired.

``irp db adopt`` writes it. Works in the schema of :mod:`irp_pipeline.helpers.db_context`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from irp_pipeline.helpers.record import record_of
from irp_pipeline.postgres.running import fetch_all

_OF_CYCLE: Final = """
    SELECT 'irp_cycle' AS table, 0 AS place, id, adopted FROM irp_cycle WHERE id = %s
    UNION ALL
    SELECT 'irp_configuration', 1, id, adopted FROM irp_configuration WHERE cycle_id = %s
    UNION ALL
    SELECT 'irp_stage', 2, id, adopted FROM irp_stage WHERE cycle_id = %s
    UNION ALL
    SELECT 'irp_step', 3, st.id, st.adopted
      FROM irp_stage sg JOIN irp_step st ON st.stage_id = sg.id WHERE sg.cycle_id = %s
    UNION ALL
    SELECT 'irp_step_run', 4, r.id, r.adopted
      FROM irp_stage sg JOIN irp_step st ON st.stage_id = sg.id JOIN irp_step_run r ON r.step_id = st.id
     WHERE sg.cycle_id = %s
"""
_OF_BATCH: Final = """
    SELECT 'irp_batch' AS table, 0 AS place, id, adopted FROM irp_batch WHERE id = %s
    UNION ALL
    SELECT 'irp_batch_recon_log', 1, id, adopted FROM irp_batch_recon_log WHERE batch_id = %s
"""
_OF_JOB: Final = """
    SELECT 'irp_job' AS table, 0 AS place, id, adopted FROM irp_job WHERE id = %s
    UNION ALL
    SELECT 'irp_job_configuration', 1, c.id, c.adopted
      FROM irp_job j JOIN irp_job_configuration c ON c.id = j.job_configuration_id WHERE j.id = %s
    UNION ALL
    SELECT 'irp_job_tracking_log', 2, id, adopted FROM irp_job_tracking_log WHERE job_id = %s
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Kept:
    """What an adopted row had besides.

    Attributes:
        table: its table.
        id: its id.
        adopted: old columns and their values. ``repaired`` has the original values of repaired columns, by the name of
            the repair.
    """

    table: str
    id: int
    adopted: Mapping[str, Any]


def kept_of_cycle(cycle_id: int) -> list[Kept]:
    """Return what a cycle, its configurations, stages, steps and step runs had besides."""
    return _kept(_OF_CYCLE, cycle_id)


def kept_of_batch(batch_id: int) -> list[Kept]:
    """Return what a batch and the entries of its reconciliation log had besides."""
    return _kept(_OF_BATCH, batch_id)


def kept_of_job(job_id: int) -> list[Kept]:
    """Return what a job, its job configuration and the entries of its tracking log had besides."""
    return _kept(_OF_JOB, job_id)


def _kept(query: str, row_id: int) -> list[Kept]:
    rows = fetch_all(
        f"""SELECT "table", id, adopted FROM ({query}) AS kept WHERE adopted <> '{{}}' ORDER BY place, id""",  # noqa: S608
        (row_id,) * query.count("%s"),
    )
    return [record_of(Kept, row) for row in rows]
