"""Running the program of a job: in its own session, within its limits, with nothing left behind.

How it ended is written to the job's folder before anybody hears of it: a computation that was finished stays finished,
whatever happens to the worker or the database.
"""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from irp_pipeline.engines.environment import of_this_project
from irp_pipeline.engines.folders import (
    MARK,
    REQUEST,
    UnreadableError,
    end_of_text,
    ended,
    kill_what_is_left,
    read_result,
    result_file,
    text,
    write_end,
)
from irp_pipeline.engines.limits import Limits
from irp_pipeline.engines.protocol import JobPhase
from irp_pipeline.files import write_atomically

Ending = tuple[JobPhase, str]
"""Why a job is to be ended: the phase that it then has, and the reason in one line."""

_POLL_SECONDS: Final = 0.2
_CHECK_SECONDS: Final = 2.0
_LAST_WORDS_BYTES: Final = 65_536
_LONGEST_LAST_WORDS: Final = 500


def run_program(
    folder: Path,
    program: Sequence[str],
    limits: Limits,
    environment: Mapping[str, str],
    request: Mapping[str, Any],
    to_end: Callable[[], Ending | None] = lambda: None,
) -> dict[str, Any]:
    """Run the program of a job until it ends, and keep how it ended in the job's folder.

    Args:
        folder: the job's folder, with its inputs.
        program: the command; the folder becomes its last argument and its working folder.
        limits: what it may use.
        environment: its variables.
        request: what it finds in ``request.json``.
        to_end: asked several times a second; if it returns a reason, the job is ended.

    Returns:
        How it ended: ``phase``, ``message`` and ``result``, as in :class:`irp_pipeline.engines.protocol.JobState`.

    Raises:
        OSError: the job's folder cannot be written.
    """
    content = {"program": list(program), "limits": asdict(limits), "request": dict(request)}
    write_atomically(folder / REQUEST, json.dumps(content, indent=1))
    end = _run(folder, program, limits, environment, to_end)
    write_end(folder, end)
    return end


def _run(
    folder: Path,
    program: Sequence[str],
    limits: Limits,
    environment: Mapping[str, str],
    to_end: Callable[[], Ending | None],
) -> dict[str, Any]:
    with open(folder / "log.txt", "ab", opener=_for_its_owner) as log:
        try:
            process = subprocess.Popen(  # noqa: S603 - the command is this project's own
                [*program, str(folder)],
                cwd=folder,
                env={**environment, **of_this_project(), MARK: str(folder)},
                umask=0o077,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            return ended(JobPhase.FAILED, f"The program cannot be started: {error}")
        try:
            stopped = _watch(folder, process, limits, to_end)
        finally:
            kill_what_is_left(folder)
            process.wait()
    return ended(*stopped) if stopped is not None else ended(*_outcome(folder, process.returncode))


def _for_its_owner(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _watch(
    folder: Path, process: subprocess.Popen[bytes], limits: Limits, to_end: Callable[[], Ending | None]
) -> Ending | None:
    """Wait until a job ends by itself (return None), or return why it must be ended."""
    began = last_check = time.monotonic()
    while True:
        with suppress(subprocess.TimeoutExpired):
            process.wait(_POLL_SECONDS)
            return None
        now = time.monotonic()
        if reason := to_end():
            return reason
        if now - began > limits.seconds:
            return JobPhase.FAILED, f"It ran longer than its limit of {_duration(limits.seconds)} (IRP_JOB_HOURS)"
        if now - last_check > _CHECK_SECONDS:
            last_check = now
            if _size(folder) > limits.disk_bytes:
                gigabytes = limits.disk_bytes / 1e9
                return JobPhase.FAILED, f"Its folder grew beyond its limit of {gigabytes:g} GB (IRP_JOB_DISK_GB)"
            if limits.memory_bytes is not None and _memory(process.pid) > limits.memory_bytes:
                gigabytes = limits.memory_bytes / 1e9
                return JobPhase.FAILED, f"It used more memory than its limit of {gigabytes:g} GB (IRP_JOB_MEMORY_GB)"


def _outcome(folder: Path, exit_status: int) -> tuple[JobPhase, str | None, dict[str, Any] | None]:
    if exit_status == 0:
        try:
            result = read_result(folder / "outcome.json")
            if result is not None and "files" in result:
                result = {**result, "files": _hashed_files(folder, result["files"])}
        except UnreadableError as error:
            return JobPhase.FAILED, f"Its program ended well, but left an unusable result: {error}", None
        if result is not None:
            return JobPhase.FINISHED, None, result
        return JobPhase.FAILED, "Its program ended well but left no result", None
    said = text(folder / "error.txt")
    if said is None and exit_status < 0:
        return JobPhase.FAILED, f"Its program was killed by {_signal_name(-exit_status)}", None
    said = said or _last_line(folder / "log.txt") or "it said nothing"
    return JobPhase.FAILED, said, None


def _hashed_files(folder: Path, named: object) -> dict[str, dict[str, Any]]:
    """Describe the result files that a program lists by name and relative path.

    Raises:
        UnreadableError: one of them is missing, or not a file in the job's folder.
    """
    if not isinstance(named, dict):
        raise UnreadableError(f"outcome.json: files is not an object but a {type(named).__name__}")
    files = {}
    for name, path in named.items():
        if not isinstance(path, str):
            raise UnreadableError(f"outcome.json: files.{name} is not a path but a {type(path).__name__}")
        try:
            files[name] = result_file(folder, path)
        except UnreadableError as error:
            raise UnreadableError(f"outcome.json: files.{name} is {path!r}, {error}") from None
    return files


def _size(folder: Path) -> int:
    total = 0
    for root, _, files in os.walk(folder):
        for name in files:
            with suppress(FileNotFoundError):
                found = (Path(root) / name).lstat()
                total += found.st_blocks * 512 if found.st_nlink == 1 else 0
    return total


def _memory(pid: int) -> int:
    """The memory of a process and its descendants in bytes; shared memory is divided among them."""
    import psutil

    total = 0
    with suppress(psutil.Error):
        program = psutil.Process(pid)
        for process in (program, *program.children(recursive=True)):
            with suppress(psutil.Error):
                memory = process.memory_full_info()
                total += getattr(memory, "pss", memory.rss)  # only Linux has the proportional set size
    return total


def _last_line(path: Path) -> str | None:
    """The last line of a log that is not empty."""
    said, _ = end_of_text(path, _LAST_WORDS_BYTES)
    lines = ("".join(filter(str.isprintable, line)).strip() for line in reversed(said.splitlines()))
    return next((line[:_LONGEST_LAST_WORDS] for line in lines if line), None)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # one of the real-time signals between the first and the last
        return f"signal {number}"


def _duration(seconds: float) -> str:
    return f"{seconds / 3600:g} h" if seconds >= 3600 else f"{seconds:g} s"
