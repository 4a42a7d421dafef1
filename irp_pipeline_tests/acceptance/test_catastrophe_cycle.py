"""Two cycles on real input: ``irp demo`` with Oasis LMF, its figures beside those by hand, and the quarter after it.

The one module that runs Oasis LMF compiled, by ``make test-engine``: compiling takes minutes on a fresh machine.
"""

import json
import math
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
from dagster import AssetKey, DagsterInstance
from typer.testing import CliRunner

from irp_pipeline import embedded
from irp_pipeline.cli import app
from irp_pipeline.exposure.portfolio import folder_hash
from irp_pipeline.helpers.attribution import Factor, Part, find_attribution
from irp_pipeline.helpers.attribution.paths import paths_of
from irp_pipeline.helpers.batch import list_batches
from irp_pipeline.helpers.comparison import compare_cycles
from irp_pipeline.helpers.cycle import find_cycle, get_cycle_by_name, list_cycle_names
from irp_pipeline.helpers.database import dispose_engine, execute_query, fetch_all
from irp_pipeline.helpers.db_context import schema_context
from irp_pipeline.helpers.job import list_jobs, read_job
from irp_pipeline.orchestration.instance import use_dagster_home
from irp_pipeline_tests.support.by_hand import by_hand
from irp_pipeline_tests.support.golden import check_golden, records

pytestmark = [pytest.mark.engine, pytest.mark.timeout(1800)]

CYCLE = "Q1-2024"
NEXT_CYCLE = "Q2-2024"
RETURN_PERIODS = [2, 5, 10, 25, 50, 100, 200, 250, 500, 1000]
SAMPLES, YEARS = 10, 5000


@dataclass(frozen=True)
class Demo:
    """What ``irp demo`` said and left."""

    home: Path
    folder: Path
    said: str

    def again(self, *options: str) -> str:
        return irp("demo", *options)

    def job_folder(self, analysis: str) -> Path:
        jobs = list_jobs(get_cycle_by_name(CYCLE)["id"])  # type: ignore[index]
        (job,) = (job for job in jobs if job["job_configuration_data"]["name"] == analysis)
        return self.folder / "jobs" / str(job["job_key"])


