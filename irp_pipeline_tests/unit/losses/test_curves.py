"""Whole curves and the error of the years: by hand, against a naive definition, and against what samples cannot do."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irp_pipeline.losses import (
    Interval,
    SampledYears,
    curves,
    exceedance_curve,
    figures,
    kept_ranks,
    whole_curves,
    years_error,
)
from irp_pipeline.losses.years_error import Replicated, replications_of
from irp_pipeline.vocabulary import Metric, Perspective

Row = tuple[int, int, float, float]
"""Period, SampleId, AnnualLoss, LargestLoss."""


def sampled_years(rows: Sequence[Row], periods: int, samples: int) -> SampledYears:
    columns = {
        name: pa.array([row[place] for row in rows], of)
        for place, (name, of) in enumerate(
            {
                "Period": pa.int32(),
                "SampleId": pa.int32(),
                "AnnualLoss": pa.float64(),
                "LargestLoss": pa.float64(),
            }.items()
        )
    }
    return SampledYears(pa.table(columns), periods, samples)


def made_up(seed: int, periods: int, samples: int, share: float = 0.6) -> SampledYears:
    """Years of which a share has losses, all samples of a year near to each other."""
    random = np.random.default_rng(seed)
    hit = np.sort(random.choice(periods, int(periods * share), replace=False)) + 1
    losses = np.repeat(random.pareto(1.8, len(hit)), samples) * random.gamma(9, 1 / 9, len(hit) * samples)
    return SampledYears(
        pa.table(
            {
                "Period": pa.array(np.repeat(hit, samples), pa.int32()),
                "SampleId": pa.array(np.tile(np.arange(1, samples + 1), len(hit)), pa.int32()),
                "AnnualLoss": losses * 1.2,
                "LargestLoss": losses,
            }
        ),
        periods,
        samples,
    )


def points(found: curves.WholeCurves, metric: Metric) -> list[tuple[float, float]]:
    rows = (row for row in found.points.to_pylist() if row["Metric"] == metric)
    return [(row["ReturnPeriod"], row["Loss"]) for row in rows]


class TestPoints:
    def test_by_hand_they_end_at_the_simulated_years(self):
        # Eight sampled years, of which three have a loss. The largest would have a return period of eight years.
        years = sampled_years([(1, 1, 40, 30), (1, 2, 5, 5), (3, 1, 10, 10)], periods=4, samples=2)
        found = whole_curves(years, [4, 3], seed=1)
        assert points(found, Metric.AEP) == [(4, 10), (8 / 3, 5)]
        assert points(found, Metric.OEP) == [(4, 10), (8 / 3, 5)]

    def test_fewer_losses_than_samples_are_no_curve(self):
        found = whole_curves(sampled_years([(1, 1, 40, 30)], periods=4, samples=2), [4], seed=1)
        assert found.points.num_rows == 0
        assert found.intervals[Metric.AEP, 4].low == 0

    def test_nothing_happened(self):
        found = whole_curves(sampled_years([], periods=4, samples=2), [2, 4], seed=1)
        assert found.points.num_rows == 0
        assert set(found.intervals.values()) == {Interval(0, 0)}
        assert len(found.intervals) == 5

    def test_the_tail_is_whole_and_the_number_of_points_is_bounded(self):
        ranks = kept_ranks(with_loss=90_000_000, periods=1_000_000, samples=100, return_periods=[250])
        assert ranks[: curves.TAIL_RANKS].tolist() == list(range(100, 100 + curves.TAIL_RANKS))
        assert {400_000, 399_999} <= set(ranks.tolist())
        assert ranks[-1] == 90_000_000
        assert len(ranks) < 2_400
        assert (ranks[1:] <= np.maximum(ranks[:-1] * curves.NEXT_RANK, ranks[:-1] + 1)).all()

    @settings(max_examples=60, deadline=None)
    @given(
        seed=st.integers(0, 1_000),
        periods=st.integers(1, 700),
        samples=st.integers(1, 4),
        share=st.floats(0.05, 1),
        at=st.lists(st.floats(1, 700), min_size=1, max_size=20),
        asked=st.lists(st.integers(1, 700), max_size=4),
    )
    def test_between_them_the_curve_is_within_one_percent_of_the_return_period(
        self, seed, periods, samples, share, at, asked
    ):
        years = made_up(seed, periods, samples, share)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(curves, "TAIL_RANKS", 20)
            patch.setattr(years_error, "REPLICATIONS", 2)
            kept = points(whole_curves(years, asked, seed=1), Metric.AEP)[::-1]
        annual = years.losses["AnnualLoss"].to_numpy()

        def exact(period: float) -> float:
            # As if each sample were a year, to look a little beyond the end.
            found = exceedance_curve(
                annual, periods=years.number, samples=1, return_periods=[min(period, years.number)]
            )
            return found[0][1]

        supported = [period for period in at if kept and kept[0][0] <= period <= periods]
        for period in supported:
            loss = float(np.interp(period, *np.transpose(kept)))
            assert exact(period / 1.01) * (1 - 1e-9) <= loss <= exact(period * 1.01) * (1 + 1e-9)
        for period in (period for period in asked if kept and kept[0][0] <= period <= periods):
            assert float(np.interp(period, *np.transpose(kept))) == pytest.approx(exact(period))


class TestErrorOfTheYears:
    def test_by_hand(self):
        # Of two years one has a loss. A quarter of the resamplings have it never, half once, a quarter twice.
        found = whole_curves(sampled_years([(2, 1, 10, 10)], periods=2, samples=1), [1, 2], seed=5)
        places = [(Metric.AAL, None), *((metric, period) for metric in (Metric.OEP, Metric.AEP) for period in (1, 2))]
        assert found.intervals == dict.fromkeys(places, Interval(0, 10))

    def test_more_samples_of_the_same_years_do_not_make_it_smaller(self):
        once = made_up(1, periods=300, samples=1)
        rows = [
            (row["Period"], sample, row["AnnualLoss"], row["LargestLoss"])
            for row in once.losses.to_pylist()
            for sample in range(1, 21)
        ]
        often = sampled_years(rows, periods=300, samples=20)
        few, many = (whole_curves(years, [5, 50, 300], seed=3).intervals for years in (once, often))
        assert few.keys() == many.keys()
        for place, interval in few.items():
            assert (many[place].low, many[place].high) == pytest.approx((interval.low, interval.high)), place

    def test_that_of_the_average_is_that_of_a_mean_of_years(self):
        years = made_up(2, periods=2_000, samples=10)
        by_year = np.bincount(
            years.losses["Period"].to_numpy() - 1, weights=years.losses["AnnualLoss"].to_numpy() / 10, minlength=2_000
        )
        interval = whole_curves(years, [], seed=4).intervals[Metric.AAL, None]
        half = 1.645 * by_year.std() / np.sqrt(2_000)
        assert interval.low < by_year.mean() < interval.high
        assert interval.high - interval.low == pytest.approx(2 * half, rel=0.15)

    def test_the_same_years_are_drawn_whatever_the_losses(self):
        years = made_up(3, periods=100, samples=2)
        doubled = years.losses.set_column(2, "AnnualLoss", pa.array(2 * years.losses["AnnualLoss"].to_numpy()))
        one, two = (
            whole_curves(SampledYears(table, 100, 2), [10], seed=9).intervals for table in (years.losses, doubled)
        )
        assert two[Metric.AAL, None].high == pytest.approx(2 * one[Metric.AAL, None].high)
        assert two[Metric.AEP, 10].low == pytest.approx(2 * one[Metric.AEP, 10].low)
        assert two[Metric.OEP, 10] == one[Metric.OEP, 10]
        assert whole_curves(years, [10], seed=10).intervals[Metric.AAL, None] != one[Metric.AAL, None]

    def test_large_tables_are_resampled_less_often(self, monkeypatch):
        years = made_up(3, periods=100, samples=2)
        assert replications_of(years) == 1_000
        monkeypatch.setattr(years_error, "_MOST_DRAWN", years.losses.num_rows * 500)
        assert replications_of(years) == 500
        monkeypatch.setattr(years_error, "_MOST_DRAWN", 1)
        assert replications_of(years) == 200

    @settings(max_examples=60, deadline=None)
    @given(
        rows=st.lists(
            st.tuples(st.integers(1, 6), st.integers(1, 3), st.integers(0, 50).map(float)),
            max_size=18,
            unique_by=lambda row: row[:2],
        ),
        times=st.lists(st.integers(0, 3), min_size=6, max_size=6),
        periods=st.lists(st.floats(1, 6), min_size=1, max_size=5),
    )
    def test_a_replication_is_the_curve_of_the_years_written_out(self, rows, times, periods):
        years = sampled_years([(year, sample, loss, loss) for year, sample, loss in rows], periods=6, samples=3)
        again = np.array([loss for year, _, loss in rows for _ in range(times[year - 1])], float)
        expected = [loss for _, loss in exceedance_curve(again, periods=6, samples=3, return_periods=periods)]
        found = Replicated.at(years, "AnnualLoss", np.array([], np.int64), periods).of(np.array(times, np.int32))
        assert found.tolist() == pytest.approx(expected)


def test_figures_beyond_the_simulated_years_are_none_however_many_samples_there_are():
    years = made_up(1, periods=50, samples=20)
    found = figures(
        years.losses, perspective=Perspective.GUL, periods=50, samples=20, return_periods=[10, 50, 51, 1_000]
    )
    assert {figure.return_period for figure in found} == {None, 10, 50}
