"""Making and migrating schemas: by many at once, more than once, interrupted, and over what somebody else put there."""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import psycopg2
import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy.dialects.postgresql.psycopg2 import PGDialect_psycopg2

from irp_pipeline import settings
from irp_pipeline.helpers.database import DatabaseError, drop_schema, fetch_all, init_database, transaction
from irp_pipeline.helpers.db_context import schema_context
from irp_pipeline.helpers.stage import get_or_create_stage
from irp_pipeline.helpers.step import get_or_create_step, track_step
from irp_pipeline.postgres import schemas
from irp_pipeline_tests.support.waiting import wait_until

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")

PREFIX = f"init_{os.getpid()}"

Ask = Callable[..., list[tuple[Any, ...]]]


@contextlib.contextmanager
def connection() -> Iterator[Ask]:
    """A connection that the code under test knows nothing of, in a transaction."""
    args, kwargs = PGDialect_psycopg2().create_connect_args(settings.database_url())
    with closing(psycopg2.connect(*args, **kwargs)) as made, made.cursor() as cursor:

        def ask(query: str, *values: object) -> list[tuple[Any, ...]]:
            cursor.execute(query, values or None)
            return cursor.fetchall() if cursor.description else []

        yield ask
        made.commit()


def ask(query: str, *values: object) -> list[tuple[Any, ...]]:
    with connection() as ask_once:
        return ask_once(query, *values)


@pytest.fixture
def schema() -> Iterator[str]:
    name = f"{PREFIX}_schema"
    ask(f"DROP SCHEMA IF EXISTS {name} CASCADE")
    yield name
    ask(f"DROP SCHEMA IF EXISTS {name} CASCADE")


def everything_in(schema: str) -> list[tuple[Any, ...]]:
    """Each relation with its columns, constraints and identity, so that one that was made anew is another one."""
    return ask(
        """
        SELECT c.oid, c.relname, c.relkind, c.relfilenode,
               (SELECT array_agg(row(attname, atttypid, attnotnull)::text ORDER BY attnum)
                  FROM pg_attribute WHERE attrelid = c.oid AND NOT attisdropped),
               (SELECT array_agg(row(conname, pg_get_constraintdef(oid))::text ORDER BY conname)
                  FROM pg_constraint WHERE conrelid = c.oid)
          FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE n.nspname = %s ORDER BY c.relname
        """,
        schema,
    )


def tables_in(schema: str) -> set[str]:
    return {name for _, name, kind, *_ in everything_in(schema) if kind == "r"}


# --- once and again -----------------------------------------------------------------------------------------------


def test_a_schema_is_made_with_its_tables_at_the_newest_version(schema):
    assert schemas.current_version(schema) is None
    init_database(schema)
    assert {"irp_cycle", "irp_stage", "irp_step", "irp_step_run", "irp_schema_version"} <= tables_in(schema)
    assert schemas.current_version(schema) == schemas.latest_version()


def test_the_newest_version_is_the_one_alembic_takes_for_it():
    config = Config()
    config.set_main_option("script_location", "irp_pipeline:migrations")
    config.set_main_option("path_separator", "os")
    script = ScriptDirectory.from_config(config)
    assert script.get_heads() == [schemas.latest_version()]


def test_the_context_names_the_schema_to_make(schema):
    with schema_context(schema):
        init_database()
    assert "irp_cycle" in tables_in(schema)


def test_a_second_time_changes_nothing(schema):
    init_database(schema)
    ask(f"INSERT INTO {schema}.irp_cycle (cycle_name) VALUES ('Q1')")
    before = everything_in(schema)
    init_database(schema)
    assert everything_in(schema) == before
    assert ask(f"SELECT cycle_name FROM {schema}.irp_cycle") == [("Q1",)]


def test_an_existing_schema_keeps_what_else_is_in_it(schema):
    ask(f"CREATE SCHEMA {schema}; CREATE TABLE {schema}.mine AS SELECT 1 AS one")
    init_database(schema)
    assert ask(f"SELECT one FROM {schema}.mine") == [(1,)]
    assert "irp_cycle" in tables_in(schema)


