"""The mathematics of losses: by hand, against a naive definition, and against Oasis LMF itself."""

import json
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from irp_pipeline.losses import Figure, LossError, Member, exceedance_curve, figures, group, period_losses, periods
from irp_pipeline.vocabulary import Perspective

Row = tuple[int, int, int, float]
"""Period, EventId, SampleId, Loss."""


def write_plt(
    path: Path, rows: Iterable[Row], years: int = 4, *, summaries: Sequence[int] | None = None, **other: object
) -> Path:
    """Write a table as Oasis LMF 2.5 does: single precision, a date, the weight of the year."""
    rows = list(rows)
    table = pa.table(
        {
            "Period": pa.array([row[0] for row in rows], pa.int32()),
            "PeriodWeight": pa.array([1 / years] * len(rows), pa.float32()),
            "EventId": pa.array([row[1] for row in rows], pa.int32()),
            **{name: pa.array([row[0] for row in rows], pa.int32()) for name in ("Year", "Month", "Day")},
            **{name: pa.array([0] * len(rows), pa.int32()) for name in ("Hour", "Minute")},
            "SummaryId": pa.array(summaries or [1] * len(rows), pa.int32()),
            "SampleId": pa.array([row[2] for row in rows], pa.int32()),
            "Loss": pa.array([row[3] for row in rows], pa.float32()),
            "ImpactedExposure": pa.array([1.0] * len(rows), pa.float32()),
        }
    )
    for name, values in other.items():
        table = (
            table.drop([name])
            if values is None
            else table.set_column(table.column_names.index(name), name, pa.array(values, table.schema.field(name).type))
        )
    pq.write_table(table, path)
    return path


def member(name: str, path: Path, **changes: object) -> Member:
    stated = {"periods": 4, "samples": 2, "currency": "EUR", "occurrence_hash": "same", **changes}
    return Member(name, stated.pop("period_losses", {"GUL": path}), **stated)  # type: ignore[arg-type]


def by_key(found: Iterable[Figure]) -> dict[tuple[str, str, float | None], float]:
    return {(figure.perspective, figure.metric, figure.return_period): figure.loss for figure in found}


