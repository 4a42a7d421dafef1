"""``irp cycle``, ``irp db`` and the jobs of Dagster, while steps and jobs are at work; with a real engine's process."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from dagster import DagsterInstance

from irp_pipeline.definitions import definitions
from irp_pipeline.engines import register_engine
from irp_pipeline.engines.limits import Limits
from irp_pipeline.engines.local import LocalEngine
from irp_pipeline.helpers import ending
from irp_pipeline.helpers.batch import submit_batch
from irp_pipeline.helpers.cycle import archive_cycle, create_cycle, get_cycle_by_name, list_cycle_names
from irp_pipeline.helpers.database import execute_command, init_database
from irp_pipeline.helpers.db_context import get_current_schema, schema_context
from irp_pipeline.helpers.stage import get_or_create_stage
from irp_pipeline.helpers.step import get_last_step_run, get_or_create_step
from irp_pipeline.postgres import schemas
from irp_pipeline_tests.support.program_jobs import worker_thread
from irp_pipeline_tests.support.recording_engine import analyses, engine_of, make_batch, recording_engine
from irp_pipeline_tests.support.waiting import wait_until

CYCLE = "Q1"
# A job that would compute for ten minutes, and says that it has begun.
LONG_JOB = """
import pathlib, sys, time
from irp_pipeline.engines.program import end_with_worker
end_with_worker()
(pathlib.Path(sys.argv[-1]) / "begun").touch()
time.sleep(600)
"""


@pytest.fixture(autouse=True)
def _cycles(test_schema: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(ending, "_NOTICE_SECONDS", 0.5)
    with recording_engine(tmp_path):
        yield
        execute_command("DELETE FROM irp_cycle")


@contextmanager
def step_at_work(name: str = CYCLE) -> Iterator[int]:
    """A step at work in a process of its own."""
    cycle = get_cycle_by_name(name)
    assert cycle is not None
    step_id = get_or_create_step(get_or_create_stage(cycle["id"], 2, "Extract"), 1, "Control totals")
    script = f"""
import sys
from irp_pipeline.helpers.db_context import schema_context
from irp_pipeline.helpers.step import track_step
with schema_context({get_current_schema()!r}), track_step({step_id}):
    print("at work", flush=True)
    sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == b"at work\n"
        yield step_id
        process.stdin.close()


COMMANDS = [("cycle", "delete", CYCLE, "--yes"), ("cycle", "archive", CYCLE)]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
class TestACycleAtWork:
    def test_is_refused_and_the_step_named(self, irp, command):
        create_cycle(CYCLE)
        with step_at_work():
            said = irp(*command, status=1).stderr
            assert "run 1 of step 'Control totals' on host " in said
            assert "--force" in said
            error = json.loads(irp(*command, "--json", status=1).stderr)["error"]
            assert "Control totals" in error["message"]
        assert (get_cycle_by_name(CYCLE) or {})["status"] == "ACTIVE"

    def test_is_refused_and_the_jobs_named(self, irp, command):
        submit_batch(make_batch(analyses(2)))
        said = irp(*command, status=1).stderr
        assert "(a0), SUBMITTED" in said
        assert "(a1), SUBMITTED" in said

    def test_is_ended_by_force(self, irp, command):
        submit_batch(make_batch(analyses(2)))
        with step_at_work() as step_id:
            assert "Ending what is at work" in irp(*command, "--force").stderr
            run = get_last_step_run(step_id)
        assert run is None or run["error_message"].startswith("ended by ")
        assert set(engine_of(CYCLE).phases().values()) == {"CANCELLED"}


class TestASchemaAtWork:
    @pytest.fixture
    def other_schema(self, test_schema: str) -> Iterator[str]:
        name = f"{test_schema}_dropped"
        schemas.drop(name)
        init_database(name)
        with schema_context(name):
            yield name
        schemas.drop(name)

    def test_is_not_dropped(self, irp, other_schema):
        create_cycle(CYCLE)
        with step_at_work():
            assert "run 1 of step 'Control totals'" in irp("db", "drop", other_schema, "--yes", status=1).stderr
        submit_batch(make_batch(analyses(1), "Q2"))
        assert "(a0), SUBMITTED" in irp("db", "drop", other_schema, "--yes", status=1).stderr
        assert schemas.current_version(other_schema)

    def test_is_dropped_by_force(self, irp, other_schema):
        submit_batch(make_batch(analyses(1)))
        with step_at_work():
            irp("db", "drop", other_schema, "--yes", "--force")
        assert schemas.current_version(other_schema) is None
        assert set(engine_of(CYCLE).phases().values()) == {"CANCELLED"}

    @pytest.mark.parametrize("command", ["init", "upgrade"])
    def test_is_not_upgraded(self, irp, other_schema, command):
        create_cycle(CYCLE)
        schema = ("--db-schema", other_schema)
        with step_at_work() as step_id:
            execute_command("UPDATE irp_schema_version SET version_num = '0005'")
            assert (
                "cannot be upgraded while its cycles are at work (Q1): run 1"
                in irp("db", command, *schema, status=1).stderr
            )
            assert (get_last_step_run(step_id) or {})["status"] == "ACTIVE"
        assert schemas.current_version(other_schema) == "0005"


