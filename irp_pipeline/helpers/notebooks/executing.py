"""Executing a notebook by papermill in a process of its own, within limits, with no process left behind."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from irp_pipeline import settings
from irp_pipeline.files import write_atomically
from irp_pipeline.helpers.db_context import get_current_schema
from irp_pipeline.helpers.notebooks.errors import NotebookStepError
from irp_pipeline.helpers.notebooks.output import outputs_in
from irp_pipeline.helpers.notebooks.processes import kill_the_others
from irp_pipeline.helpers.notebooks.program import EXECUTED, LOG, OUTCOME, REQUEST, SOURCE
from irp_pipeline.helpers.notebooks.source import INJECTED, MARKER, Source, tags_of
from irp_pipeline.process import MARK_OF_NOTEBOOK, HostProcess, this_process
from irp_pipeline.storable import one_line

_PROGRAM: Final = "irp_pipeline.helpers.notebooks.program"
_SOCKETS: Final = "irp-notebook-"
_OWNER: Final = "owner.json"
_POLL_SECONDS: Final = 0.2
_LONGEST_ERROR: Final = 500

ToEnd = Callable[[], str | None]
"""Says why a notebook is to be ended, in one line; None as long as it is not."""


@dataclass(frozen=True)
class Executed:
    """A notebook that was executed, or as far as it was.

    Attributes:
        path: the notebook with its outputs; None if it did not begin.
        output: its output data.
        problem: why it stopped, in one line after the name of the notebook; None if it ended well.
    """

    path: Path | None
    output: dict[str, Any]
    problem: str | None


def execute(
    source: Source,
    folder: Path,
    parameters: Mapping[str, Any],
    *,
    timeout_minutes: float | None = None,
    to_end: ToEnd = lambda: None,
) -> Executed:
    """Execute a notebook in the current schema, and wait for it.

    The notebook runs in its own folder, in a kernel of this Python with ``IRP_HOME`` and, as ``DB_SCHEMA``, the current
    schema. Whatever ends the wait, an interrupt or the death of this process too, ends the kernel and every process
    that it started.

    Args:
        source: the notebook.
        folder: an empty folder for the work.
        parameters: what papermill sets in the notebook, as plain data.
        timeout_minutes: how long it may take; None: as long as it takes.
        to_end: asked several times a second whether to end it.

    Returns:
        How it ended.

    Raises:
        NotebookStepError: papermill is not installed here.
    """
    if importlib.util.find_spec("papermill") is None:
        raise NotebookStepError(
            f"Notebook {source.path.name} cannot be executed here, since papermill is not installed: pip install "
            "'irp-pipeline[notebook]'"
        )
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / SOURCE, json.dumps(source.content))
    with _sockets() as sockets:
        request = {"starter": os.getpid(), "sockets": str(sockets), "parameters": dict(parameters)}
        write_atomically(folder / REQUEST, json.dumps(request))
        stopped, status = _run(folder, source.path.parent, timeout_minutes, to_end)
    executed = _Notebook(folder / EXECUTED)
    if stopped is not None:
        return Executed(executed.kept(source), {}, f"stopped {executed.place_at_work()}: {stopped}")
    if (outcome := _outcome(folder)) is None:
        problem = f"stopped {executed.place_at_work()}: {_ended(status, 'its process')}{_last_words(folder)}"
        return Executed(executed.kept(source), {}, problem)
    return Executed(executed.kept(source), executed.output(), _problem(outcome, executed))


def _run(folder: Path, cwd: Path, timeout_minutes: float | None, to_end: ToEnd) -> tuple[str | None, int]:
    """Run the program; return why it was ended here, if it was, and its exit status."""
    environment = {
        **os.environ,
        "IRP_HOME": str(settings.irp_home()),
        "DB_SCHEMA": get_current_schema(),
        MARK_OF_NOTEBOOK: str(folder),
    }
    with (folder / LOG).open("ab") as log:
        process = subprocess.Popen(  # noqa: S603 - the program is this package's own
            [sys.executable, "-P", "-m", _PROGRAM, str(folder)],
            cwd=cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        deadline = None if timeout_minutes is None else time.monotonic() + timeout_minutes * 60
        stopped = None
        try:
            while stopped is None:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(_POLL_SECONDS)
                    break
                stopped = to_end()
                if stopped is None and deadline is not None and time.monotonic() > deadline:
                    stopped = f"it ran longer than its limit of {timeout_minutes:g} minutes"
        finally:
            kill_the_others(folder)
            process.wait()
    return stopped, process.returncode


@contextmanager
def _sockets() -> Iterator[Path]:
    """A folder for the kernel's sockets. Their paths must be short: https://man7.org/linux/man-pages/man7/unix.7.html."""
    _remove_abandoned()
    path = Path(tempfile.mkdtemp(prefix=_SOCKETS))
    write_atomically(path / _OWNER, json.dumps(asdict(this_process())))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _remove_abandoned() -> None:
    """Remove the folders that are left if this process and the one that executes were killed at the same time."""
    for left in Path(tempfile.gettempdir()).glob(f"{_SOCKETS}*"):
        try:
            owner = HostProcess(**json.loads((left / _OWNER).read_text()))
        except (OSError, TypeError, ValueError):  # of another user, or just being made or removed
            continue
        if owner.is_gone():
            shutil.rmtree(left, ignore_errors=True)


