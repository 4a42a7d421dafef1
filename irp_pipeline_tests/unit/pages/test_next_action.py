"""What to do next about a cycle: the most urgent thing first."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from irp_pipeline.helpers.constants import BatchStatus, CycleStatus, StepStatus
from irp_pipeline.helpers.cycle_lookup import Cycle
from irp_pipeline.helpers.wanted import BATCH_TYPES, BatchTypeDeclaration
from irp_pipeline.pages.cycles import ShownStep
from irp_pipeline.pages.jobs import ListedBatch
from irp_pipeline.pages.next_action import NextAction, batch_to_act_on, next_action

NOW = datetime(2024, 4, 1, tzinfo=UTC)
CYCLE = Cycle(id=1, cycle_name="Q1", status=CycleStatus.ACTIVE, created_ts=NOW, archived_ts=None)
DONE = ShownStep(
    stage_num=1, stage_name="Setup", step_num=1, step_name="Prepare", run_num=1, status=StepStatus.COMPLETED,
    started_ts=NOW, completed_ts=NOW, started_by="analyst", dagster_run_id=None, reason=None, error_message=None,
    was_cancelled=False,
)  # fmt: skip
FAILED = replace(DONE, status=StepStatus.FAILED, error_message="no such file")
AT_WORK = replace(DONE, step_num=2, status=StepStatus.ACTIVE, completed_ts=None)
NEVER_RAN = replace(DONE, step_num=3, status=None, run_num=None)
BATCH = ListedBatch(
    id=5, batch_type="analysis", status=BatchStatus.COMPLETED, created_ts=NOW, submitted_ts=NOW, completed_ts=NOW,
    jobs=3, finished=3, failed=0,
)  # fmt: skip


def action(*steps: ShownStep, batch: ListedBatch | None = None, has_figures: bool = False) -> NextAction:
    return next_action(CYCLE, "my schema", steps, batch, has_figures=has_figures)


@pytest.mark.parametrize(
    ("found", "words", "command"),
    [
        (action(), "Put the workbook", "irp run"),
        (action(FAILED), "has failed", "irp run"),
        (action(replace(FAILED, was_cancelled=True)), "was cancelled", "irp run"),
        (action(FAILED, AT_WORK), "Wait", None),
        (action(DONE, NEVER_RAN), "Steps are left", "irp run"),
        (action(DONE, batch=replace(BATCH, failed=1)), "1 job of the newest batch has failed", "irp job list"),
        (action(FAILED, batch=replace(BATCH, failed=2)), "2 jobs of the newest batch have failed", "irp job list"),
        (action(DONE, batch=replace(BATCH, status=BatchStatus.ACTIVE)), "under way", "irp run"),
        (action(DONE, batch=BATCH, has_figures=True), "Read the report", "irp cycle archive"),
    ],
)
def test_the_most_urgent_thing_comes_first(found: NextAction, words: str, command: str | None) -> None:
    assert words in found.words
    assert (found.command or "").startswith(command or "")
    assert (found.command is None) == (command is None)
    assert found.command is None or "Q1 --db-schema 'my schema'" in found.command


def test_an_archived_cycle_needs_nothing() -> None:
    archived = replace(CYCLE, status=CycleStatus.ARCHIVED, archived_ts=NOW)
    found = next_action(archived, "public", [FAILED], replace(BATCH, failed=1), has_figures=True)
    assert found.command == "irp cycle reopen Q1 --db-schema public"
    assert not found.is_urgent


def test_a_batch_that_waits_for_another_one_is_not_what_to_act_on(monkeypatch: pytest.MonkeyPatch) -> None:
    declared = {"analysis": None, "longer": "analysis", "longest": "longer"}
    monkeypatch.setattr(
        BATCH_TYPES,
        "_declared",
        {name: BatchTypeDeclaration(name, "", None, after=after) for name, after in declared.items()},
    )
    failed = replace(BATCH, status=BatchStatus.FAILED, failed=1)
    waiting = replace(BATCH, id=6, batch_type="longer", status=BatchStatus.INITIATED)
    last = replace(waiting, id=7, batch_type="longest")
    assert batch_to_act_on([last, waiting, failed]) is failed
    under_way = replace(waiting, status=BatchStatus.ACTIVE)
    assert batch_to_act_on([last, under_way, failed]) is under_way
    assert batch_to_act_on([replace(BATCH, status=BatchStatus.INITIATED), failed]) is not failed
    assert batch_to_act_on([]) is None
