"""A cycle on two machines that share a database and an S3 server, and no disk.

A machine is an IRP_HOME of its own. Jobs run on the first; what its worker does at their end, the test does.
"""

import json
from pathlib import Path

import pytest
from dagster import AssetKey, DagsterInstance

from irp_pipeline import hashes, settings, store
from irp_pipeline.helpers.artefact import ArtefactError, list_artefacts, read_artefact
from irp_pipeline.helpers.database import fetch_all
from irp_pipeline.helpers.result import export_results
from irp_pipeline.report import collect, update
from irp_pipeline.store.finding import place_of_cycles
from irp_pipeline_tests.support.command import Run
from irp_pipeline_tests.support.small_engine import CYCLE, Jobs, Launcher, cycle_id, ended, newest
from irp_pipeline_tests.support.small_engine import losses as losses_of_cycle

FIRST_STAGES = ("setup", "extract", "process", "submit", "monitor")


def statuses_of_newest_runs() -> set[str]:
    rows = fetch_all("SELECT DISTINCT ON (step_id) status FROM irp_step_run ORDER BY step_id, run_num DESC")
    return {row["status"] for row in rows}


def publish_jobs(folder: Path) -> None:
    """Do what the worker of jobs does when they have ended."""
    for job in fetch_all("SELECT job_key, result_data FROM irp_job"):
        store.publish_job_files(folder / "jobs" / job["job_key"], job["result_data"])


@pytest.fixture
def second_home(tmp_path: Path) -> Path:
    return tmp_path / "second machine"


@pytest.fixture
def done(launch: Launcher, folder: Path, jobs: Jobs, bucket: str, monkeypatch: pytest.MonkeyPatch) -> Launcher:
    """A cycle that ended on the first machine, with its files in an S3 server."""
    monkeypatch.setenv("IRP_FILES_URL", f"{bucket}/irp")
    place = place_of_cycles()
    for path in folder.rglob("*"):
        if path.is_file():
            place.put(path, store.key_of(path), replace=True)
    assert launch().success
    publish_jobs(folder)
    return launch


def test_the_second_machine_skips_what_is_done_and_reads_it(
    done: Launcher, jobs: Jobs, second_home: Path, monkeypatch: pytest.MonkeyPatch
):
    ran = jobs.runs()
    schema = done.schema
    monkeypatch.setenv("IRP_HOME", str(second_home))
    assert done().success
    assert newest() == ended("SKIPPED")
    assert statuses_of_newest_runs() == {"SKIPPED"}
    assert jobs.runs() == ran
    artefacts = list_artefacts(cycle_id())
    assert len(artefacts) > 10
    for artefact in artefacts.values():
        path = read_artefact(CYCLE, artefact)
        assert path.is_relative_to(second_home)
        assert hashes.file_sha256(path, recheck=True) == artefact.sha256
    page = update(collect(CYCLE), cycle_id(), settings.cycle_dir(schema, CYCLE))
    assert "<html" in page.read_text()


def test_the_second_machine_tells_a_new_instance_of_the_assets_from_the_store(
    done: Launcher, bucket: str, second_home: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("IRP_HOME", str(second_home))
    monkeypatch.setenv("DB_SCHEMA", done.schema)
    with DagsterInstance.ephemeral() as rebuilt:
        assert Launcher(rebuilt, done.schema)().success
        assert newest() == ended("SKIPPED")
        shown = {}
        for asset in ("extract", "report"):
            (record,) = rebuilt.fetch_materializations(AssetKey(asset), limit=2).records
            assert record.asset_materialization is not None
            shown[asset] = record.asset_materialization.metadata
    assert shown["extract"]["locations"].value == 400
    assert shown["report"]["report"].value == f"{bucket}/irp/{done.schema}/{CYCLE}/report/report.html"
    assert f"## {CYCLE}: COMPLETED" in str(shown["report"]["summary"].value)


def test_the_second_machine_goes_on_where_the_first_one_ended(
    done: Launcher, folder: Path, second_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    figures = losses_of_cycle()
    monkeypatch.setenv("IRP_HOME", str(second_home))
    assert done(rerun_completed=True, only="export_results").success
    assert newest()["export_results"] == "COMPLETED"
    assert losses_of_cycle() == figures
    batch = fetch_all("SELECT max(id) AS id FROM irp_batch")[0]["id"]
    names = {path.name for path in export_results(batch, tmp_path / "exported")}
    assert {"results.csv", "location_losses.parquet"} <= names


def test_the_report_is_fetched_and_a_workbook_is_read_at_its_address(
    done: Launcher, bucket: str, irp: Run, second_home: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("IRP_HOME", str(second_home))
    told = json.loads(irp("report", CYCLE, "--db-schema", done.schema, "--json").stdout)
    page = Path(told["report"])
    assert page == settings.cycle_dir(done.schema, CYCLE) / "report" / "report.html"
    recorded = list_artefacts(cycle_id(), "report")["report/report.html"]
    assert hashes.file_sha256(page, recheck=True) == recorded.sha256
    for name in (f"{bucket}/irp/{done.schema}/{CYCLE}/configuration.xlsx", f"{done.schema}/{CYCLE}/configuration.xlsx"):
        assert f"{name} is valid: 1 portfolio, 3 analyses" in irp("config", "check", name).output
    ops = {"setup": {"ops": {"validate_configuration": {"config": {"workbook": name}}}}}
    assert done(ops=ops).success
    assert newest() == ended("SKIPPED")


def test_a_step_works_again_if_the_store_lost_its_file(
    done: Launcher, second_home: Path, monkeypatch: pytest.MonkeyPatch
):
    (lost,) = list_artefacts(cycle_id(), "report").keys() & {"report/report.md"}
    artefact = list_artefacts(cycle_id())[lost]
    store.remove(f"{done.schema}/{CYCLE}/{lost}", artefact.sha256)
    assert done().success  # the first machine has its copy
    assert newest()["cycle_report"] == "SKIPPED"
    monkeypatch.setenv("IRP_HOME", str(second_home))
    with pytest.raises(ArtefactError, match=r"There is no .*report\.md.* Run the cycle again"):
        read_artefact(CYCLE, artefact)
    assert done().success
    assert newest() == ended("SKIPPED") | {"cycle_report": "COMPLETED"}
    assert read_artefact(CYCLE, list_artefacts(cycle_id())[lost]).is_file()


def test_on_the_local_default_files_are_moved_into_place_and_nothing_is_copied(
    launch: Launcher, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("IRP_FILES_URL", raising=False)
    moved: dict[str, int] = {}
    replace = Path.replace

    def watched(self: Path, target: Path) -> Path:
        moved[str(target)] = self.stat().st_ino
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", watched)
    assert launch().success
    keys = [key for key in list_artefacts(cycle_id()) if not key.startswith("results/analyses")]
    assert len(keys) > 5
    for key in keys:
        assert (folder / key).stat().st_ino == moved[str(folder / key)]
    assert not (folder / "published").exists()
