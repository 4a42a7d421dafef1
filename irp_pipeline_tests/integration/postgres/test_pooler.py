"""Behind a connection pooler, too, nobody reads or writes another's schema. The pooler is a real PgBouncer."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg2
import pytest
import sqlalchemy as sa

from irp_pipeline import settings
from irp_pipeline.cli.checks import State
from irp_pipeline.cli.doctor import examine_connection
from irp_pipeline.helpers.cycle import create_cycle
from irp_pipeline.helpers.database import (
    DatabaseError,
    dispose_engine,
    drop_schema,
    execute_command,
    execute_scalar,
    fetch_one,
    get_engine,
    init_database,
    transaction,
)
from irp_pipeline.helpers.db_context import schema_context
from irp_pipeline.operations.backup import back_up
from irp_pipeline.operations.health import check_health
from irp_pipeline.operations.restore import restore
from irp_pipeline_tests.support.pooler import TABLES, connect, pooler, rows_of
from irp_pipeline_tests.support.processes import REPOSITORY

SCHEMAS = ("pooled_a", "pooled_b", "pooled_c")
CALLS = 1000
PROGRAM = """
import sys
from irp_pipeline_tests.support.pooler import work
work(sys.argv[1], sys.argv[2], int(sys.argv[3]))
"""


@pytest.fixture(scope="module")
def server() -> Iterator[sa.URL]:
    """A database whose defaults are another time zone and another isolation than ours."""
    shared = settings.database_url()
    own = shared.set(database=f"irp_pooled_{os.getpid()}")
    with closing(connect(shared)) as connection, pytest.MonkeyPatch.context() as environment:
        cursor = connection.cursor()
        cursor.execute(f"DROP DATABASE IF EXISTS {own.database} WITH (FORCE)")
        cursor.execute(f"CREATE DATABASE {own.database}")
        cursor.execute(f"ALTER DATABASE {own.database} SET TimeZone TO 'America/Lima'")
        cursor.execute(f"ALTER DATABASE {own.database} SET default_transaction_isolation TO 'repeatable read'")
        cursor.execute(f"ALTER DATABASE {own.database} SET synchronous_commit TO off")  # what is tested is not the disk
        environment.setenv("IRP_DATABASE_URL", own.render_as_string(hide_password=False))
        dispose_engine()
        yield own
        dispose_engine()
        cursor.execute(f"DROP DATABASE {own.database} WITH (FORCE)")


@pytest.fixture(params=["transaction", "session", "direct"])
def mode(request: pytest.FixtureRequest, server: sa.URL, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The database through a pooler in each mode, and without one."""
    mode: str = request.param
    if mode == "direct":
        yield mode
        return
    with pooler(server, mode, connections=2 if mode == "transaction" else 30) as through:
        monkeypatch.setenv("IRP_DATABASE_URL", through.render_as_string(hide_password=False))
        dispose_engine()
        yield mode
        dispose_engine()


@pytest.fixture
def transaction_pooler(server: sa.URL, monkeypatch: pytest.MonkeyPatch) -> Iterator[sa.URL]:
    with pooler(server, "transaction", 1) as through:
        monkeypatch.setenv("IRP_DATABASE_URL", through.render_as_string(hide_password=False))
        dispose_engine()
        yield through
        dispose_engine()


@pytest.fixture
def schemas() -> Iterator[tuple[str, ...]]:
    for schema in SCHEMAS:
        init_database(schema)
        execute_command(TABLES, schema=schema)
    yield SCHEMAS
    for schema in SCHEMAS:
        drop_schema(schema)


