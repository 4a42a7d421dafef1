"""The folder of a job on this machine, and the queue and slots that all jobs share.

All state is in files, so that it outlives the submitting process, and any number of processes can submit, track and
cancel jobs at once:

====================  ================================================================================================
``request.json``      the program, its limits and its request; written once, before the job is queued
``environment.json``  the environment of the program, from the process that submitted the job; it may contain secrets,
                      so it is removed as soon as the job begins or ends
``inputs/``           the files named in the request, as hard links: replacing the original does not touch the job
``lock``              locked by the supervisor as long as the job is at work
``started.json``      the supervisor; there is at most one for each job, since no job begins twice
``doing.txt``         what the program says it is doing, in one line
``log.txt``           what it printed
``cancel``            a request to end the job
``outcome.json``      written by the program: the result; its ``files`` are relative paths by name
``error.txt``         written by the program: why there is no result, in one line
``result.json``       written by the supervisor, by rename: how the job ended, and the result with the hash and the
                      size of each of its files
====================  ================================================================================================

A job never begins twice, whatever happens: once there is a ``started.json``, it can only end.

The program may write anything anywhere in the folder, so its content is untrusted: this module reads only files, a
bounded number of bytes, and nothing that PostgreSQL cannot store.
"""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any, Final

from irp_pipeline import settings
from irp_pipeline.engines.protocol import JobPhase, is_inside_path
from irp_pipeline.files import make_folder, write_atomically
from irp_pipeline.storable import UnstorableError, one_line, storable_text
from irp_pipeline.storable import read_json as storable_json
from irp_pipeline.worker import this_worker

MARK: Final = "IRP_JOB_FOLDER"
"""Set in the environment of every process of a job, so that all of them can be found."""
LONGEST_MESSAGE: Final = 2000
"""The largest number of characters of the reason why a job failed."""

_MOST_BYTES: Final = 64 * 2**20
_MOST_BYTES_OF_LINE: Final = 65_536
_HASHED_AT_ONCE: Final = 2**20
_ENVIRONMENT: Final = "environment.json"


class UnreadableError(Exception):
    """A file of a job is not as it must be; the message names it and says why, in one line."""


def end(folder: Path, phase: JobPhase, message: str | None, result: dict[str, Any] | None = None) -> None:
    """Record the end of a job, which is final. The caller holds its lock."""
    said = None if message is None else one_line(message, LONGEST_MESSAGE)
    content = {"phase": phase, "message": said, "result": result, "ended": time.time()}
    path = folder / "result.json"
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    write_atomically(path, json.dumps(content, indent=1))
    (folder / _ENVIRONMENT).unlink(missing_ok=True)


def begin(folder: Path) -> dict[str, str]:
    """Record that this process supervises a job. The caller holds its lock, and the job has not begun before.

    Returns:
        The environment of the process that submitted it; its file is removed.
    """
    environment = read_json(folder / _ENVIRONMENT) or {}
    write_atomically(folder / "started.json", json.dumps({"supervisor": asdict(this_worker()), "at": time.time()}))
    (folder / _ENVIRONMENT).unlink(missing_ok=True)
    return environment


def keep_environment(folder: Path, environment: dict[str, str]) -> None:
    """Keep the environment for a job until it begins; only the owner can read the folder."""
    write_atomically(folder / _ENVIRONMENT, json.dumps(environment))


def engine_folder(name: str) -> Path:
    """Return a folder that the jobs of all cycles share, made if it is missing."""
    return make_folder(settings.make_irp_home() / "engine" / name)


def queue() -> Path:
    """Return the folder of the queue: a link to the folder of each job that has not begun."""
    return engine_folder("queue")


def queue_entry(folder: Path) -> Path:
    """Return the place of a job in the queue; jobs of two schemas may have the same key after a restore."""
    return queue() / f"{folder.name}-{hashlib.sha256(os.fsencode(folder.absolute())).hexdigest()[:12]}"


def waiting() -> Iterator[Path]:
    """The entries of the queue, oldest first; those of deleted jobs are removed."""
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
    """Hold one of the slots, if one is free or becomes free within some seconds; yield whether one is held."""
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
    """Try for some seconds to lock a job for the block; yield whether it is locked."""
    return _lock(folder / "lock", patience)


