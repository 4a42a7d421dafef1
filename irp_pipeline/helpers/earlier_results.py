"""The results of a batch's predecessor, for the requests of jobs that name them.

The request of such a job has ``results``: by the name of the earlier job, its currency, its figures for the whole
portfolio, and its files by name, each with its hash and with its name among the inputs of the job. They are content: a
job whose predecessor has other results has another request, and is submitted again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from irp_pipeline import settings
from irp_pipeline.engines import EngineError
from irp_pipeline.hashes import value_hash
from irp_pipeline.helpers.batch_lookup import find_current_batch
from irp_pipeline.helpers.batch_of_jobs import engine_of
from irp_pipeline.helpers.db_context import get_current_schema
from irp_pipeline.helpers.job_record import FinishedJob
from irp_pipeline.helpers.job_request import JobError
from irp_pipeline.helpers.job_result import result_files
from irp_pipeline.postgres.running import fetch_all

_SUFFIX: Final = re.compile(r"(?:\.[A-Za-z0-9]+)*")


class EarlierResults:
    """What the jobs of the current batch of a type left, read when first asked for.

    Args:
        cycle_id: the cycle.
        cycle_name: its name.
        batch_type: the type.
    """

    def __init__(self, cycle_id: int, cycle_name: str, batch_type: str) -> None:
        self._cycle_id = cycle_id
        self._cycle_name = cycle_name
        self._type = batch_type
        self._jobs: dict[str, FinishedJob] | None = None
        self._entries: dict[str, tuple[dict[str, Any], dict[str, dict[str, str]]]] = {}

    def of(self, names: Iterable[str]) -> tuple[dict[str, Any], dict[str, dict[str, str]]]:
        """Return the results of jobs by name, and their files as inputs of a request.

        Raises:
            JobError: there is no such job with a result, or its result cannot be read.
        """
        results: dict[str, Any] = {}
        inputs: dict[str, dict[str, str]] = {}
        for name in names:
            if name not in self._entries:
                self._entries[name] = self._read(name)
            results[name], files = self._entries[name]
            inputs |= files
        return results, inputs

    def _read(self, name: str) -> tuple[dict[str, Any], dict[str, dict[str, str]]]:
        if self._jobs is None:
            self._jobs = self._finished()
        job = self._jobs.get(name)
        if job is None:
            raise JobError(
                f"The job needs the result of {name!r} in the batch of the type {self._type}, which has no finished "
                "job of that name. Run that one first, or skip this one too"
            )
        result = job.result_data or {}
        try:
            folder = engine_of(self._cycle_name, job.job_configuration_data).folder(job.work_key)
            files = result_files(result, folder)
        except (EngineError, ValueError, KeyError, TypeError) as error:
            raise JobError(f"The job needs the result of {name!r}, which cannot be read: {error}") from error
        cycle_folder = settings.cycle_dir(get_current_schema(), self._cycle_name)
        named: dict[str, dict[str, str]] = {}
        inputs: dict[str, dict[str, str]] = {}
        for what, file in sorted(files.items()):
            if file.sha256 is None:
                raise JobError(
                    f"The job needs the file {what} of {name!r}, of which no hash was recorded: resubmit that"
                )
            as_input = file.sha256 + _suffixes_of(file.path)
            named[what] = {"input": as_input, "sha256": file.sha256}
            inputs[as_input] = {"key": file.path.relative_to(cycle_folder).as_posix(), "sha256": file.sha256}
        figures = [figure for figure in result.get("figures") or [] if not figure.get("segment_by")]
        content = {
            "currency": result.get("currency"),
            "figures": figures,
            "files": named,
            # Figures of segments may be many: they are in the hash.
            "figures_hash": value_hash(result.get("figures")),
        }
        return content, inputs

    def _finished(self) -> dict[str, FinishedJob]:
        batch = find_current_batch(self._cycle_id, self._type)
        if batch is None:
            return {}
        rows = fetch_all(
            """
            SELECT j.id, coalesce(w.job_key, j.job_key) AS work_key, j.result_data, c.job_configuration_data
              FROM irp_job j
              JOIN irp_job_configuration c ON c.id = j.job_configuration_id
              LEFT JOIN irp_job w ON w.id = j.work_job_id
             WHERE j.batch_id = %s AND j.status = 'FINISHED' AND NOT j.skipped AND NOT c.skipped
             ORDER BY j.id
            """,
            (batch.id,),
        )
        return {str(row["job_configuration_data"].get("name")): FinishedJob(**row) for row in rows}


def _suffixes_of(path: Path) -> str:
    """Return the suffixes of a file if they can be part of the name of an input; else nothing."""
    suffixes = "".join(path.suffixes[-2:])
    return suffixes if _SUFFIX.fullmatch(suffixes) else ""
