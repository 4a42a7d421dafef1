"""The views for people and BI tools: what they show, who may read them, and that such a role may do nothing else."""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from psycopg2.sql import SQL, Identifier
from typer.testing import CliRunner

from irp_pipeline import settings
from irp_pipeline.cli import app
from irp_pipeline.helpers.database import execute_command, execute_scalar, fetch_all, init_database
from irp_pipeline.helpers.db_context import get_current_schema, schema_context
from irp_pipeline.postgres import schemas
from irp_pipeline.postgres.errors import DatabaseError
from irp_pipeline.postgres.rights import grant_read
from irp_pipeline_tests.support.recording_engine import recording_engine
from irp_pipeline_tests.support.whole_schema import fill

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "views.md"
ROLE = f'reads "only" {os.getpid()}'
PASSWORD = "made-up"
VIEWS = [
    "v_irp_artefacts",
    "v_irp_cycle_progress",
    "v_irp_jobs",
    "v_irp_results",
    "v_irp_sign_off",
    "v_irp_steps",
]

AsRole = Callable[[str], list[Any]]


@pytest.fixture(scope="module")
def filled(test_schema: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    with recording_engine(tmp_path_factory.mktemp("engine")):
        fill()
    return get_current_schema()


@pytest.fixture
def as_role(filled: str) -> Iterator[AsRole]:
    """Runs a statement as a new role, and returns the rows."""
    execute_command(f"CREATE ROLE {quoted(ROLE)} LOGIN PASSWORD '{PASSWORD}'")
    url = settings.database_url().set(drivername="postgresql", username=ROLE, password=PASSWORD)

    def run(statement: str) -> list[Any]:
        with closing(psycopg2.connect(url.render_as_string(hide_password=False))) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(SQL("SET search_path TO {}").format(Identifier(filled)))
                cursor.execute(statement)
                return list(cursor.fetchall()) if cursor.description else []

    try:
        yield run
    finally:
        execute_command(f"DROP OWNED BY {quoted(ROLE)}")
        execute_command(f"DROP ROLE {quoted(ROLE)}")


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def test_a_cycle_has_its_progress_its_steps_its_jobs_its_results_and_its_files(filled: str) -> None:
    (progress,) = fetch_all("SELECT * FROM v_irp_cycle_progress WHERE cycle_name = 'Q1'")
    assert (progress["cycle_status"], progress["jobs"], progress["jobs_finished"], progress["jobs_failed"]) == (
        "ACTIVE", 2, 1, 1,
    )  # fmt: skip
    assert progress["steps_done"] >= 1
    steps = fetch_all("SELECT step_name, status, run_num FROM v_irp_steps WHERE cycle_name = 'Q1'")
    assert len(steps) == progress["steps"]
    assert "Cycle report" in {step["step_name"] for step in steps}
    jobs = fetch_all(
        "SELECT analysis_name, status, batch_id, engine FROM v_irp_jobs WHERE cycle_name = 'Q1' ORDER BY 1"
    )
    assert [job["status"] for job in jobs] == ["FINISHED", "FAILED"]
    assert {job["batch_id"] for job in jobs} == {progress["batch_id"]}
    results = fetch_all(
        "SELECT loss, is_current, segment FROM v_irp_results WHERE cycle_name = 'Q1' AND metric = 'OEP'"
    )
    assert {(row["is_current"], row["segment"]) for row in results} >= {(True, "")}
    files = fetch_all("SELECT artefact_key, is_current, bytes FROM v_irp_artefacts WHERE cycle_name = 'Q1'")
    assert len(files) == execute_scalar("SELECT count(*) FROM irp_artefact")


def test_results_of_an_earlier_configuration_are_not_current(filled: str) -> None:
    batch = execute_scalar("SELECT max(batch_id) FROM v_irp_results WHERE is_current")
    execute_command(
        "INSERT INTO irp_configuration (cycle_id, file_name, file_hash, data_folder, status,"
        " configuration_data) SELECT cycle_id, 'x', 'other', '/', 'VALID', '{}' FROM irp_configuration LIMIT 1"
    )
    execute_command(
        "INSERT INTO irp_batch (configuration_id, step_id, batch_type, status) SELECT max(f.id), min(b.step_id),"
        " 'analysis', 'COMPLETED' FROM irp_configuration f, irp_batch b WHERE f.file_hash = 'other'"
    )
    try:
        execute_command(
            "INSERT INTO irp_analysis_result (batch_id, analysis_name, is_group, perspective, metric, loss, currency,"
            " job_ids, segment_by, segment) SELECT max(id), 'a', false, 'GUL', 'AAL', 1, 'EUR', '{}', '{A,B}',"
            " '{x,y}' FROM irp_batch"
        )
        (other,) = fetch_all("SELECT is_current, segment_by, segment FROM v_irp_results WHERE NOT is_current")
        assert (other["segment_by"], other["segment"]) == ("A+B", "x+y")
        assert execute_scalar("SELECT max(batch_id) FROM v_irp_results WHERE is_current") == batch
    finally:
        execute_command("DELETE FROM irp_batch WHERE configuration_id = (SELECT id FROM irp_configuration"
                        " WHERE file_hash = 'other')")  # fmt: skip
        execute_command("DELETE FROM irp_configuration WHERE file_hash = 'other'")


def test_a_role_that_may_read_reads_every_view_and_no_table(filled: str, as_role: AsRole) -> None:
    with pytest.raises(psycopg2.Error, match=r"permission denied|does not exist"):
        as_role("SELECT * FROM v_irp_jobs")
    for _ in range(2):  # safe to repeat
        granted = grant_read(filled, ROLE)
    assert list(granted.views) == VIEWS
    assert (granted.tables, granted.can_connect) == ((), True)
    for view in VIEWS:
        assert as_role(f"SELECT * FROM {view}") != []
    tables = [row["name"] for row in fetch_all("SELECT tablename AS name FROM pg_tables WHERE schemaname = %s",
                                               (filled,))]  # fmt: skip
    assert {"irp_configuration", "irp_message", "irp_job", "irp_cycle"} < set(tables)
    for table in tables:
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            as_role(f"SELECT * FROM {table}")
    for statement in (
        "UPDATE irp_cycle SET status = 'ARCHIVED'",
        "DELETE FROM irp_cycle",
        "INSERT INTO irp_cycle (cycle_name) VALUES ('mine')",
        "TRUNCATE irp_message",
        "UPDATE v_irp_steps SET status = 'FAILED'",
        "DELETE FROM v_irp_jobs",
        "DROP VIEW v_irp_jobs",
        "CREATE TABLE mine (id int)",
        "SELECT * FROM irp_queue.procrastinate_jobs",
    ):
        with pytest.raises((psycopg2.errors.InsufficientPrivilege, psycopg2.errors.ObjectNotInPrerequisiteState)):
            as_role(statement)


def test_a_role_that_may_read_tables_besides_is_named(filled: str, as_role: AsRole) -> None:
    execute_command(f"GRANT SELECT ON irp_message TO {quoted(ROLE)}")
    assert grant_read(filled, ROLE).tables == ("irp_message",)
    ran = CliRunner().invoke(app, ["db", "grant-read", ROLE, "--db-schema", filled], prog_name="irp")
    assert ran.exit_code == 0, ran.output
    assert "v_irp_results" in ran.output
    assert "irp_message" in ran.output


def test_what_cannot_be_granted_is_refused_in_one_line(filled: str, as_role: AsRole) -> None:
    with pytest.raises(DatabaseError, match="There is no role 'nobody \"here\"'"):
        grant_read(filled, 'nobody "here"')
    with pytest.raises(DatabaseError, match="There is no schema 'no such'"):
        grant_read("no such", ROLE)
    schemas.upgrade("views_old", "0012")
    try:
        with pytest.raises(DatabaseError, match="run irp db upgrade first"):
            grant_read("views_old", ROLE)
    finally:
        schemas.drop("views_old")
    ran = CliRunner().invoke(app, ["db", "grant-read", "nobody", "--db-schema", filled], prog_name="irp")
    assert ran.exit_code == 1
    assert "There is no role 'nobody'" in ran.output


def test_a_schema_with_an_odd_name(as_role: AsRole) -> None:
    name = 'q1 "2024" 100%'
    init_database(name)
    try:
        assert list(grant_read(name, ROLE).views) == VIEWS
        with schema_context(name):
            assert fetch_all("SELECT * FROM v_irp_cycle_progress") == []
    finally:
        schemas.drop(name)


def test_each_view_is_on_the_page_with_its_columns(filled: str) -> None:
    page = PAGE.read_text(encoding="utf-8")
    columns = fetch_all(
        """
        SELECT table_name, string_agg('`' || column_name || '`', ', ' ORDER BY ordinal_position) AS names
          FROM information_schema.columns WHERE table_schema = %s AND table_name LIKE 'v\\_irp\\_%%'
         GROUP BY table_name ORDER BY table_name
        """,
        (filled,),
    )
    shown = dict(re.findall(r"^## `(v_irp_\w+)`\n\n[^\n]+\n\n(`[^\n]+)$", page, re.MULTILINE))
    assert shown == {row["table_name"]: row["names"] for row in columns}
