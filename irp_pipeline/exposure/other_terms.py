"""The exposure of one portfolio with the financial terms of another: what an attribution needs between two quarters.

What is exposure: the locations with everything that a catastrophe model reads of them. What are financial terms: the
accounts with their policies, the columns of a location that only its terms use, and the reinsurance. The columns are
those of OED, "Financial Details - Primary Insurance".

Here: which locations two portfolios have in common, and putting both parts together. Not here: what is run with them
(:mod:`irp_pipeline.helpers.attribution`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Final

from irp_pipeline.exposure import ExposureError
from irp_pipeline.exposure.oed import OedTable
from irp_pipeline.exposure.tables import Tables, read_table, write_table

if TYPE_CHECKING:
    import pandas as pd

_TERM_PREFIXES: Final = ("LocDed", "LocMinDed", "LocMaxDed", "LocLimit", "Cond")
_TERMS: Final = frozenset({"LocParticipation", "PayoutBasis", "LocPeril", "BIWaitingPeriod", "LocGroup", "ReinsTag"})
_ACCOUNT: Final = ("PortNumber", "AccNumber")
_NUMBERS: Final = (*_ACCOUNT, "LocNumber")
_SEPARATOR: Final = "\x1f"
_NAMED: Final = 3
_TREATY: Final = "ReinsNumber"


@dataclass(frozen=True)
class Matching:
    """Which locations two portfolios have in common.

    Attributes:
        pairs: two columns, ``earlier`` and ``later``: the numbers of portfolio, account and location of each location
            that is in both.
        changed: how many of them have the same number, but not the same content.
        renumbered: how many of them have the same content under another number of portfolio, account or location.
        gone: how many locations are only in the earlier portfolio.
        new: how many are only in the later one.
    """

    pairs: pd.DataFrame = field(repr=False)
    changed: int
    renumbered: int
    gone: int
    new: int

    @property
    def reverse(self) -> Matching:
        """The same with the portfolios exchanged."""
        pairs = self.pairs.rename(columns={"earlier": "later", "later": "earlier"})
        return Matching(pairs, self.changed, self.renumbered, self.new, self.gone)

    def __str__(self) -> str:
        parts = (("new", self.new), ("gone", self.gone), ("changed", self.changed), ("renumbered", self.renumbered))
        return ", ".join(f"{number:,} {what}" for what, number in parts if number) or "unchanged"


def is_term(column: str) -> bool:
    """Tell whether a column of the location table is part of the financial terms."""
    return column in _TERMS or column.startswith(_TERM_PREFIXES)


def match_locations(earlier: Tables, later: Tables) -> Matching:
    """Find the locations that two portfolios have in common.

    A location is known by its numbers. One whose content stands under other numbers in the other portfolio was
    renumbered, if only one portfolio has these numbers. Where both have them, as after a new count of all locations,
    content that is there only once on each side decides, if it does so for most of the numbers whose content differs.
    Content is everything except numbers and financial terms.

    Raises:
        ExposureError: a portfolio has no location table, or it lacks the columns of its numbers.
    """
    import pandas as pd

    before, after = (_locations(read_table(tables, OedTable.LOCATION)) for tables in (earlier, later))
    columns = [name for name in before.columns if name in after.columns and not is_term(name)]
    content = [name for name in columns if name not in _NUMBERS]
    for frame, other in ((before, after), (after, before)):
        frame["_content"] = _joined(frame, content)
        only_here = [name for name in frame.columns if name not in columns and not is_term(name) and name[0] != "_"]
        frame["_has_more"] = (frame[only_here] != "").any(axis="columns")
        frame["_is_only"] = ~frame.index.isin(other.index)
        frame["_is_unique"] = ~frame["_content"].duplicated(keep=False)
    same_number = before.index[~before["_is_only"]]
    is_same = before.loc[same_number, "_content"] == after.loc[same_number, "_content"]
    stays = set(same_number[is_same])
    moved = _moved(before[~before.index.isin(stays)], after[~after.index.isin(stays)])
    taken = stays | set(moved["earlier"])
    given = stays | set(moved["later"])
    kept = [number for number in same_number if number not in taken and number not in given]
    in_order = [number for number in before.index if number in stays]
    filled = int((before.loc[in_order, "_has_more"] | after.loc[in_order, "_has_more"]).sum())
    numbers = in_order + kept
    pairs = pd.concat([pd.DataFrame({"earlier": numbers, "later": numbers}, dtype=object), moved], ignore_index=True)
    return Matching(
        pairs,
        changed=len(kept) + filled,
        renumbered=len(moved),
        gone=len(before) - len(pairs),
        new=len(after) - len(pairs),
    )


def with_terms_of(exposure: Tables, terms: Tables, matching: Matching, folder: Path) -> dict[OedTable, Path]:
    """Write the exposure of one portfolio with the financial terms of another one.

    Terms of the other portfolio apply to accounts and locations that are in both; all others keep their own. The
    reinsurance is that of the other portfolio, without the rows of its scope that name what is not there; treaties
    that only cover accounts that the other portfolio lacks come along.

    Args:
        exposure: the portfolio with the locations.
        terms: the portfolio with the terms.
        matching: of ``exposure`` as the earlier portfolio with ``terms`` as the later one.
        folder: where the files are written.

    Returns:
        The files of the tables. A table in which nothing changes is not written: its file is that of ``exposure``.

    Raises:
        ExposureError: a table cannot be read, or a location or account that is in both has another currency, so that
            amounts of terms do not apply to it.
        OSError: a file cannot be written.
    """
    found = {OedTable.LOCATION: _location_table(exposure, terms, matching)}
    if OedTable.ACCOUNT in exposure and OedTable.ACCOUNT in terms:
        found[OedTable.ACCOUNT] = _account_table(exposure, terms)
    elif OedTable.ACCOUNT in exposure:
        found[OedTable.ACCOUNT] = read_table(exposure, OedTable.ACCOUNT)
    info, scope = _reinsurance(exposure, terms, found, matching)
    if len(info) and len(scope):
        found |= {OedTable.RI_INFO: info, OedTable.RI_SCOPE: scope}
    files = {}
    for table, frame in found.items():
        same = next(
            (own[table] for own in (exposure, terms) if table in own and _same(read_table(own, table), frame)), None
        )
        files[table] = same or write_table(frame, folder, table)
    return {table: files[table] for table in OedTable if table in files}


def _moved(before: pd.DataFrame, after: pd.DataFrame) -> pd.DataFrame:
    """Return pairs of numbers with the same content, of locations that differ under their own number."""
    import pandas as pd

    unique_before, unique_after = (frame[frame["_is_unique"]] for frame in (before, after))
    pairs = unique_before.reset_index(names="earlier").merge(unique_after.reset_index(names="later"), on="_content")
    pairs = pairs[["earlier", "later"]]
    same_number = before.index.intersection(after.index)
    if 2 * pairs["earlier"].isin(same_number).sum() <= len(same_number):
        pairs = pairs[~pairs["earlier"].isin(same_number) & ~pairs["later"].isin(same_number)]
    before, after = (
        frame[frame["_is_only"] & ~frame.index.isin(pairs[side])].reset_index(names=side)
        for frame, side in ((before, "earlier"), (after, "later"))
    )
    for frame in (before, after):
        frame["_of_many"] = frame.groupby("_content").cumcount()
    alike = before.merge(after, on=["_content", "_of_many"])[["earlier", "later"]]
    return pd.concat([pairs, alike], ignore_index=True)


def _location_table(exposure: Tables, terms: Tables, matching: Matching) -> pd.DataFrame:
    own, other = (read_table(tables, OedTable.LOCATION) for tables in (exposure, terms))
    order = {number: place for place, number in enumerate(dict.fromkeys(_number(own)))}
    own["_number"] = _number(own)
    other["_number"] = _number(other).map(dict(zip(matching.pairs["later"], matching.pairs["earlier"], strict=True)))
    other = other[other["_number"].notna()]
    _check_currency(own, other, "LocCurrency", "location")
    of_exposure = [name for name in own.columns if not is_term(name)]
    first = own[of_exposure].drop_duplicates("_number").set_index("_number")
    of_terms = [name for name in other.columns if is_term(name)]
    paired = other[["_number", *of_terms]].join(first, on="_number")
    return _in_order([own[~own["_number"].isin(paired["_number"])], paired], own, order)


def _account_table(exposure: Tables, terms: Tables) -> pd.DataFrame:
    own, other = (read_table(tables, OedTable.ACCOUNT) for tables in (exposure, terms))
    for frame in (own, other):
        frame["_number"] = _joined(frame, _ACCOUNT)
    other = other[other["_number"].isin(own["_number"])]
    _check_currency(own, other, "AccCurrency", "account")
    order = {number: place for place, number in enumerate(dict.fromkeys(own["_number"]))}
    return _in_order([own[~own["_number"].isin(other["_number"])], other], own, order)


def _in_order(parts: Sequence[pd.DataFrame], own: pd.DataFrame, order: Mapping[str, int]) -> pd.DataFrame:
    """Put rows together in the order of the portfolio's own, with its columns first and no number column."""
    import pandas as pd

    rows = pd.concat([part for part in parts if len(part)] or [own])
    columns = [*own.columns, *(name for name in rows.columns if name not in own.columns)]
    rows = rows.iloc[rows["_number"].map(order).argsort(kind="stable")]
    return rows[columns].drop(columns="_number").fillna("").reset_index(drop=True)


