"""A schema of the old framework becomes one of ours: every row by its id, whole or not at all."""

import json
import os
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg2
import pytest
import sqlalchemy as sa

from irp_pipeline import settings
from irp_pipeline.demo import write_sample
from irp_pipeline.engines import JobPhase
from irp_pipeline.helpers.batch import (
    batches_of_cycle,
    batches_under_way,
    ensure_batch,
    find_current_batch,
    jobs_of_batch,
    recon_batch,
    submit_batch,
    track_batch,
)
from irp_pipeline.helpers.configuration import (
    ConfigurationError,
    LoadedWorkbook,
    activate_configuration,
    find_active_configuration,
)
from irp_pipeline.helpers.constants import BatchStatus, JobStatus
from irp_pipeline.helpers.cycle import (
    CycleError,
    archive_cycle,
    create_cycle,
    get_active_cycle,
    get_cycle_by_name,
    get_step_history,
    list_cycle_names,
)
from irp_pipeline.helpers.database import DatabaseError, dispose_engine, init_database
from irp_pipeline.helpers.db_context import schema_context
from irp_pipeline.helpers.job import skip_job
from irp_pipeline.helpers.messages import stuck_jobs, waiting_batches
from irp_pipeline.helpers.stage import get_or_create_stage
from irp_pipeline.helpers.step import create_step_run, get_or_create_step, track_step, update_step_run
from irp_pipeline.operations.adoption import Adoption, AdoptionError, adopt, adopting, is_of_old_framework
from irp_pipeline.operations.adoption.old_names import TRIGGER
from irp_pipeline.operations.adoption.old_tables import ENUM_TYPES, OLD_TABLES
from irp_pipeline.operations.adoption.rows import NO_REASON, all_repairs
from irp_pipeline.operations.backup import back_up
from irp_pipeline.operations.restore import restore
from irp_pipeline.postgres import schemas
from irp_pipeline_tests.support.blocks import ROOT
from irp_pipeline_tests.support.command import Run
from irp_pipeline_tests.support.old_database import (
    NEWER_COLUMNS,
    TEAM,
    ask,
    connected,
    drop_old_schema,
    everything_in,
    make_old_schema,
)
from irp_pipeline_tests.support.recording_engine import (
    PORTFOLIO,
    analyses,
    engine_of,
    recording_engine,
    write_portfolio,
)

