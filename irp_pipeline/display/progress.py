"""The progress of a cycle or a batch in a notebook, once or followed: the output of the cell is updated in place."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from irp_pipeline.display.errors import DisplayError
from irp_pipeline.helpers.batch import Batch, find_batch, recon_batch
from irp_pipeline.helpers.batch_lookup import batches_of_cycle
from irp_pipeline.helpers.batch_progress import follow_batch as look_at_batch
from irp_pipeline.helpers.constants import JobStatus, StepStatus
from irp_pipeline.helpers.cycle import find_cycle
from irp_pipeline.helpers.db_context import get_current_schema
from irp_pipeline.pages.cycles import ShownStep, steps_of_cycle
from irp_pipeline.pages.jobs import ListedJob, jobs_after
from irp_pipeline.report import display
from irp_pipeline.report.records import first_line
from irp_pipeline.report.templates import template_environment

if TYPE_CHECKING:
    import jinja2

_FAILURES_SHOWN: Final = 5
_BATCHES_SHOWN: Final = 5


@dataclass(frozen=True)
class JobsOfBatch:
    """How far the jobs of a batch are, without those that were skipped.

    Attributes:
        batch: the batch.
        failures: the first jobs that ended without a result.
    """

    batch: Batch
    failures: Sequence[ListedJob] = field(repr=False)

    @property
    def batch_id(self) -> int:
        """The batch's id."""
        return self.batch.id

    @property
    def total(self) -> int:
        """How many jobs there are."""
        return self.batch.jobs

    @property
    def finished(self) -> int:
        """How many have a result."""
        return self.batch.job_counts.get(JobStatus.FINISHED, 0)

    @property
    def failed(self) -> int:
        """How many ended without one."""
        return sum(number for status, number in self.batch.job_counts.items() if status.is_terminal) - self.finished

    @property
    def under_way(self) -> int:
        """How many are with an engine."""
        return self.total - self.finished - self.failed - self.batch.job_counts.get(JobStatus.INITIATED, 0)


@dataclass(frozen=True, kw_only=True, repr=False)
class Progress:
    """How far a cycle or a batch is; a notebook shows it as tables with bars, a console as text.

    Attributes:
        title: what it is the progress of.
        schema: the PostgreSQL schema that it is in.
        steps: the steps of a cycle with their newest runs; empty for a batch.
        batches: the newest batches of a cycle, the newest first; or the one batch.
        said: what there is to say beside.
    """

    title: str
    schema: str
    steps: Sequence[ShownStep] = field(default=(), repr=False)
    batches: Sequence[JobsOfBatch] = field(default=(), repr=False)
    said: str = ""

    @property
    def at_work(self) -> bool:
        """Whether a step or a job is at work."""
        steps = any(step.status is StepStatus.ACTIVE for step in self.steps)
        return steps or any(batch.under_way for batch in self.batches)

    @property
    def done(self) -> int:
        """How many steps are done."""
        return sum(step.status in {StepStatus.COMPLETED, StepStatus.SKIPPED} for step in self.steps)

    @property
    def failures(self) -> list[ShownStep]:
        """The steps whose newest run failed."""
        return [step for step in self.steps if step.status is StepStatus.FAILED]

    def __repr__(self) -> str:
        """Return it as a line for a console."""
        parts = [f"{self.done} of {len(self.steps)} steps are done"] if self.steps else []
        parts += [f"{step.step_name} failed: {first_line(step.error_message)}" for step in self.failures]
        for batch in self.batches:
            failed = f", {batch.failed} failed" if batch.failed else ""
            parts.append(f"batch {batch.batch_id}: {batch.finished} of {batch.total} jobs have finished{failed}")
        return f"{self.title} in schema {self.schema}: " + "; ".join([*parts, *([self.said] if self.said else [])])

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        """Return what IPython displays, by its kind."""
        return {"text/plain": repr(self), "text/html": _template().render(progress=self)}


