"""A made-up portfolio, its workbook and its catastrophe model, to try out a cycle. Synthetic: nothing is real.

Everything comes from fixed seeds, so the same version of this package always writes the same files. Importing it loads
neither numpy nor Oasis LMF.
"""

from pathlib import Path

from irp_pipeline.demo.portfolio import LOCATIONS, LOCATIONS_OF, sample_tables, write_portfolios
from irp_pipeline.demo.windstorm import MODEL, write_model

__all__ = ["LOCATIONS", "LOCATIONS_OF", "MODEL", "sample_tables", "write_model", "write_sample"]


def write_sample(folder: Path) -> Path:
    """Write the sample portfolios and their workbook into a cycle's folder, and the model into the models folder.

    Args:
        folder: the cycle's folder; existing files are replaced.

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
    write_model(settings.models_folder() / MODEL)
    return write_portfolios(folder)
