"""What notebooks show, of two quarters in the real database."""

from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from irp_pipeline import notebook
from irp_pipeline.display import DisplayError
from irp_pipeline.errors import IrpError
from irp_pipeline.helpers.comparison import ComparisonError
from irp_pipeline.helpers.cycle import create_cycle
from irp_pipeline.helpers.database import execute_command
from irp_pipeline.helpers.result import get_results, save_results
from irp_pipeline.helpers.stage import get_or_create_stage
from irp_pipeline.helpers.step import get_or_create_step, track_step
from irp_pipeline.notebook import (
    follow_batch,
    show_compared_curves,
    show_comparison,
    show_curves,
    show_losses,
    show_progress,
)
from irp_pipeline_tests.support.made_up_cycle import finish_jobs, make_batch, record_exposure, workbook

GROUP = {"name": "everything", "members": ["property_wind", "commercial_wind"]}
VEGA_LITE = "application/vnd.vegalite.v5+json"


@pytest.fixture(scope="module")
def quarters(own_home: Path) -> Iterator[tuple[int, int]]:
    """Two quarters with losses; those of the second are a tenth higher."""
    execute_command("DELETE FROM irp_cycle")
    batches = []
    for cycle_name, date, scale in (("Q4-2023", "2023-10-01", 1.0), ("Q1-2024", "2024-01-01", 1.1)):
        batches.append(make_batch(cycle_name, workbook(exposure_date=date, groupings=[GROUP])))
        record_exposure(cycle_name)
        finish_jobs(batches[-1], scale=scale)
        save_results(batches[-1])
    yield batches[0], batches[1]
    execute_command("DELETE FROM irp_cycle")


@pytest.fixture
def empty(quarters: tuple[int, int]) -> Iterator[int]:
    """A cycle without anything."""
    yield create_cycle("Q2-2024")
    execute_command("DELETE FROM irp_cycle WHERE cycle_name = 'Q2-2024'")


class TestProgress:
    def test_it_has_steps_and_jobs(self, quarters):
        progress = show_progress("Q1-2024")
        assert not progress.at_work
        assert progress.done == len(progress.steps) > 0
        jobs = progress.batches[0]
        assert (jobs.batch_id, jobs.total, jobs.finished, jobs.failed) == (quarters[1], 3, 3, 0)
        assert repr(progress) == (
            f"Cycle Q1-2024 in schema {progress.schema}: {progress.done} of {progress.done} steps are done; "
            f"batch {quarters[1]}: 3 of 3 jobs have finished"
        )

    def test_errors_are_shown_escaped(self, empty):
        step_id = get_or_create_step(get_or_create_stage(empty, 1, "Own"), 1, "Check <b>terms</b>")
        with pytest.raises(RuntimeError), track_step(step_id):
            raise RuntimeError("<script>alert(1)</script>\nmore")
        progress = show_progress("Q2-2024")
        html = progress._repr_mimebundle_()["text/html"]
        assert "Check &lt;b&gt;terms&lt;/b&gt;" in html
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
        assert "<script" not in html
        assert "Check <b>terms</b> failed: " in repr(progress)

    def test_a_step_at_work_is_at_work(self, empty):
        step_id = get_or_create_step(get_or_create_stage(empty, 1, "Own"), 1, "Look")
        with track_step(step_id):
            assert show_progress("Q2-2024").at_work
        assert not show_progress("Q2-2024").at_work

    def test_failed_jobs_are_named_and_skipped_ones_do_not_count(self, empty):
        execute_command("DELETE FROM irp_cycle WHERE cycle_name = 'Q2-2024'")
        batch_id = make_batch("Q2-2024", workbook())
        failed = "UPDATE irp_job SET status = 'FAILED', error_message = 'no such peril' WHERE batch_id = %s"
        execute_command(failed, (batch_id,))
        (jobs,) = show_progress("Q2-2024").batches
        assert (jobs.total, jobs.failed, jobs.under_way) == (3, 3, 0)
        html = show_progress("Q2-2024")._repr_mimebundle_()["text/html"]
        assert "property_wind (job " in html
        assert "no such peril" in html
        execute_command("UPDATE irp_job SET skipped = true WHERE batch_id = %s", (batch_id,))
        (jobs,) = show_progress("Q2-2024").batches
        assert (jobs.total, jobs.failed, jobs.failures) == (0, 0, [])

    def test_outside_of_ipython_each_look_is_printed(self, quarters, capsys):
        follow_batch(quarters[1])
        assert capsys.readouterr().out.endswith("3 of 3 jobs have finished; It is COMPLETED\n")


