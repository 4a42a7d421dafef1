"""What Dagster is told of a cycle: its assets and checks, of which schema, and when again."""

import base64
import shutil
from pathlib import Path
from typing import Any

import pytest
from dagster import (
    AssetCheckEvaluation,
    AssetCheckSeverity,
    AssetKey,
    AssetMaterialization,
    AssetRecordsFilter,
    DagsterEventType,
    DagsterInstance,
)

from irp_pipeline import settings
from irp_pipeline.definitions import definitions
from irp_pipeline.helpers.cycle import create_cycle
from irp_pipeline.helpers.database import execute_command
from irp_pipeline.helpers.result import get_results, recorded_figures
from irp_pipeline.orchestration import assets
from irp_pipeline.orchestration.asset_events import link_to
from irp_pipeline.orchestration.internals import PartitionKeyFilter
from irp_pipeline.orchestration.partitions import cycles
from irp_pipeline.vocabulary import Metric, Perspective
from irp_pipeline_tests.support.page_server import page_server
from irp_pipeline_tests.support.small_engine import CYCLE, Launcher

LATER = "Q2-2024"
ASSETS = ["extract", "losses", "portfolio", "report"]
CHECKS = {check.name: check for check in assets.checks_of_the_cycle.check_specs if check != assets.APPROVAL}
"""Those of every cycle; the approval is evaluated only where it is wanted."""
CRITICAL = AssetCheckSeverity.ERROR


@pytest.fixture(autouse=True)
def default_schema(monkeypatch: pytest.MonkeyPatch, test_schema: str) -> None:
    monkeypatch.setenv("DB_SCHEMA", test_schema)


class Told:
    """What an instance has been told, the newest last."""

    def __init__(self, instance: DagsterInstance) -> None:
        self._instance = instance

    def materialisations(self, asset: str, cycle: str = CYCLE) -> list[AssetMaterialization]:
        records = self._instance.fetch_materializations(
            AssetRecordsFilter(AssetKey(asset), asset_partitions=[cycle]), limit=100, ascending=True
        ).records
        return [found for record in records if (found := record.asset_materialization) is not None]

    def values(self, asset: str, cycle: str = CYCLE) -> dict[str, Any]:
        return {name: item.value for name, item in self.materialisations(asset, cycle)[-1].metadata.items()}

    def evaluations(self, check: str, cycle: str | None = CYCLE) -> list[AssetCheckEvaluation]:
        """The evaluations of a check for one cycle, or for all."""
        records = self._instance.event_log_storage.get_asset_check_execution_history(
            CHECKS[check].key, limit=100, partition_filter=PartitionKeyFilter(key=cycle) if cycle else None
        )
        events = [record.event.dagster_event for record in reversed(records) if record.event is not None]
        return [event.asset_check_evaluation_data for event in events if event is not None]

    def counts(self) -> dict[str, int]:
        """How often each asset was materialised and each check evaluated, for all cycles."""
        found = {
            asset: len(self._instance.fetch_materializations(AssetKey(asset), limit=100).records) for asset in ASSETS
        }
        return found | {check: len(self.evaluations(check, None)) for check in CHECKS}


@pytest.fixture
def told(instance: DagsterInstance) -> Told:
    return Told(instance)


def each(times: int) -> dict[str, int]:
    return dict.fromkeys((*ASSETS, *CHECKS), times)


def keep_locations(folder: Path, lines: int) -> None:
    file = folder / "commercial" / "location.csv"
    file.write_text("\n".join(file.read_text().splitlines()[: lines + 1]) + "\n")


