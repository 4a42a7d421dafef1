"""A backup of a schema and its files, and bringing it back."""

import json
import os
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from irp_pipeline import settings
from irp_pipeline.helpers.cycle import create_cycle
from irp_pipeline.helpers.database import (
    DatabaseError,
    dispose_engine,
    drop_schema,
    execute_command,
    execute_scalar,
    fetch_all,
    init_database,
)
from irp_pipeline.helpers.db_context import schema_context
from irp_pipeline.helpers.stage import get_or_create_stage
from irp_pipeline.helpers.step import get_or_create_step, track_step
from irp_pipeline.operations import backup, records
from irp_pipeline.operations.archive import BackupError, read_manifest, verify_backup
from irp_pipeline.operations.backup import back_up
from irp_pipeline.operations.packing import Packer
from irp_pipeline.operations.restore import restore
from irp_pipeline.postgres import schemas
from irp_pipeline_tests.support.recording_engine import recording_engine
from irp_pipeline_tests.support.whole_schema import ODD_TEXTS, content_of, files_of, fill, publish, rows_of

COPY = "copied schema %s"


@pytest.fixture(autouse=True)
def _files(test_schema: str, tmp_path: Path) -> Iterator[None]:
    with recording_engine(tmp_path):
        yield
    execute_command("DELETE FROM irp_cycle")
    execute_command("DELETE FROM irp_message")
    execute_command("TRUNCATE irp_approval, irp_audit")
    schemas.drop(COPY)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "backups" / "irp.zip"


def test_a_backup_comes_back_under_another_name_with_all_rows_counters_and_files(test_schema: str, file: Path) -> None:
    fill()
    fill("Q2")
    made = back_up(file)
    assert not made.manifest.differences
    assert made.bytes == file.stat().st_size
    assert file.stat().st_mode & 0o777 == 0o600
    restored = restore(file, COPY)
    assert (restored.schema, restored.replaced, restored.left_out) == (COPY, False, ())
    assert content_of(COPY) == content_of(test_schema)
    with schema_context(COPY):
        again = back_up(file.with_name("again.zip"))
    assert again.manifest.tables == made.manifest.tables
    assert again.manifest.entries == made.manifest.entries


def test_every_table_has_rows_in_what_these_tests_back_up(file: Path) -> None:
    fill()
    assert {table.name: table.rows for table in back_up(file).manifest.tables if not table.rows} == {}


def test_a_schema_without_a_cycle_and_without_files_comes_back(file: Path) -> None:
    made = back_up(file)
    assert (made.manifest.rows, made.manifest.files, made.manifest.cycles) == (0, 0, ())
    restored = restore(file, COPY)
    assert schemas.current_version(COPY) == schemas.latest_version()
    assert restored.folder.is_dir()


def test_a_new_row_after_a_restore_has_an_id_that_was_never_used(test_schema: str, file: Path) -> None:
    lost = create_cycle("Q1")
    create_cycle("Q2")
    execute_command("DELETE FROM irp_cycle WHERE id > %s", (lost,))
    back_up(file)
    restore(file, COPY)
    assert create_cycle("Q3") == lost + 2
    with schema_context(COPY):
        assert create_cycle("Q3") == lost + 2


_text = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
_json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | _text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_text, inner, max_size=4),
    max_leaves=8,
)


@hypothesis_settings(max_examples=15)
@given(rows=st.lists(st.tuples(_text, _json, _text | st.none()), max_size=20))
def test_whatever_rows_hold_comes_back(
    test_schema: str, tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, Any, str | None]]
) -> None:
    execute_command("DELETE FROM irp_cycle")
    step_id = get_or_create_step(get_or_create_stage(create_cycle("Q1"), 1, "Extract"), 1, "Odd")
    for number, (text, value, error) in enumerate(rows, 1):
        execute_command(
            "INSERT INTO irp_step_run (step_id, run_num, started_by, output_data, error_message)"
            " VALUES (%s, %s, %s, %s::jsonb, %s)",
            (step_id, number, text, json.dumps(value), error),
        )
    file = tmp_path_factory.mktemp("odd") / "irp.zip"
    back_up(file)
    restore(file, COPY, replace=True)
    assert rows_of(COPY) == rows_of(test_schema)


