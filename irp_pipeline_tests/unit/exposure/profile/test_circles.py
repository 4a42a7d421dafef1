"""The circles that insure the most: by hand where the Earth is awkward, and against all pairs elsewhere."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irp_pipeline.exposure.profile.circles import EARTH_RADIUS, Found, largest_circles

METRES_PER_DEGREE = EARTH_RADIUS * np.pi / 180  # of latitude, and of longitude at the equator


def circles(places: Sequence[tuple[float, float, float]], radius: float = 1000, count: int = 3) -> list[Found]:
    latitudes, longitudes, values = (np.array(column, float) for column in zip(*places, strict=True))
    return largest_circles(latitudes, longitudes, values, radius, count)


def test_a_circle_ends_at_its_radius() -> None:
    inside, outside = 999 / METRES_PER_DEGREE, 1001 / METRES_PER_DEGREE
    first, second = circles([(0, 10, 100), (inside, 10, 10), (0, 10 - inside, 7), (outside, 10 - outside, 5)])
    assert (first.centre, first.value, first.locations) == (0, 117, 3)
    assert (second.centre, second.value, second.locations) == (3, 5, 1)


def test_locations_on_both_sides_of_the_180th_meridian_are_neighbours() -> None:
    half = 300 / METRES_PER_DEGREE
    (found,) = circles([(0, 180 - half, 1), (0, -180 + half, 2), (0, 180, 4), (0, -180, 8), (0.004, -180, 16)])
    assert (found.value, found.locations) == (31, 5)


def test_locations_on_both_sides_of_the_zeroth_meridian_are_neighbours() -> None:
    half = 300 / METRES_PER_DEGREE
    (found,) = circles([(51.5, -half, 1), (51.5, half, 2)])
    assert (found.value, found.locations) == (3, 2)


@pytest.mark.parametrize("sign", [1, -1])
def test_all_longitudes_meet_at_a_pole(sign: int) -> None:
    near = 90 - 400 / METRES_PER_DEGREE
    around = [(sign * near, longitude, 1) for longitude in (-170, -60, 30, 120)]
    (found,) = circles([*around, (sign * 90, 0, 1), (sign * 90, 77, 1)])
    assert (found.value, found.locations) == (6, 6)  # 800 m from one side of the pole to the other


def test_locations_at_one_place_count_together_and_the_first_is_the_centre() -> None:
    first, second = circles([(50, 8, 3), (48, 2, 4), (48, 2, 5), (48, 2, 6)], radius=250)
    assert (first.centre, first.value, first.locations) == (1, 15, 3)
    assert (second.centre, second.value, second.locations) == (0, 3, 1)


def test_no_location_counts_twice() -> None:
    step = 900 / METRES_PER_DEGREE
    found = circles([(0, number * step, 1) for number in range(1, 8)], count=9)
    assert [circle.value for circle in found] == [3, 3, 1]
    assert sum(circle.locations for circle in found) == 7


def test_what_insures_nothing_has_no_circle() -> None:
    assert circles([(50, 8, 0), (48, 2, 0), (40, 2, -5)]) == []
    assert largest_circles(np.array([]), np.array([]), np.array([]), 1000, 3) == []


def test_a_search_that_is_cut_short_says_how_much_another_circle_may_hold() -> None:
    random = np.random.default_rng(3)
    latitudes, longitudes = 50 + random.uniform(0, 0.02, 3000), 10 + random.uniform(0, 0.03, 3000)
    ones = np.ones(3000)
    (exact,) = largest_circles(latitudes, longitudes, ones, 500, 1)
    (short,) = largest_circles(latitudes, longitudes, ones, 500, 1, most_pairs=1)
    assert short.value <= exact.value < short.at_most < 1.2 * short.value
    assert exact.at_most == exact.value


offsets = st.floats(-0.02, 0.02)
clusters = st.tuples(
    st.sampled_from([0.0, 51.5, -33.9, 89.99, -89.995]),
    st.sampled_from([0.0, 10.0, 179.99, -179.995]),
    st.lists(st.tuples(offsets, offsets, st.integers(0, 50)), min_size=1, max_size=40),
)


@settings(max_examples=50)
@given(st.lists(clusters, min_size=1, max_size=3), st.sampled_from([250, 1000]), st.sampled_from([2, 3, 9]))
def test_the_search_finds_what_all_pairs_find(found, radius, digits) -> None:
    places = [
        (np.clip(round(south + north, digits), -90, 90), (round(west + east, digits) + 180) % 360 - 180, value)
        for south, west, members in found
        for north, east, value in members
    ]
    expected = _by_all_pairs(places, radius)
    circle = next(iter(circles(places, radius, count=1)), None)
    assert (circle.value if circle else 0) in expected


def _by_all_pairs(places, radius) -> tuple[float, ...]:
    """The largest sum, with what lies within a millimetre of the radius counted and not counted."""
    latitude, longitude, value = (np.array(column, float) for column in zip(*places, strict=True))
    phi, lam = np.radians(latitude), np.radians(longitude)
    haversine = np.sin((phi[:, None] - phi) / 2) ** 2
    haversine += np.cos(phi[:, None]) * np.cos(phi) * np.sin((lam[:, None] - lam) / 2) ** 2
    distance = 2 * EARTH_RADIUS * np.arcsin(np.minimum(1, np.sqrt(haversine)))
    return tuple(float(((distance <= radius + edge) @ value).max()) for edge in (-1e-3, 1e-3))
