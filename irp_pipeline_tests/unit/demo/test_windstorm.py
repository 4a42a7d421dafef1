"""The synthetic model: its files as Oasis LMF reads them, and how they come into their folder."""

import csv
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from irp_pipeline.demo import LOCATIONS, LOCATIONS_OF, Quarter, sample_tables, windstorm, write_model
from irp_pipeline.demo.damage import COVERAGES, DAMAGE_BINS
from irp_pipeline.demo.storms import ANNUAL_RATE, EVENTS, GREAT_BRITAIN, INTENSITY_BINS, PERIODS, occurrences, storms
from irp_pipeline.demo.windstorm import FIRST_RELEASE, SECOND_RELEASE, ModelFolderError, Release
from irp_pipeline.exposure.oed import OedTable
from irp_pipeline.exposure.validate import needs_of_perspectives, validate

FOOTPRINT = np.dtype([("areaperil_id", "u4"), ("intensity_bin_id", "i4"), ("probability", "f4")])
INDEX = np.dtype([("event_id", "i4"), ("offset", "i8"), ("size", "i8")])
VULNERABILITY = np.dtype(
    [("vulnerability_id", "i4"), ("intensity_bin_id", "i4"), ("damage_bin_id", "i4"), ("probability", "f4")]
)
OCCURRENCE = np.dtype([("event_id", "i4"), ("period_no", "i4"), ("occ_date_id", "i4")])


@pytest.fixture(
    scope="module", params=[FIRST_RELEASE, SECOND_RELEASE], ids=lambda release: f"version {release.version}"
)
def release(request: pytest.FixtureRequest) -> Release:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, release: Release) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / release.folder, release)


def data(model: Path, name: str, dtype: Any, header: int = 0) -> NDArray[Any]:
    return np.frombuffer((model / "model_data" / name).read_bytes(), dtype, offset=header)


def header_of(model: Path, name: str, numbers: int) -> list[int]:
    return [int(number) for number in data(model, name, "i4")[:numbers]]


def content_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def footprints(model: Path) -> Iterator[tuple[int, NDArray[Any]]]:
    content = (model / "model_data" / "footprint.bin").read_bytes()
    for event, offset, size in data(model, "footprint.idx", INDEX).tolist():
        yield event, np.frombuffer(content[offset : offset + size], FOOTPRINT)


# --- the files ----------------------------------------------------------------------------------------------------


def test_the_same_files_are_written_every_time(model: Path, release: Release, tmp_path: Path):
    assert content_of(write_model(tmp_path / "again", release)) == content_of(model)


def test_the_files_do_not_depend_on_the_process(tmp_path: Path):
    script = "import pathlib, sys; from irp_pipeline.demo import write_model; write_model(pathlib.Path(sys.argv[1]))"
    command = [sys.executable, "-c", script, str(tmp_path / "m")]
    subprocess.run(command, check=True, env=os.environ | {"PYTHONHASHSEED": "7"})
    assert content_of(tmp_path / "m") == content_of(write_model(tmp_path / "here"))


def test_the_second_release_differs_from_the_first_in_vulnerability_alone(tmp_path: Path):
    first, second = (
        content_of(write_model(tmp_path / release.folder, release)) for release in (FIRST_RELEASE, SECOND_RELEASE)
    )
    assert first.keys() == second.keys()
    assert {name for name in first if first[name] != second[name]} == {
        "model_data/vulnerability.bin",
        "lookup_config.json",  # these three name the version
        "model_settings.json",
        "README.md",
    }


def test_importing_the_demo_loads_nothing_heavy():
    script = "import sys, irp_pipeline.demo; print({'oasislmf', 'numpy', 'pandas', 'dagster'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert done.stdout == "set()\n"


def test_there_are_only_binary_files_in_the_data_folder(model: Path):
    """Oasis LMF takes a CSV for a binary file that is missing, and says nothing."""
    assert {path.name for path in (model / "model_data").iterdir()} == {
        "footprint.bin",
        "footprint.idx",
        "vulnerability.bin",
        "damage_bin_dict.bin",
        "events_p.bin",
        "occurrence_lt.bin",
        "returnperiods.bin",
    }


