"""The profile of an exposure as Parquet files, and from them: one file for each kind of row.

Every row has the columns ``portfolio``, which is empty for all portfolios together, and ``currency``. The files are for
anybody who reads Parquet; docs/exposure.md describes their columns.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from irp_pipeline.exposure import ExposureError
from irp_pipeline.exposure.profile.records import (
    WHOLE,
    Amount,
    Cell,
    Circle,
    CurrencyProfile,
    ExposureProfile,
    Known,
    PortfolioProfile,
    Segment,
)

_AMOUNT: Final = {"tiv": "double", "locations": "int64", "accounts": "int64"}
_OF: Final = {"portfolio": "string", "currency": "string"}
_COVERAGES: Final = ("building_tiv", "other_tiv", "contents_tiv", "bi_tiv")
_COLUMNS: Final[dict[str, dict[str, str]]] = {
    "portfolios": {
        "portfolio": "string",
        "has_locations": "bool",
        "locations": "int64",
        "accounts": "int64",
        "placed": "int64",
        "repeated": "int64",
    },
    "totals": _OF | _AMOUNT | dict.fromkeys(_COVERAGES, "double"),
    "segments": _OF | {"field": "string", "value": "string", "values": "int64"} | _AMOUNT,
    "circles": _OF
    | {"radius": "int64", "rank": "int64", "latitude": "double", "longitude": "double"}
    | {"account": "string", "location": "string", "tiv": "double", "locations": "int64", "at_most": "double"},
    "cells": _OF
    | {
        "south": "double",
        "west": "double",
        "height": "double",
        "width": "double",
        "tiv": "double",
        "locations": "int64",
    },
    "known": _OF | {"measure": "string", "tiv": "double", "locations": "int64"},
}

FILES: Final = tuple(f"{name}.parquet" for name in _COLUMNS)
"""The names of the files."""

Rows = dict[str, list[dict[str, Any]]]


def write_profile(profile: ExposureProfile, folder: Path) -> list[Path]:
    """Write a profile.

    Args:
        profile: the profile.
        folder: the folder to write :data:`FILES` into; it is made if it is missing.

    Raises:
        OSError: a file cannot be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows: Rows = {name: [] for name in _COLUMNS}
    for portfolio in (profile.whole, *profile.portfolios):
        _add_rows(rows, portfolio)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, columns in _COLUMNS.items():
        schema = pa.schema([(column, pa.type_for_alias(alias)) for column, alias in columns.items()])
        paths.append(folder / f"{name}.parquet")
        pq.write_table(pa.Table.from_pylist(rows[name], schema), paths[-1], compression="zstd")
    return paths


def read_profile(files: Mapping[str, Path]) -> ExposureProfile:
    """Read a profile.

    Args:
        files: the paths of :data:`FILES`, by their names.

    Raises:
        ExposureError: a file is missing, unreadable, or not of a profile.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if missing := [name for name in FILES if name not in files]:
        raise ExposureError(f"the profile of the exposure has no file {missing[0]}")
    try:
        rows = {name: pq.read_table(files[f"{name}.parquet"]).to_pylist() for name in _COLUMNS}
        found = list(_portfolios(rows))
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError) as error:
        raise ExposureError(f"the profile of the exposure cannot be read: {error}") from error
    whole = next((portfolio for portfolio in found if portfolio.name == WHOLE), None)
    if whole is None:
        raise ExposureError("the profile of the exposure has no row for all portfolios together")
    return ExposureProfile(whole=whole, portfolios=tuple(item for item in found if item.name != WHOLE))


def _add_rows(rows: Rows, portfolio: PortfolioProfile) -> None:
    rows["portfolios"].append(
        {
            "portfolio": portfolio.name,
            "has_locations": portfolio.has_locations,
            "locations": portfolio.locations,
            "accounts": portfolio.accounts,
            "placed": portfolio.placed,
            "repeated": portfolio.repeated,
        }
    )
    for part in portfolio.currencies:
        of = {"portfolio": portfolio.name, "currency": part.currency}
        rows["totals"].append(of | _plain(part.amount) | dict(zip(_COVERAGES, part.by_coverage, strict=True)))
        rows["segments"] += [
            of | {"field": item.field, "value": item.value, "values": item.values} | _plain(item.amount)
            for item in part.segments
        ]
        rows["circles"] += [of | _plain(circle) for circle in part.circles]
        rows["cells"] += [of | _plain(cell) for cell in part.cells]
        rows["known"] += [
            of | {"measure": measure.value, "tiv": amount.tiv, "locations": amount.locations}
            for measure, amount in part.known.items()
        ]


def _plain(item: Amount | Circle | Cell) -> dict[str, Any]:
    return {name: getattr(item, name) for name in item.__slots__}


def _portfolios(rows: Rows) -> Iterator[PortfolioProfile]:
    of: dict[str, defaultdict[tuple[str, str], list[dict[str, Any]]]] = {}
    for name in ("segments", "circles", "cells", "known"):
        of[name] = defaultdict(list)
        for row in rows[name]:
            of[name][row.pop("portfolio"), row.pop("currency")].append(row)
    currencies: defaultdict[str, list[CurrencyProfile]] = defaultdict(list)
    for total in rows["totals"]:
        key = total["portfolio"], total["currency"]
        building, other, contents, interruption = (total[name] for name in _COVERAGES)
        currencies[total["portfolio"]].append(
            CurrencyProfile(
                currency=total["currency"],
                amount=_amount(total),
                by_coverage=(building, other, contents, interruption),
                segments=tuple(
                    Segment(field=row["field"], value=row["value"], values=row["values"], amount=_amount(row))
                    for row in of["segments"][key]
                ),
                circles=tuple(Circle(**row) for row in of["circles"][key]),
                cells=tuple(Cell(**row) for row in of["cells"][key]),
                known={
                    Known(row["measure"]): Amount(tiv=row["tiv"], locations=row["locations"], accounts=0)
                    for row in of["known"][key]
                },
            )
        )
    for row in rows["portfolios"]:
        name = row.pop("portfolio")
        yield PortfolioProfile(name=name, currencies=tuple(currencies[name]), **row)


def _amount(row: Mapping[str, Any]) -> Amount:
    return Amount(tiv=row["tiv"], locations=row["locations"], accounts=row["accounts"])
