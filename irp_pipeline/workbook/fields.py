"""Checks of the fields of one row, wherever they come from: a workbook, or an override of a job's parameters.

There is one model for all sources: :mod:`irp_pipeline.workbook.sheets` says which values a field takes, and its column
says how they are read. The messages are the same everywhere.
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from irp_pipeline import engines
from irp_pipeline.columns import Folders, Problem, Row, WorkbookError, quoted, suggestion
from irp_pipeline.columns.problems import one_line
from irp_pipeline.workbook.analyses import ENGINE_NAMES, Analysis
from irp_pipeline.workbook.rules import missing_tables
from irp_pipeline.workbook.sheets import Portfolio

EMPTY: Final = "is empty, but must be filled"
_OF_THE_WORKBOOK: Final = ("name", "portfolio", "currency", "base")
"""Parameters of a job that identify its analysis: another value would mean another analysis."""


def check_fields(
    row: type[Row], typed: Mapping[str, Any], broken: Collection[str] = ()
) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """Check the fields of one row.

    Args:
        row: the type of the row.
        typed: the fields that are filled.
        broken: fields that could not be read, which is already reported.

    Returns:
        The valid fields, and the mistakes as field and message.
    """
    fields = row.with_defaults(typed)
    faults: list[tuple[str, str]] = []
    wrong = set(broken)
    try:
        checked = dict(row.model_validate(fields))
    except ValidationError as error:
        for fault in error.errors(include_url=False):
            if fault["loc"]:
                name = str(fault["loc"][0])
                if name not in broken:
                    faults.append((name, _message(fault, row)))
                wrong.add(name)
        defaults = {
            name: info.get_default(call_default_factory=True)
            for name, info in row.model_fields.items()
            if not info.is_required()
        }
        checked = defaults | fields
    usable = {name: value for name, value in checked.items() if name not in wrong}
    faults += row.broken_rules(usable)
    return usable, faults


def check_override(
    parameters: Mapping[str, Any],
    changes: Mapping[str, Any],
    *,
    portfolio: Portfolio | None = None,
    data_dir: Path | None = None,
    models_dir: Path | None = None,
) -> dict[str, Any]:
    """Replace parameters of an analysis, under the rules of the workbook.

    Args:
        parameters: those of the job: a row of the sheet Analyses, and the currency of its losses.
        changes: the parameters to replace. Values as in the workbook: ``"0.1; 0.5"`` and ``[0.1, 0.5]`` are the same;
            None or an empty text empties the cell.
        portfolio: the portfolio of the analysis; None: do not check that it has the tables for the losses.
        data_dir: the data folder; None: do not check that models and settings exist.
        models_dir: the models folder, if there is one.

    Returns:
        All parameters, as plain JSON values.

    Raises:
        WorkbookError: a name is unknown or cannot be changed, or a value breaks a rule; ``problems`` lists all of them.
    """
    columns = Analysis.columns()
    has_rules = not {changes.get("engine"), parameters.get("engine")}.isdisjoint(
        ENGINE_NAMES
    )  # a workbook has no columns for an engine that it does not know
    unknown = [str(name) for name in changes if name not in columns and name not in _OF_THE_WORKBOOK]
    faults = [(name, _unknown(name, [*columns])) for name in unknown if has_rules]
    for name in _OF_THE_WORKBOOK:
        if name in changes and changes[name] != parameters.get(name):
            what = quoted(parameters.get(name))
            faults.append((name, f"cannot be changed for a job: it is {what} in the workbook; change that instead"))
    if not has_rules:
        _refuse(faults)
        return {**parameters, **changes}
    known = {name: value for name, value in parameters.items() if name in columns}
    changed = {name: value for name, value in changes.items() if name in columns and name not in _OF_THE_WORKBOOK}
    usable, found = check_fields(Analysis, {**known, **changed})
    faults += found
    if portfolio is not None:
        faults += missing_tables(usable, dict(portfolio))
    faults += engines.checks(usable, None if data_dir is None else Folders(data_dir, models_dir))
    _refuse(faults)
    others = {name: value for name, value in parameters.items() if name not in columns}
    return {**others, **Analysis.model_validate(usable).model_dump(mode="json")}


def _refuse(faults: list[tuple[str, str]]) -> None:
    if faults:
        raise WorkbookError([Problem(None, None, one_line(name), one_line(message)) for name, message in faults])


def _unknown(name: str, options: list[str]) -> str:
    return f"there is no parameter {quoted(name)}{suggestion(name, options)}"


def _message(fault: ErrorDetails, row: type[Row]) -> str:
    if fault["type"] == "missing":
        return EMPTY
    if fault["type"] == "extra_forbidden":
        return _unknown(str(fault["loc"][0]), [*row.columns()])
    if fault["type"] == "value_error":
        return str(fault["ctx"]["error"])
    return f"{fault['msg'][0].lower()}{fault['msg'][1:]}"
