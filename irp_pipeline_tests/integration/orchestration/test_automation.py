"""What happens by itself: sensors, the schedule, and the health check, each evaluated as the daemon does.

They look at every schema of the database, so this module has a database of its own.
"""

import datetime as dt
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from dagster import (
    DagsterEvent,
    DagsterEventType,
    DagsterInstance,
    DagsterRun,
    DagsterRunStatus,
    EventLogEntry,
    SensorResult,
    SkipReason,
    build_schedule_context,
    build_sensor_context,
)
from dagster._core.events import EngineEventData
from dagster._core.launcher import WorkerStatus

from irp_pipeline import settings
from irp_pipeline.definitions import definitions
from irp_pipeline.helpers.cycle import archive_cycle, create_cycle, get_cycle_by_name, list_cycle_names
from irp_pipeline.helpers.database import dispose_engine, drop_schema, execute_command, fetch_one, init_database
from irp_pipeline.helpers.db_context import schema_context
from irp_pipeline.helpers.stage import get_or_create_stage
from irp_pipeline.helpers.step import get_or_create_step, track_step
from irp_pipeline.orchestration import occupancy
from irp_pipeline.orchestration.launcher import LAUNCHED_ON_TAG, RunLauncher
from irp_pipeline.orchestration.occupancy import PROCESS_TAG, run_in_the_way
from irp_pipeline.orchestration.run_worker import RUN_WORKER_TAG, as_tag
from irp_pipeline.orchestration.schedules import quarterly_cycle
from irp_pipeline.orchestration.sensors import lost_workers, partitions_follow_cycles
from irp_pipeline.process import HostProcess, _start_of, this_process

DATABASE = f"irp_automation_{os.getpid()}"
SCHEMA = "default_cycles"
SECONDS = 60

