"""Compiling Oasis LMF before a job. Without this, each of its tools compiles itself when it first runs.

Tools that compile at the same time obstruct each other, and jobs that run at the same time would do the same work
twice. So one process compiles the parts that a job needs before the job, for all jobs of this environment, a few at a
time. A part that fails or takes too long is tried once more, and then left to the first run: it never fails a job.
"""

import fcntl
import hashlib
import json
import os
import platform
import stat
import subprocess
import sys
import time
from collections.abc import Collection, Iterable
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

from irp_pipeline import settings
from irp_pipeline.engines.program import say
from irp_pipeline.files import write_atomically
from irp_pipeline.vocabulary import Perspective

PART_SECONDS: Final = 900.0
"""How long one part may take before it is left to the first run."""

_TRIES: Final = 2
_POLL_SECONDS: Final = 0.2
_TOLD_EVERY_SECONDS: Final = 2.0
_USUAL_SECONDS: Final = {"terms": 75.0, "kernel": 40.0, "curves": 20.0, "averages": 12.0, "summaries": 6.0}
_USUAL_OTHER_SECONDS: Final = 8.0
_OF_OASIS: Final = {
    "summaries": "summarypy",
    "averages": "aalpy",
    "period losses": "pltpy",
    "event losses": "eltpy",
    "tables": "katpy",
    "amplification": "plapy",
}
"""The name of a part here, and in ``oasislmf.warmup.ALL_SILENT_TASKS``."""
_ONE_TASK: Final = "from oasislmf import warmup; warmup.ALL_SILENT_TASKS[{task!r}]()"
# Oasis LMF's own task for the kernel also compiles two tools that it no longer uses for models by default.
_KERNEL: Final = """
import pathlib, tempfile
from oasislmf import warmup as w
with tempfile.TemporaryDirectory() as folder:
    work = pathlib.Path(folder) / "work"
    for name in ("correlations", "coverages", "events", "items", "damage_bin_dict", "footprint", "footprint_idx",
                 "vulnerability"):
        path = getattr(w, name + "_rel_path")
        w._copy_rel_path(w._DATA_DIR / path, work / path)
    events = pathlib.Path(folder) / "events"
    w._run_stage(["evepy", "1", "1"], stdout_path=events, cwd=work, timeout=3600)
    w._run_stage(["gulmc", "-a1", "-S1", "-L0", "--random-generator=2"], stdin_path=events, cwd=work, timeout=3600)
"""
# Oasis LMF's own task for terms also compiles step policies, which takes half as long again; few portfolios have them.
_TERMS: Final = """
import tempfile
from oasislmf import warmup as w
from oasislmf.computation.run.exposure import RunExposure
with tempfile.TemporaryDirectory() as folder:
    RunExposure(src_dir=str(w._DATA_DIR / "fmpy" / "Q1_1"), run_dir=folder, loss_factor=[1.0], output_level="port",
                output_file=folder + "/losses.csv", fmpy_sort_output=True, kernel_alloc_rule_il=2,
                kernel_alloc_rule_ri=2, intermediary_csv=True, model_perils_covered=["WTC"]).run()
"""
# Oasis LMF's own task for curves compiles six more kinds of curves.
_CURVES: Final = """
import pathlib, tempfile
from oasislmf import warmup as w
from oasislmf.pytools.lec.manager import main
with tempfile.TemporaryDirectory() as folder:
    work = pathlib.Path(folder) / "work"
    for path in (w.occurrence_rel_path, w.periods_rel_path, w.returnperiods_rel_path, w.summary_rel_path):
        w._copy_rel_path(w._DATA_DIR / path, work / path)
    main(run_dir=work, subfolder="gul", use_return_period=True, agg_full_uncertainty=True, occ_full_uncertainty=True,
         ept=work / "ept.csv", ext="csv")
"""
_LOOKUPS: Final = "lookup_*/builtin.*.locals.*.nb[ic]"
_OWN_PROGRAMS: Final = {"kernel": _KERNEL, "terms": _TERMS, "curves": _CURVES}


