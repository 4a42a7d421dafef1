"""The program of a job with real Oasis LMF, on tiny models and portfolios, beside Oasis LMF by hand.

Nothing is compiled here: Numba is off, which tiny models can afford.
"""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from irp_pipeline.engines.oasis.checks import (
    FigureError,
    check_currency,
    check_curves,
    check_deterministic,
    check_order,
    check_period_losses,
    check_values,
)
from irp_pipeline.engines.oasis.deterministic import read_deterministic
from irp_pipeline.engines.oasis.failures import OasisError
from irp_pipeline.engines.oasis.figures import stochastic_figures
from irp_pipeline.engines.oasis.portfolio import may_exceed_ground_up, read_locations
from irp_pipeline.engines.oasis.run_facts import conversion, read_modelled
from irp_pipeline.helpers.comparison import Source
from irp_pipeline.helpers.sanity.subjects import facts_of_job
from irp_pipeline_tests.support.by_hand import by_hand
from irp_pipeline_tests.support.oasis_jobs import Job, run_job
from irp_pipeline_tests.support.tiny_models import YEARS, account, place, write_model, write_portfolio

RETURN_PERIODS = [5, 10, 50, 500, 1_000_000]  # years; there are 100, and 1,000 sampled years
DETERMINISTIC = {"engine": "oasis_deterministic", "currency": "GBP", "perspectives": ["GUL", "IL"]}
STOCHASTIC = {
    "engine": "oasis_stochastic",
    "currency": "GBP",
    "perspectives": ["GUL"],
    "return_periods": RETURN_PERIODS,
    "period_losses": True,
}
LOCATIONS = [
    place("007"),
    place("7", Latitude=52.5, Longitude=1.5, PostalCode="AB2", BuildingTIV=250000.5),
    place("3", AccNumber="00123", PostalCode="AB3", Longitude=1.5),
    place("outside", AccNumber="123", Latitude=10, Longitude=10, PostalCode="ZZ9"),
]
ACCOUNTS = [account("A1"), account("00123"), account("123")]


# --- deterministic ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def layered(tmp_path_factory: pytest.TempPathFactory) -> Job:
    """Identifiers that are equal as numbers, two layers, and a location in two rows."""
    folder = tmp_path_factory.mktemp("layered")
    locations = [
        place("007", AccNumber="00123"),
        place("7", AccNumber="00123", BuildingTIV=1000.10),
        place("007", AccNumber="123"),
        place("123456789012345", CondTag="c1"),
        place("123456789012345", CondTag="c2"),
    ]
    condition: dict[str, Any] = {"CondLimitType6All": 0, "CondPeril": "AA1"}
    accounts = [
        account("00123", "L1", LayerLimit=40000),
        account("00123", "L2", LayerNumber=2, LayerAttachment=40000, LayerLimit=60000, LayerParticipation=0.5),
        account("123"),
        account("A1", CondTag="c1", CondNumber=1, CondLimit6All=20000, CondPriority=1, **condition),
        account("A1", CondTag="c2", CondNumber=2, CondLimit6All=30000, CondPriority=2, **condition),
    ]
    portfolio = write_portfolio(folder / "portfolio", locations, accounts)
    return run_job(folder / "job", portfolio, {**DETERMINISTIC, "loss_factor": [0.1, 1.0]})


def test_ground_up_losses_are_counted_once_however_many_layers_there_are(layered: Job):
    assert layered.error is None
    insured = 3 * 150_000 + 51_000.10
    assert layered.figures()["GUL", "LOSS", 1.0] == pytest.approx(insured, abs=0.01)
    assert layered.figures()["GUL", "LOSS", 0.1] == pytest.approx(insured / 10, abs=0.01)


def test_losses_of_locations_carry_the_identifiers_as_they_were_read(layered: Job):
    rows = pq.read_table(layered.folder / layered.outcome["files"]["losses"]).to_pylist()
    whole = {(row["AccNumber"], row["LocNumber"]): row["gul"] for row in rows if row["loss_factor"] == 1.0}
    assert whole == {
        ("00123", "007"): pytest.approx(150_000),
        ("00123", "7"): pytest.approx(51_000.10),
        ("123", "007"): pytest.approx(150_000),
        ("A1", "123456789012345"): pytest.approx(150_000),
    }