def test_it_says_that_it_is_synthetic(model: Path):
    settings = json.loads((model / "model_settings.json").read_text())
    for text in (
        settings["name"],
        settings["description"],
        settings["model_name_id"],
        (model / "README.md").read_text(),
    ):
        assert "synthetic" in text.lower()


def test_the_settings_name_files_that_are_there(model: Path):
    settings = json.loads((model / "model_settings.json").read_text())["model_settings"]
    for option, file in (("event_set", "events"), ("event_occurrence_id", "occurrence")):
        assert (model / "model_data" / f"{file}_{settings[option]['default']}.bin").is_file()
    for name, path in json.loads((model / "oasislmf.json").read_text()).items():
        assert not name.endswith(("_dir", "_json")) or (model / path).exists()
    example = json.loads((model / "analysis_settings.json").read_text())
    assert example["model_settings"] == {
        option: settings[option]["default"] for option in settings if "event" in option
    }


def test_the_settings_obey_the_schemas_of_the_standard(model: Path):
    from ods_tools.oed.settings import AnalysisSettingHandler, ModelSettingHandler

    ModelSettingHandler.make().load(str(model / "model_settings.json"))
    AnalysisSettingHandler.make().load(str(model / "analysis_settings.json"))


# --- hazard -------------------------------------------------------------------------------------------------------


def test_every_event_has_a_footprint_within_the_grid(model: Path):
    events = data(model, "events_p.bin", "i4").tolist()
    assert events == list(range(1, EVENTS + 1))
    assert [event for event, _ in footprints(model)] == events
    assert header_of(model, "footprint.bin", 2) == [INTENSITY_BINS, 1]
    for _, where in footprints(model):
        assert where["areaperil_id"].min(initial=1) >= 1
        assert where["areaperil_id"].max(initial=1) <= GREAT_BRITAIN.rows * GREAT_BRITAIN.columns
        assert where["intensity_bin_id"].min(initial=1) >= 1
        assert where["intensity_bin_id"].max(initial=1) <= INTENSITY_BINS


def test_intensity_probabilities_are_sorted_and_add_up_to_one(model: Path):
    uncertain = 0
    for _, where in footprints(model):
        keys = where["areaperil_id"].astype("i8") * 1000 + where["intensity_bin_id"]
        assert (np.diff(keys) > 0).all()
        _, cells = np.unique(where["areaperil_id"], return_inverse=True)
        assert (np.bincount(cells, where["probability"]) == 1).all()
        assert (where["probability"] > 0).all()
        uncertain += int((np.bincount(cells) > 1).sum())
    assert uncertain > 100_000


def test_gusts_decay_away_from_the_track(model: Path):
    """A rare storm blows hard somewhere, and nowhere near as hard at the other end of the country."""
    _, where = list(footprints(model))[-1]
    strongest = where["intensity_bin_id"].max()
    cells = len(np.unique(where["areaperil_id"]))
    near = len(np.unique(where["areaperil_id"][where["intensity_bin_id"] >= strongest - 2]))
    assert 0 < near < cells / 4


def test_occurrences_are_of_events_in_years_that_are_simulated(model: Path):
    assert header_of(model, "occurrence_lt.bin", 2) == [1, PERIODS]
    found = data(model, "occurrence_lt.bin", OCCURRENCE, header=8)
    with_footprint = [event for event, where in footprints(model) if len(where)]
    assert np.isin(found["event_id"], with_footprint).mean() > 0.9
    assert np.isin(found["event_id"], data(model, "events_p.bin", "i4")).all()
    assert 1 <= found["period_no"].min() <= found["period_no"].max() <= PERIODS


def test_some_years_have_no_storm_and_some_have_several(model: Path):
    found = data(model, "occurrence_lt.bin", OCCURRENCE, header=8)
    in_year = np.bincount(found["period_no"], minlength=PERIODS + 1)[1:]
    assert in_year.mean() == pytest.approx(ANNUAL_RATE, rel=0.03)
    assert in_year.var() == pytest.approx(ANNUAL_RATE, rel=0.06)  # of a Poisson distribution
    assert (in_year == 0).mean() == pytest.approx(np.exp(-ANNUAL_RATE), abs=0.02)
    assert in_year.max() >= 6


