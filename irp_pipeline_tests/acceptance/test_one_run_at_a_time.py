"""One run at a time has a cycle: ``irp run`` beside another, beside the UI, and after a kill; the UI finds its run."""

import json
import signal
from contextlib import ExitStack
from typing import Any

import pytest
from dagster import DagsterInstance

from irp_pipeline_tests.acceptance.test_dagster_launches import (
    CYCLE,
    Ui,
    closed_gate,
    extract,
    home,
    irp_run,
    job_execute,
    open_at_the_gate,
    open_gated,
    run_status,
    someone_waits_at_the_gate,
    statuses,
    step_runs,
    ui,
)
from irp_pipeline_tests.support.processes import REPOSITORY
from irp_pipeline_tests.support.waiting import wait_until

__all__ = ["home", "ui"]  # fixtures


def refusal(schema: str, *options: str) -> str:
    with extract(schema, *options) as process:
        assert process.end() == 1, process.output
        return str(process.output)


def test_a_second_irp_run_is_refused_and_names_the_first_or_waits_for_it():
    open_at_the_gate("two")
    with closed_gate() as open_gate, extract("two") as first:
        wait_until(someone_waits_at_the_gate, "the extract waits", first)
        (run_id,) = {run["dagster_run_id"] for run in step_runs("two", "Extract exposure")}
        said = refusal("two")
        assert f"has a run already: {run_id} of the job run_cycle, STARTED since " in said
        assert f"in process {first.pid} on host " in said
        assert "--wait" in said
        assert "Traceback" not in said
        error = json.loads(refusal("two", "--json"))["error"]
        assert (error["type"], run_id in error["message"]) == ("BusyError", True)
        with extract("two", "--wait") as waiting:
            wait_until(lambda: "Waiting. The cycle" in waiting.output, "the second waits", waiting)
            open_gate()
            assert first.end() == 0, first.output
            assert waiting.end() == 0, waiting.output
    assert statuses("two", "Extract exposure") == ["COMPLETED", "SKIPPED"]


def test_of_those_that_start_in_the_same_moment_one_goes():
    open_at_the_gate("moment")
    with closed_gate() as open_gate, ExitStack() as stack:
        processes = [stack.enter_context(extract("moment")) for _ in range(4)]
        wait_until(lambda: sum(process.is_running() for process in processes) == 1, "three are refused")
        wait_until(someone_waits_at_the_gate, "the extract waits")
        open_gate()
        assert sorted(process.end() for process in processes) == [0, 1, 1, 1]
    assert statuses("moment", "Extract exposure") == ["COMPLETED"]


@pytest.mark.parametrize("executor", ["in_process", "multiprocess"])
@pytest.mark.parametrize("start", ["irp run", "job execute"])
def test_a_killed_run_is_told_to_have_failed_and_the_next_one_goes(start: str, executor: str):
    schema = f"killed_{start.replace(' ', '_')}_{executor}"
    folder = open_gated(schema)
    begun = (
        irp_run(schema, IRP_EXECUTOR=executor)
        if start == "irp run"
        else job_execute(folder, schema, IRP_EXECUTOR=executor)
    )
    with closed_gate() as open_gate, begun as process:
        wait_until(someone_waits_at_the_gate, "the extract waits", process)
        process.send(signal.SIGKILL)
        process.end()
        open_gate()
        wait_until(lambda: not someone_waits_at_the_gate(), "nobody waits")
    run_id = step_runs(schema)[0]["dagster_run_id"]
    assert run_status(run_id) == "STARTED"
    with extract(schema) as process:
        assert process.end() == 0, process.output
    assert run_status(run_id) == "FAILURE"
    assert statuses(schema, "Extract exposure")[-1] == "COMPLETED"


class TestBesideTheUi:
    def test_irp_run_is_refused_while_a_run_of_the_ui_has_the_cycle(self, ui: Ui):
        open_gated("ui_first")
        with closed_gate() as open_gate:
            run_id = ui.run_cycle("ui_first")
            wait_until(someone_waits_at_the_gate, "the extract waits", ui.process)
            assert f"{run_id} of the job run_cycle, STARTED" in refusal("ui_first")
            with extract("ui_first", "--wait") as waiting:
                wait_until(lambda: "Waiting." in waiting.output, "the second waits", waiting)
                open_gate()
                assert waiting.end() == 0, waiting.output
            ui.wait_for(run_id, "SUCCESS")
        assert statuses("ui_first", "Extract exposure") == ["COMPLETED", "SKIPPED"]

    def test_a_run_of_the_ui_waits_in_the_queue_while_irp_run_has_the_cycle(self, ui: Ui):
        open_at_the_gate("ui_second")
        open_at_the_gate("ui_beside")
        with closed_gate() as open_gate, extract("ui_second") as process:
            wait_until(someone_waits_at_the_gate, "the extract waits", process)
            queued = ui.run_stage("extract", "ui_second")
            beside = ui.run_stage("extract", "ui_beside")
            wait_until(lambda: statuses("ui_beside", "Extract exposure") == ["ACTIVE"], "another schema goes on")
            assert ui.status(queued) == "QUEUED"
            open_gate()
            assert process.end() == 0, process.output
            ui.wait_for(queued, "SUCCESS")
            ui.wait_for(beside, "SUCCESS")
        assert statuses("ui_second", "Extract exposure") == ["COMPLETED", "SKIPPED"]

    def test_its_run_is_found_under_the_job_and_as_the_partitions(self, ui: Ui, monkeypatch: pytest.MonkeyPatch):
        open_gated("public")
        monkeypatch.setenv("DAGSTER_HOME", str(REPOSITORY))
        with DagsterInstance.get() as instance:
            instance.add_dynamic_partitions("cycles", [CYCLE])
        with irp_run("public") as process:
            assert process.end() == 0, process.output
        run_id = step_runs("public")[0]["dagster_run_id"]
        assert run_id in runs_of_job(ui)
        assert partition_statuses(ui)[CYCLE] == "SUCCESS"


def runs_of_job(page: Ui) -> list[str]:
    """What the page of the job shows under Runs."""
    query = """
        query ($filter: RunsFilter!) {pipelineRunsOrError(filter: $filter) {... on Runs {results {runId}}}}
    """
    tag = {"key": ".dagster/repository", "value": "__repository__@irp_pipeline.definitions"}
    found = page.ask(query, filter={"pipelineName": "run_cycle", "tags": [tag]})["pipelineRunsOrError"]["results"]
    return [str(run["runId"]) for run in found]


def partition_statuses(page: Ui) -> dict[str, Any]:
    """What the page of the job shows under Partitions: None where the UI says "Missing"."""
    query = """
        query ($name: String!, $repository: RepositorySelector!) {
          partitionSetOrError(repositorySelector: $repository, partitionSetName: $name) {
            ... on PartitionSet {partitionStatusesOrError {... on PartitionStatuses {results {
              partitionName runStatus}}}}}}
    """
    repository = {"repositoryLocationName": "irp_pipeline.definitions", "repositoryName": "__repository__"}
    found = page.ask(query, name="run_cycle_partition_set", repository=repository)["partitionSetOrError"]
    results = found["partitionStatusesOrError"]["results"]
    return {status["partitionName"]: status["runStatus"] for status in results}