def test_insured_losses_are_those_of_the_kernel_and_not_of_its_rounded_table(layered: Job):
    # By hand: 40,000 of the first layer and half of 60,000 of the second; all of 123; the lower limit of A1.
    assert layered.figures()["IL", "LOSS", 1.0] == pytest.approx(40_000 + 30_000 + 150_000 + 20_000, abs=0.05)
    assert "IL of each account is at most its GUL" in layered.provenance["checked"]


def test_a_portfolio_without_accounts_has_ground_up_losses(tmp_path: Path):
    portfolio = write_portfolio(
        tmp_path / "portfolio", [place("1", CondTag="c1"), place("2", LocPerilsCovered="QQ1")], []
    )
    analysis = {**DETERMINISTIC, "perspectives": ["GUL"], "loss_factor": [0.5]}
    job = run_job(tmp_path / "job", portfolio, {**analysis, "model_options": {"model_perils_covered": ["WTC"]}})
    assert job.error is None
    assert job.figures() == {("GUL", "LOSS", 0.5): pytest.approx(75_000)}
    (missing,) = pq.read_table(job.folder / job.outcome["files"]["not_modelled"]).to_pylist()
    assert (missing["LocNumber"], missing["tiv"]) == ("2", 150_000)
    assert "model_perils_covered (WTC)" in missing["reason"]
    assert job.provenance["not_modelled_totals"] == {"locations": 1, "tiv": 150_000, "partly": 0}
    assert job.provenance["not_modelled_tiv"] == {"portfolio": 300_000, "by_reason": {missing["reason"]: 150_000}}


@pytest.mark.parametrize(
    ("locations", "more", "message"),
    [
        ([place("1"), place("1", BuildingTIV=5)], {}, "insures 50,005.00 there and 150,000.00 in row 1"),
        ([place("1", LocCurrency="USD")], {}, "has amounts in USD (LocCurrency), but the workbook wants losses in GBP"),
        (
            [place("1")],
            {"model_options": {"gulmc": True}},
            "model_options: deterministic losses do not use gulmc; they use",
        ),
        ([place("1")], {"perspectives": ["IL"]}, "need an account table"),
        (
            [place("1")],
            {"model_options": {"model_perils_covered": ["QQ1"]}},
            "No location is insured for a peril of model_perils_covered (QQ1)",
        ),
        (
            [place("1", BuildingTIV=0, ContentsTIV="")],
            {},
            "No location has an insured value of a coverage that is looked at",
        ),
    ],
)
def test_what_would_give_other_figures_is_refused_before_it_runs(tmp_path, locations, more, message):
    portfolio = write_portfolio(tmp_path / "portfolio", locations, [])
    analysis = {**DETERMINISTIC, "perspectives": ["GUL"], "loss_factor": [1.0], **more}
    job = run_job(tmp_path / "job", portfolio, analysis)
    assert job.error is not None
    assert message in job.error


def test_random_layers_pay_what_plain_arithmetic_says(tmp_path: Path):
    """Sixty accounts of one location, with up to three layers that may overlap."""
    random = np.random.default_rng(7)
    locations, accounts, expected = [], [], {0.2: 0.0, 1.0: 0.0}
    insured = 0
    for number in range(60):
        name = f"{number:05}"
        building, contents = (int(value) for value in random.integers(1_000, 900_000, 2))
        locations.append(place("1", AccNumber=name, BuildingTIV=building, ContentsTIV=contents))
        insured += building + contents
        for layer in range(1, 1 + int(random.integers(1, 4))):
            attachment, limit = (int(value) for value in random.integers(0, 500_000, 2))
            share = float(random.choice([0.25, 0.5, 1.0]))
            terms = {"LayerNumber": layer, "LayerAttachment": attachment, "LayerLimit": limit + 1}
            accounts.append(account(name, f"P{layer}", LayerParticipation=share, **terms))
            for factor in expected:
                loss = factor * (building + contents)
                expected[factor] += share * min(max(loss - attachment, 0), limit + 1)
    portfolio = write_portfolio(tmp_path / "portfolio", locations, accounts)
    job = run_job(tmp_path / "job", portfolio, {**DETERMINISTIC, "loss_factor": list(expected)})
    assert job.error is None
    for factor, paid in expected.items():
        assert job.figures()["GUL", "LOSS", factor] == pytest.approx(factor * insured, rel=1e-7)
        assert job.figures()["IL", "LOSS", factor] == pytest.approx(paid, rel=1e-6)


