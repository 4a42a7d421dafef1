"""The folder of a job: what its program reads and writes.

====================  ================================================================================================
``request.json``      the request, with paths on the machine that runs the job
``inputs/``           the files named in the request, as hard links: replacing the original does not touch the job
``doing.txt``         what the program says it is doing, in one line
``log.txt``           what it printed
``outcome.json``      written by the program: the result; its ``files`` are relative paths by name
``error.txt``         written by the program: why there is no result, in one line
``result.json``       written by the worker, by rename, before it is reported: how the job ended, and the result with
                      the hash and the size of each of its files
====================  ================================================================================================

Which worker has a job is not here but in the database: :mod:`irp_pipeline.engines.leases`.

The program may write anything anywhere in the folder, so its content is untrusted: this module reads only files, a
bounded number of bytes, and nothing that PostgreSQL cannot store.
"""

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from irp_pipeline.engines.protocol import EngineError, JobPhase, is_inside_path
from irp_pipeline.files import write_atomically
from irp_pipeline.storable import UnstorableError, one_line, storable_text
from irp_pipeline.storable import read_json as storable_json
from irp_pipeline.store.job_files import END

if TYPE_CHECKING:
    import psutil

MARK: Final = "IRP_JOB_FOLDER"
"""Set in the environment of every process of a job, so that all of them can be found."""
REQUEST: Final = "request.json"
"""Written when a job begins, on the machine that runs it."""
LONGEST_MESSAGE: Final = 2000
"""The largest number of characters of the reason why a job failed."""

_KEY: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
_LOG_BYTES: Final = 16 * 2**20
_MOST_BYTES: Final = 64 * 2**20
_MOST_BYTES_OF_LINE: Final = 65_536
_HASHED_AT_ONCE: Final = 2**20


class UnreadableError(Exception):
    """A file of a job is not as it must be; the message names it and says why, in one line."""


def folder_of_job(jobs_folder: Path, key: str) -> Path:
    """Return the folder of a job.

    Raises:
        EngineError: the key cannot be the name of a folder.
    """
    if not _KEY.fullmatch(key):
        raise EngineError(f"{key!r} cannot be the key of a job: 1 to 100 letters, digits, '_' and '-'")
    return jobs_folder / key


def ended(phase: JobPhase, message: str | None, result: dict[str, Any] | None = None) -> dict[str, Any]:
    """Describe how a job ended, fit to be stored and shown."""
    said = None if message is None else one_line(message, LONGEST_MESSAGE)
    return {"phase": phase, "message": said, "result": result}


def write_end(folder: Path, end: Mapping[str, Any]) -> None:
    """Write how a job ended, as :func:`read_end` returns it."""
    path = folder / END
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    write_atomically(path, json.dumps(dict(end), indent=1))


def read_end(folder: Path) -> dict[str, Any] | None:
    """Return how a job ended; None if it has not, or if the file that says so is not ours.

    Returns:
        ``phase``, ``message`` and ``result``, as in :class:`irp_pipeline.engines.protocol.JobState`.
    """
    ended = read_json(folder / END)
    if ended is None:
        return None
    phase, message, result = ended.get("phase"), ended.get("message"), ended.get("result")
    if phase not in {JobPhase.FINISHED, JobPhase.FAILED, JobPhase.CANCELLED}:
        return None
    if not isinstance(message, str | None) or not isinstance(result, dict | None):
        return None
    return {"phase": phase, "message": message, "result": result}


def processes_of(folder: Path, mark: str = MARK) -> "Iterator[psutil.Process]":
    """The processes on this machine in whose environment the variable ``mark`` names a folder: those of a job."""
    import psutil

    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.environ().get(mark) == str(folder) and process.status() != psutil.STATUS_ZOMBIE:
                yield process


def kill_what_is_left(folder: Path) -> None:
    """Kill the processes of a job, and return when they are gone."""
    import psutil

    while left := list(processes_of(folder)):
        for process in left:
            with suppress(psutil.Error):
                process.kill()
        time.sleep(0.02)


def read_json(path: Path) -> dict[str, Any] | None:
    """Return the JSON object in a file of our own, or None if there is none."""
    try:
        return read_result(path)
    except UnreadableError:
        return None


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


def log_text(path: Path) -> str:
    """Return a log, fit to be shown; only the end of a long one, after a line that says so."""
    said, before = end_of_text(path, _LOG_BYTES)
    return f"[{before:,} bytes before this are in {path}]\n{said}" if before else said


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
