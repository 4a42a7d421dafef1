"""Chains of batches: one begins when the one before is complete, whoever dies when, and nothing runs twice."""

import hashlib
import itertools
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from irp_pipeline.engines import JobPhase
from irp_pipeline.helpers.batch import (
    BatchError,
    create_batch,
    ensure_batch,
    find_batch,
    recon_batch,
    renew_batch,
    submit_batch,
    track_batch,
)
from irp_pipeline.helpers.chain import ChainEnd, batches_to_begin, follow_chain, has_failed, is_followed
from irp_pipeline.helpers.constants import BatchStatus, BatchType
from irp_pipeline.helpers.database import execute_command, fetch_all, fetch_one
from irp_pipeline.helpers.job import list_jobs, skip_job
from irp_pipeline.helpers.renewal import outdated_jobs
from irp_pipeline.helpers.wanted import BATCH_TYPES, BatchTypeDeclaration, chain_types, wanted_types
from irp_pipeline_tests.support.dying import dies
from irp_pipeline_tests.support.recording_engine import (
    ENGINE,
    RESULT,
    analyses,
    engine_of,
    jobs_of,
    make_batch,
    recording_engine,
)

pytestmark = [
    pytest.mark.usefixtures("test_schema"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning"),
]
CYCLE = "Q1"
COMPLETED: list[int] = []


def one_more(configuration: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for analysis in configuration["analyses"]:
        yield analysis | {"name": f"{analysis['name']}_more", "results_of": [analysis["name"]]}


def one_in_all(configuration: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    yield {"name": "all", "engine": ENGINE, "results_of": [f"{a['name']}_more" for a in configuration["analyses"]]}


def count_completions(batch_id: int) -> dict[str, Any]:
    COMPLETED.append(batch_id)
    return {"times": len(COMPLETED)}


@pytest.fixture(autouse=True)
def _place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(BATCH_TYPES, "_declared", dict(BATCH_TYPES.declared()))
    BATCH_TYPES.register(BatchTypeDeclaration("all", "", one_in_all, needs_portfolio=False, after="more"))
    BATCH_TYPES.register(
        BatchTypeDeclaration("more", "", one_more, after=BatchType.ANALYSIS, when_complete=count_completions)
    )
    COMPLETED.clear()
    with recording_engine(tmp_path):
        yield
    execute_command("DELETE FROM irp_cycle")


def make_chain(cycle: str = CYCLE, number: int = 2) -> list[int]:
    """Make the batches of a cycle as Setup does; return their ids."""
    first = make_batch(analyses(number), cycle)
    made = find_batch(first)
    assert made is not None
    others = [ensure_batch(name, made.configuration_id, made.step_id) for name in ("more", "all")]
    return [first, *others]


def cycle_id(cycle: str = CYCLE) -> int:
    row = fetch_one("SELECT id FROM irp_cycle WHERE cycle_name = %s", (cycle,))
    assert row is not None
    return int(row["id"])


def submit(cycle: str = CYCLE) -> None:
    """What the stage Submit does."""
    for batch in batches_to_begin(cycle_id(cycle)):
        renew_batch(batch.id)
    for batch in batches_to_begin(cycle_id(cycle)):
        submit_batch(batch.id)


def let_finish(cycle: str = CYCLE, loss: float = 1.0) -> None:
    """Let the jobs that the engine has finish."""
    engine = engine_of(cycle)
    for key, phase in engine.phases().items():
        if phase == JobPhase.QUEUED:
            figures = [{**RESULT["figures"][0], "loss": loss}]
            engine.let(key, JobPhase.FINISHED, result={**RESULT, "figures": figures})


def monitor(cycle: str = CYCLE, loss: float = 1.0, **options: Any) -> ChainEnd:
    """What the stage Monitor does, while the engine finishes all jobs that it gets."""
    end = ChainEnd()
    let_finish(cycle, loss)
    for _ in follow_chain(cycle_id(cycle), end, **options):
        let_finish(cycle, loss)
    return end


def statuses(batch_ids: list[int]) -> list[str]:
    return [str(batch.status) for batch in map(find_batch, batch_ids) if batch is not None]


def names_at_engine(cycle: str = CYCLE) -> list[str]:
    return sorted(request["analysis"]["name"] for request in engine_of(cycle).requests().values())


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("irp_pipeline.helpers.batch_progress.time.sleep", lambda seconds: None)


def test_each_batch_begins_when_the_one_before_is_complete() -> None:
    batch_ids = make_chain()
    assert [batch.batch_type for batch in batches_to_begin(cycle_id())] == ["analysis"]
    submit()
    assert names_at_engine() == ["a0", "a1"]
    end = monitor()
    assert statuses(batch_ids) == ["COMPLETED"] * 3
    assert names_at_engine() == ["a0", "a0_more", "a1", "a1_more", "all"]
    assert [batch.id for batch in end.complete] == batch_ids
    assert (end.failed, end.problems, end.waiting, end.running) == ([], [], [], [])
    assert end.completions == {"more": {"times": 1}}


def test_a_job_is_given_the_results_that_it_names_and_their_files() -> None:
    first, more, _ = make_chain(number=1)
    submit()
    engine, (job,) = engine_of(CYCLE), jobs_of(first)
    losses = engine.folder(job["job_key"]) / "results" / "plt.parquet"
    losses.parent.mkdir(parents=True)
    losses.write_bytes(b"losses")
    digest = hashlib.sha256(b"losses").hexdigest()
    files = {"plt": {"path": "results/plt.parquet", "sha256": digest, "bytes": 6}}
    of_segment = {**RESULT["figures"][0], "segment_by": ["CountryCode"], "segment": ["GB"]}
    engine.let(
        job["job_key"], JobPhase.FINISHED, result=RESULT | {"files": files, "figures": [*RESULT["figures"], of_segment]}
    )
    track_batch(first)
    recon_batch(first)
    submit_batch(more)
    (request,) = (of for of in engine.requests().values() if of["analysis"]["name"] == "a0_more")
    given = request["results"]["a0"]
    assert (given["currency"], given["figures"]) == ("EUR", RESULT["figures"])
    as_input = given["files"]["plt"]["input"]
    assert as_input == f"{digest}.parquet"
    assert request["inputs"][as_input] == {"key": f"jobs/{job['job_key']}/results/plt.parquet", "sha256": digest}
    assert {"location.csv", "account.csv"} < set(request["inputs"])
    assert "results_of" not in request["analysis"]


def test_other_results_before_make_the_jobs_run_again_and_equal_ones_do_not() -> None:
    batch_ids = make_chain()
    submit()
    monitor()
    assert [outdated_jobs(batch_id) for batch_id in batch_ids] == [{}, {}, {}]
    submit()
    end = monitor()
    assert len(names_at_engine()) == 5
    assert end.completions == {"more": {"times": 1}}
    renew_batch(batch_ids[0], everything=True)
    submit()
    monitor()
    assert len(names_at_engine()) == 7, "the same losses: only the analyses were computed again"
    renew_batch(batch_ids[0], everything=True)
    submit()
    end = monitor(loss=2.0)
    assert len(names_at_engine()) == 12
    assert statuses(batch_ids) == ["COMPLETED"] * 3
    assert end.completions == {"more": {"times": 2}}


def test_a_rerun_computes_all_of_the_chain_again() -> None:
    batch_ids = make_chain()
    submit()
    monitor()
    renew_batch(batch_ids[0], everything=True)
    submit()
    monitor(everything=True)
    assert len(names_at_engine()) == 10


def test_after_a_failed_batch_nothing_begins_and_it_is_said_what_waits() -> None:
    batch_ids = make_chain()
    submit()
    key = jobs_of(batch_ids[0])[1]["job_key"]
    engine_of(CYCLE).let(key, JobPhase.FAILED, "the footprint has no such event")
    end = monitor()
    assert "a1 (job" in end.failed[0]
    assert "the footprint has no such event" in end.failed[0]
    assert [batch.id for batch in end.waiting] == batch_ids[1:]
    assert statuses(batch_ids) == ["FAILED", "INITIATED", "INITIATED"]
    assert names_at_engine() == ["a0", "a1"]
    assert has_failed(cycle_id())
    assert COMPLETED == []
    submit()
    monitor()
    assert statuses(batch_ids) == ["COMPLETED"] * 3
    assert names_at_engine() == ["a0", "a0_more", "a1", "a1", "a1_more", "all"]
    assert not has_failed(cycle_id())


def test_a_later_batch_that_failed_is_resubmitted_alone_and_once_in_a_launch() -> None:
    batch_ids = make_chain()
    submit()
    monitor()
    execute_command("UPDATE irp_job SET status = 'FAILED' WHERE batch_id = %s", (batch_ids[2],))
    recon_batch(batch_ids[2])
    submit()
    (key,) = (of["job_key"] for of in jobs_of(batch_ids[2]) if not of["skipped"])
    engine_of(CYCLE).let(key, JobPhase.FAILED, "again")
    end = monitor()
    assert "again" in end.failed[0]
    assert names_at_engine().count("all") == 2
    assert names_at_engine().count("a0") == 1


def test_a_batch_cannot_be_handed_over_before_its_time() -> None:
    first, more, last = make_chain()
    submit()
    for batch_id, before in ((more, "analysis"), (last, "more")):
        with pytest.raises(BatchError, match=f"begins when the batch of the type {before} is complete"):
            submit_batch(batch_id)
    assert statuses([first, more, last]) == ["ACTIVE", "INITIATED", "INITIATED"]


def test_a_job_whose_result_is_skipped_before_cannot_run_and_says_so() -> None:
    first, more, _ = make_chain()
    skip_job(jobs_of(first)[1]["id"], "not needed")
    submit()
    end = monitor()
    assert "needs the result of 'a1' in the batch of the type analysis" in end.failed[0]
    skip_job(next(job["id"] for job in jobs_of(more) if job["status"] == "ERROR"), "not needed either")
    submit()
    monitor()
    assert statuses([first, more]) == ["COMPLETED", "COMPLETED"]


def test_a_type_without_jobs_has_no_batch_and_those_after_it_do_not_wait_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    BATCH_TYPES.register(BatchTypeDeclaration("more", "", lambda configuration: [], after=BatchType.ANALYSIS))
    alone = [{"name": "alone", "engine": ENGINE}]
    BATCH_TYPES.register(
        BatchTypeDeclaration("all", "", lambda configuration: alone, needs_portfolio=False, after="more")
    )
    first = make_batch(analyses(1))
    made = find_batch(first)
    assert made is not None
    assert wanted_types({"analyses": analyses(1)}) == ["all"]
    last = ensure_batch("all", made.configuration_id, made.step_id)
    submit()
    monitor()
    assert statuses([first, last]) == ["COMPLETED", "COMPLETED"]


@pytest.mark.parametrize("failing", [ValueError("no table"), KeyError("x")])
def test_what_follows_fails_in_words_and_is_done_at_the_next_launch(failing: Exception) -> None:
    def fail(batch_id: int) -> None:
        raise failing

    BATCH_TYPES.register(BatchTypeDeclaration("more", "", one_more, after=BatchType.ANALYSIS, when_complete=fail))
    batch_ids = make_chain()
    submit()
    end = monitor()
    assert f"what follows it failed: {type(failing).__name__}" in end.problems[0]
    assert statuses(batch_ids)[:2] == ["COMPLETED"] * 2
    found = find_batch(batch_ids[1])
    assert found is not None
    assert not is_followed(found)
    BATCH_TYPES.register(
        BatchTypeDeclaration("more", "", one_more, after=BatchType.ANALYSIS, when_complete=count_completions)
    )
    submit()
    assert monitor().completions == {"more": {"times": 1}}
    assert is_followed(found)
    assert len(names_at_engine()) == 5


def test_a_kill_at_any_point_loses_nothing_and_does_nothing_twice() -> None:
    deaths = 0
    for point in itertools.count(1, 4):
        cycle = f"Q{point}"
        batch_ids = make_chain(cycle, number=1)
        submit(cycle)
        died = dies(partial(monitor, cycle), point)
        submit(cycle)
        monitor(cycle)
        assert statuses(batch_ids) == ["COMPLETED"] * 3
        assert names_at_engine(cycle) == ["a0", "a0_more", "all"], f"killed at point {point}"
        recorded = fetch_all(
            "SELECT completion -> 'returned' AS returned FROM irp_batch WHERE id = %s", (batch_ids[1],)
        )
        assert recorded[0]["returned"] is not None
        if not died:
            break
        deaths += 1
    assert deaths > 10


def test_the_watcher_between_completion_and_handover_hands_over_once() -> None:
    batch_ids = make_chain()
    submit()
    let_finish()
    track_batch(batch_ids[0])
    assert recon_batch(batch_ids[0]) is BatchStatus.COMPLETED  # as the sensor does, while nobody hands over the next
    end = monitor()  # of a launch that begins with Monitor
    assert end.failed == []
    assert statuses(batch_ids) == ["COMPLETED"] * 3
    assert len(list_jobs(cycle_id())) == 5


def test_jobs_that_are_resubmitted_by_monitor_keep_the_next_batch_waiting() -> None:
    batch_ids = make_chain()
    submit()
    monitor()
    execute_command(  # the figures of a job of the first batch change, and Monitor is launched alone
        """
        UPDATE irp_job SET result_data = jsonb_set(result_data, '{figures,0,loss}', '3.0')
         WHERE batch_id = %s AND status = 'FINISHED'
        """,
        (batch_ids[0],),
    )
    end = monitor(loss=4.0)
    assert (end.failed, end.problems, end.waiting) == ([], [], [])
    assert statuses(batch_ids) == ["COMPLETED"] * 3
    assert names_at_engine().count("a0_more") == 2
    assert names_at_engine().count("all") == 2


def declared(**after: str | None) -> dict[str, BatchTypeDeclaration]:
    own = {name: BatchTypeDeclaration(name, "", one_more, after=before) for name, before in after.items()}
    return {"analysis": BatchTypeDeclaration("analysis", "", one_more), **own}


@pytest.mark.parametrize(
    ("after", "problem"),
    [
        ({"a": "nowhere"}, {"a": "it comes after 'nowhere', which is no batch type that can be used"}),
        ({"a": "beside", "beside": None}, {"a": "it comes after 'beside', whose batches the pipeline does not run"}),
        ({"a": "b", "b": "a"}, {"a": "it comes after 'b', which comes after it in turn",
                                "b": "it comes after 'a', which comes after it in turn"}),
        ({"a": "analysis", "b": "a"}, {}),
    ],
)  # fmt: skip
def test_a_type_without_a_place_in_a_chain_is_told(after: Mapping[str, str | None], problem: dict[str, str]) -> None:
    assert BATCH_TYPES._check_all(declared(**after)) == problem


def test_the_types_are_in_the_order_of_the_chain() -> None:
    assert [declaration.name for declaration in chain_types()] == ["analysis", "more", "all"]


@pytest.mark.parametrize(
    ("jobs", "said"),
    [
        (lambda configuration: 1 / 0, "fails with this workbook: ZeroDivisionError"),
        (lambda configuration: [{"name": "a"}], "number 1 has no 'engine'"),
        (lambda configuration: [{"name": "a", "engine": "x"}] * 2, "two have the name 'a'"),
        (lambda configuration: ["a"], "number 1 is no mapping"),
        (lambda configuration: [{"name": "a", "engine": "x", "results_of": "a0"}], "is no list of names"),
    ],
)
def test_a_transformer_that_makes_no_jobs_is_told(jobs: Callable[..., Any], said: str) -> None:
    BATCH_TYPES.register(BatchTypeDeclaration("more", "", jobs, after=BatchType.ANALYSIS))
    made = find_batch(make_batch(analyses(1)))
    assert made is not None
    with pytest.raises(BatchError, match=said):
        create_batch("more", made.configuration_id, made.step_id)