def test_floats_and_times_do_not_depend_on_how_a_session_shows_them(
    test_schema: str, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill()
    before = content_of(test_schema)
    monkeypatch.setenv("PGOPTIONS", "-c extra_float_digits=0 -c DateStyle=SQL,DMY -c bytea_output=escape")
    dispose_engine()
    try:
        assert execute_scalar("SHOW extra_float_digits") == "0"
        back_up(file)
        restore(file, COPY)
    finally:
        monkeypatch.delenv("PGOPTIONS")
        dispose_engine()
    assert content_of(COPY) == before


def test_a_hundred_thousand_rows_are_read_and_loaded_in_little_memory(test_schema: str, file: Path) -> None:
    import tracemalloc

    step_id = get_or_create_step(get_or_create_stage(create_cycle("Q1"), 1, "Extract"), 1, "Many")
    execute_command(
        "INSERT INTO irp_step_run (step_id, run_num, status, error_message)"
        " SELECT %s, n, 'FAILED', repeat(md5(n::text), 20) FROM generate_series(1, 100000) n",
        (step_id,),
    )
    folder = settings.cycle_dir(test_schema, "Q1")
    folder.mkdir(parents=True)
    with (folder / "large.bin").open("wb") as large:
        large.truncate(100_000_000)
    tracemalloc.start()
    try:
        made = back_up(file)
        restore(file, COPY)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert made.manifest.bytes > 150_000_000
    assert peak < 20_000_000
    with schema_context(COPY):
        assert execute_scalar("SELECT count(DISTINCT error_message) FROM irp_step_run") == 100_000


def test_scratch_and_half_written_files_are_left_out(test_schema: str, file: Path) -> None:
    fill()
    folder = settings.cycle_dir(test_schema, "Q1")
    for place in (folder / ".scratch" / "1-token" / "half.csv", folder / "jobs" / "a-job" / "request.json",
                  folder / "data" / ".losses.csv.0123.partial"):  # fmt: skip
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text("content")
    os.mkfifo(folder / "data" / "pipe")
    paths = {entry.path for entry in back_up(file).manifest.entries}
    assert "Q1/jobs/a-job/request.json" in paths
    assert not [path for path in paths if "scratch" in path or "partial" in path or "pipe" in path]


def test_a_file_that_was_changed_or_removed_by_somebody_is_told_and_backed_up_as_it_is(
    test_schema: str, file: Path
) -> None:
    fill()
    folder = settings.cycle_dir(test_schema, "Q1")
    (folder / "report" / "report.html").write_text("changed by hand")
    job = next((folder / "jobs").glob("*/output/losses.csv"))
    job.unlink()
    made = back_up(file)
    assert {difference.path: difference.how for difference in made.manifest.differences} == {
        "Q1/report/report.html": "has other content than recorded",
        f"Q1/{job.relative_to(folder).as_posix()}": "is missing",
    }
    restore(file, COPY)
    assert (settings.cycle_dir(COPY, "Q1") / "report" / "report.html").read_text() == "changed by hand"


def test_a_step_that_completes_while_files_are_packed_makes_them_be_packed_anew(
    test_schema: str, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill()
    cycle_id = execute_scalar("SELECT id FROM irp_cycle WHERE cycle_name = 'Q1'")
    step_id = get_or_create_step(get_or_create_stage(cycle_id, 6, "Report"), 2, "Cycle report")
    texts = iter(("second", "third"))

    class Interrupted(Packer):
        def update(self) -> None:
            super().update()
            if text := next(texts, None):
                thread = threading.Thread(target=lambda: in_schema(text))
                thread.start()
                thread.join()

    def in_schema(text: str) -> None:
        with schema_context(test_schema):
            publish(step_id, text)

    monkeypatch.setattr(backup, "Packer", Interrupted)
    made = back_up(file)
    assert not made.manifest.differences
    verify_backup(file)
    restore(file, COPY)
    assert content_of(COPY) == content_of(test_schema)
    assert (settings.cycle_dir(COPY, "Q1") / "report" / "report.html").read_text() == "third"


def test_rows_are_those_of_one_moment(test_schema: str, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill()
    before = rows_of(test_schema)
    read = records._read_table

    def read_while_others_work(*arguments: Any) -> Any:
        thread = threading.Thread(target=others_work)
        thread.start()
        thread.join()
        return read(*arguments)

    def others_work() -> None:
        with schema_context(test_schema):
            execute_command("UPDATE irp_job SET error_message = 'later'")
            execute_command("DELETE FROM irp_artefact")
            execute_command("UPDATE irp_cycle SET status = 'ARCHIVED'")

    monkeypatch.setattr(records, "_read_table", read_while_others_work)
    back_up(file)
    restore(file, COPY)
    assert rows_of(COPY) == before


@pytest.mark.parametrize("version", ["0001", "0004", "0005", "0006"])
def test_a_backup_of_an_older_version_is_brought_up_to_date(file: Path, version: str) -> None:
    old = "an old schema"
    schemas.drop(old)
    schemas.upgrade(old, version)
    try:
        with schema_context(old):
            cycle_id = create_cycle("Q1")
            execute_command("INSERT INTO irp_cycle (cycle_name) VALUES ('q1')")  # allowed then
            step_id = get_or_create_stage(cycle_id, 1, "Extract") if version >= "0006" else None
            assert back_up(file).manifest.version == version
        assert schemas.current_version(old) == version
        restored = restore(file, COPY)
        replaced = restore(file, COPY, replace=True)
        assert restored.version == replaced.version == schemas.current_version(COPY) == schemas.latest_version()
        with schema_context(COPY):
            assert fetch_all("SELECT cycle_name, shares_name FROM irp_cycle ORDER BY id") == [
                {"cycle_name": "Q1", "shares_name": True},
                {"cycle_name": "q1", "shares_name": False},
            ]
            assert execute_scalar("SELECT max(id) FROM irp_stage") == step_id
        back_up_and_compare(COPY, file)
    finally:
        schemas.drop(old)


def back_up_and_compare(schema: str, file: Path) -> None:
    """What an upgrade let be, such as names that share their letters, can be restored, too."""
    before = content_of(schema)
    with schema_context(schema):
        back_up(file)
    restore(file, schema, replace=True)
    assert content_of(schema) == before


def test_nothing_is_backed_up_of_a_schema_that_is_not_there(file: Path) -> None:
    with schema_context("nowhere"), pytest.raises(BackupError, match="nothing to back up: the schema 'nowhere'"):
        back_up(file)
    assert not file.exists()


def test_a_backup_is_not_put_over_another_file_nor_among_what_it_packs(test_schema: str, tmp_path: Path) -> None:
    thesis = tmp_path / "thesis.docx"
    thesis.write_text("years of work")
    with pytest.raises(BackupError, match="exists and is not replaced"):
        back_up(thesis)
    assert thesis.read_text() == "years of work"
    with pytest.raises(BackupError, match="is among the files that are backed up"):
        back_up(settings.cycle_dir(test_schema, "Q1") / "irp.zip")


def test_a_backup_that_fails_leaves_the_one_before(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    create_cycle("Q1")
    back_up(file)
    before = file.read_bytes()

    def fail(*_: object) -> None:
        raise DatabaseError("the server is away")

    monkeypatch.setattr(backup, "read_tables", fail)
    with pytest.raises(DatabaseError):
        back_up(file)
    assert file.read_bytes() == before
    assert [path.name for path in file.parent.iterdir()] == ["irp.zip"]


def test_a_backup_with_a_step_at_work_and_a_table_of_somebody_else(test_schema: str, file: Path) -> None:
    fill()
    execute_command("CREATE TABLE irp_note (cycle_id bigint REFERENCES irp_cycle, text text)")
    execute_command("INSERT INTO irp_note SELECT id, 'kept' FROM irp_cycle")
    try:
        cycle_id = execute_scalar("SELECT id FROM irp_cycle WHERE cycle_name = 'Q1'")
        with track_step(get_or_create_step(get_or_create_stage(cycle_id, 1, "Extract"), 1, "Long")):
            back_up(file)
        assert restore(file, COPY).left_out == ("irp_note",)
        with schema_context(COPY):
            assert execute_scalar("SELECT status FROM irp_step_run ORDER BY id DESC LIMIT 1") == "ACTIVE"
    finally:
        execute_command("DROP TABLE irp_note")


def damaged_at(file: Path, member: str) -> None:
    """Change one byte of a member."""
    with zipfile.ZipFile(file) as archive:
        info = archive.getinfo(member)
    content = bytearray(file.read_bytes())
    content[info.header_offset + 30 + len(member.encode()) + 20 + info.compress_size // 2] ^= 0xFF
    file.write_bytes(content)


@pytest.mark.parametrize("member", ["tables/irp_job.copy", "files/Q1/configuration.xlsx", "manifest.json"])
def test_a_damaged_backup_is_refused_before_anything_is_changed(test_schema: str, file: Path, member: str) -> None:
    fill()
    back_up(file)
    verify_backup(file)
    damaged_at(file, member)
    before = content_of(test_schema)
    with pytest.raises(BackupError, match=r"is damaged|cannot be read"):
        restore(file, test_schema, replace=True)
    assert content_of(test_schema) == before
    with pytest.raises(BackupError, match=r"is damaged|cannot be read"):
        verify_backup(file)


def test_half_a_backup_and_what_is_none_are_refused(test_schema: str, file: Path) -> None:
    fill()
    back_up(file)
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BackupError, match="is not a complete backup"):
        restore(file, COPY)
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("thesis.txt", "years of work")
    with pytest.raises(BackupError, match="is not a backup of irp"):
        verify_backup(file)
    with pytest.raises(FileNotFoundError):
        read_manifest(file.with_name("nowhere.zip"))


def rewritten(file: Path, **changes: Any) -> None:
    """Change the manifest of a backup, as somebody could who means harm."""
    import hashlib

    with zipfile.ZipFile(file) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    manifest = json.loads(members["manifest.json"]) | changes
    members["manifest.json"] = json.dumps(manifest).encode()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
        archive.comment = hashlib.sha256(members["manifest.json"]).hexdigest().encode()


def test_a_backup_of_a_newer_version_is_refused(test_schema: str, file: Path) -> None:
    back_up(file)
    rewritten(file, version="9999", made_by="7.0")
    with pytest.raises(BackupError, match=r"version 9999, made by irp-pipeline 7\.0.*install the newer"):
        restore(file, COPY)
    rewritten(file, format=2)
    with pytest.raises(BackupError, match="whose backups this version cannot read"):
        restore(file, COPY)


@pytest.mark.parametrize("path", ["../outside", "/outside", "Q1//x", "Q1/./x", "", "Q1/\0"])
def test_a_backup_writes_nothing_outside_of_the_folder_of_the_cycles(tmp_path: Path, file: Path, path: str) -> None:
    fill()
    back_up(file)
    manifest = json.loads(zipfile.ZipFile(file).read("manifest.json"))
    manifest["entries"][0]["path"] = path
    rewritten(file, entries=manifest["entries"])
    with pytest.raises(BackupError, match="is outside of the folder of the cycles"):
        restore(file, COPY)


def test_a_backup_does_not_write_through_its_own_links(tmp_path: Path, file: Path) -> None:
    fill()
    back_up(file)
    target = tmp_path / "outside"
    target.mkdir()
    manifest = json.loads(zipfile.ZipFile(file).read("manifest.json"))
    content = next(entry for entry in manifest["entries"] if entry["member"])
    link = content | {"path": "Q1/way", "member": None, "target": str(target)}
    rewritten(file, entries=[link, content | {"path": "Q1/way/file"}])
    with pytest.raises(OSError, match="exists"):
        restore(file, COPY)
    assert files_of(target) == {}
    assert schemas.current_version(COPY) is None


def test_a_backup_hands_out_no_file_that_is_not_in_it(tmp_path: Path, file: Path) -> None:
    fill()
    back_up(file)
    (tmp_path / "secret").write_text("secret-word")
    entries = json.loads(zipfile.ZipFile(file).read("manifest.json"))["entries"]
    rewritten(file, entries=[*entries, entries[0] | {"path": "Q1/x", "member": None, "same_as": "../../../secret"}])
    with pytest.raises(BackupError, match="which is not in it"):
        restore(file, COPY)


def test_all_odd_texts_are_in_what_these_tests_back_up(file: Path) -> None:
    fill()
    assert execute_scalar("SELECT output_data -> 'odd' FROM irp_step_run WHERE output_data ? 'odd'") == list(ODD_TEXTS)
    init_database(COPY)
    drop_schema(COPY)
