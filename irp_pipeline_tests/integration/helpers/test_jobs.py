"""Single jobs: what an engine is given, how a job goes on, and how another takes its place."""

import hashlib
import threading
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from irp_pipeline.engines import ENGINES, EngineError, JobPhase, JobState
from irp_pipeline.helpers.batch import create_batch, list_batches, read_batch, recon_batch, submit_batch, track_batch
from irp_pipeline.helpers.batch_of_jobs import open_batch
from irp_pipeline.helpers.constants import BatchStatus, JobStatus
from irp_pipeline.helpers.cycle import CycleError, get_cycle_by_name
from irp_pipeline.helpers.database import execute_command, execute_scalar, fetch_all
from irp_pipeline.helpers.db_context import carry_schema
from irp_pipeline.helpers.handover import cancel_jobs, requests_of
from irp_pipeline.helpers.job import (
    cancel_job,
    job_history,
    job_log,
    list_jobs,
    read_job,
    resubmit_job,
    skip_job,
    submit_job,
    track_job_status,
)
from irp_pipeline.helpers.job_request import JobError
from irp_pipeline_tests.support.recording_engine import (
    ENGINE,
    RESULT,
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

pytestmark = pytest.mark.usefixtures("test_schema")


@pytest.fixture(scope="module", autouse=True)
def _engine(test_schema: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with recording_engine(tmp_path_factory.mktemp("home")):
        yield


@pytest.fixture
def batch_id(tmp_path, monkeypatch) -> Iterator[int]:
    monkeypatch.setenv("IRP_HOME", str(tmp_path))
    yield make_batch(analyses(2))
    execute_command("DELETE FROM irp_cycle")


@pytest.fixture
def job_id(batch_id: int) -> int:
    number: int = jobs_of(batch_id)[0]["id"]
    return number


def key_of(job_id: int) -> str:
    return str(execute_scalar("SELECT job_key FROM irp_job WHERE id = %s", (job_id,)))


def request_of(job: dict[str, Any]) -> dict[str, Any]:
    """Return what the engine would be given for a job."""
    batch = open_batch(job["batch_id"])
    assert batch is not None
    requests, refused = requests_of(batch, {job["id"]: job["job_configuration_data"]})
    if refused:
        raise refused[job["id"]]
    return requests[job["id"]]


def let(job_id: int, phase: JobPhase, message: str | None = None, result: dict[str, object] | None = None) -> JobStatus:
    """Let the engine go on with a job, and track it."""
    engine_of("Q1").let(key_of(job_id), phase, message, result)
    return track_job_status(job_id)


class TestRequest:
    def test_holds_all_that_the_result_depends_on(self, job_id):
        job = read_job(job_id)
        assert job is not None
        request = request_of(job)
        folder = write_portfolio("Q1")
        hashes = {name: hashlib.sha256((folder / name).read_bytes()) for name in ("location.csv", "account.csv")}
        assert request == {
            "analysis": {"name": "a0", "portfolio": "property", "engine": ENGINE, "currency": "EUR"},
            "inputs": {
                name: {"key": f"portfolios/property/{name}", "sha256": found.hexdigest()}
                for name, found in hashes.items()
            },
            "exposure_hash": hashlib.sha256(b"".join(found.digest() for found in hashes.values())).hexdigest(),
        }

    def test_finds_the_portfolio_however_its_name_is_capitalised(self, job_id):
        job = read_job(job_id)
        assert job is not None
        job["job_configuration_data"]["portfolio"] = "PROPERTY"
        assert request_of(job)["inputs"]["location.csv"]["key"] == "portfolios/property/location.csv"

    @pytest.mark.parametrize("portfolio", ["../property", "other", "", None, 1])
    def test_is_only_for_portfolios_of_the_configuration(self, job_id, portfolio):
        job = read_job(job_id)
        assert job is not None
        job["job_configuration_data"]["portfolio"] = portfolio
        with pytest.raises(JobError, match="The portfolios are: property"):
            request_of(job)

    def test_needs_the_process_stage(self, job_id):
        (write_portfolio("Q1") / "location.csv").unlink()
        assert submit_job(job_id) is JobStatus.ERROR
        job = read_job(job_id)
        assert job is not None
        assert "run the Process stage of the cycle 'Q1'" in job["error_message"]
        assert job["completed_ts"] is not None


class TestOneJob:
    def test_goes_to_its_engine_and_comes_back_with_a_result(self, batch_id, job_id):
        assert submit_job(job_id) is JobStatus.SUBMITTED
        assert let(job_id, JobPhase.QUEUED) is JobStatus.QUEUED
        assert let(job_id, JobPhase.RUNNING, "sampling") is JobStatus.RUNNING
        assert let(job_id, JobPhase.FINISHED, result=RESULT) is JobStatus.FINISHED
        job = read_job(job_id)
        assert job is not None
        assert job["result_data"] == RESULT
        assert engine_of("Q1").requests() == {job["job_key"]: job["request_data"]}
        assert job["folder"] == str(engine_of("Q1").folder(job["job_key"]))
        assert job["submitted_ts"] < job["completed_ts"]
        assert log_of(batch_id) == [(job_id, s) for s in ("SUBMITTED", "QUEUED", "RUNNING", "FINISHED")]
        assert "took" in job_log(job_id)
        assert (read_batch(batch_id) or {})["job_counts"] == {"FINISHED": 1, "INITIATED": 1}

    def test_keeps_why_it_failed_whatever_characters_that_has(self, job_id):
        submit_job(job_id)
        assert let(job_id, JobPhase.FAILED, "no keys \x00\udcff") is JobStatus.FAILED
        job = read_job(job_id)
        assert job is not None
        assert job["error_message"].startswith("no keys ")

    @pytest.mark.parametrize(
        ("rubbish", "said"),
        [
            (None, "is not an object"),
            ({**RESULT, "currency": "EUR\x00"}, "NUL character"),
            ({**RESULT, "provenance": {"model": "\udc80"}}, "surrogate"),
            ({**RESULT, "figures": [{**RESULT["figures"][0], "loss": "much"}]}, "figures[0].loss"),
            ({**RESULT, "files": {"losses": {"path": "../x", "sha256": "0" * 64, "bytes": 1}}}, "files.losses"),
        ],
    )
    def test_fails_alone_if_its_engine_returns_rubbish(self, batch_id, job_id, monkeypatch, rubbish, said):
        other = jobs_of(batch_id)[1]["id"]
        submit_batch(batch_id)
        bad, good = key_of(job_id), key_of(other)
        states = {bad: JobState(JobPhase.FINISHED, None, rubbish), good: JobState(JobPhase.FINISHED, None, RESULT)}
        monkeypatch.setattr(RecordingEngine, "states", lambda _, keys: {key: states[key] for key in keys})
        assert track_batch(batch_id) == {JobStatus.FINISHED: 1, JobStatus.FAILED: 1}
        job = read_job(job_id)
        assert job is not None
        assert said in job["error_message"]
        assert recon_batch(batch_id) is BatchStatus.FAILED

    def test_does_not_leave_what_it_ended_as(self, batch_id, job_id):
        submit_job(job_id)
        let(job_id, JobPhase.FAILED)
        assert let(job_id, JobPhase.RUNNING) is JobStatus.FAILED
        assert log_of(batch_id) == [(job_id, "SUBMITTED"), (job_id, "FAILED")]

    def test_submitting_again_changes_nothing(self, batch_id, job_id):
        for _ in range(2):
            assert submit_job(job_id) is JobStatus.SUBMITTED
        assert log_of(batch_id) == [(job_id, "SUBMITTED")]

    def test_that_its_engine_lost_is_handed_over_again_with_the_same_request(self, batch_id, job_id):
        submit_job(job_id)
        let(job_id, JobPhase.RUNNING)
        before = engine_of("Q1").requests()
        write_portfolio("Q1", "changed meanwhile")
        engine_of("Q1").lose(key_of(job_id))
        assert track_job_status(job_id) is JobStatus.SUBMITTED
        assert engine_of("Q1").requests() == before
        assert log_of(batch_id) == [(job_id, "SUBMITTED"), (job_id, "RUNNING"), (job_id, "SUBMITTED")]

    def test_is_cancelled_at_once_if_nobody_has_it_yet(self, batch_id, job_id):
        assert cancel_job(job_id) is JobStatus.CANCELLED
        assert submit_batch(batch_id) == 1
        assert len(engine_of("Q1").requests()) == 1

    def test_is_cancelled_by_its_engine(self, batch_id, job_id):
        submit_job(job_id)
        assert cancel_job(job_id) is JobStatus.CANCELLED
        assert log_of(batch_id) == [(job_id, s) for s in ("SUBMITTED", "CANCEL_REQUESTED", "CANCELLED")]
        assert cancel_job(job_id) is JobStatus.CANCELLED

    def test_is_cancelled_again_if_the_engine_did_not_hear(self, job_id):
        submit_job(job_id)
        execute_command("UPDATE irp_job SET status = 'CANCEL_REQUESTED' WHERE id = %s", (job_id,))
        assert track_job_status(job_id) is JobStatus.CANCEL_REQUESTED
        assert engine_of("Q1").phases() == {key_of(job_id): "CANCELLED"}
        assert track_job_status(job_id) is JobStatus.CANCELLED

    def test_that_is_skipped_is_ended_and_no_longer_waited_for(self, batch_id, job_id):
        submit_batch(batch_id)
        skip_job(job_id, "not needed")
        skip_job(job_id)
        assert engine_of("Q1").phases()[key_of(job_id)] == "CANCELLED"
        other = jobs_of(batch_id)[1]["id"]
        let(other, JobPhase.FINISHED)
        assert recon_batch(batch_id) is BatchStatus.COMPLETED
        assert job_history(job_id)[0]["tracking"][-1]["message"] == "skipped: not needed"
        with pytest.raises(JobError, match="is skipped: the batch does not count it"):
            resubmit_job(job_id)

    @pytest.mark.parametrize("do", [submit_job, track_job_status, resubmit_job, skip_job, cancel_job, job_log])
    def test_that_does_not_exist_is_named(self, batch_id, do):
        with pytest.raises(JobError, match="no job with the id 99999999999999999999"):
            do(99999999999999999999)
        assert read_job(99999999999999999999) is None

    @pytest.mark.parametrize("do", [submit_job, track_job_status, resubmit_job, skip_job, cancel_job])
    def test_of_an_archived_cycle_is_only_read(self, batch_id, job_id, do):
        cycle = get_cycle_by_name("Q1")
        assert cycle is not None
        archive_by_hand(cycle["id"])
        before = jobs_of(batch_id)
        with pytest.raises(CycleError, match="archived and takes no more work"):
            do(job_id)
        assert jobs_of(batch_id) == before
        assert len(list_jobs(cycle["id"])) == 2
        assert job_history(job_id)[0]["id"] == job_id


class TestResubmitting:
    def test_keeps_the_chain_with_what_was_replaced_and_why(self, batch_id, job_id):
        submit_batch(batch_id)
        for job in jobs_of(batch_id):
            let(job["id"], JobPhase.FAILED, "out of memory")
        assert recon_batch(batch_id) is BatchStatus.FAILED
        second = resubmit_job(job_id, override_reason="more memory now")
        assert (read_batch(batch_id) or {})["status"] == "ACTIVE"
        assert (read_batch(batch_id) or {})["completed_ts"] is None
        submit_job(second)
        let(second, JobPhase.FAILED, "out of memory again")
        third = resubmit_job(second, {"samples": 10}, "  fewer samples ")
        data = {**analyses(1)[0], "currency": "EUR", "samples": 10}
        assert submit_job(third) is JobStatus.SUBMITTED

        first_row, second_row, third_row = job_history(second)
        assert [row["id"] for row in (first_row, second_row, third_row)] == [job_id, second, third]
        assert [row["skipped"] for row in (first_row, second_row, third_row)] == [True, True, False]
        assert first_row["job_configuration_id"] == second_row["job_configuration_id"]
        assert (third_row["overridden"], third_row["override_reason"]) == (True, "fewer samples")
        assert third_row["job_configuration_data"] == data
        assert first_row["tracking"][-1]["message"] == f"resubmitted as job {second}: more memory now"
        assert engine_of("Q1").requests()[key_of(third)]["analysis"] == data
        let(third, JobPhase.FINISHED)
        assert recon_batch(batch_id) is BatchStatus.FAILED  # the other job is
        skip_job(jobs_of(batch_id)[1]["id"])
        assert recon_batch(batch_id) is BatchStatus.COMPLETED

    @pytest.mark.parametrize("reason", [None, "", " \n"])
    def test_with_other_parameters_needs_a_reason(self, batch_id, job_id, reason):
        with pytest.raises(JobError, match="need a reason"):
            resubmit_job(job_id, {"samples": 1}, reason)
        assert len(jobs_of(batch_id)) == 2

    def test_of_a_job_under_way_is_refused(self, batch_id, job_id):
        submit_job(job_id)
        with pytest.raises(JobError, match=r"under way \(SUBMITTED\): cancel it first"):
            resubmit_job(job_id)
        cancel_job(job_id)
        resubmit_job(job_id)
        assert len(jobs_of(batch_id)) == 3

    def test_of_a_job_not_handed_over_is_possible(self, batch_id, job_id):
        new = resubmit_job(job_id, {**analyses(1)[0], "samples": 1}, "one is enough")
        assert submit_batch(batch_id) == 2
        assert key_of(new) in engine_of("Q1").requests()
        assert key_of(job_id) not in engine_of("Q1").requests()

    def test_twice_is_refused_with_the_newer_job_named(self, job_id):
        new = resubmit_job(job_id)
        for do in (resubmit_job, submit_job, cancel_job, skip_job):
            with pytest.raises(JobError, match=f"the job {new} took its place"):
                do(job_id)

    def test_is_refused_while_another_batch_of_the_kind_is_under_way(self, batch_id, job_id):
        cancel_job(job_id)
        cancel_job(jobs_of(batch_id)[1]["id"])
        assert recon_batch(batch_id) is BatchStatus.CANCELLED
        batch = read_batch(batch_id)
        assert batch is not None
        other = create_batch(batch["batch_type"], batch["configuration_id"], batch["step_id"])
        cycle = get_cycle_by_name("Q1")
        assert cycle is not None
        assert [row["id"] for row in list_batches(cycle["id"])] == [batch_id, other]
        with pytest.raises(JobError, match=f"the batch {other} of the same configuration and type is under way"):
            resubmit_job(job_id)
        assert len(jobs_of(batch_id)) == 2
        assert not jobs_of(batch_id)[0]["skipped"]


class AwayEngine(RecordingEngine):
    """An engine that takes jobs, and then cannot be reached."""

    def states(self, keys: Collection[str]) -> dict[str, JobState]:
        raise EngineError("The server of this engine is away")

    def cancel(self, keys: Collection[str]) -> None:
        raise EngineError("The server of this engine is away")


class TestAnEngineThatIsAway:
    @pytest.fixture
    def mixed_id(self, tmp_path, monkeypatch) -> Iterator[int]:
        """A batch whose first job is at an engine that is away, and whose second one is not."""
        monkeypatch.setenv("IRP_HOME", str(tmp_path))
        ENGINES.register(replace(ENGINES.declared()[ENGINE], name="away", make=AwayEngine))
        here, away = analyses(2)
        yield make_batch([away | {"engine": "away"}, here])
        execute_command("DELETE FROM irp_cycle")

    def test_does_not_keep_the_jobs_of_others_from_being_followed_or_cancelled(self, mixed_id):
        submit_batch(mixed_id)
        away, here = (job["id"] for job in jobs_of(mixed_id))
        engine_of("Q1").let(key_of(here), JobPhase.RUNNING)
        with pytest.raises(EngineError, match="is away"):
            track_batch(mixed_id)
        assert [job["status"] for job in jobs_of(mixed_id)] == ["SUBMITTED", "RUNNING"]
        with pytest.raises(EngineError, match="is away"):
            cancel_jobs(mixed_id)
        assert engine_of("Q1").phases()[key_of(here)] == "CANCELLED"
        with pytest.raises(EngineError, match="is away"):
            track_batch(mixed_id)
        assert [job["status"] for job in jobs_of(mixed_id)] == ["CANCEL_REQUESTED", "CANCELLED"]
        assert away < here


class TestAtOnce:
    def test_of_two_that_resubmit_a_job_one_does_it(self, batch_id, job_id):
        cancel_job(job_id)
        ready = threading.Barrier(2)

        def resubmit() -> int | str:
            ready.wait(10)
            try:
                return resubmit_job(job_id)
            except JobError as error:
                return str(error)

        newest = job_id
        for _ in range(5):
            job_id = newest
            with ThreadPoolExecutor(2) as pool:
                outcomes = [pool.submit(carry_schema(resubmit)) for _ in range(2)]
            results = [outcome.result() for outcome in outcomes]
            [newest] = [result for result in results if isinstance(result, int)]
            [refusal] = [result for result in results if isinstance(result, str)]
            assert f"the job {newest} took its place" in refusal
            assert len([job for job in jobs_of(batch_id) if job["parent_job_id"] == job_id]) == 1

    def test_two_that_track_write_each_change_down_once(self, batch_id, monkeypatch):
        submit_batch(batch_id)
        keys = list(engine_of("Q1").requests())
        for phase in (JobPhase.RUNNING, JobPhase.FINISHED):
            for key in keys:
                engine_of("Q1").let(key, phase)
            monkeypatch.setattr(RecordingEngine, "before_answering", partial(threading.Barrier(2).wait, 10))
            with ThreadPoolExecutor(2) as pool:
                counts = [pool.submit(carry_schema(track_batch), batch_id) for _ in range(2)]
            assert [count.result() for count in counts] == [{JobStatus(phase): 2}] * 2
            monkeypatch.setattr(RecordingEngine, "before_answering", None)
        assert sorted(log_of(batch_id)) == sorted(
            (job["id"], status) for job in jobs_of(batch_id) for status in ("SUBMITTED", "RUNNING", "FINISHED")
        )

    def test_an_answer_from_before_does_not_overwrite_a_newer_one(self, batch_id, job_id, monkeypatch):
        submit_job(job_id)
        engine = engine_of("Q1")
        engine.let(key_of(job_id), JobPhase.RUNNING)

        def meanwhile() -> None:
            monkeypatch.setattr(RecordingEngine, "before_answering", None)
            engine.let(key_of(job_id), JobPhase.FINISHED)
            track_job_status(job_id)

        monkeypatch.setattr(RecordingEngine, "before_answering", meanwhile)
        assert track_job_status(job_id) is JobStatus.FINISHED
        assert log_of(batch_id) == [(job_id, "SUBMITTED"), (job_id, "FINISHED")]

    def test_a_job_skipped_while_it_is_tracked_stays_as_it_was_skipped(self, batch_id, job_id, monkeypatch):
        submit_job(job_id)

        def meanwhile() -> None:
            monkeypatch.setattr(RecordingEngine, "before_answering", None)
            skip_job(job_id)

        engine_of("Q1").let(key_of(job_id), JobPhase.RUNNING)
        monkeypatch.setattr(RecordingEngine, "before_answering", meanwhile)
        assert track_job_status(job_id) is JobStatus.CANCELLED
        assert fetch_all("SELECT skipped, result_data FROM irp_job WHERE id = %s", (job_id,)) == [
            {"skipped": True, "result_data": None}
        ]
