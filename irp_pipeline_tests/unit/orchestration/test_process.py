"""What the stage Process asks of a portfolio whose reinsurance a what-if uses, or whose amounts analyses convert."""

from pathlib import Path
from typing import Any

from irp_pipeline.exposure.oed import OedTable
from irp_pipeline.orchestration.stages.process import currency_of_portfolio, needs_of_portfolio
from irp_pipeline.workbook import Workbook, example_workbook


def workbook(**what_if: Any) -> Workbook:
    plain = example_workbook().to_json()
    own = next(portfolio for portfolio in plain["portfolios"] if portfolio["name"] == "property")
    plain["portfolios"] += [own | {"name": "more", "ri_info": "more/ri_info.csv", "ri_scope": "more/ri_scope.csv"}]
    plain["analyses"] += [{"name": "reinsured", "base": "property_stress", "reinsurance": "more", **what_if}]
    return Workbook.model_validate(plain)


def test_the_portfolio_of_other_reinsurance_has_the_needs_of_its_what_ifs(tmp_path: Path) -> None:
    assert OedTable.LOCATION in needs_of_portfolio(workbook(), "more", tmp_path).tables
    assert not needs_of_portfolio(workbook(reinsurance="property"), "more", tmp_path).tables


def test_a_portfolio_may_have_other_currencies_if_each_of_its_analyses_has_rates() -> None:
    plain = example_workbook().to_json()
    assert currency_of_portfolio(Workbook.model_validate(plain), "commercial") == "EUR"
    next(row for row in plain["analyses"] if row["name"] == "commercial_wind")["currency_rates"] = "rates.csv"
    assert currency_of_portfolio(Workbook.model_validate(plain), "commercial") is None
    assert currency_of_portfolio(Workbook.model_validate(plain), "property") == "EUR"
