"""The audit trail: every command that changes something is in it, with who did it, when and how it ended."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from irp_pipeline.cli import app
from irp_pipeline.cli.trail import READING, record_commands
from irp_pipeline.helpers.audit import AuditEntry, begin_entry, list_entries
from irp_pipeline.helpers.database import execute_command, execute_scalar
from irp_pipeline.helpers.db_context import get_current_schema, schema_context
from irp_pipeline.operations.restore import restore
from irp_pipeline.postgres import schemas
from irp_pipeline_docs.reference import all_commands
from irp_pipeline_tests.support.made_up_cycle import make_batch, workbook
from irp_pipeline_tests.support.waiting import wait_until

pytestmark = pytest.mark.usefixtures("own_files")

CHANGING = {
    "irp approve",
    "irp attribute",
    "irp batch cancel",
    "irp batch recon",
    "irp cycle archive",
    "irp cycle create",
    "irp cycle delete",
    "irp cycle reopen",
    "irp db adopt",
    "irp db drop",
    "irp db grant-read",
    "irp db init",
    "irp db upgrade",
    "irp files prune",
    "irp job cancel",
    "irp job resubmit",
    "irp job restore",
    "irp job skip",
    "irp reject",
    "irp repeat",
    "irp restore",
    "irp run",
}


@pytest.fixture(autouse=True)
def _no_trail(own_files: None) -> None:
    execute_command("TRUNCATE irp_audit")


def irp(*words: str, exit_code: int = 0) -> str:
    ran = CliRunner().invoke(app, [*words, "--db-schema", get_current_schema()], prog_name="irp")
    assert ran.exit_code == exit_code, f"{ran.output}\n{ran.exception!r}"
    return ran.stdout


def newest() -> AuditEntry:
    return list_entries()[0]


def test_every_command_reads_only_or_is_in_the_trail() -> None:
    """A new command is in the trail unless it is named among those that only read; this list names both."""
    group = typer.main.get_command(app)
    record_commands(group)
    commands = {" ".join(path): command for path, command in all_commands(group)}
    recorded = {name for name, command in commands.items() if hasattr(command.invoke, "is_recorded")}
    assert recorded == CHANGING
    assert set(commands) - recorded == READING
    assert hasattr(group.commands["worker"].invoke, "is_recorded")  # type: ignore[attr-defined] # it runs jobs by itself


def test_the_trail_says_who_did_what_when_and_how_it_ended() -> None:
    before = execute_scalar("SELECT clock_timestamp()")
    irp("cycle", "create", "Q1-2024")
    found = newest()
    assert (found.command, found.cycle_name, found.outcome, found.error) == (
        "irp cycle create", "Q1-2024", "DONE", None,
    )  # fmt: skip
    assert (found.arguments, found.db_login) == ({"cycle": "Q1-2024"}, execute_scalar("SELECT session_user::text"))
    assert found.ended_ts is not None
    assert before < found.began_ts < found.ended_ts
    assert found.stated_host == os.uname().nodename
    irp("cycle", "create", "Q1-2024", exit_code=1)
    assert (newest().outcome, "Q1-2024" in str(newest().error)) == ("FAILED", True)


def test_a_command_that_only_reads_leaves_no_trace() -> None:
    irp("cycle", "create", "Q1-2024")
    for words in (
        ("status", "Q1-2024"),
        ("cycle", "list"),
        ("audit",),
        ("approvals", "Q1-2024"),
        ("history", "Q1-2024"),
    ):
        irp(*words)
    assert len(list_entries()) == 1


def test_a_job_is_found_by_its_cycle() -> None:
    make_batch("Q1-2024", workbook())
    job = execute_scalar("SELECT min(id) FROM irp_job")
    irp("job", "skip", str(job), "--reason", "no such model")
    [found] = list_entries("Q1-2024")
    assert (found.command, found.arguments) == ("irp job skip", {"job_id": job, "reason": "no such model"})
    assert json.loads(irp("audit", "Q1-2024", "--json"))["entries"][0]["command"] == "irp job skip"
    assert "irp job skip" in irp("audit", "Q1-2024")
    assert list_entries("Q2-2024") == []


def test_what_was_answered_with_no_is_in_the_trail_too() -> None:
    irp("cycle", "create", "Q1-2024")
    irp("cycle", "delete", "Q1-2024", exit_code=1)
    assert (newest().command, newest().outcome) == ("irp cycle delete", "FAILED")
    irp("cycle", "delete", "Q1-2024", "--yes")
    assert (newest().command, newest().cycle_name, newest().outcome) == ("irp cycle delete", "Q1-2024", "DONE")


def test_no_secret_of_an_address_is_in_the_trail() -> None:
    irp("cycle", "create", "Q1-2024")
    irp("run", "Q1-2024", "--config", "s3://key:s3cret@bucket/book.xlsx?sig=s3cret", exit_code=1)
    [found] = [entry for entry in list_entries() if entry.command == "irp run"]
    assert "s3cret" not in json.dumps(found.arguments) + str(found.error)
    assert found.arguments["config"].startswith("s3://…")


def test_a_schema_that_a_command_makes_has_it_in_its_trail() -> None:
    schema = f"{get_current_schema()}_made"
    try:
        ran = CliRunner().invoke(app, ["db", "init", "--db-schema", schema], prog_name="irp")
        assert ran.exit_code == 0, ran.output
        with schema_context(schema):
            [found] = list_entries()
            assert (found.command, found.outcome) == ("irp db init", "DONE")
    finally:
        schemas.drop(schema)


def test_a_key_is_recorded_once() -> None:
    assert begin_entry("run_cycle", {}, "Q1", key="run") is not None
    assert begin_entry("run_cycle", {}, "Q1", key="run") is None
    assert len(list_entries()) == 1


def test_a_command_that_is_killed_is_in_the_trail_without_an_outcome(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DB_SCHEMA", get_current_schema())
    with subprocess.Popen([sys.executable, "-m", "irp_pipeline.cli", "worker"], stdout=subprocess.DEVNULL) as worker:
        wait_until(lambda: len(list_entries()) == 1)
        worker.kill()
    assert (newest().command, newest().outcome, newest().ended_ts) == ("irp worker", None, None)


def test_a_replacing_restore_is_in_the_trail_with_all_that_was_there(tmp_path: Path) -> None:
    irp("cycle", "create", "Q1-2024")
    irp("backup", str(tmp_path / "irp.zip"))
    backed_up, copy = list_entries(), f"{get_current_schema()}_copy"
    try:
        restore(tmp_path / "irp.zip", copy)
        with schema_context(copy):
            assert list_entries() == backed_up
    finally:
        schemas.drop(copy)
    irp("cycle", "create", "Q2-2024")
    irp("restore", str(tmp_path / "irp.zip"), "--replace", "--yes")
    assert [entry.command for entry in list_entries()] == ["irp restore", "irp cycle create", "irp cycle create"]
    assert [entry.cycle_name for entry in list_entries()] == [None, "Q2-2024", "Q1-2024"]
    assert newest().outcome == "DONE"
    assert execute_scalar("SELECT count(*) FROM irp_cycle") == 1
