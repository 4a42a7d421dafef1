"""The map of an exposure: cells of a grid shaded by insured value, over lines of latitude and longitude.

SVG that needs no tiles, no script and no network. Colours are those of the page, so that it follows light and dark.
The projection is equirectangular, true to scale at the middle latitude of the map.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from irp_pipeline.exposure.profile.records import RADII, Cell, Circle

if TYPE_CHECKING:
    from markupsafe import Markup

_WIDTH, _HEIGHT = 660.0, 420.0  # of the map itself, at most
_LEFT, _BELOW, _ABOVE, _RIGHT = 58.0, 24.0, 8.0, 14.0  # for the labels
_LEAST_COSINE: Final = 0.1
_LEAST_CELLS: Final = 6  # in each direction, so that one place has something around it
_STEPS: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0)
_MOST_LINES: Final = 6
_KILOMETRES_PER_DEGREE: Final = 111.195  # of latitude, on a sphere with the Earth's mean radius
_SHARES: Final = (0.25, 0.5, 0.75, 0.9)
"""The shares of the cells at which classes of insured value begin."""


@dataclass(frozen=True)
class Class:
    """A class of cells: those with more than ``above``, in units of the currency, and at most the next class's."""

    above: float
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class _Frame:
    """Where the map lies, in degrees, and pixels per degree."""

    south: float
    west: float
    height: float
    width: float
    vertical: float
    horizontal: float

    def x(self, longitude: float) -> float:
        return _LEFT + ((longitude - self.west) % 360.0) * self.horizontal

    def y(self, latitude: float) -> float:
        return _ABOVE + (self.south + self.height - latitude) * self.vertical

    @property
    def right(self) -> float:
        return _LEFT + self.width * self.horizontal

    @property
    def bottom(self) -> float:
        return _ABOVE + self.height * self.vertical


def draw_map(cells: Sequence[Cell], circles: Sequence[Circle], label: str) -> Markup:
    """Draw a map.

    Args:
        cells: the cells, at least one.
        circles: those of the largest radius are marked with their ranks.
        label: what the map shows, for readers who do not see it.

    Returns:
        An SVG element. Its size is below 60 kB, whatever the number of locations.
    """
    from markupsafe import Markup, escape

    frame = _frame(cells)
    width, height = frame.right + _RIGHT, frame.bottom + _BELOW
    size = f'viewBox="0 0 {width:.0f} {height:.0f}" style="max-width:{width:.0f}px"'
    edge = f'width="{frame.right - _LEFT:.1f}" height="{frame.bottom - _ABOVE:.1f}"'
    parts = [
        f'<svg class="map" {size} role="img" aria-label="{escape(label)}">',
        f'<rect class="sea" x="{_LEFT:.1f}" y="{_ABOVE:.1f}" {edge}/>',
        *_graticule(frame),
        *_cells(frame, cells),
        *_marks(frame, circles),
        *_scale(frame),
        "</svg>",
    ]
    return Markup("".join(parts))  # noqa: S704 - numbers of ours, and one label that is escaped


def classes(cells: Sequence[Cell]) -> list[Class]:
    """Divide cells into at most five classes by insured value, at rounded amounts; empty classes are left out."""
    ordered = sorted(cell.tiv for cell in cells)
    edges = sorted({_rounded(ordered[min(int(share * len(ordered)), len(ordered) - 1)]) for share in _SHARES})
    edges = [edge for edge in edges if 0 < edge < ordered[-1]]
    found = []
    for low, high in zip([-math.inf, *edges], [*edges, math.inf], strict=True):
        inside = tuple(cell for cell in cells if low < cell.tiv <= high)
        if inside:
            found.append(Class(max(low, 0.0), inside))
    return found


