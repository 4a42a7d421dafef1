"""The step-run contract, row by row: what is recorded, whatever happens to the worker, the server and the others."""

# ruff: noqa: PT012 - what is tested is how a block ends, so there are blocks within pytest.raises

import asyncio
import contextlib
import dataclasses
import getpass
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import psutil
import psycopg2
import pytest

from irp_pipeline import embedded
from irp_pipeline.helpers import heartbeat, lease
from irp_pipeline.helpers.cycle import create_cycle
from irp_pipeline.helpers.database import (
    DatabaseError,
    dispose_engine,
    drop_schema,
    execute_command,
    execute_scalar,
    fetch_all,
    init_database,
    transaction,
)
from irp_pipeline.helpers.db_context import carry_schema, get_current_schema, schema_context, set_schema
from irp_pipeline.helpers.stage import get_or_create_stage
from irp_pipeline.helpers.step import (
    StepError,
    TrackedRun,
    create_step_run,
    get_last_step_run,
    get_or_create_step,
    track_step,
    update_step_run,
)
from irp_pipeline.postgres import connections, transactions
from irp_pipeline.process import HostProcess, this_process
from irp_pipeline_tests.support.waiting import SECONDS, wait_until

UNKNOWN_ID = 987_654_321

cycle_numbers = itertools.count(1)


@pytest.fixture
def cycle_id(test_schema: str) -> int:
    return create_cycle(f"cycle-{next(cycle_numbers)}")


@pytest.fixture
def step_id(cycle_id: int) -> int:
    return get_or_create_step(get_or_create_stage(cycle_id, 1, "Setup"), 1, "Extract exposure")


@pytest.fixture
def another_step(cycle_id: int) -> int:
    return get_or_create_step(get_or_create_stage(cycle_id, 1, "Setup"), 2, "Submit")


@pytest.fixture
def fast_heartbeat(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "HEARTBEAT_SECONDS", 0.02)


def last_run(step_id: int) -> dict[str, Any]:
    run = get_last_step_run(step_id)
    assert run is not None
    return run


def runs(step_id: int) -> list[tuple[int, str]]:
    """Return number and status of each run of a step, in order."""
    rows = fetch_all("SELECT run_num, status FROM irp_step_run WHERE step_id = %s ORDER BY run_num", (step_id,))
    return [(row["run_num"], row["status"]) for row in rows]


def run_of(step_id: int, run_num: int) -> dict[str, Any]:
    [row] = fetch_all("SELECT * FROM irp_step_run WHERE step_id = %s AND run_num = %s", (step_id, run_num))
    return row


def age_heartbeat(step_id: int, seconds: int = 61) -> None:
    """Make the lease of the active run as old as if its worker had been silent for so long."""
    assert execute_command(
        "UPDATE irp_step_run SET heartbeat_ts = clock_timestamp() - make_interval(secs => %s)"
        " WHERE step_id = %s AND tracked AND status = 'ACTIVE'",
        (seconds, step_id),
    )


def leave_behind(step_id: int, worker: HostProcess, silent_for: int = 0) -> int:
    """Record an active tracked run of a worker, and return its number."""
    run_id, run_num = create_step_run(step_id, "somebody")
    execute_command(
        """
        UPDATE irp_step_run
           SET tracked = true, lease_token = gen_random_uuid(), host = %s, pid = %s, pid_started = %s,
               heartbeat_ts = clock_timestamp() - make_interval(secs => %s)
         WHERE id = %s
        """,
        (worker.host, worker.pid, worker.started, silent_for, run_id),
    )
    return run_num


def dead_worker() -> HostProcess:
    """Return a worker of this host, boot and container that has ended."""
    me = this_process()
    return dataclasses.replace(me, started=f"{me.started.rpartition('/')[0]}/1")


class TestSuccess:
    def test_is_recorded_with_the_output_and_the_fingerprint(self, step_id):
        with track_step(step_id, "analyst", "workbook 1", dagster_run_id="d-1") as run:
            run.output["locations"] = 12_598
        row = last_run(step_id)
        assert row["completed_ts"] >= row["started_ts"]
        assert {name: row[name] for name in ("status", "output_data", "input_hash", "work_run_num")} == {
            "status": "COMPLETED",
            "output_data": {"locations": 12_598},
            "input_hash": "workbook 1",
            "work_run_num": 1,
        }
        assert (row["started_by"], row["dagster_run_id"], row["error_message"]) == ("analyst", "d-1", None)

    def test_is_preceded_by_an_active_row_that_everybody_sees(self, step_id):
        me = this_process()
        with track_step(step_id, "analyst", dagster_run_id="d-1") as run:
            row = run_of(step_id, 1)
            assert (run.id, run.step_id, run.run_num, run.work_run_num) == (row["id"], step_id, 1, 1)
            assert not run.skipped
            assert not run.lease_lost
            assert (row["status"], row["tracked"], row["started_by"]) == ("ACTIVE", True, "analyst")
            assert (row["host"], row["pid"], row["pid_started"]) == (me.host, me.pid, me.started)
            assert row["dagster_run_id"] == "d-1"
            assert row["lease_token"]
            assert row["heartbeat_ts"]
            assert row["completed_ts"] is None

    def test_names_the_user_of_the_operating_system_if_nobody_is_named(self, step_id):
        with track_step(step_id):
            pass
        assert last_run(step_id)["started_by"] == getpass.getuser()

    def test_takes_output_as_a_dataframe_has_it(self, step_id):
        with track_step(step_id) as run:
            run.output = {
                "rows": np.int64(3),
                "insured_value": np.float64(1.5),
                "missing": float("nan"),
                "unbounded": float("inf"),
                "never": pd.NaT,
                "at": pd.Timestamp("2024-03-31"),
                "each": np.array([1, 2]),
                "perils": {"WTC"},
                "file": Path("a/b"),
            }
        assert last_run(step_id)["output_data"] == {
            "rows": 3,
            "insured_value": 1.5,
            "missing": None,
            "unbounded": None,
            "never": None,
            "at": "2024-03-31T00:00:00",
            "each": [1, 2],
            "perils": ["WTC"],
            "file": "a/b",
        }

    def test_is_not_recorded_when_the_output_is_not_json(self, step_id):
        itself: dict[str, Any] = {}
        itself["again"] = itself
        for run_num, value in enumerate((object(), itself, "NUL \x00", "half a pair \ud800", 10**5000), start=1):
            with pytest.raises(StepError, match=f"output of run {run_num} cannot"), track_step(step_id) as run:
                run.output["deep"] = [value]
            row = last_run(step_id)
            assert (row["run_num"], row["status"], row["output_data"]) == (run_num, "FAILED", None)
            assert "cannot be recorded" in row["error_message"]

    def test_can_be_of_a_decorated_function(self, step_id):
        @track_step(step_id)
        def extract() -> str:
            return "extracted"

        assert [extract(), extract()] == ["extracted", "extracted"]
        assert runs(step_id) == [(1, "COMPLETED"), (2, "SKIPPED")]

    def test_needs_a_step(self, test_schema):
        with pytest.raises(StepError, match=f"{UNKNOWN_ID} in schema '{test_schema}'"), track_step(UNKNOWN_ID):
            pytest.fail("there is nothing to work on")

    @pytest.mark.parametrize("fingerprint", [5, b"a", ("a",), "NUL \x00", "half a pair \ud800"])
    def test_needs_a_fingerprint_that_can_be_recorded_and_says_so_before_the_work(self, step_id, fingerprint):
        with pytest.raises(StepError, match="fingerprint"), track_step(step_id, fingerprint=fingerprint):
            pytest.fail("the work would be lost")
        assert runs(step_id) == []


