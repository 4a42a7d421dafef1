"""The drawing of exceedance curves: losses and return periods are where they belong."""

import itertools
import math

import pytest

from irp_pipeline.losses import Figure
from irp_pipeline.pages.curves import HEIGHT, WIDTH, Drawing, draw, in_units
from irp_pipeline.pages.figures import Subject
from irp_pipeline.vocabulary import Metric, Perspective


def drawn(*points: tuple[float, float], metric: Metric = Metric.OEP) -> Drawing | None:
    figures = tuple(Figure(Perspective.GUL, metric, loss, period) for period, loss in points)
    return draw(Subject(name="wind", is_group=False, currency="EUR", figures=figures))


def test_return_periods_are_logarithmic_and_losses_begin_at_zero() -> None:
    drawing = drawn((10, 100.0), (100, 250.0), (1000, 400.0))
    assert drawing is not None
    ((x1, y1), (x2, y2), (x3, y3)) = drawing.lines[0].points
    assert x2 - x1 == pytest.approx(x3 - x2, abs=0.2)
    assert (x1, x3) == (drawing.left, drawing.right)
    assert (y1 - y2) == pytest.approx(y2 - y3, abs=0.2)
    assert [tick.label for tick in drawing.losses] == ["0", "100", "200", "300", "400"]
    assert y1 == drawing.losses[1].at
    assert y3 == drawing.losses[4].at


@pytest.mark.parametrize("losses", [(0.0, 0.0), (5e-324, 1e-320), (1.0, 1.7e308), (0.1, 999_999_999.999)])
def test_everything_is_within_the_drawing_whatever_the_losses(losses: tuple[float, float]) -> None:
    drawing = drawn((2, losses[0]), (2.5, losses[1]))
    assert drawing is not None
    for x, y in drawing.lines[0].points:
        assert 0 <= x <= WIDTH
        assert 0 <= y <= HEIGHT


def test_labels_do_not_touch_each_other() -> None:
    drawing = drawn(*((float(period), period * 2.0) for period in range(1, 200)))
    assert drawing is not None
    places = [tick.at for tick in drawing.years]
    assert min(second - first for first, second in itertools.pairwise(places)) >= 44


def test_what_is_no_curve_is_not_drawn() -> None:
    assert drawn() is None
    assert drawn((100, 5.0)) is None
    assert drawn((10, math.nan), (100, 5.0)) is None
    assert drawn((10, 1.0), (100, 5.0), metric=Metric.AAL) is None


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (999, "999"), (1500, "1.5k"), (2.5e6, "2.5m"), (3e9, "3bn"), (4e13, "40T")]
)
def test_amounts_are_brief(value: float, text: str) -> None:
    assert in_units(value) == text
