"""The OED fields that part a portfolio into segments: which there are, and whether a portfolio can be parted by them.

A combination of fields is written as ``CountryCode+OccupancyCode``. Not here: the losses of segments, which risk
engines compute, and their figures (:mod:`irp_pipeline.losses.segments`).
"""

import csv
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from irp_pipeline.exposure import ExposureError
from irp_pipeline.exposure.oed import ColumnType, OedTable, field_of, similar_field
from irp_pipeline.vocabulary import SEGMENT_SIGN, Perspective

MOST_COMBINATIONS: Final = 8
MOST_FIELDS: Final = 5
"""In one combination."""
MOST_SEGMENTS: Final = 2000
"""Of one analysis, in all combinations together."""
MOST_FIGURES: Final = 200_000
"""Of the segments of one analysis: they are one part of the result of its job."""

_TABLES: Final = (OedTable.LOCATION, OedTable.ACCOUNT)
_ACCOUNT: Final = ("PortNumber", "AccNumber")
_NAMED: Final = 3


def fields_of(combination: str) -> tuple[str, ...]:
    """Return the fields of a combination, in its order."""
    return tuple(part.strip() for part in combination.split(SEGMENT_SIGN))


def checked_combinations(combinations: tuple[str, ...]) -> tuple[str, ...]:
    """Check combinations of fields, and return them as OED spells the fields.

    Raises:
        ValueError: a field is unknown or is no text or code, or is listed twice; or there are too many. The message
            has all of these.
    """
    problems: dict[str, None] = {}
    spelled: list[str] = []
    for combination in combinations:
        fields = []
        for name in fields_of(combination):
            try:
                fields.append(_spelling(name))
            except ValueError as error:
                problems[str(error)] = None
                fields.append(name)
        if repeated := [name for name in dict.fromkeys(fields) if fields.count(name) > 1]:
            problems[f"{', '.join(repeated)} is twice in {combination}"] = None
        if len(fields) > MOST_FIELDS:
            problems[f"{combination} has {len(fields)} fields; at most {MOST_FIELDS} are possible"] = None
        if same := next((of for of in spelled if set(fields_of(of)) == set(fields)), None):
            problems[f"{same} is listed more than once"] = None
        spelled.append(SEGMENT_SIGN.join(fields))
    if len(spelled) > MOST_COMBINATIONS:
        problems[f"there are {len(spelled)} combinations; at most {MOST_COMBINATIONS} are possible"] = None
    if problems:
        raise ValueError("; ".join(problems))
    return tuple(spelled)


def _spelling(name: str) -> str:
    if not name:
        raise ValueError("a field is missing beside a '+'")
    try:
        found = [column for table in _TABLES if (column := field_of(table, name)) is not None]
        if not found:
            close = similar_field(_TABLES, name)
            hint = f"; do you mean {close}?" if close else ""
            raise ValueError(f"{name!r} is no field of OED in the location or the account table{hint}")
    except ExposureError as error:
        raise ValueError(f"the fields cannot be checked: {error}") from None
    if found[0].type is ColumnType.NUMBER:
        raise ValueError(f"{found[0].name} holds amounts, which part nothing: name a field of codes or names")
    return found[0].name


