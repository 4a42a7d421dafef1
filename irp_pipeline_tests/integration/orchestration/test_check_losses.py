"""The step that checks all saved figures: what it finds, who sees it, and when it runs again."""

import datetime as dt
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from irp_pipeline import settings
from irp_pipeline.cli import app
from irp_pipeline.definitions import definitions
from irp_pipeline.demo import LOCATIONS_OF, write_sample
from irp_pipeline.helpers.configuration import active_workbook
from irp_pipeline.helpers.cycle import create_cycle, find_cycle
from irp_pipeline.helpers.database import execute_command, fetch_one
from irp_pipeline.helpers.job import list_jobs, resubmit_job
from irp_pipeline.helpers.sanity import (
    Check,
    PolicyDates,
    RecordedCheck,
    Severity,
    find_recorded_check,
    policy_dates,
)
from irp_pipeline.orchestration.stages.monitor import accounts_of_groups
from irp_pipeline.orchestration.tracking import CycleOfRun
from irp_pipeline.report import State, collect
from irp_pipeline.report.losses import OUTDATED
from irp_pipeline_tests.support.small_engine import CYCLE, cycle_id, newest

BEFORE = "Q4-2023"
PAYS_TWICE = (
    "ERROR: middle: 1 of 1 figures of IL are above those of GUL; most the LOSS IL at the loss factor 0.5: 400.00, and "
    "200.00 in GUL (200.00 GBP). The terms do not allow this. Look at its job (irp job list, irp job log) and run it "
    "again (irp job resubmit)"
)


def recorded() -> RecordedCheck:
    found = find_recorded_check(cycle_id())
    assert found is not None
    return found


def found_of(check: Check) -> list[tuple[Severity, str, str]]:
    return [(one.severity, one.subject, one.size) for one in recorded().findings if one.check is check]


def reason() -> str:
    """Why the newest run of the step ran, or was skipped."""
    row = fetch_one(
        """
        SELECT r.reason FROM irp_step_run r JOIN irp_step st ON st.id = r.step_id
          JOIN irp_stage sg ON sg.id = st.stage_id
         WHERE st.step_key = 'monitor.check_losses' AND sg.cycle_id = %s ORDER BY r.run_num DESC LIMIT 1
        """,
        (cycle_id(),),
    )
    assert row is not None
    return str(row["reason"])


def irp(*arguments: str) -> Any:
    result = CliRunner().invoke(app, arguments, prog_name="irp")
    assert result.exit_code == 0, result.output
    return result


def keep_locations(folder: Path, lines: int) -> None:
    file = folder / "commercial" / "location.csv"
    file.write_text("\n".join(file.read_text().splitlines()[: lines + 1]) + "\n")


def test_an_error_keeps_the_report_from_saying_completed_until_it_is_mended(launch, folder, jobs, test_schema):
    jobs.behave(middle="pays twice")
    result = launch()
    assert result.success
    assert newest()["check_losses"] == newest()["cycle_report"] == "COMPLETED"

    report = collect(CYCLE)
    assert (report.state, report.missing) == (State.FAILED, (PAYS_TWICE,))
    page = (folder / "report" / "report.html").read_text()
    assert "FAILED: these figures have errors" in page
    assert "COMPLETED</h2>" not in page
    assert "Findings about the losses" in page
    assert "400.00, and 200.00 in GUL" in (folder / "report" / "report.md").read_text()
    assert (folder / "losses" / "findings.txt").read_text() == f"{PAYS_TWICE}\n"
    (output,) = (
        event.step_output_data for event in result.events_for_node("monitor.check_losses") if event.is_successful_output
    )
    assert output.metadata["errors"].value == 1
    assert "| ERROR | middle |" in output.metadata["table of findings"].md_str

    said = irp("status", CYCLE, "--db-schema", test_schema).output
    assert "ERROR: middle: 1 of 1 figures of IL" in said
    assert "The losses have 1 error and 0 warnings" in said
    answer = json.loads(irp("status", CYCLE, "--json", "--db-schema", test_schema).stdout)
    assert (answer["losses"]["errors"], answer["losses"]["findings"][0]["check"]) == (1, "order")

    jobs.behave()
    [job] = [job for job in list_jobs(cycle_id()) if job["job_configuration_data"]["name"] == "middle"]
    resubmit_job(job["id"])
    assert launch().success
    report = collect(CYCLE)
    assert (report.state, report.missing) == (State.COMPLETED, ())
    assert "COMPLETED</h2>" in (folder / "report" / "report.html").read_text()
    assert (folder / "losses" / "findings.txt").read_text() == ""
    assert "The losses have" not in irp("status", CYCLE, "--db-schema", test_schema).output


def test_insured_value_that_is_not_covered_is_told_by_its_reason(launch, folder, jobs, change_workbook):
    jobs.behave(low="covers little")
    assert launch().success
    assert found_of(Check.NOT_COVERED) == [(Severity.WARNING, "low", "20.0 %")]
    assert "outside: 200,000.00" in recorded().findings[0].what
    assert collect(CYCLE).state is State.COMPLETED
    assert "least_covered is 0.9" in (folder / "report" / "report.html").read_text()

    change_workbook(lambda content: content["metadata"].update(least_covered=0.8))
    assert launch().success
    assert found_of(Check.NOT_COVERED) == [(Severity.NOTE, "low", "20.0 %")]


