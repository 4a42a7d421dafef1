"""What is found wrong with an exposure, and how it is told. The rules of OED are ods_tools's own."""

from pathlib import Path

import pytest

from irp_pipeline.exposure import ExposureError
from irp_pipeline.exposure.currencies import CURRENCIES, FORMER_CURRENCIES
from irp_pipeline.exposure.extract import extract
from irp_pipeline.exposure.oed import OedTable
from irp_pipeline.exposure.readers.sources import FileSource
from irp_pipeline.exposure.validate import Finding, Needs, Severity, needs_of_perspectives, validate

ALL_LOSSES = needs_of_perspectives(["GUL", "IL", "RI"])
COORDINATES = Needs(
    location_columns=dict.fromkeys(("Latitude", "Longitude"), "the model places locations by it"),
    filled_columns=frozenset({"Latitude", "Longitude"}),
)

LOCATION = {
    "PortNumber": "1",
    "AccNumber": "A1",
    "LocNumber": "01",
    "CountryCode": "US",
    "AreaCode": "FL",
    "Latitude": "25.7",
    "Longitude": "-80.2",
    "OccupancyCode": "1050",
    "ConstructionCode": "5050",
    "LocPerilsCovered": "WTC;WSS",
    "BuildingTIV": "100000",
    "OtherTIV": "0",
    "ContentsTIV": "5000",
    "BITIV": "0",
    "LocCurrency": "USD",
    "OEDVersion": "4.0.0",
}
ACCOUNT = {
    "PortNumber": "1",
    "AccNumber": "A1",
    "PolNumber": "P1",
    "AccCurrency": "USD",
    "PolPerilsCovered": "WTC;WSS",
    "OEDVersion": "4.0.0",
}
RI_INFO = {
    "ReinsNumber": "1",
    "ReinsPeril": "WTC;WSS",
    "CededPercent": "0.5",
    "PlacedPercent": "1",
    "ReinsCurrency": "USD",
    "InuringPriority": "1",
    "ReinsType": "QS",
    "RiskLevel": "LOC",
    "OEDVersion": "4.0.0",
}
RI_SCOPE = {"ReinsNumber": "1", "PortNumber": "1", "AccNumber": "A1", "OEDVersion": "4.0.0"}


def write(folder: Path, table: OedTable, *rows: dict[str, str]) -> Path:
    file = folder / f"{table.value}.csv"
    columns = list(dict.fromkeys(column for row in rows for column in row))
    lines = [",".join(columns), *(",".join(row.get(column, "") for column in columns) for row in rows)]
    file.write_text("\n".join(lines) + "\n")
    return file


def without(row: dict[str, str], *columns: str) -> dict[str, str]:
    return {column: value for column, value in row.items() if column not in columns}


def check_locations(folder: Path, *rows: dict[str, str], **options) -> list[str]:
    file = write(folder, OedTable.LOCATION, *rows)
    options.setdefault("needs", COORDINATES)
    return [str(finding) for finding in validate({OedTable.LOCATION: file}, **options)]


@pytest.fixture
def complete(tmp_path) -> dict[OedTable, Path]:
    """All four files, without a fault."""
    return {
        OedTable.LOCATION: write(tmp_path, OedTable.LOCATION, LOCATION, LOCATION | {"LocNumber": "02"}),
        OedTable.ACCOUNT: write(tmp_path, OedTable.ACCOUNT, ACCOUNT),
        OedTable.RI_INFO: write(tmp_path, OedTable.RI_INFO, RI_INFO),
        OedTable.RI_SCOPE: write(tmp_path, OedTable.RI_SCOPE, RI_SCOPE),
    }


def test_nothing_is_found_in_an_exposure_without_faults(complete, capfd) -> None:
    assert validate(complete, needs=ALL_LOSSES) == []
    assert capfd.readouterr() == ("", "")


