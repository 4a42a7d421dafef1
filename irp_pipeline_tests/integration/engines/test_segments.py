"""Segments by real Oasis LMF: beside Oasis LMF by hand with the same summary levels, and beside plain arithmetic.

Nothing is compiled here: Numba is off, which tiny models can afford.
"""

import json
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest

from irp_pipeline.engines.protocol import check_result
from irp_pipeline.losses import Figure, Member, Segmentation, group
from irp_pipeline.vocabulary import Perspective
from irp_pipeline_tests.support.by_hand import by_hand
from irp_pipeline_tests.support.oasis_jobs import Job, run_job
from irp_pipeline_tests.support.tiny_models import YEARS, account, place, write_model, write_portfolio

BY = (("CountryCode", "OccupancyCode"), ("LOB",), ("PostalCode",))
RETURN_PERIODS = [5, 10, 50]
SAMPLES = 10
LOCATIONS = [
    place("007"),
    place("7", Latitude=52.5, Longitude=1.5, PostalCode="AB2", BuildingTIV=250000.5, OccupancyCode=1100),
    place("3", AccNumber="00123", PostalCode="AB3", Longitude=1.5, OccupancyCode=1100),
    place("4", AccNumber="00124", Latitude=52.5, OccupancyCode="", CountryCode="FR"),
    place("5", AccNumber="00124", Latitude=52.5, PostalCode="", CountryCode="FR"),
    place("outside", AccNumber="123", Latitude=10, Longitude=10, PostalCode="ZZ9", CountryCode="US"),
]
ACCOUNTS = [
    account("A1", LOB="home"),
    account("00123", LOB="shop", LayerLimit=40000),
    account("00124", LOB="home", LayerLimit=20000),
    account("00124", "P2", LOB="home", LayerNumber=2, LayerAttachment=20000, LayerParticipation=0.5),
    account("123", LOB="home"),
]
ANALYSIS = {"currency": "GBP", "perspectives": ["GUL", "IL"], "segments": ["+".join(by) for by in BY]}
STOCHASTIC = {
    **ANALYSIS,
    "engine": "oasis_stochastic",
    "samples": SAMPLES,
    "return_periods": RETURN_PERIODS,
    "period_losses": True,
}
DETERMINISTIC = {**ANALYSIS, "engine": "oasis_deterministic", "loss_factor": [0.1, 0.5]}


@pytest.fixture(scope="module")
def portfolio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_portfolio(tmp_path_factory.mktemp("portfolio"), LOCATIONS, ACCOUNTS)


@pytest.fixture(scope="module")
def runs(portfolio: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Job, Path]:
    """One run through the program of a job, whose settings file has a summary of its own; one by hand."""
    folder = tmp_path_factory.mktemp("segments")
    model = write_model(folder, "grid")
    own = folder / "own.json"
    summary = {"id": 7, "oed_fields": ["AccNumber"], "ord_output": {"alt_period": True}}
    own.write_text(json.dumps({"gul_output": True, "gul_summaries": [summary]}))
    output = {"alt_period": True, "parquet_format": True, "ept_full_uncertainty_aep": True, "plt_sample": True,
              "ept_full_uncertainty_oep": True, "return_period_file": True}  # fmt: skip
    levels = [{"id": 1, "ord_output": output}]
    levels += [{"id": 2 + number, "oed_fields": list(by), "ord_output": output} for number, by in enumerate(BY)]
    hand = folder / "hand.json"
    hand.write_text(json.dumps({
        "model_supplier_id": "tests", "model_name_id": "tiny-grid", "number_of_samples": SAMPLES,
        "model_settings": {"event_set": "p", "event_occurrence_id": "lt"}, "return_periods": RETURN_PERIODS,
        **{f"{of}_output": True for of in ("gul", "il")}, **{f"{of}_summaries": levels for of in ("gul", "il")},
    }))  # fmt: skip
    arguments = ["-C", str(model / "oasislmf.json"), "-a", str(hand), "-r", "run", "-n", "1"]
    tables = ["-x", str(portfolio / "location.csv"), "-y", str(portfolio / "account.csv")]
    with ThreadPoolExecutor(2) as pool:
        theirs = pool.submit(by_hand, folder / "hand", "model", "run", *arguments, *tables)
        ours = pool.submit(run_job, folder / "job", portfolio, STOCHASTIC, model, settings=str(own))
        return ours.result(), theirs.result() / "run" / "output"


