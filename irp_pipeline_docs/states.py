"""The states of step runs, batches and jobs: which there are, what leads from one to another, and a picture of it.

``irp_pipeline_tests/integration/test_states.py`` tries every change on a real database and holds this to it.
"""

from dataclasses import dataclass
from enum import StrEnum

from irp_pipeline.helpers.constants import BatchStatus, JobStatus, StepStatus
from irp_pipeline_docs.drawing import Box, Path, svg


@dataclass(frozen=True)
class Change:
    """What leads from some statuses to others.

    Attributes:
        sources: the statuses before; empty means that the record is made.
        targets: the statuses after.
        when: what happens.
        path: its arrow; None where the picture shows it by a group.
    """

    sources: tuple[StrEnum, ...]
    targets: tuple[StrEnum, ...]
    when: str
    path: Path | None = None


@dataclass(frozen=True)
class Diagram:
    """The statuses of one kind of record."""

    title: str
    size: tuple[int, int]
    boxes: tuple[Box, ...]
    changes: tuple[Change, ...]

    def pairs(self) -> set[tuple[StrEnum, StrEnum]]:
        """Return every change of a status that can happen."""
        return {
            (source, target)
            for change in self.changes
            for source in change.sources
            for target in change.targets
            if source is not target
        }


def page(diagram: Diagram) -> str:
    """Return the picture and the same as a table."""
    paths = [change.path for change in diagram.changes if change.path is not None]
    rows = (
        f"| {_codes(change.sources) or '(new)'} | {_codes(change.targets)} | {change.when} |"
        for change in diagram.changes
    )
    table = "\n".join(["| from | to | when |", "| --- | --- | --- |", *rows])
    return f"{svg(diagram.title, diagram.size, diagram.boxes, paths)}\n\n{table}"


def _codes(statuses: tuple[StrEnum, ...]) -> str:
    return ", ".join(f"`{status}`" for status in statuses)


_S, _B, _J = StepStatus, BatchStatus, JobStatus

STEP_RUN = Diagram(
    "The statuses of a step run",
    (760, 250),
    (
        Box(_S.ACTIVE, 200, 105),
        Box(_S.COMPLETED, 590, 20, kind="end"),
        Box(_S.FAILED, 590, 105, kind="end"),
        Box(_S.SKIPPED, 590, 190, kind="end"),
    ),
    (
        Change((), (_S.ACTIVE,), "The step starts: its inputs changed, it never ran, or its newest run failed.",
               Path(((40, 125), (200, 125)), ("starts",), (115, 117))),
        Change((), (_S.SKIPPED,), "A tracked step has the same inputs as the run that did its work, and what that run "
               "wrote is still there.",
               Path(((40, 140), (110, 210), (590, 210)), ("nothing to do",), (350, 203))),
        Change((_S.ACTIVE,), (_S.COMPLETED,), "The work ends well, and a tracked run still holds its lease.",
               Path(((330, 115), (460, 40), (590, 40)), ("done",), (520, 33))),
        Change((_S.ACTIVE,), (_S.FAILED,), "An exception, a cancellation, or the worker is lost.",
               Path(((330, 125), (590, 125)), ("error, cancel, worker lost",), (460, 117))),
        Change((_S.ACTIVE,), (_S.SKIPPED,), "A notebook says so with `update_step_run`.",
               Path(((330, 135), (400, 185), (590, 198)), ("notebook says so",), (485, 178))),
    ),
)  # fmt: skip

_OPEN = (_B.INITIATED, _B.ACTIVE)
_ENDED = (_B.COMPLETED, _B.FAILED, _B.CANCELLED, _B.ERROR)
BATCH = Diagram(
    "The statuses of a batch",
    (820, 260),
    (
        Box(_B.INITIATED, 20, 110),
        Box(_B.ACTIVE, 270, 110),
        Box("ended", 520, 55, 285, 145, "group", ("as its jobs ended",)),
        Box(_B.COMPLETED, 532, 90, 125, kind="end"),
        Box(_B.FAILED, 667, 90, 125, kind="end"),
        Box(_B.CANCELLED, 532, 145, 125, kind="end"),
        Box(_B.ERROR, 667, 145, 125, kind="end"),
    ),
    (
        Change((), (_B.INITIATED,), "`create_batch` makes it with all its jobs, in one transaction."),
        Change((_B.INITIATED,), (_B.ACTIVE,), "It is submitted, or reconciled while jobs have not ended.",
               Path(((150, 130), (270, 130)), ("submit_batch",), (210, 122))),
        Change((_B.ACTIVE,), _ENDED, "`recon_batch` finds that all its jobs have ended. CANCELLED if all were "
               "cancelled; else ERROR, FAILED or COMPLETED, the first that fits.",
               Path(((400, 130), (520, 130)), ("recon_batch",), (460, 122))),
        Change((_B.INITIATED,), _ENDED, "It is cancelled before it is handed over, or has no jobs.",
               Path(((85, 110), (85, 30), (660, 30), (660, 55)), ("cancelled at once, or empty",), (370, 23))),
        Change(_ENDED, (_B.ACTIVE,), "A job of it is resubmitted or restored.",
               Path(((660, 200), (660, 235), (335, 235), (335, 150)), ("a job is resubmitted",), (495, 228))),
        Change(_ENDED, _ENDED, "A job of it is skipped, and it is reconciled again."),
    ),
)  # fmt: skip

