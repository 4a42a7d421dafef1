"""Which files go because no record refers to them, and which never do."""

import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from irp_pipeline import settings
from irp_pipeline.engines.folders import MARK
from irp_pipeline.helpers.cycle import archive_cycle, create_cycle, delete_cycle, get_cycle_by_name
from irp_pipeline.helpers.database import DatabaseError, execute_command, execute_scalar
from irp_pipeline.helpers.db_context import get_current_schema, schema_context
from irp_pipeline.helpers.stage import get_or_create_stage
from irp_pipeline.helpers.step import get_or_create_step, track_step
from irp_pipeline.operations.archive import BackupError
from irp_pipeline.operations.backup import back_up
from irp_pipeline.operations.pruning import PruneError, Reason, find_prunable, prune
from irp_pipeline.operations.restore import restore
from irp_pipeline_tests.support.dying import dies
from irp_pipeline_tests.support.recording_engine import jobs_of, recording_engine
from irp_pipeline_tests.support.whole_schema import files_of, fill


@pytest.fixture(autouse=True)
def _files(test_schema: str, tmp_path: Path) -> Iterator[None]:
    with recording_engine(tmp_path):
        yield
    execute_command("DELETE FROM irp_cycle")


def folder_of(cycle: str) -> Path:
    return settings.cycle_dir(get_current_schema(), cycle)


def put(path: Path, content: str = "1234567890") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def found(*cycles: str, hours: float = 0) -> dict[str, Reason]:
    root = settings.cycles_dir(get_current_schema())
    return {str(candidate.path.relative_to(root)): candidate.reason for candidate in find_prunable(cycles, hours)}


def delete(cycle: str) -> None:
    row = get_cycle_by_name(cycle)
    assert row is not None
    assert delete_cycle(row["id"])


def test_what_is_on_record_stays(test_schema: str) -> None:
    fill()
    fill("Q2")
    archive_cycle(execute_scalar("SELECT id FROM irp_cycle WHERE cycle_name = 'Q2'"))
    before = files_of(settings.cycles_dir(test_schema))
    assert found() == {}
    assert prune(find_prunable(grace_hours=0), 0) == []
    assert files_of(settings.cycles_dir(test_schema)) == before


def test_jobs_that_are_not_on_record_go() -> None:
    fill()
    lost = put(folder_of("Q1") / "jobs" / "0f2a" / "output" / "losses.csv")
    os.link(folder_of("Q1") / "portfolios" / "property" / "location.csv", lost.parent.parent / "location.csv")
    (candidate,) = find_prunable(grace_hours=0)
    assert (candidate.reason, candidate.files, candidate.bytes) == (Reason.JOB, 2, 10)
    assert prune([candidate], 0) == [candidate]
    assert not lost.parent.parent.exists()
    assert found() == {}
    assert execute_scalar("SELECT count(*) FROM irp_job") == len(jobs_of(execute_scalar("SELECT id FROM irp_batch")))


def test_a_job_at_work_stays_although_it_is_not_on_record() -> None:
    fill()
    jobs = folder_of("Q1") / "jobs"
    for key in ("at-work", "ended"):
        put(jobs / key / "request.json")
    with subprocess.Popen(["sleep", "600"], env={**os.environ, MARK: str(jobs / "at-work")}) as process:
        assert found() == {"Q1/jobs/ended": Reason.JOB}
        prune(find_prunable(grace_hours=0), 0)
        assert (jobs / "at-work").exists()
        assert not (jobs / "ended").exists()
        process.kill()


def test_scratch_of_dead_steps_goes_and_that_of_a_step_at_work_stays() -> None:
    step_id = get_or_create_step(get_or_create_stage(create_cycle("Q1"), 1, "Extract"), 1, "Long")
    put(folder_of("Q1") / ".scratch" / "77-0f2a" / "half.csv")
    with track_step(step_id) as run:
        put(run.scratch / "half.csv")
        assert found() == {"Q1/.scratch/77-0f2a": Reason.SCRATCH}
        prune(find_prunable(grace_hours=0), 0)
        assert (run.scratch / "half.csv").exists()
    assert not (folder_of("Q1") / ".scratch").exists()


