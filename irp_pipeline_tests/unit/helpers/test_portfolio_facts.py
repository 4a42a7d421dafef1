"""What steps record of a portfolio comes back as it was, also beside portfolios with names that begin alike."""

from decimal import Decimal

from irp_pipeline.exposure.totals.control_total import ALL_PERILS, ControlTotal
from irp_pipeline.helpers.portfolio_facts import Fact, InsuredValue, PortfolioTotals, fact_key, facts_of, records_key
from irp_pipeline.vocabulary import OedTable


def total(country: str, currency: str, amount: int, locations: int = 1) -> ControlTotal:
    none = Decimal(0)
    return ControlTotal(
        "1", ALL_PERILS, country, currency, locations, 1, Decimal(amount), none, none, none, buildings=2 * locations
    )


def test_totals_add_up_by_country_and_currency() -> None:
    totals = PortfolioTotals.of([total("US", "USD", 5, 3), total("GB", "GBP", 7), total("US", "USD", 1)])
    assert (totals.locations, totals.buildings) == (5, 10)
    assert totals.insured_values == (
        InsuredValue(country="GB", currency="GBP", amount=7.0),
        InsuredValue(country="US", currency="USD", amount=6.0),
    )


def test_what_is_recorded_is_read_back() -> None:
    main = PortfolioTotals.of([total("US", "USD", 5), total("", "USD", 3), total("GB", "GBP", 7)])
    other = PortfolioTotals.of([total("FR", "EUR", 9, 4)])
    output = {
        **main.output("main"),
        **other.output("main-2"),
        records_key("main", OedTable.ACCOUNT): 12,
        fact_key("main", Fact.WARNINGS): 0,
        fact_key("main", Fact.EXPOSURE_HASH): "ab",
        "folder": "elsewhere",
    }
    facts = facts_of("main", output)
    assert (facts.locations, facts.insured_values) == (main.locations, main.insured_values)
    assert (facts.account_records, facts.warnings, facts.exposure_hash) == (12, 0, "ab")
    assert facts_of("main-2", output).insured_values == other.insured_values


def test_what_no_step_has_recorded_is_not_known() -> None:
    facts = facts_of("main", {"main-2 locations": 4})
    assert (facts.locations, facts.account_records, facts.warnings, facts.exposure_hash) == (None, None, None, None)
    assert facts.insured_values == ()
