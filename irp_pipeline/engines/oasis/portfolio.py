"""The portfolio of a job, read from its OED files, not from the engine: checks compare it with the engine's figures.

Identifiers are text, as they were read. Amounts are double precision.
"""

from __future__ import annotations

import csv
import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from irp_pipeline.engines.oasis.failures import OasisError
from irp_pipeline.vocabulary import Perspective

TIV_COLUMNS: Final = {"BuildingTIV": 1, "OtherTIV": 2, "ContentsTIV": 3, "BITIV": 4}
"""The columns of insured values, with the numbers of their coverages."""

_CURRENCIES: Final = {
    "location.csv": "LocCurrency",
    "account.csv": "AccCurrency",
    "ri_info.csv": "ReinsCurrency",
}
_STEP_COLUMNS: Final = ("StepTriggerType", "StepTriggerStart", "StepTriggerEnd", "PayOutStart", "ExtraExpenseFactor")
_TAGS_OF_CONDITIONS: Final = frozenset({"condtag", "condnumber", "condpriority"})
_ACCOUNT_COLUMNS: Final = ("PortNumber", "AccNumber")


@dataclass(frozen=True)
class Locations:
    """The rows of the location table.

    Attributes:
        ids: PortNumber, AccNumber and LocNumber of each row.
        perils: LocPerilsCovered of each row.
        values: insured value of each row by coverage.
        first: for each row, the first row with the same ids. The others add conditions, but no value.
        rows: the position of each row in the file, from 0.
    """

    ids: Sequence[tuple[str, str, str]]
    perils: Sequence[str]
    values: Mapping[int, Sequence[float]] = field(repr=False)
    first: Sequence[int] = field(repr=False)
    rows: Sequence[int] = field(repr=False)

    def value(self, row: int, coverages: Iterable[int] | None = None) -> float:
        """The insured value of a row, of all coverages or of some."""
        chosen = self.values if coverages is None else coverages
        return math.fsum(self.values[coverage][row] for coverage in chosen if coverage in self.values)

    def distinct(self) -> list[int]:
        """The first row of each location."""
        return [row for row, first in enumerate(self.first) if row == first]

    def name(self, row: int) -> str:
        """A location in words, for messages."""
        port, account, location = self.ids[row]
        return (
            f"location {location} of account {account} in portfolio {port} (row {self.rows[row] + 1} of location.csv)"
        )

    def only(self, rows: Sequence[int], coverages: Collection[int] | None = None) -> Locations:
        """Return some of the rows, and some of the coverages."""
        place = {row: number for number, row in enumerate(rows)}
        return Locations(
            [self.ids[row] for row in rows],
            [self.perils[row] for row in rows],
            {
                coverage: [of[row] for row in rows]
                for coverage, of in self.values.items()
                if coverages is None or coverage in coverages
            },
            [place[self.first[row]] for row in rows],
            [self.rows[row] for row in rows],
        )


def read_locations(inputs: Path) -> Locations | None:
    """Read the location table of a job; None if there is none, as in portfolios that have only accounts.

    Raises:
        OasisError: the table cannot be read, or an insured value is not a number.
    """
    path = inputs / "location.csv"
    if not path.is_file():
        return None
    ids: list[tuple[str, str, str]] = []
    perils: list[str] = []
    values: dict[int, list[float]] = {}
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.reader(file)
        place = _places(next(rows, []))
        id_places = [_needed(place, name, path) for name in ("PortNumber", "AccNumber", "LocNumber")]
        peril_place = place.get("locperilscovered")
        tiv_places = {coverage: place[name.lower()] for name, coverage in TIV_COLUMNS.items() if name.lower() in place}
        values = {coverage: [] for coverage in tiv_places}
        for row in rows:
            port, account, location = (row[number] for number in id_places)
            ids.append((port, account, location))
            perils.append(row[peril_place] if peril_place is not None else "")
            for coverage, number in tiv_places.items():
                values[coverage].append(_amount(row[number], path, len(ids)))
    seen: dict[tuple[str, str, str], int] = {}
    return Locations(ids, perils, values, [seen.setdefault(of, row) for row, of in enumerate(ids)], range(len(ids)))


def check_repeated(locations: Locations) -> None:
    """Refuse rows of the same location with different insured values: Oasis LMF takes the first and drops the rest.

    Raises:
        OasisError: there are such rows; the message has their values.
    """
    for row, first in enumerate(locations.first):
        if row != first and any(column[row] != column[first] for column in locations.values.values()):
            raise OasisError(
                f"The {locations.name(row)} insures {locations.value(row):,.2f} there and "
                f"{locations.value(first):,.2f} in row {first + 1}. Oasis LMF takes the first and drops the other: "
                "give each building a LocNumber of its own, or the same values in all rows of one location"
            )