pytestmark = [
    pytest.mark.usefixtures("unsynced_server"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning"),
]

SCHEMA = f"old_{os.getpid()}"
COPY = f"{SCHEMA}_copy"


@pytest.fixture(autouse=True)
def _no_schemas_left() -> Iterator[None]:
    yield
    for schema in (SCHEMA, COPY):
        drop_old_schema(schema)


@pytest.fixture
def old() -> str:
    make_old_schema(SCHEMA, team=TEAM)
    return SCHEMA


def old_content(schema: str, left_out: dict[str, tuple[str, ...]] | None = None) -> dict[str, list[tuple[Any, ...]]]:
    """Return the rows of all tables, by the old names of their columns."""
    found = {}
    for table in OLD_TABLES:
        names = [column.name for column in table.columns if column.name not in (left_out or {}).get(table.name, ())]
        columns = ", ".join(f"{name}::text" for name in names)
        found[table.name] = ask(schema, f"SELECT {columns} FROM {table.name} ORDER BY id")
    return found


# --- the rows -----------------------------------------------------------------------------------------------------


def test_every_row_has_the_same_content_by_its_id(old: str) -> None:
    before = old_content(old)
    assert {name: len(rows) for name, rows in before.items() if not rows} == {}
    done = adopt(old)
    assert old_content(old) == before
    assert done.rows == {name: len(rows) for name, rows in before.items()}
    assert done.repaired == ()
    assert schemas.current_version(old) == done.version == schemas.latest_version()


def test_the_content_is_in_our_columns_too(old: str) -> None:
    adopt(old)
    for table in OLD_TABLES:
        for column in table.staying:
            if column.ours is not None:
                differing = f"SELECT id FROM {table.name} WHERE {column.name} IS DISTINCT FROM {column.ours}"
                assert ask(old, differing) == []


def test_the_earlier_state_is_adopted_too() -> None:
    make_old_schema(SCHEMA, earlier=True)
    before = old_content(SCHEMA, NEWER_COLUMNS)
    adopt(SCHEMA)
    assert old_content(SCHEMA, NEWER_COLUMNS) == before


def test_what_has_no_place_is_kept_with_its_row(old: str) -> None:
    with connected(old) as cursor:
        cursor.execute("ALTER TABLE irp_step ADD COLUMN owner text, ADD COLUMN nothing text")
        cursor.execute("UPDATE irp_step SET owner = 'Zoë' WHERE id = 811")
    adopt(old)
    [(kept,)] = ask(old, "SELECT adopted FROM irp_step WHERE id = 811")
    assert kept == {"requires_batch": False, "owner": "Zoë"}
    [(kept,)] = ask(old, "SELECT adopted FROM irp_job WHERE id = 1")
    assert kept["moodys_workflow_id"] == "W1"
    assert kept["submission_request"] == {"url": "/jobs", "body": {"a": [1, None]}}
    assert set(kept) == {
        *("moodys_workflow_id", "last_tracked_ts", "updated_ts", "submission_request", "submission_response")
    }


def test_new_ids_follow_the_highest_that_was_given(old: str) -> None:
    adopt(old)
    with schema_context(old):
        assert create_cycle("Q2-2024") == 5001
    assert ask(old, "SELECT nextval('irp_job_id_seq')") == [(5001,)]


# --- the schema ---------------------------------------------------------------------------------------------------

STRUCTURE = """
    SELECT 'column', c.relname::text || '.' || a.attname::text,
           row(format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity, a.attgenerated,
               pg_get_expr(d.adbin, d.adrelid))::text
      FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
      LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
     WHERE c.relnamespace = %(schema)s::regnamespace AND c.relkind IN ('r', 'v', 'm')
    UNION ALL
    SELECT 'relation', c.relname::text || ' ' || c.relkind::text, CASE WHEN c.relkind = 'i' THEN pg_get_indexdef(c.oid)
                                                          WHEN c.relkind = 'v' THEN pg_get_viewdef(c.oid) END
      FROM pg_class c WHERE c.relnamespace = %(schema)s::regnamespace
    UNION ALL
    SELECT 'constraint', conrelid::regclass::text || ' ' || conname::text,
           row(pg_get_constraintdef(oid), convalidated)::text
      FROM pg_constraint WHERE connamespace = %(schema)s::regnamespace AND contype <> 'n'
    UNION ALL
    SELECT 'trigger', tgrelid::regclass::text || ' ' || tgname::text, row(pg_get_triggerdef(t.oid), tgenabled)::text
      FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
     WHERE c.relnamespace = %(schema)s::regnamespace AND NOT tgisinternal
    UNION ALL
    SELECT 'function', p.oid::regprocedure::text, prosrc
      FROM pg_proc p WHERE pronamespace = %(schema)s::regnamespace
    UNION ALL
    SELECT 'type', typname::text, NULL FROM pg_type WHERE typnamespace = %(schema)s::regnamespace AND typtype = 'e'
"""


def structure_of(schema: str) -> set[tuple[Any, ...]]:
    with connected(schema) as cursor:
        cursor.execute(STRUCTURE, {"schema": f'"{schema}"'})
        return {tuple(str(value).replace(schema, "S") for value in row) for row in cursor.fetchall()}


@pytest.mark.parametrize("earlier", [False, True])
def test_an_adopted_schema_is_a_fresh_one_with_the_old_names_beside_ours(earlier: bool) -> None:
    make_old_schema(SCHEMA, earlier=earlier)
    adopt(SCHEMA)
    init_database(COPY)
    adopted, fresh = structure_of(SCHEMA), structure_of(COPY)
    assert fresh - adopted == set()
    extra = {(kind, name) for kind, name, _ in adopted - fresh}
    with_triggers = {table.name for table in OLD_TABLES} - {"irp_cycle", "irp_stage", "irp_step"}
    assert extra == {
        *(("column", f"{table.name}.{column.name}") for table in OLD_TABLES for column in table.staying),
        *(("type", name) for name in ENUM_TYPES),
        *(("trigger", f"{name} {TRIGGER}") for name in with_triggers),
        *(("function", f"{TRIGGER}_of_{name}()") for name in with_triggers),
    }
    assert ask(SCHEMA, "SELECT version_num FROM irp_schema_version") == [(schemas.latest_version(),)]


def test_a_second_time_changes_nothing(old: str) -> None:
    adopt(old)
    before = everything_in(old)
    done = adopt(old)
    assert done.was_done
    assert everything_in(old) == before
    init_database(old)
    assert everything_in(old) == before


def test_of_two_at_once_one_adopts_and_the_other_finds_it_done(old: str) -> None:
    content = old_content(old)
    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(adopt, [old, old]))
    assert sorted(found.was_done for found in done) == [False, True]
    assert old_content(old) == content


def test_a_rehearsal_says_the_same_and_changes_nothing(old: str) -> None:
    before = everything_in(old)
    rehearsed = adopt(old, dry_run=True)
    assert everything_in(old) == before
    assert is_of_old_framework(old)
    assert adopt(old) == rehearsed


def test_a_copy_leaves_the_old_schema_as_it_is(old: str) -> None:
    before, content = everything_in(old), old_content(old)
    done = adopt(old, COPY)
    assert (done.source, done.schema, done.views, done.foreign_keys) == (old, COPY, (), ())
    assert everything_in(old) == before
    assert old_content(COPY) == content
    assert ask(COPY, "SELECT count(*) FROM irp_job WHERE status = 'FAILED'::job_status_enum") == [(16,)]
    with pytest.raises(AdoptionError, match=f"{COPY}' has tables already"):
        adopt(old, COPY)


def test_a_schema_without_such_tables_is_refused() -> None:
    with pytest.raises(AdoptionError, match="it does not exist"):
        adopt(SCHEMA)
    with connected("public") as cursor:
        cursor.execute(f"CREATE SCHEMA {SCHEMA}")
    with pytest.raises(AdoptionError, match="it does not have them"):
        adopt(SCHEMA)
    make_old_schema(SCHEMA)
    with connected(SCHEMA) as cursor:
        cursor.execute("ALTER TABLE irp_batch DROP COLUMN batch_type")
    with pytest.raises(AdoptionError, match=r"no column irp_batch\.batch_type"):
        adopt(SCHEMA)