class TestLosses:
    def test_the_table_has_the_recorded_losses(self, quarters):
        table: Any = show_losses("Q1-2024")
        rows: Any = get_results(quarters[1]).itertuples()
        for row in rows:
            if row.metric in {"AAL", "OEP", "AEP"}:
                column = row.metric if row.metric == "AAL" else f"{row.metric} {row.return_period:,.10g}"
                if row.metric == "AAL" or row.return_period in {100, 250}:
                    assert table.data.loc[(row.analysis_name, row.perspective, row.currency), column] == row.loss
        html = table.to_html()
        aal = table.data.loc[("everything", "GUL", "EUR"), "AAL"]
        assert f"{aal:,.0f}" in html
        assert next(iter(table.data.columns)) == "AAL"

    def test_other_return_periods(self, quarters):
        table: Any = show_losses("Q1-2024", return_periods=(2.0,))
        assert [column for column in table.data.columns if column.startswith(("OEP", "AEP"))] == ["OEP 2", "AEP 2"]

    def test_the_curves_are_a_specification_and_a_picture(self, quarters):
        shown, about = show_curves("Q1-2024")._repr_mimebundle_()
        assert b64decode(shown["image/png"]).startswith(b"\x89PNG")
        assert 640 < about["image/png"]["width"] < 800
        specification = shown[VEGA_LITE]
        (subject,) = [one for one in specification["params"] if one["name"] == "subject"]
        assert subject["value"] == "everything"
        assert subject["bind"]["options"] == ["property_wind", "commercial_wind", "everything"]
        assert "Loss curves of property_wind" in shown["text/plain"]

    def test_one_of_them_first(self, quarters):
        chart = show_curves("Q1-2024", "commercial_wind")
        (subject,) = [one for one in chart.specification["params"] if one["name"] == "subject"]
        assert subject["value"] == "commercial_wind"


class TestComparison:
    def test_the_table_has_the_change_of_each_usual_figure(self, quarters):
        table: Any = show_comparison("Q1-2024")
        row = table.data.loc[("everything", "GUL", "AAL", "EUR")]
        assert row["Change %"] == pytest.approx(0.1)
        assert row["After"] - row["Before"] == pytest.approx(row["Change"])
        html = table.to_html()
        assert "+10.0%" in html
        assert "Q4-2023 → Q1-2024" in html

    def test_a_note_is_shown_once_and_kept_for_each_figure(self, quarters):
        execute_command(
            "UPDATE irp_job SET result_data = jsonb_set(result_data, '{provenance,model_version}', '\"9.9\"')"
            " WHERE batch_id = %s",
            (quarters[0],),
        )
        table: Any = show_comparison("Q1-2024")
        of_one = table.data.xs("property_wind", level="Name")["Note"]
        assert len(of_one) > 10
        assert all("9.9" in note for note in of_one)
        shown = table.to_html().count("model version 9.9")
        assert 0 < shown == len(table.data.index.get_level_values("Name").unique())

    def test_named_cycles(self, quarters):
        table: Any = show_comparison("Q4-2023", "Q1-2024")
        assert table.data.loc[("everything", "GUL", "AAL", "EUR")]["Change %"] == pytest.approx(1 / 1.1 - 1)

    def test_the_curves_of_both(self, quarters):
        chart = show_compared_curves("Q1-2024", name="property_wind")
        parameters = {one["name"]: one for one in chart.specification["params"]}
        assert parameters["subject"]["value"] == "property_wind"
        assert parameters["curve"]["bind"]["options"] == ["OEP", "AEP"]
        assert chart.png().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("show", "error", "said"),
    [
        (lambda: show_progress("Q9"), DisplayError, "There is no cycle 'Q9' in schema"),
        (lambda: follow_batch(0), DisplayError, "There is no batch 0 in schema"),
        (lambda: show_losses("Q9"), IrpError, "There is no cycle 'Q9'"),
        (lambda: show_losses("Q2-2024"), DisplayError, r"has no losses yet. See show_progress\('Q2-2024'\)"),
        (lambda: show_curves("Q2-2024"), DisplayError, "has no loss curves yet"),
        (lambda: show_curves("Q1-2024", "flood"), DisplayError, "those of: property_wind, commercial_wind, everything"),
        (lambda: show_comparison("Q2-2024"), ComparisonError, "Q2-2024"),
        (lambda: show_compared_curves("Q1-2024", name="flood"), DisplayError, "no loss curves of 'flood'"),
    ],
)
def test_what_cannot_be_shown_is_said(empty, show, error, said):
    with pytest.raises(error, match=said):
        show()


def test_they_are_found_in_the_module_for_notebooks():
    assert notebook.show_losses is show_losses
    assert not hasattr(notebook, "show_nothing")
