"""Checks of figures among themselves: what is found, how bad it is, and what is let be."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from irp_pipeline.helpers.sanity.figures import (
    check_curves,
    check_figures,
    check_losses_of_zero,
    check_numbers,
    check_order,
)
from irp_pipeline.helpers.sanity.findings import Check, Severity
from irp_pipeline.helpers.sanity.subjects import JobFacts, Subject
from irp_pipeline.losses import Figure
from irp_pipeline.vocabulary import Metric, Perspective

GUL, IL, RI = Perspective
ALLOWED = JobFacts(analysis="wind", portfolio="homes", il_may_exceed_gul=True)
NOT_ALLOWED = replace(ALLOWED, il_may_exceed_gul=False)
NOT_STATED = replace(ALLOWED, il_may_exceed_gul=None)
BY_MEANS = replace(NOT_ALLOWED, is_by_means=True)
COVERED = replace(NOT_ALLOWED, tiv=500.0, tiv_by_reason={"outside": 100.0})
OUTSIDE = replace(NOT_ALLOWED, tiv=500.0, tiv_by_reason={"outside": 500.0})


def subject(*figures: Figure, jobs: tuple[JobFacts, ...] = (NOT_ALLOWED,), is_group: bool = False) -> Subject:
    return Subject(name="wind", is_group=is_group, currency="GBP", figures=figures, jobs=jobs)


def aal(loss: float, perspective: Perspective = GUL) -> Figure:
    return Figure(perspective, Metric.AAL, loss)


def oep(loss: float, years: float, perspective: Perspective = GUL) -> Figure:
    return Figure(perspective, Metric.OEP, loss, years)


def aep(loss: float, years: float, perspective: Perspective = GUL) -> Figure:
    return Figure(perspective, Metric.AEP, loss, years)


def loss_at(factor: float, loss: float, perspective: Perspective = GUL) -> Figure:
    return Figure(perspective, Metric.LOSS, loss, None, factor)


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf, -0.5])
def test_what_is_not_an_amount_of_loss_is_an_error(loss: float):
    [found] = check_numbers(subject(aal(1.0), oep(loss, 10)))
    assert (found.severity, found.check, found.size) == (Severity.ERROR, Check.NO_NUMBER, "1 of 2 figures")
    assert f"first OEP GUL at 10 years: {loss:,.2f}" in found.what


def test_of_a_segment_it_says_which_one():
    [found] = check_numbers(subject(aal(math.nan).of_segment(("CountryCode", "LOB"), ("GB", "home"))))
    assert "AAL GUL of CountryCode+LOB GB+home" in found.what


def test_amounts_are_no_finding():
    assert list(check_numbers(subject(aal(0.0), oep(1e12, 10)))) == []


@pytest.mark.parametrize(
    ("low", "high"),
    [
        (aal(100.2, IL), aal(100.0)),
        (aal(100.2, RI), aal(100.0, IL)),
        (oep(100.2, 50, IL), oep(100.0, 50)),
        (aep(100.2, 50, RI), aep(100.0, 50, IL)),
        (loss_at(0.5, 100.2, IL), loss_at(0.5, 100.0)),
    ],
)
def test_a_loss_above_that_of_the_perspective_before_is_an_error(low: Figure, high: Figure):
    [found] = check_order(subject(high, low))
    assert (found.severity, found.check, found.size) == (Severity.ERROR, Check.ORDER, "0.20 GBP")
    assert found.what.startswith(f"1 of 1 figures of {low.perspective} are above those of {high.perspective}")
    assert list(check_order(subject(high, replace(low, loss=high.loss)))) == []


def test_the_one_that_is_most_above_is_named():
    [found] = check_order(subject(aal(10), aal(11, IL), oep(50, 100), oep(90, 100, IL), oep(20, 10), oep(5, 10, IL)))
    assert found.what == (
        "2 of 3 figures of IL are above those of GUL; most the OEP IL at 100 years: 90.00, and 50.00 in GUL"
    )
    assert found.size == "40.00 GBP"


@pytest.mark.parametrize(
    ("jobs", "severity"),
    [
        ((NOT_ALLOWED,), Severity.ERROR),
        ((ALLOWED,), Severity.NOTE),
        ((NOT_STATED,), Severity.WARNING),
        ((BY_MEANS,), Severity.WARNING),
        ((NOT_ALLOWED, ALLOWED), Severity.NOTE),  # of a group
        ((NOT_ALLOWED, NOT_STATED), Severity.WARNING),
        ((), Severity.WARNING),
    ],
)
def test_what_the_jobs_say_decides_how_bad_an_insured_loss_above_the_ground_up_loss_is(jobs, severity):
    [found] = check_order(subject(aal(100), aal(200, IL), jobs=jobs, is_group=len(jobs) > 1))
    assert found.severity is severity


@pytest.mark.parametrize(("jobs", "severity"), [((ALLOWED,), Severity.ERROR), ((BY_MEANS,), Severity.WARNING)])
def test_no_terms_make_a_net_loss_above_the_insured_loss_right(jobs, severity):
    [found] = check_order(subject(aal(100, IL), aal(200, RI), jobs=jobs))
    assert found.severity is severity


def test_standard_deviations_and_segments_are_in_no_order():
    above = (Figure(GUL, Metric.STD_DEV, 1.0), Figure(IL, Metric.STD_DEV, 9.0))
    parts = tuple(figure.of_segment(("LOB",), ("home",)) for figure in (aal(1), aal(9, IL)))
    assert list(check_order(subject(*above, *parts))) == []


@given(
    st.lists(st.tuples(st.floats(0, 1e12), st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=20),
    st.floats(-9e-6, 9e-6),
)
def test_shares_of_a_loss_are_in_order_whatever_single_precision_makes_of_them(losses, error: float):
    figures = [
        figure
        for years, (loss, insured, net) in enumerate(losses, start=1)
        for figure in (oep(loss, years), oep(loss * insured * (1 + error), years, IL),
                       oep(loss * insured * net, years, RI))
    ]  # fmt: skip
    assert list(check_order(subject(*figures))) == []


@pytest.mark.parametrize(("loss", "is_above"), [(1e9 * (1 + 9e-6), False), (1e9 * (1 + 1.1e-5), True)])
def test_single_precision_is_let_be_and_no_more(loss: float, is_above: bool):
    assert bool(list(check_order(subject(aal(1e9), aal(loss, IL))))) is is_above
    assert bool(list(check_curves(subject(oep(loss, 10), oep(1e9, 50))))) is is_above
    assert bool(list(check_curves(subject(oep(loss, 10), aep(1e9, 10))))) is is_above


@pytest.mark.parametrize(("loss", "is_above"), [(0.009, False), (0.011, True)])
def test_a_cent_is_let_be(loss: float, is_above: bool):
    assert bool(list(check_order(subject(aal(0.0), aal(loss, IL))))) is is_above


def test_a_loss_that_falls_with_the_return_period_is_an_error():
    [found] = check_curves(subject(oep(100, 10), oep(90, 50), oep(120, 100), oep(115, 200)))
    assert (found.severity, found.check, found.size) == (Severity.ERROR, Check.CURVE, "10.00 GBP")
    assert found.what.endswith("most from the OEP GUL at 10 years, 100.00, to 90.00 at 50 years")


def test_an_event_that_costs_more_than_its_year_is_an_error_unless_years_have_weights():
    figures = (oep(100, 10), aep(90, 10), oep(100, 50), aep(150, 50))
    [found] = check_curves(subject(*figures))
    assert (found.severity, found.size) == (Severity.ERROR, "10.00 GBP")
    assert "OEP GUL at 10 years: 100.00, and 90.00 by AEP" in found.what
    assert list(check_curves(subject(*figures, jobs=(replace(NOT_ALLOWED, is_weighted=True),)))) == []


def test_curves_of_segments_are_checked_each_by_itself():
    home, shop = (
        figure.of_segment(("LOB",), (name,)) for figure, name in ((oep(90, 50), "home"), (oep(100, 10), "shop"))
    )
    assert list(check_curves(subject(home, shop, oep(95, 20)))) == []
    [found] = check_curves(subject(home, shop, oep(50, 50).of_segment(("LOB",), ("shop",))))
    assert "OEP GUL at 10 years of LOB shop" in found.what


@given(st.lists(st.tuples(st.integers(1, 10_000), st.floats(0, 1e12), st.floats(0, 1)), unique_by=lambda item: item[0]))
def test_curves_that_rise_are_no_finding(points):
    years = sorted(item[0] for item in points)
    losses = sorted(item[1] for item in points)
    figures = [
        figure
        for period, loss, (_, _, share) in zip(years, losses, points, strict=True)
        for figure in (aep(loss, period), oep(losses[0] * share, period))
    ]
    assert [one for one in check_curves(subject(*figures)) if "fall" not in one.what] == []
    assert list(check_curves(subject(*(figure for figure in figures if figure.metric is Metric.AEP)))) == []


def test_no_loss_at_a_loss_factor_is_an_error_if_the_model_covers_anything():
    [found] = check_losses_of_zero(subject(loss_at(0.1, 0.0), loss_at(1.0, 0.0), jobs=(COVERED,)))
    assert (found.severity, found.check, found.size) == (Severity.ERROR, Check.NO_LOSS, "2 figures")
    assert found.what == "all losses of the portfolio homes are zero, of which the model covers 400.00 GBP"


@pytest.mark.parametrize(
    ("figures", "job"),
    [
        ((loss_at(0.1, 0.0),), OUTSIDE),
        ((loss_at(0.1, 0.0),), NOT_ALLOWED),  # how much is covered is not known
        ((loss_at(0.1, 0.0, IL),), COVERED),  # the terms may take it
        ((aal(0.0), oep(0.0, 100)), COVERED),  # no event need hit what is covered
    ],
)
def test_other_losses_of_zero_are_a_warning(figures, job):
    [found] = check_losses_of_zero(subject(*figures, jobs=(job,)))
    assert found.severity is Severity.WARNING


def test_terms_that_take_all_losses_are_a_warning():
    [found] = check_losses_of_zero(subject(aal(100), aal(50, IL), aal(0, RI), oep(0, 100, RI)))
    assert (found.severity, found.what) == (
        Severity.WARNING,
        "there are no losses of RI: the terms take all of them away",
    )


def test_a_loss_anywhere_is_no_finding_and_groups_are_not_named_again():
    assert list(check_losses_of_zero(subject(aal(0.0), oep(0.0, 10), oep(1.0, 1000)))) == []
    assert list(check_losses_of_zero(subject(aal(0.0), jobs=(NOT_ALLOWED,) * 2, is_group=True))) == []


def test_a_figure_that_is_not_a_number_is_told_once():
    figures = (aal(math.nan), aal(5.0, IL), oep(math.nan, 10), oep(5.0, 50), aep(math.inf, 10), aep(9.0, 50))
    assert [found.check for found in check_figures(subject(*figures))] == [Check.NO_NUMBER]
