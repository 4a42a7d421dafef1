"""Batches: how they stand follows from their jobs, and no job runs twice, whoever dies when."""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import combinations_with_replacement, count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from irp_pipeline.engines import JobPhase
from irp_pipeline.exposure.portfolio import file_hashes
from irp_pipeline.helpers import job_request
from irp_pipeline.helpers.batch import (
    cancel_batch,
    current_batch,
    list_batches,
    read_batch,
    recon_batch,
    submit_batch,
    track_batch,
)
from irp_pipeline.helpers.batch_of_jobs import BatchError
from irp_pipeline.helpers.constants import BatchStatus, JobStatus
from irp_pipeline.helpers.cycle import CycleError, get_cycle_by_name
from irp_pipeline.helpers.database import execute_command, execute_scalar, fetch_all, transaction
from irp_pipeline.helpers.job import cancel_job, resubmit_job, skip_job
from irp_pipeline.helpers.job_request import JobError
from irp_pipeline.helpers.renewal import outdated_jobs, renew_batch
from irp_pipeline.settings import models_folder
from irp_pipeline_tests.benchmarks.plans import sent_statements
from irp_pipeline_tests.support.dying import dies
from irp_pipeline_tests.support.recording_engine import (
    RecordingEngine,
    analyses,
    archive_by_hand,
    engine_of,
    jobs_of,
    log_of,
    make_batch,
    recording_engine,
    write_portfolio,
)

