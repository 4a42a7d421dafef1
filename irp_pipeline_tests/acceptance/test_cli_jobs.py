"""``irp job`` and ``irp batch`` on a real server: what they do, what they say, and how they refuse."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from irp_pipeline.engines import JobPhase
from irp_pipeline.helpers.batch import submit_batch
from irp_pipeline.helpers.cycle import get_cycle_by_name
from irp_pipeline.helpers.database import execute_command
from irp_pipeline_tests.support.command import Run
from irp_pipeline_tests.support.recording_engine import (
    analyses,
    archive_by_hand,
    engine_of,
    jobs_of,
    make_batch,
    recording_engine,
)

Answer = Callable[..., dict[str, Any]]

HOSTILE = "[red]no keys[/red] \x1b[31m\x07\nsecond line"
NO_SUCH = str(2**63 - 1)


@pytest.fixture(autouse=True)
def _files(test_schema: str, tmp_path: Path) -> Iterator[None]:
    with recording_engine(tmp_path):
        yield
    execute_command("DELETE FROM irp_cycle")


@pytest.fixture
def irp(irp: Run) -> Run:
    """Run a command as elsewhere; none shows a traceback."""

    def run(*arguments: object, status: int = 0) -> Result:
        result = irp(*arguments, status=status)
        assert "Traceback" not in result.output
        return result

    return run


@pytest.fixture
def answer_of(irp: Run) -> Answer:
    """Run a command with --json and return what it answers."""

    def run(*arguments: object, status: int = 0) -> dict[str, Any]:
        result = irp(*arguments, "--json", status=status)
        answer: dict[str, Any] = json.loads(result.stdout or result.stderr)
        return answer

    return run


@pytest.fixture
def batch_id() -> int:
    """A batch of two jobs: one FAILED with a message that is up to no good, one under way."""
    batch_id = make_batch(analyses(2))
    submit_batch(batch_id)
    engine_of("Q1").let(jobs_of(batch_id)[0]["job_key"], JobPhase.FAILED, HOSTILE)
    return batch_id


@pytest.fixture
def failed(batch_id: int, irp: Run) -> int:
    irp("batch", "recon", batch_id)
    return int(jobs_of(batch_id)[0]["id"])


@pytest.fixture
def running(batch_id: int) -> int:
    return int(jobs_of(batch_id)[1]["id"])


class TestGoingBackToTheWorkbook:
    def test_undoes_a_skip(self, irp, answer_of, failed):
        irp("job", "skip", failed, "--reason", "no such model")
        new = answer_of("job", "restore", failed, "--reason", "found")["job"]
        assert (new["parent_job_id"], new["status"], new["skipped"]) == (failed, "SUBMITTED", False)
        assert "replaces job" in irp("job", "list", "Q1").stdout

    def test_is_refused_where_there_is_nothing_to_undo(self, irp, failed):
        assert "nothing to restore" in irp("job", "restore", failed, status=1).stderr


class TestBatches:
    def test_recon_tracks_and_decides(self, irp, answer_of, batch_id, running):
        assert irp("batch", "recon", batch_id).stdout == f"The batch {batch_id} is ACTIVE: 1 FAILED, 1 QUEUED\n"
        engine_of("Q1").let(jobs_of(batch_id)[1]["job_key"], JobPhase.FINISHED)
        batch = answer_of("batch", "recon", batch_id)["batch"]
        assert (batch["status"], batch["job_counts"]) == ("FAILED", {"FAILED": 1, "FINISHED": 1})
        assert batch["completed_ts"] is not None

    def test_are_listed_and_shown(self, irp, answer_of, batch_id, failed):
        _, row = irp("batch", "list", "Q1").stdout.splitlines()
        assert row.split()[:4] == [str(batch_id), "analysis", "ACTIVE", "2"]
        assert "1 FAILED, 1 QUEUED" in row
        text = irp("batch", "show", batch_id).stdout
        assert f"Batch      {batch_id} (analysis)" in text
        assert "[red]no keys[/red]" in text
        assert "\x1b" not in text
        [batch] = answer_of("batch", "list", "Q1")["batches"]
        answer = answer_of("batch", "show", batch_id)
        assert answer["batch"] == batch
        assert [job["id"] for job in answer["jobs"]] == [job["id"] for job in jobs_of(batch_id)]

    def test_cancel_ends_what_is_under_way(self, irp, batch_id):
        assert irp("batch", "cancel", batch_id).stdout == f"The batch {batch_id} is FAILED: 1 CANCELLED, 1 FAILED\n"

    def test_a_cycle_without_batches_says_so(self, irp):
        irp("cycle", "create", "Q2")
        assert "no batch in cycle Q2" in irp("batch", "list", "Q2").stderr
        assert "no job in cycle Q2" in irp("job", "list", "Q2").stderr


class TestJobs:
    def test_are_listed_by_status(self, irp, answer_of, batch_id, failed, running):
        assert len(irp("job", "list", "Q1").stdout.splitlines()) == 3
        _, row = irp("job", "list", "Q1", "--status", "failed").stdout.splitlines()
        assert row.split()[:5] == [str(failed), str(batch_id), "a0", "recording", "FAILED"]
        assert [job["id"] for job in answer_of("job", "list", "Q1", "--status", "QUEUED")["jobs"]] == [running]
        assert "No job is FINISHED" in irp("job", "list", "Q1", "--status", "FINISHED").stderr
        irp("job", "list", "Q1", "--status", "BROKEN", status=2)

    def test_is_shown_with_what_became_of_it(self, irp, answer_of, failed):
        text = irp("job", "show", failed).stdout
        for expected in ("Status     FAILED", '"portfolio": "property"', "SUBMITTED", "[red]no keys[/red]"):
            assert expected in text
        assert "\x1b" not in text
        answer = answer_of("job", "show", failed)
        assert answer["job"]["request_data"]["analysis"]["name"] == "a0"
        assert [entry["status"] for entry in answer["history"][0]["tracking"]] == ["SUBMITTED", "FAILED"]

    def test_is_resubmitted_with_other_parameters(self, irp, answer_of, batch_id, failed):
        overridden = ("--override", '{"samples": 100}', "--reason", "too few")
        text = irp("job", "resubmit", failed, *overridden).stdout
        new = jobs_of(batch_id)[-1]
        assert text == f"Resubmitted the job {failed} as job {new['id']}: SUBMITTED\n"
        assert new["request_data"]["analysis"]["samples"] == 100
        assert new["request_data"]["analysis"]["portfolio"] == "property"
        assert "Overridden too few" in irp("job", "show", new["id"]).stdout
        assert f"the job {new['id']} took its place" in irp("job", "resubmit", failed, status=1).stderr
        assert len(answer_of("job", "show", new["id"])["history"]) == 2

    def test_that_is_refused_again_is_told(self, irp, answer_of, failed):
        overridden = ("--override", '{"refused": "no such model"}', "--reason", "to see")
        result = irp("job", "resubmit", failed, *overridden, status=1)
        assert "ERROR" in result.stdout
        assert "no such model" in result.stderr

    def test_is_skipped(self, irp, answer_of, batch_id, failed):
        assert irp("job", "skip", failed, "--reason", "no need").stdout == f"Skipped the job {failed}.\n"
        assert answer_of("job", "skip", failed)["job"]["skipped"]
        engine_of("Q1").let(jobs_of(batch_id)[1]["job_key"], JobPhase.FINISHED)
        assert "is COMPLETED" in irp("batch", "recon", batch_id).stdout
        assert "skipped: no need" in irp("job", "show", failed).stdout

    def test_is_cancelled(self, irp, answer_of, running):
        assert irp("job", "cancel", running).stdout == f"The job {running} is CANCELLED.\n"
        assert answer_of("job", "cancel", running)["job"]["status"] == "CANCELLED"

    def test_log_is_the_engines(self, irp, answer_of, running):
        assert irp("job", "log", running).stdout.startswith("took ")
        assert answer_of("job", "log", running)["log"].startswith("took ")


class TestMistakes:
    @pytest.mark.parametrize("command", ["show", "resubmit", "skip", "cancel", "log"])
    def test_an_unknown_job_is_not_found(self, irp, answer_of, batch_id, command):
        assert f"There is no job with the id {NO_SUCH}" in irp("job", command, NO_SUCH, status=1).stderr
        assert "message" in answer_of("job", command, NO_SUCH, status=1)["error"]

    @pytest.mark.parametrize("command", ["show", "recon", "cancel"])
    def test_an_unknown_batch_is_not_found(self, irp, batch_id, command):
        assert f"There is no batch with the id {NO_SUCH}" in irp("batch", command, NO_SUCH, status=1).stderr

    @pytest.mark.parametrize("number", ["0", "-1", "x", "1.5", str(2**63)])
    @pytest.mark.parametrize("command", ["job show", "batch recon"])
    def test_what_cannot_be_an_id_is_wrong_usage(self, irp, command, number):
        irp(*command.split(), "--", number, status=2)

    @pytest.mark.parametrize("override", ["", "{", "[1]", "3", "null", '{"a": NaN}', '{"a": Infinity}', "[" * 100_000])
    def test_an_override_that_is_no_json_object_is_wrong_usage(self, irp, failed, override):
        assert "not a JSON object" in irp(
            "job", "resubmit", failed, "--override", override, "--reason", "x", status=2
        ).stderr.replace("\n", " ")

    @pytest.mark.parametrize("reason", [(), ("--reason", ""), ("--reason", "  ")])
    def test_an_override_needs_a_reason(self, irp, batch_id, failed, reason):
        assert "say --reason" in irp("job", "resubmit", failed, "--override", "{}", *reason, status=2).stderr
        assert len(jobs_of(batch_id)) == 2

    @pytest.mark.parametrize(
        ("override", "sentence"),
        [
            ('{"loss_factor": [5.0]}', "loss_factor: 5 must be above 0 and at most 1"),
            ('{"los_factor": [0.5]}', "los_factor: there is no parameter 'los_factor'; did you mean 'loss_factor'?"),
            ('{"portfolio": "shops"}', "portfolio: cannot be changed for a job: it is 'property' in the workbook"),
        ],
    )
    def test_an_override_is_refused_with_the_sentence_of_the_workbook(self, irp, override, sentence):
        analysis = {"engine": "oasis_deterministic", "loss_factor": [0.1], "perspectives": ["GUL"]}
        batch_id = make_batch([{**analyses(1)[0], **analysis}])
        [job] = jobs_of(batch_id)
        refused = irp("job", "resubmit", job["id"], "--override", override, "--reason", "x", status=1)
        assert sentence in refused.stderr.replace("\n", " ")
        assert jobs_of(batch_id) == [job]

    def test_text_that_postgresql_cannot_keep_is_an_error_in_words(self, irp, batch_id, failed):
        irp("job", "resubmit", failed, "--override", '{"name": "\\u0000"}', "--reason", "x", status=1)
        assert len(jobs_of(batch_id)) == 2

    def test_a_job_under_way_is_not_resubmitted(self, irp, running):
        assert "cancel it first" in irp("job", "resubmit", running, status=1).stderr

    def test_an_archived_cycle_is_only_read(self, irp, batch_id, failed, running):
        cycle = get_cycle_by_name("Q1")
        assert cycle is not None
        archive_by_hand(cycle["id"])
        for command in ("job resubmit", "job skip", "job cancel", "batch recon", "batch cancel"):
            number = batch_id if command.startswith("batch") else failed
            assert "is archived and takes no more work" in irp(*command.split(), number, status=1).stderr
        for command in ("job show", "job log"):
            irp(*command.split(), running)
        irp("batch", "show", batch_id)
        assert len(irp("job", "list", "Q1").stdout.splitlines()) == 3
