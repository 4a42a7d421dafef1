"""Whole curves of a batch and how sure its figures are: written by a step, read back, exported, and what has none."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from irp_pipeline import settings
from irp_pipeline.cli import app
from irp_pipeline.helpers.artefact import list_artefacts, read_artefacts
from irp_pipeline.helpers.database import execute_command, fetch_all
from irp_pipeline.helpers.db_context import get_current_schema
from irp_pipeline.helpers.result import (
    compute_results,
    export_results,
    finished_jobs,
    get_results,
    return_periods_left_out,
    save_results,
)
from irp_pipeline.helpers.result.uncertainty import NOT_RECORDED
from irp_pipeline.losses import SampledYears, period_losses, whole_curves
from irp_pipeline_tests.support.made_up_cycle import (
    MEANS_SHARE,
    RETURN_PERIODS,
    SAMPLES,
    YEARS,
    finish_jobs,
    make_batch,
    record_results,
    workbook,
)

pytestmark = pytest.mark.usefixtures("own_files")


def loss(results: pd.DataFrame, name: str, perspective: str, metric: str, return_period: float) -> float:
    of = results[(results["analysis_name"] == name) & (results["perspective"] == perspective)]
    [value] = of[(of["metric"] == metric) & (of["return_period"] == return_period)]["loss"]
    return float(value)


def ask_for(years: int) -> None:
    """Let every stochastic analysis ask for one more return period, and its job have a figure for it."""
    execute_command(
        """
        UPDATE irp_job_configuration
           SET job_configuration_data = jsonb_set(job_configuration_data, '{return_periods,99}', %s::text::jsonb)
         WHERE job_configuration_data ->> 'engine' = 'oasis_stochastic'
        """,
        (years,),
    )
    execute_command(
        """
        UPDATE irp_job SET result_data = jsonb_set(result_data, '{figures,99}', jsonb_build_object(
            'perspective', 'GUL', 'metric', 'OEP', 'return_period', %s, 'loss_factor', NULL, 'loss', 1e9))
         WHERE result_data #>> '{provenance,periods}' IS NOT NULL
        """,
        (years,),
    )


class TestBeyondTheYears:
    def test_a_return_period_beyond_them_is_no_figure_but_told(self, finished):
        ask_for(YEARS + 1)
        computed = compute_results(finished)
        computed.save()
        assert max(get_results(finished)["return_period"].dropna()) == YEARS
        reason = "no figure at 1,001 years: beyond the 1,000 simulated years, and samples add no years"
        names = ("property_wind", "commercial_wind", "wind", "everything")
        assert computed.beyond == return_periods_left_out(finished) == dict.fromkeys(names, reason)
        answer = json.loads(CliRunner().invoke(app, ["results", "Q1-2024", "--json"]).stdout)
        assert answer["return_periods_left_out"] == computed.beyond
        assert f"wind: {reason}" in " ".join(CliRunner().invoke(app, ["results", "Q1-2024"]).output.split())

    def test_one_as_long_as_they_are_many_is_a_figure(self, finished):
        save_results(finished)
        assert return_periods_left_out(finished) == {}


class TestWholeCurves:
    def test_there_is_a_file_for_each_analysis_and_group_and_perspective(self, finished):
        written = record_results("Q1-2024", finished).written
        names = ("property_wind", "commercial_wind", "wind", "everything")
        assert written.keys() == {f"curves/{name}/{of}.parquet" for name in names for of in ("gul", "il", "ri")} | {
            "curves/uncertainty.parquet"
        }
        [cycle] = fetch_all("SELECT id FROM irp_cycle")
        recorded = list_artefacts(cycle["id"], "curves")
        assert recorded.keys() == written.keys()
        assert len(read_artefacts("Q1-2024", recorded.values())) == len(written)

    def test_a_curve_goes_through_the_figures_and_ends_at_the_years(self, finished):
        results, curves = recorded(finished)
        for name in ("property_wind", "wind"):
            for perspective in ("GUL", "RI"):
                table = pq.read_table(curves[f"curves/{name}/{perspective.lower()}.parquet"]).to_pandas()
                for metric in ("OEP", "AEP"):
                    curve = table[table["Metric"] == metric].sort_values("ReturnPeriod")
                    assert curve["ReturnPeriod"].max() == YEARS
                    assert (curve["YearsErrorLow"] <= curve["YearsErrorHigh"]).all()
                    for period in RETURN_PERIODS:
                        drawn = float(np.interp(period, curve["ReturnPeriod"], curve["Loss"], left=0))
                        assert drawn == pytest.approx(loss(results, name, perspective, metric, period))

    def test_that_of_a_group_is_that_of_its_tables_together(self, finished):
        _, curves = recorded(finished)
        jobs = [job for job in finished_jobs(finished) if job.name.endswith("wind")]
        added = period_losses(*(job.files["il_plt_sample"].path for job in jobs), periods=YEARS)
        years = SampledYears(added, YEARS, SAMPLES)
        table = pq.read_table(curves["curves/wind/il.parquet"])
        again = whole_curves(years, RETURN_PERIODS, seed=0).points
        assert table.select(["Metric", "ReturnPeriod", "Loss"]).equals(again.select(["Metric", "ReturnPeriod", "Loss"]))
        assert table.equals(pq.read_table(curves["curves/everything/il.parquet"]))  # of the same years, drawn alike

    def test_how_sure_a_figure_is_has_two_parts(self, finished):
        recorded(finished)
        answer = json.loads(CliRunner().invoke(app, ["results", "Q1-2024", "--json"]).stdout)
        sure = {
            (of["analysis_name"], of["perspective"], of["metric"], of["return_period"]): of for of in answer["figures"]
        }
        for name in ("property_wind", "wind"):
            average = sure[name, "GUL", "AAL", None]
            assert average["years_error_low"] < average["loss"] < average["years_error_high"]
            assert average["replications"] == 1000
            assert average["sampling_error"] == pytest.approx((1 - MEANS_SHARE) * average["loss"])
            insured = sure[name, "IL", "AAL", None]
            assert insured["years_error_low"] < insured["loss"] < insured["years_error_high"]
            assert insured["sampling_error"] is None
            assert insured["sampling_error_unknown"] == "not known without repeated runs"
            rare = sure[name, "RI", "AEP", 250]
            assert rare["years_error_low"] < rare["loss"] < rare["years_error_high"]
            assert rare["sampling_error_unknown"] == "not known without repeated runs"
        assert sure["wind", "GUL", "STD_DEV", None]["years_error_low"] is None

    def test_it_is_exported_in_columns_of_its_own(self, finished, tmp_path):
        results, _ = recorded(finished)
        export_results(finished, tmp_path / "out")
        table = pq.read_table(tmp_path / "out" / "results.parquet")
        before = ["analysis_name", "is_group", "perspective", "metric", "return_period", "loss_factor", "loss",
                  "currency", "job_ids"]  # fmt: skip
        added = ["years_error_low", "years_error_high", "years_error_unknown", "replications", "sampling_error",
                 "sampling_error_unknown", "sampling_deviation", "sampling_runs"]  # fmt: skip
        assert table.column_names == [*before, "segment_by", "segment", *added]
        assert table["loss"].to_pylist() == results["loss"].tolist()
        rows = [row for row in table.to_pylist() if row["metric"] in {"AAL", "OEP", "AEP"}]
        assert all(row["years_error_low"] <= row["years_error_high"] for row in rows)

    def test_what_is_known_of_a_figure_ends_with_it(self, finished):
        recorded(finished)
        execute_command("UPDATE irp_analysis_result SET loss = loss + 1 WHERE analysis_name = 'wind'")
        answer = json.loads(CliRunner().invoke(app, ["results", "Q1-2024", "--json"]).stdout)
        known = {of["analysis_name"] for of in answer["figures"] if of["years_error_low"] is not None}
        assert known == {"property_wind", "commercial_wind", "everything"}

    def test_where_its_file_is_not_on_this_machine_the_figures_are_shown(self, finished):
        _, curves = recorded(finished)
        curves["curves/uncertainty.parquet"].unlink()
        done = CliRunner().invoke(app, ["results", "Q1-2024", "--json"])
        assert "How sure the figures are cannot be told: The file" in " ".join(done.stderr.split())
        figures = json.loads(done.stdout)["figures"]
        assert len(figures) > 100
        assert all(figure["years_error_low"] is None for figure in figures)

    @pytest.mark.parametrize(
        ("change", "reason", "sampling"),
        [
            ("#- '{files}'", "the analysis keeps no period losses", None),
            ("#- '{provenance,samples}'", "its job does not say over which years its losses are ('samples')", None),
            ("#- '{provenance,aal_by_means}'", None, NOT_RECORDED),
        ],
    )  # fmt: skip
    def test_what_is_not_known_has_its_reason(self, change, reason, sampling):
        batch_id = make_batch("Q1-2024", workbook(groupings=[{"name": "alone", "members": ["property_wind"]}]))
        finish_jobs(batch_id)
        execute_command(
            f"""
            UPDATE irp_job j SET result_data = result_data {change} FROM irp_job_configuration c
             WHERE c.id = j.job_configuration_id AND c.job_configuration_data ->> 'name' = 'commercial_wind'
            """
        )
        written = record_results("Q1-2024", batch_id).written
        rows = pq.read_table(written_path("Q1-2024", "curves/uncertainty.parquet")).to_pylist()
        [average] = [
            row for row in rows
            if (row["analysis_name"], row["perspective"], row["metric"]) == ("commercial_wind", "GUL", "AAL")
        ]  # fmt: skip
        assert average["years_error_unknown"] == reason
        assert average["sampling_error_unknown"] == sampling
        assert ("curves/commercial_wind/gul.parquet" in written) is (reason is None)


def recorded(batch_id: int) -> tuple[pd.DataFrame, dict[str, Path]]:
    """Record the results of the finished batch; return its figures, and the files of its curves by key."""
    written = record_results("Q1-2024", batch_id).written
    return get_results(batch_id), {key: written_path("Q1-2024", key) for key in written}


def written_path(cycle_name: str, key: str) -> Path:
    return settings.cycle_dir(get_current_schema(), cycle_name) / key
