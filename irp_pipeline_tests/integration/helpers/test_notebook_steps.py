"""Notebooks as steps, in real kernels: when they run, what they find and leave, and how they fail."""

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from irp_pipeline import settings
from irp_pipeline.engines.folders import processes_of
from irp_pipeline.helpers.artefact import list_artefacts
from irp_pipeline.helpers.cycle import create_cycle
from irp_pipeline.helpers.database import execute_command, execute_scalar, fetch_all, init_database
from irp_pipeline.helpers.db_context import schema_context
from irp_pipeline.helpers.notebooks.errors import NotebookStepError
from irp_pipeline.helpers.notebooks.step import NotebookStep
from irp_pipeline.helpers.step import TrackedRun, get_last_step_run, get_step_info, track_step
from irp_pipeline.postgres.schemas import drop
from irp_pipeline.process import MARK_OF_NOTEBOOK
from irp_pipeline_tests.support.notebooks import code, outputs_of, run_step, step_of, text, write_notebook

CYCLE = "Q1-2024"
OUTPUT = "from irp_pipeline.notebook import irp_output"


@pytest.fixture(scope="module", autouse=True)
def _files(own_home: Path) -> None:
    """Files of their own."""


@pytest.fixture
def cycle_id(test_schema: str) -> Iterator[int]:
    yield create_cycle(CYCLE)
    execute_command("DELETE FROM irp_cycle")


@pytest.fixture
def run(cycle_id: int) -> Callable[..., TrackedRun]:
    return lambda step, **options: run_step(step, cycle_id, CYCLE, **options)


def folder(schema: str) -> Path:
    return settings.cycle_dir(schema, CYCLE)


def last_run(step: NotebookStep, cycle_id: int) -> dict[str, Any]:
    found = get_last_step_run(step.step_id(cycle_id))
    assert found is not None
    return found


def test_a_notebook_finds_its_parameters_and_gives_back_its_figures(run, cycle_id, test_schema, tmp_path):
    """Old code runs as it is, modules beside the notebook are found, and helpers beside it are not."""
    (tmp_path / "own_rates.py").write_text("RATE = 1.27\n")
    (tmp_path / "json.py").write_text("raise RuntimeError('a module of Python was replaced')\n")
    (tmp_path / "helpers").mkdir()
    (tmp_path / "helpers" / "database.py").write_text("raise RuntimeError('the old module')\n")
    notebook = write_notebook(
        tmp_path / "capital.ipynb",
        text("# Capital"),
        code("return_period = 100\nshare = 0.5", metadata={"tags": ["parameters"]}),
        "import os\nfrom helpers.database import execute_scalar\nfrom own_rates import RATE",
        OUTPUT,
        "irp_output(cycle=execute_scalar('SELECT cycle_name FROM irp_cycle'), rate=RATE, home=os.environ['IRP_HOME'])",
        "irp_output(given=[cycle_name, schema, configuration, return_period, share, text])\nprint('done')",
    )
    step = step_of(notebook, parameters={"return_period": 200, "text": 'a "quoted"\n{text}'})
    done = run(step)
    given = [CYCLE, test_schema, None, 200, 0.5, 'a "quoted"\n{text}']
    assert done.output == {"cycle": CYCLE, "rate": 1.27, "home": str(settings.irp_home()), "given": given}
    recorded = last_run(step, cycle_id)
    assert (recorded["status"], recorded["output_data"]) == ("COMPLETED", done.output)
    info = get_step_info(recorded["step_id"])
    assert info is not None
    assert info["notebook_path"] == "capital.ipynb"
    executed = folder(test_schema) / "executed_notebooks/own/capital.ipynb"
    assert [*list_artefacts(cycle_id, "executed_notebooks")] == ["executed_notebooks/own/capital.ipynb"]
    assert outputs_of(executed) == ["done\n"]
    assert str(settings.irp_home()) not in json.dumps(json.loads(executed.read_text())["metadata"])
    assert json.loads(notebook.read_text())["cells"][-1]["outputs"] == []
    assert not [*(folder(test_schema) / ".scratch").glob("*")]


