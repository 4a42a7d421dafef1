"""One step by Celery: messages that are lost or come twice, and a worker on another host that is heard of no more."""

import base64
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from dagster import DagsterEventType, DagsterInstance, DagsterRunStatus, reconstructable
from redis import Redis

from irp_pipeline import settings
from irp_pipeline.orchestration import celery_app, celery_executor, step_workers
from irp_pipeline.orchestration.executors import executor
from irp_pipeline.orchestration.instance import opened_instance
from irp_pipeline.orchestration.internals import execute_run_iterator
from irp_pipeline.orchestration.storage import connect
from irp_pipeline.settings import SettingsError
from irp_pipeline_tests.support.brokers import OwnRedis
from irp_pipeline_tests.support.celery_job import FOLDER, one_step_job
from irp_pipeline_tests.support.processes import REPOSITORY
from irp_pipeline_tests.support.waiting import SECONDS, wait_until

STEP = "wait_for_word"


@pytest.fixture
def broker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[OwnRedis]:
    own = OwnRedis(tmp_path)
    own.start()
    monkeypatch.setenv("IRP_CELERY_BROKER", own.url)
    monkeypatch.setenv("IRP_EXECUTOR", "celery")
    monkeypatch.setenv(FOLDER, str(tmp_path))
    yield own
    own.kill()


