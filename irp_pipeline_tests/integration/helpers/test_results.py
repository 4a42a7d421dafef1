"""Results: what is saved of a batch, read back, compared and exported, on a real server and real files."""

import json
import re

import pandas as pd
import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from irp_pipeline.cli import app
from irp_pipeline.helpers.database import execute_command, execute_scalar, fetch_all
from irp_pipeline.helpers.result import (
    ResultError,
    export_results,
    finished_jobs,
    get_results,
    recorded_figures,
    save_results,
    segment_fields,
)
from irp_pipeline.losses import LossError
from irp_pipeline_tests.support.made_up_cycle import RETURN_PERIODS, YEARS, finish_jobs, make_batch, workbook

pytestmark = pytest.mark.usefixtures("own_files")


def loss(results: pd.DataFrame, name: str, perspective: str, metric: str, return_period: float | None = None) -> float:
    of = results[
        (results["analysis_name"] == name) & (results["perspective"] == perspective) & (results["metric"] == metric)
    ]
    if return_period is not None:
        of = of[of["return_period"] == return_period]
    [value] = of["loss"]
    return float(value)


def skip(name: str) -> None:
    execute_command(
        """
        WITH c AS (UPDATE irp_job_configuration SET skipped = true
                    WHERE job_configuration_data ->> 'name' = %s RETURNING id)
        UPDATE irp_job SET skipped = true FROM c WHERE job_configuration_id = c.id
        """,
        (name,),
    )


class TestSegments:
    BY = ("CountryCode", "OccupancyCode")

    @pytest.fixture
    def with_segments(self) -> int:
        """A batch with two analyses that have one combination of fields in common."""
        asked = {"property_wind": ["OccupancyCode", "+".join(self.BY)], "commercial_wind": ["OccupancyCode"]}
        batch_id = make_batch("Q1-2024", workbook(segments=asked))
        finish_jobs(batch_id)
        save_results(batch_id)
        return batch_id

    def test_whole_portfolios_are_what_there_is_without_being_asked(self, with_segments):
        results = get_results(with_segments)
        assert "segment" not in results
        assert not results.duplicated(["analysis_name", "perspective", "metric", "return_period", "loss_factor"]).any()
        parts = get_results(with_segments, segments=True)
        assert len(parts) > len(results)
        whole = parts[parts["segment_by"].map(len) == 0].drop(columns=["segment_by", "segment"])
        pd.testing.assert_frame_equal(whole.reset_index(drop=True), results)
        assert all(figure.figure.is_whole for figure in recorded_figures(results))

    def test_segments_of_analyses_and_of_groups_add_up_to_the_whole(self, with_segments):
        assert segment_fields(with_segments) == [self.BY, ("OccupancyCode",)]
        whole = get_results(with_segments)
        by_occupancy = get_results(with_segments, by=["OccupancyCode"])
        assert set(by_occupancy["analysis_name"]) == {"property_wind", "commercial_wind", "wind", "everything"}
        assert {tuple(of) for of in by_occupancy["segment"]} == {("1050",), ("1100",)}
        for name in set(by_occupancy["analysis_name"]):
            for perspective in ("GUL", "IL", "RI"):
                parts = by_occupancy.query("analysis_name == @name and perspective == @perspective and metric == 'AAL'")
                assert len(parts) == 2
                assert parts["loss"].sum() == pytest.approx(loss(whole, name, perspective, "AAL"), rel=1e-12)
        assert set(get_results(with_segments, by=self.BY)["analysis_name"]) == {"property_wind"}  # the other has none

    def test_they_are_exported_and_shown(self, with_segments, tmp_path):
        export_results(with_segments, tmp_path)
        exported = pq.read_table(tmp_path / "results.parquet").to_pandas()
        assert set(exported["segment_by"]) == {"", "OccupancyCode", "CountryCode+OccupancyCode"}
        assert set(exported["segment"]) == {"", "1050", "1100", "1050+1050", "1100+1100"}
        assert pc.read_csv(tmp_path / "results.csv").num_rows == len(exported)
        for name in ("ept", "palt"):
            table = pq.read_table(tmp_path / f"{name}.parquet").to_pandas()
            assert not table.duplicated([name for name in table if name not in {"Loss", "MeanLoss", "SDLoss"}]).any()

        def irp(*arguments: str) -> str:
            done = CliRunner().invoke(app, ["results", "Q1-2024", *arguments])
            return done.output + (str(done.exception) if done.exception else "")

        shown = irp("--by", "occupancycode+countrycode")
        assert "CountryCode+OccupancyCode" in shown
        assert "1100+1100" in shown
        assert "share of the losses under the terms of the whole portfolio" in shown
        assert "1100" not in irp().split("Loss factor")[0].replace(",", "")
        answered = json.loads(irp("--by", "OccupancyCode", "--json"))["figures"]
        assert {tuple(of["segment"]) for of in answered} == {("1050",), ("1100",)}
        assert {of["losses_by"] for of in answered} == {"samples"}
        assert all("segment" not in of for of in json.loads(irp("--json"))["figures"])
        assert "There are those by CountryCode+OccupancyCode, OccupancyCode" in " ".join(irp("--by", "LOB").split())

    def test_an_analysis_without_segments_is_recorded_as_before_there_were_any(self, with_segments):
        plain = workbook().to_json()["analyses"]
        assert all("segments" not in analysis for analysis in plain)
        asked = workbook(segments={"property_wind": ["lob"]}).to_json()["analyses"]
        assert [analysis.get("segments") for analysis in asked] == [["LOB"], None, None]


