"""The parameters of a notebook: what papermill sets at its beginning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from irp_pipeline.columns.variables import variable_problem
from irp_pipeline.helpers.notebooks.errors import NotebookStepError
from irp_pipeline.postgres.parameters import json_value


def checked_parameters(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of a notebook as plain data.

    Raises:
        NotebookStepError: a name cannot be that of a variable, is one that the pipeline sets, or a value has no JSON
            form.
    """
    for name in parameters:
        if problem := variable_problem(name):
            raise NotebookStepError(problem[0].upper() + problem[1:])
    return {name: _plain(name, value) for name, value in parameters.items()}


def _plain(name: str, value: Any) -> Any:
    try:
        return json_value(value)
    except (TypeError, RecursionError) as error:
        raise NotebookStepError(f"The parameter {name!r} cannot be given to a notebook: {error}") from None
