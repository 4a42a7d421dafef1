"""The cells of a map: a grid over the places of locations, and what each cell holds.

The grid lies at multiples of its steps, so that the maps of two quarters can be compared. Longitudes begin in the
widest gap between the locations: those on both sides of the 180° meridian are neighbours.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from irp_pipeline.exposure.profile.records import Cell

if TYPE_CHECKING:
    Floats = np.ndarray[Any, np.dtype[np.float64]]

_STEPS: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
_MOST_ROWS: Final = 40
_MOST_COLUMNS: Final = 60
_LEAST_COSINE: Final = 0.1  # towards the poles cells become narrow, not endlessly wide


def cells(latitudes: Floats, longitudes: Floats, values: Floats) -> tuple[Cell, ...]:
    """Add up locations in the cells of a grid.

    Args:
        latitudes: of each location, -90 to 90 degrees.
        longitudes: of each location, -180 to 180 degrees.
        values: of each location.

    Returns:
        The cells that hold a location, from south to north and from west to east; at most 2,500.
    """
    if not len(values):
        return ()
    around = np.mod(np.asarray(longitudes, np.float64) + 180.0, 360.0)
    edge = _after_the_widest_gap(around)
    # From the same numbers: a rounding error below zero would be a way around the earth.
    west, east = edge - 180.0, np.mod(around - edge, 360.0)
    south, north, width = float(latitudes.min()), float(latitudes.max()), float(east.max())
    cosine = max(math.cos(math.radians((south + north) / 2)), _LEAST_COSINE)
    height = max(_step((north - south) / _MOST_ROWS), _step(width / _MOST_COLUMNS * cosine))
    breadth = _step(height / cosine)
    rows = np.floor(latitudes / height).astype(np.int64)
    rows = np.minimum(rows, round(90.0 / height) - 1)  # the pole belongs to the row south of it
    columns = np.floor((west + east) / breadth).astype(np.int64)
    keys, cell = np.unique(rows * 10**6 + (columns + 10**5), return_inverse=True)
    sums, counts = np.bincount(cell.reshape(-1), values), np.bincount(cell.reshape(-1))
    found = []
    for key, tiv, locations in zip(keys.tolist(), sums.tolist(), counts.tolist(), strict=True):
        row, column = divmod(key, 10**6)
        western = round((column - 10**5) * breadth, 3)
        found.append(
            Cell(
                south=round(row * height, 3),
                west=(western + 180.0) % 360.0 - 180.0,
                height=height,
                width=breadth,
                tiv=tiv,
                locations=locations,
            )
        )
    return tuple(found)


def _after_the_widest_gap(around: Floats) -> float:
    """Return where the map begins: the place east of the widest gap, in degrees east of the 180° meridian."""
    places = np.unique(around)
    gaps = np.diff(np.append(places, places[0] + 360.0))
    return float(places[(int(np.argmax(gaps)) + 1) % len(places)])


def _step(least: float) -> float:
    return next((step for step in _STEPS if step >= least), _STEPS[-1])
