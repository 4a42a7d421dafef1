"""Explaining a cycle: which steps would run now and why, without running anything.

The verdict on each step comes from :mod:`irp_pipeline.helpers.decision`, which a launch uses too.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby

from irp_pipeline import settings
from irp_pipeline.helpers.constants import StepStatus
from irp_pipeline.helpers.cycle import require_open_cycle
from irp_pipeline.helpers.db_context import get_current_schema
from irp_pipeline.helpers.decision import Verdict, decide, fingerprint_of
from irp_pipeline.helpers.notebooks.of_workbook import STAGES as OF_NOTEBOOKS
from irp_pipeline.helpers.notebooks.of_workbook import notebooks_of_cycle
from irp_pipeline.helpers.notebooks.step import NotebookStep
from irp_pipeline.helpers.step import find_step
from irp_pipeline.orchestration.jobs import STEPS
from irp_pipeline.orchestration.tracking import SPECS, CycleOfRun, Spec

_READS_WORKBOOK = "setup.validate_configuration"


class Foresight(StrEnum):
    """What a launch would do with a step."""

    RUN = "run"
    SKIP = "skip"
    DEPENDS = "depends"


@dataclass(frozen=True)
class Explanation:
    """What a launch would do with a step, and why.

    Attributes:
        step: the key of the step, such as ``extract.extract_exposure``.
        foresight: whether it would run. DEPENDS: an earlier step runs first, and its output decides.
        reason: why, as a sentence without its full stop.
    """

    step: str
    foresight: Foresight
    reason: str


def explain(cycle_name: str) -> list[Explanation]:
    """Say of each step of a cycle whether a launch would run it now, in the order of the steps.

    Args:
        cycle_name: the cycle, in the current schema.

    Raises:
        CycleError: there is no such open cycle.
        IrpError: an input cannot be read.
    """
    found = require_open_cycle(cycle_name)
    schema, name = get_current_schema(), found.cycle_name
    return list(_explanations(CycleOfRun(found.id, name, schema, settings.cycle_dir(schema, name))))


def _explanations(cycle: CycleOfRun) -> Iterator[Explanation]:
    unsettled: set[str] = set()
    for key, verdict, depends_on in _verdicts(cycle):
        waits_for = [earlier for earlier in depends_on if earlier in unsettled]
        if verdict.newest_status is StepStatus.ACTIVE:
            foresight, reason = Foresight.DEPENDS, f"run {verdict.newest_num} is at work, or its worker was lost"
        elif not verdict.skip:
            foresight, reason = Foresight.RUN, verdict.reason
        elif waits_for:
            foresight = Foresight.DEPENDS
            reason = f"it runs if {' or '.join(waits_for)} ends with other content than before"
        else:
            foresight, reason = Foresight.SKIP, verdict.reason
        if foresight is not Foresight.SKIP:
            unsettled.add(key)
        yield Explanation(key, foresight, reason)


def _verdicts(cycle: CycleOfRun) -> Iterator[tuple[str, Verdict, Sequence[str]]]:
    """Judge the steps in order, with the notebooks of each stage after its steps.

    Yields:
        The key of the step, the verdict, and the keys of the steps that it depends on.
    """
    for stage, steps in groupby(STEPS.values(), lambda key: key.partition(".")[0]):
        for key in steps:
            yield key, SPECS[key].verdict(cycle), [*_depends_on(SPECS[key])]
        if stage in OF_NOTEBOOKS:
            for notebook in notebooks_of_cycle(cycle.id, stage):
                depends_on = [_READS_WORKBOOK, *notebook.after, *notebook.outputs.values()]
                yield notebook.step_key, _verdict_on_notebook(notebook, cycle), depends_on


def _verdict_on_notebook(notebook: NotebookStep, cycle: CycleOfRun) -> Verdict:
    inputs = notebook.inputs(cycle.id)
    step_id = find_step(cycle.id, notebook.step_key)
    found = None if step_id is None else decide(step_id, fingerprint_of(inputs), inputs)
    return found or Verdict.never_ran(cycle.name)


def _depends_on(spec: Spec) -> Iterator[str]:
    if spec.workbook:
        yield _READS_WORKBOOK
    yield from spec.after