class TestPeriodLosses:
    def test_a_year_has_the_sum_and_the_largest_of_its_occurrences(self, tmp_path):
        path = write_plt(tmp_path / "a", [(1, 7, 1, 10), (1, 8, 1, 30), (1, 7, 2, 5), (3, 7, 1, 10)])
        assert period_losses(path).to_pylist() == [
            {"Period": 1, "SampleId": 1, "AnnualLoss": 40, "LargestLoss": 30},
            {"Period": 1, "SampleId": 2, "AnnualLoss": 5, "LargestLoss": 5},
            {"Period": 3, "SampleId": 1, "AnnualLoss": 10, "LargestLoss": 10},
        ]

    def test_rows_of_the_mean_and_the_maximum_are_no_samples(self, tmp_path):
        path = write_plt(tmp_path / "a", [(1, 7, -1, 99), (1, 7, -3, 99), (1, 7, 0, 99), (1, 7, 1, 10)])
        assert period_losses(path)["AnnualLoss"].to_pylist() == [10]

    def test_an_event_that_occurs_twice_in_a_year_is_two_occurrences(self, tmp_path):
        path = write_plt(tmp_path / "a", [(1, 7, 1, 10), (1, 7, 1, 10)], Day=[1, 2])
        assert period_losses(path).to_pylist()[0].items() >= {"AnnualLoss": 20, "LargestLoss": 10}.items()

    def test_even_at_the_same_moment(self, tmp_path):
        path = write_plt(tmp_path / "a", [(1, 7, 1, 10), (1, 7, 1, 10)])
        other = write_plt(tmp_path / "b", [(1, 7, 1, 2), (1, 7, 1, 2)])
        assert period_losses(path).to_pylist()[0].items() >= {"AnnualLoss": 20, "LargestLoss": 10}.items()
        assert period_losses(path, other).to_pylist()[0].items() >= {"AnnualLoss": 24, "LargestLoss": 12}.items()

    def test_what_an_event_costs_in_two_tables_is_one_occurrence(self, tmp_path):
        one = write_plt(tmp_path / "a", [(1, 7, 1, 10), (1, 8, 1, 12)])
        two = write_plt(tmp_path / "b", [(1, 7, 1, 5)])
        assert period_losses(one, two).to_pylist() == [
            {"Period": 1, "SampleId": 1, "AnnualLoss": 27, "LargestLoss": 15}
        ]

    def test_what_it_costs_in_two_summaries_too(self, tmp_path):
        path = write_plt(tmp_path / "a", [(1, 7, 1, 10), (1, 7, 1, 5)], summaries=[1, 2])
        assert period_losses(path)["LargestLoss"].to_pylist() == [15]

    def test_columns_that_are_not_needed_may_be_missing(self, tmp_path):
        path = write_plt(tmp_path / "a", [(1, 7, 1, 10)], Hour=None, Minute=None, PeriodWeight=None, SummaryId=None)
        assert period_losses(path, periods=4)["AnnualLoss"].to_pylist() == [10]

    def test_a_table_without_losses_has_no_years(self, tmp_path):
        assert period_losses(write_plt(tmp_path / "a", []), periods=4).num_rows == 0

    def test_ranges_of_years_give_what_one_reading_gives(self, tmp_path, monkeypatch):
        rows = [(1 + number % 7, number % 3, 1 + number % 2, float(number)) for number in range(100)]
        path = write_plt(tmp_path / "a", rows)
        whole = period_losses(path)
        monkeypatch.setattr(periods, "_ROWS_AT_ONCE", 9)
        assert period_losses(path).equals(whole)

    def test_refusals_name_the_file(self, tmp_path):
        with pytest.raises(LossError, match=r"period losses .*nowhere are missing"):
            period_losses(tmp_path / "nowhere")
        (tmp_path / "text").write_text("Period,Loss")
        with pytest.raises(LossError, match=r"text cannot be read as a Parquet file"):
            period_losses(tmp_path / "text")
        pq.write_table(pa.table({"Period": [1]}), tmp_path / "other")
        with pytest.raises(LossError, match=r"other is not a table of period losses: .* SampleId, EventId, Loss"):
            period_losses(tmp_path / "other")
        with pytest.raises(LossError, match=r"a has losses of the years 1 to 5, but there are 4 years"):
            period_losses(write_plt(tmp_path / "a", [(1, 7, 1, 10), (5, 7, 1, 10)]), periods=4)
        with pytest.raises(LossError, match=r"weights from 0.1 to 0.4\. Only years of equal weight \(here 0.25\)"):
            period_losses(write_plt(tmp_path / "w", [(1, 7, 1, 9), (2, 7, 1, 9)], PeriodWeight=[0.1, 0.4]), periods=4)


class TestFigures:
    def test_by_hand(self, tmp_path):
        # Eight sampled years, of which three have a loss: 40, 10 and 5.
        losses = period_losses(write_plt(tmp_path / "a", [(1, 7, 1, 10), (1, 8, 1, 30), (3, 7, 1, 10), (1, 7, 2, 5)]))
        found = by_key(
            figures(losses, perspective=Perspective.GUL, periods=4, samples=2, return_periods=[8 / 3, 4, 3, 2, 5])
        )
        assert found[("GUL", "AAL", None)] == pytest.approx(55 / 8)
        assert found[("GUL", "STD_DEV", None)] == pytest.approx(float(np.std([40, 10, 5, 0, 0, 0, 0, 0], ddof=1)))
        assert found[("GUL", "AEP", 4)] == 10
        assert found[("GUL", "AEP", 8 / 3)] == 5
        assert found[("GUL", "AEP", 3)] == pytest.approx(6.25)  # a quarter of the way from 8/3 to 4 years
        assert found[("GUL", "AEP", 2)] == 0
        assert found[("GUL", "OEP", 4)] == 10
        assert ("GUL", "AEP", 5) not in found  # there are four years, although the largest of eight losses is 40

    def test_nothing_happened(self, tmp_path):
        losses = period_losses(write_plt(tmp_path / "a", []))
        found = figures(losses, perspective=Perspective.RI, periods=4, samples=2, return_periods=[2])
        assert [(figure.metric, figure.loss) for figure in found] == [
            ("AAL", 0), ("STD_DEV", 0), ("OEP", 0), ("AEP", 0),
        ]  # fmt: skip

    def test_one_year_has_no_deviation(self, tmp_path):
        losses = period_losses(write_plt(tmp_path / "a", [(1, 7, 1, 10)], years=1))
        found = figures(losses, perspective=Perspective.IL, periods=1, samples=1, return_periods=[1])
        assert [figure.metric for figure in found] == ["AAL", "OEP", "AEP"]

    def test_refusals(self, tmp_path):
        losses = period_losses(write_plt(tmp_path / "a", [(1, 7, 1, 10), (2, 7, 1, 10)]))
        with pytest.raises(
            LossError,
            match=r"in 2 sampled years, but the number of sampled years is 1 \(years: 1, samples of each: 1\)",
        ):
            figures(losses, perspective=Perspective.GUL, periods=1, samples=1, return_periods=[])
        with pytest.raises(LossError, match="above 0 years, not 0"):
            exceedance_curve(np.array([1.0]), periods=4, samples=1, return_periods=[0])


