"""The helpers find their rows by an index, however many there are.

The plans are those of the statements that the helpers send; see :mod:`irp_pipeline_tests.benchmarks.plans`. The tables
are only as large as it takes for the server to prefer an index; the benchmark ``scale`` asks the same of
three million step runs.
"""

import datetime as dt
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from irp_pipeline.helpers import (
    artefact,
    batch,
    comparison,
    cycle,
    decision,
    ending,
    job,
    lost_runs,
    messages,
    result,
    stage,
    step,
)
from irp_pipeline.helpers.database import execute_command, execute_query, fetch_all, transaction
from irp_pipeline_tests.benchmarks.many_cycles import Amount, cycle_name, make_cycles, make_jobs
from irp_pipeline_tests.benchmarks.plans import explained_statements
from irp_pipeline_tests.support.message_servers import web_server

AMOUNT = Amount(cycles=1500, stages=4, steps=2, runs=5)


@dataclass(frozen=True)
class Place:
    """One cycle among the many, and what is in it."""

    cycle: dict[str, Any]
    stage_id: int
    step_id: int
    run_id: int
    batch_id: int
    job_id: int


@pytest.fixture(scope="module")
def many_cycles(test_schema) -> None:
    make_cycles(AMOUNT)
    make_jobs(jobs=10, figures=20)
    execute_command(
        """
        INSERT INTO irp_message (message_key, service, event, title, body, status, attempts, sent_ts)
        SELECT 'run/' || n || '/failed', 'json 1', 'failed', 'Failed', 'It failed', 'SENT', 1, now()
          FROM generate_series(1, 10000) n
        """
    )
    execute_command("VACUUM (ANALYZE) irp_message")