def figures_of(job: Job) -> list[Figure]:
    return [Figure.from_json(figure) for figure in job.outcome["figures"]]


def test_figures_of_segments_are_those_of_oasis_lmf_by_hand_to_the_last_digit(runs: tuple[Job, Path]):
    job, output = runs
    assert job.error is None
    expected: dict[Any, float] = {}
    for of in ("gul", "il"):
        for number, by in enumerate(BY, start=2):
            info = pd.read_parquet(output / f"{of}_S{number}_summary-info.parquet")
            values = {row["summary_id"]: tuple(str(row[name]) for name in by) for row in info.to_dict("records")}
            palt = pd.read_parquet(output / f"{of}_S{number}_palt.parquet").query("SampleType == 2")
            for row in palt.to_dict("records"):
                expected[by, values[row["SummaryId"]], of.upper(), "AAL", None] = row["MeanLoss"]
                expected[by, values[row["SummaryId"]], of.upper(), "STD_DEV", None] = row["SDLoss"]
            ept = pd.read_parquet(output / f"{of}_S{number}_ept.parquet").query("EPCalc == 2 and EPType in (1, 3)")
            for row in ept.to_dict("records"):
                metric = {1: "OEP", 3: "AEP"}[row["EPType"]]
                expected[by, values[row["SummaryId"]], of.upper(), metric, row["ReturnPeriod"]] = row["Loss"]
    ours = {
        (of.segment_by, of.segment, of.perspective, of.metric, of.return_period): of.loss
        for of in figures_of(job)
        if not of.is_whole
    }
    assert ours == expected
    assert len({(by, values) for by, values, *_ in ours}) == 4 + 2 + 4
    assert (("CountryCode", "OccupancyCode"), ("FR", "1000"), "GUL", "AAL", None) in ours  # the default of OED
    # The summary of the settings file keeps its number.
    assert set(pq.read_schema(job.folder / job.outcome["files"]["gul_S2_summary-info"]).names) >= {"AccNumber"}
    outcome = {**job.outcome, "files": {}}
    assert check_result(outcome, currency="GBP") is None


def test_means_of_segments_add_up_to_the_whole(runs: tuple[Job, Path]):
    found = figures_of(runs[0])
    for perspective in ("GUL", "IL"):
        [whole] = [of.loss for of in found if of.is_whole and (of.perspective, of.metric) == (perspective, "AAL")]
        for by in BY:
            parts = [
                of.loss for of in found if of.segment_by == by and (of.perspective, of.metric) == (perspective, "AAL")
            ]
            assert sum(parts) == pytest.approx(whole, rel=1e-6)
            assert whole > 0
    assert "the means of segments add up to that of the whole" in runs[0].provenance["checked"]
    assert runs[0].provenance["allocation_rules"] == {"IL": 2, "RI": 3}


def test_the_insured_value_of_a_segment_is_that_of_the_portfolio_even_where_nothing_is_modelled(runs):
    [countries, lines, _] = map(Segmentation.from_json, runs[0].outcome["segments"])
    of = {segment.values: segment for segment in countries.segments}
    assert {values: (segment.tiv, segment.locations) for values, segment in of.items()} == {
        ("FR", "1000"): (150_000, 1),
        ("FR", "1050"): (150_000, 1),
        ("GB", "1050"): (150_000, 1),
        ("GB", "1100"): (450_000.5, 2),
        ("US", "1050"): (150_000, 1),
    }
    assert of["US", "1050"].summaries == {}
    assert {segment.values: segment.tiv for segment in lines.segments} == {("home",): 900_000.5, ("shop",): 150_000}


