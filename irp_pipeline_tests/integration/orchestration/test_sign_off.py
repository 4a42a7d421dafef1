"""The sign-off of a cycle's figures: results that wait for it, who goes on when it comes, and where it is shown."""

import json
from pathlib import Path
from typing import Any

import pytest
from dagster import DagsterInstance, build_sensor_context
from typer.testing import CliRunner

from irp_pipeline.cli import app
from irp_pipeline.definitions import definitions
from irp_pipeline.helpers.audit import list_entries
from irp_pipeline.helpers.database import execute_command, execute_scalar
from irp_pipeline.helpers.sign_off import SignOffState, approve, find_sign_off, held_cycles, reject
from irp_pipeline.orchestration.assets import APPROVAL
from irp_pipeline.orchestration.sensors import continue_approved
from irp_pipeline.report import collect
from irp_pipeline_tests.support.small_engine import CYCLE, cycle_id, newest


@pytest.fixture(autouse=True)
def _no_decisions(test_schema: str) -> None:
    execute_command("TRUNCATE irp_approval, irp_audit")


def irp(*words: str) -> Any:
    ran = CliRunner().invoke(app, [*words, "--json"], prog_name="irp")
    assert ran.exit_code == 0, f"{ran.output}\n{ran.exception!r}"
    return json.loads(ran.stdout)


def results_in(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "results").glob("*.csv"))


