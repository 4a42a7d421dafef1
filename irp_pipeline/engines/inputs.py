"""The files of a request on the machine that needs them: found by key or name, and taken only with the right hash.

A request names no path, since each machine has its own. ``inputs`` are files of the cycle by key and hash; columns of
the analysis name files in the data folder or the models folder, and ``<column>_hash`` has the hash of each.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from irp_pipeline import hashes, settings, store
from irp_pipeline.columns import Folders
from irp_pipeline.columns.paths import folder_at
from irp_pipeline.engines.declaration import ENGINES
from irp_pipeline.engines.protocol import EngineError
from irp_pipeline.errors import IrpError
from irp_pipeline.files import link_or_copy, make_folder

DATA_FOLDER: Final = "data_folder"
"""The entry of a request that says where the files are that the analysis names, as the configuration records it."""

_FILE_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_CHANGED: Final = "is not the one that the job was submitted for: run the cycle again"


def hash_entry(column: str) -> str:
    """Return the entry of a request with the hash of the file that a column names."""
    return f"{column}_hash"


def link_inputs(request: Mapping[str, Any], cycle_folder: Path, folder: Path) -> None:
    """Put the inputs of a request into a folder, as hard links: replacing the original does not touch them.

    Args:
        request: the request.
        cycle_folder: the files of its cycle.
        folder: where they belong; made if it is missing.

    Raises:
        EngineError: a file is missing, or its content is not what the request was made for.
        StoreError: the store of files cannot be reached.
        OSError: a file cannot be read, or the folder cannot be written.
    """
    make_folder(folder)
    for name, wanted in request.get("inputs", {}).items():
        if not _FILE_NAME.fullmatch(name):
            raise EngineError(f"{name!r} cannot be the name of an input file")
        key, sha256 = store.key_of(cycle_folder / wanted["key"]), wanted["sha256"]
        (folder / name).unlink(missing_ok=True)
        try:
            link_or_copy(store.fetch(key, sha256), folder / name)
        except (store.MissingFileError, FileNotFoundError) as error:
            raise EngineError(f"The job needs the file {key} as it was when it was submitted. {error}") from error
        if hashes.file_sha256(folder / name) != sha256:  # it was replaced in between
            raise EngineError(f"The file {key} {_CHANGED}")


def named_files(request: Mapping[str, Any], cycle_folder: Path) -> dict[str, str]:
    """Return the absolute paths on this machine of the files that an analysis names, by column.

    Args:
        request: the request.
        cycle_folder: the files of its cycle.

    Raises:
        EngineError: a file cannot be found, or its content is not what the request was made for.
        StoreError: the store of files cannot be reached.
        OSError: a file cannot be read.
    """
    if DATA_FOLDER not in request:
        return {}
    analysis = request["analysis"]
    declaration = ENGINES.get(analysis["engine"])
    if declaration is None:
        return {}
    folders = Folders(folder_at(cycle_folder, request[DATA_FOLDER]), settings.models_folder())
    found = {}
    for column, file in declaration.files.items():
        if not (named := analysis.get(column)):
            continue
        try:
            path = folders.find(str(named))
            digest = file.hash(path, analysis)
        except store.StoreError:
            raise
        except IrpError as error:
            raise EngineError(f"The {column} of the analysis cannot be used: {error}") from error
        if digest != request.get(hash_entry(column)):
            raise EngineError(f"The {column} {path} {_CHANGED}")
        found[column] = str(path)
    return found
