"""The roles of ``docs/deployment.md``: each tries what it may and may not."""

from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest
from sqlalchemy import URL
from typer.testing import CliRunner

from irp_pipeline.cli import app
from irp_pipeline.cli.checks import CheckResult, State, check_queue_rights
from irp_pipeline.engines import JobPhase
from irp_pipeline.helpers.cycle import archive_cycle, create_cycle, delete_cycle, get_cycle_status, open_cycle
from irp_pipeline.helpers.database import (
    drop_schema,
    execute_command,
    execute_scalar,
    fetch_all,
    init_database,
)
from irp_pipeline.helpers.db_context import schema_context
from irp_pipeline.operations.backup import back_up
from irp_pipeline.operations.health import check_health
from irp_pipeline.operations.restore import restore
from irp_pipeline.postgres import schemas
from irp_pipeline.postgres.connections import administrative_connection
from irp_pipeline.workers.presence import list_workers
from irp_pipeline_tests.support.program_jobs import WAYS, hand_over, register_engine, wait_for, worker_thread
from irp_pipeline_tests.support.recording_engine import recording_engine
from irp_pipeline_tests.support.roles import ENDING, PASSWORD, As, acting_in, database_with_roles, named, refused, run
from irp_pipeline_tests.support.whole_schema import content_of, fill


@pytest.fixture(scope="module")
def server() -> Iterator[URL]:
    """The server with the page's roles and databases; ends without them."""
    with database_with_roles(sign_off=False) as database:
        yield database


@pytest.fixture
def acting(server: URL, tmp_path: Path) -> Iterator[As]:
    """Work as a role of the page from now on."""
    with recording_engine(tmp_path), acting_in(server, "irp_owner") as act:
        yield act


def test_a_worker_needs_the_rights_of_the_application_and_no_more(acting: As, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IRP_JOB_SLOTS", "0")  # no other one starts
    acting("irp_owner")
    init_database("public")
    acting("irp_app")
    register_engine()
    hand_over({"job": WAYS["well"]})
    with worker_thread():
        assert wait_for("job")["job"].phase is JobPhase.FINISHED
        assert len(list_workers()) == 1
    acting("irp_read")
    assert list_workers() == []
    with refused():
        hand_over({"other": WAYS["well"]})


def test_the_doctor_names_the_rights_on_the_queue_that_are_missing_and_how_to_grant_them(
    acting: As, server: URL, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IRP_JOB_SLOTS", "0")
    acting("irp_owner")
    init_database("public")
    owner, app = server.set(username=named("irp_owner"), password=PASSWORD), named("irp_app")

    def queue_rights() -> CheckResult:
        acting("irp_app")
        with administrative_connection() as connection:
            (found,) = check_queue_rights(connection)
        return found

    assert queue_rights().state is State.OK
    for revoked, told in {
        f"REVOKE USAGE ON ALL SEQUENCES IN SCHEMA irp_queue FROM {app}": "USAGE on procrastinate_jobs_id_seq",
        f"REVOKE DELETE ON irp_queue.procrastinate_jobs FROM {app}": "DELETE on procrastinate_jobs",
        f"REVOKE USAGE ON SCHEMA irp_queue FROM {app}": "USAGE on the schema",
    }.items():
        run(owner, revoked)
        found = queue_rights()
        assert found.state is State.WRONG
        assert told in found.found
        run(owner, str(found.remedy).removeprefix("Run as its owner: "))
        assert queue_rights().state is State.OK


@pytest.mark.parametrize("schema", ["public", "q1 2024"])
def test_the_owner_makes_the_application_works_and_others_read(acting: As, schema: str, tmp_path: Path) -> None:
    acting("irp_app")
    with refused():
        init_database(schema)
    acting("irp_owner")
    init_database(schema)
    with schema_context(schema):
        acting("irp_app")
        init_database()  # each run does it: there is nothing to do
        fill()
        archive_cycle(open_cycle("Q2"))
        assert delete_cycle(create_cycle("Q3"))
        assert check_health().is_well
        back_up(tmp_path / "irp.zip")
        for statement in ("DROP TABLE irp_artefact", "CREATE TABLE mine (id int)", "TRUNCATE irp_cycle",
                          "ALTER TABLE irp_cycle ADD COLUMN mine int"):  # fmt: skip
            with refused():
                execute_command(statement)
        with refused():
            drop_schema(schema, force=True)

        acting("irp_read")
        assert len(get_cycle_status()) == 2
        assert check_health().is_well
        for table in fetch_all("SELECT tablename AS name FROM pg_tables WHERE schemaname = %s", (schema,)):
            execute_scalar(f"SELECT count(*) FROM {table['name']}")
            with refused():
                execute_command(f"DELETE FROM {table['name']}")
        for statement in ("UPDATE irp_cycle SET status = 'ARCHIVED'", "INSERT INTO irp_cycle (cycle_name) VALUES ('Q')",
                          "CREATE TABLE mine (id int)"):  # fmt: skip
            with refused():
                execute_command(statement)


def test_what_an_upgrade_adds_has_the_rights_of_what_was_there(acting: As) -> None:
    acting("irp_owner")
    schemas.upgrade("old", "0004")
    acting("irp_app")
    with refused():
        init_database("old")
    acting("irp_owner")
    init_database("old")
    with schema_context("old"):
        acting("irp_app")
        fill()
        acting("irp_read")
        assert execute_scalar("SELECT count(*) FROM irp_artefact") == 1


def test_the_owner_restores_and_the_rights_are_as_before(acting: As, tmp_path: Path) -> None:
    acting("irp_owner")
    init_database("q1")
    acting("irp_app")
    with schema_context("q1"):
        fill()
        back_up(tmp_path / "irp.zip")
    with refused():
        restore(tmp_path / "irp.zip", "q2")
    with refused():
        restore(tmp_path / "irp.zip", replace=True)
    before = content_of("q1")
    acting("irp_owner")
    restore(tmp_path / "irp.zip", "q2")
    restore(tmp_path / "irp.zip", replace=True)
    acting("irp_app")
    assert content_of("q1") == content_of("q2") == before
    for schema in ("q1", "q2"):
        with schema_context(schema):
            create_cycle("Q4")
    acting("irp_read")
    with schema_context("q2"):
        assert len(get_cycle_status()) == 2


def test_a_run_of_dagster_as_the_application(acting: As, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    acting("irp_owner")
    init_database("public")
    acting("irp_app")
    create_cycle("Q1-2024")
    ran = CliRunner().invoke(app, ["run", "Q1-2024", "--only", "initialize_environment"], prog_name="irp")
    assert ran.exit_code == 0, f"{ran.output}\n{ran.exception!r}"
    assert execute_scalar("SELECT status FROM irp_step_run") == "COMPLETED"


def test_nobody_else_may_connect(server: URL) -> None:
    other = f"somebody{ENDING}"
    run(server, f"CREATE ROLE {other} LOGIN PASSWORD '{PASSWORD}'")
    try:
        with pytest.raises(psycopg2.OperationalError, match="permission denied for database"):
            run(server.set(username=other, password=PASSWORD), "SELECT 1")
        records = server.set(username=named("irp_read"), password=PASSWORD, database=named("irp_dagster"))
        with pytest.raises(psycopg2.OperationalError, match="permission denied for database"):
            run(records, "SELECT 1")
    finally:
        run(server, f"DROP ROLE {other}")
