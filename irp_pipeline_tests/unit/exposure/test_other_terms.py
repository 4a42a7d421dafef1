"""The exposure of one portfolio with the financial terms of another."""

import csv
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from irp_pipeline.exposure import ExposureError
from irp_pipeline.exposure.oed import OedTable
from irp_pipeline.exposure.other_terms import match_locations, with_terms_of
from irp_pipeline.exposure.tables import Tables

Rows = list[dict[str, str]]


def location(number, account="A1", *, tiv="100", ded="0", at="50.0", **more):
    return {
        "PortNumber": "1",
        "AccNumber": account,
        "LocNumber": str(number),
        "BuildingTIV": tiv,
        "Latitude": at,
        "LocDed6All": ded,
        "LocCurrency": "EUR",
        **more,
    }


def account(number="A1", policy="P1", limit="1000", **more):
    return {"PortNumber": "1", "AccNumber": number, "PolNumber": policy, "LayerLimit": limit, **more}


def written(folder: Path, **tables: Rows) -> Tables:
    folder.mkdir(parents=True, exist_ok=True)
    files = {}
    for name, rows in tables.items():
        columns = list(dict.fromkeys(column for row in rows for column in row))
        files[OedTable(name)] = folder / f"{name}.csv"
        with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns, restval="")
            writer.writeheader()
            writer.writerows(rows)
    return files


def rows(path: Path) -> Rows:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def mixed(exposure: Tables, terms: Tables, folder: Path) -> dict[OedTable, Path]:
    return with_terms_of(exposure, terms, match_locations(exposure, terms), folder)


def test_terms_of_the_other_portfolio_apply_to_what_is_in_both(tmp_path):
    later = written(
        tmp_path / "later",
        location=[location(1, tiv="110", ded="5", at="51"), location(3, "A2", ded="7", at="53")],
        account=[account(limit="2000"), account("A2", limit="9")],
    )
    earlier = written(
        tmp_path / "earlier",
        location=[location(1, ded="1", at="51"), location(2, ded="2", at="52")],
        account=[account(limit="500"), account("A9")],
    )
    found = mixed(later, earlier, tmp_path / "mixed")
    assert [(row["LocNumber"], row["BuildingTIV"], row["LocDed6All"]) for row in rows(found[OedTable.LOCATION])] == [
        ("1", "110", "1"),
        ("3", "100", "7"),
    ]
    assert [(row["AccNumber"], row["LayerLimit"]) for row in rows(found[OedTable.ACCOUNT])] == [
        ("A1", "500"),
        ("A2", "9"),
    ]


def test_several_rows_of_terms_of_one_location_or_account_come_as_a_whole(tmp_path):
    later = written(
        tmp_path / "later", location=[location(1, tiv="110", LocPeril="WW1")], account=[account(), account(policy="P2")]
    )
    earlier = written(
        tmp_path / "earlier",
        location=[location(1, ded="1", LocPeril="WTC"), location(1, ded="2", LocPeril="WEC")],
        account=[account(policy="P7")],
    )
    found = mixed(later, earlier, tmp_path / "mixed")
    assert [(row["BuildingTIV"], row["LocDed6All"], row["LocPeril"]) for row in rows(found[OedTable.LOCATION])] == [
        ("110", "1", "WTC"),
        ("110", "2", "WEC"),
    ]
    assert [row["PolNumber"] for row in rows(found[OedTable.ACCOUNT])] == ["P7"]


def test_tables_that_are_those_of_one_portfolio_are_its_files(tmp_path):
    later = written(tmp_path / "later", location=[location(1, tiv="110")], account=[account(limit="7")])
    earlier = written(tmp_path / "earlier", location=[location(1)], account=[account()])
    found = mixed(later, earlier, tmp_path / "mixed")
    assert found == {OedTable.LOCATION: later[OedTable.LOCATION], OedTable.ACCOUNT: earlier[OedTable.ACCOUNT]}
    assert not (tmp_path / "mixed").exists()


def test_only_other_terms_give_the_other_portfolio(tmp_path):
    later = written(tmp_path / "later", location=[location(1, ded="9"), location(2, at="51")], account=[account()])
    earlier = written(tmp_path / "earlier", location=[location(1), location(2, at="51")], account=[account()])
    assert mixed(later, earlier, tmp_path / "mixed")[OedTable.LOCATION] == earlier[OedTable.LOCATION]
    assert mixed(earlier, later, tmp_path / "mixed")[OedTable.LOCATION] == later[OedTable.LOCATION]


def test_renumbered_locations_are_the_same_locations(tmp_path):
    earlier = written(tmp_path / "earlier", location=[location(n, at=f"5{n}", ded=str(n)) for n in range(5)])
    later = written(tmp_path / "later", location=[location(f"X{n}", at=f"5{n}", ded="9") for n in range(5)])
    matching = match_locations(earlier, later)
    assert str(matching) == "5 renumbered"
    found = mixed(later, earlier, tmp_path / "mixed")
    assert [(row["LocNumber"], row["LocDed6All"]) for row in rows(found[OedTable.LOCATION])] == [
        (f"X{n}", str(n)) for n in range(5)
    ]


