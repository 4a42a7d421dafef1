"""The result files of a finished job, and whether they have changed since.

:mod:`irp_pipeline.helpers.result` records the figures of a result.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from irp_pipeline import store
from irp_pipeline.engines import EngineError
from irp_pipeline.errors import IrpError
from irp_pipeline.helpers.artefact import difference_here, differing
from irp_pipeline.helpers.batch_of_jobs import engine_of
from irp_pipeline.helpers.job_record import FinishedJob


class ResultFileError(IrpError):
    """A result file is missing, or is not the one that its job left."""


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

    def fetch(self) -> Path:
        """Return the file on this machine, after a check against what its job left.

        Raises:
            ResultFileError: it is missing or differs; the message continues after its name.
            StoreError: the store cannot be reached.
        """
        if self.sha256 is None or self.bytes is None:
            differs = None if self.path.is_file() else "is not on this machine"
        elif store.is_elsewhere():
            try:
                return store.fetch(store.key_of(self.path), self.sha256)
            except store.MissingFileError as error:
                raise ResultFileError(f"cannot be read: {error}") from error
        else:
            differs = difference_here(self.path, self.sha256, self.bytes)
        if differs is not None:
            raise ResultFileError(differs)
        return self.path


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
        if file.sha256 is None and not file.path.is_file():  # its job ended before hashes were recorded
            return f"its file {file.path.name} is not on this machine"
    known = [(file.path, file.sha256, file.bytes or 0) for file in files.values() if file.sha256 is not None]
    found = differing(known)
    return None if found is None else f"its file {found[0].name} {found[1]}"