def _outcome(folder: Path) -> dict[str, Any] | None:
    try:
        outcome: dict[str, Any] = json.loads((folder / OUTCOME).read_text())
    except FileNotFoundError:
        return None
    return outcome


def _problem(outcome: Mapping[str, Any], executed: _Notebook) -> str | None:
    """Say why a notebook stopped by itself, in one line."""
    if "error" in outcome:
        name, value = outcome["error"]
        said = one_line(f"{name}: {value}" if value else name, _LONGEST_ERROR)
        return f"stopped {executed.place(outcome['cell'])}: {said}"
    if "dead" in outcome:
        return f"stopped {executed.place_at_work()}: {_ended(outcome['dead'], 'its kernel')}"
    if "problem" in outcome:
        return f"could not be executed: {one_line(outcome['problem'], _LONGEST_ERROR)}"
    return None


def _last_words(folder: Path) -> str:
    """Return the last line that the process printed, to be added to why it ended."""
    lines = (folder / LOG).read_bytes()[-_LONGEST_ERROR:].decode(errors="replace").split("\n")
    said = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return f", and said: {one_line(said, _LONGEST_ERROR)}" if said else ""


def _ended(status: int | None, what: str) -> str:
    if status is not None and status < 0:
        with suppress(ValueError):
            name = signal.Signals(-status).name
            why = ", as the system does when memory runs out" if name == "SIGKILL" else ""
            return f"{what} was killed by {name}{why}"
    return f"{what} ended"


class _Notebook:
    """The notebook as far as it was executed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._content: dict[str, Any] | None = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):  # killed before, or while it was written
            self._content = None

    @property
    def _cells(self) -> list[dict[str, Any]]:
        """The cells without those in which papermill shows an error, which it adds at the end."""
        cells = [] if self._content is None else self._content["cells"]
        return [cell for cell in cells if MARKER not in tags_of(cell)]

    def kept(self, source: Source) -> Path | None:
        """Return the path of the notebook without the places of this machine; None if it did not begin."""
        if self._content is None:
            return None
        about = self._content["metadata"].get("papermill", {})
        about |= {"input_path": source.path.name, "output_path": None}
        write_atomically(self._path, json.dumps(self._content, indent=1, ensure_ascii=False) + "\n")
        return self._path

    def output(self) -> dict[str, Any]:
        return outputs_in(self._cells)

    def place(self, index: int) -> str:
        """Say which cell one is: its place in the notebook, and its number at the execution."""
        cell = self._cells[index]
        if INJECTED in tags_of(cell):
            return "in its parameters"
        number = 1 + sum(INJECTED not in tags_of(before) for before in self._cells[:index])
        count = cell.get("execution_count")
        return f"in cell {number}" + (f" (In [{count}])" if count else "")

    def place_at_work(self) -> str:
        """Say which cell was at work last."""
        begun = [
            index for index, cell in enumerate(self._cells) if cell["metadata"].get("papermill", {}).get("start_time")
        ]
        return self.place(begun[-1]) if begun else "before its first cell"
