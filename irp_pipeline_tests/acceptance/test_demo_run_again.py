"""The demonstration's homes run again with Oasis LMF compiled: one change for each cycle, and its part alone; draws."""

import csv
import math
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from irp_pipeline import settings
from irp_pipeline.demo import write_model
from irp_pipeline.demo.portfolio import Quarter, write_portfolios
from irp_pipeline.engines.oasis.compilation import compiled_folder
from irp_pipeline.helpers.attribution import Attributed, Factor, attribute, order_of
from irp_pipeline.helpers.attribution.paths import paths_of
from irp_pipeline.helpers.database import execute_command, execute_scalar
from irp_pipeline.helpers.repeats import repeat
from irp_pipeline.helpers.result import finished_jobs
from irp_pipeline.helpers.result.uncertainty import mean_of
from irp_pipeline.workbook import Workbook, read_workbook
from irp_pipeline_tests.support.quarters import run_cycle

pytestmark = [pytest.mark.engine, pytest.mark.timeout(1800)]

ANALYSIS = "residential_wind"
Edit = Callable[[dict[str, str]], object]


def edited(folder: Path, table: str, edit: Edit) -> None:
    """Change each row of a table of the homes."""
    path = folder / "portfolios" / "residential" / f"{table}.csv"
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        edit(row)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def exposure(folder: Path, content: dict[str, Any]) -> None:
    edited(folder, "location", lambda row: row.update(BuildingTIV=str(float(row["BuildingTIV"]) * 1.1)))


def terms(folder: Path, content: dict[str, Any]) -> None:
    edited(folder, "location", lambda row: row.update(LocDed6All="5000"))
    edited(folder, "ri_info", lambda row: row.update(OccAttachment=str(float(row["OccAttachment"]) * 1.2)))


def model(folder: Path, content: dict[str, Any]) -> None:
    content["analyses"][0]["model"] = Quarter.SECOND.release.folder


def settings_of(folder: Path, content: dict[str, Any]) -> None:
    content["analyses"][0]["samples"] = 5


def renumbering(folder: Path, content: dict[str, Any]) -> None:
    edited(folder, "location", lambda row: row.update(LocNumber=f"N{row['LocNumber']}"))


CHANGES = {"Exposure": exposure, "Terms": terms, "Model": model, "Settings": settings_of, "Renumbering": renumbering}


@pytest.fixture(scope="module")
def attributed(test_schema: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Attributed]]:
    """Attribute the change to a cycle, which differs from the first one in some ways."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("IRP_DATABASE_URL", settings.database_url().render_as_string(hide_password=False))
        environment.setenv("IRP_HOME", str(tmp_path_factory.mktemp("home")))
        environment.delenv("NUMBA_DISABLE_JIT", raising=False)
        settings.make_irp_home()
        for quarter in Quarter:
            write_model(settings.models_folder() / quarter.release.folder, quarter.release)
        source = tmp_path_factory.mktemp("sample")
        content = read_workbook(write_portfolios(source), models_dir=settings.models_folder()).to_json()
        content["portfolios"] = [item for item in content["portfolios"] if item["name"] == "residential"]
        content["analyses"] = [
            item | {"samples": 4, "segments": []} for item in content["analyses"] if item["name"] == ANALYSIS
        ]
        content["groupings"] = []

        def run(name: str, *changes: str) -> None:
            folder = settings.cycle_dir(test_schema, name)
            for place in (folder / "residential", folder / "portfolios" / "residential"):
                shutil.copytree(source / "residential", place)
            changed = {**content, "analyses": [dict(item) for item in content["analyses"]]}
            for change in changes:
                CHANGES[change](folder, changed)
            run_cycle(name, Workbook.model_validate(changed))

        run("First")

        def attribute_to(name: str, *changes: str, order: str = "") -> Attributed:
            if changes:
                run(name, *changes)
            return attribute(name, "First", order=order_of(order) if order else order_of("exposure"))

        yield attribute_to
        execute_command("DELETE FROM irp_cycle")


def check_sums(found: Attributed) -> None:
    paths = paths_of(found.attribution.parts)
    assert len(paths) == 3 * (1 + 2 * 10)  # AAL, OEP and AEP of all perspectives
    for path in paths:
        assert math.fsum(part.change for part in path) == pytest.approx(path[-1].after - path[0].before, abs=0.005)


@pytest.mark.parametrize(
    ("change", "factor"),
    [
        ("Exposure", Factor.EXPOSURE),
        ("Terms", Factor.TERMS),
        ("Model", Factor.MODEL),
        ("Settings", Factor.SETTINGS),
    ],
)
def test_of_one_change_all_other_parts_are_zero(attributed, change: str, factor: Factor):
    found = attributed(change, change)
    check_sums(found)
    assert {part.factor for part in found.attribution.parts if part.change != 0} == {factor}
    assert all(part.sampling_error is not None for part in found.attribution.parts)


def test_a_pure_renumbering_is_named_and_is_within_its_sampling(attributed):
    found = attributed("Renumbering", "Renumbering")
    check_sums(found)
    assert {part.factor for part in found.attribution.parts if part.change != 0} == {Factor.EXPOSURE}
    moved = [part for part in found.attribution.parts if part.factor is Factor.EXPOSURE]
    assert {part.remark for part in moved} == {"locations: 600 renumbered; renumbered locations draw anew"}
    for part in moved:
        if part.point.metric == "AAL":
            assert part.sampling_error is not None
            assert abs(part.change) < 4 * part.sampling_error


def test_runs_with_other_draws_spread_about_the_losses_without_draws(attributed):
    found = repeat("First", runs=3)
    assert found.left_out == {}
    assert len(found.figures) == 3 * (2 + 2 * 10)  # AAL, STD_DEV, OEP and AEP of all perspectives
    assert {figure.runs for figure in found.figures} == {4}
    assert [figure for figure in found.figures if figure.key.metric == "AAL" and not figure.deviation] == []
    (recorded,) = finished_jobs(execute_scalar("SELECT min(id) FROM irp_batch"))
    without_draws = mean_of(recorded)
    aal = next(figure for figure in found.figures if figure.key[1:3] == ("GUL", "AAL"))
    assert without_draws is not None
    assert 0 < abs(aal.loss - without_draws) < 4 * aal.deviation


def test_functions_that_no_run_uses_again_do_not_pile_up(attributed):
    """Each run compiles one to find the cells of locations; Numba fails when there are some dozens of them."""
    assert len(list(compiled_folder().glob("lookup_*/*.nbc"))) <= 4  # of runs at the same time


def test_two_orders_both_add_up(attributed):
    found = attributed("All", "Exposure", "Terms", "Model", "Settings")
    other = attributed("All", order="settings,terms,model")
    for one in (found, other):
        check_sums(one)
    aal = [
        {part.factor: part.change for part in one.attribution.parts if part.point[:2] == ("IL", "AAL")}
        for one in (found, other)
    ]
    assert all(aal[0][factor] != aal[1][factor] != 0 for factor in found.order)
    assert aal[0][Factor.ENGINE] == aal[1][Factor.ENGINE] == 0
