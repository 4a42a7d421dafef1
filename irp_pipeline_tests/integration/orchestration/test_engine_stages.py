"""Submit, Monitor and Report through Dagster: what fails, what is submitted again, what is skipped, what goes on alone.

The jobs are real processes of the engine of this machine, but their program stands for Oasis LMF, which would take
minutes here: a job's loss is its number of locations times its loss factor, and a file says which jobs fail or wait.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import openpyxl
import pytest
from dagster import DagsterInstance, DagsterRunStatus, build_sensor_context

from irp_pipeline.definitions import definitions
from irp_pipeline.engines.local import LocalEngine
from irp_pipeline.helpers.batch import current_batch, list_batches, recon_batch, submit_batch, track_batch
from irp_pipeline.helpers.constants import BatchStatus, JobStatus
from irp_pipeline.helpers.job import job_history, list_jobs, resubmit_job, skip_job
from irp_pipeline.orchestration.sensors import follow_batches
from irp_pipeline_tests.support.small_engine import (
    CYCLE,
    LATER_STEPS,
    cycle_id,
    ended,
    error_of,
    losses,
    newest,
    statuses,
)
from irp_pipeline_tests.support.waiting import wait_until

SECONDS = 60


def test_a_cycle_ends_with_figures_files_and_a_report_and_does_nothing_twice(launch, folder, jobs):
    result = launch()
    assert result.success
    assert newest() == ended("COMPLETED")
    assert losses() == {"low": 40.0, "middle": 200.0, "high": 400.0}
    assert jobs.runs() == ["high", "low", "middle"]
    assert (folder / "results" / "results.csv").is_file()
    assert "<html" in (folder / "report" / "report.html").read_text()
    (output,) = (event.step_output_data for event in result.events_for_node("report.cycle_report")
                 if event.is_successful_output)  # fmt: skip
    assert output.metadata["summary"].md_str.startswith("#")
    for _ in range(2):
        assert launch().success
        assert newest() == ended("SKIPPED")
    assert jobs.runs() == ["high", "low", "middle"]


def test_one_failing_job_does_not_stop_the_others_and_is_submitted_again_alone(launch, folder, jobs):
    jobs.behave(middle="fails")
    assert not launch().success
    assert newest() == {"submit_jobs": "COMPLETED", "track_jobs": "FAILED"}
    assert "middle (job 2, FAILED): the footprint has no such event" in error_of("track_jobs").replace(
        f"job {list_jobs(cycle_id())[1]['id']}", "job 2"
    )
    assert [status for _, status, _ in statuses()] == ["FINISHED", "FAILED", "FINISHED"]
    assert list_batches(cycle_id())[0]["status"] == BatchStatus.FAILED

    jobs.behave()
    assert launch().success
    assert newest() == ended("COMPLETED")
    assert jobs.runs() == ["high", "low", "middle"]
    assert statuses()[1:] == [("middle", "FAILED", True), ("high", "FINISHED", False), ("middle", "FINISHED", False)]
    assert list_batches(cycle_id())[0]["status"] == BatchStatus.COMPLETED
    assert launch().success
    assert newest() == ended("SKIPPED")


def test_a_job_that_fails_twice_is_submitted_a_third_time(launch, folder, jobs):
    jobs.behave(low="fails")
    assert not launch().success
    assert not launch().success
    jobs.behave()
    assert launch().success
    assert [status for name, status, _ in statuses() if name == "low"] == ["FAILED", "FAILED", "FINISHED"]
    assert jobs.runs() == ["high", "low", "middle"]


def test_a_job_that_its_engine_refuses_is_tried_once_in_a_launch(launch, folder, jobs, monkeypatch):
    submit = LocalEngine.submit

    def refuse_low(engine: LocalEngine, requests: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
        low = [key for key, request in requests.items() if request["analysis"]["name"] == "low"]
        others = {key: request for key, request in requests.items() if key not in low}
        return submit(engine, others) | dict.fromkeys(low, "the licence has ended")

    with monkeypatch.context() as patch:
        patch.setattr(LocalEngine, "submit", refuse_low)
        assert not launch().success
        assert [status for name, status, _ in statuses() if name == "low"] == ["ERROR"]
        assert "the licence has ended" in error_of("track_jobs")
    assert launch(only="submit_jobs").success
    assert [status for name, status, _ in statuses() if name == "low"] == ["ERROR", "SUBMITTED"]
    assert launch().success
    assert jobs.runs() == ["high", "low", "middle"]


def test_other_exposure_makes_the_jobs_run_again_and_keeps_the_old_ones(launch, folder, jobs):
    assert launch().success
    locations = folder / "commercial" / "location.csv"
    locations.write_text("\n".join(locations.read_text().splitlines()[:-1]) + "\n")
    assert launch().success
    assert losses() == pytest.approx({"low": 39.9, "middle": 199.5, "high": 399.0})
    assert len(jobs.runs()) == 6
    assert [skipped for _, _, skipped in statuses()] == [True] * 3 + [False] * 3
    assert launch().success
    assert newest() == ended("SKIPPED")


def test_a_rerun_computes_everything_again(launch, folder, jobs):
    assert launch().success
    assert launch(rerun_completed=True).success
    assert len(jobs.runs()) == 6
    assert [batch["status"] for batch in list_batches(cycle_id())] == ["COMPLETED"]
    assert [skipped for _, _, skipped in statuses()] == [True] * 3 + [False] * 3


def test_an_override_is_computed_and_the_history_shows_the_chain(launch, folder, jobs):
    assert launch().success
    first = list_jobs(cycle_id())[0]
    override = {**first["job_configuration_data"], "loss_factor": [0.2]}
    resubmit_job(first["id"], override, "the agreed factor is 20 %")
    assert launch().success
    assert losses() == {"low": 80.0, "middle": 200.0, "high": 400.0}
    old, new = job_history(first["id"])
    assert (old["id"], old["skipped"], old["job_configuration_data"]["loss_factor"]) == (first["id"], True, [0.1])
    assert (new["parent_job_id"], new["overridden"], new["override_reason"]) == (
        first["id"], True, "the agreed factor is 20 %")  # fmt: skip
    assert launch().success
    assert newest() == ended("SKIPPED")


def test_a_cycle_does_without_a_skipped_job(launch, folder, jobs):
    jobs.behave(middle="fails")
    assert not launch().success
    skip_job(list_jobs(cycle_id())[1]["id"], "not needed this quarter")
    assert launch().success
    assert losses() == {"low": 40.0, "high": 400.0}


def test_a_run_need_not_wait_and_the_sensor_continues_the_cycle(launch, folder, jobs, instance, test_schema):
    jobs.behave(high="waits")
    result = launch(patience=0.001)
    assert not result.success
    assert "of 3 jobs have ended" in error_of("track_jobs")
    assert continued(instance, test_schema) == []
    jobs.behave()
    batch = list_batches(cycle_id())[0]["id"]
    wait_until(lambda: track_batch(batch).get(JobStatus.FINISHED) == 3)
    (request,) = continued(instance, test_schema)
    assert request.tags["dagster/partition"] == CYCLE
    assert request.run_config["resources"]["database"]["config"]["db_schema"] == test_schema
    assert launch().success
    assert newest() == ended("COMPLETED") | {"submit_jobs": "SKIPPED"}
    assert jobs.runs() == ["high", "low", "middle"]
    assert continued(instance, test_schema) == []


@pytest.mark.parametrize("why", ["cancelled", "failed jobs", "a part only", "still running"])
def test_the_sensor_does_not_continue_what_nobody_wants_continued(launch, folder, jobs, instance, test_schema, why):
    jobs.behave(high="waits")
    result = launch(patience=0.001)
    run = instance.get_run_by_id(result.run_id)
    assert run is not None
    if why == "cancelled":
        instance.report_run_canceled(run)
    if why in {"still running", "a part only"}:
        instance.create_run_for_job(
            definitions.get_job_def("run_cycle"),
            run_config=run.run_config,
            tags={"dagster/partition": CYCLE},
            status=DagsterRunStatus.STARTED if why == "still running" else DagsterRunStatus.SUCCESS,
            op_selection=["extract"] if why == "a part only" else None,
        )
    jobs.behave(**({"high": "fails"} if why == "failed jobs" else {}))
    batch = list_batches(cycle_id())[0]["id"]
    wait_until(lambda: all(status.is_terminal for status in track_batch(batch)))
    assert continued(instance, test_schema) == []
    status = list_batches(cycle_id())[0]["status"]
    expected = {"still running": BatchStatus.ACTIVE, "failed jobs": BatchStatus.FAILED}
    assert status == expected.get(why, BatchStatus.COMPLETED)


def test_jobs_run_on_without_a_run_and_end_well(launch, folder, jobs):
    launch(only="track_jobs")  # nothing is there to track: fails, and says what to do first
    assert "run validate_configuration first" in error_of("track_jobs")
    assert launch(patience=60).success


def test_all_mistakes_of_a_workbook_are_named_at_once_and_nothing_is_submitted(launch, folder, jobs):
    book = openpyxl.load_workbook(folder / "configuration.xlsx")
    analyses, groupings = book["Analyses"], book["Groupings"]
    columns = {cell.value: cell.column for cell in analyses[1]}
    analyses.cell(2, columns["portfolio"]).value = "nowhere"
    analyses.cell(3, columns["name"]).value = "high"
    analyses.cell(4, columns["loss_factor"]).value = 1.5
    book["Portfolios"].cell(2, 3).value = "../../etc/passwd"
    for row, (name, members) in enumerate((("one", "two"), ("two", "one")), start=2):
        groupings.cell(row, 1).value, groupings.cell(row, 2).value = name, members
    book.save(folder / "configuration.xlsx")
    assert not launch().success
    said = error_of("validate_configuration")
    for words in ("nowhere", "high", "1.5 must be above 0 and at most 1", "outside of the data folder", "one", "two"):
        assert words in said, said
    assert said.count("\n") >= 4
    assert list_jobs(cycle_id()) == []
    assert jobs.runs() == []


def test_every_step_of_the_stages_can_run_alone(launch, folder, jobs):
    assert launch().success
    for step in LATER_STEPS:
        assert launch(only=step, rerun_completed=True).success, step
    assert sorted(jobs.runs()) == sorted(2 * ["high", "low", "middle"])  # a rerun of the submission computes again


def test_a_notebook_can_do_the_same_by_hand(launch, folder, jobs):
    jobs.behave(low="fails", middle="fails", high="fails")
    launch()
    batch = list_batches(cycle_id())[0]
    assert current_batch(cycle_id()) == batch
    jobs.behave()
    for job in list_jobs(cycle_id()):
        resubmit_job(job["id"])
    assert submit_batch(batch["id"]) == 3
    wait_until(lambda: track_batch(batch["id"]).get(JobStatus.FINISHED) == 3)
    assert recon_batch(batch["id"]) is BatchStatus.COMPLETED
    assert launch().success


def continued(instance: DagsterInstance, schema: str) -> list[Any]:
    """What the sensor asks for in this schema."""
    with build_sensor_context(instance=instance, definitions=definitions) as context, only_schema(schema):
        result: Any = follow_batches(context)
    return list(result.run_requests or [])


@contextmanager
def only_schema(schema: str) -> Iterator[None]:
    """Other tests' schemas are on the same server."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("irp_pipeline.orchestration.sensors.list_initialised_schemas", lambda: [schema])
        yield
