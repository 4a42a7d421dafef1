"""Which fields part a portfolio, and what is said of a portfolio that they cannot part."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from irp_pipeline.exposure.segment_fields import MOST_SEGMENTS, checked_combinations, segment_problems
from irp_pipeline.vocabulary import OedTable

LOCATIONS = [
    {"PortNumber": "1", "AccNumber": "A", "LocNumber": str(number), "CountryCode": "GB", "AreaCode": ""}
    for number in range(MOST_SEGMENTS + 1)
]
ACCOUNTS = [
    {"PortNumber": "1", "AccNumber": "A", "PolNumber": "1", "LOB": "home", "BranchName": "x"},
    {"PortNumber": "1", "AccNumber": "A", "PolNumber": "2", "LOB": "shop", "BranchName": "x"},
    {"PortNumber": "1", "AccNumber": "Z", "PolNumber": "1", "LOB": "home", "BranchName": "y"},
]


def written(folder: Path, table: OedTable, rows: Sequence[Mapping[str, str]]) -> Path:
    path = folder / f"{table}.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.fixture
def tables(tmp_path: Path) -> dict[OedTable, Path]:
    rows = {OedTable.LOCATION: LOCATIONS, OedTable.ACCOUNT: ACCOUNTS}
    return {table: written(tmp_path, table, of) for table, of in rows.items()}


def test_fields_are_spelled_as_oed_does():
    assert checked_combinations(("countrycode + OCCUPANCYCODE", "lob", "FlexiAccTeam", "GeogName1")) == (
        "CountryCode+OccupancyCode", "LOB", "FlexiAccTeam", "GeogName1",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("combinations", "messages"),
    [
        (("CountyCode", "Nonsense"), ("do you mean CountryCode?", "'Nonsense' is no field of OED")),
        (("BuildingTIV", "Latitude"), ("BuildingTIV holds amounts", "Latitude holds amounts")),
        (("LOB+CountryCode", "CountryCode+LOB"), ("LOB+CountryCode is listed more than once",)),
        (("LOB+LOB",), ("LOB is twice in LOB+LOB",)),
        (("LOB+",), ("a field is missing beside a '+'",)),
        (tuple(f"GeogName{number}" for number in range(1, 10)), ("there are 9 combinations; at most 8",)),
        (("+".join(f"GeogName{number}" for number in range(1, 7)),), ("has 6 fields; at most 5",)),
    ],
)
def test_all_that_is_wrong_with_them_is_told_at_once(combinations, messages):
    with pytest.raises(ValueError, match=r"\S") as told:
        checked_combinations(combinations)
    assert all(message in str(told.value) for message in messages)


def test_a_portfolio_that_has_them_can_be_parted(tables):
    assert list(segment_problems(("CountryCode", "AccNumber+BranchName"), ("GUL", "IL"), tables)) == []
    assert list(segment_problems(("LOB+PolNumber",), ("IL",), tables)) == []
    assert list(segment_problems((), ("GUL",), {})) == []
    [message] = segment_problems(("BranchName",), ("GUL", "IL"), tables, figures=80_000)
    assert "would be 2 segments with 160,000 figures each; at most 1 are possible" in message


def test_all_that_it_lacks_is_told_at_once(tables):
    found = list(segment_problems(("AreaCode", "OccupancyCode", "LOB", "LocNumber"), ("GUL",), tables))
    assert [message[:60] for message in found] == [
        "AreaCode is empty in all rows of the location table",
        "the location and account tables have no OccupancyCode",
        "LOB differs between the policies or layers of an account (ac",
        f"AreaCode; OccupancyCode; LOB; LocNumber would be {MOST_SEGMENTS + 1 + 2:,} segmen"[:60],
    ]
    assert "account A in portfolio 1 has home and shop" in found[2]


def test_without_accounts_or_locations(tables):
    location = {OedTable.LOCATION: tables[OedTable.LOCATION]}
    assert list(segment_problems(("LOB",), ("GUL",), location)) == ["the location table of the portfolio has no LOB"]
    [message] = segment_problems(("LOB",), ("IL",), {OedTable.ACCOUNT: tables[OedTable.ACCOUNT]})
    assert "need a location table" in message
