"""The server restarts, goes away, or was never there."""

import shutil
import socket
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import psutil
import psycopg2
import pytest
import sqlalchemy as sa

from irp_pipeline import embedded, settings
from irp_pipeline.helpers.database import (
    DatabaseError,
    bulk_insert,
    dispose_engine,
    drop_schema,
    execute_command,
    execute_insert,
    execute_query,
    execute_scalar,
    fetch_all,
    fetch_one,
    get_engine,
    init_database,
    transaction,
)
from irp_pipeline.helpers.db_context import schema_context
from irp_pipeline.postgres import connections
from irp_pipeline_tests.support.processes import is_alive
from irp_pipeline_tests.support.waiting import wait_until

SCHEMA = "away"
PASSWORD = "pass:word/%@"

CALLS: list[Callable[[], object]] = [
    lambda: execute_scalar("SELECT 1"),
    lambda: execute_query("SELECT 1"),
    lambda: execute_command("SELECT 1"),
    lambda: execute_insert("INSERT INTO note (text) VALUES ('called')"),
    lambda: bulk_insert("INSERT INTO note (text) VALUES (%s)", [("called",)]),
    lambda: fetch_one("SELECT 1"),
    lambda: fetch_all("SELECT 1"),
    lambda: init_database("another"),
    lambda: drop_schema("another"),
]


@pytest.fixture(autouse=True)
def _own_engine() -> Iterator[None]:
    dispose_engine()
    yield
    dispose_engine()


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """A server of this module's own, which it may stop and kill."""
    folder = Path(tempfile.mkdtemp(prefix="irp-away-"))
    with pytest.MonkeyPatch.context() as environment:
        use(environment, embedded.ensure_running(folder))
        dispose_engine()
        init_database(SCHEMA)
        execute_command("CREATE TABLE note (id bigint GENERATED ALWAYS AS IDENTITY, text text)", schema=SCHEMA)
        dispose_engine()
    yield folder
    embedded.stop(folder)
    shutil.rmtree(folder)