# --- stochastic ---------------------------------------------------------------------------------------------------

RUNS = (("grid", 10), ("module", 1), ("postcode", 0))
CONVERTED = "postcode"
"""The model that reports in another currency than that of the portfolio."""
DOLLARS = 1.25
"""Of a pound."""


def report_in(model: Path, currency: str) -> None:
    """Let a model report in a currency that it has a rate of."""
    configuration = json.loads((model / "oasislmf.json").read_text())
    rates = {
        "currency_conversion_type": "DictBasedCurrencyRates",
        "source_type": "list",
        "currency_rates": [["GBP", currency, DOLLARS]],
    }
    (model / "rates.json").write_text(json.dumps(rates))
    configuration |= {"reporting_currency": currency, "currency_conversion_json": "rates.json"}
    (model / "oasislmf.json").write_text(json.dumps(configuration))


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Job, Path]]:
    """Each model once through the program of a job, and once by hand with the same settings."""
    folder = tmp_path_factory.mktemp("models")
    portfolio = write_portfolio(folder / "portfolio", LOCATIONS, ACCOUNTS)
    models = {make: write_model(folder, make) for make, _ in RUNS}
    report_in(models[CONVERTED], "USD")

    def through_program(make: str, samples: int) -> Job:
        settings = folder / f"{make}.json"
        summary = {"id": 7, "oed_fields": ["AccNumber"], "ord_output": {"alt_period": True}}
        base = {"return_periods": [20], "gul_output": True, "gul_summaries": [summary], "number_of_samples": 99}
        settings.write_text(json.dumps(base if make == "grid" else {}))
        analysis = {**STOCHASTIC, "samples": samples, "currency": "USD" if make == CONVERTED else "GBP"}
        return run_job(folder / "jobs" / make, portfolio, analysis, models[make], settings=str(settings))

    def hand(make: str, samples: int) -> Path:
        output = {
            "alt_period": True,
            "parquet_format": True,
            "ept_full_uncertainty_aep": True,
            "ept_full_uncertainty_oep": True,
            "return_period_file": True,
            **({"plt_sample": True} if samples else {}),
        }
        settings = {
            "model_supplier_id": "tests",
            "model_name_id": f"tiny-{make}",
            "model_settings": {"event_set": "p", "event_occurrence_id": "lt"},
            "number_of_samples": samples,
            "return_periods": [5, 10, 20, 50],
            "gul_output": True,
            "gul_summaries": [{"id": 1, "ord_output": output}],
        }
        written = folder / f"{make}-by-hand.json"
        written.write_text(json.dumps(settings))
        tables = ["-x", str(portfolio / "location.csv"), "-y", str(portfolio / "account.csv")]
        configuration = str(models[make] / "oasislmf.json")
        target = folder / "by-hand" / make
        by_hand(target, "model", "run", "-C", configuration, "-a", str(written), "-r", "run", "-n", "1", *tables)
        return target / "run" / "output"

    with ThreadPoolExecutor(2) as pool:
        hands = {make: pool.submit(hand, make, samples) for make, samples in RUNS}
        programs = {make: pool.submit(through_program, make, samples) for make, samples in RUNS}
        return {make: (programs[make].result(), hands[make].result()) for make, _ in RUNS}


@pytest.mark.parametrize(("make", "samples"), RUNS)
def test_figures_are_those_of_oasis_lmf_by_hand_to_the_last_digit(pairs, make, samples):
    job, output = pairs[make]
    assert job.error is None
    by = 2 if samples else 1
    palt = [row for row in pq.read_table(output / "gul_S1_palt.parquet").to_pylist() if row["SampleType"] == by]
    expected: dict[Any, float] = {
        ("GUL", "AAL", None): palt[0]["MeanLoss"],
        ("GUL", "STD_DEV", None): palt[0]["SDLoss"],
    }
    for row in pq.read_table(output / "gul_S1_ept.parquet").to_pylist():
        if row["EPCalc"] == by and row["EPType"] in {1, 3} and row["ReturnPeriod"] in {5, 10, 20, 50}:
            expected["GUL", {1: "OEP", 3: "AEP"}[row["EPType"]], row["ReturnPeriod"]] = row["Loss"]
    asked = {5, 10, 50} | ({20} if make == "grid" else set())
    assert job.figures() == {key: loss for key, loss in expected.items() if key[2] is None or key[2] in asked}
    assert palt[0]["MeanLoss"] > 0


