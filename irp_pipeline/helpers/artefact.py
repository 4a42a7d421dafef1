"""Artefacts: the files that step runs wrote, identified by their hashes.

A step run works in scratch space and publishes its files when it completes (:mod:`irp_pipeline.helpers.step`). This
module describes a file, tells whether the file on this machine is the recorded one, and gives it to later steps only
after this check. Works in the schema of :mod:`irp_pipeline.helpers.db_context`.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from irp_pipeline import hashes, settings, store
from irp_pipeline.cycle_files import SCRATCH
from irp_pipeline.errors import IrpError
from irp_pipeline.files import appearing_when_whole
from irp_pipeline.helpers.db_context import get_current_schema
from irp_pipeline.postgres.running import fetch_all


class ArtefactError(IrpError):
    """A file that a step run wrote is missing, or is not the one that is recorded."""


@dataclass(frozen=True)
class Artefact:
    """A file that a step run wrote.

    Attributes:
        key: where it is within the files of the cycle, with ``/`` between the parts.
        sha256: of its bytes, in hexadecimal.
        content_hash: of its content: the cells of a table, the figures of a report, else its bytes.
        bytes: its size.
        metadata: what Dagster shows about it.
    """

    key: str
    sha256: str
    content_hash: str
    bytes: int
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def as_row(self) -> dict[str, Any]:
        """Return it as a row of ``irp_artefact``."""
        row = asdict(self)
        return {"artefact_key": row.pop("key"), **row, "metadata": dict(self.metadata) or None}


def artefact_of(
    path: Path, key: str, content: Any = None, sha256: str | None = None, metadata: Mapping[str, Any] | None = None
) -> Artefact:
    """Describe a file.

    Args:
        path: the file.
        key: its place within the files of the cycle.
        content: plain data that represents its content. None: the cells of a Parquet file, else its bytes.
        sha256: of its bytes, if known.
        metadata: what Dagster shows about it.

    Raises:
        OSError: it cannot be read.
    """
    digest = sha256 or hashes.file_sha256(path)
    if content is not None:
        content_hash = hashes.value_hash(content)
    else:
        content_hash = hashes.table_hash(path) if path.suffix == ".parquet" else digest
    return Artefact(key, digest, content_hash, path.stat().st_size, metadata or {})


def differing(files: Iterable[tuple[Path, str, int]]) -> tuple[Path, str] | None:
    """Return a file of a cycle that cannot be read as recorded, neither here nor in the store, with how it differs.

    Args:
        files: of each, where it should be on this machine, the recorded hash of its bytes, and its size in bytes.

    Raises:
        StoreError: the store cannot be reached.
    """
    not_here: dict[str, tuple[Path, str, int]] = {}
    for path, sha256, size in files:
        differs = difference_here(path, sha256, size)
        if differs is not None and not store.is_elsewhere():
            return path, differs
        if differs is not None:
            not_here[store.key_of(path)] = path, sha256, size
    if not not_here:
        return None
    missing = store.missing((key, sha256, size) for key, (_, sha256, size) in not_here.items())
    return (not_here[missing[0]][0], "is not in the store of files") if missing else None


def difference_here(path: Path, sha256: str, size: int) -> str | None:
    """Say how a file on this machine differs from a recorded one; None if it is that file.

    Args:
        path: where it should be.
        sha256: the recorded hash of its bytes.
        size: its recorded size in bytes.
    """
    try:
        found = path.stat().st_size
        if found != size:
            return f"has {found:,} bytes instead of {size:,}"
        return None if hashes.file_sha256(path) == sha256 else "has other content than recorded"
    except (FileNotFoundError, NotADirectoryError):
        return "is not on this machine"
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"


def first_difference(folder: Path, artefacts: Iterable[Artefact]) -> str | None:
    """Say which of some artefacts cannot be read on this machine as recorded; None if all can.

    Args:
        folder: the files of their cycle.
        artefacts: what is recorded.

    Raises:
        StoreError: the store cannot be reached.
    """
    found = differing((folder / artefact.key, artefact.sha256, artefact.bytes) for artefact in artefacts)
    return None if found is None else f"the file {found[0].relative_to(folder).as_posix()} {found[1]}"


def list_artefacts(cycle_id: int, folder: str = "") -> dict[str, Artefact]:
    """Return the artefacts that a cycle has now: those of each step's newest completed run.

    Args:
        cycle_id: the cycle.
        folder: only those in this folder, such as ``portfolios/main``.

    Returns:
        The artefacts by key, in the order of the keys. If two steps wrote the same key, the later one counts.
    """
    prefix = f"{folder}/" if folder else ""
    rows = fetch_all(
        """
        SELECT a.artefact_key, a.sha256, a.content_hash, a.bytes, a.metadata
          FROM irp_stage sg
          JOIN irp_step st ON st.stage_id = sg.id
          JOIN LATERAL (
                SELECT id, completed_ts FROM irp_step_run
                 WHERE step_id = st.id AND status = 'COMPLETED' ORDER BY run_num DESC LIMIT 1) done ON true
          JOIN irp_artefact a ON a.step_run_id = done.id
         WHERE sg.cycle_id = %s AND starts_with(a.artefact_key, %s)
         ORDER BY a.artefact_key, done.completed_ts
        """,
        (cycle_id, prefix),
    )
    return {row["artefact_key"]: artefact_of_row(row) for row in rows}


def artefact_of_row(row: Mapping[str, Any]) -> Artefact:
    """Return the artefact of a row of ``irp_artefact``."""
    return Artefact(row["artefact_key"], row["sha256"], row["content_hash"], row["bytes"], row["metadata"] or {})


def read_artefact(cycle_name: str, artefact: Artefact) -> Path:
    """Return the file of an artefact on this machine, after a check against its recorded hash.

    Args:
        cycle_name: the cycle that it belongs to, in the current schema.
        artefact: what is recorded.

    Raises:
        ArtefactError: the file is missing or differs.
        StoreError: the store cannot be reached.
    """
    return read_artefacts(cycle_name, [artefact])[0]


def read_artefacts(cycle_name: str, artefacts: Iterable[Artefact]) -> list[Path]:
    """Return the files of several artefacts; otherwise as :func:`read_artefact`."""
    folder = settings.cycle_dir(get_current_schema(), cycle_name)
    if store.is_elsewhere():
        try:
            return store.fetch_all((store.key_of(folder / artefact.key), artefact.sha256) for artefact in artefacts)
        except store.MissingFileError as error:
            raise ArtefactError(str(error)) from error
    return [_checked(folder / artefact.key, artefact) for artefact in artefacts]


def _checked(path: Path, artefact: Artefact) -> Path:
    differs = difference_here(path, artefact.sha256, artefact.bytes)
    if differs is not None:
        raise ArtefactError(
            f"The file {path} {differs}. It is not used. Run the cycle again: the step that writes this file then "
            "writes it anew"
        )
    return path


# --- scratch space and publication --------------------------------------------------------------------------------


def make_scratch(cycle_folder: Path, step_id: int, token: str) -> Path:
    """Make the scratch space of a step run, and remove the scratch space of lost runs of the same step.

    Args:
        cycle_folder: the files of the cycle; scratch space is on the same file system, so that moving a file is atomic.
        step_id: the step, whose lease the caller holds.
        token: of the lease.
    """
    settings.make_irp_home()
    spaces = cycle_folder / SCRATCH
    for left in spaces.glob(f"{step_id}-*"):
        shutil.rmtree(left, ignore_errors=True)
    space = spaces / f"{step_id}-{token}"
    space.mkdir(parents=True, mode=0o700)
    return space


def remove_scratch(space: Path) -> None:
    """Remove the scratch space of a step run."""
    shutil.rmtree(space, ignore_errors=True)
    with suppress(OSError):
        space.parent.rmdir()


def publish(source: Path, target: Path, *, move: bool) -> None:
    """Put a file in its place, completely or not at all.

    Args:
        source: the file.
        target: its place. A file there is replaced.
        move: whether to move the file; else it is copied.

    Raises:
        OSError: the file cannot be read or the place cannot be written.
    """
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if move:
        source.replace(target)
        return
    with appearing_when_whole(target) as partial:
        shutil.copyfile(source, partial)