def test_a_notebook_of_the_old_framework_runs_unchanged_and_again(run, test_schema, tmp_path):
    """Its own record of the step is made beside, and nobody is asked whether to run it again."""
    place = tmp_path / f"Active_{CYCLE}" / "notebooks" / "Stage_03_Data" / "Step_02_Check.ipynb"
    path = write_notebook(
        place,
        "from helpers.notebook_setup import initialize_notebook_context",
        "context, step = initialize_notebook_context('Step_02_Check.ipynb')\nstep.start()",
        "step.complete({'rows': 1})",
    )
    for rerun in (False, True):
        assert not run(step_of(path, named="Step_02_Check.ipynb"), rerun=rerun).skipped
    rows = fetch_all(
        "SELECT r.status FROM irp_step_run r JOIN irp_step st ON st.id = r.step_id WHERE st.step_name = 'Check'"
    )
    assert [row["status"] for row in rows] == ["COMPLETED", "COMPLETED"]


def test_only_other_code_or_parameters_make_it_run_again(run, tmp_path):
    path = tmp_path / "capital.ipynb"
    write_notebook(path, OUTPUT, "irp_output(a=1)")
    assert not run(step_of(path)).skipped
    assert run(step_of(path)).skipped
    output = {"output_type": "stream", "name": "stdout", "text": "1\n"}
    write_notebook(path, text("# New"), OUTPUT, code("irp_output(a=1)", execution_count=3, outputs=[output]))
    again = run(step_of(path))
    assert (again.skipped, again.output) == (True, {"a": 1})
    write_notebook(path, OUTPUT, "irp_output(a=1)  # really")
    edited = run(step_of(path))
    assert not edited.skipped
    assert edited.reason.startswith("code of the notebook changed from")
    other = run(step_of(path, parameters={"b": 2}))
    assert (other.skipped, other.reason) == (False, "parameter b is new")


def test_it_gets_the_output_data_of_others_and_runs_again_only_when_they_change(run, tmp_path):
    first = step_of(
        write_notebook(tmp_path / "first.ipynb", OUTPUT, "irp_output(rate=RATE)"),
        "own.notebook:first",
        parameters={"RATE": 2},
    )
    second = step_of(
        write_notebook(tmp_path / "second.ipynb", OUTPUT, "irp_output(twice=2 * outputs_of['first']['rate'])"),
        "own.notebook:second",
        outputs={"first": first.step_key},
    )
    with pytest.raises(NotebookStepError, match=r"second\.ipynb gets the output of first, which has not completed"):
        run(second)
    run(first)
    assert run(second).output == {"twice": 4}
    run(first, rerun=True)
    assert run(second).skipped
    write_notebook(tmp_path / "first.ipynb", OUTPUT, "irp_output(rate=RATE + 1)")
    run(first)
    assert run(second).output == {"twice": 6}


def test_an_error_is_one_line_with_its_cell_and_the_notebook_is_kept(run, cycle_id, test_schema, tmp_path):
    path = tmp_path / "capital.ipynb"
    write_notebook(path, text("# Capital"), "losses = {}", text("More"), "print('here')\nlosses['TIV']", "print(1)")
    step = step_of(path)
    with pytest.raises(NotebookStepError) as caught:
        run(step)
    assert str(caught.value) == "Notebook capital.ipynb stopped in cell 4 (In [3]): KeyError: 'TIV'"
    kept = folder(test_schema) / "executed_notebooks/own/failed/capital.ipynb"
    assert caught.value.executed == kept
    assert outputs_of(kept) == ["here\n"]
    recorded = last_run(step, cycle_id)
    assert recorded["status"] == "FAILED"
    assert recorded["error_message"].splitlines()[0] == f"NotebookStepError: {caught.value}"
    write_notebook(path, "losses = {}")
    assert run(step).reason == "run 1 failed"
    assert not kept.exists()


@pytest.mark.parametrize(
    ("cell", "minutes", "told"),
    [
        (
            "import time; time.sleep(600)",
            0.05,
            r"(in cell [12]( \(In \[[23]\]\))?|before its first cell): it ran longer than its limit of 0\.05 minutes",
        ),
        (
            "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
            10,
            r"in cell 2( \(In \[3\]\))?: its kernel was killed by SIGKILL, as the system does when memory runs out",
        ),
    ],
    ids=["too long", "killed"],
)
def test_a_kernel_that_does_not_end_by_itself_is_told_in_one_line(
    run, cycle_id, test_schema, tmp_path, cell, minutes, told
):
    """And what it started is gone with it."""
    start = "import subprocess; child = subprocess.Popen(['sleep', '600'], start_new_session=True)"
    step = step_of(write_notebook(tmp_path / "capital.ipynb", start, cell), timeout_minutes=minutes)
    with pytest.raises(NotebookStepError, match=rf"^Notebook capital\.ipynb stopped {told}$"):
        run(step)
    assert last_run(step, cycle_id)["status"] == "FAILED"
    assert left_in(folder(test_schema)) == []


