"""Notebooks through Dagster: those that the workbook of a cycle names, and those of a team's own job."""

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from dagster import DagsterInstance, ExecuteInProcessResult, NotebookMetadataValue, graph

from irp_pipeline.definitions import definitions
from irp_pipeline.helpers.cycle import progress_of_cycle
from irp_pipeline.helpers.database import fetch_all
from irp_pipeline.helpers.notebooks.errors import NotebookStepError
from irp_pipeline.helpers.notebooks.of_workbook import notebook_of_cycle
from irp_pipeline.orchestration.explain import explain
from irp_pipeline.orchestration.jobs import only_notebook, selection
from irp_pipeline.orchestration.notebooks import notebook_step
from irp_pipeline.orchestration.partitions import cycles
from irp_pipeline.orchestration.resources import EXECUTED_NOTEBOOK, DatabaseResource
from irp_pipeline.orchestration.tracking import StageSpec
from irp_pipeline_tests.support.notebooks import write_notebook
from irp_pipeline_tests.support.small_engine import CYCLE, cycle_id

OUTPUT = "from irp_pipeline.notebook import irp_output"
BEFORE_JOBS = ["setup", "extract", "process"]

Launch = Callable[..., ExecuteInProcessResult]


@pytest.fixture
def start(instance: DagsterInstance, test_schema: str) -> Launch:
    """Launches a part of the cycle."""

    def launch(selected: list[str], ops: dict[str, Any] | None = None, job: Any = None) -> ExecuteInProcessResult:
        result: ExecuteInProcessResult = (job or definitions.get_job_def("run_cycle")).execute_in_process(
            run_config={
                "resources": {"database": {"config": {"db_schema": test_schema}}},
                "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
                **({"ops": ops} if ops else {}),
            },
            instance=instance,
            tags={"dagster/partition": CYCLE},
            op_selection=selected or None,
            raise_on_error=False,
        )
        return result

    return launch


def runs_of_notebooks() -> list[tuple[str, str, Any]]:
    """Key, status and output data of the runs of notebooks, in order."""
    rows = fetch_all(
        """
        SELECT st.step_key, r.status, r.output_data FROM irp_step_run r JOIN irp_step st ON st.id = r.step_id
         WHERE st.notebook_path IS NOT NULL ORDER BY r.id
        """
    )
    return [(row["step_key"], row["status"], row["output_data"]) for row in rows]


def notebooks_shown(result: ExecuteInProcessResult) -> list[Path]:
    """The notebooks that the UI shows with the ops of a run: as done, and as failed."""
    found = []
    for event in result.all_events:
        metadata: dict[str, Any] = {}
        if event.is_successful_output:
            metadata = dict(event.step_output_data.metadata)
        elif event.is_step_failure and (data := event.step_failure_data.user_failure_data):
            metadata = dict(data.metadata)
        found += [value for name, value in metadata.items() if name.endswith(EXECUTED_NOTEBOOK)]
    assert all(isinstance(value, NotebookMetadataValue) for value in found)
    return [Path(str(value.value)) for value in found]


