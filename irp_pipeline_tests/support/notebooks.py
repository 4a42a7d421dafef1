"""Notebooks for tests: files of cells, and steps of them."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from irp_pipeline.helpers.notebooks.step import NotebookStep
from irp_pipeline.helpers.step import TrackedRun, track_step


def code(source: str | list[str], **more: Any) -> dict[str, Any]:
    """A code cell."""
    return {"cell_type": "code", "execution_count": None, "metadata": {}, "outputs": [], "source": source} | more


def text(source: str) -> dict[str, Any]:
    """A text cell."""
    return {"cell_type": "markdown", "metadata": {}, "source": source}


def write_notebook(path: Path, *cells: str | dict[str, Any], **metadata: Any) -> Path:
    """Write a notebook of cells; a text stands for a code cell."""
    content = [code(cell) if isinstance(cell, str) else cell for cell in cells]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"cells": content, "metadata": metadata, "nbformat": 4, "nbformat_minor": 4}))
    return path


def outputs_of(path: Path) -> list[str]:
    """What the cells of an executed notebook printed."""
    cells: Iterable[Mapping[str, Any]] = json.loads(path.read_text())["cells"]
    return [
        "".join(output["text"])
        for cell in cells
        for output in cell.get("outputs", ())
        if output["output_type"] == "stream"
    ]


def step_of(path: Path, key: str = "own.notebook:capital", **more: Any) -> NotebookStep:
    """The step of a notebook."""
    about: dict[str, Any] = {"stage_number": 8, "stage_name": "Own", "number": 1, "name": key, "named": path.name}
    return NotebookStep(**{**about, "step_key": key, "path": path, **more})


def run_step(step: NotebookStep, cycle_id: int, cycle_name: str, **options: Any) -> TrackedRun:
    """Run a notebook as a step, as the pipeline does."""
    with track_step(step.step_id(cycle_id), inputs=step.inputs(cycle_id), **options) as run:
        if not run.skipped:
            step.work(run, cycle_id, cycle_name)
    return run