pytestmark = [
    pytest.mark.usefixtures("test_schema"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning"),
]

ENDS = {"FINISHED", "FAILED", "CANCELLED", "ERROR"}


@pytest.fixture(scope="module", autouse=True)
def _engine(test_schema: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with recording_engine(tmp_path_factory.mktemp("home")):
        yield


@pytest.fixture(autouse=True)
def _files(tmp_path, monkeypatch) -> Iterator[None]:
    monkeypatch.setenv("IRP_HOME", str(tmp_path))
    yield
    execute_command("DELETE FROM irp_cycle")


def let_all(batch_id: int, phase: JobPhase) -> None:
    """Let the engine go on with all jobs of a batch."""
    engine = engine_of("Q1")
    taken = engine.phases()
    for row in jobs_of(batch_id):
        if row["job_key"] in taken:
            engine.let(row["job_key"], phase)


def ids_of(batch_id: int) -> list[int]:
    return [row["id"] for row in jobs_of(batch_id)]


# --- how a batch stands -------------------------------------------------------------------------------------------

Kind = tuple[str, bool]
KINDS: list[Kind] = [(status, skipped) for status in JobStatus for skipped in (False, True)]


def expected_status(jobs: list[str], all_configurations_finished: bool) -> str:
    """Decide, with the statuses of the unskipped jobs, as the design says."""
    for status in jobs:
        if status not in ENDS:
            return "ACTIVE"
    if jobs and set(jobs) == {"CANCELLED"}:
        return "CANCELLED"
    for status in ("ERROR", "FAILED"):
        if status in jobs:
            return status
    return "COMPLETED" if all_configurations_finished else "FAILED"


class TestReconciling:
    def test_decides_as_designed_for_every_combination_of_up_to_three_jobs(self):
        """A skipped job has a skipped configuration, as skip_job leaves it."""
        combinations = [jobs for number in range(4) for jobs in combinations_with_replacement(KINDS, number)]
        batch_ids = self.make_batches(combinations)
        with transaction():  # one commit for all of them
            for batch_id, jobs in zip(batch_ids, combinations, strict=True):
                counted = [status for status, skipped in jobs if not skipped]
                expected = expected_status(counted, all(status == "FINISHED" for status in counted))
                assert recon_batch(batch_id) == expected, jobs
        written = fetch_all(
            "SELECT b.id, b.status, b.completed_ts, l.status AS logged, l.job_counts FROM irp_batch b "
            "JOIN irp_batch_recon_log l ON l.batch_id = b.id ORDER BY b.id"
        )
        by_id = dict(zip(batch_ids, combinations, strict=True))
        assert len(written) >= len(combinations)
        for row in written:
            if row["id"] in by_id:
                counts: Counter[str] = Counter("skipped" if skipped else status for status, skipped in by_id[row["id"]])
                assert row["logged"] == row["status"]
                assert Counter(row["job_counts"]) == counts
                assert (row["completed_ts"] is None) is (row["status"] == "ACTIVE")

    def make_batches(self, combinations: list[tuple[Kind, ...]]) -> list[int]:
        """Make a batch for each combination, with a job configuration for each job."""
        make_batch([])
        rows = [
            {"n": n, "status": status, "skipped": skipped}
            for n, jobs in enumerate(combinations)
            for status, skipped in jobs
        ]
        ids = fetch_all(
            """
            INSERT INTO irp_batch (configuration_id, step_id, batch_type)
            SELECT configuration_id, step_id, 'case ' || n FROM irp_batch, generate_series(0, %s - 1) AS n ORDER BY n
            RETURNING id
            """,
            (len(combinations),),
        )
        execute_command(
            """
            WITH wanted AS (
                SELECT b.id AS batch_id, r.status, r.skipped, nextval('irp_job_configuration_id_seq') AS configuration
                  FROM jsonb_to_recordset(%s -> 'rows') AS r (n integer, status text, skipped boolean)
                  JOIN irp_batch b ON b.batch_type = 'case ' || r.n
            ), configured AS (
                INSERT INTO irp_job_configuration (id, batch_id, job_configuration_data, skipped)
                SELECT configuration, batch_id, '{}', skipped FROM wanted
            )
            INSERT INTO irp_job (batch_id, job_configuration_id, status, skipped)
            SELECT batch_id, configuration, status, skipped FROM wanted
            """,
            ({"rows": rows},),
        )
        return [row["id"] for row in ids]

    def test_a_configuration_whose_only_job_is_skipped_has_no_result(self):
        batch_id = make_batch(analyses(2))
        submit_batch(batch_id)
        let_all(batch_id, JobPhase.FINISHED)
        track_batch(batch_id)
        execute_command("UPDATE irp_job SET skipped = true WHERE id = %s", (ids_of(batch_id)[0],))
        assert recon_batch(batch_id) is BatchStatus.FAILED

    def test_any_finished_job_of_a_configuration_is_its_result(self):
        batch_id = make_batch(analyses(1))
        submit_batch(batch_id)
        let_all(batch_id, JobPhase.FINISHED)
        track_batch(batch_id)
        execute_command(
            "INSERT INTO irp_job (batch_id, job_configuration_id, status) "
            "SELECT batch_id, job_configuration_id, 'CANCELLED' FROM irp_job"
        )
        assert recon_batch(batch_id) is BatchStatus.COMPLETED

    def test_again_keeps_when_the_batch_ended_and_writes_each_time(self):
        batch_id = make_batch([])
        assert [recon_batch(batch_id) for _ in range(2)] == [BatchStatus.COMPLETED] * 2
        ended = (read_batch(batch_id) or {})["completed_ts"]
        recon_batch(batch_id)
        assert (read_batch(batch_id) or {})["completed_ts"] == ended
        assert execute_scalar("SELECT count(*) FROM irp_batch_recon_log") == 3


# --- a batch as a whole -------------------------------------------------------------------------------------------


class TestBatch:
    def test_is_handed_over_tracked_and_completed(self):
        batch_id = make_batch(analyses(3))
        assert submit_batch(batch_id) == 3
        assert submit_batch(batch_id) == 0
        assert (read_batch(batch_id) or {})["status"] == "ACTIVE"
        RecordingEngine.calls = 0
        assert track_batch(batch_id) == {JobStatus.QUEUED: 3}
        assert RecordingEngine.calls == 1  # for all of them
        let_all(batch_id, JobPhase.FINISHED)
        assert track_batch(batch_id) == {JobStatus.FINISHED: 3}
        assert recon_batch(batch_id) is BatchStatus.COMPLETED

    def test_that_is_empty_is_completed(self):
        batch_id = make_batch([])
        assert submit_batch(batch_id) == 0
        assert track_batch(batch_id) == {}
        assert recon_batch(batch_id) is BatchStatus.COMPLETED

    def test_a_job_that_cannot_be_handed_over_does_not_stop_the_others(self):
        wanted = analyses(4)
        wanted[0]["refused"] = "no such model"
        wanted[1]["engine"] = "abacus"
        wanted[2]["portfolio"] = "other"
        batch_id = make_batch(wanted)
        assert submit_batch(batch_id) == 1
        rows = jobs_of(batch_id)
        assert [row["status"] for row in rows] == ["ERROR", "ERROR", "ERROR", "SUBMITTED"]
        for row, message in zip(rows, ("no such model", "no risk engine 'abacus'", "portfolio 'other'"), strict=False):
            assert message in row["error_message"]
        let_all(batch_id, JobPhase.FINISHED)
        track_batch(batch_id)
        assert recon_batch(batch_id) is BatchStatus.ERROR

    def test_only_the_jobs_asked_for_are_handed_over(self):
        batch_id = make_batch(analyses(3))
        first, *_, last = ids_of(batch_id)
        assert submit_batch(batch_id, [last]) == 1
        assert log_of(batch_id) == [(last, "SUBMITTED")]
        with pytest.raises(BatchError, match=f"has no jobs with the ids {last + 1}"):
            submit_batch(batch_id, [first, last + 1])
        assert submit_batch(batch_id, []) == 0

    def test_is_cancelled_with_all_its_jobs(self):
        batch_id = make_batch(analyses(3))
        first, second, third = ids_of(batch_id)
        submit_batch(batch_id, [first, second])
        engine_of("Q1").let(jobs_of(batch_id)[0]["job_key"], JobPhase.FINISHED)
        track_batch(batch_id)
        assert cancel_batch(batch_id) is BatchStatus.FAILED  # finished and cancelled mixed
        assert [row["status"] for row in jobs_of(batch_id)] == ["FINISHED", "CANCELLED", "CANCELLED"]
        skip_job(first)
        assert recon_batch(batch_id) is BatchStatus.CANCELLED
        assert sorted(engine_of("Q1").phases().values()) == ["CANCELLED", "FINISHED"]
        assert third in ids_of(batch_id)

    def test_is_found_by_its_configuration_and_its_cycle(self):
        batch_id = make_batch(analyses(1))
        batch, cycle = read_batch(batch_id), get_cycle_by_name("Q1")
        assert batch is not None
        assert cycle is not None
        assert current_batch(cycle["id"]) == batch
        assert list_batches(cycle["id"]) == [batch]
        assert current_batch(0) is None

    @pytest.mark.parametrize("do", [submit_batch, track_batch, recon_batch, cancel_batch, renew_batch, outdated_jobs])
    def test_that_does_not_exist_is_named(self, do):
        with pytest.raises(BatchError, match="no batch with the id 0"):
            do(0)
        assert read_batch(0) is None

    @pytest.mark.parametrize("do", [submit_batch, track_batch, recon_batch, cancel_batch, renew_batch])
    def test_of_an_archived_cycle_is_only_read(self, do):
        batch_id = make_batch(analyses(1))
        cycle = get_cycle_by_name("Q1")
        assert cycle is not None
        archive_by_hand(cycle["id"])
        before = jobs_of(batch_id)
        with pytest.raises(CycleError, match="archived and takes no more work"):
            do(batch_id)
        assert jobs_of(batch_id) == before


class TestRenewing:
    def test_resubmits_what_has_no_result(self):
        batch_id = make_batch([*analyses(3), {**analyses(1)[0], "refused": "no such model"}])
        first, second, third, refused = ids_of(batch_id)
        submit_batch(batch_id)
        engine = engine_of("Q1")
        for row, phase in zip(
            jobs_of(batch_id), (JobPhase.FINISHED, JobPhase.FAILED, JobPhase.CANCELLED), strict=False
        ):
            engine.let(row["job_key"], phase)
        track_batch(batch_id)
        assert recon_batch(batch_id) is BatchStatus.ERROR
        assert [*outdated_jobs(batch_id)] == [second, third, refused]
        new = renew_batch(batch_id)
        assert [row["parent_job_id"] for row in jobs_of(batch_id) if row["id"] in new] == [second, third, refused]
        assert (read_batch(batch_id) or {})["status"] == "ACTIVE"
        assert renew_batch(batch_id) == []
        assert submit_batch(batch_id) == 2
        assert first not in outdated_jobs(batch_id)

    def test_does_again_what_was_done_with_another_exposure(self):
        batch_id = make_batch(analyses(3))
        finished, running, waiting = ids_of(batch_id)
        submit_batch(batch_id, [finished, running])
        engine = engine_of("Q1")
        keys = {row["id"]: row["job_key"] for row in jobs_of(batch_id)}
        engine.let(keys[finished], JobPhase.FINISHED)
        engine.let(keys[running], JobPhase.RUNNING)
        track_batch(batch_id)
        assert renew_batch(batch_id) == []
        write_portfolio("Q1", "LocNumber\n1\n2\n")
        assert [*outdated_jobs(batch_id)] == [finished, running]
        new = renew_batch(batch_id)
        assert len(new) == 2
        assert engine.phases() == {keys[finished]: "FINISHED", keys[running]: "CANCELLED"}
        assert [row["status"] for row in jobs_of(batch_id)][:3] == ["FINISHED", "CANCELLED", "INITIATED"]
        assert submit_batch(batch_id) == 3
        assert waiting not in renew_batch(batch_id)
        hashes = Counter(request["exposure_hash"] for request in engine.requests().values())
        assert sorted(hashes.values()) == [2, 3]

    def test_does_again_what_another_version_of_the_model_was_used_for(self, tmp_path):
        model = models_folder() / "wind"
        model.mkdir(parents=True)
        (model / "oasislmf.json").write_text("{}")
        batch_id = make_batch(analyses(1, model="wind"))
        submit_batch(batch_id)
        assert [*outdated_jobs(batch_id)] == []
        (model / "oasislmf.json").write_text('{"model_version_id": "2"}')
        assert [*outdated_jobs(batch_id)] == ids_of(batch_id)

    def test_leaves_alone_what_only_lies_elsewhere_now(self):
        batch_id = make_batch(analyses(1))
        submit_batch(batch_id)
        execute_command("UPDATE irp_configuration SET data_folder = '/moved'")
        execute_command("""UPDATE irp_job SET request_data = request_data || '{"inputs": {}, "model": "/moved"}'""")
        assert [*outdated_jobs(batch_id)] == []

    def test_numbers_of_any_size_are_no_change(self):
        batch_id = make_batch(analyses(1, options={"large": 1e22, "small": 1e-9, "whole": 1.0, "text": "ä\u2028"}))
        submit_batch(batch_id)
        assert [*outdated_jobs(batch_id)] == []

    def test_changes_nothing_if_the_portfolio_is_gone(self):
        batch_id = make_batch(analyses(1))
        submit_batch(batch_id)
        (write_portfolio("Q1") / "location.csv").unlink()
        with pytest.raises(JobError, match="run the Process stage"):
            renew_batch(batch_id)
        assert [row["status"] for row in jobs_of(batch_id)] == ["SUBMITTED"]


# --- as many statements for many jobs as for few ------------------------------------------------------------------


def statements_for(number: int, monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Return how many statements each part of the life of a batch with so many jobs sends."""
    counts: dict[str, int] = {}
    hashed: list[object] = []

    def noted_hashes(files: Iterable[Path]) -> dict[str, str]:
        hashed.append(files)
        return file_hashes(files)

    monkeypatch.setattr(job_request, "file_hashes", noted_hashes)

    def counted(name: str, work: Callable[[], Any]) -> Any:
        hashed.clear()
        with sent_statements() as sent:
            result = work()
        counts[name] = len([statement for statement in sent if statement != b"SELECT 1"])
        assert len(hashed) <= 1, "a portfolio is hashed once, however many jobs use it"
        return result

    batch_id = counted("create", lambda: make_batch(analyses(number)))
    assert counted("submit", lambda: submit_batch(batch_id)) == number
    assert counted("track", lambda: track_batch(batch_id)) == {JobStatus.QUEUED: number}
    write_portfolio("Q1", "LocNumber\n7\n")
    assert len(counted("renew what is outdated", lambda: renew_batch(batch_id))) == number
    counted("submit again", lambda: submit_batch(batch_id))
    let_all(batch_id, JobPhase.FAILED)
    counted("track the end", lambda: track_batch(batch_id))
    assert counted("reconcile", lambda: recon_batch(batch_id)) is BatchStatus.FAILED
    assert len(counted("renew what failed", lambda: renew_batch(batch_id))) == number
    assert counted("cancel", lambda: cancel_batch(batch_id)) is BatchStatus.CANCELLED
    execute_command("DELETE FROM irp_cycle")
    monkeypatch.setattr(job_request, "file_hashes", file_hashes)
    return counts


def test_a_thousand_jobs_take_as_many_statements_as_ten(monkeypatch):
    few, many = statements_for(10, monkeypatch), statements_for(1000, monkeypatch)
    assert few == many
    assert max(few.values()) <= 20


# --- whoever dies when --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("exposure_changes", [False, True])
def test_after_a_death_at_any_point_each_job_runs_once(exposure_changes):
    deaths = 0
    while True:
        batch_id = make_batch(analyses(2), cycle := f"Q{deaths}")
        died = dies(partial(submit_batch, batch_id), deaths + 1, also=[(os, "link"), (RecordingEngine, "submit")])
        if exposure_changes:
            write_portfolio(cycle, "LocNumber\n1\n2\n")
            renew_batch(batch_id)
        submit_batch(batch_id)
        engine = engine_of(cycle)
        counting = [row for row in jobs_of(batch_id) if not row["skipped"]]
        at_work = [key for key, phase in engine.phases().items() if phase != "CANCELLED"]
        assert [row["status"] for row in counting] == ["SUBMITTED"] * 2
        assert sorted(at_work) == sorted(row["job_key"] for row in counting)
        for row in counting:
            assert engine.requests()[row["job_key"]] == row["request_data"]
        assert [status for _, status in log_of(batch_id)].count("SUBMITTED") == 2 + (
            2 if len(jobs_of(batch_id)) == 4 else 0
        )
        if not exposure_changes:
            assert len(engine.requests()) == 2
        assert [*outdated_jobs(batch_id)] == []
        if not died:
            break
        deaths += 1
    assert deaths > 20


# --- whatever is done, in whatever order --------------------------------------------------------------------------


@dataclass
class Job:
    status: str = "INITIATED"
    skipped: bool = False
    refused: bool = False
    exposure: int = 0
    phase: str = "UNKNOWN"
    log: list[str] = field(default_factory=list)

    def goes_to(self, status: str) -> None:
        if status != self.status:
            self.log.append(status)
        self.status = status

    def at_engine_is_ended(self) -> None:
        if self.phase in {"QUEUED", "RUNNING"}:
            self.phase = "CANCELLED"

    def is_skipped(self) -> None:
        self.at_engine_is_ended()
        self.skipped = True
        if self.status not in ENDS | {"INITIATED"}:
            self.status = "CANCELLED"
        self.log.append(self.status)


which = st.integers(0, 20)
example_numbers = count(1)


class Batch(RuleBasedStateMachine):
    """One batch, its jobs and the engine, and what people and engines do to them."""

    def __init__(self) -> None:
        super().__init__()
        execute_command("DELETE FROM irp_cycle")
        self.jobs: dict[int, Job] = {}
        self.exposure = 0
        self.status = "INITIATED"

    @initialize(number=st.integers(0, 3))
    def begin(self, number: int) -> None:
        self.cycle = f"C{next(example_numbers)}"  # the files of another example are elsewhere
        self.batch_id = make_batch(analyses(number), self.cycle)
        self.jobs = {job_id: Job() for job_id in ids_of(self.batch_id)}

    @property
    def counting(self) -> dict[int, Job]:
        return {job_id: found for job_id, found in self.jobs.items() if not found.skipped}

    def pick(self, number: int) -> tuple[int, Job]:
        return list(self.jobs.items())[number % len(self.jobs)]

    def renewed(self, job_id: int, new_id: int, refused: bool | None = None) -> None:
        old = self.jobs[job_id]
        old.is_skipped()
        self.jobs[new_id] = Job(refused=old.refused if refused is None else refused)
        if self.status != "INITIATED":
            self.status = "ACTIVE"

    @rule()
    def submit(self) -> None:
        waiting = [found for found in self.counting.values() if found.status == "INITIATED"]
        assert submit_batch(self.batch_id) == sum(not found.refused for found in waiting)
        for found in waiting:
            found.goes_to("ERROR" if found.refused else "SUBMITTED")
            if not found.refused:
                found.phase, found.exposure = "QUEUED", self.exposure
        if self.status == "INITIATED":
            self.status = "ACTIVE"

    @precondition(lambda self: self.jobs)
    @rule(number=which, phase=st.sampled_from(["RUNNING", "FINISHED", "FAILED", "UNKNOWN"]))
    def the_engine_goes_on(self, number: int, phase: str) -> None:
        job_id, found = self.pick(number)
        if found.phase in {"QUEUED", "RUNNING"}:
            found.phase = phase
            [key] = [row["job_key"] for row in jobs_of(self.batch_id) if row["id"] == job_id]
            if phase == "UNKNOWN":
                engine_of(self.cycle).lose(key)
            else:
                engine_of(self.cycle).let(key, JobPhase(phase))

    @rule()
    def track(self) -> None:
        for found in self.counting.values():
            if found.status not in ENDS | {"INITIATED"}:
                if found.phase == "UNKNOWN":
                    found.goes_to("SUBMITTED")
                    found.phase = "QUEUED"
                else:
                    found.goes_to(found.phase)
        assert track_batch(self.batch_id) == Counter(found.status for found in self.counting.values())

    @rule()
    def reconcile(self) -> None:
        statuses = [found.status for found in self.counting.values()]
        # Each unskipped configuration has one unskipped job here.
        self.status = expected_status(statuses, all(status == "FINISHED" for status in statuses))
        assert recon_batch(self.batch_id) == self.status

    @precondition(lambda self: self.jobs)
    @rule(number=which, override=st.sampled_from([None, None, "good", "refused"]))
    def resubmit(self, number: int, override: str | None) -> None:
        job_id, found = self.pick(number)
        data = {"refused": "no"} if override == "refused" else {"good": "yes"} if override else None
        if found.skipped or found.status not in ENDS | {"INITIATED"}:
            with pytest.raises(JobError):
                resubmit_job(job_id, data, override)
            return
        new_id = resubmit_job(job_id, data, override)
        self.renewed(job_id, new_id, True if override == "refused" else None)  # what it does not name stays

    @precondition(lambda self: self.jobs)
    @rule(number=which)
    def skip(self, number: int) -> None:
        job_id, found = self.pick(number)
        if found.skipped:
            return
        skip_job(job_id)
        found.is_skipped()

    @precondition(lambda self: self.jobs)
    @rule(number=which)
    def cancel_one(self, number: int) -> None:
        job_id, found = self.pick(number)
        if found.skipped:
            with pytest.raises(JobError):
                cancel_job(job_id)
            return
        self.cancelled(found)
        assert cancel_job(job_id) == found.status

    @rule()
    def cancel(self) -> None:
        for found in self.counting.values():
            self.cancelled(found)
        self.status = cancel_batch(self.batch_id)
        statuses = [found.status for found in self.counting.values()]
        assert self.status == expected_status(statuses, all(status == "FINISHED" for status in statuses))

    def cancelled(self, found: Job) -> None:
        if found.status == "INITIATED":
            found.goes_to("CANCELLED")
        elif found.status not in ENDS:
            found.goes_to("CANCEL_REQUESTED")
            found.at_engine_is_ended()
            found.goes_to("CANCELLED" if found.phase == "UNKNOWN" else found.phase)

    @rule()
    def change_the_exposure(self) -> None:
        self.exposure += 1
        write_portfolio(self.cycle, f"LocNumber\nof change {self.exposure}\n")

    @rule()
    def renew(self) -> None:
        outdated = [
            job_id
            for job_id, found in self.counting.items()
            if found.status in {"FAILED", "ERROR", "CANCELLED"}
            or (found.status != "INITIATED" and found.exposure != self.exposure)
        ]
        assert [*outdated_jobs(self.batch_id)] == outdated
        for job_id, new_id in zip(outdated, renew_batch(self.batch_id), strict=True):
            self.renewed(job_id, new_id)

    @invariant()
    def the_records_are_those_of_the_model(self) -> None:
        if not hasattr(self, "batch_id"):
            return
        rows = jobs_of(self.batch_id)
        assert {row["id"]: (row["status"], row["skipped"]) for row in rows} == {
            job_id: (found.status, found.skipped) for job_id, found in self.jobs.items()
        }
        for row in rows:
            if row["status"] != "INITIATED":
                assert (row["completed_ts"] is None) is (row["status"] not in ENDS)
        assert (read_batch(self.batch_id) or {})["status"] == self.status

    @invariant()
    def the_log_has_each_change_once(self) -> None:
        if hasattr(self, "batch_id"):
            log = log_of(self.batch_id)
            assert {job_id: [status for found, status in log if found == job_id] for job_id in self.jobs} == {
                job_id: found.log for job_id, found in self.jobs.items()
            }

    @invariant()
    def the_engine_does_what_counts_and_nothing_else(self) -> None:
        if hasattr(self, "batch_id"):
            keys = {row["job_key"]: row["id"] for row in jobs_of(self.batch_id)}
            assert {keys[key]: phase for key, phase in engine_of(self.cycle).phases().items()} == {
                job_id: found.phase for job_id, found in self.jobs.items() if found.phase != "UNKNOWN"
            }


TestWhateverIsDone = pytest.mark.usefixtures("test_schema")(Batch.TestCase)
TestWhateverIsDone.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
