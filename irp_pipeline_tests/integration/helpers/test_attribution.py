"""Attribution: parts of the change between two cycles, by real jobs of a program that stands for Oasis LMF."""

import math
import shutil
from dataclasses import replace

import pytest

from irp_pipeline import settings
from irp_pipeline.helpers.attribution import Attributed, AttributionError, Factor, attribute, find_attribution, order_of
from irp_pipeline.helpers.attribution.paths import paths_of
from irp_pipeline.helpers.batch import batches_of_cycle
from irp_pipeline.helpers.cycle import archive_cycle, find_cycle
from irp_pipeline.helpers.cycle_lookup import Cycle, CycleError
from irp_pipeline.helpers.database import execute_command, execute_query, fetch_all
from irp_pipeline.helpers.reruns import RerunError
from irp_pipeline_tests.support.quarters import Quarter, Quarters, changed, place, policy, write_version

BEFORE = Quarter()
EXPOSURE = replace(BEFORE, places=[*changed(BEFORE, lambda row: {"BuildingTIV": 110_000}), place(9, at=57)])
TERMS = replace(BEFORE, places=changed(BEFORE, lambda row: {"LocDed6All": 900}), policies=[policy(limit=9_000)])
MODEL = replace(BEFORE, model="model-2/grid/tests/test_1")
SETTINGS = replace(BEFORE, loss_multiplier=1.5)
ALL = replace(EXPOSURE, policies=[policy(limit=9_000)], model=MODEL.model, samples=12, loss_multiplier=1.5)


def parts(found: Attributed, name: str = "north_wind", perspective: str = "IL") -> dict[Factor, float]:
    """The parts of the AAL of an analysis."""
    return {
        part.factor: part.change
        for part in found.attribution.parts
        if (part.analysis_name, part.point.perspective, part.point.metric) == (name, perspective, "AAL")
    }


def cycle(name: str) -> Cycle:
    found = find_cycle(name)
    assert found is not None
    return found


def remarks(found: Attributed) -> dict[Factor, str]:
    return {part.factor: part.remark for part in found.attribution.parts if part.analysis_name == "north_wind"}


def saved(cycle: str) -> dict[tuple[str, str, str, float | None], float]:
    rows = fetch_all(
        """
        SELECT r.* FROM irp_analysis_result r JOIN irp_batch b ON b.id = r.batch_id
          JOIN irp_configuration f ON f.id = b.configuration_id JOIN irp_cycle c ON c.id = f.cycle_id
         WHERE c.cycle_name = %s
        """,
        (cycle,),
    )
    return {
        (row["analysis_name"], row["perspective"], row["metric"], row["return_period"]): row["loss"] for row in rows
    }


def check_sums(found: Attributed, earlier: str = "Q1", later: str = "Q2") -> None:
    """Every figure of both cycles has parts, which begin and end with the saved figures and add up to the cent."""
    before, after = saved(earlier), saved(later)
    paths = paths_of(found.attribution.parts)
    keys = [(path[0].analysis_name, *path[0].point[:3]) for path in paths]
    wanted = {key for key in before.keys() & after.keys() if key[2] in {"AAL", "OEP", "AEP"}}
    assert set(keys) == wanted
    assert len(wanted) == 3 * 2 * 7
    for key, path in zip(keys, paths, strict=True):
        assert [part.factor for part in path] == [Factor.ENGINE, *found.order, Factor.ENGINE_OF_LATER]
        assert math.fsum(part.change for part in path) == pytest.approx(after[key] - before[key], abs=0.005)
        assert (path[0].before, path[-1].after) == (before[key], after[key])


@pytest.mark.parametrize(
    ("later", "factor", "perspective"),
    [
        (EXPOSURE, Factor.EXPOSURE, "GUL"),
        (TERMS, Factor.TERMS, "IL"),
        (MODEL, Factor.MODEL, "GUL"),
        (SETTINGS, Factor.SETTINGS, "GUL"),
    ],
    ids=lambda value: str(value) if isinstance(value, Factor) else "",
)
def test_of_one_change_all_other_parts_are_exactly_zero(quarters: Quarters, later, factor, perspective):
    quarters.run("Q1", BEFORE)
    quarters.run("Q2", later)
    found = attribute("Q2")
    check_sums(found)
    assert {of for of, change in parts(found, perspective=perspective).items() if change != 0} == {factor}
    assert {part.factor for part in found.attribution.parts if part.change != 0} == {factor}
    errors = {part.sampling_error for part in found.attribution.parts if part.factor is not factor}
    assert errors == {0.0}
    assert [remark != "" for remark in remarks(found).values()].count(True) == 1
    assert remarks(found)[factor]


