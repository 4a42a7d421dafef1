"""The files of a portfolio as a model reads them: OED tables as CSV, one file each, and the hash of them all."""

import hashlib
from pathlib import Path

from irp_pipeline.exposure.oed import OedTable


def portfolio_folder(cycle_folder: Path, portfolio: str) -> Path:
    """Return the folder of a portfolio within that of its cycle."""
    return cycle_folder / "portfolios" / portfolio


def portfolio_file(folder: Path, table: OedTable) -> Path:
    """Return where a table of a portfolio is, or would be."""
    return folder / f"{table}.csv"


def portfolio_files(folder: Path) -> dict[OedTable, Path]:
    """Return the files of those tables that a portfolio has, in the order of :class:`OedTable`."""
    files = {table: portfolio_file(folder, table) for table in OedTable}
    return {table: file for table, file in files.items() if file.is_file()}


def exposure_hash(folder: Path) -> str:
    """Return a hash of all that a portfolio holds.

    Args:
        folder: the portfolio's folder.

    Returns:
        SHA-256, in hexadecimal, over the SHA-256 digests of its files in the order location, account, ri_info,
        ri_scope.

    Raises:
        OSError: a file cannot be read.
    """
    digest = hashlib.sha256()
    for path in portfolio_files(folder).values():
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
