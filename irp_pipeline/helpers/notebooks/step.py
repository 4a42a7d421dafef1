"""A step whose work a notebook does: its inputs, its parameters, its work, and what it leaves.

Works in the schema of :mod:`irp_pipeline.helpers.db_context`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from irp_pipeline import settings, store
from irp_pipeline.cycle_files import NOTEBOOKS
from irp_pipeline.files import appearing_when_whole
from irp_pipeline.helpers.configuration import find_active_configuration, part_of_workbook
from irp_pipeline.helpers.db_context import get_current_schema
from irp_pipeline.helpers.decision import outputs_of_steps
from irp_pipeline.helpers.notebooks.errors import NotebookStepError
from irp_pipeline.helpers.notebooks.executing import execute
from irp_pipeline.helpers.notebooks.parameters import checked_parameters
from irp_pipeline.helpers.notebooks.source import Source, read_source
from irp_pipeline.helpers.stage import get_or_create_stage
from irp_pipeline.helpers.step import get_or_create_step, step_output
from irp_pipeline.helpers.step_work import TrackedRun

CODE = "code of the notebook"
"""The input that identifies the code cells."""

_OF_NOTEBOOKS = "notebooks"
"""The part of a workbook that names notebooks, which they do not get themselves: a new one changes no other."""


@dataclass(frozen=True, kw_only=True)
class NotebookStep:
    """A step whose work a notebook does.

    Attributes:
        stage_number: the place of its stage in a cycle.
        stage_name: the stage's name for people. In lower case, it is the key of its records.
        number: the place of the step in its stage.
        step_key: identifies the step, such as ``report.notebook:capital``.
        name: the step's name for people.
        path: the notebook.
        named: the notebook as it is recorded and shown, without the places of this machine.
        parameters: what it gets besides the parameters of every notebook.
        workbook: the parts of the workbook that its result depends on; None: all of it.
        outputs: keys of the notebook steps whose output data it gets, by the names under which it gets them.
        after: keys of other steps whose outputs its result depends on.
        timeout_minutes: how long it may take; None: as long as it takes.
        version: raised when the step has to run again although nothing that identifies it has changed.
    """

    stage_number: int
    stage_name: str
    number: int
    step_key: str
    name: str
    path: Path
    named: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    workbook: Sequence[str] | None = None
    outputs: Mapping[str, str] = field(default_factory=dict)
    after: Sequence[str] = ()
    timeout_minutes: float | None = None
    version: int = 1

    @property
    def artefact_key(self) -> str:
        """Where the executed notebook is among the files of a cycle."""
        return f"{NOTEBOOKS}/{self._place}.ipynb"

    @property
    def failed_key(self) -> str:
        """Where the notebook of a failed run is among the files of a cycle: as far as it was executed."""
        stage, _, name = self._place.partition("/")
        return f"{NOTEBOOKS}/{stage}/failed/{name}.ipynb"

    @property
    def _place(self) -> str:
        stage, _, name = self.step_key.partition(".")
        return f"{stage}/{name.removeprefix('notebook:')}"

    def step_id(self, cycle_id: int) -> int:
        """Return the id of the step in a cycle, making the step if it is missing."""
        stage_id = get_or_create_stage(cycle_id, self.stage_number, self.stage_name, stage_key=self.stage_name.lower())
        return get_or_create_step(stage_id, self.number, self.name, self.named, step_key=self.step_key)

    def inputs(self, cycle_id: int) -> dict[str, Any]:
        """Return everything that the result depends on now, by name.

        Raises:
            NotebookStepError: the notebook cannot be read, or a parameter cannot be given.
        """
        found: dict[str, Any] = {
            "step": f"{self.step_key} version {self.version}",
            CODE: read_source(self.path).code_hash,
        }
        found |= {f"parameter {name}": value for name, value in checked_parameters(self.parameters).items()}
        data = configuration_of(cycle_id)
        if self.workbook is None:
            found["workbook"] = data
        else:
            found |= {f"workbook {part}": part_of_workbook(data, part) for part in self.workbook}
        if keys := [*self.after, *self.outputs.values()]:
            outputs = outputs_of_steps(cycle_id)
            found |= {f"output of {key}": outputs.get(key, "none yet") for key in keys}
        return found

    def all_parameters(self, cycle_id: int, cycle_name: str) -> dict[str, Any]:
        """Return the parameters that the notebook gets.

        Raises:
            NotebookStepError: a notebook whose output data it gets has not completed; or as :meth:`inputs`.
        """
        given: dict[str, Any] = {
            "cycle_name": cycle_name,
            "schema": get_current_schema(),
            "configuration": configuration_of(cycle_id),
        }
        if self.outputs:
            done = outputs_of_steps(cycle_id)
            for name, key in self.outputs.items():
                if key not in done:
                    raise NotebookStepError(
                        f"Notebook {self.named} gets the output of {name}, which has not completed yet: run that first"
                    )
            given["outputs_of"] = {name: step_output(cycle_id, key) for name, key in self.outputs.items()}
        return given | checked_parameters(self.parameters)

    def work(self, run: TrackedRun, cycle_id: int, cycle_name: str) -> None:
        """Execute the notebook as the work of a run: its output data become those of the run.

        The executed notebook becomes a file of the run. If the notebook fails, it is kept in the folder ``failed``
        beside that place, as far as it was executed.

        Raises:
            NotebookStepError: the notebook failed, in one line with the cell and its error; or as
                :meth:`all_parameters`.
        """
        source = read_source(self.path)
        run.found_inputs[CODE] = source.code_hash  # somebody may have saved it since
        done = execute(
            source,
            run.scratch / "work",
            self.all_parameters(cycle_id, cycle_name),
            timeout_minutes=self.timeout_minutes,
            to_end=lambda: "its run lost its lease" if run.lease_lost else None,
        )
        if done.problem is not None:
            kept = None if done.path is None else self._keep_failed(done.path, cycle_name)
            raise NotebookStepError(f"Notebook {self.named} {done.problem}", kept)
        if done.path is None:
            raise NotebookStepError(f"Notebook {self.named} left nothing")
        run.output.update(done.output)
        self.keep(run, done.path)

    def keep(self, run: TrackedRun, executed: Path) -> None:
        """Make an executed notebook a file of a run, which is known by its output data.

        A notebook without output data may have left anything anywhere, so the number of the run stands for its content.
        """
        target = run.scratch / self.artefact_key
        target.parent.mkdir(parents=True, exist_ok=True)
        executed.rename(target)
        content = {"output": dict(run.output)} if run.output else {"run": run.run_num}
        run.add_file(target, content=content)
        run.remove_file(self.failed_key)

    def source(self) -> Source:
        """Read the notebook."""
        return read_source(self.path)

    def _keep_failed(self, executed: Path, cycle_name: str) -> Path:
        """Keep the notebook of a failed run, which publishes no files."""
        target = settings.cycle_dir(get_current_schema(), cycle_name) / self.failed_key
        target.parent.mkdir(parents=True, exist_ok=True)
        with appearing_when_whole(target) as new:
            new.write_bytes(executed.read_bytes())
        if store.is_elsewhere():
            store.put(target, store.key_of(target))
        return target


def configuration_of(cycle_id: int) -> dict[str, Any] | None:
    """Return the active configuration of a cycle as plain data, without the notebooks; None if there is none."""
    configuration = find_active_configuration(cycle_id)
    if configuration is None:
        return None
    return {name: value for name, value in configuration.data.items() if name != _OF_NOTEBOOKS}