AT_WORK = """
import sys, time
from irp_pipeline.helpers.db_context import set_schema
from irp_pipeline.helpers.step import track_step
set_schema(sys.argv[1])
with track_step(int(sys.argv[2]), dagster_run_id=sys.argv[3]):
    print("at work", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(scope="module", autouse=True)
def own_database() -> Iterator[None]:
    server = settings.database_url()
    command(f'CREATE DATABASE "{DATABASE}"')
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("IRP_DATABASE_URL", server.set(database=DATABASE).render_as_string(hide_password=False))
        environment.setenv("DB_SCHEMA", SCHEMA)
        dispose_engine()
        init_database(SCHEMA)
        yield
        dispose_engine()
    command(f'DROP DATABASE "{DATABASE}" WITH (FORCE)')


def command(statement: str) -> None:
    """Run what cannot be in a transaction, on the server of the suite."""
    address = settings.database_url().set(drivername="postgresql").render_as_string(hide_password=False)
    connection = psycopg2.connect(address)
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(statement)
    connection.close()


@pytest.fixture(autouse=True)
def schema() -> Iterator[str]:
    """The default schema, empty for each test."""
    with schema_context(SCHEMA):
        yield SCHEMA
        execute_command("DELETE FROM irp_cycle")


@pytest.fixture
def instance() -> Iterator[DagsterInstance]:
    with DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


# --- partitions follow the cycles ---------------------------------------------------------------------------------


def requested_partitions(instance: DagsterInstance) -> dict[str, list[str]]:
    """Let the sensor look, do what it asks for, and return that."""
    result = partitions_follow_cycles(build_sensor_context(instance=instance))
    if isinstance(result, SkipReason):
        return {}
    assert isinstance(result, SensorResult)
    asked: dict[str, list[str]] = {}
    for request in result.dynamic_partitions_requests or []:
        asked[type(request).__name__] = list(request.partition_keys)
        if type(request).__name__ == "AddDynamicPartitionsRequest":
            instance.add_dynamic_partitions("cycles", list(request.partition_keys))
        else:
            for key in request.partition_keys:
                instance.delete_dynamic_partition("cycles", key)
    return asked


def test_cycles_become_partitions_archived_ones_stay_and_deleted_ones_leave(instance: DagsterInstance):
    archive_cycle(create_cycle("Q1-2024"))
    create_cycle("Q2-2024")
    assert requested_partitions(instance) == {"AddDynamicPartitionsRequest": ["Q1-2024", "Q2-2024"]}
    assert requested_partitions(instance) == {}
    execute_command("DELETE FROM irp_cycle WHERE cycle_name = 'Q1-2024'")
    create_cycle("Q3-2024")
    assert requested_partitions(instance) == {
        "AddDynamicPartitionsRequest": ["Q3-2024"],
        "DeleteDynamicPartitionsRequest": ["Q1-2024"],
    }
    assert sorted(instance.get_dynamic_partitions("cycles")) == ["Q2-2024", "Q3-2024"]


def test_cycles_of_other_schemas_are_no_partitions(instance: DagsterInstance):
    init_database("test_cycle")
    with schema_context("test_cycle"):
        create_cycle("Q1-2024")
    assert requested_partitions(instance) == {}
    drop_schema("test_cycle")


def test_a_default_schema_that_is_not_there_changes_no_partition(
    instance: DagsterInstance, monkeypatch: pytest.MonkeyPatch
):
    instance.add_dynamic_partitions("cycles", ["Q1-2024"])
    monkeypatch.setenv("DB_SCHEMA", "no_such_schema")
    result = partitions_follow_cycles(build_sensor_context(instance=instance))
    assert isinstance(result, SkipReason)
    assert "no_such_schema" in (result.skip_message or "")
    assert list(instance.get_dynamic_partitions("cycles")) == ["Q1-2024"]


# --- lost workers -------------------------------------------------------------------------------------------------


def run_that_is_started(instance: DagsterInstance, schema: str) -> DagsterRun:
    return instance.create_run_for_job(
        definitions.get_job_def("run_cycle"),
        run_config={"resources": {"database": {"config": {"db_schema": schema}}}},
        tags={"dagster/partition": "Q1-2024"},
        status=DagsterRunStatus.STARTED,
    )


def step_of(cycle_name: str) -> int:
    cycle = get_cycle_by_name(cycle_name)
    cycle_id = cycle["id"] if cycle else create_cycle(cycle_name)
    return get_or_create_step(get_or_create_stage(cycle_id, 1, "Setup"), 1, "Initialize environment")


def worker_that_dies(schema: str, step_id: int, dagster_run_id: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", AT_WORK, schema, str(step_id), dagster_run_id],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as worker:
        assert worker.stdout is not None
        assert worker.stdout.readline() == b"at work\n"
        worker.kill()
        worker.wait(SECONDS)


def look_for_lost_workers(instance: DagsterInstance) -> str:
    result = lost_workers(build_sensor_context(instance=instance, sensor_name="lost_workers"))
    assert isinstance(result, SkipReason)
    return result.skip_message or ""


def status_of(instance: DagsterInstance, run: DagsterRun) -> DagsterRunStatus:
    now = instance.get_run_by_id(run.run_id)
    assert now is not None
    return now.status


def test_the_step_run_of_a_dead_worker_is_closed_and_after_a_while_its_run_is_failed(instance: DagsterInstance):
    init_database("other_schema")
    with schema_context("other_schema"):
        run = run_that_is_started(instance, "other_schema")
        step_id = step_of("Q1-2024")
        worker_that_dies("other_schema", step_id, run.run_id)
    assert look_for_lost_workers(instance) == "Closed 1 lost step runs and failed 0 abandoned runs"
    with schema_context("other_schema"):
        closed = fetch_one("SELECT status, error_message FROM irp_step_run WHERE step_id = %s", (step_id,))
        assert closed is not None
        assert closed["status"] == "FAILED"
        assert closed["error_message"].startswith("worker lost")
        assert status_of(instance, run) is DagsterRunStatus.STARTED  # its own process may still tell the end
        execute_command("UPDATE irp_step_run SET completed_ts = completed_ts - interval '2 minutes'")
    assert look_for_lost_workers(instance) == "Closed 0 lost step runs and failed 1 abandoned runs"
    assert status_of(instance, run) is DagsterRunStatus.FAILURE
    drop_schema("other_schema")


def test_a_run_that_went_on_after_a_lost_step_is_left_alone(instance: DagsterInstance, schema: str):
    run = run_that_is_started(instance, schema)
    step_id = step_of("Q1-2024")
    worker_that_dies(schema, step_id, run.run_id)
    with track_step(step_id, dagster_run_id=run.run_id):
        execute_command("UPDATE irp_step_run SET completed_ts = completed_ts - interval '2 minutes'")
        assert look_for_lost_workers(instance) == "Closed 0 lost step runs and failed 0 abandoned runs"
    assert status_of(instance, run) is DagsterRunStatus.STARTED


def test_runs_without_steps_or_of_a_schema_that_is_gone_are_left_alone(instance: DagsterInstance, schema: str):
    runs = [run_that_is_started(instance, name) for name in (schema, "no_such_schema", "pg_catalog")]
    assert look_for_lost_workers(instance) == "Closed 0 lost step runs and failed 0 abandoned runs"
    assert {status_of(instance, run) for run in runs} == {DagsterRunStatus.STARTED}


# --- the quarterly schedule ---------------------------------------------------------------------------------------


@pytest.fixture
def persistent(tmp_path: Path) -> Iterator[DagsterInstance]:
    """An instance that a schedule can find again: it opens one by itself."""
    with DagsterInstance.local_temp(str(tmp_path)) as local:
        yield local


def tick(instance: DagsterInstance, day: str) -> Any:
    when = dt.datetime.fromisoformat(f"{day}T06:00:00+00:00")
    return quarterly_cycle.evaluate_tick(
        build_schedule_context(
            instance=instance, scheduled_execution_time=when, repository_def=definitions.get_repository_def()
        )
    )


def test_on_the_first_weekday_of_a_quarter_its_cycle_is_opened_and_run(persistent: DagsterInstance):
    create_cycle("Q2-2023")
    ticked = tick(persistent, "2023-07-03")  # the first two days of July 2023 were a weekend
    (request,) = ticked.run_requests
    assert request.partition_key == "Q3-2023"
    assert request.run_key == "Q3-2023"
    assert list_cycle_names() == ["Q2-2023", "Q3-2023"]
    previous = get_cycle_by_name("Q2-2023")
    assert previous is not None
    assert previous["status"] == "ARCHIVED"
    assert list(persistent.get_dynamic_partitions("cycles")) == ["Q3-2023"]


def test_a_schedule_that_ticks_twice_opens_one_cycle(persistent: DagsterInstance):
    for _ in range(2):
        assert [request.run_key for request in tick(persistent, "2024-01-01").run_requests] == ["Q1-2024"]
    assert list_cycle_names() == ["Q1-2024"]


@pytest.mark.parametrize("day", ["2023-07-01", "2023-07-02", "2023-07-04", "2024-02-01"])
def test_on_other_days_nothing_is_opened(persistent: DagsterInstance, day: str):
    ticked = tick(persistent, day)
    assert ticked.run_requests == []
    assert ticked.skip_message == f"{day} is not the first weekday of a quarter"
    assert list_cycle_names() == []


def test_a_cycle_that_cannot_be_opened_fails_the_tick_and_says_why(persistent: DagsterInstance):
    with (
        track_step(step_of("Q4-2023")),
        pytest.raises(Exception, match="evaluation of schedule quarterly_cycle") as caught,
    ):
        tick(persistent, "2024-01-01")
    assert "cannot be archived while it is at work" in str(caught.value.__cause__)
    assert list_cycle_names() == ["Q4-2023"]


# --- is the process of a run alive? -------------------------------------------------------------------------------


@pytest.fixture
def launcher(instance: DagsterInstance) -> Iterator[RunLauncher]:
    launcher = RunLauncher()
    launcher.register_instance(instance)
    yield launcher
    launcher.dispose()


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process
        with suppress(ProcessLookupError):
            process.kill()


def test_a_run_is_healthy_as_long_as_its_process_lives(
    instance: DagsterInstance, launcher: RunLauncher, child: subprocess.Popen[bytes], schema: str
):
    run = run_that_is_started(instance, schema)
    assert launcher.supports_check_run_worker_health
    assert launcher.check_run_worker_health(run).status is WorkerStatus.RUNNING  # no process is known yet
    instance.report_engine_event(f"Started process for run (pid: {child.pid}).", run)
    assert launcher.check_run_worker_health(run).status is WorkerStatus.RUNNING
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # ended, and not yet taken note of: a zombie
    assert launcher.check_run_worker_health(run).status is WorkerStatus.FAILED
    child.wait(SECONDS)
    assert launcher.check_run_worker_health(run).status is WorkerStatus.FAILED


def test_a_run_that_was_launched_on_another_host_is_not_judged_by_a_process_of_this_one(
    instance: DagsterInstance, launcher: RunLauncher, child: subprocess.Popen[bytes], schema: str
):
    run = run_that_is_started(instance, schema)
    instance.report_engine_event(f"Started process for run (pid: {child.pid}).", run)
    child.kill()
    child.wait(SECONDS)
    assert launcher.check_run_worker_health(run).status is WorkerStatus.FAILED
    instance.add_run_tags(run.run_id, {LAUNCHED_ON_TAG: "elsewhere/boot/pid:[1]"})
    elsewhere = instance.get_run_by_id(run.run_id)
    assert elsewhere is not None
    assert launcher.check_run_worker_health(elsewhere).status is WorkerStatus.RUNNING


def test_a_run_whose_process_says_where_it_is_is_judged_there_alone(
    instance: DagsterInstance, launcher: RunLauncher, child: subprocess.Popen[bytes], schema: str
):
    me = this_process()
    worker = HostProcess(me.host, child.pid, f"{me.started.rpartition('/')[0]}/{_start_of(child.pid)}")
    run = run_that_is_started(instance, schema)
    instance.report_engine_event("Started process for run (pid: 999999999).", run)  # the launch is not asked any more
    instance.add_run_tags(run.run_id, {RUN_WORKER_TAG: as_tag(run.run_id, worker)})
    here = instance.get_run_by_id(run.run_id)
    instance.add_run_tags(run.run_id, {RUN_WORKER_TAG: as_tag(run.run_id, replace(worker, host="elsewhere"))})
    on_another_host = instance.get_run_by_id(run.run_id)
    instance.add_run_tags(run.run_id, {RUN_WORKER_TAG: as_tag(run.run_id, replace(worker, started="boot/pid:[1]/1"))})
    in_another_container = instance.get_run_by_id(run.run_id)
    assert here is not None
    assert on_another_host is not None
    assert in_another_container is not None
    assert launcher.check_run_worker_health(here).status is WorkerStatus.RUNNING
    child.kill()
    child.wait(SECONDS)
    assert launcher.check_run_worker_health(here).status is WorkerStatus.FAILED
    assert launcher.check_run_worker_health(on_another_host).status is WorkerStatus.RUNNING
    assert launcher.check_run_worker_health(in_another_container).status is WorkerStatus.RUNNING


def test_a_run_of_a_code_server_behind_a_port_is_not_judged_by_the_number_of_its_process(
    instance: DagsterInstance, launcher: RunLauncher, schema: str
):
    run = run_that_is_started(instance, schema)
    instance.report_engine_event("Started process for run (pid: 999999999).", run)
    assert launcher.check_run_worker_health(run).status is WorkerStatus.FAILED
    instance.add_run_tags(run.run_id, {".dagster/grpc_info": '{"host": "user-code", "port": 4000}'})
    behind_port = instance.get_run_by_id(run.run_id)
    assert behind_port is not None
    assert launcher.check_run_worker_health(behind_port).status is WorkerStatus.RUNNING


def test_a_run_of_the_command_line_fails_once_its_process_is_gone(
    instance: DagsterInstance, child: subprocess.Popen[bytes], schema: str
):
    worker = HostProcess(
        this_process().host, child.pid, f"{this_process().started.rpartition('/')[0]}/{_start_of(child.pid)}"
    )
    run = run_that_is_started(instance, schema)
    instance.add_run_tags(run.run_id, {PROCESS_TAG: as_tag(run.run_id, worker)})
    assert look_for_lost_workers(instance) == "Closed 0 lost step runs and failed 0 abandoned runs"
    child.kill()
    child.wait(SECONDS)
    assert look_for_lost_workers(instance) == "Closed 0 lost step runs and failed 1 abandoned runs"
    ended = instance.get_run_by_id(run.run_id)
    assert ended is not None
    assert ended.status is DagsterRunStatus.FAILURE


@pytest.mark.parametrize("tag", [PROCESS_TAG, RUN_WORKER_TAG])
def test_a_run_that_is_executed_again_is_not_judged_by_the_process_of_the_one_before(
    instance: DagsterInstance, launcher: RunLauncher, child: subprocess.Popen[bytes], schema: str, tag: str
):
    before = run_that_is_started(instance, schema)
    place = this_process().started.rpartition("/")[0]
    worker = HostProcess(this_process().host, child.pid, f"{place}/{_start_of(child.pid)}")
    instance.add_run_tags(before.run_id, {tag: as_tag(before.run_id, worker)})
    ended = instance.get_run_by_id(before.run_id)
    assert ended is not None
    child.kill()
    child.wait(SECONDS)
    instance.report_run_failed(ended)
    again = instance.create_run_for_job(  # Dagster copies all tags of the run before
        definitions.get_job_def("run_cycle"),
        run_config=ended.run_config,
        tags=dict(ended.tags),
        status=DagsterRunStatus.STARTED,
        parent_run_id=ended.run_id,
        root_run_id=ended.run_id,
    )
    assert launcher.check_run_worker_health(again).status is WorkerStatus.RUNNING
    assert look_for_lost_workers(instance) == "Closed 0 lost step runs and failed 0 abandoned runs"
    assert run_in_the_way(instance, schema, "Q1-2024") is not None
    instance.add_run_tags(again.run_id, {tag: as_tag(again.run_id, worker)})
    assert look_for_lost_workers(instance) == "Closed 0 lost step runs and failed 1 abandoned runs"


def test_a_run_elsewhere_keeps_others_out_until_it_has_been_silent_for_long(
    instance: DagsterInstance, schema: str, monkeypatch: pytest.MonkeyPatch
):
    step_id = step_of("Q1-2024")
    run = run_that_is_started(instance, schema)
    instance.add_run_tags(run.run_id, {PROCESS_TAG: as_tag(run.run_id, HostProcess("elsewhere", 1, "boot/pid:[1]/1"))})
    instance.report_engine_event("It begins.", run)
    assert run_in_the_way(instance, schema, "Q1-2024") is not None
    assert run_in_the_way(instance, "another", "Q1-2024") is None
    monkeypatch.setattr(occupancy, "_SILENT_FOR", dt.timedelta(0))
    with track_step(step_id, dagster_run_id=run.run_id):
        assert run_in_the_way(instance, schema, "Q1-2024") is not None
    assert run_in_the_way(instance, schema, "Q1-2024") is None
    ended = instance.get_run_by_id(run.run_id)
    assert ended is not None
    assert ended.status is DagsterRunStatus.FAILURE


def say_started(instance: DagsterInstance, run: DagsterRun, pid: int, seconds_ago: float) -> None:
    """Record that a run was launched and that its process began, both some time ago."""
    event = DagsterEventType.PIPELINE_STARTING
    for message, dagster_event in (
        ("Launched", DagsterEvent(event.value, run.job_name)),
        (
            f"Started process for run (pid: {pid}).",
            DagsterEvent(DagsterEventType.ENGINE_EVENT.value, run.job_name, event_specific_data=EngineEventData()),
        ),
    ):
        instance.handle_new_event(
            EventLogEntry(
                error_info=None,
                level=logging.INFO,
                user_message=message,
                run_id=run.run_id,
                timestamp=time.time() - seconds_ago,
                job_name=run.job_name,
                dagster_event=dagster_event,
            )
        )


def test_a_younger_process_with_the_number_of_a_dead_worker_is_not_taken_for_it(
    instance: DagsterInstance, launcher: RunLauncher, child: subprocess.Popen[bytes], schema: str
):
    run = run_that_is_started(instance, schema)
    say_started(instance, run, child.pid, seconds_ago=SECONDS)
    assert launcher.check_run_worker_health(run).status is WorkerStatus.FAILED


def test_a_process_that_is_older_than_the_launch_is_not_taken_for_the_worker(
    instance: DagsterInstance, launcher: RunLauncher, child: subprocess.Popen[bytes], schema: str
):
    run = run_that_is_started(instance, schema)
    say_started(instance, run, child.pid, seconds_ago=-SECONDS)
    assert launcher.check_run_worker_health(run).status is WorkerStatus.FAILED


def test_the_worker_itself_is_known_by_its_time(
    instance: DagsterInstance, launcher: RunLauncher, child: subprocess.Popen[bytes], schema: str
):
    run = run_that_is_started(instance, schema)
    say_started(instance, run, child.pid, seconds_ago=0)
    assert launcher.check_run_worker_health(run).status is WorkerStatus.RUNNING