def asked_for(instance: DagsterInstance, schema: str) -> list[Any]:
    """What the sensor asks for in this schema."""
    with (
        build_sensor_context(instance=instance, definitions=definitions) as context,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr("irp_pipeline.orchestration.sensors.list_initialised_schemas", lambda: [schema])
        result: Any = continue_approved(context)
    return list(result.run_requests or [])


def checks(instance: DagsterInstance) -> list[Any]:
    """The evaluations of the check, the newest first."""
    history = instance.event_log_storage.get_asset_check_execution_history(APPROVAL.key, limit=20)
    events = [record.event.dagster_event for record in history if record.event is not None]
    return [event.event_specific_data for event in events if event is not None]


def test_results_wait_for_approval_and_a_sensor_goes_on_when_it_comes(
    launch, folder, jobs, change_workbook, instance, test_schema, monkeypatch
):
    monkeypatch.setenv("DB_SCHEMA", test_schema)  # whose cycles are the partitions
    jobs.behave()
    assert launch().success
    assert results_in(folder)
    assert checks(instance) == []

    change_workbook(lambda content: content["metadata"].update(export_after_approval=True))
    assert launch().success
    assert newest()["export_results"] == newest()["cycle_report"] == "COMPLETED"
    assert results_in(folder) == []
    assert "The results are not in files before they are approved" in (folder / "report" / "report.md").read_text()
    assert "Waiting for approval of" in (folder / "report" / "report.html").read_text()
    assert (checks(instance)[0].passed, checks(instance)[0].severity.value) == (False, "WARN")
    assert asked_for(instance, test_schema) == []
    assert launch().success
    assert newest()["export_results"] == "SKIPPED"

    reject(CYCLE, "no flood")
    assert asked_for(instance, test_schema) == []
    assert launch().success
    assert results_in(folder) == []
    assert "Rejected by" in (folder / "report" / "report.html").read_text()
    assert (checks(instance)[0].passed, checks(instance)[0].severity.value) == (False, "ERROR")

    approve(CYCLE)
    [request] = asked_for(instance, test_schema)
    assert request.tags["dagster/partition"] == CYCLE
    assert request.run_config["resources"]["database"]["config"]["db_schema"] == test_schema
    assert request.run_key == asked_for(instance, test_schema)[0].run_key
    assert launch().success
    assert results_in(folder)
    assert newest()["track_jobs"] == "SKIPPED"
    assert asked_for(instance, test_schema) == []
    assert checks(instance)[0].passed
    assert "Approved by" in (folder / "report" / "report.html").read_text()
    assert launch().success
    assert newest()["export_results"] == newest()["cycle_report"] == "SKIPPED"


def test_another_input_voids_an_approval_and_everything_says_so(launch, folder, jobs, change_workbook):
    jobs.behave()
    assert launch().success
    approve(CYCLE)
    assert launch().success
    assert find_sign_off(cycle_id()).state is SignOffState.APPROVED
    before = (folder / "commercial" / "location.csv").read_text().splitlines()
    (folder / "commercial" / "location.csv").write_text("\n".join(before[:-1]) + "\n")
    assert launch().success
    found = find_sign_off(cycle_id())
    assert (found.state, found.changed) == (SignOffState.VOID, ("figures", "jobs", "inputs"))
    words = "Void, since figures and jobs and inputs changed. It was: approved by"
    assert str(collect(CYCLE).sign_off).startswith(words)
    assert words in (folder / "report" / "report.html").read_text()
    assert "Sign-off: Void" in (folder / "report" / "report.md").read_text()
    assert irp("status", CYCLE)["sign_off"]["state"] == "VOID"
    assert irp("results", CYCLE)["sign_off"]["changed"] == ["figures", "jobs", "inputs"]
    assert irp("approvals", CYCLE)["sign_off"]["state"] == "VOID"
    for words_of in (("status", CYCLE), ("results", CYCLE), ("approvals", CYCLE)):
        assert "Void, since" in CliRunner().invoke(app, words_of, prog_name="irp").output
    assert execute_scalar("SELECT state FROM v_irp_sign_off WHERE cycle_name = %s", (CYCLE,)) == "VOID"


def test_with_one_login_an_approval_says_that_the_identity_is_not_verified(launch, folder, jobs):
    jobs.behave()
    assert launch().success
    answer = irp("approve", CYCLE, "--seen", find_sign_off(cycle_id()).short_hash)
    assert (answer["sign_off"]["state"], answer["sign_off"]["is_verified"]) == ("APPROVED", False)
    for words in (("status", CYCLE), ("results", CYCLE), ("approvals", CYCLE)):
        assert "identity not verified" in CliRunner().invoke(app, words, prog_name="irp").output
    answer = irp("reject", CYCLE, "--reason", "no flood")
    assert answer["sign_off"]["state"] == "REJECTED"
    assert [item["decision"] for item in irp("approvals", CYCLE)["decisions"]] == ["REJECTED", "APPROVED"]
    assert [entry["command"] for entry in irp("audit", CYCLE)["entries"]][:2] == ["irp reject", "irp approve"]


def test_with_one_login_a_forged_approval_is_not_called_verified(launch, folder, jobs):
    jobs.behave()
    assert launch().success
    approve(CYCLE)
    execute_command(
        """
        INSERT INTO irp_approval (cycle_id, cycle_name, batch_id, decision, content_hash, figures_hash, jobs_hash,
                                  inputs_hash, db_login, is_verified)
        SELECT cycle_id, cycle_name, batch_id, decision, content_hash, figures_hash, jobs_hash, inputs_hash, 'anna',
               true
          FROM irp_approval
        """
    )
    assert "Approved by anna (identity not verified)" in str(find_sign_off(cycle_id()))
    assert [decision["is_verified"] for decision in irp("approvals", CYCLE)["decisions"]] == [False, False]


def test_a_run_that_no_command_launched_is_in_the_trail_once(launch, folder, jobs):
    jobs.behave()
    result = launch()
    assert result.success
    [found] = list_entries()
    assert (found.command, found.cycle_name) == ("Dagster: run_cycle", CYCLE)
    assert found.arguments["run"] == result.run_id
    logins = "SELECT DISTINCT db_login FROM {} WHERE db_login IS DISTINCT FROM session_user::text"
    for table in ("irp_step_run", "irp_batch", "irp_job", "irp_configuration"):
        assert execute_scalar(f"SELECT count(*) FROM ({logins.format(table)}) other") == 0


def test_a_cycle_that_does_not_wait_is_not_continued(launch, folder, jobs):
    jobs.behave()
    assert launch().success
    approve(CYCLE)
    assert held_cycles() == []
