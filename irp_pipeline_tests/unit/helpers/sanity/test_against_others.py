"""Checks against what is known besides the figures: covered value, dates of policies, the cycle before."""

import datetime as dt
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from irp_pipeline.helpers.comparison.figures import WHOLE, compare_figures
from irp_pipeline.helpers.sanity.changes import check_changes
from irp_pipeline.helpers.sanity.coverage import check_covered
from irp_pipeline.helpers.sanity.dates import check_exposure_dates
from irp_pipeline.helpers.sanity.findings import Check, LossFinding, Severity
from irp_pipeline.helpers.sanity.policies import PolicyDates, policy_dates
from irp_pipeline.helpers.sanity.subjects import JobFacts, Subject

YEAR_2023 = PolicyDates(first=dt.date(2023, 1, 1), last=dt.date(2023, 12, 31))
YEAR_2024 = PolicyDates(first=dt.date(2024, 1, 1), last=dt.date(2024, 12, 31))
COLUMNS = ("analysis_name", "perspective", "metric", "return_period", "loss_factor", "loss", "currency")

# --- covered insured value --------------------------------------------------------------------------------------------


def analysis(name: str, tiv: float | None, **by_reason: float) -> Subject:
    job = JobFacts(analysis=name, portfolio="homes", tiv=tiv, tiv_by_reason=by_reason)
    return Subject(name=name, is_group=False, currency="GBP", figures=(), jobs=(job,))


def group(name: str, *portfolios: str) -> Subject:
    jobs = tuple(JobFacts(analysis=f"{portfolio}_wind", portfolio=portfolio) for portfolio in portfolios)
    return Subject(name=name, is_group=True, currency="GBP", figures=(), jobs=jobs)


def test_less_covered_than_wanted_is_a_warning_with_the_reasons():
    [found] = check_covered([analysis("wind", 1000.0, outside=50.0, peril=150.0)], 0.9)
    assert (found.severity, found.check, found.subject) == (Severity.WARNING, Check.NOT_COVERED, "wind")
    assert found.size == "20.0 %"
    assert found.what == (
        "the model has no losses of 200.00 GBP of the insured value of homes, 1,000.00 (least_covered is 0.9). "
        "peril: 150.00; outside: 50.00"
    )


@pytest.mark.parametrize(("least", "severity"), [(0.8, Severity.NOTE), (0.81, Severity.WARNING)])
def test_the_share_that_is_wanted_is_enough(least: float, severity: Severity):
    assert [found.severity for found in check_covered([analysis("wind", 1000.0, outside=200.0)], least)] == [severity]


def test_what_is_covered_is_no_finding_and_groups_are_not_named_again():
    assert list(check_covered([analysis("wind", 1000.0), group("all", "homes", "shops")], 1.0)) == []


def test_only_the_largest_reasons_are_listed():
    reasons = {f"reason {number}": 1.0 + number for number in range(7)}
    [found] = check_covered([analysis("wind", 1000.0, **reasons)], 0.9)
    assert found.what.endswith("reason 3: 4.00; reason 2: 3.00; 2 more reasons")


def test_what_engines_do_not_say_is_one_note():
    [found] = check_covered([analysis("wind", None), analysis("flood", None)], 0.9)
    assert (found.severity, found.subject, found.size) == (Severity.NOTE, "wind, flood", "2 analyses")


# --- exposure dates ---------------------------------------------------------------------------------------------------


def test_policies_that_are_not_in_force_on_the_exposure_date_are_a_warning():
    dates = {"homes": YEAR_2024, "shops": YEAR_2023, "farms": None}
    [found] = check_exposure_dates([group("all", "homes", "shops", "farms")], dt.date(2024, 3, 31), dates)
    assert (found.severity, found.check, found.subject) == (Severity.WARNING, Check.EXPOSURE_DATE, "all")
    assert "no policy of shops (2023-01-01 to 2023-12-31) is in force on 2024-03-31" in found.what


def test_without_an_exposure_date_policies_without_a_common_day_are_a_warning():
    [found] = check_exposure_dates([group("all", "homes", "shops")], None, {"homes": YEAR_2024, "shops": YEAR_2023})
    assert "homes (2024-01-01 to 2024-12-31), shops (2023-01-01 to 2023-12-31)" in found.what


@pytest.mark.parametrize("exposure_date", [None, dt.date(2024, 1, 1), dt.date(2024, 12, 31)])
def test_policies_that_are_in_force_are_no_finding(exposure_date: dt.date | None):
    dates = {"homes": YEAR_2024, "shops": PolicyDates(first=dt.date(2023, 7, 1), last=dt.date(2024, 12, 31))}
    assert list(check_exposure_dates([group("all", "homes", "shops")], exposure_date, dates)) == []


def test_portfolios_without_dates_and_single_analyses_are_no_finding():
    subjects = [group("all", "homes", "shops"), analysis("wind", 1.0)]
    assert list(check_exposure_dates(subjects[:1], dt.date(2024, 1, 1), {"homes": None})) == []
    assert list(check_exposure_dates(subjects[1:], dt.date(2024, 1, 1), {"homes": YEAR_2023})) == []


def accounts(path: Path, **columns: list[str | None]) -> Path:
    pq.write_table(pa.table({name: pa.array(texts, pa.string()) for name, texts in columns.items()}), path)
    return path


def test_dates_of_policies_are_those_of_the_account_table(tmp_path: Path):
    file = accounts(
        tmp_path / "account.parquet",
        PolInceptionDate=["2024-02-01", None, "2024-01-01", "soon"],
        PolExpiryDate=["2024-12-31", "", "2025-01-31", "2024-02-30"],
    )
    assert policy_dates(file) == PolicyDates(first=dt.date(2024, 1, 1), last=dt.date(2025, 1, 31))


