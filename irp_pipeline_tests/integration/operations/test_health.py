"""What a probe hears: that all is well, or each thing that is wrong."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from irp_pipeline.helpers.batch import submit_batch
from irp_pipeline.helpers.cycle import create_cycle
from irp_pipeline.helpers.database import dispose_engine, execute_command, execute_scalar
from irp_pipeline.helpers.db_context import schema_context
from irp_pipeline.helpers.stage import get_or_create_stage
from irp_pipeline.helpers.step import get_or_create_step, track_step
from irp_pipeline.operations.backup import back_up
from irp_pipeline.operations.health import check_health
from irp_pipeline.operations.restore import finish_restore, restore
from irp_pipeline.postgres import cursors, schemas
from irp_pipeline_tests.support.dying import dies
from irp_pipeline_tests.support.recording_engine import analyses, jobs_of, make_batch, recording_engine
from irp_pipeline_tests.support.whole_schema import fill


@pytest.fixture(autouse=True)
def _files(test_schema: str, tmp_path: Path) -> Iterator[None]:
    with recording_engine(tmp_path):
        yield
    execute_command("DELETE FROM irp_cycle")


def test_all_is_well_in_an_empty_schema(test_schema: str) -> None:
    found = check_health()
    assert found.is_well
    assert (found.schema, found.is_reachable, found.version) == (test_schema, True, schemas.latest_version())
    assert (found.open_cycles, found.steps, found.batches, found.jobs) == ((), (), {}, {})
    assert found.oldest_waiting_seconds is None


def test_what_is_under_way_is_told() -> None:
    fill()
    batch = make_batch(analyses(3), "Q2")
    submit_batch(batch)
    job = jobs_of(batch)[0]["id"]
    execute_command(
        "UPDATE irp_job SET submitted_ts = now() - interval '90 s', status = 'QUEUED' WHERE id = %s", (job,)
    )
    execute_command("UPDATE irp_job SET submitted_ts = now() - interval '1 h' WHERE status = 'FINISHED'")
    create_cycle("Q0")
    execute_command("UPDATE irp_cycle SET status = 'ARCHIVED' WHERE cycle_name = 'Q0'")
    with track_step(get_or_create_step(get_or_create_stage(create_cycle("Q3"), 1, "Extract"), 1, "Long")):
        found = check_health()
        assert found.is_well
        assert found.open_cycles == ("Q3", "Q2", "Q1")
        (step,) = found.steps
        assert (step.cycle, step.step, step.run_num, step.is_lost) == ("Q3", "Long", 1, False)
        assert 0 <= step.heartbeat_seconds < 60
    assert found.batches == {"ACTIVE": 1}
    assert found.jobs == {"FAILED": 1, "FINISHED": 1, "QUEUED": 1, "SUBMITTED": 2}
    assert found.oldest_waiting_seconds == pytest.approx(90, abs=60)
    assert check_health(max_wait_seconds=3600).is_well
    (problem,) = check_health(max_wait_seconds=80).problems
    assert "has waited for its engine" in problem


def test_a_step_that_is_not_heard_of_is_a_problem() -> None:
    step_id = get_or_create_step(get_or_create_stage(create_cycle("Q1"), 1, "Extract"), 1, "Long")
    with track_step(step_id) as run:
        execute_command("UPDATE irp_step_run SET heartbeat_ts = now() - interval '200 s' WHERE id = %s", (run.id,))
        found = check_health()
        execute_command("UPDATE irp_step_run SET heartbeat_ts = now() WHERE id = %s", (run.id,))
    (problem,) = found.problems
    assert "The step 'Long' of cycle Q1 was last heard of 20" in problem
    assert found.steps[0].is_lost


def test_a_schema_of_another_version_or_none_is_a_problem() -> None:
    schemas.upgrade("health old", "0005")
    try:
        with schema_context("health old"):
            old = check_health()
            execute_command("UPDATE irp_schema_version SET version_num = '9999'")
            new = check_health()
    finally:
        schemas.drop("health old")
    assert "run irp db upgrade" in old.problems[0]
    assert old.version == "0005"
    assert "install the newer irp-pipeline" in new.problems[0]
    with schema_context("health old"):
        none = check_health()
    assert none.is_reachable
    assert "health old" in none.problems[0]


def test_a_database_that_does_not_answer_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IRP_DATABASE_URL", "postgresql://nobody:secret-word@127.0.0.1:1/nothing")
    dispose_engine()
    try:
        found = check_health()
    finally:
        monkeypatch.undo()
        dispose_engine()
    assert not found.is_reachable
    assert "No connection to" in found.problems[0]
    assert "secret-word" not in f"{found}"


def test_an_unfinished_restore_is_a_problem(test_schema: str, tmp_path: Path) -> None:
    fill()
    back_up(tmp_path / "irp.zip")
    assert dies(lambda: restore(tmp_path / "irp.zip", replace=True), 1, [(Path, "rename")])
    found = check_health()
    assert found.is_restoring
    assert "irp restore --finish" in found.problems[0]
    assert finish_restore(test_schema)
    assert check_health().is_well


def test_it_takes_few_statements(monkeypatch: pytest.MonkeyPatch) -> None:
    fill()
    sent: list[object] = []
    send = cursors.SchemaCursor.send

    def counted(self: cursors.SchemaCursor, query: str | bytes, values: object = None) -> None:
        sent.append(query)
        send(self, query, values)

    monkeypatch.setattr(cursors.SchemaCursor, "send", counted)
    assert check_health().is_well
    assert len(sent) <= 9
    assert execute_scalar("SELECT count(*) FROM irp_job") == 2
