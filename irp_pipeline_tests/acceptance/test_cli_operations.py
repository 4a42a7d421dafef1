"""What ``irp backup``, ``irp restore`` and the other commands for operators do and say."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from irp_pipeline import settings
from irp_pipeline.helpers.cycle import list_cycle_names
from irp_pipeline.helpers.database import execute_command
from irp_pipeline.helpers.db_context import schema_context
from irp_pipeline.operations.restore import restore
from irp_pipeline.postgres import schemas
from irp_pipeline_tests.support.command import Run
from irp_pipeline_tests.support.dying import dies
from irp_pipeline_tests.support.recording_engine import recording_engine
from irp_pipeline_tests.support.whole_schema import content_of, fill

PLACE = "restored"


@pytest.fixture(autouse=True)
def _files(test_schema: str, tmp_path: Path) -> Iterator[None]:
    with recording_engine(tmp_path):
        yield
    execute_command("DELETE FROM irp_cycle")
    schemas.drop(PLACE)


@pytest.fixture
def answer_of(irp: Run) -> Callable[..., dict[str, Any]]:
    """Run a command with --json and return what it answers."""

    def run(*arguments: object, status: int = 0) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(irp(*arguments, "--json", status=status).stdout)
        return answer

    return run


def test_a_backup_is_made_verified_and_restored(
    irp: Run, answer_of: Callable[..., dict[str, Any]], test_schema: str, tmp_path: Path
) -> None:
    fill()
    file = tmp_path / "irp.zip"
    made = answer_of("backup", file)
    assert made | {"file": "", "bytes": 0, "made_ts": "", "rows": 0, "unpacked_bytes": 0} == {
        "file": "",
        "bytes": 0,
        "verified": False,
        "schema": test_schema,
        "version": schemas.latest_version(),
        "made_by": made["made_by"],
        "made_ts": "",
        "cycles": ["Q1"],
        "rows": 0,
        "files": made["files"],
        "unpacked_bytes": 0,
        "differences": [],
    }
    assert answer_of("backup", "--verify", file) == made | {"verified": True}
    restored = answer_of("restore", file, "--db-schema", PLACE)
    assert (restored["schema"], restored["replaced"], restored["finished"]) == (PLACE, False, False)
    assert restored["folder"] == str(settings.cycles_dir(PLACE))
    assert content_of(PLACE) == content_of(test_schema)


def test_replacing_needs_a_yes_and_says_what_comes(irp: Run, tmp_path: Path) -> None:
    fill()
    file = tmp_path / "irp.zip"
    irp("backup", file)
    irp("restore", file, "--db-schema", PLACE)
    with schema_context(PLACE):
        fill("Q2")
        assert (
            "exists. To put the backup in its place, say --replace"
            in irp("restore", file, "--db-schema", PLACE, status=1).stderr
        )
        assert "say --yes" in irp("restore", file, "--db-schema", PLACE, "--replace", status=1).stderr
        assert list_cycle_names() == ["Q1", "Q2"]
        said = irp("restore", file, "--db-schema", PLACE, "--replace", "--yes").stdout
        assert said.startswith("Restored the schema 'restored' from")
        assert list_cycle_names() == ["Q1"]


def test_an_interrupted_restore_is_finished(irp: Run, answer_of: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    fill()
    file = tmp_path / "irp.zip"
    irp("backup", file)
    assert dies(lambda: restore(file, PLACE), 1, [(Path, "rename")])
    assert "irp restore --finish" in irp("backup", file, "--db-schema", PLACE, status=1).stderr
    assert answer_of("restore", "--finish", "--db-schema", PLACE) == {"schema": PLACE, "finished": True}
    assert "no restore to finish" in irp("restore", "--finish", "--db-schema", PLACE).stdout
    irp("restore", status=2)
    irp("restore", file, "--finish", status=2)


def test_a_file_that_differs_is_named(irp: Run, test_schema: str, tmp_path: Path) -> None:
    fill()
    (settings.cycle_dir(test_schema, "Q1") / "report" / "report.html").unlink()
    said = irp("backup", tmp_path / "irp.zip")
    assert "Not as recorded: Q1/report/report.html is missing." in said.stderr


def test_what_is_no_backup_is_refused_in_words(irp: Run, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    for words in (("restore",), ("backup", "--verify"), ("backup",)):
        said = irp(*words, tmp_path / "thesis.txt", status=1)
        assert "backup" in said.stderr
        assert "Traceback" not in said.stderr
    assert "No such file" in irp("restore", tmp_path / "nowhere.zip", status=1).stderr


def test_files_are_pruned_after_they_were_shown_and_a_yes(
    irp: Run, answer_of: Callable[..., dict[str, Any]], test_schema: str
) -> None:
    fill()
    lost = settings.cycle_dir(test_schema, "Q1") / "jobs" / "0f2a"
    lost.mkdir()
    (lost / "log.txt").write_text("12345")
    assert "There is nothing to remove" in irp("files", "prune").stdout  # it is younger than a day
    now = ("files", "prune", "--grace-hours", 0)
    assert "Without --dry-run: 1 folder with 5 bytes." in irp(*now, "--dry-run").stdout
    assert "jobs/0f2a  job not on record" in " ".join(irp(*now, "Q1", "--dry-run").stdout.split("   "))
    (shown,) = answer_of(*now, "--dry-run")["prunable"]
    assert (shown["path"], shown["reason"], shown["bytes"]) == (str(lost), "job not on record", 5)
    assert "say --yes" in irp(*now, status=1).stderr
    assert lost.exists()
    assert "Removed 1 folder with 5 bytes." in irp(*now, "--yes").stdout
    assert not lost.exists()
    assert answer_of(*now, "--yes") == {"schema": test_schema, "dry_run": False, "removed": []}
    irp("files", "prune", "no name/for a cycle", status=2)


def test_health_is_told_by_words_by_json_and_by_the_exit_status(
    irp: Run, answer_of: Callable[..., dict[str, Any]], test_schema: str
) -> None:
    fill()
    assert irp("health").stdout.endswith("All is well.\n")
    answer = answer_of("health", "--max-wait", 10)
    assert (answer["ok"], answer["problems"], answer["open_cycles"]) == (True, [], ["Q1"])
    assert answer["jobs"] == {"FAILED": 1, "FINISHED": 1}
    answer = answer_of("health", "--db-schema", "nowhere", status=1)
    assert (answer["ok"], answer["is_reachable"], answer["version"], answer["jobs"]) == (False, True, None, None)
    assert "Problem" in irp("health", "--db-schema", "nowhere", status=1).stdout


def test_progress_is_shown_beside_the_answer(irp: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill()
    monkeypatch.setattr("irp_pipeline.cli.output.shows_progress", lambda: True)
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes what it writes to for a terminal
    said = irp("backup", tmp_path / "irp.zip")
    assert said.stdout.startswith("Backed up the schema")
    assert said.stdout.count("\n") == 1
    assert "Packing" in said.stderr
    assert json.loads(irp("backup", "--verify", tmp_path / "irp.zip", "--json").stdout)["verified"]
