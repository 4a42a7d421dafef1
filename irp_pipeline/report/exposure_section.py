"""The content of the section on exposure: what its step computed, beside the cycle before.

Here: the values. Not here: reading them (:mod:`irp_pipeline.report.exposure`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from irp_pipeline.exposure.profile.changes import Row, rows_of
from irp_pipeline.exposure.profile.records import CurrencyProfile, ExposureProfile, PortfolioProfile

ROWS: Final = 8
"""How many values of a field have a row of their own."""
CURRENCIES: Final = 4
"""How many currencies of a portfolio are shown with all their details."""
PORTFOLIOS: Final = 6
"""How many portfolios are shown with all their details."""


@dataclass(frozen=True)
class ExposureSection:
    """The exposure of a cycle, beside that of the cycle before.

    Attributes:
        profile: the exposure; None if its files cannot be read here.
        before: that of the cycle before; None if there is none, or its files cannot be read here.
        cycle_before: the name of that cycle.
        problem: why something cannot be read, in words.
        hashes: the hashes of the files' content.
    """

    profile: ExposureProfile | None
    before: ExposureProfile | None
    cycle_before: str | None
    problem: str | None
    hashes: dict[str, str]

    def content(self) -> dict[str, Any]:
        """Return it as plain data that is equal for equal exposure."""
        return {"files": self.hashes, "before": self.cycle_before, "problem": self.problem}

    def currencies(self, portfolio: PortfolioProfile) -> tuple[CurrencyProfile, ...]:
        """Return the currencies of a portfolio that are shown with their details."""
        return portfolio.currencies[:CURRENCIES]

    @property
    def detailed(self) -> tuple[PortfolioProfile, ...]:
        """The portfolios that are shown with their details: none if there is only one, which is the whole."""
        portfolios = self.profile.portfolios if self.profile else ()
        return portfolios[:PORTFOLIOS] if len(portfolios) > 1 else ()

    def earlier(self, portfolio: PortfolioProfile) -> PortfolioProfile | None:
        """Return the same portfolio of the cycle before."""
        if self.before is None:
            return None
        return self.before.portfolio(portfolio.name) if portfolio.name else self.before.whole

    def change(self, portfolio: PortfolioProfile, part: CurrencyProfile) -> float | None:
        """Return the change of the insured value in a currency as a share of what it was; None if that was nothing."""
        earlier = self.earlier(portfolio)
        then = earlier.in_currency(part.currency) if earlier else None
        return part.amount.tiv / then.amount.tiv - 1 if then and then.amount.tiv else None

    def gone(self, portfolio: PortfolioProfile) -> Iterator[CurrencyProfile]:
        """Yield what the portfolio had in currencies that it has no longer."""
        earlier = self.earlier(portfolio)
        for part in earlier.currencies if earlier else ():
            if portfolio.in_currency(part.currency) is None:
                yield part

    def rows(self, portfolio: PortfolioProfile, part: CurrencyProfile, field: str) -> tuple[Row, ...]:
        """Return the rows of the table of a field."""
        earlier = self.earlier(portfolio)
        return rows_of(part, earlier.in_currency(part.currency) if earlier else None, field, ROWS)
