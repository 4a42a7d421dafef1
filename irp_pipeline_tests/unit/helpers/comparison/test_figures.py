"""Figures of two sides: what is matched, why the rest is not, and what comes first."""

import math
import random
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from irp_pipeline.helpers.comparison.figures import WHOLE, compare_figures, readable

COLUMNS = (
    "analysis_name", "is_group", "segment_by", "segment", "perspective", "metric", "return_period", "loss_factor",
    "loss", "currency",
)  # fmt: skip
LABELS = ("Q4", "Q1")


def figure(
    name: str = "wind",
    loss: float = 100.0,
    *,
    perspective: str = "GUL",
    metric: str = "AAL",
    years: float | None = None,
    factor: float | None = None,
    by: str = WHOLE,
    segment: str = WHOLE,
    currency: str = "EUR",
    is_group: bool = False,
) -> tuple[Any, ...]:
    return (name, is_group, by, segment, perspective, metric, years, factor, loss, currency)


def table(*rows: tuple[Any, ...]) -> pd.DataFrame:
    return pd.DataFrame(list(rows), columns=list(COLUMNS)).astype({"return_period": float, "loss_factor": float})


def compared(before: list[tuple[Any, ...]], after: list[tuple[Any, ...]], **differences: list[str]) -> pd.DataFrame:
    return compare_figures(table(*before), table(*after), LABELS, differences)


def one(before: list[tuple[Any, ...]], after: list[tuple[Any, ...]], query: str = "analysis_name == 'wind'") -> Any:
    [row] = compared(before, after).query(query).itertuples()
    return row


class TestWhatIsMatched:
    def test_a_figure_on_both_sides_has_its_change(self):
        row = one([figure(loss=80)], [figure(loss=100)])
        assert (row.before, row.after, row.change, row.relative_change) == (80, 100, 20, 0.25)
        assert pd.isna(row.not_compared)
        assert (row.currency_before, row.currency_after, row.segment_by, row.segment) == ("EUR", "EUR", "", "")

    def test_return_periods_loss_factors_perspectives_and_segments_are_matched_each_by_its_own(self):
        rows = [
            figure(metric="OEP", years=years, perspective=of) for years in (50, 100) for of in ("GUL", "IL")
        ]  # fmt: skip
        rows += [figure("stress", metric="LOSS", factor=factor) for factor in (0.1, 0.5)]
        rows += [figure(by="{CountryCode}", segment=f"{{{country}}}") for country in ("DE", "FR")]
        rows = [(*row[:8], float(number), row[9]) for number, row in enumerate(rows, 1)]
        found = compared(rows, random.Random(1).sample(rows, len(rows)))
        assert (found["change"] == 0).all()
        assert sorted(found["before"]) == list(range(1, 9))

    def test_zero_before_has_no_share(self):
        row = one([figure(loss=0)], [figure(loss=5)])
        assert row.change == 5
        assert math.isnan(row.relative_change)

    def test_differences_are_beside_every_figure_of_the_analysis_and_no_other(self):
        rows = [figure(), figure(metric="OEP", years=100), figure("quake")]
        found = compared(rows, rows, wind=["samples 10 → 20", "model version 1 → 2"])
        assert set(found.query("analysis_name == 'wind'")["differences"]) == {"samples 10 → 20; model version 1 → 2"}
        assert set(found.query("analysis_name == 'quake'")["differences"]) == {""}

    def test_of_nothing_there_is_nothing(self):
        assert compared([], []).empty
        assert len(compared([], [figure()])) == len(compared([figure()], [])) == 1

    def test_segments_whose_names_contain_the_sign_between_them_are_told_apart(self):
        by = "{Occupancy,LOB}"
        rows = [figure(loss=1, by=by, segment='{"a+b",c}'), figure(loss=2, by=by, segment="{a,b+c}")]
        found = compared(rows, rows[::-1])
        assert list(found["change"]) == [0, 0]
        assert set(found["segment"]) == {"a+b+c"}
        assert readable('{GB,"10,50","say \\"x\\""}') == 'GB+10,50+say "x"'


