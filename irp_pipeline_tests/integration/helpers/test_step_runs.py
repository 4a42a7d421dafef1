"""Step runs as bookkeeping: what is written is what was told, and numbers are given once, whoever asks."""

import datetime as dt
import itertools
import json
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import numpy as np
import pandas as pd
import pytest

from irp_pipeline.helpers.constants import StepStatus
from irp_pipeline.helpers.cycle import create_cycle
from irp_pipeline.helpers.database import (
    DatabaseError,
    execute_command,
    execute_query,
    execute_scalar,
    fetch_all,
    transaction,
)
from irp_pipeline.helpers.db_context import carry_schema
from irp_pipeline.helpers.stage import get_or_create_stage
from irp_pipeline.helpers.step import (
    StepError,
    create_step_run,
    get_last_step_run,
    get_or_create_step,
    update_step_run,
)

UNKNOWN_ID = 987_654_321
ENDED = (StepStatus.COMPLETED, StepStatus.FAILED, StepStatus.SKIPPED)
CALLERS = 50

cycle_numbers = itertools.count(1)


@pytest.fixture
def cycle_id(test_schema: str) -> int:
    return create_cycle(f"cycle-{next(cycle_numbers)}")


@pytest.fixture
def stage_id(cycle_id: int) -> int:
    return get_or_create_stage(cycle_id, 1, "Setup")


@pytest.fixture
def step_id(stage_id: int) -> int:
    return get_or_create_step(stage_id, 1, "Validate configuration")


@pytest.fixture
def run_id(step_id: int) -> int:
    return create_step_run(step_id, "tester")[0]


def last_run(step_id: int) -> dict[str, Any]:
    run = get_last_step_run(step_id)
    assert run is not None
    return run


class TestCreatingARun:
    def test_numbers_the_runs_of_a_step_from_one(self, stage_id, step_id):
        assert [create_step_run(step_id, "tester")[1] for _ in range(3)] == [1, 2, 3]
        another = get_or_create_step(stage_id, 2, "Extract")
        assert create_step_run(another, "tester")[1] == 1

    def test_records_who_began_and_when_by_the_servers_clock(self, step_id):
        before = execute_scalar("SELECT clock_timestamp()")
        run_id, run_num = create_step_run(step_id, "analyst")
        run = last_run(step_id)
        assert before <= run.pop("started_ts") <= execute_scalar("SELECT clock_timestamp()")
        assert run == {
            "id": run_id,
            "step_id": step_id,
            "run_num": run_num,
            "status": StepStatus.ACTIVE,
            "completed_ts": None,
            "started_by": "analyst",
            "error_message": None,
            "output_data": None,
            "tracked": False,
            "heartbeat_ts": None,
            "host": None,
            "pid": None,
            "input_hash": None,
            "work_run_num": None,
            "dagster_run_id": None,
            "output_hash": None,
            "reason": None,
        }

    def test_gives_numbers_of_plain_python(self, step_id):
        row = execute_query("SELECT id FROM irp_step WHERE id = %s", (step_id,)).iloc[0]
        assert [type(number) for number in create_step_run(row["id"], "tester")] == [int, int]

    def test_of_a_step_that_there_is_not_says_so(self, test_schema):
        with pytest.raises(StepError, match=f"{UNKNOWN_ID} in schema '{test_schema}'"):
            create_step_run(UNKNOWN_ID, "tester")

    def test_that_is_rolled_back_leaves_no_gap(self, step_id):
        with suppress(ZeroDivisionError), transaction():
            create_step_run(step_id, "tester")
            1 / 0  # noqa: B018
        assert create_step_run(step_id, "tester")[1] == 1

    def test_that_is_refused_leaves_no_gap(self, step_id):
        with pytest.raises(DatabaseError):
            create_step_run(step_id, "somebody \x00")
        assert create_step_run(step_id, "tester")[1] == 1

    def test_goes_on_counting_when_a_run_was_deleted(self, step_id):
        create_step_run(step_id, "tester")
        newest, _ = create_step_run(step_id, "tester")
        execute_command("DELETE FROM irp_step_run WHERE id = %s", (newest,))
        assert create_step_run(step_id, "tester")[1] == 3


class TestTheLastRun:
    def test_is_none_before_the_first(self, step_id):
        assert get_last_step_run(step_id) is None

    def test_is_the_one_of_the_highest_number_however_it_ended(self, step_id):
        for status in ENDED:
            newest, _ = create_step_run(step_id, "tester")
            update_step_run(newest, status)
        assert (last_run(step_id)["run_num"], last_run(step_id)["status"]) == (3, "SKIPPED")

    def test_is_of_plain_python_values(self, step_id, run_id):
        update_step_run(run_id, "COMPLETED", output_data={"rows": 3, "names": ["a"]})
        run = last_run(step_id)
        assert type(run["output_data"]) is dict
        assert type(run["started_ts"]) is dt.datetime
        assert {type(value) for value in run.values()} <= {int, str, bool, dict, dt.datetime, type(None)}


