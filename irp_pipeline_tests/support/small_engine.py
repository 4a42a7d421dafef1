"""A cycle whose jobs are real processes of the engine of this machine, with a program that stands for Oasis LMF.

Oasis LMF would take minutes. Here a job's loss is its number of locations times its loss factor, and a file says which
jobs fail, wait, or have doubtful losses. A pytest plugin: its fixtures are there for every test module.
"""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from dagster import DagsterInstance, ExecuteInProcessResult

from irp_pipeline import settings
from irp_pipeline.definitions import definitions
from irp_pipeline.demo import write_sample
from irp_pipeline.files import write_atomically
from irp_pipeline.helpers.cycle import create_cycle, get_cycle_by_name, get_step_history
from irp_pipeline.helpers.database import execute_command, fetch_all
from irp_pipeline.helpers.job import list_jobs
from irp_pipeline.orchestration.jobs import selection
from irp_pipeline.workbook import Workbook, read_workbook, write_workbook
from irp_pipeline_tests.support.program_jobs import run_by_program, worker_thread

CYCLE = "Q1-2024"
LATER_STEPS = ["submit_jobs", "track_jobs", "group_results", "check_losses", "export_results", "cycle_report"]
SECONDS = 60

PROGRAM = """
import json, os, pathlib, sys, time
from irp_pipeline.engines.program import end_with_worker
end_with_worker()
folder = pathlib.Path(sys.argv[-1])
request = json.loads((folder / "request.json").read_text())["request"]
analysis = request["analysis"]
def way():
    return json.loads(pathlib.Path(os.environ["WAYS_OF_JOBS"]).read_text()).get(analysis["name"])
while way() == "waits":
    time.sleep(0.05)
if way() == "fails":
    (folder / "error.txt").write_text("the footprint has no such event")
    sys.exit(1)
with open(os.environ["WAYS_OF_JOBS"] + ".runs", "a") as runs:
    runs.write(analysis["name"] + "\\n")
locations = len((folder / "inputs" / "location.csv").read_text().splitlines()) - 1
(folder / "results").mkdir()
os.link(os.environ["LOSSES_OF_JOBS"], folder / "results" / "losses.parquet")
factors = analysis["loss_factor"]
figures = [
    {"perspective": "GUL", "metric": "LOSS", "return_period": None, "loss_factor": f, "loss": locations * f}
    for f in factors
]
if way() == "pays twice":  # more than the ground-up loss
    figures += [{**figure, "perspective": "IL", "loss": 2 * figure["loss"]} for figure in figures]
(folder / "outcome.json").write_text(json.dumps({
    "figures": figures, "currency": analysis["currency"], "files": {"losses": "results/losses.parquet"},
    "provenance": {
        "engine": "of the tests",
        "exposure_hash": request["exposure_hash"],
        "il_may_exceed_gul": False,
        "not_modelled_tiv": {"portfolio": 1e6, "by_reason": {"outside": 2e5} if way() == "covers little" else {}},
    },
}))
"""


@dataclass
class Jobs:
    """How the jobs behave, and what was run."""

    file: Path

    def behave(self, **ways: str) -> None:
        write_atomically(self.file, json.dumps(ways))  # jobs read it all the time

    def runs(self) -> list[str]:
        """The analyses that were computed, in alphabetical order."""
        try:
            return sorted(Path(f"{self.file}.runs").read_text().split())
        except FileNotFoundError:
            return []