def test_three_processes_in_three_schemas_find_and_leave_their_own_rows_only(mode, server, schemas):
    workers = [
        subprocess.Popen(
            [
                sys.executable,
                "-c",
                PROGRAM,
                schema,
                schemas[number - 1],
                str(CALLS),
            ],
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number, schema in enumerate(schemas)
    ]
    ended = [worker.communicate(timeout=300) for worker in workers]
    for worker, (_, said) in zip(workers, ended, strict=True):
        assert worker.returncode == 0, said
    for schema, (wrote, _) in zip(schemas, ended, strict=True):
        notes, cycles, runs = map(int, wrote.split())
        assert rows_of(server, schema) == (notes, cycles, runs, 0)


SESSION = """
SELECT current_schema() AS schema, current_setting('TimeZone') AS zone, current_user = session_user AS own_role,
       current_setting('transaction_isolation') AS isolation, current_setting('statement_timeout') AS timeout,
       (SELECT count(*) FROM pg_prepared_statements) + (SELECT count(*) FROM pg_listening_channels())
           + (SELECT count(*) FROM pg_cursors WHERE is_holdable) AS things
"""
LEFT_BEHIND = [
    "SET ROLE pg_monitor",
    "SET statement_timeout TO '1h'",
    "SET TIME ZONE 'Asia/Tokyo'",
    "SELECT set_config('role', 'pg_monitor', false)",
    "DO $$ BEGIN PERFORM set_config('statement_timeout', '1h', false); CREATE TEMP TABLE note (owner text); END $$",
    "PREPARE left_behind AS SELECT 1",
    "LISTEN left_behind",
    "DECLARE left_behind CURSOR WITH HOLD FOR SELECT 1",
]


@pytest.mark.parametrize("statement", LEFT_BEHIND)
@pytest.mark.parametrize("in_block", [False, True], ids=["alone", "in a transaction"])
def test_what_a_helpers_statement_does_to_its_session_ends_with_it(transaction_pooler, schemas, statement, in_block):
    with schema_context(schemas[0]):
        if in_block:
            with transaction():
                execute_command(statement)
        else:
            execute_command(statement)
    with schema_context(schemas[1]):
        assert fetch_one(SESSION) == {
            "schema": schemas[1],
            "zone": "UTC",
            "own_role": True,
            "isolation": "read committed",
            "timeout": "0",
            "things": 0,
        }
        execute_command("INSERT INTO note (owner) VALUES ('mine')")
    assert execute_scalar(f"SELECT owner FROM {schemas[1]}.note", schema=schemas[2]) == "mine"


def test_sqlalchemy_cannot_leave_a_setting_to_others(transaction_pooler, schemas):
    options = {"isolation_level": "READ COMMITTED"}
    with schema_context(schemas[0]), get_engine().connect().execution_options(**options) as connection:
        for statement in ("SET ROLE pg_monitor", "CREATE TEMP TABLE note (owner text)"):
            with pytest.raises(DatabaseError, match=r"SET LOCAL|ON COMMIT DROP"):
                connection.exec_driver_sql(statement)
        connection.exec_driver_sql("CREATE TEMP TABLE draft (owner text) ON COMMIT DROP")
        connection.exec_driver_sql("INSERT INTO draft VALUES ('x')")
        connection.commit()
    with schema_context(schemas[0]), get_engine().connect() as connection:
        with pytest.raises(DatabaseError, match="ON COMMIT DROP"):
            connection.exec_driver_sql("CREATE TEMP TABLE note (owner text)")
        connection.exec_driver_sql("SET ROLE pg_monitor")
    assert (fetch_one(SESSION, schema=schemas[1]) or {})["own_role"] is True


def test_what_cannot_be_part_of_a_transaction_is_refused_behind_a_pooler(transaction_pooler, schemas):
    for statement in ("VACUUM note", "CREATE INDEX CONCURRENTLY note_owner ON note (owner)"):
        with pytest.raises(DatabaseError, match="to the server itself"):
            execute_command(statement, schema=schemas[0])
    assert execute_scalar("SELECT count(*) FROM pg_indexes WHERE indexname = 'note_owner'", schema=schemas[0]) == 0


def test_times_are_read_in_utc_and_statements_as_read_committed(mode, schemas):
    session = fetch_one(SESSION, schema=schemas[0])
    assert session is not None
    assert (session["zone"], session["isolation"]) == ("UTC", "read committed")
    with transaction(schemas[0]):
        assert (fetch_one(SESSION) or {})["isolation"] == "read committed"
        assert execute_scalar("SELECT '2024-07-01 12:00+00'::timestamptz::text") == "2024-07-01 12:00:00+00"
    with schema_context(schemas[0]):
        for level in ("SERIALIZABLE", "REPEATABLE READ"):
            with get_engine().connect().execution_options(isolation_level=level) as connection:
                assert connection.exec_driver_sql("SHOW transaction_isolation").scalar() == level.lower()
                assert connection.exec_driver_sql("SHOW TimeZone").scalar() == "UTC"


def test_a_pooler_that_drops_the_options_of_a_connection_is_no_direct_connection(server, schemas, monkeypatch):
    with pooler(server, "transaction", 1, "ignore_startup_parameters = options") as through:
        monkeypatch.setenv("IRP_DATABASE_URL", through.render_as_string(hide_password=False))
        dispose_engine()
        session = fetch_one(SESSION, schema=schemas[0])
        with pytest.raises(DatabaseError, match="to the server itself"):
            execute_command("VACUUM note", schema=schemas[0])
        dispose_engine()
    assert session is not None
    assert (session["schema"], session["zone"], session["isolation"]) == (schemas[0], "UTC", "read committed")


def test_what_is_sent_without_a_schema_on_a_direct_connection_finds_nothing(server, schemas):
    dispose_engine()
    init_database("public")
    with schema_context("public"):
        connection = get_engine().raw_connection()
        driver: Any = connection.dbapi_connection
        cursor = psycopg2.extensions.cursor(driver)
        with pytest.raises(psycopg2.errors.UndefinedTable):
            cursor.execute("SELECT * FROM irp_cycle")
        connection.close()


def test_the_doctor_names_a_pooler_and_says_what_it_means(mode):
    finding = examine_connection()
    if mode == "direct":
        assert (finding.state, finding.found) == (State.OK, "directly to the server")
    else:
        assert finding.state is State.NOTE
        assert "connection pooler" in finding.found
        assert "docs/deployment.md" in str(finding.remedy)


def test_a_backup_is_made_and_restored_through_a_pooler(
    mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IRP_HOME", str(tmp_path / "home"))
    for schema in ("backed_up", "came_back"):
        drop_schema(schema)
    init_database("backed_up")
    with schema_context("backed_up"):
        create_cycle("Q1")
        execute_command("UPDATE irp_cycle SET created_ts = '2024-03-31 23:30:00.123456-05'")
        back_up(tmp_path / "irp.zip")
        assert check_health().is_well
    restore(tmp_path / "irp.zip", "came_back")
    restore(tmp_path / "irp.zip", "came_back", replace=True)
    query = "SELECT id, cycle_name, created_ts FROM irp_cycle"
    assert fetch_one(query, schema="came_back") == fetch_one(query, schema="backed_up")