def test_it_says_so_when_somebody_works_with_the_tables(old: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adopting, "_LOCK_SECONDS", 1)
    with connected(old) as cursor:
        cursor.execute("UPDATE irp_cycle SET status = 'ACTIVE' WHERE id = 8")
        with pytest.raises(AdoptionError, match="Somebody works with the tables"):
            adopt(old)
    adopt(old)


# --- interruptions ------------------------------------------------------------------------------------------------


def at_statement(number: int, act: Callable[[Any], None]) -> Callable[[], None]:
    """Do something before the n-th statement of the adoption, counting the commit as the last one."""
    passed = 0

    def count(cursor: Any) -> None:
        nonlocal passed
        passed += 1
        if passed == number:
            act(cursor)

    def before_statement(connection: Any, cursor: Any, *_: Any) -> None:
        count(cursor)

    def before_commit(connection: Any) -> None:
        count(connection.connection.cursor())

    listened = (("before_cursor_execute", before_statement), ("commit", before_commit))
    for name, listener in listened:
        sa.event.listen(sa.Engine, name, listener)

    def stop() -> None:
        for name, listener in listened:
            sa.event.remove(sa.Engine, name, listener)

    return stop


def killed_at(number: int) -> bool:
    """Adopt in a child that SIGKILL ends before its n-th statement; tell whether it came to that."""
    child = os.fork()
    if child == 0:
        try:
            at_statement(number, lambda _: os.kill(os.getpid(), signal.SIGKILL))
            adopt(SCHEMA)
            os._exit(0)
        finally:
            os._exit(1)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in {0, -signal.SIGKILL}
    return status != 0


def test_a_process_killed_before_any_statement_leaves_the_schema_as_it_was(old: str) -> None:
    before = everything_in(old)
    adopt(old, dry_run=True)  # loads all modules, once for all children
    dispose_engine()
    number = 1
    while killed_at(number):
        # The commit is the last statement of the transaction. What follows it makes the queue.
        if not is_of_old_framework(old):
            break
        assert everything_in(old) == before, f"before statement {number}"
        number += 1
    assert number > 60
    assert adopt(old).was_done
    assert old_content(old)["irp_job"]


def test_a_session_ended_before_any_statement_leaves_the_schema_as_it_was(old: str) -> None:
    before = everything_in(old)

    def end_session(cursor: Any) -> None:
        pid = cursor.connection.info.backend_pid
        ask("public", "SELECT pg_terminate_backend(%s, 10000)", pid)

    number = 1
    while True:
        stop = at_statement(number, end_session)
        try:
            adopt(old)
        except (DatabaseError, psycopg2.Error):
            pass
        else:
            break
        finally:
            stop()
        if not is_of_old_framework(old):
            break
        assert everything_in(old) == before, f"before statement {number}"
        number += 3
    assert number > 60
    assert adopt(old).was_done


# --- repairs ------------------------------------------------------------------------------------------------------

MISFITS = """
INSERT INTO irp_cycle (id, cycle_name, status, created_ts, archived_ts) VALUES
    (101, 'Q4 2022 (final)/..', 'ARCHIVED', NULL, NULL), (102, 'q1-2024', 'ACTIVE', '2023-01-01', NULL),
    (103, 'Reopened', 'ACTIVE', '2023-01-01', '2023-02-01'), (104, 'Unknown', NULL, '2023-01-01', '2023-02-01');
INSERT INTO irp_stage (id, cycle_id, stage_num, stage_name, created_ts) VALUES (1001, 101, 1, 'Setup', NULL);
INSERT INTO irp_step (id, stage_id, step_num, step_name, created_ts) VALUES (10001, 1001, 1, 'Begin', NULL);
INSERT INTO irp_step_run (id, step_id, run_num, status, started_ts, completed_ts) VALUES
    (2001, 10001, 1, 'FAILED', '2022-12-01', '2022-12-01'), (2002, 10001, 2, 'FAILED', '2022-12-02', '2022-12-02'),
    (2003, 10001, 2, 'COMPLETED', '2022-12-03', '2022-12-03'), (2004, 10001, 3, NULL, NULL, '2022-12-04'),
    (2005, 10001, 7, NULL, '2022-12-05', NULL);
INSERT INTO irp_configuration (id, cycle_id, configuration_file_name, configuration_data, status, created_ts,
                               updated_ts) VALUES
    (3001, 101, 'a.xlsx', '{"a": 1}', 'ACTIVE', NULL, NULL), (3002, 101, 'b.xlsx', '{"b": 1}', 'ACTIVE', now(), now()),
    (3003, 101, 'c.xlsx', NULL, 'VALID', now(), now()), (3004, 101, 'd.xlsx', NULL, NULL, now(), now());
INSERT INTO irp_batch (id, step_id, configuration_id, batch_type, status, created_ts) VALUES
    (4001, 10001, 3001, 'Analysis', 'ACTIVE', NULL), (4002, 10001, 3001, 'Analysis', 'INITIATED', now()),
    (4003, 10001, 3001, 'Analysis', 'ACTIVE', now()), (4004, 10001, 3001, 'Analysis', NULL, now()),
    (4005, 10001, 3001, 'Analysis', 'FAILED', now());
ALTER TABLE irp_job_configuration ALTER job_configuration_data DROP NOT NULL;
INSERT INTO irp_job_configuration (id, batch_id, configuration_id, job_configuration_data, skipped, overridden,
                                   created_ts) VALUES
    (5001, 4001, 3001, NULL, NULL, NULL, NULL), (5002, 4001, 3001, '{}', false, true, now());
INSERT INTO irp_job (id, batch_id, job_configuration_id, status, skipped, parent_job_id, created_ts) VALUES
    (6001, 4001, 5001, NULL, NULL, 999999, NULL), (6002, 4001, 5002, 'FAILED', false, 6002, now()),
    (6003, 4001, 5002, 'FAILED', false, 6004, now()), (6004, 4001, 5002, 'FAILED', false, 6003, now());
ALTER TABLE irp_batch_recon_log ALTER recon_result DROP NOT NULL;
INSERT INTO irp_batch_recon_log (id, batch_id, recon_ts, recon_result, recon_summary) VALUES
    (7001, 4001, NULL, NULL, NULL);
ALTER TABLE irp_job_tracking_log ALTER job_status DROP NOT NULL;
INSERT INTO irp_job_tracking_log (id, job_id, job_status, tracked_ts) VALUES (8001, 6001, NULL, NULL);
"""


