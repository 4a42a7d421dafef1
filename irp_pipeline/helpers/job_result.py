"""The result files of a finished job, and whether they have changed since.

:mod:`irp_pipeline.helpers.result` records the figures of a result.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from irp_pipeline.engines import EngineError
from irp_pipeline.helpers.artefact import difference
from irp_pipeline.helpers.batch_of_jobs import engine_of
from irp_pipeline.helpers.job_record import FinishedJob


@dataclass(frozen=True)
class ResultFile:
    """A result file of a finished job.

    Attributes:
        path: where it is on this machine, or should be.
        sha256: of its bytes; None for a job that ended before hashes were recorded.
        bytes: its size; likewise.
    """

    path: Path
    sha256: str | None
    bytes: int | None

    def difference(self) -> str | None:
        """Say how the file differs from what its job left; None if it is that file."""
        if self.sha256 is None or self.bytes is None:
            return None if self.path.is_file() else "is not on this machine"
        return difference(self.path, self.sha256, self.bytes)


def result_files(result: Mapping[str, Any], folder: Path) -> dict[str, ResultFile]:
    """Return the result files of a finished job by name.

    Args:
        result: what its engine reported.
        folder: where the engine keeps the job's files.

    Raises:
        ValueError: a file is outside the folder.
    """
    files = {}
    for name, entry in (result.get("files") or {}).items():
        is_known = isinstance(entry, Mapping)
        path = folder / str(entry["path"] if is_known else entry)
        if not path.resolve().is_relative_to(folder.resolve()):
            raise ValueError(f"the file {name} is outside of the job's folder")
        files[str(name)] = ResultFile(path, *((entry["sha256"], entry["bytes"]) if is_known else (None, None)))
    return files


def changed_file(job: FinishedJob, cycle_name: str) -> str | None:
    """Say which result file of a finished job is missing on this machine or differs; None if all are as it left them.

    Args:
        job: the job.
        cycle_name: the job's cycle.
    """
    try:
        folder = engine_of(cycle_name, job.job_configuration_data).folder(job.work_key)
        files = result_files(job.result_data or {}, folder)
    except (EngineError, ValueError, KeyError, TypeError) as error:
        return f"its result cannot be read: {error}"
    for file in files.values():
        if (differs := file.difference()) is not None:
            return f"its file {file.path.name} {differs}"
    return None
