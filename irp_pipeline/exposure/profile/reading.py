"""The locations of portfolios in arrays: one entry for each location, whatever the number of its rows.

Locations are those of the control totals (:mod:`irp_pipeline.exposure.totals.control_total`): rows with the same
PortNumber, AccNumber, LocNumber, country and currency are one, with the largest of their insured values. All else is
taken from the first of its rows. Memory grows by about 150 bytes for each location.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from irp_pipeline.exposure import ExposureError
from irp_pipeline.exposure.arrays import hashes_of, mixed, numbers_of, texts_of
from irp_pipeline.exposure.oed import OedTable
from irp_pipeline.exposure.profile.records import FIELDS, SEVERAL
from irp_pipeline.exposure.totals.control_total import (
    ACCOUNT_COLUMN,
    LOCATION_COLUMN,
    MONEY_COLUMNS,
    PORTFOLIO_COLUMN,
)

if TYPE_CHECKING:
    import pyarrow as pa

    Array = np.ndarray[Any, Any]

_CURRENCY: Final = "LocCurrency"
_POLICY_FIELD: Final = "LOB"
_LOCATION_FIELDS: Final = tuple(name for name in FIELDS if name not in {_POLICY_FIELD, ACCOUNT_COLUMN})
_COORDINATES: Final = ("Latitude", "Longitude")
_YEAR_BUILT: Final = "YearBuilt"
_BATCH_ROWS: Final = 2**16
_PENDING_ROWS: Final = 2**17


@dataclass(frozen=True)
class Locations:
    """Locations of one or several portfolios, one entry each, in the order of their first rows.

    Attributes:
        values: insured value of each coverage, one column for each of the control totals' columns.
        currency: the code of the currency.
        fields: the codes of the values of each OED field, by its name; only of fields that the portfolios have.
        account: a hash of PortNumber and AccNumber; 0 if there is no AccNumber.
        identity: a hash of PortNumber, AccNumber and LocNumber; that of a row without LocNumber is its own.
        latitude: in degrees, NaN unless both coordinates are valid.
        longitude: in degrees, likewise.
        has_year: whether the year of construction is known.
        portfolio: the position of its portfolio.
        row: the position of its first row in the table of its portfolio.
        texts: the texts of the codes, by field; those of currencies by ``LocCurrency``; and all ``PortNumber``.
    """

    values: Array
    currency: Array
    fields: Mapping[str, Array]
    account: Array
    identity: Array
    latitude: Array
    longitude: Array
    has_year: Array
    portfolio: Array
    row: Array
    texts: Mapping[str, Sequence[str]]

    def __len__(self) -> int:
        return len(self.row)

    def chosen(self, which: Array | slice) -> Locations:
        """Return some of the locations; those of a slice are not copied."""
        return Locations(
            self.values[which],
            self.currency[which],
            {name: codes[which] for name, codes in self.fields.items()},
            self.account[which],
            self.identity[which],
            self.latitude[which],
            self.longitude[which],
            self.has_year[which],
            self.portfolio[which],
            self.row[which],
            self.texts,
        )


def read_locations(portfolios: Sequence[Mapping[OedTable, Path]]) -> Locations:
    """Read the locations of portfolios, one after the other.

    Args:
        portfolios: the extracted tables of each; one without a location table has no entries.

    Raises:
        ExposureError: a table cannot be read.
    """
    reader = _Reader()
    parts = [
        reader.locations(tables, position) for position, tables in enumerate(portfolios) if OedTable.LOCATION in tables
    ]
    whole = _joined(parts) if parts else _empty()
    names = [name for name in (*_LOCATION_FIELDS, _POLICY_FIELD) if reader.has(name)]
    columns = {name: number for number, name in enumerate((*_LOCATION_FIELDS, _POLICY_FIELD))}
    return Locations(
        values=whole["values"],
        currency=whole["currency"],
        fields={name: whole["fields"][:, columns[name]] for name in FIELDS if name in names},
        account=whole["account"],
        identity=whole["identity"],
        latitude=whole["latitude"],
        longitude=whole["longitude"],
        has_year=whole["has_year"],
        portfolio=whole["portfolio"],
        row=whole["row"],
        texts=reader.texts(),
    )


def count_accounts(account_table: Path) -> int:
    """Return how many accounts an extracted account table has.

    Raises:
        ExposureError: it cannot be read.
    """
    found: set[int] = set()
    for rows in _batches(account_table, (PORTFOLIO_COLUMN, ACCOUNT_COLUMN)):
        found.update(np.unique(_account_hashes(rows)[0]).tolist())
    return len(found)


class Identifiers:
    """The identifiers of locations, read from the tables when they are first asked for."""

    def __init__(self, portfolios: Sequence[Mapping[OedTable, Path]]) -> None:
        """Remember where the tables are.

        Args:
            portfolios: the extracted tables of each.
        """
        self._portfolios = portfolios
        self._tables: dict[int, pa.Table] = {}

    def of(self, portfolio: int, row: int) -> tuple[str, str, str]:
        """Return PortNumber, AccNumber and LocNumber of a row of a portfolio's location table.

        Raises:
            ExposureError: the table cannot be read.
        """
        if portfolio not in self._tables:
            columns = (PORTFOLIO_COLUMN, ACCOUNT_COLUMN, LOCATION_COLUMN)
            self._tables[portfolio] = _table(self._portfolios[portfolio][OedTable.LOCATION], columns)
        table = self._tables[portfolio]
        port, account, location = (
            str(table[name][row].as_py() or "") if name in table.column_names else ""
            for name in (PORTFOLIO_COLUMN, ACCOUNT_COLUMN, LOCATION_COLUMN)
        )
        return port, account, location


class _Reader:
    """Reads location tables; the same text has the same code in all of them."""

    def __init__(self) -> None:
        self._codes: dict[str, dict[str, int]] = {
            name: {"": 0} for name in (_CURRENCY, *_LOCATION_FIELDS, _POLICY_FIELD)
        }
        self._codes[PORTFOLIO_COLUMN] = {}

    def has(self, field: str) -> bool:
        """Whether any location has a value of a field."""
        return len(self._codes[field]) > 1

    def texts(self) -> dict[str, list[str]]:
        """Return the texts of the codes of each field."""
        return {name: list(codes) for name, codes in self._codes.items()}

    def locations(self, tables: Mapping[OedTable, Path], position: int) -> dict[str, Array]:
        """Return the columns of the locations of a portfolio."""
        columns = (
            *(PORTFOLIO_COLUMN, ACCOUNT_COLUMN, LOCATION_COLUMN, _CURRENCY, *_LOCATION_FIELDS),
            *(*MONEY_COLUMNS, *_COORDINATES, _YEAR_BUILT),
        )
        merged: list[dict[str, Array]] = []
        pending, settled, row = 0, 0, 0
        for rows in _batches(tables[OedTable.LOCATION], columns):
            merged.append(self._columns(rows, row, position))
            row += rows.num_rows
            pending += rows.num_rows
            if pending > max(_PENDING_ROWS, settled):
                merged = [_merged(_joined(merged))]
                pending, settled = 0, len(merged[0]["row"])
        whole = _merged(_joined(merged)) if merged else _empty()
        if OedTable.ACCOUNT in tables:
            whole["fields"][:, -1] = self._of_policies(tables[OedTable.ACCOUNT], whole["account"])
        return whole

    def _columns(self, rows: pa.RecordBatch, first: int, position: int) -> dict[str, Array]:
        count = rows.num_rows
        self._coded(PORTFOLIO_COLUMN, texts_of(rows, PORTFOLIO_COLUMN))
        account, has_account = _account_hashes(rows)
        location, has_location = hashes_of(texts_of(rows, LOCATION_COLUMN))
        number = np.arange(first, first + count, dtype=np.int64)
        own = mixed(mixed(number.astype(np.uint64), np.full(count, position + 1, np.uint64)), account)
        identity = np.where(has_location, mixed(account, location), own)
        fields = np.zeros((count, len(_LOCATION_FIELDS) + 1), np.int32)
        for place, name in enumerate(_LOCATION_FIELDS):
            fields[:, place] = self._coded(name, texts_of(rows, name))
        currency = self._coded(_CURRENCY, texts_of(rows, _CURRENCY))
        of_group = fields[:, _LOCATION_FIELDS.index("CountryCode")].astype(np.uint64) * np.uint64(2**32)
        latitude, longitude = (numbers_of(rows, name, np.nan) for name in _COORDINATES)
        valid = (np.abs(latitude) <= 90.0) & (np.abs(longitude) <= 180.0) & ((latitude != 0.0) | (longitude != 0.0))
        return {
            "key": mixed(identity, of_group + currency.astype(np.uint64)),
            "identity": identity,
            "account": np.where(has_account, account, np.uint64(0)),
            "values": np.stack([numbers_of(rows, name) for name in MONEY_COLUMNS], axis=1),
            "currency": currency,
            "fields": fields,
            "latitude": np.where(valid, latitude, np.nan),
            "longitude": np.where(valid, longitude, np.nan),
            "has_year": numbers_of(rows, _YEAR_BUILT) > 0,
            "row": number,
            "portfolio": np.full(count, position, np.int16),
        }

    def _coded(self, field: str, texts: pa.Array) -> Array:
        codes = self._codes[field]
        encoded = texts.dictionary_encode()
        numbers = [codes.setdefault(text, len(codes)) for text in encoded.dictionary.to_pylist()]
        return np.asarray(np.array(numbers, np.int32)[encoded.indices.to_numpy()])

    def _of_policies(self, account_table: Path, accounts: Array) -> Array:
        """Return the code of the policies' field for the account of each location."""
        hashes, codes = [], []
        for rows in _batches(account_table, (PORTFOLIO_COLUMN, ACCOUNT_COLUMN, _POLICY_FIELD)):
            hashes.append(_account_hashes(rows)[0])
            codes.append(self._coded(_POLICY_FIELD, texts_of(rows, _POLICY_FIELD)))
        if not hashes or not self.has(_POLICY_FIELD):
            return np.zeros(len(accounts), np.int32)
        of_rows, code = np.concatenate(hashes), np.concatenate(codes)
        order = np.lexsort((code, of_rows))
        of_rows, code = of_rows[order], code[order]
        known, start = np.unique(of_rows, return_index=True)
        low, high = np.minimum.reduceat(code, start), np.maximum.reduceat(code, start)
        if (low != high).any():
            high = np.where(low == high, high, self._codes[_POLICY_FIELD].setdefault(SEVERAL, len(self._codes["LOB"])))
        place = np.minimum(np.searchsorted(known, accounts), len(known) - 1)
        return np.where(known[place] == accounts, high[place], 0).astype(np.int32)


