"""The exposure of two cycles side by side."""

from collections.abc import Mapping

from irp_pipeline.helpers.comparison.exposure import ExposureLine, Quantity, compare_exposure
from irp_pipeline.helpers.comparison.sides import Side
from irp_pipeline.helpers.portfolio_facts import InsuredValue, PortfolioFacts


def facts(locations: int | None = 10, accounts: int | None = 5, /, **amounts: float) -> PortfolioFacts:
    values = tuple(
        InsuredValue(country=country, currency=currency, amount=amount)
        for key, amount in amounts.items()
        for country, _, currency in [key.partition("_")]
    )
    return PortfolioFacts(
        locations=locations, account_records=accounts, insured_values=values, warnings=0, exposure_hash=None
    )


def side(label: str, portfolios: Mapping[str, PortfolioFacts]) -> Side:
    return Side(cycle_name=label, label=label, batch_id=1, exposure_date=None, portfolios=portfolios, subjects={})


def lines(before: Mapping[str, PortfolioFacts], after: Mapping[str, PortfolioFacts]) -> list[ExposureLine]:
    return compare_exposure(side("Q4", before), side("Q1", after))


def test_insured_value_is_added_up_over_countries_and_counts_are_compared():
    found = lines({"p": facts(10, 5, DE_EUR=100, FR_EUR=50)}, {"p": facts(12, 5, DE_EUR=120, FR_EUR=60)})
    assert [(line.what, line.before, line.after, line.change) for line in found] == [
        (Quantity.INSURED_VALUE, 150, 180, 30), (Quantity.LOCATIONS, 10, 12, 2), (Quantity.ACCOUNTS, 5, 5, 0),
    ]  # fmt: skip
    assert [line.relative_change for line in found] == [0.2, 0.2, 0]


def test_all_portfolios_together_come_first_then_what_changed_most():
    found = lines({"a": facts(DE_EUR=100), "b": facts(DE_EUR=100)}, {"a": facts(DE_EUR=101), "b": facts(DE_EUR=50)})
    assert [line.portfolio for line in found] == [""] * 3 + ["b"] * 3 + ["a"] * 3
    assert [(line.before, line.after) for line in found[:3]] == [(200, 151), (20, 20), (10, 10)]


def test_another_currency_is_never_subtracted():
    found = [line for line in lines({"p": facts(DE_EUR=100)}, {"p": facts(DE_USD=120)}) if line.currency]
    assert [(line.currency, line.change, line.not_compared) for line in found] == [
        ("EUR", None, "other currency in Q1"), ("USD", None, "other currency in Q4"),
    ]  # fmt: skip


def test_a_portfolio_on_one_side_counts_in_the_total_and_says_where_it_is_not():
    found = lines({"a": facts(DE_EUR=100)}, {"a": facts(DE_EUR=100), "new": facts(DE_EUR=40)})
    assert found[0].change == 40
    assert {line.not_compared for line in found if line.portfolio == "new"} == {"not in Q4"}
    gone = lines({"old": facts(DE_EUR=1)}, {})
    assert {line.not_compared for line in gone} == {"not in Q1"}


def test_what_no_step_recorded_is_not_zero():
    [line] = lines({"p": facts(None, None)}, {"p": facts(10, None)})
    assert (line.what, line.before, line.change, line.not_compared) == (
        Quantity.LOCATIONS, None, None, "no figure in Q4",
    )  # fmt: skip
    assert lines({}, {}) == []