def test_notebooks_of_the_workbook_run_at_the_end_of_their_stage(start, folder, change_workbook):
    """Two of the stage Process, one of which gets the output of the other, and one of the stage Report."""
    write_notebook(
        folder / "checks.ipynb",
        OUTPUT,
        "from irp_pipeline.helpers.step import step_output\nfrom irp_pipeline.helpers.cycle import get_cycle_by_name",
        "built = step_output(get_cycle_by_name(cycle_name)['id'], 'process.build_portfolios')",
        "irp_output(portfolios=[row['name'] for row in configuration['portfolios']], found=bool(built), limit=limit)",
    )
    write_notebook(folder / "twice.ipynb", OUTPUT, "irp_output(twice=2 * outputs_of['checks']['limit'])")
    write_notebook(folder / "late.ipynb", OUTPUT, "irp_output(after=outputs_of['twice']['twice'])")
    sheet: list[dict[str, Any]] = [
        {"name": "twice", "notebook": "twice.ipynb", "stage": "process", "after": ["checks"]},
        {"name": "checks", "notebook": "checks.ipynb", "stage": "process", "parameters": {"limit": 5}},
        {"name": "late", "notebook": "late.ipynb", "after": ["twice"]},
    ]
    change_workbook(lambda content: content.update(notebooks=sheet))

    first = start(BEFORE_JOBS)
    assert first.success
    checks = {"portfolios": ["commercial"], "found": True, "limit": 5}
    done = [
        ("process.notebook:checks", "COMPLETED", checks),
        ("process.notebook:twice", "COMPLETED", {"twice": 10}),
    ]
    assert runs_of_notebooks() == done
    executed = folder / "executed_notebooks/process"
    assert notebooks_shown(first) == [executed / "checks.ipynb", executed / "twice.ipynb"]
    assert [(row.step_name, row.step_num) for row in progress_of_cycle(CYCLE) if row.step_num > 100] == [
        ("Notebook twice", 101),
        ("Notebook checks", 102),
    ]

    foreseen = {item.step: (str(item.foresight), item.reason) for item in explain(CYCLE)}
    assert foreseen["process.notebook:checks"][0] == "skip"
    assert foreseen["report.notebook:late"] == ("run", "it has not run before")

    selected, ops = only_notebook("report", "late")
    assert start(selected, ops).success
    assert runs_of_notebooks()[2:] == [("report.notebook:late", "COMPLETED", {"after": 10})]

    sheet[1]["parameters"] = {"limit": 6}
    change_workbook(lambda content: content.update(notebooks=sheet))
    again = start(BEFORE_JOBS)
    assert again.success
    assert [(key, status) for key, status, _ in runs_of_notebooks()[3:]] == [
        ("process.notebook:checks", "COMPLETED"),
        ("process.notebook:twice", "COMPLETED"),
    ]
    assert start(BEFORE_JOBS).success
    assert [status for _, status, _ in runs_of_notebooks()[5:]] == ["SKIPPED", "SKIPPED"]
    assert start(selected, ops).success
    assert runs_of_notebooks()[-1] == ("report.notebook:late", "COMPLETED", {"after": 12})


def test_a_notebook_that_fails_stops_the_cycle_before_jobs_are_submitted(start, folder, change_workbook):
    """The others of the stage that do not need it run all the same."""
    write_notebook(folder / "bad.ipynb", "losses = {}", "losses['TIV']")
    write_notebook(folder / "good.ipynb", OUTPUT, "irp_output(fine=True)")
    sheet = [
        {"name": "bad", "notebook": "bad.ipynb", "stage": "process"},
        {"name": "needs_bad", "notebook": "good.ipynb", "stage": "process", "after": ["bad"]},
        {"name": "good", "notebook": "good.ipynb", "stage": "process"},
    ]
    change_workbook(lambda content: content.update(notebooks=sheet))
    result = start([*BEFORE_JOBS, "submit"])
    assert not result.success
    ended = {key: status for key, status, _ in runs_of_notebooks()}
    assert ended == {"process.notebook:bad": "FAILED", "process.notebook:good": "COMPLETED"}
    (failure,) = [event for event in result.all_events if event.is_step_failure]
    assert failure.step_failure_data.user_failure_data.description == (
        "Notebook bad.ipynb stopped in cell 2 (In [3]): KeyError: 'TIV'. Also without a result: 'needs_bad'"
    )
    executed = folder / "executed_notebooks/process"
    assert {*notebooks_shown(result)} == {executed / "failed/bad.ipynb", executed / "good.ipynb"}
    assert "submit.share_out_jobs" not in {event.step_key for event in result.all_events if event.is_step_start}
    assert not fetch_all("SELECT id FROM irp_job WHERE status <> 'INITIATED'")