plt_rows = st.lists(
    st.tuples(st.integers(1, 6), st.integers(1, 3), st.integers(1, 3), st.integers(0, 50).map(float)),
    max_size=30,
    unique_by=lambda row: row[:3],
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tables=st.lists(plt_rows, min_size=1, max_size=3), samples=st.just(3), period=st.integers(1, 20))
def test_figures_are_those_of_the_definition(tmp_path, tables, samples, period):
    """Every sampled year written out; an occurrence is an event in a year, whatever tables it is in."""
    occurrences: defaultdict[tuple[int, int], defaultdict[int, float]] = defaultdict(lambda: defaultdict(float))
    for rows in tables:
        for year, event, sample, loss in rows:
            occurrences[year, sample][event] += loss
    keys = [(year, sample) for year in range(1, 7) for sample in range(1, samples + 1)]
    annual = sorted((sum(occurrences[key].values()) for key in keys), reverse=True)
    largest = sorted((max(occurrences[key].values(), default=0.0) for key in keys), reverse=True)
    paths = [write_plt(tmp_path / str(number), rows, years=6) for number, rows in enumerate(tables)]
    found = by_key(
        group(
            "g",
            [member(str(number), path, periods=6, samples=samples) for number, path in enumerate(paths)],
            return_periods=[period],
        )
    )
    assert found["GUL", "AAL", None] == pytest.approx(float(np.mean(annual)))
    assert found["GUL", "STD_DEV", None] == pytest.approx(float(np.std(annual, ddof=1)))
    for metric, values in (("AEP", annual), ("OEP", largest)):
        assert found.get(("GUL", metric, period)) == naive_loss(values, period, simulated=6)


def naive_loss(descending: list[float], period: int, simulated: int) -> object:
    observations = len(descending)
    points = [(observations / rank, loss) for rank, loss in enumerate(descending, start=1)]
    if period > simulated:
        return None
    below = next(index for index, (years, _) in enumerate(points) if years <= period)
    years, loss = points[below]
    if years == period or loss == 0:
        return pytest.approx(loss)
    longer, larger = points[below - 1]
    return pytest.approx(float(np.interp(period, [years, longer], [loss, larger])))


OASIS = """
import json, sys
import numpy as np
from oasislmf.pytools.lec.aggreports.write_tables import write_ept
from oasislmf.pytools.lec.data import EPT_dtype, LOSSVEC2MAP_dtype

answers = []
for losses, observations, return_periods in json.load(sys.stdin):
    items = np.zeros(len(losses), dtype=LOSSVEC2MAP_dtype)
    items["summary_id"], items["value"] = 1, losses
    span = np.array([[0, len(losses)]], dtype=np.int32)
    periods = np.array(sorted(return_periods, reverse=True), dtype=np.int32)
    buffer = np.empty(1000, dtype=EPT_dtype)
    tables = write_ept(buffer, items, span, observations, 2, 3, 4, True, periods, 1)
    rows = [row for table in tables for row in table.tolist()]
    answers.append([[row[3], row[4]] for row in rows if row[2] == 3])
json.dump(answers, sys.stdout)
"""