def test_in_any_order_the_parts_add_up(quarters: Quarters):
    quarters.run("Q1", BEFORE)
    quarters.run("Q2", ALL)
    found = {}
    for text in ("exposure", "settings,model,terms"):
        found[text] = attribute("Q2", "Q1", order=order_of(text))
        check_sums(found[text])
        every = parts(found[text])
        assert all(every[factor] != 0 for factor in found[text].order)
        assert every[Factor.ENGINE] == every[Factor.ENGINE_OF_LATER] == 0
    one, other = (parts(of) for of in found.values())
    assert one[Factor.EXPOSURE] != other[Factor.EXPOSURE]
    words = remarks(found["exposure"])
    assert words[Factor.EXPOSURE] == "locations: 1 new, 5 changed"
    assert words[Factor.MODEL] == "model version 1 → 2"
    assert words[Factor.SETTINGS] == "samples 8 → 12; setting loss_multiplier not stated → 1.5"
    of_group = parts(found["exposure"], "all_wind", "GUL")
    members = [parts(found["exposure"], name, "GUL") for name in ("north_wind", "south_wind")]
    for factor, change in of_group.items():
        assert change == pytest.approx(sum(of[factor] for of in members), rel=1e-6)


def test_new_accounts_and_locations_bring_their_own_terms(quarters: Quarters):
    quarters.run("Q1", BEFORE)
    new = replace(BEFORE, places=[*BEFORE.places, place(1, "NEW", ded=0)], policies=[policy(), policy("NEW", 50)])
    quarters.run("Q2", new)
    found = parts(attribute("Q2"))
    assert {factor for factor, change in found.items() if change != 0} == {Factor.EXPOSURE}


def test_the_engine_is_the_earlier_cycle_run_again_today(quarters: Quarters):
    quarters.run("Q1", BEFORE)
    quarters.engine_is("2", drift=1.1)
    quarters.run("Q2", EXPOSURE)
    found = attribute("Q2")
    check_sums(found)
    engine = parts(found, perspective="GUL")[Factor.ENGINE]
    assert engine == pytest.approx(0.1 * saved("Q1")["north_wind", "GUL", "AAL", None], rel=1e-5)
    assert parts(found)[Factor.ENGINE_OF_LATER] == 0
    assert remarks(found)[Factor.ENGINE] == "engine version 1 → 2"
    quarters.engine_is("3", drift=1.2)
    found = attribute("Q2", anew=True)
    check_sums(found)
    assert parts(found, perspective="GUL")[Factor.ENGINE_OF_LATER] < 0
    assert remarks(found)[Factor.ENGINE_OF_LATER] == "engine version 3 → 2"


def test_a_pure_renumbering_is_named_beside_its_part(quarters: Quarters):
    quarters.run("Q1", BEFORE)
    quarters.run("Q2", replace(BEFORE, places=changed(BEFORE, lambda row: {"LocNumber": f"X{row['LocNumber']}"})))
    found = attribute("Q2")
    check_sums(found)
    assert {factor for factor, change in parts(found).items() if change != 0} == {Factor.EXPOSURE}
    assert remarks(found)[Factor.EXPOSURE] == "locations: 5 renumbered; renumbered locations draw anew"
    of_part = next(
        part for part in found.attribution.parts if part.factor is Factor.EXPOSURE and part.point.metric == "AAL"
    )
    assert of_part.sampling_error is not None
    assert 0 < abs(of_part.change) < 4 * of_part.sampling_error  # other draws, and nothing else