def test_locations_that_exchange_their_numbers_are_renumbered(tmp_path):
    earlier = written(tmp_path / "earlier", location=[location(n, at=f"5{n}") for n in range(4)])
    later = written(tmp_path / "later", location=[location(n, at=f"5{(n + 1) % 4}") for n in range(4)])
    assert str(match_locations(earlier, later)) == "4 renumbered"


def test_alike_locations_whose_values_change_are_not_renumbered(tmp_path):
    """Two locations that only differ in their number say nothing about which is which."""
    earlier = written(tmp_path / "earlier", location=[location(1), location(2), location(3, tiv="200")])
    later = written(tmp_path / "later", location=[location(1, tiv="200"), location(2), location(3, tiv="300")])
    matching = match_locations(earlier, later)
    assert (matching.renumbered, matching.changed) == (0, 2)


def test_a_filled_column_that_only_one_portfolio_has_is_a_change(tmp_path):
    earlier = written(tmp_path / "earlier", location=[location(1), location(2)])
    later = written(tmp_path / "later", location=[location(1, YearBuilt="1990"), location(2, YearBuilt="")])
    assert str(match_locations(earlier, later)) == "1 changed"


def test_new_and_gone_locations(tmp_path):
    earlier = written(tmp_path / "earlier", location=[location(1), location(2, at="51"), location(3, at="52")])
    later = written(tmp_path / "later", location=[location(1), location(4, at="59")])
    matching = match_locations(earlier, later)
    assert str(matching) == "1 new, 2 gone"
    assert str(matching.reverse) == "2 new, 1 gone"


@given(st.integers(0, 30), st.integers(0, 30), st.integers(0, 2**32))
def test_each_location_is_in_at_most_one_pair(tmp_path_factory, before, after, seed):
    draw = random.Random(seed)
    folder = tmp_path_factory.mktemp("any")

    def some(number):
        numbers = draw.sample(range(40), number)
        return [location(n, at=str(draw.randrange(12)), tiv=str(draw.randrange(3))) for n in numbers] or [location(0)]

    earlier, later = (written(folder / str(side), location=some(n)) for side, n in enumerate((before, after)))
    matching = match_locations(earlier, later)
    assert matching.pairs["earlier"].is_unique
    assert matching.pairs["later"].is_unique
    for tables, alone in ((earlier, matching.gone), (later, matching.new)):
        assert len(matching.pairs) + alone == len(rows(tables[OedTable.LOCATION]))
    own = mixed(later, later, folder / "own")
    assert own == later


def test_amounts_in_another_currency_do_not_apply(tmp_path):
    earlier = written(tmp_path / "earlier", location=[location(1)])
    later = written(tmp_path / "later", location=[location(1, LocCurrency="USD")])
    with pytest.raises(ExposureError, match=r"the location 1/A1/1 has its amounts in USD .* and in EUR in the other"):
        mixed(later, earlier, tmp_path / "mixed")


def treaty(number, **more):
    return {"ReinsNumber": str(number), "ReinsType": "QS", "CededPercent": "0.5", **more}


def scope(number, account="", place="", policy=""):
    return {
        "ReinsNumber": str(number),
        "PortNumber": "1",
        "AccNumber": account,
        "LocNumber": place,
        "PolNumber": policy,
    }


def test_reinsurance_of_the_other_portfolio_without_what_is_not_there(tmp_path):
    later = written(
        tmp_path / "later",
        location=[location("X1", at="51"), location(7, "NEW", at="57")],
        account=[account(), account("NEW")],
        ri_info=[treaty(1, CededPercent="0.1"), treaty(2, CededPercent="0.2")],
        ri_scope=[scope(1), scope(2, "NEW")],
    )
    earlier = written(
        tmp_path / "earlier",
        location=[location(1, at="51"), location(2, "GONE")],
        account=[account(), account("GONE")],
        ri_info=[treaty(1), treaty(2), treaty(3)],
        ri_scope=[scope(1), scope(2, "GONE"), scope(3, "A1", "1"), scope(3, "A1", "", "P1"), scope(3, "A1", "", "P9")],
    )
    found = mixed(later, earlier, tmp_path / "mixed")
    assert [(row["ReinsNumber"], row["CededPercent"]) for row in rows(found[OedTable.RI_INFO])] == [
        ("1", "0.5"),
        ("3", "0.5"),
        ("4", "0.2"),  # covers only an account that the earlier portfolio lacks, under a number that is free
    ]
    named = [
        tuple(row[name] for name in ("ReinsNumber", "AccNumber", "LocNumber", "PolNumber"))
        for row in rows(found[OedTable.RI_SCOPE])
    ]
    assert named == [("1", "", "", ""), ("3", "A1", "X1", ""), ("3", "A1", "", "P1"), ("4", "NEW", "", "")]


def test_a_portfolio_without_location_numbers_is_refused(tmp_path):
    tables = written(tmp_path / "it", location=[{"PortNumber": "1", "AccNumber": "1", "BuildingTIV": "5"}])
    with pytest.raises(ExposureError, match="the location table has no LocNumber"):
        match_locations(tables, tables)