class HostileError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


class TestAnException:
    def test_is_recorded_with_type_message_and_the_end_of_the_traceback_and_goes_on(self, step_id):
        error = ValueError("no such column")
        with pytest.raises(ValueError, match="no such column") as raised, track_step(step_id) as run:
            run.output["rows"] = 3
            raise error
        assert raised.value is error
        row = last_run(step_id)
        assert (row["status"], row["output_data"], row["input_hash"]) == ("FAILED", None, None)
        assert row["completed_ts"] >= row["started_ts"]
        assert row["error_message"].startswith("ValueError: no such column\n")
        assert "raise error" in row["error_message"]
        assert Path(__file__).name in row["error_message"]

    @pytest.mark.parametrize(
        ("error", "said"),
        [
            (ValueError("a NUL \x00 in it"), "ValueError: a NUL \N{SYMBOL FOR NULL} in it"),
            (ValueError("half a pair \ud800"), "ValueError: half a pair ?"),
            (ValueError("%s %(name)s '; DROP TABLE irp_cycle; --"), "ValueError: %s %(name)s '; DROP TABLE"),
            (ValueError("x" * 1_000_000), "ValueError: xxxxx"),
            (ValueError(), "ValueError: \n"),
            (HostileError(), "HostileError: without a message"),
            (StopIteration(3), "StopIteration: 3"),
            (ExceptionGroup("several", [ValueError("one")]), "ExceptionGroup: several"),
            (RecursionError("too deep"), "RecursionError: too deep"),
            (DatabaseError("away", disconnected=True), "DatabaseError: away"),
            (StepError("of another step"), "StepError: of another step"),
        ],
        ids=lambda value: type(value).__name__,
    )
    def test_may_say_anything(self, step_id, error, said):
        with pytest.raises(type(error)) as raised, track_step(step_id):
            raise error
        assert raised.value is error
        row = last_run(step_id)
        assert row["status"] == "FAILED"
        assert row["error_message"].startswith(said)

    def test_shows_where_it_came_from_to_the_end_of_a_long_way(self, step_id):
        def deeper(levels: int) -> None:
            if levels == 0:
                raise ValueError("at the bottom")
            deeper_still(levels - 1)

        def deeper_still(levels: int) -> None:
            deeper(levels)

        with suppress(ValueError), track_step(step_id):
            deeper(200)
        message = last_run(step_id)["error_message"]
        assert message.rstrip().endswith("ValueError: at the bottom")
        assert 'raise ValueError("at the bottom")' in message
        assert len(message) < 5000

    def test_lets_the_next_start_work(self, step_id):
        with suppress(ValueError), track_step(step_id):
            raise ValueError
        with track_step(step_id) as run:
            assert not run.skipped
        assert runs(step_id) == [(1, "FAILED"), (2, "COMPLETED")]


class TestAnInterruption:
    @pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit, asyncio.CancelledError, GeneratorExit])
    def test_is_recorded_as_cancelled_and_goes_on(self, step_id, interruption):
        with pytest.raises(interruption), track_step(step_id):
            raise interruption
        row = last_run(step_id)
        assert row["status"] == "FAILED"
        assert "cancelled" in row["error_message"]

    def test_of_an_asyncio_task_is_one(self, step_id):
        async def work(at_work: asyncio.Event) -> None:
            with track_step(step_id):
                at_work.set()
                await asyncio.Event().wait()

        async def cancel_it() -> None:
            at_work = asyncio.Event()
            task = asyncio.create_task(work(at_work))
            await at_work.wait()
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

        asyncio.run(cancel_it())
        assert (last_run(step_id)["status"], "cancelled" in last_run(step_id)["error_message"]) == ("FAILED", True)

    def test_while_the_heartbeat_starts_leaves_nothing_at_work(self, step_id, monkeypatch):
        def interrupt(thread: threading.Thread) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as context:
            context.setattr(threading.Thread, "start", interrupt)
            with pytest.raises(KeyboardInterrupt), track_step(step_id):
                pytest.fail("the heartbeat did not start")
        assert runs(step_id) == [(1, "FAILED")]