def left_in(place: Path) -> list[int]:
    """The processes of notebooks whose work is in a folder."""
    import psutil

    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK_OF_NOTEBOOK, "").startswith(str(place)):
                found.append(process.pid)
        except (psutil.Error, OSError):
            continue
    return found


def test_notebooks_at_the_same_time_keep_their_schemas_apart(test_schema, tmp_path):
    """By the helpers, by old code and by SQLAlchemy alike."""
    path = write_notebook(
        tmp_path / "capital.ipynb",
        OUTPUT,
        "from helpers.database import execute_command, get_engine\nfrom sqlalchemy import text",
        "execute_command('CREATE TABLE IF NOT EXISTS of_notebooks (said text)')",
        "for _ in range(20):\n    execute_command('INSERT INTO of_notebooks VALUES (%s)', (mark,))",
        "with get_engine().begin() as connection:\n"
        "    found = connection.execute(text('SELECT DISTINCT said FROM of_notebooks')).scalars().all()",
        "irp_output(schema=schema, found=found)",
    )
    schemas = [f"{test_schema}_{letter}" for letter in "ab"]
    done: dict[str, Any] = {}

    def work(schema: str) -> None:
        with schema_context(schema):
            done[schema] = run_step(step_of(path, parameters={"mark": schema}), create_cycle(CYCLE), CYCLE).output

    try:
        for schema in schemas:
            init_database(schema)
        threads = [threading.Thread(target=work, args=(schema,)) for schema in schemas]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert done == {schema: {"schema": schema, "found": [schema]} for schema in schemas}
        for schema in schemas:
            assert execute_scalar("SELECT count(*) FROM of_notebooks", schema=schema) == 20
    finally:
        for schema in schemas:
            drop(schema)


def test_a_notebook_whose_run_lost_its_lease_is_ended(cycle_id, test_schema, tmp_path):
    step = step_of(write_notebook(tmp_path / "capital.ipynb", "import time; time.sleep(600)"))
    with (  # noqa: PT012
        pytest.raises(NotebookStepError, match=r"^Notebook capital\.ipynb stopped .*: its run lost its lease$"),
        track_step(step.step_id(cycle_id), inputs=step.inputs(cycle_id)) as lost,
    ):
        lost.lease_lost = True
        step.work(lost, cycle_id, CYCLE)
    assert left_in(folder(test_schema)) == []


def test_code_that_was_saved_after_the_step_began_is_recorded_as_what_ran(cycle_id, test_schema, tmp_path):
    """Or the next launch would skip the step for code that never ran."""
    path = write_notebook(tmp_path / "capital.ipynb", "a = 1")
    step = step_of(path)
    with track_step(step.step_id(cycle_id), inputs=step.inputs(cycle_id)) as first:
        write_notebook(path, "a = 2")
        step.work(first, cycle_id, CYCLE)
    assert run_step(step, cycle_id, CYCLE).skipped
    write_notebook(path, "a = 1")
    assert not run_step(step, cycle_id, CYCLE).skipped


def test_jobs_that_a_notebook_submits_outlive_it(run, tmp_path, monkeypatch):
    """The worker that it wakes is not one of its processes."""
    monkeypatch.setenv("IRP_JOB_SLOTS", "1")
    path = write_notebook(
        tmp_path / "submit.ipynb",
        OUTPUT,
        "import os\nfrom irp_pipeline.engines import waking",
        f"irp_output(marked='{MARK_OF_NOTEBOOK}' in os.environ, worker='{MARK_OF_NOTEBOOK}' in waking._environment())",
    )
    assert run(step_of(path)).output == {"marked": True, "worker": False}


def test_nothing_of_these_tests_is_left(test_schema):
    assert left_in(settings.irp_home()) == []
    assert fetch_all("SELECT id FROM irp_step_run WHERE status = 'ACTIVE'") == []
    assert [*processes_of(Path("nowhere"), MARK_OF_NOTEBOOK)] == []