def test_figures_without_samples_are_said_to_be_by_means(pairs):
    assert pairs["postcode"][0].provenance["losses_by"] == "means"
    assert pairs["grid"][0].provenance["losses_by"] == "samples"


def test_return_periods_beyond_the_simulated_years_are_said(pairs):
    for make, _ in RUNS:
        assert pairs[make][0].provenance["return_periods_beyond"] == [500, 1_000_000]
        assert pairs[make][0].provenance["periods"] == YEARS


def test_the_ground_up_average_of_mean_losses_is_recorded_beside_the_sampled_one(pairs):
    for make, samples in RUNS:
        job, output = pairs[make]
        palt = pq.read_table(output / "gul_S1_palt.parquet").to_pylist()
        [mean] = [row["MeanLoss"] for row in palt if row["SampleType"] == 1]
        assert job.provenance["aal_by_means"] == ({"GUL": mean} if samples else {})


def test_what_the_model_has_no_losses_of_is_a_table_with_values_and_reasons(pairs):
    for make, samples in RUNS:
        job = pairs[make][0]
        rows = pq.read_table(job.folder / job.outcome["files"]["not_modelled"]).to_pylist()
        assert {(row["AccNumber"], row["LocNumber"]) for row in rows} == {("123", "outside")}
        assert {row["coverage"]: row["tiv"] for row in rows}.get(1, 100_000) == 100_000
        assert all(row["reason"] for row in rows)
        assert job.provenance["not_modelled_totals"] == {"locations": 1, "tiv": 150_000, "partly": 0}
        rate = DOLLARS if make == CONVERTED else 1
        tiv = job.provenance["not_modelled_tiv"]
        assert tiv["portfolio"] == pytest.approx(rate * 750_000.5)
        assert sum(tiv["by_reason"].values()) == pytest.approx(rate * 150_000)
        assert tiv["by_reason"].keys() <= {row["reason"] for row in rows}
        assert job.provenance["il_may_exceed_gul"] is False
        source = Source(analysis=make, parameters={}, request={}, currency="GBP", provenance=job.provenance)
        facts = facts_of_job(source)
        assert facts.covered == pytest.approx(rate * 600_000.5)
        assert (facts.il_may_exceed_gul, facts.is_by_means, facts.is_weighted) == (False, samples == 0, False)
    assert "outside of the region" in pairs["module"][0].provenance["not_modelled"]


def test_a_settings_file_is_used_or_said_not_to_be(pairs):
    job = pairs["grid"][0]
    by_account = pq.read_table(job.folder / job.outcome["files"]["gul_S2_palt"]).to_pylist()
    sampled = [row["MeanLoss"] for row in by_account if row["SampleType"] == 2]
    assert len(sampled) == 2
    assert sum(sampled) == pytest.approx(job.figures()["GUL", "AAL", None], rel=1e-5)
    assert ("GUL", "OEP", 20) in job.figures()
    assert "number_of_samples 99: the column samples says 10" in job.provenance["ignored"]


def test_provenance_is_what_the_run_used(pairs):
    job = pairs["module"][0]
    assert (job.provenance["model"], job.provenance["model_version"]) == ("tests tiny-module", "1")
    assert job.provenance["settings"]["number_of_samples"] == 1
    assert job.provenance["processes"] == 1
    assert "GUL: AAL, standard deviation, OEP and AEP are those of the period losses" in job.provenance["checked"]