def segment_problems(
    combinations: Sequence[str],
    perspectives: Collection[str],
    tables: Mapping[OedTable, Path],
    *,
    figures: int = 1,
) -> Iterator[str]:
    """Say why a portfolio cannot be parted into segments.

    Args:
        combinations: combinations of OED fields.
        perspectives: the perspectives of the losses: ``GUL``, ``IL``, ``RI``.
        tables: the CSV file of each table that the portfolio has.
        figures: how many figures each segment has in each perspective.

    Yields:
        Each reason, as a sentence without a full stop.
    """
    if not combinations:
        return
    if OedTable.LOCATION not in tables:
        yield "segments need a location table, and the portfolio has none"
        return
    wanted = dict.fromkeys(name for combination in combinations for name in fields_of(combination))
    read = {table: _columns(tables[table], (*_ACCOUNT, *wanted)) for table in _TABLES if table in tables}
    if any(name not in columns for columns in read.values() for name in _ACCOUNT):
        yield f"the location and account tables need the columns {' and '.join(_ACCOUNT)}"
        return
    of_table = {name: next((table for table in read if name in read[table]), None) for name in wanted}
    for name, table in of_table.items():
        if table is None:
            there = "location table" if OedTable.ACCOUNT not in tables else "location and account tables"
            yield f"the {there} of the portfolio has no {name}" if len(read) == 1 else f"the {there} have no {name}"
        elif not any(read[table][name]):
            yield f"{name} is empty in all rows of the {table} table"
            of_table[name] = None
    if Perspective.GUL in perspectives and OedTable.ACCOUNT in read:
        of_accounts = [name for name, table in of_table.items() if table is OedTable.ACCOUNT]
        yield from _differing(of_accounts, read)
    number = 0
    for combination in combinations:
        if all(of_table[name] is not None for name in fields_of(combination)):
            number += _segments(fields_of(combination), read)
    each = max(1, figures * len(perspectives))
    most = min(MOST_SEGMENTS, MOST_FIGURES // each)
    if number > most:
        with_figures = f" with {each:,} figures each" if most < MOST_SEGMENTS else ""
        yield (
            f"{'; '.join(combinations)} would be {number:,} segments{with_figures}; at most {most:,} are possible, so "
            "name fields with fewer values" + (", or fewer return periods" if with_figures else "")
        )


def _differing(names: Sequence[str], read: Mapping[OedTable, Mapping[str, list[str]]]) -> Iterator[str]:
    """Name the fields of policies that differ within an account: an item below several layers would have several."""
    accounts, locations = read[OedTable.ACCOUNT], read[OedTable.LOCATION]
    insured = set(_keys(_ACCOUNT, locations))
    for name in names:
        values: defaultdict[tuple[str, ...], set[str]] = defaultdict(set)
        for account, value in zip(_keys(_ACCOUNT, accounts), accounts[name], strict=True):
            values[account].add(value)
        differing = {account: of for account, of in values.items() if len(of) > 1 and account in insured}
        if not differing:
            continue
        told = ", ".join(
            f"account {account[1]} in portfolio {account[0]} has {' and '.join(sorted(of))}"
            for account, of in list(differing.items())[:_NAMED]
        )
        more = f", and so have {len(differing) - _NAMED:,} more accounts" if len(differing) > _NAMED else ""
        yield (
            f"{name} differs between the policies or layers of an account ({told}{more}), and a ground-up loss belongs "
            "to none of them: Oasis LMF gives the whole loss of an item to its last layer. Take GUL out of the column "
            f"perspectives and compute it by an analysis of its own, or take {name} out of segments"
        )


def _segments(names: Sequence[str], read: Mapping[OedTable, Mapping[str, list[str]]]) -> int:
    """Count the segments of a combination; those that the model will cover are not more."""
    locations = read[OedTable.LOCATION]
    here = [name for name in names if name in locations]
    others = [name for name in names if name not in locations]
    by_account: defaultdict[tuple[str, ...], set[tuple[str, ...]]] = defaultdict(set)
    if others:
        accounts = read[OedTable.ACCOUNT]
        for account, values in zip(_keys(_ACCOUNT, accounts), _keys(others, accounts), strict=True):
            by_account[account].add(values)
    found = set(zip(_keys(_ACCOUNT, locations), _keys(here, locations), strict=True)) if here else set()
    if not others:
        return len({values for _, values in found})
    if not here:
        return len(set().union(*by_account.values())) if by_account else 0
    return len({(values, more) for account, values in found for more in by_account[account]})


def _keys(names: Sequence[str], columns: Mapping[str, list[str]]) -> Iterator[tuple[str, ...]]:
    return zip(*(columns[name] for name in names), strict=True)


def _columns(path: Path, names: Sequence[str]) -> dict[str, list[str]]:
    """Read some columns of a CSV file, as far as it has them; its header is not case-sensitive."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.reader(file)
        place = {name.strip().lower(): number for number, name in enumerate(next(rows, []))}
        chosen = {name: place[name.lower()] for name in names if name.lower() in place}
        columns: dict[str, list[str]] = {name: [] for name in chosen}
        for row in rows:
            for name, number in chosen.items():
                columns[name].append(row[number].strip() if number < len(row) else "")
    return columns