class TestSaving:
    def test_analyses_and_groups_have_figures(self, finished):
        saved = save_results(finished)
        results = get_results(finished)
        assert (saved.analyses, saved.groups, saved.figures, saved.left_out) == (3, 2, len(results), {})
        assert list(dict.fromkeys(results["analysis_name"])) == [
            "commercial_wind", "property_stress", "property_wind", "everything", "wind",
        ]  # fmt: skip
        assert set(results.loc[results["is_group"], "analysis_name"]) == {"everything", "wind"}
        assert set(results["currency"]) == {"EUR"}

    def test_averages_of_a_group_are_the_sum_and_its_curve_is_less(self, finished):
        save_results(finished)
        results = get_results(finished)
        parts = [loss(results, name, "IL", "AAL") for name in ("property_wind", "commercial_wind")]
        assert loss(results, "wind", "IL", "AAL") == pytest.approx(sum(parts))
        parts = [loss(results, name, "IL", "AEP", 100) for name in ("property_wind", "commercial_wind")]
        assert max(parts) < loss(results, "wind", "IL", "AEP", 100) <= sum(parts)
        assert loss(results, "everything", "RI", "OEP", 250) == loss(results, "wind", "RI", "OEP", 250)
        assert RETURN_PERIODS[-1] == YEARS  # the longest that has a figure: samples add no years

    def test_a_group_names_the_jobs_of_its_analyses(self, finished):
        save_results(finished)
        results = get_results(finished)
        of_members = {job.job_id for job in finished_jobs(finished) if job.name.endswith("wind")}
        assert all(set(ids) == of_members for ids in results["job_ids"][results["analysis_name"] == "wind"])

    def test_saving_again_replaces(self, finished):
        save_results(finished)
        before = get_results(finished)
        execute_command("UPDATE irp_analysis_result SET loss = 0")
        save_results(finished)
        pd.testing.assert_frame_equal(get_results(finished), before)

    def test_all_or_nothing(self, finished, monkeypatch):
        save_results(finished)
        before = get_results(finished)
        execute_command("ALTER TABLE irp_analysis_result ADD CONSTRAINT no_groups CHECK (NOT is_group) NOT VALID")
        try:
            with pytest.raises(Exception, match="no_groups"):
                save_results(finished)
        finally:
            execute_command("ALTER TABLE irp_analysis_result DROP CONSTRAINT no_groups")
        pd.testing.assert_frame_equal(get_results(finished), before)

    def test_a_replaced_job_does_not_count(self, finished):
        execute_command(
            """
            WITH old AS (UPDATE irp_job SET skipped = true
                          WHERE result_data #>> '{provenance,model}' IS NULL RETURNING *)
            INSERT INTO irp_job (batch_id, job_configuration_id, parent_job_id, status, result_data)
            SELECT batch_id, job_configuration_id, id, 'FINISHED',
                   jsonb_set(result_data, '{figures,0,loss}', '123456') FROM old
            """
        )
        save_results(finished)
        assert 123456 in set(get_results(finished)["loss"])
        assert len(finished_jobs(finished)) == 3

    def test_a_group_of_a_skipped_analysis_is_left_out(self, finished):
        skip("commercial_wind")
        saved = save_results(finished)
        assert saved.left_out == dict.fromkeys(("wind", "everything"), "no finished job of commercial_wind")
        assert set(get_results(finished)["analysis_name"]) == {"property_wind", "property_stress"}

    @pytest.mark.parametrize(
        ("recorded", "columns"),
        [
            ((10, 50, 100, 200, 500), ["OEP 10", "OEP 100", "OEP 200", "OEP 500", "AEP 200"]),
            ((5, 25), ["OEP 5", "OEP 25", "AEP 5"]),
        ],
    )
    def test_the_command_shows_return_periods_that_were_asked_for(self, finished, recorded, columns):
        save_results(finished)
        periods = sorted(set(get_results(finished)["return_period"].dropna()))
        assert len(periods) >= len(recorded)
        execute_command(
            "DELETE FROM irp_analysis_result WHERE NOT return_period = ANY(%s)", (periods[: len(recorded)],)
        )
        for before, after in zip(periods, recorded, strict=False):
            execute_command(
                "UPDATE irp_analysis_result SET return_period = %s WHERE return_period = %s", (-after, before)
            )
        execute_command("UPDATE irp_analysis_result SET return_period = -return_period")
        header = CliRunner().invoke(app, ["results", "Q1-2024"]).output.splitlines()[0]
        assert re.findall(r"[OA]EP \d+", header) == columns

    def test_figures_by_means_are_said_to_be_so_by_the_command(self, finished):
        save_results(finished)
        assert "means" not in CliRunner().invoke(app, ["results", "Q1-2024"]).output
        execute_command(
            """
            UPDATE irp_job j SET result_data = jsonb_set(result_data, '{provenance,losses_by}', '"means"')
              FROM irp_job_configuration c
             WHERE c.id = j.job_configuration_id AND c.job_configuration_data ->> 'name' = 'commercial_wind'
            """
        )
        table = CliRunner().invoke(app, ["results", "Q1-2024"]).output
        rows = [line.split()[:4] for line in table.splitlines() if line.startswith("commercial_wind")]
        assert {tuple(row) for row in rows} == {("commercial_wind", of, "by", "means") for of in ("GUL", "IL", "RI")}
        assert "by means: without samples; IL and RI apply the terms to mean losses" in table
        answer = json.loads(CliRunner().invoke(app, ["results", "Q1-2024", "--json"]).stdout)
        made = {(figure["analysis_name"], figure["losses_by"]) for figure in answer["figures"]}
        assert made == {
            ("commercial_wind", "means"), ("property_wind", "samples"), ("property_stress", None),
            ("wind", "samples"), ("everything", "samples"),
        }  # fmt: skip

    def test_what_does_not_go_together_is_refused_and_the_rest_is_saved(self):
        batch_id = make_batch("Q1-2024", workbook())
        finish_jobs(batch_id, only=["property_wind", "property_stress"])
        finish_jobs(batch_id, only=["commercial_wind"], occurrence_hash="another")
        with pytest.raises(LossError, match=r"group wind .*different occurrence sets .*property_wind.*commercial_wind"):
            save_results(batch_id)
        assert set(get_results(batch_id)["analysis_name"]) == {"property_wind", "property_stress", "commercial_wind"}

    def test_different_occurrence_sets_go_together_by_number(self):
        members = ["property_wind", "commercial_wind"]
        batch_id = make_batch(
            "Q1-2024", workbook(groupings=[{"name": "both", "members": members, "period_pairing": "by_number"}])
        )
        finish_jobs(batch_id, only=["property_wind", "property_stress"])
        finish_jobs(batch_id, only=["commercial_wind"], occurrence_hash="another")
        save_results(batch_id)
        assert loss(get_results(batch_id), "both", "GUL", "AAL") > 0

    def test_a_job_that_does_not_name_its_years_cannot_be_grouped(self, finished):
        execute_command("UPDATE irp_job SET result_data = result_data #- '{provenance,periods}'")
        with pytest.raises(LossError, match=r"job \d+ of property_wind does not say over which years"):
            save_results(finished)

    @pytest.mark.parametrize(
        ("path", "value", "message"),
        [
            ("{figures}", "null", "is not a result"),
            ("{figures}", "[]", "reported no figures"),
            ("{figures,0,loss}", '"much"', "is not a result"),
            ("{files}", '{"losses": {"path": "../../other", "sha256": "", "bytes": 0}}', "outside of the job"),
        ],
    )
    def test_a_result_that_is_none_is_an_error(self, finished, path, value, message):
        execute_command("UPDATE irp_job SET result_data = jsonb_set(result_data, %s, %s::jsonb)", (path, value))
        with pytest.raises(ResultError, match=message):
            save_results(finished)
        assert get_results(finished).empty

    def test_no_such_batch(self):
        with pytest.raises(ResultError, match="no batch with the id 0"):
            save_results(0)


