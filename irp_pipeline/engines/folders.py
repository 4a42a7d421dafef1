"""The folder of a job on this machine, and the queue and slots that its jobs share.

All state is files, so that it outlives whoever submits, and any number of processes may submit, look and cancel at
once:

=================  ====================================================================================================
``request.json``   the program, its limits and what is asked of it; written once, before the job is queued
``inputs/``        the files named in the request, as hard links: replacing the original does not touch the job
``lock``           locked by the supervisor as long as the job is at work
``started.json``   who supervises; there is at most one for each job, for a job is never begun twice
``doing.txt``      what the program says it is doing, in one line
``log.txt``        what it printed
``cancel``         somebody wants the job to end
``outcome.json``   written by the program: the result
``error.txt``      written by the program: why there is none, in one line
``result.json``    written by the supervisor, by rename: the end of the job, whatever it is
=================  ====================================================================================================

A job is never begun twice, whatever happens: once there is a ``started.json`` only its end can follow.
"""

import contextlib
import fcntl
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any, Final

from irp_pipeline import settings
from irp_pipeline.engines.protocol import JobPhase
from irp_pipeline.files import write_atomically
from irp_pipeline.worker import this_worker

MARK: Final = "IRP_JOB_FOLDER"
"""In the environment of every process of a job; it tells them from others wherever they went."""


def end(folder: Path, phase: JobPhase, message: str | None, result: dict[str, Any] | None = None) -> None:
    """Record the end of a job, for good. The caller holds its lock."""
    content = {"phase": phase, "message": message, "result": result, "ended": time.time()}
    write_atomically(folder / "result.json", json.dumps(content, indent=1))


def begin(folder: Path) -> None:
    """Record that this process supervises a job. The caller holds its lock, and nobody began it before."""
    write_atomically(folder / "started.json", json.dumps({"supervisor": asdict(this_worker()), "at": time.time()}))


def engine_folder(name: str) -> Path:
    """Return a folder that the jobs of all cycles share, made if it is missing."""
    folder = settings.make_irp_home() / "engine" / name
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder


def queue() -> Path:
    """Return the folder of the queue: a link to the folder of each job that has not begun, named by its key."""
    return engine_folder("queue")


def waiting() -> Iterator[Path]:
    """The entries of the queue, oldest first; those of deleted jobs leave."""
    entries: list[tuple[int, Path]] = []
    for entry in queue().iterdir():
        with suppress(FileNotFoundError):
            entries.append((entry.lstat().st_mtime_ns, entry))
    for _, entry in sorted(entries):
        if entry.exists():
            yield entry
        else:
            entry.unlink(missing_ok=True)


@contextmanager
def slot(patience: float = 0) -> Iterator[bool]:
    """Hold one of the slots, if one is free, or becomes so within some seconds; yields whether it is held."""
    deadline = time.monotonic() + patience
    with contextlib.ExitStack() as stack:
        while not (mine := any(stack.enter_context(_lock(path, patience=0)) for path in _slot_files())):
            if time.monotonic() >= deadline:
                break
            time.sleep(0.02)
        yield mine


def _slot_files() -> list[Path]:
    folder = engine_folder("slots")
    return [folder / f"{number}.lock" for number in range(settings.job_slots())]


def locked(folder: Path, patience: float) -> contextlib.AbstractContextManager[bool]:
    """Try for some seconds to lock a job for the block; yields whether it is."""
    return _lock(folder / "lock", patience)


@contextmanager
def _lock(path: Path, patience: float) -> Iterator[bool]:
    """Try to lock a file for the block; yields whether it is."""
    deadline = time.monotonic() + patience
    try:
        file: IO[bytes] = path.open("ab")
    except FileNotFoundError:  # the folder is gone
        yield False
        return
    with file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    yield False
                    return
                time.sleep(0.01)
        yield True


def kill_what_is_left(folder: Path) -> None:
    """Kill the processes of a job, and return when they are gone."""
    import psutil

    while True:
        left = False
        for process in psutil.process_iter():
            with suppress(psutil.Error, OSError):
                if process.environ().get(MARK) == str(folder) and process.status() != psutil.STATUS_ZOMBIE:
                    process.kill()
                    left = True
        if not left:
            return
        time.sleep(0.02)


def read_json(path: Path) -> dict[str, Any] | None:
    """Return the JSON object in a file, or None if there is none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def text(path: Path) -> str | None:
    """Return what a text file says, or None if there is none or it is empty."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip() or None
    except FileNotFoundError:
        return None
