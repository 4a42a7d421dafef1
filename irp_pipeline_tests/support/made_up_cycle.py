"""A cycle as it is after its jobs have finished, made by hand: no model is run.

A pytest plugin: its fixtures are there for every test module.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from irp_pipeline import settings
from irp_pipeline.engines.folders import result_file
from irp_pipeline.helpers.batch import create_batch
from irp_pipeline.helpers.configuration import get_active_configuration, load_configuration
from irp_pipeline.helpers.constants import BatchType
from irp_pipeline.helpers.cycle import create_cycle, find_cycle
from irp_pipeline.helpers.database import execute_command, fetch_all, fetch_one
from irp_pipeline.helpers.db_context import get_current_schema
from irp_pipeline.helpers.result import CurveFiles, compute_results
from irp_pipeline.helpers.stage import get_or_create_stage
from irp_pipeline.helpers.step import get_or_create_step, track_step
from irp_pipeline.losses import figures, period_losses, segment_period_losses
from irp_pipeline.vocabulary import Perspective
from irp_pipeline.workbook import Workbook, write_workbook

YEARS, SAMPLES = 1000, 5
RETURN_PERIODS = (2, 5, 10, 50, 100, 250, 500, 1000)
MEANS_SHARE = 0.98
"""The AAL of mean losses, as a share of the sampled one."""
SHARES = {"GUL": 1.0, "IL": 0.7, "RI": 0.4}


@pytest.fixture
def own_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, test_schema: str) -> None:
    """Files and cycles of a test are its own; the server stays the one of the suite."""
    if settings.database_source() == "embedded":
        monkeypatch.setenv("IRP_DATABASE_URL", settings.database_url().render_as_string(hide_password=False))
    monkeypatch.setenv("IRP_HOME", str(tmp_path / "home"))
    execute_command("DELETE FROM irp_cycle")


@pytest.fixture(scope="module")
def own_home(tmp_path_factory: pytest.TempPathFactory, test_schema: str) -> Iterator[Path]:
    """Files of the tests of a module are their own; the server stays the one of the suite."""
    with pytest.MonkeyPatch.context() as patch:
        if settings.database_source() == "embedded":
            patch.setenv("IRP_DATABASE_URL", settings.database_url().render_as_string(hide_password=False))
        patch.setenv("IRP_HOME", str(tmp_path_factory.mktemp("home") / "home"))
        yield settings.irp_home()


@pytest.fixture
def finished(own_files: None) -> int:
    """A batch whose jobs are all FINISHED."""
    batch_id = make_batch("Q1-2024", workbook())
    finish_jobs(batch_id)
    return batch_id


def workbook(
    *,
    groupings: Sequence[Mapping[str, Any]] = (),
    description: str = "First quarter",
    exposure_date: str | None = None,
    segments: Mapping[str, Sequence[str]] | None = None,
) -> Workbook:
    """Two stochastic analyses, a deterministic one, and two groups; the first two perhaps with segments, by name."""
    segments = segments or {}
    stochastic = {"engine": "oasis_stochastic", "model": "storm", "model_options": {"gulmc": True}, "samples": SAMPLES}
    return Workbook.model_validate(
        {
            "metadata": {"currency": "EUR", "description": description, "insurer": "Example Insurance"}
            | ({"exposure_date": exposure_date} if exposure_date else {}),
            "portfolios": [
                {"name": name, "source": "csv", **{table: f"{name}/{table}.csv" for table in tables}}
                for name, tables in (
                    ("property", ("location", "account", "ri_info", "ri_scope")),
                    ("commercial", ("location", "account", "ri_info", "ri_scope")),
                )
            ],
            "analyses": [
                {"name": "property_wind", "portfolio": "property", "perspectives": list(SHARES), **stochastic}
                | {"return_periods": list(RETURN_PERIODS), "segments": segments.get("property_wind", [])},
                {"name": "commercial_wind", "portfolio": "commercial", "perspectives": list(SHARES), **stochastic}
                | {"return_periods": list(RETURN_PERIODS), "segments": segments.get("commercial_wind", [])},
                {
                    "name": "property_stress",
                    "portfolio": "property",
                    "engine": "oasis_deterministic",
                    "loss_factor": [0.1, 0.5],
                    "perspectives": ["GUL", "IL"],
                },
            ],
            "groupings": groupings
            or [
                {"name": "everything", "members": ["wind"]},
                {"name": "wind", "members": ["property_wind", "commercial_wind"]},
            ],
        }
    )


def make_batch(cycle_name: str, content: Workbook) -> int:
    """Make a cycle with a validated workbook and its batch, nothing submitted; return the batch's id."""
    cycle_id = create_cycle(cycle_name)
    folder = settings.cycle_dir(get_current_schema(), cycle_name)
    data = folder / "data"
    for portfolio in content.portfolios:
        for table in ("location", "account", "ri_info", "ri_scope"):
            if place := getattr(portfolio, table):
                (data / place).parent.mkdir(parents=True, exist_ok=True)
                (data / place).touch()
    (data / "storm").mkdir()
    load_configuration(cycle_id, write_workbook(data / "configuration.xlsx", content))
    configuration = get_active_configuration(cycle_id)
    assert configuration is not None
    step_id = get_or_create_step(get_or_create_stage(cycle_id, 1, "Setup"), 3, "Create batches")
    with track_step(step_id, started_by="analyst", dagster_run_id="9f1c0a52-run") as run:
        batch_id = create_batch(BatchType.ANALYSIS, configuration["id"], step_id)
        run.output["analysis batch"] = batch_id
    return batch_id


