"""The files of a job on this machine.

=========================  =========================================================================================
``platform_request.json``  the request, and the content of its settings file; written once
``inputs/``                the OED files, as hard links: replacing the original does not touch the job
``lock``                   locked by the process that drives the job
``cancel``                 a request to end the job
``seen.json``              the state that was last seen at the Platform, told while the Platform is away
``fetched/``               the files of a finished analysis while they are read; removed after that
``log.txt``                the log of the Platform
``results/``               the tables that are kept; they appear together
``result.json``            how the job ended, with the hash and the size of each result file; final
=========================  =========================================================================================
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from irp_pipeline.engines.folders import UnreadableError, read_json, read_result
from irp_pipeline.engines.inputs import link_inputs, named_files
from irp_pipeline.engines.protocol import EngineError, JobPhase, JobState
from irp_pipeline.files import lock_file, make_folder, write_atomically
from irp_pipeline.store import StoreError

REQUEST: Final = "platform_request.json"
CANCEL: Final = "cancel"
LOG: Final = "log.txt"


def write_request(folder: Path, request: Mapping[str, Any]) -> None:
    """Keep a request with all that it names, unless it is there.

    Files that are not on this machine are left out: another machine may have brought them to the Platform.

    Raises:
        EngineError: the folder cannot be written, or the settings file cannot be read.
    """
    if (folder / REQUEST).exists():
        return
    try:
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True, mode=0o700)
        cycle_folder = folder.parent.parent
        with suppress(EngineError, StoreError):
            link_inputs(request, cycle_folder, folder / "inputs")
        content = {"request": dict(request), "settings": _settings(request, cycle_folder)}
        write_atomically(folder / REQUEST, json.dumps(content, indent=1))
    except OSError as error:
        raise EngineError(f"The job cannot be written to {folder}: {error.strerror or error}") from error


def read_request(folder: Path) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Return the request of a job, and the content of its settings file, None if that was not on this machine."""
    content = json.loads((folder / REQUEST).read_text(encoding="utf-8"))
    return content["request"], content["settings"]


def ended(folder: Path) -> JobState | None:
    """Return how a job has ended; None if it has not."""
    try:
        content = read_result(folder / "result.json")
    except UnreadableError:
        return None
    return None if content is None else JobState(JobPhase(content["phase"]), content["message"], content["result"])


def see(folder: Path, state: JobState) -> JobState:
    """Remember a state that was seen at the Platform, and return it."""
    write_atomically(folder / "seen.json", json.dumps({"phase": state.phase, "message": state.message}))
    return state


def seen_at(folder: Path) -> float:
    """Return when a job was last seen at the Platform, as a timestamp; 0: never."""
    try:
        return (folder / "seen.json").stat().st_mtime
    except OSError:
        return 0.0


def is_new(folder: Path) -> bool:
    """Tell whether a job has neither been seen at the Platform nor ended."""
    return not seen_at(folder) and not (folder / "result.json").exists()


def last_seen(folder: Path) -> JobState:
    """Return the state that was last seen; a job that nobody saw there waits."""
    content = read_json(folder / "seen.json")
    return JobState(JobPhase.QUEUED) if content is None else JobState(JobPhase(content["phase"]), content["message"])


def _settings(request: Mapping[str, Any], cycle_folder: Path) -> dict[str, Any] | None:
    if not request["analysis"].get("settings"):
        return {}
    try:
        named = named_files(request, cycle_folder)["settings"]
    except (EngineError, StoreError, KeyError):
        return None
    try:
        content = json.loads(Path(named).read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise EngineError(f"The settings file {named} cannot be read as JSON: {error}") from None
    if not isinstance(content, dict):
        raise EngineError(f"The settings file {named} holds no JSON object")
    return content


@contextmanager
def sole_driver(folder: Path) -> Iterator[bool]:
    """Drive a job during the block, unless another process does; yield whether this one may."""
    lock = lock_file(folder / "lock") if folder.is_dir() else None
    try:
        yield lock is not None
    finally:
        if lock is not None:
            os.close(lock)