def test_a_group_of_analyses_has_segments_of_the_same_figures(runs: tuple[Job, Path]):
    """A group of one has the figures of Oasis LMF; one of two, what its losses say that are added up here by hand."""
    job = runs[0]
    results = {name: job.folder / path for name, path in job.outcome["files"].items()}
    segments = {
        of.by: {
            perspective: (results[name], of.by_summary(perspective)) for perspective, name in of.period_losses.items()
        }
        for of in map(Segmentation.from_json, job.outcome["segments"])
    }
    whole = {of: results[f"{of.lower()}_plt_sample"] for of in (Perspective.GUL, Perspective.IL)}
    one = Member("one", whole, YEARS, SAMPLES, "GBP", "same", segments)
    lines: dict[tuple[str, ...], Any] = {("LOB",): segments["LOB",]}
    other = Member("other", whole, YEARS, SAMPLES, "GBP", "same", lines)  # the same losses once more
    alone = {
        (of.segment_by, of.segment, of.perspective, of.metric, of.return_period): of.loss
        for of in group("alone", [one], return_periods=RETURN_PERIODS)
    }
    for of in figures_of(job):
        key = (of.segment_by, of.segment, of.perspective, of.metric, of.return_period)
        assert alone[key] == pytest.approx(of.loss, rel=1e-5, abs=0.01)
    both = [of for of in group("both", [one, other], return_periods=RETURN_PERIODS) if not of.is_whole]
    assert {of.segment_by for of in both} == {("LOB",)}  # only what both have
    path, values = segments["LOB",][Perspective.IL]
    for number, line in values.items():
        rows = pd.read_parquet(path).query(f"SampleId > 0 and SummaryId == {number}").astype({"Loss": "float64"})
        of_years = 2 * rows.groupby(["Period", "SampleId"])["Loss"].sum()
        of_events = 2 * rows.groupby(["Period", "SampleId", "EventId"])["Loss"].sum()
        largest = of_events.groupby(["Period", "SampleId"]).max()
        ours = {(of.metric, of.return_period): of.loss for of in both if of.segment == line and of.perspective == "IL"}
        assert ours["AAL", None] == pytest.approx(of_years.sum() / (YEARS * SAMPLES), rel=1e-12)
        for metric, losses in (("AEP", of_years), ("OEP", largest)):
            descending = sorted(losses, reverse=True)
            assert ours[metric, 50] == pytest.approx(descending[YEARS * SAMPLES // 50 - 1], rel=1e-12)


@pytest.fixture(scope="module")
def by_factors(portfolio: Path, tmp_path_factory: pytest.TempPathFactory) -> Job:
    return run_job(tmp_path_factory.mktemp("factors") / "job", portfolio, DETERMINISTIC)


def test_deterministic_segments_are_what_plain_arithmetic_says(by_factors: Job):
    assert by_factors.error is None
    found: defaultdict[Any, dict[tuple[str, ...], float]] = defaultdict(dict)
    for of in figures_of(by_factors):
        found[of.segment_by, of.perspective, of.loss_factor][of.segment] = of.loss
    lines = found[("LOB",), "GUL", 0.5]
    assert lines == {("home",): pytest.approx(450_000.25), ("shop",): pytest.approx(75_000)}
    # Of 150,000 that are lost, the account 00124 pays 20,000 and half of 130,000; 00123 pays its limit.
    insured = found[("LOB",), "IL", 0.5]
    assert insured == {
        ("home",): pytest.approx(225_000.25 + 20_000 + 65_000 + 75_000),
        ("shop",): pytest.approx(40_000),
    }
    places = found[("CountryCode", "OccupancyCode"), "IL", 0.5]
    assert places["FR", "1000"] == pytest.approx(85_000 / 2)  # half of what its account pays
    for (_, perspective, factor), parts in found.items():
        [whole] = found[(), perspective, factor].values()
        assert sum(parts.values()) == pytest.approx(whole, rel=1e-6)


def test_lines_of_business_that_differ_between_layers_are_refused_for_ground_up_losses_only(tmp_path: Path):
    accounts = [
        account(LOB="home", LayerLimit=1000),
        account(policy="P2", LayerNumber=2, LOB="shop", LayerAttachment=1000),
    ]
    portfolio = write_portfolio(tmp_path / "portfolio", [place("1")], accounts)
    model = write_model(tmp_path, "grid")
    analysis = {**STOCHASTIC, "segments": ["LOB", "AreaCode", "CountryCode+AreaCode", "GeogName1"]}
    refused = run_job(tmp_path / "refused", portfolio, analysis, model)
    assert refused.error is not None
    assert (
        "LOB differs between the policies or layers of an account (account A1 in portfolio 1 has home and shop)"
        in refused.error
    )
    assert "the location and account tables have no AreaCode" in refused.error
    assert "tables have no GeogName1" in refused.error
    insured = run_job(tmp_path / "insured", portfolio, {**DETERMINISTIC, "perspectives": ["IL"], "segments": ["LOB"]})
    paid = {of.segment: of.loss for of in figures_of(insured) if of.segment and of.loss_factor == 0.5}
    assert paid == {("home",): pytest.approx(1000), ("shop",): pytest.approx(74_000)}
