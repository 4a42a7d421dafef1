"""Adding up locations: totals, segments and data quality.

Money is added up in two parts, whole units and fractions: sums of whole units are exact up to 2⁵³, so that the result
does not depend on the order of the locations by more than the last digit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from irp_pipeline.exposure.oed import unknown_codes
from irp_pipeline.exposure.profile.records import FIELDS, Amount, Known, Segment
from irp_pipeline.exposure.totals.control_total import ACCOUNT_COLUMN

if TYPE_CHECKING:
    from irp_pipeline.exposure.profile.reading import Locations

    Array = np.ndarray[Any, Any]

MOST_VALUES: Final = 200
"""How many values of a field have a segment of their own."""

# OED's codes of AddressMatch: 1 coordinates that the user gave, 2 exact address, 3 parcel. Above: street, postcode, …
_BUILDING_LEVEL: Final = ("1", "2", "3")


def by_coverage(locations: Locations) -> tuple[float, float, float, float]:
    """Return the insured value of each coverage."""
    nothing = np.zeros(len(locations), np.int64)
    building, other, contents, interruption = (
        float(exact_sums(locations.values[:, number], nothing, 1)[0]) for number in range(4)
    )
    return building, other, contents, interruption


def count_accounts(locations: Locations) -> int:
    """Return how many accounts have one of the locations."""
    return len(np.unique(locations.account[locations.account != 0]))


def segments(locations: Locations, name_account: Callable[[int], str]) -> tuple[Segment, ...]:
    """Split locations by the values of each OED field that they have.

    Args:
        locations: of one currency.
        name_account: returns the name of the account of a location, by the position of the location.
    """
    tiv = locations.values.sum(axis=1)
    _, account = np.unique(locations.account, return_inverse=True)
    account = np.where(locations.account == 0, -1, account.reshape(-1))
    found: list[Segment] = []
    for field in FIELDS:
        if field in locations.fields:
            found += _segments(field, locations.fields[field], tiv, account, locations.texts[field].__getitem__)
    if (locations.account != 0).any():
        _, first, codes = np.unique(locations.account, return_index=True, return_inverse=True)
        names = partial(_name, first, name_account)
        found += _segments(ACCOUNT_COLUMN, codes.reshape(-1), tiv, account, names)
    return tuple(found)


def _segments(field: str, codes: Array, tiv: Array, account: Array, name: Callable[[int], str]) -> Iterator[Segment]:
    count = int(codes.max()) + 1
    sums, numbers = exact_sums(tiv, codes, count), np.bincount(codes, minlength=count)
    there = np.flatnonzero(numbers)
    ranked = there[np.lexsort((there, -numbers[there], -sums[there]))]
    own = ranked[:MOST_VALUES] if len(ranked) > MOST_VALUES + 1 else ranked
    rank = np.full(count, len(own), np.int64)
    rank[own] = np.arange(len(own))
    accounts = _accounts_by(rank[codes], account, len(own) + 1)
    for position, code in enumerate(own.tolist()):
        amount = Amount(tiv=float(sums[code]), locations=int(numbers[code]), accounts=int(accounts[position]))
        yield Segment(field=field, value=name(code), values=1, amount=amount)
    if len(own) < len(ranked):
        others = ranked[len(own) :]
        total = exact_sums(sums[others], np.zeros(len(others), np.int64), 1)[0]
        amount = Amount(tiv=float(total), locations=int(numbers[others].sum()), accounts=int(accounts[len(own)]))
        yield Segment(field=field, value=None, values=len(others), amount=amount)


def _name(first: Array, name_account: Callable[[int], str], code: int) -> str:
    return name_account(int(first[code]))


def _accounts_by(groups: Array, account: Array, count: int) -> Array:
    """Return how many accounts each group has."""
    named = account >= 0
    most = int(account.max(initial=0)) + 1
    pairs = np.unique(groups[named].astype(np.int64) * most + account[named])
    return np.bincount(pairs // most, minlength=count)


def known_of(locations: Locations) -> dict[Known, Amount]:
    """Return of how much each measure of data quality is known."""
    tiv = locations.values.sum(axis=1)
    return {
        measure: Amount(
            tiv=float(exact_sums(tiv[which], np.zeros(int(which.sum()), np.int64), 1)[0]),
            locations=int(which.sum()),
            accounts=0,
        )
        for measure, which in _known(locations).items()
    }


def _known(locations: Locations) -> dict[Known, Array]:
    placed = ~np.isnan(locations.latitude)
    return {
        Known.COORDINATES: placed,
        Known.BUILDING: placed & _among(locations, "AddressMatch", _BUILDING_LEVEL.__contains__),
        **{
            measure: ~_among(locations, field, {"", *unknown_codes(field)}.__contains__)
            for measure, field in ((Known.OCCUPANCY, "OccupancyCode"), (Known.CONSTRUCTION, "ConstructionCode"))
        },
        Known.YEAR_BUILT: locations.has_year,
    }


def _among(locations: Locations, field: str, accept: Callable[[str], bool]) -> Array:
    """Return which locations have a value of a field that is accepted; a missing field is blank."""
    if field not in locations.fields:
        return np.full(len(locations), accept(""))
    return np.array([accept(text) for text in locations.texts[field]], bool)[locations.fields[field]]


def exact_sums(amounts: Array, groups: Array | Sequence[int], count: int) -> Array:
    """Return the sums of amounts by group, whole units and fractions apart.

    Args:
        amounts: in units of one currency.
        groups: the number of the group of each, from 0.
        count: how many groups there are.
    """
    whole = np.floor(amounts)
    return np.asarray(np.bincount(groups, whole, count) + np.bincount(groups, amounts - whole, count))