def record_exposure(cycle_name: str) -> None:
    """Record what the stages Extract and Process record."""
    cycle = fetch_one("SELECT id FROM irp_cycle WHERE cycle_name = %s", (cycle_name,))
    assert cycle is not None
    for stage_num, stage, step_num, step, output in (
        (2, "Extract", 1, "Extract exposure", {"property account records": 120, "commercial account records": 40}),
        (
            2,
            "Extract",
            2,
            "Control totals",
            {
                "property locations": 12_598,
                "property TIV DE EUR": 8_123_456_789.0,
                "property TIV FR EUR": 998_000_000.5,
                "commercial locations": 830,
                "commercial TIV DE EUR": 3_400_000_000.0,
            },
        ),
        (
            3,
            "Process",
            2,
            "Build portfolios",
            {f"{name} exposure hash": f"{number}a" * 32 for number, name in enumerate(("property", "commercial"))},
        ),
    ):
        step_id = get_or_create_step(get_or_create_stage(cycle["id"], stage_num, stage), step_num, step)
        with track_step(step_id, started_by="analyst", dagster_run_id="9f1c0a52-run") as run:
            run.output.update(output)


def record_results(cycle_name: str, batch_id: int) -> CurveFiles:
    """Save the figures of a batch with their whole curves, as the step of the stage Monitor does."""
    cycle = find_cycle(cycle_name)
    assert cycle is not None
    step_id = get_or_create_step(get_or_create_stage(cycle.id, 5, "Monitor"), 2, "Group results")
    with track_step(step_id, started_by="analyst", dagster_run_id="9f1c0a52-run") as run:
        curves = CurveFiles(run.scratch)
        run.when_complete(compute_results(batch_id, curves).save)
        for path in curves.written.values():
            run.add_file(path)
    return curves