def test_an_extract_is_checked_like_its_source(complete, tmp_path) -> None:
    extracts = {
        table: extract(FileSource(file), table, tmp_path / f"{table.value}.parquet").path
        for table, file in complete.items()
    }
    assert validate(extracts, needs=ALL_LOSSES) == []


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"CountryCode": ""}, "CountryCode: is empty, and OED requires a value"),
        ({"BuildingTIV": "-1"}, "BuildingTIV: -1.0 is not allowed; OED allows 0 and more"),
        ({"Latitude": "95"}, "Latitude: 95.0 is not allowed; OED allows -90 to 90"),
        ({"LocPerilsCovered": "WTC;XYZ;QQQ"}, "LocPerilsCovered: XYZ, QQQ is not a peril code of OED"),
        ({"OccupancyCode": "99"}, "OccupancyCode: 99 is not a code that OED knows"),
        ({"ConstructionCode": "99"}, "ConstructionCode: 99 is not a code that OED knows"),
        ({"AreaCode": "XX"}, "CountryCode: the AreaCode in this row is none that OED knows in the country US"),
        ({"CountryCode": "ZZ", "AreaCode": ""}, "CountryCode: ZZ is not a code that OED knows"),
        (
            {"LocDed6All": "100", "LocPeril": "WTC"},
            "LocDedType6All: must be filled in, because this row has LocDed6All 100",
        ),
        (
            {"LocDed6All": "100", "LocDedType6All": "0", "LocMinDed1Building": "5"},
            "LocPeril: must be filled in, because this row has LocMinDed1Building 5, LocDed6All 100",
        ),
        ({"LocInceptionDate": "2024-02-30"}, "LocInceptionDate: '2024-02-30' is no day of the calendar"),
        (
            {"LocExpiryDate": "9999-12-31"},
            "LocExpiryDate: '9999-12-31' is too far away: Oasis LMF knows the years 1678 to 2261",
        ),
        ({"LocInceptionDate": "31/01/2024"}, "LocInceptionDate: '31/01/2024' is not a date written as YYYY-MM-DD"),
        (
            {"OEDVersion": "3.0.2"},
            "OEDVersion: '3.0.2' is not the version of the first record; all records must have the same version",
        ),
        ({"OEDVersion": "four"}, "OEDVersion: 'four' is not a version such as 4.0.0"),
        ({"LocCurrency": "USX"}, "LocCurrency: 'USX' is not a currency code of ISO 4217."),
        ({"LocCurrency": "usd"}, "LocCurrency: 'usd' is not a currency code of ISO 4217. Write USD."),
        ({"Latitude": ""}, "Latitude: is empty; the model places locations by it"),
    ],
)
def test_an_error_in_a_row_is_told_with_row_record_column_and_value(tmp_path, change, line) -> None:
    lines = check_locations(tmp_path, LOCATION, LOCATION | {"LocNumber": "02"} | change)
    assert f"error: location.csv, line 3 (portfolio 1, account A1, location 02), {line}" in lines
    assert not any("row 2" in other for other in lines)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"LocCurrency": "HRK"}, "LocCurrency: HRK is no longer a currency; EUR replaced it"),
        (
            {"Latitude": "0", "Longitude": "0"},
            "Latitude: latitude and longitude are both 0, in the Atlantic: probably not geocoded",
        ),
        (
            {"BuildingTIV": "0", "ContentsTIV": ""},
            "BuildingTIV: no coverage has an insured value, so this location can have no loss",
        ),
    ],
)
def test_what_may_be_right_is_a_warning(tmp_path, change, line) -> None:
    assert check_locations(tmp_path, LOCATION, LOCATION | {"LocNumber": "02"} | change) == [
        f"warning: location.csv, line 3 (portfolio 1, account A1, location 02), {line}"
    ]


@pytest.mark.parametrize(
    ("column", "line"),
    [
        ("LocCurrency", "error: location.csv, LocCurrency: this column is missing, and OED requires it"),
        (
            "BuildingTIV",
            "error: location.csv, BuildingTIV: this column is missing; Oasis LMF stops without it. Add it, with 0.",
        ),
        (
            "BITIV",
            (
                "warning: location.csv, BITIV: this column is missing; a model that covers it stops. "
                "Add it, with 0 where nothing is insured."
            ),
        ),
        (
            "Latitude",
            "error: location.csv, Latitude: this column is missing; the model places locations by it",
        ),
    ],
)
def test_a_missing_column_is_named(tmp_path, column, line) -> None:
    assert check_locations(tmp_path, without(LOCATION, column)) == [line]


