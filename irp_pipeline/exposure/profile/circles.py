"""The circles that insure the most: concentration of insured value.

A circle is centred at a location and holds every location whose distance to the centre is at most its radius, along the
great circle of a sphere with the Earth's mean radius. The second circle is the largest one among the locations outside
of the first, and so on: no location counts twice.

The search is exact. It bounds the value of each circle from above, by rows of latitude, and computes only those circles
whose bound exceeds the largest one found. In data where very many circles hold nearly the same value, it stops after
20 million distances for each circle; then :attr:`Found.at_most` says how much more another circle can hold.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    Floats = np.ndarray[Any, np.dtype[np.float64]]
    Integers = np.ndarray[Any, np.dtype[np.int64]]
    Mask = np.ndarray[Any, np.dtype[np.bool_]]

EARTH_RADIUS: Final = 6_371_008.8
"""Metres: the mean radius of the Earth (IUGG)."""

_ROWS_PER_RADIUS: Final = 8
_FIRST_CANDIDATES: Final = 16
_MOST_CANDIDATES: Final = 4096
_PAIRS_AT_ONCE: Final = 2**20
_CENTRES_AT_ONCE: Final = 2**16
_MOST_PAIRS: Final = 20_000_000
# What rounding can take from a bound: of an angle in degrees, and of a sum as a share of all values.
_DEGREES_SLACK: Final = 1e-6
_SUM_SLACK: Final = 1e-12
# Keys of sorted positions: this for each row, and the longitude, so that rows never overlap.
_ROW_KEY: Final = 1000.0


@dataclass(frozen=True)
class Found:
    """A circle.

    Attributes:
        centre: the index of the location at its centre.
        value: the sum of the values of the locations in it.
        locations: how many locations it holds.
        at_most: no other circle of this radius holds more than this; equal to ``value`` if the search was exhaustive.
    """

    centre: int
    value: float
    locations: int
    at_most: float


def largest_circles(
    latitudes: Floats, longitudes: Floats, values: Floats, radius: float, count: int, most_pairs: int = _MOST_PAIRS
) -> list[Found]:
    """Find the circles that hold the most.

    Args:
        latitudes: of each location, -90 to 90 degrees.
        longitudes: of each location, -180 to 180 degrees.
        values: of each location; what is below zero counts as zero.
        radius: in metres, less than 1,000 km.
        count: how many circles to find.
        most_pairs: how many distances to compute for each circle at most.

    Returns:
        The circles, largest first; fewer if nothing of value is left. Of equal circles, the one whose centre comes
        first among those that were computed.
    """
    if not len(values):
        return []
    search = _Search(latitudes, longitudes, np.maximum(values, 0.0), radius, most_pairs)
    found: list[Found] = []
    while len(found) < count:
        circle = search.next()
        if circle is None:
            break
        found.append(circle)
    return found


class _Search:
    """Points at distinct places, sorted by row of latitude and longitude, with a bound for the circle around each."""

    def __init__(self, latitudes: Floats, longitudes: Floats, values: Floats, radius: float, most_pairs: int) -> None:
        # One place has one longitude: ±180 are the same, and at a pole there is none.
        east = np.where(np.abs(latitudes) == 90.0, 0.0, np.mod(longitudes, 360.0))
        places, first, place_of = np.unique(latitudes + 1j * east, return_index=True, return_inverse=True)
        latitude, east = np.real(places), np.imag(places)
        self._angle = radius / EARTH_RADIUS
        self._height = np.degrees(self._angle) / _ROWS_PER_RADIUS
        rows = np.floor((latitude + 90.0) / self._height).astype(np.int64)
        order = np.lexsort((east, rows))
        self._first = first[order]
        self._latitude, self._east, self._rows = latitude[order], east[order], rows[order]
        self._keys = self._rows * _ROW_KEY + self._east
        self._values = np.bincount(place_of.reshape(-1), values, len(places))[order]
        self._counts = np.bincount(place_of.reshape(-1), minlength=len(places))[order]
        phi, lam = np.radians(self._latitude), np.radians(self._east)
        self._points = np.stack([np.cos(phi) * np.cos(lam), np.cos(phi) * np.sin(lam), np.sin(phi)])
        self._chord = (2 * np.sin(self._angle / 2)) ** 2
        self._most_pairs = self._pairs_left = most_pairs
        self._before = np.concatenate([[0.0], np.cumsum(self._values)])
        self._slack = _SUM_SLACK * float(self._before[-1])
        self._bounds = np.zeros(len(places))
        for start in range(0, len(places), _CENTRES_AT_ONCE):
            some = np.arange(start, min(start + _CENTRES_AT_ONCE, len(places)))
            for span in self._spans(some, with_inner=False):
                self._bounds[span.centres] += self._before[span.end] - self._before[span.start]

    def next(self) -> Found | None:
        """Find the largest circle of the locations that are left, and take its locations away."""
        known = np.zeros(len(self._bounds), bool)
        self._pairs_left = self._most_pairs
        best, size = 0.0, _FIRST_CANDIDATES
        while self._pairs_left > 0:
            candidates = np.flatnonzero(~known & (self._bounds > best + self._slack))
            if not len(candidates):
                break
            if len(candidates) > size:
                candidates = candidates[np.argpartition(-self._bounds[candidates], size)[:size]]
            self._bounds[candidates] = self._sums(candidates)
            known[candidates] = True
            best = max(best, float(self._bounds[candidates].max()))
            size = min(2 * size, _MOST_CANDIDATES)
        if best <= self._slack:
            return None
        largest = np.flatnonzero(known & (self._bounds >= best - self._slack))
        centre = int(largest[np.argmin(self._first[largest])])
        beyond = float(self._bounds[~known].max(initial=0.0))
        members = self._members(centre)
        value = float(self._values[members].sum())
        at_most = beyond if beyond > best + self._slack else value
        found = Found(int(self._first[centre]), value, int(self._counts[members].sum()), at_most)
        self._values[members], self._counts[members], self._bounds[members] = 0.0, 0, 0.0
        self._before = np.concatenate([[0.0], np.cumsum(self._values)])
        return found

    def _spans(self, centres: Integers, *, with_inner: bool = True) -> Iterator[_Span]:
        """Yield where the points of the circles around some points can be: a span of each row near a centre."""
        reach = _ROWS_PER_RADIUS + 1
        latitude, east = self._latitude[centres], self._east[centres]
        for offset in range(-reach, reach + 1):
            rows = self._rows[centres] + offset
            outer, inner = self._half_widths(latitude, rows)
            near, all_round = ~np.isnan(outer), outer >= 180.0
            west, to_east = east - outer, east + outer
            first = np.where(all_round, 0.0, np.maximum(west, 0.0))
            last = np.where(all_round, 360.0, np.minimum(to_east, 360.0))
            yield self._span(near, centres, rows, first, last, inner if with_inner else None)
            # Over the meridian where longitudes begin:
            over = near & ~all_round & (west < 0.0)
            yield self._span(over, centres, rows, west + 360.0, np.full_like(east, 360.0), None)
            over = near & ~all_round & (to_east >= 360.0)
            yield self._span(over, centres, rows, np.zeros_like(east), to_east - 360.0, None)

    def _span(
        self, which: Mask, centres: Integers, rows: Integers, west: Floats, east: Floats, inner: Floats | None
    ) -> _Span:
        chosen, base = centres[which], rows[which] * _ROW_KEY
        start = np.searchsorted(self._keys, base + west[which], "left")
        end = np.searchsorted(self._keys, base + east[which], "right")
        if inner is None or not len(chosen):
            return _Span(chosen, start, end, start, start)
        middle, width = base + self._east[chosen], inner[which]
        inside = np.clip(np.searchsorted(self._keys, middle - np.maximum(width, 0.0), "left"), start, end)
        outside = np.clip(np.searchsorted(self._keys, middle + np.maximum(width, 0.0), "right"), start, end)
        return _Span(chosen, start, end, inside, np.where(width > 0.0, outside, inside))

    def _half_widths(self, latitude: Floats, rows: Integers) -> tuple[Floats, Floats]:
        """Return how far east and west rows reach into circles, in degrees.

        From the haversine formula: sin²(d/2) = sin²(Δφ/2) + cos φ₁ cos φ₂ sin²(Δλ/2).

        Returns:
            The distance within which any point of the row can be in the circle, NaN if none can; and the distance
            within which every point of the row is in it, at most zero if there is none.
        """
        south = np.maximum(rows * self._height - 90.0, -90.0) - _DEGREES_SLACK
        north = np.minimum((rows + 1) * self._height - 90.0, 90.0) + _DEGREES_SLACK
        nearest = np.radians(np.maximum(np.maximum(south - latitude, latitude - north), 0.0))
        farthest = np.radians(np.maximum(latitude - south, north - latitude))
        cosines = np.cos(np.radians(np.clip(south, -90.0, 90.0))), np.cos(np.radians(np.clip(north, -90.0, 90.0)))
        highest = np.where((south <= 0.0) & (north >= 0.0), 1.0, np.maximum(*cosines))
        own, reach = np.cos(np.radians(latitude)), np.sin(self._angle / 2) ** 2
        any_of, all_of = reach - np.sin(nearest / 2) ** 2, reach - np.sin(farthest / 2) ** 2
        outer = _half_angle(any_of, own * np.minimum(*cosines)) + _DEGREES_SLACK
        inner = _half_angle(np.maximum(all_of, 0.0), own * highest) - _DEGREES_SLACK
        return np.where(any_of < 0.0, np.nan, outer), np.where(all_of > 0.0, inner, 0.0)

    def _sums(self, centres: Integers) -> Floats:
        """Return what the circles around some points hold now."""
        sums = np.zeros(len(self._bounds))
        for span in self._spans(centres):
            sums[span.centres] += self._before[span.inner_end] - self._before[span.inner_start]
            for start, end in ((span.start, span.inner_start), (span.inner_end, span.end)):
                for owners, points in self._pairs(span.centres, start, end):
                    sums += np.bincount(owners, self._values[points], len(sums))
        return sums[centres]

    def _members(self, centre: int) -> Integers:
        """Return the points within the circle around a point."""
        found = [
            points
            for span in self._spans(np.array([centre]))
            for _, points in self._pairs(span.centres, span.start, span.end)
        ]
        return np.unique(np.concatenate(found))

    def _pairs(self, centres: Integers, starts: Integers, ends: Integers) -> Iterator[tuple[Integers, Integers]]:
        """Yield the pairs of centres and points of some spans that are within the radius, some at a time."""
        if not len(centres):
            return
        lengths = ends - starts
        counted = np.cumsum(lengths)
        self._pairs_left -= int(counted[-1])
        begin = 0
        while begin < len(lengths):
            done = counted[begin - 1] if begin else 0
            end = max(begin + 1, int(np.searchsorted(counted, done + _PAIRS_AT_ONCE, "right")))
            part = lengths[begin:end]
            owners = np.repeat(centres[begin:end], part)
            offsets = np.arange(len(owners)) - np.repeat(np.cumsum(part) - part, part)
            points = np.repeat(starts[begin:end], part) + offsets
            squares = np.zeros(len(owners))
            for axis in self._points:  # of chords: no angle is needed to compare distances
                squares += (axis[owners] - axis[points]) ** 2
            inside = squares <= self._chord
            yield owners[inside], points[inside]
            begin = end


@dataclass(frozen=True)
class _Span:
    """Which sorted points can be in circles, one span for each centre; all those of its inner part are in it."""

    centres: Integers
    start: Integers
    end: Integers
    inner_start: Integers
    inner_end: Integers


def _half_angle(left: Floats, product: Floats) -> Floats:
    """Return 2 asin √(left / product) in degrees; 180 if the quotient is not below 1."""
    is_less = product > np.maximum(left, 0.0)
    quotient = np.where(is_less, left / np.where(is_less, product, 1.0), 1.0)
    return np.asarray(np.degrees(2 * np.arcsin(np.sqrt(np.clip(quotient, 0.0, 1.0)))))