@pytest.mark.parametrize(
    ("locations", "accounts", "perspectives", "message"),
    [
        ([place("1"), place("1", BuildingTIV=5)], [], ["GUL"], "insures 50,005.00 there and 150,000.00 in row 1"),
        ([place("1", BuildingTIV=0, ContentsTIV=0)], [], ["GUL"], "No location has an insured value of a coverage"),
        ([place("1")], [], ["GUL", "IL"], "need an account table"),
        ([place("1")], [account()], ["RI"], "need the reinsurance tables ri_info and ri_scope"),
        ([place("#1")], [], ["GUL"], "The LocNumber '#1' (row 1 of location.csv) holds '#', at which Oasis LMF stops"),
        ([place("1")], [account(policy="P,1")], ["IL"], "The PolNumber 'P,1' (row 1 of account.csv) holds ','"),
    ],
)
def test_what_a_model_cannot_compute_rightly_is_refused_before_it_runs(
    tmp_path: Path, locations, accounts, perspectives, message
):
    model = write_model(tmp_path, "grid")
    portfolio = write_portfolio(tmp_path / "portfolio", locations, accounts)
    job = run_job(tmp_path / "job", portfolio, {**STOCHASTIC, "samples": 1, "perspectives": perspectives}, model)
    assert job.error is not None
    assert message in job.error


@dataclass(frozen=True)
class Plain:
    """A run of one location, in a folder whose path has signs of the shell."""

    folder: Path
    portfolio: Path
    job: Job
    bystander: Path
    temporary: Path
    """The system's folder of temporary files, of this run alone: others remove and make theirs meanwhile."""


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Plain:
    around = tmp_path_factory.mktemp("plain")
    folder = around / "my projects & (others)"
    bystander = around / "my" / "thesis.tex"
    bystander.parent.mkdir()
    bystander.touch()
    model = write_model(folder / "models", "grid")
    portfolio = write_portfolio(folder / "portfolio", [place("1")], [])
    temporary = around / "temporary"
    temporary.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(temporary))
        job = run_job(folder / "job", portfolio, {**STOCHASTIC, "samples": 1}, model)
    return Plain(folder, portfolio, job, bystander, temporary)


def test_a_hook_that_changes_the_portfolio_is_run_and_what_cannot_be_checked_then_is_said(plain: Plain, tmp_path: Path):
    model = write_model(tmp_path, "grid")
    (model / "hook.py").write_text(
        "class ExposurePreAnalysis:\n"
        "    def __init__(self, exposure_data, **_):\n"
        "        self.exposure_data = exposure_data\n"
        "    def run(self):\n"
        "        self.exposure_data.location.dataframe['BuildingTIV'] *= 2\n"
    )
    analysis = {**STOCHASTIC, "samples": 1}
    options = {"exposure_pre_analysis_module": "hook.py"}
    hooked = run_job(tmp_path / "hooked", plain.portfolio, {**analysis, "model_options": options}, model)
    assert (plain.job.error, hooked.error) == (None, None)
    # 100,000 for the building and 50,000 for its contents are 200,000 and 50,000 now.
    larger = plain.job.figures()["GUL", "AAL", None] * 250_000 / 150_000
    assert hooked.figures()["GUL", "AAL", None] == pytest.approx(larger, rel=1e-6)
    assert any("changes the portfolio" in what for what in hooked.provenance["not_checked"])
    assert plain.job.provenance["not_checked"] == []
    assert [job.provenance["il_may_exceed_gul"] for job in (hooked, plain.job)] == [True, False]
    assert hooked.provenance["not_modelled_tiv"] is None


def test_a_comma_in_an_identifier_changes_no_ground_up_loss(tmp_path: Path):
    model = write_model(tmp_path, "grid")
    found = []
    for number, name in enumerate(("a,b", "a-b")):
        portfolio = write_portfolio(tmp_path / f"portfolio_{number}", [place(name), place("c", Longitude=1.5)], [])
        job = run_job(tmp_path / f"job_{number}", portfolio, {**STOCHASTIC, "samples": 0}, model)
        assert job.error is None
        found.append(job.figures())
    assert found[0] == found[1]


def test_a_path_with_signs_of_the_shell_is_no_obstacle_and_nothing_outside_is_removed(plain: Plain):
    """Oasis LMF removes its temporary folder by a script that has the path without quotation marks."""
    assert plain.job.error is None
    assert plain.job.figures()["GUL", "AAL", None] > 0
    assert plain.bystander.is_file()
    assert [path for path in plain.temporary.iterdir() if path.is_symlink()] == []
    analysis = {**DETERMINISTIC, "perspectives": ["GUL"], "loss_factor": [1.0]}
    fixed = run_job(plain.folder / "fixed", plain.portfolio, analysis)
    assert fixed.error is None


