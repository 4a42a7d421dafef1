"""A whole cycle on real input: ``irp demo`` with Oasis LMF, and its figures beside those that Oasis LMF gives by hand.

This is the slowest module of the suite: Oasis LMF compiles itself first, which takes minutes on a fresh machine.
"""

import json
import os
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
from typer.testing import CliRunner

from irp_pipeline import embedded, settings
from irp_pipeline.cli import app
from irp_pipeline.engines import JobPhase, engine
from irp_pipeline.exposure.portfolio import folder_hash, portfolio_files
from irp_pipeline.helpers.batch import list_batches
from irp_pipeline.helpers.cycle import create_cycle, get_cycle_by_name
from irp_pipeline.helpers.database import dispose_engine, execute_query, fetch_all, init_database
from irp_pipeline.helpers.db_context import schema_context
from irp_pipeline.helpers.job import list_jobs, read_job
from irp_pipeline.workbook import Workbook, write_workbook
from irp_pipeline_tests.golden import check_golden, records

OASIS = Path(sys.executable).with_name("oasislmf")
CYCLE = "Q1-2024"
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
        for name in ("DB_SCHEMA", "DB_SERVER", "IRP_DATABASE_URL", "DAGSTER_HOME", "IRP_EXECUTOR"):
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
    """The recorded figures by perspective, metric, and return period or loss factor."""
    rows = fetch_all(
        """
        SELECT perspective, metric, coalesce(return_period, loss_factor) AS of, loss
          FROM irp_analysis_result WHERE analysis_name = %s
        """,
        (analysis,),
    )
    return {(row["perspective"], row["metric"], row["of"]): row["loss"] for row in rows}


