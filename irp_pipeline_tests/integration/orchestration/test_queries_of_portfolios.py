"""Queries with parameters of the workbook, from the workbook to the rows, and when they are read again."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from irp_pipeline import settings
from irp_pipeline.exposure import ExposureError
from irp_pipeline.exposure.extract import extract
from irp_pipeline.exposure.oed import OedTable
from irp_pipeline.helpers.configuration import load_configuration
from irp_pipeline.helpers.cycle import create_cycle
from irp_pipeline.helpers.database import execute_command
from irp_pipeline.orchestration.stages.extract import _source_contents, portfolio_sources
from irp_pipeline.orchestration.tracking import CycleOfRun
from irp_pipeline.workbook import Workbook, WorkbookError, write_workbook

CYCLE = "Q1-2024"
QUERY = """
-- the book :as it was
SELECT :portfolio AS portnumber, :cycle_name AS accnumber, line AS locnumber, 100.0 AS buildingtiv
  FROM (VALUES ('it''s', DATE '2023-12-31'), ('B', DATE '2024-01-01'), ('C', DATE '2024-02-01')) AS book (line, since)
 WHERE since <= :exposure_date AND line IN (:lines) AND line LIKE '%';
"""


@pytest.fixture
def cycle(test_schema: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[CycleOfRun]:
    monkeypatch.setenv("IRP_DATABASE_URL", settings.database_url().render_as_string(hide_password=False))
    monkeypatch.setenv("IRP_SOURCE_BOOK_URL", settings.database_url().render_as_string(hide_password=False))
    monkeypatch.setenv("IRP_HOME", str(tmp_path / "home"))
    (tmp_path / "sql").mkdir()
    (tmp_path / "sql" / "location.sql").write_text(QUERY)
    yield CycleOfRun(create_cycle(CYCLE), CYCLE, test_schema, tmp_path)
    execute_command("DELETE FROM irp_cycle")


def load(
    cycle: CycleOfRun, *, location: str = "sql/location.sql", parameters: Any = None, day: str | None = "2024-01-01"
) -> None:
    """Make a workbook with one portfolio in a database the configuration of the cycle."""
    content: dict[str, Any] = {
        "metadata": {"currency": "EUR", "exposure_date": day},
        "portfolios": [{"name": "book", "source": "sql", "database": "book", "location": location, "account": "a.b"}],
        "analyses": [
            {"name": "stress", "portfolio": "book", "engine": "oasis_deterministic", "loss_factor": [0.1]}
            | {"perspectives": ["GUL"]}
        ],
    }
    if parameters:
        content["portfolios"][0]["parameters"] = parameters
    path = write_workbook(cycle.folder / "configuration.xlsx", Workbook.model_validate(content), overwrite=True)
    load_configuration(cycle.id, path)


def test_the_values_of_the_workbook_choose_the_rows(cycle: CycleOfRun) -> None:
    load(cycle, parameters={"lines": ["it's", "C", "B"]})
    source = portfolio_sources(cycle)["book"][OedTable.LOCATION]
    result = extract(source, OedTable.LOCATION, cycle.folder / "x.parquet", with_totals=True)
    found = pq.read_table(result.path).to_pydict()
    assert found["LocNumber"] == ["it's", "B"]
    assert found["PortNumber"] == ["book"] * 2
    assert found["AccNumber"] == [CYCLE] * 2


def test_a_changed_file_or_value_that_is_used_changes_what_the_extract_depends_on(cycle: CycleOfRun) -> None:
    load(cycle, parameters={"lines": ["B"], "unused": 1})
    first = _source_contents(cycle, None)
    assert first["parameters book/location"] == {
        "cycle_name": CYCLE,
        "exposure_date": "2024-01-01",
        "lines": ["B"],
        "portfolio": "book",
    }
    assert json.loads(json.dumps(first)) == first
    load(cycle, parameters={"lines": ["B", "C"]})
    second = _source_contents(cycle, None)
    assert second["parameters book/location"]["lines"] == ["B", "C"]
    load(cycle, parameters={"lines": ["B", "C"]}, day="2024-03-31")
    third = _source_contents(cycle, None)
    assert third["parameters book/location"]["exposure_date"] == "2024-03-31"
    assert first["source book/location"] == third["source book/location"]
    (cycle.folder / "sql" / "location.sql").write_text(QUERY + "-- changed")
    assert _source_contents(cycle, None)["source book/location"] != third["source book/location"]


@pytest.mark.parametrize("location", ["exposure.location", "SELECT ':currency' AS locnumber, TIME '10:30' AS t FROM x"])
def test_a_portfolio_without_parameters_depends_on_what_it_always_did(cycle: CycleOfRun, location: str) -> None:
    load(cycle, location=location)
    assert _source_contents(cycle, None) == {}


def test_a_file_that_is_gone_or_changed_for_the_worse_is_told_when_it_is_read(cycle: CycleOfRun) -> None:
    load(cycle, parameters={"lines": ["B"]})
    file = cycle.folder / "sql" / "location.sql"
    file.write_text("SELECT :day AS locnumber")
    source = portfolio_sources(cycle)["book"][OedTable.LOCATION]
    with pytest.raises(ExposureError, match=r"^portfolio book, location: :day is no parameter; there are :currency, "):
        extract(source, OedTable.LOCATION, cycle.folder / "x.parquet")
    file.unlink()
    assert _source_contents(cycle, None) == {}
    with pytest.raises(WorkbookError, match=r"there is no file 'sql/location\.sql'"):
        portfolio_sources(cycle)
