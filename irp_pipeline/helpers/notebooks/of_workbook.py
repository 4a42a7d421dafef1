"""The notebooks that the workbook of a cycle names, as steps of its stages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from irp_pipeline.columns import Folders
from irp_pipeline.helpers.configuration import find_active_configuration
from irp_pipeline.helpers.notebooks.errors import NotebookStepError
from irp_pipeline.helpers.notebooks.step import NotebookStep
from irp_pipeline.settings import notebooks_folder


@dataclass(frozen=True)
class NotebookStage:
    """A stage that ends with notebooks.

    Attributes:
        number: its place in a cycle.
        name: its name for people.
        after: the steps whose outputs are there when its notebooks run, and which they depend on.
    """

    number: int
    name: str
    after: tuple[str, ...]


STAGES: Final = {
    "process": NotebookStage(
        3, "Process", ("extract.extract_exposure", "process.validate_exposure", "process.build_portfolios")
    ),
    "report": NotebookStage(
        6,
        "Report",
        (
            "extract.extract_exposure",
            "process.build_portfolios",
            "monitor.track_jobs",
            "monitor.group_results",
            "report.export_results",
        ),
    ),
}
"""The stages that a row of the sheet Notebooks may name, by their keys."""

_FIRST_NUMBER: Final = 101  # after the steps of the stage itself


def key_of_notebook(stage: str, name: str) -> str:
    """Return the key of the step of a notebook of the workbook."""
    return f"{stage}.notebook:{name}"


def notebooks_of_cycle(cycle_id: int, stage: str | None = None) -> list[NotebookStep]:
    """Return the notebooks that the active workbook of a cycle names, each after those whose output it gets.

    Args:
        cycle_id: the cycle.
        stage: only those of this stage: ``process`` or ``report``.

    Raises:
        ConfigurationError: the active configuration cannot be used.
        WorkbookError: a notebook does not exist any more, or its path leaves the folder.
    """
    configuration = find_active_configuration(cycle_id)
    if configuration is None or configuration.configuration_data is None:
        return []
    if not configuration.configuration_data.get("notebooks"):  # spares the reading of the whole workbook
        return []
    workbook = configuration.workbook()
    folders = Folders(configuration.data_folder, notebooks_folder())
    place = {notebook.name: number for number, notebook in enumerate(workbook.notebooks, start=_FIRST_NUMBER)}
    stages = {notebook.name: notebook.stage for notebook in workbook.notebooks}
    return [
        NotebookStep(
            stage_number=STAGES[notebook.stage].number,
            stage_name=STAGES[notebook.stage].name,
            number=place[notebook.name],
            step_key=key_of_notebook(notebook.stage, notebook.name),
            name=f"Notebook {notebook.name}",
            path=folders.find(notebook.notebook),
            named=notebook.notebook,
            parameters=notebook.parameters,
            outputs={name: key_of_notebook(stages[name], name) for name in notebook.after},
            after=STAGES[notebook.stage].after,
            timeout_minutes=notebook.timeout_minutes,
        )
        for notebook in workbook.notebooks_in_order()
        if stage is None or notebook.stage == stage
    ]


def notebook_of_cycle(cycle_id: int, name: str) -> NotebookStep:
    """Return the notebook of that name.

    Raises:
        NotebookStepError: the active workbook names none; and the errors of :func:`notebooks_of_cycle`.
    """
    notebooks = {step.step_key.partition(":")[2]: step for step in notebooks_of_cycle(cycle_id)}
    if name not in notebooks:
        known = ", ".join(notebooks) or "none"
        raise NotebookStepError(
            f"The sheet Notebooks of the cycle's workbook has no notebook {name!r}; it names: {known}. If it was just "
            "added there, run validate_configuration first"
        )
    return notebooks[name]


def chains(steps: Sequence[NotebookStep]) -> list[list[NotebookStep]]:
    """Part notebooks into chains that have nothing to do with each other, so that they can run at the same time.

    Args:
        steps: each after those whose output it gets.

    Returns:
        The notebooks of each chain, in their order.
    """
    found: list[list[NotebookStep]] = []
    for step in steps:
        needed = set(step.outputs.values())
        joined = [chain for chain in found if not needed.isdisjoint(earlier.step_key for earlier in chain)]
        others = [chain for chain in found if chain not in joined]
        found = [*others, [*(earlier for chain in joined for earlier in chain), step]]
    return found
