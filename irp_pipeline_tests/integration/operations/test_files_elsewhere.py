"""Backup, restore, pruning and health with the files of cycles in a shared folder or on an S3 server."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from irp_pipeline import settings, store
from irp_pipeline.cli.checks import State, check_files
from irp_pipeline.helpers.artefact import list_artefacts, read_artefact
from irp_pipeline.helpers.cycle import create_cycle
from irp_pipeline.helpers.database import execute_command, execute_scalar
from irp_pipeline.helpers.db_context import schema_context
from irp_pipeline.helpers.stage import get_or_create_stage
from irp_pipeline.helpers.step import get_or_create_step, track_step
from irp_pipeline.operations.backup import back_up
from irp_pipeline.operations.health import check_health
from irp_pipeline.operations.pruning import PruneError, Reason, find_prunable, prune
from irp_pipeline.operations.restore import restore
from irp_pipeline.postgres import schemas
from irp_pipeline.store.finding import place_of_cycles
from irp_pipeline_tests.support.gate import Gate

CYCLE = "Q1-2024"


@pytest.fixture
def _one_server(test_schema: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The database stays that of all tests, whatever IRP_HOME is."""
    monkeypatch.setenv("IRP_DATABASE_URL", settings.database_url().render_as_string(hide_password=False))


@pytest.fixture
def cycle_id(_one_server: None, files_elsewhere: Path, test_schema: str, tmp_path: Path) -> Iterator[int]:
    """A cycle with two versions of a step's files, and a workbook, in the store."""
    cycle_id = create_cycle(CYCLE)
    step_id = get_or_create_step(get_or_create_stage(cycle_id, 1, "Notebook"), 1, "Losses")
    for losses in ("1\n", "2\n"):
        with track_step(step_id, rerun=True) as run:
            for name in ("losses.csv", "same.csv"):
                path = run.scratch / "results" / name
                path.parent.mkdir(exist_ok=True)
                path.write_text(losses if name == "losses.csv" else "same")
                run.add_file(path)
    (tmp_path / "workbook").write_text("a workbook")
    store.put(tmp_path / "workbook", f"{test_schema}/{CYCLE}/configuration.xlsx")
    yield cycle_id
    execute_command("DELETE FROM irp_cycle")


def losses_of(cycle_id: int) -> str:
    return read_artefact(CYCLE, list_artefacts(cycle_id)["results/losses.csv"]).read_text()


def test_a_backup_has_what_is_in_the_store_and_a_restore_puts_it_there(
    cycle_id: int, test_schema: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("IRP_HOME", str(tmp_path / "second machine"))
    made = back_up(tmp_path / "irp.zip")
    assert made.manifest.differences == ()
    packed = {entry.path for entry in made.manifest.entries if entry.member}
    assert packed == {f"{CYCLE}/results/losses.csv", f"{CYCLE}/results/same.csv", f"{CYCLE}/configuration.xlsx"}
    place = place_of_cycles()
    for stored in list(place.list(test_schema)):
        place.remove(stored.key)
    look = f"{test_schema}_look"
    try:
        restore(tmp_path / "irp.zip", look)
        monkeypatch.setenv("IRP_HOME", str(tmp_path / "third machine"))
        with schema_context(look):
            assert losses_of(execute_scalar("SELECT id FROM irp_cycle")) == "2\n"
        workbook = settings.cycle_dir(look, CYCLE) / "configuration.xlsx"
        assert store.bring(workbook).read_text() == "a workbook"
        restore(tmp_path / "irp.zip", look, replace=True)
    finally:
        schemas.drop(look)


def test_a_file_that_the_store_lost_is_told_in_the_backup(cycle_id: int, test_schema: str, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("IRP_HOME", str(tmp_path / "second machine"))
    artefact = list_artefacts(cycle_id)["results/losses.csv"]
    store.remove(f"{test_schema}/{CYCLE}/results/losses.csv", artefact.sha256)
    (difference,) = back_up(tmp_path / "irp.zip").manifest.differences
    assert (difference.path, difference.how) == (f"{CYCLE}/results/losses.csv", "is missing")


def test_only_versions_that_no_record_names_are_pruned(cycle_id: int, test_schema: str):
    assert find_prunable() == []  # they are too new
    (candidate,) = find_prunable(grace_hours=0)
    assert (candidate.reason, candidate.cycle, candidate.files, candidate.bytes) == (Reason.VERSION, CYCLE, 1, 2)
    assert prune([candidate], 0) == [candidate]
    assert find_prunable(grace_hours=0) == []
    assert {file.key.split("/")[-1] for file in store.list_published(test_schema)} == {"losses.csv", "same.csv"}
    assert losses_of(cycle_id) == "2\n"
    assert place_of_cycles().find(f"{test_schema}/{CYCLE}/configuration.xlsx") is not None


def test_cycles_that_are_not_on_record_are_pruned_only_by_name(cycle_id: int, test_schema: str, tmp_path: Path):
    store.publish(tmp_path / "workbook", f"{test_schema}/Q4-2023/results/a.csv", "a" * 64)
    store.publish(tmp_path / "workbook", f"{test_schema}/{CYCLE}/jobs/17-lost/losses.csv", "a" * 64)
    found = find_prunable(grace_hours=0)
    assert {(candidate.cycle, candidate.reason) for candidate in found} == {
        (CYCLE, Reason.VERSION),
        (CYCLE, Reason.JOB),
    }
    (candidate,) = find_prunable(["Q4-2023"], 0)
    assert candidate.reason is Reason.CYCLE
    assert prune([candidate], 0) == [candidate]
    with pytest.raises(PruneError, match="There is no cycle 'Q4-2023'"):
        find_prunable(["Q4-2023"], 0)


@pytest.mark.usefixtures("_one_server")
def test_health_asks_the_store(s3_gate: Gate, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("IRP_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("IRP_FILES_URL", bucket)
    health = check_health()
    assert (health.files, health.problems) == (bucket, ())
    assert [finding.state for finding in check_files()] == [State.OK]
    monkeypatch.setattr("irp_pipeline.operations.health._STORE_SECONDS", 1)
    monkeypatch.setattr("irp_pipeline.cli.checks._STORE_SECONDS", 1)
    s3_gate.refuse()
    (problem,) = check_health().problems
    assert problem.startswith(f"The store of files {bucket} did not answer within 1 s.")
    assert [finding.state for finding in check_files()] == [State.WRONG]
    s3_gate.open()
    monkeypatch.setenv("IRP_FILES_URL", "s3://not-there")
    monkeypatch.setattr("irp_pipeline.operations.health._STORE_SECONDS", 60)
    (problem,) = check_health().problems
    assert "there is no such bucket" in problem
    monkeypatch.delenv("IRP_FILES_URL")
    assert list(check_files()) == []
