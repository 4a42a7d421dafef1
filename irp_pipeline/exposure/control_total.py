"""Control totals and how rows are added up to them; comparing them is for :mod:`irp_pipeline.exposure.totals`.

Money is added up exactly, as decimals with nine places, so that a sum does not depend on the order of the rows.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from irp_pipeline.exposure import ExposureError

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

# The row over all perils: there, a location that several perils cover counts once.
ALL_PERILS = "all"

KEY_COLUMNS = ("PortNumber", "LocPerilsCovered", "CountryCode", "LocCurrency")
ACCOUNT_COLUMN = "AccNumber"
MONEY_COLUMNS = ("BuildingTIV", "OtherTIV", "ContentsTIV", "BITIV")
CONTROL_COLUMNS = (*KEY_COLUMNS, ACCOUNT_COLUMN, *MONEY_COLUMNS)

# Decimal places kept of an amount. 38 digits, of which 29 are before the point, are what a 128-bit decimal holds.
MONEY_PLACES = 9
MONEY_DIGITS = 38

# Accounts are told apart by a 64-bit hash, eight bytes each. Repeats are weeded out once as many are waiting.
_PENDING_ACCOUNTS = 250_000


@dataclass(frozen=True, order=True)
class ControlTotal:
    """What one portfolio holds for one peril, country and currency; amounts are in units of that currency.

    A blank cell is the key ``""``. ``peril`` is a code as LocPerilsCovered gives it (a group such as ``AA1`` is not
    broken up), or :data:`ALL_PERILS`.
    """

    portfolio: str
    peril: str
    country: str
    currency: str
    locations: int
    accounts: int
    building_tiv: Decimal
    other_tiv: Decimal
    contents_tiv: Decimal
    bi_tiv: Decimal


def peril_codes(perils_covered: str) -> tuple[str, ...]:
    """Split LocPerilsCovered, such as ``WTC;WSS``, into its codes; a blank one is the code ``""``."""
    codes = dict.fromkeys(code.strip() for code in perils_covered.split(";"))
    return tuple(code for code in codes if code) or ("",)


class TotalsAccumulator:
    """Adds rows up to control totals, in memory that depends on the number of groups and accounts, not of rows."""

    def __init__(self) -> None:
        self._groups: dict[tuple[str, ...], _Group] = {}

    def add(self, rows: "pa.RecordBatch") -> None:
        """Add a batch of locations.

        Args:
            rows: any of :data:`CONTROL_COLUMNS`, keys as text, amounts as floating-point or decimal numbers. A
                column that is not there counts as blank, an amount as zero.
        """
        import numpy as np
        import pyarrow as pa

        if rows.num_rows == 0:
            return
        row_groups, keys = _number_groups([_texts(rows, name) for name in KEY_COLUMNS])
        amounts = {name: _amounts(rows, name) for name in MONEY_COLUMNS}
        sums = (
            pa.table({"group": pa.array(row_groups), **amounts})
            .group_by("group")
            .aggregate([([], "count_all"), *((name, "sum") for name in MONEY_COLUMNS)])
        )
        for record in sums.to_pylist():
            group = self._groups.setdefault(keys[record["group"]], _Group())
            group.locations += record["count_all"]
            group.amounts = [
                total + record[f"{name}_sum"] for total, name in zip(group.amounts, MONEY_COLUMNS, strict=True)
            ]
        hashes, named = _hash_accounts(_texts(rows, ACCOUNT_COLUMN))
        order = np.argsort(row_groups[named], kind="stable")
        numbers, starts = np.unique(row_groups[named][order], return_index=True)
        for number, accounts in zip(numbers, np.split(hashes[named][order], starts)[1:], strict=True):
            self._groups[keys[number]].accounts.add(accounts)

    def totals(self) -> tuple[ControlTotal, ...]:
        """The totals of all rows added, sorted."""
        exploded: dict[tuple[str, str, str, str], list[_Group]] = {}
        for (portfolio, perils, country, currency), group in self._groups.items():
            for peril in (ALL_PERILS, *peril_codes(perils)):
                exploded.setdefault((portfolio, peril, country, currency), []).append(group)
        return tuple(sorted(_merge(key, groups) for key, groups in exploded.items()))


@dataclass
class _DistinctHashes:
    _parts: "list[np.ndarray[Any, np.dtype[np.int64]]]" = field(default_factory=list)
    _pending: int = 0

    def add(self, hashes: "np.ndarray[Any, np.dtype[np.int64]]") -> None:
        import numpy as np

        part = np.unique(hashes)
        self._parts.append(part)
        self._pending += len(part)
        if self._pending > _PENDING_ACCOUNTS:
            self._parts, self._pending = [self.values()], 0

    def values(self) -> "np.ndarray[Any, np.dtype[np.int64]]":
        import numpy as np

        return np.unique(np.concatenate([np.empty(0, np.int64), *self._parts]))


@dataclass
class _Group:
    """The rows that agree in the key columns as they stand, with the perils still together."""

    locations: int = 0
    amounts: list[Decimal] = field(default_factory=lambda: [Decimal(0)] * len(MONEY_COLUMNS))
    accounts: _DistinctHashes = field(default_factory=_DistinctHashes)


def _merge(key: tuple[str, str, str, str], groups: Sequence[_Group]) -> ControlTotal:
    accounts = _DistinctHashes()
    for group in groups:
        accounts.add(group.accounts.values())
    return ControlTotal(
        *key,
        sum(group.locations for group in groups),
        len(accounts.values()),
        *(sum(amounts, Decimal(0)) for amounts in zip(*(group.amounts for group in groups), strict=True)),
    )


def _texts(rows: "pa.RecordBatch", name: str) -> "pa.Array":
    import pyarrow as pa
    import pyarrow.compute as pc

    if name not in rows.schema.names:
        return pa.repeat("", rows.num_rows)
    return pc.fill_null(rows.column(name), "")


def _amounts(rows: "pa.RecordBatch", name: str) -> "pa.Array":
    import pyarrow as pa
    import pyarrow.compute as pc

    decimal_type = pa.decimal128(MONEY_DIGITS, MONEY_PLACES)
    if name not in rows.schema.names:
        return pa.repeat(pa.scalar(Decimal(0), decimal_type), rows.num_rows)
    try:
        return pc.fill_null(rows.column(name).cast(decimal_type), Decimal(0))
    except pa.ArrowInvalid as error:
        raise ExposureError(f"column {name}: an amount too large to add up ({error})") from error


def _number_groups(
    key_columns: "Iterable[pa.Array]",
) -> "tuple[np.ndarray[Any, np.dtype[np.int64]], list[tuple[str, ...]]]":
    """Number the distinct keys; returns the number of each row and the key of each number."""
    import numpy as np

    encoded = [column.dictionary_encode() for column in key_columns]
    first_rows, numbers = np.zeros(1, np.int64), np.zeros(len(encoded[0]), np.int64)
    for column in encoded:  # renumbering after every column keeps the products small
        codes = numbers * len(column.dictionary) + column.indices.to_numpy()
        _, first_rows, numbers = np.unique(codes, return_index=True, return_inverse=True)
    keys = [tuple(column[int(row)].as_py() for column in encoded) for row in first_rows]
    return numbers.astype(np.int64), keys


def _hash_accounts(
    accounts: "pa.Array",
) -> "tuple[np.ndarray[Any, np.dtype[np.int64]], np.ndarray[Any, np.dtype[np.bool_]]]":
    """A 64-bit hash of every account number, and which of them are not blank."""
    import numpy as np

    encoded = accounts.dictionary_encode()
    distinct = encoded.dictionary.to_pylist()
    hashes = np.fromiter((hash(account) for account in distinct), np.int64, len(distinct))
    named = np.fromiter((bool(account) for account in distinct), np.bool_, len(distinct))
    indices = encoded.indices.to_numpy()
    return hashes[indices], named[indices]
