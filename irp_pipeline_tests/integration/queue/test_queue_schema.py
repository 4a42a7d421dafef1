"""The tables of the queue: made once whoever asks, and the same whether they are new or upgraded."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import procrastinate.schema
import psycopg2
import pytest
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql.psycopg2 import PGDialect_psycopg2

from irp_pipeline import settings
from irp_pipeline.helpers.database import DatabaseError, dispose_engine, init_database
from irp_pipeline.postgres.connections import administrative_connection
from irp_pipeline.queue import schema as queue_schema
from irp_pipeline.queue.schema import upgrade_queue

DATABASE = "irp_queue_tests"


@pytest.fixture
def database(monkeypatch: pytest.MonkeyPatch) -> Iterator[sa.URL]:
    """An empty database on the server of all tests."""
    server = settings.database_url()
    run(server, f"DROP DATABASE IF EXISTS {DATABASE}", f"CREATE DATABASE {DATABASE}")
    monkeypatch.setenv("IRP_DATABASE_URL", server.set(database=DATABASE).render_as_string(hide_password=False))
    dispose_engine()
    yield settings.database_url()
    dispose_engine()
    run(server, f"DROP DATABASE {DATABASE}")


def run(url: sa.URL, *statements: str) -> None:
    arguments, named = PGDialect_psycopg2().create_connect_args(url)
    connection = psycopg2.connect(*arguments, **named)
    connection.autocommit = True
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
    connection.close()


def described() -> dict[str, list[Any]]:
    """Everything in the schema of the queue: its columns, constraints, indexes, functions and triggers."""
    queries = {
        "columns": "SELECT table_name, column_name, data_type, is_nullable, column_default"
        " FROM information_schema.columns WHERE table_schema = 'irp_queue'",
        "constraints": "SELECT conrelid::regclass::text, pg_get_constraintdef(oid) FROM pg_constraint"
        " WHERE connamespace = 'irp_queue'::regnamespace",
        "indexes": "SELECT indexdef FROM pg_indexes WHERE schemaname = 'irp_queue'",
        "functions": "SELECT proname, pg_get_functiondef(oid) FROM pg_proc"
        " WHERE pronamespace = 'irp_queue'::regnamespace",
        "triggers": "SELECT pg_get_triggerdef(t.oid) FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid"
        " WHERE c.relnamespace = 'irp_queue'::regnamespace AND NOT t.tgisinternal",
    }
    with administrative_connection() as connection:
        return {name: sorted(map(tuple, connection.exec_driver_sql(query))) for name, query in queries.items()}


def test_is_made_with_any_schema_once_whoever_asks(database):
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: init_database(f"schema_{number}"), range(4)))
    found = described()
    assert {row[0] for row in found["columns"]} >= {"procrastinate_jobs", "irp_worker", "irp_queue_version"}
    assert all("SET search_path TO 'irp_queue', 'pg_temp'" in definition for _, definition in found["functions"])
    init_database("schema_0")
    assert described() == found


def test_is_made_although_the_schema_is_up_to_date(database):
    init_database("public")
    run(database, "DROP SCHEMA irp_queue CASCADE")
    init_database("public")
    assert described()["functions"]


def test_is_the_same_new_and_upgraded_from_an_earlier_version(database, monkeypatch):
    upgrade_queue()
    new = described()
    run(database, "DROP SCHEMA irp_queue CASCADE")
    migrations = queue_schema._migrations()
    earlier = [path for path in migrations if path.name < "03.03"]
    with monkeypatch.context() as past:
        past.setattr(queue_schema, "_migrations", lambda: earlier)
        past.setattr(queue_schema, "_whole", lambda: "".join(path.read_text() for path in earlier))
        past.setattr(queue_schema, "_OURS", ())
        upgrade_queue()
    upgrade_queue()
    assert described().keys() == new.keys()
    assert [row[:2] for row in described()["columns"]] == [row[:2] for row in new["columns"]]
    assert {name for name, _ in new["functions"]} <= {name for name, _ in described()["functions"]}
    upgraded = dict(described()["functions"])
    assert all("SET search_path TO 'irp_queue', 'pg_temp'" in definition for definition in upgraded.values())


def test_of_a_newer_version_is_refused(database):
    upgrade_queue()
    run(database, "UPDATE irp_queue.irp_queue_version SET ours = ours + 1")
    with pytest.raises(DatabaseError, match="newer version"):
        upgrade_queue()


def test_names_the_newest_migration_of_the_library(database):
    """The library's own list: if it had none after a change of its schema, we would never see the change."""
    newest = max(Path(procrastinate.schema.SchemaManager.get_migrations_path()).glob("*.sql"))
    upgrade_queue()
    with administrative_connection() as connection:
        found = connection.exec_driver_sql("SELECT procrastinate FROM irp_queue.irp_queue_version").scalar()
    assert found == newest.stem