def test_nothing_of_it_appears_in_public(schema):
    before = everything_in("public")
    init_database(schema)
    assert everything_in("public") == before


def test_it_is_refused_inside_of_a_transaction(schema):
    init_database(schema)
    with transaction(schema), pytest.raises(DatabaseError, match="inside a transaction"):
        init_database(f"{schema}_more")
    assert schemas.current_version(f"{schema}_more") is None


# --- many at once -------------------------------------------------------------------------------------------------


def initialise(schema: str, start: Any, failures: Any) -> None:
    start.wait(120)
    try:
        init_database(schema)
    except BaseException as error:
        failures.put(repr(error))


def test_twenty_processes_at_once(schema):
    fork = multiprocessing.get_context("fork")
    start, failures = fork.Barrier(20), fork.SimpleQueue()
    workers = [fork.Process(target=initialise, args=(schema, start, failures)) for _ in range(20)]
    with closing(failures):
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(120)
        assert failures.empty(), failures.get()
    assert [worker.exitcode for worker in workers] == [0] * 20
    assert schemas.current_version(schema) == schemas.latest_version()
    assert ask(f"SELECT count(*) FROM {schema}.irp_schema_version") == [(1,)]


def test_twenty_threads_on_twenty_schemas_and_on_one():
    names = [f"{PREFIX}_thread_{number}" for number in range(20)]
    start = threading.Barrier(20)

    def work(name: str) -> None:
        start.wait(60)
        init_database(name)
        init_database(f"{PREFIX}_thread_common")

    try:
        with ThreadPoolExecutor(20) as pool:
            list(pool.map(work, names))
        for name in [*names, f"{PREFIX}_thread_common"]:
            assert schemas.current_version(name) == schemas.latest_version()
    finally:
        for name in [*names, f"{PREFIX}_thread_common"]:
            drop_schema(name)


def test_a_child_that_is_forked_while_a_thread_migrates_does_not_wait_for_ever(schema):
    """The thread waits for the database with the process's mutex in its hand, which the child would inherit."""

    def waiting() -> int:
        query = (
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND database = "
            "(SELECT oid FROM pg_database WHERE datname = current_database())"
        )
        return int(ask(query)[0][0])

    init_database(schema)
    with connection() as blocking, ThreadPoolExecutor(1) as pool:
        blocking("SELECT pg_advisory_xact_lock(%s)", schemas._ADVISORY_LOCK)
        thread = pool.submit(init_database, f"{schema}_thread")
        wait_until(waiting, "the thread waits")
        child = os.fork()
        if child == 0:
            try:
                init_database(f"{schema}_child")
            finally:
                os._exit(0 if schemas.current_version(f"{schema}_child") else 1)
        try:
            wait_until(lambda: waiting() >= 2, "the child has got as far as the thread")
        except BaseException:
            os.kill(child, signal.SIGKILL)
            raise
        finally:
            blocking("ROLLBACK")
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        thread.result()
        assert status == 0
    assert drop_schema(f"{schema}_thread")
    assert drop_schema(f"{schema}_child")


# --- from the first version to the newest -------------------------------------------------------------------------

FIRST_ROWS = """
INSERT INTO {schema}.irp_cycle (id, cycle_name, status, created_ts, archived_ts) VALUES
    (1, 'Q1-2023', 'ARCHIVED', '2023-01-01', '2023-04-01'), (2, 'Q2-2023', 'ACTIVE', '2023-04-02', NULL);
INSERT INTO {schema}.irp_stage (id, cycle_id, stage_num, stage_name) SELECT n, 1 + n % 2, n, 'Stage ' || n
    FROM generate_series(1, 6) n;
INSERT INTO {schema}.irp_step (id, stage_id, step_num, step_name, notebook_path, last_run_num)
    SELECT n, 1 + n % 6, n, 'Step ' || n, nullif('path ' || n % 3, 'path 0'), 4 FROM generate_series(1, 24) n;
INSERT INTO {schema}.irp_step_run (step_id, run_num, status, completed_ts, started_by, error_message, output_data)
    SELECT 1 + n / 4, 1 + n % 4, (ARRAY['ACTIVE', 'COMPLETED', 'FAILED', 'SKIPPED'])[1 + n % 4], now(), 'analyst ' || n,
           CASE WHEN n % 4 = 2 THEN 'it''s 100% broken' END, jsonb_build_object('n', n)
      FROM generate_series(0, 95) n;
"""


