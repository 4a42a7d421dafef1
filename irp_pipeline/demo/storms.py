"""Synthetic windstorms: when they occur, which way they move and how strong their gusts are. No storm is real.

Random numbers come from :mod:`random`, which gives the same numbers on every machine and in every version, and
probabilities are multiples of a power of two. So the same version of this module always makes the same storms.
"""

from __future__ import annotations

import datetime as dt
import math
import random
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

EVENTS: Final = 400
PERIODS: Final = 5000
ANNUAL_RATE: Final = 2.2
"""Storms per year on average: one year in nine has none."""

_SEED: Final = 19871016
# Storms are spread evenly on a logarithmic scale of exceedance rates, down to this rate.
_RAREST_PER_YEAR: Final = 1 / 20_000

# Gusts in m/s. Slower gusts do no damage, faster gusts do not occur.
_FIRST_GUST: Final = 18.0
_GUST_STEP: Final = 2.0
INTENSITY_BINS: Final = 26
_HARMLESS_GUST: Final = 22.0
_UNCERTAINTY: Final = 1.0  # scale of the logistic distribution of a gust around its mean
_PROBABILITY_STEPS: Final = 16

_KM_PER_DEGREE: Final = 111.2
_ORIGIN: Final = (54.5, -3.0)


@dataclass(frozen=True)
class Grid:
    """Cells of equal size in degrees, numbered from 1, first northwards and then eastwards, as in Oasis LMF."""

    south: float
    north: float
    west: float
    east: float
    cell: float

    @property
    def rows(self) -> int:
        return round((self.north - self.south) / self.cell)

    @property
    def columns(self) -> int:
        return round((self.east - self.west) / self.cell)

    def area_peril(self, latitude: float, longitude: float) -> int | None:
        """Return the number of the cell that a place is in; None outside the grid."""
        if not (self.south < latitude < self.north and self.west < longitude < self.east):
            return None
        column = math.floor((longitude - self.west) / self.cell)
        return column * self.rows + math.floor((latitude - self.south) / self.cell) + 1


GREAT_BRITAIN: Final = Grid(south=49.5, north=61.0, west=-8.5, east=2.5, cell=0.25)


@dataclass(frozen=True)
class Storm:
    """A storm on a straight track.

    Attributes:
        event_id: its number, from 1.
        annual_rate: how often it occurs, per year.
        peak_gust: its strongest gust over open country, in m/s.
        latitude: where its track crosses 3 degrees West.
        heading: its direction, in degrees from East towards North.
        strongest_at: where on its track it is strongest, in km after crossing 3 degrees West.
        length: how far it stays strong, in km.
        width: how wide it is, in km.
        texture: two phases of its pattern of stronger and weaker gusts.
    """

    event_id: int
    annual_rate: float
    peak_gust: float
    latitude: float
    heading: float
    strongest_at: float
    length: float
    width: float
    texture: tuple[float, float]


@dataclass(frozen=True, order=True)
class Occurrence:
    """A storm that occurs in a simulated year; ``period`` counts from 1."""

    event_id: int
    period: int
    month: int
    day: int


def storms() -> list[Storm]:
    """Return the storms, the most frequent one first."""
    # Seeded on purpose: the model must be the same everywhere.
    chance = random.Random(_SEED)  # noqa: S311
    ratio = _RAREST_PER_YEAR / ANNUAL_RATE
    exceeded = [ANNUAL_RATE * ratio ** (number / EVENTS) for number in range(EVENTS)] + [0.0]
    return [
        Storm(
            event_id=event_id,
            annual_rate=upper - lower,
            peak_gust=_peak_gust(upper),
            latitude=min(max(chance.gauss(56.0, 2.4), 49.0), 62.0),
            heading=chance.gauss(18.0, 12.0),
            strongest_at=chance.gauss(0.0, 220.0),
            length=chance.uniform(450.0, 850.0),
            width=chance.uniform(110.0, 200.0),
            texture=(chance.uniform(0.0, math.tau), chance.uniform(0.0, math.tau)),
        )
        for event_id, (upper, lower) in enumerate(pairwise(exceeded), start=1)
    ]


def _peak_gust(exceeded_per_year: float) -> float:
    """Return the peak gust: linear in the logarithm of the return period, as in a Gumbel distribution of rare gusts."""
    return 26.0 + 3.6 * math.log(ANNUAL_RATE / exceeded_per_year)


