"""Steps on other hosts by Celery: whole cycles, cancellation, lost workers and lost runs, brokers that are away.

The brokers are the RabbitMQ and the Redis of this machine, and a Redis of the tests that can be restarted.
"""

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psycopg2
import pytest

from irp_pipeline import settings
from irp_pipeline.helpers.database import fetch_all
from irp_pipeline_tests.acceptance.test_dagster_launches import (
    closed_gate,
    connect,
    extract,
    home,
    irp_run,
    open_at_the_gate,
    open_gated,
    run_status,
    someone_waits_at_the_gate,
    statuses,
    step_runs,
)
from irp_pipeline_tests.support.brokers import RABBITMQ, REDIS, OwnRedis, require
from irp_pipeline_tests.support.processes import Process, started
from irp_pipeline_tests.support.waiting import wait_until

__all__ = ["home"]  # a fixture

APP = "irp_pipeline.orchestration.celery_app"


@pytest.fixture(autouse=True)
def queue(monkeypatch: pytest.MonkeyPatch) -> str:
    """A queue of the tests' own, at whatever broker."""
    require(RABBITMQ, REDIS)
    name = f"irp-tests-{os.getpid()}"
    monkeypatch.setenv("IRP_CELERY_QUEUE", name)
    monkeypatch.setenv("IRP_EXECUTOR", "celery")
    return name


@contextmanager
def worker(broker: str, name: str, concurrency: int = 2) -> Iterator[Process]:
    command = ["celery", "--app", APP, "worker", "--concurrency", str(concurrency), "--hostname", f"{name}@%h"]
    quick = ["--loglevel", "INFO", "--without-mingle", "--without-gossip"]
    with started(*command, *quick, IRP_CELERY_BROKER=broker) as process:
        yield process


def waiting_at_the_gate(number: int = 1) -> bool:
    return (
        len(fetch_all("SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND objid = 4217 AND NOT granted")) == number
    )


def workers_of(dagster_run_id: str) -> list[str]:
    with connect(settings.dagster_database_url()) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT worker_name FROM step_workers WHERE run_id = %s", (dagster_run_id,))
        return [name.partition("@")[0] for (name,) in cursor.fetchall()]


def test_whole_cycles_run_over_rabbitmq_and_over_redis():
    with ExitStack() as stack:
        runs = {}
        for name, broker in (("rabbitmq", RABBITMQ), ("redis", REDIS)):
            open_gated(name)
            stack.enter_context(worker(broker, name))
            runs[name] = stack.enter_context(irp_run(name, IRP_CELERY_BROKER=broker))
        for name, run in runs.items():
            assert run.end() == 0, run.output
            assert set(statuses(name)) == {"COMPLETED"}
            assert "implicit Nothing" not in run.output  # of an op that shares out nothing
            (run_id,) = {step["dagster_run_id"] for step in step_runs(name)}
            done_by = workers_of(run_id)
            assert set(done_by) == {name}
            assert len(done_by) == len(step_runs(name)) + 4  # the parts of Submit, and the ops that look for notebooks


def test_a_cancellation_and_the_death_of_a_run_reach_a_step_by_its_lease():
    open_at_the_gate("cancelled_run")
    open_at_the_gate("killed_run")
    with (
        closed_gate(),
        worker(RABBITMQ, "only"),
        extract("cancelled_run", IRP_CELERY_BROKER=RABBITMQ) as cancelled,
        extract("killed_run", IRP_CELERY_BROKER=RABBITMQ) as killed,
    ):
        wait_until(lambda: waiting_at_the_gate(2), "both extracts wait")
        killed.send(signal.SIGKILL)
        killed.end()
        with extract("killed_run", IRP_EXECUTOR="in_process") as next_one:  # finds that the first is gone
            assert next_one.end() == 1, next_one.output
            assert "is at work already" in next_one.output
        cancelled.send(signal.SIGINT)
        assert cancelled.end() == 130, cancelled.output
        assert "CANCELED" in cancelled.output
        wait_until(lambda: waiting_at_the_gate(0), "nobody waits any more")
        wait_until(lambda: "ACTIVE" not in statuses("killed_run", "Extract exposure"), "the step has ended")
    (step,) = step_runs("cancelled_run", "Extract exposure")
    assert (step["status"], step["error_message"]) == ("FAILED", "cancelled (its run is being cancelled)")
    assert run_status(step["dagster_run_id"]) == "CANCELED"
    step = step_runs("killed_run", "Extract exposure")[0]
    assert (step["status"], step["error_message"]) == ("FAILED", "cancelled (its run has ended: FAILURE)")


def test_a_run_fails_when_the_worker_of_its_step_is_killed():
    open_at_the_gate("lost")
    with closed_gate(), worker(REDIS, "lost") as process, extract("lost", IRP_CELERY_BROKER=REDIS) as run:
        wait_until(someone_waits_at_the_gate, "the extract waits", run)
        process.send_to_all(signal.SIGKILL)
        assert run.end() == 1, run.output
        assert f"the worker lost@{socket.gethostname()} (process" in run.output
        assert "is gone" in run.output
    (step,) = step_runs("lost", "Extract exposure")
    assert run_status(step["dagster_run_id"]) == "FAILURE"
    with extract("lost", IRP_EXECUTOR="in_process") as again:
        assert again.end() == 0, again.output
    assert statuses("lost", "Extract exposure") == ["FAILED", "COMPLETED"]


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[OwnRedis]:
    redis = OwnRedis(tmp_path)
    yield redis
    redis.kill()


def said_in_run(dagster_run_id: str, text: str) -> bool:
    with connect(settings.dagster_database_url()) as connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM event_logs WHERE run_id = %s AND strpos(event, %s) > 0", (dagster_run_id, text)
        )
        return cursor.fetchone() != (0,)


def dagster_run_of(schema: str) -> str | None:
    """The Dagster run that has the cycle of a schema, or None, also while Dagster has no database yet."""
    with (
        suppress(psycopg2.Error),
        connect(settings.dagster_database_url()) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute("SELECT run_id FROM run_tags WHERE key = 'irp/lock' AND value LIKE %s", (f"{schema}/%",))
        found = cursor.fetchone()
        return None if found is None else str(found[0])
    return None


def test_an_outage_of_the_broker_is_waited_for(own_redis: OwnRedis):
    open_at_the_gate("outage")
    with closed_gate() as open_gate, worker(own_redis.url, "outage") as process:
        with extract("outage", IRP_CELERY_BROKER=own_redis.url) as run:
            wait_until(lambda: dagster_run_of("outage"), "the run begins", run)
            run_id = dagster_run_of("outage") or ""
            wait_until(lambda: said_in_run(run_id, "broker of Celery cannot be reached"), "the outage is told", run)
            own_redis.start()
            wait_until(someone_waits_at_the_gate, "the extract waits", run)
            own_redis.kill()
            open_gate()
            assert run.end() == 0, run.output
        own_redis.start()
        with extract("outage", "--rerun", IRP_CELERY_BROKER=own_redis.url) as again:
            assert again.end() == 0, f"{again.output}\n{process.output}"
    assert statuses("outage", "Extract exposure") == ["COMPLETED", "COMPLETED"]