class TestUpdatingARun:
    @pytest.mark.parametrize("status", ENDED)
    def test_ends_it(self, step_id, run_id, status):
        assert update_step_run(run_id, status) is True
        run = last_run(step_id)
        assert run["status"] == status
        assert run["completed_ts"] >= run["started_ts"]

    def test_records_what_it_produced_and_why_it_failed(self, step_id, run_id):
        update_step_run(run_id, StepStatus.FAILED, "no such file", {"rows": 3})
        assert (last_run(step_id)["error_message"], last_run(step_id)["output_data"]) == ("no such file", {"rows": 3})

    def test_can_report_while_it_is_at_work(self, step_id, run_id):
        assert update_step_run(run_id, "ACTIVE", output_data={"done": 1})
        assert update_step_run(run_id, "ACTIVE", output_data={"done": 2})
        run = last_run(step_id)
        assert (run["status"], run["completed_ts"], run["output_data"]) == ("ACTIVE", None, {"done": 2})

    def test_keeps_what_is_not_given(self, step_id, run_id):
        update_step_run(run_id, "ACTIVE", "a warning", {"rows": 3})
        update_step_run(run_id, "COMPLETED")
        assert (last_run(step_id)["error_message"], last_run(step_id)["output_data"]) == ("a warning", {"rows": 3})

    def test_can_record_that_nothing_was_produced(self, step_id, run_id):
        update_step_run(run_id, "ACTIVE", output_data={"rows": 3})
        update_step_run(run_id, "COMPLETED", output_data={})
        assert last_run(step_id)["output_data"] == {}

    def test_touches_no_other_run(self, step_id, run_id):
        create_step_run(step_id, "tester")
        before = last_run(step_id)
        update_step_run(run_id, "FAILED", "no such file")
        assert last_run(step_id) == before

    def test_that_there_is_not_says_so(self, test_schema):
        assert update_step_run(UNKNOWN_ID, "COMPLETED") is False

    @pytest.mark.parametrize("status", ["DONE", "completed", "", None, 1, []])
    def test_to_an_unknown_status_is_refused_with_those_there_are(self, step_id, run_id, status):
        with pytest.raises(StepError, match="ACTIVE, COMPLETED, FAILED, SKIPPED") as refused:
            update_step_run(run_id, status)
        assert repr(status) in str(refused.value)
        assert last_run(step_id)["status"] == "ACTIVE"

    @pytest.mark.parametrize(("ended", "wanted"), [(a, b) for a in ENDED for b in StepStatus if a != b])
    def test_never_leaves_an_end_for_another_status(self, step_id, run_id, ended, wanted):
        update_step_run(run_id, ended, "as it was", {"rows": 3})
        before = last_run(step_id)
        with pytest.raises(StepError, match=f"{run_id} has ended as {ended} and cannot become {wanted}"):
            update_step_run(run_id, wanted, "another story", {"rows": 4})
        assert last_run(step_id) == before

    @pytest.mark.parametrize("status", ENDED)
    def test_may_say_the_same_end_again(self, step_id, run_id, status):
        update_step_run(run_id, status)
        ended_at = last_run(step_id)["completed_ts"]
        assert update_step_run(run_id, status, "found out later") is True
        run = last_run(step_id)
        assert (run["completed_ts"], run["error_message"]) == (ended_at, "found out later")

    def test_takes_a_message_with_characters_that_postgresql_cannot_hold(self, step_id, run_id):
        assert update_step_run(run_id, "FAILED", "NUL \x00, half a pair \ud800, whole \N{WATER WAVE}")
        assert last_run(step_id)["error_message"] == "NUL \N{SYMBOL FOR NULL}, half a pair ?, whole \N{WATER WAVE}"

    def test_takes_output_as_a_dataframe_has_it(self, step_id, run_id):
        update_step_run(
            run_id,
            "COMPLETED",
            output_data={
                "rows": np.int64(3),
                "insured_value": np.float64(1.5),
                "missing": float("nan"),
                "never": pd.NaT,
                "at": pd.Timestamp("2024-03-31"),
                "each": np.array([1, 2]),
                "deep": {"unknown": pd.NA},
            },
        )
        assert last_run(step_id)["output_data"] == {
            "rows": 3,
            "insured_value": 1.5,
            "missing": None,
            "never": None,
            "at": "2024-03-31T00:00:00",
            "each": [1, 2],
            "deep": {"unknown": None},
        }

    @pytest.mark.parametrize("value", [object(), "NUL \x00", "half a pair \ud800", print])
    def test_refuses_output_that_is_not_json(self, step_id, run_id, value):
        with pytest.raises(DatabaseError):
            update_step_run(run_id, "COMPLETED", output_data={"deep": [value]})
        assert last_run(step_id)["status"] == "ACTIVE"

    def test_refuses_output_that_contains_itself(self, step_id, run_id):
        output: dict[str, Any] = {}
        output["again"] = output
        with pytest.raises(DatabaseError):
            update_step_run(run_id, "COMPLETED", output_data=output)
        assert last_run(step_id)["status"] == "ACTIVE"

    def test_by_many_at_once_lets_one_decide_how_it_ended(self, step_id):
        run_ids = [create_step_run(step_id, "tester")[0] for _ in range(10)]
        together = threading.Barrier(len(ENDED))

        def end_all(status: StepStatus) -> set[int]:
            ended = set()
            for run_id in run_ids:
                together.wait(60)
                with suppress(StepError):
                    update_step_run(run_id, status, str(status))
                    ended.add(run_id)
            return ended

        with ThreadPoolExecutor(len(ENDED)) as threads:
            ended = dict(zip(ENDED, threads.map(carry_schema(end_all), ENDED), strict=True))
        rows = fetch_all("SELECT id, status, error_message FROM irp_step_run WHERE step_id = %s", (step_id,))
        assert sum(len(ids) for ids in ended.values()) == len(run_ids)
        assert all(row["id"] in ended[row["status"]] and row["error_message"] == row["status"] for row in rows)