def test_storms_come_in_winter_of_the_simulated_year(model: Path):
    found = data(model, "occurrence_lt.bin", OCCURRENCE, header=8)
    # Days of the proleptic Gregorian calendar, counted from 1 March of the year 0.
    dates = (np.datetime64("0000-03-01") + found["occ_date_id"].astype("timedelta64[D]")).tolist()
    expected = occurrences(storms())
    assert [(date.year, date.month, date.day) for date in dates] == [(o.period, o.month, o.day) for o in expected]
    assert {date.month for date in dates} <= {10, 11, 12, 1, 2, 3}


# --- vulnerability ------------------------------------------------------------------------------------------------


def test_damage_bins_cover_everything_from_no_damage_to_total_loss(model: Path):
    fields = [("index", "i4"), ("from", "f4"), ("to", "f4"), ("mean", "f4"), ("type", "i4")]
    bins = data(model, "damage_bin_dict.bin", fields)
    assert bins["index"].tolist() == list(range(1, len(DAMAGE_BINS) + 1))
    assert bins[0]["to"] == 0
    assert bins[-1]["to"] == 1
    assert (bins["from"][1:] == bins["to"][:-1]).all()
    assert ((bins["from"] <= bins["mean"]) & (bins["mean"] <= bins["to"])).all()


def test_damage_probabilities_are_complete_and_damage_grows_with_the_gust(model: Path):
    assert header_of(model, "vulnerability.bin", 1) == [len(DAMAGE_BINS)]
    found = data(model, "vulnerability.bin", VULNERABILITY, header=4)
    middles = np.array([(lower + upper) / 2 for lower, upper in DAMAGE_BINS])
    for number in np.unique(found["vulnerability_id"]):
        mine = found[found["vulnerability_id"] == number]
        rows = mine["intensity_bin_id"] - 1
        assert (np.bincount(rows, mine["probability"]) == np.ones(INTENSITY_BINS)).all()
        mean = np.bincount(rows, mine["probability"] * middles[mine["damage_bin_id"] - 1])
        assert (np.diff(mean) >= 0).all()
        assert mean[0] < 1e-6
        assert 0.05 < mean[-1] < 0.7


# --- the sample portfolios ----------------------------------------------------------------------------------------


@pytest.fixture(params=list(LOCATIONS_OF))
def portfolio(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=list(Quarter))
def quarter(request: pytest.FixtureRequest) -> Quarter:
    return Quarter(request.param)


def test_every_location_of_the_sample_is_on_the_grid_and_has_vulnerabilities(
    model: Path, portfolio: str, quarter: Quarter
):
    with (model / "keys_data" / "vulnerability_dict.csv").open() as file:
        keys = {
            (row["peril_id"], int(row["coverage_type"]), int(row["constructioncode"])): int(row["vulnerability_id"])
            for row in csv.DictReader(file)
        }
    known = set(data(model, "vulnerability.bin", VULNERABILITY, header=4)["vulnerability_id"].tolist())
    assert set(keys.values()) == known
    for location in sample_tables(portfolio, quarter)["location"]:
        assert GREAT_BRITAIN.area_peril(location["Latitude"], location["Longitude"]) is not None
        for coverage in COVERAGES:
            assert (location["LocPerilsCovered"], coverage, location["ConstructionCode"]) in keys


def test_every_location_of_the_sample_is_hit_by_many_storms(model: Path, portfolio: str, quarter: Quarter):
    cells = {
        GREAT_BRITAIN.area_peril(location["Latitude"], location["Longitude"])
        for location in sample_tables(portfolio, quarter)["location"]
    }
    hits = np.zeros(GREAT_BRITAIN.rows * GREAT_BRITAIN.columns + 1, int)
    for _, where in footprints(model):
        hits[np.unique(where["areaperil_id"])] += 1
    assert min(hits[cell] for cell in cells if cell is not None) > 50


