"""The findings of the checks, and the loaded exposure that the checks look at."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from irp_pipeline.exposure.oed import OedTable
from irp_pipeline.exposure.places import Places
from irp_pipeline.exposure.readers.conversion import conform, schema_of
from irp_pipeline.exposure.readers.opening import open_source
from irp_pipeline.exposure.readers.sources import FileSource
from irp_pipeline.exposure.validation.checks import Check, Severity
from irp_pipeline.vocabulary import Perspective

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Finding", "LoadedExposure", "Severity", "blank"]


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong; ``str()`` is a line for a report.

    Attributes:
        file: the user's name for the file or the query.
        row: the line of the file, or the number of the record, as ``unit`` says. None if it is not about a single row.
        column: its OED name. None if the finding is not about a single column.
        message: what is wrong, what follows from it, and what to do.
        severity: how bad it is.
        record: its portfolio, account and location (or policy, or reinsurance), if the finding is about a row.
        check: the name of the check, one of :data:`irp_pipeline.exposure.validation.checks.CHECKS`.
        table: the OED table.
        value: the content of the cell; None if it is empty, or if the finding is not about a single cell.
        unit: what ``row`` counts, ``line`` or ``record``.
    """

    file: str
    row: int | None
    column: str | None
    message: str
    severity: Severity = Severity.ERROR
    record: str = ""
    check: str = ""
    table: OedTable | None = None
    value: str | None = None
    unit: str = "row"

    def __str__(self) -> str:
        """Write the finding as one line."""
        row = f", {self.unit} {self.row}" if self.row is not None else ""
        record = f" ({self.record})" if self.record else ""
        column = f", {self.column}" if self.column else ""
        return f"{self.severity.value}: {self.file}{row}{record}{column}: {self.message}"


class LoadedExposure:
    """The loaded tables, and how to report a fault in them."""

    def __init__(
        self,
        files: Mapping[OedTable, Path | FileSource],
        rows_per_fault: int,
        *,
        perspectives: Collection[str] = tuple(Perspective),
    ) -> None:
        """Load the tables.

        Args:
            files: the file of each existing table.
            rows_per_fault: how many rows with the same fault to name.
            perspectives: the losses that are requested.

        Raises:
            ExposureError: a file cannot be read, or has a value that does not fit its column.
        """
        loaded = {table: _load(files[table], table) for table in OedTable if table in files}
        self.frames = {table: frame for table, (frame, _) in loaded.items()}
        self._places = {table: places for table, (_, places) in loaded.items()}
        self._rows_per_fault = rows_per_fault
        # Losses net of reinsurance are computed from insured losses.
        self._perspectives = {*perspectives, *((Perspective.IL,) if Perspective.RI in perspectives else ())}
        self._texts: dict[tuple[OedTable, str], pd.Series[Any]] = {}

    def has(self, table: OedTable, *columns: str) -> bool:
        """Return whether the table exists, with all these columns."""
        return table in self.frames and set(columns) <= set(self.frames[table].columns)

    def filled(self, table: OedTable, *columns: str) -> bool:
        """Return whether the table exists, with all these columns and at least one record."""
        return self.has(table, *columns) and not self.frames[table].empty

    def texts(self, table: OedTable, column: str) -> "pd.Series[Any]":
        """Return the values of a column as text; missing values, and all values of a missing column, are empty."""
        key = (table, column)
        if key not in self._texts:
            self._texts[key] = _texts(self.frames[table], column)
        return self._texts[key]

    def text_frame(self, table: OedTable, columns: Sequence[str]) -> "pd.DataFrame":
        """Return columns as text, with their names, whether or not they exist."""
        import pandas as pd

        index = self.frames[table].index
        return pd.DataFrame({column: self.texts(table, column) for column in columns}, index=index)

    def file_name(self, table: OedTable) -> str:
        """Return the name of a table's file in messages."""
        return self._places[table].source if table in self._places else f"{table.value} file"

    def row(self, table: OedTable, position: int) -> int:
        """Return the line or number of a record in the user's source, given its position from 0."""
        return self._places[table].number(position)

    def of_file(self, check: Check, table: OedTable, column: str | None, message: str) -> Finding:
        """Return a finding that is not about a row."""
        return Finding(
            *(self.file_name(table), None, column, message, self._severity(check)), check=check.name, table=table
        )

    def of_rows(
        self,
        check: Check,
        table: OedTable,
        column: str,
        rows: "Sequence[int] | pd.Series[bool]",
        message: str | Callable[[Any], str] | Mapping[int, str],
    ) -> Iterator[Finding]:
        """Yield a finding for each row.

        Args:
            check: the check.
            table: the table.
            column: the column to correct.
            rows: positions from 0, or a mask.
            message: the same for all rows, or made from the value, or given by position.
        """
        import numpy as np
        import pandas as pd

        positions = np.flatnonzero(rows).tolist() if isinstance(rows, pd.Series) else rows
        file, severity = self.file_name(table), self._severity(check)
        frame = self.frames[table]
        for position in positions[: self._rows_per_fault]:
            value: Any = frame[column].iat[position] if column in frame.columns else None
            if isinstance(message, str):
                text = message
            else:
                text = message[position] if isinstance(message, Mapping) else message(value)
            yield Finding(
                *(file, self.row(table, position), column, text, severity, _record(frame, table, position)),
                check=check.name,
                table=table,
                value=None if pd.isna(value) or value == "" else _shown(value),
                unit=self._places[table].unit,
            )
        more = len(positions) - self._rows_per_fault
        if more > 0:
            text = f"the same in {more:,} more row{'s' if more > 1 else ''}"
            yield Finding(file, None, column, text, severity, check=check.name, table=table)

    def _severity(self, check: Check) -> Severity:
        """Return the severity: an error is a warning if nobody asks for the losses concerned."""
        unasked = check.perspective is not None and check.perspective not in self._perspectives
        return Severity.WARNING if unasked and check.severity is Severity.ERROR else check.severity


