"""Removing files that no record refers to: those of dead steps, of jobs that are no longer recorded, of deleted cycles.

Only files that the pipeline itself makes, in folders that it made, are removed. Workbooks, sources and all other files
in a cycle's folder stay, even if the cycle was deleted. Files that changed within a grace time, and files of a step or
job at work, also stay. Works in the schema of :mod:`irp_pipeline.helpers.db_context`.
"""

from __future__ import annotations

import os
import shutil
import time
from collections import defaultdict
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from irp_pipeline import settings, store
from irp_pipeline.cycle_files import (
    ATTRIBUTION,
    CURVES,
    EXPOSURE,
    EXTRACTS,
    JOBS,
    NOTEBOOKS,
    PORTFOLIOS,
    REPEATS,
    REPORT,
    RESULTS,
    SCRATCH,
)
from irp_pipeline.engines.folders import processes_of
from irp_pipeline.errors import IrpError
from irp_pipeline.helpers.cycle_lookup import list_cycle_names
from irp_pipeline.helpers.db_context import get_current_schema
from irp_pipeline.helpers.lost_runs import LEASE_SECONDS
from irp_pipeline.operations.swap import refuse_while_swapping
from irp_pipeline.postgres.running import fetch_all

GRACE_HOURS: Final = 24.0
"""Files that changed within this time are never removed."""

_MADE: Final = (EXTRACTS, PORTFOLIOS, EXPOSURE, CURVES, RESULTS, ATTRIBUTION, REPEATS, REPORT, NOTEBOOKS)


class PruneError(IrpError):
    """Files cannot be pruned as asked."""


class Reason(StrEnum):
    """Why a folder can be removed."""

    SCRATCH = "scratch of a dead step"
    JOB = "job not on record"
    CYCLE = "cycle not on record"
    VERSION = "earlier version in the store"


@dataclass(frozen=True)
class Prunable:
    """A folder that can be removed.

    Attributes:
        path: where it is.
        cycle: the cycle whose folder it is in.
        reason: why it can be removed.
        files: how many files it has.
        bytes: how much space its removal frees.
        changed: when something in it last changed, in seconds since 1970.
        stored: the files in the store of files that it stands for; empty for a folder on this machine.
    """

    path: Path
    cycle: str
    reason: Reason
    files: int
    bytes: int
    changed: float
    stored: tuple[store.PublishedFile, ...] = ()


def find_prunable(cycles: Collection[str] = (), grace_hours: float = GRACE_HOURS) -> list[Prunable]:
    """Return what can be removed, in the order of the paths, without removing it.

    Args:
        cycles: only in the folders of these cycles, recorded or not; empty means all.
        grace_hours: what changed within this time stays.

    Raises:
        PruneError: a cycle has neither a record nor a folder; or no cycles were named, and no folder belongs to a
            recorded cycle: this may be the wrong database.
        BackupError: a restore of the schema is unfinished.
        DatabaseError: the database refuses or is away.
        OSError: a folder cannot be read.
    """
    schema = get_current_schema()
    refuse_while_swapping(schema)
    root = settings.cycles_dir(schema)
    # Folders first, then records: a folder made in between is either recorded or was not seen.
    folders = {path.name: path for path in _folders_in(root) if not cycles or path.name in cycles}
    found = [(path, name, part) for name, folder in folders.items() for path, part in _parts(folder)]
    known = set(list_cycle_names())
    published = list(_published(schema, cycles)) if store.is_elsewhere() else []
    _check_names(cycles, known, {*folders, *(cycle for cycle, _ in published)}, root)
    jobs = _job_folders()
    at_work = _scratch_in_use()
    latest = time.time() - grace_hours * 3600
    prunable = []
    for path, cycle, part in sorted(found):
        reason = _reason(path, cycle, part, known, jobs, at_work)
        candidate = _measured(path, cycle, reason) if reason is not None else None
        if candidate is not None and candidate.changed <= latest:
            prunable.append(candidate)
    return prunable + _unrecorded(published, set(cycles) or known, known, jobs, latest)


def prune(shown: Collection[Prunable], grace_hours: float = GRACE_HOURS) -> list[Prunable]:
    """Remove what was found, if it can still be removed; return what was removed.

    Args:
        shown: what :func:`find_prunable` returned.
        grace_hours: what changed within this time stays.

    Raises:
        PruneError, BackupError, DatabaseError: as :func:`find_prunable`.
        OSError: something cannot be removed.
    """
    if not shown:
        return []
    wanted = {(candidate.path, candidate.reason) for candidate in shown}
    still = find_prunable({candidate.cycle for candidate in shown}, grace_hours)
    return [candidate for candidate in still if (candidate.path, candidate.reason) in wanted and _remove(candidate)]


def _published(schema: str, cycles: Collection[str]) -> Iterator[tuple[str, store.PublishedFile]]:
    """Yield the files of cycles in the store, each with its cycle."""
    for folder in [f"{schema}/{cycle}" for cycle in cycles] or [schema]:
        for file in store.list_published(folder):
            yield file.key.split("/")[1], file