class TestAFinishedStep:
    def test_is_skipped_at_each_later_launch_with_the_number_and_output_of_the_run_that_did_the_work(self, step_id):
        with track_step(step_id, fingerprint="a") as run:
            run.output["locations"] = 3
        for launch in (2, 3):
            with track_step(step_id, "analyst", "a", dagster_run_id=f"d-{launch}") as run:
                assert run.skipped
                assert (run.run_num, run.work_run_num, run.output) == (launch, 1, {"locations": 3})
            row = last_run(step_id)
            assert (row["run_num"], row["status"], row["work_run_num"]) == (launch, "SKIPPED", 1)
            assert (row["output_data"], row["input_hash"], row["tracked"]) == ({"locations": 3}, "a", True)
            assert (row["started_by"], row["dagster_run_id"]) == ("analyst", f"d-{launch}")
            assert row["started_ts"] == row["completed_ts"]

    def test_is_skipped_too_when_it_depends_on_nothing(self, step_id):
        for skipped in (False, True, True):
            with track_step(step_id) as run:
                assert run.skipped is skipped

    def test_works_again_for_another_fingerprint_and_also_when_the_first_comes_back(self, step_id):
        for fingerprint, skipped in (("a", False), ("a", True), ("b", False), ("b", True), ("a", False), (None, False)):
            with track_step(step_id, fingerprint=fingerprint) as run:
                assert run.skipped is skipped
        assert [status for _, status in runs(step_id)] == [
            "COMPLETED", "SKIPPED", "COMPLETED", "SKIPPED", "COMPLETED", "COMPLETED"
        ]  # fmt: skip

    def test_works_again_when_asked_to(self, step_id):
        with track_step(step_id, fingerprint="a") as run:
            run.output["rows"] = 1
        with track_step(step_id, fingerprint="a", rerun=True) as run:
            assert not run.skipped
            run.output["rows"] = 2
        with track_step(step_id, fingerprint="a") as run:
            assert (run.skipped, run.work_run_num, run.output) == (True, 2, {"rows": 2})

    def test_works_again_after_a_rerun_that_failed(self, step_id):
        with track_step(step_id, fingerprint="a"):
            pass
        with suppress(ValueError), track_step(step_id, fingerprint="a", rerun=True):
            raise ValueError
        with track_step(step_id, fingerprint="a") as run:
            assert not run.skipped

    def test_that_is_skipped_records_nothing_of_its_block(self, step_id):
        with track_step(step_id) as run:
            run.output["rows"] = 1
        with suppress(ValueError), track_step(step_id) as run:
            run.output["rows"] = 2
            raise ValueError
        assert (last_run(step_id)["status"], last_run(step_id)["output_data"]) == ("SKIPPED", {"rows": 1})
        assert run_of(step_id, 1)["output_data"] == {"rows": 1}


class TestAStepAtWork:
    def test_refuses_a_second_start_and_says_where_it_is_at_work(self, step_id):
        me = this_process()
        with track_step(step_id):
            with pytest.raises(StepError) as refused, track_step(step_id, rerun=True):
                pytest.fail("there are two at work")
            for told in ("'Extract exposure'", "run 1 ", me.host, f"process {me.pid}"):
                assert told in str(refused.value)
        assert runs(step_id) == [(1, "COMPLETED")]

    def test_leaves_other_steps_alone(self, step_id, another_step):
        with track_step(step_id), track_step(another_step) as run:
            assert run.run_num == 1
        assert runs(step_id) == runs(another_step) == [(1, "COMPLETED")]

    def test_is_known_by_its_newest_run_past_the_skipped_ones(self, step_id):
        with track_step(step_id):
            pass
        with track_step(step_id):
            pass
        with track_step(step_id, rerun=True), pytest.raises(StepError, match="run 3 "), track_step(step_id):
            pytest.fail("there are two at work")

    def test_on_another_host_is_refused_while_its_heartbeat_is_fresh(self, step_id):
        leave_behind(step_id, HostProcess("another-host", 1, "boot/pid:[1]/1"), silent_for=55)
        with pytest.raises(StepError, match="on host another-host, process 1,"), track_step(step_id):
            pytest.fail("it may be alive")
        assert runs(step_id) == [(1, "ACTIVE")]

    def test_under_another_boot_or_in_another_container_is_refused_while_its_heartbeat_is_fresh(self, step_id):
        leave_behind(step_id, dataclasses.replace(dead_worker(), started="another-boot/pid:[1]/1"))
        with pytest.raises(StepError, match="at work already"), track_step(step_id):
            pytest.fail("it may be alive")

    def test_is_one_even_for_somebody_who_writes_past_the_helpers(self, step_id):
        leave_behind(step_id, this_process())
        with pytest.raises(DatabaseError, match="irp_step_run_lease_holder"):
            leave_behind(step_id, this_process())