def test_every_repair_is_made_named_and_keeps_the_original(old: str) -> None:
    with connected(old) as cursor:
        cursor.execute(MISFITS)
    done = adopt(old)
    assert {(repaired.table, repaired.repair) for repaired in done.repaired} == {
        (table, repair.name) for table, repair in all_repairs()
    }

    def now(table: str, column: str, row_id: int) -> tuple[Any, ...]:
        query = f"SELECT {column}, adopted -> 'repaired' FROM {table} WHERE id = %s"
        return ask(old, query, row_id)[0]

    runs = ask(old, "SELECT id, run_num, status FROM irp_step_run WHERE step_id = 10001 ORDER BY run_num")
    assert runs == [
        *((2001, 1, "FAILED"), (2002, 2, "FAILED"), (2003, 3, "COMPLETED"), (2004, 4, "COMPLETED")),
        (2005, 7, "FAILED"),
    ]
    assert now("irp_step_run", "run_num", 2003) == (3, {"doubled_run_number": {"run_num": 2}})
    assert now("irp_batch", "status", 4003) == ("ACTIVE", None)
    assert now("irp_batch", "status", 4001) == (
        "CANCELLED",
        {"several_batches_under_way": {"status": "ACTIVE"}, "missing_created_ts": {"created_ts": None}},
    )
    assert now("irp_configuration", "status", 3001)[0] == "VALID"
    assert now("irp_configuration", "status", 3002) == ("ACTIVE", None)
    assert now("irp_job_configuration", "override_reason", 5002) == (
        NO_REASON,
        {"override_without_reason": {"override_reason_txt": None}},
    )
    assert now("irp_job", "parent_job_id", 6001)[1]["no_such_earlier_job"] == {"parent_job_id": 999999}
    assert [now("irp_job", "parent_job_id", row)[0] for row in (6002, 6003, 6004)] == [None, None, 6003]
    archived, repaired = now("irp_cycle", "archived_ts::date::text", 101)
    assert archived == "2022-12-05"
    assert repaired["unusual_name"] == {"cycle_name": "Q4 2022 (final)/.."}
    status, repaired = now("irp_cycle", "status", 103)
    assert (status, list(repaired)) == ("ACTIVE", ["archiving_time_of_open_cycle"])
    assert now("irp_cycle", "status", 104)[0] == "ARCHIVED"
    with schema_context(old):
        assert get_cycle_by_name("Q4 2022 (final)/..") is not None
        assert {"q1-2024", "Q1-2024"} <= set(list_cycle_names())
        assert create_step_run(10001, "somebody")[1] == 8


def test_rows_without_a_repair_are_listed_and_nothing_is_changed(old: str) -> None:
    with connected(old) as cursor:
        cursor.execute(
            """
            ALTER TABLE irp_step_run DROP CONSTRAINT irp_step_run_step_id_fkey;
            INSERT INTO irp_step_run (id, step_id, run_num) VALUES (2001, 424242, 1);
            ALTER TABLE irp_stage DROP CONSTRAINT irp_stage_cycle_id_stage_num_key;
            INSERT INTO irp_stage (id, cycle_id, stage_num, stage_name)
            VALUES (2002, 8, 1, 'Again'), (2003, 8, -1, 'x');
            DROP VIEW v_irp_cycle, v_irp_job; DROP INDEX idx_batch_open;
            ALTER TABLE irp_job ALTER status DROP DEFAULT, ALTER status TYPE varchar(50);
            UPDATE irp_job SET status = 'LOST' WHERE id = 7;
            """
        )
    before = everything_in(old)
    with pytest.raises(AdoptionError) as refused:
        adopt(old)
    assert everything_in(old) == before
    lines = str(refused.value).splitlines()
    assert "5 of its rows have no repair" in lines[0]
    assert [line.strip() for line in lines[1:]] == [
        "irp_stage 2003: stage_num is -1, which is below 0",
        "irp_stage 81: another row has the stage_num 1 for the same cycle_id",
        "irp_stage 2002: another row has the stage_num 1 for the same cycle_id",
        "irp_step_run 2001: step_id is 424242, and there is no such row in irp_step",
        "irp_job 7: status is LOST, which is no status",
    ]


