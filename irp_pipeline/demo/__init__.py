"""Two quarters of a made-up portfolio, with workbook and catastrophe model, to try out cycles. Nothing is real.

Everything comes from fixed seeds, so the same version of this package always writes the same files. Importing it loads
neither numpy nor Oasis LMF.
"""

from pathlib import Path

from irp_pipeline.demo.portfolio import GROUP, LOCATIONS, LOCATIONS_OF, Quarter, sample_tables, write_portfolios
from irp_pipeline.demo.windstorm import MODEL, write_model

__all__ = ["GROUP", "LOCATIONS", "LOCATIONS_OF", "MODEL", "Quarter", "sample_tables", "write_model", "write_sample"]


def write_sample(folder: Path, quarter: Quarter = Quarter.FIRST) -> Path:
    """Write the sample portfolios and their workbook into a cycle's folder, and the model into the models folder.

    Args:
        folder: the cycle's folder; existing files are replaced.
        quarter: which of the two. The second has another release of the model, in a folder beside that of the first.

    Returns:
        The workbook.

    Raises:
        WorkbookError: the workbook cannot be written.
        ModelFolderError: the models folder has something else with this model's name.
        SettingsError: the folder of this installation cannot be made.
        OSError: a folder cannot be written to.
    """
    from irp_pipeline import settings

    settings.make_irp_home()
    write_model(settings.models_folder() / quarter.release.folder, quarter.release)
    return write_portfolios(folder, quarter)