def test_losses_in_another_currency_are_converted_by_a_table(pairs):
    job = pairs[CONVERTED][0]
    assert job.provenance["exchange_rates"] == {"GBP": DOLLARS}
    assert job.outcome["currency"] == "USD"
    assert job.provenance["checked"]


def test_losses_in_another_currency_than_the_workbook_wants_are_refused(tmp_path: Path):
    model = write_model(tmp_path, CONVERTED)
    report_in(model, "USD")
    portfolio = write_portfolio(tmp_path / "portfolio", [place("1")], [])
    refused = run_job(tmp_path / "refused", portfolio, {**STOCHASTIC, "samples": 1}, model)
    assert refused.error is not None
    assert "has amounts in USD (reporting_currency), but the workbook wants losses in GBP" in refused.error


# --- an engine that is wrong is found out -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def layers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run by hand of one location of 1,500 below two layers; its inputs are beside it."""
    folder = tmp_path_factory.mktemp("layers")
    accounts = [
        account("A1", "L1", LayerLimit=400),
        account("A1", "L2", LayerNumber=2, LayerAttachment=400, LayerLimit=600, LayerParticipation=0.5),
    ]
    inputs = write_portfolio(folder / "inputs", [place("1", BuildingTIV=1000, ContentsTIV=500)], accounts)
    by_hand(folder / "hand", "exposure", "run", "-s", str(inputs), "-r", "run", "-l", "0.1", "1")
    return folder


def check_run(folder: Path) -> list[str]:
    locations = read_locations(folder / "inputs")
    assert locations is not None
    losses = read_deterministic(folder / "hand" / "run", locations, [0.1, 1.0])
    return check_deterministic(losses, locations, may_exceed_ground_up(folder / "inputs"))


def replace_in(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_a_true_run_passes(layers: Path):
    assert "GUL of each location is the loss factor times its insured value" in check_run(layers)


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        (
            "guls.csv",
            "1,1,100.0,0",
            "1,1,200.0,0",
            r"is 250\.00, but the loss factor 0\.1 times its insured value of 1,500",
        ),
        ("guls.csv", "1,1,100.0,0", "1,1,nan,0", "is nan at the loss factor 0.1"),
        ("guls.csv", "1,1,100.0,0", "1,1,-100.0,0", r"is -50\.00 at the loss factor"),
        ("guls.csv", "1,1,100.0,0", "1,99,100.0,0", "of the item 99, which no location has"),
        ("guls.csv", "1,1,100.0,0", "1,1,100.0,-1", "of a loss factor 0; there are 2"),
        ("guls.csv", "1,1,100.0,0\n", "1,1,100.0,0\n1,1,100.0,0\n", r"is 250\.00, but the loss factor 0\.1 times"),
        ("guls.csv", "1,1,100.0,0\n", "", r"is 50\.00, but the loss factor 0\.1 times its insured value of 1,500"),
        ("gul_summary_map.csv", "1,1,A1,1,0,", "1,1,A1,2,0,", "location 2 of account A1 .* which the location table"),
        ("gul_summary_map.csv", "1,1,A1,1,0,", "1,1,A1,1,5,", "which the location table does not have there"),
    ],
)
def test_a_wrong_deterministic_run_is_found_out(layers: Path, tmp_path: Path, file, old, new, message):
    folder = shutil.copytree(layers, tmp_path / "run")
    replace_in(folder / "hand" / "run" / file, old, new)
    with pytest.raises(OasisError, match=message):
        check_run(folder)


def test_insured_losses_above_ground_up_ones_are_found_out(layers: Path, tmp_path: Path):
    folder = shutil.copytree(layers, tmp_path / "run")
    output = folder / "hand" / "run" / "output" / "ils.bin"
    numbers = np.fromfile(output, dtype=np.int32)
    is_loss = numbers[2:-1:2] == 1  # of the first sample; events have the number 1 too, and items small ones
    amounts = numbers[3::2]
    amounts[is_loss & (amounts > 1000)] = np.float32(400).view(np.int32)
    numbers.tofile(output)
    with pytest.raises(FigureError, match=r"insured loss of account A1 .* above its ground-up loss of 150\.00"):
        check_run(folder)