class TestALostWorker:
    def test_on_another_host_is_given_up_when_its_heartbeat_is_old(self, step_id):
        leave_behind(step_id, HostProcess("another-host", 1, "boot/pid:[1]/1"), silent_for=61)
        with track_step(step_id) as run:
            assert run.run_num == 2
        row = run_of(step_id, 1)
        assert (row["status"], row["lease_token"]) == ("FAILED", None)
        assert row["error_message"].startswith("worker lost: process 1 on host another-host")
        assert row["completed_ts"] > row["heartbeat_ts"]
        assert runs(step_id) == [(1, "FAILED"), (2, "COMPLETED")]

    def test_is_given_up_at_once_when_its_process_is_no_more(self, step_id):
        leave_behind(step_id, dead_worker())
        with track_step(step_id) as run:
            assert run.run_num == 2
        assert "worker lost" in run_of(step_id, 1)["error_message"]

    def test_is_given_up_when_its_number_belongs_to_another_process_now(self, step_id):
        me = this_process()
        place, _, start = me.started.rpartition("/")
        leave_behind(step_id, dataclasses.replace(me, started=f"{place}/{float(start) - 1:.0f}"))
        with track_step(step_id) as run:
            assert run.run_num == 2

    def test_does_not_count_as_done_whatever_the_fingerprint(self, step_id):
        leave_behind(step_id, dead_worker())
        execute_command("UPDATE irp_step_run SET input_hash = 'a' WHERE step_id = %s", (step_id,))
        with track_step(step_id, fingerprint="a") as run:
            assert not run.skipped

    def test_that_is_just_recording_its_success_is_waited_for(self, step_id):
        """A heartbeat may be old because the server was away, and the worker be back with the result."""
        leave_behind(step_id, HostProcess("another-host", 1, "boot/pid:[1]/1"), silent_for=61)

        def start() -> bool:
            with track_step(step_id) as run:
                return run.skipped

        with ThreadPoolExecutor(1) as threads:
            with transaction():
                execute_command(
                    "UPDATE irp_step_run SET status = 'COMPLETED', completed_ts = clock_timestamp() WHERE step_id = %s",
                    (step_id,),
                )
                started = threads.submit(carry_schema(start))
                waits_for_us = "NOT granted AND pg_backend_pid() = ANY(pg_blocking_pids(pid))"
                wait_until(lambda: execute_scalar(f"SELECT count(*) FROM pg_locks WHERE {waits_for_us}"))
            assert started.result(60) is True
        assert runs(step_id) == [(1, "COMPLETED"), (2, "SKIPPED")]


class TestRunsThatAreOnlyBookkeeping:
    def test_are_not_judged_when_they_are_active(self, step_id):
        run_id, _ = create_step_run(step_id, "notebook")
        with track_step(step_id) as run:
            assert not run.skipped
        assert runs(step_id) == [(1, "ACTIVE"), (2, "COMPLETED")]
        assert update_step_run(run_id, "COMPLETED")

    def test_are_not_judged_when_they_are_done(self, step_id):
        run_id, _ = create_step_run(step_id, "notebook")
        update_step_run(run_id, "COMPLETED")
        with track_step(step_id) as run:
            assert not run.skipped

    def test_do_not_hide_what_a_tracked_run_did(self, step_id):
        with track_step(step_id):
            pass
        for status in ("ACTIVE", "FAILED", "COMPLETED"):
            update_step_run(create_step_run(step_id, "notebook")[0], status)
        with track_step(step_id) as run:
            assert (run.skipped, run.run_num, run.work_run_num) == (True, 5, 1)

    def test_are_not_touched_by_a_start_that_finds_a_lost_worker(self, step_id):
        create_step_run(step_id, "notebook")
        leave_behind(step_id, dead_worker())
        create_step_run(step_id, "notebook")
        with track_step(step_id):
            pass
        assert runs(step_id) == [(1, "ACTIVE"), (2, "FAILED"), (3, "ACTIVE"), (4, "COMPLETED")]


class TestTheHeartbeat:
    @pytest.fixture(autouse=True)
    def beats_fast(self, fast_heartbeat: None) -> None: ...

    @staticmethod
    def threads_of(run: TrackedRun) -> list[threading.Thread]:
        return [thread for thread in threading.enumerate() if thread.name == f"irp-heartbeat-{run.id}"]

    @staticmethod
    def wait_for_renewal(step_id: int) -> None:
        before = last_run(step_id)["heartbeat_ts"]
        wait_until(lambda: last_run(step_id)["heartbeat_ts"] > before)

    def test_renews_the_lease_again_and_again(self, step_id):
        with track_step(step_id):
            for _ in range(3):
                self.wait_for_renewal(step_id)
        assert runs(step_id) == [(1, "COMPLETED")]

    def test_brings_back_a_lease_that_ran_out_if_nobody_took_it(self, step_id):
        with track_step(step_id):
            age_heartbeat(step_id)
            self.wait_for_renewal(step_id)
            with pytest.raises(StepError, match="at work already"), track_step(step_id):
                pytest.fail("it is alive")

    def test_ends_with_the_block_however_it_ends_and_says_nothing(self, step_id, another_step, caplog):
        with track_step(step_id) as done:
            assert len(self.threads_of(done)) == 1
        with suppress(ValueError), track_step(another_step) as failed:
            raise ValueError
        wait_until(lambda: not self.threads_of(done) and not self.threads_of(failed))
        assert not done.lease_lost
        assert not failed.lease_lost
        assert caplog.text == ""

    def test_interrupts_work_that_is_no_longer_wanted_and_says_why(self, step_id):
        answers = iter([None, None, ConnectionError("away"), "its run is being cancelled"])

        def unwanted() -> str | None:
            answer = next(answers)
            if isinstance(answer, Exception):
                raise answer
            return answer

        with pytest.raises(KeyboardInterrupt), track_step(step_id, unwanted=unwanted):
            threading.Event().wait(SECONDS)
        assert runs(step_id) == [(1, "FAILED")]
        assert last_run(step_id)["error_message"] == "cancelled (its run is being cancelled)"

    def test_interrupts_again_if_the_work_goes_on(self, step_id):
        with pytest.raises(KeyboardInterrupt), track_step(step_id, unwanted=lambda: "its run is being cancelled"):
            with suppress(KeyboardInterrupt):
                threading.Event().wait(SECONDS)
            threading.Event().wait(SECONDS)
        assert runs(step_id) == [(1, "FAILED")]

    def test_keeps_the_lease_while_interrupted_work_ends(self, step_id):
        with pytest.raises(KeyboardInterrupt), track_step(step_id, unwanted=lambda: "its run has ended: FAILURE"):
            try:
                threading.Event().wait(SECONDS)
            finally:
                self.wait_for_renewal(step_id)
        assert runs(step_id) == [(1, "FAILED")]

    def test_is_not_needed_by_a_skipped_run(self, step_id):
        with track_step(step_id):
            pass
        with track_step(step_id) as run:
            assert self.threads_of(run) == []

    def test_survives_that_its_connection_is_cut(self, step_id):
        with track_step(step_id) as run:
            renewal = f"%SET heartbeat_ts%WHERE id = {run.id} %"
            wait_until(
                lambda: execute_scalar(
                    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
                    " WHERE pid <> pg_backend_pid() AND datname = current_database() AND query LIKE %s",
                    (renewal,),
                )
            )
            self.wait_for_renewal(step_id)

    @pytest.mark.parametrize("error", [DatabaseError("away", disconnected=True), embedded.EmbeddedServerError("?")])
    def test_survives_whatever_goes_wrong(self, step_id, monkeypatch, error):
        real, failed = execute_command, threading.Event()

        def fail_once(query: str, params: Any = None) -> int:
            if "SET heartbeat_ts" in query and not failed.is_set():
                failed.set()
                raise error
            return real(query, params)

        monkeypatch.setattr(heartbeat, "execute_command", fail_once)
        with track_step(step_id):
            assert failed.wait(60)
            self.wait_for_renewal(step_id)

    def test_tells_long_work_that_the_lease_is_lost(self, step_id):
        with pytest.raises(StepError, match="lost its lease"), track_step(step_id) as run:
            update_step_run(run.id, "FAILED", "ended by hand")
            wait_until(lambda: run.lease_lost)
            wait_until(lambda: not self.threads_of(run))
        assert last_run(step_id)["error_message"] == "ended by hand"

    def test_goes_to_the_schema_of_the_start(self, test_schema, step_id, another_schema):
        def heartbeat() -> object:
            query = "SELECT heartbeat_ts FROM irp_step_run WHERE step_id = %s"
            return execute_scalar(query, (step_id,), schema=test_schema)

        with track_step(step_id), schema_context(another_schema):
            before = heartbeat()
            wait_until(lambda: heartbeat() != before)


