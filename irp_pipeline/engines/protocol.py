"""What every risk engine does for this project.

A key, which this project chooses, identifies a job at its engine. Every request names the key, and repeating a request
changes nothing: repeat it if it is not known whether it arrived.
"""

import math
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import Any, Final, Protocol, runtime_checkable

from irp_pipeline.errors import IrpError
from irp_pipeline.losses import DECLARED_METRICS, Segmentation
from irp_pipeline.storable import unstorable
from irp_pipeline.vocabulary import CURVES, Metric, Perspective

_WITHOUT_LOSS: Final = (Metric.STD_DEV,)
"""Metrics that are undefined for a single year; their loss is then None."""
_CURRENCY: Final = re.compile(r"[A-Z]{3}")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_MOST_FIGURES: Final = 1_000_000
_LONGEST_NAME: Final = 200


class EngineError(IrpError):
    """A risk engine refuses a request, or cannot be reached."""


class UnknownEngineError(EngineError):
    """There is no such risk engine, or its declaration cannot be used."""


class JobPhase(StrEnum):
    """The phase of a job at its engine. UNKNOWN: the engine has no such job, or lost it before it began."""

    UNKNOWN = "UNKNOWN"
    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    FINISHED = "FINISHED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


@dataclass(frozen=True)
class JobState:
    """The state of a job at its engine.

    Attributes:
        phase: the phase.
        message: why it failed, in one line; while it runs, what it is doing, if the engine says so.
        result: of a FINISHED job: ``figures``, a list of ``{"perspective": "GUL" | "IL" | "RI", "metric": "AAL" |
            "STD_DEV" | "OEP" | "AEP" | "LOSS", "return_period": years or None, "loss_factor": share or None, "loss":
            amount, or None for an undefined STD_DEV}``, where the metric may also be one that a distribution
            declares (:mod:`irp_pipeline.losses.metrics`); a figure of a segment also has ``segment_by``, its OED
            fields, and ``segment``, their values; ``segments``, what the engine says about the segments, each entry as
            :meth:`irp_pipeline.losses.Segmentation.from_json` reads it; ``currency`` of the amounts; ``files``,
            the result files by name: ``{"path": relative to the folder of :meth:`RiskEngine.folder`, "sha256": digest
            in hex, "bytes": size}``; ``provenance``, where the figures come from. It is untrusted:
            :func:`check_result` checks it.
    """

    phase: JobPhase
    message: str | None = None
    result: dict[str, Any] | None = field(default=None, repr=False)


