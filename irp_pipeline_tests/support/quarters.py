"""Two quarters with real jobs of a program that stands for Oasis LMF, which would take minutes.

As with Oasis LMF, the draws of a location depend on its numbers and on the event. The rate of damage is the version of
the model, and a file says how the engine of today differs from that of yesterday.
"""

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from irp_pipeline import settings
from irp_pipeline.helpers.batch import create_batch, recon_batch, submit_batch
from irp_pipeline.helpers.batch_progress import follow_batch, what_failed
from irp_pipeline.helpers.configuration import load_configuration
from irp_pipeline.helpers.constants import BatchStatus, BatchType
from irp_pipeline.helpers.cycle import create_cycle
from irp_pipeline.helpers.database import execute_command
from irp_pipeline.helpers.db_context import get_current_schema
from irp_pipeline.helpers.result import save_results
from irp_pipeline.helpers.stage import get_or_create_stage
from irp_pipeline.helpers.step import get_or_create_step
from irp_pipeline.workbook import Workbook, write_workbook
from irp_pipeline_tests.support.program_jobs import run_by_program, worker_thread
from irp_pipeline_tests.support.tiny_models import write_model

YEARS = 50
RETURN_PERIODS = [5, 10, 25]
PROGRAM = """
import csv, hashlib, json, os, pathlib, sys
import numpy as np, pyarrow as pa, pyarrow.parquet as pq
from irp_pipeline.engines.program import end_with_worker
from irp_pipeline.losses import figures, period_losses
end_with_worker()
folder = pathlib.Path(sys.argv[-1])
request = json.loads((folder / "request.json").read_text())["request"]
analysis = request["analysis"]
today = json.loads(pathlib.Path(os.environ["ENGINE_OF_TESTS"]).read_text())
with open(os.environ["ENGINE_OF_TESTS"] + ".runs", "a") as runs:
    runs.write(analysis["name"] + "\\n")
if analysis["name"] in today.get("fails", ()):
    (folder / "error.txt").write_text("the footprint has no such event")
    sys.exit(1)
def table(name):
    path = folder / "inputs" / f"{name}.csv"
    return list(csv.DictReader(path.open())) if path.exists() else []
version = json.loads((pathlib.Path(request["model"]) / "model_settings.json").read_text())["model_version_id"]
samples = analysis["samples"]
rate = float(version) * (analysis.get("loss_multiplier") or 1) * today["drift"] / 100
limits = {row["AccNumber"]: float(row["LayerLimit"]) for row in table("account")}
gross, insured = np.zeros((50, samples)), {}
for place in table("location"):
    for event in range(50):
        numbers = [place[name] for name in ("PortNumber", "AccNumber", "LocNumber")]
        key = "/".join((*numbers[:2 if today.get("drawn_by") else 3], str(event)))
        draws = np.random.default_rng(int(hashlib.sha256(key.encode()).hexdigest()[:12], 16)).uniform(0, 2, 500)
        loss = float(place["BuildingTIV"]) * rate * draws[:samples] * (event % 7)
        gross[event] += loss
        of_account = insured.setdefault(place["AccNumber"], np.zeros((50, samples)))
        of_account[event] += np.maximum(loss - float(place["LocDed6All"]), 0)
net = sum(np.minimum(losses, limits[account]) for account, losses in insured.items())
found, files = [], {}
for perspective, losses in (("GUL", gross), ("IL", net)):
    if perspective in analysis["perspectives"]:
        year, sample = (part.ravel() for part in np.indices(losses.shape))
        rows = {"Period": year + 1, "EventId": year + 1, "SampleId": sample + 1}
        columns = {name: pa.array(values, pa.int32()) for name, values in rows.items()}
        one, zero = (pa.array([value] * losses.size, pa.int32()) for value in (1, 0))
        columns |= {name: one for name in ("Year", "Month", "Day", "SummaryId")}
        columns |= {name: zero for name in ("Hour", "Minute")}
        columns["PeriodWeight"] = pa.array([1 / 50] * losses.size, pa.float32())
        columns["Loss"] = pa.array(losses.ravel(), pa.float32())
        path = folder / "results" / f"{perspective.lower()}_plt.parquet"
        path.parent.mkdir(exist_ok=True)
        pq.write_table(pa.table(columns), path)
        files[f"{perspective.lower()}_plt_sample"] = f"results/{path.name}"
        of_years = figures(period_losses(path), perspective=perspective, periods=50, samples=samples,
                           return_periods=analysis["return_periods"])
        found += [{"perspective": perspective, "metric": of.metric, "return_period": of.return_period,
                   "loss_factor": None, "loss": of.loss} for of in of_years]
(folder / "outcome.json").write_text(json.dumps({
    "figures": found, "currency": analysis["currency"], "files": files,
    "provenance": {"engine": "of the tests", "engine_version": today["version"], "model_version": version,
                   "periods": 50, "samples": samples, "occurrence_hash": "the same",
                   "exposure_hash": request["exposure_hash"],
                   "aal_by_means": {"GUL": 1000.0 * today.get("means", 1)}},
}))
"""