_AT_ENGINE = (_J.SUBMITTED, _J.QUEUED, _J.PENDING, _J.RUNNING)
_ASKED_TO_END = (_J.CANCEL_REQUESTED, _J.CANCELLING)
JOB = Diagram(
    "The statuses of a job",
    (900, 440),
    (
        Box(_J.INITIATED, 20, 110),
        Box(_J.ERROR, 70, 250, 110, kind="end"),
        Box("with the engine", 290, 60, 300, 155, "group"),
        Box(_J.SUBMITTED, 302, 98, 130),
        Box(_J.QUEUED, 448, 98, 130),
        Box(_J.PENDING, 302, 158, 130),
        Box(_J.RUNNING, 448, 158, 130),
        Box("asked to end", 290, 290, 300, 90, "group"),
        Box(_J.CANCEL_REQUESTED, 300, 326, 155),
        Box(_J.CANCELLING, 465, 326, 115),
        Box(_J.FINISHED, 750, 65, kind="end"),
        Box(_J.FAILED, 750, 140, kind="end"),
        Box(_J.CANCELLED, 750, 326, kind="end"),
    ),
    (
        Change((), (_J.INITIATED,), "Its batch is made, or it takes the place of another job."),
        Change((_J.INITIATED,), (_J.SUBMITTED,), "It is handed over.",
               Path(((150, 122), (302, 118)), ("submit",), (220, 112))),
        Change((_J.INITIATED,), (_J.ERROR,), "Its request cannot be made, or the engine refuses it.",
               Path(((120, 150), (120, 250)), ("refused",), (150, 205))),
        Change((_J.INITIATED,), (_J.FINISHED,), "A finished job of the cycle has the same request: it has that result.",
               Path(((85, 110), (85, 30), (815, 30), (815, 65)), ("same request as a finished job",), (450, 23))),
        Change((_J.INITIATED,), (_J.CANCELLED,), "It is cancelled before it is handed over.",
               Path(((45, 150), (45, 415), (815, 415), (815, 366)), ("cancelled before it is submitted",), (430, 408))),
        Change(_AT_ENGINE, (_J.SUBMITTED, _J.QUEUED, _J.RUNNING), "Tracking writes down what the engine says. "
               "SUBMITTED again: the engine lost the job, and it is handed over again with the same key. Nothing sets "
               "PENDING at present."),
        Change(_AT_ENGINE, (_J.FINISHED,), "It has a result.",
               Path(((590, 85), (750, 85)), ("a result",), (670, 77))),
        Change(_AT_ENGINE, (_J.FAILED,), "It has no result, or what the engine reports is none.",
               Path(((590, 150), (750, 158)), ("no result",), (670, 147))),
        Change(_AT_ENGINE, (_J.CANCELLED,), "The engine says so, or the job was skipped or replaced while it ran.",
               Path(((590, 200), (750, 335)), ("ended there",), (720, 275))),
        Change(_AT_ENGINE, (_J.ERROR,), "The engine lost it and refuses it now.",
               Path(((290, 205), (180, 262)), ("lost, then refused",), (225, 205))),
        Change(_AT_ENGINE, (_J.CANCEL_REQUESTED,), "Somebody cancels it.",
               Path(((400, 215), (400, 290)), ("cancel",), (428, 257))),
        Change(_ASKED_TO_END, (_J.CANCELLED,), "The engine has ended it, or no longer has it.",
               Path(((590, 350), (750, 348)), ("ended",), (670, 367))),
        Change(_ASKED_TO_END, (_J.FINISHED, _J.FAILED), "It came to its end first.",
               Path(((540, 290), (740, 178)), ("was faster",), (600, 240))),
    ),
)  # fmt: skip
