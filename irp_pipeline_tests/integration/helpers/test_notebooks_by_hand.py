"""A notebook that a person opened does the same work with the same records as the pipeline."""

import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbclient
import nbformat
import psutil
import pytest
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import KernelManager
from traitlets import Unicode

from irp_pipeline import settings
from irp_pipeline.helpers.configuration import load_configuration
from irp_pipeline.helpers.cycle import create_cycle
from irp_pipeline.helpers.database import execute_command, fetch_all
from irp_pipeline.helpers.notebooks import by_hand
from irp_pipeline.helpers.notebooks.errors import NotebookStepError
from irp_pipeline.helpers.notebooks.of_workbook import notebook_of_cycle
from irp_pipeline.helpers.step import StepError
from irp_pipeline.notebook import irp_output
from irp_pipeline.workbook import write_workbook
from irp_pipeline_tests.support.made_up_cycle import workbook
from irp_pipeline_tests.support.notebooks import code, run_step, step_of, write_notebook
from irp_pipeline_tests.support.waiting import wait_until

CYCLE = "Q1-2024"
CELLS: list[Any] = [
    code("return_period = 100", metadata={"tags": ["parameters"]}),
    "from irp_pipeline.notebook import begin_step, end_step, irp_output\nbegin_step('capital')",
    "irp_output(given=[cycle_name, return_period, sorted(configuration)], tvar=4.1)",
    "end_step()",
]
OUTPUT = {"given": [CYCLE, 200, ["analyses", "groupings", "metadata", "portfolios"]], "tvar": 4.1}


@pytest.fixture
def cycle_id(own_files: None, test_schema: str) -> Iterator[int]:
    """A cycle whose workbook names a notebook."""
    found = create_cycle(CYCLE)
    data = settings.cycle_dir(test_schema, CYCLE) / "data"
    content = workbook()
    for portfolio in content.portfolios:
        for table in ("location", "account", "ri_info", "ri_scope"):
            place = data / str(getattr(portfolio, table))
            place.parent.mkdir(parents=True, exist_ok=True)
            place.touch()
    (data / "storm").mkdir()
    write_notebook(data / "capital.ipynb", *CELLS)
    row = {"name": "capital", "notebook": "capital.ipynb", "parameters": {"return_period": 200}}
    named = type(content).model_validate(content.to_json() | {"notebooks": [row]})
    load_configuration(found, write_workbook(data / "configuration.xlsx", named))
    yield found
    by_hand.abandon()
    execute_command("DELETE FROM irp_cycle")


@pytest.fixture
def kernel(cycle_id: int, test_schema: str, tmp_path: Path) -> Iterator[KernelManager]:
    """A kernel as Jupyter starts it, with sockets of its own."""

    class Manager(KernelManager):
        transport = Unicode("ipc")
        ip = Unicode(str(tmp_path / "k"))

        @property
        def kernel_spec(self) -> KernelSpec:
            command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
            return KernelSpec(argv=[*command, "--ext", "irp_pipeline.notebook"], language="python")

    manager = Manager(connection_file=str(tmp_path / "kernel.json"))
    manager.start_kernel(env={**os.environ, "DB_SCHEMA": test_schema, "IPYTHONDIR": str(tmp_path / "ipython")})
    yield manager
    if manager.has_kernel:
        manager.shutdown_kernel(now=True)


@pytest.fixture
def run_cells(kernel: KernelManager) -> Callable[..., list[str]]:
    """Runs cells in the kernel, also after one that fails, and returns what each printed, or its error."""

    def run(*cells: str | dict[str, Any]) -> list[str]:
        made = [cell if isinstance(cell, dict) else code(cell) for cell in cells]
        notebook = nbformat.from_dict({"cells": made, "metadata": {}, "nbformat": 4, "nbformat_minor": 4})
        client = nbclient.NotebookClient(notebook, km=kernel, timeout=120, allow_errors=True)
        client.execute()
        if client.kc:
            client.kc.stop_channels()
        return ["".join(map(_told, cell.outputs)) for cell in notebook.cells]

    return run


def _told(output: Any) -> str:
    if output.output_type == "error":
        return f"{output.ename}: {output.evalue}"
    return str(output.text) if output.output_type == "stream" else ""


def runs() -> list[tuple[str, Any]]:
    rows = fetch_all("SELECT status, output_data FROM irp_step_run ORDER BY id")
    return [(row["status"], row["output_data"]) for row in rows]


def pipeline(cycle_id: int) -> tuple[bool, str, Any]:
    """Whether the pipeline skips the step, why, and with which output."""
    run = run_step(notebook_of_cycle(cycle_id, "capital"), cycle_id, CYCLE)
    return run.skipped, run.reason, run.output