@pytest.fixture(scope="module")
def another_schema(test_schema: str) -> Iterator[str]:
    name = f"{test_schema}_2"
    init_database(name)
    yield name
    drop_schema(name)


class TestTheSchema:
    def test_of_the_start_gets_the_result_whatever_the_block_sets(self, test_schema, step_id, another_schema):
        with schema_context(test_schema):
            with track_step(step_id) as run:
                set_schema(another_schema)
                run.output["rows"] = 3
            assert get_current_schema() == another_schema
        assert (last_run(step_id)["status"], last_run(step_id)["output_data"]) == ("COMPLETED", {"rows": 3})

    def test_of_the_start_gets_the_failure_too(self, test_schema, step_id, another_schema):
        with schema_context(test_schema), suppress(ValueError), track_step(step_id):
            set_schema(another_schema)
            raise ValueError
        assert last_run(step_id)["status"] == "FAILED"


class TestATransaction:
    def test_around_the_block_is_refused(self, step_id):
        with transaction(), pytest.raises(StepError, match="transaction"), track_step(step_id):
            pytest.fail("nobody would see the lease")
        assert runs(step_id) == []

    def test_inside_the_block_is_fine_and_its_rollback_leaves_the_run(self, step_id):
        with track_step(step_id) as run:
            with suppress(ZeroDivisionError), transaction():
                create_cycle("rolled-back")
                1 / 0  # noqa: B018
            run.output["rows"] = execute_scalar("SELECT count(*) FROM irp_cycle WHERE cycle_name = 'rolled-back'")
        assert last_run(step_id)["output_data"] == {"rows": 0}


class TestALostLease:
    def test_keeps_a_success_from_being_recorded_over_the_run_that_took_its_place(self, step_id):
        with pytest.raises(StepError, match=r"Run 1 .* lost its lease"), track_step(step_id) as run:
            run.output["by"] = "the first"
            age_heartbeat(step_id)
            with track_step(step_id) as second:
                second.output["by"] = "the second"
        assert runs(step_id) == [(1, "FAILED"), (2, "COMPLETED")]
        assert "worker lost" in run_of(step_id, 1)["error_message"]
        assert run_of(step_id, 1)["output_data"] is None
        assert run_of(step_id, 2)["output_data"] == {"by": "the second"}

    def test_lets_the_blocks_own_error_go_on_with_a_note(self, step_id):
        with pytest.raises(ValueError, match="no such column") as raised, track_step(step_id):
            age_heartbeat(step_id)
            with track_step(step_id):
                pass
            raise ValueError("no such column")
        assert any("lost its lease" in note for note in raised.value.__notes__)
        assert "worker lost" in run_of(step_id, 1)["error_message"]

    def test_is_what_an_end_by_hand_means(self, step_id):
        with pytest.raises(StepError, match="lost its lease"), track_step(step_id) as run:
            update_step_run(run.id, "COMPLETED", output_data={"by": "hand"})
            run.output["by"] = "the worker"
        assert last_run(step_id)["output_data"] == {"by": "hand"}

    def test_is_what_a_deleted_cycle_means(self, cycle_id, step_id):
        with pytest.raises(StepError, match="lost its lease"), track_step(step_id):
            execute_command("DELETE FROM irp_cycle WHERE id = %s", (cycle_id,))
        assert get_last_step_run(step_id) is None

    def test_is_not_what_a_report_by_hand_means(self, step_id):
        with track_step(step_id) as run:
            update_step_run(run.id, "ACTIVE", "slow so far", {"percent": 50})
            run.output["percent"] = 100
        row = last_run(step_id)
        assert (row["status"], row["error_message"], row["output_data"]) == ("COMPLETED", None, {"percent": 100})