# --- what the team has built ---------------------------------------------------------------------------------------


def name_now(done: Adoption, view: str) -> str:
    """Return the name of a view of the team: another one, if we have one of that name."""
    return (done.renamed_views or {}).get(view, view)


def test_foreign_keys_views_and_triggers_of_the_team_go_on(old: str) -> None:
    views = [ask(old, f"SELECT v::text FROM {name} v ORDER BY 1") for name in ("v_irp_job", "v_irp_cycle")]
    approvals = ask(old, "SELECT cycle, job_id, remark FROM approval ORDER BY job_id")
    done = adopt(old)
    assert done.views == (f"{old}.v_irp_job", f"{old}.v_irp_cycle")
    names = [name_now(done, view) for view in done.views]
    assert [ask(old, f"SELECT v::text FROM {name} v ORDER BY 1") for name in names] == views
    assert ask(old, "SELECT cycle, job_id, remark FROM approval ORDER BY job_id") == approvals
    with pytest.raises(psycopg2.errors.ForeignKeyViolation), connected(old) as cursor:
        cursor.execute("INSERT INTO approval VALUES (424242)")
    job = approvals[0][1]
    ask(old, "UPDATE irp_job SET status = 'FINISHED' WHERE id = %s", job)
    assert ask(old, "SELECT job FROM team_changes") == [(job,)]
    ask(old, "DELETE FROM irp_cycle WHERE id = 8")
    assert ask(old, "SELECT * FROM approval") == []


def test_materialised_views_options_and_types_in_another_schema_stay(old: str) -> None:
    with connected(old) as cursor:
        cursor.execute(
            f"""
            CREATE MATERIALIZED VIEW per_status AS SELECT status, count(*) AS jobs FROM irp_job GROUP BY status;
            CREATE UNIQUE INDEX per_status_once ON per_status (status);
            CREATE VIEW failed WITH (security_barrier = true) AS
            SELECT id FROM irp_job WHERE status = ANY(ARRAY['FAILED', 'ERROR']::job_status_enum[]);
            CREATE SCHEMA {COPY};
            ALTER TYPE job_status_enum SET SCHEMA {COPY};
            """
        )
    adopt(old)
    assert len(ask(old, "SELECT * FROM per_status")) == 11
    ask(old, "REFRESH MATERIALIZED VIEW CONCURRENTLY per_status")
    assert ask(old, "SELECT count(*) FROM failed") == [(32,)]
    assert ask(old, "SELECT reloptions FROM pg_class WHERE oid = 'failed'::regclass") == [(["security_barrier=true"],)]


def test_names_that_must_be_quoted_are() -> None:
    odd = f'Old "%s" {SCHEMA}'
    quoted = odd.replace('"', '""')
    make_old_schema(quoted, team=TEAM)
    try:
        assert adopt(odd, dry_run=True) == adopt(odd)
        assert ask(quoted, "SELECT count(*) FROM irp_job") == [(208,)]
        ask(quoted, "UPDATE irp_job SET last_error = 'x' WHERE id = 1")
        assert ask(quoted, "SELECT error_message FROM irp_job WHERE id = 1") == [("x",)]
    finally:
        drop_old_schema(quoted)


def test_the_owner_of_the_tables_adopts_public_without_being_a_superuser(monkeypatch: pytest.MonkeyPatch) -> None:
    role, admin = f"old_owner_{os.getpid()}", settings.database_url()

    def as_administrator(statement: str) -> None:
        with closing(
            psycopg2.connect(admin.set(drivername="postgresql").render_as_string(hide_password=False))
        ) as made:
            made.autocommit = True
            made.cursor().execute(statement)

    as_administrator(f"CREATE ROLE {role} LOGIN PASSWORD 'made-up'")
    as_administrator(f"CREATE DATABASE {role} OWNER {role}")
    try:
        own = admin.set(username=role, password="made-up", database=role)
        monkeypatch.setenv("IRP_DATABASE_URL", own.render_as_string(hide_password=False))
        dispose_engine()
        make_old_schema("public", team=TEAM)
        content = old_content("public")
        adopt("public")
        assert old_content("public") == content
        with schema_context("public"):
            assert get_active_cycle() is not None
    finally:
        dispose_engine()
        as_administrator(f"DROP DATABASE {role} WITH (FORCE)")
        as_administrator(f"DROP ROLE {role}")


def test_rights_of_other_roles_stay(old: str) -> None:
    role = f"reader_{os.getpid()}"
    with connected(old) as cursor:
        cursor.execute(f"CREATE ROLE {role}; GRANT SELECT ON irp_cycle, v_irp_job TO {role}")
        cursor.execute("GRANT UPDATE ON irp_job TO PUBLIC")
    try:
        done = adopt(old)
        query = "SELECT has_table_privilege(%s, %s, %s)"
        wanted = [("irp_cycle", "SELECT", True), ("irp_cycle", "UPDATE", False), ("irp_job", "UPDATE", True)]
        jobs, cycles = (name_now(done, f"{old}.{name}") for name in ("v_irp_job", "v_irp_cycle"))
        for table, right, has in [*wanted, (jobs, "SELECT", True), (cycles, "SELECT", False)]:
            assert ask(old, query, role, table, right) == [(has,)]
    finally:
        ask(old, f"DROP OWNED BY {role}; DROP ROLE {role}")


