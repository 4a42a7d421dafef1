"""Control totals: what they count, and which differences they see."""

import csv
import io
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irp_pipeline.exposure import ExposureError
from irp_pipeline.exposure.extract import extract
from irp_pipeline.exposure.oed import OedTable
from irp_pipeline.exposure.readers.sources import FileSource
from irp_pipeline.exposure.readers.totals import extract_totals, source_totals
from irp_pipeline.exposure.totals import control_total
from irp_pipeline.exposure.totals.as_json import totals_from_json, totals_to_json
from irp_pipeline.exposure.totals.comparison import compare_totals, money_tolerance, whole_totals
from irp_pipeline.exposure.totals.control_total import ALL_PERILS, ControlTotal, TotalsAccumulator

HEADER = [
    *("PortNumber", "AccNumber", "LocNumber", "LocPerilsCovered", "CountryCode", "LocCurrency"),
    *("BuildingTIV", "OtherTIV", "ContentsTIV", "BITIV"),
]
TOTAL = ControlTotal("1", "WTC", "US", "USD", 2, 1, Decimal("100.5"), Decimal(0), Decimal(3), Decimal(0))


def write_csv(file: Path, rows: list[list[str]], header: list[str] | None = None) -> FileSource:
    text = io.StringIO()
    csv.writer(text).writerows([header or HEADER, *rows])
    file.write_text(text.getvalue(), newline="")
    return FileSource(file)


def test_totals_are_by_portfolio_peril_country_and_currency(tmp_path) -> None:
    source = write_csv(
        tmp_path / "location.csv",
        [
            ["1", "A", "1", "WTC;WSS", "US", "USD", "100.10", "1", "10", ""],
            ["1", "A", "2", "WTC", "US", "USD", "200.20", "", "20", "5"],
            ["1", "B", "1", "WSS ; WTC", "US", "USD", "0.70", "", "", ""],
            ["1", "B", "1", "AA1", "CA", "CAD", "50", "", "", ""],
            ["2", "A", "1", "", "US", "USD", "7", "", "", ""],
        ],
    )
    money = (Decimal("301.00"), Decimal(1), Decimal(30), Decimal(5))
    assert counted(source_totals(source)) == {
        ("1", "AA1", "CA", "CAD"): (1, 1, Decimal(50), *[Decimal(0)] * 3),
        ("1", "WSS", "US", "USD"): (2, 2, Decimal("100.80"), Decimal(1), Decimal(10), Decimal(0)),
        ("1", "WTC", "US", "USD"): (3, 2, *money),
        ("1", ALL_PERILS, "CA", "CAD"): (1, 1, Decimal(50), *[Decimal(0)] * 3),
        ("1", ALL_PERILS, "US", "USD"): (3, 2, *money),
        ("2", "", "US", "USD"): (1, 1, Decimal(7), *[Decimal(0)] * 3),
        ("2", ALL_PERILS, "US", "USD"): (1, 1, Decimal(7), *[Decimal(0)] * 3),
    }


def counted(totals: Iterable[ControlTotal]) -> dict[tuple[str, ...], tuple[float | Decimal, ...]]:
    return {
        (total.portfolio, total.peril, total.country, total.currency): (
            *(total.locations, total.accounts, total.building_tiv, total.other_tiv, total.contents_tiv, total.bi_tiv),
        )
        for total in totals
    }


SEVERAL_ROWS = [
    ["1", "A", "1", "WTC;WSS", "US", "USD", "1000", "", "500", ""],
    ["1", "A", "1", "WTC;WSS", "US", "USD", "1000", "", "500", ""],
    ["1", "A", "2", "WTC", "US", "USD", "1000", "", "500", ""],
]


def test_a_location_in_several_rows_counts_once_with_its_insured_values(tmp_path) -> None:
    (total,) = whole_totals(source_totals(write_csv(tmp_path / "location.csv", SEVERAL_ROWS)))
    assert (total.records, total.locations, total.accounts, total.tiv) == (3, 2, 1, Decimal(3000))


def test_a_location_whose_rows_cover_other_perils_counts_once_under_each_of_them(tmp_path) -> None:
    rows = [["1", "A", "1", peril, "US", "USD", "1000", "", "", ""] for peril in ("WTC", "WSS", "WTC;WSS")]
    totals = {total.peril: total for total in source_totals(write_csv(tmp_path / "location.csv", rows))}
    assert {peril: (total.records, total.locations, total.tiv) for peril, total in totals.items()} == {
        "WTC": (2, 1, Decimal(1000)),
        "WSS": (2, 1, Decimal(1000)),
        ALL_PERILS: (3, 1, Decimal(1000)),
    }


