"""The files of jobs between two cycles: portfolios and named files of both, kept with the later cycle by their hashes.

Content decides: a file is taken from a cycle only if it has the hash with which that cycle's job was handed over, and
its place here is named by its hash. Making it again changes nothing, so that several attributions can do it at once.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

from irp_pipeline import settings, store
from irp_pipeline.columns import Folders
from irp_pipeline.columns.paths import folder_at
from irp_pipeline.cycle_files import ATTRIBUTION
from irp_pipeline.engines import EngineDeclaration
from irp_pipeline.engines.inputs import DATA_FOLDER, hash_entry
from irp_pipeline.errors import IrpError
from irp_pipeline.exposure.oed import OedTable
from irp_pipeline.exposure.other_terms import Tables
from irp_pipeline.exposure.portfolio import exposure_hash, file_hashes
from irp_pipeline.files import appearing_when_whole
from irp_pipeline.hashes import file_sha256
from irp_pipeline.helpers.attribution.errors import AttributionError
from irp_pipeline.helpers.result import JobResult

NAMED_FILES: Final = f"{ATTRIBUTION}/files"
"""The folder of the files that analyses name."""
_PORTFOLIOS: Final = f"{ATTRIBUTION}/portfolios"


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
            AttributionError: one is no longer there.
            StoreError: the store of files cannot be reached.
        """
        found = {}
        for name, file in self.request.get("inputs", {}).items():
            try:
                key = store.key_of(self.cycle_folder / file["key"])
                found[OedTable(PurePosixPath(name).stem)] = store.fetch(key, file["sha256"])
            except (store.MissingFileError, OSError) as error:
                raise AttributionError(
                    f"the portfolio of {self.cycle_name} is not as its losses were computed with: {name} {error}. Run "
                    f"the cycle {self.cycle_name} again, or restore it from a backup"
                ) from error
        return found


def named_files_of(run: RecordedRun, declaration: EngineDeclaration, cycle_folder: Path) -> dict[str, Any]:
    """Take the files that an analysis names, and return its parameters with their new names.

    The files of a model stay where they are; they are only checked.

    Args:
        run: the analysis.
        declaration: of its engine.
        cycle_folder: of the later cycle, which gets the files.

    Raises:
        AttributionError: a file or the model is gone, or is not the one that the losses were computed with.
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
            folders = Folders(cycle_folder / NAMED_FILES if is_model or own is None else own, settings.models_folder())
            path = folders.find(str(named))
            digest = file.hash(path, parameters)
        except store.StoreError:
            raise
        except (IrpError, OSError) as error:
            raise AttributionError(_gone(run, column, is_model, str(error))) from error
        if digest != run.request.get(hash_entry(column)):
            raise AttributionError(_gone(run, column, is_model, f"{path} has changed since"))
        if not is_model:
            parameters[column] = _kept(path, digest, cycle_folder)
    return parameters


def _kept(path: Path, digest: str, cycle_folder: Path) -> str:
    name = f"{digest}{path.suffix}"
    target = cycle_folder / NAMED_FILES / name
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


def kept_portfolio(tables: Tables, cycle_folder: Path) -> dict[str, dict[str, str]]:
    """Keep the files of a portfolio with a cycle, and return them as the inputs of a request.

    Args:
        tables: the CSV file of each table.
        cycle_folder: of the cycle.

    Raises:
        StoreError: the store of files cannot be reached.
        OSError: a file cannot be read or written.
    """
    digests = file_hashes(tables.values())
    folder = cycle_folder / _PORTFOLIOS / exposure_hash(digests)
    inputs = {}
    for path in tables.values():
        target = folder / path.name
        _keep(path, target, digests[path.stem])
        store.publish(target, store.key_of(target), digests[path.stem])
        inputs[path.name] = {"key": target.relative_to(cycle_folder).as_posix(), "sha256": digests[path.stem]}
    return inputs