# Forked children of one light process, with a connection each, let go at one moment for each call.
AT_ONCE = """
import json, multiprocessing, sys
from irp_pipeline.helpers.database import execute_scalar
from irp_pipeline.helpers.stage import get_or_create_stage
from irp_pipeline.helpers.step import create_step_run, get_or_create_step

callers, cycle_id, stage_id, step_id = map(int, sys.argv[1:])
execute_scalar("SELECT 1")  # what is imported here need not be in each child
fork = multiprocessing.get_context("fork")
together = fork.Barrier(callers)

def call(caller):
    try:
        return call_together(caller)
    except BaseException:
        together.abort()
        raise

def call_together(caller):
    execute_scalar("SELECT 1")
    together.wait(120)
    stage = get_or_create_stage(cycle_id, 1, f"stage of {caller}")
    together.wait(120)
    step = get_or_create_step(stage_id, 1, f"step of {caller}")
    together.wait(120)
    run = create_step_run(step_id, f"caller {caller}")
    return {"stage": stage, "step": step, "run": run}

with fork.Pool(callers) as processes:
    print(json.dumps(processes.map(call, range(callers), chunksize=1)))
"""


class TestFiftyProcessesAtOnce:
    """Also on a server whose transactions are stricter than PostgreSQL's default."""

    @pytest.fixture(params=["read committed", "serializable"])
    def results(self, request, test_schema, cycle_id) -> list[dict[str, Any]]:
        another_stage = get_or_create_stage(cycle_id, 2, "Extract")
        another_step = get_or_create_step(another_stage, 2, "Extract")
        isolation = request.param.replace(" ", "\\ ")
        ended = subprocess.run(
            [sys.executable, "-c", AT_ONCE, *map(str, (CALLERS, cycle_id, another_stage, another_step))],
            env={**os.environ, "DB_SCHEMA": test_schema, "PGOPTIONS": f"-c default_transaction_isolation={isolation}"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr
        results: list[dict[str, Any]] = json.loads(ended.stdout)
        return results

    def test_make_one_stage_and_one_step_and_number_their_runs_from_one_to_fifty(self, results, cycle_id):
        [stage_id] = {result["stage"] for result in results}
        rows = fetch_all("SELECT id FROM irp_stage WHERE cycle_id = %s AND stage_num = 1", (cycle_id,))
        assert rows == [{"id": stage_id}]
        [step_id] = {result["step"] for result in results}
        rows = fetch_all(
            "SELECT st.id FROM irp_step st JOIN irp_stage sg ON sg.id = st.stage_id"
            " WHERE sg.cycle_id = %s AND st.step_num = 1",
            (cycle_id,),
        )
        assert rows == [{"id": step_id}]
        runs = {tuple(result["run"]) for result in results}
        assert sorted(run_num for _, run_num in runs) == list(range(1, CALLERS + 1))
        rows = fetch_all(
            "SELECT r.id, r.run_num FROM irp_step_run r JOIN irp_step st ON st.id = r.step_id"
            " JOIN irp_stage sg ON sg.id = st.stage_id WHERE sg.cycle_id = %s",
            (cycle_id,),
        )
        assert {(row["id"], row["run_num"]) for row in rows} == runs