def place(
    number: object, account: str = "A1", *, tiv: float = 100_000, ded: float = 500, at: float = 51
) -> dict[str, Any]:
    """Return a location."""
    return {
        "PortNumber": 1,
        "AccNumber": account,
        "LocNumber": number,
        "CountryCode": "GB",
        "Latitude": at,
        "Longitude": 0,
        "BuildingTIV": tiv,
        "LocCurrency": "GBP",
        "LocDed6All": ded,
    }


def policy(account: str = "A1", limit: float = 20_000) -> dict[str, Any]:
    """Return an account with one policy."""
    return {"PortNumber": 1, "AccNumber": account, "PolNumber": "P1", "AccCurrency": "GBP", "LayerLimit": limit}


@dataclass(frozen=True)
class Quarter:
    """What a cycle analyses; the same for its two analyses, which are in one group."""

    places: list[dict[str, Any]] = field(
        default_factory=lambda: [place(number, at=51 + number / 10) for number in range(1, 6)]
    )
    policies: list[dict[str, Any]] = field(default_factory=lambda: [policy()])
    model: str = "model-1/grid/tests/test_1"
    samples: int = 8
    loss_multiplier: float | None = None
    currency: str = "GBP"
    exposure_date: str | None = None


@dataclass
class Quarters:
    """Cycles, each run to its figures."""

    schema: str
    engine: Path

    def engine_is(
        self, version: str = "1", drift: float = 1.0, fails: list[str] | None = None, **faulty: object
    ) -> None:
        """Say how the engine computes from now on.

        Args:
            version: of the engine.
            drift: a factor on all losses.
            fails: the jobs that fail.
            faulty: ``drawn_by`` lets it draw by accounts, ``means`` is a factor on what it says of mean losses.
        """
        self.engine.write_text(json.dumps({"version": version, "drift": drift, "fails": fails or [], **faulty}))

    def runs(self) -> list[str]:
        """The analyses that were computed, in the order in which they began."""
        runs = Path(f"{self.engine}.runs")
        return runs.read_text().splitlines() if runs.exists() else []

    def run(self, cycle_name: str, quarter: Quarter) -> int:
        """Make a cycle and let its jobs run; return the batch's id."""
        folder = settings.cycle_dir(self.schema, cycle_name)
        for name in ("north", "south"):
            write_tables(folder / "portfolios" / name, quarter)
            write_tables(folder / name, quarter)
        return run_cycle(cycle_name, workbook(quarter))


def run_cycle(cycle_name: str, content: Workbook) -> int:
    """Make a cycle, whose files are there, let its jobs run and save the figures; return the batch's id."""
    cycle_id = create_cycle(cycle_name)
    path = settings.cycle_dir(get_current_schema(), cycle_name) / "configuration.xlsx"
    configuration = load_configuration(cycle_id, write_workbook(path, content))
    step = get_or_create_step(get_or_create_stage(cycle_id, 1, "Setup"), 3, "Create batches")
    batch_id = create_batch(BatchType.ANALYSIS, configuration, step)
    submit_batch(batch_id)
    for _ in follow_batch(batch_id):
        pass
    status = recon_batch(batch_id)
    assert status is BatchStatus.COMPLETED, what_failed(batch_id, status)
    save_results(batch_id)
    return batch_id


def workbook(quarter: Quarter) -> Workbook:
    dated = {"exposure_date": quarter.exposure_date} if quarter.exposure_date else {}
    return Workbook.model_validate({
        "metadata": {"currency": quarter.currency, "description": "A quarter", "insurer": "Example Insurance"} | dated,
        "portfolios": [
            {"name": name, "source": "csv", "location": f"{name}/location.csv", "account": f"{name}/account.csv"}
            for name in ("north", "south")
        ],
        "analyses": [
            {"name": f"{name}_wind", "portfolio": name, "perspectives": ["GUL", "IL"], "engine": "oasis_stochastic",
             "model": quarter.model, "samples": quarter.samples, "return_periods": RETURN_PERIODS,
             "period_losses": True, "loss_multiplier": quarter.loss_multiplier}
            for name in ("north", "south")
        ],
        "groupings": [{"name": "all_wind", "members": ["north_wind", "south_wind"]}],
    })  # fmt: skip


def write_tables(folder: Path, quarter: Quarter) -> None:
    folder.mkdir(parents=True)
    for name, rows in (("location", quarter.places), ("account", quarter.policies)):
        with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)


def write_version(version: str) -> Path:
    """Put a version of the model into the models folder, and return its folder there."""
    folder = settings.models_folder() / f"model-{version}"
    model = write_model(folder, "grid")
    path = model / "model_settings.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model_version_id": version}))
    return folder


@pytest.fixture
def quarters(test_schema: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Quarters]:
    """Two versions of the model, an engine, and a worker, in a home of their own."""
    run_by_program(monkeypatch, tmp_path / "home", "oasis_stochastic", PROGRAM, "ENGINE_OF_TESTS")
    monkeypatch.setenv("ENGINE_OF_TESTS", str(tmp_path / "engine.json"))
    settings.make_irp_home()
    for version in ("1", "2"):
        write_version(version)
    found = Quarters(test_schema, tmp_path / "engine.json")
    found.engine_is()
    with worker_thread():
        yield found
    execute_command("DELETE FROM irp_cycle")


def changed(quarter: Quarter, change: Callable[[dict[str, Any]], Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the locations of a quarter, each with some columns changed."""
    return [row | dict(change(row)) for row in quarter.places]
