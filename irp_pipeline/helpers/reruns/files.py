"""The files of jobs that run again what a cycle ran: portfolios and named files, kept with a cycle by their hashes.

Content decides: a file is taken from a cycle only if it has the hash with which that cycle's job was handed over, and
its new place is named by its hash. Making it again changes nothing, so that two processes can do it at once.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

from irp_pipeline import settings, store
from irp_pipeline.columns import Folders
from irp_pipeline.columns.paths import folder_at
from irp_pipeline.engines import EngineDeclaration
from irp_pipeline.engines.inputs import DATA_FOLDER, hash_entry
from irp_pipeline.errors import IrpError
from irp_pipeline.exposure.oed import OedTable
from irp_pipeline.exposure.portfolio import exposure_hash, file_hashes
from irp_pipeline.exposure.tables import Tables
from irp_pipeline.files import appearing_when_whole
from irp_pipeline.hashes import file_sha256
from irp_pipeline.helpers.db_context import get_current_schema
from irp_pipeline.helpers.job_request import FILES
from irp_pipeline.helpers.reruns.errors import RerunError
from irp_pipeline.helpers.result import JobResult, finished_jobs
from irp_pipeline.helpers.result.finished import ResultBatch, require_batch
from irp_pipeline.postgres.running import fetch_all

_NAMED_FILES: Final = "files"
"""The folder, in the place of a kind of reruns, of the files that analyses name."""
_PORTFOLIOS: Final = "portfolios"


@dataclass(frozen=True)
class Place:
    """Where the files of one kind of reruns are kept.

    Attributes:
        cycle_folder: of the cycle that keeps them.
        key: of the folder within it.
    """

    cycle_folder: Path
    key: str

    @property
    def named_files(self) -> Path:
        """The folder of the files that analyses name."""
        return self.cycle_folder / self.key / _NAMED_FILES

    def parameter(self, inputs: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
        """Return the parameter of a job that states these OED files, and where those are that its analysis names."""
        return {FILES: {"inputs": dict(inputs), DATA_FOLDER: f"{self.key}/{_NAMED_FILES}"}}


@dataclass(frozen=True, kw_only=True)
class RecordedRun:
    """An analysis as a cycle recorded it.

    Attributes:
        cycle_name: the cycle.
        cycle_folder: its files on this machine.
        job: the finished job, with its parameters, figures and files.
        request: what its engine was given.
    """

    cycle_name: str
    cycle_folder: Path
    job: JobResult
    request: Mapping[str, Any]

    def tables(self) -> dict[OedTable, Path]:
        """Return the OED files that its engine was given.

        Raises:
            RerunError: one is no longer there.
            StoreError: the store of files cannot be reached.
        """
        found = {}
        for name, file in self.request.get("inputs", {}).items():
            try:
                key = store.key_of(self.cycle_folder / file["key"])
                found[OedTable(PurePosixPath(name).stem)] = store.fetch(key, file["sha256"])
            except (store.MissingFileError, OSError) as error:
                raise RerunError(
                    f"the portfolio of {self.cycle_name} is not as its losses were computed with: {name} {error}. Run "
                    f"the cycle {self.cycle_name} again, or restore it from a backup"
                ) from error
        return found


def runs_of(batch_id: int, names: Iterable[str]) -> dict[str, RecordedRun]:
    """Return the finished jobs of a batch of reruns by name.

    Args:
        batch_id: the batch, COMPLETED.
        names: the jobs that it must have.

    Raises:
        RerunError: it has not run all of them.
        ResultError: the result of a job cannot be read.
        DatabaseError: the database refuses or is away.
    """
    runs = recorded_runs(require_batch(batch_id))
    if lacking := [name for name in dict.fromkeys(names) if name not in runs]:
        raise RerunError(f"The batch {batch_id} has no finished job of: {', '.join(lacking)}")
    return runs


def job_name(analysis: str, what: str) -> str:
    """Return the name of a job that runs an analysis again with something changed."""
    return f"{analysis} → {what}"


def recorded_runs(batch: ResultBatch) -> dict[str, RecordedRun]:
    """Return the finished analyses of a batch by name, with what their engines were given.

    Raises:
        ResultError: the result of a job cannot be read.
        DatabaseError: the database refuses or is away.
    """
    jobs = finished_jobs(batch.id)
    rows = fetch_all("SELECT id, request_data FROM irp_job WHERE id = ANY (%s)", ([job.job_id for job in jobs],))
    requests = {row["id"]: row["request_data"] or {} for row in rows}
    folder = settings.cycle_dir(get_current_schema(), batch.cycle_name)
    return {
        job.name: RecordedRun(
            cycle_name=batch.cycle_name, cycle_folder=folder, job=job, request=requests.get(job.job_id, {})
        )
        for job in jobs
    }


def named_files_of(run: RecordedRun, declaration: EngineDeclaration, place: Place) -> dict[str, Any]:
    """Take the files that an analysis names, and return its parameters with their new names.

    The files of a model stay where they are; they are only checked.

    Args:
        run: the analysis.
        declaration: of its engine.
        place: where they are kept.

    Raises:
        RerunError: a file or the model is gone, or is not the one that the losses were computed with.
        StoreError: the store of files cannot be reached.
    """
    parameters = dict(run.job.analysis)
    data_folder = run.request.get(DATA_FOLDER)
    for column, file in declaration.files.items():
        named = parameters.get(column)
        if not named:
            continue
        is_model = column in declaration.model_columns
        own = None if data_folder is None else folder_at(run.cycle_folder, data_folder)
        try:
            folders = Folders(place.named_files if is_model or own is None else own, settings.models_folder())
            path = folders.find(str(named))
            digest = file.hash(path, parameters)
        except store.StoreError:
            raise
        except (IrpError, OSError) as error:
            raise RerunError(_gone(run, column, is_model, str(error))) from error
        if digest != run.request.get(hash_entry(column)):
            raise RerunError(_gone(run, column, is_model, f"{path} has changed since"))
        if not is_model:
            parameters[column] = _kept(path, digest, place)
    return parameters


def _kept(path: Path, digest: str, place: Place) -> str:
    name = f"{digest}{path.suffix}"
    target = place.named_files / name
    _keep(path, target, file_sha256(path))
    if store.is_elsewhere():
        store.put(target, store.key_of(target))
    return name


def _keep(path: Path, target: Path, sha256: str) -> None:
    """Copy a file to its place, unless it is there."""
    if not target.is_file() or file_sha256(target) != sha256:
        with appearing_when_whole(target) as partial:
            shutil.copyfile(path, partial)


def _gone(run: RecordedRun, column: str, is_model: bool, reason: str) -> str:
    if is_model:
        return (
            f"the model of {run.cycle_name} is not there as its losses were computed with: {reason}. Put that version "
            f"into the models folder {settings.models_folder()} under its own name; a newer version belongs beside it"
        )
    return f"the {column} of {run.cycle_name} is not there as its losses were computed with: {reason}"


def kept_portfolio(tables: Tables, place: Place) -> dict[str, dict[str, str]]:
    """Keep the files of a portfolio with a cycle, and return them as the inputs of a request.

    Args:
        tables: the CSV file of each table.
        place: where they are kept.

    Raises:
        StoreError: the store of files cannot be reached.
        OSError: a file cannot be read or written.
    """
    digests = file_hashes(tables.values())
    folder = place.cycle_folder / place.key / _PORTFOLIOS / exposure_hash(digests)
    inputs = {}
    for path in tables.values():
        target = folder / path.name
        _keep(path, target, digests[path.stem])
        store.publish(target, store.key_of(target), digests[path.stem])
        inputs[path.name] = {"key": target.relative_to(place.cycle_folder).as_posix(), "sha256": digests[path.stem]}
    return inputs
