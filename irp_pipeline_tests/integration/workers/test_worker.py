"""Workers: real threads and processes that take jobs from the real queue, are killed, frozen, and asked to end."""

import json
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
import sqlalchemy as sa

from irp_pipeline import embedded, settings
from irp_pipeline.engines import ENGINES, JobPhase, leases, running
from irp_pipeline.engines.folders import processes_of, write_end
from irp_pipeline.helpers.database import (
    DatabaseError,
    dispose_engine,
    execute_command,
    execute_scalar,
    fetch_one,
    init_database,
    transaction,
)
from irp_pipeline.helpers.db_context import get_current_schema, schema_context
from irp_pipeline.process import this_process
from irp_pipeline.queue.tasks import enqueue, queue_name, queue_prefix, queues_with_work
from irp_pipeline.storable import unstorable
from irp_pipeline.workers.presence import list_workers
from irp_pipeline.workers.worker import WorkerError
from irp_pipeline_tests.support.gate import database_gate
from irp_pipeline_tests.support.pooler import pooler
from irp_pipeline_tests.support.program_jobs import (
    WAYS,
    hand_over,
    register_engine,
    the_engine,
    wait_for,
    worker_process,
    worker_thread,
)
from irp_pipeline_tests.support.waiting import wait_until

OUTAGE_SECONDS = float(os.environ.get("IRP_TESTS_OUTAGE_SECONDS", "9"))
QUEUED, RUNNING = {JobPhase.QUEUED}, {JobPhase.RUNNING}


