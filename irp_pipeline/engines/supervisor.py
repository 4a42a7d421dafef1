"""Supervising jobs: ``python -m irp_pipeline.engines.supervisor`` takes a slot and works through the queue.

The oldest job comes first, and the supervisor ends when the queue is empty. There are never more supervisors than
slots, so a thousand waiting jobs cost a thousand small files and no process. If a supervisor is killed, its job counts
as lost, and the next process that tracks jobs starts another supervisor for the queue.
"""

import os
import signal
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from irp_pipeline.engines.environment import of_this_project
from irp_pipeline.engines.folders import (
    MARK,
    UnreadableError,
    begin,
    end,
    end_of_text,
    kill_what_is_left,
    locked,
    read_json,
    read_result,
    result_file,
    slot,
    text,
    waiting,
)
from irp_pipeline.engines.local import Limits, ensure_supervisor
from irp_pipeline.engines.protocol import JobPhase

_LOOKERS_PATIENCE_SECONDS: Final = 1.0
_POLL_SECONDS: Final = 0.2
_CHECK_SECONDS: Final = 2.0
_HEARTBEAT_SECONDS: Final = 5.0
_LAST_WORDS_BYTES: Final = 65_536
_LONGEST_LAST_WORDS: Final = 500


def supervise() -> None:
    """Take a free slot and run queued jobs until there are none; return at once if no slot is free."""
    while True:
        with slot(_LOOKERS_PATIENCE_SECONDS) as mine:
            if not mine:
                return
            while _run_next():
                pass
        if not any(waiting()):  # a process that has just queued a job may have found all slots taken
            return


def _run_next() -> bool:
    """Run the oldest job that no other supervisor runs; return whether there was one."""
    for entry in waiting():
        folder = entry.readlink()
        with locked(folder, patience=_LOOKERS_PATIENCE_SECONDS) as mine:
            if not mine:
                continue
            if (folder / "started.json").exists() or (folder / "result.json").exists():
                entry.unlink(missing_ok=True)
                continue
            if (folder / "cancel").exists():
                end(folder, JobPhase.CANCELLED, "It was cancelled before it began")
                entry.unlink(missing_ok=True)
                continue
            environment = begin(folder)
            entry.unlink(missing_ok=True)
            if any(waiting()):
                ensure_supervisor()
            _run(folder, environment)
            return True
    return False


def _run(folder: Path, environment: Mapping[str, str]) -> None:
    content = read_json(folder / "request.json")
    try:
        program, limits = list((content or {})["program"]), Limits(**(content or {})["limits"])
    except (KeyError, TypeError):
        end(folder, JobPhase.FAILED, "request.json is not what was submitted")
        return
    with (folder / "log.txt").open("ab") as log:
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
            end(folder, JobPhase.FAILED, f"The program cannot be started: {error}")
            return
        stopped = _watch(folder, process, limits)
        kill_what_is_left(folder)
        process.wait()
    if stopped is not None:
        end(folder, *stopped)
    else:
        end(folder, *_outcome(folder, process.returncode))


def _watch(folder: Path, process: subprocess.Popen[bytes], limits: Limits) -> tuple[JobPhase, str] | None:
    """Wait until a job ends by itself (return None), or return why it must be ended."""
    began = last_check = last_heartbeat = time.monotonic()
    while True:
        with suppress(subprocess.TimeoutExpired):
            process.wait(_POLL_SECONDS)
            return None
        now = time.monotonic()
        if (folder / "cancel").exists():
            return JobPhase.CANCELLED, "It was cancelled while it ran"
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
        if now - last_heartbeat > _HEARTBEAT_SECONDS:
            last_heartbeat = now
            with suppress(FileNotFoundError):
                os.utime(folder / "started.json")


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


if __name__ == "__main__":
    supervise()