def forget_lookups() -> None:
    """Remove the compiled functions that find the cell of a location in a grid; call it before each run.

    Oasis LMF 2.5.8 compiles such a function anew in each run, since it holds the numbers of the grid. Each run adds
    one, and none is used again. With some dozens of them, Numba 0.68.1 could no longer write their list, and every run
    ended with ``ReferenceError: underlying object has vanished`` (seen after 65 runs). Runs at the same time lose
    nothing: Numba takes a missing file for one that was not written yet.
    """
    for path in compiled_folder().glob(_LOOKUPS):
        path.unlink(missing_ok=True)


def parts_of_deterministic() -> tuple[str, ...]:
    """The parts that deterministic losses need."""
    return ("terms",)


def parts_of_stochastic(
    perspectives: Collection[str], event_losses: bool, period_losses: bool, multiplied: bool = False
) -> tuple[str, ...]:
    """The parts that an analysis with a model needs, the slowest first."""
    wanted = ["terms"] if set(perspectives) & {Perspective.IL, Perspective.RI} else []
    wanted += ["kernel", "curves", "averages", "summaries"]
    if period_losses:
        wanted.append("period losses")
    if event_losses:
        wanted.append("event losses")
    if multiplied:
        wanted.append("amplification")
    return tuple(wanted)


def compiled_folder() -> Path:
    """Return the folder of compiled code, made if it is missing.

    ``NUMBA_CACHE_DIR`` names it. By default, each Python environment has one in the user's cache folder, which all
    checkouts, demonstrations and tests of the environment share. Compiled code is executed, so a folder that others
    can write to is not used; one in ``IRP_HOME`` is used instead.
    """
    if chosen := os.environ.get("NUMBA_CACHE_DIR"):
        folder = Path(chosen)
        folder.mkdir(parents=True, exist_ok=True)
        return folder
    roots = [settings.make_irp_home() / "engine"]
    with suppress(RuntimeError):  # a user without a home, as in containers
        roots.insert(0, Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "irp-pipeline")
    environment = hashlib.sha256(sys.prefix.encode()).hexdigest()[:12]
    for root in roots:
        folder = root / "compiled" / environment
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            found = folder.stat()
            is_ours = found.st_uid == os.geteuid() and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
            if is_ours and os.access(folder, os.W_OK | os.X_OK):
                return folder
    return folder


