"""A real PgBouncer in front of the tests' server, and work that is done through it by several processes."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pandas as pd
import psycopg2
import pytest
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql.psycopg2 import PGDialect_psycopg2

from irp_pipeline.helpers.cycle import create_cycle, get_active_cycle, get_cycle_by_name
from irp_pipeline.helpers.database import (
    bulk_insert,
    execute_command,
    execute_insert,
    execute_query,
    execute_scalar,
    fetch_all,
    fetch_one,
    get_engine,
    transaction,
)
from irp_pipeline.helpers.db_context import schema_context
from irp_pipeline.helpers.stage import get_or_create_stage
from irp_pipeline.helpers.step import (
    create_step_run,
    get_last_step_run,
    get_or_create_step,
    track_step,
    update_step_run,
)

_SECONDS = 30


def connect(url: sa.URL) -> Any:
    """Connect in a way that the layer under test knows nothing of."""
    args, kwargs = PGDialect_psycopg2().create_connect_args(url)
    connection = psycopg2.connect(*args, **kwargs)
    connection.autocommit = True
    return connection


def _program() -> str:
    found = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin:/usr/local/sbin")
    if found is None:
        said = "PgBouncer is not installed (apt-get install pgbouncer)"
        if os.environ.get("IRP_TESTS_NEED_POOLER"):
            pytest.fail(said)
        pytest.skip(said)
    return found


@contextmanager
def pooler(server: sa.URL, mode: str, connections: int, settings: str = "") -> Iterator[sa.URL]:
    """Start PgBouncer in front of a database.

    Args:
        server: the database.
        mode: ``transaction`` or ``session``.
        connections: how many it opens to the server.
        settings: further lines of its configuration.

    Yields:
        The URL of the same database through it.
    """
    program = _program()
    folder = Path(tempfile.mkdtemp(prefix="irp-pooler-"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    host = str(server.query.get("host") or server.host)
    account: dict[str, Any] = {}
    cwd = None
    if host.startswith("/"):
        # A socket that nobody else can reach: PgBouncer runs as its owner, and starts in its folder.
        owner, cwd = Path(host).stat(), host
        host = "/proc/self/cwd"
        account = {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []}
    else:
        nobody = pwd.getpwnam("nobody")
        account = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    password = f" password={server.password}" if server.password else ""
    configuration = folder / "pgbouncer.ini"
    configuration.write_text(
        f"[databases]\n* = host={host} port={server.query.get('port') or server.port or 5432}"
        f" user={server.username or 'postgres'}{password}\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n"
        f"pool_mode = {mode}\ndefault_pool_size = {connections}\nmax_client_conn = 200\n{settings}\n"
    )
    folder.chmod(0o755)
    log = (folder / "log").open("wb")
    process = subprocess.Popen(
        [program, str(configuration)],
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        **(account if os.geteuid() == 0 else {}),
    )
    try:
        url = sa.URL.create(
            "postgresql+psycopg2", server.username or "postgres", None, "127.0.0.1", port, server.database
        )
        deadline = time.monotonic() + _SECONDS
        while True:
            try:
                connect(url).close()
                break
            except psycopg2.OperationalError:
                if process.poll() is not None or time.monotonic() > deadline:
                    pytest.fail(f"PgBouncer takes no connection: {(folder / 'log').read_text(errors='replace')}")
                time.sleep(0.05)
        yield url
    finally:
        process.terminate()
        process.wait()
        log.close()
        shutil.rmtree(folder)


# --- work -------------------------------------------------------------------------------------------------------------

TABLES = """
CREATE TABLE note (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, owner text, number int);
CREATE FUNCTION go_astray(elsewhere text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('TimeZone', 'Asia/Tokyo', false);
    RETURN set_config('search_path', elsewhere, false);
END $$;
"""


class Worker:
    """Calls every helper in one schema, and counts the rows that must be there in the end."""

    def __init__(self, schema: str, elsewhere: str) -> None:
        self.schema = schema
        self.elsewhere = elsewhere
        self.notes = 0
        self.runs = 0
        self.cycles = 0

    def work(self, calls: int) -> None:
        with schema_context(self.schema):
            cycle_id = self.create_cycle()
            stage_id = get_or_create_stage(cycle_id, 1, self.schema)
            self.step_id = get_or_create_step(stage_id, 1, self.schema)
            self.tracked_step_id = get_or_create_step(stage_id, 2, self.schema)
            for number in range(calls):
                self.KINDS[number % len(self.KINDS)](self)

    def create_cycle(self) -> int:
        self.cycles += 1
        return create_cycle(f"{self.schema}-{self.cycles}")

    def read_cycle(self) -> None:
        assert (get_cycle_by_name(f"{self.schema}-1") or {})["status"] == "ACTIVE"
        assert str((get_active_cycle() or {})["cycle_name"]).startswith(f"{self.schema}-")

    def insert(self) -> None:
        execute_insert("INSERT INTO note (owner, number) VALUES (%s, 1)", (self.schema,))
        self.notes += 1

    def insert_by_command(self) -> None:
        assert execute_command("INSERT INTO note (owner, number) VALUES (%s, 2)", (self.schema,)) == 1
        self.notes += 1

    def insert_with_schema_argument(self) -> None:
        with schema_context(self.elsewhere):
            execute_command("INSERT INTO note (owner) VALUES (%s)", (self.schema,), schema=self.schema)
        self.notes += 1

    def insert_many(self) -> None:
        bulk_insert("INSERT INTO note (owner, number) VALUES (%s, %s)", [(self.schema, n) for n in range(3)])
        self.notes += 3

    def read(self) -> None:
        assert execute_scalar("SELECT current_schema()") == self.schema
        assert fetch_one("SELECT count(*) AS n FROM note WHERE owner = %s", (self.schema,)) == {"n": self.notes}
        assert fetch_all("SELECT 1 FROM note WHERE owner <> %s", (self.schema,)) == []

    def read_a_frame(self) -> None:
        assert len(execute_query("SELECT owner FROM note")) == self.notes

    def read_times(self) -> None:
        assert execute_scalar("SELECT current_setting('TimeZone')") == "UTC"
        assert execute_scalar("SELECT current_setting('transaction_isolation')") == "read committed"

    def commit(self) -> None:
        with transaction():
            execute_command("INSERT INTO note (owner, number) VALUES (%s, 3)", (self.schema,))
            execute_scalar("SELECT go_astray(%s)", (self.elsewhere,))
            execute_command("SAVEPOINT here")
            execute_command("SET LOCAL search_path TO pg_catalog")
            execute_command("ROLLBACK TO SAVEPOINT here")
            assert execute_scalar("SELECT count(*) FROM note WHERE owner = %s", (self.schema,)) == self.notes + 1
        self.notes += 1

    def roll_back(self) -> None:
        with suppress(LookupError), transaction():
            execute_command("INSERT INTO note (owner) VALUES ('undone')")
            raise LookupError

    def run_step(self) -> None:
        run_id, run_num = create_step_run(self.step_id, self.schema)
        assert update_step_run(run_id, "COMPLETED")
        assert (get_last_step_run(self.step_id) or {})["run_num"] == run_num
        self.runs += 1

    def track(self) -> None:
        with track_step(self.tracked_step_id, self.schema, rerun=True) as run:
            run.output["schema"] = execute_scalar("SELECT current_schema()")
        assert (get_last_step_run(self.tracked_step_id) or {})["output_data"] == {"schema": self.schema}
        self.runs += 1

    def go_astray(self) -> None:
        execute_scalar("SELECT go_astray(%s)", (self.elsewhere,))

    def leave_settings(self) -> None:
        execute_command(f'SET search_path TO "{self.elsewhere}"')
        execute_command("SET default_transaction_isolation TO 'serializable'")
        execute_command("DISCARD ALL")

    def use_sqlalchemy(self) -> None:
        with get_engine().connect() as connection:
            assert connection.execute(sa.text("SELECT current_schema()")).scalar() == self.schema
            connection.execute(sa.text("INSERT INTO note (owner) VALUES (:owner)"), {"owner": self.schema})
        engine = get_engine().execution_options(isolation_level="READ COMMITTED")
        with engine.begin() as connection:
            connection.exec_driver_sql("SELECT go_astray(%s)", (self.elsewhere,))
            with connection.begin_nested() as savepoint:
                connection.exec_driver_sql("SET LOCAL search_path TO pg_catalog")
                savepoint.rollback()
            rows = [{"owner": self.schema}, {"owner": self.schema}]
            connection.execute(sa.text("INSERT INTO note (owner) VALUES (:owner)"), rows)
        self.notes += 3

    def use_pandas(self) -> None:
        pd.DataFrame({"owner": [self.schema] * 2}).to_sql("note", get_engine(), if_exists="append", index=False)
        self.notes += 2
        assert set(pd.read_sql("SELECT owner FROM note", get_engine())["owner"]) == {self.schema}

    KINDS = (
        insert,
        create_cycle,
        read,
        insert_by_command,
        read_a_frame,
        run_step,
        go_astray,
        insert_with_schema_argument,
        read_times,
        read_cycle,
        insert_many,
        commit,
        read,
        roll_back,
        track,
        leave_settings,
        insert,
        use_sqlalchemy,
        use_pandas,
        read,
    )


def work(schema: str, elsewhere: str, calls: int) -> None:
    """Work in a schema and say how many notes, cycles and step runs must be there."""
    worker = Worker(schema, elsewhere)
    worker.work(calls)
    print(worker.notes, worker.cycles, worker.runs)


def rows_of(url: sa.URL, schema: str) -> tuple[int, int, int, int]:
    """Return how many notes, cycles and step runs a schema holds, and how many rows of others."""
    with closing(connect(url)) as connection, connection.cursor() as cursor:
        cursor.execute(
            f"""
            SELECT (SELECT count(*) FROM {schema}.note), (SELECT count(*) FROM {schema}.irp_cycle),
                   (SELECT count(*) FROM {schema}.irp_step_run),
                   (SELECT count(*) FROM {schema}.note WHERE owner <> %(schema)s)
                 + (SELECT count(*) FROM {schema}.irp_cycle WHERE cycle_name NOT LIKE %(schema)s || '-%%')
                 + (SELECT count(*) FROM {schema}.irp_step_run WHERE started_by <> %(schema)s)
            """,
            {"schema": schema},
        )
        found: tuple[int, int, int, int] = cursor.fetchone()
    return found
