"""The profile of an exposure, as typed values. Amounts are in units of their currency; none is added to another's."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

WHOLE: Final = ""
"""The name of all portfolios together, which no portfolio can have."""

RADII: Final = (1000, 250)
"""The radii of the circles of concentration, in metres."""

SEVERAL: Final = "(several)"
"""The value of a policy's field for locations of accounts that have several values of it."""

FIELDS: Final = (
    "CountryCode",
    "AreaCode",
    "OccupancyCode",
    "ConstructionCode",
    "LocPerilsCovered",
    "LOB",
    "AddressMatch",
    "AccNumber",
)
"""The OED fields by whose values the exposure is split, if the portfolio has them. LOB is a field of policies."""


class Known(StrEnum):
    """What is known about a location: the measures of data quality."""

    COORDINATES = "coordinates"
    BUILDING = "geocoded to the building"
    OCCUPANCY = "occupancy"
    CONSTRUCTION = "construction"
    YEAR_BUILT = "year built"


@dataclass(frozen=True, kw_only=True, slots=True)
class Amount:
    """How much of the exposure.

    Attributes:
        tiv: total insured value.
        locations: how many locations.
        accounts: how many accounts have one of them.
    """

    tiv: float
    locations: int
    accounts: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Segment:
    """The part of the exposure with one value of an OED field.

    Attributes:
        field: the OED field.
        value: its value; ``""`` where it is blank, None for all values that have no row of their own.
        values: how many values these are; 1 for a single one.
        amount: how much.
    """

    field: str
    value: str | None
    values: int
    amount: Amount


@dataclass(frozen=True, kw_only=True, slots=True)
class Circle:
    """A circle around a location, and what it holds.

    Attributes:
        radius: in metres.
        rank: 1 for the largest of this radius.
        latitude: of its centre, in degrees.
        longitude: of its centre, in degrees.
        account: AccNumber of the location at its centre.
        location: LocNumber of the location at its centre.
        tiv: total insured value of the locations in it.
        locations: how many locations it holds.
        at_most: no other circle of this radius holds more; equal to ``tiv`` if the search was exhaustive.
    """

    radius: int
    rank: int
    latitude: float
    longitude: float
    account: str
    location: str
    tiv: float
    locations: int
    at_most: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """A cell of the map.

    Attributes:
        south: its southern edge, in degrees of latitude.
        west: its western edge, in degrees of longitude, -180 to 180.
        height: in degrees of latitude.
        width: in degrees of longitude.
        tiv: total insured value of the locations in it.
        locations: how many locations it holds.
    """

    south: float
    west: float
    height: float
    width: float
    tiv: float
    locations: int


@dataclass(frozen=True, kw_only=True, slots=True)
class CurrencyProfile:
    """The exposure of a portfolio in one currency.

    Attributes:
        currency: LocCurrency; ``""`` where it is blank.
        amount: how much.
        by_coverage: the insured value of buildings, other structures, contents and business interruption.
        segments: by field in the order of :data:`FIELDS`, and by value, the largest first.
        circles: by radius in the order of :data:`RADII`, and by rank.
        cells: the cells of the map that have locations.
        known: for each measure, the insured value and the number of the locations of which it is known. Accounts are
            not counted.
    """

    currency: str
    amount: Amount
    by_coverage: tuple[float, float, float, float]
    segments: tuple[Segment, ...] = field(repr=False)
    circles: tuple[Circle, ...] = field(repr=False)
    cells: tuple[Cell, ...] = field(repr=False)
    known: dict[Known, Amount] = field(repr=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class PortfolioProfile:
    """The exposure of a portfolio, or of all together.

    Attributes:
        name: the portfolio's name, or :data:`WHOLE`.
        has_locations: whether it has a location table; without one there is no insured value by location.
        locations: how many locations, in all currencies.
        accounts: how many accounts, in all currencies; of a portfolio without locations those of its account table.
        placed: how many locations have coordinates.
        repeated: of all together, how many locations are in more than one portfolio, by PortNumber, AccNumber and
            LocNumber; each counts once in every portfolio that has it.
        currencies: by currency, the one with the most locations first.
    """

    name: str
    has_locations: bool
    locations: int
    accounts: int
    placed: int
    repeated: int = 0
    currencies: tuple[CurrencyProfile, ...] = ()

    def in_currency(self, currency: str) -> CurrencyProfile | None:
        """Return what is in a currency."""
        return next((item for item in self.currencies if item.currency == currency), None)


@dataclass(frozen=True, kw_only=True, slots=True)
class ExposureProfile:
    """The exposure of a cycle at a glance.

    Attributes:
        whole: all portfolios together.
        portfolios: each of them, in the order of the workbook.
    """

    whole: PortfolioProfile
    portfolios: tuple[PortfolioProfile, ...]

    def portfolio(self, name: str) -> PortfolioProfile | None:
        """Return a portfolio by its name."""
        return next((item for item in self.portfolios if item.name == name), None)
