"""Control totals and how to compute them from rows; :mod:`irp_pipeline.exposure.totals.comparison` compares them.

Locations are counted, not rows. OED allows several rows for one location if its terms do not fit into one row (ODS
documentation, "Financial Details - Primary Insurance"). Each row repeats the insured values of the location. So all
rows with the same PortNumber, AccNumber and LocNumber are one location, and each of its insured values counts once:
the largest value of its rows. If the data are right, all rows have that value; it does not depend on their order. A
row without LocNumber is a separate location.

NumberOfBuildings also counts once for each location. Empty means 1, its default in OED, and so does 0 ("unknown"), as
in the exposure summary of Oasis LMF.

Money is added up exactly, as decimals with nine places, so that a sum does not depend on the order of the rows.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Context, Decimal
from typing import TYPE_CHECKING, Any

from irp_pipeline.exposure import ExposureError
from irp_pipeline.exposure.arrays import hashes_of, mixed, numbers_of, texts_of

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    _Integers = np.ndarray[Any, np.dtype[np.int64]]
    _Hashes = np.ndarray[Any, np.dtype[np.uint64]]
    _Floats = np.ndarray[Any, np.dtype[np.float64]]

# The row over all perils: a location that is covered for several perils counts once there.
ALL_PERILS = "all"
# There are totals by account if there are no more accounts than this.
MOST_ACCOUNTS = 10_000

PORTFOLIO_COLUMN = "PortNumber"
PERILS_COLUMN = "LocPerilsCovered"
KEY_COLUMNS = (PORTFOLIO_COLUMN, PERILS_COLUMN, "CountryCode", "LocCurrency")
ACCOUNT_COLUMN = "AccNumber"
LOCATION_COLUMN = "LocNumber"
BUILDINGS_COLUMN = "NumberOfBuildings"
MONEY_COLUMNS = ("BuildingTIV", "OtherTIV", "ContentsTIV", "BITIV")
CONTROL_COLUMNS = (*KEY_COLUMNS, ACCOUNT_COLUMN, LOCATION_COLUMN, BUILDINGS_COLUMN, *MONEY_COLUMNS)

# Decimal places of an amount. A 128-bit decimal holds 38 digits, 29 of them before the point.
MONEY_PLACES = 9
MONEY_DIGITS = 38

# More digits than the sums can have, so that nothing is rounded.
_EXACTLY = Context(prec=2 * MONEY_DIGITS)

# Rows are kept in heaps, by a hash of their account, and each heap is added up separately. The sums and counts of the
# heaps add up to those of all rows, since no location and no account is in two heaps.
_HEAPS = 16
# Rows of the same location are merged once this many are waiting in a heap.
_PENDING_ROWS = 16_000


@dataclass(frozen=True, order=True)
class ControlTotal:
    """The totals of a portfolio for one peril, country and currency, or for one account, country and currency.

    Attributes:
        portfolio: PortNumber; a blank cell is the key ``""``, as in the other keys.
        peril: a code from LocPerilsCovered (a group such as ``AA1`` is not split), or :data:`ALL_PERILS`.
        country: CountryCode.
        currency: LocCurrency.
        locations: how many locations.
        accounts: how many accounts have one of them.
        building_tiv: insured value of the buildings, in units of the currency.
        other_tiv: insured value of other structures.
        contents_tiv: insured value of contents.
        bi_tiv: insured value of business interruption.
        buildings: how many buildings.
        records: how many rows.
        account: AccNumber if the total is for one account, over all perils; else empty.
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
    buildings: int = 0
    records: int = 0
    account: str = ""

    @property
    def tiv(self) -> Decimal:
        """Return the insured value of all coverages."""
        return self.building_tiv + self.other_tiv + self.contents_tiv + self.bi_tiv

    def plus(self, other: "ControlTotal") -> "ControlTotal":
        """Return the sum of two totals that have the same key, and no location and no account in common."""
        return ControlTotal(
            *(self.portfolio, self.peril, self.country, self.currency),
            self.locations + other.locations,
            self.accounts + other.accounts,
            _EXACTLY.add(self.building_tiv, other.building_tiv),
            _EXACTLY.add(self.other_tiv, other.other_tiv),
            _EXACTLY.add(self.contents_tiv, other.contents_tiv),
            _EXACTLY.add(self.bi_tiv, other.bi_tiv),
            self.buildings + other.buildings,
            self.records + other.records,
            self.account,
        )

    @property
    def key(self) -> tuple[str, str, str, str, str]:
        """Return the key of the total: portfolio, account, peril, country, currency."""
        return self.portfolio, self.account, self.peril, self.country, self.currency


