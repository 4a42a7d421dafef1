"""Real notebooks in real kernels, as Jupyter runs them, on the real database."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import nbclient
import nbformat
import pytest
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import KernelManager
from nbformat.v4 import new_code_cell, new_notebook

from irp_pipeline import settings
from irp_pipeline.helpers.cycle import delete_cycle, get_cycle_by_name, get_step_history
from irp_pipeline.helpers.database import fetch_all
from irp_pipeline.helpers.db_context import carry_schema
from irp_pipeline.helpers.result import get_results, save_results
from irp_pipeline.notebook import NotebookError, install_kernel
from irp_pipeline_tests.support.made_up_cycle import finish_jobs, make_batch, workbook

EXAMPLES = Path(__file__).parents[2] / "examples"
EXAMPLE, LOSSES = EXAMPLES / "cycle.ipynb", EXAMPLES / "losses.ipynb"

RunCells = Callable[..., list[str]]


@pytest.fixture(scope="module")
def jupyter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder of Jupyter's own, so that nothing of the user's is read or changed. Yields the prefix of kernels."""
    root = tmp_path_factory.mktemp("jupyter")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("JUPYTER_DATA_DIR", str(root / "data"))
        environment.setenv("JUPYTER_RUNTIME_DIR", str(root / "runtime"))
        environment.setenv("JUPYTER_CONFIG_DIR", str(root / "config"))
        environment.setenv("IPYTHONDIR", str(root / "ipython"))
        environment.setenv("JUPYTER_PATH", str(root / "prefix" / "share" / "jupyter"))
        yield root / "prefix"


