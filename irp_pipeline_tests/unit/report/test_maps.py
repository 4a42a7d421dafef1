"""The map of an exposure: where it lies, what is on it, and that it stays small."""

import re

import numpy as np
import pytest

from irp_pipeline.exposure.profile.grid import cells
from irp_pipeline.exposure.profile.records import Cell, Circle
from irp_pipeline.report.exposure import compact, percent, place, radius
from irp_pipeline.report.maps import classes, draw_map


def corners(svg: str) -> list[tuple[float, float]]:
    """The upper left corners of the cells that are drawn."""
    return [(float(x), float(y)) for x, y in re.findall(r"M([\d.]+) ([\d.]+)h[\d.]+v", svg)]


def size(svg: str) -> tuple[float, float]:
    width, height = re.findall(r'viewBox="0 0 (\d+) (\d+)"', svg)[0]
    return float(width), float(height)


def circle(latitude: float, longitude: float, rank: int = 1, metres: int = 1000) -> Circle:
    return Circle(
        radius=metres, rank=rank, latitude=latitude, longitude=longitude, account="A", location="1", tiv=1.0,
        locations=1, at_most=1.0,
    )  # fmt: skip


def test_every_cell_is_on_the_map_however_many_there_are() -> None:
    random = np.random.default_rng(1)
    many = cells(random.uniform(-90, 90, 50_000), random.uniform(-180, 180, 50_000), random.lognormal(0, 1, 50_000))
    svg = draw_map(many, [], "the whole Earth")
    width, height = size(svg)
    assert len(corners(svg)) == len(many) > 500
    assert all(0 <= x <= width and 0 <= y <= height for x, y in corners(svg))
    assert len(svg) < 60_000


def test_cells_on_both_sides_of_the_180th_meridian_are_side_by_side() -> None:
    found = cells(np.array([-17.0, -17.0]), np.array([179.9, -179.9]), np.array([1.0, 1.0]))
    svg = draw_map(found, [circle(-17.0, -179.9)], "Fiji")
    assert len(corners(svg)) == 2
    assert all(0 <= x <= size(svg)[0] for x, _ in corners(svg))
    assert "180°" in svg
    assert "179.9°E" in svg
    assert "179.9°W" in svg


def test_cells_are_small_wherever_the_westernmost_location_is() -> None:
    for longitude in np.round(np.random.default_rng(3).uniform(-179, 170, 1000), 5):
        found = cells(np.array([51.0, 52.0]), np.array([longitude, longitude + 1.0]), np.array([1.0, 1.0]))
        assert {cell.height for cell in found} == {0.05}, longitude


@pytest.mark.parametrize(("latitude", "longitude"), [(90, 0), (-90, 12), (0, 180), (51.5, -0.1)])
def test_one_place_has_a_map(latitude: float, longitude: float) -> None:
    svg = draw_map(cells(np.array([latitude]), np.array([longitude]), np.array([5.0])), [], "one place")
    ((x, y),) = corners(svg)
    width, height = size(svg)
    assert 0 < x < width < 800
    assert 0 <= y < height < 500
    assert svg.count('class="line"') >= 4


def test_only_the_largest_circles_are_marked_and_a_label_is_escaped() -> None:
    found = cells(np.array([51.5, 52.5]), np.array([0.1, 0.2]), np.array([5.0, 6.0]))
    svg = draw_map(found, [circle(51.5, 0.1), circle(52.5, 0.2, 2), circle(51.5, 0.1, 1, 250)], 'a "map" <of>')
    assert svg.count('class="mark"') == 2
    assert "a &#34;map&#34; &lt;of&gt;" in svg


def test_classes_divide_the_cells_and_begin_at_rounded_amounts() -> None:
    amounts = [float(amount) for amount in range(1, 1001)]
    found = classes([Cell(south=0, west=0, height=1, width=1, tiv=amount, locations=1) for amount in amounts])
    assert [item.above for item in found] == [0, 250, 500, 750, 900]
    assert sorted(cell.tiv for item in found for cell in item.cells) == amounts
    same = classes([Cell(south=0, west=0, height=1, width=1, tiv=7.0, locations=1)] * 3)
    assert [(item.above, len(item.cells)) for item in same] == [(0, 3)]
    nothing = classes([Cell(south=0, west=0, height=1, width=1, tiv=0.0, locations=1)])
    assert [len(item.cells) for item in nothing] == [1]


def test_values_are_shown_in_words() -> None:
    assert [compact(value) for value in (0, 999, 1_250, 3_400_000, 7.2e9, 1.5e12)] == [
        "0", "999", "1.25 k", "3.4 m", "7.2 bn", "1.5 tn",
    ]  # fmt: skip
    assert [percent(value) for value in (0, 0.01, 12.34, 99.99, 100)] == ["0.0%", "< 0.1%", "12.3%", "> 99.9%", "100%"]
    assert (radius(1000), radius(250)) == ("1 km", "250 m")
    assert place(circle(-33.9, 151.21)) == "33.9000° S, 151.2100° E"
