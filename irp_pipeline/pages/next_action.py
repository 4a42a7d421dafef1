"""What a person can do next about a cycle. Pure: it works on what its page has read."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from irp_pipeline.helpers.constants import BatchStatus, CycleStatus, StepStatus
from irp_pipeline.helpers.cycle_lookup import Cycle
from irp_pipeline.helpers.wanted import BATCH_TYPES
from irp_pipeline.pages.cycles import ShownStep
from irp_pipeline.pages.jobs import ListedBatch


@dataclass(frozen=True, slots=True)
class NextAction:
    """What to do next.

    Attributes:
        words: a sentence.
        command: the command for it, if there is one.
        batch_id: the batch whose page shows more, if there is one.
        is_urgent: whether somebody has to do something before the cycle continues.
    """

    words: str
    command: str | None = None
    batch_id: int | None = None
    is_urgent: bool = False


def next_action(
    cycle: Cycle, schema: str, steps: Sequence[ShownStep], batch: ListedBatch | None, *, has_figures: bool
) -> NextAction:
    """Return what to do next about a cycle.

    Args:
        cycle: the cycle.
        schema: its schema.
        steps: its steps.
        batch: its newest batch, if it has one.
        has_figures: whether it has saved figures.
    """
    where = f"{shlex.quote(cycle.cycle_name)} --db-schema {shlex.quote(schema)}"
    if cycle.status is CycleStatus.ARCHIVED:
        return NextAction("Nothing: the cycle is archived. To work on it again:", f"irp cycle reopen {where}")
    at_work = [step for step in steps if step.status is StepStatus.ACTIVE]
    failed = [step for step in steps if step.status is StepStatus.FAILED]
    if batch is not None and batch.failed:
        is_one = batch.failed == 1
        return NextAction(
            f"{batch.failed:,} {'job of the newest batch has' if is_one else 'jobs of the newest batch have'} failed. "
            f"Look at {'it' if is_one else 'them'}, then resubmit or skip {'it' if is_one else 'them'}:",
            f"irp job list {where} --status FAILED",
            batch.id,
            is_urgent=True,
        )
    if failed and not at_work:
        step = failed[0]
        return NextAction(
            f"Step {step.stage_num}.{step.step_num} {step.step_name} "
            f"{'was cancelled' if step.was_cancelled else 'has failed: correct what its error says'}. To run again:",
            f"irp run {where}",
            is_urgent=True,
        )
    if at_work:
        step = at_work[0]
        waits_for = batch.id if batch is not None and batch.status is BatchStatus.ACTIVE else None
        return NextAction(f"Wait: step {step.stage_num}.{step.step_num} {step.step_name} is at work.", None, waits_for)
    if not steps:
        return NextAction("Put the workbook into the folder of the cycle, then run it:", f"irp run {where}")
    if batch is not None and batch.status is BatchStatus.ACTIVE:
        return NextAction("Jobs are under way. To follow them to their end:", f"irp run {where}", batch.id)
    if not has_figures or any(step.status is None for step in steps):
        return NextAction("Steps are left. To run them:", f"irp run {where}")
    return NextAction("Read the report. When it is final, archive the cycle:", f"irp cycle archive {where}")


def batch_to_act_on(batches: Sequence[ListedBatch]) -> ListedBatch | None:
    """Return the batch that matters for what to do next: the newest, unless it waits for another one to be complete.

    Args:
        batches: of a cycle, the newest first.
    """
    newest: dict[str, ListedBatch] = {}
    for batch in batches:
        newest.setdefault(batch.batch_type, batch)
    found = batches[0] if batches else None
    declared = BATCH_TYPES.declared()
    while found is not None and found.status is BatchStatus.INITIATED:
        of_type = declared.get(found.batch_type)
        before = None if of_type is None else newest.get(of_type.after or "")
        if before is None:
            break
        found = before
    return found
