"""The files of a portfolio as a model reads them: a CSV file for each OED table, and the hash of all files."""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from irp_pipeline.exposure.oed import OedTable
from irp_pipeline.files import appearing_when_whole
from irp_pipeline.hashes import file_sha256


def portfolio_file(folder: Path, table: OedTable) -> Path:
    """Return where a table of a portfolio is, or would be."""
    return folder / f"{table}.csv"


def portfolio_files(folder: Path) -> dict[OedTable, Path]:
    """Return the files of the tables that a portfolio has, in the order of :class:`OedTable`."""
    files = {table: portfolio_file(folder, table) for table in OedTable}
    return {table: file for table, file in files.items() if file.is_file()}


def write_portfolio_file(extract: Path, target: Path) -> int:
    """Write an extract as a CSV file for models, in bounded memory.

    Args:
        extract: the Parquet file that :func:`irp_pipeline.exposure.extract.extract` wrote.
        target: the file to write; it appears when it is complete.

    Returns:
        How many records it has.

    Raises:
        OSError: a file cannot be read or written.
    """
    import pyarrow.csv as pc
    import pyarrow.parquet as pq

    records = 0
    with (
        pq.ParquetFile(extract) as source,
        appearing_when_whole(target) as partial,
        pc.CSVWriter(partial, source.schema_arrow) as writer,
    ):
        for batch in source.iter_batches():
            writer.write_batch(batch)
            records += batch.num_rows
    return records


def file_hashes(files: Iterable[Path]) -> dict[str, str]:
    """Return the SHA-256 of each file of a portfolio, in hexadecimal, by the name of its table.

    Raises:
        OSError: a file cannot be read.
    """
    return {file.stem: file_sha256(file) for file in files}


def exposure_hash(hashes: Mapping[str, str]) -> str:
    """Return a hash of everything in a portfolio.

    Args:
        hashes: the SHA-256 of each of its files, in hexadecimal, by the name of the table.

    Returns:
        SHA-256, in hexadecimal, over the SHA-256 digests of the files in the order location, account, ri_info,
        ri_scope.
    """
    digest = hashlib.sha256()
    for table in OedTable:
        if table.value in hashes:
            digest.update(bytes.fromhex(hashes[table.value]))
    return digest.hexdigest()


def folder_hash(folder: Path) -> str:
    """Return the :func:`exposure_hash` of the files in a portfolio's folder.

    Raises:
        OSError: a file cannot be read.
    """
    return exposure_hash(file_hashes(portfolio_files(folder).values()))
