"""The content of a batch as hashes, from which steps decide whether there is anything to do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from irp_pipeline.hashes import value_hash
from irp_pipeline.helpers.batch import find_current_batch
from irp_pipeline.helpers.configuration import find_active_configuration
from irp_pipeline.helpers.constants import BatchType
from irp_pipeline.helpers.job_request import places
from irp_pipeline.helpers.wanted import wanted_hash, wanted_of
from irp_pipeline.postgres.running import execute_scalar, fetch_all


def wanted_content(cycle_id: int, batch_type: str = BatchType.ANALYSIS) -> str | None:
    """Return a hash of the jobs that the workbook of a cycle asks for; None if the cycle has no batch of them yet."""
    configuration = find_active_configuration(cycle_id)
    if configuration is None or find_current_batch(cycle_id, batch_type) is None:
        return None
    return wanted_hash(wanted_of(batch_type, configuration.data))


def wanted_jobs(batch_id: int) -> list[dict[str, Any]]:
    """Return what a batch computes: the parameters of its jobs, without skipped ones.

    Returns:
        Plain parameters in the order of the names; no ids and no times.
    """
    rows = fetch_all(
        """
        SELECT job_configuration_data FROM irp_job_configuration
         WHERE batch_id = %s AND NOT skipped ORDER BY job_configuration_data ->> 'name', id
        """,
        (batch_id,),
    )
    return [row["job_configuration_data"] for row in rows]


def job_contents(batch_id: int) -> list[dict[str, Any]]:
    """Return the content of the jobs of a batch, in the order of the names.

    Returns:
        For each unskipped job: ``request``, a hash of what its engine was given (None before that), and ``result``, a
        hash of the figures and files that came back (None before that). No ids, times, paths or hosts.
    """
    rows = fetch_all(
        f"""
        SELECT j.request_data - {places()} AS request, c.job_configuration_data,
               CASE WHEN j.status = 'FINISHED' THEN j.result_data END AS result
          FROM irp_job j JOIN irp_job_configuration c ON c.id = j.job_configuration_id
         WHERE j.batch_id = %s AND NOT j.skipped
         ORDER BY c.job_configuration_data ->> 'name', j.id
        """,  # noqa: S608
        (batch_id,),
    )
    return [
        {
            "request": None if row["request"] is None else value_hash(row["request"]),
            "result": None if row["result"] is None else value_hash(_result_content(row["result"])),
        }
        for row in rows
    ]


def jobs_handed_over_since(batch_id: int, step_key: str) -> int:
    """Return how many unskipped jobs of a batch were handed over after a step of its cycle last completed."""
    number: int = execute_scalar(
        """
        SELECT count(*)
          FROM irp_batch b
          JOIN irp_configuration f ON f.id = b.configuration_id
          JOIN irp_job j ON j.batch_id = b.id AND NOT j.skipped
         WHERE b.id = %s
           AND j.submitted_ts > (
               SELECT max(r.completed_ts)
                 FROM irp_stage sg
                 JOIN irp_step st ON st.stage_id = sg.id AND st.step_key = %s
                 JOIN irp_step_run r ON r.step_id = st.id AND r.status = 'COMPLETED'
                WHERE sg.cycle_id = f.cycle_id)
        """,
        (batch_id, step_key),
    )
    return number


def _result_content(result: Mapping[str, Any]) -> dict[str, Any]:
    files = {
        name: entry["sha256"] if isinstance(entry, Mapping) else entry
        for name, entry in (result.get("files") or {}).items()
    }
    means = (result.get("provenance") or {}).get("aal_by_means")  # not recorded by jobs of before
    content = {"figures": result.get("figures"), "currency": result.get("currency"), "files": files}
    return content | ({"means": means} if means else {})