def doctored(table: Path, **columns: float) -> None:
    """Put another value into the columns of a table's first rows."""
    found = pq.read_table(table).to_pandas()
    for name, value in columns.items():
        found.loc[found.index[0], name] = value
        if name in {"MeanLoss", "SDLoss"}:
            found[name] = value
    found.to_parquet(table)


@pytest.fixture
def stochastic_run(pairs: dict[str, tuple[Job, Path]], tmp_path: Path) -> Path:
    """A copy of a run by hand, to be doctored."""
    return shutil.copytree(pairs["grid"][1].parent, tmp_path / "run", ignore=shutil.ignore_patterns("fifo", "work"))


def check_stochastic(run: Path) -> None:
    figures = stochastic_figures(run / "output", ["GUL"], [5, 50], periods=YEARS, samples=10).figures
    check_period_losses(
        run / "output" / "gul_S1_splt.parquet", figures, perspective="GUL", periods=YEARS, samples=10, most=850_000.5
    )


def test_a_true_stochastic_run_passes(stochastic_run: Path):
    check_stochastic(stochastic_run)


@pytest.mark.parametrize(
    ("table", "columns", "message"),
    [
        ("palt", {"MeanLoss": float("nan")}, "gave (nan|nothing) as AAL of GUL"),
        ("palt", {"MeanLoss": 1e9}, r"The AAL of GUL is 1,000,000,000\.00 in the report of Oasis LMF, but"),
        ("palt", {"SDLoss": 1.0}, r"The STD_DEV of GUL is 1\.00 in the report"),
        ("palt", {"SDLoss": float("nan")}, "gave (nan|nothing) as STD_DEV of GUL"),
        ("splt", {"Loss": 2e6, "SampleId": 1}, "in the report of Oasis LMF, but"),
        ("splt", {"SampleId": 11}, "losses of the sample 11, but 10 samples were asked for"),
        ("splt", {"Loss": -5.0}, r"a ground-up loss of -5\.0 in the simulated year"),
        ("splt", {"Loss": float("inf")}, "a ground-up loss of inf in the simulated year"),
        ("splt", {"Loss": float("nan")}, "a ground-up loss of (nan|None) in the simulated year"),
    ],
)
def test_a_wrong_stochastic_run_is_found_out(stochastic_run: Path, table, columns, message):
    doctored(stochastic_run / "output" / f"gul_S1_{table}.parquet", **columns)
    with pytest.raises(FigureError, match=message):
        check_stochastic(stochastic_run)


def test_a_curve_with_two_losses_at_one_return_period_is_found_out(stochastic_run: Path):
    table = stochastic_run / "output" / "gul_S1_ept.parquet"
    rows = pq.read_table(table).to_pandas()
    pd.concat([rows, rows[rows["EPType"] == 1].assign(Loss=1.0)]).to_parquet(table)
    with pytest.raises(FigureError, match=r"two losses as OEP of GUL at 50 years: .* and 1\.00"):
        check_stochastic(stochastic_run)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({("OEP", 50): 30.0}, r"The OEP IL at 50 years is 30\.00, below the 40\.00 at 10 years"),
        ({("AEP", 50): 41.0, ("OEP", 50): 40.0}, r"The AEP IL at 50 years is 41\.00, below the 45\.00 at 10 years"),
        ({("OEP", 10): 46.0}, r"The OEP IL at 10 years is 46\.00, above the AEP of 45\.00"),
    ],
)
def test_curves_that_fall_or_cross_are_found_out(changed, message):
    losses = {("OEP", 10): 40.0, ("OEP", 50): 60.0, ("AEP", 10): 45.0, ("AEP", 50): 60.0}

    def figures(losses):
        return [
            {"perspective": "IL", "metric": metric, "return_period": period, "loss_factor": None, "loss": loss}
            for (metric, period), loss in losses.items()
        ]

    assert len(check_curves(figures(losses), is_weighted=False)) == 2
    with pytest.raises(FigureError, match=message):
        check_curves(figures(losses | changed), is_weighted=False)


