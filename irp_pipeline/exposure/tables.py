"""The OED tables of a portfolio as frames of text: reading them, and writing changed ones."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from irp_pipeline.exposure import ExposureError
from irp_pipeline.exposure.oed import OedTable, oed_columns
from irp_pipeline.exposure.portfolio import portfolio_file
from irp_pipeline.files import appearing_when_whole

if TYPE_CHECKING:
    import pandas as pd

Tables = Mapping[OedTable, Path]
"""The CSV file of each table that a portfolio has."""


def read_table(tables: Tables, table: OedTable) -> pd.DataFrame:
    """Read a table as text, with the columns as OED spells them; without rows if the portfolio does not have it.

    Raises:
        ExposureError: the portfolio has no location table, or the table cannot be read.
    """
    import pandas as pd

    path = tables.get(table)
    if path is None:
        if table is OedTable.LOCATION:
            raise ExposureError("the portfolio has no location table")
        return pd.DataFrame()
    try:
        frame = pd.read_csv(path, dtype=str, keep_default_na=False, na_filter=False, encoding="utf-8")
    except (ValueError, OSError) as error:
        raise ExposureError(f"{path}: {error}") from error
    return frame.set_axis([column.name for column in oed_columns(table, frame.columns, str(path))], axis="columns")


def write_table(frame: pd.DataFrame, folder: Path, table: OedTable) -> Path:
    """Write a table of text into the folder of a portfolio, and return its file.

    Raises:
        OSError: the file cannot be written.
    """
    path = portfolio_file(folder, table)
    with appearing_when_whole(path) as partial:
        frame.to_csv(partial, index=False, lineterminator="\n")
    return path
