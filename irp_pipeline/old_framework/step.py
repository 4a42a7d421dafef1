"""Old names of ``helpers.step``: the class that a notebook records its step with."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from irp_pipeline.helpers.constants import StepStatus
from irp_pipeline.helpers.database import fetch_one
from irp_pipeline.helpers.step import StepError, create_step_run, get_last_step_run, update_step_run
from irp_pipeline.process import MARK_OF_NOTEBOOK
from irp_pipeline.settings import user_of_system

if TYPE_CHECKING:
    from irp_pipeline.old_framework.context import WorkContext

_FINISHED = frozenset({StepStatus.COMPLETED, StepStatus.SKIPPED})


class Step:
    """One step of a notebook, and its run. New notebooks use :func:`irp_pipeline.helpers.step.track_step`.

    Args:
        context: says which step it is.

    Attributes:
        step_id: the step.
        run_id: the run that was started; None before.
        run_num: its number; None before.
    """

    def __init__(self, context: WorkContext) -> None:
        self.context = context
        self.step_id = context.step_id
        self.run_id: int | None = None
        self.run_num: int | None = None
        self._lines: list[str] = []

    def start(self, force: bool = False) -> bool:
        """Record that the step begins. In a notebook that the pipeline executes, nobody is asked: the pipeline decided.

        Args:
            force: begin again, even if it has finished before.

        Returns:
            Whether it begins; False if a person was asked and said no.

        Raises:
            StepError: it has finished before, and there is nobody to ask.
        """
        last = get_last_step_run(self.step_id)
        if last is not None and last["status"] in _FINISHED and not force and MARK_OF_NOTEBOOK not in os.environ:
            question = f"The step {self.context.step_name!r} has run {last['run_num']}, {last['status']}. Run it again?"
            if not sys.stdin.isatty():
                raise StepError(f"{question} Then say start(force=True)")
            if input(f"{question} [y/N] ").strip().lower() not in {"y", "yes"}:
                return False
        self.run_id, self.run_num = create_step_run(self.step_id, user_of_system())
        self.log(f"Started run {self.run_num}")
        return True

    def log(self, message: str, level: str = "INFO") -> None:
        """Print a line with the time."""
        line = f"[{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC] {level}: {message}"
        self._lines.append(line)
        print(line)

    def checkpoint(self, data: Mapping[str, Any]) -> None:
        """Record what there is so far; the next call replaces it."""
        update_step_run(self._run(), StepStatus.ACTIVE, output_data={"checkpoint": dict(data)})

    def complete(self, output_data: Mapping[str, Any] | None = None) -> None:
        """Record that the run is COMPLETED, with what it produced."""
        update_step_run(
            self._run(), StepStatus.COMPLETED, output_data=None if output_data is None else dict(output_data)
        )
        self.log("Completed")

    def fail(self, message: str) -> None:
        """Record that the run has FAILED, and why."""
        update_step_run(self._run(), StepStatus.FAILED, error_message=message)
        self.log(f"Failed: {message}", "ERROR")

    def skip(self, reason: str) -> None:
        """Record that the step is SKIPPED, and why; it need not be started."""
        if self.run_id is None:
            self.run_id, self.run_num = create_step_run(self.step_id, user_of_system())
        update_step_run(self.run_id, StepStatus.SKIPPED, output_data={"skip_reason": reason})
        self.log(f"Skipped: {reason}")

    def get_last_output(self) -> dict[str, Any] | None:
        """Return what the newest COMPLETED run of the step produced; None if there is none."""
        row = fetch_one(
            """
            SELECT output_data FROM irp_step_run
             WHERE step_id = %s AND status = 'COMPLETED' ORDER BY run_num DESC LIMIT 1
            """,
            (self.step_id,),
        )
        return None if row is None else row["output_data"]

    def _run(self) -> int:
        if self.run_id is None:
            raise StepError(f"The step {self.context.step_name!r} was not started: call start() first")
        return self.run_id
