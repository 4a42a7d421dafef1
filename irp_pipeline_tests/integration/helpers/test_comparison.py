"""Two cycles side by side, from what is saved of them."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from irp_pipeline.cli import app
from irp_pipeline.helpers.comparison import (
    Comparison,
    ComparisonError,
    compare,
    compare_cycles,
    compare_with_cycle_before,
)
from irp_pipeline.helpers.cycle import create_cycle
from irp_pipeline.helpers.database import execute_command, execute_insert
from irp_pipeline.helpers.result import save_results
from irp_pipeline.helpers.stage import get_or_create_stage
from irp_pipeline.helpers.step import get_or_create_step
from irp_pipeline.report import write_report
from irp_pipeline_tests.benchmarks.plans import sent_statements
from irp_pipeline_tests.support.made_up_cycle import finish_jobs, make_batch, record_exposure, workbook

pytestmark = pytest.mark.usefixtures("own_home")


@pytest.fixture
def empty(own_home: Path) -> None:
    """No cycles."""
    execute_command("DELETE FROM irp_cycle")


def make(cycle_name: str, date: str | None = None, scale: float = 1.0, **provenance: Any) -> int:
    """Make a cycle with saved results; return its batch."""
    batch_id = make_batch(cycle_name, workbook(exposure_date=date))
    finish_jobs(batch_id, scale=scale, **provenance)
    save_results(batch_id)
    return batch_id


def make_small(cycle_name: str, date: str | None = None) -> int:
    """Make a cycle with one figure; return its batch."""
    step_id = get_or_create_step(get_or_create_stage(cycle_id := create_cycle(cycle_name), 1, "Setup"), 1, "Batches")
    configuration_id = execute_insert(
        """
        INSERT INTO irp_configuration (cycle_id, file_name, file_hash, data_folder, status, configuration_data)
        VALUES (%s, 'configuration.xlsx', 'hash', '/data', 'ACTIVE', %s)
        """,
        (cycle_id, {"metadata": {"exposure_date": date}, "portfolios": []}),
    )
    batch_id: int = execute_insert(
        "INSERT INTO irp_batch (configuration_id, step_id, batch_type, status) VALUES (%s, %s, 'analysis', 'ACTIVE')",
        (configuration_id, step_id),
    )
    add_figure(batch_id, "wind", 1e6)
    return batch_id


def add_figure(batch_id: int, name: str, loss: float) -> None:
    execute_command(
        """
        INSERT INTO irp_analysis_result (batch_id, analysis_name, perspective, metric, loss, is_group, currency,
                                         job_ids)
        VALUES (%s, %s, 'GUL', 'AAL', %s, false, 'EUR', '{}')
        """,
        (batch_id, name, loss),
    )


def figures(found: Comparison, query: str) -> list[Any]:
    return list(found.figures.query(query).itertuples())


@pytest.mark.usefixtures("empty")
class TestWhichCycleIsBefore:
    def test_the_one_with_the_latest_earlier_exposure_date_whatever_its_age(self):
        for name, date in (("Q1", "2024-01-01"), ("Q2", "2024-04-01"), ("Q4", "2023-10-01"), ("Q3", "2024-07-01")):
            make_small(name, date)
        found = compare("Q1")
        assert found.before.cycle_name == "Q4"
        assert found.chosen == "by exposure date, 2023-10-01 before 2024-01-01"
        assert [compare(name).before.cycle_name for name in ("Q2", "Q3")] == ["Q1", "Q2"]
        assert compare_with_cycle_before("Q4") is None

    def test_a_cycle_without_a_date_goes_by_age_and_this_is_said(self):
        make_small("first")
        make_small("second", "2024-01-01")
        make_small("third")
        assert (compare("second").before.cycle_name, compare("second").chosen) == (
            "first", "by age, since first states no exposure date",
        )  # fmt: skip
        found = compare("third")
        assert (found.before.cycle_name, found.chosen) == ("second", "by age, since third states no exposure date")
        make_small("fourth", "2024-04-01")
        assert compare("fourth").chosen == (
            "by exposure date, 2024-01-01 before 2024-04-01; not considered, since without an exposure date: third"
        )

    def test_of_two_on_one_day_the_younger_and_never_one_of_the_same_day(self):
        for name, date in (("a", "2023-10-01"), ("b", "2023-10-01"), ("c", "2024-01-01"), ("d", "2024-01-01")):
            make_small(name, date)
        make_small("late-run-of-the-old-quarter", "2023-10-01")
        assert [compare(name).before.cycle_name for name in ("c", "d")] == ["b", "b"]

    def test_one_without_figures_is_not_compared_with(self):
        make_small("Q4", "2023-10-01")
        execute_command("DELETE FROM irp_analysis_result WHERE batch_id = %s", (make_small("Q4b", "2023-11-01"),))
        make_small("Q1", "2024-01-01")
        assert compare("Q1").before.cycle_name == "Q4"


@pytest.fixture(scope="class")
def two(own_home: Path) -> Comparison:
    execute_command("DELETE FROM irp_cycle")
    before = make_batch("Q4", workbook(exposure_date="2023-10-01"))
    record_exposure("Q4")
    finish_jobs(before, scale=0.8)
    save_results(before)
    after = make_batch("Q1", workbook(exposure_date="2024-01-01"))
    record_exposure("Q1")
    execute_command(
        """
        UPDATE irp_step_run
           SET output_data = output_data || '{"property locations": 12698, "property TIV DE EUR": 9e9}'
         WHERE output_data ? 'property locations' AND id = (SELECT max(id) FROM irp_step_run
                                                             WHERE output_data ? 'property locations')
        """
    )
    finish_jobs(after, only=["property_stress", "property_wind"])
    finish_jobs(after, only=["commercial_wind"], model_version="1.3", settings={"gul_output": True, "leakage": 2})
    save_results(after)
    return compare("Q1")


class TestWhatIsSaid:
    def test_figures_of_analyses_and_groups_side_by_side(self, two):
        [row] = figures(two, "analysis_name == 'property_wind' and perspective == 'RI' and metric == 'AAL'")
        assert row.before == pytest.approx(0.8 * row.after)
        assert (row.change, row.relative_change) == (row.after - row.before, pytest.approx(0.25))
        assert two.figures["change"].notna().all()
        assert next(iter(two.figures.query("metric == 'AAL'")["analysis_name"])) in {"wind", "everything"}

    def test_what_else_differs_is_beside_each_figure(self, two):
        said = {row.analysis_name: row.differences for row in two.figures.itertuples()}
        of_commercial = "model version 1.2 → 1.3; setting leakage not stated → 2"
        assert said == {
            "commercial_wind": of_commercial,
            "property_wind": "",
            "property_stress": "",
            **dict.fromkeys(
                ("wind", "everything"),
                "model version 1.2 → 1.3 (commercial_wind); setting leakage not stated → 2 (commercial_wind)",
            ),
        }

    def test_exposure(self, two):
        lines = {(line.portfolio, line.what.value): line for line in two.exposure}
        assert lines["", "locations"].change == 100
        assert lines["property", "insured value"].before == 8_123_456_789 + 998_000_000.5
        assert lines["commercial", "account records"].change == 0

    def test_notebooks_get_plain_values(self, two):
        found = compare_cycles("Q1")
        assert (found["before"]["cycle_name"], found["after"]["label"]) == ("Q4", "Q1")
        assert found["figures"].equals(two.figures)
        sources = found["sources"].query("analysis_name == 'wind'").set_index("what")
        assert tuple(sources.loc["model version", ["before", "after", "differs"]]) == ("1.2", "1.2, 1.3", True)
        assert not sources.loc["samples", "differs"]
        assert list(found["exposure"].columns) == [
            "portfolio", "what", "currency", "before", "after", "change", "relative_change", "not_compared",
        ]  # fmt: skip

    def test_the_number_of_statements_does_not_depend_on_the_figures(self, two):
        with sent_statements() as few:
            compare("Q1", "Q4", analysis="wind")
        with sent_statements() as all_of_them:
            compare("Q1", "Q4")
        assert len(few) == len(all_of_them) < 20

    def test_basis_currency_and_samples_are_said(self, two):
        execute_command(
            """
            UPDATE irp_job j SET result_data = jsonb_set(jsonb_set(result_data, '{provenance,losses_by}', '"means"'),
                                                         '{provenance,samples}', '0')
              FROM irp_job_configuration c, irp_batch b, irp_configuration f, irp_cycle cy
             WHERE c.id = j.job_configuration_id AND c.job_configuration_data ->> 'name' = 'property_wind'
               AND b.id = j.batch_id AND f.id = b.configuration_id AND cy.id = f.cycle_id AND cy.cycle_name = 'Q1'
            """
        )
        execute_command(
            """
            UPDATE irp_analysis_result SET currency = 'USD'
             WHERE analysis_name = 'commercial_wind' AND batch_id = (SELECT max(id) FROM irp_batch)
            """
        )
        found = compare("Q1")
        assert {row.not_compared for row in figures(found, "analysis_name == 'commercial_wind'")} == {
            "other currency: EUR in Q4, USD in Q1"
        }
        assert {row.differences for row in figures(found, "analysis_name == 'property_wind'")} == {
            "samples 5 → 0; losses by not stated → means"
        }


class TestSegments:
    def test_they_are_matched_by_fields_and_values_and_parts_change_by_what_the_whole_does(self, empty, tmp_path):
        by_occupancy = {"property_wind": ["OccupancyCode"], "commercial_wind": ["OccupancyCode"]}
        both = {**by_occupancy, "property_wind": ["OccupancyCode", "CountryCode+OccupancyCode"]}
        for name, date, asked, scale in (("S1", "2024-01-01", by_occupancy, 0.5), ("S2", "2024-04-01", both, 1.0)):
            batch_id = make_batch(name, workbook(exposure_date=date, segments=asked))
            finish_jobs(batch_id, scale=scale)
            save_results(batch_id)
        found = compare("S2")
        of_property = "analysis_name == 'property_wind' and metric == 'AAL' and perspective == 'RI'"
        whole, *parts = figures(found, of_property)
        assert (whole.segment_by, {part.segment_by for part in parts}) == (
            "", {"OccupancyCode", "CountryCode+OccupancyCode"},
        )  # fmt: skip
        changed = [part.change for part in parts if part.segment_by == "OccupancyCode"]
        assert len(changed) == 2
        assert sum(changed) == pytest.approx(whole.change, rel=1e-6)
        assert changed == sorted(changed, key=abs, reverse=True)
        assert {part.not_compared for part in parts if part.segment_by != "OccupancyCode"} == {
            "no segments by CountryCode+OccupancyCode in S1"
        }
        assert figures(found, "analysis_name == 'everything' and segment_by == 'OccupancyCode'")
        leading = compare("S2", only_leading_of_segments=True).figures
        assert set(leading[leading["segment_by"] != ""]["metric"]) == {"AAL"}
        assert len(leading[leading["segment_by"] == ""]) == len(found.figures[found.figures["segment_by"] == ""])
        table = CliRunner().invoke(app, ["compare", "S2", "--by", "OccupancyCode"]).stdout
        rows = [line.split()[:4] for line in table.splitlines() if line.startswith("OccupancyCode")]
        assert ["OccupancyCode", "1100", "everything", "GUL"] in rows
        text = write_report("S2", tmp_path).read_text(encoding="utf-8")
        assert "Segments of everything" in text
        assert "no segments by CountryCode+OccupancyCode in S1" not in text  # the group has none of these

    def test_an_unknown_kind_of_segments_names_those_that_there_are(self, empty):
        make_small("S1")
        make_small("S2")
        answer = CliRunner().invoke(app, ["compare", "S2", "--by", "LOB"])
        assert "There are no segments by LOB. There are those by: none" in answer.stderr


class TestChoice:
    def test_two_batches_of_one_cycle(self, empty):
        first = make_small("Q1")
        second: int = execute_insert(
            """
            INSERT INTO irp_batch (configuration_id, step_id, batch_type, status)
            SELECT configuration_id, step_id, batch_type, 'COMPLETED' FROM irp_batch WHERE id = %s
            """,
            (first,),
        )
        add_figure(second, "wind", 3e6)
        found = compare("Q1", batch_id=second, batch_id_before=first)
        assert (found.before.label, found.after.label) == (f"batch {first} of Q1", f"batch {second} of Q1")
        assert list(found.figures["change"]) == [2e6]
        assert compare("Q1", "Q1", batch_id_before=first).after.batch_id == second

    def test_two_analyses_of_one_cycle(self, empty):
        make("Q3")
        found = compare("Q3", analysis="commercial_wind", analysis_before="property_wind")
        assert (found.before.label, found.after.label) == ("property_wind in Q3", "commercial_wind in Q3")
        assert set(found.figures["analysis_name"]) == {"commercial_wind"}
        assert set(found.figures["differences"]) == {"portfolio property → commercial"}
        assert found.figures["change"].notna().all()

    def test_an_analysis_that_only_one_side_has(self, empty):
        make_small("Q4", "2023-10-01")
        add_figure(make_small("Q1", "2024-01-01"), "quake", 5.0)
        assert [row.not_compared for row in figures(compare("Q1"), "analysis_name == 'quake'")] == ["not in Q4"]
        [row] = figures(compare("Q4", "Q1"), "analysis_name == 'quake'")
        assert (row.not_compared, row.before) == ("not in Q4", 5)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"cycle_name": "Q9"}, "no cycle 'Q9' in schema"),
            ({"cycle_name": "Q1", "before": "empty"}, "empty has no saved figures yet"),
            ({"cycle_name": "Q1"}, "no cycle with figures before Q1"),
            ({"cycle_name": "Q1", "before": "Q1"}, "compared with itself"),
            ({"cycle_name": "Q1", "batch_id": 0}, "Q1 has no batch 0 with saved figures"),
            ({"cycle_name": "Q1", "analysis": "x", "before": "Q1", "analysis_before": "wind"}, "no figures of 'x'"),
            ({"cycle_name": "Q1", "analysis_before": "wind"}, "to be compared with wind"),
        ],
    )
    def test_refusals(self, empty, arguments, message):
        make_small("Q1")
        create_cycle("empty")
        with pytest.raises(ComparisonError, match=message):
            compare_cycles(**arguments)


@pytest.fixture(scope="class")
def shown(own_home: Path) -> None:
    execute_command("DELETE FROM irp_cycle")
    make("Q4-2023", "2023-10-01", scale=0.8)
    make("Q1-2024", "2024-01-01", model_version="1.3")


class TestCommand:
    def run(self, *arguments: str, status: int = 0) -> str:
        result = CliRunner().invoke(app, ["compare", *arguments], prog_name="irp")
        assert result.exit_code == status, result.output
        return result.stdout if status == 0 else result.stderr

    def test_the_table(self, shown):
        text = self.run("Q1-2024")
        assert text.startswith("Q4-2023 → Q1-2024 (by exposure date, 2023-10-01 before 2024-01-01)\n")
        rows = [line for line in text.splitlines() if "AAL" in line and line.startswith("property_wind")]
        assert len(rows) == 3
        assert all("+25.0%" in row and "model version 1.2 → 1.3" in row for row in rows)
        assert ["commercial_wind", "model", "version", "1.2", "1.3"] in [line.split() for line in text.splitlines()]

    def test_on_a_narrow_terminal_every_figure_keeps_its_note(self, shown, monkeypatch):
        monkeypatch.setattr("irp_pipeline.cli.output._is_terminal", lambda stream: True)
        monkeypatch.setenv("COLUMNS", "40")
        text = self.run("Q4-2023", "Q1-2024", "--analysis", "property_wind")
        assert max(map(len, text.splitlines())) <= 80  # headlines wrap by themselves
        assert text.count("model version 1.2 → 1.3") == text.count("Note ") - 0

    def test_json_has_everything(self, shown, test_schema):
        answer = json.loads(self.run("Q4-2023", "Q1-2024", "--json"))
        assert {"schema", "before", "after", "chosen", "exposure", "sources", "figures", "left_out"} == answer.keys()
        assert (answer["schema"], answer["left_out"], answer["before"]["exposure_date"]) == (
            test_schema,
            0,
            "2023-10-01",
        )
        assert len(answer["figures"]) == len(compare_cycles("Q1-2024")["figures"])
        for row in answer["figures"]:
            stated = "not stated" if row["analysis_name"] == "property_stress" else "1.2"
            assert row["differences"][0].startswith(f"model version {stated} → 1.3")
            assert row["not_compared"] is None
        assert json.loads(self.run("Q1-2024", "--json", "--limit", "3"))["left_out"] == len(answer["figures"]) - 3

    def test_what_is_the_same_is_said_to_be(self, shown):
        only = ("--analysis", "property_stress", "--analysis-before", "property_stress")
        execute_command("UPDATE irp_job SET result_data = jsonb_set(result_data, '{provenance,model_version}', '1')")
        assert "Model, version, settings, samples, currency and basis of the losses are the same." in self.run(
            "Q1-2024", *only
        )

    def test_errors_are_one_line(self, shown):
        assert "Did you mean Q4-2023" in self.run("Q3-2023", status=1)
        assert "no cycle with figures before Q4-2023" in self.run("Q4-2023", status=1)
        assert "compared with itself" in self.run("Q1-2024", "Q1-2024", status=1)
        self.run("Q1-2024", "no/cycle", status=2)
