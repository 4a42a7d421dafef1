"""Exposure: insured value, locations and accounts of two cycles, side by side.

Pure: it works on what the stages Extract and Process recorded (:mod:`irp_pipeline.helpers.portfolio_facts`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from irp_pipeline.helpers.comparison.sides import Side
from irp_pipeline.helpers.portfolio_facts import PortfolioFacts


class Quantity(StrEnum):
    """What of a portfolio is compared."""

    INSURED_VALUE = "insured value"
    LOCATIONS = "locations"
    ACCOUNTS = "account records"


@dataclass(frozen=True, kw_only=True, slots=True)
class ExposureLine:
    """A quantity of a portfolio on both sides.

    Attributes:
        portfolio: its name; empty for all portfolios together.
        what: the quantity.
        currency: of an insured value.
        before: on the earlier side, if it is known.
        after: on the later side, if it is known.
        not_compared: why there is no change; None if there is one.
    """

    portfolio: str
    what: Quantity
    currency: str | None
    before: float | None
    after: float | None
    not_compared: str | None

    @property
    def change(self) -> float | None:
        """The change; None if the two cannot be compared."""
        if self.not_compared is not None or self.before is None or self.after is None:
            return None
        return self.after - self.before

    @property
    def relative_change(self) -> float | None:
        """The change as a share of what there was; None if that was nothing."""
        change = self.change
        return None if change is None or not self.before else change / self.before


def compare_exposure(before: Side, after: Side) -> list[ExposureLine]:
    """Compare the portfolios of two sides by name: all of them together first, then the largest changes."""
    names = dict.fromkeys((*after.portfolios, *before.portfolios))
    single = [list(_of_portfolio(name, before, after)) for name in names]
    single.sort(key=lambda lines: -max((_weight(line) for line in lines), default=0.0))
    found = [line for lines in single for line in lines]
    return [*_totals(found, before, after), *found] if len(names) > 1 else found


def _of_portfolio(name: str, before: Side, after: Side) -> Iterator[ExposureLine]:
    then, now = before.portfolios.get(name), after.portfolios.get(name)
    absent = (
        f"not in {before.label}" if then is None else f"not in {after.label}" if now is None else None
    )  # fmt: skip
    values_then, values_now = _values(then), _values(now)
    for currency in sorted(values_then.keys() | values_now.keys()):
        old, new = values_then.get(currency), values_now.get(currency)
        yield ExposureLine(
            portfolio=name,
            what=Quantity.INSURED_VALUE,
            currency=currency,
            before=old,
            after=new,
            not_compared=absent or _why_not(old, new, bool(values_then), bool(values_now), (before, after)),
        )
    counts: dict[Quantity, tuple[float | None, float | None]] = {
        Quantity.LOCATIONS: (then.locations if then else None, now.locations if now else None),
        Quantity.ACCOUNTS: (then.account_records if then else None, now.account_records if now else None),
    }
    for what, (old_count, new_count) in counts.items():
        if old_count is not None or new_count is not None:
            yield ExposureLine(
                portfolio=name,
                what=what,
                currency=None,
                before=old_count,
                after=new_count,
                not_compared=absent or _why_not(old_count, new_count, False, False, (before, after)),
            )


def _why_not(
    before: float | None, after: float | None, other_before: bool, other_after: bool, sides: tuple[Side, Side]
) -> str | None:
    """Say why a quantity has no change.

    Args:
        before: the amount on the earlier side.
        after: the amount on the later side.
        other_before: whether the earlier side has amounts in other currencies.
        other_after: likewise for the later side.
        sides: both.
    """
    for amount, has_other, side in ((before, other_before, sides[0]), (after, other_after, sides[1])):
        if amount is None:
            return f"other currency in {side.label}" if has_other else f"no figure in {side.label}"
    return None


def _totals(lines: Iterable[ExposureLine], before: Side, after: Side) -> Iterator[ExposureLine]:
    """Yield the sums over all portfolios, of what is known of each."""
    sums: dict[tuple[Quantity, str | None], list[float | None]] = {}
    for line in lines:
        total = sums.setdefault((line.what, line.currency), [None, None])
        for index, amount in enumerate((line.before, line.after)):
            if amount is not None:
                total[index] = (total[index] or 0) + amount
    currencies = [{currency for (_, currency), amounts in sums.items() if currency and amounts[i]} for i in (0, 1)]
    for (what, currency), (old, new) in sorted(sums.items(), key=lambda item: list(Quantity).index(item[0][0])):
        others = (bool(currencies[0]), bool(currencies[1])) if currency else (False, False)
        yield ExposureLine(
            portfolio="",
            what=what,
            currency=currency,
            before=old,
            after=new,
            not_compared=_why_not(old, new, *others, (before, after)),
        )


def _values(facts: PortfolioFacts | None) -> Mapping[str, float]:
    """Return the insured value by currency."""
    amounts: dict[str, float] = {}
    for value in facts.insured_values if facts is not None else ():
        amounts[value.currency] = amounts.get(value.currency, 0.0) + value.amount
    return amounts


def _weight(line: ExposureLine) -> float:
    if line.what is not Quantity.INSURED_VALUE:
        return 0.0
    return abs((line.after or 0.0) - (line.before or 0.0))