def test_the_same_number_in_another_account_or_portfolio_is_another_location(tmp_path) -> None:
    rows = [[portfolio, account, "1", "WTC", "US", "USD", "10", "", "", ""] for portfolio in "12" for account in "AB"]
    totals = source_totals(write_csv(tmp_path / "location.csv", rows))
    assert [(total.locations, total.accounts) for total in whole_totals(totals)] == [(2, 2), (2, 2)]
    assert [(total.portfolio, total.account, total.tiv) for total in totals.by_account or ()] == [
        (portfolio, account, Decimal(10)) for portfolio in "12" for account in "AB"
    ]


def test_buildings_count_once_for_each_location_and_unknown_means_one(tmp_path) -> None:
    rows = [["1", "5"], ["1", "5"], ["2", ""], ["3", "0"], ["4", "2.0"]]
    source = write_csv(tmp_path / "location.csv", rows, ["LocNumber", "NumberOfBuildings"])
    (total,) = whole_totals(source_totals(source))
    assert (total.locations, total.buildings) == (4, 5 + 1 + 1 + 2)


def test_a_lost_row_of_a_location_is_a_difference_although_the_location_is_there(tmp_path) -> None:
    whole = source_totals(write_csv(tmp_path / "location.csv", SEVERAL_ROWS))
    cut = source_totals(write_csv(tmp_path / "cut.csv", SEVERAL_ROWS[1:]))
    assert {difference.measure for difference in compare_totals(whole, cut)} == {"number of records"}


def test_a_value_that_moves_to_another_account_is_a_difference_although_the_sums_agree(tmp_path) -> None:
    before = [
        ["1", account, "1", "WTC", "US", "USD", value, "", "", ""] for account, value in (("A", "10"), ("B", "20"))
    ]
    after = [
        ["1", account, "1", "WTC", "US", "USD", value, "", "", ""] for account, value in (("A", "20"), ("B", "10"))
    ]
    differences = compare_totals(
        source_totals(write_csv(tmp_path / "before.csv", before)),
        source_totals(write_csv(tmp_path / "after.csv", after)),
    )
    assert [str(difference) for difference in differences] == [
        f"portfolio 1, account {account}, peril all, country US, currency USD: BuildingTIV is {was:,}.00 in the source "
        f"and {now:,}.00 in the extract (difference {now - was:,}.00)"
        for account, was, now in (("A", 10, 20), ("B", 20, 10))
    ]