@pytest.fixture
def server(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """That server, as one that somebody else looks after: only its address is known."""
    use(monkeypatch, embedded.ensure_running(home))
    with schema_context(SCHEMA):
        yield home
        embedded.ensure_running(home)
        execute_command("TRUNCATE note")


def use(environment: pytest.MonkeyPatch, url: sa.URL) -> None:
    for name in ("DB_SERVER", "DB_PORT", "DB_NAME", "DB_USER", "DB_PASSWORD"):
        environment.delenv(name, raising=False)
    environment.setenv("IRP_DATABASE_URL", url.render_as_string(hide_password=False))


def restart(home: Path) -> None:
    assert embedded.stop(home)
    embedded.ensure_running(home)


def fill_the_pool(size: int = 3) -> list[int]:
    """Leave idle connections in the pool, and say which."""
    held = [get_engine().connect() for _ in range(size)]
    pids = [connection.exec_driver_sql("SELECT pg_backend_pid()").scalar() for connection in held]
    for connection in held:
        connection.close()
    return [pid for pid in pids if pid is not None]


def notes() -> list[str]:
    return [row["text"] for row in fetch_all("SELECT text FROM note ORDER BY id")]


# --- back again ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", CALLS, ids=range(len(CALLS)))
def test_any_first_call_after_the_connections_were_ended_works(server, call):
    fill_the_pool()
    end_all_connections(server)
    call()


def end_all_connections(home: Path) -> None:
    url = embedded.server_url(home)
    with closing(psycopg2.connect(host=url.query["host"], user=url.username, dbname="postgres")) as connection:
        cursor = connection.cursor()
        cursor.execute(
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = %s", [url.database]
        )


@pytest.mark.parametrize("idle_limit", [0.0, 3600.0], ids=["idle for longer", "used just now"])
def test_after_a_restart_the_next_call_works(server, monkeypatch, idle_limit):
    monkeypatch.setattr(connections, "_IDLE_SECONDS_BEFORE_TEST", idle_limit)
    before = fill_the_pool()
    execute_command("INSERT INTO note (text) VALUES ('before')")
    restart(server)
    assert execute_insert("INSERT INTO note (text) VALUES ('after')") > 0
    assert fetch_one("SELECT text FROM note WHERE text = 'after'") == {"text": "after"}
    assert not set(fill_the_pool()) & set(before)


def test_after_a_restart_another_schema_a_transaction_and_sqlalchemy_work(server):
    fill_the_pool()
    restart(server)
    with transaction():
        execute_command("INSERT INTO note (text) VALUES ('a')")
    restart(server)
    assert execute_scalar("SELECT current_schema()", schema="public") == "public"
    restart(server)
    with get_engine().connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM note").scalar() == 1


def test_a_restart_inside_of_a_transaction_writes_nothing_and_the_next_one_works(server):
    def write() -> None:
        with transaction():
            execute_command("INSERT INTO note (text) VALUES ('lost')")
            restart(server)
            execute_command("INSERT INTO note (text) VALUES ('lost too')")

    with pytest.raises(DatabaseError) as caught:
        write()
    assert caught.value.disconnected
    with transaction():
        execute_command("INSERT INTO note (text) VALUES ('written')")
    assert notes() == ["written"]


def test_a_statement_that_is_cut_off_is_a_disconnection(server):
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(execute_scalar, "SELECT pg_sleep(60)", schema=SCHEMA)
        while not execute_scalar("SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%SELECT pg_sleep(60)'"):
            assert not waiting.done()
        end_all_connections(server)
        with pytest.raises(DatabaseError) as caught:
            waiting.result()
    assert caught.value.disconnected
    assert "SELECT pg_sleep(60)" in str(caught.value)
    assert execute_scalar("SELECT 1") == 1


def test_a_connection_that_dies_with_a_callers_begin_on_it_is_replaced(server):
    for _ in range(20):  # more often than there are places in the pool
        with get_engine().connect() as connection:
            connection.exec_driver_sql("BEGIN")
            end_all_connections(server)
    assert execute_scalar("SELECT 1") == 1
    assert " Current Checked out connections: 0" in get_engine().pool.status()


def test_threads_at_work_during_a_restart_fail_or_write_and_then_go_on(server):
    stop = threading.Event()
    failed, written = [], []

    def work(number: int) -> None:
        count = 0
        with schema_context(SCHEMA):
            while not stop.is_set():
                count += 1
                try:
                    with transaction():
                        execute_command("INSERT INTO note (text) VALUES (%s)", (f"{number} {count}",))
                except DatabaseError as error:
                    assert error.disconnected, error  # noqa: PT017 - another error would be the surprise
                    failed.append(f"{number} {count}")
                else:
                    written.append(f"{number} {count}")

    with ThreadPoolExecutor(4) as pool:
        workers = [pool.submit(work, number) for number in range(4)]
        try:
            wait_until(lambda: len(written) > 20, "work was done before the restart")
            restart(server)
            so_far = len(written)
            wait_until(lambda: len(written) > so_far + 20, "work was done after the restart")
        finally:
            stop.set()
        for worker in workers:
            worker.result()
    found = notes()
    assert set(written) <= set(found)
    assert len(found) == len(set(found))
    assert set(found) - set(written) <= set(failed)  # committed, but the answer was lost


def test_the_embedded_server_comes_back_by_itself(home, monkeypatch):
    monkeypatch.delenv("IRP_DATABASE_URL", raising=False)
    for name in ("DB_SERVER", "DB_PORT", "DB_NAME", "DB_USER", "DB_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("IRP_HOME", str(home))
    assert settings.database_source() == "embedded"
    with schema_context(SCHEMA):
        fill_the_pool()
        assert embedded.stop(home)
        assert execute_scalar("SELECT current_schema()") == SCHEMA
        postmaster = psutil.Process(int((home / "postgres/data/postmaster.pid").read_text().split()[0]))
        processes = [postmaster, *postmaster.children()]
        postmaster.kill()
        wait_until(lambda: not any(map(is_alive, processes)), "the server and all its sessions are gone")
        assert execute_scalar("SELECT current_schema()") == SCHEMA


# --- away ---------------------------------------------------------------------------------------------------------


def assert_says_where(error: BaseException, host: str, database: str) -> None:
    """The error names the place, and no error in its chain tells the password."""
    assert isinstance(error, DatabaseError)
    assert error.disconnected
    assert host in str(error)
    assert database in str(error)
    shown = "".join(traceback.format_exception(error))
    assert PASSWORD not in shown
    assert "word/" not in shown
    assert "pass%3Aword" not in shown


def test_a_server_that_was_stopped_is_an_error_until_it_is_back(server):
    fill_the_pool()
    assert embedded.stop(server)
    for call in CALLS:
        with pytest.raises(DatabaseError) as caught:
            call()
        assert_says_where(caught.value, str(embedded.server_url(server).query["host"]), embedded.DATABASE_NAME)
    embedded.ensure_running(server)
    for call in CALLS:
        call()


@pytest.fixture
def deaf_port() -> Iterator[int]:
    """A port that takes no connection."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@pytest.fixture
def mute_port() -> Iterator[int]:
    """A port that takes every connection and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=50) as listening:
        yield listening.getsockname()[1]


def point_to(environment: pytest.MonkeyPatch, port: int) -> None:
    use(environment, sa.URL.create("postgresql", "analyst", PASSWORD, "127.0.0.1", port, "risk_db"))


def test_a_port_that_takes_no_connection_is_an_error_at_once(deaf_port, monkeypatch):
    point_to(monkeypatch, deaf_port)
    for call in CALLS:
        began = time.monotonic()
        with pytest.raises(DatabaseError) as caught:
            call()
        assert time.monotonic() - began < 5
        assert_says_where(caught.value, f"127.0.0.1, port {deaf_port}", "risk_db")
        assert "refused" in str(caught.value)
    with pytest.raises(DatabaseError), transaction():
        pass


def test_the_old_variables_lead_to_the_same_error(deaf_port, monkeypatch):
    monkeypatch.delenv("IRP_DATABASE_URL", raising=False)
    for name, value in (("SERVER", "127.0.0.1"), ("PORT", deaf_port), ("NAME", "risk_db"), ("PASSWORD", PASSWORD)):
        monkeypatch.setenv(f"DB_{name}", str(value))
    with pytest.raises(DatabaseError) as caught:
        execute_scalar("SELECT 1")
    assert_says_where(caught.value, f"127.0.0.1, port {deaf_port}", "risk_db")


def test_sqlalchemy_does_not_tell_the_password_either(deaf_port, monkeypatch):
    point_to(monkeypatch, deaf_port)
    with pytest.raises(sa.exc.OperationalError) as caught:
        get_engine().connect()
    assert "word/" not in "".join(traceback.format_exception(caught.value)) + repr(get_engine())


@pytest.mark.parametrize("call", [CALLS[0], CALLS[-1]], ids=["a query", "drop_schema"])
def test_a_server_that_never_answers_is_an_error_within_the_connect_timeout(mute_port, monkeypatch, call):
    monkeypatch.setenv("IRP_CONNECT_TIMEOUT", "2")
    point_to(monkeypatch, mute_port)
    began = time.monotonic()
    with pytest.raises(DatabaseError) as caught:
        call()
    assert 1 < time.monotonic() - began < 9
    assert_says_where(caught.value, f"127.0.0.1, port {mute_port}", "risk_db")


def test_a_server_that_hangs_up_on_everybody_is_an_error(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as listening, ThreadPoolExecutor(1) as pool:

        def hang_up() -> None:
            while True:
                client, _ = listening.accept()
                with client:
                    if client.recv(1) == b"":
                        return

        hanging_up = pool.submit(hang_up)
        point_to(monkeypatch, listening.getsockname()[1])
        with pytest.raises(DatabaseError) as caught:
            execute_scalar("SELECT 1")
        assert_says_where(caught.value, "127.0.0.1", "risk_db")
        socket.create_connection(listening.getsockname()).close()
        hanging_up.result()


def test_a_database_that_the_server_does_not_have_is_an_error(server, monkeypatch):
    use(monkeypatch, embedded.server_url(server).set(database="no_such_db", password=PASSWORD))
    dispose_engine()
    with pytest.raises(DatabaseError) as caught:
        execute_scalar("SELECT 1")
    assert_says_where(caught.value, str(embedded.server_url(server).query["host"]), "no_such_db")
    use(monkeypatch, embedded.server_url(server))
    dispose_engine()


def test_the_settings_are_read_again_after_dispose_engine(server, deaf_port, monkeypatch):
    assert execute_scalar("SELECT 1") == 1
    point_to(monkeypatch, deaf_port)
    assert execute_scalar("SELECT 1") == 1
    dispose_engine()
    with pytest.raises(DatabaseError):
        execute_scalar("SELECT 1")
    use(monkeypatch, embedded.server_url(server))
    dispose_engine()
    assert execute_scalar("SELECT 1") == 1
