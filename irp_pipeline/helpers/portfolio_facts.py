"""What the steps of Extract and Process record about each portfolio, as typed facts.

The output data of a step is flat, so that it is readable as metadata of the op: ``main TIV GB GBP`` is the insured
value of the portfolio ``main`` in one country and currency. Only this module composes and parses these names.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from irp_pipeline.vocabulary import OedTable

if TYPE_CHECKING:
    from irp_pipeline.exposure.totals.control_total import ControlTotal

_INSURED_VALUE: Final = "TIV"


class Fact(StrEnum):
    """The facts recorded about a portfolio, as named in the output data."""

    LOCATIONS = "locations"
    BUILDINGS = "buildings"
    ERRORS = "errors"
    WARNINGS = "warnings"
    EXPOSURE_HASH = "exposure hash"
    FOLDER = "folder"


@dataclass(frozen=True, kw_only=True, slots=True, order=True)
class InsuredValue:
    """The total insured value of a portfolio in one country and currency.

    Attributes:
        country: CountryCode of the locations; empty where it is blank.
        currency: of the amount.
        amount: the insured value of all coverages.
    """

    country: str
    currency: str
    amount: float


@dataclass(frozen=True, kw_only=True, slots=True)
class PortfolioTotals:
    """The control totals of a whole portfolio.

    Attributes:
        locations: how many locations.
        buildings: how many buildings.
        insured_values: by country and currency, in their order.
    """

    locations: int
    buildings: int
    insured_values: tuple[InsuredValue, ...]

    @classmethod
    def of(cls, totals: Iterable[ControlTotal]) -> PortfolioTotals:
        """Add up control totals that do not count any location twice."""
        found = list(totals)
        amounts: dict[tuple[str, str], float] = {}
        for total in found:
            key = total.country, total.currency
            amounts[key] = float(total.tiv) + amounts.get(key, 0.0)
        return cls(
            locations=sum(total.locations for total in found),
            buildings=sum(total.buildings for total in found),
            insured_values=tuple(
                InsuredValue(country=country, currency=currency, amount=amount)
                for (country, currency), amount in sorted(amounts.items())
            ),
        )

    def output(self, portfolio: str) -> dict[str, int | float]:
        """Return them as output data of the step that compares them."""
        return {
            fact_key(portfolio, Fact.LOCATIONS): self.locations,
            fact_key(portfolio, Fact.BUILDINGS): self.buildings,
            **{
                f"{portfolio} {_INSURED_VALUE} {value.country} {value.currency}": value.amount
                for value in self.insured_values
            },
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class PortfolioFacts:
    """What is recorded about a portfolio; None for what no step has recorded yet.

    Attributes:
        locations: the number of locations, from the control totals.
        account_records: how many account records were extracted.
        insured_values: by country and currency, from the control totals.
        warnings: how many findings against the OED standard were not errors.
        exposure_hash: of the OED files as the model reads them.
    """

    locations: int | None
    account_records: int | None
    insured_values: tuple[InsuredValue, ...]
    warnings: int | None
    exposure_hash: str | None


def fact_key(portfolio: str, fact: Fact) -> str:
    """Return the name of a fact of a portfolio in output data."""
    return f"{portfolio} {fact}"


def count_in_all(fact: Fact, output: Mapping[str, Any]) -> int:
    """Return a count of all portfolios together.

    Args:
        fact: what is counted.
        output: the output data of the step that records it for each portfolio.
    """
    return sum(int(value) for name, value in output.items() if name.partition(" ")[2] == fact)


def totals_of_all(totals: Iterable[PortfolioTotals]) -> dict[str, int | float]:
    """Return the locations and the insured value in each currency of several portfolios together, by name."""
    found = list(totals)
    amounts: dict[str, float] = {}
    for value in (value for one in found for value in one.insured_values):
        key = f"{_INSURED_VALUE} {value.currency}"
        amounts[key] = amounts.get(key, 0.0) + value.amount
    return {Fact.LOCATIONS.value: sum(one.locations for one in found), **amounts}


def records_key(portfolio: str, table: OedTable) -> str:
    """Return the name of the number of records of a portfolio's table in output data."""
    return f"{portfolio} {table} records"


def facts_of(portfolio: str, output: Mapping[str, Any]) -> PortfolioFacts:
    """Return what is recorded about a portfolio.

    Args:
        portfolio: its name, which has no blanks.
        output: the combined output data of the steps.
    """
    return PortfolioFacts(
        locations=output.get(fact_key(portfolio, Fact.LOCATIONS)),
        account_records=output.get(records_key(portfolio, OedTable.ACCOUNT)),
        insured_values=tuple(sorted(_insured_values(portfolio, output))),
        warnings=output.get(fact_key(portfolio, Fact.WARNINGS)),
        exposure_hash=output.get(fact_key(portfolio, Fact.EXPOSURE_HASH)),
    )


def _insured_values(portfolio: str, output: Mapping[str, Any]) -> Iterable[InsuredValue]:
    prefix = f"{portfolio} {_INSURED_VALUE} "
    for key, amount in output.items():
        if key.startswith(prefix):
            country, _, currency = key.removeprefix(prefix).rpartition(" ")
            yield InsuredValue(country=country, currency=currency, amount=float(amount))