def write_plt(path: Path, seed: int, share: float) -> None:
    """Write the sampled losses of some storms, the same events in the same years whatever the seed."""
    events, losses = np.random.default_rng(1), np.random.default_rng(seed)
    count = 2 * YEARS
    period = events.integers(1, YEARS + 1, count)
    event = events.integers(1, 40, count)
    rows = pa.table(
        {
            "Period": pa.array(np.repeat(period, SAMPLES), pa.int32()),
            "PeriodWeight": pa.array([1 / YEARS] * count * SAMPLES, pa.float32()),
            "EventId": pa.array(np.repeat(event, SAMPLES), pa.int32()),
            **{name: pa.array([1] * count * SAMPLES, pa.int32()) for name in ("Year", "Month", "Day")},
            **{name: pa.array([0] * count * SAMPLES, pa.int32()) for name in ("Hour", "Minute")},
            "SummaryId": pa.array([1] * count * SAMPLES, pa.int32()),
            "SampleId": pa.array(np.tile(np.arange(1, SAMPLES + 1), count), pa.int32()),
            "Loss": pa.array(losses.pareto(1.8, count * SAMPLES) * 2e5 * share, pa.float32()),
        }
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(rows, path)


def finish_jobs(batch_id: int, *, only: Sequence[str] | None = None, scale: float = 1.0, **provenance: Any) -> None:
    """Let jobs of a batch finish, and the batch with them if all do.

    Args:
        batch_id: the batch.
        only: names of analyses; None means all.
        scale: what the losses are multiplied with.
        provenance: replaces what the engine says.
    """
    cycle = fetch_one(
        """
        SELECT c.cycle_name FROM irp_batch b JOIN irp_configuration f ON f.id = b.configuration_id
          JOIN irp_cycle c ON c.id = f.cycle_id WHERE b.id = %s
        """,
        (batch_id,),
    )
    assert cycle is not None
    jobs = settings.cycle_dir(get_current_schema(), cycle["cycle_name"]) / "jobs"
    for job in fetch_all(
        """
        SELECT j.id, j.job_key, c.job_configuration_data AS analysis FROM irp_job j
          JOIN irp_job_configuration c ON c.id = j.job_configuration_id WHERE j.batch_id = %s AND NOT j.skipped
        """,
        (batch_id,),
    ):
        if only is None or job["analysis"]["name"] in only:
            result = result_of(job["analysis"], jobs / job["job_key"], scale)
            result["provenance"] |= provenance
            execute_command(
                "UPDATE irp_job SET status = 'FINISHED', result_data = %s, completed_ts = now() WHERE id = %s",
                (result, job["id"]),
            )
    unfinished = "EXISTS (SELECT FROM irp_job WHERE batch_id = %s AND status <> 'FINISHED' AND NOT skipped)"
    execute_command(
        f"UPDATE irp_batch SET status = CASE WHEN {unfinished} THEN 'ACTIVE' ELSE 'COMPLETED' END WHERE id = %s",
        (batch_id, batch_id),
    )


def result_of(analysis: Mapping[str, Any], folder: Path, scale: float) -> dict[str, Any]:
    """Write the files of a job and return what its engine reports."""
    result: dict[str, Any] = {"currency": "EUR", "figures": [], "files": {}}
    result["provenance"] = {
        "engine": "Oasis LMF",
        "engine_version": "2.5.8",
        "exposure_hash": "e" * 64,
        "processes": 1,
        "seconds": 17.2,
    }
    if analysis["engine"] == "oasis_deterministic":
        factors = analysis["loss_factor"]
        losses = pa.table(
            {"LocNumber": ["1", "2"] * len(factors), "loss_factor": [*np.repeat(factors, 2)]}
            | {name: [100.0 * scale, 300.0 * scale] * len(factors) for name in ("gul", "il")}
        )
        (folder / "results").mkdir(parents=True)
        pq.write_table(losses, folder / "results" / "losses.parquet")
        result["files"] = {"losses": result_file(folder, "results/losses.parquet")}
        result["figures"] = [
            {"perspective": perspective, "metric": "LOSS", "loss_factor": factor, "loss": 4e6 * factor * scale}
            for perspective in ("GUL", "IL")
            for factor in factors
        ]
        return result
    result["provenance"] |= {
        "model": "storm",
        "model_version": "1.2",
        "samples": SAMPLES,
        "periods": YEARS,
        "aal_by_means": {},
        "occurrence_hash": "0c" * 32,
        "settings": {"gul_output": True},
    }
    for perspective, share in SHARES.items():
        name = f"{perspective.lower()}_plt_sample"
        path = folder / "results" / f"{perspective.lower()}_S1_plt_sample.parquet"
        write_plt(path, 2 + len(analysis["name"]), share * scale)
        result["files"][name] = result_file(folder, f"results/{path.name}")
        found = figures(
            period_losses(path, periods=YEARS),
            perspective=Perspective(perspective),
            periods=YEARS,
            samples=SAMPLES,
            return_periods=analysis["return_periods"],
        )
        if perspective == "GUL":
            result["provenance"]["aal_by_means"] = {perspective: MEANS_SHARE * found[0].loss}
        result["figures"] += [
            {
                "perspective": figure.perspective,
                "metric": figure.metric,
                "return_period": figure.return_period,
                "loss_factor": None,
                "loss": figure.loss,
            }
            for figure in found
        ]
    for number, combination in enumerate(analysis.get("segments") or (), start=2):
        add_segments(result, combination, number, folder, analysis["return_periods"])
    return result


def add_segments(
    result: dict[str, Any], combination: str, number: int, folder: Path, return_periods: Sequence[float]
) -> None:
    """Part the losses of a job into two segments by their events, and a third that is not modelled."""
    by = combination.split("+")
    values = {1: ["1050"] * len(by), 2: ["1100"] * len(by)}
    files = {perspective: f"{perspective.lower()}_S{number}_plt_sample" for perspective in SHARES}
    result.setdefault("segments", []).append(
        {
            "by": by,
            "segments": [
                {"values": of, "tiv": 1e6 * summary, "locations": summary, "summaries": dict.fromkeys(SHARES, summary)}
                for summary, of in values.items()
            ]
            + [{"values": ["9999"] * len(by), "tiv": 1e6, "locations": 1, "summaries": {}}],
            "period_losses": files,
        }
    )
    for perspective, name in files.items():
        rows = pq.read_table(folder / result["files"][f"{perspective.lower()}_plt_sample"]["path"])
        summaries = 1 + rows["EventId"].to_numpy() % 2
        place = rows.column_names.index("SummaryId")
        path = folder / "results" / f"{name}.parquet"
        pq.write_table(rows.set_column(place, "SummaryId", pa.array(summaries, pa.int32())), path)
        result["files"][name] = result_file(folder, f"results/{path.name}")
        parts = {summary: tuple(of) for summary, of in values.items()}
        for of, years in segment_period_losses([(path, parts)], YEARS).items():
            found = figures(
                years,
                perspective=Perspective(perspective),
                periods=YEARS,
                samples=SAMPLES,
                return_periods=return_periods,
            )
            result["figures"] += [
                {
                    "perspective": figure.perspective,
                    "metric": figure.metric,
                    "return_period": figure.return_period,
                    "loss_factor": None,
                    "loss": figure.loss,
                    "segment_by": by,
                    "segment": list(of),
                }
                for figure in found
            ]
