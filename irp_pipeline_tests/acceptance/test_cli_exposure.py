"""``irp exposure check``: OED files, without a cycle or a database."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner, Result

from irp_pipeline.cli import app

CASES = Path(__file__).parents[1] / "cases"
Run = Callable[..., Result]


@pytest.fixture
def check(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the command in this process, where no database can be reached."""
    monkeypatch.setenv("IRP_DATABASE_URL", "postgresql+psycopg2://nobody@127.0.0.1:1/nothing")

    def run(*arguments: object, status: int = 0) -> Result:
        result = CliRunner().invoke(app, ["exposure", "check", *map(str, arguments)], prog_name="irp")
        assert result.exit_code == status, f"{result.output}\n{result.exception!r}"
        assert "Traceback" not in result.output
        return result

    return run


def test_an_error_is_shown_with_its_place_and_ends_with_status_one(check: Run) -> None:
    result = check(*sorted((CASES / "duplicate-locnumber").iterdir()), status=1)
    line = result.stdout.splitlines()[1]
    for expected in ("error", "location.csv", " 3 ", "LocNumber", "portfolio 1, account A1, location 1", "9,500"):
        assert expected in line
    assert "account.csv: 1 error" in result.stderr


def test_warnings_alone_end_with_status_zero(check: Run) -> None:
    result = check(*sorted((CASES / "reinsurance-scope-without-match").iterdir()))
    assert "P9: no policy has this PolNumber within PortNumber 1, AccNumber A1" in result.stdout
    assert "2 warnings" in result.stderr


def test_findings_come_as_data(check: Run) -> None:
    answer = json.loads(check(*sorted((CASES / "condtag-reference").iterdir()), "--json", status=1).stdout)
    assert (answer["errors"], answer["warnings"], answer["infos"], answer["losses"]) == (1, 1, 0, ["GUL", "IL"])
    first = answer["findings"][0]
    assert {name: first[name] for name in ("check", "severity", "table", "file", "row", "column", "value")} == {
        "check": "condtag-missing",
        "severity": "error",
        "table": "location",
        "file": "location.csv",
        "row": 2,
        "column": "CondTag",
        "value": "C1",
    }


@pytest.mark.parametrize("names", [("Q1_Locations", "ACC_2024"), ("loc", "policies"), ("homes.location", "account")])
def test_the_names_of_files_tell_their_tables(check: Run, tmp_path: Path, names: tuple[str, str]) -> None:
    for table, name in zip(("location", "account"), names, strict=True):
        shutil.copy(CASES / "condtag-reference" / f"{table}.csv", tmp_path / f"{name}.csv")
    answer = json.loads(check(*sorted(tmp_path.iterdir()), "--json", status=1).stdout)
    assert {table: Path(file).stem for table, file in answer["files"].items()} == {
        "location": names[0],
        "account": names[1],
    }


@pytest.mark.parametrize("scope", ["ri_scope", "ReinsScope", "RI-Scope"])
def test_reinsurance_files_are_told_apart(check: Run, tmp_path: Path, scope: str) -> None:
    shutil.copytree(CASES / "reinsurance-scope-without-match", tmp_path, dirs_exist_ok=True)
    (tmp_path / "ri_scope.csv").rename(tmp_path / f"{scope}.csv")
    (tmp_path / "ri_info.csv").rename(tmp_path / f"{scope.replace('scope', 'info').replace('Scope', 'Info')}.csv")
    answer = json.loads(check(*sorted(tmp_path.iterdir()), "--json").stdout)
    assert list(answer["files"]) == ["location", "account", "ri_info", "ri_scope"]


def test_parquet_files_and_other_names_are_read_too(check: Run, tmp_path: Path) -> None:
    folder = CASES / "duplicate-locnumber"
    pd.read_csv(folder / "location.csv", dtype=str).to_parquet(tmp_path / "homes.parquet")
    result = check("--location", tmp_path / "homes.parquet", "--account", folder / "account.csv", status=1)
    assert "homes.parquet" in result.stdout


def test_what_cannot_be_understood_is_wrong_usage(check: Run, tmp_path: Path) -> None:
    (tmp_path / "homes.csv").write_text("a\n")
    assert "use one of --location" in check(tmp_path / "homes.csv", status=2).stderr.replace("\n", " ")
    files = [CASES / case / "location.csv" for case in ("duplicate-locnumber", "condtag-reference")]
    assert "are both the location table" in check(*files, status=2).stderr.replace("\n", " ")
    assert "Name the files to check" in check("--losses", "GUL", status=2).stderr
    check(files[0], "--losses", "XX", status=2)
    check(files[0], "--currency", "EURO", status=2)


def test_a_file_that_cannot_be_read_is_an_error_in_words(check: Run, tmp_path: Path) -> None:
    assert "there is no file" in check(tmp_path / "location.csv", status=1).stderr
    (tmp_path / "location.csv").write_text("PortNumber,BuildingTIV\n1,much\n")
    assert "'much' is not a number" in check(tmp_path / "location.csv", status=1).stderr.replace("\n", " ")


def test_how_a_file_is_written_can_be_said(check: Run) -> None:
    """What the messages ask for is there: a command has no workbook to write it into."""
    dots, other = CASES / "dot-thousands" / "location.csv", CASES / "cp1252-no-encoding-in-workbook" / "location.csv"
    assert "write '.' or ',' in the option --decimal" in check(dots, status=1).stderr.replace("\n", " ")
    assert "is not a number" not in check(dots, "--decimal", ",").stderr
    assert "write its encoding in the option --encoding" in check(other, status=1).stderr.replace("\n", " ")
    check(other, "--encoding", "cp1252")
    wrong = check(other, "--encoding", "cp1252", "--delimiter", "tab", status=1).stderr.replace("\n", " ")
    assert "Correct the option --encoding or the option --delimiter" in wrong


def test_losses_that_are_asked_for_say_which_tables_must_be_there(check: Run) -> None:
    location = CASES / "condtag-reference" / "location.csv"
    check(location)
    assert "account file" in check(location, "--losses", "GUL,IL", status=1).stdout
    assert "is GBP, but losses are in EUR" in check(location, "--currency", "eur", status=1).stdout