def test_a_view_that_cannot_be_made_anew_is_named_and_nothing_is_changed(old: str) -> None:
    with connected(old) as cursor:
        cursor.execute("CREATE VIEW narrow AS SELECT coalesce(status, 'ERROR'::job_status_enum) AS s FROM irp_job")
    before = everything_in(old)
    with pytest.raises(AdoptionError, match=rf"the view {old}\.narrow: .*Nothing was changed"):
        adopt(old)
    assert everything_in(old) == before


def test_a_view_of_a_name_that_we_have_gets_another_one(old: str) -> None:
    with connected(old) as cursor:
        cursor.execute("CREATE VIEW irp_message AS SELECT cycle_name FROM irp_cycle")
        cursor.execute("CREATE VIEW reads_it AS SELECT upper(cycle_name) AS name FROM irp_message")
    done = adopt(old)
    assert name_now(done, f"{old}.irp_message") == f"{old}.irp_message_before"
    assert len(ask(old, "SELECT * FROM irp_message_before")) == 3
    assert len(ask(old, "SELECT name FROM reads_it")) == 3
    assert ask(old, "SELECT message_key FROM irp_message") == []


def test_whatever_else_depends_on_the_tables_is_named(old: str) -> None:
    with connected(old) as cursor:
        cursor.execute("CREATE FUNCTION first_name(irp_cycle) RETURNS text LANGUAGE sql AS $$ SELECT 'x'::text $$")
    with pytest.raises(AdoptionError, match=r"function .*first_name.* depends on"):
        adopt(old)
    assert is_of_old_framework(old)


# --- statements of old notebooks ------------------------------------------------------------------------------------


def test_old_statements_read_and_write_the_old_columns(old: str) -> None:
    adopt(old)
    one = ask(
        old,
        """
        INSERT INTO irp_configuration (cycle_id, configuration_file_name, configuration_data, status,
                                       file_last_updated_ts)
        VALUES (8, '/data/x.xlsx', '{"Metadata": {}}', 'VALID'::configuration_status_enum, now())
        RETURNING id, file_name
        """,
    )
    configuration = one[0][0]
    assert one[0][1] == "/data/x.xlsx"
    [(batch,)] = ask(
        old,
        "INSERT INTO irp_batch (step_id, configuration_id, batch_type, status) VALUES (841, %s, 'Mine', 'INITIATED') "
        "RETURNING id",
        configuration,
    )
    [(job_configuration, reason)] = ask(
        old,
        "INSERT INTO irp_job_configuration (batch_id, configuration_id, job_configuration_data, overridden, "
        "override_reason_txt, parent_job_configuration_id) VALUES (%s, %s, '{}', true, 'tried', 1) "
        "RETURNING id, override_reason",
        batch,
        configuration,
    )
    assert reason == "tried"
    [(job,)] = ask(
        old,
        "INSERT INTO irp_job (batch_id, job_configuration_id, status, skipped, parent_job_id) "
        "VALUES (%s, %s, 'INITIATED', false, NULL) RETURNING id",
        batch,
        job_configuration,
    )
    written = "moodys_workflow_id = '77', last_error = 'no licence', status = 'ERROR'"
    ask(old, f"UPDATE irp_job SET {written} WHERE id = %s", job)
    assert ask(old, "SELECT error_message, status FROM irp_job WHERE id = %s", job) == [("no licence", "ERROR")]
    ask(old, "UPDATE irp_job SET error_message = 'again' WHERE id = %s", job)
    assert ask(old, "SELECT last_error, moodys_workflow_id FROM irp_job WHERE id = %s", job) == [("again", "77")]
    assert ask(
        old,
        "INSERT INTO irp_job_tracking_log (job_id, moodys_workflow_id, job_status, tracking_data) "
        "VALUES (%s, '77', 'RUNNING', '{}') RETURNING status, logged_ts IS NOT DISTINCT FROM tracked_ts",
        job,
    ) == [("RUNNING", True)]
    assert ask(
        old,
        "INSERT INTO irp_batch_recon_log (batch_id, recon_result, recon_summary) VALUES (%s, 'ERROR', %s) "
        "RETURNING status, job_counts",
        batch,
        '{"failed": 1}',
    ) == [("ERROR", {"failed": 1})]


def test_old_enum_values_still_compare(old: str) -> None:
    adopt(old)
    count = "SELECT count(*) FROM irp_cycle WHERE "
    for condition, found in (
        ("status = 'ARCHIVED'::cycle_status_enum", 2),
        ("'ARCHIVED'::cycle_status_enum = status", 2),
        ("status <> 'ARCHIVED'::cycle_status_enum", 1),
        ("status IN ('ACTIVE'::cycle_status_enum)", 1),
        ("status = ANY(ARRAY['ACTIVE', 'ARCHIVED']::cycle_status_enum[])", 3),
        ("status::cycle_status_enum = 'ACTIVE'", 1),
    ):
        assert ask(old, count + condition) == [(found,)], condition
    ask(old, "UPDATE irp_cycle SET status = 'ARCHIVED'::cycle_status_enum WHERE id = 8")
    assert ask(old, "SELECT archived_ts IS NOT NULL FROM irp_cycle WHERE id = 8") == [(True,)]