def test_curves_are_those_of_oasis():
    random = np.random.default_rng(7)
    cases = []
    for _ in range(60):
        observations = int(random.integers(2, 200))
        count = int(random.integers(1, observations + 1))
        losses = [float(loss) for loss in random.integers(0, 40, count)]
        cases.append((losses, observations, sorted({int(years) for years in random.integers(1, 250, 12)})))
    answer = subprocess.run(
        [sys.executable, "-c", OASIS],
        input=json.dumps(cases),
        env={**os.environ, "NUMBA_DISABLE_JIT": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    for (losses, observations, return_periods), theirs in zip(cases, json.loads(answer.stdout), strict=True):
        ours = exceedance_curve(np.array(losses), periods=observations, samples=1, return_periods=return_periods)
        assert ours == [pytest.approx(tuple(row), rel=1e-6) for row in reversed(theirs)]


class TestGroup:
    @pytest.fixture
    def one(self, tmp_path: Path) -> Path:
        return write_plt(tmp_path / "one", [(1, 7, 1, 10), (2, 8, 2, 30)])

    @pytest.fixture
    def two(self, tmp_path: Path) -> Path:
        return write_plt(tmp_path / "two", [(1, 7, 1, 5), (3, 9, 1, 100)])

    def test_the_same_event_is_one_occurrence_in_one_set_and_two_in_two(self, one, two):
        same = [member("a", one), member("b", two)]
        different = [member("a", one), member("b", two, occurrence_hash="other")]
        found = by_key(group("g", same, return_periods=[8 / 3]))
        paired = by_key(group("g", different, return_periods=[8 / 3], pair_by_number=True))
        assert found["GUL", "OEP", 8 / 3] == pytest.approx(15)
        assert paired["GUL", "OEP", 8 / 3] == pytest.approx(10)
        assert found["GUL", "AEP", 8 / 3] == paired["GUL", "AEP", 8 / 3] == pytest.approx(15)
        assert found["GUL", "AAL", None] == paired["GUL", "AAL", None] == pytest.approx(145 / 8)

    def test_a_group_of_one_is_the_analysis(self, one):
        alone = figures(period_losses(one), perspective=Perspective.GUL, periods=4, samples=2, return_periods=[2, 4, 8])
        assert group("g", [member("a", one)], return_periods=[2, 4, 8]) == alone

    def test_who_comes_twice_counts_once(self, one, two):
        members = [member("a", one), member("b", two), member("a", one)]
        assert group("g", members, return_periods=[4]) == group("g", members[:2], return_periods=[4])

    def test_it_has_the_perspectives_that_all_have(self, one, two):
        both = member("a", one, period_losses={"GUL": one, "IL": one})
        found = group("g", [both, member("b", two)], return_periods=[4])
        assert {figure.perspective for figure in found} == {"GUL"}

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"currency": "USD"}, r"different currencies \(EUR: a; USD: b, c\)"),
            ({"periods": 5000}, r"different numbers of years \(4: a; 5,000: b, c\)"),
            ({"samples": 10}, r"different numbers of samples \(2: a; 10: b, c\)"),
            (
                {"occurrence_hash": "x"},
                r"different occurrence sets \(same: a; x: b, c\).* write by_number into the column",
            ),
            ({"period_losses": {}}, "no period losses of b, c"),
            ({"period_losses": {"IL": Path("b")}}, r"no perspective in common \(GUL: a; IL: b, c\)"),
            ({"period_losses": {"GUL": Path("gone")}}, "the period losses GUL of b are missing: gone"),
        ],
    )
    def test_refusals_name_the_analyses(self, one, two, changes, message):
        members = [member("a", one), member("b", two, **changes), member("c", two, **changes)]
        with pytest.raises(LossError, match=f"^The losses of the group g cannot be added up: .*{message}"):
            group("g", members, return_periods=[4])

    def test_by_number_needs_as_many_years_all_the_same(self, one, two):
        members = [member("a", one), member("b", two, occurrence_hash="x", periods=9)]
        with pytest.raises(LossError, match="different numbers of years"):
            group("g", members, return_periods=[4], pair_by_number=True)

    def test_a_perspective_that_is_asked_for_must_be_there(self, one, two):
        members = [member("a", one, period_losses={"GUL": one, "RI": one}), member("b", two)]
        with pytest.raises(LossError, match="there are no period losses RI of b"):
            group("g", members, return_periods=[4], perspectives=[Perspective.RI])

    def test_two_of_one_name_and_nobody(self, one, two):
        with pytest.raises(LossError, match="two different analyses called a"):
            group("g", [member("a", one), member("a", two)], return_periods=[4])
        with pytest.raises(LossError, match="it has no analyses"):
            group("g", [], return_periods=[4])