def test_it_runs_again_when_figures_or_thresholds_or_the_cycle_before_change(
    launch, folder, jobs, change_workbook, test_schema
):
    create_cycle(BEFORE)
    execute_command(
        "UPDATE irp_cycle SET created_ts = created_ts - interval '90 days' WHERE cycle_name = %s", (BEFORE,)
    )
    folder_before = settings.cycle_dir(test_schema, BEFORE)
    shutil.copytree(folder, folder_before)
    assert launch().success
    assert (recorded().compared_with, found_of(Check.CHANGE)) == (None, [])

    assert launch(cycle=BEFORE).success
    assert launch().success
    assert newest()["group_results"] == "SKIPPED"
    assert newest()["check_losses"] == "COMPLETED"
    assert "cycle before changed from none to Q4-2023" in reason()
    assert (recorded().compared_with, found_of(Check.CHANGE)) == (BEFORE, [])
    assert launch().success
    assert newest()["check_losses"] == "SKIPPED"

    keep_locations(folder_before, 300)  # of 400
    assert launch(cycle=BEFORE).success
    assert launch().success
    assert "figures of the cycle before changed" in reason()
    assert found_of(Check.CHANGE) == [(Severity.WARNING, name, "+33.3 %") for name in ("high", "middle", "low")]
    assert recorded().findings[0].what == (
        "figures changed since Q4-2023 by more than 25 %: LOSS GUL at the loss factor 1 300.00 → 400.00 (+33.3 %). "
        "Nothing but the exposure differs"
    )
    assert launch().success
    assert newest()["check_losses"] == "SKIPPED"

    change_workbook(lambda content: content["metadata"].update(largest_change=0.34))
    assert launch().success
    assert newest()["group_results"] == "SKIPPED"
    assert "workbook metadata.largest_change changed" in reason()
    assert found_of(Check.CHANGE) == []

    keep_locations(folder, 200)
    assert launch().success
    assert "output of monitor.group_results changed" in reason()
    assert found_of(Check.CHANGE) == []
    change_workbook(lambda content: content["metadata"].update(largest_change=0.3))
    assert launch().success
    assert {size for _, _, size in found_of(Check.CHANGE)} == {"-33.3 %"}


def test_a_figure_that_is_not_a_number_is_found_and_the_report_is_written(launch, folder, jobs):
    assert launch().success
    execute_command("UPDATE irp_analysis_result SET loss = 'NaN' WHERE analysis_name = 'low'")
    report = collect(CYCLE)
    assert (report.state, report.missing) == (State.UNFINISHED, (OUTDATED,))
    assert report.losses is None
    assert launch(only="check_losses", rerun_completed=True).success
    assert launch(only="cycle_report").success
    assert found_of(Check.NO_NUMBER) == [(Severity.ERROR, "low", "1 of 1 figures")]
    assert "FAILED: these figures have errors" in (folder / "report" / "report.html").read_text()

    assert launch().success  # the records are not as their step left them
    assert collect(CYCLE).state is State.COMPLETED


def test_the_dates_of_policies_are_read_from_the_extracts_of_the_portfolios_in_groups(jobs, instance, test_schema):
    settings.make_irp_home()
    create_cycle("dated")
    folder = settings.cycle_dir(test_schema, "dated")
    write_sample(folder)  # a group of both portfolios
    result = definitions.get_job_def("run_cycle").execute_in_process(
        run_config={
            "resources": {"database": {"config": {"db_schema": test_schema}}},
            "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
        },
        instance=instance,
        tags={"dagster/partition": "dated"},
        op_selection=["setup", "extract"],
    )
    assert result.success
    cycle = find_cycle("dated")
    assert cycle is not None
    workbook, _ = active_workbook(cycle.id)
    accounts = accounts_of_groups(CycleOfRun(cycle.id, "dated", test_schema, folder), workbook)
    year = PolicyDates(first=dt.date(2024, 1, 1), last=dt.date(2024, 12, 31))
    assert {name: policy_dates(path) for name, path in accounts.items()} == dict.fromkeys(LOCATIONS_OF, year)


def test_a_cycle_without_figures_has_no_findings(launch, folder, jobs, test_schema):
    assert irp("status", CYCLE, "--json", "--db-schema", test_schema).stdout.count('"losses": null') == 1
    cycle = find_cycle(CYCLE)
    assert cycle is not None
    assert find_recorded_check(cycle.id) is None


@pytest.mark.parametrize("way", ["covers little", "pays twice"])
def test_nothing_is_done_twice(launch, folder, jobs, way):
    jobs.behave(high=way)
    assert launch().success
    assert launch().success
    assert newest()["check_losses"] == newest()["cycle_report"] == "SKIPPED"
