"""What a valid workbook asks for and will not get: no mistake, but nobody should learn it from a report."""

from collections.abc import Iterator
from pathlib import Path

from irp_pipeline.engines.oasis.notes import notes
from irp_pipeline.workbook.choices import Engine
from irp_pipeline.workbook.content import Workbook
from irp_pipeline.workbook.problems import Problem, WorkbookError, one_line, quoted
from irp_pipeline.workbook.sheets import ANALYSES
from irp_pipeline.workbook.sources import resolve_model


def workbook_notes(workbook: Workbook, data_dir: Path, models_dir: Path | None = None) -> Iterator[Problem]:
    """Tell which parts of the analyses have no effect.

    Args:
        workbook: the workbook.
        data_dir: the data folder.
        models_dir: the models folder, if there is one.

    Returns:
        For each, the analysis and the column. A model that is not there tells nothing: that is an error elsewhere.
    """
    for analysis in workbook.analyses:
        if analysis.engine is not Engine.STOCHASTIC or analysis.model is None:
            continue
        try:
            model = resolve_model(analysis.model, data_dir, models_dir)
            settings = resolve_model(analysis.settings, data_dir, models_dir) if analysis.settings else None
        except WorkbookError:
            continue
        for column, message in notes(analysis.model_dump(mode="json"), model, settings):
            yield Problem(ANALYSES.name, None, column, one_line(f"analysis {quoted(analysis.name)}: {message}"))