class TestAnAnswerThatIsLost:
    """The server did what it was asked, and the connection broke before it could say so."""

    @staticmethod
    def once(monkeypatch: pytest.MonkeyPatch, name: str, applies: Callable[..., bool]) -> threading.Event:
        real, lost = getattr(lease, name), threading.Event()

        def lose_answer(*args: Any) -> Any:
            answer = real(*args)
            if applies(*args) and not lost.is_set():
                lost.set()
                raise DatabaseError("server closed the connection unexpectedly", disconnected=True)
            return answer

        monkeypatch.setattr(lease, name, lose_answer)
        return lost

    def test_of_the_start_makes_no_second_run(self, step_id, monkeypatch):
        lost = self.once(monkeypatch, "begin", lambda *_: True)
        with track_step(step_id) as run:
            assert (run.run_num, run.work_run_num, run.skipped) == (1, 1, False)
        assert lost.is_set()
        assert runs(step_id) == [(1, "COMPLETED")]

    def test_of_the_success_is_a_success(self, step_id, monkeypatch):
        lost = self.once(monkeypatch, "execute_scalar", lambda query, *_: "SET status" in query)
        with track_step(step_id) as run:
            run.output["rows"] = 3
        assert lost.is_set()
        assert (last_run(step_id)["status"], last_run(step_id)["output_data"]) == ("COMPLETED", {"rows": 3})

    def test_of_the_failure_is_a_failure(self, step_id, monkeypatch):
        lost = self.once(monkeypatch, "execute_command", lambda query, *_: "SET status" in query)
        with pytest.raises(ValueError, match="no such column") as raised, track_step(step_id):
            raise ValueError("no such column")
        assert lost.is_set()
        assert last_run(step_id)["error_message"].startswith("ValueError: no such column")
        assert not hasattr(raised.value, "__notes__")


class TestSeveralThreadsAtOnce:
    def test_have_one_that_works_and_the_others_are_told(self, step_id):
        callers = 8
        together, all_have_tried = threading.Barrier(callers), threading.Barrier(callers)

        def launch(_: int) -> str:
            together.wait(60)
            try:
                with track_step(step_id):
                    all_have_tried.wait(60)
                    return "worked"
            except StepError as refused:
                all_have_tried.wait(60)
                return str(refused)

        with ThreadPoolExecutor(callers) as threads:
            ended = list(threads.map(carry_schema(launch), range(callers)))
        assert ended.count("worked") == 1
        assert sum("at work already: run 1 " in end for end in ended) == callers - 1
        assert runs(step_id) == [(1, "COMPLETED")]

    def test_do_the_work_once_when_each_tries_until_it_is_done(self, step_id):
        worked = []

        def insist(caller: int) -> None:
            while True:
                with suppress(StepError), track_step(step_id, fingerprint="a") as run:
                    if not run.skipped:
                        worked.append(caller)
                    return

        with ThreadPoolExecutor(8) as threads:
            list(threads.map(carry_schema(insist), range(8)))
        assert len(worked) == 1
        assert [status for _, status in runs(step_id)] == ["COMPLETED"] + ["SKIPPED"] * 7


# --- workers that are processes -----------------------------------------------------------------------------------

Process: TypeAlias = subprocess.Popen[str]

PRELUDE = """
import json, logging, os, signal, sys
from irp_pipeline.helpers import heartbeat as heartbeat_module, lease, step_start
from irp_pipeline.helpers.database import execute_scalar
from irp_pipeline.helpers.step import StepError, get_last_step_run, track_step

def say(*words):
    os.write(1, (" ".join(str(word) for word in words) + "\\n").encode())
"""


