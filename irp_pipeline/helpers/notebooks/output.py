"""The output data of a notebook: what it gives back to its step.

A call of :func:`irp_output` in a notebook shows the values below the cell, in a type of their own. Whoever executed the
notebook reads them from there. It is what scrapbook does: https://nteract-scrapbook.readthedocs.io
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from irp_pipeline.errors import IrpError
from irp_pipeline.postgres.parameters import json_value
from irp_pipeline.storable import as_stored

MIME_TYPE: Final = "application/vnd.irp.output+json"

_listeners: list[Callable[[Mapping[str, Any]], None]] = []


class NotebookOutputError(IrpError):
    """A value cannot be output data of a notebook."""


def irp_output(*named: Any, **values: Any) -> None:
    """Record output data of the notebook: figures, texts, lists and dicts, which are kept with the run of its step.

    In a notebook that is a step, executed by the pipeline or between ``begin_step`` and ``end_step``, the values become
    the output data of the run. A second value of the same name replaces the first. Anywhere else they are only shown.

    Args:
        named: a name and a value, for names that are not those of Python: ``irp_output("AAL (EUR)", 1.2e6)``.
        values: values by name: ``irp_output(tvar=4.1e6, years=10_000)``. Numbers of numpy and dates are fine.

    Raises:
        NotebookOutputError: a value has no JSON form, such as a table; or a name is not text.
    """
    if named and (len(named) != 2 or not isinstance(named[0], str)):
        raise NotebookOutputError('Say irp_output(name=value), or irp_output("a name", value)')
    given = ({named[0]: named[1]} if named else {}) | values
    plain = {_checked_name(name): _plain(name, value) for name, value in given.items()}
    for listener in _listeners:
        listener(plain)
    _show(plain)


def outputs_in(cells: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the output data that the cells of an executed notebook show; later ones replace earlier ones."""
    found: dict[str, Any] = {}
    for cell in cells:
        for output in cell.get("outputs") or ():
            data = (output.get("data") or {}).get(MIME_TYPE)
            if isinstance(data, Mapping):
                found.update(data)
    return found


def listen(listener: Callable[[Mapping[str, Any]], None]) -> None:
    """Have a function called with the output data of each call of :func:`irp_output` in this process."""
    _listeners.append(listener)


def stop_listening(listener: Callable[[Mapping[str, Any]], None]) -> None:
    """Undo :func:`listen`."""
    _listeners.remove(listener)


def _checked_name(name: str) -> str:
    if not name.strip() or name != as_stored(name):
        raise NotebookOutputError(f"{name!r} cannot be the name of output data: it must be text that can be stored")
    return name


def _plain(name: str, value: Any) -> Any:
    try:
        return json_value(value)
    except (TypeError, RecursionError) as error:
        raise NotebookOutputError(
            f"The output {name!r} cannot be recorded: {error}. Output data are numbers, texts, lists and dicts; turn a "
            "table into one with to_dict(), or write it into a file"
        ) from None


def _show(values: Mapping[str, Any]) -> None:
    if "IPython" not in sys.modules:  # a script
        return
    from IPython.core.getipython import get_ipython
    from IPython.display import publish_display_data

    if get_ipython() is None:
        return
    lines = "\n".join(f"{name}: {value}" for name, value in values.items())
    publish_display_data({MIME_TYPE: dict(values), "text/plain": lines})  # type: ignore[no-untyped-call]