class ControlTotals(tuple[ControlTotal, ...]):
    """The totals by portfolio, peril, country and currency, sorted, and the totals by account.

    Attributes:
        by_account: the totals by portfolio, account, country and currency, over all perils; None if they were not
            taken because there are more than :data:`MOST_ACCOUNTS` accounts.
    """

    by_account: tuple[ControlTotal, ...] | None

    def __new__(
        cls, totals: Iterable[ControlTotal] = (), by_account: Iterable[ControlTotal] | None = None
    ) -> "ControlTotals":
        """Sort the totals."""
        self = super().__new__(cls, sorted(totals, key=lambda total: total.key))
        self.by_account = None if by_account is None else tuple(sorted(by_account, key=lambda total: total.key))
        return self


def peril_codes(perils_covered: str) -> tuple[str, ...]:
    """Split LocPerilsCovered, such as ``WTC;WSS``, into its codes; a blank value has the code ``""``."""
    codes = dict.fromkeys(code.strip() for code in perils_covered.split(";"))
    return tuple(code for code in codes if code) or ("",)


@dataclass(frozen=True)
class _Locations:
    """Merged rows: one entry for each location in each group of rows with equal key columns.

    Attributes:
        groups: the number of the group of each entry.
        locations: a hash of the location.
        accounts: a hash of the account; 0 if there is none.
        records: how many rows.
        values: the largest amounts, one row for each of MONEY_COLUMNS.
        buildings: the largest number of buildings.
    """

    groups: "_Integers"
    locations: "_Hashes"
    accounts: "_Hashes"
    records: "_Integers"
    values: "_Floats"
    buildings: "_Integers"

    def __len__(self) -> int:
        return len(self.groups)

    def put_together(self) -> "_Locations":
        """Merge the entries with the same group and location; the result is sorted by both."""
        import numpy as np

        if not len(self):
            return self
        order = np.lexsort((self.locations, self.groups))
        groups, locations = self.groups[order], self.locations[order]
        changes = (groups[1:] != groups[:-1]) | (locations[1:] != locations[:-1])
        starts = np.flatnonzero(np.concatenate([[True], changes]))
        return _Locations(
            groups[starts],
            locations[starts],
            self.accounts[order][starts],
            np.add.reduceat(self.records[order], starts),
            np.maximum.reduceat(self.values[:, order], starts, axis=1),
            np.maximum.reduceat(self.buildings[order], starts),
        )

    def accounts_in_groups(self) -> "_Hashes":
        """Return a hash of group and account together."""
        import numpy as np

        return mixed(self.groups.astype(np.uint64), self.accounts)

    def chosen(self, mask: "np.ndarray[Any, np.dtype[np.bool_]]", groups: "_Integers | None" = None) -> "_Locations":
        """Return some of the entries, with other group numbers if given."""
        return _Locations(
            (self.groups if groups is None else groups)[mask],
            self.locations[mask],
            self.accounts[mask],
            self.records[mask],
            self.values[:, mask],
            self.buildings[mask],
        )


class _Heap:
    """Entries that are merged once many are waiting, so that a location with many rows takes the memory of one row."""

    def __init__(self) -> None:
        self._parts: list[_Locations] = []
        self._settled = 0
        self._pending = 0

    def add(self, part: _Locations) -> None:
        """Add entries."""
        self._parts.append(part)
        self._pending += len(part)
        if self._pending > max(_PENDING_ROWS, self._settled):
            self.put_together()

    def put_together(self) -> _Locations | None:
        """Return all entries, merged to one for each location in each group; None if there are none."""
        import numpy as np

        parts = self._parts
        if not parts:
            return None
        if len(parts) > 1:
            whole = _Locations(
                np.concatenate([part.groups for part in parts]),
                np.concatenate([part.locations for part in parts]),
                np.concatenate([part.accounts for part in parts]),
                np.concatenate([part.records for part in parts]),
                np.concatenate([part.values for part in parts], axis=1),
                np.concatenate([part.buildings for part in parts]),
            ).put_together()
            self._parts, self._settled, self._pending = [whole], len(whole), 0
        return self._parts[0]


