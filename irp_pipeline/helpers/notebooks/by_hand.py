"""A notebook that a person opened, as the same step that the pipeline would execute.

``begin_step`` in its first cell and ``end_step`` in its last do nothing when the pipeline executes the notebook, since
that tracks the run. By hand, they hold the lease of the step in between, with the same inputs and the same parameters.
"""

from __future__ import annotations

import atexit
import json
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final

from irp_pipeline.helpers.cycle import CycleError, require_open_cycle
from irp_pipeline.helpers.database import fetch_all
from irp_pipeline.helpers.db_context import get_current_schema, schema_context, set_schema
from irp_pipeline.helpers.notebooks.errors import NotebookStepError
from irp_pipeline.helpers.notebooks.of_workbook import notebook_of_cycle
from irp_pipeline.helpers.notebooks.output import MIME_TYPE, listen, stop_listening
from irp_pipeline.helpers.notebooks.source import Source, code_of, hash_of_code
from irp_pipeline.helpers.notebooks.step import CODE, NotebookStep
from irp_pipeline.helpers.step import TrackedRun, track_step
from irp_pipeline.process import MARK_OF_NOTEBOOK

DECLARED: Final[dict[str, NotebookStep]] = {}
"""The notebooks that code declares as steps, by the keys of their steps."""


class StepIsDoneError(NotebookStepError):
    """The work of the step is done already, so there is nothing to do. In a notebook it shows as one line."""

    def _render_traceback_(self) -> list[str]:
        return [str(self)]


class StepWasLeftError(NotebookStepError):
    """The notebook was closed, or began again, before it ended its step."""


class _Work:
    """A step at work in this kernel.

    Attributes:
        run: its run.
        is_as_file: whether the cells that were run are those of the file; known at the end.
    """

    def __init__(self, step: NotebookStep, source: Source, tracking: AbstractContextManager[TrackedRun]) -> None:
        self._step, self._source, self._tracking = step, source, tracking
        self.is_as_file = False
        self.run = tracking.__enter__()
        if not self.run.skipped:
            listen(self._take)

    def _take(self, values: Mapping[str, Any]) -> None:
        self.run.output.update(values)

    def leave(self, error: BaseException | None) -> None:
        """End the run: with an error, it has failed."""
        if self.run.skipped:
            self._tracking.__exit__(None, None, None)
            return
        stop_listening(self._take)
        if error is not None:
            self._tracking.__exit__(type(error), error, None)
            return
        try:
            executed = _cells()
            self.is_as_file = _ends_with(executed, self._source.code)
            self.run.found_inputs[CODE] = self._source.code_hash if self.is_as_file else hash_of_code(executed)
            self._step.keep(self.run, _written(self.run, executed))
        except BaseException as problem:
            self._tracking.__exit__(type(problem), problem, problem.__traceback__)
            raise
        self._tracking.__exit__(None, None, None)


_at_work: _Work | None = None


def begin_step(
    step: str | NotebookStep, *, cycle: str | None = None, schema: str | None = None, rerun: bool = False
) -> None:
    """Begin the step whose work this notebook does. Put it into a cell below the cell with the parameters.

    When the pipeline executes the notebook, this does nothing. By hand, the step is then at work as if the pipeline
    were: nobody else can begin it, and its parameters are set as variables of the notebook.

    Args:
        step: the name of the notebook in the sheet Notebooks of the cycle's workbook; or the key of a step that was
            declared with ``notebook_step``, such as ``rates.fetch_rates``, or its declaration.
        cycle: the cycle; None: the one that the variable ``cycle_name`` names, else the only open one.
        schema: its schema; None: the current one.
        rerun: do the work even if it is done.

    Raises:
        StepIsDoneError: there is nothing to do: the step has completed with the same code, parameters and inputs.
        StepError: the step is at work already.
        NotebookStepError: there is no such notebook.
        CycleError: it does not follow which cycle is meant, or the cycle is not open.
    """
    if _is_executed():
        return
    global _at_work
    if _at_work is not None:
        left, _at_work = _at_work, None
        left.leave(StepWasLeftError("begin_step was called again before end_step"))
    with schema_context(schema or get_current_schema()) as name:
        found = require_open_cycle(cycle or _named_cycle())
        declared = step if isinstance(step, NotebookStep) else _find(step, found.id)
        parameters = declared.all_parameters(found.id, found.cycle_name)
        tracking = track_step(declared.step_id(found.id), inputs=declared.inputs(found.id), rerun=rerun)
        work = _Work(declared, declared.source(), tracking)
    if work.run.skipped:
        work.leave(None)
        raise StepIsDoneError(
            f"There is nothing to do: {work.run.reason}. To do it again all the same, say begin_step(…, rerun=True)"
        )
    _at_work = work
    set_schema(name)
    if (shell := _shell()) is not None:
        shell.push(parameters)
    print(f"{declared.name}: run {work.run.run_num} of cycle {found.cycle_name} in schema {name} has begun.")