def test_without_the_earlier_model_it_is_refused(quarters: Quarters):
    quarters.run("Q1", BEFORE)
    quarters.run("Q2", MODEL)
    shutil.rmtree(settings.models_folder() / "model-1")
    with pytest.raises(
        AttributionError, match="the model of Q1 is not there as its losses were computed with: there is no"
    ):
        attribute("Q2")
    write_version("1")
    path = settings.models_folder() / "model-1" / "grid" / "tests" / "test_1" / "model_settings.json"
    path.write_text(path.read_text() + "\n")
    with pytest.raises(
        AttributionError, match=r"the model of Q1 .* has changed since\. Put that version into the models"
    ):
        attribute("Q2")
    assert len(quarters.runs()) == 4


def test_a_portfolio_that_is_gone_is_named(quarters: Quarters):
    quarters.run("Q1", BEFORE)
    quarters.run("Q2", EXPOSURE)
    (settings.cycle_dir(quarters.schema, "Q1") / "portfolios" / "north" / "location.csv").unlink()
    found = attribute("Q2")
    assert list(found.left_out) == ["north_wind", "all_wind"]
    assert "the portfolio of Q1 is not as its losses were computed with: location.csv" in found.left_out["north_wind"]
    assert found.left_out["all_wind"] == "of its members, these are not attributed: north_wind"
    assert {part.analysis_name for part in found.attribution.parts} == {"south_wind"}


def test_another_currency_is_refused(quarters: Quarters):
    quarters.run("Q1", BEFORE)
    quarters.run("Q2", replace(EXPOSURE, currency="EUR"))
    with pytest.raises(AttributionError, match="north_wind: its losses are in GBP in Q1 and in EUR in Q2"):
        attribute("Q2")


def test_a_second_call_runs_nothing_again(quarters: Quarters):
    quarters.run("Q1", BEFORE)
    quarters.run("Q2", EXPOSURE)
    first = attribute("Q2")
    runs = quarters.runs()
    assert sorted(runs[4:]) == [
        f"{name} → {what}" for name in ("north_wind", "south_wind") for what in ("engine", "exposure")
    ]
    again = attribute("Q2")
    assert quarters.runs() == runs
    assert again.attribution.parts == first.attribution.parts
    assert again.attribution.batch_id == first.attribution.batch_id
    table = execute_query("SELECT * FROM irp_attribution WHERE analysis_name = 'north_wind' AND metric = 'AAL'")
    assert (table["loss_after"] - table["loss_before"] == table["change"]).all()


def test_a_failed_job_is_submitted_again_by_the_same_command(quarters: Quarters):
    quarters.run("Q1", BEFORE)
    quarters.run("Q2", EXPOSURE)
    quarters.engine_is(fails=["south_wind → exposure"])
    with pytest.raises(RerunError, match=r"south_wind → exposure \(job \d+, FAILED\): the footprint has no such"):
        attribute("Q2")
    assert find_attribution(cycle("Q2")) is None
    quarters.engine_is()
    check_sums(attribute("Q2"))
    assert quarters.runs()[4:].count("north_wind → exposure") == 1
    assert quarters.runs()[4:].count("south_wind → exposure") == 2


def test_figures_that_changed_since_are_no_longer_attributed(quarters: Quarters):
    quarters.run("Q1", BEFORE)
    quarters.run("Q2", EXPOSURE)
    attribute("Q2")
    execute_command(
        "UPDATE irp_analysis_result SET loss = loss + 1 WHERE analysis_name = 'north_wind' AND metric = 'AAL'"
    )
    found = find_attribution(cycle("Q2"), "Q1")
    assert found is not None
    left = {part.analysis_name for part in found.parts if part.point.metric == "AAL"}
    assert left == {"south_wind", "all_wind"}
    assert find_attribution(cycle("Q2"), "Q0") is None


def test_jobs_between_cycles_are_no_figures_of_a_cycle(quarters: Quarters):
    """The pipeline, comparisons and reports go on with the batch of analyses."""
    quarters.run("Q1", BEFORE)
    batch = quarters.run("Q2", EXPOSURE)
    before = saved("Q2")
    found = attribute("Q2")
    assert saved("Q2") == before
    assert {of.id: of.batch_type for of in batches_of_cycle(cycle("Q2").id)} == {
        batch: "analysis",
        found.attribution.batch_id: "attribution",
    }
    archive_cycle(cycle("Q2").id)
    with pytest.raises(CycleError, match="archived"):
        attribute("Q2")
