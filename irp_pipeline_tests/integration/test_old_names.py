"""The public names of the old framework, used as it was used: they work, or say what replaces them when called.

Old code runs in this process under the name ``helpers``, so each test ends without it.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from irp_pipeline import compat
from irp_pipeline.errors import IrpError
from irp_pipeline.helpers.cycle import archive_cycle
from irp_pipeline.helpers.database import execute_command
from irp_pipeline.helpers.stage import get_or_create_stage
from irp_pipeline.helpers.step import get_last_step_run, get_or_create_step
from irp_pipeline.old_framework import OldNameError
from irp_pipeline_tests.support.recording_engine import analyses, make_batch, recording_engine

pytestmark = pytest.mark.usefixtures("test_schema", "_old_code")

NAMES = {
    "database": """
        DatabaseError get_engine test_connection table_exists view_exists execute_query execute_scalar execute_command
        execute_insert bulk_insert init_database get_current_schema set_schema schema_context transaction_context
        reset_schema get_schema_from_env init_from_environment create_cycle get_active_cycle get_cycle_by_name
        archive_cycle delete_archived_cycles get_cycle_progress get_step_history get_or_create_stage get_or_create_step
        get_step_info get_last_step_run create_step_run update_step_run""",
    "cycle": """
        CycleError get_active_cycle get_cycle_by_name create_cycle archive_cycle delete_cycle get_cycle_progress
        get_step_history delete_archived_cycles register_cycle archive_cycle_by_name validate_cycle_name
        get_active_cycle_id get_cycle_status register_stages_and_steps""",
    "stage": "StageError get_or_create_stage get_stage_by_id list_stages_for_cycle",
    "step": "StepError get_or_create_step get_step_info get_last_step_run create_step_run update_step_run Step",
    "context": "WorkContext get_context",
    "notebook_setup": "initialize_notebook_context",
    "ux": """
        header subheader section success error warning info table dataframe json cycle_summary step_progress
        format_duration format_timestamp clear_output yes_no text_input dropdown""",
    "batch": """
        BatchError create_batch read_batch update_batch_status validate_batch submit_batch get_batch_jobs
        get_batch_job_configurations recon_batch get_batches_for_configuration delete_batch""",
    "job": """
        JobError create_job create_job_with_config read_job update_job_status get_job_config skip_job submit_job
        track_job_status resubmit_job resubmit_jobs""",
    "configuration": """
        ConfigurationError read_configuration load_configuration_file validate_configuration_file
        create_job_configurations BATCH_TYPE_TRANSFORMERS""",
    "constants": "CycleStatus StepStatus BatchStatus ConfigurationStatus JobStatus BatchType",
    "db_context": "get_current_schema set_schema schema_context reset_schema get_schema_from_env init_from_environment",
}
OLD = "of the old framework: use"
GONE = [
    *("cycle.register_stages_and_steps", "batch.validate_batch", "job.create_job", "job.create_job_with_config"),
    *("job.update_job_status", "configuration.validate_configuration_file"),
]


@pytest.fixture
def _old_code(test_schema: str) -> Iterator[None]:
    compat.activate()
    yield
    compat.deactivate()
    execute_command("DELETE FROM irp_cycle")


def old(name: str) -> Any:
    """Return what old code imports by ``from helpers.module import name``."""
    module, _, attribute = name.partition(".")
    return getattr(importlib.import_module(f"helpers.{module}"), attribute)


def used(name: str, *args: Any, **kwargs: Any) -> Any:
    """Call an old function that warns, and check that the warning points here."""
    with pytest.warns(DeprecationWarning, match=OLD) as caught:
        result = old(name)(*args, **kwargs)
    assert caught[0].filename == __file__
    return result


@pytest.mark.parametrize("name", [f"{module}.{name}" for module, names in NAMES.items() for name in names.split()])
def test_every_name_can_be_imported_without_a_warning(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert old(name) is not None


def test_other_names_are_still_unknown_and_nothing_is_left_behind() -> None:
    with pytest.raises(AttributeError, match="nor had the old framework"):
        old("cycle.no_such_name")
    with pytest.raises(ImportError):
        importlib.import_module("helpers.no_such_module")
    old("batch.delete_batch")
    compat.deactivate()
    with pytest.raises(AttributeError):
        _ = importlib.import_module("irp_pipeline.helpers.batch").delete_batch


@pytest.mark.parametrize("name", GONE)
def test_what_does_not_exist_says_at_its_use_what_replaces_it(name: str) -> None:
    with pytest.raises(OldNameError, match=f"^{name.partition('.')[2]} of the old framework does not exist here: .+"):
        old(name)(1, "anything", client=None)


# --- database and constants -----------------------------------------------------------------------------------------


def test_database(test_schema: str) -> None:
    assert used("database.test_connection") is True
    assert used("database.test_connection", "no_such_schema") is False
    assert used("database.table_exists", "irp_cycle", schema=test_schema) is True
    assert used("database.table_exists", "irp_cycles") is False
    assert used("database.view_exists", "irp_cycle") is False
    with used("database.transaction_context"):
        execute_command("INSERT INTO irp_cycle (cycle_name) VALUES ('Q1')")
    assert old("database.get_engine")(test_schema) is old("database.get_engine")()
    with pytest.raises(IrpError, match="An engine has no schema"):
        old("database.get_engine")("another")
    assert old("database.init_database")(schema=test_schema) is True
    with pytest.warns(DeprecationWarning, match="ignores sql_file_name"):
        assert old("database.init_database")(test_schema, "init_database.sql") is True


def test_constants() -> None:
    assert old("constants.CycleStatus").all() == ["ACTIVE", "ARCHIVED"]
    assert old("constants.JobStatus").terminal() == ["FINISHED", "FAILED", "CANCELLED", "ERROR"]
    assert old("constants.BatchStatus").terminal() == ["COMPLETED", "FAILED", "CANCELLED", "ERROR"]
    assert old("constants.StepStatus").terminal() == ["COMPLETED", "FAILED", "SKIPPED"]
    assert old("constants.ConfigurationStatus").all() == ["NEW", "VALID", "ACTIVE", "ERROR"]


# --- cycles and stages ----------------------------------------------------------------------------------------------


def test_cycles_and_stages() -> None:
    cycle_id = used("cycle.register_cycle", "Q1-2024")
    assert old("cycle.get_active_cycle_id")() == cycle_id
    assert used("cycle.validate_cycle_name", "Q2-2024") is True
    assert used("cycle.validate_cycle_name", "Q2 2024") is False
    assert isinstance(old("cycle.get_cycle_status")(), pd.DataFrame)
    old("stage.get_or_create_stage")(cycle_id, 2, "Extract")
    stage_id = old("stage.get_or_create_stage")(cycle_id, 1, "Setup")
    stages = old("stage.list_stages_for_cycle")(cycle_id)
    assert isinstance(stages, pd.DataFrame)
    assert list(stages["stage_name"]) == ["Setup", "Extract"]
    assert old("stage.get_stage_by_id")(stages.iloc[0]["id"])["id"] == stage_id
    assert used("cycle.archive_cycle_by_name", "Q1-2024") is True
    assert used("cycle.archive_cycle_by_name", "Q9-2024") is False


# --- batches and jobs -----------------------------------------------------------------------------------------------


def test_batches_and_jobs(tmp_path: Path) -> None:
    with recording_engine(tmp_path):
        batch_id = make_batch(analyses(2))
        batch = old("batch.read_batch")(batch_id)
        configurations = used("batch.get_batch_job_configurations", batch_id)
        assert [found["job_configuration_data"]["name"] for found in configurations] == ["a0", "a1"]
        assert used("batch.get_batches_for_configuration", batch["configuration_id"]) == [batch]
        first, second = (job["id"] for job in old("batch.get_batch_jobs")(batch_id))
        assert used("job.get_job_config", first)["name"] == "a0"
        assert len(used("job.resubmit_jobs", [first, second])) == 2
        assert used("batch.update_batch_status", batch_id, "FAILED") is True
        assert used("batch.update_batch_status", 424242, "FAILED") is False
        with pytest.warns(DeprecationWarning, match=OLD), pytest.raises(old("batch.BatchError"), match="LOST"):
            old("batch.update_batch_status")(batch_id, "LOST")
        client = object()
        for name, number in (
            ("batch.submit_batch", batch_id),
            ("job.submit_job", first),
            ("job.track_job_status", first),
        ):
            with pytest.raises(IrpError, match="A client of a vendor's API is not part of this package"):
                old(name)(number, client)
        data = old("configuration.read_configuration")(batch["configuration_id"])["configuration_data"]
        assert len(used("configuration.create_job_configurations", "analysis", data)) == 2
        assert "analysis" in old("configuration.BATCH_TYPE_TRANSFORMERS")
        assert old("batch.submit_batch")(batch_id) == 2
        with pytest.warns(DeprecationWarning, match=OLD), pytest.raises(IrpError, match="2 of its jobs are under"):
            old("batch.delete_batch")(batch_id)
        execute_command("UPDATE irp_job SET status = 'CANCELLED'")
        assert used("batch.delete_batch", batch_id) is True
        assert used("batch.delete_batch", batch_id) is False


# --- notebooks ------------------------------------------------------------------------------------------------------


@pytest.fixture
def notebook(tmp_path: Path) -> Path:
    return tmp_path / "Active_Q1-2024" / "notebooks" / "Stage_02_Extract_Data" / "Step_03_Read_Policies.ipynb"


def test_the_place_of_a_notebook_says_which_step_it_is(notebook: Path) -> None:
    context = old("context.WorkContext")(notebook)
    assert (context.cycle_name, context.stage_num, context.stage_name) == ("Q1-2024", 2, "Extract Data")
    assert (context.step_num, context.step_name) == (3, "Read Policies")
    assert context.cycle_directory == notebook.parents[2]
    assert old("context.get_context")(str(notebook)).get_info() == context.get_info()
    assert context.step_id == get_or_create_step(get_or_create_stage(context.cycle_id, 2, "x"), 3, "x")
    with pytest.raises(IrpError, match="no folder Active_<cycle>"):
        old("context.WorkContext")("/data/Stage_01_A/Step_01_B.ipynb")
    with pytest.raises(IrpError, match="'Read' is not Step_NN_Name"):
        old("context.WorkContext")(notebook.with_name("Read.ipynb"))
    archive_cycle(context.cycle_id)
    with pytest.raises(IrpError, match="is archived"):
        old("context.WorkContext")(notebook)


def test_a_step_of_a_notebook(
    notebook: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    notebook.parent.mkdir(parents=True)
    monkeypatch.chdir(notebook.parent)
    context, step = used("notebook_setup.initialize_notebook_context", notebook.name)

    def last() -> Any:
        run = get_last_step_run(context.step_id)
        assert run is not None
        return run["run_num"], run["status"], run["output_data"], run["error_message"]

    with pytest.raises(IrpError, match="was not started"):
        step.complete()
    assert step.get_last_output() is None
    assert step.start() is True
    step.log("reading")
    step.checkpoint({"rows": 1})
    assert last() == (1, "ACTIVE", {"checkpoint": {"rows": 1}}, None)
    step.complete({"rows": 2})
    assert last() == (1, "COMPLETED", {"rows": 2}, None)
    assert step.get_last_output() == {"rows": 2}
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    with pytest.raises(IrpError, match=r"has run 1, COMPLETED.*force=True"):
        step.start()
    assert step.start(force=True) is True
    step.fail("no such file")
    assert last() == (2, "FAILED", None, "no such file")
    again = old("step.Step")(context)
    again.skip("not needed")
    assert last() == (3, "SKIPPED", {"skip_reason": "not needed"}, None)
    assert step.get_last_output() == {"rows": 2}
    assert "INFO: reading" in capsys.readouterr().out


def test_a_person_is_asked_before_a_finished_step_runs_again(notebook: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step = old("step.Step")(old("context.WorkContext")(notebook))
    step.skip("not needed")
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda _: "n")
    assert step.start() is False
    monkeypatch.setattr("builtins.input", lambda _: "y")
    assert step.start() is True


def test_what_is_printed_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    ux = importlib.import_module("helpers.ux")
    show: list[Callable[[str], None]] = [ux.header, ux.subheader, ux.section, ux.success, ux.error, ux.warning, ux.info]
    for function in show:
        function("Zürich")
    assert capsys.readouterr().out.count("Zürich") == len(show)
    ux.table([["a", 1], ["long", 22]], ["Name", "Number"])
    assert capsys.readouterr().out.splitlines() == ["Name  Number", "----  ------", "a     1", "long  22"]
    ux.table([])
    ux.dataframe(pd.DataFrame({"x": [1]}), "One")
    ux.json({"é": None})
    ux.cycle_summary({"cycle_name": "Q1", "archived_ts": None})
    ux.step_progress(1, 3, "Extract")
    ux.clear_output()
    assert "[1/3] Extract" in capsys.readouterr().out
    assert ux.format_duration(125) == "2 min 05 s"
    assert (ux.format_duration(None), ux.format_timestamp(None)) == ("-", "-")


def test_people_are_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    ux = importlib.import_module("helpers.ux")
    answers = iter(["perhaps", "y", "", "7", "2"])
    monkeypatch.setattr("builtins.input", lambda _: next(answers))
    assert ux.yes_no("Go?") is True
    assert ux.text_input("Name?", "Q1") == "Q1"
    assert ux.dropdown("Which?", ["a", "b"]) == "b"