def test_old_clients_that_count_runs_themselves_and_ours_take_turns(old: str) -> None:
    adopt(old)
    theirs = (
        "INSERT INTO irp_step_run (step_id, run_num, status) "
        "SELECT 811, coalesce(max(run_num), 0) + 1, 'ACTIVE' FROM irp_step_run WHERE step_id = 811 RETURNING run_num"
    )
    with schema_context(old):
        assert create_step_run(811, "ours")[1] == 5
        assert ask(old, theirs) == [(6,)]
        assert create_step_run(811, "ours")[1] == 7
        with track_step(811) as run:
            assert run.run_num == 8
        assert ask(old, theirs) == [(9,)]


# --- going on -------------------------------------------------------------------------------------------------------


def test_an_open_cycle_goes_on_with_the_helpers(old: str) -> None:
    adopt(old)
    with schema_context(old):
        # Nobody waits for the jobs at the vendor.
        assert (batches_under_way(), stuck_jobs(), waiting_batches()) == ([], [], [])
        cycle = get_active_cycle()
        assert cycle is not None
        assert (cycle["id"], cycle["cycle_name"]) == (8, "Q1-2024")
        assert get_or_create_stage(8, 1, "Setup") == 81
        assert get_or_create_step(81, 2, "Step 2") == 812
        run_id, run_num = create_step_run(812, "Zoë")
        assert run_num == 5
        assert update_step_run(run_id, "COMPLETED", output_data={"rows": 1})


def test_an_open_cycle_gets_a_workbook_and_its_jobs_run(old: str, tmp_path: Path) -> None:
    adopt(old)
    with schema_context(old), recording_engine(tmp_path):
        before = find_active_configuration(8)
        assert before is not None
        with pytest.raises(ConfigurationError, match="of the old framework"):
            before.workbook()
        write_portfolio("Q1-2024")
        data = {"metadata": {"currency": "EUR"}, "portfolios": [{"name": PORTFOLIO}], "analyses": analyses(2)}
        workbook = LoadedWorkbook(tmp_path / "configuration.xlsx", "of a new workbook", data)
        configuration = activate_configuration(8, workbook)
        batch = ensure_batch("analysis", configuration, get_or_create_step(81, 3, "Create batches"))
        assert submit_batch(batch) == 2
        for key in engine_of("Q1-2024").requests():
            engine_of("Q1-2024").let(key, JobPhase.FINISHED)
        track_batch(batch)
        assert recon_batch(batch) is BatchStatus.COMPLETED
        # The jobs at the vendor count as being at work, until somebody says how they ended, or leaves them out.
        running = [job.id for job in jobs_of_batch(802) if job.status is JobStatus.RUNNING]
        skip_job(running[0], "stays at the vendor")
        assert ask(old, "SELECT skipped FROM irp_job WHERE id = %s", running[0]) == [(True,)]
        with pytest.raises(CycleError, match="at work"):
            archive_cycle(8)
        assert archive_cycle(8, force=True)
        assert ask(old, "SELECT count(*) FROM irp_job WHERE status = 'RUNNING' AND batch_id > 800") == [(0,)]
    last = ask(old, "SELECT last_error, updated_ts IS NOT NULL FROM irp_job WHERE batch_id = %s", batch)
    assert last == [(None, True)] * 2


def test_an_open_cycle_goes_on_in_the_pipeline(old: str) -> None:
    from dagster import DagsterInstance

    from irp_pipeline.definitions import definitions

    adopt(old)
    settings.make_irp_home()
    folder = settings.cycle_dir(old, "Q1-2024")
    write_sample(folder)
    try:
        with DagsterInstance.ephemeral() as instance:
            result = definitions.get_job_def("run_cycle").execute_in_process(
                run_config={
                    "resources": {"database": {"config": {"db_schema": old}}},
                    "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
                },
                instance=instance,
                tags={"dagster/partition": "Q1-2024"},
                op_selection=["setup", "extract", "process"],
                raise_on_error=False,
            )
        assert result.success
        with schema_context(old):
            history = get_step_history("Q1-2024")
            assert set(history["step_name"]) >= {"Step 1", "Create batches", "Build portfolios"}
            assert find_current_batch(8) is not None
            assert [batch.id for batch in batches_of_cycle(8)][:3] == [801, 802, 803]
    finally:
        shutil.rmtree(folder)


# --- the command ----------------------------------------------------------------------------------------------------


def test_the_commands_recognise_such_a_schema_and_say_what_to_do(old: str, irp: Run) -> None:
    for command in ("init", "upgrade"):
        refused = irp("db", command, "--db-schema", old, status=1)
        assert "irp db adopt" in refused.stderr
    found = irp("doctor", "--db-schema", old, "--json", status=1)
    tables = [finding for finding in json.loads(found.stdout)["findings"] if finding["subject"] == "Tables"]
    assert [(finding["state"], finding["found"]) for finding in tables] == [
        ("wrong", "those of the old framework, with its cycles")
    ]
    assert f"irp db adopt --dry-run --db-schema {old}" in tables[0]["remedy"]