@pytest.fixture
def jobs(test_schema: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Jobs]:
    """A place with files and a worker of its own, on the server of all tests."""
    run_by_program(monkeypatch, tmp_path / "home", "oasis_deterministic", PROGRAM, "WAYS_OF_JOBS,LOSSES_OF_JOBS")
    monkeypatch.setenv("WAYS_OF_JOBS", str(tmp_path / "ways.json"))
    monkeypatch.setenv("LOSSES_OF_JOBS", str(tmp_path / "losses.parquet"))
    pq.write_table(pa.table({"loss_factor": [1.0], "LocNumber": ["1"], "gul": [1.0]}), tmp_path / "losses.parquet")
    jobs = Jobs(tmp_path / "ways.json")
    jobs.behave()
    with worker_thread():
        yield jobs
    execute_command("DELETE FROM irp_cycle")


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The smaller portfolio of the sample, with three deterministic analyses."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("IRP_HOME", str(tmp_path_factory.mktemp("home")))
        folder = tmp_path_factory.mktemp("sample")
        path = write_sample(folder)
        content = read_workbook(path, models_dir=settings.models_folder()).to_json()
    content["groupings"] = []
    content["portfolios"] = [portfolio for portfolio in content["portfolios"] if portfolio["name"] == "commercial"]
    content["analyses"] = [
        {"name": name, "portfolio": "commercial", "engine": "oasis_deterministic", "loss_factor": [factor],
         "perspectives": ["GUL"]}
        for name, factor in (("low", 0.1), ("middle", 0.5), ("high", 1.0))
    ]  # fmt: skip
    write_workbook(path, Workbook.model_validate(content), overwrite=True)
    return folder


@pytest.fixture
def folder(jobs: Jobs, test_schema: str, sample: Path) -> Path:
    """The folder of an open cycle, with the sample in it."""
    settings.make_irp_home()
    create_cycle(CYCLE)
    folder = settings.cycle_dir(test_schema, CYCLE)
    shutil.copytree(sample, folder)
    return folder


@pytest.fixture
def change_workbook(folder: Path) -> Callable[[Callable[[dict[str, Any]], object]], None]:
    """Change what the workbook of the cycle says."""
    path = folder / "configuration.xlsx"

    def change(edit: Callable[[dict[str, Any]], object]) -> None:
        content = read_workbook(path, models_dir=settings.models_folder()).to_json()
        edit(content)
        write_workbook(path, Workbook.model_validate(content), overwrite=True)

    return change


@pytest.fixture
def instance() -> Iterator[DagsterInstance]:
    with DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


@dataclass(frozen=True)
class Launcher:
    instance: DagsterInstance
    schema: str

    def __call__(
        self,
        only: str | None = None,
        patience: float | None = None,
        ops: Mapping[str, Any] | None = None,
        cycle: str = CYCLE,
        **database: Any,
    ) -> ExecuteInProcessResult:
        config: dict[str, Any] = {
            "resources": {"database": {"config": {"db_schema": self.schema, **database}}},
            "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
        }
        if ops is not None:
            config["ops"] = dict(ops)
        if patience is not None:
            config["ops"] = {"monitor": {"ops": {"track_jobs": {"config": {"patience_minutes": patience}}}}}
        return definitions.get_job_def("run_cycle").execute_in_process(
            run_config=config,
            instance=self.instance,
            tags={"dagster/partition": cycle},
            op_selection=selection(only_step=only),
            raise_on_error=False,
        )


@pytest.fixture
def launch(instance: DagsterInstance, test_schema: str) -> Launcher:
    return Launcher(instance, test_schema)


def cycle_id() -> int:
    cycle = get_cycle_by_name(CYCLE)
    assert cycle is not None
    return int(cycle["id"])


def newest() -> dict[str, str]:
    """How the newest run of each of the later steps ended."""
    ended: dict[str, str] = {}
    for row in get_step_history(CYCLE).to_dict("records"):
        ended.setdefault(str(row["step_name"]).lower().replace(" ", "_"), str(row["status"]))
    return {name: status for name, status in ended.items() if name in LATER_STEPS}


def ended(status: str) -> dict[str, str]:
    return dict.fromkeys(LATER_STEPS, status)


def losses() -> dict[str, float]:
    rows = fetch_all(
        "SELECT analysis_name, loss FROM irp_analysis_result WHERE batch_id = (SELECT max(id) FROM irp_batch)"
    )
    return {row["analysis_name"]: row["loss"] for row in rows}


def statuses() -> list[tuple[str, str, bool]]:
    """Name, status, and whether it is skipped, of all jobs in the order they were made."""
    return [(job["job_configuration_data"]["name"], job["status"], job["skipped"]) for job in list_jobs(cycle_id())]


def error_of(step: str) -> str:
    history = get_step_history(CYCLE).to_dict("records")
    return str(next(row for row in history if row["step_name"].lower().replace(" ", "_") == step)["error_message"])
