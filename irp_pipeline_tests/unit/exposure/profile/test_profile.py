"""The profile of an exposure: what it counts, that it agrees with the control totals, and that files keep it."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irp_pipeline.exposure import ExposureError
from irp_pipeline.exposure.oed import OedTable, unknown_codes
from irp_pipeline.exposure.profile import adding_up
from irp_pipeline.exposure.profile.changes import rows_of
from irp_pipeline.exposure.profile.computing import profile_of
from irp_pipeline.exposure.profile.grid import cells
from irp_pipeline.exposure.profile.records import SEVERAL, CurrencyProfile, ExposureProfile, Known, PortfolioProfile
from irp_pipeline.exposure.profile.tables import FILES, read_profile, write_profile
from irp_pipeline.exposure.readers.totals import extract_totals
from irp_pipeline.exposure.totals.comparison import money_tolerance, whole_totals

INTEGERS = ("OccupancyCode", "ConstructionCode", "YearBuilt", "AddressMatch")
NUMBERS = ("Latitude", "Longitude", "BuildingTIV", "OtherTIV", "ContentsTIV", "BITIV")
HOUSE = {"PortNumber": "1", "AccNumber": "A", "CountryCode": "GB", "LocCurrency": "GBP", "BuildingTIV": 100.0}


def write(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Write an extract."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    types = {
        name: pa.int64() if name in INTEGERS else pa.float64() if name in NUMBERS else pa.string() for name in names
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    schema = pa.schema(list(types.items()))
    pq.write_table(pa.Table.from_pylist([dict(row) for row in rows], schema), path)
    return path


def profile(
    folder: Path, *portfolios: Sequence[Mapping[str, Any]], accounts: Sequence[Mapping[str, Any]] = ()
) -> ExposureProfile:
    """Return the profile of portfolios of these locations; the accounts are those of each."""
    tables: dict[str, dict[OedTable, Path]] = {}
    for number, rows in enumerate(portfolios):
        of = tables[f"p{number}"] = {}
        if rows:
            of[OedTable.LOCATION] = write(folder / f"p{number}" / "location.parquet", rows)
        if accounts:
            of[OedTable.ACCOUNT] = write(folder / f"p{number}" / "account.parquet", accounts)
    return profile_of(tables)


def only(found: ExposureProfile | PortfolioProfile) -> CurrencyProfile:
    portfolio = found.whole if isinstance(found, ExposureProfile) else found
    (part,) = portfolio.currencies
    return part


def by_value(part: CurrencyProfile, field: str) -> dict[str | None, tuple[float, int, int]]:
    return {
        item.value: (item.amount.tiv, item.amount.locations, item.amount.accounts)
        for item in part.segments
        if item.field == field
    }


def test_a_location_with_several_rows_counts_once_with_its_largest_values_and_its_first_codes(tmp_path) -> None:
    part = only(
        profile(
            tmp_path,
            [
                HOUSE | {"LocNumber": "1", "OccupancyCode": 1050, "ContentsTIV": 10.0},
                HOUSE | {"LocNumber": "1", "OccupancyCode": 1101, "BuildingTIV": 120.0},
                HOUSE | {"LocNumber": "2", "OccupancyCode": 1101, "AccNumber": "B"},
                HOUSE | {"LocNumber": None, "OccupancyCode": 1101, "AccNumber": "B"},
                HOUSE | {"LocNumber": None, "OccupancyCode": 1101, "AccNumber": "B"},
            ],
        )
    )
    assert (part.amount.tiv, part.amount.locations, part.amount.accounts) == (430, 4, 2)
    assert list(part.by_coverage) == [420, 0, 10, 0]
    assert by_value(part, "OccupancyCode") == {"1101": (300, 3, 1), "1050": (130, 1, 1)}
    assert by_value(part, "AccNumber") == {"B": (300, 3, 1), "A": (130, 1, 1)}


def test_amounts_in_different_currencies_are_never_added(tmp_path) -> None:
    found = profile(
        tmp_path,
        [
            HOUSE | {"LocNumber": "1", "Latitude": 51.5, "Longitude": -0.1},
            HOUSE | {"LocNumber": "2", "Latitude": 51.5, "Longitude": -0.1},
            HOUSE | {"LocNumber": "3", "Latitude": 51.5, "Longitude": -0.1, "LocCurrency": "EUR", "BuildingTIV": 7.0},
            HOUSE | {"LocNumber": "4", "LocCurrency": None, "BuildingTIV": 1.0},
        ],
    ).whole
    assert [(part.currency, part.amount.tiv) for part in found.currencies] == [("GBP", 200), ("", 1), ("EUR", 7)]
    assert (found.locations, found.accounts, found.placed) == (4, 1, 3)
    pounds, _, euros = found.currencies
    assert {(circle.radius, circle.tiv, circle.locations) for circle in pounds.circles} == {
        (1000, 200, 2),
        (250, 200, 2),
    }
    assert {(circle.radius, circle.tiv, circle.location) for circle in euros.circles} == {(1000, 7, "3"), (250, 7, "3")}
    assert sum(cell.tiv for cell in pounds.cells) == 200


def test_quality_is_a_share_of_value_and_of_locations(tmp_path) -> None:
    rows: list[dict[str, Any]] = [
        # Known by everything; a bridge of unknown construction is known to be a bridge.
        {
            "Latitude": 51.5,
            "Longitude": -0.1,
            "AddressMatch": 2,
            "OccupancyCode": 1050,
            "ConstructionCode": 5400,
            "YearBuilt": 1990,
        },
        {
            "Latitude": 51.5,
            "Longitude": -0.1,
            "AddressMatch": 7,
            "OccupancyCode": 1000,
            "ConstructionCode": 5000,
            "YearBuilt": 0,
        },
        {"Latitude": None, "Longitude": -0.1, "AddressMatch": 2, "OccupancyCode": 2000, "ConstructionCode": 6000},
        {"Latitude": 0.0, "Longitude": 0.0, "AddressMatch": 1},
        {
            "Latitude": 95.0,
            "Longitude": 200.0,
            "AddressMatch": 3,
            "OccupancyCode": 1101,
            "ConstructionCode": 5150,
            "YearBuilt": 2020,
        },
    ]
    values = (1.0, 2.0, 4.0, 8.0, 16.0)
    locations = [
        HOUSE | row | {"LocNumber": str(number), "BuildingTIV": value}
        for number, (row, value) in enumerate(zip(rows, values, strict=True))
    ]
    found = only(profile(tmp_path, locations))
    assert {measure: (known.tiv, known.locations) for measure, known in found.known.items()} == {
        Known.COORDINATES: (3, 2),
        Known.BUILDING: (1, 1),
        Known.OCCUPANCY: (17, 2),
        Known.CONSTRUCTION: (17, 2),
        Known.YEAR_BUILT: (17, 2),
    }


def test_oed_says_which_codes_mean_unknown() -> None:
    assert unknown_codes("OccupancyCode") == {"1000", "2000", "3000"}
    assert {"5000", "6000", "7000"} == unknown_codes("ConstructionCode")


def test_nothing_is_known_of_columns_that_are_missing(tmp_path) -> None:
    found = profile(tmp_path, [HOUSE | {"LocNumber": "1"}])
    assert {known.locations for known in only(found).known.values()} == {0}
    assert (only(found).circles, only(found).cells, found.whole.placed) == ((), (), 0)
    assert {segment.field for segment in only(found).segments} == {"CountryCode", "AccNumber"}


def test_a_line_of_business_comes_from_the_policies_of_an_account(tmp_path) -> None:
    accounts = [
        {"PortNumber": "1", "AccNumber": "A", "PolNumber": "1", "LOB": "HOME"},
        {"PortNumber": "1", "AccNumber": "A", "PolNumber": "2", "LOB": "HOME"},
        {"PortNumber": "1", "AccNumber": "B", "PolNumber": "1", "LOB": "HOME"},
        {"PortNumber": "1", "AccNumber": "B", "PolNumber": "2", "LOB": "FARM"},
        {"PortNumber": "2", "AccNumber": "A", "PolNumber": "1", "LOB": "FARM"},
    ]
    rows = [HOUSE | {"LocNumber": str(number), "AccNumber": account} for number, account in enumerate("ABCA")]
    found = only(profile(tmp_path, rows, accounts=accounts))
    assert by_value(found, "LOB") == {"HOME": (200, 2, 1), SEVERAL: (100, 1, 1), "": (100, 1, 1)}


def test_a_portfolio_without_locations_has_only_accounts(tmp_path) -> None:
    accounts = [{"PortNumber": "1", "AccNumber": name} for name in "AAB"]
    found = profile(tmp_path, [], accounts=accounts)
    assert found.whole == PortfolioProfile(name="", has_locations=False, locations=0, accounts=2, placed=0)
    mixed = profile(tmp_path, [], [HOUSE | {"LocNumber": "1"}], accounts=accounts)
    assert [(part.has_locations, part.accounts) for part in mixed.portfolios] == [(False, 2), (True, 1)]
    assert (mixed.whole.accounts, mixed.whole.locations) == (3, 1)


def test_all_portfolios_together_have_circles_of_their_own_and_say_what_they_share(tmp_path) -> None:
    place = {"Latitude": 51.5, "Longitude": -0.1}
    near = {"Latitude": 51.5, "Longitude": -0.105}
    found = profile(
        tmp_path,
        [HOUSE | place | {"LocNumber": "1"}, HOUSE | {"LocNumber": "2"}],
        [HOUSE | near | {"LocNumber": "1"}, HOUSE | near | {"LocNumber": "3", "PortNumber": "9"}],
    )
    whole = only(found)
    assert (whole.amount.tiv, found.whole.locations, found.whole.repeated, found.whole.placed) == (400, 4, 1, 3)
    assert [circle.tiv for circle in whole.circles] == [300, 200, 100]
    assert [only(part).circles[0].tiv for part in found.portfolios] == [100, 200]
    assert by_value(whole, "AccNumber") == {"1/A": (300, 3, 1), "9/A": (100, 1, 1)}


def test_many_values_are_kept_in_few_rows(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adding_up, "MOST_VALUES", 2)
    rows = [
        HOUSE | {"LocNumber": f"{number}", "AreaCode": f"{number:02}", "BuildingTIV": 10.0 - number}
        for number in range(5)
    ]
    part = only(profile(tmp_path, rows))
    assert by_value(part, "AreaCode") == {"00": (10, 1, 1), "01": (9, 1, 1), None: (21, 3, 1)}
    assert [segment.values for segment in part.segments if segment.field == "AreaCode"] == [1, 1, 3]


amounts = st.one_of(st.none(), st.floats(0, 1e12), st.decimals(0, 10**9, places=2).map(float))
location = st.fixed_dictionaries(
    {
        "PortNumber": st.sampled_from(["1", "2", None]),
        "AccNumber": st.sampled_from(["A", "B", None]),
        "LocNumber": st.sampled_from(["1", "2", "3", "", None]),
        "CountryCode": st.sampled_from(["GB", "FR", None]),
        "LocCurrency": st.sampled_from(["GBP", "EUR", None]),
        "LocPerilsCovered": st.sampled_from(["WTC", "WTC;WSS", None]),
        "BuildingTIV": amounts,
        "OtherTIV": amounts,
        "ContentsTIV": amounts,
        "BITIV": amounts,
    }
)


@settings(max_examples=40)
@given(st.lists(location, min_size=1, max_size=60))
def test_the_profile_agrees_with_the_control_totals(tmp_path_factory, rows) -> None:
    folder = tmp_path_factory.mktemp("portfolio")
    found = profile(folder, rows).whole
    totals = whole_totals(extract_totals(folder / "p0" / "location.parquet"))
    assert {part.currency for part in found.currencies} == {total.currency for total in totals}
    for part in found.currencies:
        own = [total for total in totals if total.currency == part.currency]
        assert part.amount.locations == sum(total.locations for total in own)
        tiv = sum((total.tiv for total in own), Decimal(0))
        assert abs(part.amount.tiv - float(tiv)) <= 8 * float(money_tolerance(tiv, part.amount.locations))
        countries: dict[str, float] = {}
        for total in own:
            countries[total.country] = countries.get(total.country, 0.0) + float(total.tiv)
        if any(countries):
            split = {value: tiv for value, (tiv, _, _) in by_value(part, "CountryCode").items()}
            assert split == pytest.approx(countries, rel=1e-14, abs=1e-8)
        for field in {segment.field for segment in part.segments}:
            pieces = by_value(part, field).values()
            assert sum(locations for _, locations, _ in pieces) == part.amount.locations
            assert sum(tiv for tiv, _, _ in pieces) == pytest.approx(part.amount.tiv, rel=1e-13, abs=1e-8)


def test_files_keep_a_profile(tmp_path) -> None:
    found = profile(
        tmp_path,
        [HOUSE | {"LocNumber": "1", "Latitude": 51.5, "Longitude": -0.1, "AddressMatch": 2, "OccupancyCode": 1050}],
        [],
        [HOUSE | {"LocNumber": "1", "LocCurrency": "EUR"}],
        accounts=[{"PortNumber": "1", "AccNumber": "A", "LOB": "HOME"}],
    )
    files = {path.name: path for path in write_profile(found, tmp_path / "written")}
    assert tuple(files) == FILES
    assert read_profile(files) == found
    files["cells.parquet"].write_text("no table")
    with pytest.raises(ExposureError, match="cannot be read"):
        read_profile(files)
    with pytest.raises(ExposureError, match=r"no file totals\.parquet"):
        read_profile({name: path for name, path in files.items() if name != "totals.parquet"})


def test_a_table_that_is_none_is_told(tmp_path) -> None:
    (tmp_path / "location.parquet").write_text("no table")
    with pytest.raises(ExposureError, match=r"location\.parquet cannot be read"):
        profile_of({"p": {OedTable.LOCATION: tmp_path / "location.parquet"}})


def test_the_map_is_narrow_around_the_180th_meridian_and_has_few_cells() -> None:
    around = cells(np.array([-17.0, -18.0]), np.array([179.0, -179.0]), np.array([1.0, 2.0]))
    assert sorted(cell.west for cell in around) == [-179.0, 179.0]
    random = np.random.default_rng(1)
    many = cells(random.uniform(-90, 90, 20_000), random.uniform(-180, 180, 20_000), np.ones(20_000))
    assert len(many) <= 2500
    assert sum(cell.tiv for cell in many) == 20_000
    assert {cell.locations for cell in cells(np.full(3, 51.5), np.full(3, 0.1), np.ones(3))} == {3}
    for cell in many:
        assert -180 <= cell.west < 180


def test_a_change_is_told_only_where_both_are_known(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    def areas(name: str, values: Mapping[str, float]) -> CurrencyProfile:
        rows = [HOUSE | {"LocNumber": area, "AreaCode": area, "BuildingTIV": value} for area, value in values.items()]
        return only(profile(tmp_path / name, rows))

    before, now = areas("before", {"N": 100, "S": 50, "X": 40}), areas("now", {"N": 110, "S": 50, "W": 5, "E": 1})
    told = [
        (row.value, row.now.tiv, row.before and row.before.tiv, row.change)
        for row in rows_of(now, before, "AreaCode", 9)
    ]
    assert told == [
        ("N", 110, 100, pytest.approx(0.1)),
        ("S", 50, 50, 0),
        ("X", 0, 40, -1),
        ("W", 5, 0, None),
        ("E", 1, 0, None),
    ]
    few = rows_of(now, before, "AreaCode", 2)
    assert [(row.value, row.values, row.now.tiv, row.before and row.before.tiv) for row in few] == [
        ("N", 1, 110, 100),
        ("S", 1, 50, 50),
        (None, 2, 6, 40),
    ]
    assert sum(row.share for row in few) == pytest.approx(1)
    assert {row.before for row in rows_of(now, None, "AreaCode", 9)} == {None}
    monkeypatch.setattr(adding_up, "MOST_VALUES", 1)
    cut = areas("cut", {"N": 100, "S": 50, "X": 40})
    assert [row.before and row.before.tiv for row in rows_of(now, cut, "AreaCode", 2)] == [100, None, None]
