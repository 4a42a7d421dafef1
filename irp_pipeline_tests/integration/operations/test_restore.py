"""Putting a backup in place of what is there: what stays, what refuses it, and a SIGKILL at every point."""

import itertools
import os
import shutil
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from sqlalchemy.dialects.postgresql.psycopg2 import PGDialect_psycopg2

from irp_pipeline import settings
from irp_pipeline.helpers import ending
from irp_pipeline.helpers.batch import submit_batch
from irp_pipeline.helpers.cycle import create_cycle
from irp_pipeline.helpers.database import DatabaseError, drop_schema, execute_command, execute_scalar, fetch_all
from irp_pipeline.helpers.db_context import schema_context
from irp_pipeline.helpers.stage import get_or_create_stage
from irp_pipeline.helpers.step import StepError, get_or_create_step, track_step
from irp_pipeline.operations import archive, swap
from irp_pipeline.operations import restore as restoring
from irp_pipeline.operations.archive import BackupError, Reader, verify_backup
from irp_pipeline.operations.backup import back_up
from irp_pipeline.operations.restore import finish_restore, restore
from irp_pipeline.operations.swap import Swap, is_swapping, only_restore
from irp_pipeline.postgres import schemas
from irp_pipeline_tests.support.dying import dies
from irp_pipeline_tests.support.recording_engine import analyses, make_batch, recording_engine
from irp_pipeline_tests.support.whole_schema import content_of, fill

PLACE = "restored"