class RiskEngine(Protocol):
    """An engine for the jobs in a cycle's folder."""

    def submit(self, requests: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
        """Hand over jobs. If the engine already has a key, nothing changes for it.

        The call is part of the transaction that records the jobs as SUBMITTED. An engine with its queue in the same
        database uses that transaction. Any other must expect that it is rolled back, and the call repeated.

        Args:
            requests: the request of each job by its key.

        Returns:
            Why it refuses jobs, by key; empty if it takes all.

        Raises:
            EngineError: the engine cannot be reached; repeat the call later.
        """

    def wake(self) -> None:
        """Start work on jobs that were handed over, now that their transaction is committed."""

    def states(self, keys: Collection[str]) -> dict[str, JobState]:
        """Return the state of each job of ``keys``."""

    def cancel(self, keys: Collection[str]) -> None:
        """Ask the engine to end jobs; jobs that have ended stay as they are."""

    def folder(self, key: str) -> Path:
        """Return the folder where the files of a job are."""

    def log(self, key: str) -> str:
        """Return what the engine has printed for a job so far; empty if nothing."""


@runtime_checkable
class CheckingEngine(Protocol):
    """An engine that also checks jobs against the world before they are submitted. No engine needs to."""

    def check(self, request: Mapping[str, Any]) -> Iterable[str]:
        """Say what keeps a job from running now: a missing model or program, a server that does not answer, a licence.

        The rules of the workbook were checked before; this is about what can change without it. It is asked about
        each job of a launch before any is submitted, always of the same object: remember what was looked at, so that a
        hundred jobs with one model look at it once.

        Args:
            request: what :meth:`RiskEngine.submit` would be given for the job.

        Returns:
            The problems, each in one line with what to do; equal ones are shown once, with the jobs that have them.
        """


def check_result(result: object, *, currency: str | None = None) -> str | None:
    """Say what is wrong with the result of a job, whichever engine it comes from.

    This checks its shape, that every number is finite, that PostgreSQL can store all of it, that perspectives, metrics
    and the currency are known, that no loss is below zero and no figure occurs twice, that each has the return period
    or loss factor of its metric and no other, and that files are inside the job's folder. The engine itself must check
    whether the figures are right.

    Args:
        result: the value of :attr:`JobState.result`.
        currency: the wanted currency of the losses; None: any.

    Returns:
        The first fault with its place, such as ``figures[3].loss is -1.0``, in one line; None if there is none.
    """
    return next(_faults(result, currency), None)


def is_inside_path(path: str) -> bool:
    """Tell whether a path is relative and stays in its folder; links are not followed."""
    parts = PurePosixPath(path).parts
    return bool(parts) and not path.startswith("/") and ".." not in parts


def _faults(result: object, wanted: str | None) -> Iterator[str]:
    if not isinstance(result, dict):
        yield f"The result is not an object but {_kind(result)}"
        return
    if found := unstorable(result):
        yield str(found)
    yield from _faults_of_figures(result.get("figures"))
    currency = result.get("currency")
    if not (isinstance(currency, str) and _CURRENCY.fullmatch(currency)):
        yield f"currency is {_shown(currency)}, not three capital letters"
    elif wanted is not None and currency != wanted:
        yield f"currency is {currency}, but the losses were asked for in {wanted}"
    files = result.get("files", {})
    if not isinstance(files, dict):
        yield f"files is not an object but {_kind(files)}"
    else:
        for name, file in files.items():
            yield from _faults_of_file(f"files.{_shown(name)}", name, file)
    yield from _faults_of_segments(result.get("segments", []))
    if not isinstance(provenance := result.get("provenance", {}), dict):
        yield f"provenance is not an object but {_kind(provenance)}"


def _faults_of_segments(segments: object) -> Iterator[str]:
    if not isinstance(segments, list):
        yield f"segments is not a list but {_kind(segments)}"
        return
    for index, reported in enumerate(segments):
        try:
            Segmentation.from_json(reported)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            yield f"segments[{index}] cannot be read: {error!r}"


def _faults_of_figures(figures: object) -> Iterator[str]:
    if not isinstance(figures, list):
        yield f"figures is not a list but {_kind(figures)}"
    elif not figures:
        yield "figures is empty"
    elif len(figures) > _MOST_FIGURES:
        yield f"figures has {len(figures):,} entries, more than {_MOST_FIGURES:,}"
    else:
        seen: dict[tuple[object, ...], int] = {}
        declared = DECLARED_METRICS.declared()
        at_return_periods = {*CURVES, *(name for name, metric in declared.items() if metric.at_return_periods)}
        metrics_with = {"return_period": at_return_periods, "loss_factor": {"LOSS"}}
        metrics = (*Metric, *declared)
        for index, figure in enumerate(figures):
            yield from _faults_of_figure(f"figures[{index}]", figure, metrics, metrics_with)
            segment = (tuple(figure.get(name) or ()) for name in _SEGMENT)
            what = (*(figure.get(name) for name in ("perspective", "metric", *_PARAMETERS)), *segment)
            if (first := seen.setdefault(what, index)) != index:
                yield f"figures[{index}] is of the same as figures[{first}]"


def _faults_of_figure(
    place: str, figure: object, metrics: Collection[str], metrics_with: Mapping[str, Collection[str]]
) -> Iterator[str]:
    """Say what is wrong with a figure, given the known metrics and those that have each parameter."""
    if not isinstance(figure, dict):
        yield f"{place} is not an object but {_kind(figure)}"
        return
    for name, known in (("perspective", tuple(Perspective)), ("metric", metrics)):
        if figure.get(name) not in known:
            yield f"{place}.{name} is {_shown(figure.get(name))}, not one of {', '.join(known)}"
    loss = figure.get("loss")
    if not (_is_number(loss) or (loss is None and figure.get("metric") in _WITHOUT_LOSS)):
        yield f"{place}.loss is {_shown(loss)}, not a finite number"
    elif loss is not None and loss < 0:
        yield f"{place}.loss is {_shown(loss)}, below zero"
    for name in _SEGMENT:
        if (parts := figure.get(name)) is not None and not _is_texts(parts):
            yield f"{place}.{name} is {_shown(parts)}, not a list of texts"
            return
    if len(figure.get("segment_by") or ()) != len(figure.get("segment") or ()):
        yield f"{place}.segment has another number of values than there are fields in segment_by"
    for name, is_right in _PARAMETERS.items():
        value = figure.get(name)
        if value is not None and not is_right(value):
            yield f"{place}.{name} is {_shown(value)}"
        belongs = figure.get("metric") in metrics_with[name]
        if belongs is (value is None):
            yield f"{place}.{name} is {_shown(value)}, but its metric is {figure.get('metric')}"


def _faults_of_file(place: str, name: object, file: object) -> Iterator[str]:
    if not (isinstance(name, str) and 0 < len(name) <= _LONGEST_NAME and name.isprintable()):
        yield f"{place} cannot be the name of a file"
    if not isinstance(file, dict):
        yield f"{place} is not an object but {_kind(file)}"
        return
    path = file.get("path")
    if not (isinstance(path, str) and is_inside_path(path)):
        yield f"{place}.path is {_shown(path)}, not a path inside of the job's folder"
    if not (isinstance(digest := file.get("sha256"), str) and _SHA256.fullmatch(digest)):
        yield f"{place}.sha256 is {_shown(digest)}, not 64 hexadecimal digits"
    size = file.get("bytes")
    if isinstance(size, bool) or not isinstance(size, int) or size < 0:
        yield f"{place}.bytes is {_shown(size)}, not a number of bytes"


def _is_number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(float(value))
    except OverflowError:
        return False


_SEGMENT: Final = ("segment_by", "segment")


def _is_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(part, str) for part in value)


_PARAMETERS: Final[dict[str, Callable[[Any], bool]]] = {
    "return_period": lambda value: _is_number(value) and value > 0,
    "loss_factor": lambda value: _is_number(value) and 0 <= value <= 1,
}


def _kind(value: object) -> str:
    return "missing" if value is None else f"a {type(value).__name__}"


def _shown(value: object) -> str:
    shown = value if isinstance(value, str) and value.isprintable() else repr(value)
    return shown if len(shown) <= _LONGEST_NAME else f"{shown[:_LONGEST_NAME]} …"