def test_accounts_are_not_listed_when_there_are_very_many(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(control_total, "MOST_ACCOUNTS", 2)
    rows = [["1", f"A{number}", "1", "WTC", "US", "USD", "10", "", "", ""] for number in range(3)]
    totals = source_totals(write_csv(tmp_path / "location.csv", rows))
    assert totals.by_account is None
    assert whole_totals(totals)[0].accounts == 3


def test_missing_columns_count_as_blank_and_zero(tmp_path) -> None:
    source = write_csv(tmp_path / "location.csv", [["1", "5"], ["1", "6"]], ["portnumber", "contentstiv"])
    assert [(total.peril, total.locations, total.accounts, total.contents_tiv) for total in source_totals(source)] == [
        ("", 2, 0, Decimal(11)),
        (ALL_PERILS, 2, 0, Decimal(11)),
    ]
    no_totals = write_csv(tmp_path / "other.csv", [["x"], ["y"]], ["LocName"])
    assert [total.locations for total in source_totals(no_totals)] == [2, 2]


texts = st.sampled_from(["", "1", "01", "A", "b;c"])
amounts = st.one_of(
    st.just(""),
    st.decimals(0, 10**12, places=2).map(str),
    st.floats(0, 1e12).map(repr),
)
location_rows = st.lists(
    st.tuples(
        texts,
        texts,
        texts,
        st.sampled_from(["", "WTC", "WTC;WSS", "WSS;WTC;", "AA1"]),
        texts,
        texts,
        amounts,
        amounts,
        amounts,
        amounts,
    ).map(list),
    min_size=1,
    max_size=30,
)


@settings(max_examples=40, deadline=None)
@given(rows=location_rows)
def test_a_file_and_its_extract_always_have_the_same_totals(tmp_path_factory, rows) -> None:
    folder = tmp_path_factory.mktemp("totals")
    source = write_csv(folder / "location.csv", rows)
    result = extract(source, OedTable.LOCATION, folder / "location.parquet", with_totals=True)
    assert result.source_totals == source_totals(source)
    assert compare_totals(result.source_totals, extract_totals(result.path)) == []

    by_hand = added_up_by_hand(rows)
    for key, figures in counted(whole_totals(result.source_totals)).items():
        assert list(map(float, figures)) == pytest.approx(by_hand.pop(key), rel=1e-15, abs=1e-7)
    assert by_hand == {}


def added_up_by_hand(rows: list[list[str]]) -> dict[tuple[str, ...], tuple[float, ...]]:
    """Each location once, with the largest of each of its values; those without a number one by one."""
    locations: dict[tuple[str, ...], dict[tuple[str, ...], list[float]]] = defaultdict(dict)
    for position, (portfolio, account, number, _, country, currency, *values) in enumerate(rows):
        location = (account, number, "" if number else str(position))
        amounts = [float(value or 0) for value in values]
        earlier = locations[portfolio, ALL_PERILS, country, currency].get(location, [0.0] * 4)
        locations[portfolio, ALL_PERILS, country, currency][location] = list(map(max, earlier, amounts))
    return {
        key: (
            len(of_key),
            len({account for account, *_ in of_key if account}),
            *(sum(amounts[coverage] for amounts in of_key.values()) for coverage in range(4)),
        )
        for key, of_key in locations.items()
    }


def test_a_sum_does_not_depend_on_the_order_of_the_rows() -> None:
    """In floating point, these add up to 0, 1 or 2 when a large amount comes first."""
    amounts = [1e16, 1.0, 1.0, 1e16, 0.1, 0.2]

    def total(values: list[float]) -> Decimal:
        accumulator = TotalsAccumulator()
        for value in values:
            accumulator.add(pa.RecordBatch.from_pydict({"BuildingTIV": [value]}))
        return accumulator.totals()[0].building_tiv

    assert total(amounts) == total(amounts[::-1]) == Decimal("20000000000000002.3")


def test_accounts_are_counted_over_all_batches(monkeypatch) -> None:
    monkeypatch.setattr(control_total, "_PENDING_ROWS", 10)
    accumulator = TotalsAccumulator()
    for batch in range(50):
        accounts = [f"A{number}" for number in range(batch, batch + 20)]
        accumulator.add(pa.RecordBatch.from_pydict({"AccNumber": [*accounts, None, ""]}))
    assert accumulator.totals()[0].accounts == 69


@pytest.mark.parametrize(
    ("change", "measure", "values"),
    [
        ({"locations": 1}, "number of locations", "2 in the source and 1 in the extract (difference -1)"),
        ({"accounts": 1200}, "number of accounts", "1 in the source and 1,200 in the extract (difference 1,199)"),
        (
            {"building_tiv": Decimal("1100.55")},
            "BuildingTIV",
            "100.50 in the source and 1,100.55 in the extract (difference 1,000.05)",
        ),
        ({"bi_tiv": Decimal("0.00001")}, "BITIV", "0.00 in the source and 0.00001 in the extract (difference 0.00001)"),
    ],
)
def test_a_difference_says_where_it_is_and_both_values(change, measure, values) -> None:
    differences = compare_totals([TOTAL], [replace(TOTAL, **change)])
    assert [str(difference) for difference in differences] == [
        f"portfolio 1, peril WTC, country US, currency USD: {measure} is {values}"
    ]


def test_a_group_that_only_one_side_has_differs_in_all_that_it_holds() -> None:
    other = replace(TOTAL, country="")
    differences = compare_totals([TOTAL, other], [TOTAL])
    assert [(difference.country, difference.measure, difference.extract) for difference in differences] == [
        ("", "number of locations", 0),
        ("", "number of accounts", 0),
        ("", "BuildingTIV", 0),
        ("", "ContentsTIV", 0),
    ]
    assert "country (blank)" in str(differences[0])
    assert [difference.source for difference in compare_totals([TOTAL], [TOTAL, other])] == [0, 0, 0, 0]


def test_a_unit_in_a_trillion_is_seen_and_rounding_to_binary_is_not() -> None:
    trillion = replace(TOTAL, locations=1_000_000, building_tiv=Decimal(10) ** 12)
    assert money_tolerance(Decimal(10) ** 12, 1_000_000) < Decimal("0.002")
    assert compare_totals([trillion], [replace(trillion, building_tiv=trillion.building_tiv + Decimal("0.001"))]) == []
    assert len(compare_totals([trillion], [replace(trillion, building_tiv=trillion.building_tiv + 1)])) == 1


def test_totals_come_back_from_json_as_they_were() -> None:
    totals = (TOTAL, replace(TOTAL, peril=ALL_PERILS, building_tiv=Decimal("0.000000001")))
    assert totals_from_json(totals_to_json(totals)) == totals
    for text in ("{", "[1]", '[{"portfolio": "1"}]', totals_to_json(totals).replace('"100.5"', '"much"')):
        with pytest.raises(ExposureError, match="not control totals"):
            totals_from_json(text)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (["1", "A", "1", "WTC", "US", "USD", "much", "", "", ""], "line 2, column BuildingTIV: 'much' is not a number"),
        (["1", "A", "1"], "line 2: 3 cells, but the first row names 10 columns"),
    ],
)
def test_a_broken_source_is_told_with_its_place(tmp_path, row, message) -> None:
    with pytest.raises(ExposureError, match=message):
        source_totals(write_csv(tmp_path / "location.csv", [row]))
