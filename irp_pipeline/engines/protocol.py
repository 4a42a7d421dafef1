"""What a risk engine does for this project, whichever it is.

A job is known to its engine by a key, which this project chooses. Everything is asked for by key, and asking twice is
the same as asking once: whoever does not know whether a request arrived repeats it.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

from irp_pipeline.errors import IrpError


class EngineError(IrpError):
    """A risk engine refuses a request, or cannot be reached."""


class JobPhase(StrEnum):
    """How far an engine is with a job. UNKNOWN: it has no such job, or lost it before it began."""

    UNKNOWN = "UNKNOWN"
    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    FINISHED = "FINISHED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


@dataclass(frozen=True)
class JobState:
    """How a job stands.

    Attributes:
        phase: how far the engine is.
        message: why it failed, in one line; while it runs, what it is doing, if the engine says so.
        result: of a FINISHED job: ``figures``, a list of ``{"perspective": "GUL" | "IL" | "RI", "metric": "AAL" |
            "STD_DEV" | "OEP" | "AEP" | "LOSS", "return_period": years or None, "loss_factor": share or None, "loss":
            amount}``; ``currency`` of the amounts; ``files``, the result files by name, relative to the folder of
            :meth:`RiskEngine.folder`; ``provenance``, where the figures come from.
    """

    phase: JobPhase
    message: str | None = None
    result: dict[str, Any] | None = field(default=None, repr=False)


class RiskEngine(Protocol):
    """One engine, bound to the folder that holds a cycle's jobs."""

    def submit(self, key: str, request: Mapping[str, Any]) -> None:
        """Hand over a job. A key that the engine has already is left as it is.

        Raises:
            EngineError: the request cannot be carried out, or the engine cannot be reached.
        """

    def states(self, keys: Collection[str]) -> dict[str, JobState]:
        """Tell how jobs stand, each of ``keys``."""

    def cancel(self, keys: Collection[str]) -> None:
        """Ask for jobs to be ended; those that have ended are left as they are."""

    def folder(self, key: str) -> Path:
        """Return the folder where the files of a job are."""

    def log(self, key: str) -> str:
        """Return what the engine printed for a job so far; empty if there is nothing."""
