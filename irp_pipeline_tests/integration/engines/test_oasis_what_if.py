"""What-ifs with real Oasis LMF, on a tiny model: what stays equal to the last digit, and what doubles.

Nothing is compiled here: Numba is off, which tiny models can afford.
"""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from irp_pipeline_tests.support.oasis_jobs import Job, run_job
from irp_pipeline_tests.support.tiny_models import account, place, write_model, write_portfolio, write_reinsurance

ANALYSIS = {
    "engine": "oasis_stochastic",
    "currency": "GBP",
    "samples": 1,
    "perspectives": ["GUL", "IL", "RI"],
    "return_periods": [5, 10, 50],
    "period_losses": True,
}


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Job]:
    """A base, and three what-ifs of it; the rates of ``ones`` are to another currency, at which they are 1."""
    folder = tmp_path_factory.mktemp("what-if")
    model = write_model(folder, "grid")
    portfolio = write_portfolio(
        folder / "portfolio",
        [place("1"), place("2", Latitude=52.5, BuildingTIV=250000.5)],
        [account(LayerLimit=40000, LayerAttachment=1000)],
    )
    write_reinsurance(portfolio, ceded=0.3)
    reinsured = folder / "reinsured"
    shutil.copytree(portfolio, reinsured)
    write_reinsurance(reinsured, ceded=0.5)
    rates = folder / "rates.csv"
    rates.write_text("cur_from,cur_to,roe\nGBP,USD,1.0\n")
    segments = folder / "segments.csv"
    segments.write_text("LocNumber,factor\n1,1\n2,0.5\n3,7\n")
    settings = folder / "settings.json"
    summary = {"id": 7, "oed_fields": ["LocNumber"], "ord_output": {"alt_period": True}}
    settings.write_text(json.dumps({"gul_output": True, "gul_summaries": [summary]}))
    runs: dict[str, tuple[Path, dict[str, Any], dict[str, Any]]] = {
        "base": (portfolio, {}, {"settings": str(settings)}),
        "ones": (portfolio, {"loss_multiplier": 1.0, "currency": "USD"}, {"currency_rates": str(rates)}),
        "reinsured": (reinsured, {}, {}),
        "by segment": (
            portfolio,
            {"loss_multiplier": 2.0, "segment_multipliers": "segments.csv", "perspectives": ["GUL"]},
            {"segment_multipliers": str(segments), "settings": str(settings)},
        ),
        "doubled": (portfolio, {"loss_multiplier": 2.0, "perspectives": ["GUL"]}, {}),
        "no rate": (portfolio, {"currency": "CHF"}, {"currency_rates": str(rates)}),
    }

    def run(name: str) -> Job:
        source, changes, more = runs[name]
        return run_job(folder / "jobs" / name, source, ANALYSIS | changes, model, **more)

    with ThreadPoolExecutor(2) as pool:
        return dict(zip(runs, pool.map(run, runs), strict=True))


def of(job: Job, perspective: str) -> dict[Any, float]:
    assert job.error is None
    return {key: loss for key, loss in job.figures().items() if key[0] == perspective}


def test_with_factors_and_rates_of_one_every_figure_is_that_of_the_base(jobs):
    assert jobs["ones"].error is None
    assert jobs["ones"].figures() == jobs["base"].figures()
    assert jobs["ones"].outcome["currency"] == "USD"
    assert jobs["ones"].provenance["settings"]["pla_uniform_factor"] == 1


def test_a_factor_of_two_doubles_every_ground_up_figure(jobs):
    base = of(jobs["base"], "GUL")
    assert of(jobs["doubled"], "GUL") == pytest.approx({key: 2 * loss for key, loss in base.items()}, rel=1e-6)
    assert base["GUL", "AAL", None] > 0


def test_factors_of_segments_change_their_losses_alone(jobs):
    """The uniform factor is 2: it doubles the first location, and the factor of the second makes up for it."""
    assert jobs["by segment"].error is None
    (first, second), (base_first, base_second) = (by_location(jobs[name]) for name in ("by segment", "base"))
    assert first == pytest.approx(2 * base_first, rel=1e-6)
    assert second == base_second > 0
    assert jobs["by segment"].provenance["ignored"][-1] == "line 4 of segments.csv: no location has LocNumber 3"


def by_location(job: Job) -> list[float]:
    """The sampled ground-up AAL of each location."""
    rows = pq.read_table(job.folder / job.outcome["files"]["gul_S2_palt"]).to_pylist()
    return [row["MeanLoss"] for row in sorted(rows, key=lambda row: row["SummaryId"]) if row["SampleType"] == 2]


def test_other_reinsurance_leaves_gross_losses_as_they_are_to_the_last_digit(jobs):
    for perspective in ("GUL", "IL"):
        assert of(jobs["reinsured"], perspective) == of(jobs["base"], perspective)
    net, base = of(jobs["reinsured"], "RI"), of(jobs["base"], "RI")
    assert net["RI", "AAL", None] == pytest.approx(base["RI", "AAL", None] * 0.5 / 0.7, rel=1e-5)


def test_a_currency_without_a_rate_is_refused_before_anything_runs(jobs):
    assert jobs["no rate"].error == (
        "rates.csv has no rate from GBP to CHF, and the portfolio has amounts in GBP (LocCurrency): add it to the table"
    )
    assert not (jobs["no rate"].folder / "run").exists()
