"""Comparing control totals: does the extract have everything that the source has?

Control totals are the number of records, locations, accounts and buildings, and the insured value (TIV) of each
coverage, for every portfolio, peril, country and currency, and for every account.
:mod:`~irp_pipeline.exposure.totals.control_total` defines what counts as one location. The totals are taken from the
source (:func:`source_totals`) and from the extract (:func:`extract_totals`) in two different ways, and compared
(:func:`compare_totals`).

- LocPerilsCovered may contain several codes (``WTC;WSS``). Such a location counts under each of them, so do not add
  perils together. The row :data:`ALL_PERILS` counts it once. A group of perils (``AA1``) is not split.
- An account counts once in each row in which it has a location.
- The totals by account are over all perils, and are only taken if there are no more than :data:`MOST_ACCOUNTS`.
- A database computes its totals itself, in one snapshot with the rows if both are extracted in the same call
  (``extract(…, with_totals=True)``). A CSV file is read a second time by another parser.

Counts must be equal. Amounts must be equal except for the error of converting decimal to binary numbers: see
:func:`money_tolerance`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal

from irp_pipeline.exposure.totals.control_total import ALL_PERILS, ControlTotal, ControlTotals

_COUNTS = {
    "records": "number of records",
    "locations": "number of locations",
    "accounts": "number of accounts",
    "buildings": "number of buildings",
}
_AMOUNTS = {
    "building_tiv": "BuildingTIV",
    "other_tiv": "OtherTIV",
    "contents_tiv": "ContentsTIV",
    "bi_tiv": "BITIV",
}
_RELATIVE_TOLERANCE = Decimal(2) ** -52
_TOLERANCE_PER_LOCATION = Decimal("1e-9")


@dataclass(frozen=True)
class Difference:
    """A measure that differs between the source and the extract; ``str()`` is a sentence for a risk analyst."""

    portfolio: str
    peril: str
    country: str
    currency: str
    measure: str
    source: int | Decimal
    extract: int | Decimal
    account: str = ""

    def __str__(self) -> str:
        """Say what differs and by how much."""
        keys = (
            f"portfolio {self.portfolio or '(blank)'}{f', account {self.account}' if self.account else ''}, "
            f"peril {self.peril or '(blank)'}, "
            f"country {self.country or '(blank)'}, currency {self.currency or '(blank)'}"
        )
        return (
            f"{keys}: {self.measure} is {_shown(self.source)} in the source and {_shown(self.extract)} in the extract "
            f"(difference {_shown(self.extract - self.source)})"
        )


def compare_totals(source: Sequence[ControlTotal], extract: Sequence[ControlTotal]) -> list[Difference]:
    """Compare the totals of a source with those of its extract; an empty list means that they agree.

    A group that is missing in one of them counts as zero there.
    """
    of_source, of_extract = _by_key(source), _by_key(extract)
    accounts = [totals.by_account for totals in (source, extract) if isinstance(totals, ControlTotals)]
    if len(accounts) == 2 and None not in accounts:
        of_source, of_extract = of_source | _by_key(accounts[0] or ()), of_extract | _by_key(accounts[1] or ())
    differences = []
    for key in sorted(of_source.keys() | of_extract.keys()):
        portfolio, account, peril, country, currency = key
        zero = Decimal(0)
        nothing = ControlTotal(portfolio, peril, country, currency, 0, 0, zero, zero, zero, zero, account=account)
        differences += _differences(of_source.get(key, nothing), of_extract.get(key, nothing))
    return differences


def money_tolerance(amount: Decimal, locations: int) -> Decimal:
    """Return how far apart two sums of the same amounts may be, in units of their currency.

    Neither sum depends on the order of the rows: the extract is added up in decimals, and a database adds whole
    units as integers and the fractions separately. What remains is that the extract stores each amount as a 64-bit
    float, with an error of at most 2⁻⁵³ of the amount (IEEE 754), and that nine decimal places are kept. For a million
    locations with a sum of 10¹² that makes 0.0012 units.

    Args:
        amount: the larger of the two sums, without sign.
        locations: how many amounts were added.
    """
    return _RELATIVE_TOLERANCE * amount + _TOLERANCE_PER_LOCATION * locations


def whole_totals(totals: Iterable[ControlTotal]) -> list[ControlTotal]:
    """Return the totals over all perils, which add up to the whole."""
    return [total for total in totals if total.peril == ALL_PERILS]


def _by_key(totals: Iterable[ControlTotal]) -> dict[tuple[str, str, str, str, str], ControlTotal]:
    return {total.key: total for total in totals}


def _differences(source: ControlTotal, extract: ControlTotal) -> list[Difference]:
    keys = (source.portfolio, source.peril, source.country, source.currency)
    differences = [
        Difference(*keys, measure, getattr(source, name), getattr(extract, name), source.account)
        for name, measure in _COUNTS.items()
        if getattr(source, name) != getattr(extract, name)
    ]
    locations = max(source.locations, extract.locations)
    for name, measure in _AMOUNTS.items():
        of_source, of_extract = getattr(source, name), getattr(extract, name)
        tolerance = money_tolerance(max(abs(of_source), abs(of_extract)), locations)
        if abs(of_source - of_extract) > tolerance:
            differences.append(Difference(*keys, measure, of_source, of_extract, source.account))
    return differences


def _shown(value: int | Decimal) -> str:
    """Return a count unchanged, and an amount with two decimal places, or more if it needs them."""
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.2f}" if value == round(value, 2) else f"{value.normalize():,f}"
