"""A tracked run as the block of work sees it: scratch space, files that it publishes, records that it leaves.

Here: the run, and its outputs until they are published and recorded. Who may start a run and when it counts is the
business of :mod:`irp_pipeline.helpers.lease`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from irp_pipeline import hashes, settings
from irp_pipeline.errors import IrpError
from irp_pipeline.helpers.artefact import Artefact, artefact_of, difference, make_scratch, publish, remove_scratch
from irp_pipeline.postgres.parameters import json_value

_FILES_FROM_ELSEWHERE: Final = "files"


class StepError(IrpError):
    """A step or a step run cannot be made, changed or tracked as asked."""


@dataclass(kw_only=True)
class TrackedRun:
    """A tracked run, as the block of work sees it.

    Attributes:
        id: the run's id.
        step_id: the step's id.
        run_num: the run's number within the step.
        skipped: the work was done before: do nothing. ``output`` is then what that run produced.
        work_run_num: number of the run that did the work; ``run_num`` itself unless skipped.
        reason: why it runs, or why it is skipped.
        output: what the work produces, JSON-like; recorded when the block ends well.
        lease_lost: whether the lease was seen to be lost. Long work may look here and give up early.
        outputs: the files and records that it leaves: what the methods below write down.
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

    @property
    def scratch(self) -> Path:
        """A folder for the files of this run. What :meth:`add_file` names in it is published when the run completes.

        ``scratch / "results" / "losses.csv"`` becomes ``results/losses.csv`` among the files of the cycle. Everything
        else in it is thrown away.
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
        """Declare a file that the run wrote. It is published, whole, when the run completes with its lease.

        Args:
            path: the file: in :attr:`scratch`, from where it is moved into its place; among the files of the cycle,
                where it stays; or anywhere else, from where it is copied.
            key: its place among the files of the cycle. None: its place in the scratch space or the cycle's folder;
                for a file from elsewhere ``files/<name>``.
            content: plain data that stands for what matters in it, where that is not every byte. None: the cells of a
                Parquet file, else the bytes.
            sha256: of its bytes in hexadecimal, if that is known already.
            metadata: what Dagster shows of it.

        Returns:
            What is recorded of it.

        Raises:
            StepError: there is no such file, or it cannot have that key.
        """
        return self.outputs.add_file(path.absolute(), key, content, sha256, metadata)

    def remove_file(self, key: str) -> None:
        """Declare that a file no longer belongs to the cycle: it goes away when the run completes.

        Args:
            key: its place among the files of the cycle; it need not be there.
        """
        self.outputs.removed.add(key)

    def add_records(self, name: str, content: Any, write: Callable[[], None] | None = None) -> None:
        """Declare records that the run leaves in the database.

        Args:
            name: what they are.
            content: plain data that stands for them: figures, parameters, hashes; no ids, times or places.
            write: changes them. It is called in the transaction that completes the run, if it holds its lease.
        """
        self.outputs.records[name] = json_value(content)
        if write is not None:
            self.when_complete(write)

    def when_complete(self, write: Callable[[], None]) -> None:
        """Have the database changed in the transaction that completes the run, if it holds its lease.

        Args:
            write: changes it. It must be safe to repeat: a transaction that is lost with its connection is tried again.
        """
        self.outputs.writes.append(write)


class Outputs:
    """What a run leaves: files and records, declared while it works, in their places when it completes.

    Attributes:
        removed: the keys of files that go away.
        records: the content of the records that it leaves, by name.
        writes: what changes the database in the transaction that completes the run.
    """

    def __init__(self, schema: str, cycle_name: str, step_id: int, token: str) -> None:
        """Begin without any.

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
        """The scratch space of the run, made when it is first asked for."""
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
        """Declare a file; as :meth:`TrackedRun.add_file`, of an absolute path."""
        folder = self._folder
        is_scratch = self._scratch is not None and path.is_relative_to(self._scratch)
        if key is None:
            base = self._scratch if is_scratch else folder
            inside = base is not None and path.is_relative_to(base)
            key = path.relative_to(base or folder).as_posix() if inside else f"{_FILES_FROM_ELSEWHERE}/{path.name}"
        if not key or key.startswith("/") or ".." in key.split("/"):
            raise StepError(f"The file {path} cannot be kept as {key!r}: a key is a path within the files of the cycle")
        try:
            artefact = artefact_of(path, key, content, sha256, json_value(dict(metadata or {})))
        except OSError as error:
            raise StepError(f"The file {path} cannot be recorded: {error.strerror or error}") from error
        self._files[key] = _File(artefact, path, moves=is_scratch)
        return artefact

    def publish(self) -> None:
        """Put the files into their places. Those that an earlier try put there stay.

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
            elif (differs := difference(target, file.artefact.sha256, file.artefact.bytes)) is not None:
                raise StepError(f"The file {target} {differs}: somebody changed it while the run was at work")
        for key in self.removed - set(self._files):
            (self._folder / key).unlink(missing_ok=True)

    def content_hash(self, records: Mapping[str, str]) -> str | None:
        """Return what stands for the content of files and records; None if there are none.

        Args:
            records: what stands for the records, by name.
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
