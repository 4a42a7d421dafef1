"""The same portfolio under other location numbers, so that a model that draws by them draws anew.

Oasis LMF draws the damage of a location by a hash of its portfolio, account and location number, and has no seed. Other
numbers are other draws, and change nothing else: the locations stay in their order, and the scope of reinsurance names
them by their new numbers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from irp_pipeline.exposure import ExposureError
from irp_pipeline.exposure.oed import OedTable
from irp_pipeline.exposure.tables import Tables, read_table, write_table

LOCATION_NUMBER: Final = "LocNumber"


def with_other_draws(tables: Tables, number: int, folder: Path) -> dict[OedTable, Path]:
    """Write a portfolio under other location numbers.

    Args:
        tables: the portfolio.
        number: of the draws: another number is other draws, the same one the same.
        folder: where changed tables are written.

    Returns:
        The files of all tables; those without location numbers are the portfolio's own.

    Raises:
        ExposureError: the location table has no location numbers, or a table cannot be read.
        OSError: a file cannot be written.
    """
    found = dict(tables)
    for table in (OedTable.LOCATION, OedTable.RI_SCOPE):
        frame = read_table(tables, table)
        if LOCATION_NUMBER in frame.columns:
            numbers = frame[LOCATION_NUMBER]
            frame[LOCATION_NUMBER] = numbers.where(numbers == "", numbers + f"-d{number}")
            found[table] = write_table(frame, folder, table)
        elif table is OedTable.LOCATION:
            raise ExposureError(f"the location table has no {LOCATION_NUMBER}")
    return {table: found[table] for table in OedTable if table in found}