def by_hand(folder: Path, *arguments: str) -> None:
    """Run Oasis LMF as somebody would who has never heard of this project."""
    folder.mkdir(exist_ok=True)
    environment = os.environ | {"PATH": f"{OASIS.parent}{os.pathsep}{os.environ['PATH']}", "OASIS_TMPDIR": str(folder)}
    done = subprocess.run([str(OASIS), *arguments], cwd=folder, env=environment, capture_output=True, text=True,
                          start_new_session=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


# --- what a newcomer sees -----------------------------------------------------------------------------------------


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
    assert "12 skipped" in said
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


# --- what goes wrong in a model -----------------------------------------------------------------------------------


def test_faults_of_a_model_are_told_in_one_line(demo: Demo, tmp_path: Path):
    """Four at once: exposure that the model does not cover, tables that are missing, and a broken setting."""
    sound = demo.home / "models" / "synthetic-windstorm"
    portfolio = demo.folder / "portfolios" / "commercial"
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(portfolio, elsewhere)
    text = (elsewhere / "location.csv").read_text()
    assert "WEC" in text
    (elsewhere / "location.csv").write_text(text.replace("WEC", "QEQ"))
    no_footprint, as_csv = tmp_path / "no-footprint", tmp_path / "as-csv"
    for folder in (no_footprint, as_csv):
        shutil.copytree(sound, folder)
    (no_footprint / "model_data" / "footprint.bin").unlink()
    vulnerability = as_csv / "model_data" / "vulnerability.bin"
    vulnerability.rename(vulnerability.with_suffix(".csv"))
    oasis = engine("oasis_stochastic", tmp_path / "jobs")
    faults: dict[str, tuple[Path, Path, dict[str, Any]]] = {
        "uncovered": (sound, elsewhere, {}),
        "footprint": (no_footprint, portfolio, {}),
        "csv": (as_csv, portfolio, {}),
        "option": (sound, portfolio, {"lookup_config_json": "no-such-file.json"}),
    }
    for key, (model, source, options) in faults.items():
        analysis = {"name": key, "engine": "oasis_stochastic", "samples": 1, "perspectives": ["GUL"], "currency": "GBP",
                    "model_options": options}  # fmt: skip
        inputs = {path.name: str(path) for path in portfolio_files(source).values()}
        request = {"analysis": analysis, "model": str(model), "inputs": inputs, "exposure_hash": folder_hash(source)}
        oasis.submit(key, request)
    while any(state.phase in {JobPhase.QUEUED, JobPhase.RUNNING} for state in oasis.states(list(faults)).values()):
        pass
    states = oasis.states(list(faults))
    assert {state.phase for state in states.values()} == {JobPhase.FAILED}
    messages = {key: state.message or "" for key, state in states.items()}
    assert messages["uncovered"].startswith("The model covers no location of the portfolio")
    assert "footprint" in messages["footprint"].lower()
    assert "csvtobin" in messages["csv"]
    assert "no-such-file.json" in messages["option"]
    assert all("\n" not in message for message in messages.values())
    assert settings.irp_home() == demo.home


# --- a portfolio and a model that this project has never seen -----------------------------------------------------

EARTHQUAKES: dict[str, Any] = {
    "model_data_dir": "tables",
    "model_settings_json": "about.json",
    "lookup_config_json": "lookup.json",
    "lookup_data_dir": "keys",
    "lookup_multiprocessing": False,
}
"""The configuration of a model of two earthquakes in a hundred years: a weak one in five of them, a strong one in one.

Every damage is certain, so that the losses can be worked out on paper.
"""
CONVERT = """
import json, sys
from oasislmf.pytools.converters.csvtobin.cli import main
for arguments in json.loads(sys.argv[1]):
    sys.argv = ["csvtobin", *arguments]
    main()
"""
VALUE, DEDUCTIBLE = 1_500_000, 50_000
WEAK, STRONG = 0.25, 1.0


def write_earthquakes(folder: Path) -> None:
    """Write the model with the tools of Oasis LMF alone; nothing of this project's own model is used."""
    (folder / "tables").mkdir(parents=True)
    (folder / "keys").mkdir()
    (folder / "about.json").write_text(
        json.dumps({"model_supplier_id": "Somebody", "model_name_id": "Earthquakes", "model_version_id": "7.1",
                    "model_settings": {}, "lookup_settings": {"supported_perils": [{"id": "QEQ", "desc": "shake"}]}})
    )  # fmt: skip
    steps = {
        "perils": {"type": "split_loc_perils_covered", "columns": ["locperilscovered"],
                   "parameters": {"model_perils_covered": ["QEQ"]}},
        "area": {"type": "fixed_size_geo_grid", "columns": ["latitude", "longitude"],
                 "parameters": {"lat_min": 30, "lat_max": 40, "lon_min": 130, "lon_max": 145, "arc_size": 5}},
        "coverages": {"type": "simple_pivot",
                      "parameters": {"pivots": [{"new_cols": {"coverage_type": 1, "vulnerability_id": 1}},
                                                {"new_cols": {"coverage_type": 3, "vulnerability_id": 1}}]}},
    }  # fmt: skip
    (folder / "lookup.json").write_text(
        json.dumps({"model": {"supplier_id": "Somebody", "model_id": "Earthquakes", "model_version": "7.1"},
                    "builtin_lookup_type": "new_lookup", "keys_data_path": "keys", "step_definition": steps,
                    "strategy": list(steps)})
    )  # fmt: skip
    areas = range(1, 1 + 2 * 3)
    years = [(1, year) for year in (3, 21, 40, 77, 90)] + [(2, 50)]
    tables: dict[str, tuple[str, str, list[tuple[Any, ...]], list[str]]] = {
        "eve": ("events", "event_id", [(1,), (2,)], []),
        "footprint": ("footprint", "event_id,areaperil_id,intensity_bin_id,probability",
                      [(event, area, event, 1.0) for event in (1, 2) for area in areas], ["-m", "2"]),
        "vulnerability": ("vulnerability", "vulnerability_id,intensity_bin_id,damage_bin_id,probability",
                          [(1, 1, 2, 1.0), (1, 2, 3, 1.0)], ["-d", "3"]),
        "damagebin": ("damage_bin_dict", "bin_index,bin_from,bin_to,interpolation,damage_type",
                      [(1, 0, 0, 0, 0), (2, WEAK, WEAK, WEAK, 0), (3, STRONG, STRONG, STRONG, 0)], []),
        "occurrence": ("occurrence", "event_id,period_no,occ_year,occ_month,occ_day",
                       [(event, year, year, 1, 1) for event, year in years], ["-P", "100"]),
        "returnperiods": ("returnperiods", "return_period", [(100,), (20,)], []),
    }  # fmt: skip
    conversions = []
    for kind, (name, header, rows, options) in tables.items():
        source, target = folder / f"{name}.csv", folder / "tables" / f"{name}.bin"
        source.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n")
        more = ["-x", str(target.with_suffix(".idx"))] if kind == "footprint" else []
        conversions.append([kind, "-i", str(source), "-o", str(target), *more, *options])
    subprocess.run([sys.executable, "-c", CONVERT, json.dumps(conversions)], check=True, capture_output=True)


def test_another_portfolio_and_model_give_the_figures_that_oasis_gives(demo: Demo, tmp_path: Path):
    init_database("elsewhere")
    with schema_context("elsewhere"):
        create_cycle("Q3-2025")
    folder = settings.cycle_dir("elsewhere", "Q3-2025")
    write_earthquakes(folder / "models" / "earthquakes")
    location = pd.DataFrame(
        [{"PortNumber": "7", "AccNumber": "A", "LocNumber": "1", "CountryCode": "JP", "Latitude": 35.7,
          "Longitude": 139.7, "LocPerilsCovered": "QEQ", "LocPeril": "QEQ", "LocCurrency": "JPY",
          "ConstructionCode": 5150, "OccupancyCode": 1100, "BuildingTIV": 1e6, "OtherTIV": 0.0, "ContentsTIV": 5e5,
          "BITIV": 0.0, "LocDedType6All": 0, "LocDedCode6All": 0, "LocDed6All": float(DEDUCTIBLE)}]
    )  # fmt: skip
    account = pd.DataFrame([{"PortNumber": "7", "AccNumber": "A", "AccCurrency": "JPY", "PolNumber": "P",
                             "PolPerilsCovered": "QEQ", "PolPeril": "QEQ"}])  # fmt: skip
    location.to_parquet(folder / "houses.parquet")
    account.to_parquet(folder / "policies.parquet")
    content = {
        "metadata": {"currency": "JPY"},
        "portfolios": [{"name": "tokyo", "source": "parquet", "location": "houses.parquet",
                        "account": "policies.parquet"}],
        "analyses": [{"name": "shake", "portfolio": "tokyo", "engine": "oasis_stochastic",
                      "model": "models/earthquakes", "model_options": EARTHQUAKES, "samples": 2,
                      "perspectives": ["GUL", "IL"], "return_periods": [20, 100], "period_losses": False}],
        "groupings": [],
    }  # fmt: skip
    write_workbook(folder / "configuration.xlsx", Workbook.model_validate(content))
    irp("run", "Q3-2025", "--db-schema", "elsewhere")
    with schema_context("elsewhere"):
        ours = figures_of("shake")

    weak, strong = WEAK * VALUE, STRONG * VALUE
    for perspective, kept in (("GUL", 0), ("IL", DEDUCTIBLE)):
        on_paper = {"AAL": (5 * (weak - kept) + strong - kept) / 100, 20: weak - kept, 100: strong - kept}
        assert ours[perspective, "AAL", None] == pytest.approx(on_paper["AAL"], rel=1e-6)
        for period in (20, 100):
            assert ours[perspective, "OEP", period] == pytest.approx(on_paper[period], rel=1e-6)
            assert ours[perspective, "AEP", period] == pytest.approx(on_paper[period], rel=1e-6)

    model = folder / "models" / "earthquakes"
    (model / "oasislmf.json").write_text(json.dumps(EARTHQUAKES))
    output = {"alt_period": True, "ept_full_uncertainty_aep": True, "ept_full_uncertainty_oep": True,
              "return_period_file": True}  # fmt: skip
    summaries = [{"id": 1, "ord_output": output}]
    (tmp_path / "settings.json").write_text(
        json.dumps({"model_supplier_id": "Somebody", "model_name_id": "Earthquakes", "number_of_samples": 2,
                    "model_settings": {}, "gul_output": True, "gul_summaries": summaries})
    )  # fmt: skip
    by_hand(
        tmp_path, "model", "run", "-C", str(model / "oasislmf.json"), "-a", str(tmp_path / "settings.json"),
        "-r", str(tmp_path / "run"), "-n", "1", "--resource-monitor-interval", "9999",
        "-x", str(folder / "houses.parquet"),
    )  # fmt: skip
    palt = pd.read_csv(tmp_path / "run" / "output" / "gul_S1_palt.csv").query("SampleType == 2")
    assert f"{ours['GUL', 'AAL', None]:.6f}" == f"{palt['MeanLoss'].item():.6f}"
    ept = pd.read_csv(tmp_path / "run" / "output" / "gul_S1_ept.csv").query("EPCalc == 2")
    for metric, ep_type in (("OEP", 1), ("AEP", 3)):
        for row in ept[ept["EPType"] == ep_type].itertuples():
            assert ours["GUL", metric, float(str(row.ReturnPeriod))] == row.Loss
