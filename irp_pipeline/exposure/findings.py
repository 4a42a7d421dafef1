"""What a check of an exposure finds, and the loaded exposure that the checks look at."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from irp_pipeline.exposure.conversion import conform, schema_of
from irp_pipeline.exposure.oed import OedTable
from irp_pipeline.exposure.sources import FileSource, open_source

if TYPE_CHECKING:
    import pandas as pd


class Severity(StrEnum):
    """An error stops a model run or falsifies its result; a warning is for a person to look at."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong; ``str()`` is a line for a report.

    Attributes:
        file: name of the file.
        row: as a spreadsheet shows it: the first record is row 2. None if it is not about a single row.
        column: as OED spells it. None if it is not about a single column.
        message: what is wrong, and what to do.
        severity: how bad it is.
        record: which portfolio, account and location (or policy, or reinsurance) it is in, if about a row.
    """

    file: str
    row: int | None
    column: str | None
    message: str
    severity: Severity = Severity.ERROR
    record: str = ""

    def __str__(self) -> str:
        """Write the finding as one line."""
        row = f", row {self.row}" if self.row is not None else ""
        record = f" ({self.record})" if self.record else ""
        column = f", {self.column}" if self.column else ""
        return f"{self.severity.value}: {self.file}{row}{record}{column}: {self.message}"


class LoadedExposure:
    """The tables, loaded, and how to word a fault in them."""

    def __init__(self, files: Mapping[OedTable, Path], rows_per_fault: int) -> None:
        self.paths = {table: files[table] for table in OedTable if table in files}
        self.frames = {table: _load(path, table) for table, path in self.paths.items()}
        self._rows_per_fault = rows_per_fault

    def has(self, table: OedTable, *columns: str) -> bool:
        """Whether there is such a table, with all these columns."""
        return table in self.frames and set(columns) <= set(self.frames[table].columns)

    def of_file(
        self, table: OedTable, column: str | None, message: str, severity: Severity = Severity.ERROR
    ) -> Finding:
        """A finding that is not about a row."""
        path = self.paths.get(table)
        return Finding(path.name if path else f"{table.value} file", None, column, message, severity)

    def of_rows(
        self,
        table: OedTable,
        column: str,
        rows: "Sequence[int] | pd.Series[bool]",
        message: str | Callable[[Any], str],
        severity: Severity = Severity.ERROR,
    ) -> Iterator[Finding]:
        """A finding for each row (positions from 0, or a mask); a message may be made from the row's value."""
        import numpy as np
        import pandas as pd

        positions = np.flatnonzero(rows).tolist() if isinstance(rows, pd.Series) else rows
        file = self.paths[table].name
        frame = self.frames[table]
        for position in positions[: self._rows_per_fault]:
            value = frame[column].iat[position] if column in frame.columns else None
            text = message if isinstance(message, str) else message(value)
            yield Finding(file, position + 2, column, text, severity, _record(frame, table, position))
        more = len(positions) - self._rows_per_fault
        if more > 0:
            yield Finding(file, None, column, f"the same in {more:,} more row{'s' if more > 1 else ''}", severity)


# What names a record to a person, per table.
_IDENTIFIERS = {
    OedTable.LOCATION: {"PortNumber": "portfolio", "AccNumber": "account", "LocNumber": "location"},
    OedTable.ACCOUNT: {"PortNumber": "portfolio", "AccNumber": "account", "PolNumber": "policy"},
    OedTable.RI_INFO: {"ReinsNumber": "reinsurance"},
    OedTable.RI_SCOPE: {"ReinsNumber": "reinsurance", "PortNumber": "portfolio", "AccNumber": "account"},
}


def _record(frame: "pd.DataFrame", table: OedTable, position: int) -> str:
    import pandas as pd

    values: dict[str, Any] = {
        word: frame[column].iat[position] for column, word in _IDENTIFIERS[table].items() if column in frame.columns
    }
    return ", ".join(f"{word} {value}" for word, value in values.items() if not (pd.isna(value) or value == ""))


def blank(column: "pd.Series[Any]") -> "pd.Series[bool]":
    """Which values are missing or empty text."""
    return column.isna() | (column == "")


def _load(path: Path, table: OedTable) -> "pd.DataFrame":
    import pandas as pd
    import pyarrow as pa

    batches, record = [], 0
    with open_source(FileSource(path), table) as reader:
        schema = schema_of(reader.columns)
        for batch in reader.batches():
            batches.append(conform(batch, reader.columns, record, reader.locate))
            record += batch.num_rows
    integers = {
        pa.int32(): pd.Int32Dtype(),
        pa.int64(): pd.Int64Dtype(),
    }  # which may be missing without becoming floats
    rows = pa.Table.from_batches(batches, schema)
    frame: pd.DataFrame = rows.to_pandas(strings_to_categorical=True, types_mapper=integers.get)
    return frame
