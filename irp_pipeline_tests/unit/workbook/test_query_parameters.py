"""Portfolios whose queries have parameters: what a workbook may say, and what their values are."""

import datetime as dt
from pathlib import Path
from typing import Any

import openpyxl
import pytest

from irp_pipeline.workbook import (
    Workbook,
    WorkbookError,
    example_workbook,
    parameters_of,
    query_of,
    read_workbook,
    workbook_notes,
    write_workbook,
)

FILE = "sql/location.sql"
TABLE = "[Book 2024].dbo.account"
TEMPLATE = "-- the book of :nobody, as of the date\nSELECT * FROM location WHERE since <= :exposure_date;\n"
OFFERED = ":currency, :cycle_name, :exposure_date, :insurer, :portfolio"
COLON = "(write \\: for a colon that is meant as one)"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data folder with the files of the example workbook, and a file with a query."""
    for name in ("location", "account", "ri_info", "ri_scope"):
        file = tmp_path / "property" / f"{name}.csv"
        file.parent.mkdir(exist_ok=True)
        file.touch()
    model = tmp_path / "models" / "windstorm"
    model.mkdir(parents=True)
    (model / "oasislmf.json").write_text("{}")
    (model / "analysis_settings.json").write_text("{}")
    (tmp_path / "sql").mkdir()
    (tmp_path / FILE).write_text(TEMPLATE)
    return tmp_path


def without_notebooks() -> Workbook:
    return example_workbook().model_copy(update={"notebooks": ()})


def workbook_file(folder: Path, *, metadata: dict[str, Any] | None = None, **cells: object) -> Path:
    """The example workbook as a file, with other cells in the portfolio that is in a database, or other settings."""
    path = write_workbook(folder / "configuration.xlsx", without_notebooks(), overwrite=True)
    book = openpyxl.load_workbook(path)
    headers = [cell.value for cell in book["Portfolios"][1]]
    for name, value in cells.items():
        book["Portfolios"].cell(3, 1 + headers.index(name)).value = value
    for row in book["Metadata"].iter_rows(min_row=2, max_col=2):
        if metadata and row[0].value in metadata:
            row[1].value = metadata[row[0].value]
    book.save(path)
    return path


def problems(path: Path, **options: Any) -> list[str]:
    with pytest.raises(WorkbookError) as caught:
        read_workbook(path, **options)
    return str(caught.value).splitlines()


def test_a_query_in_a_file_with_parameters_is_valid(folder: Path) -> None:
    workbook = read_workbook(workbook_file(folder, location=FILE))
    assert workbook.portfolio("commercial").location == FILE
    assert query_of(FILE, folder) == TEMPLATE
    assert list(workbook_notes(workbook, folder)) == []


def test_all_mistakes_are_told_at_once_with_file_and_parameter(folder: Path) -> None:
    (folder / FILE).write_text("SELECT * FROM location WHERE since <= :exposure_dat AND ':no' = :line")
    path = workbook_file(
        folder,
        metadata={"exposure_date": None},
        location=FILE,
        account="SELECT * FROM account WHERE day = :day AND since < :exposure_date",
        ri_info="sql/nowhere.sql",
        ri_scope="../scope.sql",
    )
    used = "SELECT * FROM account WHERE day = :day AND since < :exposure_date"
    there_are = f"there are {OFFERED.replace('insurer', 'insurer, :line')} {COLON}"
    outside = "is outside of the data folder; give the path inside it, such as property/location.csv"
    assert problems(path) == [
        f"Metadata!B7 (exposure_date): is empty, but {used!r} on the sheet Portfolios uses :exposure_date",
        f"Portfolios!C3 (location): 'sql/location.sql': :exposure_dat is no parameter; {there_are}",
        f"Portfolios!D3 (account): :day is no parameter; {there_are}",
        f"Portfolios!E3 (ri_info): there is no file 'sql/nowhere.sql' in {folder}",
        f"Portfolios!F3 (ri_scope): '../scope.sql' {outside}",
    ]


def test_without_the_files_only_the_queries_in_cells_are_checked(folder: Path) -> None:
    path = workbook_file(folder, location="sql/nowhere.sql", account="SELECT :x FROM y", parameters=None)
    found = problems(path, check_files=False)
    assert found == [f"Portfolios!D3 (account): :x is no parameter; there are {OFFERED} {COLON}"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            b"DELETE FROM location",
            "is no query that begins with SELECT or WITH, but begins with 'DELETE FROM location'",
        ),
        (b"SELECT 1; DELETE FROM location", "holds a semicolon before its end; a file is one query"),
        (b"SELECT\n'Z\xfcrich'", ", line 2: is not UTF-8 text; save the file as UTF-8"),
        (b"", "is no query"),
        (b"SELECT '" + b"x" * 2**20 + b"'", "is larger than 1 MB"),
    ],
)
def test_a_file_that_is_no_query_is_refused(folder: Path, content: bytes, message: str) -> None:
    (folder / FILE).write_bytes(content)
    (found,) = problems(workbook_file(folder, location=FILE))
    assert found.startswith("Portfolios!C3 (location): 'sql/location.sql'")
    assert message in found


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ('{"exposure_date": 1}', "'exposure_date' is a parameter of every query already"),
        ('{"Portfolio": 1}', "'Portfolio' is a parameter of every query already"),
        ('{"a": 1, "A": 2}', "'A' is there twice; capitals do not count"),
        ('{"a b": 1}', "'a b' is not a name of letters"),
        ('{"a": null}', "'a' must be a text, a number, true or false, a date such as"),
        ('{"a": {"b": 1}}', "'a' must be a text"),
        ('{"a": []}', "'a' is an empty list"),
        ('{"a": [1, "x"]}', "'a' is a list of values of several kinds"),
        ('{"a": ["2024-01-31", "x"]}', "'a' is a list of values of several kinds"),
        ('{"a": 9223372036854775808}', "'a' is a number that is too large; write it as text"),
        ('{"a": "x\\u0000"}', "'a' contains a NUL character"),
        ("a = 1", "is not JSON"),
    ],
)
def test_a_parameter_that_can_be_none_is_refused(folder: Path, cell: str, message: str) -> None:
    found = problems(workbook_file(folder, account=TABLE, parameters=cell))
    assert len(found) == 1
    assert found[0].startswith("Portfolios!K3 (parameters): ")
    assert message in found[0]


def test_the_values_of_parameters_have_types(folder: Path) -> None:
    cell = '{"Lines": ["COM", "IND"], "least": 0.5, "count": 3, "old": true, "since": "2023-01-01", "no": "2023-02-31"}'
    path = workbook_file(folder, location=FILE, parameters=cell, account=TABLE)
    workbook = read_workbook(path)
    values = parameters_of(dict(workbook.portfolio("commercial")), dict(workbook.metadata), "Q1-2024")
    assert values == {
        "cycle_name": "Q1-2024",
        "portfolio": "commercial",
        "currency": "EUR",
        "exposure_date": dt.date(2024, 1, 1),
        "insurer": "Example Insurance",
        "lines": ("COM", "IND"),
        "least": 0.5,
        "count": 3,
        "old": True,
        "since": dt.date(2023, 1, 1),
        "no": "2023-02-31",
    }


def test_a_parameter_that_no_query_uses_is_noted(folder: Path) -> None:
    path = workbook_file(folder, location=FILE, parameters='{"line": "COM", "Date_from": 1}')
    (note,) = workbook_notes(read_workbook(path), folder)
    assert str(note) == "Portfolios (parameters): portfolio 'commercial': no query uses the parameter 'Date_from'"


def test_a_portfolio_without_parameters_has_the_plain_data_that_it_always_had(folder: Path) -> None:
    path = workbook_file(folder, account="SELECT ':x', a[1 \\: n] FROM t", parameters=None)
    workbook = read_workbook(path)
    assert all("parameters" not in portfolio for portfolio in workbook.to_json()["portfolios"])
    assert Workbook.from_json(workbook.to_json()) == workbook


def test_parameters_survive_the_plain_data_and_the_file(folder: Path) -> None:
    workbook = read_workbook(workbook_file(folder))
    assert workbook.to_json()["portfolios"][1]["parameters"] == {"line": "COM"}
    assert Workbook.from_json(workbook.to_json()) == workbook
    assert read_workbook(write_workbook(folder / "again.xlsx", workbook), folder) == workbook


def test_only_a_database_has_queries_with_parameters(folder: Path) -> None:
    path = workbook_file(
        folder, source="csv", database=None, location="property/location.csv", account="property/account.csv"
    )
    assert problems(path) == ["Portfolios!K3 (parameters): must be empty: csv does not use it, only sql does"]
