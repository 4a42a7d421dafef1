"""What takes a cycle or a schema away, while steps or jobs are at work for it; and the names of cycles."""

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from irp_pipeline.engines import JobPhase
from irp_pipeline.errors import IrpError
from irp_pipeline.helpers import database, ending
from irp_pipeline.helpers.batch import submit_batch
from irp_pipeline.helpers.cycle import (
    CycleError,
    archive_cycle,
    create_cycle,
    delete_archived_cycles,
    delete_cycle,
    get_cycle_by_name,
    list_cycle_names,
    open_cycle,
    reopen_cycle,
    replace_active_cycle,
    require_open_cycle,
)
from irp_pipeline.helpers.database import (
    DatabaseError,
    drop_schema,
    execute_command,
    execute_scalar,
    fetch_all,
    init_database,
    transaction,
)
from irp_pipeline.helpers.db_context import get_current_schema, schema_context
from irp_pipeline.helpers.stage import get_or_create_stage
from irp_pipeline.helpers.step import StepError, create_step_run, get_last_step_run, get_or_create_step, track_step
from irp_pipeline.postgres import schemas
from irp_pipeline.postgres.connections import administrative_connection
from irp_pipeline.process import this_process
from irp_pipeline_tests.support.processes import SECONDS
from irp_pipeline_tests.support.recording_engine import (
    RESULT,
    analyses,
    archive_by_hand,
    engine_of,
    jobs_of,
    make_batch,
    recording_engine,
)
from irp_pipeline_tests.support.waiting import wait_until

CYCLE = "Q1"


@pytest.fixture(autouse=True)
def _cycles(test_schema: str, tmp_path: Path) -> Iterator[None]:
    with recording_engine(tmp_path):
        yield
        execute_command("DELETE FROM irp_cycle")


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker is not waited for as long as a heartbeat takes."""
    monkeypatch.setattr(ending, "_NOTICE_SECONDS", 0.5)


def id_of(name: str) -> int:
    cycle = get_cycle_by_name(name)
    assert cycle is not None
    found: int = cycle["id"]
    return found


def step_of(name: str) -> int:
    return get_or_create_step(get_or_create_stage(id_of(name), 1, "Extract"), 1, "Control totals")


@contextmanager
def step_at_work(name: str = CYCLE) -> Iterator[int]:
    """A step at work in a thread, until the block ends; what its block raises is the thread's affair."""
    step_id = step_of(name)
    schema, at_work, done = get_current_schema(), threading.Event(), threading.Event()

    def work() -> None:
        with schema_context(schema):
            try:
                with track_step(step_id):
                    at_work.set()
                    done.wait(SECONDS)
            except IrpError:
                pass

    thread = threading.Thread(target=work)
    thread.start()
    assert at_work.wait(SECONDS)
    try:
        yield step_id
    finally:
        done.set()
        thread.join()


def archived(name: str) -> int:
    cycle_id = id_of(name)
    archive_by_hand(cycle_id)
    return cycle_id


TAKEN_AWAY: dict[str, Callable[..., object]] = {
    "deleting": lambda **force: delete_cycle(id_of(CYCLE), **force),
    "archiving": lambda **force: archive_cycle(id_of(CYCLE), **force),
    "deleting the archived": lambda **force: (archived(CYCLE), delete_archived_cycles(**force)),
}


@pytest.mark.parametrize("take_away", TAKEN_AWAY.values(), ids=TAKEN_AWAY)
class TestACycleAtWork:
    def test_by_a_step_is_left_alone_and_the_step_named(self, take_away):
        create_cycle(CYCLE)
        with step_at_work(), pytest.raises(CycleError) as refused:
            take_away()
        worker = this_process()
        assert f"'{CYCLE}' cannot be " in str(refused.value)
        assert f"run 1 of step 'Control totals' on host {worker.host}, process {worker.pid}" in str(refused.value)
        assert "--force" in str(refused.value)
        assert get_cycle_by_name(CYCLE)

    @pytest.mark.parametrize("submitted", [False, True])
    def test_by_jobs_is_left_alone_and_the_jobs_named(self, take_away, submitted):
        batch_id = make_batch(analyses(7))
        if submitted:
            submit_batch(batch_id)
        first = jobs_of(batch_id)[0]
        with pytest.raises(CycleError) as refused:
            take_away()
        assert f"job {first['id']} (a0), {first['status']}" in str(refused.value)
        assert "and 2 more jobs" in str(refused.value)
        assert len(jobs_of(batch_id)) == 7

    def test_is_taken_by_force_and_nothing_goes_on(self, take_away, brief):
        batch_id = make_batch(analyses(3))
        submit_batch(batch_id)
        finished = jobs_of(batch_id)[2]
        engine_of(CYCLE).let(finished["job_key"], JobPhase.RUNNING)
        with step_at_work() as step_id:
            take_away(force=True)
            ended = get_last_step_run(step_id)
        assert set(engine_of(CYCLE).phases().values()) == {"CANCELLED"}
        assert ended is None or (ended["status"], ended["error_message"][:9]) == ("FAILED", "ended by ")
        assert {job["status"] for job in jobs_of(batch_id)} <= {"CANCELLED"}

    def test_whose_worker_is_dead_is_not_at_work(self, take_away):
        create_cycle(CYCLE)
        killed_while_at_work(step_of(CYCLE))
        take_away()
        cycle = get_cycle_by_name(CYCLE)
        assert cycle is None or cycle["status"] == "ARCHIVED"

    def test_by_a_notebooks_bookkeeping_is_nobodys_work(self, take_away):
        create_cycle(CYCLE)
        create_step_run(step_of(CYCLE), "ada")
        take_away()

    def test_is_not_taken_by_force_inside_a_transaction(self, take_away):
        create_cycle(CYCLE)
        with transaction(), pytest.raises(CycleError, match=r"by force inside a transaction"):
            take_away(force=True)