class TestWhatIsNot:
    @pytest.mark.parametrize(
        ("before", "after", "reason"),
        [
            ([figure("other")], [figure()], "not in Q4"),
            ([figure()], [figure("other")], "not in Q1"),
            ([figure(currency="USD")], [figure()], "other currency: USD in Q4, EUR in Q1"),
            ([figure(perspective="IL")], [figure()], "no figure in Q4"),
            ([figure()], [figure(metric="STD_DEV")], "no figure in Q1"),
        ],
    )
    def test_it_says_why(self, before, after, reason):
        row = one(before, after, f"not_compared == '{reason}' and analysis_name == 'wind'")
        assert math.isnan(row.change)
        assert math.isnan(row.relative_change)

    def test_a_return_period_that_one_side_lacks(self):
        row = one([figure()], [figure(), figure(metric="OEP", years=250)], "return_period == 250")
        assert (row.not_compared, row.after) == ("no figure in Q4", 100)

    def test_a_kind_of_segments_is_something_else_than_a_segment(self):
        by_country = [figure(by="{CountryCode}", segment=f"{{{country}}}") for country in ("DE", "FR")]
        found = compared([figure(), by_country[0]], [figure(), *by_country, figure(by="{LOB}", segment="{1}")])
        reasons = {row.segment: row.not_compared for row in found.dropna(subset=["not_compared"]).itertuples()}
        assert reasons == {"FR": "not in Q4", "1": "no segments by LOB in Q4"}

    def test_a_segment_with_another_perspective_is_there(self):
        rows = [figure(), figure(by="{LOB}", segment="{1}")]
        row = one(rows, [*rows, figure(by="{LOB}", segment="{1}", perspective="RI")], "perspective == 'RI'")
        assert row.not_compared == "no figure in Q4"

    def test_two_pairs_of_currencies_are_told_apart(self):
        found = compared(
            [figure("a", currency="USD"), figure("b", currency="GBP")], [figure("a"), figure("b", currency="CHF")]
        )
        assert dict(zip(found["analysis_name"], found["not_compared"], strict=True)) == {
            "a": "other currency: USD in Q4, EUR in Q1",
            "b": "other currency: GBP in Q4, CHF in Q1",
        }


