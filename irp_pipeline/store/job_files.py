"""The files that a job leaves: published by the worker that ran it, before it reports the end of the job.

Result files are known by the hashes that the job's result has. The log and the end have no recorded hash: their newest
state replaces the one before.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from irp_pipeline import settings
from irp_pipeline.files import appearing_when_whole
from irp_pipeline.store.errors import MissingFileError
from irp_pipeline.store.finding import place_of_cycles
from irp_pipeline.store.published import fetch, is_elsewhere, key_of, object_name, publish_all

LOG: Final = "log.txt"
"""What a job printed, in its folder."""

END: Final = "result.json"
"""How a job ended, in its folder."""


def publish_job_files(folder: Path, result: Mapping[str, Any] | None) -> None:
    """Publish the result files, the log and the end of a job. Without ``IRP_FILES_URL`` nothing is copied.

    Safe to repeat: call it again if it is not known whether it was done. Call it before the end is reported: who hears
    of the end may read the files.

    Args:
        folder: the job's folder on this machine, ``IRP_HOME/cycles/<schema>/<cycle>/jobs/<key>``.
        result: what the job reported, with ``files`` as :attr:`irp_pipeline.engines.protocol.JobState.result` has them;
            None if it has no result.

    Raises:
        StoreError: the store cannot be reached or written; it was tried for some minutes.
        OSError: a file cannot be read.
    """
    if not is_elsewhere():
        return
    files = ((folder / file["path"], file["sha256"]) for file in ((result or {}).get("files") or {}).values())
    publish_all((path, key_of(path), sha256) for path, sha256 in files)
    for name in (LOG, END):  # the end comes last: who finds it finds the others
        _put_newest(folder / name)


def publish_job_log(folder: Path) -> None:
    """Publish what a job at work has printed so far, for readers on other machines.

    Args:
        folder: the job's folder on this machine.

    Raises:
        StoreError: the store cannot be reached or written; it was tried for some minutes.
    """
    if is_elsewhere():
        _put_newest(folder / LOG)


def _put_newest(path: Path) -> None:
    if path.is_file() and not path.is_symlink():
        place_of_cycles().put(path, object_name(key_of(path), ""), replace=True)


def fetch_job_file(folder: Path, path: str, sha256: str | None = None) -> Path:
    """Return a file of a job on this machine; it is copied from the store if necessary.

    Args:
        folder: the job's folder on this machine; it need not exist.
        path: the file, relative to the folder.
        sha256: of its bytes, as the job's result has it. None for :data:`LOG` and :data:`END`, which are then as new as
            the store has them.

    Raises:
        MissingFileError: it is not there, or is damaged.
        StoreError: the store cannot be reached.
        OSError: it cannot be read, or not be written here.
    """
    target = folder / path
    if sha256 is not None:
        return fetch(key_of(target), sha256)
    if is_elsewhere():
        settings.make_irp_home()
        place = place_of_cycles()
        name = object_name(key_of(target), "")
        if place.find(name) is not None:
            with appearing_when_whole(target, durable=False) as partial:
                place.get(name, partial)
    if not target.is_file():
        raise MissingFileError(f"There is no {target}, and none in the store of files")
    return target