def test_a_cycle_materialises_its_assets_with_its_figures_and_evaluates_its_checks(launch, folder, told):
    assert launch().success
    assert told.counts() == each(1)

    extract = told.values("extract")
    assert extract["locations"] == extract["commercial locations"] == 400
    assert extract["TIV GBP"] == pytest.approx(
        sum(value for name, value in extract.items() if name.startswith("commercial TIV "))
    )
    assert extract["TIV GBP"] > 1e6
    assert told.values("portfolio")["commercial location records"] == 400
    losses = told.values("losses")
    assert {name: value for name, value in losses.items() if isinstance(value, float)} == {
        "low GUL LOSS at factor 0.1": 40.0,
        "middle GUL LOSS at factor 0.5": 200.0,
        "high GUL LOSS at factor 1": 400.0,
    }
    assert (losses["analyses"], losses["groups"], losses["currency"]) == (3, 0, "GBP")
    report = told.values("report")
    assert Path(report["report"]) == folder / "report" / "report.html"
    assert report["summary"] == (folder / "report" / "report.md").read_text()
    assert "EP curves" not in report  # there are only losses at loss factors
    with page_server() as pages:
        assert pages.get(report["page"]).text == (folder / "report" / "report.html").read_text()
        assert "Loss at factor 0.5" in pages.get(losses["all figures"]).text

    (totals,) = told.evaluations("control_totals")
    assert totals.passed
    assert totals.description == f"{CYCLE}: The extract agrees with its source"
    assert totals.metadata["commercial locations"].value == 400
    (oed,) = told.evaluations("oed_findings")
    assert oed.asset_key == AssetKey("extract")
    assert oed.metadata["commercial errors"].value == 0
    (sane,) = told.evaluations("sanity_of_losses")
    assert (sane.asset_key, sane.passed) == (AssetKey("losses"), True)
    assert sane.metadata["compared with"].value == "no earlier cycle"