def irp(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "irp_pipeline.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def demo() -> Iterator[Demo]:
    home = Path(tempfile.mkdtemp(prefix="irp-demo-"))
    with pytest.MonkeyPatch.context() as environment:
        for name in ("DB_SCHEMA", "DB_SERVER", "IRP_DATABASE_URL", "DAGSTER_HOME", "IRP_EXECUTOR", "NUMBA_DISABLE_JIT"):
            environment.delenv(name, raising=False)
        environment.setenv("IRP_HOME", str(home))
        said = irp("demo")
        dispose_engine()
        with schema_context("demo"):
            yield Demo(home, home / "cycles" / "demo" / CYCLE, said)
        dispose_engine()
    embedded.stop(home)
    shutil.rmtree(home)


def results() -> pd.DataFrame:
    return execute_query("SELECT * FROM irp_analysis_result")


def figures_of(analysis: str) -> dict[tuple[str, str, float | None], float]:
    """The recorded figures of the whole portfolio by perspective, metric, and return period or loss factor."""
    rows = fetch_all(
        """
        SELECT perspective, metric, coalesce(return_period, loss_factor) AS of, loss
          FROM irp_analysis_result WHERE analysis_name = %s AND segment_by = '{}'
        """,
        (analysis,),
    )
    return {(row["perspective"], row["metric"], row["of"]): row["loss"] for row in rows}


# --- what a newcomer sees -----------------------------------------------------------------------------------------


def test_its_assets_are_in_dagster(demo: Demo, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DAGSTER_HOME", "")  # what is set instead is taken back
    use_dagster_home()
    with DagsterInstance.get() as instance:
        for asset in ("extract", "portfolio", "losses", "report"):
            assert CYCLE in instance.get_materialized_partitions(AssetKey(asset))


def test_it_ends_with_losses_a_report_and_what_to_try_next(demo: Demo):
    for words in ("jobs have ended", "all_wind", "AAL", "report.html", "What to try next"):
        assert words in demo.said
    assert (demo.folder / "report" / "report.html").is_file()
    assert (demo.folder / "report" / "ep_curves.png").read_bytes().startswith(b"\x89PNG")
    assert [batch["status"] for batch in list_batches(get_cycle_by_name(CYCLE)["id"])] == ["COMPLETED"]  # type: ignore[index]
    assert set(results()["analysis_name"]) == {"residential_wind", "commercial_wind", "commercial_stress", "all_wind"}


def test_what_commands_answer_and_what_is_recorded_is_as_it_was(demo: Demo):
    def answer(*arguments: object) -> Any:
        done = CliRunner().invoke(app, [str(argument) for argument in (*arguments, "--json")], prog_name="irp")
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    (batch,) = list_batches(get_cycle_by_name(CYCLE)["id"])  # type: ignore[index]
    of_cycle = ("cycle show", "status", "history", "results", "explain", "batch list", "job list", "report")
    commands = ["cycle list", *(f"{command} {CYCLE}" for command in of_cycle), f"batch show {batch['id']}"]
    answers = {command: answer(*command.split(), "--db-schema", "demo") for command in commands}
    for job in list_jobs(get_cycle_by_name(CYCLE)["id"]):  # type: ignore[index]
        name = job["job_configuration_data"]["name"]
        answers[f"job show {name}"] = answer("job", "show", job["id"], "--db-schema", "demo")
    answers["config check"] = answer("config", "check", demo.folder / "configuration.xlsx")
    for portfolio in ("residential", "commercial"):
        files = sorted((demo.folder / portfolio).glob("*.csv"))
        answers[f"exposure check {portfolio}"] = answer("exposure", "check", *files)
    check_golden("demo", {"commands": answers, "records": records()}, {str(demo.home): "<home>"})


def test_a_second_time_everything_is_skipped(demo: Demo):
    before = results()
    said = demo.again()
    assert "14 skipped" in said
    pd.testing.assert_frame_equal(results(), before)


def test_every_result_says_where_it_came_from(demo: Demo):
    jobs = {job["job_configuration_data"]["name"]: read_job(job["id"]) for job in
            list_jobs(get_cycle_by_name(CYCLE)["id"])}  # type: ignore[index]  # fmt: skip
    for name, job in jobs.items():
        assert job is not None
        came_from = job["result_data"]["provenance"]
        assert came_from["engine"] == "Oasis LMF"
        assert came_from["engine_version"]
        assert came_from["processes"] == 1
        assert came_from["exposure_hash"] == folder_hash(demo.folder / "portfolios" / name.partition("_")[0])
        if name != "commercial_stress":
            assert came_from["model_version"]
            assert came_from["samples"] == SAMPLES
            assert came_from["periods"] == YEARS
            assert came_from["settings"]["number_of_samples"] == SAMPLES
            assert came_from["not_modelled"] == {}


# --- the figures are those of Oasis LMF ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stochastic_by_hand(demo: Demo, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("by-hand")
    model = demo.home / "models" / "synthetic-windstorm"
    output = {
        "alt_period": True, "plt_sample": True, "ept_full_uncertainty_aep": True, "ept_full_uncertainty_oep": True,
        "return_period_file": True, "parquet_format": True,
    }  # fmt: skip
    chosen: dict[str, Any] = {
        "model_supplier_id": "by hand", "model_name_id": "by hand", "number_of_samples": SAMPLES,
        "model_settings": {"event_set": "p", "event_occurrence_id": "lt"}, "return_periods": RETURN_PERIODS,
    }  # fmt: skip
    for perspective in ("gul", "il", "ri"):
        chosen[f"{perspective}_output"] = True
        chosen[f"{perspective}_summaries"] = [{"id": 1, "ord_output": output}]
    (folder / "settings.json").write_text(json.dumps(chosen))
    portfolio = demo.folder / "portfolios" / "commercial"
    by_hand(
        folder, "model", "run", "-C", str(model / "oasislmf.json"), "-a", str(folder / "settings.json"),
        "-r", str(folder / "run"), "-n", "1", "--resource-monitor-interval", "9999",
        "-x", str(portfolio / "location.csv"), "-y", str(portfolio / "account.csv"),
        "-i", str(portfolio / "ri_info.csv"), "-s", str(portfolio / "ri_scope.csv"),
    )  # fmt: skip
    return folder / "run" / "output"


@pytest.mark.parametrize("perspective", ["gul", "il", "ri"])
@pytest.mark.parametrize("table", ["palt", "ept", "splt"])
def test_tables_equal_those_by_hand_to_the_last_digit(demo: Demo, stochastic_by_hand: Path, perspective, table):
    name = f"{perspective}_S1_{table}.parquet"
    ours = pq.read_table(demo.job_folder("commercial_wind") / "results" / name)
    assert ours.num_rows > 0
    assert ours.equals(pq.read_table(stochastic_by_hand / name))


@pytest.mark.parametrize("perspective", ["gul", "il", "ri"])
def test_stochastic_figures_equal_those_by_hand_to_the_last_digit(demo: Demo, stochastic_by_hand: Path, perspective):
    palt = pd.read_parquet(stochastic_by_hand / f"{perspective}_S1_palt.parquet").query("SampleType == 2")
    ept = pd.read_parquet(stochastic_by_hand / f"{perspective}_S1_ept.parquet").query("EPCalc == 2")
    wanted: dict[Any, Any] = {(perspective.upper(), "AAL", None): palt["MeanLoss"].item(),
              (perspective.upper(), "STD_DEV", None): palt["SDLoss"].item()}  # fmt: skip
    for metric, ep_type in (("OEP", 1), ("AEP", 3)):
        for row in ept[(ept["EPType"] == ep_type) & ept["ReturnPeriod"].isin(RETURN_PERIODS)].itertuples():
            wanted[perspective.upper(), metric, row.ReturnPeriod] = row.Loss
    assert len(wanted) == 2 + 2 * len(RETURN_PERIODS)
    ours = {key: loss for key, loss in figures_of("commercial_wind").items() if key[0] == perspective.upper()}
    assert ours == wanted


def test_deterministic_figures_equal_those_by_hand(demo: Demo, tmp_path: Path):
    source, run = tmp_path / "source", tmp_path / "run"
    shutil.copytree(demo.folder / "portfolios" / "commercial", source)
    by_hand(tmp_path, "exposure", "run", "-s", str(source), "-r", str(run), "-f",
            str(tmp_path / "losses.csv"), "-o", "loc", "-l", "0.01", "0.1")  # fmt: skip
    ours = figures_of("commercial_stress")
    assert len(ours) == 6
    for perspective, file in (("GUL", "guls.csv"), ("IL", "ils.csv"), ("RI", "rils.csv")):
        items = pd.read_csv(run / file)
        for number, factor in enumerate((0.01, 0.1)):
            total = items[items["loss_factor_idx"] == number]["loss"].sum()
            # Oasis LMF rounds the insured losses of each item in its tables; ours are those before.
            precision = 1e-12 if perspective == "GUL" else 1e-6
            assert ours[perspective, "LOSS", factor] == pytest.approx(total, rel=precision)
    kept = pq.read_table(demo.job_folder("commercial_stress") / "results" / "losses.parquet").to_pandas()
    table = pd.read_csv(tmp_path / "losses.csv")
    assert kept["gul"].tolist() == pytest.approx(table["loss_gul"].tolist(), rel=1e-12)


def test_segments_add_up_to_the_whole(demo: Demo):
    parts = fetch_all(
        """
        SELECT analysis_name, perspective, metric, coalesce(loss_factor, 0) AS factor, count(*) AS number,
               sum(loss) FILTER (WHERE segment_by = '{}') AS whole, sum(loss) FILTER (WHERE segment_by <> '{}') AS added
          FROM irp_analysis_result WHERE metric IN ('AAL', 'LOSS')
         GROUP BY analysis_name, perspective, metric, factor
        """
    )
    assert {(row["analysis_name"], row["number"]) for row in parts} == {
        ("residential_wind", 2), ("commercial_wind", 4), ("commercial_stress", 4), ("all_wind", 5),
    }  # fmt: skip
    for row in parts:
        assert row["added"] == pytest.approx(row["whole"], rel=1e-6)


def test_a_group_is_what_its_members_lose_year_by_year(demo: Demo):
    tables = [
        pd.read_parquet(demo.job_folder(name) / "results" / "il_S1_splt.parquet").query("SampleId > 0")
        for name in ("residential_wind", "commercial_wind")
    ]
    both = pd.concat(tables)
    ours = figures_of("all_wind")
    total = both["Loss"].astype("float64").sum() / (SAMPLES * YEARS)
    assert ours["IL", "AAL", None] == pytest.approx(total, rel=1e-6)
    years = both.groupby(["Period", "SampleId"])["Loss"].sum().sort_values(ascending=False).tolist()
    events = both.groupby(["Period", "SampleId", "EventId", "Year", "Month", "Day", "Hour", "Minute"])["Loss"].sum()
    worst = events.groupby(["Period", "SampleId"]).max().sort_values(ascending=False).tolist()
    for period in (10, 100, 1000):
        rank = SAMPLES * YEARS // period - 1
        assert ours["IL", "AEP", period] == pytest.approx(years[rank], rel=1e-6)
        assert ours["IL", "OEP", period] == pytest.approx(worst[rank], rel=1e-6)


# --- the quarter after it: from here on, the first cycle is archived ------------------------------------------------


@pytest.fixture(scope="module")
def second(demo: Demo) -> Demo:
    before = results()
    said = irp("demo", "--second")
    after = results()
    pd.testing.assert_frame_equal(after[after["batch_id"].isin(before["batch_id"])], before)
    return Demo(demo.home, demo.home / "cycles" / "demo" / NEXT_CYCLE, said)


def test_the_second_quarter_is_run_after_the_first_and_says_what_changed(second: Demo):
    for words in (
        f"Archived the cycle {CYCLE}",
        "1,012 synthetic locations",
        f"What changed since {CYCLE}",
        "all_wind",
    ):
        assert words in second.said
    assert "it is run first" not in second.said
    assert {name: get_cycle_by_name(name)["status"] for name in list_cycle_names()} == {  # type: ignore[index]
        CYCLE: "ARCHIVED", NEXT_CYCLE: "ACTIVE",
    }  # fmt: skip
    page = (second.folder / "report" / "report.html").read_text(encoding="utf-8")
    assert f"since {CYCLE}" in page
    assert "1 done, 13 skipped" in second.said  # the report, when it is known why losses changed
    assert f"Why losses changed since {CYCLE}" in page


def test_every_kind_of_change_is_in_the_second_quarter(second: Demo):
    found = compare_cycles(NEXT_CYCLE)
    assert found["before"]["cycle_name"] == CYCLE
    sources = found["sources"].query("differs").groupby("analysis_name")["what"].agg(set)
    assert sources["residential_wind"] == {"model version", "content of the model"}
    assert sources["commercial_wind"] - sources["residential_wind"] == {
        "setting loss_multiplier", "setting pla", "setting pla_uniform_factor",
    }  # fmt: skip
    assert "commercial_stress" not in sources
    # Deterministic losses have neither the model nor its settings: exposure alone moves GUL, and the terms RI.
    stress = found["figures"].query("analysis_name == 'commercial_stress' and segment_by == ''")
    losses = {(row.perspective, row.loss_factor): row.after for row in stress.itertuples()}
    [exposure] = found["exposure"].query("portfolio == 'commercial' and what == 'insured value'").itertuples()
    assert exposure.after > exposure.before
    for factor in (0.01, 0.1):
        assert losses["GUL", factor] == pytest.approx(factor * exposure.after)
    assert losses["RI", 0.01] == pytest.approx(1_000_000)  # the retention


def test_what_changed_adds_up_from_the_first_quarter_to_the_second(second: Demo):
    cycle = find_cycle(NEXT_CYCLE)
    assert cycle is not None
    found = find_attribution(cycle, CYCLE)
    assert found is not None
    parts: dict[str, dict[Factor, Part]] = {}
    for path in paths_of(found.parts):
        assert math.fsum(part.change for part in path) == pytest.approx(path[-1].after - path[0].before, abs=0.005)
        point = path[0].point
        if point[:2] == ("GUL", "AAL") or (point.perspective == "RI" and point.loss_factor == 0.01):
            parts[path[0].analysis_name] = {part.factor: part for part in path}
    assert set(parts) == {"residential_wind", "commercial_wind", "commercial_stress", "all_wind"}
    none = {
        name: {factor for factor, part in of.items() if part.change == 0} - {Factor.ENGINE, Factor.ENGINE_OF_LATER}
        for name, of in parts.items()
    }
    assert none == {
        "residential_wind": {Factor.TERMS, Factor.SETTINGS},  # of ground-up losses
        "commercial_wind": {Factor.TERMS},
        "all_wind": {Factor.TERMS},
        "commercial_stress": {Factor.MODEL, Factor.SETTINGS},
    }
    assert all(part.change == 0 for part in found.parts if part.factor in {Factor.ENGINE, Factor.ENGINE_OF_LATER})
    assert parts["residential_wind"][Factor.EXPOSURE].remark == "locations: 40 new, 24 gone, 576 changed"
    assert parts["residential_wind"][Factor.MODEL].remark == "model version 1 → 1.1"


def test_the_second_quarter_again_is_skipped_and_the_first_is_left_alone(second: Demo):
    said = irp("demo", "--second")
    assert said.count("14 skipped") == said.count("SUCCESS") == 2