@pytest.fixture(scope="module")
def old_workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a package ``helpers`` of its own, which must not be the one that notebooks find."""
    workspace = tmp_path_factory.mktemp("workspace")
    (workspace / "helpers").mkdir()
    (workspace / "helpers" / "__init__.py").touch()
    (workspace / "helpers" / "database.py").write_text("raise RuntimeError('the old module was imported')\n")
    return workspace


@pytest.fixture(scope="module")
def irp_kernel(jupyter: Path, old_workspace: Path, test_schema: str) -> Iterator[KernelManager]:
    """The installed kernel, started by a Jupyter in another folder that knows no IRP_HOME."""
    install_kernel(prefix=jupyter)
    kernel = KernelManager(kernel_name="irp")
    kernel.start_kernel(cwd=str(old_workspace), env=_environment(DB_SCHEMA=test_schema))
    yield kernel
    kernel.shutdown_kernel(now=True)


@pytest.fixture
def run_cells(irp_kernel: KernelManager) -> RunCells:
    """Runs cells in the kernel, also after one that fails, and returns what each put out."""
    return lambda *cells: _outputs(_notebook(*cells), irp_kernel, allow_errors=True)


def _environment(**more: str) -> dict[str, str]:
    return {**{name: value for name, value in os.environ.items() if name != "IRP_HOME"}, **more}


def _notebook(*cells: str) -> nbformat.NotebookNode:
    notebook: nbformat.NotebookNode = new_notebook(cells=[new_code_cell(cell) for cell in cells])
    return notebook


def _outputs(notebook: nbformat.NotebookNode, kernel: KernelManager, allow_errors: bool = False) -> list[str]:
    client = nbclient.NotebookClient(notebook, km=kernel, timeout=120, allow_errors=allow_errors)
    try:
        client.execute()
    finally:
        if client.kc:
            client.kc.stop_channels()
    return ["".join(map(_text, cell.outputs)) for cell in notebook.cells if cell.cell_type == "code"]


def _text(output: nbformat.NotebookNode) -> str:
    if output.output_type == "stream":
        return str(output.text)
    if output.output_type == "error":
        return f"{output.ename}: {output.evalue}"
    return str(output.data["text/plain"])


@pytest.mark.parametrize("example", [EXAMPLE, LOSSES], ids=lambda path: path.stem)
def test_the_examples_are_valid_and_hold_no_outputs(example):
    notebook = nbformat.read(example, as_version=nbformat.NO_CONVERT)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code)


class TestInTheInstalledKernel:
    def test_the_example_runs_again_and_again(self, irp_kernel, test_schema):
        for _ in range(2):
            _outputs(nbformat.read(EXAMPLE, as_version=4), irp_kernel)
        history = get_step_history("Example-2024")
        assert [*history["status"]] == ["SKIPPED", "COMPLETED"]
        assert [*history["output_data"]] == [{"locations": 3, "total_insured_value": 2_045_000}] * 2
        assert fetch_all("SELECT stage_name, step_name FROM irp_stage JOIN irp_step ON stage_id = irp_stage.id") == [
            {"stage_name": "Setup", "step_name": "Add up insured values"}
        ]

    def test_the_example_ends_with_losses_and_a_comparison(self, irp_kernel, test_schema):
        for cycle_name, date, scale in (("Q1-2024", "2024-01-01", 1.0), ("Q2-2024", "2024-04-01", 1.1)):
            batch_id = make_batch(cycle_name, workbook(exposure_date=date))
            finish_jobs(batch_id, scale=scale)
            save_results(batch_id)
        losses = get_results(batch_id).query("metric == 'AAL'")["loss"]
        example = nbformat.read(LOSSES, as_version=4)
        _outputs(example, irp_kernel)
        for cycle_name in ("Q1-2024", "Q2-2024"):
            cycle = get_cycle_by_name(cycle_name)
            assert cycle is not None
            delete_cycle(cycle["id"])
        _, progress, table, counts, curves, changes, both = [
            cell.outputs[0].data if cell.outputs else {} for cell in example.cells if cell.cell_type == "code"
        ]
        assert "3 of 3 jobs have finished" in progress["text/html"]
        for loss in losses:
            assert f"{loss:,.0f}" in table["text/html"]
        assert "AAL" in counts["text/html"]
        assert changes["text/html"].count("+10.0%") > len(losses)
        for chart in (curves, both):
            assert {"image/png", "application/vnd.vegalite.v5+json"} <= {*chart}

    def test_progress_is_updated_in_place(self, irp_kernel, test_schema):
        batch_id = make_batch("Q3-2024", workbook())
        code = (
            "from irp_pipeline.notebook import follow_batch, follow_cycle\n"
            f"follow_batch({batch_id})\n"
            "follow_cycle('Q3-2024', every=0.1, wait=0.3)"
        )
        notebook = _notebook(code)
        ending = threading.Timer(1.5, carry_schema(finish_jobs), [batch_id])
        ending.start()
        try:
            _outputs(notebook, irp_kernel)
        finally:
            ending.join()
            cycle = get_cycle_by_name("Q3-2024")
            assert cycle is not None
            delete_cycle(cycle["id"])
        batch, followed = [output.data["text/html"] for output in notebook.cells[0].outputs]
        assert "It is COMPLETED" in batch
        assert "3 of 3 jobs have finished" in batch
        assert "Cycle Q3-2024" in followed

    def test_an_old_notebook_runs_unchanged(self, irp_kernel, old_workspace, test_schema):
        path = old_workspace / "old.ipynb"
        cells = [
            "from helpers.database import create_cycle, execute_query",
            "from helpers.constants import CycleStatus; from helpers.db_context import schema_context",
            "cycle_id = create_cycle('Q1-2024')",
            f"other_id = create_cycle('Q2-2024', schema={test_schema!r})",
            "cycles = execute_query('SELECT cycle_name, status FROM irp_cycle WHERE id = %s', (cycle_id,))",
            "cycles.iloc[0, 0], cycles['status'][0] == CycleStatus.ACTIVE",
        ]
        nbformat.write(_notebook(*cells), path)

        outputs = _outputs(nbformat.read(path, as_version=4), irp_kernel)

        assert "DeprecationWarning" in outputs[2]
        assert "from irp_pipeline.helpers.cycle import create_cycle" in outputs[2]
        assert outputs[-1] == "('Q1-2024', True)"
        assert get_cycle_by_name("Q1-2024")
        assert get_cycle_by_name("Q2-2024")

    def test_the_home_is_known_in_any_folder(self, run_cells, old_workspace):
        outputs = run_cells(
            "from irp_pipeline.settings import irp_home; print(irp_home())", "import os; print(os.getcwd())"
        )
        assert outputs == [f"{settings.irp_home()}\n", f"{old_workspace}\n"]

    def test_a_schema_that_a_cell_sets_holds_in_the_next(self, run_cells, test_schema):
        outputs = run_cells(
            "from irp_pipeline.helpers.db_context import *; import asyncio; set_schema('first')",
            "print(get_current_schema())",
            "await asyncio.sleep(0); set_schema('second')",
            "print(get_current_schema())",
            "await asyncio.sleep(0); print(get_current_schema())",
            "with schema_context('inside'): await asyncio.sleep(0)",
            "print(get_current_schema())",
            "await asyncio.sleep(0); reset_schema()",
            "print(get_current_schema())",
        )
        assert outputs == ["", "first\n", "", "second\n", "second\n", "", "second\n", "", f"{test_schema}\n"]

    def test_a_cell_that_fails_leaves_its_schema_too(self, run_cells):
        outputs = run_cells(
            "from irp_pipeline.helpers.db_context import *; import asyncio",
            "await asyncio.sleep(0); set_schema('failed'); 1 / 0",
            "print(get_current_schema()); reset_schema()",
        )
        assert outputs == ["", "ZeroDivisionError: division by zero", "failed\n"]

    def test_the_extension_may_be_loaded_once_more(self, run_cells):
        outputs = run_cells(
            "%reload_ext irp_pipeline.notebook",
            "%load_ext irp_pipeline.notebook",
            "from helpers import cycle; print(cycle.__name__)",
        )
        assert "already loaded" in outputs[1]
        assert outputs[2] == "irp_pipeline.helpers.cycle\n"


class TestInAnyKernel:
    @pytest.fixture
    def run_cells(self, jupyter: Path, old_workspace: Path) -> Iterator[RunCells]:
        """Runs cells in the kernel that every Python has."""
        kernel = KernelManager(kernel_name="python3")
        kernel.start_kernel(cwd=str(old_workspace), env=_environment())
        yield lambda *cells: _outputs(_notebook(*cells), kernel, allow_errors=True)
        kernel.shutdown_kernel(now=True)

    def test_the_extension_does_the_same_until_it_is_unloaded(self, run_cells, old_workspace):
        outputs = run_cells(
            "%load_ext irp_pipeline.notebook",
            "from helpers.db_context import *; import asyncio; print(set_schema.__module__)",
            "await asyncio.sleep(0); set_schema('second')",
            "print(get_current_schema())",
            "%unload_ext irp_pipeline.notebook",
            "print(type(get_ipython().run_code))",
            "import helpers; print(helpers.__file__)",
            "%load_ext irp_pipeline.notebook",
        )
        old_package = old_workspace / "helpers" / "__init__.py"
        assert outputs[:-1] == [
            "",
            "irp_pipeline.postgres.context\n",
            "",
            "second\n",
            "",
            "<class 'method'>\n",
            f"{old_package}\n",
        ]
        assert outputs[-1].startswith("ImportError: Another package 'helpers' has been imported already, from ")
        assert f"{old_package}," in outputs[-1]
        assert "restart of the kernel" in outputs[-1]

    def test_ipython_in_a_terminal_knows_it_too(self, jupyter, old_workspace):
        (old_workspace / "session.ipy").write_text(
            "%load_ext irp_pipeline.notebook\nfrom helpers.db_context import *\nprint(get_current_schema())\n"
        )
        done = subprocess.run(
            [sys.executable, "-m", "IPython", "session.ipy"],
            cwd=old_workspace,
            env=_environment(DB_SCHEMA="archive"),
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.stdout == "archive\n", done.stderr


class TestInstallKernel:
    def test_makes_a_kernel_that_jupyter_finds(self, jupyter):
        folder = install_kernel("Risk-2024", "Risk 2024", prefix=jupyter)
        assert folder == jupyter / "share" / "jupyter" / "kernels" / "risk-2024"
        assert KernelSpecManager().find_kernel_specs()["risk-2024"] == str(folder)
        spec = KernelSpecManager().get_kernel_spec("risk-2024")
        assert spec.display_name == "Risk 2024"
        assert spec.language == "python"
        assert spec.argv[0] == sys.executable

    def test_without_a_prefix_is_for_the_user(self, jupyter):
        folder = install_kernel()
        assert folder == Path(os.environ["JUPYTER_DATA_DIR"]) / "kernels" / "irp"
        assert KernelSpecManager().get_kernel_spec("irp").display_name == "IRP pipeline"

    def test_carries_the_home_and_nothing_else_of_the_environment(self, tmp_path, monkeypatch):
        monkeypatch.setenv("IRP_DATABASE_URL", "postgresql://analyst:se-cret@db.example.com/risk")
        monkeypatch.setenv("DB_PASSWORD", "se-cret")
        monkeypatch.setenv("IRP_HOME", str(tmp_path / "home"))
        folder = install_kernel(prefix=tmp_path)
        assert [path.name for path in folder.iterdir()] == ["kernel.json"]
        text = (folder / "kernel.json").read_text()
        assert json.loads(text)["env"] == {"IRP_HOME": str(tmp_path / "home")}
        assert "se-cret" not in text
        assert "db.example.com" not in text

    def test_carries_a_home_that_looks_like_a_variable(self, jupyter, tmp_path, monkeypatch):
        home = str(tmp_path / "$HOME ${HOME} $$ ä {connection_file}")
        monkeypatch.setenv("IRP_HOME", home)
        monkeypatch.chdir(tmp_path)
        install_kernel("odd", prefix=jupyter)
        kernel = KernelManager(kernel_name="odd")
        _, arguments = kernel.pre_start_kernel()
        kernel.cleanup_resources()
        assert arguments["env"]["IRP_HOME"] == home

    def test_again_brings_it_up_to_date(self, tmp_path, monkeypatch):
        folder = install_kernel(prefix=tmp_path)
        monkeypatch.setenv("IRP_HOME", str(tmp_path / "moved"))
        assert install_kernel("IRP", "Other", prefix=tmp_path) == folder
        spec = json.loads((folder / "kernel.json").read_text())
        assert (spec["display_name"], spec["env"]) == ("Other", {"IRP_HOME": str(tmp_path / "moved")})

    def test_is_whole_at_any_moment(self, tmp_path):
        file = install_kernel(prefix=tmp_path) / "kernel.json"
        whole = file.read_text()
        installs = [
            threading.Thread(target=lambda: [install_kernel(prefix=tmp_path) for _ in range(50)]) for _ in range(4)
        ]
        for install in installs:
            install.start()
        while any(install.is_alive() for install in installs):
            assert file.read_text() == whole
        assert [path.name for path in file.parent.iterdir()] == ["kernel.json"]

    @pytest.mark.parametrize("name", ["", "..", ".hidden", "a/b", "a b", "ä", "irp\n"])
    def test_refuses_what_is_no_name(self, tmp_path, name):
        with pytest.raises(NotebookError, match="is not a valid kernel name"):
            install_kernel(name, prefix=tmp_path)
        assert not [*tmp_path.iterdir()]

    def test_says_which_folder_cannot_be_written(self, tmp_path):
        (tmp_path / "share").touch()
        with pytest.raises(NotebookError, match=f"cannot be written to {tmp_path}/share/jupyter/kernels/irp: Not a"):
            install_kernel(prefix=tmp_path)

    @pytest.mark.parametrize("missing", ["ipykernel.kernelspec", "jupyter_core.paths"])
    def test_says_what_to_install(self, jupyter, monkeypatch, missing):
        monkeypatch.setitem(sys.modules, missing, None)
        with pytest.raises(NotebookError, match=r"pip install 'irp-pipeline\[notebook\]'"):
            install_kernel("none")
        assert "none" not in KernelSpecManager().find_kernel_specs()