@pytest.mark.parametrize(
    "columns",
    [
        {"AccNumber": ["1"]},
        {"PolInceptionDate": ["2024-01-01"]},
        {"PolInceptionDate": ["2024-01-01"], "PolExpiryDate": [None]},
        {"PolInceptionDate": ["2024-01-01"], "PolExpiryDate": ["2023-01-01"]},
    ],
)
def test_without_both_dates_nothing_is_known(tmp_path: Path, columns: dict[str, list[str | None]]):
    assert policy_dates(accounts(tmp_path / "account.parquet", **columns)) is None


# --- changes since the cycle before -----------------------------------------------------------------------------------


def compared(
    before: list[tuple[Any, ...]], after: list[tuple[Any, ...]], differences: dict[str, list[str]] | None = None
) -> pd.DataFrame:
    sides = [
        pd.DataFrame(rows, columns=list(COLUMNS))
        .astype({"return_period": float, "loss_factor": float})
        .assign(is_group=False, segment_by=WHOLE, segment=WHOLE)
        for rows in (before, after)
    ]
    return compare_figures(sides[0], sides[1], ("Q4", "Q1"), differences or {})


def row(loss: float, metric: str = "AAL", years: float | None = None, **other: Any) -> tuple[Any, ...]:
    fields = {"name": "wind", "perspective": "GUL", "factor": None, "currency": "GBP"} | other
    return (fields["name"], fields["perspective"], metric, years, fields["factor"], loss, fields["currency"])


def changes(frame: pd.DataFrame, largest: float = 0.25) -> list[LossFinding]:
    return list(check_changes(frame, "Q4", largest))


@pytest.mark.parametrize(
    ("after", "size"), [(125.0, None), (75.0, None), (125.1, "+25.1 %"), (74.9, "-25.1 %"), (0.0, "-100.0 %")]
)
def test_a_change_beyond_the_threshold_is_a_warning(after: float, size: str | None):
    found = changes(compared([row(100.0)], [row(after)]))
    assert [(one.severity, one.check, one.size) for one in found] == (
        [(Severity.WARNING, Check.CHANGE, size)] if size else []
    )


def test_it_says_what_else_differs_and_which_figures_changed():
    before = [row(100.0), row(200.0, "OEP", 100.0), row(300.0, "AEP", 100.0)]
    after = [row(150.0), row(500.0, "OEP", 100.0), row(310.0, "AEP", 100.0)]
    [found] = changes(compared(before, after, {"wind": ["samples 10 → 20", "model version 1 → 2"]}))
    assert found.what == (
        "figures changed since Q4 by more than 25 %: AAL GUL 100.00 → 150.00 (+50.0 %); OEP GUL at 100 years 200.00 → "
        "500.00 (+150.0 %). Besides the exposure, these differ: samples 10 → 20; model version 1 → 2"
    )
    assert found.size == "+150.0 %"


@pytest.mark.parametrize(("years", "is_looked_at"), [(5.0, False), (10.0, True), (500.0, True), (1000.0, False)])
def test_only_usual_return_periods_are_looked_at(years: float, is_looked_at: bool):
    found = changes(compared([row(100.0), row(10.0, "OEP", years)], [row(100.0), row(99.0, "OEP", years)]))
    assert bool(found) is is_looked_at


def test_standard_deviations_are_not_looked_at():
    assert changes(compared([row(100.0), row(1.0, "STD_DEV")], [row(100.0), row(9.0, "STD_DEV")])) == []


def test_a_figure_that_was_zero_has_changed_unless_it_still_is():
    [found] = changes(compared([row(0.0)], [row(5.0)]), largest=100.0)
    assert found.size == "was zero"
    assert changes(compared([row(0.0)], [row(0.0)])) == []


def test_each_perspective_and_each_loss_factor_is_looked_at():
    before = [
        row(10.0, "LOSS", factor=0.1),
        row(100.0, "LOSS", factor=1.0),
        row(9.0, "LOSS", factor=0.1, perspective="IL"),
    ]
    after = [
        row(20.0, "LOSS", factor=0.1),
        row(100.0, "LOSS", factor=1.0),
        row(3.0, "LOSS", factor=0.1, perspective="IL"),
    ]
    [found] = changes(compared(before, after))
    assert found.size == "+100.0 %"
    assert "LOSS GUL at the loss factor 0.1 10.00 → 20.00 (+100.0 %); LOSS IL at the loss factor 0.1 9.00" in found.what


def test_averages_are_listed_first_then_the_largest_changes_and_not_all():
    before = [row(100.0), *(row(100.0, "OEP", years) for years in (10.0, 50.0, 100.0, 250.0))]
    after = [row(130.0), *(row(100.0 + years, "OEP", years) for years in (10.0, 50.0, 100.0, 250.0))]
    [found] = changes(compared(before, after), largest=0.05)
    listed = found.what.partition(": ")[2].partition(". Nothing")[0].split("; ")
    assert [item.partition(" GUL")[0] + item.partition("years")[0][-4:] for item in listed[1:4]] == [
        "OEP250 ", "OEP100 ", "OEP 50 ",
    ]  # fmt: skip
    assert listed[0].startswith("AAL GUL")
    assert listed[4] == "1 more figure"


def test_what_cannot_be_compared_is_a_note():
    found = changes(
        compared([row(100.0), row(50.0, name="flood")], [row(100.0, currency="EUR"), row(50.0, name="fire")])
    )
    assert {(one.severity, one.subject) for one in found} == {
        (Severity.NOTE, name) for name in ("wind", "flood", "fire")
    }
    assert any("other currency: GBP in Q4, EUR in Q1" in one.what for one in found)