@pytest.fixture
def place(test_schema: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An installation of its own on the server of all tests, in which no worker starts by itself."""
    monkeypatch.setenv("IRP_DATABASE_URL", settings.database_url().render_as_string(hide_password=False))
    monkeypatch.setenv("IRP_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("IRP_JOB_SLOTS", "0")
    monkeypatch.setattr(ENGINES, "_declared", {})
    register_engine()
    yield tmp_path
    execute_command("DELETE FROM irp_cycle")


@contextmanager
def through(url: sa.URL, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let this process use another way to the database during the block."""
    with monkeypatch.context() as patch:
        patch.setenv("IRP_DATABASE_URL", url.render_as_string(hide_password=False))
        dispose_engine()
        yield
    dispose_engine()


def runs(key: str) -> str:
    return (the_engine().folder(key) / "runs").read_text()


def row(key: str) -> dict[str, Any]:
    found = fetch_one("SELECT * FROM irp_job WHERE job_key = %s", (key,))
    assert found is not None
    return found


class TestHandingOver:
    def test_puts_jobs_into_the_queue_and_a_worker_runs_them(self, place):
        assert hand_over({"a": WAYS["well"], "b": WAYS["fails"]}) == {}
        wait_for("a", "b", phases=QUEUED)
        with worker_thread():
            states = wait_for("a", "b")
        assert (states["a"].phase, states["a"].result) == (JobPhase.FINISHED, {"answer": 42})
        assert (states["b"].phase, states["b"].message) == (JobPhase.FAILED, "no location matches the model")
        assert the_engine().log("a") == "computed\n"
        assert queues_with_work(queue_prefix()) == []

    def test_that_is_rolled_back_leaves_nothing(self, place):
        with suppress(InterruptedError), transaction():
            hand_over({"a": WAYS["counts"]})
            raise InterruptedError
        assert queues_with_work(queue_prefix()) == []
        assert the_engine().states(["a"])["a"].phase is JobPhase.UNKNOWN

    def test_makes_no_file_and_no_process_for_a_waiting_job(self, place):
        hand_over({f"job-{number}": WAYS["well"] for number in range(50)})
        assert not (place / "home" / "cycles").joinpath(get_current_schema()).exists()
        assert not (place / "home" / "engine").exists()

    @pytest.mark.parametrize("key", ["", "..", "a/b", "/etc", "-x", "a" * 101])
    def test_under_a_key_that_is_no_name_is_refused(self, place, key):
        with pytest.raises(Exception, match="cannot be the key"):
            the_engine().submit({key: {}})

    def test_to_a_queue_that_cannot_be_is_refused_for_that_job(self, place):
        refused = the_engine().submit({"a": {"queue": "No Such/Queue"}, "b": {"queue": "heavy"}})
        assert set(refused) == {"a"}
        assert "cannot be the name of a queue" in refused["a"]

    def test_twice_runs_once(self, place):
        hand_over({f"job-{number}": WAYS["counts"] for number in range(8)})
        for _ in range(5):
            enqueue({f"job-{number}": queue_name() for number in range(8)})
        with worker_thread(), worker_thread():
            wait_for(*(f"job-{number}" for number in range(8)))
            wait_until(lambda: queues_with_work(queue_prefix()) == [])
        assert {runs(f"job-{number}") for number in range(8)} == {"run\n"}

    def test_to_a_worker_that_died_before_it_began_is_done_by_another(self, place):
        hand_over({"a": WAYS["counts"]})
        execute_command("UPDATE irp_queue.procrastinate_jobs SET status = 'doing' WHERE args ->> 'key' = 'a'")
        assert the_engine().states(["a"])["a"].phase is JobPhase.UNKNOWN
        with worker_thread():
            wait_for("a")
        assert runs("a") == "run\n"

    def test_of_a_job_whose_cycle_or_schema_is_gone_is_dropped(self, place):
        hand_over({"gone": WAYS["counts"]})
        enqueue({"unknown": queue_name()})
        execute_scalar(
            """
            SELECT irp_queue.procrastinate_defer_jobs_v1(ARRAY[ROW (%s, 'irp_job', 0, NULL, NULL,
                '{"schema": "no_such_schema", "key": "a"}'::jsonb, NULL)::irp_queue.procrastinate_job_to_defer_v1])
            """,
            (queue_name(),),
        )
        execute_command("DELETE FROM irp_cycle")
        with worker_thread():
            wait_until(lambda: queues_with_work(queue_prefix()) == [])
            hand_over({"next": WAYS["well"]})
            assert wait_for("next")["next"].phase is JobPhase.FINISHED

    def test_never_crosses_to_another_installation(self, place, monkeypatch):
        homes = [place / "home", place / "other"]
        where = "time.sleep(0.3); done({'home': str(folder.parents[4])})"
        with ExitStack() as stack:
            for home in 2 * homes:  # two workers each
                stack.enter_context(worker_process(2, environment={"IRP_HOME": str(home)}))
            for home in homes:
                monkeypatch.setenv("IRP_HOME", str(home))
                hand_over({f"{home.name}-{number}": where for number in range(8)})
            states = wait_for(*(f"{home.name}-{number}" for home in homes for number in range(8)))
        ran_in = {key: Path((state.result or {})["home"]).name for key, state in states.items()}
        assert ran_in == {key: key.partition("-")[0] for key in ran_in}


class TestSlots:
    def test_are_never_exceeded_and_the_oldest_job_begins_first(self, place):
        keys = [f"job-{number}" for number in range(6)]
        hand_over(dict.fromkeys(keys, WAYS["counts"]))
        most = 0

        def have_ended() -> bool:
            nonlocal most
            states = the_engine().states(keys).values()
            most = max(most, sum(state.phase is JobPhase.RUNNING for state in states))
            return all(state.phase is JobPhase.FINISHED for state in states)

        with worker_thread(2):
            wait_until(have_ended)
        assert 1 <= most <= 2
        begun = [row(key)["begun_ts"] for key in keys]
        assert begun == sorted(begun)

    def test_of_a_queue_take_no_jobs_of_another(self, place):
        hand_over({"light": WAYS["well"]})
        hand_over({"heavy": WAYS["well"]}, queue="heavy")
        with worker_thread(queues=["heavy"]):
            wait_for("heavy")
            assert the_engine().states(["light"])["light"].phase is JobPhase.QUEUED
        with worker_thread():
            hand_over({"other": WAYS["well"]}, queue="other")
            wait_for("light", "other")


class TestProcesses:
    def test_are_what_the_others_leave_free(self, place, monkeypatch):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
        with worker_thread(3):
            for number, expected in enumerate((7, 1, 1)):
                hand_over({f"job-{number}": WAYS["hangs"]})
                folder = the_engine().folder(f"job-{number}")
                wait_until((folder / "log.txt").exists)
                content = json.loads((folder / "request.json").read_text())
                assert content["request"]["processes"] == expected

    def test_are_as_many_as_the_setting_says(self, place, monkeypatch):
        monkeypatch.setenv("IRP_JOB_PROCESSES", "3")
        hand_over({"job": "done({'processes': request['processes']})"})
        with worker_thread():
            assert wait_for("job")["job"].result == {"processes": 3}


class TestCancelling:
    def test_ends_a_job_at_work_with_all_it_started(self, place):
        hand_over({"job": WAYS["hangs"]})
        with worker_thread():
            wait_until(lambda: len(list(processes_of(the_engine().folder("job")))) >= 3)
            the_engine().cancel(["job"])
            assert wait_for("job")["job"].message == "It was cancelled while it ran"
        assert list(processes_of(the_engine().folder("job"))) == []

    def test_ends_a_job_that_waits_at_once(self, place):
        hand_over({"job": WAYS["counts"]})
        the_engine().cancel(["job"])
        assert the_engine().states(["job"])["job"].phase is JobPhase.CANCELLED
        assert queues_with_work(queue_prefix()) == []
        enqueue({"job": queue_name()})  # as if a worker had just taken it
        with worker_thread():
            wait_until(lambda: queues_with_work(queue_prefix()) == [])
        assert not the_engine().folder("job").exists()

    def test_of_an_unknown_job_does_nothing(self, place):
        the_engine().cancel(["nobody"])
        assert the_engine().states(["nobody"])["nobody"].phase is JobPhase.UNKNOWN

    def test_comes_too_late_for_a_job_that_has_ended(self, place):
        hand_over({"job": WAYS["fails"]})
        with worker_thread():
            ended = wait_for("job")
        the_engine().cancel(["job"])
        assert the_engine().states(["job"]) == ended


class TestProgress:
    @pytest.mark.parametrize("way", ["says rubbish", "says a pipe"])
    def test_that_is_rubbish_keeps_no_other_job_from_being_told(self, place, way):
        hand_over({"bad": WAYS[way]})
        with worker_thread():
            wait_until(lambda: (the_engine().folder("bad") / "doing.txt").exists())
            hand_over({"good": WAYS["well"]})
            wait_for("good")
            state = the_engine().states(["bad"])["bad"]
            assert state.phase is JobPhase.RUNNING
            assert unstorable(state.message or "") is None
            the_engine().cancel(["bad"])
            assert wait_for("bad")["bad"].phase is JobPhase.CANCELLED

    def test_is_told_while_the_job_runs(self, place):
        hand_over({"job": "(folder / 'doing.txt').write_text('event 7 of 9'); time.sleep(600)"})
        with worker_thread():
            wait_until(lambda: the_engine().states(["job"])["job"].message == "event 7 of 9")
            (worker,) = list_workers()
            assert (worker.host, worker.pid, worker.slots, worker.queues) == (this_process().host, os.getpid(), 2, ())
            (job,) = worker.jobs
            assert (job.analysis, job.cycle, job.doing) == ("job", "Q1-2024", "event 7 of 9")
            the_engine().cancel(["job"])
            wait_for("job")
        assert list_workers() == []


class TestPublishing:
    def test_a_result_file_that_vanished_fails_its_job_and_frees_the_slot(self, place, monkeypatch):
        monkeypatch.setenv("IRP_FILES_URL", (place / "shared").as_uri())

        def lose_file(folder, end):
            write_end(folder, end)
            (folder / "a.bin").unlink(missing_ok=True)

        monkeypatch.setattr(running, "write_end", lose_file)
        hand_over({"job": WAYS["files"], "next": WAYS["well"]})
        with worker_thread(1):
            states = wait_for("job", "next")
        assert states["job"].phase is JobPhase.FAILED
        assert "Its result files could not be published" in str(states["job"].message)
        assert "a.bin" in str(states["job"].message)
        assert states["next"].phase is JobPhase.FINISHED


class TestLostWorker:
    def test_on_this_host_fails_its_jobs_and_the_others_go_on(self, place):
        hand_over({"victim": WAYS["hangs"]})
        with worker_process(1) as victim:
            wait_for("victim", phases=RUNNING)
            wait_until(lambda: len(list(processes_of(the_engine().folder("victim")))) >= 3)
            hand_over({"next": WAYS["well"]})
            victim.kill()
            victim.wait()
            state = the_engine().states(["victim"])["victim"]
            assert state.phase is JobPhase.FAILED
            assert f"process {victim.pid} on host {this_process().host} ended without a report" in str(state.message)
            assert list(processes_of(the_engine().folder("victim"))) == []
        with worker_thread():
            assert wait_for("next")["next"].phase is JobPhase.FINISHED

    def test_whose_job_had_finished_loses_nothing(self, place):
        hand_over({"job": WAYS["well"]})
        with worker_process(1) as victim:
            wait_for("job")
            victim.kill()
            victim.wait()
        execute_command("UPDATE irp_job SET engine_end = NULL WHERE job_key = 'job'")  # it died before it reported
        state = the_engine().states(["job"])["job"]
        assert (state.phase, state.result) == (JobPhase.FINISHED, {"answer": 42})

    def test_on_another_host_is_waited_for_until_a_second_minute_brings_no_heartbeat(self, place, monkeypatch):
        monkeypatch.setattr(leases, "LEASE_SECONDS", 1)
        hand_over({"job": "pass"})
        assert leases.begin("job", "token", this_process()) is not None
        execute_command("UPDATE irp_job SET host = 'elsewhere', heartbeat_ts = now() - interval '1 hour'")
        assert the_engine().states(["job"])["job"].phase is JobPhase.RUNNING
        assert leases.renew({"job": "token"}, {}) == {"job"}  # it was only cut off
        assert row("job")["suspected_ts"] is None
        execute_command("UPDATE irp_job SET heartbeat_ts = now() - interval '1 hour'")
        assert the_engine().states(["job"])["job"].phase is JobPhase.RUNNING
        wait_until(lambda: the_engine().states(["job"])["job"].phase is JobPhase.FAILED)
        assert "on host elsewhere" in str(the_engine().states(["job"])["job"].message)
        assert leases.renew({"job": "token"}, {}) == set()
        assert not leases.report("job", "token", {"phase": "FINISHED", "message": None, "result": {}})

    def test_that_was_frozen_past_its_lease_records_nothing_when_it_thaws(self, place, monkeypatch):
        monkeypatch.setattr(leases, "LEASE_SECONDS", 1)
        hand_over({"job": "time.sleep(4); done({})"})
        with worker_process(1, heartbeat_seconds=0.5) as frozen:
            wait_for("job", phases=RUNNING)
            frozen.send_signal(signal.SIGSTOP)
            execute_command("UPDATE irp_job SET host = 'elsewhere'")  # as another machine sees it
            wait_until(lambda: the_engine().states(["job"])["job"].phase is JobPhase.FAILED)
            frozen.send_signal(signal.SIGCONT)
            wait_until(lambda: list(processes_of(the_engine().folder("job"))) == [])
            time.sleep(1)
            state = the_engine().states(["job"])["job"]
            assert (state.phase, state.result) == (JobPhase.FAILED, None)
            hand_over({"next": WAYS["well"]})
            assert wait_for("next")["next"].phase is JobPhase.FINISHED


class TestOutage:
    """Of :data:`OUTAGE_SECONDS`, past a lease of two thirds of that."""

    def test_of_the_database_lets_jobs_finish_and_be_reported_once_when_it_is_back(self, place, monkeypatch):
        keys = ["short", "middle", "long"]
        lasting = zip(keys, (1, OUTAGE_SECONDS / 3, OUTAGE_SECONDS + 3), strict=True)
        hand_over({key: f"time.sleep({seconds}); {WAYS['counts']}" for key, seconds in lasting})
        with database_gate(settings.database_url()) as way:
            address = {"IRP_DATABASE_URL": way.url.render_as_string(hide_password=False)}
            with worker_process(3, environment=address):
                wait_for(*keys, phases=RUNNING)
                way.refuse()
                time.sleep(OUTAGE_SECONDS)
                folder = the_engine().folder
                assert [(folder(key) / "result.json").exists() for key in keys] == [True, True, False]
                lease = min(leases.LEASE_SECONDS, OUTAGE_SECONDS * 2 / 3)
                with monkeypatch.context() as shorter:
                    shorter.setattr(leases, "LEASE_SECONDS", lease)  # so that all of them look lost
                    assert {state.phase for state in the_engine().states(keys).values()} == RUNNING
                way.open()
                assert {state.phase for state in wait_for(*keys).values()} == {JobPhase.FINISHED}
                hand_over({"next": WAYS["counts"]})
                assert wait_for("next")["next"].phase is JobPhase.FINISHED
        assert {runs(key) for key in (*keys, "next")} == {"run\n"}

    def test_in_which_the_worker_ends_loses_no_finished_job(self, place):
        hand_over({"job": f"time.sleep(1); {WAYS['counts']}"})
        with database_gate(settings.database_url()) as way:
            address = {"IRP_DATABASE_URL": way.url.render_as_string(hide_password=False)}
            with worker_process(1, environment=address) as worker:
                wait_for("job", phases=RUNNING)
                way.refuse()
                wait_until(lambda: (the_engine().folder("job") / "result.json").exists())
                worker.kill()
                worker.wait()
                assert wait_for("job")["job"].phase is JobPhase.FINISHED
        assert runs("job") == "run\n"

    def test_that_lasts_ends_a_worker_that_has_nothing_to_do(self, place):
        with database_gate(settings.database_url()) as way:
            address = {"IRP_DATABASE_URL": way.url.render_as_string(hide_password=False)}
            with worker_process(1, environment=address, idle_seconds=2) as worker:
                wait_until(list_workers)
                way.refuse()
                worker.wait(60)

    def test_as_a_worker_starts_is_an_error(self, place, monkeypatch):
        with database_gate(settings.database_url()) as way:
            way.refuse()
            with through(way.url, monkeypatch), pytest.raises(DatabaseError), worker_thread():
                pass


def test_behind_a_pooler_is_refused_with_the_reason(place, monkeypatch):
    with (
        pooler(settings.database_url(), "transaction", 2) as url,
        through(url, monkeypatch),
        pytest.raises(WorkerError, match="cannot work through a connection pooler"),
        worker_thread(),
    ):
        pass


class TestEnd:
    def test_by_sigterm_lets_jobs_finish(self, place):
        hand_over({"job": "time.sleep(2); done({})"})
        with worker_process(1) as worker:
            wait_for("job", phases=RUNNING)
            hand_over({"next": WAYS["well"]})
            worker.terminate()
            assert worker.wait(60) == 0
        assert wait_for("job")["job"].phase is JobPhase.FINISHED
        assert the_engine().states(["next"])["next"].phase is JobPhase.QUEUED
        assert list_workers() == []

    def test_by_sigterm_ends_jobs_after_the_grace_time_with_that_reason(self, place):
        hand_over({"job": WAYS["hangs"]})
        with worker_process(1, grace_seconds=1) as worker:
            wait_for("job", phases=RUNNING)
            worker.terminate()
            assert worker.wait(60) == 0
        state = wait_for("job")["job"]
        assert state.phase is JobPhase.FAILED
        assert state.message == (
            f"Its worker on host {this_process().host} was asked to end, and the job still ran 1 s later"
        )

    def test_comes_by_itself_when_nothing_waits(self, place):
        hand_over({"job": WAYS["well"]})
        with worker_process(1, idle_seconds=1) as worker:
            wait_for("job")
            assert worker.wait(60) == 0


def test_starts_by_itself_with_the_first_job_and_ends_when_idle(place, monkeypatch):
    """The program is one that every installation has, so that the worker needs no engine of the tests."""
    monkeypatch.setenv("IRP_JOB_SLOTS", "2")
    monkeypatch.delenv("IRP_HOME")
    (place / ".irp").mkdir(mode=0o700)
    monkeypatch.chdir(place)  # so that IRP_HOME follows from the working folder
    hand_over({"job": "done({})"})
    execute_command('UPDATE irp_job_configuration SET job_configuration_data = \'{"engine": "no-such-engine"}\'')
    the_engine().wake()
    state = wait_for("job")["job"]
    assert "no risk engine 'no-such-engine'" in str(state.message)
    assert len(list_workers()) == 1
    for _ in range(3):
        the_engine().wake()
    (worker,) = list_workers()
    assert psutil.pid_exists(worker.pid)
    wait_until(lambda: not psutil.pid_exists(worker.pid))
    assert list_workers() == []


def test_ends_with_the_embedded_server_and_does_not_start_it_again(tmp_path, monkeypatch):
    home = Path(tempfile.mkdtemp(prefix="irp-worker-"))  # a short path, for the server's socket
    for name in ("IRP_DATABASE_URL", "DB_SERVER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("IRP_HOME", str(home))
    try:
        dispose_engine()
        init_database("public")
        with schema_context("public"), worker_process(1, idle_seconds=600) as worker:
            wait_until(list_workers)
            dispose_engine()
            assert embedded.stop(home)
            assert worker.wait(60) == 0
        assert not embedded.is_running(home)
    finally:
        embedded.stop(home)
        dispose_engine()
        shutil.rmtree(home)
