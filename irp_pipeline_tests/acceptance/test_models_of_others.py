"""Models and portfolios that this project has never seen: their figures are those of Oasis LMF, on paper and by hand.

And models with a fault, which are told in one line.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from irp_pipeline import embedded, settings
from irp_pipeline.helpers.cycle import create_cycle
from irp_pipeline.helpers.database import dispose_engine, fetch_all, init_database
from irp_pipeline.helpers.db_context import schema_context
from irp_pipeline.workbook import Workbook, write_workbook
from irp_pipeline_tests.support.by_hand import by_hand
from irp_pipeline_tests.support.oasis_jobs import run_job
from irp_pipeline_tests.support.processes import started
from irp_pipeline_tests.support.tiny_models import account, place, write_model, write_portfolio


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """An ``IRP_HOME`` with a server of its own, for this process and all that it starts."""
    folder = Path(tempfile.mkdtemp(prefix="irp-models-"))
    with pytest.MonkeyPatch.context() as environment:
        for name in ("DB_SCHEMA", "DB_SERVER", "IRP_DATABASE_URL", "DAGSTER_HOME", "IRP_EXECUTOR"):
            environment.delenv(name, raising=False)
        environment.setenv("IRP_HOME", str(folder))
        dispose_engine()
        yield folder
        dispose_engine()
    embedded.stop(folder)
    shutil.rmtree(folder)


def test_faults_of_a_model_are_told_in_one_line(tmp_path: Path):
    """Four at once: exposure that the model does not cover, tables that are missing, and a broken setting."""
    portfolio = write_portfolio(tmp_path / "portfolio", [place("1")], [account()])
    elsewhere = write_portfolio(tmp_path / "elsewhere", [place("1", LocPerilsCovered="QEQ")], [account()])
    folders = {name: tmp_path / name for name in ("sound", "no-footprint", "as-csv")}
    sound, no_footprint, as_csv = (write_model(folder, "grid") for folder in folders.values())
    (folders["no-footprint"] / "model_data" / "footprint.bin").unlink()
    vulnerability = folders["as-csv"] / "model_data" / "vulnerability.bin"
    vulnerability.rename(vulnerability.with_suffix(".csv"))
    faults: dict[str, tuple[Path, Path, dict[str, Any]]] = {
        "uncovered": (sound, elsewhere, {}),
        "footprint": (no_footprint, portfolio, {}),
        "csv": (as_csv, portfolio, {}),
        "option": (sound, portfolio, {"lookup_config_json": "no-such-file.json"}),
    }

    def message_of(key: str) -> str:
        model, source, options = faults[key]
        analysis = {"engine": "oasis_stochastic", "samples": 1, "perspectives": ["GUL"], "currency": "GBP",
                    "model_options": options}  # fmt: skip
        return run_job(tmp_path / "jobs" / key, source, analysis, model).error or ""

    with ThreadPoolExecutor() as pool:
        messages = dict(zip(faults, pool.map(message_of, faults), strict=True))
    assert messages["uncovered"].startswith("The model covers no location of the portfolio")
    assert "footprint" in messages["footprint"].lower()
    assert "csvtobin" in messages["csv"]
    assert "no-such-file.json" in messages["option"]


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


def test_another_portfolio_and_model_give_the_figures_that_oasis_gives(home: Path, tmp_path: Path):
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
    with started("irp_pipeline.cli", "run", "Q3-2025", "--db-schema", "elsewhere") as process:
        assert process.end() == 0, process.output
    rows = fetch_all(
        "SELECT perspective, metric, return_period, loss FROM irp_analysis_result WHERE analysis_name = 'shake'",
        schema="elsewhere",
    )
    ours = {(row["perspective"], row["metric"], row["return_period"]): row["loss"] for row in rows}

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