def test_after_force_no_process_of_the_engine_computes_on(irp, tmp_path, monkeypatch):
    monkeypatch.setenv("IRP_JOB_SLOTS", "0")
    register_engine("long", lambda folder: LocalEngine(folder, [sys.executable, "-c", LONG_JOB], Limits(600, 1e9)))
    with worker_thread(1):
        submit_batch(make_batch([{**job, "engine": "long"} for job in analyses(1)]))
        wait_until(lambda: list(tmp_path.rglob("begun")), "the job computes")
        irp("cycle", "delete", CYCLE, "--yes", "--force")
        assert computing(tmp_path) == []
    assert list_cycle_names() == []


def computing(folder: Path) -> list[int]:
    """The processes of jobs below a folder."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        arguments = process.info["cmdline"] or []
        if arguments and arguments[-1].startswith(str(folder)) and LONG_JOB in arguments:
            found.append(process.pid)
    return found


def test_reopening_is_told(irp):
    archive_cycle(create_cycle(CYCLE))
    assert f"Reopened the cycle {CYCLE}" in irp("cycle", "reopen", CYCLE).stdout
    assert "is open already" in irp("cycle", "reopen", CYCLE).stdout
    assert json.loads(irp("cycle", "reopen", CYCLE, "--json").stdout)["cycle"]["status"] == "ACTIVE"


@pytest.mark.parametrize(
    "command", ["status", "run", "cycle show", "cycle archive", "cycle reopen", "cycle delete --yes"]
)
def test_another_spelling_of_a_name_is_told(irp, command):
    create_cycle("Q1-2024")
    assert (
        "There is a cycle 'Q1-2024'; names are not case-sensitive" in irp(*command.split(), "q1-2024", status=1).stderr
    )


# --- in Dagster ---------------------------------------------------------------------------------------------------


def launched(job: str, **config: Any) -> Any:
    with DagsterInstance.ephemeral() as instance:
        return definitions.get_job_def(job).execute_in_process(
            run_config={
                "ops": {job: {"config": config}},
                "resources": {"database": {"config": {"db_schema": get_current_schema()}}},
                "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
            },
            instance=instance,
            raise_on_error=False,
        )


def why(result: Any) -> str:
    [event] = [event for event in result.all_events if event.is_step_failure]
    return str(event.step_failure_data.user_failure_data.description)


def metadata(result: Any) -> dict[str, Any]:
    [event] = [event for event in result.all_events if event.is_successful_output]
    return {name: value.value for name, value in event.step_output_data.metadata.items()}


class TestInDagster:
    def test_opening_says_which_cycle_it_archived(self):
        assert metadata(launched("open_cycle", name="Q1"))["archived"] == "none"
        assert metadata(launched("open_cycle", name="Q2"))["archived"] == "Q1"
        assert "archive the one that was active before" in str(definitions.get_job_def("open_cycle").description)

    @pytest.mark.parametrize(("job", "name"), [("archive_cycle", CYCLE), ("open_cycle", "Q2")])
    def test_a_cycle_at_work_is_not_archived(self, job, name):
        create_cycle(CYCLE)
        with step_at_work():
            assert "run 1 of step 'Control totals'" in why(launched(job, name=name))
        submit_batch(make_batch(analyses(1), "Q3"))
        assert "(a0), SUBMITTED" in why(launched("archive_cycle", name="Q3"))
        assert (get_cycle_by_name(CYCLE) or {})["status"] == "ACTIVE"

    def test_a_cycle_at_work_is_archived_by_force(self):
        submit_batch(make_batch(analyses(1)))
        with step_at_work():
            assert launched("archive_cycle", name=CYCLE, force=True).success
        assert (get_cycle_by_name(CYCLE) or {})["status"] == "ARCHIVED"
        assert set(engine_of(CYCLE).phases().values()) == {"CANCELLED"}