def test_the_same_work_by_hand_is_the_same_for_the_pipeline(run_cells, cycle_id, test_schema):
    """And the other way round: what the pipeline did is done by hand, too."""
    told = run_cells(*CELLS)
    assert "run 1 of cycle Q1-2024" in told[1]
    assert "Run 1 has completed.\n" in told[3]
    assert runs() == [("COMPLETED", OUTPUT)]
    kept = settings.cycle_dir(test_schema, CYCLE) / "executed_notebooks/report/capital.ipynb"
    assert [cell["source"] for cell in json.loads(kept.read_text())["cells"]][-1] == "end_step()"
    assert pipeline(cycle_id)[0::2] == (True, OUTPUT)

    again = run_cells(*CELLS)
    assert again[1].startswith("StepIsDoneError: There is nothing to do: run 1 did the work")
    assert "call begin_step first" in again[3]
    run_cells("begin_step('capital', rerun=True)", *CELLS[2:])
    assert [status for status, _ in runs()] == ["COMPLETED", "SKIPPED", "SKIPPED", "COMPLETED"]
    skipped, reason, output = pipeline(cycle_id)
    assert (skipped, output) == (False, OUTPUT)
    assert reason.startswith("code of the notebook changed")


def test_work_that_is_not_that_of_the_file_does_not_count_for_the_pipeline(run_cells, cycle_id):
    told = run_cells(*CELLS[:2], "irp_output(tvar=99)", CELLS[3])
    assert "What was run is not what the file holds, so the pipeline would do the work again" in told[3]
    assert runs() == [("COMPLETED", {"tvar": 99})]
    assert pipeline(cycle_id)[0::2] == (False, OUTPUT)


def test_a_closed_kernel_leaves_a_failed_run(run_cells, kernel, cycle_id):
    run_cells(*CELLS[:3])
    assert [status for status, _ in runs()] == ["ACTIVE"]
    with pytest.raises(StepError, match="is at work already"):
        pipeline(cycle_id)
    kernel.shutdown_kernel()
    (row,) = fetch_all("SELECT status, error_message FROM irp_step_run")
    assert row["status"] == "FAILED"
    assert "The kernel was closed before end_step" in row["error_message"]
    assert pipeline(cycle_id)[:2] == (False, "run 1 failed")


def test_a_killed_kernel_leaves_a_lost_run(run_cells, kernel, cycle_id):
    run_cells(*CELLS[:3])
    process = psutil.Process(kernel.provisioner.process.pid)
    process.kill()
    wait_until(lambda: process.status() == psutil.STATUS_ZOMBIE)
    assert pipeline(cycle_id)[:2] == (False, "the worker of run 1 was lost")


class TestWithoutAKernel:
    """What needs no notebook: the functions are plain ones."""

    def test_a_step_that_is_begun_twice_fails_the_first_time(self, cycle_id):
        by_hand.begin_step("capital")
        by_hand.begin_step("capital")
        by_hand.end_step()
        assert [status for status, _ in runs()] == ["FAILED", "COMPLETED"]

    def test_the_only_open_cycle_is_meant_if_none_is_named(self, cycle_id):
        create_cycle("Q2-2024")
        with pytest.raises(Exception, match="the open cycles are Q2-2024, Q1-2024"):
            by_hand.begin_step("capital")
        by_hand.begin_step("capital", cycle=CYCLE)
        by_hand.abandon(KeyboardInterrupt())
        assert [status for status, _ in runs()] == ["FAILED"]

    def test_a_step_that_code_declares_is_known_by_its_key(self, cycle_id, tmp_path, monkeypatch):
        step = step_of(write_notebook(tmp_path / "own.ipynb", "1"), "capital.own", parameters={"factor": 2})
        monkeypatch.setitem(by_hand.DECLARED, step.step_key, step)
        by_hand.begin_step("capital.own")
        with pytest.raises(StepError, match="is at work already"):
            run_step(step, cycle_id, CYCLE)
        irp_output(tvar=1)
        by_hand.end_step()
        assert runs() == [("COMPLETED", {"tvar": 1})]
        assert not run_step(step, cycle_id, CYCLE).skipped  # no cell of the file was run

    def test_a_name_that_is_not_known_is_told(self, cycle_id):
        with pytest.raises(NotebookStepError, match=r"has no notebook 'tvar'; it names: capital.*import the module"):
            by_hand.begin_step("tvar")
        assert runs() == []

    def test_a_step_must_be_begun_before_it_ends(self, cycle_id):
        with pytest.raises(NotebookStepError, match="call begin_step first"):
            by_hand.end_step()