class TestOrder:
    def test_what_moves_the_total_most_is_first_up_or_down(self):
        before = [figure("up", 10), figure("down", 100), figure("still", 50), figure("gone", 30)]
        after = [figure("up", 25), figure("down", 40), figure("still", 50), figure("new", 20)]
        assert list(compared(before, after)["analysis_name"]) == ["down", "gone", "new", "up", "still"]

    def test_what_cannot_be_compared_is_last(self):
        before = [figure("dollars", 1e9, currency="USD"), figure("small", 1)]
        assert list(compared(before, [figure("dollars", 2e9), figure("small", 2)])["analysis_name"]) == [
            "small", "dollars",
        ]  # fmt: skip

    def test_the_perspective_closest_to_the_insurer_decides(self):
        before = [figure(name, 100, perspective=of) for name in ("a", "b") for of in ("GUL", "RI")]
        after = [
            figure("a", 300),
            figure("a", 101, perspective="RI"),
            figure("b", 101),
            figure("b", 150, perspective="RI"),
        ]
        assert list(dict.fromkeys(compared(before, after)["analysis_name"])) == ["b", "a"]

    def test_of_those_that_both_sides_have(self):
        before = [figure("a", 100), figure("b", 100)]
        after = [figure("a", 110), figure("a", 900, perspective="RI"), figure("b", 150)]
        assert list(dict.fromkeys(compared(before, after)["analysis_name"])) == ["b", "a"]

    def test_whole_portfolios_come_before_segments_and_these_by_their_kind(self):
        rows = [
            figure(by="{LOB}", segment="{2}"), figure(by="{CountryCode}", segment="{FR}"),
            figure(by="{CountryCode}", segment="{DE}"), figure(),
        ]  # fmt: skip
        after = [(*row[:8], row[8] + 10 * number, row[9]) for number, row in enumerate(rows)]
        assert list(compared(rows, after)["segment"]) == ["", "DE", "FR", "2"]

    def test_figures_of_one_analysis_keep_the_order_of_the_field(self):
        rows = [
            figure(perspective=of, metric=metric, years=years)
            for of in ("RI", "GUL")
            for metric, years in (("TVAR", 5), ("AEP", 10), ("OEP", 100), ("OEP", 20), ("STD_DEV", None), ("AAL", None))
        ]
        found = compared(rows, rows)
        assert list(found["perspective"]) == ["GUL"] * 6 + ["RI"] * 6
        assert list(found["metric"])[:6] == ["AAL", "STD_DEV", "OEP", "OEP", "AEP", "TVAR"]
        assert list(found["return_period"])[2:4] == [20, 100]

    def test_a_loss_at_a_loss_factor_is_not_ranked_among_averages(self):
        before = [figure("stress", 1e6, metric="LOSS", factor=0.5), figure("wind", 1)]
        after = [figure("stress", 9e6, metric="LOSS", factor=0.5), figure("wind", 2)]
        assert list(compared(before, after)["analysis_name"]) == ["wind", "stress"]

    def test_the_largest_loss_factor_decides_without_an_average(self):
        before = [figure(name, 10, metric="LOSS", factor=factor) for name in ("a", "b") for factor in (0.1, 0.5)]
        after = [
            figure("a", 90, metric="LOSS", factor=0.1), figure("a", 11, metric="LOSS", factor=0.5),
            figure("b", 10, metric="LOSS", factor=0.1), figure("b", 20, metric="LOSS", factor=0.5),
        ]  # fmt: skip
        assert list(dict.fromkeys(compared(before, after)["analysis_name"])) == ["b", "a"]


KEYS = st.tuples(
    st.sampled_from(["a", "b", "c"]),
    st.sampled_from([(WHOLE, WHOLE), ("{X}", "{1}"), ("{X}", "{2}"), ("{X,Y}", "{1,2}")]),
    st.sampled_from(["GUL", "RI"]),
    st.sampled_from([("AAL", None), ("OEP", 10.0), ("OEP", 100.0), ("AEP", 100.0)]),
)
SIDES = st.dictionaries(KEYS, st.tuples(st.floats(0, 1e9), st.sampled_from(["EUR", "USD"])), max_size=30)


@given(SIDES, SIDES)
def test_every_figure_of_either_side_is_there_once_compared_or_with_a_reason(before, after):
    def rows(side: dict[Any, Any]) -> list[tuple[Any, ...]]:
        return [
            figure(name, loss, perspective=of, metric=metric, years=years, by=by, segment=segment, currency=currency)
            for (name, (by, segment), of, (metric, years)), (loss, currency) in side.items()
        ]

    found = compared(rows(before), rows(after))
    assert len(found) == len({*before, *after})
    seen = {}
    row: Any
    for row in found.itertuples():
        part = (f"{{{row.segment_by.replace('+', ',')}}}", f"{{{row.segment.replace('+', ',')}}}")
        years = None if math.isnan(row.return_period) else row.return_period
        seen[row.analysis_name, part, row.perspective, (row.metric, years)] = row
    for key in {*before, *after}:
        row, old, new = seen[key], before.get(key), after.get(key)
        assert (None if math.isnan(row.before) else row.before) == (old and old[0])
        assert (None if math.isnan(row.after) else row.after) == (new and new[0])
        if old and new and old[1] == new[1]:
            assert row.change == new[0] - old[0]
            assert pd.isna(row.not_compared)
        else:
            assert math.isnan(row.change)
            assert row.not_compared