def _frame(cells: Sequence[Cell]) -> _Frame:
    height, width = cells[0].height, cells[0].width
    west = _western_edge(sorted({cell.west for cell in cells}))
    columns = round(max((cell.west - west) % 360.0 for cell in cells) / width) + 1
    low, high = min(cell.south for cell in cells), max(cell.south for cell in cells) + height
    rows = round((high - low) / height)
    beside, beyond = max(1, (_LEAST_CELLS - columns + 1) // 2), max(1, (_LEAST_CELLS - rows + 1) // 2)
    south, north = max(low - beyond * height, -90.0), min(high + beyond * height, 90.0)
    across = min((columns + 2 * beside) * width, 360.0)
    cosine = max(math.cos(math.radians((south + north) / 2)), _LEAST_COSINE)
    vertical = min(_HEIGHT / (north - south), _WIDTH / (across * cosine))
    return _Frame(south, west - beside * width, north - south, across, vertical, vertical * cosine)


def _western_edge(longitudes: Sequence[float]) -> float:
    """Return the longitude after the widest gap around the Earth."""
    following = [*longitudes[1:], longitudes[0] + 360.0]
    gaps = [after - before for before, after in zip(longitudes, following, strict=True)]
    return longitudes[(gaps.index(max(gaps)) + 1) % len(longitudes)]


def _graticule(frame: _Frame) -> Iterator[str]:
    step = _step(max(frame.height, frame.width * frame.horizontal / frame.vertical))
    number = math.ceil(frame.south / step)
    while number * step <= frame.south + frame.height:
        y = frame.y(number * step)
        yield f'<path class="line" d="M{_LEFT:.1f} {y:.1f}H{frame.right:.1f}"/>'
        yield f'<text x="{_LEFT - 6:.1f}" y="{y + 4:.1f}" text-anchor="end">{_degrees(number * step, "N", "S")}</text>'
        number += 1
    # Towards the poles the lines of longitude are closer, and their labels would touch.
    across = max(step, _step(frame.width * 60.0 * _MOST_LINES / (frame.right - _LEFT)) if frame.width else step)
    number = math.ceil(frame.west / across)
    while number * across <= frame.west + frame.width:
        x = _LEFT + (number * across - frame.west) * frame.horizontal
        yield f'<path class="line" d="M{x:.1f} {_ABOVE:.1f}V{frame.bottom:.1f}"/>'
        longitude = (number * across + 180.0) % 360.0 - 180.0
        yield (
            f'<text x="{x:.1f}" y="{frame.bottom + 16:.1f}" text-anchor="middle">{_degrees(longitude, "E", "W")}</text>'
        )
        number += 1


def _cells(frame: _Frame, cells: Sequence[Cell]) -> Iterator[str]:
    for number, members in enumerate(classes(cells)):
        path = []
        for cell in members.cells:
            x, y = frame.x(cell.west), frame.y(cell.south + cell.height)
            width, height = cell.width * frame.horizontal, cell.height * frame.vertical
            path.append(f"M{x:.1f} {y:.1f}h{width:.1f}v{height:.1f}h{-width:.1f}z")
        yield f'<path class="cell c{number}" d="{"".join(path)}"/>'


def _marks(frame: _Frame, circles: Sequence[Circle]) -> Iterator[str]:
    for circle in sorted(circles, key=lambda circle: -circle.rank):
        if circle.radius == RADII[0]:
            x, y = frame.x(circle.longitude), frame.y(circle.latitude)
            yield (
                f'<g class="mark"><circle cx="{x:.1f}" cy="{y:.1f}" r="8"/>'
                f'<text x="{x:.1f}" y="{y + 4:.1f}" text-anchor="middle">{circle.rank}</text></g>'
            )


def _scale(frame: _Frame) -> Iterator[str]:
    kilometre = frame.vertical / _KILOMETRES_PER_DEGREE
    length = next(
        (
            size
            for size in (1000, 500, 200, 100, 50, 20, 10, 5, 2, 1)
            if size * kilometre <= 0.3 * (frame.right - _LEFT)
        ),
        0,
    )
    if length:
        x, y = _LEFT + 10.0, frame.bottom - 10.0
        yield f'<path class="scale" d="M{x:.1f} {y - 4:.1f}v4h{length * kilometre:.1f}v-4"/>'
        yield f'<text x="{x + 4:.1f}" y="{y - 8:.1f}">{length:,} km</text>'


def _step(extent: float) -> float:
    return next((step for step in _STEPS if extent / step <= _MOST_LINES), _STEPS[-1])


def _degrees(value: float, positive: str, negative: str) -> str:
    rounded = round(abs(value), 3)
    letter = "" if rounded in {0.0, 180.0} else positive if value > 0 else negative
    return f"{rounded:g}°{letter}"


def _rounded(amount: float) -> float:
    """Round to two significant digits."""
    if amount <= 0:
        return 0.0
    places = 1 - math.floor(math.log10(amount))
    return round(amount, places)
