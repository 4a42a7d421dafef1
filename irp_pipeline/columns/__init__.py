"""Columns of a sheet: their declaration, the content of their cells, and what can be wrong in them.

The workbook uses this package to declare its sheets, and risk engines use it to declare columns of the sheet Analyses.
It therefore lies below both. No sheet, no engine and no file format here.

``column``, ``kinds``
    a :class:`Column`, and the kinds of content of its cells.
``rows``
    the rules that every row derives from its columns.
``values``
    checks of one value that columns of several sheets and engines use.
``paths``
    what cells may name: files and folders in the data folder or the models folder.
``problems``
    what can be wrong with a workbook, and the messages.
"""

from irp_pipeline.columns.column import Column
from irp_pipeline.columns.kinds import (
    DATE,
    FIELDS,
    JSON,
    NAMES,
    NUMBER,
    NUMBERS,
    TEXT,
    WHOLE_NUMBER,
    WHOLE_NUMBERS,
    YES_NO,
    Kind,
    one_of,
    several_of,
)
from irp_pipeline.columns.paths import Folders, path_problem
from irp_pipeline.columns.problems import Problem, WorkbookError, quoted, suggestion
from irp_pipeline.columns.rows import Row
from irp_pipeline.columns.values import Name, Text, ascending, no_repeats, not_empty

__all__ = [
    "DATE",
    "FIELDS",
    "JSON",
    "NAMES",
    "NUMBER",
    "NUMBERS",
    "TEXT",
    "WHOLE_NUMBER",
    "WHOLE_NUMBERS",
    "YES_NO",
    "Column",
    "Folders",
    "Kind",
    "Name",
    "Problem",
    "Row",
    "Text",
    "WorkbookError",
    "ascending",
    "no_repeats",
    "not_empty",
    "one_of",
    "path_problem",
    "quoted",
    "several_of",
    "suggestion",
]