@pytest.fixture(autouse=True)
def _files(test_schema: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(ending, "_NOTICE_SECONDS", 0.5)
    with recording_engine(tmp_path):
        yield
    execute_command("DELETE FROM irp_cycle")
    schemas.drop(PLACE)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "irp.zip"


@pytest.fixture
def other(file: Path) -> dict[str, Any]:
    """A backup in ``file``, and a schema with other content that it is to replace; returns that content."""
    fill()
    back_up(file)
    schemas.upgrade(PLACE)
    with schema_context(PLACE):
        fill("Q7")
        fill("Q8")
    return content_of(PLACE)


def test_an_existing_schema_is_replaced_only_when_told(test_schema: str, file: Path, other: dict[str, Any]) -> None:
    with pytest.raises(BackupError, match="The schema 'restored' exists"):
        restore(file, PLACE)
    assert content_of(PLACE) == other
    assert restore(file, PLACE, replace=True).replaced
    assert content_of(PLACE) == content_of(test_schema)
    assert sorted(path.name for path in settings.cycles_dir(PLACE).parent.iterdir()) == sorted([PLACE, test_schema])


def test_files_without_a_schema_are_replaced_only_when_told(
    test_schema: str, file: Path, other: dict[str, Any]
) -> None:
    schemas.drop(PLACE)
    with pytest.raises(BackupError, match="There are files in"):
        restore(file, PLACE)
    restore(file, PLACE, replace=True)
    assert content_of(PLACE) == content_of(test_schema)


def test_a_backup_goes_back_to_where_it_came_from(test_schema: str, file: Path) -> None:
    fill()
    before = content_of(test_schema)
    back_up(file)
    execute_command("DELETE FROM irp_cycle")
    create_cycle("Q9")
    shutil.rmtree(settings.cycle_dir(test_schema, "Q1"))
    restore(file, replace=True)
    assert content_of(test_schema) == before


def test_rights_and_views_of_others_stay(test_schema: str, file: Path, other: dict[str, Any]) -> None:
    execute_command(f"CREATE VIEW {test_schema}.bi AS SELECT cycle_name FROM {PLACE}.irp_cycle")
    execute_command(f"GRANT SELECT ON {PLACE}.irp_cycle TO pg_monitor")
    execute_command(f"CREATE TABLE {PLACE}.irp_note AS SELECT 'kept' AS text")
    try:
        restore(file, PLACE, replace=True)
        assert fetch_all("SELECT * FROM bi") == [{"cycle_name": "Q1"}]
        assert execute_scalar(f"SELECT has_table_privilege('pg_monitor', '{PLACE}.irp_cycle', 'SELECT')")
        assert execute_scalar(f"SELECT text FROM {PLACE}.irp_note") == "kept"
    finally:
        execute_command(f"DROP VIEW {test_schema}.bi")


def test_rows_that_a_table_of_somebody_else_refers_to_stay(file: Path, other: dict[str, Any]) -> None:
    execute_command(f"CREATE TABLE {PLACE}.note (cycle_id bigint REFERENCES {PLACE}.irp_cycle)")
    with pytest.raises(DatabaseError, match="foreign key constraint"):
        restore(file, PLACE, replace=True)
    execute_command(f"DROP TABLE {PLACE}.note")
    assert content_of(PLACE) == other


def test_a_schema_of_an_older_version_is_replaced_and_brought_up_to_date(test_schema: str, file: Path) -> None:
    fill()
    back_up(file)
    schemas.upgrade(PLACE, "0005")
    with schema_context(PLACE):
        create_cycle("Q0")
    restore(file, PLACE, replace=True)
    assert content_of(PLACE) == content_of(test_schema)


def test_a_schema_that_was_made_for_it_but_is_empty_takes_a_backup(test_schema: str, file: Path) -> None:
    fill()
    back_up(file)
    execute_command(f"CREATE SCHEMA {PLACE}")
    restore(file, PLACE)
    assert content_of(PLACE) == content_of(test_schema)


def test_steps_at_work_keep_a_schema_from_being_replaced_unless_they_are_ended(
    test_schema: str, file: Path, other: dict[str, Any]
) -> None:
    with schema_context(PLACE):
        cycle_id = execute_scalar("SELECT id FROM irp_cycle WHERE cycle_name = 'Q7'")
        step_id = get_or_create_step(get_or_create_stage(cycle_id, 2, "Extract"), 1, "Long")
        with suppress(StepError), track_step(step_id):  # its lease is taken
            with pytest.raises(DatabaseError, match=r"cannot be replaced while its cycles are at work.*'Long'"):
                restore(file, PLACE, replace=True)
            restore(file, PLACE, replace=True, force=True)
    assert content_of(PLACE) == content_of(test_schema)


def test_jobs_at_work_keep_a_schema_from_being_replaced(file: Path, other: dict[str, Any]) -> None:
    with schema_context(PLACE):
        submit_batch(make_batch(analyses(1), "Q6"))
        now = content_of(PLACE)
        with pytest.raises(DatabaseError, match=r"cannot be replaced while its cycles are at work \(Q6"):
            restore(file, PLACE, replace=True)
    assert content_of(PLACE) == now


def test_a_restore_waits_for_no_other(file: Path, other: dict[str, Any]) -> None:
    with only_restore(PLACE), pytest.raises(BackupError, match="Another restore into"):
        restore(file, PLACE, replace=True)


def test_without_room_nothing_is_changed(file: Path, other: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(swap.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 9, 1))  # type: ignore[attr-defined]
    with pytest.raises(BackupError, match="Make room"):
        restore(file, PLACE, replace=True)
    assert content_of(PLACE) == other


# --- killed -------------------------------------------------------------------------------------------------------

POINTS = (
    (archive.Writer, "add"),
    (archive.Writer, "finish"),
    (Path, "replace"),
    (os, "fsync"),
)


def test_a_backup_killed_at_any_point_leaves_the_one_before(test_schema: str, file: Path) -> None:
    create_cycle("Q0")
    back_up(file)
    fill()
    deaths = 0
    for point in itertools.count(1):
        with Reader(file) as before:
            known = before.id
        if not dies(lambda: back_up(file), point, POINTS):
            break
        deaths += 1
        manifest = verify_backup(file)
        assert manifest.cycles in {("Q0",), ("Q0", "Q1")}
        with Reader(file) as after:
            assert after.id == known or manifest.cycles == ("Q0", "Q1")
    assert deaths > 40
    assert verify_backup(file).cycles == ("Q0", "Q1")


RESTORE_POINTS = (
    (restoring, "load_tables"),
    (restoring, "replace_rows"),
    (Swap, "decide_with"),
    (Swap, "_place"),
    (Path, "rename"),
    (Path, "unlink"),
    (shutil, "rmtree"),
    (PGDialect_psycopg2, "do_commit"),
)


def killed_restores(
    file: Path, where: str, before: dict[str, Any], after: dict[str, Any], again: Any
) -> tuple[int, set[bool]]:
    """Kill a restore at each of its points; each time there is all of the old content or, after a relaunch, the new."""
    seen: set[bool] = set()
    for point in itertools.count(1):
        if not dies(lambda: restore(file, where, replace=True), point, RESTORE_POINTS):
            return point - 1, seen
        was_swapping = is_swapping(where)
        if was_swapping:
            with schema_context(where), pytest.raises(BackupError, match="was interrupted"):
                back_up(file.with_name("other.zip"))
        finished = finish_restore(where)
        seen.add(finished)
        found = content_of(where)
        assert found == after if finished else found in (before, after), point
        assert not (settings.cycles_dir(where).parent / ".restoring").exists()
        if found == after:
            again()
    raise AssertionError("it never came to an end")


def test_a_restore_killed_at_any_point_is_undone_or_finished(
    test_schema: str, file: Path, tmp_path: Path, other: dict[str, Any]
) -> None:
    kept = tmp_path / "kept.zip"
    with schema_context(PLACE):
        back_up(kept)
    after = content_of(test_schema)

    def again() -> None:
        restore(kept, PLACE, replace=True)
        assert content_of(PLACE) == other

    again()
    deaths, seen = killed_restores(file, PLACE, other, after, again)
    assert deaths > 20
    assert seen == {True, False}
    assert content_of(PLACE) == after


def test_a_relaunch_after_a_kill_finishes_what_was_committed(
    test_schema: str, file: Path, other: dict[str, Any]
) -> None:
    assert dies(lambda: restore(file, PLACE, replace=True), 1, [(Path, "rename")])
    assert is_swapping(PLACE)
    assert restore(file, PLACE).finished
    assert content_of(PLACE) == content_of(test_schema)
    assert not is_swapping(PLACE)


def test_an_interrupted_restore_of_another_backup_is_finished_before_the_new_one(
    test_schema: str, file: Path, tmp_path: Path, other: dict[str, Any]
) -> None:
    with schema_context(PLACE):
        back_up(tmp_path / "kept.zip")
    assert dies(lambda: restore(file, PLACE, replace=True), 1, [(Path, "rename")])
    assert not restore(tmp_path / "kept.zip", PLACE, replace=True).finished
    assert content_of(PLACE) == other


def test_a_journal_of_another_database_is_not_judged_here(file: Path, other: dict[str, Any]) -> None:
    assert dies(lambda: restore(file, PLACE, replace=True), 1, [(Path, "rename")])
    journal = settings.cycles_dir(PLACE).parent / ".restoring" / PLACE / "journal.json"
    journal.write_text(journal.read_text().replace('"database": "', '"database": "not_'))
    with pytest.raises(BackupError, match="on another database"):
        restore(file, PLACE, replace=True)


def test_an_answer_of_the_server_that_is_lost_changes_nothing(
    test_schema: str, file: Path, other: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = PGDialect_psycopg2.do_commit

    def lost(self: Any, connection: Any) -> None:
        commit(self, connection)
        if is_swapping(PLACE):
            with closing(connection):
                monkeypatch.undo()
                raise psycopg2.OperationalError("server closed the connection unexpectedly")

    monkeypatch.setattr(PGDialect_psycopg2, "do_commit", lost)
    restore(file, PLACE, replace=True)
    assert content_of(PLACE) == content_of(test_schema)


def test_an_upgrade_is_taken_back_by_dropping_the_schema_and_restoring(test_schema: str, file: Path) -> None:
    schemas.upgrade(PLACE)
    with schema_context(PLACE):
        fill()
        back_up(file)
        before = content_of(PLACE)
        execute_command("UPDATE irp_schema_version SET version_num = '9999'")
    with pytest.raises(DatabaseError, match="newer than that of this package"):
        restore(file, PLACE, replace=True)
    with schema_context(PLACE), pytest.raises(BackupError, match="newer than that of this package"):
        back_up(file.with_name("newer.zip"))
    assert drop_schema(PLACE, force=True)
    restore(file, PLACE, replace=True)
    assert content_of(PLACE) == before