def test_coordinates_are_not_asked_for_where_no_model_needs_them(tmp_path) -> None:
    assert check_locations(tmp_path, without(LOCATION, "Latitude", "Longitude"), needs=Needs()) == []


def test_missing_coordinates_are_told_where_nobody_knows_what_the_model_needs(tmp_path) -> None:
    rows = (without(LOCATION, "Latitude"), LOCATION | {"LocNumber": "02"})
    [line] = check_locations(tmp_path, *rows, needs=None)
    assert line == (
        "warning: location.csv, line 2 (portfolio 1, account A1, location 01), Latitude: is empty; a model that uses "
        "coordinates does not find the location"
    )


def test_an_unknown_column_comes_with_a_name_under_which_it_may_stay(tmp_path) -> None:
    assert check_locations(tmp_path, LOCATION | {"RoofAge": "5"}) == [
        "error: location.csv, RoofAge: is not a column of OED. To keep it, call it FlexiLocRoofAge."
    ]
    assert check_locations(tmp_path, LOCATION | {"FlexiLocRoofAge": "5"}) == []


def test_an_unknown_version_of_the_standard_does_not_end_the_check(tmp_path) -> None:
    rows = [without(LOCATION, "OEDVersion") | {"OEDVersion": "9.9.9", "LocCurrency": "XYZ"}]
    lines = check_locations(tmp_path, *rows)
    assert lines[0] == "error: location.csv, OEDVersion: '9.9.9' is not a version of OED that can be checked here"
    assert any("XYZ" in line for line in lines)


def test_all_faults_are_found_at_once(tmp_path) -> None:
    lines = check_locations(
        tmp_path,
        LOCATION | {"LocCurrency": "USX", "OccupancyCode": "99"},
        LOCATION | {"LocNumber": "02", "Latitude": "", "LocPerilsCovered": "XYZ"},
        LOCATION | {"LocNumber": "02"},
    )
    assert len(lines) == 5
    assert lines[-1] == (
        "error: location.csv, line 4 (portfolio 1, account A1, location 02), LocNumber: an earlier row has the same "
        "portfolio, account and location. Oasis LMF keeps that row and drops this one: its insured value of 105,000 "
        "has no losses. Give every building a different LocNumber"
    )


def test_a_location_may_have_a_row_for_each_set_of_terms(tmp_path) -> None:
    terms = {"LocDed6All": "5", "LocDedType6All": "0"}
    assert (
        check_locations(tmp_path, LOCATION | terms | {"LocPeril": "WTC"}, LOCATION | terms | {"LocPeril": "WSS"}) == []
    )


def test_many_rows_with_one_fault_are_listed_to_a_limit_and_then_counted(tmp_path) -> None:
    rows = [LOCATION | {"LocNumber": str(number), "LocCurrency": "USX"} for number in range(100)]
    lines = check_locations(tmp_path, *rows, rows_per_fault=3)
    assert len(lines) == 4
    assert lines[-1] == "error: location.csv, LocCurrency: the same in 97 more rows"
    assert len(check_locations(tmp_path, *rows)) == 100


def test_files_that_the_wanted_losses_need_are_asked_for(complete) -> None:
    def missing(*tables: OedTable, perspectives: list[str]) -> set[str]:
        files = {table: complete[table] for table in tables}
        return {str(finding) for finding in validate(files, needs=needs_of_perspectives(perspectives) | COORDINATES)}

    account = "error: account file: is missing; insured losses need the accounts and their policies"
    both = "file: is missing; reinsurance needs both the info and the scope file"
    assert missing(OedTable.LOCATION, perspectives=["GUL"]) == set()
    assert missing(OedTable.LOCATION, perspectives=["GUL", "IL"]) == {account}
    assert missing(OedTable.LOCATION, OedTable.ACCOUNT, perspectives=["RI"]) == {
        f"error: ri_info {both}",
        f"error: ri_scope {both}",
    }
    assert missing(OedTable.LOCATION, OedTable.ACCOUNT, OedTable.RI_INFO, perspectives=["IL"]) == {
        f"error: ri_scope {both}"
    }
    assert missing(OedTable.ACCOUNT, perspectives=["GUL"]) == {
        "warning: location file: is missing; only models that use accounts alone (such as cyber) do not need it"
    }


