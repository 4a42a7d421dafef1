"""The same portfolio under other location numbers."""

import csv
from pathlib import Path

import pytest

from irp_pipeline.exposure import ExposureError
from irp_pipeline.exposure.oed import OedTable
from irp_pipeline.exposure.other_draws import with_other_draws
from irp_pipeline.exposure.tables import Tables

LOCATION = "PortNumber,accnumber,locnumber,BuildingTIV\n1,A1,L1,100.10\n1,A1,L2,007\n"
SCOPE = "ReinsNumber,AccNumber,LocNumber\n1,A1,L2\n2,A1,\n"


def portfolio(folder: Path, location: str = LOCATION) -> Tables:
    found = {}
    for table, text in (
        (OedTable.LOCATION, location),
        (OedTable.ACCOUNT, "AccNumber\nA1\n"),
        (OedTable.RI_SCOPE, SCOPE),
    ):
        found[table] = folder / f"{table}.csv"
        found[table].write_text(text)
    return found


def column(path: Path, name: str) -> list[str]:
    with path.open(newline="") as file:
        return [row[name] for row in csv.DictReader(file)]


def test_only_location_numbers_change_and_the_scope_of_reinsurance_follows(tmp_path: Path):
    tables = portfolio(tmp_path)
    one, other = (with_other_draws(tables, number, tmp_path / str(number)) for number in (1, 2))
    numbers = [column(of[OedTable.LOCATION], "LocNumber") for of in (one, other)]
    assert len({*numbers[0], *numbers[1], "L1", "L2"}) == 6
    assert one[OedTable.ACCOUNT] == tables[OedTable.ACCOUNT]
    assert column(one[OedTable.LOCATION], "BuildingTIV") == ["100.10", "007"]
    assert column(one[OedTable.RI_SCOPE], "LocNumber") == [numbers[0][1], ""]
    again = with_other_draws(tables, 1, tmp_path / "again")
    assert again[OedTable.LOCATION].read_bytes() == one[OedTable.LOCATION].read_bytes()


def test_without_location_numbers_it_is_refused(tmp_path: Path):
    with pytest.raises(ExposureError, match="the location table has no LocNumber"):
        with_other_draws(portfolio(tmp_path, "PortNumber,AccNumber\n1,A1\n"), 1, tmp_path)