def occurrences(events: list[Storm]) -> list[Occurrence]:
    """Return which storms occur in which simulated year, sorted. Their number in a year is Poisson distributed."""
    chance = random.Random(_SEED + 1)  # noqa: S311
    rates = [storm.annual_rate for storm in events]
    total = sum(rates)
    drawn = []
    time = chance.expovariate(total)
    while time < PERIODS:
        (storm,) = chance.choices(events, rates)
        # Most occur in January.
        day = dt.date(2001, 10, 1) + dt.timedelta(days=int(chance.triangular(0, 182, 105)))
        drawn.append(Occurrence(storm.event_id, int(time) + 1, day.month, day.day))
        time += chance.expovariate(total)
    return sorted(drawn)


def gusts(storm: Storm) -> NDArray[np.float64]:
    """Return the mean gust of a storm in each cell of the grid, in m/s, in the order of the cells' numbers."""
    import numpy as np

    east, north = _cells_in_km()
    heading = math.radians(storm.heading)
    northward = north - (storm.latitude - _ORIGIN[0]) * _KM_PER_DEGREE
    along = east * math.cos(heading) + northward * math.sin(heading)
    # The strongest gusts are on the right of the track, where the storm's own motion adds to its wind.
    to_the_right = (east * math.sin(heading) - northward * math.cos(heading)) / storm.width - 0.8
    across = np.where(to_the_right > 0, to_the_right / 1.7, to_the_right)
    first, second = storm.texture
    texture = 1 + 0.04 * np.sin(along / 60 + first) * np.sin(to_the_right * 3 + second)
    field = storm.peak_gust * np.exp(-0.5 * across**2 - 0.5 * ((along - storm.strongest_at) / storm.length) ** 2)
    return np.asarray(field * texture * _exposedness(east, north), dtype=np.float64)


def _cells_in_km() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return how far east and north of the origin the cells' centres are."""
    import numpy as np

    grid = GREAT_BRITAIN
    longitude, latitude = np.meshgrid(
        grid.west + (np.arange(grid.columns) + 0.5) * grid.cell,
        grid.south + (np.arange(grid.rows) + 0.5) * grid.cell,
        indexing="ij",
    )
    north = (latitude.ravel() - _ORIGIN[0]) * _KM_PER_DEGREE
    east = (longitude.ravel() - _ORIGIN[1]) * _KM_PER_DEGREE * math.cos(math.radians(_ORIGIN[0]))
    return east, north


def _exposedness(east: NDArray[np.float64], north: NDArray[np.float64]) -> Any:
    """Return the constant wind factor of each cell: the west is windier, and so are some made-up hills."""
    import numpy as np

    return 1 - 0.06 * np.tanh(east / 150) + 0.03 * np.sin(east / 45) * np.cos(north / 70)


@dataclass(frozen=True)
class Footprint:
    """Where a storm can do damage: arrays of equal length, sorted by area peril and intensity bin."""

    area_peril: NDArray[np.int64]
    intensity_bin: NDArray[np.int64]
    probability: NDArray[np.float64]


def footprint(storm: Storm) -> Footprint:
    """Return how strong a storm's gusts are in each cell.

    The intensity bins around the mean gust of a cell share the probability, in steps of 1/16, so that it adds up to
    exactly one.
    """
    import numpy as np

    mean = gusts(storm)
    (cells,) = np.nonzero(mean > _HARMLESS_GUST)
    edges = _FIRST_GUST + _GUST_STEP * np.arange(1, INTENSITY_BINS)
    below = 1 / (1 + np.exp((mean[cells, None] - edges) / _UNCERTAINTY))
    steps = np.round(below * _PROBABILITY_STEPS)
    shares = np.diff(steps, axis=1, prepend=0, append=_PROBABILITY_STEPS) / _PROBABILITY_STEPS
    rows, bins = np.nonzero(shares)
    return Footprint(cells[rows] + 1, bins + 1, shares[rows, bins])


def gust_of_bin(intensity_bin: int) -> float:
    """Return the gust in the middle of an intensity bin, in m/s."""
    return _FIRST_GUST + _GUST_STEP * (intensity_bin - 0.5)
