"""A SIGKILL at every statement of a tracked step, of submitting and of tracking jobs: one relaunch mends it all."""

import itertools
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from irp_pipeline import settings
from irp_pipeline.engines import JobPhase
from irp_pipeline.helpers.batch import get_batch_jobs, submit_batch, track_batch
from irp_pipeline.helpers.cycle import create_cycle
from irp_pipeline.helpers.database import execute_command, execute_scalar, fetch_all
from irp_pipeline.helpers.db_context import get_current_schema
from irp_pipeline.helpers.stage import get_or_create_stage
from irp_pipeline.helpers.step import get_or_create_step, track_step
from irp_pipeline_tests.support.dying import dies
from irp_pipeline_tests.support.recording_engine import analyses, engine_of, log_of, make_batch, recording_engine


@pytest.fixture(autouse=True)
def _engine(test_schema: str, tmp_path: Path) -> Iterator[None]:
    with recording_engine(tmp_path):
        yield
    execute_command("DELETE FROM irp_cycle")


def test_a_step_that_publishes_a_file_and_changes_records():
    execute_command("CREATE TABLE IF NOT EXISTS irp_note (step_id bigint, text text)")
    deaths = 0
    for point in itertools.count(1):
        name = f"Q{point}"
        step_id = get_or_create_step(get_or_create_stage(create_cycle(name), 1, "Report"), 1, "Write")
        folder = settings.cycle_dir(get_current_schema(), name)

        def write_note(step_id: int = step_id) -> None:
            execute_command("INSERT INTO irp_note VALUES (%s, 'of the step')", (step_id,))

        def work(step_id: int = step_id) -> None:
            with track_step(step_id, inputs={"a": "1"}) as run:
                if not run.skipped:
                    (run.scratch / "losses.csv").write_text("1\n")
                    run.add_file(run.scratch / "losses.csv")
                    run.add_records("note", "of the step", write_note)
                    run.output["rows"] = 1

        died = dies(work, point)
        work()
        assert execute_scalar("SELECT count(*) FROM irp_note WHERE step_id = %s", (step_id,)) == 1
        assert (folder / "losses.csv").read_text() == "1\n"
        assert [path for path in folder.rglob("*") if path.is_file()] == [folder / "losses.csv"]
        runs = fetch_all(
            """
            SELECT r.status, r.output_data, (SELECT count(*) FROM irp_artefact a WHERE a.step_run_id = r.id) AS files
              FROM irp_step_run r WHERE r.step_id = %s AND r.status NOT IN ('FAILED', 'SKIPPED')
            """,
            (step_id,),
        )
        assert runs == [{"status": "COMPLETED", "output_data": {"rows": 1}, "files": 1}]
        if not died:
            break
        deaths += 1
    assert deaths > 15


def test_handing_jobs_over_and_tracking_them():
    deaths = {"submit": 0, "track": 0}
    for point in itertools.count(1):
        cycle = f"Q{point}"
        batch_id = make_batch(analyses(2), cycle)
        died_submitting = dies(partial(submit_batch, batch_id), point)
        submit_batch(batch_id)
        engine = engine_of(cycle)
        for key in engine.phases():
            engine.let(key, JobPhase.FINISHED)
        died_tracking = dies(partial(track_batch, batch_id), point)
        track_batch(batch_id)
        jobs = get_batch_jobs(batch_id)
        assert [job["status"] for job in jobs] == ["FINISHED"] * 2
        assert len(engine.requests()) == 2
        assert log_of(batch_id) == [
            *((job["id"], "SUBMITTED") for job in jobs),
            *((job["id"], "FINISHED") for job in jobs),
        ]
        deaths["submit"] += died_submitting
        deaths["track"] += died_tracking
        if not died_submitting and not died_tracking:
            break
    assert deaths["submit"] > 10
    assert deaths["track"] > 4
