"""Computing the profile of the portfolios of a cycle from their extracted tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from irp_pipeline.exposure.oed import OedTable
from irp_pipeline.exposure.profile.adding_up import by_coverage, count_accounts, known_of, segments
from irp_pipeline.exposure.profile.circles import largest_circles
from irp_pipeline.exposure.profile.grid import cells
from irp_pipeline.exposure.profile.reading import Identifiers, Locations, read_locations
from irp_pipeline.exposure.profile.reading import count_accounts as accounts_of_table
from irp_pipeline.exposure.profile.records import (
    RADII,
    WHOLE,
    Amount,
    Circle,
    CurrencyProfile,
    ExposureProfile,
    PortfolioProfile,
)
from irp_pipeline.exposure.totals.control_total import PORTFOLIO_COLUMN

_CIRCLES: Final = 3
"""How many circles of each radius are found."""


def profile_of(portfolios: Mapping[str, Mapping[OedTable, Path]]) -> ExposureProfile:
    """Compute the profile of portfolios.

    Args:
        portfolios: the extracted tables of each portfolio, by its name.

    Raises:
        ExposureError: a table cannot be read.
    """
    tables = list(portfolios.values())
    locations = read_locations(tables)
    identifiers = Identifiers(tables)
    ends = np.searchsorted(locations.portfolio, np.arange(len(tables) + 1), "left").tolist()
    parts: list[PortfolioProfile] = []
    for position, (name, of_portfolio) in enumerate(portfolios.items()):
        own = locations.chosen(slice(ends[position], ends[position + 1]))
        parts.append(_portfolio(name, own, of_portfolio, identifiers))
    if len(parts) == 1:
        whole = _renamed(parts[0])
    else:
        whole = PortfolioProfile(
            name=WHOLE,
            has_locations=any(part.has_locations for part in parts),
            locations=len(locations),
            accounts=count_accounts(locations) + sum(part.accounts for part in parts if not part.has_locations),
            placed=sum(part.placed for part in parts),
            repeated=_repeated(locations),
            currencies=_currencies(locations, identifiers),
        )
    return ExposureProfile(whole=whole, portfolios=tuple(parts))


def _portfolio(
    name: str, locations: Locations, tables: Mapping[OedTable, Path], identifiers: Identifiers
) -> PortfolioProfile:
    has_locations = OedTable.LOCATION in tables
    if has_locations or OedTable.ACCOUNT not in tables:
        accounts = count_accounts(locations)
    else:
        accounts = accounts_of_table(tables[OedTable.ACCOUNT])
    return PortfolioProfile(
        name=name,
        has_locations=has_locations,
        locations=len(locations),
        accounts=accounts,
        placed=int((~np.isnan(locations.latitude)).sum()),
        currencies=_currencies(locations, identifiers),
    )


def _renamed(only: PortfolioProfile) -> PortfolioProfile:
    return PortfolioProfile(
        name=WHOLE,
        has_locations=only.has_locations,
        locations=only.locations,
        accounts=only.accounts,
        placed=only.placed,
        currencies=only.currencies,
    )


def _currencies(locations: Locations, identifiers: Identifiers) -> tuple[CurrencyProfile, ...]:
    texts = locations.texts["LocCurrency"]
    numbers = np.bincount(locations.currency, minlength=len(texts))
    found = []
    for code in sorted(np.flatnonzero(numbers).tolist(), key=lambda code: (-numbers[code], texts[code])):
        is_all = numbers[code] == len(locations)
        own = locations if is_all else locations.chosen(np.flatnonzero(locations.currency == code))
        found.append(_currency(texts[code], own, identifiers))
    return tuple(found)


def _currency(currency: str, locations: Locations, identifiers: Identifiers) -> CurrencyProfile:
    coverages = by_coverage(locations)
    placed = np.flatnonzero(~np.isnan(locations.latitude))
    where = locations if len(placed) == len(locations) else locations.chosen(placed)
    with_port = len(locations.texts[PORTFOLIO_COLUMN]) > 1

    def name_account(position: int) -> str:
        port, account, _ = identifiers.of(int(locations.portfolio[position]), int(locations.row[position]))
        return f"{port}/{account}" if with_port and account else account

    return CurrencyProfile(
        currency=currency,
        amount=Amount(tiv=float(sum(coverages)), locations=len(locations), accounts=count_accounts(locations)),
        by_coverage=coverages,
        segments=segments(locations, name_account),
        circles=tuple(circle for radius in RADII for circle in _circles(where, radius, identifiers)),
        cells=cells(where.latitude, where.longitude, where.values.sum(axis=1)),
        known=known_of(locations),
    )


def _circles(locations: Locations, radius: int, identifiers: Identifiers) -> Sequence[Circle]:
    tiv = locations.values.sum(axis=1)
    found = largest_circles(locations.latitude, locations.longitude, tiv, radius, _CIRCLES)
    circles = []
    for rank, circle in enumerate(found, start=1):
        centre = circle.centre
        _, account, location = identifiers.of(int(locations.portfolio[centre]), int(locations.row[centre]))
        circles.append(
            Circle(
                radius=radius,
                rank=rank,
                latitude=float(locations.latitude[centre]),
                longitude=float(locations.longitude[centre]),
                account=account,
                location=location,
                tiv=circle.value,
                locations=circle.locations,
                at_most=circle.at_most,
            )
        )
    return circles


def _repeated(locations: Locations) -> int:
    """Return how many locations are in more than one portfolio."""
    pairs = np.unique(np.stack([locations.identity, locations.portfolio.astype(np.uint64)]), axis=1)
    identities, numbers = np.unique(pairs[0], return_counts=True)
    return int((numbers > 1).sum()) if len(identities) else 0