def rows_of_first_version(schema: str, columns: dict[str, str]) -> dict[str, list[tuple[Any, ...]]]:
    return {table: ask(f"SELECT {names} FROM {schema}.{table} ORDER BY id") for table, names in columns.items()}


def first_version(schema: str) -> dict[str, str]:
    """Make a schema of the first version, full of rows; return the columns of its tables."""
    schemas.upgrade(schema, "0001")
    assert schemas.current_version(schema) == "0001"
    ask(FIRST_ROWS.format(schema=schema))
    return dict(
        ask(
            "SELECT table_name, string_agg(quote_ident(column_name), ', ' ORDER BY ordinal_position)"
            " FROM information_schema.columns WHERE table_schema = %s AND table_name ~ '^irp_(cycle|st)' GROUP BY 1",
            schema,
        )
    )


def test_a_migration_to_the_newest_version_keeps_every_row(schema):
    columns = first_version(schema)
    before = rows_of_first_version(schema, columns)
    assert {table: len(rows) for table, rows in before.items()} == {
        "irp_cycle": 2,
        "irp_stage": 6,
        "irp_step": 24,
        "irp_step_run": 96,
    }
    init_database(schema)
    assert schemas.current_version(schema) == schemas.latest_version()
    assert rows_of_first_version(schema, columns) == before


def test_a_migrated_schema_has_the_tables_of_a_new_one(schema):
    first_version(schema)
    init_database(schema)
    new = f"{schema}_new"
    init_database(new)
    try:
        migrated, made = (
            [str((name, *rest)).replace(f"{which}.", "") for _, name, _, _, *rest in everything_in(which)]
            for which in (schema, new)
        )
        assert migrated == made
    finally:
        drop_schema(new)


def test_rows_that_were_there_are_not_tracked_and_new_numbers_go_on(schema):
    first_version(schema)
    init_database(schema)
    assert ask(f"SELECT count(*) FROM {schema}.irp_step_run WHERE tracked") == [(0,)]
    assert fetch_all("SELECT DISTINCT last_run_num FROM irp_step", schema=schema) == [{"last_run_num": 4}]


def test_steps_of_the_pipeline_get_their_keys_and_those_of_notebooks_keep_their_numbers(schema):
    schemas.upgrade(schema, "0005")
    ask(
        f"""
        INSERT INTO {schema}.irp_cycle (id, cycle_name) VALUES (1, 'Q1-2024'), (2, 'Q2-2024');
        INSERT INTO {schema}.irp_stage (id, cycle_id, stage_num, stage_name)
             VALUES (101, 1, 2, 'Extract'), (102, 2, 2, 'Extract');
        INSERT INTO {schema}.irp_step (id, stage_id, step_num, step_name, last_run_num)
             VALUES (101, 101, 1, 'Extract exposure', 1), (102, 101, 7, 'Of a notebook', 1),
                    (103, 102, 1, 'Extract exposure', 1);
        INSERT INTO {schema}.irp_step_run (step_id, run_num, status, tracked, dagster_run_id, output_data)
             VALUES (101, 1, 'COMPLETED', true, 'a run', '{{"rows": 3}}'), (102, 1, 'COMPLETED', false, NULL, NULL),
                    (103, 1, 'COMPLETED', false, NULL, NULL);
        """
    )
    init_database(schema)
    with schema_context(schema):
        keyed = get_or_create_stage(1, 2, "Extract", stage_key="extract")
        assert keyed == 101
        assert get_or_create_step(keyed, 1, "Extract exposure", step_key="extract.extract_exposure") == 101
        own = get_or_create_stage(1, 2, "Extract")
        assert own not in {101, 102}
        assert get_or_create_step(own, 7, "Of a notebook") == 102
        assert get_or_create_step(get_or_create_stage(2, 2, "Extract"), 1, "Extract exposure") == 103
        with track_step(101, inputs={"a": "1"}) as run:
            assert (run.run_num, run.reason) == (2, "its inputs differ from those of run 1")
        assert [row["n"] for row in fetch_all("SELECT count(*) AS n FROM irp_step_run")] == [4]


