"""The sheet Notebooks: what it accepts, what it refuses, and that workbooks without it stay what they were."""

from pathlib import Path
from typing import Any

import openpyxl
import pytest

from irp_pipeline.columns import WorkbookError
from irp_pipeline.hashes import value_hash
from irp_pipeline.workbook import (
    NotebookStage,
    Workbook,
    example_workbook,
    read_workbook,
    workbook_hash,
    write_workbook,
)


def content(*notebooks: dict[str, Any]) -> dict[str, Any]:
    """The example workbook as plain data, with these notebooks."""
    return example_workbook().to_json() | {"notebooks": list(notebooks)}


def row(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "notebook": f"{name}.ipynb", **more}


def written(folder: Path, *notebooks: dict[str, Any]) -> Path:
    return write_workbook(folder / "workbook.xlsx", Workbook.model_validate(content(*notebooks)), overwrite=True)


def test_a_row_needs_a_name_and_a_notebook(tmp_path):
    (notebook,) = read_workbook(written(tmp_path, row("capital")), check_files=False).notebooks
    assert (notebook.name, notebook.notebook, notebook.stage) == ("capital", "capital.ipynb", NotebookStage.REPORT)
    assert (notebook.parameters, notebook.after, notebook.timeout_minutes) == ({}, (), 60)


def test_a_workbook_without_notebooks_has_neither_the_sheet_nor_the_key(tmp_path):
    path = written(tmp_path)
    assert "Notebooks" not in openpyxl.load_workbook(path).sheetnames
    workbook = read_workbook(path, check_files=False)
    assert workbook.notebooks == ()
    assert "notebooks" not in workbook.to_json()


def test_an_empty_sheet_is_the_same_as_none(tmp_path):
    path = written(tmp_path, row("capital"))
    book = openpyxl.load_workbook(path)
    book["Notebooks"].delete_rows(2)
    book.save(tmp_path / "empty.xlsx")
    empty = read_workbook(tmp_path / "empty.xlsx", check_files=False)
    assert value_hash(empty.to_json()) == value_hash(read_workbook(written(tmp_path), check_files=False).to_json())
    assert workbook_hash(path) != workbook_hash(tmp_path / "empty.xlsx")


def test_each_notebook_comes_after_those_whose_output_it_gets():
    rows = row("c", after=["b", "a"]), row("b", after=["a"], stage="process"), row("a", stage="process")
    workbook = Workbook.model_validate(content(*rows))
    assert [notebook.name for notebook in workbook.notebooks_in_order()] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"notebook": "../capital.ipynb"}, "is outside of the data folder"),
        ({"notebook": "https://user:secret@host/capital.ipynb"}, "is an address, not a path"),
        ({"notebook": "capital.py"}, "is not the name of a notebook, which ends in .ipynb"),
        ({"stage": "submit"}, "'submit' is unknown; it can be process, report"),
        ({"parameters": {"import os": 1}}, "'import os' cannot be the name of a parameter"),
        ({"parameters": {"class": 1}}, "'class' cannot be the name of a parameter"),
        ({"parameters": {"schema": "other"}}, "the parameter 'schema' is set by the pipeline"),
        ({"after": ["nothing"]}, "there is no notebook 'nothing'"),
        ({"after": ["capital"]}, "the notebook waits for itself: capital → capital"),
        ({"after": ["late"], "stage": "process"}, "'late' runs in the stage report, which comes later"),
        ({"timeout_minutes": 0}, "0 must be above 0 and at most 10,080"),
    ],
)
def test_what_is_wrong_is_told(changes, told):
    with pytest.raises(ValueError, match="otebooks") as caught:
        Workbook.model_validate(content(row("capital") | changes, row("late")))
    assert told in str(caught.value)
    assert "secret" not in told


def test_two_notebooks_with_one_name_are_refused():
    with pytest.raises(ValueError, match="'Capital' is already the name of the notebook in row 2"):
        Workbook.model_validate(content(row("capital"), row("Capital")))


def test_a_notebook_is_found_in_the_data_folder_or_in_the_notebooks_folder(tmp_path):
    shared = tmp_path / "shared"
    shared.mkdir()
    path = written(tmp_path, row("own"), row("common"))
    (tmp_path / "own.ipynb").touch()
    (shared / "common.ipynb").touch()

    def problems(**folders: Any) -> list[str]:
        with pytest.raises(WorkbookError) as caught:
            read_workbook(path, **folders)
        return [text for text in str(caught.value).splitlines() if text.startswith("Notebooks")]

    assert problems(notebooks_dir=shared) == []
    assert problems() == [f"Notebooks!B3 (notebook): there is no 'common.ipynb' in {tmp_path}"]


def test_a_slip_of_the_pen_in_the_title_is_told(tmp_path):
    book = openpyxl.load_workbook(written(tmp_path, row("capital")))
    book["Notebooks"].title = "Notebook"
    book.save(tmp_path / "workbook.xlsx")
    with pytest.raises(WorkbookError, match="Notebook: the sheet is unknown; did you mean 'Notebooks'"):
        read_workbook(tmp_path / "workbook.xlsx", check_files=False)
