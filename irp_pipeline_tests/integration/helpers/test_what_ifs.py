"""What-ifs of a batch: what their engines are given, and what is shown beside their bases."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from irp_pipeline import settings
from irp_pipeline.cli import app
from irp_pipeline.engines import EngineError
from irp_pipeline.engines.inputs import named_files
from irp_pipeline.exposure.portfolio import folder_hash
from irp_pipeline.helpers.cycle import create_cycle
from irp_pipeline.helpers.database import execute_command
from irp_pipeline.helpers.db_context import get_current_schema
from irp_pipeline.helpers.job_request import JobError, Requests
from irp_pipeline.helpers.result import finished_jobs, get_results, save_results, what_ifs_of
from irp_pipeline.report import collect, write_report
from irp_pipeline.workbook import Workbook
from irp_pipeline_tests.support.made_up_cycle import finish_jobs, make_batch, workbook
from irp_pipeline_tests.support.tiny_models import write_model

BASE, WORSE, STRESSED = "property_wind", "property_worse", "stress_reinsured"


pytestmark = pytest.mark.usefixtures("own_files")


def with_what_ifs() -> Workbook:
    """The workbook of the made-up cycle, with a stochastic what-if and a deterministic one."""
    plain = workbook().to_json()
    own = next(portfolio for portfolio in plain["portfolios"] if portfolio["name"] == "property")
    plain["portfolios"] += [own | {"name": "more", "ri_info": "more/ri_info.csv", "ri_scope": "more/ri_scope.csv"}]
    plain["analyses"] += [
        {"name": WORSE, "base": BASE, "loss_multiplier": 2, "samples": 5},
        {"name": STRESSED, "base": "property_stress", "reinsurance": "more"},
    ]
    return Workbook.model_validate(plain)


@pytest.fixture
def batch_id() -> int:
    """A batch whose analyses are finished; the losses of the what-ifs are twice those of the others."""
    batch_id = make_batch("Q1-2024", with_what_ifs())
    finish_jobs(batch_id, only=["commercial_wind", BASE, "property_stress"])
    finish_jobs(batch_id, only=[WORSE, STRESSED], scale=2.0)
    save_results(batch_id)
    return batch_id


def results(*arguments: str) -> str:
    done = CliRunner().invoke(app, ["results", "Q1-2024", *arguments], prog_name="irp")
    assert done.exit_code == 0, done.output
    return done.output


def loss_of(batch_id: int, name: str, perspective: str, metric: str) -> float:
    of = get_results(batch_id).query("analysis_name == @name and perspective == @perspective and metric == @metric")
    return float(of["loss"].iloc[0])


def test_each_figure_is_beside_that_of_the_base_in_sql_report_and_answer(batch_id: int, tmp_path: Path) -> None:
    answer = {item["analysis"]: item for item in json.loads(results("--json"))["what_ifs"]}
    assert set(answer) == {WORSE, STRESSED}
    worse = answer[WORSE]
    assert (worse["base"], worse["missing"]) == (BASE, None)
    assert worse["differs_in"] == [{"parameter": "loss_multiplier", "base": "none", "own": "2"}]
    [average] = [of for of in worse["figures"] if (of["perspective"], of["metric"]) == ("RI", "AAL")]
    base, own = (loss_of(batch_id, name, "RI", "AAL") for name in (BASE, WORSE))
    assert average["loss"] == own
    assert average["base_loss"] == base
    assert average["difference"] == own - base
    assert average["relative"] == pytest.approx(own / base - 1)
    assert {of["relative"] for of in answer[STRESSED]["figures"]} == {1.0}
    assert [of["loss_factor"] for of in answer[STRESSED]["figures"]] == [0.1, 0.5, 0.1, 0.5]

    shown = " ".join(results().split())
    assert f"{WORSE} differs from {BASE} in loss_multiplier: none → 2" in shown
    assert f"{own - base:,.0f}" in shown

    page = write_report("Q1-2024", tmp_path / "report").read_text(encoding="utf-8")
    section = page[page.index("<h2>What if</h2>") : page.index("<h2>Exposure</h2>")]
    assert f"{own - base:+,.0f}".replace("-", "\N{MINUS SIGN}") in section
    assert "Differs in reinsurance: the portfolio&#39;s own → more." in section
    assert "+100.0%" in section
    summary = (tmp_path / "report" / "report.md").read_text(encoding="utf-8")
    assert "### What if" in summary
    assert "stress\\_reinsured | property\\_stress | Loss at 10 % | GUL" in summary


def test_a_base_that_failed_leaves_the_figures_without_a_difference(tmp_path: Path) -> None:
    batch_id = make_batch("Q1-2024", with_what_ifs())
    finish_jobs(batch_id, only=[WORSE])
    execute_command("UPDATE irp_job SET status = 'FAILED', error_message = 'no' WHERE status <> 'FINISHED'")
    [item] = collect("Q1-2024").what_ifs
    assert (item.name, item.differences, item.missing) == (WORSE, (), f"the base {BASE} has no figures")
    page = write_report("Q1-2024", tmp_path / "report").read_text(encoding="utf-8")
    assert f"No difference: the base {BASE} has no figures." in page
    [job] = [job for job in finished_jobs(batch_id) if job.name == WORSE]
    assert f"{job.figures[0].loss:,.0f}" in page


def test_what_else_differs_is_said_beside_the_figures() -> None:
    batch_id = make_batch("Q1-2024", with_what_ifs())
    finish_jobs(batch_id, only=[BASE])
    finish_jobs(batch_id, only=[WORSE], engine_version="2.6.0", model_version="9")
    [item] = collect("Q1-2024").what_ifs
    assert [(of.name, of.own) for of in item.parameters] == [
        ("loss_multiplier", "2"),
        ("engine version", "2.6.0"),
        ("model version", "9"),
    ]
    figures = {job.name: (job.currency, job.figures) for job in finished_jobs(batch_id)}
    figures[BASE] = ("USD", figures[BASE][1])
    [item] = what_ifs_of(batch_id, figures)
    assert (item.differences, item.missing) == ((), f"the figures of the base {BASE} are in USD")


def test_a_cycle_without_what_ifs_has_the_report_that_it_had(tmp_path: Path) -> None:
    batch_id = make_batch("Q1-2024", workbook())
    finish_jobs(batch_id)
    save_results(batch_id)
    report = collect("Q1-2024")
    assert "what-ifs" not in report.content()
    assert "What if" not in write_report("Q1-2024", tmp_path / "report").read_text(encoding="utf-8")


def test_the_tables_of_a_what_if_are_in_its_request_by_hash_and_found_again(tmp_path: Path) -> None:
    cycle_id = create_cycle("Q1-2024")
    write_model(tmp_path, "grid")
    (tmp_path / "rates.csv").write_text("cur_from,cur_to,roe\nGBP,EUR,1.2\n")
    (tmp_path / "factors.csv").write_text("OccupancyCode,factor\n1050,2\n")
    requests = Requests(cycle_id, "Q1-2024", tmp_path, [], needs_portfolio=False)
    base = {"name": "a", "portfolio": "property", "engine": "oasis_stochastic", "model": "grid/tests/test_1",
            "samples": 1, "perspectives": ["GUL"], "currency": "EUR"}  # fmt: skip
    tables = {"currency_rates": "rates.csv", "segment_multipliers": "factors.csv"}
    plain, request = requests.of(base), requests.of(base | tables)
    assert request.keys() - plain.keys() == {"currency_rates_hash", "segment_multipliers_hash"}
    cycle_folder = settings.cycle_dir(get_current_schema(), "Q1-2024")
    found = named_files(request, cycle_folder)
    assert {column: found[column] for column in tables} == {
        column: str(tmp_path / file) for column, file in tables.items()
    }
    (tmp_path / "rates.csv").write_text("cur_from,cur_to,roe\nGBP,EUR,1.3\n")
    with pytest.raises(EngineError, match=r"The currency_rates .*rates\.csv is not the one that the job was submitted"):
        named_files(request, cycle_folder)
    with pytest.raises(JobError, match=r"The currency_rates of the analysis cannot be used: there is no 'no\.csv'"):
        requests.of(base | {"currency_rates": "no.csv"})


def test_the_request_names_the_reinsurance_of_another_portfolio_by_key_and_hash() -> None:
    cycle_id = create_cycle("Q1-2024")
    portfolios = settings.cycle_dir(get_current_schema(), "Q1-2024") / "portfolios"
    for name in ("property", "more"):
        (portfolios / name).mkdir(parents=True)
        for table in ("location", "account"):
            (portfolios / name / f"{table}.csv").write_text(f"{table}\n1\n")
        for table in ("ri_info", "ri_scope"):
            (portfolios / name / f"{table}.csv").write_text(f"{table}\n{name}\n")
    requests = Requests(cycle_id, "Q1-2024", portfolios, ["property", "more"])
    plain: dict[str, Any] = {"name": "a", "portfolio": "property", "engine": "none", "currency": "EUR"}
    base, other = requests.of(plain), requests.of(plain | {"name": "b", "base": "a", "reinsurance": "more"})
    assert other["analysis"] == plain | {"name": "b", "reinsurance": "more"}  # the base does not matter to losses
    assert {name: file["key"] for name, file in other["inputs"].items()} == {
        "location.csv": "portfolios/property/location.csv",
        "account.csv": "portfolios/property/account.csv",
        "ri_info.csv": "portfolios/more/ri_info.csv",
        "ri_scope.csv": "portfolios/more/ri_scope.csv",
    }
    assert base["exposure_hash"] == folder_hash(portfolios / "property")
    assert other["exposure_hash"] == folder_hash(portfolios / "more")
