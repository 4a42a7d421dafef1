"""The configuration workbook: what it accepts, what it refuses and where it says the fault is."""

import cProfile
import datetime as dt
import io
import json
import os
import re
import string
import subprocess
import sys
import tempfile
import time
import warnings
import zipfile
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import openpyxl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from irp_pipeline.errors import IrpError
from irp_pipeline.exposure.currencies import CURRENCIES
from irp_pipeline.workbook import (
    SHEETS,
    USUAL_RETURN_PERIODS,
    Analysis,
    Engine,
    Grouping,
    Metadata,
    Portfolio,
    SheetSpec,
    Workbook,
    WorkbookError,
    example_workbook,
    is_query,
    read_workbook,
    resolve_model,
    resolve_path,
    workbook_hash,
    write_template,
    write_workbook,
    xlsx,
)

PAGE = Path(__file__).parents[3] / "docs" / "workbook.md"
SPECS = {spec.name: spec for spec in SHEETS}


@cache
def example_file() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return write_workbook(Path(folder) / "example.xlsx", example_workbook()).read_bytes()


class Draft:
    """The example workbook, opened for editing as a person would: by sheet, column name and row."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "draft.xlsx"
        self.path.write_bytes(example_file())

    @cached_property
    def book(self) -> Any:
        return openpyxl.load_workbook(self.path)

    def cell(self, sheet: str, column: str, row: int = 2) -> Any:
        if sheet == "Metadata":
            labels = [label for (label,) in self.book[sheet].iter_rows(max_col=1, values_only=True)]
            return self.book[sheet].cell(1 + labels.index(column), 2)
        headers = [cell.value for cell in self.book[sheet][1]]
        return self.book[sheet].cell(row, 1 + headers.index(column))

    def set(self, sheet: str, column: str, value: object, row: int = 2) -> "Draft":
        self.cell(sheet, column, row).value = value
        return self

    def read(self, **options: Any) -> Workbook:
        self.book.save(self.path)
        return read_workbook(self.path, **{"check_files": False, **options})

    def problems(self, **options: Any) -> list[str]:
        with pytest.raises(WorkbookError) as caught:
            self.read(**options)
        assert str(caught.value).splitlines() == [str(problem) for problem in caught.value.problems]
        return str(caught.value).splitlines()


@pytest.fixture
def draft(tmp_path: Path) -> Draft:
    return Draft(tmp_path)


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """A data folder with everything that the example workbook names."""
    folder = tmp_path / "data"
    for name in ("location", "account", "ri_info", "ri_scope"):
        file = folder / "property" / f"{name}.csv"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    for name in ("capital.ipynb", "reviews/comparison.ipynb"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
    model = folder / "models" / "windstorm"
    model.mkdir(parents=True)
    (model / "oasislmf.json").write_text("{}")
    (model / "analysis_settings.json").write_text('{"model_settings": {"event_set": "p"}}')
    return folder


# Reading what is right


def test_the_example_workbook_is_read_as_it_was_written(tmp_path: Path) -> None:
    workbook = example_workbook()
    path = write_workbook(tmp_path / "example.xlsx", workbook)
    assert read_workbook(path, check_files=False) == workbook


def test_a_workbook_survives_json(tmp_path: Path) -> None:
    workbook = example_workbook()
    stored = json.loads(json.dumps(workbook.to_json(), allow_nan=False))
    assert Workbook.model_validate(stored) == workbook
    assert Workbook.model_validate_json(workbook.model_dump_json()) == workbook


def test_with_all_its_files_in_place_the_example_is_valid(draft: Draft, data_dir: Path) -> None:
    assert draft.read(data_dir=data_dir, check_files=True) == example_workbook()


def test_without_a_data_folder_paths_are_relative_to_the_workbook(data_dir: Path) -> None:
    path = write_workbook(data_dir / "workbook.xlsx", example_workbook())
    assert read_workbook(path) == example_workbook()
    assert read_workbook(str(path)) == example_workbook()


def test_a_stochastic_analysis_has_the_usual_return_periods_and_period_losses(draft: Draft) -> None:
    analysis = draft.read().analysis("commercial_wind")
    assert analysis.return_periods == USUAL_RETURN_PERIODS
    assert analysis.period_losses
    assert not analysis.event_losses


def test_a_workbook_is_frozen() -> None:
    workbook = example_workbook()
    with pytest.raises(ValidationError):
        workbook.metadata.currency = "USD"


@pytest.mark.parametrize(
    ("sheet", "column", "typed", "expected"),
    [
        ("Analyses", "loss_factor", "0.1;0.5;", (0.1, 0.5)),
        ("Analyses", "loss_factor", " 0.1 ; 0.5 ", (0.1, 0.5)),
        ("Analyses", "loss_factor", "0.1, 0.5", (0.1, 0.5)),
        ("Analyses", "loss_factor", "0.1\n0.5", (0.1, 0.5)),
        ("Analyses", "loss_factor", "10%; 50 %", (0.1, 0.5)),
        ("Analyses", "loss_factor", 1, (1.0,)),
        ("Analyses", "loss_factor", ".25", (0.25,)),
        ("Analyses", "perspectives", "gul,il", ("GUL", "IL")),
        ("Analyses", "engine", " Oasis_Deterministic ", Engine.DETERMINISTIC),
        ("Analyses", "name", 2024, "2024"),
        ("Analyses", "name", 2024.0, "2024"),
        ("Analyses", "name", "\u00a0stress\u200b ", "stress"),
        ("Analyses", "name", "x" * 100, "x" * 100),
        ("Portfolios", "location", "property\\location.csv", "property\\location.csv"),
        ("Portfolios", "location", "a/../location.csv", "a/../location.csv"),
        ("Metadata", "currency", "usd", "USD"),
        ("Metadata", "exposure_date", dt.datetime(2024, 1, 1), dt.date(2024, 1, 1)),  # noqa: DTZ001
        ("Metadata", "exposure_date", "2024-01-01", dt.date(2024, 1, 1)),
        ("Metadata", "exposure_date", None, None),
        ("Metadata", "largest_change", "10%", 0.1),
        ("Metadata", "largest_change", None, 0.25),
        ("Metadata", "least_covered", 1, 1.0),
        ("Metadata", "least_covered", None, 0.9),
        ("Metadata", "description", "   ", None),
        ("Metadata", "description", "one\r\ntwo", "one\ntwo"),
        ("Metadata", "description", 42, "42"),
    ],
)
def test_a_cell_is_understood(draft: Draft, sheet: str, column: str, typed: object, expected: object) -> None:
    workbook = draft.set(sheet, column, typed).read()
    rows = getattr(workbook, SPECS[sheet].field)
    assert getattr(rows if sheet == "Metadata" else rows[0], column) == expected


@pytest.mark.parametrize(
    ("column", "typed", "expected"),
    [
        ("samples", "25", 25),
        ("samples", 25.0, 25),
        ("event_losses", "No", False),
        ("event_losses", True, True),
        ("event_losses", "y", True),
        ("event_losses", 0, False),
        ("return_periods", "250; 10; 50", (10, 50, 250)),
        ("return_periods", 200, (200,)),
        (
            "model_options",
            "{\u201cmodel_data_dir\u201d: \u201cdata\u201d, \u201cn\u201d: 2}",
            {"model_data_dir": "data", "n": 2},
        ),
    ],
)
def test_a_cell_of_a_stochastic_analysis_is_understood(
    draft: Draft, column: str, typed: object, expected: object
) -> None:
    draft.set("Groupings", "members", "commercial_wind", row=2)
    assert getattr(draft.set("Analyses", column, typed, row=3).read().analyses[1], column) == expected


def test_headers_may_be_written_like_words_and_in_any_order(draft: Draft) -> None:
    sheet = draft.book["Analyses"]
    rows = [list(row) for row in sheet.iter_rows(values_only=True)]
    sheet.delete_rows(1, 10)
    for row in rows:
        sheet.append(row[::-1])
    for cell in sheet[1]:
        cell.value = f" {cell.value.replace('_', ' ').title()} "
    sheet.title = "ANALYSES "
    assert draft.read() == example_workbook()


def test_settings_may_stand_in_any_order_and_optional_ones_may_be_left_out(draft: Draft) -> None:
    sheet = draft.book["Metadata"]
    sheet.delete_rows(3, 100)
    sheet.insert_rows(2)
    assert draft.read().metadata == Metadata(currency="EUR")


def test_empty_rows_are_skipped(draft: Draft) -> None:
    draft.book["Analyses"].insert_rows(3, amount=4)
    draft.set("Analyses", "name", "  ", row=4).set("Analyses", "samples", None, row=5)
    assert draft.read().analyses == example_workbook().analyses
    assert draft.set("Analyses", "samples", -1, row=7).problems() == [
        "Analyses!H7 (samples): -1 must be between 0 and 100,000"
    ]


def test_formatted_cells_far_away_cost_nothing(draft: Draft) -> None:
    for sheet in draft.book.worksheets:
        sheet.cell(1_048_576, 16_384).number_format = "@"
    started = time.process_time()
    assert draft.read() == example_workbook()
    assert time.process_time() - started < 5


def test_the_groupings_sheet_may_be_empty_below_its_header(draft: Draft) -> None:
    draft.book["Groupings"].delete_rows(2, 10)
    assert draft.read().groupings == ()


def test_macro_workbooks_and_other_names_are_read_by_their_content(draft: Draft) -> None:
    draft.book.save(draft.path)
    other = draft.path.rename(draft.path.with_suffix(".bin"))
    assert read_workbook(other, check_files=False) == example_workbook()


def test_ten_times_as_many_analyses_are_ten_times_the_work(tmp_path: Path) -> None:
    def work(number: int) -> int:
        """Read a workbook with so many analyses; return how many calls that takes, whatever the machine."""
        example = example_workbook()
        wind = example.analysis("property_wind")
        analyses = tuple(wind.model_copy(update={"name": f"wind_{index:04}"}) for index in range(number))
        workbook = Workbook(
            metadata=example.metadata,
            portfolios=example.portfolios,
            analyses=analyses,
            groupings=(Grouping(name="all", members=tuple(analysis.name for analysis in analyses)),),
        )
        path = write_workbook(tmp_path / f"{number}.xlsx", workbook)
        with cProfile.Profile() as profile:
            assert read_workbook(path, check_files=False) == workbook
        return sum(entry.callcount for entry in profile.getstats())

    assert work(1_000) < 11 * work(100)


# Writing


def test_the_same_workbook_is_always_the_same_file(tmp_path: Path) -> None:
    first = write_workbook(tmp_path / "first.xlsx", example_workbook())
    second = write_workbook(tmp_path / "second.xlsx", example_workbook())
    assert workbook_hash(first) == workbook_hash(second)
    assert re.fullmatch("[0-9a-f]{64}", workbook_hash(first))
    with zipfile.ZipFile(first) as archive:  # nothing in it tells the time of writing
        assert {part.date_time for part in archive.infolist()} == {(2000, 1, 1, 0, 0, 0)}
        assert archive.read("docProps/core.xml").count(b">2000-01-01T00:00:00Z<") == 2


def test_a_text_that_looks_like_a_formula_or_an_error_stays_a_text(tmp_path: Path) -> None:
    for number, text in enumerate(("=1+1", "#REF!", "+1", "_x0041_", "@x", "1e5", "TRUE")):
        workbook = example_workbook().model_copy(update={"metadata": Metadata(currency="EUR", description=text)})
        path = write_workbook(tmp_path / f"{number}.xlsx", workbook)
        assert read_workbook(path, check_files=False).metadata.description == text


def test_more_than_a_cell_can_hold_is_refused_and_leaves_no_file(tmp_path: Path) -> None:
    example = example_workbook()
    wind = example.analysis("property_wind")
    analyses = tuple(wind.model_copy(update={"name": f"{number:0100}"}) for number in range(400))
    group = Grouping(name="all", members=tuple(analysis.name for analysis in analyses))
    workbook = example.model_copy(update={"analyses": analyses, "groupings": (group,)})
    with pytest.raises(WorkbookError, match=r"Groupings!B2: 40,798 characters are more than the 32,767"):
        write_workbook(tmp_path / "workbook.xlsx", workbook)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_file_is_only_replaced_when_asked(tmp_path: Path) -> None:
    path = tmp_path / "workbook.xlsx"
    path.write_text("precious")
    for write in (lambda: write_template(path), lambda: write_workbook(path, example_workbook())):
        with pytest.raises(WorkbookError, match="exists already and was left as it is"):
            write()
    assert path.read_text() == "precious"
    assert write_template(path, overwrite=True) == path
    assert sorted(tmp_path.iterdir()) == [path]
    assert path.read_bytes().startswith(b"PK")


@pytest.mark.parametrize("hard_links", [True, False])
def test_a_file_that_appears_while_writing_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hard_links: bool
) -> None:
    path = tmp_path / "workbook.xlsx"
    if not hard_links:

        def refuse(*_: object) -> None:
            raise PermissionError("no hard links here")

        monkeypatch.setattr(Path, "hardlink_to", refuse)
    actual_fsync = os.fsync

    def appear(descriptor: int) -> None:
        actual_fsync(descriptor)
        path.write_text("precious")

    monkeypatch.setattr(os, "fsync", appear)
    with pytest.raises(WorkbookError, match="exists already"):
        write_template(path)
    assert path.read_text() == "precious"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_is_written_where_there_are_no_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError("no hard links here")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    path = write_workbook(tmp_path / "workbook.xlsx", example_workbook())
    assert read_workbook(path, check_files=False) == example_workbook()
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["missing/workbook.xlsx", "workbook.xls", "workbook", "a\0b.xlsx"])
def test_a_place_that_cannot_be_written_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(WorkbookError, match=r"cannot be written|must end in \.xlsx"):
        write_template(tmp_path / name)


def test_the_file_obeys_the_umask(tmp_path: Path) -> None:
    previous = os.umask(0o027)
    try:
        path = write_template(tmp_path / "workbook.xlsx")
    finally:
        os.umask(previous)
    assert path.stat().st_mode & 0o777 == 0o640


# The template


def test_an_empty_template_says_what_to_fill_in(tmp_path: Path) -> None:
    path = write_template(tmp_path / "template.xlsx")
    with pytest.raises(WorkbookError) as caught:
        read_workbook(path)
    assert str(caught.value).splitlines() == [
        "Metadata!B2 (currency): is empty, but must be filled",
        "Portfolios: has no rows yet; write one row per portfolio below the header",
        "Analyses: has no rows yet; write one row per analysis below the header",
    ]


def test_the_template_filled_with_the_examples_is_valid(tmp_path: Path) -> None:
    path = write_template(tmp_path / "template.xlsx")
    book = openpyxl.load_workbook(path)
    for spec in SHEETS:
        for number, column in enumerate(spec.row.columns().values(), start=1):
            for row, example in enumerate(column.examples, start=2):
                place = (number + 1, 2) if spec.name == "Metadata" else (row, number)
                book[spec.name].cell(*place).value = example or None
    book.save(path)
    assert read_workbook(path, check_files=False) == example_workbook()


def test_the_template_explains_itself(tmp_path: Path) -> None:
    book = openpyxl.load_workbook(write_template(tmp_path / "template.xlsx"))
    assert book.sheetnames == [spec.name for spec in SHEETS]
    for spec in SHEETS:
        sheet = book[spec.name]
        labels = sheet["A"][1:] if spec.name == "Metadata" else sheet[1]
        assert sheet.freeze_panes is not None
        assert [cell.value for cell in labels] == list(spec.row.columns())
        for cell, column in zip(labels, spec.row.columns().values(), strict=True):
            assert column.help.replace("`", "") in cell.comment.text
            assert next(filter(None, column.examples), "") in cell.comment.text


def test_the_template_offers_choices_for_every_row(tmp_path: Path) -> None:
    sheet = openpyxl.load_workbook(write_template(tmp_path / "template.xlsx"))["Analyses"]
    offers = {str(item.sqref): (item.formula1, item.showErrorMessage) for item in sheet.data_validations.dataValidation}
    assert offers["C2:C10001"] == ('"oasis_deterministic,oasis_stochastic,oasis_platform"', True)
    assert offers["B2:B10001"] == ("Portfolios!$A$2:$A$10001", True)
    assert offers["L2:L10001"] == ('"GUL,GUL; IL,GUL; IL; RI"', False)


def test_excel_keeps_lists_and_names_as_typed(tmp_path: Path) -> None:
    sheet = openpyxl.load_workbook(write_template(tmp_path / "template.xlsx"))["Analyses"]
    assert {letter: sheet.column_dimensions[letter].number_format for letter in "ADHM"} == {
        "A": "@",
        "D": "@",
        "H": "General",
        "M": "@",
    }


# What a cell must not hold


@pytest.mark.parametrize(
    ("sheet", "column", "typed", "message"),
    [
        ("Metadata", "currency", None, "B2 (currency): is empty, but must be filled"),
        ("Metadata", "currency", "EURO", "B2 (currency): 'EURO' is not an ISO 4217 currency code; did you mean 'EUR'?"),
        ("Metadata", "exposure_date", "1.2.2024", "B7 (exposure_date): '1.2.2024' is not a date"),
        ("Metadata", "exposure_date", "45292", "B7 (exposure_date): '45292' is not a date; format the cell as a date"),
        ("Metadata", "exposure_date", "2024-02-30", "B7 (exposure_date): '2024-02-30' is not a date"),
        ("Metadata", "largest_change", 0, "B9 (largest_change): 0 must be above 0 and at most 100; 25 % is 0.25"),
        ("Metadata", "least_covered", 90, "B10 (least_covered): 90 must be at least 0 and at most 1; 90 % is 0.9"),
        ("Metadata", "exposure_date", dt.datetime(1949, 1, 1), "must be between 1950-01-01 and"),  # noqa: DTZ001
        ("Metadata", "exposure_date", dt.datetime(2024, 1, 1, 12), "is a date with a time"),  # noqa: DTZ001
        ("Metadata", "description", "x" * 30_001, "B4 (description): has 30,001 characters; at most 30,000"),
        ("Metadata", "description", "bell\x85rings", "holds the character U+0085"),
        ("Portfolios", "name", "my portfolio", "A2 (name): 'my portfolio' cannot be a name"),
        ("Portfolios", "name", "été", "cannot be a name"),
        ("Portfolios", "name", "..", "cannot be a name"),
        ("Portfolios", "name", "a..b", "cannot be a name"),
        ("Portfolios", "name", "-rf", "cannot be a name"),
        ("Portfolios", "name", "x" * 101, "cannot be a name"),
        ("Portfolios", "source", "cvs", "B2 (source): 'cvs' is unknown; did you mean 'csv'?"),
        ("Portfolios", "source", "ftp", "B2 (source): 'ftp' is unknown; it can be csv, parquet, sql"),
        ("Portfolios", "location", "/etc/passwd", "C2 (location): '/etc/passwd' is outside of the data folder"),
        ("Portfolios", "location", "\\\\server\\share\\x.csv", "is outside of the data folder"),
        ("Portfolios", "location", "C:\\data\\x.csv", "is outside of the data folder"),
        ("Portfolios", "location", "../x.csv", "is outside of the data folder"),
        ("Portfolios", "location", "a\\..\\..\\x.csv", "is outside of the data folder"),
        ("Portfolios", "location", "~/x.csv", "is outside of the data folder"),
        ("Portfolios", "location", "file:///x.csv", "C2 (location): is an address, not a path"),
        ("Portfolios", "location", "a\nb.csv", "holds a line break"),
        ("Portfolios", "location", "x.parquet", "does not look like a csv file"),
        ("Portfolios", "location", dt.datetime(2024, 1, 1), "Excel holds this as a date"),  # noqa: DTZ001
        ("Portfolios", "ri_info", None, "E2 (ri_info): is empty, but ri_scope is filled"),
        ("Portfolios", "ri_scope", None, "F2 (ri_scope): is empty, but ri_info is filled"),
        ("Portfolios", "database", "warehouse", "G2 (database): must be empty: csv does not use it, only sql does"),
        (
            "Analyses",
            "portfolio",
            "propert",
            "B2 (portfolio): there is no portfolio 'propert' in the sheet Portfolios; did",
        ),
        ("Analyses", "portfolio", "Property", "did you mean 'property'?"),
        ("Analyses", "portfolio", None, "B2 (portfolio): is empty, but must be filled"),
        ("Analyses", "engine", "oasis", "C2 (engine): 'oasis' is unknown"),
        ("Analyses", "loss_factor", None, "D2 (loss_factor): is empty, but oasis_deterministic needs it"),
        ("Analyses", "loss_factor", "0.1; 1.5", "D2 (loss_factor): 1.5 must be above 0 and at most 1"),
        ("Analyses", "loss_factor", 0, "D2 (loss_factor): 0 must be above 0 and at most 1"),
        ("Analyses", "loss_factor", "0.1; 0.10", "D2 (loss_factor): 0.1 is listed more than once"),
        ("Analyses", "loss_factor", "0,5", "D2 (loss_factor): the comma in '0,5' can be read in two ways"),
        ("Analyses", "loss_factor", "half", "D2 (loss_factor): 'half' is not a number"),
        ("Analyses", "loss_factor", "1_0", "is not a number"),
        ("Analyses", "loss_factor", True, "D2 (loss_factor): must be a number, not True"),
        ("Analyses", "samples", 10, "H2 (samples): must be empty: oasis_deterministic does not use it"),
        ("Analyses", "event_losses", "yes", "N2 (event_losses): must be empty"),
        ("Analyses", "perspectives", None, "L2 (perspectives): is empty, but must be filled"),
        ("Analyses", "perspectives", "GUL; GU", "L2 (perspectives): 'GU' is unknown; did you mean 'GUL'?"),
        ("Analyses", "perspectives", "GUL; gul", "L2 (perspectives): GUL is listed more than once"),
        (
            "Analyses",
            "name",
            "PROPERTY_WIND",
            "A3 (name): 'property_wind' is already the name of the analysis in row 2",
        ),
        ("Groupings", "name", "Property_Stress", "A2 (name): 'property_stress' is already the name of an analysis"),
        (
            "Groupings",
            "members",
            "property_wnd",
            "B2 (members): there is no analysis or group 'property_wnd'; did you mean",
        ),
        (
            "Groupings",
            "members",
            "property_wind; property_wind",
            "B2 (members): property_wind is listed more than once",
        ),
        ("Groupings", "members", "property_stress", "oasis_deterministic has no simulated years"),
        ("Groupings", "period_pairing", "shuffle", "C2 (period_pairing): 'shuffle' is unknown; it can be by_number"),
    ],
)
def test_a_wrong_cell_is_named_with_its_place(
    draft: Draft, sheet: str, column: str, typed: object, message: str
) -> None:
    if sheet == "Portfolios" and column == "name":
        draft.set("Analyses", "portfolio", typed, row=2).set("Analyses", "portfolio", typed, row=3)
    if sheet == "Groupings" and column == "name":
        draft.set("Groupings", "members", "property_wind", row=3)
    found = draft.set(sheet, column, typed).problems()
    assert len([line for line in found if line.startswith(f"{sheet}!") and message in line]) == 1
    allowed = {"Analyses"} if column == "name" and sheet == "Portfolios" else {sheet, "Groupings"}
    assert {line.partition("!")[0] for line in found} <= allowed | {sheet}


@pytest.mark.parametrize(
    ("column", "typed", "message"),
    [
        ("loss_factor", 0.5, "D3 (loss_factor): must be empty: oasis_stochastic does not use it"),
        ("model", None, "E3 (model): is empty, but oasis_stochastic needs it"),
        ("model", "../windstorm", "E3 (model): '../windstorm' is outside of the data folder"),
        ("model_options", "a=b", "F3 (model_options): is not JSON: Expecting value at line 1, character 1"),
        ("model_options", "[1]", "F3 (model_options): must be a JSON object"),
        ("model_options", '{"a": NaN}', "F3 (model_options): holds NaN"),
        ("model_options", '{"a": 1e999}', "F3 (model_options): holds a number that is too large"),
        ("model_options", '{"a": 1, "a": 2}', "F3 (model_options): holds the same name twice"),
        (
            "model_options",
            '{"a": ["x", {"b": "/etc"}]}',
            "F3 (model_options): '/etc' is outside of the data folder or",
        ),
        ("model_options", '{"a": "..\\\\..\\\\..\\\\x"}', "is outside of the data folder or models folder"),
        ("model_options", '{"a": "\\u0000"}', "F3 (model_options): holds the character U+0000"),
        ("model_options", '{"a": "\\ud800"}', "F3 (model_options): holds the character U+D800"),
        ("model_options", '{"a": ' + "[" * 10_000 + "]" * 10_000 + "}", "F3 (model_options): is nested too deeply"),
        ("settings", "/settings.json", "G3 (settings): '/settings.json' is outside of the data folder"),
        ("samples", None, "H3 (samples): is empty, but oasis_stochastic needs it"),
        ("samples", -1, "H3 (samples): -1 must be between 0 and 100,000"),
        ("samples", 1.5, "H3 (samples): '1.5' is not a whole number"),
        ("samples", "9" * 5000, "H3 (samples): holds a number that is too large"),
        ("samples", dt.datetime(2024, 1, 1), "H3 (samples): must be a number, not 2024-01-01"),  # noqa: DTZ001
        ("return_periods", "50,100", "M3 (return_periods): the comma in '50,100' can be read in two ways"),
        ("return_periods", "0; 10", "M3 (return_periods): 0 must be between 1 and 10,000,000 years"),
        ("return_periods", "2.5", "M3 (return_periods): '2.5' is not a whole number"),
        ("return_periods", "50; 50.0", "M3 (return_periods): 50 is listed more than once"),
        ("event_losses", "maybe", "N3 (event_losses): 'maybe' is neither yes nor no"),
    ],
)
def test_a_wrong_cell_of_a_stochastic_analysis_is_named(draft: Draft, column: str, typed: object, message: str) -> None:
    found = draft.set("Analyses", column, typed, row=3).problems()
    assert len(found) == 1
    assert message in found[0]


def test_a_list_that_excel_took_for_one_number_is_noticed(draft: Draft) -> None:
    cell = draft.cell("Analyses", "return_periods", row=3)
    cell.value, cell.number_format = 50_100_250, "#,##0"
    (found,) = draft.problems()
    assert found.startswith(
        "Analyses!M3 (return_periods): Excel holds this as the one number 50100250; format the cell"
    )


@pytest.mark.parametrize(
    ("column", "typed", "message"),
    [
        ("database", None, "Portfolios!G3 (database): is empty, but sql needs it"),
        ("location", "DROP TABLE x", "Portfolios!C3 (location): 'DROP TABLE x' is neither a table"),
        ("location", "SELECT 1; DROP TABLE x", "Portfolios!C3 (location): holds a semicolon"),
        ("location", "-- SELECT\nDELETE FROM x", "is neither a table"),
        ("location", "a.b.c.d", "is neither a table"),
    ],
)
def test_a_wrong_sql_source_is_named(draft: Draft, column: str, typed: object, message: str) -> None:
    (found,) = draft.set("Portfolios", column, typed, row=3).problems()
    assert message in found


@pytest.mark.parametrize("column", ["database", "location"])
def test_an_address_with_a_password_is_refused_without_showing_it(draft: Draft, column: str) -> None:
    (found,) = draft.set("Portfolios", column, "postgresql://irp:hunter2@db/exposure", row=3).problems()
    assert "address" in found
    assert "hunter2" not in found


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("location", False),
        ("exposure.location", False),
        ("db.dbo.Orte_2024", False),
        ("SELECT * FROM location", True),
        ("select ';' as semicolon -- one; two\nfrom x", True),
        ("/* Q1 */ with x as (select 1) select * from x", True),
        ('SELECT "a;b" FROM x', True),
        ("/* Q1 */ SELECT * FROM exposure.sql", True),
        ("sql/location.SQL", False),
        ("[Book 2024].dbo.[Orte 2024]", False),
        ("Book..location", False),
    ],
)
def test_a_table_and_a_query_are_told_apart(draft: Draft, text: str, query: bool) -> None:
    assert draft.set("Portfolios", "location", text, row=3).read().portfolio("commercial").location == text
    assert is_query(text) is query


def test_perspectives_need_the_tables_of_their_portfolio(draft: Draft) -> None:
    for column in ("account", "ri_info", "ri_scope"):
        draft.set("Portfolios", column, None)
    no_account = "IL and RI need the terms of accounts, but portfolio 'property' has no account table"
    no_reinsurance = "RI needs the terms of reinsurance, but portfolio 'property' has no reinsurance tables"
    assert draft.problems() == [
        f"Analyses!L2 (perspectives): {no_account}",
        f"Analyses!L2 (perspectives): {no_reinsurance}",
        f"Analyses!L3 (perspectives): {no_account}",
        f"Analyses!L3 (perspectives): {no_reinsurance}",
    ]
    draft.set("Analyses", "perspectives", "GUL", row=2).set("Analyses", "perspectives", "GUL", row=3)
    [problem] = draft.problems()
    assert problem == (
        "Analyses!B2 (portfolio): the portfolio 'property' has no account table; Oasis LMF asks for the accounts, "
        "whatever losses are wanted"
    )
    draft.set("Analyses", "engine", "oasis_stochastic").set("Analyses", "loss_factor", None)
    assert (
        draft.set("Analyses", "model", "m").set("Analyses", "samples", 10).read().portfolio("property").account is None
    )


def test_a_location_table_is_needed_where_the_engine_needs_it(draft: Draft) -> None:
    draft.set("Portfolios", "location", None)
    [problem] = draft.problems()
    assert problem == (
        "Analyses!B2 (portfolio): the portfolio 'property' has no location table; deterministic losses are shares of "
        "the insured values of locations"
    )
    draft.set("Analyses", "engine", "oasis_stochastic").set("Analyses", "loss_factor", None)
    draft.set("Analyses", "model", "m").set("Analyses", "samples", 10)
    assert draft.read().portfolio("property").location is None
    assert draft.set("Portfolios", "account", None, row=3).set("Portfolios", "location", None, row=3).problems()[0] == (
        "Portfolios!C3 (location): is empty, and so is account; a portfolio needs one of these tables"
    )


def test_no_samples_are_possible_but_not_in_a_group(draft: Draft) -> None:
    draft.set("Analyses", "samples", 0, row=3)
    assert draft.problems()[0] == (
        "Groupings!B2 (members): 'property_wind': with 0 samples there are no losses of simulated years, which groups "
        "add up"
    )
    draft.set("Groupings", "members", "commercial_wind", row=2)
    assert draft.read().analysis("property_wind").samples == 0
    [problem] = draft.set("Analyses", "samples", 0, row=2).problems()
    assert problem == (
        "Analyses!H2 (samples): must be empty: oasis_deterministic does not use it, only oasis_stochastic and "
        "oasis_platform do"
    )


def test_reinsurance_needs_accounts(draft: Draft) -> None:
    found = draft.set("Portfolios", "account", None).problems()
    assert (
        found[0]
        == "Portfolios!D2 (account): is empty, but reinsurance is given, which applies to the losses of accounts"
    )


def test_everything_wrong_is_told_at_once_and_in_order(draft: Draft) -> None:
    draft.set("Groupings", "members", "wind", row=2)
    draft.set("Analyses", "portfolio", "nowhere", row=4)
    draft.set("Analyses", "name", "property_stress", row=3)
    draft.set("Analyses", "loss_factor", "1.2; 0; 0.5", row=2)
    draft.set("Portfolios", "location", "../outside.csv")
    draft.set("Metadata", "currency", "XXX")
    draft.book.create_sheet("Notes")
    outside = "'../outside.csv' is outside of the data folder; give the path inside it, such as property/location.csv"
    unknown = "there is no portfolio 'nowhere' in the sheet Portfolios; it can be property, commercial"
    assert draft.problems() == [
        "Metadata!B2 (currency): 'XXX' is not an ISO 4217 currency code",
        f"Portfolios!C2 (location): {outside}",
        "Analyses!D2 (loss_factor): 1.2 must be above 0 and at most 1",
        "Analyses!D2 (loss_factor): 0 must be above 0 and at most 1",
        "Analyses!A3 (name): 'property_stress' is already the name of the analysis in row 2",
        f"Analyses!B4 (portfolio): {unknown}",
        "Groupings!B2 (members): the group contains itself: wind → wind; take one of them out",
        "Notes: the sheet is unknown; keep it in another file",
    ]


def test_a_problem_knows_its_place(draft: Draft) -> None:
    draft.set("Analyses", "loss_factor", 2)
    with pytest.raises(WorkbookError) as caught:
        draft.read()
    (problem,) = caught.value.problems
    assert (problem.sheet, problem.cell, problem.column) == ("Analyses", "D2", "loss_factor")
    assert isinstance(caught.value, IrpError)


def test_a_bad_name_is_told_once_and_not_again_where_it_is_used(draft: Draft) -> None:
    draft.set("Portfolios", "name", "my property")
    for row in (2, 3):
        draft.set("Analyses", "portfolio", "my property", row=row)
    assert [line.partition(":")[0] for line in draft.problems()] == [
        "Portfolios!A2 (name)",
        "Analyses!B2 (portfolio)",
        "Analyses!B3 (portfolio)",
    ]
    assert not any("there is no portfolio" in line for line in draft.problems())


def test_what_a_terminal_would_obey_is_made_visible(draft: Draft) -> None:
    found = draft.set("Analyses", "engine", "oasis\x9b31m\u202e_x001B_[31m").problems()
    assert all(line.isprintable() for line in found)
    assert "Analyses!C2 (engine): 'oasis\ufffd31m\ufffd_x001B_[31m' is unknown" in found[0]


def test_the_cycle_must_be_the_one_named(draft: Draft) -> None:
    assert draft.read(cycle="Q1-2024").metadata.cycle_name == "Q1-2024"
    assert draft.problems(cycle="Q2-2024") == [
        "Metadata!B3 (cycle_name): the workbook is for cycle 'Q1-2024', not for 'Q2-2024'"
    ]
    assert draft.set("Metadata", "cycle_name", None).read(cycle="Q2-2024").metadata.cycle_name is None


# Groups


def with_groups(draft: Draft, **groups: str) -> Draft:
    draft.book["Groupings"].delete_rows(2, 100)
    for row, (name, members) in enumerate(groups.items(), start=2):
        draft.set("Groupings", "name", name, row=row).set("Groupings", "members", members, row=row)
    return draft


def test_groups_come_after_those_they_contain(draft: Draft) -> None:
    draft = with_groups(draft, top="middle; commercial_wind", middle="bottom", bottom="property_wind")
    workbook = draft.read()
    assert [group.name for group in workbook.groupings_in_order()] == ["bottom", "middle", "top"]
    assert [analysis.name for analysis in workbook.analyses_in("top")] == ["property_wind", "commercial_wind"]
    with pytest.raises(KeyError):
        workbook.analyses_in("property_wind")


def test_a_circle_of_groups_is_named_once_with_its_whole_way(draft: Draft) -> None:
    draft = with_groups(draft, a="b; property_wind", b="c", c="a", outside="a", fine="commercial_wind")
    assert draft.problems() == [
        "Groupings!B2 (members): the group contains itself: a → b → c → a; take one of them out"
    ]


def test_every_circle_is_named(draft: Draft) -> None:
    found = with_groups(draft, a="b; c", b="a", c="a", d="d").problems()
    assert [re.sub(".*itself: (.*);.*", r"\1", line) for line in found] == ["a → b → a", "a → c → a", "d → d"]


def test_an_analysis_counted_twice_through_groups_is_named_where_the_ways_meet(draft: Draft) -> None:
    draft = with_groups(draft, x="property_wind", y="x; commercial_wind", both="y; property_wind", above="both")
    assert draft.problems() == [
        "Groupings!B4 (members): 'property_wind' would be counted twice, directly or through another group"
    ]


def test_members_must_be_addable(draft: Draft) -> None:
    draft.set("Analyses", "samples", 20, row=4).set("Analyses", "period_losses", "no", row=3)
    draft.set("Analyses", "perspectives", "RI", row=3).set("Analyses", "perspectives", "GUL", row=4)
    periods = "'property_wind': groups need period losses; write yes in the column period_losses of Analyses"
    assert with_groups(draft, wind="property_wind; commercial_wind", all="wind").problems() == [
        f"Groupings!B2 (members): {periods}",
        "Groupings!B2 (members): the members have different numbers of samples (10, 20); give all the same",
        "Groupings!B2 (members): the members have no perspective in common, so there is nothing to add up",
    ]


def test_deeply_nested_groups_are_no_trouble(draft: Draft) -> None:
    chain = {"g0": "property_wind"} | {f"g{number}": f"g{number - 1}" for number in range(1, 1_000)}
    workbook = with_groups(draft, **dict(reversed(chain.items()))).read()
    assert workbook.groupings_in_order()[-1].name == "g999"


def test_what_the_sheet_would_refuse_the_model_refuses_too() -> None:
    content = example_workbook().to_json()
    for sheet, column, value in (
        ("groupings", "members", ["everything"]),
        ("analyses", "portfolio", "nowhere"),
        ("analyses", "loss_factor", [2]),
        ("analyses", "loss_factor", []),
        ("portfolios", "location", "../x.csv"),
        ("portfolios", "unknown", "x"),
    ):
        broken = json.loads(json.dumps(content))
        broken[sheet][0][column] = value
        with pytest.raises(ValidationError):
            Workbook.model_validate(broken)


# Sheets and columns


def test_a_misspelt_sheet_is_named_with_a_suggestion(draft: Draft) -> None:
    draft.book["Portfolios"].title = "Portfolio"
    assert draft.problems() == [
        "Portfolios: the sheet is missing",
        "Portfolio: the sheet is unknown; did you mean 'Portfolios'?",
    ]


def test_missing_sheets_are_named(tmp_path: Path) -> None:
    path = tmp_path / "other.xlsx"
    openpyxl.Workbook().save(path)
    with pytest.raises(WorkbookError) as caught:
        read_workbook(path)
    assert str(caught.value).splitlines() == [
        "Metadata: the sheet is missing",
        "Portfolios: the sheet is missing",
        "Analyses: the sheet is missing",
        "Groupings: the sheet is missing; add it with its header row, it needs no more",
        "Sheet: the sheet is unknown; it can be Metadata, Portfolios, Analyses, Groupings",
    ]


def test_hidden_sheets_and_charts_count_too(draft: Draft) -> None:
    draft.book.create_sheet("Old").sheet_state = "hidden"
    draft.book.create_chartsheet("Chart").add_chart(openpyxl.chart.BarChart())
    assert [line.partition(":")[0] for line in draft.problems()] == ["Old", "Chart"]


def test_a_second_sheet_of_one_name_is_an_error(draft: Draft) -> None:
    draft.book.copy_worksheet(draft.book["Analyses"]).title = "Analyses "
    assert draft.problems() == ["Analyses: is a second sheet Analyses; keep one of them"]


def test_a_misspelt_column_is_named_with_a_suggestion_and_not_as_empty_cells(draft: Draft) -> None:
    draft.book["Analyses"]["D1"] = "los_factor"
    assert draft.problems() == ["Analyses!D1 (los_factor): the column is unknown; did you mean 'loss_factor'?"]


def test_a_missing_column_counts_as_empty_if_it_is_optional(draft: Draft) -> None:
    whole = draft.read()
    for sheet in ("Portfolios", "Analyses"):
        headers = [cell.value for cell in draft.book[sheet][1]]
        empty = [
            number
            for number, header in enumerate(headers, 1)
            if header and not any(row[number - 1].value for row in draft.book[sheet].iter_rows(min_row=2))
        ]
        for number in reversed(empty):
            draft.book[sheet].delete_cols(number)
    assert draft.read() == whole
    headers = [cell.value for cell in draft.book["Analyses"][1]]
    draft.book["Analyses"].delete_cols(headers.index("loss_factor") + 1)
    told = "is empty, but oasis_deterministic needs it, and the sheet has no such column"
    assert draft.problems() == [f"Analyses (loss_factor): row 2: {told}"]


def test_a_missing_column_is_an_error_if_it_is_required(draft: Draft) -> None:
    headers = [cell.value for cell in draft.book["Analyses"][1]]
    draft.book["Analyses"].delete_cols(headers.index("name") + 1)
    assert draft.problems() == ["Analyses (name): the column is missing; add it to the header row"]


def test_a_column_too_many_is_an_error(draft: Draft) -> None:
    draft.book["Portfolios"]["L1"] = "comment"
    assert draft.problems() == ["Portfolios!L1 (comment): the column is unknown; delete it"]


def test_a_column_that_is_there_twice_is_an_error(draft: Draft) -> None:
    draft.book["Portfolios"]["L1"] = "Location"
    assert draft.problems() == ["Portfolios!L1 (location): the column is there twice; delete one of them"]


def test_a_value_without_a_header_is_an_error(draft: Draft) -> None:
    draft.book["Portfolios"]["L7"] = "by the way"
    draft.book["Portfolios"]["L3"] = "by the way"
    assert draft.problems() == ["Portfolios!L3: is filled, but its column has no header"]


def test_a_title_above_the_header_is_an_error_and_nothing_else(draft: Draft) -> None:
    draft.book["Portfolios"].insert_rows(1)
    draft.book["Portfolios"]["A1"] = "Our portfolios"
    (problem,) = draft.problems()
    assert problem == (
        "Portfolios!A1: row 1 must hold the column names: name, source, location, account, ri_info, ri_scope, "
        "database, encoding, delimiter, decimal, parameters"
    )


def test_settings_are_checked_like_columns(draft: Draft) -> None:
    sheet = draft.book["Metadata"]
    sheet["A3"] = "cycle"
    sheet["A4"] = "Currency"
    sheet["A12"] = "colour"
    sheet["B13"] = "lost"
    assert draft.problems() == [
        "Metadata!A3 (setting): there is no setting 'cycle'; did you mean 'cycle_name'?",
        "Metadata!A4 (setting): 'currency' is already in row 2; delete one of them",
        "Metadata!A12 (setting): there is no setting 'colour'; it can be cycle_name, description",
        "Metadata!B13 (value): is filled, but there is no setting beside it",
    ]


def test_a_missing_setting_is_named(draft: Draft) -> None:
    draft.book["Metadata"].delete_rows(2)
    assert draft.problems() == ["Metadata (currency): the setting is missing; add a row for it"]


# Formulas, errors, merged cells


def rewritten(path: Path, part: str, change: Any) -> Path:
    """The file with one part of it changed, as no spreadsheet program would."""
    with zipfile.ZipFile(path) as source:
        parts = {name: source.read(name) for name in source.namelist()}
    parts[part] = change(parts.get(part, b""))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        for name, content in parts.items():
            target.writestr(name, content)
    return path


def with_shared_strings(path: Path) -> Path:
    """The file with its texts in a part of their own, as Excel writes them and openpyxl does not."""
    texts: list[bytes] = []
    inline = re.compile(rb't="inlineStr"([^>]*)><is>(<t.*?</t>)</is>', re.DOTALL)

    def shared(cell: re.Match[bytes]) -> bytes:
        texts.append(cell[2])
        return b't="s"%s><v>%d</v>' % (cell[1], len(texts) - 1)

    for number in range(1, 5):
        rewritten(path, f"xl/worksheets/sheet{number}.xml", lambda xml: inline.sub(shared, xml))
    kind = b"application/vnd.openxmlformats-officedocument.spreadsheetml.sharedStrings+xml"
    entry = b'<Override PartName="/xl/sharedStrings.xml" ContentType="%s" /></Types>' % kind
    rewritten(path, "[Content_Types].xml", lambda xml: xml.replace(b"</Types>", entry))
    items = b"".join(b"<si>%s</si>" % text for text in texts)
    namespace = b"http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    return rewritten(path, "xl/sharedStrings.xml", lambda _: b'<sst xmlns="%s">%s</sst>' % (namespace, items))


def test_texts_are_read_as_excel_writes_them(draft: Draft) -> None:
    with_shared_strings(draft.path)
    assert read_workbook(draft.path, check_files=False) == example_workbook()


def test_the_saved_result_of_a_formula_is_read(draft: Draft) -> None:
    draft.set("Analyses", "loss_factor", "=1/4")
    draft.book.save(draft.path)
    rewritten(draft.path, "xl/worksheets/sheet3.xml", lambda xml: re.sub(rb"<v ?/>|<v></v>", b"<v>0.25</v>", xml))
    assert read_workbook(draft.path, check_files=False).analyses[0].loss_factor == (0.25,)


def test_an_empty_text_as_a_formulas_result_is_an_empty_cell(draft: Draft) -> None:
    draft.set("Metadata", "description", '=""')
    draft.book.save(draft.path)
    rewritten(
        draft.path,
        "xl/worksheets/sheet1.xml",
        lambda xml: xml.replace(b"<f>", b"<f>").replace(b'r="B4"', b'r="B4" t="str"'),
    )
    assert read_workbook(draft.path, check_files=False).metadata.description is None


def test_a_formula_that_was_never_calculated_is_named(draft: Draft) -> None:
    draft.set("Analyses", "loss_factor", "=1/4").set("Metadata", "currency", '="EUR"')
    message = "holds a formula without a result; open the workbook in Excel and save it, or type the value"
    assert draft.problems() == [f"Metadata!B2 (currency): {message}", f"Analyses!D2 (loss_factor): {message}"]


@pytest.mark.parametrize("error", ["#REF!", "#N/A", "#DIV/0!", "#NAME?"])
def test_excel_errors_are_named(draft: Draft, error: str) -> None:
    draft.set("Analyses", "portfolio", error, row=3).set("Metadata", "description", error)
    assert draft.problems() == [
        f"Metadata!B4 (description): holds the Excel error {error}",
        f"Analyses!B3 (portfolio): holds the Excel error {error}",
    ]


def test_an_error_in_a_header_is_named(draft: Draft) -> None:
    draft.book["Analyses"]["D1"] = "#REF!"
    assert draft.problems()[1] == "Analyses!D1: the header holds the Excel error #REF!"


def test_merged_cells_are_named(draft: Draft) -> None:
    draft.book["Analyses"].merge_cells("B2:B3")
    found = draft.problems()
    assert found[0] == "Analyses!B2:B3: these cells are merged; unmerge them and fill each one"
    assert found[1] == "Analyses!B3 (portfolio): is empty, but must be filled"


def test_values_beyond_the_limits_are_named(draft: Draft) -> None:
    draft.book["Analyses"].cell(10_002, 1).value = "far"
    draft.book["Portfolios"].cell(2, 257).value = "wide"
    assert draft.problems() == [
        "Portfolios!IW2: is filled, but a sheet may have at most 10,000 rows and 256 columns",
        "Analyses!A10002: is filled, but a sheet may have at most 10,000 rows and 256 columns",
    ]


# Files and folders


def test_missing_files_are_named(draft: Draft, data_dir: Path) -> None:
    (data_dir / "property" / "account.csv").unlink()
    (data_dir / "models" / "windstorm" / "analysis_settings.json").write_text('{\n"a": }')
    (data_dir / "models" / "windstorm" / "oasislmf.json").unlink()
    draft.set("Portfolios", "ri_info", "property")
    model = "the folder 'models/windstorm' has no oasislmf.json; add it, or fill the column model_options"
    broken = "'models/windstorm/analysis_settings.json' is not JSON: Expecting value at line 2, character 6"
    assert draft.problems(data_dir=data_dir, check_files=True) == [
        f"Portfolios!D2 (account): there is no file 'property/account.csv' in {data_dir}",
        "Portfolios!E2 (ri_info): 'property' is a folder; name the file in it",
        f"Analyses!E3 (model): {model}",
        f"Analyses!G3 (settings): {broken}",
    ]


def test_a_wrong_path_is_told_once_and_never_touched(draft: Draft, data_dir: Path) -> None:
    draft.set("Portfolios", "location", "../outside.csv").set("Analyses", "model", "/", row=3)
    found = draft.problems(data_dir=data_dir, check_files=True)
    assert [line.partition(":")[0] for line in found] == ["Portfolios!C2 (location)", "Analyses!E3 (model)"]


def test_links_that_leave_the_data_folder_are_errors_and_others_are_not(draft: Draft, data_dir: Path) -> None:
    location = data_dir / "property" / "location.csv"
    location.rename(data_dir / "elsewhere.csv")
    location.symlink_to("../elsewhere.csv")
    assert draft.read(data_dir=data_dir, check_files=True)
    linked = data_dir.parent / "linked"
    linked.symlink_to(data_dir)
    assert draft.read(data_dir=linked, check_files=True)
    (data_dir / "elsewhere.csv").rename(data_dir.parent / "outside.csv")
    location.unlink()
    location.symlink_to("../../outside.csv")
    (found,) = draft.problems(data_dir=data_dir, check_files=True)
    assert found.startswith("Portfolios!C2 (location): 'property/location.csv' leaves the folder")


def test_a_folder_that_links_outside_is_no_way_out(draft: Draft, data_dir: Path) -> None:
    (data_dir.parent / "secret").mkdir()
    (data_dir.parent / "secret" / "location.csv").touch()
    (data_dir / "way").symlink_to(data_dir.parent / "secret")
    (found,) = draft.set("Portfolios", "location", "way/location.csv").problems(data_dir=data_dir, check_files=True)
    assert "leaves the folder" in found


def test_options_of_a_model_may_lead_to_data_beside_it_and_not_out_of_the_data_folder(
    draft: Draft, data_dir: Path
) -> None:
    """As the configurations of public models do, whose data are in ``../../model_data``."""
    draft.set("Analyses", "model_options", '{"model_data_dir": "../model_data"}', row=3)
    assert draft.read(data_dir=data_dir, check_files=True).analyses[1].model_options
    draft.set("Analyses", "model_options", '{"model_data_dir": "../../../model_data"}', row=3)
    [line] = draft.problems(data_dir=data_dir, check_files=True)
    assert line.startswith(
        "Analyses!F3 (model_options): '../../../model_data' is outside of the data folder or models "
    )
    (data_dir / "deep" / "in").mkdir(parents=True)
    (data_dir / "models" / "windstorm").rename(data_dir / "storm")
    (data_dir / "deep" / "in" / "storm").symlink_to("../../storm")
    draft.set("Analyses", "model", "deep/in/storm", row=3).set("Analyses", "model", "storm", row=4)
    draft.set("Analyses", "settings", None, row=3)
    draft.set("Analyses", "model_options", '{"model_data_dir": "../../model_data"}', row=3)
    [line] = draft.problems(data_dir=data_dir, check_files=True)
    assert line.startswith("Analyses!F3 (model_options): '../../model_data' is outside of the data folder or models ")


@pytest.mark.parametrize("path", ["x" * 5_000, "loop/x"])
def test_a_path_that_cannot_exist_is_named(draft: Draft, data_dir: Path, path: str) -> None:
    (data_dir / "loop").symlink_to("loop")
    draft.set("Portfolios", "location", path).set("Analyses", "model", path, row=3)
    found = draft.problems(data_dir=data_dir, check_files=True)
    assert [line.partition(":")[0] for line in found] == ["Portfolios!C2 (location)", "Analyses!E3 (model)"]


def test_a_stored_path_is_checked_again_when_it_is_used(data_dir: Path) -> None:
    assert resolve_path(data_dir, "property\\location.csv") == data_dir / "property" / "location.csv"
    for path in ("../x", "/x", "a/../../x", "a\0b", "x" * 5_000):
        with pytest.raises(WorkbookError, match=r"is outside of the data folder|cannot be used"):
            resolve_path(data_dir, path)


def test_a_model_and_its_settings_are_found_in_the_models_folder_too(
    draft: Draft, data_dir: Path, tmp_path: Path
) -> None:
    models = tmp_path / "models"
    models.mkdir()
    (data_dir / "models" / "windstorm" / "oasislmf.json").rename(models / "oasislmf.json")
    (data_dir / "models" / "windstorm" / "analysis_settings.json").rename(models / "settings.json")
    draft.set("Analyses", "model", "oasislmf.json", row=3).set("Analyses", "settings", "settings.json", row=3)
    assert draft.read(data_dir=data_dir, models_dir=models, check_files=True)
    assert resolve_model("oasislmf.json", data_dir, models) == models / "oasislmf.json"
    assert resolve_model("models/windstorm", data_dir, models) == data_dir / "models" / "windstorm"
    assert draft.problems(data_dir=data_dir, check_files=True) == [
        f"Analyses!E3 (model): there is no 'oasislmf.json' in {data_dir}",
        f"Analyses!G3 (settings): there is no 'settings.json' in {data_dir}",
    ]


# Files that are no workbooks


def zipped(**parts: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return packed.getvalue()


def encrypted_flag(data: bytes) -> bytes:
    """The zip with every part marked as encrypted."""
    return data.replace(b"PK\x01\x02\x14\x03\x14\x00\x00\x00", b"PK\x01\x02\x14\x03\x14\x00\x01\x00")


OLE = bytes.fromhex("d0cf11e0a1b11ae1")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty (0 bytes)"),
        (b"name,source\na,csv\n", "is not an Excel workbook (.xlsx), whatever its name says"),
        (b"<html></html>", "is not an Excel workbook"),
        (OLE + b"\0" * 512 + "EncryptedPackage".encode("utf-16-le"), "is protected with a password"),
        (OLE + b"\0" * 512 + "Workbook".encode("utf-16-le"), "is in the old Excel format (.xls)"),
        (b"PK\x03\x04" + b"\0" * 100, "is damaged or incomplete"),
        (b"PK\x05\x06" + b"\0" * 18, "is not an Excel workbook (.xlsx); save it"),
        (zipped(mimetype=b"application/vnd.oasis.opendocument.spreadsheet"), "save it in that format"),
        (zipped(**{"xl/workbook.bin": b""}), "is in Excel's binary format (.xlsb)"),
        (zipped(**{"[Content_Types].xml": b""}), "cannot be read as an Excel workbook"),
        (zipped(**{"[Content_Types].xml": b"<x/>"}), "cannot be read as an Excel workbook"),
        (zipped(**{"[Content_Types].xml": b"\0" * (33 * 2**20)}), "would unpack to 33 MB in 1 parts"),
        (encrypted_flag(zipped(**{"[Content_Types].xml": b"<x/>"})), "is protected with a password"),
    ],
)
def test_what_is_no_workbook_is_refused_in_a_sentence(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "workbook.xlsx"
    path.write_bytes(content)
    with pytest.raises(WorkbookError) as caught:
        read_workbook(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    assert len(caught.value.problems) == 1


def test_what_is_no_file_is_refused_in_a_sentence(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.xlsx")
    (tmp_path / "huge.xlsx").touch()
    os.truncate(tmp_path / "huge.xlsx", 2**30)
    for path, message in (
        (tmp_path, "is a folder"),
        (tmp_path / "pipe.xlsx", "is not a file"),
        (tmp_path / "huge.xlsx", "has 1,024 MB"),
        (tmp_path / "missing.xlsx", "There is no workbook"),
        (tmp_path / "a\0b.xlsx", "cannot be read"),
        (tmp_path / ("x" * 300), "cannot be read: File name too long"),
    ):
        for read in (read_workbook, workbook_hash):
            with pytest.raises(WorkbookError) as caught:
                read(path)
            assert message in str(caught.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_an_unreadable_file_is_refused_in_a_sentence(tmp_path: Path) -> None:
    path = write_template(tmp_path / "workbook.xlsx")
    path.chmod(0)
    with pytest.raises(WorkbookError, match="cannot be read: Permission denied"):
        read_workbook(path)


def test_a_workbook_cut_off_anywhere_is_refused(draft: Draft) -> None:
    content = draft.path.read_bytes()
    for size in range(1, len(content), len(content) // 40):
        draft.path.write_bytes(content[:size])
        with pytest.raises(WorkbookError):
            read_workbook(draft.path)


SHEET = "xl/worksheets/sheet3.xml"


@pytest.mark.parametrize(
    ("part", "change"),
    [
        (SHEET, lambda xml: b"<!DOCTYPE x [<!ENTITY a 'aaaa'>]>" + xml),
        (SHEET, lambda xml: xml.replace(b"<sheetData>", b"<sheetData>" + b"<c/>" * 3_000_001)),
        ("xl/sharedStrings.xml", lambda xml: xml.replace(b"</sst>", b"<si/>" * 3_000_001 + b"</sst>")),
        (SHEET, lambda xml: xml.replace(b'<row r="3"', b'<row r="99999999999"')),
        (SHEET, lambda xml: xml.replace(b'<row r="3"', b'<row r="1e999"')),
        (SHEET, lambda xml: xml.replace(b'r="A3"', b'r="ZZZZZ3"')),
        (SHEET, lambda xml: xml.replace(b"</sheetData>", b"</sheetData><mergeCells><mergeCell ref='x'/></mergeCells>")),
        (SHEET, lambda xml: xml.replace(b't="s"><v>', b't="s"><v>9999')),
        (SHEET, lambda xml: xml.replace(b'r="H3"', b'r="H3" s="999"')),
        (SHEET, lambda _: b"not XML at all"),
        ("xl/workbook.xml", lambda xml: xml[:-30]),
        ("xl/styles.xml", lambda _: b"<styleSheet/>"),
        ("[Content_Types].xml", lambda xml: xml.replace(b"sheet.main+xml", b"chart+xml")),
    ],
)
def test_a_malicious_or_damaged_part_is_refused_quickly(draft: Draft, part: str, change: Any) -> None:
    rewritten(with_shared_strings(draft.path), part, change)
    started = time.process_time()
    with pytest.raises(WorkbookError, match="cannot be read as an Excel workbook"):
        read_workbook(draft.path)
    assert time.process_time() - started < 10


def test_a_merge_of_a_whole_sheet_costs_nothing(draft: Draft) -> None:
    merge = b"</sheetData><mergeCells><mergeCell ref='A1:XFD1048576'/></mergeCells>"
    rewritten(draft.path, SHEET, lambda xml: xml.replace(b"</sheetData>", merge))
    with pytest.raises(WorkbookError, match="Analyses!A1:XFD1048576: these cells are merged"):
        read_workbook(draft.path, check_files=False)


def test_a_wrong_size_in_the_file_hides_nothing(draft: Draft) -> None:
    rewritten(draft.path, SHEET, lambda xml: re.sub(rb'<dimension ref="[^"]*"', b'<dimension ref="A1"', xml))
    assert read_workbook(draft.path, check_files=False) == example_workbook()


def test_cells_without_references_are_counted(draft: Draft) -> None:
    draft.set("Metadata", "currency", "=1")
    draft.book.save(draft.path)
    rewritten(draft.path, "xl/worksheets/sheet1.xml", lambda xml: re.sub(rb' r="[A-Z]*\d+"', b"", xml))
    with pytest.raises(WorkbookError, match=r"Metadata!B2 \(currency\): holds a formula without a result"):
        read_workbook(draft.path, check_files=False)


def test_text_that_excel_escaped_is_read_as_it_was_typed(draft: Draft) -> None:
    draft.set("Metadata", "description", "one_x000D_\ntwo _x005F_x0041_ _xD83D_")
    assert draft.read().metadata.description == "one\ntwo _x0041_ _xD83D_"


def test_reading_is_silent_about_features_that_do_not_concern_it(draft: Draft) -> None:
    extension = b'</dataValidations><extLst><ext uri="{CCE6A557-97BC-4B89-ADB6-D9C93CAAB3DF}"/></extLst>'
    draft.book.save(draft.path)
    rewritten(draft.path, SHEET, lambda xml: xml.replace(b"</dataValidations>", extension))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_workbook(draft.path, check_files=False) == example_workbook()


# Any workbook

names = st.from_regex(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,12}[A-Za-z0-9_-])?", fullmatch=True).filter(
    lambda s: ".." not in s
)
texts = (
    st.text(
        st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="\ufffe\uffff")
        | st.sampled_from("\n\t=_x0041;")
    )
    .map(str.strip)
    .filter(lambda text: text.strip("\u200b\u2060\ufeff \t\n") == text and text != "")
)
words = st.text(string.ascii_letters + string.digits + "_ äß", min_size=1).map(str.strip).filter(bool)
paths = st.lists(words, min_size=1, max_size=3).map("/".join)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | words,
    lambda children: st.lists(children, max_size=3) | st.dictionaries(words, children, max_size=3),
    max_leaves=6,
)


def unique_names(minimum: int, maximum: int) -> st.SearchStrategy[list[str]]:
    return st.lists(names, min_size=minimum, max_size=maximum, unique_by=str.casefold)


@st.composite
def workbooks(draw: st.DrawFn) -> Workbook:
    portfolios = [draw(portfolio(name)) for name in draw(unique_names(1, 3))]
    every_name = draw(unique_names(1, 8))
    split = draw(st.integers(1, len(every_name)))
    analyses = [draw(analysis(name, draw(st.sampled_from(portfolios)))) for name in every_name[:split]]
    free = [item.name for item in analyses if item.engine == Engine.STOCHASTIC]
    groupings: list[dict[str, object]] = []
    for name in every_name[split:]:
        if free:
            members = draw(st.lists(st.sampled_from(free), min_size=1, unique=True))
            free = [item for item in free if item not in members] + [name]
            pairing = draw(st.none() | st.just("by_number"))
            groupings.append({"name": name, "members": members, "period_pairing": pairing})
    metadata = {
        "currency": draw(st.sampled_from(sorted(CURRENCIES))),
        "cycle_name": draw(st.none() | texts),
        "description": draw(st.none() | texts),
        "insurer": draw(st.none() | texts),
        "exposure_date": draw(st.none() | st.dates(dt.date(1950, 1, 1), dt.date(2199, 12, 31))),
        "largest_change": draw(st.integers(1, 10_000)) / 100,
        "least_covered": draw(st.integers(0, 100)) / 100,
    }
    content = {"metadata": metadata, "portfolios": portfolios, "analyses": analyses}
    return Workbook.model_validate(content | {"groupings": draw(st.permutations(groupings))})


@st.composite
def portfolio(draw: st.DrawFn, name: str) -> Portfolio:
    source = draw(st.sampled_from(["csv", "parquet", "sql"]))
    place = words.map(lambda text: f"SELECT '{text};' FROM x") | st.just("a.b") if source == "sql" else paths
    fields = {"name": name, "source": source, "location": draw(place), "account": draw(place)}
    if source == "sql":
        fields["database"] = "Warehouse_1"
    if draw(st.booleans()):
        fields |= {"ri_info": draw(place), "ri_scope": draw(place)}
    return Portfolio.model_validate(fields)


@st.composite
def analysis(draw: st.DrawFn, name: str, of: Portfolio) -> Analysis:
    more = draw(st.lists(st.sampled_from(["IL", "RI"] if of.ri_info else ["IL"]), unique=True))
    fields: dict[str, object] = {
        "name": name,
        "portfolio": of.name,
        "perspectives": draw(st.permutations(["GUL", *more])),
    }
    if draw(st.booleans()):
        factors = st.lists(st.floats(0, 1, exclude_min=True), min_size=1, max_size=5, unique=True)
        return Analysis.model_validate(fields | {"engine": "oasis_deterministic", "loss_factor": draw(factors)})
    stochastic = {
        "engine": "oasis_stochastic",
        "model": draw(paths),
        "model_options": draw(st.dictionaries(words, json_values, max_size=3)),
        "settings": draw(st.none() | paths),
        "samples": 10,
        "return_periods": draw(st.lists(st.integers(1, 10_000_000), max_size=5, unique=True)),
        "event_losses": draw(st.booleans()),
    }
    return Analysis.model_validate(fields | stochastic)


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(workbook=workbooks())
def test_any_workbook_is_read_as_it_was_written(tmp_path: Path, workbook: Workbook) -> None:
    path = write_workbook(tmp_path / "any.xlsx", workbook, overwrite=True)
    assert read_workbook(path, check_files=False) == workbook
    assert Workbook.model_validate(json.loads(json.dumps(workbook.to_json(), allow_nan=False))) == workbook


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    typed=st.dictionaries(
        st.tuples(st.sampled_from([spec.name for spec in SHEETS]), st.integers(1, 6), st.integers(1, 14)),
        texts
        | st.integers(-(10**6), 10**6)
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.booleans()
        | st.none(),
        max_size=8,
    )
)
def test_whatever_is_typed_anywhere_is_read_or_refused_with_problems(tmp_path: Path, typed: dict[Any, Any]) -> None:
    draft = Draft(tmp_path)
    for (sheet, row, column), value in typed.items():
        draft.book[sheet].cell(row, column).value = value
    problems = []
    try:
        workbook = draft.read()
    except WorkbookError as error:
        problems = error.problems
    else:
        assert Workbook.model_validate(workbook.to_json()) == workbook
    assert all(problem.sheet is not None and str(problem).isprintable() for problem in problems)


# The documentation


def as_table(rows: list[list[str]]) -> str:
    header, *body = (f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows)
    return "\n".join([header, "|" + " --- |" * len(rows[0]), *body])


def column_table(spec: SheetSpec) -> str:
    title = "Setting" if spec.name == "Metadata" else "Column"
    rows = [
        [f"`{name}`", column.kind.description, spec.requirement(name), column.help]
        for name, column in spec.row.columns().items()
    ]
    return as_table([[title, "Holds", "Must be filled", "What belongs in it"], *rows])


def example_table(spec: SheetSpec) -> str:
    columns = spec.row.columns()
    if spec.name == "Metadata":
        return as_table([["setting", "value"], *([name, column.examples[0]] for name, column in columns.items())])
    count = len(next(iter(columns.values())).examples)
    return as_table([list(columns), *([column.examples[row] for column in columns.values()] for row in range(count))])


@pytest.mark.parametrize("spec", SHEETS, ids=lambda spec: spec.name)
def test_the_page_says_what_the_code_says(spec: SheetSpec) -> None:
    page = PAGE.read_text()
    assert f"## {spec.name}\n\n{spec.help}" in page
    assert f"<!-- columns of {spec.name} -->\n\n{column_table(spec)}\n\n" in page
    assert f"<!-- example of {spec.name} -->\n\n{example_table(spec)}\n" in page


def error_example(draft: Draft) -> str:
    draft.set("Metadata", "currency", "EURO")
    draft.set("Portfolios", "location", "../location.csv")
    draft.set("Analyses", "loss_factor", "0.1; 1.5").set("Analyses", "portfolio", "comercial", row=4)
    draft.set("Groupings", "members", "property_wind; everything")
    return "\n".join(["```text", *draft.problems(), "```"])


def test_the_errors_on_the_page_are_those_that_are_told(draft: Draft) -> None:
    assert f"<!-- errors -->\n\n{error_example(draft)}\n" in PAGE.read_text()


def test_importing_the_helpers_loads_neither_openpyxl_nor_pydantic() -> None:
    code = "import sys, irp_pipeline.helpers; assert not {'openpyxl', 'pydantic'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_workbook_knows_neither_dagster_nor_a_database() -> None:
    code = (
        "import sys, irp_pipeline.workbook; "
        "assert not {'dagster', 'sqlalchemy', 'pandas', 'psycopg2'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_limits_on_the_page_are_those_of_the_code() -> None:
    assert f"at most {xlsx.MAX_ROWS:,} rows per sheet and {xlsx.MAX_FILE_BYTES // 2**20} MB" in PAGE.read_text()


def test_how_csv_files_are_written_can_be_said_in_words_and_signs(draft: Draft) -> None:
    draft.set("Portfolios", "encoding", "CP1252").set("Portfolios", "delimiter", ";").set("Portfolios", "decimal", ",")
    portfolio = draft.read().portfolio("property")
    assert (portfolio.encoding, portfolio.delimiter, portfolio.decimal) == ("cp1252", "semicolon", ",")


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("encoding", "cp1525", "'cp1525' is not an encoding; did you mean 'cp1252'?"),
        ("encoding", "base64", "'base64' is not an encoding"),
        ("delimiter", "#", "'#' is unknown; it can be comma, semicolon, tab, pipe"),
        ("decimal", "point", "'point' is unknown; it can be ., ,"),
    ],
)
def test_how_csv_files_are_written_must_be_something_that_can_be_read(draft: Draft, column, value, message) -> None:
    (problem,) = draft.set("Portfolios", column, value).problems()
    assert f"({column}): {message}" in problem


def test_only_csv_files_are_written_in_some_way(draft: Draft) -> None:
    (problem,) = draft.set("Portfolios", "encoding", "cp1252", row=3).problems()
    assert problem == "Portfolios!H3 (encoding): must be empty: sql does not use it, only csv does"


def test_a_workbook_from_before_these_columns_is_read_as_if_they_were_empty(draft: Draft) -> None:
    sheet = draft.book["Portfolios"]
    headers = [cell.value for cell in sheet[1]]
    for column in ("encoding", "delimiter", "decimal"):
        sheet.delete_cols(1 + headers.index(column))
        headers.remove(column)
    assert draft.read().portfolio("property").encoding is None


def test_what_is_filled_and_hidden_is_named(draft: Draft) -> None:
    draft.book["Analyses"].row_dimensions[3].hidden = True
    draft.book["Portfolios"].column_dimensions["F"].hidden = True
    draft.book["Portfolios"].column_dimensions["G"].hidden = True
    draft.book["Groupings"].sheet_state = "hidden"
    draft.set("Portfolios", "database", None, row=3).set("Portfolios", "source", "csv", row=3)
    draft.set("Portfolios", "parameters", None, row=3)
    draft.set("Portfolios", "location", "a.csv", row=3).set("Portfolios", "account", "b.csv", row=3)
    advice = "is hidden, for instance by a filter, but filled; show it, or delete what it says"
    assert draft.problems() == [
        f"Portfolios!F2: column F {advice}",
        f"Analyses!A3: row 3 {advice}",
        "Groupings!A1: the sheet is hidden, so nobody sees what it says; show it",
    ]


def test_the_strict_format_of_excel_is_named(tmp_path: Path) -> None:
    path = tmp_path / "strict.xlsx"
    with zipfile.ZipFile(io.BytesIO(example_file())) as source, zipfile.ZipFile(path, "w") as target:
        for name in source.namelist():
            transitional = b"http://schemas.openxmlformats.org/spreadsheetml/2006/main"
            target.writestr(
                name, source.read(name).replace(transitional, b"http://purl.oclc.org/ooxml/spreadsheetml/main")
            )
    with pytest.raises(WorkbookError, match=r"saved as 'Strict Open XML Spreadsheet'.* save it as 'Excel Workbook"):
        read_workbook(path, check_files=False)
