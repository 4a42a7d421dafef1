"""The configuration workbook: the xlsx file that says what a cycle analyses.

Here: everything about the file itself: its sheets and columns, reading and checking it, writing an empty one. No
database and no Dagster; :mod:`irp_pipeline.helpers.configuration` keeps configurations in ``irp_configuration``.

``sheets``, ``analyses``
    the one table of columns: each field of a row has a :class:`Column`, which determines header, note, drop-down,
    parsing, checks and documentation. To add a column, only add a field there. The sheet Analyses also has the columns
    that the risk engines declare.
``choices``, ``values``
    the words that cells may contain, and checks of one value. :mod:`irp_pipeline.columns` defines columns.
``content``
    all sheets together, as a cycle uses them.
``fields``
    checks of the fields of one row, wherever they come from: also for an override of a job's parameters.
``notes``
    requests of a valid workbook that have no effect.
``rules``, ``sources``, ``parameters``
    rules between rows and sheets; which files, tables and models cells may name; the parameters of queries.
``xlsx``, ``reading``, ``writing``
    from an untrusted file to its filled cells, from cells to a :class:`Workbook`, and back.
"""

from irp_pipeline.columns import Column, Kind, Problem, WorkbookError
from irp_pipeline.columns.paths import options_problem, resolve_model, resolve_path
from irp_pipeline.engines.columns import USUAL_RETURN_PERIODS
from irp_pipeline.vocabulary import Perspective
from irp_pipeline.workbook.analyses import Analysis
from irp_pipeline.workbook.choices import Engine, NotebookStage, PeriodPairing, PortfolioSource
from irp_pipeline.workbook.content import Workbook, example_workbook
from irp_pipeline.workbook.fields import check_fields, check_override
from irp_pipeline.workbook.notes import workbook_notes
from irp_pipeline.workbook.parameters import parameters_in, parameters_of, query_of
from irp_pipeline.workbook.reading import read_workbook
from irp_pipeline.workbook.sheets import SHEETS, Grouping, Metadata, Notebook, Portfolio, SheetSpec
from irp_pipeline.workbook.sources import is_query
from irp_pipeline.workbook.writing import write_template, write_workbook
from irp_pipeline.workbook.xlsx import workbook_hash

__all__ = [
    "SHEETS",
    "USUAL_RETURN_PERIODS",
    "Analysis",
    "Column",
    "Engine",
    "Grouping",
    "Kind",
    "Metadata",
    "Notebook",
    "NotebookStage",
    "PeriodPairing",
    "Perspective",
    "Portfolio",
    "PortfolioSource",
    "Problem",
    "SheetSpec",
    "Workbook",
    "WorkbookError",
    "check_fields",
    "check_override",
    "example_workbook",
    "is_query",
    "options_problem",
    "parameters_in",
    "parameters_of",
    "query_of",
    "read_workbook",
    "resolve_model",
    "resolve_path",
    "workbook_hash",
    "workbook_notes",
    "write_template",
    "write_workbook",
]
