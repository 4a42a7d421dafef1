"""Requests of a valid workbook that have no effect: not mistakes, but nobody should first learn it from a report."""

from collections.abc import Iterator
from pathlib import Path

from irp_pipeline.columns import Folders, Problem, quoted
from irp_pipeline.columns.problems import one_line
from irp_pipeline.engines import declared
from irp_pipeline.workbook.content import Workbook
from irp_pipeline.workbook.parameters import unused_parameters
from irp_pipeline.workbook.sheets import ANALYSES, PORTFOLIOS


def workbook_notes(workbook: Workbook, data_dir: Path, models_dir: Path | None = None) -> Iterator[Problem]:
    """Say which parts of the portfolios and the analyses have no effect.

    Args:
        workbook: the workbook.
        data_dir: the data folder.
        models_dir: the models folder, if there is one.

    Returns:
        A problem for each, with portfolio or analysis, and column. A missing model gives none: that is an error
        elsewhere.
    """
    folders = Folders(data_dir, models_dir)
    for portfolio in workbook.portfolios:
        for name in unused_parameters(dict(portfolio), data_dir):
            message = f"portfolio {quoted(portfolio.name)}: no query uses the parameter {quoted(name)}"
            yield Problem(PORTFOLIOS.name, None, "parameters", one_line(message))
    for analysis in workbook.analyses:
        fields = analysis.model_dump(mode="json")
        declaration = declared(fields)
        for column, message in () if declaration is None else declaration.notes(fields, folders):
            yield Problem(ANALYSES.name, None, column, one_line(f"analysis {quoted(analysis.name)}: {message}"))