def test_a_notebook_of_a_team_is_an_op_of_its_own_job(start, folder, tmp_path):
    """Its stage, its job, its parameters; the second gets the output of the first."""
    stage = StageSpec(9, "Capital")
    write_notebook(tmp_path / "required capital.ipynb", OUTPUT, "irp_output(capital=factor * 100)")
    write_notebook(
        tmp_path / "allocation.ipynb",
        OUTPUT,
        "irp_output(half=outputs_of['required_capital']['capital'] / 2, known=configuration is None)",
    )
    required_capital = notebook_step(
        tmp_path / "required capital.ipynb", stage=stage, number=1, parameters={"factor": 3}, workbook=()
    )
    allocation = notebook_step(
        tmp_path / "allocation.ipynb", stage=stage, number=2, outputs_of=["required_capital"], timeout_minutes=None
    )

    @graph
    def capital() -> None:
        allocation(required_capital())

    job = capital.to_job(partitions_def=cycles, resource_defs={"database": DatabaseResource()})
    for status in ("COMPLETED", "SKIPPED"):
        result = start([], job=job)
        assert result.success
        assert runs_of_notebooks()[-2:] == [
            ("capital.required_capital", status, {"capital": 300}),
            ("capital.allocation", status, {"half": 150.0, "known": True}),
        ]
        executed = folder / "executed_notebooks/capital"
        assert notebooks_shown(result) == [executed / "required_capital.ipynb", executed / "allocation.ipynb"]
    assert json.loads((executed / "allocation.ipynb").read_text())["cells"]


def test_the_example_of_the_documentation_does_what_the_page_says(start, folder, tmp_path, monkeypatch):
    """The module of a team, with two notebooks in the working folder of its code location."""
    page = (Path(__file__).parents[3] / "docs" / "notebooks.md").read_text()
    example = page.partition("### In a job of your own")[2].partition("```python\n")[2].partition("```")[0]
    (tmp_path / "team_capital.py").write_text(example)
    by_hand = "from irp_pipeline.notebook import begin_step, end_step, irp_output"
    write_notebook(tmp_path / "required_capital.ipynb", OUTPUT, "irp_output(tvar=return_period * 2)")
    write_notebook(
        tmp_path / "allocation.ipynb",
        f"{by_hand}\nbegin_step('capital.allocation')",
        "irp_output(half=outputs_of['required_capital']['tvar'] / 2)",
        "end_step()",
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    team = importlib.import_module("team_capital")
    assert start(["setup.initialize_environment", "setup.validate_configuration"]).success
    assert start([], job=team.definitions.get_job_def("capital")).success
    assert runs_of_notebooks() == [
        ("capital.required_capital", "COMPLETED", {"tvar": 400}),
        ("capital.allocation", "COMPLETED", {"half": 200.0}),
    ]


def test_a_notebook_step_cannot_take_the_output_of_an_unknown_one(tmp_path):
    with pytest.raises(NotebookStepError, match="gets the output of 'nothing', which is not a notebook step yet"):
        notebook_step(tmp_path / "a.ipynb", stage=StageSpec(9, "Capital"), number=1, outputs_of=["nothing"])


def test_an_unknown_notebook_is_told_with_those_there_are(start, folder, change_workbook):
    write_notebook(folder / "good.ipynb", "1")
    change_workbook(lambda content: content.update(notebooks=[{"name": "good", "notebook": "good.ipynb"}]))
    assert start(["setup.initialize_environment", "setup.validate_configuration"]).success
    with pytest.raises(NotebookStepError, match="has no notebook 'god'; it names: good"):
        notebook_of_cycle(cycle_id(), "god")


def test_a_single_step_runs_without_the_notebooks_of_its_stage():
    assert selection(only_step="validate_exposure") == ["process.validate_exposure"]
    assert selection(only_step="cycle_report") == ["report.cycle_report"]