@pytest.fixture
def launch(test_schema: str) -> Iterator[Callable[..., Process]]:
    """Start Python programs that work in the test's schema; what is left of them is killed at the end."""
    with contextlib.ExitStack() as started:

        def start(program: str, *arguments: object, environment: dict[str, str] | None = None) -> Process:
            process = subprocess.Popen(
                [sys.executable, "-c", PRELUDE + program, *map(str, arguments)],
                env=environment or {**os.environ, "DB_SCHEMA": test_schema},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            started.enter_context(process)
            started.callback(process.kill)
            return process

        yield start


def hear(process: Process) -> str:
    """Return the next line that a process says."""
    assert process.stdout
    line = process.stdout.readline()
    if not line:
        assert process.stderr
        pytest.fail(f"it ended without a word: {process.stderr.read()}")
    return line.rstrip("\n")


def tell(process: Process, line: str = "") -> None:
    assert process.stdin
    process.stdin.write(line + "\n")
    process.stdin.flush()


AT_WORK = """
try:
    with track_step(int(sys.argv[1]), "the process") as run:
        say("at work")
        sys.stdin.readline()
        run.output["by"] = "the process"
    say("done")
except StepError as error:
    say(error)
"""


class TestAKilledProcess:
    def test_is_lost_at_once(self, step_id, launch):
        worker = launch(AT_WORK, step_id)
        assert hear(worker) == "at work"
        worker.kill()
        worker.wait()
        with track_step(step_id) as run:
            assert run.run_num == 2
        assert runs(step_id) == [(1, "FAILED"), (2, "COMPLETED")]
        assert f"worker lost: process {worker.pid} on host" in run_of(step_id, 1)["error_message"]

    def test_is_lost_also_as_a_zombie(self, step_id, launch):
        worker = launch(AT_WORK, step_id)
        assert hear(worker) == "at work"
        worker.kill()
        wait_until(lambda: psutil.Process(worker.pid).status() == psutil.STATUS_ZOMBIE)
        with track_step(step_id) as run:
            assert run.run_num == 2

    def test_is_lost_also_when_a_forked_child_of_it_lives_on(self, step_id, launch):
        worker = launch(
            """
with track_step(int(sys.argv[1])):
    if (child := os.fork()) == 0:
        signal.pause()
    say(child)
    signal.pause()
""",
            step_id,
        )
        child = psutil.Process(int(hear(worker)))
        try:
            worker.kill()
            worker.wait()
            with track_step(step_id) as run:
                assert run.run_num == 2
            assert child.is_running()
            assert child.status() != psutil.STATUS_ZOMBIE
        finally:
            child.kill()
        assert runs(step_id) == [(1, "FAILED"), (2, "COMPLETED")]


class TestAStoppedProcess:
    def test_that_comes_back_after_its_lease_does_not_record_over_the_run_that_took_its_place(self, step_id, launch):
        worker = launch(AT_WORK, step_id)
        assert hear(worker) == "at work"
        worker.send_signal(signal.SIGSTOP)
        wait_until(lambda: psutil.Process(worker.pid).status() == psutil.STATUS_STOPPED)
        with pytest.raises(StepError, match=f"process {worker.pid},"), track_step(step_id):
            pytest.fail("its lease has not run out")
        age_heartbeat(step_id)
        with track_step(step_id) as run:
            run.output["by"] = "the one that took its place"
            worker.send_signal(signal.SIGCONT)
            tell(worker)
            assert "Run 1 of the step" in (said := hear(worker))
            assert "lost its lease" in said
        assert worker.wait() == 0
        assert runs(step_id) == [(1, "FAILED"), (2, "COMPLETED")]
        assert "worker lost" in run_of(step_id, 1)["error_message"]
        assert (run_of(step_id, 1)["output_data"], run_of(step_id, 2)["output_data"]) == (
            None,
            {"by": "the one that took its place"},
        )

    def test_that_comes_back_before_anybody_took_its_place_records_its_success(self, step_id, launch):
        worker = launch(AT_WORK, step_id)
        assert hear(worker) == "at work"
        worker.send_signal(signal.SIGSTOP)
        wait_until(lambda: psutil.Process(worker.pid).status() == psutil.STATUS_STOPPED)
        age_heartbeat(step_id)
        worker.send_signal(signal.SIGCONT)
        tell(worker)
        assert hear(worker) == "done"
        assert run_of(step_id, 1)["output_data"] == {"by": "the process"}

    def test_in_the_middle_of_its_start_does_not_keep_the_others_out(self, step_id, launch):
        leave_behind(step_id, dead_worker())
        worker = launch(
            """
def stop_first(active):
    step_start.HeldLease.is_lost = judge
    os.kill(os.getpid(), signal.SIGSTOP)
    return judge(active)

judge, step_start.HeldLease.is_lost, step_start._START_LOCK_SECONDS = step_start.HeldLease.is_lost, stop_first, 1
"""
            + AT_WORK,
            step_id,
        )
        wait_until(lambda: psutil.Process(worker.pid).status() == psutil.STATUS_STOPPED)
        free = "SELECT id FROM irp_step WHERE id = %s FOR UPDATE SKIP LOCKED"
        wait_until(lambda: execute_scalar(free, (step_id,)))
        with track_step(step_id) as run:
            assert run.run_num == 2
            worker.send_signal(signal.SIGCONT)
            assert "at work already" in hear(worker)
        assert runs(step_id) == [(1, "FAILED"), (2, "COMPLETED")]


class TestSeveralProcessesAtOnce:
    def test_have_one_that_works_and_takes_the_place_of_a_lost_one(self, step_id, launch):
        leave_behind(step_id, dead_worker())
        parent = launch(
            """
import multiprocessing
callers = 20
execute_scalar("SELECT 1")
fork = multiprocessing.get_context("fork")
together, all_have_tried = fork.Barrier(callers), fork.Barrier(callers)

def launch(caller):
    execute_scalar("SELECT 1")
    together.wait(120)
    try:
        with track_step(int(sys.argv[1])) as run:
            all_have_tried.wait(120)
            return "worked"
    except StepError as refused:
        all_have_tried.wait(120)
        return str(refused)
    except BaseException:
        all_have_tried.abort()
        raise

with fork.Pool(callers) as processes:
    say(json.dumps(processes.map(launch, range(callers), chunksize=1)))
""",
            step_id,
        )
        ended = json.loads(hear(parent))
        assert ended.count("worked") == 1
        assert sum("at work already: run 2 " in end for end in ended) == len(ended) - 1
        assert runs(step_id) == [(1, "FAILED"), (2, "COMPLETED")]


class TestAForkedChild:
    @pytest.mark.parametrize("way", ["pass", "raise ValueError('the child')", "sys.exit(3)"])
    def test_records_nothing_when_it_leaves_the_block(self, step_id, launch, way):
        worker = launch(
            f"""
parent = os.getpid()
try:
    with track_step(int(sys.argv[1])) as run:
        if (child := os.fork()) == 0:
            run.output["by"] = "the child"
            {way}
        else:
            run.output["by"] = "the parent"
            os.waitpid(child, 0)
            say(get_last_step_run(int(sys.argv[1]))["status"])
finally:
    if os.getpid() != parent:
        os._exit(0)
say("done")
""",
            step_id,
        )
        assert hear(worker) == "ACTIVE"
        assert hear(worker) == "done"
        assert (last_run(step_id)["status"], last_run(step_id)["output_data"]) == ("COMPLETED", {"by": "the parent"})

    @pytest.mark.parametrize("way", ["pass", "raise ValueError('the child')", "sys.exit(3)"])
    def test_ends_no_transaction_when_it_leaves_one(self, step_id, launch, way):
        worker = launch(
            f"""
from irp_pipeline.helpers.database import transaction
from irp_pipeline.helpers.step import create_step_run
parent, step_id = os.getpid(), int(sys.argv[1])
try:
    with transaction():
        create_step_run(step_id, "before the fork")
        if (child := os.fork()) == 0:
            {way}
        else:
            os.waitpid(child, 0)
            create_step_run(step_id, "after the fork")
            raise ZeroDivisionError
except ZeroDivisionError:
    say("rolled back")
finally:
    if os.getpid() != parent:
        os._exit(0)
""",
            step_id,
        )
        assert hear(worker) == "rolled back"
        assert runs(step_id) == []

    def test_leaves_a_borrowed_connection_as_it_is(self, step_id, launch):
        worker = launch(
            """
from irp_pipeline.helpers.database import get_engine
parent, step_id = os.getpid(), int(sys.argv[1])
with get_engine().connect() as connection:
    connection.exec_driver_sql("BEGIN")
    connection.exec_driver_sql(f"UPDATE irp_step SET step_name = 'of the parent' WHERE id = {step_id}")
    if (child := os.fork()) != 0:
        os.waitpid(child, 0)
        connection.exec_driver_sql("COMMIT")
if os.getpid() != parent:
    os._exit(0)
say("committed")
""",
            step_id,
        )
        assert hear(worker) == "committed"
        assert execute_scalar("SELECT step_name FROM irp_step WHERE id = %s", (step_id,)) == "of the parent"


# --- a server that goes away --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def own_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """An embedded server that may be stopped; yields the environment in which it is the one."""
    home = tmp_path_factory.mktemp("server") / "home"
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("DB_", "IRP_", "PG"))}
    yield {**kept, "IRP_HOME": str(home)}
    embedded.stop(home)


