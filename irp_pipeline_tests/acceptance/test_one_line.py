"""Whatever is wrong with a database, a disk or a setting: ``irp`` says it in one line, and its exit status tells."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from sqlalchemy import URL
from typer.testing import CliRunner

from irp_pipeline import embedded
from irp_pipeline.cli import app
from irp_pipeline.helpers.cycle import create_cycle
from irp_pipeline.helpers.database import dispose_engine, init_database

CYCLE = "Q1-2024"
SECRET = "correct-horse-battery-staple"
SECONDS = 120


class Server:
    """A server of the tests' own, on which roles may lack whatever a test takes from them."""

    def __init__(self, url: URL) -> None:
        self._url = url

    def run(self, *statements: str, database: str | None = None) -> None:
        url = self._url if database is None else self._url.set(database=database)
        address = url.set(drivername="postgresql").render_as_string(hide_password=False)
        with closing(psycopg2.connect(address)) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                for statement in statements:
                    cursor.execute(statement)

    def url(self, role: str | None = None, database: str | None = None) -> str:
        url = self._url.set(drivername="postgresql", password=SECRET)
        url = url.set(username=role or url.username, database=database or url.database)
        return url.render_as_string(hide_password=False)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("one-line")
    with pytest.MonkeyPatch.context() as environment:
        for name in ("DB_SCHEMA", "DAGSTER_HOME", "IRP_EXECUTOR", "DB_SERVER", "IRP_DATABASE_URL"):
            environment.delenv(name, raising=False)
        environment.setenv("IRP_HOME", str(folder))
        yield folder


@pytest.fixture(scope="module")
def server(home: Path) -> Iterator[Server]:
    found = Server(embedded.ensure_running(home))
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("IRP_DATABASE_URL", found.url())
        dispose_engine()
        init_database("public")
        create_cycle(CYCLE)
        dispose_engine()
        for role in ("reader", "stranger", "no_creator", "lost", "crowded"):
            found.run(f"CREATE ROLE {role} LOGIN")
            found.run(f"GRANT USAGE ON SCHEMA public TO {role}")
            found.run(f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}")
        found.run(
            "ALTER ROLE reader SET default_transaction_read_only = on",
            "ALTER ROLE lost SET search_path = nowhere",
            "ALTER ROLE crowded CONNECTION LIMIT 0",
            "CREATE DATABASE records",
            "CREATE DATABASE closed",
            "REVOKE CONNECT ON DATABASE closed FROM public",
            "REVOKE ALL ON ALL TABLES IN SCHEMA public FROM stranger",
        )
        yield found
        dispose_engine()
    embedded.stop(home)


@dataclass(frozen=True)
class Ended:
    """How a command ended, and what it said."""

    returncode: int
    stdout: str
    stderr: str


def irp(*arguments: str, **variables: Any) -> Ended:
    """Run the command in this process; an exception that would be a traceback goes on."""
    with pytest.MonkeyPatch.context() as environment:
        for name, value in variables.items():
            environment.setenv(name, str(value))
        dispose_engine()
        try:
            result = CliRunner().invoke(app, arguments)
        finally:
            dispose_engine()
            # `irp run` points at the instance of its IRP_HOME, as a process of its own does.
            os.environ.pop("DAGSTER_HOME", None)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Ended(result.exit_code, result.stdout, result.stderr)