# --- interrupted --------------------------------------------------------------------------------------------------


def test_a_revision_that_fails_leaves_the_schema_as_it_was(schema):
    columns = first_version(schema)
    ask(f"ALTER TABLE {schema}.irp_step_run ADD COLUMN lease_token text")  # which the second revision adds
    rows, tables = rows_of_first_version(schema, columns), everything_in(schema)
    with pytest.raises(DatabaseError, match="lease_token") as caught:
        init_database(schema)
    assert caught.value.sqlstate == "42701"
    assert schemas.current_version(schema) == "0001"
    assert everything_in(schema) == tables
    assert rows_of_first_version(schema, columns) == rows
    ask(f"ALTER TABLE {schema}.irp_step_run DROP COLUMN lease_token")
    init_database(schema)
    assert rows_of_first_version(schema, columns) == rows


def test_a_revision_that_fails_on_a_new_schema_leaves_none(schema):
    ask(f"CREATE SCHEMA {schema}; CREATE VIEW {schema}.irp_step_run AS SELECT 1")
    before = everything_in(schema)
    with pytest.raises(DatabaseError, match="irp_step_run"):
        init_database(schema)
    assert everything_in(schema) == before
    assert schemas.current_version(schema) is None


def test_a_migration_that_is_killed_leaves_the_schema_as_it_was(schema):
    columns = first_version(schema)
    rows, tables = rows_of_first_version(schema, columns), everything_in(schema)
    with connection() as reader:
        reader(f"SELECT count(*) FROM {schema}.irp_step_run")  # keeps the second revision waiting
        child = os.fork()
        if child == 0:
            try:
                init_database(schema)
            finally:
                os._exit(1)

        def waiting() -> list[tuple[Any, ...]]:
            return ask(
                "SELECT pid FROM pg_locks WHERE NOT granted AND relation = %s::regclass", f"{schema}.irp_step_run"
            )

        wait_until(waiting, "the second revision begins")
        (backend,) = waiting()
        os.kill(child, signal.SIGKILL)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    wait_until(lambda: not ask("SELECT 1 FROM pg_stat_activity WHERE pid = %s", *backend), "the server notices")
    assert schemas.current_version(schema) == "0001"
    assert everything_in(schema) == tables
    init_database(schema)
    assert rows_of_first_version(schema, columns) == rows


# --- what somebody else put there ---------------------------------------------------------------------------------


def test_a_newer_version_is_refused(schema):
    init_database(schema)
    ask(f"UPDATE {schema}.irp_schema_version SET version_num = '9999'")
    before = everything_in(schema)
    with pytest.raises(DatabaseError, match=rf"'{schema}' has version 9999.*{schemas.latest_version()}.*install"):
        init_database(schema)
    assert everything_in(schema) == before
    assert schemas.current_version(schema) == "9999"


def test_tables_of_somebody_else_are_refused_and_left_alone(schema):
    ask(f"CREATE SCHEMA {schema}; CREATE TABLE {schema}.irp_cycle AS SELECT 1 AS id, 'Q1' AS cycle_name")
    before = everything_in(schema)
    with pytest.raises(DatabaseError, match=rf"'{schema}' has a table irp_cycle.*Nothing was changed"):
        init_database(schema)
    assert everything_in(schema) == before
    assert ask(f"SELECT * FROM {schema}.irp_cycle") == [(1, "Q1")]