class TestAServerThatIsRestarted:
    MAKE_A_STEP = """
from irp_pipeline import embedded, settings
from irp_pipeline.helpers.cycle import create_cycle
from irp_pipeline.helpers.database import DatabaseError, dispose_engine, init_database
from irp_pipeline.helpers.stage import get_or_create_stage
from irp_pipeline.helpers.step import get_or_create_step
init_database()
cycle_id = create_cycle("cycle-of-" + str(os.getpid()))
step_id = get_or_create_step(get_or_create_stage(cycle_id, 1, "Setup"), 1, "Extract")
"""

    def test_while_a_step_works_and_again_when_it_is_done_costs_nothing(self, launch, own_server):
        worker = launch(
            self.MAKE_A_STEP
            + """
def heartbeat():
    return get_last_step_run(step_id)["heartbeat_ts"]

heartbeat_module.HEARTBEAT_SECONDS = 0.05
with track_step(step_id) as run:
    embedded.stop(settings.irp_home())
    before = heartbeat()
    while heartbeat() == before:
        pass
    say("the heartbeat went on")
    run.output["rows"] = 3
    embedded.stop(settings.irp_home())
ended = get_last_step_run(step_id)
say(json.dumps([ended["run_num"], ended["status"], ended["output_data"]]))
""",
            environment=own_server,
        )
        assert hear(worker) == "the heartbeat went on"
        assert json.loads(hear(worker)) == [1, "COMPLETED", {"rows": 3}]

    def test_by_somebody_else_is_waited_for_with_the_result_in_hand(self, launch, own_server):
        home = Path(own_server["IRP_HOME"])
        url = embedded.ensure_running(home).render_as_string(hide_password=False)
        named = {**own_server, "IRP_DATABASE_URL": url}
        worker = launch(
            self.MAKE_A_STEP
            + """
logging.basicConfig(stream=sys.stdout, format="log: %(message)s")
with track_step(step_id) as run:
    say("at work")
    sys.stdin.readline()
    run.output["rows"] = 3
say(get_last_step_run(step_id)["status"])
""",
            environment=named,
        )
        assert hear(worker) == "at work"
        embedded.stop(home)
        tell(worker)
        assert hear(worker).startswith("log: The database is away, trying again")
        embedded.ensure_running(home)
        wait_until(lambda: hear(worker) == "COMPLETED")

    def test_too_late_leaves_the_run_to_be_judged_and_the_blocks_own_error_as_it_was(self, launch, own_server):
        home = Path(own_server["IRP_HOME"])
        url = embedded.ensure_running(home).render_as_string(hide_password=False)
        worker = launch(
            self.MAKE_A_STEP
            + """
from pathlib import Path
home, lease.LEASE_SECONDS, step_start.LEASE_SECONDS = Path(sys.argv[1]), 0.1, 0.1
for error in (ValueError("no such column"), None):
    try:
        with track_step(step_id):
            embedded.stop(home)
            if error:
                raise error
    except (ValueError, DatabaseError) as raised:
        say(type(raised).__name__, *getattr(raised, "__notes__", ()))
    embedded.ensure_running(home)
    say(get_last_step_run(step_id)["status"])
with track_step(step_id):
    say(get_last_step_run(step_id)["run_num"])
""",
            home,
            environment={**own_server, "IRP_DATABASE_URL": url},
        )
        said = hear(worker)
        assert said.startswith("ValueError The step run ")
        assert "could not be recorded as FAILED: No connection to database irp" in said
        assert hear(worker) == "ACTIVE"
        assert hear(worker) == "DatabaseError"
        assert hear(worker) == "ACTIVE"
        assert hear(worker) == "3"


class TestAConnectionThatBreaks:
    def test_as_soon_as_it_is_made_time_after_time_is_a_server_that_is_away(self, test_schema, monkeypatch):
        def break_down(*_: object, **__: object) -> None:
            raise psycopg2.OperationalError("server closed the connection unexpectedly")

        monkeypatch.setattr(connections, "_began_as_asked", break_down)
        dispose_engine()
        with pytest.raises(DatabaseError, match="No connection to") as raised:
            execute_scalar("SELECT 1")
        assert raised.value.disconnected

    @pytest.mark.parametrize("words", ["SSL SYSCALL error: EOF detected", "could not send data to server: Broken pipe"])
    def test_is_seen_as_broken_whatever_the_driver_says(self, test_schema, monkeypatch, words):
        def break_down(cursor: Any) -> None:
            cursor.connection.close()
            raise psycopg2.OperationalError(words)

        with pytest.raises(DatabaseError, match=words) as raised:
            transactions.with_cursor(break_down, "SELECT 1")
        assert raised.value.disconnected
