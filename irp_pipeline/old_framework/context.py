"""The old module ``helpers.context``: the cycle, stage and step of a notebook, from where it is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from irp_pipeline.errors import IrpError
from irp_pipeline.helpers.constants import CycleStatus
from irp_pipeline.helpers.cycle import create_cycle, find_cycle, require_open_cycle
from irp_pipeline.helpers.stage import get_or_create_stage
from irp_pipeline.helpers.step import get_or_create_step

_CYCLE = re.compile(r"(?:Active|Archived)_(?P<cycle>.+)")
_NUMBERED = {word: re.compile(rf"{word}_(?P<number>\d+)(?:_(?P<name>.+))?") for word in ("Stage", "Step")}


class ContextError(IrpError):
    """The place of a notebook does not say which step it is."""


class WorkContext:
    """The cycle, stage and step of a notebook; their rows are made if they are missing.

    Args:
        notebook_path: ``…/Active_<cycle>/notebooks/Stage_NN_Name/Step_NN_Name.ipynb``.

    Attributes:
        cycle_id, cycle_name: the cycle.
        stage_id, stage_num, stage_name: the stage.
        step_id, step_num, step_name: the step.
        cycle_directory: the folder ``Active_<cycle>``.
        notebook_path: the notebook.

    Raises:
        ContextError: the path is not of that form.
        CycleError: the cycle is archived, or cannot have this name.
    """

    def __init__(self, notebook_path: str | Path) -> None:
        self.notebook_path = Path(notebook_path).absolute()
        self.cycle_directory, self.cycle_name = self._cycle()
        self.stage_num, self.stage_name = self._numbered("Stage", self.notebook_path.parent.name)
        self.step_num, self.step_name = self._numbered("Step", self.notebook_path.stem)
        self.cycle_id = _cycle_id(self.cycle_name)
        self.stage_id = get_or_create_stage(self.cycle_id, self.stage_num, self.stage_name)
        self.step_id = get_or_create_step(self.stage_id, self.step_num, self.step_name, str(self.notebook_path))

    def get_info(self) -> dict[str, Any]:
        """Return everything that is known, by the names of the attributes."""
        return {
            "cycle_id": self.cycle_id,
            "cycle_name": self.cycle_name,
            "cycle_directory": str(self.cycle_directory),
            "stage_id": self.stage_id,
            "stage_num": self.stage_num,
            "stage_name": self.stage_name,
            "step_id": self.step_id,
            "step_num": self.step_num,
            "step_name": self.step_name,
            "notebook_path": str(self.notebook_path),
        }

    def _cycle(self) -> tuple[Path, str]:
        for folder in self.notebook_path.parents:
            if found := _CYCLE.fullmatch(folder.name):
                return folder, found["cycle"]
        raise self._error("no folder Active_<cycle> above it")

    def _numbered(self, word: str, text: str) -> tuple[int, str]:
        found = _NUMBERED[word].fullmatch(text)
        if found is None:
            raise self._error(f"{text!r} is not {word}_NN_Name")
        return int(found["number"]), (found["name"] or f"{word} {int(found['number'])}").replace("_", " ")

    def _error(self, why: str) -> ContextError:
        return ContextError(
            f"The place of the notebook {self.notebook_path} does not say which step it is: {why}. Wanted: "
            "…/Active_<cycle>/notebooks/Stage_NN_Name/Step_NN_Name.ipynb"
        )


def get_context(notebook_path: str | Path) -> WorkContext:
    """Return the cycle, stage and step of a notebook, with the errors of :class:`WorkContext`."""
    return WorkContext(notebook_path)


def _cycle_id(name: str) -> int:
    cycle = find_cycle(name)
    if cycle is None:
        return create_cycle(name)
    return cycle.id if cycle.status is CycleStatus.ACTIVE else require_open_cycle(name).id