# The columns that identify a record to a person, by table.
_IDENTIFIERS = {
    OedTable.LOCATION: {"PortNumber": "portfolio", "AccNumber": "account", "LocNumber": "location"},
    OedTable.ACCOUNT: {"PortNumber": "portfolio", "AccNumber": "account", "PolNumber": "policy"},
    OedTable.RI_INFO: {"ReinsNumber": "reinsurance"},
    OedTable.RI_SCOPE: {"ReinsNumber": "reinsurance", "PortNumber": "portfolio", "AccNumber": "account"},
}


def _record(frame: "pd.DataFrame", table: OedTable, position: int) -> str:
    import pandas as pd

    values: dict[str, Any] = {
        word: frame[column].iat[position]
        for column, word in _IDENTIFIERS.get(table, {}).items()
        if column in frame.columns
    }
    return ", ".join(f"{word} {value}" for word, value in values.items() if not (pd.isna(value) or value == ""))


def _shown(value: object) -> str:
    return f"{value:.15g}" if isinstance(value, float) else str(value)


def blank(column: "pd.Series[Any]") -> "pd.Series[bool]":
    """Return which values are missing or empty text."""
    return column.isna() | (column == "")


def _texts(frame: "pd.DataFrame", column: str) -> "pd.Series[Any]":
    import pandas as pd

    if column not in frame.columns:
        return pd.Series("", index=frame.index, dtype=object)
    values = frame[column]
    if isinstance(values.dtype, pd.CategoricalDtype):
        return values.astype(object).where(values.notna(), "")
    return values.map(_shown, na_action="ignore").astype(object).where(values.notna(), "")


def _load(source: Path | FileSource, table: OedTable) -> "tuple[pd.DataFrame, Places]":
    import pandas as pd
    import pyarrow as pa

    batches, record = [], 0
    with open_source(FileSource(source) if isinstance(source, Path) else source, table) as reader:
        schema = schema_of(reader.columns)
        for batch in reader.batches():
            batches.append(conform(batch, reader.columns, record, reader.locate))
            record += batch.num_rows
        places = reader.places
    integers = {
        pa.int32(): pd.Int32Dtype(),
        pa.int64(): pd.Int64Dtype(),
    }  # which may be missing without becoming floats
    rows = pa.Table.from_batches(batches, schema)
    batches.clear()  # the memory of each column is freed as soon as it is converted
    frame: pd.DataFrame = rows.to_pandas(
        strings_to_categorical=True, types_mapper=integers.get, split_blocks=True, self_destruct=True
    )
    del rows
    pa.default_memory_pool().release_unused()
    return frame, places