def _merged(columns: dict[str, Array]) -> dict[str, Array]:
    """Return one entry for each key: the largest values, and all else of the first entry, in the order of these."""
    order = np.argsort(columns["key"], kind="stable")
    keys = columns["key"][order]
    start = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
    if len(start) == len(keys):
        return columns
    first, values = order[start], np.maximum.reduceat(columns["values"][order], start, axis=0)
    in_order = np.argsort(first)
    return {name: column[first[in_order]] for name, column in columns.items() if name != "values"} | {
        "values": values[in_order]
    }


def _joined(parts: Sequence[dict[str, Array]]) -> dict[str, Array]:
    return parts[0] if len(parts) == 1 else {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _empty() -> dict[str, Array]:
    import pyarrow as pa

    return _Reader()._columns(pa.RecordBatch.from_arrays([pa.array([], pa.string())], [LOCATION_COLUMN]), 0, 0)


def _account_hashes(rows: pa.RecordBatch) -> tuple[Array, Array]:
    """Return a hash of PortNumber and AccNumber, and which rows have an AccNumber."""
    portfolios, _ = hashes_of(texts_of(rows, PORTFOLIO_COLUMN))
    accounts, named = hashes_of(texts_of(rows, ACCOUNT_COLUMN))
    return mixed(portfolios, accounts), named


def _batches(path: Path, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            there = [name for name in columns if name in file.schema_arrow.names]
            yield from file.iter_batches(_BATCH_ROWS, columns=there)
    except (OSError, pa.ArrowException) as error:
        raise ExposureError(f"the extract {path.name} cannot be read: {error}") from error


def _table(path: Path, columns: Sequence[str]) -> pa.Table:
    import pyarrow as pa

    batches = list(_batches(path, columns))
    return pa.Table.from_batches(batches)
