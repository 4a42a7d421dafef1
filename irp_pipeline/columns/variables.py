"""Names that become variables of a notebook."""

import keyword
from typing import Final

RESERVED: Final = ("cycle_name", "schema", "configuration", "outputs_of")
"""The variables that the pipeline sets in every notebook; the last only in one that comes after others."""


def variable_problem(name: str) -> str | None:
    """Say why a parameter of a notebook cannot have this name; None if it can.

    papermill writes the names into a cell as they are, so a name must be nothing but a name.
    """
    if not name.isidentifier() or keyword.iskeyword(name):
        return f"{name!r} cannot be the name of a parameter, since it becomes a variable of the notebook"
    if name in RESERVED:
        return f"the parameter {name!r} is set by the pipeline; choose another name"
    return None
