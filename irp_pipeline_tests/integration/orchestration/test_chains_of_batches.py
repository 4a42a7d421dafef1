"""A cycle whose workbook asks for a chain of batches, through Dagster, and what `irp batch preview` says of it.

The jobs are those of ``irp_pipeline_tests/support/small_engine.py``.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from dagster import build_sensor_context
from typer.testing import CliRunner

from irp_pipeline.cli import app
from irp_pipeline.definitions import definitions
from irp_pipeline.engines.local import LocalEngine
from irp_pipeline.helpers.batch import list_batches, track_batch
from irp_pipeline.helpers.constants import JobStatus
from irp_pipeline.helpers.database import fetch_all
from irp_pipeline.helpers.job import list_jobs
from irp_pipeline.helpers.result import finished_jobs
from irp_pipeline.helpers.step import step_output
from irp_pipeline.helpers.wanted import BATCH_TYPES, BatchTypeDeclaration
from irp_pipeline.orchestration.sensors import follow_batches
from irp_pipeline_tests.support.small_engine import CYCLE, cycle_id, ended, error_of, newest
from irp_pipeline_tests.support.waiting import wait_until


def doubled(configuration: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for analysis in configuration["analyses"]:
        if analysis["name"] != "high":
            factors = [2 * factor for factor in analysis["loss_factor"]]
            yield {
                **analysis,
                "name": f"{analysis['name']}_doubled",
                "loss_factor": factors,
                "currency": configuration["metadata"]["currency"],
                "results_of": [analysis["name"]],
            }


def sum_of(batch_id: int) -> dict[str, float]:
    return {"sum": sum(figure.loss for job in finished_jobs(batch_id) for figure in job.figures)}


@pytest.fixture(autouse=True)
def _type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BATCH_TYPES, "_declared", dict(BATCH_TYPES.declared()))
    BATCH_TYPES.register(
        BatchTypeDeclaration("doubled", "Twice the loss.", doubled, after="analysis", when_complete=sum_of)
    )


def batches() -> list[tuple[str, str]]:
    return [(batch["batch_type"], batch["status"]) for batch in list_batches(cycle_id())]


def irp(*arguments: str) -> str:
    done = CliRunner().invoke(app, list(arguments))
    assert done.exit_code == 0, done.output
    return " ".join(done.stdout.split())


def preview(schema: str, *options: str, status: int = 0) -> Any:
    done = CliRunner().invoke(app, ["batch", "preview", CYCLE, "doubled", "--db-schema", schema, *options])
    assert done.exit_code == status, done.output
    return json.loads(done.stdout) if "--json" in options else done.stdout


def everything_on_record() -> list[Any]:
    return [
        fetch_all(f"SELECT * FROM irp_{table} ORDER BY id")
        for table in ("batch", "job_configuration", "job", "step_run", "artefact", "audit")
    ]


def test_a_chain_runs_within_a_cycle_and_nothing_twice(launch, folder, jobs, test_schema):
    jobs.behave(middle="fails")
    assert not launch().success
    assert batches() == [("analysis", "FAILED"), ("doubled", "INITIATED")]
    assert "the footprint has no such event" in error_of("track_jobs")
    assert "of the type doubled has not begun: it waits for the batch of the type analysis" in error_of("track_jobs")
    assert jobs.runs() == ["high", "low"]
    status = irp("status", CYCLE, "--db-schema", test_schema)
    assert "Batches: analysis FAILED, 2 of 3 jobs, doubled INITIATED, 0 of 2 jobs" in status
    waiting = str(list_batches(cycle_id())[1]["id"])
    assert "when the batch of the type analysis is complete" in irp(
        "batch", "show", waiting, "--db-schema", test_schema
    )
    assert f"{waiting} doubled" in irp("job", "list", CYCLE, "--db-schema", test_schema)

    jobs.behave()
    assert launch().success
    assert batches() == [("analysis", "COMPLETED"), ("doubled", "COMPLETED")]
    assert newest() == ended("COMPLETED")
    assert jobs.runs() == ["high", "low", "low_doubled", "middle", "middle_doubled"]
    output = step_output(cycle_id(), "monitor.track_jobs")
    assert output["doubled completed"] == {"sum": 400 * (0.2 + 1.0)}
    assert output["doubled jobs finished"] == 2
    assert [row["loss"] for row in fetch_all("SELECT loss FROM irp_analysis_result ORDER BY loss")] == [40, 200, 400]
    report = (folder / "report" / "report.md").read_text()
    assert "COMPLETED" in report

    assert launch().success
    assert newest() == ended("SKIPPED")
    assert len(jobs.runs()) == 5

    locations = folder / "commercial" / "location.csv"
    locations.write_text("\n".join(locations.read_text().splitlines()[:-1]) + "\n")
    assert launch().success
    assert sorted(jobs.runs()) == sorted(["high", "low", "low_doubled", "middle", "middle_doubled"] * 2)
    assert launch(rerun_completed=True).success
    assert len(jobs.runs()) == 15
    assert launch().success
    assert newest() == ended("SKIPPED")

    before = everything_on_record()
    found = preview(test_schema, "--json")
    assert (found["is_current"], found["total"], found["problems"], found["unchecked"]) == (True, 2, [], None)
    assert [job["novelty"] for job in found["jobs"]] == ["unchanged", "unchanged"]
    assert everything_on_record() == before


def test_a_later_batch_that_fails_is_resubmitted_alone(launch, folder, jobs):
    jobs.behave(low_doubled="fails")
    assert not launch().success
    assert batches() == [("analysis", "COMPLETED"), ("doubled", "FAILED")]
    assert "low_doubled (job" in error_of("track_jobs")
    jobs.behave()
    assert launch().success
    assert jobs.runs() == ["high", "low", "low_doubled", "middle", "middle_doubled"]
    assert launch().success
    assert newest() == ended("SKIPPED")


def test_the_sensor_continues_the_cycle_after_each_batch_of_the_chain(launch, folder, jobs, instance, test_schema):
    def continued() -> int:
        with build_sensor_context(instance, definitions=definitions) as context:
            result: Any = follow_batches(context)
        return len(result.run_requests or [])

    jobs.behave(high="waits", low_doubled="waits")
    assert not launch(patience=0.001).success
    assert continued() == 0
    jobs.behave(low_doubled="waits")
    first, second = (batch["id"] for batch in list_batches(cycle_id()))
    wait_until(lambda: track_batch(first).get(JobStatus.FINISHED) == 3)
    assert continued() == 1
    assert not launch(patience=0.001).success
    assert "low_doubled" not in jobs.runs()
    jobs.behave()
    wait_until(lambda: track_batch(second).get(JobStatus.FINISHED) == 2)
    assert continued() == 1
    assert launch().success
    assert batches() == [("analysis", "COMPLETED"), ("doubled", "COMPLETED")]
    assert jobs.runs() == ["high", "low", "low_doubled", "middle", "middle_doubled"]


def test_what_jobs_lack_is_named_at_once_before_any_is_submitted(launch, folder, jobs, monkeypatch, test_schema):
    with monkeypatch.context() as patch:
        patch.setattr(LocalEngine, "check", lambda engine, request: ["the licence has ended"])
        assert not launch().success
        assert error_of("submit_jobs").splitlines()[:2] == [
            "NotReadyError: Nothing was submitted, since jobs could not run as things are now:",
            "- oasis_deterministic: the licence has ended (needed by 3 jobs: low, middle, high)",
        ]
        assert {job["status"] for job in list_jobs(cycle_id())} == {"INITIATED"}
        assert jobs.runs() == []
    assert launch().success
    with monkeypatch.context() as patch:
        patch.setattr(LocalEngine, "check", lambda engine, request: ["the licence has ended"])
        found = preview(test_schema, status=1)
        assert "the licence has ended (needed by 2 jobs: low_doubled, middle_doubled)" in " ".join(found.split())


def test_a_preview_shows_what_would_be_new_changed_and_gone(launch, folder, jobs, change_workbook, test_schema):
    said = CliRunner().invoke(app, ["batch", "preview", CYCLE, "doubled", "--db-schema", test_schema])
    assert said.exit_code == 1
    assert "No workbook has been validated" in said.output
    launch(only="validate_configuration")
    before = everything_on_record()
    found = preview(test_schema, "--json")
    assert [job["name"] for job in found["jobs"]] == ["low_doubled", "middle_doubled"]
    assert found["batch"] is None
    assert {job["novelty"] for job in found["jobs"]} == {"new"}
    assert found["unchecked"] == "the portfolios of the cycle have not been built yet"
    assert everything_on_record() == before
    assert launch().success

    def edit(content: dict[str, Any]) -> None:
        content["analyses"][0]["loss_factor"] = [0.3]
        content["analyses"][1]["name"] = "central"

    change_workbook(edit)
    launch(only="validate_configuration")
    found = preview(test_schema, "--json")
    assert [(job["name"], job["novelty"]) for job in found["jobs"]] == [
        ("low_doubled", "changed"),
        ("central_doubled", "new"),
    ]
    assert found["jobs"][0]["changes"] == {"loss_factor": [[0.2], [0.6]]}
    assert (found["gone"], found["is_current"]) == (["middle_doubled"], False)
    text = preview(test_schema, "--limit", "1")
    assert "2 jobs of the type doubled: 1 changed, 1 new" in text
    assert "loss_factor: 0.2 → 0.6" in text
    assert "central_doubled" not in text
    assert "No longer asked for: middle_doubled" in text
    first = list_batches(cycle_id())[-1]["id"]
    assert launch(only="create_batches").success
    assert [(batch["batch_type"], batch["status"]) for batch in list_batches(cycle_id()) if batch["id"] > first] == [
        ("analysis", "INITIATED"),
        ("doubled", "INITIATED"),
    ]
    assert launch().success
    assert batches()[2:] == [("analysis", "COMPLETED"), ("doubled", "COMPLETED")]
    # High and its result did not change. Central is another name, so a job of its own.
    assert sorted(set(jobs.runs()) - {"high", "low", "middle", "low_doubled", "middle_doubled"}) == [
        "central",
        "central_doubled",
    ]
    assert jobs.runs().count("high") == 1
    unknown = CliRunner().invoke(app, ["batch", "preview", CYCLE, "tripled", "--db-schema", test_schema])
    assert unknown.exit_code == 1
    assert "The types are: analysis, attribution, doubled, repeats" in " ".join(unknown.output.split())
    types = json.loads(CliRunner().invoke(app, ["batch", "types", "--json"]).stdout)["batch_types"]
    assert [(of["batch_type"], of["after"], of["from_workbook"]) for of in types] == [
        ("analysis", None, True), ("attribution", None, False), ("repeats", None, False), ("doubled", "analysis", True)
    ]  # fmt: skip
