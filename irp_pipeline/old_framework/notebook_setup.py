"""The old module ``helpers.notebook_setup``: what the first cell of a notebook calls."""

from __future__ import annotations

from pathlib import Path

from irp_pipeline.old_framework import replaced_by
from irp_pipeline.old_framework.context import WorkContext
from irp_pipeline.old_framework.step import Step


@replaced_by("track_step of irp_pipeline.helpers.step")
def initialize_notebook_context(notebook_name: str | Path) -> tuple[WorkContext, Step]:
    """Return the context of a notebook, and its step, which is not started yet.

    Args:
        notebook_name: the notebook, relative to the folder that it runs in, or with its path.

    Raises:
        ContextError, CycleError: as for :class:`irp_pipeline.old_framework.context.WorkContext`.
    """
    context = WorkContext(Path.cwd() / notebook_name)
    return context, Step(context)