def show_progress(cycle_name: str) -> Progress:
    """Return the progress of a cycle as it is now: its steps and the jobs of its batches.

    Args:
        cycle_name: a cycle of the current schema.

    Raises:
        DisplayError: there is no such cycle.
        DatabaseError: the database refuses or is away.
    """
    cycle = find_cycle(cycle_name)
    if cycle is None:
        raise DisplayError(f"There is no cycle {cycle_name!r} in schema {get_current_schema()!r}")
    batches = [_jobs(batch) for batch in batches_of_cycle(cycle.id)[: -_BATCHES_SHOWN - 1 : -1]]
    return Progress(
        title=f"Cycle {cycle.cycle_name}", schema=get_current_schema(), steps=steps_of_cycle(cycle.id), batches=batches
    )


def follow_cycle(cycle_name: str, *, every: float = 2.0, wait: float = 60.0) -> None:
    """Show the progress of a cycle until nothing is at work any more; the output of the cell is updated in place.

    It only reads: the cycle is run by Dagster, a command or another notebook. To stop looking, interrupt the kernel;
    the cycle goes on.

    Args:
        cycle_name: a cycle of the current schema.
        every: seconds between two looks.
        wait: seconds for which nothing must be at work. A run needs some from one step to the next, and to begin.

    Raises:
        DisplayError: there is no such cycle.
        DatabaseError: the database refuses or is away.
    """
    _show_each(_looks_at_cycle(cycle_name, every, wait))


def follow_batch(batch_id: int) -> None:
    """Track a batch until all of its jobs have ended; the output of the cell is updated in place.

    As a loop over :func:`~irp_pipeline.helpers.batch.track_batch` does, it records what the engines say, and at the end
    the status of the batch. To stop, interrupt the kernel; the jobs go on.

    Args:
        batch_id: a batch of the current schema.

    Raises:
        DisplayError: there is no such batch.
        EngineError: an engine cannot be reached.
        DatabaseError: the database refuses or is away.
    """
    _show_each(_looks_at_batch(batch_id))


def _looks_at_cycle(cycle_name: str, every: float, wait: float) -> Iterator[Progress]:
    idle_since = time.monotonic()
    while True:
        progress = show_progress(cycle_name)
        yield progress
        now = time.monotonic()
        if progress.at_work:
            idle_since = now
        elif now - idle_since >= wait:
            return
        time.sleep(every)


def _looks_at_batch(batch_id: int) -> Iterator[Progress]:
    _require_batch(batch_id)
    for said, _ in look_at_batch(batch_id):
        yield _progress_of_batch(batch_id, said)
    status = recon_batch(batch_id)
    yield _progress_of_batch(batch_id, f"It is {status}")


def _progress_of_batch(batch_id: int, said: str) -> Progress:
    jobs = _jobs(_require_batch(batch_id))
    return Progress(title=f"Batch {batch_id}", schema=get_current_schema(), batches=[jobs], said=said)


def _require_batch(batch_id: int) -> Batch:
    batch = find_batch(batch_id)
    if batch is None:
        raise DisplayError(f"There is no batch {batch_id} in schema {get_current_schema()!r}")
    return batch


def _show_each(looks: Iterator[Progress]) -> None:
    """Display each look in the place of the one before. Outside of IPython, each is printed."""
    from IPython.display import display as show

    handle: Any = None
    for progress in looks:
        if handle is None:
            handle = show(progress, display_id=True)  # type: ignore[no-untyped-call]
        else:
            handle.update(progress)


def _jobs(batch: Batch) -> JobsOfBatch:
    failed = [status for status in batch.job_counts if status.is_terminal and status is not JobStatus.FINISHED]
    found = [job for status in failed for job in jobs_after(batch.id, _FAILURES_SHOWN, status=status)]
    unskipped = sorted((job for job in found if not job.skipped), key=lambda job: job.id)
    return JobsOfBatch(batch, unskipped[:_FAILURES_SHOWN])


@cache
def _template() -> jinja2.Template:
    environment = template_environment("irp_pipeline.display", display.number, display.moment, first_line)
    return environment.get_template("progress.html.jinja")