def killed_while_at_work(step_id: int) -> None:
    """Leave the step as a process leaves it that was killed in the middle of it."""
    script = f"""
import os
from irp_pipeline.helpers.db_context import schema_context
from irp_pipeline.helpers.step import track_step
with schema_context({get_current_schema()!r}), track_step({step_id}):
    os.kill(os.getpid(), 9)
"""
    subprocess.run([sys.executable, "-c", script], check=False, timeout=SECONDS)


class TestForce:
    def test_keeps_the_result_of_a_job_that_finished_in_time(self, brief):
        batch_id = make_batch(analyses(2))
        submit_batch(batch_id)
        done, _ = jobs_of(batch_id)
        engine_of(CYCLE).let(done["job_key"], JobPhase.FINISHED)
        archive_cycle(id_of(CYCLE), force=True)
        assert [job["status"] for job in jobs_of(batch_id)] == ["FINISHED", "CANCELLED"]
        assert jobs_of(batch_id)[0]["result_data"] == RESULT

    def test_ends_what_an_engine_took_though_the_hand_over_failed(self, brief):
        batch_id = make_batch(analyses(1))
        submit_batch(batch_id)
        execute_command("UPDATE irp_job SET status = 'ERROR', completed_ts = clock_timestamp()")
        delete_cycle(id_of(CYCLE), force=True)
        assert set(engine_of(CYCLE).phases().values()) == {"CANCELLED"}

    def test_passes_over_an_engine_that_is_not_installed(self, brief):
        batch_id = make_batch(analyses(1))
        submit_batch(batch_id)
        execute_command(
            'UPDATE irp_job_configuration SET job_configuration_data = job_configuration_data || \'{"engine": "gone"}\''
        )
        assert delete_cycle(id_of(CYCLE), force=True)

    def test_gives_up_on_an_engine_that_does_not_end_a_job(self, brief, monkeypatch):
        batch_id = make_batch(analyses(1))
        submit_batch(batch_id)
        monkeypatch.setattr(ending, "_ENGINE_SECONDS", 0)
        with pytest.raises(CycleError, match=r"it still runs them: job \d+ \(a0\)"):
            delete_cycle(id_of(CYCLE), force=True)
        assert get_cycle_by_name(CYCLE)

    def test_waits_until_the_worker_has_heard_of_it(self, monkeypatch):
        create_cycle(CYCLE)
        monkeypatch.setattr(ending, "_NOTICE_SECONDS", SECONDS)
        script = f"""
import os, sys
from irp_pipeline.helpers.db_context import schema_context
from irp_pipeline.helpers.step import track_step
with schema_context({get_current_schema()!r}), track_step({step_of(CYCLE)}):
    print("at work", flush=True)
    sys.stdin.read()
"""
        with subprocess.Popen(
            [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as worker:
            assert worker.stdout is not None
            assert worker.stdin is not None
            worker.stdout.readline()
            schema = get_current_schema()

            def delete() -> None:
                with schema_context(schema):
                    delete_cycle(id_of(CYCLE), force=True)

            deleting = threading.Thread(target=delete)
            deleting.start()
            step_id = step_of(CYCLE)
            wait_until(lambda: (get_last_step_run(step_id) or {"status": ""})["status"] == "FAILED", "it is told")
            assert deleting.is_alive()
            worker.stdin.close()
            deleting.join(SECONDS)
            assert not deleting.is_alive()
        assert get_cycle_by_name(CYCLE) is None


def test_a_step_that_starts_while_its_cycle_is_being_deleted_waits_and_finds_no_step():
    create_cycle(CYCLE)
    step_id, schema = step_of(CYCLE), get_current_schema()
    outcome: list[object] = []

    def start() -> None:
        with schema_context(schema):
            try:
                with track_step(step_id):
                    outcome.append("worked")
            except (StepError, DatabaseError) as error:
                outcome.append(error)

    starting = threading.Thread(target=start)
    with ending.nothing_at_work([id_of(CYCLE)], "deleted", force=False):
        starting.start()
        wait_until(_somebody_waits_for_a_lock, "the start waits")
        execute_command("DELETE FROM irp_cycle")
    starting.join(SECONDS)
    [error] = outcome
    assert isinstance(error, StepError)


def _somebody_waits_for_a_lock() -> bool:
    with administrative_connection() as connection:
        waiting = connection.exec_driver_sql(
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        ).scalar()
    return bool(waiting)


# --- schemas ------------------------------------------------------------------------------------------------------


@pytest.fixture
def other_schema(test_schema: str) -> Iterator[str]:
    name = f"{test_schema}_at_work"
    schemas.drop(name)
    yield name
    schemas.drop(name)


class TestASchemaAtWork:
    def test_is_not_dropped_and_says_why(self, other_schema):
        init_database(other_schema)
        with schema_context(other_schema):
            create_cycle(CYCLE)
            with (
                step_at_work(),
                pytest.raises(DatabaseError, match=r"cannot be dropped .*run 1 of step 'Control totals'"),
            ):
                drop_schema(other_schema)
            batch_id = make_batch(analyses(1), "Q2")
            with pytest.raises(DatabaseError, match=rf"job {jobs_of(batch_id)[0]['id']} \(a0\), INITIATED"):
                drop_schema(other_schema)
        assert schemas.current_version(other_schema)

    def test_is_dropped_by_force_and_nothing_goes_on(self, other_schema, brief):
        init_database(other_schema)
        with schema_context(other_schema):
            submit_batch(make_batch(analyses(2)))
            with step_at_work():
                assert drop_schema(other_schema, force=True)
            assert set(engine_of(CYCLE).phases().values()) == {"CANCELLED"}
        assert schemas.current_version(other_schema) is None

    @pytest.mark.parametrize("version", ["0002", "0004", "0005"])
    def test_of_an_earlier_version_is_not_upgraded_and_says_why(self, other_schema, version, brief):
        schemas.upgrade(other_schema, version)
        with schema_context(other_schema):
            cycle_id = execute_scalar("INSERT INTO irp_cycle (cycle_name) VALUES ('Q1') RETURNING id")
            stage_id = execute_scalar(
                "INSERT INTO irp_stage (cycle_id, stage_num, stage_name) VALUES (%s, 1, 'x') RETURNING id", (cycle_id,)
            )
            step_id = execute_scalar(
                "INSERT INTO irp_step (stage_id, step_num, step_name) VALUES (%s, 1, 'Old step') RETURNING id",
                (stage_id,),
            )
            worker = this_process()
            execute_command(
                """
                INSERT INTO irp_step_run (step_id, run_num, tracked, lease_token, heartbeat_ts, host, pid, pid_started)
                VALUES (%s, 1, true, gen_random_uuid(), clock_timestamp(), %s, %s, %s)
                """,
                (step_id, worker.host, worker.pid, worker.started),
            )
            with pytest.raises(DatabaseError, match=r"cannot be upgraded .*run 1 of step 'Old step'"):
                init_database(other_schema)
            assert schemas.current_version(other_schema) == version
            init_database(other_schema, force=True)
            assert schemas.current_version(other_schema) == schemas.latest_version()
            assert fetch_all("SELECT status FROM irp_step_run") == [{"status": "FAILED"}]

    def test_that_is_up_to_date_already_may_be_initialised_again(self):
        create_cycle(CYCLE)
        with step_at_work():
            init_database()


# --- archiving, reopening, names ----------------------------------------------------------------------------------


class TestReopening:
    def test_takes_an_archiving_back(self):
        cycle_id = create_cycle(CYCLE)
        archive_cycle(cycle_id)
        with pytest.raises(CycleError, match="irp cycle reopen Q1"):
            require_open_cycle(CYCLE)
        assert reopen_cycle(cycle_id) is True
        assert (require_open_cycle(CYCLE).status, require_open_cycle(CYCLE).archived_ts) == ("ACTIVE", None)

    def test_an_open_cycle_or_none_changes_nothing(self):
        cycle_id = create_cycle(CYCLE)
        before = get_cycle_by_name(CYCLE)
        assert reopen_cycle(cycle_id) is True
        assert get_cycle_by_name(CYCLE) == before
        assert reopen_cycle(cycle_id + 1) is False


class TestOpening:
    def test_says_which_cycle_it_archived(self):
        first = replace_active_cycle("Q1")
        assert (first.created, first.archived) == (True, None)
        assert replace_active_cycle("Q2").archived == "Q1"
        again = replace_active_cycle("Q2")
        assert (again.created, again.archived) == (False, None)

    def test_is_refused_while_jobs_of_the_one_before_are_at_work(self):
        make_batch(analyses(1))
        with pytest.raises(CycleError, match=r"'Q1' cannot be archived while it is at work: job \d+ \(a0\), INITIATED"):
            open_cycle("Q2")
        assert list_cycle_names() == ["Q1"]


class TestNames:
    @pytest.mark.parametrize("do", [create_cycle, open_cycle])
    def test_are_one_without_regard_to_capitals(self, do):
        create_cycle("Q1-2024")
        with pytest.raises(CycleError, match=r"There is a cycle 'Q1-2024' already; names are not case-sensitive"):
            do("q1-2024")
        assert get_cycle_by_name("q1-2024") is None

    def test_that_are_looked_up_with_other_capitals_are_told(self):
        create_cycle("Q1-2024")
        with pytest.raises(CycleError, match=r"There is a cycle 'Q1-2024'; names are not case-sensitive"):
            require_open_cycle("q1-2024")

    def test_are_kept_apart_by_the_database_for_everybody(self):
        create_cycle("Q1-2024")
        with pytest.raises(DatabaseError, match=r"There is a cycle 'Q1-2024' already; names are not case-sensitive"):
            execute_command("INSERT INTO irp_cycle (cycle_name) VALUES ('q1-2024')")
        assert execute_command(
            "INSERT INTO irp_cycle (cycle_name) VALUES ('Q1-2024') ON CONFLICT (cycle_name) DO NOTHING"
        ) == 0  # fmt: skip

    def test_are_kept_apart_when_many_make_them_at_once(self, test_schema):
        spellings = ["q1", "Q1", "qX", "QX", "Qx", "qx"] * 3
        schema = get_current_schema()

        def make(name: str) -> None:
            with schema_context(schema), suppress(CycleError):
                create_cycle(name)

        threads = [threading.Thread(target=make, args=(name,)) for name in spellings]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(name.lower() for name in list_cycle_names()) == ["q1", "qx"]

    def test_that_were_two_before_stay_two_after_an_upgrade(self, other_schema):
        schemas.upgrade(other_schema, "0005")
        with schema_context(other_schema):
            for name in ("Q1", "q1", "Q2"):
                execute_command("INSERT INTO irp_cycle (cycle_name) VALUES (%s)", (name,))
            before = fetch_all("SELECT id, cycle_name, status, created_ts FROM irp_cycle ORDER BY id")
            init_database()
            assert fetch_all("SELECT id, cycle_name, status, created_ts FROM irp_cycle ORDER BY id") == before
            assert require_open_cycle("Q1").id != require_open_cycle("q1").id
            for name in ("Q1", "q1", "q2"):
                with pytest.raises(CycleError, match="already"):
                    create_cycle(name)
            for kept in ("Q1", "q1"):
                archive_cycle(id_of(kept))
                reopen_cycle(id_of(kept))
            delete_cycle(id_of("q1"))
            with pytest.raises(CycleError, match="There is a cycle 'Q1' already; names are not case-sensitive"):
                create_cycle("q1")


def test_archiving_by_a_plain_update_as_old_notebooks_do_fills_the_time():
    cycle_id = create_cycle(CYCLE)
    statement = "UPDATE irp_cycle SET status = %s WHERE id = %s"
    execute_command(statement, ("ARCHIVED", cycle_id))
    first: Any = get_cycle_by_name(CYCLE)
    assert first["archived_ts"] > first["created_ts"]
    execute_command(statement, ("ARCHIVED", cycle_id))
    assert get_cycle_by_name(CYCLE) == first
    execute_command(statement, ("ACTIVE", cycle_id))
    assert (get_cycle_by_name(CYCLE) or {})["archived_ts"] is None


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_an_old_scripts_schema_in_second_place_forces_nothing(other_schema):
    init_database(other_schema)
    with schema_context(other_schema):
        cycle_id = create_cycle(CYCLE)
        with step_at_work(), pytest.raises(CycleError, match="cannot be archived while it is at work"):
            database.archive_cycle(cycle_id, other_schema)