def _unrecorded(
    published: Collection[tuple[str, store.PublishedFile]],
    wanted: set[str],
    known: set[str],
    jobs: set[tuple[str, str]],
    latest: float,
) -> list[Prunable]:
    """Return the files in the store that no record names, by cycle and reason.

    Cycles that are not on record are left alone unless they are wanted: another database may have them.
    """
    recorded = _recorded_versions()
    found: dict[tuple[str, Reason], list[store.PublishedFile]] = defaultdict(list)
    for cycle, file in published:
        key = file.key.split("/", 2)[2]
        part, _, rest = key.partition("/")
        is_recorded = (cycle, rest.split("/")[0]) in jobs if part == JOBS else (cycle, key, file.sha256) in recorded
        if cycle in wanted and not is_recorded and file.changed <= latest:
            reason = Reason.CYCLE if cycle not in known else Reason.JOB if part == JOBS else Reason.VERSION
            found[cycle, reason].append(file)
    return [
        Prunable(
            settings.cycles_dir(get_current_schema()) / cycle / store.PUBLISHED,
            cycle,
            reason,
            len(files),
            sum(file.bytes for file in files),
            max(file.changed for file in files),
            tuple(files),
        )
        for (cycle, reason), files in sorted(found.items())
    ]


def _recorded_versions() -> set[tuple[str, str, str]]:
    """Return cycle, key and hash of the files that the newest completed run of each step wrote."""
    rows = fetch_all(
        """
        SELECT c.cycle_name, a.artefact_key, a.sha256
          FROM irp_cycle c
          JOIN irp_stage sg ON sg.cycle_id = c.id
          JOIN irp_step st ON st.stage_id = sg.id
          JOIN LATERAL (SELECT id FROM irp_step_run
                         WHERE step_id = st.id AND status = 'COMPLETED' ORDER BY run_num DESC LIMIT 1) done ON true
          JOIN irp_artefact a ON a.step_run_id = done.id
        """
    )
    return {(row["cycle_name"], row["artefact_key"], row["sha256"]) for row in rows}


def _parts(folder: Path) -> Iterator[tuple[Path, str]]:
    """Yield the folders that the pipeline made in a cycle's folder, each with what it is a part of."""
    for part in (SCRATCH, JOBS):
        for path in _folders_in(folder / part):
            yield path, part
    for part in _MADE:
        if (folder / part).is_dir() and not (folder / part).is_symlink():
            yield folder / part, part


def _reason(
    path: Path, cycle: str, part: str, known: set[str], jobs: set[tuple[str, str]], at_work: set[str]
) -> Reason | None:
    if part == SCRATCH:
        return None if path.name in at_work else Reason.SCRATCH
    if part == JOBS:
        if (cycle, path.name) in jobs or _is_at_work(path):
            return None
        return Reason.JOB if cycle in known else Reason.CYCLE
    return None if cycle in known else Reason.CYCLE


def _is_at_work(folder: Path) -> bool:
    """Tell whether a job runs on this machine, whatever the records say."""
    return next(processes_of(folder), None) is not None


def _measured(path: Path, cycle: str, reason: Reason) -> Prunable | None:
    """Measure a folder; None if it no longer exists. Files with other hard links elsewhere free no space."""
    try:
        files, size, changed = 0, 0, path.stat().st_ctime
    except FileNotFoundError:
        return None
    for root, folders, names in os.walk(path):
        for name in (*folders, *names):
            with suppress(FileNotFoundError):
                status = Path(root, name).lstat()
                changed = max(changed, status.st_ctime, status.st_mtime)
                if name in names:
                    files += 1
                    size += status.st_size if status.st_nlink == 1 else 0
    return Prunable(path, cycle, reason, files, size, changed)


def _remove(candidate: Prunable) -> bool:
    if candidate.stored:
        for file in candidate.stored:
            store.remove(file.key, file.sha256)
        return True
    above = candidate.path.parent
    if above.name == JOBS and _is_at_work(candidate.path):
        return False
    shutil.rmtree(candidate.path)
    # Also the folder of all jobs or scratch spaces, and that of a deleted cycle, if they are now empty.
    with suppress(OSError):
        while above != settings.cycles_dir(get_current_schema()):
            above.rmdir()
            above = above.parent
    return True


def _check_names(cycles: Collection[str], known: set[str], folders: Collection[str], root: Path) -> None:
    for name in cycles:
        if name not in known and name not in folders:
            raise PruneError(f"There is no cycle {name!r} on record, and no folder of that name in {root}")
    if not cycles and folders and known.isdisjoint(folders):
        raise PruneError(
            f"No folder in {root} belongs to a cycle on record: {settings.describe_database()} may not be the database "
            "of these files. If it is, name the cycles whose files are to go"
        )


def _job_folders() -> set[tuple[str, str]]:
    rows = fetch_all(
        """
        SELECT c.cycle_name, j.job_key
          FROM irp_job j
          JOIN irp_batch b ON b.id = j.batch_id
          JOIN irp_configuration f ON f.id = b.configuration_id
          JOIN irp_cycle c ON c.id = f.cycle_id
        """
    )
    return {(row["cycle_name"], row["job_key"]) for row in rows}


def _scratch_in_use() -> set[str]:
    """Return the names of the scratch spaces of the steps that hold a lease."""
    rows = fetch_all(
        """
        SELECT step_id || '-' || lease_token AS name FROM irp_step_run
         WHERE tracked AND status = 'ACTIVE' AND heartbeat_ts > clock_timestamp() - make_interval(secs => %s)
        """,
        (LEASE_SECONDS,),
    )
    return {row["name"] for row in rows}


def _folders_in(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.is_symlink())