class TestExport:
    def test_tables_as_parquet_and_csv(self, finished, tmp_path):
        save_results(finished)
        written = export_results(finished, tmp_path / "out")
        assert {path.name for path in written} >= {
            f"{name}.{suffix}"
            for name in ("results", "ept", "palt", "location_losses")
            for suffix in ("csv", "parquet")
        }
        results = get_results(finished)
        for name in ("results", "ept", "palt", "location_losses"):
            table = pq.read_table(tmp_path / "out" / f"{name}.parquet")
            assert pc.read_csv(tmp_path / "out" / f"{name}.csv").num_rows == table.num_rows
        curves = pq.read_table(tmp_path / "out" / "ept.parquet").to_pandas()
        assert set(curves["EPCalc"]) == {2}
        [row] = curves.query(
            "Analysis == 'wind' and Perspective == 'RI' and EPType == 3 and ReturnPeriod == 250"
        ).itertuples()
        assert row.Loss == loss(results, "wind", "RI", "AEP", 250)
        averages = pq.read_table(tmp_path / "out" / "palt.parquet").to_pandas()
        [row] = averages.query("Analysis == 'wind' and Perspective == 'GUL'").itertuples()
        assert (row.SampleType, row.MeanLoss) == (2, loss(results, "wind", "GUL", "AAL"))
        assert row.SDLoss == loss(results, "wind", "GUL", "STD_DEV")
        by_location = pq.read_table(tmp_path / "out" / "location_losses.parquet")
        assert by_location.column_names[:2] == ["Analysis", "Currency"]
        assert by_location["loss_factor"].to_pylist() == [0.1, 0.1, 0.5, 0.5]

    def test_period_losses_of_each_analysis_and_where_they_come_from(self, finished, tmp_path):
        save_results(finished)
        export_results(finished, tmp_path / "out")
        for _ in "twice":
            export_results(finished, tmp_path / "out")
        for job in finished_jobs(finished):
            for name, file in job.files.items():
                exported = tmp_path / "out" / "analyses" / job.name / file.path.name
                assert exported.exists() == name.endswith("plt_sample")
                assert not exported.exists() or exported.samefile(file.path)
        provenance = json.loads((tmp_path / "out" / "provenance.json").read_text())
        assert provenance["property_wind"]["model_version"] == "1.2"
        assert not list((tmp_path / "out").rglob("*.partial"))

    def test_where_files_cannot_be_linked_they_are_copied(self, finished, tmp_path, monkeypatch):
        def refuse(*_: object) -> None:
            raise OSError

        monkeypatch.setattr("os.link", refuse)
        save_results(finished)
        export_results(finished, tmp_path / "out")
        [job] = [job for job in finished_jobs(finished) if job.name == "property_wind"]
        copied = tmp_path / "out" / "analyses" / "property_wind" / job.files["ri_plt_sample"].path.name
        assert copied.read_bytes() == job.files["ri_plt_sample"].path.read_bytes()
        assert not copied.samefile(job.files["ri_plt_sample"].path)

    def test_a_group_or_two_without_deterministic_losses(self, finished, tmp_path):
        skip("property_stress")
        save_results(finished)
        names = {path.name for path in export_results(finished, tmp_path / "out")}
        assert "location_losses.parquet" not in names
        assert pa.types.is_floating(pq.read_schema(tmp_path / "out" / "palt.parquet").field("MeanLoss").type)

    def test_refusals(self, finished, tmp_path):
        with pytest.raises(ResultError, match=r"No results of the batch \d+ are saved"):
            export_results(finished, tmp_path)
        save_results(finished)
        [losses] = [job.files["losses"] for job in finished_jobs(finished) if "losses" in job.files]
        losses.path.unlink()
        with pytest.raises(ResultError, match=r"the losses of job \d+ of property_stress, is not on this machine"):
            export_results(finished, tmp_path)
        skip("property_wind")
        with pytest.raises(ResultError, match="changed after its results were saved"):
            export_results(finished, tmp_path)


def test_deleting_the_cycle_deletes_its_results(finished):
    save_results(finished)
    assert fetch_all("SELECT 1 FROM irp_analysis_result LIMIT 1")
    execute_command("DELETE FROM irp_cycle")
    assert execute_scalar("SELECT count(*) FROM irp_analysis_result") == 0