def compile_parts(folder: Path, parts: Iterable[str]) -> list[str]:
    """Compile the parts that are not compiled yet; other jobs wait until this is done.

    Args:
        folder: the job's folder, where progress is written.
        parts: the parts that are needed, the slowest first.

    Returns:
        What went wrong, for the log. The run itself compiles those parts.
    """
    if os.environ.get("NUMBA_DISABLE_JIT") == "1":
        return []
    cache = compiled_folder()
    wanted = list(parts)
    if not _missing(cache, wanted):
        return []
    say(folder, "waits for another job, which compiles the engine")
    with (cache / "compiling.lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return _Compilation(folder, cache, _missing(cache, wanted)).run()


def _missing(cache: Path, parts: Iterable[str]) -> list[str]:
    return [part for part in parts if not _mark(cache, part).exists()]


def _mark(cache: Path, part: str) -> Path:
    # The cache also depends on the paths of the sources.
    place = hashlib.sha256(sys.prefix.encode()).hexdigest()[:12]
    versions = f"{_version('oasislmf')}-{_version('numba')}-{platform.python_version()}"
    return cache / f"compiled-{part.replace(' ', '-')}-{versions}-{place}"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"


class _Compilation:
    """A compilation of some parts, as many at a time as there are processors."""

    def __init__(self, folder: Path, cache: Path, parts: list[str]) -> None:
        self._folder = folder
        self._cache = cache
        self._waiting = [(part, 1) for part in parts]
        self._count = len(parts)
        self._running: dict[str, tuple[subprocess.Popen[bytes], float, int]] = {}
        self._done: dict[str, float] = {}
        self._wrong: list[str] = []
        self._seconds = _USUAL_SECONDS | self._read_seconds()
        self._told = 0.0

    def run(self) -> list[str]:
        """Compile, and return what went wrong."""
        try:
            while self._waiting or self._running:
                while self._waiting and len(self._running) < (os.cpu_count() or 1):
                    self._start(*self._waiting.pop(0))
                self._tell()
                time.sleep(_POLL_SECONDS)
                for part in list(self._running):
                    self._look(part)
        finally:
            for process, _, _ in self._running.values():
                process.kill()
        write_atomically(self._cache / "seconds.json", json.dumps(self._seconds))
        return self._wrong

    def _start(self, part: str, attempt: int) -> None:
        temporary = self._folder / "tmp"
        temporary.mkdir(exist_ok=True)
        commands = Path(sys.executable).parent
        environment = os.environ | {
            "PATH": f"{commands}{os.pathsep}{os.environ.get('PATH', '')}",
            "NUMBA_CACHE_DIR": str(self._cache),
            "OASIS_TMPDIR": str(temporary),
            "TMPDIR": str(temporary),
            "PYTHONWARNINGS": "ignore",
        }
        program = _OWN_PROGRAMS.get(part) or _ONE_TASK.format(task=_OF_OASIS[part])
        with (self._folder / f"compiling-{part.replace(' ', '-')}.txt").open("wb") as said:
            process = subprocess.Popen(  # noqa: S603 - the program is the one above
                [sys.executable, "-c", program],
                cwd=self._folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
            )
        self._running[part] = (process, time.monotonic(), attempt)

    def _look(self, part: str) -> None:
        process, began, attempt = self._running[part]
        took = time.monotonic() - began
        status = process.poll()
        if status is None:
            if took <= PART_SECONDS:
                return
            process.kill()
            process.wait()
        del self._running[part]
        said = self._folder / f"compiling-{part.replace(' ', '-')}.txt"
        if status == 0:
            said.unlink(missing_ok=True)
            _mark(self._cache, part).touch()
            self._done[part] = took
            self._seconds[part] = round(took, 1)
            return
        why = f"took longer than {PART_SECONDS:g} s" if status is None else _last_line(said)
        if attempt < _TRIES:
            self._waiting.append((part, attempt + 1))
            return
        said.unlink(missing_ok=True)
        self._wrong.append(f"The part {part!r} of the engine was left to the first run to compile: it {why}")
        self._done[part] = took

    def _tell(self) -> None:
        if time.monotonic() - self._told < _TOLD_EVERY_SECONDS:
            return
        self._told = time.monotonic()
        now = f" ({', '.join(self._running)})" if self._running else ""
        left = f", about {_in_words(self._seconds_left())} left"
        say(self._folder, f"compiles the engine, once: {len(self._done)} of {self._count} parts{now}{left}")

    def _seconds_left(self) -> float:
        """An estimate from the usual or previous times of the parts, scaled by those of the finished parts."""
        usual = {part: self._usual(part) for part in (*self._running, *(part for part, _ in self._waiting))}
        slower = 1.0
        if self._done:
            slower = max(
                1.0,
                sum(self._done.values())
                / max(1.0, sum(_USUAL_SECONDS.get(part, _USUAL_OTHER_SECONDS) for part in self._done)),
            )
        work = sum(usual.values()) - sum(
            min(time.monotonic() - began, usual[part]) for part, (_, began, _) in self._running.items()
        )
        return max(5.0, slower * work / min(os.cpu_count() or 1, max(1, len(usual))))

    def _usual(self, part: str) -> float:
        return self._seconds.get(part, _USUAL_OTHER_SECONDS)

    def _read_seconds(self) -> dict[str, float]:
        try:
            content: Any = json.loads((self._cache / "seconds.json").read_text(encoding="utf-8"))
            return {str(part): float(seconds) for part, seconds in content.items()}
        except (OSError, ValueError, AttributeError, TypeError):
            return {}


def _last_line(path: Path) -> str:
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8", errors="replace").splitlines()]
    except OSError:
        lines = []
    return "failed: " + next((line for line in reversed(lines) if line), "it said nothing")[:300]


def _in_words(seconds: float) -> str:
    return f"{max(5, round(seconds / 5) * 5)} s" if seconds < 90 else f"{round(seconds / 60)} minutes"
