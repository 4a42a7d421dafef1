"""A tracked run inside the block of work: its scratch space, the files that it publishes, its records.

Here: the run, and its outputs until they are published and recorded. :mod:`irp_pipeline.helpers.lease` decides whether
a run may start, and whether its result counts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from irp_pipeline import hashes, settings, store
from irp_pipeline.cycle_files import FROM_ELSEWHERE
from irp_pipeline.errors import IrpError
from irp_pipeline.helpers.artefact import Artefact, artefact_of, difference_here, make_scratch, publish, remove_scratch
from irp_pipeline.postgres.parameters import json_value


class StepError(IrpError):
    """A step or a step run cannot be made, changed or tracked as asked."""


@dataclass(kw_only=True)
class TrackedRun:
    """A tracked run inside the block of work.

    Attributes:
        id: the run's id.
        step_id: the step's id.
        run_num: the run's number within the step.
        skipped: whether the work was done before: do nothing. ``output`` is then the output of that run.
        work_run_num: number of the run that did the work; ``run_num`` itself unless skipped.
        reason: why it runs, or why it is skipped.
        output: what the work produces, JSON-like; recorded when the block succeeds.
        lease_lost: whether the lease is known to be lost. Long work may check this and stop early.
        outputs: the files and records that the methods below declare.
        found_inputs: inputs that turned out to be others than those the run began with, such as the code that a person
            really ran; they are recorded in place of those of the same name.
    """

    id: int
    step_id: int
    run_num: int
    skipped: bool
    work_run_num: int
    reason: str = ""
    output: dict[str, Any] = field(default_factory=dict)
    lease_lost: bool = False
    outputs: Outputs = field(repr=False)
    found_inputs: dict[str, Any] = field(default_factory=dict)

    @property
    def scratch(self) -> Path:
        """A folder for the files of this run. Files in it that :meth:`add_file` declares are published on completion.

        ``scratch / "results" / "losses.csv"`` becomes ``results/losses.csv`` among the files of the cycle. Everything
        else in it is deleted.
        """
        return self.outputs.scratch

    def add_file(
        self,
        path: Path,
        *,
        key: str | None = None,
        content: Any = None,
        sha256: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Artefact:
        """Declare a file that the run wrote. It is published, complete, when the run completes with its lease.

        Args:
            path: the file: in :attr:`scratch`, from where it is moved into its place; among the files of the cycle,
                where it stays; or anywhere else, from where it is copied.
            key: its place among the files of the cycle. None: its place in the scratch space or the cycle's folder;
                for a file from elsewhere ``files/<name>``.
            content: plain data that represents its content, if not every byte matters. None: the cells of a Parquet
                file, else the bytes.
            sha256: of its bytes in hexadecimal, if already known.
            metadata: what Dagster shows about it.

        Returns:
            What is recorded about it.

        Raises:
            StepError: there is no such file, or it cannot have that key.
        """
        return self.outputs.add_file(path.absolute(), key, content, sha256, metadata)

    def remove_file(self, key: str) -> None:
        """Declare that a file no longer belongs to the cycle: it is deleted when the run completes.

        Args:
            key: its place among the files of the cycle; it need not exist.
        """
        self.outputs.removed.add(key)

    def add_records(self, name: str, content: Any, write: Callable[[], None] | None = None) -> None:
        """Declare records that the run leaves in the database.

        Args:
            name: what they are.
            content: plain data that represents them: figures, parameters, hashes; no ids, times or paths.
            write: changes them. It is called in the transaction that completes the run, if the run holds its lease.
        """
        self.outputs.records[name] = json_value(content)
        if write is not None:
            self.when_complete(write)

    def when_complete(self, write: Callable[[], None]) -> None:
        """Change the database in the transaction that completes the run, if the run holds its lease.

        Args:
            write: makes the change. It must be safe to repeat: if the connection is lost, the transaction is repeated.
        """
        self.outputs.writes.append(write)


class Outputs:
    """The files and records of a run: declared while it works, published when it completes.

    Attributes:
        removed: the keys of files to delete.
        records: the content of its records, by name.
        writes: functions that change the database in the transaction that completes the run.
    """

    def __init__(self, schema: str, cycle_name: str, step_id: int, token: str) -> None:
        """Begin without files and records.

        Args:
            schema: the schema of the run.
            cycle_name: its cycle.
            step_id: its step.
            token: of its lease, which names its scratch space.
        """
        self.removed: set[str] = set()
        self.records: dict[str, Any] = {}
        self.writes: list[Callable[[], None]] = []
        self._schema, self._cycle_name, self._step_id, self._token = schema, cycle_name, step_id, token
        self._scratch: Path | None = None
        self._files: dict[str, _File] = {}

    def __bool__(self) -> bool:
        """Whether any were declared."""
        return bool(self._files or self.removed or self.records or self.writes)

    @property
    def scratch(self) -> Path:
        """The scratch space of the run, made at the first access."""
        if self._scratch is None:
            self._scratch = make_scratch(self._folder, self._step_id, self._token)
        return self._scratch

    @property
    def artefacts(self) -> list[Artefact]:
        """The files that were declared."""
        return [file.artefact for file in self._files.values()]

    def add_file(
        self, path: Path, key: str | None, content: Any, sha256: str | None, metadata: Mapping[str, Any] | None
    ) -> Artefact:
        """Declare a file; as :meth:`TrackedRun.add_file`, with an absolute path."""
        folder = self._folder
        is_scratch = self._scratch is not None and path.is_relative_to(self._scratch)
        if key is None:
            base = self._scratch if is_scratch else folder
            inside = base is not None and path.is_relative_to(base)
            key = path.relative_to(base or folder).as_posix() if inside else f"{FROM_ELSEWHERE}/{path.name}"
        if not key or key.startswith("/") or ".." in key.split("/"):
            raise StepError(f"The file {path} cannot be kept as {key!r}: a key is a path within the files of the cycle")
        try:
            artefact = artefact_of(path, key, content, sha256, json_value(dict(metadata or {})))
        except OSError as error:
            raise StepError(f"The file {path} cannot be recorded: {error.strerror or error}") from error
        self._files[key] = _File(artefact, path, moves=is_scratch)
        return artefact

    def copy_to_store(self) -> None:
        """Copy the files to the store, if they are kept elsewhere. Nobody finds them there before they are recorded.

        Raises:
            StoreError: the store cannot be reached or written.
            OSError: a file cannot be read.
        """
        if self._files and store.is_elsewhere():
            store.publish_all(
                (file.path, store.key_of(self._folder / file.artefact.key), file.artefact.sha256)
                for file in self._files.values()
            )

    def publish(self) -> None:
        """Put the files in their places. Files from an earlier try stay.

        Raises:
            StepError: somebody changed a file while the run was at work.
            OSError: a place cannot be written.
        """
        for file in self._files.values():
            target = self._folder / file.artefact.key
            is_there = not file.path.exists() if file.moves else file.path == target
            if not is_there:
                publish(file.path, target, move=file.moves)
                hashes.remember(target, file.artefact.sha256)
            elif (differs := difference_here(target, file.artefact.sha256, file.artefact.bytes)) is not None:
                raise StepError(f"The file {target} {differs}: somebody changed it while the run was at work")
        for key in self.removed - set(self._files):
            (self._folder / key).unlink(missing_ok=True)

    def content_hash(self, records: Mapping[str, str]) -> str | None:
        """Return a hash of the content of files and records; None if there are none.

        Args:
            records: the hashes of the records, by name.
        """
        if not self._files and not records:
            return None
        files = {key: file.artefact.content_hash for key, file in self._files.items()}
        return hashes.value_hash({"files": files, "records": dict(records)})

    def clean_up(self) -> None:
        """Remove the scratch space."""
        if self._scratch is not None:
            remove_scratch(self._scratch)

    @property
    def _folder(self) -> Path:
        return settings.cycle_dir(self._schema, self._cycle_name)


@dataclass(frozen=True, slots=True)
class _File:
    artefact: Artefact
    path: Path
    moves: bool
