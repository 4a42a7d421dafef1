"""Checks of single values in the sheets Metadata and Portfolios.

Here: the checks that annotations of fields in :mod:`irp_pipeline.workbook.sheets` name. They raise ValueError with a
message for the user. Not here: checks that columns of engines also use (:mod:`irp_pipeline.columns.values`), reading
the text of a cell (:mod:`irp_pipeline.columns.kinds`), and the rules between cells
(:mod:`irp_pipeline.columns.rows`, :mod:`irp_pipeline.workbook.rules`).
"""

import codecs
import datetime as dt
import json
import re
from typing import Any

from irp_pipeline.columns.paths import path_problem
from irp_pipeline.columns.problems import quoted, suggestion
from irp_pipeline.columns.variables import variable_problem
from irp_pipeline.exposure.currencies import CURRENCIES

_USUAL_ENCODINGS = ("utf-8", "utf-16", "cp1252", "cp1250", "latin-1", "mac_roman")
_FIRST_DATE, _LAST_DATE = dt.date(1950, 1, 1), dt.date(2199, 12, 31)


def part_of_variable(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,49}", name):
        raise ValueError(  # without the text, which may be an address with a password
            "is not a short name of up to 50 letters, digits and '_'; the address belongs into the environment"
        )
    return name.upper()


def checked_encoding(name: str) -> str:
    try:
        "".encode(codecs.lookup(name).name)  # fails for what Python also calls an encoding, such as base64
    except (LookupError, ValueError):
        raise ValueError(f"{quoted(name)} is not an encoding{suggestion(name, _USUAL_ENCODINGS)}") from None
    return name.lower()


def checked_currency(code: str) -> str:
    code = code.upper()
    if code not in CURRENCIES:
        raise ValueError(f"{quoted(code)} is not an ISO 4217 currency code{suggestion(code, CURRENCIES)}")
    return code


def checked_exposure_date(value: dt.date) -> dt.date:
    if not _FIRST_DATE <= value <= _LAST_DATE:
        raise ValueError(f"{value} must be between {_FIRST_DATE} and {_LAST_DATE}")
    return value


def checked_largest_change(value: float) -> float:
    if not 0 < value <= 100:
        raise ValueError(f"{value:g} must be above 0 and at most 100; 25 % is 0.25")
    return value


def checked_share(value: float) -> float:
    if not 0 <= value <= 1:
        raise ValueError(f"{value:g} must be at least 0 and at most 1; 90 % is 0.9")
    return value


def checked_notebook(path: str) -> str:
    if problem := path_problem(path):
        raise ValueError(problem)
    if not path.endswith(".ipynb"):
        raise ValueError(f"{quoted(path)} is not the name of a notebook, which ends in .ipynb")
    return path


def checked_notebook_parameters(parameters: dict[str, Any]) -> dict[str, Any]:
    for name in parameters:
        if problem := variable_problem(name):
            raise ValueError(problem)
    try:
        json.dumps(parameters, allow_nan=False)
    except ValueError:
        raise ValueError("holds a number that is too large") from None
    return parameters


def checked_minutes(minutes: float) -> float:
    if not 0 < minutes <= 10_080:
        raise ValueError(f"{minutes:g} must be above 0 and at most 10,080, which is a week")
    return minutes
