"""Dagster's database goes away in the middle of ``irp run``: it says so in one line, and the next run goes on."""

from contextlib import closing

import pytest

from irp_pipeline import settings
from irp_pipeline_tests.acceptance.test_dagster_launches import (
    closed_gate,
    connect,
    extract,
    home,
    open_at_the_gate,
    someone_waits_at_the_gate,
    statuses,
)
from irp_pipeline_tests.support.waiting import wait_until

__all__ = ["home"]  # a fixture

ROLE = "keeper_of_records"


@pytest.fixture
def records() -> str:
    """The address of a database for Dagster's records, as a role of its own."""
    with closing(connect(settings.database_url())) as connection, connection.cursor() as cursor:
        cursor.execute(f"CREATE ROLE {ROLE} LOGIN")
        cursor.execute(f"CREATE DATABASE records OWNER {ROLE}")
    return settings.database_url().set(
        drivername="postgresql", username=ROLE, database="records"
    ).render_as_string(hide_password=False)  # fmt: skip


def shut_out(limit: int) -> None:
    with closing(connect(settings.database_url())) as connection, connection.cursor() as cursor:
        cursor.execute(f"ALTER ROLE {ROLE} CONNECTION LIMIT {limit}")
        if limit == 0:
            cursor.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", (ROLE,))


def test_a_database_that_goes_away_in_the_middle_of_a_run_is_told_and_the_next_run_goes_on(records: str):
    open_at_the_gate("away")
    with closed_gate() as open_gate, extract("away", IRP_DAGSTER_DATABASE_URL=records) as process:
        wait_until(someone_waits_at_the_gate, "the extract waits", process)
        shut_out(0)
        open_gate()
        assert process.end() == 1, process.output
        assert "Traceback" not in process.output, process.output
        [line] = [line for line in process.output.splitlines() if line.startswith("Error: ")]
        assert "Dagster's records in " in line
        assert "too many connections" in line or "terminat" in line
    shut_out(-1)
    with extract("away", IRP_DAGSTER_DATABASE_URL=records) as process:
        assert process.end() == 0, process.output
    assert statuses("away", "Extract exposure")[-1] in {"COMPLETED", "SKIPPED"}