@pytest.fixture
def records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DagsterInstance]:
    """Dagster's records in a database of the test's own."""
    url = settings.database_url()
    own = url.set(database=f"irp_celery_{os.getpid()}")
    monkeypatch.setenv("IRP_DATABASE_URL", url.render_as_string(hide_password=False))
    monkeypatch.setenv("IRP_DAGSTER_DATABASE_URL", own.render_as_string(hide_password=False))
    monkeypatch.setenv("IRP_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    with opened_instance() as instance:
        yield instance
    with closing(connect(url)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(f"DROP DATABASE {own.database} WITH (FORCE)")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The run does not wait long before it sends a step again, or takes a worker for lost."""
    monkeypatch.setattr(celery_executor, "_FIRST_PATIENCE_SECONDS", 0.2)
    monkeypatch.setattr(celery_executor, "_CHECK_SECONDS", 0)
    monkeypatch.setattr(celery_executor, "HEARTBEAT_SECONDS", 0.2)


@contextmanager
def running(instance: DagsterInstance) -> Iterator[str]:
    """Run the job in another thread; yield the run's id. The block makes it end."""
    job = reconstructable(one_step_job)
    run = instance.create_run_for_job(one_step_job(), job_code_origin=job.get_python_origin())
    executing = threading.Thread(target=lambda: list(execute_run_iterator(job, run, instance)), daemon=True)
    executing.start()
    yield run.run_id
    executing.join(SECONDS)
    assert not executing.is_alive()


@contextmanager
def worker(*around: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "celery", "--app", "irp_pipeline.orchestration.celery_app", "worker"]
    options = ["--concurrency", "2", "--without-mingle", "--without-gossip", "--loglevel", "INFO"]
    with subprocess.Popen(
        [*around, *command, *options],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    ) as process:
        yield process
        os.killpg(process.pid, signal.SIGKILL)


def waiting_messages(broker: OwnRedis) -> int:
    """How many messages wait: there is a list for each priority."""
    with Redis.from_url(broker.url) as redis:
        return sum(redis.llen(key) for key in redis.keys("irp*"))


def contents_of_messages(broker: OwnRedis) -> list[str]:
    """The bodies of the messages that wait."""
    with Redis.from_url(broker.url) as redis:
        found = [json.loads(message) for key in redis.keys("irp*") for message in redis.lrange(key, 0, -1)]
    assert found
    return [base64.b64decode(message["body"]).decode() + json.dumps(message["headers"]) for message in found]


def messages_of(instance: DagsterInstance, run_id: str) -> str:
    return "\n".join(entry.user_message for entry in instance.all_logs(run_id))


@pytest.mark.usefixtures("quick")
def test_a_step_is_sent_again_until_a_worker_begins_it_and_begins_once(
    broker: OwnRedis, records: DagsterInstance, tmp_path: Path
):
    with running(records) as run_id:
        wait_until(lambda: waiting_messages(broker) >= 2, "it was sent again")
        assert "No worker has begun the step" in messages_of(records, run_id)
        for message in contents_of_messages(broker):
            assert run_id in message
            assert "://" not in message
            assert str(REPOSITORY) not in message
        with worker() as process:
            wait_until((tmp_path / "begun").exists, "a worker has begun it")
            wait_until(lambda: waiting_messages(broker) == 0, "all messages were taken")
            (tmp_path / "go").touch()
            wait_until(lambda: records.get_run_by_id(run_id).is_finished, "the run has ended")  # type: ignore[union-attr]
            assert process.stdout is not None
            assert any(b"needs no worker any more" in line for line in iter(process.stdout.readline, b""))
    assert records.get_run_by_id(run_id).status is DagsterRunStatus.SUCCESS  # type: ignore[union-attr]
    assert len((tmp_path / "begun").read_text().splitlines()) == 1


@pytest.mark.usefixtures("quick")
def test_a_run_fails_when_nothing_is_heard_of_a_worker_on_another_host(
    broker: OwnRedis, records: DagsterInstance, tmp_path: Path
):
    other_host = ("unshare", "--uts", "sh", "-c", 'hostname irp-other && exec "$@"', "sh")
    if subprocess.run([*other_host, "true"], capture_output=True, check=False).returncode:
        pytest.skip("This user may not give a process another host name (unshare --uts)")
    with worker(*other_host) as process, running(records) as run_id:
        wait_until((tmp_path / "begun").exists, "the worker has begun it")
        found = step_workers.find(records, step_workers.Attempt(run_id, STEP, 0))
        assert found is not None
        assert found.worker is not None
        assert found.worker.host == "irp-other"
        assert not found.expired
        os.killpg(process.pid, signal.SIGSTOP)
        with closing(connect(settings.dagster_database_url())) as connection, connection, connection.cursor() as cursor:
            cursor.execute("UPDATE step_workers SET heartbeat_ts = heartbeat_ts - interval '61 seconds'")
    assert records.get_run_by_id(run_id).status is DagsterRunStatus.FAILURE  # type: ignore[union-attr]
    (failure,) = [entry.dagster_event for entry in records.all_logs(run_id, of_type=DagsterEventType.STEP_FAILURE)]
    assert failure is not None
    said = str(failure.step_failure_data.error)
    assert f"(process {found.worker.pid} on host irp-other) that executed it was last heard of at " in said


def test_an_attempt_that_was_called_off_is_begun_by_nobody(records: DagsterInstance):
    step_workers.prepare(records)
    attempt = step_workers.Attempt("a run", STEP, 0)
    step_workers.call_off(records, attempt)
    assert not step_workers.begin(records, attempt, "late@host")
    found = step_workers.find(records, attempt)
    assert found is not None
    assert (found.worker, found.ended) == (None, True)
    again = step_workers.Attempt("a run", STEP, 1)
    assert step_workers.begin(records, again, "first@host")
    assert not step_workers.begin(records, again, "second@host")


def test_records_outside_of_postgresql_are_refused():
    with (
        DagsterInstance.ephemeral() as instance,
        pytest.raises(step_workers.StepWorkerError, match="not in PostgreSQL"),
    ):
        step_workers.find(instance, step_workers.Attempt("a run", STEP, 0))


def test_without_a_broker_the_message_names_the_variable(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("IRP_CELERY_BROKER", raising=False)
    with pytest.raises(SettingsError, match="IRP_CELERY_BROKER is not set"):
        celery_app.make_celery()
    with pytest.raises(SettingsError, match="IRP_CELERY_BROKER is not set"):
        executor("celery")