def _reinsurance(
    exposure: Tables, terms: Tables, found: Mapping[OedTable, pd.DataFrame], matching: Matching
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the info and the scope of treaties; both empty if none is left."""
    import pandas as pd

    location, account = found[OedTable.LOCATION], found.get(OedTable.ACCOUNT)
    info, scope = (read_table(terms, table) for table in (OedTable.RI_INFO, OedTable.RI_SCOPE))
    scope = _under_own_numbers(scope, matching)
    scope = scope[_is_there(scope, location, account)]
    own_info, own_scope = (read_table(exposure, table) for table in (OedTable.RI_INFO, OedTable.RI_SCOPE))
    if len(own_scope) and "AccNumber" in own_scope.columns:
        known = set(read_table(terms, OedTable.LOCATION)["AccNumber"])
        is_of_new = (own_scope["AccNumber"] != "") & ~own_scope["AccNumber"].isin(known)
        along = set(own_scope[_TREATY]) - set(own_scope[_TREATY][~is_of_new])
        numbers = _free_numbers(sorted(along), {*info.get(_TREATY, ()), *own_info[_TREATY]})
        for frame in (own_info, own_scope):
            frame[_TREATY] = frame[_TREATY].map(numbers)
        info = pd.concat([info, own_info[own_info[_TREATY].notna()]]).fillna("")
        scope = pd.concat([scope, own_scope[own_scope[_TREATY].notna()]]).fillna("")
    if _TREATY in info.columns and _TREATY in scope.columns:
        info = info[info[_TREATY].isin(scope[_TREATY])]
    return info.reset_index(drop=True), scope.reset_index(drop=True)


def _free_numbers(wanted: Sequence[str], taken: set[str]) -> dict[str, str]:
    """Give each treaty a number that no other has: its own one only if the other portfolio does not use it."""
    largest = max((int(number) for number in taken if number.isdigit()), default=0)
    return {number: str(largest + place) for place, number in enumerate(wanted, start=1)}


def _under_own_numbers(scope: pd.DataFrame, matching: Matching) -> pd.DataFrame:
    """Name the locations of a scope by the numbers that they have in the portfolio with the exposure."""
    if not len(scope) or not set(_NUMBERS) <= set(scope.columns):
        return scope
    renamed = matching.pairs[matching.pairs["earlier"] != matching.pairs["later"]]
    to_own = dict(zip(renamed["later"], renamed["earlier"], strict=True))
    own = _joined(scope, _NUMBERS).map(to_own)
    for place, name in enumerate(_NUMBERS):
        scope[name] = own.str.split(_SEPARATOR).str[place].fillna(scope[name])
    return scope


def _is_there(scope: pd.DataFrame, location: pd.DataFrame, account: pd.DataFrame | None) -> pd.Series[bool]:
    """Tell which rows of a scope name only accounts, policies and locations that are in the portfolio."""
    import pandas as pd

    there = pd.Series(True, index=scope.index)
    for name, frame in (("AccNumber", location), ("LocNumber", location), ("PolNumber", account)):
        if frame is None or name not in scope.columns or name not in frame.columns:
            continue
        named = [column for column in dict.fromkeys((*_ACCOUNT, name)) if column in scope.columns]
        named = [column for column in named if column in frame.columns]
        # A row may leave the number of the portfolio empty, and that of the account if it names a location.
        filled = scope[named] != ""
        for columns in {tuple(row) for row in filled.to_numpy().tolist()}:
            chosen = [column for column, is_filled in zip(named, columns, strict=True) if is_filled]
            if name in chosen:
                rows = (filled == list(columns)).all(axis="columns")
                there &= ~rows | _joined(scope, chosen).isin(_joined(frame, chosen))
    return there


def _check_currency(own: pd.DataFrame, other: pd.DataFrame, column: str, what: str) -> None:
    if column not in own.columns or column not in other.columns:
        return
    then, now = (frame.drop_duplicates("_number").set_index("_number")[column] for frame in (other, own))
    now = now.loc[then.index]
    if len(differing := then.index[(then != now) & (then != "") & (now != "")]):
        first = differing[0].replace(_SEPARATOR, "/")
        raise ExposureError(
            f"the {what} {first} has its amounts in {now[differing[0]]} in one portfolio and in {then[differing[0]]} "
            f"in the other, so that the terms of one do not apply to the other ({len(differing):,} in all)"
        )


def _locations(rows: pd.DataFrame) -> pd.DataFrame:
    """Return one row for each location, by its numbers: its rows differ in their terms only."""
    return rows.set_axis(_number(rows), axis="index").loc[lambda frame: ~frame.index.duplicated()].copy()


def _number(locations: pd.DataFrame) -> pd.Series[str]:
    if lacking := [name for name in _NUMBERS if name not in locations.columns]:
        raise ExposureError(f"the location table has no {' and no '.join(lacking)}")
    return _joined(locations, _NUMBERS)


def _joined(frame: pd.DataFrame, columns: Sequence[str]) -> pd.Series[str]:
    import pandas as pd

    parts = [frame[name] for name in columns]
    return reduce(lambda left, right: left + _SEPARATOR + right, parts) if parts else pd.Series("", index=frame.index)


def _same(one: pd.DataFrame, other: pd.DataFrame) -> bool:
    """Tell whether two tables have the same rows in the same order; a missing column is an empty one."""
    columns = [*one.columns, *(name for name in other.columns if name not in one.columns)]
    return one.reindex(columns=columns, fill_value="").equals(other.reindex(columns=columns, fill_value=""))