def end_step() -> None:
    """End the step that :func:`begin_step` began. Put it into the last cell.

    By hand, the output data are recorded and the step has completed. If the cells that were run are not those of the
    file, one after the other, the record says so, and the pipeline does the work again.

    Raises:
        NotebookStepError: no step was begun.
        StepError: the lease was lost meanwhile; or the result cannot be recorded.
    """
    if _is_executed():
        return
    global _at_work
    if _at_work is None:
        raise NotebookStepError("No step is at work in this notebook: call begin_step first")
    work, _at_work = _at_work, None
    work.leave(None)
    note = (
        "" if work.is_as_file else " What was run is not what the file holds, so the pipeline would do the work again."
    )
    print(f"Run {work.run.run_num} has completed.{note}")


def abandon(error: BaseException | None = None) -> None:
    """Record the step at work, if there is one, as failed."""
    global _at_work
    if _at_work is not None:
        work, _at_work = _at_work, None
        work.leave(error or StepWasLeftError("The kernel was closed before end_step"))


atexit.register(abandon)


def _is_executed() -> bool:
    return MARK_OF_NOTEBOOK in os.environ


def _find(step: str, cycle_id: int) -> NotebookStep:
    if step in DECLARED:
        return DECLARED[step]
    try:
        return notebook_of_cycle(cycle_id, step)
    except NotebookStepError as error:
        raise NotebookStepError(
            f"{error}. If code declares it as a step, import the module that does, and name its key, such as "
            "rates.fetch_rates"
        ) from None


def _named_cycle() -> str:
    shell = _shell()
    named = None if shell is None else shell.user_ns.get("cycle_name")
    if isinstance(named, str) and named:
        return named
    found = [
        row["cycle_name"]
        for row in fetch_all("SELECT cycle_name FROM irp_cycle WHERE status = 'ACTIVE' ORDER BY created_ts DESC")
    ]
    if len(found) == 1:
        return str(found[0])
    which = f"the open cycles are {', '.join(found)}" if found else "no cycle is open"
    raise CycleError(
        f"It does not follow which cycle is meant: in schema {get_current_schema()!r}, {which}. Say "
        "begin_step(…, cycle='Q1-2024'), or set cycle_name in the cell with the parameters"
    )


def _shell() -> Any:
    if "IPython" not in sys.modules:
        return None
    from IPython.core.getipython import get_ipython

    return get_ipython()


def _cells() -> Sequence[str]:
    """Return the cells that were run in this kernel, the present one included."""
    shell = _shell()
    return () if shell is None else code_of(shell.history_manager.input_hist_raw)


def _ends_with(executed: Sequence[str], code: Sequence[str]) -> bool:
    return len(code) > 0 and tuple(executed[-len(code) :]) == tuple(code)


def _written(run: TrackedRun, executed: Sequence[str]) -> Path:
    """Write what was run as a notebook: its cells, and the output data."""
    cells: list[dict[str, Any]] = [
        {"cell_type": "code", "execution_count": number, "metadata": {}, "outputs": [], "source": text}
        for number, text in enumerate(executed, start=1)
    ]
    if cells and run.output:
        shown = "\n".join(f"{name}: {value}" for name, value in run.output.items())
        data = {MIME_TYPE: dict(run.output), "text/plain": shown}
        cells[-1]["outputs"] = [{"output_type": "display_data", "data": data, "metadata": {}}]
    kernel = {"name": "irp", "display_name": "IRP pipeline", "language": "python"}
    about = {"kernelspec": kernel, "irp": {"by_hand": True}}
    path = run.scratch / "by_hand.ipynb"
    path.write_text(
        json.dumps({"cells": cells, "metadata": about, "nbformat": 4, "nbformat_minor": 4}, indent=1) + "\n"
    )
    return path
