"""What the daemon of Dagster does by itself, with the repository's ``dagster.yaml``.

It ticks the quarterly schedule, notices a run whose process was killed, and sends messages. It has an ``IRP_HOME`` with
a PostgreSQL server of its own. A schedule ticks when a minute begins, so one test may wait for that.
"""

import json
import shutil
import signal
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from dagster import DagsterEventType, DagsterInstance, DagsterRun, DagsterRunStatus, RunsFilter

from irp_pipeline import embedded, settings
from irp_pipeline.helpers.cycle import create_cycle, list_cycle_names
from irp_pipeline.helpers.database import dispose_engine, fetch_one, init_database
from irp_pipeline.helpers.db_context import schema_context
from irp_pipeline_tests.support.message_servers import WebServer, web_server
from irp_pipeline_tests.support.processes import REPOSITORY, Process, started
from irp_pipeline_tests.support.waiting import wait_until

SCHEDULED = "irp_pipeline_tests.acceptance.scheduled_definitions"
WAITING = "irp_pipeline_tests.acceptance.waiting_definitions"
SCHEMA = "scheduled"


@pytest.fixture(scope="module", autouse=True)
def home() -> Iterator[Path]:
    """An ``IRP_HOME`` with a server of its own, for this process and all that it starts."""
    folder = Path(tempfile.mkdtemp(prefix="irp-daemon-"))
    with pytest.MonkeyPatch.context() as environment:
        for name in ("IRP_EXECUTOR", "DB_SERVER", "IRP_DATABASE_URL", "IRP_DAGSTER_DATABASE_URL"):
            environment.delenv(name, raising=False)
        environment.setenv("IRP_HOME", str(folder))
        environment.setenv("DAGSTER_HOME", str(REPOSITORY))
        environment.setenv("DB_SCHEMA", SCHEMA)
        dispose_engine()
        init_database(SCHEMA)
        yield folder
        dispose_engine()
    embedded.stop(folder)
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def instance(home: Path) -> Iterator[DagsterInstance]:
    with DagsterInstance.get() as shared:
        yield shared


@pytest.fixture(scope="module")
def web(home: Path) -> Iterator[WebServer]:
    """A web server that gets the messages."""
    with web_server() as server, pytest.MonkeyPatch.context() as environment:
        environment.setenv("IRP_MESSAGES", server.url)
        yield server


@pytest.fixture(scope="module")
def daemon(instance: DagsterInstance, web: WebServer) -> Iterator[Process]:
    """The daemon with both code locations; the schedule is switched on."""
    with started("dagster", "schedule", "start", "quarterly_cycle", "-m", SCHEDULED) as switch:
        assert switch.end() == 0, switch.output
    with started("dagster._daemon", "run", "-m", SCHEDULED, "-m", WAITING) as process:
        yield process
        process.send(signal.SIGINT)
        process.end()


def only_run(instance: DagsterInstance, job: str) -> DagsterRun | None:
    runs = list(instance.get_runs(RunsFilter(job_name=job)))
    assert len(runs) <= 1
    return runs[0] if runs else None


def test_a_run_is_failed_when_its_process_was_killed_together_with_the_code_server(
    instance: DagsterInstance, daemon: Process
):
    schema, cycle = "killed", "Q1-2024"
    init_database(schema)
    with schema_context(schema):
        create_cycle(cycle)
    settings.cycle_dir(schema, cycle).mkdir(parents=True)
    config = json.dumps({"resources": {"database": {"config": {"db_schema": schema}}}})
    command = ["dagster", "job", "launch", "-m", WAITING, "-j", "waiting", "--config-json", config]
    with started(*command, "--tags", json.dumps({"dagster/partition": cycle})) as launch:
        assert launch.end() == 0, launch.output

    def active() -> dict[str, int] | None:
        return fetch_one(
            "SELECT r.pid FROM irp_step_run r JOIN irp_step s ON s.id = r.step_id "
            "WHERE s.step_name = 'Wait for word' AND r.status = 'ACTIVE'",
            schema=schema,
        )

    wait_until(active, "the second step waits", daemon)
    found = active()
    assert found is not None
    worker = psutil.Process(found["pid"])
    code_server = worker.parent()
    assert code_server is not None
    assert "grpc" in code_server.cmdline()
    code_server.kill()  # the server, which would have noticed the end of the worker
    worker.kill()

    def status() -> DagsterRunStatus:
        run = only_run(instance, "waiting")
        assert run is not None
        return run.status

    assert status() is DagsterRunStatus.STARTED
    wait_until(lambda: status() is not DagsterRunStatus.STARTED, "the run has ended", daemon)
    assert status() is DagsterRunStatus.FAILURE
    run = only_run(instance, "waiting")
    assert run is not None
    (failure,) = instance.all_logs(run.run_id, of_type=DagsterEventType.RUN_FAILURE)
    assert f"The process {worker.pid} on host {socket.gethostname()} of the run is gone" in str(
        failure.message or failure.user_message
    )


def test_the_daemon_ticks_the_quarterly_schedule_which_opens_a_cycle_and_runs_it_and_tells_that_it_failed(
    instance: DagsterInstance, daemon: Process, web: WebServer
):
    def launched() -> DagsterRun | None:
        return only_run(instance, "run_cycle")

    wait_until(launched, "the schedule has ticked", daemon)
    with schema_context(SCHEMA):
        (name,) = list_cycle_names()
    assert name.startswith("Q")
    assert list(instance.get_dynamic_partitions("cycles")) == [name]

    def ended() -> bool:
        run = launched()
        return run is not None and run.is_finished

    wait_until(ended, "its run has ended", daemon)
    run = launched()
    assert run is not None
    assert run.tags["dagster/partition"] == name
    assert run.tags["dagster/schedule_name"] == "quarterly_cycle"
    assert run.tags["irp/lock"] == f"{SCHEMA}/{name}"
    assert run.tags["irp/schema"] == SCHEMA
    # It did begin, and ended for want of a workbook.
    counted = fetch_one(
        "SELECT count(*) FILTER (WHERE status = 'COMPLETED') AS done, count(*) AS all FROM irp_step_run", schema=SCHEMA
    )
    assert counted == {"done": 1, "all": 2}
    wait_until(lambda: web.posted, "the message about it is there", daemon)
    (told,) = web.posted  # the other run, of another code location, is not this one's to tell
    assert told["title"].startswith(f"{name} failed at setup.")
    assert f"irp run {name} --db-schema {SCHEMA}" in told["message"]
