"""The exposure at a glance: made by its step, shown in the report and by the command, beside the cycle before."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from dagster import DagsterInstance
from typer.testing import CliRunner

from irp_pipeline import settings
from irp_pipeline.cli import app
from irp_pipeline.definitions import definitions
from irp_pipeline.demo import LOCATIONS_OF, write_sample
from irp_pipeline.helpers.cycle import Cycle, create_cycle, find_cycle
from irp_pipeline.helpers.database import execute_command, execute_scalar
from irp_pipeline.helpers.exposure_profile import find_profile, profiled_cycle_before
from irp_pipeline.helpers.portfolio_facts import facts_of
from irp_pipeline.report import collect, write_report
from irp_pipeline.workbook import Workbook, read_workbook, write_workbook

HOSTILE = "<b>&S"
LOCATIONS = sum(LOCATIONS_OF.values())
Launch = Callable[[str], Any]


def cycle_of(name: str) -> Cycle:
    cycle = find_cycle(name)
    assert cycle is not None
    return cycle


@pytest.fixture(scope="module")
def launch(test_schema: str) -> Iterator[Launch]:
    """Run the stages that need no engine."""
    with DagsterInstance.ephemeral() as instance:

        def run(cycle: str) -> Any:
            return definitions.get_job_def("run_cycle").execute_in_process(
                run_config={
                    "resources": {"database": {"config": {"db_schema": test_schema}}},
                    "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
                },
                instance=instance,
                tags={"dagster/partition": cycle},
                op_selection=["setup", "extract", "process"],
            )

        yield run


@pytest.fixture(scope="module")
def cycles(test_schema: str, launch: Launch) -> Iterator[Path]:
    """Two quarters, the later one opened first; return the folder of the later one."""
    settings.make_irp_home()
    folders = {name: settings.cycle_dir(test_schema, name) for name in ("later", "earlier", "undated")}
    for name, folder in folders.items():
        create_cycle(name)
        write_sample(folder)
    _date(folders["later"], "2024-06-30")
    _date(folders["earlier"], "2024-03-31")
    _change(folders["later"] / "commercial" / "location.csv")
    for name in ("later", "earlier"):
        assert launch(name).success
    yield folders["later"]
    execute_command("DELETE FROM irp_cycle")
    for folder in folders.values():
        shutil.rmtree(folder)


def _date(folder: Path, exposure_date: str) -> None:
    workbook = read_workbook(folder / "configuration.xlsx", check_files=False)
    data = workbook.model_dump(mode="json")
    data["metadata"]["exposure_date"] = exposure_date
    write_workbook(folder / "configuration.xlsx", Workbook.model_validate(data), overwrite=True)


def _change(file: Path) -> None:
    """Insure the first location for a million more, and lose the coordinates of the second."""
    rows = pd.read_csv(file, dtype=str, keep_default_na=False)
    rows["BuildingTIV"] = [str(float(tiv) + (0 if row else 1e6)) for row, tiv in enumerate(rows["BuildingTIV"])]
    for name in ("Latitude", "Longitude"):
        rows[name] = ["" if row == 1 else text for row, text in enumerate(rows[name])]
    rows["AreaCode"] = HOSTILE
    rows.to_csv(file, index=False)


def _output(cycle: str) -> dict[str, Any]:
    found: dict[str, Any] = execute_scalar(
        """
        SELECT r.output_data FROM irp_step_run r JOIN irp_step st ON st.id = r.step_id
          JOIN irp_stage sg ON sg.id = st.stage_id JOIN irp_cycle c ON c.id = sg.cycle_id
         WHERE c.cycle_name = %s AND st.step_key = 'extract.control_totals' AND r.status = 'COMPLETED'
        """,
        (cycle,),
    )
    return found


def test_insured_values_are_those_of_the_control_totals(cycles) -> None:
    profile = find_profile(cycle_of("later"))
    assert profile is not None
    assert {item.name: item.locations for item in profile.portfolios} == dict(LOCATIONS_OF)
    output = _output("later")
    for portfolio in profile.portfolios:
        facts = facts_of(portfolio.name, output)
        (part,) = portfolio.currencies
        assert part.amount.tiv == sum(value.amount for value in facts.insured_values if value.currency == part.currency)
        assert portfolio.locations == facts.locations
    assert (profile.whole.locations, profile.whole.placed) == (LOCATIONS, LOCATIONS - 1)
    assert profile.whole.currencies[0].amount.tiv == sum(part.currencies[0].amount.tiv for part in profile.portfolios)


def test_the_cycle_before_is_that_of_the_earlier_exposure_date(cycles) -> None:
    before = profiled_cycle_before(cycle_of("later"))
    assert before is not None
    assert before.cycle_name == "earlier"
    assert profiled_cycle_before(cycle_of("earlier")) is None
    undated = profiled_cycle_before(cycle_of("undated"))  # by age
    assert undated is not None
    assert undated.cycle_name == "earlier"
    assert find_profile(cycle_of("undated")) is None


def test_the_report_has_a_section_beside_the_cycle_before(cycles, tmp_path) -> None:
    page = write_report("later", tmp_path).read_text(encoding="utf-8")
    section = page[page.index("Exposure at a glance") :]
    profile = find_profile(cycle_of("later"))
    assert profile is not None
    total = profile.whole.currencies[0].amount.tiv
    share = total / (total - 1_000_000) - 1
    assert f"<b>{total:,.0f} GBP</b> in 1,000 locations of 80 accounts, {share:+.1%} since earlier." in section
    assert "1 location has no valid coordinates and is not on the map." in section
    assert section.count('<svg class="map"') == 3  # all together, and each portfolio
    assert "&lt;b&gt;&amp;S" in section
    assert HOSTILE not in page
    assert "new" in section  # the area, which the earlier cycle does not have
    content = collect("later").content()["exposure"]
    assert content["before"] == "earlier"
    assert collect("undated").content()["exposure"] is None
    assert "Exposure at a glance" not in write_report("undated", tmp_path).read_text(encoding="utf-8")


def irp(*arguments: str, status: int = 0) -> str:
    result = CliRunner().invoke(app, ["exposure", *arguments], prog_name="irp")
    assert result.exit_code == status, result.output
    return result.output


def test_the_command_shows_it(cycles, test_schema: str) -> None:
    here = ("--db-schema", test_schema)
    answer = json.loads(irp("later", "--json", *here))
    assert (answer["cycle_before"], answer["locations"], answer["accounts"]) == ("earlier", LOCATIONS, 80)
    (part,) = answer["currencies"]
    assert part["tiv"] - part["tiv_before"] == 1_000_000
    assert {row["value"]: row["tiv_before"] for row in part["segments"]["CountryCode"]} == {"GB": part["tiv_before"]}
    assert [circle["radius"] for circle in part["circles"]] == [1000] * 3 + [250] * 3
    assert part["known"]["coordinates"]["locations"] == LOCATIONS - 1
    shown = irp("show", "later", "--portfolio", "residential", "--rows", "2", *here)
    for words in ("Since earlier", "GB United Kingdom", "5100 Masonry", "28 others", "geocoded to the building"):
        assert words in shown
    assert f"{part['tiv']:,.0f}" in irp("later", *here)
    assert "has no portfolio 'homes'. Its portfolios are: residential, commercial" in irp(
        "later", "--portfolio", "homes", *here, status=1
    )
    assert "has not been profiled yet" in irp("undated", *here, status=1)
    assert "There is no cycle 'nothing'" in irp("nothing", *here, status=1)


def test_a_file_that_is_missing_is_said_in_the_report_and_made_again(cycles, launch, tmp_path) -> None:
    (cycles / "exposure" / "cells.parquet").unlink()
    page = write_report("later", tmp_path).read_text(encoding="utf-8")
    assert "cells.parquet is not on this machine" in page
    assert launch("later").success
    assert (cycles / "exposure" / "cells.parquet").is_file()
    runs = execute_scalar(
        """
        SELECT string_agg(r.status, ' ' ORDER BY r.run_num) FROM irp_step_run r JOIN irp_step st ON st.id = r.step_id
          JOIN irp_stage sg ON sg.id = st.stage_id JOIN irp_cycle c ON c.id = sg.cycle_id
         WHERE c.cycle_name = 'later' AND st.step_key = 'process.profile_exposure'
        """
    )
    assert runs == "COMPLETED COMPLETED"
    assert launch("later").success
    assert "cells.parquet" not in write_report("later", tmp_path).read_text(encoding="utf-8")
