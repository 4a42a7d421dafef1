"""What the commands that change something answer, beside what they answered before; the others are with the demo."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from irp_pipeline.cli import app
from irp_pipeline.engines import JobPhase
from irp_pipeline.helpers.batch import submit_batch
from irp_pipeline.helpers.cycle import get_cycle_by_name
from irp_pipeline.helpers.database import execute_command
from irp_pipeline_tests.support.golden import check_golden, records
from irp_pipeline_tests.support.recording_engine import analyses, engine_of, jobs_of, make_batch, recording_engine


@pytest.fixture(autouse=True)
def _files(test_schema: str, tmp_path: Path) -> Iterator[None]:
    with recording_engine(tmp_path):
        yield
    execute_command("DELETE FROM irp_cycle")


def test_commands_that_change_something_answer_as_they_did(test_schema: str, tmp_path: Path) -> None:
    answers: dict[str, Any] = {}

    def irp(words: str, **options: object) -> None:
        arguments = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        done = CliRunner().invoke(app, [*words.split(), *arguments, "--json"], prog_name="irp")
        assert done.exit_code in (0, 1), done.output
        name = " ".join(word if not word.isdigit() else "ID" for word in words.split())
        while name in answers:
            name += " again"
        answers[name] = [done.exit_code, json.loads(done.stdout or done.stderr)]

    irp("db init")
    irp("cycle create Q0")
    irp("cycle create q0")
    batch = make_batch(analyses(3))
    submit_batch(batch)
    first, second, third = (int(job["id"]) for job in jobs_of(batch))
    engine_of("Q1").let(jobs_of(batch)[0]["job_key"], JobPhase.FAILED, "the footprint has no such event")
    irp(f"batch recon {batch}")
    irp(f"batch show {batch}")
    irp(f"job show {first}")
    irp(f"job log {first}")
    irp(f"job resubmit {first}", override='{"samples": 5}', reason="fewer samples")
    irp(f"job resubmit {first}", override='{"sample": 5}', reason="a name that is not there")
    irp(f"job cancel {second}")
    irp(f"job skip {second}", reason="no such model")
    irp(f"job skip {third}", reason="at work still")
    irp("job list Q1")
    irp("cycle archive Q1")
    irp(f"batch cancel {batch}")
    irp(f"job restore {second}", reason="the data was mended")
    irp("cycle archive Q1")
    irp("cycle reopen Q1")
    irp("cycle show Q2")
    irp("history Q1")
    answers["records"] = records()
    irp("cycle delete Q1 --yes")
    irp("cycle delete Q1 --yes --force")
    assert get_cycle_by_name("Q1") is None
    check_golden("changes", answers, {str(tmp_path): "<home>", test_schema: "<schema>"})
