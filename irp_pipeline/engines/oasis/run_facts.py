"""What a run of Oasis LMF actually used and modelled, read from its folder before that is removed."""

from __future__ import annotations

import csv
import json
import math
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from irp_pipeline.engines.oasis.checks import FigureError
from irp_pipeline.engines.oasis.failures import OasisError
from irp_pipeline.engines.oasis.portfolio import Locations
from irp_pipeline.vocabulary import OedTable

if TYPE_CHECKING:
    import pyarrow as pa

_CURRENCY_COLUMNS: Final = {
    OedTable.LOCATION: "LocCurrency",
    OedTable.ACCOUNT: "AccCurrency",
    OedTable.RI_INFO: "ReinsCurrency",
}
NOTHING_SAID: Final = "the lookup said nothing about it"


@dataclass(frozen=True)
class Conversion:
    """The amounts of a run.

    Attributes:
        currencies: by OED column, the currencies of the amounts in the run.
        rates: the exchange rates of the conversion, by the original currency.
        rate_of_row: the rate of each converted row of the location table.
    """

    currencies: Mapping[str, set[str]]
    rates: Mapping[str, float]
    rate_of_row: Mapping[int, float] = field(repr=False)


@dataclass(frozen=True)
class NotModelled:
    """What the model has no losses for.

    Attributes:
        table: PortNumber, AccNumber, LocNumber, peril, coverage, tiv, status, reason; tiv is the insured value of the
            coverage, repeated in the row of each peril.
        reasons: the number of rows by reason, the most frequent first.
        locations: how many locations have no losses at all.
        tiv: their insured value.
        partly: how many have losses, but not for all their perils and coverages.
        portfolio_tiv: the insured value of the portfolio, in the currency of the losses.
        tiv_by_reason: how much of it belongs to coverages of locations that have no losses from any peril, by the first
            reason of each, the largest first.
    """

    table: pa.Table
    reasons: Mapping[str, int]
    locations: int
    tiv: float
    partly: int
    portfolio_tiv: float
    tiv_by_reason: Mapping[str, float]

    def totals(self) -> dict[str, Any]:
        """The totals for the provenance."""
        return {"locations": self.locations, "tiv": round(self.tiv, 2), "partly": self.partly}

    def values(self) -> dict[str, Any]:
        """The insured values for the provenance."""
        by_reason = {reason: round(amount, 2) for reason, amount in self.tiv_by_reason.items()}
        return {"portfolio": round(self.portfolio_tiv, 2), "by_reason": by_reason}


@dataclass(frozen=True)
class Modelled:
    """What went into a model.

    Attributes:
        values: the insured value by row of the location table.
        coverages: the rows with the numbers of their coverages that were modelled for some peril.
    """

    values: Mapping[int, float] = field(repr=False)
    coverages: Collection[tuple[int, int]] = field(repr=False)


def settings_used(run: Path) -> dict[str, Any]:
    """Return the analysis settings that the kernel ran with.

    Raises:
        OasisError: the run has none.
    """
    for file in (run / "output" / "analysis_settings.json", run / "input" / "analysis_settings.json"):
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            continue
        except ValueError as error:
            raise OasisError(f"{file.name} of the run cannot be read: {error}") from None
        return dict(content)
    raise OasisError("The run of Oasis LMF has no analysis_settings.json: what it used is not known")


def table_used(run_input: Path, table: OedTable) -> Path:
    """Return the file of an OED table as the run used it, after conversions, which ``exposure_info.json`` names."""
    try:
        info = json.loads((run_input / "exposure_info.json").read_text(encoding="utf-8"))
        of = info[table]
        return run_input / Path(of["sources"][of["cur_version_name"]]["filepath"]).name
    except (OSError, ValueError, KeyError, TypeError):
        return run_input / f"{table}.parquet"


def conversion(run_input: Path) -> Conversion:
    """Return the currencies of a run's amounts, and how it converted them."""
    currencies: dict[str, set[str]] = {}
    rates: dict[str, float] = {}
    of_row: dict[int, float] = {}
    for table, column in _CURRENCY_COLUMNS.items():
        names = (column, "OriginalCurrency", "RateOfExchange", "loc_idx")
        columns = columns_of(table_used(run_input, table), names)
        stated = {str(code) for code in columns.get(column, ()) if code not in (None, "")}
        if stated:
            currencies[column] = stated
        originals = columns.get("OriginalCurrency", ())
        for number, (original, rate) in enumerate(zip(originals, columns.get("RateOfExchange", ()), strict=True)):
            if rate is not None and rate != 1:
                rates[str(original)] = float(rate)
                if table is OedTable.LOCATION:
                    of_row[int(columns["loc_idx"][number])] = float(rate)
    return Conversion(currencies, dict(sorted(rates.items())), of_row)


def read_modelled(run_input: Path, locations: Locations) -> Modelled:
    """Return what went into the model.

    Raises:
        FigureError: there is a location that the portfolio does not have.
        OasisError: the run does not record it.
    """
    found: defaultdict[int, float] = defaultdict(float)
    seen: set[str] = set()
    coverages: set[tuple[int, int]] = set()
    for line in _lines(run_input / "gul_summary_map.csv"):
        row = int(float(line["loc_idx"]))
        ids = (line["PortNumber"], line["AccNumber"], line["LocNumber"])
        if not 0 <= row < len(locations.ids) or locations.ids[row] != ids:
            raise FigureError(
                f"Oasis LMF modelled the location {ids[2]} of account {ids[1]} in portfolio {ids[0]} (row {row + 1}), "
                "which the location table does not have there"
            )
        coverages.add((locations.first[row], int(float(line["coverage_type_id"]))))
        # A coverage with several perils, or one that is split into sections, is insured once.
        if line["coverage_id"] not in seen:
            seen.add(line["coverage_id"])
            found[locations.first[row]] += float(line["tiv"])
    return Modelled(dict(found), coverages)


