"""The configuration workbook: the xlsx file that says what a cycle analyses.

Here belongs all that is known about the file itself: its sheets and columns, reading and checking it, writing an
empty one. No database and no Dagster; keeping a configuration in ``irp_configuration`` is the task of
:mod:`irp_pipeline.helpers.configuration`.

``sheets``, ``analyses``
    the one table of columns: each field of a row carries a :class:`Column`, from which header, note, drop-down,
    parsing, checks and the documentation follow. A new column is a new field there, and nothing else. The sheet
    Analyses has those that the risk engines declare, too.
``choices``, ``values``
    the words that cells may choose from, and checks of one value. What a column is, :mod:`irp_pipeline.columns` says.
``content``
    the sheets together, as a cycle uses them.
``fields``
    the fields of one row checked, whatever way they come by: also an override of a job's parameters.
``notes``
    what a valid workbook asks for and will not get.
``rules``, ``sources``
    what must hold between rows and sheets; which files, tables and models cells may name.
``xlsx``, ``reading``, ``writing``
    from a file that nobody vouches for to its filled cells, from cells to a :class:`Workbook`, and back.
"""

from irp_pipeline.columns import Column, Kind, Problem, WorkbookError
from irp_pipeline.columns.paths import options_problem, resolve_model, resolve_path
from irp_pipeline.engines.columns import USUAL_RETURN_PERIODS
from irp_pipeline.vocabulary import Perspective
from irp_pipeline.workbook.analyses import Analysis
from irp_pipeline.workbook.choices import Engine, PeriodPairing, PortfolioSource
from irp_pipeline.workbook.content import Workbook, example_workbook
from irp_pipeline.workbook.fields import check_fields, check_override
from irp_pipeline.workbook.notes import workbook_notes
from irp_pipeline.workbook.reading import read_workbook
from irp_pipeline.workbook.sheets import SHEETS, Grouping, Metadata, Portfolio, SheetSpec
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
    "read_workbook",
    "resolve_model",
    "resolve_path",
    "workbook_hash",
    "workbook_notes",
    "write_template",
    "write_workbook",
]