def test_links_to_pages_are_at_the_address_of_the_ui_if_there_is_one(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("IRP_UI_URL", raising=False)
    assert link_to("/irp/cycles").value == "/irp/cycles"
    monkeypatch.setenv("IRP_UI_URL", "https://irp.example.com/")
    assert link_to("/irp/cycles").value == "https://irp.example.com/irp/cycles"
    monkeypatch.setenv("IRP_UI_URL", "not an address")
    assert link_to("/irp/cycles").value == "/irp/cycles"


def test_a_skipped_step_tells_nothing_new_and_changed_content_is_told(launch, folder, told):
    assert launch().success
    assert launch().success
    assert told.counts() == each(1)

    keep_locations(folder, 300)
    assert launch().success
    assert told.counts() == each(2)
    assert told.values("losses")["high GUL LOSS at factor 1"] == 300.0
    versions = [[one.tags["dagster/data_version"] for one in told.materialisations(asset)] for asset in ASSETS]
    assert [len(set(of_asset)) for of_asset in versions] == [2] * len(ASSETS)


def test_the_same_work_done_again_has_the_same_data_version(launch, folder, told):
    assert launch().success
    assert launch(rerun_completed=True).success
    assert told.counts() == each(2)
    for asset in ("extract", "portfolio", "losses"):
        assert len({one.tags["dagster/data_version"] for one in told.materialisations(asset)}) == 1, asset


def test_a_rebuilt_instance_catches_up_without_any_work(launch, folder, told, test_schema):
    assert launch().success
    with DagsterInstance.ephemeral() as rebuilt:
        assert Launcher(rebuilt, test_schema)().success
        again = Told(rebuilt)
        assert again.counts() == each(1)
        for asset in ASSETS:
            assert again.materialisations(asset) == told.materialisations(asset)
        assert again.evaluations("oed_findings") == told.evaluations("oed_findings")


def test_only_runs_of_the_default_schema_tell_anything(launch, folder, told, monkeypatch):
    monkeypatch.setenv("DB_SCHEMA", "another_one")
    assert launch().success
    assert told.counts() == each(0)


def test_each_cycle_is_a_partition_of_its_own(launch, folder, told, test_schema):
    create_cycle(LATER)
    later = settings.cycle_dir(test_schema, LATER)
    shutil.copytree(folder, later)
    keep_locations(later, 100)
    assert launch().success
    assert launch(cycle=LATER).success
    assert told.counts() == each(2)
    assert [told.values("extract", cycle)["locations"] for cycle in (CYCLE, LATER)] == [400, 100]
    assert [told.values("losses", cycle)["high GUL LOSS at factor 1"] for cycle in (CYCLE, LATER)] == [400.0, 100.0]


@pytest.mark.parametrize(
    ("way", "severity", "counts"),
    [("pays twice", CRITICAL, (1, 0)), ("covers little", AssetCheckSeverity.WARN, (0, 1))],
)
def test_findings_about_losses_fail_their_check_with_their_severity(launch, folder, jobs, told, way, severity, counts):
    jobs.behave(middle=way)
    assert launch().success
    (sane,) = told.evaluations("sanity_of_losses")
    assert (sane.passed, sane.severity) == (False, severity)
    assert (sane.metadata["errors"].value, sane.metadata["warnings"].value) == counts
    assert "| middle |" in sane.metadata["findings"].value


def test_exposure_with_errors_fails_the_check_of_the_standard_although_the_step_fails(launch, folder, told):
    file = folder / "commercial" / "location.csv"
    good = file.read_text()
    file.write_text(good.replace(",GBP,", ",XYZ,", 1))
    assert not launch().success
    (oed,) = told.evaluations("oed_findings")
    assert (oed.passed, oed.severity) == (False, CRITICAL)
    assert "XYZ" in (oed.description or "")
    assert told.materialisations("losses") == []

    file.write_text(good)
    assert launch().success
    failed, mended = told.evaluations("oed_findings")
    assert failed == oed
    assert mended.severity is not CRITICAL or mended.passed


def test_an_extract_that_differs_from_its_source_fails_the_check_of_control_totals(launch, folder, told, test_schema):
    assert launch().success
    (totals,) = (settings.cycle_dir(test_schema, CYCLE) / "extracts").rglob("source_totals.json")
    right = totals.read_bytes()
    wrong = right.replace(b'"locations": ', b'"locations": 9', 1)
    assert wrong != right
    totals.write_bytes(wrong)
    record(totals)
    assert not launch(only="control_totals", rerun_completed=True).success
    passed, failed = told.evaluations("control_totals")
    assert passed.passed
    assert (failed.passed, failed.severity) == (False, CRITICAL)
    assert "does not agree with its source" in (failed.description or "")


def record(file: Path) -> None:
    """Make a changed file the recorded one."""
    from irp_pipeline.hashes import file_sha256

    changed = execute_command(
        "UPDATE irp_artefact SET sha256 = %s, bytes = %s WHERE artefact_key LIKE %s",
        (file_sha256(file), file.stat().st_size, f"%/{file.name}"),
    )
    assert changed == 1


def test_a_step_that_is_repeated_within_a_run_tells_its_outcome_twice_without_failing(instance, told, launch, folder):
    """Dagster keeps one evaluation of a check for each run and partition."""
    result = launch()
    assert result.success
    (before,) = told.evaluations("control_totals")
    event = next(
        event
        for event in result.all_events
        if event.event_type is DagsterEventType.ASSET_CHECK_EVALUATION
        and event.asset_check_evaluation_data.check_name == "control_totals"
    )
    instance.report_dagster_event(event, result.run_id)
    assert told.evaluations("control_totals") == [before]


def test_the_declarations_have_the_lineage_and_the_partitions():
    graph = definitions.get_repository_def().asset_graph
    parents = {
        asset.key.to_user_string(): {key.to_user_string() for key in asset.parent_keys} for asset in graph.asset_nodes
    }
    assert parents == {
        "extract": set(),
        "portfolio": {"extract"},
        "losses": {"portfolio"},
        "report": {"extract", "losses"},
    }
    assert {asset.partitions_def for asset in graph.asset_nodes} == {cycles}
    assert {(key.asset_key.to_user_string(), key.name) for key in graph.asset_check_keys} == {
        ("extract", "control_totals"),
        ("extract", "oed_findings"),
        ("losses", "sanity_of_losses"),
        ("losses", "approval"),
    }


def test_nobody_evaluates_a_check_but_the_steps(instance):
    job = definitions.get_repository_def().get_job("__ASSET_JOB")
    result = job.execute_in_process(
        instance=instance,
        raise_on_error=False,
        run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
    )
    assert not result.success
    (failure,) = [event for event in result.all_events if event.is_step_failure]
    assert "Launch the job run_cycle" in failure.step_failure_data.error_display_string


def test_losses_of_stochastic_analyses_are_plotted_as_aal_and_usual_oep_and_the_report_shows_the_curves(
    finished, launch, told
):
    assert launch(only="group_results").success
    assert launch(only="cycle_report").success
    losses = told.values("losses")
    saved = {
        (item.analysis_name, item.figure.perspective, item.figure.metric, item.figure.return_period): item.figure.loss
        for item in recorded_figures(get_results(finished))
    }
    for name in ("property_wind", "wind"):  # an analysis and a group
        for perspective in Perspective:
            assert losses[f"{name} {perspective} AAL"] == saved[name, perspective, Metric.AAL, None]
            for years in (100, 250):
                assert losses[f"{name} {perspective} OEP {years} years"] == saved[name, perspective, Metric.OEP, years]
    assert not [name for name in losses if "500 years" in name or "AEP" in name]
    report = told.values("report")
    picture = report["EP curves"].partition("data:image/png;base64,")[2].partition(")")[0]
    assert base64.b64decode(picture) == (Path(report["report"]).parent / "ep_curves.png").read_bytes()