def test_a_loss_stream_that_has_an_item_twice_is_found_out(layers: Path, tmp_path: Path):
    """Insured losses below their limits would be doubled, and still be below the ground-up loss."""
    folder = shutil.copytree(layers, tmp_path / "run")
    output = folder / "hand" / "run" / "output" / "ils.bin"
    content = output.read_bytes()
    output.write_bytes(content + content[8:])
    with pytest.raises(OasisError, match=r"ils\.bin of Oasis LMF has the losses of event 1 and item 1 twice"):
        check_run(folder)


def test_the_standard_deviation_of_one_year_is_not_defined(stochastic_run: Path):
    doctored(stochastic_run / "output" / "gul_S1_palt.parquet", SDLoss=float("nan"))
    found = stochastic_figures(stochastic_run / "output", ["GUL"], [5], periods=1, samples=10)
    assert found.not_defined == ["STD_DEV of GUL: one simulated year has no standard deviation"]
    assert "STD_DEV" not in {figure["metric"] for figure in found.figures}


def test_a_loss_above_all_that_is_insured_is_found_out(stochastic_run: Path):
    figures = stochastic_figures(stochastic_run / "output", ["GUL"], [5, 50], periods=YEARS, samples=10).figures
    with pytest.raises(FigureError, match="above the insured value of all modelled locations, 100"):
        check_period_losses(
            stochastic_run / "output" / "gul_S1_splt.parquet",
            figures,
            perspective="GUL",
            periods=YEARS,
            samples=10,
            most=100.0,
        )


def test_a_run_with_locations_or_values_that_the_portfolio_does_not_have_is_found_out(
    pairs: dict[str, tuple[Job, Path]], stochastic_run: Path
):
    locations = read_locations(pairs["grid"][0].folder / "inputs")
    assert locations is not None
    rates = conversion(stochastic_run / "input").rate_of_row
    check_values(read_modelled(stochastic_run / "input", locations).values, locations, rates)
    map_file = stochastic_run / "input" / "gul_summary_map.csv"
    truth = map_file.read_text()
    map_file.write_text(truth.replace(",100000.0,", ",400000.0,", 1))
    with pytest.raises(FigureError, match=r"insures .* for 450,000\.00, but the portfolio for 150,000\.00"):
        check_values(read_modelled(stochastic_run / "input", locations).values, locations, rates)
    map_file.write_text(truth.replace(",A1,007,", ",A1,9,"))
    with pytest.raises(FigureError, match="modelled the location 9 of account A1"):
        read_modelled(stochastic_run / "input", locations)


def test_a_run_in_another_currency_is_found_out(stochastic_run: Path):
    table = stochastic_run / "input" / "location.parquet"
    found = pq.read_table(table).to_pandas()
    found["LocCurrency"] = "USD"
    found.to_parquet(table)
    used = conversion(stochastic_run / "input").currencies
    with pytest.raises(FigureError, match=r"amounts in USD \(LocCurrency\), but the workbook wants losses in GBP"):
        check_currency(used, "GBP", "The run of Oasis LMF")


def test_insured_figures_above_ground_up_ones_are_found_out_unless_terms_allow_them():
    figures = [
        {"perspective": of, "metric": "OEP", "return_period": 50, "loss_factor": None, "loss": loss}
        for of, loss in (("GUL", 100.0), ("IL", 200.0))
    ]
    with pytest.raises(FigureError, match=r"The OEP IL at 50 years is 200\.00, above that of GUL, which is 100\.00"):
        check_order(figures, is_above=False)
    assert check_order(figures, is_above=True) == []


@pytest.mark.parametrize(
    ("layers_of_account", "is_above"),
    [
        ([{}], False),
        ([{"LayerLimit": 400}, {"LayerAttachment": 400, "LayerLimit": 600, "LayerNumber": 2}], False),
        ([{"LayerParticipation": 0.5}, {"LayerParticipation": 0.5, "PolNumber": "P2"}], False),
        ([{}, {"PolNumber": "P2"}], True),
        ([{"LayerLimit": 500}, {"LayerAttachment": 400, "LayerLimit": 600, "LayerNumber": 2}], True),
        ([{"StepTriggerType": 5}], True),
    ],
)
def test_which_accounts_may_pay_more_than_the_ground_up_loss(tmp_path: Path, layers_of_account, is_above):
    portfolio = write_portfolio(tmp_path, [place("1")], [account(**of) for of in layers_of_account])
    assert may_exceed_ground_up(portfolio) == ({("1", "A1")} if is_above else set())