class TotalsAccumulator:
    """Computes control totals from rows; memory grows by less than a hundred bytes per location."""

    def __init__(self) -> None:
        self._groups: dict[tuple[str, ...], int] = {}
        self._heaps = [_Heap() for _ in range(_HEAPS)]
        self._rows = 0
        self._names: dict[int, str] | None = {}

    def add(self, rows: "pa.RecordBatch") -> None:
        """Add a batch of rows.

        Args:
            rows: any of :data:`CONTROL_COLUMNS`, keys as text, amounts as numbers. A missing column counts as blank, a
                missing amount as zero.
        """
        import numpy as np

        if rows.num_rows == 0:
            return
        row_groups, keys = _number_groups([texts_of(rows, name) for name in KEY_COLUMNS])
        numbers = np.array([self._groups.setdefault(key, len(self._groups)) for key in keys], np.int64)
        portfolios, _ = hashes_of(texts_of(rows, PORTFOLIO_COLUMN))
        account_texts = texts_of(rows, ACCOUNT_COLUMN)
        accounts, with_account = hashes_of(account_texts)
        locations, with_location = hashes_of(texts_of(rows, LOCATION_COLUMN))
        accounts = mixed(portfolios, accounts)
        own = mixed(np.arange(self._rows, self._rows + rows.num_rows, dtype=np.uint64), mixed(accounts, locations))
        self._name_accounts(accounts, account_texts)
        part = _Locations(
            numbers[row_groups],
            np.where(with_location, mixed(accounts, locations), own),
            np.where(with_account, accounts, np.uint64(0)),
            np.ones(rows.num_rows, np.int64),
            np.stack([numbers_of(rows, name) for name in MONEY_COLUMNS]),
            np.maximum(numbers_of(rows, BUILDINGS_COLUMN), 1).astype(np.int64),
        ).put_together()
        self._rows += rows.num_rows
        heaps = (np.where(part.accounts != 0, part.accounts, part.locations) % np.uint64(_HEAPS)).astype(np.int64)
        for number in np.unique(heaps).tolist():
            self._heaps[number].add(part.chosen(heaps == number))

    def totals(self) -> ControlTotals:
        """Return the totals of all rows that were added."""
        import numpy as np

        groups = list(self._groups)
        wholes = {key: number for number, key in enumerate(dict.fromkeys(map(_without_perils, groups)))}
        whole_of_group = np.array([wholes[_without_perils(key)] for key in groups], np.int64)
        of_peril: dict[str, list[int]] = {ALL_PERILS: list(range(len(groups)))}
        for number, key in enumerate(groups):
            for code in peril_codes(key[KEY_COLUMNS.index(PERILS_COLUMN)]):
                of_peril.setdefault(code, []).append(number)
        totals: dict[tuple[str, ...], ControlTotal] = {}
        by_account: list[ControlTotal] = []
        for entries in filter(None, (heap.put_together() for heap in self._heaps)):
            for peril, numbers in of_peril.items():
                mask = np.isin(entries.groups, np.array(numbers, np.int64))
                of_locations = entries.chosen(mask, whole_of_group[entries.groups]).put_together()
                for total in _added_up(of_locations, list(wholes), peril):
                    before = totals.get(total.key)
                    totals[total.key] = total if before is None else before.plus(total)
                if peril == ALL_PERILS and self._names is not None:
                    by_account += self._by_account(of_locations, list(wholes))
        with_accounts = self._names is not None and len(by_account) <= MOST_ACCOUNTS
        return ControlTotals(totals.values(), by_account if with_accounts else None)

    def _by_account(self, locations: _Locations, wholes: list[tuple[str, ...]]) -> Iterator[ControlTotal]:
        import numpy as np

        named = locations.accounts != 0
        _, first, numbers = np.unique(locations.accounts_in_groups()[named], return_index=True, return_inverse=True)
        names = self._names or {}
        of_group, of_account = locations.groups[named][first].tolist(), locations.accounts[named][first].tolist()
        keys = [(*wholes[group], names[account]) for group, account in zip(of_group, of_account, strict=True)]
        groups = np.zeros(len(locations), np.int64)
        groups[named] = numbers.reshape(-1)
        yield from _added_up(locations.chosen(named, groups), keys, ALL_PERILS)

    def _name_accounts(self, hashes: "_Hashes", texts: "pa.Array") -> None:
        """Remember the names of accounts, as long as there are not too many."""
        import numpy as np

        if self._names is None:
            return
        distinct, rows = np.unique(hashes, return_index=True)
        for account, row in zip(distinct.tolist(), rows.tolist(), strict=True):
            if account not in self._names:
                self._names[account] = texts[row].as_py()
        if len(self._names) > MOST_ACCOUNTS + 1:  # one may be blank
            self._names = None