def test_the_grid_is_the_one_of_the_lookup(model: Path):
    """The formula of fixed_size_geo_grid: cells are counted northwards first, from 1."""
    steps = json.loads((model / "lookup_config.json").read_text())["step_definition"]
    grid = steps["area"]["parameters"]
    rows = round((grid["lat_max"] - grid["lat_min"]) / grid["arc_size"])
    for latitude, longitude in ((51.5, -0.12), (57.1, -2.1), (50.01, -5.2)):
        column = int((longitude - grid["lon_min"]) // grid["arc_size"])
        expected = column * rows + int((latitude - grid["lat_min"]) // grid["arc_size"]) + 1
        assert GREAT_BRITAIN.area_peril(latitude, longitude) == expected
    assert GREAT_BRITAIN.area_peril(48.8, 2.3) is None


def test_the_sample_obeys_the_standard(portfolio: str, quarter: Quarter, tmp_path: Path):
    from irp_pipeline.demo.portfolio import write_portfolios

    write_portfolios(tmp_path, quarter)
    files = {table: tmp_path / portfolio / f"{table.value}.csv" for table in OedTable}
    assert validate(files, needs=needs_of_perspectives(["GUL", "IL", "RI"])) == []


def test_the_two_portfolios_have_no_account_or_location_in_common(quarter: Quarter):
    found = [{row["LocNumber"] for row in sample_tables(name, quarter)["location"]} for name in LOCATIONS_OF]
    assert len(set.union(*found)) == quarter.locations
    accounts = [{row["AccNumber"] for row in sample_tables(name, quarter)["account"]} for name in LOCATIONS_OF]
    assert not set.intersection(*accounts)


def test_the_first_quarter_has_as_many_locations_as_are_said(portfolio: str):
    assert len(sample_tables(portfolio)["location"]) == LOCATIONS_OF[portfolio]
    assert LOCATIONS == Quarter.FIRST.locations == 1000


@pytest.mark.parametrize(
    ("name", "gone", "new", "inflation"), [("residential", 24, 40, 1.03), ("commercial", 20, 16, 1.05)]
)
def test_a_quarter_later_some_locations_are_gone_others_new_and_the_rest_insured_for_more(
    name: str, gone: int, new: int, inflation: float
):
    first, second = ({row["LocNumber"]: row for row in sample_tables(name, quarter)["location"]} for quarter in Quarter)
    assert (len(first.keys() - second.keys()), len(second.keys() - first.keys())) == (gone, new)
    accounts = {row["AccNumber"] for row in first.values()}
    assert not {second[number]["AccNumber"] for number in second.keys() - first.keys()} & accounts
    values = {"BuildingTIV", "OtherTIV", "ContentsTIV", "BITIV"}
    for number in first.keys() & second.keys():
        before, after = first[number], second[number]
        for field in before.keys() - {"LocDed6All"}:
            assert after[field] == (pytest.approx(before[field] * inflation) if field in values else before[field])


def test_a_quarter_later_homes_have_higher_deductibles_and_businesses_another_retention():
    def deductibles(quarter: Quarter) -> dict[str, set[int]]:
        found: dict[str, set[int]] = {}
        for row in sample_tables("residential", quarter)["location"]:
            found.setdefault(row["AccNumber"], set()).add(row["LocDed6All"])
        return found

    before, after = deductibles(Quarter.FIRST), deductibles(Quarter.SECOND)
    assert set(map(frozenset, before.values())) == {frozenset({1000})}
    assert sum(after[account] == {2500} for account in before) == len(before) / 3
    assert all(found in ({1000}, {2500}) for found in after.values())
    for name, retentions in (("residential", [300_000, 300_000]), ("commercial", [750_000, 1_000_000])):
        treaties = [sample_tables(name, quarter)["ri_info"][1] for quarter in Quarter]
        assert [treaty["OccAttachment"] for treaty in treaties] == retentions


def test_a_quarter_later_the_model_is_newer_and_one_analysis_has_another_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from irp_pipeline import settings
    from irp_pipeline.demo import write_sample
    from irp_pipeline.workbook import read_workbook

    monkeypatch.setenv("IRP_HOME", str(tmp_path / "home"))
    first, second = (
        read_workbook(write_sample(tmp_path / quarter, quarter), models_dir=settings.models_folder())
        for quarter in Quarter
    )
    assert str(second.metadata.exposure_date) == "2024-06-30"
    then, now = ({item.name: item.model_dump() for item in workbook.analyses} for workbook in (first, second))
    assert then.keys() == now.keys()
    differing = {
        name: {key: now[name][key] for key in now[name] if now[name][key] != then[name].get(key)} for name in now
    }
    newer = {"model": "synthetic-windstorm-1.1"}
    assert differing == {
        "residential_wind": newer, "commercial_wind": {**newer, "loss_multiplier": 1.05}, "commercial_stress": {},
    }  # fmt: skip
    models = sorted(path.name for path in settings.models_folder().iterdir() if path.is_dir())
    assert models == ["synthetic-windstorm", "synthetic-windstorm-1.1"]


def test_the_workbook_of_the_sample_is_valid_with_its_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from irp_pipeline import settings
    from irp_pipeline.demo import write_sample
    from irp_pipeline.workbook import read_workbook

    monkeypatch.setenv("IRP_HOME", str(tmp_path / "home"))
    path = write_sample(tmp_path / "cycle")
    workbook = read_workbook(path, models_dir=settings.models_folder())
    assert [analysis.name for analysis in workbook.analyses] == [
        "residential_wind",
        "commercial_wind",
        "commercial_stress",
    ]
    assert [analysis.name for analysis in workbook.analyses_in("all_wind")] == ["residential_wind", "commercial_wind"]


# --- the folder ---------------------------------------------------------------------------------------------------


def test_a_model_that_is_there_is_left_alone(model: Path, release: Release):
    before = {path: path.stat().st_mtime_ns for path in model.rglob("*")}
    assert write_model(model, release) == model
    assert {path: path.stat().st_mtime_ns for path in model.rglob("*")} == before


def test_another_version_is_replaced_as_a_whole(tmp_path: Path):
    folder = write_model(tmp_path / "models" / "wind", SECOND_RELEASE)
    (folder / "model_data" / "left_over.csv").touch()
    write_model(folder)
    assert json.loads((folder / "model_settings.json").read_text())["model_version_id"] == windstorm.VERSION
    assert not (folder / "model_data" / "left_over.csv").exists()
    assert [path.name for path in folder.parent.iterdir() if not path.name.startswith(".wind.lock")] == ["wind"]


@pytest.mark.parametrize("there_before", [False, True])
def test_a_writer_that_fails_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there_before: bool):
    folder = tmp_path / "wind"
    if there_before:
        write_model(folder, SECOND_RELEASE)
    before = content_of(folder)

    def fail() -> str:
        raise OSError("no space left")

    with monkeypatch.context() as broken:
        broken.setattr(windstorm, "_vulnerability_dictionary", fail)
        with pytest.raises(OSError, match="no space left"):
            write_model(folder)
    assert content_of(folder) == before
    assert folder.exists() == there_before
    assert not list(tmp_path.glob(".wind.*.partial"))


def test_what_a_killed_writer_left_is_removed(tmp_path: Path):
    abandoned = tmp_path / ".wind.0123.partial"
    abandoned.mkdir()
    (abandoned / "footprint.bin").touch()
    write_model(tmp_path / "wind")
    assert not abandoned.exists()


def test_writers_at_the_same_time_write_it_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    written: list[Path] = []
    write = windstorm._write_files

    def count(folder: Path, release: Release) -> None:
        written.append(folder)
        write(folder, release)

    monkeypatch.setattr(windstorm, "_write_files", count)
    with ThreadPoolExecutor(3) as writers:
        list(writers.map(write_model, [tmp_path / "wind"] * 3))
    assert len(written) == 1


@pytest.mark.parametrize("content", [{}, {"notes.txt": "mine"}, {"model_settings.json": '{"model_supplier_id": "me"}'}])
def test_a_folder_with_something_else_is_refused(tmp_path: Path, content: dict[str, str]):
    folder = tmp_path / "wind"
    folder.mkdir()
    for name, text in content.items():
        (folder / name).write_text(text)
    with pytest.raises(ModelFolderError, match=re.escape(str(folder))):
        write_model(folder)
    assert {path.name for path in folder.iterdir()} == set(content)