def irp_process(*arguments: str, **variables: Any) -> Ended:
    """Run the command in a process of its own, which reads all of its settings anew."""
    result = subprocess.run(
        [sys.executable, "-m", "irp_pipeline.cli", *arguments],
        env={**os.environ, **{name: str(value) for name, value in variables.items()}},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    return Ended(result.returncode, result.stdout, result.stderr)


def told(result: Ended, *words: str) -> None:
    """Check that a command failed, and said why in one line that has these words."""
    everything = result.stdout + result.stderr
    assert result.returncode == 1, everything
    assert "Traceback" not in everything
    assert SECRET not in everything
    [line] = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    for word in words:
        assert word in line, everything


# --- Dagster's database -------------------------------------------------------------------------------------------

RECORDS = {
    "down": (lambda server: f"postgresql://ada:{SECRET}@127.0.0.1:1/records", "Connection refused"),
    "missing, and may not be made": (lambda server: server.url("no_creator", "missing"), "missing"),
    "without the right to connect": (lambda server: server.url("no_creator", "closed"), "permission denied"),
    "read only": (lambda server: server.url("reader", "records"), "read-only"),
    "without rights": (lambda server: server.url("no_creator", "records"), "permission denied"),
    "search path without a schema": (lambda server: server.url("lost", "records"), "no schema has been selected"),
    "full": (lambda server: server.url("crowded", "records"), "too many connections"),
}


@pytest.mark.parametrize(("url", "said"), RECORDS.values(), ids=RECORDS)
def test_what_is_wrong_with_dagsters_database_is_told(server, url, said):
    variables = {"IRP_DAGSTER_DATABASE_URL": url(server)}
    if "missing" in variables["IRP_DAGSTER_DATABASE_URL"]:
        variables["IRP_DATABASE_URL"] = server.url("no_creator")
    result = irp("run", CYCLE, **variables)
    told(result, said if "missing" not in said else "", "")
    doctor = irp("doctor", "--json", **variables)
    findings = json.loads(doctor.stdout)["findings"]
    [found] = [finding for finding in findings if finding["subject"] == "Dagster's records"]
    assert found["state"] == "wrong", found
    assert found["remedy"]
    assert doctor.returncode == 1


def test_what_is_wrong_with_dagsters_database_is_told_to_programs(server):
    result = irp("run", CYCLE, "--json", IRP_DAGSTER_DATABASE_URL=server.url("reader", "records"))
    assert (result.returncode, result.stdout) == (1, "")
    error = json.loads(result.stderr)["error"]
    assert error["type"] == "DatabaseError"
    assert "read-only" in error["message"]
    assert SECRET not in result.stderr


def test_notes_on_errors_are_printed(server):
    result = irp("run", CYCLE, IRP_DATABASE_URL=server.url("no_creator"))
    told(result, "ermission denied to create database")
    assert "or name another one in IRP_DAGSTER_DATABASE_URL" in result.stderr


# --- the pipeline's database --------------------------------------------------------------------------------------

COMMANDS = [
    ("cycle", "create", "Q2-2024"),
    ("cycle", "archive", CYCLE),
    ("cycle", "delete", CYCLE, "--yes"),
    ("run", CYCLE),
    ("db", "init", "--db-schema", "another"),
    ("db", "drop", "public", "--force", "--yes"),
]
PIPELINES = {
    "down": lambda server: f"postgresql://ada:{SECRET}@127.0.0.1:1/irp",
    "missing": lambda server: server.url("stranger", "missing"),
    "without the right to connect": lambda server: server.url("stranger", "closed"),
    "without rights": lambda server: server.url("stranger"),
    "read only": lambda server: server.url("reader"),
    "full": lambda server: server.url("crowded"),
}


@pytest.mark.parametrize("url", PIPELINES.values(), ids=PIPELINES)
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_what_is_wrong_with_the_pipelines_database_is_told(server, command, url):
    if command[0] == "run" and url is PIPELINES["read only"]:
        pytest.skip("its cycle can be read, and the failure of its first step is told as such")
    told(irp(*command, IRP_DATABASE_URL=url(server)))


@pytest.mark.parametrize("url", PIPELINES.values(), ids=PIPELINES)
def test_doctor_says_what_is_wrong_with_the_pipelines_database(server, url):
    result = irp("doctor", "--json", IRP_DATABASE_URL=url(server))
    assert result.returncode == 1
    assert result.stderr == ""
    wrong = [finding for finding in json.loads(result.stdout)["findings"] if finding["state"] == "wrong"]
    assert wrong
    assert all(finding["remedy"] for finding in wrong), wrong
    assert SECRET not in result.stdout


def test_a_server_that_never_answers_is_given_up(home):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql://ada:{SECRET}@127.0.0.1:{silent.getsockname()[1]}/irp"
        told(irp("cycle", "list", IRP_DATABASE_URL=url, IRP_CONNECT_TIMEOUT=2), "No connection to")


# --- settings -----------------------------------------------------------------------------------------------------

SETTINGS = {
    "IRP_EXECUTOR": "somewhere",
    "IRP_TIME_ZONE": "Europe/Nowhere",
    "IRP_JOB_SLOTS": "many",
    "IRP_JOB_HOURS": "-1",
    "IRP_JOB_DISK_GB": "0",
    "IRP_JOB_MEMORY_GB": "none",
    "IRP_POOL_SIZE": "0",
    "IRP_CONNECT_TIMEOUT": "soon",
    "IRP_DAGSTER_DATABASE_URL": f"mysql://ada:{SECRET}@db/x",
    "IRP_UI_URL": f"https://ada:{SECRET}@irp.example.com",
}


@pytest.mark.parametrize(("variable", "value"), SETTINGS.items())
def test_doctor_names_a_setting_that_is_wrong(server, variable, value):
    result = irp("doctor", **{variable: value})
    assert result.returncode == 1, result.stdout
    assert "Traceback" not in result.stdout + result.stderr
    [line] = [line for line in result.stdout.splitlines() if line.startswith("wrong") and "Settings" in line]
    assert variable in line
    assert SECRET not in result.stdout


def test_doctor_names_a_url_for_messages_that_is_wrong_without_showing_any(server):
    urls = f"failed=json://127.0.0.1/{SECRET} slack://{SECRET}"
    result = irp("doctor", IRP_MESSAGES=urls)
    assert result.returncode == 1, result.stdout
    lines = [line for line in result.stdout.splitlines() if "Messages" in line]
    assert len(lines) == 2
    assert lines[0].startswith("wrong")
    assert "Entry 2 of IRP_MESSAGES is not a URL that apprise can use" in lines[0]
    assert lines[1].split(maxsplit=2) == ["ok", "Messages", "json 1 is told of: failed"]
    assert SECRET not in result.stdout + result.stderr


@pytest.mark.parametrize(
    "variable", ["IRP_EXECUTOR", "IRP_TIME_ZONE", "IRP_CONNECT_TIMEOUT", "IRP_DAGSTER_DATABASE_URL"]
)
def test_a_run_with_a_setting_that_is_wrong_is_told_in_one_line(server, variable):
    told(irp_process("run", CYCLE, **{variable: SETTINGS[variable]}), variable)


@contextmanager
def dagster_home(folder: Path, content: str | None) -> Iterator[Path]:
    folder.mkdir()
    if content is not None:
        (folder / "dagster.yaml").write_text(content)
    yield folder


WRONG_FILES = {
    "no YAML": "storage: [",
    "an unknown setting": "strage: {}",
    "a module that is not there": "run_launcher: {module: nowhere, class: Nobody}",
    "a storage that is not there": "storage: {custom: {module: nowhere, class: Nobody, config: {}}}",
    "a list": "- one",
    "a class that is not there": "run_launcher: {module: irp_pipeline.orchestration.launcher, class: Nobody}",
}


@pytest.mark.parametrize("content", WRONG_FILES.values(), ids=WRONG_FILES)
def test_a_wrong_dagster_yaml_is_named(server, tmp_path, content):
    with dagster_home(tmp_path / "home", content) as folder:
        told(irp("run", CYCLE, DAGSTER_HOME=folder), "The Dagster instance in ", str(folder / "dagster.yaml"))


def test_a_dagster_home_that_is_not_there_is_named(server, tmp_path):
    missing = tmp_path / "missing"
    told(irp("run", CYCLE, DAGSTER_HOME=missing), str(missing), "DAGSTER_HOME")
    result = irp("doctor", DAGSTER_HOME=missing)
    assert result.returncode == 1
    assert f"{missing} is not a folder" in result.stdout


# --- disks --------------------------------------------------------------------------------------------------------


def test_a_file_where_a_folder_should_be_is_named(server, tmp_path):
    file = tmp_path / "file"
    file.touch()
    told(irp("run", CYCLE, IRP_HOME=file), str(file))
    told(irp("config", "template", str(file / "configuration.xlsx")), str(file))
    result = irp("doctor", IRP_HOME=file)
    assert result.returncode == 1
    assert "is a file, where a folder should be" in result.stdout


def test_a_full_disk_is_named(server):
    if not Path("/dev/full").exists():
        pytest.skip("this system has no disk that is always full")
    with Path("/dev/full").open("w") as full:
        result = subprocess.run(
            [sys.executable, "-m", "irp_pipeline.cli", "cycle", "list", "--json"],
            stdout=full, stderr=subprocess.PIPE, text=True, timeout=SECONDS, check=False,
        )  # fmt: skip
    assert result.returncode == 1
    assert "No space left on device" in result.stderr
    assert "Traceback" not in result.stderr


# --- workbooks ----------------------------------------------------------------------------------------------------


def test_mistakes_in_a_workbook_are_sentences_for_people_and_objects_for_programs(home, tmp_path):
    file = tmp_path / "configuration.xlsx"
    assert irp("config", "template", str(file)).returncode == 0
    result = irp("config", "check", str(file))
    assert result.returncode == 1
    assert "Problem(" not in result.stderr
    assert "Traceback" not in result.stderr
    error = json.loads(irp("config", "check", str(file), "--json").stderr)["error"]
    assert error["type"] == "WorkbookError"
    assert error["problems"]
    for problem in error["problems"]:
        assert {"sheet", "row", "column", "message"} <= problem.keys()
        assert problem["message"] in error["message"]


def test_a_run_with_a_wrong_workbook_has_its_mistakes_as_objects(server, tmp_path):
    file = tmp_path / "configuration.xlsx"
    assert irp("config", "template", str(file)).returncode == 0
    result = irp("run", CYCLE, "--config", str(file), "--json")
    assert result.returncode == 1
    [failed] = [step for step in json.loads(result.stdout)["steps"] if step["status"] == "failed"]
    assert failed["step"] == "setup.validate_configuration"
    assert failed["problems"]
    assert all(problem["message"] in failed["why"] for problem in failed["problems"])


def test_a_failed_step_is_told_once_and_nothing_of_those_after_it(server, tmp_path):
    file = tmp_path / "configuration.xlsx"
    assert irp("config", "template", str(file)).returncode == 0
    result = irp("run", CYCLE, "--config", str(file))
    assert result.returncode == 1
    assert result.stdout.count("failed  setup.validate_configuration") == 1
    for words in ("Not executing", "create_batches"):
        assert words not in result.stdout + result.stderr


@pytest.mark.parametrize("content", [b"", b"no workbook", b"PK\x03\x04" + b"\0" * 50])
def test_a_file_that_is_no_workbook_is_named(home, tmp_path, content):
    file = tmp_path / "configuration.xlsx"
    file.write_bytes(content)
    told(irp("config", "check", str(file)), "")
    assert "problems" in json.loads(irp("config", "check", str(file), "--json").stderr)["error"]