def total_value(run_input: Path) -> float:
    """Return the insured value of everything that a run modelled."""
    by_coverage = {line["coverage_id"]: float(line["tiv"]) for line in _lines(run_input / "gul_summary_map.csv")}
    return sum(by_coverage.values())


def not_modelled(run_input: Path, locations: Locations, modelled: Modelled, rates: Mapping[int, float]) -> NotModelled:
    """Return what the lookup could not find, with the portfolio's own identifiers and values.

    Args:
        run_input: the folder of the run's inputs, with ``keys-errors.parquet`` if lookups failed.
        locations: the portfolio's location table.
        modelled: as :func:`read_modelled` returns it.
        rates: by row, the exchange rate with which the run converted amounts; 1 if it is missing.
    """
    place = columns_of(table_used(run_input, OedTable.LOCATION), ("loc_id", "loc_idx"))
    row_of = {int(of): int(row) for of, row in zip(place.get("loc_id", ()), place.get("loc_idx", ()), strict=True)}
    errors = columns_of(run_input / "keys-errors.parquet", ("LocID", "PerilID", "CoverageTypeID", "Status", "Message"))
    rows: list[tuple[int, str, int | None, str, str]] = []
    for number, location in enumerate(errors.get("LocID", ())):
        coverage = errors["CoverageTypeID"][number]
        row = row_of.get(int(location), -1)
        rows.append(
            (
                locations.first[row] if 0 <= row < len(locations.ids) else -1,
                str(errors["PerilID"][number] or ""),
                None if coverage is None else int(coverage),
                str(errors["Status"][number] or ""),
                str(errors["Message"][number] or "") or f"status {errors['Status'][number]}",
            )
        )
    told = {row for row, *_ in rows}
    without = [row for row in locations.distinct() if row not in modelled.values and locations.value(row) > 0]
    rows += [(row, locations.perils[row], None, "", NOTHING_SAID) for row in without if row not in told]
    partly = len((told & modelled.values.keys()) - {-1})
    return as_not_modelled(rows, locations, without, partly, coverages=modelled.coverages, rates=rates)


def as_not_modelled(
    rows: Sequence[tuple[int, str, int | None, str, str]],
    locations: Locations,
    without: Sequence[int],
    partly: int,
    *,
    coverages: Collection[tuple[int, int]],
    rates: Mapping[int, float],
    otherwise: str = NOTHING_SAID,
) -> NotModelled:
    """Make the table from row, peril, coverage, status and reason of each entry.

    Args:
        rows: the entries; the coverage is None for all coverages of a location.
        locations: the portfolio's location table.
        without: the rows of the locations without any losses.
        partly: how many locations have losses, but not for all their perils and coverages.
        coverages: the rows with the numbers of their coverages that have losses.
        rates: by row, the exchange rate of its amounts; 1 if it is missing.
        otherwise: the reason for a coverage without losses that no entry is about.
    """
    import pyarrow as pa

    known = [entry for entry in rows if entry[0] >= 0]
    ids = [locations.ids[row] for row, *_ in known]
    table = pa.table(
        {
            **{
                name: pa.array([of[part] for of in ids], pa.string())
                for part, name in enumerate(("PortNumber", "AccNumber", "LocNumber"))
            },
            "peril": pa.array([entry[1] for entry in known], pa.string()),
            "coverage": pa.array([entry[2] for entry in known], pa.int32()),
            "tiv": pa.array(
                [locations.value(entry[0], None if entry[2] is None else [entry[2]]) for entry in known], pa.float64()
            ),
            "status": pa.array([entry[3] for entry in known], pa.string()),
            "reason": pa.array([entry[4] for entry in known], pa.string()),
        }
    )
    reasons = Counter(reason for *_, reason in rows)
    value = sum(locations.value(row) for row in without)
    by_reason = _values_by_reason(known, locations, coverages, rates, otherwise)
    whole = math.fsum(locations.value(row) * rates.get(row, 1.0) for row in locations.distinct())
    return NotModelled(table, dict(reasons.most_common()), len(without), value, partly, whole, by_reason)


def _values_by_reason(
    entries: Iterable[tuple[int, str, int | None, str, str]],
    locations: Locations,
    coverages: Collection[tuple[int, int]],
    rates: Mapping[int, float],
    otherwise: str,
) -> dict[str, float]:
    """Return the insured value of the coverages without losses by the first reason of each, the largest first."""
    reasons: dict[tuple[int, int | None], str] = {}
    for row, _, coverage, _, reason in entries:
        reasons.setdefault((row, coverage), reason)
    found: defaultdict[str, float] = defaultdict(float)
    for row in locations.distinct():
        for coverage, values in locations.values.items():
            if values[row] > 0 and (row, coverage) not in coverages:
                reason = reasons.get((row, coverage)) or reasons.get((row, None)) or otherwise
                found[reason] += values[row] * rates.get(row, 1.0)
    return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))


def _lines(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))
    except FileNotFoundError:
        raise OasisError(f"The run of Oasis LMF has no {path.name}: what it modelled is not known") from None


def columns_of(path: Path, names: tuple[str, ...]) -> dict[str, list[Any]]:
    """Return the columns of these names that a Parquet file has; none if there is no such file."""
    import pyarrow.parquet as pq

    if not path.is_file():
        return {}
    there = [name for name in dict.fromkeys(names) if name in pq.read_schema(path).names]
    table = pq.read_table(path, columns=there)
    return {name: table[name].to_pylist() for name in there}
