"""What identifies a notebook, what it may be given and give back, and which notebooks wait for each other."""

import datetime as dt
import json
import math
import subprocess
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from irp_pipeline.helpers.notebooks import executing
from irp_pipeline.helpers.notebooks.errors import NotebookStepError
from irp_pipeline.helpers.notebooks.executing import execute
from irp_pipeline.helpers.notebooks.of_workbook import STAGES, chains
from irp_pipeline.helpers.notebooks.output import (
    MIME_TYPE,
    NotebookOutputError,
    irp_output,
    listen,
    outputs_in,
    stop_listening,
)
from irp_pipeline.helpers.notebooks.parameters import checked_parameters
from irp_pipeline.helpers.notebooks.source import read_source
from irp_pipeline.orchestration.stages import process, report
from irp_pipeline.process import this_process
from irp_pipeline.workbook import NotebookStage
from irp_pipeline_tests.support.notebooks import code, step_of, text, write_notebook


class TestTheCodeOfANotebook:
    def test_is_its_code_cells_alone(self, tmp_path):
        plain = read_source(write_notebook(tmp_path / "plain.ipynb", "a = 1", "print(a)"))
        output = {"output_type": "stream", "name": "stdout", "text": "1\n"}
        shown = write_notebook(
            tmp_path / "shown.ipynb",
            text("# A title"),
            code("a = 1", execution_count=7, metadata={"collapsed": True}),
            "   \n",
            code("print(a)\n", outputs=[output]),
            code("cycle_name = 'Q1'", metadata={"tags": ["injected-parameters"]}),
            kernelspec={"name": "irp", "language": "python"},
        )
        assert read_source(shown).code == ("a = 1", "print(a)")
        assert read_source(shown).code_hash == plain.code_hash

    @pytest.mark.parametrize("cells", [["print(a)", "a = 1"], ["a = 1"], ["a = 1\nprint(a)"], ["a = 1", " print(a)"]])
    def test_changes_with_every_other_difference(self, tmp_path, cells):
        plain = read_source(write_notebook(tmp_path / "plain.ipynb", "a = 1", "print(a)"))
        assert read_source(write_notebook(tmp_path / "other.ipynb", *cells)).code_hash != plain.code_hash

    def test_may_be_written_line_by_line(self, tmp_path):
        lines = read_source(write_notebook(tmp_path / "lines.ipynb", code(["a = 1\r\n", "b = 2"])))
        assert lines.code == ("a = 1\nb = 2",)

    @pytest.mark.parametrize(
        ("content", "told"),
        [
            ("no json", "does not hold JSON"),
            ("[" * 100_000, "does not hold JSON"),
            ('{"worksheets": []}', "is not a notebook of format 4"),
            ("[]", "is not a notebook of format 4"),
            ('{"cells": [], "metadata": {"kernelspec": {"language": "R"}}}', "is in 'R'"),
        ],
    )
    def test_cannot_be_read_from_anything_else(self, tmp_path, content, told):
        (tmp_path / "capital.ipynb").write_text(content)
        with pytest.raises(NotebookStepError, match=told):
            read_source(tmp_path / "capital.ipynb")

    def test_cannot_be_read_from_nothing(self, tmp_path):
        with pytest.raises(NotebookStepError, match=r"capital.ipynb cannot be read: No such file"):
            read_source(tmp_path / "capital.ipynb")


class TestParameters:
    def test_are_plain_data(self):
        given = {"day": dt.date(2024, 1, 1), "share": np.float64(0.5), "names": ("a", "b"), "nothing": math.nan}
        assert checked_parameters(given) == {"day": "2024-01-01", "share": 0.5, "names": ["a", "b"], "nothing": None}

    @pytest.mark.parametrize("name", ["a b", "1", "import os; x", "class", "schema", "outputs_of", ""])
    def test_must_have_names_of_variables(self, name):
        with pytest.raises(NotebookStepError):
            checked_parameters({name: 1})

    def test_must_have_a_json_form(self):
        with pytest.raises(NotebookStepError, match="'table' cannot be given to a notebook"):
            checked_parameters({"table": pd.DataFrame()})


class TestOutputData:
    def test_are_told_to_whoever_listens(self):
        heard: dict[str, Any] = {}
        listen(heard.update)
        try:
            irp_output(tvar=np.float64(4.1e6), years=10)
            irp_output("AAL (EUR)", 1.5)
            irp_output(years=20)
        finally:
            stop_listening(heard.update)
        irp_output(years=30)
        assert heard == {"tvar": 4.1e6, "years": 20, "AAL (EUR)": 1.5}

    def test_are_read_from_the_cells_in_order(self):
        cells: list[dict[str, Any]] = [
            {"outputs": [{"data": {MIME_TYPE: {"a": 1, "b": [2]}}}]},
            {"outputs": [{"text": "x"}, {"data": {"text/plain": "a: 7"}}, {"data": {MIME_TYPE: {"a": None}}}]},
            {},
        ]
        assert outputs_in(cells) == {"a": None, "b": [2]}

    def test_cannot_be_tables_or_anything_else_without_json(self):
        with pytest.raises(NotebookOutputError, match=r"The output 'table' cannot be recorded: .*to_dict"):
            irp_output(table=pd.DataFrame())

    @pytest.mark.parametrize("named", [("a",), (1, 2), ("a", 1, 2), ("", 1), ("a\0", 1)])
    def test_have_a_name(self, named):
        with pytest.raises(NotebookOutputError):
            irp_output(*named)


def test_notebooks_that_take_each_others_output_are_one_chain(tmp_path):
    def step(name, *outputs):
        return step_of(tmp_path / name, key=name, outputs={other: other for other in outputs})

    steps = [step("a"), step("b"), step("c", "a"), step("d"), step("e", "b", "d"), step("f", "in another stage")]
    found = [[each.step_key for each in chain] for chain in chains(steps)]
    assert sorted(found) == [["a", "c"], ["b", "d", "e"], ["f"]]


def test_the_stages_of_notebooks_are_those_of_the_pipeline():
    assert {*STAGES} == {str(stage) for stage in NotebookStage}
    for module in (process, report):
        stage = STAGES[module.STAGE.key]
        assert (stage.number, stage.name) == (module.STAGE.number, module.STAGE.name)


def test_without_papermill_the_error_says_what_to_install(tmp_path, monkeypatch):
    source = read_source(write_notebook(tmp_path / "capital.ipynb", "1"))
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(NotebookStepError, match=r"pip install 'irp-pipeline\[notebook\]'"):
        execute(source, tmp_path / "work", {})


def test_folders_of_sockets_that_killed_processes_left_are_removed(tmp_path, monkeypatch):
    """Those of processes that are alive stay, and so does what is not known."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with subprocess.Popen(["sleep", "60"]) as ended:
        gone = replace(this_process(), pid=ended.pid)
        ended.kill()
    for name, owner in {"gone": gone, "alive": this_process(), "elsewhere": replace(gone, host="elsewhere")}.items():
        (tmp_path / f"irp-notebook-{name}").mkdir()
        (tmp_path / f"irp-notebook-{name}" / "owner.json").write_text(json.dumps(asdict(owner)))
    (tmp_path / "irp-notebook-new").mkdir()
    with executing._sockets() as own:
        assert {path.name for path in tmp_path.iterdir()} == {
            "irp-notebook-alive",
            "irp-notebook-elsewhere",
            "irp-notebook-new",
            own.name,
        }
    assert not own.exists()
