"""The statuses of step runs, batches and jobs, the changes between them, and a picture of each.

``irp_pipeline_tests/integration/helpers/test_states.py`` tries every change on a real database and compares.
"""

from dataclasses import dataclass
from enum import StrEnum

from irp_pipeline.helpers.constants import BatchStatus, JobStatus, StepStatus
from irp_pipeline_docs.drawing import Box, Path, svg


@dataclass(frozen=True)
class Change:
    """A change from some statuses to others.

    Attributes:
        sources: the statuses before; empty means that the record is new.
        targets: the statuses after.
        when: what happens.
        path: its arrow; None if the picture shows it by a group.
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
        """Return every change of status that can happen."""
        return {
            (source, target)
            for change in self.changes
            for source in change.sources
            for target in change.targets
            if source is not target
        }


def page(diagram: Diagram) -> str:
    """Return the picture, and the same information as a table."""
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
        Box("new", 30, 118, 14, 14, "start"),
        Box(_S.ACTIVE, 200, 105),
        Box(_S.COMPLETED, 590, 20, kind="end"),
        Box(_S.FAILED, 590, 105, kind="end"),
        Box(_S.SKIPPED, 590, 190, kind="end"),
    ),
    (
        Change((), (_S.ACTIVE,), "The step starts: its inputs changed, it has never run, or its newest run failed.",
               Path(((44, 125), (200, 125)), ("starts",), (118, 117))),
        Change((), (_S.SKIPPED,), "A tracked step has the same inputs as the run that did its work, and what that run "
               "wrote is still there.",
               Path(((37, 132), (37, 218), (590, 218)), ("nothing to do",), (200, 211))),
        Change((_S.ACTIVE,), (_S.COMPLETED,), "The work ends well, and a tracked run still holds its lease.",
               Path(((330, 115), (400, 40), (590, 40)), ("done",), (500, 33))),
        Change((_S.ACTIVE,), (_S.FAILED,), "It raises an exception, it is cancelled, or its worker is lost.",
               Path(((330, 125), (590, 125)), ("error, cancel, worker lost",), (470, 117))),
        Change((_S.ACTIVE,), (_S.SKIPPED,), "A notebook sets it with `update_step_run`.",
               Path(((330, 135), (400, 202), (590, 202)), ("a notebook sets it",), (490, 194))),
    ),
)  # fmt: skip

_ENDED = (_B.COMPLETED, _B.FAILED, _B.CANCELLED, _B.ERROR)
BATCH = Diagram(
    "The statuses of a batch",
    (890, 260),
    (
        Box("new", 4, 123, 14, 14, "start"),
        Box(_B.INITIATED, 90, 110),
        Box(_B.ACTIVE, 340, 110),
        Box("ended", 590, 55, 285, 145, "group", ("as its jobs ended",)),
        Box(_B.COMPLETED, 602, 90, 125, kind="end"),
        Box(_B.FAILED, 737, 90, 125, kind="end"),
        Box(_B.CANCELLED, 602, 145, 125, kind="end"),
        Box(_B.ERROR, 737, 145, 125, kind="end"),
    ),
    (
        Change((), (_B.INITIATED,), "`create_batch` makes it with all its jobs, in one transaction.",
               Path(((18, 130), (90, 130)), ("made",), (50, 122))),
        Change((_B.INITIATED,), (_B.ACTIVE,), "It is submitted, or it is reconciled before all its jobs have ended.",
               Path(((220, 130), (340, 130)), ("submit_batch",), (278, 122))),
        Change((_B.ACTIVE,), _ENDED, "`recon_batch` finds that all its jobs have ended. CANCELLED if all were "
               "cancelled; else ERROR, FAILED or COMPLETED, the first that fits.",
               Path(((470, 130), (590, 130)), ("recon_batch",), (528, 122))),
        Change((_B.INITIATED,), _ENDED, "It is cancelled before it is submitted, or it has no jobs.",
               Path(((155, 110), (155, 30), (730, 30), (730, 55)), ("cancelled at once, or empty",), (440, 23))),
        Change(_ENDED, (_B.ACTIVE,), "One of its jobs is resubmitted or restored.",
               Path(((730, 200), (730, 235), (405, 235), (405, 150)), ("a job is resubmitted",), (565, 228))),
        Change(_ENDED, _ENDED, "One of its jobs is skipped, and the batch is reconciled again."),
    ),
)  # fmt: skip

_AT_ENGINE = (_J.SUBMITTED, _J.QUEUED, _J.PENDING, _J.RUNNING)
_ASKED_TO_END = (_J.CANCEL_REQUESTED, _J.CANCELLING)
JOB = Diagram(
    "The statuses of a job",
    (900, 450),
    (
        Box("new", 4, 123, 14, 14, "start"),
        Box(_J.INITIATED, 80, 110),
        Box(_J.ERROR, 115, 265, 100, kind="end"),
        Box("with the engine", 330, 60, 290, 155, "group"),
        Box(_J.SUBMITTED, 341, 98, 128),
        Box(_J.QUEUED, 481, 98, 128),
        Box(_J.PENDING, 341, 158, 128),
        Box(_J.RUNNING, 481, 158, 128),
        Box("asked to end", 330, 300, 290, 90, "group"),
        Box(_J.CANCEL_REQUESTED, 339, 336, 158),
        Box(_J.CANCELLING, 505, 336, 108),
        Box(_J.FINISHED, 755, 65, kind="end"),
        Box(_J.FAILED, 755, 145, kind="end"),
        Box(_J.CANCELLED, 755, 336, kind="end"),
    ),
    (
        Change((), (_J.INITIATED,), "Its batch is made, or it replaces another job.",
               Path(((18, 130), (80, 130)), ("made",), (46, 122))),
        Change((_J.INITIATED,), (_J.SUBMITTED,), "It is submitted.",
               Path(((210, 124), (341, 118)), ("submit",), (268, 113))),
        Change((_J.INITIATED,), (_J.ERROR,), "Its request cannot be made, or the engine refuses it.",
               Path(((165, 150), (165, 265)), ("refused",), (165, 205))),
        Change((_J.INITIATED,), (_J.FINISHED,), "It takes the result of a finished job of the cycle with this request.",
               Path(((145, 110), (145, 30), (820, 30), (820, 65)), ("same request as a finished job",), (480, 23))),
        Change((_J.INITIATED,), (_J.CANCELLED,), "It is cancelled before it is submitted.",
               Path(((95, 150), (95, 430), (820, 430), (820, 376)), ("cancelled before it is submitted",), (470, 423))),
        Change(_AT_ENGINE, (_J.SUBMITTED, _J.QUEUED, _J.RUNNING), "Tracking records what the engine reports. "
               "SUBMITTED again: the engine lost the job, and it is submitted again with the same key. Nothing sets "
               "PENDING or CANCELLING at present."),
        Change(_AT_ENGINE, (_J.FINISHED,), "It has a result.",
               Path(((620, 85), (755, 85)), ("a result",), (686, 77))),
        Change(_AT_ENGINE, (_J.FAILED,), "It has no result, or the engine reports an invalid one.",
               Path(((620, 160), (755, 160)), ("no result",), (686, 152))),
        Change(_AT_ENGINE, (_J.CANCELLED,), "The engine reports it, or the job was skipped or replaced while it ran.",
               Path(((620, 195), (690, 195), (790, 336)), ("ended there",), (790, 270))),
        Change(_AT_ENGINE, (_J.ERROR,), "The engine lost it and now refuses it.",
               Path(((345, 215), (345, 285), (215, 285)), ("lost, then refused",), (282, 277))),
        Change(_AT_ENGINE, (_J.CANCEL_REQUESTED,), "Somebody cancels it.",
               Path(((420, 215), (420, 300)), ("cancel",), (420, 262))),
        Change(_ASKED_TO_END, (_J.CANCELLED,), "The engine has ended it, or no longer has it.",
               Path(((620, 356), (755, 356)), ("ended",), (686, 348))),
        Change(_ASKED_TO_END, (_J.FINISHED, _J.FAILED), "It ended before the engine could cancel it.",
               Path(((560, 300), (560, 245), (660, 245), (755, 178)), ("finished or failed first",), (645, 262))),
    ),
)  # fmt: skip