def test_of_a_deleted_cycle_goes_what_the_pipeline_made_and_workbook_and_sources_stay(test_schema: str) -> None:
    fill()
    create_cycle("Q2")
    put(folder_of("Q2") / "configuration.xlsx")
    put(folder_of("Q1") / "extracts" / "property" / "location.parquet")
    put(folder_of("Q1") / "curves" / "wind" / "gul.parquet")
    put(folder_of("Q1") / "notes.txt")
    delete("Q1")
    reasons = found()
    assert set(reasons.values()) == {Reason.CYCLE}
    assert {path.split("/")[1] for path in reasons} == {"curves", "extracts", "jobs", "portfolios", "report"}
    prune(find_prunable(grace_hours=0), 0)
    left = {path.partition("/")[0] for path in files_of(folder_of("Q1"))}
    assert {"configuration.xlsx", "data", "notes.txt"} <= left
    assert not left & {"curves", "extracts", "portfolios", "report"}
    assert (folder_of("Q1") / "data" / "run.sh").exists()
    assert (folder_of("Q2") / "configuration.xlsx").exists()


def test_the_folder_of_a_deleted_cycle_goes_with_the_last_of_it() -> None:
    put(folder_of("Q1") / "report" / "report.html")
    put(folder_of("Q2") / "configuration.xlsx")
    create_cycle("Q2")
    prune(find_prunable(grace_hours=0), 0)
    assert not folder_of("Q1").exists()


def test_what_changed_within_the_grace_time_stays() -> None:
    create_cycle("Q2")
    put(folder_of("Q2") / "configuration.xlsx")
    old = put(folder_of("Q1") / "report" / "report.html")
    os.utime(old, (0, 0))
    assert found(hours=1) == {}
    assert found(hours=24) == {}
    shown = find_prunable(grace_hours=0)
    assert [candidate.path.name for candidate in shown] == ["report"]
    assert prune(shown, 1) == []
    assert old.exists()


def test_only_the_named_cycles_are_looked_at() -> None:
    create_cycle("Q0")
    for name in ("Q1", "Q2"):
        put(folder_of(name) / "report" / "report.html")
    put(folder_of("Q0") / "configuration.xlsx")
    assert found("Q2") == {"Q2/report": Reason.CYCLE}
    assert found("Q0") == {}
    with pytest.raises(PruneError, match="no cycle 'Q9' on record, and no folder of that name"):
        find_prunable(["Q9"])


def test_links_are_not_followed(tmp_path: Path) -> None:
    create_cycle("Q1")
    kept = put(tmp_path / "elsewhere" / "kept.csv").parent
    (folder_of("Q1") / "jobs").mkdir(parents=True)
    (folder_of("Q1") / "jobs" / "linked").symlink_to(kept)
    lost = put(folder_of("Q1") / "jobs" / "lost" / "log.txt").parent
    (lost / "link").symlink_to(kept)
    assert found() == {"Q1/jobs/lost": Reason.JOB}
    prune(find_prunable(grace_hours=0), 0)
    assert (kept / "kept.csv").exists()


def test_another_database_is_taken_for_one_whose_cycles_are_all_gone_only_when_they_are_named() -> None:
    put(folder_of("Q1") / "report" / "report.html")
    create_cycle("Q7")  # has no folder yet
    with pytest.raises(PruneError, match="may not be the database of these files"):
        find_prunable(grace_hours=0)
    assert found("Q1") == {"Q1/report": Reason.CYCLE}
    with schema_context("nowhere"), pytest.raises(DatabaseError, match="nowhere"):
        find_prunable()


def test_what_came_on_record_since_it_was_shown_stays() -> None:
    fill()
    put(folder_of("Q2") / "report" / "report.html")
    shown = find_prunable(grace_hours=0)
    assert [candidate.cycle for candidate in shown] == ["Q2"]

    def create(schema: str = get_current_schema()) -> None:
        with schema_context(schema):
            create_cycle("Q2")

    thread = threading.Thread(target=create)
    thread.start()
    thread.join()
    assert prune(shown, 0) == []
    assert (folder_of("Q2") / "report" / "report.html").exists()


def test_an_unfinished_restore_keeps_files_from_being_pruned(test_schema: str, tmp_path: Path) -> None:
    fill()
    back_up(tmp_path / "irp.zip")
    assert dies(lambda: restore(tmp_path / "irp.zip", replace=True), 1, [(Path, "rename")])
    with pytest.raises(BackupError, match="was interrupted"):
        find_prunable()
    assert restore(tmp_path / "irp.zip").finished
    assert found() == {}