def test_references_between_the_files_are_followed(complete, tmp_path) -> None:
    write(tmp_path, OedTable.LOCATION, LOCATION, LOCATION | {"LocNumber": "02", "AccNumber": "A2"})
    write(tmp_path, OedTable.ACCOUNT, ACCOUNT, ACCOUNT | {"AccNumber": "A9"})
    write(tmp_path, OedTable.RI_INFO, RI_INFO, RI_INFO | {"ReinsNumber": "7"})
    write(tmp_path, OedTable.RI_SCOPE, RI_SCOPE, RI_SCOPE | {"ReinsNumber": "5", "AccNumber": "A5"})
    findings = validate(complete)
    assert {
        (finding.severity.value, finding.file, finding.row, finding.check, finding.value) for finding in findings
    } == {
        ("error", "location.csv", 3, "account-missing", "A2"),
        ("warning", "account.csv", 3, "account-without-location", "A9"),
        ("error", "ri_info.csv", 3, "treaty-without-scope", "7"),
        ("error", "ri_scope.csv", 3, "scope-without-treaty", "5"),
        ("warning", "ri_scope.csv", 3, "scope-without-match", "A5"),
    }
    assert {finding.record for finding in findings} == {
        "portfolio 1, account A2, location 02",
        "portfolio 1, account A9, policy P1",
        "reinsurance 7",
        "reinsurance 5, portfolio 1, account A5",
    }


def test_a_file_that_cannot_be_read_is_an_error_of_its_own(tmp_path) -> None:
    with pytest.raises(ExposureError, match="there is no file"):
        validate({OedTable.LOCATION: tmp_path / "location.parquet"})
    with pytest.raises(ExposureError, match=r"location\.csv, line 2, column BuildingTIV: 'much' is not a number"):
        check_locations(tmp_path, LOCATION | {"BuildingTIV": "much"})


def test_a_file_without_records_is_told(tmp_path) -> None:
    file = tmp_path / "location.csv"
    file.write_text(",".join(LOCATION) + "\n")
    [finding] = validate({OedTable.LOCATION: file}, needs=COORDINATES)
    assert finding == Finding(
        *("location.csv", None, None, "has no records", Severity.ERROR), check="table-empty", table=OedTable.LOCATION
    )


def test_an_amount_in_another_currency_than_the_losses_is_an_error(tmp_path) -> None:
    rows = (LOCATION, LOCATION | {"LocNumber": "02", "LocCurrency": "EUR"})
    (line,) = check_locations(tmp_path, *rows, currency=LOCATION["LocCurrency"])
    assert line == (
        "error: location.csv, line 3 (portfolio 1, account A1, location 02), LocCurrency: is EUR, but losses are "
        f"in {LOCATION['LocCurrency']} (sheet Metadata), and amounts are added up without conversion"
    )
    assert check_locations(tmp_path, *rows) == []


def test_currency_codes_are_three_capital_letters() -> None:
    assert len(CURRENCIES) == 165
    assert all(len(code) == 3 and code.isupper() for code in CURRENCIES | FORMER_CURRENCIES.keys())
    assert not CURRENCIES & FORMER_CURRENCIES.keys()
    assert CURRENCIES.issuperset(FORMER_CURRENCIES.values())


def test_a_large_table_is_checked_in_portions_with_the_same_findings(tmp_path, complete, monkeypatch) -> None:
    faults = [
        {"CountryCode": "XX"},
        {},
        {"LocPerilsCovered": "ZZZ"},
        {"ConstructionCode": "1"},
        {"LocDed6All": "5"},
        {"CountryCode": "XX", "LocDed6All": "5"},
        {"BuildingTIV": ""},
    ]
    rows = [LOCATION | fault | {"LocNumber": str(number)} for number, fault in enumerate(faults)]
    complete[OedTable.LOCATION] = write(tmp_path, OedTable.LOCATION, *rows)
    at_once = [str(finding) for finding in validate(complete, needs=ALL_LOSSES, rows_per_fault=2)]
    assert len(at_once) > len(faults)
    for size in (1, 2, 3, len(faults)):
        monkeypatch.setattr("irp_pipeline.exposure.validation.standard._ROWS_AT_ONCE", size)
        assert [str(finding) for finding in validate(complete, needs=ALL_LOSSES, rows_per_fault=2)] == at_once