def check_identifiers(inputs: Path, perspectives: Collection[str]) -> None:
    """Refuse identifiers that stop the run of a model: the kernel ignores quotation marks in CSV files.

    It takes ``#`` for the beginning of a comment, and a comma for the end of a cell; the comma only matters for insured
    losses (``load_as_ndarray`` in ``oasislmf/pytools/common/data.py``).

    Raises:
        OasisError: there is such an identifier; the message names it.
    """
    of_policies = set(perspectives) != {Perspective.GUL}
    signs = "#," if of_policies else "#"
    columns: dict[str, tuple[str, ...]] = {"location.csv": (*_ACCOUNT_COLUMNS, "LocNumber")}
    if of_policies:
        columns["account.csv"] = ("PolNumber",)
    for name, of_table in columns.items():
        for number, row in enumerate(rows_of(inputs / name, of_table), start=1):
            for column, text in row.items():
                if found := [sign for sign in signs if sign in text]:
                    raise OasisError(
                        f"The {column} {text!r} (row {number} of {name}) holds {found[0]!r}, at which Oasis LMF stops: "
                        "write another sign"
                    )


def currencies(inputs: Path) -> dict[str, set[str]]:
    """Return the stated currencies of the amounts in the files of a job, by column."""
    found: dict[str, set[str]] = {}
    for name, column in _CURRENCIES.items():
        if stated := {row[column] for row in rows_of(inputs / name, (column,)) if row[column]}:
            found[column] = stated
    return found


def may_exceed_ground_up(inputs: Path) -> set[tuple[str, str]]:
    """Return the accounts (PortNumber and AccNumber) whose insured loss may correctly exceed the ground-up loss.

    These are accounts whose layers together pay for the same loss more than once, and accounts with step policies,
    which pay agreed amounts.
    """
    layers: defaultdict[tuple[str, str], set[tuple[str, ...]]] = defaultdict(set)
    found: set[tuple[str, str]] = set()
    terms = ("PolNumber", "LayerNumber", "LayerAttachment", "LayerLimit", "LayerParticipation")
    for row in rows_of(inputs / "account.csv", (*_ACCOUNT_COLUMNS, *terms, *_STEP_COLUMNS)):
        account = (row["PortNumber"], row["AccNumber"])
        if any(row[column].strip() not in {"", "0", "0.0"} for column in _STEP_COLUMNS):
            found.add(account)
        layers[account].add(tuple(row[column] for column in terms))
    return found | {account for account, of in layers.items() if _overlap([item[2:] for item in of])}


def write_some_locations(inputs: Path, rows: Collection[int], target: Path, *, with_tags: bool = True) -> None:
    """Write a location table with only some of its rows.

    Args:
        inputs: the folder of the portfolio.
        rows: the rows to keep, from 0.
        target: the folder to write to, made if it is missing.
        with_tags: whether to keep the columns that link locations to conditions of accounts.
    """
    target.mkdir(exist_ok=True)
    with (
        (inputs / "location.csv").open(encoding="utf-8-sig", newline="") as file,
        (target / "location.csv").open("w", encoding="utf-8", newline="") as copy,
    ):
        lines, written = csv.reader(file), csv.writer(copy)
        header = next(lines, [])
        kept = [
            number for number, name in enumerate(header) if with_tags or name.strip().lower() not in _TAGS_OF_CONDITIONS
        ]
        written.writerow([header[number] for number in kept])
        for number, line in enumerate(lines):
            if number in rows:
                written.writerow([line[place] for place in kept])


def write_accounts_without_terms(locations: Locations, currency: str, target: Path) -> None:
    """Write an account table that has each account of a location table once, and no terms.

    Oasis LMF needs one for deterministic losses, even for ground-up losses, which it does not change.
    """
    with target.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["PortNumber", "AccNumber", "AccCurrency", "PolNumber", "PolPerilsCovered", "LayerNumber"])
        for port, account in dict.fromkeys(of[:2] for of in locations.ids):
            writer.writerow([port, account, currency, "1", "AA1", "1"])


def _overlap(layers: Sequence[tuple[str, ...]]) -> bool:
    """Whether layers, each with attachment, limit and participation, pay for some part of a loss more than once."""
    edges: list[tuple[float, float]] = []
    for attachment, limit, participation in layers:
        share = _number(participation, 1.0)
        begin, size = _number(attachment, 0.0), _number(limit, 0.0) or math.inf
        edges += [(begin, share), (begin + size, -share)]
    paid = 0.0
    for _, change in sorted(edges):
        paid += change
        if paid > 1 + 1e-9:
            return True
    return False


def _number(text: str, default: float) -> float:
    try:
        return float(text) if text.strip() else default
    except ValueError:
        return default


def rows_of(path: Path, columns: Sequence[str]) -> Iterable[dict[str, str]]:
    """Yield the columns of a CSV file, whose header is not case-sensitive; missing columns are empty."""
    if not path.is_file():
        return
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.reader(file)
        place = _places(next(rows, []))
        chosen = {column: place.get(column.lower()) for column in columns}
        for row in rows:
            yield {column: "" if number is None else row[number] for column, number in chosen.items()}


def _places(header: Sequence[str]) -> dict[str, int]:
    return {name.strip().lower(): number for number, name in enumerate(header)}


def _needed(place: Mapping[str, int], name: str, path: Path) -> int:
    if name.lower() not in place:
        raise OasisError(f"{path.name} has no column {name}")
    return place[name.lower()]


def _amount(text: str, path: Path, row: int) -> float:
    try:
        amount = float(text) if text.strip() else 0.0
    except ValueError:
        amount = math.nan
    if not math.isfinite(amount):
        raise OasisError(f"{path.name}, row {row}: {text!r} is no insured value")
    return amount