def test_the_command_rehearses_asks_adopts_and_is_done(old: str, irp: Run) -> None:
    rehearsed = irp("db", "adopt", "--dry-run", "--db-schema", old)
    assert f"Would adopt schema '{old}': 751 rows" in rehearsed.stdout
    assert "Nothing was changed" in rehearsed.stderr
    assert "needs a yes" in irp("db", "adopt", "--db-schema", old, status=1).stderr
    done = json.loads(irp("db", "adopt", "--yes", "--json", "--db-schema", old).stdout)
    assert (done["rows"]["irp_job"], done["was_done"], done["dry_run"]) == (208, False, False)
    assert "nothing to do" in irp("db", "adopt", "--db-schema", old).stdout


def test_show_shows_what_was_kept(old: str, irp: Run) -> None:
    with connected(old) as cursor:
        cursor.execute("UPDATE irp_step_run SET run_num = 1 WHERE step_id = 811 AND run_num = 2")
    adopt(old)
    job = irp("job", "show", "1", "--db-schema", old)
    assert "moodys_workflow_id" in job.stdout
    shown = json.loads(irp("job", "show", "1", "--db-schema", old, "--json").stdout)
    assert {kept["table"] for kept in shown["adopted"]} == {
        *("irp_job", "irp_job_configuration", "irp_job_tracking_log")
    }
    shown = json.loads(irp("batch", "show", "802", "--db-schema", old, "--json").stdout)
    assert [(kept["table"], kept["id"]) for kept in shown["adopted"]] == [("irp_batch", 802)]
    shown = json.loads(irp("cycle", "show", "Q1-2024", "--db-schema", old, "--json").stdout)
    kept = {(kept["table"], kept["id"]): kept["adopted"] for kept in shown["adopted"]}
    assert kept["irp_step", 812] == {"requires_batch": True}
    assert {"repaired": {"doubled_run_number": {"run_num": 1}}} in kept.values()
    assert "doubled_run_number" in irp("cycle", "show", "Q1-2024", "--db-schema", old).stdout


def test_a_cycle_with_an_unusual_name_can_be_shown(old: str, irp: Run) -> None:
    ask(old, "UPDATE irp_cycle SET cycle_name = 'Q3 2023/final' WHERE id = 3")
    adopt(old)
    assert "unusual_name" in irp("cycle", "show", "Q3 2023/final", "--db-schema", old).stdout
    assert "Q3 2023/final" in irp("cycle", "list", "--db-schema", old).stdout
    for command in ("status", "history", "batch list", "job list", "results"):
        irp(*command.split(), "Q3 2023/final", "--db-schema", old)
    of_cycle = "FROM irp_batch b JOIN irp_configuration f ON f.id = b.configuration_id WHERE f.cycle_id = 3"
    ((batch,),) = ask(old, f"SELECT min(b.id) {of_cycle}")
    ((job,),) = ask(old, f"SELECT min(id) FROM irp_job WHERE batch_id IN (SELECT b.id {of_cycle})")
    irp("batch", "show", batch, "--db-schema", old)
    irp("job", "show", job, "--db-schema", old)
    # What needs files of the cycle says that there are none, in a line.
    for command in ("report", "explain"):
        said = irp(command, "Q3 2023/final", "--db-schema", old, status=1).output
        assert said.startswith("Error: ")
        assert "Traceback" not in said
    irp("cycle", "show", "Q4 2023/final", "--db-schema", old, status=2)
    irp("cycle", "create", "Q3 2023/final", "--db-schema", old, status=1)
    with pytest.raises(psycopg2.errors.CheckViolation):
        ask(old, "INSERT INTO irp_cycle (cycle_name) VALUES ('Q4 2023/final')")


@pytest.mark.parametrize("replaced", ["nothing", "a fresh schema", "itself"])
def test_a_backup_of_an_adopted_schema_is_restored_with_its_old_names(old: str, tmp_path: Path, replaced: str) -> None:
    adopt(old)
    with schema_context(old):
        back_up(tmp_path / "irp.zip")
    ask(old, "DROP TABLE approval")  # rows that it refers to are not replaced
    target = old if replaced == "itself" else COPY
    if replaced == "a fresh schema":
        init_database(COPY)
    content = old_content(old)
    ask(old, "UPDATE irp_job SET last_error = 'changed since'")
    restore(tmp_path / "irp.zip", target, replace=replaced != "nothing", force=True)
    assert old_content(target) == content
    ask(target, "UPDATE irp_job SET last_error = 'in step' WHERE id = 1")
    assert ask(target, "SELECT error_message FROM irp_job WHERE id = 1") == [("in step",)]
    assert ask(target, "SELECT count(*) FROM irp_cycle WHERE status = 'ACTIVE'::cycle_status_enum") == [(1,)]


def test_the_page_lists_every_repair() -> None:
    page = (ROOT / "docs" / "moving-in.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| `(\w+)` \|", page, re.MULTILINE)
    assert sorted(rows) == sorted((repair.name, table) for table, repair in all_repairs())