@pytest.fixture
def place(many_cycles) -> Place:
    found = cycle.get_cycle_by_name(cycle_name(AMOUNT.cycles // 2))
    assert found is not None
    stage_id = stage.get_or_create_stage(found["id"], 2, "Stage 2")
    step_id = step.get_or_create_step(stage_id, 2, "Step 2")
    run_id, _ = step.create_step_run(step_id, "analyst")
    current = batch.current_batch(cycle.require_open_cycle(cycle_name(AMOUNT.cycles)).id)
    assert current is not None
    job_id = batch.get_batch_jobs(current["id"])[0]["id"]
    return Place(found, stage_id, step_id, run_id, current["id"], job_id)


def work_twice_and_fail_once(place: Place) -> None:
    for rerun in (True, False):
        with step.track_step(place.step_id, fingerprint="same", rerun=rerun) as run:
            assert run.skipped is not rerun
    with pytest.raises(ZeroDivisionError), step.track_step(place.step_id, fingerprint="other") as run:
        run.output["share"] = 1 / 0


def send_messages(place: Place) -> None:
    with web_server() as server, pytest.MonkeyPatch.context() as environment:
        environment.setenv("IRP_MESSAGES", server.url)
        services = messages.find_services()
        assert services is not None
        for title in ("taken", "refused"):
            message = messages.Message(key=title, event=messages.Event.FAILED, title=title, body="It failed")
            messages.record_message(message, ["json 1"])
        server.on_post = lambda: setattr(server, "status", 200 if len(server.posted) == 1 else 500)
        outcome = messages.Outcome()
        messages.send_due(services.usable, time.monotonic() + 60, outcome)
        assert (outcome.sent, len(outcome.problems)) == (1, 1)


CALLS: dict[str, Callable[[Place], object]] = {
    "get_active_cycle": lambda place: cycle.get_active_cycle(),
    "get_cycle_by_name": lambda place: cycle.get_cycle_by_name(place.cycle["cycle_name"]),
    "require_open_cycle": lambda place: cycle.require_open_cycle(cycle_name(AMOUNT.cycles)),
    "refuse_while_at_work": lambda place: cycle.refuse_while_at_work(
        cycle.require_open_cycle(cycle_name(AMOUNT.cycles))
    ),
    "create_cycle": lambda place: cycle.create_cycle("one-more"),
    "other_spelling": lambda place: cycle.other_spelling(place.cycle["cycle_name"].upper()),
    "reopen_cycle": lambda place: cycle.reopen_cycle(place.cycle["id"]),
    "has_live_step": lambda place: ending.has_live_step("no such run"),
    "workers_of": lambda place: ending.workers_of("no such run"),
    "archive_cycle": lambda place: cycle.archive_cycle(place.cycle["id"]),
    "get_cycle_progress": lambda place: cycle.get_cycle_progress(place.cycle["cycle_name"]),
    "get_step_history": lambda place: cycle.get_step_history(place.cycle["cycle_name"]),
    "get_step_history of one step": lambda place: cycle.get_step_history(place.cycle["cycle_name"], 1, 1),
    "get_or_create_stage, existing": lambda place: stage.get_or_create_stage(place.cycle["id"], 2, "Stage 2"),
    "get_or_create_stage, new": lambda place: stage.get_or_create_stage(place.cycle["id"], 9, "Stage 9"),
    "get_stage_by_id": lambda place: stage.get_stage_by_id(place.stage_id),
    "list_stages_for_cycle": lambda place: stage.list_stages_for_cycle(place.cycle["id"]),
    "get_or_create_step, existing": lambda place: step.get_or_create_step(place.stage_id, 2, "Step 2"),
    "get_or_create_step, new": lambda place: step.get_or_create_step(place.stage_id, 9, "Step 9"),
    "get_step_info": lambda place: step.get_step_info(place.step_id),
    "outputs_of_steps": lambda place: decision.outputs_of_steps(place.cycle["id"]),
    "list_artefacts": lambda place: artefact.list_artefacts(place.cycle["id"], "portfolios"),
    "find_step": lambda place: step.find_step(place.cycle["id"], "extract.extract_exposure"),
    "decide": lambda place: decision.decide(place.step_id, None),
    "get_last_step_run": lambda place: step.get_last_step_run(place.step_id),
    "create_step_run": lambda place: step.create_step_run(place.step_id, "analyst"),
    "update_step_run": lambda place: step.update_step_run(place.run_id, "COMPLETED", output_data={"locations": 1}),
    "track_step": work_twice_and_fail_once,
    "close_lost_runs": lambda place: lost_runs.close_lost_runs(),
    "latest_run_of_dagster_run": lambda place: lost_runs.latest_run_of_dagster_run("no such run"),
    "current_batch": lambda place: batch.current_batch(place.cycle["id"]),
    "list_batches": lambda place: batch.list_batches(place.cycle["id"]),
    "batches_under_way": lambda place: batch.batches_under_way(),
    "get_batch_jobs": lambda place: batch.get_batch_jobs(place.batch_id),
    "track_batch": lambda place: batch.track_batch(place.batch_id),
    "recon_batch": lambda place: batch.recon_batch(place.batch_id),
    "read_job": lambda place: job.read_job(place.job_id),
    "list_jobs": lambda place: job.list_jobs(place.cycle["id"]),
    "job_history": lambda place: job.job_history(place.job_id),
    "resubmit_job": lambda place: job.resubmit_job(place.job_id),
    "get_results": lambda place: result.get_results(place.batch_id),
    "get_results of segments": lambda place: result.get_results(place.batch_id, by=["CountryCode"]),
    "segment_fields": lambda place: result.segment_fields(place.batch_id),
    "analyses_by_means": lambda place: result.analyses_by_means(place.batch_id),
    "stuck_jobs": lambda place: messages.stuck_jobs(),
    "waiting_batches": lambda place: messages.waiting_batches(),
    "batches_ended_badly": lambda place: messages.batches_ended_badly(dt.datetime.now(dt.UTC)),
    "recorded_keys": lambda place: messages.recorded_keys(["run/1/failed", "run/0/failed"]),
    "send_due": send_messages,
    "compare_cycles": lambda place: comparison.compare_cycles(place.cycle["cycle_name"]),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
def test_no_table_is_read_from_end_to_end(place, call):
    with explained_statements() as explained:
        call(place)
    assert explained, "no statement was seen"
    assert [sent for sent in explained if sent.sequential_scans()] == []


def test_a_statement_that_no_index_helps_is_noticed(many_cycles):
    with explained_statements() as explained:
        execute_query("SELECT id FROM irp_step_run WHERE started_by = %s", ("nobody",))
    assert [sent.sequential_scans() for sent in explained] == [["irp_step_run"]]


def test_deleting_a_cycle_finds_what_goes_with_it_by_indexes(place):
    """EXPLAIN does not show what foreign keys do, so the server's own counts of its scans tell."""
    with transaction():
        before = _sequential_scans()
        assert cycle.delete_cycle(place.cycle["id"])
        assert _sequential_scans() == before
    assert step.get_last_step_run(place.step_id) is None


def _sequential_scans() -> dict[str, int]:
    """Return how often this connection has read which table from end to end; the server may forget earlier ones."""
    tables = fetch_all(
        "SELECT relname, seq_scan FROM pg_stat_xact_user_tables WHERE schemaname = current_schema() ORDER BY relname"
    )
    return {table["relname"]: table["seq_scan"] for table in tables}
