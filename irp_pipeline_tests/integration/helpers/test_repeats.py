"""Repeated runs with other draws, by real jobs of a program that stands for Oasis LMF."""

import statistics
from dataclasses import replace

import pytest

from irp_pipeline.helpers.cycle import find_cycle
from irp_pipeline.helpers.database import execute_command, fetch_all
from irp_pipeline.helpers.repeats import RepeatError, repeat
from irp_pipeline.helpers.reruns import RerunError
from irp_pipeline.helpers.result import (
    SureOf,
    Uncertainty,
    finished_jobs,
    get_results,
    recorded_figures,
    recorded_uncertainty,
    repeated_content,
    repeated_figures,
)
from irp_pipeline_tests.support.quarters import Quarter, Quarters

AAL = SureOf("north_wind", "GUL", "AAL", None)


def known(cycle: str, batch_id: int) -> dict[SureOf, Uncertainty]:
    return recorded_uncertainty(cycle, recorded_figures(get_results(batch_id)))


def test_the_spread_is_that_of_the_figures_of_all_runs(quarters: Quarters):
    batch = quarters.run("Q1", Quarter())
    found = repeat("Q1", runs=3)
    assert found.left_out == {}
    jobs = [job for of in (batch, found.batch_id) for job in finished_jobs(of)]
    averages = [
        figure.loss
        for job in jobs
        for figure in job.figures
        if job.name.startswith("north_wind") and (figure.perspective, figure.metric) == ("GUL", "AAL")
    ]
    assert len(set(averages)) == 4
    of = next(figure for figure in found.figures if figure.key == AAL)
    assert (of.runs, of.loss, of.currency) == (4, averages[0], "GBP")
    assert of.deviation == statistics.stdev(averages)
    assert of.mean == pytest.approx(statistics.fmean(averages))
    sure = known("Q1", batch)
    saved = {(row["analysis_name"], row["metric"]) for row in get_results(batch).to_dict("records")}
    assert {(key.analysis_name, key.metric) for key in sure} == saved
    assert (sure[AAL].sampling_runs, sure[AAL].sampling_deviation) == (4, of.deviation)
    assert {of.sampling_error_unknown for of in sure.values()} == {None}


def test_a_group_is_added_up_for_each_draw(quarters: Quarters):
    """The two analyses have the same locations, so the same draws: their sum spreads twice as far as each of them."""
    quarters.run("Q1", Quarter())
    found = {figure.key: figure for figure in repeat("Q1", runs=4).figures}
    one, both = (found[SureOf(name, "GUL", "AAL", None)] for name in ("north_wind", "all_wind"))
    assert both.is_group
    assert both.deviation == pytest.approx(2 * one.deviation, rel=1e-5)
    curves = [figure for key, figure in found.items() if key.metric in {"OEP", "AEP"}]
    assert len(curves) == 3 * 2 * 6
    assert any(figure.deviation > 0 for figure in curves)


def test_what_was_run_is_not_run_again_and_more_runs_add_to_it(quarters: Quarters):
    quarters.run("Q1", Quarter())
    first = repeat("Q1", runs=2)
    runs = quarters.runs()
    assert sorted(runs[2:]) == [f"{name} → draws {n}" for name in ("north_wind", "south_wind") for n in (1, 2)]
    assert repeat("Q1", runs=2) == first
    assert quarters.runs() == runs
    more = repeat("Q1", runs=3, analyses=["north_wind"])
    assert quarters.runs()[len(runs) :] == ["north_wind → draws 3"]
    assert {figure.runs for figure in more.figures} == {4}
    assert more.left_out == {"all_wind": "of its members, these were not run again: south_wind"}
    repeat("Q1", runs=2, anew=True)
    assert len(quarters.runs()) == len(runs) + 1 + 4


def test_figures_that_changed_since_have_no_spread(quarters: Quarters):
    batch = quarters.run("Q1", Quarter())
    repeat("Q1", runs=2)
    execute_command(
        "UPDATE irp_analysis_result SET loss = loss + 1 WHERE analysis_name = 'north_wind' AND metric = 'AAL'"
    )
    left = {key.analysis_name for key in known("Q1", batch) if key.metric == "AAL"}
    assert left == {"south_wind", "all_wind"}


def test_an_analysis_without_samples_is_left_out(quarters: Quarters):
    quarters.run("Q1", Quarter())
    execute_command("UPDATE irp_job SET result_data = jsonb_set(result_data, '{provenance,losses_by}', '\"means\"')")
    with pytest.raises(RepeatError, match=r"Nothing can be run again.*\nnorth_wind: there are no samples"):
        repeat("Q1", runs=2)
    with pytest.raises(RepeatError, match="Q1 has no finished job of: east_wind"):
        repeat("Q1", runs=2, analyses=["east_wind"])
    with pytest.raises(RepeatError, match="at least 2"):
        repeat("Q1", runs=1)


@pytest.mark.parametrize(
    ("before", "then", "reason"),
    [
        (*[{"drawn_by": "AccNumber"}] * 2, "other location numbers did not change its draws"),
        ({}, {"means": 1.5}, "its losses depend on the numbers of locations by more than draws"),
    ],
)
def test_runs_that_do_not_differ_by_draws_alone_are_not_counted(quarters: Quarters, before, then, reason):
    quarters.engine_is(**before)
    quarters.run("Q1", Quarter())
    quarters.engine_is(**then)
    found = repeat("Q1", runs=2)
    assert found.figures == ()
    assert found.left_out["north_wind"].startswith(reason)
    cycle = find_cycle("Q1")
    assert cycle is not None
    assert repeated_figures(cycle.id) == []


def test_a_failed_run_is_submitted_again_by_the_same_command(quarters: Quarters):
    quarters.run("Q1", Quarter())
    quarters.engine_is(fails=["south_wind → draws 2"])
    with pytest.raises(RerunError, match=r"south_wind → draws 2 \(job \d+, FAILED\): the footprint has no such event"):
        repeat("Q1", runs=2)
    quarters.engine_is()
    assert repeat("Q1", runs=2).left_out == {}
    assert quarters.runs().count("north_wind → draws 1") == 1
    assert quarters.runs().count("south_wind → draws 2") == 2


def test_repeated_runs_are_no_figures_of_the_cycle(quarters: Quarters):
    quarters.run("Q1", replace(Quarter(), samples=4))
    before = fetch_all("SELECT * FROM irp_analysis_result ORDER BY id")
    repeat("Q1", runs=2)
    assert fetch_all("SELECT * FROM irp_analysis_result ORDER BY id") == before


def test_files_of_results_are_written_again_only_if_the_spread_is_another(quarters: Quarters):
    quarters.run("Q1", replace(Quarter(), samples=4))
    cycle = find_cycle("Q1")
    assert cycle is not None
    assert repeated_content(cycle.id) is None
    repeat("Q1", runs=2)
    first = repeated_content(cycle.id)
    assert first is not None
    repeat("Q1", runs=2, anew=True)
    assert repeated_content(cycle.id) == first
    repeat("Q1", runs=3)
    assert repeated_content(cycle.id) not in {None, first}