def _added_up(locations: _Locations, keys: list[tuple[str, ...]], peril: str) -> Iterator[ControlTotal]:
    """Yield the totals of locations by group; its key is portfolio, country and currency, and possibly an account."""
    import numpy as np
    import pyarrow as pa

    if not len(locations):
        return
    decimal_type = pa.decimal128(MONEY_DIGITS, MONEY_PLACES)
    try:
        amounts = [  # one column at a time, since decimals take much memory
            pa.table({"group": locations.groups, "amount": pa.array(values).cast(decimal_type)})
            .group_by("group", use_threads=False)
            .aggregate([("amount", "sum")])["amount_sum"]
            for values in locations.values
        ]
    except pa.ArrowInvalid as error:
        raise ExposureError(f"an insured value is too large to be added up ({error})") from error
    counts = {"group": locations.groups, "records": locations.records, "buildings": locations.buildings}
    sums = (
        pa.table(counts)
        .group_by("group", use_threads=False)
        .aggregate([([], "count_all"), ("records", "sum"), ("buildings", "sum")])
    )
    for name, column in zip(MONEY_COLUMNS, amounts, strict=True):  # without threads, groups come in the same order
        sums = sums.append_column(f"{name}_sum", column)
    named = locations.accounts != 0
    _, first = np.unique(locations.accounts_in_groups()[named], return_index=True)
    accounts = np.bincount(locations.groups[named][first], minlength=len(keys))
    for record in sums.to_pylist():
        portfolio, country, currency, *account = keys[record["group"]]
        yield ControlTotal(
            portfolio=portfolio,
            peril=peril,
            country=country,
            currency=currency,
            locations=record["count_all"],
            accounts=int(accounts[record["group"]]),
            building_tiv=record["BuildingTIV_sum"],
            other_tiv=record["OtherTIV_sum"],
            contents_tiv=record["ContentsTIV_sum"],
            bi_tiv=record["BITIV_sum"],
            buildings=record["buildings_sum"],
            records=record["records_sum"],
            account=account[0] if account else "",
        )


def _without_perils(key: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(part for name, part in zip(KEY_COLUMNS, key, strict=True) if name != PERILS_COLUMN)


def _number_groups(key_columns: "Iterable[pa.Array]") -> "tuple[_Integers, list[tuple[str, ...]]]":
    """Number the distinct keys; return the number of each row and the key of each number."""
    import numpy as np

    encoded = [column.dictionary_encode() for column in key_columns]
    first_rows, numbers = np.zeros(1, np.int64), np.zeros(len(encoded[0]), np.int64)
    for column in encoded:  # renumbering after every column keeps the products small
        codes = numbers * len(column.dictionary) + column.indices.to_numpy()
        _, first_rows, numbers = np.unique(codes, return_index=True, return_inverse=True)
    keys = [tuple(column[int(row)].as_py() for column in encoded) for row in first_rows]
    return numbers.astype(np.int64), keys