@contextmanager
def _lock(path: Path, patience: float) -> Iterator[bool]:
    """Try to lock a file for the block; yield whether it is locked."""
    deadline = time.monotonic() + patience
    try:
        file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+b")
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
    """Return the JSON object in a file of our own, or None if there is none."""
    try:
        content = json.loads(read_bytes(path, _MOST_BYTES) or b"")
    except (UnreadableError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def read_result(path: Path) -> dict[str, Any] | None:
    """Return the JSON object that a program wrote; None if there is no such file.

    Raises:
        UnreadableError: it is something else, or PostgreSQL cannot store it.
    """
    content = read_bytes(path, _MOST_BYTES)
    if content is None:
        return None
    try:
        value = storable_json(content)
    except UnstorableError as error:
        raise UnreadableError(f"{path.name}: {error}") from None
    if not isinstance(value, dict):
        raise UnreadableError(f"{path.name}: It is not an object but a {type(value).__name__}")
    return value


def result_file(folder: Path, path: str) -> dict[str, Any]:
    """Describe a result file of a job, as it is in :attr:`irp_pipeline.engines.protocol.JobState.result`.

    Args:
        folder: the job's folder.
        path: the file, relative to it.

    Returns:
        ``path``, ``sha256`` in hex and ``bytes``.

    Raises:
        UnreadableError: there is no such file in the folder; the message continues after the path.
    """
    file = folder / path
    if not is_inside_path(path) or not file.resolve().is_relative_to(folder.resolve()):
        raise UnreadableError("which is not inside of the job's folder")
    if not file.is_file():
        raise UnreadableError("and there is no such file")
    digest, size = hashlib.sha256(), 0
    try:
        with file.open("rb") as content:
            while chunk := content.read(_HASHED_AT_ONCE):
                digest.update(chunk)
                size += len(chunk)
    except OSError as error:
        raise UnreadableError(f"which cannot be read: {error.strerror}") from None
    return {"path": path, "sha256": digest.hexdigest(), "bytes": size}


def text(path: Path) -> str | None:
    """Return the content of a text file in one line, or None if there is no file, or nothing readable in it."""
    try:
        content = read_bytes(path, _MOST_BYTES_OF_LINE, whole=False)
    except UnreadableError:
        return None
    return one_line((content or b"").decode("utf-8", errors="replace"), LONGEST_MESSAGE).strip() or None


def end_of_text(path: Path, most_bytes: int) -> tuple[str, int]:
    """Return the end of a text file, fit to be stored and shown, and how many bytes come before it."""
    try:
        with contextlib.closing(_opened(path)) as file:
            before = max(0, file.seek(0, os.SEEK_END) - most_bytes)
            file.seek(before)
            content = file.read(most_bytes).decode("utf-8", errors="replace")
    except (FileNotFoundError, UnreadableError):
        return "", 0
    return storable_text(content.replace("\0", "").replace("\r\n", "\n").replace("\r", "\n")), before


def read_bytes(path: Path, most: int, whole: bool = True) -> bytes | None:
    """Return the bytes of a file, or None if there is none.

    Args:
        path: the file.
        most: how many bytes to read.
        whole: refuse a longer file, instead of reading only its beginning.

    Raises:
        UnreadableError: it is not a file, or it is longer.
    """
    try:
        with contextlib.closing(_opened(path)) as file:
            size = os.fstat(file.fileno()).st_size
            if whole and size > most:
                raise UnreadableError(f"{path.name} has {size:,} bytes, more than {most:,}")
            return file.read(most)
    except FileNotFoundError:
        return None


def _opened(path: Path) -> IO[bytes]:
    """Open a file in a job's folder for reading; refuse anything that would block, or lead elsewhere."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise
    except OSError as error:
        reason = "it is a link" if error.errno == errno.ELOOP else error.strerror
        raise UnreadableError(f"{path.name} cannot be read: {reason}") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise UnreadableError(f"{path.name} is not a file")
    return os.fdopen(descriptor, "rb")
